use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::json;

use super::*;

const NOW: Timestamp = Timestamp(1_795_000_000_000_000);
const SECONDS: i64 = 1_795_000_000;

/// A key of the issuer's: what signs, and its public half as in a JWKS.
struct Pair {
    signing: EncodingKey,
    jwk: Value,
    algorithm: Algorithm,
}

fn b64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn ed25519(kid: &str) -> Pair {
    let rng = aws_lc_rs::rand::SystemRandom::new();
    let pkcs8 = Ed25519KeyPair::generate_pkcs8v1(&rng).unwrap();
    let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
    Pair {
        signing: EncodingKey::from_ed_der(pkcs8.as_ref()),
        jwk: json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "use": "sig", "x": b64(pair.public_key().as_ref())}),
        algorithm: Algorithm::EdDSA,
    }
}

fn p256(kid: &str) -> Pair {
    let rng = aws_lc_rs::rand::SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &rng).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref()).unwrap();
    let point = pair.public_key().as_ref();
    Pair {
        signing: EncodingKey::from_ec_der(pkcs8.as_ref()),
        jwk: json!({"kty": "EC", "crv": "P-256", "kid": kid, "alg": "ES256", "x": b64(&point[1..33]), "y": b64(&point[33..])}),
        algorithm: Algorithm::ES256,
    }
}

fn terms() -> Terms {
    Terms {
        name: "https://login.example".to_owned(),
        audience: "fajma".to_owned(),
        subject_claim: "sub".to_owned(),
        role_claim: "realm_access.roles".to_owned(),
        roles: vec![
            ("physician".to_owned(), Role::Doctor),
            ("patient".to_owned(), Role::Patient),
        ],
        patients_claim: "patient".to_owned(),
        sensors_claim: String::new(),
    }
}

fn issuer(keys: &[&Pair]) -> Arc<Issuer> {
    let issuer = Issuer::new(terms());
    let all: Vec<&Value> = keys.iter().map(|pair| &pair.jwk).collect();
    issuer.read(json!({ "keys": all }).to_string().as_bytes()).unwrap();
    issuer
}

fn claims() -> Value {
    json!({"iss": "https://login.example", "aud": ["other", "fajma"], "sub": "dr.ba", "exp": SECONDS + 600,
           "iat": SECONDS, "realm_access": {"roles": ["staff", "physician"]}})
}

fn token(pair: &Pair, kid: Option<&str>, claims: &Value) -> String {
    let mut header = Header::new(pair.algorithm);
    header.kid = kid.map(str::to_owned);
    jsonwebtoken::encode(&header, claims, &pair.signing).unwrap()
}

#[test]
fn claims_mean_what_the_terms_say() {
    let (one, two) = (ed25519("one"), p256("two"));
    let issuer = issuer(&[&one, &two]);
    for (pair, kid) in [(&one, "one"), (&two, "two")] {
        let (principal, until) = issuer.verify(&token(pair, Some(kid), &claims()), NOW).unwrap();
        assert_eq!((principal.subject.as_str(), principal.role), ("dr.ba", Role::Doctor));
        assert_eq!(until, Timestamp((SECONDS + 600) * 1_000_000));
        assert_eq!(principal.live.grant().issued_at, NOW);
        assert!(!principal.live.grant().id.is_empty(), "it can be revoked");
    }
    let mut patient = claims();
    patient["realm_access"]["roles"] = json!("patient");
    patient["patient"] = json!("p-1");
    let (principal, _) = issuer.verify(&token(&one, Some("one"), &patient), NOW).unwrap();
    assert_eq!((principal.role, principal.patients.len()), (Role::Patient, 1));
}

#[test]
fn whatever_is_wrong_with_a_token_it_is_refused() {
    let (one, two, stranger) = (ed25519("one"), p256("two"), ed25519("one"));
    let issuer = issuer(&[&one, &two]);
    let changed = |pointer: &str, value: Value| {
        let mut claims = claims();
        *claims.pointer_mut(pointer).unwrap() = value;
        token(&one, Some("one"), &claims)
    };
    let without = |claim: &str| {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(claim);
        token(&one, Some("one"), &claims)
    };
    let good = token(&one, Some("one"), &claims());
    assert!(issuer.verify(&good, NOW).is_ok());
    let (head, rest) = good.split_once('.').unwrap();
    let (body, signature) = rest.split_once('.').unwrap();
    let with_header = |header: Value| format!("{}.{body}.{signature}", b64(header.to_string().as_bytes()));
    let mut altered = claims();
    altered["sub"] = json!("dr.other");
    let altered = format!("{head}.{}.{signature}", b64(altered.to_string().as_bytes()));
    // The public key used as if it were a shared secret.
    let secret = EncodingKey::from_secret(one.jwk["x"].as_str().unwrap().as_bytes());
    let mut confused = Header::new(Algorithm::HS256);
    confused.kid = Some("one".to_owned());
    let confused = jsonwebtoken::encode(&confused, &claims(), &secret).unwrap();
    for (what, bad) in [
        ("expired", changed("/exp", json!(SECONDS - 600))),
        ("issued later", changed("/iat", json!(SECONDS + 600))),
        ("another issuer", changed("/iss", json!("https://evil.example"))),
        ("another audience", changed("/aud", json!("other"))),
        ("no role of ours", changed("/realm_access/roles", json!(["cook"]))),
        ("no subject", changed("/sub", json!(""))),
        ("no expiry", without("exp")),
        ("no audience", without("aud")),
        ("no issuer", without("iss")),
        ("no role", without("realm_access")),
        (
            "another key under a known name",
            token(&stranger, Some("one"), &claims()),
        ),
        ("an unknown key", token(&stranger, Some("three"), &claims())),
        ("no key named, of two", token(&one, None, &claims())),
        ("the other key's name", token(&one, Some("two"), &claims())),
        ("altered", altered),
        ("alg none", with_header(json!({"alg": "none", "kid": "one"}))),
        ("alg HS256", with_header(json!({"alg": "HS256", "kid": "one"}))),
        ("alg confusion", confused),
        (
            "a key of its own",
            with_header(json!({"alg": "EdDSA", "kid": "one", "jwk": one.jwk})),
        ),
        (
            "a place for its key",
            with_header(json!({"alg": "EdDSA", "kid": "one", "jku": "https://evil.example"})),
        ),
        (
            "an extension",
            with_header(json!({"alg": "EdDSA", "kid": "one", "crit": ["x"]})),
        ),
        ("no signature", format!("{head}.{body}.")),
        ("nothing", String::new()),
    ] {
        assert_eq!(issuer.verify(&bad, NOW), Err(Refused), "{what}");
    }
    let mut later = claims();
    later["nbf"] = json!(SECONDS + 600);
    let later = token(&one, Some("one"), &later);
    assert_eq!(issuer.verify(&later, NOW), Err(Refused), "not yet valid");
    assert!(issuer.verify(&later, NOW + schemas::time::Span::seconds(600)).is_ok());
}

#[tokio::test]
async fn keys_are_rotated_and_one_that_is_gone_checks_nothing_more() {
    let (one, two) = (ed25519("one"), ed25519("two"));
    let issuer = issuer(&[&one]);
    let (by_one, by_two) = (token(&one, Some("one"), &claims()), token(&two, Some("two"), &claims()));
    assert!(issuer.verify(&by_one, NOW).is_ok(), "and remembered");
    assert!(
        issuer.verify(&token(&one, None, &claims()), NOW).is_ok(),
        "of one key it need not say which"
    );
    assert_eq!(issuer.verify(&by_two, NOW), Err(Refused));
    issuer.wanted().await;
    issuer.read(json!({"keys": [two.jwk]}).to_string().as_bytes()).unwrap();
    assert!(issuer.verify(&by_two, NOW).is_ok());
    assert_eq!(issuer.verify(&by_one, NOW), Err(Refused), "its key is gone");
    let same_name = ed25519("two");
    issuer
        .read(json!({"keys": [same_name.jwk]}).to_string().as_bytes())
        .unwrap();
    assert_eq!(issuer.verify(&by_two, NOW), Err(Refused), "another key of that name");
    issuer.read(json!({"keys": [two.jwk]}).to_string().as_bytes()).unwrap();
    for bad in [
        "",
        "{}",
        r#"{"keys":[]}"#,
        r#"{"keys":[{"kty":"oct","kid":"s","k":"c2VjcmV0"}]}"#,
    ] {
        assert!(issuer.read(bad.as_bytes()).is_err(), "{bad}");
    }
    assert!(issuer.verify(&by_two, NOW).is_ok(), "keys that were known stay");
}

#[test]
fn what_was_given_by_a_key_says_so_and_ends_with_it() {
    let (old, new) = (ed25519("one"), ed25519("one"));
    let issuer = issuer(&[&old]);
    let (principal, until) = issuer.verify(&token(&old, Some("one"), &claims()), NOW).unwrap();
    assert!(issuer.holds(&principal.live.grant().key));
    // A session of ours that was begun with it says the same.
    let keys = super::super::Keys::ephemeral().unwrap();
    let session = super::super::issue(&keys, &principal, until - NOW, NOW).unwrap();
    let (in_session, _) = keys.verify(&session, NOW).unwrap();
    assert_eq!(in_session.live.grant(), principal.live.grant());
    // Another key under the same name is another key.
    issuer
        .read(json!({ "keys": [new.jwk] }).to_string().as_bytes())
        .unwrap();
    assert!(!issuer.holds(&in_session.live.grant().key));
    let own = super::super::issue(
        &keys,
        &Principal {
            live: Live::default(),
            ..principal
        },
        until - NOW,
        NOW,
    )
    .unwrap();
    assert_eq!(keys.verify(&own, NOW).unwrap().0.live.grant().key, "");
}

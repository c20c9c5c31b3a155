//! Forged tokens: whatever is wrong with one, the answer is the same.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use jsonwebtoken::EncodingKey;
use serde_json::{Value, json};

use super::*;

const NOW: Timestamp = Timestamp(1_800_000_000_000_000);

fn doctor() -> Principal {
    Principal {
        live: schemas::access::Live::default(),
        subject: "dr-b".into(),
        role: Role::Doctor,
        patients: vec![PatientId::new("p1").unwrap()],
        sensors: vec![SensorId::new("s1").unwrap()],
    }
}

fn claims() -> Value {
    let now = NOW.0 / 1_000_000;
    json!({"iss": "fajma", "aud": "fajma", "sub": "dr-b", "exp": now + 600, "nbf": now, "iat": now, "role": "doctor"})
}

fn header() -> Value {
    json!({"typ": "JWT", "alg": "EdDSA"})
}

/// A token of these texts, signed with the key as EdDSA whatever the header says.
fn signed(keys: &Keys, header: &str, claims: &str) -> String {
    let message = format!("{}.{}", BASE64.encode(header), BASE64.encode(claims));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), keys.signing(), Algorithm::EdDSA).unwrap();
    format!("{message}.{signature}")
}

fn with(mut value: Value, key: &str, to: Value) -> String {
    value[key] = to;
    value.to_string()
}

fn without(mut value: Value, key: &str) -> String {
    value.as_object_mut().unwrap().remove(key);
    value.to_string()
}

#[test]
fn a_token_reads_back_as_whom_it_was_issued_to_until_it_ends() {
    let keys = Keys::ephemeral().unwrap();
    let token = issue(&keys, &doctor(), Span::minutes(10), NOW).unwrap();
    assert_eq!(keys.verify(&token, NOW), Ok((doctor(), NOW + Span::minutes(10))));
    assert_eq!(keys.authenticate(&token, NOW + Span::minutes(9)), Ok(doctor()));
    // Clocks of two processes differ a little; the leeway is never above a minute.
    assert!(LEEWAY <= Span::seconds(60));
    for (at, good) in [
        (NOW - LEEWAY, true),
        (NOW - LEEWAY - Span::seconds(1), false),
        (NOW + Span::minutes(10) + LEEWAY - Span::seconds(1), true),
        (NOW + Span::minutes(10) + LEEWAY, false),
    ] {
        assert_eq!(keys.verify(&token, at).is_ok(), good, "{at}");
    }
}

#[test]
fn a_session_is_as_old_as_the_token_that_it_was_begun_with() {
    let keys = Keys::ephemeral().unwrap();
    let token = issue(&keys, &doctor(), Span::minutes(10), NOW).unwrap();
    let (holder, _) = keys.authenticate_until(&token, NOW).unwrap();
    let session = issue(&keys, &holder, Span::minutes(5), NOW + Span::minutes(5)).unwrap();
    let (in_session, _) = keys.authenticate_until(&session, NOW + Span::minutes(6)).unwrap();
    assert_eq!(in_session.live.grant(), holder.live.grant(), "so that it ends with it");
}

#[test]
fn a_token_that_is_remembered_is_judged_by_the_time_and_vouches_for_no_other() {
    let keys = Keys::ephemeral().unwrap();
    let token = issue(&keys, &doctor(), Span::minutes(10), NOW).unwrap();
    assert!(keys.verify(&token, NOW).is_ok());
    assert!(keys.known().get(token.as_str()).is_some());
    assert_eq!(keys.verify(&token, NOW + Span::minutes(11)), Err(Refused));
    assert_eq!(keys.verify(&token, NOW - Span::minutes(1)), Err(Refused));
    let (signed, signature) = token.rsplit_once('.').unwrap();
    for other in [
        format!("{signed}.{}", signature.to_lowercase()),
        format!("{token}="),
        signed.to_owned(),
    ] {
        assert_eq!(keys.verify(&other, NOW), Err(Refused), "{other}");
        assert!(keys.known().get(other.as_str()).is_none());
    }
    assert!(keys.verify(&token, NOW).is_ok());
}

#[test]
fn an_honest_token_made_by_hand_is_good() {
    let keys = Keys::ephemeral().unwrap();
    assert!(
        keys.verify(&signed(&keys, &header().to_string(), &claims().to_string()), NOW)
            .is_ok()
    );
    let kid = with(header(), "kid", json!(keys.id()));
    assert!(keys.verify(&signed(&keys, &kid, &claims().to_string()), NOW).is_ok());
}

/// Tokens that our own key signed, but that say what they must not.
fn ill_said(keys: &Keys) -> Vec<(&'static str, String)> {
    let now = NOW.0 / 1_000_000;
    let (h, c) = (header().to_string(), claims().to_string());
    let claim = |key, to| (key, signed(keys, &h, &with(claims(), key, to)));
    let head = |key, to| (key, signed(keys, &with(header(), key, to), &c));
    let mut cases = vec![
        ("other issuer", claim("iss", json!("other")).1),
        ("issuers", claim("iss", json!(["fajma"])).1),
        ("other audience", claim("aud", json!("other")).1),
        ("audiences", claim("aud", json!(["fajma", "other"])).1),
        ("ended", claim("exp", json!(now - 31)).1),
        ("end as text", claim("exp", json!((now + 600).to_string())).1),
        ("end as null", claim("exp", json!(null)).1),
        ("end as fraction", claim("exp", json!(now as f64 + 600.5)).1),
        (
            "end beyond numbers",
            signed(keys, &h, &c.replace(&(now + 600).to_string(), "1e999")),
        ),
        ("end before start", claim("exp", json!(now - 1)).1.clone()),
        ("not yet", claim("nbf", json!(now + 60)).1),
        ("start as text", claim("nbf", json!("0")).1),
        ("issued tomorrow", claim("iat", json!(now + 86_400)).1),
        ("nobody", claim("sub", json!("")).1),
        ("subject as number", claim("sub", json!(7)).1),
        ("unknown role", claim("role", json!("root")).1),
        ("role in capitals", claim("role", json!("Admin")).1),
        ("two roles", claim("role", json!(["doctor", "admin"])).1),
        ("a patient that is no id", claim("patients", json!(["a b"])).1),
        (
            "said twice",
            signed(keys, &h, &c.replacen("\"role\"", "\"role\":\"admin\",\"role\"", 1)),
        ),
        ("other kid", head("kid", json!("../../etc/passwd")).1),
        (
            "key in the header",
            head("jwk", json!({"kty": "OKP", "crv": "Ed25519", "x": "AAAA"})).1,
        ),
        ("key by address", head("jku", json!("https://evil.example/keys")).1),
        (
            "certificate by address",
            head("x5u", json!("https://evil.example/cert")).1,
        ),
        ("certificate in the header", head("x5c", json!(["AAAA"])).1),
        ("unknown extension", head("crit", json!(["b64"])).1),
        ("other kind", head("typ", json!("at+jwt")).1),
        ("no kind", signed(keys, &without(header(), "typ"), &c)),
        ("algorithm none", head("alg", json!("none")).1),
        ("algorithm NONE", head("alg", json!("NONE")).1),
        ("algorithm HS256", head("alg", json!("HS256")).1),
        ("algorithm ES256", head("alg", json!("ES256")).1),
        ("algorithm eddsa", head("alg", json!("eddsa")).1),
        ("no algorithm", signed(keys, &without(header(), "alg"), &c)),
        ("no claims", signed(keys, &h, "{}")),
        ("claims as list", signed(keys, &h, "[]")),
        ("claims as text", signed(keys, &h, "hello")),
    ];
    for key in ["iss", "aud", "sub", "exp", "nbf", "iat", "role"] {
        cases.push((key, signed(keys, &h, &without(claims(), key))));
    }
    cases
}

/// Tokens whose signature is not ours.
fn ill_signed(keys: &Keys) -> Vec<(&'static str, String)> {
    let good = issue(keys, &doctor(), Span::minutes(10), NOW).unwrap();
    let parts: Vec<&str> = good.split('.').collect();
    let (h, c, s) = (parts[0], parts[1], parts[2]);
    let none = BASE64.encode(r#"{"typ":"JWT","alg":"none"}"#);
    let admin = BASE64.encode(with(claims(), "role", json!("admin")));
    let other = Keys::ephemeral().unwrap();
    // The classic confusion: our public key as the secret of an HMAC.
    let public = keys.checking().try_get_as_bytes().unwrap();
    let hmac = jsonwebtoken::encode(
        &Header::new(Algorithm::HS256),
        &claims(),
        &EncodingKey::from_secret(public),
    );
    let mut flipped = BASE64.decode(s).unwrap();
    flipped[10] ^= 1;
    vec![
        ("empty", String::new()),
        ("dots", "..".to_owned()),
        ("no signature", format!("{h}.{c}.")),
        ("no signature, no dot", format!("{h}.{c}")),
        ("none, no signature", format!("{none}.{c}.")),
        ("none, our signature", format!("{none}.{c}.{s}")),
        ("other claims", format!("{h}.{admin}.{s}")),
        ("flipped bit", format!("{h}.{c}.{}", BASE64.encode(flipped))),
        ("short signature", format!("{h}.{c}.{}", &s[..40])),
        ("zero signature", format!("{h}.{c}.{}", BASE64.encode([0; 64]))),
        ("padded", format!("{good}==")),
        ("four parts", format!("{good}.{s}")),
        (
            "other key",
            signed(&other, &header().to_string(), &claims().to_string()),
        ),
        ("other key with our kid", {
            signed(&other, &with(header(), "kid", json!(keys.id())), &claims().to_string())
        }),
        ("public key as HMAC secret", hmac.unwrap()),
        ("blank before", format!(" {good}")),
        ("much too long", format!("{h}.{}.{s}", "A".repeat(LONGEST))),
    ]
}

#[test]
fn forged_tokens_are_refused() {
    let keys = Keys::ephemeral().unwrap();
    let cases: Vec<_> = ill_said(&keys).into_iter().chain(ill_signed(&keys)).collect();
    assert!(cases.len() >= 50);
    for (what, token) in cases {
        assert_eq!(keys.verify(&token, NOW), Err(Refused), "{what}: {token}");
    }
}

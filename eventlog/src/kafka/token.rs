//! A token that says who we are: read from a file that somebody else renews.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rdkafka::client::OAuthToken;
use schemas::time::Timestamp;

use super::access;

/// A token that does not say when it ends is read again so often, in milliseconds.
const AGAIN: i64 = 60_000;

/// Reads the token of a file.
///
/// # Errors
/// Why it is of no use; the token itself is never part of it.
pub(super) fn from_file(file: &Path, now: Timestamp) -> Result<OAuthToken, String> {
    let text = access::read(file).map_err(|error| error.to_string())?;
    read(text.trim(), now).map_err(|why| format!("{}: {why}", file.display()))
}

fn read(text: &str, now: Timestamp) -> Result<OAuthToken, String> {
    if text.is_empty() || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("it holds no token".to_owned());
    }
    let now = now.0.div_euclid(1000);
    let claims = claims(text);
    let ends = claims.as_ref().and_then(|claims| claims["exp"].as_f64());
    let lifetime_ms = ends.map_or(now + AGAIN, |seconds| (seconds * 1000.0) as i64);
    if lifetime_ms <= now {
        let ago = (now - lifetime_ms) / 1000;
        return Err(format!("the token ended {ago} s ago, and nobody has renewed it"));
    }
    let subject = claims.as_ref().and_then(|claims| claims["sub"].as_str());
    Ok(OAuthToken {
        token: text.to_owned(),
        principal_name: subject.unwrap_or("fajma").replace('\0', ""),
        lifetime_ms,
    })
}

/// What a token says, where it is a JWT. Whether it is true the brokers judge.
fn claims(text: &str) -> Option<serde_json::Value> {
    let body = text.split('.').nth(1)?;
    let body = URL_SAFE_NO_PAD.decode(body.trim_end_matches('=')).ok()?;
    serde_json::from_slice(&body).ok().filter(serde_json::Value::is_object)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jwt(claims: &str) -> String {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.", part(r#"{"alg":"none"}"#), part(claims))
    }

    #[test]
    fn a_token_lives_as_long_as_it_says_and_one_that_ended_is_of_no_use() {
        let now = Timestamp(1_000_000_000);
        let ward = read(&jwt(r#"{"sub":"ward","exp":1060}"#), now).unwrap();
        assert_eq!((ward.principal_name.as_str(), ward.lifetime_ms), ("ward", 1_060_000));
        let opaque = read("0paque", now).unwrap();
        assert_eq!(opaque.lifetime_ms, 1_060_000);
        for (text, why) in [
            (jwt(r#"{"sub":"ward","exp":990}"#), "ended 10 s ago"),
            (String::new(), "no token"),
            ("two words".to_owned(), "no token"),
        ] {
            let refused = read(&text, now).map(|token| token.lifetime_ms);
            let refused = refused.unwrap_err();
            assert!(
                refused.contains(why) && (text.is_empty() || !refused.contains(&text)),
                "{refused}"
            );
        }
    }
}

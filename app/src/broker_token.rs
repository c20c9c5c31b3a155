//! The token that brokers want, fetched from an issuer by who we are (OAuth's client credentials) and kept in the file
//! that the log's clients read.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::body::Bytes;
use hyper::{Request, header};
use serde_json::Value;

use crate::config::Config;
use crate::failure::Failure;
use crate::{client, tls};

/// How long the issuer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// After a failure it is asked again so soon.
const AGAIN: Duration = Duration::from_secs(5);
/// Where it does not say how long a token is good: RFC 6749 recommends that it does.
const UNSAID: u64 = 300;

/// Fetches the token where the options say from whom, and goes on renewing it when three fifths of its life are over.
///
/// # Errors
/// [`Failure::Failed`] where there is none to begin with.
pub async fn begin(config: &Config) -> Result<(), Failure> {
    let log = config.log.clone();
    if log.url.is_empty() || log.token_url.is_empty() {
        return Ok(());
    }
    let wrong = |why| Failure::because(format_args!("log.token_url {}", log.token_url), why);
    let mut life = fetch(&log).await.map_err(wrong)?;
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(life.mul_f64(0.6).max(Duration::from_secs(1))).await;
            while let Err(why) = fetch(&log).await.map(|next| life = next) {
                tracing::error!(issuer = log.token_url, why, "the token for the log is not renewed");
                tokio::time::sleep(AGAIN).await;
            }
        }
    });
    Ok(())
}

/// Fetches a token into its file; for how long it is good.
async fn fetch(log: &crate::config::Log) -> Result<Duration, String> {
    let answer = tokio::time::timeout(PATIENCE, ask(log)).await;
    let answer = answer.map_err(|_| format!("nothing came within {} s", PATIENCE.as_secs()))??;
    let token = answer["access_token"].as_str().filter(|token| !token.is_empty());
    let token = token.ok_or("the answer holds no access_token")?;
    let file = &log.token_file;
    write(file, token).map_err(|e| format!("log.token_file {}: {e}", file.display()))?;
    Ok(Duration::from_secs(answer["expires_in"].as_u64().unwrap_or(UNSAID)))
}

async fn ask(log: &crate::config::Log) -> Result<Value, String> {
    let file = &log.password_file;
    let secret = tokio::fs::read_to_string(file).await;
    let secret = secret.map_err(|e| format!("log.password_file {}: {e}", file.display()))?;
    let (id, secret) = (form(&log.user), form(secret.trim_end_matches(['\r', '\n'])));
    let mut body = "grant_type=client_credentials".to_owned();
    if !log.token_scope.is_empty() {
        body += &format!("&scope={}", form(&log.token_scope));
    }
    let request = Request::post("/")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(header::ACCEPT, "application/json")
        .header(
            header::AUTHORIZATION,
            format!("Basic {}", STANDARD.encode(format!("{id}:{secret}"))),
        );
    let secure = log.token_url.starts_with("https://");
    let tls = secure
        .then(|| tls::client(None))
        .transpose()
        .map_err(|e| e.to_string())?;
    let (status, body) = client::ask(&log.token_url, tls, request, Bytes::from(body)).await?;
    let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
    if status == 200 {
        return Ok(answer);
    }
    // What an issuer says of a refusal holds no secret (RFC 6749, 5.2).
    let said = |field: &str| answer[field].as_str().unwrap_or_default().to_owned();
    Err(format!("{status} {} {}", said("error"), said("error_description")))
}

/// Puts it in the place of the last, so that nobody reads half of it; nobody else may read it.
fn write(file: &Path, token: &str) -> std::io::Result<()> {
    let next = file.with_extension(format!("next-{}", std::process::id()));
    let mut options = std::fs::OpenOptions::new();
    let mut opened = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&next)?;
    opened.write_all(token.as_bytes())?;
    std::fs::rename(&next, file)
}

/// As a form writes it.
fn form(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    let one = |byte: u8| {
        if plain(byte) {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    };
    text.bytes().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_hides_what_would_end_a_field_or_a_name() {
        assert_eq!(form("a b:c&d=é/~"), "a%20b%3Ac%26d%3D%C3%A9%2F~");
    }

    #[test]
    fn a_token_is_for_us_alone_and_the_last_one_counts() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        for token in ["one", "two"] {
            write(&file, token).unwrap();
            assert_eq!(std::fs::read_to_string(&file).unwrap(), token);
        }
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}

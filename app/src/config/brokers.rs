//! How the brokers of a shared log know us, and we them: what the options of `[log]` mean together.

use eventlog::kafka::{Access, Mechanism, Sasl, Tls};

use super::rooms::Log;
use super::secured::{Files, given};

/// What the options say.
///
/// # Errors
/// Which option is missing, or stands there for nothing.
pub(super) fn access(log: &Log) -> Result<Access, String> {
    Ok(Access {
        tls: tls(log)?,
        sasl: sasl(log)?,
    })
}

/// Stands for the name of this machine, or container.
const HOST: &str = "@host";

/// The name of a process in groups, where it has one.
///
/// # Errors
/// What is wrong with it.
pub(super) fn instance(name: &str) -> Result<Option<String>, String> {
    let name = match name {
        "" => return Ok(None),
        HOST => std::fs::read_to_string("/proc/sys/kernel/hostname")
            .map_err(|e| format!("log.instance = {HOST}: this machine's name is not known: {e}"))?
            .trim()
            .to_owned(),
        name => name.to_owned(),
    };
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if (1..=200).contains(&name.len()) && name.chars().all(good) && !matches!(name.as_str(), "." | "..") {
        return Ok(Some(name));
    }
    Err(format!(
        "log.instance = {name:?} is no name: up to 200 of A–Z a–z 0–9 . _ -"
    ))
}

fn tls(log: &Log) -> Result<Option<Tls>, String> {
    let files = Files {
        room: "log",
        tls: log.tls,
        ca: &log.tls_ca,
        certificate: &log.tls_certificate,
        key: &log.tls_key,
    };
    Ok(files.read()?.map(|(ca, own)| Tls { ca, own }))
}

fn sasl(log: &Log) -> Result<Option<Sasl>, String> {
    let (user, password, token) = (&log.user, given(&log.password_file), given(&log.token_file));
    let fetched = !log.token_url.is_empty();
    if !fetched && !log.token_scope.is_empty() {
        return Err("log.token_scope is for log.token_url".to_owned());
    }
    if fetched && (log.sasl != "oauthbearer" || !log.token_url.starts_with("http")) {
        return Err("log.token_url is http://… or https://…, for log.sasl = oauthbearer".to_owned());
    }
    let mechanism = match log.sasl.as_str() {
        "" if user.is_empty() && password.is_none() && token.is_none() => return Ok(None),
        "" => return Err("log.user, log.password_file and log.token_file are for log.sasl".to_owned()),
        "oauthbearer" => None,
        "plain" => Some(Mechanism::Plain),
        "scram-sha-256" => Some(Mechanism::Scram256),
        "scram-sha-512" => Some(Mechanism::Scram512),
        other => {
            let known = "plain, scram-sha-256, scram-sha-512, oauthbearer";
            return Err(format!("log.sasl = {other:?} is none of {known}"));
        }
    };
    if !log.tls && matches!(mechanism, None | Some(Mechanism::Plain)) {
        return Err(format!(
            "log.sasl = {} shows everybody on the way what is secret: log.tls = true",
            log.sasl
        ));
    }
    let needs = |what: &str| {
        format!(
            "log.sasl = {} needs {what}, and no other of log.user, log.password_file, log.token_file",
            log.sasl
        )
    };
    match (mechanism, user.is_empty(), password, token) {
        (None, false, Some(_), Some(file)) if fetched => Ok(Some(Sasl::Token { file })),
        (None, ..) if fetched => Err(
            "log.token_url needs log.user and log.password_file to be asked with, and log.token_file for what it gives"
                .to_owned(),
        ),
        (None, true, None, Some(file)) => Ok(Some(Sasl::Token { file })),
        (None, ..) => Err(needs("log.token_file")),
        (Some(mechanism), false, Some(password), None) => Ok(Some(Sasl::Password {
            mechanism,
            user: user.clone(),
            password,
        })),
        (Some(_), ..) => Err(needs("log.user and log.password_file")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Sources};

    fn read(options: &[(&'static str, &str)]) -> Result<Access, String> {
        let flags = options.iter().map(|(name, value)| (*name, (*value).to_owned(), "test"));
        let config = Config::load(Sources {
            flags: flags.collect(),
            ..Sources::default()
        });
        access(&config.unwrap().log)
    }

    #[test]
    fn a_process_has_a_name_or_none() {
        assert_eq!(instance(""), Ok(None));
        assert_eq!(instance("ward-7.process_1"), Ok(Some("ward-7.process_1".to_owned())));
        let host = instance(HOST).unwrap().unwrap();
        assert!(!host.is_empty() && !host.contains(['@', '\n']), "{host:?}");
        for bad in ["two words", "@home", "é", "..", &"x".repeat(201)] {
            assert!(instance(bad).is_err_and(|why| why.contains("log.instance")), "{bad}");
        }
    }

    const TLS: (&str, &str) = ("log.tls", "true");
    const USER: (&str, &str) = ("log.user", "ward");
    const PASSWORD: (&str, &str) = ("log.password_file", "p");
    const TOKEN: (&str, &str) = ("log.token_file", "t");

    #[test]
    fn options_go_together_or_are_refused_with_the_one_that_is_missing() {
        assert_eq!(read(&[]), Ok(Access::default()));
        let scram = read(&[("log.sasl", "scram-sha-512"), USER, PASSWORD]).unwrap();
        assert!(scram.tls.is_none() && scram.sasl.is_some());
        let token = read(&[TLS, ("log.tls_ca", "ca"), ("log.sasl", "oauthbearer"), TOKEN]).unwrap();
        assert_eq!(
            token.tls,
            Some(Tls {
                ca: Some("ca".into()),
                own: None
            })
        );
        assert_eq!(token.sasl, Some(Sasl::Token { file: "t".into() }));
        let url = ("log.token_url", "https://issuer/token");
        let fetched = [TLS, ("log.sasl", "oauthbearer"), TOKEN, USER, PASSWORD, url];
        assert_eq!(read(&fetched).unwrap().sasl, token.sasl);
        for (wrong, words) in [
            (&[("log.tls_ca", "ca")][..], "log.tls_ca is for log.tls"),
            (&[TLS, ("log.tls_key", "k")], "both or neither"),
            (&[USER], "are for log.sasl"),
            (&[("log.sasl", "gssapi")], "none of plain"),
            (&[("log.sasl", "plain"), USER, PASSWORD], "log.tls = true"),
            (&[("log.sasl", "oauthbearer"), TOKEN], "log.tls = true"),
            (
                &[TLS, ("log.sasl", "plain"), USER],
                "needs log.user and log.password_file",
            ),
            (&[TLS, ("log.sasl", "oauthbearer"), TOKEN, USER], "needs log.token_file"),
            (
                &[TLS, ("log.sasl", "oauthbearer"), TOKEN, url],
                "log.token_url needs log.user",
            ),
            (&[url], "for log.sasl = oauthbearer"),
            (&[("log.token_scope", "log")], "for log.token_url"),
        ] {
            let refused = read(wrong).unwrap_err();
            assert!(refused.contains(words), "{wrong:?}: {refused}");
        }
    }
}

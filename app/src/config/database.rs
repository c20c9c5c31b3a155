//! How the nodes of a shared database know us, and we them: what the options of `[views]` mean together.

use projections::scylla::{Access, Login, Tls};

use super::rooms::Views;
use super::secured::{Files, given};

/// What the options say.
///
/// # Errors
/// Which option is missing, or stands there for nothing.
pub(super) fn access(views: &Views) -> Result<Access, String> {
    let files = Files {
        room: "views",
        tls: views.tls,
        ca: &views.tls_ca,
        certificate: &views.tls_certificate,
        key: &views.tls_key,
    };
    let login = match (views.user.is_empty(), given(&views.password_file)) {
        (true, None) => None,
        (false, Some(password)) => Some(Login {
            user: views.user.clone(),
            password,
        }),
        _ => return Err("views.user and views.password_file are given both or neither".to_owned()),
    };
    Ok(Access {
        tls: files.read()?.map(|(ca, own)| Tls { ca, own }),
        login,
    })
}

#[cfg(test)]
mod tests {
    use projections::scylla;

    use super::*;
    use crate::config::{Config, Sources};

    fn read(options: &[(&'static str, &str)]) -> Result<Option<scylla::Options>, String> {
        let flags = options.iter().map(|(name, value)| (*name, (*value).to_owned(), "test"));
        let config = Config::load(Sources {
            flags: flags.collect(),
            ..Sources::default()
        });
        config.unwrap().views.database()
    }

    #[test]
    fn options_go_together_or_are_refused_with_the_one_that_is_missing() {
        let (url, tls) = (("views.url", "scylla://a:1"), ("views.tls", "true"));
        let (user, password) = (("views.user", "ward"), ("views.password_file", "p"));
        assert!(read(&[]).unwrap().is_none());
        assert_eq!(read(&[url]).unwrap().unwrap().access, Access::default());
        let whole = [url, tls, ("views.tls_ca", "ca"), user, password];
        let whole = read(&whole).unwrap().unwrap().access;
        assert_eq!(whole.tls.unwrap().ca, Some("ca".into()));
        assert_eq!(whole.login.unwrap().password, std::path::Path::new("p"));
        for (wrong, words) in [
            (&[url, ("views.tls_ca", "ca")][..], "views.tls_ca is for views.tls"),
            (&[url, tls, ("views.tls_key", "k")], "both or neither"),
            (&[url, user], "views.user and views.password_file"),
            (&[url, password], "views.user and views.password_file"),
            (&[user, password], "views.url"),
            (&[tls], "views.url"),
            (&[("views.url", "scylla://ward:secret@a:1")], "names no user"),
        ] {
            let refused = read(wrong).unwrap_err();
            assert!(refused.contains(words), "{wrong:?}: {refused}");
        }
    }
}

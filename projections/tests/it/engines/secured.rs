//! A database that lets in nobody without TLS, a certificate and a password: Cassandra, started for it by
//! `docker/engines/engines`, whose place is in `ENGINES_SCRIPT`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::house::measured;
use projections::scylla::{Access, Login, Options, Replication, ScyllaViews, Tls, apply};
use projections::store::{ViewError, ViewStore};
use projections::{query, views};
use schemas::metric::Metric;

/// Where the database is, and the folder of what it knows us by.
fn start() -> (String, PathBuf) {
    let script = std::env::var("ENGINES_SCRIPT").unwrap_or_else(|_| panic!("docker/engines/engines run …"));
    let started = Command::new(script).args(["up", "cassandra-secured"]).output().unwrap();
    let said = String::from_utf8(started.stdout).unwrap();
    assert!(started.status.success(), "{said}");
    let value = |name: &str| {
        let line = said
            .lines()
            .find_map(|line| line.strip_prefix(&format!("export {name}=")));
        line.unwrap_or_else(|| panic!("{name} is not in {said}")).to_owned()
    };
    (value("ENGINES_CQL_SECURED"), value("ENGINES_CQL_SECRETS").into())
}

fn tls(secrets: &Path) -> Tls {
    Tls {
        ca: Some(secrets.join("ca.pem")),
        own: Some((secrets.join("client.crt"), secrets.join("client.key"))),
    }
}

#[tokio::test]
async fn who_is_believed_and_known_comes_in_and_who_is_not_hears_which_option_to_look_at() {
    let (node, secrets) = start();
    let login = |password: &str| Login {
        user: "cassandra".to_owned(),
        password: secrets.join(password),
    };
    let options = |tls: Option<Tls>, login: Option<Login>| Options {
        nodes: vec![node.clone()],
        access: Access { tls, login },
        ..Options::default()
    };
    let good = options(Some(tls(&secrets)), Some(login("password")));
    // Its first user is made a moment after it answers.
    let mut applied = apply(&good, &Replication::Simple(1)).await;
    for _ in 0..300 {
        match &applied {
            Err(error) if error.to_string().contains("views.user") => {
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                applied = apply(&good, &Replication::Simple(1)).await;
            }
            _ => break,
        }
    }
    applied.unwrap();
    let store = ScyllaViews::open(good).await.unwrap();
    let mut changes = Vec::new();
    views::project_fact(&measured("p1", "s1", Metric::HeartRate, 1, 72.0), &mut changes);
    store.apply(&changes, None).await.unwrap();
    assert_eq!(query::latest(&*store, "p1").await.unwrap().len(), 1);

    let ours = tls(&secrets);
    let stranger = Tls {
        ca: Some(secrets.join("stranger.pem")),
        ..ours.clone()
    };
    let nameless = Tls {
        own: None,
        ..ours.clone()
    };
    let unread = Tls {
        ca: Some(secrets.join("nowhere.pem")),
        ..ours.clone()
    };
    for (tls, login, words) in [
        (None, Some(login("password")), "views.tls = true"),
        (Some(stranger), Some(login("password")), "views.tls_ca"),
        (Some(unread), Some(login("password")), "nowhere.pem"),
        (Some(nameless), Some(login("password")), "views.tls_certificate"),
        (
            Some(ours.clone()),
            Some(login("ca.pem")),
            "views.user, views.password_file",
        ),
        (Some(ours.clone()), None, "views.user, views.password_file"),
    ] {
        let refused = ScyllaViews::open(options(tls, login)).await.unwrap_err();
        assert!(matches!(refused, ViewError::Unavailable(_)), "{refused}");
        assert!(refused.to_string().contains(words), "{words}: {refused}");
    }
}

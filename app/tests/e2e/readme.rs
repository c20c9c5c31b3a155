//! The README's own commands, run as they stand there.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use app::up::{Duties, start};
use schemas::access::Role;

use super::house::{PATIENCE, config, prepare, principal};

/// The shell block under a heading of the README.
fn block(heading: &str) -> String {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let text = std::fs::read_to_string(readme).unwrap();
    let (_, section) = text.split_once(&format!("\n## {heading}\n")).unwrap();
    let (_, block) = section.split_once("```sh\n").unwrap();
    block.split_once("```").unwrap().0.to_owned()
}

/// Runs a script in `dir`; what it wrote to standard output.
async fn shell(script: String, dir: &Path) -> String {
    let dir = dir.to_owned();
    let run = move || {
        Command::new("bash")
            .args(["-euo", "pipefail", "-c", &script])
            .current_dir(dir)
            // Names of ours that are no options of the program.
            .env_remove("FAJMA_TEST_KAFKA")
            .env_remove("FAJMA_TEST_CQL")
            .output()
    };
    let output = tokio::task::spawn_blocking(run).await.unwrap().unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{out}\n{err}");
    out.into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_alert_of_the_readme_comes_as_it_says() {
    if Command::new("curl").arg("--version").output().is_err() {
        println!("NOT RUN: the README's first alert (curl is not installed)");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let options = config(&dir.path().join("fajma-data"));
    prepare(&options).await;
    let server = start(&options, Duties::ALL).await.unwrap();
    server.ready(PATIENCE).await.unwrap();
    let block = block("A first alert");
    for part in ["target/release/fajma", "localhost:8080", "sleep 1\n"] {
        assert!(block.contains(part), "{part} is no longer in the block");
    }
    let block = block
        .replace("target/release/fajma", env!("CARGO_BIN_EXE_fajma"))
        .replace("localhost:8080", &server.http.to_string());
    let (send, look) = block.split_once("sleep 1\n").unwrap();
    // Instead of a second: until it is there.
    let script = format!(
        "{send}\necho\nfor i in $(seq 100); do shown=$({look}); case $shown in *heart_rate_high*) break;; esac; sleep \
         0.2; done\necho \"$shown\"\n"
    );
    let told = shell(script, dir.path()).await;
    let mut lines = told.lines().filter(|line| !line.is_empty());
    let sent: serde_json::Value = serde_json::from_str(lines.next().unwrap()).unwrap();
    assert_eq!((&sent["accepted"], &sent["rejected"]), (&2.into(), &0.into()), "{told}");
    let alerts: serde_json::Value = serde_json::from_str(lines.next().unwrap()).unwrap();
    let alert = &alerts["alerts"][0];
    assert_eq!(
        (&alert["rule"], &alert["severity"]),
        (&"heart_rate_high".into(), &"CRITICAL".into()),
        "{told}"
    );
    assert!(server.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_of_the_readme_is_one_that_the_doors_and_simulate_take() {
    if Command::new("openssl").arg("version").output().is_err() {
        println!("NOT RUN: the README's certificate (openssl is not installed)");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let block = block("With TLS");
    let (make, rest) = block.split_once("\ntarget/release/fajma up").unwrap();
    shell(make.to_owned(), dir.path()).await;
    let mut options = config(&dir.path().join("fajma-data"));
    options.tls.certificate = dir.path().join("certificate.pem");
    options.tls.key = dir.path().join("key.pem");
    prepare(&options).await;
    let server = start(&options, Duties::ALL).await.unwrap();
    server.ready(PATIENCE).await.unwrap();
    let simulate = rest.lines().find(|line| line.contains("simulate")).unwrap();
    assert!(simulate.contains("mqtts://localhost:1883"), "{simulate}");
    let port = server.mqtt.unwrap().port();
    let simulate = simulate
        .replace("target/release/fajma", env!("CARGO_BIN_EXE_fajma"))
        .replace("localhost:1883", &format!("localhost:{port}"));
    let token = server.token(&principal(Role::Admin), Duration::from_secs(600)).unwrap();
    let script = format!("export FAJMA_TOKEN={token}\n{simulate} --speed 600 --duration 1m --patients 1");
    let told = shell(script, dir.path()).await;
    assert!(told.contains("acknowledged"), "{told}");
    assert!(server.stop().await);
}

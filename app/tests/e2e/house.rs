//! A whole house in this process, in a directory of its own, on ports of the system's choice; where
//! `FAJMA_TEST_KAFKA=host:port` and `FAJMA_TEST_CQL=host:port` are set, with its log and views there.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use app::client;
use app::config::{Config, Sources};
use app::up::{Duties, Server, start};
use eventlog::{Clock, SystemClock};
use rumqttc::v5::{AsyncClient, EventLoop, MqttOptions};
use schemas::access::{Principal, Role};
use schemas::ids::SensorId;
use schemas::time::{Span, Timestamp};
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long anything may take on a machine that does a hundred other things.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct House {
    pub(super) server: Server,
    pub(super) http: String,
    pub(super) token: String,
    pub(super) dir: TempDir,
}

pub(super) fn config(dir: &Path) -> Config {
    config_with(dir, engines(dir))
}

/// With log and views in the directory, whatever engines there are.
pub(super) fn config_alone(dir: &Path) -> Config {
    config_with(dir, Vec::new())
}

fn config_with(dir: &Path, engines: Vec<(&'static str, String, &'static str)>) -> Config {
    let flags = vec![
        ("data.dir", dir.display().to_string(), "--data"),
        ("http.listen", "127.0.0.1:0".to_owned(), "--listen"),
        ("mqtt.listen", "127.0.0.1:0".to_owned(), "--mqtt"),
        ("log.partitions", "2".to_owned(), "test"),
    ];
    let flags = flags.into_iter().chain(engines).collect();
    Config::load(Sources {
        flags,
        ..Sources::default()
    })
    .unwrap()
}

/// Whether log and views are on real engines.
pub(super) fn on_engines() -> bool {
    ["FAJMA_TEST_KAFKA", "FAJMA_TEST_CQL"]
        .iter()
        .all(|name| std::env::var(name).is_ok())
}

/// Where log and views are, in places of this directory's own.
fn engines(dir: &Path) -> Vec<(&'static str, String, &'static str)> {
    let (Ok(kafka), Ok(cql)) = (std::env::var("FAJMA_TEST_KAFKA"), std::env::var("FAJMA_TEST_CQL")) else {
        return Vec::new();
    };
    let letters = dir
        .to_string_lossy()
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .collect::<String>();
    // Names of keyspaces have no capitals: two folders whose names differ in nothing else are not the same.
    let sum = letters
        .bytes()
        .fold(7_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    let name = format!("e2e_{}_{sum:x}", std::process::id());
    vec![
        ("log.url", format!("kafka://{kafka}/{name}"), "test"),
        ("views.url", format!("scylla://{cql}/{name}"), "test"),
    ]
}

/// Makes topics and tables where there are engines; doing it again changes nothing.
pub(super) async fn prepare(config: &Config) {
    if let Some(kafka) = config.log.kafka().unwrap() {
        assert_eq!(eventlog::kafka::apply(&kafka).await.unwrap(), []);
    }
    if let Some(database) = config.views.database().unwrap() {
        let once = projections::scylla::Replication::Simple(1);
        projections::scylla::apply(&database, &once).await.unwrap();
    }
}

impl House {
    pub(super) async fn new() -> Self {
        Self::on(tempfile::tempdir().unwrap()).await
    }

    pub(super) async fn on(dir: TempDir) -> Self {
        let config = config(dir.path());
        prepare(&config).await;
        Self::started(&config, dir).await
    }

    /// In its directory alone, whatever engines there are.
    pub(super) async fn alone() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::started(&config_alone(dir.path()), dir).await
    }

    async fn started(config: &Config, dir: TempDir) -> Self {
        let server = Box::pin(start(config, Duties::ALL)).await.unwrap();
        server.ready(PATIENCE).await.unwrap();
        let token = server
            .token(&principal(Role::Admin), Duration::from_secs(3600))
            .unwrap();
        Self {
            http: server.http.to_string(),
            server,
            token,
            dir,
        }
    }

    /// Stops it as SIGTERM would, and gives the directory back.
    pub(super) async fn stop(self) -> TempDir {
        assert!(self.server.stop().await, "everything ended in time");
        self.dir
    }

    /// A sensor's MQTT client.
    pub(super) fn connect_sensor(&self, sensor: &str, client: &str) -> (AsyncClient, EventLoop) {
        let device = Principal {
            sensors: vec![SensorId::new(sensor).unwrap()],
            ..principal(Role::Device)
        };
        let token = self.server.token(&device, Duration::from_secs(600)).unwrap();
        let address = self.server.mqtt.unwrap();
        let mut options = MqttOptions::new(client, address.ip().to_string(), address.port());
        options.set_credentials("device", token);
        AsyncClient::new(options, 10)
    }

    /// Holds what was recorded against what the journal implies.
    pub(super) async fn verify(&self) {
        let path = self.dir.path().to_str().unwrap().to_owned();
        let verify = tokio::task::spawn_blocking(move || fajma(&["verify", "--data", &path]));
        let (status, told, error) = verify.await.unwrap();
        assert_eq!(status, Some(0), "{told}{error}");
    }

    pub(super) async fn send(&self, readings: Value) -> Value {
        let (status, answer) = client::post(
            &self.http,
            "/v1/readings",
            &self.token,
            &json!({ "readings": readings }),
        )
        .await
        .unwrap();
        assert_eq!(status, 200, "{answer}");
        answer
    }

    pub(super) async fn get(&self, path: &str) -> Value {
        client::get(&self.http, path, &self.token).await.unwrap()
    }

    /// Asks until the answer is as it should be.
    pub(super) async fn until(&self, path: &str, there: impl Fn(&Value) -> bool) -> Value {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            // A patient whom the views do not know yet is not found.
            let answer = client::get(&self.http, path, &self.token)
                .await
                .unwrap_or_else(Value::String);
            if there(&answer) {
                return answer;
            }
            assert!(tokio::time::Instant::now() < deadline, "{path}: {answer:#}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The program, without variables of ours that are no options of it.
pub(super) fn program() -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_fajma"));
    for name in ["FAJMA_TOKEN", "FAJMA_TEST_KAFKA", "FAJMA_TEST_CQL"] {
        program.env_remove(name);
    }
    program
}

/// Runs the program to its end: status, standard output, standard error.
pub(super) fn fajma(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = program().args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

pub(super) fn principal(role: Role) -> Principal {
    Principal {
        live: schemas::access::Live::default(),
        subject: role.as_str().into(),
        role,
        patients: Vec::new(),
        sensors: Vec::new(),
    }
}

pub(super) fn ago(seconds: i64) -> Timestamp {
    SystemClock.now() - Span::seconds(seconds)
}

pub(super) fn heart_rate(patient: &str, value: f64, at: Timestamp) -> Value {
    json!({"patient_id": patient, "sensor_id": format!("{patient}-ecg"), "type": "heart_rate",
           "value": value, "unit": "/min", "at": at})
}

/// The alerts in an answer with this rule.
pub(super) fn with_rule<'a>(answer: &'a Value, rule: &str) -> Vec<&'a Value> {
    let all = answer["alerts"].as_array();
    all.into_iter()
        .flatten()
        .filter(|alert| alert["rule"] == rule)
        .collect()
}

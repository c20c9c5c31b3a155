//! A door with a log behind it, for tests.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use eventlog::{EventLog, SystemClock};
use ingest::mqtt::{Entrance, MqttDoor, MqttLimits};
use ingest::{Clocks, Commands, Intake, Limits};
use schemas::access::{Authenticate, CareTeams, Grant, Live, Principal, Refused, Revocations, Role};
use schemas::ids::{PatientId, SensorId};
use schemas::policy::Policy;
use schemas::time::Timestamp;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::rustls::ServerConfig;
use tokio_util::sync::CancellationToken;

use super::client::{Client, Connect, Packet};
use super::log::TestLog;

/// What rights go by that changes while connections are open.
#[derive(Debug, Default)]
pub(crate) struct Registered {
    /// Whether p1 and p2 are one person.
    pub(crate) merged: AtomicBool,
    /// Whether `dr.ba` is in the care team of p1.
    pub(crate) cares: AtomicBool,
    /// Whether the tokens that begin with `taken` were revoked.
    pub(crate) revoked: AtomicBool,
}

impl CareTeams for Registered {
    fn cares(&self, staff: &str, patient: &PatientId) -> bool {
        staff == "dr.ba" && patient.as_str() == "p1" && self.cares.load(Ordering::SeqCst)
    }

    fn patients(&self, staff: &str) -> Vec<PatientId> {
        let patient = PatientId::new("p1").unwrap();
        if self.cares(staff, &patient) {
            vec![patient]
        } else {
            Vec::new()
        }
    }

    fn person(&self, patient: &PatientId) -> PatientId {
        self.also_known_as(patient)
            .into_iter()
            .find(|other| other.as_str() == "p1")
            .unwrap_or_else(|| patient.clone())
    }

    fn also_known_as(&self, patient: &PatientId) -> Vec<PatientId> {
        let other = match patient.as_str() {
            "p1" => "p2",
            "p2" => "p1",
            _ => return Vec::new(),
        };
        if self.merged.load(Ordering::SeqCst) {
            vec![PatientId::new(other).unwrap()]
        } else {
            Vec::new()
        }
    }
}

impl Revocations for Registered {
    fn is_revoked(&self, subject: &str, _: &Grant) -> bool {
        subject.starts_with("taken") && self.revoked.load(Ordering::SeqCst)
    }
}

/// Knows a token of each role; `brief` is good only until it is withdrawn.
pub(crate) struct Tokens(pub(crate) watch::Sender<bool>, pub(crate) Arc<Registered>);

impl Authenticate for Tokens {
    fn authenticate(&self, token: &str, _: Timestamp) -> Result<Principal, Refused> {
        let whole = token;
        let token = token.strip_prefix("taken ").unwrap_or(token);
        if whole != token && self.1.revoked.load(Ordering::SeqCst) {
            return Err(Refused);
        }
        let (role, patients, sensors) = match token {
            "device" => (Role::Device, &["p1"][..], &["s1"][..]),
            "other" => (Role::Device, &[][..], &["s2"][..]),
            "doctor" => (Role::Doctor, &["p1"][..], &[][..]),
            "admin" => (Role::Admin, &[][..], &[][..]),
            "auditor" => (Role::Auditor, &[][..], &[][..]),
            "patient" => (Role::Patient, &["p1"][..], &[][..]),
            "analyst" => (Role::Analyst, &[][..], &[][..]),
            "gateway" => (Role::Gateway, &[][..], &["s1"][..]),
            "bound" => (Role::Gateway, &["p1"][..], &["s1"][..]),
            "dr.ba" => (Role::Doctor, &[][..], &[][..]),
            "brief" if *self.0.borrow() => (Role::Admin, &[][..], &[][..]),
            _ => return Err(Refused),
        };
        Ok(Principal {
            live: Live::default()
                .with_teams(Arc::clone(&self.1) as Arc<dyn CareTeams>)
                .with_revocations(Arc::clone(&self.1) as Arc<dyn Revocations>),
            subject: whole.into(),
            role,
            patients: patients.iter().map(|p| PatientId::new(p).unwrap()).collect(),
            sensors: sensors.iter().map(|s| SensorId::new(s).unwrap()).collect(),
        })
    }
}

pub(crate) struct House {
    pub(crate) log: Arc<TestLog>,
    pub(crate) address: SocketAddr,
    pub(crate) tokens: Arc<Tokens>,
    /// What sensors are told to do.
    pub(crate) commands: Arc<Commands>,
    pub(crate) stop: CancellationToken,
    pub(crate) served: Option<tokio::task::JoinHandle<()>>,
    _policy: watch::Sender<Arc<Policy>>,
}

impl Drop for House {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl House {
    pub(crate) async fn new() -> Self {
        Self::with(limits(), None).await
    }

    pub(crate) async fn with(limits: MqttLimits, tls: Option<Arc<ServerConfig>>) -> Self {
        Self::by(Arc::default(), limits, tls).await
    }

    /// A house whose clock is good as long as `clocks` says so.
    pub(crate) async fn by(clocks: Arc<Clocks>, limits: MqttLimits, tls: Option<Arc<ServerConfig>>) -> Self {
        let log = TestLog::new();
        let tokens = Arc::new(Tokens(watch::Sender::new(true), Arc::default()));
        let (policy, in_force) = watch::channel(Arc::new(Policy::standard()));
        let as_log: Arc<dyn EventLog> = Arc::clone(&log) as _;
        let intake = Intake::learning(
            Arc::clone(&as_log),
            (Arc::new(SystemClock), clocks),
            in_force,
            Arc::default(),
            Limits::default(),
            Arc::default(),
        );
        let (commands, stop) = (Arc::<Commands>::default(), CancellationToken::new());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let door = MqttDoor::new(
            intake,
            as_log,
            Arc::clone(&tokens) as _,
            (Some(Arc::new(Told) as _), Arc::clone(&commands)),
            limits,
            stop.clone(),
        );
        let served = tokio::spawn(door.serve(vec![Entrance { listener, tls }]));
        Self {
            log,
            address,
            tokens,
            commands,
            stop,
            served: Some(served),
            _policy: policy,
        }
    }

    pub(crate) async fn dial(&self) -> Client {
        Client::over(TcpStream::connect(self.address).await.unwrap())
    }

    /// A client that is let in.
    pub(crate) async fn enter(&self, connect: &Connect<'_>) -> (Client, Packet) {
        let mut client = self.dial().await;
        let connack = client.login(connect).await;
        assert_eq!((connack.0, connack.1[1]), (0x20, 0), "{connack:?}");
        (client, connack)
    }

    pub(crate) async fn device(&self, v: u8, id: &str) -> Client {
        self.enter(&Connect::new(v, id, "device")).await.0
    }
}

/// Bounds that a test reaches soon.
pub(crate) fn limits() -> MqttLimits {
    MqttLimits {
        connect_timeout: std::time::Duration::from_millis(300),
        packet_bytes: 16 << 10,
        messages_in_flight: 2000,
        settle: std::time::Duration::from_secs(2),
        ..MqttLimits::default()
    }
}

/// Tells two frames of consultation 7, which is of p1, and of 8, which is of p2; knows no other.
#[derive(Debug)]
struct Told;

#[async_trait::async_trait]
impl ingest::mqtt::Consultations for Told {
    async fn follow(&self, id: &schemas::ids::ConsultationId) -> Option<ingest::mqtt::Followed> {
        let patient = match id.as_str() {
            "7" => "p1",
            "8" => "p2",
            _ => return None,
        };
        let (sender, frames) = tokio::sync::mpsc::channel(2);
        for n in 1..=2 {
            sender
                .try_send(format!(r#"{{"consultation":"{id}","n":{n}}}"#))
                .unwrap();
        }
        Some(ingest::mqtt::Followed {
            patient: PatientId::new(patient).unwrap(),
            frames,
        })
    }
}

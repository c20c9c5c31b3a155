//! A whole house in a test: embedded log and views in folders of their own, projected as in the real one, processors
//! played by hand.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use bytes::Bytes;
use eventlog::embedded::Embedded;
use eventlog::follow::{Follower, Follows};
use eventlog::{Append, Clock, EventLog, ManualClock, Offset, Output, Topic, Work, Workspace};
use projections::embedded::EmbeddedViews;
use projections::runner::{self, ProgressBoard};
use schemas::access::{self, Authenticate, Principal, Refused, Revocations, Role};
use schemas::codec::{self, Catalogue};
use schemas::derived::{Derived, Origin, Outcome};
use schemas::facts::{
    AlertChange, AlertChanged, AlertClass, AlertState, ConsultationPlanned, DeviceChanged, Door, Liveness, Reading,
    SensorState, Severity, TokensRevoked, WindowRevised, WindowSize, WindowStatus,
};
use schemas::ids::{AlertId, ConsultationId, EventId, Key, PatientId, SensorId, StaffId};
use schemas::journal::{ClockQuality, Envelope, Fact};
use schemas::metric::Metric;
use schemas::partition;
use schemas::registry::{Record, Register};
use schemas::time::{Span, Timestamp};
use serde_json::Value;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::care::CareTeams;
use crate::operations::{Operations, Stats};
use crate::registry::Registry;
use crate::revoked::Revoked;
use crate::state::{Parts, State};
use crate::token::{Keys, id_of, issue};

pub(crate) const PARTITIONS: u16 = 2;
pub(crate) const NOW: Timestamp = Timestamp(1_795_000_000_000_000);
const DERIVED: [(Topic, &str); 4] = [
    (Topic::Windows, "windows"),
    (Topic::Alerts, "alerts"),
    (Topic::Devices, "devices"),
    (Topic::Consultations, "consultations"),
];

struct Quiet;

impl Operations for Quiet {
    fn unready(&self) -> Vec<String> {
        Vec::new()
    }
    fn stats(&self) -> Stats {
        Stats::default()
    }
    fn metrics(&self) -> String {
        "fajma_up 1\n".to_owned()
    }
}

/// Good tokens, with what is registered and what was revoked.
struct Admission {
    keys: Arc<Keys>,
    teams: Arc<CareTeams>,
    revoked: Arc<Revoked>,
}

impl Authenticate for Admission {
    fn authenticate(&self, token: &str, now: Timestamp) -> Result<Principal, Refused> {
        self.authenticate_until(token, now).map(|(principal, _)| principal)
    }

    fn authenticate_until(&self, token: &str, now: Timestamp) -> Result<(Principal, Timestamp), Refused> {
        let (mut principal, until) = self.keys.verify(token, now)?;
        principal.live = principal
            .live
            .with_teams(Arc::clone(&self.teams) as Arc<dyn access::CareTeams>)
            .with_revocations(Arc::clone(&self.revoked) as Arc<dyn Revocations>);
        if principal.is_revoked() {
            return Err(Refused);
        }
        Ok((principal, until))
    }
}

pub(crate) struct House {
    _folder: tempfile::TempDir,
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) keys: Arc<Keys>,
    pub(crate) state: Arc<State>,
    board: Arc<ProgressBoard>,
    /// Reads who cares for whom and what was revoked, when [it is asked to](Self::known).
    follower: Arc<Follower>,
    shutdown: CancellationToken,
    places: Mutex<BTreeMap<(Topic, u16), Box<dyn Workspace>>>,
    count: AtomicI64,
    /// Made once: it takes longer than what is asked of it.
    asked: OnceLock<Router>,
}

impl Drop for House {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

pub(crate) fn patient(id: &str) -> PatientId {
    PatientId::new(id).unwrap()
}

pub(crate) fn alert_id(name: &str) -> AlertId {
    EventId::of("test", &[name.as_bytes()])
}

fn framed(write: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut bytes = Vec::new();
    write(&mut bytes);
    bytes.into()
}

impl House {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(NOW));
        let options = eventlog::embedded::Options {
            partitions: PARTITIONS,
            ..Default::default()
        };
        let at = Arc::clone(&clock) as Arc<dyn Clock>;
        let log: Arc<dyn EventLog> = Embedded::open(&folder.path().join("log"), options, at).unwrap();
        let views = EmbeddedViews::open(&folder.path().join("views"), Default::default()).unwrap();
        let shutdown = CancellationToken::new();
        let following = runner::Options::default();
        let board = Arc::clone(&following.board);
        let views: Arc<dyn projections::store::ViewStore> = views;
        tokio::spawn(runner::run(
            Arc::clone(&log),
            Arc::clone(&views),
            following,
            shutdown.clone(),
        ));
        let mut places = BTreeMap::new();
        for (topic, name) in DERIVED {
            for partition in 0..PARTITIONS {
                places.insert((topic, partition), log.claim(name, topic, partition).await.unwrap());
            }
        }
        let keys = Arc::new(Keys::ephemeral().unwrap());
        let admission = Admission {
            keys: Arc::clone(&keys),
            teams: CareTeams::new(Arc::clone(&clock) as Arc<dyn Clock>),
            revoked: Arc::default(),
        };
        let readers: Vec<Arc<dyn Follows>> =
            vec![Arc::clone(&admission.teams) as _, Arc::clone(&admission.revoked) as _];
        let follower = Follower::new(Arc::clone(&log), readers);
        let state = State::new(Parts {
            log: Arc::clone(&log),
            registry: Registry::new(
                Arc::clone(&log),
                Arc::clone(&views),
                Arc::clone(&clock) as Arc<_>,
                false,
            ),
            views,
            board: Some(Arc::clone(&board)),
            catalogue: Arc::new(Catalogue::builtin()),
            keys: Arc::clone(&keys),
            authenticate: Arc::new(admission),
            clock: Arc::clone(&clock) as Arc<_>,
            operations: Arc::new(Quiet),
            doors: Arc::new(crate::doors::NoDoors),
            shutdown: shutdown.clone(),
        });
        Self {
            _folder: folder,
            log,
            clock,
            keys,
            state,
            board,
            follower,
            shutdown,
            places: Mutex::new(places),
            count: AtomicI64::new(0),
            asked: OnceLock::new(),
        }
    }

    pub(crate) fn app(&self) -> Router {
        crate::with_common_layers(crate::router(Arc::clone(&self.state)))
    }

    /// Somebody of this role, who has to do with these patients.
    pub(crate) fn token(&self, role: Role, patients: &[&str], lifetime: Span) -> String {
        let principal = Principal {
            live: schemas::access::Live::default(),
            subject: role.as_str().into(),
            role,
            patients: patients.iter().map(|p| patient(p)).collect(),
            sensors: Vec::new(),
        };
        issue(&self.keys, &principal, lifetime, self.clock.now()).unwrap()
    }

    /// A token is taken back.
    pub(crate) async fn revoked(&self, token: &str) {
        let fact = Fact::TokensRevoked(TokensRevoked {
            token: id_of(token).map(Into::into),
            subject: None,
            by: "admin".into(),
        });
        let append = crate::command::append(Key::Nobody, fact, self.clock.now(), PARTITIONS);
        self.log.append(Topic::Journal, vec![append]).await.unwrap();
    }

    /// What is registered and what was revoked counts.
    pub(crate) async fn known(&self) {
        self.follower.catch_up().await.unwrap();
    }

    pub(crate) fn partition(id: &str) -> u16 {
        partition::of_bytes(id.as_bytes(), PARTITIONS)
    }

    pub(crate) async fn fact(&self, of: &str, at: Timestamp, fact: Fact) -> Offset {
        let envelope = Envelope {
            id: EventId::of("test", &[&self.count.fetch_add(1, Ordering::SeqCst).to_be_bytes()]),
            key: Key::Patient(patient(of)),
            measured_at: at,
            gateway_at: None,
            received_at: self.clock.now(),
            clock: ClockQuality::Device,
            cause: None,
            fact,
        };
        let append = Append {
            partition: Self::partition(of),
            key: Bytes::copy_from_slice(of.as_bytes()),
            value: framed(|out| codec::encode(&envelope, out)),
        };
        self.log.append(Topic::Journal, vec![append]).await.unwrap()[0]
    }

    /// A consultation, planned.
    pub(crate) async fn consultation(&self, of: &str, id: &str) {
        let planned = ConsultationPlanned {
            consultation_id: ConsultationId::new(id).unwrap(),
            practitioner_id: StaffId::new("doctor").unwrap(),
            planned_for: None,
            by: "admin".into(),
        };
        self.fact(of, self.clock.now(), Fact::ConsultationPlanned(planned))
            .await;
    }

    /// A registration, as its first revision.
    pub(crate) async fn registered(&self, register: Register, id: &str, fields: Value) {
        let record = Record::from_json(register, fields.as_object().unwrap(), NOW).unwrap();
        let key = register.key(id).unwrap();
        let append = crate::command::append(key, record.recorded(1, false, "admin".into()), NOW, PARTITIONS);
        self.log.append(Topic::Journal, vec![append]).await.unwrap();
    }

    pub(crate) async fn reading(&self, of: &str, sensor: &str, value: f64, at: Timestamp) -> Offset {
        let reading = Reading {
            sensor_id: SensorId::new(sensor).unwrap(),
            metric: Metric::HeartRate,
            value,
            sent: None,
            quality: Some(97),
            contact: None,
            seq: None,
            epoch: None,
            samples: None,
            marks: Vec::new(),
            door: Door::Http,
        };
        self.fact(of, at, Fact::Reading(reading)).await
    }

    /// Plays the processor of `topic`: one conclusion about a patient.
    pub(crate) async fn conclude(&self, of: &str, topic: Topic, outcome: Outcome) {
        let partition = Self::partition(of);
        let origin = Origin {
            incarnation: self.log.layout().incarnation,
            offset: self.count.fetch_add(1, Ordering::SeqCst),
            key: of.into(),
            n: 0,
        };
        let derived = Derived {
            id: Derived::id_of("test", 1, &origin),
            key: Key::Patient(patient(of)),
            origin: origin.clone(),
            recorded_at: self.clock.now(),
            outcome,
        };
        let output = Output {
            origin,
            key: Bytes::copy_from_slice(of.as_bytes()),
            value: framed(|out| codec::encode_derived(&derived, out)),
        };
        self.commit(topic, partition, vec![output]).await;
    }

    async fn commit(&self, topic: Topic, partition: u16, outputs: Vec<Output>) {
        let reached = self.log.bounds(Topic::Journal, partition).await.unwrap().end;
        let work = Work {
            outputs,
            reached,
            checkpoint: None,
        };
        let mut places = self.places.lock().await;
        places.get_mut(&(topic, partition)).unwrap().commit(work).await.unwrap();
    }

    pub(crate) async fn alert(&self, of: &str, name: &str, state: AlertState) {
        let alert = Outcome::Alert(Self::raised(name, state));
        self.conclude(of, Topic::Alerts, alert).await;
    }

    /// An alert as it was raised.
    pub(crate) fn raised(name: &str, state: AlertState) -> AlertChanged {
        AlertChanged {
            alert_id: alert_id(name),
            change: AlertChange::Raised,
            sensor_id: Some(SensorId::new("s1").unwrap()),
            metric: Some(Metric::HeartRate),
            rule: "heart_rate_high".into(),
            subject: "subject".into(),
            class: AlertClass::Clinical,
            severity: Severity::Critical,
            state,
            retrospective: false,
            message: "Heart rate 140 /min".into(),
            message_fr: "Fréquence cardiaque 140 /min".into(),
            value: Some(140.0),
            limit: Some(131.0),
            started_at: NOW,
            raised_at: NOW,
            acknowledged_at: None,
            acknowledged_by: None,
            resolved_at: None,
            by: None,
            text: None,
            until: None,
        }
    }

    pub(crate) async fn window(&self, of: &str, revision: i32) {
        let window = WindowRevised {
            sensor_id: SensorId::new("s1").unwrap(),
            metric: Metric::HeartRate,
            size: WindowSize::Minute,
            start: NOW.floor(Span::minutes(1)),
            end: NOW.floor(Span::minutes(1)) + Span::minutes(1),
            revision,
            status: WindowStatus::Open,
            count: 1,
            min: 72.0,
            max: 72.0,
            mean: 72.0,
            sd: 0.0,
            first: 72.0,
            last: 72.0,
            quality: Some(97.0),
            coverage: None,
        };
        self.conclude(of, Topic::Windows, Outcome::Window(window)).await;
    }

    pub(crate) async fn device(&self, of: &str, sensor: &str) {
        let device = DeviceChanged {
            sensor_id: SensorId::new(sensor).unwrap(),
            liveness: Liveness::Online,
            since: NOW,
            state: Some(SensorState::Active),
            battery: Some(80.0),
            firmware: Some("1.2.0".into()),
            rssi: Some(-70.0),
            lat: Some(14.7),
            lng: Some(-17.4),
            last_heard: NOW,
            expected_every: Some(Span::seconds(30)),
        };
        self.conclude(of, Topic::Devices, Outcome::Device(device)).await;
    }

    /// Every processor has come to the journal's end.
    pub(crate) async fn processed(&self) {
        for (topic, _) in DERIVED {
            for partition in 0..PARTITIONS {
                self.commit(topic, partition, Vec::new()).await;
            }
        }
    }

    /// The views show everything that the log holds.
    pub(crate) async fn settled(&self) {
        let all = async {
            while self
                .board
                .lag(&*self.log)
                .await
                .unwrap()
                .iter()
                .any(|lag| lag.records() > 0)
            {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), all)
            .await
            .expect("the views follow");
    }

    pub(crate) async fn ask(&self, request: Request<Body>) -> (StatusCode, HeaderMap, Value) {
        let app = self.asked.get_or_init(|| self.app()).clone();
        let response = app.oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, 10 << 20).await.unwrap();
        (
            head.status,
            head.headers,
            serde_json::from_slice(&bytes).unwrap_or(Value::Null),
        )
    }

    pub(crate) async fn get(&self, path: &str, token: &str) -> (StatusCode, Value) {
        let (status, _, body) = self.ask(request("GET", path, token, None)).await;
        (status, body)
    }
}

/// A request with a bearer token (none where it is empty) and a JSON body.
pub(crate) fn request(method: &str, path: &str, token: &str, body: Option<&str>) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    if !token.is_empty() {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    if body.is_some() {
        request = request.header("content-type", "application/json");
    }
    request
        .body(body.map_or_else(Body::empty, |b| Body::from(b.to_owned())))
        .unwrap()
}

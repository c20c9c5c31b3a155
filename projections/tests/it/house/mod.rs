//! Facts of a small house, for tests.

#[cfg(feature = "engine-tests")]
pub(crate) mod database;

use std::sync::Arc;

use projections::embedded::{EmbeddedViews, Options};
use projections::store::{Change, ViewStore};
use projections::views;
use schemas::derived::{Derived, Origin, Outcome};
use schemas::facts::{
    AlertChange, AlertChanged, AlertClass, AlertState, DeviceChanged, Door, Liveness, Reading, Severity, WindowRevised,
    WindowSize, WindowStatus,
};
use schemas::ids::{EventId, Key, SensorId};
use schemas::journal::{ClockQuality, Envelope, Fact, Recorded};
use schemas::metric::Metric;
use schemas::refused::{Code, Rejection};
use schemas::time::{Span, Timestamp};
use smol_str::{SmolStr, format_smolstr};

pub(crate) const INCARNATION: EventId = EventId([9; 16]);

/// 2026-01-05T08:00:00Z and so many seconds.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::parse("2026-01-05T08:00:00Z").unwrap() + Span::seconds(seconds)
}

/// A folder of views that goes away with the test; with `FAJMA_TEST_CQL=host:port` a keyspace of that database.
pub(crate) struct Views {
    pub(crate) store: Arc<dyn ViewStore>,
    _folder: Option<tempfile::TempDir>,
}

impl Views {
    pub(crate) async fn new() -> Self {
        #[cfg(feature = "engine-tests")]
        if std::env::var_os("FAJMA_TEST_CQL").is_some() {
            let (store, _folder) = (database::views().await as Arc<dyn ViewStore>, None);
            return Self { store, _folder };
        }
        Self::embedded()
    }

    pub(crate) fn embedded() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            store: EmbeddedViews::open(folder.path(), Options::default()).unwrap(),
            _folder: Some(folder),
        }
    }

    pub(crate) async fn facts(&self, facts: &[Recorded]) {
        let mut changes = Vec::new();
        facts.iter().for_each(|fact| views::project_fact(fact, &mut changes));
        self.apply(&changes).await;
    }

    pub(crate) async fn derived(&self, derived: &[Derived]) {
        let mut changes = Vec::new();
        derived.iter().for_each(|d| views::project_derived(d, &mut changes));
        self.apply(&changes).await;
    }

    pub(crate) async fn rejected(&self, rejections: &[Rejection]) {
        let mut changes = Vec::new();
        rejections
            .iter()
            .for_each(|r| views::project_rejection(r, &mut changes));
        self.apply(&changes).await;
    }

    async fn apply(&self, changes: &[Change]) {
        self.store.apply(changes, None).await.unwrap();
    }
}

pub(crate) fn envelope(key: &str, measured: Timestamp, received: Timestamp, fact: Fact) -> Envelope {
    let parts = format!("{key} {measured} {fact:?}");
    Envelope {
        id: EventId::of("test", &[parts.as_bytes()]),
        key: Key::parse(key).unwrap(),
        measured_at: measured,
        gateway_at: None,
        received_at: received,
        clock: ClockQuality::Device,
        cause: None,
        fact,
    }
}

pub(crate) fn recorded(offset: i64, envelope: Envelope) -> Recorded {
    Recorded {
        offset,
        appended_at: envelope.received_at,
        envelope,
    }
}

pub(crate) fn reading(sensor: &str, metric: Metric, value: f64) -> Reading {
    Reading {
        sensor_id: SensorId::new(sensor).unwrap(),
        metric,
        value,
        sent: None,
        quality: Some(97),
        contact: None,
        seq: Some(1),
        epoch: None,
        samples: None,
        marks: Vec::new(),
        door: Door::Mqtt,
    }
}

/// A reading of a patient, received when it was measured.
pub(crate) fn measured(key: &str, sensor: &str, metric: Metric, second: i64, value: f64) -> Recorded {
    recorded(
        second,
        envelope(
            key,
            at(second),
            at(second),
            Fact::Reading(reading(sensor, metric, value)),
        ),
    )
}

fn derived(key: &str, offset: i64, n: i32, outcome: Outcome) -> Derived {
    let origin = Origin {
        incarnation: INCARNATION,
        offset,
        key: SmolStr::new(key),
        n,
    };
    let id = Derived::id_of("test", 1, &origin);
    Derived {
        id,
        key: Key::parse(key).unwrap(),
        origin,
        recorded_at: at(offset),
        outcome,
    }
}

pub(crate) fn window(key: &str, size: WindowSize, start: Timestamp, revision: i32, count: i64, mean: f64) -> Derived {
    let window = WindowRevised {
        sensor_id: SensorId::new("s1").unwrap(),
        metric: Metric::HeartRate,
        size,
        start,
        end: start + size.span(),
        revision,
        status: WindowStatus::Complete,
        count,
        min: mean - 1.0,
        max: mean + 1.0,
        mean,
        sd: 0.5,
        first: mean,
        last: mean,
        quality: None,
        coverage: Some(1.0),
    };
    derived(key, i64::from(revision), 0, Outcome::Window(window))
}

/// An alert of a patient that was raised at a second and changed at an offset.
pub(crate) fn alert(key: &str, name: &str, raised: i64, offset: i64, state: AlertState, severity: Severity) -> Derived {
    let change = match state {
        AlertState::Open => AlertChange::Raised,
        AlertState::Acknowledged => AlertChange::Acknowledged,
        AlertState::Snoozed => AlertChange::Snoozed,
        AlertState::Resolved => AlertChange::Resolved,
        AlertState::Withdrawn => AlertChange::Withdrawn,
    };
    let alert = AlertChanged {
        alert_id: alert_id(name),
        change,
        sensor_id: Some(SensorId::new("s1").unwrap()),
        metric: Some(Metric::HeartRate),
        rule: "heart_rate_high".into(),
        subject: format_smolstr!("{key}/heart_rate_high"),
        class: AlertClass::Clinical,
        severity,
        state,
        retrospective: false,
        message: "Heart rate 140".into(),
        message_fr: "Fréquence cardiaque 140".into(),
        value: Some(140.0),
        limit: Some(131.0),
        started_at: at(raised - 10),
        raised_at: at(raised),
        acknowledged_at: None,
        acknowledged_by: None,
        resolved_at: None,
        by: None,
        text: None,
        until: None,
    };
    derived(key, offset, 0, Outcome::Alert(alert))
}

pub(crate) fn alert_id(name: &str) -> EventId {
    EventId::of("alert", &[name.as_bytes()])
}

/// A sensor as heard with a subject.
pub(crate) fn device(key: &str, sensor: &str, offset: i64, heard: i64, liveness: Liveness) -> Derived {
    let device = DeviceChanged {
        sensor_id: SensorId::new(sensor).unwrap(),
        liveness,
        since: at(heard),
        state: None,
        battery: Some(80.0),
        firmware: Some("1.2.0".into()),
        rssi: None,
        lat: None,
        lng: None,
        last_heard: at(heard),
        expected_every: Some(Span::seconds(30)),
    };
    derived(key, offset, 0, Outcome::Device(device))
}

pub(crate) fn rejection(second: i64, sensor: Option<&str>) -> Rejection {
    Rejection {
        id: EventId::of("rejection", &[&second.to_be_bytes()]),
        received_at: at(second),
        door: Door::Http,
        patient_id: None,
        sensor_id: sensor.map(SmolStr::new),
        code: Code::UnknownUnit,
        field: Some("unit".into()),
        detail: "no such unit".into(),
        detail_fr: "unité inconnue".into(),
        index: 0,
        bytes: bytes::Bytes::from(vec![7; 2_000]),
        content_type: None,
    }
}

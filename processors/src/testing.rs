//! Journals for tests, and the ways to run them: at once, cut, restarted, restored from mixed checkpoints.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use eventlog::{Checkpoint, LogError, Offset, Output, Shelf, Stored};
use schemas::codec::{self, Catalogue};
use schemas::derived::Derived;
use schemas::facts::{
    AlarmCode, ClockTicked, ConsultationClosed, ConsultationOpened, DeviceAlarm, Door, PolicyChanged,
    ProcessorActivated, Reading, SensorAttached, SensorDetached, SensorState, SensorStatus, TickedBy,
};
use schemas::ids::{ConsultationId, EventId, Key, SensorId};
use schemas::journal::{ClockQuality, Envelope, Fact, Recorded};
use schemas::metric::Metric;
use schemas::policy::Policy;
use schemas::time::{Span, Timestamp};
use smol_str::SmolStr;

use crate::engine::erased::{AnyTask, Kind};
use crate::engine::task::{Decided, Place, Stop};

/// The journal of tests.
pub const INCARNATION: EventId = EventId([7; 16]);
/// When tests begin: 2026-01-05T08:00:00Z.
pub const START: Timestamp = Timestamp(1_767_600_000_000_000);

/// A journal partition being told, fact by fact. Moments are given from [`START`] on.
#[derive(Debug, Clone, Default)]
pub struct Journal {
    /// What was told so far.
    pub records: Vec<Recorded>,
    now: Timestamp,
}

impl Journal {
    /// A journal in which the standard policy is in force, every processor speaks, and the first tick has been given.
    #[must_use]
    pub fn start() -> Self {
        Self::under(Policy::standard())
    }

    /// The same under another policy.
    #[must_use]
    pub fn under(policy: Policy) -> Self {
        let mut journal = Self {
            records: Vec::new(),
            now: START,
        };
        journal.server(
            Key::Nobody,
            Fact::PolicyChanged(PolicyChanged {
                policy,
                by: SmolStr::new("test"),
            }),
        );
        for kind in crate::all() {
            let (name, version) = (SmolStr::new(kind.name), kind.version);
            journal.server(
                Key::Nobody,
                Fact::ProcessorActivated(ProcessorActivated { name, version }),
            );
        }
        journal.tick(Span::ZERO);
        journal
    }

    /// Records a fact that happened at a moment; it reaches the door now.
    pub fn put(&mut self, key: Key, at: Timestamp, fact: Fact) -> &mut Self {
        let mut content = format!("{key:?}{at:?}").into_bytes();
        content.extend_from_slice(format!("{fact:?}").as_bytes());
        let envelope = Envelope {
            id: EventId::of("test", &[&content]),
            key,
            measured_at: at,
            gateway_at: None,
            received_at: self.now,
            clock: ClockQuality::Device,
            cause: None,
            fact,
        };
        self.again(envelope)
    }

    /// Records a fact of the house, now.
    pub fn server(&mut self, key: Key, fact: Fact) -> &mut Self {
        self.put(key, self.now, fact)
    }

    /// Records an envelope as it is.
    pub fn again(&mut self, envelope: Envelope) -> &mut Self {
        self.records.push(Recorded {
            offset: self.records.len() as i64,
            appended_at: self.now,
            envelope,
        });
        self
    }

    /// A tick of a door.
    pub fn tick(&mut self, at: Span) -> &mut Self {
        self.ticked(at, TickedBy::Ingest)
    }

    /// A tick.
    pub fn ticked(&mut self, at: Span, by: TickedBy) -> &mut Self {
        self.now = self.now.max(START + at);
        self.put(Key::Nobody, START + at, Fact::ClockTicked(ClockTicked { by }))
    }

    /// Ticks of a door, one a second, up to and with a moment.
    pub fn ticks(&mut self, from: i64, to: i64) -> &mut Self {
        for second in from..=to {
            self.tick(Span::seconds(second));
        }
        self
    }

    /// A reading with quality 97.
    pub fn reading(&mut self, patient: &str, sensor: &str, metric: Metric, at: Span, value: f64) -> &mut Self {
        self.with(patient, sensor, metric, at, value, |_| {})
    }

    /// A reading that is changed before it is recorded.
    pub fn with(
        &mut self,
        patient: &str,
        sensor: &str,
        metric: Metric,
        at: Span,
        value: f64,
        change: impl FnOnce(&mut Reading),
    ) -> &mut Self {
        let mut reading = Reading {
            sensor_id: sensor_id(sensor),
            metric,
            value,
            sent: None,
            quality: Some(97),
            contact: None,
            seq: None,
            epoch: None,
            samples: None,
            marks: Vec::new(),
            door: Door::Mqtt,
        };
        change(&mut reading);
        self.put(key(patient), START + at, Fact::Reading(reading))
    }

    /// An alarm of the device itself.
    pub fn alarm(&mut self, patient: &str, sensor: &str, at: Span, code: AlarmCode) -> &mut Self {
        let alarm = DeviceAlarm {
            sensor_id: sensor_id(sensor),
            code,
            seq: None,
            epoch: None,
            door: Door::Mqtt,
        };
        self.put(key(patient), START + at, Fact::DeviceAlarm(alarm))
    }

    /// A patient's journal is told that a sensor is on the patient from a moment on, and how often it is expected; who
    /// wears what is told in the order of the records.
    pub fn attached(&mut self, patient: &str, sensor: &str, from: Span, expected_every: Option<Span>) -> &mut Self {
        let told = SensorAttached {
            sensor_id: sensor_id(sensor),
            from: START + from,
            until: None,
            order: self.records.len() as i64,
            expected_every,
            zone: None,
        };
        self.server(key(patient), Fact::SensorAttached(told))
    }

    /// The same, that it is on the patient no more.
    pub fn detached(&mut self, patient: &str, sensor: &str, from: Span) -> &mut Self {
        let told = SensorDetached {
            sensor_id: sensor_id(sensor),
            from: START + from,
            until: None,
            order: self.records.len() as i64,
        };
        self.server(key(patient), Fact::SensorDetached(told))
    }

    /// Somebody says later whose the record before was.
    pub fn reattributed(&mut self) -> &mut Self {
        if let Some(last) = self.records.last_mut() {
            last.envelope.cause = Some(EventId::of("test.command", &[&last.offset.to_be_bytes()]));
        }
        self
    }

    /// Somebody opens a consultation, now.
    pub fn open(&mut self, patient: &str, consultation: &str) -> &mut Self {
        let opened = ConsultationOpened {
            consultation_id: consultation_id(consultation),
            by: SmolStr::new("test"),
        };
        self.server(key(patient), Fact::ConsultationOpened(opened))
    }

    /// Somebody closes a consultation, now.
    pub fn close(&mut self, patient: &str, consultation: &str, opened_at: Span) -> &mut Self {
        let closed = ConsultationClosed {
            consultation_id: consultation_id(consultation),
            opened_at: START + opened_at,
            by: SmolStr::new("test"),
        };
        self.server(key(patient), Fact::ConsultationClosed(closed))
    }

    /// A status message.
    pub fn status(
        &mut self,
        patient: &str,
        sensor: &str,
        at: Span,
        state: SensorState,
        battery: Option<f64>,
    ) -> &mut Self {
        let status = SensorStatus {
            sensor_id: sensor_id(sensor),
            state,
            battery,
            firmware: Some(SmolStr::new("1.2.0")),
            rssi: None,
            lat: None,
            lng: None,
            last_will: false,
            command_id: None,
            result: None,
            door: Door::Mqtt,
        };
        self.put(key(patient), START + at, Fact::SensorStatus(status))
    }
}

/// A key from its text; nobody where it is none.
#[must_use]
pub fn key(text: &str) -> Key {
    Key::parse(text).unwrap_or(Key::Nobody)
}

/// A sensor of this name.
///
/// # Panics
/// Where it is no name of a sensor.
#[must_use]
#[expect(
    clippy::expect_used,
    reason = "a test that names no sensor is wrong and should say so"
)]
pub fn sensor_id(text: &str) -> SensorId {
    SensorId::new(text).expect("a sensor's id")
}

#[expect(
    clippy::expect_used,
    reason = "a test that names no consultation is wrong and should say so"
)]
fn consultation_id(text: &str) -> ConsultationId {
    ConsultationId::new(text).expect("a consultation's id")
}

/// A derived record from its output.
///
/// # Panics
/// Where the bytes are none.
#[must_use]
#[expect(clippy::expect_used, reason = "only tests call it")]
pub fn decode(output: &Output) -> Derived {
    codec::decode_derived(&output.value, &Catalogue::builtin())
        .expect("a derived record")
        .expect("a kind that is known")
}

/// A shelf in memory that remembers every checkpoint, so that any mixture of them can be restored.
#[derive(Debug, Clone, Default)]
pub struct MemoryShelf {
    inner: Arc<Mutex<Versions>>,
}

/// Every version of every state, oldest first.
pub type Versions = BTreeMap<SmolStr, Vec<Stored>>;

impl MemoryShelf {
    /// A shelf with the last of these versions on it.
    #[must_use]
    pub fn of(versions: Versions) -> Self {
        Self {
            inner: Arc::new(Mutex::new(versions)),
        }
    }

    /// Takes a checkpoint's states.
    pub fn save(&self, checkpoint: &Checkpoint) {
        let mut versions = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, stored) in &checkpoint.states {
            versions.entry(key.clone()).or_default().push(stored.clone());
        }
    }

    /// Everything ever saved.
    #[must_use]
    pub fn versions(&self) -> Versions {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Shelf for MemoryShelf {
    fn get(&self, key: &str) -> Result<Option<Stored>, LogError> {
        let versions = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(versions.get(key).and_then(|all| all.last().cloned()))
    }

    fn visit(&self, each: &mut dyn FnMut(&str, Stored)) -> Result<(), LogError> {
        for (key, all) in self.versions() {
            if let Some(stored) = all.last() {
                each(&key, stored.clone());
            }
        }
        Ok(())
    }

    fn visit_range(&self, from: &str, to: &str, each: &mut dyn FnMut(&str, Stored)) -> Result<(), LogError> {
        let versions = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let bounds = (Bound::Included(from), Bound::Excluded(to));
        let range = versions.range::<str, _>(bounds).filter(|_| from < to);
        let found: Vec<_> = range
            .filter_map(|(key, all)| all.last().map(|stored| (key.clone(), stored.clone())))
            .collect();
        drop(versions);
        found.into_iter().for_each(|(key, stored)| each(&key, stored));
        Ok(())
    }
}

/// A place at the journal's start.
#[must_use]
pub fn fresh(shelf: MemoryShelf) -> Place {
    Place {
        partition: 0,
        incarnation: INCARNATION,
        position: 0,
        context: Bytes::new(),
        shelf: Arc::new(shelf),
        last_origin: None,
        decided: Decided::default(),
        budget: usize::MAX,
    }
}

/// Handles all records from the task's position on; every forced checkpoint goes to `shelf`.
///
/// # Errors
/// As the task's.
pub fn run(task: &mut dyn AnyTask, shelf: &MemoryShelf, records: &[Recorded]) -> Result<Vec<Output>, Stop> {
    let mut outputs = Vec::new();
    let end: Offset = records.last().map_or(0, |last| last.offset + 1);
    while task.position() < end {
        let work = task.handle(records)?;
        if let Some(checkpoint) = &work.checkpoint {
            shelf.save(checkpoint);
            task.saved();
        }
        outputs.extend(work.outputs);
    }
    Ok(outputs)
}

/// What a processor concludes from a journal, undisturbed.
///
/// # Panics
/// Where the journal stops it.
#[must_use]
#[expect(clippy::expect_used, reason = "only tests call it")]
pub fn conclusions(kind: &Kind, records: &[Recorded]) -> Vec<Output> {
    let shelf = MemoryShelf::default();
    let mut task = (kind.restore)(fresh(shelf.clone())).expect("a fresh start");
    run(&mut *task, &shelf, records).expect("a journal that can be judged")
}

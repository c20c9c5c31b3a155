//! How the running house is: readiness, traffic, lag, disk, metrics. What takes a look at the disk or the log is looked
//! up once a second by [`Running::observe`], so that asking costs nothing.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use api::{Disk, DoorTraffic, Lag, Operations, Stats};
use eventlog::{EventLog, Offset, Topic};
use ingest::Intake;
use ingest::clocks;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use processors::runner::{Board, State};
use projections::runner::ProgressBoard;
use projections::store::ViewStore;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::supervisor::Roles;
use crate::config;
use crate::house::House;
use crate::house::dir::DataDir;

/// Bounds of histograms in seconds: from a tenth of a millisecond to ten seconds.
const SECONDS: [f64; 16] = [
    0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0,
];
/// How often the directory's size is counted.
const COUNT_DISK_EVERY: u32 = 30;
/// How long the views' database may take to answer before that is said.
const VIEWS_ANSWER: Duration = Duration::from_secs(5);
/// A log that has not answered for so long is said to be away: those who use it are patient for longer.
const LOG_ANSWER: Duration = Duration::from_secs(8);

/// Where metrics are collected: one place per process, whoever asks first makes it.
pub fn recorder() -> PrometheusHandle {
    static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();
    let make = || {
        let builder = PrometheusBuilder::new();
        let builder = builder
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
            .unwrap_or_else(|_| PrometheusBuilder::new());
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        if metrics::set_global_recorder(recorder).is_err() {
            tracing::warn!("somebody else collects the metrics of this process");
        }
        handle
    };
    RECORDER.get_or_init(make).clone()
}

/// What is known about the running house.
pub struct Running {
    began: Instant,
    dir: DataDir,
    log: Arc<dyn EventLog>,
    roles: Arc<Roles>,
    processing: Board,
    projecting: Arc<ProgressBoard>,
    intake: Arc<Intake>,
    metrics: PrometheusHandle,
    /// Whether processors run here whatever others do.
    processes: bool,
    /// Why the views' database does not answer, where it is one and does not.
    views_away: Mutex<Option<String>>,
    observed: Mutex<Observed>,
    pulse: Mutex<Pulse>,
}

/// Whether the log takes what is written: ticks come every second.
#[derive(Debug)]
struct Pulse {
    end: Offset,
    moved: Instant,
}

impl Pulse {
    fn begin() -> Self {
        Self {
            end: -1,
            moved: Instant::now(),
        }
    }

    /// Where the log ends now; an answer that it cannot write is an answer.
    fn look(&mut self, end: Offset, says_why_not: bool) {
        if end != self.end || says_why_not {
            (self.end, self.moved) = (end, Instant::now());
        }
    }
}

#[derive(Debug, Default)]
struct Observed {
    lag: Vec<Lag>,
    disk: Option<Disk>,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

impl Running {
    pub(super) fn new(
        house: &House,
        roles: Arc<Roles>,
        processing: Board,
        projecting: Arc<ProgressBoard>,
        intake: Arc<Intake>,
        (metrics, processes): (PrometheusHandle, bool),
    ) -> Self {
        Self {
            began: Instant::now(),
            dir: house.dir.clone(),
            log: Arc::clone(&house.log),
            roles,
            processing,
            projecting,
            intake,
            metrics,
            processes,
            views_away: Mutex::default(),
            observed: Mutex::default(),
            pulse: Mutex::new(Pulse::begin()),
        }
    }

    fn observed(&self) -> MutexGuard<'_, Observed> {
        self.observed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the service manager should start the whole program again, where it should.
    #[must_use]
    pub fn stuck(&self, options: &config::Supervisor) -> Option<String> {
        let still = self
            .pulse
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .moved
            .elapsed();
        if still >= options.stalled_after.0 {
            return Some(format!("the log has taken no tick for {} s", still.as_secs()));
        }
        self.roles.hopeless(options)
    }

    /// Asks the views' database once a second whether it answers.
    pub(super) async fn reach_views(&self, store: &dyn ViewStore) {
        let mut second = tokio::time::interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            second.tick().await;
            let away = match timeout(VIEWS_ANSWER, store.progress(Topic::Journal, 0)).await {
                Ok(Ok(_)) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some(format!("no answer in {} s", VIEWS_ANSWER.as_secs())),
            };
            *self.views_away.lock().unwrap_or_else(PoisonError::into_inner) = away;
        }
    }

    async fn feel(&self) -> Result<(), String> {
        let bounds = self.log.bounds(Topic::Journal, 0).await.map_err(|e| e.to_string())?;
        let tasks = self.processing.snapshot();
        let says = tasks
            .values()
            .any(|status| matches!(status.state, State::Retrying { .. }));
        self.pulse
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .look(bounds.end, says);
        Ok(())
    }

    /// Looks once a second until `stop`.
    pub(super) async fn observe(&self, stop: CancellationToken) -> Result<(), String> {
        let mut second = tokio::time::interval(Duration::from_secs(1));
        let (mut beat, mut used) = (0_u32, 0);
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                _ = second.tick() => {}
            }
            if beat.is_multiple_of(COUNT_DISK_EVERY) {
                let dir = self.dir.clone();
                used = tokio::task::spawn_blocking(move || dir.used())
                    .await
                    .map_err(|e| e.to_string())?;
            }
            beat = beat.wrapping_add(1);
            let late = |_| format!("the log has not answered for {} s", LOG_ANSWER.as_secs());
            timeout(LOG_ANSWER, self.feel()).await.map_err(late)??;
            let lag = self.lag().await?;
            let disk = self.dir.room().ok().map(|room| Disk {
                used_bytes: used,
                free_bytes: room.free,
                total_bytes: room.total,
            });
            gauges(&lag, disk.as_ref());
            self.metrics.run_upkeep();
            *self.observed() = Observed { lag, disk };
        }
    }

    /// How far readers are behind, added up over partitions.
    async fn lag(&self) -> Result<Vec<Lag>, String> {
        let mut sums: Vec<Lag> = Vec::new();
        let mut add = |reader: &str, topic: Topic, records: u64| {
            let same = |lag: &&mut Lag| lag.reader == reader && lag.topic == topic.name();
            match sums.iter_mut().find(same) {
                Some(lag) => lag.records += records,
                None => sums.push(Lag {
                    reader: reader.to_owned(),
                    topic: topic.name().to_owned(),
                    records,
                }),
            }
        };
        for ((processor, _), status) in self.processing.snapshot() {
            add(processor, Topic::Journal, status.lag);
        }
        for lag in self.projecting.lag(&*self.log).await.map_err(|e| e.to_string())? {
            add("views", lag.topic, u64::try_from(lag.records()).unwrap_or(0));
        }
        Ok(sums)
    }
}

fn gauges(lag: &[Lag], disk: Option<&Disk>) {
    for lag in lag {
        metrics::gauge!("fajma_lag_records", "reader" => lag.reader.clone(), "topic" => lag.topic.clone())
            .set(lag.records as f64);
    }
    if let Some(disk) = disk {
        metrics::gauge!("fajma_disk_used_bytes").set(disk.used_bytes as f64);
        metrics::gauge!("fajma_disk_free_bytes").set(disk.free_bytes as f64);
    }
}

impl Operations for Running {
    fn unready(&self) -> Vec<String> {
        let mut unready = self.roles.down();
        let tasks = self.processing.snapshot();
        if tasks.is_empty() && self.processes {
            unready.push("processors are starting".to_owned());
        }
        for ((processor, partition), status) in tasks.iter().filter(|(_, status)| !status.is_well()) {
            let why = match &status.state {
                State::Starting => "starting".to_owned(),
                State::Retrying { reason } => format!("waits for the log: {reason}"),
                State::Stopped { offset, reason } => format!(
                    "stopped at offset {offset}: {reason}; a newer build may know it, or: fajma skip --processor \
                     {processor} --partition {partition} --offset {offset} --reason …"
                ),
                State::Failed { reason } => format!("failed: {reason}"),
                other => format!("{other:?}"),
            };
            unready.push(format!("{processor}/{partition}: {why}"));
        }
        for stopped in self.projecting.stopped() {
            let (topic, partition) = (stopped.topic.name(), stopped.partition);
            unready.push(format!("views of {topic}/{partition}: {}", stopped.reason));
        }
        let ahead = self.intake.clocks().apart(self.intake.clock().now());
        match (self.intake.hindrance(), ahead) {
            (Some(why), _) => unready.push(format!("{why}: nothing is taken until they agree; set the clock (NTP)")),
            (None, Some(ahead)) => unready.push(format!(
                "{}: no ticks from here until they agree; set the clock (NTP)",
                clocks::said(ahead)
            )),
            (None, None) => {}
        }
        if let Some(why) = &*self.views_away.lock().unwrap_or_else(PoisonError::into_inner) {
            unready.push(format!("the views' database does not answer, what is new waits: {why}"));
        }
        unready
    }

    fn stats(&self) -> Stats {
        let doors = self.intake.traffic().into_iter().map(|door| DoorTraffic {
            door: door.door.as_str().to_owned(),
            messages: door.messages,
            records: door.accepted + door.duplicates + door.rejected,
            bytes: door.bytes,
            accepted: door.accepted,
            duplicates: door.duplicates,
            rejected: door.rejected,
        });
        let observed = self.observed();
        Stats {
            uptime_s: self.began.elapsed().as_secs_f64(),
            doors: doors.collect(),
            lag: observed.lag.clone(),
            disk: observed.disk,
        }
    }

    fn metrics(&self) -> String {
        self.metrics.render()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_log_that_moves_or_says_why_not_is_alive() {
        let mut pulse = Pulse::begin();
        let second = async |pulse: &mut Pulse, end, says| {
            tokio::time::sleep(Duration::from_secs(1)).await;
            pulse.look(end, says);
            pulse.moved.elapsed().as_secs()
        };
        for (end, says, still) in [
            (5, false, 0),
            (6, false, 0),
            (6, false, 1),
            (6, false, 2),
            (6, true, 0),
            (7, false, 0),
        ] {
            assert_eq!(second(&mut pulse, end, says).await, still, "{end} {says}");
        }
    }
}

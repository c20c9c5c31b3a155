//! One watcher of the live stream.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use eventlog::{Limit, LogError, Offset, Partition, Topic};
use schemas::access::{Action, Principal};
use schemas::codec::DecodeError;
use schemas::ids::{Key, PatientId};
use schemas::partition;
use tokio::sync::mpsc::{Receiver, channel};
use tokio::time::{Duration, Instant, timeout_at};

use super::cursor::{self, Place, Places};
use super::held::Held;
use super::hub::{Delta, Hub, Inbox};
use super::item::{self, Item, List};

/// Deltas that wait for a slow client before it is sent to the log.
const WAITING: usize = 256;
/// Items in a frame, more or less.
const IN_A_FRAME: usize = 500;
/// How far back the last origin before a live start is looked for.
const LOOK_BACK: Offset = 256;
/// Records of one partition that a client may be behind; whoever is further behind asks the views first.
const FURTHEST_BEHIND: Offset = 1_000_000;

/// So long after its closing a consultation is told on: alerts that follow from what came before it are a little behind
/// the journal.
const GRACE: Duration = Duration::from_secs(1);

/// What is watched.
#[derive(Debug, Clone)]
pub(super) enum Scope {
    /// All about one patient.
    Patient(PatientId),
    /// All about the patient of a consultation, while it is open.
    Consultation(Held),
    /// The alerts of everybody whom this person may see.
    Alerts(Principal),
}

/// Why a stream cannot be begun or cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    /// The cursor is none of this stream's.
    #[error("the cursor is not one of this stream")]
    Cursor,
    /// The cursor is too old: ask for the state of things, and start anew.
    #[error("the cursor is too old")]
    TooOld,
    /// What was watched has ended, and all of it was told.
    #[error("the consultation is over")]
    Over,
    /// The log failed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A record cannot be read.
    #[error(transparent)]
    Record(#[from] DecodeError),
}

/// What is told at once. JSON of each item by list.
#[derive(Debug, Default)]
pub(super) struct Frame {
    readings: Vec<Arc<str>>,
    alerts: Vec<Arc<str>>,
    windows: Vec<Arc<str>>,
}

impl Frame {
    fn push(&mut self, item: &Item) {
        let list = match item.list {
            List::Readings => &mut self.readings,
            List::Alerts => &mut self.alerts,
            List::Windows => &mut self.windows,
            List::Opened | List::Closed => return,
        };
        list.push(Arc::clone(&item.json));
    }

    fn len(&self) -> usize {
        self.readings.len() + self.alerts.len() + self.windows.len()
    }

    /// The frame as it is sent.
    pub(super) fn json(&self, cursor: &str) -> String {
        let [readings, alerts, windows] = [&self.readings, &self.alerts, &self.windows].map(|list| list.join(","));
        format!(r#"{{"cursor":"{cursor}","sensor_data":[{readings}],"alerts":[{alerts}],"windows":[{windows}]}}"#)
    }
}

/// A watcher: its places in the log, and what it has yet to read there before its inbox is next.
#[derive(Debug)]
pub(super) struct Feed<'a> {
    hub: &'a Hub,
    scope: Scope,
    places: Places,
    /// Stretches of the log to be read first: up to (not including) the offset.
    behind: VecDeque<(Topic, Partition, Offset)>,
    inbox: Receiver<Arc<Delta>>,
    missed: Arc<AtomicBool>,
    /// Once the closing was told: until when what follows from before it is waited for.
    ends: Option<Instant>,
}

impl<'a> Feed<'a> {
    /// Begins at a cursor or, without one, with what comes from now on.
    ///
    /// # Errors
    /// [`Broken`].
    pub(super) async fn begin(hub: &'a Hub, scope: Scope, since: Option<&str>) -> Result<Self, Broken> {
        let layout = hub.log().layout();
        let wanted = wanted(&scope, layout.partitions);
        let places = match since {
            Some(since) => cursor::read(since, layout.incarnation, &wanted).ok_or(Broken::Cursor)?,
            None => Places::new(),
        };
        let mut feed = Self {
            hub,
            scope,
            places,
            behind: VecDeque::new(),
            inbox: channel(1).1,
            missed: Arc::default(),
            ends: None,
        };
        feed.join(&wanted).await?;
        Ok(feed)
    }

    /// The place to come back to.
    pub(super) fn cursor(&self) -> String {
        cursor::write(self.hub.log().layout().incarnation, &self.places)
    }

    /// Has everything told from now on; what lies between its places and now is `behind`.
    async fn join(&mut self, wanted: &[(Topic, Partition)]) -> Result<(), Broken> {
        let (sender, inbox) = channel(WAITING);
        let missed = Arc::new(AtomicBool::new(false));
        let mut behind = VecDeque::new();
        for (topic, partition) in wanted.iter().copied() {
            let inbox = Inbox {
                sender: sender.clone(),
                missed: Arc::clone(&missed),
            };
            let now = self.hub.join(topic, partition, self.watched(), inbox).await?;
            match self.places.get(&(topic, partition)) {
                Some(place) if place.next > now => return Err(Broken::Cursor),
                Some(place) if place.next < now - FURTHEST_BEHIND => return Err(Broken::TooOld),
                Some(place) if place.next == now => {}
                Some(_) => behind.push_back((topic, partition, now)),
                None => {
                    let place = self.place_at(topic, partition, now).await?;
                    self.places.insert((topic, partition), place);
                }
            }
        }
        (self.inbox, self.missed, self.behind) = (inbox, missed, behind);
        Ok(())
    }

    /// The place of somebody who starts at `now`: what they may see of the last records before it says which origins
    /// are no news.
    async fn place_at(&self, topic: Topic, partition: Partition, now: Offset) -> Result<Place, Broken> {
        let mut place = Place { next: now, last: None };
        if !topic.is_derived() {
            return Ok(place);
        }
        let start = self.hub.log().bounds(topic, partition).await?.start;
        let mut from = start.max(now - LOOK_BACK);
        while from < now {
            let batch = self.hub.log().read(topic, partition, from, Limit::default()).await?;
            for entry in batch.entries().iter().take_while(|e| e.offset < now) {
                if let Some(item) = self.visible(topic, entry)? {
                    place.accepts(item.origin.as_ref());
                }
            }
            let Some(next) = batch.next() else { break };
            from = next;
        }
        Ok(place)
    }

    fn watched(&self) -> Option<Bytes> {
        match &self.scope {
            Scope::Patient(patient) | Scope::Consultation(Held { patient, .. }) => {
                Some(Bytes::copy_from_slice(patient.as_str().as_bytes()))
            }
            Scope::Alerts(_) => None,
        }
    }

    /// Whether this watcher may see what is about this key.
    fn sees(&self, key: &Key) -> bool {
        match (&self.scope, key) {
            (Scope::Patient(own) | Scope::Consultation(Held { patient: own, .. }), Key::Patient(patient)) => {
                own == patient
            }
            (Scope::Patient(_) | Scope::Consultation(_), _) => false,
            (Scope::Alerts(who), Key::Patient(patient)) => who.may(Action::SeePatient(patient)),
            (Scope::Alerts(who), _) => who.may(Action::SeeAll),
        }
    }

    fn visible(&self, topic: Topic, entry: &eventlog::Entry) -> Result<Option<Item>, Broken> {
        if self.watched().is_some_and(|key| key != entry.key) {
            return Ok(None);
        }
        let item = item::read(topic, entry, self.hub.catalogue())?;
        Ok(item.filter(|item| self.sees(&item.key)))
    }

    /// The next frame; waits until there is something to tell. Nothing is lost where the wait is given up.
    ///
    /// # Errors
    /// [`Broken`].
    pub(super) async fn next(&mut self) -> Result<Frame, Broken> {
        loop {
            if self.ends.is_none() && self.is_over() {
                self.ends = Some(Instant::now() + GRACE);
            }
            let mut frame = Frame::default();
            if let Some((topic, partition, until)) = self.behind.front().copied() {
                self.read_on(topic, partition, until, &mut frame).await?;
            } else if self.inbox.is_empty() && self.missed.load(Ordering::Acquire) {
                crate::metrics::lagged();
                let wanted: Vec<_> = self.places.keys().copied().collect();
                self.join(&wanted).await?;
            } else {
                let received = match self.ends {
                    None => self.inbox.recv().await,
                    Some(end) => timeout_at(end, self.inbox.recv()).await.map_err(|_| Broken::Over)?,
                };
                match received {
                    Some(delta) => self.take(&delta, &mut frame),
                    // Every reader has let go of us, so something was missed.
                    None => self.missed.store(true, Ordering::Release),
                }
                while frame.len() < IN_A_FRAME
                    && let Ok(delta) = self.inbox.try_recv()
                {
                    self.take(&delta, &mut frame);
                }
            }
            if frame.len() > 0 {
                return Ok(frame);
            }
        }
    }

    /// Moves the cursor over what did not concern this watcher. True where it moved.
    pub(super) async fn refresh(&mut self) -> bool {
        let mut told = Vec::with_capacity(self.places.len());
        for (topic, partition) in self.places.keys() {
            if let Some(next) = self.hub.told(*topic, *partition).await {
                told.push(((*topic, *partition), next));
            }
        }
        if !self.behind.is_empty() || !self.inbox.is_empty() || self.missed.load(Ordering::Acquire) {
            return false;
        }
        let mut moved = false;
        for (place, next) in told {
            if let Some(place) = self.places.get_mut(&place).filter(|place| place.next < next) {
                place.next = next;
                moved = true;
            }
        }
        moved
    }

    /// Whether something did not fit into the inbox.
    #[cfg(test)]
    pub(super) fn has_missed(&self) -> bool {
        self.missed.load(Ordering::Acquire)
    }

    /// Reads a piece of the log into the frame.
    async fn read_on(
        &mut self,
        topic: Topic,
        partition: Partition,
        until: Offset,
        frame: &mut Frame,
    ) -> Result<(), Broken> {
        let from = self.places.get(&(topic, partition)).map_or(until, |place| place.next);
        let read = self.hub.log().read(topic, partition, from, Limit::default()).await;
        let batch = match read {
            Err(LogError::OutOfRange { .. }) => return Err(Broken::TooOld),
            other => other?,
        };
        let mut items = Vec::new();
        for entry in batch.entries().iter().take_while(|e| e.offset < until) {
            items.extend(self.visible(topic, entry)?);
        }
        let next = batch.next().map_or(until, |next| next.min(until));
        let delta = Delta {
            topic,
            partition,
            next,
            items,
        };
        self.take(&delta, frame);
        if next >= until {
            self.behind.pop_front();
        }
        Ok(())
    }

    /// Takes news in: what is new by offset and by origin goes into the frame.
    fn take(&mut self, delta: &Delta, frame: &mut Frame) {
        let place = (delta.topic, delta.partition);
        let Some(mut place) = self.places.remove(&place) else {
            return;
        };
        for item in &delta.items {
            let new = item.offset >= place.next && self.sees(&item.key) && place.accepts(item.origin.as_ref());
            if new && self.is_told(item) {
                frame.push(item);
            }
        }
        place.next = place.next.max(delta.next);
        self.places.insert((delta.topic, delta.partition), place);
    }
}

impl Feed<'_> {
    /// The consultation that is watched, where one is.
    pub(super) fn held(&mut self) -> Option<&mut Held> {
        match &mut self.scope {
            Scope::Consultation(held) => Some(held),
            _ => None,
        }
    }

    /// Whether something new goes into a frame: in a consultation, what follows from its opening and not from its closing.
    fn is_told(&mut self, item: &Item) -> bool {
        match &mut self.scope {
            Scope::Consultation(held) => held.take(item),
            _ => true,
        }
    }

    /// Whether the consultation that is watched has been closed, and the journal up to the closing told.
    fn is_over(&self) -> bool {
        let Scope::Consultation(held) = &self.scope else {
            return false;
        };
        let journal = self.places.iter().find(|((topic, _), _)| *topic == Topic::Journal);
        self.behind.is_empty() && self.inbox.is_empty() && journal.is_some_and(|(_, place)| held.is_over(place.next))
    }
}

/// The partitions that a scope is told from.
fn wanted(scope: &Scope, partitions: u16) -> Vec<(Topic, Partition)> {
    match scope {
        Scope::Patient(patient) | Scope::Consultation(Held { patient, .. }) => {
            let own = partition::of_bytes(patient.as_str().as_bytes(), partitions);
            [Topic::Journal, Topic::Alerts, Topic::Windows]
                .map(|topic| (topic, own))
                .to_vec()
        }
        Scope::Alerts(_) => (0..partitions).map(|p| (Topic::Alerts, p)).collect(),
    }
}

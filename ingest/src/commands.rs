//! Commands that sensors have not answered yet: pending in the log until they do, or until their time is over.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use eventlog::follow::Follows;
use schemas::facts::CommandIssued;
use schemas::ids::{Key, SensorId};
use schemas::journal::{Envelope, Fact};
use schemas::time::{Span, Timestamp};
use smol_str::SmolStr;
use tokio::sync::Notify;

/// How long an answer is waited for before a command is sent again, the longer the more often it was.
const PAUSES: [Span; 4] = [Span::seconds(10), Span::seconds(30), Span::minutes(1), Span::minutes(2)];
/// How long until a sensor that did not listen is looked for again; when it comes back it is told at once.
const MISSED: Span = Span::seconds(10);

/// Commands on their way, as this process knows them.
#[derive(Debug, Default)]
pub struct Commands {
    pending: Mutex<BTreeMap<(SensorId, SmolStr), Pending>>,
    changed: Notify,
}

/// A command that was not answered.
#[derive(Debug, Clone, PartialEq)]
struct Pending {
    issued: CommandIssued,
    issued_at: Timestamp,
    attempts: i32,
    /// Not to be sent again before.
    due: Timestamp,
    /// How often its sensor has begun to listen.
    listened: u64,
}

/// A command to be sent.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Due {
    pub(crate) sensor: SensorId,
    pub(crate) command: CommandIssued,
    pub(crate) issued_at: Timestamp,
    /// 1, 2, …
    pub(crate) attempt: i32,
    /// How often its sensor had begun to listen.
    listened: u64,
}

impl Commands {
    fn pending(&self) -> MutexGuard<'_, BTreeMap<(SensorId, SmolStr), Pending>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A command was given; one that was handed over before is sent again all the same.
    pub fn issued(&self, sensor: &SensorId, it: &CommandIssued, at: Timestamp) {
        let key = (sensor.clone(), it.command_id.clone());
        self.pending().entry(key).or_insert_with(|| Pending {
            issued: it.clone(),
            issued_at: at,
            attempts: 0,
            due: at,
            listened: 0,
        });
        self.changed.notify_one();
    }

    /// A command was handed to its sensor so many times.
    pub fn attempted(&self, sensor: &SensorId, command: &SmolStr, attempt: i32) {
        if let Some(it) = self.pending().get_mut(&(sensor.clone(), command.clone())) {
            it.attempts = it.attempts.max(attempt);
        }
    }

    /// A command is over.
    pub fn over(&self, sensor: &SensorId, command: &SmolStr) {
        self.pending().remove(&(sensor.clone(), command.clone()));
    }

    /// Returns when there may be something to send sooner than was known.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// What is to be sent now.
    pub(crate) fn due(&self, now: Timestamp) -> Vec<Due> {
        let pending = self.pending();
        let due = pending
            .iter()
            .filter(|(_, it)| it.due <= now && now < it.issued.expires_at);
        due.map(|((sensor, _), it)| Due {
            sensor: sensor.clone(),
            command: it.issued.clone(),
            issued_at: it.issued_at,
            attempt: it.attempts + 1,
            listened: it.listened,
        })
        .collect()
    }

    /// What nobody has answered in time.
    pub(crate) fn expired(&self, now: Timestamp) -> Vec<(SensorId, SmolStr)> {
        let pending = self.pending();
        let expired = pending.iter().filter(|(_, it)| it.issued.expires_at <= now);
        expired.map(|(key, _)| key.clone()).collect()
    }

    /// A command was sent now: it is sent again after a while.
    pub(crate) fn sent(&self, due: &Due, now: Timestamp) {
        if let Some(it) = self
            .pending()
            .get_mut(&(due.sensor.clone(), due.command.command_id.clone()))
        {
            it.attempts = due.attempt;
            let pause = usize::try_from(due.attempt - 1).unwrap_or(0).min(PAUSES.len() - 1);
            it.due = now + PAUSES[pause];
        }
    }

    /// A command was due, and its sensor did not listen: that is no attempt, and it is due again soon. Where the sensor has
    /// begun to listen meanwhile it is due now.
    pub(crate) fn missed(&self, due: &Due, now: Timestamp) {
        let key = (due.sensor.clone(), due.command.command_id.clone());
        if let Some(it) = self.pending().get_mut(&key).filter(|it| it.listened == due.listened) {
            it.due = now + MISSED;
        }
    }

    /// Sensors have begun to listen: what they are to be told is due.
    pub(crate) fn listened(&self, is_meant: impl Fn(&SensorId) -> bool) {
        let mut any = false;
        for ((sensor, _), it) in self.pending().iter_mut() {
            if is_meant(sensor) {
                it.due = Timestamp::MIN;
                it.listened += 1;
                any = true;
            }
        }
        if any {
            self.changed.notify_one();
        }
    }
}

impl Follows for Commands {
    fn kinds(&self) -> &'static [&'static str] {
        &["CommandIssued", "CommandSent", "CommandAnswered", "CommandExpired"]
    }

    fn fact(&self, envelope: &Envelope) {
        let Key::Sensor(sensor) = &envelope.key else { return };
        match &envelope.fact {
            Fact::CommandIssued(it) => self.issued(sensor, it, envelope.measured_at),
            Fact::CommandSent(it) => self.attempted(sensor, &it.command_id, it.attempt),
            Fact::CommandAnswered(it) => self.over(sensor, &it.command_id),
            Fact::CommandExpired(it) => self.over(sensor, &it.command_id),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use schemas::facts::CommandName;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp(0) + Span::seconds(seconds)
    }

    fn identify(expires_at: Timestamp) -> CommandIssued {
        CommandIssued {
            command_id: "c".into(),
            name: CommandName::Identify,
            metric: None,
            offset: None,
            every: None,
            expires_at,
            by: "x".into(),
        }
    }

    #[test]
    fn a_command_is_sent_again_ever_more_seldom_until_it_is_answered_or_its_time_is_over() {
        let (commands, sensor) = (Commands::default(), SensorId::new("s").unwrap());
        commands.issued(&sensor, &identify(at(300)), at(0));
        let mut sent = Vec::new();
        for second in 0..310 {
            for due in commands.due(at(second)) {
                sent.push((second, due.attempt));
                commands.sent(&due, at(second));
            }
        }
        assert_eq!(sent, [(0, 1), (10, 2), (40, 3), (100, 4), (220, 5)]);
        assert_eq!(commands.expired(at(299)), []);
        assert_eq!(commands.expired(at(300)), [(sensor.clone(), SmolStr::new("c"))]);
        commands.over(&sensor, &"c".into());
        assert_eq!((commands.due(at(5)), commands.expired(at(999))), (vec![], vec![]));
        commands.issued(&sensor, &identify(at(300)), at(0));
        commands.attempted(&sensor, &"c".into(), 7);
        let due = commands.due(at(1)).remove(0);
        assert_eq!(due.attempt, 8, "after a restart the count goes on");
        commands.sent(&due, at(1));
        commands.listened(|sensor| sensor.as_str() == "other");
        assert_eq!(commands.due(at(2)), []);
        commands.listened(|sensor| sensor.as_str() == "s");
        assert_eq!(commands.due(at(2)).len(), 1, "who comes back is told at once");
    }

    #[test]
    fn a_sensor_that_does_not_listen_was_not_told_and_is_looked_for_again_soon() {
        let (commands, sensor) = (Commands::default(), SensorId::new("s").unwrap());
        commands.issued(&sensor, &identify(at(3_600)), at(0));
        let mut looked = Vec::new();
        for second in 0..45 {
            for due in commands.due(at(second)) {
                looked.push((second, due.attempt));
                commands.missed(&due, at(second));
            }
        }
        assert_eq!(looked, [(0, 1), (10, 1), (20, 1), (30, 1), (40, 1)]);
        commands.listened(|_| true);
        let due = commands.due(at(45)).remove(0);
        // It comes while it is being looked for.
        commands.listened(|_| true);
        commands.missed(&due, at(45));
        let due = commands.due(at(45)).remove(0);
        commands.sent(&due, at(45));
        assert_eq!(
            (due.attempt, commands.due(at(54)), commands.due(at(55)).len()),
            (1, vec![], 1)
        );
    }
}

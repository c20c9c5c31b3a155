//! Load through one door: as fast as it answers, or at a given rate whatever it answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use eventlog::{Clock, SystemClock};
use tokio::time::Instant;

use crate::house::Ways;
use crate::http::Connection;
use crate::mqtt::Publisher;
use crate::world::{Stamp, World};
use crate::{Latencies, Result, latencies, note};

/// A way in, and how it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// `POST /v1/readings` with so many readings each.
    Http {
        /// Readings per request.
        batch: u64,
    },
    /// One reading per message, QoS 1.
    Mqtt {
        /// Messages of one connection that may wait for their acknowledgement.
        window: usize,
    },
}

/// When requests are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// The next one as soon as there is room.
    Closed,
    /// So many readings per second; each request has a time at which it should have been sent, and latency counts from
    /// then.
    Open(f64),
}

/// Whom to load, with what.
#[derive(Debug, Clone)]
pub struct Load {
    /// Ways in, and a token that may write for everybody.
    pub ways: Ways,
    /// Who speaks.
    pub world: World,
    /// Through which door.
    pub door: Door,
    /// Connections, a thread each.
    pub connections: usize,
    /// When requests are sent.
    pub pace: Pace,
    /// For how long.
    pub lasting: Duration,
}

/// What came of it.
#[derive(Debug)]
pub struct Sent {
    /// Readings acknowledged.
    pub acknowledged: u64,
    /// From the first request to the last acknowledgement.
    pub took: Duration,
    /// From when a request should have been sent to its acknowledgement.
    pub latencies: Latencies,
}

/// Numbers of the readings, shared by all connections and all phases.
pub type Numbers = Arc<AtomicU64>;

/// Requests in turn, each with its time.
struct Turns {
    numbers: Numbers,
    from: u64,
    per_turn: u64,
    began: Instant,
    end: Instant,
    /// Time from one request to the next, where the pace is given.
    every: Option<Duration>,
}

impl Turns {
    /// The next request: its first reading and when it should be sent. `None` when time is over.
    fn next(&self) -> Option<(u64, Instant)> {
        if self.every.is_none() && Instant::now() >= self.end {
            return None;
        }
        let n = self.numbers.fetch_add(self.per_turn, Relaxed);
        let at = match self.every {
            None => Instant::now(),
            Some(every) => self.began + every.mul_f64(((n - self.from) / self.per_turn) as f64),
        };
        (at < self.end).then_some((n, at))
    }
}

impl Load {
    /// Sends.
    ///
    /// # Errors
    /// Where a connection breaks or a reading is refused.
    pub fn run(&self, numbers: &Numbers) -> Result<Sent> {
        let per_turn = match self.door {
            Door::Http { batch } => batch,
            Door::Mqtt { .. } => 1,
        };
        let began = Instant::now() + Duration::from_millis(50);
        let turns = Turns {
            numbers: Arc::clone(numbers),
            from: numbers.load(Relaxed),
            per_turn,
            began,
            end: began + self.lasting,
            every: match self.pace {
                Pace::Closed => None,
                Pace::Open(rate) => Some(Duration::from_secs_f64(per_turn as f64 / rate)),
            },
        };
        let mut whole = latencies()?;
        std::thread::scope(|scope| -> Result<()> {
            let lanes: Vec<_> = (0..self.connections)
                .map(|lane| (lane, &turns))
                .map(|(lane, turns)| scope.spawn(move || self.lane(lane, turns)))
                .collect();
            for lane in lanes {
                whole.add(lane.join().map_err(|_| "a connection's thread panicked")??)?;
            }
            Ok(())
        })?;
        Ok(Sent {
            acknowledged: whole.len() * per_turn,
            took: began.elapsed(),
            latencies: whole,
        })
    }

    fn lane(&self, lane: usize, turns: &Turns) -> Result<Latencies> {
        match self.door {
            Door::Http { batch } => self.http_lane(batch, turns),
            Door::Mqtt { window } => self.mqtt_lane(lane, window, turns),
        }
    }

    fn http_lane(&self, batch: u64, turns: &Turns) -> Result<Latencies> {
        let mut connection = Connection::open(self.ways.http, &self.ways.token)?;
        let (mut latencies, mut stamp, mut body) = (latencies()?, Stamp::default(), Vec::with_capacity(32 << 10));
        let wanted = format!(r#"{{"accepted":{batch},"#);
        sleep_until(turns.began);
        while let Some((n, at)) = turns.next() {
            sleep_until(at);
            body.clear();
            self.world.batch(n, n + batch, stamp.set(SystemClock.now()), &mut body);
            let answer = connection.post("/v1/readings", &body)?;
            note(&mut latencies, at.elapsed());
            if answer.status != 200 || !answer.body.starts_with(wanted.as_bytes()) {
                let told = String::from_utf8_lossy(&answer.body[..answer.body.len().min(300)]);
                return Err(format!("not accepted: {} {told}", answer.status).into());
            }
        }
        Ok(latencies)
    }

    fn mqtt_lane(&self, lane: usize, window: usize, turns: &Turns) -> Result<Latencies> {
        /// Messages written at once at most.
        const AT_ONCE: usize = 64;
        let mut publisher = Publisher::open(self.ways.mqtt, &format!("bench-{lane}"), &self.ways.token, window)?;
        let (mut stamp, mut topic, mut payload) = (Stamp::default(), Vec::new(), Vec::new());
        sleep_until(turns.began);
        let mut pending = turns.next();
        while pending.is_some() {
            publisher.wait_for_room(1)?;
            if let Some((_, at)) = pending {
                sleep_until(at);
            }
            let (now, room) = (Instant::now(), publisher.room().min(AT_ONCE));
            stamp.set(SystemClock.now());
            for _ in 0..room {
                let Some((n, at)) = pending.filter(|(_, at)| *at <= now) else {
                    break;
                };
                topic.clear();
                payload.clear();
                self.world.topic(n, &mut topic);
                self.world.reading(n, &mut stamp, false, &mut payload);
                publisher.publish(&topic, &payload, at);
                pending = turns.next();
                if turns.every.is_none() {
                    pending = pending.map(|(n, _)| (n, now));
                }
            }
            publisher.flush()?;
        }
        publisher.finish()
    }
}

/// Sleeps until a moment; not at all where it has passed.
pub fn sleep_until(at: Instant) {
    let left = at.saturating_duration_since(Instant::now());
    if !left.is_zero() {
        std::thread::sleep(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(every: Option<Duration>, lasting: Duration) -> Turns {
        let began = Instant::now();
        Turns {
            numbers: Arc::new(AtomicU64::new(700)),
            from: 700,
            per_turn: 100,
            began,
            end: began + lasting,
            every,
        }
    }

    #[test]
    fn an_open_pace_gives_each_request_its_own_time_however_late_one_asks() {
        let turns = turns(Some(Duration::from_millis(10)), Duration::from_millis(25));
        let times: Vec<_> = std::iter::from_fn(|| turns.next())
            .map(|(n, at)| (n, at - turns.began))
            .collect();
        let millis = Duration::from_millis;
        assert_eq!(times, [(700, millis(0)), (800, millis(10)), (900, millis(20))]);
    }

    #[test]
    fn a_closed_pace_ends_with_time() {
        assert!(turns(None, Duration::ZERO).next().is_none());
        assert!(
            turns(None, Duration::from_secs(3600))
                .next()
                .is_some_and(|(n, _)| n == 700)
        );
    }
}

//! How fast processors work through a journal that lies there, beside what the bare client copies of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::bare::{self, Bearing, Copied};
use super::roles::engines;
use super::site::{Site, stop};
use super::watch::Watch;
use crate::house::Cpu;
use crate::{Result, Trouble, process};

/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// How often it is looked how far they are.
const LOOK: Duration = Duration::from_millis(50);
/// The middle, as parts of all records: before it processes are still sharing the partitions out, behind it some have
/// nothing left to do.
const MIDDLE: (f64, f64) = (0.2, 0.9);

/// What came of it.
#[derive(Debug)]
pub struct CaughtUp {
    /// How many processors.
    pub processors: usize,
    /// Records of the journal.
    pub records: u64,
    /// The bare copy, before and after.
    pub copies: [Copied; 2],
    /// CPU seconds of engines per million records of a bare copy, where they are known.
    pub copying: Cpu,
    /// What the processors did.
    pub processed: Processed,
    /// Conclusions per record.
    pub conclusions: f64,
}

/// What processors did.
#[derive(Debug)]
pub struct Processed {
    /// Records per second, from the first word of progress until all were evaluated: what counts.
    pub rate: f64,
    /// Records per second in the middle of that.
    pub in_the_middle: f64,
    /// From the start of the processes until all was evaluated.
    pub took: Duration,
    /// CPU seconds per million records, from start to end.
    pub cpu: Cpu,
    /// The most memory that the processes held together, in bytes.
    pub peak_memory: u64,
}

impl CaughtUp {
    /// The bare copy's records per second, of both together.
    #[must_use]
    pub fn bare(&self) -> f64 {
        let took: Duration = self.copies.iter().map(|copied| copied.took).sum();
        let records: u64 = self.copies.iter().map(|copied| copied.records).sum();
        records as f64 / took.as_secs_f64()
    }

    /// What processing reaches of that.
    #[must_use]
    pub fn share(&self) -> f64 {
        self.processed.rate / self.bare()
    }
}

/// Carries the journal to a site of its own, copies it barely, lets so many processors catch up, copies it again.
///
/// # Errors
/// Where something fails.
pub fn run(from: &str, site: &Site, processors: usize) -> Result<CaughtUp> {
    site.make_topics()?;
    let (options, journal) = (site.options()?, site.journal()?);
    let carried = bare::copy(&options, from, &journal, Bearing::Moment)?;
    let copy = |name: &str| {
        let to = format!("{}.copy.{name}", site.name);
        bare::make(&options, &to, &journal)?;
        bare::copy(&options, &journal, &to, Bearing::Nothing)
    };
    let idle = engines();
    let before = copy("before")?;
    let copying = engines().per_million(&idle, carried.records);
    let watch = Watch::open(options.clone())?;
    let processed = process(site, &watch, processors, carried.records)?;
    let conclusions = watch.concluded()? as f64 / carried.records as f64;
    drop(watch);
    let after = copy("after")?;
    bare::delete(&options, &format!("{}.", site.name))?;
    Ok(CaughtUp {
        processors,
        records: carried.records,
        copies: [before, after],
        copying,
        processed,
        conclusions,
    })
}

/// Starts processors and waits until they have handled so many records of the journal.
fn process(site: &Site, watch: &Watch, processors: usize, records: u64) -> Result<Processed> {
    let (began, idle) = (Instant::now(), engines());
    let given_up = AtomicBool::new(false);
    let (running, seen) = std::thread::scope(|scope| {
        // From before they start: the first of them may be half through when the last is ready.
        let looking = scope.spawn(|| look(watch, began, records, &given_up));
        let running = site.start_processors(processors);
        given_up.store(running.is_err(), Ordering::Relaxed);
        let seen = looking.join().map_err(|_| "a thread panicked")?;
        Ok::<_, Trouble>((running?, seen?))
    })?;
    let mut used = engines();
    used.ours.insert("process", 0.0);
    let mut peak_memory = 0;
    for one in &running {
        *used.ours.entry("process").or_default() += process::cpu_seconds(one.pid())?;
        peak_memory += process::peak_memory(one.pid())?;
    }
    let took = began.elapsed();
    stop(running)?;
    let over = "it was over before anybody looked: a longer --journal";
    Ok(Processed {
        rate: rate(&seen, records, (0.0, 1.0)).ok_or(over)?,
        in_the_middle: rate(&seen, records, MIDDLE).ok_or(over)?,
        took,
        cpu: used.per_million(&idle, records),
        peak_memory,
    })
}

/// How far they are, again and again, until they are through or it is given up.
fn look(watch: &Watch, began: Instant, records: u64, given_up: &AtomicBool) -> Result<Vec<(Duration, u64)>> {
    let mut seen = Vec::new();
    while !given_up.load(Ordering::Relaxed) {
        let (at, evaluated) = (began.elapsed(), watch.evaluated()?);
        seen.push((at, evaluated));
        if evaluated >= records {
            break;
        }
        if at > PATIENCE {
            return Err(format!("processors do not catch up: {evaluated} of {records}").into());
        }
        std::thread::sleep(LOOK);
    }
    Ok(seen)
}

/// Records per second of a part: from the last look at which less was done to the first at which all of it was.
fn rate(seen: &[(Duration, u64)], records: u64, (from, to): (f64, f64)) -> Option<f64> {
    let done = |part: f64| (part * records as f64) as u64;
    let last = seen.partition_point(|(_, so_far)| *so_far <= done(from));
    let (began, first) = seen.get(last.checked_sub(1)?)?;
    let (ended, last) = seen.iter().find(|(_, so_far)| *so_far >= done(to))?;
    let took = ended.checked_sub(*began).filter(|took| !took.is_zero())?;
    Some((last - first) as f64 / took.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts_from_the_last_look_before_anything_was_done() {
        let at = |millis, done| (Duration::from_millis(millis), done);
        let seen = [
            at(0, 0),
            at(950, 0),
            at(1000, 50),
            at(1450, 200),
            at(2450, 900),
            at(4950, 1000),
        ];
        assert_eq!(rate(&seen, 1000, (0.0, 1.0)), Some(250.0));
        assert_eq!(rate(&seen, 1000, MIDDLE), Some(700.0));
        assert_eq!(
            rate(&seen[2..], 1000, (0.0, 1.0)),
            None,
            "who looked too late knows nothing"
        );
    }
}

//! Who wore a sensor and where it was, as the patient's own journal tells it up to the record at hand.

use schemas::assignment;
use schemas::assignment::Worn;
use schemas::facts::Zone;
use schemas::ids::{Key, SensorId};
use schemas::journal::{Envelope, Fact};
use schemas::time::Span;

use super::{RHYTHM, Stop, Task};
use crate::engine::keys;
use crate::engine::processor::Processor;
use crate::engine::rules::Rule;

impl<P: Processor> Task<P> {
    /// Takes in that a sensor was attached to a patient, or detached.
    pub(super) fn move_sensor(&mut self, fact: &Envelope) -> Result<(), Stop> {
        let Some(sensor) = assignment::moved(&fact.fact) else {
            return Ok(());
        };
        self.context.assigned = true;
        self.context.zoned |= matches!(&fact.fact, Fact::SensorAttached(it) if it.zone.is_some());
        let offset = self.context.offset;
        worn_key(&mut self.text, &fact.key, sensor);
        let (slot, dirty) = self.worn.slot(&self.text, &*self.shelf)?;
        if slot.state.fact(offset, &fact.fact) {
            slot.touch(offset, dirty);
        }
        Ok(())
    }

    /// Takes in where a patient lives.
    pub(super) fn settle(&mut self, fact: &Envelope) -> Result<(), Stop> {
        let Fact::PatientRecorded(it) = &fact.fact else {
            return Ok(());
        };
        let zone = it.patient.zone.filter(|_| !it.ended);
        if zone.is_none() && !self.context.zoned {
            return Ok(());
        }
        self.context.zoned = true;
        let offset = self.context.offset;
        home_key(&mut self.text, &fact.key);
        let (slot, dirty) = self.homes.slot(&self.text, &*self.shelf)?;
        if slot.state.settle(offset, zone) {
            slot.touch(offset, dirty);
        }
        Ok(())
    }

    /// Where the sensor is that a fact is of: as it is registered, else where its patient lives.
    pub(super) fn zone(&mut self, fact: &Envelope) -> Result<Option<Zone>, Stop> {
        if !self.context.zoned {
            return Ok(None);
        }
        let as_of = self.context.offset;
        let own = match (&fact.fact, fact.fact.sensor()) {
            (Fact::SensorAttached(it), _) => it.zone,
            (_, Some(sensor)) => self
                .worn(fact, sensor)?
                .and_then(|worn| worn.zone(as_of, fact.measured_at)),
            _ => None,
        };
        if own.is_some() {
            return Ok(own);
        }
        home_key(&mut self.text, &fact.key);
        Ok(self.homes.slot(&self.text, &*self.shelf)?.0.state.zone(as_of))
    }

    /// What the patient's journal says of a sensor, where it says anything of any.
    fn worn(&mut self, fact: &Envelope, sensor: &SensorId) -> Result<Option<&Worn>, Stop> {
        if !self.context.assigned {
            return Ok(None);
        }
        worn_key(&mut self.text, &fact.key, sensor);
        Ok(Some(&self.worn.slot(&self.text, &*self.shelf)?.0.state))
    }

    /// Whether a sensor said this that another wore then, as far as the patient's journal knows. What somebody has said
    /// to be the patient's is.
    pub(super) fn is_foreign(&mut self, fact: &Envelope) -> Result<bool, Stop> {
        let (Key::Patient(_), Some(sensor), None) = (&fact.key, fact.fact.sensor(), fact.cause) else {
            return Ok(false);
        };
        let (offset, unsaid) = (self.context.offset, self.context.only_registered());
        let worn = self
            .worn(fact, sensor)?
            .and_then(|worn| worn.is_worn(offset, fact.measured_at));
        Ok(!worn.unwrap_or(!unsaid) && !Rule::WhoWoreIt.is_out())
    }

    /// The rhythm that its sensor is registered with, else the one promised before this fact; a first status promises
    /// one.
    pub(super) fn rhythm(&mut self, fact: &Envelope) -> Result<Option<Span>, Stop> {
        let Some(sensor) = fact.fact.sensor() else {
            return Ok(None);
        };
        let as_of = self.context.offset;
        let registered = self.worn(fact, sensor)?;
        let registered = registered.and_then(|worn| worn.expected_every(as_of, fact.measured_at));
        let zone = self.zone(fact)?;
        let usual = self.context.zone(zone).map_or(RHYTHM, |rule| rule.expected_every);
        let text = &mut self.text;
        text.clear();
        text.push_str("r/");
        keys::subject(text, &fact.key);
        text.push('/');
        text.push_str(sensor.as_str());
        let offset = self.context.offset;
        let (slot, dirty) = self.seen.slot(text, &*self.shelf)?;
        if matches!(fact.fact, Fact::SensorStatus(_)) && slot.state.happened(offset) {
            slot.touch(offset, dirty);
            return Ok(None);
        }
        Ok(registered.or_else(|| slot.state.had_happened(offset).then_some(usual)))
    }
}

/// Where stands what a patient's journal says of a sensor.
fn worn_key(text: &mut String, key: &Key, sensor: &SensorId) {
    text.clear();
    text.push_str("s/");
    keys::subject(text, key);
    text.push('/');
    text.push_str(sensor.as_str());
}

/// Where stands where a patient lives.
fn home_key(text: &mut String, key: &Key) {
    text.clear();
    text.push_str("s/");
    keys::subject(text, key);
}

//! One record, whatever the format it came in: is it a reading, a waveform, a blood pressure, an alarm or a status?

use bytes::Bytes;
use schemas::journal::Envelope;

use super::circumstances::{About, Circumstances};
use super::json::Raw;
use super::{Bench, Checked, Kind, alarm, pressure, reading, status};
use crate::refusal::Fault;

impl Bench<'_> {
    /// Judges one record; `bytes` are asked for only where it is refused.
    pub(super) fn judge(&mut self, raw: &Raw<'_>, index: i32, bytes: impl FnOnce() -> Bytes) {
        let before = self.verdicts.len();
        if let Err(refused) = self.facts(raw, index) {
            self.verdicts.truncate(before);
            self.refuse(index, bytes(), (raw.patient_id.text(), raw.sensor_id.text()), *refused);
        }
    }

    fn facts(&mut self, raw: &Raw<'_>, index: i32) -> Checked<()> {
        if let Some(field) = raw.twice {
            return Err(Fault::Twice.of(field));
        }
        let mut circumstances = Circumstances::of(raw, index, self)?;
        if self.is_status(raw) {
            circumstances.attribute(About::Device, self)?;
            let envelope = status::judge(raw, &circumstances, self.context)?;
            let answer = status::answer(&envelope, &circumstances);
            self.fact(index, envelope);
            if let Some(answer) = answer {
                self.fact(index, answer);
            }
            return Ok(());
        }
        let kind = raw.kind.text().ok_or_else(|| match raw.kind.is_none() {
            true => Fault::Missing.of("type"),
            false => Fault::UnknownMetric.about("type", "of this kind"),
        })?;
        match kind {
            "alarm" => {
                circumstances.attribute(alarm::about(raw), self)?;
                let envelope = alarm::judge(raw, &circumstances, self.context)?;
                self.fact(index, envelope);
                Ok(())
            }
            "blood_pressure" => {
                circumstances.attribute(About::Measured, self)?;
                pressure::judge(raw, &circumstances, self.context, |e: Envelope| {
                    self.verdicts.push(super::Verdict {
                        index,
                        outcome: super::Outcome::Fact(e),
                    })
                })
            }
            metric => {
                circumstances.attribute(reading::about(metric)?, self)?;
                let envelope = reading::judge(raw, metric, &circumstances, self)?;
                self.fact(index, envelope);
                Ok(())
            }
        }
    }

    fn is_status(&self, raw: &Raw<'_>) -> bool {
        match self.context.kind {
            Kind::Data => false,
            Kind::Status => true,
            Kind::Mixed => {
                raw.kind.is_none() && !(raw.state.is_none() && raw.command_id.is_none())
                    || raw.kind.text() == Some("status")
            }
        }
    }
}

//! Limits: which band a value falls into, and when it is back inside.

use crate::facts::{Limits, Severity};
use crate::metric::Metric;

/// Which end of the scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Too low.
    Low,
    /// Too high.
    High,
}

/// A limit that a value reached.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Breach {
    /// How much it matters.
    pub severity: Severity,
    /// The limit, canonical unit.
    pub limit: f64,
    /// Which end of the scale.
    pub side: Side,
}

/// Why limits make no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LimitsError {
    /// The limit named first lies on the wrong side of the one named second.
    #[error(
        "{0} and {1} are in the wrong order: \
         critical_low <= warning_low <= info_low < info_high <= warning_high <= critical_high"
    )]
    Order(&'static str, &'static str),
    /// The limit is no number.
    #[error("{0} is not a finite number")]
    NotANumber(&'static str),
    /// The limit is beyond what the metric can be, so it could never be reached: often another unit.
    #[error("{0} is outside what this metric can be in its canonical unit")]
    OutOfRange(&'static str),
}

impl LimitsError {
    /// The field at fault, like `critical_low`.
    #[must_use]
    pub const fn field(&self) -> &'static str {
        match self {
            Self::Order(field, _) | Self::NotANumber(field) | Self::OutOfRange(field) => field,
        }
    }

    /// The sentence in French.
    #[must_use]
    pub fn detail_fr(&self) -> String {
        match self {
            Self::Order(a, b) => format!(
                "{a} et {b} sont dans le mauvais ordre : critical_low <= warning_low <= info_low < info_high <= \
                 warning_high <= critical_high"
            ),
            Self::NotANumber(field) => format!("{field} n’est pas un nombre fini"),
            Self::OutOfRange(field) => {
                format!("{field} est hors de ce que cette mesure peut valoir dans son unité canonique")
            }
        }
    }
}

const BY_SEVERITY: [Severity; 3] = [Severity::Critical, Severity::Warning, Severity::Info];

impl Limits {
    /// The limit of one severity on one side.
    #[must_use]
    pub const fn limit(&self, severity: Severity, side: Side) -> Option<f64> {
        match (severity, side) {
            (Severity::Critical, Side::Low) => self.critical_low,
            (Severity::Warning, Side::Low) => self.warning_low,
            (Severity::Info, Side::Low) => self.info_low,
            (Severity::Info, Side::High) => self.info_high,
            (Severity::Warning, Side::High) => self.warning_high,
            (Severity::Critical, Side::High) => self.critical_high,
        }
    }

    /// The gravest limit that `value` (canonical unit) reaches: a low one at or below it, a high one at or above it.
    /// Values are compared as they are, without rounding; NaN reaches nothing.
    #[must_use]
    pub fn band(&self, value: f64) -> Option<Breach> {
        BY_SEVERITY.iter().find_map(|&severity| {
            let low = self.limit(severity, Side::Low).filter(|limit| value <= *limit);
            let high = self.limit(severity, Side::High).filter(|limit| value >= *limit);
            let (limit, side) = low.map(|l| (l, Side::Low)).or_else(|| high.map(|l| (l, Side::High)))?;
            Some(Breach { severity, limit, side })
        })
    }

    /// Where `severity` or worse begins on a side: its own limit or, where it has none, the next graver one's.
    #[must_use]
    pub fn begins(&self, severity: Severity, side: Side) -> Option<f64> {
        BY_SEVERITY
            .iter()
            .rev()
            .filter(|s| **s >= severity)
            .find_map(|s| self.limit(*s, side))
    }

    /// Whether `value` is inside again, by at least `deadband` (and never on the limit itself), of where `severity` or
    /// worse begins on this side. With [`Severity::Info`]: the episode can end. Where nothing limits this side, all is
    /// inside; NaN is never inside of a limit.
    #[must_use]
    pub fn back_inside(&self, severity: Severity, side: Side, value: f64, deadband: f64) -> bool {
        match (self.begins(severity, side), side) {
            (None, _) => true,
            (Some(limit), Side::Low) => value > limit && value >= limit + deadband,
            (Some(limit), Side::High) => value < limit && value <= limit - deadband,
        }
    }

    /// Whether nothing is limited.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the limits make sense for `metric`: finite, possible, and in order from `critical_low` to
    /// `critical_high`.
    ///
    /// # Errors
    /// [`LimitsError`], naming the field.
    pub fn check(&self, metric: Metric) -> Result<(), LimitsError> {
        let fields = [
            ("critical_low", self.critical_low, Side::Low),
            ("warning_low", self.warning_low, Side::Low),
            ("info_low", self.info_low, Side::Low),
            ("info_high", self.info_high, Side::High),
            ("warning_high", self.warning_high, Side::High),
            ("critical_high", self.critical_high, Side::High),
        ];
        let mut before: Option<(&'static str, f64, Side)> = None;
        for (name, limit, side) in fields {
            let Some(limit) = limit else { continue };
            if !limit.is_finite() {
                return Err(LimitsError::NotANumber(name));
            }
            if !metric.info().possible.contains(limit) {
                return Err(LimitsError::OutOfRange(name));
            }
            if let Some((earlier, bound, end)) = before
                && (limit < bound || (limit == bound && end != side))
            {
                return Err(LimitsError::Order(name, earlier));
            }
            before = Some((name, limit, side));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEART: Limits = Limits {
        critical_low: Some(40.0),
        warning_low: None,
        info_low: Some(50.0),
        info_high: Some(91.0),
        warning_high: Some(111.0),
        critical_high: Some(131.0),
    };

    #[test]
    fn a_value_takes_the_gravest_band_it_reaches() {
        use Severity::*;
        for (value, want) in [
            (39.0, Some((Critical, 40.0, Side::Low))),
            (40.0, Some((Critical, 40.0, Side::Low))),
            (40.5, Some((Info, 50.0, Side::Low))),
            (50.0, Some((Info, 50.0, Side::Low))),
            (51.0, None),
            (90.9, None),
            (91.0, Some((Info, 91.0, Side::High))),
            (130.9, Some((Warning, 111.0, Side::High))),
            (131.0, Some((Critical, 131.0, Side::High))),
            (f64::NAN, None),
        ] {
            assert_eq!(
                HEART.band(value).map(|b| (b.severity, b.limit, b.side)),
                want,
                "{value}"
            );
        }
        assert_eq!(Limits::default().band(0.0), None);
    }

    #[test]
    fn an_episode_ends_only_when_the_value_is_inside_by_the_deadband() {
        use Severity::*;
        for (severity, side, value, deadband, inside) in [
            (Info, Side::High, 86.0, 5.0, true),
            (Info, Side::High, 86.1, 5.0, false),
            (Critical, Side::High, 126.0, 5.0, true),
            (Critical, Side::High, 127.0, 5.0, false),
            // no warning_low: what is a warning or worse begins at critical_low
            (Warning, Side::Low, 45.0, 5.0, true),
            (Warning, Side::Low, 44.0, 5.0, false),
            // a deadband of nothing: the limit itself is not inside
            (Info, Side::High, 91.0, 0.0, false),
            (Info, Side::High, 90.9, 0.0, true),
            (Info, Side::High, f64::NAN, 0.0, false),
        ] {
            assert_eq!(
                HEART.back_inside(severity, side, value, deadband),
                inside,
                "{severity} {side:?} {value}"
            );
        }
        assert!(Limits::default().back_inside(Info, Side::Low, 0.0, 5.0));
    }

    #[test]
    fn limits_out_of_order_or_beyond_the_possible_are_named() {
        let check = |metric, change: fn(&mut Limits)| {
            let mut limits = HEART;
            change(&mut limits);
            limits.check(metric).map_err(|e| e.field())
        };
        assert_eq!(check(Metric::HeartRate, |_| ()), Ok(()));
        assert_eq!(check(Metric::HeartRate, |l| l.info_low = Some(40.0)), Ok(()));
        assert_eq!(check(Metric::HeartRate, |l| l.info_low = Some(39.0)), Err("info_low"));
        assert_eq!(check(Metric::HeartRate, |l| l.info_high = Some(50.0)), Err("info_high"));
        assert_eq!(
            check(Metric::HeartRate, |l| l.critical_high = Some(1e9)),
            Err("critical_high")
        );
        assert_eq!(
            check(Metric::HeartRate, |l| l.critical_low = Some(f64::NAN)),
            Err("critical_low")
        );
        // 4 mmol/L written as if it were mg/dL
        let glucose = Limits {
            critical_low: Some(4.0),
            ..Limits::default()
        };
        assert_eq!(
            glucose.check(Metric::BloodGlucose),
            Err(LimitsError::OutOfRange("critical_low"))
        );
    }
}

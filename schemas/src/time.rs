//! Time as data: microseconds since 1970, UTC. Nothing here reads a clock.

use std::fmt;
use std::ops::{Add, Sub};

use serde::{Deserialize, Serialize};

/// A moment: microseconds since 1970-01-01T00:00:00Z. Written as RFC 3339 UTC with milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub i64);

/// A length of time in microseconds; may be negative.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug, Serialize, Deserialize)]
pub struct Span(pub i64);

impl Span {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// `n` milliseconds.
    #[must_use]
    pub const fn millis(n: i64) -> Self {
        Self(n.saturating_mul(1_000))
    }

    /// `n` seconds.
    #[must_use]
    pub const fn seconds(n: i64) -> Self {
        Self(n.saturating_mul(1_000_000))
    }

    /// `n` minutes.
    #[must_use]
    pub const fn minutes(n: i64) -> Self {
        Self::seconds(n.saturating_mul(60))
    }

    /// `n` hours.
    #[must_use]
    pub const fn hours(n: i64) -> Self {
        Self::minutes(n.saturating_mul(60))
    }

    /// `n` days of 24 hours.
    #[must_use]
    pub const fn days(n: i64) -> Self {
        Self::hours(n.saturating_mul(24))
    }

    /// In seconds, with fraction.
    #[must_use]
    pub fn as_seconds(self) -> f64 {
        self.0 as f64 / 1e6
    }
}

impl Timestamp {
    /// Before everything.
    pub const MIN: Self = Self(i64::MIN);
    /// After everything.
    pub const MAX: Self = Self(i64::MAX);

    /// From milliseconds since 1970.
    #[must_use]
    pub const fn from_millis(n: i64) -> Self {
        Self(n.saturating_mul(1_000))
    }

    /// Whole milliseconds since 1970, rounded down.
    #[must_use]
    pub const fn millis(self) -> i64 {
        self.0.div_euclid(1_000)
    }

    /// The start of the interval of length `size` (aligned to 1970) that holds this moment; the moment itself where
    /// `size` is no length.
    #[must_use]
    pub const fn floor(self, size: Span) -> Self {
        if size.0 <= 0 {
            return self;
        }
        Self(self.0.div_euclid(size.0).saturating_mul(size.0))
    }

    /// Reads RFC 3339 with any offset and up to microseconds; finer digits are cut off.
    ///
    /// # Errors
    /// [`Unreadable`] where the text is no moment between the years 1 and 9999.
    pub fn parse(text: &str) -> Result<Self, Unreadable> {
        text.parse::<jiff::Timestamp>()
            .map(|t| Self(t.as_microsecond()))
            .map_err(|_| Unreadable)
    }
}

/// A text that is no RFC 3339 moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a time is written like 2026-01-05T08:00:00.000Z (RFC 3339)")]
pub struct Unreadable;

impl Add<Span> for Timestamp {
    type Output = Self;
    fn add(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

impl Sub<Span> for Timestamp {
    type Output = Self;
    fn sub(self, span: Span) -> Self {
        Self(self.0.saturating_sub(span.0))
    }
}

impl Sub for Timestamp {
    type Output = Span;
    fn sub(self, other: Self) -> Span {
        Span(self.0.saturating_sub(other.0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.millis()) {
            Ok(t) => write!(f, "{t:.3}"),
            Err(_) => f.write_str(if self.0 < 0 {
                "-9999-01-01T00:00:00.000Z"
            } else {
                "9999-12-31T23:59:59.999Z"
            }),
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        if out.is_human_readable() {
            out.collect_str(self)
        } else {
            out.serialize_i64(self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        if from.is_human_readable() {
            let text = <std::borrow::Cow<'de, str>>::deserialize(from)?;
            Self::parse(&text).map_err(serde::de::Error::custom)
        } else {
            i64::deserialize(from).map(Self)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_moment_is_written_with_milliseconds_in_utc() {
        for (text, written) in [
            ("2026-01-05T08:00:00Z", "2026-01-05T08:00:00.000Z"),
            ("2026-01-05T09:00:00.1239+01:00", "2026-01-05T08:00:00.123Z"),
            ("1969-12-31T23:59:59.999Z", "1969-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(Timestamp::parse(text).map(|t| t.to_string()).as_deref(), Ok(written));
        }
        for bad in [
            "",
            "yesterday",
            "2026-01-05",
            "2026-01-05T08:00:00",
            "2026-13-05T08:00:00Z",
        ] {
            assert!(Timestamp::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn intervals_are_aligned_to_1970_before_it_too() {
        assert_eq!(
            Timestamp::from_millis(-1).floor(Span::minutes(1)),
            Timestamp::from_millis(-60_000)
        );
        assert_eq!(
            Timestamp::from_millis(61_000).floor(Span::minutes(1)),
            Timestamp::from_millis(60_000)
        );
    }

    proptest! {
        #[test]
        fn a_moment_reads_back_to_the_millisecond(millis in -62_135_596_800_000_i64..253_402_207_200_000) {
            let moment = Timestamp::from_millis(millis);
            prop_assert_eq!(Timestamp::parse(&moment.to_string()), Ok(moment));
            prop_assert_eq!(moment.to_string().len(), 24);
        }

        #[test]
        fn later_moments_are_later_texts(a in 0_i64..253_402_207_200_000, b in 0_i64..253_402_207_200_000) {
            let texts = (Timestamp::from_millis(a).to_string(), Timestamp::from_millis(b).to_string());
            prop_assert_eq!(a.cmp(&b), texts.0.cmp(&texts.1));
        }

        #[test]
        fn an_interval_holds_the_moment_it_is_the_floor_of(at in any::<i64>(), size in 1_i64..=86_400_000_000) {
            let (at, size) = (Timestamp(at), Span(size));
            let start = at.floor(size);
            if start > Timestamp::MIN {
                prop_assert!(start <= at && at - start < size);
                prop_assert_eq!(start.floor(size), start);
            }
        }

        #[test]
        fn no_text_and_no_sum_makes_time_panic(text in ".*", a in any::<i64>(), b in any::<i64>()) {
            let _ = Timestamp::parse(&text);
            let _ = (Timestamp(a) + Span(b), Timestamp(a) - Span(b), Timestamp(a) - Timestamp(b));
            let _ = (Timestamp(a).to_string(), Timestamp(a).floor(Span(b)));
        }
    }
}

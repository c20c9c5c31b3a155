//! Values with a unit: lengths of time like `10s` and sizes like `64MiB`.

use std::time::Duration;

use serde::{Deserialize, Deserializer};

/// A length of time, written like `200ms`, `10s`, `5m`, `2h`, `7d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub Duration);

/// A number of bytes, written like `4096`, `64KiB`, `64MiB`, `2GiB` (powers of 1024) or `64MB` (powers of 1000).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// A value, or `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Off<T>(pub Option<T>);

impl Time {
    /// Reads a length of time.
    ///
    /// # Errors
    /// A sentence that says how one is written.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no length of time: write one like 200ms, 10s, 5m or 2h");
        if text.trim() == "0" || text.starts_with('-') {
            return Err(wrong());
        }
        if let Some(days) = text
            .strip_suffix('d')
            .and_then(|digits| digits.trim().parse::<u32>().ok())
        {
            return Ok(Self(Duration::from_secs(u64::from(days) * 86_400)));
        }
        let span: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
        Duration::try_from(span).map(Self).map_err(|_| wrong())
    }
}

impl Size {
    const UNITS: [(&'static str, u64); 7] = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("kB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("B", 1),
    ];

    /// Reads a size.
    ///
    /// # Errors
    /// A sentence that says how one is written.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no size: write one like 4096, 64KiB or 64MiB");
        let (digits, unit) = Self::UNITS
            .iter()
            .find_map(|(name, unit)| text.strip_suffix(name).map(|digits| (digits.trim_end(), *unit)))
            .unwrap_or((text, 1));
        let number: u64 = digits.parse().map_err(|_| wrong())?;
        number.checked_mul(unit).map(Self).ok_or_else(wrong)
    }

    /// As a number of bytes in memory.
    #[must_use]
    pub fn bytes(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Off<Time> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        or_off(from, Time::parse)
    }
}

impl<'de> Deserialize<'de> for Off<Size> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        or_off(from, Size::parse)
    }
}

fn or_off<'de, T, D: Deserializer<'de>>(from: D, read: fn(&str) -> Result<T, String>) -> Result<Off<T>, D::Error> {
    match String::deserialize(from)?.as_str() {
        "off" => Ok(Off(None)),
        text => read(text)
            .map(|value| Off(Some(value)))
            .map_err(serde::de::Error::custom),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_time_needs_its_unit() {
        for (text, millis) in [
            ("200ms", 200),
            ("10s", 10_000),
            ("5m", 300_000),
            ("2h", 7_200_000),
            ("7d", 604_800_000),
            ("1m 30s", 90_000),
        ] {
            assert_eq!(Time::parse(text), Ok(Time(Duration::from_millis(millis))), "{text}");
        }
        for bad in ["", "10", "0", "-1s", "soon", "1 fortnight"] {
            assert!(Time::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_size_may_have_a_unit() {
        for (text, bytes) in [
            ("4096", 4096),
            ("0", 0),
            ("64KiB", 65_536),
            ("64 MiB", 67_108_864),
            ("1MB", 1_000_000),
            ("7B", 7),
        ] {
            assert_eq!(Size::parse(text), Ok(Size(bytes)), "{text}");
        }
        for bad in ["", "MiB", "-1", "1.5MiB", "64mb", "99999999999GiB"] {
            assert!(Size::parse(bad).is_err(), "{bad}");
        }
    }
}

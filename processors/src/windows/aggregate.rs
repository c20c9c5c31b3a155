//! What is kept of the readings of one window. Equal sets of readings give equal bytes, in whatever order they came:
//! sums are whole numbers of millionths of the unit, so adding them up is exact and commutes.

use schemas::ids::EventId;
use schemas::time::Timestamp;
use serde::{Deserialize, Serialize};

/// Millionths per unit.
const SCALE: f64 = 1e6;
/// No metric has values beyond this (canonical unit); a value that does is summed up as this one.
const LARGEST: f64 = 1e7;

/// One reading, as far as windows need it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// When it was measured.
    pub at: Timestamp,
    /// Its id: decides between readings of the same moment.
    pub id: EventId,
    /// The value, canonical unit; finite.
    pub value: f64,
    /// 0–100, where the device says.
    pub quality: Option<u8>,
}

/// A reading at one end of the window.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct End {
    at: Timestamp,
    id: EventId,
    value: f64,
}

/// The aggregate of at least one reading.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Aggregate {
    count: u32,
    sum: i128,
    squares: i128,
    min: f64,
    max: f64,
    first: End,
    last: End,
    rated: u32,
    quality: u64,
}

impl Aggregate {
    /// The aggregate of one reading.
    #[must_use]
    pub fn of(sample: Sample) -> Self {
        // -0.0 and 0.0 are equal but not the same bytes.
        let value = sample.value + 0.0;
        let end = End {
            at: sample.at,
            id: sample.id,
            value,
        };
        let scaled = (value.clamp(-LARGEST, LARGEST) * SCALE).round() as i128;
        Self {
            count: 1,
            sum: scaled,
            squares: scaled * scaled,
            min: value,
            max: value,
            first: end,
            last: end,
            rated: u32::from(sample.quality.is_some()),
            quality: sample.quality.map_or(0, u64::from),
        }
    }

    /// The aggregate of both sets.
    pub fn merge(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        self.sum = self.sum.saturating_add(other.sum);
        self.squares = self.squares.saturating_add(other.squares);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        if (other.first.at, other.first.id) < (self.first.at, self.first.id) {
            self.first = other.first;
        }
        if (other.last.at, other.last.id) > (self.last.at, self.last.id) {
            self.last = other.last;
        }
        self.rated = self.rated.saturating_add(other.rated);
        self.quality = self.quality.saturating_add(other.quality);
    }

    /// How many readings.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// Smallest and greatest value.
    #[must_use]
    pub const fn range(&self) -> (f64, f64) {
        (self.min, self.max)
    }

    /// Values of the earliest and the latest reading.
    #[must_use]
    pub const fn ends(&self) -> (f64, f64) {
        (self.first.value, self.last.value)
    }

    /// When the latest reading was measured.
    #[must_use]
    pub const fn last_at(&self) -> Timestamp {
        self.last.at
    }

    /// How many readings came with a quality.
    #[must_use]
    pub const fn rated(&self) -> u32 {
        self.rated
    }

    /// Arithmetic mean.
    #[must_use]
    pub fn mean(&self) -> f64 {
        if self.min.to_bits() == self.max.to_bits() {
            return self.min;
        }
        self.sum as f64 / f64::from(self.count) / SCALE
    }

    /// Sample standard deviation; 0 for a single reading.
    #[must_use]
    pub fn sd(&self) -> f64 {
        let n = i128::from(self.count);
        if n < 2 {
            return 0.0;
        }
        let spread = n
            .saturating_mul(self.squares)
            .saturating_sub(self.sum.saturating_mul(self.sum));
        (spread.max(0) as f64 / (n * (n - 1)) as f64).sqrt() / SCALE
    }

    /// Mean of the qualities given.
    #[must_use]
    pub fn quality(&self) -> Option<f64> {
        (self.rated > 0).then(|| self.quality as f64 / f64::from(self.rated))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample(t: i64, value: f64) -> Sample {
        Sample {
            at: Timestamp(t),
            id: EventId::of("t", &[&t.to_le_bytes(), &value.to_le_bytes()]),
            value,
            quality: (t % 3 != 0).then_some((t % 100) as u8),
        }
    }

    fn fold(samples: impl IntoIterator<Item = Sample>) -> Aggregate {
        let mut all = samples.into_iter().map(Aggregate::of);
        let mut sum = all.next().unwrap();
        all.for_each(|next| sum.merge(&next));
        sum
    }

    proptest! {
        #[test]
        fn any_order_gives_the_same_bytes_and_the_textbook_numbers(
            mut samples in proptest::collection::vec((0..60_i64, -400.0..400.0), 1..50),
            turn in 0..50_usize,
        ) {
            let forth = fold(samples.iter().map(|(t, v)| sample(*t, *v)));
            let n = samples.len();
            samples.rotate_left(turn % n);
            samples.reverse();
            let back = fold(samples.iter().map(|(t, v)| sample(*t, *v)));
            prop_assert_eq!(postcard::to_stdvec(&forth), postcard::to_stdvec(&back));

            let mean = samples.iter().map(|s| s.1).sum::<f64>() / n as f64;
            let sd = (samples.iter().map(|s| (s.1 - mean).powi(2)).sum::<f64>() / (n.max(2) - 1) as f64).sqrt();
            prop_assert!((forth.mean() - mean).abs() < 1e-5);
            prop_assert!((forth.sd() - sd).abs() < 1e-4, "{} {}", forth.sd(), sd);
        }
    }

    #[test]
    fn a_single_value_is_its_own_mean_exactly() {
        let one = Aggregate::of(sample(1, 36.123_456_789));
        assert_eq!((one.mean(), one.sd(), one.count()), (36.123_456_789, 0.0, 1));
        assert_eq!(fold([sample(1, 0.0), sample(2, -0.0)]).range().0.to_bits(), 0);
    }
}

//! Times as devices write them.

use schemas::time::Timestamp;

/// Reads RFC 3339. The form nearly every device writes, `2026-01-05T08:00:00.000Z`, is read directly; all others by
/// [`Timestamp::parse`].
pub(super) fn read(text: &str) -> Option<Timestamp> {
    direct(text.as_bytes()).or_else(|| Timestamp::parse(text).ok())
}

fn direct(text: &[u8]) -> Option<Timestamp> {
    let (fixed, rest) = text.split_at_checked(19)?;
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if separators.iter().any(|(at, byte)| fixed[*at] != *byte) {
        return None;
    }
    let (year, month, day) = (digits(&fixed[..4])?, digits(&fixed[5..7])?, digits(&fixed[8..10])?);
    let (hour, minute, second) = (
        digits(&fixed[11..13])?,
        digits(&fixed[14..16])?,
        digits(&fixed[17..19])?,
    );
    let micros = match rest {
        b"Z" => 0,
        [b'.', fraction @ .., b'Z'] if (1..=9).contains(&fraction.len()) => {
            let kept = &fraction[..fraction.len().min(6)];
            digits(fraction)?;
            digits(kept)? * 10_i64.pow(6 - kept.len() as u32)
        }
        _ => return None,
    };
    if year < 1
        || !(1..=12).contains(&month)
        || day < 1
        || day > days_in(year, month)
        || hour > 23
        || minute > 59
        || second > 59
    {
        return None;
    }
    let seconds = days_since_1970(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    Some(Timestamp(seconds * 1_000_000 + micros))
}

fn digits(text: &[u8]) -> Option<i64> {
    text.iter().try_fold(0, |n, byte| {
        byte.is_ascii_digit().then(|| n * 10 + i64::from(byte - b'0'))
    })
}

const fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days of the proleptic Gregorian calendar, years counted from March so that the leap day is the last.
const fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_direct_way_reads_every_moment_as_the_library_does(micros in -62_000_000_000_000_000_i64..253_000_000_000_000_000) {
            let text = Timestamp(micros).to_string();
            prop_assert_eq!(direct(text.as_bytes()), Timestamp::parse(&text).ok());
        }
    }

    #[test]
    fn what_is_no_moment_is_none_and_odd_forms_are_read() {
        for bad in [
            "",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-01-05T24:00:00Z",
            "2026-01-05T08:00:00",
            "2026-01-05T08:00:00.Z",
            "2026-01-05T08:00:00.12a4Z",
            "1767600000",
            "now",
            "0000-00-00T00:00:00Z",
            "+026-01-05T08:00:00Z",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert_eq!(
            read("2026-01-05T08:00:00.123456789Z"),
            Some(Timestamp(1_767_600_000_123_456))
        );
        assert_eq!(
            read("2026-01-05T09:00:00+01:00"),
            Some(Timestamp(1_767_600_000_000_000))
        );
        assert_eq!(
            read("2024-02-29T00:00:00Z"),
            Timestamp::parse("2024-02-29T00:00:00Z").ok()
        );
    }
}

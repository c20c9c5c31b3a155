//! A look at fjall's journals before fjall opens them.
//!
//! fjall ends reading a journal at the first bytes it cannot parse and cuts off the rest, be it torn by a crash or
//! damaged in the middle; and it refuses to open where a torn batch still has its end marker. Here every commit is
//! synced before the next one is written, so only the last batch of the newest journal can be torn: that one is cut
//! away, and everything else that cannot be read is damage to what had been acknowledged. A last batch that was written
//! to its end mark and has no sector missing was not torn: what is wrong with it is damage too.

use std::fs::File;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

use crate::LogError;

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
/// The mark at the end of each batch.
const MAGIC: [u8; 4] = *b"FJL\x03";
/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// Looks through every journal in `dir` and cuts a torn end off the newest.
///
/// # Errors
/// [`LogError::Corrupt`] where what had been synced is damaged.
pub(crate) fn examine(dir: &Path) -> Result<(), LogError> {
    let io = |error: std::io::Error| LogError::Unavailable(format!("look through the journals: {error}"));
    let mut journals: Vec<(u64, PathBuf)> = Vec::new();
    for file in std::fs::read_dir(dir).map_err(io)? {
        let path = file.map_err(io)?.path();
        if path.extension().is_some_and(|e| e == "jnl") {
            let number = path.file_stem().and_then(|s| s.to_str()?.parse().ok());
            let number = number.ok_or_else(|| LogError::Corrupt(format!("{} is no journal", path.display())))?;
            journals.push((number, path));
        }
    }
    journals.sort_unstable();
    let newest = journals.len().saturating_sub(1);
    for (i, (_, path)) in journals.iter().enumerate() {
        let bytes = std::fs::read(path).map_err(io)?;
        match inspect(&bytes) {
            Verdict::Whole => {}
            Verdict::Torn { at } if i == newest => {
                tracing::warn!(journal = %path.display(), at, "cutting off what a crash left unfinished");
                let file = File::options().write(true).open(path).map_err(io)?;
                file.set_len(at as u64).and_then(|()| file.sync_all()).map_err(io)?;
            }
            Verdict::Torn { at } | Verdict::Damaged { at } => {
                let place = path.display();
                return Err(LogError::Corrupt(format!(
                    "{place} at byte {at}: acknowledged records are damaged"
                )));
            }
        }
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Batches, then nothing (or the zeros of preallocated space).
    Whole,
    /// The last batch, at this byte, is incomplete.
    Torn { at: usize },
    /// A batch at this byte cannot be read, though it had been synced.
    Damaged { at: usize },
}

fn inspect(bytes: &[u8]) -> Verdict {
    let mut at = 0;
    let mut last = None;
    loop {
        let rest = &bytes[at..];
        match batch(rest) {
            // The checksum does not cover the sequence number, and fjall leaves out what seems older than its tables.
            Parsed::Good { sequence, .. } if last.is_some_and(|last| sequence <= last) => {
                return Verdict::Damaged { at };
            }
            Parsed::Good { length, sequence } => {
                at += length;
                last = Some(sequence);
            }
            // Most of a journal's space is not used yet.
            _ if rest.iter().all(|b| *b == 0) => return Verdict::Whole,
            Parsed::Wrong { length } if !has_hole(bytes, at, at + length) => return Verdict::Damaged { at },
            Parsed::Not if was_finished(rest) && !has_hole(bytes, at, bytes.len() - unused(bytes)) => {
                return Verdict::Damaged { at };
            }
            _ if (1..rest.len()).any(|i| rest[i] == START && matches!(batch(&rest[i..]), Parsed::Good { .. })) => {
                return Verdict::Damaged { at };
            }
            _ => return Verdict::Torn { at },
        }
    }
}

/// How many bytes at the end were never used.
fn unused(bytes: &[u8]) -> usize {
    bytes.iter().rev().take_while(|b| **b == 0).count()
}

/// Whether the bytes end as a batch does, give or take one bit: then its writing was not cut short.
fn was_finished(rest: &[u8]) -> bool {
    let written = &rest[..rest.len() - unused(rest)];
    written.last_chunk().is_some_and(|mark| {
        let differs = u32::from_be_bytes(*mark) ^ u32::from_be_bytes(MAGIC);
        differs.count_ones() <= 1
    })
}

/// Whether a whole sector in `from..to` was never written: a crash, not a flipped bit.
fn has_hole(bytes: &[u8], from: usize, to: usize) -> bool {
    let first = from.next_multiple_of(SECTOR);
    (first..to)
        .step_by(SECTOR)
        .chain([from])
        .filter_map(|at| bytes.get(at..(at + SECTOR - at % SECTOR).min(to)))
        .any(|sector| sector.len() > 16 && sector.iter().all(|b| *b == 0))
}

enum Parsed {
    /// A batch with the right checksum.
    Good { length: usize, sequence: u64 },
    /// From start to end mark, but the checksum is wrong.
    Wrong { length: usize },
    /// Not a whole batch.
    Not,
}

fn batch(bytes: &[u8]) -> Parsed {
    match try_batch(bytes) {
        Some((length, sequence, true)) => Parsed::Good { length, sequence },
        Some((length, _, false)) => Parsed::Wrong { length },
        None => Parsed::Not,
    }
}

/// The batch at the front of `bytes`: its length, its sequence number, and whether its checksum is right.
fn try_batch(bytes: &[u8]) -> Option<(usize, u64, bool)> {
    let mut from = Cursor { bytes, at: 0 };
    if from.byte()? != START {
        return None;
    }
    let count = u32::from_le_bytes(from.take()?);
    let sequence = u64::from_le_bytes(from.take()?);
    let items = from.at;
    for _ in 0..count {
        match from.byte()? {
            ITEM => {
                from.skip(1)?;
                if from.byte()? > 1 {
                    return None;
                }
                from.skip(8)?;
                let key = u16::from_le_bytes(from.take()?);
                from.skip(4)?;
                let value = u32::from_le_bytes(from.take()?);
                from.skip(usize::from(key) + value as usize)?;
            }
            CLEAR => from.skip(8)?,
            _ => return None,
        }
    }
    let end = from.at;
    if from.byte()? != END {
        return None;
    }
    let sum = u64::from_le_bytes(from.take()?);
    (from.take()? == MAGIC).then(|| (from.at, sequence, xxh3_64(&bytes[items..end]) == sum))
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn skip(&mut self, n: usize) -> Option<()> {
        self.at = self.at.checked_add(n).filter(|at| *at <= self.bytes.len())?;
        Some(())
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let bytes = self.bytes.get(self.at..)?.first_chunk()?;
        self.at += N;
        Some(*bytes)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A batch of one item with a value of `n` bytes.
    fn a_batch(sequence: u64, n: usize) -> Vec<u8> {
        let mut items = vec![ITEM, 0, 0];
        items.extend(7_u64.to_le_bytes());
        items.extend(3_u16.to_le_bytes());
        items.extend((n as u32).to_le_bytes());
        items.extend((n as u32).to_le_bytes());
        items.extend(b"key");
        items.extend((0..n).map(|i| (i % 250) as u8 + 1));
        let mut bytes = vec![START];
        bytes.extend(1_u32.to_le_bytes());
        bytes.extend(sequence.to_le_bytes());
        bytes.extend(&items);
        bytes.push(END);
        bytes.extend(xxh3_64(&items).to_le_bytes());
        bytes.extend(MAGIC);
        bytes
    }

    fn a_journal() -> (Vec<u8>, usize) {
        let mut bytes = [a_batch(40, 10), a_batch(41, 600)].concat();
        let last = bytes.len();
        bytes.extend(a_batch(42, 1300));
        (bytes, last)
    }

    #[test]
    fn a_journal_is_whole_with_and_without_unused_space() {
        let (mut bytes, _) = a_journal();
        assert_eq!(inspect(&bytes), Verdict::Whole);
        bytes.resize(bytes.len() + 10_000, 0);
        assert_eq!(inspect(&bytes), Verdict::Whole);
        assert_eq!(inspect(&[]), Verdict::Whole);
    }

    #[test]
    fn whatever_a_crash_leaves_of_the_last_batch_is_torn() {
        let (bytes, last) = a_journal();
        for cut in last + 1..bytes.len() {
            assert_eq!(inspect(&bytes[..cut]), Verdict::Torn { at: last }, "cut at {cut}");
            let mut unused = bytes[..cut].to_vec();
            unused.resize(20_000, 0);
            assert_eq!(inspect(&unused), Verdict::Torn { at: last }, "unused from {cut}");
        }
        for hole in (last.next_multiple_of(SECTOR)..bytes.len()).step_by(SECTOR) {
            let mut holed = bytes.clone();
            let end = (hole + SECTOR).min(bytes.len());
            holed[hole..end].fill(0);
            assert_eq!(inspect(&holed), Verdict::Torn { at: last }, "hole at {hole}");
        }
    }

    #[test]
    fn a_flipped_bit_is_damage_wherever_it_is() {
        let (bytes, last) = a_journal();
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x10;
            let verdict = inspect(&flipped);
            // A last sequence number that is too high orders what follows after it: no harm.
            let harmless = (last + 5..last + 13).contains(&at) && verdict == Verdict::Whole;
            assert!(
                harmless || matches!(verdict, Verdict::Damaged { .. }),
                "flipped at {at}: {verdict:?}"
            );
        }
    }
}

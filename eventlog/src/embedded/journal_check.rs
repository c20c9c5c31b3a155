//! A look at fjall's journals before fjall opens them.
//!
//! fjall ends reading a journal at the first bytes it cannot parse and cuts off the rest, be it torn by a crash or
//! damaged in the middle; and it refuses to open where a torn batch still has its end marker. Here every commit is
//! synced before the next one is written, so only the last batch of the newest journal can be torn: that one is cut
//! away, and everything else that cannot be read is damage to what had been acknowledged.

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
    loop {
        let rest = &bytes[at..];
        match batch(rest) {
            Parsed::Good { length } => at += length,
            // Most of a journal's space is not used yet.
            _ if rest.iter().all(|b| *b == 0) => return Verdict::Whole,
            Parsed::Wrong { length } if !has_hole(bytes, at, at + length) => return Verdict::Damaged { at },
            _ if (1..rest.len()).any(|i| rest[i] == START && matches!(batch(&rest[i..]), Parsed::Good { .. })) => {
                return Verdict::Damaged { at };
            }
            _ => return Verdict::Torn { at },
        }
    }
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
    Good { length: usize },
    /// From start to end mark, but the checksum is wrong.
    Wrong { length: usize },
    /// Not a whole batch.
    Not,
}

fn batch(bytes: &[u8]) -> Parsed {
    match try_batch(bytes) {
        Some((length, true)) => Parsed::Good { length },
        Some((length, false)) => Parsed::Wrong { length },
        None => Parsed::Not,
    }
}

/// The batch at the front of `bytes`: its length, and whether its checksum is right.
fn try_batch(bytes: &[u8]) -> Option<(usize, bool)> {
    let mut from = Cursor { bytes, at: 0 };
    if from.byte()? != START {
        return None;
    }
    let count = u32::from_le_bytes(from.take()?);
    from.skip(8)?;
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
    (from.take()? == MAGIC).then(|| (from.at, xxh3_64(&bytes[items..end]) == sum))
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

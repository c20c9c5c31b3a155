//! What came through each door, readable at any time without a metrics server.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use schemas::facts::Door;
use schemas::refused::Code;

use super::receipt::{Receipt, Status};

/// What came through a door since the process started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoorTraffic {
    /// The door.
    pub door: Door,
    /// Messages judged: a request, a publication, or one record of a REST Proxy's request each.
    pub messages: u64,
    /// Their bytes, unpacked.
    pub bytes: u64,
    /// Records newly durable in the journal.
    pub accepted: u64,
    /// Records known already.
    pub duplicates: u64,
    /// Records refused.
    pub rejected: u64,
    /// Of those, how many for each reason; reasons that never occurred are left out.
    pub rejected_by_code: Vec<(Code, u64)>,
}

#[derive(Debug, Default)]
struct Counters {
    messages: AtomicU64,
    bytes: AtomicU64,
    accepted: AtomicU64,
    duplicates: AtomicU64,
    by_code: [AtomicU64; Code::ALL.len()],
}

/// Counters of every door.
#[derive(Debug, Default)]
pub(super) struct Traffic([Counters; Door::ALL.len()]);

impl Traffic {
    pub(super) fn arrived(&self, door: Door, bytes: usize) {
        let counters = &self.0[door as usize];
        counters.messages.fetch_add(1, Relaxed);
        counters.bytes.fetch_add(bytes as u64, Relaxed);
        crate::metrics::arrived(door, bytes);
    }

    pub(super) fn answered(&self, door: Door, receipts: &[Receipt]) {
        let counters = &self.0[door as usize];
        let (mut accepted, mut duplicates) = (0, 0);
        for receipt in receipts {
            match (receipt.status, receipt.code()) {
                (Status::Accepted, _) => accepted += 1,
                (Status::Duplicate, _) => duplicates += 1,
                (Status::Rejected, code) => {
                    let code = code.unwrap_or(Code::Unreadable);
                    counters.by_code[code as usize].fetch_add(1, Relaxed);
                }
            }
        }
        counters.accepted.fetch_add(accepted, Relaxed);
        counters.duplicates.fetch_add(duplicates, Relaxed);
    }

    pub(super) fn read(&self) -> Vec<DoorTraffic> {
        let of = |(door, counters): (&Door, &Counters)| {
            let by_code: Vec<(Code, u64)> = Code::ALL
                .iter()
                .zip(&counters.by_code)
                .map(|(code, n)| (*code, n.load(Relaxed)))
                .filter(|(_, n)| *n > 0)
                .collect();
            DoorTraffic {
                door: *door,
                messages: counters.messages.load(Relaxed),
                bytes: counters.bytes.load(Relaxed),
                accepted: counters.accepted.load(Relaxed),
                duplicates: counters.duplicates.load(Relaxed),
                rejected: by_code.iter().map(|(_, n)| n).sum(),
                rejected_by_code: by_code,
            }
        };
        Door::ALL.iter().zip(&self.0).map(of).collect()
    }
}

//! Who may connect: so many in all, so many from one address.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The book of open connections.
#[derive(Debug)]
pub(super) struct Admission {
    all: Arc<Semaphore>,
    total: u32,
    each: usize,
    addresses: Mutex<BTreeMap<IpAddr, usize>>,
}

impl Admission {
    pub(super) fn new(total: usize, each: usize) -> Arc<Self> {
        let total = u32::try_from(total.min(Semaphore::MAX_PERMITS)).unwrap_or(u32::MAX);
        Arc::new(Self {
            all: Arc::new(Semaphore::new(total as usize)),
            total,
            each,
            addresses: Mutex::default(),
        })
    }

    /// A place for one more connection from this address, where there is one.
    pub(super) fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Permit> {
        let Ok(place) = Arc::clone(&self.all).try_acquire_owned() else {
            crate::metrics::refused("connections");
            return None;
        };
        let address = block(address);
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let open = addresses.entry(address).or_default();
        if *open >= self.each {
            crate::metrics::refused("connections_per_address");
            return None;
        }
        *open += 1;
        crate::metrics::connections(1.0);
        Some(Permit {
            book: Arc::clone(self),
            address,
            _place: place,
        })
    }

    /// Whether every connection ended within `patience`.
    pub(super) async fn drained(&self, patience: Duration) -> bool {
        tokio::time::timeout(patience, self.all.acquire_many(self.total))
            .await
            .is_ok()
    }
}

/// An IPv6 client commands at least a /64, so that is what counts as one address.
fn block(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & (u128::MAX << 64)).into()),
        v4 => v4,
    }
}

/// A place among the connections; given back when dropped.
#[derive(Debug)]
pub(super) struct Permit {
    book: Arc<Admission>,
    address: IpAddr,
    _place: OwnedSemaphorePermit,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut addresses = self.book.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = addresses.get_mut(&self.address) {
            *open -= 1;
            if *open == 0 {
                addresses.remove(&self.address);
            }
        }
        crate::metrics::connections(-1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_per_address_and_in_all_and_given_back() {
        let book = Admission::new(3, 2);
        let [a, b] = ["10.0.0.1", "10.0.0.2"].map(|t| t.parse::<IpAddr>().unwrap());
        let first = book.admit(a).unwrap();
        let second = book.admit(a).unwrap();
        assert!(book.admit(a).is_none(), "two per address");
        let third = book.admit(b).unwrap();
        assert!(book.admit(b).is_none(), "three in all");
        drop((first, second));
        assert!(book.admit(b).is_some());
        drop(third);
        assert!(
            book.addresses.lock().unwrap().is_empty(),
            "nothing is remembered of who left"
        );
    }

    #[test]
    fn one_ipv6_network_and_one_mapped_ipv4_address_count_as_one() {
        let book = Admission::new(9, 1);
        let _held = book.admit("2001:db8::1".parse().unwrap()).unwrap();
        assert!(book.admit("2001:db8::2".parse().unwrap()).is_none());
        let _held = book.admit("10.0.0.1".parse().unwrap()).unwrap();
        assert!(book.admit("::ffff:10.0.0.1".parse().unwrap()).is_none());
    }
}

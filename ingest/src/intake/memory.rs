//! What this process has just taken: bounded, and only of facts that are durable or on their way.
//!
//! It spares the log what a device sends again because an answer was lost. It promises little: processors dedupe for
//! good, but for devices without a clock, whose repeats only a door can know ([`super::recall`]). An id stands here with its key's hash, so that a reading sent again for another patient is not called known.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use schemas::ids::EventId;
use schemas::partition::murmur2;
use tokio::sync::watch;

use super::{Pending, Position};

/// What is known about a fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// Not looked at yet, or on its way in another message.
    NotYet,
    /// To be appended by this message.
    Mine,
    /// Appended by this message, here.
    Appended(Position),
    /// A repeat of what is durable here.
    Durable(Position),
    /// A repeat, within this message, of the fact at this place in it.
    SameAs(usize),
}

/// A fact's id, and the hash of its key.
pub(super) type Id = (EventId, u32);

#[derive(Debug, Clone)]
enum Slot {
    Durable(Position),
    /// On its way with the flight of this number, as this message's fact at this place.
    Flying {
        flight: u64,
        place: usize,
        over: watch::Receiver<bool>,
    },
}

/// Two generations: what was used in neither of the last two is forgotten.
#[derive(Debug, Default)]
struct Slots {
    young: HashMap<Id, Slot>,
    old: HashMap<Id, Slot>,
    flights: u64,
}

impl Slots {
    fn get(&self, id: &Id) -> Option<&Slot> {
        self.young.get(id).or_else(|| self.old.get(id))
    }

    fn put(&mut self, id: Id, slot: Slot, limit: usize) {
        if self.young.len() >= limit.div_ceil(2) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(id, slot);
    }

    fn forget(&mut self, id: &Id, number: u64) {
        for generation in [&mut self.young, &mut self.old] {
            if matches!(generation.get(id), Some(Slot::Flying { flight, .. }) if *flight == number) {
                generation.remove(id);
            }
        }
    }
}

/// The memory.
#[derive(Debug)]
pub(super) struct Memory {
    slots: Arc<Mutex<Slots>>,
    limit: usize,
}

/// What a look at the memory gave.
pub(super) struct Seen {
    /// The flight of the facts that are this message's to append; `None` where there are none.
    pub(super) mine: Option<Flight>,
    /// Flights of others that carry some of these facts: each turns true, or closes, when it is over.
    pub(super) others: Vec<watch::Receiver<bool>>,
}

impl Memory {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            slots: Arc::default(),
            limit: limit.max(2),
        }
    }

    /// Takes in a fact that an earlier process appended.
    pub(super) fn remember(&self, id: Id, position: Position) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.put(id, Slot::Durable(position), self.limit);
    }

    /// Marks each fact that is not settled yet as known, mine, or another's, and enters mine as on their way.
    pub(super) fn look(&self, facts: &mut [Pending]) -> Seen {
        let mut others: Vec<(u64, watch::Receiver<bool>)> = Vec::new();
        let mut ids = Vec::new();
        let (sender, over) = watch::channel(false);
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.flights += 1;
        let number = slots.flights;
        for (place, fact) in facts.iter_mut().enumerate() {
            if fact.known != Known::NotYet {
                continue;
            }
            let id = id_of(fact);
            match slots.get(&id) {
                Some(Slot::Durable(position)) => fact.known = Known::Durable(*position),
                Some(Slot::Flying { flight, place, .. }) if *flight == number => fact.known = Known::SameAs(*place),
                Some(Slot::Flying { flight, over, .. }) => {
                    if others.iter().all(|(known, _)| known != flight) {
                        others.push((*flight, over.clone()));
                    }
                }
                None => {
                    fact.known = Known::Mine;
                    let over = over.clone();
                    slots.put(
                        id,
                        Slot::Flying {
                            flight: number,
                            place,
                            over,
                        },
                        self.limit,
                    );
                    ids.push(id);
                }
            }
        }
        let mine = (!ids.is_empty()).then(|| Flight {
            slots: Arc::clone(&self.slots),
            limit: self.limit,
            number,
            ids,
            over: sender,
        });
        Seen {
            mine,
            others: others.into_iter().map(|(_, over)| over).collect(),
        }
    }
}

fn id_of(fact: &Pending) -> Id {
    (fact.envelope.id, murmur2(&fact.key))
}

/// Facts on their way. Dropped before it has landed (an error, a caller that went away), they are forgotten.
pub(super) struct Flight {
    slots: Arc<Mutex<Slots>>,
    limit: usize,
    number: u64,
    ids: Vec<Id>,
    over: watch::Sender<bool>,
}

impl Flight {
    /// Remembers the facts that were appended.
    pub(super) fn land(mut self, facts: &[Pending]) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let appended = facts.iter().filter_map(|f| match f.known {
            Known::Appended(position) => Some((f, position)),
            _ => None,
        });
        // Facts of an earlier round of the same message may be among them: to remember them twice does no harm.
        for (fact, position) in appended {
            let id = id_of(fact);
            let limit = self.limit;
            match slots.young.get_mut(&id) {
                Some(slot) => *slot = Slot::Durable(position),
                None => slots.put(id, Slot::Durable(position), limit),
            }
        }
        drop(slots);
        self.ids.clear();
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if !self.ids.is_empty() {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            for id in &self.ids {
                slots.forget(id, self.number);
            }
        }
        self.over.send_replace(true);
    }
}

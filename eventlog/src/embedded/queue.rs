//! The way to the writer: a queue bounded in bytes. Who comes when it is full waits; nobody waits for a timer.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use smol_str::SmolStr;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::workspace::{Claimed, Place};
use crate::{Append, LogError, Offset, Output, Partition, Stored, Topic};

/// How an answer gets back.
pub(super) type Answer<T> = oneshot::Sender<Result<T, LogError>>;

/// What of a processor's work is made durable at once.
#[derive(Default)]
pub(super) struct Piece {
    pub(super) outputs: Vec<Output>,
    pub(super) reached: Offset,
    pub(super) states: Vec<(SmolStr, Stored)>,
    /// The position and its context, which end a checkpoint.
    pub(super) position: Option<(Offset, Bytes)>,
}

/// What the writer can be asked for.
pub(super) enum Request {
    Append {
        topic: Topic,
        records: Vec<Append>,
        answer: Answer<Vec<Offset>>,
        room: OwnedSemaphorePermit,
    },
    Commit {
        place: Arc<Place>,
        epoch: u64,
        piece: Piece,
        answer: Answer<()>,
        room: OwnedSemaphorePermit,
    },
    Claim {
        processor: SmolStr,
        output: Topic,
        partition: Partition,
        answer: Answer<Claimed>,
    },
    Retain {
        answer: Answer<()>,
    },
}

#[derive(Default)]
struct Waiting {
    requests: VecDeque<Request>,
    closed: bool,
}

/// What is waiting for the writer.
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    came: Condvar,
    room: Arc<Semaphore>,
    bytes: u32,
}

/// What the writer gets.
pub(super) enum Next {
    Group(Vec<Request>),
    Idle,
    Closed,
}

pub(super) fn closed() -> LogError {
    LogError::Unavailable("the log is closed".to_owned())
}

impl Queue {
    pub(super) fn new(bytes: u32) -> Self {
        Self {
            waiting: Mutex::default(),
            came: Condvar::new(),
            room: Arc::new(Semaphore::new(bytes as usize)),
            bytes,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is room for `bytes`.
    pub(super) async fn room(&self, bytes: usize) -> Result<OwnedSemaphorePermit, LogError> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).clamp(1, self.bytes);
        let room = Arc::clone(&self.room);
        room.acquire_many_owned(bytes).await.map_err(|_| closed())
    }

    pub(super) fn push(&self, request: Request) -> Result<(), LogError> {
        let mut waiting = self.lock();
        if waiting.closed {
            return Err(closed());
        }
        waiting.requests.push_back(request);
        drop(waiting);
        self.came.notify_one();
        Ok(())
    }

    /// Everything that is waiting, as soon as there is anything; [`Next::Idle`] after `patience`.
    pub(super) fn next(&self, patience: Option<Duration>) -> Next {
        let mut waiting = self.lock();
        loop {
            if !waiting.requests.is_empty() {
                return Next::Group(std::mem::take(&mut waiting.requests).into());
            }
            if waiting.closed {
                return Next::Closed;
            }
            match patience {
                None => waiting = self.came.wait(waiting).unwrap_or_else(PoisonError::into_inner),
                Some(patience) => {
                    let (guard, timeout) = self
                        .came
                        .wait_timeout(waiting, patience)
                        .unwrap_or_else(PoisonError::into_inner);
                    waiting = guard;
                    if timeout.timed_out() && waiting.requests.is_empty() && !waiting.closed {
                        return Next::Idle;
                    }
                }
            }
        }
    }

    /// Takes nothing more; what is waiting is still done.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.room.close();
        self.came.notify_all();
    }

    /// Takes nothing more, and drops what is waiting.
    pub(super) fn abandon(&self) {
        self.close();
        self.lock().requests.clear();
    }
}

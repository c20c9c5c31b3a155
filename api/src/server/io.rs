//! A connection's bytes under watch: no peer keeps us waiting for longer than the limits say.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::ServerLimits;
use super::admission::Permit;

/// What a connection is doing, as its requests tell its bytes.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    begun: AtomicUsize,
    under_way: AtomicUsize,
    http2: AtomicBool,
    upgraded: AtomicBool,
}

impl Pulse {
    /// A request's head is complete.
    pub(super) fn begin(self: &Arc<Self>, http2: bool) -> Busy {
        self.http2.store(http2, Ordering::Relaxed);
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.under_way.fetch_add(1, Ordering::Relaxed);
        Busy(Arc::clone(self))
    }

    /// The connection is a WebSocket from here on, and keeps its own time.
    pub(super) fn upgraded(&self) {
        self.upgraded.store(true, Ordering::Relaxed);
    }
}

/// A request is under way until this is dropped.
#[derive(Debug)]
pub(super) struct Busy(Arc<Pulse>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An answer's body, which keeps its request under way until it has been sent.
#[derive(Debug)]
pub(super) struct Counted {
    body: Body,
    _busy: Busy,
}

impl Counted {
    pub(super) const fn new(body: Body, busy: Busy) -> Self {
        Self { body, _busy: busy }
    }
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Why reading is waiting, as far as limits go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// For the rest of a head.
    Head,
    /// For the next request.
    Idle,
    /// Not for the peer, or kept by someone else (body deadline, WebSocket).
    None,
}

/// A stream that fails with `TimedOut` where the peer keeps it waiting. Holds the connection's place.
pub(super) struct Guarded<S> {
    stream: S,
    pulse: Arc<Pulse>,
    head: Duration,
    idle: Duration,
    stall: Duration,
    /// Requests whose heads had been complete when the present wait began.
    seen: usize,
    waiting: Wait,
    read_timer: Pin<Box<Sleep>>,
    write_timer: Option<Pin<Box<Sleep>>>,
    _permit: Permit,
}

impl<S> Guarded<S> {
    pub(super) fn new(stream: S, permit: Permit, pulse: Arc<Pulse>, limits: &ServerLimits) -> Self {
        Self {
            stream,
            pulse,
            head: limits.head,
            idle: limits.idle,
            stall: limits.stall,
            seen: 0,
            // From the start: who connects wants something.
            waiting: Wait::Head,
            read_timer: Box::pin(tokio::time::sleep(limits.head)),
            write_timer: None,
            _permit: permit,
        }
    }

    fn wait_for(&mut self, wait: Wait) {
        if self.waiting == wait {
            return;
        }
        self.waiting = wait;
        let patience = match wait {
            Wait::Head => self.head,
            Wait::Idle => self.idle,
            Wait::None => return,
        };
        self.read_timer.as_mut().reset(Instant::now() + patience);
    }

    /// What the requests so far mean for the next read.
    fn look(&mut self) {
        let begun = self.pulse.begun.load(Ordering::Relaxed);
        if self.pulse.upgraded.load(Ordering::Relaxed) || self.pulse.under_way.load(Ordering::Relaxed) > 0 {
            self.seen = begun;
            self.wait_for(Wait::None);
        } else if begun != self.seen || self.waiting == Wait::None {
            self.seen = begun;
            self.wait_for(Wait::Idle);
        }
    }

    /// Bytes came.
    fn heard(&mut self) {
        // On HTTP/2 they may be anything (pings, windows); heads there are bounded by the codec and the idle limit.
        if self.waiting == Wait::Idle && !self.pulse.http2.load(Ordering::Relaxed) {
            self.wait_for(Wait::Head);
        }
    }

    fn overdue(&mut self, cx: &mut Context<'_>) -> bool {
        self.waiting != Wait::None && self.read_timer.as_mut().poll(cx).is_ready()
    }

    /// Passes a result of writing on, or the error where the peer has taken nothing for too long.
    fn written<T>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.write_timer = None;
            return result;
        }
        let stall = self.stall;
        let timer = self
            .write_timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(stall)));
        if timer.as_mut().poll(cx).is_ready() {
            crate::metrics::refused("stall");
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.look();
        let before = buf.filled().len();
        match Pin::new(&mut this.stream).poll_read(cx, buf) {
            Poll::Ready(Ok(())) => {
                if buf.filled().len() > before {
                    this.heard();
                }
                Poll::Ready(Ok(()))
            }
            Poll::Pending if this.overdue(cx) => {
                crate::metrics::refused(if this.waiting == Wait::Head { "head" } else { "idle" });
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            other => other,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.written(cx, result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(cx);
        self.written(cx, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.written(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.written(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

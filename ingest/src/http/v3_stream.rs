//! Concatenated records as they come, answered as they become durable.
//!
//! Groups are made durable one after the other, so that the order of a connection is the order of the log; while one
//! group is on its way the next gathers in the connection's buffers, which is what holds a fast sender back. A stream may
//! last for days: before each group it is asked whether its sender's token is still good.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt, stream};
use schemas::access::Principal;
use schemas::time::Timestamp;

use super::Shared;
use super::answer::{ConfluentError, Trouble};
use super::v3::{self, JSON};
use crate::accept::scan::{self, Broken};

/// Answers with a stream of reports, until the sender's token ends.
pub(super) fn respond(shared: Shared, (sender, until): (Principal, Timestamp), body: Body) -> Response {
    let feed = Feed {
        source: Some(body.into_data_stream()),
        buffer: BytesMut::new(),
        scanned: 0,
        received: 0,
        index: 0,
        shared,
        sender,
        until,
    };
    let reports = reports(feed).map(Ok::<_, std::convert::Infallible>);
    ([(CONTENT_TYPE, JSON)], Body::from_stream(reports)).into_response()
}

/// A request body on its way in.
struct Feed {
    /// `None` after the end.
    source: Option<BodyDataStream>,
    /// What has come and is not taken apart yet.
    buffer: BytesMut,
    /// Bytes looked at, and bytes that came: a sender that makes us look at the same bytes over and over is cut off.
    scanned: usize,
    received: usize,
    index: i32,
    shared: Shared,
    sender: Principal,
    /// When the sender's token ends.
    until: Timestamp,
}

/// Why a stream ends before its end.
enum Cut {
    Broken(Broken),
    TooLarge,
    Silent,
    Empty,
    /// The token has ended or was revoked: nothing of what came since is taken.
    Ended,
}

impl Cut {
    fn report(&self) -> Vec<u8> {
        let (error_code, message) = match self {
            Self::Broken(Broken(why)) => (400, format!("Bad request: {why}")),
            Self::TooLarge => (413, "The record is too large.".to_owned()),
            Self::Ended => {
                let (_, code, message) = Trouble::Unauthenticated.confluent_parts();
                return report(code, &message);
            }
            Self::Silent => (408, "No record came for too long.".to_owned()),
            Self::Empty => (422, "Empty request body.".to_owned()),
        };
        report(error_code, &message)
    }
}

fn report(error_code: u32, message: &str) -> Vec<u8> {
    let mut out = Vec::new();
    v3::append(&mut out, &ConfluentError { error_code, message });
    out
}

fn reports(feed: Feed) -> impl Stream<Item = Vec<u8>> {
    stream::unfold(Some(feed), |feed| async move {
        let mut feed = feed?;
        match feed.group().await {
            Ok(records) if records.is_empty() => None,
            Ok(records) => {
                let (first, n) = (feed.index, records.len());
                feed.index = first.saturating_add(n as i32);
                match v3::take(&feed.shared, &feed.sender, records, first).await {
                    Ok(reports) => Some((reports, Some(feed))),
                    Err(error) => {
                        // Nothing of this group is acknowledged: one error for each, and the end.
                        let (_, code, message) = Trouble::from(error).confluent_parts();
                        Some((report(code, &message).repeat(n), None))
                    }
                }
            }
            Err(cut) => Some((cut.report(), None)),
        }
    })
}

impl Feed {
    /// The next records: as many as are here, at least one; none at the end.
    async fn group(&mut self) -> Result<Vec<Bytes>, Cut> {
        loop {
            let records = self.whole_records()?;
            if !records.is_empty() {
                return if self.may_go_on() { Ok(records) } else { Err(Cut::Ended) };
            }
            if self.buffer.len() > self.shared.intake.limits().bounds.record_bytes.saturating_mul(2) {
                return Err(Cut::TooLarge);
            }
            if !self.more().await? {
                return self.end();
            }
        }
    }

    fn may_go_on(&self) -> bool {
        self.shared.clock.now() < self.until && !self.sender.is_revoked()
    }

    fn end(&self) -> Result<Vec<Bytes>, Cut> {
        if scan::skip_space(&self.buffer, 0) < self.buffer.len() {
            Err(Cut::Broken(Broken("the last record does not end")))
        } else if self.index == 0 {
            Err(Cut::Empty)
        } else {
            Ok(Vec::new())
        }
    }

    fn whole_records(&mut self) -> Result<Vec<Bytes>, Cut> {
        let mut records = Vec::new();
        while records.len() < self.shared.limits.group_records {
            match scan::object_end(&self.buffer) {
                Ok(Some(range)) => {
                    self.scanned += range.end;
                    let record = self.buffer.split_to(range.end).freeze();
                    records.push(record.slice(range));
                }
                Ok(None) => {
                    self.scanned += self.buffer.len();
                    break;
                }
                // What came before the break is good and is taken first.
                Err(_) if !records.is_empty() => break,
                Err(broken) => return Err(Cut::Broken(broken)),
            }
        }
        if self.scanned > self.received.saturating_mul(64).saturating_add(1 << 20) {
            return Err(Cut::TooLarge);
        }
        Ok(records)
    }

    /// Waits for more; false at the end.
    async fn more(&mut self) -> Result<bool, Cut> {
        let patience: Duration = self.shared.limits.body_timeout;
        let Some(source) = &mut self.source else {
            return Ok(false);
        };
        match tokio::time::timeout(patience, source.next()).await {
            Ok(Some(Ok(chunk))) => {
                self.received += chunk.len();
                self.buffer.extend_from_slice(&chunk);
                Ok(true)
            }
            Ok(Some(Err(_)) | None) => {
                self.source = None;
                Ok(false)
            }
            Err(_) => Err(Cut::Silent),
        }
    }
}

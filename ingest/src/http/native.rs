//! `POST /v1/readings`: JSON or SenML, one verdict per record.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use schemas::access::Principal;
use schemas::facts::Door;
use schemas::refused::Code;
use serde::Serialize;

use super::answer::{self, Trouble};
use super::body::{self, BadBody};
use super::{HttpDoors, Shared, token};
use crate::accept::{self, Context, Verdict};
use crate::intake::{Receipt, Tally};
use crate::refusal::{Fault, Refusal};

/// Takes readings, alarms and status.
pub(super) async fn readings(State(doors): State<Shared>, headers: HeaderMap, body: Body) -> Response {
    match take(&doors, &headers, body).await {
        Ok(receipts) => answer(&receipts),
        Err(trouble) => trouble.into_response(),
    }
}

async fn take(doors: &HttpDoors, headers: &HeaderMap, body: Body) -> Result<Vec<Receipt>, Trouble> {
    let sender = token::sender(doors, headers).map_err(|_| Trouble::Unauthenticated)?;
    let read = body::read(headers, body, &doors.limits).await;
    let context = context(doors, headers, &sender);
    let message = match read {
        Ok(message) => message,
        Err(bad) => return Err(keep_bad_body(doors, bad, &context).await),
    };
    let verdicts = doors.intake.judge(&message, &context);
    let unreadable = whole_message_refused(&verdicts, &message);
    let receipts = doors.submit(verdicts).await?;
    match unreadable {
        Some(refusal) if refusal.code == Code::TooLarge => Err(Trouble::TooLarge),
        Some(refusal) => Err(Trouble::Unreadable(refusal)),
        None => Ok(receipts),
    }
}

fn context<'a>(doors: &HttpDoors, headers: &'a HeaderMap, sender: &'a Principal) -> Context<'a> {
    Context {
        content_type: headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()),
        principal: Some(sender),
        ..Context::new(Door::Http, doors.clock.now())
    }
}

/// Keeps what came of a body that could not be unpacked, and says what is wrong with it.
pub(super) async fn keep_bad_body(doors: &HttpDoors, bad: BadBody, context: &Context<'_>) -> Trouble {
    let trouble = Trouble::from(&bad);
    let (bytes, refusal) = match bad {
        BadBody::Bomb(bytes) => (bytes, Fault::RecordTooLarge.whole(doors.limits.unpacked_bytes)),
        BadBody::Garbled(bytes) => (bytes, Fault::NotJson.whole("it cannot be unpacked")),
        BadBody::TooLong | BadBody::UnknownEncoding | BadBody::Unfinished => return trouble,
    };
    match doors.submit(vec![accept::refuse(bytes, context, *refusal)]).await {
        Ok(_) => trouble,
        Err(error) => error.into(),
    }
}

/// The refusal of the message as a whole, where it could not be taken apart.
fn whole_message_refused(verdicts: &[Verdict], message: &Bytes) -> Option<Box<Refusal>> {
    let [only] = verdicts else { return None };
    let rejection = only.refused()?;
    let whole = rejection.bytes.len() == message.trim_ascii().len() || rejection.bytes.len() == message.len();
    (whole && matches!(rejection.code, Code::Unreadable | Code::TooLarge)).then(|| {
        Box::new(Refusal {
            code: rejection.code,
            field: rejection.field.clone(),
            detail: rejection.detail.clone(),
            detail_fr: rejection.detail_fr.clone(),
        })
    })
}

#[derive(Serialize)]
struct Answer<'a> {
    accepted: usize,
    duplicates: usize,
    rejected: usize,
    results: Vec<OneResult<'a>>,
}

#[derive(Serialize)]
struct OneResult<'a> {
    index: i32,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail_fr: Option<&'a str>,
}

fn answer(receipts: &[Receipt]) -> Response {
    let Tally {
        accepted,
        duplicates,
        rejected,
    } = Tally::of(receipts);
    let results = receipts.iter().map(result).collect();
    answer::json(
        StatusCode::OK,
        "application/json",
        &Answer {
            accepted,
            duplicates,
            rejected,
            results,
        },
    )
}

fn result(receipt: &Receipt) -> OneResult<'_> {
    let Receipt {
        index,
        status,
        position,
        refusal,
    } = receipt;
    let refusal = refusal.as_deref();
    OneResult {
        index: *index,
        status: status.as_str(),
        position: position.map(|p| p.to_string()),
        code: refusal.map(|r| r.code.as_str()),
        field: refusal.and_then(|r| r.field.as_deref()),
        detail: refusal.map(|r| r.detail.as_str()),
        detail_fr: refusal.map(|r| r.detail_fr.as_str()),
    }
}

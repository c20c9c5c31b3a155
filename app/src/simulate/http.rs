//! Sending over HTTP: `POST /v1/readings`, one request at a time per connection, kept open.

use std::collections::BTreeMap;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::delivery::{Answered, Delivery, Message, Verdict};
use super::record::for_http;
use crate::tls;

/// What one attempt gave.
enum Attempt {
    Judged(Verdict),
    /// Not now: try again.
    Later(String),
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    results: Vec<Judgement>,
}

#[derive(Deserialize)]
struct Judgement {
    index: u64,
    status: String,
    #[serde(default)]
    code: Option<String>,
}

#[derive(Deserialize)]
struct Problem {
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    detail: Option<String>,
}

/// Delivers messages until there are no more.
pub(super) async fn run(delivery: Delivery, mut messages: mpsc::Receiver<Message>, answers: mpsc::Sender<Answered>) {
    let mut connection = None;
    while let Some(message) = messages.recv().await {
        let begun = Instant::now();
        let body = Bytes::from(for_http(&message.records));
        let verdict = deliver(&delivery, &mut connection, body, message.records.len()).await;
        let took = begun.elapsed();
        let given_up = match &verdict {
            Verdict::Unanswered(reason) => Some(reason.clone()),
            Verdict::Judged { .. } => None,
        };
        if answers.send(Answered { message, verdict, took }).await.is_err() {
            return;
        }
        if let Some(reason) = given_up {
            return give_up(&reason, messages, &answers).await;
        }
    }
}

/// A door that has kept silent for as long as one waits, or lets nobody in, is not asked again for each message.
async fn give_up(reason: &str, mut messages: mpsc::Receiver<Message>, answers: &mpsc::Sender<Answered>) {
    while let Some(message) = messages.recv().await {
        let verdict = Verdict::Unanswered(reason.to_owned());
        let took = Duration::ZERO;
        if answers.send(Answered { message, verdict, took }).await.is_err() {
            return;
        }
    }
}

/// Tries until there is an answer or patience ends.
async fn deliver(
    delivery: &Delivery,
    connection: &mut Option<SendRequest<Full<Bytes>>>,
    body: Bytes,
    records: usize,
) -> Verdict {
    let until = Instant::now() + delivery.patience;
    let mut pause = Duration::from_millis(50);
    loop {
        let reason = match timeout(
            until.saturating_duration_since(Instant::now()),
            attempt(delivery, connection, body.clone(), records),
        )
        .await
        {
            Ok(Ok(Attempt::Judged(verdict))) => return verdict,
            Ok(Ok(Attempt::Later(reason))) => reason,
            Ok(Err(reason)) => {
                *connection = None;
                reason
            }
            Err(_) => "no answer in time".to_owned(),
        };
        if Instant::now() + pause >= until {
            *connection = None;
            return Verdict::Unanswered(reason);
        }
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(2));
    }
}

async fn attempt(
    delivery: &Delivery,
    connection: &mut Option<SendRequest<Full<Bytes>>>,
    body: Bytes,
    records: usize,
) -> Result<Attempt, String> {
    let sender = match connection {
        Some(sender) if !sender.is_closed() => sender,
        _ => connection.insert(connect(delivery).await?),
    };
    let mut request = Request::post("/v1/readings")
        .header(header::HOST, &delivery.target.address)
        .header(header::CONTENT_TYPE, "application/json");
    if let Some(token) = &delivery.token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let request = request.body(Full::new(body)).map_err(|e| e.to_string())?;
    sender.ready().await.map_err(|e| e.to_string())?;
    let response = sender.send_request(request).await.map_err(|e| e.to_string())?;
    let status = response.status();
    let body = response.into_body().collect().await.map_err(|e| e.to_string())?;
    judge(status, &body.to_bytes(), records)
}

async fn connect(delivery: &Delivery) -> Result<SendRequest<Full<Bytes>>, String> {
    let stream = tls::connect(&delivery.target.address, delivery.tls.as_ref()).await?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    tokio::spawn(connection);
    Ok(sender)
}

fn judge(status: StatusCode, body: &[u8], records: usize) -> Result<Attempt, String> {
    if status == StatusCode::OK {
        let answer: Answer = serde_json::from_slice(body).map_err(|e| format!("the answer cannot be read: {e}"))?;
        return Ok(Attempt::Judged(verdict_of(answer)));
    }
    let problem: Option<Problem> = serde_json::from_slice(body).ok();
    let told = |p: &Problem| p.detail.clone().or_else(|| p.code.clone());
    let reason = problem.as_ref().and_then(told).unwrap_or_else(|| status.to_string());
    Ok(match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Attempt::Judged(Verdict::Unanswered(format!(
            "the door asks for another token: {reason}"
        ))),
        StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            let code = problem
                .and_then(|p| p.code)
                .unwrap_or_else(|| status.as_u16().to_string());
            let refused = BTreeMap::from([(code, records as u64)]);
            Attempt::Judged(Verdict::Judged { refused, duplicates: 0 })
        }
        StatusCode::TOO_MANY_REQUESTS => Attempt::Later(reason),
        status if status.is_server_error() => Attempt::Later(reason),
        _ => Attempt::Judged(Verdict::Unanswered(reason)),
    })
}

fn verdict_of(answer: Answer) -> Verdict {
    let mut refused: BTreeMap<u64, String> = BTreeMap::new();
    let mut duplicates = BTreeMap::new();
    for judgement in answer.results {
        match judgement.status.as_str() {
            "rejected" => {
                refused.insert(judgement.index, judgement.code.unwrap_or_else(|| "rejected".to_owned()));
            }
            "duplicate" => {
                duplicates.insert(judgement.index, ());
            }
            _ => {}
        }
    }
    let mut by_code = BTreeMap::new();
    for code in refused.into_values() {
        *by_code.entry(code).or_default() += 1;
    }
    Verdict::Judged {
        refused: by_code,
        duplicates: duplicates.len() as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_counted_per_record() {
        let body = br#"{"accepted":1,"duplicates":1,"rejected":1,"results":[
            {"index":0,"status":"accepted"},{"index":1,"status":"duplicate"},
            {"index":2,"status":"rejected","code":"implausible","field":"value"}]}"#;
        let Ok(Attempt::Judged(verdict)) = judge(StatusCode::OK, body, 3) else {
            panic!()
        };
        let refused = BTreeMap::from([("implausible".to_owned(), 1)]);
        assert_eq!(verdict, Verdict::Judged { refused, duplicates: 1 });
    }

    #[tokio::test]
    async fn a_door_that_is_not_there_is_waited_for_once() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = closed.local_addr().unwrap().to_string();
        drop(closed);
        let delivery = Delivery {
            target: super::super::delivery::Target {
                mqtt: false,
                tls: false,
                address,
            },
            tls: None,
            token: None,
            connections: 1,
            window: 1,
            batch: 1,
            patience: Duration::from_millis(120),
        };
        let (sender, messages) = mpsc::channel(64);
        let (answers, mut answered) = mpsc::channel(64);
        for _ in 0..50 {
            sender.send(Message { records: Vec::new() }).await.unwrap();
        }
        drop(sender);
        let begun = Instant::now();
        run(delivery, messages, answers).await;
        let mut reasons = Vec::new();
        while let Some(answer) = answered.recv().await {
            reasons.push(matches!(answer.verdict, Verdict::Unanswered(_)));
        }
        assert_eq!(reasons, [true; 50]);
        assert!(
            begun.elapsed() < Duration::from_millis(120) * 50,
            "not once for each message"
        );
    }

    #[test]
    fn what_can_pass_is_tried_again_and_what_cannot_is_not() {
        let problem = br#"{"code":"too_large","detail":"too large"}"#;
        for (status, again) in [
            (503, true),
            (429, true),
            (500, true),
            (401, false),
            (413, false),
            (404, false),
        ] {
            let attempt = judge(StatusCode::from_u16(status).unwrap(), problem, 2).unwrap();
            assert_eq!(matches!(attempt, Attempt::Later(_)), again, "{status}");
        }
        let Ok(Attempt::Judged(Verdict::Judged { refused, .. })) = judge(StatusCode::PAYLOAD_TOO_LARGE, problem, 2)
        else {
            panic!()
        };
        assert_eq!(refused["too_large"], 2);
    }
}

//! The table of bad messages through every door of a running house, each between two good ones: its own verdict at the
//! door, its bytes in `fajma.rejected`, and nothing else affected.

mod mqtt;
mod packed;
mod senml;

use eventlog::{Limit, Topic};
use hyper::Method;
use hyper::body::Bytes;
use ingest::bad::{CASES, Case, Via};
use schemas::codec;
use schemas::facts::Door;
use schemas::journal::Fact;
use schemas::refused::{Code, Rejection};
use serde_json::Value;

use super::house::House;
use packed::Packing;

const V2_JSON: &str = "application/vnd.kafka.json.v2+json";
const V2_BINARY: &str = "application/vnd.kafka.binary.v2+json";

/// What was sent, and what must be found.
#[derive(Default)]
struct Account {
    good: i64,
    refused: Vec<Refused>,
}

/// A refusal that must be found.
struct Refused {
    name: String,
    door: Door,
    code: Code,
    field: Option<String>,
    /// What was sent; what is kept must be all of it, or its one record.
    sent: Vec<u8>,
}

impl Refused {
    fn is(&self, kept: &Rejection) -> bool {
        (kept.door, kept.code, kept.field.as_deref()) == (self.door, self.code, self.field.as_deref())
    }
}

impl Account {
    /// Another good reading, of the patient and sensor of the table.
    fn good(&mut self) -> String {
        self.good += 1;
        let seq = self.good;
        format!(r#"{{"patient_id":"p1","sensor_id":"s1","type":"heart_rate","value":72,"seq":{seq}}}"#)
    }

    fn bad(&mut self, way: &str, door: Door, case: &Case, sent: &[u8]) {
        self.refused.push(Refused {
            name: format!("{} ({way})", case.name),
            door,
            code: case.code,
            field: case.field.map(str::to_owned),
            sent: sent.to_vec(),
        });
    }
}

fn over_http(case: &&Case) -> bool {
    matches!(case.via, Via::All | Via::Http)
}

/// A message that is one record in JSON, so that it can stand among others.
fn is_record(case: &&Case) -> bool {
    case.content_type.is_none() && serde_json::from_slice::<Value>(case.bytes).is_ok_and(|v| v.is_object())
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

async fn post(house: &House, path: &str, kind: &str, packing: Packing, body: &[u8]) -> (u16, Value) {
    let body = Bytes::from(packing.pack(body));
    packed::call(&house.http, Method::POST, path, &house.token, (kind, packing, body)).await
}

/// How the REST Proxy names a refusal.
fn said(case: &Case) -> String {
    match case.field {
        Some(field) => format!("{} ({field}): ", case.code),
        None => format!("{}: ", case.code),
    }
}

/// `POST /v1/readings`, message by message as the table has them.
async fn native(house: &House, packing: Packing, account: &mut Account) {
    for case in CASES.iter().filter(over_http) {
        let kind = case.content_type.unwrap_or("application/octet-stream");
        let (status, answer) = post(house, "/v1/readings", kind, packing, case.bytes).await;
        let verdict = if status == 200 { &answer["results"][0] } else { &answer };
        let whole = matches!(case.code, Code::Unreadable | Code::TooLarge);
        assert!(
            status == 200 || whole && matches!(status, 400 | 413),
            "{}: {status} {answer}",
            case.name
        );
        assert_eq!(verdict["code"], case.code.as_str(), "{}: {status} {answer}", case.name);
        if status == 200 {
            assert_eq!(verdict["field"].as_str(), case.field, "{}: {answer}", case.name);
            assert!(
                ["detail", "detail_fr"]
                    .iter()
                    .all(|l| verdict[l].as_str().is_some_and(|t| t.len() > 8))
            );
        }
        account.bad(&format!("native, {packing:?}"), Door::Http, case, case.bytes);
        let good = account.good();
        let (_, answer) = post(house, "/v1/readings", "application/json", packing, good.as_bytes()).await;
        assert_eq!(answer["accepted"], 1, "after {}: {answer}", case.name);
    }
}

/// `POST /v1/readings`, each bad record between two good ones.
async fn among_good_ones(house: &House, packing: Packing, account: &mut Account) {
    for case in CASES.iter().filter(over_http).filter(is_record) {
        let bad = std::str::from_utf8(case.bytes).unwrap();
        if bad.starts_with(r#"{"readings""#) {
            continue;
        }
        let body = format!(r#"{{"readings":[{},{bad},{}]}}"#, account.good(), account.good());
        let (status, answer) = post(house, "/v1/readings", "application/json", packing, body.as_bytes()).await;
        let result = |at: usize| answer["results"][at]["status"].as_str().unwrap_or_default().to_owned();
        let results = [0, 1, 2].map(result);
        assert_eq!(
            (status, results.join(" ")),
            (200, "accepted rejected accepted".to_owned()),
            "{}: {answer}",
            case.name
        );
        assert_eq!(
            answer["results"][1]["code"],
            case.code.as_str(),
            "{}: {answer}",
            case.name
        );
        account.bad("native, among others", Door::Http, case, case.bytes);
    }
}

/// Confluent's REST Proxy v2: the message as bytes, and where it is one record also as JSON.
async fn v2(house: &House, packing: Packing, account: &mut Account) {
    let ask = async |kind: &str, case: &Case, values: [String; 3]| {
        let [before, bad, after] = values;
        let body = format!(r#"{{"records":[{{"value":{before}}},{{"value":{bad}}},{{"value":{after}}}]}}"#);
        let (status, answer) = post(house, "/topics/fajma.readings", kind, packing, body.as_bytes()).await;
        assert_eq!(status, 200, "{}: {answer}", case.name);
        for (at, good) in [(0, true), (1, false), (2, true)] {
            let offset = &answer["offsets"][at];
            assert_eq!(offset["error_code"].is_null(), good, "{}: {answer}", case.name);
            assert_eq!(offset["offset"].is_i64(), good, "{}: {answer}", case.name);
        }
        let error = answer["offsets"][1]["error"].as_str().unwrap();
        assert!(error.starts_with(&said(case)), "{}: {error}", case.name);
    };
    for case in CASES.iter().filter(over_http) {
        if case.content_type.is_none() {
            let text = |bytes: &[u8]| format!("\"{}\"", base64(bytes));
            let values = [
                text(account.good().as_bytes()),
                text(case.bytes),
                text(account.good().as_bytes()),
            ];
            ask(V2_BINARY, case, values).await;
            account.bad(
                &format!("REST Proxy v2, bytes, {packing:?}"),
                Door::RestProxy,
                case,
                case.bytes,
            );
        }
        if is_record(&case) {
            let bad = String::from_utf8(case.bytes.to_vec()).unwrap();
            ask(V2_JSON, case, [account.good(), bad, account.good()]).await;
            account.bad(
                &format!("REST Proxy v2, JSON, {packing:?}"),
                Door::RestProxy,
                case,
                case.bytes,
            );
        }
    }
}

/// Confluent's REST Proxy v3: records one after the other, a report for each.
async fn v3(house: &House, packing: Packing, account: &mut Account) {
    let ask = async |case: &Case, kind: &str, values: [String; 3]| {
        let record = |data: String| format!(r#"{{"value":{{"type":"{kind}","data":{data}}}}}"#);
        let body = values.map(record).join("\n");
        let path = "/v3/clusters/fajma/topics/fajma.readings/records";
        let (status, answer) = post(house, path, "application/json", packing, body.as_bytes()).await;
        let text = answer.as_str().map_or_else(|| answer.to_string(), str::to_owned);
        let reports: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((status, reports.len()), (200, 3), "{}: {text}", case.name);
        let good = |report: &Value| report["error_code"] == 200;
        assert!(
            good(&reports[0]) && !good(&reports[1]) && good(&reports[2]),
            "{}: {text}",
            case.name
        );
        let error = reports[1]["message"].as_str().unwrap();
        assert!(error.starts_with(&said(case)), "{}: {error}", case.name);
    };
    for case in CASES.iter().filter(over_http) {
        if case.content_type.is_none() {
            let text = |bytes: &[u8]| format!("\"{}\"", base64(bytes));
            let values = [
                text(account.good().as_bytes()),
                text(case.bytes),
                text(account.good().as_bytes()),
            ];
            ask(case, "BINARY", values).await;
            account.bad(
                &format!("REST Proxy v3, bytes, {packing:?}"),
                Door::RestProxy,
                case,
                case.bytes,
            );
        }
        if is_record(&case) {
            let bad = String::from_utf8(case.bytes.to_vec()).unwrap();
            ask(case, "JSON", [account.good(), bad, account.good()]).await;
            account.bad(
                &format!("REST Proxy v3, JSON, {packing:?}"),
                Door::RestProxy,
                case,
                case.bytes,
            );
        }
    }
}

/// Everything in a topic, by partition.
async fn all(house: &House, topic: Topic) -> Vec<Bytes> {
    let log = &house.server.house.log;
    let mut values = Vec::new();
    for partition in 0..topic.partitions(log.layout().partitions) {
        let mut from = log.bounds(topic, partition).await.unwrap().start;
        loop {
            let batch = log.read(topic, partition, from, Limit::default()).await.unwrap();
            let Some(next) = batch.next() else { break };
            values.extend(batch.entries().iter().map(|entry| entry.value.clone()));
            from = next;
        }
    }
    values
}

impl Account {
    /// The log holds each refusal once, with its bytes, and each good reading once.
    async fn is_kept_by(&self, house: &House) {
        let catalogue = &house.server.house.catalogue;
        let mut kept: Vec<Rejection> = all(house, Topic::Rejected)
            .await
            .iter()
            .map(|value| codec::decode_plain(value, catalogue).unwrap().unwrap())
            .collect();
        assert_eq!(kept.len(), self.refused.len());
        // Bytes that are those that were sent are found first, then those of the one record in them.
        let mut rest = Vec::new();
        for due in &self.refused {
            match kept.iter().position(|r| due.is(r) && r.bytes == due.sent) {
                Some(found) => drop(kept.swap_remove(found)),
                None => rest.push(due),
            }
        }
        for due in rest {
            let within = |r: &Rejection| due.sent.windows(r.bytes.len().max(1)).any(|part| part == r.bytes);
            let found = kept.iter().position(|r| due.is(r) && within(r));
            let found = found.unwrap_or_else(|| panic!("{}: its bytes are not in fajma.rejected", due.name));
            kept.swap_remove(found);
        }
        let is_reading = |value: &Bytes| matches!(codec::decode(value, catalogue).unwrap().fact, Fact::Reading(_));
        let readings = all(house, Topic::Journal)
            .await
            .iter()
            .filter(|value| is_reading(value))
            .count();
        assert_eq!(
            readings as i64, self.good,
            "good readings, each once, and nothing of the bad"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_message_gets_its_own_verdict_through_every_door_and_harms_no_other() {
    assert!(CASES.len() >= 60);
    let house = House::new().await;
    let mut account = Account::default();
    for version in [4, 5] {
        for qos in [1, 2] {
            mqtt::send_all(&house, version, qos, &mut account).await;
        }
    }
    for packing in [Packing::Plain, Packing::Gzip, Packing::Zstd] {
        native(&house, packing, &mut account).await;
        among_good_ones(&house, packing, &mut account).await;
        v2(&house, packing, &mut account).await;
        v3(&house, packing, &mut account).await;
        senml::send_all(&house, packing, &mut account).await;
    }
    account.is_kept_by(&house).await;
    let refused = account.refused.len();
    assert!(refused > 1_500, "{refused}");
    let shown = |answer: &Value| answer["rejected"].as_array().is_some_and(|rows| rows.len() == refused);
    house.until("/v1/rejected?limit=10000", shown).await;
    println!("{refused} bad messages, {} good ones between them", account.good);
    house.stop().await;
}

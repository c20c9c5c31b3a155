//! The bad values of the table said in SenML, in JSON and in CBOR.

use ingest::bad::{CASES, Case};
use schemas::facts::Door;
use serde_json::{Value, json};

use super::super::house::House;
use super::packed::Packing;
use super::{Account, is_record, over_http, post};

/// Metric, unit and value, of a case that is about nothing else.
fn said(case: &Case) -> Option<(String, Option<String>, f64)> {
    let record: Value = serde_json::from_slice(case.bytes).ok()?;
    let known = ["patient_id", "sensor_id", "type", "unit", "value"];
    let record = record.as_object()?;
    let sensor =
        record.get("sensor_id").is_some_and(|s| s == "s1") && record.get("patient_id").is_some_and(|p| p == "p1");
    let plain = sensor && record.keys().all(|key| known.contains(&key.as_str()));
    // A field that was there twice is only seen in the text.
    let once = case.bytes.windows(7).filter(|part| part == b"\"value\"").count() == 1;
    let unit = match record.get("unit") {
        Some(unit) => Some(unit.as_str()?.to_owned()),
        None => None,
    };
    (plain && once).then_some(())?;
    Some((
        record.get("type")?.as_str()?.to_owned(),
        unit,
        record.get("value")?.as_f64()?,
    ))
}

fn cbor_text(out: &mut Vec<u8>, text: &str) {
    assert!(text.len() < 24 || text.len() < 256);
    if text.len() < 24 {
        out.push(0x60 | text.len() as u8);
    } else {
        out.extend([0x78, text.len() as u8]);
    }
    out.extend_from_slice(text.as_bytes());
}

fn cbor((metric, unit, value): &(String, Option<String>, f64)) -> Vec<u8> {
    let mut out = vec![0x81, 0xa2 + u8::from(unit.is_some()), 0x00];
    cbor_text(&mut out, &format!("p1/s1/{metric}"));
    if let Some(unit) = unit {
        out.push(0x01);
        cbor_text(&mut out, unit);
    }
    out.extend([0x02, 0xfb]);
    out.extend(value.to_be_bytes());
    out
}

/// Each bad value as a pack of its own, and a good one after it.
pub(super) async fn send_all(house: &House, packing: Packing, account: &mut Account) {
    let mut cases = 0;
    for case in CASES.iter().filter(over_http).filter(is_record) {
        let Some(bad) = said(case) else { continue };
        cases += 1;
        let (metric, unit, value) = &bad;
        let mut record = json!({"n": format!("p1/s1/{metric}"), "v": value});
        if let Some(unit) = unit {
            record["u"] = json!(unit);
        }
        let packs = [
            ("application/senml+json", json!([record]).to_string().into_bytes()),
            ("application/senml+cbor", cbor(&bad)),
        ];
        for (kind, pack) in packs {
            let (status, answer) = post(house, "/v1/readings", kind, packing, &pack).await;
            let verdict = &answer["results"][0];
            assert_eq!(status, 200, "{}: {answer}", case.name);
            assert_eq!(verdict["code"], case.code.as_str(), "{} as {kind}: {answer}", case.name);
            assert_eq!(
                verdict["field"].as_str(),
                case.field,
                "{} as {kind}: {answer}",
                case.name
            );
            account.bad(kind, Door::Http, case, &pack);
            let good = account.good();
            let (_, answer) = post(house, "/v1/readings", "application/json", packing, good.as_bytes()).await;
            assert_eq!(answer["accepted"], 1, "after {}: {answer}", case.name);
        }
    }
    assert!(cases >= 12, "{cases}");
}

//! Every bad message is refused for the right reason, with its bytes whole, in two languages.

use bytes::Bytes;
use ingest::bad::{CASES, Case, PATIENT, SENSOR, Via};
use ingest::{Context, Kind, Verdict, accept};
use schemas::codec::Catalogue;
use schemas::facts::Door;
use schemas::policy::Policy;

use crate::log::NOW;

pub(crate) fn judge(bytes: &[u8], context: &Context<'_>) -> Vec<Verdict> {
    let rules = accept::Rules {
        policy: &Policy::standard(),
        catalogue: &Catalogue::builtin(),
        roster: &ingest::Roster::default(),
        bounds: accept::Bounds::default(),
    };
    accept::accept(&Bytes::copy_from_slice(bytes), context, &rules)
}

fn contexts(case: &Case) -> Vec<Context<'_>> {
    let http = Context::new(Door::Http, NOW);
    let mqtt = |kind| Context::new(Door::Mqtt, NOW).on_topic(PATIENT, SENSOR, kind);
    let mut contexts = match case.via {
        Via::All => vec![http, mqtt(Kind::Data)],
        Via::Http => vec![http],
        Via::MqttData => vec![mqtt(Kind::Data)],
        Via::MqttStatus => vec![mqtt(Kind::Status)],
    };
    for context in &mut contexts {
        context.content_type = case.content_type;
    }
    contexts
}

#[test]
fn every_bad_message_is_refused_for_its_own_reason_and_kept_whole() {
    assert!(CASES.len() >= 60);
    let mut wrong = Vec::new();
    for case in CASES {
        for context in contexts(case) {
            let verdicts = judge(case.bytes, &context);
            let found: Vec<_> = verdicts
                .iter()
                .map(|v| v.refused().map(|r| (r.code, r.field.as_deref())))
                .collect();
            if found != [Some((case.code, case.field))] {
                wrong.push(format!("{} ({}): {verdicts:?}", case.name, context.door));
                continue;
            }
            let refused = verdicts[0].refused().unwrap();
            let kept = refused.bytes.as_ref();
            assert!(
                kept == case.bytes || case.bytes.windows(kept.len().max(1)).any(|w| w == kept),
                "{}",
                case.name
            );
            assert!(!refused.detail.is_empty() && !refused.detail_fr.is_empty() && refused.detail != refused.detail_fr);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_bad_record_never_costs_its_neighbours() {
    let good = |n: u32| format!(r#"{{"patient_id":"p1","sensor_id":"s1","type":"heart_rate","value":72,"seq":{n}}}"#);
    for case in CASES
        .iter()
        .filter(|c| c.via == Via::All && c.content_type.is_none() && c.bytes.starts_with(br#"{"patient"#))
    {
        let bad = String::from_utf8_lossy(case.bytes);
        {
            let message = format!("[{},{bad},{}]", good(1), good(2));
            let verdicts = judge(message.as_bytes(), &Context::new(Door::Http, NOW));
            let facts: Vec<_> = verdicts.iter().map(|v| (v.index, v.fact().is_some())).collect();
            assert_eq!(facts, [(0, true), (1, false), (2, true)], "{}", case.name);
            assert_eq!(verdicts[1].refused().unwrap().bytes, case.bytes, "{}", case.name);
        }
    }
}

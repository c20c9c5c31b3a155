//! Whatever comes, it is judged.

use ingest::{Context, Kind};
use proptest::prelude::*;
use schemas::facts::Door;

use crate::bad_messages::judge;
use crate::log::NOW;

/// Bytes that nearly are a message.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let words = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\",
        "\"type\"",
        "\"heart_rate\"",
        "\"value\"",
        "72",
        "-1e5",
        "NaN",
        "null",
        "true",
        "\"readings\"",
        "\"bn\"",
        "\"n\"",
        "\"p/s/spo2\"",
        "\"v\"",
        "\"t\"",
        "1e308",
        "\"at\"",
        "\"samples\"",
        "\"rate\"",
        " ",
        "\u{e9}",
    ]);
    prop::collection::vec(words, 0..40).prop_map(|words| words.concat().into_bytes())
}

fn framed() -> impl Strategy<Value = Vec<u8>> {
    (0_u8..15, prop::collection::vec(any::<u8>(), 0..80)).prop_map(|(id, body)| [&[0, 0, 0, 0, id][..], &body].concat())
}

fn cbor() -> impl Strategy<Value = Vec<u8>> {
    (0x80_u8..=0x9f, prop::collection::vec(any::<u8>(), 0..80)).prop_map(|(head, body)| [&[head][..], &body].concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_get_a_verdict_and_never_a_panic(
        bytes in prop_oneof![prop::collection::vec(any::<u8>(), 0..200), nearly(), framed(), cbor()],
        label in prop::sample::select(vec![None, Some("application/json"), Some("application/senml+json"), Some("application/senml+cbor"), Some("avro/binary")]),
        kind in prop::sample::select(vec![Kind::Data, Kind::Status, Kind::Mixed]),
    ) {
        let mut context = Context::new(Door::Mqtt, NOW).on_topic("p", "s", kind);
        context.content_type = label;
        let verdicts = judge(&bytes, &context);
        prop_assert!(!verdicts.is_empty());
        prop_assert!(verdicts.windows(2).all(|w| w[0].index <= w[1].index));
        prop_assert_eq!(verdicts, judge(&bytes, &context));
    }
}

//! What our codec writes and reads is what Avro says, field by field; and no bytes make it panic.

use proptest::prelude::*;
use schemas::codec::{self, Catalogue, KINDS};
use schemas::refused::{Cutover, Rejection, Skip};

use crate::sample::{self, Tape};

fn tape() -> impl Strategy<Value = Vec<u64>> {
    prop::collection::vec(any::<u64>(), 0..120)
}

#[test]
fn every_schema_parses_under_its_name_with_an_id_and_a_version_of_its_own() {
    let mut seen = std::collections::BTreeSet::new();
    for kind in KINDS {
        let apache_avro::Schema::Record(record) = sample::parse(kind) else {
            panic!("{} is no record", kind.name)
        };
        assert_eq!(record.name.to_string(), format!("fajma.{}", kind.name));
        assert!(
            record.doc.is_some() && record.fields.iter().all(|f| f.doc.is_some()),
            "{}",
            kind.name
        );
        assert!(seen.insert((kind.id.to_string(), 0)), "id {} is there twice", kind.id);
        assert!(
            seen.insert((kind.name.to_owned(), kind.version)),
            "{} is there twice",
            kind.name
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn our_codec_and_apache_avro_agree_on_every_kind(tape in tape()) {
        let catalogue = Catalogue::builtin();
        for kind in sample::newest() {
            let schema = sample::parse(kind);
            let value = sample::value(&schema, &mut Tape(&tape));
            let theirs = sample::framed(kind.id, &sample::write(&schema, &value));
            let (json, ours) = sample::through_ours(&theirs, &catalogue)
                .unwrap_or_else(|e| panic!("{}: {e}\n{value:?}", kind.name));
            prop_assert_eq!(&ours, &theirs, "{}: other bytes", kind.name);
            // Our bytes, read by apache-avro with the .avsc: every name has the value that our struct has under it.
            let read = sample::read(&schema, &ours[5..]);
            prop_assert_eq!(sample::json_of_value(&read), json, "{}: other fields", kind.name);
        }
    }

    #[test]
    fn no_bytes_make_a_reader_panic(id in 0_u32..20, body in prop::collection::vec(any::<u8>(), 0..200)) {
        let bytes = sample::framed(id, &body);
        read_all_ways(&bytes);
        read_all_ways(&body);
    }

    #[test]
    fn no_damage_to_a_record_makes_a_reader_panic(
        tape in tape(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>(),
    ) {
        for kind in sample::newest() {
            let schema = sample::parse(kind);
            let body = sample::write(&schema, &sample::value(&schema, &mut Tape(&tape)));
            let mut bytes = sample::framed(kind.id, &body);
            let at = at.index(bytes.len());
            if cut { bytes.truncate(at) } else { bytes[at] = byte }
            read_all_ways(&bytes);
        }
    }
}

fn read_all_ways(bytes: &[u8]) {
    let catalogue = Catalogue::builtin();
    let _ = codec::decode(bytes, &catalogue);
    let _ = codec::decode_derived(bytes, &catalogue);
    let _ = codec::decode_plain::<Rejection>(bytes, &catalogue);
    let _ = codec::decode_plain::<Skip>(bytes, &catalogue);
    let _ = codec::decode_plain::<Cutover>(bytes, &catalogue);
}

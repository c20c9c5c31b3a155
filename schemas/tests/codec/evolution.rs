//! Readers of one time and writers of another.

use apache_avro::Schema;
use apache_avro::schema_compatibility::{Compatibility, SchemaCompatibility};
use apache_avro::types::Value;
use schemas::codec::{self, Catalogue, DecodeError, KINDS, Kind};
use schemas::journal::Fact;
use serde_json::{Value as Json, json};

use crate::sample::{self, Tape};

const FOREIGN: u32 = 4_711;

fn kind(name: &str) -> &'static Kind {
    codec::newest(name).expect("a kind of ours")
}

/// The text of a schema after a change to its JSON.
fn changed(kind: &Kind, change: impl FnOnce(&mut Json)) -> String {
    let mut text: Json = serde_json::from_str(kind.text).expect("JSON");
    change(&mut text);
    text.to_string()
}

fn fields(schema: &mut Json) -> &mut Vec<Json> {
    schema["fields"].as_array_mut().expect("fields")
}

/// Framed bytes of a record of that schema, and what they say.
fn written(text: &str) -> (Vec<u8>, Json) {
    let schema = Schema::parse_str(text).expect("a schema");
    let tape: Vec<u64> = sample::scrambled(7).iter().map(|n| n | 1).collect();
    let value: Value = sample::value(&schema, &mut Tape(&tape));
    (
        sample::framed(FOREIGN, &sample::write(&schema, &value)),
        sample::json_of_value(&value),
    )
}

fn read_after_learning(text: &str, bytes: &[u8]) -> Json {
    let catalogue = Catalogue::builtin();
    assert!(!catalogue.knows(FOREIGN));
    assert_eq!(
        codec::decode(bytes, &catalogue),
        Err(DecodeError::UnknownSchema(FOREIGN))
    );
    catalogue.learn(FOREIGN, text).expect("a schema that fits");
    assert!(catalogue.knows(FOREIGN));
    sample::through_ours(bytes, &catalogue).expect("a record").0
}

#[test]
fn yesterdays_record_is_read_with_the_default_of_the_field_it_has_not() {
    let text = changed(kind("Reading"), |s| fields(s).retain(|f| f["name"] != "epoch"));
    let (bytes, mut said) = written(&text);
    said["epoch"] = Json::Null;
    assert_eq!(read_after_learning(&text, &bytes), said);
}

#[test]
fn tomorrows_record_is_read_without_the_field_we_do_not_know() {
    let posture = json!({"name": "posture", "type": ["null", "string"], "default": null});
    for place in [0, 8] {
        let text = changed(kind("Reading"), |s| fields(s).insert(place, posture.clone()));
        let (bytes, mut said) = written(&text);
        let posture = said.as_object_mut().and_then(|s| s.remove("posture"));
        assert!(posture.is_some_and(|p| p.is_string()));
        assert_eq!(read_after_learning(&text, &bytes), said);
    }
    let text = changed(kind("AlertChanged"), |s| fields(s).push(posture));
    let (bytes, mut said) = written(&text);
    said.as_object_mut().expect("a record").remove("posture");
    assert_eq!(read_after_learning(&text, &bytes), said);
}

#[test]
fn our_own_schema_under_another_id_is_ours() {
    let text = changed(kind("Skip"), |s| s["doc"] = json!("said otherwise"));
    let (bytes, said) = written(&text);
    assert_eq!(read_after_learning(&text, &bytes), said);
}

#[test]
fn what_is_left_over_after_an_older_record_is_refused() {
    let text = changed(kind("Reading"), |s| fields(s).retain(|f| f["name"] != "epoch"));
    let (mut bytes, _) = written(&text);
    bytes.push(0);
    let catalogue = Catalogue::builtin();
    catalogue.learn(FOREIGN, &text).expect("a schema that fits");
    assert!(matches!(
        codec::decode(&bytes, &catalogue),
        Err(DecodeError::Unresolvable { schema_id: FOREIGN, .. })
    ));
}

#[test]
fn an_unknown_kind_is_passed_over_only_where_its_schema_says_so() {
    for (ignorable, expected) in [
        (json!(true), Ok(Fact::Unknown { schema_id: FOREIGN })),
        (json!(false), Err(DecodeError::UnknownKind("fajma.BedMoved".to_owned()))),
        (Json::Null, Err(DecodeError::UnknownKind("fajma.BedMoved".to_owned()))),
    ] {
        let text = changed(kind("Reading"), |s| {
            s["name"] = json!("BedMoved");
            s["fajma.ignorable"] = ignorable;
        });
        let (bytes, _) = written(&text);
        let catalogue = Catalogue::builtin();
        catalogue.learn(FOREIGN, &text).expect("a record schema");
        assert_eq!(
            codec::decode(&bytes, &catalogue).map(|envelope| envelope.fact),
            expected
        );
        assert_eq!(codec::decode_derived(&bytes, &catalogue).is_ok(), expected.is_ok());
    }
}

#[test]
fn a_kind_of_another_family_is_no_record_of_this_one() {
    let mut bytes = Vec::new();
    let id = kind("Skip").id;
    bytes.extend(sample::framed(id, &[0; 40]));
    let catalogue = Catalogue::builtin();
    assert!(
        matches!(codec::decode(&bytes, &catalogue), Err(DecodeError::Malformed { schema_id, .. }) if schema_id == id)
    );
    assert_eq!(codec::decode(b"{\"type\":1}", &catalogue), Err(DecodeError::NotFramed));
}

/// Whether each version of a kind reads the one before it.
fn history(versions: &[(&str, &str)]) -> Result<(), String> {
    for (i, (name, text)) in versions.iter().enumerate() {
        let Some((_, before)) = versions[..i].iter().rev().find(|(n, _)| n == name) else {
            continue;
        };
        let parse = |text: &str| Schema::parse_str(text).map_err(|e| format!("{name}: {e}"));
        match SchemaCompatibility::can_read(&parse(before)?, &parse(text)?) {
            Ok(Compatibility::Full) => {}
            Ok(Compatibility::Partial) => return Err(format!("{name}: some older values cannot be read")),
            Err(e) => return Err(format!("{name}: {e}")),
        }
    }
    Ok(())
}

#[test]
fn every_version_reads_the_one_before_it() {
    let versions: Vec<_> = KINDS.iter().map(|k| (k.name, k.text)).collect();
    assert_eq!(history(&versions), Ok(()));
    for kind in KINDS {
        let earlier = KINDS
            .iter()
            .take_while(|k| k.id != kind.id)
            .filter(|k| k.name == kind.name);
        assert_eq!(
            usize::from(kind.version),
            earlier.count() + 1,
            "{}: versions count up",
            kind.name
        );
    }
}

type Change = fn(&mut Json);

#[test]
fn a_change_that_older_records_do_not_survive_is_caught() {
    let reading = kind("Reading");
    let bad: [(&str, Change); 4] = [
        ("a field without a default", |s| {
            fields(s).push(json!({"name": "posture", "type": "string"}));
        }),
        ("another type", |s| {
            for field in fields(s).iter_mut().filter(|f| f["name"] == "value") {
                field["type"] = json!("boolean");
            }
        }),
        ("another name of a field", |s| {
            for field in fields(s).iter_mut().filter(|f| f["name"] == "value") {
                field["name"] = json!("number");
            }
        }),
        ("a symbol less", |s| {
            for field in fields(s).iter_mut().filter(|f| f["name"] == "door") {
                field["type"]["symbols"] = json!(["mqtt"]);
            }
        }),
    ];
    for (what, change) in bad {
        let text = changed(reading, change);
        assert!(
            history(&[("Reading", reading.text), ("Reading", &text)]).is_err(),
            "{what}"
        );
    }
    let good = changed(reading, |s| {
        fields(s).push(json!({"name": "posture", "type": ["null", "string"], "default": null}));
    });
    assert_eq!(history(&[("Reading", reading.text), ("Reading", &good)]), Ok(()));
}

#[test]
fn a_schema_of_ours_that_we_cannot_read_is_refused_when_it_is_learnt() {
    let text = changed(kind("Reading"), |s| fields(s).retain(|f| f["name"] != "value"));
    for bad in [text.as_str(), "{", "\"string\""] {
        assert!(matches!(
            Catalogue::builtin().learn(FOREIGN, bad),
            Err(DecodeError::Unresolvable { schema_id: FOREIGN, .. })
        ));
    }
}

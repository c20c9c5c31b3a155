//! Messages that must be refused, and how: one table for every door.
//!
//! Each message holds one record of patient [`PATIENT`] and sensor [`SENSOR`], and gets exactly one refusal.

use schemas::refused::Code;

/// The patient that the messages name, and the topic for those sent by MQTT.
pub const PATIENT: &str = "p1";
/// The sensor that the messages name, and the topic for those sent by MQTT.
pub const SENSOR: &str = "s1";

/// Through which doors a message is refused in this way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// Every door; by MQTT, on the sensor's `data` topic.
    All,
    /// Doors whose records name patient and sensor themselves.
    Http,
    /// MQTT's `data` topic.
    MqttData,
    /// MQTT's `status` topic.
    MqttStatus,
}

/// A bad message.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// What is wrong with it.
    pub name: &'static str,
    /// Which doors refuse it so.
    pub via: Via,
    /// How it is labelled.
    pub content_type: Option<&'static str>,
    /// The message.
    pub bytes: &'static [u8],
    /// The code it is refused with.
    pub code: Code,
    /// The field at fault.
    pub field: Option<&'static str>,
}

macro_rules! cases {
    ($($via:ident $type:expr, $name:literal: $bytes:expr => $code:ident $field:expr;)*) => {
        /// The table.
        pub const CASES: &[Case] = &[$(Case {
            name: $name, via: Via::$via, content_type: $type, bytes: $bytes, code: Code::$code, field: $field,
        }),*];
    };
}

/// A record of the patient and sensor with these fields.
macro_rules! of {
    ($fields:literal) => {
        concat!(r#"{"patient_id":"p1","sensor_id":"s1","#, $fields, "}").as_bytes()
    };
}

const SENML_JSON: Option<&str> = Some("application/senml+json");
const SENML_CBOR: Option<&str> = Some("application/senml+cbor");
const AVRO: Option<&str> = Some("avro/binary");

cases! {
    All None, "nothing at all": b"" => Unreadable None;
    All None, "white space": b" \n" => Unreadable None;
    All None, "a text": b"hello" => Unreadable None;
    All None, "a number": b"72" => Unreadable None;
    All None, "null": b"null" => Unreadable None;
    All None, "random bytes": b"\xc3\x28\xff\xfe\x01" => Unreadable None;
    All None, "an empty list": b"[]" => Unreadable None;
    All None, "an empty list of readings": br#"{"readings":[]}"# => Unreadable None;
    All None, "an object that does not end": br#"{"type":"heart_rate","value":72"# => Unreadable None;
    All None, "a list that does not end": br#"[{"patient_id":"p1","sensor_id":"s1","type":"heart_rate","value":72}"# => Unreadable None;
    All None, "brackets that do not match": br#"{"type":"heart_rate","value":[72}]"# => Unreadable None;
    All None, "something after the end": br#"{"type":"heart_rate","value":72} x"# => Unreadable None;
    All None, "a comma too many": of!(r#""type":"heart_rate","value":72,"#) => Unreadable None;
    All None, "a text with bytes that are no UTF-8": b"{\"sensor_id\":\"s1\",\"patient_id\":\"p1\",\"type\":\"\xff\",\"value\":1}" => Unreadable None;
    All None, "a record that is a list": b"[[1]]" => Unreadable None;
    All None, "a record that is a number": b"[72]" => Unreadable None;
    All None, "no type": of!(r#""value":72"#) => MissingField Some("type");
    All None, "a type that is a number": of!(r#""type":7,"value":72"#) => UnknownMetric Some("type");
    All None, "a metric nobody knows": of!(r#""type":"mood","value":72"#) => UnknownMetric Some("type");
    All None, "a metric in capitals": of!(r#""type":"Heart_Rate","value":72"#) => UnknownMetric Some("type");
    All None, "no value": of!(r#""type":"heart_rate""#) => MissingField Some("value");
    All None, "a value that is a text": of!(r#""type":"heart_rate","value":"72""#) => NotANumber Some("value");
    All None, "a value that is null": of!(r#""type":"heart_rate","value":null"#) => NotANumber Some("value");
    All None, "a value that is true": of!(r#""type":"heart_rate","value":true"#) => NotANumber Some("value");
    All None, "a value that is a list": of!(r#""type":"heart_rate","value":[72]"#) => NotANumber Some("value");
    All None, "NaN as Python writes it": of!(r#""type":"heart_rate","value":NaN"#) => NotANumber Some("value");
    All None, "Infinity as Python writes it": of!(r#""type":"heart_rate","value":-Infinity"#) => NotANumber Some("value");
    All None, "a number beyond all numbers": of!(r#""type":"heart_rate","value":1e999"#) => NotANumber Some("value");
    All None, "a unit nobody knows": of!(r#""type":"heart_rate","value":72,"unit":"furlong""#) => UnknownUnit Some("unit");
    All None, "another metric's unit": of!(r#""type":"spo2","value":97,"unit":"mm[Hg]""#) => UnknownUnit Some("unit");
    All None, "a unit that is a number": of!(r#""type":"spo2","value":97,"unit":1"#) => UnknownUnit Some("unit");
    All None, "glucose without unit": of!(r#""type":"blood_glucose","value":5.5"#) => MissingField Some("unit");
    All None, "temperature without unit": of!(r#""type":"body_temperature","value":37"#) => MissingField Some("unit");
    All None, "weight without unit": of!(r#""type":"weight","value":70"#) => MissingField Some("unit");
    All None, "a pulse of 1000": of!(r#""type":"heart_rate","value":1000"#) => Implausible Some("value");
    All None, "a zero without contact": of!(r#""type":"heart_rate","value":0"#) => Implausible Some("value");
    All None, "a zero that has no contact": of!(r#""type":"heart_rate","value":0,"contact":false"#) => Implausible Some("value");
    All None, "a zero where contact changes nothing": of!(r#""type":"spo2","value":0,"contact":true"#) => Implausible Some("value");
    All None, "a saturation above 100": of!(r#""type":"spo2","value":101"#) => Implausible Some("value");
    All None, "Fahrenheit called Celsius": of!(r#""type":"body_temperature","value":98.6,"unit":"Cel""#) => Implausible Some("value");
    All None, "a pressure from a burst line": of!(r#""type":"systolic","value":11647"#) => Implausible Some("value");
    All None, "half a fall": of!(r#""type":"fall","value":0.5"#) => Implausible Some("value");
    All None, "an interval of nothing": of!(r#""type":"heart_rate","value":0,"unit":"s""#) => Implausible Some("value");
    All None, "yesterday": of!(r#""type":"heart_rate","value":72,"at":"yesterday""#) => TimeUnreadable Some("at");
    All None, "a time as a number": of!(r#""type":"heart_rate","value":72,"at":1767600000"#) => TimeUnreadable Some("at");
    All None, "a time without zone": of!(r#""type":"heart_rate","value":72,"at":"2026-01-05T08:00:00""#) => TimeUnreadable Some("at");
    All None, "the thirtieth of February": of!(r#""type":"heart_rate","value":72,"at":"2026-02-30T08:00:00Z""#) => TimeUnreadable Some("at");
    All None, "a time that is still to come": of!(r#""type":"heart_rate","value":72,"at":"2999-01-01T00:00:00Z""#) => TimeAhead Some("at");
    All None, "quality above 100": of!(r#""type":"heart_rate","value":72,"quality":101"#) => Inconsistent Some("quality");
    All None, "quality with a fraction": of!(r#""type":"heart_rate","value":72,"quality":97.5"#) => Inconsistent Some("quality");
    All None, "quality below 0": of!(r#""type":"heart_rate","value":72,"quality":-1"#) => Inconsistent Some("quality");
    All None, "a sequence that is a text": of!(r#""type":"heart_rate","value":72,"seq":"7""#) => Inconsistent Some("seq");
    All None, "a sequence below 0": of!(r#""type":"heart_rate","value":72,"seq":-7"#) => Inconsistent Some("seq");
    All None, "an epoch with a fraction": of!(r#""type":"heart_rate","value":72,"epoch":1.5"#) => Inconsistent Some("epoch");
    All None, "contact that is a number": of!(r#""type":"heart_rate","value":72,"contact":1"#) => Inconsistent Some("contact");
    All None, "two values": of!(r#""type":"heart_rate","value":72,"value":180"#) => Inconsistent Some("value");
    All None, "nested too deep": of!(r#""type":"heart_rate","value":72,"x":[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]"#) => TooLarge None;
    All None, "diastolic above systolic": of!(r#""type":"blood_pressure","systolic":80,"diastolic":120"#) => Inconsistent Some("diastolic");
    All None, "a mean outside": of!(r#""type":"blood_pressure","systolic":120,"diastolic":80,"mean":130"#) => Inconsistent Some("mean");
    All None, "half a blood pressure": of!(r#""type":"blood_pressure","systolic":120"#) => MissingField Some("diastolic");
    All None, "an impossible diastolic": of!(r#""type":"blood_pressure","systolic":120,"diastolic":-8"#) => Implausible Some("diastolic");
    All None, "an alarm of no kind": of!(r#""type":"alarm""#) => MissingField Some("code");
    All None, "an alarm nobody knows": of!(r#""type":"alarm","code":"boredom""#) => Inconsistent Some("code");
    All None, "a waveform without samples": of!(r#""type":"ecg","rate":250,"unit":"mV""#) => MissingField Some("samples");
    All None, "a waveform of no samples": of!(r#""type":"ecg","samples":[],"rate":250"#) => NotANumber Some("samples");
    All None, "samples that are texts": of!(r#""type":"ecg","samples":[0.1,"x"],"rate":250"#) => NotANumber Some("samples");
    All None, "samples that are NaN": of!(r#""type":"ecg","samples":[0.1,NaN],"rate":250"#) => NotANumber Some("samples");
    All None, "a waveform without rate": of!(r#""type":"ecg","samples":[0.1]"#) => MissingField Some("rate");
    All None, "a waveform at rate 0": of!(r#""type":"ecg","samples":[0.1],"rate":0"#) => Implausible Some("rate");
    All None, "samples beyond the rails": of!(r#""type":"ecg","samples":[0.1,99],"rate":250"#) => Implausible Some("samples");
    All SENML_JSON, "SenML that is no list": br#"{"n":"heart_rate","v":72}"# => Unreadable None;
    All SENML_JSON, "SenML without value": br#"[{"n":"p1/s1/heart_rate"}]"# => MissingField Some("value");
    All SENML_JSON, "SenML with a text for a value": br#"[{"n":"p1/s1/heart_rate","vs":"72"}]"# => NotANumber Some("value");
    All None, "SenML of a metric nobody knows": br#"[{"bn":"p1/s1/","n":"mood","v":1}]"# => UnknownMetric Some("type");
    All None, "SenML in a unit nobody knows": br#"[{"bn":"p1/s1/","n":"heart_rate","u":"lm","v":72}]"# => UnknownUnit Some("unit");
    All None, "SenML that must be understood": br#"[{"bn":"p1/s1/","n":"heart_rate","v":72,"x_":1}]"# => Unreadable Some("x_");
    All None, "SenML of a version to come": br#"[{"bver":11,"bn":"p1/s1/","n":"heart_rate","v":72}]"# => Unreadable Some("bver");
    All None, "SenML an hour ahead": br#"[{"bn":"p1/s1/","n":"heart_rate","v":72,"t":3600}]"# => TimeAhead Some("at");
    All None, "SenML with a time that is a text": br#"[{"bn":"p1/s1/","bt":"now","n":"heart_rate","v":72}]"# => TimeUnreadable Some("bt");
    All SENML_CBOR, "CBOR that is no list": b"\xa0" => Unreadable None;
    All None, "CBOR that ends too early": b"\x81\xa2\x00\x67s1/spo2" => Unreadable None;
    All None, "CBOR that promises a billion records": b"\x9a\x3b\x9a\xca\x00" => Unreadable None;
    All None, "CBOR without value": b"\x81\xa1\x00\x6ap1/s1/spo2" => MissingField Some("value");
    All None, "CBOR with NaN": b"\x81\xa2\x00\x6ap1/s1/spo2\x02\xf9\x7e\x00" => NotANumber Some("value");
    All AVRO, "Avro without frame": b"\x01\x02" => Unreadable None;
    All None, "Avro of a schema nobody knows": b"\x00\x00\x00\x03\xe7abc" => Unreadable None;
    All None, "Avro that ends too early": b"\x00\x00\x00\x00\x01\x00" => Unreadable None;
    Http None, "no sensor": br#"{"patient_id":"p1","type":"heart_rate","value":72}"# => MissingField Some("sensor_id");
    Http None, "no patient": br#"{"sensor_id":"s1","type":"heart_rate","value":72}"# => MissingField Some("patient_id");
    Http None, "a sensor that is a path": br#"{"patient_id":"p1","sensor_id":"a/b","type":"heart_rate","value":72}"# => Inconsistent Some("sensor_id");
    Http None, "a patient that is a number": br#"{"patient_id":1,"sensor_id":"s1","type":"heart_rate","value":72}"# => Inconsistent Some("patient_id");
    Http None, "a patient called like a sensor": br#"{"patient_id":"sensor:1","sensor_id":"s1","type":"heart_rate","value":72}"# => Inconsistent Some("patient_id");
    Http None, "a state nobody knows": of!(r#""state":"sleepy""#) => Inconsistent Some("state");
    Http None, "a battery of 130 %": of!(r#""state":"active","battery":130"#) => Implausible Some("battery");
    MqttData None, "another patient than the topic's": br#"{"patient_id":"p2","type":"heart_rate","value":72}"# => Inconsistent Some("patient_id");
    MqttData None, "another sensor than the topic's": br#"{"sensor_id":"s2","type":"heart_rate","value":72}"# => Inconsistent Some("sensor_id");
    MqttData None, "a status on the data topic": br#"{"state":"active"}"# => MissingField Some("type");
    MqttStatus None, "a status without state": br#"{"battery":50}"# => MissingField Some("state");
    MqttStatus None, "a reading on the status topic": br#"{"type":"heart_rate","value":72}"# => MissingField Some("state");
    MqttStatus None, "a latitude beyond the pole": br#"{"state":"active","lat":91,"lng":0}"# => Implausible Some("lat");
    MqttStatus None, "firmware that is a number": br#"{"state":"active","firmware":1.2}"# => Inconsistent Some("firmware");
}

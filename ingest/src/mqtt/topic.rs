//! Names of topics and filters: what a name may look like, and which of ours it is.
//!
//! Devices write to two topics, people and devices listen to three; there are no others. A filter is granted where it
//! can meet one of the three and the subscriber may see what comes there; each message is checked once more before
//! it is handed out.

use schemas::access::{Action, Principal, Sight};
use schemas::ids::{ConsultationId, PatientId, SensorId};

use crate::accept::Kind;
use crate::parcel::Place;

/// Bytes of the longest name or filter that is looked at; ours have at most 160.
pub(super) const LONGEST: usize = 512;

/// A topic that devices write to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Inward<'a> {
    /// The patient's level, not yet checked.
    pub(super) patient: &'a str,
    /// The sensor's level, not yet checked.
    pub(super) sensor: &'a str,
    /// What may be written there.
    pub(super) kind: Kind,
}

/// Reads `fajma/patient/{p}/sensor/{s}/data|status`.
pub(super) fn inward(topic: &str) -> Option<Inward<'_>> {
    let mut levels = topic.strip_prefix("fajma/patient/")?.split('/');
    let patient = levels.next()?;
    let "sensor" = levels.next()? else { return None };
    let sensor = levels.next()?;
    let kind = match levels.next()? {
        "data" => Kind::Data,
        "status" => Kind::Status,
        _ => return None,
    };
    levels.next().is_none().then_some(Inward { patient, sensor, kind })
}

/// What is written to a topic of another broker, where what it names are ids. `prefix` is what stands before our names
/// there.
pub(crate) fn place(topic: &str, prefix: &str) -> Option<Place> {
    let inward = inward(topic.strip_prefix(prefix)?)?;
    Some(Place::Sensor {
        patient: PatientId::new(inward.patient).ok()?,
        sensor: SensorId::new(inward.sensor).ok()?,
        kind: inward.kind,
    })
}

/// Whether a name of a topic is one at all (no wildcards, no NUL, not empty).
pub(super) fn is_name(topic: &str) -> bool {
    !topic.is_empty() && !topic.contains(['#', '+', '\0'])
}

/// Whether a filter follows the rules for wildcards (MQTT 5 §4.7.1).
pub(super) fn is_filter(filter: &str) -> bool {
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        let fits = match level {
            "+" => true,
            "#" => levels.peek().is_none(),
            _ => !level.contains(['#', '+', '\0']),
        };
        if !fits {
            return false;
        }
    }
    !filter.is_empty()
}

/// Whether a topic is one of those a filter asks for.
pub(super) fn matches(filter: &str, topic: &str) -> bool {
    let (mut wanted, mut named) = (filter.split('/'), topic.split('/'));
    loop {
        match (wanted.next(), named.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(_)) => {}
            (Some(a), Some(b)) if a == b => {}
            _ => return false,
        }
    }
}

/// What a subscriber is told about a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grant {
    /// Granted.
    Yes,
    /// There is such a topic, but not for them.
    Denied,
    /// Nothing is ever published there.
    Nowhere,
    /// `$share/…`: subscriptions are not shared here.
    Shared,
}

/// The level that stands for an id in [`OUTWARD`].
const ID: &str = "{}";
/// The topics that are handed out.
const OUTWARD: [&str; 3] = [
    "fajma/patient/{}/alerts/critical",
    "fajma/sensor/{}/command",
    "fajma/consultation/{}/realtime",
];

/// Whether a well-formed filter is granted.
pub(super) fn grant(filter: &str, who: &Principal) -> Grant {
    if filter.starts_with("$share/") {
        return Grant::Shared;
    }
    let mut answer = Grant::Nowhere;
    if filter.len() > LONGEST {
        return answer;
    }
    for (place, pattern) in OUTWARD.iter().enumerate() {
        let Some(id) = meets(filter, pattern) else { continue };
        let may = match place {
            0 => may_see(who, id),
            1 => may_command(who, id),
            _ => may_follow(who, id),
        };
        if may {
            return Grant::Yes;
        }
        answer = Grant::Denied;
    }
    answer
}

/// Where a filter and a pattern can meet: the id that the filter names, or `None` inside for any.
fn meets<'f>(filter: &'f str, pattern: &str) -> Option<Option<&'f str>> {
    let (mut wanted, mut named) = (filter.split('/'), pattern.split('/'));
    let mut id = None;
    loop {
        match (wanted.next(), named.next()) {
            (Some("#"), _) | (None, None) => return Some(id),
            (Some("+"), Some(_)) => {}
            (Some(given), Some(ID)) => id = Some(given),
            (Some(a), Some(b)) if a == b => {}
            _ => return None,
        }
    }
}

fn may_see(who: &Principal, id: Option<&str>) -> bool {
    match id.map(PatientId::new) {
        Some(Ok(patient)) => who.may(Action::SeePatient(&patient)),
        Some(Err(_)) => false,
        None => !matches!(who.sight(), Sight::None),
    }
}

fn may_command(who: &Principal, id: Option<&str>) -> bool {
    match id.map(SensorId::new) {
        Some(Ok(sensor)) => who.may(Action::ReceiveCommands(&sensor)),
        Some(Err(_)) => false,
        None => who.may(Action::Command) || who.sensors.iter().any(|s| who.may(Action::ReceiveCommands(s))),
    }
}

/// Consultations are followed one by one. Whose one is, is known once it is followed; who sees nobody follows none.
fn may_follow(who: &Principal, id: Option<&str>) -> bool {
    id.is_some_and(|id| ConsultationId::new(id).is_ok()) && may_see(who, None)
}

/// The topic that a consultation is told on.
pub(super) fn realtime(id: &ConsultationId) -> String {
    format!("fajma/consultation/{id}/realtime")
}

/// The topic of a sensor's commands.
pub(super) fn command(sensor: &SensorId) -> String {
    format!("fajma/sensor/{sensor}/command")
}

/// The consultation whose topic a filter names.
pub(super) fn consultation(filter: &str) -> Option<ConsultationId> {
    let id = filter.strip_prefix("fajma/consultation/")?.strip_suffix("/realtime")?;
    ConsultationId::new(id).ok()
}

#[cfg(test)]
mod tests {
    use schemas::access::Role;

    use super::*;

    fn principal(role: Role, patients: &[&str], sensors: &[&str]) -> Principal {
        Principal {
            live: schemas::access::Live::default(),
            subject: "x".into(),
            role,
            patients: patients.iter().map(|p| PatientId::new(p).unwrap()).collect(),
            sensors: sensors.iter().map(|s| SensorId::new(s).unwrap()).collect(),
        }
    }

    #[test]
    fn only_the_two_topics_of_a_sensor_are_written_to() {
        let good = inward("fajma/patient/p1/sensor/s1/status").unwrap();
        assert_eq!((good.patient, good.sensor, good.kind), ("p1", "s1", Kind::Status));
        assert_eq!(inward("fajma/patient/p1/sensor/s1/data").unwrap().kind, Kind::Data);
        for bad in [
            "",
            "fajma/patient/p1/sensor/s1",
            "fajma/patient/p1/sensor/s1/data/more",
            "fajma/patient/p1/sensor/s1/Data",
            "/fajma/patient/p1/sensor/s1/data",
            "fajma/patient/p1/alerts/critical",
            "$SYS/broker",
        ] {
            assert_eq!(inward(bad), None, "{bad}");
        }
    }

    #[test]
    fn wildcards_stand_alone_and_the_long_one_last() {
        for good in ["a", "+", "#", "a/+/b", "a/#", "/", "+/+", "a//b"] {
            assert!(is_filter(good), "{good}");
        }
        for bad in ["", "a/#/b", "a#", "a/b+", "#/a", "a\0"] {
            assert!(!is_filter(bad), "{bad}");
        }
    }

    #[test]
    fn filters_meet_topics_level_by_level() {
        for (filter, topic, expected) in [
            ("a/+/c", "a/b/c", true),
            ("a/#", "a", true),
            ("a/#", "a/b/c", true),
            ("a/+", "a/b/c", false),
            ("+", "a", true),
            ("a/b", "a/c", false),
            ("#", "a/b", true),
            ("a", "a/b", false),
        ] {
            assert_eq!(matches(filter, topic), expected, "{filter} {topic}");
        }
    }

    #[test]
    fn a_subscription_is_granted_by_what_one_may_see() {
        use Grant::{Denied, Nowhere, Shared, Yes};
        let doctor = principal(Role::Doctor, &["p1"], &[]);
        let device = principal(Role::Device, &["p1"], &["s1"]);
        let admin = principal(Role::Admin, &[], &[]);
        let analyst = principal(Role::Analyst, &[], &[]);
        for (who, filter, expected) in [
            (&doctor, "fajma/patient/p1/alerts/critical", Yes),
            (&doctor, "fajma/patient/p2/alerts/critical", Denied),
            (&doctor, "fajma/patient/+/alerts/critical", Yes),
            (&doctor, "fajma/patient/p1/#", Yes),
            (&doctor, "fajma/sensor/s1/command", Denied),
            (&doctor, "fajma/consultation/c1/realtime", Yes),
            (&doctor, "fajma/consultation/+/realtime", Denied),
            (&analyst, "fajma/consultation/c1/realtime", Denied),
            (&device, "fajma/sensor/s1/command", Yes),
            (&device, "fajma/sensor/+/command", Yes),
            (&device, "fajma/sensor/s2/command", Denied),
            (&device, "fajma/patient/p1/alerts/critical", Denied),
            (&device, "fajma/patient/+/alerts/critical", Denied),
            (&admin, "#", Yes),
            (&admin, "fajma/patient/+/alerts/critical", Yes),
            (&analyst, "fajma/patient/+/alerts/critical", Denied),
            (&admin, "fajma/patient/p1/sensor/s1/data", Nowhere),
            (&admin, "$SYS/#", Nowhere),
            (&admin, "$share/g/fajma/patient/+/alerts/critical", Shared),
            (&doctor, "fajma/patient/bad id/alerts/critical", Denied),
        ] {
            assert_eq!(grant(filter, who), expected, "{:?} {filter}", who.role);
        }
    }
}

//! What was sent as a registration, field by field: each is absent, or right, or refused by its name.

use serde_json::{Map, Value};
use smol_str::SmolStr;

use super::mac;
use crate::facts::CareTerm;
use crate::ids::StaffId;
use crate::json::Invalid;
use crate::time::{Span, Timestamp};

/// The longest text of a registration, in characters.
const LONGEST: usize = 200;
/// Conditions of a patient, or members of a care team, at most.
const MOST: usize = 100;

/// The fields that were sent.
pub(super) struct Given<'a> {
    pub(super) fields: &'a Map<String, Value>,
}

impl Given<'_> {
    fn get(&self, field: &str) -> Option<&Value> {
        self.fields.get(field).filter(|value| !value.is_null())
    }

    pub(super) fn text(&self, field: &str) -> Result<Option<SmolStr>, Invalid> {
        let Some(value) = self.get(field) else { return Ok(None) };
        let Some(text) = value.as_str() else {
            return Err(Invalid::new(field, "not a text", "ce n’est pas un texte"));
        };
        short(field, text).map(|text| Some(text).filter(|text| !text.is_empty()))
    }

    pub(super) fn word<T: std::fmt::Display>(
        &self,
        field: &str,
        parse: impl Fn(&str) -> Option<T>,
        all: &[T],
    ) -> Result<Option<T>, Invalid> {
        let Some(text) = self.text(field)? else { return Ok(None) };
        if let Some(word) = parse(&text) {
            return Ok(Some(word));
        }
        let all = all.iter().map(T::to_string).collect::<Vec<_>>().join(", ");
        Err(Invalid::new(
            field,
            format!("one of {all}"),
            format!("un mot parmi {all}"),
        ))
    }

    pub(super) fn date(&self, field: &str, now: Timestamp) -> Result<Option<SmolStr>, Invalid> {
        let Some(text) = self.text(field)? else { return Ok(None) };
        let written = text.len() == 10 && Timestamp::parse(&format!("{text}T00:00:00Z")).is_ok();
        if !written {
            return Err(Invalid::new(
                field,
                "a date is written 1957-03-02",
                "une date s’écrit 1957-03-02",
            ));
        }
        // Texts of dates sort as dates do; somewhere it is tomorrow already.
        let tomorrow = (now + Span::days(1)).to_string();
        if text.as_str() < "1850-01-01" || text.as_str() > tomorrow.get(..10).unwrap_or_default() {
            return Err(Invalid::new(
                field,
                "before 1850 or in the future",
                "avant 1850 ou dans le futur",
            ));
        }
        Ok(Some(text))
    }

    pub(super) fn number(&self, field: &str, least: f64, greatest: f64) -> Result<Option<f64>, Invalid> {
        let Some(value) = self.get(field) else { return Ok(None) };
        let number = value.as_f64().filter(|n| (least..=greatest).contains(n));
        number.map(Some).ok_or_else(|| {
            Invalid::new(
                field,
                format!("a number from {least} to {greatest}"),
                format!("un nombre de {least} à {greatest}"),
            )
        })
    }

    pub(super) fn mac(&self, field: &str) -> Result<Option<SmolStr>, Invalid> {
        let Some(text) = self.text(field)? else { return Ok(None) };
        mac(&text).map(Some).ok_or_else(|| {
            Invalid::new(
                field,
                "6 or 8 bytes in hexadecimal, like 0A:1B:2C:3D:4E:5F",
                "6 ou 8 octets en hexadécimal, comme 0A:1B:2C:3D:4E:5F",
            )
        })
    }

    /// Members of a care team: ids, or objects that say from when until when. A date is its beginning, UTC.
    pub(super) fn team(&self) -> Result<(Vec<StaffId>, Vec<CareTerm>), Invalid> {
        let field = "care_team";
        let items = match self.get(field) {
            Some(Value::Array(items)) if items.len() <= MOST => items.as_slice(),
            Some(Value::Array(_)) | None => &[],
            Some(_) => return self.list(field, StaffId::new).map(|ids| (ids, Vec::new())),
        };
        let (members, names): (Vec<&Value>, Vec<&Value>) = items.iter().partition(|item| item.is_object());
        if members.is_empty() {
            return self.list(field, StaffId::new).map(|ids| (ids, Vec::new()));
        }
        let names: Map<String, Value> = [(field.to_owned(), names.into_iter().cloned().collect())]
            .into_iter()
            .collect();
        let always = Given { fields: &names }.list(field, StaffId::new)?;
        let terms = members
            .into_iter()
            .filter_map(Value::as_object)
            .map(term)
            .collect::<Result<_, _>>()?;
        Ok((always, terms))
    }

    pub(super) fn list<T, E: std::fmt::Display>(
        &self,
        field: &str,
        read: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Vec<T>, Invalid> {
        let Some(value) = self.get(field) else {
            return Ok(Vec::new());
        };
        let wrong = || {
            Invalid::new(
                field,
                format!("a list of at most {MOST} texts"),
                format!("une liste de {MOST} textes au plus"),
            )
        };
        let items = value.as_array().filter(|items| items.len() <= MOST).ok_or_else(wrong)?;
        items
            .iter()
            .map(|item| {
                let text = short(field, item.as_str().ok_or_else(wrong)?)?;
                if text.is_empty() {
                    return Err(wrong());
                }
                read(&text).map_err(|e| Invalid::new(field, e.to_string(), format!("« {text} » n’est pas un id")))
            })
            .collect()
    }
}

/// A member of a care team for a time.
fn term(member: &Map<String, Value>) -> Result<CareTerm, Invalid> {
    let wrong = || {
        Invalid::new(
            "care_team",
            "a member is an id, or {\"id\",\"from\",\"until\"} with moments or dates, `from` before `until`",
            "un membre est un id, ou {\"id\",\"from\",\"until\"} avec des instants ou des dates, `from` avant `until`",
        )
    };
    if member
        .keys()
        .any(|key| !matches!(key.as_str(), "id" | "from" | "until"))
    {
        return Err(wrong());
    }
    let moment = |field: &str| match member.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(date)) if date.len() == 10 => Timestamp::parse(&format!("{date}T00:00:00Z"))
            .map(Some)
            .map_err(|_| wrong()),
        Some(Value::String(text)) => Timestamp::parse(text).map(Some).map_err(|_| wrong()),
        Some(_) => Err(wrong()),
    };
    let id = member.get("id").and_then(Value::as_str).ok_or_else(wrong)?;
    let term = CareTerm {
        staff_id: StaffId::new(id).map_err(|_| wrong())?,
        from: moment("from")?,
        until: moment("until")?,
    };
    match (term.from, term.until) {
        (Some(from), Some(until)) if from >= until => Err(wrong()),
        _ => Ok(term),
    }
}

fn short(field: &str, text: &str) -> Result<SmolStr, Invalid> {
    let text = text.trim();
    if text.chars().count() > LONGEST || text.chars().any(char::is_control) {
        return Err(Invalid::new(
            field,
            format!("at most {LONGEST} characters, without control characters"),
            format!("{LONGEST} caractères au plus, sans caractères de contrôle"),
        ));
    }
    Ok(SmolStr::new(text))
}

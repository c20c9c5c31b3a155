//! A field as it came: of any type, so that a wrong one is a refusal of that field and not of the whole message.

use std::borrow::Cow;
use std::fmt;

use schemas::time::Timestamp;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// What stands in a field.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) enum Any<'a> {
    /// The field is not there.
    #[default]
    Absent,
    /// It is null.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Another number.
    Num(f64),
    /// A text.
    Text(Cow<'a, str>),
    /// A moment, from formats in which times are numbers.
    Moment(Timestamp),
    /// A list or an object; what is in it does not matter.
    Nested,
}

impl<'a> Any<'a> {
    /// The text, where it is one.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Whether an optional field says nothing.
    pub(super) const fn is_none(&self) -> bool {
        matches!(self, Self::Absent | Self::Null)
    }

    /// A text that is borrowed.
    pub(super) const fn of(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl<'de> Deserialize<'de> for Any<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(AnyVisitor)
    }
}

struct AnyVisitor;

impl<'de> Visitor<'de> for AnyVisitor {
    type Value = Any<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_unit<E>(self) -> Result<Any<'de>, E> {
        Ok(Any::Null)
    }
    fn visit_bool<E>(self, b: bool) -> Result<Any<'de>, E> {
        Ok(Any::Bool(b))
    }
    fn visit_i64<E>(self, n: i64) -> Result<Any<'de>, E> {
        Ok(Any::Int(n))
    }
    fn visit_u64<E>(self, n: u64) -> Result<Any<'de>, E> {
        Ok(i64::try_from(n).map_or(Any::Num(n as f64), Any::Int))
    }
    fn visit_f64<E>(self, n: f64) -> Result<Any<'de>, E> {
        Ok(Any::Num(n))
    }
    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Any<'de>, E> {
        Ok(Any::of(text))
    }
    fn visit_str<E>(self, text: &str) -> Result<Any<'de>, E> {
        Ok(Any::Text(Cow::Owned(text.to_owned())))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Any<'de>, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Any::Nested)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Any<'de>, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Any::Nested)
    }
}

/// The samples of a waveform as they came.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) enum Samples {
    /// None there.
    #[default]
    Absent,
    /// Numbers.
    Numbers(Vec<f64>),
    /// Something else, or not all numbers.
    Bad,
}

impl<'de> Deserialize<'de> for Samples {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(SamplesVisitor)
    }
}

struct SamplesVisitor;

impl<'de> Visitor<'de> for SamplesVisitor {
    type Value = Samples;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of numbers")
    }
    fn visit_unit<E>(self) -> Result<Samples, E> {
        Ok(Samples::Absent)
    }
    fn visit_bool<E>(self, _: bool) -> Result<Samples, E> {
        Ok(Samples::Bad)
    }
    fn visit_i64<E>(self, _: i64) -> Result<Samples, E> {
        Ok(Samples::Bad)
    }
    fn visit_u64<E>(self, _: u64) -> Result<Samples, E> {
        Ok(Samples::Bad)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Samples, E> {
        Ok(Samples::Bad)
    }
    fn visit_str<E>(self, _: &str) -> Result<Samples, E> {
        Ok(Samples::Bad)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Samples, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Samples::Bad)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Samples, A::Error> {
        let mut numbers = Vec::new();
        let mut good = true;
        while let Some(item) = items.next_element::<Any<'de>>()? {
            match item {
                Any::Int(n) => numbers.push(n as f64),
                Any::Num(n) => numbers.push(n),
                _ => good = false,
            }
        }
        Ok(if good { Samples::Numbers(numbers) } else { Samples::Bad })
    }
}

//! Limits, thresholds and policy as people write them: JSON whose every key is checked.
//!
//! Limits: `{"critical_low":40,"info_high":91}`; an absent key (or `null`) is no limit. Thresholds: limits by metric,
//! `{"heart_rate":{"critical_low":40}}`. Policy: [`Policy::to_json`]. Lengths of time are in seconds, under names that
//! end in `_s`. An unknown key is refused: a mistyped limit must not pass for "no limit".

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::facts::{Limits, MetricLimits, Zone};
use crate::limits::LimitsError;
use crate::metric::Metric;
use crate::policy::{Admission, MetricRule, Policy, ZoneRule};
use crate::time::Span;

/// Why a policy or thresholds cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {detail}")]
pub struct Invalid {
    /// Where, like `heart_rate.critical_low`; empty where it is the whole.
    pub field: String,
    /// What is wrong, in English.
    pub detail: String,
    /// The same in French.
    pub detail_fr: String,
}

impl Invalid {
    pub(crate) fn new(field: impl Into<String>, detail: impl Into<String>, detail_fr: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            detail: detail.into(),
            detail_fr: detail_fr.into(),
        }
    }

    fn shape(field: &str, error: &serde_json::Error) -> Self {
        Self::new(field, error.to_string(), format!("forme inattendue : {error}"))
    }

    fn limits(field: &str, error: &LimitsError) -> Self {
        Self::new(error.field(), error.to_string(), error.detail_fr()).within(field)
    }

    fn within(mut self, parent: &str) -> Self {
        self.field = match (parent, self.field.as_str()) {
            ("", _) => self.field,
            (_, "") => parent.to_owned(),
            (_, field) => format!("{parent}.{field}"),
        };
        self
    }
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct LimitsForm {
    #[serde(skip_serializing_if = "Option::is_none")]
    critical_low: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    warning_low: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    info_low: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    info_high: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    warning_high: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    critical_high: Option<f64>,
}

macro_rules! same_fields {
    ($from:ident -> $to:ident) => {
        impl From<$from> for $to {
            fn from(l: $from) -> Self {
                Self {
                    critical_low: l.critical_low,
                    warning_low: l.warning_low,
                    info_low: l.info_low,
                    info_high: l.info_high,
                    warning_high: l.warning_high,
                    critical_high: l.critical_high,
                }
            }
        }
    };
}
same_fields!(Limits -> LimitsForm);
same_fields!(LimitsForm -> Limits);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleForm {
    #[serde(default)]
    limits: LimitsForm,
    raise_after_s: f64,
    clear_after_s: f64,
    deadband: f64,
    spot: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    extreme_low: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    extreme_high: Option<f64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyForm {
    catalogue: i32,
    allowed_skew_s: f64,
    lateness_s: f64,
    fresh_for_s: f64,
    rules: Map<String, Value>,
    /// Policies that were written before it could be said are open.
    #[serde(default = "open")]
    admission: Admission,
    #[serde(default)]
    zones: BTreeMap<Zone, ZoneForm>,
}

/// What is expected in a zone.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ZoneForm {
    expected_every_s: f64,
    patience: i32,
    fresh_for_s: f64,
}

/// Silence after less than one rhythm would be told of every sensor, after a hundred of none.
const PATIENCE: std::ops::RangeInclusive<i32> = 1..=100;

fn zone_from_json(zone: Zone, form: &ZoneForm) -> Result<ZoneRule, Invalid> {
    let expected_every = seconds("expected_every_s", form.expected_every_s)?;
    if !PATIENCE.contains(&form.patience) {
        return Err(Invalid::new(
            "patience",
            "a whole number from 1 to 100",
            "un nombre entier de 1 à 100",
        ));
    }
    if expected_every < Span::seconds(1) {
        return Err(Invalid::new("expected_every_s", "at least 1", "au moins 1"));
    }
    Ok(ZoneRule {
        zone,
        expected_every,
        patience: form.patience,
        fresh_for: seconds("fresh_for_s", form.fresh_for_s)?,
    })
}

const fn open() -> Admission {
    Admission::Open
}

fn to_value<T: Serialize>(form: T) -> Value {
    // Fails for maps with keys that are no strings and for non-finite numbers written by hand: none is here.
    serde_json::to_value(form).unwrap_or(Value::Null)
}

fn metric_of(name: &str) -> Result<Metric, Invalid> {
    Metric::parse(name).ok_or_else(|| Invalid::new(name, "no such metric", "cette mesure n’existe pas"))
}

impl Limits {
    /// As JSON, without the limits that do not apply.
    #[must_use]
    pub fn to_json(&self) -> Value {
        to_value(LimitsForm::from(*self))
    }

    /// From JSON, checked for `metric`.
    ///
    /// # Errors
    /// [`Invalid`], naming the field.
    pub fn from_json(metric: Metric, value: &Value) -> Result<Self, Invalid> {
        let limits = LimitsForm::deserialize(value).map_err(|e| Invalid::shape(metric.as_str(), &e))?;
        let limits = Self::from(limits);
        limits.check(metric).map_err(|e| Invalid::limits(metric.as_str(), &e))?;
        Ok(limits)
    }
}

/// Thresholds as JSON: limits by metric.
#[must_use]
pub fn thresholds_to_json(thresholds: &[MetricLimits]) -> Value {
    let entries = thresholds.iter().map(|t| (t.metric.to_string(), t.limits.to_json()));
    Value::Object(entries.collect())
}

/// Thresholds from JSON, in the catalogue's order.
///
/// # Errors
/// [`Invalid`], naming the field, like `heart_rate.warning_low`.
pub fn thresholds_from_json(value: &Value) -> Result<Vec<MetricLimits>, Invalid> {
    let Value::Object(entries) = value else {
        return Err(Invalid::new(
            "",
            "not an object of limits by metric",
            "pas un objet de limites par mesure",
        ));
    };
    let mut thresholds = Vec::with_capacity(entries.len());
    for (name, limits) in entries {
        let metric = metric_of(name)?;
        thresholds.push(MetricLimits {
            metric,
            limits: Limits::from_json(metric, limits)?,
        });
    }
    thresholds.sort_by_key(|t| t.metric);
    Ok(thresholds)
}

fn seconds(field: &str, n: f64) -> Result<Span, Invalid> {
    // A hundred years: anything longer is a slip.
    if (0.0..=3_155_760_000.0).contains(&n) {
        Ok(Span((n * 1e6).round() as i64))
    } else {
        Err(Invalid::new(
            field,
            "not a length of time in seconds, 0 or more",
            "pas une durée en secondes, 0 ou plus",
        ))
    }
}

fn rule_from_json(metric: Metric, value: &Value) -> Result<MetricRule, Invalid> {
    let form = RuleForm::deserialize(value).map_err(|e| Invalid::shape("", &e))?;
    let limits = Limits::from(form.limits);
    limits.check(metric).map_err(|e| Invalid::limits("limits", &e))?;
    let possible = metric.info().possible;
    let deadband = form.deadband;
    if !(0.0..possible.high - possible.low).contains(&deadband) {
        return Err(Invalid::new("deadband", "not 0 or more", "doit valoir 0 ou plus"));
    }
    for (field, extreme) in [("extreme_low", form.extreme_low), ("extreme_high", form.extreme_high)] {
        if extreme.is_some_and(|value| !possible.contains(value)) {
            return Err(Invalid::limits("", &LimitsError::OutOfRange(field)));
        }
    }
    Ok(MetricRule {
        metric,
        limits,
        raise_after: seconds("raise_after_s", form.raise_after_s)?,
        clear_after: seconds("clear_after_s", form.clear_after_s)?,
        deadband,
        spot: form.spot,
        extreme_low: form.extreme_low,
        extreme_high: form.extreme_high,
    })
}

impl Policy {
    /// As JSON: `{"catalogue":1,"allowed_skew_s":300,"lateness_s":604800,"fresh_for_s":600,"rules":{"heart_rate":
    /// {"limits":{…},"raise_after_s":10,"clear_after_s":30,"deadband":5,"spot":false,"extreme_low":29.9}},"admission":
    /// "open","zones":{"rural":{"expected_every_s":300,"patience":3,"fresh_for_s":3600}}}`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let rules = self.rules.iter().map(|rule| {
            let form = RuleForm {
                limits: rule.limits.into(),
                raise_after_s: rule.raise_after.as_seconds(),
                clear_after_s: rule.clear_after.as_seconds(),
                deadband: rule.deadband,
                spot: rule.spot,
                extreme_low: rule.extreme_low,
                extreme_high: rule.extreme_high,
            };
            (rule.metric.to_string(), to_value(form))
        });
        to_value(PolicyForm {
            catalogue: self.catalogue,
            allowed_skew_s: self.allowed_skew.as_seconds(),
            lateness_s: self.lateness.as_seconds(),
            fresh_for_s: self.fresh_for.as_seconds(),
            rules: rules.collect(),
            admission: self.admission,
            zones: self
                .zones
                .iter()
                .map(|rule| {
                    let form = ZoneForm {
                        expected_every_s: rule.expected_every.as_seconds(),
                        patience: rule.patience,
                        fresh_for_s: rule.fresh_for.as_seconds(),
                    };
                    (rule.zone, form)
                })
                .collect(),
        })
    }

    /// From JSON, whole: a metric that is not in `rules` is not watched.
    ///
    /// # Errors
    /// [`Invalid`], naming the field, like `rules.heart_rate.limits.info_low`.
    pub fn from_json(value: &Value) -> Result<Self, Invalid> {
        let form = PolicyForm::deserialize(value).map_err(|e| Invalid::shape("", &e))?;
        let mut rules = Vec::with_capacity(form.rules.len());
        for (name, rule) in &form.rules {
            let metric = metric_of(name).map_err(|e| e.within("rules"))?;
            rules.push(rule_from_json(metric, rule).map_err(|e| e.within(name).within("rules"))?);
        }
        rules.sort_by_key(|rule| rule.metric);
        Ok(Self {
            catalogue: form.catalogue,
            allowed_skew: seconds("allowed_skew_s", form.allowed_skew_s)?,
            lateness: seconds("lateness_s", form.lateness_s)?,
            fresh_for: seconds("fresh_for_s", form.fresh_for_s)?,
            rules,
            admission: form.admission,
            zones: form
                .zones
                .iter()
                .map(|(zone, form)| {
                    let within = |e: Invalid| e.within(zone.as_str()).within("zones");
                    zone_from_json(*zone, form).map_err(within)
                })
                .collect::<Result<_, _>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn thresholds_read_back_as_they_were_written_without_the_limits_that_do_not_apply() {
        let written = json!({"heart_rate": {"critical_low": 40.0, "critical_high": 131.0}, "spo2": {}});
        let thresholds = thresholds_from_json(&written).unwrap();
        assert_eq!(thresholds[0].limits.critical_low, Some(40.0));
        assert_eq!(thresholds[0].limits.warning_low, None);
        assert_eq!(thresholds_to_json(&thresholds), written);
        let null = thresholds_from_json(&json!({"spo2": {"critical_low": null}})).unwrap();
        assert!(null[0].limits.is_empty());
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (value, field) in [
            (json!([]), ""),
            (json!({"pulse": {}}), "pulse"),
            (json!({"heart_rate": {"critical_lo": 40}}), "heart_rate"),
            (json!({"heart_rate": {"critical_low": "40"}}), "heart_rate"),
            (
                json!({"heart_rate": {"critical_low": 50, "info_low": 40}}),
                "heart_rate.info_low",
            ),
            (
                json!({"blood_glucose": {"critical_low": 3}}),
                "blood_glucose.critical_low",
            ),
        ] {
            let error = thresholds_from_json(&value).unwrap_err();
            assert_eq!(error.field, field, "{value}: {error}");
            assert!(!error.detail_fr.is_empty());
        }
    }

    #[test]
    fn the_standard_policy_reads_back_as_it_was_written() {
        let policy = Policy::standard();
        assert_eq!(Policy::from_json(&policy.to_json()), Ok(policy));
    }

    #[test]
    fn a_mistake_in_a_policy_is_named() {
        for (pointer, value, field) in [
            (
                "/rules/heart_rate/limits/info_low",
                json!(30),
                "rules.heart_rate.limits.info_low",
            ),
            (
                "/rules/heart_rate/raise_after_s",
                json!(-1),
                "rules.heart_rate.raise_after_s",
            ),
            ("/rules/heart_rate/deadband", json!(-1), "rules.heart_rate.deadband"),
            (
                "/rules/heart_rate/extreme_low",
                json!(3_000),
                "rules.heart_rate.extreme_low",
            ),
            ("/rules/heart_rate/spot", json!("no"), "rules.heart_rate"),
            ("/lateness_s", json!(1e300), "lateness_s"),
            ("/zones/rural/patience", json!(0), "zones.rural.patience"),
            (
                "/zones/urban/expected_every_s",
                json!(0.1),
                "zones.urban.expected_every_s",
            ),
        ] {
            let mut json = Policy::standard().to_json();
            *json.pointer_mut(pointer).expect("the field") = value;
            assert_eq!(Policy::from_json(&json).unwrap_err().field, field);
        }
        let mut json = Policy::standard().to_json();
        json["freshfor_s"] = json!(1);
        assert!(Policy::from_json(&json).is_err());
    }
}

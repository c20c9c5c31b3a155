//! Layers of options: defaults, then a file, then the environment, then flags. The defaults say which options exist and
//! of which type they are; whatever else is named is refused.

use toml::{Table, Value};

/// What environment variables of options begin with.
pub const PREFIX: &str = "FAJMA_";

/// Variables with that prefix that are no options: they name the file itself and what a single command takes.
pub const NOT_OPTIONS: [&str; 2] = ["FAJMA_CONFIG", "FAJMA_TOKEN"];

/// Why the options could not be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file is no TOML.
    #[error("{layer} cannot be read: {reason}")]
    Unreadable {
        /// Which layer.
        layer: String,
        /// Why.
        reason: String,
    },
    /// There is no such option.
    #[error("{layer} names an option that does not exist: `{key}`{hint}")]
    UnknownKey {
        /// Which layer.
        layer: String,
        /// The option's dotted name.
        key: String,
        /// What was probably meant, ready to be appended.
        hint: String,
    },
    /// The value does not fit the option.
    #[error("{layer} gives `{key}` a value that does not fit: {reason}")]
    WrongValue {
        /// Which layer.
        layer: String,
        /// The option's dotted name.
        key: String,
        /// Why.
        reason: String,
    },
}

/// Lays `over` on `base`; every key of `over` must be in `base`, with a value of the same type.
///
/// # Errors
/// [`ConfigError::UnknownKey`], [`ConfigError::WrongValue`].
pub(super) fn lay(base: &mut Table, over: Table, layer: &str) -> Result<(), ConfigError> {
    lay_under(base, over, layer, "")
}

fn lay_under(base: &mut Table, over: Table, layer: &str, path: &str) -> Result<(), ConfigError> {
    for (name, value) in over {
        let key = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        let names: Vec<String> = base.keys().cloned().collect();
        let Some(place) = base.get_mut(&name) else {
            return Err(unknown(layer, &key, names.iter().map(String::as_str), &name));
        };
        match (place, value) {
            (Value::Table(inner), Value::Table(value)) => lay_under(inner, value, layer, &key)?,
            (place, value) if place.same_type(&value) => *place = value,
            (place, value) => {
                return Err(ConfigError::WrongValue {
                    layer: layer.to_owned(),
                    key,
                    reason: format!("it is {}, not {}", place.type_str(), value.type_str()),
                });
            }
        }
    }
    Ok(())
}

/// Lays `FAJMA_SECTION_OPTION` variables on `base`. Values are read by the type of the default.
///
/// # Errors
/// [`ConfigError::UnknownKey`], [`ConfigError::WrongValue`].
pub(super) fn lay_environment(
    base: &mut Table,
    variables: impl IntoIterator<Item = (String, String)>,
) -> Result<(), ConfigError> {
    let options = leaves(base);
    for (variable, text) in variables {
        if !variable.starts_with(PREFIX) || NOT_OPTIONS.contains(&variable.as_str()) {
            continue;
        }
        let Some(path) = options.iter().find(|path| variable_of(path) == variable) else {
            let known: Vec<String> = options.iter().map(|p| variable_of(p)).collect();
            return Err(unknown(
                "the environment",
                &variable,
                known.iter().map(String::as_str),
                &variable,
            ));
        };
        set(base, path, &text).map_err(|reason| ConfigError::WrongValue {
            layer: "the environment".to_owned(),
            key: variable,
            reason,
        })?;
    }
    Ok(())
}

/// Sets one option from text, read by the type of its default.
///
/// # Errors
/// A sentence that says what does not fit.
pub(super) fn set(base: &mut Table, path: &[String], text: &str) -> Result<(), String> {
    let missing = || format!("there is no option `{}`", path.join("."));
    let (last, sections) = path.split_last().ok_or_else(missing)?;
    let mut table = base;
    for section in sections {
        table = table
            .get_mut(section)
            .and_then(Value::as_table_mut)
            .ok_or_else(missing)?;
    }
    let place = table.get_mut(last).ok_or_else(missing)?;
    *place = match place {
        Value::Integer(_) => Value::Integer(text.parse().map_err(|_| format!("`{text}` is no whole number"))?),
        Value::Float(_) => Value::Float(text.parse().map_err(|_| format!("`{text}` is no number"))?),
        Value::Boolean(_) => Value::Boolean(
            text.parse()
                .map_err(|_| format!("`{text}` is neither true nor false"))?,
        ),
        _ => Value::String(text.to_owned()),
    };
    Ok(())
}

/// The dotted names of every option, as paths.
fn leaves(table: &Table) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for (name, value) in table {
        match value {
            Value::Table(inner) => found.extend(leaves(inner).into_iter().map(|mut path| {
                path.insert(0, name.clone());
                path
            })),
            _ => found.push(vec![name.clone()]),
        }
    }
    found
}

fn variable_of(path: &[String]) -> String {
    format!("{PREFIX}{}", path.join("_").to_uppercase())
}

fn unknown<'a>(layer: &str, key: &str, known: impl Iterator<Item = &'a str>, given: &str) -> ConfigError {
    let nearest = known
        .map(|name| (common_letters(name, given), name))
        .max_by_key(|(common, name)| (*common, std::cmp::Reverse(name.len())));
    let hint = nearest
        .filter(|(common, name)| *common * 3 >= name.len() * 2)
        .map_or_else(String::new, |(_, name)| format!(" (did you mean `{name}`?)"));
    ConfigError::UnknownKey {
        layer: layer.to_owned(),
        key: key.to_owned(),
        hint,
    }
}

/// How many letters two names share from the start and from the end.
fn common_letters(a: &str, b: &str) -> usize {
    let start = a.bytes().zip(b.bytes()).take_while(|(x, y)| x == y).count();
    let rest = a.len().min(b.len()) - start;
    let end = a
        .bytes()
        .rev()
        .zip(b.bytes().rev())
        .take(rest)
        .take_while(|(x, y)| x == y)
        .count();
    start + end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Table {
        text.parse().unwrap_or_else(|e| panic!("{e}"))
    }

    fn base() -> Table {
        table("top = 1\n[http]\nlisten = \"a\"\nlimit = 5\nopen = true")
    }

    #[test]
    fn a_later_layer_wins_and_leaves_the_rest() {
        let mut options = base();
        lay(&mut options, table("[http]\nlimit = 7"), "file").unwrap();
        let variables = [
            ("FAJMA_HTTP_OPEN".to_owned(), "false".to_owned()),
            ("FAJMA_TOKEN".to_owned(), "x".to_owned()),
            ("PATH".to_owned(), "/bin".to_owned()),
        ];
        lay_environment(&mut options, variables).unwrap();
        set(&mut options, &["http".to_owned(), "listen".to_owned()], "b").unwrap();
        assert_eq!(
            options,
            table("top = 1\n[http]\nlisten = \"b\"\nlimit = 7\nopen = false")
        );
    }

    #[test]
    fn what_does_not_exist_or_does_not_fit_is_refused_by_name() {
        for (text, message) in [
            (
                "[http]\nlimits = 7",
                "file names an option that does not exist: `http.limits` (did you mean `limit`?)",
            ),
            ("[zebra]\nx = 1", "file names an option that does not exist: `zebra`"),
            (
                "[http]\nlimit = \"7\"",
                "file gives `http.limit` a value that does not fit: it is integer, not string",
            ),
            (
                "http = 3",
                "file gives `http` a value that does not fit: it is table, not integer",
            ),
        ] {
            let error = lay(&mut base(), table(text), "file").unwrap_err();
            assert_eq!(error.to_string(), message);
        }
    }

    #[test]
    fn a_variable_that_is_no_option_is_refused_by_name() {
        let error = |name: &str, value: &str| {
            lay_environment(&mut base(), [(name.to_owned(), value.to_owned())])
                .unwrap_err()
                .to_string()
        };
        assert!(error("FAJMA_HTTP_LIMITS", "1").contains("`FAJMA_HTTP_LIMITS` (did you mean `FAJMA_HTTP_LIMIT`?)"));
        assert!(error("FAJMA_HTTP_LIMIT", "many").contains("`many` is no whole number"));
    }
}

//! What callers send: parameters and bodies, read so that every mistake is named.

use std::future::Future;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use projections::query::{MOST, Page, Paging, Range};
use projections::store::ViewError;
use schemas::metric::Metric;
use schemas::time::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::problem::Problem;
use crate::state::State;
use crate::token::Keys;

/// Query parameters; an unknown one is refused, because a mistyped filter must not pass for "everything".
#[derive(Debug)]
pub(super) struct Params<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<Arc<State>> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<State>) -> Result<Self, Problem> {
        let Query(params) = Query::from_request_parts(parts, state)
            .await
            .map_err(|e| Problem::Invalid {
                field: None,
                detail: e.body_text(),
                detail_fr: format!("paramètres illisibles : {}", e.body_text()),
            })?;
        Ok(Self(params))
    }
}

/// A JSON body; none at all counts as `null`.
#[derive(Debug)]
pub(super) struct Sent(pub(super) Value);

impl FromRequest<Arc<State>> for Sent {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &Arc<State>) -> Result<Self, Problem> {
        let kind = request.headers().get(CONTENT_TYPE).cloned();
        let bytes = Bytes::from_request(request, state).await.map_err(|e| {
            if e.status() == StatusCode::PAYLOAD_TOO_LARGE {
                Problem::TooLarge
            } else {
                unreadable("the body did not arrive whole", "le corps n’est pas arrivé entier")
            }
        })?;
        if bytes.is_empty() {
            return Ok(Self(Value::Null));
        }
        let json = kind.as_ref().and_then(|k| k.to_str().ok()).is_some_and(|kind| {
            let kind = kind.split(';').next().unwrap_or_default().trim();
            kind.eq_ignore_ascii_case("application/json") || kind.to_ascii_lowercase().ends_with("+json")
        });
        if !json {
            return Err(Problem::MediaType);
        }
        serde_json::from_slice(&bytes).map(Self).map_err(|e| {
            unreadable(
                &format!("the body is not JSON: {e}"),
                &format!("le corps n’est pas du JSON : {e}"),
            )
        })
    }
}

impl Sent {
    /// The body's fields; an unknown one is refused.
    pub(super) fn fields(self, known: &[&str]) -> Result<Map<String, Value>, Problem> {
        let fields = match self.0 {
            Value::Null => Map::new(),
            Value::Object(fields) => fields,
            _ => return Err(unreadable("the body is not an object", "le corps n’est pas un objet")),
        };
        match fields.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => Err(Problem::invalid(key, "no such field here", "ce champ n’existe pas ici")),
            None => Ok(fields),
        }
    }
}

fn unreadable(detail: &str, detail_fr: &str) -> Problem {
    Problem::Invalid {
        field: None,
        detail: detail.to_owned(),
        detail_fr: detail_fr.to_owned(),
    }
}

/// Rows in a page: from `limit`, which is 1 to [`MOST`]; `usual` where nobody says.
pub(super) fn rows(limit: Option<&str>, usual: usize) -> Result<usize, Problem> {
    let Some(limit) = limit else { return Ok(usual) };
    let limit = limit.parse().ok().filter(|n| (1..=MOST).contains(n));
    limit.ok_or_else(|| Problem::invalid("limit", format!("1 to {MOST}"), format!("de 1 à {MOST}")))
}

/// A stretch of time; without ends it is open.
pub(super) fn range(from: Option<&str>, to: Option<&str>) -> Result<Range, Problem> {
    let from = moment("from", from)?.unwrap_or(Range::ALL.from);
    let to = moment("to", to)?.unwrap_or(Range::ALL.to);
    if from > to {
        return Err(Problem::invalid("from", "later than `to`", "postérieur à `to`"));
    }
    Ok(Range { from, to })
}

/// A moment, RFC 3339.
pub(super) fn moment(field: &'static str, text: Option<&str>) -> Result<Option<Timestamp>, Problem> {
    let read = |text: &str| {
        // In a URL a `+` that nobody escaped arrives as a blank.
        Timestamp::parse(&text.replace(' ', "+")).map_err(|e| {
            Problem::invalid(
                field,
                e.to_string(),
                "un instant s’écrit comme 2026-01-05T08:00:00.000Z (RFC 3339)",
            )
        })
    };
    text.map(read).transpose()
}

/// One of a list of words.
pub(super) fn word<T>(
    field: &'static str,
    text: Option<&str>,
    parse: fn(&str) -> Option<T>,
) -> Result<Option<T>, Problem> {
    let read =
        |text: &str| parse(text).ok_or_else(|| Problem::invalid(field, "not one of the known words", "mot inconnu"));
    text.map(read).transpose()
}

/// A metric by its name.
pub(super) fn metric(text: Option<&str>) -> Result<Option<Metric>, Problem> {
    text.map(|text| {
        Metric::parse(text).ok_or_else(|| Problem::invalid("metric", "no such metric", "cette mesure n’existe pas"))
    })
    .transpose()
}

/// A parameter or field that has to be there.
pub(super) fn needed<T>(field: &'static str, value: Option<T>) -> Result<T, Problem> {
    value.ok_or_else(|| Problem::invalid(field, "this is needed", "ceci est requis"))
}

/// A field that is a text; none where it is empty.
pub(super) fn text<'a>(fields: &'a Map<String, Value>, field: &'static str) -> Result<Option<&'a str>, Problem> {
    match fields.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.trim()).filter(|text| !text.is_empty())),
        Some(_) => Err(Problem::invalid(field, "not a text", "ce n’est pas un texte")),
    }
}

/// What a query's error is to its caller.
pub(super) fn viewed(error: ViewError) -> Problem {
    match error {
        ViewError::Cursor => Problem::invalid(
            "cursor",
            "not a cursor of this list",
            "ce n’est pas un curseur de cette liste",
        ),
        other => other.into(),
    }
}

/// Pages of a list asked for one page, while too much was cut out of them.
const ROUNDS: usize = 32;
/// Rows asked for at once where something was cut out, however few are wanted: who pages through in small steps must not
/// count what lies between.
const STRIDE: usize = 500;

/// Part of a list cut to what the caller may see: pages are read until enough is left, or the list ends. A page may be
/// short although the list goes on. Where it goes on may be after something that was cut out, so its cursors are sealed.
pub(super) async fn cut<T, Asked>(
    (keys, list): (&Keys, &'static str),
    rows: usize,
    cursor: Option<&str>,
    sees: impl Fn(&T) -> bool,
    ask: impl Fn(usize, Option<String>) -> Asked,
) -> Result<Page<T>, Problem>
where
    Asked: Future<Output = Result<Page<T>, ViewError>>,
{
    let mut place = match cursor {
        Some(sealed) => Some(keys.unseal(list, sealed).ok_or_else(|| viewed(ViewError::Cursor))?),
        None => None,
    };
    let mut items = Vec::new();
    for round in 0..ROUNDS {
        let missing = rows.saturating_sub(items.len());
        let most = if round == 0 { missing } else { missing.max(STRIDE) };
        let mut more = ask(most, place.clone()).await.map_err(viewed)?;
        let too_many = more
            .items
            .iter()
            .enumerate()
            .filter(|(_, item)| sees(item))
            .nth(missing);
        if let Some((first_too_many, _)) = too_many {
            more = ask(first_too_many, place).await.map_err(viewed)?;
        }
        items.extend(more.items.into_iter().filter(&sees));
        place = more.next_cursor;
        if place.is_none() || items.len() >= rows {
            break;
        }
    }
    let next_cursor = match place {
        Some(place) => Some(keys.seal(list, &place).ok_or(Problem::Internal)?),
        None => None,
    };
    Ok(Page { items, next_cursor })
}

/// Which part of a list.
pub(super) const fn paging(limit: usize, cursor: Option<&str>) -> Paging<'_> {
    Paging { limit, cursor }
}

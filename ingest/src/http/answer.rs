//! Answers that are no receipts: problems of our own door, errors as Confluent's REST Proxy writes them.

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use eventlog::LogError;
use serde::Serialize;

use super::body::BadBody;
use crate::refusal::Refusal;

/// Content type of answers on the paths of REST Proxy v2.
pub(super) const KAFKA_V2: &str = "application/vnd.kafka.v2+json";

/// A body of this type.
pub(super) fn json(status: StatusCode, content_type: &'static str, body: &impl Serialize) -> Response {
    json_bytes(status, content_type, serde_json::to_vec(body).unwrap_or_default())
}

/// A body that is JSON already.
pub(super) fn json_bytes(status: StatusCode, content_type: &'static str, bytes: Vec<u8>) -> Response {
    (status, [(CONTENT_TYPE, HeaderValue::from_static(content_type))], bytes).into_response()
}

/// Why a request as a whole was not done.
#[derive(Debug)]
pub(super) enum Trouble {
    /// No good token.
    Unauthenticated,
    /// The body is longer than is read or unpacked.
    TooLarge,
    /// The body cannot be unpacked, or is packed in a way nobody here understands.
    Encoding,
    /// The body did not come.
    Unfinished,
    /// The message cannot be taken apart; its bytes are kept.
    Unreadable(Box<Refusal>),
    /// Nothing was made durable that could be answered for: come back later.
    Unavailable,
    /// Our clock is too far from the log's.
    Clock,
    /// The log has no room.
    Full,
}

impl From<LogError> for Trouble {
    fn from(error: LogError) -> Self {
        tracing::warn!(%error, "nothing was acknowledged");
        match error {
            LogError::Full(_) => Self::Full,
            LogError::TooLarge { .. } => Self::TooLarge,
            _ => Self::Unavailable,
        }
    }
}

impl From<&BadBody> for Trouble {
    fn from(bad: &BadBody) -> Self {
        match bad {
            BadBody::TooLong | BadBody::Bomb(_) => Self::TooLarge,
            BadBody::Garbled(_) | BadBody::UnknownEncoding => Self::Encoding,
            BadBody::Unfinished => Self::Unfinished,
        }
    }
}

/// The parts of a problem that do not depend on the moment.
struct Kind {
    status: StatusCode,
    code: &'static str,
    title: &'static str,
    detail: &'static str,
    detail_fr: &'static str,
    /// The error code of the REST Proxy.
    confluent: u32,
}

impl Trouble {
    fn kind(&self) -> Kind {
        let kind = |status, code, title, confluent, detail, detail_fr| Kind {
            status,
            code,
            title,
            detail,
            detail_fr,
            confluent,
        };
        match self {
            Self::Unauthenticated => kind(
                StatusCode::UNAUTHORIZED,
                "unauthenticated",
                "Not signed in",
                40101,
                "The token is missing, altered, expired or not for this house.",
                "Le jeton est absent, altéré, expiré ou n'est pas pour cette installation.",
            ),
            Self::TooLarge => kind(
                StatusCode::PAYLOAD_TOO_LARGE,
                "too_large",
                "Too large",
                413,
                "The body is longer than allowed, packed or unpacked: send fewer records at once.",
                "Le corps dépasse la taille permise, compressé ou non : envoyer moins d'enregistrements à la fois.",
            ),
            Self::Encoding => kind(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "content_encoding",
                "Unreadable encoding",
                415,
                "The body is not packed as Content-Encoding says; gzip and zstd are understood.",
                "Le corps n'est pas compressé comme l'annonce Content-Encoding ; gzip et zstd sont compris.",
            ),
            Self::Unfinished => kind(
                StatusCode::REQUEST_TIMEOUT,
                "unfinished",
                "Unfinished body",
                408,
                "The body did not come to its end in time.",
                "Le corps n'est pas arrivé entier à temps.",
            ),
            Self::Unreadable(_) => kind(StatusCode::BAD_REQUEST, "unreadable", "Unreadable", 42203, "", ""),
            Self::Unavailable => kind(
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                "Unavailable",
                50302,
                "Nothing was acknowledged: send it again later.",
                "Rien n'a été accusé : renvoyer plus tard.",
            ),
            Self::Clock => kind(
                StatusCode::SERVICE_UNAVAILABLE,
                "clock_wrong",
                "Clock wrong",
                50302,
                "The clock of this door is wrong and nothing was taken: send it to another one, or again later.",
                "L'horloge de cette entrée est fausse et rien n'a été pris : envoyer à une autre, ou plus tard.",
            ),
            Self::Full => kind(
                StatusCode::SERVICE_UNAVAILABLE,
                "disk_full",
                "Disk full",
                50302,
                "The log is full and nothing was acknowledged: keep it and send it again later.",
                "Le journal est plein et rien n'a été accusé : conserver et renvoyer plus tard.",
            ),
        }
    }

    /// The status, code and sentence as the REST Proxy writes them.
    pub(super) fn confluent_parts(&self) -> (StatusCode, u32, String) {
        let kind = self.kind();
        match self {
            Self::Unreadable(refusal) => (
                StatusCode::UNPROCESSABLE_ENTITY,
                kind.confluent,
                refusal.detail.to_string(),
            ),
            _ => (kind.status, kind.confluent, kind.detail.to_owned()),
        }
    }

    /// As the REST Proxy answers it.
    pub(super) fn confluent(&self, content_type: &'static str) -> Response {
        let (status, code, message) = self.confluent_parts();
        self.with_headers(json(
            status,
            content_type,
            &ConfluentError {
                error_code: code,
                message: &message,
            },
        ))
    }

    fn with_headers(&self, mut response: Response) -> Response {
        let (name, value) = match self {
            Self::Unauthenticated => (WWW_AUTHENTICATE, "Bearer"),
            Self::Unavailable => (RETRY_AFTER, "1"),
            Self::Clock => (RETRY_AFTER, "10"),
            Self::Full => (RETRY_AFTER, "30"),
            _ => return response,
        };
        response.headers_mut().insert(name, HeaderValue::from_static(value));
        response
    }
}

/// `application/problem+json`.
#[derive(Serialize)]
struct Problem<'a> {
    #[serde(rename = "type")]
    kind: String,
    title: &'a str,
    status: u16,
    code: &'a str,
    detail: &'a str,
    detail_fr: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
}

impl IntoResponse for Trouble {
    fn into_response(self) -> Response {
        let kind = self.kind();
        let (code, detail, detail_fr, field) = match &self {
            Self::Unreadable(r) => (
                r.code.as_str(),
                r.detail.as_str(),
                r.detail_fr.as_str(),
                r.field.as_deref(),
            ),
            _ => (kind.code, kind.detail, kind.detail_fr, None),
        };
        let problem = Problem {
            kind: format!("urn:fajma:problem:{code}"),
            title: kind.title,
            status: kind.status.as_u16(),
            code,
            detail,
            detail_fr,
            field,
        };
        self.with_headers(json(kind.status, "application/problem+json", &problem))
    }
}

/// An error of the REST Proxy.
#[derive(Debug, Serialize)]
pub(super) struct ConfluentError<'a> {
    pub(super) error_code: u32,
    pub(super) message: &'a str,
}

/// An error of the REST Proxy as an answer.
pub(super) fn confluent_error(
    status: StatusCode,
    content_type: &'static str,
    error_code: u32,
    message: &str,
) -> Response {
    json(status, content_type, &ConfluentError { error_code, message })
}

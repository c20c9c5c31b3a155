//! What goes wrong, as callers see it: RFC 9457 problems, in English and French.

use axum::Json;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use eventlog::LogError;
use projections::store::ViewError;
use schemas::json::Invalid;
use serde::Serialize;
use utoipa::ToSchema;

/// Why a request was not done. Each is something the caller can act on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// No token, or none that is good here.
    Unauthenticated,
    /// The token is good, but not for this.
    Forbidden,
    /// There is no such thing, or not for this caller: the two look the same.
    NotFound,
    /// The path is known, the method is not.
    Method,
    /// The body or a parameter is not what it should be.
    Invalid {
        /// Which one.
        field: Option<String>,
        /// What is wrong, in English.
        detail: String,
        /// The same in French.
        detail_fr: String,
    },
    /// The body is longer than allowed.
    TooLarge,
    /// The body is of a type that is not read here.
    MediaType,
    /// The state of things does not allow it (any more).
    Conflict {
        /// Why, in English.
        detail: &'static str,
        /// The same in French.
        detail_fr: &'static str,
    },
    /// The id is registered already.
    Exists,
    /// The registration has ended.
    Ended,
    /// Another sensor is registered with the hardware address.
    AddressTaken,
    /// The patient wears sensors: whoever cares for them would hear of it no more.
    WearsSensors,
    /// A consultation of the patient is open: it would go dark.
    ConsultationOpen,
    /// Another registration stands for the person: nothing comes under this one.
    Merged,
    /// Limits are set for this registration, and others hold for the one that is to stand for the person.
    OtherThresholds,
    /// The same stands twice in what was sent.
    Repeated {
        /// Which field says the same.
        field: &'static str,
    },
    /// What the change was to go by (`If-Match`, `If-None-Match`) is not so any more.
    Changed,
    /// A request that a browser sent on behalf of another site.
    OtherSite,
    /// The views have not reached the position asked for in time: ask again.
    NotYet,
    /// Try again later.
    Unavailable,
    /// The disk is full: nothing is taken until there is room.
    Full,
    /// It took too long.
    Timeout,
    /// Our fault; what it was is in our own logs.
    Internal,
}

/// The body of a problem.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct Body {
    /// Names the kind of problem.
    #[serde(rename = "type")]
    #[schema(example = "urn:fajma:problem:not_found")]
    kind: String,
    /// The kind in words.
    title: &'static str,
    /// The HTTP status.
    #[schema(example = 404)]
    status: u16,
    /// Stable, for programs.
    #[schema(example = "not_found")]
    pub(crate) code: &'static str,
    /// What to do about it, in English.
    pub(crate) detail: String,
    /// The same in French.
    pub(crate) detail_fr: String,
    /// The field or parameter at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) field: Option<String>,
}

impl Problem {
    /// A field that is not what it should be.
    #[must_use]
    pub fn invalid(field: &str, detail: impl Into<String>, detail_fr: impl Into<String>) -> Self {
        Self::Invalid {
            field: Some(field.to_owned()),
            detail: detail.into(),
            detail_fr: detail_fr.into(),
        }
    }

    /// Status, code and title.
    const fn kind(&self) -> (StatusCode, &'static str, &'static str) {
        use StatusCode as S;
        match self {
            Self::Unauthenticated => (S::UNAUTHORIZED, "unauthenticated", "Not signed in"),
            Self::Forbidden => (S::FORBIDDEN, "forbidden", "Not allowed"),
            Self::NotFound => (S::NOT_FOUND, "not_found", "Not found"),
            Self::Method => (S::METHOD_NOT_ALLOWED, "method_not_allowed", "Method not allowed"),
            Self::Invalid { .. } => (S::BAD_REQUEST, "invalid", "Invalid request"),
            Self::TooLarge => (S::PAYLOAD_TOO_LARGE, "too_large", "Too large"),
            Self::MediaType => (S::UNSUPPORTED_MEDIA_TYPE, "media_type", "Unsupported media type"),
            Self::Conflict { .. } => (S::CONFLICT, "conflict", "Conflict"),
            Self::Exists => (S::CONFLICT, "exists", "Registered already"),
            Self::Ended => (S::CONFLICT, "ended", "Registration ended"),
            Self::AddressTaken => (S::CONFLICT, "mac_address_taken", "Address taken"),
            Self::WearsSensors => (S::CONFLICT, "wears_sensors", "Sensors are worn"),
            Self::ConsultationOpen => (S::CONFLICT, "consultation_open", "A consultation is open"),
            Self::Merged => (S::CONFLICT, "merged", "Merged into another registration"),
            Self::OtherThresholds => (S::CONFLICT, "other_thresholds", "Other thresholds"),
            Self::Repeated { .. } => (S::CONFLICT, "repeated", "Sent twice"),
            Self::Changed => (S::PRECONDITION_FAILED, "changed", "Changed meanwhile"),
            Self::OtherSite => (S::FORBIDDEN, "other_site", "Sent by another site"),
            Self::NotYet => (S::SERVICE_UNAVAILABLE, "not_yet", "Not there yet"),
            Self::Unavailable => (S::SERVICE_UNAVAILABLE, "unavailable", "Unavailable"),
            Self::Full => (S::INSUFFICIENT_STORAGE, "disk_full", "Disk full"),
            Self::Timeout => (S::SERVICE_UNAVAILABLE, "timeout", "Timed out"),
            Self::Internal => (S::INTERNAL_SERVER_ERROR, "internal", "Internal error"),
        }
    }

    /// What to do about it, in English.
    #[must_use]
    pub fn detail(&self) -> String {
        self.sentences().0
    }

    fn sentences(&self) -> (String, String) {
        let (english, french) = match self {
            Self::Invalid { detail, detail_fr, .. } => return (detail.clone(), detail_fr.clone()),
            Self::Conflict { detail, detail_fr } => (*detail, *detail_fr),
            Self::Unauthenticated => (
                "The token is missing, altered, expired or not for this house.",
                "Le jeton est absent, altéré, expiré ou n’est pas pour cette installation.",
            ),
            Self::Forbidden => ("This role may not do this.", "Ce rôle n’y est pas autorisé."),
            Self::NotFound => (
                "There is no such thing, or it is not yours to see.",
                "Cela n’existe pas, ou ne vous est pas visible.",
            ),
            Self::Method => (
                "This path does not take this method.",
                "Ce chemin n’accepte pas cette méthode.",
            ),
            Self::TooLarge => (
                "The body is longer than allowed.",
                "Le corps dépasse la taille permise.",
            ),
            Self::MediaType => (
                "Send JSON, as application/json.",
                "Envoyez du JSON, en application/json.",
            ),
            Self::Exists => (
                "This id is registered already: change it with PUT.",
                "Cet id est déjà enregistré : modifiez-le avec PUT.",
            ),
            Self::Ended => (
                "This registration has ended: PUT takes it up again.",
                "Cet enregistrement a pris fin : PUT le reprend.",
            ),
            Self::AddressTaken => (
                "Another sensor is registered with this address.",
                "Un autre capteur est enregistré avec cette adresse.",
            ),
            Self::WearsSensors => (
                "This patient wears sensors: take them off first, by PUT /v1/sensors/{s}/assignment.",
                "Ce patient porte des capteurs : retirez-les d’abord, par PUT /v1/sensors/{s}/assignment.",
            ),
            Self::ConsultationOpen => (
                "A consultation of this patient is open: close it first.",
                "Une consultation de ce patient est ouverte : terminez-la d’abord.",
            ),
            Self::Merged => (
                "Another registration stands for this person: plan the consultation with that one.",
                "Un autre enregistrement vaut pour cette personne : prévoyez la consultation avec celui-là.",
            ),
            Self::OtherThresholds => (
                "Limits are set for this patient that would hold no more: set the same for the other one, or set none here.",
                "Des seuils fixés pour ce patient ne vaudraient plus : fixez les mêmes pour l’autre, ou aucun ici.",
            ),
            Self::Repeated { .. } => (
                "The same stands in an earlier row.",
                "La même valeur figure dans une ligne précédente.",
            ),
            Self::Changed => (
                "It has changed meanwhile: read it again, then decide again.",
                "Cela a changé entre-temps : relisez, puis décidez à nouveau.",
            ),
            Self::OtherSite => (
                "A browser sent this on behalf of another site.",
                "Un navigateur a envoyé ceci au nom d’un autre site.",
            ),
            Self::NotYet => (
                "The views have not reached this position yet; ask again.",
                "Les vues n’ont pas encore atteint cette position ; redemandez.",
            ),
            Self::Unavailable => (
                "The log or the views cannot be reached now; try again.",
                "Le journal ou les vues sont injoignables ; réessayez.",
            ),
            Self::Full => (
                "The disk is full; nothing is taken until there is room.",
                "Le disque est plein ; rien n’est accepté avant qu’il y ait de la place.",
            ),
            Self::Timeout => ("It took too long; try again.", "Cela a pris trop de temps ; réessayez."),
            Self::Internal => (
                "Something is wrong on our side; it is in our log.",
                "Une erreur est survenue chez nous ; elle est dans notre journal.",
            ),
        };
        (english.to_owned(), french.to_owned())
    }

    pub(crate) fn body(&self) -> Body {
        let (status, code, title) = self.kind();
        let (detail, detail_fr) = self.sentences();
        Body {
            kind: format!("urn:fajma:problem:{code}"),
            title,
            status: status.as_u16(),
            code,
            detail,
            detail_fr,
            field: match self {
                Self::Invalid { field, .. } => field.clone(),
                Self::Repeated { field } => Some((*field).to_owned()),
                Self::AddressTaken => Some("mac_address".to_owned()),
                Self::OtherThresholds => Some("into".to_owned()),
                Self::Exists | Self::Ended => Some("id".to_owned()),
                _ => None,
            },
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.kind().0, Json(self.body())).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match self {
            Self::Unauthenticated => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Self::NotYet | Self::Unavailable | Self::Timeout => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}

impl From<LogError> for Problem {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Unavailable(_) | LogError::Fenced | LogError::Elsewhere(_) => Self::Unavailable,
            LogError::Full(_) => Self::Full,
            LogError::TooLarge { .. } => Self::TooLarge,
            error => {
                tracing::error!(%error, "the log failed");
                Self::Internal
            }
        }
    }
}

impl From<Invalid> for Problem {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid {
            field: Some(invalid.field).filter(|field| !field.is_empty()),
            detail: invalid.detail,
            detail_fr: invalid.detail_fr,
        }
    }
}

impl From<ViewError> for Problem {
    fn from(error: ViewError) -> Self {
        match error {
            ViewError::Unavailable(_) => Self::Unavailable,
            ViewError::Full(_) => Self::Full,
            other => {
                tracing::error!(error = %other, "the views failed");
                Self::Internal
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_problem_has_the_agreed_keys_and_says_it_in_two_languages() {
        let problem = Problem::invalid("limit", "limit is 1 to 1000", "limit va de 1 à 1000");
        let response = problem.into_response();
        assert_eq!(response.status(), 400);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
        let bytes = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
        let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(
            value,
            serde_json::json!({
                "type": "urn:fajma:problem:invalid", "title": "Invalid request", "status": 400, "code": "invalid",
                "detail": "limit is 1 to 1000", "detail_fr": "limit va de 1 à 1000", "field": "limit"
            })
        );
    }

    #[test]
    fn what_can_be_tried_again_says_when() {
        for problem in [Problem::NotYet, Problem::Unavailable, Problem::Timeout] {
            assert_eq!(problem.into_response().headers()[RETRY_AFTER], "1");
        }
    }
}

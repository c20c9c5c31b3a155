//! What every client has in common: it gives its token when asked, and says what is wrong in words that help.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::client::{Client, ClientContext, OAuthToken};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tokio::time::Instant;

use super::access::Access;
use super::{Options, failed, native, token};
use crate::{Clock, LogError, SystemClock};

/// The same trouble is told again after so long.
const AGAIN: Duration = Duration::from_secs(30);
/// A first question is asked again after so long: what was wrong meanwhile may end it.
const PIECE: Duration = Duration::from_secs(1);
/// What is told after a question has failed comes within so long.
const ECHO: Duration = Duration::from_millis(50);
/// What nobody answers to may be the wrong question.
const PERHAPS: &str = " (perhaps TLS is spoken there, or SASL is wanted: log.tls and log.sasl)";
/// How often a client that only asks looks whether it is asked for a token.
const LOOK: Duration = Duration::from_millis(200);

/// A client that reads.
pub(super) type Reader = BaseConsumer<Contact>;

/// Who we are, and what was wrong last.
#[derive(Debug, Clone)]
pub(super) struct Contact {
    token_file: Option<PathBuf>,
    last: Arc<Mutex<Option<Trouble>>>,
}

#[derive(Debug, Clone)]
pub(super) struct Trouble {
    what: String,
    /// Brokers do not let us in, or are not who they should be: waiting will not help.
    refused: bool,
    told: Instant,
}

impl Contact {
    pub(super) fn new(access: &Access) -> Self {
        Self {
            token_file: access.token_file().map(PathBuf::from),
            last: Arc::default(),
        }
    }

    /// Gives a new client its token, before anybody polls it.
    pub(super) fn introduce<C: ClientContext>(&self, client: &Client<C>) -> Result<(), LogError> {
        if self.token_file.is_some() {
            let token = self.token().map_err(LogError::Unavailable)?;
            native::give_token(client, token)?;
        }
        Ok(())
    }

    fn token(&self) -> Result<OAuthToken, String> {
        let file = self.token_file.as_ref().ok_or("there is no token file")?;
        token::from_file(file, SystemClock.now())
    }

    /// What was wrong last, if anything was.
    pub(super) fn last(&self) -> Option<Trouble> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn tell(&self, trouble: Trouble) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let known = |last: &Trouble| last.what == trouble.what && trouble.told - last.told < AGAIN;
        if last.as_ref().is_some_and(known) {
            tracing::debug!(what = trouble.what, "Kafka");
        } else {
            tracing::warn!("Kafka: {}", trouble.what);
            *last = Some(trouble);
        }
    }
}

impl ClientContext for Contact {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code();
        if matches!(error, KafkaError::PartitionEOF(_)) || code == Some(RDKafkaErrorCode::PartitionEOF) {
            return;
        }
        if code == Some(RDKafkaErrorCode::AllBrokersDown) && self.last().is_some() {
            // Only the sum of what was told.
            return;
        }
        let what = match advice(code, reason, self.token_file.is_some()) {
            Some(advice) => format!("{reason} ({advice})"),
            None => reason.to_owned(),
        };
        self.tell(Trouble {
            what,
            refused: matches!(code, Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SSL))
                || reason.contains("certificate"),
            told: Instant::now(),
        });
    }

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        self.token().map_err(|why| {
            tracing::warn!("Kafka: {why}");
            why.into()
        })
    }
}

impl ConsumerContext for Contact {}

/// What an operator can do about it.
fn advice(code: Option<RDKafkaErrorCode>, reason: &str, by_token: bool) -> Option<&'static str> {
    use RDKafkaErrorCode as Code;
    let has = |text: &str| reason.contains(text);
    if has("bad certificate") || has("certificate required") || has("handshake failure") || has("unknown ca") {
        // Said by the brokers, once ours are looked at: TLS 1.3 shakes hands first.
        return Some("the brokers want a certificate that they trust: log.tls_certificate and log.tls_key");
    }
    if has("verify failed") {
        // The library does not say which of the two it is.
        return Some(
            "what log.tls_ca names has not signed the brokers' certificate, or it is for another name than log.url, or the \
             brokers' advertised.listeners, says",
        );
    }
    let hung_up = has("Disconnected") && has("SSL_HANDSHAKE");
    if hung_up || has("wrong version number") || has("PLAINTEXT broker listener") {
        return Some("no TLS is spoken there: log.tls, or the port in log.url");
    }
    Some(match code? {
        Code::Authentication if has("Unsupported SASL mechanism") || has("not enabled") => {
            "the brokers do not offer what log.sasl says"
        }
        Code::Authentication if by_token => "the brokers do not take the token in log.token_file",
        Code::Authentication => "the brokers do not take log.user with the password in log.password_file",
        Code::Resolve => "no such host: log.url, or the brokers' advertised.listeners",
        Code::BrokerTransportFailure if has("security.protocol") || has("ApiVersion") => {
            "perhaps TLS is spoken there, or SASL is wanted: log.tls and log.sasl"
        }
        _ => return None,
    })
}

/// Makes a client that reads.
pub(super) fn reader(options: &Options, mut config: ClientConfig) -> Result<Reader, LogError> {
    let contact = Contact::new(&options.access);
    options.access.apply(&mut config)?;
    let reader: Reader = config.create_with_context(contact.clone()).map_err(|e| failed(&e))?;
    contact.introduce(reader.client())?;
    Ok(reader)
}

/// The first question of a process: where the brokers do not let us in, it says so and why, and does not wait long.
pub(super) fn first<T>(
    reader: &Reader,
    patience: Duration,
    ask: impl Fn(Duration) -> Result<T, KafkaError>,
) -> Result<T, LogError> {
    let until = Instant::now() + patience;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let error = match ask(left.min(PIECE)) {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        hear(reader);
        match reader.context().last() {
            Some(trouble) if trouble.refused || left <= PIECE => {
                let what = trouble.what;
                let perhaps = if what.contains("log.") { "" } else { PERHAPS };
                return Err(LogError::Unavailable(format!("Kafka: {what}{perhaps}")));
            }
            None if left <= PIECE => return Err(failed(&error)),
            _ => {}
        }
    }
}

/// Takes in what is told after a question has failed. Whoever is thrown out at once is told of it without a pause, for ever.
fn hear(reader: &Reader) {
    let until = Instant::now() + ECHO;
    while reader.poll(until.saturating_duration_since(Instant::now())).is_some() && Instant::now() < until {}
}

/// Whether a client that reads goes on by itself: its token is just being renewed.
pub(super) fn passes(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::Authentication)
}

/// Keeps a client going that is only asked and never polled, as long as somebody has it.
pub(super) fn keep(reader: &Arc<Reader>) {
    let held = Arc::downgrade(reader);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(LOOK).await;
            let Some(reader) = held.upgrade() else { return };
            while reader.poll(Duration::ZERO).is_some() {}
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_comes_with_what_can_be_done() {
        use RDKafkaErrorCode as Code;
        for (code, reason, option) in [
            (
                Code::Authentication,
                "SASL authentication error: … SCRAM-SHA-256",
                "log.password_file",
            ),
            (
                Code::Authentication,
                "SASL authentication error: invalid_token",
                "log.token_file",
            ),
            (
                Code::SSL,
                "certificate verify failed: broker certificate …",
                "log.tls_ca",
            ),
            (Code::SSL, "tlsv13 alert certificate required", "log.tls_key"),
            (Code::Resolve, "Failed to resolve 'x:1'", "log.url"),
        ] {
            let advice = advice(Some(code), reason, reason.contains("token")).unwrap_or_default();
            assert!(advice.contains(option), "{reason}: {advice}");
        }
        assert_eq!(advice(Some(Code::AllBrokersDown), "1/1 brokers are down", false), None);
        assert_eq!(advice(None, "x", false), None);
    }

    #[test]
    fn the_sum_of_what_was_told_hides_nothing() {
        let contact = Contact::new(&Access::default());
        contact.error(KafkaError::Global(RDKafkaErrorCode::SSL), "verify failed");
        contact.error(
            KafkaError::Global(RDKafkaErrorCode::AllBrokersDown),
            "1/1 brokers are down",
        );
        let last = contact
            .last()
            .map(|last| (last.refused, last.what.contains("log.tls_ca")));
        assert_eq!(last, Some((true, true)));
    }
}

//! What brokers are asked to do with topics: again, where they do not say in time that it is done.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;
use tokio::time::{Instant, sleep};

use super::contact::Contact;
use super::{Options, failed, is_answered_soon};
use crate::LogError;

/// How long to wait before the brokers are asked again.
pub(super) const PAUSE: Duration = Duration::from_millis(50);

/// A client that asks, and how long each answer may take.
pub(super) struct Admin {
    pub(super) client: AdminClient<Contact>,
    pub(super) asking: AdminOptions,
}

/// Asks until there is an answer, as long as brokers may take to agree on who answers. It is asked again after it may have
/// been done, so only what does no harm twice may be asked. Each time by a new client: a token may have ended meanwhile, and
/// nobody polls these.
pub(super) async fn ask<T, F>(options: &Options, question: impl Fn(Admin) -> F) -> Result<T, LogError>
where
    F: Future<Output = Result<T, KafkaError>>,
{
    let until = Instant::now() + options.failover;
    loop {
        match question(open(options)?).await {
            Err(error) if is_answered_soon(&error) && Instant::now() < until => sleep(PAUSE).await,
            done => return done.map_err(|e| failed(&e)),
        }
    }
}

fn open(options: &Options) -> Result<Admin, LogError> {
    let mut config = options.consumer();
    config.remove("enable.partition.eof");
    options.access.apply(&mut config)?;
    let contact = Contact::new(&options.access);
    let client: AdminClient<Contact> = config.create_with_context(contact.clone()).map_err(|e| failed(&e))?;
    contact.introduce(client.inner())?;
    let asking = AdminOptions::new()
        .request_timeout(Some(options.timeout))
        .operation_timeout(Some(options.timeout));
    Ok(Admin { client, asking })
}

/// Makes topics where they are not there. They may appear a moment later.
pub(super) async fn create(options: &Options, topics: &[NewTopic<'_>]) -> Result<(), LogError> {
    let made = ask(options, |it| async move {
        it.client.create_topics(topics, &it.asking).await
    });
    for made in made.await? {
        match made {
            // Another process made it at the same moment; or it is under way.
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists | RDKafkaErrorCode::RequestTimedOut)) => {}
            Err((name, code)) => return Err(LogError::Unavailable(format!("{name} cannot be made: {code}"))),
        }
    }
    Ok(())
}

/// Deletes topics where they are there. They may be gone a moment later.
pub(super) async fn delete(options: &Options, names: &[String]) -> Result<(), LogError> {
    let all: &[&str] = &names.iter().map(String::as_str).collect::<Vec<_>>();
    let deleted = ask(
        options,
        |it| async move { it.client.delete_topics(all, &it.asking).await },
    );
    for deleted in deleted.await? {
        match deleted {
            Ok(_) | Err((_, RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::RequestTimedOut)) => {}
            Err((name, code)) => return Err(LogError::Unavailable(format!("{name} cannot be deleted: {code}"))),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// The answers in turn, and how many of them it took.
    async fn asked(answers: &[Result<u8, RDKafkaErrorCode>]) -> (Result<u8, LogError>, usize) {
        let next = Cell::new(0);
        let question = |_: Admin| {
            let answer = answers[next.replace(next.get() + 1)].map_err(KafkaError::AdminOp);
            async move { answer }
        };
        (ask(&Options::default(), question).await, next.get())
    }

    #[tokio::test]
    async fn what_is_not_answered_in_time_is_asked_again_and_a_refusal_is_one() {
        use RDKafkaErrorCode as Code;
        let late = [Err(Code::OperationTimedOut), Err(Code::BrokerTransportFailure), Ok(7)];
        let (answer, times) = asked(&late).await;
        assert_eq!((answer.unwrap(), times), (7, 3));
        let (refused, times) = asked(&[Err(Code::TopicAuthorizationFailed), Ok(7)]).await;
        assert!(refused.is_err() && times == 1, "{refused:?} after {times}");
    }
}

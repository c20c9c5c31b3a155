//! What the client library does, but has no safe words for: the id that Kafka gave a topic when it was made (the
//! journal's is its incarnation), and a token given before anybody asks for it. The only file of the house with unsafe code.
#![allow(unsafe_code, reason = "the client library's C functions; see each block")]

use std::ffi::{CStr, CString};
use std::time::Duration;

use rdkafka::bindings as c;
use rdkafka::client::{Client, ClientContext, OAuthToken};
use rdkafka::consumer::Consumer;
use schemas::ids::EventId;

use super::contact::Reader;
use crate::LogError;

/// What is to be freed, whatever happens.
struct Freed<T>(*mut T, unsafe extern "C" fn(*mut T));

impl<T> Drop for Freed<T> {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: the pointer came from the function that this one belongs to, and is freed once, here.
            unsafe { (self.1)(self.0) }
        }
    }
}

/// Asks the brokers for a topic's id.
pub(super) fn topic_id(client: &Reader, topic: &str, timeout: Duration) -> Result<EventId, LogError> {
    let failed = |why: &str| LogError::Unavailable(format!("Kafka: the id of {topic}: {why}"));
    let name = CString::new(topic).map_err(|_| failed("no such name"))?;
    let mut names = [name.as_ptr()];
    let millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    let rk = client.client().native_ptr();
    // SAFETY: `names` holds one valid C string for as long as the collection is made from it (it copies).
    let topics = unsafe { c::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len()) };
    let topics = Freed(topics, c::rd_kafka_TopicCollection_destroy);
    // SAFETY: `rk` is the client's, which outlives this function.
    let queue = Freed(unsafe { c::rd_kafka_queue_new(rk.cast()) }, c::rd_kafka_queue_destroy);
    // SAFETY: all three are valid; without options the defaults hold.
    unsafe { c::rd_kafka_DescribeTopics(rk.cast(), topics.0, std::ptr::null(), queue.0) };
    // SAFETY: the queue is valid; an event is ours to free.
    let event = Freed(
        unsafe { c::rd_kafka_queue_poll(queue.0, millis) },
        c::rd_kafka_event_destroy,
    );
    if event.0.is_null() {
        return Err(failed("no answer"));
    }
    // SAFETY: the event is valid; the result is part of it, and null where it is another kind of event.
    let result = unsafe { c::rd_kafka_event_DescribeTopics_result(event.0) };
    if result.is_null() {
        return Err(failed("another answer"));
    }
    let mut count = 0;
    // SAFETY: the result is valid; so is the list of `count` descriptions, as long as the event.
    let found = unsafe { c::rd_kafka_DescribeTopics_result_topics(result, &raw mut count) };
    if found.is_null() || count == 0 {
        return Err(failed("it is not there"));
    }
    // SAFETY: there is at least one description; what it refers to lives as long as the event.
    let (error, id) = unsafe {
        let description = *found;
        (
            c::rd_kafka_TopicDescription_error(description),
            c::rd_kafka_TopicDescription_topic_id(description),
        )
    };
    // SAFETY: an error may be null, which stands for none.
    if !error.is_null()
        && unsafe { c::rd_kafka_error_code(error) } != c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
    {
        return Err(failed("it is not there"));
    }
    if id.is_null() {
        return Err(failed("the broker gives none"));
    }
    // SAFETY: the id is valid as long as the event.
    let (high, low) = unsafe {
        (
            c::rd_kafka_Uuid_most_significant_bits(id),
            c::rd_kafka_Uuid_least_significant_bits(id),
        )
    };
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&high.to_be_bytes());
    bytes[8..].copy_from_slice(&low.to_be_bytes());
    Ok(EventId(bytes))
}

/// Gives a client the token that it shows brokers; from then on it asks by itself, of those who poll it.
pub(super) fn give_token<C: ClientContext>(client: &Client<C>, token: OAuthToken) -> Result<(), LogError> {
    let failed = |why: &str| LogError::Unavailable(format!("Kafka: the token cannot be used: {why}"));
    let text = CString::new(token.token).map_err(|_| failed("it is no text"))?;
    let name = CString::new(token.principal_name).map_err(|_| failed("it is nobody's"))?;
    let mut why = [0; 256];
    // SAFETY: the client is alive; both texts end with zero and are copied; there are no extensions; `why` is as long as
    // is said, and is ended with zero within it.
    let code = unsafe {
        c::rd_kafka_oauthbearer_set_token(
            client.native_ptr().cast(),
            text.as_ptr(),
            token.lifetime_ms,
            name.as_ptr(),
            std::ptr::null_mut(),
            0,
            why.as_mut_ptr(),
            why.len(),
        )
    };
    if code == c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
        return Ok(());
    }
    // SAFETY: as above.
    let why = unsafe { CStr::from_ptr(why.as_ptr()) };
    Err(failed(&why.to_string_lossy()))
}

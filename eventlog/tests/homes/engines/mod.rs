//! On a real Kafka: `FAJMA_TEST_KAFKA=host:port`.

mod kafka;
mod killed;
mod members;
mod moving;
mod registered;
mod secured;
mod standby;

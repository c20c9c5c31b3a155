//! On a real Kafka: `FAJMA_TEST_KAFKA=host:port`.

mod succession;

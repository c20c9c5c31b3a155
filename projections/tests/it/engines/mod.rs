//! On a real ScyllaDB or Cassandra: `FAJMA_TEST_CQL=host:port`.

mod scylla;
mod secured;

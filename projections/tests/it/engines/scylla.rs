//! The home on ScyllaDB or Cassandra keeps what every home keeps. Needs a running database: `FAJMA_TEST_CQL=host:port`.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use projections::conformance::{Site, VIEWS};
use projections::embedded::EmbeddedViews;
use projections::scylla::{Options, Replication, ScyllaViews, apply};
use projections::store::{Change, Scan, ViewError, ViewStore};
use projections::views;
use schemas::facts::{AlertState, Liveness, Severity, TokensRevoked, WindowSize};
use schemas::ids::SensorId;
use schemas::journal::Fact;
use schemas::metric::Metric;
use schemas::refused::Code;

use crate::house::database::options;
use crate::house::{INCARNATION, alert, at, device, envelope, measured, recorded, rejection, window};

struct Keyspace(Options);

#[async_trait]
impl Site for Keyspace {
    async fn open(&self) -> Arc<dyn ViewStore> {
        ScyllaViews::for_suite(self.0.clone(), &VIEWS).await.unwrap()
    }
}

projections::conformance_suite!(Keyspace(options()));

#[tokio::test]
async fn tables_are_applied_once_and_drift_is_an_error() {
    let options = options();
    let missing = ScyllaViews::open(options.clone()).await.unwrap_err();
    assert!(
        matches!(&missing, ViewError::Unavailable(why) if why.contains("views apply")),
        "{missing}"
    );
    for _ in 0..2 {
        apply(&options, &Replication::Simple(1)).await.unwrap();
        ScyllaViews::open(options.clone()).await.unwrap();
    }
    let session = scylla::client::session_builder::SessionBuilder::new()
        .known_nodes(&options.nodes)
        .build()
        .await
        .unwrap();
    let altered = format!("ALTER TABLE {}.latest ADD shoe_size bigint", options.keyspace);
    session.query_unpaged(altered, ()).await.unwrap();
    let drift = apply(&options, &Replication::Simple(1)).await.unwrap_err();
    assert!(
        drift.to_string().contains("latest has shoe_size bigint (regular)"),
        "{drift}"
    );
}

/// A day of a small house, some of it twice and out of order.
fn changes() -> Vec<Change> {
    let mut all = Vec::new();
    for n in (0..300).chain(100..180) {
        let key = ["p1", "p2", "sensor:s9"][n as usize % 3];
        views::project_fact(
            &measured(key, "s1", Metric::Spo2, n * 400 - 50_000, 90.0 + (n % 9) as f64),
            &mut all,
        );
    }
    for (offset, state) in [
        (5, AlertState::Open),
        (9, AlertState::Acknowledged),
        (12, AlertState::Resolved),
    ] {
        for (name, key) in [("a", "p1"), ("b", "p2")] {
            // One of the two never ends.
            let state = if name == "b" && offset == 12 {
                AlertState::Snoozed
            } else {
                state
            };
            views::project_derived(&alert(key, name, 4, offset, state, Severity::Critical), &mut all);
        }
        views::project_derived(
            &window("p1", WindowSize::Minute, at(0), offset as i32, offset, 70.0),
            &mut all,
        );
        views::project_derived(&device("p1", "s1", offset, offset, Liveness::Online), &mut all);
    }
    for second in 0..20 {
        views::project_rejection(&rejection(second, (second % 2 == 0).then_some("s1")), &mut all);
    }
    all.extend(tied());
    let older = all.len() / 2;
    all.rotate_left(older);
    all
}

/// What two facts say of one thing at one moment, in one order and in the other.
fn tied() -> Vec<Change> {
    let mut all = Vec::new();
    let mut facts: Vec<_> = [(8_200, 80.0), (64, 80.0), (100, 99.0), (101, 71.5)]
        .map(|(offset, value)| {
            let mut fact = measured("p1", "s-tie", Metric::HeartRate, 7, value);
            fact.offset = offset;
            fact
        })
        .into();
    facts[1].envelope.cause = Some(INCARNATION);
    facts[3].envelope.gateway_at = Some(at(8));
    facts.iter().for_each(|fact| views::project_fact(fact, &mut all));
    facts.reverse();
    for fact in &mut facts {
        // The same of another sensor, in the other order.
        if let Fact::Reading(reading) = &mut fact.envelope.fact {
            reading.sensor_id = SensorId::new("s-tie-2").unwrap();
        }
        views::project_fact(fact, &mut all);
    }
    let mut refused = [rejection(3, Some("s-tie")), rejection(3, Some("s-tie"))];
    refused[1].code = Code::UnknownSensor;
    refused[1].detail = "Longer, and of another reason.".into();
    refused.iter().for_each(|it| views::project_rejection(it, &mut all));
    for (offset, by) in [(1, "zoe"), (2, "abdoulaye")] {
        let said = Fact::TokensRevoked(TokensRevoked {
            token: None,
            subject: Some("d1".into()),
            by: by.into(),
        });
        let fact = recorded(offset, envelope("", at(5), at(5), said));
        views::project_fact(&fact, &mut all);
    }
    all
}

#[tokio::test]
async fn both_homes_show_the_same_rows() {
    let folder = tempfile::tempdir().unwrap();
    let embedded = EmbeddedViews::open(folder.path(), projections::embedded::Options::default()).unwrap();
    let database = crate::house::database::views().await;
    let changes = changes();
    let mut partitions = BTreeMap::new();
    for part in changes.chunks(97) {
        embedded.apply(part, None).await.unwrap();
        database.apply(part, None).await.unwrap();
        for change in part {
            let cells = change.key[..change.view.partition.len()].to_vec();
            partitions.insert(format!("{} {cells:?}", change.view.name), (change.view, cells));
        }
    }
    let mut rows = 0;
    for (name, (view, cells)) in partitions {
        let [here, there] = [&*embedded as &dyn ViewStore, &*database as &dyn ViewStore]
            .map(|store| store.scan(view, Scan::of(cells.clone(), 10_000)));
        let (here, there) = (here.await.unwrap(), there.await.unwrap());
        rows += here.len();
        assert_eq!(here, there, "{name}");
    }
    assert!(rows > 300, "{rows} rows");
}

/// As somebody with `cqlsh` would ask.
#[tokio::test]
async fn what_rows_say_as_one_value_has_names() {
    let options = options();
    apply(&options, &Replication::Simple(1)).await.unwrap();
    let store = ScyllaViews::open(options.clone()).await.unwrap();
    let mut changes = Vec::new();
    views::project_fact(&measured("p1", "s1", Metric::Spo2, 5, 97.5), &mut changes);
    store.apply(&changes, None).await.unwrap();
    let session = scylla::client::session_builder::SessionBuilder::new()
        .known_nodes(&options.nodes)
        .build()
        .await
        .unwrap();
    let keyspace = &options.keyspace;
    for text in [
        format!("SELECT value, said.quality, said.sent_unit FROM {keyspace}.readings"),
        format!("SELECT said.value, said.quality, said.cause FROM {keyspace}.latest WHERE patient_id = 'p1'"),
    ] {
        let rows = session
            .query_unpaged(text, ())
            .await
            .unwrap()
            .into_rows_result()
            .unwrap();
        let columns = rows.single_row::<scylla::value::Row>().unwrap().columns;
        let (value, quality) = (columns[0].as_ref().unwrap(), columns[1].as_ref().unwrap());
        assert_eq!((value.as_double(), quality.as_bigint()), (Some(97.5), Some(97)));
        assert_eq!(columns[2], None);
    }
}

//! The few things that stock clients of the REST Proxy ask before they produce.

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde_json::{Value, json};

use super::answer::{self, KAFKA_V2, Trouble};
use super::v3::JSON;
use super::{Shared, TOPIC, token};

/// The answer, where the sender is somebody and the topic is ours.
fn answer(
    shared: &Shared,
    headers: &HeaderMap,
    topic: &str,
    kind: &'static str,
    body: impl FnOnce() -> Value,
) -> Response {
    if token::sender(shared, headers).is_err() {
        Trouble::Unauthenticated.confluent(kind)
    } else if topic != TOPIC {
        answer::confluent_error(StatusCode::NOT_FOUND, kind, 40401, "Topic not found.")
    } else {
        answer::json(StatusCode::OK, kind, &body())
    }
}

/// `["fajma.readings"]`.
pub(super) async fn topics(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    answer(&shared, &headers, TOPIC, KAFKA_V2, || json!([TOPIC]))
}

/// The topic and its partitions.
pub(super) async fn topic(State(shared): State<Shared>, Path(topic): Path<String>, headers: HeaderMap) -> Response {
    answer(
        &shared,
        &headers,
        &topic,
        KAFKA_V2,
        || json!({"name": TOPIC, "configs": {}, "partitions": all_partitions(&shared)}),
    )
}

/// The topic's partitions.
pub(super) async fn partitions(
    State(shared): State<Shared>,
    Path(topic): Path<String>,
    headers: HeaderMap,
) -> Response {
    answer(&shared, &headers, &topic, KAFKA_V2, || json!(all_partitions(&shared)))
}

/// One partition.
pub(super) async fn partition(
    State(shared): State<Shared>,
    Path((topic, partition)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    match partition.parse::<u16>() {
        Ok(p) if p < shared.intake.partitions() => answer(&shared, &headers, &topic, KAFKA_V2, || one_partition(p)),
        _ if token::sender(&shared, &headers).is_err() => Trouble::Unauthenticated.confluent(KAFKA_V2),
        _ => answer::confluent_error(StatusCode::NOT_FOUND, KAFKA_V2, 40402, "Partition not found."),
    }
}

fn all_partitions(shared: &Shared) -> Vec<Value> {
    (0..shared.intake.partitions()).map(one_partition).collect()
}

fn one_partition(p: u16) -> Value {
    json!({"partition": p, "leader": 0, "replicas": [{"broker": 0, "leader": true, "in_sync": true}]})
}

/// The one cluster.
pub(super) async fn clusters(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    answer(
        &shared,
        &headers,
        TOPIC,
        JSON,
        || json!({"kind": "KafkaClusterList", "metadata": {"self": "/v3/clusters", "next": null}, "data": [one_cluster(&shared)]}),
    )
}

/// The cluster under any id.
pub(super) async fn cluster(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    answer(&shared, &headers, TOPIC, JSON, || one_cluster(&shared))
}

fn one_cluster(shared: &Shared) -> Value {
    let id = shared.cluster_id.as_str();
    let path = format!("/v3/clusters/{id}");
    json!({
        "kind": "KafkaCluster",
        "metadata": {"self": path, "resource_name": format!("crn:///kafka={id}")},
        "cluster_id": id,
        "topics": {"related": format!("{path}/topics")},
    })
}

/// The one topic.
pub(super) async fn cluster_topics(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    answer(&shared, &headers, TOPIC, JSON, || {
        let path = format!("/v3/clusters/{}/topics", shared.cluster_id);
        json!({"kind": "KafkaTopicList", "metadata": {"self": path, "next": null}, "data": [one_topic(&shared)]})
    })
}

/// The topic under any cluster's id.
pub(super) async fn cluster_topic(
    State(shared): State<Shared>,
    Path((_cluster, topic)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    answer(&shared, &headers, &topic, JSON, || one_topic(&shared))
}

fn one_topic(shared: &Shared) -> Value {
    let id = shared.cluster_id.as_str();
    let path = format!("/v3/clusters/{id}/topics/{TOPIC}");
    json!({
        "kind": "KafkaTopic",
        "metadata": {"self": path, "resource_name": format!("crn:///kafka={id}/topic={TOPIC}")},
        "cluster_id": id,
        "topic_name": TOPIC,
        "is_internal": false,
        "replication_factor": 1,
        "partitions_count": shared.intake.partitions(),
        "partitions": {"related": format!("{path}/partitions")},
    })
}

//! People who answer alerts and set limits over REST while the server is killed under their hands.

use std::time::Duration;

use eventlog::{Clock, SystemClock};
use hyper::Method;
use schemas::time::Span;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{Plan, bodies};
use crate::client;

/// Something that the server said is done.
#[derive(Debug, Clone)]
pub(super) struct Done {
    /// Where it stands in the journal, as the server says.
    pub(super) position: String,
    /// What must stand there: the text of an answer, or the patient whose limits were set.
    pub(super) mark: String,
}

/// Acts until `stop`; gives what was answered with success. What got no answer may be done or not.
pub(super) async fn act(plan: Plan, http: String, token: String, stop: CancellationToken) -> Vec<Done> {
    let mut chance = fastrand::Rng::with_seed(plan.seed ^ 0x9e37);
    let mut done = Vec::new();
    let mut n = 0;
    while !stop.is_cancelled() {
        sleep(Duration::from_millis(chance.u64(20..160))).await;
        n += 1;
        let attempt = async {
            if chance.f64() < 0.15 {
                set_limits(&plan, (&http, &token), &mut chance).await
            } else {
                answer((&http, &token), n, &mut chance).await
            }
        };
        if let Ok(Some(one)) = timeout(Duration::from_secs(5), attempt).await {
            done.push(one);
        }
    }
    done
}

async fn set_limits(plan: &Plan, (http, token): (&str, &str), chance: &mut fastrand::Rng) -> Option<Done> {
    let patient = bodies::id(chance.usize(..plan.patients));
    let limits = match chance.u32(..4) {
        0 => json!({}),
        1 => json!({"heart_rate": {"critical_low": 35, "info_high": 110, "warning_high": 138, "critical_high": 170}}),
        2 => json!({"heart_rate": {"warning_high": 95, "critical_high": 115}, "spo2": {"critical_low": 80}}),
        _ => json!({"spo2": {"critical_low": 88, "warning_low": 90}}),
    };
    let path = format!("/v1/patients/{patient}/thresholds");
    let body = ("application/json", hyper::body::Bytes::from(limits.to_string()));
    let (status, said) = client::call(http, Method::PUT, &path, token, body).await.ok()?;
    done(status, &said, patient.to_string())
}

async fn answer((http, token): (&str, &str), n: u32, chance: &mut fastrand::Rng) -> Option<Done> {
    let state = ["open", "acknowledged"][usize::from(chance.f64() < 0.3)];
    let page = client::get(http, &format!("/v1/alerts?limit=200&state={state}"), token)
        .await
        .ok()?;
    let alerts = page["alerts"].as_array().filter(|alerts| !alerts.is_empty())?;
    let alert = alerts[chance.usize(..alerts.len())]["id"].as_str()?;
    let what = ["acknowledge", "acknowledge", "snooze", "comment", "resolve"][chance.usize(..5)];
    let mut body = json!({"text": format!("answer {n}")});
    if what == "snooze" {
        body["until"] = json!(SystemClock.now() + Span::seconds(chance.i64(2..6)));
    }
    let path = format!("/v1/alerts/{alert}/{what}");
    let (status, said) = client::post(http, &path, token, &body).await.ok()?;
    done(status, &said, format!("answer {n}"))
}

fn done(status: u16, said: &Value, mark: String) -> Option<Done> {
    let position = said["position"].as_str().filter(|_| status == 200)?;
    Some(Done {
        position: position.to_owned(),
        mark,
    })
}

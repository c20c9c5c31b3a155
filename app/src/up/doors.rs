//! What the world sees.

use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use ingest::http::HttpDoors;
use ingest::mqtt::{Entrance, Followed, MqttDoor};
use ingest::{Commands, Intake};
use schemas::access::Authenticate;
use schemas::ids::ConsultationId;
use tokio_util::sync::CancellationToken;

use super::listening::Listening;
use super::supervisor::Supervisor;
use super::{Inside, outside};
use crate::failure::Failure;
use crate::tls;

type Behind<'a> = (
    &'a Arc<dyn Authenticate>,
    &'a Arc<api::State>,
    Arc<Intake>,
    &'a Arc<Commands>,
);
type Addresses<'a> = (&'a Listening, Option<&'a Listening>, Option<&'a tls::Doors>);

/// Opens the doors that are among the duties; health and metrics are everybody's.
///
/// # Errors
/// [`Failure::WrongUse`] naming an option that does not fit.
pub(super) fn start_doors(
    inside: &Inside<'_>,
    (admission, api, intake, commands): Behind<'_>,
    (http, mqtt, tls): Addresses<'_>,
    stop: &CancellationToken,
) -> Result<Supervisor, Failure> {
    let config = inside.config;
    let mut supervisor = Supervisor::new(config.supervisor.clone(), Arc::clone(inside.roles));
    if inside.duties.ingest {
        outside::start_raw(&mut supervisor, config, &intake, stop)?;
        outside::start_bridge(&mut supervisor, config, &intake, stop)?;
    }
    let app = api::with_common_layers(routes(inside, admission, api, &intake));
    let (limits, until, http) = (config.http.server(config.shutdown.drain), stop.clone(), http.clone());
    let secured = tls.map(|tls| Arc::clone(&tls.http));
    supervisor.start("http", stop.clone(), move || {
        let (app, limits, until, http) = (app.clone(), limits.clone(), until.clone(), http.clone());
        let secured = secured.clone();
        async move {
            let listener = http.take().await?;
            api::server::serve(listener, app, secured, limits, until).await;
            Ok(())
        }
    });
    if let Some(mqtt) = mqtt.cloned() {
        let told: Option<Arc<dyn ingest::mqtt::Consultations>> =
            inside.duties.serve.then(|| Arc::new(Told(Arc::clone(api))) as _);
        let (log, tokens) = (Arc::clone(&inside.house.log), Arc::clone(admission));
        let commands = Arc::clone(commands);
        let (limits, until) = (config.mqtt.limits(config.shutdown.drain), stop.clone());
        let secured = tls.map(|tls| Arc::clone(&tls.mqtt));
        supervisor.start("mqtt", stop.clone(), move || {
            let tls = secured.clone();
            let (log, tokens, intake) = (Arc::clone(&log), Arc::clone(&tokens), Arc::clone(&intake));
            let (limits, until, mqtt, told) = (limits.clone(), until.child_token(), mqtt.clone(), told.clone());
            let commands = Arc::clone(&commands);
            async move {
                let listener = mqtt.take().await?;
                let door = MqttDoor::new(intake, log, tokens, (told, commands), limits, until);
                door.serve(vec![Entrance { listener, tls }]).await;
                Ok(())
            }
        });
    }
    Ok(supervisor)
}

fn routes(
    inside: &Inside<'_>,
    admission: &Arc<dyn Authenticate>,
    api: &Arc<api::State>,
    intake: &Arc<Intake>,
) -> Router {
    let people = if inside.duties.serve {
        api::router(Arc::clone(api))
    } else {
        api::running_router(Arc::clone(api))
    };
    if !inside.duties.ingest {
        return people;
    }
    let house = inside.house;
    people.merge(ingest::http::router(HttpDoors {
        intake: Arc::clone(intake),
        auth: Arc::clone(admission),
        clock: Arc::clone(&house.clock),
        limits: inside.config.http.doors(),
        cluster_id: house.log.layout().incarnation.to_string().into(),
    }))
}

/// What the API's live streams tell of consultations, for subscribers of the MQTT door.
#[derive(Debug)]
struct Told(Arc<api::State>);

#[async_trait]
impl ingest::mqtt::Consultations for Told {
    async fn follow(&self, id: &ConsultationId) -> Option<Followed> {
        let followed = api::follow_consultation(&self.0, id).await?;
        Some(Followed {
            patient: followed.patient,
            frames: followed.frames,
        })
    }
}

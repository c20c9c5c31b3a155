//! Running: every role in one process (`fajma up`), or one of them.
//!
//! The order of the start: log, key, what processors go by, views, roles, doors last. The order of the stop: doors first,
//! so that nothing new is acknowledged; then the roles, each of which saves what it has.

mod admission;
mod behind;
mod demo;
mod doors;
mod issuer;
mod known;
mod listening;
mod no_views;
pub mod notify;
pub mod operations;
mod outside;
mod registry;
mod roles;
mod run;
mod share;
pub mod supervisor;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use api::token::Keys;
use ingest::{Clocks, Intake};
use projections::runner::ProgressBoard;
use projections::store::ViewStore;
use schemas::access::{Authenticate, Principal, Role};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Time};
use crate::failure::Failure;
use crate::house::gate::Gate;
use crate::house::{House, Served};
use crate::tls;
use admission::Admission;
use behind::Behind;
use doors::start_doors;
use known::Known;
use listening::Listening;
use no_views::NoViews;
use operations::Running;
use roles::start_roles;
pub use run::run;
use supervisor::{Roles, Supervisor};

/// A running house.
#[derive(Debug)]
pub struct Server {
    /// Where HTTP is served.
    pub http: SocketAddr,
    /// Where MQTT is served, if it is.
    pub mqtt: Option<SocketAddr>,
    /// How they speak TLS, where they do.
    pub tls: Option<tls::Doors>,
    /// The key of its tokens.
    pub keys: Arc<Keys>,
    /// The opened directory.
    pub house: House,
    /// What is known about its parts.
    pub running: Arc<Running>,
    api: Arc<api::State>,
    doors: (Supervisor, CancellationToken),
    roles: (Supervisor, CancellationToken),
    demo: (Supervisor, CancellationToken),
    drain: Time,
    _behind: Behind,
}

/// Which roles a process has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "any of them may be alone")]
pub struct Duties {
    /// The doors, and the ticks that tell silence.
    pub ingest: bool,
    /// The processors.
    pub process: bool,
    /// The processors, silent as long as those of other processes speak.
    pub standby: bool,
    /// The projection of views.
    pub project: bool,
    /// What people and their programs ask.
    pub serve: bool,
}

impl Duties {
    /// Everything.
    pub const ALL: Self = Self {
        ingest: true,
        process: true,
        standby: false,
        project: true,
        serve: true,
    };
    /// None: for one to be added.
    pub const NONE: Self = Self {
        ingest: false,
        process: false,
        standby: false,
        project: false,
        serve: false,
    };
}

/// How long doors stay shut until the clock has been compared with the log's.
const FIRST_COMPARISON: Duration = Duration::from_secs(5);

/// Starts everything that is among the duties.
///
/// # Errors
/// [`Failure::Failed`]: one line that says what to do.
pub async fn start(config: &Config, duties: Duties) -> Result<Server, Failure> {
    let tls = config.tls.doors()?;
    if duties.ingest {
        outside::check(config)?;
    }
    let http = Listening::open(&config.http.listen, "--listen").await?;
    let mqtt = match config.mqtt.listen.as_str() {
        address if duties.ingest && !address.is_empty() => Some(Listening::open(address, "--mqtt").await?),
        _ => None,
    };
    let metrics = operations::recorder();
    let mut house = House::open(config).await?;
    house.serving()?;
    let keys = Arc::new(keys(config, &house, duties)?);
    let registry = registry::Registry::of(&config.registry, house.kafka.is_some())?;
    let told = registry::begin(&house, registry.as_ref()).await?;
    begin(&house, duties).await?;
    let behind = Behind::start(config.processors.niceness)?;
    if duties.project || duties.serve {
        // From a thread of theirs: those that merge the views' tables inherit its priority.
        let opening = house.clone();
        let views = behind.handle().spawn(async move { opening.open_views().await });
        let views = views.await.map_err(|e| Failure::because("the views", e))??;
        let gate = Arc::new(Gate::default());
        let shared = house.kafka.is_some();
        let registry = api::Registry::new(Arc::clone(&house.log), views.store(), Arc::clone(&house.clock), shared);
        house.served = Some(Served { views, gate, registry });
    }

    let known = who_is_who(&house, duties).await?;
    let issuer = config.issuer.terms()?.map(api::token::Issuer::new);
    if let Some(issuer) = &issuer {
        // Nobody is kept out by an issuer that is not there but those with its tokens.
        if let Err(why) = issuer::read(issuer, &config.issuer).await {
            tracing::error!(
                why,
                "the issuer's keys could not be read: its tokens are refused until they are"
            );
        }
    }
    let admission: Arc<dyn Authenticate> = Arc::new(Admission::new(&keys, issuer.as_ref(), &known));
    let roles: Arc<Roles> = Arc::default();
    let mut processing = config.processors.options(Arc::clone(&house.catalogue));
    processing.behind = Some(behind.handle().clone());
    // The data directory is locked: this process has its log to itself.
    processing.alone = house.kafka.is_none();
    processing.standby = duties.standby;
    let projecting = config.views.projection(Arc::clone(&house.catalogue));
    let clocks = Arc::new(if house.kafka.is_some() && duties.ingest {
        Clocks::others()
    } else {
        Clocks::one()
    });
    let intake = Intake::learning(
        Arc::clone(&house.log),
        (Arc::clone(&house.clock), Arc::clone(&clocks)),
        house.policy.in_force(),
        Arc::clone(&known.roster),
        config.intake.limits(),
        Arc::clone(&house.catalogue),
    );
    if duties.ingest {
        intake
            .recall()
            .await
            .map_err(|e| Failure::because("the journal cannot be read", e))?;
    }
    let running = Arc::new(Running::new(
        &house,
        Arc::clone(&roles),
        processing.board.clone(),
        Arc::clone(&projecting.board),
        Arc::clone(&intake),
        (metrics, duties.process && house.kafka.is_none()),
    ));
    // Where several project, none of them knows how far all are.
    let board = (duties.project && house.kafka.is_none()).then(|| Arc::clone(&projecting.board));
    let within = Inside {
        config,
        house: &house,
        duties,
        roles: &roles,
        behind: behind.handle(),
    };
    let mut inside = start_roles(&within, (&running, &intake, &known, issuer), processing, projecting)?;
    // Doors that open without it take nothing until it comes, and say so.
    let _ = tokio::time::timeout(FIRST_COMPARISON, clocks.compared()).await;
    roles::learn_schemas(&mut inside.0, &house, (told, registry), &inside.1);
    let doors = CancellationToken::new();
    let api = api_state(
        &house,
        (&keys, &admission),
        (&running, &intake, &known),
        (board, doors.clone()),
    );
    let supervised = start_doors(
        &within,
        (&admission, &api, intake, &known.commands),
        (&http, mqtt.as_ref(), tls.as_ref()),
        &doors,
    )?;
    Ok(Server {
        http: http.address,
        mqtt: mqtt.map(|m| m.address),
        tls,
        keys,
        house,
        running,
        api,
        doors: (supervised, doors),
        roles: inside,
        demo: (
            Supervisor::new(config.supervisor.clone(), Arc::clone(&roles)),
            CancellationToken::new(),
        ),
        drain: config.shutdown.drain,
        _behind: behind,
    })
}

/// What roles and doors are started from.
struct Inside<'a> {
    config: &'a Config,
    house: &'a House,
    duties: Duties,
    roles: &'a Arc<Roles>,
    behind: &'a Handle,
}

/// The key that signs and checks tokens: made where a process does everything, else the installation's own.
fn keys(config: &Config, house: &House, duties: Duties) -> Result<Keys, Failure> {
    let path = if config.data.key.as_os_str().is_empty() {
        house.dir.token_key()
    } else {
        config.data.key.clone()
    };
    if duties == Duties::ALL {
        return Keys::load_or_create(&path).map_err(|e| Failure::Failed(e.to_string()));
    }
    let missing = "every role of an installation needs its key: copy it there, name it with --key, or make the first one \
                   with `fajma token issue --key FILE --role admin`";
    Keys::load(&path).map_err(|e| Failure::Failed(format!("{e}: {missing}")))
}

/// A new journal is begun, and what there is read as far as the doors go by it.
async fn begin(house: &House, duties: Duties) -> Result<(), Failure> {
    if duties.process {
        processors::runner::activate_missing(&*house.log, &*house.clock, &house.catalogue)
            .await
            .map_err(|e| Failure::because("the journal cannot be begun", e))?;
    }
    let read = house.policy.catch_up().await;
    read.map(drop)
        .map_err(|e| Failure::because("the journal cannot be read", e))
}

/// Who is who, begun from the views as far as these are, and read from the journal from there. A door of its own begins from
/// those that others make; where they do not answer it reads the whole journal, which takes longer.
async fn who_is_who(house: &House, duties: Duties) -> Result<Known, Failure> {
    let everybody = duties.ingest || duties.serve;
    let new = || {
        let new = if everybody { Known::new } else { Known::of_tokens_alone };
        new(&house.log, &house.clock, &house.catalogue)
    };
    let failed = |e| Failure::because("who is who", e);
    if let Some(served) = &house.served {
        let (known, views) = (new(), served.views.store());
        known.begin(&*house.log, Some(&*views)).await.map_err(failed)?;
        return Ok(known);
    }
    if !everybody {
        // Who only processes does not wait for it, and lets nobody in until it has read what was revoked.
        return Ok(new());
    }
    match begun_from_views(house, new()).await {
        Ok(Some(known)) => return Ok(known),
        Ok(None) => {}
        Err(why) => tracing::warn!(%why, "who is who is read from the whole journal: the views are not to be had"),
    }
    let known = new();
    known.begin(&*house.log, None).await.map_err(failed)?;
    Ok(known)
}

/// The same from views that are elsewhere; nothing where there are none.
async fn begun_from_views(house: &House, known: Known) -> Result<Option<Known>, Failure> {
    if house.database.is_none() {
        return Ok(None);
    }
    let views = house.open_views().await?.store();
    let begun = known.begin(&*house.log, Some(&*views)).await;
    begun.map_err(|e| Failure::because("who is who", e))?;
    Ok(Some(known))
}

fn api_state(
    house: &House,
    (keys, admission): (&Arc<Keys>, &Arc<dyn Authenticate>),
    (running, intake, known): (&Arc<Running>, &Arc<Intake>, &Known),
    (board, stop): (Option<Arc<ProgressBoard>>, CancellationToken),
) -> Arc<api::State> {
    let (views, registry) = match &house.served {
        Some(served) => (served.views.store(), Arc::clone(&served.registry)),
        None => {
            let views: Arc<dyn ViewStore> = Arc::new(NoViews);
            let registry = api::Registry::new(
                Arc::clone(&house.log),
                Arc::clone(&views),
                Arc::clone(&house.clock),
                true,
            );
            (views, registry)
        }
    };
    api::State::new(api::Parts {
        log: Arc::clone(&house.log),
        views,
        registry,
        catalogue: Arc::clone(&house.catalogue),
        keys: Arc::clone(keys),
        authenticate: Arc::clone(admission),
        clock: Arc::clone(&house.clock),
        operations: Arc::clone(running) as Arc<dyn api::Operations>,
        doors: Arc::new(known::Doors {
            intake: Arc::clone(intake),
            roster: Arc::clone(&known.roster),
        }),
        board,
        shutdown: stop,
    })
}

impl Server {
    /// Where HTTP is served, as a browser writes it.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.http)
    }

    /// A link that signs a browser in as the administrator, once.
    ///
    /// # Errors
    /// [`Failure::Failed`] where none can be given.
    pub fn login_link(&self) -> Result<String, Failure> {
        let path = self
            .api
            .login_path(admin())
            .map_err(|e| Failure::because("no login link", e))?;
        Ok(format!("{}{path}", self.url()))
    }

    /// A token for this house.
    ///
    /// # Errors
    /// [`Failure::Failed`] where the key does not sign.
    pub fn token(&self, principal: &Principal, lifetime: Duration) -> Result<String, Failure> {
        crate::token::sign(&self.keys, principal, lifetime, self.house.now())
    }

    /// Adds simulated patients, one of whom turns ill, until the house stops.
    ///
    /// # Errors
    /// [`Failure::Failed`] where they get no token.
    pub fn add_demo(&mut self, patients: usize) -> Result<(), Failure> {
        let token = self.token(&admin(), Duration::from_secs(24 * 3600 * 365))?;
        let door = (self.http, self.tls.as_ref().map(|tls| Arc::clone(&tls.own)));
        demo::start(&mut self.demo.0, &self.demo.1, door, token, patients);
        Ok(())
    }

    /// Stops the doors, lets what is under way end, saves everything. `false` where something had to be cut off.
    pub async fn stop(mut self) -> bool {
        let patience = self.drain.0 + Duration::from_secs(5);
        // Simulated patients need the doors to end well.
        self.demo.1.cancel();
        let demo = self.demo.0.ended(patience).await;
        self.doors.1.cancel();
        let doors = self.doors.0.ended(patience).await;
        self.roles.1.cancel();
        let roles = self.roles.0.ended(patience).await;
        demo && doors && roles
    }

    /// Waits until everything is ready, at most so long; what is not, where it is not.
    ///
    /// # Errors
    /// What keeps it from being ready.
    pub async fn ready(&self, patience: Duration) -> Result<(), Vec<String>> {
        use api::Operations;
        let until = tokio::time::Instant::now() + patience;
        loop {
            let unready = self.running.unready();
            if unready.is_empty() {
                return Ok(());
            }
            if tokio::time::Instant::now() >= until {
                return Err(unready);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn admin() -> Principal {
    Principal {
        live: schemas::access::Live::default(),
        subject: "admin".into(),
        role: Role::Admin,
        patients: Vec::new(),
        sensors: Vec::new(),
    }
}

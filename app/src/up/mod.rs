//! `fajma up`: every role in one process.
//!
//! The order of the start: log, key, what processors go by, views, roles, doors last. The order of the stop: doors first,
//! so that nothing new is acknowledged; then the roles, each of which saves what it has.

mod behind;
mod demo;
pub mod notify;
pub mod operations;
pub mod supervisor;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::token::Keys;
use ingest::http::HttpDoors;
use ingest::mqtt::{Entrance, MqttDoor};
use ingest::{Intake, ticker};
use projections::runner::ProgressBoard;
use projections::store::ViewStore;
use schemas::access::{Authenticate, Principal, Role};
use schemas::facts::TickedBy;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Time};
use crate::control;
use crate::failure::Failure;
use crate::house::gate::Gate;
use crate::house::{House, Served};
use crate::tls;
use behind::Behind;
use operations::Running;
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

/// A listener that can be had again after it was lost.
#[derive(Debug, Clone)]
struct Listening {
    address: SocketAddr,
    first: Arc<Mutex<Option<TcpListener>>>,
}

impl Listening {
    async fn open(address: &str, flag: &str) -> Result<Self, Failure> {
        let listener = TcpListener::bind(address).await.map_err(|e| taken(address, flag, &e))?;
        let address = listener.local_addr().map_err(|e| Failure::because(address, e))?;
        let first = Arc::new(Mutex::new(Some(listener)));
        Ok(Self { address, first })
    }

    async fn take(&self) -> Result<TcpListener, String> {
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        match first {
            Some(listener) => Ok(listener),
            None => TcpListener::bind(self.address).await.map_err(|e| e.to_string()),
        }
    }
}

fn taken(address: &str, flag: &str, error: &std::io::Error) -> Failure {
    let what = match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            let port = address.rsplit(':').next().unwrap_or_default();
            format!("{address} is taken: stop who has it (ss -ltnp 'sport = :{port}'), or name another with {flag}")
        }
        std::io::ErrorKind::PermissionDenied => {
            format!("{address}: only root may listen there; name a port above 1023 with {flag}")
        }
        _ => format!("{address} cannot be listened on ({error}): name another with {flag}"),
    };
    Failure::Failed(what)
}

/// Starts everything.
///
/// # Errors
/// [`Failure::Failed`]: one line that says what to do.
pub async fn start(config: &Config) -> Result<Server, Failure> {
    let tls = config.tls.doors()?;
    let http = Listening::open(&config.http.listen, "--listen").await?;
    let mqtt = match config.mqtt.listen.as_str() {
        "" => None,
        address => Some(Listening::open(address, "--mqtt").await?),
    };
    let metrics = operations::recorder();
    let mut house = House::open(config)?;
    let keys = Keys::load_or_create(&house.dir.token_key()).map_err(|e| Failure::Failed(e.to_string()))?;
    let keys = Arc::new(keys);
    processors::runner::activate_missing(&*house.log, &*house.clock, &house.catalogue)
        .await
        .map_err(|e| Failure::because("the journal cannot be begun", e))?;
    house
        .policy
        .catch_up()
        .await
        .map_err(|e| Failure::because("the journal cannot be read", e))?;
    let behind = Behind::start(config.processors.niceness)?;
    // From a thread of theirs: those that merge the views' tables inherit its priority.
    let opening = house.clone();
    let views = behind.handle().spawn_blocking(move || opening.open_views());
    let views = views.await.map_err(|e| Failure::because("the views", e))??;
    let gate = Arc::new(Gate::default());
    house.served = Some(Served { views, gate });

    let roles: Arc<Roles> = Arc::default();
    let mut processing = config.processors.options(Arc::clone(&house.catalogue));
    processing.behind = Some(behind.handle().clone());
    // The data directory is locked: this process has the log to itself.
    processing.alone = true;
    let projecting = config.views.projection(Arc::clone(&house.catalogue));
    let intake = Intake::new(
        Arc::clone(&house.log),
        Arc::clone(&house.clock),
        house.policy.in_force(),
        config.intake.limits(),
    );
    intake
        .recall()
        .await
        .map_err(|e| Failure::because("the journal cannot be read", e))?;
    let running = Arc::new(Running::new(
        &house,
        Arc::clone(&roles),
        processing.board.clone(),
        Arc::clone(&projecting.board),
        Arc::clone(&intake),
        metrics,
    ));
    let board = Arc::clone(&projecting.board);
    let inside = start_roles(
        config,
        &house,
        &roles,
        &running,
        (processing, projecting),
        behind.handle(),
    )?;
    let doors = CancellationToken::new();
    let api = api_state(&house, &keys, &running, (board, doors.clone()));
    let supervised = start_doors(
        config,
        (&house, &keys, &api, intake),
        &roles,
        (&http, mqtt.as_ref(), tls.as_ref()),
        &doors,
    );
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

type RoleOptions = (processors::runner::Options, projections::runner::Options);

/// What runs behind the doors.
fn start_roles(
    config: &Config,
    house: &House,
    roles: &Arc<Roles>,
    running: &Arc<Running>,
    (processing, projecting): RoleOptions,
    behind: &Handle,
) -> Result<(Supervisor, CancellationToken), Failure> {
    let stop = CancellationToken::new();
    let mut supervisor = Supervisor::new(config.supervisor.clone(), Arc::clone(roles));
    let (log, clock, until) = (Arc::clone(&house.log), Arc::clone(&house.clock), stop.clone());
    supervisor.start("process", stop.clone(), move || {
        let (log, clock, options, until) = (
            Arc::clone(&log),
            Arc::clone(&clock),
            processing.clone(),
            until.child_token(),
        );
        async move {
            processors::runner::run(log, clock, options, until)
                .await
                .map_err(|e| e.to_string())
        }
    });
    let (log, clock, until) = (Arc::clone(&house.log), Arc::clone(&house.clock), stop.clone());
    supervisor.start("tick", stop.clone(), move || {
        let (log, clock, until) = (Arc::clone(&log), Arc::clone(&clock), until.clone());
        async move {
            ticker::run(log, clock, TickedBy::Ingest, until).await;
            Ok(())
        }
    });
    let (keeper, until) = (Arc::clone(&house.policy), stop.clone());
    supervisor.start("policy", stop.clone(), move || {
        let (keeper, until) = (Arc::clone(&keeper), until.clone());
        async move { keeper.follow(until).await.map_err(|e| e.to_string()) }
    });
    let (observed, until) = (Arc::clone(running), stop.clone());
    supervisor.start("observe", stop.clone(), move || {
        let (observed, until) = (Arc::clone(&observed), until.clone());
        async move { observed.observe(until).await }
    });
    if let Some(served) = house.served.clone() {
        project(&mut supervisor, house, served, (projecting, behind.clone()), &stop);
    }
    listen_for_commands(&mut supervisor, house, &stop)?;
    Ok((supervisor, stop))
}

fn project(
    supervisor: &mut Supervisor,
    house: &House,
    served: Served,
    (options, behind): (projections::runner::Options, Handle),
    stop: &CancellationToken,
) {
    let (log, until) = (Arc::clone(&house.log), stop.clone());
    supervisor.start("project", stop.clone(), move || {
        let (log, served, options, until) = (Arc::clone(&log), served.clone(), options.clone(), until.clone());
        let behind = behind.clone();
        async move {
            let run = async move {
                let run = |rest| {
                    let store: Arc<dyn ViewStore> = Arc::clone(&served.views) as Arc<dyn ViewStore>;
                    projections::runner::run(Arc::clone(&log), store, options.clone(), rest)
                };
                served.gate.run(&until, run).await.map_err(|e| e.to_string())
            };
            behind.spawn(run).await.map_err(|e| e.to_string())?
        }
    });
}

fn listen_for_commands(supervisor: &mut Supervisor, house: &House, stop: &CancellationToken) -> Result<(), Failure> {
    let path = house.dir.socket();
    let first = control::Door::open(&path).map_err(|e| Failure::because(path.display(), e))?;
    let first = Arc::new(Mutex::new(Some(first)));
    let (house, until) = (house.clone(), stop.clone());
    supervisor.start("commands", stop.clone(), move || {
        let (house, until, path) = (house.clone(), until.clone(), path.clone());
        let first = first.lock().unwrap_or_else(PoisonError::into_inner).take();
        async move {
            let door = match first {
                Some(door) => door,
                None => control::Door::open(&path).map_err(|e| e.to_string())?,
            };
            let answer = move |request| {
                let house = house.clone();
                async move { house.answer(request).await }
            };
            door.serve(answer, until).await.map_err(|e| e.to_string())
        }
    });
    Ok(())
}

fn api_state(
    house: &House,
    keys: &Arc<Keys>,
    running: &Arc<Running>,
    (board, stop): (Arc<ProgressBoard>, CancellationToken),
) -> Arc<api::State> {
    let views: Arc<dyn ViewStore> = match &house.served {
        Some(served) => Arc::clone(&served.views) as Arc<dyn ViewStore>,
        None => unreachable!("a server has views"),
    };
    api::State::new(api::Parts {
        log: Arc::clone(&house.log),
        views,
        catalogue: Arc::clone(&house.catalogue),
        keys: Arc::clone(keys),
        authenticate: Arc::clone(keys) as Arc<dyn Authenticate>,
        clock: Arc::clone(&house.clock),
        operations: Arc::clone(running) as Arc<dyn api::Operations>,
        board: Some(board),
        shutdown: stop,
    })
}

type Within<'a> = (&'a House, &'a Arc<Keys>, &'a Arc<api::State>, Arc<Intake>);

/// What the world sees.
fn start_doors(
    config: &Config,
    (house, keys, api, intake): Within<'_>,
    roles: &Arc<Roles>,
    (http, mqtt, tls): (&Listening, Option<&Listening>, Option<&tls::Doors>),
    stop: &CancellationToken,
) -> Supervisor {
    let mut supervisor = Supervisor::new(config.supervisor.clone(), Arc::clone(roles));
    let doors = HttpDoors {
        intake: Arc::clone(&intake),
        auth: Arc::clone(keys) as Arc<dyn Authenticate>,
        clock: Arc::clone(&house.clock),
        limits: config.http.doors(),
        cluster_id: house.log.layout().incarnation.to_string().into(),
    };
    let app = api::with_common_layers(api::router(Arc::clone(api)).merge(ingest::http::router(doors)));
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
        let (log, tokens) = (Arc::clone(&house.log), Arc::clone(keys) as Arc<dyn Authenticate>);
        let (limits, until) = (config.mqtt.limits(config.shutdown.drain), stop.clone());
        let secured = tls.map(|tls| Arc::clone(&tls.mqtt));
        supervisor.start("mqtt", stop.clone(), move || {
            let tls = secured.clone();
            let (log, tokens, intake) = (Arc::clone(&log), Arc::clone(&tokens), Arc::clone(&intake));
            let (limits, until, mqtt) = (limits.clone(), until.child_token(), mqtt.clone());
            async move {
                let listener = mqtt.take().await?;
                let door = MqttDoor::new(intake, log, tokens, limits, until);
                door.serve(vec![Entrance { listener, tls }]).await;
                Ok(())
            }
        });
    }
    supervisor
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
        subject: "admin".into(),
        role: Role::Admin,
        patients: Vec::new(),
        sensors: Vec::new(),
    }
}

/// Starts everything, says where it is, and stops when asked to.
///
/// # Errors
/// Where it does not start, or not everything could be saved.
pub async fn run(config: Config, demo: usize, json: bool) -> Result<(), Failure> {
    // Before anything starts: whoever asks at once is heard too.
    let mut asked = Asked::listen()?;
    let mut server = start(&config).await?;
    if demo > 0 {
        server.add_demo(demo)?;
    }
    greet(&server, demo, json)?;
    let stop = CancellationToken::new();
    let (running, options) = (Arc::clone(&server.running), config.supervisor.clone());
    let watchdog = tokio::spawn(notify::watchdog(stop.clone(), move || running.stuck(&options)));
    let serving = async {
        if server.ready(Duration::from_secs(60)).await.is_ok() {
            tracing::info!(http = %server.http, "ready");
        }
        notify::ready();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = serving => {}
        () = asked.once() => {}
    }
    notify::stopping();
    tracing::info!("stopping");
    let whole = server.stop().await;
    stop.cancel();
    let _ = watchdog.await;
    if whole {
        tracing::info!("stopped");
        Ok(())
    } else {
        Err(Failure::Failed(
            "not everything ended in time; what was acknowledged is safe".to_owned(),
        ))
    }
}

fn greet(server: &Server, demo: usize, json: bool) -> Result<(), Failure> {
    use std::io::Write;
    let login = server.login_link()?;
    let mut out = std::io::stdout().lock();
    let written = if json {
        let mqtt = server.mqtt.map(|a| a.to_string());
        let line = serde_json::json!({"http": server.http.to_string(), "mqtt": mqtt, "tls": server.tls.is_some(), "login": login});
        writeln!(out, "{line}")
    } else {
        let scheme = if server.tls.is_some() { "mqtts" } else { "mqtt" };
        let mqtt = server
            .mqtt
            .map_or_else(|| "none".to_owned(), |a| format!("{scheme}://{a}"));
        let patients = if demo > 0 {
            format!(", {demo} simulated patients")
        } else {
            String::new()
        };
        writeln!(
            out,
            "FAJMA is up{patients}.\n\n  sign in  {login}\n           (good once, within the hour)\n  http     {}\n  \
             mqtt     {mqtt}\n  data     {}\n",
            server.url(),
            server.house.dir.path().display()
        )
    };
    let _ = written.and_then(|()| out.flush());
    Ok(())
}

/// SIGTERM and SIGINT, heard from the moment this is made.
struct Asked {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Asked {
    fn listen() -> Result<Self, Failure> {
        use tokio::signal::unix::{SignalKind, signal};
        let heard = |kind| signal(kind).map_err(|e| Failure::because("signals", e));
        Ok(Self {
            terminate: heard(SignalKind::terminate())?,
            interrupt: heard(SignalKind::interrupt())?,
        })
    }

    async fn once(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

//! Where a log and views of their own are, and how a role is started on them.

use std::path::PathBuf;
use std::process::Command;

use eventlog::Topic;
use eventlog::kafka::Options;

use crate::Result;
use crate::running::{Running, output};

/// The engines, and the binary that works on them.
#[derive(Debug, Clone)]
pub struct Engines {
    /// The binary `fajma`.
    pub fajma: PathBuf,
    /// A folder for what each process keeps for itself.
    pub folder: PathBuf,
    /// Brokers of Kafka, `host:port,…`.
    pub kafka: String,
    /// Nodes of Cassandra or ScyllaDB, `host:port,…`.
    pub cql: String,
}

/// Topics that begin with a name, and a keyspace of that name.
#[derive(Debug, Clone)]
pub struct Site {
    /// On which engines.
    pub engines: Engines,
    /// The name.
    pub name: String,
}

impl Site {
    fn log(&self) -> String {
        format!("kafka://{}/{}", self.engines.kafka, self.name)
    }

    fn views(&self) -> String {
        format!("scylla://{}/{}", self.engines.cql, self.name)
    }

    /// How its log is reached.
    ///
    /// # Errors
    /// Where the address is none.
    pub fn options(&self) -> Result<Options> {
        Ok(Options::parse(&self.log())?)
    }

    /// The journal's name in Kafka.
    ///
    /// # Errors
    /// As [`options`](Self::options).
    pub fn journal(&self) -> Result<String> {
        Ok(self.options()?.topic(Topic::Journal))
    }

    fn fajma(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.engines.fajma);
        // Variables that begin with FAJMA_ are options of the program; these are for whoever starts it.
        command.env_remove("FAJMA_TEST_KAFKA").env_remove("FAJMA_TEST_CQL");
        command.args(arguments);
        command
    }

    /// Makes its topics.
    ///
    /// # Errors
    /// What the program says.
    pub fn make_topics(&self) -> Result<()> {
        output(&mut self.fajma(&["topics", "apply", "--log", &self.log()])).map(drop)
    }

    /// Makes its tables.
    ///
    /// # Errors
    /// What the program says.
    pub fn make_tables(&self) -> Result<()> {
        output(&mut self.fajma(&["views", "apply", "--views", &self.views()])).map(drop)
    }

    /// The key that all roles share.
    fn key(&self) -> PathBuf {
        self.engines.folder.join("token.key")
    }

    /// An administrator's token; the key is made where there is none.
    ///
    /// # Errors
    /// What the program says.
    pub fn token(&self) -> Result<String> {
        output(
            self.fajma(&["token", "issue", "--role", "admin", "--key"])
                .arg(self.key()),
        )
    }

    /// Starts one of a role, the `n`th.
    ///
    /// # Errors
    /// Where it does not start.
    pub fn start(&self, role: &str, n: usize) -> Result<Running> {
        self.start_with(role, n, &[])
    }

    /// The same with options of its own, as variables.
    ///
    /// # Errors
    /// Where it does not start.
    pub fn start_with(&self, role: &str, n: usize, options: &[(&str, &str)]) -> Result<Running> {
        let data = self.engines.folder.join(format!("{}-{role}-{n}", self.name));
        let mut command = self.fajma(&[role, "--log", &self.log(), "--views", &self.views(), "--key"]);
        command
            .arg(self.key())
            .arg("--data")
            .arg(&data)
            .envs(options.iter().copied());
        if role == "ingest" {
            command.args(["--mqtt", "127.0.0.1:0"]);
        }
        Running::start(&mut command, &data.with_extension("log"))
    }

    /// Starts so many processors at once.
    ///
    /// # Errors
    /// Where one does not start.
    pub fn start_processors(&self, count: usize) -> Result<Vec<Running>> {
        std::thread::scope(|scope| {
            let starting: Vec<_> = (0..count)
                .map(|n| scope.spawn(move || self.start("process", n)))
                .collect();
            let started = starting.into_iter().map(std::thread::ScopedJoinHandle::join);
            started.map(|one| one.map_err(|_| "a thread panicked")?).collect()
        })
    }
}

/// Stops processes, all of them at once.
///
/// # Errors
/// Where one does not stop well.
pub fn stop(running: Vec<Running>) -> Result<()> {
    std::thread::scope(|scope| {
        let stopping: Vec<_> = running.into_iter().map(|one| scope.spawn(|| one.stop())).collect();
        let mut stopped = stopping.into_iter().map(std::thread::ScopedJoinHandle::join);
        stopped.try_for_each(|one| one.map_err(|_| "a thread panicked")?)
    })
}

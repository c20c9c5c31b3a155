//! The home on ScyllaDB or Cassandra, for many processes at once.
//!
//! A row's version is its write timestamp, so the database itself keeps the promises of [`ViewStore`]: writing twice is
//! writing once, in any order, without a read before the write, a lightweight transaction or a counter. Of equal
//! versions a removal wins, as a tombstone does; else the greater value of each cell: where versions may be equal, what
//! a row says is one cell ([`View::apart`]).
//!
//! Nothing here is ScyllaDB's alone: tables, timestamps and statements are those that both understand. What is measured
//! and tested is Apache Cassandra 5.

mod access;
mod cells;
mod cql;
mod migrate;
mod rebuild;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use eventlog::{Partition, Topic};
use futures::{TryStreamExt, stream};
use schemas::avro::Avro;
use scylla::client::PoolSize;
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::errors::{DbError, ExecutionError, PrepareError, RequestAttemptError};
use scylla::response::query_result::QueryResult;
use scylla::statement::Consistency;
use scylla::statement::batch::{Batch, BatchType};
use scylla::statement::prepared::PreparedStatement;

use crate::store::{Change, Progress, Scan, ViewError, ViewStore};
use crate::view::{Cell, Row, View};
use cells::Bind;
use cql::Generation;

pub use access::{Access, Login, Tls};
pub use migrate::{Replication, apply};
pub use rebuild::rebuild;

/// How the store is reached and used.
#[derive(Debug, Clone)]
pub struct Options {
    /// Some of its nodes, `host:port`.
    pub nodes: Vec<String>,
    /// The keyspace.
    pub keyspace: String,
    /// How its nodes know us, and we them.
    pub access: Access,
    /// How long one request may take.
    pub timeout: Duration,
    /// Requests of one [`apply`](ViewStore::apply) under way at once: more make the nodes queue, not faster.
    pub in_flight: usize,
    /// Rows of one partition that are written with one request.
    pub batch_rows: usize,
    /// Connections per node of Cassandra; ScyllaDB gets one per shard.
    pub connections: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            nodes: vec!["127.0.0.1:9042".to_owned()],
            keyspace: "fajma".to_owned(),
            access: Access::default(),
            timeout: Duration::from_secs(10),
            in_flight: 64,
            batch_rows: 50,
            connections: 2,
        }
    }
}

impl Options {
    /// Reads `scylla://host:port,host:port/keyspace`; what is left out stays as it is by default.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(url: &str) -> Result<Self, String> {
        let mut options = Self::default();
        let rest = url
            .strip_prefix("scylla://")
            .or_else(|| url.strip_prefix("cassandra://"))
            .ok_or_else(|| format!("{url}: views are at scylla://host:port,…"))?;
        if rest.contains('@') {
            return Err("views.url names no user: views.user and views.password_file do".to_owned());
        }
        let (nodes, keyspace) = rest.split_once('/').map_or((rest, ""), |(n, k)| (n, k));
        if !keyspace.is_empty() {
            keyspace.clone_into(&mut options.keyspace);
        }
        options.nodes = nodes.split(',').filter(|n| !n.is_empty()).map(str::to_owned).collect();
        if options.nodes.is_empty() {
            return Err(format!("{url} names no host"));
        }
        cql::name(&options.keyspace)?;
        Ok(options)
    }
}

/// The views of an installation.
pub struct ScyllaViews {
    session: Session,
    options: Options,
    generation: Generation,
    writes: HashMap<&'static str, Writes>,
    /// Statements that read, by their text: few, because views and forms of bounds are few.
    reads: Mutex<BTreeMap<String, PreparedStatement>>,
    progress: (PreparedStatement, PreparedStatement),
}

/// How rows of one view are written.
struct Writes {
    put: PreparedStatement,
    remove: PreparedStatement,
}

impl std::fmt::Debug for ScyllaViews {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScyllaViews")
            .field("keyspace", &self.options.keyspace)
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

impl ScyllaViews {
    /// Connects to the views that are in use.
    ///
    /// # Errors
    /// [`ViewError::Unavailable`] where no node answers or the tables are not there yet ([`apply`]),
    /// [`ViewError::Outdated`] where they are those of another version of this program ([`rebuild`]).
    pub async fn open(options: Options) -> Result<Arc<Self>, ViewError> {
        let views: Vec<&'static View> = crate::views::ALL.to_vec();
        let session = connect(&options).await?;
        let current = migrate::current(&session, &options.keyspace).await?;
        if current.declared != crate::views::declared(&views) {
            return Err(ViewError::Outdated);
        }
        Self::with(session, options, current.generation, &views).await
    }

    async fn with(
        session: Session,
        options: Options,
        generation: Generation,
        views: &[&'static View],
    ) -> Result<Arc<Self>, ViewError> {
        let (keyspace, mut writes) = (&options.keyspace, HashMap::new());
        for view in views {
            let put = prepare(&session, &cql::put(keyspace, generation, view)).await?;
            let remove = prepare(&session, &cql::remove(keyspace, generation, view)).await?;
            writes.insert(view.name, Writes { put, remove });
        }
        let progress = (
            prepare(&session, &cql::read_progress(keyspace)).await?,
            prepare(&session, &cql::write_progress(keyspace)).await?,
        );
        Ok(Arc::new(Self {
            session,
            generation,
            writes,
            reads: Mutex::default(),
            progress,
            options,
        }))
    }

    /// Writes rows of one partition of one view, with one request.
    async fn write(&self, changes: &[&Change]) -> Result<(), ViewError> {
        let written = match changes {
            [one] => {
                let (statement, values) = self.statement(one)?;
                self.session.execute_unpaged(statement, &values[..]).await.map(drop)
            }
            many => {
                let mut batch = Batch::new(BatchType::Unlogged);
                batch.set_is_idempotent(true);
                let mut rows = Vec::with_capacity(many.len());
                for change in many {
                    let (statement, values) = self.statement(change)?;
                    batch.append_statement(statement.clone());
                    rows.push(values);
                }
                self.session.batch(&batch, rows).await.map(drop)
            }
        };
        written.map_err(failed)
    }

    /// The statement of a change and its values, in the statement's order.
    fn statement<'a>(&'a self, change: &'a Change) -> Result<(&'a PreparedStatement, Vec<Bind<'a>>), ViewError> {
        let view = change.view;
        let writes = self.writes.get(view.name).ok_or(ViewError::Misfit(view.name))?;
        let version = Bind::Version(change.version);
        let key = change.key.iter().map(Bind::Cell);
        Ok(match &change.cells {
            Some(cells) => {
                // What follows from the key has no older cell that a null must cover.
                let cell = |cell| match cell {
                    &Cell::Null if view.grows => Bind::Unset,
                    cell => Bind::Cell(cell),
                };
                let (apart, one) = cells.split_at(view.apart.min(cells.len()));
                let said = (!one.is_empty()).then_some(Bind::Said(one));
                let values = key.chain(apart.iter().map(cell)).chain(said).chain([version]);
                (&writes.put, values.collect())
            }
            None => (&writes.remove, std::iter::once(version).chain(key).collect()),
        })
    }

    async fn read(&self, text: String, values: &[Bind<'_>]) -> Result<QueryResult, ViewError> {
        let known = self
            .reads
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&text)
            .cloned();
        let statement = match known {
            Some(statement) => statement,
            None => {
                let statement = prepare(&self.session, &text).await?;
                let mut reads = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
                reads.insert(text, statement.clone());
                statement
            }
        };
        self.session.execute_unpaged(&statement, values).await.map_err(failed)
    }
}

/// Changes of the same partition of the same view together, in requests of at most so many rows.
fn together(changes: &[Change], rows: usize) -> Vec<Vec<&Change>> {
    let mut groups: HashMap<(&str, Vec<u8>), Vec<&Change>> = HashMap::new();
    for change in changes {
        let mut partition = Vec::with_capacity(48);
        let cells = &change.key[..change.view.partition.len()];
        // Checked before: cells of a partition fit and are not null.
        let _ = crate::key::write_cells(cells, change.view.partition, &mut partition);
        groups.entry((change.view.name, partition)).or_default().push(change);
    }
    groups
        .into_values()
        .flat_map(|group| group.chunks(rows.max(1)).map(<[_]>::to_vec).collect::<Vec<_>>())
        .collect()
}

/// Whether the cells of a change fit its view.
fn fits(change: &Change) -> bool {
    let view = change.view;
    let keyed = change.key.len() == view.key_len()
        && change
            .key
            .iter()
            .zip(view.key_columns())
            .all(|(cell, column)| key_fits(cell, column));
    let said = change.cells.as_ref().is_none_or(|cells| {
        cells.len() == view.columns.len() && cells.iter().zip(view.columns).all(|(cell, c)| cell.fits(c.kind))
    });
    keyed && said
}

fn key_fits(cell: &Cell, column: &crate::view::Column) -> bool {
    *cell != Cell::Null && cell.fits(column.kind)
}

#[async_trait]
impl ViewStore for ScyllaViews {
    async fn apply(&self, changes: &[Change], progress: Option<&Progress>) -> Result<(), ViewError> {
        if let Some(misfit) = changes.iter().find(|change| !fits(change)) {
            return Err(ViewError::Misfit(misfit.view.name));
        }
        let groups = together(changes, self.options.batch_rows);
        stream::iter(groups.iter().map(Ok))
            .try_for_each_concurrent(self.options.in_flight.max(1), |group| self.write(group))
            .await?;
        let Some(progress) = progress else { return Ok(()) };
        let (mut incarnation, mut origin) = (Vec::new(), Vec::new());
        progress.incarnation.write(&mut incarnation);
        progress.last_origin.write(&mut origin);
        let values = (
            self.generation.number(),
            progress.topic.name(),
            i32::from(progress.partition),
            incarnation,
            progress.next,
            origin,
        );
        let written = self.session.execute_unpaged(&self.progress.1, values).await;
        written.map(drop).map_err(failed)
    }

    async fn progress(&self, topic: Topic, partition: Partition) -> Result<Option<Progress>, ViewError> {
        let values = (self.generation.number(), topic.name(), i32::from(partition));
        let found = self
            .session
            .execute_unpaged(&self.progress.0, values)
            .await
            .map_err(failed)?;
        let corrupt = |e: String| ViewError::Corrupt(format!("progress of {}/{partition}: {e}", topic.name()));
        let rows = found.into_rows_result().map_err(|e| corrupt(e.to_string()))?;
        let row = rows
            .maybe_first_row::<(Vec<u8>, i64, Vec<u8>)>()
            .map_err(|e| corrupt(e.to_string()))?;
        let Some((incarnation, next, origin)) = row else {
            return Ok(None);
        };
        let incarnation = Avro::read(&mut &incarnation[..]).map_err(|e| corrupt(e.to_string()))?;
        let last_origin = Avro::read(&mut &origin[..]).map_err(|e| corrupt(e.to_string()))?;
        Ok(Some(Progress {
            topic,
            partition,
            incarnation,
            next,
            last_origin,
        }))
    }

    async fn get(&self, view: &'static View, key: &[Cell]) -> Result<Option<Row>, ViewError> {
        let whole = key.len() == view.key_len();
        if !whole
            || !key
                .iter()
                .zip(view.key_columns())
                .all(|(cell, column)| key_fits(cell, column))
        {
            return Err(ViewError::Misfit(view.name));
        }
        let values: Vec<Bind<'_>> = key.iter().map(Bind::Cell).collect();
        let text = cql::get(&self.options.keyspace, self.generation, view);
        let rows = cells::rows(view, self.read(text, &values).await?)?;
        Ok(rows.into_iter().next())
    }

    async fn scan(&self, view: &'static View, scan: Scan) -> Result<Vec<Row>, ViewError> {
        let asked =
            cql::scan(&self.options.keyspace, self.generation, view, &scan).ok_or(ViewError::Misfit(view.name))?;
        if scan.limit == 0 {
            return Ok(Vec::new());
        }
        let limit = i32::try_from(scan.limit).unwrap_or(i32::MAX);
        let values: Vec<Bind<'_>> = asked
            .values
            .into_iter()
            .map(Bind::Cell)
            .chain([Bind::Limit(limit)])
            .collect();
        cells::rows(view, self.read(asked.text, &values).await?)
    }
}

async fn connect(options: &Options) -> Result<Session, ViewError> {
    let profile = ExecutionProfile::builder()
        .consistency(Consistency::LocalQuorum)
        .request_timeout(Some(options.timeout))
        .build();
    let connections = std::num::NonZeroUsize::new(options.connections).unwrap_or(std::num::NonZeroUsize::MIN);
    let builder = SessionBuilder::new()
        .known_nodes(&options.nodes)
        .pool_size(PoolSize::PerHost(connections))
        .default_execution_profile_handle(profile.into_handle());
    let builder = options.access.apply(builder)?;
    let connecting = builder.build();
    connecting.await.map_err(|error| {
        let said = error.to_string();
        let advice = options.access.advice(&said);
        ViewError::Unavailable(format!("{said}{advice}"))
    })
}

/// A statement that may be tried again: whatever is written here is written twice as well as once.
async fn prepare(session: &Session, text: &str) -> Result<PreparedStatement, ViewError> {
    let prepared = session.prepare(text).await;
    let mut prepared = prepared.map_err(|e: PrepareError| ViewError::Unavailable(format!("{text}: {e}")))?;
    prepared.set_is_idempotent(true);
    Ok(prepared)
}

fn failed(error: ExecutionError) -> ViewError {
    match &error {
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(
            DbError::SyntaxError | DbError::Invalid,
            said,
        )) => ViewError::Corrupt(format!("the store of views refuses a statement: {said}")),
        _ => ViewError::Unavailable(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_what_it_says_and_the_rest_is_by_default() {
        let plain = Options::parse("scylla://db1:9042").unwrap();
        assert_eq!(
            (&plain.nodes[..], plain.keyspace.as_str()),
            (&["db1:9042".to_owned()][..], "fajma")
        );
        let full = Options::parse("scylla://a:1,b:2/ward_7").unwrap();
        assert_eq!(
            (&full.nodes[..], full.keyspace.as_str()),
            (&["a:1".to_owned(), "b:2".to_owned()][..], "ward_7")
        );
        for bad in [
            "kafka://a",
            "scylla://",
            "scylla:///x",
            "scylla://a/B",
            "scylla://a/drop;",
            "scylla://u:p@a",
        ] {
            assert!(Options::parse(bad).is_err(), "{bad}");
        }
    }
}

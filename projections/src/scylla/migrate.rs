//! Tables: made where they are missing, compared where they are there. Forward only: nothing is altered or dropped here.

use schemas::ids::EventId;
use scylla::client::session::Session;

use super::cql::{self, Generation, SAID, of};
use super::{Options, connect, failed};
use crate::store::ViewError;
use crate::view::{Type, View};
use crate::views;

/// How often each row is kept, where the keyspace is made here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replication {
    /// So many copies in each of these datacentres.
    Datacentres(Vec<(String, u8)>),
    /// So many copies, on a cluster of one datacentre.
    Simple(u8),
}

impl Replication {
    fn text(&self) -> String {
        match self {
            Self::Simple(copies) => format!("{{'class': 'SimpleStrategy', 'replication_factor': {copies}}}"),
            Self::Datacentres(all) => {
                let each: Vec<String> = all
                    .iter()
                    .map(|(name, copies)| format!("'{}': {copies}", name.replace('\'', "''")))
                    .collect();
                format!("{{'class': 'NetworkTopologyStrategy', {}}}", each.join(", "))
            }
        }
    }
}

/// The set of tables in use.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Current {
    pub(super) generation: Generation,
    pub(super) declared: EventId,
}

/// Makes the keyspace and the tables of every view where they are missing, and compares those that are there. Doing it
/// again changes nothing.
///
/// # Errors
/// [`ViewError::Unavailable`]; [`ViewError::Outdated`] where the tables in use are those of another version of this
/// program; [`ViewError::Corrupt`] where a table has other columns than its view: what drifted is named.
pub async fn apply(options: &Options, replication: &Replication) -> Result<(), ViewError> {
    apply_views(options, replication, &views::ALL).await
}

pub(super) async fn apply_views(
    options: &Options,
    replication: &Replication,
    views: &[&'static View],
) -> Result<(), ViewError> {
    let session = connect(options).await?;
    let keyspace = &options.keyspace;
    let made = format!(
        "CREATE KEYSPACE IF NOT EXISTS {keyspace} WITH replication = {}",
        replication.text()
    );
    for text in [made, cql::create_progress(keyspace), cql::create_current(keyspace)] {
        run(&session, &text).await?;
    }
    let declared = views::declared(views);
    let generation = match find(&session, keyspace).await? {
        Some(current) if current.declared == declared => current.generation,
        Some(_) => return Err(ViewError::Outdated),
        None => Generation::FIRST,
    };
    make(&session, keyspace, generation, views).await?;
    switch(&session, keyspace, &Current { generation, declared }).await
}

/// The tables of one set, made where they are missing and compared.
pub(super) async fn make(
    session: &Session,
    keyspace: &str,
    generation: Generation,
    views: &[&'static View],
) -> Result<(), ViewError> {
    for view in views {
        if let Some(text) = cql::create_type(keyspace, generation, view) {
            run(session, &text).await?;
        }
        run(session, &cql::create(keyspace, generation, view)).await?;
    }
    let mut drifted = Vec::new();
    for view in views {
        drifted.extend(drift(session, keyspace, generation, view).await?);
    }
    if drifted.is_empty() {
        Ok(())
    } else {
        Err(ViewError::Corrupt(drifted.join("; ")))
    }
}

/// The set in use.
pub(super) async fn current(session: &Session, keyspace: &str) -> Result<Current, ViewError> {
    let missing = || ViewError::Unavailable(format!("{keyspace} has no views yet: fajma views apply"));
    // Without its table nothing was applied; the database calls that an invalid statement.
    match find(session, keyspace).await {
        Ok(found) => found.ok_or_else(missing),
        Err(ViewError::Corrupt(_)) => Err(missing()),
        Err(error) => Err(error),
    }
}

async fn find(session: &Session, keyspace: &str) -> Result<Option<Current>, ViewError> {
    let text = format!("SELECT generation, declared FROM {keyspace}.current_views WHERE name = 'views'");
    let found = session.query_unpaged(text, ()).await.map_err(failed)?;
    let corrupt = |e: String| ViewError::Corrupt(format!("{keyspace}.current_views: {e}"));
    let rows = found.into_rows_result().map_err(|e| corrupt(e.to_string()))?;
    let row = rows
        .maybe_first_row::<(i32, Vec<u8>)>()
        .map_err(|e| corrupt(e.to_string()))?;
    let read = |(generation, declared): (i32, Vec<u8>)| {
        let declared = declared
            .try_into()
            .map_err(|_| corrupt("declared is no hash".to_owned()))?;
        Ok(Current {
            generation: Generation::of(generation),
            declared: EventId(declared),
        })
    };
    row.map(read).transpose()
}

/// From here on this set is in use.
pub(super) async fn switch(session: &Session, keyspace: &str, to: &Current) -> Result<(), ViewError> {
    let text = format!("INSERT INTO {keyspace}.current_views (name, generation, declared) VALUES ('views', ?, ?)");
    let values = (to.generation.number(), to.declared.0.to_vec());
    session.query_unpaged(text, values).await.map(drop).map_err(failed)
}

pub(super) async fn run(session: &Session, text: &str) -> Result<(), ViewError> {
    session.query_unpaged(text, ()).await.map(drop).map_err(failed)
}

/// In what a table differs from its view.
async fn drift(
    session: &Session,
    keyspace: &str,
    generation: Generation,
    view: &'static View,
) -> Result<Vec<String>, ViewError> {
    let table = generation.table(view);
    let text = "SELECT column_name, type, kind, position FROM system_schema.columns \
                WHERE keyspace_name = ? AND table_name = ?";
    let found = session.query_unpaged(text, (keyspace, &table)).await.map_err(failed)?;
    let corrupt = |e: String| ViewError::Corrupt(format!("the columns of {table}: {e}"));
    let rows = found.into_rows_result().map_err(|e| corrupt(e.to_string()))?;
    let mut there = Vec::new();
    for row in rows
        .rows::<(String, String, String, i32)>()
        .map_err(|e| corrupt(e.to_string()))?
    {
        there.push(row.map_err(|e| corrupt(e.to_string()))?);
    }
    there.extend(fields(session, keyspace, generation, view).await?);
    let wanted = wanted(generation, view);
    let missing = wanted.iter().filter(|column| !there.contains(column));
    let extra = there.iter().filter(|column| !wanted.contains(column));
    let say = |what: &str, column: &Described| format!("{table} {what} {} {} ({})", column.0, column.1, column.2);
    Ok(missing
        .map(|c| say("lacks", c))
        .chain(extra.map(|c| say("has", c)))
        .collect())
}

/// The fields of what a row's columns say as one value.
async fn fields(
    session: &Session,
    keyspace: &str,
    generation: Generation,
    view: &'static View,
) -> Result<Vec<Described>, ViewError> {
    let name = generation.said(view);
    let text = "SELECT field_names, field_types FROM system_schema.types WHERE keyspace_name = ? AND type_name = ?";
    let found = session.query_unpaged(text, (keyspace, &name)).await.map_err(failed)?;
    let corrupt = |e: String| ViewError::Corrupt(format!("the fields of {name}: {e}"));
    let rows = found.into_rows_result().map_err(|e| corrupt(e.to_string()))?;
    let row = rows
        .maybe_first_row::<(Vec<String>, Vec<String>)>()
        .map_err(|e| corrupt(e.to_string()))?;
    let fields = row.into_iter().flat_map(|(names, types)| names.into_iter().zip(types));
    let describe = |(n, (name, kind)): (usize, (String, String))| {
        (name, kind, FIELD.to_owned(), i32::try_from(n).unwrap_or(i32::MAX))
    };
    Ok(fields.enumerate().map(describe).collect())
}

/// What a field is to a table.
const FIELD: &str = "said";

/// A column as the database describes it: name, type, kind, position.
type Described = (String, String, String, i32);

fn wanted(generation: Generation, view: &'static View) -> Vec<Described> {
    let describe = |name: &str, kind: Type, role: &str, position: usize| {
        let position = i32::try_from(position).unwrap_or(i32::MAX);
        (name.to_owned(), of(kind).to_owned(), role.to_owned(), position)
    };
    let mut all = Vec::new();
    for (columns, role) in [(view.partition, "partition_key"), (view.clustering, "clustering")] {
        all.extend(
            columns
                .iter()
                .enumerate()
                .map(|(n, c)| describe(c.name, c.kind, role, n)),
        );
    }
    let (apart, one) = view.split();
    let mut regular: Vec<_> = apart.iter().map(|c| (c.name, of(c.kind).to_owned())).collect();
    if !one.is_empty() {
        regular.push((SAID, format!("frozen<{}>", generation.said(view))));
    }
    all.extend(
        regular
            .into_iter()
            .map(|(name, kind)| (name.to_owned(), kind, "regular".to_owned(), -1)),
    );
    all.extend(one.iter().enumerate().map(|(n, c)| describe(c.name, c.kind, FIELD, n)));
    all
}

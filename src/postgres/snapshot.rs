//! The snapshot: ranges of blocks read by binary `COPY`, each in a transaction of its own under one exported snapshot.
//!
//! Places (`ctid`) mean something only while the table lies in the file it was planned for: each range locks the table
//! against a rewrite and then compares the file's number. It also guards against an empty answer after `TRUNCATE` or
//! `ALTER TABLE`, which are not undone for older snapshots.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures_util::StreamExt as _;
use sqlx::{AssertSqlSafe, PgConnection, Row as _};
use tokio::sync::mpsc;

use super::catalog::{self, Shape};
use super::codec::Kind;
use super::connect::{Server, quote_name};
use super::copy::{ACTION, Framer, Packed, Places, row, statement, written_since};
use super::error::{sql, unreadable};
use super::provision::begin_read;
use crate::event::{Cell, Epoch, Event, Flags, Key, Op, Origin, RelationName, Row, Version};
use crate::log::Batch;
use crate::source::{Copied, Error, RangeId, RangeOutcome, Rows, Snapshot};

/// A batch is handed over at this size: large enough for a sync per batch to be cheap, small enough that a few workers
/// with two batches each stay in a few megabytes.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// Rows that are not read here are handed over at this size: whoever reads them finds them in his cache.
const ROWS_BYTES_MAX: usize = 64 << 10;

/// What a snapshot sees, in 32-bit transaction ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sight {
    /// Transactions before this one are seen, or were rolled back.
    pub xmin: u32,
    /// Transactions from this one on are not seen.
    pub xmax: u32,
    /// Transactions between that were open.
    pub open: Vec<u32>,
}

/// A range to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeTask {
    /// The table that the rows' events carry: the root of a partitioned table.
    pub table: RelationName,
    /// The leaf to read.
    pub leaf: RelationName,
    /// The leaf's OID.
    pub leaf_oid: u32,
    /// The file that it was planned for.
    pub filenode: u32,
    /// First block.
    pub from: u32,
    /// Block after the last; `None` reads to the end.
    pub to: Option<u32>,
    /// Only rows written by this transaction or later ones.
    pub written_since: Option<u32>,
}

/// Ranges under one exported snapshot.
pub struct PgSnapshot {
    server: Server,
    name: String,
    epoch: Epoch,
    tasks: HashMap<RangeId, RangeTask>,
    /// Connections between two ranges; one is made when there is none.
    idle: Mutex<Vec<PgConnection>>,
}

impl PgSnapshot {
    /// A snapshot by the name it was exported under.
    pub fn new(server: Server, name: String, epoch: Epoch, tasks: HashMap<RangeId, RangeTask>) -> Self {
        Self { server, name, epoch, tasks, idle: Mutex::default() }
    }

    /// Whether a range is as it was when so many rows of it were read under a snapshot that saw all transactions before `seen`.
    ///
    /// A version of a row never changes, and never moves while its table lies in the same file. So where this snapshot sees as many
    /// rows as were read, and none that a transaction from `seen` on wrote, it sees the same rows.
    ///
    /// # Errors
    /// When the server cannot be asked, or the snapshot is gone.
    pub async fn unchanged(&self, range: RangeId, seen: u32, rows: u64) -> Result<bool, Error> {
        const ACTION: &str = "see whether a range is as it was";
        let Some(task) = self.tasks.get(&range) else { return Ok(false) };
        let mut connection = self.server.connect().await?;
        begin_read(&mut connection, Some(&self.name)).await?;
        if !in_place(&mut connection, task).await? {
            return Ok(false);
        }
        let places = Places { from: task.from, to: task.to, written_since: None }.condition();
        // Transactions are told apart by 32 bits: of one too long ago nothing is known.
        let since = written_since(seen);
        let statement = format!(
            "select count(*)::int8 as there, count(*) filter (where {since})::int8 as newer, age('{seen}'::xid) >= 0 as known \
             from only {} where {places}",
            quote_name(&task.leaf)
        );
        let row = sqlx::query(AssertSqlSafe(statement)).fetch_one(&mut connection).await.map_err(sql(ACTION))?;
        let number = |column: &str| row.try_get::<i64, _>(column).map_err(sql(ACTION));
        let known: bool = row.try_get("known").map_err(sql(ACTION))?;
        Ok(known && number("newer")? == 0 && u64::try_from(number("there")?) == Ok(rows))
    }

    /// Reads a range on a connection of its own.
    async fn range(&self, range: RangeId, out: &Out) -> Result<RangeOutcome, Error> {
        let Some(task) = self.tasks.get(&range) else { return Ok(RangeOutcome::Moved) };
        let waiting = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut connection = match waiting {
            Some(connection) => connection,
            None => self.server.connect().await?,
        };
        let outcome = self.read(&mut connection, range, task, out).await?;
        // Only after a finished range is the connection outside a transaction; otherwise it is closed with its own.
        if let RangeOutcome::Copied(_) = outcome {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        }
        Ok(outcome)
    }

    async fn read(
        &self,
        connection: &mut PgConnection,
        range: RangeId,
        task: &RangeTask,
        out: &Out,
    ) -> Result<RangeOutcome, Error> {
        // Before the transaction: inside it the catalog would be the one of the snapshot's past, while the copy's names
        // are looked up in the present one.
        let Some(table) = catalog::table(connection, &task.table).await? else { return Ok(RangeOutcome::Moved) };
        match begin_read(connection, Some(&self.name)).await {
            Err(Error::Refused { code, .. }) if snapshot_gone(&code) => return Ok(RangeOutcome::SnapshotGone),
            other => other?,
        }
        if !in_place(connection, task).await? {
            return Ok(RangeOutcome::Moved);
        }
        let places = Places { from: task.from, to: task.to, written_since: task.written_since };
        let statement = statement(&table.shape, &task.leaf, places);
        let copied = match out {
            Out::Events(out) => stream_events(connection, &statement, &table.shape, self.epoch, range, out).await?,
            Out::Rows(out) => stream_rows(connection, &statement, &table.shape, out).await?,
        };
        sqlx::raw_sql("commit").execute(connection).await.map_err(sql(ACTION))?;
        Ok(RangeOutcome::Copied(copied))
    }
}

#[async_trait]
impl Snapshot for PgSnapshot {
    async fn copy(&self, range: RangeId, out: mpsc::Sender<Batch>) -> Result<RangeOutcome, Error> {
        self.range(range, &Out::Events(out)).await
    }

    async fn rows(&self, range: RangeId, out: mpsc::Sender<Box<dyn Rows>>) -> Result<RangeOutcome, Error> {
        self.range(range, &Out::Rows(out)).await
    }
}

/// What becomes of a range's rows.
enum Out {
    Events(mpsc::Sender<Batch>),
    Rows(mpsc::Sender<Box<dyn Rows>>),
}

/// Whether an attempt to take up an exported snapshot failed because it is gone: its name is not known
/// (`invalid_parameter_value`), or its transaction has ended (`object_not_in_prerequisite_state`).
fn snapshot_gone(code: &str) -> bool {
    matches!(code, "22023" | "55000" | "42704")
}

/// Locks the leaf against a rewrite and tells whether it lies where the range was planned, now and by the snapshot.
///
/// What a rewrite put into another file is stamped with the transaction that did it: to a snapshot from before, a file from
/// after is empty (PostgreSQL, "MVCC Caveats"). A range that was planned when the rewrite was over would yield no row.
async fn in_place(connection: &mut PgConnection, task: &RangeTask) -> Result<bool, Error> {
    let lock = format!("lock table only {} in access share mode", quote_name(&task.leaf));
    match sqlx::raw_sql(AssertSqlSafe(lock)).execute(&mut *connection).await.map_err(sql(ACTION)) {
        Err(Error::Refused { code, .. }) if matches!(code.as_str(), "42P01" | "3F000" | "42809") => return Ok(false),
        other => other?,
    };
    // Both functions look into the present catalog; what is selected from it is the snapshot's.
    let row = sqlx::query(
        "select to_regclass($1)::oid::int8 as oid, pg_relation_filenode($2)::int8 as filenode, \
                (select relfilenode::int8 from pg_class where oid = $2) as seen",
    )
    .bind(quote_name(&task.leaf))
    .bind(sqlx::postgres::types::Oid(task.leaf_oid))
    .fetch_one(connection)
    .await
    .map_err(sql(ACTION))?;
    let number = |column: &str| row.try_get::<Option<i64>, _>(column).map_err(sql(ACTION));
    let file = Some(i64::from(task.filenode));
    Ok(number("oid")? == Some(task.leaf_oid.into()) && number("filenode")? == file && number("seen")? == file)
}

/// Runs the copy and hands its rows over as events.
async fn stream_events(
    connection: &mut PgConnection,
    statement: &str,
    shape: &Shape,
    epoch: Epoch,
    range: RangeId,
    out: &mpsc::Sender<Batch>,
) -> Result<Copied, Error> {
    let kinds = kinds(shape);
    let mut framer = Framer::new(shape);
    let mut messages = connection.copy_out_raw(statement).await.map_err(sql(ACTION))?;
    let mut copied = Copied::default();
    let mut batch = Batch { relations: vec![Arc::clone(&shape.relation)], ..Batch::default() };
    let (mut bytes, mut events) = (0, 0);
    while let Some(message) = messages.next().await {
        let message = message.map_err(sql(ACTION))?;
        let fed = framer.feed(&message, |whole| {
            bytes += whole.len();
            copied.add(whole);
            batch.events.push(read_event(shape, epoch, range, row(&kinds, whole)?));
            Ok(())
        });
        fed.map_err(|broken| unreadable(ACTION, broken.to_string()))?;
        if bytes >= BATCH_BYTES_MAX {
            bytes = 0;
            events = events.max(batch.events.len());
            // The next has about as many.
            let next = Batch { events: Vec::with_capacity(events), ..Batch::default() };
            send(out, std::mem::replace(&mut batch, next)).await?;
        }
    }
    framer.finish().map_err(|broken| unreadable(ACTION, broken.to_string()))?;
    // The last batch may be empty, but for the relation that an empty table must still be known by.
    send(out, batch).await?;
    Ok(copied)
}

/// Runs the copy and hands its rows over as they came.
async fn stream_rows(
    connection: &mut PgConnection,
    statement: &str,
    shape: &Shape,
    out: &mpsc::Sender<Box<dyn Rows>>,
) -> Result<Copied, Error> {
    let kinds = kinds(shape);
    let mut framer = Framer::new(shape);
    let mut messages = connection.copy_out_raw(statement).await.map_err(sql(ACTION))?;
    let mut copied = Copied::default();
    let mut rows = Vec::new();
    while let Some(message) = messages.next().await {
        let message = message.map_err(sql(ACTION))?;
        let fed = framer.feed(&message, |whole| {
            copied.add(whole);
            rows.extend_from_slice(whole);
            Ok(())
        });
        fed.map_err(|broken| unreadable(ACTION, broken.to_string()))?;
        if rows.len() >= ROWS_BYTES_MAX {
            let next = Vec::with_capacity(rows.len() + rows.len() / 8);
            send(out, Box::new(Packed::new(shape, &kinds, std::mem::replace(&mut rows, next)))).await?;
        }
    }
    framer.finish().map_err(|broken| unreadable(ACTION, broken.to_string()))?;
    send(out, Box::new(Packed::new(shape, &kinds, rows))).await?;
    Ok(copied)
}

fn kinds(shape: &Shape) -> Arc<[Kind]> {
    shape.types.iter().map(|facts| facts.kind).collect()
}

/// The event of a copied row: the floor of its epoch, beaten by whatever the stream tells.
fn read_event(shape: &Shape, epoch: Epoch, range: RangeId, row: Row) -> Event {
    let part = |index: &usize| row.0.get(*index).and_then(Cell::value).cloned();
    Event {
        relation: shape.hash,
        op: Op::Read,
        key: Key(shape.key.iter().filter_map(part).collect()),
        old_key: None,
        before: None,
        after: Some(row),
        version: Version::floor(epoch),
        transaction: None,
        origin: Origin::Snapshot { range: range.0 },
        flags: Flags::default(),
    }
}

async fn send<T>(out: &mpsc::Sender<T>, batch: T) -> Result<(), Error> {
    let gone = |_| Error::Unreachable { action: ACTION, reason: "the reader of its rows has gone".into() };
    out.send(batch).await.map_err(gone)
}

/// What an exported snapshot sees; `None` when it is gone.
///
/// # Errors
/// When the server cannot be asked.
pub async fn sight(server: &Server, name: &str) -> Result<Option<Sight>, Error> {
    const ACTION: &str = "ask what a snapshot sees";
    let mut connection = server.connect().await?;
    match begin_read(&mut connection, Some(name)).await {
        Err(Error::Refused { code, .. }) if snapshot_gone(&code) => return Ok(None),
        other => other?,
    }
    let text: String = sqlx::query_scalar("select pg_current_snapshot()::text")
        .fetch_one(&mut connection)
        .await
        .map_err(sql(ACTION))?;
    parse_sight(&text).map(Some).ok_or_else(|| unreadable(ACTION, "a snapshot that does not read"))
}

/// Reads `xmin:xmax:xip,xip`, of 64-bit ids, down to 32 bits.
fn parse_sight(text: &str) -> Option<Sight> {
    let mut parts = text.split(':');
    let narrow = |text: &str| text.parse::<u64>().ok().map(|xid| (xid & u64::from(u32::MAX)) as u32);
    let (xmin, xmax, open) = (narrow(parts.next()?)?, narrow(parts.next()?)?, parts.next()?);
    let open = open.split(',').filter(|xid| !xid.is_empty()).map(narrow).collect::<Option<_>>()?;
    Some(Sight { xmin, xmax, open })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshots_text_reads() {
        let sight = Sight { xmin: 10, xmax: 20, open: vec![10, 14] };
        assert_eq!(parse_sight("10:20:10,14"), Some(sight));
        assert_eq!(parse_sight("4294967306:4294967307:"), Some(Sight { xmin: 10, xmax: 11, open: vec![] }));
        assert_eq!(parse_sight("10:20"), None);
    }
}

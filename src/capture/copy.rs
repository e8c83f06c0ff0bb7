//! From the snapshot to the log: passes of ranges, each range marked finished in the batch of its last rows.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::drive::Ended;
use super::epoch::Session;
use super::marks::{self, Done, Range};
use super::plan::{self, LeafNow, Pass};
use super::run::Context;
use super::{Error, Phase, Position, footing};
use crate::event::{Lsn, RelationName};
use crate::log::{Batch, EventLog};
use crate::postgres::catalog;
use crate::postgres::provision::{self, NewSlot};
use crate::postgres::snapshot::{PgSnapshot, RangeTask, Sight, sight};
use crate::source::{Error as SourceError, Fault, RangeId, RangeOutcome, Snapshot};

/// Batches of a range that wait for the log: decoding and appending overlap with one, more would only take memory.
pub(super) const BATCHES_AHEAD_MAX: usize = 1;

/// A range is read again so often after a lost connection before the session is given up, and its snapshot with it.
const ATTEMPTS_MAX: u32 = 5;
/// Wait before the second attempt; it doubles.
const ATTEMPT_WAIT: Duration = Duration::from_millis(200);

/// What the message says by which the stream tells that it has passed the copy's end.
const CAUGHT_UP: &str = "caught up";

/// What the message says whose commit flushes what a snapshot sees.
const FLUSHED: &str = "flushed";

/// The exported snapshot of a pass, with whatever keeps it alive.
struct Exported {
    name: String,
    _holder: Holder,
}

/// Keeps an exported snapshot alive.
enum Holder {
    /// The session that made the slot.
    Slot { _slot: NewSlot },
    /// A transaction of ours.
    Transaction { _connection: crate::postgres::Connection },
}

/// Copies what is not copied yet, waits until the stream has passed that point, says so, and then waits for ever.
pub(super) async fn copy_all(
    context: &Arc<Context>,
    session: &Session,
    new_slot: Option<NewSlot>,
    durable: watch::Receiver<Lsn>,
) -> Result<Ended, Error> {
    let already = context.log.mark(marks::SNAPSHOT_COMPLETE)?.is_some();
    if !already {
        context.tell(|status| status.phase = Phase::Copying);
        if let Some(ended) = passes(context, session, new_slot).await? {
            return Ok(ended);
        }
    }
    context.tell(|status| status.phase = Phase::CatchingUp);
    let position = catch_up(context, durable).await?;
    if !already {
        // Only now has the stream told of everything that the last snapshot saw.
        if let Some(ended) = unsound(context)? {
            return Ok(ended);
        }
        let mut connection = context.server.connect().await?;
        if let Some(reason) = footing::look(context, &mut connection, session).await? {
            return Ok(Ended::Lost(reason));
        }
        finish(context, session, position).await?;
    }
    context.tell(|status| {
        status.phase = Phase::Live;
        status.caught_up = Some(Position::Wal(position));
    });
    tracing::info!(at = %position, "caught up");
    std::future::pending().await
}

/// Tells whether the epoch must be given up because a row cannot be completed from a later snapshot.
fn unsound(context: &Context) -> Result<Option<Ended>, Error> {
    let later = context.log.mark(marks::LATER_SNAPSHOT)?;
    let moved = context.log.mark(marks::MOVED)?;
    Ok(plan::unsound(later.as_deref(), moved.as_deref()).then(|| {
        let reason =
            "the exported snapshot was lost, and a key had changed whose row's large values only it could tell";
        Ended::Lost(reason.to_owned())
    }))
}

/// Runs passes until one of them covers everything; answers why the epoch must be given up, where it must.
async fn passes(
    context: &Arc<Context>,
    session: &Session,
    mut new_slot: Option<NewSlot>,
) -> Result<Option<Ended>, Error> {
    loop {
        let ledger = ledger(&*context.log)?;
        if plan::complete(&ledger) {
            return Ok(None);
        }
        let exported = match new_slot.take() {
            Some(slot) => Exported { name: slot.snapshot.clone(), _holder: Holder::Slot { _slot: slot } },
            None => {
                context.set([(marks::LATER_SNAPSHOT.into(), Some(Vec::new()))]).await?;
                if let Some(ended) = unsound(context)? {
                    return Ok(Some(ended));
                }
                export(context).await?
            }
        };
        let Some(sight) = sight(&context.server, &exported.name).await? else { continue };
        let (leaves, relations) = look(context, session).await?;
        let pass = plan::plan(&ledger, &leaves, context.config.range_bytes);
        let ledger = adopt(context, ledger, &pass, relations).await?;
        if ledger.is_empty() {
            // Partitioned tables without partitions, or tables that are gone: nothing to read.
            return Ok(None);
        }
        let number = plan::next_pass(&ledger);
        tracing::info!(pass = number, ranges = pass.read.len(), "copying");
        run_pass(context, session, ledger, &pass, &exported, &sight, number).await?;
    }
}

/// Exports a snapshot from a transaction of ours.
///
/// It may see commits that did not wait for their flush, and that a crash of the server would undo without a word in the stream. A
/// commit of ours waits, and all before it are flushed with it.
async fn export(context: &Context) -> Result<Exported, Error> {
    let mut connection = context.server.connect().await?;
    let name = provision::export_snapshot(&mut connection).await?;
    provision::emit(&mut context.server.connect().await?, FLUSHED).await?;
    Ok(Exported { name, _holder: Holder::Transaction { _connection: connection } })
}

/// Looks where the tables' rows lie now.
async fn look(context: &Context, session: &Session) -> Result<(Vec<LeafNow>, Vec<catalog::Shape>), Error> {
    let mut connection = context.server.connect().await?;
    let (mut leaves, mut shapes) = (Vec::new(), Vec::new());
    for name in &session.tables {
        // A table dropped since the preflight has no rows; the stream has told of those it had.
        let Some(table) = session.shape(context, name).await? else { continue };
        for leaf in catalog::leaves(&mut connection, table.oid).await? {
            leaves.push(LeafNow {
                table: name.clone(),
                name: leaf.name,
                oid: leaf.oid,
                filenode: leaf.filenode,
                blocks: leaf.blocks,
                bytes: leaf.bytes,
            });
        }
        shapes.push(table.shape);
    }
    Ok((leaves, shapes))
}

/// Writes the pass's changes to the ledger into the log, with the shapes of the tables, and tells of the tables.
async fn adopt(
    context: &Context,
    mut ledger: BTreeMap<RangeId, Range>,
    pass: &Pass,
    shapes: Vec<catalog::Shape>,
) -> Result<BTreeMap<RangeId, Range>, Error> {
    let mut batch = Batch::default();
    for id in &pass.remove {
        ledger.remove(id);
        batch.marks.insert(marks::range(*id), None);
    }
    for (id, range) in &pass.add {
        ledger.insert(*id, range.clone());
        batch.marks.insert(marks::range(*id), Some(range.to_bytes()));
    }
    for shape in shapes {
        let mark = marks::shape(&shape.relation.name);
        if context.log.mark(&mark)?.is_none() {
            batch.marks.insert(mark, Some(shape.hash.0.to_vec()));
        }
        batch.relations.push(shape.relation);
    }
    context.log.append(batch).await?;
    context.tell(|status| {
        status.tables.clear();
        status.paused.clear();
        for range in ledger.values() {
            let table = status.tables.entry(range.table.clone()).or_default();
            table.ranges_total += 1;
            if let Some(done) = range.done {
                table.rows += done.rows;
                table.bytes += done.bytes;
            }
        }
    });
    Ok(ledger)
}

/// What the workers of a pass share.
struct Work {
    context: Arc<Context>,
    snapshot: PgSnapshot,
    ledger: BTreeMap<RangeId, Range>,
    queue: Mutex<VecDeque<RangeId>>,
    number: u32,
    xmin: u32,
}

/// Reads the ranges of a pass with several workers; ranges that could not be read stay for the next.
async fn run_pass(
    context: &Arc<Context>,
    session: &Session,
    ledger: BTreeMap<RangeId, Range>,
    pass: &Pass,
    exported: &Exported,
    sight: &Sight,
    number: u32,
) -> Result<(), Error> {
    let mut tasks = HashMap::new();
    for read in &pass.read {
        let Some(range) = ledger.get(&read.id) else { continue };
        let task = RangeTask {
            table: range.table.clone(),
            leaf: range.leaf.clone(),
            leaf_oid: range.leaf_oid,
            filenode: range.filenode,
            from: range.from,
            to: range.to,
            written_since: read.written_since,
        };
        tasks.insert(read.id, task);
    }
    let work = Arc::new(Work {
        context: Arc::clone(context),
        snapshot: PgSnapshot::new(context.server.clone(), exported.name.clone(), session.epoch, tasks),
        ledger,
        queue: Mutex::new(pass.read.iter().map(|read| read.id).collect()),
        number,
        xmin: sight.xmin,
    });
    let mut workers = JoinSet::new();
    for _ in 0..context.config.workers.min(pass.read.len()) {
        workers.spawn(worker(Arc::clone(&work)));
    }
    while let Some(ended) = workers.join_next().await {
        match ended {
            Ok(outcome) => outcome?,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => {}
        }
    }
    Ok(())
}

/// Reads ranges until there are none, or the snapshot is gone.
async fn worker(work: Arc<Work>) -> Result<(), Error> {
    loop {
        let next = work.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let Some((id, range)) = next.and_then(|id| Some((id, work.ledger.get(&id)?))) else { return Ok(()) };
        match read_range(&work, id, range).await? {
            RangeOutcome::Copied(_) => {}
            RangeOutcome::Moved => {
                tracing::warn!(table = %range.table, range = id.0, "the table was rewritten: it is planned again");
                work.context.tell(|status| {
                    if !status.paused.contains(&range.table) {
                        status.paused.push(range.table.clone());
                    }
                });
            }
            RangeOutcome::SnapshotGone => {
                tracing::warn!("the exported snapshot is gone: the rest is copied under another one");
                work.queue.lock().unwrap_or_else(PoisonError::into_inner).clear();
            }
        }
    }
}

/// Reads one range, again after a lost connection.
async fn read_range(work: &Work, id: RangeId, range: &Range) -> Result<RangeOutcome, Error> {
    let mut wait = ATTEMPT_WAIT;
    for _ in 1..ATTEMPTS_MAX {
        match read_once(work, id, range).await {
            Err(Error::Source(error)) if error.fault() == Fault::Transient => {
                tracing::warn!(%error, range = id.0, "reading a range again");
                tokio::time::sleep(wait).await;
                wait *= 2;
            }
            outcome => return outcome,
        }
    }
    read_once(work, id, range).await
}

/// Reads one range into the log. The newest batch is held back until it is known whether it is the last.
async fn read_once(work: &Work, id: RangeId, range: &Range) -> Result<RangeOutcome, Error> {
    let (out, mut batches) = mpsc::channel::<Batch>(BATCHES_AHEAD_MAX);
    let append = async {
        let mut newest: Option<Batch> = None;
        while let Some(batch) = batches.recv().await {
            if let Some(batch) = newest.replace(batch) {
                count(work, range, &batch, 0);
                work.context.log.append(batch).await?;
            }
        }
        Ok::<_, Error>(newest.unwrap_or_default())
    };
    // An append that fails ends the copy too: with the receiver gone, handing over the next batch fails.
    let (outcome, last) = tokio::join!(work.snapshot.copy(id, out), append);
    let (mut last, outcome) = (last?, outcome?);
    let RangeOutcome::Copied(copied) = outcome else { return Ok(outcome) };
    let before = range.done.map_or((0, 0), |done| (done.rows, done.bytes));
    let done =
        Done { pass: work.number, xmin: work.xmin, rows: before.0 + copied.rows, bytes: before.1 + copied.bytes };
    last.marks.insert(marks::range(id), Some(Range { done: Some(done), ..range.clone() }.to_bytes()));
    count(work, range, &last, copied.bytes);
    work.context.log.append(last).await?;
    work.context.tell(|status| status.tables.entry(range.table.clone()).or_default().ranges_done += 1);
    Ok(outcome)
}

/// Tells of copied rows.
fn count(work: &Work, range: &Range, batch: &Batch, bytes: u64) {
    let rows = batch.events.len() as u64;
    work.context.tell(|status| {
        let table = status.tables.entry(range.table.clone()).or_default();
        table.rows += rows;
        table.bytes += bytes;
    });
}

/// Waits until the stream has passed the source's present end; answers that position.
async fn catch_up(context: &Context, mut durable: watch::Receiver<Lsn>) -> Result<Lsn, Error> {
    let mut connection = context.server.connect().await?;
    let target = provision::emit(&mut connection, CAUGHT_UP).await?;
    drop(connection);
    let gone = |_| SourceError::Unreachable { action: "catch up", reason: "the stream ended".into() };
    durable.wait_for(|position| *position >= target).await.map_err(gone)?;
    Ok(target)
}

/// Records that the snapshot is complete, what it held, and that older rows it did not find may be swept.
async fn finish(context: &Context, session: &Session, position: Lsn) -> Result<(), Error> {
    let mut rows: BTreeMap<RelationName, u64> = session.tables.iter().map(|name| (name.clone(), 0)).collect();
    for range in ledger(&*context.log)?.into_values() {
        *rows.entry(range.table).or_default() += range.done.map_or(0, |done| done.rows);
    }
    let mut batch = Batch::default();
    for (table, rows) in rows {
        batch.marks.insert(marks::copied(&table), Some(rows.to_string().into_bytes()));
    }
    batch.marks.insert(marks::SNAPSHOT_COMPLETE.into(), Some(position.to_string().into_bytes()));
    // The first epoch has nothing older to sweep.
    if session.epoch.0 > 1 {
        batch.marks.insert(marks::sweep(session.epoch), Some(b"requested".to_vec()));
    }
    context.log.append(batch).await?;
    Ok(())
}

/// Reads the ledger of ranges.
fn ledger(log: &dyn EventLog) -> Result<BTreeMap<RangeId, Range>, Error> {
    let mut ledger = BTreeMap::new();
    for (name, value) in log.marks(marks::RANGE)? {
        let unreadable = || Error::Mark { name: name.clone() };
        let id = name.strip_prefix(marks::RANGE).and_then(|id| id.parse().ok()).ok_or_else(unreadable)?;
        ledger.insert(RangeId(id), Range::from_bytes(&value).ok_or_else(unreadable)?);
    }
    Ok(ledger)
}

//! From the scan to the log: segments of every table, each page with the mark of where its segment goes on.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use rand::seq::SliceRandom as _;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::super::drive::Ended;
use super::epoch::Session;
use super::{Context, marks};
use crate::capture::marks::sweep;
use crate::capture::{Error, Phase, Position};
use crate::dynamo::feed::Followed;
use crate::dynamo::pace::Pace;
use crate::dynamo::scan::{DynamoScan, Next, Segment, SegmentTask};
use crate::event::{RelationName, Timestamp};
use crate::log::{Batch, EventLog};
use crate::source::{RangeId, RangeOutcome, Snapshot as _};

/// Pages of a segment that wait for the log: decoding and appending overlap with one, more would only take memory.
const BATCHES_AHEAD_MAX: usize = 1;
/// The service takes no more segments of one table.
const SEGMENTS_MAX: u64 = 1_000_000;

/// Reads what is not read yet, waits until the streams have passed that point, says so, and then waits for ever.
pub(super) async fn copy_all(
    context: &Arc<Context>,
    session: &Session,
    mut followed: watch::Receiver<Followed>,
) -> Result<Ended, Error> {
    // What is written from here on is told by the streams, whenever it is read: a scan may take as long as it wants.
    until(&mut followed, |followed| followed.following).await;
    let already = context.log.mark(marks::SNAPSHOT_COMPLETE)?.is_some();
    if !already {
        context.tell(|status| status.phase = Phase::Copying);
        let ledger = planned(context, session).await?;
        if let Some(ended) = read_all(context, session, ledger).await? {
            return Ok(ended);
        }
    }
    context.tell(|status| status.phase = Phase::CatchingUp);
    let end = context.config.clock.now();
    until(&mut followed, |followed| followed.passed > Some(end)).await;
    if !already {
        finish(context, session, end).await?;
    }
    context.tell(|status| {
        status.phase = Phase::Live;
        status.caught_up = Some(Position::Time(end));
    });
    tracing::info!("caught up");
    std::future::pending().await
}

/// Waits until the streams are as wanted; for ever once the feed has ended, which then says why and ends the session.
async fn until(followed: &mut watch::Receiver<Followed>, wanted: impl FnMut(&Followed) -> bool) {
    if followed.wait_for(wanted).await.is_err() {
        std::future::pending().await
    }
}

/// The ledger of segments: as the log remembers it, or planned now and recorded.
async fn planned(context: &Context, session: &Session) -> Result<BTreeMap<RangeId, Segment>, Error> {
    let mut ledger = ledger(&*context.log)?;
    if ledger.is_empty() {
        let mut batch = Batch::default();
        for table in &session.tables {
            let by_size = (table.bytes / context.config.segment_bytes.max(1)).min(SEGMENTS_MAX);
            let total = u32::try_from(by_size).unwrap_or(u32::MAX).max(context.config.segments_min);
            for number in 0..total {
                let id = RangeId(u32::try_from(ledger.len()).unwrap_or(u32::MAX));
                let name = table.shape.table().into();
                let segment = Segment { table: name, number, total, next: Next::Start, rows: 0, bytes: 0 };
                batch.marks.insert(marks::segment(id), Some(segment.to_bytes()));
                ledger.insert(id, segment);
            }
            batch.relations.push(Arc::clone(&table.shape.relation));
        }
        context.log.append(batch).await?;
    }
    context.tell(|status| {
        status.tables.clear();
        for segment in ledger.values() {
            let table = status.tables.entry(relation(&segment.table)).or_default();
            table.ranges_total += 1;
            table.ranges_done += u32::from(segment.next == Next::Done);
            table.rows += segment.rows;
            table.bytes += segment.bytes;
        }
    });
    Ok(ledger)
}

/// What the workers share.
struct Work {
    context: Arc<Context>,
    scan: DynamoScan,
    pace: Arc<Pace>,
    queue: Mutex<VecDeque<Waiting>>,
}

/// A segment that waits for a worker.
struct Waiting {
    id: RangeId,
    table: RelationName,
    /// Bytes of it that the log has.
    bytes: u64,
}

/// Reads the segments that are not done with several workers; answers why the epoch must be given up, where it must.
async fn read_all(
    context: &Arc<Context>,
    session: &Session,
    ledger: BTreeMap<RangeId, Segment>,
) -> Result<Option<Ended>, Error> {
    let (mut queue, mut tasks) = (Vec::new(), BTreeMap::new());
    for (id, segment) in ledger {
        // A table that is not captured any more.
        let Some(table) = session.tables.iter().find(|table| table.shape.table() == &*segment.table) else { continue };
        if segment.next != Next::Done {
            queue.push(Waiting { id, table: table.shape.relation.name.clone(), bytes: segment.bytes });
            tasks.insert(id, SegmentTask { shape: table.shape.clone(), segment });
        }
    }
    // Segments that lie beside each other may lie on one partition of the table, whose capacity is limited by itself.
    queue.shuffle(&mut rand::rng());
    tracing::info!(segments = queue.len(), "scanning");
    let pace = Arc::clone(&context.pace);
    let workers = context.config.workers.min(queue.len());
    let work = Arc::new(Work {
        context: Arc::clone(context),
        scan: DynamoScan::new(context.server.clone(), session.epoch, tasks, marks::segment, Arc::clone(&pace)),
        pace,
        queue: Mutex::new(queue.into()),
    });
    let mut running = JoinSet::new();
    for _ in 0..workers {
        running.spawn(worker(Arc::clone(&work)));
    }
    while let Some(ended) = running.join_next().await {
        match ended {
            Ok(outcome) => {
                if let Some(ended) = outcome? {
                    return Ok(Some(ended));
                }
            }
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => {}
        }
    }
    Ok(None)
}

/// Reads segments until there are none.
async fn worker(work: Arc<Work>) -> Result<Option<Ended>, Error> {
    loop {
        let next = work.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let Some(segment) = next else { return Ok(None) };
        match read(&work, &segment).await? {
            RangeOutcome::Copied(_) => {
                work.context.tell(|status| status.tables.entry(segment.table).or_default().ranges_done += 1);
            }
            RangeOutcome::Moved | RangeOutcome::SnapshotGone => {
                return Ok(Some(Ended::Lost(format!("table {} went away while it was scanned", segment.table))));
            }
        }
    }
}

/// Reads one segment into the log. Its batches carry their own marks, so each is appended as it comes.
async fn read(work: &Work, Waiting { id, table, bytes }: &Waiting) -> Result<RangeOutcome, Error> {
    let (out, mut batches) = mpsc::channel::<Batch>(BATCHES_AHEAD_MAX);
    let append = async {
        let mut known = *bytes;
        while let Some(batch) = batches.recv().await {
            let rows = batch.events.len() as u64;
            let segment = batch.marks.values().flatten().find_map(|mark| Segment::from_bytes(mark));
            let bytes = segment.map_or(known, |segment| segment.bytes);
            let more = bytes - std::mem::replace(&mut known, bytes);
            work.context.log.append(batch).await?;
            work.context.tell(|status| {
                let table = status.tables.entry(table.clone()).or_default();
                table.rows += rows;
                table.bytes += more;
                status.read_rate = Some(work.pace.rate());
            });
        }
        Ok::<_, Error>(())
    };
    // An append that fails ends the scan too: with the receiver gone, handing over the next batch fails.
    let (outcome, appended) = tokio::join!(work.scan.copy(*id, out), append);
    appended?;
    Ok(outcome?)
}

/// Records that the scan is complete, what it held, and that older items it did not find may be swept.
async fn finish(context: &Context, session: &Session, end: Timestamp) -> Result<(), Error> {
    let mut rows: BTreeMap<RelationName, u64> =
        session.tables.iter().map(|table| (table.shape.relation.name.clone(), 0)).collect();
    for segment in ledger(&*context.log)?.into_values() {
        *rows.entry(relation(&segment.table)).or_default() += segment.rows;
    }
    let mut batch = Batch::default();
    for (table, rows) in rows {
        batch.marks.insert(marks::copied(&table), Some(rows.to_string().into_bytes()));
    }
    batch.marks.insert(marks::SNAPSHOT_COMPLETE.into(), Some(end.0.to_string().into_bytes()));
    // The first epoch has nothing older to sweep.
    if session.epoch.0 > 1 {
        batch.marks.insert(sweep(session.epoch), Some(b"requested".to_vec()));
    }
    context.log.append(batch).await?;
    Ok(())
}

/// Reads the ledger of segments.
fn ledger(log: &dyn EventLog) -> Result<BTreeMap<RangeId, Segment>, Error> {
    let mut ledger = BTreeMap::new();
    for (name, value) in log.marks(marks::SEGMENT)? {
        let unreadable = || Error::Mark { name: name.clone() };
        let id = name.strip_prefix(marks::SEGMENT).and_then(|id| id.parse().ok()).ok_or_else(unreadable)?;
        ledger.insert(RangeId(id), Segment::from_bytes(&value).ok_or_else(unreadable)?);
    }
    Ok(ledger)
}

fn relation(table: &str) -> RelationName {
    RelationName { schema: "".into(), table: table.into() }
}

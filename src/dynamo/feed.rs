//! The change feed of a set of tables: every shard lineage of their streams, merged into deliveries for the log.
//!
//! One task reads each open shard and one describes each stream (`poller`); one more, here, decides with a [`Tracker`] for
//! each stream which shards to open, and packs pages into batches. A batch carries the marks of the shards that its events
//! came from, so that a restart goes on after exactly what the log holds (I2); a shard that ended, and the children that
//! are opened for it, are in this order in the batches too.
//!
//! DynamoDB needs no acknowledgement. The feed keeps them to tell only of what the log holds: [`Followed`].

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::connect::Server;
use super::poller::{Page, Poller, Report, Stopped, Stream, What, describe_for_ever};
use super::shards::{Description, Loss, Progress, Shard, ShardId, Tracker};
use super::table::Shape;
use crate::event::{Epoch, RelationName, Timestamp};
use crate::log::Batch;
use crate::source::{ChangeFeed, Clock, Delivery, Error, Receipt};

/// A batch is full at this size, as in the copy: a sync for each is cheap then, and a page is a megabyte.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// Batches that wait for the log: one being appended, one ready.
const DELIVERIES_AHEAD_MAX: usize = 2;
/// Pages of a megabyte in memory at once, however many shards there are.
const PAGES_MAX: usize = 32;
/// A shard that gave so many pages without records in a row is taken to have been read to its present end. One such page
/// says nothing, and the service tells no lag.
const QUIET_PAGES: usize = 5;
/// When nothing else is to be recorded, the time of the last description is, so often.
const RECORD_DESCRIBED_US: i64 = 60_000_000;

/// Where a feed begins, and how it goes on.
#[derive(Debug, Clone)]
pub struct Start {
    /// The epoch that the events belong to.
    pub epoch: Epoch,
    /// The streams.
    pub streams: Vec<StreamStart>,
    /// Prefix of the shards' marks: followed by table, `/` and shard.
    pub shard_mark: String,
    /// Prefix of the marks that say when a stream was last described: followed by the table; microseconds as text.
    pub described_mark: String,
    /// Wait after a page without records.
    pub poll: Duration,
    /// Wait between two descriptions of a stream when nothing calls for one.
    pub discover: Duration,
    /// The time.
    pub clock: Clock,
}

/// Where the reading of a stream begins.
#[derive(Debug, Clone)]
pub struct StreamStart {
    /// The table's shape.
    pub shape: Shape,
    /// The stream's name, which is that of one stream for ever.
    pub arn: String,
    /// The shards as the log remembers them; none in a new epoch.
    pub shards: BTreeMap<ShardId, Shard>,
    /// When the stream was last described; `None` in a new epoch.
    pub described: Option<Timestamp>,
}

/// How far the streams are in the log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Followed {
    /// Every lineage of every stream is being read, so that nothing written from now on is missed.
    pub following: bool,
    /// Everything written before this time is in the log, as far as the service lets one know: each open shard has told of
    /// a later change, or has had nothing to tell for a while. `None` while that is not known.
    pub passed: Option<Timestamp>,
    /// By table.
    pub streams: BTreeMap<RelationName, StreamProgress>,
}

/// How far one stream is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StreamProgress {
    /// Shards that are being read.
    pub shards_open: u32,
    /// Shards that wait for their parent.
    pub shards_waiting: u32,
    /// When the newest change was written, in whole seconds of the service's clock.
    pub newest: Option<Timestamp>,
}

/// Running tasks that follow the streams.
#[derive(Debug)]
pub struct DynamoFeed {
    deliveries: mpsc::Receiver<Result<Delivery, Error>>,
    acknowledged: watch::Sender<u64>,
    followed: watch::Receiver<Followed>,
    stop: CancellationToken,
    _task: AbortOnDropHandle<()>,
}

impl DynamoFeed {
    /// Starts the tasks; errors come out of [`ChangeFeed::next`].
    pub fn open(server: &Server, start: Start) -> Self {
        let (out, deliveries) = mpsc::channel(DELIVERIES_AHEAD_MAX);
        let acknowledged = watch::Sender::new(0);
        let followed = watch::Sender::new(Followed::default());
        let seen = followed.subscribe();
        let stop = CancellationToken::new();
        let merger = Merger::new(server, start, followed, acknowledged.subscribe());
        let task = tokio::spawn(merger.run(out, stop.clone()));
        Self { deliveries, acknowledged, followed: seen, stop, _task: AbortOnDropHandle::new(task) }
    }

    /// How far the streams are in the log.
    pub fn followed(&self) -> watch::Receiver<Followed> {
        self.followed.clone()
    }
}

#[async_trait]
impl ChangeFeed for DynamoFeed {
    async fn next(&mut self) -> Result<Option<Delivery>, Error> {
        self.deliveries.recv().await.transpose()
    }

    fn acknowledge(&mut self, receipt: Receipt) {
        self.acknowledged.send_replace(receipt.0);
    }

    fn stop(&mut self) {
        self.stop.cancel();
    }
}

/// What is known of an open shard, beside how far it is read.
#[derive(Debug, Default)]
struct Seen {
    /// When the newest change was written.
    newest: Option<Timestamp>,
    /// When the last pages without records were asked for.
    quiet: VecDeque<Timestamp>,
}

impl Seen {
    fn passed(&self) -> Option<Timestamp> {
        let quiet = self.quiet.front().filter(|_| self.quiet.len() == QUIET_PAGES).copied();
        self.newest.max(quiet)
    }
}

/// A stream and its shards.
struct Lineages {
    stream: Arc<Stream>,
    tracker: Tracker,
    seen: BTreeMap<ShardId, Seen>,
    newest: Option<Timestamp>,
    /// The time of description that the log has.
    recorded: Option<Timestamp>,
}

/// The merging task's state.
struct Merger {
    lineages: Vec<Lineages>,
    shard_mark: String,
    described_mark: String,
    clock: Clock,
    reports: mpsc::Receiver<Report>,
    pollers: JoinSet<Result<(), Stopped>>,
    batch: Batch,
    bytes: usize,
    sent: u64,
    acknowledged: watch::Receiver<u64>,
    followed: watch::Sender<Followed>,
    /// What holds once a delivery is in the log.
    promised: VecDeque<(u64, Followed)>,
}

impl Merger {
    fn new(
        server: &Server,
        start: Start,
        followed: watch::Sender<Followed>,
        acknowledged: watch::Receiver<u64>,
    ) -> Self {
        let (out, reports) = mpsc::channel(1);
        let pages = Arc::new(Semaphore::new(PAGES_MAX));
        let lineages = start.streams.into_iter().enumerate().map(|(number, stream)| Lineages {
            tracker: Tracker::new(stream.shards, stream.described),
            seen: BTreeMap::new(),
            newest: None,
            recorded: stream.described,
            stream: Arc::new(Stream {
                number,
                shape: stream.shape,
                arn: stream.arn,
                server: server.clone(),
                epoch: start.epoch,
                clock: start.clock.clone(),
                poll: start.poll,
                discover: start.discover,
                soon: Notify::new(),
                pages: Arc::clone(&pages),
                out: out.clone(),
            }),
        });
        Self {
            lineages: lineages.collect(),
            shard_mark: start.shard_mark,
            described_mark: start.described_mark,
            clock: start.clock,
            reports,
            pollers: JoinSet::new(),
            batch: Batch::default(),
            bytes: 0,
            sent: 0,
            acknowledged,
            followed,
            promised: VecDeque::new(),
        }
    }

    async fn run(mut self, out: mpsc::Sender<Result<Delivery, Error>>, stop: CancellationToken) {
        for lineages in &self.lineages {
            self.pollers.spawn(describe_for_ever(Arc::clone(&lineages.stream)));
        }
        if let Err(error) = self.merge(&out, &stop).await {
            // The receiver may be gone, and then nobody asks.
            let _ = out.send(Err(error)).await;
        }
    }

    async fn merge(
        &mut self,
        out: &mpsc::Sender<Result<Delivery, Error>>,
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        loop {
            // Reports go first while the batch has room, so that batches fill up under load; all branches are cancel-safe.
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                changed = self.acknowledged.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    self.tell();
                }
                Some(ended) = self.pollers.join_next() => {
                    if let Err(error) = ended && error.is_panic() {
                        std::panic::resume_unwind(error.into_panic());
                    }
                }
                Some(report) = self.reports.recv(), if self.bytes < BATCH_BYTES_MAX => {
                    self.take(report)?;
                    self.promise();
                    self.tell();
                }
                permit = out.reserve(), if self.ready() => {
                    let Ok(permit) = permit else { return Ok(()) };
                    self.sent += 1;
                    self.bytes = 0;
                    let batch = std::mem::take(&mut self.batch);
                    permit.send(Ok(Delivery { batch, receipt: Receipt(self.sent) }));
                }
            }
        }
    }

    fn ready(&self) -> bool {
        !self.batch.events.is_empty() || !self.batch.marks.is_empty()
    }

    /// Takes a report in.
    fn take(&mut self, report: Report) -> Result<(), Error> {
        let number = report.stream;
        match report.what {
            What::Described(description) => self.described(number, &description)?,
            What::Page { shard, page } => self.page(number, &shard, page),
            What::NotFound { shard: Some(shard) } => {
                // What a description lists after this decides whether it is lost.
                self.lineages[number].tracker.stopped(&shard);
                self.lineages[number].stream.soon.notify_one();
                return Ok(());
            }
            What::NotFound { shard: None } => {
                let table = self.lineages[number].stream.shape.table();
                return Err(Error::Lost { reason: format!("table {table}: its stream is gone") });
            }
            What::Failed(error) => return Err(error),
        }
        self.open(number)
    }

    fn described(&mut self, number: usize, description: &Description) -> Result<(), Error> {
        let lineages = &mut self.lineages[number];
        let changes = lineages.tracker.describe(description).map_err(|loss| lost(&lineages.stream, &loss))?;
        for id in changes.forgotten {
            self.batch.marks.insert(shard_mark(&self.shard_mark, &lineages.stream, &id), None);
        }
        for id in &changes.found {
            self.record_shard(number, id);
        }
        let lineages = &self.lineages[number];
        let table = lineages.stream.shape.table();
        changes.found.iter().for_each(|id| tracing::info!(table, shard = %id, "found a shard"));
        for id in &changes.ended {
            tracing::warn!(table, shard = %id, "no shard that goes on from it was listed in time: it is taken to be its lineage's last");
        }
        let stale = |recorded: Timestamp| description.asked.0 - recorded.0 >= RECORD_DESCRIBED_US;
        // A shard found later is as old as the description before it at the most: that one has to be in the log first.
        if !changes.found.is_empty() || lineages.recorded.is_none_or(stale) {
            self.record_described(number);
        }
        Ok(())
    }

    fn page(&mut self, number: usize, shard: &ShardId, page: Page) {
        let lineages = &mut self.lineages[number];
        let seen = lineages.seen.entry(shard.clone()).or_default();
        seen.newest = seen.newest.max(page.written);
        lineages.newest = lineages.newest.max(page.written);
        if page.events.is_empty() {
            seen.quiet.push_back(page.asked);
            if seen.quiet.len() > QUIET_PAGES {
                seen.quiet.pop_front();
            }
        } else {
            seen.quiet.clear();
        }
        if let Some(last) = &page.last {
            lineages.tracker.read(shard, last, page.written);
        }
        let mut follow = Vec::new();
        if page.end {
            follow = lineages.tracker.drained(shard, self.clock.now());
            lineages.seen.remove(shard);
            // Its children may not be listed yet.
            lineages.stream.soon.notify_one();
        }
        let moved = page.end || page.last.is_some();
        if !page.events.is_empty() {
            let relation = &lineages.stream.shape.relation;
            if !self.batch.relations.iter().any(|known| Arc::ptr_eq(known, relation)) {
                self.batch.relations.push(Arc::clone(relation));
            }
            self.batch.events.extend(page.events);
            self.bytes += page.bytes;
        }
        if moved {
            self.record_shard(number, shard);
        }
        follow.iter().for_each(|child| self.record_shard(number, child));
    }

    /// Opens shards whose turn has come.
    fn open(&mut self, number: usize) -> Result<(), Error> {
        let lineages = &mut self.lineages[number];
        let ready = lineages.tracker.open(self.clock.now()).map_err(|loss| lost(&lineages.stream, &loss))?;
        for id in ready {
            let Some(shard) = lineages.tracker.shard(&id) else { continue };
            let after = match &shard.progress {
                Progress::After(sequence) => Some(sequence.clone()),
                Progress::Unread | Progress::Drained => None,
            };
            let (stream, needed_from) = (Arc::clone(&lineages.stream), shard.needed_from);
            self.pollers.spawn(Poller { stream, shard: id, after, needed_from }.run());
        }
        if !lineages.tracker.following() {
            lineages.stream.soon.notify_one();
        }
        Ok(())
    }

    fn record_shard(&mut self, number: usize, id: &ShardId) {
        let lineages = &self.lineages[number];
        let value = lineages.tracker.shard(id).map(Shard::to_bytes);
        self.batch.marks.insert(shard_mark(&self.shard_mark, &lineages.stream, id), value);
    }

    fn record_described(&mut self, number: usize) {
        let lineages = &mut self.lineages[number];
        lineages.recorded = lineages.tracker.described();
        let mark = format!("{}{}", self.described_mark, lineages.stream.shape.table());
        let value = lineages.recorded.map(|time| time.0.to_string().into_bytes());
        self.batch.marks.insert(mark, value);
    }

    /// Notes what holds once everything taken so far is in the log.
    fn promise(&mut self) {
        let with = self.sent + u64::from(self.ready());
        if self.promised.back().is_some_and(|(receipt, _)| *receipt == with) {
            self.promised.pop_back();
        }
        self.promised.push_back((with, self.present()));
    }

    /// Tells of what the log holds.
    fn tell(&mut self) {
        let acknowledged = *self.acknowledged.borrow_and_update();
        let mut newest = None;
        while self.promised.front().is_some_and(|(receipt, _)| *receipt <= acknowledged) {
            newest = self.promised.pop_front();
        }
        if let Some((_, present)) = newest {
            self.followed.send_if_modified(|told| std::mem::replace(told, present.clone()) != present);
        }
    }

    fn present(&self) -> Followed {
        let streams = self.lineages.iter().map(|lineages| {
            let unfinished = lineages.tracker.unfinished().count();
            let progress = StreamProgress {
                shards_open: u32::try_from(lineages.seen.len()).unwrap_or(u32::MAX),
                shards_waiting: u32::try_from(unfinished.saturating_sub(lineages.seen.len())).unwrap_or(u32::MAX),
                newest: lineages.newest,
            };
            (lineages.stream.shape.relation.name.clone(), progress)
        });
        Followed {
            following: self.lineages.iter().all(Lineages::following),
            // What is not known of one stream is known of none: `None` is the least.
            passed: self.lineages.iter().map(Lineages::passed).min().flatten(),
            streams: streams.collect(),
        }
    }
}

impl Lineages {
    /// Whether every lineage is being read: each open shard has answered.
    fn following(&self) -> bool {
        let answered = |id: &ShardId| self.seen.contains_key(id) || self.tracker.waits_for_parent(id);
        self.tracker.following() && self.tracker.unfinished().all(answered)
    }

    /// Everything written before this time was read; `None` when that is not known.
    fn passed(&self) -> Option<Timestamp> {
        if self.tracker.awaits_child() {
            return None;
        }
        let shards: Option<Vec<Timestamp>> =
            self.tracker.unfinished().map(|id| self.seen.get(id).and_then(Seen::passed)).collect();
        // A stream that is written has an open shard; until it is found, nothing is known.
        Some(shards?.into_iter().min()?.min(self.tracker.described()?))
    }
}

fn shard_mark(prefix: &str, stream: &Stream, id: &ShardId) -> String {
    format!("{prefix}{}/{id}", stream.shape.table())
}

fn lost(stream: &Stream, loss: &Loss) -> Error {
    Error::Lost { reason: format!("table {}: {loss}", stream.shape.table()) }
}

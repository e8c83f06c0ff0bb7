//! A source in memory: the contract of both source seams in its plainest form.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use rehome::event::{
    Cell, Column, Epoch, Event, Flags, Key, Lsn, Op, Origin, Relation, RelationName, Row, Timestamp, Transaction,
    Value, Version,
};
use rehome::log::Batch;
use rehome::source::{ChangeFeed, Copied, Delivery, Error, RangeId, RangeOutcome, Receipt, Snapshot};
use tokio::sync::{mpsc, watch};

use crate::sources::suite::{Bench, Change, POSITION};

const EPOCH: Epoch = Epoch(1);
/// Rows of a range.
const RANGE_ROWS: i64 = 64;
/// A delivery is handed over at this size.
const DELIVERY_BYTES: usize = 1 << 20;

/// What the store holds.
#[derive(Debug, Default)]
struct Store {
    rows: BTreeMap<i64, String>,
    /// Transactions by commit: the first is number 1.
    committed: Vec<Vec<Change>>,
    /// Commits acknowledged.
    told: u64,
}

/// The store, the rows of its snapshot, and who waits for commits.
#[derive(Debug)]
pub struct MemorySource {
    store: Arc<Mutex<Store>>,
    snapshot: Arc<Mutex<Option<BTreeMap<i64, String>>>>,
    commits: watch::Sender<u64>,
}

impl MemorySource {
    /// An empty one.
    pub fn new() -> Self {
        Self { store: Arc::default(), snapshot: Arc::default(), commits: watch::Sender::new(0) }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no panic")
}

fn relation() -> Arc<Relation> {
    let column =
        |name: &str, type_name: &str, key_part| Column { name: name.into(), type_name: type_name.into(), key_part };
    Arc::new(Relation {
        name: RelationName { schema: "memory".into(), table: "t".into() },
        columns: vec![column("id", "int8", Some(0)), column("value", "text", None)],
    })
}

fn event(op: Op, id: i64, value: Option<&str>, version: Version, origin: Origin) -> Event {
    let row = |value: &str| Row(vec![Cell::Value(Value::Int(id)), Cell::Value(Value::text(value))]);
    Event {
        relation: relation().schema_hash(),
        op,
        key: Key(vec![Value::Int(id)]),
        old_key: None,
        before: None,
        after: value.map(row),
        version,
        transaction: None,
        origin,
        flags: Flags::default(),
    }
}

#[derive(Debug)]
struct MemorySnapshot(Arc<Mutex<Option<BTreeMap<i64, String>>>>, u32);

#[async_trait]
impl Snapshot for MemorySnapshot {
    async fn copy(&self, range: RangeId, out: mpsc::Sender<Batch>) -> Result<RangeOutcome, Error> {
        if range.0 >= self.1 {
            return Ok(RangeOutcome::Moved);
        }
        let first = 1 + i64::from(range.0) * RANGE_ROWS;
        let mut copied = Copied::default();
        let mut batch = Batch { relations: vec![relation()], ..Batch::default() };
        {
            let rows = locked(&self.0);
            let Some(rows) = &*rows else { return Ok(RangeOutcome::SnapshotGone) };
            for (id, value) in rows.range(first..first + RANGE_ROWS) {
                let origin = Origin::Snapshot { range: range.0 };
                batch.events.push(event(Op::Read, *id, Some(value), Version::floor(EPOCH), origin));
                copied.rows += 1;
                copied.bytes += 8 + value.len() as u64;
            }
        }
        // Nobody reads any more: the range is unfinished, and who asked knows.
        let _ = out.send(batch).await;
        Ok(RangeOutcome::Copied(copied))
    }
}

/// Follows the commits behind `commit`, the first `changes` of the next one being handed over already.
#[derive(Debug)]
struct MemoryFeed {
    store: Arc<Mutex<Store>>,
    commits: watch::Receiver<u64>,
    commit: u64,
    changes: usize,
    /// Whether the shape was told.
    described: bool,
    /// Whether it was asked to end.
    stopped: bool,
}

impl MemoryFeed {
    /// The next part of the next commit; `None` while there is none.
    fn deliver(&mut self) -> Option<Delivery> {
        let store = locked(&self.store);
        let transaction = store.committed.get(usize::try_from(self.commit).expect("few"))?;
        let mut batch = Batch::default();
        if !std::mem::replace(&mut self.described, true) {
            batch.relations.push(relation());
        }
        let commit = Lsn(self.commit + 1);
        let mut bytes = 0;
        while self.changes < transaction.len() && bytes < DELIVERY_BYTES {
            let (op, id, value) = match &transaction[self.changes] {
                Change::Insert(id, value) => (Op::Insert, id, Some(&**value)),
                Change::Update(id, value) => (Op::Update, id, Some(&**value)),
                Change::Delete(id) => (Op::Delete, id, None),
            };
            let version = Version::postgres(EPOCH, commit, u32::try_from(self.changes).expect("few"));
            let last = self.changes + 1 == transaction.len();
            let mut event = event(op, *id, value, version, Origin::Stream);
            event.transaction = Some(Transaction { xid: 1, commit, commit_time: Timestamp(0), last });
            batch.events.push(event);
            bytes += value.map_or(0, str::len);
            self.changes += 1;
        }
        if self.changes == transaction.len() {
            (self.commit, self.changes) = (self.commit + 1, 0);
            batch.marks.insert(POSITION.to_owned(), Some(self.commit.to_string().into_bytes()));
        }
        Some(Delivery { batch, receipt: Receipt(self.commit) })
    }
}

#[async_trait]
impl ChangeFeed for MemoryFeed {
    async fn next(&mut self) -> Result<Option<Delivery>, Error> {
        while !self.stopped {
            self.commits.borrow_and_update();
            if let Some(delivery) = self.deliver() {
                return Ok(Some(delivery));
            }
            if self.commits.changed().await.is_err() {
                return Ok(None);
            }
        }
        Ok(None)
    }

    fn acknowledge(&mut self, receipt: Receipt) {
        let mut store = locked(&self.store);
        store.told = store.told.max(receipt.0);
    }

    fn stop(&mut self) {
        self.stopped = true;
    }
}

#[async_trait]
impl Bench for MemorySource {
    async fn begin(&mut self, rows: i64) -> (Arc<dyn Snapshot>, Vec<RangeId>) {
        *self = Self::new();
        let there: BTreeMap<i64, String> = (1..=rows).map(|id| (id, "v".to_owned())).collect();
        locked(&self.store).rows.clone_from(&there);
        *locked(&self.snapshot) = Some(there);
        let ranges = u32::try_from((rows + RANGE_ROWS - 1) / RANGE_ROWS).expect("few");
        (Arc::new(MemorySnapshot(Arc::clone(&self.snapshot), ranges)), (0..ranges).map(RangeId).collect())
    }

    async fn lose_snapshot(&mut self) {
        *locked(&self.snapshot) = None;
    }

    async fn commit(&mut self, changes: &[Change]) {
        let mut store = locked(&self.store);
        for change in changes {
            match change {
                Change::Insert(id, value) | Change::Update(id, value) => drop(store.rows.insert(*id, value.clone())),
                Change::Delete(id) => drop(store.rows.remove(id)),
            }
        }
        store.committed.push(changes.to_vec());
        self.commits.send_replace(store.committed.len() as u64);
    }

    async fn feed(&mut self, from: Option<Vec<u8>>) -> Box<dyn ChangeFeed> {
        let commit = from.map_or(0, |mark| String::from_utf8(mark).expect("text").parse().expect("a number"));
        let (store, commits) = (Arc::clone(&self.store), self.commits.subscribe());
        Box::new(MemoryFeed { store, commits, commit, changes: 0, described: false, stopped: false })
    }

    async fn told(&mut self) -> Receipt {
        Receipt(locked(&self.store).told)
    }
}

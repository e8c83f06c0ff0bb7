//! A log that records what it is given and can be held, to stop a capture at a chosen point.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use rehome::event::{Event, Op, Relation, SchemaHash};
use rehome::log::{Batch, Chunk, Error, EventLog, MemoryLog, Offset, Partition};
use tokio::sync::watch;

/// What is let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// Everything.
    Nothing,
    /// All but batches with rows of a snapshot, after so many of them.
    RowsAfter(usize),
    /// All but batches with changes of the stream.
    Changes,
}

/// What was appended.
#[derive(Debug, Clone)]
pub struct Appended {
    /// Its events.
    pub events: Vec<Event>,
    /// The position it marked.
    pub confirmed: Option<String>,
}

/// The log.
pub struct GateLog {
    inner: MemoryLog,
    hold: watch::Sender<Hold>,
    /// Batches that have come to the gate and wait.
    waiting: watch::Sender<usize>,
    appended: Mutex<Vec<Appended>>,
}

impl GateLog {
    /// An open one.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            inner: MemoryLog::new(1, 1),
            hold: watch::Sender::new(Hold::Nothing),
            waiting: watch::Sender::new(0),
            appended: Mutex::default(),
        })
    }

    /// Holds some batches from now on, or lets them go.
    pub fn hold(&self, hold: Hold) {
        self.hold.send_replace(hold);
    }

    /// Returns when a batch waits.
    pub async fn held(&self) {
        self.waiting.subscribe().wait_for(|count| *count > 0).await.expect("the log lives");
    }

    /// Everything appended.
    pub fn appended(&self) -> Vec<Appended> {
        self.appended.lock().expect("no panic").clone()
    }

    fn copied(&self) -> usize {
        let appended = self.appended.lock().expect("no panic");
        appended.iter().filter(|batch| batch.events.iter().any(|event| event.op == Op::Read)).count()
    }
}

/// Counts a waiting batch, also when the wait is given up.
struct Waiting<'a>(&'a watch::Sender<usize>);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

#[async_trait]
impl EventLog for GateLog {
    fn partitions(&self) -> u16 {
        self.inner.partitions()
    }

    fn generation(&self) -> u64 {
        self.inner.generation()
    }

    async fn append(&self, batch: Batch) -> Result<(), Error> {
        let rows = batch.events.iter().any(|event| event.op == Op::Read);
        let changes = batch.events.iter().any(|event| event.op != Op::Read);
        let mut hold = self.hold.subscribe();
        let open = |hold: &Hold| match hold {
            Hold::Nothing => true,
            Hold::RowsAfter(count) => !rows || self.copied() < *count,
            Hold::Changes => !changes,
        };
        if !open(&hold.borrow_and_update()) {
            self.waiting.send_modify(|count| *count += 1);
            let _waiting = Waiting(&self.waiting);
            hold.wait_for(open).await.expect("the log lives");
        }
        let confirmed = batch.marks.get("pg/confirmed").cloned().flatten();
        let confirmed = confirmed.map(|bytes| String::from_utf8(bytes).expect("text"));
        self.appended.lock().expect("no panic").push(Appended { events: batch.events.clone(), confirmed });
        self.inner.append(batch).await
    }

    async fn read(&self, partition: Partition, from: Offset, bytes_max: usize) -> Result<Chunk, Error> {
        self.inner.read(partition, from, bytes_max).await
    }

    fn end(&self, partition: Partition) -> Offset {
        self.inner.end(partition)
    }

    async fn wait_beyond(&self, partition: Partition, offset: Offset) {
        self.inner.wait_beyond(partition, offset).await;
    }

    fn relation(&self, hash: SchemaHash) -> Option<Arc<Relation>> {
        self.inner.relation(hash)
    }

    fn relations(&self) -> Vec<Arc<Relation>> {
        self.inner.relations()
    }

    fn mark(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        self.inner.mark(name)
    }

    fn marks(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, Error> {
        self.inner.marks(prefix)
    }
}

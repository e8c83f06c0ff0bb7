//! A capture that runs beside a test.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use rehome::capture::dynamo::{Config, run};
use rehome::capture::{CaptureStatus, Error};
use rehome::dynamo::Address;
use rehome::dynamo::preflight::{Absence, TableExpectation};
use rehome::event::{Event, Op, RelationName};
use rehome::log::{EventLog, MemoryLog, Offset, Partition, Record};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::tables::{Rows, Table};

/// Nothing that a test waits for takes so long; a hang is then a failure.
const PATIENCE: Duration = Duration::from_secs(90);

/// A running capture.
pub struct Running {
    /// Its log.
    pub log: Arc<dyn EventLog>,
    /// Its state.
    pub status: watch::Receiver<CaptureStatus>,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), Error>>,
}

/// A log in memory with one partition.
pub fn memory() -> Arc<dyn EventLog> {
    Arc::new(MemoryLog::new(1, 1))
}

/// A table that has to be there.
pub fn needed(name: &str) -> TableExpectation {
    TableExpectation { name: name.into(), absence: Absence::Error }
}

/// Settings for small tables and quick tests.
pub fn config(url: &str, tables: &[&Table]) -> Config {
    let tables = tables.iter().map(|table| needed(&table.name)).collect();
    Config {
        workers: 2,
        segments_min: 3,
        poll: Duration::from_millis(20),
        discover: Duration::from_millis(100),
        ..Config::new(Address::local(url), tables)
    }
}

/// Starts a capture.
pub fn start(config: Config, log: Arc<dyn EventLog>) -> Running {
    let (sender, status) = watch::channel(CaptureStatus::default());
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(run(config, Arc::clone(&log), sender, shutdown.clone()));
    Running { log, status, shutdown, task }
}

/// Waits, but not for ever.
pub async fn patiently<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited too long: {what}"))
}

impl Running {
    /// Waits until the state is as wanted.
    pub async fn until(&mut self, what: &str, wanted: impl FnMut(&CaptureStatus) -> bool) -> CaptureStatus {
        let waited = patiently(what, self.status.wait_for(wanted)).await.map(|status| status.clone());
        match waited {
            Ok(status) => status,
            Err(_) => panic!("the capture ended before {what}: {:?}", (&mut self.task).await),
        }
    }

    /// Waits until it has caught up.
    pub async fn caught_up(&mut self) -> CaptureStatus {
        self.until("caught up", |status| status.caught_up.is_some()).await
    }

    /// Waits until the log says of a table what the table says of itself.
    pub async fn equals(&mut self, table: &Table) {
        let expected = table.rows().await;
        let log = Arc::clone(&self.log);
        let same = async {
            loop {
                let end = log.end(Partition(0));
                if fold(&*log, &table.name).await == expected {
                    return;
                }
                log.wait_beyond(Partition(0), end).await;
            }
        };
        let waited = tokio::select! {
            same = tokio::time::timeout(PATIENCE, same) => same,
            ended = &mut self.task => panic!("the capture ended: {ended:?}"),
        };
        if waited.is_err() {
            let found = fold(&*self.log, &table.name).await;
            let wrong: Vec<_> = expected.iter().filter(|(key, row)| found.get(key) != Some(row)).collect();
            panic!("{} of {} items in the log; wrong or missing: {wrong:?}", found.len(), expected.len());
        }
    }

    /// Ends it as a person would.
    pub async fn stop(self) -> Arc<dyn EventLog> {
        self.shutdown.cancel();
        patiently("stopping", self.task).await.expect("no panic").expect("a clean end");
        self.log
    }

    /// Ends it as a crash would: at whatever it is waiting for.
    pub async fn kill(self) -> Arc<dyn EventLog> {
        self.task.abort();
        let _ = self.task.await;
        self.log
    }

    /// Waits for its end.
    pub async fn ended(self) -> Result<(), Error> {
        patiently("the end", self.task).await.expect("no panic")
    }

    /// Events so far of some kinds.
    pub async fn changes(&self, ops: &[Op]) -> Vec<Event> {
        events(&*self.log).await.into_iter().filter(|event| ops.contains(&event.op)).collect()
    }
}

/// All events of a log, partition by partition.
pub async fn events(log: &dyn EventLog) -> Vec<Event> {
    let mut events = Vec::new();
    for partition in (0..log.partitions()).map(Partition) {
        let mut from = Offset(0);
        loop {
            let chunk = log.read(partition, from, 1 << 20).await.expect("it reads");
            if chunk.records.is_empty() {
                break;
            }
            from = chunk.next;
            events.extend(chunk.records.into_iter().filter_map(|(_, record)| match record {
                Record::Event(event) => Some(event),
                Record::Notice(_) => None,
            }));
        }
    }
    events
}

/// What a log says a table holds: the rules of versions written down once more, as plainly as can be.
pub async fn fold(log: &dyn EventLog, table: &str) -> Rows {
    let name = RelationName { schema: "".into(), table: table.into() };
    let mut events: Vec<Event> = events(log).await;
    let newest = events.iter().map(|event| event.version.epoch).max();
    events.retain(|event| {
        Some(event.version.epoch) == newest && log.relation(event.relation).expect("registered").name == name
    });
    events.sort_by_key(|event| event.version);
    let mut rows = Rows::new();
    for event in events {
        match event.after {
            Some(row) => rows.insert(event.key, row),
            None => rows.remove(&event.key),
        };
    }
    rows
}

/// A mark as text.
pub fn mark(log: &dyn EventLog, name: &str) -> Option<String> {
    log.mark(name).expect("it reads").map(|bytes| String::from_utf8(bytes).expect("text"))
}

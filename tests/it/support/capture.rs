//! A capture that runs beside a test, into a log in memory.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use rehome::capture::{CaptureStatus, Config, Error, run};
use rehome::event::{Event, Lsn, Op, Relation, RelationName, Value};
use rehome::log::{EventLog, MemoryLog, Offset, Partition, Record};
use rehome::postgres::preflight::TableExpectation;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::cluster::Database;

/// Nothing that a test waits for takes so long; a hang is then a failure.
const PATIENCE: Duration = Duration::from_secs(60);

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

/// A table of the schema `public`.
pub fn public(table: &str) -> RelationName {
    RelationName { schema: "public".into(), table: table.into() }
}

/// Settings for small tables and quick tests.
pub fn config(url: &str, tables: &[&str]) -> Config {
    let tables = tables.iter().map(|table| TableExpectation { name: public(table), columns: Vec::new() }).collect();
    Config { heartbeat: Duration::from_millis(50), workers: 2, range_bytes: 64 << 10, ..Config::new(url, tables) }
}

/// Starts a capture.
pub fn start(config: Config, log: Arc<dyn EventLog>) -> Running {
    let (sender, status) = watch::channel(CaptureStatus::default());
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(run(config, Arc::clone(&log), sender, shutdown.clone()));
    Running { log, status, shutdown, task }
}

/// Starts a capture of tables into a new log and waits until it has caught up.
pub async fn live(database: &Database, tables: &[&str]) -> Running {
    let mut running = start(config(&database.url, tables), memory());
    running.caught_up().await;
    running
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

    /// Waits until everything committed by now is in the log.
    pub async fn settled(&mut self, database: &mut Database) {
        database.run("select pg_logical_emit_message(true, 'test', 'settled')").await;
        let position: Lsn =
            database.text("select pg_current_wal_insert_lsn()::text").await.parse().expect("a position");
        self.until("settled", |status| status.durable >= position).await;
    }

    /// Ends it as a person would.
    pub async fn stop(self) -> Result<(), Error> {
        self.shutdown.cancel();
        patiently("stopping", self.task).await.expect("no panic")
    }

    /// Ends it as a crash would: at whatever it is waiting for.
    pub async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    /// Waits for its end.
    pub async fn ended(self) -> Result<(), Error> {
        patiently("the end", self.task).await.expect("no panic")
    }

    /// All events so far.
    pub async fn events(&self) -> Vec<Event> {
        events(&*self.log).await
    }

    /// Events so far of some kinds.
    pub async fn changes(&self, ops: &[Op]) -> Vec<Event> {
        self.events().await.into_iter().filter(|event| ops.contains(&event.op)).collect()
    }

    /// The relation of an event.
    pub fn relation(&self, event: &Event) -> Arc<Relation> {
        self.log.relation(event.relation).expect("registered before its first use")
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

/// The value of a column of the row after an event; `None` when it is missing.
pub fn after(running: &Running, event: &Event, column: &str) -> Option<Value> {
    let relation = running.relation(event);
    let index = relation.columns.iter().position(|found| &*found.name == column).expect("a column");
    event.after.as_ref().expect("a row").0[index].value().cloned()
}

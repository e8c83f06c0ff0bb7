//! A capture that runs beside a test, of whatever source.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use rehome::capture::{CaptureStatus, Error};
use rehome::event::{Event, Op};
use rehome::log::{EventLog, MemoryLog, Offset, Partition, Record};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Nothing that a test waits for takes so long; a hang is then a failure.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// A running capture.
pub struct Running {
    /// Its log.
    pub log: Arc<dyn EventLog>,
    /// Its state.
    pub status: watch::Receiver<CaptureStatus>,
    shutdown: CancellationToken,
    pub(super) task: JoinHandle<Result<(), Error>>,
}

/// A log in memory with one partition.
pub fn memory() -> Arc<dyn EventLog> {
    Arc::new(MemoryLog::new(1, 1))
}

/// Waits, but not for ever.
pub async fn patiently<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited too long: {what}"))
}

impl Running {
    /// Starts what `capture` makes of a log, of where to tell its state, and of what ends it.
    pub fn start<F>(
        log: Arc<dyn EventLog>,
        capture: impl FnOnce(Arc<dyn EventLog>, watch::Sender<CaptureStatus>, CancellationToken) -> F,
    ) -> Self
    where
        F: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let (sender, status) = watch::channel(CaptureStatus::default());
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(capture(Arc::clone(&log), sender, shutdown.clone()));
        Self { log, status, shutdown, task }
    }

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

    /// Ends it as a person would.
    pub async fn stop(self) -> Result<Arc<dyn EventLog>, Error> {
        self.shutdown.cancel();
        patiently("stopping", self.task).await.expect("no panic")?;
        Ok(self.log)
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

    /// All events so far.
    pub async fn events(&self) -> Vec<Event> {
        events(&*self.log).await
    }

    /// Events so far of some kinds.
    pub async fn changes(&self, ops: &[Op]) -> Vec<Event> {
        self.events().await.into_iter().filter(|event| ops.contains(&event.op)).collect()
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
                Record::Notice(_) | Record::Erased(_) => None,
            }));
        }
    }
    events
}

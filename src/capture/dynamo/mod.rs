//! Capture of DynamoDB tables: every shard lineage of their streams, and then, beside that, a scan.
//!
//! Read in this order: [`start`] decides between going on and a new epoch (pure), [`marks`] name what the log remembers,
//! `epoch` opens a session, `copy` scans; [`run()`] puts them beside each other.
//!
//! Order of an epoch: preflight, the streams' ARNs pinned, every lineage followed into the log from its oldest record, and
//! only then the scan. So it does not matter that a stream is kept for 24 hours and the scan takes thirty. All tables share
//! an epoch: a loss on one is a new epoch, a new scan and a sweep for all, because a sweep looks at epochs and not at
//! tables.

mod copy;
mod epoch;
pub mod marks;
pub mod start;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::epoch::Session;
use super::drive::{Drive, Ended, Sessions};
use super::{CaptureStatus, Error, Phase, skipped};
use crate::dynamo::feed::Followed;
use crate::dynamo::pace::Pace;
use crate::dynamo::preflight::TableExpectation;
use crate::dynamo::table::describe;
use crate::dynamo::{Address, Server};
use crate::log::EventLog;
use crate::source::Clock;

/// What to capture, and how.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the tables are.
    pub address: Address,
    /// The tables.
    pub tables: Vec<TableExpectation>,
    /// Segments scanned at the same time.
    pub workers: usize,
    /// About how much of a table one segment holds.
    pub segment_bytes: u64,
    /// Segments of a table at least: its size as described is up to six hours old, and zero for a new one.
    pub segments_min: u32,
    /// Read units a second that the scan may consume; `None` lets it read until the table throttles.
    pub read_capacity: Option<u32>,
    /// Whether tables of the same names in another account or region are the right ones, as a person says.
    pub accept_source: bool,
    /// Wait after a page of a shard without records.
    pub poll: Duration,
    /// Wait between two descriptions of a stream when nothing calls for one.
    pub discover: Duration,
    /// The time.
    pub clock: Clock,
}

impl Config {
    /// The usual settings for tables at an address.
    pub fn new(address: Address, tables: Vec<TableExpectation>) -> Self {
        Self {
            address,
            tables,
            workers: 4,
            segment_bytes: 1 << 30,
            segments_min: 4,
            read_capacity: None,
            accept_source: false,
            // Each call is paid for, of each shard: a table may have hundreds.
            poll: Duration::from_secs(1),
            discover: Duration::from_secs(10),
            clock: Clock::system(),
        }
    }

    /// Refuses settings that cannot work.
    fn check(&self) -> Result<(), Error> {
        let wrong = |setting, value: String, fix| Err(Error::Setting { setting, value, fix });
        if self.workers == 0 || self.workers > 64 {
            return wrong("workers", self.workers.to_string(), "from 1 to 64");
        }
        if self.segments_min == 0 || self.segments_min > 1_000_000 {
            return wrong("segments", self.segments_min.to_string(), "from 1 to 1000000");
        }
        if self.read_capacity == Some(0) {
            return wrong("read capacity", "0".into(), "1 read unit a second or more, or none for no cap");
        }
        if self.tables.is_empty() {
            return wrong("tables", "empty".into(), "at least one table");
        }
        Ok(())
    }
}

/// What all parts of a capture share.
struct Context {
    config: Config,
    server: Server,
    log: Arc<dyn EventLog>,
    pace: Arc<Pace>,
    status: watch::Sender<CaptureStatus>,
    shutdown: CancellationToken,
}

impl Context {
    /// What drives it.
    fn drive(&self) -> Drive<'_> {
        Drive { log: &*self.log, status: &self.status, shutdown: &self.shutdown, lost: marks::LOST }
    }

    /// Changes the published status.
    fn tell(&self, change: impl FnOnce(&mut CaptureStatus)) {
        self.status.send_modify(change);
    }
}

/// Captures until `shutdown` is cancelled: opens an epoch where the log has none, goes on where it has one.
///
/// After a lost connection it tries again by itself, for ever, once it was connected a first time; before that, and on
/// everything that waiting will not mend, it returns the error.
///
/// # Errors
/// [`Error::NotReady`] with all that the tables lack, [`Error::Setting`], an error of the log, or a fatal one of the source.
pub async fn run(
    config: Config,
    log: Arc<dyn EventLog>,
    status: watch::Sender<CaptureStatus>,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    config.check()?;
    let server = Server::new(&config.address).await?;
    let pace = Arc::new(Pace::new(config.read_capacity));
    let context = Arc::new(Context { config, server, log, pace, status, shutdown });
    context.drive().run(&context).await
}

#[async_trait]
impl Sessions for Arc<Context> {
    async fn session(&self, connected: &mut bool) -> Result<Ended, Error> {
        session(self, connected).await
    }
}

/// One session: from looking the tables over to the first error, loss or shutdown.
async fn session(context: &Arc<Context>, connected: &mut bool) -> Result<Ended, Error> {
    context.tell(|status| status.phase = Phase::Starting);
    let session = tokio::select! {
        () = context.shutdown.cancelled() => return Ok(Ended::Shutdown),
        session = Session::open(context) => session?,
    };
    *connected = true;
    context.tell(|status| status.error = None);
    let mut feed = session.feed(context)?;
    let followed = feed.followed();
    // Each part ends only by an error or a loss, and then the others are dropped: an append that was cut off so either
    // happened or did not, and the next session reads the marks. The stream ends the session on a shutdown, too.
    let drive = context.drive();
    tokio::select! {
        ended = drive.follow(&mut feed, |_, _, _| {}) => ended,
        ended = copy::copy_all(context, &session, followed.clone()) => ended,
        ended = watch_over(context, &session, followed) => ended,
    }
}

/// Tells how far the streams are, and looks for tables that are skipped.
async fn watch_over(
    context: &Context,
    session: &Session,
    mut followed: watch::Receiver<Followed>,
) -> Result<Ended, Error> {
    let mut ticks = tokio::time::interval(context.config.discover);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        // Both are cancel-safe.
        tokio::select! {
            changed = followed.changed() => match changed {
                Ok(()) => {
                    let streams = followed.borrow_and_update().streams.clone();
                    context.tell(|status| status.streams = streams);
                }
                // The feed has ended, and says why.
                Err(_) => std::future::pending().await,
            },
            _ = ticks.tick(), if !session.skipped.is_empty() => {
                let mut there = Vec::new();
                for table in &session.skipped {
                    if describe(&context.server, &table.table).await?.is_some() {
                        there.push(table.clone());
                    }
                }
                skipped::appeared(&context.status, &there);
            }
        }
    }
}

//! Drives a capture: sessions with the source, one after another, each from where the log ends.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::drive::{Drive, Ended, Sessions};
use super::epoch::{Opened, Session};
use super::load::Dump;
use super::{CaptureStatus, Error, Phase, copy, load, marks, stream};
use crate::log::{Batch, EventLog};
use crate::postgres::Server;
use crate::postgres::preflight::TableExpectation;

/// Longest prefix: the server's names have 63 bytes, and epoch and nonce want 22.
pub const PREFIX_LENGTH_MAX: usize = 40;

/// What to capture, and how.
#[derive(Debug, Clone)]
pub struct Config {
    /// Address of the source database; it may hold a password.
    pub url: String,
    /// The tables.
    pub tables: Vec<TableExpectation>,
    /// Files that stand for further tables.
    pub files: Vec<Dump>,
    /// What names of slot and publication begin with: a lower-case letter, then letters, digits and `_`.
    pub prefix: String,
    /// Ranges copied at the same time, each on a connection of its own.
    pub workers: usize,
    /// About how much of a table one range holds: a killed copy reads at most so much again for each worker.
    pub range_bytes: u64,
    /// Gives the slot up, and opens a new epoch, when it makes the server keep so many bytes of WAL.
    pub abandon_slot_at: Option<u64>,
    /// How often a message is written to the source's WAL, and the slot looked at.
    pub heartbeat: Duration,
}

impl Config {
    /// The usual settings for a database and its tables.
    pub fn new(url: impl Into<String>, tables: Vec<TableExpectation>) -> Self {
        Self {
            url: url.into(),
            tables,
            files: Vec::new(),
            prefix: "rehome".into(),
            workers: 4,
            range_bytes: 64 << 20,
            abandon_slot_at: None,
            heartbeat: Duration::from_secs(10),
        }
    }

    /// Refuses settings that cannot work.
    fn check(&self) -> Result<(), Error> {
        let wrong = |setting, value: String, fix| Err(Error::Setting { setting, value, fix });
        let first = self.prefix.starts_with(|first: char| first.is_ascii_lowercase());
        let rest = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if !first || !self.prefix.bytes().all(rest) || self.prefix.len() > PREFIX_LENGTH_MAX {
            let fix = "a lower-case letter, then up to 39 lower-case letters, digits and _";
            return wrong("prefix", self.prefix.clone(), fix);
        }
        if self.workers == 0 || self.workers > 64 {
            return wrong("workers", self.workers.to_string(), "from 1 to 64");
        }
        if self.tables.is_empty() {
            return wrong("tables", "empty".into(), "at least one table");
        }
        if self.heartbeat < Duration::from_millis(10) {
            return wrong("heartbeat", format!("{:?}", self.heartbeat), "10 ms or more");
        }
        Ok(())
    }
}

/// What all parts of a capture share.
pub(super) struct Context {
    pub(super) config: Config,
    pub(super) server: Server,
    pub(super) log: Arc<dyn EventLog>,
    pub(super) status: watch::Sender<CaptureStatus>,
    pub(super) shutdown: CancellationToken,
}

impl Context {
    /// What drives it.
    pub(super) fn drive(&self) -> Drive<'_> {
        Drive { log: &*self.log, status: &self.status, shutdown: &self.shutdown, lost: marks::LOST }
    }

    /// Changes the published status.
    pub(super) fn tell(&self, change: impl FnOnce(&mut CaptureStatus)) {
        self.status.send_modify(change);
    }

    /// Changes marks and nothing else.
    pub(super) async fn set<const N: usize>(&self, marks: [(String, Option<Vec<u8>>); N]) -> Result<(), Error> {
        self.log.append(Batch { marks: marks.into_iter().collect(), ..Batch::default() }).await?;
        Ok(())
    }
}

/// Captures until `shutdown` is cancelled: opens an epoch where the log has none, goes on where it has one.
///
/// After a lost connection it tries again by itself, for ever, once it was connected a first time; before that, and on
/// everything that waiting will not mend, it returns the error.
///
/// # Errors
/// [`Error::NotReady`] with all that the source lacks, [`Error::Setting`], an error of the log, or a fatal one of the
/// source.
pub async fn run(
    config: Config,
    log: Arc<dyn EventLog>,
    status: watch::Sender<CaptureStatus>,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    config.check()?;
    let server = Server::parse(&config.url)?;
    let context = Arc::new(Context { config, server, log, status, shutdown });
    context.drive().run(&context).await
}

#[async_trait]
impl Sessions for Arc<Context> {
    async fn session(&self, connected: &mut bool) -> Result<Ended, Error> {
        session(self, connected).await
    }
}

/// One session: from connecting to the first error, loss or shutdown.
async fn session(context: &Arc<Context>, connected: &mut bool) -> Result<Ended, Error> {
    context.tell(|status| status.phase = Phase::Starting);
    let opened = tokio::select! {
        () = context.shutdown.cancelled() => return Ok(Ended::Shutdown),
        opened = Session::open(context) => opened?,
    };
    *connected = true;
    let Opened { session, new_slot } = opened;
    for file in &context.config.files {
        load::file::bring(&*context.log, session.epoch, file).await?;
    }
    context.tell(|status| status.error = None);
    let durable = watch::Sender::new(session.from);
    // Each part ends only by an error or a loss, and then the others are dropped: an append that was cut off so either
    // happened or did not, and the next session reads the marks.
    // The stream ends the session on a shutdown, too.
    tokio::select! {
        ended = stream::follow(context, &session, &durable) => ended,
        ended = copy::copy_all(context, &session, new_slot, durable.subscribe()) => ended,
        ended = super::watch::over(context, &session) => ended,
    }
}

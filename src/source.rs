//! The source seams: a snapshot read in ranges, and a change feed followed for ever.
//!
//! Both hand over [`Batch`]es that are ready for the log: events together with the marks that say how far they reach. So
//! the capture that drives them (`capture/`) appends and acknowledges, and knows nothing of LSNs or shards (I2).

mod rows;

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::event::Timestamp;
use crate::log::Batch;

pub use rows::Rows;

/// What a feed hands over: a batch for the log, and what to acknowledge once the log has it.
#[derive(Debug)]
pub struct Delivery {
    /// Events and marks, to be appended as they are.
    pub batch: Batch,
    /// Opaque to all but the feed that made it; receipts of one feed grow.
    pub receipt: Receipt,
}

/// Names everything that a feed handed over up to and with one delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Receipt(pub u64);

/// Number of a range in the ledger of ranges of an epoch's snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RangeId(pub u32);

/// What a finished range held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Copied {
    /// Rows handed over.
    pub rows: u64,
    /// Bytes of those rows as the source sent them.
    pub bytes: u64,
}

impl Copied {
    /// Counts a row by its bytes.
    pub fn add(&mut self, row: &[u8]) {
        self.rows += 1;
        self.bytes += row.len() as u64;
    }
}

/// How reading a range ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RangeOutcome {
    /// All of it was handed over.
    Copied(Copied),
    /// The snapshot that the range was to be read under is gone: the rest needs a new one.
    SnapshotGone,
    /// The table was rewritten or dropped since the range was planned: its places mean nothing any more.
    Moved,
}

/// A table source that can be read range by range.
///
/// **Order.** The batches of one range arrive in order; ranges are independent and may be read at the same time.
/// **Completeness.** A range is finished only when the call answers [`RangeOutcome::Copied`]. The caller appends the
/// batches in order and holds the newest back until then, to append it with the mark that says so: the mark is durable
/// only with every row before it (I2).
/// **Duplicates.** A range read again hands over its rows again, with versions that do not regress a row (I3).
/// **Cancellation.** A dropped call leaves a range unfinished, nothing else; dropping the receiver ends the call.
/// **Retry.** On an unreachable source the caller reads the range again from its start.
#[async_trait]
pub trait Snapshot: Send + Sync {
    /// Reads one range and hands its batches to `out`.
    async fn copy(&self, range: RangeId, out: mpsc::Sender<Batch>) -> Result<RangeOutcome, Error>;

    /// As [`copy`](Self::copy), for those who need rows and no events. They come packed, and are read where they are taken.
    async fn rows(&self, range: RangeId, out: mpsc::Sender<Box<dyn Rows>>) -> Result<RangeOutcome, Error> {
        let (events, batches) = mpsc::channel(1);
        let (outcome, ()) = tokio::join!(self.copy(range, events), rows::of_events(batches, out));
        outcome
    }
}

/// A stream of changes from a position that the caller's log knows.
///
/// **Order.** Deliveries come in the order of the source's commits; the changes of a transaction are never interleaved
/// with another's. A large transaction is split over deliveries, and only the last of them moves the position mark.
/// DynamoDB tells no transactions, and has an order only among the changes of one item: these come in it.
/// **Duplicates.** After a reconnect everything after the last durable position comes again, with the same versions.
/// **Durability.** The source is told of a position only after `acknowledge`, which the caller calls only after the append
/// of that delivery returned (I2). The feed keeps the source waiting meanwhile, and replies to its keepalives by itself.
/// **Memory.** At most a few batches are held ahead of the caller; then the source is not read.
/// **Cancellation.** `next` is cancel-safe.
/// **Retry.** After an error the feed is spent: open another one from the log's position.
#[async_trait]
pub trait ChangeFeed: Send {
    /// The next delivery; `None` when the feed was asked to stop and has.
    async fn next(&mut self) -> Result<Option<Delivery>, Error>;

    /// Says that the log durably holds everything up to and with this receipt's delivery.
    fn acknowledge(&mut self, receipt: Receipt);

    /// Asks the feed to end: `next` answers `None` once its session is closed.
    fn stop(&mut self);
}

/// Tells the time. Rows are never ordered by it; a source that keeps its stream for a number of hours is watched with it.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self::of(|| {
            let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            let us = i128::try_from(since.as_micros()).unwrap_or(0);
            Timestamp::from_unix_us(us).unwrap_or(Timestamp(0))
        })
    }

    /// A clock that tells what the function says.
    pub fn of(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The present time.
    pub fn now(&self) -> Timestamp {
        (self.0)()
    }
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock")
    }
}

/// Whether a finding keeps the capture from starting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It starts, but something will not be captured, or is near a limit.
    Warning,
    /// It does not start.
    Error,
}

/// What it means that a table does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absence {
    /// The capture does not start.
    Error,
    /// It is told, and the capture goes on without the table.
    Skipped,
}

/// Something that a source lacks, or that a person should know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was found.
    pub what: String,
    /// Where: a setting, a role, a table.
    pub place: String,
    /// What to do about it.
    pub fix: String,
    /// Whether it keeps the capture from starting.
    pub severity: Severity,
}

/// Errors of a source; never with row contents (I12).
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The address does not read as one.
    #[error("the source's address is not usable: {reason}")]
    Address {
        /// What is wrong with it, without the address itself, which may hold a password.
        reason: String,
    },
    /// The source could not be reached, or went away; trying again may help.
    #[error("cannot reach the source while trying to {action}: {reason}")]
    Unreachable {
        /// What was attempted, as a verb phrase.
        action: &'static str,
        /// The driver's reason.
        reason: String,
    },
    /// The server refused.
    #[error("the source refused to {action}: {code} {message}")]
    Refused {
        /// What was attempted, as a verb phrase.
        action: &'static str,
        /// The server's code: an SQLSTATE for Postgres, the name of an exception for DynamoDB.
        code: String,
        /// The server's message, without its DETAIL and CONTEXT, which hold row contents.
        message: String,
    },
    /// The source asks for fewer requests; trying again later helps.
    #[error("the source throttled an attempt to {action}: {code}")]
    Throttled {
        /// What was attempted, as a verb phrase.
        action: &'static str,
        /// The server's code.
        code: String,
    },
    /// What the source sent does not read back.
    #[error("the source sent something unreadable while trying to {action}: {detail}")]
    Unreadable {
        /// What was attempted, as a verb phrase.
        action: &'static str,
        /// What was wrong, without row contents.
        detail: String,
    },
    /// Continuity is lost: only a new epoch helps (I4).
    #[error("continuity with the source is lost: {reason}")]
    Lost {
        /// What was found.
        reason: String,
    },
}

/// What to do about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Wait and try again.
    Transient,
    /// Open a new epoch.
    Lost,
    /// Stop and tell a person.
    Fatal,
}

impl Error {
    /// What to do about it.
    pub fn fault(&self) -> Fault {
        match self {
            Error::Unreachable { .. } | Error::Throttled { .. } => Fault::Transient,
            Error::Lost { .. } => Fault::Lost,
            Error::Refused { code, .. } if transient_code(code) => Fault::Transient,
            Error::Address { .. } | Error::Refused { .. } | Error::Unreadable { .. } => Fault::Fatal,
        }
    }
}

/// Whether a SQLSTATE says that the same request may succeed later: connection trouble (08), resources (53), an
/// operator's shutdown or a start-up (57P), a serialisation failure or deadlock (40), a lock not had in time (55P03) and
/// an object in use (55006: a slot still held by a session that the server has not yet seen go).
fn transient_code(code: &str) -> bool {
    ["08", "53", "57P", "40"].iter().any(|class| code.starts_with(class)) || matches!(code, "55P03" | "55006")
}

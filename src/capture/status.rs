//! What a capture tells while it runs.

use std::collections::BTreeMap;

use crate::dynamo::feed::StreamProgress;
use crate::dynamo::pace::ReadRate;
use crate::event::{Epoch, Lsn, RelationName, Timestamp};
use crate::source::Finding;

/// What the capture is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Phase {
    /// Looking the source over, making publication and slot.
    #[default]
    Starting,
    /// Copying tables, and streaming beside it.
    Copying,
    /// Everything is copied; the stream has yet to pass the point where that was so.
    CatchingUp,
    /// Only streaming.
    Live,
    /// Waiting to try again after an error.
    Waiting,
    /// Ended.
    Stopped,
}

/// How far a table is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TableProgress {
    /// Ranges of it.
    pub ranges_total: u32,
    /// Ranges read in the present pass.
    pub ranges_done: u32,
    /// Rows handed over in this epoch.
    pub rows: u64,
    /// Bytes of those rows as the source sent them.
    pub bytes: u64,
}

/// A place that a stream passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// In a Postgres server's WAL.
    Wal(Lsn),
    /// The time at which the last table of DynamoDB was scanned.
    Time(Timestamp),
}

/// The state of a capture, published as it changes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CaptureStatus {
    /// What it is at.
    pub phase: Phase,
    /// The epoch; `None` before the first.
    pub epoch: Option<Epoch>,
    /// Why the epoch was opened, when continuity was lost.
    pub epoch_reason: Option<String>,
    /// Progress of the copy by table.
    pub tables: BTreeMap<RelationName, TableProgress>,
    /// Tables that wait for the next pass because they were rewritten while they were copied.
    pub paused: Vec<RelationName>,
    /// The log holds everything up to here.
    pub durable: Lsn,
    /// End of the server's WAL, as far as it has told.
    pub wal_end: Lsn,
    /// Events streamed since the start of the process.
    pub streamed: u64,
    /// What had to be passed to be caught up, once it was.
    pub caught_up: Option<Position>,
    /// How far the streams of DynamoDB tables are in the log.
    pub streams: BTreeMap<RelationName, StreamProgress>,
    /// How fast DynamoDB tables are scanned; absent before the scan and for Postgres.
    pub read_rate: Option<ReadRate>,
    /// The slot.
    pub slot: Option<String>,
    /// Bytes that may be written until the slot is in danger; absent without a limit.
    pub safe_wal_bytes: Option<i64>,
    /// Bytes of WAL that the slot keeps.
    pub retained_bytes: Option<i64>,
    /// Optional tables that the source lacks.
    pub skipped: Vec<RelationName>,
    /// Warnings of the preflight and of the slot.
    pub findings: Vec<Finding>,
    /// The error after which it is waiting to try again.
    pub error: Option<String>,
    /// How often it went on after an error.
    pub retries: u32,
}

//! The event log: the truth that every target can be rebuilt from (I1, I2).
//!
//! [`EventLog`] is the seam. Beside events the log holds *marks*: small named values that a batch changes atomically with
//! its events. Every position of the capture (a slot's LSN, a finished range of a snapshot, the epoch) is a mark, so it can
//! never say more than the log holds (I2).

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

use crate::event::{Event, Relation, RelationName, SchemaHash};

mod check;
mod embedded;
mod error;
mod memory;
mod record;
mod view;
mod visible;

pub use embedded::{EmbeddedLog, Options};
pub use error::Error;
pub use memory::MemoryLog;
pub use record::partition_of;
pub use view::{Reveal, erased_to_json, notice_to_json, to_json};

/// Place of an event in its partition: dense, from 0, assigned at the durable append.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Offset(pub u64);

/// A partition of the captured log. All events of one (relation, key) go to one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Partition(pub u16);

/// What one append makes durable, atomically: all of it or none.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// Shapes that events of this or later batches refer to; known ones are ignored.
    pub relations: Vec<Arc<Relation>>,
    /// Events, in order.
    pub events: Vec<Event>,
    /// Units to be evaluated again although no row of theirs changed (retry, take-back, repair), as control records.
    pub notices: Vec<Notice>,
    /// Marks to set (`Some`) or remove (`None`).
    pub marks: BTreeMap<String, Option<Vec<u8>>>,
}

/// Asks for a unit to be evaluated again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Notice {
    /// The unit.
    pub unit: Box<str>,
    /// Why, for `log show`: `retry`, `skip: …`, `take-back`, `repair`.
    pub reason: Box<str>,
}

/// A record as read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A change of one row.
    Event(Event),
    /// A request to evaluate a unit again.
    Notice(Notice),
    /// What was an event, until an operator had it erased.
    Erased(Erased),
}

/// What is left of an event that was erased.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Erased {
    /// The row's table.
    pub relation: RelationName,
    /// Digest of the row's key under the deployment's key: it tells whoever knows the key that this was the row.
    pub key: [u8; 16],
}

/// Records read from one partition.
#[derive(Debug, Clone, Default)]
pub struct Chunk {
    /// Records with their offsets, in order, without gaps.
    pub records: Vec<(Offset, Record)>,
    /// Offset to read from next.
    pub next: Offset,
}

/// A durable, ordered, partitioned log of events.
///
/// **Order.** Records of a partition are read in the order they were appended; a batch's events keep their order, and its
/// notices come after them.
/// **Partitions.** An event goes to the partition of its key ([`partition_of`]). Copies go to every partition for truncate
/// and schema events and for notices, and to the old key's partition as well where an event changed the key: a reader of
/// one partition takes from these what concerns its own keys.
/// **Atomicity.** A batch is readable, with its marks, entirely or not at all, after any crash.
/// **Durability.** When `append` returns, the batch survives a crash of the machine; concurrent appends may share a sync.
/// **Duplicates.** The log does not look for them: the reader drops events by version (I3).
/// **Cancellation.** An `append` dropped before it returns may or may not have happened.
/// **Retry.** [`Error::Refused`] is about the batch and leaves the log as it was; other errors of `append` are final for
/// the handle: close it, open again, read the marks. What was durable before can still be read.
#[async_trait]
pub trait EventLog: Send + Sync {
    /// Number of partitions, fixed for the life of the log.
    fn partitions(&self) -> u16;

    /// A number drawn when the log was created: a log made anew has another, greater one (milliseconds since 1970).
    fn generation(&self) -> u64;

    /// Appends a batch durably.
    async fn append(&self, batch: Batch) -> Result<(), Error>;

    /// Reads from `from` on until about `bytes_max` bytes or the end; an empty chunk means the end was reached.
    ///
    /// At least one record is read where there is one. At the end of a log that has failed the failure is returned, so
    /// that a follower does not wait for what cannot come.
    async fn read(&self, partition: Partition, from: Offset, bytes_max: usize) -> Result<Chunk, Error>;

    /// Offset after the last durable record.
    fn end(&self, partition: Partition) -> Offset;

    /// Returns when the partition's end is beyond `offset`, or when the log has failed. Cancel-safe.
    async fn wait_beyond(&self, partition: Partition, offset: Offset);

    /// The shape registered under a hash.
    fn relation(&self, hash: SchemaHash) -> Option<Arc<Relation>>;

    /// All registered shapes.
    fn relations(&self) -> Vec<Arc<Relation>>;

    /// A mark's value.
    fn mark(&self, name: &str) -> Result<Option<Vec<u8>>, Error>;

    /// All marks whose name begins with `prefix`, in order of name.
    fn marks(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, Error>;
}

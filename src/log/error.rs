//! What can go wrong in the log.

use std::path::PathBuf;
use std::sync::Arc;

use super::{Offset, Partition};

/// Errors of the event log. Messages never hold row contents (I12).
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store under the log failed: a full or broken disk, most of all.
    #[error("cannot {action} the event log")]
    Store {
        /// What was attempted, as a verb.
        action: &'static str,
        /// The store's own error.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A stored record does not read back: its checksum or its form is wrong.
    #[error("record {} of partition {} of the event log is damaged: {detail}", offset.0, partition.0)]
    Damaged {
        /// Partition.
        partition: Partition,
        /// Offset of the first record of the damaged block.
        offset: Offset,
        /// What was wrong with it.
        detail: &'static str,
    },
    /// The log was written by a newer rehome.
    #[error("the event log has format {found}, this rehome reads up to {known}")]
    Format {
        /// Format found.
        found: u32,
        /// Newest format known.
        known: u32,
    },
    /// Another process, or another handle in this one, has the log open.
    #[error("the event log in {} is in use by another process", path.display())]
    Locked {
        /// The log's directory.
        path: PathBuf,
    },
    /// The log holds less than it once acknowledged: its files were cut, replaced or restored from an older copy.
    #[error("the event log in {} has lost records that it had acknowledged: {detail}", path.display())]
    Lost {
        /// The log's directory.
        path: PathBuf,
        /// What was missing.
        detail: &'static str,
    },
    /// The directory is not a log, or not a whole one.
    #[error("cannot read the event log in {}: {detail}", path.display())]
    Unreadable {
        /// The log's directory.
        path: PathBuf,
        /// What is wrong.
        detail: &'static str,
    },
    /// The log was made with another number of partitions than was asked for.
    #[error("the event log has {found} partitions, not {asked}")]
    Partitions {
        /// Number that the log has.
        found: u16,
        /// Number that was asked for.
        asked: u16,
    },
    /// The batch holds an event that could not be read back; nothing of the batch was appended.
    #[error("an event cannot be appended to the event log: {detail}")]
    Refused {
        /// What is wrong with it.
        detail: &'static str,
    },
    /// An earlier append failed, and the log takes no more: the cause is that first failure.
    #[error("the event log stopped after an earlier failure")]
    Failed(#[source] Arc<Error>),
    /// The log was shut down.
    #[error("the event log is closed")]
    Closed,
}

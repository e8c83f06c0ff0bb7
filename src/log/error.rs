//! What can go wrong in the log.

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
    /// The log is closed, after an earlier error or a shutdown.
    #[error("the event log is closed")]
    Closed,
}

//! What can go wrong between the log and the target.

/// Errors of the projection; never with row contents (I12).
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The state store failed: a full or broken disk, most of all.
    #[error("cannot {action} the state store")]
    State {
        /// What was attempted, as a verb.
        action: &'static str,
        /// The store's own error.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A record of the state store does not read back.
    #[error("the state store's {0} do not read back")]
    Damaged(&'static str),
    /// Something in the log does not read back, although its digests are right.
    #[error("the event log's {0} do not read back")]
    LogDamaged(&'static str),
    /// The target's record of what was written does not read back.
    #[error("the target's {0} do not read back")]
    RecordDamaged(&'static str),
    /// The log failed.
    #[error(transparent)]
    Log(#[from] crate::log::Error),
    /// The target failed.
    #[error(transparent)]
    Target(#[from] crate::target::Error),
    /// A unit could not be read while it was mapped.
    #[error("cannot map a unit: {0}")]
    Unit(String),
    /// A sweep would delete more rows than it may.
    #[error("the new snapshot did not find {count} rows that were known; a sweep may delete {limit}")]
    SweepTooLarge {
        /// Rows that would be deleted.
        count: u64,
        /// Rows that may be.
        limit: u64,
    },
    /// Something else writes the migration's units.
    #[error("the target holds newer versions of units than this log can have given")]
    OtherWriter,
    /// A new snapshot found none of the rows of a table.
    #[error("the new snapshot found no row at all of {table}, where {count} were known")]
    Emptied {
        /// Source table.
        table: String,
        /// Rows that were known.
        count: u64,
    },
    /// The state was built anew by another definition, and takes only some events of tables whose rows are at the target.
    #[error(
        "events of {tables} have another shape than legacy.toml says now: nothing was projected, or rows would go, or be what they were"
    )]
    Unread {
        /// Their names.
        tables: String,
    },
    /// Too many units were parked: something is wrong with all of them, not with each.
    #[error("{parked} of {evaluated} units were parked, most often for {reason}; the limit is {limit}")]
    Breaker {
        /// Parts that were parked since the run began, or hold rows in quarantine.
        parked: u64,
        /// Units evaluated since the run began.
        evaluated: u64,
        /// The most frequent reason.
        reason: String,
        /// Units that may be parked.
        limit: u64,
    },
}

impl Error {
    /// A failure of the state store.
    pub fn state(action: &'static str, source: fjall::Error) -> Self {
        Error::State { action, source: Box::new(source) }
    }
}

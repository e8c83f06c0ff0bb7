//! What can really go wrong while two sides are compared; a difference is not an error.

use std::path::PathBuf;

use crate::event::DecodeError;
use crate::mapping::ReadError;

/// Errors of a comparison; never with row contents (I12).
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A side could not be read.
    #[error("cannot read the {side}")]
    Side {
        /// `source` or `target`.
        side: &'static str,
        /// The reason.
        #[source]
        source: crate::source::Error,
    },
    /// A range could not be read under the snapshot that it belongs to.
    #[error("the {side} moved while {table} was read: {what}")]
    Moved {
        /// `source` or `target`.
        side: &'static str,
        /// The table.
        table: String,
        /// What happened to it.
        what: &'static str,
    },
    /// A table has not the columns that the definition names.
    #[error("{table} of the {side} has no column {column}")]
    NoColumn {
        /// `source` or `target`.
        side: &'static str,
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// The folder for spills failed.
    #[error("cannot {action} {}", path.display())]
    Spill {
        /// What was attempted.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// A spill is not what was written to it.
    #[error("{} does not hold what was written to it", path.display())]
    SpillBroken {
        /// The file.
        path: PathBuf,
    },
    /// Rows that were digested together have other digests than one by one.
    #[error(
        "rows of {table} digested together have other digests than one by one, so nothing can be said of any of them"
    )]
    Digests {
        /// The target table.
        table: String,
    },
    /// A record of a spill does not read.
    #[error("a record on its way to the comparison does not read")]
    Record(#[from] DecodeError),
    /// A row of the table that says which rows rehome wrote does not read.
    #[error(
        "a row of {table} does not read back, so which rows are rehome's is not known; something else than rehome changed it"
    )]
    Ownership {
        /// The table.
        table: String,
    },
    /// The mapping could not read what a row refers to.
    #[error("cannot evaluate a unit")]
    Evaluate(#[from] ReadError),
    /// What rows say to others does not fit into memory.
    #[error("the rows that others refer to need more than {limit} bytes")]
    References {
        /// The limit.
        limit: u64,
    },
    /// A worker ended without an answer.
    #[error("a worker of the comparison ended early")]
    Worker,
}

impl Error {
    /// Whether a comparison that goes on later may come to its end: a store failed, or what was read of it moved.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Side { .. } | Self::Moved { .. } | Self::Worker)
    }
}

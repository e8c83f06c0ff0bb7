//! What can go wrong in a capture.

use crate::source::Finding;

/// Errors of a capture.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file that stands for a table.
    #[error(transparent)]
    File(#[from] super::load::Error),
    /// The source.
    #[error(transparent)]
    Source(#[from] crate::source::Error),
    /// The log; nothing goes on without it.
    #[error("the event log failed")]
    Log(#[from] crate::log::Error),
    /// The source lacks something.
    #[error("the source is not ready: {}", sentences(.0))]
    NotReady(Vec<Finding>),
    /// A setting cannot be used.
    #[error("{setting} cannot be {value}: {fix}")]
    Setting {
        /// The setting.
        setting: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        fix: &'static str,
    },
    /// A mark in the log does not read back.
    #[error("mark {name} in the event log does not read")]
    Mark {
        /// The mark.
        name: String,
    },
}

fn sentences(findings: &[Finding]) -> String {
    let one = |finding: &Finding| format!("{}: {} ({})", finding.place, finding.what, finding.fix);
    findings.iter().map(one).collect::<Vec<_>>().join("; ")
}

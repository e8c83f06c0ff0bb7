//! What became of a unit, as it is kept and reported.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The rows of one source table within one unit, by what became of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowCounts {
    /// Rows that contribute to a target row.
    pub mapped: u64,
    /// Rows left out, by reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub dropped: BTreeMap<String, u64>,
    /// Rows in quarantine, by reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub quarantined: BTreeMap<String, u64>,
}

impl RowCounts {
    /// All rows counted.
    pub fn total(&self) -> u64 {
        self.mapped + self.dropped.values().sum::<u64>() + self.quarantined.values().sum::<u64>()
    }

    /// Adds another unit's counts.
    pub fn add(&mut self, other: &Self) {
        self.mapped += other.mapped;
        for (reason, count) in &other.dropped {
            *self.dropped.entry(reason.clone()).or_default() += count;
        }
        for (reason, count) in &other.quarantined {
            *self.quarantined.entry(reason.clone()).or_default() += count;
        }
    }
}

/// Where a unit stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "status")]
pub enum Status {
    /// The target holds what the mapping makes of it.
    Done,
    /// Rows of it have cells that nothing has told yet.
    Waiting,
    /// It is not at the target, or not as the mapping wants it, for a reason.
    Parked {
        /// Reason, one word.
        reason: String,
        /// Where, for people; never row contents.
        detail: String,
    },
}

/// Target rows of one unit, by what became of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetCounts {
    /// Rows that the mapping yields.
    pub expected: u64,
    /// Rows that the target says it holds as we want them.
    pub written: u64,
    /// Rows of someone else in the place of ours, equal ones included.
    pub foreign: u64,
    /// Rows not written because their unit is parked.
    pub parked: u64,
}

impl TargetCounts {
    /// Adds another unit's counts.
    pub fn add(&mut self, other: &Self) {
        self.expected += other.expected;
        self.written += other.written;
        self.foreign += other.foreign;
        self.parked += other.parked;
    }
}

/// What became of a unit at one offset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitResult {
    /// Offset of the last record that this result includes.
    pub offset: u64,
    /// Generation of the mapping it was made with.
    pub mapping: u32,
    /// Where the unit stands.
    #[serde(flatten)]
    pub status: Status,
    /// Rows by source table.
    pub rows: BTreeMap<String, RowCounts>,
    /// Other things the mapping counts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counts: BTreeMap<String, u64>,
    /// Rows at the target.
    pub target: TargetCounts,
    /// Hex of the digests of target keys that the unit claims.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claims: Vec<String>,
    /// Keys of rows that alone are quarantined, as compact JSON: table, reason, key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quarantined_rows: Vec<QuarantinedRow>,
}

/// A row that alone is in quarantine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuarantinedRow {
    /// Source table.
    pub table: String,
    /// Reason.
    pub reason: String,
    /// Key, as text for people.
    pub key: String,
}

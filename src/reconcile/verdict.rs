//! What a comparison comes to: the plain data of `summary.json`.
//!
//! This form and the one of [discrepancies](super::Discrepancy) are stored and read by other programs: names of fields do
//! not change within a [`VERSION`], and what is not known is refused. Counts are of everything, whatever part of it is
//! listed in detail. Nothing in a summary is of a row's contents (I12).

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::counts::{CanaryClass, ExpectResult, Hop, LedgerEntry, RuleUse, SourceCount, TargetCount};
use super::discrepancy::{Blame, Kind, State, Writer};

/// Version of the stored forms.
pub const VERSION: u32 = 1;

/// What a comparison came to (I8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Verdict {
    /// Both sides are equal at the cut, and that is complete.
    Match,
    /// They differ, and that is proven.
    Mismatch,
    /// Something could not be compared or proven.
    Incomplete,
}

/// One reason for a verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Why {
    /// Names the kind of reason for programs, in snake case.
    pub code: String,
    /// Says it to people: one sentence without row contents.
    pub sentence: String,
    /// How many things it concerns.
    pub count: u64,
}

/// How sure a verdict is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grade {
    /// By positions of both stores and of the log between them.
    Proven,
    /// By looking at two cuts between which neither side changed: someone else wrote the target.
    Observed,
}

/// One comparison of a migration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// [`VERSION`].
    pub version: u32,
    /// Name of the migration.
    pub migration: String,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// How long it took, in seconds.
    pub seconds: u64,
    /// How sure the verdict is.
    pub grade: Grade,
    /// The verdict.
    pub verdict: Verdict,
    /// Why it is that; empty for a match.
    pub why: Vec<Why>,
    /// What the verdict speaks of.
    pub cut: Cut,
    /// What both sides were compared by.
    pub ids: Ids,
    /// Legacy tables.
    pub sources: Vec<SourceCount>,
    /// Target tables.
    pub targets: Vec<TargetCount>,
    /// Rows counted and summed from stage to stage.
    pub hops: Vec<Hop>,
    /// Rules, used or not.
    pub rules: Vec<RuleUse>,
    /// Invariants that do not go through the mapping.
    pub expects: Vec<ExpectResult>,
    /// Faults that were planted, by class and table.
    pub canaries: Vec<CanaryClass>,
    /// What was read of each table.
    pub ledger: Vec<LedgerEntry>,
    /// Discrepancies that have the same look: confirmed ones first, then by number.
    pub causes: Vec<Cause>,
    /// What the comparison cost.
    pub budget: Budget,
    /// How many discrepancies there are, and how many are listed.
    pub details: Details,
}

impl Summary {
    /// Faults that were planted, and those of them that were found.
    pub fn recall(&self) -> (u64, u64) {
        self.canaries.iter().fold((0, 0), |(planted, found), class| (planted + class.planted, found + class.found))
    }
}

/// What a verdict speaks of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cut {
    /// Positions of the source, by stream: a WAL position, or sequence numbers by shard.
    pub sources: Vec<StreamPosition>,
    /// Snapshots that were read, of both sides.
    pub snapshots: Vec<SnapshotUsed>,
    /// Place in the log; absent where rehome did not project.
    pub log: Option<LogPosition>,
    /// Positions of the target, by stream; empty where it has none.
    pub targets: Vec<StreamPosition>,
}

/// A place in a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamPosition {
    /// Name of the stream: a slot, a shard, a database.
    pub stream: String,
    /// The place, as its store writes it.
    pub position: String,
}

/// A snapshot, or a scan where the store has no snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotUsed {
    /// Whose.
    pub side: Side,
    /// Names it in the ledger.
    pub name: String,
    /// Position of the side at which it was taken; absent where the store has none.
    pub position: Option<String>,
    /// When it was taken.
    pub taken: Timestamp,
    /// Ranges that were read under it before the comparison was interrupted and that hold now as they did then; 0 for the snapshot
    /// that everything else was read under.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub earlier_ranges: u64,
}

// By reference, as serde asks for it.
#[expect(clippy::trivially_copy_pass_by_ref)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A place in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogPosition {
    /// Tells logs that were made anew apart.
    pub generation: u64,
    /// Offset after the last record that counts.
    pub offset: u64,
}

/// One of the two sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The legacy store.
    Source,
    /// The target store.
    Target,
}

/// What both sides were compared by; digests of runs with other ids do not compare.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ids {
    /// Digest of the mapping.
    pub mapping: String,
    /// Digest of the rules.
    pub rules: String,
    /// Version of the canonical encoding.
    pub encoder: String,
    /// Names the deployment's key of digests; not the key.
    pub key: String,
}

/// Discrepancies that have the same look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cause {
    /// The target table.
    pub table: String,
    /// What kind.
    pub kind: Kind,
    /// What is known about them.
    pub state: State,
    /// The fields that differ, all of them; empty for whole rows, `*` for the rest when there are too many looks.
    pub fields: Vec<String>,
    /// Rules that looked at these fields and did not let them pass.
    pub rules: Vec<String>,
    /// Where it went wrong.
    pub blame: Blame,
    /// Generation of the mapping that wrote the target rows; absent when nobody knows.
    pub mapping: Option<u32>,
    /// Who wrote the target rows.
    pub writer: Writer,
    /// When the target rows were written; absent when nobody knows.
    pub when: Option<When>,
    /// How many.
    pub count: u64,
    /// Ids of the first few.
    pub examples: Vec<String>,
}

/// Hours in which rows were written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct When {
    /// Begin of the first hour.
    pub first: Timestamp,
    /// Begin of the last hour.
    pub last: Timestamp,
    /// Begin of the hour with the most rows.
    pub busiest: Timestamp,
    /// Rows in that hour.
    pub count: u64,
}

/// What a comparison cost.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Bytes read from both sides.
    pub read_bytes: u64,
    /// Read units consumed, rounded up; absent where no side has them.
    pub read_units: Option<u64>,
    /// Requests that a side slowed down or refused for want of capacity.
    pub throttles: u64,
    /// Bytes written to the spill, at its largest.
    pub spill_bytes: u64,
    /// Largest resident memory, in bytes.
    pub memory_bytes: u64,
    /// Rows a second, of both sides together.
    pub rows_per_second: u64,
}

/// How many discrepancies there are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Details {
    /// All of them.
    pub found: u64,
    /// Lines of `discrepancies.jsonl`.
    pub listed: u64,
    /// All of them, by state.
    pub states: BTreeMap<State, u64>,
    /// The confirmed and unsettled ones, by the number of nights in which they were seen before; one that was not listed
    /// then counts as new.
    pub ages: BTreeMap<u32, u64>,
}

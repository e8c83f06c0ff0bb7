//! Compares both sides of a whole migration, and says with proof what it found (I5, I8, I9).
//!
//! What a run comes to, in the form in which it is kept: [`verdict`] the whole, [`counts`] its numbers, [`discrepancy`] one
//! row that is not as it should be.

pub mod counts;
pub mod discrepancy;
pub mod verdict;

pub use counts::{
    CanaryClass, Class, Cover, Digests, ExpectResult, Hop, LedgerEntry, RuleKind, RuleUse, SourceCount, Tally,
    TargetCount,
};
pub use discrepancy::{Blame, Discrepancy, Field, FieldKind, Kind, Proof, Shown, Sides, State, Writer, discrepancy_id};
pub use verdict::{
    Budget, Cause, Cut, Details, Grade, Ids, LogPosition, Side, SnapshotUsed, StreamPosition, Summary, VERSION,
    Verdict, When, Why,
};

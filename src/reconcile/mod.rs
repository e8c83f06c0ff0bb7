//! Compares both sides of a whole migration, and says with proof what it found (I5, I8, I9).
//!
//! What a run comes to, in the form in which it is kept: [`verdict`] the whole, [`counts`] its numbers, [`discrepancy`] one
//! row that is not as it should be.
//!
//! How it gets there: [`side`] reads both sides by ranges, [`expected`] maps the source's rows and [`actual`] takes the
//! target's, [`emit`] makes records of both, by what [`context`] says (`plain` of rows that no rule changes, `lanes` digests many at once), [`spill`] keeps [`record`]s by hash until [`join`] pairs them up, [`run`] drives
//! all that, and [`forecast`] the source's half of it alone. [`ledger`] lets a run go on where a killed one was, [`sum`] tells
//! whether all that went in came out. [`canary`] plants faults that must be found, [`groups`] such among rows that a rule
//! pairs, and [`recall`] looks which were.

pub mod actual;
pub mod canary;
pub mod context;
pub mod emit;
mod error;
pub mod expected;
pub mod forecast;
pub mod groups;
pub mod join;
mod lanes;
pub mod ledger;
mod plain;
pub mod recall;
pub mod record;
pub mod references;
pub mod run;
pub mod settle;
pub mod side;
pub mod spill;
pub mod sum;
pub mod summary;

pub mod counts;
pub mod discrepancy;
pub mod verdict;

pub use error::Error;

pub use counts::{
    CanaryClass, Class, Cover, Digests, ExpectResult, Hop, LedgerEntry, RuleKind, RuleUse, SourceCount, Tally,
    TargetCount,
};
pub use discrepancy::{
    Alike, Blame, Discrepancy, Field, FieldKind, Kind, Proof, Shown, Sides, State, Told, Writer, discrepancy_id,
};
pub use verdict::{
    Budget, Cause, Cut, Details, Grade, Ids, LogPosition, Side, SnapshotUsed, StreamPosition, Summary, VERSION,
    Verdict, When, Why,
};

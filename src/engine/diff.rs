//! Compares one unit: what the mapping makes of its legacy rows against what the target holds.
//!
//! Three readings: *live*, the mapping of the source's rows as they are now; *logged*, the mapping of the rows that the log
//! tells of; *held*, the target's rows. A difference between live and held alone proves nothing while changes are on their
//! way. It is proven when held differs from logged for a unit that is not waiting to be projected (the target is wrong,
//! whatever the source says), or when live differs from logged although the log holds everything up to the position at
//! which live was read (the capture is wrong). Everything else is unproven (I8).

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::target::{TableShape, TargetKey, TargetRow};

use super::protocol::UnitView;

/// What a comparison came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Verdict {
    /// Live and held are equal.
    Match,
    /// They differ, and that is proven.
    Mismatch,
    /// They differ, or could not be compared, and nothing is proven.
    Incomplete,
}

/// How one target row differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowDifference {
    /// The row's key.
    pub key: TargetKey,
    /// What kind of difference.
    pub kind: Kind,
    /// The row as it should be; absent for extra ones.
    pub expected: Option<TargetRow>,
    /// The row as it is; absent for missing ones.
    pub actual: Option<TargetRow>,
    /// Indexes of the columns that differ, for changed rows.
    pub columns: Vec<usize>,
}

/// Kinds of differences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Expected and not there.
    Missing,
    /// There and not expected.
    Extra,
    /// There, and not as expected.
    Changed,
}

/// Compares two sets of rows by key; differences in order of key.
pub fn compare(tables: &[TableShape], expected: &[TargetRow], actual: &[TargetRow]) -> Vec<RowDifference> {
    let by_key = |rows: &[TargetRow]| -> BTreeMap<TargetKey, TargetRow> {
        rows.iter().map(|row| (tables[usize::from(row.table.0)].key_of(row), row.clone())).collect()
    };
    let (mut wanted, mut there) = (by_key(expected), by_key(actual));
    let keys: BTreeSet<TargetKey> = wanted.keys().chain(there.keys()).cloned().collect();
    let mut differences = Vec::new();
    for key in keys {
        let (expected, actual) = (wanted.remove(&key), there.remove(&key));
        let (kind, columns) = match (&expected, &actual) {
            (Some(expected), Some(actual)) => (Kind::Changed, differing(expected, actual)),
            (Some(_), None) => (Kind::Missing, Vec::new()),
            _ => (Kind::Extra, Vec::new()),
        };
        if kind != Kind::Changed || !columns.is_empty() {
            differences.push(RowDifference { key, kind, expected, actual, columns });
        }
    }
    differences
}

fn differing(expected: &TargetRow, actual: &TargetRow) -> Vec<usize> {
    let pairs = expected.values.iter().zip(&actual.values).enumerate();
    pairs.filter(|(_, (a, b))| a.normalised() != b.normalised()).map(|(index, _)| index).collect()
}

/// Decides what a comparison proves.
///
/// `live` and `logged` are what the mapping makes of the source's and of the log's rows, `held` what the target has.
/// `covered` says that the log holds everything that `live` was read from.
pub fn judge(
    tables: &[TableShape],
    live: &[TargetRow],
    logged: &[TargetRow],
    held: &[TargetRow],
    view: &UnitView,
    covered: bool,
) -> Verdict {
    let same = |a: &[TargetRow], b: &[TargetRow]| compare(tables, a, b).is_empty();
    let settled = !view.dirty && view.applied == view.end;
    let logged_differs = !same(logged, held);
    let parked = view
        .result
        .as_ref()
        .is_some_and(|result| matches!(result.status, crate::project::result::Status::Parked { .. }));
    if parked && live.is_empty() && held.is_empty() {
        // Nothing to compare: the mapping cannot say what the target should hold.
        return Verdict::Incomplete;
    }
    if same(live, held) && !parked {
        // Equal at the moment of reading, and nothing of the unit known to be on its way.
        return if view.dirty { Verdict::Incomplete } else { Verdict::Match };
    }
    if settled && (logged_differs || parked) {
        return Verdict::Mismatch;
    }
    if settled && covered && !same(live, logged) {
        return Verdict::Mismatch;
    }
    Verdict::Incomplete
}

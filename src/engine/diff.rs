//! Compares one unit: what the mapping makes of its legacy rows against what the target holds.
//!
//! Three readings: *live*, the mapping of the source's rows as they are now; *logged*, the mapping of the rows that the log
//! tells of; *held*, the target's rows. A difference between live and held alone proves nothing while changes are on their
//! way. It is proven when held differs from logged for a unit that is not waiting to be projected (the target is wrong,
//! whatever the source says), or when live differs from logged although the log holds everything up to the position at
//! which live was read (the capture is wrong). Everything else is unproven (I8).

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::rules::{Comparison, Judged as Ours, Pair, Ruleset, Uses};
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
    /// The row's key; of a pair the one that is expected.
    pub key: TargetKey,
    /// The key of the row that is there, where the rules alone make it one with that.
    pub other_key: Option<TargetKey>,
    /// What kind of difference.
    pub kind: Kind,
    /// By which rules it is one.
    pub pair: Pair,
    /// The row as it should be; absent for extra ones.
    pub expected: Option<TargetRow>,
    /// The row as it is; absent for missing ones.
    pub actual: Option<TargetRow>,
    /// Indexes of the columns that differ, for changed rows.
    pub columns: Vec<usize>,
}

impl RowDifference {
    /// The keys under which it is found.
    pub fn keys(&self) -> impl Iterator<Item = &TargetKey> {
        std::iter::once(&self.key).chain(&self.other_key)
    }
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
            let (other_key, pair) = (None, Pair::Key);
            differences.push(RowDifference { key, other_key, kind, pair, expected, actual, columns });
        }
    }
    differences
}

/// Pairs rows whose keys are one by the rules, where one side has one of it and the other has one.
fn pair_up(differences: Vec<RowDifference>, rules: &Ruleset) -> Vec<RowDifference> {
    let (alone, mut paired): (Vec<_>, Vec<_>) = differences.into_iter().partition(|row| row.kind != Kind::Changed);
    let mut by_key: BTreeMap<TargetKey, Vec<RowDifference>> = BTreeMap::new();
    for row in alone {
        let key = row.expected.iter().chain(&row.actual).map(|row| rules.table(row.table).key(row)).next();
        by_key.entry(key.unwrap_or_else(|| row.key.clone())).or_default().push(row);
    }
    for mut rows in by_key.into_values() {
        rows.sort_by_key(|row| row.actual.is_some());
        match &mut rows[..] {
            [missing, extra] if missing.kind == Kind::Missing && extra.kind == Kind::Extra => {
                let (expected, actual) = (missing.expected.take(), extra.actual.take());
                let columns = expected.as_ref().zip(actual.as_ref()).map(|(a, b)| differing(a, b)).unwrap_or_default();
                let (key, other_key) = (missing.key.clone(), Some(extra.key.clone()));
                let (kind, pair) = (Kind::Changed, Pair::Key);
                paired.push(RowDifference { key, other_key, kind, pair, expected, actual, columns });
            }
            _ => paired.extend(rows),
        }
    }
    paired.sort_by(|a, b| a.key.cmp(&b.key));
    paired
}

fn differing(expected: &TargetRow, actual: &TargetRow) -> Vec<usize> {
    let pairs = expected.values.iter().zip(&actual.values).enumerate();
    pairs.filter(|(_, (a, b))| a.normalised() != b.normalised()).map(|(index, _)| index).collect()
}

/// What rows are compared by.
#[derive(Clone, Copy)]
pub struct By<'a> {
    /// Target tables.
    pub tables: &'a [TableShape],
    /// What counts as equal, and which rows are ours to judge; where there is none, what is stored alike, and all.
    pub rules: Option<&'a Ruleset>,
    /// Keys of rows that rehome is known to have written; of others rules for rows of someone else hold. All are, where there is none.
    pub ours: Option<&'a BTreeSet<TargetKey>>,
}

impl By<'_> {
    /// As [`compare`], by the rules; a row out of scope counts as absent, on whichever side it is.
    pub fn compare(&self, expected: &[TargetRow], actual: &[TargetRow]) -> Vec<RowDifference> {
        let Some(rules) = self.rules else { return compare(self.tables, expected, actual) };
        let judged = |row: &TargetRow| rules.table(row.table).scope(row, &mut Uses::default());
        let in_scope = |rows: &[TargetRow]| -> Vec<TargetRow> {
            rows.iter().filter(|row| !matches!(judged(row), Ours::OutOfScope(_))).cloned().collect()
        };
        let mut differences = pair_up(compare(self.tables, &in_scope(expected), &in_scope(actual)), rules);
        // As whole comparisons know them: by the keys that the rules make of those that are recorded.
        let alike = |key: &TargetKey| rules.table(key.table).key_alone(key);
        let known: Option<BTreeSet<TargetKey>> = self.ours.map(|ours| ours.iter().map(alike).collect());
        for row in &mut differences {
            let key = row.other_key.as_ref().unwrap_or(&row.key);
            let ours = known.as_ref().is_none_or(|known| known.contains(&alike(key)));
            row.pair = if ours { Pair::Key } else { Pair::Foreign };
        }
        differences.retain(|row| match (&row.expected, &row.actual) {
            (Some(expected), Some(actual)) => {
                let compared = rules.table(row.key.table).compare(expected, actual, row.pair, &mut Uses::default());
                matches!(compared, Comparison::Different(_))
            }
            // By a rule the target may have let it go.
            (Some(expected), None) => judged(expected) == Ours::Ours,
            (None, _) => true,
        });
        differences
    }
}

/// What a reading of a unit proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// What it comes to.
    pub verdict: Verdict,
    /// Differences between live and held: the proven ones where there are any, else all.
    pub differences: Vec<RowDifference>,
    /// Keys of rows that differ too where others are proven to, in order.
    pub beside: Vec<TargetKey>,
}

impl Judged {
    /// The same, with nothing proven.
    pub fn unproven(self) -> Self {
        Self { verdict: Verdict::Incomplete, ..self }
    }
}

/// Decides what a comparison proves, row by row.
///
/// `live` and `logged` are what the mapping makes of the source's and of the log's rows, `held` what the target has.
/// `covered` says that the log holds everything that `live` was read from. That one row of a unit is proven wrong says
/// nothing of another, whose change may be on its way.
pub fn judge(
    by: By<'_>,
    live: &[TargetRow],
    logged: &[TargetRow],
    held: &[TargetRow],
    view: &UnitView,
    covered: bool,
) -> Judged {
    let differences = by.compare(live, held);
    let parked = view
        .result
        .as_ref()
        .is_some_and(|result| matches!(result.status, crate::project::result::Status::Parked { .. }));
    let settled = !view.dirty && view.applied == view.end;
    let all = |verdict, differences| Judged { verdict, differences, beside: Vec::new() };
    if differences.is_empty() {
        // Equal at the moment of reading, and nothing of the unit known to be on its way; what of it is parked, the mapping
        // cannot say.
        return all(if view.dirty || parked { Verdict::Incomplete } else { Verdict::Match }, differences);
    }
    if !settled {
        return all(Verdict::Incomplete, differences);
    }
    let keys = |by: By<'_>, a, b| by.compare(a, b).into_iter().flat_map(|row| row.keys().cloned().collect::<Vec<_>>());
    let mut wrong: BTreeSet<TargetKey> = keys(by, logged, held).collect();
    if covered {
        // Neither side of these is anybody else's.
        wrong.extend(keys(By { ours: None, ..by }, live, logged));
    }
    let is_wrong = |row: &RowDifference| row.keys().any(|key| wrong.contains(key));
    if !differences.iter().any(is_wrong) {
        return all(Verdict::Incomplete, differences);
    }
    let (differences, beside): (Vec<_>, Vec<_>) = differences.into_iter().partition(is_wrong);
    let beside = beside.iter().flat_map(RowDifference::keys).cloned().collect();
    Judged { verdict: Verdict::Mismatch, differences, beside }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Value;
    use crate::project::result::{PartResult, Status};
    use crate::target::{ColumnShape, TargetTable};

    fn tables() -> [TableShape; 1] {
        let column = |name: &str| ColumnShape { name: name.into(), type_name: "int8".into() };
        let (name, columns) = ("rows".into(), ["id", "n"].map(column).into());
        [TableShape { schema: "public".into(), name, columns, key: vec![0] }]
    }

    /// Rows of a unit by key, each with what it says.
    fn rows(says: &[(i64, i64)]) -> Vec<TargetRow> {
        let row = |(id, n): &(i64, i64)| TargetRow { table: TargetTable(0), values: [*id, *n].map(Value::Int).into() };
        says.iter().map(row).collect()
    }

    /// A unit that stands still, some part of it parked.
    fn parked() -> UnitView {
        let status = Status::Parked { reason: "odd".into(), detail: String::new() };
        let result = Some(PartResult { status, ..PartResult::default() });
        let (rows, owned) = (Vec::new(), Vec::new());
        UnitView { known: true, offset: 1, dirty: false, applied: 2, end: 2, captured: None, result, rows, owned }
    }

    fn verdict(live: &[(i64, i64)], logged: &[(i64, i64)], held: &[(i64, i64)], covered: bool) -> Verdict {
        let by = By { tables: &tables(), rules: None, ours: None };
        judge(by, &rows(live), &rows(logged), &rows(held), &parked(), covered).verdict
    }

    #[test]
    fn that_something_of_a_unit_is_parked_proves_no_difference() {
        let held = [(1, 1), (2, 2)];
        assert_eq!(
            verdict(&held, &held, &held, true),
            Verdict::Incomplete,
            "nothing differs, and a part is not compared"
        );
        assert_eq!(verdict(&[(1, 1), (2, 3)], &held, &held, false), Verdict::Incomplete, "a change on its way");
        assert_eq!(verdict(&[(1, 1), (2, 3)], &held, &held, true), Verdict::Mismatch, "the log should hold it");
        assert_eq!(verdict(&held, &held, &held[..1], false), Verdict::Mismatch, "what the log holds is not there");
        assert_eq!(verdict(&[], &[], &[], true), Verdict::Incomplete);
    }
}

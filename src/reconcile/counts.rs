//! Counts of a comparison, on both sides and from stage to stage: what `summary.json` holds beside its verdict (I5).
//!
//! Reader and comparison count independently; whether they agree is worked out here and never assumed.

use std::collections::BTreeMap;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::verdict::Side;

/// What became of a legacy table's rows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceCount {
    /// The table.
    pub table: String,
    /// Rows read.
    pub read: u64,
    /// `count(*)` in the same snapshot; absent where there is none.
    pub counted: Option<u64>,
    /// Rows that went into target rows.
    pub mapped: u64,
    /// Rows that are only looked up.
    pub lookup: u64,
    /// Rows left out by the mapping, by its reason.
    pub dropped: BTreeMap<String, u64>,
    /// Rows that could not be mapped, by reason.
    pub quarantined: BTreeMap<String, u64>,
    /// Rows that wait for others, by reason.
    pub waiting: BTreeMap<String, u64>,
    /// Keyed digest over all rows and their number, in hex; absent when the table was not read to its end.
    pub root: Option<String>,
}

impl SourceCount {
    /// Whether every row read is somewhere: `read = mapped + lookup + dropped + quarantined + waiting`, and the store counts
    /// as many (I5).
    pub fn balanced(&self) -> bool {
        let elsewhere = [&self.dropped, &self.quarantined, &self.waiting].into_iter().flat_map(BTreeMap::values);
        let sum = elsewhere.copied().chain([self.mapped, self.lookup]).try_fold(0, u64::checked_add);
        sum == Some(self.read) && self.counted.is_none_or(|counted| counted == self.read)
    }
}

/// What became of a target table's rows, counted once by what was expected and once by what was read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetCount {
    /// The table.
    pub table: String,
    /// Rows that the mapping makes.
    pub expected: Tally,
    /// Rows that the target holds.
    pub read: Tally,
    /// `count(*)` in the same snapshot; absent where there is none.
    pub counted: Option<u64>,
}

/// Rows of one side of a target table, by what became of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tally {
    /// All rows, as the reader counted them.
    pub rows: u64,
    /// The same rows as the comparison classed them, each in one class; absent classes have none.
    pub classes: BTreeMap<Class, u64>,
    /// Keyed digest over all rows and their number, in hex; absent when the side was not read to its end.
    pub root: Option<String>,
}

impl Tally {
    /// Counts rows of a class; the number of rows is counted elsewhere.
    pub fn add(&mut self, class: Class, rows: u64) {
        *self.classes.entry(class).or_default() += rows;
    }

    /// Rows of a class.
    pub fn of(&self, class: Class) -> u64 {
        self.classes.get(&class).copied().unwrap_or_default()
    }

    /// Whether every row is in one class.
    pub fn balanced(&self) -> bool {
        self.classes.values().copied().try_fold(0, u64::checked_add) == Some(self.rows)
    }
}

impl TargetCount {
    /// Whether both equations hold, rows that were paired are as many on both sides, and the store counts as many (I5).
    pub fn balanced(&self) -> bool {
        self.expected.balanced()
            && self.read.balanced()
            && self.paired()
            && self.counted.is_none_or(|counted| counted == self.read.rows)
    }

    /// Whether classes that consist of pairs have as many rows on both sides.
    pub fn paired(&self) -> bool {
        Class::ALL.iter().all(|&class| !class.pairs() || self.expected.of(class) == self.read.of(class))
    }
}

/// What became of a target row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// As expected.
    Matched,
    /// Differs by no more than a rule allows.
    Tolerated,
    /// Differs.
    Changed,
    /// Expected and not there.
    Missing,
    /// There and not expected.
    Extra,
    /// One of several under one key.
    Duplicate,
    /// Someone else's row stands where an expected one should, and differs.
    Foreign,
    /// Someone else's row, as expected.
    MatchedForeign,
    /// Not ours to judge, by a rule.
    OutOfScope,
    /// Left the target by its own time to live.
    Expired,
    /// Of a parked part.
    Parked,
    /// The mapping cannot say what it should be.
    Unmappable,
    /// The legacy rows just read belong elsewhere than the router says.
    RoutedOtherwise,
    /// Differs while changes are on their way: nothing is proven.
    Unsettled,
    /// Differed while changes were on their way, and was equal when its unit was looked at by itself.
    Settled,
    /// Differs, and a waiver lets it.
    Waived,
}

impl Class {
    /// Every class, in the order in which they are shown.
    pub const ALL: [Class; 16] = [
        Class::Matched,
        Class::Tolerated,
        Class::Changed,
        Class::Missing,
        Class::Extra,
        Class::Duplicate,
        Class::Foreign,
        Class::MatchedForeign,
        Class::OutOfScope,
        Class::Expired,
        Class::Parked,
        Class::Unmappable,
        Class::RoutedOtherwise,
        Class::Unsettled,
        Class::Settled,
        Class::Waived,
    ];

    /// Whether each of its rows is there on both sides.
    pub fn pairs(self) -> bool {
        matches!(self, Class::Matched | Class::Tolerated | Class::Changed | Class::MatchedForeign)
    }
}

/// Rows that went into and came out of one stage of the comparison itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hop {
    /// Name of the stage, such as `spill`.
    pub stage: String,
    /// The target table.
    pub table: String,
    /// Rows that went in.
    pub rows_in: u64,
    /// Rows that came out.
    pub rows_out: u64,
    /// How the sums of their digests compare.
    pub digests: Digests,
}

/// How sums of digests compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Digests {
    /// What came out is what went in.
    Equal,
    /// Something was lost, doubled or changed on the way.
    Different,
}

/// How often a rule was used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleUse {
    /// Names the rule within its migration.
    pub id: String,
    /// What it does.
    pub kind: RuleKind,
    /// The target table.
    pub table: String,
    /// The field; absent for rules of whole rows.
    pub field: Option<String>,
    /// Why it is there.
    pub reason: String,
    /// Who set it up; waivers have one.
    pub author: Option<String>,
    /// Last day on which it counts; absent when it has no end.
    pub expires: Option<Date>,
    /// How often it was used.
    pub uses: u64,
    /// The largest deviation it let pass, with its unit; absent where there is none to measure.
    pub deviation_max: Option<String>,
}

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleKind {
    /// Changes values of both sides before they are compared.
    Normalise,
    /// Lets values differ within a bound.
    Tolerate,
    /// Leaves a field out.
    Ignore,
    /// Pairs rows by other fields than the key.
    Match,
    /// States what must hold without the mapping.
    Expect,
    /// Says which target rows are ours to judge.
    Scope,
    /// Says which rows the target may have let go.
    Retain,
    /// Lets a known discrepancy pass until a day.
    Waive,
}

/// An invariant that does not go through the mapping.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectResult {
    /// Its name.
    pub name: String,
    /// The target table it speaks of.
    pub table: String,
    /// Groups of rows it was asked of.
    pub groups: u64,
    /// Groups for which it holds.
    pub holding: u64,
    /// Groups for which it does not.
    pub broken: u64,
    /// What the first broken groups have in common; in a report as kind and length, unless someone asked for contents (I12).
    pub first: Vec<String>,
}

/// Planted faults of one class in one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CanaryClass {
    /// The class.
    pub class: String,
    /// The target table.
    pub table: String,
    /// Faults planted.
    pub planted: u64,
    /// Faults found by the comparison.
    pub found: u64,
    /// Why none could be planted; absent when some were.
    pub not_applicable: Option<String>,
}

/// What was read of one table of one side under one snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LedgerEntry {
    /// The side.
    pub side: Side,
    /// The table.
    pub table: String,
    /// Name of the snapshot, as in the cut.
    pub snapshot: String,
    /// Disjoint ranges or segments.
    pub ranges: u64,
    /// Pages or blocks within them.
    pub pages: u64,
    /// Whether the ranges are the whole table.
    pub cover: Cover,
    /// Rows in them.
    pub rows: u64,
}

/// Whether everything was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cover {
    /// Every place, once.
    Complete,
    /// A place was not read, or was read twice.
    Gap,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_is_nowhere_or_in_two_places_breaks_its_equation() {
        let mut count = SourceCount { table: "t".to_owned(), read: 6, mapped: 1, lookup: 2, ..SourceCount::default() };
        count.dropped.insert("old".to_owned(), 1);
        count.quarantined.insert("bad".to_owned(), 1);
        count.waiting.insert("parent".to_owned(), 1);
        assert!(count.balanced());
        count.counted = Some(6);
        assert!(count.balanced());
        count.counted = Some(7);
        assert!(!count.balanced());
        count.counted = None;
        count.mapped = 2;
        assert!(!count.balanced());
        count.mapped = u64::MAX;
        assert!(!count.balanced());
    }

    #[test]
    fn both_sides_of_a_target_table_are_balanced_alone_and_by_pairs() {
        let mut count = TargetCount { table: "t".to_owned(), ..TargetCount::default() };
        count.expected.rows = 3;
        count.expected.add(Class::Matched, 2);
        assert!(!count.balanced());
        count.expected.add(Class::Missing, 1);
        count.read.rows = 3;
        count.read.add(Class::Matched, 2);
        count.read.add(Class::Extra, 1);
        assert!(count.balanced());
        count.read.add(Class::Matched, 1);
        count.read.rows = 4;
        assert!(count.read.balanced() && !count.paired() && !count.balanced());
        count.expected.add(Class::Matched, 1);
        count.expected.rows = 4;
        count.counted = Some(4);
        assert!(count.balanced());
        count.counted = Some(3);
        assert!(!count.balanced());
    }
}

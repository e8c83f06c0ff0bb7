//! Invariants that do not go through the mapping: two sums over rows, by group, that must be in a relation.
//!
//! Comparing what the mapping yields with what the target holds cannot tell that the mapping is wrong, because both are its
//! work. So each migration also says, in other words and over the rows themselves, what must hold of both sides: as many
//! calls as calls, no fewer characters of text than were streamed. Each row of a table adds something to a group; the sums
//! need no order and no memory of rows, and may be taken anywhere.

use std::collections::{BTreeMap, BTreeSet};

use super::ruleset::{RuleId, Ruleset};
use super::term::{Condition, Looked, Term};
use crate::event::Value;
use crate::mapping::SourceTable;
use crate::target::TargetTable;

/// One of the two sums of an [`Expect`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// The one that stands before the relation.
    Left,
    /// The one behind it.
    Right,
}

/// How the two sums of a group must be related.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Relation {
    /// `left = right`.
    Equal,
    /// `left <= right`.
    AtMost,
    /// `left >= right`.
    AtLeast,
}

impl Relation {
    /// As it is written.
    pub fn sign(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::AtMost => "<=",
            Self::AtLeast => ">=",
        }
    }
}

/// A table of either side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Table {
    /// Of the legacy store.
    Legacy(SourceTable),
    /// Of the target.
    Target(TargetTable),
}

/// What the rows of one table add to a sum.
#[derive(Debug, Clone)]
pub(super) struct Aggregate {
    /// Which sum.
    pub side: Side,
    /// Whose rows.
    pub table: Table,
    /// Which rows; all when absent.
    pub filter: Option<Condition>,
    /// The group.
    pub by: Vec<Term>,
    /// What a row adds; nothing where this is no whole number.
    pub add: Term,
    /// Rows of a group that agree in these add only once; each adds when there are none.
    pub once: Vec<Term>,
}

/// What one row adds to one sum.
///
/// **Once.** Of the contributions to one sum of one group that have equal `once`, a single one counts; they have the same
/// amount unless rows that agree in `once` differ in what they add, and then the largest counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Contribution {
    /// The invariant.
    pub expect: RuleId,
    /// Which of its sums.
    pub side: Side,
    /// The group; of one invariant all groups have the same number of values.
    pub group: Vec<Value>,
    /// What makes several contributions one.
    pub once: Option<Vec<Value>>,
    /// What it adds.
    pub amount: i128,
}

/// An invariant.
#[derive(Debug, Clone)]
pub struct Expect {
    pub(super) rule: RuleId,
    pub(super) name: Box<str>,
    pub(super) relation: Relation,
    pub(super) aggregates: Vec<Aggregate>,
}

impl Expect {
    /// Its place among all rules.
    pub fn id(&self) -> RuleId {
        self.rule
    }

    /// A sentence that says what must hold.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How its sums must be related.
    pub fn relation(&self) -> Relation {
        self.relation
    }

    /// Target tables that it is about.
    pub fn target_tables(&self) -> BTreeSet<TargetTable> {
        let tables = self.aggregates.iter().filter_map(|aggregate| match aggregate.table {
            Table::Target(table) => Some(table),
            Table::Legacy(_) => None,
        });
        tables.collect()
    }

    /// Legacy tables that it is about.
    pub fn source_tables(&self) -> BTreeSet<SourceTable> {
        let tables = self.aggregates.iter().filter_map(|aggregate| match aggregate.table {
            Table::Legacy(table) => Some(table),
            Table::Target(_) => None,
        });
        tables.collect()
    }

    /// Whether it holds for the sums of a group; a group that only one side has is 0 on the other.
    pub fn holds(&self, left: i128, right: i128) -> bool {
        match self.relation {
            Relation::Equal => left == right,
            Relation::AtMost => left <= right,
            Relation::AtLeast => left >= right,
        }
    }

    fn tell(&self, table: Table, row: &Looked<'_>, say: &mut dyn FnMut(Contribution)) {
        for aggregate in self.aggregates.iter().filter(|aggregate| aggregate.table == table) {
            if aggregate.filter.as_ref().is_some_and(|filter| !filter.holds(row)) {
                continue;
            }
            let Some(amount) = aggregate.add.amount(row) else { continue };
            let alike = |terms: &[Term]| terms.iter().map(|term| term.alike(row)).collect();
            say(Contribution {
                expect: self.rule,
                side: aggregate.side,
                group: alike(&aggregate.by),
                once: (!aggregate.once.is_empty()).then(|| alike(&aggregate.once)),
                amount,
            });
        }
    }
}

impl Ruleset {
    /// What a legacy row adds to the sums of every invariant.
    ///
    /// To be asked for every row read that is settled: not quarantined, not waiting. Rows whose target rows someone else wrote
    /// are settled: theirs must hold as much as ours. Where a part of a unit is parked, the groups of all its legacy rows and
    /// of the target rows that its other parts expect are [set aside](Tally::set_aside).
    pub fn told_by_source(&self, table: SourceTable, values: &[Value], say: &mut dyn FnMut(Contribution)) {
        self.tell(Table::Legacy(table), values, say);
    }

    /// Whether some invariant adds up what rows of a source table say.
    pub fn asks_source(&self, table: SourceTable) -> bool {
        self.asks(Table::Legacy(table))
    }

    /// What a target row adds to the sums of every invariant; to be asked for every row that is ours to judge.
    pub fn told_by_target(&self, table: TargetTable, values: &[Value], say: &mut dyn FnMut(Contribution)) {
        self.tell(Table::Target(table), values, say);
    }

    /// Adds the columns that invariants ask of rows of a table.
    pub(super) fn asked_by_invariants(&self, table: Table, out: &mut BTreeSet<usize>) {
        let aggregates = self.expects().iter().flat_map(|expect| &expect.aggregates);
        for Aggregate { side: _, table: _, filter, by, add, once } in aggregates.filter(|added| added.table == table) {
            filter.iter().for_each(|filter| filter.columns(out));
            by.iter().chain([add]).chain(once).for_each(|term| term.columns(out));
        }
    }

    /// Whether some invariant is about rows of a table.
    pub(super) fn asks(&self, table: Table) -> bool {
        self.expects().iter().any(|expect| expect.aggregates.iter().any(|aggregate| aggregate.table == table))
    }

    fn tell(&self, table: Table, values: &[Value], say: &mut dyn FnMut(Contribution)) {
        if self.asks(table) {
            let row = Looked::new(values);
            self.expects().iter().for_each(|expect| expect.tell(table, &row, say));
        }
    }
}

/// A group for which an invariant does not hold.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Broken {
    /// The invariant.
    pub expect: RuleId,
    /// The group.
    pub group: Vec<Value>,
    /// The sum before the relation.
    pub left: i128,
    /// The sum behind it.
    pub right: i128,
}

/// The sums of one group.
#[derive(Debug, Clone, Default)]
struct Sums {
    plain: [i128; 2],
    once: [BTreeMap<Vec<Value>, i128>; 2],
}

impl Sums {
    fn of(&self, side: Side) -> i128 {
        self.once[side as usize].values().fold(self.plain[side as usize], |sum, amount| sum.saturating_add(*amount))
    }
}

/// The sums of every group in memory: for one unit, examples, and one partition of a full run.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    sums: BTreeMap<(RuleId, Vec<Value>), Sums>,
    aside: BTreeSet<(RuleId, Vec<Value>)>,
}

impl Tally {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a contribution.
    pub fn add(&mut self, contribution: Contribution) {
        let Contribution { expect, side, group, once, amount } = contribution;
        let sums = self.sums.entry((expect, group)).or_default();
        match once {
            None => sums.plain[side as usize] = sums.plain[side as usize].saturating_add(amount),
            Some(once) => {
                let counted = sums.once[side as usize].entry(once).or_insert(amount);
                *counted = (*counted).max(amount);
            }
        }
    }

    /// Sets a group aside, so that it is not judged: what is told belongs to a unit of which some part is parked, and the
    /// target may hold its other parts or not.
    pub fn set_aside(&mut self, told: Contribution) {
        self.aside.insert((told.expect, told.group));
    }

    /// Adds what another worker saw.
    pub fn merge(&mut self, other: Tally) {
        self.aside.extend(other.aside);
        for ((expect, group), sums) in other.sums {
            for (side, at) in [(Side::Left, 0), (Side::Right, 1)] {
                let plain = sums.plain[at];
                self.add(Contribution { expect, side, group: group.clone(), once: None, amount: plain });
            }
            for (side, once) in [Side::Left, Side::Right].into_iter().zip(sums.once) {
                for (once, amount) in once {
                    self.add(Contribution { expect, side, group: group.clone(), once: Some(once), amount });
                }
            }
        }
    }

    /// Groups that each invariant is judged by.
    pub fn groups(&self) -> BTreeMap<RuleId, u64> {
        let mut groups = BTreeMap::new();
        for (expect, _) in self.sums.keys().filter(|group| !self.aside.contains(group)) {
            *groups.entry(*expect).or_default() += 1;
        }
        groups
    }

    /// Groups that were set aside.
    pub fn not_judged(&self) -> usize {
        self.aside.len()
    }

    /// Groups for which an invariant does not hold, in order.
    pub fn broken(&self, rules: &Ruleset) -> Vec<Broken> {
        let mut broken = Vec::new();
        for expect in rules.expects() {
            // Groups of one invariant stand together in the map.
            let first = (expect.rule, Vec::new());
            for (at, sums) in self.sums.range(first..).take_while(|((rule, _), _)| *rule == expect.rule) {
                let (left, right) = (sums.of(Side::Left), sums.of(Side::Right));
                if !expect.holds(left, right) && !self.aside.contains(at) {
                    broken.push(Broken { expect: expect.rule, group: at.1.clone(), left, right });
                }
            }
        }
        broken
    }
}

//! What a migration's files mean for placing rows, and for groups.

use std::collections::BTreeSet;

use super::plan::Emit;
use super::schema::SourceTable;
use super::term::Term;

/// What names the unit of a table's rows.
#[derive(Debug, Clone)]
pub(super) struct Route {
    /// The unit's id, as text.
    pub unit: Term,
    /// What becomes of a row whose id is null.
    pub unresolved: Unresolved,
    /// Reasons of quarantine, each with a term that is not null for the rows it holds for; asked before the id.
    pub refuse: Vec<(Box<str>, Term)>,
}

/// What becomes of a row that no route leads to a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unresolved {
    /// It waits.
    Wait,
    /// It is quarantined.
    Quarantine(Box<str>),
}

/// Which rows of a table are evaluated together.
#[derive(Debug, Clone)]
pub(super) enum PartRule {
    /// All of the unit's, with those of other such tables.
    Whole,
    /// Each row by itself.
    Row,
    /// Those with equal values of these terms.
    Group(Vec<Term>),
}

/// How a table's rows are placed and counted.
#[derive(Debug, Clone)]
pub(super) struct TablePlan {
    /// The route; `None` for a lookup.
    pub route: Option<Route>,
    /// The parts.
    pub part: PartRule,
    /// Counts, each with its condition.
    pub counted: Vec<(Box<str>, Term)>,
    /// Terms of shapes that may refuse a row and read nothing but it.
    pub refusing: Vec<Term>,
    /// Columns that some term reads.
    pub read: Vec<usize>,
    /// Columns that rows are placed by, and those of their key.
    pub placing: Vec<usize>,
    /// Index of the map that alone makes something of the rows, if there is one.
    pub lone: Option<usize>,
    /// For each column of that map's target the column that it copies, where a copy of a row alone is all that becomes of it.
    pub copied: Option<Vec<Option<usize>>>,
}

impl TablePlan {
    /// Columns that rows are placed by, and those of a key.
    pub(super) fn placed_by(&self, key: &[usize]) -> Vec<usize> {
        let route = self.route.iter().flat_map(|route| route.refuse.iter().map(|(_, term)| term).chain([&route.unit]));
        let part = match &self.part {
            PartRule::Whole | PartRule::Row => &[][..],
            PartRule::Group(terms) => terms,
        };
        let columns: BTreeSet<usize> = route.chain(part).flat_map(Term::columns).chain(key.iter().copied()).collect();
        columns.into_iter().collect()
    }
}

/// How rows of a table are found by those of others.
#[derive(Debug, Clone)]
pub(super) struct Reference {
    /// The table whose rows are found.
    pub table: SourceTable,
    /// The key that such a row is found by.
    pub key: Vec<Term>,
    /// What is seen of it.
    pub select: Vec<Select>,
}

/// A value that is seen of a row found.
#[derive(Debug, Clone)]
pub(super) enum Select {
    /// A term over it.
    Term(Term),
    /// Why it cannot be mapped; null when it can.
    Refused,
}

/// Rows of one key become one row.
#[derive(Debug, Clone)]
pub(super) struct Group {
    /// Source table.
    pub from: SourceTable,
    /// Terms that tell groups of a part apart.
    pub by: Vec<Term>,
    /// Terms that order the rows.
    pub order: Vec<Term>,
    /// Reason for which all rows but the first are dropped.
    pub others: Option<Box<str>>,
    /// What a group adds to the sums of its unit, by index.
    pub totals: Vec<(usize, Term)>,
    /// What the terms below use of the rows together.
    pub aggregates: Vec<Aggregate>,
    /// Target row: terms over the first row and the aggregates.
    pub emit: Emit,
}

/// What rows of a group come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Aggregate {
    /// How.
    pub kind: AggregateKind,
    /// Value of one row.
    pub of: Term,
    /// Which rows count.
    pub filter: Option<Term>,
}

/// How values of rows come together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum AggregateKind {
    /// The first row's.
    First,
    /// The last row's.
    Last,
    /// The smallest.
    Min,
    /// The greatest.
    Max,
    /// The sum; one beyond 64 bits is refused.
    Sum {
        /// The reason.
        refuse: Box<str>,
    },
    /// Whether one holds.
    Any,
    /// Whether all hold.
    All,
    /// All of them, as a JSON array.
    List {
        /// Each value once or as often as it comes.
        each: Each,
        /// Which rows.
        rows: Listed,
    },
}

/// How often a list holds one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Each {
    /// Once.
    Once,
    /// As often as it comes.
    Always,
}

/// Which rows of a group a list is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Listed {
    /// All.
    All,
    /// All but the first.
    AfterFirst,
}

//! The rules of one migration, bound to its tables.

use super::expect::Expect;
use super::table::TableRules;
use crate::mapping::Migration;
use crate::target::TargetTable;

/// A rule: its place among all rules of its set, in the order of [`Ruleset::describe`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleId(pub u16);

/// How two rows came to be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pair {
    /// They have the same key, and the target's row is ours.
    Key,
    /// They have the same key, and someone else wrote the target's row.
    Foreign,
    /// They were paired by what a `match` names, because their keys differ: someone else wrote the target's row.
    Match,
}

/// Which pairs a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum When {
    /// All of them.
    Always,
    /// Those whose target row someone else wrote.
    Foreign,
    /// Those paired by a `match`.
    Matched,
}

impl When {
    /// Whether a pair is among them.
    pub(super) fn meant(self, pair: Pair) -> bool {
        match self {
            Self::Always => true,
            Self::Foreign => pair != Pair::Key,
            Self::Matched => pair == Pair::Match,
        }
    }

    /// Whether every pair of the other's is among them.
    pub(super) fn covers(self, other: When) -> bool {
        self == Self::Always || self == other || other == Self::Matched
    }
}

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RuleKind {
    /// Says which target rows are ours to judge.
    Scope,
    /// Says which rows the target may have let go.
    Retention,
    /// Makes values alike before they are compared.
    Normalise,
    /// Leaves a field out.
    Ignore,
    /// Pairs rows by other fields than their key.
    Match,
    /// Lets two values stand for one another that are near.
    Tolerate,
    /// Excuses a difference for a time.
    Waive,
    /// An invariant that does not go through the mapping.
    Expect,
}

impl RuleKind {
    /// The word for it in the file.
    pub fn word(self) -> &'static str {
        match self {
            Self::Scope => "scope",
            Self::Retention => "retention",
            Self::Normalise => "normalise",
            Self::Ignore => "ignore",
            Self::Match => "match",
            Self::Tolerate => "tolerate",
            Self::Waive => "waive",
            Self::Expect => "expect",
        }
    }
}

/// A rule as a report tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleText {
    /// What it does.
    pub kind: RuleKind,
    /// Target table; of an invariant the first that it is about, and none when it is about legacy tables alone.
    pub table: Option<Box<str>>,
    /// Fields, as written; none for a rule about whole rows.
    pub fields: Vec<Box<str>>,
    /// What it does to them, in its own words: `trim, lower`, `within 0.01`; of an invariant its name.
    pub says: Box<str>,
    /// Why it is there.
    pub reason: Box<str>,
    /// Who wrote it; a waiver always has one.
    pub author: Option<Box<str>>,
    /// The last day on which it holds; a waiver always has one.
    pub until: Option<jiff::civil::Date>,
    /// Line in its file, from 1.
    pub line: usize,
}

/// The rules of one migration.
#[derive(Debug, Clone)]
pub struct Ruleset {
    pub(super) id: [u8; 32],
    pub(super) whole: [u8; 32],
    pub(super) tables: Vec<TableRules>,
    pub(super) expects: Vec<Expect>,
    pub(super) texts: Vec<RuleText>,
}

impl Ruleset {
    /// No rules: every column is compared, strictly.
    pub fn none(migration: &Migration) -> Self {
        let tables = migration.target_tables().iter().map(TableRules::none).collect();
        Self { id: meaning(""), whole: meaning(""), tables, expects: Vec::new(), texts: Vec::new() }
    }

    /// Digest of what the rules mean, for the key of every digest of compared rows: reasons, names, authors, ends, comments
    /// and layout do not count. Two sets with one id compare alike; digests under two ids must not be compared.
    pub fn id(&self) -> [u8; 32] {
        self.id
    }

    /// As [`id`](Self::id), of waivers and invariants too: what was noted by one set of rules is to be judged by it.
    pub fn whole(&self) -> [u8; 32] {
        self.whole
    }

    /// The rules of a target table.
    ///
    /// # Panics
    /// When the table is not of this migration.
    pub fn table(&self, table: TargetTable) -> &TableRules {
        &self.tables[usize::from(table.0)]
    }

    /// The invariants.
    pub fn expects(&self) -> &[Expect] {
        &self.expects
    }

    /// Every rule, for reports; a [`RuleId`] is an index into them.
    pub fn describe(&self) -> &[RuleText] {
        &self.texts
    }
}

/// Digest of a normal form of rules.
pub(super) fn meaning(text: &str) -> [u8; 32] {
    blake3::derive_key("rehome reconcile rules v1", text.as_bytes())
}

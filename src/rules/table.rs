//! The rules of one target table: which rows are ours, what they are compared as, how they are paired.

use std::collections::BTreeMap;

use super::form::Cell;
use super::normalise::Change;
use super::path::{Pattern, Step, edit};
use super::ruleset::{Pair, RuleId, When};
use super::term::{Condition, Looked, Term};
use super::tolerate::Tolerance;
use super::uses::Uses;
use crate::event::encoding::ordered;
use crate::event::{Key, Timestamp, Value};
use crate::mapping::schema::{Kind, TargetTableDef};
use crate::target::{TargetKey, TargetRow};

/// Whether a target row is ours to judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judged {
    /// It is.
    Ours,
    /// By this rule it is not: it counts as out of scope.
    OutOfScope(RuleId),
    /// It is, but by this rule the target may have let it go: when it is missing it counts as expired, and when it is there
    /// it is compared like any other.
    Expired(RuleId),
}

/// What a row is paired by where its key is not the other's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pairing {
    /// The rule.
    pub rule: RuleId,
    /// Rows of one group are paired with one another.
    pub group: Vec<Value>,
    /// Their order within the group: the first of one side is paired with the first of the other.
    pub order: Vec<u8>,
}

/// A rule about fields.
#[derive(Debug, Clone)]
pub(super) struct FieldRule<T> {
    /// The rule.
    pub rule: RuleId,
    /// The field.
    pub place: Pattern,
    /// The pairs that it is about.
    pub when: When,
    /// The rows that it is about; all when absent.
    pub filter: Option<Condition>,
    /// What it does.
    pub what: T,
}

/// How rows are paired by other fields than their key.
#[derive(Debug, Clone)]
pub(super) struct Matching {
    /// The rule.
    pub rule: RuleId,
    /// The group.
    pub by: Vec<Term>,
    /// The order within it.
    pub order: Vec<Term>,
}

/// A finding that a waiver excuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Finding {
    /// A field differs.
    Changed,
    /// The target lacks the row.
    Missing,
    /// The target has a row too many.
    Extra,
}

/// A waiver.
#[derive(Debug, Clone)]
pub(super) struct Waiver {
    /// The rule.
    pub rule: RuleId,
    /// What it excuses.
    pub finding: Finding,
    /// Fields; none for any field, and for whole rows.
    pub places: Vec<Pattern>,
    /// Rows; all when absent.
    pub filter: Option<Condition>,
}

/// The rules of one target table.
#[derive(Debug, Clone)]
pub struct TableRules {
    /// Columns in the order of rows.
    pub(super) columns: Vec<Box<str>>,
    /// Index of the column that holds the whole item; `None` where the target is not DynamoDB.
    pub(super) item: Option<usize>,
    /// Places of the key.
    pub(super) key: Vec<Pattern>,
    /// A row is ours when one of these holds, or when there is none.
    pub(super) scope: Vec<(RuleId, Condition)>,
    /// Rows whose time is before this may be gone.
    pub(super) retention: Vec<(RuleId, Term, Timestamp)>,
    /// In the order written, each applied to what the one before left.
    pub(super) normalise: Vec<FieldRule<Vec<Change>>>,
    pub(super) ignore: Vec<FieldRule<()>>,
    pub(super) tolerate: Vec<FieldRule<Tolerance>>,
    pub(super) matching: Option<Matching>,
    pub(super) waive: Vec<Waiver>,
}

impl TableRules {
    /// No rules for a table.
    pub(super) fn none(table: &TargetTableDef) -> Self {
        let item = table.columns.iter().position(|column| column.kind == Kind::Native);
        let key = table.key.iter().map(|&column| match item {
            None => Pattern { column, steps: Vec::new() },
            Some(item) => Pattern { column: item, steps: vec![Step::Member(table.columns[column].name.clone())] },
        });
        Self {
            columns: table.columns.iter().map(|column| column.name.clone()).collect(),
            key: key.collect(),
            item,
            scope: Vec::new(),
            retention: Vec::new(),
            normalise: Vec::new(),
            ignore: Vec::new(),
            tolerate: Vec::new(),
            matching: None,
            waive: Vec::new(),
        }
    }

    /// Whether a row is ours to judge; counts a use of the rule for each row that is not, or that may be gone.
    pub fn scope(&self, row: &TargetRow, uses: &mut Uses) -> Judged {
        if self.scope.is_empty() && self.retention.is_empty() {
            return Judged::Ours;
        }
        let looked = Looked::new(&row.values);
        if let Some((first, _)) = self.scope.first()
            && !self.scope.iter().any(|(_, condition)| condition.holds(&looked))
        {
            uses.add(*first);
            return Judged::OutOfScope(*first);
        }
        for (rule, time, cut) in &self.retention {
            if matches!(&*time.eval(&looked), Value::Timestamp(time) if time < cut) {
                uses.add(*rule);
                return Judged::Expired(*rule);
            }
        }
        Judged::Ours
    }

    /// The key by which a row is paired: its key, as it is compared. A number of DynamoDB is in one writing, and what a rule
    /// makes alike is alike in keys too.
    pub fn key(&self, row: &TargetRow) -> TargetKey {
        let values = if self.item.is_none() && !self.key_is_normalised() {
            self.key.iter().map(|place| Cell::of(&row.values[place.column]).into_value()).collect()
        } else {
            let cells = self.normalised(row, Pair::Key, None);
            let at = |place: &Pattern| cells[place.column].value().and_then(|value| member(value, &place.steps));
            self.key.iter().map(|place| at(place).cloned().unwrap_or(Value::Null)).collect()
        };
        TargetKey::new(row.table, values)
    }

    /// The values of [`key`](Self::key) where they are those of the row, as for most rows; `None` where they have to be made.
    pub fn key_as_it_is<'r>(&'r self, row: &'r TargetRow) -> Option<impl Iterator<Item = &'r Value>> {
        let one_writing = |value: &Value| !matches!(value, Value::Json(_) | Value::Float(_) | Value::Decimal(_));
        let values = || self.key.iter().map(|place| &row.values[place.column]);
        (self.item.is_none() && !self.key_is_normalised() && values().all(one_writing)).then(values)
    }

    /// Whether a rule changes columns of the key.
    fn key_is_normalised(&self) -> bool {
        let touched = |place: &Pattern| about(&self.normalise, Pair::Key).any(|rule| rule.place.column == place.column);
        self.key.iter().any(touched)
    }

    /// As [`key`](Self::key), where of a row no more is known than the values of its key, as a record keeps them.
    pub fn key_alone(&self, key: &TargetKey) -> TargetKey {
        let mut values = vec![Value::Null; self.columns.len()];
        let mut item = BTreeMap::new();
        for (place, value) in self.key.iter().zip(&key.values) {
            match place.steps.first() {
                Some(Step::Member(name)) => drop(item.insert(name.clone(), value.clone())),
                _ => values[place.column].clone_from(value),
            }
        }
        if let Some(column) = self.item {
            values[column] = Value::Map(item);
        }
        self.key(&TargetRow { table: key.table, values })
    }

    /// Appends what a row is compared as: normalised values, ignored fields out. Two rows that no rule would tell apart give
    /// the same bytes, and two that some rule does give others (I10).
    ///
    /// Counts a use of every rule that changed something in the row, or left something out of it.
    pub fn strict(&self, row: &TargetRow, pair: Pair, uses: &mut Uses, out: &mut Vec<u8>) {
        let ruled = about(&self.normalise, pair).next().is_some() || about(&self.ignore, pair).next().is_some();
        if !ruled && self.item.is_none() && pair != Pair::Match {
            return row.values.iter().for_each(|value| Cell::put_as_it_is(value, out));
        }
        self.cells(row, pair, Some(uses)).iter().for_each(|cell| cell.put(out));
    }

    /// As [`strict`](Self::strict), without the tolerated fields, and without counting: rows that differ in the strict form
    /// alone are to be judged by [`compare`](Self::compare). Equals the strict form where nothing is tolerated.
    pub fn tolerant(&self, row: &TargetRow, pair: Pair, out: &mut Vec<u8>) {
        let mut cells = self.cells(row, pair, None);
        for rule in about(&self.tolerate, pair) {
            remove(&mut cells, &rule.place);
        }
        cells.iter().for_each(|cell| cell.put(out));
    }

    /// Whether only some rows are ours to judge.
    pub fn has_scope(&self) -> bool {
        !self.scope.is_empty()
    }

    /// Whether some field is tolerated, so that the tolerant form may differ from the strict one.
    pub fn has_tolerance(&self) -> bool {
        !self.tolerate.is_empty()
    }

    /// Whether a pair of rows, or one alone, has to be looked at to judge it, because digests do not tell enough.
    pub fn sees_rows(&self) -> bool {
        let partial = self.normalise.iter().any(|rule| rule.when != When::Always)
            || self.ignore.iter().any(|rule| rule.when != When::Always);
        partial || !self.tolerate.is_empty() || !self.waive.is_empty()
    }

    /// Whether a column, or an attribute of an item, is compared as it is: no rule leaves it out, changes or tolerates it, and no
    /// waiver names it.
    pub fn exact(&self, name: &str) -> bool {
        let touches = |place: &Pattern| match self.item {
            Some(item) => {
                place.column == item && !matches!(place.steps.first(), Some(Step::Member(member)) if **member != *name)
            }
            None => self.columns.get(place.column).is_some_and(|column| **column == *name),
        };
        !self.normalise.iter().map(|rule| &rule.place).any(touches)
            && !self.ignore.iter().map(|rule| &rule.place).any(touches)
            && !self.tolerate.iter().map(|rule| &rule.place).any(touches)
            && !self.excused().flat_map(|waiver| &waiver.places).any(touches)
    }

    /// Whether a waiver excuses a change of whatever field.
    pub fn excuses_any_field(&self) -> bool {
        self.excused().any(|waiver| waiver.places.is_empty())
    }

    fn excused(&self) -> impl Iterator<Item = &Waiver> {
        self.waive.iter().filter(|waiver| waiver.finding == Finding::Changed)
    }

    /// Whether rows may be paired by other fields than their key.
    pub fn has_match(&self) -> bool {
        self.matching.is_some()
    }

    /// What a row is paired by where the other side has no row of its key; `None` where rows pair by key alone.
    ///
    /// Rows are paired by key first, also in such a table: what rehome wrote has our keys, and a wrong one is a difference.
    /// Whatever both sides have left in a group is then paired in order, and of rows at one place the equal ones.
    pub fn pairing(&self, row: &TargetRow) -> Option<Pairing> {
        let matching = self.matching.as_ref()?;
        let looked = Looked::new(&row.values);
        let order = matching.order.iter().map(|term| ordered_value(term.alike(&looked))).collect();
        Some(Pairing {
            rule: matching.rule,
            group: matching.by.iter().map(|term| term.alike(&looked)).collect(),
            order: ordered::key_bytes(&Key(order)),
        })
    }

    /// The cells of a row as they are compared, in the order of columns; of an item that one alone.
    pub(super) fn cells(&self, row: &TargetRow, pair: Pair, mut uses: Option<&mut Uses>) -> Vec<Cell> {
        let mut cells = self.normalised(row, pair, uses.as_deref_mut());
        let looked = Looked::new(&row.values);
        for rule in about(&self.ignore, pair) {
            let meant = rule.filter.as_ref().is_none_or(|filter| filter.holds(&looked));
            if meant
                && remove(&mut cells, &rule.place)
                && let Some(uses) = &mut uses
            {
                uses.add(rule.rule);
            }
        }
        if pair == Pair::Match {
            // They were paired because their keys differ.
            for place in &self.key {
                remove(&mut cells, place);
            }
        }
        cells
    }

    /// The cells of a row after every normalisation, before anything is left out.
    fn normalised(&self, row: &TargetRow, pair: Pair, mut uses: Option<&mut Uses>) -> Vec<Cell> {
        let mut cells: Vec<Cell> = match self.item {
            None => row.values.iter().map(Cell::of).collect(),
            Some(item) => row.values.iter().enumerate().map(|(at, value)| only(at == item, value)).collect(),
        };
        for rule in about(&self.normalise, pair) {
            let column = rule.place.column;
            let cell = std::mem::replace(&mut cells[column], Cell::Out);
            let before = uses.is_some().then(|| cell.clone());
            cells[column] = cell.map(|value| {
                edit(value, &rule.place.steps, &mut |value| {
                    rule.what.iter().fold(value, |value, change| change.apply(value))
                })
            });
            // A document that is nothing is the nothing that it is made one with, whichever way it was written.
            if rule.place.steps.is_empty()
                && rule.what.iter().any(Change::unifies)
                && cells[column] == Cell::Document(Value::Null)
            {
                cells[column] = Cell::Plain(Value::Null);
            }
            if let Some(uses) = &mut uses
                && before.as_ref() != Some(&cells[column])
            {
                uses.add(rule.rule);
            }
        }
        cells
    }
}

/// The rules that are about pairs of a kind.
pub(super) fn about<T>(rules: &[FieldRule<T>], pair: Pair) -> impl Iterator<Item = &FieldRule<T>> {
    rules.iter().filter(move |rule| rule.when.meant(pair))
}

/// Of a row of DynamoDB the item alone: the columns of the key repeat what stands in it.
fn only(item: bool, value: &Value) -> Cell {
    if item { Cell::of_item(value) } else { Cell::Out }
}

/// What stands below a value, by names of members.
fn member<'v>(value: &'v Value, steps: &[Step]) -> Option<&'v Value> {
    steps.iter().try_fold(value, |value, step| match (value, step) {
        (Value::Map(members), Step::Member(name)) => members.get(name),
        _ => None,
    })
}

/// Leaves a field out; whether there was anything.
fn remove(cells: &mut [Cell], place: &Pattern) -> bool {
    let mut found = false;
    let cell = std::mem::replace(&mut cells[place.column], Cell::Out);
    cells[place.column] = cell.map(|value| {
        edit(value, &place.steps, &mut |value| {
            found |= value.is_some();
            None
        })
    });
    found
}

/// A value whose ordered bytes order as its store would: whole decimals as integers, since decimals order by their text.
fn ordered_value(value: Value) -> Value {
    match value {
        Value::Decimal(number) => number.to_i64().map_or(Value::Decimal(number), Value::Int),
        other => other,
    }
}

//! Where a row belongs: its unit, and within it the part that is evaluated, parked and written together.
//!
//! Placing reads the row and what *references* find in other tables; it has no state of its own. Whoever implements
//! [`Look`] records what was asked, so that a change of an answer places again just the rows that had asked.

use super::compile::reason;
use super::datum::{Fault, RowView};
use super::error::ReadError;
use super::eval::key_values;
use super::order;
use super::plan::Migration;
use super::plan_place::{PartRule, Route, Select, TablePlan, Unresolved};
use super::schema::SourceTable;
use super::term::{Env, Term};
use crate::event::{Cell, Key, Row, Value};

/// Longest unit id in bytes: a store's key of 64 KiB has to hold a unit and the key of a row of it.
pub const UNIT_BYTES_MAX: usize = 16 * 1024;

/// Reason for which a row is quarantined that names no unit: its unit is NULL, not text, or too long.
pub const NO_UNIT: &str = "no_unit";

/// Which rows are evaluated and written together within a unit. Ordered with `Whole` last.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// One row, or the rows of one group, of a table that declares parts; the bytes tell parts of one unit apart.
    Of(Box<[u8]>),
    /// The rows of all tables that declare none.
    Whole,
}

/// Where a row belongs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The unit.
    pub unit: Box<str>,
    /// The part of it.
    pub part: Part,
}

/// What comes of placing a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Routed {
    /// It belongs here.
    Placed(Place),
    /// A cell that the route or the part needs is not known yet, or the route says `wait`.
    Waiting,
    /// By the route's policy, or for what the row is ([`NO_UNIT`]).
    Quarantined(Box<str>),
    /// The row's table is a lookup: its rows have no unit.
    Lookup,
}

/// Index of a reference in its migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReferenceId(pub u16);

/// Reads through references.
///
/// **Recorded.** An implementation notes each (reference, key) asked, also those that find nothing.
/// **Ordered.** What is found comes in the order of the keys of the rows that say it.
pub trait Look {
    /// The selected values of every row that a reference finds under a key; nothing when there is none.
    ///
    /// # Errors
    /// [`ReadError`] when the store fails.
    fn find(&self, reference: ReferenceId, key: &[Value]) -> Result<Vec<Vec<Value>>, ReadError>;
}

/// Finds nothing: for migrations without references.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoLook;

impl Look for NoLook {
    fn find(&self, _: ReferenceId, _: &[Value]) -> Result<Vec<Vec<Value>>, ReadError> {
        Ok(Vec::new())
    }
}

/// Longest part in bytes that stands in full; a longer one stands by its digest.
const PART_BYTES_MAX: usize = 256;

/// Stands between the table and the digest of a long part; no value's bytes begin so.
const DIGESTED: u8 = u8::MAX;

/// The bytes of a part: its table, and the values that its rows share.
fn part_bytes(table: SourceTable, values: &[Value]) -> Box<[u8]> {
    let mut bytes = table.0.to_be_bytes().to_vec();
    values.iter().for_each(|value| order::name(value, &mut bytes));
    if bytes.len() > PART_BYTES_MAX {
        let digest = *blake3::hash(&bytes).as_bytes();
        bytes.truncate(2);
        bytes.push(DIGESTED);
        bytes.extend(digest);
    }
    bytes.into()
}

/// The table of a part's rows.
pub(super) fn part_table(bytes: &[u8]) -> Option<SourceTable> {
    Some(SourceTable(u16::from_be_bytes(*bytes.first_chunk()?)))
}

/// The values of a row whose cells at `needed` are all known; NULL stands for the others that are not.
fn known(row: &Row, needed: impl IntoIterator<Item = usize>) -> Option<Vec<Value>> {
    let there = needed.into_iter().all(|column| matches!(row.0.get(column), Some(Cell::Value(_))));
    let value = |cell: &Cell| cell.value().cloned().unwrap_or(Value::Null);
    there.then(|| row.0.iter().map(value).collect())
}

/// The values of the cells at `needed`, where they are all known; NULL stands for all others.
fn only(row: &Row, needed: impl IntoIterator<Item = usize>) -> Option<Vec<Value>> {
    let mut values = vec![Value::Null; row.0.len()];
    for column in needed {
        values.get_mut(column)?.clone_from(row.0.get(column)?.value()?);
    }
    Some(values)
}

impl Migration {
    /// Every reference, with the table whose rows it finds.
    pub fn references(&self) -> impl Iterator<Item = (ReferenceId, SourceTable)> + '_ {
        let numbered = self.references.iter().enumerate();
        numbered.map(|(index, reference)| (ReferenceId(u16::try_from(index).unwrap_or(u16::MAX)), reference.table))
    }

    /// Under which key a row is found through a reference, and what it says there.
    ///
    /// `row` holds the cells in the order of `legacy.toml`. A value that cannot be read is kept as the fault that it is, which
    /// whoever asks for it meets. `None` when a part of the key is NULL, or a cell that the
    /// reference reads is missing.
    pub fn entry(&self, reference: ReferenceId, row: &Row) -> Option<(Vec<Value>, Vec<Value>)> {
        let plan = self.references.get(usize::from(reference.0))?;
        let refusing = &self.tables[usize::from(plan.table.0)].refusing;
        let selected = plan.select.iter().flat_map(|select| match select {
            Select::Term(term) => std::slice::from_ref(term),
            Select::Refused => refusing,
        });
        let needed = plan.key.iter().chain(selected).flat_map(Term::columns);
        let values = known(row, needed)?;
        let view = RowView::new(&values);
        let env = Env { row: Some(&view), ..Env::plain(&self.namespace) };
        let key = key_values(&plan.key, env).ok()??;
        let select = |select: &Select| match select {
            // Whether the target could hold it is for the row that asks.
            Select::Term(term) => match term.eval(env) {
                Ok(datum) => datum.into_seen(),
                // There is nothing to look up in, so nothing fails to be read.
                Err(fault) => fault.into_kept().unwrap_or(Value::Null),
            },
            Select::Refused => match self.refusal(plan.table, &values) {
                Ok(Some(reason)) => Value::Text(reason),
                Ok(None) | Err(_) => Value::Null,
            },
        };
        Some((key, plan.select.iter().map(select).collect()))
    }

    /// Places a row; `row` holds the cells in the order of `legacy.toml`.
    ///
    /// Counts that depend on the way a row took belong to the evaluation of its part, not to this.
    ///
    /// # Errors
    /// [`ReadError`] when `look` fails.
    pub fn place(&self, table: SourceTable, key: &Key, row: &Row, look: &dyn Look) -> Result<Routed, ReadError> {
        let Some(plan) = self.tables.get(usize::from(table.0)) else { return Ok(Routed::Waiting) };
        let Some(route) = &plan.route else { return Ok(Routed::Lookup) };
        let group: &[Term] = if let PartRule::Group(terms) = &plan.part { terms } else { &[] };
        let refuse = route.refuse.iter().map(|(_, term)| term);
        let needed = refuse.chain([&route.unit]).chain(group).flat_map(Term::columns);
        let Some(values) = only(row, needed) else { return Ok(Routed::Waiting) };
        self.place_whole(table, key, &values, look)
    }

    /// As [`Self::place`], of a row whose cells are all known.
    ///
    /// # Errors
    /// [`ReadError`] when what the row refers to cannot be read.
    pub fn place_whole(
        &self,
        table: SourceTable,
        key: &Key,
        values: &[Value],
        look: &dyn Look,
    ) -> Result<Routed, ReadError> {
        let Some(plan) = self.tables.get(usize::from(table.0)) else { return Ok(Routed::Waiting) };
        let Some(route) = &plan.route else { return Ok(Routed::Lookup) };
        let view = RowView::new(values);
        let env = Env { row: Some(&view), look, ..Env::plain(&self.namespace) };
        match self.placed(plan, route, (table, key), env) {
            Ok(routed) => Ok(routed),
            Err(fault) => fault.into_reason().map(Routed::Quarantined),
        }
    }

    /// Place of a reason among those that the mapping declares.
    pub(super) fn rank(&self, reason: &str) -> usize {
        self.reasons.iter().position(|known| **known == *reason).unwrap_or(usize::MAX)
    }

    /// Why a row cannot be mapped, as far as it can be told from the row alone; of several reasons the first declared.
    pub(super) fn refusal(&self, table: SourceTable, values: &[Value]) -> Result<Option<Box<str>>, ReadError> {
        let plan = &self.tables[usize::from(table.0)];
        if self.refuses_nul(table, values) {
            return Ok(Some(reason::NOT_STORABLE.into()));
        }
        if plan.refusing.is_empty() {
            return Ok(None);
        }
        let view = RowView::new(values);
        let env = Env { row: Some(&view), ..Env::plain(&self.namespace) };
        let mut first: Option<Box<str>> = None;
        for term in &plan.refusing {
            if let Err(fault) = term.eval(env) {
                let reason = fault.into_reason()?;
                if first.as_ref().is_none_or(|first| self.rank(&reason) < self.rank(first)) {
                    first = Some(reason);
                }
            }
        }
        Ok(first)
    }

    /// What rows are placed by beside the columns that name their units: kept places are good as long as it is the same.
    ///
    /// `None` where the columns are all there is; else a digest that changes at least with every way of placing.
    pub fn placing(&self) -> Option<[u8; 32]> {
        let plain = self.references.is_empty()
            && self
                .sources
                .iter()
                .zip(&self.tables)
                .all(|(source, plan)| source.unit.is_some() && matches!(plan.part, PartRule::Whole));
        (!plain).then_some(self.generation)
    }

    /// Places a row whose cells are known.
    fn placed(&self, plan: &TablePlan, route: &Route, row: (SourceTable, &Key), env: Env<'_>) -> Result<Routed, Fault> {
        for (reason, term) in &route.refuse {
            if !term.eval(env)?.null() {
                return Ok(Routed::Quarantined(reason.clone()));
            }
        }
        let found = route.unit.eval(env)?;
        if found.null() {
            return Ok(match &route.unresolved {
                Unresolved::Wait => Routed::Waiting,
                Unresolved::Quarantine(reason) => Routed::Quarantined(reason.clone()),
            });
        }
        let unit: Box<str> = match found.into_value()? {
            Value::Text(text) => text,
            Value::Int(number) => number.to_string().into(),
            Value::Uuid(uuid) => uuid.to_string().into(),
            _ => return Ok(Routed::Quarantined(NO_UNIT.into())),
        };
        if unit.len() > UNIT_BYTES_MAX {
            return Ok(Routed::Quarantined(NO_UNIT.into()));
        }
        let (table, key) = row;
        let part = match &plan.part {
            PartRule::Whole => Part::Whole,
            PartRule::Row => Part::Of(part_bytes(table, &key.0)),
            PartRule::Group(terms) => {
                let mut values = Vec::with_capacity(terms.len());
                for term in terms {
                    values.push(term.eval(env)?.into_held(self.target_store)?);
                }
                Part::Of(part_bytes(table, &values))
            }
        };
        Ok(Routed::Placed(Place { unit, part }))
    }

    /// How many sums each unit has; see [`Evaluation::totals`](super::Evaluation::totals).
    pub fn totals(&self) -> usize {
        self.totals.len()
    }
}

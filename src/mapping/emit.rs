//! From terms to target rows: one for a row, or for what a shape worked out, each under a key that no other has.

use std::borrow::Cow;
use std::collections::HashMap;

use super::compile::reason;
use super::datum::{Datum, Fault, RowView};
use super::evaluate::{Known, Parked, Run, Stop, stop};
use super::order;
use super::plan::{Emit, Migration, RowMap, Scope};
use super::rows::SourceRow;
use super::schema::SourceTable;
use super::term::{Env, Output};
use crate::event::{Key, Value};
use crate::target::TargetRow;

/// What a target row is made of.
#[derive(Clone, Copy)]
pub(super) enum Origin<'a> {
    /// What a shape worked out.
    Shape,
    /// One row.
    Row(SourceTable, &'a SourceRow),
    /// Rows of a group, of which this is the first.
    Group(SourceTable, &'a SourceRow),
}

impl<'a> Origin<'a> {
    fn row(self) -> Option<(SourceTable, &'a SourceRow)> {
        match self {
            Origin::Shape => None,
            Origin::Row(table, row) | Origin::Group(table, row) => Some((table, row)),
        }
    }
}

/// The row that a target row stands for, when it is one.
type Behind = Option<(SourceTable, Key)>;

/// The target keys so far. Most parts make one row, whose key is met by no other: digests begin with the second.
#[derive(Default)]
pub(super) struct Keys {
    first: Option<(Vec<u8>, Behind)>,
    digests: HashMap<[u8; 32], Behind, foldhash::fast::RandomState>,
}

impl Keys {
    /// Takes a key; answers with what stands behind the one that it was before, if it was.
    fn insert(&mut self, key: Vec<u8>, behind: Behind) -> Option<Behind> {
        let digest = |key: &[u8]| *blake3::hash(key).as_bytes();
        match self.first.take() {
            None if self.digests.is_empty() => {
                self.first = Some((key, behind));
                return None;
            }
            None => {}
            Some((first, behind)) => drop(self.digests.insert(digest(&first), behind)),
        }
        self.digests.insert(digest(&key), behind)
    }
}

impl Migration {
    /// The values of a target row.
    pub(super) fn values_of(&self, emit: &Emit, env: Env<'_>) -> Result<Vec<Value>, Fault> {
        let mut values = Vec::with_capacity(emit.terms.len());
        for term in &emit.terms {
            values.push(match term {
                Some(term) => term.eval(env)?.into_held(self.target_store)?,
                None => Value::Null,
            });
        }
        match self.key_refusal(emit.table, &values) {
            Some(reason) => Err(Fault::Refused(reason.into())),
            None => Ok(values),
        }
    }
}

impl Run<'_> {
    /// A row map over all rows of its table.
    pub(super) fn map(&mut self, map: &RowMap, known: &Known) -> Result<(), Stop> {
        let json =
            |json: &Option<crate::event::Json>| json.clone().map_or(Datum::NULL, |json| Datum::Json(Cow::Owned(json)));
        let value = |value: &Option<Value>| Datum::Value(Cow::Owned(value.clone().unwrap_or(Value::Null)));
        let status = known.tally.status.as_deref().map(Value::text);
        let outputs = [
            (Output::RequestModel, json(&known.tally.request_model)),
            (Output::ChunkModel, json(&known.tally.chunk_model)),
            (Output::CompletionStatus, value(&status)),
            (Output::ResponseOriginal, value(&known.original)),
            (Output::ResponseModified, value(&known.modified)),
        ];
        // A row that is quarantined is there, and was read: no other one is made up beside its account.
        let found = self.accounts.tables.get(&map.from).is_some_and(|account| account.read > 0);
        self.each(map.from, |run, row| run.emit(&map.emit, Origin::Row(map.from, row), &outputs, &[]).map(drop))?;
        let (false, Some(made), Some(earliest)) = (found, &map.synthesise, self.earliest) else { return Ok(()) };
        let given = [
            (Output::Unit, Datum::Value(Cow::Owned(self.unit.clone()))),
            (Output::Earliest, Datum::Value(Cow::Owned(Value::Timestamp(earliest)))),
        ];
        let mut values = vec![Value::Null; self.migration.sources[usize::from(map.from.0)].columns.len()];
        let key = Key(Vec::new());
        for (column, term) in &made.values {
            let datum = term.eval(Env { outputs: &given, ..self.env() }).and_then(Datum::into_value);
            values[*column] = datum.map_err(|fault| stop(fault, map.from, &key))?;
        }
        *self.counts.entry(made.count.clone()).or_default() += 1;
        self.emit(&map.emit, Origin::Group(map.from, &SourceRow { key, values }), &outputs, &[]).map(drop)
    }

    /// Writes one target row; answers with the value of its key when that is a single column.
    pub(super) fn emit(
        &mut self,
        emit: &Emit,
        origin: Origin<'_>,
        outputs: &[(Output, Datum<'_>)],
        aggregates: &[Datum<'_>],
    ) -> Result<Option<Value>, Stop> {
        let mut all: Vec<(Output, Datum<'_>)> = Vec::with_capacity(1 + outputs.len());
        all.push((Output::Unit, Datum::Value(Cow::Borrowed(&self.unit))));
        all.extend(outputs.iter().map(|(output, datum)| (*output, datum.reborrow())));
        let view = origin.row().map(|(_, row)| RowView::new(&row.values));
        let env = Env { row: view.as_ref(), outputs: &all, aggregates, ..self.env() };
        let values = match self.migration.values_of(emit, env) {
            Ok(values) => values,
            Err(fault) => return self.refuse(fault, origin).map(|()| None),
        };
        let table = &self.migration.targets[usize::from(emit.table.0)];
        let mut bytes = emit.table.0.to_be_bytes().to_vec();
        table.key.iter().for_each(|column| order::encode(&values[*column], &mut bytes));
        let behind = match origin {
            Origin::Row(table, row) => Some((table, row.key.clone())),
            Origin::Shape | Origin::Group(..) => None,
        };
        if let Some(other) = self.keys.insert(bytes, behind) {
            self.collide(other, origin)?;
        }
        let id = match table.key.as_slice() {
            [only] => Some(values[*only].clone()),
            _ => None,
        };
        self.rows.push(TargetRow { table: emit.table, values });
        Ok(id)
    }

    /// Refuses the row behind a target row, or ends the evaluation.
    pub(super) fn refuse(&mut self, fault: Fault, origin: Origin<'_>) -> Result<(), Stop> {
        let reason = fault.into_reason()?;
        let row_alone = self.migration.quarantine_scope(&reason) == Some(Scope::Row);
        match origin {
            Origin::Row(table, row) if row_alone => {
                self.refused.insert((table, row.key.clone()), reason);
                Ok(())
            }
            _ => {
                let row = origin.row();
                let (table, key) = (row.map(|(table, _)| table), row.map(|(_, row)| row.key.clone()));
                Err(Stop::Park(Parked { reason, table, key }))
            }
        }
    }

    /// Two rows for one target key: both are refused, or the part is parked.
    fn collide(&mut self, other: Option<(SourceTable, Key)>, origin: Origin<'_>) -> Result<(), Stop> {
        let reason: Box<str> = reason::KEY_COLLISION.into();
        match (other, origin) {
            (Some(other), Origin::Row(table, row)) if self.migration.quarantine_scope(&reason) == Some(Scope::Row) => {
                self.refused.entry(other).or_insert_with(|| reason.clone());
                self.refused.entry((table, row.key.clone())).or_insert(reason);
                Ok(())
            }
            _ => self.refuse(
                Fault::Refused(reason),
                match origin {
                    Origin::Row(table, row) => Origin::Group(table, row),
                    other => other,
                },
            ),
        }
    }
}

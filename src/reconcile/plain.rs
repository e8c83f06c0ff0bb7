//! Rows that are compared as they were read: digested many at once, and decoded only as far as rules ask.
//!
//! What comes of them is what [`Emitter::row`](super::emit::Emitter::row) makes of the same rows.

use std::ops::Range;

use super::Error;
use super::context::{Context, short};
use super::emit::{Work, hash_of};
use super::lanes::{Digest, Messages};
use super::record::Joined;
use crate::event::encoding::{FORMAT, empty, put_varint};
use crate::event::{Canonical as _, EncodedRow, Reader, Value};
use crate::rules::{Asked, TableRules};
use crate::target::{TargetRow, TargetTable};

/// Rows of a batch: enough that few of them are digested in company of less than the processor takes.
const ROWS: usize = 128;
/// Bytes of a batch, unless one row has more.
const BYTES: usize = 256 * 1024;

/// One of so many rows, chosen by the digests of their keys, is digested alone too, besides those that are planted faults of.
const SHOWN_ONE_IN: u64 = 4_096;

/// Rows of one table.
#[derive(Debug, Default)]
pub(super) struct Batch {
    table: TargetTable,
    rows: Vec<Row>,
    keys: Messages,
    forms: Messages,
    /// Scopes, locators, and rows as they are encoded where that is not their form.
    beside: Vec<u8>,
    key_digests: Vec<Digest>,
    digests: Vec<Digest>,
    /// A row of which only what rules ask is there.
    partial: Vec<Value>,
}

/// Where the parts of a row lie beside its key and form.
#[derive(Debug)]
struct Row {
    scope: Range<usize>,
    locator: Range<usize>,
    /// `None` where the form says it.
    encoded: Option<Range<usize>>,
    transient: bool,
}

impl Batch {
    fn is_full(&self) -> bool {
        self.rows.len() >= ROWS || self.keys.len() + self.forms.len() + self.beside.len() >= BYTES
    }

    fn clear(&mut self) {
        self.rows.clear();
        self.keys.clear();
        self.forms.clear();
        empty(&mut self.beside);
    }

    fn beside(&mut self, put: impl FnOnce(&mut Vec<u8>)) -> Range<usize> {
        let from = self.beside.len();
        put(&mut self.beside);
        from..self.beside.len()
    }

    /// The values of a row.
    fn values(&self, index: usize) -> Result<Vec<Value>, Error> {
        let encoded = self.rows[index].encoded.clone();
        let mut reader = Reader::new(encoded.map_or(self.forms.get(index), |place| &self.beside[place]));
        let mut values = Vec::new();
        while !reader.at_end() {
            values.push(Value::take(&mut reader)?);
        }
        Ok(values)
    }
}

impl Work {
    /// Takes a row of a table of which the context tells what is asked.
    pub(super) fn encoded(
        &mut self,
        context: &Context,
        table: TargetTable,
        row: &EncodedRow,
        scope: &[u8],
    ) -> Result<(), Error> {
        if table != self.batch.table || self.batch.is_full() {
            self.flush(context)?;
            if table != self.batch.table {
                self.batch.table = table;
                self.batch.partial.clear();
            }
        }
        let rules = context.rules.table(table);
        let (Some(asked), Some(key)) = (context.asked(table), rules.plain_key(row)) else {
            return self.row(context, &TargetRow { table, values: row.values()? }, scope);
        };
        let transient = match asked {
            Asked::Nothing => {
                self.tallies[usize::from(table.0)].read += 1;
                false
            }
            Asked::Columns(columns) => {
                let mut values = std::mem::take(&mut self.batch.partial);
                row.values_at(columns, &mut values)?;
                let partial = TargetRow { table, values };
                let judged = self.judged(context, &partial)?;
                self.batch.partial = partial.values;
                let Some(transient) = judged else { return Ok(()) };
                transient
            }
        };
        let batch = &mut self.batch;
        batch.keys.push(|out| key.for_each(|cell| out.extend_from_slice(cell.bytes())));
        let as_it_is = batch.forms.push(|out| TableRules::put_plain(row, out))?;
        let shape = &context.shapes[usize::from(table.0)];
        let row = Row {
            scope: batch.beside(|out| out.extend_from_slice(scope)),
            // As TableShape::put_key writes it.
            locator: batch.beside(|out| {
                out.push(FORMAT);
                put_varint(shape.key.len() as u64, out);
                shape.key.iter().for_each(|column| out.extend_from_slice(row.cell(*column).bytes()));
            }),
            encoded: (!as_it_is).then(|| batch.beside(|out| out.extend_from_slice(row.bytes()))),
            transient,
        };
        self.batch.rows.push(row);
        Ok(())
    }

    /// Makes records of the rows that wait.
    pub(super) fn flush(&mut self, context: &Context) -> Result<(), Error> {
        if self.batch.rows.is_empty() {
            return Ok(());
        }
        let mut batch = std::mem::take(&mut self.batch);
        let table = usize::from(batch.table.0);
        batch.keys.digest(&context.keys[table], &mut batch.key_digests);
        batch.forms.digest(&context.rows[table], &mut batch.digests);
        for (index, row) in batch.rows.iter().enumerate() {
            let (key, strict) = (short(&batch.key_digests[index]), batch.digests[index]);
            let (scope, locator) = (&batch.beside[row.scope.clone()], &batch.beside[row.locator.clone()]);
            let transient = row.transient;
            let chosen = context.canaries.choice(batch.table.0, &key).is_some();
            if chosen || hash_of(&key).is_multiple_of(SHOWN_ONE_IN) {
                // Shadows are made of values. And as they go the long way, nothing that is planted would show a fault of this one: so
                // it is shown here, by rows that nobody knows beforehand, on this very processor, whether anything is planted or not.
                let row = TargetRow { table: batch.table, values: batch.values(index)? };
                if self.compared(context, &row, scope, transient)? != (key, strict) {
                    return Err(Error::Digests { table: context.shapes[table].name.to_string() });
                }
                continue;
            }
            let joined = Joined {
                table: batch.table.0,
                key,
                strict,
                tolerant: strict,
                transient,
                pairing: None,
                scope,
                locator,
                row: &[],
            };
            self.rows.add(hash_of(&key), &strict, |out| joined.put(out))?;
            self.tallies[table].judged.add(&strict);
        }
        batch.clear();
        self.batch = batch;
        Ok(())
    }
}

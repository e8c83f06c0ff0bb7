//! The source's side: rows as they stream in, placed and evaluated by the mapping's own function.
//!
//! Rows of tables that others refer to are read first, because placing a row may ask what they say. A row that is a part of
//! its own is evaluated as it comes; others go through a spill by their unit, and each unit's parts are evaluated together,
//! the whole last, with the sums of the others. What rows say to others is taken from the rows just read, never from the
//! projector's index: where the two disagree, that is a finding.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use serde::{Deserialize, Serialize};

use super::Error;
use super::context::Context;
use super::emit::{Emitter, SideOf, Spills, hash_of};
use super::ledger::Came;
use super::record::{self, Standing};
use super::references::References;
use super::side::{Incoming, Sink};
use super::spill::{Spill, Tag, Writer};
use crate::event::{Canonical as _, EncodedRow, Key, Row, Value};
use crate::mapping::{
    Evaluation, LoneRow, MemoryRows, Place, Routed, SourceRow, SourceTable, TableAccount, UnitRows, evaluate,
};
use crate::target::{TargetRow, TargetTable};

/// What became of the source's rows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceAccount {
    /// Rows handed over by the readers, by table.
    pub read: BTreeMap<SourceTable, u64>,
    /// What the mapping says of those that belong to a unit.
    pub units: BTreeMap<SourceTable, TableAccount>,
    /// Rows that their route quarantines, by reason.
    pub quarantined: BTreeMap<SourceTable, BTreeMap<Box<str>, u64>>,
    /// Rows that wait for others.
    pub waiting: BTreeMap<SourceTable, u64>,
    /// Rows of lookups.
    pub lookup: BTreeMap<SourceTable, u64>,
    /// Parts that the mapping parks, by reason.
    pub parked: BTreeMap<Box<str>, u64>,
    /// What the mapping counts.
    pub counts: BTreeMap<Box<str>, u64>,
}

impl SourceAccount {
    /// Adds what another worker found.
    pub fn merge(&mut self, other: SourceAccount) {
        self.add_units(other.units);
        add(&mut self.read, other.read);
        add(&mut self.waiting, other.waiting);
        add(&mut self.lookup, other.lookup);
        add(&mut self.parked, other.parked);
        add(&mut self.counts, other.counts);
        for (table, reasons) in other.quarantined {
            add(self.quarantined.entry(table).or_default(), reasons);
        }
    }

    /// Adds what the mapping says of other rows; which rows it quarantined is not kept.
    fn add_units(&mut self, units: BTreeMap<SourceTable, TableAccount>) {
        units.into_iter().for_each(|(table, account)| self.units.entry(table).or_default().add(account));
    }

    /// Whether every row that was read is accounted for once.
    pub fn balanced(&self) -> bool {
        let of = |counts: &BTreeMap<SourceTable, u64>, table| counts.get(table).copied().unwrap_or(0);
        self.read.iter().all(|(table, read)| {
            let units = self.units.get(table);
            let quarantined: u64 = self.quarantined.get(table).into_iter().flat_map(BTreeMap::values).sum();
            units.is_none_or(|units| units.told() == units.read)
                && *read
                    == units.map_or(0, |units| units.read)
                        + quarantined
                        + of(&self.waiting, table)
                        + of(&self.lookup, table)
        })
    }
}

fn add<K: Ord>(counts: &mut BTreeMap<K, u64>, more: BTreeMap<K, u64>) {
    more.into_iter().for_each(|(key, count)| *counts.entry(key).or_default() += count);
}

/// What the workers of the source's side share.
pub struct Shared {
    /// What the rows are compared by.
    pub context: Arc<Context>,
    /// Where records go.
    pub spills: Spills,
    /// Rows of tables that others refer to, until all of these are read.
    pub pending: Arc<Spill>,
    /// Rows by their unit.
    pub units: Arc<Spill>,
    /// What rows say to others.
    pub references: RwLock<References>,
}

/// Takes rows of tables that others refer to.
pub struct ReferenceSink {
    shared: Arc<Shared>,
    pending: Writer,
    record: Vec<u8>,
}

impl ReferenceSink {
    /// A sink of one worker.
    pub fn new(shared: &Arc<Shared>) -> Self {
        Self { pending: shared.pending.writer(), record: Vec::new(), shared: Arc::clone(shared) }
    }
}

impl Sink for ReferenceSink {
    fn take(&mut self, table: usize, rows: &mut dyn Incoming) -> Result<(), Error> {
        let source = source_table(table);
        for values in rows {
            let key = self.shared.context.migration.key_of(source, &values);
            let row = row_of(&values);
            let mut references = self.shared.references.write().unwrap_or_else(PoisonError::into_inner);
            references.add(&self.shared.context.migration, source, &key, &row)?;
            drop(references);
            let hash = blake3::hash(&key.encode());
            let hash = u64::from_le_bytes(*hash.as_bytes().first_chunk().unwrap_or(&[0; 8]));
            self.record.clear();
            record::Row::put(&[], source.0, values, &mut self.record);
            let digest = *blake3::hash(&self.record).as_bytes();
            self.pending.add(hash, &digest, |out| out.extend_from_slice(&self.record))?;
        }
        Ok(())
    }

    fn end(&mut self) -> Result<Option<Came>, Error> {
        self.pending.finish()?;
        Ok(None)
    }
}

/// Where evaluated parts go.
pub trait Outlet: Send + 'static {
    /// Whether a part is evaluated; rows of others are in no account but that of rows read.
    fn wants(&self, place: &Place) -> bool;

    /// Whether nobody has to be told what rows of a table came to where each is copied: their target rows say all.
    fn silent(&self, table: SourceTable) -> bool;

    /// Takes what a part's rows came to, before its target rows.
    ///
    /// # Errors
    /// Whatever keeps the pass from going on.
    fn told(&mut self, place: &Place, rows: &dyn UnitRows, evaluation: &Evaluation) -> Result<(), Error>;

    /// Takes a part's target rows, in the form in which the target gives them back; `scope` is its name.
    ///
    /// # Errors
    /// Whatever keeps the pass from going on.
    fn rows(&mut self, place: &Place, scope: &[u8], rows: Vec<TargetRow>) -> Result<(), Error>;

    /// From here on, what is taken is of another range.
    ///
    /// # Errors
    /// Whatever keeps the pass from going on.
    fn begin(&mut self, tag: Tag) -> Result<(), Error>;

    /// Hands over what is kept back.
    ///
    /// # Errors
    /// Whatever keeps the pass from going on.
    fn finish(&mut self) -> Result<(), Error>;

    /// Whether a row that is copied into a table is best given as it is encoded, by [`encoded`](Self::encoded).
    fn takes_encoded(&self, _: TargetTable) -> bool {
        false
    }

    /// As [`rows`](Self::rows), of one that is encoded.
    ///
    /// # Errors
    /// As there, and [`Error::Record`] when a value does not read.
    fn encoded(&mut self, place: &Place, scope: &[u8], table: TargetTable, row: &EncodedRow) -> Result<(), Error> {
        self.rows(place, scope, vec![TargetRow { table, values: row.values()? }])
    }

    /// As [`Self::finish`], and tells what came of it all since the last time; `None` where it is not kept by range.
    ///
    /// # Errors
    /// Whatever keeps the pass from going on.
    fn end(&mut self) -> Result<Option<Came>, Error>;
}

impl Outlet for Emitter {
    fn wants(&self, _: &Place) -> bool {
        true
    }

    fn silent(&self, table: SourceTable) -> bool {
        !self.asks_source(table)
    }

    /// Tells invariants what the rows add: those that the mapping takes. The groups of a parked part are set aside.
    fn told(&mut self, _: &Place, rows: &dyn UnitRows, evaluation: &Evaluation) -> Result<(), Error> {
        let standing = if evaluation.parked.is_some() { Standing::Aside } else { Standing::Judged };
        let refused = &evaluation.accounts.quarantined_rows;
        for table in evaluation.accounts.tables.keys() {
            let mut failed = None;
            rows.scan(*table, &mut |_, row| {
                if failed.is_none() && !refused.iter().any(|refused| refused.table == *table && refused.key == row.key)
                {
                    failed = self.source_row(*table, &row.values, standing).err();
                }
            })?;
            failed.map_or(Ok(()), Err)?;
        }
        Ok(())
    }

    fn rows(&mut self, _: &Place, scope: &[u8], rows: Vec<TargetRow>) -> Result<(), Error> {
        rows.into_iter().try_for_each(|row| self.row(&row, scope))
    }

    fn takes_encoded(&self, table: TargetTable) -> bool {
        Emitter::takes_encoded(self, table)
    }

    fn encoded(&mut self, _: &Place, scope: &[u8], table: TargetTable, row: &EncodedRow) -> Result<(), Error> {
        Emitter::encoded(self, table, row, scope)
    }

    fn begin(&mut self, tag: Tag) -> Result<(), Error> {
        Emitter::begin(self, tag)
    }

    fn finish(&mut self) -> Result<(), Error> {
        Emitter::finish(self)
    }

    fn end(&mut self) -> Result<Option<Came>, Error> {
        Emitter::end(self).map(Some)
    }
}

/// Takes rows, places and evaluates them.
pub struct SourceSink<O = Emitter> {
    shared: Arc<Shared>,
    units: Writer,
    /// A row as it was read, and what it is copied into.
    row: EncodedRow,
    copy: EncodedRow,
    /// What it is placed by.
    placing: Vec<Value>,
    /// What it emits.
    pub emitter: O,
    /// What became of the rows.
    pub account: SourceAccount,
}

impl SourceSink {
    /// A sink of one worker, whose rows are compared.
    pub fn new(shared: &Arc<Shared>) -> Self {
        Self::with(shared, Emitter::new(&shared.context, SideOf::Expected, &shared.spills))
    }
}

impl<O: Outlet> SourceSink<O> {
    /// A sink of one worker.
    pub fn with(shared: &Arc<Shared>, outlet: O) -> Self {
        Self {
            units: shared.units.writer(),
            row: EncodedRow::default(),
            copy: EncodedRow::default(),
            placing: Vec::new(),
            emitter: outlet,
            account: SourceAccount::default(),
            shared: Arc::clone(shared),
        }
    }

    /// Takes the rows of a partition of those that others refer to.
    ///
    /// # Errors
    /// Those of the spills and of the mapping.
    pub fn pending(&mut self, partition: usize) -> Result<(), Error> {
        let bytes = self.shared.pending.take(partition)?;
        let rows = record::all(&bytes, record::Row::take)?;
        if rows.len() as u64 != self.shared.pending.written(partition).count {
            return Err(Error::SpillBroken { path: "pending".into() });
        }
        let shared = Arc::clone(&self.shared);
        let references = shared.references.read().unwrap_or_else(PoisonError::into_inner);
        rows.into_iter().try_for_each(|row| self.row(&shared, SourceTable(row.table), row.values, &references))
    }

    /// Evaluates the units of a partition.
    ///
    /// # Errors
    /// Those of the spills and of the mapping.
    pub fn units(&mut self, partition: usize) -> Result<(), Error> {
        let bytes = self.shared.units.read(partition)?;
        let mut rows = record::all(&bytes, record::Row::take)?;
        if rows.len() as u64 != self.shared.units.written(partition).count {
            return Err(Error::SpillBroken { path: "units".into() });
        }
        rows.sort_by(|a, b| a.scope.cmp(b.scope));
        let migration = Arc::clone(&self.shared.context.migration);
        let mut sums: Option<(Box<str>, Vec<i128>)> = None;
        let mut at = 0;
        while at < rows.len() {
            let scope = rows[at].scope;
            let end = at + rows[at..].iter().take_while(|row| row.scope == scope).count();
            let mut part_rows = MemoryRows::new();
            let mut place = None;
            for row in &mut rows[at..end] {
                let table = SourceTable(row.table);
                let values = std::mem::take(&mut row.values);
                let key = migration.key_of(table, &values);
                if place.is_none() {
                    place = self.place(table, &key, &values)?;
                }
                part_rows.push(table, SourceRow { key, values });
            }
            at = end;
            let Some(Place { unit, part }) = place else { continue };
            let totals = match &mut sums {
                Some((of, totals)) if *of == unit => totals,
                other => &mut other.insert((unit.clone(), vec![0; migration.totals()])).1,
            };
            let references = Arc::clone(&self.shared);
            let references = references.references.read().unwrap_or_else(PoisonError::into_inner);
            let evaluation = evaluate(&migration, &unit, &part, &part_rows, &*references, totals)?;
            totals.iter_mut().zip(&evaluation.totals).for_each(|(total, added)| *total += added);
            drop(references);
            self.emit(&Place { unit, part }, scope, &part_rows, evaluation)?;
        }
        Ok(())
    }

    /// Hands over what is kept back.
    ///
    /// # Errors
    /// [`Error::Spill`] when the disk does not take it.
    pub fn finish(&mut self) -> Result<(), Error> {
        self.units.finish()?;
        self.emitter.finish()
    }

    fn place(&self, table: SourceTable, key: &Key, values: &[Value]) -> Result<Option<Place>, Error> {
        let references = self.shared.references.read().unwrap_or_else(PoisonError::into_inner);
        match self.shared.context.migration.place_whole(table, key, values, &*references)? {
            Routed::Placed(place) => Ok(Some(place)),
            Routed::Waiting | Routed::Quarantined(_) | Routed::Lookup => Ok(None),
        }
    }

    fn row(
        &mut self,
        shared: &Shared,
        table: SourceTable,
        mut values: Vec<Value>,
        references: &References,
    ) -> Result<(), Error> {
        *self.account.read.entry(table).or_default() += 1;
        let migration = &shared.context.migration;
        let key = migration.key_of(table, &values);
        let place = match migration.place_whole(table, &key, &values, references)? {
            Routed::Placed(place) => place,
            Routed::Waiting => {
                *self.account.waiting.entry(table).or_default() += 1;
                return Ok(());
            }
            Routed::Quarantined(reason) => {
                *self.account.quarantined.entry(table).or_default().entry(reason).or_default() += 1;
                return Ok(());
            }
            Routed::Lookup => {
                *self.account.lookup.entry(table).or_default() += 1;
                return Ok(());
            }
        };
        if !self.emitter.wants(&place) {
            return Ok(());
        }
        let scope = (shared.context.scope_of)(&place.unit, &place.part);
        if self.emitter.silent(table)
            && let Some(row) = migration.copied(table, &mut values)
        {
            let account = self.account.units.entry(table).or_default();
            account.read += 1;
            account.mapped += 1;
            return self.emitter.rows(&place, &scope, vec![(shared.context.as_stored)(row)]);
        }
        if migration.row_by_row(table) {
            let row = LoneRow(table, SourceRow { key, values });
            let evaluation = evaluate(migration, &place.unit, &place.part, &row, references, &[])?;
            return self.emit(&place, &scope, &row, evaluation);
        }
        // All parts of a unit go to one partition, so that the whole of it finds their sums.
        let hash = hash_of(&unit_hash(&place.unit));
        let digest = *blake3::hash(&scope).as_bytes();
        self.units.add(hash, &digest, |out| record::Row::put(&scope, table.0, values, out))
    }

    /// Whether a table's rows are copied, and to where nobody looks at them.
    fn takes_encoded(&self, table: SourceTable) -> bool {
        let into = self.shared.context.migration.copied_into(table);
        into.is_some_and(|into| self.emitter.silent(table) && self.emitter.takes_encoded(into))
    }

    /// As [`row`](Self::row): of a row that is copied only what it is placed by is decoded.
    fn encoded(
        &mut self,
        shared: &Shared,
        table: SourceTable,
        row: &EncodedRow,
        references: &References,
    ) -> Result<(), Error> {
        let Self { copy, placing, account, emitter, .. } = self;
        let migration = &shared.context.migration;
        let copied = migration.copy_encoded(table, row, copy);
        migration.placing_values(table, row, placing)?;
        let key = migration.key_of(table, placing);
        let (Some((into, copy)), Routed::Placed(place)) =
            (copied, migration.place_whole(table, &key, placing, references)?)
        else {
            return self.row(shared, table, row.values()?, references);
        };
        *account.read.entry(table).or_default() += 1;
        if !emitter.wants(&place) {
            return Ok(());
        }
        let scope = (shared.context.scope_of)(&place.unit, &place.part);
        let units = account.units.entry(table).or_default();
        units.read += 1;
        units.mapped += 1;
        emitter.encoded(&place, &scope, into, copy)
    }

    fn emit(&mut self, place: &Place, scope: &[u8], rows: &dyn UnitRows, evaluation: Evaluation) -> Result<(), Error> {
        self.emitter.told(place, rows, &evaluation)?;
        self.account.add_units(evaluation.accounts.tables);
        add(&mut self.account.counts, evaluation.counts);
        if let Some(parked) = evaluation.parked {
            *self.account.parked.entry(parked.reason).or_default() += 1;
        }
        let as_stored = self.shared.context.as_stored;
        self.emitter.rows(place, scope, evaluation.rows.into_iter().map(as_stored).collect())
    }
}

impl<O: Outlet> Sink for SourceSink<O> {
    fn take(&mut self, table: usize, rows: &mut dyn Incoming) -> Result<(), Error> {
        let shared = Arc::clone(&self.shared);
        let references = shared.references.read().unwrap_or_else(PoisonError::into_inner);
        let table = source_table(table);
        if self.takes_encoded(table) {
            let mut row = std::mem::take(&mut self.row);
            self.placing.clear();
            while rows.encoded(&mut row) {
                self.encoded(&shared, table, &row, &references)?;
            }
            self.row = row;
            return Ok(());
        }
        for values in rows {
            self.row(&shared, table, values, &references)?;
        }
        Ok(())
    }

    fn begin(&mut self, tag: Tag) -> Result<(), Error> {
        self.units.begin(tag)?;
        self.emitter.begin(tag)
    }

    fn end(&mut self) -> Result<Option<Came>, Error> {
        self.units.finish()?;
        let came = self.emitter.end()?;
        Ok(came.map(|mut came| {
            came.account = std::mem::take(&mut self.account);
            came.handed.insert(self.units.name().to_owned(), self.units.handed());
            came
        }))
    }
}

fn source_table(index: usize) -> SourceTable {
    SourceTable(u16::try_from(index).unwrap_or(u16::MAX))
}

fn row_of(values: &[Value]) -> Row {
    values.iter().cloned().collect()
}

/// The bucket of a unit, of so many; units are spread evenly.
pub fn unit_bucket(unit: &str, of: u32) -> u32 {
    let number = u64::from_le_bytes(*unit_hash(unit).first_chunk().unwrap_or(&[0; 8]));
    u32::try_from(number % u64::from(of.max(1))).unwrap_or(0)
}

fn unit_hash(unit: &str) -> super::record::KeyDigest {
    let mut hash = [0; 16];
    hash.copy_from_slice(&blake3::hash(unit.as_bytes()).as_bytes()[..16]);
    hash
}

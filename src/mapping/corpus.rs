//! Legacy rows in memory, placed and evaluated as the engine does it: for examples, tests and comparisons of exports.

use std::collections::BTreeMap;

use super::accounts::Accounts;
use super::error::ReadError;
use super::evaluate::{Evaluation, evaluate};
use super::place::{Look, Part, Place, ReferenceId, Routed};
use super::plan::Migration;
use super::rows::{MemoryRows, SourceRow};
use super::schema::SourceTable;
use crate::event::{Key, Row, Value};

/// What references find in memory.
#[derive(Debug, Default)]
struct Found(BTreeMap<(ReferenceId, Vec<Value>), BTreeMap<Key, Vec<Value>>>);

impl Look for Found {
    fn find(&self, reference: ReferenceId, key: &[Value]) -> Result<Vec<Vec<Value>>, ReadError> {
        let rows = self.0.get(&(reference, key.to_vec()));
        Ok(rows.into_iter().flat_map(BTreeMap::values).cloned().collect())
    }
}

/// Rows by table and reason, or by table alone.
type Told = BTreeMap<SourceTable, BTreeMap<Box<str>, u64>>;

/// Legacy rows, each where it belongs.
#[derive(Debug, Default)]
pub struct Corpus {
    found: Found,
    units: BTreeMap<Box<str>, BTreeMap<Part, MemoryRows>>,
    quarantined: Told,
    waiting: BTreeMap<SourceTable, u64>,
    lookup: BTreeMap<SourceTable, u64>,
}

impl Corpus {
    /// Places rows.
    ///
    /// # Errors
    /// [`ReadError`] never, as all is in memory.
    pub fn place(migration: &Migration, rows: Vec<(SourceTable, SourceRow)>) -> Result<Self, ReadError> {
        let mut corpus = Self::default();
        for (table, row) in &rows {
            let cells: Row = row.values.iter().cloned().collect();
            for (reference, _) in migration.references().filter(|(_, found)| found == table) {
                if let Some((key, values)) = migration.entry(reference, &cells) {
                    corpus.found.0.entry((reference, key)).or_default().insert(row.key.clone(), values);
                }
            }
        }
        for (table, row) in rows {
            match migration.place_whole(table, &row.key, &row.values, &corpus.found)? {
                Routed::Placed(Place { unit, part }) => {
                    corpus.units.entry(unit).or_default().entry(part).or_default().push(table, row);
                }
                Routed::Waiting => *corpus.waiting.entry(table).or_default() += 1,
                Routed::Quarantined(reason) => {
                    *corpus.quarantined.entry(table).or_default().entry(reason).or_default() += 1;
                }
                Routed::Lookup => *corpus.lookup.entry(table).or_default() += 1,
            }
        }
        Ok(corpus)
    }

    /// The units, in order.
    pub fn units(&self) -> impl Iterator<Item = &str> {
        self.units.keys().map(|unit| &**unit)
    }

    /// The rows of a part of a unit.
    pub fn rows(&self, unit: &str, part: &Part) -> Option<&MemoryRows> {
        self.units.get(unit)?.get(part)
    }

    /// Rows that placing quarantined, by table and reason.
    pub fn quarantined(&self) -> &BTreeMap<SourceTable, BTreeMap<Box<str>, u64>> {
        &self.quarantined
    }

    /// Rows that wait for others, by table.
    pub fn waiting(&self) -> &BTreeMap<SourceTable, u64> {
        &self.waiting
    }

    /// Rows of lookups, by table.
    pub fn lookup(&self) -> &BTreeMap<SourceTable, u64> {
        &self.lookup
    }

    /// Evaluates each part of a unit, the whole last, with the sums of the others.
    ///
    /// # Errors
    /// [`ReadError`] never, as all is in memory.
    pub fn parts(&self, migration: &Migration, unit: &str) -> Result<Vec<(Part, Evaluation)>, ReadError> {
        let mut totals = vec![0; migration.totals()];
        let mut evaluations = Vec::new();
        for (part, rows) in self.units.get(unit).into_iter().flatten() {
            let evaluation = evaluate(migration, unit, part, rows, &self.found, &totals)?;
            totals.iter_mut().zip(&evaluation.totals).for_each(|(total, added)| *total += added);
            evaluations.push((part.clone(), evaluation));
        }
        Ok(evaluations)
    }

    /// What all parts of a unit come to together; it is parked when its whole is.
    ///
    /// # Errors
    /// [`ReadError`] never, as all is in memory.
    pub fn evaluate(&self, migration: &Migration, unit: &str) -> Result<Evaluation, ReadError> {
        let mut all = Evaluation {
            rows: Vec::new(),
            accounts: Accounts::default(),
            counts: BTreeMap::new(),
            totals: vec![0; migration.totals()],
            parked: None,
        };
        for (part, evaluation) in self.parts(migration, unit)? {
            all.rows.extend(evaluation.rows);
            all.accounts.add(evaluation.accounts);
            for (name, count) in evaluation.counts {
                *all.counts.entry(name).or_default() += count;
            }
            all.totals.iter_mut().zip(&evaluation.totals).for_each(|(total, added)| *total += added);
            all.parked = evaluation.parked.filter(|_| part == Part::Whole);
        }
        all.rows.sort_by_key(|row| row.table);
        Ok(all)
    }
}

//! A target in memory: the seam's contract in its plainest form.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use rehome::target::{
    Deletes, Error, ForeignScope, TableShape, Target, TargetKey, TargetRow, UnitOutcome, UnitWrite, WriteVersion,
};

/// Rows, and which part of a unit has written what and when.
#[derive(Debug, Default)]
struct Held {
    rows: BTreeMap<TargetKey, TargetRow>,
    units: BTreeMap<(Arc<str>, Arc<[u8]>), (WriteVersion, BTreeSet<TargetKey>)>,
}

/// A target in memory.
#[derive(Debug)]
pub struct MemoryTarget {
    tables: Arc<[TableShape]>,
    scope: ForeignScope,
    held: Mutex<Held>,
}

impl MemoryTarget {
    /// An empty target.
    pub fn new(tables: Arc<[TableShape]>, scope: ForeignScope) -> Self {
        Self { tables, scope, held: Mutex::default() }
    }

    /// Puts a row there that nobody owns.
    pub fn put_foreign(&self, row: TargetRow) {
        let key = self.tables[usize::from(row.table.0)].key_of(&row);
        self.held.lock().expect("no panic").rows.insert(key, row);
    }

    /// All rows in order of key.
    pub fn rows(&self) -> Vec<TargetRow> {
        self.held.lock().expect("no panic").rows.values().cloned().collect()
    }

    fn write(&self, held: &mut Held, write: &UnitWrite) -> UnitOutcome {
        let part = (Arc::clone(&write.unit), Arc::clone(&write.part));
        let (version, mut owned) = match held.units.get(&part) {
            Some((version, owned)) => (Some(*version), owned.clone()),
            None => (None, BTreeSet::new()),
        };
        if let Some(by) = version.filter(|by| *by > write.version) {
            return UnitOutcome::Superseded { by };
        }
        let key_of = |row: &TargetRow| self.tables[usize::from(row.table.0)].key_of(row);
        let wanted: BTreeMap<TargetKey, &TargetRow> = write.rows.iter().map(|row| (key_of(row), row)).collect();
        let (mut upserted, mut unchanged, mut foreign, mut matched_foreign) = (0, 0, 0, 0);
        let mut puts = Vec::new();
        let mut now_owned = BTreeSet::new();
        for (key, row) in &wanted {
            match held.rows.get(key) {
                Some(there) if owned.contains(key) && there == *row => unchanged += 1,
                Some(there) if !owned.contains(key) => {
                    *(if there == *row { &mut matched_foreign } else { &mut foreign }) += 1;
                    continue;
                }
                _ => {
                    upserted += 1;
                    puts.push((key.clone(), (*row).clone()));
                }
            }
            now_owned.insert(key.clone());
        }
        if self.scope == ForeignScope::Unit && foreign + matched_foreign > 0 {
            let all_match = foreign == 0 && matched_foreign == write.rows.len() as u64;
            let reason = if all_match { "matched_foreign" } else { "foreign" };
            return UnitOutcome::Parked { reason: reason.into(), detail: "".into() };
        }
        owned.retain(|key| !wanted.contains_key(key));
        if write.deletes == Deletes::Later {
            now_owned.append(&mut owned);
        }
        if version == Some(write.version) && puts.is_empty() && owned.is_empty() && foreign + matched_foreign == 0 {
            return UnitOutcome::Repeated;
        }
        let deleted = owned.iter().filter(|key| held.rows.remove(*key).is_some()).count() as u64;
        held.rows.extend(puts);
        held.units.insert(part, (write.version, now_owned));
        UnitOutcome::Written { upserted, unchanged, deleted, foreign, matched_foreign }
    }
}

#[async_trait]
impl Target for MemoryTarget {
    async fn apply(&self, batch: &[UnitWrite]) -> Result<Vec<UnitOutcome>, Error> {
        let mut held = self.held.lock().expect("no panic");
        Ok(batch.iter().map(|write| self.write(&mut held, write)).collect())
    }

    async fn read(&self, keys: &[TargetKey]) -> Result<Vec<Option<TargetRow>>, Error> {
        let held = self.held.lock().expect("no panic");
        Ok(keys.iter().map(|key| held.rows.get(key).cloned()).collect())
    }

    async fn recorded(&self, after: Option<&(String, Vec<u8>)>, limit: usize) -> Result<Vec<(String, Vec<u8>)>, Error> {
        let held = self.held.lock().expect("no panic");
        let parts = held.units.keys().map(|(unit, part)| (unit.to_string(), part.to_vec()));
        Ok(parts.filter(|part| after.is_none_or(|after| part > after)).take(limit).collect())
    }

    async fn owned(&self, unit: &str) -> Result<Vec<TargetKey>, Error> {
        let held = self.held.lock().expect("no panic");
        let parts = held.units.iter().filter(|((of, _), _)| **of == *unit);
        Ok(parts.flat_map(|(_, (_, owned))| owned.iter().cloned()).collect())
    }
}

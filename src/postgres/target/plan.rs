//! Decides what to write for a unit: pure, from what the unit should be and what the target's own record says it is.

use std::collections::BTreeMap;

use crate::event::{DigestKey, Digester};
use crate::target::{Deletes, TableShape, TargetKey, TargetRow, Trust, UnitWrite};

use super::ownership::{Owned, RowDigest};

/// The writes that bring one unit to what it should be.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan<'a> {
    /// Rows whose key the unit does not own yet.
    pub inserts: Vec<&'a TargetRow>,
    /// Rows that the unit owns and that changed.
    pub updates: Vec<&'a TargetRow>,
    /// Keys that the unit owns and should no longer have.
    pub deletes: Vec<TargetKey>,
    /// Rows that are as they were last written.
    pub unchanged: u64,
    /// What the unit owns after the writes.
    pub owned: BTreeMap<TargetKey, RowDigest>,
}

impl Plan<'_> {
    /// Whether there is nothing to write.
    pub fn empty(&self) -> bool {
        self.inserts.is_empty() && self.updates.is_empty() && self.deletes.is_empty()
    }
}

/// Compares what a unit should be with what it owns.
///
/// # Errors
/// The table's index when two rows of the unit have the same key.
pub fn plan<'a>(
    write: &'a UnitWrite,
    owned: &Owned,
    tables: &[TableShape],
    digesters: &[Digester],
) -> Result<Plan<'a>, usize> {
    let mut plan = Plan::default();
    for row in &write.rows {
        let shape = &tables[usize::from(row.table.0)];
        let digest = short_digest(&digesters[usize::from(row.table.0)], row);
        let row_key = shape.key_of(row);
        match owned.rows.get(&row_key) {
            None => plan.inserts.push(row),
            Some(written) if *written == digest && write.trust != Trust::Nothing => plan.unchanged += 1,
            Some(_) => plan.updates.push(row),
        }
        if plan.owned.insert(row_key, digest).is_some() {
            return Err(usize::from(row.table.0));
        }
    }
    let gone = owned.rows.iter().filter(|(key, _)| !plan.owned.contains_key(key));
    match write.deletes {
        Deletes::Now => plan.deletes = gone.map(|(key, _)| key.clone()).collect(),
        Deletes::Later => {
            let kept: Vec<_> = gone.map(|(key, digest)| (key.clone(), *digest)).collect();
            plan.owned.extend(kept);
        }
    }
    Ok(plan)
}

/// Digests the rows of each target table.
pub fn digesters(tables: &[TableShape], key: &DigestKey) -> Vec<Digester> {
    let digester = |shape: &TableShape| {
        let names: Vec<&str> = shape.columns.iter().map(|column| &*column.name).collect();
        Digester::rows(key, &shape.name, &names)
    };
    tables.iter().map(digester).collect()
}

/// Digest of a row as it is kept beside its key.
pub fn short_digest(digester: &Digester, row: &TargetRow) -> RowDigest {
    let mut short = RowDigest::default();
    short.copy_from_slice(&digester.digest(&row.values).0[..16]);
    short
}

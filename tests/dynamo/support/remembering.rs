//! Remembers for a target what it does not: the keys that each part was written under, as the projector does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use rehome::dynamo::target::DynamoTarget;
use rehome::target::{Deletes, Error, TableShape, Target, TargetKey, TargetRow, UnitOutcome, UnitWrite};

/// A unit and its part.
type Part = (Arc<str>, Arc<[u8]>);

/// A target with a memory.
pub struct Remembering {
    target: DynamoTarget,
    shapes: Arc<[TableShape]>,
    keys: Mutex<BTreeMap<Part, BTreeSet<TargetKey>>>,
}

impl Remembering {
    /// Nothing is remembered yet.
    pub fn new(target: DynamoTarget) -> Self {
        let shapes = target.shapes();
        Self { target, shapes, keys: Mutex::default() }
    }

    fn before(&self, write: &UnitWrite) -> Vec<TargetKey> {
        let part = (Arc::clone(&write.unit), Arc::clone(&write.part));
        self.keys.lock().expect("no panic").get(&part).into_iter().flatten().cloned().collect()
    }

    fn remember(&self, write: &UnitWrite, outcome: &UnitOutcome) {
        if !matches!(outcome, UnitOutcome::Written { .. } | UnitOutcome::Repeated) {
            return;
        }
        let shape = |row: &TargetRow| &self.shapes[usize::from(row.table.0)];
        let mut keys: BTreeSet<TargetKey> = write.rows.iter().map(|row| shape(row).key_of(row)).collect();
        if write.deletes == Deletes::Later {
            keys.extend(write.before.iter().cloned());
        }
        self.keys.lock().expect("no panic").insert((Arc::clone(&write.unit), Arc::clone(&write.part)), keys);
    }
}

#[async_trait]
impl Target for Remembering {
    fn keeps_record(&self) -> bool {
        self.target.keeps_record()
    }

    async fn apply(&self, batch: &[UnitWrite]) -> Result<Vec<UnitOutcome>, Error> {
        let batch: Vec<UnitWrite> =
            batch.iter().map(|write| UnitWrite { before: self.before(write), ..write.clone() }).collect();
        let outcomes = self.target.apply(&batch).await?;
        batch.iter().zip(&outcomes).for_each(|(write, outcome)| self.remember(write, outcome));
        Ok(outcomes)
    }

    async fn read(&self, keys: &[TargetKey]) -> Result<Vec<Option<TargetRow>>, Error> {
        self.target.read(keys).await
    }

    async fn owned(&self, unit: &str) -> Result<Vec<TargetKey>, Error> {
        self.target.owned(unit).await
    }
}

//! The target of a simulation: rows, and the record beside them of what was written for which part, as Postgres keeps both.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use rehome::target::{Deletes, Error, Target, TargetKey, TargetRow, Trust, UnitOutcome, UnitWrite, WriteVersion};

use super::baton::Actor;
use super::world::{Rows, World};

/// What was written for a part, and at which version.
type Record = BTreeMap<(Arc<str>, Arc<[u8]>), (WriteVersion, Rows)>;

/// What the target holds.
#[derive(Debug, Clone, Default)]
pub struct Held {
    pub rows: Rows,
    pub record: Record,
}

impl Held {
    /// Keys recorded as a unit's.
    pub fn owned(&self, unit: &str) -> Vec<TargetKey> {
        let parts = self.record.iter().filter(|((of, _), _)| **of == *unit);
        parts.flat_map(|(_, (_, rows))| rows.keys().cloned()).collect()
    }

    /// Writes a part. Rows are taken for being as they were written, whatever became of them since.
    fn write(&mut self, world: &World, write: &UnitWrite) -> UnitOutcome {
        let part = (Arc::clone(&write.unit), Arc::clone(&write.part));
        let (version, owned) =
            self.record.get(&part).cloned().map_or((None, Rows::new()), |(at, rows)| (Some(at), rows));
        if let Some(by) = version.filter(|by| *by > write.version) {
            return UnitOutcome::Superseded { by };
        }
        let wanted: Rows = write.rows.iter().map(|row| (world.key_of(row), row.clone())).collect();
        let (mut upserted, mut unchanged, mut foreign, mut matched_foreign, mut deleted) = (0, 0, 0, 0, 0);
        let mut now = Rows::new();
        for (key, row) in wanted {
            match (owned.get(&key), self.rows.get(&key)) {
                (Some(written), _) if *written == row && write.trust != Trust::Nothing => unchanged += 1,
                (None, Some(there)) => {
                    *(if *there == row { &mut matched_foreign } else { &mut foreign }) += 1;
                    continue;
                }
                _ => {
                    upserted += 1;
                    self.rows.insert(key.clone(), row.clone());
                }
            }
            now.insert(key, row);
        }
        for (key, row) in owned {
            if now.contains_key(&key) {
                continue;
            }
            match write.deletes {
                Deletes::Now => deleted += u64::from(self.rows.remove(&key).is_some()),
                Deletes::Later => drop(now.insert(key, row)),
            }
        }
        let nothing = upserted + deleted + foreign + matched_foreign == 0;
        let same = version == Some(write.version) && nothing;
        self.record.insert(part, (write.version, now));
        if same {
            UnitOutcome::Repeated
        } else {
            UnitOutcome::Written { upserted, unchanged, deleted, foreign, matched_foreign }
        }
    }
}

/// The target as the projector has it.
pub struct SimTarget(pub Arc<World>);

#[async_trait]
impl Target for SimTarget {
    async fn apply(&self, batch: &[UnitWrite]) -> Result<Vec<UnitOutcome>, Error> {
        let world = &self.0;
        world.baton.turn(Actor::Projector).await;
        let mut outcomes = Vec::new();
        let mut lost: Vec<TargetKey> = Vec::new();
        for write in batch {
            let mut held = world.held();
            if world.is(&world.faulty) && world.baton.chance(1, 60) {
                // Said to be written, and not; maybe noted as written all the same.
                let mut as_if = held.clone();
                outcomes.push(as_if.write(world, write));
                lost.extend(world.differing(&as_if.rows, &held.rows));
                if world.baton.chance(1, 2) {
                    held.record = as_if.record;
                }
            } else {
                outcomes.push(held.write(world, write));
            }
        }
        world.baton.note(format!("wrote {} parts", batch.len()));
        world.blemish("lost write", lost);
        world.baton.turn(Actor::Projector).await;
        Ok(outcomes)
    }

    async fn read(&self, keys: &[TargetKey]) -> Result<Vec<Option<TargetRow>>, Error> {
        let held = self.0.held();
        Ok(keys.iter().map(|key| held.rows.get(key).cloned()).collect())
    }

    async fn owned(&self, unit: &str) -> Result<Vec<TargetKey>, Error> {
        Ok(self.0.held().owned(unit))
    }
}

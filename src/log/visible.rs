//! What readers of a log may see: durable ends, marks and shapes, changed together.
//!
//! A store under a log shows a write before it is durable. Readers therefore never ask the store where it ends or what a
//! mark says: they ask here, and the writer changes all of it under one lock when a batch is durable (I2). Marks are few
//! and small, so all of them stay in memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::watch;

use super::{Error, Offset, Partition};
use crate::event::{Relation, SchemaHash};

/// What a batch changes besides records.
#[derive(Debug, Default)]
pub(super) struct Change {
    /// Shapes to register.
    pub(super) relations: Vec<Arc<Relation>>,
    /// Marks to set or remove.
    pub(super) marks: BTreeMap<String, Option<Vec<u8>>>,
}

#[derive(Debug, Default)]
struct State {
    ends: Vec<Offset>,
    marks: BTreeMap<String, Vec<u8>>,
    relations: HashMap<SchemaHash, Arc<Relation>>,
    failed: Option<Arc<Error>>,
}

impl State {
    fn apply(&mut self, change: Change) {
        for relation in change.relations {
            self.relations.entry(relation.schema_hash()).or_insert(relation);
        }
        for (name, value) in change.marks {
            match value {
                Some(value) => self.marks.insert(name, value),
                None => self.marks.remove(&name),
            };
        }
    }
}

/// The visible state of a log, shared by its readers and its writer.
#[derive(Debug)]
pub(super) struct Visible {
    state: RwLock<State>,
    /// Rises with each publication; waiters look at the state again.
    changed: watch::Sender<u64>,
}

impl Visible {
    /// Begins with what was found when the log was opened.
    pub(super) fn new(ends: Vec<Offset>, found: Change) -> Self {
        let mut state = State { ends, ..State::default() };
        state.apply(found);
        Self { state: RwLock::new(state), changed: watch::Sender::new(0) }
    }

    /// Makes durable batches visible: all of their changes and the new ends at once.
    pub(super) fn publish(&self, changes: impl IntoIterator<Item = Change>, ends: &[Offset]) {
        {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            state.ends.copy_from_slice(ends);
            changes.into_iter().for_each(|change| state.apply(change));
        }
        self.changed.send_modify(|count| *count += 1);
    }

    /// Ends the log: nothing becomes visible any more, and waiters return. The first cause stays.
    pub(super) fn fail(&self, cause: Arc<Error>) -> Arc<Error> {
        let cause = {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(state.failed.get_or_insert(cause))
        };
        self.changed.send_modify(|count| *count += 1);
        cause
    }

    /// Why the log ended, if it did.
    pub(super) fn failed(&self) -> Option<Arc<Error>> {
        self.read(|state| state.failed.clone())
    }

    /// Offset after the last visible record; zero for a partition that does not exist.
    pub(super) fn end(&self, partition: Partition) -> Offset {
        self.read(|state| state.ends.get(usize::from(partition.0)).copied().unwrap_or_default())
    }

    /// Returns when the partition's end is beyond `offset` or the log has failed.
    pub(super) async fn wait_beyond(&self, partition: Partition, offset: Offset) {
        let mut changed = self.changed.subscribe();
        while self.end(partition) <= offset && self.failed().is_none() {
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    /// A registered shape.
    pub(super) fn relation(&self, hash: SchemaHash) -> Option<Arc<Relation>> {
        self.read(|state| state.relations.get(&hash).cloned())
    }

    /// All registered shapes, by name and then by hash.
    pub(super) fn relations(&self) -> Vec<Arc<Relation>> {
        let mut all: Vec<_> =
            self.read(|state| state.relations.iter().map(|(hash, relation)| (*hash, Arc::clone(relation))).collect());
        all.sort_by(|(a_hash, a), (b_hash, b)| a.name.cmp(&b.name).then(a_hash.cmp(b_hash)));
        all.into_iter().map(|(_, relation)| relation).collect()
    }

    /// A mark's value.
    pub(super) fn mark(&self, name: &str) -> Option<Vec<u8>> {
        self.read(|state| state.marks.get(name).cloned())
    }

    /// Marks by prefix, in order of name.
    pub(super) fn marks(&self, prefix: &str) -> Vec<(String, Vec<u8>)> {
        self.read(|state| {
            state
                .marks
                .range(prefix.to_owned()..)
                .take_while(|(name, _)| name.starts_with(prefix))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect()
        })
    }

    /// Looks at the state; every change to it is whole, so a panic elsewhere leaves nothing half done.
    fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }
}

//! Counts of events, by source table: both sides of the conservation equation (I5).
//!
//! `captured` is counted where records are read from the log, everything else where it is decided what becomes of them; the
//! two are never derived from each other.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What became of the events of one source table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventCounts {
    /// Events read from the log.
    pub captured: u64,
    /// Events that changed the state, filling missing cells included.
    pub applied: u64,
    /// Events older than what the state already held, repeated ones included.
    pub superseded: u64,
    /// Events held back because their table's shape has changed.
    pub held: u64,
    /// Events not taken, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// Live rows in the state: the rows read.
    pub rows: i64,
}

impl EventCounts {
    /// Whether every captured event is accounted for.
    pub fn balanced(&self) -> bool {
        self.captured == self.applied + self.superseded + self.held + self.dropped.values().sum::<u64>()
    }
}

/// Counts by source table, by its name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// By table.
    pub tables: BTreeMap<String, EventCounts>,
}

impl Counters {
    /// The counts of one table.
    pub fn table(&mut self, name: &str) -> &mut EventCounts {
        if !self.tables.contains_key(name) {
            self.tables.insert(name.to_owned(), EventCounts::default());
        }
        self.tables.get_mut(name).expect("it was just put there")
    }
}

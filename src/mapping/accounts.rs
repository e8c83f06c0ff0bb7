//! What became of every row of a unit (I5): the sums equal the rows read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::schema::SourceTable;
use crate::event::Key;

/// What became of the rows of one table.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TableAccount {
    /// Rows read; counted by the first pass, apart from what the second says became of them.
    pub read: u64,
    /// Rows behind some target row.
    pub mapped: u64,
    /// Rows dropped, by reason.
    pub dropped: BTreeMap<Box<str>, u64>,
    /// Rows quarantined, by reason.
    pub quarantined: BTreeMap<Box<str>, u64>,
}

impl TableAccount {
    /// Adds what became of other rows.
    pub fn add(&mut self, other: TableAccount) {
        self.read += other.read;
        self.mapped += other.mapped;
        for (sums, added) in [(&mut self.dropped, other.dropped), (&mut self.quarantined, other.quarantined)] {
            added.into_iter().for_each(|(reason, rows)| *sums.entry(reason).or_default() += rows);
        }
    }

    /// Mapped, dropped and quarantined together; equals `read` in every finished evaluation.
    pub fn told(&self) -> u64 {
        self.mapped + self.dropped.values().sum::<u64>() + self.quarantined.values().sum::<u64>()
    }
}

/// A row that was quarantined by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuarantinedRow {
    /// Its table.
    pub table: SourceTable,
    /// Its key.
    pub key: Key,
    /// Why.
    pub reason: Box<str>,
}

/// What became of every row of a unit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Accounts {
    /// By table; every table that has rows in the part by its kind is listed.
    pub tables: BTreeMap<SourceTable, TableAccount>,
    /// Rows quarantined by themselves; a parked unit's rows are counted, not listed.
    pub quarantined_rows: Vec<QuarantinedRow>,
}

impl Accounts {
    pub(super) fn read(&mut self, table: SourceTable) {
        self.tables.entry(table).or_default().read += 1;
    }

    pub(super) fn mapped(&mut self, table: SourceTable, rows: u64) {
        self.tables.entry(table).or_default().mapped += rows;
    }

    pub(super) fn dropped(&mut self, table: SourceTable, reason: &str, rows: u64) {
        if rows > 0 {
            *self.tables.entry(table).or_default().dropped.entry(reason.into()).or_default() += rows;
        }
    }

    pub(super) fn quarantined(&mut self, row: QuarantinedRow) {
        *self.tables.entry(row.table).or_default().quarantined.entry(row.reason.clone()).or_default() += 1;
        self.quarantined_rows.push(row);
    }

    /// Adds what became of other rows.
    pub fn add(&mut self, other: Accounts) {
        for (table, account) in other.tables {
            self.tables.entry(table).or_default().add(account);
        }
        self.quarantined_rows.extend(other.quarantined_rows);
    }

    /// Accounts every row as quarantined for one reason.
    pub(super) fn park(&mut self, reason: &str) {
        self.quarantined_rows.clear();
        for account in self.tables.values_mut() {
            let quarantined = if account.read == 0 { BTreeMap::new() } else { [(reason.into(), account.read)].into() };
            *account = TableAccount { read: account.read, quarantined, ..TableAccount::default() };
        }
    }

    /// Whether every row that was read is accounted for exactly once.
    pub fn balanced(&self) -> bool {
        self.tables.values().all(|account| account.told() == account.read)
    }
}

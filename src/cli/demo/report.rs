//! What a demo found: as one process tells it to another, and as tables for people.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::engine::Sums;
use crate::engine::protocol::Status;
use crate::project::conservation::RowBalance;

use super::super::exit::Exit;
use super::super::output;

/// Everything that the demo of one migration found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The migration.
    pub migration: String,
    /// Live transactions that were committed while it ran.
    pub live_transactions: u64,
    /// What became of the legacy rows, all tables together.
    pub rows: Rows,
    /// Rows of the target tables; at a DynamoDB target those that units should have.
    pub target_rows: u64,
    /// Rows of a Postgres target that belong to no unit.
    pub rows_of_others: u64,
    /// Units compared.
    pub units: u64,
    /// Units that are equal on both sides.
    pub equal: u64,
    /// Units that differ, proven.
    pub different: u64,
    /// Units of which nothing is proven.
    pub unproven: u64,
    /// Units in quarantine, by reason.
    pub parked: BTreeMap<String, u64>,
    /// Whether all conservation equations hold.
    pub balanced: bool,
    /// Whether the damaged row, and nothing else, was found.
    pub damage_found: bool,
    /// The unit that holds the damaged row.
    pub damaged_unit: Option<String>,
    /// How long it took.
    pub seconds: f64,
}

/// What became of rows; the others add up to `read`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rows {
    /// Live rows.
    pub read: u64,
    /// Rows that contribute to a target row.
    pub mapped: u64,
    /// Rows left out, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// Rows in quarantine, by reason.
    pub quarantined: BTreeMap<String, u64>,
    /// Rows not evaluated yet.
    pub waiting: u64,
    /// Rows that others are looked up in.
    pub lookup: u64,
}

impl Rows {
    /// Adds up the balances of all tables.
    pub fn sum<'a>(balances: impl Iterator<Item = &'a RowBalance>) -> Self {
        let mut sum = Self::default();
        for balance in balances {
            sum.read += u64::try_from(balance.read).unwrap_or_default();
            sum.mapped += balance.counts.mapped;
            sum.waiting += balance.waiting;
            sum.lookup += balance.lookup;
            add(&mut sum.dropped, &balance.counts.dropped);
            add(&mut sum.quarantined, &balance.counts.quarantined);
        }
        sum
    }
}

fn add(sum: &mut BTreeMap<String, u64>, counts: &BTreeMap<String, u64>) {
    for (reason, count) in counts {
        *sum.entry(reason.clone()).or_default() += count;
    }
}

impl Report {
    /// Puts together what the engine told after everything had arrived.
    pub fn new(status: &Status, sums: &Sums) -> Self {
        Self {
            migration: status.migration.clone(),
            live_transactions: 0,
            rows: Rows::sum(status.conservation.rows.values()),
            target_rows: sums.target_rows.max(sums.found_rows),
            rows_of_others: sums.target_rows.saturating_sub(sums.found_rows),
            units: sums.units,
            equal: sums.equal,
            different: sums.different.len() as u64,
            unproven: sums.unproven.len() as u64,
            parked: sums.parked.clone(),
            balanced: status.balanced,
            damage_found: false,
            damaged_unit: None,
            seconds: 0.0,
        }
    }

    /// Exit code 0 says that every unit was equal, every equation held, and the damage was found.
    pub fn exit(&self) -> Exit {
        match self.different {
            0 if self.unproven == 0 && self.rows_of_others == 0 && self.balanced && self.damage_found => Exit::Success,
            0 => Exit::Incomplete,
            _ => Exit::Mismatch,
        }
    }
}

/// Shows the reports of several migrations side by side.
pub fn show(reports: &[Report]) {
    let header = [
        "migration",
        "rows read",
        "= mapped",
        "+ dropped",
        "+ parked",
        "+ lookup",
        "target rows",
        "units",
        "equal",
        "differences",
        "damage",
    ];
    let mut table = output::table(&header);
    for report in reports {
        table.add_row([
            report.migration.clone(),
            report.rows.read.to_string(),
            report.rows.mapped.to_string(),
            reasons(&report.rows.dropped),
            reasons(&report.rows.quarantined),
            report.rows.lookup.to_string(),
            report.target_rows.to_string(),
            report.units.to_string(),
            report.equal.to_string(),
            (report.different + report.unproven + report.rows_of_others).to_string(),
            if report.damage_found { "found" } else { "NOT FOUND" }.to_owned(),
        ]);
    }
    output::line(table.to_string());
    for report in reports {
        if !report.parked.is_empty() {
            output::line(format!("{}: units parked whole: {}", report.migration, inline(&report.parked)));
        }
        if report.unproven > 0 || report.rows_of_others > 0 {
            let (unproven, others) = (report.unproven, report.rows_of_others);
            output::line(format!("{}: {unproven} units unproven, {others} rows of others", report.migration));
        }
        if !report.balanced {
            output::line(format!("{}: AN EQUATION DOES NOT HOLD: please report this", report.migration));
        }
    }
}

/// Counts with their reasons, one a line, as they stand in a cell.
fn reasons(counts: &BTreeMap<String, u64>) -> String {
    if counts.is_empty() {
        return "0".to_owned();
    }
    counts.iter().map(|(reason, count)| format!("{count} {reason}")).collect::<Vec<_>>().join("\n")
}

fn inline(counts: &BTreeMap<String, u64>) -> String {
    counts.iter().map(|(reason, count)| format!("{count} {reason}")).collect::<Vec<_>>().join(", ")
}

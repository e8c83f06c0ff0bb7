//! Evaluates picked parts: from rows in the state to what is to be written, and to the account of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::event::key_text;
use crate::mapping::{Evaluation, Migration, Part, ReadError, SourceTable, evaluate};
use crate::target::{Deletes, TableShape, TargetKey, TargetRow, Trust, UnitWrite, WriteVersion};

use super::Error;
use super::claims::{ClaimId, claim_id};
use super::pick::{Pass, Picked};
use super::records::PartState;
use super::references::Looker;
use super::result::{PartResult, QuarantinedRow, RowCounts, RowsByTable, Status, TargetCounts};
use super::rows::{FewRows, StateRows, StoredRow, read_values};
use super::scope::{Scope, is_whole, unit_key, unit_of};
use super::source::SourceShape;
use super::state::{Space, State};

/// What a projector is told once.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Generation of the log.
    pub log_generation: u64,
    /// Generation of the mapping.
    pub mapping_generation: u32,
    /// A part whose rows are larger than this is parked as `unit_too_large`.
    pub unit_bytes_max: u64,
    /// Connections that a batch is spread over.
    pub writers: usize,
    /// Parts that are written together at most; `None` is what suits the target.
    pub batch_parts: Option<usize>,
}

/// What evaluating needs, whatever the part.
pub struct Evaluator {
    /// The state.
    pub state: Arc<State>,
    /// The mapping.
    pub migration: Arc<Migration>,
    /// Source tables.
    pub sources: Arc<[SourceShape]>,
    /// Target tables.
    pub tables: Arc<[TableShape]>,
    /// Settings.
    pub settings: Settings,
    /// Target tables whose keys two parts could share.
    pub contended: Vec<bool>,
    /// Whether the target itself remembers what it holds of a part.
    pub target_remembers: bool,
}

/// A part on its way: what is to be written, and what will be kept of it if that succeeds.
pub struct Prepared {
    /// Its key.
    pub scope: Vec<u8>,
    /// What the state knows of it.
    pub part: PartState,
    /// What became of it before.
    pub before: Option<Box<PartResult>>,
    /// What becomes of it now.
    pub result: PartResult,
    /// Rows of it that alone are quarantined.
    pub notes: Vec<QuarantinedRow>,
    /// What is to be written; `None` while it waits.
    pub write: Option<UnitWrite>,
    /// Target keys that it claims.
    pub claims: BTreeSet<ClaimId>,
}

impl Prepared {
    /// Whether the part was parked before: that it is parked is no news then.
    pub fn was_parked(&self) -> bool {
        self.before.as_ref().is_some_and(|result| result.parked_for().is_some())
    }

    /// Gives what is written the version of an offset, where it is later than the part's own.
    ///
    /// The answers of other rows are of that offset, and what was written with earlier ones must not count as newer: a state
    /// that is built anew does not know when they last changed for this part.
    fn written_at(&mut self, offset: u64) {
        self.result.offset = self.result.offset.max(offset);
        if let Some(write) = &mut self.write {
            write.version.offset = self.result.offset;
        }
    }

    /// What its unit's sums change by.
    pub fn change_of_totals(&self, totals: usize) -> Vec<i128> {
        let at = |result: Option<&PartResult>, index| result.and_then(|result| result.totals.get(index)).copied();
        (0..totals)
            .map(|index| at(Some(&self.result), index).unwrap_or(0) - at(self.before.as_deref(), index).unwrap_or(0))
            .collect()
    }

    /// Parks the part: its rows are taken back from the target.
    pub fn park(&mut self, reason: &str, detail: &str) {
        if let Some(write) = &mut self.write {
            write.rows.clear();
        }
        park_result(&mut self.result, reason, detail);
        self.notes.clear();
    }
}

/// Sums of the unit whose parts a batch ended in, as that batch leaves them.
pub type Carried = Option<(Vec<u8>, Vec<i128>)>;

impl Evaluator {
    /// Evaluates a batch in order; the whole of a unit sees the sums that its other parts leave.
    pub fn prepare(&self, pass: &Pass, picked: Vec<Picked>, carried: &mut Carried) -> Result<Vec<Prepared>, Error> {
        let totals = self.migration.totals();
        if totals == 0 {
            return self.prepare_apart(pass, picked);
        }
        let mut batch = Vec::with_capacity(picked.len());
        for part in picked {
            let unit = unit_of(&part.scope).to_vec();
            if carried.as_ref().is_none_or(|(of, _)| *of != unit) {
                *carried = Some((unit.clone(), self.totals_of(&unit)?));
            }
            let sums = carried.as_ref().map_or(&[][..], |(_, sums)| sums);
            let prepared = self.prepare_part(pass, part, sums)?;
            if let Some((_, sums)) = carried {
                for (sum, change) in sums.iter_mut().zip(prepared.change_of_totals(totals)) {
                    *sum += change;
                }
            }
            batch.push(prepared);
        }
        Ok(batch)
    }

    /// Evaluates parts that nothing connects, on two cores.
    fn prepare_apart(&self, pass: &Pass, mut picked: Vec<Picked>) -> Result<Vec<Prepared>, Error> {
        // Room for all of them at once: growing step by step touches as much memory again.
        let one_by_one = |parts: Vec<Picked>, room| -> Result<Vec<Prepared>, Error> {
            let mut prepared = Vec::with_capacity(room);
            for part in parts {
                prepared.push(self.prepare_part(pass, part, &[])?);
            }
            Ok(prepared)
        };
        let all = picked.len();
        let half = picked.split_off(all / 2);
        std::thread::scope(|scope| {
            let second = scope.spawn(|| one_by_one(half, all - all / 2));
            let mut prepared = one_by_one(picked, all)?;
            prepared.extend(second.join().expect("evaluation does not panic")?);
            Ok(prepared)
        })
    }

    /// The sums of a unit, as last kept.
    fn totals_of(&self, unit: &[u8]) -> Result<Vec<i128>, Error> {
        let bytes = self.state.get(Space::Totals, unit)?;
        sums_from(bytes.as_deref().unwrap_or_default(), self.migration.totals())
    }

    fn prepare_part(&self, pass: &Pass, picked: Picked, sums: &[i128]) -> Result<Prepared, Error> {
        let Picked { scope, part, rows, more } = picked;
        let Scope::Part { unit, part: name } = Scope::of(&scope)? else { return Err(Error::Damaged("parts")) };
        let unit: Arc<str> = unit.into();
        let before = part.result()?.map(Box::new);
        // The whole of a unit is written whenever its sums change: its own rows do not tell when that was. Nor does a state that
        // is built anew know when a part was last written for other reasons than rows of its own.
        let summed = self.migration.totals() > 0 && is_whole(&scope);
        let offset = if summed || pass.all { pass.latest.max(part.last) } else { part.last };
        let result = PartResult { offset, mapping: self.settings.mapping_generation, ..PartResult::default() };
        let claims = BTreeSet::new();
        let mut prepared = Prepared { scope, part, before, result, notes: Vec::new(), write: None, claims };
        if prepared.part.incomplete > 0 {
            prepared.result.status = Status::Waiting;
            if let Some(before) = &prepared.before {
                prepared.result.totals.clone_from(&before.totals);
                prepared.result.asked.clone_from(&before.asked);
            }
            return Ok(prepared);
        }
        prepared.write = Some(self.blank_write(pass, &prepared, &unit, more)?);
        if let Some((reason, detail)) = self.held_back(pass, &prepared, &unit) {
            self.quarantine_all(&mut prepared, reason);
            prepared.result.status = Status::Parked { reason: reason.to_owned(), detail };
            return Ok(prepared);
        }
        let unreadable = |error: ReadError| Error::Unit(error.to_string());
        let rows = rows.as_deref();
        if let Some((table, row)) = self.copy(&name, rows.unwrap_or_default()).map_err(unreadable)? {
            debug_assert!(
                self.evaluates_to(&unit, &name, rows.unwrap_or_default(), &row),
                "a copy is what evaluating gives"
            );
            self.take_copy(&mut prepared, table, row);
            return Ok(prepared);
        }
        let looker = Looker::committed(&self.state);
        let evaluated = match rows.map(FewRows::read).transpose().map_err(unreadable)? {
            Some(rows) => evaluate(&self.migration, &unit, &name, &rows, &looker, sums),
            None => {
                let rows = StateRows::new(&self.state, &prepared.scope);
                evaluate(&self.migration, &unit, &name, &rows, &looker, sums)
            }
        };
        let evaluation = evaluated.map_err(unreadable)?;
        prepared.result.asked = looker.into_asked();
        if !prepared.result.asked.is_empty() {
            prepared.written_at(pass.latest);
        }
        self.take_evaluation(&mut prepared, evaluation);
        Ok(prepared)
    }

    /// The target row of a part that is one row, of which only a copy is made, with the row's table; `None` where evaluating has
    /// to tell.
    fn copy(&self, part: &Part, rows: &[StoredRow]) -> Result<Option<(SourceTable, TargetRow)>, ReadError> {
        let ([(place, bytes)], Some(table)) = (rows, self.migration.copies(part)) else { return Ok(None) };
        if !place.starts_with(&table.0.to_be_bytes()) {
            return Ok(None);
        }
        let row = self.migration.copied(table, &mut read_values(bytes)?);
        Ok(row.map(|row| (table, row)))
    }

    /// Whether evaluating rows gives this one row, and nothing else.
    fn evaluates_to(&self, unit: &str, part: &Part, rows: &[StoredRow], row: &TargetRow) -> bool {
        let Ok(rows) = FewRows::read(rows) else { return false };
        let looker = Looker::committed(&self.state);
        evaluate(&self.migration, unit, part, &rows, &looker, &[]).is_ok_and(|evaluation| {
            let mut tables = evaluation.accounts.tables.values().filter(|account| account.read > 0);
            let mapped = tables.next().is_some_and(|account| account.mapped == 1 && account.told() == 1);
            evaluation.rows == std::slice::from_ref(row)
                && (mapped && tables.next().is_none())
                && (evaluation.parked.is_none() && evaluation.accounts.quarantined_rows.is_empty())
                && (evaluation.counts.is_empty() && looker.into_asked().is_empty())
                && evaluation.totals.iter().all(|total| *total == 0)
        })
    }

    fn take_copy(&self, prepared: &mut Prepared, table: SourceTable, row: TargetRow) {
        let counts = RowCounts { mapped: 1, ..RowCounts::default() };
        prepared.result.rows = RowsByTable(vec![(Arc::clone(&self.sources[usize::from(table.0)].label), counts)]);
        prepared.result.totals = vec![0; self.migration.totals()];
        self.expect_rows(prepared, std::slice::from_ref(&row));
        if let Some(write) = &mut prepared.write {
            write.rows = vec![row];
        }
    }

    fn blank_write(&self, pass: &Pass, prepared: &Prepared, unit: &Arc<str>, more: bool) -> Result<UnitWrite, Error> {
        let settings = &self.settings;
        let version = WriteVersion {
            log: settings.log_generation,
            mapping: settings.mapping_generation,
            partition: 0,
            offset: prepared.result.offset,
        };
        let trust = match &prepared.before {
            _ if pass.rewrites.contains(&prepared.scope) => Trust::Nothing,
            None => Trust::Fresh,
            Some(_) => Trust::Record,
        };
        let before = if self.target_remembers { Vec::new() } else { self.owned(&prepared.scope)? };
        Ok(UnitWrite {
            unit: Arc::clone(unit),
            part: prepared.scope[unit_of(&prepared.scope).len()..].into(),
            version,
            rows: Vec::new(),
            trust,
            deletes: if more { Deletes::Later } else { Deletes::Now },
            before,
        })
    }

    /// Target keys that a part was written under, where the target does not say it.
    pub(super) fn owned(&self, scope: &[u8]) -> Result<Vec<TargetKey>, Error> {
        match self.state.get(Space::Owned, scope)? {
            Some(bytes) => super::owned::unpack(&bytes, &self.tables),
            None => Ok(Vec::new()),
        }
    }

    /// Why a part is not to be evaluated at all.
    fn held_back(&self, pass: &Pass, prepared: &Prepared, unit: &str) -> Option<(&'static str, String)> {
        let (bytes, limit) = (prepared.part.bytes, self.settings.unit_bytes_max);
        match pass.skipped.get(&unit_key(unit)) {
            Some(reason) => Some(("skipped", reason.clone())),
            None if bytes > limit => Some(("unit_too_large", format!("{bytes} bytes of rows, {limit} are allowed"))),
            None => None,
        }
    }

    fn quarantine_all(&self, prepared: &mut Prepared, reason: &str) {
        for (source, &rows) in self.sources.iter().zip(&prepared.part.rows).filter(|(_, rows)| **rows > 0) {
            let quarantined = BTreeMap::from([(reason.to_owned(), rows)]);
            let counts = RowCounts { quarantined, ..RowCounts::default() };
            prepared.result.rows.0.push((Arc::clone(&source.label), counts));
        }
    }

    fn take_evaluation(&self, prepared: &mut Prepared, evaluation: Evaluation) {
        let label = |table: usize| &self.sources[table].label;
        let result = &mut prepared.result;
        for (table, account) in evaluation.accounts.tables.iter().filter(|(_, account)| account.read > 0) {
            let counts = RowCounts {
                mapped: account.mapped,
                dropped: account.dropped.iter().map(|(reason, count)| (reason.to_string(), *count)).collect(),
                quarantined: account.quarantined.iter().map(|(reason, count)| (reason.to_string(), *count)).collect(),
            };
            result.rows.0.push((Arc::clone(label(usize::from(table.0))), counts));
        }
        for row in &evaluation.accounts.quarantined_rows {
            prepared.notes.push(QuarantinedRow {
                table: label(usize::from(row.table.0)).to_string(),
                reason: row.reason.to_string(),
                key: key_text(&row.key.0),
            });
        }
        result.counts = evaluation.counts.iter().map(|(name, count)| (name.to_string(), *count)).collect();
        result.totals = evaluation.totals;
        self.expect_rows(prepared, &evaluation.rows);
        let result = &mut prepared.result;
        if let Some(parked) = evaluation.parked {
            let table = parked.table.map_or("", |table| &**label(usize::from(table.0)));
            let detail = format!("a row of {table} cannot be mapped");
            result.status = Status::Parked { reason: parked.reason.to_string(), detail };
        } else if let Some(write) = &mut prepared.write {
            write.rows = evaluation.rows;
        }
    }

    /// Counts the rows that a part becomes, and claims their keys where another part could want them.
    fn expect_rows(&self, prepared: &mut Prepared, rows: &[TargetRow]) {
        prepared.result.target = TargetCounts { expected: rows.len() as u64, ..TargetCounts::default() };
        for row in rows.iter().filter(|row| self.contended[usize::from(row.table.0)]) {
            let shape = &self.tables[usize::from(row.table.0)];
            prepared.claims.insert(claim_id(&shape.name, &shape.key_of(row)));
        }
    }
}

/// Reads sums; all zero where there are none.
pub fn sums_from(bytes: &[u8], totals: usize) -> Result<Vec<i128>, Error> {
    let (sums, rest) = bytes.as_chunks();
    if !rest.is_empty() {
        return Err(Error::Damaged("totals"));
    }
    let mut sums: Vec<i128> = sums.iter().map(|sum| i128::from_be_bytes(*sum)).collect();
    sums.resize(totals, 0);
    Ok(sums)
}

/// Enters into a part's result that all of it is parked.
pub fn park_result(result: &mut PartResult, reason: &str, detail: &str) {
    result.target.parked = result.target.expected;
    result.status = Status::Parked { reason: reason.to_owned(), detail: detail.to_owned() };
    for (_, counts) in &mut result.rows.0 {
        let total = counts.total();
        *counts = RowCounts::default();
        if total > 0 {
            counts.quarantined.insert(reason.to_owned(), total);
        }
    }
}

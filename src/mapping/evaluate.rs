//! The pure function of a migration: the rows of a unit in, its target rows and the account of every row out (I5, I7).
//!
//! Two passes. The first keeps what orders the rows, and their handles; the second reads them in order and in pages, so
//! that a unit of half a million chunks needs the memory of its order, of one page, and of what it becomes.
//!
//! A row that a term refuses, for a reason that holds back the row alone, must leave no trace in what other rows become. Most
//! are found by the first pass; where only a later one finds such rows, the part is evaluated again without them.

use std::collections::BTreeMap;

use super::accounts::{Accounts, QuarantinedRow};
use super::compile::reason;
use super::datum::{Fault, RowView};
use super::emit::{Keys, Origin};
use super::error::ReadError;
use super::lone;
use super::order;
use super::place::{Look, Part, part_table};
use super::plan::{Migration, RowClass, Scope};
use super::plan_place::PartRule;
use super::rows::{RowRef, SourceRow, UnitRows};
use super::schema::{Role, SourceTable};
use super::term::Env;
use super::turn::Tally;
use crate::event::{Key, Timestamp, Value};
use crate::target::TargetRow;

/// Rows fetched at once by the second pass: enough to hide a store's latency, a few megabytes of chunks.
pub(super) const PAGE_ROWS: usize = 1_000;

/// What a part's rows come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evaluation {
    /// The part's target rows, parents first; none when it is parked.
    pub rows: Vec<TargetRow>,
    /// What became of every source row.
    pub accounts: Accounts,
    /// What the mapping counts, without zeros.
    pub counts: BTreeMap<Box<str>, u64>,
    /// What this part adds to each of its unit's sums; empty when nothing.
    pub totals: Vec<i128>,
    /// Why the whole part is quarantined, if it is.
    pub parked: Option<Parked>,
}

/// Why a whole unit is quarantined (I6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parked {
    /// The reason.
    pub reason: Box<str>,
    /// Table of the row that gave it, if one did.
    pub table: Option<SourceTable>,
    /// Key of that row.
    pub key: Option<Key>,
}

/// Evaluates one part of a unit.
///
/// `rows` are those of the part; `totals` the unit's sums over all of its other parts' [`Evaluation::totals`], which only
/// [`Part::Whole`] reads. Deterministic: the same rows give the same evaluation, in whatever order they are visited.
///
/// # Errors
/// [`ReadError`] when the rows, or what they refer to, cannot be read; what is wrong with a row is part of the evaluation.
pub fn evaluate(
    migration: &Migration,
    unit: &str,
    part: &Part,
    rows: &dyn UnitRows,
    look: &dyn Look,
    totals: &[i128],
) -> Result<Evaluation, ReadError> {
    let question = Question { migration, unit, part, rows, look, totals };
    if let Some(evaluation) = lone::evaluate(question)? {
        debug_assert!(
            migration.asks() || in_full(question).map_or(true, |full| full == evaluation),
            "a row evaluated alone becomes what it becomes among others"
        );
        return Ok(evaluation);
    }
    in_full(question)
}

/// What is asked of an evaluation; see [`evaluate`].
#[derive(Clone, Copy)]
pub(super) struct Question<'a> {
    pub migration: &'a Migration,
    pub unit: &'a str,
    pub part: &'a Part,
    pub rows: &'a dyn UnitRows,
    pub look: &'a dyn Look,
    pub totals: &'a [i128],
}

/// As [`evaluate`], whatever the part is made of.
pub(super) fn in_full(question: Question<'_>) -> Result<Evaluation, ReadError> {
    let mut excluded = Excluded::new();
    loop {
        let mut run = Run::new(question, &excluded);
        match run.whole(question.part) {
            // Also a part that was parked may have been so for what a refused row became.
            Ok(()) | Err(Stop::Park(_)) if !run.refused.is_empty() => {
                // A row that is refused for itself stands in nobody's way: who collides is seen when it is gone.
                let collides = |reason: &str| reason == reason::KEY_COLLISION;
                if run.refused.values().any(|reason| !collides(reason)) {
                    run.refused.retain(|_, reason| !collides(reason));
                }
                excluded.append(&mut run.refused);
            }
            Ok(()) => {
                run.rows.sort_by_key(|row| row.table);
                run.counts.retain(|_, count| *count > 0);
                let (rows, accounts, counts, totals) = (run.rows, run.accounts, run.counts, run.totals);
                return Ok(Evaluation { rows, accounts, counts, totals, parked: None });
            }
            Err(Stop::Read(error)) => return Err(error),
            Err(Stop::Park(parked)) => {
                run.accounts.park(&parked.reason);
                return Ok(Evaluation {
                    rows: Vec::new(),
                    accounts: run.accounts,
                    counts: BTreeMap::new(),
                    totals: Vec::new(),
                    parked: Some(parked),
                });
            }
        }
    }
}

/// Rows that an earlier evaluation of the part found to be refused, each with the reason.
type Excluded = BTreeMap<(SourceTable, Key), Box<str>>;

/// Why an evaluation ends early.
pub(super) enum Stop {
    Read(ReadError),
    Park(Parked),
}

impl From<ReadError> for Stop {
    fn from(error: ReadError) -> Self {
        Stop::Read(error)
    }
}

/// Keeps the first reason for which a part is parked; every other error ends the evaluation.
fn first_park(kept: &mut Option<Parked>, end: Result<(), Stop>) -> Result<(), Stop> {
    match end {
        Err(Stop::Park(parked)) => {
            kept.get_or_insert(parked);
            Ok(())
        }
        other => other,
    }
}

/// A row's place in the order of its table.
pub(super) struct Indexed {
    pub order: Box<[u8]>,
    pub class: RowClass,
    pub row: RowRef,
}

/// A row's place in the order of a table without turns.
type Placed = (Box<[u8]>, RowRef);

/// What the assembly tells the row maps.
#[derive(Default)]
pub(super) struct Known {
    pub tally: Tally,
    pub original: Option<Value>,
    pub modified: Option<Value>,
}

pub(super) struct Run<'a> {
    pub migration: &'a Migration,
    pub unit: Value,
    pub source: &'a dyn UnitRows,
    look: &'a dyn Look,
    sums: &'a [i128],
    /// Rows that are known to be refused.
    excluded: &'a Excluded,
    pub rows: Vec<TargetRow>,
    pub accounts: Accounts,
    pub counts: BTreeMap<Box<str>, u64>,
    pub totals: Vec<i128>,
    /// Rows found to be refused; when there are any, the part is evaluated again without them.
    pub refused: Excluded,
    /// Handles by table, in order of the key; the stream's are in `stream`.
    index: BTreeMap<SourceTable, Vec<Placed>>,
    pub stream: Vec<Indexed>,
    pub earliest: Option<Timestamp>,
    pub keys: Keys,
}

/// The reason of a fault, and why the evaluation ends for it.
pub(super) fn stop(fault: Fault, table: SourceTable, key: &Key) -> Stop {
    match fault.into_reason() {
        Ok(reason) => Stop::Park(Parked { reason, table: Some(table), key: Some(key.clone()) }),
        Err(error) => Stop::Read(error),
    }
}

/// When a row was written; one of a table that nothing asks the time of is behind no other: the latest there can be.
pub(super) fn time_of(row: &SourceRow, column: Option<usize>) -> Timestamp {
    match column.and_then(|column| row.values.get(column)) {
        Some(Value::Timestamp(time)) => *time,
        _ => Timestamp::INFINITY,
    }
}

impl<'a> Run<'a> {
    fn new(question: Question<'a>, excluded: &'a Excluded) -> Self {
        let Question { migration, unit, rows, look, totals: sums, .. } = question;
        Self {
            migration,
            unit: Value::text(unit),
            source: rows,
            look,
            sums,
            excluded,
            rows: Vec::new(),
            accounts: Accounts::default(),
            counts: BTreeMap::new(),
            totals: vec![0; migration.totals.len()],
            refused: Excluded::new(),
            index: BTreeMap::new(),
            stream: Vec::new(),
            earliest: None,
            keys: Keys::default(),
        }
    }

    /// What terms are evaluated in, before rows and outputs.
    pub(super) fn env(&self) -> Env<'a> {
        Env { look: self.look, totals: self.sums, ..Env::plain(&self.migration.namespace) }
    }

    /// The tables whose rows make the part up.
    fn tables(&self, part: &Part) -> Vec<SourceTable> {
        let tables = self.migration.sources.iter().zip(&self.migration.tables).enumerate();
        let whole = tables.filter(|(_, (def, plan))| def.role == Role::Unit && matches!(plan.part, PartRule::Whole));
        match part {
            Part::Whole => whole.map(|(index, _)| SourceTable(u16::try_from(index).unwrap_or(u16::MAX))).collect(),
            Part::Of(bytes) => part_table(bytes).into_iter().collect(),
        }
    }

    fn whole(&mut self, part: &Part) -> Result<(), Stop> {
        let tables = self.tables(part);
        for (at, table) in tables.iter().enumerate() {
            self.accounts.tables.insert(*table, Default::default());
            if let Err(end) = self.scan(*table) {
                // The rest of the tables is read all the same: every row of a parked part is accounted for.
                self.count_rest(&tables[at + 1..])?;
                return Err(end);
            }
        }
        // What refused rows become disturbs what others become, and all of it is evaluated again without them.
        if self.refuses() {
            return Ok(());
        }
        let known = match &self.migration.assembly {
            Some(assembly) if *part == Part::Whole => self.assemble(assembly)?,
            _ => Known::default(),
        };
        if self.refuses() {
            return Ok(());
        }
        // A shape that parks the part does not keep the others from refusing rows, without which it may not.
        let mut end = None;
        for map in self.migration.maps.iter().filter(|map| tables.contains(&map.from)) {
            first_park(&mut end, self.map(map, &known))?;
        }
        for group in self.migration.groups.iter().filter(|group| tables.contains(&group.from)) {
            first_park(&mut end, self.group(group))?;
        }
        if let Some(parked) = end {
            return Err(Stop::Park(parked));
        }
        debug_assert!(self.accounts.balanced());
        Ok(())
    }

    /// Whether a row was found to be refused.
    pub(super) fn refuses(&self) -> bool {
        !self.refused.is_empty()
    }

    /// Why an earlier evaluation of the part refused a row, if it did.
    pub(super) fn excluded(&self, table: SourceTable, row: &SourceRow) -> Option<Box<str>> {
        let excluded = self.excluded;
        if excluded.is_empty() { None } else { excluded.get(&(table, row.key.clone())).cloned() }
    }

    /// The first pass over one table.
    fn scan(&mut self, table: SourceTable) -> Result<(), Stop> {
        let def = &self.migration.sources[usize::from(table.0)];
        let assembly = self.migration.assembly.as_ref();
        let stream = assembly.filter(|assembly| assembly.stream == table);
        let source = self.source;
        let mut end = None;
        source.scan(table, &mut |handle, row| {
            self.accounts.read(table);
            if end.is_some() {
                return;
            }
            if let Some(assembly) = stream {
                end = self.classify(assembly, handle, row).err();
                return;
            }
            match self.admit(table, row) {
                Ok(Admitted::Yes) => {}
                Ok(Admitted::No) => return,
                Err(found) => {
                    end = Some(found);
                    return;
                }
            }
            let time = time_of(row, def.time);
            self.witness(time);
            let mut order = Vec::new();
            order::encode(&Value::Timestamp(time), &mut order);
            row.key.0.iter().for_each(|value| order::encode(value, &mut order));
            self.index.entry(table).or_default().push((order.into(), handle));
        })?;
        if let Some(end) = end {
            return Err(end);
        }
        self.index.entry(table).or_default().sort_unstable();
        Ok(())
    }

    /// Takes a row, or quarantines it by itself, and counts what the mapping counts of it.
    fn admit(&mut self, table: SourceTable, row: &SourceRow) -> Result<Admitted, Stop> {
        let refusal = match self.excluded(table, row) {
            Some(reason) => Some(reason),
            None => self.migration.refusal(table, &row.values)?,
        };
        if let Some(reason) = refusal {
            let key = row.key.clone();
            if self.migration.quarantine_scope(&reason) != Some(Scope::Row) {
                return Err(Stop::Park(Parked { reason, table: Some(table), key: Some(key) }));
            }
            self.accounts.quarantined(QuarantinedRow { table, key, reason });
            return Ok(Admitted::No);
        }
        if !self.told_by_shape(table) {
            self.accounts.mapped(table, 1);
        }
        self.count(table, row)?;
        Ok(Admitted::Yes)
    }

    /// Whether a shape tells which rows of a table are mapped, because it drops some.
    fn told_by_shape(&self, table: SourceTable) -> bool {
        let of_groups = self.migration.groups.iter().any(|group| group.from == table && group.others.is_some());
        let tools = self.migration.assembly.as_ref().and_then(|assembly| assembly.tools.as_ref());
        of_groups || tools.is_some_and(|tools| tools.from == table)
    }

    fn count(&mut self, table: SourceTable, row: &SourceRow) -> Result<(), Stop> {
        let plan = &self.migration.tables[usize::from(table.0)];
        if plan.counted.is_empty() {
            return Ok(());
        }
        let view = RowView::new(&row.values);
        for (count, condition) in &plan.counted {
            match condition.holds(Env { row: Some(&view), ..self.env() }) {
                Ok(true) => *self.counts.entry(count.clone()).or_default() += 1,
                Ok(false) => {}
                Err(fault) => return self.refuse(fault, Origin::Row(table, row)),
            }
        }
        Ok(())
    }

    /// Notes the time of a row that is not quarantined: only such rows make a call up, and date it.
    pub(super) fn witness(&mut self, time: Timestamp) {
        self.earliest = Some(self.earliest.map_or(time, |earliest| earliest.min(time)));
    }

    fn count_rest(&mut self, tables: &[SourceTable]) -> Result<(), Stop> {
        for table in tables {
            self.accounts.tables.insert(*table, Default::default());
            self.source.scan(*table, &mut |_, _| self.accounts.read(*table))?;
        }
        Ok(())
    }

    pub(super) fn handles(&self, table: SourceTable) -> Vec<RowRef> {
        self.index.get(&table).into_iter().flatten().map(|(_, handle)| *handle).collect()
    }

    /// Visits every row of a table in order, and stops at the first that ends the evaluation.
    pub(super) fn each(
        &mut self,
        table: SourceTable,
        visit: impl FnMut(&mut Self, &SourceRow) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        self.visit(&self.handles(table), visit)
    }

    /// Visits rows in the order of their handles, and stops at the first that ends the evaluation.
    pub(super) fn visit(
        &mut self,
        refs: &[RowRef],
        mut visit: impl FnMut(&mut Self, &SourceRow) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        let source = self.source;
        for page in refs.chunks(PAGE_ROWS) {
            let mut end = None;
            source.fetch(page, &mut |_, row| {
                if end.is_none() {
                    end = visit(self, row).err();
                }
            })?;
            if let Some(end) = end {
                return Err(end);
            }
        }
        Ok(())
    }
}

/// Whether shapes take a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Admitted {
    Yes,
    No,
}

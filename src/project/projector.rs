//! Evaluates units whose rows changed and writes what the mapping makes of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use futures_util::future::try_join_all;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::event::{Value, from_hex, to_hex};
use crate::log::{Batch, EventLog, Notice, Partition};
use crate::mapping::{Evaluation, Migration, NoLook, Part, evaluate};
use crate::target::{TableShape, Target, Trust, UnitOutcome, UnitWrite, WriteVersion};

use super::claims::{self, ClaimId, claim_id};
use super::result::{QuarantinedRow, RowCounts, Status, TargetCounts, UnitResult};
use super::rows::StateRows;
use super::state::{Session, Space, State, UnitHeader, unit_text};
use super::{Error, names};

/// Units written in one transaction: large enough to spread its cost, small enough that one refusal costs little.
const UNITS_PER_BATCH: usize = 4_096;
/// Source bytes of the units of one batch; bounds memory where units are large.
const BATCH_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// A connection is not given fewer units than this: each transaction costs a sync at the target.
const UNITS_PER_WRITER_MIN: usize = 256;

/// What a projector is told once.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Generation of the log.
    pub log_generation: u64,
    /// Generation of the mapping.
    pub mapping_generation: u32,
    /// A unit whose rows are larger than this is parked as `unit_too_large`.
    pub unit_bytes_max: u64,
    /// Connections that a batch is spread over.
    pub writers: usize,
}

/// Evaluates and writes units.
pub struct Projector {
    log: Arc<dyn EventLog>,
    state: Arc<State>,
    migration: Arc<Migration>,
    tables: Arc<[TableShape]>,
    target: Arc<dyn Target>,
    settings: Settings,
}

/// What one pass over units did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pass {
    /// Units evaluated.
    pub units: u64,
    /// Units that were parked and had not been before, by reason.
    pub parked: BTreeMap<String, u64>,
    /// Rows written or deleted at the target.
    pub target_rows: u64,
    /// Units that the log was told to evaluate again.
    pub called_back: u64,
}

/// A unit picked to be projected.
struct Picked {
    unit: Vec<u8>,
    header: UnitHeader,
}

/// A unit on its way: what is to be written, and what will be kept of it if that succeeds.
struct Prepared {
    unit: Vec<u8>,
    result: UnitResult,
    /// Rows the mapping yields; empty for parked units, whose rows are taken back.
    write: Option<UnitWrite>,
    claims: BTreeSet<ClaimId>,
    /// Whether the unit was parked before: it then is no news.
    was_parked: bool,
}

/// Units being evaluated on the blocking pool.
type Evaluating = JoinHandle<Result<Vec<Prepared>, Error>>;

impl Projector {
    /// A projector of one migration.
    pub fn new(
        log: Arc<dyn EventLog>,
        state: Arc<State>,
        migration: Arc<Migration>,
        tables: Arc<[TableShape]>,
        target: Arc<dyn Target>,
        settings: Settings,
    ) -> Self {
        Self { log, state, migration, tables, target, settings }
    }

    /// Projects every marked unit, in order of unit; while one batch is written the next is evaluated.
    ///
    /// Ends early when `stop` is cancelled; what was not written stays marked. `tell` hears of each batch.
    pub async fn project_all(
        &self,
        stop: &CancellationToken,
        mut tell: impl FnMut(Pass) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut cursor = None;
        let mut ahead = self.evaluate_next(&mut cursor)?;
        while let Some(evaluating) = ahead.take() {
            let prepared = evaluating.await.expect("evaluation does not panic")?;
            if !stop.is_cancelled() {
                ahead = self.evaluate_next(&mut cursor)?;
            }
            let outcome = match self.finish(prepared, stop).await {
                Ok(Some(pass)) => tell(pass),
                Ok(None) => break,
                Err(error) => Err(error),
            };
            if let Err(error) = outcome {
                join(ahead).await;
                return Err(error);
            }
        }
        join(ahead).await;
        Ok(())
    }

    /// Begins to evaluate the next units after `cursor`; `None` when there are no more.
    fn evaluate_next(&self, cursor: &mut Option<Vec<u8>>) -> Result<Option<Evaluating>, Error> {
        let picked = self.pick(cursor)?;
        if picked.is_empty() {
            return Ok(None);
        }
        let (state, migration, settings) =
            (Arc::clone(&self.state), Arc::clone(&self.migration), self.settings.clone());
        let tables = Arc::clone(&self.tables);
        Ok(Some(tokio::task::spawn_blocking(move || {
            picked.into_iter().map(|picked| prepare(&state, &migration, &tables, &settings, picked)).collect()
        })))
    }

    /// Writes evaluated units and keeps what became of them; `None` when `stop` was cancelled before the target answered.
    async fn finish(&self, mut prepared: Vec<Prepared>, stop: &CancellationToken) -> Result<Option<Pass>, Error> {
        let mut pass = Pass { units: prepared.len() as u64, ..Pass::default() };
        let mut session = self.state.session();
        let notices = self.settle_claims(&mut session, &mut prepared)?;
        pass.called_back = notices.len() as u64;
        if !notices.is_empty() {
            // Before the claims are kept: after a crash in between, the calls are made again rather than forgotten.
            self.log.append(Batch { notices, ..Batch::default() }).await?;
        }
        let writes: Vec<UnitWrite> = prepared.iter_mut().filter_map(|prepared| prepared.write.take()).collect();
        let outcomes = tokio::select! {
            // A write given up on the way may have happened; its version makes repeating it safe.
            outcomes = self.write(&writes) => outcomes?,
            () = stop.cancelled() => return Ok(None),
        };
        self.keep(session, prepared, &writes, outcomes, &mut pass)?;
        Ok(Some(pass))
    }

    /// Picks dirty units; ones that cannot be evaluated yet are set down as waiting.
    fn pick(&self, cursor: &mut Option<Vec<u8>>) -> Result<Vec<Picked>, Error> {
        let mut picked = Vec::new();
        let mut bytes = 0;
        let start = cursor.clone();
        self.state.scan_after(Space::Dirty, start.as_deref(), |unit, _| {
            *cursor = Some(unit.to_vec());
            let header = self.state.get(Space::Units, unit)?.ok_or(Error::Damaged("units"))?;
            let header = UnitHeader::from_bytes(&header)?;
            bytes += header.bytes;
            picked.push(Picked { unit: unit.to_vec(), header });
            Ok(picked.len() < UNITS_PER_BATCH && bytes < BATCH_BYTES_MAX)
        })?;
        Ok(picked)
    }

    /// Records what each unit claims; units that share a claim are parked, and called back.
    fn settle_claims(&self, session: &mut Session<'_>, prepared: &mut [Prepared]) -> Result<Vec<Notice>, Error> {
        let mut called = BTreeSet::new();
        let mut let_go = BTreeSet::new();
        for prepared in prepared.iter_mut() {
            let previous = self.previous(&prepared.unit)?;
            prepared.was_parked =
                previous.as_ref().is_some_and(|result| matches!(result.status, Status::Parked { .. }));
            let before = previous.as_ref().map_or_else(BTreeSet::new, claims_of);
            if prepared.write.is_none() {
                // It waits: its rows stay where they are, and so do its claims on them.
                prepared.claims = before;
                continue;
            }
            // A row that another unit of this batch lets go of still stands at the target when this one is planned.
            let too_early: BTreeSet<ClaimId> =
                prepared.claims.difference(&before).filter(|id| let_go.contains(*id)).copied().collect();
            let contest = claims::replace(session, &prepared.unit, &before, &prepared.claims)?;
            let_go.extend(before.difference(&prepared.claims).copied());
            called.extend(contest.others);
            if contest.contested {
                park(prepared, "key_collision", "another unit maps a row to the same target key");
            } else if !too_early.is_empty() {
                self.defer(prepared, &too_early);
                called.insert(unit_text(&prepared.unit)?.into());
            }
        }
        // A unit of this very batch is called back too: it may have been settled before its rival was.
        Ok(called.into_iter().map(|unit| Notice { unit, reason: "take-back: claim".into() }).collect())
    }

    /// Leaves out the rows that come too early; the others are written, so that what this unit lets go of is free too.
    fn defer(&self, prepared: &mut Prepared, too_early: &BTreeSet<ClaimId>) {
        prepared.result.status = Status::Waiting;
        if let Some(write) = &mut prepared.write {
            write.rows.retain(|row| {
                let shape = &self.tables[usize::from(row.table.0)];
                !too_early.contains(&claim_id(&shape.name, &shape.key_of(row)))
            });
        }
    }

    fn previous(&self, unit: &[u8]) -> Result<Option<UnitResult>, Error> {
        let bytes = self.state.get(Space::Results, unit)?;
        bytes.map(|bytes| serde_json::from_slice(&bytes).map_err(|_| Error::Damaged("results"))).transpose()
    }

    /// Writes a batch, spread over the target's connections.
    async fn write(&self, writes: &[UnitWrite]) -> Result<Vec<UnitOutcome>, Error> {
        let share = writes.len().div_ceil(self.settings.writers.max(1)).max(UNITS_PER_WRITER_MIN);
        let parts = writes.chunks(share).map(|part| self.write_part(part));
        Ok(try_join_all(parts).await?.into_iter().flatten().collect())
    }

    /// Writes a part, again and again while the target cannot be reached.
    async fn write_part(&self, writes: &[UnitWrite]) -> Result<Vec<UnitOutcome>, Error> {
        let patience = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(50))
            .with_max_delay(Duration::from_secs(10))
            .without_max_times()
            .with_jitter();
        let attempt = || async { self.target.apply(writes).await };
        let outcomes = attempt
            .retry(patience)
            .when(|error| matches!(error, crate::target::Error::Unreachable { .. }))
            .notify(|error, pause| {
                tracing::warn!(error = %error, pause_ms = pause.as_millis(), "target unreachable, trying again");
            })
            .await?;
        Ok(outcomes)
    }

    /// A newer version that this log cannot have given means that something else writes this migration.
    fn refuse_other_writer(&self, outcome: &UnitOutcome) -> Result<(), Error> {
        match outcome {
            UnitOutcome::Superseded { by }
                if by.log != self.settings.log_generation || by.offset >= self.log.end(Partition(0)).0 =>
            {
                Err(Error::OtherWriter)
            }
            _ => Ok(()),
        }
    }

    /// Keeps what became of each unit, and takes it off the list of units to be projected.
    fn keep(
        &self,
        mut session: Session<'_>,
        prepared: Vec<Prepared>,
        writes: &[UnitWrite],
        outcomes: Vec<UnitOutcome>,
        pass: &mut Pass,
    ) -> Result<(), Error> {
        let mut outcomes: BTreeMap<&str, UnitOutcome> = writes.iter().map(|write| &*write.unit).zip(outcomes).collect();
        let known = self.state.get(Space::Meta, names::WRITTEN)?;
        let mut highest = known.and_then(|bytes| Some(u64::from_be_bytes(bytes.try_into().ok()?))).unwrap_or(0);
        for mut prepared in prepared {
            if let Some(outcome) = outcomes.remove(unit_text(&prepared.unit)?) {
                self.refuse_other_writer(&outcome)?;
                if matches!(outcome, UnitOutcome::Written { .. } | UnitOutcome::Repeated) {
                    highest = highest.max(prepared.result.offset);
                }
                settle(&mut prepared.result, outcome, pass);
            }
            if let (Status::Parked { reason, .. }, false) = (&prepared.result.status, prepared.was_parked) {
                *pass.parked.entry(reason.clone()).or_default() += 1;
            }
            prepared.result.claims = prepared.claims.iter().map(|id| to_hex(id)).collect();
            let bytes = serde_json::to_vec(&prepared.result).expect("results are plain data under text keys");
            session.put(Space::Results, &prepared.unit, bytes);
            session.remove(Space::Dirty, &prepared.unit);
            session.remove(Space::Meta, &names::rewrite(&prepared.unit));
        }
        session.put(Space::Meta, names::WRITTEN, highest.to_be_bytes().to_vec());
        session.commit()
    }
}

/// Waits for an evaluation that nobody needs any more: nothing is left running behind.
async fn join(evaluating: Option<Evaluating>) {
    if let Some(evaluating) = evaluating {
        let _ = evaluating.await;
    }
}

/// Evaluates one unit.
fn prepare(
    state: &State,
    migration: &Migration,
    tables: &[TableShape],
    settings: &Settings,
    picked: Picked,
) -> Result<Prepared, Error> {
    let Picked { unit, header } = picked;
    let result = UnitResult {
        offset: header.last,
        mapping: settings.mapping_generation,
        status: Status::Done,
        rows: BTreeMap::new(),
        counts: BTreeMap::new(),
        target: TargetCounts::default(),
        claims: Vec::new(),
        quarantined_rows: Vec::new(),
    };
    let mut prepared = Prepared { unit, result, write: None, claims: BTreeSet::new(), was_parked: false };
    if header.incomplete > 0 {
        prepared.result.status = Status::Waiting;
        return Ok(prepared);
    }
    let version = WriteVersion {
        log: settings.log_generation,
        mapping: settings.mapping_generation,
        partition: 0,
        offset: header.last,
    };
    let name: Arc<str> = unit_text(&prepared.unit)?.into();
    let rewrite = state.get(Space::Meta, &names::rewrite(&prepared.unit))?.is_some();
    let trust = if rewrite { Trust::Nothing } else { Trust::Record };
    prepared.write = Some(UnitWrite { unit: Arc::clone(&name), version, rows: Vec::new(), trust });
    let skipped = state.get(Space::Meta, &names::skipped(&prepared.unit))?;
    let too_large = header.bytes > settings.unit_bytes_max;
    if skipped.is_some() || too_large {
        quarantine_all(&mut prepared.result, migration, &header, if too_large { "unit_too_large" } else { "skipped" });
        let detail = match skipped {
            Some(reason) => String::from_utf8_lossy(&reason).into_owned(),
            None => format!("{} bytes of rows, {} are allowed", header.bytes, settings.unit_bytes_max),
        };
        let reason = if too_large { "unit_too_large" } else { "skipped" };
        prepared.result.status = Status::Parked { reason: reason.to_owned(), detail };
        return Ok(prepared);
    }
    let rows = StateRows::new(state, &prepared.unit);
    let evaluation = evaluate(migration, &name, &Part::Whole, &rows, &NoLook, &[])
        .map_err(|error| Error::Unit(error.to_string()))?;
    drop(rows);
    take_evaluation(&mut prepared, migration, tables, evaluation);
    Ok(prepared)
}

fn take_evaluation(prepared: &mut Prepared, migration: &Migration, tables: &[TableShape], evaluation: Evaluation) {
    let sources = migration.source_tables();
    for (table, account) in &evaluation.accounts.tables {
        let counts = RowCounts {
            mapped: account.mapped,
            dropped: account.dropped.iter().map(|(reason, count)| (reason.to_string(), *count)).collect(),
            quarantined: account.quarantined.iter().map(|(reason, count)| (reason.to_string(), *count)).collect(),
        };
        prepared.result.rows.insert(sources[usize::from(table.0)].name.to_string(), counts);
    }
    for row in &evaluation.accounts.quarantined_rows {
        prepared.result.quarantined_rows.push(QuarantinedRow {
            table: sources[usize::from(row.table.0)].name.to_string(),
            reason: row.reason.to_string(),
            key: key_text(&row.key.0),
        });
    }
    prepared.result.counts = evaluation.counts.iter().map(|(name, count)| (name.to_string(), *count)).collect();
    prepared.result.target.expected = evaluation.rows.len() as u64;
    for row in &evaluation.rows {
        let shape = &tables[usize::from(row.table.0)];
        prepared.claims.insert(claim_id(&shape.name, &shape.key_of(row)));
    }
    if let Some(parked) = evaluation.parked {
        let table = parked.table.map_or("", |table| &*sources[usize::from(table.0)].name);
        let detail = format!("a row of {table} cannot be mapped");
        prepared.result.status = Status::Parked { reason: parked.reason.to_string(), detail };
    } else if let Some(write) = &mut prepared.write {
        write.rows = evaluation.rows;
    }
}

/// Parks a unit: its rows are taken back from the target.
fn park(prepared: &mut Prepared, reason: &str, detail: &str) {
    if let Some(write) = &mut prepared.write {
        write.rows.clear();
    }
    park_result(&mut prepared.result, reason, detail);
}

/// Enters into a unit's result that all of it is parked.
fn park_result(result: &mut UnitResult, reason: &str, detail: &str) {
    result.target.parked = result.target.expected;
    result.status = Status::Parked { reason: reason.to_owned(), detail: detail.to_owned() };
    result.quarantined_rows.clear();
    for counts in result.rows.values_mut() {
        let total = counts.total();
        *counts = RowCounts::default();
        if total > 0 {
            counts.quarantined.insert(reason.to_owned(), total);
        }
    }
}

fn quarantine_all(result: &mut UnitResult, migration: &Migration, header: &UnitHeader, reason: &str) {
    for (table, rows) in migration.source_tables().iter().zip(&header.rows) {
        let quarantined = if *rows > 0 { BTreeMap::from([(reason.to_owned(), *rows)]) } else { BTreeMap::new() };
        result.rows.insert(table.name.to_string(), RowCounts { quarantined, ..RowCounts::default() });
    }
}

/// Enters the target's answer into a unit's result.
fn settle(result: &mut UnitResult, outcome: UnitOutcome, pass: &mut Pass) {
    match outcome {
        UnitOutcome::Written { upserted, unchanged, deleted, foreign, matched_foreign } => {
            pass.target_rows += upserted + deleted;
            result.target.written = upserted + unchanged;
            result.target.foreign = foreign + matched_foreign;
        }
        // The target has this version already: the write happened, its answer was lost.
        UnitOutcome::Repeated | UnitOutcome::Superseded { .. } => {
            if result.status == Status::Done {
                result.target.written = result.target.expected;
            }
        }
        UnitOutcome::Parked { reason, detail } => park_result(result, &reason, &detail),
    }
}

fn claims_of(result: &UnitResult) -> BTreeSet<ClaimId> {
    result.claims.iter().filter_map(|text| from_hex(text)?.try_into().ok()).collect()
}

/// A key as text for people: its parts, comma-separated.
pub fn key_text(values: &[Value]) -> String {
    let part = |value: &Value| match value {
        Value::Text(text) | Value::Json(text) => text.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Decimal(number) => number.to_string(),
        Value::Uuid(uuid) => uuid.to_string(),
        Value::Timestamp(timestamp) => timestamp.to_string(),
        Value::Null => "NULL".to_owned(),
        other => format!("{other:?}"),
    };
    values.iter().map(part).collect::<Vec<_>>().join(", ")
}

//! Answers questions from log and state; the same code serves a running process and a command that opened them itself.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::event::encoding::ordered::key_from_bytes;
use crate::event::key_text;
use crate::event::{Canonical, Key, RelationName, to_hex};
use crate::log::{Batch, EventLog, Notice, Offset, Partition, Record, Reveal, erased_to_json, notice_to_json, to_json};
use crate::mapping::{Migration, Part, evaluate};
use crate::project::apply::Applier;
use crate::project::conservation::Conservation;
use crate::project::forgotten;
use crate::project::names;
use crate::project::pick::due;
use crate::project::prepare::sums_from;
use crate::project::records::PartState;
use crate::project::references::Looker;
use crate::project::result::{PartResult, QuarantinedRow, Status as PartStatus};
use crate::project::rows::StateRows;
use crate::project::run::{Halt, Progress, dirty_parts, halt};
use crate::project::scope::{Scope, UNIT_BYTES_MAX, unit_key};
use crate::project::source::{Acceptable, SourceShape};
use crate::project::state::{Space, State};

use crate::target::TableShape;

use super::protocol::{Answer, ParkedUnit, Question, Request, Status, UnitView};
use super::shapes;
use super::told::{capture_json, phase};
use super::{CaptureStatus, Error};
use crate::capture::load::file::standing;
use crate::capture::marks;

/// Bytes of the log read at once when records are shown.
const SHOW_BYTES: usize = 1024 * 1024;
/// Rows shown of a part, or of those that a route quarantines.
const QUARANTINED_SHOWN: usize = 1_000;
/// Attempts to evaluate a unit whose rows change meanwhile.
const ATTEMPTS: usize = 20;

/// An open log and state, and what a running process tells of itself.
#[derive(Clone)]
pub struct Session {
    /// The migration.
    pub migration: Arc<Migration>,
    /// Its source tables.
    pub sources: Arc<[SourceShape]>,
    /// The log.
    pub log: Arc<dyn EventLog>,
    /// The state.
    pub state: Arc<State>,
    /// Its target tables.
    pub tables: Arc<[TableShape]>,
    /// Generation of the mapping.
    pub mapping_generation: u32,
    /// Present in a running process.
    pub live: Option<Live>,
}

/// What only a running process knows.
#[derive(Clone)]
pub struct Live {
    /// The capture; absent while dumps are loaded.
    pub capture: Option<watch::Receiver<CaptureStatus>>,
    /// The projection.
    pub progress: watch::Receiver<Progress>,
    /// Stops the process.
    pub stop: CancellationToken,
}

impl Session {
    /// Answers a question of another process, which may be about something else, or be asked with other files.
    pub async fn answer_asked(&self, question: Question) -> Answer {
        if question.migration != self.migration.name() {
            return Answer::OtherMigration { found: self.migration.name().to_owned() };
        }
        if question.mapping.is_some_and(|mapping| mapping != to_hex(&self.migration.generation())) {
            return Answer::OtherMapping;
        }
        self.answer(question.request).await
    }

    /// Answers a question; failures become answers.
    pub async fn answer(&self, request: Request) -> Answer {
        match self.try_answer(request).await {
            Ok(answer) => answer,
            Err(error) => {
                let error = error.in_state(self.state.folder());
                Answer::Failed { message: chain(&error), hint: error.hint() }
            }
        }
    }

    async fn try_answer(&self, request: Request) -> Result<Answer, Error> {
        Ok(match request {
            Request::Status => Answer::Status(Box::new(self.status()?)),
            Request::Quarantine => Answer::Quarantine { units: self.quarantine()? },
            Request::Unit { unit } => Answer::Unit(Box::new(self.unit(&unit)?)),
            Request::Files => Answer::Files { files: standing(&*self.log)? },
            Request::Units => Answer::Units { units: self.units()? },
            Request::Stand => Answer::Stand(self.stand()?),
            Request::Since { offset, parts } => Answer::Since { parts: self.since(offset, &parts)? },
            Request::Parts { parts } => Answer::Parts { parts: self.part_views(&parts)? },
            Request::Retry { units } => self.retry(units).await?,
            Request::Skip { unit, reason } => self.skip(&unit, &reason).await?,
            Request::AcceptSchema { table, read_again: false } => self.accept_schema(&table).await?,
            Request::AcceptSchema { table, read_again: true } => self.read_again(&table).await?,
            Request::Log { from, limit, reveal, table } => {
                self.log_records(from, limit, reveal, table.as_deref()).await?
            }
            Request::Stop => {
                if let Some(live) = &self.live {
                    live.stop.cancel();
                }
                Answer::Stopping
            }
        })
    }

    /// Where everything stands.
    pub fn status(&self) -> Result<Status, Error> {
        let frozen = self.state.freeze();
        let conservation = Conservation::count(&frozen, &self.sources, self.mapping_generation)?;
        let progress = self.live.as_ref().map(|live| live.progress.borrow().clone());
        let capture = self.live.as_ref().and_then(|live| live.capture.as_ref()).map(|capture| capture.borrow().clone());
        let applied = Applier::checkpoint_at(&frozen)?.0;
        Ok(Status {
            migration: self.migration.name().to_owned(),
            running: self.live.is_some(),
            phase: phase(capture.as_ref(), progress.as_ref()).to_owned(),
            capture: capture.as_ref().map(capture_json),
            progress,
            log_end: self.log.end(Partition(0)).0,
            applied,
            dirty: dirty_parts(&frozen, self.mapping_generation)?,
            halted: self.halted()?,
            paused: self.paused()?.into_iter().map(|(name, paused)| (name, paused_text(paused))).collect(),
            skipped: self.skipped()?,
            files: standing(&*self.log)?,
            balanced: conservation.balanced(),
            conservation,
        })
    }

    /// Why no further run goes on with this mapping.
    fn halted(&self) -> Result<Option<Halt>, Error> {
        Ok(halt(&self.state)?.filter(|halt| halt.mapping == self.mapping_generation))
    }

    /// Optional tables that the source lacked when it was last looked over.
    fn skipped(&self) -> Result<Vec<String>, Error> {
        let mark = self.log.mark(marks::SKIPPED)?.unwrap_or_default();
        let names = String::from_utf8_lossy(&mark).into_owned();
        let skipped = |source: &&SourceShape| names.lines().any(|name| name == source.relation.to_string());
        Ok(self.sources.iter().filter(skipped).map(|source| source.label.to_string()).collect())
    }

    fn units(&self) -> Result<Vec<String>, Error> {
        let mut units: Vec<String> = Vec::new();
        self.state.scan(Space::Parts, &[], |scope, _| {
            if let Scope::Part { unit, .. } = Scope::of(scope)?
                && units.last().is_none_or(|last| last != unit)
            {
                units.push(unit.to_owned());
            }
            Ok(true)
        })?;
        Ok(units)
    }

    /// Parts that are parked or hold quarantined rows, and rows that their route quarantines.
    fn quarantine(&self) -> Result<Vec<ParkedUnit>, Error> {
        let mut found = Vec::new();
        self.state.scan(Space::Parts, &[], |scope, bytes| {
            let part = PartState::from_bytes(bytes)?;
            let of_concern = match Scope::of(scope)? {
                Scope::Part { .. } => part
                    .result()?
                    .is_some_and(|result| result.noted || matches!(result.status, PartStatus::Parked { .. })),
                Scope::Quarantined { .. } => !part.empty(),
                Scope::Waiting | Scope::Lookup => false,
            };
            if of_concern {
                found.push((scope.to_vec(), part));
            }
            Ok(true)
        })?;
        let mut parked = Vec::with_capacity(found.len());
        for (scope, part) in found {
            let result = part.result()?;
            parked.push(match (Scope::of(&scope)?, result) {
                (Scope::Part { unit, part: name }, Some(result)) => {
                    let rows = match (&name, result.noted) {
                        (_, true) => self.notes(&scope)?,
                        (Part::Of(_), false) => self.rows_of(&scope, "")?,
                        (Part::Whole, false) => Vec::new(),
                    };
                    ParkedUnit { unit: unit.to_owned(), result, rows }
                }
                (Scope::Quarantined { reason }, _) => {
                    let status = PartStatus::Parked { reason: reason.to_owned(), detail: "by its route".to_owned() };
                    let result = PartResult { offset: part.last, status, ..PartResult::default() };
                    ParkedUnit { unit: String::new(), result, rows: self.rows_of(&scope, reason)? }
                }
                _ => continue,
            });
        }
        Ok(parked)
    }

    /// Rows of a part that alone are quarantined.
    fn notes(&self, scope: &[u8]) -> Result<Vec<QuarantinedRow>, Error> {
        let bytes = self.state.get(Space::Notes, scope)?.unwrap_or_default();
        Ok(serde_json::from_slice(&bytes).map_err(|_| crate::project::Error::Damaged("notes"))?)
    }

    /// The first rows that stand under a key of the state, with a reason.
    fn rows_of(&self, scope: &[u8], reason: &str) -> Result<Vec<QuarantinedRow>, Error> {
        let mut rows = Vec::new();
        self.state.scan(Space::Rows, scope, |place, _| {
            let rest = place.get(scope.len()..).and_then(|rest| rest.split_first_chunk::<2>());
            let Some((table, key)) = rest else { return Ok(true) };
            let table = self.sources.get(usize::from(u16::from_be_bytes(*table)));
            // A key too long to be kept has only a digest.
            let key = key_from_bytes(key).map_or_else(|_| format!("digest {}", to_hex(key)), |key| key_text(&key.0));
            rows.push(QuarantinedRow {
                table: table.map_or_else(String::new, |table| table.label.to_string()),
                reason: reason.to_owned(),
                key,
            });
            Ok(rows.len() < QUARANTINED_SHOWN)
        })?;
        Ok(rows)
    }

    /// One unit as of the log, evaluated now.
    pub fn unit(&self, unit: &str) -> Result<UnitView, Error> {
        let captured = self.captured()?;
        for _ in 0..ATTEMPTS {
            let parts = self.parts(unit)?;
            let (mut offset, mut dirty, mut rows, mut owned, mut result) = (0, false, Vec::new(), Vec::new(), None);
            let evaluated = parts.iter().all(|(_, part)| part.incomplete == 0);
            for (scope, part) in &parts {
                offset = offset.max(part.last);
                dirty |= due(part, self.mapping_generation)?;
                if evaluated {
                    rows.extend(self.expected(scope)?);
                }
                owned.extend(self.owned(scope)?);
                let became = part.result()?;
                // The worst that became of a part is what became of the unit.
                let parked = became.as_ref().is_some_and(|result| matches!(result.status, PartStatus::Parked { .. }));
                if result.is_none() || parked {
                    result = became;
                }
            }
            // Evaluated with new answers, and not marked for them yet.
            dirty |= self.waking()?;
            // What the target has of a unit without rows is known only once something was projected.
            dirty |= parts.is_empty() && forgotten::unknown(&self.state)?;
            let (applied, end) = (Applier::checkpoint(&self.state)?.0, self.log.end(Partition(0)).0);
            // A commit changes rows and parts together: the same parts before and after mean the rows stood still.
            if self.parts(unit)? == parts {
                let known = !parts.is_empty();
                return Ok(UnitView { known, offset, dirty, applied, end, captured, result, rows, owned });
            }
        }
        Err(Error::Remote(format!("unit {unit} changes too fast to be read")))
    }

    /// The parts of a unit, the whole last.
    pub(super) fn parts(&self, unit: &str) -> Result<Vec<(Vec<u8>, PartState)>, Error> {
        let mut parts = Vec::new();
        if unit.len() > UNIT_BYTES_MAX {
            return Ok(parts);
        }
        self.state.scan(Space::Parts, &unit_key(unit), |scope, bytes| {
            parts.push((scope.to_vec(), PartState::from_bytes(bytes)?));
            Ok(true)
        })?;
        Ok(parts)
    }

    pub(super) fn expected(&self, scope: &[u8]) -> Result<Vec<(u16, String)>, Error> {
        let Scope::Part { unit, part } = Scope::of(scope)? else { return Ok(Vec::new()) };
        let totals = self.state.get(Space::Totals, &unit_key(unit))?.unwrap_or_default();
        let totals = sums_from(&totals, self.migration.totals())?;
        let rows = StateRows::new(&self.state, scope);
        let evaluation = evaluate(&self.migration, unit, &part, &rows, &Looker::committed(&self.state), &totals)?;
        Ok(evaluation.rows.into_iter().map(|row| (row.table.0, to_hex(&Key(row.values).encode()))).collect())
    }

    /// Keys that a part was written under, where the target keeps no record.
    fn owned(&self, scope: &[u8]) -> Result<Vec<(u16, String)>, Error> {
        let Some(bytes) = self.state.get(Space::Owned, scope)? else { return Ok(Vec::new()) };
        let keys = crate::project::owned::unpack(&bytes, &self.tables)?;
        Ok(keys.into_iter().map(|key| (key.table.0, to_hex(&Key(key.values).encode()))).collect())
    }

    fn known(&self, unit: &str) -> Result<(), Error> {
        if self.parts(unit)?.is_empty() { Err(Error::NoUnit(unit.to_owned())) } else { Ok(()) }
    }

    async fn retry(&self, units: Vec<String>) -> Result<Answer, Error> {
        // A unit that was skipped after what the state has applied is not known as such yet: the notice's own word keeps it so.
        let (word, units, skipped) = if units.is_empty() {
            let parked: BTreeSet<String> = self.quarantine()?.into_iter().map(|parked| parked.unit).collect();
            let (mut units, mut skipped) = (Vec::new(), 0);
            for unit in parked.into_iter().filter(|unit| !unit.is_empty()) {
                match self.state.get(Space::Meta, &names::skipped(&unit_key(&unit)))? {
                    Some(_) => skipped += 1,
                    None => units.push(unit),
                }
            }
            (names::RETRY_PARKED, units, skipped)
        } else {
            for unit in &units {
                self.known(unit)?;
            }
            (names::RETRY, units, 0)
        };
        let count = units.len() as u64;
        let notice = |unit: String| Notice { unit: unit.into(), reason: format!("{word}: asked for").into() };
        self.log.append(Batch { notices: units.into_iter().map(notice).collect(), ..Batch::default() }).await?;
        Ok(Answer::Noted { units: count, skipped })
    }

    async fn skip(&self, unit: &str, reason: &str) -> Result<Answer, Error> {
        self.known(unit)?;
        // Where only rows of it are in quarantine, all others are at the target and would go.
        let parked = |parked: &ParkedUnit| parked.unit == unit && parked.result.parked_for().is_some();
        if !self.quarantine()?.iter().any(parked) {
            return Err(Error::NotParked(unit.to_owned()));
        }
        let notice = Notice { unit: unit.into(), reason: format!("{}: {reason}", names::SKIP).into() };
        self.log.append(Batch { notices: vec![notice], ..Batch::default() }).await?;
        Ok(Answer::Noted { units: 1, skipped: 0 })
    }

    /// Tables of the log that a name means: source tables, or tables that the mapping does not mention.
    fn logged(&self, table: &str) -> Result<BTreeSet<RelationName>, Error> {
        let known = |name: &RelationName| *name.table == *table;
        let mut found: BTreeSet<RelationName> =
            self.log.relations().iter().map(|relation| &relation.name).filter(|name| known(name)).cloned().collect();
        match shapes::named(&self.sources, table) {
            Ok((_, source)) => found.insert(source.relation.clone()),
            Err(error) if found.is_empty() => return Err(error),
            Err(_) => false,
        };
        Ok(found)
    }

    async fn log_records(&self, from: u64, limit: u64, reveal: bool, table: Option<&str>) -> Result<Answer, Error> {
        let mut records = Vec::new();
        let mut next = Offset(from);
        let reveal = if reveal { Reveal::Yes } else { Reveal::No };
        let wanted = table.map(|table| self.logged(table)).transpose()?;
        let left_out = |name: &RelationName| wanted.as_ref().is_some_and(|wanted| !wanted.contains(name));
        while (records.len() as u64) < limit {
            let chunk = self.log.read(Partition(0), next, SHOW_BYTES).await?;
            if chunk.records.is_empty() {
                break;
            }
            for (offset, record) in chunk.records {
                if records.len() as u64 >= limit {
                    break;
                }
                next = Offset(offset.0 + 1);
                let mut shown = match record {
                    Record::Event(event) => {
                        let relation =
                            self.log.relation(event.relation).ok_or(crate::project::Error::LogDamaged("relations"))?;
                        if left_out(&relation.name) {
                            continue;
                        }
                        to_json(&event, &relation, reveal)
                    }
                    Record::Notice(_) if wanted.is_some() => continue,
                    Record::Notice(notice) => notice_to_json(&notice),
                    Record::Erased(erased) if left_out(&erased.relation) => continue,
                    Record::Erased(erased) => erased_to_json(&erased),
                };
                if let Some(fields) = shown.as_object_mut() {
                    fields.insert("offset".to_owned(), offset.0.into());
                }
                records.push(shown);
            }
        }
        Ok(Answer::Log { records, next: next.0 })
    }
}

/// What changed of a paused table, and whether accepting it is enough.
fn paused_text((difference, acceptable): (String, Acceptable)) -> String {
    match acceptable {
        Acceptable::Yes => difference,
        Acceptable::No => format!("{difference} (cannot be accepted: the mapping needs what is gone)"),
    }
}

/// An error with its causes, on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let more = next.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = next.source();
    }
    text
}

//! Answers questions from log and state; the same code serves a running process and a command that opened them itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::event::{Canonical, Key, RelationName, to_hex};
use crate::log::{Batch, EventLog, Notice, Offset, Partition, Record, Reveal, notice_to_json, to_json};
use crate::mapping::{Migration, evaluate};
use crate::project::apply::{Applier, NAMELESS, UNROUTED};
use crate::project::conservation::Conservation;
use crate::project::names;
use crate::project::result::{Status as UnitStatus, UnitResult};
use crate::project::rows::StateRows;
use crate::project::run::{Progress, dirty_units};
use crate::project::source::{Acceptable, Binding, SourceShape, UNIT_BYTES_MAX, bind};
use crate::project::state::{Space, State, UnitHeader, unit_key, unit_text};

use super::protocol::{Answer, ParkedUnit, Request, Status, UnitView};
use super::{CaptureStatus, Error};
use crate::capture::Phase;

/// Bytes of the log read at once when records are shown.
const SHOW_BYTES: usize = 1024 * 1024;
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
    /// Present in a running process.
    pub live: Option<Live>,
}

/// What only a running process knows.
#[derive(Clone)]
pub struct Live {
    /// The capture.
    pub capture: watch::Receiver<CaptureStatus>,
    /// The projection.
    pub progress: watch::Receiver<Progress>,
    /// Stops the process.
    pub stop: CancellationToken,
}

impl Session {
    /// Answers a question; failures become answers.
    pub async fn answer(&self, request: Request) -> Answer {
        match self.try_answer(request).await {
            Ok(answer) => answer,
            Err(error) => Answer::Failed { message: chain(&error), hint: error.hint() },
        }
    }

    async fn try_answer(&self, request: Request) -> Result<Answer, Error> {
        Ok(match request {
            Request::Status => Answer::Status(Box::new(self.status()?)),
            Request::Quarantine => Answer::Quarantine { units: self.quarantine()? },
            Request::Unit { unit } => Answer::Unit(Box::new(self.unit(&unit)?)),
            Request::Units => Answer::Units { units: self.units()? },
            Request::Retry { units } => self.retry(units).await?,
            Request::Skip { unit, reason } => self.skip(&unit, &reason).await?,
            Request::AcceptSchema { table } => self.accept_schema(&table).await?,
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
        let conservation = Conservation::count(&frozen, &self.sources)?;
        let progress = self.live.as_ref().map(|live| live.progress.borrow().clone());
        let capture = self.live.as_ref().map(|live| live.capture.borrow().clone());
        let applied = Applier::checkpoint_at(&frozen)?.0;
        Ok(Status {
            migration: self.migration.name().to_owned(),
            running: self.live.is_some(),
            phase: phase(capture.as_ref(), progress.as_ref()).to_owned(),
            capture: capture.as_ref().map(capture_json),
            progress,
            log_end: self.log.end(Partition(0)).0,
            applied,
            dirty: dirty_units(&frozen)?,
            paused: self.paused()?.into_iter().map(|(name, paused)| (name, paused_text(paused))).collect(),
            balanced: conservation.balanced(),
            conservation,
        })
    }

    /// Tables whose latest shape is not projected: what changed, and whether it can be accepted.
    fn paused(&self) -> Result<BTreeMap<String, (String, Acceptable)>, Error> {
        let mut paused = BTreeMap::new();
        for (index, source) in self.sources.iter().enumerate() {
            let mut held = false;
            let prefix = u16::try_from(index).unwrap_or(u16::MAX).to_be_bytes();
            self.state.scan(Space::Held, &prefix, |_, _| {
                held = true;
                Ok(false)
            })?;
            if let (true, Some((difference, acceptable))) = (held, self.difference(&source.relation)?) {
                paused.insert(source.relation.table.to_string(), (difference, acceptable));
            }
        }
        Ok(paused)
    }

    /// What of a table's latest shape is not accepted.
    fn difference(&self, name: &RelationName) -> Result<Option<(String, Acceptable)>, Error> {
        for relation in self.log.relations().iter().filter(|relation| relation.name == *name) {
            let accepted = self.log.mark(&names::accepted(name, relation.schema_hash()))?.is_some();
            if let Binding::Paused { difference, acceptable, .. } = bind(&self.sources, relation, accepted) {
                return Ok(Some((difference.into(), acceptable)));
            }
        }
        Ok(None)
    }

    fn units(&self) -> Result<Vec<String>, Error> {
        let mut units = Vec::new();
        self.state.scan(Space::Units, &[], |unit, _| {
            if unit != UNROUTED && unit != NAMELESS {
                units.push(unit_text(unit)?.to_owned());
            }
            Ok(true)
        })?;
        Ok(units)
    }

    fn quarantine(&self) -> Result<Vec<ParkedUnit>, Error> {
        let mut units = Vec::new();
        self.state.scan(Space::Results, &[], |unit, bytes| {
            let result: UnitResult =
                serde_json::from_slice(bytes).map_err(|_| crate::project::Error::Damaged("results"))?;
            if matches!(result.status, UnitStatus::Parked { .. }) || !result.quarantined_rows.is_empty() {
                units.push(ParkedUnit { unit: unit_text(unit)?.to_owned(), result });
            }
            Ok(true)
        })?;
        Ok(units)
    }

    /// One unit as of the log, evaluated now.
    pub fn unit(&self, unit: &str) -> Result<UnitView, Error> {
        let captured = self.live.as_ref().map(|live| live.capture.borrow().durable.to_string());
        for _ in 0..ATTEMPTS {
            let Some(header) = self.header(unit)? else {
                let (applied, end) = (Applier::checkpoint(&self.state)?.0, self.log.end(Partition(0)).0);
                return Ok(UnitView {
                    known: false,
                    offset: 0,
                    dirty: false,
                    applied,
                    end,
                    captured,
                    result: None,
                    rows: Vec::new(),
                });
            };
            let key = unit_key(unit);
            let rows = if header.incomplete > 0 { Vec::new() } else { self.expected(unit, &key)? };
            let dirty = self.state.get(Space::Dirty, &key)?.is_some();
            let result = self.state.get(Space::Results, &key)?;
            let result = result.map(|bytes| serde_json::from_slice(&bytes)).transpose();
            let result = result.map_err(|_| crate::project::Error::Damaged("results"))?;
            let (applied, end) = (Applier::checkpoint(&self.state)?.0, self.log.end(Partition(0)).0);
            // A commit changes rows and header together: the same header before and after means the rows stood still.
            if self.header(unit)?.as_ref() == Some(&header) {
                return Ok(UnitView { known: true, offset: header.last, dirty, applied, end, captured, result, rows });
            }
        }
        Err(Error::Remote(format!("unit {unit} changes too fast to be read")))
    }

    fn header(&self, unit: &str) -> Result<Option<UnitHeader>, Error> {
        if unit.len() > UNIT_BYTES_MAX {
            return Ok(None);
        }
        Ok(self.state.get(Space::Units, &unit_key(unit))?.map(|bytes| UnitHeader::from_bytes(&bytes)).transpose()?)
    }

    fn expected(&self, unit: &str, key: &[u8]) -> Result<Vec<(u16, String)>, Error> {
        let rows = StateRows::new(&self.state, key);
        let evaluation = evaluate(&self.migration, unit, &rows)?;
        Ok(evaluation.rows.into_iter().map(|row| (row.table.0, to_hex(&Key(row.values).encode()))).collect())
    }

    async fn retry(&self, units: Vec<String>) -> Result<Answer, Error> {
        let units = if units.is_empty() {
            self.quarantine()?.into_iter().map(|parked| parked.unit).collect()
        } else {
            for unit in &units {
                self.header(unit)?.ok_or_else(|| Error::NoUnit(unit.clone()))?;
            }
            units
        };
        let count = units.len() as u64;
        let notice = |unit: String| Notice { unit: unit.into(), reason: format!("{}: asked for", names::RETRY).into() };
        self.log.append(Batch { notices: units.into_iter().map(notice).collect(), ..Batch::default() }).await?;
        Ok(Answer::Noted { units: count })
    }

    async fn skip(&self, unit: &str, reason: &str) -> Result<Answer, Error> {
        self.header(unit)?.ok_or_else(|| Error::NoUnit(unit.to_owned()))?;
        if !self.quarantine()?.iter().any(|parked| parked.unit == unit) {
            return Err(Error::NotParked(unit.to_owned()));
        }
        let notice = Notice { unit: unit.into(), reason: format!("{}: {reason}", names::SKIP).into() };
        self.log.append(Batch { notices: vec![notice], ..Batch::default() }).await?;
        Ok(Answer::Noted { units: 1 })
    }

    async fn accept_schema(&self, table: &str) -> Result<Answer, Error> {
        let not = |reason: &str| Error::NotAcceptable { table: table.to_owned(), reason: reason.to_owned() };
        let source = self.sources.iter().find(|source| &*source.relation.table == table);
        let source = source.ok_or_else(|| not("the migration has no such table"))?;
        let (difference, acceptable) =
            self.difference(&source.relation)?.ok_or_else(|| not("its shape has not changed"))?;
        if acceptable == Acceptable::No {
            return Err(not(&format!("{difference}; the mapping needs what is gone")));
        }
        let mut batch = Batch::default();
        for relation in self.log.relations().iter().filter(|relation| relation.name == source.relation) {
            let name = names::accepted(&relation.name, relation.schema_hash());
            batch.marks.insert(name, Some(difference.clone().into_bytes()));
        }
        batch.notices.push(Notice { unit: "".into(), reason: format!("{}: {table}", names::ACCEPT).into() });
        self.log.append(batch).await?;
        Ok(Answer::Accepted { difference })
    }

    async fn log_records(&self, from: u64, limit: u64, reveal: bool, table: Option<&str>) -> Result<Answer, Error> {
        let mut records = Vec::new();
        let mut next = Offset(from);
        let reveal = if reveal { Reveal::Yes } else { Reveal::No };
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
                            self.log.relation(event.relation).ok_or(crate::project::Error::Damaged("relations"))?;
                        if table.is_some_and(|table| *table != *relation.name.table) {
                            continue;
                        }
                        to_json(&event, &relation, reveal)
                    }
                    Record::Notice(_) if table.is_some() => continue,
                    Record::Notice(notice) => notice_to_json(&notice),
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

/// One word for where a run is.
fn phase(capture: Option<&CaptureStatus>, progress: Option<&Progress>) -> &'static str {
    match (capture, progress) {
        (Some(capture), _) if matches!(capture.phase, Phase::Starting | Phase::Copying) => "copying",
        (Some(_), Some(progress)) if progress.current => "caught_up",
        (Some(_), Some(progress)) if progress.units == 0 => "projecting",
        (Some(_), _) => "live",
        (None, _) => "stopped",
    }
}

/// The capture's own account of itself.
fn capture_json(capture: &CaptureStatus) -> serde_json::Value {
    let tables: serde_json::Map<String, serde_json::Value> = capture
        .tables
        .iter()
        .map(|(name, table)| {
            let shown = serde_json::json!({
                "ranges_done": table.ranges_done, "ranges_total": table.ranges_total,
                "rows": table.rows, "bytes": table.bytes,
            });
            (name.to_string(), shown)
        })
        .collect();
    let streams: serde_json::Map<String, serde_json::Value> = capture
        .streams
        .iter()
        .map(|(name, stream)| {
            let shown = serde_json::json!({
                "shards_open": stream.shards_open, "shards_waiting": stream.shards_waiting,
                "newest": stream.newest.map(|time| time.to_string()),
            });
            (name.to_string(), shown)
        })
        .collect();
    let read_rate = capture.read_rate.map(|rate| {
        serde_json::json!({
            "units": rate.units, "units_per_second": rate.units_per_second,
            "limit": rate.limit, "throttled": rate.throttled,
        })
    });
    serde_json::json!({
        "streams": streams,
        "read_rate": read_rate,
        "phase": format!("{:?}", capture.phase).to_lowercase(),
        "epoch": capture.epoch.map(|epoch| epoch.0),
        "epoch_reason": capture.epoch_reason,
        "tables": tables,
        "durable": capture.durable.to_string(),
        "wal_end": capture.wal_end.to_string(),
        "streamed": capture.streamed,
        "slot": capture.slot,
        "safe_wal_bytes": capture.safe_wal_bytes,
        "retained_bytes": capture.retained_bytes,
        "error": capture.error,
        "retries": capture.retries,
    })
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

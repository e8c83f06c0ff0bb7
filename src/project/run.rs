//! The projection loop: apply what the log has, then project the units that changed, until asked to stop.
//!
//! One task does both in turn, so that a unit is never evaluated while its rows change. While a snapshot is under way the
//! state only fills; then every unit is evaluated once, in order of unit, and from then on as it changes. Evaluating a call
//! again for each of its forty chunks would be quadratic.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::FutureExt as _;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::log::{Batch, Chunk, EventLog, Offset, Partition};
use crate::mapping::Migration;

use crate::target::Cost;

use super::again::{Again, Load};
use super::apply::Applier;
use super::pick::due;
use super::projector::Projector;
use super::records::PartState;
use super::scope::is_part;
use super::source::{SourceShape, described};
use super::state::{Frozen, Space, State};
use super::{Error, forgotten, names, sweep};

/// Bytes of the log read at once.
const CHUNK_BYTES: usize = 4 * 1024 * 1024;
/// Bytes of changes that are committed at once while there is more to apply: large enough to be loaded as one table, small
/// enough that memory does not tell.
const COMMIT_BYTES: usize = 32 * 1024 * 1024;
/// Chunks applied before units are projected, once the snapshot is complete: a backlog is folded first, which spares
/// evaluating its units again and again, but not without bound.
const LIVE_CHUNKS_MAX: usize = 64;
/// The only partition of the embedded log; see there.
const PARTITION: Partition = Partition(0);
/// Before this many units were evaluated no share of parked ones means anything.
const BREAKER_UNITS_MIN: u64 = 200;

/// How far the projection is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Offset after the last record applied.
    pub applied: u64,
    /// Offset after the last record in the log.
    pub end: u64,
    /// Offset up to which every unit has been projected.
    pub projected: u64,
    /// Whether every unit has been projected as of `applied`, after the snapshot was complete.
    pub current: bool,
    /// Units, or parts of them, evaluated since the run began.
    pub units: u64,
    /// Target rows written or deleted since the run began.
    pub target_rows: u64,
    /// What the target's calls have cost, where its store counts that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
    /// Parts that are parked now.
    #[serde(default)]
    pub parked_now: u64,
    /// Parts parked since the run began that had not been before, by reason.
    pub parked: BTreeMap<String, u64>,
    /// Units, or parts of them, with rows that alone were quarantined since the run began, by the reason of the first.
    #[serde(default)]
    pub quarantined: BTreeMap<String, u64>,
}

/// What the loop is told once.
#[derive(Debug, Clone)]
pub struct Options {
    /// Share of evaluated units, in percent, that may be parked or hold rows in quarantine before the run halts (I6); 100
    /// never halts.
    pub park_percent_max: u64,
    /// Largest number of keys that a sweep may delete; more are a sign that the snapshot read the wrong database.
    pub sweep_max: u64,
}

/// Runs the projection of one migration.
pub struct Projection {
    /// The log to read.
    pub log: Arc<dyn EventLog>,
    /// The state to keep.
    pub state: Arc<State>,
    /// Source tables.
    pub sources: Arc<[SourceShape]>,
    /// The mapping.
    pub migration: Arc<Migration>,
    /// Evaluates and writes units.
    pub projector: Projector,
    /// Settings.
    pub options: Options,
    /// Tells whether the log holds a complete snapshot of the present epoch.
    pub snapshot_complete: SnapshotComplete,
}

/// What is kept of a halt for too many parked parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Halt {
    /// Generation of the mapping.
    pub mapping: u32,
    /// Parts that were parked.
    pub parked: u64,
    /// Parts that were evaluated.
    pub evaluated: u64,
    /// The most frequent reason.
    pub reason: String,
    /// Offset after the last record of the log: what a person said before that was not about this.
    #[serde(default)]
    pub end: u64,
}

/// What was kept of the last halt that stands.
pub fn halt(state: &State) -> Result<Option<Halt>, Error> {
    Halt::read(state.get(Space::Meta, names::HALTED)?)
}

impl Halt {
    pub(super) fn read(bytes: Option<Vec<u8>>) -> Result<Option<Self>, Error> {
        bytes.map(|bytes| serde_json::from_slice(&bytes).map_err(|_| Error::Damaged("halts"))).transpose()
    }
}

/// Tells whether a log holds a complete snapshot.
pub type SnapshotComplete = Box<dyn Fn(&dyn EventLog) -> Result<bool, crate::log::Error> + Send + Sync>;

impl Projection {
    /// Refuses to project from a state that is built anew by other shapes than the target was last projected by, while it holds
    /// back what some of the log's events say: rows that these tell of would be taken back, or become what they were before.
    ///
    /// By the same shapes, the same events were held back when the target was written.
    async fn refuse_unread(&self, applier: &Applier) -> Result<(), Error> {
        let now = shapes_digest(&self.sources);
        if self.log.mark(names::PROJECTED_BY)?.as_ref() == Some(&now) {
            return Ok(());
        }
        let tables = applier.held_back();
        if !tables.is_empty() && forgotten::unknown(&self.state)? && self.projector.target_remembers_parts().await? {
            return Err(Error::Unread { tables: tables.join(", ") });
        }
        let marks = [(names::PROJECTED_BY.to_owned(), Some(now))].into();
        self.log.append(Batch { marks, ..Batch::default() }).await?;
        Ok(())
    }

    /// Refuses to go on where an earlier run halted because too many parts are parked, until one of them is tried again or
    /// skipped, the mapping is another, or more may be parked: what a restart finds parked already, it does not count.
    fn refuse_halted(&self) -> Result<(), Error> {
        let Some(halt) = halt(&self.state)? else { return Ok(()) };
        if halt.mapping == self.projector.mapping_generation() {
            self.break_at(halt.parked, halt.evaluated, || halt.reason)?;
        }
        let mut session = self.state.session();
        session.remove(Space::Meta, names::HALTED);
        session.commit()
    }

    /// Runs until `stop` is cancelled; a pass under way is finished first.
    ///
    /// # Errors
    /// [`Error`] when log, state or target fail for good, or too many units are parked.
    pub async fn run(self, progress: watch::Sender<Progress>, stop: CancellationToken) -> Result<(), Error> {
        let mut applier = Applier::resume(&self.state, Arc::clone(&self.sources), Arc::clone(&self.migration))?;
        let mut said = Progress::default();
        // What a crash left half released goes first: nothing may be projected in between.
        applier.wake(&self.state)?;
        applier.release_accepted(&*self.log, &self.state).await?;
        // What the log holds already is folded before anything is projected: a state that is rebuilt must not take
        // the target back to where it was in the middle of the log.
        let backlog = self.log.end(PARTITION);
        let mut forgotten = true;
        // Ticks that were missed are made up for, so that they tell how much time has passed.
        let (mut again, mut tried, mut ticks) = (Again::default(), Vec::new(), tokio::time::interval(AGAIN_TICK));
        while !stop.is_cancelled() {
            let complete = (self.snapshot_complete)(&*self.log)?;
            // Read after the mark: the snapshot that the mark tells of lies before this offset.
            let end = self.log.end(PARTITION);
            let until = if complete { Some(backlog) } else { None };
            let (applied, moved) = self.catch_up(&mut applier, &progress, &mut said, until, &stop).await?;
            // A new epoch may have been opened meanwhile.
            let complete = complete && (self.snapshot_complete)(&*self.log)?;
            if complete && !stop.is_cancelled() {
                if forgotten {
                    self.refuse_unread(&applier).await?;
                    self.refuse_halted()?;
                }
                if std::mem::take(&mut forgotten) && self.projector.call_back_forgotten().await? > 0 {
                    continue;
                }
                // What a sweep takes away goes first: a row that is there under its old key and its new one collides with itself.
                if applied < end && !self.log.marks(names::SWEEP)?.is_empty() {
                    continue;
                }
                if applied >= end
                    && sweep::run(&*self.log, &self.state, &self.sources, self.options.sweep_max).await? > 0
                {
                    continue;
                }
                let called_back = self.project_dirty(&progress, &mut said, &stop).await?;
                said.parked_now = self.projector.parked_now()?;
                applier.know_marking(&self.state)?;
                // Units that were called back are not done: their notices lie behind `applied`.
                let done = called_back == 0;
                let idle = done && self.log.end(PARTITION) == applied;
                // While changes come in without end nothing below is ever waited for, and time passes all the same.
                while ticks.tick().now_or_never().is_some() {
                    again.tick();
                }
                let due = again.due(said.target_rows, if idle { Load::Idle } else { Load::Changes });
                if due && !stop.is_cancelled() && self.projector.try_again(&mut tried)? > 0 {
                    continue;
                }
                if done && !stop.is_cancelled() {
                    said.projected = applied.0;
                }
            }
            let idle = self.log.end(PARTITION) == applied;
            said.end = self.log.end(PARTITION).0;
            said.current = complete && idle && !stop.is_cancelled();
            progress.send_replace(said.clone());
            if idle && !stop.is_cancelled() {
                let waiting = self.log.wait_beyond(PARTITION, applied);
                tokio::select! {
                    // Both are cancel-safe: nothing is taken from the log by waiting.
                    () = waiting => {}
                    () = stop.cancelled() => {}
                    _ = ticks.tick() => again.tick(),
                    // The snapshot can become complete, and a sweep be asked for, by a mark alone, without a record.
                    () = tokio::time::sleep(if complete && !moved { IDLE_POLL } else { MARK_POLL }) => {}
                }
            }
        }
        Ok(())
    }

    /// Applies what the log has. Once live, which `until` tells, and beyond it, it stops after some chunks, so that units
    /// are written while the log grows.
    async fn catch_up(
        &self,
        applier: &mut Applier,
        progress: &watch::Sender<Progress>,
        said: &mut Progress,
        until: Option<Offset>,
        stop: &CancellationToken,
    ) -> Result<(Offset, bool), Error> {
        let mut from = Applier::checkpoint(&self.state)?;
        let began = from;
        let end = self.log.end(PARTITION);
        let mut session = self.state.session();
        let mut chunks = 0;
        let mut ahead: Option<JoinHandle<_>> = None;
        while !stop.is_cancelled() {
            // What comes meanwhile waits for the next round: no unit would be written else while the log grows.
            if until.is_some_and(|until| from >= until && (from >= end || chunks >= LIVE_CHUNKS_MAX)) {
                break;
            }
            chunks += 1;
            let chunk = match ahead.take() {
                Some(reading) => reading.await.expect("reading the log does not panic")?,
                None => read(Arc::clone(&self.log), from).await?,
            };
            if chunk.records.is_empty() {
                // While the snapshot is under way more will come; a commit now would be one of many small ones.
                if until.is_none() && self.more_of_snapshot(from, stop).await? {
                    continue;
                }
                break;
            }
            // While this chunk is applied the next is read and decoded.
            if self.log.end(PARTITION) > chunk.next {
                ahead = Some(tokio::spawn(read(Arc::clone(&self.log), chunk.next)));
            }
            let state = &*self.state;
            let records = chunk.records;
            session = tokio::task::block_in_place(|| applier.fold(&*self.log, state, session, records))?;
            from = chunk.next;
            if applier.asked() {
                tokio::task::block_in_place(|| applier.finish(state, session, from))?;
                applier.release_accepted(&*self.log, state).await?;
                session = state.session();
            } else if session.bytes() >= COMMIT_BYTES {
                tokio::task::block_in_place(|| applier.finish_behind(&mut session, from))?;
            }
            said.applied = from.0;
            said.end = self.log.end(PARTITION).0;
            said.current = false;
            progress.send_replace(said.clone());
        }
        if let Some(reading) = ahead {
            // What it read is read again; nothing is left running behind.
            let _ = reading.await;
        }
        if from > began {
            tokio::task::block_in_place(|| applier.finish(&self.state, session, from))?;
        }
        Ok((from, from > began))
    }

    /// Waits a little for more records; answers false when none came, or the snapshot has become complete.
    async fn more_of_snapshot(&self, from: Offset, stop: &CancellationToken) -> Result<bool, Error> {
        tokio::select! {
            // Cancel-safe, all three: nothing is taken from the log by waiting.
            () = self.log.wait_beyond(PARTITION, from) => {}
            () = stop.cancelled() => {}
            () = tokio::time::sleep(MARK_POLL) => {}
        }
        Ok(self.log.end(PARTITION) > from && !(self.snapshot_complete)(&*self.log)?)
    }

    /// Projects every unit that is marked; returns how many were called back, to be projected again.
    async fn project_dirty(
        &self,
        progress: &watch::Sender<Progress>,
        said: &mut Progress,
        stop: &CancellationToken,
    ) -> Result<u64, Error> {
        let mut called_back = 0;
        self.projector
            .project_all(stop, |pass| {
                said.units += pass.parts;
                said.target_rows += pass.target_rows;
                said.cost = self.projector.cost();
                called_back += pass.called_back;
                for (to, from) in [(&mut said.parked, pass.parked), (&mut said.quarantined, pass.quarantined)] {
                    for (reason, count) in from {
                        *to.entry(reason).or_default() += count;
                    }
                }
                progress.send_replace(said.clone());
                self.check_breaker(said)
            })
            .await?;
        Ok(called_back)
    }

    /// Halts when so many units are parked, or hold rows in quarantine, that the fault is not theirs (I6).
    fn check_breaker(&self, said: &Progress) -> Result<(), Error> {
        let held_back = || said.parked.iter().chain(&said.quarantined);
        let parked: u64 = held_back().map(|(_, count)| count).sum();
        let most =
            || held_back().max_by_key(|(_, count)| **count).map_or_else(String::new, |(reason, _)| reason.clone());
        self.break_at(parked, said.units, most)
    }

    fn break_at(&self, parked: u64, evaluated: u64, reason: impl FnOnce() -> String) -> Result<(), Error> {
        let limit = evaluated.max(BREAKER_UNITS_MIN) * self.options.park_percent_max / 100;
        if self.options.park_percent_max >= 100 || parked <= limit {
            return Ok(());
        }
        Err(Error::Breaker { parked, evaluated, reason: reason(), limit })
    }
}

/// Digest of the source tables' shapes.
fn shapes_digest(sources: &[SourceShape]) -> Vec<u8> {
    let mut hasher = blake3::Hasher::new_derive_key("rehome projected shapes v1");
    for text in described(sources) {
        hasher.update(&(text.len() as u64).to_be_bytes()).update(text.as_bytes());
    }
    hasher.finalize().as_bytes().to_vec()
}

/// Reads a chunk of the log.
async fn read(log: Arc<dyn EventLog>, from: Offset) -> Result<Chunk, crate::log::Error> {
    log.read(PARTITION, from, CHUNK_BYTES).await
}

/// How often it is asked whether parked parts are to be tried again.
const AGAIN_TICK: std::time::Duration = std::time::Duration::from_secs(1);
/// How often an idle loop looks for a mark.
const IDLE_POLL: std::time::Duration = std::time::Duration::from_millis(500);
/// How often the loop looks for a mark that no record announces.
const MARK_POLL: std::time::Duration = std::time::Duration::from_millis(50);

/// Parts that wait to be projected.
pub fn dirty_parts(state: &Frozen<'_>, mapping: u32) -> Result<u64, Error> {
    let mut count = 0;
    if state.get(Space::Meta, names::MARKED)?.is_some() {
        state.each(Space::Dirty, |_, _| {
            count += 1;
            Ok(())
        })?;
        return Ok(count);
    }
    state.each(Space::Parts, |scope, part| {
        count += u64::from(is_part(scope) && due(&PartState::from_bytes(part)?, mapping)?);
        Ok(())
    })?;
    Ok(count)
}

//! Projects parts whose rows changed: picks and evaluates a batch while the one before is written, and keeps what came of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::log::{Batch, EventLog, Notice, Partition};
use crate::mapping::Migration;
use crate::target::{Cost, TableShape, Target, TargetTable, Trust, UnitOutcome, UnitWrite};

use super::claims::{self, ClaimId, claim_id};
use super::forgotten::{self, notice};
use super::in_hand::{Ahead, Begun, Evaluating, InHand, Picking, join_picking};
use super::pick::Pass;
use super::prepare::{Carried, Evaluator, Prepared, Settings};
use super::records::PartState;
use super::result::Status;
use super::run::Halt;
use super::scope::is_whole;
use super::session::Session;
use super::source::SourceShape;
use super::state::{Space, State};
use super::write::Writer;
use super::{Error, names};

/// Parts of one batch for a target with transactions, each of which costs a sync: four times as many take two thirds of the time.
/// Those that are refused are found by halving.
const PARTS_PER_TRANSACTION: usize = 16_384;
/// Parts of one batch for a target where each item is written by itself: what is on its way when it fails is looked at again.
const PARTS_PER_BATCH: usize = 4_096;
/// Batches on their way to the target at once where they do not wait for each other: while one is kept, and the shares of one end
/// at different times, connections have the next.
const BATCHES_WRITTEN_AT_ONCE: usize = 2;
/// Bytes of results that are committed at once where they are gathered.
const KEEP_BYTES: usize = 16 * 1024 * 1024;
/// Parts that are tried again at once: their failing one by one takes the target about a second.
const AGAIN_MAX: usize = 1_000;

/// Evaluates and writes parts.
pub struct Projector {
    log: Arc<dyn EventLog>,
    pub(super) evaluator: Arc<Evaluator>,
    writer: Writer,
}

/// What one batch of parts came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Done {
    /// Parts evaluated.
    pub parts: u64,
    /// Parts that were parked and had not been before, by reason.
    pub parked: BTreeMap<String, u64>,
    /// Parts that hold rows which alone are quarantined, and had none before, by the reason of the first.
    pub quarantined: BTreeMap<String, u64>,
    /// Rows written or deleted at the target.
    pub target_rows: u64,
    /// Parts that are to be evaluated again.
    pub called_back: u64,
}

impl Projector {
    /// A projector of one migration.
    pub fn new(
        log: Arc<dyn EventLog>,
        state: Arc<State>,
        migration: Arc<Migration>,
        sources: Arc<[SourceShape]>,
        tables: Arc<[TableShape]>,
        target: Arc<dyn Target>,
        settings: Settings,
    ) -> Self {
        let contended = (0..).take(tables.len()).map(|table| !migration.keys_disjoint(TargetTable(table))).collect();
        let target_remembers = target.keeps_record();
        let evaluator = Evaluator { state, migration, sources, tables, settings, contended, target_remembers };
        let writer = Writer::new(target, evaluator.settings.writers);
        Self { log, evaluator: Arc::new(evaluator), writer }
    }

    /// Generation of the mapping that parts are evaluated with.
    pub fn mapping_generation(&self) -> u32 {
        self.evaluator.settings.mapping_generation
    }

    /// What the target's calls have cost, where its store counts that.
    pub fn cost(&self) -> Option<Cost> {
        self.writer.target().cost()
    }

    pub(super) fn state(&self) -> &State {
        &self.evaluator.state
    }

    /// Whether the target holds parts that were written before.
    pub async fn target_remembers_parts(&self) -> Result<bool, Error> {
        forgotten::any(self.state(), self.writer.target()).await
    }

    /// Calls back parts that the target remembers and a state that is built anew knows nothing of; returns how many.
    pub async fn call_back_forgotten(&self) -> Result<u64, Error> {
        if !forgotten::unknown(self.state())? {
            return Ok(0);
        }
        forgotten::call_back(self.state(), &*self.log, self.writer.target()).await
    }

    /// Projects every part that changed, in order of part; while one batch is written the next is evaluated, and the one behind it
    /// is picked.
    ///
    /// Ends early when `stop` is cancelled; what was not written stays to be done. `tell` hears of each batch.
    pub async fn project_all(
        &self,
        stop: &CancellationToken,
        mut tell: impl FnMut(Done) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let (mapping, totals) = (self.evaluator.settings.mapping_generation, self.evaluator.migration.totals() > 0);
        let usual = if self.evaluator.target_remembers { PARTS_PER_TRANSACTION } else { PARTS_PER_BATCH };
        let parts_max = self.evaluator.settings.batch_parts.unwrap_or(usual);
        let pass = Arc::new(Pass::begin(self.state(), mapping, totals, parts_max)?);
        let first = self.evaluate(&pass, pick(&self.evaluator, &pass, None), None);
        let mut ahead = InHand::new(first);
        let mut kept = self.state().session();
        let ended = self.go_over(&pass, &mut ahead, &mut kept, stop, &mut tell).await;
        ahead.end().await;
        match &ended {
            Ok(()) if pass.all && !stop.is_cancelled() => {
                kept.put(Space::Meta, names::MARKED, Vec::new());
                kept.remove(Space::Meta, names::FORCED);
            }
            Ok(()) => {}
            // What it speaks of was written, and is to be found where it says.
            Err(Error::Breaker { parked, evaluated, reason, .. }) => {
                let (parked, evaluated, reason) = (*parked, *evaluated, reason.clone());
                let halt = Halt { mapping, parked, evaluated, reason, end: self.log.end(Partition(0)).0 };
                let halt = serde_json::to_vec(&halt).expect("numbers and text are JSON");
                kept.put(Space::Meta, names::HALTED, halt);
            }
            Err(_) => return ended,
        }
        tokio::task::block_in_place(|| kept.commit())?;
        ended
    }

    /// Takes the batches of a pass one after the other, as far as `stop` lets it; what has been kept and not committed is in `kept`.
    async fn go_over<'a>(
        &'a self,
        pass: &Arc<Pass>,
        ahead: &mut InHand,
        kept: &mut Session<'a>,
        stop: &CancellationToken,
        tell: &mut impl FnMut(Done) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let gathered = self.gathers(pass);
        let at_once = if gathered && !self.rows_refer() { BATCHES_WRITTEN_AT_ONCE } else { 1 };
        loop {
            if ahead.ready.is_none()
                && ahead.written_now() < at_once
                && let Some(task) = ahead.evaluating.take()
            {
                let Ahead { prepared, picking, carried } = task.await.expect("evaluation does not panic")?;
                if stop.is_cancelled() {
                    join_picking(picking).await;
                    return Ok(());
                }
                if let Some(picking) = picking {
                    ahead.evaluating = Some(self.evaluate(pass, picking, carried));
                    ahead.ready = Some(prepared);
                }
            }
            if let Some(prepared) = ahead.take_next(at_once) {
                ahead.push(self.begin(kept, prepared).await?);
                continue;
            }
            if ahead.written_now() == 0 {
                return Ok(());
            }
            tokio::select! {
                written = ahead.oldest_written() => written?,
                () = stop.cancelled() => {
                    if !gathered {
                        // Claims of parts that were not written are not kept.
                        *kept = self.state().session();
                    }
                    return Ok(());
                }
            }
            let mut written = ahead.pop().expect("it was there");
            let outcomes = written.writing.take_outcomes();
            tell(self.finish(pass, kept, written, outcomes).await?)?;
            if gathered && kept.bytes() >= KEEP_BYTES {
                // The next batch is written meanwhile.
                tokio::task::block_in_place(|| kept.commit_behind())?;
            } else if !gathered {
                let kept = std::mem::replace(kept, self.state().session());
                tokio::task::block_in_place(|| kept.commit())?;
            }
        }
    }

    /// Whether results of several batches are gathered before they are committed: a first projection needs none of them for the
    /// next, and evaluating a part again after a crash finds it written.
    fn gathers(&self, pass: &Pass) -> bool {
        let apart = self.evaluator.migration.totals() == 0 && !self.evaluator.contended.contains(&true);
        pass.all && apart && self.evaluator.target_remembers
    }

    /// Whether rows of a batch may refer to those of the batch before it, which would refuse all of its first load.
    fn rows_refer(&self) -> bool {
        self.evaluator.migration.target_tables().iter().any(|table| !table.foreign_keys.is_empty())
    }

    /// Marks parts to be projected again that rows at the target hold back, or rows that are not there yet; a bounded number
    /// of them behind `cursor`, which is moved; returns how many.
    pub fn try_again(&self, cursor: &mut Vec<u8>) -> Result<u64, Error> {
        let begin = names::awaiting(cursor);
        let (mut scopes, mut more) = (Vec::new(), false);
        self.state().scan_after(Space::Meta, Some(&begin), |key, _| {
            let Some(scope) = key.strip_prefix(names::AWAITING) else { return Ok(false) };
            more = scopes.len() == AGAIN_MAX;
            if !more {
                scopes.push(scope.to_vec());
            }
            Ok(!more)
        })?;
        let mut session = self.state().session();
        for scope in &scopes {
            session.put(Space::Dirty, scope, Vec::new());
        }
        session.commit()?;
        *cursor = scopes.last().filter(|_| more).cloned().unwrap_or_default();
        Ok(scopes.len() as u64)
    }

    /// Begins to evaluate what is being picked, and then to pick what comes behind it.
    fn evaluate(&self, pass: &Arc<Pass>, picking: Picking, mut carried: Carried) -> Evaluating {
        let (evaluator, pass, runtime) = (Arc::clone(&self.evaluator), Arc::clone(pass), Handle::current());
        tokio::task::spawn_blocking(move || {
            let (picked, cursor) = runtime.block_on(picking).expect("picking does not panic")?;
            let picking = (!picked.is_empty()).then(|| pick(&evaluator, &pass, cursor));
            match evaluator.prepare(&pass, picked, &mut carried) {
                Ok(prepared) => Ok(Ahead { prepared, picking, carried }),
                Err(error) => {
                    runtime.block_on(join_picking(picking));
                    Err(error)
                }
            }
        })
    }

    /// Begins to write evaluated parts.
    async fn begin(&self, session: &mut Session<'_>, mut prepared: Vec<Prepared>) -> Result<Begun, Error> {
        self.know_what_was_kept(session, &mut prepared)?;
        let notices = self.settle_claims(session, &mut prepared)?;
        let called_back = notices.len() as u64;
        if !notices.is_empty() {
            // Before the claims are kept: after a crash in between, the calls are made again rather than forgotten.
            self.log.append(Batch { notices, ..Batch::default() }).await?;
        }
        let mut writes: Vec<UnitWrite> = Vec::with_capacity(prepared.len());
        writes.extend(prepared.iter_mut().filter_map(|prepared| prepared.write.take()));
        self.keep_owned_ahead(&prepared, &writes)?;
        Ok(Begun { prepared, called_back, writing: self.writer.begin(writes) })
    }

    /// Keeps what became of parts that were written.
    async fn finish(
        &self,
        pass: &Pass,
        session: &mut Session<'_>,
        begun: Begun,
        outcomes: Vec<UnitOutcome>,
    ) -> Result<Done, Error> {
        let Begun { prepared, called_back, writing } = begun;
        let mut done = Done { parts: prepared.len() as u64, called_back, ..Done::default() };
        let overtaken = self.overtaken(writing.writes(), &outcomes)?;
        done.called_back += overtaken.len() as u64;
        if !overtaken.is_empty() {
            self.log.append(Batch { notices: overtaken, ..Batch::default() }).await?;
        }
        let keep = || self.keep(pass, session, prepared, writing.writes(), outcomes, &mut done);
        tokio::task::block_in_place(keep)?;
        Ok(done)
    }

    /// The whole of a unit comes once more with each batch that has parts of it, and was picked before the last was kept.
    fn know_what_was_kept(&self, session: &Session<'_>, prepared: &mut [Prepared]) -> Result<(), Error> {
        if self.evaluator.migration.totals() == 0 {
            return Ok(());
        }
        for prepared in prepared.iter_mut().filter(|prepared| is_whole(&prepared.scope)) {
            let Some(bytes) = session.get(Space::Parts, &prepared.scope)? else { continue };
            prepared.part = PartState::from_bytes(&bytes)?;
            prepared.before = prepared.part.result()?.map(Box::new);
            let Some(write) = &mut prepared.write else { continue };
            if prepared.before.is_some() && write.trust == Trust::Fresh {
                write.trust = Trust::Record;
            }
            if !self.evaluator.target_remembers {
                write.before = self.evaluator.owned(&prepared.scope)?;
            }
        }
        Ok(())
    }

    /// Records what each part claims; parts that share a claim are parked, and called back.
    ///
    /// What the batch lets go of is free for all of it, in whatever order its parts stand: rows that take over each other's
    /// keys are no rivals. Nor is a part that is yet to be evaluated in this pass: what it wants is not known.
    fn settle_claims(&self, session: &mut Session<'_>, prepared: &mut [Prepared]) -> Result<Vec<Notice>, Error> {
        let (mut called, mut let_go) = (BTreeSet::new(), BTreeSet::new());
        if !self.evaluator.contended.contains(&true) {
            return Ok(Vec::new());
        }
        // A part that waits keeps its claims: its rows stay where they are.
        for prepared in prepared.iter().filter(|prepared| prepared.write.is_some()) {
            let before = claims::of(session, &prepared.scope)?;
            let gone: BTreeSet<ClaimId> = before.difference(&prepared.claims).copied().collect();
            called.extend(claims::release(session, &prepared.scope, &gone)?);
            let_go.extend(gone);
        }
        let last = prepared.iter().map(|prepared| prepared.scope.clone()).max().unwrap_or_default();
        for prepared in prepared.iter_mut().filter(|prepared| prepared.write.is_some()) {
            let before = claims::of(session, &prepared.scope)?;
            // A row that another part of this batch lets go of still stands at the target when this one is planned.
            let mut too_early: BTreeSet<ClaimId> =
                prepared.claims.difference(&before).filter(|id| let_go.contains(*id)).copied().collect();
            let contest = claims::take(session, &prepared.scope, &prepared.claims)?;
            if before != prepared.claims {
                claims::keep(session, &prepared.scope, &prepared.claims);
            }
            if !claims::to_come(session, &contest.rivals, &last)? {
                called.extend(contest.new);
                called.extend(claims::waiting(session, contest.rivals)?);
                prepared.park("key_collision", "another unit or part maps a row to the same target key");
                continue;
            }
            if !too_early.is_empty() {
                called.insert(prepared.scope.clone());
            }
            // Whoever is to come calls this part back, when it lets go and when it does not.
            too_early.extend(contest.contested);
            if !too_early.is_empty() {
                self.defer(prepared, &too_early);
            }
        }
        // A part of this very batch is called back too: it may have been settled before its rival was.
        called.iter().map(|scope| notice(scope)).collect()
    }

    /// Leaves out the rows that come too early; the others are written, so that what this part lets go of is free too.
    fn defer(&self, prepared: &mut Prepared, too_early: &BTreeSet<ClaimId>) {
        prepared.result.status = Status::Waiting;
        if let Some(write) = &mut prepared.write {
            write.rows.retain(|row| {
                let shape = &self.evaluator.tables[usize::from(row.table.0)];
                !too_early.contains(&claim_id(&shape.name, &shape.key_of(row)))
            });
        }
    }

    /// Calls back parts of which the target has a newer version that this log gave: nobody knows what that was made of, and a
    /// notice is newer than it.
    fn overtaken(&self, writes: &[UnitWrite], outcomes: &[UnitOutcome]) -> Result<Vec<Notice>, Error> {
        let mapping = self.evaluator.settings.mapping_generation;
        let mut notices = Vec::new();
        for (write, outcome) in writes.iter().zip(outcomes) {
            self.refuse_other_writer(outcome)?;
            if matches!(outcome, UnitOutcome::Superseded { by } if by.mapping <= mapping) {
                let scope = names::scope_of(&write.unit, &write.part).ok_or(Error::Damaged("parts"))?;
                notices.push(notice(&scope)?);
            }
        }
        Ok(notices)
    }

    /// A newer version that this log cannot have given means that something else writes this migration.
    fn refuse_other_writer(&self, outcome: &UnitOutcome) -> Result<(), Error> {
        match outcome {
            UnitOutcome::Superseded { by }
                if by.log != self.evaluator.settings.log_generation || by.offset >= self.log.end(Partition(0)).0 =>
            {
                Err(Error::OtherWriter)
            }
            _ => Ok(()),
        }
    }
}

/// Begins to pick the parts behind `cursor`.
fn pick(evaluator: &Arc<Evaluator>, pass: &Arc<Pass>, mut cursor: Option<Vec<u8>>) -> Picking {
    let (evaluator, pass) = (Arc::clone(evaluator), Arc::clone(pass));
    tokio::task::spawn_blocking(move || Ok((pass.pick(&evaluator.state, &mut cursor)?, cursor)))
}

//! Applies records of the log to the state: puts rows where they belong, folds them by version, marks parts to be projected.
//!
//! [`row`](super::row) does what one event does, [`held`] keeps what a changed shape holds back.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::event::{Event, Op, Version};
use crate::log::{Erased, EventLog, Notice, Offset, Record};
use crate::mapping::{Migration, ReferenceId};

use super::counters::Counters;
use super::records::Head;
use super::references::{Ask, Dependent};
use super::row::{Applied, Marking, RowChange, touch};
use super::run::Halt;
use super::scope::{unit_key, whole_of};
use super::session::Session;
use super::source::{Binding, Bindings, Layout, SourceShape, bind, of_notice};
use super::state::{Frozen, Space, State};
use super::{Error, held, names, sweep};

/// Rows of a truncated table that are removed in one commit.
const TRUNCATE_CHUNK: usize = 10_000;
/// Rows and parts that are looked at again in one commit.
const WAKE_CHUNK: usize = 10_000;

/// Applies records to the state, one at a time, in order.
pub struct Applier {
    pub(super) sources: Arc<[SourceShape]>,
    migration: Arc<Migration>,
    /// References by the source table whose rows they find.
    references: Vec<Vec<ReferenceId>>,
    pub(super) bindings: Bindings,
    /// Counts so far; stored with each commit.
    pub counters: Counters,
    /// Version of the last truncate by source table.
    truncated: Vec<Option<Version>>,
    /// Whether touched parts are marked.
    marking: Marking,
    /// Tables whose changed shape was accepted and whose held events are to be released; kept in the state too.
    pub(super) accepted: BTreeSet<u16>,
    /// Tables with held events. Later events queue behind them whatever their shape: an update may leave out a large
    /// value that only a held event tells.
    pub(super) holding: BTreeSet<u16>,
}

impl Applier {
    /// An applier that goes on from what the state holds.
    pub fn resume(state: &State, sources: Arc<[SourceShape]>, migration: Arc<Migration>) -> Result<Self, Error> {
        let counters = match state.get(Space::Meta, names::COUNTERS)? {
            Some(bytes) => serde_json::from_slice(&bytes).map_err(|_| Error::Damaged("counters"))?,
            None => Counters::default(),
        };
        let (accepted, holding) = (held::accepted(state)?, held::holding(state)?);
        let mut references = vec![Vec::new(); sources.len()];
        for (reference, table) in migration.references() {
            references[usize::from(table.0)].push(reference);
        }
        let truncated = (0..).take(sources.len()).map(|table| truncated(state, table)).collect::<Result<_, _>>()?;
        let mut applier = Self {
            sources,
            migration,
            references,
            bindings: Bindings::default(),
            counters,
            truncated,
            marking: Marking::All,
            accepted,
            holding,
        };
        applier.know_marking(state)?;
        Ok(applier)
    }

    /// Looks whether the next projection is one of every part, so that none need be marked.
    pub fn know_marking(&mut self, state: &State) -> Result<(), Error> {
        let marked = state.get(Space::Meta, names::MARKED)?.is_some();
        self.marking = if marked { Marking::Marked } else { Marking::All };
        Ok(())
    }

    /// The offset to read from next.
    pub fn checkpoint(state: &State) -> Result<Offset, Error> {
        Self::checkpoint_at(&state.freeze())
    }

    /// The offset to read from next, as of a moment.
    pub fn checkpoint_at(state: &Frozen<'_>) -> Result<Offset, Error> {
        let bytes = state.get(Space::Meta, names::CHECKPOINT)?.unwrap_or_else(|| vec![0; 8]);
        let bytes: [u8; 8] = bytes.try_into().map_err(|_| Error::Damaged("checkpoint"))?;
        Ok(Offset(u64::from_be_bytes(bytes)))
    }

    /// Applies records and commits them with the offset to go on from.
    pub fn apply(
        &mut self,
        log: &dyn EventLog,
        state: &State,
        records: &[(Offset, Record)],
        next: Offset,
    ) -> Result<(), Error> {
        let session = self.fold(log, state, state.session(), records.iter().cloned())?;
        self.finish(state, session, next)
    }

    /// Applies records; what they change is in the session returned, which [`finish`](Applier::finish) takes.
    pub fn fold<'a>(
        &mut self,
        log: &dyn EventLog,
        state: &'a State,
        mut session: Session<'a>,
        records: impl IntoIterator<Item = (Offset, Record)>,
    ) -> Result<Session<'a>, Error> {
        for (offset, record) in records {
            match record {
                Record::Event(event) if event.op == Op::Truncate => {
                    // A truncate looks at the whole table, so what came before it must be visible first.
                    self.commit(session, offset)?;
                    self.truncate(log, state, &event, offset)?;
                    session = state.session();
                }
                Record::Event(event) => self.event(log, &mut session, event, offset)?,
                Record::Erased(erased) => self.erased(&erased),
                Record::Notice(notice) => match notice.reason.split_once(": ") {
                    Some((names::ACCEPT, table)) => self.accept(&mut session, table),
                    Some((names::READ_AGAIN, table)) => {
                        // What is held must be visible to be given up.
                        self.commit(session, offset)?;
                        self.give_up_held(state, table)?;
                        session = state.session();
                    }
                    Some((names::SWEPT_BELOW, detail)) => {
                        self.commit(session, offset)?;
                        self.swept_below(state, detail, offset)?;
                        session = state.session();
                    }
                    _ => {
                        // Parts that rows before it made must be visible to be marked.
                        if session.has_new(Space::Rows) {
                            self.commit(session, offset)?;
                            session = state.session();
                        }
                        apply_notice(&mut session, state, &notice, offset, self.marking)?;
                    }
                },
            }
        }
        Ok(session)
    }

    /// The row has been gone since before its events were erased: a state that is rebuilt need not know it.
    fn erased(&mut self, erased: &Erased) {
        if let Some(source) = self.sources.iter().find(|source| source.relation == erased.relation) {
            let counts = self.counters.table(&source.label);
            counts.captured += 1;
            *counts.dropped.entry("erased".to_owned()).or_default() += 1;
        }
    }

    /// Commits what records changed, with the offset to go on from, and looks again at what that concerns.
    pub fn finish(&mut self, state: &State, session: Session<'_>, next: Offset) -> Result<(), Error> {
        self.commit(session, next)?;
        self.wake(state)
    }

    /// Begins to commit what records changed while more is applied.
    pub fn finish_behind(&self, session: &mut Session<'_>, next: Offset) -> Result<(), Error> {
        self.mark(session, next);
        session.commit_behind()
    }

    /// Whether records ask for something that is done once they are committed.
    pub fn asked(&self) -> bool {
        !self.accepted.is_empty()
    }

    /// Looks again at everything whose questions have other answers now.
    ///
    /// What is to be looked at is in the state, so that a crash in between forgets nothing; looking twice does no harm.
    pub fn wake(&mut self, state: &State) -> Result<(), Error> {
        let latest = Offset(Self::checkpoint(state)?.0.saturating_sub(1));
        while let Some(place) = first_key(state, Space::Wake)? {
            Ask::from_bytes(&place).ok_or(Error::Damaged("wake"))?;
            let mut cursor: Option<Vec<u8>> = None;
            loop {
                let mut dependents = Vec::new();
                state.scan_after(Space::Dependents, Some(cursor.as_deref().unwrap_or(&place)), |key, _| {
                    let ours = key.starts_with(&place);
                    if ours {
                        dependents.push(key.to_vec());
                    }
                    Ok(ours && dependents.len() < WAKE_CHUNK)
                })?;
                let mut session = state.session();
                for key in &dependents {
                    self.look_again(&mut session, key, latest)?;
                }
                let done = dependents.len() < WAKE_CHUNK;
                if done {
                    session.remove(Space::Wake, &place);
                }
                self.commit_counters(session)?;
                if done {
                    break;
                }
                cursor = dependents.pop();
            }
        }
        Ok(())
    }

    fn look_again(&mut self, session: &mut Session<'_>, key: &[u8], offset: Offset) -> Result<(), Error> {
        match Dependent::from_key(key)? {
            Dependent::Part(scope) => touch(session, &scope, offset, self.marking, |_| {}),
            Dependent::Row(row) => {
                let table = row.first_chunk().map(|bytes| u16::from_be_bytes(*bytes)).ok_or(Error::Damaged("heads"))?;
                self.change(session, table, offset).place_again(&row)
            }
        }
    }

    /// Begins a change of a table's rows.
    fn change<'a, 'b>(&'a self, session: &'a mut Session<'b>, table: u16, offset: Offset) -> RowChange<'a, 'b> {
        let index = usize::from(table);
        RowChange {
            migration: &self.migration,
            table,
            references: &self.references[index],
            offset,
            session,
            truncated: self.truncated[index],
            marking: self.marking,
            rows: 0,
        }
    }

    fn accept(&mut self, session: &mut Session<'_>, table: &str) {
        self.bindings.clear();
        for table in of_notice(&self.sources, table) {
            session.put(Space::Meta, &held::release_key(table), Vec::new());
            self.accepted.insert(table);
        }
    }

    fn commit(&self, mut session: Session<'_>, next: Offset) -> Result<(), Error> {
        self.mark(&mut session, next);
        session.commit()
    }

    pub(super) fn commit_counters(&self, mut session: Session<'_>) -> Result<(), Error> {
        self.count(&mut session);
        session.commit()
    }

    /// Puts the offset to go on from beside what was applied before it.
    fn mark(&self, session: &mut Session<'_>, next: Offset) {
        session.put(Space::Meta, names::CHECKPOINT, next.0.to_be_bytes());
        self.count(session);
    }

    fn count(&self, session: &mut Session<'_>) {
        let counters = serde_json::to_vec(&self.counters).expect("counts are plain numbers under text keys");
        session.put(Space::Meta, names::COUNTERS, counters);
    }

    /// Counts an event of a table that the migration does not mention.
    fn unmapped(&mut self, log: &dyn EventLog, event: &Event) {
        let name = log.relation(event.relation).map_or_else(String::new, |relation| relation.name.to_string());
        let counts = self.counters.table(&name);
        counts.captured += 1;
        *counts.dropped.entry("not_mapped".to_owned()).or_default() += 1;
    }

    pub(super) fn binding(&mut self, log: &dyn EventLog, event: &Event) -> Result<Arc<Binding>, Error> {
        if let Some(known) = self.bindings.get(event.relation) {
            return Ok(known);
        }
        let relation = log.relation(event.relation).ok_or(Error::LogDamaged("relations"))?;
        let accepted = log.mark(&names::accepted(&relation.name, event.relation))?.is_some();
        let sources = Arc::clone(&self.sources);
        Ok(self.bindings.of(event.relation, || bind(&sources, &relation, accepted)))
    }

    fn event(
        &mut self,
        log: &dyn EventLog,
        session: &mut Session<'_>,
        event: Event,
        offset: Offset,
    ) -> Result<(), Error> {
        let binding = self.binding(log, &event)?;
        match &*binding {
            Binding::Table { table, layout } if !self.holding.contains(table) => {
                self.take(session, event, offset, *table, layout)?;
            }
            // It says that a row is gone, whatever the shape that it was written with.
            Binding::Paused { table, .. } if event.op == Op::Sweep && !self.holding.contains(table) => {
                self.take(session, event, offset, *table, &Layout::default())?;
            }
            Binding::Table { table, .. } | Binding::Paused { table, .. } => {
                self.hold(session, *table, offset, event.relation);
            }
            Binding::Unmapped => self.unmapped(log, &event),
        }
        Ok(())
    }

    /// Applies an event to the rows of its table.
    pub(super) fn take(
        &mut self,
        session: &mut Session<'_>,
        event: Event,
        offset: Offset,
        table: u16,
        layout: &Layout,
    ) -> Result<(), Error> {
        let op = event.op;
        let mut change = self.change(session, table, offset);
        let applied = match op {
            Op::Read | Op::Insert | Op::Update => change.leaves_row(event, layout)?,
            Op::Delete | Op::Sweep => change.leaves_nothing(&event)?,
            Op::Schema | Op::Truncate => Applied::Superseded,
        };
        let rows = change.rows;
        let counts = self.counters.table(&self.sources[usize::from(table)].label);
        counts.captured += 1;
        counts.rows += rows;
        match (op, applied) {
            (Op::Schema, _) => *counts.dropped.entry("schema_record".to_owned()).or_default() += 1,
            (_, Applied::Yes) => counts.applied += 1,
            (_, Applied::Superseded) => counts.superseded += 1,
        }
        Ok(())
    }

    fn truncate(&mut self, log: &dyn EventLog, state: &State, event: &Event, offset: Offset) -> Result<(), Error> {
        let binding = self.binding(log, event)?;
        let mut session = state.session();
        match &*binding {
            Binding::Table { table, .. } if !self.holding.contains(table) => {
                self.empty(state, event, offset, *table)?;
                let counts = self.counters.table(&self.sources[usize::from(*table)].label);
                counts.captured += 1;
                counts.applied += 1;
            }
            Binding::Table { table, .. } | Binding::Paused { table, .. } => {
                self.hold(&mut session, *table, offset, event.relation);
            }
            Binding::Unmapped => self.unmapped(log, event),
        }
        self.commit(session, Offset(offset.0 + 1))
    }

    /// Removes the rows of a table that are older than a truncate, in several commits, each with its count.
    pub(super) fn empty(&mut self, state: &State, event: &Event, offset: Offset, table: u16) -> Result<(), Error> {
        // Rows that the epoch's snapshot read before the truncate may come after it in the log.
        let mut session = state.session();
        session.put(Space::Meta, &names::truncated(table), event.version.to_bytes());
        self.commit_counters(session)?;
        self.truncated[usize::from(table)] = Some(event.version);
        self.remove_below(state, table, event.version, offset)
    }

    /// What a sweep found is gone, whatever this state holds of it.
    fn swept_below(&mut self, state: &State, detail: &str, offset: Offset) -> Result<(), Error> {
        let (floor, name) = sweep::swept_below(detail).ok_or(Error::LogDamaged("notices"))?;
        let tables = of_notice(&self.sources, name);
        tables.into_iter().try_for_each(|table| self.remove_below(state, table, floor, offset))
    }

    /// Removes the rows of a table that are older than a version, in several commits.
    fn remove_below(&mut self, state: &State, table: u16, version: Version, offset: Offset) -> Result<(), Error> {
        loop {
            let keys = live_keys(state, table, version)?;
            if keys.is_empty() {
                return Ok(());
            }
            let mut session = state.session();
            let mut change = self.change(&mut session, table, offset);
            for key in keys {
                change.gone(&key, version)?;
            }
            let rows = change.rows;
            self.counters.table(&self.sources[usize::from(table)].label).rows += rows;
            self.commit_counters(session)?;
        }
    }
}

/// Marks parts to be projected again; a notice to skip or to retry a unit sets or lifts the operator's mark.
fn apply_notice(
    session: &mut Session<'_>,
    state: &State,
    notice: &Notice,
    offset: Offset,
    marking: Marking,
) -> Result<(), Error> {
    let unit = unit_key(&notice.unit);
    let (kind, detail) = notice.reason.split_once(": ").unwrap_or((&notice.reason, ""));
    // One that names no part concerns all of the unit, as every notice once did.
    if let (names::TAKE_BACK, Some(scope)) = (kind, names::called_back(&notice.unit, detail)) {
        return touch(session, &scope, offset, marking, |_| {});
    }
    match kind {
        names::SKIP => session.put(Space::Meta, &names::skipped(&unit), detail.as_bytes()),
        names::RETRY => session.remove(Space::Meta, &names::skipped(&unit)),
        _ => {}
    }
    let retried = matches!(kind, names::RETRY | names::RETRY_PARKED);
    if (retried || kind == names::SKIP)
        && Halt::read(session.get(Space::Meta, names::HALTED)?)?.is_some_and(|halt| halt.end <= offset.0)
    {
        session.remove(Space::Meta, names::HALTED);
    }
    let mut scopes = BTreeSet::new();
    state.scan(Space::Parts, &unit, |scope, _| {
        scopes.insert(scope.to_vec());
        Ok(true)
    })?;
    if scopes.is_empty() {
        scopes.insert(whole_of(&unit));
    }
    for scope in scopes {
        if retried {
            session.put(Space::Meta, &names::rewrite(&scope), Vec::new());
        }
        touch(session, &scope, offset, marking, |_| {})?;
    }
    Ok(())
}

/// Keys of live rows of a table that are older than a version, a bounded number of them.
fn live_keys(state: &State, table: u16, version: Version) -> Result<Vec<Vec<u8>>, Error> {
    let mut keys = Vec::new();
    state.scan(Space::Heads, &table.to_be_bytes(), |key, value| {
        let head = Head::from_bytes(value)?;
        if head.scope.is_some() && head.version < version {
            keys.push(key.to_vec());
        }
        Ok(keys.len() < TRUNCATE_CHUNK)
    })?;
    Ok(keys)
}

/// Version of a table's last truncate.
fn truncated(state: &State, table: u16) -> Result<Option<Version>, Error> {
    let found = state.get(Space::Meta, &names::truncated(table))?;
    found.map(|bytes| Version::from_bytes(&bytes).ok_or(Error::Damaged("truncates"))).transpose()
}

/// The first key of a space.
fn first_key(state: &State, space: Space) -> Result<Option<Vec<u8>>, Error> {
    let mut found = None;
    state.scan_after(space, None, |key, _| {
        found = Some(key.to_vec());
        Ok(false)
    })?;
    Ok(found)
}

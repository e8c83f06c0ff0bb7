//! Applies records of the log to the state: routes rows to units, folds them by version, marks units to be projected.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::event::encoding::ordered::key_bytes;
use crate::event::{Canonical, Class, Event, Key, Op, Row, Version};
use crate::log::{EventLog, Notice, Offset, Record};

use super::counters::Counters;
use super::fold::{Decision, Known, Life, Told, fold_gone, fold_row};
use super::source::{Binding, Bindings, Named, SourceShape, arrange, bind, unit_of};
use super::state::{Frozen, Head, Session, Space, State, UnitHeader, unit_key};
use super::{Error, names};

/// Pseudo-unit of rows whose unit column is not known yet; no unit's key is like it, because its length is not there.
pub const UNROUTED: &[u8] = &[0xff, 0xff];
/// Pseudo-unit of rows that name no unit: they are quarantined as `no_unit`.
pub const NAMELESS: &[u8] = &[0xff, 0xfe];
/// Longest key of a source row in bytes. The state's keys have 64 KiB, and hold a unit and the key of a row of it.
const KEY_BYTES_MAX: usize = 32 * 1024;
/// Begins the digest that stands for a longer key.
const LONG_KEY: u8 = 0xff;
/// Rows of a truncated table that are removed in one commit.
const TRUNCATE_CHUNK: usize = 10_000;

/// Applies records to the state, one at a time, in order.
pub struct Applier {
    sources: Arc<[SourceShape]>,
    bindings: Bindings,
    /// Counts so far; stored with each commit.
    pub counters: Counters,
    /// Tables whose changed shape was accepted and whose held events are to be released; kept in the state too.
    accepted: BTreeSet<u16>,
    /// Tables with held events. Later events queue behind them whatever their shape: an update may leave out a large
    /// value that only a held event tells.
    holding: BTreeSet<u16>,
}

impl Applier {
    /// An applier that goes on from what the state holds.
    pub fn resume(state: &State, sources: Arc<[SourceShape]>) -> Result<Self, Error> {
        let counters = match state.get(Space::Meta, names::COUNTERS)? {
            Some(bytes) => serde_json::from_slice(&bytes).map_err(|_| Error::Damaged("counters"))?,
            None => Counters::default(),
        };
        let (accepted, holding) = (tables(state, Space::Meta, names::RELEASE)?, tables(state, Space::Held, &[])?);
        Ok(Self { sources, bindings: Bindings::default(), counters, accepted, holding })
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
        let mut session = state.session();
        for (offset, record) in records {
            match record {
                Record::Event(event) if event.op == Op::Truncate => {
                    // A truncate looks at the whole table, so what came before it must be visible first.
                    self.commit(session, *offset)?;
                    self.truncate(log, state, event, *offset)?;
                    session = state.session();
                }
                Record::Event(event) => self.event(log, &mut session, event, *offset)?,
                Record::Notice(notice) => match notice.reason.split_once(": ") {
                    Some((names::ACCEPT, table)) => self.accept(&mut session, table),
                    _ => apply_notice(&mut session, notice, *offset)?,
                },
            }
        }
        self.commit(session, next)
    }

    fn accept(&mut self, session: &mut Session<'_>, table: &str) {
        self.bindings.clear();
        let index = self.sources.iter().position(|source| *source.relation.table == *table);
        if let Some(index) = index.and_then(|index| u16::try_from(index).ok()) {
            session.put(Space::Meta, &release_key(index), Vec::new());
            self.accepted.insert(index);
        }
    }

    /// Takes up the held events of all tables whose changed shape was accepted since; returns how many.
    pub async fn release_accepted(&mut self, log: &dyn EventLog, state: &State) -> Result<u64, Error> {
        let mut released = 0;
        while let Some(table) = self.accepted.first().copied() {
            released += self.release_held(log, state, table).await?;
            let mut session = state.session();
            session.remove(Space::Meta, &release_key(table));
            session.commit()?;
            self.accepted.remove(&table);
        }
        Ok(released)
    }

    fn commit(&self, mut session: Session<'_>, next: Offset) -> Result<(), Error> {
        session.put(Space::Meta, names::CHECKPOINT, next.0.to_be_bytes().to_vec());
        self.commit_counters(session)
    }

    fn commit_counters(&self, mut session: Session<'_>) -> Result<(), Error> {
        let counters = serde_json::to_vec(&self.counters).expect("counts are plain numbers under text keys");
        session.put(Space::Meta, names::COUNTERS, counters);
        session.commit()
    }

    /// Sets an event aside until its table's shape is accepted.
    fn hold(&mut self, session: &mut Session<'_>, table: u16, offset: Offset) {
        let counts = self.counters.table(&self.sources[usize::from(table)].relation.table);
        counts.captured += 1;
        counts.held += 1;
        session.put(Space::Held, &held_key(table, offset), Vec::new());
        self.holding.insert(table);
    }

    /// Counts an event of a table that the migration does not mention.
    fn unmapped(&mut self, log: &dyn EventLog, event: &Event) {
        let name = log.relation(event.relation).map_or_else(String::new, |relation| relation.name.to_string());
        let counts = self.counters.table(&name);
        counts.captured += 1;
        *counts.dropped.entry("not_mapped".to_owned()).or_default() += 1;
    }

    fn binding(&mut self, log: &dyn EventLog, event: &Event) -> Result<Arc<Binding>, Error> {
        let relation = log.relation(event.relation).ok_or(Error::Damaged("relations"))?;
        let accepted = log.mark(&names::accepted(&relation.name, event.relation))?.is_some();
        let sources = Arc::clone(&self.sources);
        Ok(self.bindings.of(event.relation, || bind(&sources, &relation, accepted)))
    }

    fn event(
        &mut self,
        log: &dyn EventLog,
        session: &mut Session<'_>,
        event: &Event,
        offset: Offset,
    ) -> Result<(), Error> {
        let binding = self.binding(log, event)?;
        match &*binding {
            Binding::Table { table, columns } if !self.holding.contains(table) => {
                self.take(session, event, offset, *table, columns)?;
            }
            Binding::Table { table, .. } | Binding::Paused { table, .. } => self.hold(session, *table, offset),
            Binding::Unmapped => self.unmapped(log, event),
        }
        Ok(())
    }

    /// Applies an event to the rows of its table.
    fn take(
        &mut self,
        session: &mut Session<'_>,
        event: &Event,
        offset: Offset,
        table: u16,
        columns: &[usize],
    ) -> Result<(), Error> {
        let source = &self.sources[usize::from(table)];
        let counts = self.counters.table(&source.relation.table);
        counts.captured += 1;
        let mut change = RowChange { source, table, offset, session, rows: 0 };
        let applied = match event.op {
            Op::Read | Op::Insert | Op::Update => change.leaves_row(event, columns)?,
            Op::Delete | Op::Sweep => change.leaves_nothing(event)?,
            Op::Schema | Op::Truncate => Applied::Superseded,
        };
        counts.rows += change.rows;
        match (event.op, applied) {
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
                let counts = self.counters.table(&self.sources[usize::from(*table)].relation.table);
                counts.captured += 1;
                counts.applied += 1;
            }
            Binding::Table { table, .. } | Binding::Paused { table, .. } => self.hold(&mut session, *table, offset),
            Binding::Unmapped => self.unmapped(log, event),
        }
        self.commit(session, Offset(offset.0 + 1))
    }

    /// Removes the rows of a table that are older than a truncate, in several commits, each with its count.
    fn empty(&mut self, state: &State, event: &Event, offset: Offset, table: u16) -> Result<(), Error> {
        let sources = Arc::clone(&self.sources);
        let source = &sources[usize::from(table)];
        // Rows that the epoch's snapshot read before the truncate may come after it in the log.
        let mut session = state.session();
        session.put(Space::Meta, &names::truncated(table), event.version.to_bytes().to_vec());
        self.commit_counters(session)?;
        loop {
            let keys = live_keys(state, table, event)?;
            if keys.is_empty() {
                return Ok(());
            }
            let mut session = state.session();
            let mut change = RowChange { source, table, offset, session: &mut session, rows: 0 };
            for key in keys {
                change.gone(&key, event)?;
            }
            self.counters.table(&source.relation.table).rows += change.rows;
            self.commit_counters(session)?;
        }
    }

    /// Takes up one table's held events in order, each with its removal from the queue in one commit.
    ///
    /// An event whose shape is still not accepted stays, and so does everything behind it.
    async fn release_held(&mut self, log: &dyn EventLog, state: &State, table: u16) -> Result<u64, Error> {
        let mut offsets = Vec::new();
        state.scan(Space::Held, &table.to_be_bytes(), |key, _| {
            let bytes: [u8; 8] = key[2..].try_into().map_err(|_| Error::Damaged("held events"))?;
            offsets.push(Offset(u64::from_be_bytes(bytes)));
            Ok(true)
        })?;
        self.bindings.clear();
        // The units it touches are projected again as of the latest record, so that the target takes the write.
        let latest = Offset(Self::checkpoint(state)?.0.saturating_sub(1));
        let name = self.sources[usize::from(table)].relation.table.clone();
        let mut released = 0;
        for offset in offsets {
            let chunk = log.read(crate::log::Partition(0), offset, 1).await?;
            let Some((found, Record::Event(event))) = chunk.records.first() else {
                return Err(Error::Damaged("held events"));
            };
            if *found != offset {
                return Err(Error::Damaged("held events"));
            }
            let binding = self.binding(log, event)?;
            let Binding::Table { columns, .. } = &*binding else { return Ok(released) };
            let mut session = state.session();
            session.remove(Space::Held, &held_key(table, offset));
            if event.op == Op::Truncate {
                self.empty(state, event, latest, table)?;
                let counts = self.counters.table(&name);
                counts.applied += 1;
                counts.held -= 1;
            } else {
                let counts = self.counters.table(&name);
                counts.captured -= 1;
                counts.held -= 1;
                self.take(&mut session, event, latest, table, columns)?;
            }
            self.commit_counters(session)?;
            released += 1;
        }
        self.holding.remove(&table);
        Ok(released)
    }
}

/// Whether an event changed the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Applied {
    Yes,
    Superseded,
}

/// One event's changes to the rows of its table.
struct RowChange<'a, 'b> {
    source: &'a SourceShape,
    table: u16,
    offset: Offset,
    session: &'a mut Session<'b>,
    /// Change of the number of live rows.
    rows: i64,
}

impl RowChange<'_, '_> {
    fn leaves_row(&mut self, event: &Event, columns: &[usize]) -> Result<Applied, Error> {
        let Some(after) = &event.after else { return Err(Error::Damaged("events")) };
        let after = arrange(after, columns);
        let before = event.before.as_ref().map(|row| arrange(row, columns));
        let key = head_key(self.table, &event.key);
        let moved_from = event.old_key.as_ref().map(|old| head_key(self.table, old)).filter(|old| *old != key);
        let head = self.head(&key)?;
        if let Some(head) = head.as_ref().filter(|head| head.version >= event.version) {
            return self.beaten(&key, head, event, &after);
        }
        if event.version.class == Class::Floor && self.truncated_since(event)? {
            return Ok(Applied::Superseded);
        }
        let source_key = moved_from.as_ref().unwrap_or(&key);
        let source_head = if moved_from.is_some() { self.head(source_key)? } else { head.clone() };
        let known = self.known(source_key, source_head.as_ref(), after.complete())?;
        let told =
            Told { version: event.version, moved_from: moved_from.as_ref(), before: before.as_ref(), after: &after };
        // Under its own key the row is known to be older, so only the row it comes from matters here.
        let Decision::Apply(Known { life: Life::Live { row, origin }, .. }) =
            fold_row(&key, None, known.as_ref(), told)
        else {
            return Ok(Applied::Superseded);
        };
        self.stop_waiting(&key, head.as_ref(), origin.as_ref());
        if let Some(old) = &moved_from {
            self.gone(old, event)?;
        }
        if let Some(origin) = &origin {
            self.session.put(Space::Awaits, origin, key.clone());
        }
        self.place(&key, head.as_ref(), &row, event.version, origin)?;
        Ok(Applied::Yes)
    }

    /// Whether the table was truncated in the epoch of a snapshot row: what was inserted since is told by the stream.
    fn truncated_since(&self, event: &Event) -> Result<bool, Error> {
        let found = self.session.get(Space::Meta, &names::truncated(self.table))?;
        let version = found.map(|bytes| Version::from_bytes(&bytes).ok_or(Error::Damaged("truncates"))).transpose()?;
        Ok(version.is_some_and(|version| version.epoch == event.version.epoch))
    }

    /// An event older than what is known: a floor row may still fill a row that waits for it, here or where it moved to.
    fn beaten(&mut self, key: &[u8], head: &Head, event: &Event, after: &Row) -> Result<Applied, Error> {
        if event.version.class != Class::Floor {
            return Ok(Applied::Superseded);
        }
        let Some(waiting) = self.session.get(Space::Awaits, key)? else { return Ok(Applied::Superseded) };
        let waiting_head = if waiting == key { Some(head.clone()) } else { self.head(&waiting)? };
        let known = self.known(&waiting, waiting_head.as_ref(), false)?;
        let told = Told { version: event.version, moved_from: None, before: None, after };
        let decision = fold_row(&key.to_vec(), known.as_ref(), None, told);
        let Decision::Fill(Known { version, life: Life::Live { row, origin } }) = decision else {
            return Ok(Applied::Superseded);
        };
        if origin.is_none() {
            self.session.remove(Space::Awaits, key);
        }
        self.place(&waiting, waiting_head.as_ref(), &row, version, origin)?;
        Ok(Applied::Yes)
    }

    fn leaves_nothing(&mut self, event: &Event) -> Result<Applied, Error> {
        self.gone(&head_key(self.table, &event.key), event)
    }

    /// Removes a row and leaves its tombstone.
    fn gone(&mut self, key: &[u8], event: &Event) -> Result<Applied, Error> {
        let head = self.head(key)?;
        let known = head.as_ref().map(|head| Known::<Vec<u8>> { version: head.version, life: Life::Gone });
        if !matches!(fold_gone(known.as_ref(), event.version), Decision::Apply(_)) {
            return Ok(Applied::Superseded);
        }
        self.stop_waiting(key, head.as_ref(), None);
        if let Some(Head { unit: Some(unit), origin, .. }) = &head {
            self.take_from(unit, key, origin.is_some())?;
        }
        let tombstone = Head { version: event.version, unit: None, origin: None };
        self.session.put(Space::Heads, key, tombstone.to_bytes());
        Ok(Applied::Yes)
    }

    /// Forgets that a row waits for a snapshot row, unless it still does.
    fn stop_waiting(&mut self, key: &[u8], head: Option<&Head>, origin: Option<&Vec<u8>>) {
        if let Some(Head { origin: Some(old), .. }) = head
            && Some(old) != origin
            && matches!(self.session.get(Space::Awaits, old), Ok(Some(waiting)) if waiting == key)
        {
            self.session.remove(Space::Awaits, old);
        }
    }

    /// Puts a row where it belongs, out of the unit it was in.
    fn place(
        &mut self,
        key: &[u8],
        head: Option<&Head>,
        row: &Row,
        version: crate::event::Version,
        origin: Option<Vec<u8>>,
    ) -> Result<(), Error> {
        let unit = match unit_of(self.source, row) {
            Named::Unit(_) if too_long(key) => NAMELESS.to_vec(),
            Named::Unit(unit) => unit_key(&unit),
            Named::Missing => UNROUTED.to_vec(),
            Named::Nameless => NAMELESS.to_vec(),
        };
        if let Some(Head { unit: Some(old), origin: waited, .. }) = head {
            self.take_from(old, key, waited.is_some())?;
        }
        let bytes = row.encode();
        let size = bytes.len() as u64;
        self.session.put(Space::Rows, &[&unit, key].concat(), bytes);
        let incomplete = u64::from(origin.is_some());
        let table = self.table;
        self.touch(&unit, |header| {
            header.bytes += size;
            header.incomplete += incomplete;
            *header.rows_of(table) += 1;
        })?;
        self.rows += 1;
        let head = Head { version, unit: Some(unit), origin };
        self.session.put(Space::Heads, key, head.to_bytes());
        Ok(())
    }

    /// Takes a row out of its unit.
    fn take_from(&mut self, unit: &[u8], key: &[u8], incomplete: bool) -> Result<(), Error> {
        let place = [unit, key].concat();
        let size = self.session.get(Space::Rows, &place)?.ok_or(Error::Damaged("rows"))?.len() as u64;
        self.session.remove(Space::Rows, &place);
        let table = self.table;
        self.touch(unit, |header| {
            header.bytes = header.bytes.saturating_sub(size);
            header.incomplete = header.incomplete.saturating_sub(u64::from(incomplete));
            let rows = header.rows_of(table);
            *rows = rows.saturating_sub(1);
        })?;
        self.rows -= 1;
        Ok(())
    }

    fn touch(&mut self, unit: &[u8], change: impl FnOnce(&mut UnitHeader)) -> Result<(), Error> {
        touch(self.session, unit, self.offset, change)
    }

    fn head(&self, key: &[u8]) -> Result<Option<Head>, Error> {
        self.session.get(Space::Heads, key)?.map(|bytes| Head::from_bytes(&bytes)).transpose()
    }

    /// What is known of a row; its cells are read only when the event needs them.
    fn known(&self, key: &[u8], head: Option<&Head>, cells_needless: bool) -> Result<Option<Known<Vec<u8>>>, Error> {
        let Some(head) = head else { return Ok(None) };
        let Some(unit) = &head.unit else { return Ok(Some(Known { version: head.version, life: Life::Gone })) };
        let row = if cells_needless {
            Row::default()
        } else {
            let bytes =
                self.session.get(Space::Rows, &[unit.as_slice(), key].concat())?.ok_or(Error::Damaged("rows"))?;
            Row::decode(&bytes).map_err(|_| Error::Damaged("rows"))?
        };
        Ok(Some(Known { version: head.version, life: Life::Live { row, origin: head.origin.clone() } }))
    }
}

/// Changes a unit's header and marks the unit to be projected.
fn touch(
    session: &mut Session<'_>,
    unit: &[u8],
    offset: Offset,
    change: impl FnOnce(&mut UnitHeader),
) -> Result<(), Error> {
    let mut header = match session.get(Space::Units, unit)? {
        Some(bytes) => UnitHeader::from_bytes(&bytes)?,
        None => UnitHeader::default(),
    };
    change(&mut header);
    header.last = header.last.max(offset.0);
    session.put(Space::Units, unit, header.to_bytes());
    if unit != UNROUTED && unit != NAMELESS {
        session.put(Space::Dirty, unit, header.last.to_be_bytes().to_vec());
    }
    Ok(())
}

/// Marks a unit to be projected again; a notice to skip or to retry it sets or lifts the operator's mark.
fn apply_notice(session: &mut Session<'_>, notice: &Notice, offset: Offset) -> Result<(), Error> {
    let unit = unit_key(&notice.unit);
    match notice.reason.split_once(": ") {
        Some((names::SKIP, reason)) => session.put(Space::Meta, &names::skipped(&unit), reason.as_bytes().to_vec()),
        Some((names::RETRY, _)) => {
            session.remove(Space::Meta, &names::skipped(&unit));
            session.put(Space::Meta, &names::rewrite(&unit), Vec::new());
        }
        _ => {}
    }
    touch(session, &unit, offset, |_| {})
}

/// Keys of live rows of a table that a truncate removes, a bounded number of them.
fn live_keys(state: &State, table: u16, event: &Event) -> Result<Vec<Vec<u8>>, Error> {
    let mut keys = Vec::new();
    state.scan(Space::Heads, &table.to_be_bytes(), |key, value| {
        let head = Head::from_bytes(value)?;
        if head.unit.is_some() && head.version < event.version {
            keys.push(key.to_vec());
        }
        Ok(keys.len() < TRUNCATE_CHUNK)
    })?;
    Ok(keys)
}

/// Key of a source row in the state.
///
/// A key that is too long to be kept goes by its digest, behind a byte that no key begins with; its row names no unit.
pub fn head_key(table: u16, key: &Key) -> Vec<u8> {
    let bytes = key_bytes(key);
    if bytes.len() > KEY_BYTES_MAX {
        return [table.to_be_bytes().as_slice(), &[LONG_KEY], blake3::hash(&bytes).as_bytes()].concat();
    }
    [table.to_be_bytes().as_slice(), &bytes].concat()
}

/// Whether a row's key in the state stands for a key that is too long.
pub fn too_long(key: &[u8]) -> bool {
    key.get(2) == Some(&LONG_KEY)
}

/// Key under which the state remembers that a table's held events are to be released.
fn release_key(table: u16) -> Vec<u8> {
    [names::RELEASE, table.to_be_bytes().as_slice()].concat()
}

/// The tables that stand behind a prefix in a space.
fn tables(state: &State, space: Space, prefix: &[u8]) -> Result<BTreeSet<u16>, Error> {
    let mut found = BTreeSet::new();
    state.scan(space, prefix, |key, _| {
        found.extend(key[prefix.len()..].first_chunk::<2>().map(|bytes| u16::from_be_bytes(*bytes)));
        Ok(true)
    })?;
    Ok(found)
}

fn held_key(table: u16, offset: Offset) -> Vec<u8> {
    [table.to_be_bytes().as_slice(), &offset.0.to_be_bytes()].concat()
}

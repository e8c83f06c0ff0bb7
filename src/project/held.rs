//! Events of tables whose shape changed: kept in order until someone accepts the shape, then taken up.

use std::collections::BTreeSet;

use crate::event::{Op, SchemaHash};
use crate::log::{EventLog, Offset, Partition, Record};

use super::apply::Applier;
use super::session::Session;
use super::source::{Binding, of_notice};
use super::state::{Space, State};
use super::{Error, names};

impl Applier {
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
        if released > 0 {
            self.wake(state)?;
        }
        Ok(released)
    }

    /// Sets an event aside until its table's shape is accepted.
    pub(super) fn hold(&mut self, session: &mut Session<'_>, table: u16, offset: Offset, shape: SchemaHash) {
        let counts = self.counters.table(&self.sources[usize::from(table)].label);
        counts.captured += 1;
        counts.held += 1;
        session.put(Space::Held, &held_key(table, offset), shape.0);
        self.holding.insert(table);
    }

    /// Tables of which events are held back.
    pub fn held_back(&self) -> Vec<&str> {
        self.holding.iter().map(|table| &*self.sources[usize::from(*table)].label).collect()
    }

    /// Gives up what is held of a table whose rows are read again, as a notice names it; each event is counted as dropped.
    pub(super) fn give_up_held(&mut self, state: &State, name: &str) -> Result<(), Error> {
        self.bindings.clear();
        of_notice(&self.sources, name).into_iter().try_for_each(|table| self.give_up_held_of(state, table))
    }

    fn give_up_held_of(&mut self, state: &State, table: u16) -> Result<(), Error> {
        let mut session = state.session();
        let mut given_up = 0;
        state.scan(Space::Held, &table.to_be_bytes(), |key, _| {
            session.remove(Space::Held, key);
            given_up += 1;
            Ok(true)
        })?;
        let counts = self.counters.table(&self.sources[usize::from(table)].label);
        counts.held -= given_up;
        *counts.dropped.entry("read_again".to_owned()).or_default() += given_up;
        self.commit_counters(session)?;
        self.holding.remove(&table);
        Ok(())
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
        let name = self.sources[usize::from(table)].label.clone();
        let mut released = 0;
        for offset in offsets {
            let chunk = log.read(Partition(0), offset, 1).await?;
            let Some((found, Record::Event(event))) = chunk.records.into_iter().next() else {
                return Err(Error::Damaged("held events"));
            };
            if found != offset {
                return Err(Error::Damaged("held events"));
            }
            let binding = self.binding(log, &event)?;
            let Binding::Table { layout, .. } = &*binding else { return Ok(released) };
            let mut session = state.session();
            session.remove(Space::Held, &held_key(table, offset));
            if event.op == Op::Truncate {
                self.empty(state, &event, latest, table)?;
                let counts = self.counters.table(&name);
                counts.applied += 1;
                counts.held -= 1;
            } else {
                let counts = self.counters.table(&name);
                counts.captured -= 1;
                counts.held -= 1;
                self.take(&mut session, event, latest, table, layout)?;
            }
            self.commit_counters(session)?;
            released += 1;
        }
        self.holding.remove(&table);
        Ok(released)
    }
}

/// Key under which the state remembers that a table's held events are to be released.
pub(super) fn release_key(table: u16) -> Vec<u8> {
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

/// The first shape of a table's held events that something holds of; `None` where it holds of none.
///
/// A queue that an earlier version began names no shapes: `other` stands for them.
pub fn first_shape<T>(
    state: &State,
    table: u16,
    other: impl Fn() -> Result<Option<T>, Error>,
    mut look: impl FnMut(SchemaHash) -> Result<Option<T>, Error>,
) -> Result<Option<T>, Error> {
    let (mut found, mut last) = (None, None);
    state.scan(Space::Held, &table.to_be_bytes(), |_, shape| {
        if last.as_deref() != Some(shape) {
            found = match shape.try_into() {
                Ok(hash) => look(SchemaHash(hash))?,
                Err(_) => other()?,
            };
            last = Some(shape.to_vec());
        }
        Ok(found.is_none())
    })?;
    Ok(found)
}

/// Splits tables into those with held events and those without.
pub(super) fn split(state: &State, tables: &[u16]) -> Result<(Vec<u16>, Vec<u16>), Error> {
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for &table in tables {
        let mut held = false;
        state.scan(Space::Held, &table.to_be_bytes(), |_, _| {
            held = true;
            Ok(false)
        })?;
        if held { with.push(table) } else { without.push(table) }
    }
    Ok((with, without))
}

/// Tables whose held events are to be released.
pub(super) fn accepted(state: &State) -> Result<BTreeSet<u16>, Error> {
    tables(state, Space::Meta, names::RELEASE)
}

/// Tables with held events.
pub(super) fn holding(state: &State) -> Result<BTreeSet<u16>, Error> {
    tables(state, Space::Held, &[])
}

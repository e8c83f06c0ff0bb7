//! What one event changes of the rows of its table: which version stands, where the row belongs, what it says to others.

use crate::event::encoding::FORMAT;
use crate::event::encoding::ordered::{key_bytes, key_from_bytes};
use crate::event::{Canonical, Class, Event, Key, Row, Version};
use crate::log::Offset;
use crate::mapping::{Migration, ReferenceId, Routed, SourceTable};

use super::Error;
use super::fold::{Decision, Known, Life, Told, fold_gone, fold_row};
use super::records::{Head, PartState};
use super::references::{self, Ask, Dependent, Looker, depend};
use super::scope::{self, LOOKUP, WAITING, quarantined, scope_key};
use super::session::Session;
use super::source::{Layout, arrange};
use super::state::Space;

/// Longest key of a source row in bytes. The state's keys have 64 KiB, and hold a part's key and the key of a row of it.
const KEY_BYTES_MAX: usize = 32 * 1024;
/// Begins the digest that stands for a longer key.
const LONG_KEY: u8 = 0xff;
/// Reason for which a row is quarantined whose key is too long, or that names no unit.
pub const NO_UNIT: &str = "no_unit";

/// Whether an event changed the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// It did.
    Yes,
    /// The state already held something newer.
    Superseded,
}

/// One event's changes to the rows of its table.
pub struct RowChange<'a, 'b> {
    /// Says where rows belong.
    pub migration: &'a Migration,
    /// The source table.
    pub table: u16,
    /// References that find rows of the table.
    pub references: &'a [ReferenceId],
    /// Offset of the record.
    pub offset: Offset,
    /// Where the changes go.
    pub session: &'a mut Session<'b>,
    /// Version of the table's last truncate.
    pub truncated: Option<Version>,
    /// Whether touched parts are marked to be projected.
    pub marking: Marking,
    /// Change of the number of live rows.
    pub rows: i64,
}

/// Whether touched parts are marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marking {
    /// They are: only marked parts will be projected.
    Marked,
    /// They are not: every part will be looked at.
    All,
}

impl RowChange<'_, '_> {
    /// Applies an event that leaves a row behind; `layout` is that of its rows.
    pub fn leaves_row(&mut self, mut event: Event, layout: &Layout) -> Result<Applied, Error> {
        let Some(after) = event.after.take() else { return Err(Error::LogDamaged("events")) };
        let after = arrange(after, layout);
        let before = event.before.take().map(|row| arrange(row, layout));
        let key = head_key(self.table, &event.key);
        let moved_from = event.old_key.as_ref().map(|old| head_key(self.table, old)).filter(|old| *old != key);
        let head = self.head(&key)?;
        if let Some(head) = head.as_ref().filter(|head| head.version >= event.version) {
            return self.beaten(&key, head, &event, after);
        }
        if event.version.class == Class::Floor
            && self.truncated.is_some_and(|version| version.epoch == event.version.epoch)
        {
            return Ok(Applied::Superseded);
        }
        let source_key = moved_from.as_ref().unwrap_or(&key);
        let moved_head = if moved_from.is_some() { self.head(source_key)? } else { None };
        let source_head = if moved_from.is_some() { moved_head.as_ref() } else { head.as_ref() };
        let known = self.known(source_key, source_head, after.complete())?;
        let told = Told { version: event.version, moved_from: moved_from.as_ref(), before: before.as_ref(), after };
        // Under its own key the row is known to be older, so only the row it comes from matters here.
        let Decision::Apply(Known { life: Life::Live { row, origin }, .. }) =
            fold_row(&key, None, known.as_ref(), told)
        else {
            return Ok(Applied::Superseded);
        };
        self.stop_waiting(&key, head.as_ref(), origin.as_ref());
        if let Some(old) = &moved_from {
            self.gone(old, event.version)?;
        }
        if let Some(origin) = &origin {
            self.session.put(Space::Awaits, origin, key.clone());
        }
        self.place(&key, head.as_ref(), &row, event.version, origin)?;
        Ok(Applied::Yes)
    }

    /// An event older than what is known: a floor row may still fill a row that waits for it, here or where it moved to.
    fn beaten(&mut self, key: &[u8], head: &Head, event: &Event, after: Row) -> Result<Applied, Error> {
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

    /// Applies an event that leaves no row behind.
    pub fn leaves_nothing(&mut self, event: &Event) -> Result<Applied, Error> {
        self.gone(&head_key(self.table, &event.key), event.version)
    }

    /// Removes a row and leaves its tombstone.
    pub fn gone(&mut self, key: &[u8], version: Version) -> Result<Applied, Error> {
        let head = self.head(key)?;
        let known = head.as_ref().map(|head| Known::<Vec<u8>> { version: head.version, life: Life::Gone });
        if !matches!(fold_gone(known.as_ref(), version), Decision::Apply(_)) {
            return Ok(Applied::Superseded);
        }
        self.stop_waiting(key, head.as_ref(), None);
        if let Some(head) = head.filter(|head| head.scope.is_some()) {
            self.say(key, Some(&head), None)?;
            self.take_from(key, &head)?;
            depend(self.session, &Dependent::Row(key.to_vec()), &head.asked, &[]);
        }
        self.session.put(Space::Heads, key, Head::gone(version).to_bytes());
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

    /// Puts a row where it belongs, out of the part it was in.
    fn place(
        &mut self,
        key: &[u8],
        head: Option<&Head>,
        row: &Row,
        version: Version,
        origin: Option<Vec<u8>>,
    ) -> Result<(), Error> {
        self.say(key, head, Some(row))?;
        let (scope, asked) = self.scope_of(key, row)?;
        let bytes = stored(row);
        let after = Head { version, scope: Some(scope), size: bytes.len() as u64, origin, asked };
        self.settle(key, head, after, bytes)
    }

    /// Asks again where a row belongs, after an answer has changed.
    pub fn place_again(&mut self, key: &[u8]) -> Result<(), Error> {
        let Some(head) = self.head(key)? else { return Ok(()) };
        let Some(scope) = &head.scope else { return Ok(()) };
        let bytes = self.session.get(Space::Rows, &[scope, key].concat())?.ok_or(Error::Damaged("rows"))?;
        let row = Row::decode(&bytes).map_err(|_| Error::Damaged("rows"))?;
        let (now, asked) = self.scope_of(key, &row)?;
        if now == *scope && asked == head.asked {
            return Ok(());
        }
        let after = Head { scope: Some(now), asked, ..head.clone() };
        self.settle(key, Some(&head), after, bytes)
    }

    /// Stores a row and its head, and counts it in its part.
    fn settle(&mut self, key: &[u8], before: Option<&Head>, after: Head, bytes: Vec<u8>) -> Result<(), Error> {
        let before = before.filter(|head| head.scope.is_some());
        let asked = before.map_or(&[][..], |head| &head.asked);
        depend(self.session, &Dependent::Row(key.to_vec()), asked, &after.asked);
        if let Some(before) = before {
            self.take_from(key, before)?;
        }
        let scope = after.scope.as_deref().ok_or(Error::Damaged("heads"))?;
        self.session.put(Space::Rows, &[scope, key].concat(), bytes);
        let (size, incomplete, table) = (after.size, u64::from(after.origin.is_some()), self.table);
        self.touch(scope, |part| {
            part.bytes += size;
            part.incomplete += incomplete;
            *part.rows_of(table) += 1;
        })?;
        self.rows += 1;
        self.session.put(Space::Heads, key, after.to_bytes());
        Ok(())
    }

    /// Which part a row belongs to, and what had to be asked to know it.
    fn scope_of(&self, key: &[u8], row: &Row) -> Result<(Vec<u8>, Vec<Ask>), Error> {
        if too_long(key) {
            return Ok((quarantined(NO_UNIT), Vec::new()));
        }
        let row_key = key_from_bytes(&key[2..]).map_err(|_| Error::Damaged("heads"))?;
        let looker = Looker::session(self.session);
        let routed = self.migration.place(SourceTable(self.table), &row_key, row, &looker);
        let scope = match routed.map_err(|error| Error::Unit(error.to_string()))? {
            Routed::Placed(place) => scope_key(&place.unit, &place.part),
            Routed::Waiting => WAITING.to_vec(),
            Routed::Quarantined(reason) => quarantined(&reason),
            Routed::Lookup => LOOKUP.to_vec(),
        };
        Ok((scope, looker.into_asked()))
    }

    /// Replaces what a row says to those who refer to it.
    fn say(&mut self, key: &[u8], before: Option<&Head>, after: Option<&Row>) -> Result<(), Error> {
        if self.references.is_empty() {
            return Ok(());
        }
        let before = match before.and_then(|head| head.scope.as_ref()) {
            Some(scope) => {
                let bytes = self.session.get(Space::Rows, &[scope, key].concat())?.ok_or(Error::Damaged("rows"))?;
                Some(Row::decode(&bytes).map_err(|_| Error::Damaged("rows"))?)
            }
            None => None,
        };
        for &reference in self.references {
            let said = |row: &Row| self.migration.entry(reference, row);
            let (old, new) = (before.as_ref().and_then(said), after.and_then(said));
            references::replace(self.session, reference, key, old, new)?;
        }
        Ok(())
    }

    /// Takes a row out of its part.
    fn take_from(&mut self, key: &[u8], head: &Head) -> Result<(), Error> {
        let scope = head.scope.as_deref().ok_or(Error::Damaged("heads"))?;
        self.session.remove(Space::Rows, &[scope, key].concat());
        let (size, incomplete, table) = (head.size, u64::from(head.origin.is_some()), self.table);
        self.touch(scope, |part| {
            part.bytes = part.bytes.saturating_sub(size);
            part.incomplete = part.incomplete.saturating_sub(incomplete);
            let rows = part.rows_of(table);
            *rows = rows.saturating_sub(1);
        })?;
        self.rows -= 1;
        Ok(())
    }

    fn touch(&mut self, scope: &[u8], change: impl FnOnce(&mut PartState)) -> Result<(), Error> {
        touch(self.session, scope, self.offset, self.marking, change)
    }

    fn head(&self, key: &[u8]) -> Result<Option<Head>, Error> {
        self.session.get(Space::Heads, key)?.map(|bytes| Head::from_bytes(&bytes)).transpose()
    }

    /// What is known of a row; its cells are read only when the event needs them.
    fn known(&self, key: &[u8], head: Option<&Head>, cells_needless: bool) -> Result<Option<Known<Vec<u8>>>, Error> {
        let Some(head) = head else { return Ok(None) };
        let Some(scope) = &head.scope else { return Ok(Some(Known { version: head.version, life: Life::Gone })) };
        let row = if cells_needless {
            Row::default()
        } else {
            let bytes =
                self.session.get(Space::Rows, &[scope.as_slice(), key].concat())?.ok_or(Error::Damaged("rows"))?;
            Row::decode(&bytes).map_err(|_| Error::Damaged("rows"))?
        };
        Ok(Some(Known { version: head.version, life: Life::Live { row, origin: head.origin.clone() } }))
    }
}

/// Changes a part's counts and marks it to be projected.
pub fn touch(
    session: &mut Session<'_>,
    scope: &[u8],
    offset: Offset,
    marking: Marking,
    change: impl FnOnce(&mut PartState),
) -> Result<(), Error> {
    let mut part = match session.get(Space::Parts, scope)? {
        Some(bytes) => PartState::from_bytes(&bytes)?,
        None => PartState::default(),
    };
    change(&mut part);
    part.last = part.last.max(offset.0);
    session.put(Space::Parts, scope, part.to_bytes());
    if marking == Marking::Marked && scope::is_part(scope) {
        session.put(Space::Dirty, scope, Vec::new());
    }
    Ok(())
}

/// A row as the state keeps it, in room that most rows fit.
fn stored(row: &Row) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(512);
    bytes.push(FORMAT);
    row.put(&mut bytes);
    bytes
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

//! The state store: what the log says of every source row, by unit, and what was made of each unit.
//!
//! One fjall database, apart from the log's: it can be deleted at any time and is rebuilt from the log (I1). Every chunk of
//! the log is applied in one atomic batch together with the offset to go on from, so a crash leaves a state that some
//! prefix of the log yields. It needs no sync of its own for that.
//!
//! Keys of the spaces (all big-endian, so that their byte order is the order of numbers):
//!
//! | space | key | value |
//! |---|---|---|
//! | heads | table, row key | [`Head`]: version, alive or gone, unit |
//! | rows | unit, table, row key | the row's cells, in the order of `legacy.toml` |
//! | awaits | table, row key of a snapshot row to come | key of the row whose missing cells it will fill |
//! | units | unit | [`UnitHeader`]: rows, bytes, incomplete rows, last offset |
//! | dirty | unit | offset of the last record applied, until the unit is projected |
//! | results | unit | what became of it |
//! | claims | target table, target key | units whose rows have this key |
//! | held | table, offset | events of a table whose changed schema nobody accepted yet |
//! | meta | name | checkpoint, counters, mapping generation |

use std::collections::HashMap;
use std::ops::Bound;
use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, Readable as _, Snapshot};

use crate::event::Version;

use super::Error;

/// A keyspace of the state store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Space {
    /// Versions by row.
    Heads,
    /// Rows by unit.
    Rows,
    /// Rows that wait for a snapshot row.
    Awaits,
    /// Headers by unit.
    Units,
    /// Units to be projected.
    Dirty,
    /// Results by unit.
    Results,
    /// Claims by target key.
    Claims,
    /// Events of paused tables.
    Held,
    /// Checkpoint and counters.
    Meta,
}

const SPACES: [(Space, &str); 9] = [
    (Space::Heads, "heads"),
    (Space::Rows, "rows"),
    (Space::Awaits, "awaits"),
    (Space::Units, "units"),
    (Space::Dirty, "dirty"),
    (Space::Results, "results"),
    (Space::Claims, "claims"),
    (Space::Held, "held"),
    (Space::Meta, "meta"),
];

/// Memory for blocks read from disk; small, because the store is mostly written and scanned.
const CACHE_BYTES: u64 = 128 * 1024 * 1024;

/// Units marked in one commit when all are to be projected again.
const MARK_CHUNK: usize = 10_000;

/// An open state store.
pub struct State {
    database: Database,
    spaces: Vec<Keyspace>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").finish_non_exhaustive()
    }
}

impl State {
    /// Opens or creates the store in a folder.
    ///
    /// # Errors
    /// [`Error::State`] when the folder cannot be used.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let database =
            Database::builder(folder).cache_size(CACHE_BYTES).open().map_err(|source| Error::state("open", source))?;
        let mut spaces = Vec::with_capacity(SPACES.len());
        for (_, name) in SPACES {
            let space = database.keyspace(name, KeyspaceCreateOptions::default);
            spaces.push(space.map_err(|source| Error::state("open", source))?);
        }
        Ok(Self { database, spaces })
    }

    fn space(&self, space: Space) -> &Keyspace {
        let index = SPACES.iter().position(|(known, _)| *known == space).expect("every space is listed");
        &self.spaces[index]
    }

    /// A value as last committed.
    pub fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let value = self.space(space).get(key).map_err(|source| Error::state("read", source))?;
        Ok(value.map(|value| value.to_vec()))
    }

    /// Visits committed keys and values that begin with `prefix`, in order, until `visit` answers false.
    pub fn scan(
        &self,
        space: Space,
        prefix: &[u8],
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        for guard in self.space(space).prefix(prefix) {
            let (key, value) = guard.into_inner().map_err(|source| Error::state("read", source))?;
            if !visit(&key, &value)? {
                break;
            }
        }
        Ok(())
    }

    /// Visits committed keys and values behind `after`, in order, until `visit` answers false.
    pub fn scan_after(
        &self,
        space: Space,
        after: Option<&[u8]>,
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        for guard in self.space(space).range::<&[u8], _>((start, Bound::Unbounded)) {
            let (key, value) = guard.into_inner().map_err(|source| Error::state("read", source))?;
            if !visit(&key, &value)? {
                break;
            }
        }
        Ok(())
    }

    /// Marks every unit to be projected again, and sets a value of the meta space with the last of them.
    pub fn mark_all_dirty(&self, name: &[u8], value: &[u8]) -> Result<(), Error> {
        let mut cursor: Option<Vec<u8>> = None;
        loop {
            let mut session = self.session();
            self.scan_after(Space::Units, cursor.clone().as_deref(), |unit, header| {
                if unit != super::apply::UNROUTED && unit != super::apply::NAMELESS {
                    session.put(Space::Dirty, unit, UnitHeader::from_bytes(header)?.last.to_be_bytes().to_vec());
                }
                cursor = Some(unit.to_vec());
                Ok(session.len() < MARK_CHUNK)
            })?;
            if session.len() < MARK_CHUNK {
                session.put(Space::Meta, name, value.to_vec());
                return session.commit();
            }
            session.commit()?;
        }
    }

    /// The state as it is now, to be counted while it changes.
    pub fn freeze(&self) -> Frozen<'_> {
        Frozen { state: self, snapshot: self.database.snapshot() }
    }

    /// Begins a set of changes that become visible together.
    pub fn session(&self) -> Session<'_> {
        Session { state: self, changes: HashMap::new() }
    }
}

/// The state as of one moment, however it changes meanwhile.
pub struct Frozen<'a> {
    state: &'a State,
    snapshot: Snapshot,
}

impl Frozen<'_> {
    /// A value as of then.
    pub fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let value = self.snapshot.get(self.state.space(space), key).map_err(|source| Error::state("read", source))?;
        Ok(value.map(|value| value.to_vec()))
    }

    /// Visits all keys and values of a space as of then, in order.
    pub fn each(&self, space: Space, mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), Error>) -> Result<(), Error> {
        for guard in self.snapshot.iter(self.state.space(space)) {
            let (key, value) = guard.into_inner().map_err(|source| Error::state("read", source))?;
            visit(&key, &value)?;
        }
        Ok(())
    }
}

/// Changes to the state that are read back by their author and committed at once.
pub struct Session<'a> {
    state: &'a State,
    changes: HashMap<(Space, Box<[u8]>), Option<Vec<u8>>>,
}

impl Session<'_> {
    /// A value, as this session left it.
    pub fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        match self.changes.get(&(space, Box::from(key))) {
            Some(changed) => Ok(changed.clone()),
            None => self.state.get(space, key),
        }
    }

    /// Sets a value.
    pub fn put(&mut self, space: Space, key: &[u8], value: Vec<u8>) {
        self.changes.insert((space, key.into()), Some(value));
    }

    /// Removes a value.
    pub fn remove(&mut self, space: Space, key: &[u8]) {
        self.changes.insert((space, key.into()), None);
    }

    /// Number of values changed so far.
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether nothing was changed.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Makes all changes visible, atomically.
    pub fn commit(self) -> Result<(), Error> {
        let mut batch = self.state.database.batch();
        for ((space, key), value) in self.changes {
            match value {
                Some(value) => batch.insert(self.state.space(space), &*key, value),
                None => batch.remove(self.state.space(space), &*key),
            }
        }
        batch.commit().map_err(|source| Error::state("write", source))
    }
}

/// What is known of a source row beside its cells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Version of the last event applied.
    pub version: Version,
    /// The unit it lives in; `None` when it is gone.
    pub unit: Option<Vec<u8>>,
    /// Key (of this space) under which a snapshot row can fill its missing cells; `None` when complete.
    pub origin: Option<Vec<u8>>,
}

impl Head {
    /// Stored form.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.version.to_bytes().to_vec();
        for part in [&self.unit, &self.origin] {
            match part {
                None => bytes.push(0),
                Some(part) => {
                    bytes.push(1);
                    bytes.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
                    bytes.extend_from_slice(part);
                }
            }
        }
        bytes
    }

    /// Reads the stored form.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let read = || {
            let (version, mut rest) = bytes.split_at_checked(Version::LEN)?;
            let mut part = || -> Option<Option<Vec<u8>>> {
                let (&flag, tail) = rest.split_first()?;
                rest = tail;
                if flag == 0 {
                    return Some(None);
                }
                let (length, tail) = rest.split_first_chunk::<4>()?;
                let (part, tail) = tail.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
                rest = tail;
                Some(Some(part.to_vec()))
            };
            Some(Self { version: Version::from_bytes(version)?, unit: part()?, origin: part()? })
        };
        read().ok_or(Error::Damaged("heads"))
    }
}

/// Counts about a unit's rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnitHeader {
    /// Offset of the last record applied to the unit.
    pub last: u64,
    /// Bytes of its rows as stored.
    pub bytes: u64,
    /// Rows with missing cells.
    pub incomplete: u64,
    /// Rows by source table.
    pub rows: Vec<u64>,
}

impl UnitHeader {
    /// Stored form.
    pub fn to_bytes(&self) -> Vec<u8> {
        let numbers = [self.last, self.bytes, self.incomplete];
        numbers.iter().chain(&self.rows).flat_map(|number| number.to_be_bytes()).collect()
    }

    /// Reads the stored form.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let (chunks, rest) = bytes.as_chunks::<8>();
        let [last, bytes, incomplete, rows @ ..] = chunks else { return Err(Error::Damaged("units")) };
        if !rest.is_empty() {
            return Err(Error::Damaged("units"));
        }
        let number = |chunk: &[u8; 8]| u64::from_be_bytes(*chunk);
        Ok(Self {
            last: number(last),
            bytes: number(bytes),
            incomplete: number(incomplete),
            rows: rows.iter().map(number).collect(),
        })
    }

    /// The count of one table's rows, making room for it.
    pub fn rows_of(&mut self, table: u16) -> &mut u64 {
        let index = usize::from(table);
        if self.rows.len() <= index {
            self.rows.resize(index + 1, 0);
        }
        &mut self.rows[index]
    }
}

/// Key of a unit in every space: its length, then its text, so that no unit's key begins another's.
pub fn unit_key(unit: &str) -> Vec<u8> {
    let length = u16::try_from(unit.len()).expect("the router refuses unit ids over 64 KiB");
    [&length.to_be_bytes(), unit.as_bytes()].concat()
}

/// The unit's text from its key.
pub fn unit_text(key: &[u8]) -> Result<&str, Error> {
    key.get(2..).and_then(|text| std::str::from_utf8(text).ok()).ok_or(Error::Damaged("units"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Epoch, Lsn};

    #[test]
    fn heads_and_headers_read_back() {
        for (unit, origin) in [(None, None), (Some(unit_key("u")), None), (Some(unit_key("")), Some(vec![0, 1, 2]))] {
            let head = Head { version: Version::postgres(Epoch(3), Lsn(7), 1), unit, origin };
            assert_eq!(Head::from_bytes(&head.to_bytes()).expect("a head"), head);
        }
        let header = UnitHeader { last: 5, bytes: 6, incomplete: 1, rows: vec![2, 0, 9] };
        assert_eq!(UnitHeader::from_bytes(&header.to_bytes()).expect("a header"), header);
        assert!(UnitHeader::from_bytes(&[0; 25]).is_err());
    }

    #[test]
    fn a_session_reads_what_it_wrote_and_nobody_else_does_before_it_commits() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = State::open(folder.path()).expect("a store");
        let mut session = state.session();
        session.put(Space::Meta, b"a", vec![1]);
        assert_eq!(session.get(Space::Meta, b"a").expect("readable"), Some(vec![1]));
        assert_eq!(state.get(Space::Meta, b"a").expect("readable"), None);
        session.commit().expect("writable");
        assert_eq!(state.get(Space::Meta, b"a").expect("readable"), Some(vec![1]));
        let mut session = state.session();
        session.remove(Space::Meta, b"a");
        assert_eq!(session.get(Space::Meta, b"a").expect("readable"), None);
    }
}

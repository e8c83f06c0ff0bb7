//! The state store: what the log says of every source row, by part of a unit, and what was made of each part.
//!
//! One fjall database, apart from the log's: it can be deleted at any time and is rebuilt from the log (I1). Every chunk of
//! the log is applied in one atomic batch together with the offset to go on from, so a crash leaves a state that some
//! prefix of the log yields. It needs no sync of its own for that; only `owned` is what no log tells, and is synced before a
//! target is written that keeps no record.
//!
//! Keys of the spaces (all big-endian, so that their byte order is the order of numbers); a *scope* is the key of a part
//! of a unit, see [`scope`](super::scope), an *ask* a reference and the digest of a key looked up through it, see
//! [`references`](super::references):
//!
//! | space | key | value |
//! |---|---|---|
//! | heads | table, row key | [`Head`](super::records::Head): version, scope or gone |
//! | rows | scope, table, row key | the row's cells, in the order of `legacy.toml` |
//! | awaits | table, row key of a snapshot row to come | key of the row whose missing cells it will fill |
//! | parts | scope | [`PartState`](super::records::PartState): counts of rows, last offset, and what became of it |
//! | dirty | scope | nothing; parts to be projected, unless all are to be looked through |
//! | notes | scope | rows of it that alone are quarantined |
//! | claimed | scope | target keys that it claims |
//! | owned | scope | target keys that it was written under, where the target keeps no record |
//! | claims | target table, target key | scopes whose rows have this key |
//! | entries | ask | what rows say there |
//! | dependents | ask, kind, row or scope | nothing; who asked |
//! | wake | ask | nothing; its dependents are to be placed or evaluated again |
//! | totals | unit | sums over the unit's parts |
//! | held | table, offset | events of a table whose changed schema nobody accepted yet |
//! | meta | name | checkpoint, counters, mapping generation |

use std::collections::HashMap;
use std::ops::Bound;
use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable as _, Snapshot};

use super::Error;

/// A keyspace of the state store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Space {
    /// Versions by row.
    Heads,
    /// Rows by scope.
    Rows,
    /// Rows that wait for a snapshot row.
    Awaits,
    /// Counts and results by scope.
    Parts,
    /// Parts to be projected.
    Dirty,
    /// Rows quarantined alone, by scope.
    Notes,
    /// Claims by scope.
    Claimed,
    /// Target keys by scope.
    Owned,
    /// Scopes by claimed target key.
    Claims,
    /// What rows say to those who refer to them.
    Entries,
    /// Who asked what.
    Dependents,
    /// What was asked for and has changed.
    Wake,
    /// Sums by unit.
    Totals,
    /// Events of paused tables.
    Held,
    /// Checkpoint and counters.
    Meta,
}

const SPACES: [(Space, &str); 15] = [
    (Space::Heads, "heads"),
    (Space::Rows, "rows"),
    (Space::Awaits, "awaits"),
    (Space::Parts, "parts"),
    (Space::Dirty, "dirty"),
    (Space::Notes, "notes"),
    (Space::Claimed, "claimed"),
    (Space::Owned, "owned"),
    (Space::Claims, "claims"),
    (Space::Entries, "entries"),
    (Space::Dependents, "dependents"),
    (Space::Wake, "wake"),
    (Space::Totals, "totals"),
    (Space::Held, "held"),
    (Space::Meta, "meta"),
];

/// Memory for blocks read from disk; small, because the store is mostly written and scanned.
const CACHE_BYTES: u64 = 128 * 1024 * 1024;

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
        &self.spaces[space as usize]
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

    /// Makes everything committed outlast the machine; needed only for what the log does not tell.
    pub fn sync(&self) -> Result<(), Error> {
        self.database.persist(PersistMode::SyncData).map_err(|source| Error::state("sync", source))
    }

    /// The state as it is now, to be counted while it changes.
    pub fn freeze(&self) -> Frozen<'_> {
        Frozen { state: self, snapshot: self.database.snapshot() }
    }

    /// Begins a set of changes that become visible together.
    pub fn session(&self) -> Session<'_> {
        Session { state: self, changes: vec![Changes::default(); SPACES.len()] }
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
    /// By space.
    changes: Vec<Changes>,
}

/// New values by key; `None` where the key is removed.
type Changes = HashMap<Box<[u8]>, Option<Vec<u8>>, foldhash::fast::RandomState>;

impl Session<'_> {
    /// A value, as this session left it.
    pub fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        match self.changes[space as usize].get(key) {
            Some(changed) => Ok(changed.clone()),
            None => self.state.get(space, key),
        }
    }

    /// Sets a value.
    pub fn put(&mut self, space: Space, key: &[u8], value: Vec<u8>) {
        self.changes[space as usize].insert(key.into(), Some(value));
    }

    /// Removes a value.
    pub fn remove(&mut self, space: Space, key: &[u8]) {
        self.changes[space as usize].insert(key.into(), None);
    }

    /// Number of values changed so far.
    pub fn changed(&self) -> usize {
        self.changes.iter().map(HashMap::len).sum()
    }

    /// Makes all changes visible, atomically.
    pub fn commit(self) -> Result<(), Error> {
        let mut batch = self.state.database.batch();
        for (space, changes) in self.state.spaces.iter().zip(self.changes) {
            // In order of key: the store's tables are sorted, and neighbours are found faster than strangers.
            let mut changes: Vec<_> = changes.into_iter().collect();
            changes.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
            for (key, value) in changes {
                match value {
                    Some(value) => batch.insert(space, &*key, value),
                    None => batch.remove(space, &*key),
                }
            }
        }
        batch.commit().map_err(|source| Error::state("write", source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spaces_are_found_by_their_place() {
        for (place, (space, _)) in SPACES.iter().enumerate() {
            assert_eq!(*space as usize, place);
        }
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

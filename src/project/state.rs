//! The state store: what the log says of every source row, by part of a unit, and what was made of each part.
//!
//! One fjall database, apart from the log's: it can be deleted at any time and is rebuilt from the log (I1). What some chunks
//! of the log change is committed at once, by a [session](super::session), with the offset to go on from, so a crash leaves
//! a state that some prefix of the log yields. It needs no sync of its own for that; only `owned` is what no log tells, and
//! is synced before a target is written that keeps no record.
//!
//! All spaces are in one sorted store, each behind a byte of its own: what is loaded into one store in bulk becomes visible
//! at once, what is loaded into several does not.
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

use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fjall::compaction::Leveled;
use fjall::{Database, KeyspaceCreateOptions, PersistMode, Readable as _, Snapshot};

use super::seen::Seen;
use super::session::{Session, Store};
use super::{Error, renew};

/// A space of the state store; its number begins the stored keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
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

/// All spaces, each in the place of its number.
pub(super) const SPACES: [Space; 15] = [
    Space::Heads,
    Space::Rows,
    Space::Awaits,
    Space::Parts,
    Space::Dirty,
    Space::Notes,
    Space::Claimed,
    Space::Owned,
    Space::Claims,
    Space::Entries,
    Space::Dependents,
    Space::Wake,
    Space::Totals,
    Space::Held,
    Space::Meta,
];

/// Memory for blocks read from disk; small, because the store is mostly written and scanned.
const CACHE_BYTES: u64 = 128 * 1024 * 1024;
/// Tables that are merged at once into those before them, less often than by default: a backlog is loaded as tables that each hold
/// keys from everywhere, so that a merge writes most of what there is once more.
const TABLES_MERGED: u8 = 12;
/// Name of the sorted store that holds all spaces.
const STORE: &str = "state";

/// An open state store.
pub struct State {
    store: Store,
    seen: Seen,
    folder: PathBuf,
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
        renew::mend(folder)?;
        let database =
            Database::builder(folder).cache_size(CACHE_BYTES).open().map_err(|source| Error::state("open", source))?;
        let merging = || Leveled::default().with_l0_threshold(TABLES_MERGED);
        let options = || KeyspaceCreateOptions::default().compaction_strategy(Arc::new(merging()));
        let keyspace = database.keyspace(STORE, options);
        let keyspace = keyspace.map_err(|source| Error::state("open", source))?;
        let empty = keyspace.is_empty().map_err(|source| Error::state("open", source))?;
        let seen = if empty { Seen::of_empty() } else { Seen::of_unknown() };
        Ok(Self { store: Store::new(database, keyspace), seen, folder: folder.to_owned() })
    }

    /// Where it lies.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn store(&self) -> Store {
        self.store.clone()
    }

    /// What is known of its keys.
    pub(super) fn seen(&self) -> &Seen {
        &self.seen
    }

    /// A value as last committed.
    pub fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let value = self.store.keyspace.get(space.key(key)).map_err(|source| Error::state("read", source))?;
        Ok(value.map(|value| value.to_vec()))
    }

    /// Visits committed keys and values that begin with `prefix`, in order, until `visit` answers false.
    pub fn scan(
        &self,
        space: Space,
        prefix: &[u8],
        visit: impl FnMut(&[u8], &[u8]) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        each(self.store.keyspace.prefix(space.key(prefix)), visit)
    }

    /// Visits committed keys and values behind `after`, in order, until `visit` answers false.
    pub fn scan_after(
        &self,
        space: Space,
        after: Option<&[u8]>,
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        let mut after = after.map(<[u8]>::to_vec);
        if after.is_none() {
            self.store.marks().learn(space, || {
                let stored = self.store.keyspace.prefix(space.key(&[])).map(fjall::Guard::key);
                stored.map(|key| Ok(key.map_err(|source| Error::state("read", source))?[1..].to_vec()))
            })?;
        }
        while let Some(keys) = self.marks_behind(space, after.as_deref()) {
            for key in &keys {
                if !visit(key, &[])? {
                    return Ok(());
                }
            }
            let Some(last) = keys.into_iter().next_back() else { return Ok(()) };
            after = Some(last);
        }
        let start = match after {
            Some(after) => Bound::Excluded(space.key(&after)),
            None => Bound::Included(space.key(&[])),
        };
        let end = Bound::Excluded(vec![space as u8 + 1]);
        each(self.store.keyspace.range((start, end)), visit)
    }

    /// Whether a space holds nothing, as last committed.
    pub fn empty(&self, space: Space) -> Result<bool, Error> {
        let mut empty = true;
        self.scan_after(space, None, |_, _| {
            empty = false;
            Ok(false)
        })?;
        Ok(empty)
    }

    /// Some keys of a space that are known in memory; the lock is not held while they are visited.
    fn marks_behind(&self, space: Space, after: Option<&[u8]>) -> Option<Vec<Vec<u8>>> {
        self.store.marks().behind(space, after)
    }

    /// Makes everything committed outlast the machine; needed only for what the log does not tell.
    pub fn sync(&self) -> Result<(), Error> {
        self.store.database.persist(PersistMode::SyncData).map_err(|source| Error::state("sync", source))
    }

    /// The state as it is now, to be counted while it changes.
    pub fn freeze(&self) -> Frozen<'_> {
        Frozen { state: self, snapshot: self.store.database.snapshot() }
    }

    /// Begins a set of changes that become visible together.
    pub fn session(&self) -> Session<'_> {
        Session::new(self)
    }
}

impl Space {
    /// A key as it is stored.
    pub(super) fn key(self, key: &[u8]) -> Vec<u8> {
        let mut stored = Vec::with_capacity(key.len() + 1);
        stored.push(self as u8);
        stored.extend_from_slice(key);
        stored
    }
}

/// Visits stored keys, without their space, and values, until `visit` answers false.
fn each(found: fjall::Iter, mut visit: impl FnMut(&[u8], &[u8]) -> Result<bool, Error>) -> Result<(), Error> {
    for guard in found {
        let (key, value) = guard.into_inner().map_err(|source| Error::state("read", source))?;
        if !visit(&key[1..], &value)? {
            break;
        }
    }
    Ok(())
}

/// The state as of one moment, however it changes meanwhile.
pub struct Frozen<'a> {
    state: &'a State,
    snapshot: Snapshot,
}

impl Frozen<'_> {
    /// A value as of then.
    pub fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let value = self.snapshot.get(&self.state.store.keyspace, space.key(key));
        Ok(value.map_err(|source| Error::state("read", source))?.map(|value| value.to_vec()))
    }

    /// Visits all keys and values of a space as of then, in order.
    pub fn each(&self, space: Space, mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), Error>) -> Result<(), Error> {
        each(self.snapshot.prefix(&self.state.store.keyspace, space.key(&[])), |key, value| {
            visit(key, value).map(|()| true)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spaces_are_found_by_their_place() {
        for (place, space) in SPACES.iter().enumerate() {
            assert_eq!(*space as usize, place);
        }
    }

    fn dirty(state: &State, after: Option<&[u8]>) -> Vec<u8> {
        let mut found = Vec::new();
        let scanned = state.scan_after(Space::Dirty, after, |key, _| {
            found.extend_from_slice(key);
            Ok(true)
        });
        scanned.expect("readable");
        found
    }

    #[test]
    fn marks_are_found_as_they_were_committed_and_after_a_start() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = State::open(folder.path()).expect("a store");
        assert_eq!(dirty(&state, None), b"");
        let mut session = state.session();
        for key in [b"d", b"a", b"c", b"b"] {
            session.put(Space::Dirty, key, []);
        }
        assert_eq!(dirty(&state, None), b"", "not committed yet");
        session.commit().expect("writable");
        assert_eq!((dirty(&state, None), dirty(&state, Some(b"b"))), (b"abcd".to_vec(), b"cd".to_vec()));
        let mut session = state.session();
        session.remove(Space::Dirty, b"b");
        session.put(Space::Dirty, b"e", []);
        session.commit_behind().expect("writable");
        session.commit().expect("writable");
        assert_eq!(dirty(&state, None), b"acde");
        drop(state);
        assert_eq!(dirty(&State::open(folder.path()).expect("a store"), Some(b"a")), b"cde", "read from the store");
    }

    #[test]
    fn more_marks_than_are_kept_in_memory_are_found_in_the_store() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = State::open(folder.path()).expect("a store");
        let count = |state: &State| dirty(state, None).len() / 4;
        assert_eq!(count(&state), 0);
        let all = u32::try_from(crate::project::marks::KEYS_MAX).expect("few") + 10;
        for (from, to, left) in [(0, all - 20, all - 20), (all - 20, all, all), (all, all + 5, all + 5)] {
            let mut session = state.session();
            (from..to).for_each(|key| session.put(Space::Dirty, &key.to_be_bytes(), []));
            session.commit().expect("writable");
            assert_eq!(count(&state), left as usize);
        }
        let mut session = state.session();
        (1..all + 5).for_each(|key| session.remove(Space::Dirty, &key.to_be_bytes()));
        session.commit().expect("writable");
        assert_eq!(count(&state), 1, "known again");
    }

    #[test]
    fn a_scan_ends_with_its_space() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = State::open(folder.path()).expect("a store");
        let mut session = state.session();
        for space in [Space::Heads, Space::Rows, Space::Meta] {
            session.put(space, b"", vec![space as u8]);
            session.put(space, &[0xff; 3], vec![space as u8]);
        }
        session.commit().expect("writable");
        for (space, found) in [(Space::Heads, 2), (Space::Rows, 2), (Space::Awaits, 0), (Space::Meta, 2)] {
            let (mut scanned, mut behind, mut frozen) = (0, 0, 0);
            let count = |value: &[u8], counted: &mut u64| {
                assert_eq!(value, [space as u8]);
                *counted += 1;
                Ok(true)
            };
            state.scan(space, b"", |_, value| count(value, &mut scanned)).expect("readable");
            state.scan_after(space, Some(b""), |_, value| count(value, &mut behind)).expect("readable");
            state.freeze().each(space, |_, value| count(value, &mut frozen).map(drop)).expect("readable");
            assert_eq!((scanned, behind, frozen), (found, found / 2, found));
        }
    }
}

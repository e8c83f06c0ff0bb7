//! Changes to the state that are read back by their author and committed at once.
//!
//! A small set of changes goes the store's usual way: journal, memory, table. A large one, as when a backlog of the log is
//! folded, is sorted and loaded as a table: each value is then written once rather than three times, and none is put in
//! its place among millions by itself. A table is synced before it counts, and counts as a whole, so a crash leaves all of
//! the changes or none, as it does after a batch.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fjall::{Database, Keyspace};

use super::Error;
use super::changes::Changes;
use super::marks::Marks;
use super::seen::{KeyHash, Seen};
use super::state::{Space, State};

/// A set of changes of this many bytes, keys and values, is loaded as a table: a table costs two or three syncs and a run
/// among those that every read looks into, which fewer changes do not repay.
const LOAD_BYTES_MIN: usize = 4 * 1024 * 1024;
/// Tables that may wait for their merge with older ones: fewer than those at which the store slows down changes that go its usual way.
const TABLES_WAITING_MAX: usize = 18;
/// Time between two looks at the tables that wait; a merge takes some hundred times as long.
const MERGE_POLL: Duration = Duration::from_millis(5);
/// Tables of which none was merged for so long are waited for no more: the store may have been busy with others when it was asked to
/// merge them, and is asked again with the next one only.
const MERGE_PATIENCE: Duration = Duration::from_secs(10);

/// Changes to the state that are read back by their author and committed at once.
pub struct Session<'a> {
    state: &'a State,
    changes: Changes,
    /// Changes that are on their way into the store; these here come after them.
    below: Option<Below>,
    /// Whether changes before these were lost: these must not become visible without them.
    broken: bool,
}

/// Changes that a thread commits. Dropping them waits for it: nothing is left running behind.
struct Below {
    changes: Arc<Changes>,
    commit: Option<JoinHandle<fjall::Result<()>>>,
}

impl Below {
    fn begin(state: &State, changes: Changes) -> Result<Self, Error> {
        let changes = Arc::new(changes);
        let (store, taken) = (state.store(), Arc::clone(&changes));
        let commit = std::thread::Builder::new().name("state-commit".into());
        let commit = commit.spawn(move || store.commit(&taken));
        let commit = commit.map_err(|source| Error::state("write", source.into()))?;
        Ok(Self { changes, commit: Some(commit) })
    }

    /// Waits until the changes are visible; their room is free then.
    fn end(mut self) -> Result<Changes, Error> {
        let commit = self.commit.take().expect("it is taken here or when this is dropped");
        let committed = commit.join().expect("a commit does not panic");
        committed.map_err(|source| Error::state("write", source))?;
        Ok(Arc::into_inner(std::mem::take(&mut self.changes)).map(Changes::emptied).unwrap_or_default())
    }
}

impl Drop for Below {
    fn drop(&mut self) {
        if let Some(commit) = self.commit.take() {
            // Whoever drops changes on their way has an error of its own to tell.
            let _ = commit.join();
        }
    }
}

impl<'a> Session<'a> {
    /// No changes yet.
    pub(super) fn new(state: &'a State) -> Self {
        Self { state, changes: Changes::default(), below: None, broken: false }
    }

    /// A value, as this session left it.
    pub fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let (seen, hash) = self.seen(space, key);
        if !seen.perhaps(space, hash) {
            return Ok(None);
        }
        let below = || self.below.as_ref().and_then(|below| below.changes.get(hash, space, key));
        match self.changes.get(hash, space, key).or_else(below) {
            Some(changed) => Ok(changed.map(<[u8]>::to_vec)),
            None => self.state.get(space, key),
        }
    }

    /// Sets a value.
    pub fn put(&mut self, space: Space, key: &[u8], value: impl AsRef<[u8]>) {
        let (seen, hash) = self.seen(space, key);
        seen.put(space, hash);
        self.changes.set(hash, space, key, Some(value.as_ref()));
    }

    /// Removes a value.
    pub fn remove(&mut self, space: Space, key: &[u8]) {
        let (_, hash) = self.seen(space, key);
        self.changes.set(hash, space, key, None);
    }

    fn seen(&self, space: Space, key: &[u8]) -> (&'a Seen, KeyHash) {
        let seen = self.state.seen();
        (seen, seen.hash(space, key))
    }

    /// Whether values of a space were changed that are not visible yet.
    pub fn has_new(&self, space: Space) -> bool {
        let below = self.below.as_ref().map_or(0, |below| below.changes.count(space));
        self.changes.count(space) + below > 0
    }

    /// Number of values changed so far.
    pub fn changed(&self) -> usize {
        self.changes.len()
    }

    /// Bytes of the keys and values changed so far.
    pub fn bytes(&self) -> usize {
        self.changes.bytes()
    }

    /// Makes all changes visible, atomically.
    pub fn commit(self) -> Result<(), Error> {
        self.whole()?;
        if let Some(below) = self.below {
            below.end()?;
        }
        self.state.store().commit(&self.changes).map_err(|source| Error::state("write", source))
    }

    /// Begins to commit all changes beside what follows, and goes on above them: they are seen here as before, by others
    /// when they are committed.
    pub fn commit_behind(&mut self) -> Result<(), Error> {
        self.whole()?;
        self.broken = true;
        let room = self.below.take().map_or_else(|| Ok(Changes::default()), Below::end)?;
        self.below = Some(Below::begin(self.state, std::mem::replace(&mut self.changes, room))?);
        self.broken = false;
        Ok(())
    }

    fn whole(&self) -> Result<(), Error> {
        let lost = || std::io::Error::other("changes before these could not be written");
        if self.broken { Err(Error::state("write", lost().into())) } else { Ok(()) }
    }
}

/// The sorted store, and what is known of it in memory.
#[derive(Clone)]
pub(super) struct Store {
    pub(super) database: Database,
    pub(super) keyspace: Keyspace,
    marks: Arc<Mutex<Marks>>,
}

impl Store {
    /// A store of which nothing is known yet.
    pub(super) fn new(database: Database, keyspace: Keyspace) -> Self {
        Self { database, keyspace, marks: Arc::default() }
    }

    /// What is known of spaces that are filled and emptied all the time.
    pub(super) fn marks(&self) -> MutexGuard<'_, Marks> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Commits changes; nobody reads marks between the commit and what is known of it.
    fn commit(&self, changes: &Changes) -> fjall::Result<()> {
        let large = changes.bytes() >= LOAD_BYTES_MIN;
        let mut marks = Marks::concern(changes).then(|| self.marks());
        if large { self.load(changes) } else { self.write(changes) }?;
        if let Some(marks) = &mut marks {
            marks.follow(changes);
        }
        drop(marks);
        let mut waiting = Waiting::begin(Instant::now());
        while large && waiting.more(self.keyspace.l0_table_count(), Instant::now()) {
            std::thread::sleep(MERGE_POLL);
        }
        Ok(())
    }

    /// Writes changes in the order of stored keys: neighbours are found faster than strangers.
    fn write(&self, changes: &Changes) -> fjall::Result<()> {
        let mut batch = self.database.batch();
        for (key, value) in changes.sorted() {
            match value {
                Some(value) => batch.insert(&self.keyspace, key, value),
                None => batch.remove(&self.keyspace, key),
            }
        }
        batch.commit()
    }

    /// Loads changes as a table, which is sorted.
    fn load(&self, changes: &Changes) -> fjall::Result<()> {
        let mut table = self.keyspace.start_ingestion()?;
        for (key, value) in changes.sorted() {
            match value {
                Some(value) => table.write(key, value)?,
                None => table.write_tombstone(key)?,
            }
        }
        table.finish()
    }
}

/// A wait for tables to be merged, which ends also where none is.
struct Waiting {
    /// Tables when they were last fewer.
    tables: usize,
    /// When that was.
    since: Instant,
}

impl Waiting {
    fn begin(now: Instant) -> Self {
        Self { tables: usize::MAX, since: now }
    }

    /// Whether so many tables are still to be waited for.
    fn more(&mut self, tables: usize, now: Instant) -> bool {
        if tables < self.tables {
            (self.tables, self.since) = (tables, now);
        }
        tables > TABLES_WAITING_MAX && now.duration_since(self.since) < MERGE_PATIENCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project::state::SPACES;

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

    #[test]
    fn changes_do_not_become_visible_without_those_before_them() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = State::open(folder.path()).expect("a store");
        let mut session = state.session();
        session.put(Space::Rows, b"before", [1]);
        let refused = std::thread::spawn(|| Err(std::io::Error::other("no room is left").into()));
        session.below = Some(Below { changes: Arc::default(), commit: Some(refused) });
        session.commit_behind().expect_err("what was on its way is lost");
        session.put(Space::Meta, b"last", [2]);
        session.commit_behind().expect_err("so is this");
        session.commit().expect_err("and this");
        assert_eq!(state.get(Space::Meta, b"last").expect("readable"), None);
    }

    #[test]
    fn tables_are_waited_for_while_they_become_fewer_and_not_for_ever() {
        let (began, many) = (Instant::now(), TABLES_WAITING_MAX + 5);
        let at = |polls: u32| began + MERGE_PATIENCE / 4 * polls;
        let mut waiting = Waiting::begin(began);
        assert!(waiting.more(many, at(0)) && waiting.more(many, at(3)));
        assert!(waiting.more(many - 1, at(3)) && waiting.more(many, at(6)), "one was merged");
        assert!(!waiting.more(many, at(7)), "nobody merges them");
        assert!(!Waiting::begin(began).more(TABLES_WAITING_MAX, began), "few enough");
    }

    #[test]
    fn a_session_finds_what_was_there_before_its_state_was_opened() {
        let folder = tempfile::tempdir().expect("a folder");
        for round in 0..3_u8 {
            let state = State::open(folder.path()).expect("a store");
            let mut session = state.session();
            for key in 0..4 {
                let found = session.get(Space::Heads, &[key]).expect("readable");
                assert_eq!(found, (key < round).then(|| vec![key]), "round {round}");
            }
            session.put(Space::Heads, &[round], [round]);
            session.commit_behind().expect("writable");
            assert_eq!(session.get(Space::Heads, &[round]).expect("readable"), Some(vec![round]));
            session.commit().expect("writable");
            assert_eq!(state.session().get(Space::Heads, &[round]).expect("readable"), Some(vec![round]));
        }
    }

    #[test]
    fn changes_on_their_way_are_read_by_their_author_and_stay_below_later_ones() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = State::open(folder.path()).expect("a store");
        let mut session = state.session();
        for byte in 0..4 {
            // What is committed behind is large, the last of all is small.
            session.put(Space::Rows, &[byte], vec![byte; LOAD_BYTES_MIN]);
            session.put(Space::Meta, b"last", [byte]);
            session.remove(Space::Rows, &[byte.wrapping_sub(1)]);
            session.commit_behind().expect("writable");
            assert!(session.has_new(Space::Rows) && session.bytes() == 0);
            assert_eq!(session.get(Space::Meta, b"last").expect("readable"), Some(vec![byte]));
            assert_eq!(session.get(Space::Rows, &[byte.wrapping_sub(1)]).expect("readable"), None);
        }
        session.put(Space::Meta, b"last", [9]);
        session.commit().expect("writable");
        assert_eq!(state.get(Space::Meta, b"last").expect("readable"), Some(vec![9]));
        let rows: Vec<bool> = (0..4).map(|byte| state.get(Space::Rows, &[byte]).expect("readable").is_some()).collect();
        assert_eq!(rows, [false, false, false, true]);
    }

    /// Small and large sets of changes in turns, each over what the one before left.
    #[test]
    fn a_set_of_changes_counts_as_it_was_left_whichever_way_it_went_and_is_there_after_a_start() {
        let folder = tempfile::tempdir().expect("a folder");
        let fill = |size: usize, byte: u8| vec![byte; size];
        let mut expected = std::collections::BTreeMap::new();
        let state = State::open(folder.path()).expect("a store");
        for (round, size) in [(1, LOAD_BYTES_MIN / 40), (2, 10), (3, LOAD_BYTES_MIN / 40), (4, 10)] {
            let mut session = state.session();
            let frozen = state.freeze();
            for key in 0..120_u8 {
                let space = if key % 2 == 0 { Space::Heads } else { Space::Meta };
                if (key + round) % 3 == 0 {
                    session.remove(space, &[key]);
                    expected.remove(&(space, key));
                } else if (key + round) % 5 != 0 {
                    session.put(space, &[key], fill(size, round));
                    expected.insert((space, key), fill(size, round));
                }
            }
            assert_eq!(session.bytes() >= LOAD_BYTES_MIN, size > 10, "both ways are gone");
            let before = state.get(Space::Meta, &[1]).expect("readable");
            session.commit().expect("writable");
            assert_eq!(frozen.get(Space::Meta, &[1]).expect("readable"), before, "a frozen state does not change");
            check(&state, &expected);
        }
        drop(state);
        check(&State::open(folder.path()).expect("a store"), &expected);
    }

    fn check(state: &State, expected: &std::collections::BTreeMap<(Space, u8), Vec<u8>>) {
        let mut found = std::collections::BTreeMap::new();
        for space in SPACES {
            let scanned = state.scan(space, &[], |key, value| {
                found.insert((space, key[0]), value.to_vec());
                Ok(true)
            });
            scanned.expect("readable");
        }
        assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        assert!(found == *expected, "values are as they were last left");
        for ((space, key), value) in expected {
            assert!(state.get(*space, &[*key]).expect("readable").as_ref() == Some(value));
        }
    }
}

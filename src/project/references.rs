//! What rows say to other rows, and who asked: routes through a parent, context and lookups.
//!
//! A reference finds rows of a table under a key made of their cells, and shows some of their values. The state keeps, by
//! reference and digest of the key (an *ask*), what the rows say there, and who asked: rows whose place depends on it, parts
//! whose evaluation does. When an answer changes, everything that depends on it is looked at again, and nothing else.
//!
//! One record holds all rows that are found under one key: references are for few rows a key.

use std::cell::RefCell;
use std::collections::BTreeSet;

use crate::event::encoding::ordered::key_bytes;
use crate::event::{Canonical, DecodeError, Key, Reader, Value, put_bytes, put_varint};
use crate::mapping::{Look, ReadError, ReferenceId};

use super::Error;
use super::session::Session;
use super::state::{Space, State};

/// A key looked up through a reference, by its digest: 2^-64 odds of a chance collision in 2^32 keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ask {
    /// The reference.
    pub reference: u16,
    /// First 16 bytes of the blake3 digest of the key.
    pub digest: [u8; 16],
}

/// Length of an ask's key in the state.
pub const ASK_LEN: usize = 18;

impl Ask {
    /// What is asked by a reference for a key.
    pub fn of(reference: ReferenceId, key: &[Value]) -> Self {
        let digest = blake3::hash(&key_bytes(&Key(key.to_vec())));
        let digest = *digest.as_bytes().first_chunk().expect("a digest has 32 bytes");
        Self { reference: reference.0, digest }
    }

    /// Key in the state.
    pub fn to_bytes(self) -> [u8; ASK_LEN] {
        let mut bytes = [0; ASK_LEN];
        bytes[..2].copy_from_slice(&self.reference.to_be_bytes());
        bytes[2..].copy_from_slice(&self.digest);
        bytes
    }

    /// Reads the key in the state; `None` when the bytes are none.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (reference, digest) = bytes.split_first_chunk::<2>()?;
        Some(Self { reference: u16::from_be_bytes(*reference), digest: digest.try_into().ok()? })
    }
}

/// Appends a list of asks.
pub fn put_asks(asks: &[Ask], out: &mut Vec<u8>) {
    put_varint(asks.len() as u64, out);
    asks.iter().for_each(|ask| out.extend_from_slice(&ask.to_bytes()));
}

/// Reads a list of asks.
pub fn take_asks(reader: &mut Reader<'_>) -> Result<Vec<Ask>, DecodeError> {
    let count = reader.count()?;
    (0..count).map(|_| Ask::from_bytes(reader.raw(ASK_LEN)?).ok_or(DecodeError::End)).collect()
}

/// Who asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dependent {
    /// The row with this key of the heads, for its place.
    Row(Vec<u8>),
    /// The part with this key, for its evaluation.
    Part(Vec<u8>),
}

impl Dependent {
    fn key(&self, ask: Ask) -> Vec<u8> {
        let (kind, key) = match self {
            Dependent::Row(key) => (0, key),
            Dependent::Part(key) => (1, key),
        };
        [&ask.to_bytes()[..], &[kind], key].concat()
    }

    /// Reads who asked from a key of the dependents.
    ///
    /// # Errors
    /// [`Error::Damaged`] when it is none.
    pub fn from_key(key: &[u8]) -> Result<Self, Error> {
        match key.get(ASK_LEN..) {
            Some([0, key @ ..]) => Ok(Dependent::Row(key.to_vec())),
            Some([1, key @ ..]) => Ok(Dependent::Part(key.to_vec())),
            _ => Err(Error::Damaged("dependents")),
        }
    }
}

/// Replaces what someone asked.
pub fn depend(session: &mut Session<'_>, who: &Dependent, before: &[Ask], after: &[Ask]) {
    for ask in before.iter().filter(|ask| !after.contains(ask)) {
        session.remove(Space::Dependents, &who.key(*ask));
    }
    for ask in after.iter().filter(|ask| !before.contains(ask)) {
        session.put(Space::Dependents, &who.key(*ask), Vec::new());
    }
}

/// What one row says through a reference: under which key, and the values it shows there.
pub type Entry = (Vec<Value>, Vec<Value>);

/// Replaces what a row says through a reference; everyone who asked is to be looked at again.
pub fn replace(
    session: &mut Session<'_>,
    reference: ReferenceId,
    row: &[u8],
    before: Option<Entry>,
    after: Option<Entry>,
) -> Result<(), Error> {
    if before == after {
        return Ok(());
    }
    let asked = |entry: &Option<Entry>| entry.as_ref().map(|(key, _)| Ask::of(reference, key));
    let (old, new) = (asked(&before), asked(&after));
    if let Some(ask) = old.filter(|old| Some(*old) != new) {
        change(session, ask, row, None)?;
    }
    if let (Some(ask), Some((_, shown))) = (new, after) {
        change(session, ask, row, Some(shown))?;
    }
    Ok(())
}

fn change(session: &mut Session<'_>, ask: Ask, row: &[u8], shown: Option<Vec<Value>>) -> Result<(), Error> {
    let place = ask.to_bytes();
    let mut entries = match session.get(Space::Entries, &place)? {
        Some(bytes) => entries(&bytes)?,
        None => Vec::new(),
    };
    let found = entries.binary_search_by(|(known, _)| known.as_slice().cmp(row));
    match (found, shown) {
        (Ok(at), Some(shown)) => entries[at].1 = shown,
        (Err(at), Some(shown)) => entries.insert(at, (row.to_vec(), shown)),
        (Ok(at), None) => drop(entries.remove(at)),
        (Err(_), None) => {}
    }
    if entries.is_empty() {
        session.remove(Space::Entries, &place);
    } else {
        let mut bytes = Vec::new();
        for (row, shown) in entries {
            put_bytes(&row, &mut bytes);
            put_bytes(&Key(shown).encode(), &mut bytes);
        }
        session.put(Space::Entries, &place, bytes);
    }
    session.put(Space::Wake, &place, Vec::new());
    Ok(())
}

/// The rows found under one key, in order of their own keys, with what they show.
fn entries(bytes: &[u8]) -> Result<Vec<(Vec<u8>, Vec<Value>)>, Error> {
    let mut reader = Reader::new(bytes);
    let mut found = Vec::new();
    let mut read = || -> Result<(), DecodeError> {
        while !reader.at_end() {
            let row = reader.bytes()?.to_vec();
            found.push((row, Key::decode(reader.bytes()?)?.0));
        }
        Ok(())
    };
    read().map_err(|_| Error::Damaged("entries"))?;
    Ok(found)
}

/// Where answers are read.
enum Answers<'a> {
    Committed(&'a State),
    Session(&'a Session<'a>),
}

/// Looks up through references, and remembers what was asked.
pub struct Looker<'a> {
    answers: Answers<'a>,
    asked: RefCell<BTreeSet<Ask>>,
}

impl<'a> Looker<'a> {
    /// Sees what is committed.
    pub fn committed(state: &'a State) -> Self {
        Self { answers: Answers::Committed(state), asked: RefCell::default() }
    }

    /// Sees what a session left.
    pub fn session(session: &'a Session<'a>) -> Self {
        Self { answers: Answers::Session(session), asked: RefCell::default() }
    }

    /// What was asked.
    pub fn into_asked(self) -> Vec<Ask> {
        self.asked.into_inner().into_iter().collect()
    }
}

impl Look for Looker<'_> {
    fn find(&self, reference: ReferenceId, key: &[Value]) -> Result<Vec<Vec<Value>>, ReadError> {
        let ask = Ask::of(reference, key);
        self.asked.borrow_mut().insert(ask);
        let bytes = match self.answers {
            Answers::Committed(state) => state.get(Space::Entries, &ask.to_bytes()),
            Answers::Session(session) => session.get(Space::Entries, &ask.to_bytes()),
        };
        let Some(bytes) = bytes.map_err(ReadError::new)? else { return Ok(Vec::new()) };
        let found = entries(&bytes).map_err(ReadError::new)?;
        Ok(found.into_iter().map(|(_, shown)| shown).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: i64, shown: &str) -> Option<Entry> {
        Some((vec![Value::Int(key)], vec![Value::text(shown)]))
    }

    fn woken(state: &State) -> usize {
        let mut count = 0;
        let scanned = state.scan(Space::Wake, &[], |_, _| {
            count += 1;
            Ok(true)
        });
        scanned.expect("readable");
        count
    }

    #[test]
    fn answers_follow_their_rows_and_only_changes_wake() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = State::open(folder.path()).expect("a store");
        let by = ReferenceId(4);
        let mut session = state.session();
        replace(&mut session, by, b"row 2", None, entry(1, "b")).expect("state");
        replace(&mut session, by, b"row 1", None, entry(1, "a")).expect("state");
        let looker = Looker::session(&session);
        let found = looker.find(by, &[Value::Int(1)]).expect("readable");
        assert_eq!(found, [[Value::text("a")], [Value::text("b")]], "in order of their keys");
        assert_eq!(looker.find(by, &[Value::Int(2)]).expect("readable"), Vec::<Vec<Value>>::new());
        assert_eq!(looker.into_asked().len(), 2, "what is not there was asked too");
        session.remove(Space::Wake, &Ask::of(by, &[Value::Int(1)]).to_bytes());
        session.commit().expect("writable");

        let mut session = state.session();
        replace(&mut session, by, b"row 1", entry(1, "a"), entry(1, "a")).expect("state");
        session.commit().expect("writable");
        assert_eq!(woken(&state), 0, "the same answer wakes nobody");
        let mut session = state.session();
        replace(&mut session, by, b"row 1", entry(1, "a"), entry(2, "a")).expect("state");
        replace(&mut session, by, b"row 2", entry(1, "b"), None).expect("state");
        session.commit().expect("writable");
        assert_eq!(woken(&state), 2, "the old key and the new one");
        let looker = Looker::committed(&state);
        assert_eq!(looker.find(by, &[Value::Int(1)]).expect("readable").len(), 0);
        assert_eq!(looker.find(by, &[Value::Int(2)]).expect("readable").len(), 1);
    }
}

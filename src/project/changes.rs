//! Changed values of the state by space and key, until they are committed.
//!
//! Keys and values stand one behind the other in one buffer, as a backlog of the log brings a million of them and most
//! are a few dozen bytes: a buffer of its own for each would cost more than what is done with it.

use std::ops::Range;

use hashbrown::HashTable;

use crate::event::front;

use super::seen::KeyHash;
use super::state::{SPACES, Space};

/// Room for keys and values that is used again, at most: what a single huge row took is given back.
const ROOM_MAX: usize = 64 * 1024 * 1024;
/// From this on room is asked for all at once, as much as a backlog fills before it is committed: growing step by step copies it
/// again and again.
const BACKLOG_MIN: usize = 1024 * 1024;
/// That much; pages of it that nothing is put into are never touched.
const BACKLOG_ROOM: usize = 40 * 1024 * 1024;

/// Changed values, each with its key as it is stored.
#[derive(Default)]
pub(super) struct Changes {
    /// Keys and values.
    buffer: Vec<u8>,
    /// In the order in which keys first came.
    entries: Vec<Entry>,
    /// Indexes into `entries`, by key.
    index: HashTable<usize>,
    /// Number of keys by space.
    counts: [usize; SPACES.len()],
}

/// Where in the buffer one changed value stands.
struct Entry {
    key: Range<usize>,
    /// Absent where the key is removed.
    value: Option<Range<usize>>,
    /// Of the key; kept so that a growing index need not read every key again.
    hash: KeyHash,
}

impl Changes {
    /// What was put under a key, which has a hash: `None` when nothing was, the inner `None` when it was removed.
    pub(super) fn get(&self, hash: KeyHash, space: Space, key: &[u8]) -> Option<Option<&[u8]>> {
        let found = self.index.find(hash.0, |&at| self.is(at, space, key))?;
        Some(self.entries[*found].value.clone().map(|value| &self.buffer[value]))
    }

    /// Sets a value, or removes it; every key comes with the same hash each time.
    pub(super) fn set(&mut self, hash: KeyHash, space: Space, key: &[u8], value: Option<&[u8]>) {
        if let Some(&at) = self.index.find(hash.0, |&at| self.is(at, space, key)) {
            let room = self.entries[at].value.take();
            self.entries[at].value = value.map(|value| match room {
                Some(room) if room.len() >= value.len() => {
                    let room = room.start..room.start + value.len();
                    self.buffer[room.clone()].copy_from_slice(value);
                    room
                }
                _ => append(&mut self.buffer, &[value]),
            });
            return;
        }
        let key = append(&mut self.buffer, &[&[space as u8], key]);
        let value = value.map(|value| append(&mut self.buffer, &[value]));
        self.entries.push(Entry { key, value, hash });
        self.counts[space as usize] += 1;
        let entries = &self.entries;
        self.index.insert_unique(hash.0, entries.len() - 1, |&at| entries[at].hash.0);
    }

    /// None, in the room of these: the system clears each page of new room, which takes as long as filling it.
    pub(super) fn emptied(mut self) -> Self {
        if self.buffer.len() > ROOM_MAX {
            return Self::default();
        }
        self.buffer.clear();
        self.entries.clear();
        self.index.clear();
        self.counts = Default::default();
        self
    }

    /// Number of keys of a space.
    pub(super) fn count(&self, space: Space) -> usize {
        self.counts[space as usize]
    }

    /// Keys of a space, without it, in the order in which they first came, each with its value.
    pub(super) fn of(&self, space: Space) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        let of_space = move |entry: &&Entry| self.count(space) > 0 && self.buffer[entry.key.start] == space as u8;
        self.entries.iter().filter(of_space).map(|entry| {
            let key = &self.buffer[entry.key.start + 1..entry.key.end];
            (key, entry.value.clone().map(|value| &self.buffer[value]))
        })
    }

    /// Number of keys.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of keys and values; what a longer value took the place of counts too.
    pub(super) fn bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Stored keys in their order, each with its value.
    pub(super) fn sorted(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        let mut spaces: [Vec<(u128, &Entry)>; SPACES.len()] = self.counts.map(Vec::with_capacity);
        for entry in &self.entries {
            let key = &self.buffer[entry.key.clone()];
            spaces[usize::from(key[0])].push((front(&key[1..]), entry));
        }
        for entries in &mut spaces {
            // A stable sort takes runs that are in order already as they are, and rows mostly come in order of their keys.
            entries.sort_by(|(front, a), (other, b)| {
                front.cmp(other).then_with(|| self.buffer[a.key.clone()].cmp(&self.buffer[b.key.clone()]))
            });
        }
        let stored = |(_, entry): (_, &Entry)| {
            (&self.buffer[entry.key.clone()], entry.value.clone().map(|value| &self.buffer[value]))
        };
        spaces.into_iter().flatten().map(stored)
    }

    fn is(&self, at: usize, space: Space, key: &[u8]) -> bool {
        let stored = &self.buffer[self.entries[at].key.clone()];
        stored[0] == space as u8 && stored[1..] == *key
    }
}

fn append(buffer: &mut Vec<u8>, parts: &[&[u8]]) -> Range<usize> {
    let start = buffer.len();
    if (BACKLOG_MIN..BACKLOG_ROOM).contains(&start) && buffer.capacity() < BACKLOG_ROOM {
        buffer.reserve_exact(BACKLOG_ROOM - start);
    }
    parts.iter().for_each(|part| buffer.extend_from_slice(part));
    start..buffer.len()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::seen::Seen;
    use super::*;

    /// Keys that begin others, are empty, are longer than what is compared at once, and differ at either end of that.
    fn key() -> impl Strategy<Value = Vec<u8>> {
        let length = proptest::sample::select(vec![0, 1, 2, 15, 16, 17]);
        (length, proptest::sample::select(vec![0, 1, 14, 15, 16]), proptest::sample::select(vec![0, 1, 0xff])).prop_map(
            |(length, place, byte)| {
                let mut key = vec![0; length];
                key.iter_mut().skip(place).take(1).for_each(|at| *at = byte);
                key
            },
        )
    }

    proptest! {
        /// Few keys, so that they are changed again and again, with values that grow and shrink.
        #[test]
        fn what_was_last_put_is_read_back_and_comes_in_order(
            before in proptest::collection::vec((0..3_usize, key()), 0..9),
            puts in proptest::collection::vec((0..3_usize, key(), proptest::option::of(0..9_usize)), 0..80),
        ) {
            let (seen, mut changes, mut expected) = (Seen::of_empty(), Changes::default(), BTreeMap::new());
            for (space, key) in before {
                changes.set(seen.hash(SPACES[space], &key), SPACES[space], &key, Some(&[9]));
            }
            changes = changes.emptied();
            for (number, (space, key, size)) in (0_u8..).zip(puts) {
                let value = size.map(|size| vec![number; size]);
                changes.set(seen.hash(SPACES[space], &key), SPACES[space], &key, value.as_deref());
                expected.insert((space, key), value);
            }
            for ((space, key), value) in &expected {
                let found = changes.get(seen.hash(SPACES[*space], key), SPACES[*space], key);
                prop_assert_eq!(found, Some(value.as_deref()));
            }
            prop_assert_eq!(changes.get(seen.hash(Space::Meta, &[]), Space::Meta, &[]), None);
            prop_assert_eq!(changes.len(), expected.len());
            prop_assert_eq!(changes.count(SPACES[1]), expected.keys().filter(|(space, _)| *space == 1).count());
            let sorted: Vec<_> = changes.sorted().map(|(key, value)| (key.to_vec(), value.map(<[u8]>::to_vec))).collect();
            let stored = expected.into_iter().map(|((space, key), value)| (SPACES[space].key(&key), value));
            prop_assert_eq!(sorted, stored.collect::<Vec<_>>());
        }
    }
}

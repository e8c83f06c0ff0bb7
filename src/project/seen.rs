//! Keys that were ever put into a store that was begun empty.
//!
//! Folding a backlog asks of every row and part whether the state knows it, and mostly it does not. A sorted store looks through
//! each of its tables before it says so; here one look at a filter does. What the filter does not know was never put; what it
//! knows may have been, and is looked up. A key sets four bits of one word, so that either costs one place in memory: Putze,
//! Sanders, Singler, *Cache-, Hash- and Space-Efficient Bloom Filters*, 2007.

use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::fast::RandomState;
use zerocopy::FromZeros as _;

use super::state::Space;

/// Words of the filter, a power of two: 16 MiB, with which of ten million keys all but a few in a hundred of the others are told
/// apart. Beyond that it helps less and less, and is never wrong.
const WORDS: usize = 2 * 1024 * 1024;

/// Hash of a key with its space, as it is indexed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KeyHash(pub u64);

impl KeyHash {
    /// Its word, and its bits of that.
    fn place(self) -> (usize, u64) {
        let bits = (0..4).fold(0, |bits, at| bits | 1 << (self.0 >> (6 * at) & 63));
        ((self.0 >> 32) as usize % WORDS, bits)
    }
}

/// What is known of the keys of a store.
#[derive(Debug)]
pub(super) struct Seen {
    hasher: RandomState,
    /// Absent where the store held something when it was opened.
    words: Option<Box<[AtomicU64]>>,
}

impl Seen {
    /// Knows of every key that is put from now on, and so of all keys of the store if it is empty.
    pub(super) fn begin(empty: bool) -> Self {
        // Pages of it that no key falls into are never touched.
        let words = || <[AtomicU64]>::new_box_zeroed_with_elems(WORDS).expect("16 MiB of address space");
        Self { hasher: RandomState::default(), words: empty.then(words) }
    }

    /// The hash of a key.
    pub(super) fn hash(&self, space: Space, key: &[u8]) -> KeyHash {
        KeyHash(self.hasher.hash_one((space as u8, key)))
    }

    /// Takes in that a key is about to be put.
    pub(super) fn put(&self, key: KeyHash) {
        let Some(words) = &self.words else { return };
        let (word, bits) = key.place();
        if words[word].load(Ordering::Relaxed) & bits != bits {
            words[word].fetch_or(bits, Ordering::Relaxed);
        }
    }

    /// Whether a key may ever have been put.
    pub(super) fn perhaps(&self, key: KeyHash) -> bool {
        let (word, bits) = key.place();
        self.words.as_ref().is_none_or(|words| words[word].load(Ordering::Relaxed) & bits == bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_is_always_known_and_what_was_not_seldom_is() {
        let (seen, full) = (Seen::begin(true), Seen::begin(false));
        let hash = |number: u32| seen.hash(Space::Heads, &number.to_be_bytes());
        (0..100_000).for_each(|number| seen.put(hash(number)));
        assert!((0..100_000).all(|number| seen.perhaps(hash(number))));
        let known = (100_000..200_000).filter(|number| seen.perhaps(hash(*number))).count();
        assert!(known < 100, "{known} of 100,000 others");
        assert!(!seen.perhaps(seen.hash(Space::Parts, &7_u32.to_be_bytes())), "of another space");
        assert!(full.perhaps(hash(200_000)), "of a store that held something, nothing is known");
    }
}

//! Keys that were ever put into a store that was begun empty.
//!
//! Folding a backlog asks of every row and part whether the state knows it, and mostly it does not. A sorted store looks through
//! each of its tables before it says so; here one look at a filter does. What the filter does not know was never put; what it
//! knows may have been, and is looked up. Rows are left out: they are asked for only where a head tells of them. A key sets four bits of one word, so that either costs one place in memory: Putze,
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
    /// Of a store that holds nothing yet.
    pub(super) fn of_empty() -> Self {
        // Pages of it that no key falls into are never touched.
        let words = <[AtomicU64]>::new_box_zeroed_with_elems(WORDS).expect("16 MiB of address space");
        Self { hasher: RandomState::default(), words: Some(words) }
    }

    /// Of a store that holds something: any key may be of it.
    pub(super) fn of_unknown() -> Self {
        Self { hasher: RandomState::default(), words: None }
    }

    /// The hash of a key.
    pub(super) fn hash(&self, space: Space, key: &[u8]) -> KeyHash {
        KeyHash(self.hasher.hash_one((space as u8, key)))
    }

    /// Takes in that a key is about to be put.
    pub(super) fn put(&self, space: Space, key: KeyHash) {
        let Some(words) = self.words_of(space) else { return };
        let (word, bits) = key.place();
        if words[word].load(Ordering::Relaxed) & bits != bits {
            words[word].fetch_or(bits, Ordering::Relaxed);
        }
    }

    /// Whether a key may ever have been put.
    pub(super) fn perhaps(&self, space: Space, key: KeyHash) -> bool {
        let (word, bits) = key.place();
        self.words_of(space).is_none_or(|words| words[word].load(Ordering::Relaxed) & bits == bits)
    }

    /// The filter, where it knows of a space.
    fn words_of(&self, space: Space) -> Option<&[AtomicU64]> {
        self.words.as_deref().filter(|_| space != Space::Rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_is_always_known_and_what_was_not_seldom_is() {
        let seen = Seen::of_empty();
        let perhaps = |seen: &Seen, space, number: u32| seen.perhaps(space, seen.hash(space, &number.to_be_bytes()));
        (0..100_000_u32).for_each(|number| seen.put(Space::Heads, seen.hash(Space::Heads, &number.to_be_bytes())));
        assert!((0..100_000).all(|number| perhaps(&seen, Space::Heads, number)));
        let known = (100_000..200_000).filter(|number| perhaps(&seen, Space::Heads, *number)).count();
        assert!(known < 100, "{known} of 100,000 others");
        assert!(!perhaps(&seen, Space::Parts, 7), "of another space");
        assert!(
            perhaps(&seen, Space::Rows, 7) && perhaps(&Seen::of_unknown(), Space::Parts, 7),
            "nothing is known of these"
        );
    }
}

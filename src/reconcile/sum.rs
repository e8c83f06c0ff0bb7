//! Counts and sums that carry conservation from stage to stage: what went in came out (I5).
//!
//! A sum of keyed 256-bit digests modulo 2^256, with their count, tells two multisets apart but for odds of about 2^-256
//! for whoever does not know the key; it does not depend on order, and sums of parts add up to the sum of the whole. An
//! exclusive or would let equal changes to two rows cancel, and so would digests without a key (Wagner, *A Generalized
//! Birthday Problem*, 2002).

use serde::{Deserialize, Serialize};

use crate::event::{Digest, to_hex};

/// A multiset of digests, summed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Sum {
    /// How many.
    pub count: u64,
    /// Their sum modulo 2^256, the lowest limb first.
    limbs: [u64; 4],
}

impl Sum {
    /// Length of its encoding.
    pub const BYTES: usize = 40;

    /// Its encoding.
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        for (out, word) in bytes.chunks_exact_mut(8).zip([self.count].iter().chain(&self.limbs)) {
            out.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// Reads its encoding.
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let mut words = [0; 5];
        for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_le_bytes(bytes.try_into().unwrap_or_default());
        }
        let [count, limbs @ ..] = words;
        Self { count, limbs }
    }

    /// Adds one digest.
    pub fn add(&mut self, digest: &[u8; 32]) {
        self.count += 1;
        self.add_limbs(limbs(digest));
    }

    /// Adds all of another.
    pub fn merge(&mut self, other: &Sum) {
        self.count += other.count;
        self.add_limbs(other.limbs);
    }

    /// Takes away all of another.
    pub fn subtract(&mut self, other: &Sum) {
        self.count = self.count.wrapping_sub(other.count);
        let mut borrow = false;
        for (limb, taken) in self.limbs.iter_mut().zip(other.limbs) {
            let (less, first) = limb.overflowing_sub(taken);
            let (less, second) = less.overflowing_sub(u64::from(borrow));
            (*limb, borrow) = (less, first || second);
        }
    }

    /// The sum under a key, with the count: what may be shown to those who do not have the key.
    pub fn root(&self, key: &[u8; 32]) -> String {
        let mut hasher = blake3::Hasher::new_keyed(key);
        hasher.update(b"rehome root v1");
        hasher.update(&self.count.to_le_bytes());
        for limb in self.limbs {
            hasher.update(&limb.to_le_bytes());
        }
        to_hex(hasher.finalize().as_bytes())
    }

    fn add_limbs(&mut self, added: [u64; 4]) {
        let mut carry = false;
        for (limb, added) in self.limbs.iter_mut().zip(added) {
            let (more, first) = limb.overflowing_add(added);
            let (more, second) = more.overflowing_add(u64::from(carry));
            (*limb, carry) = (more, first || second);
        }
    }
}

impl Extend<Digest> for Sum {
    fn extend<T: IntoIterator<Item = Digest>>(&mut self, digests: T) {
        digests.into_iter().for_each(|digest| self.add(&digest.0));
    }
}

fn limbs(digest: &[u8; 32]) -> [u64; 4] {
    let mut limbs = [0; 4];
    for (limb, bytes) in limbs.iter_mut().zip(digest.chunks_exact(8)) {
        *limb = u64::from_le_bytes(bytes.try_into().unwrap_or_default());
    }
    limbs
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sum_of(digests: &[[u8; 32]]) -> Sum {
        let mut sum = Sum::default();
        digests.iter().for_each(|digest| sum.add(digest));
        sum
    }

    #[test]
    fn the_same_change_to_four_rows_does_not_cancel() {
        let before = [[1; 32], [2; 32], [3; 32], [4; 32]];
        let after = before.map(|digest| digest.map(|byte| byte ^ 0x80));
        assert_ne!(sum_of(&before), sum_of(&after));
    }

    #[test]
    fn duplicates_count() {
        let (a, b) = ([5; 32], [9; 32]);
        assert_ne!(sum_of(&[a, a]), sum_of(&[b, b]));
        assert_ne!(sum_of(&[a, a]), sum_of(&[]));
        assert_ne!(sum_of(&[a, a]).root(&[0; 32]), sum_of(&[a]).root(&[0; 32]));
    }

    proptest! {
        #[test]
        fn parts_add_up_to_the_whole_in_any_order(digests in proptest::collection::vec(any::<[u8; 32]>(), 0..40), at in 0_usize..40) {
            let whole = sum_of(&digests);
            let (left, right) = digests.split_at(at.min(digests.len()));
            let mut parts = sum_of(right);
            parts.merge(&sum_of(left));
            prop_assert_eq!(parts, whole);
            parts.subtract(&sum_of(left));
            prop_assert_eq!(parts, sum_of(right));
        }
    }
}

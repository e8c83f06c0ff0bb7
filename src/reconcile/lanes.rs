//! Keyed digests of short messages, many at a time.
//!
//! A row is a few blocks of 64 bytes, and a hash takes them one after the other, each waiting for the one before. The vector units
//! of a processor take one block each of up to 16 messages at once, if these have as many blocks and all are whole. So a message is
//! padded: one byte 0x80, then zeros to the end of a block, which keeps different messages different (ISO/IEC 9797-1, padding
//! method 2). Its digest is `blake3::keyed_hash` of the padded message, whichever way it is reckoned; BLAKE3 hashes up to 1,024
//! bytes as one chunk, without a tree (O'Connor et al., *BLAKE3*, 2020, sections 2.1 and 5.3).

use blake3::IncrementCounter;
use blake3::platform::Platform;

use crate::event::encoding::empty;

/// Bytes of a block.
const BLOCK: usize = 64;
/// Messages that are taken at once, at the most.
const LANES: usize = 16;
/// Bytes of a message that is alone in its batch.
const LARGE: usize = 1024 * 1024;
/// Blocks of a chunk; longer messages are trees.
const BLOCKS_MAX: usize = 16;

/// What tells BLAKE3's compressions apart (section 2.2 of the paper).
mod flag {
    pub const CHUNK_START: u8 = 1;
    pub const CHUNK_END: u8 = 1 << 1;
    pub const ROOT: u8 = 1 << 3;
    pub const KEYED_HASH: u8 = 1 << 4;
}

/// A digest.
pub type Digest = [u8; 32];

/// Digest of one message, which is padded.
pub fn digest(key: &[u8; 32], message: &mut Vec<u8>) -> Digest {
    pad(message, 0);
    *blake3::keyed_hash(key, message).as_bytes()
}

fn pad(bytes: &mut Vec<u8>, from: usize) {
    if bytes.len() - from > LARGE {
        // It fills its memory, which must not be doubled for a few bytes.
        bytes.reserve_exact(BLOCK);
    }
    bytes.push(0x80);
    let whole = (bytes.len() - from).next_multiple_of(BLOCK);
    bytes.resize(from + whole, 0);
}

/// Messages to be digested under one key.
#[derive(Debug, Default)]
pub struct Messages {
    /// All of them, padded.
    bytes: Vec<u8>,
    /// Where each begins and where it ends before it was padded.
    places: Vec<(usize, usize)>,
}

impl Messages {
    /// Forgets them.
    pub fn clear(&mut self) {
        empty(&mut self.bytes);
        self.places.clear();
    }

    /// Bytes of all.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Adds the message that `put` appends.
    pub fn push<T>(&mut self, put: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let from = self.bytes.len();
        let put = put(&mut self.bytes);
        self.places.push((from, self.bytes.len()));
        pad(&mut self.bytes, from);
        put
    }

    /// A message, as it was added.
    pub fn get(&self, index: usize) -> &[u8] {
        let (from, to) = self.places[index];
        &self.bytes[from..to]
    }

    /// A message with what pads it.
    fn padded(&self, index: usize) -> &[u8] {
        let to = self.places.get(index + 1).map_or(self.bytes.len(), |(next, _)| *next);
        &self.bytes[self.places[index].0..to]
    }

    /// The digest of each, in their order, into `digests`.
    pub fn digest(&self, key: &[u8; 32], digests: &mut Vec<Digest>) {
        digests.clear();
        digests.resize(self.places.len(), Digest::default());
        let platform = Platform::detect();
        // Messages that wait for others of as many blocks.
        let mut waiting = [([0; LANES], 0); BLOCKS_MAX];
        for index in 0..self.places.len() {
            let message = self.padded(index);
            let Some((lanes, filled)) = waiting.get_mut(message.len() / BLOCK - 1) else {
                digests[index] = *blake3::keyed_hash(key, message).as_bytes();
                continue;
            };
            lanes[*filled] = index;
            *filled += 1;
            if *filled == LANES {
                RUNS[message.len() / BLOCK - 1](self, platform, key, lanes, digests);
                *filled = 0;
            }
        }
        for ((lanes, filled), run) in waiting.iter().zip(RUNS).filter(|((_, filled), _)| *filled > 0) {
            run(self, platform, key, &lanes[..*filled], digests);
        }
    }

    /// Digests messages of `BYTES` bytes with their padding.
    fn run<const BYTES: usize>(&self, platform: Platform, key: &[u8; 32], lanes: &[usize], digests: &mut [Digest]) {
        let mut inputs = [const { &[0; BYTES] }; LANES];
        for (input, index) in inputs.iter_mut().zip(lanes) {
            *input = self.padded(*index).first_chunk().expect("lanes hold messages of one length");
        }
        let mut words = [0; 8];
        for (word, bytes) in words.iter_mut().zip(key.as_chunks().0) {
            *word = u32::from_le_bytes(*bytes);
        }
        let mut out = [0; LANES * 32];
        platform.hash_many(
            &inputs[..lanes.len()],
            &words,
            0,
            IncrementCounter::No,
            flag::KEYED_HASH,
            flag::CHUNK_START,
            flag::CHUNK_END | flag::ROOT,
            &mut out,
        );
        for (digest, index) in out.as_chunks().0.iter().zip(lanes) {
            digests[*index] = *digest;
        }
    }
}

type Run = fn(&Messages, Platform, &[u8; 32], &[usize], &mut [Digest]);

/// By the number of blocks less one.
const RUNS: [Run; BLOCKS_MAX] = [
    Messages::run::<64>,
    Messages::run::<128>,
    Messages::run::<192>,
    Messages::run::<256>,
    Messages::run::<320>,
    Messages::run::<384>,
    Messages::run::<448>,
    Messages::run::<512>,
    Messages::run::<576>,
    Messages::run::<640>,
    Messages::run::<704>,
    Messages::run::<768>,
    Messages::run::<832>,
    Messages::run::<896>,
    Messages::run::<960>,
    Messages::run::<1024>,
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition.
    fn plainly(key: &[u8; 32], message: &[u8]) -> Digest {
        let zeros = (BLOCK - (message.len() + 1) % BLOCK) % BLOCK;
        *blake3::keyed_hash(key, &[message, &[0x80], &vec![0; zeros]].concat()).as_bytes()
    }

    #[test]
    fn messages_of_every_length_have_their_digests_in_any_company() {
        let key = [7; 32];
        let of_length = |length: usize| -> Vec<u8> { (0..length).map(|at| (at * 31 + length) as u8).collect() };
        for lengths in [(0..2_200).collect::<Vec<_>>(), vec![63; 40], vec![64; 17], vec![1_023; 33], vec![5]] {
            let mut messages = Messages::default();
            lengths.iter().for_each(|length| messages.push(|out| out.extend(of_length(*length))));
            let mut digests = Vec::new();
            messages.digest(&key, &mut digests);
            assert_eq!(digests.len(), lengths.len());
            for ((index, length), found) in lengths.iter().enumerate().zip(&digests) {
                let mut alone = of_length(*length);
                assert_eq!(messages.get(index), alone);
                assert_eq!(*found, plainly(&key, &alone), "{length} bytes");
                assert_eq!(*found, digest(&key, &mut alone), "{length} bytes");
            }
        }
    }

    proptest! {
        #[test]
        fn padding_keeps_messages_apart(one in prop::collection::vec(prop_oneof![Just(0), Just(0x80), any::<u8>()], 0..140), cut in 0_usize..140) {
            let mut other = one.clone();
            other.truncate(cut);
            prop_assume!(one != other);
            let padded = |message: &[u8]| {
                let mut bytes = message.to_vec();
                pad(&mut bytes, 0);
                bytes
            };
            prop_assert_ne!(padded(&one), padded(&other));
        }
    }
}

//! Blocks: many records in one stored value, chained so that a missing or changed one shows.
//!
//! A block is a head of fixed size and a body of records, one after the other. The head names the block's place and holds
//! the body's digest and its predecessor's *link*, the digest of that one's head. Whoever reads on across a block checks
//! both, so damage within a block, a block taken out and a block put in are found where they are.
//!
//! ```text
//! 0 format  1-2 partition  3-6 count  7-14 first offset  15-46 predecessor's link  47-78 digest of the body  79.. body
//! ```
//!
//! Where records were erased the block is *rewritten*: its head keeps the digest of the body that it had, so that its link
//! is as it was and the chain still closes; a digest of what it holds now, head included, stands between head and body.

use crate::event::encoding::{Canonical, Reader};
use crate::log::{Offset, Partition, Record};

/// Version of the form of blocks.
const FORMAT: u8 = 1;
/// Form of a block in which records were erased.
const REWRITTEN: u8 = 2;
/// Length of the digest of a rewritten block.
const REWRITTEN_LEN: usize = 32;

/// Length of a block's head.
pub(super) const HEAD_LEN: usize = 79;

/// A body that has reached this size is closed.
///
/// Large enough that head, key and sync weigh nothing against it, small enough that a reader who wants one record, or a
/// chunk of a megabyte, does not decode much more than that.
pub(super) const BODY_BYTES: usize = 256 * 1024;

/// Ties a block to its predecessor: digest of that one's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Link(pub(super) [u8; 32]);

impl Link {
    /// What the first block of a partition is tied to: the log itself, so that no other log's blocks fit.
    pub(super) fn origin(generation: u64, partition: Partition) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("rehome log origin v1");
        hasher.update(&generation.to_be_bytes());
        hasher.update(&partition.0.to_be_bytes());
        Self(*hasher.finalize().as_bytes())
    }

    fn of(head: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("rehome log block v1");
        hasher.update(head);
        Self(*hasher.finalize().as_bytes())
    }
}

/// A block whose place in the log is not known yet: what a caller prepares, so that the appender only writes.
#[derive(Debug)]
pub(super) struct Draft {
    /// Room for the head, then the body.
    bytes: Vec<u8>,
    count: u32,
    body: [u8; 32],
}

impl Draft {
    /// Begins a block: its bytes, to which records are appended.
    pub(super) fn begin() -> Vec<u8> {
        vec![0; HEAD_LEN]
    }

    /// Ends a block begun with [`Draft::begin`].
    pub(super) fn close(bytes: Vec<u8>, count: u32) -> Self {
        let body = *blake3::hash(&bytes[HEAD_LEN..]).as_bytes();
        Self { bytes, count, body }
    }

    /// Size as stored.
    pub(super) fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Gives the block its place; answers with its bytes, its link and the offset after it.
    pub(super) fn seal(mut self, partition: Partition, first: Offset, previous: Link) -> (Vec<u8>, Link, Offset) {
        let head = &mut self.bytes[..HEAD_LEN];
        head[0] = FORMAT;
        head[1..3].copy_from_slice(&partition.0.to_be_bytes());
        head[3..7].copy_from_slice(&self.count.to_be_bytes());
        head[7..15].copy_from_slice(&first.0.to_be_bytes());
        head[15..47].copy_from_slice(&previous.0);
        head[47..79].copy_from_slice(&self.body);
        let link = Link::of(head);
        (self.bytes, link, Offset(first.0 + u64::from(self.count)))
    }
}

/// A block as read, its body checked against its head.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block<'a> {
    /// Partition that it belongs to.
    pub(super) partition: Partition,
    /// Offset of its first record.
    pub(super) first: Offset,
    /// Offset after its last record.
    pub(super) next: Offset,
    /// Link of its predecessor.
    pub(super) previous: Link,
    /// Its own link.
    pub(super) link: Link,
    count: u32,
    body: &'a [u8],
}

impl<'a> Block<'a> {
    /// Reads a block's head and checks the body's digest; says what is wrong otherwise.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, &'static str> {
        let (head, rest) = bytes.split_first_chunk::<HEAD_LEN>().ok_or("a block is shorter than its head")?;
        let mut linked = *head;
        linked[0] = FORMAT;
        let (body, matches) = match head[0] {
            FORMAT => (rest, blake3::hash(rest).as_bytes()[..] == head[47..79]),
            REWRITTEN => {
                let (digest, body) =
                    rest.split_first_chunk::<REWRITTEN_LEN>().ok_or("a block is shorter than its head")?;
                (body, rewritten(head, body) == *digest)
            }
            _ => return Err("a block has an unknown format"),
        };
        if !matches {
            return Err("a block's digest does not match");
        }
        let mut previous = [0; 32];
        previous.copy_from_slice(&head[15..47]);
        let count = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
        let mut first = [0; 8];
        first.copy_from_slice(&head[7..15]);
        let first = u64::from_be_bytes(first);
        let next = first.checked_add(u64::from(count)).ok_or("a block's place does not exist")?;
        Ok(Self {
            partition: Partition(u16::from_be_bytes([head[1], head[2]])),
            first: Offset(first),
            next: Offset(next),
            previous: Link(previous),
            link: Link::of(&linked),
            count,
            body,
        })
    }

    /// Decodes the records and appends those from `from` on.
    pub(super) fn records(&self, from: Offset, out: &mut Vec<(Offset, Record)>) -> Result<(), &'static str> {
        let mut reader = Reader::new(self.body);
        for offset in (self.first.0..).take(self.count as usize) {
            let record = Record::take(&mut reader).map_err(|_| "a record does not decode")?;
            if offset >= from.0 {
                out.push((Offset(offset), record));
            }
        }
        reader.finish().map_err(|_| "a block holds more than its records")
    }
}

/// A block with other records in place of those that it had, as many of them; its place in the chain stays.
pub(super) fn rewrite(block: &[u8], records: &[(Offset, Record)]) -> Vec<u8> {
    let mut body = Vec::with_capacity(block.len());
    records.iter().for_each(|(_, record)| record.put(&mut body));
    let mut head = block[..HEAD_LEN].to_vec();
    head[0] = REWRITTEN;
    let digest = rewritten(&head, &body);
    [&head[..], &digest, &body].concat()
}

/// Digest of a rewritten block.
fn rewritten(head: &[u8], body: &[u8]) -> [u8; REWRITTEN_LEN] {
    let mut hasher = blake3::Hasher::new_derive_key("rehome log rewritten block v1");
    hasher.update(head);
    hasher.update(body);
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Notice;

    fn notice(unit: &str) -> Record {
        Record::Notice(Notice { unit: unit.into(), reason: "retry".into() })
    }

    /// Stored logs hold these bytes.
    #[test]
    fn format_1_stays_as_it_was_stored() {
        let mut bytes = Draft::begin();
        notice("a").put(&mut bytes);
        let (bytes, ..) = Draft::close(bytes, 1).seal(Partition(2), Offset(9), Link::origin(7, Partition(2)));
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let head = "010002000000010000000000000009";
        let previous = "61ad5968dc8b907ee485ef0bed0c13312a128b6d22d050e3c1efce37cacbfa70";
        let digest = "7a88bed7cf4345dc631bf3f009a375eddd004afb8ca42142f5a072686ec7b221";
        let body = "010161057265747279";
        assert_eq!(hex, [head, previous, digest, body].concat());
    }

    #[test]
    fn every_damaged_bit_is_found() {
        let mut bytes = Draft::begin();
        notice("a").put(&mut bytes);
        notice("b").put(&mut bytes);
        let origin = Link::origin(7, Partition(3));
        let (bytes, link, next) = Draft::close(bytes, 2).seal(Partition(3), Offset(40), origin);
        assert_eq!(next, Offset(42));
        let block = Block::read(&bytes).expect("a whole block");
        assert_eq!((block.partition, block.first, block.next), (Partition(3), Offset(40), next));
        assert_eq!((block.previous, block.link), (origin, link));
        let mut records = Vec::new();
        block.records(Offset(41), &mut records).expect("whole records");
        assert_eq!(records, [(Offset(41), notice("b"))]);
        assert_no_bit_counts_for_nothing(&bytes, link);
    }

    fn assert_no_bit_counts_for_nothing(bytes: &[u8], link: Link) {
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            // A changed head that still reads has another link, so the next block does not fit to it.
            assert!(Block::read(&damaged).is_err() || Block::read(&damaged).is_ok_and(|block| block.link != link));
        }
    }

    #[test]
    fn a_rewritten_block_keeps_its_place_and_its_link_and_its_damage_is_found() {
        let mut bytes = Draft::begin();
        notice("a secret").put(&mut bytes);
        notice("b").put(&mut bytes);
        let (bytes, link, _) = Draft::close(bytes, 2).seal(Partition(3), Offset(40), Link::origin(7, Partition(3)));
        let relation = crate::event::strategies::small_relation("t").name.clone();
        let erased = Record::Erased(crate::log::Erased { relation, key: [7; 16] });
        let records = [(Offset(40), erased), (Offset(41), notice("b"))];
        let rewritten = rewrite(&bytes, &records);
        let block = Block::read(&rewritten).expect("a whole block");
        assert_eq!((block.first, block.next, block.link), (Offset(40), Offset(42), link));
        let mut found = Vec::new();
        block.records(Offset(0), &mut found).expect("whole records");
        assert_eq!(found, records);
        assert!(!rewritten.windows(6).any(|bytes| bytes == b"secret"));
        assert_no_bit_counts_for_nothing(&rewritten, link);
        // Again, as when another row of the block is erased later.
        let records = [records[0].clone(), records[0].clone()];
        assert_eq!(Block::read(&rewrite(&rewritten, &records)).expect("a whole block").link, link);
    }
}

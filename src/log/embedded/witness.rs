//! The witness: what was acknowledged, written beside the store after each sync.
//!
//! The store under the log cuts its journal at the first bytes that it cannot read, and says nothing: right for a write
//! that was torn before it was acknowledged, a silent loss for anything older. The witness tells the two apart. It is
//! written after the journal is durable and before the append returns, so it never says more than was acknowledged, and
//! after the death of the process it says no less; the death of the machine may leave it older, which weakens the
//! check and raises no false alarm. It takes one small write in place per sync and no sync of its own.
//!
//! Two slots are written in turn, each with a digest, so that a torn write leaves the other.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::block::Link;
use crate::log::Offset;

/// Slots begin at multiples of this, the unit in which disks write: tearing one leaves the other.
const SLOT_ALIGNMENT: usize = 4_096;

/// What a log held when it last acknowledged a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Testimony {
    /// Number of batches written, ever.
    pub(super) batches: u64,
    /// End and last link of each partition.
    pub(super) tails: Vec<(Offset, Link)>,
}

/// The open witness file.
#[derive(Debug)]
pub(super) struct Witness {
    file: File,
    /// Length of a slot.
    stride: usize,
    /// Slot to write next.
    turn: u8,
    buffer: Vec<u8>,
}

impl Witness {
    /// Writes a new witness, durably, into both slots.
    pub(super) fn create(path: &Path, testimony: &Testimony) -> std::io::Result<()> {
        let file = File::create_new(path)?;
        let stride = stride(testimony.tails.len());
        let mut witness = Self { file, stride, turn: 0, buffer: Vec::new() };
        witness.record(testimony)?;
        witness.record(testimony)?;
        witness.file.sync_all()
    }

    /// Opens a witness and reads the newer of its slots; `None` when neither reads.
    pub(super) fn open(path: &Path, partitions: u16) -> std::io::Result<(Self, Option<Testimony>)> {
        let mut file = File::options().read(true).write(true).open(path)?;
        let stride = stride(usize::from(partitions));
        let mut slots = [None, None];
        for (index, found) in slots.iter_mut().enumerate() {
            let mut slot = Vec::new();
            file.seek(SeekFrom::Start((index * stride) as u64))?;
            Read::by_ref(&mut file).take(length(usize::from(partitions)) as u64).read_to_end(&mut slot)?;
            *found = decode(&slot, usize::from(partitions));
        }
        let (newest, turn) = match slots {
            [Some(a), Some(b)] if b.batches > a.batches => (Some(b), 0),
            [Some(a), _] => (Some(a), 1),
            [None, b] => (b, 0),
        };
        Ok((Self { file, stride, turn, buffer: Vec::new() }, newest))
    }

    /// Writes the newest testimony over the older of the two.
    pub(super) fn record(&mut self, testimony: &Testimony) -> std::io::Result<()> {
        self.buffer.clear();
        self.buffer.extend_from_slice(&testimony.batches.to_be_bytes());
        for (end, link) in &testimony.tails {
            self.buffer.extend_from_slice(&end.0.to_be_bytes());
            self.buffer.extend_from_slice(&link.0);
        }
        let digest = *blake3::hash(&self.buffer).as_bytes();
        self.buffer.extend_from_slice(&digest);
        self.buffer.resize(self.stride, 0);
        self.file.seek(SeekFrom::Start(u64::from(self.turn) * self.stride as u64))?;
        self.file.write_all(&self.buffer)?;
        self.turn ^= 1;
        Ok(())
    }

    /// Makes the last testimony durable.
    pub(super) fn sync(&self) -> std::io::Result<()> {
        self.file.sync_data()
    }
}

fn length(partitions: usize) -> usize {
    8 + partitions * 40 + 32
}

fn stride(partitions: usize) -> usize {
    length(partitions).next_multiple_of(SLOT_ALIGNMENT)
}

fn decode(slot: &[u8], partitions: usize) -> Option<Testimony> {
    if slot.len() != length(partitions) {
        return None;
    }
    let (content, digest) = slot.split_last_chunk::<32>()?;
    if blake3::hash(content).as_bytes() != digest {
        return None;
    }
    let (batches, tails) = content.split_first_chunk::<8>()?;
    let tails = tails
        .chunks_exact(40)
        .map(|tail| {
            let (end, link) = tail.split_first_chunk::<8>()?;
            Some((Offset(u64::from_be_bytes(*end)), Link(link.try_into().ok()?)))
        })
        .collect::<Option<_>>()?;
    Some(Testimony { batches: u64::from_be_bytes(*batches), tails })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn testimony(batches: u64) -> Testimony {
        Testimony { batches, tails: vec![(Offset(batches * 10), Link([7; 32])), (Offset(1), Link([9; 32]))] }
    }

    #[test]
    fn a_torn_slot_leaves_the_one_before() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("witness");
        Witness::create(&path, &testimony(0)).expect("a new witness");
        let (mut witness, found) = Witness::open(&path, 2).expect("it opens");
        assert_eq!(found, Some(testimony(0)));
        for batches in 1..=5 {
            witness.record(&testimony(batches)).expect("it writes");
        }
        assert_eq!(Witness::open(&path, 2).expect("it opens").1, Some(testimony(5)));

        let written = std::fs::read(&path).expect("the file");
        let newest = (0..2).find(|slot| written[slot * SLOT_ALIGNMENT + 7] == 5).expect("a slot of the fifth");
        let mut torn = written.clone();
        torn[newest * SLOT_ALIGNMENT + 20] ^= 1;
        std::fs::write(&path, &torn).expect("it writes");
        let (mut witness, found) = Witness::open(&path, 2).expect("it opens");
        assert_eq!(found, Some(testimony(4)));
        // The torn slot is the one written next.
        witness.record(&testimony(6)).expect("it writes");
        assert_eq!(Witness::open(&path, 2).expect("it opens").1, Some(testimony(6)));

        std::fs::write(&path, vec![0; written.len()]).expect("it writes");
        assert_eq!(Witness::open(&path, 2).expect("it opens").1, None);
    }
}

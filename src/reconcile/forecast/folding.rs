//! How often each key is wanted, and what each partition takes, in fixed memory: counts of one key are folded in memory as far
//! as it goes, and meet in the spill, by hash. A key that every row wants comes to a few records.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::event::encoding::put_bytes;
use crate::event::{DecodeError, Reader};
use crate::reconcile::Error;
use crate::reconcile::emit::hash_of;
use crate::reconcile::record::{self, KeyDigest, fixed};
use crate::reconcile::spill::{Spill, Writer};

/// Keys that a worker folds before it hands them over: some megabytes.
const KEYS_MAX: usize = 32 * 1024;

/// What is known of a key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Folded {
    /// How often it came.
    pub count: u64,
    /// What it weighs in all.
    pub weight: u64,
    /// The key, encoded, to be shown.
    pub key: Box<[u8]>,
}

impl Folded {
    fn fold(&mut self, other: Folded) {
        self.count += other.count;
        self.weight += other.weight;
        // The same whichever came first.
        if self.key.is_empty() || (!other.key.is_empty() && other.key < self.key) {
            self.key = other.key;
        }
    }
}

/// Which keys are told apart: those of one table, or of one set of columns.
pub type Space = u16;

/// One worker's way in.
#[derive(Debug)]
pub struct Folding {
    writer: Writer,
    keys: HashMap<(Space, KeyDigest), Folded>,
}

impl Folding {
    /// Into a spill that no other kind of record goes to.
    pub fn new(spill: &Arc<Spill>) -> Self {
        Self { writer: spill.writer(), keys: HashMap::new() }
    }

    /// Adds a key.
    ///
    /// # Errors
    /// [`Error::Spill`] when the disk does not take it.
    pub fn add(&mut self, space: Space, key: Vec<u8>, weight: u64) -> Result<(), Error> {
        let mut digest = KeyDigest::default();
        let mut hasher = blake3::Hasher::new();
        hasher.update(&space.to_be_bytes()).update(&key);
        digest.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        self.keys.entry((space, digest)).or_default().fold(Folded { count: 1, weight, key: key.into() });
        if self.keys.len() >= KEYS_MAX { self.hand_over() } else { Ok(()) }
    }

    /// Hands everything over.
    ///
    /// # Errors
    /// [`Error::Spill`] when the disk does not take it.
    pub fn finish(&mut self) -> Result<(), Error> {
        self.hand_over()?;
        self.writer.finish()
    }

    fn hand_over(&mut self) -> Result<(), Error> {
        for ((space, digest), folded) in self.keys.drain() {
            let put = |out: &mut Vec<u8>| {
                out.extend_from_slice(&space.to_le_bytes());
                out.extend_from_slice(&digest);
                out.extend_from_slice(&folded.count.to_le_bytes());
                out.extend_from_slice(&folded.weight.to_le_bytes());
                put_bytes(&folded.key, out);
            };
            self.writer.add(hash_of(&digest), &[0; 32], put)?;
        }
        Ok(())
    }
}

type Record<'a> = (Space, KeyDigest, Folded);

fn take<'a>(reader: &mut Reader<'a>) -> Result<Record<'a>, DecodeError> {
    let space = u16::from_le_bytes(fixed(reader)?);
    let digest = fixed(reader)?;
    let (count, weight) = (u64::from_le_bytes(fixed(reader)?), u64::from_le_bytes(fixed(reader)?));
    Ok((space, digest, Folded { count, weight, key: reader.bytes()?.into() }))
}

/// The keys of a partition, each once.
///
/// # Errors
/// [`Error::Spill`] and [`Error::SpillBroken`] when the disk does not hold what was written.
pub fn keys(spill: &Spill, partition: usize) -> Result<impl Iterator<Item = (Space, Folded)> + use<>, Error> {
    let bytes = spill.take(partition)?;
    let mut keys: BTreeMap<(Space, KeyDigest), Folded> = BTreeMap::new();
    for (space, digest, folded) in record::all(&bytes, take)? {
        keys.entry((space, digest)).or_default().fold(folded);
    }
    Ok(keys.into_iter().map(|((space, _), folded)| (space, folded)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_several_workers_say_of_a_key_meets() {
        let folder = tempfile::tempdir().expect("a folder");
        let spill = Spill::new(folder.path(), "keys", 4, Default::default());
        let mut workers = [Folding::new(&spill), Folding::new(&spill)];
        for (at, worker) in workers.iter_mut().enumerate() {
            // More keys than are folded in memory, one of them again and again, and one key in two spaces.
            for number in 0..50_000_u64 {
                worker.add(0, number.to_be_bytes().to_vec(), 1).expect("a disk");
                worker.add(0, b"hot".to_vec(), 3).expect("a disk");
            }
            worker.add(1, b"hot".to_vec(), u64::try_from(at).expect("small")).expect("a disk");
            worker.finish().expect("a disk");
        }
        let mut found: Vec<(Space, Folded)> = Vec::new();
        for partition in 0..4 {
            found.extend(keys(&spill, partition).expect("whole"));
        }
        assert_eq!(found.len(), 50_002);
        let hot: Vec<_> = found
            .iter()
            .filter(|(_, folded)| &*folded.key == b"hot")
            .map(|(space, folded)| (*space, folded.count, folded.weight))
            .collect();
        assert_eq!(hot.iter().find(|(space, ..)| *space == 0), Some(&(0, 100_000, 300_000)));
        assert_eq!(hot.iter().find(|(space, ..)| *space == 1), Some(&(1, 2, 1)));
        assert!(found.iter().filter(|(_, folded)| &*folded.key != b"hot").all(|(_, folded)| folded.count == 2));
    }
}

//! Records on the disk, by the hash of their key: a join needs one partition of them in memory at a time.
//!
//! A partition is a file of blocks, each with its length and the first 16 bytes of its blake3 digest, so that a byte lost or
//! changed on the way to the join is an error and not a finding. What was written and what is read back are counted and
//! summed up apart ([`Sum`]), and must agree.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::Error;
use super::sum::Sum;

/// A worker hands a partition's records over when it has so many bytes of them.
const BLOCK_BYTES: usize = 32 * 1024;
/// Length of a block's header.
const HEADER: usize = 20;

/// Partitions of one kind of record.
#[derive(Debug)]
pub struct Spill {
    folder: PathBuf,
    name: &'static str,
    partitions: Vec<Mutex<Partition>>,
}

#[derive(Debug, Default)]
struct Partition {
    file: Option<File>,
    sum: Sum,
    bytes: u64,
}

/// One worker's way into a spill.
#[derive(Debug)]
pub struct Writer {
    spill: Arc<Spill>,
    blocks: Vec<(Vec<u8>, Sum)>,
}

impl Spill {
    /// A spill of `partitions` files named `name-N` in a folder, which must exist.
    pub fn new(folder: &Path, name: &'static str, partitions: usize) -> Arc<Self> {
        let partitions = (0..partitions).map(|_| Mutex::default()).collect();
        Arc::new(Self { folder: folder.to_owned(), name, partitions })
    }

    /// A writer with blocks of its own.
    pub fn writer(self: &Arc<Self>) -> Writer {
        Writer {
            spill: Arc::clone(self),
            blocks: self.partitions.iter().map(|_| (Vec::new(), Sum::default())).collect(),
        }
    }

    /// Number of partitions.
    pub fn partitions(&self) -> usize {
        self.partitions.len()
    }

    /// What was written to a partition.
    pub fn written(&self, partition: usize) -> Sum {
        self.lock(partition).sum
    }

    /// Bytes written to all of them.
    pub fn bytes(&self) -> u64 {
        (0..self.partitions.len()).map(|partition| self.lock(partition).bytes).sum()
    }

    /// The records of a partition, one behind the other, every block checked; the file is removed.
    ///
    /// # Errors
    /// [`Error::Spill`] when it cannot be read, [`Error::SpillBroken`] when it is not what was written.
    pub fn take(&self, partition: usize) -> Result<Vec<u8>, Error> {
        let mut place = self.lock(partition);
        if place.file.take().is_none() {
            return Ok(Vec::new());
        }
        let path = self.path(partition);
        let failed = |source| Error::Spill { action: "read", path: path.clone(), source };
        let mut bytes = Vec::new();
        File::open(&path).and_then(|mut file| file.read_to_end(&mut bytes)).map_err(failed)?;
        let records = unframe(bytes).ok_or_else(|| Error::SpillBroken { path: path.clone() })?;
        std::fs::remove_file(&path).map_err(failed)?;
        Ok(records)
    }

    fn append(&self, partition: usize, block: &[u8], sum: &Sum) -> Result<(), Error> {
        let mut place = self.lock(partition);
        let failed = |source| Error::Spill { action: "write", path: self.path(partition), source };
        if place.file.is_none() {
            let file = OpenOptions::new().create(true).truncate(true).write(true).open(self.path(partition));
            place.file = Some(file.map_err(failed)?);
        }
        let length = u32::try_from(block.len()).unwrap_or(u32::MAX);
        let digest = blake3::hash(block);
        let mut framed = Vec::with_capacity(HEADER + block.len());
        framed.extend_from_slice(&length.to_le_bytes());
        framed.extend_from_slice(&digest.as_bytes()[..16]);
        framed.extend_from_slice(block);
        place.file.as_mut().map_or(Ok(()), |file| file.write_all(&framed)).map_err(failed)?;
        place.sum.merge(sum);
        place.bytes += framed.len() as u64;
        Ok(())
    }

    fn path(&self, partition: usize) -> PathBuf {
        self.folder.join(format!("{}-{partition}", self.name))
    }

    fn lock(&self, partition: usize) -> std::sync::MutexGuard<'_, Partition> {
        self.partitions[partition].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer {
    /// Adds a record to the partition of a hash, with the digest that it is summed up by; `put` appends its bytes.
    ///
    /// # Errors
    /// [`Error::Spill`] when the disk does not take it.
    pub fn add(&mut self, hash: u64, digest: &[u8; 32], put: impl FnOnce(&mut Vec<u8>)) -> Result<(), Error> {
        let count = self.blocks.len() as u64;
        let partition = usize::try_from(hash % count).unwrap_or(0);
        let (block, sum) = &mut self.blocks[partition];
        put(block);
        sum.add(digest);
        if block.len() >= BLOCK_BYTES {
            self.spill.append(partition, block, sum)?;
            block.clear();
            *sum = Sum::default();
        }
        Ok(())
    }

    /// Hands everything over.
    ///
    /// # Errors
    /// [`Error::Spill`] when the disk does not take it.
    pub fn finish(&mut self) -> Result<(), Error> {
        for (partition, (block, sum)) in self.blocks.iter_mut().enumerate() {
            if sum.count > 0 {
                self.spill.append(partition, block, sum)?;
                (*block, *sum) = (Vec::new(), Sum::default());
            }
        }
        Ok(())
    }
}

/// The contents of whole blocks; `None` when one is not as it was written.
fn unframe(mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    let (mut from, mut to) = (0, 0);
    while from < bytes.len() {
        let header = bytes.get(from..from + HEADER)?;
        let length = u32::from_le_bytes(*header.first_chunk()?) as usize;
        let expected: [u8; 16] = header[4..].try_into().ok()?;
        let block = bytes.get(from + HEADER..from + HEADER + length)?;
        if blake3::hash(block).as_bytes()[..16] != expected {
            return None;
        }
        bytes.copy_within(from + HEADER..from + HEADER + length, to);
        (from, to) = (from + HEADER + length, to + length);
    }
    bytes.truncate(to);
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(folder: &Path) -> Arc<Spill> {
        let spill = Spill::new(folder, "rows", 4);
        let mut writer = spill.writer();
        for number in 0..20_000_u64 {
            let digest = *blake3::hash(&number.to_le_bytes()).as_bytes();
            writer.add(number, &digest, |out| out.extend_from_slice(&number.to_le_bytes())).expect("a disk");
        }
        writer.finish().expect("a disk");
        spill
    }

    #[test]
    fn what_went_in_comes_out_by_partition() {
        let folder = tempfile::tempdir().expect("a folder");
        let spill = filled(folder.path());
        let mut all = Sum::default();
        for partition in 0..4 {
            let mut read = Sum::default();
            for bytes in spill.take(partition).expect("whole").chunks_exact(8) {
                assert_eq!(u64::from_le_bytes(bytes.try_into().expect("eight")) % 4, partition as u64);
                read.add(blake3::hash(bytes).as_bytes());
            }
            assert_eq!(read, spill.written(partition));
            all.merge(&read);
        }
        assert_eq!(all.count, 20_000);
        assert_eq!(std::fs::read_dir(folder.path()).expect("there").count(), 0, "files go as they are read");
    }

    #[test]
    fn a_byte_changed_on_the_disk_is_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let spill = filled(folder.path());
        let path = folder.path().join("rows-2");
        let mut bytes = std::fs::read(&path).expect("a file");
        bytes[1_000] ^= 1;
        std::fs::write(&path, &bytes).expect("writable");
        assert!(matches!(spill.take(2), Err(Error::SpillBroken { .. })));
        std::fs::write(folder.path().join("rows-1"), &bytes[..40]).expect("writable");
        assert!(matches!(spill.take(1), Err(Error::SpillBroken { .. })), "a file cut short");
    }
}

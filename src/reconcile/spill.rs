//! Records on the disk, by the hash of their key: a join needs one partition of them in memory at a time.
//!
//! A partition is a file of blocks, each with its length, the first 16 bytes of its blake3 digest, and what its records add
//! up to, so that a byte lost or changed on the way to the join is an error and not a finding. What was written and what is
//! read back are counted and summed up apart ([`Sum`]), and must agree.
//!
//! A block also names whose it is ([`Tag`]): of one range, or of what follows the reading. Of a comparison that was killed, the
//! blocks of ranges that were read to their end are still good ([`Spill::adopt`]); all others count for nothing.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::Error;
use super::sum::Sum;

/// A worker hands a partition's records over when it has so many bytes of them, where partitions are few.
const BLOCK_BYTES: usize = 32 * 1024;
/// As [`BLOCK_BYTES`], however many they are.
const BLOCK_BYTES_MIN: usize = 4 * 1024;
/// A worker's blocks take no more memory than this, unless the smallest do.
const BLOCKS_BYTES: usize = 8 * 1024 * 1024;
/// Bytes that are read of a file at once.
const READ_BYTES: usize = 256 * 1024;
/// Files that are kept open between two blocks, at the most: where there are more, each is opened for every block.
const FILES_MAX: usize = 128;
/// Length of a block's header: length, digest, tag, sum.
const HEADER: usize = 4 + 16 + 8 + Sum::BYTES;

/// Says whose a block is: grows with every range that is read, in one attempt of a comparison and from one to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Tag(pub u64);

/// Partitions of one kind of record.
#[derive(Debug)]
pub struct Spill {
    folder: PathBuf,
    name: &'static str,
    /// The first tag of this attempt.
    first: Tag,
    /// Tags of earlier attempts whose blocks count.
    adopted: Mutex<BTreeMap<Tag, Sum>>,
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
    tag: Tag,
    block_bytes: usize,
    /// What was handed over under the tag.
    handed: Sum,
    blocks: Vec<(Vec<u8>, Sum)>,
}

impl Spill {
    /// A spill of `partitions` files named `name-N` in a folder, which must exist; blocks of earlier attempts do not count.
    pub fn new(folder: &Path, name: &'static str, partitions: usize, first: Tag) -> Arc<Self> {
        let partitions = (0..partitions).map(|_| Mutex::default()).collect();
        Arc::new(Self { folder: folder.to_owned(), name, first, adopted: Mutex::default(), partitions })
    }

    /// Takes over the blocks of some tags of earlier attempts, which must come to what is told; before anything is read.
    ///
    /// # Errors
    /// [`Error::Spill`] when a file cannot be read, [`Error::SpillBroken`] when blocks of a tag are not all there.
    pub fn adopt(&self, wanted: BTreeMap<Tag, Sum>) -> Result<(), Error> {
        let mut found: BTreeMap<Tag, Sum> = wanted.keys().map(|tag| (*tag, Sum::default())).collect();
        for partition in 0..self.partitions.len() {
            let path = self.path(partition);
            let failed = |source| Error::Spill { action: "read", path: path.clone(), source };
            let mut place = self.lock(partition);
            let opened = OpenOptions::new().read(true).write(true).open(&path);
            let mut file = match opened {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                other => other.map_err(failed)?,
            };
            let length = file.metadata().map_err(failed)?.len();
            let mut at = 0;
            let mut header = [0; HEADER];
            // What is cut short at the end was not handed over whole, and goes.
            while at + HEADER as u64 <= length {
                file.read_exact(&mut header).map_err(failed)?;
                let Some(Header { length: body, tag, sum, .. }) = Header::read(&header) else { break };
                let next = at + (HEADER + body) as u64;
                if next > length {
                    break;
                }
                if let Some(all) = found.get_mut(&tag) {
                    all.merge(&sum);
                    place.sum.merge(&sum);
                    place.bytes += (HEADER + body) as u64;
                }
                at = file.seek(SeekFrom::Start(next)).map_err(failed)?;
            }
            file.set_len(at).and_then(|()| file.seek(SeekFrom::Start(at))).map_err(failed)?;
            place.file = Some(file).filter(|_| self.keeps_open());
        }
        if found != wanted {
            return Err(Error::SpillBroken { path: self.folder.join(self.name) });
        }
        *self.adopted.lock().unwrap_or_else(PoisonError::into_inner) = wanted;
        Ok(())
    }

    /// A writer with blocks of its own.
    pub fn writer(self: &Arc<Self>) -> Writer {
        Writer {
            spill: Arc::clone(self),
            tag: self.first,
            block_bytes: self.block_bytes(),
            handed: Sum::default(),
            blocks: self.partitions.iter().map(|_| (Vec::new(), Sum::default())).collect(),
        }
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Number of partitions.
    pub fn partitions(&self) -> usize {
        self.partitions.len()
    }

    /// Whether files stay open between two blocks.
    fn keeps_open(&self) -> bool {
        self.partitions.len() <= FILES_MAX
    }

    /// Bytes of a partition's records that a worker hands over at once.
    fn block_bytes(&self) -> usize {
        (BLOCKS_BYTES / self.partitions.len().max(1)).clamp(BLOCK_BYTES_MIN, BLOCK_BYTES)
    }

    /// What was written to a partition.
    pub fn written(&self, partition: usize) -> Sum {
        self.lock(partition).sum
    }

    /// Bytes written to all of them.
    pub fn bytes(&self) -> u64 {
        (0..self.partitions.len()).map(|partition| self.lock(partition).bytes).sum()
    }

    /// The records of a partition that count, one behind the other, every block checked. The file stays: should the comparison
    /// be killed, what was read before is in it.
    ///
    /// # Errors
    /// [`Error::Spill`] when it cannot be read, [`Error::SpillBroken`] when it is not what was written.
    pub fn read(&self, partition: usize) -> Result<Vec<u8>, Error> {
        let mut records = Vec::new();
        self.read_into(partition, &mut records)?;
        Ok(records)
    }

    /// As [`Self::read`], in the memory of other bytes.
    ///
    /// # Errors
    /// As there.
    pub fn read_into(&self, partition: usize, records: &mut Vec<u8>) -> Result<(), Error> {
        records.clear();
        let mut place = self.lock(partition);
        // It is not written to any more, and open files are few.
        place.file = None;
        let bytes = usize::try_from(place.bytes).unwrap_or(0);
        if bytes == 0 {
            return Ok(());
        }
        records.reserve(bytes);
        drop(place);
        let path = self.path(partition);
        let failed = |source| Error::Spill { action: "read", path: path.clone(), source };
        let adopted = self.adopted.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let counts = |tag: Tag| tag >= self.first || adopted.contains_key(&tag);
        let file = File::open(&path).map_err(failed)?;
        let whole = unframe(BufReader::with_capacity(READ_BYTES, file), records, counts).map_err(failed)?;
        if whole { Ok(()) } else { Err(Error::SpillBroken { path: path.clone() }) }
    }

    /// As [`Self::read`], of records that no other attempt wants: the file goes.
    ///
    /// # Errors
    /// As [`Self::read`]; [`Error::Spill`] when the file cannot be removed.
    pub fn take(&self, partition: usize) -> Result<Vec<u8>, Error> {
        let records = self.read(partition)?;
        let path = self.path(partition);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::Spill { action: "remove", path, source: error })
            }
            _ => Ok(records),
        }
    }

    /// Writes a block, whose first bytes are room for its header.
    fn append(&self, partition: usize, tag: Tag, block: &mut [u8], sum: &Sum) -> Result<(), Error> {
        let mut place = self.lock(partition);
        let failed = |source| Error::Spill { action: "write", path: self.path(partition), source };
        if place.file.is_none() {
            let mut how = OpenOptions::new();
            let how = if place.bytes == 0 { how.write(true).create(true).truncate(true) } else { how.append(true) };
            place.file = Some(how.open(self.path(partition)).map_err(failed)?);
        }
        let (header, records) = block.split_at_mut(HEADER);
        header.copy_from_slice(&Header { length: records.len(), digest: digest(records), tag, sum: *sum }.bytes());
        place.file.as_mut().map_or(Ok(()), |file| file.write_all(block)).map_err(failed)?;
        place.sum.merge(sum);
        place.bytes += block.len() as u64;
        if !self.keeps_open() {
            place.file = None;
        }
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
        if block.is_empty() {
            block.resize(HEADER, 0);
        }
        put(block);
        sum.add(digest);
        if block.len() >= HEADER + self.block_bytes {
            self.spill.append(partition, self.tag, block, sum)?;
            self.handed.merge(sum);
            block.clear();
            *sum = Sum::default();
        }
        Ok(())
    }

    /// From here on, records are of another tag.
    ///
    /// # Errors
    /// [`Error::Spill`] when the disk does not take what is handed over of the one before.
    pub fn begin(&mut self, tag: Tag) -> Result<(), Error> {
        self.finish()?;
        (self.tag, self.handed) = (tag, Sum::default());
        Ok(())
    }

    /// Name of the spill.
    pub fn name(&self) -> &'static str {
        self.spill.name
    }

    /// What was handed over under the tag.
    pub fn handed(&self) -> Sum {
        self.handed
    }

    /// Hands everything over.
    ///
    /// # Errors
    /// [`Error::Spill`] when the disk does not take it.
    pub fn finish(&mut self) -> Result<(), Error> {
        for (partition, (block, sum)) in self.blocks.iter_mut().enumerate() {
            if sum.count > 0 {
                self.spill.append(partition, self.tag, block, sum)?;
                self.handed.merge(sum);
                // The next range fills it again.
                block.clear();
                *sum = Sum::default();
            }
        }
        Ok(())
    }
}

/// What stands in front of a block.
struct Header {
    length: usize,
    digest: [u8; 16],
    tag: Tag,
    sum: Sum,
}

impl Header {
    fn bytes(&self) -> [u8; HEADER] {
        let length = u32::try_from(self.length).unwrap_or(u32::MAX).to_le_bytes();
        let (mut bytes, mut at) = ([0; HEADER], 0);
        for part in [&length[..], &self.digest, &self.tag.0.to_le_bytes(), &self.sum.to_bytes()] {
            bytes[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        bytes
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (length, rest) = bytes.split_first_chunk()?;
        let (digest, rest) = rest.split_first_chunk()?;
        let (tag, rest) = rest.split_first_chunk()?;
        let length = u32::from_le_bytes(*length) as usize;
        Some(Self {
            length,
            digest: *digest,
            tag: Tag(u64::from_le_bytes(*tag)),
            sum: Sum::from_bytes(rest.first_chunk()?),
        })
    }
}

fn digest(block: &[u8]) -> [u8; 16] {
    let mut digest = [0; 16];
    digest.copy_from_slice(&blake3::hash(block).as_bytes()[..16]);
    digest
}

/// Appends the contents of whole blocks that count, and of no others; answers whether all are as they were written.
fn unframe(mut file: BufReader<File>, records: &mut Vec<u8>, counts: impl Fn(Tag) -> bool) -> std::io::Result<bool> {
    let mut header = [0; HEADER];
    while !file.fill_buf()?.is_empty() {
        if !whole(file.read_exact(&mut header))? {
            return Ok(false);
        }
        let Some(Header { length, digest: wanted, tag, .. }) = Header::read(&header) else { return Ok(false) };
        if !counts(tag) {
            file.seek_relative(i64::try_from(length).unwrap_or(i64::MAX))?;
            continue;
        }
        let from = records.len();
        let taken = file.by_ref().take(length as u64).read_to_end(records)?;
        if taken != length || digest(&records[from..]) != wanted {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether all was there that was to be read.
fn whole(read: std::io::Result<()>) -> std::io::Result<bool> {
    match read {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
        other => other.map(|()| true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(folder: &Path) -> Arc<Spill> {
        filled_of(folder, 4)
    }

    fn filled_of(folder: &Path, partitions: usize) -> Arc<Spill> {
        let spill = Spill::new(folder, "rows", partitions, Tag(0));
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
            assert_eq!(spill.read(partition).expect("whole").len() as u64 / 8, spill.written(partition).count);
            for bytes in spill.take(partition).expect("whole").chunks_exact(8) {
                assert_eq!(u64::from_le_bytes(bytes.try_into().expect("eight")) % 4, partition as u64);
                read.add(blake3::hash(bytes).as_bytes());
            }
            assert_eq!(read, spill.written(partition));
            all.merge(&read);
        }
        assert_eq!(all.count, 20_000);
        assert_eq!(std::fs::read_dir(folder.path()).expect("there").count(), 0, "files go as they are taken");
    }

    #[test]
    fn many_partitions_keep_neither_files_open_nor_large_blocks() {
        let folder = tempfile::tempdir().expect("a folder");
        let spill = filled_of(folder.path(), 2_000);
        assert!((0..2_000).all(|partition| spill.lock(partition).file.is_none()));
        let few = Spill::new(folder.path(), "few", 4, Tag(0));
        assert_eq!((spill.block_bytes(), few.block_bytes()), (BLOCKS_BYTES / 2_000, BLOCK_BYTES));
        let mut writer = spill.writer();
        for _ in 0..1_000 {
            writer.add(7, &[1; 32], |out| out.extend_from_slice(&[0; 40])).expect("a disk");
        }
        assert!(writer.blocks[7].0.len() <= HEADER + spill.block_bytes());
        writer.finish().expect("a disk");
        // Ten of its own, and what came in several blocks since.
        assert_eq!(spill.written(7).count, 1_010);
        assert_eq!(spill.read(7).expect("whole").len(), 10 * 8 + 1_000 * 40);
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

    #[test]
    fn of_a_killed_attempt_only_what_was_finished_counts() {
        let folder = tempfile::tempdir().expect("a folder");
        let put = |writer: &mut Writer, numbers: std::ops::Range<u64>| {
            for number in numbers {
                let digest = *blake3::hash(&number.to_le_bytes()).as_bytes();
                writer.add(number, &digest, |out| out.extend_from_slice(&number.to_le_bytes())).expect("a disk");
            }
        };
        let spill = Spill::new(folder.path(), "rows", 4, Tag(0));
        let (mut one, mut other) = (spill.writer(), spill.writer());
        one.begin(Tag(1)).expect("a disk");
        other.begin(Tag(2)).expect("a disk");
        put(&mut one, 0..10_000);
        put(&mut other, 10_000..20_000);
        one.finish().expect("a disk");
        let finished = BTreeMap::from([(Tag(1), one.handed())]);
        assert_eq!(finished[&Tag(1)].count, 10_000);
        // What another range left half done, down to half a block.
        other.finish().expect("a disk");
        drop((one, other, spill));
        let path = folder.path().join("rows-3");
        let length = std::fs::metadata(&path).expect("a file").len();
        File::options().write(true).open(&path).and_then(|file| file.set_len(length - 5)).expect("writable");

        let spill = Spill::new(folder.path(), "rows", 4, Tag(1 << 32));
        spill.adopt(finished.clone()).expect("all there");
        let mut writer = spill.writer();
        put(&mut writer, 30_000..30_100);
        writer.finish().expect("a disk");
        let mut read: Vec<u64> = Vec::new();
        for partition in 0..4 {
            let bytes = spill.take(partition).expect("whole");
            assert_eq!(bytes.len() as u64 / 8, spill.written(partition).count);
            read.extend(bytes.chunks_exact(8).map(|bytes| u64::from_le_bytes(bytes.try_into().expect("eight"))));
        }
        read.sort_unstable();
        assert_eq!(read, (0..10_000).chain(30_000..30_100).collect::<Vec<_>>());

        let mut wrong = finished;
        wrong.insert(Tag(2), Sum::default());
        let spill = Spill::new(folder.path(), "rows", 4, Tag(2 << 32));
        assert!(matches!(spill.adopt(wrong), Err(Error::SpillBroken { .. })), "more is there than was told");
    }
}

//! The log's key-value store: blocks, shapes and marks, changed by one atomic write a batch.
//!
//! What the store does after a crash, as far as the log leans on it (fjall 3.1, read and tested):
//!
//! - Every write goes to a journal first; a batch is framed by a start and an end with a checksum. Opening replays the
//!   journal and cuts it at the first batch that is incomplete, so a batch is there entirely or not at all.
//! - A batch that is complete but whose checksum does not match makes opening fail.
//! - Bytes that read as no entry at all end the replay too, *also in front of batches that were durable*. The store does
//!   not report that; the [witness](super::witness) finds it.
//! - A journal is synced before the next one is begun, and removed when everything in it is in tables.
//! - A failed write, sync or move to tables poisons the store: it takes no more until it is opened again. A writer that the
//!   store holds back at that moment would be held for ever, so [`Store::wait_for_room`] holds writers back sooner, and
//!   looks at the poison while it does.
//! - Damaged lengths in a journal may make the store panic while it opens; that becomes an error here.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, PersistMode};

use super::block::{Block, Link};
use super::directory::{Header, store_error};
use super::witness::Testimony;
use crate::event::encoding::Canonical;
use crate::event::{Relation, SchemaHash};
use crate::log::visible::Change;
use crate::log::{Error, Offset, Partition};

/// Memory for blocks that were written and not yet moved to tables; the store holds a few of these at a time.
const MEMTABLE_BYTES: u64 = 16 * 1024 * 1024;

/// The same for marks and shapes, which change in place and stay small.
const SMALL_MEMTABLE_BYTES: u64 = 1024 * 1024;

/// Cache for blocks read: followers read what was just written, rebuilds read once, so a large one buys nothing.
const CACHE_BYTES: u64 = 8 * 1024 * 1024;

/// Journals kept before the store moves them to tables: bounds the time to open after a crash.
const JOURNAL_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Threads that move journals to tables.
const WORKER_THREADS: usize = 2;

/// Full memtables that may wait for the move to tables; from the fourth on the store itself blocks its writers.
const SEALED_MAX: usize = 3;

/// Time between two looks at a store without room; a memtable takes some ten times as long to move.
const ROOM_POLL: Duration = Duration::from_millis(5);

/// Key of the number of batches written.
const BATCHES: &str = "batches";

/// Handles on the store.
#[derive(Clone)]
pub(super) struct Store {
    database: Database,
    /// Partition and first offset to block.
    blocks: Keyspace,
    /// Hash to encoded relation.
    relations: Keyspace,
    /// Name to value.
    marks: Keyspace,
    /// Facts on the log itself.
    about: Keyspace,
}

/// What a store held when it was opened.
#[derive(Debug)]
pub(super) struct Found {
    /// Ends, links and number of batches.
    pub(super) testimony: Testimony,
    /// Marks and shapes.
    pub(super) change: Change,
}

/// One atomic write in the making.
pub(super) struct Write {
    batch: fjall::OwnedWriteBatch,
    store: Store,
}

impl Store {
    /// Opens the store, or makes an empty one.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let panicked = |_| Err(fjall::Error::Unrecoverable);
        // Nothing that the closure touches outlives a panic in it.
        catch_unwind(AssertUnwindSafe(|| Self::open_database(path)))
            .unwrap_or_else(panicked)
            .map_err(store_error("open"))
    }

    fn open_database(path: &Path) -> fjall::Result<Self> {
        let database = Database::builder(path)
            .manual_journal_persist(true)
            // Blocks are compressed once, when they move to tables; doing it for the journal too costs the appender more
            // than the disk gains.
            .journal_compression(fjall::CompressionType::None)
            .cache_size(CACHE_BYTES)
            .max_journaling_size(JOURNAL_BYTES_MAX)
            .worker_threads(WORKER_THREADS)
            .open()?;
        let small = || KeyspaceCreateOptions::default().max_memtable_size(SMALL_MEMTABLE_BYTES);
        // Blocks are written once and never change: kept apart from their keys, no compaction copies them again.
        let blocks = || {
            KeyspaceCreateOptions::default()
                .max_memtable_size(MEMTABLE_BYTES)
                .with_kv_separation(Some(KvSeparationOptions::default()))
        };
        Ok(Self {
            blocks: database.keyspace("blocks", blocks)?,
            relations: database.keyspace("relations", small)?,
            marks: database.keyspace("marks", small)?,
            about: database.keyspace("about", small)?,
            database,
        })
    }

    /// Makes an empty store durable and closes it.
    pub(super) fn create(path: &Path) -> Result<(), Error> {
        Self::open(path)?.sync()
    }

    /// Reads everything but the records, and checks the last block of each partition.
    pub(super) fn load(&self, header: Header) -> Result<Found, Error> {
        let mut change = Change::default();
        for entry in self.relations.iter() {
            let (hash, bytes) = entry.into_inner().map_err(store_error("read"))?;
            let relation = Relation::decode(&bytes).map_err(store_error("read"))?;
            if relation.schema_hash().0 != *hash {
                return Err(store_error("read")(std::io::Error::other("a shape is not what its hash says")));
            }
            change.relations.push(Arc::new(relation));
        }
        for entry in self.marks.iter() {
            let (name, value) = entry.into_inner().map_err(store_error("read"))?;
            let name = String::from_utf8(name.to_vec()).map_err(store_error("read"))?;
            change.marks.insert(name, Some(value.to_vec()));
        }
        let batches = self.about.get(BATCHES).map_err(store_error("read"))?;
        let batches = batches.map(|bytes| <[u8; 8]>::try_from(&*bytes)).transpose().map_err(store_error("read"))?;
        let tails = (0..header.partitions).map(|partition| self.tail(Partition(partition), header.generation));
        let tails = tails.collect::<Result<_, _>>()?;
        Ok(Found { testimony: Testimony { batches: batches.map_or(0, u64::from_be_bytes), tails }, change })
    }

    fn tail(&self, partition: Partition, generation: u64) -> Result<(Offset, Link), Error> {
        let Some(last) = self.blocks.prefix(partition.0.to_be_bytes()).next_back() else {
            return Ok((Offset(0), Link::origin(generation, partition)));
        };
        let (key, bytes) = last.into_inner().map_err(store_error("read"))?;
        let block = read_block(partition, &key, &bytes)?;
        Ok((block.next, block.link))
    }

    /// The block that holds `offset` or, where none does, the one before it; with its key.
    pub(super) fn block_at(&self, partition: Partition, offset: Offset) -> Result<Option<fjall::KvPair>, Error> {
        let range = block_key(partition, Offset(0))..=block_key(partition, offset);
        self.blocks.range(range).next_back().map(fjall::Guard::into_inner).transpose().map_err(store_error("read"))
    }

    /// Blocks from the one that begins at `from` on, up to `end`.
    pub(super) fn blocks_from(
        &self,
        partition: Partition,
        from: Offset,
        end: Offset,
    ) -> impl Iterator<Item = Result<fjall::KvPair, Error>> + use<> {
        let range = block_key(partition, from)..block_key(partition, end);
        self.blocks.range(range).map(|entry| entry.into_inner().map_err(store_error("read")))
    }

    /// Waits until the store has moved enough of what was written to tables to take more.
    pub(super) fn wait_for_room(&self) -> Result<(), Error> {
        let full = |keyspace: &Keyspace| keyspace.sealed_memtable_count() >= SEALED_MAX;
        while [&self.blocks, &self.marks, &self.about, &self.relations].into_iter().any(full) {
            // Answers at once, and with the poison if there is one.
            self.database.persist(PersistMode::Buffer).map_err(store_error("append to"))?;
            std::thread::sleep(ROOM_POLL);
        }
        Ok(())
    }

    /// Begins an atomic write.
    pub(super) fn write(&self) -> Write {
        Write { batch: self.database.batch(), store: self.clone() }
    }

    /// Makes all writes so far durable.
    pub(super) fn sync(&self) -> Result<(), Error> {
        self.database.persist(PersistMode::SyncAll).map_err(store_error("sync"))
    }
}

impl Write {
    /// Adds a block.
    pub(super) fn block(&mut self, partition: Partition, first: Offset, bytes: Vec<u8>) {
        self.batch.insert(&self.store.blocks, block_key(partition, first), bytes);
    }

    /// Adds a shape.
    pub(super) fn relation(&mut self, hash: SchemaHash, relation: &Relation) {
        self.batch.insert(&self.store.relations, hash.0, relation.encode());
    }

    /// Sets or removes a mark.
    pub(super) fn mark(&mut self, name: &str, value: Option<&[u8]>) {
        match value {
            Some(value) => self.batch.insert(&self.store.marks, name, value),
            None => self.batch.remove(&self.store.marks, name),
        }
    }

    /// Writes everything at once, with the number of batches; durable with the next [`Store::sync`].
    pub(super) fn commit(mut self, batches: u64) -> Result<(), Error> {
        self.batch.insert(&self.store.about, BATCHES, batches.to_be_bytes());
        self.batch.commit().map_err(store_error("append to"))
    }
}

/// Key of a block: its byte order is the order of partitions and offsets.
fn block_key(partition: Partition, first: Offset) -> [u8; 10] {
    let mut key = [0; 10];
    key[..2].copy_from_slice(&partition.0.to_be_bytes());
    key[2..].copy_from_slice(&first.0.to_be_bytes());
    key
}

/// Reads a block and checks that it stands where its head says.
pub(super) fn read_block<'a>(partition: Partition, key: &[u8], bytes: &'a [u8]) -> Result<Block<'a>, Error> {
    let place = key.get(2..).and_then(|bytes| <[u8; 8]>::try_from(bytes).ok()).map_or(0, u64::from_be_bytes);
    let damaged = |detail| Error::Damaged { partition, offset: Offset(place), detail };
    let block = Block::read(bytes).map_err(damaged)?;
    if block_key(block.partition, block.first) != key || block.partition != partition {
        return Err(damaged("a block stands in another's place"));
    }
    Ok(block)
}

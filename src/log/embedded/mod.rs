//! The embedded log: one directory, one process, no server.
//!
//! **Path of a batch.** The caller's side encodes it, cuts it into [blocks](block) and digests them; the
//! [appender](appender) gives blocks their places, writes them with marks and shapes in one atomic write of the
//! [store](store), syncs once for all batches that wait, writes the [witness](witness), makes everything
//! [visible](super::visible) and answers. A [reader](reader) sees nothing that is not durable.
//!
//! **Partitions.** One, unless asked otherwise when the log is made; fixed from then on. In one process a total order costs
//! nothing, and no change of a key crosses partitions; the unit stage behind the log is where work is spread.
//!
//! **After a crash** every acknowledged batch is there with its marks, and any batch is there entirely or not at all. A
//! torn or cut tail is dropped when nothing acknowledged is in it; otherwise opening fails with [`Error::Lost`], because a
//! log that forgets what a source was told is worse than none (I2). Damage in the middle is an error where it is
//! read ([`Error::Damaged`]): blocks are chained by digests.
//!
//! **After a failed write**, a full disk above all, the log takes no more batches; what was acknowledged can be read. Opened
//! again with room on the disk it goes on.
//!
//! Not taken: segment files of our own. They append about twice as fast in a probe, and would have to earn a crash
//! recovery that the store under this log has already.

mod appender;
mod block;
mod directory;
mod draft;
mod erase;
mod reader;
mod store;
mod witness;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;

use self::appender::Appender;
use self::directory::{Directory, Header, store_error};
use self::reader::LogReader;
use self::store::{Store, read_block};
use self::witness::{Testimony, Witness};
use super::check::{Shapes, check};
use super::visible::Visible;
use super::{Batch, Chunk, Error, EventLog, Offset, Partition};
use crate::event::{Relation, SchemaHash};

/// Batches with fewer events are encoded where they are: handing them to another thread costs more than encoding them.
const EVENTS_INLINE_MAX: usize = 64;

/// How to open or make a log.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Number of partitions of a new log; an existing one must have as many.
    pub partitions: u16,
    /// Generation of a new log: milliseconds since 1970, from the caller's clock.
    pub generation: u64,
}

/// An [`EventLog`] in a directory.
pub struct EmbeddedLog {
    header: Header,
    visible: Arc<Visible>,
    reader: Arc<LogReader>,
    appender: Appender,
    // Last, so that the directory is unlocked after everything above is closed.
    _directory: Arc<Directory>,
}

impl std::fmt::Debug for EmbeddedLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedLog").field("header", &self.header).finish_non_exhaustive()
    }
}

impl EmbeddedLog {
    /// Opens the log in a directory, or makes one; blocks for as long as recovery takes.
    ///
    /// Dropping the log writes what is queued, closes the files and unlocks the directory, and blocks while it does.
    ///
    /// # Errors
    /// [`Error::Locked`] when it is open elsewhere, [`Error::Format`] when a newer rehome made it, [`Error::Partitions`] when
    /// it has another number of partitions, [`Error::Lost`] when it holds less than it acknowledged.
    pub fn open(path: &Path, options: Options) -> Result<Self, Error> {
        let directory = Arc::new(Directory::lock(path)?);
        let header = match directory.header()? {
            Some(header) => header,
            None => create(&directory, options)?,
        };
        if header.partitions != options.partitions {
            return Err(Error::Partitions { found: header.partitions, asked: options.partitions });
        }
        directory.mend()?;
        let store = Store::open(&directory.store())?;
        let found = store.load(header)?;
        let (mut witness, acknowledged) =
            Witness::open(&directory.witness(), header.partitions).map_err(store_error("open"))?;
        let lost = |detail| Error::Lost { path: directory.path().to_owned(), detail };
        let acknowledged = acknowledged.ok_or_else(|| lost("its witness does not read"))?;
        compare(&store, &acknowledged, &found.testimony)?.map_err(lost)?;
        // What was recovered beyond the last acknowledgement counts from here on: make it durable, then say so.
        store.sync()?;
        witness.record(&found.testimony).map_err(store_error("open"))?;
        let ends = found.testimony.tails.iter().map(|(end, _)| *end).collect();
        let visible = Arc::new(Visible::new(ends, found.change));
        let reader = LogReader::new(store.clone(), Arc::clone(&visible), header.generation, Arc::clone(&directory));
        let appender =
            Appender::start(store, witness, found.testimony, Arc::clone(&visible)).map_err(store_error("open"))?;
        Ok(Self { header, visible, reader: Arc::new(reader), appender, _directory: directory })
    }
}

fn create(directory: &Directory, options: Options) -> Result<Header, Error> {
    if options.partitions == 0 {
        return Err(Error::Partitions { found: 1, asked: 0 });
    }
    let header = Header { partitions: options.partitions, generation: options.generation };
    directory.create(header, |folder| {
        Store::create(&folder.join("store"))?;
        let tails = (0..header.partitions)
            .map(|partition| (Offset(0), block::Link::origin(header.generation, Partition(partition))))
            .collect();
        Witness::create(&folder.join("witness"), &Testimony { batches: 0, tails }).map_err(store_error("create"))
    })?;
    Ok(header)
}

/// Compares what was acknowledged with what is there; the inner error says what is lost.
fn compare(store: &Store, told: &Testimony, found: &Testimony) -> Result<Result<(), &'static str>, Error> {
    if found.batches < told.batches {
        return Ok(Err("its last batches are gone"));
    }
    for (partition, (told, found)) in (0..).map(Partition).zip(told.tails.iter().zip(&found.tails)) {
        if found.0 < told.0 {
            return Ok(Err("its last records are gone"));
        }
        let link = if found.0 == told.0 {
            found.1
        } else {
            // Records beyond the last acknowledgement must continue from it.
            match store.block_at(partition, told.0)? {
                Some((key, bytes)) => {
                    let block = read_block(partition, &key, &bytes)?;
                    if block.first != told.0 {
                        return Ok(Err("its blocks are not those that were acknowledged"));
                    }
                    block.previous
                }
                None => return Ok(Err("its blocks are not those that were acknowledged")),
            }
        };
        if link != told.1 {
            return Ok(Err("its records are not those that were acknowledged"));
        }
    }
    Ok(Ok(()))
}

#[async_trait]
impl EventLog for EmbeddedLog {
    fn partitions(&self) -> u16 {
        self.header.partitions
    }

    fn generation(&self) -> u64 {
        self.header.generation
    }

    async fn append(&self, mut batch: Batch) -> Result<(), Error> {
        if let Some(cause) = self.visible.failed() {
            return Err(Error::Failed(cause));
        }
        let shapes: Shapes = check(&mut batch, &self.visible)?;
        let partitions = self.header.partitions;
        let prepared = if batch.events.len() <= EVENTS_INLINE_MAX {
            draft::prepare(batch, &shapes, partitions)?
        } else {
            let prepare = tokio::task::spawn_blocking(move || draft::prepare(batch, &shapes, partitions));
            // The pool answers unless the runtime is shutting down.
            prepare.await.map_err(|_| Error::Closed)??
        };
        if prepared.empty() { Ok(()) } else { self.appender.append(prepared).await }
    }

    async fn read(&self, partition: Partition, from: Offset, bytes_max: usize) -> Result<Chunk, Error> {
        let reader = Arc::clone(&self.reader);
        let read = tokio::task::spawn_blocking(move || reader.read(partition, from, bytes_max));
        read.await.map_err(|_| Error::Closed)?
    }

    fn end(&self, partition: Partition) -> Offset {
        self.visible.end(partition)
    }

    async fn wait_beyond(&self, partition: Partition, offset: Offset) {
        self.visible.wait_beyond(partition, offset).await;
    }

    fn relation(&self, hash: SchemaHash) -> Option<Arc<Relation>> {
        self.visible.relation(hash)
    }

    fn relations(&self) -> Vec<Arc<Relation>> {
        self.visible.relations()
    }

    fn mark(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.visible.mark(name))
    }

    fn marks(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, Error> {
        Ok(self.visible.marks(prefix))
    }
}

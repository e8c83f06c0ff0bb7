//! The log's directory: one owner, and whole or not there.
//!
//! ```text
//! lock              held while the log is open
//! current/header    format, partitions, generation, as text
//! current/witness   what was acknowledged
//! current/store/    the key-value store
//! ```
//!
//! A new log is made as `creating/` and renamed to `current/` when whole: a death in between leaves `creating/`, which
//! holds nothing that was ever acknowledged and is made again.
//!
//! A store is replaced as a whole when records are erased: the new one is made as `current/erasing/`, the old one is moved
//! to `current/erased/`, the new one takes its place and the old one is removed. A death in between leaves either the old
//! store where it was, or both under these names; then the old one counts, as nobody was told that anything was erased.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use crate::log::Error;

/// Version of the log as a whole; a log of a newer one is refused.
const FORMAT: u32 = 1;

/// Where a store is made that is to take the place of the present one.
const REPLACEMENT: &str = "current/erasing";
/// Where the one goes whose place it takes.
const REPLACED: &str = "current/erased";

/// An open and locked directory of a log.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    /// The lock goes with the file.
    _lock: File,
}

/// What a log is for its whole life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// Number of partitions.
    pub(super) partitions: u16,
    /// The log's generation.
    pub(super) generation: u64,
}

/// Gives a failed file operation its name in errors.
pub(super) fn store_error<E: std::error::Error + Send + Sync + 'static>(action: &'static str) -> impl Fn(E) -> Error {
    move |source| Error::Store { action, source: Box::new(source) }
}

impl Directory {
    /// Locks a directory, which is made when it is not there.
    pub(super) fn lock(path: &Path) -> Result<Self, Error> {
        fs::create_dir_all(path).map_err(store_error("create"))?;
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join("lock"))
            .map_err(store_error("lock"))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(Error::Locked { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => Err(store_error("lock")(source)),
        }
    }

    /// The directory that was locked.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the store is.
    pub(super) fn store(&self) -> PathBuf {
        self.path.join("current/store")
    }

    /// Where a store is made that is to take the place of the present one; what a death left there is removed.
    pub(super) fn begin_replacement(&self) -> Result<PathBuf, Error> {
        let path = self.path.join(REPLACEMENT);
        remove(&path)?;
        Ok(path)
    }

    /// Puts the new store, which must be closed and durable, in the place of the old one, which is removed.
    pub(super) fn replace_store(&self) -> Result<(), Error> {
        let (new, old) = (self.path.join(REPLACEMENT), self.path.join(REPLACED));
        fs::rename(self.store(), &old).map_err(store_error("replace"))?;
        fs::rename(&new, self.store()).map_err(store_error("replace"))?;
        sync(&self.path.join("current"))?;
        remove(&old)
    }

    /// Ends what a death in [`Directory::replace_store`] left half done.
    pub(super) fn mend(&self) -> Result<(), Error> {
        let (new, old) = (self.path.join(REPLACEMENT), self.path.join(REPLACED));
        let there = |path: &Path| path.try_exists().map_err(store_error("open"));
        if !there(&self.store())? && there(&old)? {
            fs::rename(&old, self.store()).map_err(store_error("open"))?;
        }
        remove(&new)?;
        remove(&old)
    }

    /// Where the witness is.
    pub(super) fn witness(&self) -> PathBuf {
        self.path.join("current/witness")
    }

    /// Reads the header; `None` when there is no log yet.
    pub(super) fn header(&self) -> Result<Option<Header>, Error> {
        if !self.path.join("current").try_exists().map_err(store_error("open"))? {
            return Ok(None);
        }
        let text = fs::read_to_string(self.path.join("current/header")).map_err(store_error("open"))?;
        let unreadable = || Error::Unreadable { path: self.path.clone(), detail: "its header does not read" };
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.and_then(|value| value.parse::<u64>().ok()).ok_or_else(unreadable)
        };
        let found = u32::try_from(field("format")?).map_err(|_| unreadable())?;
        if found > FORMAT {
            return Err(Error::Format { found, known: FORMAT });
        }
        let partitions = u16::try_from(field("partitions")?).map_err(|_| unreadable())?;
        Ok(Some(Header { partitions, generation: field("generation")? }))
    }

    /// Makes a new log: `fill` puts store and witness into the folder that it is given.
    pub(super) fn create(&self, header: Header, fill: impl FnOnce(&Path) -> Result<(), Error>) -> Result<(), Error> {
        let creating = self.path.join("creating");
        if creating.try_exists().map_err(store_error("create"))? {
            fs::remove_dir_all(&creating).map_err(store_error("create"))?;
        }
        fs::create_dir(&creating).map_err(store_error("create"))?;
        fill(&creating)?;
        let Header { partitions, generation } = header;
        let text = format!("rehome event log\nformat {FORMAT}\npartitions {partitions}\ngeneration {generation}\n");
        fs::write(creating.join("header"), text).map_err(store_error("create"))?;
        for made in [creating.join("header"), creating.clone()] {
            sync(&made)?;
        }
        fs::rename(&creating, self.path.join("current")).map_err(store_error("create"))?;
        sync(&self.path)
    }
}

/// Removes a folder, where it is there.
fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(store_error("remove")(error)),
        _ => Ok(()),
    }
}

fn sync(path: &Path) -> Result<(), Error> {
    File::open(path).and_then(|file| file.sync_all()).map_err(store_error("create"))
}

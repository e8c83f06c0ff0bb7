//! A file that stands for a table: the rows of a lookup, as an operator wrote them down.
//!
//! Its rows go through the log as all others do. A file that changed is read anew: each reading has versions after the one before
//! and asks for the older rows to be swept. Nothing of a file is taken before all of it was read once without fault, so a
//! broken one leaves the rows as they were.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::capture::marks;
use crate::event::{Epoch, Event, Flags, Key, Op, Origin, Relation, RelationName, Row, Version, to_hex};
use crate::log::{Batch, EventLog};

use super::error::Error;
use super::{Dump, csv};

/// Version of the stored form of a file's mark.
const FORMAT: u32 = 1;
/// Rows appended at once.
const BATCH_ROWS: usize = 10_000;
/// A lookup is kept whole by every reader of its rows; one that is larger wants a table.
const BYTES_MAX: u64 = 256 * 1024 * 1024;

/// The stored form of a file's mark.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: u32,
    epoch: u32,
    /// Counts the readings.
    reading: u64,
    /// Whether the log holds all of it.
    whole: bool,
    rows: u64,
    digest: String,
    path: PathBuf,
}

/// A file that stands for a table, as the log remembers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The table's schema and name, as text.
    pub relation: String,
    /// The file.
    pub path: PathBuf,
    /// Its rows.
    pub rows: u64,
    /// Digest of it.
    pub digest: String,
}

/// Brings a file into the log, unless it is there as it is now; answers how many rows it has.
///
/// **Cancellation.** A dropped call leaves a reading unfinished; the next one reads all of the file again.
///
/// # Errors
/// A file that cannot be read, a line that is no row, or the log's.
pub async fn bring(log: &dyn EventLog, epoch: Epoch, dump: &Dump) -> Result<u64, Error> {
    let (path, relation) = (dump.path.clone(), Arc::clone(&dump.relation));
    let reading = tokio::task::spawn_blocking(move || read(&path, &relation));
    let (digest, rows) = reading.await.expect("reading does not panic")?;
    let count = rows.len() as u64;
    let name = mark(&dump.relation.name);
    let before = stored(log, &name)?;
    let path = std::path::absolute(&dump.path).unwrap_or_else(|_| dump.path.clone());
    if let Some(before) = &before
        && (before.epoch, before.whole, &before.digest, &before.path) == (epoch.0, true, &digest, &path)
    {
        return Ok(count);
    }
    let reading = before.map_or(1, |before| before.reading + 1);
    let mut stored = Stored { format: FORMAT, epoch: epoch.0, reading, whole: false, rows: count, digest, path };
    let value = |stored: &Stored| serde_json::to_vec(stored).expect("numbers and text are JSON");
    let relations = vec![Arc::clone(&dump.relation)];
    let marks = [(name.clone(), Some(value(&stored)))].into();
    log.append(Batch { relations, marks, ..Batch::default() }).await?;
    let hash = dump.relation.schema_hash();
    let mut numbered = (1u32..).zip(rows).peekable();
    while numbered.peek().is_some() {
        let rows = numbered.by_ref().take(BATCH_ROWS);
        let events = rows.map(|(ordinal, (key, row))| event(hash, key, row, Version::file(epoch, reading, ordinal)));
        log.append(Batch { events: events.collect(), ..Batch::default() }).await?;
    }
    stored.whole = true;
    let floor = Version::file(epoch, reading, 0).to_bytes().to_vec();
    let sweep = format!("{}{}", marks::SWEEP_TABLE, dump.relation.name);
    let marks = [(name, Some(value(&stored))), (sweep, Some(floor))].into();
    log.append(Batch { marks, ..Batch::default() }).await?;
    tracing::info!(table = %dump.relation.name, rows = count, reading, "read a file that stands for a table");
    Ok(count)
}

/// The files that stand for tables.
///
/// # Errors
/// A mark that does not read.
pub fn standing(log: &dyn EventLog) -> Result<Vec<Standing>, Error> {
    let mut found = Vec::new();
    for (name, _) in log.marks(marks::FILE)? {
        let relation = name[marks::FILE.len()..].to_owned();
        let standing = |Stored { path, rows, digest, .. }| Standing { relation, path, rows, digest };
        found.extend(stored(log, &name)?.map(standing));
    }
    Ok(found)
}

/// Whether all of a file that stands for a table was brought into the log.
///
/// # Errors
/// The log's; a mark that does not read counts as none.
pub fn whole(log: &dyn EventLog, relation: &RelationName) -> Result<bool, crate::log::Error> {
    let value = log.mark(&mark(relation))?;
    Ok(value.and_then(|value| serde_json::from_slice::<Stored>(&value).ok()).is_some_and(|stored| stored.whole))
}

/// Forgets that a file stood for a table, which is captured from now on; sets further marks with that.
///
/// # Errors
/// The log's.
pub async fn forget(
    log: &dyn EventLog,
    relation: &RelationName,
    also: impl IntoIterator<Item = (String, Option<Vec<u8>>)>,
) -> Result<(), Error> {
    if log.mark(&mark(relation))?.is_some() {
        let marks = also.into_iter().chain([(mark(relation), None)]).collect();
        log.append(Batch { marks, ..Batch::default() }).await?;
    }
    Ok(())
}

/// Reads all of a file: its digest, and its rows.
///
/// # Errors
/// A file that cannot be read, or a line that is no row.
pub fn read(path: &Path, relation: &Relation) -> Result<(String, Vec<(Key, Row)>), Error> {
    let broken = |action| move |source| Error::File { action, path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(broken("open"))?;
    let mut bytes = Vec::new();
    file.take(BYTES_MAX + 1).read_to_end(&mut bytes).map_err(broken("read"))?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(Error::TooLarge { path: path.to_owned(), limit: BYTES_MAX });
    }
    let mut rows = Vec::new();
    csv::read(&bytes, relation, |key, row| rows.push((key, row))).map_err(|(line, problem)| Error::Csv {
        path: path.to_owned(),
        line,
        problem,
    })?;
    Ok((to_hex(blake3::hash(&bytes).as_bytes()), rows))
}

fn mark(relation: &RelationName) -> String {
    format!("{}{relation}", marks::FILE)
}

fn stored(log: &dyn EventLog, name: &str) -> Result<Option<Stored>, Error> {
    let Some(bytes) = log.mark(name)? else { return Ok(None) };
    let damaged = || Error::Mark { name: name.to_owned() };
    let stored: Stored = serde_json::from_slice(&bytes).map_err(|_| damaged())?;
    if stored.format == FORMAT { Ok(Some(stored)) } else { Err(damaged()) }
}

fn event(relation: crate::event::SchemaHash, key: Key, row: Row, version: Version) -> Event {
    Event {
        relation,
        op: Op::Read,
        key,
        old_key: None,
        before: None,
        after: Some(row),
        version,
        transaction: None,
        // A file has no ranges.
        origin: Origin::Snapshot { range: 0 },
        flags: Flags::default(),
    }
}

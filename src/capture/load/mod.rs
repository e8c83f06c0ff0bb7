//! A dump of a table as its snapshot: for a database that cannot be reached, or that is of a make that rehome does not read.
//!
//! Rows become what a snapshot reads: `Read` events of an epoch's floor version. Each batch carries the mark that says how far
//! it reaches (I2): after a crash, or a broken line that was put right, loading goes on from there, having made sure that what
//! was loaded is still what the file holds. A dump has no stream: what is written to the source after it is not seen.

mod csv;
mod error;
pub mod file;
mod keys;
mod line;

use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::event::{Epoch, Event, Flags, Op, Origin, Relation, Version, to_hex};
use crate::log::{Batch, EventLog};

pub use error::{Error, Problem};
pub use line::Form;

/// Prefix of the marks that say how far each dump is loaded, followed by the relation.
pub const LOADED: &str = "load/";
/// Version of the stored form of such a mark.
const FORMAT: u32 = 1;
/// Bytes of lines in one batch: large enough that a sync of the log for each costs little.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// A longer line is no row but a file of another kind.
const LINE_BYTES_MAX: usize = 256 * 1024 * 1024;

/// A file with the rows of one table, a line each.
#[derive(Debug, Clone)]
pub struct Dump {
    /// The file.
    pub path: PathBuf,
    /// The table; of items, the key's columns and `item`.
    pub relation: Arc<Relation>,
    /// What its lines are.
    pub form: Form,
}

/// How far a dump is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Loaded {
    /// Bytes of the file.
    pub bytes: u64,
    /// Lines, empty ones too.
    pub lines: u64,
    /// Rows.
    pub rows: u64,
}

/// The stored form of a mark.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: u32,
    epoch: u32,
    bytes: u64,
    lines: u64,
    rows: u64,
    /// Digest of the bytes loaded.
    digest: String,
}

/// A batch of a file, and how far it reaches.
struct Piece {
    events: Vec<Event>,
    reached: Loaded,
    digest: String,
}

/// Loads dumps one after the other, each from where it is loaded up to; `tell` hears after each batch.
///
/// The whole of a file is read when this returns. No two of its rows may have one key, which is looked at before any is taken.
/// That the epoch's snapshot is complete is for the caller to say, who knows whether further tables belong to it.
///
/// **Cancellation.** A dropped call leaves a file loaded up to its last mark.
///
/// # Errors
/// A file that cannot be read, a line that is no row, or the log's.
pub async fn load(
    log: &dyn EventLog,
    epoch: Epoch,
    dumps: &[Dump],
    mut tell: impl FnMut(&Dump, Loaded) + Send,
) -> Result<(), Error> {
    for (number, dump) in (0..).zip(dumps) {
        if dump.form == Form::Csv {
            let rows = file::bring(log, epoch, dump).await?;
            tell(dump, Loaded { rows, ..Loaded::default() });
            continue;
        }
        let name = mark(&dump.relation);
        let from = reached(log, &name, epoch)?;
        // One piece is appended while the next is read.
        let (out, mut pieces) = mpsc::channel(1);
        let reading = dump.clone();
        let reader = tokio::task::spawn_blocking(move || read(&reading, epoch, number, from, &out));
        while let Some(piece) = pieces.recv().await {
            let Piece { events, reached, digest } = piece;
            let Loaded { bytes, lines, rows } = reached;
            let stored = Stored { format: FORMAT, epoch: epoch.0, bytes, lines, rows, digest };
            let value = serde_json::to_vec(&stored).expect("numbers and text are JSON");
            let relations = vec![Arc::clone(&dump.relation)];
            let marks = [(name.clone(), Some(value))].into();
            log.append(Batch { relations, events, marks, ..Batch::default() }).await?;
            tell(dump, reached);
        }
        reader.await.expect("reading does not panic")?;
    }
    Ok(())
}

/// How far the dump of a relation is loaded in an epoch, as the log says.
///
/// # Errors
/// A mark that does not read.
pub fn loaded(log: &dyn EventLog, relation: &Relation, epoch: Epoch) -> Result<Loaded, Error> {
    Ok(reached(log, &mark(relation), epoch)?.map_or_else(Loaded::default, |stored| Loaded {
        bytes: stored.bytes,
        lines: stored.lines,
        rows: stored.rows,
    }))
}

/// Whether a log holds all of a dump in an epoch, and the file has not changed since.
///
/// # Errors
/// A file that cannot be read, or a mark that does not read.
pub async fn unchanged(log: &dyn EventLog, epoch: Epoch, dump: &Dump) -> Result<bool, Error> {
    let stored = reached(log, &mark(&dump.relation), epoch)?;
    let path = dump.path.clone();
    let reading = tokio::task::spawn_blocking(move || {
        let broken = |action| {
            let path = path.clone();
            move |source| Error::File { action, path, source }
        };
        let mut file = File::open(&path).map_err(broken("open"))?;
        let mut digest = blake3::Hasher::new();
        let whole = to_hex(digest.update_reader(&mut file).map_err(broken("read"))?.finalize().as_bytes());
        // An empty file leaves no mark.
        Ok(stored.map_or(digest.count() == 0, |stored| digest.count() == stored.bytes && whole == stored.digest))
    });
    reading.await.expect("reading does not panic")
}

fn mark(relation: &Relation) -> String {
    format!("{LOADED}{}", relation.name)
}

/// The mark of an epoch; `None` when nothing is loaded in it.
fn reached(log: &dyn EventLog, name: &str, epoch: Epoch) -> Result<Option<Stored>, Error> {
    let Some(bytes) = log.mark(name)? else { return Ok(None) };
    let damaged = || Error::Mark { name: name.to_owned() };
    let stored: Stored = serde_json::from_slice(&bytes).map_err(|_| damaged())?;
    if stored.format != FORMAT {
        return Err(damaged());
    }
    Ok(Some(stored).filter(|stored| stored.epoch == epoch.0))
}

/// Reads a file to its end and hands over its rows; ends early when nobody takes them.
fn read(dump: &Dump, epoch: Epoch, number: u32, from: Option<Stored>, out: &mpsc::Sender<Piece>) -> Result<(), Error> {
    let broken = |action| move |source| Error::File { action, path: dump.path.clone(), source };
    keys::told_apart(dump)?;
    let mut file = BufReader::with_capacity(1 << 20, File::open(&dump.path).map_err(broken("open"))?);
    let mut digest = blake3::Hasher::new();
    let mut reached = Loaded::default();
    if let Some(stored) = from {
        let there = digest.update_reader((&mut file).take(stored.bytes)).map_err(broken("read"))?;
        if to_hex(there.finalize().as_bytes()) != stored.digest {
            return Err(Error::Changed { path: dump.path.clone(), line: stored.lines + 1 });
        }
        reached = Loaded { bytes: stored.bytes, lines: stored.lines, rows: stored.rows };
    }
    let relation = dump.relation.schema_hash();
    let (mut events, mut line, mut handed_over) = (Vec::new(), Vec::new(), reached);
    loop {
        line.clear();
        let limit = LINE_BYTES_MAX as u64 + 1;
        let length = (&mut file).take(limit).read_until(b'\n', &mut line).map_err(broken("read"))?;
        let piece_full = reached.bytes - handed_over.bytes >= BATCH_BYTES as u64;
        if (length == 0 || piece_full) && reached.bytes > handed_over.bytes {
            let piece =
                Piece { events: std::mem::take(&mut events), reached, digest: to_hex(digest.finalize().as_bytes()) };
            handed_over = reached;
            if out.blocking_send(piece).is_err() {
                return Ok(());
            }
        }
        if length == 0 {
            return Ok(());
        }
        let row = match row_of(dump, &line) {
            Ok(row) => row,
            Err(problem) => {
                // What comes before the line is loaded first: it need not be read again.
                if reached.bytes > handed_over.bytes {
                    let digest = to_hex(digest.finalize().as_bytes());
                    let _ = out.blocking_send(Piece { events, reached, digest });
                }
                return Err(Error::Line { path: dump.path.clone(), line: reached.lines + 1, problem });
            }
        };
        digest.update(&line);
        reached = Loaded {
            bytes: reached.bytes + length as u64,
            lines: reached.lines + 1,
            rows: reached.rows + u64::from(row.is_some()),
        };
        events.extend(row.map(|(key, row)| Event {
            relation,
            op: Op::Read,
            key,
            old_key: None,
            before: None,
            after: Some(row),
            version: Version::floor(epoch),
            transaction: None,
            origin: Origin::Snapshot { range: number },
            flags: Flags::default(),
        }));
    }
}

/// The row of a line; `None` for an empty one.
fn row_of(dump: &Dump, line: &[u8]) -> Result<Option<(crate::event::Key, crate::event::Row)>, Problem> {
    if line.len() > LINE_BYTES_MAX {
        return Err(Problem::TooLong(LINE_BYTES_MAX));
    }
    let line = line.trim_ascii();
    if line.is_empty() { Ok(None) } else { line::read(dump.form, &dump.relation, line).map(Some) }
}

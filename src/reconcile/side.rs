//! One side of a comparison: tables cut into ranges that are read once each, and the ledger of what was read.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::Error;
use super::ledger::{Came, Ledger, Line};
use super::spill::Tag;
use super::sum::Sum;
use crate::event::{EncodedRow, Relation, RelationName, Value, rename_members};
use crate::source::{self, Copied, RangeId, RangeOutcome, Rows, Snapshot};

/// Batches between the reader of a range and the one who digests it: both work at the same time, and no more wait.
const BATCHES_AHEAD: usize = 2;

/// A side as it is to be read.
pub struct Side {
    /// `source` or `target`.
    pub name: &'static str,
    /// What reads ranges.
    pub snapshot: Arc<dyn Snapshot>,
    /// The tables, in the order of the migration's.
    pub tables: Vec<Table>,
    /// The ranges to be read.
    pub ranges: Vec<Range>,
    /// The snapshot's name, where it has one.
    pub snapshot_name: String,
    /// Where the side stood when it was taken, as text.
    pub position: String,
    /// Transactions before this one are seen by the snapshot; absent where there is none.
    pub seen: Option<u32>,
    /// When it was taken.
    pub taken: jiff::Timestamp,
}

/// A table of a side.
#[derive(Debug, Clone)]
pub struct Table {
    /// Its name in the store.
    pub relation: RelationName,
    /// Tells it from another of its name, and from itself in another shape.
    pub identity: String,
    /// Columns wanted of it, in the order of the rows to be handed over.
    pub columns: Vec<Box<str>>,
    /// Attributes of its items that the mapping calls otherwise: live name, and the mapping's.
    pub renamed: Vec<(Box<str>, Box<str>)>,
    /// Rows counted under the same snapshot by other means than reading them; absent where there is no snapshot.
    pub counted: Option<u64>,
}

impl Table {
    /// Whether it is there, and no file stands for it.
    pub fn read(&self) -> bool {
        !self.identity.is_empty()
    }
}

/// A range of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// Its number.
    pub id: RangeId,
    /// Index of the table.
    pub table: usize,
    /// Which part of the table it is.
    pub extent: Extent,
    /// Blocks that it had when the side was opened; a segment counts as one.
    pub pages: u64,
}

/// Part of a table; half-open.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Extent {
    /// Blocks of a leaf.
    Blocks {
        /// The leaf.
        leaf: RelationName,
        /// Number of the file that it lies in: another, once it was rewritten.
        file: u32,
        /// First block.
        from: u32,
        /// Block after the last; `None` is the end of the leaf.
        to: Option<u32>,
    },
    /// A segment of a scan.
    Segment {
        /// Its number.
        number: u32,
        /// How many there are.
        total: u32,
    },
}

/// A range that was read to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// Index in [`Side::ranges`].
    pub range: usize,
    /// Rows that its reader counted.
    pub rows: u64,
    /// Rows that were handed on.
    pub taken: u64,
    /// Bytes as the store sent them.
    pub bytes: u64,
}

/// Takes rows of one side; each worker has its own.
pub trait Sink: Send + 'static {
    /// Takes rows of a table.
    ///
    /// # Errors
    /// Whatever keeps the comparison from going on.
    fn take(&mut self, table: usize, rows: &mut dyn Incoming) -> Result<(), Error>;

    /// From here on, rows are of another range.
    ///
    /// # Errors
    /// Whatever keeps the comparison from going on.
    fn begin(&mut self, tag: Tag) -> Result<(), Error> {
        let _ = tag;
        Ok(())
    }

    /// Hands over what is kept back, and tells what came of all since the last time; `None` where it is not kept by range.
    ///
    /// # Errors
    /// Whatever keeps the comparison from going on.
    fn end(&mut self) -> Result<Option<Came>, Error>;
}

/// Rows on their way to a sink.
pub trait Incoming: Iterator<Item = Vec<Value>> {
    /// Reads the next row's values as they are encoded; answers false when there is none.
    fn encoded(&mut self, row: &mut EncodedRow) -> bool {
        put_next(self, row)
    }
}

/// Encodes the next row.
fn put_next(rows: &mut (impl Iterator<Item = Vec<Value>> + ?Sized), row: &mut EncodedRow) -> bool {
    row.clear();
    let values = rows.next();
    values.iter().flatten().for_each(|value| row.push(value));
    values.is_some()
}

impl Incoming for std::vec::IntoIter<Vec<Value>> {}

/// Rows from a reader. After an error there are none; it is kept.
struct FromReader<'a> {
    side: &'static str,
    packed: &'a mut dyn Rows,
    /// Where the wanted columns stand.
    columns: &'a [usize],
    renamed: &'a [(Box<str>, Box<str>)],
    /// Rows that were handed over.
    count: u64,
    failed: Option<Error>,
}

impl FromReader<'_> {
    /// What was read; nothing where that failed.
    fn read<T>(&mut self, read: impl FnOnce(&mut dyn Rows, &[usize]) -> Result<Option<T>, source::Error>) -> Option<T> {
        match read(self.packed, self.columns) {
            Ok(row) => {
                self.count += u64::from(row.is_some());
                row
            }
            Err(source) => {
                self.failed = Some(Error::Side { side: self.side, source });
                None
            }
        }
    }
}

impl Incoming for FromReader<'_> {
    fn encoded(&mut self, row: &mut EncodedRow) -> bool {
        if self.renamed.is_empty() {
            return self.read(|rows, columns| Ok(rows.next_encoded(columns, row)?.then_some(()))).is_some();
        }
        put_next(self, row)
    }
}

impl Iterator for FromReader<'_> {
    type Item = Vec<Value>;

    fn next(&mut self) -> Option<Vec<Value>> {
        let mut values = self.read(|rows, columns| rows.next(columns))?;
        for value in values.iter_mut().filter(|_| !self.renamed.is_empty()) {
            if let Value::Map(item) = value {
                rename_members(item, self.renamed);
            }
        }
        Some(values)
    }
}

/// What was read.
pub struct Read<S> {
    /// The ranges.
    pub done: Vec<Done>,
    /// What came of them.
    pub came: Came,
    /// Those who took the rows.
    pub sinks: Vec<S>,
}

/// Where it is written down what was read.
#[derive(Clone)]
pub struct Journal {
    /// The ledger.
    pub ledger: Arc<Ledger>,
    /// What the rows that others refer to add up to, where this side's rows are placed by them.
    pub references: Option<Sum>,
    /// Whether either side failed: then no further range is begun.
    pub failed: Arc<AtomicBool>,
}

/// A range's batches on their way from the reader to the sink, and what the reader says when it is through.
struct Handed {
    range: usize,
    batches: mpsc::Receiver<Box<dyn Rows>>,
    copied: oneshot::Receiver<Copied>,
}

/// Reads ranges, each once, by as many workers as there are sinks.
///
/// # Errors
/// The first error of a reader or a sink; then nothing is to be concluded from what was taken.
pub async fn read<S: Sink>(
    side: &Arc<Side>,
    ranges: Vec<usize>,
    sinks: Vec<S>,
    journal: Option<&Journal>,
) -> Result<Read<S>, Error> {
    let queue: Arc<Mutex<VecDeque<usize>>> = Arc::new(Mutex::new(ranges.into()));
    let stopping = journal.map(|journal| Arc::clone(&journal.failed)).unwrap_or_default();
    let (mut readers, mut takers) = (JoinSet::new(), JoinSet::new());
    for sink in sinks {
        let (hand, handed) = mpsc::channel::<Handed>(1);
        let (side_read, queue, stopping) = (Arc::clone(side), Arc::clone(&queue), Arc::clone(&stopping));
        readers.spawn(async move {
            let read = read_ranges(&side_read, &queue, &hand, &stopping).await;
            stopping.fetch_or(read.is_err(), Ordering::Relaxed);
            read
        });
        let (side, journal) = (Arc::clone(side), journal.cloned());
        takers.spawn_blocking(move || take_ranges(&side, sink, handed, journal.as_ref()));
    }
    let mut failed = None;
    while let Some(read) = readers.join_next().await {
        // What a sink failed for says more than that its channel is gone.
        failed = failed.or(read.map_err(|_| Error::Worker).and_then(|read| read).err());
    }
    let mut all = Read { done: Vec::new(), came: Came::default(), sinks: Vec::new() };
    while let Some(taken) = takers.join_next().await {
        let taken = taken.map_err(|_| Error::Worker)??;
        all.done.extend(taken.done);
        all.came.merge(taken.came);
        all.sinks.extend(taken.sinks);
    }
    failed.map_or(Ok(()), Err)?;
    all.done.sort_by_key(|done| done.range);
    Ok(all)
}

async fn read_ranges(
    side: &Side,
    queue: &Mutex<VecDeque<usize>>,
    hand: &mpsc::Sender<Handed>,
    stopping: &AtomicBool,
) -> Result<(), Error> {
    loop {
        if stopping.load(Ordering::Relaxed) {
            return Ok(());
        }
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let Some(index) = next else { return Ok(()) };
        let ((out, batches), (through, copied)) = (mpsc::channel(BATCHES_AHEAD), oneshot::channel());
        hand.send(Handed { range: index, batches, copied }).await.map_err(|_| Error::Worker)?;
        let range = &side.ranges[index];
        let moved =
            |what| Error::Moved { side: side.name, table: side.tables[range.table].relation.table.to_string(), what };
        match side.snapshot.rows(range.id, out).await {
            // Who takes the rows says himself why he went.
            Ok(RangeOutcome::Copied(copied)) => drop(through.send(copied)),
            Ok(RangeOutcome::SnapshotGone) => return Err(moved("its snapshot is gone")),
            Ok(RangeOutcome::Moved) => return Err(moved("it was rewritten or dropped")),
            Err(source) => return Err(Error::Side { side: side.name, source }),
        }
    }
}

fn take_ranges<S: Sink>(
    side: &Side,
    mut sink: S,
    mut handed: mpsc::Receiver<Handed>,
    journal: Option<&Journal>,
) -> Result<Read<S>, Error> {
    let (mut done, mut all) = (Vec::new(), Came::default());
    while let Some(Handed { range, mut batches, copied }) = handed.blocking_recv() {
        let table = side.ranges[range].table;
        let tag = journal.map(|journal| journal.ledger.tag()).unwrap_or_default();
        sink.begin(tag)?;
        let mut count = 0;
        let mut bound: Option<(Arc<Relation>, Vec<usize>)> = None;
        while let Some(mut packed) = batches.blocking_recv() {
            let columns = match &bound {
                Some((relation, columns)) if Arc::ptr_eq(relation, packed.relation()) => columns,
                _ => &bound.insert((Arc::clone(packed.relation()), bind(side, table, packed.relation())?)).1,
            };
            let mut rows = FromReader {
                side: side.name,
                packed: &mut *packed,
                columns,
                renamed: &side.tables[table].renamed,
                count: 0,
                failed: None,
            };
            sink.take(table, &mut rows)?;
            count += rows.count;
            rows.failed.map_or(Ok(()), Err)?;
        }
        // Nothing is to be made of what a reader gave up.
        let Ok(copied) = copied.blocking_recv() else { break };
        done.push(Done { range, rows: copied.rows, taken: count, bytes: copied.bytes });
        let Some(came) = sink.end()? else { continue };
        all.merge(came.clone());
        if let Some(journal) = journal.filter(|_| count == copied.rows) {
            journal.ledger.done(line(side, range, copied, journal.references, tag, came))?;
        }
    }
    sink.end()?;
    Ok(Read { done, came: all, sinks: vec![sink] })
}

fn line(side: &Side, range: usize, copied: Copied, references: Option<Sum>, tag: Tag, came: Came) -> Line {
    let Range { table, extent, .. } = &side.ranges[range];
    let Table { relation, identity, .. } = &side.tables[*table];
    Line {
        side: side.name.to_owned(),
        table: relation.to_string(),
        identity: identity.clone(),
        extent: extent.clone(),
        snapshot: side.snapshot_name.clone(),
        seen: side.seen,
        taken: side.taken,
        references,
        rows: copied.rows,
        bytes: copied.bytes,
        tag,
        came,
    }
}

/// Where the wanted columns stand in the rows of a relation.
fn bind(side: &Side, table: usize, relation: &Relation) -> Result<Vec<usize>, Error> {
    let table = &side.tables[table];
    let place = |name: &str| relation.columns.iter().position(|column| *column.name == *name);
    let missing = |name: &str| Error::NoColumn {
        side: side.name,
        table: table.relation.table.to_string(),
        column: name.to_owned(),
    };
    table.columns.iter().map(|name| place(name).ok_or_else(|| missing(name))).collect()
}

/// Whether ranges cover every table of a side, each place once: half-open, without a gap and without an overlap.
///
/// Answers with the tables that are not covered.
pub fn uncovered(side: &Side, done: &[Done]) -> Vec<usize> {
    (0..side.tables.len()).filter(|table| !covered(side, done, *table)).collect()
}

fn covered(side: &Side, done: &[Done], table: usize) -> bool {
    let read: Vec<&Extent> = done
        .iter()
        .map(|done| &side.ranges[done.range])
        .filter(|range| range.table == table)
        .map(|range| &range.extent)
        .collect();
    let planned = side.ranges.iter().filter(|range| range.table == table).count();
    if read.len() != planned {
        return false;
    }
    let mut leaves: HashMap<&RelationName, Vec<(u32, Option<u32>)>> = HashMap::new();
    let mut segments: Vec<(u32, u32)> = Vec::new();
    for extent in read {
        match extent {
            Extent::Blocks { leaf, from, to, .. } => leaves.entry(leaf).or_default().push((*from, *to)),
            Extent::Segment { number, total } => segments.push((*number, *total)),
        }
    }
    let blocks_whole = leaves.values_mut().all(|blocks| {
        blocks.sort_unstable();
        let mut next = Some(0);
        for (from, to) in blocks.iter() {
            if next != Some(*from) {
                return false;
            }
            next = *to;
        }
        next.is_none()
    });
    segments.sort_unstable();
    let total = segments.first().map_or(0, |(_, total)| *total);
    let whole = segments.len() == total as usize
        && segments.iter().enumerate().all(|(index, (number, of))| *number as usize == index && *of == total);
    blocks_whole && whole
}

//! One side of a comparison: tables cut into ranges that are read once each, and the ledger of what was read.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Error;
use crate::event::{Cell, Relation, RelationName, SchemaHash, Value, rename_members};
use crate::log::Batch;
use crate::source::{RangeId, RangeOutcome, Snapshot};

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
}

/// A table of a side.
#[derive(Debug, Clone)]
pub struct Table {
    /// Its name in the store.
    pub relation: RelationName,
    /// Columns wanted of it, in the order of the rows to be handed over.
    pub columns: Vec<Box<str>>,
    /// Attributes of its items that the mapping calls otherwise: live name, and the mapping's.
    pub renamed: Vec<(Box<str>, Box<str>)>,
    /// Rows counted under the same snapshot by other means than reading them; absent where there is no snapshot.
    pub counted: Option<u64>,
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
}

/// Part of a table; half-open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extent {
    /// Blocks of a leaf.
    Blocks {
        /// The leaf.
        leaf: RelationName,
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
    fn take(&mut self, table: usize, rows: Vec<Vec<Value>>) -> Result<(), Error>;

    /// Hands over what is kept back.
    ///
    /// # Errors
    /// Whatever keeps the comparison from going on.
    fn finish(&mut self) -> Result<(), Error>;
}

/// A range's batches on their way from the reader to the sink.
type Handed = (usize, mpsc::Receiver<Batch>);

/// Reads ranges, each once, by as many workers as there are sinks; answers with the ledger and the sinks.
///
/// # Errors
/// The first error of a reader or a sink; then nothing is to be concluded from what was taken.
pub async fn read<S: Sink>(side: &Arc<Side>, ranges: Vec<usize>, sinks: Vec<S>) -> Result<(Vec<Done>, Vec<S>), Error> {
    let queue: Arc<Mutex<VecDeque<usize>>> = Arc::new(Mutex::new(ranges.into()));
    let (mut readers, mut takers) = (JoinSet::new(), JoinSet::new());
    for sink in sinks {
        let (hand, handed) = mpsc::channel::<Handed>(1);
        readers.spawn(read_ranges(Arc::clone(side), Arc::clone(&queue), hand));
        let side = Arc::clone(side);
        takers.spawn_blocking(move || take_ranges(&side, sink, handed));
    }
    let mut done: Vec<Done> = Vec::new();
    let mut failed = None;
    while let Some(read) = readers.join_next().await {
        match read.map_err(|_| Error::Worker).and_then(|read| read) {
            Ok(ranges) => done.extend(ranges),
            // What a sink failed for says more than that its channel is gone.
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    let mut finished = Vec::new();
    while let Some(taken) = takers.join_next().await {
        match taken.map_err(|_| Error::Worker).and_then(|taken| taken) {
            Ok((sink, taken)) => {
                finished.push(sink);
                for (range, rows) in taken {
                    if let Some(done) = done.iter_mut().find(|done| done.range == range) {
                        done.taken = rows;
                    }
                }
            }
            Err(error) => return Err(error),
        }
    }
    failed.map_or(Ok(()), Err)?;
    done.sort_by_key(|done| done.range);
    Ok((done, finished))
}

async fn read_ranges(
    side: Arc<Side>,
    queue: Arc<Mutex<VecDeque<usize>>>,
    hand: mpsc::Sender<Handed>,
) -> Result<Vec<Done>, Error> {
    let mut done = Vec::new();
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let Some(index) = next else { return Ok(done) };
        let (out, batches) = mpsc::channel(BATCHES_AHEAD);
        hand.send((index, batches)).await.map_err(|_| Error::Worker)?;
        let range = &side.ranges[index];
        let moved =
            |what| Error::Moved { side: side.name, table: side.tables[range.table].relation.table.to_string(), what };
        match side.snapshot.copy(range.id, out).await {
            Ok(RangeOutcome::Copied(copied)) => {
                done.push(Done { range: index, rows: copied.rows, taken: 0, bytes: copied.bytes });
            }
            Ok(RangeOutcome::SnapshotGone) => return Err(moved("its snapshot is gone")),
            Ok(RangeOutcome::Moved) => return Err(moved("it was rewritten or dropped")),
            Err(source) => return Err(Error::Side { side: side.name, source }),
        }
    }
}

/// Ranges, and the rows taken of each.
type Taken = Vec<(usize, u64)>;

fn take_ranges<S: Sink>(side: &Side, mut sink: S, mut handed: mpsc::Receiver<Handed>) -> Result<(S, Taken), Error> {
    let mut bound: HashMap<SchemaHash, Vec<usize>> = HashMap::new();
    let mut taken = Vec::new();
    while let Some((index, mut batches)) = handed.blocking_recv() {
        let table = side.ranges[index].table;
        let mut count = 0;
        while let Some(batch) = batches.blocking_recv() {
            for relation in &batch.relations {
                bound.insert(relation.schema_hash(), bind(side, table, relation)?);
            }
            let mut rows = Vec::with_capacity(batch.events.len());
            for event in batch.events {
                let (Some(columns), Some(row)) = (bound.get(&event.relation), event.after) else { continue };
                let mut values = arrange(row.0, columns);
                for value in values.iter_mut().filter(|_| !side.tables[table].renamed.is_empty()) {
                    if let Value::Map(item) = value {
                        rename_members(item, &side.tables[table].renamed);
                    }
                }
                rows.push(values);
            }
            count += rows.len() as u64;
            if !rows.is_empty() {
                sink.take(table, rows)?;
            }
        }
        taken.push((index, count));
    }
    sink.finish()?;
    Ok((sink, taken))
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

/// The cells at some places, in their order; moved where the order is the row's own.
fn arrange(cells: Vec<Cell>, columns: &[usize]) -> Vec<Value> {
    let value = |cell: Cell| match cell {
        Cell::Value(value) => value,
        Cell::Missing => Value::Null,
    };
    if columns.len() == cells.len() && columns.iter().enumerate().all(|(index, column)| index == *column) {
        return cells.into_iter().map(value).collect();
    }
    columns.iter().map(|column| cells.get(*column).cloned().map_or(Value::Null, value)).collect()
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
            Extent::Blocks { leaf, from, to } => leaves.entry(leaf).or_default().push((*from, *to)),
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

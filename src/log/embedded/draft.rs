//! A batch made ready to write, on its caller's side: encoded, routed, cut into blocks and digested.

use super::block::{BODY_BYTES, Draft, HEAD_LEN};
use crate::log::check::Shapes;
use crate::log::record::{Route, put_event, put_notice};
use crate::log::visible::Change;
use crate::log::{Batch, Error, Partition};

/// A record larger than this is refused: the store's limit is 4 GiB for a value, a source's is below this.
const RECORD_BYTES_MAX: usize = 1 << 30;

/// A mark's name longer than this is refused: the store's limit is 64 KiB for a key.
const MARK_NAME_BYTES_MAX: usize = 1_024;

/// A batch ready to write.
#[derive(Debug)]
pub(super) struct Prepared {
    /// Blocks of each partition, in order.
    pub(super) blocks: Vec<Vec<Draft>>,
    /// Marks and new shapes.
    pub(super) change: Change,
    /// Size of it all.
    pub(super) bytes: usize,
}

/// Encodes a batch whose `relations` are new to the log.
pub(super) fn prepare(batch: Batch, shapes: &Shapes, partitions: u16) -> Result<Prepared, Error> {
    if batch.marks.keys().any(|name| name.len() > MARK_NAME_BYTES_MAX) {
        return Err(Error::Refused { detail: "a mark's name is too long" });
    }
    let mut open: Vec<Blocks> = (0..partitions).map(|_| Blocks::default()).collect();
    let mut copied = Vec::new();
    for event in &batch.events {
        match Route::of(event, shapes, partitions) {
            // The common case encodes straight into its block.
            Route::One(partition) => open[usize::from(partition.0)].put(|out| put_event(event, out))?,
            route => {
                copied.clear();
                put_event(event, &mut copied);
                put_copies(route, &copied, &mut open)?;
            }
        }
    }
    for notice in &batch.notices {
        copied.clear();
        put_notice(notice, &mut copied);
        put_copies(Route::All, &copied, &mut open)?;
    }
    let blocks: Vec<_> = open.into_iter().map(Blocks::close).collect();
    let of_marks = batch.marks.iter().map(|(name, value)| name.len() + value.as_ref().map_or(0, Vec::len));
    let bytes = blocks.iter().flatten().map(Draft::size).sum::<usize>() + of_marks.sum::<usize>();
    Ok(Prepared { blocks, change: Change { relations: batch.relations, marks: batch.marks }, bytes })
}

fn put_copies(route: Route, record: &[u8], open: &mut [Blocks]) -> Result<(), Error> {
    for (partition, blocks) in (0..).map(Partition).zip(open) {
        if route.reaches(partition) {
            blocks.put(|out| out.extend_from_slice(record))?;
        }
    }
    Ok(())
}

impl Prepared {
    /// Whether there is nothing to write.
    pub(super) fn empty(&self) -> bool {
        self.blocks.iter().all(Vec::is_empty) && self.change.relations.is_empty() && self.change.marks.is_empty()
    }
}

/// The blocks of one partition as they grow.
#[derive(Debug, Default)]
struct Blocks {
    closed: Vec<Draft>,
    open: Vec<u8>,
    count: u32,
}

impl Blocks {
    fn put(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), Error> {
        if self.open.len() >= HEAD_LEN + BODY_BYTES {
            self.end_block();
        }
        if self.open.is_empty() {
            self.open = Draft::begin();
        }
        let before = self.open.len();
        write(&mut self.open);
        self.count += 1;
        if self.open.len() - before > RECORD_BYTES_MAX {
            return Err(Error::Refused { detail: "it is larger than 1 GiB" });
        }
        Ok(())
    }

    fn end_block(&mut self) {
        if self.count > 0 {
            self.closed.push(Draft::close(std::mem::take(&mut self.open), self.count));
            self.count = 0;
        }
    }

    fn close(mut self) -> Vec<Draft> {
        self.end_block();
        self.closed
    }
}

//! Reading blocks back, each checked against its predecessor.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::block::Link;
use super::directory::Directory;
use super::store::{Store, read_block};
use crate::log::visible::Visible;
use crate::log::{Chunk, Error, Offset, Partition};

/// Places remembered where a reader stopped, one for each follower and partition and some to spare.
const PLACES_MAX: usize = 256;

/// Reads the durable part of a log.
pub(super) struct LogReader {
    store: Store,
    visible: Arc<Visible>,
    generation: u64,
    /// Where readers stopped, with the link that the next block must name; newest first.
    places: Mutex<VecDeque<(Partition, Offset, Link)>>,
    /// A read that was given up may outlive its log on the blocking pool: the directory stays locked until it has ended.
    _directory: Arc<Directory>,
}

impl LogReader {
    /// Reads from an open store what `visible` says is durable.
    pub(super) fn new(store: Store, visible: Arc<Visible>, generation: u64, directory: Arc<Directory>) -> Self {
        Self { store, visible, generation, places: Mutex::default(), _directory: directory }
    }

    /// As [`EventLog::read`](crate::log::EventLog::read), on the calling thread; whole blocks, so that none is decoded twice.
    pub(super) fn read(&self, partition: Partition, from: Offset, bytes_max: usize) -> Result<Chunk, Error> {
        let end = self.visible.end(partition);
        let mut chunk = Chunk { records: Vec::new(), next: from };
        if from >= end {
            return match self.visible.failed() {
                Some(cause) => Err(Error::Failed(cause)),
                None => Ok(chunk),
            };
        }
        let missing = |offset| Error::Damaged { partition, offset, detail: "a block is missing" };
        let (mut expected, mut previous) = self.start(partition, from)?.ok_or_else(|| missing(from))?;
        let mut size = 0;
        for entry in self.store.blocks_from(partition, expected, end) {
            let (key, bytes) = entry?;
            let block = read_block(partition, &key, &bytes)?;
            let damaged = |detail| Error::Damaged { partition, offset: block.first, detail };
            if block.first != expected {
                return Err(missing(expected));
            }
            if previous.is_some_and(|link| link != block.previous) {
                return Err(damaged("a block does not follow its predecessor"));
            }
            block.records(from, &mut chunk.records).map_err(damaged)?;
            (expected, previous) = (block.next, Some(block.link));
            size += bytes.len();
            if size >= bytes_max {
                break;
            }
        }
        if expected < end && size < bytes_max {
            return Err(missing(expected));
        }
        if let Some(link) = previous {
            self.remember(partition, expected, link);
        }
        chunk.next = expected;
        Ok(chunk)
    }

    /// Where the block that holds `from` begins, and the link that it must name if that is known without another read.
    fn start(&self, partition: Partition, from: Offset) -> Result<Option<(Offset, Option<Link>)>, Error> {
        if from == Offset(0) {
            return Ok(Some((from, Some(Link::origin(self.generation, partition)))));
        }
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let stopped_here = places.iter().find(|(of, at, _)| *of == partition && *at == from).map(|(.., link)| *link);
        drop(places);
        if stopped_here.is_some() {
            return Ok(Some((from, stopped_here)));
        }
        let Some((key, bytes)) = self.store.block_at(partition, from)? else { return Ok(None) };
        let block = read_block(partition, &key, &bytes)?;
        Ok((block.next > from).then_some((block.first, None)))
    }

    fn remember(&self, partition: Partition, next: Offset, link: Link) {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.retain(|(of, at, _)| (*of, *at) != (partition, next));
        places.truncate(PLACES_MAX - 1);
        places.push_front((partition, next, link));
    }
}

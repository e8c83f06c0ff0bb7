//! A log in memory: for tests, and the plainest reading of the seam's contract.
//!
//! It keeps every clause but durability, which ends with the process.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use super::check::check;
use super::record::{Route, put_event, put_notice};
use super::visible::{Change, Visible};
use super::{Batch, Chunk, Error, EventLog, Offset, Partition, Record};
use crate::event::{Relation, SchemaHash};

/// An [`EventLog`] in memory.
#[derive(Debug)]
pub struct MemoryLog {
    generation: u64,
    visible: Visible,
    /// Records of each partition, with their stored sizes.
    partitions: Vec<Mutex<Vec<(usize, Record)>>>,
    /// Held while a batch is appended, so that batches do not interleave.
    appending: Mutex<()>,
}

impl MemoryLog {
    /// Makes an empty log of as many partitions; the caller draws the generation from its clock.
    pub fn new(partitions: u16, generation: u64) -> Self {
        let partitions = partitions.max(1);
        Self {
            generation,
            visible: Visible::new(vec![Offset(0); usize::from(partitions)], Change::default()),
            partitions: (0..partitions).map(|_| Mutex::default()).collect(),
            appending: Mutex::new(()),
        }
    }

    fn records(&self, partition: Partition) -> Option<std::sync::MutexGuard<'_, Vec<(usize, Record)>>> {
        let records = self.partitions.get(usize::from(partition.0))?;
        Some(records.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl EventLog for MemoryLog {
    fn partitions(&self) -> u16 {
        u16::try_from(self.partitions.len()).unwrap_or(u16::MAX)
    }

    fn generation(&self) -> u64 {
        self.generation
    }

    async fn append(&self, mut batch: Batch) -> Result<(), Error> {
        let shapes = check(&mut batch, &self.visible)?;
        let _whole = self.appending.lock().unwrap_or_else(PoisonError::into_inner);
        let mut routed = Vec::with_capacity(batch.events.len() + batch.notices.len());
        let mut scratch = Vec::new();
        for event in batch.events {
            let route = Route::of(&event, &shapes, self.partitions());
            put_event(&event, &mut scratch);
            routed.push((route, scratch.len(), Record::Event(event)));
            scratch.clear();
        }
        for notice in batch.notices {
            put_notice(&notice, &mut scratch);
            routed.push((Route::All, scratch.len(), Record::Notice(notice)));
            scratch.clear();
        }
        let mut ends = Vec::with_capacity(self.partitions.len());
        for partition in (0..self.partitions()).map(Partition) {
            let Some(mut records) = self.records(partition) else { continue };
            let own = routed.iter().filter(|(route, ..)| route.reaches(partition));
            records.extend(own.map(|(_, size, record)| (*size, record.clone())));
            ends.push(Offset(records.len() as u64));
        }
        self.visible.publish([Change { relations: batch.relations, marks: batch.marks }], &ends);
        Ok(())
    }

    async fn read(&self, partition: Partition, from: Offset, bytes_max: usize) -> Result<Chunk, Error> {
        let end = self.visible.end(partition);
        let mut chunk = Chunk { records: Vec::new(), next: from };
        let Some(records) = self.records(partition) else { return Ok(chunk) };
        let mut bytes = 0;
        while chunk.next < end && (bytes < bytes_max || chunk.records.is_empty()) {
            let Some((size, record)) = usize::try_from(chunk.next.0).ok().and_then(|at| records.get(at)) else { break };
            bytes += size;
            chunk.records.push((chunk.next, record.clone()));
            chunk.next.0 += 1;
        }
        Ok(chunk)
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

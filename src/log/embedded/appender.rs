//! The one thread that writes: it takes what waits, writes each batch atomically, syncs once for all, then answers (I2).

use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::block::Link;
use super::directory::store_error;
use super::draft::Prepared;
use super::store::Store;
use super::witness::{Testimony, Witness};
use crate::log::visible::{Change, Visible};
use crate::log::{Error, Offset, Partition};

/// Batches that may wait for the appender.
const QUEUE_BATCHES_MAX: usize = 1_024;

/// Bytes that may wait for the appender, in KiB: a second of writing for an ordinary disk is several times this, so a
/// longer queue would add memory and delay and no throughput.
const QUEUE_KIB_MAX: u32 = 16 * 1024;

/// Batches written under one sync at most, so that the first of them does not wait for ever on a busy log.
const GROUP_BATCHES_MAX: usize = 256;

/// A batch on its way to the appender.
struct Request {
    prepared: Prepared,
    answer: oneshot::Sender<Result<(), Arc<Error>>>,
    /// Room in the queue, given back when the batch is durable.
    _room: OwnedSemaphorePermit,
}

/// The callers' side of the thread.
#[derive(Debug)]
pub(super) struct Appender {
    queue: Option<mpsc::Sender<Request>>,
    room: Arc<Semaphore>,
    thread: Option<JoinHandle<()>>,
}

impl Appender {
    /// Starts the thread where the log ends.
    pub(super) fn start(
        store: Store,
        witness: Witness,
        testimony: Testimony,
        visible: Arc<Visible>,
    ) -> std::io::Result<Self> {
        let (queue, requests) = mpsc::channel(QUEUE_BATCHES_MAX);
        let ends = Ending(Arc::clone(&visible));
        let writer = Writer { store, witness, testimony, visible };
        let thread = std::thread::Builder::new().name("log-appender".into()).spawn(move || {
            let _ends = ends;
            writer.run(requests);
        })?;
        Ok(Self { queue: Some(queue), room: Arc::new(Semaphore::new(QUEUE_KIB_MAX as usize)), thread: Some(thread) })
    }

    /// Waits for room, hands over a batch and waits until it is durable.
    pub(super) async fn append(&self, prepared: Prepared) -> Result<(), Error> {
        let kib = u32::try_from(prepared.bytes / 1024 + 1).unwrap_or(u32::MAX).min(QUEUE_KIB_MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(kib).await.map_err(|_| Error::Closed)?;
        let (answer, answered) = oneshot::channel();
        let request = Request { prepared, answer, _room: room };
        let queue = self.queue.as_ref().ok_or(Error::Closed)?;
        queue.send(request).await.map_err(|_| Error::Closed)?;
        answered.await.map_err(|_| Error::Closed)?.map_err(Error::Failed)
    }
}

impl Drop for Appender {
    /// Lets the thread write what is queued, and waits for it: after this the store is closed.
    fn drop(&mut self) {
        drop(self.queue.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the log's appender panicked");
        }
    }
}

/// Tells waiting readers that nothing more will come, however the thread ends.
struct Ending(Arc<Visible>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.fail(Arc::new(Error::Closed));
    }
}

/// The thread's own state.
struct Writer {
    store: Store,
    witness: Witness,
    testimony: Testimony,
    visible: Arc<Visible>,
}

impl Writer {
    fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut group = Vec::new();
        while requests.blocking_recv_many(&mut group, GROUP_BATCHES_MAX) > 0 {
            if self.visible.failed().is_none() {
                self.write_group(&mut group);
            }
            if let Some(cause) = self.visible.failed() {
                for request in group.drain(..) {
                    // A caller that has gone does not want the answer.
                    let _ = request.answer.send(Err(Arc::clone(&cause)));
                }
            }
        }
        if let Err(error) = self.witness.sync() {
            tracing::warn!(%error, "cannot sync the log's witness");
        }
    }

    /// Writes a group and answers it; leaves it unanswered after a failure.
    fn write_group(&mut self, group: &mut Vec<Request>) {
        let mut answers = Vec::with_capacity(group.len());
        let mut changes = Vec::with_capacity(group.len());
        let mut waiting = group.drain(..);
        let written = waiting.by_ref().try_for_each(|Request { prepared, answer, _room }| {
            answers.push((answer, _room));
            self.write(prepared).map(|change| changes.push(change))
        });
        answers.extend(waiting.map(|Request { answer, _room, .. }| (answer, _room)));
        let durable = written
            .and_then(|()| self.store.sync())
            .and_then(|()| self.witness.record(&self.testimony).map_err(store_error("append to")));
        let answer = match durable {
            Ok(()) => {
                let ends: Vec<_> = self.testimony.tails.iter().map(|(end, _)| *end).collect();
                self.visible.publish(changes, &ends);
                Ok(())
            }
            Err(cause) => {
                tracing::error!(error = &cause as &dyn std::error::Error, "the log failed and takes no more");
                Err(self.visible.fail(Arc::new(cause)))
            }
        };
        for (caller, _room) in answers {
            let _ = caller.send(answer.clone());
        }
    }

    fn write(&mut self, prepared: Prepared) -> Result<Change, Error> {
        self.store.wait_for_room()?;
        let mut write = self.store.write();
        for (partition, (blocks, tail)) in (0..).zip(prepared.blocks.into_iter().zip(&mut self.testimony.tails)) {
            for block in blocks {
                let first: Offset = tail.0;
                let (bytes, link, next): (_, Link, _) = block.seal(Partition(partition), first, tail.1);
                write.block(Partition(partition), first, bytes);
                *tail = (next, link);
            }
        }
        for relation in &prepared.change.relations {
            write.relation(relation.schema_hash(), relation);
        }
        for (name, value) in &prepared.change.marks {
            write.mark(name, value.as_deref());
        }
        self.testimony.batches += 1;
        write.commit(self.testimony.batches)?;
        Ok(prepared.change)
    }
}

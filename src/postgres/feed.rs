//! The change feed: a replication session read by one task, which decodes ahead of the log by a few batches at most.
//!
//! Memory stays bounded however large a transaction is: the driver holds a bounded number of messages, the task one batch,
//! the channel [`DELIVERIES_AHEAD_MAX`]; when the log is slow the socket is not read. The driver keeps replying to the
//! server meanwhile, also inside a long transaction, and always with the acknowledged position.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use pgwire_replication::{ReplicationClient, ReplicationEvent};
use sqlx::PgConnection;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::assemble::{Assembler, Start};
use super::catalog::{self, Shape};
use super::connect::Server;
use super::error::{stream, unreadable};
use super::pgoutput::{self, Message, RelationMessage};
use crate::event::{Lsn, Timestamp};
use crate::source::{ChangeFeed, Delivery, Error, Receipt};

/// Batches that wait for the log: one being appended, one ready, so that decoding and syncing overlap.
const DELIVERIES_AHEAD_MAX: usize = 2;

/// What the error says was being done.
const ACTION: &str = "follow the change stream";

/// A running replication session.
#[derive(Debug)]
pub struct PgFeed {
    deliveries: mpsc::Receiver<Result<Delivery, Error>>,
    acknowledged: watch::Sender<u64>,
    wal_end: Arc<AtomicU64>,
    stop: CancellationToken,
    _task: AbortOnDropHandle<()>,
}

impl PgFeed {
    /// Starts streaming from `start.position`. On return the slot is ours.
    ///
    /// # Errors
    /// When the server refuses, also transiently while an earlier session still holds the slot.
    pub async fn open(server: &Server, slot: &str, publication: &str, start: Start) -> Result<Self, Error> {
        let config = server.replication(slot, publication, start.position);
        let mut client = ReplicationClient::connect(config).await.map_err(stream(ACTION))?;
        client.wait_started().await.map_err(stream(ACTION))?;
        let (out, deliveries) = mpsc::channel(DELIVERIES_AHEAD_MAX);
        let (acknowledged, acknowledgements) = watch::channel(start.position.0);
        let wal_end = Arc::new(AtomicU64::new(start.position.0));
        let stop = CancellationToken::new();
        let reader = Reader {
            client,
            assembler: Assembler::new(start),
            shapes: Shapes { server: server.clone(), connection: None, known: HashMap::new() },
            wal_end: Arc::clone(&wal_end),
        };
        let task = tokio::spawn(reader.run(out, acknowledgements, stop.clone()));
        Ok(Self { deliveries, acknowledged, wal_end, stop, _task: AbortOnDropHandle::new(task) })
    }

    /// Asks the feed to end; `next` then answers `None` once the session is closed.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// End of the server's WAL, as far as the session has told.
    pub fn wal_end(&self) -> Lsn {
        Lsn(self.wal_end.load(Ordering::Relaxed))
    }
}

#[async_trait]
impl ChangeFeed for PgFeed {
    async fn next(&mut self) -> Result<Option<Delivery>, Error> {
        self.deliveries.recv().await.transpose()
    }

    fn acknowledge(&mut self, receipt: Receipt) {
        self.acknowledged.send_replace(receipt.0);
    }
}

/// The task's state.
struct Reader {
    client: ReplicationClient,
    assembler: Assembler,
    shapes: Shapes,
    wal_end: Arc<AtomicU64>,
}

impl Reader {
    async fn run(
        mut self,
        out: mpsc::Sender<Result<Delivery, Error>>,
        mut acknowledgements: watch::Receiver<u64>,
        stop: CancellationToken,
    ) {
        let ended = self.read(&out, &mut acknowledgements, &stop).await;
        if let Err(error) = ended {
            // The receiver may be gone, and then nobody asks.
            let _ = out.send(Err(error)).await;
        }
        // Closing in order frees the slot at once; an error here is about a session that is over anyway.
        let _ = self.client.shutdown().await;
    }

    async fn read(
        &mut self,
        out: &mpsc::Sender<Result<Delivery, Error>>,
        acknowledgements: &mut watch::Receiver<u64>,
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        loop {
            // Messages go first while the batch has room, so that batches fill up under load; all branches are
            // cancel-safe, as the driver's receiver is a channel.
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                changed = acknowledgements.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    let position = *acknowledgements.borrow_and_update();
                    self.client.update_applied_lsn(pgwire_replication::Lsn(position));
                }
                event = self.client.recv(), if !self.assembler.full() => {
                    match event.map_err(stream(ACTION))? {
                        Some(event) => self.take(event).await?,
                        None => {
                            return Err(Error::Unreachable { action: ACTION, reason: "the session ended".into() });
                        }
                    }
                }
                permit = out.reserve(), if self.assembler.ready() => {
                    let Ok(permit) = permit else { return Ok(()) };
                    permit.send(Ok(self.assembler.take()));
                }
            }
        }
    }

    async fn take(&mut self, event: ReplicationEvent) -> Result<(), Error> {
        match event {
            ReplicationEvent::Begin { final_lsn, xid, commit_time_micros } => {
                self.assembler.begin(xid, Lsn(final_lsn.as_u64()), Timestamp(commit_time_micros));
            }
            ReplicationEvent::XLogData { wal_end, data, .. } => {
                self.wal_end.fetch_max(wal_end.as_u64(), Ordering::Relaxed);
                let bytes = data.len();
                match pgoutput::parse(data).map_err(|broken| unreadable(ACTION, broken.to_string()))? {
                    Message::Relation(message) => {
                        let (oid, shape) = (message.oid, self.shapes.resolve(message).await?);
                        self.assembler.define(oid, shape)
                    }
                    message => self.assembler.change(message, bytes),
                }
                .map_err(|inconsistent| unreadable(ACTION, inconsistent.to_string()))?;
            }
            ReplicationEvent::Commit { end_lsn, .. } => self.assembler.commit(Lsn(end_lsn.as_u64())),
            ReplicationEvent::KeepAlive { wal_end, .. } => {
                self.wal_end.fetch_max(wal_end.as_u64(), Ordering::Relaxed);
                self.assembler.idle(Lsn(wal_end.as_u64()));
            }
            // A message's own position is no more than its transaction's commit or the next keepalive says.
            ReplicationEvent::Message { .. } | ReplicationEvent::StoppedAt { .. } => {}
        }
        Ok(())
    }
}

/// Resolves relation messages to shapes, asking the catalog once for each new description.
struct Shapes {
    server: Server,
    connection: Option<PgConnection>,
    known: HashMap<u32, (RelationMessage, Shape)>,
}

impl Shapes {
    async fn resolve(&mut self, message: RelationMessage) -> Result<Shape, Error> {
        if let Some((known, shape)) = self.known.get(&message.oid)
            && *known == message
        {
            return Ok(shape.clone());
        }
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.server.connect().await?,
        };
        // A connection that failed is not kept: the error ends the feed, and the next one opens its own.
        let shape = catalog::relation_from_pgoutput(&mut connection, &message).await?;
        self.connection = Some(connection);
        self.known.insert(message.oid, (message, shape.clone()));
        Ok(shape)
    }
}

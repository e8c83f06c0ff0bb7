//! The change feed: a replication session read by a thread of its own, which decodes ahead of the log by a few batches at most.
//!
//! Memory stays bounded however large a transaction is: the driver holds a bounded number of messages, the reader one batch,
//! the channel [`DELIVERIES_AHEAD_MAX`]; when the log is slow the socket is not read. The driver keeps replying to the
//! server meanwhile, also inside a long transaction, and always with the acknowledged position.
//!
//! The server sends each change by itself. Over TCP on one machine each of those sends carries the receiver's part of the
//! work and its wake-up too, and that, not decoding, bounded the stream: 125,000 rows a second when each message was read at
//! once, 195,000 when the socket was left alone for a millisecond whenever it had run dry. The thread is for that: while it
//! sleeps nothing waits on the socket. A Unix socket does not have that cost.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use pgwire_replication::{ReplicationClient, ReplicationConfig, ReplicationEvent};
use sqlx::PgConnection;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::assemble::{Assembler, Inconsistent, Start};
use super::catalog::{self, Shape};
use super::connect::Server;
use super::error::{stream, unreadable};
use super::pgoutput::{self, Message, RelationMessage};
use crate::event::{Lsn, Timestamp};
use crate::source::{ChangeFeed, Delivery, Error, Receipt};

/// Batches that wait for the log: one being appended, one ready, so that decoding and syncing overlap.
const DELIVERIES_AHEAD_MAX: usize = 2;

/// How long the socket is left alone when it ran dry: two hundred messages at the rate of one server process, and little
/// beside the sync that each batch waits for.
const GATHER: Duration = Duration::from_millis(1);

/// With fewer messages than this at once the socket has run dry.
const DRY: u64 = 64;

/// How long a session may take to close in order; a server that does not answer is left.
const CLOSING: Duration = Duration::from_secs(5);

/// What the error says was being done.
const ACTION: &str = "follow the change stream";

/// A running replication session; its thread ends soon after this value is dropped.
#[derive(Debug)]
pub struct PgFeed {
    deliveries: mpsc::Receiver<Result<Delivery, Error>>,
    acknowledged: watch::Sender<u64>,
    wal_end: Arc<AtomicU64>,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
}

impl PgFeed {
    /// Starts streaming from `start.position`. On return the slot is ours.
    ///
    /// # Errors
    /// When the server refuses, also transiently while an earlier session still holds the slot.
    pub async fn open(server: &Server, slot: &str, publication: &str, start: Start) -> Result<Self, Error> {
        let (out, deliveries) = mpsc::channel(DELIVERIES_AHEAD_MAX);
        let (acknowledged, acknowledgements) = watch::channel(start.position.0);
        let wal_end = Arc::new(AtomicU64::new(start.position.0));
        let stop = CancellationToken::new();
        let stop_on_drop = stop.clone().drop_guard();
        let (started, has_started) = oneshot::channel();
        let config = server.replication(slot, publication, start.position);
        let session = Session {
            config,
            assembler: Assembler::new(start),
            shapes: Shapes { server: server.clone(), connection: None, known: HashMap::new() },
            wal_end: Arc::clone(&wal_end),
            gather: if server.local() { Gather::No } else { Gather::Yes },
            out,
            acknowledgements,
            stop: stop.clone(),
        };
        // A blocking task is waited for when the runtime ends.
        tokio::task::spawn_blocking(move || session.run(started));
        let ended = |_| Error::Unreachable { action: ACTION, reason: "the session ended".into() };
        has_started.await.map_err(ended)??;
        Ok(Self { deliveries, acknowledged, wal_end, stop, _stop_on_drop: stop_on_drop })
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

    fn stop(&mut self) {
        self.stop.cancel();
    }
}

/// Whether messages are left to gather on the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gather {
    Yes,
    No,
}

/// What the thread is given.
struct Session {
    config: ReplicationConfig,
    assembler: Assembler,
    shapes: Shapes,
    wal_end: Arc<AtomicU64>,
    gather: Gather,
    out: mpsc::Sender<Result<Delivery, Error>>,
    acknowledgements: watch::Receiver<u64>,
    stop: CancellationToken,
}

impl Session {
    /// Connects, tells of it, and reads to the end; on a runtime of this thread's own, where the driver's task runs too.
    fn run(self, started: oneshot::Sender<Result<(), Error>>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => {
                let _ = started.send(Err(Error::Unreachable { action: ACTION, reason: error.to_string() }));
                return;
            }
        };
        runtime.block_on(async {
            let stop = self.stop.clone();
            let client = tokio::select! {
                client = connect(self.config.clone()) => client,
                () = stop.cancelled() => return,
            };
            match client {
                // When nobody waits for the answer any more, the token is cancelled too.
                Ok(client) => {
                    let _ = started.send(Ok(()));
                    self.follow(client).await;
                }
                Err(error) => {
                    let _ = started.send(Err(error));
                }
            }
        });
    }

    async fn follow(self, client: ReplicationClient) {
        let Self { assembler, shapes, wal_end, gather, out, mut acknowledgements, stop, .. } = self;
        let mut reader = Reader { client, assembler, shapes, wal_end, gather, received: 0 };
        let ended = tokio::select! {
            ended = reader.read(&out, &mut acknowledgements) => ended,
            () = stop.cancelled() => Ok(()),
        };
        if let Err(error) = ended {
            // The receiver may be gone, and then nobody asks.
            let _ = out.send(Err(error)).await;
        }
        // Closing in order frees the slot at once; an error here is about a session that is over anyway.
        let _ = tokio::time::timeout(CLOSING, reader.client.shutdown()).await;
    }
}

async fn connect(config: ReplicationConfig) -> Result<ReplicationClient, Error> {
    let mut client = ReplicationClient::connect(config).await.map_err(stream(ACTION))?;
    client.wait_started().await.map_err(stream(ACTION))?;
    Ok(client)
}

/// Reads the session.
struct Reader {
    client: ReplicationClient,
    assembler: Assembler,
    shapes: Shapes,
    wal_end: Arc<AtomicU64>,
    gather: Gather,
    /// Messages taken from the driver.
    received: u64,
}

impl Reader {
    async fn read(
        &mut self,
        out: &mpsc::Sender<Result<Delivery, Error>>,
        acknowledgements: &mut watch::Receiver<u64>,
    ) -> Result<(), Error> {
        loop {
            // Messages go first while the batch has room, so that batches fill up under load; all branches are
            // cancel-safe, as the driver's receiver is a channel.
            tokio::select! {
                biased;
                changed = acknowledgements.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    let position = *acknowledgements.borrow_and_update();
                    self.client.update_applied_lsn(pgwire_replication::Lsn(position));
                }
                event = self.client.recv(), if !self.assembler.full() => {
                    let before = self.received;
                    self.took(event).await?;
                    self.drain().await?;
                    if self.gather == Gather::Yes && self.received - before < DRY {
                        if self.assembler.ready() && let Ok(permit) = out.try_reserve() {
                            permit.send(Ok(self.assembler.take()));
                        }
                        // The thread, not the task: the driver must not read meanwhile.
                        std::thread::sleep(GATHER);
                    }
                }
                permit = out.reserve(), if self.assembler.ready() => {
                    let Ok(permit) = permit else { return Ok(()) };
                    permit.send(Ok(self.assembler.take()));
                }
            }
        }
    }

    /// Takes the messages that the driver holds already, without asking the other branches before each.
    ///
    /// Only as many as it says it has handed over: a receive that would wait, perhaps for the session's end, must not be
    /// given up half-way.
    async fn drain(&mut self) -> Result<(), Error> {
        let handed_over = self.client.metrics().events_forwarded();
        while self.received < handed_over && !self.assembler.full() {
            // None when this task's turn is over, too.
            let Some(event) = self.client.recv().now_or_never() else { break };
            self.took(event).await?;
        }
        Ok(())
    }

    async fn took(&mut self, event: pgwire_replication::Result<Option<ReplicationEvent>>) -> Result<(), Error> {
        match event.map_err(stream(ACTION))? {
            Some(event) => {
                self.received += 1;
                self.take(event).await
            }
            None => Err(Error::Unreachable { action: ACTION, reason: "the session ended".into() }),
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
                match pgoutput::parse(&data).map_err(|broken| unreadable(ACTION, broken.to_string()))? {
                    Message::Relation(message) => {
                        let (oid, shape) = (message.oid, self.shapes.resolve(message).await?);
                        self.assembler.define(oid, shape)
                    }
                    message => self.assembler.change(message, bytes),
                }
                .map_err(refused)?;
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

/// Without a row's key, or with another one, only reading everything again helps: the preflight then says what is to be mended.
fn refused(inconsistent: Inconsistent) -> Error {
    match inconsistent {
        Inconsistent::NoKey(_) | Inconsistent::OtherKey { .. } => Error::Lost { reason: inconsistent.to_string() },
        other => unreadable(ACTION, other.to_string()),
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
        // Under the identity FULL the description does not tell the key, so it may have changed beside the same description.
        let tells_key = message.columns.iter().any(|column| !column.identity);
        if let Some((known, shape)) = self.known.get(&message.oid)
            && *known == message
            && tells_key
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

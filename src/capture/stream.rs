//! From the change feed to the log: append, then acknowledge, never the other way round (I2).

use tokio::sync::{mpsc, watch};

use super::Error;
use super::epoch::Session;
use super::run::{Context, Ended};
use crate::event::Lsn;
use crate::source::{ChangeFeed, Copied, Error as SourceError, RangeId, RangeOutcome, Snapshot};

/// Follows the stream until it fails, or until a shutdown; then the session is closed in order, so that the slot is free.
pub(super) async fn follow(context: &Context, session: &Session, durable: &watch::Sender<Lsn>) -> Result<Ended, Error> {
    let mut feed = tokio::select! {
        () = context.shutdown.cancelled() => return Ok(Ended::Shutdown),
        feed = session.feed(context) => feed?,
    };
    let mut stopping = false;
    loop {
        let delivery = tokio::select! {
            delivery = feed.next() => delivery?,
            () = context.shutdown.cancelled(), if !stopping => {
                stopping = true;
                feed.stop();
                continue;
            }
        };
        let Some(delivery) = delivery else { return Ok(Ended::Shutdown) };
        let events = delivery.batch.events.len() as u64;
        context.log.append(delivery.batch).await?;
        feed.acknowledge(delivery.receipt);
        let position = Lsn(delivery.receipt.0);
        durable.send_if_modified(|known| std::mem::replace(known, position) != position);
        let wal_end = feed.wal_end();
        context.tell(|status| {
            status.durable = position;
            status.wal_end = status.wal_end.max(wal_end);
            status.streamed += events;
        });
    }
}

/// Reads a feed into nothing until its position has passed `until`; returns the number of events. For measuring.
///
/// # Errors
/// Those of the feed.
pub async fn null_stream(feed: &mut dyn ChangeFeed, until: Lsn) -> Result<u64, SourceError> {
    let mut events = 0;
    while let Some(delivery) = feed.next().await? {
        events += delivery.batch.events.len() as u64;
        feed.acknowledge(delivery.receipt);
        if delivery.receipt.0 >= until.0 {
            break;
        }
    }
    Ok(events)
}

/// Reads a range into nothing. For measuring.
///
/// # Errors
/// Those of the snapshot.
pub async fn null_copy(snapshot: &dyn Snapshot, range: RangeId) -> Result<Copied, SourceError> {
    let (out, mut batches) = mpsc::channel(super::copy::BATCHES_AHEAD_MAX);
    let drain = async { while batches.recv().await.is_some() {} };
    let (outcome, ()) = tokio::join!(snapshot.copy(range, out), drain);
    match outcome? {
        RangeOutcome::Copied(copied) => Ok(copied),
        RangeOutcome::Moved | RangeOutcome::SnapshotGone => {
            Err(SourceError::Lost { reason: "the range could not be read".into() })
        }
    }
}

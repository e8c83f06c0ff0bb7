//! Follows a Postgres stream, and reads sources into nothing, for measuring.

use tokio::sync::{mpsc, watch};

use super::Error;
use super::drive::Ended;
use super::epoch::Session;
use super::run::Context;
use crate::event::Lsn;
use crate::source::{ChangeFeed, Copied, Error as SourceError, RangeId, RangeOutcome, Snapshot};

/// Follows the stream until it fails, or until a shutdown; then the session is closed in order, so that the slot is free.
pub(super) async fn follow(context: &Context, session: &Session, durable: &watch::Sender<Lsn>) -> Result<Ended, Error> {
    let mut feed = tokio::select! {
        () = context.shutdown.cancelled() => return Ok(Ended::Shutdown),
        feed = session.feed(context) => feed?,
    };
    context
        .drive()
        .follow(&mut feed, |feed, receipt, status| {
            let position = Lsn(receipt.0);
            durable.send_if_modified(|known| std::mem::replace(known, position) != position);
            status.durable = position;
            status.wal_end = status.wal_end.max(feed.wal_end());
        })
        .await
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

//! Writes batches of parts to the target, each in shares, beside whatever else is done.

use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;

use crate::target::{Target, UnitOutcome, UnitWrite};

use super::Error;

/// A connection is not given fewer parts than this: each transaction costs a sync at the target.
const PARTS_PER_SHARE_MIN: usize = 256;

/// Writes batches.
pub struct Writer {
    target: Arc<dyn Target>,
    /// A batch is written in so many shares, and no more of them are written at once, whichever batch they are of.
    shares: usize,
    turns: Arc<Semaphore>,
}

/// A batch that is being written. Dropping it gives up what is not written yet: its version makes repeating it safe.
pub struct Writing {
    writes: Arc<Vec<UnitWrite>>,
    shares: Vec<Share>,
}

/// A share of a batch.
enum Share {
    Going(AbortOnDropHandle<Result<Vec<UnitOutcome>, Error>>),
    Written(Vec<UnitOutcome>),
}

impl Writer {
    /// A writer that uses so many connections of the target's.
    pub fn new(target: Arc<dyn Target>, connections: usize) -> Self {
        let shares = connections.max(1);
        Self { target, shares, turns: Arc::new(Semaphore::new(shares)) }
    }

    /// The target.
    pub fn target(&self) -> &dyn Target {
        &*self.target
    }

    /// Begins to write a batch; the parts of one unit stay together.
    pub fn begin(&self, writes: Vec<UnitWrite>) -> Writing {
        let writes = Arc::new(writes);
        let size = writes.len().div_ceil(self.shares).max(PARTS_PER_SHARE_MIN);
        let shares = shares(&writes, size).into_iter().map(|share| {
            let (target, turns, writes) = (Arc::clone(&self.target), Arc::clone(&self.turns), Arc::clone(&writes));
            Share::Going(AbortOnDropHandle::new(tokio::spawn(async move {
                let _turn = turns.acquire().await.expect("nobody closes it");
                write(&*target, &writes[share]).await
            })))
        });
        let shares = shares.collect();
        Writing { writes, shares }
    }
}

impl Writing {
    /// What is written.
    pub fn writes(&self) -> &[UnitWrite] {
        &self.writes
    }

    /// Waits until all of it is written, or one share is refused, whichever stands before it. Cancel-safe.
    pub async fn written(&mut self) -> Result<(), Error> {
        std::future::poll_fn(|context| {
            let mut all = true;
            for share in &mut self.shares {
                let Share::Going(going) = share else { continue };
                match Pin::new(going).poll(context) {
                    Poll::Ready(done) => {
                        *share = Share::Written(done.expect("writing does not panic, and nobody gave it up")?)
                    }
                    Poll::Pending => all = false,
                }
            }
            if all { Poll::Ready(Ok(())) } else { Poll::Pending }
        })
        .await
    }

    /// What became of each write, in their order, once all of it is [`written`](Self::written).
    pub fn take_outcomes(&mut self) -> Vec<UnitOutcome> {
        let mut outcomes = Vec::with_capacity(self.writes.len());
        for share in &mut self.shares {
            let Share::Written(of_share) = share else { unreachable!("all of it is written") };
            outcomes.append(of_share);
        }
        outcomes
    }

    /// Gives up what is not written yet, and waits until nothing of it is on its way.
    pub async fn give_up(self) {
        let going = |share| if let Share::Going(going) = share { Some(going) } else { None };
        let going: Vec<_> = self.shares.into_iter().filter_map(going).collect();
        going.iter().for_each(AbortOnDropHandle::abort);
        for share in going {
            if !share.is_finished() {
                // Whoever gives it up has a reason of its own to tell.
                let _ = share.await;
            }
        }
    }
}

/// Cuts a batch in pieces of at least so many parts, between units.
fn shares(writes: &[UnitWrite], size: usize) -> Vec<Range<usize>> {
    let (mut shares, mut begin) = (Vec::new(), 0);
    while begin < writes.len() {
        let boundary = |at: &usize| writes[*at].unit != writes[*at - 1].unit;
        let end = (begin + size..writes.len()).find(boundary).unwrap_or(writes.len());
        shares.push(begin..end);
        begin = end;
    }
    shares
}

/// Writes a share, again and again while the target cannot be reached.
async fn write(target: &dyn Target, writes: &[UnitWrite]) -> Result<Vec<UnitOutcome>, Error> {
    let patience = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(50))
        .with_max_delay(Duration::from_secs(10))
        .without_max_times()
        .with_jitter();
    let attempt = || async { target.apply(writes).await };
    let outcomes = attempt
        .retry(patience)
        .when(|error| matches!(error, crate::target::Error::Unreachable { .. }))
        .notify(|error, pause| {
            tracing::warn!(error = %error, pause_ms = pause.as_millis(), "target unreachable, trying again");
        })
        .await?;
    Ok(outcomes)
}

//! What every capture does, whatever the source: sessions one after another, each from where the log ends, and within each
//! the change feed into the log.

use std::time::Duration;

use async_trait::async_trait;
use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{CaptureStatus, Error, Phase};
use crate::event::Lsn;
use crate::log::{Batch, EventLog};
use crate::source::{ChangeFeed, Error as SourceError, Fault, Receipt};

/// First wait before trying again.
const RETRY_MIN: Duration = Duration::from_millis(100);
/// Longest wait between two tries: a source that is back is noticed within it.
const RETRY_MAX: Duration = Duration::from_secs(10);

/// How a session ended, other than by an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ended {
    /// A person wanted it so.
    Shutdown,
    /// The epoch is over.
    Lost(String),
}

/// A source's own part of a capture.
#[async_trait]
pub(super) trait Sessions: Send + Sync {
    /// One session: from connecting to the first error, loss or shutdown; sets `connected` as soon as it is.
    async fn session(&self, connected: &mut bool) -> Result<Ended, Error>;
}

/// What driving a capture needs of it.
#[derive(Clone, Copy)]
pub(super) struct Drive<'a> {
    /// The log.
    pub log: &'a dyn EventLog,
    /// What is told meanwhile.
    pub status: &'a watch::Sender<CaptureStatus>,
    /// Ends it.
    pub shutdown: &'a CancellationToken,
    /// The log's mark that says why an epoch is over.
    pub lost: &'static str,
}

impl Drive<'_> {
    /// Runs one session after another.
    ///
    /// After a lost connection it tries again by itself, for ever, once it was connected a first time; before that, and on
    /// everything that waiting will not mend, it returns the error.
    pub async fn run(&self, capture: &dyn Sessions) -> Result<(), Error> {
        let outcome = self.sessions(capture).await;
        self.status.send_modify(|status| {
            status.phase = Phase::Stopped;
            status.error = outcome.as_ref().err().map(ToString::to_string);
        });
        outcome
    }

    async fn sessions(&self, capture: &dyn Sessions) -> Result<(), Error> {
        let mut waits = waits();
        let mut connected = false;
        while !self.shutdown.is_cancelled() {
            let before = self.progress();
            let error = match capture.session(&mut connected).await {
                Ok(Ended::Shutdown) => return Ok(()),
                Ok(Ended::Lost(reason)) => {
                    self.lost(reason).await?;
                    continue;
                }
                Err(Error::Source(error)) => match error.fault() {
                    Fault::Lost => {
                        self.lost(error.to_string()).await?;
                        continue;
                    }
                    Fault::Transient if connected || in_use(&error) => error,
                    Fault::Transient | Fault::Fatal => return Err(error.into()),
                },
                Err(error) => return Err(error),
            };
            if self.progress() > before {
                waits = self::waits();
            }
            let wait = waits.next().unwrap_or(RETRY_MAX);
            tracing::warn!(%error, wait_ms = wait.as_millis(), "the source went away, trying again");
            self.status.send_modify(|status| {
                status.phase = Phase::Waiting;
                status.error = Some(error.to_string());
                status.retries += 1;
            });
            tokio::select! {
                () = self.shutdown.cancelled() => return Ok(()),
                () = tokio::time::sleep(wait) => {}
            }
        }
        Ok(())
    }

    /// Position, and events and rows so far: more of either means that the last session got somewhere.
    fn progress(&self) -> (Lsn, u64) {
        let status = self.status.borrow();
        (status.durable, status.streamed + status.tables.values().map(|table| table.rows).sum::<u64>())
    }

    /// Records that the epoch is over; the next session opens another.
    async fn lost(&self, reason: String) -> Result<(), Error> {
        tracing::error!(%reason, "continuity with the source is lost: opening a new epoch, which reads everything again");
        let marks = [(self.lost.to_owned(), Some(reason.into_bytes()))].into();
        self.log.append(Batch { marks, ..Batch::default() }).await?;
        Ok(())
    }

    /// From the change feed to the log: append, then acknowledge, never the other way round (I2).
    ///
    /// Ends when the feed does: by an error, or after a shutdown, when it has closed its session in order. `told` hears of each
    /// delivery that the log has.
    pub async fn follow<F: ChangeFeed>(
        &self,
        feed: &mut F,
        mut told: impl FnMut(&F, Receipt, &mut CaptureStatus),
    ) -> Result<Ended, Error> {
        let mut stopping = false;
        loop {
            let delivery = tokio::select! {
                delivery = feed.next() => delivery?,
                () = self.shutdown.cancelled(), if !stopping => {
                    stopping = true;
                    feed.stop();
                    continue;
                }
            };
            let Some(delivery) = delivery else { return Ok(Ended::Shutdown) };
            let events = delivery.batch.events.len() as u64;
            self.log.append(delivery.batch).await?;
            feed.acknowledge(delivery.receipt);
            self.status.send_modify(|status| {
                status.streamed += events;
                told(feed, delivery.receipt, status);
            });
        }
    }
}

fn waits() -> ExponentialBackoff {
    ExponentialBuilder::default().with_min_delay(RETRY_MIN).with_max_delay(RETRY_MAX).without_max_times().build()
}

/// Whether a Postgres server answered that the slot is still held, by a session that it has not yet seen go.
fn in_use(error: &SourceError) -> bool {
    matches!(error, SourceError::Refused { code, .. } if code == "55006")
}

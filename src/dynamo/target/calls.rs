//! One call to the service: bounded in number, held to a rate, tried again while it is throttled, and counted.
//!
//! Only throttling is waited out here, because it is what the rate has to learn from. Everything else that may pass goes up
//! as [`Error::Unreachable`], and the caller repeats the whole batch: nothing here decides what a lost answer meant.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::ConsumedCapacity;
use backon::{BackoffBuilder as _, ExponentialBuilder};
use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::dynamo::error::{Failure, Kind, of_failure};
use crate::dynamo::pace::Pace;
use crate::source;
use crate::target::Error;

/// Shortest and longest wait before a throttled call is made again.
const WAIT: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// Times that a throttled call is made again: about half a minute. After that the caller repeats the batch.
const RETRIES_MAX: usize = 10;

/// What a target consumed since it was opened, and how fast it writes now.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Consumed {
    /// Write units, those of indexes included; a refused condition counts as what it costs by the documentation.
    pub write_units: f64,
    /// Write units a second, lately.
    pub write_units_per_second: f64,
    /// Write units a second that it holds itself to; `None` is unlimited.
    pub write_units_limit: Option<f64>,
    /// Read units of looks before writes.
    pub read_units: f64,
    /// Calls that were throttled, and batches of which something was left unprocessed.
    pub throttled: u64,
    /// Calls made again after that.
    pub retried: u64,
}

/// What is counted here.
#[derive(Debug, Default)]
struct Counts {
    read_units: f64,
    write_units: f64,
    throttled: u64,
    retried: u64,
}

/// The service, as a target calls it.
#[derive(Debug)]
pub struct Calls {
    client: Client,
    /// Calls under way.
    permits: Semaphore,
    /// Rate of writes; reads are few beside them.
    pace: Pace,
    counts: Mutex<Counts>,
}

/// What a call consumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Read units.
    Read,
    /// Write units; the call waits until the rate allows it.
    Write,
}

/// The waits between the tries of one call.
pub struct Patience(<ExponentialBuilder as backon::BackoffBuilder>::Backoff);

impl Patience {
    /// All tries are left.
    pub fn new() -> Self {
        let waits = ExponentialBuilder::default()
            .with_min_delay(WAIT.0)
            .with_max_delay(WAIT.1)
            .with_max_times(RETRIES_MAX)
            .with_jitter();
        Self(waits.build())
    }
}

impl Calls {
    /// Makes at most `concurrency` calls at once, and writes at most `write_units_max` units a second where that is given.
    pub fn new(client: Client, concurrency: usize, write_units_max: Option<u32>) -> Self {
        let permits = Semaphore::new(concurrency.max(1));
        Self { client, permits, pace: Pace::new(write_units_max), counts: Mutex::default() }
    }

    /// The client.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Makes a call, again while it is throttled.
    ///
    /// # Errors
    /// The last failure.
    pub async fn call<T, F>(&self, consumes: Use, mut attempt: impl FnMut() -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let mut patience = Patience::new();
        loop {
            let permit = self.ready(consumes).await;
            let answer = attempt().await;
            drop(permit);
            match answer {
                Err(failure) if failure.kind == Kind::Throttled => {
                    self.throttled(consumes);
                    if !self.wait(&mut patience).await {
                        return Err(failure);
                    }
                }
                // Another transaction holds the item for the moment; that says nothing of the rate.
                Err(failure) if passing(&failure.code) => {
                    if !self.wait(&mut patience).await {
                        return Err(Failure { kind: Kind::Unreachable, ..failure });
                    }
                }
                answer => return answer,
            }
        }
    }

    /// Waits before a call is made again; `false` when it was made often enough.
    pub async fn wait(&self, patience: &mut Patience) -> bool {
        let Some(wait) = patience.0.next() else { return false };
        tokio::time::sleep(wait).await;
        self.with(|counts| counts.retried += 1);
        true
    }

    /// Takes in that a call was throttled, or a part of it.
    pub fn throttled(&self, consumes: Use) {
        self.with(|counts| counts.throttled += 1);
        if consumes == Use::Write {
            self.pace.throttled();
        }
    }

    /// Takes in what an answer says was consumed.
    pub fn consumed(&self, consumes: Use, capacity: &[ConsumedCapacity]) {
        let units = capacity.iter().filter_map(ConsumedCapacity::capacity_units).sum();
        self.spent(consumes, units);
    }

    /// Takes in the units of a write of which the answer does not say them.
    pub fn wrote(&self, units: f64) {
        self.spent(Use::Write, units);
    }

    /// What was consumed so far.
    pub fn report(&self) -> Consumed {
        let rate = self.pace.rate();
        self.with(|counts| Consumed {
            write_units: counts.write_units,
            write_units_per_second: rate.units_per_second as f64,
            write_units_limit: rate.limit.map(|limit| limit as f64),
            read_units: counts.read_units,
            throttled: counts.throttled,
            retried: counts.retried,
        })
    }

    async fn ready(&self, consumes: Use) -> SemaphorePermit<'_> {
        let permit = self.permits.acquire().await.expect("the permits are never closed");
        if consumes == Use::Write {
            self.pace.ready().await;
        }
        permit
    }

    fn spent(&self, consumes: Use, units: f64) {
        match consumes {
            Use::Read => self.with(|counts| counts.read_units += units),
            Use::Write => {
                self.pace.spent(units);
                self.with(|counts| counts.write_units += units);
            }
        }
    }

    fn with<T>(&self, use_it: impl FnOnce(&mut Counts) -> T) -> T {
        use_it(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What writing an item costs, without indexes: a unit for each KiB that is begun of it, or of the larger one that it replaces.
pub fn write_units(bytes: usize) -> f64 {
    // An item has at most 400 KB: the number is exact.
    bytes.div_ceil(1024).max(1) as f64
}

/// Refusals that another try a moment later does not meet.
fn passing(code: &str) -> bool {
    matches!(
        code,
        "TransactionConflictException" | "TransactionInProgressException" | "ReplicatedWriteConflictException"
    )
}

/// Awaits calls, so many at once; their answers come in any order.
///
/// # Errors
/// The first one; calls under way are given up then.
pub async fn together<'a, T: Send>(
    at_once: usize,
    calls: Box<dyn Iterator<Item = BoxFuture<'a, Result<T, Error>>> + Send + 'a>,
) -> Result<Vec<T>, Error> {
    stream::iter(calls).buffer_unordered(at_once.max(1)).try_collect().await
}

/// A failure as the target's error, with what to do next.
pub fn failed(action: &'static str, place: &str, failure: Failure) -> Error {
    match of_failure(action, &format!("table {place}"), failure) {
        source::Error::Refused { action, code, message } => {
            Error::Refused { action, code, message: format!("table {place}: {message}") }
        }
        source::Error::Unreachable { action, reason } => Error::Unreachable { action, source: reason.into() },
        source::Error::Throttled { action, code } => Error::Unreachable { action, source: code.into() },
        other => Error::Refused { action, code: "answer".to_owned(), message: other.to_string() },
    }
}

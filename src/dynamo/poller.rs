//! Reads one shard, page after page, and describes a stream, again and again: the tasks of the feed.
//!
//! A page without records is not the end of a shard, and a shard that is not found is not one that ended: only an answer
//! without a next iterator ends it. An iterator lives for 15 minutes; an expired one is replaced by one after the last
//! record that was handed over.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodbstreams::operation::get_records::GetRecordsOutput;
use aws_sdk_dynamodbstreams::types::{ShardIteratorType, StreamStatus};
use backon::{BackoffBuilder as _, ExponentialBuilder};
use tokio::sync::{Notify, Semaphore, mpsc};

use super::connect::{Server, retry};
use super::error::{Failure, Kind, failure, of_failure, sdk, unreadable};
use super::record;
use super::shards::{Description, Listed, RETENTION_US, ShardId};
use super::table::Shape;
use crate::event::{Epoch, Event, Timestamp};
use crate::source::{Clock, Error, Fault};

/// What the errors say was being done.
const ACTION: &str = "follow the change stream";
/// Tries of one page before the feed is given up, and the session with it.
const RETRIES_MAX: usize = 6;
/// Descriptions of one stream are at least so far apart: an account has ten calls a second for all of them.
const DESCRIBE_APART: Duration = Duration::from_millis(300);

/// What all tasks of a stream share.
#[derive(Debug)]
pub(super) struct Stream {
    /// Its number among the feed's streams.
    pub(super) number: usize,
    /// The table's shape.
    pub(super) shape: Shape,
    /// Its name.
    pub(super) arn: String,
    pub(super) server: Server,
    pub(super) epoch: Epoch,
    pub(super) clock: Clock,
    /// Wait after an empty page.
    pub(super) poll: Duration,
    /// Wait between two descriptions when nothing calls for one.
    pub(super) discover: Duration,
    /// Calls for a description.
    pub(super) soon: Notify,
    /// Pages that may be handed over at once, of all shards; one more of each may be on its way.
    pub(super) pages: Arc<Semaphore>,
    pub(super) out: mpsc::Sender<Report>,
}

/// What a task tells the feed.
#[derive(Debug)]
pub(super) struct Report {
    /// The stream's number.
    pub(super) stream: usize,
    pub(super) what: What,
}

/// See [`Report`].
#[derive(Debug)]
pub(super) enum What {
    /// All pages of a description.
    Described(Description),
    /// A page of a shard.
    Page { shard: ShardId, page: Page },
    /// A shard, or the stream, is not found any more.
    NotFound { shard: Option<ShardId> },
    /// The feed has to end.
    Failed(Error),
}

/// A page of a shard.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) events: Vec<Event>,
    /// Size of the records as the service counts it.
    pub(super) bytes: usize,
    /// Sequence number of the last record.
    pub(super) last: Option<Box<str>>,
    /// When the newest record was written.
    pub(super) written: Option<Timestamp>,
    /// When the page was asked for.
    pub(super) asked: Timestamp,
    /// Whether the shard ends with it.
    pub(super) end: bool,
}

impl Stream {
    /// What errors call it.
    fn place(&self) -> String {
        format!("the stream of table {}", self.shape.table())
    }

    async fn tell(&self, what: What) -> Result<(), Stopped> {
        self.out.send(Report { stream: self.number, what }).await.map_err(|_| Stopped)
    }
}

/// The feed has gone.
pub(super) struct Stopped;

/// Describes the stream until the feed has gone.
pub(super) async fn describe_for_ever(stream: Arc<Stream>) -> Result<(), Stopped> {
    loop {
        let what = match describe(&stream).await {
            Ok(Some(description)) => What::Described(description),
            Ok(None) => What::NotFound { shard: None },
            Err(error) => What::Failed(error),
        };
        stream.tell(what).await?;
        tokio::select! {
            () = tokio::time::sleep(stream.discover) => {}
            () = stream.soon.notified() => tokio::time::sleep(DESCRIBE_APART.min(stream.discover)).await,
        }
    }
}

/// Reads all pages of a description; `None` when there is no such stream.
async fn describe(stream: &Stream) -> Result<Option<Description>, Error> {
    const ACTION: &str = "describe a change stream";
    let asked = stream.clock.now();
    let mut description = Description { asked, shards: Vec::new(), enabled: true };
    let mut from: Option<String> = None;
    loop {
        let page = retry(|| async {
            let request = stream.server.streams().describe_stream().stream_arn(&stream.arn);
            match request.set_exclusive_start_shard_id(from.clone()).send().await {
                Ok(answer) => Ok(Some(answer)),
                Err(error) => match failure(&error) {
                    failure if failure.kind == Kind::NotFound => Ok(None),
                    failure => Err(of_failure(ACTION, &stream.place(), failure)),
                },
            }
        });
        let Some(page) = page.await? else { return Ok(None) };
        let page = page.stream_description.ok_or_else(|| unreadable(ACTION, "no description"))?;
        let enabled = |status: &StreamStatus| matches!(status, StreamStatus::Enabled | StreamStatus::Enabling);
        description.enabled = page.stream_status().is_none_or(enabled);
        for shard in page.shards.unwrap_or_default() {
            let id = shard.shard_id.ok_or_else(|| unreadable(ACTION, "a shard without a name"))?;
            description.shards.push(Listed { id: id.into(), parent: shard.parent_shard_id.map(Into::into) });
        }
        from = page.last_evaluated_shard_id;
        if from.is_none() {
            return Ok(Some(description));
        }
    }
}

/// A shard to read.
pub(super) struct Poller {
    pub(super) stream: Arc<Stream>,
    pub(super) shard: ShardId,
    /// The log holds everything up to here; `None` begins where the shard does.
    pub(super) after: Option<Box<str>>,
    /// Records from then on are needed.
    pub(super) needed_from: Timestamp,
}

/// Why reading a shard stops before its end.
enum Halt {
    Stopped,
    NotFound,
    Failed(Error),
}

impl From<Error> for Halt {
    fn from(error: Error) -> Self {
        Halt::Failed(error)
    }
}

impl From<Stopped> for Halt {
    fn from(_: Stopped) -> Self {
        Halt::Stopped
    }
}

impl Poller {
    /// Reads the shard to its end, or until the feed has gone.
    pub(super) async fn run(mut self) -> Result<(), Stopped> {
        match self.read().await {
            Ok(()) | Err(Halt::Stopped) => Ok(()),
            Err(Halt::NotFound) => {
                let shard = Some(self.shard.clone());
                self.stream.tell(What::NotFound { shard }).await
            }
            Err(Halt::Failed(error)) => self.stream.tell(What::Failed(error)).await,
        }
    }

    async fn read(&mut self) -> Result<(), Halt> {
        let mut iterator = self.iterator().await?;
        let mut ahead = None;
        loop {
            // Held until the feed has taken the page, so that a slow log stops the reading.
            let pages = Arc::clone(&self.stream.pages);
            let Ok(permit) = pages.acquire().await else { return Ok(()) };
            let (asked, answer) = match ahead.take() {
                Some(fetched) => fetched,
                None => self.records(&iterator).await?,
            };
            let Some(answer) = answer else {
                drop(permit);
                // An iterator that expires at once must not spin.
                tokio::time::sleep(self.stream.poll).await;
                iterator = self.iterator().await?;
                continue;
            };
            let quiet = answer.records().is_empty();
            let Some(next) = answer.next_shard_iterator.clone() else {
                self.hand_over(answer, asked).await?;
                return Ok(());
            };
            if quiet {
                self.hand_over(answer, asked).await?;
                drop(permit);
                tokio::time::sleep(self.stream.poll).await;
            } else {
                // The next page is on its way while this one is decoded.
                let (fetched, last) = tokio::join!(self.records(&next), self.hand_over(answer, asked));
                self.after = last?.or(self.after.take());
                ahead = Some(fetched?);
            }
            iterator = next;
        }
    }

    /// Decodes a page and hands it over; answers the sequence number of its last record.
    async fn hand_over(&self, answer: GetRecordsOutput, asked: Timestamp) -> Result<Option<Box<str>>, Halt> {
        let end = answer.next_shard_iterator.is_none();
        let page = self.page(answer, asked, end)?;
        let last = page.last.clone();
        self.stream.tell(What::Page { shard: self.shard.clone(), page }).await?;
        Ok(last)
    }

    /// Decodes a page.
    fn page(&self, answer: GetRecordsOutput, asked: Timestamp, end: bool) -> Result<Page, Error> {
        let records = answer.records.unwrap_or_default();
        let mut page =
            Page { events: Vec::with_capacity(records.len()), bytes: 0, last: None, written: None, asked, end };
        for record in records {
            let size = record.dynamodb().and_then(|change| change.size_bytes()).unwrap_or(0);
            page.bytes += usize::try_from(size).unwrap_or(0);
            let told = record::read(&self.stream.shape, self.stream.epoch, record)
                .map_err(|broken| unreadable(ACTION, format!("{}: {broken}", self.stream.place())))?;
            page.last = Some(told.sequence);
            page.written = page.written.max(told.written);
            page.events.push(told.event);
        }
        Ok(page)
    }

    /// One page, and when it was asked for; `None` when the iterator is of no use any more and another one is.
    async fn records(&self, iterator: &str) -> Result<(Timestamp, Option<GetRecordsOutput>), Halt> {
        let mut waits = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(100))
            .with_max_delay(Duration::from_secs(4))
            .with_max_times(RETRIES_MAX)
            .with_jitter()
            .build();
        loop {
            let asked = self.stream.clock.now();
            let answer = self.stream.server.streams().get_records().shard_iterator(iterator).send().await;
            let failure: Failure = match answer {
                Ok(answer) => return Ok((asked, Some(answer))),
                Err(error) => failure(&error),
            };
            match failure.kind {
                Kind::ExpiredIterator => return Ok((asked, None)),
                // What was trimmed before anything of the shard was read is older than what is needed of it.
                Kind::Trimmed if self.nothing_needed_is_trimmed() => return Ok((asked, None)),
                Kind::NotFound => return Err(Halt::NotFound),
                _ => {}
            }
            let error = of_failure(ACTION, &self.stream.place(), failure);
            let wait = waits.next().filter(|_| error.fault() == Fault::Transient);
            let Some(wait) = wait else { return Err(error.into()) };
            tracing::warn!(%error, table = self.stream.shape.table(), "reading a page again");
            tokio::time::sleep(wait).await;
        }
    }

    fn nothing_needed_is_trimmed(&self) -> bool {
        self.after.is_none() && self.stream.clock.now().0.saturating_sub(self.needed_from.0) <= RETENTION_US
    }

    /// An iterator behind what was handed over, or at the shard's beginning.
    async fn iterator(&self) -> Result<String, Halt> {
        let asked = retry(|| async {
            let request = self.stream.server.streams().get_shard_iterator();
            let request = request.stream_arn(&self.stream.arn).shard_id(&*self.shard);
            let request = match &self.after {
                Some(after) => {
                    request.shard_iterator_type(ShardIteratorType::AfterSequenceNumber).sequence_number(&**after)
                }
                None => request.shard_iterator_type(ShardIteratorType::TrimHorizon),
            };
            match request.send().await {
                Ok(answer) => Ok(Some(answer.shard_iterator)),
                Err(error) if failure(&error).kind == Kind::NotFound => Ok(None),
                Err(error) => Err(sdk(ACTION, &self.stream.place())(error)),
            }
        });
        let answer = asked.await?.ok_or(Halt::NotFound)?;
        Ok(answer.ok_or_else(|| unreadable(ACTION, "an answer without a shard iterator"))?)
    }
}

//! The snapshot: a table scanned in a fixed number of segments, page by page, with consistent reads.
//!
//! A scan is no snapshot of a moment, and needs to be none: its rows are floors, which any change that the stream tells
//! beats. Each page goes into the log together with the mark of where its segment goes on, so a killed scan reads at most
//! the pages under way again. The number of segments is part of that mark: with another one the places mean nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_dynamodb::operation::scan::ScanOutput;
use aws_sdk_dynamodb::types::ReturnConsumedCapacity;
use backon::{BackoffBuilder as _, ExponentialBuilder};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::codec::{Attributes, read_item, write};
use super::connect::Server;
use super::error::{Kind, failure, of_failure, unreadable};
use super::pace::Pace;
use super::size::item_bytes;
use super::table::Shape;
use crate::event::encoding::ordered::{key_bytes, key_from_bytes};
use crate::event::{Epoch, Event, Flags, Key, Op, Origin, Value, Version, from_hex, to_hex};
use crate::log::Batch;
use crate::source::{Copied, Error, Fault, RangeId, RangeOutcome, Snapshot};

/// What the errors say was being done.
const ACTION: &str = "scan a table";
/// Tries of one page that fails, before the scan is given up and the session with it; a throttled page is tried for ever.
const RETRIES_MAX: usize = 6;
/// Bytes that one unit reads consistently.
const UNIT_BYTES: f64 = 4096.0;
/// Units of a whole page: a megabyte.
const PAGE_UNITS: f64 = 256.0;
/// Size of an item of a table of which none was read yet.
const ITEM_BYTES_GUESS: f64 = 1024.0;
/// Version of the stored form of [`Segment`].
const FORMAT: u32 = 1;

/// Where a segment goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// At its beginning.
    Start,
    /// After the item with this key.
    After(Key),
    /// Nowhere: all of it is in the log.
    Done,
}

/// A segment of a table, and how far it is read: a line of the ledger of an epoch's snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// The table.
    pub table: Box<str>,
    /// Number of the segment, from 0.
    pub number: u32,
    /// Number of segments of the table, the same for all of them and for as long as the epoch lasts.
    pub total: u32,
    /// Where it goes on.
    pub next: Next,
    /// Items in the log.
    pub rows: u64,
    /// Their size, as DynamoDB counts it.
    pub bytes: u64,
}

/// The stored form of [`Segment`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: u32,
    table: Box<str>,
    number: u32,
    total: u32,
    next: StoredNext,
    rows: u64,
    bytes: u64,
}

/// The stored form of [`Next`]; a key is its order-preserving bytes in hexadecimal.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredNext {
    Start,
    After(String),
    Done,
}

impl Segment {
    /// The mark's value.
    pub fn to_bytes(&self) -> Vec<u8> {
        let next = match &self.next {
            Next::Start => StoredNext::Start,
            Next::After(key) => StoredNext::After(to_hex(&key_bytes(key))),
            Next::Done => StoredNext::Done,
        };
        let stored = Stored {
            format: FORMAT,
            table: self.table.clone(),
            number: self.number,
            total: self.total,
            next,
            rows: self.rows,
            bytes: self.bytes,
        };
        serde_json::to_vec(&stored).unwrap_or_default()
    }

    /// Reads [`Segment::to_bytes`]; `None` when it is not of this form.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let stored: Stored = serde_json::from_slice(bytes).ok()?;
        let next = match stored.next {
            StoredNext::Start => Next::Start,
            StoredNext::After(hex) => Next::After(key_from_bytes(&from_hex(&hex)?).ok()?),
            StoredNext::Done => Next::Done,
        };
        (stored.format == FORMAT).then_some(Self {
            table: stored.table,
            number: stored.number,
            total: stored.total,
            next,
            rows: stored.rows,
            bytes: stored.bytes,
        })
    }
}

/// A segment to read.
#[derive(Debug, Clone)]
pub struct SegmentTask {
    /// The table's shape.
    pub shape: Shape,
    /// Where to begin.
    pub segment: Segment,
}

/// Segments of tables, read at a common pace.
///
/// Every batch carries the mark of its segment; the last one's says that it is done.
#[derive(Debug)]
pub struct DynamoScan {
    server: Server,
    epoch: Epoch,
    tasks: BTreeMap<RangeId, SegmentTask>,
    mark: fn(RangeId) -> String,
    pace: Arc<Pace>,
}

impl DynamoScan {
    /// Segments to read; `mark` names the mark of each.
    pub fn new(
        server: Server,
        epoch: Epoch,
        tasks: BTreeMap<RangeId, SegmentTask>,
        mark: fn(RangeId) -> String,
        pace: Arc<Pace>,
    ) -> Self {
        Self { server, epoch, tasks, mark, pace }
    }

    /// One page, however often the table throttles; `None` when there is no such table any more.
    async fn page(&self, shape: &Shape, segment: &Segment) -> Result<Option<ScanOutput>, Error> {
        let start = match &segment.next {
            Next::After(key) => Some(start_key(shape, key)?),
            Next::Start | Next::Done => None,
        };
        let waits = ExponentialBuilder::default().with_min_delay(Duration::from_millis(50)).with_jitter();
        let mut throttled_waits = waits.with_max_delay(Duration::from_secs(10)).without_max_times().build();
        let mut failed_waits = waits.with_max_delay(Duration::from_secs(4)).with_max_times(RETRIES_MAX).build();
        loop {
            self.pace.ready().await;
            let request = self
                .server
                .tables()
                .scan()
                .table_name(shape.table())
                .segment(i32::try_from(segment.number).unwrap_or(i32::MAX))
                .total_segments(i32::try_from(segment.total).unwrap_or(i32::MAX))
                .consistent_read(true)
                .return_consumed_capacity(ReturnConsumedCapacity::Total)
                .set_exclusive_start_key(start.clone())
                .set_limit(self.items_at_once(segment));
            let failure = match request.send().await {
                Ok(answer) => return Ok(Some(answer)),
                Err(error) => failure(&error),
            };
            let waits: &mut dyn Iterator<Item = Duration> = match failure.kind {
                Kind::NotFound => return Ok(None),
                Kind::Throttled => {
                    self.pace.throttled();
                    &mut throttled_waits
                }
                _ => &mut failed_waits,
            };
            let error = of_failure(ACTION, &format!("table {}", shape.table()), failure);
            let wait = waits.next().filter(|_| error.fault() == Fault::Transient);
            let Some(wait) = wait else { return Err(error) };
            tracing::debug!(%error, segment = segment.number, "reading a page again");
            tokio::time::sleep(wait).await;
        }
    }

    /// Items that one request may read, where a whole page would be more than a second's worth.
    fn items_at_once(&self, segment: &Segment) -> Option<i32> {
        let units = self.pace.units_at_once().filter(|units| *units < PAGE_UNITS)?;
        let size = if segment.rows == 0 { ITEM_BYTES_GUESS } else { segment.bytes as f64 / segment.rows as f64 };
        // A float that does not fit is cut to the type's ends.
        Some(((units * UNIT_BYTES / size.max(1.0)) as i32).max(1))
    }

    /// The page as a batch, and the segment behind it, which goes on at `place`.
    fn batch(
        &self,
        range: RangeId,
        shape: &Shape,
        segment: &mut Segment,
        answer: ScanOutput,
        place: Next,
    ) -> Result<Batch, Error> {
        let broken = |what: String| unreadable(ACTION, format!("table {}: {what}", shape.table()));
        let items = answer.items.unwrap_or_default();
        let mut events = Vec::with_capacity(items.len());
        for item in items {
            let item = read_item(item).map_err(|error| broken(error.to_string()))?;
            if let Value::Map(map) = &item {
                segment.bytes += item_bytes(map) as u64;
            }
            segment.rows += 1;
            let (key, row) = shape.row(item).map_err(|misfit| broken(misfit.to_string()))?;
            events.push(Event {
                relation: shape.hash,
                op: Op::Read,
                key,
                old_key: None,
                before: None,
                after: Some(row),
                version: Version::floor(self.epoch),
                transaction: None,
                origin: Origin::Snapshot { range: range.0 },
                flags: Flags::default(),
            });
        }
        segment.next = place;
        let marks = [((self.mark)(range), Some(segment.to_bytes()))].into();
        Ok(Batch { relations: vec![Arc::clone(&shape.relation)], events, marks, ..Batch::default() })
    }
}

#[async_trait]
impl Snapshot for DynamoScan {
    async fn copy(&self, range: RangeId, out: mpsc::Sender<Batch>) -> Result<RangeOutcome, Error> {
        let Some(SegmentTask { shape, segment }) = self.tasks.get(&range) else { return Ok(RangeOutcome::Moved) };
        let mut segment = segment.clone();
        let before = (segment.rows, segment.bytes);
        let mut ahead = None;
        while segment.next != Next::Done {
            let page = match ahead.take() {
                Some(page) => Some(page),
                None => self.page(shape, &segment).await?,
            };
            let Some(mut answer) = page else { return Ok(RangeOutcome::Moved) };
            let consumed = answer.consumed_capacity.take().and_then(|consumed| consumed.capacity_units);
            self.pace.spent(consumed.unwrap_or(0.0));
            let following = Segment { next: next(shape, &mut answer)?, ..segment.clone() };
            let place = following.next.clone();
            let hand_over = async {
                let batch = self.batch(range, shape, &mut segment, answer, place)?;
                let gone = |_| Error::Unreachable { action: ACTION, reason: "the reader of its items has gone".into() };
                out.send(batch).await.map_err(gone)
            };
            if following.next == Next::Done || self.pace.units_at_once().is_some() {
                hand_over.await?;
                continue;
            }
            // At full speed the next page is on its way while this one is decoded.
            let (page, handed_over) = tokio::join!(self.page(shape, &following), hand_over);
            handed_over?;
            let Some(page) = page? else { return Ok(RangeOutcome::Moved) };
            ahead = Some(page);
        }
        Ok(RangeOutcome::Copied(Copied { rows: segment.rows - before.0, bytes: segment.bytes - before.1 }))
    }
}

/// Where the segment goes on after a page.
fn next(shape: &Shape, answer: &mut ScanOutput) -> Result<Next, Error> {
    let broken = |what: String| unreadable(ACTION, format!("table {}: {what}", shape.table()));
    let Some(last) = answer.last_evaluated_key.take() else { return Ok(Next::Done) };
    let last = read_item(last).map_err(|error| broken(error.to_string()))?;
    Ok(Next::After(shape.key_of(&last).map_err(|misfit| broken(misfit.to_string()))?))
}

/// A key as the service wants it back.
fn start_key(shape: &Shape, key: &Key) -> Result<Attributes, Error> {
    let mut attributes = Attributes::new();
    for (attribute, value) in shape.key.iter().zip(&key.0) {
        let value = write(value).map_err(|broken| unreadable(ACTION, broken.to_string()))?;
        attributes.insert(attribute.name.to_string(), value);
    }
    Ok(attributes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Decimal;

    #[test]
    fn a_segment_reads_as_it_was_written() {
        let number = Value::Decimal(Decimal::parse("12345678901234567890123456789012345678").expect("a decimal"));
        let key = Key(vec![Value::text("a\u{0}b"), number]);
        for next in [Next::Start, Next::After(key), Next::Done] {
            let segment = Segment { table: "t".into(), number: 3, total: 8, next, rows: 5, bytes: 6 };
            assert_eq!(Segment::from_bytes(&segment.to_bytes()), Some(segment));
        }
        assert_eq!(Segment::from_bytes(b"{}"), None);
    }
}

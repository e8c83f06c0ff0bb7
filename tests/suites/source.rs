//! What every source promises, whatever store is behind it: a snapshot read in ranges, and a feed of what changed since.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rehome::event::{Event, Op, Origin, Value, Version};
use rehome::log::Batch;
use rehome::source::{ChangeFeed, Copied, Delivery, RangeId, RangeOutcome, Receipt, Rows, Snapshot};
use tokio::sync::mpsc;

/// Name of the mark that says how far a feed's batches reach.
pub const POSITION: &str = "position";

/// Nothing here takes so long; a hang is then a failure.
const PATIENCE: Duration = Duration::from_secs(60);

/// A change of the suite's table, whose rows are a number, which is the key, and a text.
#[derive(Debug, Clone)]
pub enum Change {
    /// A new row.
    Insert(i64, String),
    /// Another text for a row.
    Update(i64, String),
    /// A row goes.
    Delete(i64),
}

/// A source of the suite's own, at a moment.
#[async_trait]
pub trait Bench: Send {
    /// Begins anew with rows 1 to `rows`, and takes the snapshot that the feed goes on from, in several ranges.
    async fn begin(&mut self, rows: i64) -> (Arc<dyn Snapshot>, Vec<RangeId>);

    /// Ends the snapshot while ranges are unread.
    async fn lose_snapshot(&mut self);

    /// Commits changes in one transaction.
    async fn commit(&mut self, changes: &[Change]);

    /// Opens a feed from a position as its mark holds it; `None` is where the snapshot stands. An earlier one is gone.
    async fn feed(&mut self, from: Option<Vec<u8>>) -> Box<dyn ChangeFeed>;

    /// Up to where the source has been told that everything is durable.
    async fn told(&mut self) -> Receipt;
}

/// Runs the suite.
pub async fn run(bench: &mut dyn Bench) {
    every_row_is_read_once_and_again_with_the_same_version(bench).await;
    rows_are_those_of_the_events(bench).await;
    a_snapshot_sees_nothing_of_later_changes(bench).await;
    a_lost_snapshot_and_an_unknown_range_are_told_apart(bench).await;
    a_reader_that_goes_away_ends_the_call(bench).await;
    changes_come_in_order_of_commit_and_beat_the_snapshot(bench).await;
    what_is_after_the_durable_position_comes_again_with_the_same_versions(bench).await;
    only_the_last_delivery_of_a_transaction_moves_the_position(bench).await;
    the_source_is_told_only_what_was_acknowledged(bench).await;
    waiting_for_a_delivery_can_be_given_up(bench).await;
    a_feed_that_is_asked_to_ends(bench).await;
}

async fn patiently<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited too long: {what}"))
}

fn number(value: Option<&Value>) -> i64 {
    match value {
        Some(Value::Int(number)) => *number,
        other => panic!("a number, not {other:?}"),
    }
}

fn id(event: &Event) -> i64 {
    number(event.key.0.first())
}

/// Reads a range to its end: how that ended, and its batches.
async fn read(snapshot: &Arc<dyn Snapshot>, range: RangeId) -> (RangeOutcome, Vec<Batch>) {
    let (out, mut batches) = mpsc::channel(2);
    let collect = async {
        let mut all = Vec::new();
        while let Some(batch) = batches.recv().await {
            all.push(batch);
        }
        all
    };
    let (outcome, batches) = patiently("a range", async { tokio::join!(snapshot.copy(range, out), collect) }).await;
    (outcome.expect("it reads"), batches)
}

/// All rows of all ranges: key and version.
async fn rows(snapshot: &Arc<dyn Snapshot>, ranges: &[RangeId]) -> Vec<(i64, Version)> {
    let mut rows = Vec::new();
    for range in ranges {
        let (outcome, batches) = read(snapshot, *range).await;
        let events: Vec<Event> = batches.into_iter().flat_map(|batch| batch.events).collect();
        let RangeOutcome::Copied(Copied { rows: counted, bytes }) = outcome else { panic!("{outcome:?}") };
        assert_eq!((counted, bytes > 0), (events.len() as u64, !events.is_empty()), "rows and bytes are counted");
        for event in events {
            assert_eq!((event.op, event.origin), (Op::Read, Origin::Snapshot { range: range.0 }));
            assert!(event.after.is_some() && event.transaction.is_none());
            rows.push((id(&event), event.version));
        }
    }
    rows
}

async fn every_row_is_read_once_and_again_with_the_same_version(bench: &mut dyn Bench) {
    let (snapshot, ranges) = bench.begin(200).await;
    assert!(ranges.len() > 1, "several ranges, else this proves little");
    let mut first = rows(&snapshot, &ranges).await;
    let again = rows(&snapshot, &ranges).await;
    assert_eq!(first, again);
    first.sort_unstable();
    assert!(first.iter().map(|(id, _)| *id).eq(1..=200));
}

async fn rows_are_those_of_the_events(bench: &mut dyn Bench) {
    let (snapshot, ranges) = bench.begin(200).await;
    for range in ranges {
        let (outcome, batches) = read(&snapshot, range).await;
        let events = batches.into_iter().flat_map(|batch| batch.events);
        let cells = |event: Event| event.after.expect("a row").0.into_iter();
        let told: Vec<Vec<Value>> =
            events.map(|event| cells(event).map(|cell| cell.into_value().expect("a value")).collect()).collect();
        let (out, mut packed) = mpsc::channel::<Box<dyn Rows>>(2);
        let collect = async {
            let mut rows = Vec::new();
            while let Some(mut packed) = packed.recv().await {
                let columns: Vec<usize> = (0..packed.relation().columns.len()).collect();
                rows.extend(std::iter::from_fn(|| packed.next(&columns).expect("a row")));
            }
            rows
        };
        let (again, rows) = patiently("a range", async { tokio::join!(snapshot.rows(range, out), collect) }).await;
        assert_eq!((again.expect("it reads"), rows), (outcome, told));
    }
}

async fn a_snapshot_sees_nothing_of_later_changes(bench: &mut dyn Bench) {
    let (snapshot, ranges) = bench.begin(200).await;
    bench.commit(&[Change::Delete(7), Change::Insert(201, "new".into()), Change::Update(8, "late".into())]).await;
    let mut seen: Vec<i64> = rows(&snapshot, &ranges).await.into_iter().map(|(id, _)| id).collect();
    seen.sort_unstable();
    assert!(seen.into_iter().eq(1..=200));
}

async fn a_lost_snapshot_and_an_unknown_range_are_told_apart(bench: &mut dyn Bench) {
    let (snapshot, ranges) = bench.begin(200).await;
    assert_eq!(read(&snapshot, RangeId(9_999)).await.0, RangeOutcome::Moved);
    bench.lose_snapshot().await;
    assert_eq!(read(&snapshot, ranges[0]).await.0, RangeOutcome::SnapshotGone);
}

async fn a_reader_that_goes_away_ends_the_call(bench: &mut dyn Bench) {
    let (snapshot, ranges) = bench.begin(200).await;
    let (out, batches) = mpsc::channel(1);
    drop(batches);
    // Whatever it answers, it does; and the range can be read afterwards.
    let _ = patiently("the end of the call", snapshot.copy(ranges[0], out)).await;
    let (out, packed) = mpsc::channel(1);
    drop(packed);
    let _ = patiently("the end of the call", snapshot.rows(ranges[0], out)).await;
    assert!(matches!(read(&snapshot, ranges[0]).await.0, RangeOutcome::Copied(_)));
}

/// The position that a delivery marks.
fn position(delivery: &Delivery) -> Option<Vec<u8>> {
    delivery.batch.marks.get(POSITION).cloned().flatten()
}

/// Takes deliveries until as many changes have come and the position has moved behind them.
async fn take(feed: &mut dyn ChangeFeed, changes: usize) -> Vec<Delivery> {
    let mut deliveries: Vec<Delivery> = Vec::new();
    let mut events = 0;
    let mut behind = false;
    while events < changes || !behind {
        let delivery = patiently("a delivery", feed.next()).await.expect("it follows").expect("nobody stopped it");
        events += delivery.batch.events.len();
        // A position without changes may be one before them.
        behind = position(&delivery).is_some() && events > 0 || behind && delivery.batch.events.is_empty();
        deliveries.push(delivery);
    }
    assert_eq!(events, changes);
    deliveries
}

fn events(deliveries: &[Delivery]) -> Vec<&Event> {
    deliveries.iter().flat_map(|delivery| &delivery.batch.events).collect()
}

async fn changes_come_in_order_of_commit_and_beat_the_snapshot(bench: &mut dyn Bench) {
    let (snapshot, ranges) = bench.begin(200).await;
    bench.commit(&[Change::Insert(201, "a".into()), Change::Update(1, "b".into())]).await;
    bench.commit(&[Change::Delete(2)]).await;
    bench.commit(&[Change::Update(1, "c".into()), Change::Delete(201)]).await;
    let mut feed = bench.feed(None).await;
    let deliveries = take(&mut *feed, 5).await;
    let found = events(&deliveries);
    let shown: Vec<(Op, i64, bool)> = found
        .iter()
        .map(|event| (event.op, id(event), event.transaction.as_ref().is_some_and(|transaction| transaction.last)))
        .collect();
    let wanted = [
        (Op::Insert, 201, false),
        (Op::Update, 1, true),
        (Op::Delete, 2, true),
        (Op::Update, 1, false),
        (Op::Delete, 201, true),
    ];
    assert_eq!(shown, wanted);
    assert!(found.is_sorted_by(|one, next| one.version < next.version), "versions grow with commits");
    let transactions: BTreeSet<_> =
        found.iter().map(|event| event.transaction.as_ref().map(|transaction| transaction.commit)).collect();
    assert_eq!(transactions.len(), 3);
    assert!(deliveries.is_sorted_by(|one, next| one.receipt <= next.receipt), "receipts grow");
    // Every shape comes before the first change that refers to it.
    let relations: BTreeMap<_, _> = deliveries
        .iter()
        .flat_map(|delivery| &delivery.batch.relations)
        .map(|relation| (relation.schema_hash(), &relation.name))
        .collect();
    assert!(found.iter().all(|event| relations.contains_key(&event.relation)));
    let floors = rows(&snapshot, &ranges).await;
    assert!(floors.iter().all(|(_, floor)| found.iter().all(|event| *floor < event.version)));
}

async fn what_is_after_the_durable_position_comes_again_with_the_same_versions(bench: &mut dyn Bench) {
    bench.begin(3).await;
    bench.commit(&[Change::Insert(10, "a".into())]).await;
    let mut feed = bench.feed(None).await;
    let durable = take(&mut *feed, 1).await.last().and_then(position);
    bench.commit(&[Change::Insert(11, "b".into()), Change::Insert(12, "b".into())]).await;
    bench.commit(&[Change::Delete(10)]).await;
    let first = take(&mut *feed, 3).await;
    drop(feed);
    let mut feed = bench.feed(durable).await;
    let again = take(&mut *feed, 3).await;
    assert_eq!(events(&first), events(&again));
}

async fn only_the_last_delivery_of_a_transaction_moves_the_position(bench: &mut dyn Bench) {
    bench.begin(3).await;
    let large = |id: i64| Change::Insert(id, "x".repeat(64 << 10));
    bench.commit(&(100..164).map(large).collect::<Vec<_>>()).await;
    let mut feed = bench.feed(None).await;
    let mut before_it = 0;
    let mut seen = 0;
    while seen < 64 {
        let delivery = patiently("a delivery", feed.next()).await.expect("it follows").expect("nobody stopped it");
        seen += delivery.batch.events.len();
        if position(&delivery).is_none() {
            before_it += 1;
        } else if !delivery.batch.events.is_empty() {
            assert_eq!(seen, 64, "the position moved in the middle of the transaction");
        }
    }
    assert!(before_it > 0, "four megabytes come in several deliveries");
}

async fn the_source_is_told_only_what_was_acknowledged(bench: &mut dyn Bench) {
    bench.begin(3).await;
    let start = bench.told().await;
    bench.commit(&[Change::Insert(10, "a".into())]).await;
    let mut feed = bench.feed(None).await;
    let taken = take(&mut *feed, 1).await;
    assert_eq!(bench.told().await, start, "a delivery that was only taken is not durable");
    let receipt = taken.last().expect("a delivery").receipt;
    feed.acknowledge(receipt);
    patiently("the source to be told", async {
        while bench.told().await < receipt {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

async fn waiting_for_a_delivery_can_be_given_up(bench: &mut dyn Bench) {
    bench.begin(3).await;
    let mut feed = bench.feed(None).await;
    for _ in 0..20 {
        tokio::select! {
            biased;
            delivery = feed.next() => assert!(delivery.expect("it follows").expect("lives").batch.events.is_empty()),
            () = tokio::task::yield_now() => {}
        }
    }
    bench.commit(&[Change::Insert(10, "a".into())]).await;
    assert_eq!(events(&take(&mut *feed, 1).await).len(), 1);
}

async fn a_feed_that_is_asked_to_ends(bench: &mut dyn Bench) {
    bench.begin(1).await;
    let mut feed = bench.feed(None).await;
    feed.stop();
    let ended = async { while feed.next().await.expect("it follows").is_some() {} };
    patiently("the end of a feed", ended).await;
}

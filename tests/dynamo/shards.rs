//! Lineages of shards: rotation, splits, contradicting descriptions, trimmed records.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use rehome::capture::dynamo::Config;
use rehome::event::{Event, Op, Timestamp};
use rehome::log::EventLog;
use rehome::source::Clock;

use crate::support::capture::{Running, config, events, mark, memory, start};
use crate::support::shim::{Fault, Shim};
use crate::support::streams::Numbering;
use crate::support::tables::{Table, item, number};

/// A table whose stream the shim has taken over, with its name.
async fn taken(numbering: Numbering) -> (Table, Shim, String) {
    let (table, shim) = (Table::new().await, Shim::new().await);
    let arn = table.arn().await;
    shim.streams().take(&arn, numbering).await;
    (table, shim, arn)
}

/// Changes of the stream, in the order of the log.
async fn streamed(log: &dyn EventLog) -> Vec<Event> {
    events(log).await.into_iter().filter(|event| event.op != Op::Read).collect()
}

/// Whether each item's changes are in the log in the order of their versions.
fn in_order(events: &[Event]) -> bool {
    events.iter().enumerate().all(|(at, event)| {
        events[at + 1..].iter().filter(|later| later.key == event.key).all(|later| later.version > event.version)
    })
}

fn epoch(running: &Running) -> Option<u32> {
    running.status.borrow().epoch.map(|epoch| epoch.0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shards_that_roll_and_split_while_they_are_read_lose_nothing_and_keep_every_items_order() {
    let (table, shim, arn) = taken(Numbering::Real).await;
    table.fill(0, 4).await;
    let mut running = start(config(&shim.url, &[&table]), memory());
    for round in 0..4_u32 {
        for id in 0..6_u32 {
            table.put(item(&format!("k{id:05}"), &[("n", number((round + 1) * 100 + id))])).await;
        }
        shim.streams().roll(&arn, if round == 1 { 2 } else { 1 }).await;
        table.delete(&format!("k{round:05}")).await;
    }
    running.caught_up().await;
    running.equals(&table).await;
    let changes = streamed(&*running.log).await;
    assert_eq!(changes.len(), 4 + 4 * 7, "each change once");
    assert!(in_order(&changes));
    // The parents were read to their ends before their children were begun: nothing came twice.
    let opened = shim.calls_of("GetShardIterator");
    let mut of_shards: Vec<_> = opened.iter().map(|call| call["ShardId"].to_string()).collect();
    of_shards.sort();
    of_shards.dedup();
    assert!(of_shards.len() >= 5, "{of_shards:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_that_is_described_before_its_parent_waits_for_it() {
    let (table, shim, arn) = taken(Numbering::Real).await;
    table.fill(0, 4).await;
    shim.streams().roll(&arn, 1).await;
    table.put(item("k00000", &[("n", number("-1"))])).await;
    // The preflight describes once, and the feed twice without the parent.
    shim.streams().hide(&arn, 0, 3).await;
    let mut running = start(config(&shim.url, &[&table]), memory());
    running.caught_up().await;
    running.equals(&table).await;
    let changes = streamed(&*running.log).await;
    assert_eq!(changes.len(), 5, "the parent's records are not left out");
    assert!(in_order(&changes));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_whose_parent_was_trimmed_before_the_epoch_is_read() {
    let (table, shim, arn) = taken(Numbering::Real).await;
    table.fill(0, 4).await;
    shim.streams().roll(&arn, 1).await;
    shim.streams().trim(&arn).await;
    table.fill(2, 6).await;
    let mut running = start(config(&shim.url, &[&table]), memory());
    running.caught_up().await;
    running.equals(&table).await;
    assert_eq!(epoch(&running), Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_shard_that_descriptions_leave_out_for_a_while_is_not_lost() {
    let (table, shim, arn) = taken(Numbering::Real).await;
    let mut running = start(config(&shim.url, &[&table]), memory());
    running.caught_up().await;
    shim.streams().hide(&arn, 0, 2).await;
    table.fill(0, 4).await;
    running.equals(&table).await;
    shim.streams().roll(&arn, 1).await;
    table.fill(3, 8).await;
    running.equals(&table).await;
    assert_eq!(epoch(&running), Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sequence_numbers_that_grow_by_a_digit_order_by_value() {
    let (table, shim, _) = taken(Numbering::Widening).await;
    let mut running = start(config(&shim.url, &[&table]), memory());
    running.caught_up().await;
    for n in 0..15_u32 {
        table.put(item("one", &[("n", number(n))])).await;
    }
    running.equals(&table).await;
    let changes = streamed(&*running.log).await;
    assert_eq!(changes.len(), 15);
    assert!(in_order(&changes), "39 digits are before 40");
    let log = running.stop().await.expect("a clean end");
    let place = |name: &str| mark(&*log, name).expect("a mark");
    let shard = place(&format!("dynamo/shard/{}/shardId-00000000", table.name));
    assert!(shard.contains(&format!("\"{}{}\"", 1_000_000_000_000_000_004_u64, "0".repeat(21))), "{shard}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_goes_on_after_the_last_record_of_each_shard() {
    let (table, shim, arn) = taken(Numbering::Real).await;
    table.fill(0, 5).await;
    shim.streams().roll(&arn, 2).await;
    table.fill(3, 9).await;
    let mut running = start(config(&shim.url, &[&table]), memory());
    running.caught_up().await;
    running.equals(&table).await;
    let before = shim.calls_of("GetShardIterator").len();
    let log = running.kill().await;
    shim.streams().roll(&arn, 1).await;
    table.fill(8, 12).await;
    let mut again = start(config(&shim.url, &[&table]), log);
    again.equals(&table).await;
    let calls = shim.calls_of("GetShardIterator");
    let of_feed: Vec<_> = calls[before..].iter().filter(|call| call["SequenceNumber"].is_string()).collect();
    assert!(!of_feed.is_empty(), "open shards are gone on with: {calls:?}");
    let inserts = streamed(&*again.log).await;
    // Writes that changed nothing made no record.
    assert_eq!(inserts.len(), 5 + 4 + 3, "nothing was read twice: a drained parent is not read again");
    assert_eq!(epoch(&again), Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_trimmed_before_they_were_read_open_a_new_epoch() {
    let (table, shim, arn) = taken(Numbering::Real).await;
    table.fill(0, 6).await;
    let mut running = start(config(&shim.url, &[&table]), memory());
    running.caught_up().await;
    table.fill(6, 8).await;
    running.equals(&table).await;
    let log = running.stop().await.expect("a clean end");
    // What nobody reads: an item goes, another comes, and the stream forgets both.
    table.delete("k00001").await;
    table.put(item("unseen", &[])).await;
    shim.streams().trim(&arn).await;
    let mut again = start(config(&shim.url, &[&table]), log);
    again.until("a new epoch", |status| status.epoch.map(|epoch| epoch.0) == Some(2)).await;
    let status = again.caught_up().await;
    let reason = status.epoch_reason.expect("a reason");
    assert!(reason.contains("no longer holds"), "{reason}");
    again.equals(&table).await;
    assert_eq!(mark(&*again.log, "capture/sweep/0000000002").as_deref(), Some("requested"));
    assert_eq!(mark(&*again.log, &format!("dynamo/copied/{}", table.name)).as_deref(), Some("8"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_that_went_away_before_it_was_drained_opens_a_new_epoch() {
    let (table, shim, arn) = taken(Numbering::Real).await;
    table.fill(0, 4).await;
    let mut running = start(config(&shim.url, &[&table]), memory());
    running.caught_up().await;
    let log = running.stop().await.expect("a clean end");
    table.fill(4, 6).await;
    shim.streams().roll(&arn, 1).await;
    shim.streams().trim(&arn).await;
    let mut again = start(config(&shim.url, &[&table]), log);
    let status = again.until("a new epoch", |status| status.epoch.map(|epoch| epoch.0) == Some(2)).await;
    assert!(status.epoch_reason.is_some_and(|reason| reason.contains("went away")));
    again.caught_up().await;
    again.equals(&table).await;
}

/// A clock that a test can move.
fn movable(config: Config) -> (Config, Arc<AtomicI64>) {
    let ahead = Arc::new(AtomicI64::new(0));
    let (own, system) = (Arc::clone(&ahead), Clock::system());
    let clock = Clock::of(move || Timestamp(system.now().0 + own.load(Ordering::Relaxed)));
    (Config { clock, ..config }, ahead)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_made_while_nobody_looked_for_thirty_hours_opens_a_new_epoch() {
    const HOUR_US: i64 = 3_600_000_000;
    let (table, shim, arn) = taken(Numbering::Real).await;
    table.fill(0, 4).await;
    let (settings, ahead) = movable(config(&shim.url, &[&table]));
    let mut running = start(settings.clone(), memory());
    running.caught_up().await;
    let log = running.stop().await.expect("a clean end");
    // The shard that was being read is drained without a word, and what came after it is partly gone, in silence.
    shim.streams().roll(&arn, 1).await;
    table.fill(4, 6).await;
    ahead.store(30 * HOUR_US, Ordering::Relaxed);
    let mut again = start(settings, log);
    let status = again.until("a new epoch", |status| status.epoch.map(|epoch| epoch.0) == Some(2)).await;
    assert!(status.epoch_reason.is_some_and(|reason| reason.contains("24 hours")));
    again.caught_up().await;
    again.equals(&table).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scan_that_takes_thirty_hours_needs_no_stream_that_is_kept_so_long() {
    const HOUR_US: i64 = 3_600_000_000;
    let (table, shim, arn) = taken(Numbering::Real).await;
    table.fill(0, 20).await;
    let (settings, ahead) = movable(config(&shim.url, &[&table]));
    // The preflight's scan goes through; those of the segments take their time.
    shim.fault("Scan", 1, Fault::Pass);
    shim.fault("Scan", 2, Fault::Hold);
    let mut running = start(settings, memory());
    let mut told = 20;
    for hours in [4, 12, 20, 30] {
        table.fill(100 + hours, 103 + hours).await;
        table.delete(&format!("k{hours:05}")).await;
        shim.streams().roll(&arn, 1).await;
        // Told by the child: the parent is drained.
        table.put(item("child", &[("n", number(hours))])).await;
        told += if hours < 20 { 5 } else { 4 };
        running.until("the child's change", |status| status.streamed == told).await;
        ahead.store(i64::from(hours) * HOUR_US, Ordering::Relaxed);
        shim.streams().trim(&arn).await;
    }
    shim.release();
    running.caught_up().await;
    running.equals(&table).await;
    assert_eq!(epoch(&running), Some(1), "what was trimmed had been read");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_turned_off_is_read_to_its_end_and_then_told() {
    let (table, shim, arn) = taken(Numbering::Real).await;
    let mut running = start(config(&shim.url, &[&table]), memory());
    running.caught_up().await;
    table.fill(0, 7).await;
    shim.streams().disable(&arn).await;
    let status = running.until("a new epoch", |status| status.epoch.map(|epoch| epoch.0) == Some(2)).await;
    assert!(status.epoch_reason.is_some_and(|reason| reason.contains("disabled")));
    assert_eq!(streamed(&*running.log).await.iter().filter(|event| event.version.epoch.0 == 1).count(), 7);
}

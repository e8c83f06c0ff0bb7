//! Lost continuity: another stream, another table.

use aws_sdk_dynamodb::types::StreamViewType;
use rehome::event::Op;
use rehome::log::EventLog;

use crate::support::capture::{Running, config, mark, memory, start};
use crate::support::server;
use crate::support::tables::{Table, item, number};

async fn epoch(running: &mut Running, wanted: u32) -> String {
    let at = |status: &rehome::capture::CaptureStatus| {
        status.epoch.map(|epoch| epoch.0) == Some(wanted) && status.caught_up.is_some()
    };
    running.until("the epoch", at).await.epoch_reason.unwrap_or_default()
}

fn sweep(log: &dyn EventLog, epoch: u32) -> Option<String> {
    mark(log, &format!("capture/sweep/{epoch:010}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_stream_is_a_new_epoch_with_a_scan_and_a_sweep() {
    let table = Table::new().await;
    table.fill(0, 5).await;
    let mut running = start(config(server::url(), &[&table]), memory());
    running.caught_up().await;
    let log = running.stop().await.expect("a clean end");
    assert_eq!(sweep(&*log, 1), None);
    // Nobody is told of these two.
    table.stream(None).await;
    table.delete("k00001").await;
    table.put(item("unseen", &[("n", number(1))])).await;
    table.stream(Some(StreamViewType::NewAndOldImages)).await;
    let mut again = start(config(server::url(), &[&table]), log);
    let reason = epoch(&mut again, 2).await;
    assert!(reason.contains("another stream"), "{reason}");
    again.equals(&table).await;
    assert_eq!(sweep(&*again.log, 2).as_deref(), Some("requested"));
    let reads = again.changes(&[Op::Read]).await;
    assert_eq!(reads.iter().filter(|event| event.version.epoch.0 == 2).count(), 5);
    let stream = mark(&*again.log, &format!("dynamo/stream/{}", table.name));
    assert_eq!(stream, Some(table.arn().await));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_more_table_is_a_new_epoch_and_one_less_is_not() {
    let (first, second) = (Table::new().await, Table::new().await);
    first.fill(0, 3).await;
    second.fill(0, 2).await;
    let mut running = start(config(server::url(), &[&first]), memory());
    running.caught_up().await;
    let mut running = start(config(server::url(), &[&first, &second]), running.stop().await.expect("a clean end"));
    let reason = epoch(&mut running, 2).await;
    assert!(reason.contains(&format!("{} was not captured", second.name)), "{reason}");
    running.equals(&second).await;
    let mut running = start(config(server::url(), &[&first]), running.stop().await.expect("a clean end"));
    epoch(&mut running, 2).await;
    assert_eq!(mark(&*running.log, &format!("dynamo/stream/{}", second.name)), None);
    first.fill(2, 6).await;
    running.equals(&first).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_without_its_stream_ends_the_capture_with_a_word() {
    let table = Table::new().await;
    table.fill(0, 3).await;
    let mut running = start(config(server::url(), &[&table]), memory());
    running.caught_up().await;
    let log = running.stop().await.expect("a clean end");
    table.stream(None).await;
    let ended = start(config(server::url(), &[&table]), log).ended().await.expect_err("it cannot go on");
    let message = ended.to_string();
    assert!(message.contains("no stream") && message.contains("StreamEnabled=true"), "{message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_is_dropped_ends_the_capture_with_a_word() {
    let table = Table::new().await;
    table.fill(0, 3).await;
    let mut running = start(config(server::url(), &[&table]), memory());
    running.caught_up().await;
    table.client().delete_table().table_name(&table.name).send().await.expect("it is dropped");
    let log = running.log.clone();
    let ended = running.ended().await.expect_err("it cannot go on");
    assert!(ended.to_string().contains("no such table"), "{ended}");
    assert!(mark(&*log, "dynamo/lost").is_some(), "when the table is back, it is another epoch");
}

//! The scan: its place after the streams, its segments and where they go on, its rate.

use rehome::capture::Phase;
use rehome::capture::dynamo::Config;
use rehome::event::Op;
use serde_json::Value;

use crate::support::capture::{config, mark, memory, start};
use crate::support::shim::{Fault, Shim};
use crate::support::tables::{Table, item, number, text};

/// A table of so many items of about four kilobytes: a page holds 256 of them.
async fn large(items: u32) -> Table {
    let table = Table::new().await;
    let pad = "p".repeat(4000);
    let ids: Vec<u32> = (0..items).collect();
    for chunk in ids.chunks(25) {
        let write = |id: &u32| {
            let put = aws_sdk_dynamodb::types::PutRequest::builder()
                .set_item(Some(item(&format!("k{id:05}"), &[("pad", text(&pad)), ("n", number(id))])))
                .build()
                .expect("whole");
            aws_sdk_dynamodb::types::WriteRequest::builder().put_request(put).build()
        };
        let writes = chunk.iter().map(write).collect();
        table.client().batch_write_item().request_items(&table.name, writes).send().await.expect("they are put");
    }
    table
}

/// Requests of segments: the preflight's scan has none.
fn segments(shim: &Shim) -> Vec<Value> {
    shim.calls_of("Scan").into_iter().filter(|call| call["TotalSegments"].is_number()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_scan_begins_only_when_every_shard_is_being_read() {
    let (table, shim) = (Table::new().await, Shim::new().await);
    table.fill(0, 5).await;
    // The preflight reads a page, too.
    shim.fault("GetRecords", 1, Fault::Pass);
    shim.fault("GetRecords", 1, Fault::Hold);
    let mut running = start(config(&shim.url, &[&table]), memory());
    // More descriptions than one: the feed goes on describing while it waits for the shard's first page.
    shim.called(6, |operation, _| operation == "DescribeStream").await;
    assert_eq!(segments(&shim), Vec::<Value>::new());
    assert_eq!(running.status.borrow().phase, Phase::Starting);
    shim.release();
    running.caught_up().await;
    assert!(!segments(&shim).is_empty());
    running.equals(&table).await;
    assert_eq!(mark(&*running.log, &format!("dynamo/copied/{}", table.name)).as_deref(), Some("5"));
    assert_eq!(running.log.marks("capture/sweep/").expect("it reads"), [], "nothing is older than the first epoch");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_scan_goes_on_in_the_middle_of_its_segments() {
    let (table, shim) = (large(1000).await, Shim::new().await);
    let settings = Config { workers: 1, segments_min: 2, ..config(&shim.url, &[&table]) };
    // The preflight's, two pages, and then none more.
    shim.fault("Scan", 3, Fault::Pass);
    shim.fault("Scan", 1, Fault::Hold);
    let mut running = start(settings.clone(), memory());
    let wanted = |status: &rehome::capture::CaptureStatus| status.tables.values().any(|table| table.rows >= 400);
    running.until("two pages", wanted).await;
    shim.waiting(1).await;
    let before = segments(&shim).len();
    let log = running.kill().await;
    // Another number of segments is asked for now: it is for the next epoch.
    let mut again = start(Config { segments_min: 5, ..settings }, log);
    again.caught_up().await;
    let calls = segments(&shim);
    assert!(calls.iter().all(|call| call["TotalSegments"] == 2), "the places mean nothing with another number");
    assert!(calls[before..].iter().any(|call| call["ExclusiveStartKey"].is_object()), "it goes on after a key");
    assert!(calls[before..].iter().all(|call| call["ConsistentRead"] == true));
    let reads = again.changes(&[Op::Read]).await.len();
    assert_eq!(reads, 1000, "pages that the log had were not read again");
    again.equals(&table).await;
    let progress = again.status.borrow().tables.values().next().copied().expect("a table");
    assert_eq!((progress.rows, progress.ranges_done, progress.ranges_total), (1000, 2, 2));
    assert!((4_000_000..4_200_000).contains(&progress.bytes), "{progress:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_throttled_scan_slows_down_and_finishes() {
    let (table, shim) = (large(150).await, Shim::new().await);
    shim.fault("Scan", 1, Fault::Pass);
    shim.fault("Scan", 3, Fault::Refuse("ProvisionedThroughputExceededException"));
    let mut running = start(config(&shim.url, &[&table]), memory());
    let status = running.caught_up().await;
    let rate = status.read_rate.expect("it was scanned");
    assert_eq!((shim.left(), rate.throttled, status.retries), (0, 3, 0));
    assert!(rate.limit.is_some(), "{rate:?}");
    assert!(rate.units >= 145, "a unit for each item of four kilobytes: {rate:?}");
    running.equals(&table).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_capped_scan_asks_for_no_more_than_a_seconds_worth_at_once() {
    let (table, shim) = (large(300).await, Shim::new().await);
    let settings = Config { read_capacity: Some(50), segments_min: 1, ..config(&shim.url, &[&table]) };
    let mut running = start(settings, memory());
    let status = running.caught_up().await;
    let rate = status.read_rate.expect("it was scanned");
    assert_eq!((rate.limit, rate.throttled), (Some(50), 0));
    let limits: Vec<u64> = segments(&shim).iter().map(|call| call["Limit"].as_u64().expect("a limit")).collect();
    // How large an item is, is known after the first page; an item here is a unit.
    assert!(limits.len() >= 3 && limits[1..].iter().all(|limit| (45..=51).contains(limit)), "{limits:?}");
    running.equals(&table).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_beats_the_scans_older_row_whichever_comes_first() {
    let (table, shim) = (Table::new().await, Shim::new().await);
    table.fill(0, 6).await;
    shim.fault("Scan", 1, Fault::Pass);
    shim.fault("Scan", 3, Fault::SlowAnswer);
    let mut running = start(Config { workers: 3, ..config(&shim.url, &[&table]) }, memory());
    // The pages were read, and are held on their way while the items change.
    shim.waiting(3).await;
    table.put(item("k00001", &[("n", number(-1))])).await;
    table.delete("k00002").await;
    running.until("the changes", |status| status.streamed >= 8).await;
    shim.release();
    running.caught_up().await;
    running.equals(&table).await;
    let reads = running.changes(&[Op::Read]).await;
    assert_eq!(reads.len(), 6, "the scan has seen what is gone by now");
}

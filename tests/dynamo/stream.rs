//! Following a stream, and what goes wrong with its pages.

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{AttributeValue, ScalarAttributeType, StreamViewType};
use rehome::event::{Op, Value};

use crate::support::capture::{Running, config, memory, start};
use crate::support::server;
use crate::support::shim::{Fault, Shim};
use crate::support::streams::Numbering;
use crate::support::tables::{Table, item, number, text};

/// A capture through a shim, caught up, of a table with a few items.
async fn live() -> (Table, Shim, Running) {
    let (table, shim) = (Table::new().await, Shim::new().await);
    table.fill(0, 5).await;
    let mut running = start(config(&shim.url, &[&table]), memory());
    running.caught_up().await;
    (table, shim, running)
}

/// An item with every kind of value.
fn every_kind(id: &str) -> Vec<(&'static str, AttributeValue)> {
    let blob = |bytes: &[u8]| Blob::new(bytes);
    let map = [("deep".to_owned(), AttributeValue::L(vec![number("1.50"), AttributeValue::Null(true)]))];
    vec![
        ("digits", number("-1.2345678901234567890123456789012345678E-100")),
        ("largest", number("9.9999999999999999999999999999999999999E+125")),
        ("smallest", number("1E-130")),
        ("trailing", number("100.00")),
        ("binary", AttributeValue::B(blob(&[0, 255, 1]))),
        ("truth", AttributeValue::Bool(true)),
        ("nothing", AttributeValue::Null(true)),
        ("empty", text("")),
        ("list", AttributeValue::L(vec![])),
        ("map", AttributeValue::M(map.into())),
        ("texts", AttributeValue::Ss(vec!["b".into(), "a".into(), id.into()])),
        ("numbers", AttributeValue::Ns(vec!["1.0".into(), "2E1".into()])),
        ("binaries", AttributeValue::Bs(vec![blob(&[2]), blob(&[1, 0])])),
        ("unicode", text("é\u{1F600}\u{0}")),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_value_is_the_same_in_the_scan_the_stream_and_the_table() {
    let table = Table::new().await;
    table.put(item("scanned", &every_kind("x"))).await;
    let mut running = start(config(server::url(), &[&table]), memory());
    running.caught_up().await;
    table.put(item("streamed", &every_kind("y"))).await;
    running.equals(&table).await;
    let inserted = running.changes(&[Op::Insert]).await;
    let streamed = inserted.iter().find(|event| event.key.0 == [Value::text("streamed")]).expect("it was told");
    let Some(Value::Map(map)) = streamed.after.as_ref().and_then(|row| row.0[1].value()) else { panic!("an item") };
    let Value::Decimal(digits) = &map["digits"] else { panic!("a number") };
    let written = rehome::event::Decimal::parse("-1.2345678901234567890123456789012345678E-100").expect("a number");
    assert!(digits.same_value(&written), "38 digits: {digits}");
    assert_eq!((&map["nothing"], &map["empty"], map.get("absent")), (&Value::Null, &Value::text(""), None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inserts_updates_and_deletes_are_told_with_what_was_before() {
    let table = Table::with(
        &[("id", ScalarAttributeType::S), ("at", ScalarAttributeType::N)],
        Some(StreamViewType::NewAndOldImages),
    )
    .await;
    let mut running = start(config(server::url(), &[&table]), memory());
    running.caught_up().await;
    let with = |n: u32| item("a", &[("at", number("7")), ("n", number(n))]);
    table.put(with(1)).await;
    table.put(with(2)).await;
    let delete = table.client().delete_item().table_name(&table.name).key("id", text("a")).key("at", number(7));
    delete.send().await.expect("it is deleted");
    running.until("three changes", |status| status.streamed == 3).await;
    running.equals(&table).await;
    let changes = running.changes(&[Op::Insert, Op::Update, Op::Delete]).await;
    let shape: Vec<_> = changes.iter().map(|event| (event.op, event.before.is_some(), event.after.is_some())).collect();
    assert_eq!(shape, [(Op::Insert, false, true), (Op::Update, true, true), (Op::Delete, true, false)]);
    assert!(changes.windows(2).all(|pair| pair[0].version < pair[1].version && pair[0].key == pair[1].key));
    assert!(changes.iter().all(|event| !event.flags.ttl_delete));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_new_images_is_enough() {
    let table = Table::with(&[("id", ScalarAttributeType::S)], Some(StreamViewType::NewImage)).await;
    table.fill(0, 3).await;
    let mut running = start(config(server::url(), &[&table]), memory());
    running.caught_up().await;
    table.fill(1, 5).await;
    table.put(item("k00000", &[("n", number(99))])).await;
    table.delete("k00002").await;
    running.equals(&table).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn expired_iterators_are_replaced_after_the_last_record() {
    let (table, shim) = (Table::new().await, Shim::new().await);
    let arn = table.arn().await;
    shim.streams().take(&arn, Numbering::Real).await;
    let mut running = start(config(&shim.url, &[&table]), memory());
    running.caught_up().await;
    table.fill(0, 4).await;
    running.equals(&table).await;
    shim.streams().expire(&arn).await;
    table.fill(4, 8).await;
    running.equals(&table).await;
    let kinds: Vec<_> =
        shim.calls_of("GetShardIterator").iter().map(|call| call["ShardIteratorType"].to_string()).collect();
    assert_eq!(kinds.last().map(String::as_str), Some("\"AFTER_SEQUENCE_NUMBER\""), "{kinds:?}");
    assert_eq!(running.changes(&[Op::Insert]).await.len(), 8, "nothing was read twice");
    assert_eq!(running.status.borrow().retries, 0, "it is no reason to begin again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_without_records_is_not_the_end_of_a_shard() {
    let (table, shim, mut running) = live().await;
    shim.fault("GetRecords", 8, Fault::EmptyPage);
    table.fill(5, 8).await;
    running.equals(&table).await;
    assert_eq!(shim.left(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_that_come_twice_change_nothing() {
    let (table, shim, mut running) = live().await;
    shim.fault("GetRecords", 6, Fault::SamePage);
    table.fill(0, 8).await;
    table.delete("k00003").await;
    running.equals(&table).await;
    table.put(item("last", &[])).await;
    running.equals(&table).await;
    let log = running.stop().await.expect("a clean end");
    let mut again = start(config(&shim.url, &[&table]), log);
    again.caught_up().await;
    again.equals(&table).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn throttled_and_failing_pages_are_read_again() {
    let (table, shim, mut running) = live().await;
    shim.fault("GetRecords", 3, Fault::Refuse("ThrottlingException"));
    shim.fault("GetRecords", 1, Fault::Fail);
    shim.fault("GetRecords", 1, Fault::DoneUnanswered);
    table.fill(5, 8).await;
    running.equals(&table).await;
    assert_eq!(shim.left(), 0);
    assert_eq!(running.status.borrow().retries, 0, "it is no reason to begin again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_stays_away_ends_the_session_and_not_the_capture() {
    let (table, shim, mut running) = live().await;
    shim.fault("GetRecords", 7, Fault::Fail);
    running.until("a session more", |status| status.retries > 0).await;
    table.fill(5, 8).await;
    running.equals(&table).await;
    let status = running.until("live again", |status| status.error.is_none()).await;
    assert_eq!(status.epoch.map(|epoch| epoch.0), Some(1), "nothing was lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_that_is_not_found_once_is_not_one_that_ended() {
    let (table, shim, mut running) = live().await;
    shim.fault("GetRecords", 1, Fault::Refuse("ResourceNotFoundException"));
    shim.fault("GetShardIterator", 1, Fault::Refuse("ResourceNotFoundException"));
    table.fill(5, 8).await;
    running.equals(&table).await;
    assert_eq!(shim.left(), 0);
    assert_eq!(running.status.borrow().epoch.map(|epoch| epoch.0), Some(1), "nothing was lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_tables_are_followed_together() {
    let (first, second) = (Table::new().await, Table::new().await);
    first.fill(0, 3).await;
    let mut running = start(config(server::url(), &[&first, &second]), memory());
    running.caught_up().await;
    second.fill(0, 4).await;
    first.delete("k00001").await;
    running.equals(&first).await;
    running.equals(&second).await;
    let status = running.until("both streams", |status| status.streams.len() == 2).await;
    assert!(status.streams.values().all(|stream| stream.shards_open == 1), "{:?}", status.streams);
    running.stop().await.expect("a clean end");
}

//! DynamoDB as a target: the seam's suite, and what is DynamoDB's own.

use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnConsumedCapacity};
use rehome::dynamo::table::{KeyAttribute, KeyKind};
use rehome::dynamo::target::{DynamoTarget, IndexSpec, Placed, Projection, Settings, Sharing, TableSpec};
use rehome::event::{Decimal, Value};
use rehome::target::{ForeignScope, Target, TargetRow, Trust, UnitOutcome, UnitWrite};
use tokio::sync::mpsc;

use crate::support::remembering::Remembering;
use crate::support::shim::Shim;
use crate::support::targets::{SETTINGS, Tables, again, at, fresh, key, one, row, row_of, spec, unique, written};

#[path = "../suites/target.rs"]
mod suite;

/// The tables of the newest target.
#[derive(Default)]
struct Dynamo(tokio::sync::Mutex<Option<Tables>>);

#[async_trait]
impl suite::Bench for Dynamo {
    async fn target(&self, foreign_scope: ForeignScope) -> Arc<dyn Target> {
        let specs = suite::tables().iter().map(|shape| spec(&unique(&shape.name))).collect();
        let tables = Tables::of(specs).await;
        let target = tables.target(Settings { foreign_scope, ..SETTINGS }).await;
        *self.0.lock().await = Some(tables);
        Arc::new(Remembering::new(target))
    }

    async fn put(&self, row: TargetRow) {
        self.0.lock().await.as_ref().expect("a target").put(&row).await;
    }

    fn row(&self, table: u16, id: &str, value: &str) -> TargetRow {
        row(table, id, value)
    }

    fn knows_the_gone(&self) -> bool {
        false
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_target_dynamodb_keeps_the_contract() {
    suite::run(&Dynamo::default()).await;
}

/// Everything that the target says is ours, in order of key.
async fn inventory(target: &DynamoTarget) -> Vec<Placed> {
    let (out, mut pages) = mpsc::channel(1);
    let collect = async {
        let mut placed = Vec::new();
        while let Some(page) = pages.recv().await {
            placed.extend(page);
        }
        placed
    };
    let (told, mut placed) = tokio::join!(target.inventory(out), collect);
    assert_eq!(told.expect("it reads"), placed.len() as u64);
    placed.sort_by(|one, other| one.key.cmp(&other.key));
    placed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_ours_is_read_back_after_the_loss_of_all_local_state() {
    let tables = Tables::new().await;
    let target = tables.target(SETTINGS).await;
    tables.put(&row(0, "theirs", "1")).await;
    let forged = vec![("_rehome_u", Value::text("[\"m\",\"u\",\"01\"]")), ("_rehome_v", Value::text("1"))];
    tables.put(&row_of(0, "forged", forged)).await;
    let other = fresh("it's \"\u{d55c}\"", 3, vec![row(0, "c", "1"), row(0, "theirs", "2")]);
    target.apply(&[fresh("u", 2, vec![row(0, "b", "1"), row(1, "a", "1")]), other]).await.expect("it writes");
    one(&target, again("u", 4, vec![row(0, "b", "2"), row(1, "a", "1")], vec![key(0, "b"), key(1, "a")])).await;
    let placed = |unit: &str, table, id: &str, offset| Placed {
        unit: unit.into(),
        part: [1].into(),
        key: key(table, id),
        version: at(offset),
    };
    let expected = [
        placed("u", 0, "b", 4),
        placed("it's \"\u{d55c}\"", 0, "c", 3),
        // As it should be at the later write, and so still of the earlier one.
        placed("u", 1, "a", 2),
    ];
    assert_eq!(inventory(&target).await, expected);
    assert_eq!(target.owned("u").await.expect("it reads"), [key(0, "b"), key(1, "a")]);
    assert_eq!(target.owned("it's").await.expect("it reads"), []);
    // With that, what a part no longer has goes, although nothing local remembers it.
    let rebuilt =
        UnitWrite { trust: Trust::Fresh, ..again("u", 9, vec![], target.owned("u").await.expect("it reads")) };
    assert_eq!(one(&target, rebuilt).await, written(0, 0, 2));
    assert_eq!(inventory(&target).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_inventory_of_many_pages_is_whole() {
    let tables = Tables::new().await;
    let target = tables.target(SETTINGS).await;
    let big = |id: usize| fresh(&format!("u{id}"), 1, vec![row(0, &format!("{id:02}"), &"x".repeat(300_000))]);
    let batch: Vec<UnitWrite> = (0..12).map(big).collect();
    target.apply(&batch).await.expect("it writes");
    let placed = inventory(&target).await;
    let units: Vec<String> = placed.iter().map(|placed| placed.unit.to_string()).collect();
    assert_eq!(units, (0..12).map(|id| format!("u{id}")).collect::<Vec<_>>());
    let (out, mut pages) = mpsc::channel(1);
    let (told, ()) = tokio::join!(target.inventory(out), async {
        pages.recv().await.expect("a page");
        drop(pages);
    });
    assert!(told.expect("it ends") < 12, "it ends when nobody listens");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_value_is_read_as_it_was_written_without_our_mark() {
    let tables = Tables::new().await;
    let target = tables.target(SETTINGS).await;
    let number = |text: &str| Value::Decimal(Decimal::parse(text).expect("a decimal"));
    let digits = "-1.2345678901234567890123456789012345678E-90";
    let attributes = vec![
        ("number", number(digits)),
        ("whole", number("12345678901234567890123456789012345678")),
        ("null", Value::Null),
        ("empty", Value::text("")),
        ("bytes", Value::Bytes([0, 255].into())),
        ("texts", Value::TextSet([Box::from("b"), Box::from("a")].into())),
        ("numbers", Value::NumberSet([Decimal::from(3_i64), Decimal::from(20_i64).normalised()].into())),
        ("blobs", Value::BytesSet([Box::from([1]), Box::from([2])].into())),
        ("nested", Value::List(vec![Value::Map([(Box::from("k"), Value::Bool(true))].into()), Value::Null])),
    ];
    let wanted = row_of(0, "\u{d55c}\u{1f600}", attributes);
    assert_eq!(one(&target, fresh("u", 1, vec![wanted.clone()])).await, written(1, 0, 0));
    let there = target.read(&[key(0, "\u{d55c}\u{1f600}")]).await.expect("it reads").remove(0).expect("an item");
    let (Value::Map(there), Value::Map(wanted_item)) = (&there.values[1], &wanted.values[1]) else { panic!("items") };
    assert_eq!(there.keys().collect::<Vec<_>>(), wanted_item.keys().collect::<Vec<_>>());
    for (name, value) in wanted_item {
        match (value, &there[name]) {
            (Value::Decimal(wanted), Value::Decimal(there)) => assert!(wanted.same_value(there), "{name}"),
            (wanted, there) => assert_eq!(wanted, there, "{name}"),
        }
    }
    let same = again("u", 2, vec![wanted], vec![key(0, "\u{d55c}\u{1f600}")]);
    assert_eq!(one(&target, same).await, written(0, 1, 0), "another writing of a number is no change");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_stored_is_parked_before_anything_is_sent() {
    let (tables, shim) = (Tables::new().await, Shim::new().await);
    let target = tables.target_at(&shim.url, SETTINGS).await;
    let with = |value: Value| row_of(0, "bad", vec![("x", value)]);
    let number = Value::Decimal(Decimal::parse("1E126").expect("a decimal"));
    for (bad, expected) in [
        (with(Value::text("x".repeat(400 * 1024))), "item_too_large"),
        (with(number), "number_out_of_range"),
        (with(Value::TextSet([].into())), "not_storable"),
        (row(0, "", "1"), "not_storable"),
        (row(0, &"k".repeat(2049), "1"), "not_storable"),
    ] {
        let batch = [fresh("bad", 1, vec![row(0, "good", "1"), bad])];
        let outcome = target.apply(&batch).await.expect("it is parked").remove(0);
        assert!(matches!(&outcome, UnitOutcome::Parked { reason, .. } if **reason == *expected), "{outcome:?}");
    }
    assert_eq!(shim.calls(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_largest_item_that_we_send_is_one_that_dynamodb_takes() {
    let tables = Tables::new().await;
    let target = tables.target(SETTINGS).await;
    let of = |bytes: usize| fresh("u", 1, vec![row(0, "p", &"x".repeat(bytes))]);
    // The most that is not parked, found by halving.
    let (mut fits, mut over) = (400 * 1024 - 512, 400_usize * 1024);
    while over - fits > 1 {
        let middle = fits.midpoint(over);
        let outcome = one(&target, UnitWrite { unit: middle.to_string().into(), ..of(middle) }).await;
        match outcome {
            UnitOutcome::Parked { reason, .. } if *reason == *"item_too_large" => over = middle,
            // The first one is written, the others find it there: none is refused by the service.
            UnitOutcome::Written { .. } => fits = middle,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(one(&target, UnitWrite { unit: "last".into(), ..of(fits) }).await, {
        UnitOutcome::Written { upserted: 0, unchanged: 0, deleted: 0, foreign: 1, matched_foreign: 0 }
    });
    let largest = fresh("u", 1, vec![row(0, "q", &"x".repeat(fits))]);
    assert_eq!(one(&target, largest).await, written(1, 0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_write_that_a_fresh_one_meets_is_left_whole() {
    let tables = Tables::new().await;
    let target = tables.target(SETTINGS).await;
    one(&target, fresh("u", 9, vec![row(0, "p", "9")])).await;
    // As after the loss of local state: nothing is known of the part, and an older state of it is written.
    let older = fresh("u", 5, vec![row(0, "p", "5"), row(0, "q", "5"), row(1, "r", "5")]);
    assert_eq!(one(&target, older).await, UnitOutcome::Superseded { by: at(9) });
    let there = target.read(&[key(0, "p"), key(0, "q"), key(1, "r")]).await.expect("it reads");
    assert_eq!(there, [Some(row(0, "p", "9")), None, None], "what it put is taken back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_item_of_another_migration_or_part_is_foreign() {
    let tables = Tables::new().await;
    let target = tables.target(SETTINGS).await;
    let others = DynamoTarget::open(&tables.server, "m2", Arc::clone(&tables.specs), SETTINGS).await.expect("it opens");
    one(&others, fresh("u", 1, vec![row(0, "p", "1")])).await;
    let foreign = UnitOutcome::Written { upserted: 0, unchanged: 0, deleted: 0, foreign: 1, matched_foreign: 0 };
    assert_eq!(one(&target, fresh("u", 9, vec![row(0, "p", "2")])).await, foreign);
    assert_eq!(one(&target, again("u", 9, vec![], vec![key(0, "p")])).await, written(0, 0, 0), "nor deleted");
    one(&target, fresh("u", 1, vec![row(0, "q", "1")])).await;
    let other_part = UnitWrite { part: [2].into(), ..fresh("u", 9, vec![row(0, "q", "2")]) };
    assert_eq!(one(&target, other_part).await, foreign);
    let there = target.read(&[key(0, "p"), key(0, "q")]).await.expect("it reads");
    assert_eq!(there, [Some(row(0, "p", "1")), Some(row(0, "q", "1"))]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_as_it_should_be_costs_no_write() {
    let (tables, shim) = (Tables::new().await, Shim::new().await);
    let target = tables.target_at(&shim.url, SETTINGS).await;
    one(&target, fresh("u", 1, vec![row(0, "p", "1"), row(0, "q", "1")])).await;
    let before = target.consumed();
    assert!(before.write_units >= 2.0, "{before:?}");
    let same = again("u", 2, vec![row(0, "p", "1"), row(0, "q", "1")], vec![key(0, "p"), key(0, "q")]);
    assert_eq!(one(&target, same).await, written(0, 2, 0));
    let after = target.consumed();
    assert!(after.write_units == before.write_units && after.read_units > before.read_units, "{after:?}");
    assert_eq!(shim.calls_of("PutItem").len(), 2);
}

/// Settings of an operator who says that nobody else writes.
const EXCLUSIVE: Settings = Settings { sharing: Sharing::Exclusive, ..SETTINGS };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_fill_an_empty_table_and_end_with_the_first_write_of_something_written() {
    let (tables, shim) = (Tables::new().await, Shim::new().await);
    let target = tables.target_at(&shim.url, EXCLUSIVE).await;
    let batch: Vec<UnitWrite> =
        (0..60).map(|id| fresh(&format!("u{id}"), 1, vec![row(0, &id.to_string(), "1")])).collect();
    let outcomes = target.apply(&batch).await.expect("it writes");
    assert!(outcomes.iter().all(|outcome| *outcome == written(1, 0, 0)), "{outcomes:?}");
    let count = || (shim.calls_of("BatchWriteItem").len(), shim.calls_of("PutItem").len());
    assert_eq!(count(), (3, 0));
    assert_eq!(inventory(&target).await.len(), 60, "each has its mark");
    assert!(target.consumed().write_units >= 60.0);
    assert_eq!(one(&target, again("u0", 2, vec![row(0, "0", "2")], vec![key(0, "0")])).await, written(1, 0, 0));
    assert_eq!(one(&target, fresh("new", 3, vec![row(0, "new", "1")])).await, written(1, 0, 0));
    assert_eq!(count(), (3, 2), "that table is live now");
    assert_eq!(one(&target, fresh("other", 3, vec![row(1, "new", "1")])).await, written(1, 0, 0));
    assert_eq!(count(), (4, 2), "the other one is not");
    let restarted = tables.target_at(&shim.url, EXCLUSIVE).await;
    one(&restarted, fresh("x", 4, vec![row(0, "x", "1"), row(1, "x", "1")])).await;
    assert_eq!(count(), (4, 4), "a table that holds something is written conditionally");
}

/// One table without indexes, and one whose live form has an index that the definition does not know.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_items_cost_what_the_server_says_of_the_same_items() {
    for (settings, operation) in [(SETTINGS, "PutItem"), (EXCLUSIVE, "BatchWriteItem")] {
        let (plain, indexed) = (spec(&unique("plain")), spec(&unique("indexed")));
        let by_value = IndexSpec {
            name: "by-value".into(),
            key: vec![KeyAttribute { name: "value".into(), kind: KeyKind::S }],
            projection: Projection::All,
        };
        let live = TableSpec { indexes: vec![by_value], ..indexed.clone() };
        let tables = Tables::of([plain.clone(), live].into()).await;
        let (tables, shim) = (Tables { specs: [plain, indexed].into(), ..tables }, Shim::new().await);
        let target = tables.target_at(&shim.url, settings).await;
        for table in [0, 1] {
            let sizes = [1, 800, 1_000, 1_024, 3_000, 50_000];
            let writes = sizes.map(|size| {
                let more = vec![("value", Value::text("v")), ("text", Value::text("x".repeat(size)))];
                fresh(&format!("u{size}"), 1, vec![row_of(table, &format!("a{size}"), more)])
            });
            let before = target.consumed().write_units;
            target.apply(&writes).await.expect("it writes");
            let ours = target.consumed().write_units - before;
            let asked = shim.calls_of(operation).pop().expect("a call").get("ReturnConsumedCapacity").is_some();
            assert_eq!(asked, table == 1, "where an index has a share, the answer is to say it");
            let (client, name) = (tables.server.tables(), &tables.specs[usize::from(table)].name);
            let mut told = 0.0;
            for size in sizes {
                let id = |name: &str| AttributeValue::S(format!("{name}{size}"));
                let get = client.get_item().table_name(&**name).key("id", id("a")).consistent_read(true);
                let item = get.send().await.expect("it reads").item.expect("an item");
                // A new item, of the same size.
                let item = item.into_iter().chain([("id".to_owned(), id("b"))]).collect();
                let put = client.put_item().table_name(&**name).set_item(Some(item));
                let put = put.return_consumed_capacity(ReturnConsumedCapacity::Total).send().await.expect("it is put");
                told += put.consumed_capacity.and_then(|capacity| capacity.capacity_units).expect("it says so");
            }
            assert!(ours == told && told > 50.0, "{operation}, table {table}: {ours} units, the server says {told}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shared_table_is_never_written_in_batches() {
    let (tables, shim) = (Tables::new().await, Shim::new().await);
    let target = tables.target_at(&shim.url, SETTINGS).await;
    one(&target, fresh("u", 1, vec![row(0, "p", "1")])).await;
    assert!(shim.calls_of("BatchWriteItem").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_parts_of_one_key_do_not_meet_in_a_batch() {
    let tables = Tables::new().await;
    let target = tables.target(EXCLUSIVE).await;
    let batch = [
        fresh("a", 1, vec![row(0, "k", "a")]),
        fresh("b", 1, vec![row(0, "k", "b"), row(0, "l", "b")]),
        fresh("c", 1, vec![row(0, "m", "c"), row(0, "m", "c")]),
    ];
    let outcomes = target.apply(&batch).await.expect("it writes");
    let foreign = UnitOutcome::Written { upserted: 1, unchanged: 0, deleted: 0, foreign: 1, matched_foreign: 0 };
    assert_eq!(outcomes[..2], [written(1, 0, 0), foreign]);
    assert!(matches!(&outcomes[2], UnitOutcome::Parked { reason, .. } if **reason == *"key_collision"));
    assert_eq!(target.read(&[key(0, "k")]).await.expect("it reads"), [Some(row(0, "k", "a"))]);
}

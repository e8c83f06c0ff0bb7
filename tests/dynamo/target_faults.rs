//! What a target does when the service throttles, leaves things undone, or does not answer; and when others write meanwhile.

use rehome::dynamo::target::{Settings, Sharing};
use rehome::event::Value;
use rehome::target::{Error, ForeignScope, Target as _, UnitOutcome, UnitWrite};

use crate::support::capture::patiently;
use crate::support::shim::{Fault, Shim};
use crate::support::targets::{SETTINGS, Tables, again, at, fresh, key, one, row, row_of, written};

const EXCLUSIVE: Settings = Settings { sharing: Sharing::Exclusive, ..SETTINGS };

fn unreachable<T: std::fmt::Debug>(result: Result<T, Error>) {
    assert!(matches!(result, Err(Error::Unreachable { .. })), "{result:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn throttled_writes_are_made_again_and_slow_the_rate_down() {
    let (tables, shim) = (Tables::new().await, Shim::new().await);
    let target = tables.target_at(&shim.url, SETTINGS).await;
    shim.fault("PutItem", 3, Fault::Refuse("ProvisionedThroughputExceededException"));
    assert_eq!(one(&target, fresh("u", 1, vec![row(0, "p", "1")])).await, written(1, 0, 0));
    let consumed = target.consumed();
    assert_eq!((consumed.throttled, consumed.retried, shim.left()), (3, 3, 0));
    assert!(consumed.write_units_limit.is_some(), "{consumed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operators_cap_holds_from_the_first_write() {
    let tables = Tables::new().await;
    let target = tables.target(Settings { write_units_max: Some(500), ..SETTINGS }).await;
    let batch: Vec<_> = (0..40).map(|id| fresh(&format!("u{id}"), 1, vec![row(0, &id.to_string(), "1")])).collect();
    target.apply(&batch).await.expect("it writes");
    let consumed = target.consumed();
    assert_eq!((consumed.write_units_limit, consumed.write_units), (Some(500.0), 40.0));
}

/// Five parts of an item each, of 3 KiB and a bit: 4 units.
fn batch_of_five() -> Vec<UnitWrite> {
    let item = |id: u16| row_of(id % 2, &id.to_string(), vec![("text", Value::text("x".repeat(3_072)))]);
    (0..5).map(|id| fresh(&format!("u{id}"), 1, vec![item(id)])).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_batch_leaves_unprocessed_is_sent_again() {
    let (tables, shim) = (Tables::new().await, Shim::new().await);
    let target = tables.target_at(&shim.url, EXCLUSIVE).await;
    shim.fault("BatchWriteItem", 2, Fault::Unprocessed);
    let outcomes = target.apply(&batch_of_five()).await.expect("it writes");
    assert_eq!(outcomes, vec![written(1, 0, 0); 5]);
    let keys: Vec<_> = (0..5).map(|id| key(id % 2, &id.to_string())).collect();
    assert!(target.read(&keys).await.expect("it reads").iter().all(Option::is_some));
    let consumed = target.consumed();
    assert_eq!((consumed.throttled, shim.calls_of("BatchWriteItem").len()), (2, 3));
    assert_eq!(consumed.write_units, 20.0, "each item once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_batch_wrote_before_it_was_given_up_is_counted() {
    let (tables, shim) = (Tables::new().await, Shim::new().await);
    let target = tables.target_at(&shim.url, EXCLUSIVE).await;
    // The first item is written, and then one refusal ends it.
    shim.fault("BatchWriteItem", 1, Fault::Unprocessed);
    shim.fault("BatchWriteItem", 1, Fault::Fail);
    unreachable(target.apply(&batch_of_five()).await);
    assert_eq!(target.consumed().write_units, 4.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_is_refused_is_written_one_by_one() {
    let (tables, shim) = (Tables::new().await, Shim::new().await);
    let target = tables.target_at(&shim.url, EXCLUSIVE).await;
    shim.fault("BatchWriteItem", 1, Fault::Refuse("ValidationException"));
    shim.fault("PutItem", 1, Fault::Refuse("ValidationException"));
    let batch: Vec<_> = (0..3).map(|id| fresh(&format!("u{id}"), 1, vec![row(0, &id.to_string(), "1")])).collect();
    let outcomes = target.apply(&batch).await.expect("it writes");
    let parked =
        |outcome: &&UnitOutcome| matches!(outcome, UnitOutcome::Parked { reason, .. } if **reason == *"not_storable");
    assert_eq!(outcomes.iter().filter(parked).count(), 1, "{outcomes:?}");
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == written(1, 0, 0)).count(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_whose_answer_was_lost_is_a_repeat() {
    let (tables, shim) = (Tables::new().await, Shim::new().await);
    let target = tables.target_at(&shim.url, SETTINGS).await;
    let write = fresh("u", 1, vec![row(0, "p", "1")]);
    shim.fault("PutItem", 1, Fault::DoneUnanswered);
    unreachable(target.apply(std::slice::from_ref(&write)).await);
    assert_eq!(one(&target, write).await, UnitOutcome::Repeated);
    let changed = again("u", 2, vec![row(0, "p", "2")], vec![key(0, "p")]);
    shim.fault("PutItem", 1, Fault::DoneUnanswered);
    unreachable(target.apply(std::slice::from_ref(&changed)).await);
    assert_eq!(one(&target, changed).await, UnitOutcome::Repeated);
    assert_eq!(target.read(&[key(0, "p")]).await.expect("it reads"), [Some(row(0, "p", "2"))]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_whose_answer_was_lost_comes_out_the_same() {
    let (tables, shim) = (Tables::new().await, Shim::new().await);
    let target = tables.target_at(&shim.url, EXCLUSIVE).await;
    let batch: Vec<_> = (0..3).map(|id| fresh(&format!("u{id}"), 1, vec![row(0, &id.to_string(), "1")])).collect();
    shim.fault("BatchWriteItem", 1, Fault::DoneUnanswered);
    unreachable(target.apply(&batch).await);
    assert_eq!(target.apply(&batch).await.expect("it writes"), vec![written(1, 0, 0); 3]);
    let keys: Vec<_> = (0..3).map(|id| key(0, &id.to_string())).collect();
    let there = target.read(&keys).await.expect("it reads");
    assert_eq!(there, (0..3).map(|id| Some(row(0, &id.to_string(), "1"))).collect::<Vec<_>>());
}

/// A crash between the items of a part: its write is repeated, and what it began is finished.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_that_was_written_by_half_is_finished_by_its_repetition() {
    let tables = Tables::new().await;
    let first = [row(0, "old", "1"), row(0, "kept", "1")];
    let second = [row(0, "kept", "2"), row(0, "new", "1"), row(1, "new", "1")];
    let before = || vec![key(0, "old"), key(0, "kept")];
    one(&tables.target(SETTINGS).await, fresh("u", 1, first.to_vec())).await;
    // Cut off after one, two and three of its four requests, one after the other.
    for (operation, left) in [("PutItem", 0), ("PutItem", 1), ("PutItem", 2), ("DeleteItem", 0)] {
        let shim = Shim::new().await;
        let target = tables.target_at(&shim.url, Settings { concurrency: 1, ..SETTINGS }).await;
        if left > 0 {
            shim.fault(operation, left, Fault::Pass);
        }
        shim.fault(operation, 1, Fault::Fail);
        unreachable(target.apply(&[again("u", 2, second.to_vec(), before())]).await);
        let there = target.read(&[key(0, "old")]).await.expect("it reads");
        assert_eq!(there, [Some(row(0, "old", "1"))], "deletes come last");
        one(&target, again("u", 2, first.to_vec(), [before(), vec![key(0, "new"), key(1, "new")]].concat())).await;
    }
    let shim = Shim::new().await;
    let target = tables.target_at(&shim.url, SETTINGS).await;
    shim.fault("DeleteItem", 1, Fault::DoneUnanswered);
    let write = again("u", 3, second.to_vec(), before());
    unreachable(target.apply(std::slice::from_ref(&write)).await);
    // Another process goes on.
    let outcome = one(&tables.target(SETTINGS).await, write).await;
    assert_eq!(outcome, UnitOutcome::Repeated, "all of it had happened");
    let keys = [key(0, "old"), key(0, "kept"), key(0, "new"), key(1, "new")];
    let there = target.read(&keys).await.expect("it reads");
    let [kept, new, child] = second.map(Some);
    assert_eq!(there, [None, kept, new, child]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_item_that_someone_puts_between_look_and_write_is_left_alone() {
    for (scope, before) in [(ForeignScope::Row, None), (ForeignScope::Unit, None), (ForeignScope::Row, Some("1"))] {
        let (tables, shim) = (Tables::new().await, Shim::new().await);
        let target = tables.target_at(&shim.url, Settings { foreign_scope: scope, ..SETTINGS }).await;
        if let Some(value) = before {
            one(&target, fresh("u", 1, vec![row(0, "p", value)])).await;
        }
        shim.fault("PutItem", 2, Fault::Hold);
        let write = again("u", 2, vec![row(0, "p", "ours"), row(0, "q", "ours")], vec![key(0, "p")]);
        let meanwhile = async {
            patiently("both are on their way", shim.waiting(2)).await;
            tables.put(&row(0, "p", "theirs")).await;
            shim.release();
        };
        let (outcome, ()) = tokio::join!(one(&target, write), meanwhile);
        let there = target.read(&[key(0, "p"), key(0, "q")]).await.expect("it reads");
        assert_eq!(there[0], Some(row(0, "p", "theirs")));
        match scope {
            ForeignScope::Row => {
                let expected =
                    UnitOutcome::Written { upserted: 1, unchanged: 0, deleted: 0, foreign: 1, matched_foreign: 0 };
                assert_eq!((outcome, &there[1]), (expected, &Some(row(0, "q", "ours"))));
            }
            ForeignScope::Unit => {
                assert!(
                    matches!(&outcome, UnitOutcome::Parked { reason, .. } if **reason == *"foreign"),
                    "{outcome:?}"
                );
                assert_eq!(there[1], None, "what was put is taken back");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_write_that_comes_in_between_wins() {
    let (tables, shim) = (Tables::new().await, Shim::new().await);
    let (slow, quick) = (tables.target_at(&shim.url, SETTINGS).await, tables.target(SETTINGS).await);
    one(&quick, fresh("u", 1, vec![row(0, "p", "1")])).await;
    shim.fault("PutItem", 1, Fault::Hold);
    let meanwhile = async {
        patiently("it is on its way", shim.waiting(1)).await;
        one(&quick, again("u", 3, vec![row(0, "p", "3")], vec![key(0, "p")])).await;
        shim.release();
    };
    let write = again("u", 2, vec![row(0, "p", "2")], vec![key(0, "p")]);
    let (outcome, ()) = tokio::join!(one(&slow, write), meanwhile);
    assert_eq!(outcome, UnitOutcome::Superseded { by: at(3) });
    assert_eq!(quick.read(&[key(0, "p")]).await.expect("it reads"), [Some(row(0, "p", "3"))]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_item_that_someone_deletes_in_between_is_put_again() {
    let (tables, shim) = (Tables::new().await, Shim::new().await);
    let target = tables.target_at(&shim.url, SETTINGS).await;
    one(&target, fresh("u", 1, vec![row(0, "p", "1")])).await;
    shim.fault("PutItem", 1, Fault::Hold);
    let meanwhile = async {
        patiently("it is on its way", shim.waiting(1)).await;
        let name = &tables.specs[0].name;
        let id = aws_sdk_dynamodb::types::AttributeValue::S("p".into());
        tables.server.tables().delete_item().table_name(&**name).key("id", id).send().await.expect("it is deleted");
        shim.release();
    };
    let write = again("u", 2, vec![row(0, "p", "2")], vec![key(0, "p")]);
    let (outcome, ()) = tokio::join!(one(&target, write), meanwhile);
    assert_eq!(outcome, written(1, 0, 0));
    assert_eq!(target.read(&[key(0, "p")]).await.expect("it reads"), [Some(row(0, "p", "2"))]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_say_what_to_do_and_no_row() {
    let (tables, shim) = (Tables::new().await, Shim::new().await);
    let target = tables.target_at(&shim.url, SETTINGS).await;
    shim.fault("PutItem", 1, Fault::Refuse("AccessDeniedException"));
    let error = target.apply(&[fresh("u", 1, vec![row(0, "MARKER", "MARKER")])]).await.expect_err("refused");
    let name = &tables.specs[0].name;
    let expected = format!(
        "the target refused to write target items: AccessDeniedException table {name}: made up by the shim (let these \
         credentials write target items: table {name})"
    );
    assert_eq!(error.to_string(), expected);
}

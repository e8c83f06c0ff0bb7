//! Both databases are the ones that they were: another source is refused, another target is filled, another writer is told.

use crate::support::legacy;
use crate::support::rig::Rig;

/// Ten calls with a request each.
const CALLS: &str = "insert into conversation_calls (call_id, status) select 'c' || i, 'success' from generate_series(1, 10) i; \
    insert into conversation_events (call_id, event_type, hook, sequence, payload) \
      select 'c' || i, 'request_started', 'h', i, '{\"original_messages\": [{\"role\": \"user\", \"content\": \"hello\"}]}' \
      from generate_series(1, 10) i";

const COUNT: &str = "select count(*)::text from conversation_calls_v2";

async fn migrated() -> Rig {
    let mut rig = Rig::up().await;
    rig.legacy.run(CALLS).await;
    rig.catch_up();
    assert_eq!(rig.target.text(COUNT).await, "10");
    rig
}

#[tokio::test(flavor = "multi_thread")]
async fn another_source_is_refused_and_an_emptied_one_does_not_empty_the_target() {
    let mut rig = migrated().await;
    let right = std::mem::replace(&mut rig.legacy, legacy::database().await);
    let refused = rig.rehome(&["run", "luthien", "--until", "caught-up"]).expect(3);
    assert!(
        refused.err.contains("another server or database") && refused.err.contains("--accept-source"),
        "{refused:?}"
    );
    assert_eq!(rig.legacy.text("select count(*)::text from pg_publication").await, "0", "nothing was made in it");
    // Taken for right by mistake, it still empties nothing: the new snapshot found no row at all.
    let halted = rig.rehome(&["run", "luthien", "--until", "caught-up", "--accept-source"]).expect(3);
    assert!(halted.err.contains("no row at all"), "{halted:?}");
    assert_eq!(rig.target.text(COUNT).await, "10");
    rig.legacy = right;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_target_is_filled_again() {
    let mut rig = migrated().await;
    rig.target
        .run("truncate conversation_calls_v2, conversation_events_v2, policy_events cascade; truncate rehome.units")
        .await;
    rig.catch_up();
    assert_eq!(rig.target.text(COUNT).await, "10");
    rig.compare().await.assert_equal();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_version_of_someone_else_is_told_and_not_taken_for_written() {
    let mut rig = migrated().await;
    // What a second state folder with a later log would have left.
    rig.target.run("update rehome.units set version = '\\xff'::bytea || substring(version from 2)").await;
    rig.legacy.run("update conversation_calls set provider = 'p'").await;
    let told = rig.rehome(&["run", "luthien", "--until", "caught-up"]).expect(3);
    assert!(told.err.contains("newer versions"), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_someone_else_under_a_unit_are_seen_by_diff() {
    let mut rig = migrated().await;
    assert_eq!(rig.diff("c3"), (0, "MATCH".to_owned()));
    rig.target
        .run(
            "insert into conversation_events_v2 (id, call_id, event_type, sequence, payload, created_at) \
             values (gen_random_uuid(), 'c3', 'response', 999, '{}', now())",
        )
        .await;
    assert_eq!(rig.diff("c3"), (1, "MISMATCH".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_deleted_while_the_slot_was_lost_are_swept_before_the_run_ends() {
    let mut rig = migrated().await;
    rig.legacy
        .run("select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = current_database()")
        .await;
    for table in ["conversation_events", "conversation_calls"] {
        rig.legacy.run(format!("delete from {table} where call_id in ('c1', 'c2')")).await;
    }
    rig.catch_up();
    assert_eq!(rig.target.text(COUNT).await, "8");
    rig.compare().await.assert_equal();
    assert_eq!(rig.status()["balanced"], true);
}

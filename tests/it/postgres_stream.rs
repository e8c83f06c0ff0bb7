//! The stream's traps against a real server, each under its number in the notes on capture.

use rehome::event::{Epoch, Event, Key, Op, Value};
use rehome::postgres::preflight::{Severity, preflight};
use rehome::postgres::{Server, catalog};

use crate::support::capture::{after, config, live, patiently, public, start};
use crate::support::cluster::{Database, run};
use crate::support::fold::{fold, texts};
use crate::support::gate::{GateLog, Hold};

/// A table with a column that is always stored out of line.
const TOAST: &str = "create table t (id int8 primary key, n int4, big text);
    alter table t alter column big set storage external;";

/// A value that goes to TOAST, different for each `seed`.
fn big(seed: &str) -> String {
    format!("repeat(md5('{seed}'), 300)")
}

fn key(id: i64) -> Key {
    Key(vec![Value::Int(id)])
}

/// The table as the server has it, in the form of [`texts`].
async fn stored(database: &mut Database) -> Vec<String> {
    database.texts("select concat_ws('|', id, n, coalesce(big, 'NULL')) from t order by id").await
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_unchanged_toast_is_missing_and_never_null() {
    let mut database = Database::new().await;
    database.run(TOAST).await;
    database.run(format!("insert into t values (1, 1, {})", big("a"))).await;
    let mut running = live(&database, &["t"]).await;
    database.run("update t set n = 2").await;
    running.settled(&mut database).await;
    let updates = running.changes(&[Op::Update]).await;
    assert_eq!(updates.len(), 1);
    assert_eq!(after(&running, &updates[0], "n"), Some(Value::Int(2)));
    assert_eq!(after(&running, &updates[0], "big"), None);
    assert_eq!((&updates[0].before, &updates[0].old_key), (&None, &None));
    assert_eq!(texts(&fold(&*running.log, &public("t")).await), stored(&mut database).await);
    running.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn p2_a_key_change_with_unchanged_toast_names_the_old_key() {
    let mut database = Database::new().await;
    database.run(TOAST).await;
    database.run(format!("insert into t values (1, 1, {})", big("a"))).await;
    let mut running = live(&database, &["t"]).await;
    database.run("update t set id = 7, n = 3").await;
    running.settled(&mut database).await;
    let updates = running.changes(&[Op::Update]).await;
    assert_eq!(updates.len(), 1);
    assert_eq!((&updates[0].key, &updates[0].old_key), (&key(7), &Some(key(1))));
    assert_eq!(after(&running, &updates[0], "big"), None);
    assert_eq!(texts(&fold(&*running.log, &public("t")).await), stored(&mut database).await);
    running.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn p2_an_update_captured_before_its_row_is_copied_is_filled_from_the_copy() {
    let mut database = Database::new().await;
    database.run(TOAST).await;
    database.run(format!("insert into t select id, 0, {} from generate_series(1, 3) id", big("x"))).await;
    let gate = GateLog::new();
    gate.hold(Hold::RowsAfter(0));
    let mut running = start(config(&database.url, &["t"]), gate.clone());
    patiently("the copy at the gate", gate.held()).await;
    database
        .run("update t set n = 1 where id = 1; update t set id = 20 where id = 2; delete from t where id = 3")
        .await;
    running.settled(&mut database).await;
    assert_eq!(running.changes(&[Op::Update]).await.len(), 2, "the stream is ahead of the copy");
    assert_eq!(running.changes(&[Op::Read]).await.len(), 0);
    gate.hold(Hold::Nothing);
    running.caught_up().await;
    assert_eq!(running.changes(&[Op::Read]).await.len(), 3);
    assert_eq!(texts(&fold(&*running.log, &public("t")).await), stored(&mut database).await);
    running.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_under_identity_full_unchanged_toast_comes_from_the_old_row() {
    let mut database = Database::new().await;
    database.run(TOAST).await;
    database.run(format!("alter table t replica identity full; insert into t values (1, 1, {})", big("a"))).await;
    let mut running = live(&database, &["t"]).await;
    database.run("update t set n = 2; update t set id = 2; delete from t").await;
    running.settled(&mut database).await;
    let changes = running.changes(&[Op::Update, Op::Delete]).await;
    assert_eq!(changes.iter().map(|event| event.op).collect::<Vec<_>>(), [Op::Update, Op::Update, Op::Delete]);
    assert!(changes.iter().all(|event| event.before.as_ref().is_some_and(rehome::event::Row::complete)));
    assert!(after(&running, &changes[0], "big").is_some());
    assert_eq!((&changes[0].key, &changes[0].old_key), (&key(1), &None));
    assert_eq!((&changes[1].key, &changes[1].old_key), (&key(2), &Some(key(1))));
    assert_eq!(changes[2].key, key(2));
    running.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn p4_a_delete_under_the_default_identity_tells_the_key_and_no_row() {
    let mut database = Database::new().await;
    database.run(TOAST).await;
    database.run("insert into t values (1, 1, 'x')").await;
    let mut running = live(&database, &["t"]).await;
    database.run("delete from t").await;
    running.settled(&mut database).await;
    let deletes = running.changes(&[Op::Delete]).await;
    assert_eq!(deletes.len(), 1);
    assert_eq!((&deletes[0].key, &deletes[0].before, &deletes[0].after), (&key(1), &None, &None));
    running.stop().await.expect("a clean end");
}

/// A table in two partitions, the second with its columns in another order.
const PARTITIONED: &str = "
    create table t (id int8 primary key, n int4, big text) partition by range (id);
    create table t_low partition of t for values from (0) to (100);
    create table t_high (big text, junk int4, id int8 not null, n int4);
    alter table t_high drop column junk;
    alter table t attach partition t_high for values from (100) to (1000);";

#[tokio::test(flavor = "multi_thread")]
async fn p5_partitions_are_copied_and_streamed_under_their_root() {
    let mut database = Database::new().await;
    database.run(PARTITIONED).await;
    database.run("insert into t values (1, 10, 'a'), (101, 11, 'b')").await;
    let mut running = live(&database, &["t"]).await;
    database.run("update t set id = 102 where id = 1; insert into t values (2, 20, 'c')").await;
    running.settled(&mut database).await;
    let events = running.events().await;
    assert!(events.iter().all(|event| running.relation(event).name == public("t")));
    assert_eq!(events.iter().filter(|event| event.op == Op::Read).count(), 2);
    let moved: Vec<&Event> = events.iter().filter(|event| matches!(event.op, Op::Delete | Op::Insert)).collect();
    assert_eq!(moved.iter().map(|event| event.op).collect::<Vec<_>>(), [Op::Delete, Op::Insert, Op::Insert]);
    assert_eq!(moved[0].transaction.map(|tx| tx.xid), moved[1].transaction.map(|tx| tx.xid), "one logical change");
    assert!(moved[0].version < moved[1].version);
    assert_eq!(texts(&fold(&*running.log, &public("t")).await), stored(&mut database).await);
    running.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn p6_a_truncate_of_one_partition_is_not_streamed_and_opens_a_new_epoch_and_preflight_says_so() {
    let mut database = Database::new().await;
    database.run(PARTITIONED).await;
    database.run("insert into t values (1, 10, 'a')").await;
    let mut connection = Server::parse(&database.url).expect("a URL").connect().await.expect("a session");
    let tables = config(&database.url, &["t"]).tables;
    let findings = preflight(&mut connection, &tables, None).await.expect("it answers").findings;
    assert!(findings.iter().any(|found| found.severity == Severity::Warning && found.what.contains("TRUNCATE")));
    let mut running = live(&database, &["t"]).await;
    database.run("truncate t_low; insert into t values (2, 20, 'b')").await;
    let again = |status: &rehome::capture::CaptureStatus| status.epoch == Some(Epoch(2)) && status.caught_up.is_some();
    running.until("a new epoch", again).await;
    assert_eq!(running.changes(&[Op::Truncate]).await, []);
    assert_eq!(texts(&fold(&*running.log, &public("t")).await), stored(&mut database).await);
    running.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn p7_a_truncate_of_several_tables_is_one_event_each_in_one_transaction() {
    let mut database = Database::new().await;
    database
        .run("create table a (id int8 primary key); create table b (id int8 primary key); insert into a values (1)")
        .await;
    let mut running = live(&database, &["a", "b"]).await;
    database.run("truncate a, b restart identity; insert into a values (2)").await;
    running.settled(&mut database).await;
    let truncates = running.changes(&[Op::Truncate]).await;
    let mut names: Vec<_> = truncates.iter().map(|event| running.relation(event).name.table.to_string()).collect();
    names.sort();
    assert_eq!(names, ["a", "b"]);
    assert!(truncates[0].version < truncates[1].version);
    assert_eq!(texts(&fold(&*running.log, &public("a")).await), ["2"]);
    running.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn p12_an_update_that_changes_nothing_is_an_event_like_any_other() {
    let mut database = Database::new().await;
    database.run(TOAST).await;
    database.run("insert into t values (1, 1, 'x')").await;
    let mut running = live(&database, &["t"]).await;
    database.run("update t set n = n").await;
    running.settled(&mut database).await;
    let updates = running.changes(&[Op::Update]).await;
    assert_eq!(updates.len(), 1);
    assert!(updates[0].after.as_ref().is_some_and(rehome::event::Row::complete));
    running.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn p13_a_rolled_back_savepoint_leaves_nothing() {
    let mut database = Database::new().await;
    database.run(TOAST).await;
    let mut running = live(&database, &["t"]).await;
    database
        .run(
            "begin; insert into t values (1, 1, 'kept'); savepoint s; insert into t values (2, 2, 'undone'); \
             rollback to s; insert into t values (3, 3, 'kept'); commit; \
             begin; insert into t values (4, 4, 'undone'); rollback;",
        )
        .await;
    running.settled(&mut database).await;
    let inserts = running.changes(&[Op::Insert]).await;
    assert_eq!(inserts.iter().map(|event| event.key.clone()).collect::<Vec<_>>(), [key(1), key(3)]);
    assert_eq!(inserts.iter().map(|event| event.version.ordinal).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(
        inserts.iter().map(|event| event.transaction.is_some_and(|tx| tx.last)).collect::<Vec<_>>(),
        [false, true]
    );
    running.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn p14_versions_follow_commits_and_not_the_order_of_writing() {
    let mut database = Database::new().await;
    database.run(TOAST).await;
    let mut running = live(&database, &["t"]).await;
    let mut early = database.connect().await;
    run(&mut early, "begin; insert into t values (1, 1, 'written first, committed last')").await;
    database.run("insert into t values (2, 2, 'committed first')").await;
    run(&mut early, "update t set n = 9 where id = 2; commit").await;
    running.settled(&mut database).await;
    let changes = running.changes(&[Op::Insert, Op::Update]).await;
    assert_eq!(changes.iter().map(|event| event.key.clone()).collect::<Vec<_>>(), [key(2), key(1), key(2)]);
    assert!(changes.windows(2).all(|pair| pair[0].version < pair[1].version));
    let commits: Vec<_> = changes.iter().filter_map(|event| event.transaction.map(|tx| tx.commit)).collect();
    assert!(commits[0] < commits[1] && commits[1] == commits[2]);
    running.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stream_and_the_catalog_describe_a_relation_alike() {
    let mut database = Database::new().await;
    database
        .run(
            "create table a (x text, y int4, z int8, primary key (z, x)); \
             create table b (x text, y int4 not null, z int8 not null, primary key (z)); alter table b replica identity full; \
             create unique index b_y on b (y, z); \
             create table c (x text, y int4 not null, z int8 not null, primary key (z)); \
             create unique index c_y on c (y, z); alter table c replica identity using index c_y;",
        )
        .await;
    let mut running = live(&database, &["a", "b", "c"]).await;
    for table in ["a", "b", "c"] {
        database.run(format!("insert into {table} values ('x', 2, 3); update {table} set x = 'y', y = 4")).await;
    }
    running.settled(&mut database).await;
    let mut connection = Server::parse(&database.url).expect("a URL").connect().await.expect("a session");
    let expected = [("a", vec!["z", "x"]), ("b", vec!["z"]), ("c", vec!["y", "z"])];
    for (name, key) in expected {
        let table = catalog::table(&mut connection, &public(name)).await.expect("it answers").expect("a table");
        let columns: Vec<&str> =
            table.shape.key.iter().map(|index| &*table.shape.relation.columns[*index].name).collect();
        assert_eq!(columns, key, "{name}");
        let events = running.changes(&[Op::Insert, Op::Update, Op::Schema]).await;
        let of_table: Vec<_> = events.iter().filter(|event| running.relation(event).name == public(name)).collect();
        assert_eq!(of_table.iter().map(|event| event.op).collect::<Vec<_>>(), [Op::Insert, Op::Update], "{name}");
        assert!(of_table.iter().all(|event| event.relation == table.shape.hash), "{name}");
        let changed = of_table[1].old_key.is_some();
        assert_eq!(changed, name != "b", "{name}: the key changed where y or x is part of it");
    }
    running.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_change_is_an_event_and_the_capture_goes_on() {
    let mut database = Database::new().await;
    database.run(TOAST).await;
    database.run("insert into t values (1, 1, 'a')").await;
    let mut running = live(&database, &["t"]).await;
    database.run("insert into t values (2, 2, 'b')").await;
    database.run("alter table t add column extra text default 'e'; alter table t drop column n").await;
    database.run("insert into t values (3, 'c', 'f'); update t set big = 'd' where id = 1").await;
    running.settled(&mut database).await;
    let changes = running.changes(&[Op::Insert, Op::Update, Op::Schema]).await;
    let ops: Vec<Op> = changes.iter().map(|event| event.op).collect();
    assert_eq!(ops, [Op::Insert, Op::Schema, Op::Insert, Op::Update]);
    assert_eq!(changes[1].relation, changes[2].relation);
    assert_ne!(changes[0].relation, changes[1].relation);
    let columns = &running.relation(&changes[2]).columns;
    assert_eq!(columns.iter().map(|column| &*column.name).collect::<Vec<_>>(), ["id", "big", "extra"]);
    running.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_huge_transaction_is_split_and_moves_the_position_only_at_its_end() {
    let mut database = Database::new().await;
    database.run(TOAST).await;
    let gate = GateLog::new();
    let mut running = start(config(&database.url, &["t"]), gate.clone());
    running.caught_up().await;
    database.run("insert into t select id, 1, repeat('x', 200) from generate_series(1, 30000) id").await;
    running.settled(&mut database).await;
    let batches: Vec<_> =
        gate.appended().into_iter().filter(|batch| batch.events.iter().any(|event| event.op == Op::Insert)).collect();
    assert!(batches.len() > 3, "{} batches", batches.len());
    let (last, parts) = batches.split_last().expect("batches");
    assert!(last.confirmed.is_some());
    let before: Vec<_> = parts.iter().filter_map(|batch| batch.confirmed.as_ref()).collect();
    let commit = last.events[0].transaction.expect("streamed").commit;
    assert!(before.iter().all(|position| position.parse::<rehome::event::Lsn>().expect("a position") <= commit));
    let events: Vec<&Event> = batches.iter().flat_map(|batch| &batch.events).collect();
    assert_eq!(events.len(), 30_000);
    assert_eq!(events.iter().filter(|event| event.transaction.is_some_and(|tx| tx.last)).count(), 1);
    assert!(events.iter().enumerate().all(|(index, event)| event.version.ordinal as usize == index));
    running.stop().await.expect("a clean end");
}

/// The slot's acknowledged position, as a number of bytes.
const CONFIRMED: &str =
    "select (confirmed_flush_lsn - '0/0')::text from pg_replication_slots where database = current_database()";

/// Returns when the server has had so many replies.
async fn replies(database: &mut Database, count: usize) {
    let replied = "select reply_time::text from pg_stat_replication r join pg_replication_slots s on s.active_pid = r.pid \
                   where s.database = current_database()";
    for _ in 0..count {
        let last = database.text(replied).await;
        patiently("a reply", async { while database.text(replied).await == last {} }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_is_answered_while_a_long_transaction_waits_for_the_log() {
    let mut database = Database::new().await;
    database.run(TOAST).await;
    database.run(format!("alter database {} set wal_sender_timeout = '2s'", database.name)).await;
    let gate = GateLog::new();
    let mut running = start(config(&database.url, &["t"]), gate.clone());
    running.caught_up().await;
    gate.hold(Hold::Changes);
    database.run("insert into t select id, 1, repeat('x', 200) from generate_series(1, 30000) id").await;
    patiently("the transaction at the gate", gate.held()).await;
    // A reply a second: longer than the server's patience.
    replies(&mut database, 4).await;
    gate.hold(Hold::Nothing);
    running.settled(&mut database).await;
    assert_eq!(running.changes(&[Op::Insert]).await.len(), 30_000, "none of it came twice");
    assert_eq!(running.status.borrow().retries, 0);
    running.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_acknowledged_before_the_log_has_it() {
    let mut database = Database::new().await;
    database.run(TOAST).await;
    let gate = GateLog::new();
    let mut running = start(config(&database.url, &["t"]), gate.clone());
    running.caught_up().await;
    gate.hold(Hold::Changes);
    database.run("insert into t values (1, 1, 'x')").await;
    let commit: u64 = database.text("select (pg_current_wal_insert_lsn() - '0/0')::text").await.parse().expect("bytes");
    patiently("the change at the gate", gate.held()).await;
    replies(&mut database, 2).await;
    let confirmed: u64 = database.text(CONFIRMED).await.parse().expect("bytes");
    assert!(confirmed < commit, "{confirmed} is acknowledged, the change at {commit} is not in the log");
    gate.hold(Hold::Nothing);
    running.settled(&mut database).await;
    patiently("the acknowledgement", async {
        while database.text(CONFIRMED).await.parse::<u64>().expect("bytes") < commit {}
    })
    .await;
    running.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_database_does_not_pin_the_wal_of_a_busy_server() {
    let mut database = Database::new().await;
    database.run(TOAST).await;
    let mut slow = config(&database.url, &["t"]);
    slow.heartbeat = std::time::Duration::from_secs(3600);
    let gate = GateLog::new();
    let mut running = start(slow, gate.clone());
    running.caught_up().await;
    let mut other = Database::new().await;
    other.run("create table noise as select repeat('x', 100) from generate_series(1, 10000)").await;
    let end: u64 = other.text("select (pg_current_wal_insert_lsn() - '0/0')::text").await.parse().expect("bytes");
    patiently("the acknowledgement of another database's WAL", async {
        while database.text(CONFIRMED).await.parse::<u64>().expect("bytes") < end {
            other.run("insert into noise values ('x')").await;
        }
    })
    .await;
    let mark = gate.appended().into_iter().filter_map(|batch| batch.confirmed).next_back().expect("a mark");
    let mark: rehome::event::Lsn = mark.parse().expect("a position");
    assert!(mark.0 >= end, "the log's own position moved first");
    running.stop().await.expect("a clean end");
}

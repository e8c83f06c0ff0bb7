//! A capture from start to end: hand-off, resume, and what it does when things under it go away.

use std::sync::Arc;

use rehome::capture::Phase;
use rehome::event::Op;
use rehome::log::EventLog;

use crate::support::capture::{config, events, live, memory, patiently, public, start};
use crate::support::cluster::Database;
use crate::support::fold::{fold, texts};
use crate::support::gate::{GateLog, Hold};

/// A table of several ranges with a column out of line.
async fn wide_table(database: &mut Database, rows: u32) {
    database
        .run(format!(
            "create table t (id int8 primary key, n int4, pad text, big text) with (autovacuum_enabled = off); \
             alter table t alter column big set storage external; \
             insert into t select id, 0, repeat('p', 400), repeat(md5(id::text), 80) from generate_series(1, {rows}) id;"
        ))
        .await;
}

async fn stored(database: &mut Database) -> Vec<String> {
    database.texts("select concat_ws('|', id, n, pad, big) from t order by id").await
}

async fn same(log: &dyn EventLog, database: &mut Database) {
    let (log, source) = (texts(&fold(log, &public("t")).await), stored(database).await);
    assert_eq!(log.len(), source.len(), "count of rows");
    for (found, expected) in log.iter().zip(&source) {
        assert_eq!(found, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_table_is_captured_and_its_shape_is_known() {
    let mut database = Database::new().await;
    database.run("create table t (id int8 primary key)").await;
    let running = live(&database, &["t"]).await;
    assert_eq!(running.events().await, []);
    assert_eq!(running.log.relations().iter().map(|relation| relation.name.clone()).collect::<Vec<_>>(), [public("t")]);
    assert_eq!(running.log.mark("pg/copied/public.t").expect("it reads"), Some(b"0".to_vec()));
    assert_eq!(running.log.marks("capture/sweep/").expect("it reads"), [], "nothing is older than the first epoch");
    running.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_between_two_runs_is_captured_by_the_second() {
    let mut database = Database::new().await;
    wide_table(&mut database, 100).await;
    let log = memory();
    let mut first = start(config(&database.url, &["t"]), Arc::clone(&log));
    let status = first.caught_up().await;
    assert_eq!(status.phase, Phase::Live);
    let progress = status.tables[&public("t")];
    assert_eq!((progress.rows, progress.ranges_done), (100, progress.ranges_total));
    first.stop().await.expect("a clean end");
    database.run("update t set n = 1 where id <= 10; delete from t where id > 90").await;
    let mut second = start(config(&database.url, &["t"]), Arc::clone(&log));
    second.caught_up().await;
    assert_eq!(second.changes(&[Op::Read]).await.len(), 100, "nothing is copied twice");
    assert_eq!(second.changes(&[Op::Update, Op::Delete]).await.len(), 20);
    same(&*log, &mut database).await;
    second.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_killed_in_the_middle_goes_on_with_the_rest() {
    let mut database = Database::new().await;
    wide_table(&mut database, 2000).await;
    let gate = GateLog::new();
    gate.hold(Hold::RowsAfter(4));
    let first = start(config(&database.url, &["t"]), gate.clone());
    patiently("the copy at the gate", gate.held()).await;
    first.kill().await;
    let done = events(&*gate).await.len();
    assert!(done > 0 && done < 2000, "{done} rows were copied");
    gate.hold(Hold::Nothing);
    let mut second = start(config(&database.url, &["t"]), gate.clone());
    second.caught_up().await;
    assert_eq!(second.changes(&[Op::Read]).await.len(), 2000, "finished ranges are not read again");
    same(&*gate, &mut database).await;
    second.stop().await.expect("a clean end");
}

/// The case that ranges alone do not cover: a row that moved from a range not read yet into one that was, by an update that
/// did not tell its TOAST value.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_moved_into_a_finished_range_after_the_snapshot_was_lost_is_whole() {
    let mut database = Database::new().await;
    wide_table(&mut database, 2000).await;
    let gate = GateLog::new();
    gate.hold(Hold::RowsAfter(4));
    let mut one = config(&database.url, &["t"]);
    one.workers = 1;
    let first = start(one.clone(), gate.clone());
    patiently("the copy at the gate", gate.held()).await;
    first.kill().await;
    // Until the server sees that the killed sessions are gone, their snapshots keep deleted rows from being vacuumed.
    let others = "select count(*)::text from pg_stat_activity where datname = current_database() \
                  and pid <> pg_backend_pid() and backend_type in ('client backend', 'walsender')";
    patiently("the end of the killed sessions", async {
        while database.text(others).await != "0" {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
    // Room in the first blocks, then a row from the last ones moves there.
    database.run("delete from t where id <= 60").await;
    database.run("vacuum (index_cleanup on) t").await;
    database.run("update t set n = 7 where id > 1900").await;
    // One block is a range here, TOAST counted in, and four ranges were finished.
    let moved = database.text("select count(*)::text from t where id > 1900 and (ctid::text::point)[0] < 4").await;
    assert_ne!(moved, "0", "rows lie in finished ranges now");
    gate.hold(Hold::Nothing);
    let mut second = start(one, gate.clone());
    second.caught_up().await;
    same(&*gate, &mut database).await;
    second.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn losing_the_exported_snapshot_in_the_middle_does_not_start_the_copy_again() {
    let mut database = Database::new().await;
    wide_table(&mut database, 2000).await;
    let gate = GateLog::new();
    gate.hold(Hold::RowsAfter(4));
    let mut running = start(config(&database.url, &["t"]), gate.clone());
    patiently("the copy at the gate", gate.held()).await;
    // The session that holds the snapshot is the replication session that does not stream.
    let ended = "select pg_terminate_backend(pid)::text from pg_stat_activity where datname = current_database() \
                 and backend_type = 'walsender' and query ilike 'create_replication_slot%'";
    assert_eq!(database.texts(ended).await, ["true"]);
    database.run("update t set n = 5 where id % 10 = 0").await;
    gate.hold(Hold::Nothing);
    let status = running.caught_up().await;
    assert_eq!((status.epoch.map(|epoch| epoch.0), status.retries), (Some(1), 0));
    same(&*gate, &mut database).await;
    assert!(running.changes(&[Op::Read]).await.len() < 4000);
    running.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_rewritten_while_it_is_copied_is_copied_again_whole() {
    let mut database = Database::new().await;
    wide_table(&mut database, 2000).await;
    let gate = GateLog::new();
    gate.hold(Hold::RowsAfter(4));
    let first = start(config(&database.url, &["t"]), gate.clone());
    patiently("the copy at the gate", gate.held()).await;
    first.kill().await;
    database.run("delete from t where id % 3 = 0").await;
    database.run("vacuum full t").await;
    gate.hold(Hold::Nothing);
    let mut second = start(config(&database.url, &["t"]), gate.clone());
    second.caught_up().await;
    same(&*gate, &mut database).await;
    second.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_truncated_while_it_is_copied_holds_what_came_after() {
    let mut database = Database::new().await;
    wide_table(&mut database, 2000).await;
    let gate = GateLog::new();
    gate.hold(Hold::RowsAfter(4));
    let mut one = config(&database.url, &["t"]);
    one.workers = 1;
    let mut running = start(one, gate.clone());
    patiently("the copy at the gate", gate.held()).await;
    // The worker's open range holds a lock: let it finish before the truncate waits for it.
    gate.hold(Hold::RowsAfter(6));
    database.run("truncate t; insert into t values (1, 1, 'p', 'b')").await;
    gate.hold(Hold::Nothing);
    running.caught_up().await;
    running.settled(&mut database).await;
    same(&*gate, &mut database).await;
    running.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_is_made_again_without_a_gap() {
    let mut database = Database::new().await;
    wide_table(&mut database, 100).await;
    let mut running = live(&database, &["t"]).await;
    for round in 1..=3 {
        database
            .run(
                "select pg_terminate_backend(pid) from pg_stat_activity \
                 where datname = current_database() and pid <> pg_backend_pid()",
            )
            .await;
        database.run(format!("update t set n = {round} where id <= {}", round * 10)).await;
        running.until("another try", |status| status.retries >= round).await;
        running.settled(&mut database).await;
    }
    let status = running.caught_up().await;
    assert_eq!(status.epoch.map(|epoch| epoch.0), Some(1));
    same(&*running.log, &mut database).await;
    running.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_changed_without_its_toast_before_the_snapshot_was_lost_gives_the_epoch_up() {
    let mut database = Database::new().await;
    wide_table(&mut database, 2000).await;
    let gate = GateLog::new();
    gate.hold(Hold::RowsAfter(4));
    let mut first = start(config(&database.url, &["t"]), gate.clone());
    patiently("the copy at the gate", gate.held()).await;
    database.run("update t set id = 5000 where id = 1999").await;
    first.settled(&mut database).await;
    first.kill().await;
    gate.hold(Hold::Nothing);
    let mut second = start(config(&database.url, &["t"]), gate.clone());
    let epoch = |status: &rehome::capture::CaptureStatus| status.epoch.map(|epoch| epoch.0);
    let status =
        second.until("the second epoch", |status| epoch(status) == Some(2) && status.caught_up.is_some()).await;
    assert!(status.epoch_reason.expect("a reason").contains("a key had changed"));
    same(&*gate, &mut database).await;
    second.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshot_and_stream_can_be_read_into_nothing_for_measuring() {
    use rehome::capture::{null_copy, null_stream};
    use rehome::event::Epoch;
    use rehome::postgres::snapshot::{PgSnapshot, RangeTask};
    use rehome::postgres::{Server, assemble, catalog, feed, provision};
    use rehome::source::RangeId;

    let mut database = Database::new().await;
    wide_table(&mut database, 300).await;
    let server = Server::parse(&database.url).expect("a URL");
    let mut connection = server.connect().await.expect("a session");
    provision::publish(&mut connection, "null_publication", &[public("t")]).await.expect("it may");
    let slot_name = provision::slot_name("null", Epoch(1), 7);
    let slot = provision::create_slot(&server, &slot_name).await.expect("it may");
    let table = catalog::table(&mut connection, &public("t")).await.expect("it answers").expect("a table");
    let leaf = catalog::leaves(&mut connection, table.oid).await.expect("it answers").remove(0);
    let task = RangeTask {
        table: public("t"),
        leaf: leaf.name,
        leaf_oid: leaf.oid,
        filenode: leaf.filenode,
        from: 0,
        to: None,
        written_since: None,
    };
    let tasks = [(RangeId(0), task)].into();
    let snapshot = PgSnapshot::new(server.clone(), slot.snapshot.clone(), Epoch(1), tasks);
    assert_eq!(null_copy(&snapshot, RangeId(0)).await.expect("it reads").rows, 300);
    database.run("update t set n = 1").await;
    let end = provision::emit(&mut connection, "end").await.expect("it may");
    let start = assemble::Start {
        epoch: Epoch(1),
        position: slot.consistent,
        position_mark: "position".into(),
        shape_mark_prefix: "shape/".into(),
        moved_mark: "moved".into(),
        shapes: std::collections::HashMap::new(),
    };
    let mut feed = feed::PgFeed::open(&server, &slot_name, "null_publication", start).await.expect("it streams");
    assert_eq!(null_stream(&mut feed, end).await.expect("it reads"), 300);
    drop((feed, slot));
    provision::drop_slot(&mut connection, &slot_name).await.expect("it may");
}

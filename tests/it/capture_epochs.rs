//! Continuity lost is never papered over: each way of losing it opens a new epoch, with a snapshot of its own (I4).

use std::sync::Arc;

use rehome::capture::{CaptureStatus, Config};
use rehome::demo::cluster::{Cluster, Options};
use rehome::event::{Epoch, Op};
use rehome::log::EventLog;
use rehome::postgres::{Server, provision};
use sqlx::{Connection as _, PgConnection};

use crate::support::capture::{Running, config, live, memory, patiently, public, start};
use crate::support::cluster::Database;
use crate::support::fold::{fold, texts};
use crate::support::gate::{GateLog, Hold};

async fn table(database: &mut Database) {
    database
        .run("create table t (id int8 primary key, n int4); insert into t select id, 0 from generate_series(1, 50) id")
        .await;
}

fn text(log: &dyn EventLog, mark: &str) -> Option<String> {
    log.mark(mark).expect("it reads").map(|value| String::from_utf8(value).expect("text"))
}

/// Runs until caught up, lets `lose` break continuity, runs again, and checks what every new epoch must do.
async fn reopened(database: &mut Database, log: Arc<dyn EventLog>, second: Config, lose: &str) -> String {
    let mut first = start(config(&database.url, &["t"]), Arc::clone(&log));
    first.caught_up().await;
    first.stop().await.expect("a clean end");
    let slot = text(&*log, "pg/slot").expect("a slot");
    database.run("delete from t where id <= 5").await;
    patiently("the slot is free", async {
        let held = format!("select active::text from pg_replication_slots where slot_name = '{slot}'");
        while database.text(&held).await != "false" {}
    })
    .await;
    database.run(lose.replace("{slot}", &slot)).await;
    let mut running = start(second, Arc::clone(&log));
    let status =
        running.until("the second epoch", |status| status.epoch == Some(Epoch(2)) && status.caught_up.is_some()).await;
    assert_eq!(text(&*log, "pg/epoch").as_deref(), Some("2"));
    assert_eq!(text(&*log, "capture/sweep/0000000002").as_deref(), Some("requested"));
    assert_eq!(text(&*log, "pg/copied/public.t").as_deref(), Some("45"));
    assert_eq!(text(&*log, "pg/lost"), None);
    let mut again = running.changes(&[Op::Read]).await;
    again.retain(|event| event.version.epoch == Epoch(2) && running.relation(event).name == public("t"));
    assert_eq!(again.len(), 45, "all ranges anew");
    database.run("insert into t values (1000, 1)").await;
    running.settled(database).await;
    let expected = database.texts("select concat_ws('|', id, n) from t order by id").await;
    assert_eq!(texts(&fold(&*log, &public("t")).await), expected);
    let slots =
        database.texts("select slot_name::text from pg_replication_slots where database = current_database()").await;
    assert_eq!(slots, [text(&*log, "pg/slot").expect("a slot")], "the old slot is gone");
    assert_ne!(slots[0], slot);
    running.stop().await.expect("a clean end");
    status.epoch_reason.expect("a reason")
}

/// An ordinary table.
const PLAIN: &str = "create table t (id int8 primary key, n int4 not null); \
                     insert into t select id, id + 100 from generate_series(1, 50) id;";
/// A table in two partitions.
const PARTED: &str = "create table t (id int8 primary key, n int4) partition by range (id); \
                      create table t_1 partition of t for values from (0) to (100); \
                      create table t_2 partition of t for values from (100) to (200); \
                      insert into t select id, 0 from generate_series(1, 150) id;";

/// Whether the log says of `t` what the server says.
async fn agrees(database: &mut Database, log: &dyn EventLog) {
    let expected = database.texts("select concat_ws('|', id, n) from t order by id").await;
    assert_eq!(texts(&fold(log, &public("t")).await), expected);
}

/// Lets something happen beside a running capture of `t`, and gives the reason of the epoch that it must open.
async fn lost_while_running(set_up: &str, happens: &str) -> String {
    let mut database = Database::new().await;
    database.run(set_up).await;
    let mut running = live(&database, &["t"]).await;
    database.run(happens).await;
    let next = |status: &CaptureStatus| status.epoch >= Some(Epoch(2)) && status.caught_up.is_some();
    let status = running.until(happens, next).await;
    database.run("insert into t values (0, -1)").await;
    running.settled(&mut database).await;
    agrees(&mut database, &*running.log).await;
    running.stop().await.expect("a clean end");
    status.epoch_reason.expect("a reason")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_is_gone_opens_a_new_epoch() {
    let mut database = Database::new().await;
    table(&mut database).await;
    let second = config(&database.url, &["t"]);
    let reason = reopened(&mut database, memory(), second, "select pg_drop_replication_slot('{slot}')").await;
    assert!(reason.contains("is gone"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_made_again_under_its_old_name_is_a_gap() {
    let mut database = Database::new().await;
    table(&mut database).await;
    let second = config(&database.url, &["t"]);
    let lose =
        "select pg_drop_replication_slot('{slot}'); select pg_create_logical_replication_slot('{slot}', 'pgoutput')";
    let reason = reopened(&mut database, memory(), second, lose).await;
    assert!(reason.contains("was moved"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_someone_moved_is_a_gap() {
    let mut database = Database::new().await;
    table(&mut database).await;
    let second = config(&database.url, &["t"]);
    let lose = "select pg_replication_slot_advance('{slot}', pg_current_wal_lsn())";
    let reason = reopened(&mut database, memory(), second, lose).await;
    assert!(reason.contains("was moved"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publication_that_someone_changed_opens_a_new_epoch() {
    for lose in [
        "drop publication rehome_publication",
        "alter publication rehome_publication set table other",
        "alter publication rehome_publication set table t where (id > 10)",
        "alter publication rehome_publication set table t (id)",
        "alter publication rehome_publication set (publish = 'insert')",
    ] {
        let mut database = Database::new().await;
        // Rows and columns of a table can be published since Postgres 15.
        let old = database.text("select (current_setting('server_version_num')::int < 150000)::text").await == "true";
        if old && lose.contains('(') && !lose.contains("publish") {
            continue;
        }
        table(&mut database).await;
        database.run("create table other (id int8 primary key)").await;
        let second = config(&database.url, &["t"]);
        let reason = reopened(&mut database, memory(), second, lose).await;
        assert!(reason.contains("was changed by someone else"), "{reason}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_whose_wal_the_server_removed_opens_a_new_epoch() {
    let settings = [("max_slot_wal_keep_size", "1MB"), ("min_wal_size", "32MB"), ("max_wal_size", "32MB")];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let options = Options { settings, ..Options::temporary() };
    let cluster =
        tokio::task::spawn_blocking(move || Cluster::start(&options)).await.expect("no panic").expect("it starts");
    let url = cluster.url("postgres");
    let connection = PgConnection::connect(&url).await.expect("a session");
    let mut database = Database { url, connection, name: "postgres".into() };
    table(&mut database).await;
    let second = config(&database.url, &["t"]);
    let lose = "create table noise as select repeat(md5(n::text), 30) from generate_series(1, 80000) n; \
                select pg_switch_wal(); checkpoint";
    // One statement at a time: a checkpoint removes nothing that its own transaction wrote.
    let log = memory();
    let mut first = start(config(&database.url, &["t"]), Arc::clone(&log));
    first.caught_up().await;
    first.stop().await.expect("a clean end");
    for statement in lose.split("; ") {
        database.run(statement).await;
    }
    assert_eq!(database.text("select wal_status from pg_replication_slots").await, "lost");
    let mut running = start(second, Arc::clone(&log));
    let status =
        running.until("the second epoch", |status| status.epoch == Some(Epoch(2)) && status.caught_up.is_some()).await;
    assert!(status.epoch_reason.expect("a reason").contains("removed WAL"));
    running.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_added_to_the_capture_opens_a_new_epoch() {
    let mut database = Database::new().await;
    table(&mut database).await;
    database.run("create table u (id int8 primary key)").await;
    let second = config(&database.url, &["t", "u"]);
    let reason = reopened(&mut database, memory(), second, "insert into u values (1)").await;
    assert!(reason.contains("public.u"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_another_server_opens_a_new_epoch() {
    let mut database = Database::new().await;
    table(&mut database).await;
    let log = memory();
    let second = config(&database.url, &["t"]);
    let mut first = start(config(&database.url, &["t"]), Arc::clone(&log));
    first.caught_up().await;
    first.stop().await.expect("a clean end");
    let mut batch = rehome::log::Batch::default();
    batch.marks.insert("pg/server".into(), Some(b"1\n1".to_vec()));
    log.append(batch).await.expect("it appends");
    let mut running = start(second, Arc::clone(&log));
    running.until("the second epoch", |status| status.epoch == Some(Epoch(2)) && status.caught_up.is_some()).await;
    running.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_lost_the_end_of_its_wal_opens_a_new_epoch() {
    let mut database = Database::new().await;
    table(&mut database).await;
    let log = memory();
    let mut first = start(config(&database.url, &["t"]), Arc::clone(&log));
    first.caught_up().await;
    first.stop().await.expect("a clean end");
    let mut batch = rehome::log::Batch::default();
    batch.marks.insert("pg/confirmed".into(), Some(b"FFFF/0".to_vec()));
    log.append(batch).await.expect("it appends");
    let mut running = start(config(&database.url, &["t"]), Arc::clone(&log));
    let status =
        running.until("the second epoch", |status| status.epoch == Some(Epoch(2)) && status.caught_up.is_some()).await;
    assert!(status.epoch_reason.expect("a reason").contains("lost the end of its WAL"));
    running.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_told_apart_by_another_key_open_a_new_epoch() {
    let full = format!("{PLAIN} alter table t replica identity full");
    for (set_up, happens) in [
        (PLAIN, "alter table t drop constraint t_pkey, add primary key (n); update t set id = id"),
        (&full, "alter table t drop constraint t_pkey, add primary key (n); update t set id = id"),
        (
            PLAIN,
            "alter table t drop constraint t_pkey; insert into t values (51, 151), (52, 152); \
             alter table t add primary key (id)",
        ),
        (
            PLAIN,
            "create unique index by_n on t (n); alter table t replica identity using index by_n; update t set id = id",
        ),
    ] {
        let reason = lost_while_running(set_up, happens).await;
        assert!(reason.contains("public.t"), "{reason}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publication_changed_under_a_running_capture_opens_a_new_epoch() {
    for happens in [
        "alter publication rehome_publication drop table t; delete from t where id < 5",
        "alter publication rehome_publication set (publish = 'insert'); delete from t where id < 5",
        "drop publication rehome_publication; create publication rehome_publication for table t",
    ] {
        let reason = lost_while_running(PLAIN, happens).await;
        assert!(reason.contains("rehome_publication"), "{reason}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_took_anothers_name_opens_a_new_epoch() {
    let swap = "create table next (like t including all); insert into next select id, 7 from generate_series(1, 60) id; \
                begin; alter table t rename to old; alter table next rename to t; commit";
    let reason = lost_while_running(PLAIN, swap).await;
    assert!(reason.contains("public.t"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_come_and_go_with_a_partition_open_a_new_epoch() {
    for (happens, word) in [
        ("drop table t_2", "dropped or detached"),
        ("alter table t detach partition t_2", "dropped or detached"),
        (
            "create table t_3 (like t including all); insert into t_3 values (201, 3); \
             alter table t attach partition t_3 for values from (200) to (300)",
            "attached",
        ),
        ("truncate t_2", "t_2 was truncated"),
        ("truncate t_2; insert into t values (101, 7)", "t_2 was truncated"),
    ] {
        let reason = lost_while_running(PARTED, happens).await;
        assert!(reason.contains(word), "{reason}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_to_a_partition_while_nothing_runs_opens_a_new_epoch() {
    let (make, fill) =
        ("create table t_3 partition of t for values from (200) to (300)", "insert into t values (201, 3)");
    let happenings: [(&[&str], &str); 3] = [
        (&["drop table t_2"], "t_2 was dropped"),
        (&["truncate t_2", "insert into t values (101, 7)"], "t_2 was truncated"),
        // What was put into it is in the stream, and that it went is not.
        (&[make, fill, "truncate t_3"], "t_3"),
    ];
    for (happens, word) in happenings {
        let mut database = Database::new().await;
        database.run(PARTED).await;
        let log = live(&database, &["t"]).await.stop().await.expect("a clean end");
        for statement in happens {
            database.run(*statement).await;
        }
        let mut running = start(config(&database.url, &["t"]), Arc::clone(&log));
        let again = |status: &CaptureStatus| status.epoch == Some(Epoch(2)) && status.caught_up.is_some();
        let reason = running.until("the second epoch", again).await.epoch_reason.expect("a reason");
        assert!(reason.contains(word), "{reason}");
        agrees(&mut database, &*log).await;
        running.stop().await.expect("a clean end");
    }
}

/// Waits until a running capture remembers what its stream rests on with these words in it.
async fn remembered(running: &Running, words: &str) {
    patiently("it is noticed", async {
        while !text(&*running.log, "pg/footing").is_some_and(|footing| footing.contains(words)) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_written_anew_with_its_rows_needs_no_new_epoch() {
    let mut database = Database::new().await;
    database.run(PARTED).await;
    // Only rows older than every transaction that is open when the capture begins tell something, and other tests have some open.
    let ended = "select (age(pg_snapshot_xmin(pg_current_snapshot())::xid) < min(age(xmin)))::text from t";
    patiently("the rows are older", async {
        while database.texts(ended).await != ["true"] {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let mut running = live(&database, &["t"]).await;
    database.run("delete from t where id = 120").await;
    database.run("vacuum full t_2").await;
    database.run("insert into t values (120, 9)").await;
    let file = database.texts("select relfilenode::text from pg_class where relname = 't_2'").await;
    remembered(&running, &format!("\"number\":{},", file[0])).await;
    running.settled(&mut database).await;
    agrees(&mut database, &*running.log).await;
    assert_eq!(text(&*running.log, "pg/epoch").as_deref(), Some("1"));
    running.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_is_made_empty_needs_no_new_epoch() {
    let mut database = Database::new().await;
    database.run(PARTED).await;
    let mut running = live(&database, &["t"]).await;
    database.run("create table t_3 partition of t for values from (200) to (300)").await;
    remembered(&running, "t_3").await;
    database.run("insert into t values (201, 1)").await;
    running.settled(&mut database).await;
    agrees(&mut database, &*running.log).await;
    let log = running.stop().await.expect("a clean end");
    let mut again = start(config(&database.url, &["t"]), Arc::clone(&log));
    again.caught_up().await;
    assert_eq!(text(&*log, "pg/epoch").as_deref(), Some("1"));
    again.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_keeps_too_much_is_given_up_loudly() {
    let mut database = Database::new().await;
    table(&mut database).await;
    let gate = GateLog::new();
    let mut settings = config(&database.url, &["t"]);
    settings.abandon_slot_at = Some(64 << 20);
    let mut running = start(settings, gate.clone());
    running.caught_up().await;
    let slot = text(&*gate, "pg/slot").expect("a slot");
    gate.hold(Hold::Changes);
    database.run("update t set n = 1").await;
    patiently("the change at the gate", gate.held()).await;
    database.run("create table noise as select repeat(md5(n::text), 30) from generate_series(1, 80000) n").await;
    let status = running.until("the second epoch", |status| status.epoch == Some(Epoch(2))).await;
    assert!(status.epoch_reason.expect("a reason").contains("was given up"));
    gate.hold(Hold::Nothing);
    running.caught_up().await;
    let slots =
        database.texts("select slot_name::text from pg_replication_slots where database = current_database()").await;
    assert_eq!(slots.len(), 1);
    assert_ne!(slots[0], slot);
    let expected = database.texts("select concat_ws('|', id, n) from t order by id").await;
    assert_eq!(texts(&fold(&*gate, &public("t")).await), expected);
    running.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn down_removes_what_was_made_and_nothing_else() {
    let mut database = Database::new().await;
    table(&mut database).await;
    database.run("create publication mine for table t").await;
    database.run(format!("select pg_create_logical_replication_slot('{}_mine', 'pgoutput')", database.name)).await;
    let running = live(&database, &["t"]).await;
    running.stop().await.expect("a clean end");
    let mut connection = Server::parse(&database.url).expect("a URL").connect().await.expect("a session");
    let removed = provision::down(&mut connection, "rehome").await.expect("it may");
    assert_eq!(removed.removed.len(), 2, "{removed:?}");
    assert!(!removed.left.is_empty());
    let slots = "select slot_name::text from pg_replication_slots where database = current_database()";
    assert_eq!(database.texts(slots).await, [format!("{}_mine", database.name)]);
    assert_eq!(database.texts("select pubname::text from pg_publication").await, ["mine"]);
    assert_eq!(provision::down(&mut connection, "rehome").await.expect("it may").removed, Vec::<String>::new());
    database.run(format!("select pg_drop_replication_slot('{}_mine')", database.name)).await;
}

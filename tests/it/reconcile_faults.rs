//! Faults of the acceptance corpus that take a real server, by their numbers.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use rehome::demo::cluster::{Cluster, Options};
use rehome::event::{Lsn, Op};
use rehome::log::EventLog;
use rehome::postgres::{Server, live};
use sqlx::{Connection as _, PgConnection};

use crate::support::capture::{config, live as capture, memory, patiently, start};
use crate::support::cluster::{Database, run};
use crate::support::gate::GateLog;
use crate::support::legacy::DDL;
use crate::support::rig::Rig;

/// A server of a test's own, with settings.
pub(crate) async fn server(settings: &[(&str, &str)]) -> (Cluster, Database) {
    let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let options = Options { settings, ..Options::temporary() };
    let own = tokio::task::spawn_blocking(move || Cluster::start(&options).expect("Postgres is installed"));
    let own = own.await.expect("no panic");
    let url = own.url("postgres");
    let connection = PgConnection::connect(&url).await.expect("it runs");
    (own, Database { connection, url, name: "postgres".to_owned() })
}

/// Fault 13: a commit can be seen before it is flushed, so a position that tells what is flushed is before what was read.
#[tokio::test(flavor = "multi_thread")]
async fn fault_13_a_position_is_behind_everything_that_can_be_seen() {
    let (_own, mut database) = server(&[("wal_writer_delay", "10s")]).await;
    database.run("create table t (id int8 primary key)").await;
    let mut running = capture(&database, &["t"]).await;
    let pool = Server::parse(&database.url).expect("an address").pool(1);
    let mut writer = database.connect().await;
    run(&mut writer, "set synchronous_commit = off").await;
    let mut told = Vec::new();
    for id in 1..=50 {
        run(&mut writer, format!("insert into t values ({id})")).await;
        let position = live::read_unit(&pool, &[]).await.expect("it answers").position;
        let flushed: Lsn = database.text("select pg_current_wal_flush_lsn()::text").await.parse().expect("a position");
        told.push((position, flushed));
    }
    running.settled(&mut database).await;
    let events = running.changes(&[Op::Insert]).await;
    let commits: Vec<Lsn> = events.iter().filter_map(|event| Some(event.transaction.as_ref()?.commit)).collect();
    assert_eq!(commits.len(), 50);
    let behind = |(commit, (position, _)): &(&Lsn, &(Lsn, Lsn))| position > commit;
    let pairs: Vec<_> = commits.iter().zip(&told).collect();
    assert!(pairs.iter().all(behind), "{pairs:?}");
    assert!(pairs.iter().any(|(commit, (_, flushed))| flushed <= commit), "the fault can be met: {pairs:?}");
    running.stop().await.expect("a clean end");
}

/// Fault 13 as well: what the log has of a transaction that is not whole does not move the position.
#[tokio::test(flavor = "multi_thread")]
async fn fault_13_a_position_is_never_inside_a_transaction() {
    let mut database = Database::new().await;
    database.run("create table t (id int8 primary key, text text)").await;
    let gate = GateLog::new();
    let mut running = start(config(&database.url, &["t"]), Arc::clone(&gate) as Arc<dyn EventLog>);
    running.caught_up().await;
    database.run("insert into t select i, repeat('x', 2000) from generate_series(1, 20000) i").await;
    running.settled(&mut database).await;
    let (mut open, mut pieces) = (None, 0);
    for batch in gate.appended() {
        let last = batch.events.iter().rev().find_map(|event| event.transaction.as_ref());
        if let Some(last) = last {
            open = (!last.last).then_some(last.commit);
            pieces += u32::from(!last.last);
        }
        let confirmed = batch.confirmed.and_then(|position| position.parse::<Lsn>().ok());
        if let (Some(open), Some(confirmed)) = (open, confirmed) {
            assert!(confirmed < open, "{confirmed} while {open} is not whole");
        }
    }
    assert!(pieces > 1, "it came in pieces");
    running.stop().await.expect("a clean end");
}

/// Fault 14: a slot that is made before its publication decodes with a past in which there is none.
#[tokio::test(flavor = "multi_thread")]
async fn fault_14_the_publication_is_made_before_the_slot() {
    let mut database = Database::new().await;
    database
        .run(
            "create table t (id int8 primary key); create table seen (slots int8); \
             create function look() returns event_trigger language plpgsql as $$ begin \
               insert into public.seen select count(*) from pg_replication_slots where database = current_database(); end $$; \
             create event trigger look on ddl_command_end when tag in ('CREATE PUBLICATION') execute function look()",
        )
        .await;
    let mut running = start(config(&database.url, &["t"]), memory());
    running.caught_up().await;
    assert_eq!(database.texts("select slots::text from seen").await, ["0"]);
    let slots = "select count(*)::text from pg_replication_slots where database = current_database()";
    assert_eq!(database.text(slots).await, "1", "and there is one now");
    running.stop().await.expect("a clean end");
}

/// Makes a server go on as a standby that nothing reaches any more.
async fn into_standby(own: &Cluster) {
    let data = own.folder().join("data");
    let owner = fs::metadata(&data).expect("a folder");
    let control = |arguments: &[&str]| {
        let mut command = Command::new(own.programs().join("pg_ctl"));
        command.args(arguments).arg("--silent").arg("--pgdata").arg(&data).current_dir(own.folder());
        if owner.uid() != fs::metadata("/proc/self").expect("a process").uid() {
            command.uid(owner.uid()).gid(owner.gid());
        }
        let ended = command.stdout(std::process::Stdio::null()).status().expect("it runs");
        assert!(ended.success(), "pg_ctl {arguments:?}");
    };
    tokio::task::block_in_place(|| {
        control(&["stop", "--mode=fast"]);
        let signal = data.join("standby.signal");
        fs::write(&signal, "").expect("writable");
        chown(&signal, Some(owner.uid()), Some(owner.gid())).expect("it may");
        let log = own.folder().join("log");
        control(&["start", "--wait", "--timeout=60", "--log", log.to_str().expect("text")]);
    });
}

/// Fault 16: a copy that lags behind is read and believed. A standby is no side of a comparison, whichever it is.
#[tokio::test(flavor = "multi_thread")]
async fn fault_16_a_standby_is_not_compared() {
    for side in ["source", "target"] {
        let (own, mut database) = server(&[]).await;
        let mut rig = Rig::new().await;
        if side == "source" {
            database.run(DDL).await;
            rig.legacy = database;
        } else {
            rig.target = database;
        }
        rig.rehome(&["up", "luthien"]).expect(0);
        rig.legacy.run("insert into conversation_calls (call_id, status) values ('a', 'success')").await;
        rig.catch_up();
        let compare = |reports: &str| {
            let reports = rig.folder.path().join(reports);
            rig.rehome(&["reconcile", "luthien", "--reports", reports.to_str().expect("text")])
        };
        let before = compare("before");
        assert!(before.code < 3, "{side}: {before:?}");
        into_standby(&own).await;
        let url = own.url("postgres");
        patiently("it takes connections", async { while PgConnection::connect(&url).await.is_err() {} }).await;
        let failed = compare("after").expect(3);
        assert!(failed.err.contains("recovery"), "{side}: {failed:?}");
        if side == "source" {
            let failed = rig.rehome(&["diff", "luthien", "a"]).expect(3);
            assert!(failed.err.contains("recovery"), "{side}: {failed:?}");
        }
    }
}

/// The numbers of the corpus, each in the name of a test.
#[test]
fn every_fault_of_the_corpus_has_a_test_that_bears_its_number() {
    let mut numbers = BTreeSet::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else if entry.path().extension().is_some_and(|end| end == "rs") {
                let text = fs::read_to_string(entry.path()).expect("text");
                let names = text.split("fn fault_").skip(1).filter_map(|rest| rest.get(..2)?.parse::<u32>().ok());
                numbers.extend(names);
            }
        }
    }
    assert_eq!(numbers, (1..=27).collect());
}

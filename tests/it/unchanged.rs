//! Whether a range of a table holds the rows that were read of it: what a resumed comparison rests on.

use std::collections::HashMap;

use rehome::event::{Epoch, RelationName};
use rehome::postgres::snapshot::{PgSnapshot, RangeTask, sight};
use rehome::postgres::{Server, catalog, live, provision};
use rehome::source::{Copied, RangeId, RangeOutcome, Snapshot as _};

use crate::reconcile_faults::server;
use crate::support::cluster::Database;

const DDL: &str = "create type mood as enum ('good', 'bad'); \
    create table t (id bigint primary key, note text, mood mood, last text); \
    insert into t select i, 'note ' || i, 'good', null from generate_series(1, 1000) i";

const RESET: &str = "drop table if exists t; drop type if exists mood";

/// The table under a snapshot of now, or as it was when it was read: its file, form, and what that snapshot saw.
struct Read {
    leaf: catalog::Leaf,
    form: String,
    seen: u32,
    rows: u64,
}

fn name() -> RelationName {
    RelationName { schema: "public".into(), table: "t".into() }
}

async fn read(database: &mut Database) -> Read {
    let server = Server::parse(&database.url).expect("an address");
    let mut connection = server.connect().await.expect("a connection");
    let snapshot = provision::export_snapshot(&mut connection).await.expect("a snapshot");
    let seen = sight(&server, &snapshot).await.expect("it answers").expect("it is there").xmin;
    let rows = live::count(&mut connection, &name()).await.expect("a count");
    let mut other = server.connect().await.expect("a connection");
    let table = catalog::table(&mut other, &name()).await.expect("it answers").expect("the table");
    let leaf = catalog::leaves(&mut other, table.oid).await.expect("leaves").remove(0);
    let form = live::form(&mut other, &[table.oid]).await.expect("a form");
    Read { leaf, form, seen, rows }
}

/// All of the table as it was when it was read.
fn task(read: &Read) -> RangeTask {
    RangeTask {
        table: name(),
        leaf: read.leaf.name.clone(),
        leaf_oid: read.leaf.oid,
        filenode: read.leaf.filenode,
        from: 0,
        to: None,
        written_since: None,
    }
}

/// Whether the table holds now what was read.
async fn unchanged(database: &Database, read: &Read) -> bool {
    let server = Server::parse(&database.url).expect("an address");
    let mut holder = server.connect().await.expect("a connection");
    let snapshot = provision::export_snapshot(&mut holder).await.expect("a snapshot");
    let mut other = server.connect().await.expect("a connection");
    let Some(table) = catalog::table(&mut other, &name()).await.expect("it answers") else { return false };
    let form = live::form(&mut other, &[table.oid]).await.expect("a form");
    let task = task(read);
    let range = RangeId(0);
    let snapshot = PgSnapshot::new(server, snapshot, Epoch(0), HashMap::from([(range, task)]));
    form == read.form && snapshot.unchanged(range, read.seen, read.rows).await.expect("it answers")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_counts_as_read_only_where_it_holds_the_same_rows() {
    let changes = [
        "insert into t values (1001, 'new', 'bad', null)",
        "delete from t where id = 7",
        "update t set note = 'other' where id = 7",
        // As many rows as before.
        "delete from t where id = 7; insert into t values (7, 'note 7', 'good', null)",
        "begin; delete from t where id = 8; insert into t values (1001, 'new', 'bad', null); commit",
        "truncate t; insert into t select i, 'note ' || i, 'good', null from generate_series(1, 1000) i",
        "vacuum full t",
        "alter table t alter column note type varchar(100)",
        // No row is written, and all of them read otherwise.
        "alter table t drop column last; alter table t add column last text",
        "alter table t drop column last; alter table t add column last text default 'x'",
        "alter type mood rename value 'good' to 'fine'",
        "drop table t; create table t (id bigint primary key, note text, mood mood, last text)",
    ];
    // A server of its own: transactions of others, open for long, keep it from being known what is new.
    let (_own, mut database) = server(&[]).await;
    for change in changes {
        database.run(format!("{RESET}; {DDL}")).await;
        let before = read(&mut database).await;
        assert_eq!(before.rows, 1000);
        assert!(unchanged(&database, &before).await, "nothing has happened yet");
        let mut connection = database.connect().await;
        for statement in if change.starts_with("begin") { vec![change] } else { change.split("; ").collect() } {
            crate::support::cluster::run(&mut connection, statement).await;
        }
        assert!(!unchanged(&database, &before).await, "{change}");
    }
}

/// What was under way when the range was read and is done now counts as written since; what was undone does not.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_under_way_when_a_range_was_read_is_not_overlooked() {
    let (_own, mut database) = server(&[]).await;
    for (end, same) in [("commit", false), ("rollback", true)] {
        for statement in ["update t set note = 'other' where id = 7", "delete from t where id = 7", "select 1"] {
            database.run(format!("{RESET}; {DDL}")).await;
            let mut open = database.connect().await;
            crate::support::cluster::run(&mut open, format!("begin; select txid_current(); {statement}")).await;
            let before = read(&mut database).await;
            crate::support::cluster::run(&mut open, end).await;
            let nothing = statement == "select 1";
            assert_eq!(unchanged(&database, &before).await, same || nothing, "{statement}, {end}");
        }
    }
    database.run(format!("{RESET}; {DDL}")).await;
    let before = read(&mut database).await;
    database.run("vacuum (freeze, analyze) t").await;
    assert!(unchanged(&database, &before).await, "a vacuum writes no row");
}

/// To a snapshot from before a rewrite the table's new file is empty: no row of it may count as read.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_rewritten_between_a_snapshot_and_its_reading_has_moved() {
    let (_own, mut database) = server(&[]).await;
    for (rewrite, outcome) in [
        ("", RangeOutcome::Copied(Copied { rows: 1000, ..Copied::default() })),
        ("alter table t alter note type varchar(90) using note || ''", RangeOutcome::Moved),
        ("truncate t", RangeOutcome::Moved),
    ] {
        database.run(format!("{RESET}; {DDL}")).await;
        let server = Server::parse(&database.url).expect("an address");
        let mut holder = server.connect().await.expect("a connection");
        let snapshot = provision::export_snapshot(&mut holder).await.expect("a snapshot");
        database.run(rewrite).await;
        let read = read(&mut database).await;
        let task = task(&read);
        let snapshot = PgSnapshot::new(server, snapshot, Epoch(0), HashMap::from([(RangeId(1), task)]));
        let (out, mut batches) = tokio::sync::mpsc::channel(8);
        let (found, ()) =
            tokio::join!(snapshot.copy(RangeId(1), out), async { while batches.recv().await.is_some() {} });
        let found = found.expect("it answers");
        match (&found, &outcome) {
            (RangeOutcome::Copied(copied), RangeOutcome::Copied(wanted)) => assert_eq!(copied.rows, wanted.rows),
            _ => assert_eq!(found, outcome, "{rewrite}"),
        }
    }
}

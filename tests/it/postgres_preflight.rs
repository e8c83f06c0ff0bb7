//! What a database lacks is told all at once, each thing with its place and its fix, and nothing is made in it before.

use rehome::capture::Error;
use rehome::demo::cluster::{Cluster, Options};
use rehome::postgres::Server;
use rehome::postgres::preflight::{Absence, ColumnExpectation, Finding, Severity, TableExpectation, preflight};
use sqlx::{Connection as _, PgConnection};

use crate::support::capture::{config, memory, public, start};
use crate::support::cluster::{Database, run};

async fn findings(url: &str, tables: &[TableExpectation]) -> Vec<Finding> {
    let mut connection = Server::parse(url).expect("a URL").connect().await.expect("a session");
    preflight(&mut connection, tables, None).await.expect("it answers").findings
}

fn expect(table: &str, columns: &[(&str, &str)]) -> TableExpectation {
    let columns = columns
        .iter()
        .map(|(name, type_name)| ColumnExpectation { name: (*name).into(), type_name: Some((*type_name).into()) })
        .collect();
    TableExpectation { name: public(table), columns, absence: Absence::Error }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_missing_thing_of_every_table_is_named() {
    let mut database = Database::new().await;
    database
        .run(
            "create table good (id int8 primary key, name text); \
             create table keyless (id int8); \
             create table nothing (id int8 primary key); alter table nothing replica identity nothing; \
             create unlogged table unlogged (id int8 primary key); \
             create table typed (id int8 primary key, n int4, twice int4 generated always as (n * 2) stored); \
             create view a_view as select 1 as id;",
        )
        .await;
    let tables = [
        expect("good", &[("id", "int8"), ("name", "text")]),
        expect("keyless", &[]),
        expect("nothing", &[]),
        expect("unlogged", &[]),
        expect("typed", &[("id", "int4"), ("twice", "int4"), ("absent", "text")]),
        expect("absent", &[]),
        expect("a_view", &[]),
    ];
    let found = findings(&database.url, &tables).await;
    let mut places: Vec<(&str, &str)> =
        found.iter().map(|found| (found.place.as_str(), found.what.split([':', ',']).next().unwrap_or(""))).collect();
    places.sort_unstable();
    assert_eq!(
        places,
        [
            ("public.a_view", "there is no such table"),
            ("public.absent", "there is no such table"),
            ("public.keyless", "it has no primary key"),
            ("public.nothing", "its replica identity is nothing"),
            ("public.typed.absent", "there is no such column"),
            ("public.typed.id", "its type is int8"),
            ("public.typed.twice", "there is no such column"),
            ("public.unlogged", "it is unlogged or temporary"),
        ]
    );
    assert!(found.iter().all(|found| found.severity == Severity::Error && !found.fix.is_empty()));
}

/// Errors by place.
async fn errors(database: &Database, tables: &[TableExpectation]) -> Vec<(String, String, String)> {
    let found = findings(&database.url, tables).await.into_iter().filter(|found| found.severity == Severity::Error);
    found.map(|found| (found.place, found.what, found.fix)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deferrable_key_is_named_because_the_stream_does_not_tell_rows_by_it() {
    let mut database = Database::new().await;
    database
        .run(
            "create table late (id int8 primary key deferrable initially immediate); \
             create table full_late (id int8 primary key deferrable); alter table full_late replica identity full;",
        )
        .await;
    let found = errors(&database, &[expect("late", &[]), expect("full_late", &[])]).await;
    let places: Vec<&str> = found.iter().map(|(place, _, _)| place.as_str()).collect();
    assert_eq!(places, ["public.late", "public.full_late"]);
    assert!(found.iter().all(|(_, what, fix)| what.contains("deferrable") && fix.contains("add primary key")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_tells_less_of_its_rows_than_its_table_does_is_named() {
    let mut database = Database::new().await;
    for table in ["by_key", "by_row", "by_index", "more"] {
        database
            .run(format!(
                "create table {table} (a int8 not null, b int8 not null, big text) partition by range (a); \
                 create table {table}_1 partition of {table} for values from (0) to (9); \
                 create table {table}_2 partition of {table} for values from (9) to (99);"
            ))
            .await;
    }
    database
        .run(
            "alter table by_key add primary key (a); create unique index by_key_b on by_key_2 (b); \
             alter table by_key_2 replica identity using index by_key_b; \
             alter table by_row add primary key (a); alter table by_row replica identity full; \
             alter table by_row_1 replica identity full; \
             create unique index by_index_a on by_index (a); alter table by_index replica identity using index by_index_a; \
             alter table by_index_1 replica identity using index by_index_1_a_idx; \
             alter table more add primary key (a); alter table more_1 replica identity full;",
        )
        .await;
    let tables = ["by_key", "by_row", "by_index", "more"].map(|table| expect(table, &[]));
    let found = errors(&database, &tables).await;
    let expected = [
        ("public.by_key, partition public.by_key_2", "replica identity default"),
        ("public.by_row, partition public.by_row_2", "replica identity full"),
        ("public.by_index, partition public.by_index_2", "replica identity using index"),
    ];
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for ((place, _, fix), (wanted, mend)) in found.iter().zip(expected) {
        assert_eq!(place, wanted);
        assert!(fix.contains("alter table") && fix.contains(mend), "{fix}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_is_captured_beside_its_table_is_named() {
    let mut database = Database::new().await;
    database
        .run(
            "create table t (id int8 primary key) partition by range (id); \
             create table t_1 partition of t for values from (0) to (9) partition by range (id); \
             create table t_1_1 partition of t_1 for values from (0) to (5);",
        )
        .await;
    assert_eq!(errors(&database, &[expect("t", &[])]).await, []);
    assert_eq!(errors(&database, &[expect("t_1_1", &[])]).await, []);
    let found = errors(&database, &[expect("t", &[]), expect("t_1_1", &[])]).await;
    let [(place, what, fix)] = &found[..] else { panic!("{found:?}") };
    assert_eq!(place, "public.t_1_1");
    assert!(what.contains("partition of public.t,") && fix.contains("legacy.toml"), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_others_inherit_from_is_named() {
    let mut database = Database::new().await;
    database
        .run(
            "create table parent (id int8 primary key); create table child (primary key (id)) inherits (parent); \
             create table alone (id int8 primary key)",
        )
        .await;
    let found = errors(&database, &[expect("parent", &[]), expect("child", &[]), expect("alone", &[])]).await;
    let places: Vec<&str> = found.iter().map(|(place, _, _)| place.as_str()).collect();
    assert_eq!(places, ["public.parent"], "{found:?}");
    assert!(found[0].1.contains("child") && found[0].2.contains("no inherit"), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_may_not_is_told_what_to_grant() {
    let mut database = Database::new().await;
    database.run("create table t (id int8 primary key); create role weak login password 'w'").await;
    let weak = database.url.replacen(&database.url[11..database.url.find('@').expect("a user")], "weak:w", 1);
    let found = findings(&weak, &[expect("t", &[])]).await;
    let places: Vec<&str> = found.iter().map(|found| found.place.as_str()).collect();
    assert_eq!(places, ["role", "database", "public.t", "public.t"], "it may neither read nor publish the table");
    database.run("drop owned by weak; drop role weak").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capture_that_cannot_start_makes_nothing() {
    let mut database = Database::new().await;
    database.run("create table keyless (id int8)").await;
    let log = memory();
    let ended = start(config(&database.url, &["keyless"]), log.clone()).ended().await;
    match ended {
        Err(Error::NotReady(findings)) => assert_eq!(findings.len(), 1),
        other => panic!("{other:?}"),
    }
    assert_eq!(database.text("select count(*)::text from pg_publication").await, "0");
    assert_eq!(
        database.text("select count(*)::text from pg_replication_slots where database = current_database()").await,
        "0"
    );
    assert_eq!(log.marks("").expect("it reads"), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_is_an_error_at_once() {
    let ended = start(config("postgres://nobody@127.0.0.1:1/none", &["t"]), memory()).ended().await;
    assert!(ended.expect_err("nobody listens").to_string().contains("cannot reach the source"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_not_set_up_for_decoding_is_told_its_settings() {
    let settings = [("wal_level", "replica"), ("max_wal_senders", "1"), ("max_replication_slots", "0")];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let options = Options { settings, ..Options::temporary() };
    let cluster =
        tokio::task::spawn_blocking(move || Cluster::start(&options)).await.expect("no panic").expect("it starts");
    let url = cluster.url("postgres");
    let mut connection = PgConnection::connect(&url).await.expect("a session");
    run(&mut connection, "create table t (id int8 primary key)").await;
    let found = findings(&url, &[expect("t", &[])]).await;
    let places: Vec<&str> = found.iter().map(|found| found.place.as_str()).collect();
    assert_eq!(places, ["wal_level", "max_replication_slots", "max_wal_senders"]);
}

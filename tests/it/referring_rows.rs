//! What a delete at a Postgres target may reach: rows that refer to the deleted one, ours and those of an application.

use std::sync::Arc;

use rehome::event::{DigestKey, Value};
use rehome::postgres::Server;
use rehome::postgres::target::{PostgresTarget, provision};
use rehome::target::{
    ColumnShape, Deletes, ForeignScope, TableShape, Target as _, TargetRow, TargetTable, Trust, UnitOutcome, UnitWrite,
    WriteVersion,
};

use crate::support::capture::patiently;
use crate::support::cluster::Database;

/// A target and the database behind it.
struct Bench {
    database: Database,
    target: PostgresTarget,
}

/// Makes a target of some tables, whose columns are texts and whose first column is the key.
async fn bench(definition: &str, tables: &[(&str, &[&str])]) -> Bench {
    let database = Database::new().await;
    let pool = Server::parse(&database.url).expect("an address").pool(2);
    let tables: Arc<[TableShape]> = tables.iter().map(|(name, columns)| shape(name, columns)).collect();
    provision(&pool, definition, &tables).await.expect("it may");
    let target = PostgresTarget::new(pool, "referring", tables, &DigestKey::new([3; 32]), ForeignScope::Row);
    Bench { database, target }
}

fn shape(name: &str, columns: &[&str]) -> TableShape {
    let column = |name: &&str| ColumnShape { name: (*name).into(), type_name: "text".into() };
    let columns = columns.iter().map(column).collect();
    TableShape { schema: "public".into(), name: name.into(), columns, key: vec![0] }
}

/// A row; an empty text stands for NULL.
fn row(table: u16, values: &[&str]) -> TargetRow {
    let value = |text: &&str| if text.is_empty() { Value::Null } else { Value::text(*text) };
    TargetRow { table: TargetTable(table), values: values.iter().map(value).collect() }
}

fn write(unit: &str, offset: u64, rows: Vec<TargetRow>) -> UnitWrite {
    let version = WriteVersion { log: 7, mapping: 1, partition: 0, offset };
    let (unit, part) = (unit.into(), [0xff, 0xff].into());
    UnitWrite { unit, part, version, rows, trust: Trust::Record, deletes: Deletes::Now, before: Vec::new() }
}

fn written(upserted: u64, unchanged: u64, deleted: u64) -> UnitOutcome {
    UnitOutcome::Written { upserted, unchanged, deleted, foreign: 0, matched_foreign: 0 }
}

impl Bench {
    async fn apply(&self, batch: &[UnitWrite]) -> Vec<UnitOutcome> {
        self.target.apply(batch).await.expect("it answers")
    }

    async fn one(&self, write: UnitWrite) -> UnitOutcome {
        self.apply(&[write]).await.remove(0)
    }
}

#[track_caller]
fn assert_held_back(outcome: &UnitOutcome) {
    let held_back = matches!(outcome, UnitOutcome::Parked { reason, .. } if **reason == *"foreign_children");
    assert!(held_back, "{outcome:?}");
}

/// What a constraint may do to the rows that refer to a deleted one.
const ACTIONS: [&str; 3] = ["cascade", "set null", "set default"];

async fn orders(action: &str) -> Bench {
    let definition = format!(
        "create table orders (id text primary key); create table lines (id text primary key, value text, \
         order_id text references orders on delete {action});"
    );
    bench(&definition, &[("orders", &["id"]), ("lines", &["id", "value", "order_id"])]).await
}

const LINES: &str = "select concat_ws(' ', id, value, order_id) from lines order by 1";

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_that_would_take_along_a_row_of_ours_that_stays_as_it_is_is_not_done() {
    for action in ACTIONS {
        let mut bench = orders(action).await;
        let line = || row(1, &["l", "v", "o"]);
        bench.one(write("u", 1, vec![row(0, &["o"]), line()])).await;
        assert_held_back(&bench.one(write("u", 2, vec![line()])).await);
        assert_eq!(bench.database.texts(LINES).await, ["l v o"], "{action}");
        assert_eq!(bench.one(write("u", 3, Vec::new())).await, written(0, 0, 2), "{action}: both may go");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_spares_the_unchanged_rows_of_other_units_in_its_batch_and_takes_those_that_turn_away() {
    for action in ACTIONS {
        let mut bench = orders(action).await;
        bench.apply(&[write("a", 1, vec![row(0, &["o"])]), write("c", 1, vec![row(0, &["p"])])]).await;
        bench.one(write("b", 1, vec![row(1, &["l", "v", "o"])])).await;
        let batch = [write("a", 2, Vec::new()), write("b", 2, vec![row(1, &["l", "v", "o"])])];
        let outcomes = bench.apply(&batch).await;
        assert_held_back(&outcomes[0]);
        assert_eq!(outcomes[1], written(0, 1, 0), "{action}");
        assert_eq!(bench.database.texts(LINES).await, ["l v o"], "{action}");

        let batch = [write("a", 3, Vec::new()), write("b", 3, vec![row(1, &["l", "v", "p"])])];
        assert_eq!(bench.apply(&batch).await, [written(0, 0, 1), written(1, 0, 0)], "{action}");
        assert_eq!(bench.database.texts(LINES).await, ["l v p"], "{action}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_that_would_reach_rows_of_someone_else_through_rows_of_ours_is_not_done() {
    for (action, reaches) in [("cascade", true), ("set null", false), ("set default", false)] {
        let mut bench = orders(action).await;
        bench.one(write("u", 1, vec![row(0, &["o"]), row(0, &["p"]), row(1, &["l", "v", "o"])])).await;
        let theirs =
            "create table notes (line text references lines on delete cascade); insert into notes values ('l')";
        bench.database.run(theirs).await;
        let outcome = bench.one(write("u", 2, vec![row(0, &["p"]), row(1, &["l", "v", "p"])])).await;
        if reaches {
            assert_held_back(&outcome);
        } else {
            assert_eq!(outcome, written(1, 1, 1), "{action}");
        }
        assert_eq!(bench.database.texts("select line from notes").await, ["l"], "{action}");
        let wanted = if reaches { "l v o" } else { "l v p" };
        assert_eq!(bench.database.texts(LINES).await, [wanted], "{action}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_reaches_rows_that_refer_to_what_it_changes_in_rows_of_ours() {
    let definition = "create table orders (id text primary key); create table lines (id text primary key, \
        order_id text unique references orders on delete set null);";
    let mut bench = bench(definition, &[("orders", &["id"]), ("lines", &["id", "order_id"])]).await;
    bench.one(write("u", 1, vec![row(0, &["o"]), row(1, &["l", "o"])])).await;
    let theirs = "create table notes (order_id text references lines (order_id) on update cascade); \
        insert into notes values ('o')";
    bench.database.run(theirs).await;
    assert_held_back(&bench.one(write("u", 2, vec![row(1, &["l", ""])])).await);
    assert_eq!(bench.database.texts("select order_id from notes").await, ["o"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_one_table_that_refer_to_each_other_go_together() {
    for action in ["no action", "restrict", "cascade", "set null"] {
        let definition = format!(
            "create table comments (id text primary key, value text, parent_id text references comments on delete {action});"
        );
        let mut bench = bench(&definition, &[("comments", &["id", "value", "parent_id"])]).await;
        let thread = || {
            vec![row(0, &["a", "v", ""]), row(0, &["b", "v", "a"]), row(0, &["c", "v", "b"]), row(0, &["d", "v", ""])]
        };
        assert_eq!(bench.one(write("u", 1, thread())).await, written(4, 0, 0));
        assert_eq!(bench.one(write("u", 2, vec![row(0, &["d", "v", ""])])).await, written(0, 1, 3), "{action}");
        bench.one(write("u", 3, thread())).await;
        bench.database.run("insert into comments values ('x', 'theirs', 'c')").await;
        assert_held_back(&bench.one(write("u", 4, Vec::new())).await);
        let there = "select string_agg(concat(id, parent_id), ' ' order by id) from comments";
        assert_eq!(bench.database.text(there).await, "a ba cb d xc", "{action}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_delete_would_reach_is_known_before_anything_is_deleted() {
    let definition = "create table heads (id text primary key, tail_id text); create table tails (id text primary key, \
        head_id text references heads on delete cascade); \
        alter table heads add foreign key (tail_id) references tails on delete cascade;";
    let tables: [(&str, &[&str]); 2] = [("heads", &["id", "tail_id"]), ("tails", &["id", "head_id"])];
    let mut bench = bench(definition, &tables).await;
    bench.one(write("u", 1, vec![row(0, &["h", ""]), row(1, &["t", "h"])])).await;
    bench.one(write("u", 2, vec![row(0, &["h", "t"]), row(1, &["t", "h"])])).await;
    bench.database.run("create table notes (head text references heads on delete cascade)").await;
    bench.database.run("insert into notes values ('h')").await;
    assert_held_back(&bench.one(write("u", 3, Vec::new())).await);
    assert_eq!(bench.database.texts("select head from notes").await, ["h"]);
    bench.database.run("delete from notes").await;
    assert_eq!(bench.one(write("u", 4, Vec::new())).await, written(0, 0, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_refer_to_another_unique_column_than_the_key_are_seen() {
    for action in ["cascade", "set null"] {
        let definition =
            "create table operations (id text primary key, uuid text unique, pair text, unique (id, pair));";
        let mut bench = bench(definition, &[("operations", &["id", "uuid", "pair"])]).await;
        bench.one(write("u", 1, vec![row(0, &["1", "x", "p"]), row(0, &["2", "y", "p"])])).await;
        let theirs = format!(
            "create table audits (operation_uuid text references operations (uuid) on delete {action}); \
             create table pairs (id text, pair text, foreign key (id, pair) references operations (id, pair) on delete {action}); \
             insert into audits values ('x'); insert into pairs values ('2', 'p')"
        );
        bench.database.run(theirs).await;
        for (offset, kept) in [(2, row(0, &["2", "y", "p"])), (3, row(0, &["1", "x", "p"]))] {
            assert_held_back(&bench.one(write("u", offset, vec![kept])).await);
        }
        assert_eq!(bench.database.texts("select operation_uuid from audits").await, ["x"], "{action}");
        assert_eq!(bench.database.texts("select id || pair from pairs").await, ["2p"], "{action}");
        bench.database.run("delete from audits; delete from pairs").await;
        assert_eq!(bench.one(write("u", 4, Vec::new())).await, written(0, 0, 2), "{action}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_just_being_made_to_refer_is_waited_for() {
    for action in ACTIONS {
        let mut bench = orders(action).await;
        bench.one(write("u", 1, vec![row(0, &["o"])])).await;
        bench.database.run("begin; insert into lines values ('theirs', 'v', 'o')").await;
        let mut other = bench.database.connect().await;
        let waits = "select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
        let referring = async {
            while sqlx::query(waits).fetch_all(&mut other).await.expect("it answers").is_empty() {
                tokio::task::yield_now().await;
            }
            bench.database.run("commit").await;
        };
        let gone = [write("u", 2, Vec::new())];
        let both = async { tokio::join!(bench.target.apply(&gone), referring) };
        let (outcome, ()) = patiently("the delete waits, and ends", both).await;
        assert_held_back(&outcome.expect("it answers")[0]);
        assert_eq!(bench.database.texts(LINES).await, ["theirs v o"], "{action}");
    }
}

/// A type's own equality may be wider than that of the type which it is made of, and is in no schema that is searched.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_refer_by_the_equality_of_an_extension_s_type_are_seen() {
    for action in ACTIONS {
        let mut database = Database::new().await;
        let pool = Server::parse(&database.url).expect("an address").pool(2);
        let mut parents = shape("parents", &["id"]);
        parents.columns[0].type_name = "citext".into();
        let tables: Arc<[TableShape]> = [parents].into();
        database.run("create extension citext; create table parents (id citext primary key)").await;
        provision(&pool, "", &tables).await.expect("it is there");
        let target = PostgresTarget::new(pool, "referring", tables, &DigestKey::new([3; 32]), ForeignScope::Row);
        let mut bench = Bench { database, target };
        bench.one(write("u", 1, vec![row(0, &["A"]), row(0, &["B"])])).await;
        bench
            .database
            .run(format!(
                "create table children (parent citext references parents on delete {action}); insert into children values ('a')"
            ))
            .await;
        assert_held_back(&bench.one(write("u", 2, vec![row(0, &["B"])])).await);
        assert_eq!(bench.database.texts("select parent::text from children").await, ["a"], "{action}");
        assert_eq!(
            bench.one(write("u", 3, vec![row(0, &["A"])])).await,
            written(0, 1, 1),
            "{action}: nobody refers to B"
        );
    }
}

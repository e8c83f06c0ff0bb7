//! The target seam's suite on each implementation.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use rehome::event::{Decimal, DigestKey, Value};
use rehome::postgres::Server;
use rehome::postgres::target::{PostgresTarget, provision};
use rehome::target::{
    ColumnShape, Deletes, ForeignScope, TableShape, Target, TargetKey, TargetRow, TargetTable, Trust, UnitOutcome,
    UnitWrite, WriteVersion,
};

use crate::support::cluster::{Database, run};
use crate::support::memory_target::MemoryTarget;

#[path = "../suites/target.rs"]
mod suite;

/// The newest target.
#[derive(Default)]
struct Memory(Mutex<Option<Arc<MemoryTarget>>>);

#[async_trait]
impl suite::Bench for Memory {
    async fn target(&self, scope: ForeignScope) -> Arc<dyn Target> {
        let target = Arc::new(MemoryTarget::new(suite::tables(), scope));
        *self.0.lock().expect("no panic") = Some(Arc::clone(&target));
        target
    }

    async fn put(&self, row: TargetRow) {
        self.0.lock().expect("no panic").as_ref().expect("a target").put_foreign(row);
    }
}

/// The database of the newest target.
#[derive(Default)]
struct Postgres(tokio::sync::Mutex<Option<Database>>);

#[async_trait]
impl suite::Bench for Postgres {
    async fn target(&self, scope: ForeignScope) -> Arc<dyn Target> {
        let database = Database::new().await;
        let pool = Server::parse(&database.url).expect("an address").pool(2);
        let definition = "create table parents (id text primary key, value text); \
                          create table children (id text primary key, value text);";
        provision(&pool, definition, &suite::tables()).await.expect("it may");
        *self.0.lock().await = Some(database);
        Arc::new(PostgresTarget::new(pool, "suite", suite::tables(), &DigestKey::new([3; 32]), scope))
    }

    async fn put(&self, row: TargetRow) {
        let table = &suite::tables()[usize::from(row.table.0)].name.clone();
        let [Value::Text(id), Value::Text(value)] = row.values.as_slice() else { panic!("two texts") };
        let mut database = self.0.lock().await;
        let database = database.as_mut().expect("a target");
        run(&mut database.connection, format!("insert into {table} values ('{id}', '{value}')")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_target_in_memory_keeps_the_contract() {
    suite::run(&Memory::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_target_postgres_keeps_the_contract() {
    suite::run(&Postgres::default()).await;
}

/// Refused parts at both ends and side by side; what the others need of each other goes with them.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_large_batch_just_the_parts_that_are_refused_are_parked() {
    let database = Database::new().await;
    let pool = Server::parse(&database.url).expect("an address").pool(2);
    let definition = "create table parents (id text primary key, value text); \
                      create table children (id text primary key, value text, check (value <> 'refused'));";
    provision(&pool, definition, &suite::tables()).await.expect("it may");
    let target =
        PostgresTarget::new(pool.clone(), "suite", suite::tables(), &DigestKey::new([3; 32]), ForeignScope::Row);
    let bad = [0, 7, 8, 150, 299];
    for trust in [Trust::Fresh, Trust::Record] {
        let batch: Vec<UnitWrite> = (0..300)
            .map(|number| {
                let (name, value) =
                    (format!("{trust:?}-{number}"), if bad.contains(&number) { "refused" } else { "fine" });
                let row = |table, value: &str| {
                    let values = vec![Value::text(name.as_str()), Value::text(value)];
                    TargetRow { table: TargetTable(table), values }
                };
                UnitWrite {
                    unit: name.as_str().into(),
                    part: [0xff, 0xff].into(),
                    version: WriteVersion { log: 7, mapping: 1, partition: 0, offset: 1 },
                    rows: vec![row(0, "fine"), row(1, value)],
                    trust,
                    deletes: Deletes::Now,
                    before: Vec::new(),
                }
            })
            .collect();
        let outcomes = target.apply(&batch).await.expect("it writes");
        let parked: Vec<usize> = (0..outcomes.len())
            .filter(|&at| matches!(&outcomes[at], UnitOutcome::Parked { reason, .. } if **reason == *"constraint"))
            .collect();
        assert_eq!(parked, bad, "{trust:?}");
        let written = |outcome: &&UnitOutcome| matches!(outcome, UnitOutcome::Written { upserted: 2, .. });
        assert_eq!(outcomes.iter().filter(written).count(), 295);
        let there = target.read(&batch.iter().flat_map(keys).collect::<Vec<_>>()).await.expect("it reads");
        let lacking: Vec<usize> = (0..there.len()).filter(|&at| there[at].is_none()).map(|at| at / 2).collect();
        assert_eq!(lacking, bad.map(|at| [at, at]).concat(), "a part is there whole or not at all");
        assert!(target.apply(&batch).await.expect("it writes").iter().enumerate().all(|(at, outcome)| {
            bad.contains(&at) == matches!(outcome, UnitOutcome::Parked { .. })
                && bad.contains(&at) != matches!(outcome, UnitOutcome::Repeated)
        }));
    }
}

fn keys(write: &UnitWrite) -> Vec<TargetKey> {
    write.rows.iter().map(|row| TargetKey { table: row.table, values: row.values[..1].to_vec() }).collect()
}

/// It would stand there under another key than it is owned by, and stay for ever when its unit goes.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_whose_key_its_column_rounds_is_parked() {
    let mut database = Database::new().await;
    let pool = Server::parse(&database.url).expect("an address").pool(2);
    let column = |name: &str, type_name: &str| ColumnShape { name: name.into(), type_name: type_name.into() };
    let table = TableShape {
        schema: "public".into(),
        name: "prices".into(),
        columns: vec![column("price", "numeric"), column("value", "text")],
        key: vec![0],
    };
    let tables: Arc<[TableShape]> = [table].into();
    provision(&pool, "create table prices (price numeric(10, 2) primary key, value text);", &tables)
        .await
        .expect("it may");
    let target = PostgresTarget::new(pool, "suite", tables, &DigestKey::new([3; 32]), ForeignScope::Row);
    let write = |number: usize, offset: u64, price: Option<String>, trust| {
        let decimal = |text: &String| Value::Decimal(Decimal::parse(text).expect("a decimal"));
        let row = |price| TargetRow { table: TargetTable(0), values: vec![price, Value::text("v")] };
        UnitWrite {
            unit: number.to_string().into(),
            part: [0xff, 0xff].into(),
            version: WriteVersion { log: 7, mapping: 1, partition: 0, offset },
            rows: price.as_ref().map(decimal).map(row).into_iter().collect(),
            trust,
            deletes: Deletes::Now,
            before: Vec::new(),
        }
    };
    // By COPY, and by statements; each with a unit of its own that cannot be stored.
    for (first, count, trust) in [(0, 150, Trust::Fresh), (200, 3, Trust::Record)] {
        let price = |number: usize| format!("{number}.{}", if number == first + 1 { "001" } else { "50" });
        let numbers = || first..first + count;
        let batch: Vec<UnitWrite> = numbers().map(|number| write(number, 1, Some(price(number)), trust)).collect();
        let outcomes = target.apply(&batch).await.expect("it answers");
        let parked = |outcome: &UnitOutcome| matches!(outcome, UnitOutcome::Parked { reason, .. } if **reason == *"not_storable");
        let refused: Vec<usize> = numbers().filter(|number| parked(&outcomes[number - first])).collect();
        assert_eq!(refused, [first + 1], "{trust:?}");
        assert_eq!(database.text("select count(*)::text from prices").await, (count - 1).to_string());
        let gone: Vec<UnitWrite> = numbers().map(|number| write(number, 2, None, Trust::Record)).collect();
        target.apply(&gone).await.expect("it answers");
        assert_eq!(database.text("select count(*)::text from prices").await, "0", "{trust:?}: nothing stays");
    }
}

/// A writer that died may have sent its commit before: what that leaves at the target is found by whoever writes the part next.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_comes_into_being_while_its_part_is_written_is_not_lost() {
    let mut database = Database::new().await;
    let pool = Server::parse(&database.url).expect("an address").pool(4);
    let definition = "create table parents (id text primary key, value text); \
                      create table children (id text primary key, value text);";
    provision(&pool, definition, &suite::tables()).await.expect("it may");
    let other = Server::parse(&database.url).expect("an address").pool(1);
    let target = |pool| {
        let key = DigestKey::new([3; 32]);
        Arc::new(PostgresTarget::new(pool, "suite", suite::tables(), &key, ForeignScope::Row))
    };
    let row = TargetRow { table: TargetTable(0), values: vec![Value::text("k1"), Value::text("v")] };
    let write = |offset, rows| UnitWrite {
        unit: "u".into(),
        part: Arc::from(&b"p"[..]),
        version: WriteVersion { log: 1, mapping: 1, partition: 0, offset },
        rows,
        trust: Trust::Record,
        deletes: Deletes::Now,
        before: Vec::new(),
    };
    // What the dead writer's transaction holds is copied into one that this test ends itself.
    target(other.clone()).apply(&[write(1, vec![row.clone()])]).await.expect("it may");
    run(&mut database.connection, "create table rehome.kept as select * from rehome.units").await;
    run(&mut database.connection, "delete from rehome.units; delete from public.parents").await;
    let mut dying = other.begin().await.expect("a transaction");
    for statement in
        ["insert into public.parents values ('k1', 'v')", "insert into rehome.units select * from rehome.kept"]
    {
        sqlx::query(statement).execute(&mut *dying).await.expect("it may");
    }
    let next = target(pool);
    let (writing, batch) = (Arc::clone(&next), [write(2, Vec::new())]);
    let applied = tokio::spawn(async move { writing.apply(&batch).await });
    let waits =
        "select count(*) > 0 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    while !sqlx::query_scalar::<_, bool>(waits).fetch_one(&mut database.connection).await.expect("it may") {
        assert!(!applied.is_finished(), "it waits for the record that is being written");
        tokio::task::yield_now().await;
    }
    dying.commit().await.expect("it may");
    let error = applied.await.expect("no panic").expect_err("it was planned without that record");
    assert!(matches!(error, rehome::target::Error::Unreachable { .. }), "it is tried again: {error}");
    let outcomes = next.apply(&[write(2, Vec::new())]).await.expect("it may");
    assert!(matches!(outcomes[..], [UnitOutcome::Written { deleted: 1, .. }]), "{outcomes:?}");
    let key = TargetKey { table: TargetTable(0), values: vec![Value::text("k1")] };
    assert_eq!(next.read(&[key]).await.expect("it may"), [None]);
}

//! The target seam's suite on each implementation.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use rehome::event::{DigestKey, Value};
use rehome::postgres::Server;
use rehome::postgres::target::{PostgresTarget, provision};
use rehome::target::{ForeignScope, Target, TargetRow};

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

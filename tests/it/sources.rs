//! The source seams' suite on each implementation.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use rehome::event::{Epoch, Lsn};
use rehome::postgres::assemble::Start;
use rehome::postgres::feed::PgFeed;
use rehome::postgres::provision::NewSlot;
use rehome::postgres::snapshot::{PgSnapshot, RangeTask};
use rehome::postgres::{Server, catalog, provision};
use rehome::source::{ChangeFeed, RangeId, Receipt, Snapshot};

use crate::support::capture::public;
use crate::support::cluster::Database;
use crate::support::memory_source::MemorySource;

#[path = "../suites/source.rs"]
pub mod suite;

use suite::{Bench, Change};

const PUBLICATION: &str = "suite_publication";

/// A database, and the session that holds its snapshot.
struct Postgres {
    database: Database,
    slot: Option<(String, NewSlot)>,
    begun: u32,
}

impl Postgres {
    fn server(&self) -> Server {
        Server::parse(&self.database.url).expect("an address")
    }

    fn slot(&self) -> &(String, NewSlot) {
        self.slot.as_ref().expect("it has begun")
    }

    async fn drop_slot(&mut self) {
        if let Some((name, _)) = self.slot.take() {
            let mut connection = self.server().connect().await.expect("a session");
            provision::drop_slot(&mut connection, &name).await.expect("it may");
        }
    }
}

#[async_trait]
impl Bench for Postgres {
    async fn begin(&mut self, rows: i64) -> (Arc<dyn Snapshot>, Vec<RangeId>) {
        self.drop_slot().await;
        self.begun += 1;
        self.database
            .run(format!(
                "drop table if exists t; create table t (id int8 primary key, value text); \
                 insert into t select i, repeat('v', 500) from generate_series(1, {rows}) i"
            ))
            .await;
        let server = self.server();
        let mut connection = server.connect().await.expect("a session");
        provision::publish(&mut connection, PUBLICATION, &[public("t")]).await.expect("it may");
        let name = provision::slot_name("suite", Epoch(1), self.begun);
        let slot = provision::create_slot(&server, &format!("{name}_{}", self.database.name)).await.expect("it may");
        let table = catalog::table(&mut connection, &public("t")).await.expect("it answers").expect("a table");
        let leaf = catalog::leaves(&mut connection, table.oid).await.expect("it answers").remove(0);
        let task = |from: u32, to: Option<u32>| RangeTask {
            table: public("t"),
            leaf: leaf.name.clone(),
            leaf_oid: leaf.oid,
            filenode: leaf.filenode,
            from,
            to,
            written_since: None,
        };
        let tasks = [(RangeId(0), task(0, Some(3))), (RangeId(1), task(3, Some(6))), (RangeId(2), task(6, None))];
        let snapshot = PgSnapshot::new(server, slot.snapshot.clone(), Epoch(1), tasks.into());
        self.slot = Some((format!("{name}_{}", self.database.name), slot));
        (Arc::new(snapshot), (0..3).map(RangeId).collect())
    }

    async fn lose_snapshot(&mut self) {
        self.drop_slot().await;
    }

    async fn commit(&mut self, changes: &[Change]) {
        let statement = |change: &Change| match change {
            Change::Insert(id, value) => format!("insert into t values ({id}, '{value}')"),
            Change::Update(id, value) => format!("update t set value = '{value}' where id = {id}"),
            Change::Delete(id) => format!("delete from t where id = {id}"),
        };
        let statements: Vec<String> = changes.iter().map(statement).collect();
        self.database.run(format!("begin; {}; commit", statements.join("; "))).await;
    }

    async fn feed(&mut self, from: Option<Vec<u8>>) -> Box<dyn ChangeFeed> {
        let position = match from {
            Some(mark) => String::from_utf8(mark).expect("text").parse().expect("a position"),
            None => self.slot().1.consistent,
        };
        let start = Start {
            epoch: Epoch(1),
            position,
            position_mark: suite::POSITION.into(),
            shape_mark_prefix: "shape/".into(),
            moved_mark: "moved".into(),
            shapes: HashMap::new(),
        };
        // The server may not have seen yet that the session of an earlier feed ended.
        loop {
            match PgFeed::open(&self.server(), &self.slot().0, PUBLICATION, start.clone()).await {
                Ok(feed) => return Box::new(feed),
                Err(error) => assert_eq!(error.fault(), rehome::source::Fault::Transient, "{error}"),
            }
        }
    }

    async fn told(&mut self) -> Receipt {
        let name = self.slot().0.clone();
        let confirmed = self
            .database
            .text(&format!("select confirmed_flush_lsn::text from pg_replication_slots where slot_name = '{name}'"))
            .await;
        Receipt(confirmed.parse::<Lsn>().expect("a position").0)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_source_in_memory_keeps_the_contract() {
    suite::run(&mut MemorySource::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_as_a_source_keeps_the_contract() {
    let mut postgres = Postgres { database: Database::new().await, slot: None, begun: 0 };
    suite::run(&mut postgres).await;
    postgres.drop_slot().await;
}

//! A Postgres capture that runs beside a test, into a log in memory.

use std::sync::Arc;
use std::time::Duration;

use rehome::capture::{Config, run};
use rehome::event::{Event, Lsn, Relation, RelationName, Value};
use rehome::log::EventLog;
use rehome::postgres::preflight::{Absence, TableExpectation};

use super::cluster::Database;

#[path = "../../suites/running.rs"]
mod running;

pub use running::{Running, events, memory, patiently};

/// A table of the schema `public`.
pub fn public(table: &str) -> RelationName {
    RelationName { schema: "public".into(), table: table.into() }
}

/// Settings for small tables and quick tests.
pub fn config(url: &str, tables: &[&str]) -> Config {
    let table = |table: &&str| TableExpectation { name: public(table), columns: Vec::new(), absence: Absence::Error };
    let tables = tables.iter().map(table).collect();
    Config { heartbeat: Duration::from_millis(50), workers: 2, range_bytes: 64 << 10, ..Config::new(url, tables) }
}

/// Starts a capture.
pub fn start(config: Config, log: Arc<dyn EventLog>) -> Running {
    Running::start(log, |log, status, shutdown| run(config, log, status, shutdown))
}

/// Starts a capture of tables into a new log and waits until it has caught up.
pub async fn live(database: &Database, tables: &[&str]) -> Running {
    let mut running = start(config(&database.url, tables), memory());
    running.caught_up().await;
    running
}

impl Running {
    /// Waits until everything committed by now is in the log.
    pub async fn settled(&mut self, database: &mut Database) {
        database.run("select pg_logical_emit_message(true, 'test', 'settled')").await;
        let position: Lsn =
            database.text("select pg_current_wal_insert_lsn()::text").await.parse().expect("a position");
        self.until("settled", |status| status.durable >= position).await;
    }

    /// The relation of an event.
    pub fn relation(&self, event: &Event) -> Arc<Relation> {
        self.log.relation(event.relation).expect("registered before its first use")
    }
}

/// The value of a column of the row after an event; `None` when it is missing.
pub fn after(running: &Running, event: &Event, column: &str) -> Option<Value> {
    let relation = running.relation(event);
    let index = relation.columns.iter().position(|found| &*found.name == column).expect("a column");
    event.after.as_ref().expect("a row").0[index].value().cloned()
}

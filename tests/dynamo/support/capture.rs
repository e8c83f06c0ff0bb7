//! A DynamoDB capture that runs beside a test.

use std::sync::Arc;
use std::time::Duration;

use rehome::capture::dynamo::{Config, run};
use rehome::dynamo::Address;
use rehome::dynamo::preflight::{Absence, TableExpectation};
use rehome::event::{Event, RelationName};
use rehome::log::{EventLog, Partition};

use super::tables::{Rows, Table};

#[path = "../../suites/running.rs"]
mod running;

use running::PATIENCE;
pub use running::{Running, events, memory, patiently};

/// A table that has to be there.
pub fn needed(name: &str) -> TableExpectation {
    TableExpectation { name: name.into(), absence: Absence::Error }
}

/// Settings for small tables and quick tests.
pub fn config(url: &str, tables: &[&Table]) -> Config {
    let tables = tables.iter().map(|table| needed(&table.name)).collect();
    Config {
        workers: 2,
        segments_min: 3,
        poll: Duration::from_millis(20),
        discover: Duration::from_millis(100),
        ..Config::new(Address::local(url), tables)
    }
}

/// Starts a capture.
pub fn start(config: Config, log: Arc<dyn EventLog>) -> Running {
    Running::start(log, |log, status, shutdown| run(config, log, status, shutdown))
}

impl Running {
    /// Waits until the log says of a table what the table says of itself.
    pub async fn equals(&mut self, table: &Table) {
        let expected = table.rows().await;
        let log = Arc::clone(&self.log);
        let same = async {
            loop {
                let end = log.end(Partition(0));
                if fold(&*log, &table.name).await == expected {
                    return;
                }
                log.wait_beyond(Partition(0), end).await;
            }
        };
        let waited = tokio::select! {
            same = tokio::time::timeout(PATIENCE, same) => same,
            ended = &mut self.task => panic!("the capture ended: {ended:?}"),
        };
        if waited.is_err() {
            let found = fold(&*self.log, &table.name).await;
            let wrong: Vec<_> = expected.iter().filter(|(key, row)| found.get(key) != Some(row)).collect();
            panic!("{} of {} items in the log; wrong or missing: {wrong:?}", found.len(), expected.len());
        }
    }
}

/// What a log says a table holds: the rules of versions written down once more, as plainly as can be.
pub async fn fold(log: &dyn EventLog, table: &str) -> Rows {
    let name = RelationName { schema: "".into(), table: table.into() };
    let mut events: Vec<Event> = events(log).await;
    let newest = events.iter().map(|event| event.version.epoch).max();
    events.retain(|event| {
        Some(event.version.epoch) == newest && log.relation(event.relation).expect("registered").name == name
    });
    events.sort_by_key(|event| event.version);
    let mut rows = Rows::new();
    for event in events {
        match event.after {
            Some(row) => rows.insert(event.key, row),
            None => rows.remove(&event.key),
        };
    }
    rows
}

/// A mark as text.
pub fn mark(log: &dyn EventLog, name: &str) -> Option<String> {
    log.mark(name).expect("it reads").map(|bytes| String::from_utf8(bytes).expect("text"))
}

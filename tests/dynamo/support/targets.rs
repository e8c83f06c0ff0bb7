//! Target tables of a test's own, and writes to them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rehome::dynamo::codec::write_item;
use rehome::dynamo::table::{KeyAttribute, KeyKind};
use rehome::dynamo::target::{Billing, DynamoTarget, Settings, Sharing, TableSpec, provision};
use rehome::dynamo::{Address, Server};
use rehome::event::Value;
use rehome::target::{
    Deletes, ForeignScope, Target as _, TargetKey, TargetRow, TargetTable, Trust, UnitOutcome, UnitWrite, WriteVersion,
};

use super::server;

/// Numbers the tables: all tests share one server.
static TABLES: AtomicU32 = AtomicU32::new(0);

/// How most tests write.
pub const SETTINGS: Settings =
    Settings { foreign_scope: ForeignScope::Row, concurrency: 8, write_units_max: None, sharing: Sharing::Shared };

/// Target tables on the server, without anything between.
pub struct Tables {
    /// Their definitions.
    pub specs: Arc<[TableSpec]>,
    /// The server.
    pub server: Server,
}

/// The definition of a table whose key is the text `id`.
pub fn spec(name: &str) -> TableSpec {
    TableSpec {
        name: name.into(),
        key: vec![KeyAttribute { name: "id".into(), kind: KeyKind::S }],
        indexes: Vec::new(),
        billing: Billing::OnDemand,
        stream: None,
    }
}

/// A name that no other test has.
pub fn unique(name: &str) -> String {
    format!("{name}-{}", TABLES.fetch_add(1, Ordering::Relaxed))
}

impl Tables {
    /// Two tables whose key is the text `id`.
    pub async fn new() -> Self {
        Self::of([spec(&unique("parents")), spec(&unique("children"))].into()).await
    }

    /// Tables of these definitions.
    pub async fn of(specs: Arc<[TableSpec]>) -> Self {
        let server = Server::new(&Address::local(server::url())).await.expect("an address");
        provision(&server, &specs).await.expect("they are made");
        Self { specs, server }
    }

    /// A target that writes them directly.
    pub async fn target(&self, settings: Settings) -> DynamoTarget {
        self.target_at(server::url(), settings).await
    }

    /// A target that writes them through an address.
    pub async fn target_at(&self, url: &str, settings: Settings) -> DynamoTarget {
        let server = Server::new(&Address::local(url)).await.expect("an address");
        DynamoTarget::open(&server, "m", Arc::clone(&self.specs), settings).await.expect("it opens")
    }

    /// Puts an item as someone else would.
    pub async fn put(&self, row: &TargetRow) {
        let Some(Value::Map(item)) = row.values.last() else { panic!("an item") };
        let name = &self.specs[usize::from(row.table.0)].name;
        let item = write_item(item).expect("it can be stored");
        let call = self.server.tables().put_item().table_name(&**name).set_item(Some(item));
        call.send().await.expect("it is put");
    }
}

/// A row of a table whose key is `id`, with further attributes.
pub fn row_of(table: u16, id: &str, more: Vec<(&str, Value)>) -> TargetRow {
    let more = more.into_iter().map(|(name, value)| (Box::from(name), value));
    let item = more.chain([(Box::from("id"), Value::text(id))]).collect();
    TargetRow { table: TargetTable(table), values: vec![Value::text(id), Value::Map(item)] }
}

/// A row with one further text.
pub fn row(table: u16, id: &str, value: &str) -> TargetRow {
    row_of(table, id, vec![("value", Value::text(value))])
}

/// A key.
pub fn key(table: u16, id: &str) -> TargetKey {
    TargetKey { table: TargetTable(table), values: vec![Value::text(id)] }
}

/// A version.
pub fn at(offset: u64) -> WriteVersion {
    WriteVersion { log: 7, mapping: 1, partition: 0, offset }
}

/// A write of something that was never written.
pub fn fresh(unit: &str, offset: u64, rows: Vec<TargetRow>) -> UnitWrite {
    UnitWrite {
        unit: unit.into(),
        part: [1].into(),
        version: at(offset),
        rows,
        trust: Trust::Fresh,
        deletes: Deletes::Now,
        before: Vec::new(),
    }
}

/// A write of something that was written before under these keys.
pub fn again(unit: &str, offset: u64, rows: Vec<TargetRow>, before: Vec<TargetKey>) -> UnitWrite {
    UnitWrite { trust: Trust::Record, before, ..fresh(unit, offset, rows) }
}

/// So many rows written, unchanged and deleted.
pub fn written(upserted: u64, unchanged: u64, deleted: u64) -> UnitOutcome {
    UnitOutcome::Written { upserted, unchanged, deleted, foreign: 0, matched_foreign: 0 }
}

/// Writes one part.
pub async fn one(target: &DynamoTarget, write: UnitWrite) -> UnitOutcome {
    let mut outcomes = target.apply(&[write]).await.expect("it writes");
    assert_eq!(outcomes.len(), 1);
    outcomes.remove(0)
}

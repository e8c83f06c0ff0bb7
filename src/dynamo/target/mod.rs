//! DynamoDB as a target: each item written under a condition, so that each write takes effect once.
//!
//! There is no transaction over the items of a part, and no record beside them: each item carries the part that it belongs
//! to and the version of the write that last changed it (see [`mark`]), and the caller says under which keys a part was
//! written before. What that gives, and what it does not:
//!
//! * An item of someone else, or of another part, is never changed or deleted: every write has a condition that says so. An
//!   application that edits an item in place and keeps our mark is not kept from it; its edit is replaced by the next write
//!   that wants the item otherwise.
//! * An older write never replaces a newer one's item. An item that a newer write left as it was keeps its older version,
//!   and nothing is left of an item that was deleted: there an older write is told by the part's other items, or not at all.
//!   One process writes a migration, in order; that keeps older writes away.
//! * The items of a part are not seen together. Items are put before others are deleted, and a write that ends in between is
//!   healed by its repetition, which the caller owes.
//! * [`ForeignScope::Unit`] is a look before the write: someone else's item that comes in between parks the part too, and
//!   what was newly put is taken back, but what was changed is not.
//!
//! What DynamoDB would refuse is parked before it is sent: `item_too_large` over 400 KB, `number_out_of_range`,
//! `not_storable`.

mod batch;
mod calls;
mod indexed;
mod inventory;
mod item;
mod mark;
mod measure;
mod partition;
mod plan;
mod provision;
mod read;
mod select;
mod spec;
mod write;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::dynamo::Server;
use crate::dynamo::error::failure;
use crate::target::{
    Cost, Error, ForeignScope, TableShape, Target, TargetKey, TargetRow, TargetTable, UnitOutcome, UnitWrite,
};

use self::calls::{Calls, Use, failed};
use self::indexed::Indexed;

pub use calls::Consumed;
pub use inventory::Placed;
pub use mark::mark_of;
pub use measure::{Meter, Size};
pub use provision::{Left, Provisioned, identities, provision, unprovision, verify};
pub use spec::{Billing, IndexSpec, Projection, TableSpec};

/// How a target writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// What to do when an item of someone else stands where one of a part should.
    pub foreign_scope: ForeignScope,
    /// Calls under way at once, at most.
    pub concurrency: usize,
    /// Write units a second, at most; `None` leaves it to the table's throttling.
    pub write_units_max: Option<u32>,
    /// Who else writes the tables.
    pub sharing: Sharing,
}

/// Who else writes the target tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sharing {
    /// Others may: every write is conditional.
    #[default]
    Shared,
    /// Nobody, an operator says: what fills a table that was empty at the start goes in batches.
    Exclusive,
}

/// DynamoDB tables that expected rows are written to.
#[derive(Debug)]
pub struct DynamoTarget {
    calls: Calls,
    migration: Box<str>,
    specs: Arc<[TableSpec]>,
    settings: Settings,
    /// For each table, whether what was never written may go in batches.
    batching: Vec<AtomicBool>,
    /// For each table, whether the live one has indexes.
    indexed: Vec<Indexed>,
}

impl DynamoTarget {
    /// A target that writes the tables of one migration.
    ///
    /// # Errors
    /// With [`Sharing::Exclusive`] when a table cannot be read; otherwise nothing is asked of the service yet.
    pub async fn open(
        server: &Server,
        migration: &str,
        specs: Arc<[TableSpec]>,
        settings: Settings,
    ) -> Result<Self, Error> {
        let calls = Calls::new(server.tables().clone(), settings.concurrency, settings.write_units_max);
        let mut batching = Vec::with_capacity(specs.len());
        for spec in &*specs {
            let alone = settings.sharing == Sharing::Exclusive && empty(&calls, spec).await?;
            batching.push(AtomicBool::new(alone));
        }
        let indexed = specs.iter().map(|_| Indexed::default()).collect();
        Ok(Self { calls, migration: migration.into(), specs, settings, batching, indexed })
    }

    /// The tables as their rows are laid out.
    pub fn shapes(&self) -> Arc<[TableShape]> {
        self.specs.iter().map(TableSpec::shape).collect()
    }

    /// A row as the service gives it back: numbers in one writing, whole numbers as any other.
    pub fn as_stored(row: &TargetRow) -> TargetRow {
        TargetRow { table: row.table, values: row.values.iter().map(item::stored).collect() }
    }

    /// What was consumed since the target was opened.
    pub fn consumed(&self) -> Consumed {
        self.calls.report()
    }

    /// Hands over every item that this migration wrote, page by page, and answers how many; reads the whole of each table.
    ///
    /// It is for the time after a loss of local state: what each part was written under is to be known again before the part
    /// is written. Dropping the receiver ends it.
    ///
    /// # Errors
    /// When a table cannot be read.
    pub async fn inventory(&self, out: mpsc::Sender<Vec<Placed>>) -> Result<u64, Error> {
        inventory::tell(self, None, out).await
    }

    /// Keys of all items that bear a unit's mark in the partitions of some keys; each partition is read whole.
    ///
    /// # Errors
    /// When a table cannot be read.
    pub async fn marked(&self, unit: &str, keys: &[TargetKey]) -> Result<BTreeSet<TargetKey>, Error> {
        partition::of_unit(self, unit, keys).await
    }

    /// The definition of a table.
    fn spec(&self, table: TargetTable) -> &TableSpec {
        &self.specs[usize::from(table.0)]
    }

    /// A table by its name.
    fn named(&self, name: &str) -> Option<(TargetTable, &TableSpec)> {
        (0..).map(TargetTable).zip(&*self.specs).find(|(_, spec)| *spec.name == *name)
    }

    /// Whether what was never written may go to a table in batches.
    fn batches(&self, table: TargetTable) -> bool {
        self.batching[usize::from(table.0)].load(Ordering::Acquire)
    }

    /// Whether the size of a new item alone says what putting it costs, a unit for each KiB, because no index has a share in it.
    ///
    /// Then the cost is not asked for: to say it takes a local server a quarter of its time. Where the table cannot be described,
    /// each answer says it.
    async fn costs_its_size(&self, table: TargetTable) -> bool {
        let ask = async || {
            let description = self.calls.client().describe_table().table_name(&*self.spec(table).name).send().await;
            let description = description.ok().and_then(|answer| answer.table);
            description.is_none_or(|live| {
                !live.global_secondary_indexes().is_empty() || !live.local_secondary_indexes().is_empty()
            })
        };
        !self.indexed[usize::from(table.0)].get(Instant::now(), ask).await
    }

    /// Ends batches for the tables of some keys, for good.
    fn end_batches<'a>(&self, keys: impl Iterator<Item = &'a TargetKey>) {
        for key in keys {
            self.batching[usize::from(key.table.0)].store(false, Ordering::Release);
        }
    }
}

#[async_trait]
impl Target for DynamoTarget {
    fn keeps_record(&self) -> bool {
        false
    }

    fn cost(&self) -> Option<Cost> {
        let consumed = self.consumed();
        Some(Cost {
            write_units: whole(consumed.write_units),
            write_units_per_second: whole(consumed.write_units_per_second),
            read_units: whole(consumed.read_units),
            throttled: consumed.throttled,
        })
    }

    async fn apply(&self, batch: &[UnitWrite]) -> Result<Vec<UnitOutcome>, Error> {
        write::apply(self, batch).await
    }

    async fn read(&self, keys: &[TargetKey]) -> Result<Vec<Option<TargetRow>>, Error> {
        read::rows(self, keys).await
    }

    /// Reads the whole of each table: who has the keys in local state should rather ask there.
    async fn owned(&self, unit: &str) -> Result<Vec<TargetKey>, Error> {
        let (out, mut pages) = mpsc::channel::<Vec<Placed>>(1);
        let collect = async {
            let mut keys = Vec::new();
            while let Some(page) = pages.recv().await {
                keys.extend(page.into_iter().map(|placed| placed.key));
            }
            keys
        };
        let (told, keys) = tokio::join!(inventory::tell(self, Some(unit), out), collect);
        told.map(|_| keys)
    }
}

/// Whether a table holds nothing.
async fn empty(calls: &Calls, spec: &TableSpec) -> Result<bool, Error> {
    let ask = || async {
        let call = calls.client().scan().table_name(&*spec.name).consistent_read(true).limit(1);
        call.send().await.map_err(|error| failure(&error))
    };
    let answer = calls.call(Use::Read, ask).await;
    let answer = answer.map_err(|failure| failed("see whether a table is empty", &spec.name, failure))?;
    Ok(answer.items().is_empty() && answer.last_evaluated_key.is_none_or(|key| key.is_empty()))
}

/// Rounded up; units are counted in halves.
fn whole(units: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "units are not negative, and far below 2^53"
    )]
    let whole = units.ceil() as u64;
    whole
}

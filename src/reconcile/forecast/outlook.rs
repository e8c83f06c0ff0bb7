//! What evaluated parts come to at a target that nobody writes: counted by cluster, and their keys folded.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::estimate::Sums;
use super::folding::{Folding, Space};
use crate::event::{Canonical as _, Key, Value, key_text};
use crate::mapping::{Evaluation, Migration, Place, SourceTable, TableAccount, UnitRows};
use crate::reconcile::Error;
use crate::reconcile::expected::{Outlet, SourceAccount, unit_bucket};
use crate::reconcile::ledger::Came;
use crate::reconcile::side::Done;
use crate::reconcile::spill::Tag;
use crate::target::{TargetRow, TargetTable};

/// Something that is counted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quantity {
    /// Rows read of a source table.
    Read(SourceTable),
    /// Bytes of them, as the store sends them.
    ReadBytes(SourceTable),
    /// Rows that go into target rows.
    Mapped(SourceTable),
    /// Rows that the mapping leaves out, by reason.
    Dropped(SourceTable, Box<str>),
    /// Rows that cannot be mapped or placed, by reason.
    Quarantined(SourceTable, Box<str>),
    /// Rows that wait for others.
    Waiting(SourceTable),
    /// Rows that are only looked up.
    Lookup(SourceTable),
    /// What the mapping counts.
    Counted(Box<str>),
    /// Parts of units.
    Parts,
    /// Parts that the mapping parks, by reason.
    Parked(Box<str>),
    /// Parts that the target would refuse, by reason.
    RefusedParts(Box<str>),
    /// Target rows of them, by reason.
    Refused(TargetTable, Box<str>),
    /// Target rows of values that the target would not keep as they are, by what becomes of them.
    Altered(TargetTable, Box<str>),
    /// Target rows that would be written.
    Rows(TargetTable),
    /// Their bytes.
    Bytes(TargetTable),
    /// Write units that they take.
    WriteUnits(TargetTable),
    /// Rows of the largest size class: items above half of what the target takes.
    Large(TargetTable),
}

/// Counts of one cluster.
pub type Tally = BTreeMap<Quantity, u64>;

/// A target row, as the target would take it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measured {
    /// Its bytes there.
    pub bytes: u64,
    /// Write units that writing it takes, with its indexes; none where nobody counts them.
    pub write_units: u64,
    /// Whether it is above half of the largest size.
    pub large: bool,
    /// Why the target would refuse it.
    pub refused: Option<&'static str>,
    /// What the target would make of a value of it, if not the value itself.
    pub altered: Option<&'static str>,
}

/// Says how a target would take rows.
pub trait Measure: Send + Sync + 'static {
    /// Measures a row of a part; `scope` is the part's name.
    fn measure(&self, place: &Place, scope: &[u8], row: &TargetRow) -> Measured;
}

/// Columns of a target table whose values meet those of other rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySpace {
    /// Where they meet.
    pub space: Space,
    /// The table.
    pub table: TargetTable,
    /// Its columns.
    pub columns: Vec<usize>,
    /// What they are for.
    pub role: KeyRole,
}

/// What columns are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyRole {
    /// The primary key: no two rows may have it alike.
    Primary,
    /// A unique key: no two rows may have it alike, unless a part of it is NULL.
    Unique,
    /// A foreign key: a row must have these among what is referred to.
    Referring,
    /// What a foreign key refers to.
    Referred,
}

/// Which units are evaluated: those of the first `chosen` of `of` buckets, by the hash of their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Buckets that are evaluated.
    pub chosen: u32,
    /// All of them.
    pub of: u32,
}

/// What all workers share.
pub struct Common {
    /// The migration.
    pub migration: Arc<Migration>,
    /// How the target takes rows.
    pub measure: Arc<dyn Measure>,
    /// Columns whose values must tell rows apart, and are not known to.
    pub spaces: Vec<KeySpace>,
    /// Whether rows go to partitions by the first column of their key.
    pub partitioned: bool,
    /// Units that are evaluated of tables that are read whole.
    pub share: Share,
    /// Keys that are shown, of each kind.
    pub shown: usize,
}

/// What a key is shown for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// A source row that cannot be mapped.
    Quarantined,
    /// A part that the mapping parks.
    Parked,
    /// A target row that the target refuses.
    Refused,
    /// A target row that the target alters.
    Altered,
}

/// Some keys, by what they are shown for and why.
pub type Shown = BTreeMap<(What, Box<str>), Vec<String>>;

/// What rows are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clusters {
    /// Buckets of units.
    Units,
    /// The range that is being read.
    Range,
}

/// One worker's outlet.
pub struct Outlook {
    common: Arc<Common>,
    clusters: Clusters,
    range: Tally,
    /// Counts by bucket.
    pub buckets: BTreeMap<u32, Tally>,
    /// Counts of ranges that were closed, by source table.
    pub ranges: BTreeMap<usize, BTreeMap<Quantity, Sums>>,
    /// Keys for the reader.
    pub examples: Shown,
    keys: Folding,
    partitions: Folding,
    /// The account of the part whose target rows come next.
    told: Evaluated,
}

/// What is known of a part before its target rows.
#[derive(Default)]
struct Evaluated {
    tables: BTreeMap<SourceTable, TableAccount>,
    counts: BTreeMap<Box<str>, u64>,
}

impl Outlook {
    /// An outlet that folds into these.
    pub fn new(common: &Arc<Common>, clusters: Clusters, keys: Folding, partitions: Folding) -> Self {
        Self {
            common: Arc::clone(common),
            clusters,
            range: Tally::new(),
            buckets: BTreeMap::new(),
            ranges: BTreeMap::new(),
            examples: Shown::new(),
            keys,
            partitions,
            told: Evaluated::default(),
        }
    }

    /// Ends a range: what was counted since the last one is its.
    pub fn close(&mut self, table: usize, done: &Done, account: SourceAccount) {
        let mut tally = std::mem::take(&mut self.range);
        add_account(&mut tally, account);
        read(&mut tally, table, done);
        let sums = self.ranges.entry(table).or_default();
        tally.into_iter().for_each(|(quantity, count)| sums.entry(quantity).or_default().add(count));
    }

    fn tally(&mut self, unit: &str) -> &mut Tally {
        match self.clusters {
            Clusters::Range => &mut self.range,
            Clusters::Units => self.buckets.entry(unit_bucket(unit, self.common.share.of)).or_default(),
        }
    }

    /// Counts what became of a part's rows: of a part that is refused none are mapped.
    fn account(&mut self, unit: &str, told: Evaluated, refused: Option<&str>) {
        let tally = self.tally(unit);
        let mut add = |quantity, count: u64| {
            if count > 0 {
                *tally.entry(quantity).or_default() += count;
            }
        };
        if let Some(reason) = refused {
            add(Quantity::RefusedParts(reason.into()), 1);
            told.tables.iter().for_each(|(table, rows)| add(Quantity::Quarantined(*table, reason.into()), rows.read));
            return;
        }
        for (table, account) in told.tables {
            add(Quantity::Mapped(table), account.mapped);
            account.dropped.into_iter().for_each(|(reason, rows)| add(Quantity::Dropped(table, reason), rows));
            account.quarantined.into_iter().for_each(|(reason, rows)| add(Quantity::Quarantined(table, reason), rows));
        }
        told.counts.into_iter().for_each(|(name, count)| add(Quantity::Counted(name), count));
    }

    fn show(&mut self, what: What, reason: &str, key: impl FnOnce() -> String) {
        let shown = self.examples.entry((what, reason.into())).or_default();
        if shown.len() < self.common.shown {
            shown.push(key());
        }
    }

    fn label(&self, table: TargetTable) -> &str {
        self.common.migration.target_tables().get(usize::from(table.0)).map_or("", |table| &table.name)
    }
}

/// Counts what placing alone decided: rows without a unit.
pub fn add_account(tally: &mut Tally, account: SourceAccount) {
    let mut add = |quantity, count| *tally.entry(quantity).or_default() += count;
    account.waiting.into_iter().for_each(|(table, rows)| add(Quantity::Waiting(table), rows));
    account.lookup.into_iter().for_each(|(table, rows)| add(Quantity::Lookup(table), rows));
    for (table, reasons) in account.quarantined {
        reasons.into_iter().for_each(|(reason, rows)| add(Quantity::Quarantined(table, reason), rows));
    }
}

/// Counts a range that was read.
pub fn read(tally: &mut Tally, table: usize, done: &Done) {
    let table = SourceTable(u16::try_from(table).unwrap_or(u16::MAX));
    *tally.entry(Quantity::Read(table)).or_default() += done.rows;
    *tally.entry(Quantity::ReadBytes(table)).or_default() += done.bytes;
}

impl Outlet for Outlook {
    fn wants(&self, place: &Place) -> bool {
        let Share { chosen, of } = self.common.share;
        self.clusters == Clusters::Range || chosen >= of || unit_bucket(&place.unit, of) < chosen
    }

    fn silent(&self, _: SourceTable) -> bool {
        false
    }

    fn told(&mut self, place: &Place, _: &dyn UnitRows, evaluation: &Evaluation) -> Result<(), Error> {
        let (tables, counts) = (evaluation.accounts.tables.clone(), evaluation.counts.clone());
        self.told = Evaluated { tables, counts };
        *self.tally(&place.unit).entry(Quantity::Parts).or_default() += 1;
        if let Some(parked) = &evaluation.parked {
            *self.tally(&place.unit).entry(Quantity::Parked(parked.reason.clone())).or_default() += 1;
            self.show(What::Parked, &parked.reason, || place.unit.to_string());
        }
        for row in &evaluation.accounts.quarantined_rows {
            let common = Arc::clone(&self.common);
            let table = common.migration.source_tables().get(usize::from(row.table.0)).map_or("", |table| &table.name);
            self.show(What::Quarantined, &row.reason, || format!("{table} {}", key_text(&row.key.0)));
        }
        Ok(())
    }

    fn rows(&mut self, place: &Place, scope: &[u8], rows: Vec<TargetRow>) -> Result<(), Error> {
        let common = Arc::clone(&self.common);
        let measured: Vec<Measured> = rows.iter().map(|row| common.measure.measure(place, scope, row)).collect();
        // One row that is refused holds back its part.
        let refused = measured.iter().find_map(|measured| measured.refused);
        let told = std::mem::take(&mut self.told);
        self.account(&place.unit, told, refused);
        for (row, measured) in rows.iter().zip(measured) {
            let table = row.table;
            let key = || {
                let shape = &common.migration.target_tables()[usize::from(table.0)];
                shape.key.iter().map(|column| row.values[*column].clone()).collect::<Vec<Value>>()
            };
            for (what, reason) in [(What::Refused, measured.refused), (What::Altered, measured.altered)] {
                if let Some(reason) = reason {
                    let text = format!("{} {}", self.label(table), key_text(&key()));
                    self.show(what, reason, || text);
                }
            }
            let tally = self.tally(&place.unit);
            let mut add = |quantity, count| *tally.entry(quantity).or_default() += count;
            if let Some(reason) = refused {
                add(Quantity::Refused(table, reason.into()), 1);
            } else {
                add(Quantity::Rows(table), 1);
                add(Quantity::Bytes(table), measured.bytes);
                add(Quantity::WriteUnits(table), measured.write_units);
                add(Quantity::Large(table), u64::from(measured.large));
                if let Some(what) = measured.altered {
                    add(Quantity::Altered(table, what.into()), 1);
                }
            }
            for space in common.spaces.iter().filter(|space| space.table == table) {
                let values: Vec<Value> = space.columns.iter().map(|column| row.values[*column].clone()).collect();
                let weight = match space.role {
                    KeyRole::Primary => 0,
                    // NULL is like nothing, not even another NULL.
                    KeyRole::Unique if values.contains(&Value::Null) => continue,
                    // A part that is refused claims its keys all the same.
                    KeyRole::Unique => 0,
                    KeyRole::Referring | KeyRole::Referred if refused.is_some() || values.contains(&Value::Null) => {
                        continue;
                    }
                    KeyRole::Referring => 0,
                    KeyRole::Referred => 1,
                };
                self.keys.add(space.space, Key(values).encode(), weight)?;
            }
            if common.partitioned && refused.is_none() {
                let first = key().into_iter().take(1).collect();
                self.partitions.add(table.0, Key(first).encode(), measured.write_units)?;
            }
        }
        Ok(())
    }

    fn begin(&mut self, _: Tag) -> Result<(), Error> {
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Error> {
        self.keys.finish()?;
        self.partitions.finish()
    }

    fn end(&mut self) -> Result<Option<Came>, Error> {
        self.finish().map(|()| None)
    }
}

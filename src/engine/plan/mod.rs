//! What a migration would come to, before anything is made: the comparison's pass over the source, and nothing of a target.
//!
//! Only the source is asked, and only read: no slot, no publication, no state folder, no table. What the target would refuse is
//! told by its rules ([`measure`]), not by asking it. [`report`] is what is answered, [`costs`] what follows from counts.

mod costs;
mod measure;
pub mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use crate::capture::load::file;
use crate::dynamo::table::describe;
use crate::event::{DigestKey, Value};
use crate::mapping::SourceTable;
use crate::mapping::schema::{Role, Store, TargetTableDef};
use crate::postgres::{catalog, live};
use crate::project::scope::{scope_key, unit_of};
use crate::reconcile::canary::Canaries;
use crate::reconcile::context::{Context, Naming};
use crate::reconcile::forecast::outlook::{KeyRole, KeySpace, Share};
use crate::reconcile::forecast::{self, Plan};
use crate::reconcile::references::References;
use crate::rules::Ruleset;
use crate::target::{TargetRow, TargetTable};

use super::files::Rows;
use super::sides::{self, Opened, Portion};
use super::{Engine, Error};

pub use report::Forecast;

/// Buckets that units are put into: as fine as a sample can be.
const BUCKETS: u32 = 1_000;
/// Rows that a partition of a spill has, about.
const PARTITION_ROWS: u64 = 50_000;
/// Partitions, at the most: as many files are open at once for each kind of record.
const PARTITIONS_MAX: u64 = 128;

/// How a migration is foreseen.
#[derive(Debug, Clone)]
pub struct Planning {
    /// How much of the source is looked at; all of it when absent.
    pub sample: Option<Sample>,
    /// Ranges that are read at the same time.
    pub workers: usize,
    /// Folder for what does not fit into memory; must be empty.
    pub spill: PathBuf,
    /// Keys that are shown, of each kind.
    pub shown: usize,
}

/// How much of the source is looked at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sample {
    /// So many percent.
    Percent(f64),
    /// So many rows, about.
    Rows(u64),
}

impl Engine {
    /// Foresees what the migration comes to; nothing is written but the spill.
    ///
    /// # Errors
    /// Whatever keeps the source from being read.
    pub async fn plan(&self, how: Planning) -> Result<Forecast, Error> {
        let given = self.given()?;
        let share = self.share(how.sample).await?;
        let sampled = if share < 1.0 { self.sampled_by_ranges(&given) } else { BTreeSet::new() };
        let portion = if share < 1.0 { Portion::Sample { share, tables: &sampled } } else { Portion::Whole };
        let mut opened = self.opened(&given, &portion).await?;
        if let Portion::Whole = portion {
            opened.count().await?;
        }
        let Opened { side, rows, drawn, pace, holder: _holder, .. } = opened;
        let items = self.migration.target_store() == Store::DynamoDb;
        let as_stored = |row: TargetRow| crate::dynamo::target::DynamoTarget::as_stored(&row);
        let as_stored = if items { as_stored } else { |row| row };
        let naming = Naming { scope_of: scope_key, unit_of, as_stored, items };
        let (key, canaries) = (DigestKey::new(rand::random()), Canaries::none(self.tables.len()));
        let (migration, tables) = (Arc::clone(&self.migration), Arc::clone(&self.tables));
        let rules = Arc::new(Ruleset::none(&self.migration));
        let source = Arc::new(side);
        let spaces = self.key_spaces(share);
        let partitions = (rows.iter().sum::<u64>() / PARTITION_ROWS).clamp(8, PARTITIONS_MAX);
        let plan = Plan {
            context: Arc::new(Context::new(migration, tables, rules, &key, canaries, naming)),
            source: Arc::clone(&source),
            sampled: drawn.clone(),
            given: given.clone(),
            measure: measure::of(self),
            spaces: spaces.clone(),
            partitioned: items,
            share: buckets(share),
            workers: how.workers,
            partitions: usize::try_from(partitions).unwrap_or(8),
            shown: how.shown,
        };
        let clock = Instant::now();
        let outcome = forecast::run(plan, &how.spill).await?;
        let told = report::Told {
            engine: self,
            outcome: &outcome,
            source: &source,
            sampled: &drawn,
            given: &given,
            spaces: &spaces,
            share,
            seconds: clock.elapsed().as_secs_f64(),
            read_units: pace.map(|pace| pace.rate().units),
            shown: how.shown,
        };
        Ok(report::forecast(&told))
    }

    /// Rows of the tables that files stand for.
    fn given(&self) -> Result<BTreeMap<usize, Rows>, Error> {
        let mut given = BTreeMap::new();
        for dump in self.files()? {
            let place = self.sources.iter().position(|source| source.relation == dump.relation.name);
            let (_, rows) = file::read(&dump.path, &dump.relation)?;
            let values = |row: crate::event::Row| -> Vec<Value> {
                row.0.into_iter().filter_map(|cell| cell.value().cloned()).collect()
            };
            given.extend(place.map(|place| (place, rows.into_iter().map(|(_, row)| values(row)).collect())));
        }
        Ok(given)
    }

    /// The part of the source that is looked at: above 0, and 1 for all of it.
    async fn share(&self, sample: Option<Sample>) -> Result<f64, Error> {
        Ok(match sample {
            None => 1.0,
            Some(Sample::Percent(percent)) => percent / 100.0,
            Some(Sample::Rows(rows)) => {
                let all = self.rows_about().await?;
                if rows >= all { 1.0 } else { rows as f64 / all as f64 }
            }
        })
    }

    /// Rows of the source, as far as it knows without counting them.
    async fn rows_about(&self) -> Result<u64, Error> {
        let mut all = 0;
        match self.migration.source_store() {
            Store::Postgres => {
                let mut connection = self.source()?.connect().await?;
                for (source, _) in self.captured() {
                    let Some(table) = catalog::table(&mut connection, &source.relation).await? else { continue };
                    all += match catalog::rows_about(&mut connection, table.oid).await? {
                        Some(rows) => rows,
                        // Nobody has analysed it yet.
                        None => live::count(&mut connection, &source.relation).await?,
                    };
                }
            }
            Store::DynamoDb => {
                let server = self.source_tables().await?;
                for (source, _) in self.captured() {
                    all += describe(&server, &source.relation.table).await?.map_or(0, |table| table.items);
                }
            }
        }
        Ok(all)
    }

    /// Tables whose rows are mapped one by one, and that no other row looks into: a part of them says what the rest is like.
    fn sampled_by_ranges(&self, given: &BTreeMap<usize, Rows>) -> BTreeSet<usize> {
        let referred = References::tables(&self.migration);
        let tables = self.migration.source_tables().iter().enumerate();
        let alone = tables.filter(|(place, table)| {
            let source = SourceTable(u16::try_from(*place).unwrap_or(u16::MAX));
            table.role == Role::Unit
                && !given.contains_key(place)
                && !referred.contains(&source)
                && self.migration.row_by_row(source)
        });
        alone.map(|(place, _)| place).collect()
    }

    async fn opened(&self, given: &BTreeMap<usize, Rows>, portion: &Portion<'_>) -> Result<Opened, Error> {
        let wanted = self.wanted_sources(given);
        match self.migration.source_store() {
            Store::Postgres => sides::postgres_portion(&self.source()?, "source", wanted, portion).await,
            Store::DynamoDb => {
                let server = self.source_tables().await?;
                sides::dynamo_portion(server, "source", wanted, self.settings.read_capacity, portion).await
            }
        }
    }

    /// Columns whose values meet: keys that no mapping proves apart, unique keys, and what foreign keys refer to. Of a sample
    /// foreign keys are left out: what they refer to may be anywhere.
    fn key_spaces(&self, share: f64) -> Vec<KeySpace> {
        let tables = self.migration.target_tables();
        let index = |place: usize| TargetTable(u16::try_from(place).unwrap_or(u16::MAX));
        let columns = |table: &TargetTableDef, names: &[Box<str>]| -> Option<Vec<usize>> {
            names.iter().map(|name| table.column(name)).collect()
        };
        // Two of a space where a key meets what it refers to, else one.
        let mut groups: Vec<Vec<(TargetTable, Vec<usize>, KeyRole)>> = Vec::new();
        for (place, table) in tables.iter().enumerate() {
            if !self.migration.keys_disjoint(index(place)) {
                groups.push(vec![(index(place), table.key.clone(), KeyRole::Primary)]);
            }
            let uniques = table.uniques.iter().filter_map(|unique| columns(table, unique));
            groups.extend(uniques.map(|columns| vec![(index(place), columns, KeyRole::Unique)]));
            for foreign in table.foreign_keys.iter().filter(|_| share >= 1.0) {
                let Some(parent) = tables.iter().position(|table| table.name == foreign.table) else { continue };
                let referred = match foreign.referred.as_slice() {
                    [] => Some(tables[parent].key.clone()),
                    names => columns(&tables[parent], names),
                };
                let (Some(here), Some(there)) = (columns(table, &foreign.columns), referred) else { continue };
                let child = (index(place), here, KeyRole::Referring);
                groups.push(vec![child, (index(parent), there, KeyRole::Referred)]);
            }
        }
        let spaces = (0_u16..).zip(groups).flat_map(|(space, group)| {
            group.into_iter().map(move |(table, columns, role)| KeySpace { space, table, columns, role })
        });
        spaces.collect()
    }
}

/// The buckets of units that are evaluated.
fn buckets(share: f64) -> Share {
    // Cut to the type's ends; one bucket says nothing of how buckets differ.
    let chosen = ((f64::from(BUCKETS) * share).ceil() as u32).clamp(2, BUCKETS);
    Share { chosen, of: BUCKETS }
}

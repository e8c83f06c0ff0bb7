//! A comparison of everything: opens both sides, has them compared, and proves or settles what was found.
//!
//! The order matters. First the projector is asked where it stands; then the source's snapshot is taken, then the target's. When
//! the log holds everything that the source's snapshot saw, a part that no record concerned since the first question, and
//! that did not wait to be projected then, stood still all the while: what was found of it is real (I8). Parts that moved are
//! looked at one by one, by the same comparison as `diff`; those that never stand still are listed as unsettled.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::dynamo::pace::ReadRate;
use crate::dynamo::target::mark_of;
use crate::event::{Lsn, RelationName, Value};
use crate::mapping::schema::{Presence, Store};
use crate::postgres::target::recorded_keys;
use crate::project::scope::{scope_key, unit_key, unit_of};
use crate::project::source::SourceShape;
use crate::reconcile::actual::Owners;
use crate::reconcile::canary::Canaries;
use crate::reconcile::context::{Context, Naming};
use crate::reconcile::run::{self, Plan};
use crate::reconcile::side::Side;
use crate::reconcile::summary::{self, Around};
use crate::reconcile::{self, Grade, Summary, Told};
use crate::rules::Ruleset;
use crate::target::TargetRow;

use super::cut::{self, Cut};
use super::judging::{Grounds, Judging};
use super::protocol::Stand;
use super::resume::{self, Attempt, SpillFolder};
use super::sides::{self, Need, Opened, Wanted};
use super::witness::{Projection as _, Witness};
use super::{Engine, Error};

/// Name of the table of rehome's own that says what was written for which part.
const RECORD: (&str, &str) = ("rehome", "units");
/// Columns of it.
const RECORD_COLUMNS: [&str; 4] = ["migration", "unit", "part", "owned"];
/// Rows that a partition of a spill has, about: some ten megabytes on both sides.
const PARTITION_ROWS: u64 = 50_000;
/// Partitions, at the most: with more than a hundred million rows they grow, and the memory that they take.
const PARTITIONS_MAX: u64 = 2_048;

/// How a comparison is made.
pub struct Reconciling {
    /// What counts as equal.
    pub rules: Arc<Ruleset>,
    /// Ranges of each side that are read at the same time.
    pub workers: usize,
    /// Folder for what does not fit into memory, empty or as a comparison that was killed left it: then this one goes on. It is
    /// removed when the comparison comes to its end.
    pub spill: SpillFolder,
    /// Whether faults are planted that must be found.
    pub planting: Planting,
    /// How long parts that move are waited for, in all.
    pub patience: Duration,
    /// Units that are read again to say which fields differ.
    pub details_max: usize,
    /// When it began.
    pub started: jiff::Timestamp,
}

/// Whether faults are planted that must be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planting {
    /// They are.
    Canaries,
    /// They are not, and the verdict says so.
    Nothing,
}

impl Engine {
    /// Compares everything; each discrepancy goes to `take`, and what they come to is answered.
    ///
    /// # Errors
    /// Whatever keeps a side from being read to its end.
    pub async fn reconcile(&self, how: Reconciling, take: &mut (dyn FnMut(Told<'_>) + Send)) -> Result<Summary, Error> {
        let started = how.started;
        let clock = Instant::now();
        let now = self.before(how.patience).await?;
        let given = self.rows_of_files().await?;
        let files: BTreeMap<usize, Vec<Vec<Value>>> = given.keys().map(|table| (*table, Vec::new())).collect();
        // The target first: a row that someone else writes to both stores, to the source first, is in what is read of the source.
        let (mut target, owners) = self.target_side().await?;
        let ownership = owners.ownership();
        let mut source = self.source_side(&given).await?;
        let of_target = async { target.count().await.map_err(Error::at_target) };
        tokio::try_join!(source.count(), of_target)?;
        let all: u64 = source.rows.iter().chain(&target.rows).sum();
        let partitions = usize::try_from((all / PARTITION_ROWS).clamp(8, PARTITIONS_MAX)).unwrap_or(8);
        let Attempt { begun, key, ledger, kept: [source_kept, target_kept], before } =
            self.attempt(&how, now, (&source, &target), partitions).await?;
        let kept_items = !source_kept.is_empty();
        let canaries = match how.planting {
            Planting::Canaries => {
                Canaries::new(key.derive("canaries", &[begun.started.to_string().as_bytes()]), &begun.rows)
                    .judging(&begun.judged)
            }
            Planting::Nothing => Canaries::none(self.tables.len()),
        };
        let items = self.migration.target_store() == Store::DynamoDb;
        let as_stored = |row: TargetRow| crate::dynamo::target::DynamoTarget::as_stored(&row);
        let as_stored = if items { as_stored } else { |row| row };
        let naming = Naming { scope_of: scope_key, unit_of: unit_or_none, as_stored, items };
        let (migration, tables) = (Arc::clone(&self.migration), Arc::clone(&self.tables));
        let context = Arc::new(Context::new(migration, tables, Arc::clone(&how.rules), &key, canaries, naming));
        let (source_side, target_side) = (Arc::new(source.side), Arc::new(target.side));
        let plan = Plan {
            context: Arc::clone(&context),
            source: Arc::clone(&source_side),
            target: Arc::clone(&target_side),
            owners,
            given,
            workers: how.workers,
            partitions: begun.partitions,
            ledger,
            source_kept,
            target_kept,
        };
        let outcome = match run::run(plan, &how.spill.path()).await {
            Ok(outcome) => outcome,
            Err(error) if error.may_pass() => return Err(error.into()),
            // It would fail again, and a full disk wants its room back.
            Err(error) => {
                how.spill.remove()?;
                return Err(error.into());
            }
        };
        let after = match (&before, source.position) {
            (Some(_), Some(position)) if outcome.differing() => cut::covered(self, position, how.patience).await?,
            _ => None,
        };
        let quiet = before.is_none()
            && (self.idle(source.from, target.from).await?
                || outcome.differing()
                    && self.unchanged((&source_side, &target_side), &outcome, &files, how.workers).await?);
        let snapshots = |store| store == Store::Postgres;
        let ordered =
            snapshots(self.migration.target_store()) && (snapshots(self.migration.source_store()) || !kept_items);
        let cut = Cut { before, after, source: source.position, target: target.position, quiet, ordered };
        let unseen =
            |error: &Error| tracing::warn!(%error, "no unit can be looked at by itself: what moved stays unsettled");
        let comparer = self.comparer().await.inspect_err(unseen).ok();
        let mut judging = Judging::new(Grounds {
            context: &context,
            cut: &cut,
            ownership,
            projection: self,
            witness: comparer.as_ref().map(|comparer| comparer as &dyn Witness),
            deadline: self.elapsed() + how.patience,
            details_max: how.details_max,
            started,
        });
        let ahead = |partition: usize| {
            let found = outcome.found.clone();
            (partition < found.partitions()).then(|| tokio::task::spawn_blocking(move || found.take(partition)))
        };
        let (mut taking, mut partition) = (ahead(0), 0);
        while let Some(taken) = taking.take() {
            let taken = taken.await.map_err(|_| reconcile::Error::Worker)??;
            partition += 1;
            // The next is read and sorted while this one is judged.
            taking = ahead(partition);
            judging.partition(&taken, take).await?;
        }
        let Judging { classes, uses, .. } = judging;
        let rates: Vec<ReadRate> = [&source.pace, &target.pace].into_iter().flatten().map(|pace| pace.rate()).collect();
        let read_units = (!rates.is_empty()).then(|| rates.iter().map(|rate| rate.units).sum());
        let around = Around {
            migration: &self.migration,
            rules: &how.rules,
            uses,
            classes,
            source: &source_side,
            target: &target_side,
            started,
            finished: jiff::Timestamp::now(),
            seconds: clock.elapsed().as_secs(),
            memory_bytes: peak_memory(),
            grade: if cut.before.is_some() { Grade::Proven } else { Grade::Observed },
            log: cut.after.as_ref().or(cut.before.as_ref()).map(|stand| (stand.generation, stand.applied)),
            moving: cut.moving(),
            planted: how.planting == Planting::Canaries,
            root_key: key.derive("roots", &[&how.rules.id()]),
            read_units,
            throttles: rates.iter().map(|rate| rate.throttled).sum(),
        };
        let summary = summary::summary(&around, &outcome);
        how.spill.remove()?;
        Ok(summary)
    }

    /// Where the projector stands before either side is read; `None` where there is none.
    async fn before(&self, patience: Duration) -> Result<Option<Stand>, Error> {
        if !self.folder.exists() {
            return Ok(None);
        }
        cut::before(self, patience).await.map(Some)
    }

    /// Whether both sides still hold just the rows that were read: then they held them at one moment, when both had been begun.
    async fn unchanged(
        &self,
        (source, target): (&Side, &Side),
        outcome: &run::Outcome,
        files: &BTreeMap<usize, Vec<Vec<Value>>>,
        workers: usize,
    ) -> Result<bool, Error> {
        let now = self.source_side(files).await?;
        if !resume::unchanged(source, &outcome.source_done, &now, workers).await? {
            return Ok(false);
        }
        let (now, _) = self.target_side().await?;
        resume::unchanged(target, &outcome.target_done, &now, workers).await
    }

    /// Whether neither server wrote anything since positions were taken, before the snapshots were.
    async fn idle(&self, source: Option<Lsn>, target: Option<Lsn>) -> Result<bool, Error> {
        let (Some(source), Some(target)) = (source, target) else { return Ok(false) };
        Ok(sides::position(&self.source()?).await? == source
            && sides::position(&self.target_server()?).await? == target)
    }

    /// The source's side, but for tables that files stand for.
    async fn source_side(&self, given: &BTreeMap<usize, Vec<Vec<Value>>>) -> Result<Opened, Error> {
        let wanted = self.wanted_sources(given);
        match self.migration.source_store() {
            Store::Postgres => sides::postgres(&self.source()?, "source", wanted).await,
            Store::DynamoDb => {
                sides::dynamo(self.source_tables().await?, "source", wanted, self.settings.read_capacity).await
            }
        }
    }

    /// The source's tables as they are to be read, but for those that files stand for.
    pub(super) fn wanted_sources(&self, given: &BTreeMap<usize, Vec<Vec<Value>>>) -> Vec<Wanted> {
        let wanted = |(place, source): (usize, &SourceShape)| Wanted {
            relation: source.relation.clone(),
            columns: source.columns.iter().map(|(name, _)| name.clone()).collect(),
            renamed: source.renamed.clone(),
            need: match self.migration.source_tables()[place].presence {
                _ if given.contains_key(&place) => Need::Given,
                Presence::Required => Need::Required,
                Presence::Optional => Need::Optional,
            },
        };
        self.sources.iter().enumerate().map(wanted).collect()
    }

    async fn target_side(&self) -> Result<(Opened, Owners), Error> {
        self.open_target_side().await.map_err(Error::at_target)
    }

    async fn open_target_side(&self) -> Result<(Opened, Owners), Error> {
        let relation = |schema: &str, table: &str| RelationName { schema: schema.into(), table: table.into() };
        let mut wanted: Vec<Wanted> = self
            .tables
            .iter()
            .map(|shape| Wanted {
                relation: relation(&shape.schema, &shape.name),
                columns: shape.columns.iter().map(|column| column.name.clone()).collect(),
                renamed: Vec::new(),
                need: Need::Required,
            })
            .collect();
        let migration: Box<str> = self.migration.name().into();
        if self.migration.target_store() == Store::DynamoDb {
            let server = self.target_tables().await?;
            let opened = sides::dynamo(server, "target", wanted, self.settings.read_capacity).await?;
            let owner = move |values: &mut Vec<Value>| {
                let (of, unit, part) = mark_of(values.last_mut()?)?;
                (*of == *migration).then(|| [unit_key(&unit), part].concat())
            };
            return Ok((opened, Owners::Marks(Arc::new(owner))));
        }
        let server = self.target_server()?;
        if !sides::has_table(&server, &relation(RECORD.0, RECORD.1)).await? {
            return Ok((sides::postgres(&server, "target", wanted).await?, Owners::Unknown));
        }
        let columns = RECORD_COLUMNS.map(Box::from).into();
        let record = relation(RECORD.0, RECORD.1);
        wanted.push(Wanted { relation: record, columns, renamed: Vec::new(), need: Need::Required });
        let opened = sides::postgres(&server, "target", wanted).await?;
        let tables = Arc::clone(&self.tables);
        let record = move |row: &[Value]| {
            let damaged = || reconcile::Error::Ownership { table: format!("{}.{}", RECORD.0, RECORD.1) };
            let [Value::Text(of), Value::Text(unit), Value::Bytes(part), Value::Bytes(owned)] = row else {
                return Err(damaged());
            };
            if **of != *migration {
                return Ok(None);
            }
            let keys = recorded_keys(owned, &tables).ok_or_else(damaged)?;
            Ok(Some(([unit_key(unit), part.to_vec()].concat(), keys)))
        };
        Ok((opened, Owners::Record(Arc::new(record))))
    }
}

/// What the names of all parts of a unit begin with; nothing where nobody knows the part.
fn unit_or_none(scope: &[u8]) -> &[u8] {
    if scope.is_empty() { scope } else { unit_of(scope) }
}

/// Largest resident memory of this process so far, in bytes; 0 where the system does not tell.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    number.unwrap_or(0) * 1024
}

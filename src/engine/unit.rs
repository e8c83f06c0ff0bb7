//! The on-demand comparison of one unit, and of every unit, against the live stores.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::dynamo::target::DynamoTarget;
use crate::event::Lsn;
use crate::mapping::schema::Store;
use crate::mapping::{Corpus, Evaluation};
use crate::postgres::target::PostgresTarget;
use crate::project::result::Status;
use crate::rules::Ruleset;
use crate::target::{Target, TargetKey, TargetRow, TargetTable};

use super::cut::unexpected;
use super::diff::{Verdict, compare};
use super::legacy::{Legacy, WholeTable};
use super::look::{Beside, Looking, UnitDiff, corpus};
use super::protocol::{Answer, Request};
use super::witness::{Belonging, Projection, Reading, Witness};
use super::{Engine, Error};

/// Units that are looked at together: so many connections are kept to each store.
pub(super) const UNITS_AT_ONCE: u32 = 4;
/// How often a comparison that proves nothing is made again.
const ATTEMPTS: usize = 40;
/// As [`ATTEMPTS`], where each attempt reads whole tables.
const COSTLY_ATTEMPTS: usize = 3;

/// Comparisons of every unit, added up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sums {
    /// Units compared.
    pub units: u64,
    /// Units that are equal on both sides, in all that the mapping makes of them.
    pub equal: u64,
    /// Units that differ, proven; each with its comparison.
    pub different: Vec<UnitDiff>,
    /// Units of which nothing is proven; each with its comparison.
    pub unproven: Vec<UnitDiff>,
    /// Units in quarantine, by reason.
    pub parked: BTreeMap<String, u64>,
    /// Legacy rows read.
    pub legacy_rows: u64,
    /// Target rows expected.
    pub expected_rows: u64,
    /// Target rows that belong to the units.
    pub found_rows: u64,
    /// All rows of the target tables; more than `found_rows` are someone else's.
    pub target_rows: u64,
}

/// Compares units; holds the connections for that.
pub struct Comparer<'a> {
    engine: &'a Engine,
    legacy: Legacy<'a>,
    target: Held,
    /// What counts as equal; where there is none, what is stored alike.
    rules: Option<Arc<Ruleset>>,
}

/// The target, as it is read.
enum Held {
    Postgres(PostgresTarget),
    Dynamo(Box<DynamoTarget>),
}

impl Held {
    fn seam(&self) -> &dyn Target {
        match self {
            Held::Postgres(target) => target,
            Held::Dynamo(target) => &**target,
        }
    }
}

impl Engine {
    /// Opens both sides for comparing.
    ///
    /// # Errors
    /// When one of them cannot be reached.
    pub async fn comparer(&self) -> Result<Comparer<'_>, Error> {
        // Before either side is read by tables that the folder's migration may not have.
        self.folder.check(self.migration.name())?;
        let foreign = super::shapes::foreign_scope(&self.migration);
        let target = match self.migration.target_store() {
            Store::Postgres => {
                // Reading needs no digests, so it needs no key of the deployment's either.
                let key = crate::event::DigestKey::new([0; 32]);
                let pool = self.target_server()?.pool(UNITS_AT_ONCE);
                Held::Postgres(PostgresTarget::new(pool, self.migration.name(), self.tables.clone(), &key, foreign))
            }
            Store::DynamoDb => Held::Dynamo(Box::new(self.dynamo_target().await?)),
        };
        Ok(Comparer { engine: self, legacy: Legacy::open(self).await?, target, rules: None })
    }
}

#[async_trait]
impl Projection for Engine {
    async fn ask(&self, request: Request) -> Result<Answer, Error> {
        Engine::ask(self, request).await
    }

    fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    async fn pause(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

#[async_trait]
impl Projection for Comparer<'_> {
    async fn ask(&self, request: Request) -> Result<Answer, Error> {
        self.engine.ask(request).await
    }

    fn elapsed(&self) -> Duration {
        self.engine.elapsed()
    }

    async fn pause(&self, time: Duration) {
        self.engine.pause(time).await;
    }
}

#[async_trait]
impl Witness for Comparer<'_> {
    async fn source(&self, unit: &str) -> Result<Reading, Error> {
        self.legacy.read(unit).await
    }

    async fn target(&self, keys: &[TargetKey]) -> Result<Vec<TargetRow>, Error> {
        Ok(self.target.seam().read(keys).await?.into_iter().flatten().collect())
    }

    async fn belonging(&self, unit: &str, beside: &BTreeSet<TargetKey>) -> Result<Belonging, Error> {
        let mut belonging = Belonging::default();
        match &self.target {
            Held::Postgres(target) => {
                belonging.ours.extend(target.owned(unit).await?);
                // Rows that someone else wrote for the unit are part of what a reader of the target sees of it.
                for table in (0..).take(self.engine.tables.len()).map(TargetTable) {
                    if let Some(column) = self.engine.migration.target_unit_column(table) {
                        belonging.others.extend(target.naming(table, column, unit).await?);
                    }
                }
            }
            Held::Dynamo(target) => {
                // On a table of others, what bears the unit's mark and is expected by nobody is found only beside what is.
                let beside: Vec<TargetKey> = beside.iter().cloned().collect();
                belonging.ours.extend(target.marked(unit, &beside).await?);
            }
        }
        Ok(belonging)
    }

    fn as_read(&self, rows: Vec<TargetRow>) -> Vec<TargetRow> {
        match &self.target {
            Held::Postgres(_) => rows,
            Held::Dynamo(_) => rows.iter().map(DynamoTarget::as_stored).collect(),
        }
    }

    fn attempts(&self, unit: &str) -> usize {
        if self.whole_tables(unit).is_empty() { ATTEMPTS } else { COSTLY_ATTEMPTS }
    }
}

impl Comparer<'_> {
    /// The same, which compares units by rules.
    #[must_use]
    pub fn by(self, rules: Arc<Ruleset>) -> Self {
        Self { rules: Some(rules), ..self }
    }

    /// All rows of the target tables, whoever wrote them.
    pub async fn target_rows(&self) -> Result<u64, Error> {
        match &self.target {
            Held::Postgres(target) => Ok(target.count_rows().await?),
            // What else is in a shared table is not ours to count.
            Held::Dynamo(_) => Ok(0),
        }
    }

    /// Everything that the source holds now was written before this position; a DynamoDB table tells none.
    pub async fn source_position(&self) -> Result<Option<Lsn>, Error> {
        self.legacy.position().await
    }

    /// Tables of the source that have to be read whole to find a unit's rows, twice and more for each comparison: no key and no
    /// index leads to them.
    pub fn whole_tables(&self, unit: &str) -> Vec<WholeTable> {
        self.legacy.whole_tables(unit)
    }

    /// Compares one unit; tries again while changes are on their way, until it is equal, proven different, or patience ends.
    ///
    /// # Errors
    /// When a side cannot be read.
    pub async fn unit(&self, unit: &str) -> Result<UnitDiff, Error> {
        let diff = self.looking().unit(unit, &Beside::default()).await?;
        Ok(self.rules.iter().fold(diff, |diff, rules| diff.waived_by(rules)).of_all_rows())
    }

    /// Compares every unit that the source or the log names.
    pub async fn all(&self) -> Result<Sums, Error> {
        let mut units = self.legacy.units().await?;
        match self.engine.ask(Request::Units).await? {
            Answer::Units { units: logged } => units.extend(logged),
            other => return Err(unexpected(other)),
        }
        let mut sums = Sums::default();
        // Where units are found by reading whole tables, these are read for all of them at once, and again at the end.
        let first = self.whole().await?;
        let mut alike = Vec::new();
        let mut apart = Vec::new();
        for unit in &units {
            match &first {
                Some(corpus) => match self.alike(corpus, unit).await? {
                    Some(seen) => alike.push((unit, seen)),
                    None => apart.push(unit),
                },
                None => apart.push(unit),
            }
        }
        let again = if alike.is_empty() { None } else { self.whole().await? };
        for (unit, seen) in alike {
            let still = match &again {
                Some(corpus) => corpus.evaluate(&self.engine.migration, unit)?.rows == seen.rows,
                None => false,
            };
            if !still {
                apart.push(unit);
                continue;
            }
            sums.units += 1;
            sums.equal += 1;
            sums.legacy_rows += seen.accounts.tables.values().map(|account| account.read).sum::<u64>();
            sums.expected_rows += seen.rows.len() as u64;
            sums.found_rows += seen.rows.len() as u64;
        }
        for unit in apart {
            let diff = self.looking().unit(unit, &Beside::default()).await?;
            sums.units += 1;
            sums.legacy_rows += diff.legacy_rows;
            sums.expected_rows += diff.expected_rows;
            sums.found_rows += diff.actual_rows;
            match (&diff.parked, diff.verdict) {
                (Some(reason), _) => *sums.parked.entry(reason.clone()).or_default() += 1,
                (None, Verdict::Match) => sums.equal += 1,
                (None, Verdict::Mismatch) => sums.different.push(diff),
                (None, Verdict::Incomplete) => sums.unproven.push(diff),
            }
        }
        sums.target_rows = self.target_rows().await?;
        Ok(sums)
    }

    fn looking(&self) -> Looking<'_> {
        Looking {
            migration: &self.engine.migration,
            tables: &self.engine.tables,
            rules: self.rules.as_deref(),
            witness: self,
        }
    }

    /// All of a source that is read item by item, placed.
    async fn whole(&self) -> Result<Option<Corpus>, Error> {
        self.legacy.all_items().await?.map(|reading| corpus(&self.engine.migration, &reading)).transpose()
    }

    /// What the mapping makes of a unit's rows, if the log has the same, the target too, and nothing is on its way.
    async fn alike(&self, corpus: &Corpus, unit: &str) -> Result<Option<Evaluation>, Error> {
        let evaluation = corpus.evaluate(&self.engine.migration, unit)?;
        let expected = self.as_read(evaluation.rows.clone());
        let looking = self.looking();
        let view = looking.view(unit).await?;
        let logged = looking.logged(&view)?;
        let held = looking.held(unit, &Beside::default(), &view, [&expected, &logged]).await?.rows;
        let same = |rows: &[TargetRow]| compare(&self.engine.tables, &expected, rows).is_empty();
        let parked = view.result.as_ref().is_some_and(|result| matches!(result.status, Status::Parked { .. }));
        Ok((!view.dirty && !parked && same(&logged) && same(&held)).then_some(evaluation))
    }
}

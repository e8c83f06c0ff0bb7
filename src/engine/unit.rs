//! The on-demand comparison of one unit, and of every unit.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::dynamo::target::DynamoTarget;
use crate::event::{Canonical, Key, Lsn, from_hex};
use crate::mapping::schema::Store;
use crate::mapping::{Corpus, Evaluation};
use crate::postgres::target::PostgresTarget;
use crate::target::{Target, TargetKey, TargetRow, TargetTable};

use super::diff::{RowDifference, Verdict, compare, judge};
use super::legacy::{self, Legacy, WholeTable};
use super::protocol::{Answer, Request, UnitView};
use super::{Engine, Error};

/// How often a comparison that proves nothing is made again.
const ATTEMPTS: usize = 40;
/// As [`ATTEMPTS`], where each attempt reads whole tables.
const COSTLY_ATTEMPTS: usize = 3;
/// Between two attempts: enough for a change on its way to arrive.
const PAUSE: Duration = Duration::from_millis(100);

/// A unit's comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitDiff {
    /// The unit.
    pub unit: String,
    /// What was found.
    pub verdict: Verdict,
    /// Why it is no more than that, in a sentence.
    pub reason: String,
    /// Position of the source at which its rows were read; a DynamoDB table tells none.
    pub position: Option<Lsn>,
    /// Legacy rows read.
    pub legacy_rows: u64,
    /// Target rows expected.
    pub expected_rows: u64,
    /// Target rows found.
    pub actual_rows: u64,
    /// Differences of target rows.
    pub differences: Vec<RowDifference>,
    /// Reason for which the unit is parked, when it is.
    pub parked: Option<String>,
}

/// Comparisons of every unit, added up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sums {
    /// Units compared.
    pub units: u64,
    /// Units that are equal on both sides.
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
}

/// The target, as it is read.
enum Held {
    Postgres(PostgresTarget),
    Dynamo(Box<DynamoTarget>),
}

impl Held {
    /// Rows that the mapping makes, in the form that the target gives them back in.
    fn as_read(&self, rows: Vec<TargetRow>) -> Vec<TargetRow> {
        match self {
            Held::Postgres(_) => rows,
            Held::Dynamo(_) => rows.iter().map(DynamoTarget::as_stored).collect(),
        }
    }

    fn seam(&self) -> &dyn Target {
        match self {
            Held::Postgres(target) => target,
            Held::Dynamo(target) => &**target,
        }
    }
}

/// One reading of everything about a unit.
struct Reading {
    live: legacy::Reading,
    legacy_rows: u64,
    expected: Vec<TargetRow>,
    logged: Vec<TargetRow>,
    held: Vec<TargetRow>,
    view: UnitView,
}

impl Engine {
    /// Opens both sides for comparing.
    ///
    /// # Errors
    /// When one of them cannot be reached.
    pub async fn comparer(&self) -> Result<Comparer<'_>, Error> {
        let foreign = super::shapes::foreign_scope(&self.migration);
        let target = match self.migration.target_store() {
            Store::Postgres => {
                // Reading needs no digests, so it needs no key of the deployment's either.
                let key = crate::event::DigestKey::new([0; 32]);
                let pool = self.target_server()?.pool(2);
                Held::Postgres(PostgresTarget::new(pool, self.migration.name(), self.tables.clone(), &key, foreign))
            }
            Store::DynamoDb => Held::Dynamo(Box::new(self.dynamo_target().await?)),
        };
        Ok(Comparer { engine: self, legacy: Legacy::open(self).await?, target })
    }
}

impl Comparer<'_> {
    /// The target's rows of some keys, those that are there.
    pub(super) async fn rows(&self, keys: &[TargetKey]) -> Result<Vec<TargetRow>, Error> {
        Ok(self.target.seam().read(keys).await?.into_iter().flatten().collect())
    }

    /// Rows that the mapping makes, in the form that the target gives them back in.
    pub(super) fn as_read(&self, rows: Vec<TargetRow>) -> Vec<TargetRow> {
        self.target.as_read(rows)
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
            let diff = self.unit(unit).await?;
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

    /// All of a source that is read item by item, placed.
    async fn whole(&self) -> Result<Option<Corpus>, Error> {
        self.legacy.all_items().await?.map(|reading| self.legacy.corpus(&reading)).transpose()
    }

    /// What the mapping makes of a unit's rows, if the log has the same, the target too, and nothing is on its way.
    async fn alike(&self, corpus: &Corpus, unit: &str) -> Result<Option<Evaluation>, Error> {
        let evaluation = corpus.evaluate(&self.engine.migration, unit)?;
        let expected = self.target.as_read(evaluation.rows.clone());
        let view = self.view(unit).await?;
        let logged = self.target.as_read(decode_rows(&view)?);
        let held = self.held(unit, &view, &expected, &logged).await?;
        let same = |rows: &[TargetRow]| compare(&self.engine.tables, &expected, rows).is_empty();
        let parked = view
            .result
            .as_ref()
            .is_some_and(|result| matches!(result.status, crate::project::result::Status::Parked { .. }));
        Ok((!view.dirty && !parked && same(&logged) && same(&held)).then_some(evaluation))
    }

    /// Compares one unit; tries again while changes are on their way, until it is equal, proven different, or patience ends.
    pub async fn unit(&self, unit: &str) -> Result<UnitDiff, Error> {
        let mut last = None;
        let attempts = if self.whole_tables(unit).is_empty() { ATTEMPTS } else { COSTLY_ATTEMPTS };
        for attempt in 0..attempts {
            if attempt > 0 {
                tokio::time::sleep(PAUSE).await;
            }
            let reading = self.read(unit).await?;
            let verdict = self.verdict(unit, &reading).await?;
            let running = reading.view.captured.is_some();
            let described = self.describe(unit, verdict, &reading);
            let parked = described.parked.is_some();
            last = Some(described);
            // Without a running capture nothing is on its way, so waiting proves no more.
            if verdict != Verdict::Incomplete || !running || parked {
                break;
            }
        }
        Ok(last.expect("at least one attempt was made"))
    }

    async fn read(&self, unit: &str) -> Result<Reading, Error> {
        let live = self.legacy.read(unit).await?;
        let (expected, legacy_rows) = self.expected(unit, &live)?;
        let expected = self.target.as_read(expected);
        let view = self.view(unit).await?;
        let logged = self.target.as_read(decode_rows(&view)?);
        let held = self.held(unit, &view, &expected, &logged).await?;
        Ok(Reading { live, legacy_rows, expected, logged, held, view })
    }

    /// Judges a reading; a difference stands only if nothing moved while it was read.
    async fn verdict(&self, unit: &str, reading: &Reading) -> Result<Verdict, Error> {
        let captured: Option<Lsn> = reading.view.captured.as_deref().and_then(|position| position.parse().ok());
        let covered = captured.zip(reading.live.position).is_some_and(|(captured, read)| captured >= read);
        let verdict =
            judge(&self.engine.tables, &reading.expected, &reading.logged, &reading.held, &reading.view, covered);
        // Items are read one after the other: what was read is one state of the unit only if it is there again, with no
        // record of it between, and if it is what the log has.
        let apart = reading.live.position.is_none();
        match verdict {
            Verdict::Mismatch => {}
            Verdict::Match if apart => {
                if !compare(&self.engine.tables, &reading.expected, &reading.logged).is_empty() {
                    return Ok(Verdict::Incomplete);
                }
            }
            Verdict::Match | Verdict::Incomplete => return Ok(verdict),
        }
        let again = self.view(unit).await?;
        let held = self.held(unit, &again, &reading.expected, &reading.logged).await?;
        let live = self.legacy.read(unit).await?;
        let still = again.offset == reading.view.offset
            && !again.dirty
            && held == reading.held
            && live.rows == reading.live.rows;
        Ok(if still { verdict } else { Verdict::Incomplete })
    }

    /// What the mapping makes of the unit's rows among those read, and how many these are.
    fn expected(&self, unit: &str, live: &legacy::Reading) -> Result<(Vec<TargetRow>, u64), Error> {
        let evaluation = self.legacy.corpus(live)?.evaluate(&self.engine.migration, unit)?;
        let read = evaluation.accounts.tables.values().map(|account| account.read).sum();
        Ok((evaluation.rows, read))
    }

    async fn view(&self, unit: &str) -> Result<UnitView, Error> {
        match self.engine.ask(Request::Unit { unit: unit.to_owned() }).await? {
            Answer::Unit(view) => Ok(*view),
            other => Err(unexpected(other)),
        }
    }

    /// The target's rows of a unit: those it owns, those it should have, and those that name it.
    async fn held(
        &self,
        unit: &str,
        view: &UnitView,
        expected: &[TargetRow],
        logged: &[TargetRow],
    ) -> Result<Vec<TargetRow>, Error> {
        let key_of = |row: &TargetRow| self.engine.tables[usize::from(row.table.0)].key_of(row);
        let mut keys: BTreeSet<TargetKey> = view_keys(view)?;
        if let Held::Postgres(target) = &self.target {
            keys.extend(target.owned(unit).await?);
            // Rows that someone else wrote for the unit are part of what a reader of the target sees of it.
            for table in (0..).take(self.engine.tables.len()).map(TargetTable) {
                if let Some(column) = self.engine.migration.target_unit_column(table) {
                    keys.extend(target.naming(table, column, unit).await?);
                }
            }
        }
        keys.extend(expected.iter().chain(logged).map(key_of));
        if let Held::Dynamo(target) = &self.target {
            // On a table of others, what bears the unit's mark and is expected by nobody is found only beside what is.
            let beside: Vec<TargetKey> = keys.iter().cloned().collect();
            keys.extend(target.marked(unit, &beside).await?);
        }
        let keys: Vec<TargetKey> = keys.into_iter().collect();
        Ok(self.target.seam().read(&keys).await?.into_iter().flatten().collect())
    }

    fn describe(&self, unit: &str, verdict: Verdict, reading: &Reading) -> UnitDiff {
        let parked = match reading.view.result.as_ref().map(|result| &result.status) {
            Some(crate::project::result::Status::Parked { reason, .. }) => Some(reason.clone()),
            _ => None,
        };
        let differences = compare(&self.engine.tables, &reading.expected, &reading.held);
        let reason = match (verdict, &parked) {
            (Verdict::Match, _) => "the target holds what the mapping makes of the source's rows".to_owned(),
            (Verdict::Mismatch | Verdict::Incomplete, Some(reason)) => format!("the unit is in quarantine: {reason}"),
            (Verdict::Mismatch, None) => "proven: nothing was on its way while both sides were read; \
                `rehome quarantine retry` writes all of the unit again"
                .to_owned(),
            (Verdict::Incomplete, _) if !reading.view.known => {
                "unproven: the log does not tell of this unit yet".to_owned()
            }
            (Verdict::Incomplete, _) if reading.view.captured.is_none() => {
                "unproven: no capture is running, so a change may not be in the log yet; `rehome run` brings it"
                    .to_owned()
            }
            (Verdict::Incomplete, _) if reading.live.position.is_none() => {
                "unsettled: source, log and target were not found equal twice with no change between; the source's tables tell \
                 no position by which more could be proven: ask again when the unit is quiet"
                    .to_owned()
            }
            (Verdict::Incomplete, _) => "unproven: changes of this unit are still on their way".to_owned(),
        };
        UnitDiff {
            unit: unit.to_owned(),
            verdict,
            reason,
            position: reading.live.position,
            legacy_rows: reading.legacy_rows,
            expected_rows: reading.expected.len() as u64,
            actual_rows: reading.held.len() as u64,
            differences,
            parked,
        }
    }
}

/// An answer to another question, or a failure told by the running process.
pub(super) fn unexpected(answer: Answer) -> Error {
    match answer {
        Answer::Failed { message, .. } => Error::Remote(message),
        _ => Error::Remote("the running process answered another question".to_owned()),
    }
}

/// Keys that the unit was written under, where the target keeps no record of that.
fn view_keys(view: &UnitView) -> Result<BTreeSet<TargetKey>, Error> {
    let decode = |(table, text): &(u16, String)| {
        let values = Key::decode(&from_hex(text)?).ok()?.0;
        Some(TargetKey { table: TargetTable(*table), values })
    };
    let keys: Option<BTreeSet<TargetKey>> = view.owned.iter().map(decode).collect();
    keys.ok_or_else(|| Error::Remote("the running process sent keys that do not read".to_owned()))
}

fn decode_rows(view: &UnitView) -> Result<Vec<TargetRow>, Error> {
    let decode = |(table, text): &(u16, String)| {
        let values = Key::decode(&from_hex(text)?).ok()?.0;
        Some(TargetRow { table: TargetTable(*table), values })
    };
    let rows: Option<Vec<TargetRow>> = view.rows.iter().map(decode).collect();
    rows.ok_or_else(|| Error::Remote("the running process sent rows that do not read".to_owned()))
}

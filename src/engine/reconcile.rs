//! A comparison of everything: opens both sides, has them compared, and proves or settles what was found.
//!
//! The order matters. First the projector is asked where it stands; then the source's snapshot is taken, then the target's. When
//! the log holds everything that the source's snapshot saw, a part that no record concerned since the first question, and
//! that did not wait to be projected then, stood still all the while: what was found of it is real (I8). Parts that moved are
//! looked at one by one, by the same comparison as `diff`; those that never stand still are listed as unsettled.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::dynamo::pace::Pace;
use crate::dynamo::target::mark_of;
use crate::event::{Canonical as _, DigestKey, Key, Lsn, RelationName, Value, from_hex, key_text, to_hex};
use crate::mapping::schema::Store;
use crate::postgres::target::recorded_keys;
use crate::project::scope::{Scope, scope_key, unit_key, unit_of};
use crate::reconcile::actual::Owners;
use crate::reconcile::canary::Canaries;
use crate::reconcile::counts::Class;
use crate::reconcile::emit::{Context, Naming};
use crate::reconcile::join::{Difference, Found};
use crate::reconcile::record;
use crate::reconcile::run::{self, Outcome, Plan};
use crate::reconcile::settle::{Finding, Parked, Settled, Stood, gone, proven, settle, unsettled};
use crate::reconcile::summary::{self, Around};
use crate::reconcile::{Discrepancy, Field, FieldKind, Grade, Proof, Shown, Sides, Summary, Writer, discrepancy_id};
use crate::rules::{Comparison, Pair, Ruleset, Uses};
use crate::target::{TargetKey, TargetRow, TargetTable};

use super::diff::{RowDifference, Verdict};
use super::protocol::{Answer, Motion, PartStand, PartView, Request, Stand};
use super::sides::{self, Opened, Wanted};
use super::{Comparer, Engine, Error, UnitDiff};

/// Name of the table of rehome's own that says what was written for which part.
const RECORD: (&str, &str) = ("rehome", "units");
/// Columns of it.
const RECORD_COLUMNS: [&str; 4] = ["migration", "unit", "part", "owned"];
/// Bytes of parts' names that one question holds.
const QUESTION_BYTES: usize = 256 * 1024;
/// Between two looks at where the log stands.
const PAUSE: Duration = Duration::from_millis(50);
/// How often a part that moves is looked at again.
const FOLLOWS: usize = 20;
/// A unit is looked at for as long as this, even when the time for all of them is over.
const LOOK_MIN: Duration = Duration::from_secs(2);
/// Rows that a partition of a spill has, about: some ten megabytes on both sides.
const PARTITION_ROWS: u64 = 50_000;
/// Partitions, at the most: as many files are open at once for each kind of record.
const PARTITIONS_MAX: u64 = 128;

/// Begins the name of a folder for spills.
const SPILL: &str = "spill-";

/// How a comparison is made.
pub struct Reconciling {
    /// What counts as equal.
    pub rules: Arc<Ruleset>,
    /// Ranges of each side that are read at the same time.
    pub workers: usize,
    /// Folder for what does not fit into memory; must be empty.
    pub spill: PathBuf,
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

/// What is known of where both sides stood.
struct Cut {
    /// Where the projector stood before either side was read; absent where there is none.
    before: Option<Stand>,
    /// Where it stood when the log held all that was read of the source; absent when it never did.
    after: Option<Stand>,
    source: Option<Lsn>,
    target: Option<Lsn>,
    /// Whether neither server wrote anything while both were read.
    quiet: bool,
}

impl Engine {
    /// Compares everything; each discrepancy goes to `take`, and what they come to is answered.
    ///
    /// # Errors
    /// Whatever keeps a side from being read to its end.
    pub async fn reconcile(
        &self,
        how: Reconciling,
        take: &mut (dyn FnMut(Discrepancy) + Send),
    ) -> Result<Summary, Error> {
        let started = how.started;
        let clock = Instant::now();
        let key = self.digest_key()?;
        let before = self.stand().await?;
        let source = self.source_side().await?;
        let (target, owners) = self.target_side().await?;
        let rows = target.rows.iter().zip(&*self.tables).map(|(rows, _)| *rows).collect::<Vec<_>>();
        let canaries = match how.planting {
            Planting::Canaries => Canaries::new(key.derive("canaries", &[started.to_string().as_bytes()]), &rows),
            Planting::Nothing => Canaries::none(self.tables.len()),
        };
        let items = self.migration.target_store() == Store::DynamoDb;
        let as_stored = |row: TargetRow| crate::dynamo::target::DynamoTarget::as_stored(&row);
        let as_stored = if items { as_stored } else { |row| row };
        let naming = Naming { scope_of: scope_key, unit_of: unit_or_none, as_stored, items };
        let (migration, tables) = (Arc::clone(&self.migration), Arc::clone(&self.tables));
        let context = Arc::new(Context::new(migration, tables, Arc::clone(&how.rules), &key, canaries, naming));
        let all: u64 = source.rows.iter().chain(&target.rows).sum();
        let partitions = usize::try_from((all / PARTITION_ROWS).clamp(8, PARTITIONS_MAX)).unwrap_or(8);
        let (source_side, target_side) = (Arc::new(source.side), Arc::new(target.side));
        let plan = Plan {
            context: Arc::clone(&context),
            source: Arc::clone(&source_side),
            target: Arc::clone(&target_side),
            owners,
            workers: how.workers,
            partitions,
        };
        let outcome = run::run(plan, &how.spill).await?;
        let after = match (&before, source.position) {
            (Some(_), Some(position)) if outcome.differing() => self.covered(position, how.patience).await?,
            _ => None,
        };
        let quiet = before.is_none() && self.quiet(source.position, target.position).await?;
        let cut = Cut { before, after, source: source.position, target: target.position, quiet };
        let mut judging = Judging {
            engine: self,
            rules: &how.rules,
            cut: &cut,
            deadline: clock + how.patience + clock.elapsed(),
            comparer: self.comparer().await.ok(),
            looked: None,
            details_left: how.details_max,
            started,
            classes: BTreeMap::new(),
            states: BTreeMap::new(),
            uses: Uses::default(),
        };
        for partition in 0..outcome.found.partitions() {
            judging.partition(&outcome, partition, take).await?;
        }
        let Judging { classes, uses, .. } = judging;
        let consumed = |pace: &Arc<Pace>| pace.rate().units;
        let units: Vec<u64> = [&source.pace, &target.pace].into_iter().flatten().map(consumed).collect();
        let read_units = (!units.is_empty()).then(|| units.iter().sum());
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
            moving: cut.before.as_ref().zip(cut.after.as_ref()).is_none_or(|(a, b)| a.applied != b.end) && !cut.quiet,
            planted: how.planting == Planting::Canaries,
            root_key: key.derive("roots", &[&how.rules.id()]),
            read_units,
        };
        Ok(summary::summary(&around, &outcome))
    }

    /// An empty folder for spills, which only this comparison uses; it goes with the answer.
    ///
    /// # Errors
    /// [`Error::File`] when it cannot be made.
    pub fn spill(&self, folder: Option<&Path>) -> Result<TempDir, Error> {
        let folder = match folder {
            Some(folder) => folder.to_owned(),
            None if self.folder.exists() => self.folder.path().to_owned(),
            None => std::env::temp_dir(),
        };
        let made = tempfile::Builder::new().prefix(SPILL).tempdir_in(&folder);
        made.map_err(|source| Error::File { action: "make a folder for spills in", path: folder, source })
    }

    /// The key of the deployment's digests; where there is no state folder, one that is drawn now.
    fn digest_key(&self) -> Result<DigestKey, Error> {
        match self.folder.digest_key()? {
            Some(key) => Ok(key),
            None => Ok(DigestKey::new(rand::random())),
        }
    }

    /// Where the projector stands; `None` where there is none.
    async fn stand(&self) -> Result<Option<Stand>, Error> {
        if !self.folder.exists() {
            return Ok(None);
        }
        match self.ask(Request::Stand).await? {
            Answer::Stand(stand) => Ok(Some(stand)),
            other => Err(unexpected(other)),
        }
    }

    /// Waits until the log holds what the source had written up to a position, and the projector knows it.
    async fn covered(&self, position: Lsn, patience: Duration) -> Result<Option<Stand>, Error> {
        let deadline = Instant::now() + patience;
        let mut wanted: Option<u64> = None;
        loop {
            let Some(stand) = self.stand().await? else { return Ok(None) };
            // Nothing is being captured, and waiting will not change that.
            let Some(captured) = &stand.captured else { return Ok(None) };
            if captured.parse::<Lsn>().is_ok_and(|captured| captured >= position) {
                let end = *wanted.get_or_insert(stand.end);
                if stand.applied >= end {
                    return Ok(Some(stand));
                }
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Whether neither server wrote anything since positions were taken.
    async fn quiet(&self, source: Option<Lsn>, target: Option<Lsn>) -> Result<bool, Error> {
        let (Some(source), Some(target)) = (source, target) else { return Ok(false) };
        Ok(sides::position(&self.source()?).await? == source
            && sides::position(&self.target_server()?).await? == target)
    }

    async fn source_side(&self) -> Result<Opened, Error> {
        let wanted = self.sources.iter().map(|source| Wanted {
            relation: source.relation.clone(),
            columns: source.columns.iter().map(|(name, _)| name.clone()).collect(),
        });
        let wanted = wanted.collect();
        match self.migration.source_store() {
            Store::Postgres => sides::postgres(&self.source()?, "source", wanted).await,
            Store::DynamoDb => {
                sides::dynamo(self.source_tables().await?, "source", wanted, self.settings.read_capacity).await
            }
        }
    }

    async fn target_side(&self) -> Result<(Opened, Owners), Error> {
        let relation = |schema: &str, table: &str| RelationName { schema: schema.into(), table: table.into() };
        let mut wanted: Vec<Wanted> = self
            .tables
            .iter()
            .map(|shape| Wanted {
                relation: relation(&shape.schema, &shape.name),
                columns: shape.columns.iter().map(|column| column.name.clone()).collect(),
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
        wanted.push(Wanted { relation: relation(RECORD.0, RECORD.1), columns });
        let opened = sides::postgres(&server, "target", wanted).await?;
        let tables = Arc::clone(&self.tables);
        let record = move |row: &[Value]| {
            let [Value::Text(of), Value::Text(unit), Value::Bytes(part), Value::Bytes(owned)] = row else {
                return None;
            };
            let scope = [unit_key(unit), part.to_vec()].concat();
            (**of == *migration).then(|| Some((scope, recorded_keys(owned, &tables)?)))?
        };
        Ok((opened, Owners::Record(Arc::new(record))))
    }
}

/// Decides what differences come to.
struct Judging<'a> {
    engine: &'a Engine,
    rules: &'a Ruleset,
    cut: &'a Cut,
    deadline: Instant,
    comparer: Option<Comparer<'a>>,
    /// The unit that was looked at last.
    looked: Option<(String, Option<Arc<UnitDiff>>)>,
    details_left: usize,
    started: jiff::Timestamp,
    /// Rows by target table and class: expected ones, and those that are there.
    classes: BTreeMap<(u16, Class), (u64, u64)>,
    states: BTreeMap<crate::reconcile::State, u64>,
    uses: Uses,
}

impl Judging<'_> {
    /// Judges the differences of one partition; all of a part are in the same.
    async fn partition(
        &mut self,
        outcome: &Outcome,
        partition: usize,
        take: &mut (dyn FnMut(Discrepancy) + Send),
    ) -> Result<(), Error> {
        let bytes = outcome.found.take(partition)?;
        let mut all = record::all(&bytes, Found::take).map_err(crate::reconcile::Error::from)?;
        all.sort_by(|a, b| (a.scope, a.table, a.key).cmp(&(b.scope, b.table, b.key)));
        let scopes: BTreeSet<&[u8]> = all.iter().map(|found| found.scope).filter(|scope| !scope.is_empty()).collect();
        let stood = self.stood(&scopes.into_iter().collect::<Vec<_>>()).await?;
        let mut at = 0;
        while at < all.len() {
            let scope = all[at].scope;
            let end = at + all[at..].iter().take_while(|found| found.scope == scope).count();
            let group = &all[at..end];
            at = end;
            let (stand, parked) = stood.get(scope).copied().unwrap_or((Stood::Nobodys, Parked::No));
            let settled: Vec<Settled> =
                group.iter().map(|found| settle(found.difference, found.waived, stand, parked)).collect();
            let unit = match Scope::of(scope) {
                Ok(Scope::Part { unit, .. }) if !scope.is_empty() => Some(unit),
                _ => None,
            };
            let asked: Vec<Settled> =
                if settled.contains(&Settled::Ask) { self.follow(scope, group, settled).await? } else { settled };
            let why = if asked.contains(&Settled::Ask) { Why::Asked } else { Why::Details };
            let diff = match unit {
                Some(unit) => self.look(unit, why).await,
                None => None,
            };
            let settled = asked;
            for (found, settled) in group.iter().zip(settled) {
                let finding = match settled {
                    Settled::As(finding) => finding,
                    Settled::Ask => self.asked(found, diff.as_deref()),
                };
                self.tell(found, finding, unit, diff.as_deref(), take);
            }
        }
        Ok(())
    }

    /// How parts stood while both sides were read.
    async fn stood<'s>(&self, scopes: &[&'s [u8]]) -> Result<BTreeMap<&'s [u8], (Stood, Parked)>, Error> {
        let mut stood = BTreeMap::new();
        let Some(before) = &self.cut.before else {
            // Nobody projects: whatever both servers hold still is real.
            let stand = if self.cut.quiet { Stood::Still } else { Stood::Moved };
            return Ok(scopes.iter().map(|scope| (*scope, (stand, Parked::No))).collect());
        };
        let waiting: Option<BTreeSet<&str>> =
            before.waiting.as_ref().map(|waiting| waiting.iter().map(String::as_str).collect());
        let mut rest = scopes;
        while !rest.is_empty() {
            let mut bytes = 0;
            let count = rest.iter().take_while(|scope| {
                bytes += 2 * scope.len() + 3;
                bytes < QUESTION_BYTES
            });
            let (now, later) = rest.split_at(count.count().max(1));
            rest = later;
            let parts: Vec<String> = now.iter().map(|scope| to_hex(scope)).collect();
            let request = Request::Since { offset: before.applied, parts: parts.clone() };
            let stands = match self.engine.ask(request).await? {
                Answer::Since { parts } => parts,
                other => return Err(unexpected(other)),
            };
            for ((scope, name), PartStand { motion, parked }) in now.iter().zip(&parts).zip(stands) {
                let projected = waiting.as_ref().is_some_and(|waiting| !waiting.contains(name.as_str()));
                let covered = self.cut.after.is_some();
                let still = motion == Motion::Still && projected && covered;
                let parked = match parked.as_deref() {
                    None => Parked::No,
                    Some(reason) if reason.starts_with("foreign") => Parked::Foreign,
                    Some(_) => Parked::Otherwise,
                };
                stood.insert(*scope, (if still { Stood::Still } else { Stood::Moved }, parked));
            }
        }
        Ok(stood)
    }

    /// Looks at a part that moves again and again, until it stands still for as long as its rows are read, or time is over.
    ///
    /// What the target holds is then compared with what the log says the part is. If they differ, that is real, whatever the
    /// source says. If they are equal, and the log told of a change since both sides were read, the change was the difference.
    async fn follow(
        &self,
        scope: &[u8],
        group: &[Found<'_>],
        mut settled: Vec<Settled>,
    ) -> Result<Vec<Settled>, Error> {
        let (Some(before), Some(comparer)) = (&self.cut.before, &self.comparer) else { return Ok(settled) };
        let keys: Vec<TargetKey> = group.iter().flat_map(keys_of).collect();
        for _ in 0..FOLLOWS {
            let first = self.part(scope).await?;
            let held: Vec<TargetRow> = comparer.rows(&keys).await?;
            let second = self.part(scope).await?;
            if let (Some(first), Some(second)) = (first, second)
                && first == second
                && !first.moving
            {
                let logged = comparer.as_read(first.rows.iter().filter_map(row_from).collect());
                let told = first.last >= before.applied && before.captured.is_some();
                for (found, settled) in group.iter().zip(&mut settled).filter(|(_, settled)| **settled == Settled::Ask)
                {
                    let of = keys_of(found);
                    let at = |rows: &[TargetRow]| -> Vec<TargetRow> {
                        let shape = &self.engine.tables[usize::from(found.table)];
                        rows.iter().filter(|row| of.contains(&shape.key_of(row))).cloned().collect()
                    };
                    let (wanted, there) = (at(&logged), at(&held));
                    let same = self.same(&wanted, &there);
                    *settled = match (same, told, &first.parked) {
                        (true, true, _) => Settled::As(gone(found.difference)),
                        // Not expected by this part, and there: another part may have it now.
                        (false, _, _) if wanted.is_empty() => Settled::Ask,
                        (false, _, None) => settle(found.difference, false, Stood::Still, Parked::No),
                        (false, _, Some(reason)) if reason.starts_with("foreign") => {
                            settle(found.difference, false, Stood::Still, Parked::Foreign)
                        }
                        (false, _, Some(_)) => settle(found.difference, false, Stood::Still, Parked::Otherwise),
                        (true, false, _) => Settled::Ask,
                    };
                }
            }
            if !settled.contains(&Settled::Ask) || Instant::now() > self.deadline {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(settled)
    }

    /// Whether rows of one key are the same, as the rules see them.
    fn same(&self, wanted: &[TargetRow], there: &[TargetRow]) -> bool {
        let equal = |(a, b): (&TargetRow, &TargetRow)| {
            let compared = self.rules.table(a.table).compare(a, b, Pair::Key, &mut Uses::default());
            !matches!(compared, Comparison::Different(_))
        };
        wanted.len() == there.len() && wanted.iter().zip(there).all(equal)
    }

    async fn part(&self, scope: &[u8]) -> Result<Option<PartView>, Error> {
        match self.engine.ask(Request::Parts { parts: vec![to_hex(scope)] }).await? {
            Answer::Parts { mut parts } => Ok(parts.pop().flatten()),
            other => Err(unexpected(other)),
        }
    }

    /// Looks at a unit by itself, while there is time for it; once for all of its parts.
    async fn look(&mut self, unit: &str, why: Why) -> Option<Arc<UnitDiff>> {
        if let Some((last, diff)) = &self.looked
            && *last == *unit
        {
            return diff.clone();
        }
        let wanted = match why {
            Why::Asked => Instant::now() < self.deadline,
            Why::Details => self.details_left > 0,
        };
        if !wanted {
            return None;
        }
        self.details_left = self.details_left.saturating_sub(1);
        let patience = self.deadline.saturating_duration_since(Instant::now()).max(LOOK_MIN);
        let diff = match tokio::time::timeout(patience, self.comparer.as_ref()?.unit(unit)).await {
            Ok(Ok(diff)) => Some(Arc::new(diff)),
            // It did not stand still for long enough: nothing is proven of it.
            Err(_) => None,
            Ok(Err(error)) => {
                tracing::warn!(error = %error, "a unit could not be looked at by itself");
                None
            }
        };
        self.looked = Some((unit.to_owned(), diff.clone()));
        diff
    }

    /// What the look at a unit says of one difference.
    fn asked(&self, found: &Found<'_>, diff: Option<&UnitDiff>) -> Finding {
        let Some(diff) = diff else { return unsettled(found.difference) };
        match diff.verdict {
            Verdict::Match => gone(found.difference),
            Verdict::Mismatch if row_of(diff, found).is_some() => proven(found.difference),
            Verdict::Mismatch => gone(found.difference),
            Verdict::Incomplete => match &diff.parked {
                Some(reason) if !reason.starts_with("foreign") => {
                    match settle(found.difference, false, Stood::Still, Parked::Otherwise) {
                        Settled::As(finding) => finding,
                        Settled::Ask => unsettled(found.difference),
                    }
                }
                _ => unsettled(found.difference),
            },
        }
    }

    /// Counts a difference, and tells of it.
    fn tell(
        &mut self,
        found: &Found<'_>,
        finding: Finding,
        unit: Option<&str>,
        diff: Option<&UnitDiff>,
        take: &mut (dyn FnMut(Discrepancy) + Send),
    ) {
        let (expected, actual) = self.classes.entry((found.table, finding.class)).or_default();
        *expected += u64::from(!found.expected.is_empty());
        *actual += u64::from(!found.actual.is_empty());
        if finding.class == Class::Settled {
            return;
        }
        *self.states.entry(finding.state).or_default() += 1;
        let shape = &self.engine.tables[usize::from(found.table)];
        let locator = if found.expected.is_empty() { found.actual } else { found.expected };
        let key = Key::decode(locator).map(|key| key_text(&key.0)).unwrap_or_default();
        let fields = diff.and_then(|diff| row_of(diff, found)).map(|row| self.fields(row)).unwrap_or_default();
        let names: Vec<&str> = fields.iter().map(|field| &*field.field).collect();
        let id = discrepancy_id(unit, &shape.name, &key, finding.kind, &names);
        let writer = match (found.difference, found.actual.is_empty()) {
            (_, true) => Writer::Unknown,
            (Difference::Foreign | Difference::ForeignChanged, false) => Writer::Foreign,
            (_, false) if self.cut.before.is_none() => Writer::Unknown,
            (_, false) => Writer::Rehome,
        };
        let proof = Proof {
            source: self.cut.source.map(|position| position.to_string()),
            log: self.cut.after.as_ref().map(|stand| stand.applied),
            target: self.cut.target.map(|position| position.to_string()),
        };
        let [expected, actual] = found.digests.map(|digest| digest.map(|digest| to_hex(&digest)));
        take(Discrepancy {
            id,
            kind: finding.kind,
            table: shape.name.to_string(),
            key,
            unit: unit.map(str::to_owned),
            fields,
            state: finding.state,
            blame: finding.blame,
            proof,
            mapping: None,
            writer,
            written: None,
            sides: Sides { expected, actual },
            first_seen: self.started,
            age_nights: 0,
        });
    }

    /// The fields in which two rows differ, as the rules see them.
    fn fields(&mut self, row: &RowDifference) -> Vec<Field> {
        let (Some(expected), Some(actual)) = (&row.expected, &row.actual) else { return Vec::new() };
        let rules = self.rules.table(row.key.table);
        let Comparison::Different(fields) = rules.compare(expected, actual, Pair::Key, &mut self.uses) else {
            return Vec::new();
        };
        let field = |field: crate::rules::FieldDifference| Field {
            field: field.field.to_string(),
            kind: match (&field.expected, &field.actual) {
                (Some(_), None) => FieldKind::Missing,
                (None, _) => FieldKind::Extra,
                _ => FieldKind::Changed,
            },
            expected: field.expected.as_ref().map(shown),
            actual: field.actual.as_ref().map(shown),
            rule: field.waived.map(|rule| rule.0.to_string()),
        };
        fields.into_iter().map(field).collect()
    }
}

/// Why a unit is looked at by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// To prove what was found of it, or to see it settled.
    Asked,
    /// To tell which fields differ.
    Details,
}

/// What the names of all parts of a unit begin with; nothing where nobody knows the part.
fn unit_or_none(scope: &[u8]) -> &[u8] {
    if scope.is_empty() { scope } else { unit_of(scope) }
}

/// A value with its contents; who writes it down hides them unless asked.
fn shown(value: &Value) -> Shown {
    Shown::Value(key_text(std::slice::from_ref(value)))
}

/// The row of a unit's comparison that a difference is about.
fn row_of<'d>(diff: &'d UnitDiff, found: &Found<'_>) -> Option<&'d RowDifference> {
    let keys = keys_of(found);
    diff.differences.iter().find(|row| keys.contains(&row.key))
}

/// The keys of the rows that a difference is about.
fn keys_of(found: &Found<'_>) -> Vec<TargetKey> {
    let key = |locator: &&[u8]| Key::decode(locator).ok().filter(|_| !locator.is_empty());
    let keys = [found.expected, found.actual].iter().filter_map(key).collect::<BTreeSet<Key>>();
    keys.into_iter().map(|key| TargetKey { table: TargetTable(found.table), values: key.0 }).collect()
}

/// A row as a running process sent it.
fn row_from((table, text): &(u16, String)) -> Option<TargetRow> {
    let values = Key::decode(&from_hex(text)?).ok()?.0;
    Some(TargetRow { table: TargetTable(*table), values })
}

/// An answer to another question, or a failure told by the running process.
fn unexpected(answer: Answer) -> Error {
    match answer {
        Answer::Failed { message, .. } => Error::Remote(message),
        _ => Error::Remote("the running process answered another question".to_owned()),
    }
}

/// Largest resident memory of this process so far, in bytes; 0 where the system does not tell.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    number.unwrap_or(0) * 1024
}

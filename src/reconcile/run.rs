//! One comparison: references, then both sides at once, then units, then the join; what it finds is still to be proven.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};

use jiff::Timestamp;
use tokio::task::JoinSet;

use super::Error;
use super::actual::{Owners, TargetSink};
use super::canary::Class;
use super::context::Context;
use super::emit::{SideOf, Spills, Tally, hash_of};
use super::expected::{ReferenceSink, Shared, SourceAccount, SourceSink};
use super::groups;
use super::join::{Counts, Difference, Findings, Found, Judgement, Ownership, attribute, by_key, by_pairing};
use super::ledger::{Came, Kept, Ledger, Line};
use super::recall::{self, Differences, Opener, Planted};
use super::record::{self, Added, Joined, Recorded, Standing, emptied};
use super::references::References;
use super::side::{Done, Journal, Read, Side, Sink as _, read};
use super::spill::{Spill, Writer};
use super::sum::Sum;
use crate::event::{Canonical as _, Key, Value};
use crate::rules::{Broken, Comparison, Finding, Pair, RuleId, Uses};
use crate::target::{TargetRow, TargetTable};

/// What is compared, and how.
pub struct Plan {
    /// What both sides are read with.
    pub context: Arc<Context>,
    /// The source's side.
    pub source: Arc<Side>,
    /// The target's side; where its record is a table, that is its last.
    pub target: Arc<Side>,
    /// How it is known which rows rehome wrote.
    pub owners: Owners,
    /// Rows of source tables that files stand for, by table.
    pub given: BTreeMap<usize, Vec<Vec<Value>>>,
    /// Workers of each side.
    pub workers: usize,
    /// Partitions of every spill; one of each is in memory at a time, for each worker.
    pub partitions: usize,
    /// Where it is written down what was read.
    pub ledger: Ledger,
    /// Ranges of the source that an attempt before this one read and that are as they were; those placed by other references are
    /// read again.
    pub source_kept: Kept,
    /// As `source_kept`, of the target.
    pub target_kept: Kept,
}

/// What a comparison found, before anything is proven.
pub struct Outcome {
    /// What became of the source's rows.
    pub source: SourceAccount,
    /// Ranges of the source that were read.
    pub source_done: Vec<Done>,
    /// Ranges of the target that were read.
    pub target_done: Vec<Done>,
    /// Ranges that attempts before this one read, by side, and by the snapshot that they were read under and when it was taken.
    pub earlier: BTreeMap<(&'static str, Timestamp, String), u64>,
    /// What was expected, by target table.
    pub expected: Vec<Tally>,
    /// What was there, by target table.
    pub actual: Vec<Tally>,
    /// How rows paired up, by target table; shadows left out.
    pub counts: Vec<Counts>,
    /// Differences by table and kind; shadows left out.
    pub differences: BTreeMap<(u16, Difference), u64>,
    /// The differences themselves, by the unit that they are of.
    pub found: Differences,
    /// Faults planted and found, by class and table.
    pub recall: BTreeMap<(Class, u16), (u64, u64)>,
    /// What went into the spills and came out of them, by stage.
    pub hops: BTreeMap<&'static str, (Sum, Sum)>,
    /// How often each rule was used.
    pub uses: Uses,
    /// How each invariant did that was asked of any group.
    pub invariants: BTreeMap<RuleId, Held>,
    /// Bytes that the spills had.
    pub spill_bytes: u64,
}

impl Outcome {
    /// Whether anything differs, so that it matters how both sides stood.
    pub fn differing(&self) -> bool {
        !self.differences.is_empty() || self.invariants.values().any(|held| held.broken > 0)
    }
}

/// How an invariant did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    /// Groups that it was asked of.
    pub groups: u64,
    /// Groups for which it does not hold.
    pub broken: u64,
    /// The first of these.
    pub first: Vec<Broken>,
}

/// Broken groups of an invariant, by worker, that are kept in detail.
const BROKEN_SHOWN: usize = 100;
/// Partitions of rows in chosen groups, at most: they are few, and files that are open at once are limited.
const GROUP_PARTITIONS_MAX: usize = 8;

/// Compares both sides; spills go to `folder`, in which there is nothing but the ledger and what attempts before left.
///
/// # Errors
/// Whatever keeps a side from being read to its end, or a record from coming through: then nothing is to be concluded.
pub async fn run(plan: Plan, folder: &Path) -> Result<Outcome, Error> {
    let Plan { context, source, target, owners, given, workers, partitions, ledger, mut source_kept, target_kept } =
        plan;
    let ledger = Arc::new(ledger);
    let spill = |name| Spill::new(folder, name, partitions, ledger.first());
    let few = |name| Spill::new(folder, name, partitions.min(GROUP_PARTITIONS_MAX), ledger.first());
    let spills = Spills {
        expected: spill("expected"),
        actual: spill("actual"),
        added: spill("added"),
        groups: [few("expected-groups"), few("actual-groups")],
    };
    let shared = Arc::new(Shared {
        context: Arc::clone(&context),
        spills: spills.clone(),
        pending: spill("pending"),
        units: spill("units"),
        references: RwLock::new(References::default()),
    });
    let recorded = spill("recorded");

    let referred: Vec<usize> =
        References::tables(&context.migration).into_iter().map(|table| usize::from(table.0)).collect();
    let (first, second): (Vec<usize>, Vec<usize>) =
        (0..source.ranges.len()).partition(|index| referred.contains(&source.ranges[*index].table));
    let mut sinks: Vec<ReferenceSink> = (0..workers).map(|_| ReferenceSink::new(&shared)).collect();
    if let Some(sink) = sinks.first_mut() {
        given.into_iter().try_for_each(|(table, rows)| sink.take(table, &mut rows.into_iter()))?;
    }
    let Read { done: mut source_done, .. } = read(&source, first, sinks, None).await?;

    // What placed the rows of a range that was read before must be what places rows now.
    let mut references = Sum::default();
    (0..partitions).for_each(|partition| references.merge(&shared.pending.written(partition)));
    source_kept.retain(|_, line| line.references == Some(references));
    let kept = || source_kept.values().chain(target_kept.values());
    let [wanted, there] = &spills.groups;
    for spill in [&spills.expected, &spills.actual, &spills.added, wanted, there, &shared.units, &recorded] {
        let of_line = |line: &Line| Some((line.tag, *line.came.handed.get(spill.name())?));
        spill.adopt(kept().filter_map(of_line).collect())?;
    }
    let mut earlier = BTreeMap::new();
    for (side, kept) in [(source.name, &source_kept), (target.name, &target_kept)] {
        kept.values().for_each(|line| *earlier.entry((side, line.taken, line.snapshot.clone())).or_default() += 1);
    }

    let unread =
        |ranges: Vec<usize>, kept: &Kept| ranges.into_iter().filter(|range| !kept.contains_key(range)).collect();
    let source_sinks = (0..workers).map(|_| SourceSink::new(&shared)).collect();
    let target_sinks = (0..workers).map(|_| TargetSink::new(&context, &spills, &recorded, owners.clone())).collect();
    let targets = (0..target.ranges.len()).collect();
    let of_target = Journal { ledger: Arc::clone(&ledger), references: None, failed: Arc::default() };
    let of_source = Journal { references: Some(references), ..of_target.clone() };
    let (read_source, read_target) = tokio::join!(
        read(&source, unread(second, &source_kept), source_sinks, Some(&of_source)),
        read(&target, unread(targets, &target_kept), target_sinks, Some(&of_target)),
    );
    let (read_source, read_target) = match (read_source, read_target) {
        // What passes on the other side leaves it as it is: nothing that this processor digested is to be gone on with.
        (_, Err(error @ Error::Digests { .. })) => return Err(error),
        (source, target) => (source?, target?),
    };
    let Read { done, came: mut wanted, sinks: mut source_sinks } = read_source;
    let Read { done: mut target_done, came: mut there, .. } = read_target;
    source_done.extend(done);
    take_over(source_kept, &mut source_done, &mut wanted);
    take_over(target_kept, &mut target_done, &mut there);

    // Only now is every row of a unit in its partition. What comes of units is of no range.
    source_sinks.iter_mut().try_for_each(|sink| sink.begin(ledger.tag()))?;
    let source_sinks = by_partition(source_sinks, partitions, SourceSink::pending, SourceSink::finish).await?;
    let source_sinks = by_partition(source_sinks, partitions, SourceSink::units, SourceSink::finish).await?;
    for mut sink in source_sinks {
        wanted.merge(sink.end()?.unwrap_or_default());
    }
    let Came { account, tallies: mut expected, mut uses, mut shadows, .. } = wanted;
    let Came { tallies: mut actual, uses: more, shadows: spoilt, .. } = there;
    uses.merge(&more);
    spoilt.into_iter().for_each(|(place, shadow)| shadows.entry(place).or_default().merge(shadow));
    let tables = context.shapes.len();
    [&mut expected, &mut actual].into_iter().for_each(|tallies| tallies.resize(tables, Tally::default()));

    let planting = (Arc::clone(&context), spills.clone());
    let planted = tokio::task::spawn_blocking(move || groups::plant(&planting.0, &planting.1));
    let planted = Planted { shadows, groups: planted.await.map_err(|_| Error::Worker)?? };

    let ownership = owners.ownership();
    let joining = Arc::new(Joining {
        ownership,
        recorded,
        expected_alone: spill("expected-alone"),
        actual_alone: spill("actual-alone"),
        differences: spill("differences"),
        context: Arc::clone(&context),
        spills,
    });
    let joiners = (0..workers).map(|_| Joiner::new(&joining)).collect();
    let joiners = by_partition(joiners, partitions, Joiner::by_key, Joiner::finish).await?;
    let joiners = by_partition(joiners, partitions, Joiner::by_pairing, Joiner::finish).await?;
    let joiners = by_partition(joiners, partitions, Joiner::invariants, Joiner::finish).await?;

    let mut outcome = Outcome {
        source: account,
        source_done,
        target_done,
        earlier,
        expected,
        actual,
        counts: vec![Counts::default(); tables],
        differences: BTreeMap::new(),
        found: Differences::new(context, Arc::clone(&joining.differences), planted),
        recall: BTreeMap::new(),
        hops: BTreeMap::new(),
        uses,
        invariants: BTreeMap::new(),
        spill_bytes: joining.bytes() + shared.pending.bytes() + shared.units.bytes(),
    };
    for joiner in joiners {
        for (stage, (wrote, took)) in joiner.hops {
            let hop = outcome.hops.entry(stage).or_default();
            hop.0.merge(&wrote);
            hop.1.merge(&took);
        }
        outcome.counts.iter_mut().zip(&joiner.counts).for_each(|(sum, counts)| sum.merge(counts));
        outcome.uses.merge(&joiner.uses);
        for (rule, more) in joiner.held {
            let held = outcome.invariants.entry(rule).or_default();
            held.groups += more.groups;
            held.broken += more.broken;
            held.first.extend(more.first);
        }
    }
    let openers = (0..workers).map(|_| Opener::new(&outcome.found)).collect();
    let openers = by_partition(openers, partitions, Opener::partition, |_| Ok(())).await?;
    recall::close(openers, joining.ownership, &mut outcome);
    Ok(outcome)
}

/// Takes over what earlier attempts read.
fn take_over(kept: Kept, done: &mut Vec<Done>, came: &mut Came) {
    for (range, line) in kept {
        done.push(Done { range, rows: line.rows, taken: line.rows, bytes: line.bytes });
        came.merge(line.came);
    }
    done.sort_by_key(|done| done.range);
}

/// Runs a step over every partition, by all workers at once; then each hands over what it has kept back, which others need.
pub(super) async fn by_partition<W: Send + 'static>(
    workers: Vec<W>,
    partitions: usize,
    step: impl Fn(&mut W, usize) -> Result<(), Error> + Send + Sync + Clone + 'static,
    finish: fn(&mut W) -> Result<(), Error>,
) -> Result<Vec<W>, Error> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut running: JoinSet<Result<W, Error>> = JoinSet::new();
    for mut worker in workers {
        let (next, step) = (Arc::clone(&next), step.clone());
        running.spawn_blocking(move || {
            loop {
                let partition = next.fetch_add(1, Ordering::Relaxed);
                if partition >= partitions {
                    finish(&mut worker)?;
                    return Ok(worker);
                }
                step(&mut worker, partition)?;
            }
        });
    }
    let mut done = Vec::new();
    while let Some(worker) = running.join_next().await {
        done.push(worker.map_err(|_| Error::Worker)??);
    }
    Ok(done)
}

/// What the workers of the join share.
struct Joining {
    ownership: Ownership,
    context: Arc<Context>,
    spills: Spills,
    recorded: Arc<Spill>,
    /// Rows without a partner of their key, of tables whose rows a rule pairs.
    expected_alone: Arc<Spill>,
    actual_alone: Arc<Spill>,
    /// Differences, those of shadows among them.
    differences: Arc<Spill>,
}

impl Joining {
    fn bytes(&self) -> u64 {
        let Spills { expected, actual, added, groups: [wanted, there] } = &self.spills;
        let Self { recorded, expected_alone, actual_alone, differences, .. } = self;
        [expected, actual, added, wanted, there, recorded, expected_alone, actual_alone, differences]
            .iter()
            .map(|spill| spill.bytes())
            .sum()
    }
}

/// One worker of the join.
struct Joiner {
    joining: Arc<Joining>,
    alone: [Writer; 2],
    differences: Writer,
    counts: Vec<Counts>,
    uses: Uses,
    held: BTreeMap<RuleId, Held>,
    hops: BTreeMap<&'static str, (Sum, Sum)>,
    memory: Memory,
}

/// What held the rows of a partition, for those of the next.
#[derive(Default)]
struct Memory {
    bytes: [Vec<u8>; 3],
    rows: [Vec<Joined<'static>>; 2],
}

impl Joiner {
    fn new(joining: &Arc<Joining>) -> Self {
        Self {
            alone: [joining.expected_alone.writer(), joining.actual_alone.writer()],
            differences: joining.differences.writer(),
            counts: vec![Counts::default(); joining.context.shapes.len()],
            uses: Uses::default(),
            held: BTreeMap::new(),
            hops: BTreeMap::new(),
            memory: Memory::default(),
            joining: Arc::clone(joining),
        }
    }

    /// Joins rows by their keys; in tables whose rows a rule pairs, those without a partner are handed on.
    fn by_key(&mut self, partition: usize) -> Result<(), Error> {
        let joining = Arc::clone(&self.joining);
        let Memory { bytes: [mut expected, mut actual, mut recorded], rows: [wanted, there] } =
            std::mem::take(&mut self.memory);
        joining.spills.expected.read_into(partition, &mut expected)?;
        joining.spills.actual.read_into(partition, &mut actual)?;
        joining.recorded.read_into(partition, &mut recorded)?;
        let wanted = record::all_into(emptied(wanted), &expected, Joined::take)?;
        let mut there = record::all_into(emptied(there), &actual, Joined::take)?;
        self.came_through("expected rows", &joining.spills.expected, partition, &wanted);
        self.came_through("target rows", &joining.spills.actual, partition, &there);
        let owners = record::all(&recorded, Recorded::take)?;
        if owners.len() as u64 != joining.recorded.written(partition).count {
            return Err(Error::SpillBroken { path: joining.recorded.name().into() });
        }
        attribute(&mut there, &owners);
        self.join(|noted| by_key(&wanted, &there, joining.ownership, noted))?;
        self.memory.rows = [emptied(wanted), emptied(there)];
        self.memory.bytes = [expected, actual, recorded];
        Ok(())
    }

    /// Joins rows that a rule pairs.
    fn by_pairing(&mut self, partition: usize) -> Result<(), Error> {
        let joining = Arc::clone(&self.joining);
        let (expected, actual) = (joining.expected_alone.take(partition)?, joining.actual_alone.take(partition)?);
        let wanted = record::all(&expected, Joined::take)?;
        let there = record::all(&actual, Joined::take)?;
        self.came_through("expected rows without partner", &joining.expected_alone, partition, &wanted);
        self.came_through("target rows without partner", &joining.actual_alone, partition, &there);
        self.join(|noted| by_pairing(&wanted, &there, joining.ownership, noted))
    }

    /// Adds up what both sides said of each group.
    fn invariants(&mut self, partition: usize) -> Result<(), Error> {
        let joining = Arc::clone(&self.joining);
        let bytes = joining.spills.added.read(partition)?;
        let added = record::all(&bytes, Added::take)?;
        let mut sums = crate::rules::Tally::new();
        let count = added.len() as u64;
        for Added(contribution, standing) in added {
            match standing {
                Standing::Judged => sums.add(contribution),
                Standing::Aside => sums.set_aside(contribution),
            }
        }
        if count != joining.spills.added.written(partition).count {
            return Err(Error::SpillBroken { path: "added".into() });
        }
        for (rule, groups) in sums.groups() {
            self.held.entry(rule).or_default().groups += groups;
        }
        for broken in sums.broken(&joining.context.rules) {
            let held = self.held.entry(broken.expect).or_default();
            held.broken += 1;
            if held.first.len() < BROKEN_SHOWN {
                held.first.push(broken);
            }
        }
        Ok(())
    }

    fn join(&mut self, join: impl FnOnce(&mut Noted<'_>)) -> Result<(), Error> {
        let Self { joining, counts, differences, alone, uses, .. } = self;
        let mut noted = Noted { joining, counts, differences, alone, uses, failed: None };
        join(&mut noted);
        noted.failed.map_or(Ok(()), Err)
    }

    fn finish(&mut self) -> Result<(), Error> {
        self.differences.finish()?;
        self.alone.iter_mut().try_for_each(Writer::finish)
    }

    /// Counts and sums up what came out of a spill, beside what went in.
    fn came_through(&mut self, stage: &'static str, spill: &Spill, partition: usize, rows: &[Joined<'_>]) {
        let mut sum = Sum::default();
        rows.iter().for_each(|row| sum.add(&row.strict));
        let hop = self.hops.entry(stage).or_default();
        hop.0.merge(&spill.written(partition));
        hop.1.merge(&sum);
    }
}

/// Takes what the join finds.
struct Noted<'n> {
    joining: &'n Joining,
    counts: &'n mut Vec<Counts>,
    differences: &'n mut Writer,
    alone: &'n mut [Writer; 2],
    uses: &'n mut Uses,
    failed: Option<Error>,
}

impl Noted<'_> {
    fn row(&mut self, row: &Joined<'_>) -> Option<TargetRow> {
        match Key::decode(row.row) {
            Ok(values) => Some(TargetRow { table: TargetTable(row.table), values: values.0 }),
            Err(error) => {
                self.failed.get_or_insert(Error::Record(error));
                None
            }
        }
    }
}

impl<'a> Findings<'a> for Noted<'_> {
    fn count(&mut self, table: u16, change: impl FnOnce(&mut Counts)) {
        if let Some(counts) = self.counts.get_mut(usize::from(table)) {
            change(counts);
        }
    }

    fn judge(&mut self, expected: &Joined<'a>, actual: &Joined<'a>, by: Pair) -> Judgement {
        let (Some(wanted), Some(there)) = (self.row(expected), self.row(actual)) else { return Judgement::Different };
        match self.joining.context.rules.table(wanted.table).compare(&wanted, &there, by, self.uses) {
            Comparison::Equal => Judgement::Equal,
            Comparison::Tolerated(_) => Judgement::Tolerated,
            Comparison::Different(fields) if fields.iter().all(|field| field.waived.is_some()) => Judgement::Waived,
            Comparison::Different(_) => Judgement::Different,
        }
    }

    fn excused(&mut self, row: &Joined<'a>, finding: Finding) -> bool {
        let Some(row) = self.row(row) else { return false };
        self.joining.context.rules.table(row.table).waiver(finding, &row, self.uses).is_some()
    }

    fn found(&mut self, found: Found<'a>) {
        // Parts of a unit are judged together; rows of no part would all come together, and are judged one by one.
        let hash = if found.scope.is_empty() {
            hash_of(&found.key)
        } else {
            let hash = blake3::hash((self.joining.context.unit_of)(found.scope));
            u64::from_le_bytes(*hash.as_bytes().first_chunk().unwrap_or(&[0; 8]))
        };
        let written = self.differences.add(hash, &[0; 32], |out| found.put(out));
        self.failed = self.failed.take().or(written.err());
    }

    fn alone(&mut self, side: SideOf, row: &Joined<'a>) {
        let group = row.pairing.map_or(row.key, |pairing| pairing.group);
        let writer = &mut self.alone[usize::from(side == SideOf::Actual)];
        let written = writer.add(hash_of(&group), &row.strict, |out| row.put(out));
        self.failed = self.failed.take().or(written.err());
    }
}

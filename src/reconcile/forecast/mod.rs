//! What a migration would come to: the comparison's pass over the source, with a sink that only counts.
//!
//! Rows are read, placed and mapped as a comparison does it ([`expected`](super::expected)), in the same memory; what comes of them
//! goes to an [`outlook`] instead of being joined with a target. Their keys are [`folding`]s: which key several parts want, and which
//! partition takes most, is known when all have met.
//!
//! Of a sample, tables whose rows are mapped one by one are read in part, by ranges; of all others every row is read, because the
//! rows of a unit stand anywhere, and the units of a part of all buckets are evaluated. Either way whole clusters are counted,
//! and [`estimate`] says what that makes of the whole.

pub mod estimate;
pub mod folding;
pub mod outlook;

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio::task::JoinSet;

use self::estimate::{Estimate, Frame, Sums, total};
use self::folding::{Folded, Folding, Space};
use self::outlook::{Clusters, Common, KeyRole, KeySpace, Measure, Outlook, Quantity, Share, Shown, Tally};
use super::Error;
use super::context::Context;
use super::emit::Spills;
use super::expected::{ReferenceSink, Shared, SourceAccount, SourceSink};
use super::references::References;
use super::run::by_partition;
use super::side::{Done, Read, Side, Sink as _, read};
use super::spill::{Spill, Tag};
use crate::event::Value;

/// What is to be foreseen, and how.
pub struct Plan {
    /// What the source is read with.
    pub context: Arc<Context>,
    /// The source; of a table that is sampled it has the ranges that were drawn.
    pub source: Arc<Side>,
    /// How many ranges there were to draw from, by table that is sampled by ranges.
    pub sampled: BTreeMap<usize, u64>,
    /// Rows of source tables that files stand for, by table.
    pub given: BTreeMap<usize, Vec<Vec<Value>>>,
    /// How the target takes rows.
    pub measure: Arc<dyn Measure>,
    /// Columns whose values must tell rows apart.
    pub spaces: Vec<KeySpace>,
    /// Whether rows go to partitions by the first column of their key.
    pub partitioned: bool,
    /// Units that are evaluated of tables that are read whole.
    pub share: Share,
    /// Workers.
    pub workers: usize,
    /// Partitions of every spill.
    pub partitions: usize,
    /// Keys that are shown, of each kind.
    pub shown: usize,
}

/// What is foreseen.
pub struct Outcome {
    strata: Vec<(Frame, BTreeMap<Quantity, Sums>)>,
    /// Keys that more than one part wants, by space.
    pub contested: BTreeMap<Space, Contested>,
    /// Keys that rows refer to and that no row has, by space.
    pub dangling: BTreeMap<Space, Contested>,
    /// What goes to partitions, by target table.
    pub partitions: BTreeMap<Space, Partitions>,
    /// Some keys of what goes wrong.
    pub examples: Shown,
    /// Rows that were read.
    pub read: u64,
    /// Rows that were evaluated: fewer where units are sampled.
    pub evaluated: u64,
    /// Bytes that the spills had.
    pub spill_bytes: u64,
}

/// Keys that are not as they should be: several parts want them, or nothing has them that is referred to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Contested {
    /// Keys.
    pub keys: u64,
    /// Rows that want them, or refer to them.
    pub rows: u64,
    /// Those of most rows, encoded, with how many; the first has most.
    pub shown: Vec<(u64, Box<[u8]>)>,
}

/// What goes to the partitions of a table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Partitions {
    /// Partitions.
    pub count: u64,
    /// Rows.
    pub rows: u64,
    /// Write units.
    pub weight: u64,
    /// The largest, the largest first.
    pub largest: Vec<Folded>,
}

impl Outcome {
    /// The total of a quantity.
    pub fn total(&self, quantity: &Quantity) -> Estimate {
        // What is told of rows as they are read is told by the ranges of their own table alone; anything else any part may show,
        // and so a stratum that was sampled and did not show it makes an estimate of it all the same.
        let own =
            matches!(quantity, Quantity::Read(_) | Quantity::ReadBytes(_) | Quantity::Waiting(_) | Quantity::Lookup(_));
        let strata = self.strata.iter().filter_map(|(frame, sums)| match sums.get(quantity) {
            None if own => None,
            found => Some((*frame, found.copied().unwrap_or_default())),
        });
        total(strata)
    }

    /// Every quantity that was seen.
    pub fn quantities(&self) -> impl Iterator<Item = &Quantity> {
        let mut seen: Vec<&Quantity> = self.strata.iter().flat_map(|(_, sums)| sums.keys()).collect();
        seen.sort_unstable();
        seen.dedup();
        seen.into_iter()
    }
}

/// Foresees what a migration comes to; spills go to `folder`, which must be empty.
///
/// # Errors
/// Whatever keeps the source from being read to its end, or a record from coming through.
pub async fn run(plan: Plan, folder: &Path) -> Result<Outcome, Error> {
    let Plan { context, source, sampled, given, measure, spaces, partitioned, share, workers, partitions, shown } =
        plan;
    let spill = |name| Spill::new(folder, name, partitions, Tag::default());
    let shared = Arc::new(Shared {
        context: Arc::clone(&context),
        spills: Spills {
            expected: spill("expected"),
            actual: spill("actual"),
            added: spill("added"),
            groups: [spill("expected-groups"), spill("actual-groups")],
        },
        pending: spill("pending"),
        units: spill("units"),
        references: RwLock::new(References::default()),
    });
    let (keys, hashes) = (spill("keys"), spill("partitions"));
    let migration = Arc::clone(&context.migration);
    let common = Arc::new(Common { migration, measure, spaces, partitioned, share, shown });
    let sink = |clusters| {
        SourceSink::with(&shared, Outlook::new(&common, clusters, Folding::new(&keys), Folding::new(&hashes)))
    };

    let referred = References::tables(&context.migration);
    let refers = |index: &usize| referred.iter().any(|table| usize::from(table.0) == source.ranges[*index].table);
    let (first, rest): (Vec<usize>, Vec<usize>) = (0..source.ranges.len()).partition(refers);
    let (ranges, whole): (Vec<usize>, Vec<usize>) =
        rest.into_iter().partition(|index| sampled.contains_key(&source.ranges[*index].table));
    let mut reference_sinks: Vec<ReferenceSink> = (0..workers).map(|_| ReferenceSink::new(&shared)).collect();
    if let Some(sink) = reference_sinks.first_mut() {
        given.into_iter().try_for_each(|(table, rows)| sink.take(table, &mut rows.into_iter()))?;
    }
    let Read { mut done, .. } = read(&source, first, reference_sinks, None).await?;
    let of_units = (0..workers).map(|_| sink(Clusters::Units)).collect();
    let Read { done: more, sinks, .. } = read(&source, whole, of_units, None).await?;
    done.extend(more);
    let drawn = (0..workers).map(|_| sink(Clusters::Range)).collect();
    let (of_ranges, closed) = read_ranges(&source, ranges, drawn).await?;

    // Only now is every row of a unit in its partition.
    let sinks = by_partition(sinks, partitions, SourceSink::pending, SourceSink::finish).await?;
    let sinks = by_partition(sinks, partitions, SourceSink::units, SourceSink::finish).await?;
    let spill_bytes = [&shared.pending, &shared.units, &keys, &hashes].iter().map(|spill| spill.bytes()).sum();
    let counters = (0..workers).map(|_| Counter::new(&common, &keys, &hashes)).collect();
    let counters = by_partition(counters, partitions, Counter::take, |_| Ok(())).await?;

    let mut gathered = Gathered::default();
    sinks.into_iter().chain(closed).for_each(|sink| gathered.sink(sink.emitter, sink.account));
    let (mut contested, mut dangling, mut hot) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for counter in counters {
        counter.dangling.into_iter().for_each(|(space, more)| merge_contested(&mut dangling, space, more, shown));
        counter.contested.into_iter().for_each(|(space, more)| merge_contested(&mut contested, space, more, shown));
        counter.partitions.into_iter().for_each(|(table, more)| merge_partitions(&mut hot, table, more, shown));
    }
    let read = done.iter().chain(&of_ranges).map(|done| done.rows).sum();
    let chosen_ranges = |table: usize| of_ranges.iter().filter(|done| source.ranges[done.range].table == table).count();
    let (evaluated, examples) = (gathered.evaluated(), std::mem::take(&mut gathered.examples));
    let frames = |table: usize| {
        let all = sampled.get(&table).copied().unwrap_or(1);
        Frame { all, chosen: chosen_ranges(table) as u64 }
    };
    let strata = gathered.strata(&source, &done, share, frames);
    Ok(Outcome { strata, contested, dangling, partitions: hot, examples, read, evaluated, spill_bytes })
}

/// Reads ranges of sampled tables; each is counted by itself.
async fn read_ranges(
    source: &Arc<Side>,
    ranges: Vec<usize>,
    sinks: Vec<SourceSink<Outlook>>,
) -> Result<(Vec<Done>, Vec<SourceSink<Outlook>>), Error> {
    let queue = Arc::new(Mutex::new(VecDeque::from(ranges)));
    let mut reading: JoinSet<Result<(Vec<Done>, SourceSink<Outlook>), Error>> = JoinSet::new();
    for mut sink in sinks {
        let (source, queue) = (Arc::clone(source), Arc::clone(&queue));
        reading.spawn(async move {
            let mut all = Vec::new();
            loop {
                let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                let Some(range) = next else { return Ok((all, sink)) };
                let Read { done, mut sinks, .. } = read(&source, vec![range], vec![sink], None).await?;
                sink = sinks.pop().ok_or(Error::Worker)?;
                for done in done {
                    let account = std::mem::take(&mut sink.account);
                    sink.emitter.close(source.ranges[range].table, &done, account);
                    all.push(done);
                }
            }
        });
    }
    let (mut done, mut sinks) = (Vec::new(), Vec::new());
    while let Some(read) = reading.join_next().await {
        let (more, sink) = read.map_err(|_| Error::Worker)??;
        done.extend(more);
        sinks.push(sink);
    }
    Ok((done, sinks))
}

/// What the workers counted, put together.
#[derive(Default)]
struct Gathered {
    buckets: BTreeMap<u32, Tally>,
    ranges: BTreeMap<usize, BTreeMap<Quantity, Sums>>,
    whole: Tally,
    examples: Shown,
}

impl Gathered {
    fn sink(&mut self, outlook: Outlook, account: SourceAccount) {
        outlook::add_account(&mut self.whole, account);
        for (bucket, tally) in outlook.buckets {
            let sum = self.buckets.entry(bucket).or_default();
            tally.into_iter().for_each(|(quantity, count)| *sum.entry(quantity).or_default() += count);
        }
        for (table, more) in outlook.ranges {
            let sums = self.ranges.entry(table).or_default();
            more.into_iter().for_each(|(quantity, more)| sums.entry(quantity).or_default().merge(&more));
        }
        for (what, more) in outlook.examples {
            self.examples.entry(what).or_default().extend(more);
        }
    }

    /// Rows that were evaluated, whatever came of them.
    fn evaluated(&self) -> u64 {
        let told = |quantity: &Quantity| {
            matches!(quantity, Quantity::Mapped(_) | Quantity::Dropped(..) | Quantity::Quarantined(..))
        };
        let of_ranges =
            self.ranges.values().flatten().filter(|(quantity, _)| told(quantity)).map(|(_, sums)| sums.sum as u64);
        let of_units = self.buckets.values().flatten().filter(|(quantity, _)| told(quantity)).map(|(_, count)| *count);
        of_ranges.chain(of_units).sum()
    }

    /// Strata with what was counted in each: what was read whole, units by buckets, and each table that was read by ranges.
    fn strata(
        mut self,
        source: &Side,
        done: &[Done],
        share: Share,
        frames: impl Fn(usize) -> Frame,
    ) -> Vec<(Frame, BTreeMap<Quantity, Sums>)> {
        for done in done {
            outlook::read(&mut self.whole, source.ranges[done.range].table, done);
        }
        let single = |tally: Tally| {
            let mut sums: BTreeMap<Quantity, Sums> = BTreeMap::new();
            tally.into_iter().for_each(|(quantity, count)| sums.entry(quantity).or_default().add(count));
            sums
        };
        let mut strata = vec![(Frame::WHOLE, single(self.whole))];
        let mut units: BTreeMap<Quantity, Sums> = BTreeMap::new();
        for (quantity, count) in self.buckets.into_values().flatten() {
            units.entry(quantity).or_default().add(count);
        }
        strata.push((Frame { all: share.of.into(), chosen: share.chosen.into() }, units));
        strata.extend(self.ranges.into_iter().map(|(table, sums)| (frames(table), sums)));
        strata
    }
}

/// Counts keys and partitions, a partition of the spills at a time.
struct Counter {
    common: Arc<Common>,
    keys: Arc<Spill>,
    hashes: Arc<Spill>,
    contested: BTreeMap<Space, Contested>,
    dangling: BTreeMap<Space, Contested>,
    partitions: BTreeMap<Space, Partitions>,
}

impl Counter {
    fn new(common: &Arc<Common>, keys: &Arc<Spill>, hashes: &Arc<Spill>) -> Self {
        let (contested, dangling, partitions) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let (common, keys, hashes) = (Arc::clone(common), Arc::clone(keys), Arc::clone(hashes));
        Self { common, keys, hashes, contested, dangling, partitions }
    }

    fn take(&mut self, partition: usize) -> Result<(), Error> {
        let shown = self.common.shown;
        let refers = |space: Space| {
            self.common.spaces.iter().any(|known| known.space == space && known.role == KeyRole::Referring)
        };
        for (space, folded) in folding::keys(&self.keys, partition)? {
            let Folded { count, weight, key } = folded;
            let one = Contested { keys: 1, rows: count, shown: vec![(count, key)] };
            match refers(space) {
                // What is referred to has weight.
                true if weight == 0 => merge_contested(&mut self.dangling, space, one, shown),
                false if count > 1 => merge_contested(&mut self.contested, space, one, shown),
                _ => {}
            }
        }
        for (table, folded) in folding::keys(&self.hashes, partition)? {
            let one = Partitions { count: 1, rows: folded.count, weight: folded.weight, largest: vec![folded] };
            merge_partitions(&mut self.partitions, table, one, shown);
        }
        Ok(())
    }
}

fn merge_contested(all: &mut BTreeMap<Space, Contested>, space: Space, more: Contested, shown: usize) {
    let sum = all.entry(space).or_default();
    sum.keys += more.keys;
    sum.rows += more.rows;
    sum.shown.extend(more.shown);
    sum.shown.sort_unstable_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    sum.shown.truncate(shown);
}

fn merge_partitions(all: &mut BTreeMap<Space, Partitions>, table: Space, more: Partitions, shown: usize) {
    let sum = all.entry(table).or_default();
    sum.count += more.count;
    sum.rows += more.rows;
    sum.weight += more.weight;
    sum.largest.extend(more.largest);
    sum.largest.sort_unstable_by(|a, b| (b.weight, b.count).cmp(&(a.weight, a.count)).then_with(|| a.key.cmp(&b.key)));
    sum.largest.truncate(shown);
}

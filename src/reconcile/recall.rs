//! Opens what was planted, after everything is found: shadows leave the findings and the counts, and say which of their faults
//! were found.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::Error;
use super::canary::{CLASSES, Class, GROUP_CLASSES, Shadows};
use super::context::Context;
use super::groups::{Group, Sides};
use super::join::{Difference, Found, Ownership};
use super::record::{self, KeyDigest};
use super::run::Outcome;
use super::spill::Spill;
use crate::event::{Reader, front};
use crate::target::TargetTable;

/// What was planted.
pub struct Planted {
    /// By the keys of rows.
    pub shadows: Shadows,
    /// Among rows that a rule pairs.
    pub groups: Vec<Group>,
}

/// What tells a finding of a shadow from one of a row.
pub struct Index {
    context: Arc<Context>,
    planted: Planted,
    /// The group of each key in a group's shadow.
    group_of: HashMap<(u16, KeyDigest), usize>,
}

impl Index {
    fn new(context: Arc<Context>, planted: Planted) -> Self {
        let keys = |(index, group): (usize, &Group)| -> Vec<_> {
            group.keys.iter().map(|key| ((group.table, *key), index)).collect()
        };
        let group_of = planted.groups.iter().enumerate().flat_map(keys).collect();
        Self { context, planted, group_of }
    }

    fn is_planted(&self, found: &Found<'_>) -> bool {
        let place = (found.table, found.key);
        self.planted.shadows.contains_key(&place) || self.group_of.contains_key(&place)
    }
}

/// All differences, in partitions by the unit that they are of; those of shadows are left out when they are taken.
#[derive(Clone)]
pub struct Differences {
    spill: Arc<Spill>,
    index: Arc<Index>,
}

/// Differences of a partition, in the order of their parts.
pub struct InOrder {
    bytes: Vec<u8>,
    /// Where each begins.
    places: Vec<usize>,
}

impl Differences {
    /// What the join found, shadows among it.
    pub fn new(context: Arc<Context>, spill: Arc<Spill>, planted: Planted) -> Self {
        Self { spill, index: Arc::new(Index::new(context, planted)) }
    }

    /// Number of partitions; all differences of a unit are in one.
    pub fn partitions(&self) -> usize {
        self.spill.partitions()
    }

    /// Takes the differences of a partition, once.
    ///
    /// # Errors
    /// [`Error::Spill`] when the disk does not give them, [`Error::SpillBroken`] and [`Error::Record`] when it gives another thing.
    pub fn take(&self, partition: usize) -> Result<InOrder, Error> {
        let bytes = self.spill.take(partition)?;
        let mut all: Vec<(Found<'_>, usize)> = self.all(partition, &bytes)?;
        all.retain(|(found, _)| !self.index.is_planted(found));
        let place = |(found, _): &(Found<'_>, usize)| (found.table, found.key);
        let places = record::in_order(
            &all,
            |(found, _)| front(found.scope),
            |a, b| a.0.scope.cmp(b.0.scope).then_with(|| place(a).cmp(&place(b))),
        );
        let places = places.into_iter().map(|(_, at)| *at).collect();
        Ok(InOrder { bytes, places })
    }

    /// Reads the differences of a partition, each with where it begins; as many as were written.
    fn all<'b>(&self, partition: usize, bytes: &'b [u8]) -> Result<Vec<(Found<'b>, usize)>, Error> {
        let all = record::all(bytes, |reader| {
            let at = bytes.len() - reader.remaining();
            Found::take(reader).map(|found| (found, at))
        })?;
        if all.len() as u64 != self.spill.written(partition).count {
            return Err(Error::SpillBroken { path: self.spill.name().into() });
        }
        Ok(all)
    }
}

impl InOrder {
    /// The differences; those of a part stand together.
    ///
    /// # Errors
    /// [`Error::Record`] when they do not read back.
    pub fn all(&self) -> Result<Vec<Found<'_>>, Error> {
        let at = |place: &usize| Found::take(&mut Reader::new(&self.bytes[*place..]));
        Ok(self.places.iter().map(at).collect::<Result<_, _>>()?)
    }
}

/// One worker that takes findings of shadows out of the counts of differences.
pub struct Opener {
    all: Differences,
    /// Differences that are of no shadow, by table.
    differences: BTreeMap<(u16, Difference), u64>,
    /// What was found in shadows, by their keys.
    seen: BTreeMap<(u16, KeyDigest), Seen>,
    /// What was found in the shadow of each group.
    in_groups: Vec<Vec<Sides>>,
}

/// What was found in a shadow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Seen {
    /// Differences.
    all: u64,
    /// Those of two rows.
    pairs: u64,
    /// Those that no waiver excuses.
    unexcused: u64,
}

impl Seen {
    fn add(&mut self, other: Seen) {
        self.all += other.all;
        self.pairs += other.pairs;
        self.unexcused += other.unexcused;
    }

    /// Whether the fault of a class was found. A value is spoilt where no waiver names it: where all that was found is excused, it was
    /// found for another value, in which the row differs by itself.
    fn tells(self, class: Class, excuses_any_field: bool) -> bool {
        let told = if class.of_value() && !excuses_any_field { self.unexcused } else { self.all };
        told > 0
    }
}

impl Opener {
    /// A worker that looks through all differences.
    pub fn new(all: &Differences) -> Self {
        let in_groups = vec![Vec::new(); all.index.planted.groups.len()];
        Self { all: all.clone(), differences: BTreeMap::new(), seen: BTreeMap::new(), in_groups }
    }

    /// Looks through the differences of a partition.
    ///
    /// # Errors
    /// [`Error::Spill`] when the disk gives no record, [`Error::SpillBroken`] and [`Error::Record`] when it gives another thing.
    pub fn partition(&mut self, partition: usize) -> Result<(), Error> {
        let Index { planted, group_of, .. } = &*self.all.index;
        let bytes = self.all.spill.read(partition)?;
        for (found, _) in self.all.all(partition, &bytes)? {
            let place = (found.table, found.key);
            if planted.shadows.contains_key(&place) {
                let pairs = u64::from(!found.expected.is_empty() && !found.actual.is_empty());
                self.seen.entry(place).or_default().add(Seen { all: 1, pairs, unexcused: u64::from(!found.waived) });
            } else if let Some(group) = group_of.get(&place) {
                self.in_groups[*group].push(found.digests);
            } else {
                *self.differences.entry((found.table, found.difference)).or_default() += 1;
            }
        }
        Ok(())
    }
}

/// Takes shadows out of the counts, and counts the faults that were found, once every partition was opened.
pub fn close(openers: Vec<Opener>, ownership: Ownership, outcome: &mut Outcome) {
    let index = Arc::clone(&outcome.found.index);
    let Index { context, planted: Planted { shadows, groups }, .. } = &*index;
    let mut seen: BTreeMap<(u16, KeyDigest), Seen> = BTreeMap::new();
    let mut in_groups: Vec<Vec<Sides>> = vec![Vec::new(); groups.len()];
    for opener in openers {
        opener.differences.into_iter().for_each(|(of, count)| *outcome.differences.entry(of).or_default() += count);
        opener.seen.into_iter().for_each(|(place, more)| seen.entry(place).or_default().add(more));
        in_groups.iter_mut().zip(opener.in_groups).for_each(|(all, more)| all.extend(more));
    }
    for (table, _) in (0_u16..).zip(&outcome.expected).filter(|(_, tally)| tally.read > 0) {
        let paired = context.rules.table(TargetTable(table)).has_match();
        for class in CLASSES.iter().chain(GROUP_CLASSES.iter().filter(|_| paired)) {
            outcome.recall.entry((*class, table)).or_default();
        }
    }
    for (place, shadow) in shadows {
        let seen = seen.get(place).copied().unwrap_or_default();
        let rules = context.rules.table(TargetTable(place.0));
        let matched = shadow.expected.min(shadow.actual).saturating_sub(seen.pairs);
        let foreign = shadow.unowned && ownership == Ownership::Known;
        // Rows that are not the same and yet not told of, in a table where something is tolerated.
        let same = shadow.there.is_none_or(|[_, there]| shadow.wanted == Some(there));
        let (matched, tolerated) = if rules.has_tolerance() && !same { (0, matched) } else { (matched, 0) };
        take_away(outcome, place.0, [shadow.expected, shadow.actual], Equal { matched, tolerated, foreign });
        if let Some(class) = shadow.planted.filter(|_| !shadow.mended()) {
            let (planted, found) = outcome.recall.entry((class, place.0)).or_default();
            *planted += 1;
            *found += u64::from(seen.tells(class, rules.excuses_any_field()));
        }
    }
    for (group, seen) in groups.iter().zip(in_groups) {
        open_group(group, seen, ownership, outcome);
    }
}

/// A group is found when all that was found in it is what is to be found, each once.
fn open_group(group: &Group, mut seen: Vec<Sides>, ownership: Ownership, outcome: &mut Outcome) {
    seen.sort_unstable();
    let right = seen == group.told.found;
    let [expected, _] = group.rows;
    let differing = seen.iter().filter(|[expected, _]| expected.is_some()).count() as u64;
    let paired = expected.saturating_sub(differing);
    let tolerated = group.told.tolerated.min(paired);
    // Rows of its shadow are known as written by nobody.
    let equal = Equal { matched: paired - tolerated, tolerated, foreign: ownership == Ownership::Known };
    take_away(outcome, group.table, group.rows, equal);
    if right {
        outcome.uses.take_away(&group.told.uses);
    }
    let (planted, found) = outcome.recall.entry((group.class, group.table)).or_default();
    *planted += 1;
    *found += u64::from(right);
}

/// Pairs of a shadow that were not found to differ.
struct Equal {
    matched: u64,
    tolerated: u64,
    /// Whether they count as someone else's too.
    foreign: bool,
}

fn take_away(outcome: &mut Outcome, table: u16, [expected, actual]: [u64; 2], equal: Equal) {
    let counts = &mut outcome.counts[usize::from(table)];
    counts.expected = counts.expected.saturating_sub(expected);
    counts.actual = counts.actual.saturating_sub(actual);
    counts.matched = counts.matched.saturating_sub(equal.matched);
    counts.tolerated = counts.tolerated.saturating_sub(equal.tolerated);
    if equal.foreign {
        counts.matched_foreign = counts.matched_foreign.saturating_sub(equal.matched);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_of_a_value_is_not_found_by_what_a_waiver_excuses() {
        let excused = Seen { all: 1, pairs: 1, unexcused: 0 };
        let told = Seen { unexcused: 1, ..excused };
        assert!(told.tells(Class::Text, false) && !excused.tells(Class::Text, false));
        assert!(excused.tells(Class::Text, true), "no value is spoilt that is not excused");
        assert!(excused.tells(Class::Dropped, false), "a waiver may excuse missing rows");
        assert!(!Seen::default().tells(Class::Dropped, false) && !Seen::default().tells(Class::Text, true));
    }
}

//! Opens what was planted, after everything is found: shadows leave the findings and the counts, and say which of their faults
//! were found.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::Error;
use super::canary::{CLASSES, GROUP_CLASSES, Shadows};
use super::context::Context;
use super::emit::hash_of;
use super::groups::{Group, Sides};
use super::join::{Difference, Found, Ownership};
use super::record::{self, KeyDigest};
use super::run::Outcome;
use super::spill::{Spill, Writer};
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
    differences: Arc<Spill>,
    planted: Planted,
    /// The group of each key in a group's shadow.
    group_of: HashMap<(u16, KeyDigest), usize>,
}

impl Index {
    /// Of what was planted, over all differences.
    pub fn new(context: Arc<Context>, differences: Arc<Spill>, planted: Planted) -> Self {
        let keys = |(index, group): (usize, &Group)| -> Vec<_> {
            group.keys.iter().map(|key| ((group.table, *key), index)).collect()
        };
        let group_of = planted.groups.iter().enumerate().flat_map(keys).collect();
        Self { context, differences, planted, group_of }
    }
}

/// One worker that takes findings of shadows out of the differences.
pub struct Opener {
    index: Arc<Index>,
    found: Writer,
    /// Differences that are of no shadow, by table.
    differences: BTreeMap<(u16, Difference), u64>,
    /// Pairs of shadows that were found to differ, by their keys.
    seen: BTreeMap<(u16, KeyDigest), u64>,
    /// What was found in the shadow of each group.
    in_groups: Vec<Vec<Sides>>,
}

impl Opener {
    /// A worker that hands on to `found` what is of no shadow.
    pub fn new(index: &Arc<Index>, found: &Arc<Spill>) -> Self {
        let in_groups = vec![Vec::new(); index.planted.groups.len()];
        let index = Arc::clone(index);
        Self { index, found: found.writer(), differences: BTreeMap::new(), seen: BTreeMap::new(), in_groups }
    }

    /// Takes the differences of a partition.
    ///
    /// # Errors
    /// [`Error::Spill`] when the disk gives or takes no record, [`Error::Record`] when it gives another thing.
    pub fn partition(&mut self, partition: usize) -> Result<(), Error> {
        let Index { context, differences, planted, group_of } = &*self.index;
        let bytes = differences.take(partition)?;
        for found in record::all(&bytes, Found::take)? {
            let place = (found.table, found.key);
            if planted.shadows.contains_key(&place) {
                let pair = !found.expected.is_empty() && !found.actual.is_empty();
                *self.seen.entry(place).or_default() += u64::from(pair);
                continue;
            }
            if let Some(group) = group_of.get(&place) {
                self.in_groups[*group].push(found.digests);
                continue;
            }
            *self.differences.entry((found.table, found.difference)).or_default() += 1;
            // Parts of a unit are judged together; rows of no part would all come together, and are judged one by one.
            let hash = if found.scope.is_empty() {
                hash_of(&found.key)
            } else {
                let hash = blake3::hash((context.unit_of)(found.scope));
                u64::from_le_bytes(*hash.as_bytes().first_chunk().unwrap_or(&[0; 8]))
            };
            self.found.add(hash, &[0; 32], |out| found.put(out))?;
        }
        Ok(())
    }

    /// Hands over what is kept back.
    ///
    /// # Errors
    /// [`Error::Spill`] when the disk does not take it.
    pub fn finish(&mut self) -> Result<(), Error> {
        self.found.finish()
    }
}

/// Takes shadows out of the counts, and counts the faults that were found, once every partition was opened.
pub fn close(index: &Index, openers: Vec<Opener>, ownership: Ownership, outcome: &mut Outcome) {
    let Index { context, planted: Planted { shadows, groups }, .. } = index;
    let mut seen: BTreeMap<(u16, KeyDigest), u64> = BTreeMap::new();
    let mut in_groups: Vec<Vec<Sides>> = vec![Vec::new(); groups.len()];
    for opener in openers {
        opener.differences.into_iter().for_each(|(of, count)| *outcome.differences.entry(of).or_default() += count);
        opener.seen.into_iter().for_each(|(place, pairs)| *seen.entry(place).or_default() += pairs);
        in_groups.iter_mut().zip(opener.in_groups).for_each(|(all, more)| all.extend(more));
    }
    for (table, _) in (0_u16..).zip(&outcome.expected).filter(|(_, tally)| tally.read > 0) {
        let paired = context.rules.table(TargetTable(table)).has_match();
        for class in CLASSES.iter().chain(GROUP_CLASSES.iter().filter(|_| paired)) {
            outcome.recall.entry((*class, table)).or_default();
        }
    }
    for (place, shadow) in shadows {
        let found = seen.get(place).copied();
        let (pairs, any) = (found.unwrap_or(0), found.is_some());
        let matched = shadow.expected.min(shadow.actual).saturating_sub(pairs);
        let foreign = shadow.unowned && ownership == Ownership::Known;
        // Rows that are not the same and yet not told of, in a table where something is tolerated.
        let same = shadow.there.is_none_or(|[_, there]| shadow.wanted == Some(there));
        let tolerates = context.rules.table(TargetTable(place.0)).has_tolerance();
        let (matched, tolerated) = if tolerates && !same { (0, matched) } else { (matched, 0) };
        take_away(outcome, place.0, [shadow.expected, shadow.actual], Equal { matched, tolerated, foreign });
        if let Some(class) = shadow.planted.filter(|_| !shadow.mended()) {
            let (planted, found) = outcome.recall.entry((class, place.0)).or_default();
            *planted += 1;
            *found += u64::from(any);
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

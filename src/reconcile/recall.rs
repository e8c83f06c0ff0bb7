//! Opens what was planted, after everything is found: shadows leave the findings and the counts, and say which of their faults
//! were found.

use std::collections::BTreeMap;

use super::Error;
use super::canary::{CLASSES, GROUP_CLASSES, Shadows};
use super::emit::{Context, hash_of};
use super::groups::{Group, Sides};
use super::join::{Found, Ownership};
use super::record::{self, KeyDigest};
use super::run::Outcome;
use super::spill::Spill;
use crate::target::TargetTable;

/// What was planted.
pub struct Planted {
    /// By the keys of rows.
    pub shadows: Shadows,
    /// Among rows that a rule pairs.
    pub groups: Vec<Group>,
}

/// Takes findings of shadows out of the differences, and counts the faults that were found.
///
/// # Errors
/// [`Error::Spill`] when the disk gives or takes no record, [`Error::Record`] when it gives another thing.
pub fn open(
    context: &Context,
    ownership: Ownership,
    differences: &Spill,
    planted: Planted,
    outcome: &mut Outcome,
) -> Result<(), Error> {
    let Planted { shadows, groups } = planted;
    let mut seen: BTreeMap<(u16, KeyDigest), (u64, bool)> = BTreeMap::new();
    let mut in_groups: Vec<Vec<Sides>> = vec![Vec::new(); groups.len()];
    let keys = |(index, group): (usize, &Group)| -> Vec<_> {
        group.keys.iter().map(|key| ((group.table, *key), index)).collect()
    };
    let group_of: BTreeMap<(u16, KeyDigest), usize> = groups.iter().enumerate().flat_map(keys).collect();
    let mut writer = outcome.found.writer();
    for partition in 0..differences.partitions() {
        let bytes = differences.take(partition)?;
        for found in record::all(&bytes, Found::take)? {
            let place = (found.table, found.key);
            if shadows.contains_key(&place) {
                let (pairs, any) = seen.entry(place).or_default();
                *pairs += u64::from(!found.expected.is_empty() && !found.actual.is_empty());
                *any = true;
                continue;
            }
            if let Some(index) = group_of.get(&place) {
                in_groups[*index].push(found.digests);
                continue;
            }
            *outcome.differences.entry((found.table, found.difference)).or_default() += 1;
            // Parts of a unit are judged together; rows of no part would all come together, and are judged one by one.
            let hash = if found.scope.is_empty() {
                hash_of(&found.key)
            } else {
                let hash = blake3::hash((context.unit_of)(found.scope));
                u64::from_le_bytes(*hash.as_bytes().first_chunk().unwrap_or(&[0; 8]))
            };
            writer.add(hash, &[0; 32], |out| found.put(out))?;
        }
    }
    writer.finish()?;
    for (table, _) in (0_u16..).zip(&outcome.expected).filter(|(_, tally)| tally.read > 0) {
        let paired = context.rules.table(TargetTable(table)).has_match();
        for class in CLASSES.iter().chain(GROUP_CLASSES.iter().filter(|_| paired)) {
            outcome.recall.entry((*class, table)).or_default();
        }
    }
    for (place, shadow) in shadows {
        let (pairs, any) = seen.get(&place).copied().unwrap_or_default();
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
    Ok(())
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

//! What a later look says of a difference: at a unit read once more, at rows of someone else, by the rules that are about such pairs.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use crate::reconcile::join::{Difference, Found, Ownership};
use crate::reconcile::settle::{Finding, Parked, Settled, Stood, gone, proven, settle, unsettled};
use crate::rules::{Comparison, Pair, Uses};
use crate::target::{TargetKey, TargetRow, TargetTable};

use super::Error;
use super::diff::{By, RowDifference, Verdict};
use super::judging::{Grounds, Judging, Seen, Why, keys_of, parked_for};
use super::look::{UnitDiff, corpus};

/// Between two cuts that nobody's log joins, at least: changes that take longer from one store to the other look like losses.
const APART: Duration = Duration::from_secs(10);
/// Rows of someone else that are looked at again by one question.
const ROWS_AT_ONCE: usize = 1_000;

/// How a unit was seen where nobody projects.
pub(super) struct Observed {
    /// Rows that differ.
    rows: Vec<RowDifference>,
    /// Keys of rows that both sides have.
    both: BTreeSet<TargetKey>,
}

impl AsRef<[RowDifference]> for Observed {
    fn as_ref(&self) -> &[RowDifference] {
        &self.rows
    }
}

impl Judging<'_> {
    /// How the rows of a difference belong together, for the rules that are about such pairs only: as where it was found.
    pub(super) fn pair_of(&self, found: &Found<'_>) -> Pair {
        match (self.grounds.ownership, found.difference) {
            (Ownership::Unknown, _) | (_, Difference::Foreign | Difference::ForeignChanged) => Pair::Foreign,
            (Ownership::Known, _) => Pair::Key,
        }
    }

    /// Whether a rule may pair the row of a difference with one of another key, which a look by keys does not show.
    pub(super) fn may_be_paired(&self, found: &Found<'_>) -> bool {
        // What rehome is known to have written has keys of the mapping's, and no other partner.
        let ours = self.grounds.ownership == Ownership::Known
            && matches!(found.difference, Difference::Changed | Difference::Extra | Difference::Duplicate);
        let rules = self.grounds.context.rules.table(TargetTable(found.table));
        !ours && rules.has_match() && found.expected != found.actual
    }

    /// Whether rows of one key are the same, as the rules see them that are about such rows.
    pub(super) fn same(&self, found: &Found<'_>, wanted: &[TargetRow], there: &[TargetRow]) -> bool {
        let equal = |(a, b): (&TargetRow, &TargetRow)| self.alike(found, a, b);
        wanted.len() == there.len() && wanted.iter().zip(there).all(equal)
    }

    /// Whether a row that was missing is there now and would be as it should if it is someone else's, which nobody can tell.
    pub(super) fn may_be_anothers(&self, found: &Found<'_>, wanted: &[TargetRow], there: &[TargetRow]) -> bool {
        let as_anothers = |(a, b): (&TargetRow, &TargetRow)| self.alike_by(Pair::Foreign, a, b);
        found.actual.is_empty() && wanted.len() == there.len() && wanted.iter().zip(there).all(as_anothers)
    }

    /// Whether nothing that is compared differs between two rows, or all of it is tolerated, as where the difference was found.
    fn alike(&self, found: &Found<'_>, expected: &TargetRow, actual: &TargetRow) -> bool {
        self.alike_by(self.pair_of(found), expected, actual)
    }

    fn alike_by(&self, pair: Pair, expected: &TargetRow, actual: &TargetRow) -> bool {
        let rules = self.grounds.context.rules.table(expected.table);
        !matches!(rules.compare(expected, actual, pair, &mut Uses::default()), Comparison::Different(_))
    }

    /// Where nobody projects: how a unit differs now, both stores read once more, some time after they were read first where that is
    /// to prove anything; `None` when they could not be read.
    pub(super) async fn observe(&mut self, unit: &str, of_unit: &[&[Found<'_>]], why: Why) -> Option<Seen<Observed>> {
        if !self.wants(why) {
            return None;
        }
        if why == Why::Asked {
            self.stand_apart().await;
        }
        self.read_again(unit, of_unit).await
    }

    /// How a unit differs now, of which these are the parts in which something was found.
    pub(super) async fn read_again(&self, unit: &str, of_unit: &[&[Found<'_>]]) -> Option<Seen<Observed>> {
        let Grounds { context, witness, .. } = self.grounds;
        let (migration, tables, witness) = (&context.migration, &context.shapes, witness?);
        let read = async {
            let live = witness.source(unit).await?;
            let expected = witness.as_read(corpus(migration, &live)?.evaluate(migration, unit)?.rows);
            let key_of = |row: &TargetRow| tables[usize::from(row.table.0)].key_of(row);
            let wanted: BTreeSet<TargetKey> = expected.iter().map(key_of).collect();
            let mut keys = wanted.clone();
            keys.extend(of_unit.iter().copied().flatten().flat_map(keys_of));
            let held = witness.target(&keys.into_iter().collect::<Vec<_>>()).await?;
            let both = held.iter().map(key_of).filter(|key| wanted.contains(key)).collect();
            let rows = By { tables, rules: Some(&context.rules), ours: None }.compare(&expected, &held);
            Ok::<_, Error>(Observed { rows, both })
        };
        match read.await {
            Ok(observed) => Some(Seen::new(observed)),
            Err(error) => {
                tracing::warn!(error = %error, "a unit could not be looked at by itself");
                None
            }
        }
    }

    /// What a second look says of a difference that nobody's log can prove: there again, the same on both sides, it was there at two
    /// cuts with nothing seen to change between, and stands.
    pub(super) fn observed(&self, found: &Found<'_>, seen: Option<&Seen<Observed>>) -> Finding {
        let rules = self.grounds.context.rules.table(TargetTable(found.table));
        // One unit does not show how often a row is there, or wanted by others; nor which rows of other keys a rule would pair.
        let alone = found.expected.is_empty() || found.actual.is_empty();
        let shown = |_: &&Seen<Observed>| found.difference != Difference::Duplicate && !(alone && rules.has_match());
        let Some(seen) = seen.filter(shown) else { return unsettled(found.difference) };
        let Some(row) = seen.row_of(found) else {
            // On neither side is not equal: what is read of a unit may be less than all of it.
            let equal = keys_of(found).iter().any(|key| seen.what.both.contains(key));
            return if equal { gone(found.difference) } else { unsettled(found.difference) };
        };
        if let (Some(expected), Some(actual)) = (&row.expected, &row.actual)
            && self.alike(found, expected, actual)
        {
            return gone(found.difference);
        }
        let now = [&row.expected, &row.actual].map(|row| row.as_ref().map(|row| self.grounds.context.strict(row)));
        if now == found.digests { proven(found.difference) } else { unsettled(found.difference) }
    }

    /// Digests of the rows that differences are about, as far as they are still there; `None` when they could not be read.
    pub(super) async fn rows_now(&self, group: &[Found<'_>]) -> Option<HashMap<TargetKey, [u8; 32]>> {
        let Grounds { context, witness, .. } = self.grounds;
        // What its writer takes away on one side is soon gone on the other.
        self.stand_apart().await;
        let keys: Vec<TargetKey> = group.iter().flat_map(keys_of).collect();
        let mut now = HashMap::new();
        for keys in keys.chunks(ROWS_AT_ONCE) {
            let held = witness?.target(keys).await;
            let unread = |error: &Error| tracing::warn!(%error, "rows of someone else could not be looked at again");
            for row in held.inspect_err(unread).ok()? {
                now.insert(context.shapes[usize::from(row.table.0)].key_of(&row), context.strict(&row));
            }
        }
        Some(now)
    }

    /// Waits until this look is so long after the comparison began that what was on its way has arrived.
    async fn stand_apart(&self) {
        let Grounds { projection, started, .. } = self.grounds;
        let since = jiff::Timestamp::now().duration_since(started).unsigned_abs();
        if since < APART {
            projection.pause(APART.saturating_sub(since)).await;
        }
    }

    /// What the look at a unit says of one difference.
    pub(super) async fn asked(&self, found: &Found<'_>, seen: Option<&Seen<UnitDiff>>) -> Finding {
        let Some(seen) = seen else { return unsettled(found.difference) };
        let diff = &seen.what;
        match diff.verdict {
            Verdict::Match => gone(found.difference),
            Verdict::Mismatch => match seen.row_of(found) {
                Some(_) if self.may_be_paired(found) => unsettled(found.difference),
                // Another part of the unit may be the one that is parked.
                Some(row) if diff.parked.is_some() => self.differing(found, row, self.parked_part(found.scope).await),
                Some(row) => self.differing(found, row, Parked::No),
                // That other rows of the unit are proven wrong says nothing of it.
                None if keys_of(found).iter().any(|key| diff.unproven.contains(key)) => unsettled(found.difference),
                None => gone(found.difference),
            },
            Verdict::Incomplete => match parked_for(diff.parked.as_deref()) {
                Parked::Otherwise => match settle(found.difference, false, Stood::Still, Parked::Otherwise) {
                    Settled::As(finding) => finding,
                    Settled::Ask => unsettled(found.difference),
                },
                Parked::No | Parked::Foreign => unsettled(found.difference),
            },
        }
    }

    /// What a row of a unit comes to that is proven to differ.
    fn differing(&self, found: &Found<'_>, row: &RowDifference, parked: Parked) -> Finding {
        let mut waived = false;
        if let (Some(expected), Some(actual)) = (&row.expected, &row.actual) {
            if !self.alike(found, expected, actual)
                && self.may_be_anothers(found, std::slice::from_ref(expected), std::slice::from_ref(actual))
            {
                return unsettled(found.difference);
            }
            let rules = self.grounds.context.rules.table(row.key.table);
            waived = match rules.compare(expected, actual, self.pair_of(found), &mut Uses::default()) {
                Comparison::Different(fields) => fields.iter().all(|field| field.waived.is_some()),
                Comparison::Equal | Comparison::Tolerated(_) => return gone(found.difference),
            };
        }
        match settle(found.difference, waived, Stood::Still, parked) {
            Settled::As(finding) if waived || parked == Parked::Otherwise => finding,
            _ => proven(found.difference),
        }
    }
}

/// What a row of someone else comes to that nobody expected, beside what is there of such rows now.
///
/// The target's snapshot is older than the source's, so that whoever writes both, the source first, has written it there. The
/// row may have gone from both, or changed in both, in between; if it is as it was, it stands there and is expected by nobody.
pub(super) fn nobodys(found: &Found<'_>, now: Option<&HashMap<TargetKey, [u8; 32]>>) -> Finding {
    let (Difference::Foreign, Some(now), [key]) = (found.difference, now, &*keys_of(found)) else {
        return unsettled(found.difference);
    };
    match now.get(key) {
        None => gone(found.difference),
        Some(digest) if Some(*digest) == found.digests[1] => proven(found.difference),
        Some(_) => unsettled(found.difference),
    }
}

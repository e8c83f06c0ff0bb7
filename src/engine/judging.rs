//! What the differences of a comparison come to: proven at once, followed until they stand still, or unsettled (I8).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::event::{Canonical as _, Key, Value, from_hex, key_text, to_hex};
use crate::project::scope::Scope;
use crate::reconcile::counts::Class;
use crate::reconcile::join::{Difference, Found};
use crate::reconcile::run::Outcome;
use crate::reconcile::settle::{Finding, Parked, Settled, Stood, gone, proven, settle, unsettled};
use crate::reconcile::{Discrepancy, Field, FieldKind, Proof, Shown, Sides, Writer, discrepancy_id, record};
use crate::rules::{Comparison, Pair, Ruleset, Uses};
use crate::target::{TargetKey, TargetRow, TargetTable};

use super::diff::{RowDifference, Verdict};
use super::protocol::{Answer, Motion, PartStand, PartView, Request};
use super::reconcile::{Cut, PAUSE};
use super::unit::unexpected;
use super::{Comparer, Engine, Error, UnitDiff};

/// Bytes of parts' names that one question holds.
const QUESTION_BYTES: usize = 256 * 1024;
/// How often a part that moves is looked at again.
const FOLLOWS: usize = 20;
/// A unit is looked at for as long as this, even when the time for all of them is over.
const LOOK_MIN: Duration = Duration::from_secs(2);

/// Decides what differences come to.
pub(super) struct Judging<'a> {
    pub(super) engine: &'a Engine,
    pub(super) rules: &'a Ruleset,
    pub(super) cut: &'a Cut,
    pub(super) deadline: Instant,
    pub(super) comparer: Option<Comparer<'a>>,
    /// The unit that was looked at last.
    pub(super) looked: Option<(String, Option<Arc<UnitDiff>>)>,
    pub(super) details_left: usize,
    pub(super) started: jiff::Timestamp,
    /// Rows by target table and class: expected ones, and those that are there.
    pub(super) classes: BTreeMap<(u16, Class), (u64, u64)>,
    pub(super) uses: Uses,
}

impl Judging<'_> {
    /// Judges the differences of one partition; all of a part are in the same.
    pub(super) async fn partition(
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
            if Instant::now() > self.deadline {
                break;
            }
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
            if !settled.contains(&Settled::Ask) {
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
            // What lies below a column or an attribute has names that are contents of the row (I12).
            field: field.field.root.to_string(),
            kind: match (&field.expected, &field.actual) {
                (Some(_), None) => FieldKind::Missing,
                (None, _) => FieldKind::Extra,
                _ => FieldKind::Changed,
            },
            expected: field.expected.as_ref().map(shown),
            actual: field.actual.as_ref().map(shown),
            rule: field.waived.map(|rule| rule.0.to_string()),
        };
        let mut fields: Vec<Field> = fields.into_iter().map(field).collect();
        fields.dedup_by(|later, earlier| later.field == earlier.field);
        fields
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

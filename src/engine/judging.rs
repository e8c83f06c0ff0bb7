//! What the differences of a comparison come to: proven at once, followed until they stand still, or unsettled (I8).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;

use crate::event::{Canonical as _, Key, from_hex, to_hex};
use crate::project::scope::{Scope, is_whole, unit_of};
use crate::reconcile::context::Context;
use crate::reconcile::counts::Class;
use crate::reconcile::join::{Difference, Found, Ownership};
use crate::reconcile::recall::InOrder;
use crate::reconcile::settle::{Parked, Settled, Stood, gone, settle};
use crate::reconcile::{Proof, Told};
use crate::rules::{Pair, Uses};
use crate::target::{TargetKey, TargetRow, TargetTable};

use super::Error;
use super::cut::{Cut, PAUSE, unexpected};
use super::diff::RowDifference;
use super::look::{Beside, Looking, UnitDiff};
use super::protocol::{Answer, Motion, PartStand, PartView, Request};
use super::second_look::{Observed, nobodys};
use super::unit::UNITS_AT_ONCE;
use super::witness::{Projection, Witness};

/// Bytes of parts' names that one question holds.
const QUESTION_BYTES: usize = 256 * 1024;
/// A part must not be judged by what was said of another.
const SHORT_ANSWER: &str = "the running process did not say of every part how it stands";
/// How often a part that moves is looked at again.
const FOLLOWS: usize = 20;
/// A unit is looked at for as long as this, even when the time for all of them is over.
const LOOK_MIN: Duration = Duration::from_secs(2);
/// What differences are judged on.
#[derive(Clone, Copy)]
pub struct Grounds<'a> {
    /// What both sides were compared by.
    pub context: &'a Context,
    /// Where both sides stood.
    pub cut: &'a Cut,
    /// Whether it is known which rows of the target rehome wrote.
    pub ownership: Ownership,
    /// Where parts stand is asked here.
    pub projection: &'a dyn Projection,
    /// Rows and units are looked at again through this; what moved is unsettled where there is none.
    pub witness: Option<&'a dyn Witness>,
    /// When what moves is waited for no longer, as [`Projection::elapsed`] tells it.
    pub deadline: Duration,
    /// Units that are read again only to say which fields differ.
    pub details_max: usize,
    /// When the comparison began.
    pub started: jiff::Timestamp,
}

/// Decides what differences come to.
pub struct Judging<'a> {
    pub(super) grounds: Grounds<'a>,
    /// The unit that was looked at last.
    looked: Option<(String, Option<Arc<Seen<UnitDiff>>>)>,
    details_left: usize,
    /// What proves all of them.
    pub(super) proof: Proof,
    /// Rows by target table and class: expected ones, and those that are there.
    pub classes: BTreeMap<(u16, Class), (u64, u64)>,
    /// Uses of rules while differences were looked at.
    pub uses: Uses,
}

/// How a unit was looked at by itself, if it could be.
#[derive(Clone)]
enum Looked {
    /// Through what is projected.
    Through(Option<Arc<Seen<UnitDiff>>>),
    /// Once more, where nobody projects.
    Again(Option<Arc<Seen<Observed>>>),
    /// By the rows alone, where these are of no part that is known: digests of those that are still there.
    Rows(Option<HashMap<TargetKey, [u8; 32]>>),
}

impl Looked {
    /// The row that a difference is about.
    fn row_of(&self, found: &Found<'_>) -> Option<&RowDifference> {
        match self {
            Looked::Through(diff) => diff.as_ref()?.row_of(found),
            Looked::Again(seen) => seen.as_ref()?.row_of(found),
            Looked::Rows(_) => None,
        }
    }
}

/// What was seen of a unit, its rows that differ found by their keys: a unit may have many.
pub(super) struct Seen<T> {
    /// What was seen.
    pub what: T,
    places: HashMap<TargetKey, usize>,
}

impl<T: AsRef<[RowDifference]>> Seen<T> {
    /// Finds the rows that differ.
    pub fn new(what: T) -> Self {
        let mut places = HashMap::new();
        for (place, row) in what.as_ref().iter().enumerate() {
            for key in row.keys() {
                places.entry(key.clone()).or_insert(place);
            }
        }
        Self { what, places }
    }

    /// The first row that a difference is about.
    pub fn row_of(&self, found: &Found<'_>) -> Option<&RowDifference> {
        if self.places.is_empty() {
            return None;
        }
        let place = keys_of(found).iter().filter_map(|key| self.places.get(key)).min()?;
        self.what.as_ref().get(*place)
    }
}

/// What a part was seen as.
enum Stand {
    /// The log does not tell of it.
    Unknown,
    /// It changes, or waits to be projected.
    Moving,
    /// It stood still while the target's rows were read: what the log says it is, and these.
    Still(PartView, Vec<TargetRow>),
}

impl<'a> Judging<'a> {
    /// Judges nothing yet.
    pub fn new(grounds: Grounds<'a>) -> Self {
        let (details_left, cut) = (grounds.details_max, grounds.cut);
        let proof = Proof {
            source: cut.source.map(|position| position.to_string()),
            log: cut.after.as_ref().map(|stand| stand.applied),
            target: cut.target.map(|position| position.to_string()),
        };
        Self { grounds, looked: None, details_left, proof, classes: BTreeMap::new(), uses: Uses::default() }
    }

    /// Judges the differences of one partition; all of a part are in the same.
    ///
    /// # Errors
    /// When differences do not read back, or nobody can say where parts stand.
    pub async fn partition(
        &mut self,
        differences: &InOrder,
        take: &mut (dyn FnMut(Told<'_>) + Send),
    ) -> Result<(), Error> {
        let all = differences.all()?;
        let groups: Vec<&[Found<'_>]> = all.chunk_by(|a, b| a.scope == b.scope).collect();
        let scopes: Vec<&[u8]> = groups.iter().map(|group| group[0].scope).filter(|scope| !scope.is_empty()).collect();
        let mut stood = self.stood(&scopes).await?.into_iter();
        let mut settled = Vec::with_capacity(all.len());
        for group in &groups {
            let stand = if group[0].scope.is_empty() { None } else { stood.next() };
            settled.extend(group.iter().map(|found| {
                let (stand, parked) = stand.unwrap_or_else(|| (self.alone(found.difference), Parked::No));
                settle(found.difference, found.waived, stand, parked)
            }));
        }
        // Parts of a unit stand together.
        let units: Vec<&[&[Found<'_>]]> = groups.chunk_by(|a, b| same_unit(a[0].scope, b[0].scope)).collect();
        // What has to be asked comes first in its turn: time for it is limited.
        let together = !settled.contains(&Settled::Ask);
        let mut details = if together { self.details(&units).await } else { Vec::new() }.into_iter();
        let mut rest = settled.as_mut_slice();
        for of_unit in units {
            let (settled, later) = rest.split_at_mut(of_unit.iter().map(|group| group.len()).sum());
            rest = later;
            let unit = unit_named(of_unit[0][0].scope);
            let seen = match (unit, &self.grounds.cut.before) {
                (Some(_), None) if together => details.next().flatten(),
                (Some(unit), None) => self.observe(unit, of_unit, why(settled)).await,
                _ => None,
            };
            let again = Looked::Again(seen.map(Arc::new));
            let mut rest = settled;
            for group in of_unit {
                let (settled, later) = rest.split_at_mut(group.len());
                rest = later;
                if settled.contains(&Settled::Ask) {
                    self.follow(group[0].scope, group, settled).await;
                }
                let looked = match (unit, &self.grounds.cut.before) {
                    (Some(unit), Some(_)) => Looked::Through(self.look(unit, of_unit, why(settled)).await),
                    (None, _) if why(settled) == Why::Asked => Looked::Rows(self.rows_now(group).await),
                    _ => again.clone(),
                };
                for (found, settled) in group.iter().zip(settled.iter()) {
                    let finding = match *settled {
                        Settled::As(finding) => finding,
                        Settled::Ask => match &looked {
                            Looked::Through(diff) => self.asked(found, diff.as_deref()).await,
                            Looked::Again(seen) => self.observed(found, seen.as_deref()),
                            Looked::Rows(now) => nobodys(found, now.as_ref().filter(|_| self.grounds.cut.ordered)),
                        },
                    };
                    self.tell(found, finding, unit, looked.row_of(found), take);
                }
            }
        }
        Ok(())
    }

    /// Where nobody projects, how units differ: the first ones, in their order, as many as are still to be looked at. Several at once, as
    /// each is mostly waited for.
    async fn details(&mut self, units: &[&[&[Found<'_>]]]) -> Vec<Option<Seen<Observed>>> {
        if self.grounds.cut.before.is_some() {
            return Vec::new();
        }
        let named = units.iter().filter_map(|of_unit| Some((unit_named(of_unit[0][0].scope)?, *of_unit)));
        let wanted: Vec<_> = named.take_while(|_| self.wants(Why::Details)).collect();
        let observing = wanted.into_iter().map(|(unit, of_unit)| self.read_again(unit, of_unit));
        futures_util::stream::iter(observing).buffered(UNITS_AT_ONCE as usize).collect().await
    }

    /// How a row stood whose part nobody knows.
    fn alone(&self, difference: Difference) -> Stood {
        match difference {
            // By the record, it is of no part.
            Difference::Foreign if !self.grounds.cut.moving() => Stood::Nobodys,
            Difference::Foreign => Stood::Moved,
            // There is no record.
            _ if self.grounds.cut.quiet => Stood::Still,
            _ => Stood::Moved,
        }
    }

    /// How parts stood while both sides were read, in the order in which they are named.
    async fn stood(&self, scopes: &[&[u8]]) -> Result<Vec<(Stood, Parked)>, Error> {
        let mut stood = Vec::with_capacity(scopes.len());
        let Grounds { context, cut, projection, .. } = self.grounds;
        let Some(before) = &cut.before else {
            // Nobody projects: whatever both sides held still is real.
            let stand = if cut.quiet { Stood::Still } else { Stood::Moved };
            return Ok(vec![(stand, Parked::No); scopes.len()]);
        };
        let waiting: Option<BTreeSet<&str>> =
            before.waiting.as_ref().map(|waiting| waiting.iter().map(String::as_str).collect());
        let held_back: Option<BTreeSet<&str>> =
            before.held_back.as_ref().map(|parts| parts.iter().map(String::as_str).collect());
        let totals = context.migration.totals() > 0;
        let waits = |scope: &[u8], name: &str| {
            let Some(waiting) = &waiting else { return true };
            // The whole of a unit is written with each part whose sums it shows.
            let unit = to_hex(unit_of(scope));
            let any = || waiting.range(&*unit..).next().is_some_and(|name| name.starts_with(&unit));
            waiting.contains(name) || totals && is_whole(scope) && any()
        };
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
            let stands = match projection.ask(request).await? {
                Answer::Since { parts } => parts,
                other => return Err(unexpected(other)),
            };
            for ((scope, name), PartStand { motion, parked }) in now.iter().zip(&parts).zip(stands) {
                // What rows at the target held back at first may have been written in between, with no newer offset.
                let again = parked.is_none() || cut.after.as_ref().is_none_or(|after| after.again != before.again);
                let freed = again && held_back.as_ref().is_none_or(|parts| parts.contains(&**name));
                let still = motion == Motion::Still && !waits(scope, name) && !freed && cut.after.is_some();
                let stand = if still { Stood::Still } else { Stood::Moved };
                stood.push((stand, parked_for(parked.as_deref())));
            }
        }
        if stood.len() == scopes.len() { Ok(stood) } else { Err(Error::Remote(SHORT_ANSWER.to_owned())) }
    }

    /// Looks at a part that moves again and again, until it stands still for as long as its rows are read, or time is over; what
    /// is still to be asked then is to be looked at with its whole unit.
    async fn follow(&self, scope: &[u8], group: &[Found<'_>], settled: &mut [Settled]) {
        let Grounds { cut, projection, witness, deadline, .. } = self.grounds;
        let (Some(_), Some(witness)) = (&cut.before, witness) else { return };
        let keys: Vec<TargetKey> = group.iter().flat_map(keys_of).collect();
        for _ in 0..FOLLOWS {
            if projection.elapsed() > deadline {
                return;
            }
            match self.see(witness, scope, &keys).await {
                Ok(Stand::Unknown) => return,
                Ok(Stand::Still(part, held)) => {
                    let logged = witness.as_read(part.rows.iter().filter_map(row_from).collect());
                    let parked = parked_for(part.parked.as_deref());
                    let asked = group.iter().zip(settled.iter_mut()).filter(|(_, settled)| **settled == Settled::Ask);
                    asked.for_each(|(found, settled)| *settled = self.decide(found, &logged, &held, parked));
                    return;
                }
                Ok(Stand::Moving) => {}
                // Rows that go while they are evaluated, a store that is out of reach: nothing is known, this time.
                Err(error) => tracing::warn!(error = %error, "a part could not be looked at by itself"),
            }
            projection.pause(PAUSE).await;
        }
    }

    async fn see(&self, witness: &dyn Witness, scope: &[u8], keys: &[TargetKey]) -> Result<Stand, Error> {
        let first = self.part(scope).await?;
        let held = witness.target(keys).await?;
        Ok(match (first, self.part(scope).await?) {
            (None, None) => Stand::Unknown,
            (Some(first), Some(second)) if first == second && !first.moving => Stand::Still(first, held),
            _ => Stand::Moving,
        })
    }

    /// What a part that stands still says of one of its differences, by the rows that the log says it has, and those held.
    ///
    /// If these differ, that is real, whatever the source says. If they are equal, and are what was read of the source, then
    /// the change that made the difference has arrived. If they are equal and something else, the source has moved on, or
    /// holds what the log was never told: that the source alone can say.
    fn decide(&self, found: &Found<'_>, logged: &[TargetRow], held: &[TargetRow], parked: Parked) -> Settled {
        let of = keys_of(found);
        let shape = &self.grounds.context.shapes[usize::from(found.table)];
        let at = |rows: &[TargetRow]| -> Vec<TargetRow> {
            rows.iter().filter(|row| row.table.0 == found.table && of.contains(&shape.key_of(row))).cloned().collect()
        };
        let (wanted, there) = (at(logged), at(held));
        if self.same(found, &wanted, &there) {
            let now = wanted.first().map(|row| self.grounds.context.strict(row));
            return if now == found.digests[0] { Settled::As(gone(found.difference)) } else { Settled::Ask };
        }
        match wanted.is_empty() || self.may_be_paired(found) || self.may_be_anothers(found, &wanted, &there) {
            // Not expected by this part, and there: another part may have it now. Nor do keys tell whether a rule pairs it, or
            // who wrote what came since.
            true => Settled::Ask,
            false => settle(found.difference, false, Stood::Still, parked),
        }
    }

    async fn part(&self, scope: &[u8]) -> Result<Option<PartView>, Error> {
        match self.grounds.projection.ask(Request::Parts { parts: vec![to_hex(scope)] }).await? {
            Answer::Parts { mut parts } => Ok(parts.pop().flatten()),
            other => Err(unexpected(other)),
        }
    }

    /// Why a part is parked now, where that can be said.
    pub(super) async fn parked_part(&self, scope: &[u8]) -> Parked {
        match self.part(scope).await {
            Ok(part) => parked_for(part.and_then(|part| part.parked).as_deref()),
            Err(error) => {
                tracing::warn!(error = %error, "a part could not be looked at by itself");
                Parked::No
            }
        }
    }

    /// Whether there is time to look at a unit by itself.
    pub(super) fn wants(&mut self, why: Why) -> bool {
        let wanted = match why {
            Why::Asked => self.grounds.projection.elapsed() < self.grounds.deadline,
            Why::Details => self.details_left > 0,
        };
        self.details_left = self.details_left.saturating_sub(u32::from(wanted) as usize);
        wanted
    }

    /// Looks at a unit by itself, while there is time for it; once for all of its parts, of which these are what was found.
    async fn look(&mut self, unit: &str, of_unit: &[&[Found<'_>]], why: Why) -> Option<Arc<Seen<UnitDiff>>> {
        if let Some((last, diff)) = &self.looked
            && *last == *unit
        {
            return diff.clone();
        }
        let Grounds { context, projection, witness, deadline, .. } = self.grounds;
        if !self.wants(why) {
            return None;
        }
        let patience = deadline.saturating_sub(projection.elapsed()).max(LOOK_MIN);
        let (migration, tables, rules) = (&context.migration, &context.shapes, Some(&*context.rules));
        let looking = Looking { migration, tables, rules, witness: witness? };
        let found = || of_unit.iter().copied().flatten();
        let ours = found().filter(|found| self.pair_of(found) == Pair::Key);
        let ours = ours.filter_map(|found| key_at(found.table, found.actual)).collect();
        let beside = Beside { keys: found().flat_map(keys_of).collect(), ours };
        let diff = match tokio::time::timeout(patience, looking.unit(unit, &beside)).await {
            Ok(Ok(diff)) => Some(Arc::new(Seen::new(diff))),
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
}

/// The unit of a part that is named so; `None` of rows whose part nobody knows.
fn unit_named(scope: &[u8]) -> Option<&str> {
    match Scope::of(scope) {
        Ok(Scope::Part { unit, .. }) if !scope.is_empty() => Some(unit),
        _ => None,
    }
}

/// Whether two parts are of one unit.
fn same_unit(a: &[u8], b: &[u8]) -> bool {
    unit_named(a).is_some_and(|unit| unit_named(b) == Some(unit))
}

/// Why a part is parked, as far as it matters here.
pub(super) fn parked_for(reason: Option<&str>) -> Parked {
    match reason {
        None => Parked::No,
        Some("foreign" | "matched_foreign") => Parked::Foreign,
        Some(_) => Parked::Otherwise,
    }
}

/// Why a unit is looked at by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// To prove what was found of it, or to see it settled.
    Asked,
    /// To tell which fields differ.
    Details,
}

/// Why parts are looked at whose differences are settled like this.
fn why(settled: &[Settled]) -> Why {
    if settled.contains(&Settled::Ask) { Why::Asked } else { Why::Details }
}

/// The keys of the rows that a difference is about.
pub(super) fn keys_of(found: &Found<'_>) -> Vec<TargetKey> {
    let keys = [found.expected, found.actual].into_iter().filter_map(|locator| key_at(found.table, locator));
    keys.collect::<BTreeSet<TargetKey>>().into_iter().collect()
}

/// The key that a difference keeps of one side; `None` where that has no row.
fn key_at(table: u16, locator: &[u8]) -> Option<TargetKey> {
    let key = Key::decode(locator).ok().filter(|_| !locator.is_empty())?;
    Some(TargetKey::new(TargetTable(table), key.0))
}

/// A row as a running process sent it.
fn row_from((table, text): &(u16, String)) -> Option<TargetRow> {
    let values = Key::decode(&from_hex(text)?).ok()?.0;
    Some(TargetRow { table: TargetTable(*table), values })
}

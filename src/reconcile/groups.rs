//! Faults planted among rows that a rule pairs: a whole group once more, in which just what is wrong must be found.
//!
//! The shadow of a row by its key proves nothing of rows whose keys differ. So groups are chosen too, by a keyed hash of what
//! the rule groups by, which both sides have alike; their rows are kept aside as they are read. When everything is read,
//! [`plant`] makes the shadow of each: every row once more, under a key that no other record of either side has, in a group
//! apart from those of rows, so that only the rule can pair them, and with none but each other. One row of the target's side is
//! wrong, or two at different places.
//!
//! Rows of the two sides may differ anyway, by number too. What a right comparison tells of the shadow is therefore worked out
//! here, row by row and field by field, by another way than the join's: without digests, where it goes by these. It must tell
//! just that. One that is blind to groups tells of every row, one that takes all pairs of a group for equal of too few, one that
//! takes all groups for one of others.
//!
//! About a thousand rows of a table are kept, whatever the sizes of its groups; of a group larger than [`GROUP_ROWS_MAX`], so
//! many and one of each range, and it is left out: a table of larger groups only has no such faults, and the report says so.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use super::Error;
use super::canary::{Around, CLASSES, Class, GROUP_CLASSES, VALUES_FROM, spoilt};
use super::context::Context;
use super::emit::{Emitter, SideOf, Spills};
use super::record::{self, Joined, KeyDigest};
use super::spill::Spill;
use super::sum::Sum;
use crate::event::{Canonical as _, Key, Value};
use crate::rules::{Comparison, Finding, Pair, TableRules, Uses};
use crate::target::{TargetRow, TargetTable};

/// Rows that either side may have of a group that is shadowed.
pub const GROUP_ROWS_MAX: usize = 1_000;
/// Groups shadowed of one table, at most.
const GROUPS_MAX: usize = 100;
/// Rows of a group that are tried for a value that can be changed.
const ROWS_TRIED: usize = 8;

/// Strict digests of both sides of a finding, where they are.
pub type Sides = [Option<[u8; 32]>; 2];

/// The shadow of a group.
#[derive(Debug)]
pub struct Group {
    /// Index of the target table.
    pub table: u16,
    /// The fault.
    pub class: Class,
    /// Keys that its rows go under, of both sides.
    pub keys: Vec<KeyDigest>,
    /// Records of the expected side, and of the target's.
    pub rows: [u64; 2],
    /// What a right comparison tells of it.
    pub told: Told,
}

/// What a right comparison tells of some rows.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// What it finds, in order.
    pub found: Vec<Sides>,
    /// Pairs that differ within what rules tolerate.
    pub tolerated: u64,
    /// Rules that it uses to judge them.
    pub uses: Uses,
}

/// Shadows the groups that were chosen, and says what is to be found in them; rows of both sides must all be read.
///
/// # Errors
/// [`Error::Spill`] and [`Error::SpillBroken`] when a disk does not give what was written, or does not take more.
pub fn plant(context: &Arc<Context>, spills: &Spills) -> Result<Vec<Group>, Error> {
    let [of_expected, of_actual] = &spills.groups;
    let sample = sample(of_expected, of_actual)?;
    let mut emitters = [SideOf::Expected, SideOf::Actual].map(|side| Emitter::new(context, side, spills));
    let (mut planted, salt) = (Vec::new(), context.canaries.group_salt());
    for partition in 0..of_expected.partitions() {
        let (expected, actual) = (read(of_expected, partition)?, read(of_actual, partition)?);
        let mut groups: BTreeMap<(u16, KeyDigest), [Vec<Rc<Member<'_>>>; 2]> = BTreeMap::new();
        for (side, bytes) in [&expected, &actual].into_iter().enumerate() {
            for row in
                record::all(bytes, Joined::take)?.into_iter().filter(|row| sample.contains(&(row.table, row.key)))
            {
                let member = Member::new(context, &row)?;
                groups.entry((row.table, row.key)).or_default()[side].extend(member.map(Rc::new));
            }
        }
        for ((table, name), mut sides) in groups {
            sides.iter_mut().for_each(|rows| rows.sort_by(|a, b| a.place(b)));
            let Some((class, actual, told)) = fault(context, TargetTable(table), &name, &sides) else { continue };
            let [expected, _] = sides;
            let mut group = Group { table, class, keys: Vec::new(), rows: [0; 2], told };
            for (at, (side, rows)) in [(SideOf::Expected, expected), (SideOf::Actual, actual)].into_iter().enumerate() {
                group.rows[at] = rows.len() as u64;
                for (place, member) in rows.iter().enumerate() {
                    let key = context.canaries.key_in_group(&name, side, place);
                    // Under such a key rehome wrote nothing.
                    let scope = if side == SideOf::Expected { member.scope } else { &[] };
                    emitters[at].shadow(&member.row, (key, &salt), (scope, member.locator))?;
                    group.keys.push(key);
                }
            }
            planted.push(group);
        }
    }
    emitters.iter_mut().try_for_each(Emitter::finish)?;
    Ok(planted)
}

/// The groups that are shadowed, by table: of those that are not too large, the first by their names, which are hashes.
fn sample(expected: &Spill, actual: &Spill) -> Result<BTreeSet<(u16, KeyDigest)>, Error> {
    let mut names: BTreeMap<u16, BTreeSet<KeyDigest>> = BTreeMap::new();
    for partition in 0..expected.partitions() {
        let mut sizes: BTreeMap<(u16, KeyDigest), [usize; 2]> = BTreeMap::new();
        for (side, spill) in [expected, actual].into_iter().enumerate() {
            for row in record::all(&read(spill, partition)?, Joined::take)? {
                sizes.entry((row.table, row.key)).or_default()[side] += 1;
            }
        }
        for ((table, name), _) in
            sizes.into_iter().filter(|(_, sizes)| sizes.iter().all(|rows| *rows <= GROUP_ROWS_MAX))
        {
            let names = names.entry(table).or_default();
            names.insert(name);
            if names.len() > GROUPS_MAX {
                names.pop_last();
            }
        }
    }
    let of_table = |(table, names): (u16, BTreeSet<KeyDigest>)| names.into_iter().map(move |name| (table, name));
    Ok(names.into_iter().flat_map(of_table).collect())
}

/// The records of a partition, all that were written.
fn read(spill: &Spill, partition: usize) -> Result<Vec<u8>, Error> {
    let bytes = spill.read(partition)?;
    let mut sum = Sum::default();
    record::all(&bytes, Joined::take)?.iter().for_each(|row| sum.add(&row.strict));
    match sum == spill.written(partition) {
        true => Ok(bytes),
        false => Err(Error::SpillBroken { path: spill.name().into() }),
    }
}

/// A row of a group.
#[derive(Debug, Clone)]
struct Member<'a> {
    row: TargetRow,
    /// What the rule groups it by.
    by: Vec<Value>,
    /// Its place in the group.
    order: Vec<u8>,
    /// Digest of all that is compared of rows that a rule pairs: their keys differ.
    matched: [u8; 32],
    strict: [u8; 32],
    scope: &'a [u8],
    locator: &'a [u8],
}

impl<'a> Member<'a> {
    /// A row as it was kept; `None` where no rule pairs it.
    fn new(context: &Context, row: &Joined<'a>) -> Result<Option<Self>, Error> {
        let values = Key::decode(row.row).map_err(Error::Record)?.0;
        Ok(Self::of(context, TargetRow { table: TargetTable(row.table), values }, row.scope, row.locator))
    }

    fn of(context: &Context, row: TargetRow, scope: &'a [u8], locator: &'a [u8]) -> Option<Self> {
        let pairing = context.rules.table(row.table).pairing(&row)?;
        let (strict, matched) = (context.strict(&row), context.digest(&row, Pair::Match));
        Some(Self { strict, matched, by: pairing.group, order: pairing.order, row, scope, locator })
    }

    /// Which of two rows of a group comes first; of rows that the rule gives one place, the one with the smaller digest.
    fn place(&self, other: &Self) -> Ordering {
        (&self.order, [&self.matched, &self.strict]).cmp(&(&other.order, [&other.matched, &other.strict]))
    }
}

/// The target's side of a group with a fault that adds to what is found, and what is found then. Classes take turns by the
/// group's name; `None` where none fits.
fn fault<'a>(
    context: &Context,
    table: TargetTable,
    name: &KeyDigest,
    [expected, actual]: &[Vec<Rc<Member<'a>>>; 2],
) -> Option<(Class, Vec<Rc<Member<'a>>>, Told)> {
    let rules = context.rules.table(table);
    let plain = told(rules, expected, actual).found.len();
    let chosen = usize::from(name[15]);
    let (last, others) = actual.split_last()?;
    let adds = |class: Class, mut actual: Vec<Rc<Member<'a>>>| {
        actual.sort_by(|a, b| a.place(b));
        let told = told(rules, expected, &actual);
        (told.found.len() > plain).then_some((class, actual, told))
    };
    (0..GROUP_CLASSES.len()).find_map(|turn| {
        let class = GROUP_CLASSES[(chosen + turn) % GROUP_CLASSES.len()];
        match class {
            // The last, so that no other row changes its partner.
            Class::GroupDropped => adds(class, others.to_vec()),
            Class::GroupInvented => adds(class, [&actual[..], &[Rc::clone(last)]].concat()),
            // Two where it can be, at different places: a comparison that is blind to order holds them against each other's partners.
            _ => {
                let tried = (0..actual.len().min(ROWS_TRIED)).map(|row| (chosen + row) % actual.len());
                let mut spoilt = tried.filter_map(|at| Some((at, changed(context, rules, &actual[at], chosen)?)));
                let first = spoilt.next()?;
                let second = spoilt.find(|(_, other)| other.order != first.1.order);
                let mut actual = actual.clone();
                [Some(first), second].into_iter().flatten().for_each(|(at, other)| actual[at] = Rc::new(other));
                adds(class, actual)
            }
        }
    })
}

/// The row with another value in a field that is compared of rows so paired and that the rule does not pair by.
fn changed<'a>(context: &Context, rules: &TableRules, member: &Member<'a>, chosen: usize) -> Option<Member<'a>> {
    let table = member.row.table;
    let columns = context.columns(table);
    let attributes: Vec<Box<str>> = match member.row.values.last() {
        Some(Value::Map(attributes)) if context.items => attributes.keys().cloned().collect(),
        _ => columns.to_vec(),
    };
    let shape = &context.shapes[usize::from(table.0)];
    let keys: Vec<&str> = shape.key.iter().map(|key| &*shape.columns[*key].name).collect();
    let fields: Vec<&str> = attributes.iter().map(|name| &**name).filter(|name| !keys.contains(name)).collect();
    let values = &CLASSES[VALUES_FROM..];
    let tried = (0..fields.len()).flat_map(|field| (0..values.len()).map(move |value| (field, value)));
    tried.into_iter().find_map(|(field, value)| {
        let (field, class) = (fields[(chosen + field) % fields.len()], values[(chosen + value) % values.len()]);
        let around = Around { exact: &|name| name == field, columns, item: context.items, unowned: true };
        let row = spoilt(&member.row, class, &around)?;
        let other = Member::of(context, row, member.scope, member.locator)?;
        let judged = rules.compare(&member.row, &other.row, Pair::Match, &mut Uses::new());
        let differs = matches!(judged, Comparison::Different(_));
        (differs && (&other.by, &other.order) == (&member.by, &member.order)).then_some(other)
    })
}

/// Which rows of one group, which are in their order, a right comparison holds against each other: the first and the first, and of
/// several at one place such as are equal.
fn partners<'m, 'a>(expected: &'m [Rc<Member<'a>>], actual: &'m [Rc<Member<'a>>]) -> Vec<[Option<&'m Member<'a>>; 2]> {
    type Rows<'m, 'a> = VecDeque<&'m Member<'a>>;
    let mut partners = Vec::with_capacity(expected.len().max(actual.len()));
    let (mut left, mut right): (Rows<'m, 'a>, Rows<'m, 'a>) =
        (expected.iter().map(Rc::as_ref).collect(), actual.iter().map(Rc::as_ref).collect());
    let at_first_place = |rows: &Rows<'_, '_>| rows.iter().take_while(|row| row.order == rows[0].order).count();
    loop {
        let [mut of_left, mut of_right] = [&left, &right].map(at_first_place);
        let (mut pairs, mut at) = (of_left.min(of_right), 0);
        if pairs == 0 {
            break;
        }
        while at < of_left {
            let Some(equal) = (0..of_right).find(|other| right[*other].matched == left[at].matched) else {
                at += 1;
                continue;
            };
            partners.push([left.remove(at), right.remove(equal)]);
            (of_left, of_right, pairs) = (of_left - 1, of_right - 1, pairs - 1);
        }
        partners.extend((0..pairs).map(|_| [left.pop_front(), right.pop_front()]));
    }
    partners.extend(left.into_iter().map(|row| [Some(row), None]));
    partners.extend(right.into_iter().map(|row| [None, Some(row)]));
    partners
}

/// What a right comparison tells of rows of one group, which are in their order.
fn told(rules: &TableRules, expected: &[Rc<Member<'_>>], actual: &[Rc<Member<'_>>]) -> Told {
    let mut told = Told::default();
    for [wanted, there] in partners(expected, actual) {
        let mut uses = Uses::new();
        let differs = match (wanted, there) {
            (Some(wanted), Some(there)) => match rules.compare(&wanted.row, &there.row, Pair::Match, &mut uses) {
                Comparison::Equal => continue,
                Comparison::Tolerated(_) => false,
                Comparison::Different(_) => true,
            },
            (Some(row), None) => {
                rules.waiver(Finding::Missing, &row.row, &mut uses);
                true
            }
            (None, Some(row)) => {
                rules.waiver(Finding::Extra, &row.row, &mut uses);
                true
            }
            (None, None) => continue,
        };
        match differs {
            true => told.found.push([wanted, there].map(|row| row.map(|row| row.strict))),
            false => told.tolerated += 1,
        }
        // Only such rules look at rows to judge them.
        if rules.sees_rows() {
            told.uses.merge(&uses);
        }
    }
    told.found.sort_unstable();
    told
}

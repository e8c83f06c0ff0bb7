//! The join of both sides, one partition at a time: what is there, what should be, and how they pair up. Pure.
//!
//! Rows of one key are compared as multisets: equal ones are taken off first, then those that differ, then what is left of
//! either side is missing or too much. Nothing here depends on order, and nothing on how many rows differ.

use std::cmp::Ordering;
use std::collections::HashMap;

use super::emit::SideOf;
use super::record::{self, Joined, KeyDigest, Recorded, fixed};
use crate::event::encoding::put_bytes;
use crate::event::{DecodeError, Reader};
use crate::rules::{Finding, Pair};

/// How a row differs, before anything is proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Difference {
    /// Expected, and not there.
    Missing,
    /// There, written by rehome, and not expected.
    Extra,
    /// There, and not as expected.
    Changed,
    /// There, written by someone else, and not expected.
    Foreign,
    /// There, written by someone else, and not as expected.
    ForeignChanged,
    /// Expected or there more often than on the other side.
    Duplicate,
}

impl Difference {
    /// All of them, in the order of their codes.
    const ALL: [Difference; 6] = [
        Difference::Missing,
        Difference::Extra,
        Difference::Changed,
        Difference::Foreign,
        Difference::ForeignChanged,
        Difference::Duplicate,
    ];
}

/// A difference of one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found<'a> {
    /// How it differs.
    pub difference: Difference,
    /// Index of the target table.
    pub table: u16,
    /// What its sides were paired by.
    pub key: KeyDigest,
    /// The part that it belongs to, as the state names it; empty when nobody knows.
    pub scope: &'a [u8],
    /// Key of the row as it is expected; empty when it is not.
    pub expected: &'a [u8],
    /// Key of the row as it is there; empty when it is not.
    pub actual: &'a [u8],
    /// A rule excuses it.
    pub waived: bool,
    /// Strict digests of both sides, where they are.
    pub digests: [Option<[u8; 32]>; 2],
}

impl<'a> Found<'a> {
    /// Appends the record.
    pub fn put(&self, out: &mut Vec<u8>) {
        let [expected, actual] = &self.digests;
        let sides = u8::from(expected.is_some()) << 6 | u8::from(actual.is_some()) << 5;
        out.push(self.difference as u8 | u8::from(self.waived) << 7 | sides);
        self.digests.iter().flatten().for_each(|digest| out.extend_from_slice(digest));
        out.extend_from_slice(&self.table.to_le_bytes());
        out.extend_from_slice(&self.key);
        [self.scope, self.expected, self.actual].iter().for_each(|bytes| put_bytes(bytes, out));
    }

    /// Reads the record at the front.
    ///
    /// # Errors
    /// [`DecodeError`] when there is none.
    pub fn take(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let code = reader.byte()?;
        let waived = code & 0x80 != 0;
        let difference = *Difference::ALL.get(usize::from(code & 0x1f)).ok_or(DecodeError::End)?;
        let mut digests = [None; 2];
        for (digest, _) in digests.iter_mut().zip([0x40, 0x20]).filter(|(_, bit)| code & bit != 0) {
            *digest = Some(fixed(reader)?);
        }
        let table = u16::from_le_bytes(fixed(reader)?);
        let key = fixed(reader)?;
        let (scope, expected, actual) = (reader.bytes()?, reader.bytes()?, reader.bytes()?);
        Ok(Self { difference, table, key, scope, expected, actual, waived, digests })
    }
}

/// How many rows of one table paired up, and how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Rows expected.
    pub expected: u64,
    /// Rows there.
    pub actual: u64,
    /// Pairs that are equal.
    pub matched: u64,
    /// Of these, pairs whose row someone else wrote.
    pub matched_foreign: u64,
    /// Pairs that differ within what rules tolerate.
    pub tolerated: u64,
    /// Rows expected and not there that a rule says the target may have let go.
    pub expired: u64,
}

impl Counts {
    /// Adds what another worker counted.
    pub fn merge(&mut self, other: &Counts) {
        self.expected += other.expected;
        self.actual += other.actual;
        self.matched += other.matched;
        self.matched_foreign += other.matched_foreign;
        self.tolerated += other.tolerated;
        self.expired += other.expired;
    }
}

/// Sees what the join finds.
pub trait Findings<'a> {
    /// Counts of a table, changed by `change`.
    fn count(&mut self, table: u16, change: impl FnOnce(&mut Counts));

    /// A pair whose digests differ, as the rules see it.
    fn judge(&mut self, expected: &Joined<'a>, actual: &Joined<'a>, by: Pair) -> Judgement;

    /// Whether a rule excuses that a row is on one side only.
    fn excused(&mut self, row: &Joined<'a>, finding: Finding) -> bool;

    /// A difference.
    fn found(&mut self, found: Found<'a>);

    /// A row without a partner of its key, in a table whose rows a rule pairs.
    fn alone(&mut self, side: SideOf, row: &Joined<'a>);
}

/// What the rules say to a pair whose digests differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// Nothing that is compared differs.
    Equal,
    /// All that differs is tolerated.
    Tolerated,
    /// It differs, and a rule excuses all of it.
    Waived,
    /// It differs.
    Different,
}

/// Whether it is known which rows rehome wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    /// Rows name their part, or the target's record does.
    Known,
    /// Nobody recorded it: every row counts as ours.
    Unknown,
}

impl Ownership {
    fn ours(self, row: &Joined<'_>) -> bool {
        self == Ownership::Unknown || !row.scope.is_empty()
    }

    /// Whether a row that is there may be someone else's, and so be paired by a rule, and judged by the rules for such rows. What
    /// is known as rehome's has keys of the mapping's: a wrong one is a difference, and no partner for another.
    fn may_be_foreign(self, row: &Joined<'_>) -> bool {
        self == Ownership::Unknown || row.scope.is_empty()
    }
}

/// Gives every row that is there the part that the target's record says it belongs to.
pub fn attribute<'a>(actual: &mut [Joined<'a>], recorded: &[Recorded<'a>]) {
    let parts: HashMap<(u16, KeyDigest), &'a [u8]> =
        recorded.iter().map(|recorded| ((recorded.table, recorded.key), recorded.scope)).collect();
    for row in actual.iter_mut().filter(|row| row.scope.is_empty()) {
        row.scope = parts.get(&(row.table, row.key)).copied().unwrap_or_default();
    }
}

/// Joins the rows of a partition by their keys; every row is counted here, and once.
pub fn by_key<'a>(
    expected: &[Joined<'a>],
    actual: &[Joined<'a>],
    ownership: Ownership,
    findings: &mut impl Findings<'a>,
) {
    for_each_group(
        &in_order(expected),
        &in_order(actual),
        |row| (row.key, row.table),
        |left, right| {
            let first = left.first().or(right.first()).map_or(0, |row| row.table);
            findings.count(first, |counts| {
                counts.expected += left.len() as u64;
                counts.actual += right.len() as u64;
            });
            pair_up(left, right, ownership, findings);
        },
    );
}

/// Rows by key, and those of one key by their digests. Keys are digests, so that nearly all differ in their first bytes.
fn in_order<'r, 'a>(rows: &'r [Joined<'a>]) -> Vec<&'r Joined<'a>> {
    let order = |row: &Joined<'_>| (row.key, row.table, row.strict);
    let begins = |row: &Joined<'_>| row.key.first_chunk().map_or(0, |first| u64::from_be_bytes(*first));
    record::in_order(rows, begins, |a, b| order(a).cmp(&order(b)))
}

/// Joins rows that a rule pairs by group, in their order.
pub fn by_pairing<'a>(
    expected: &[Joined<'a>],
    actual: &[Joined<'a>],
    ownership: Ownership,
    findings: &mut impl Findings<'a>,
) {
    fn group(row: &Joined<'_>) -> (u16, KeyDigest) {
        (row.table, row.pairing.map_or(row.key, |pairing| pairing.group))
    }
    fn order<'a>(row: &Joined<'a>) -> ((u16, KeyDigest), &'a [u8], [[u8; 32]; 2]) {
        (group(row), place(row), [equal(row), row.strict])
    }
    let [expected, actual] = [expected, actual].map(|rows| {
        let mut rows: Vec<&Joined<'a>> = rows.iter().collect();
        rows.sort_unstable_by(|a, b| order(a).cmp(&order(b)));
        rows
    });
    for_each_group(&expected, &actual, group, |left, right| pair_in_order(left, right, ownership, findings));
}

/// A row's place among those that a rule pairs.
fn place<'a>(row: &Joined<'a>) -> &'a [u8] {
    row.pairing.map_or(&[], |pairing| pairing.order)
}

/// What two rows have alike that a rule pairs and that are equal but for their keys.
fn equal(row: &Joined<'_>) -> [u8; 32] {
    row.pairing.map_or(row.strict, |pairing| pairing.strict)
}

/// Pairs up the rows of one group, which both sides have in the order of their places: the first with the first. Those at one
/// place have no order among them: as many of them as the other side has rows for are taken, the equal ones first.
fn pair_in_order<'a>(
    expected: &[&Joined<'a>],
    actual: &[&Joined<'a>],
    ownership: Ownership,
    findings: &mut impl Findings<'a>,
) {
    let (mut wanted, mut there) =
        (expected.chunk_by(|a, b| place(a) == place(b)), actual.chunk_by(|a, b| place(a) == place(b)));
    let (mut left, mut right): (Vec<&Joined<'a>>, Vec<&Joined<'a>>) = (Vec::new(), Vec::new());
    loop {
        if left.is_empty() {
            left.extend(wanted.next().unwrap_or_default().iter().copied());
        }
        if right.is_empty() {
            right.extend(there.next().unwrap_or_default().iter().copied());
        }
        let (pairs, all) = (left.len().min(right.len()), left.len());
        if pairs == 0 {
            break;
        }
        let same = |a: &Joined<'a>, b: &Joined<'a>| pair(a, b, true, Pair::Match, ownership, findings);
        (left, right) = take_equal(left, right, equal, same);
        let differing = pairs - (all - left.len());
        for (a, b) in left.drain(..differing).zip(right.drain(..differing)) {
            pair(a, b, false, Pair::Match, ownership, findings);
        }
    }
    left.into_iter().chain(wanted.flatten().copied()).for_each(|row| missing(row, Several::No, findings));
    right.into_iter().chain(there.flatten().copied()).for_each(|row| too_many(row, Several::No, ownership, findings));
}

/// Visits the rows of each group on both sides, in order.
fn for_each_group<'r, 'a, G: Ord>(
    mut expected: &'r [&'r Joined<'a>],
    mut actual: &'r [&'r Joined<'a>],
    group: impl Fn(&Joined<'a>) -> G,
    mut visit: impl FnMut(&'r [&'r Joined<'a>], &'r [&'r Joined<'a>]),
) {
    loop {
        let next = match (expected.first(), actual.first()) {
            (None, None) => return,
            (Some(row), None) | (None, Some(row)) => group(row),
            (Some(left), Some(right)) => group(left).min(group(right)),
        };
        let of = |rows: &[&Joined<'a>]| rows.iter().take_while(|row| group(row) == next).count();
        let ((left, more), (right, rest)) = (expected.split_at(of(expected)), actual.split_at(of(actual)));
        (expected, actual) = (more, rest);
        visit(left, right);
    }
}

/// Whether one side has several rows of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Several {
    Yes,
    No,
}

/// Pairs up the rows of one key, which both sides have in the order of their digests.
fn pair_up<'a>(
    expected: &[&Joined<'a>],
    actual: &[&Joined<'a>],
    ownership: Ownership,
    findings: &mut impl Findings<'a>,
) {
    if let ([one], [other]) = (expected, actual) {
        // Nearly always.
        return pair(one, other, one.strict == other.strict, Pair::Key, ownership, findings);
    }
    let same = |a: &Joined<'a>, b: &Joined<'a>| pair(a, b, true, Pair::Key, ownership, findings);
    let (left, right) = take_equal(expected.iter().copied(), actual.iter().copied(), |row| row.strict, same);
    let several = if expected.len() > 1 || actual.len() > 1 { Several::Yes } else { Several::No };
    let both = left.len().min(right.len());
    left.iter().zip(&right).for_each(|(a, b)| pair(a, b, false, Pair::Key, ownership, findings));
    // Rules pair only rows whose key the other side lacks.
    let alone = |row: &Joined<'_>| row.pairing.is_some() && (expected.is_empty() || actual.is_empty());
    for row in &left[both..] {
        if alone(row) { findings.alone(SideOf::Expected, row) } else { missing(row, several, findings) }
    }
    for row in &right[both..] {
        if alone(row) && ownership.may_be_foreign(row) {
            findings.alone(SideOf::Actual, row);
        } else {
            too_many(row, several, ownership, findings);
        }
    }
}

/// Pairs rows that are equal by some digest, in the order of which both sides have them; answers with what is left of either.
fn take_equal<'r, 'a: 'r>(
    expected: impl IntoIterator<Item = &'r Joined<'a>>,
    actual: impl IntoIterator<Item = &'r Joined<'a>>,
    by: impl Fn(&Joined<'a>) -> [u8; 32],
    mut same: impl FnMut(&Joined<'a>, &Joined<'a>),
) -> (Vec<&'r Joined<'a>>, Vec<&'r Joined<'a>>) {
    let (mut left, mut right) = (Vec::new(), Vec::new());
    let (mut wanted, mut there) = (expected.into_iter().peekable(), actual.into_iter().peekable());
    loop {
        let order = match (wanted.peek(), there.peek()) {
            (Some(a), Some(b)) => by(a).cmp(&by(b)),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return (left, right),
        };
        match order {
            Ordering::Less => left.extend(wanted.next()),
            Ordering::Greater => right.extend(there.next()),
            Ordering::Equal => {
                if let (Some(a), Some(b)) = (wanted.next(), there.next()) {
                    same(a, b);
                }
            }
        }
    }
}

fn pair<'a>(
    expected: &Joined<'a>,
    actual: &Joined<'a>,
    same: bool,
    by: Pair,
    ownership: Ownership,
    findings: &mut impl Findings<'a>,
) {
    let foreign = !ownership.ours(actual);
    let by = if by == Pair::Key && ownership.may_be_foreign(actual) { Pair::Foreign } else { by };
    let judgement = match same {
        true => Judgement::Equal,
        false if expected.row.is_empty() => Judgement::Different,
        false => findings.judge(expected, actual, by),
    };
    match judgement {
        Judgement::Equal => findings.count(expected.table, |counts| {
            counts.matched += 1;
            counts.matched_foreign += u64::from(foreign);
        }),
        Judgement::Tolerated => findings.count(expected.table, |counts| counts.tolerated += 1),
        Judgement::Waived | Judgement::Different => findings.found(Found {
            difference: if foreign { Difference::ForeignChanged } else { Difference::Changed },
            table: expected.table,
            key: expected.key,
            scope: if expected.scope.is_empty() { actual.scope } else { expected.scope },
            expected: expected.locator,
            actual: actual.locator,
            waived: judgement == Judgement::Waived,
            digests: [Some(expected.strict), Some(actual.strict)],
        }),
    }
}

fn missing<'a>(row: &Joined<'a>, several: Several, findings: &mut impl Findings<'a>) {
    if row.transient {
        return findings.count(row.table, |counts| counts.expired += 1);
    }
    let difference = if several == Several::Yes { Difference::Duplicate } else { Difference::Missing };
    let waived = !row.row.is_empty() && findings.excused(row, Finding::Missing);
    let Joined { table, key, scope, locator, .. } = *row;
    let digests = [Some(row.strict), None];
    findings.found(Found { difference, table, key, scope, expected: locator, actual: &[], waived, digests });
}

fn too_many<'a>(row: &Joined<'a>, several: Several, ownership: Ownership, findings: &mut impl Findings<'a>) {
    let difference = match (ownership.ours(row), several) {
        (true, Several::Yes) => Difference::Duplicate,
        (true, Several::No) => Difference::Extra,
        (false, _) => Difference::Foreign,
    };
    let waived = !row.row.is_empty() && findings.excused(row, Finding::Extra);
    let Joined { table, key, scope, locator, .. } = *row;
    let digests = [None, Some(row.strict)];
    findings.found(Found { difference, table, key, scope, expected: &[], actual: locator, waived, digests });
}

//! The join of both sides, one partition at a time: what is there, what should be, and how they pair up. Pure.
//!
//! Rows of one key are compared as multisets: equal ones are taken off first, then those that differ, then what is left of
//! either side is missing or too much. Nothing here depends on order, and nothing on how many rows differ.

use std::collections::HashMap;

use super::record::{Joined, KeyDigest, Recorded};

/// How a row differs, before anything is proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
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

/// A difference of one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found<'a> {
    /// How it differs.
    pub kind: Kind,
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
    /// Pairs that differ in tolerated fields at most, and are to be looked at.
    pub near: u64,
}

/// Sees what the join finds.
pub trait Findings<'a> {
    /// Counts of a table, changed by `change`.
    fn count(&mut self, table: u16, key: &KeyDigest, change: impl Fn(&mut Counts));

    /// A difference.
    fn found(&mut self, found: Found<'a>);

    /// A pair that differs in tolerated fields at most.
    fn near(&mut self, found: Found<'a>);
}

/// Whether it is known which rows rehome wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    /// Rows name their part, or the target's record does.
    Known,
    /// Nobody recorded it: every row counts as ours.
    Unknown,
}

/// Gives every row that is there the part that the target's record says it belongs to.
pub fn attribute<'a>(actual: &mut [Joined<'a>], recorded: &[Recorded<'a>]) {
    let parts: HashMap<(u16, KeyDigest), &'a [u8]> =
        recorded.iter().map(|recorded| ((recorded.table, recorded.key), recorded.scope)).collect();
    for row in actual.iter_mut().filter(|row| row.scope.is_empty()) {
        row.scope = parts.get(&(row.table, row.key)).copied().unwrap_or_default();
    }
}

/// Joins the rows of a partition.
pub fn join<'a>(
    expected: &mut [Joined<'a>],
    actual: &mut [Joined<'a>],
    ownership: Ownership,
    findings: &mut impl Findings<'a>,
) {
    let order = |row: &Joined<'_>| (row.table, row.pair.unwrap_or(row.key), row.strict);
    expected.sort_unstable_by_key(order);
    actual.sort_unstable_by_key(order);
    let (mut wanted, mut there) = (&*expected, &*actual);
    loop {
        let next = match (wanted.first(), there.first()) {
            (None, None) => return,
            (Some(row), None) | (None, Some(row)) => group(row),
            (Some(left), Some(right)) => group(left).min(group(right)),
        };
        let (left, right) = (take(&mut wanted, next), take(&mut there, next));
        pair_up(next, left, right, ownership, findings);
    }
}

fn group(row: &Joined<'_>) -> (u16, KeyDigest) {
    (row.table, row.pair.unwrap_or(row.key))
}

/// Takes the rows of one key off the front.
fn take<'r, 'a>(rows: &mut &'r [Joined<'a>], of: (u16, KeyDigest)) -> &'r [Joined<'a>] {
    let count = rows.iter().take_while(|row| group(row) == of).count();
    let (taken, rest) = rows.split_at(count);
    *rows = rest;
    taken
}

/// Pairs up the rows of one key, which both sides have in the order of their digests.
fn pair_up<'a>(
    (table, key): (u16, KeyDigest),
    expected: &[Joined<'a>],
    actual: &[Joined<'a>],
    ownership: Ownership,
    findings: &mut impl Findings<'a>,
) {
    findings.count(table, &key, |counts| {
        counts.expected += expected.len() as u64;
        counts.actual += actual.len() as u64;
    });
    let ours = |row: &Joined<'_>| ownership == Ownership::Unknown || !row.scope.is_empty();
    let (mut left, mut right): (Vec<&Joined<'a>>, Vec<&Joined<'a>>) = (Vec::new(), Vec::new());
    let (mut wanted, mut there) = (expected.iter().peekable(), actual.iter().peekable());
    loop {
        match (wanted.peek(), there.peek()) {
            (Some(a), Some(b)) if a.strict == b.strict => {
                let foreign = !ours(b);
                findings.count(table, &key, |counts| {
                    counts.matched += 1;
                    counts.matched_foreign += u64::from(foreign);
                });
                (wanted.next(), there.next());
            }
            (Some(a), Some(b)) if a.strict < b.strict => left.extend(wanted.next()),
            (Some(_), None) => left.extend(wanted.next()),
            (_, Some(_)) => right.extend(there.next()),
            (None, None) => break,
        }
    }
    let several = expected.len() > 1 || actual.len() > 1;
    let both = left.len().min(right.len());
    for (a, b) in left.iter().zip(&right) {
        let scope = if a.scope.is_empty() { b.scope } else { a.scope };
        let kind = if ours(b) { Kind::Changed } else { Kind::ForeignChanged };
        let found = Found { kind, table, key, scope, expected: a.locator, actual: b.locator };
        if a.tolerant == b.tolerant && a.strict != a.tolerant {
            findings.count(table, &key, |counts| counts.near += 1);
            findings.near(found);
        } else {
            findings.found(found);
        }
    }
    for a in &left[both..] {
        let kind = if several { Kind::Duplicate } else { Kind::Missing };
        findings.found(Found { kind, table, key, scope: a.scope, expected: a.locator, actual: &[] });
    }
    for b in &right[both..] {
        let kind = match (ours(b), several) {
            (true, true) => Kind::Duplicate,
            (true, false) => Kind::Extra,
            (false, _) => Kind::Foreign,
        };
        findings.found(Found { kind, table, key, scope: b.scope, expected: &[], actual: b.locator });
    }
}

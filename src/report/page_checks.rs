//! What fills the page about the comparison itself: whether it read everything, lost nothing and would have found a fault.

use crate::reconcile::{Cover, Digests, Side, Summary};

use super::page_parts::KEY_MAX;
use super::words::{self, clipped, number, plain};

/// Something that the comparison checked about itself or without the mapping.
pub struct Check {
    /// All of it holds.
    pub good: bool,
    /// What was checked, and how that went.
    pub title: String,
    /// One for each thing checked.
    pub rows: Vec<CheckRow>,
}

/// One line of a check.
pub struct CheckRow {
    /// It holds.
    pub good: bool,
    /// What.
    pub name: String,
    /// How it went.
    pub text: String,
    /// Keys of groups that break it.
    pub keys: Vec<String>,
}

/// What the comparison checked of itself, and what does not go through the mapping.
pub fn checks(summary: &Summary) -> Vec<Check> {
    let checks = [expects(summary), canaries(summary), ledger(summary), hops(summary)];
    checks.into_iter().flatten().collect()
}

/// A check of these lines, the bad ones first; none when there are no lines.
fn check(mut rows: Vec<CheckRow>, title: impl FnOnce(u64) -> String) -> Option<Check> {
    rows.sort_by_key(|row| row.good);
    let bad = rows.iter().filter(|row| !row.good).count() as u64;
    (!rows.is_empty()).then(|| Check { good: bad == 0, title: title(bad), rows })
}

fn expects(summary: &Summary) -> Option<Check> {
    let rows = summary.expects.iter().map(|expect| CheckRow {
        good: expect.broken == 0 && expect.holding == expect.groups,
        name: format!("{} ({})", plain(&expect.name), plain(&expect.table)),
        text: format!("holds for {} of {}", number(expect.holding), words::some(expect.groups, "group", "groups")),
        keys: expect.first.iter().map(|key| clipped(&plain(key), KEY_MAX)).collect(),
    });
    let all = words::some(summary.expects.len() as u64, "invariant", "invariants");
    check(rows.collect(), |bad| match bad {
        0 => format!("{all} beside the mapping, none broken"),
        bad => format!("{all} beside the mapping, {} broken", number(bad)),
    })
}

fn canaries(summary: &Summary) -> Option<Check> {
    let rows = summary.canaries.iter().map(|class| CheckRow {
        good: class.found == class.planted,
        name: format!("{} in {}", plain(&class.class), plain(&class.table)),
        text: match &class.not_applicable {
            Some(reason) => format!("none could be planted: {}", plain(reason)),
            None => format!("{} of {} found", number(class.found), number(class.planted)),
        },
        keys: Vec::new(),
    });
    let (planted, found) = summary.recall();
    check(rows.collect(), |_| format!("{} of {} planted faults found", number(found), number(planted)))
}

fn ledger(summary: &Summary) -> Option<Check> {
    let rows = summary.ledger.iter().map(|entry| {
        let (ranges, pages) = (words::some(entry.ranges, "range", "ranges"), words::some(entry.pages, "page", "pages"));
        let side = match entry.side {
            Side::Source => "source",
            Side::Target => "target",
        };
        let cover = match entry.cover {
            Cover::Complete => "covered without a gap",
            Cover::Gap => "NOT COVERED",
        };
        CheckRow {
            good: entry.cover == Cover::Complete,
            name: format!("{side} {}", plain(&entry.table)),
            text: format!(
                "{} rows in {ranges}, {pages}, under {}: {cover}",
                number(entry.rows),
                plain(&entry.snapshot)
            ),
            keys: Vec::new(),
        }
    });
    let all = words::some(summary.ledger.len() as u64, "table", "tables");
    check(rows.collect(), |bad| match bad {
        0 => format!("{all} read to the end, every range once"),
        bad => format!("{} of {all} not covered", number(bad)),
    })
}

fn hops(summary: &Summary) -> Option<Check> {
    let rows = summary.hops.iter().map(|hop| {
        let (sums, equal) = match hop.digests {
            Digests::Equal => ("sums of digests equal", true),
            Digests::Different => ("SUMS OF DIGESTS DIFFER", false),
        };
        CheckRow {
            good: equal && hop.rows_in == hop.rows_out,
            name: format!("{} of {}", plain(&hop.stage), plain(&hop.table)),
            text: format!("{} in, {} out, {sums}", number(hop.rows_in), number(hop.rows_out)),
            keys: Vec::new(),
        }
    });
    let all = words::some(summary.hops.len() as u64, "stage", "stages");
    check(rows.collect(), |bad| match bad {
        0 => format!("{all} of the comparison gave out what went in"),
        bad => format!("{} of {all} of the comparison lost or changed rows", number(bad)),
    })
}

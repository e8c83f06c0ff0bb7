//! A table that an application writes too: its rows have keys of its own, and a rule pairs them.

use std::sync::Arc;

use rehome::event::Value;
use rehome::reconcile::actual::Owners;
use rehome::reconcile::canary::Canaries;
use rehome::reconcile::join::Difference::Foreign;

use super::bench::{Bench, row};

/// Rows of either side.
const ROWS: i64 = 2_000;
/// The application's ids begin here.
const THEIRS: i64 = 1_000_000;
/// Rows of one call, which are of one group.
const CALL_ROWS: i64 = 10;

const MATCH: &str = r#"
[[match]]
table = "t_new"
by = [".note"]
order = [".at"]
reason = "the application gives its rows ids of its own"
"#;

fn calls() -> Vec<Vec<Value>> {
    (1..=ROWS).map(|id| row(id, &format!("call {}", id / CALL_ROWS))).collect()
}

/// The same rows as the application writes them.
fn theirs(mut rows: Vec<Vec<Value>>) -> Vec<Vec<Value>> {
    rows.iter_mut().for_each(|row| row[0] = Value::Int(id(row) + THEIRS));
    rows
}

fn id(row: &[Value]) -> i64 {
    match row[0] {
        Value::Int(id) => id,
        _ => panic!("ids are numbers"),
    }
}

/// A bench with canaries, to which ids tell who wrote a row.
fn known() -> Bench {
    let owner = |values: &mut Vec<Value>| (id(values) < THEIRS).then(|| b"ours".to_vec());
    let canaries = Canaries::new([9; 32], &[ROWS.unsigned_abs()]);
    Bench { owners: Owners::Marks(Arc::new(owner)), canaries, ..Bench::by(MATCH) }
}

/// I8: a shadow takes no row's partner.
#[tokio::test(flavor = "multi_thread")]
async fn planted_faults_leave_rows_that_are_paired_by_a_rule_to_each_other() {
    let compared = known().compare(calls(), theirs(calls())).await;
    compared.found_exactly(&[]);
    let (counts, rows) = (compared.outcome.counts[0], ROWS.unsigned_abs());
    assert_eq!((counts.expected, counts.actual), (rows, rows));
    assert_eq!((counts.matched, counts.matched_foreign), (rows, rows));
    let (planted, found) = compared.summary().recall();
    assert!(planted > 50 && planted == found, "{found} of {planted}");
}

/// I8: nor does a shadow stand for a row that is missing.
#[tokio::test(flavor = "multi_thread")]
async fn planted_faults_hide_no_row_that_a_rule_could_pair() {
    let twice = [calls(), theirs(calls())].concat();
    let compared = known().compare(calls(), twice).await;
    let too_many: Vec<_> = (1..=ROWS).map(|id| (id + THEIRS, Foreign)).collect();
    compared.found_exactly(&too_many);
    let (planted, found) = compared.summary().recall();
    assert!(planted > 50 && planted == found, "{found} of {planted}");
}

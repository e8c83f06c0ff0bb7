//! A table that an application writes too: its rows have keys of its own, and a rule pairs them.

use std::sync::Arc;

use rehome::event::{Timestamp, Value};
use rehome::reconcile::actual::Owners;
use rehome::reconcile::canary::Canaries;
use rehome::reconcile::join::Difference::{Changed, Duplicate, Extra, Foreign, ForeignChanged, Missing};

use super::bench::{Bench, row, rows};

/// Rows of either side.
pub const ROWS: i64 = 2_000;
/// The application's ids begin here.
pub const THEIRS: i64 = 1_000_000;
/// Rows of one call, which are of one group.
const CALL_ROWS: i64 = 10;

pub const MATCH: &str = r#"
[[match]]
table = "t_new"
by = [".note"]
order = [".at"]
reason = "the application gives its rows ids of its own"
"#;

const NEAR: &str = r#"
[[tolerate]]
table = "t_new"
fields = ["at"]
window = "1 min"
when = "foreign"
reason = "both writers stamp the same row, one after the other"
"#;

pub fn calls() -> Vec<Vec<Value>> {
    (1..=ROWS).map(|id| row(id, &format!("call {}", id / CALL_ROWS))).collect()
}

/// The same rows as the application writes them.
pub fn theirs(mut rows: Vec<Vec<Value>>) -> Vec<Vec<Value>> {
    rows.iter_mut().for_each(|row| row[0] = Value::Int(id(row) + THEIRS));
    rows
}

pub fn id(row: &[Value]) -> i64 {
    match row[0] {
        Value::Int(id) => id,
        _ => panic!("ids are numbers"),
    }
}

/// Stamps a row later than it is.
pub fn delay(row: &mut [Value], seconds: i64) {
    if let Value::Timestamp(Timestamp(us)) = &mut row[3] {
        *us += 1_000_000 * seconds;
    }
}

/// Ids tell who wrote a row.
pub fn owners() -> Owners {
    Owners::Marks(Arc::new(|values| (id(values) < THEIRS).then(|| b"ours".to_vec())))
}

/// A bench with canaries, to which it is known who wrote a row.
pub fn known() -> Bench {
    let canaries = Canaries::new([9; 32], &[ROWS.unsigned_abs()]);
    Bench { owners: owners(), canaries, ..Bench::by(MATCH) }
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

/// I8: where rehome never wrote, rows of other keys are someone else's as much as where it recorded its own.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_nobody_recorded_are_paired_by_a_rule() {
    let bench = || Bench::by(&[MATCH, NEAR].concat());
    let mut target = theirs(rows(200));
    target.iter_mut().step_by(2).for_each(|row| delay(row, 5));
    let compared = bench().compare(rows(200), target.clone()).await;
    compared.found_exactly(&[]);
    assert_eq!((compared.outcome.counts[0].matched, compared.outcome.counts[0].tolerated), (100, 100));

    target[6] = row(THEIRS + 5_000, "nobody wants it");
    delay(&mut target[9], 61);
    target[19][2] = Value::Int(1);
    let found = [(7, Missing), (10, Changed), (20, Changed), (THEIRS + 5_000, Extra)];
    bench().compare(rows(200), target).await.found_exactly(&found);
}

/// I8: rows that the rule gives one place are paired with their equals, whatever their keys are.
#[tokio::test(flavor = "multi_thread")]
async fn rows_of_one_place_are_paired_with_their_equals() {
    let at_once = |mut rows: Vec<Vec<Value>>| {
        for row in &mut rows {
            row[2] = Value::Int(id(row));
            row[3] = Value::Timestamp(Timestamp(0));
        }
        rows
    };
    let (source, mut target) = (at_once(calls()), theirs(at_once(calls())));
    let compared = known().compare(source.clone(), target.clone()).await;
    compared.found_exactly(&[]);
    let (planted, found) = compared.summary().recall();
    assert!(planted > 50 && planted == found, "{found} of {planted}");
    // Whatever differs at a place leaves the equal ones to each other.
    target[15][2] = Value::Int(-1);
    target.push(theirs(at_once(vec![row(ROWS + 1, "call 3")])).remove(0));
    target.remove(6);
    let compared = known().compare(source, target).await;
    compared.found_exactly(&[(7, Missing), (16, ForeignChanged), (THEIRS + ROWS + 1, Foreign)]);
    let (planted, found) = compared.summary().recall();
    assert!(planted > 50 && planted == found, "{found} of {planted}");
}

/// I8: a row that is there twice has a counterpart, and is none for a row that is missing.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_there_twice_is_not_paired_by_a_rule() {
    let source = vec![row(1, "call"), row(2, "call")];
    let target = vec![row(1, "call"), row(1, "call")];
    let compared = Bench::by(&[MATCH, NEAR].concat()).compare(source, target).await;
    compared.found_exactly(&[(1, Duplicate), (2, Missing)]);
}

/// I8: planted faults are no one's partner there either.
#[tokio::test(flavor = "multi_thread")]
async fn planted_faults_are_found_where_nobody_recorded_rows() {
    for target in [calls(), theirs(calls())] {
        let compared = Bench { owners: Owners::Unknown, ..known() }.compare(calls(), target).await;
        compared.found_exactly(&[]);
        assert_eq!(compared.outcome.counts[0].matched, ROWS.unsigned_abs());
        let (planted, found) = compared.summary().recall();
        assert!(planted > 50 && planted == found, "{found} of {planted}");
    }
}

/// I8: rows that nobody recorded may differ in what rules let someone else's differ in, also under keys of the mapping's.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_nobody_recorded_are_judged_as_someone_elses() {
    let mut target = rows(50);
    target.iter_mut().for_each(|row| delay(row, 5));
    delay(&mut target[9], 56);
    let compared = Bench::by(NEAR).compare(rows(50), target.clone()).await;
    compared.found_exactly(&[(10, Changed)]);
    assert_eq!(compared.outcome.counts[0].tolerated, 49);
    let compared = Bench { owners: owners(), ..Bench::by(NEAR) }.compare(rows(50), target).await;
    assert_eq!(compared.outcome.differences, [((0, Changed), 50)].into(), "of ours nothing is tolerated");
}

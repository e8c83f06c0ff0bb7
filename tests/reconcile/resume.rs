//! A comparison that failed in the middle goes on, and finds what one that never failed finds.

use rehome::event::Value;
use rehome::reconcile::canary::Canaries;
use rehome::reconcile::{Error, Verdict};

use super::bench::{Bench, Compared, Fault, Rows, row, rows};
use super::dual::MATCH;

/// Rows of either side, ten to a range.
const ROWS: i64 = 2_000;

fn bench() -> Bench {
    Bench { canaries: Canaries::new([9; 32], &[2_000]), ..Bench::new() }
}

fn plain(rows: &[Vec<Value>]) -> Rows {
    Rows::new(rows.to_vec())
}

fn failing(rows: &[Vec<Value>], range: u32) -> Rows {
    Rows { fault: Some((range, Fault::Fails)), ..Rows::new(rows.to_vec()) }
}

/// A target in which three rows are wrong, in ranges far apart.
fn damaged() -> Vec<Vec<Value>> {
    let mut rows = rows(ROWS);
    rows[15] = row(16, "other");
    rows[1_900] = row(1_901, "other");
    rows.remove(1_000);
    rows
}

/// Panics unless both came to the same.
fn same(one: &Compared, other: &Compared) {
    assert_eq!(one.found, other.found);
    let (one, other) = (&one.outcome, &other.outcome);
    assert_eq!((&one.source, &one.expected, &one.actual), (&other.source, &other.expected, &other.actual));
    assert_eq!((&one.counts, &one.differences, &one.recall), (&other.counts, &other.differences, &other.recall));
    assert_eq!((&one.hops, &one.uses), (&other.hops, &other.uses));
    assert_eq!((&one.source_done, &one.target_done), (&other.source_done, &other.target_done));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_comparison_that_goes_on_finds_what_one_that_never_stopped_finds() {
    goes_on(bench).await;
}

/// Also the rows that were kept aside because a rule pairs them.
#[tokio::test(flavor = "multi_thread")]
async fn a_comparison_of_rows_that_a_rule_pairs_goes_on() {
    goes_on(|| Bench { canaries: Canaries::new([9; 32], &[2_000]), ..Bench::by(MATCH) }).await;
}

async fn goes_on(bench: fn() -> Bench) {
    let (source, target) = (rows(ROWS), damaged());
    let whole = bench().try_compare(plain(&source), plain(&target)).await.expect("it comes to its end");
    assert_eq!(whole.found.len(), 3);
    for (of_source, of_target) in [(Some(0), None), (Some(57), Some(120)), (None, Some(199)), (Some(199), None)] {
        let folder = tempfile::tempdir().expect("a folder");
        let side = |rows: &[Vec<Value>], range| match range {
            Some(range) => failing(rows, range),
            None => plain(rows),
        };
        let failed = bench().go_on(folder.path(), side(&source, of_source), side(&target, of_target)).await;
        assert!(matches!(failed.err(), Some(Error::Side { .. })));
        let resumed = bench().go_on(folder.path(), plain(&source), plain(&target)).await.expect("it goes on");
        let kept: u64 = resumed.outcome.earlier.values().sum();
        assert!(kept > 0 || of_source == Some(0), "{of_source:?} {of_target:?}");
        same(&whole, &resumed);
        let summary = resumed.summary();
        let (planted, found) = summary.recall();
        assert!(planted > 50 && planted == found, "{found} of {planted}");
        assert_eq!(summary.cut.snapshots.iter().map(|snapshot| snapshot.earlier_ranges).sum::<u64>(), kept);
        assert!(summary.sources.iter().all(|count| count.balanced()));
    }
}

/// Also one that fails again and again, and after everything was read.
#[tokio::test(flavor = "multi_thread")]
async fn it_may_fail_as_often_as_it_likes() {
    let (source, target) = (rows(ROWS), rows(ROWS));
    let folder = tempfile::tempdir().expect("a folder");
    let mut kept = 0;
    for range in [3, 90, 150] {
        let failed = bench().go_on(folder.path(), failing(&source, range), failing(&target, range)).await;
        assert!(failed.is_err(), "{range}: a side that fails keeps the other from going on");
    }
    for _ in 0..2 {
        let resumed = bench().go_on(folder.path(), plain(&source), plain(&target)).await.expect("it goes on");
        resumed.found_exactly(&[]);
        assert_eq!(resumed.summary().verdict, Verdict::Match, "{:?}", resumed.summary().why);
        let now: u64 = resumed.outcome.earlier.values().sum();
        assert!(now > kept, "{now} after {kept}");
        kept = now;
    }
    assert_eq!(kept, 400, "the second time nothing was left to be read");
}

/// What a dead machine lost of the spills is not taken for rows that never were.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_lost_of_what_was_read_is_an_error() {
    let (source, target) = (rows(ROWS), rows(ROWS));
    let folder = tempfile::tempdir().expect("a folder");
    assert!(bench().go_on(folder.path(), failing(&source, 150), plain(&target)).await.is_err());
    let path = folder.path().join("expected-1");
    let length = std::fs::metadata(&path).expect("a spill").len();
    std::fs::File::options().write(true).open(&path).and_then(|file| file.set_len(length / 2)).expect("writable");
    let failed = bench().go_on(folder.path(), plain(&source), plain(&target)).await;
    assert!(matches!(failed.err(), Some(Error::SpillBroken { .. })));
}

/// Ranges of a table that was rewritten are read again.
#[tokio::test(flavor = "multi_thread")]
async fn what_may_be_otherwise_is_read_again() {
    let (source, target) = (rows(ROWS), rows(ROWS));
    let folder = tempfile::tempdir().expect("a folder");
    assert!(bench().go_on(folder.path(), failing(&source, 150), plain(&target)).await.is_err());
    // The table has one range less now, and its last is another.
    let shorter = &source[..1_990];
    let resumed = bench().go_on(folder.path(), plain(shorter), plain(shorter)).await.expect("it goes on");
    let kept: Vec<u64> = resumed.outcome.earlier.values().copied().collect();
    assert!(kept.iter().sum::<u64>() > 0 && kept.iter().all(|kept| *kept <= 198), "{kept:?}");
    resumed.found_exactly(&[]);
    assert_eq!(resumed.outcome.expected[0].read, 1_990);
}

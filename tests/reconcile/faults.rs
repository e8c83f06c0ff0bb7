//! Faults that peers missed, by the numbers of the acceptance corpus.

use rehome::event::{Decimal, Digest, Timestamp, Value};
use rehome::reconcile::canary::{CLASSES, Canaries};
use rehome::reconcile::join::Difference::{self, Changed, Duplicate, Extra, Missing};
use rehome::reconcile::side::uncovered;
use rehome::reconcile::{Error, Verdict};

use super::bench::{Bench, Compared, Fault, Rows, row, rows, side};

/// Fault 4: whole seconds.
#[tokio::test(flavor = "multi_thread")]
async fn fault_04_a_microsecond_is_found() {
    let mut target = rows(200);
    target[99][3] = Value::Timestamp(Timestamp(1_000_000 * 100 + 1));
    Bench::new().compare(rows(200), target).await.found_exactly(&[(100, Changed)]);
}

/// Fault 5: the same change to several rows cancels.
#[tokio::test(flavor = "multi_thread")]
async fn fault_05_the_same_shift_of_four_rows_does_not_cancel() {
    let mut target = rows(200);
    for id in [10, 20, 30, 40] {
        target[id - 1][3] = Value::Timestamp(Timestamp(1_000_000 * id as i64 + 600_000_000));
    }
    let compared = Bench::new().compare(rows(200), target).await;
    compared.found_exactly(&[(10, Changed), (20, Changed), (30, Changed), (40, Changed)]);
    let (expected, actual) = (&compared.outcome.expected[0].judged, &compared.outcome.actual[0].judged);
    assert_ne!(expected.root(&[0; 32]), actual.root(&[0; 32]), "and not at the root either");
}

/// Fault 5: what is there twice is not as if it were not there.
#[tokio::test(flavor = "multi_thread")]
async fn fault_05_a_row_that_is_there_twice_does_not_cancel_at_the_root() {
    let twice = |id| [rows(50), vec![row(id, "twice"); 2]].concat();
    let compared = Bench::new().compare(twice(60), twice(70)).await;
    let differences = &compared.outcome.differences;
    assert_eq!(*differences, [((0, Duplicate), 4)].into(), "two of each side");
    let (expected, actual) = (&compared.outcome.expected[0].judged, &compared.outcome.actual[0].judged);
    assert_eq!(expected.count, actual.count);
    assert_ne!(expected.root(&[0; 32]), actual.root(&[0; 32]));
}

/// Fault 6: rows that are there twice cancel.
#[tokio::test(flavor = "multi_thread")]
async fn fault_06_a_row_that_is_there_twice_is_found() {
    let mut target = rows(50);
    target.push(row(7, "note 7"));
    Bench::new().compare(rows(50), target).await.found_exactly(&[(7, Duplicate)]);
    let mut doubled = rows(50);
    doubled.extend(rows(50));
    let compared = Bench::new().compare(rows(50), doubled).await;
    assert_eq!(compared.outcome.differences.values().sum::<u64>(), 50);
}

/// Fault 7: a row that is read in two ranges, or in none.
#[test]
fn fault_07_every_place_is_read_once_or_the_table_is_not_covered() {
    use rehome::reconcile::side::{Done, Extent};
    let of = |range| Done { range, rows: 10, taken: 10, bytes: 0 };
    let mut whole = side("target", Rows::new(rows(35)));
    let all: Vec<Done> = (0..4).map(of).collect();
    assert_eq!(uncovered(&whole, &all), Vec::<usize>::new());
    assert_eq!(uncovered(&whole, &all[1..]), [0], "the first is missing");
    assert_eq!(uncovered(&whole, &[&all[..], &all[1..2]].concat()), [0], "one was read twice");
    // Ranges that share a place are not half-open.
    if let Extent::Blocks { to, .. } = &mut whole.ranges[1].extent {
        *to = Some(3);
    }
    assert_eq!(uncovered(&whole, &all), [0]);
}

/// Fault 8: rows beyond the other side's first and last key.
#[tokio::test(flavor = "multi_thread")]
async fn fault_08_rows_beyond_either_end_are_found() {
    let mut target: Vec<_> = rows(99).into_iter().skip(1).collect();
    let beyond: Vec<i64> = (-300..0).chain(i64::MAX - 300..=i64::MAX).collect();
    target.extend(beyond.iter().map(|id| row(*id, "beyond all")));
    let mut expected = vec![(1, Missing), (100, Missing)];
    expected.extend(beyond.iter().map(|id| (*id, Extra)));
    Bench::new().compare(rows(100), target.clone()).await.found_exactly(&expected);
    // Many, of either side: some come after the last of the other side, in whichever order both are gone through.
    let turned = |(id, kind): &(i64, Difference)| (*id, if *kind == Missing { Extra } else { Missing });
    let turned: Vec<_> = expected.iter().map(turned).collect();
    Bench::new().compare(target, rows(100)).await.found_exactly(&turned);
}

/// Fault 9: rows that only the target has.
#[tokio::test(flavor = "multi_thread")]
async fn fault_09_rows_of_one_side_are_found() {
    let source: Vec<_> = rows(100).into_iter().filter(|row| row[0] != Value::Int(50)).collect();
    Bench::new().compare(source, rows(100)).await.found_exactly(&[(50, Extra)]);
    Bench::new().compare(rows(3), Vec::new()).await.found_exactly(&[(1, Missing), (2, Missing), (3, Missing)]);
    Bench::new().compare(Vec::new(), rows(2)).await.found_exactly(&[(1, Extra), (2, Extra)]);
    Bench::new().compare(Vec::new(), Vec::new()).await.found_exactly(&[]);
}

/// Fault 10: ranges end in any order, and the highest that was read says nothing of those below it.
#[tokio::test(flavor = "multi_thread")]
async fn fault_10_a_range_below_the_highest_that_was_never_read_is_a_gap() {
    use rehome::reconcile::side::Done;
    let whole = side("target", Rows::new(rows(55)));
    let done = |range| Done { range, rows: 10, taken: 10, bytes: 0 };
    // Every set of ranges that a comparison may have read when it was cut off; only the full one is complete.
    for set in 0_u32..1 << 6 {
        let mut read: Vec<Done> = (0..6).filter(|range| set & 1 << range != 0).map(done).collect();
        read.reverse();
        let complete = uncovered(&whole, &read).is_empty();
        assert_eq!(complete, set == (1 << 6) - 1, "{set:06b}");
    }
    // Cut off anywhere, the comparison has no outcome that could be taken for one of all rows.
    for range in 0..6 {
        let failing = Rows { fault: Some((range, Fault::Gone)), ..Rows::new(rows(55)) };
        let plain = Rows::new(rows(55));
        assert!(Bench::new().try_compare(plain, failing).await.is_err(), "range {range}");
    }
}

/// Fault 11: what is read again is counted again.
#[tokio::test(flavor = "multi_thread")]
async fn fault_11_a_range_that_is_read_twice_is_not_taken_for_two() {
    let twice = Rows { fault: Some((2, Fault::Twice)), ..Rows::new(rows(40)) };
    let plain = Rows::new(rows(40));
    let compared = Bench::new().try_compare(plain, twice).await.expect("it comes to its end");
    compared.found_exactly(&[
        (21, Duplicate),
        (22, Duplicate),
        (23, Duplicate),
        (24, Duplicate),
        (25, Duplicate),
        (26, Duplicate),
        (27, Duplicate),
        (28, Duplicate),
        (29, Duplicate),
        (30, Duplicate),
    ]);
    let range = compared.outcome.target_done.iter().find(|done| done.range == 2).expect("it was read");
    assert_eq!((range.rows, range.taken), (10, 20), "the ledger shows it");
    let summary = compared.summary();
    assert_eq!(summary.verdict, Verdict::Incomplete, "nothing is concluded of it: {:?}", summary.why);
    assert!(summary.why.iter().any(|why| why.code == "gap"), "{:?}", summary.why);
}

/// Fault 19: an error in a worker, and the run ends as done all the same.
#[tokio::test(flavor = "multi_thread")]
async fn fault_19_a_reader_that_fails_leaves_no_outcome() {
    let plain = || Rows::new(rows(100));
    for fault in [Fault::Fails, Fault::Gone] {
        let failing = || Rows { fault: Some((4, fault)), ..Rows::new(rows(100)) };
        assert!(Bench::new().try_compare(failing(), plain()).await.is_err(), "{fault:?} at the source");
        let failed = Bench::new().try_compare(plain(), failing()).await.err();
        assert!(matches!(failed, Some(Error::Side { .. } | Error::Moved { .. })), "{fault:?}: {failed:?}");
    }
}

/// Fault 25: rows are lost on the way to the comparison.
#[tokio::test(flavor = "multi_thread")]
async fn fault_25_rows_that_a_reader_counted_and_did_not_hand_over_leave_a_gap() {
    let short = Rows { fault: Some((3, Fault::Short)), ..Rows::new(rows(100)) };
    let plain = Rows::new(rows(100));
    let compared = Bench::new().try_compare(plain, short).await.expect("it comes to its end");
    let range = compared.outcome.target_done.iter().find(|done| done.range == 3).expect("it was read");
    assert_eq!((range.rows, range.taken), (10, 9), "the ledger shows it");
    assert!(uncovered(&compared.target, &compared.outcome.target_done).is_empty(), "though every range ended well");
    incomplete_for(&compared, "gap");
}

/// Fault 25: rows are lost, or come out otherwise, between two stages of the comparison.
#[tokio::test(flavor = "multi_thread")]
async fn fault_25_what_does_not_come_through_a_stage_proves_nothing() {
    let bench = || Bench { canaries: Canaries::new([9; 32], &[100]), ..Bench::new() };
    let mut compared = bench().compare(rows(100), rows(100)).await;
    assert_eq!(compared.summary().verdict, Verdict::Match, "{:?}", compared.summary().why);
    for (_, took) in compared.outcome.hops.values_mut() {
        let wrote = std::mem::take(took);
        // As many, and others.
        took.extend((0..wrote.count).map(|_| Digest([1; 32])));
    }
    incomplete_for(&compared, "plumbing");
}

fn incomplete_for(compared: &Compared, code: &str) {
    let summary = compared.summary();
    assert_eq!(summary.verdict, Verdict::Incomplete, "{:?}", summary.why);
    assert!(summary.why.iter().any(|why| why.code == code), "{:?}", summary.why);
}

/// Fault 26: digests under other rules are others, also of rows in which these rules change nothing.
#[tokio::test(flavor = "multi_thread")]
async fn fault_26_digests_under_other_rules_are_never_alike() {
    let trim = "[[normalise]]\ntable = \"t_new\"\nfields = [\"note\"]\nas = [\"trim\"]\nreason = \"r\"\n";
    let mut roots = Vec::new();
    for rules in ["", trim, trim] {
        let compared = Bench::by(rules).compare(rows(50), rows(50)).await;
        compared.found_exactly(&[]);
        roots.push(compared.outcome.expected[0].judged.root(&[0; 32]));
    }
    assert_ne!(roots[0], roots[1]);
    assert_eq!(roots[1], roots[2], "under the same rules they are");
}

/// Fault 20: what is listed is taken for all there is. Counts have no limit.
#[tokio::test(flavor = "multi_thread")]
async fn fault_20_when_everything_differs_everything_is_counted() {
    let target = (1..=5_000).map(|id| row(id, "other")).collect();
    let compared = Bench::new().compare(rows(5_000), target).await;
    assert_eq!(compared.outcome.differences, [((0, Changed), 5_000)].into());
}

/// Fault 27: what it takes grows with the number of differences. The records are as many and as large, whatever differs.
#[tokio::test(flavor = "multi_thread")]
async fn fault_27_a_comparison_takes_as_much_when_all_differs() {
    let equal = Bench::new().compare(rows(5_000), rows(5_000)).await;
    let target = (1..=5_000).map(|id| row(id, &format!("mote {id}"))).collect();
    let differing = Bench::new().compare(rows(5_000), target).await;
    assert_eq!(differing.outcome.differences, [((0, Changed), 5_000)].into());
    let (few, many) = (equal.outcome.spill_bytes, differing.outcome.spill_bytes);
    assert!(many < 3 * few, "one small record more for each: {few} bytes, then {many}");
    assert_eq!(equal.outcome.hops["expected rows"].0.count, differing.outcome.hops["expected rows"].0.count);
}

/// Fault 21: order and collation.
#[tokio::test(flavor = "multi_thread")]
async fn fault_21_physical_order_does_not_matter() {
    let mut target = rows(500);
    target.reverse();
    target.rotate_left(123);
    Bench::new().compare(rows(500), target).await.found_exactly(&[]);
}

/// Fault 3 through the whole comparison: long numbers are not shortened.
#[tokio::test(flavor = "multi_thread")]
async fn fault_03_every_digit_counts() {
    let decimal = |text: &str| Value::Decimal(Decimal::parse(text).expect("a number"));
    let with = |last: &str| {
        let mut rows = rows(30);
        rows[9][2] = decimal(&format!("1234567890123456789012345678901234567{last}"));
        rows
    };
    Bench::new().compare(with("8"), with("8")).await.found_exactly(&[]);
    Bench::new().compare(with("8"), with("9")).await.found_exactly(&[(10, Changed)]);
    let near = |id: i64| vec![row(id, "a")];
    let one_off = Bench::new().compare(near(9_007_199_254_740_993), near(9_007_199_254_740_992)).await;
    one_off.found_exactly(&[(9_007_199_254_740_993, Missing), (9_007_199_254_740_992, Extra)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn planted_faults_are_all_found_and_leave_no_trace_in_the_counts() {
    let bench = Bench { canaries: Canaries::new([9; 32], &[2_000]), ..Bench::new() };
    let compared = bench.compare(rows(2_000), rows(2_000)).await;
    compared.found_exactly(&[]);
    let counts = compared.outcome.counts[0];
    assert_eq!((counts.expected, counts.actual, counts.matched), (2_000, 2_000, 2_000));
    let recall = &compared.outcome.recall;
    assert_eq!(recall.len(), CLASSES.len());
    let planted: u64 = recall.values().map(|(planted, _)| planted).sum();
    let found: u64 = recall.values().map(|(_, found)| found).sum();
    assert!(planted > 50, "{recall:?}");
    assert_eq!(planted, found, "{recall:?}");

    // Real differences beside them are still counted, each.
    let bench = Bench { canaries: Canaries::new([9; 32], &[2_000]), ..Bench::new() };
    let mut target = rows(2_000);
    target.retain(|row| !matches!(row[0], Value::Int(id) if id % 3 == 0));
    let compared = bench.compare(rows(2_000), target).await;
    assert_eq!(compared.outcome.differences, [((0, Missing), 666)].into());
    assert_eq!(compared.outcome.counts[0].matched, 1_334);
}

/// One worker or several come to the same: nothing is kept back by one that another needs.
#[tokio::test(flavor = "multi_thread")]
async fn the_number_of_workers_does_not_matter() {
    for workers in [1, 2, 5] {
        let bench = Bench { workers, ..Bench::new() };
        let mut target = rows(777);
        target[500][1] = Value::Null;
        bench.compare(rows(777), target).await.found_exactly(&[(501, Changed)]);
    }
}

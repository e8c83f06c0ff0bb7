//! Canaries are worth something only if a comparison that is blind is shown to be: by their recall, and by its verdict.

use rehome::event::{Timestamp, Value};
use rehome::reconcile::canary::{CLASSES, Canaries, Class};
use rehome::reconcile::context::Form;
use rehome::reconcile::{Summary, Verdict};
use rehome::rules::{Pair, TableRules, Uses};
use rehome::target::TargetRow;

use super::bench::{Bench, row, rows};
use super::sim::boxes::{BOXES, MARKS, labelled, mark};
use super::sim::world::World;
use super::sim::{How, begin, compare};

/// Rows that are compared.
const ROWS: i64 = 2_000;

/// What equal sides come to under a form, with canaries for tables of about so many rows.
async fn compared(form: Form, about: u64) -> Summary {
    let bench = Bench { canaries: Canaries::new([9; 32], &[about]), form: Some(form), ..Bench::new() };
    let compared = bench.compare(rows(ROWS), rows(ROWS)).await;
    compared.found_exactly(&[]);
    compared.summary()
}

/// Faults planted of a class, and those found.
fn of(summary: &Summary, class: Class) -> (u64, u64) {
    let of = summary.canaries.iter().filter(|row| row.class == class.name());
    of.fold((0, 0), |(planted, found), row| (planted + row.planted, found + row.found))
}

fn incomplete_for(summary: &Summary, code: &str) {
    assert_eq!(summary.verdict, Verdict::Incomplete, "{:?}", summary.why);
    assert!(summary.why.iter().any(|why| why.code == code), "{:?}", summary.why);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_comparison_that_sees_finds_all_and_may_say_match() {
    let summary = compared(TableRules::strict, 2_000).await;
    let (planted, found) = summary.recall();
    assert!(planted > 50 && planted == found, "{found} of {planted}");
    assert_eq!(summary.verdict, Verdict::Match, "{:?}", summary.why);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_comparison_that_is_switched_off_is_known_by_its_canaries() {
    let summary = compared(|_, _, _, _, _| {}, 2_000).await;
    let (planted, found) = summary.recall();
    assert!(found < planted, "{found} of {planted}");
    for class in [Class::Text, Class::Number, Class::Time, Class::NullOrEmpty] {
        assert_eq!(of(&summary, class).1, 0, "{class:?}");
    }
    incomplete_for(&summary, "canaries");
}

/// Rows on their way may differ by just what a fault changes: what it then makes of them is what they should be, and there
/// is nothing to be found.
#[tokio::test(flavor = "multi_thread")]
async fn a_fault_that_makes_a_row_what_it_should_be_is_not_counted() {
    let all = |end: &str| (1..=ROWS).map(|id| row(id, &format!("note {id} {end}"))).collect();
    let bench = Bench { canaries: Canaries::new([9; 32], &[2_000]), ..Bench::new() };
    let compared = bench.compare(all("x"), all("a")).await;
    assert_eq!(compared.found.len(), usize::try_from(ROWS).expect("few"));
    let summary = compared.summary();
    assert_eq!(of(&summary, Class::Text), (0, 0), "the character that differs is the one that is changed");
    let (planted, found) = summary.recall();
    assert!(planted > 30 && planted == found, "{found} of {planted}");
}

/// A form that makes every value of some cells the same one.
fn without(row: &TargetRow, rules: &TableRules, pair: Pair, uses: &mut Uses, out: &mut Vec<u8>, blind: fn(&mut Value)) {
    let mut row = row.clone();
    row.values.iter_mut().for_each(blind);
    rules.strict(&row, pair, uses, out);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_comparison_that_is_blind_to_one_class_of_faults_is_known_by_that_class() {
    let blind: [(Class, Form); 4] = [
        (Class::Text, |rules, row, pair, uses, out| {
            let blind = |value: &mut Value| {
                if matches!(value, Value::Text(text) if !text.is_empty()) {
                    *value = Value::text("some");
                }
            };
            without(row, rules, pair, uses, out, blind);
        }),
        (Class::Number, |rules, row, pair, uses, out| {
            let blind = |value: &mut Value| {
                if let Value::Int(number) = value {
                    *number = 0;
                }
            };
            without(row, rules, pair, uses, out, blind);
        }),
        (Class::Time, |rules, row, pair, uses, out| {
            let blind = |value: &mut Value| {
                if let Value::Timestamp(time) = value {
                    *time = Timestamp(0);
                }
            };
            without(row, rules, pair, uses, out, blind);
        }),
        (Class::NullOrEmpty, |rules, row, pair, uses, out| {
            let blind = |value: &mut Value| {
                if matches!(value, Value::Text(text) if text.is_empty()) {
                    *value = Value::Null;
                }
            };
            without(row, rules, pair, uses, out, blind);
        }),
    ];
    for (class, form) in blind {
        let summary = compared(form, 2_000).await;
        let (planted, found) = of(&summary, class);
        assert!(planted > 0 && found == 0, "{class:?}: {found} of {planted}");
        for other in CLASSES.into_iter().filter(|other| *other != class) {
            let (planted, found) = of(&summary, other);
            assert_eq!(planted, found, "{other:?} without {class:?}");
        }
        incomplete_for(&summary, "canaries");
    }
}

/// One table of three, in a world at rest: not looked into, or not read at all.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_left_out_is_known() {
    let world = World::new(1, 1);
    let mut projecting = begin(&world).await;
    // Of a few rows it is chance whether one has a fault of a value.
    for number in 0..12 {
        world.put(BOXES, labelled(&format!("box {number}"), "label"));
        world.put(MARKS, mark(100 + number, "a", &format!("tag {number}"), number));
    }
    world.capture_all().await;
    projecting.all().await;
    drop(projecting);
    let whole = compare(&world, How::default()).await.summary;
    assert_eq!(whole.verdict, Verdict::Match, "{:?}", whole.why);
    let blind: [Form; 3] = [
        |rules, row, pair, uses, out| strict_but_for(0, rules, row, pair, uses, out),
        |rules, row, pair, uses, out| strict_but_for(1, rules, row, pair, uses, out),
        |rules, row, pair, uses, out| strict_but_for(2, rules, row, pair, uses, out),
    ];
    for (table, form) in blind.into_iter().enumerate() {
        let name = &whole.targets[table].table;
        let summary = compare(&world, How { form: Some(form), ..How::default() }).await.summary;
        let unfound: Vec<&str> =
            summary.canaries.iter().filter(|row| row.found < row.planted).map(|row| &*row.table).collect();
        assert!(!unfound.is_empty() && unfound.iter().all(|of| of == name), "{name}: {unfound:?}");
        incomplete_for(&summary, "canaries");
        // Nobody reads it, on either side.
        let summary = compare(&world, How { unread: Some(table), ..How::default() }).await.summary;
        assert!(summary.recall().0 < whole.recall().0, "{name}: none is planted there");
        assert_ne!(summary.verdict, Verdict::Match, "{name}");
        assert!(summary.why.iter().any(|why| why.code == "conservation"), "{name}: {:?}", summary.why);
    }
}

fn strict_but_for(table: u16, rules: &TableRules, row: &TargetRow, pair: Pair, uses: &mut Uses, out: &mut Vec<u8>) {
    if row.table.0 != table {
        rules.strict(row, pair, uses, out);
    }
}

/// A table of so many rows that one of a million is chosen, as far as anybody knows: none is, of two thousand.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_without_canaries_proves_nothing() {
    let summary = compared(TableRules::strict, u64::MAX).await;
    assert_eq!(summary.recall(), (0, 0));
    incomplete_for(&summary, "no_canaries");
}

/// Of a table that is shared with others, the few rows that are compared count, and not all that are read.
#[tokio::test(flavor = "multi_thread")]
async fn rows_out_of_scope_need_no_canaries() {
    let scope = |note: &str| {
        let holds = format!("{{ starts_with = \"{note}\", of = \".note\" }}");
        let rule = format!("[[scope]]\ntable = \"t_new\"\nwhere = {holds}\nreason = \"r\"\n");
        Bench { canaries: Canaries::new([9; 32], &[u64::MAX]), ..Bench::by(&rule) }
    };
    let few = scope("note 199").compare(rows(ROWS), rows(ROWS)).await.summary();
    assert_eq!((few.recall(), few.verdict), ((0, 0), Verdict::Match), "{:?}", few.why);
    let many = scope("note 1").compare(rows(ROWS), rows(ROWS)).await.summary();
    incomplete_for(&many, "no_canaries");
    let told = Bench { canaries: Canaries::new([9; 32], &[u64::MAX]).judging(&[1_111]), ..scope("note 1") };
    let told = told.compare(rows(ROWS), rows(ROWS)).await.summary();
    let (planted, found) = told.recall();
    assert!(planted > 30 && planted == found && told.verdict == Verdict::Match, "{found} of {planted}: {:?}", told.why);
}

/// What a report says of rules is said of rows, and of nothing that was planted.
#[tokio::test(flavor = "multi_thread")]
async fn shadows_leave_no_trace_in_the_uses_of_rules() {
    let rule = "[[normalise]]\ntable = \"t_new\"\nfields = [\"note\"]\nas = [\"lower\"]\nreason = \"r\"\n";
    let loud = || (1..=ROWS).map(|id| row(id, &format!("NOTE {id}"))).collect::<Vec<_>>();
    let without = Bench::by(rule).compare(loud(), rows(ROWS)).await.summary();
    let canaries = Canaries::new([9; 32], &[2_000]);
    let with = Bench { canaries, ..Bench::by(rule) }.compare(loud(), rows(ROWS)).await.summary();
    assert!(with.recall().0 > 30 && without.recall() == (0, 0));
    assert_eq!((with.rules[0].uses, without.rules[0].uses), (2_000, 2_000));
}

/// Rows that the target may have let go of: what is planted among them is found all the same.
#[tokio::test(flavor = "multi_thread")]
async fn faults_are_found_among_rows_that_may_be_gone() {
    let rule = "[[retention]]\ntable = \"t_new\"\ntime = \".at\"\nbefore = 2025-01-01T00:00:00Z\nreason = \"r\"\n";
    let canaries = Canaries::new([9; 32], &[2_000]);
    let kept: Vec<_> = rows(2_000).into_iter().skip(500).collect();
    let compared = Bench { canaries, ..Bench::by(rule) }.compare(rows(2_000), kept).await;
    compared.found_exactly(&[]);
    assert_eq!(compared.outcome.counts[0].expired, 500);
    let (summary, (planted, found)) = (compared.summary(), compared.summary().recall());
    assert!(planted > 50 && planted == found, "{found} of {planted}");
    assert_eq!(summary.verdict, Verdict::Match, "{:?}", summary.why);
}

/// I5: pairs of shadows leave the counts as what they were counted as, also where every row differs within a tolerance.
#[tokio::test(flavor = "multi_thread")]
async fn shadows_of_rows_that_are_tolerated_leave_no_trace_in_the_counts() {
    let rule = "[[tolerate]]\ntable = \"t_new\"\nfields = [\"at\"]\nwindow = \"1 min\"\nreason = \"r\"\n";
    let late = |mut row: Vec<Value>| {
        if let Value::Timestamp(time) = &mut row[3] {
            time.0 += 5_000_000;
        }
        row
    };
    let canaries = Canaries::new([9; 32], &[2_000]);
    let target = rows(ROWS).into_iter().map(late).collect();
    let compared = Bench { canaries, ..Bench::by(rule) }.compare(rows(ROWS), target).await;
    compared.found_exactly(&[]);
    assert_eq!((compared.outcome.counts[0].matched, compared.outcome.counts[0].tolerated), (0, 2_000));
    let (summary, (planted, found)) = (compared.summary(), compared.summary().recall());
    assert!(planted > 30 && planted == found, "{found} of {planted}");
    assert_eq!(summary.verdict, Verdict::Match, "{:?}", summary.why);
}

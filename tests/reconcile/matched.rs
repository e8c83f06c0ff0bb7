//! Planted faults prove the pairing by a rule too: whole groups are shadowed, and what is wrong in each is found, or known not
//! to be.

use std::sync::Arc;

use rehome::event::Value;
use rehome::reconcile::actual::Owners;
use rehome::reconcile::canary::{Canaries, Class, GROUP_CLASSES};
use rehome::reconcile::emit::{Emitter, SideOf, Spills};
use rehome::reconcile::groups::GROUP_ROWS_MAX;
use rehome::reconcile::join::Difference::{Foreign, ForeignChanged, Missing};
use rehome::reconcile::spill::{Spill, Tag};
use rehome::reconcile::{Summary, Verdict};
use rehome::rules::{Pair, Pairing, TableRules};
use rehome::target::{TargetRow, TargetTable};

use super::bench::{Bench, Compared, row, rows};
use super::dual::{MATCH, ROWS, THEIRS, calls, delay, id, known, theirs};

const LATE: &str = r#"
[[tolerate]]
table = "t_new"
fields = ["at"]
window = "1 min"
when = "matched"
reason = "both writers stamp the same row, one after the other"
"#;

/// Faults planted of a class, and those found.
fn of_class(summary: &Summary, class: Class) -> (u64, u64) {
    let of = summary.canaries.iter().filter(|row| row.class == class.name());
    of.fold((0, 0), |(planted, found), row| (planted + row.planted, found + row.found))
}

/// Faults planted in groups, and those found.
fn in_groups(summary: &Summary) -> (u64, u64) {
    let of = GROUP_CLASSES.map(|class| of_class(summary, class));
    of.into_iter().fold((0, 0), |sum, of| (sum.0 + of.0, sum.1 + of.1))
}

fn all_found(compared: &Compared) -> Summary {
    let summary = compared.summary();
    let (planted, found) = summary.recall();
    assert!(planted > 50 && planted == found, "{found} of {planted}: {:?}", summary.canaries);
    for count in &summary.targets {
        assert!(count.balanced(), "{count:?}");
    }
    summary
}

fn unfound(compared: &Compared) -> Summary {
    let summary = compared.summary();
    assert_eq!(summary.verdict, Verdict::Incomplete, "{:?}", summary.why);
    assert!(summary.why.iter().any(|why| why.code == "canaries"), "{:?}", summary.why);
    summary
}

/// A table so small, as far as anybody knows, that all of its groups may be shadowed.
fn chosen() -> Bench {
    Bench { canaries: Canaries::new([9; 32], &[1_000]), ..known() }
}

/// I8: whoever wrote the rows, and by whatever they are really paired.
#[tokio::test(flavor = "multi_thread")]
async fn faults_in_groups_are_all_found_and_leave_no_trace_in_the_counts() {
    let some = || {
        calls().into_iter().zip(theirs(calls())).map(|(ours, theirs)| if id(&ours) % 3 == 0 { theirs } else { ours })
    };
    for (target, foreign) in [(calls(), 0), (theirs(calls()), 2_000), (some().collect(), 666)] {
        for owners in [known().owners, Owners::Unknown] {
            let nobody = matches!(owners, Owners::Unknown);
            let compared = Bench { owners, ..chosen() }.compare(calls(), target.clone()).await;
            compared.found_exactly(&[]);
            let counts = compared.outcome.counts[0];
            assert_eq!((counts.expected, counts.actual, counts.matched), (2_000, 2_000, 2_000));
            assert_eq!((counts.matched_foreign, counts.tolerated), (if nobody { 0 } else { foreign }, 0));
            let summary = all_found(&compared);
            assert_eq!(summary.verdict, Verdict::Match, "{:?}", summary.why);
            for class in GROUP_CLASSES {
                assert!(of_class(&summary, class).0 > 10, "{:?}", summary.canaries);
            }
            assert_eq!(in_groups(&summary).0, 100, "of 201 groups: {:?}", summary.canaries);
        }
    }
}

/// I8: all rows are paired by their keys, so nothing but planted faults shows what becomes of others.
#[tokio::test(flavor = "multi_thread")]
async fn a_comparison_that_pairs_by_keys_alone_is_known_by_its_canaries() {
    let compared = Bench { paired: Some(|_, _| None), ..known() }.compare(calls(), calls()).await;
    compared.found_exactly(&[]);
    assert_eq!(compared.outcome.counts[0].matched, 2_000);
    let summary = unfound(&compared);
    let ((planted, found), (in_groups, found_there)) = (summary.recall(), in_groups(&summary));
    assert!(in_groups > 50 && found_there == 0, "{found_there} of {in_groups}");
    assert_eq!(planted - in_groups, found, "those of single rows are found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_comparison_that_takes_any_two_rows_of_a_group_for_equal_is_known() {
    let form = |rules: &TableRules, row: &TargetRow, pair, uses: &mut _, out: &mut _| {
        if pair != Pair::Match {
            rules.strict(row, pair, uses, out);
        }
    };
    let compared = Bench { form: Some(form), ..known() }.compare(calls(), calls()).await;
    compared.found_exactly(&[]);
    let summary = unfound(&compared);
    let (planted, found) = of_class(&summary, Class::GroupValue);
    assert!(planted > 10 && found == 0, "{found} of {planted}");
    for class in [Class::GroupDropped, Class::GroupInvented] {
        let (planted, found) = of_class(&summary, class);
        assert_eq!(planted, found, "{class:?}");
    }
}

/// Rows of all groups are then in one order, whatever they are about.
#[tokio::test(flavor = "multi_thread")]
async fn a_comparison_that_takes_all_groups_for_one_is_known() {
    let paired = |rules: &TableRules, row: &TargetRow| Some(Pairing { group: Vec::new(), ..rules.pairing(row)? });
    let compared = Bench { paired: Some(paired), ..known() }.compare(calls(), calls()).await;
    compared.found_exactly(&[]);
    let (planted, found) = in_groups(&unfound(&compared));
    assert!(planted > 50 && found < planted / 2, "{found} of {planted}");
}

/// Rows of a group are then paired as it happens.
#[tokio::test(flavor = "multi_thread")]
async fn a_comparison_that_knows_no_order_in_a_group_is_known() {
    // The rule orders by times; so are the rows of the target, whose keys go the other way.
    let turned = calls().into_iter().map(|mut row| {
        row[0] = Value::Int(THEIRS + ROWS - id(&row));
        row
    });
    let target: Vec<_> = turned.collect();
    known().compare(calls(), target.clone()).await.found_exactly(&[]);
    let paired = |rules: &TableRules, row: &TargetRow| Some(Pairing { order: Vec::new(), ..rules.pairing(row)? });
    let summary = unfound(&Bench { paired: Some(paired), ..known() }.compare(calls(), target).await);
    // Equal rows find each other all the same; of two that are wrong, half are held against each other's partners.
    let (planted, found) = of_class(&summary, Class::GroupValue);
    assert!(planted > 20 && found < planted * 3 / 4, "{found} of {planted}");
}

/// Groups in which the sides do not even have as many rows.
#[tokio::test(flavor = "multi_thread")]
async fn groups_of_unequal_sides_have_their_faults_found() {
    let (mut source, mut target, mut differences) = (Vec::new(), Vec::new(), Vec::new());
    // Rows of both sides: as many, one less, one more, the last of several less, of one side only.
    let sizes = [(3, 3), (3, 2), (2, 3), (7, 3), (1, 0), (0, 1), (1, 1)];
    for group in 0..140_i64 {
        let (expected, actual) = sizes[usize::try_from(group).expect("few") % sizes.len()];
        let of = |place: i64| row(100 * group + place + 1, &format!("call {group}"));
        source.extend((0..expected).map(of));
        target.extend(theirs((0..actual).map(of).collect()));
        differences.extend((actual..expected).map(|place| (100 * group + place + 1, Missing)));
        differences.extend((expected..actual).map(|place| (THEIRS + 100 * group + place + 1, Foreign)));
    }
    let canaries = || Canaries::new([9; 32], &[target.len() as u64]);
    let compared = Bench { canaries: canaries(), ..known() }.compare(source.clone(), target.clone()).await;
    compared.found_exactly(&differences);
    let (planted, _) = in_groups(&all_found(&compared));
    assert!(planted > 60, "{planted}");
    // What differs anyway is not taken for what was planted.
    let blind =
        Bench { canaries: canaries(), paired: Some(|_, _| None), ..known() }.compare(source, target.clone()).await;
    let (planted, found) = in_groups(&unfound(&blind));
    assert!(planted > 60 && found < planted / 2, "{found} of {planted}");
}

/// What is planted adds to what is found: of rows too many one less would be no fault.
#[tokio::test(flavor = "multi_thread")]
async fn no_fault_is_planted_that_mends() {
    let of =
        |rows: i64| move |group: i64| (1..=rows).map(move |place| row(10 * group + place, &format!("call {group}")));
    let (source, target): (Vec<_>, Vec<_>) = ((0..100).flat_map(of(1)).collect(), (0..100).flat_map(of(3)).collect());
    let summary = all_found(&chosen().compare(source, theirs(target)).await);
    assert_eq!(of_class(&summary, Class::GroupDropped), (0, 0));
    for class in [Class::GroupInvented, Class::GroupValue] {
        assert!(of_class(&summary, class).0 > 20, "{:?}", summary.canaries);
    }
}

/// Rows that the rule gives one place, equal or not, are paired somehow: what is planted among them is found all the same.
#[tokio::test(flavor = "multi_thread")]
async fn groups_with_ties_have_their_faults_found() {
    for apart in [0, 1] {
        let tied = |id: i64| {
            let mut row = row(id, &format!("call {}", id / 4));
            row[3] = Value::Null;
            row[2] = Value::Int(apart * (id % 4));
            row
        };
        let source: Vec<_> = (1..=800).map(tied).collect();
        let compared = known().compare(source.clone(), theirs(source.clone())).await;
        if apart == 0 {
            compared.found_exactly(&[]);
        }
        let (planted, _) = in_groups(&all_found(&compared));
        assert!(planted > 50, "{planted}");
    }
}

/// I8: what differs really is found, each, beside what was planted.
#[tokio::test(flavor = "multi_thread")]
async fn real_differences_of_rows_that_a_rule_pairs_are_found_and_are_no_shadows() {
    let mut target = theirs(calls());
    let mut differences = Vec::new();
    for id in (1..=ROWS).step_by(7) {
        target[usize::try_from(id - 1).expect("few")][2] = Value::Int(5);
        differences.push((id, ForeignChanged));
    }
    // The last rows of two groups, and one more in a third.
    for last in [1_999, 1_009] {
        differences.retain(|(id, _)| *id != last);
        differences.push((last, Missing));
        target.retain(|row| id(row) != THEIRS + last);
    }
    let mut another = row(THEIRS + 5_000, "call 50");
    another[3] = Value::Timestamp(rehome::event::Timestamp(1_000_000_000_000));
    target.push(another);
    differences.push((THEIRS + 5_000, Foreign));
    let compared = known().compare(calls(), target).await;
    compared.found_exactly(&differences);
    let changed = differences.iter().filter(|(_, kind)| *kind == ForeignChanged).count() as u64;
    let counts = compared.outcome.counts[0];
    assert_eq!((counts.expected, counts.actual, counts.matched), (2_000, 1_999, 2_000 - changed - 2));
    all_found(&compared);
}

/// Pairs of a shadow are no pairs of the table's: neither as tolerated ones nor as uses of a rule.
#[tokio::test(flavor = "multi_thread")]
async fn shadows_use_no_rules() {
    let bench = || {
        let bench = Bench::by(&[MATCH, LATE].concat());
        Bench { rules: bench.rules, migration: bench.migration, ..known() }
    };
    let uses = |summary: &Summary| {
        summary.rules.iter().map(|rule| (rule.uses, rule.deviation_max.clone())).collect::<Vec<_>>()
    };
    let mut late = theirs(calls());
    late.iter_mut().for_each(|row| delay(row, 5));
    let compared = bench().compare(calls(), late).await;
    compared.found_exactly(&[]);
    let counts = compared.outcome.counts[0];
    assert_eq!((counts.matched, counts.matched_foreign, counts.tolerated), (0, 0, 2_000));
    let summary = all_found(&compared);
    assert_eq!(summary.verdict, Verdict::Match, "{:?}", summary.why);
    assert_eq!(uses(&summary), [(2_000, None), (2_000, Some("5.000000 s".to_owned()))]);
    // Rules that nothing needs are told of.
    let summary = all_found(&bench().compare(calls(), calls()).await);
    assert!(in_groups(&summary).0 > 50);
    assert_eq!(uses(&summary), [(0, None), (0, None)]);
}

/// A group larger than a sample may be is left out, and the report says that nothing of the kind was planted.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_of_all_rows_is_not_read_twice() {
    let one = || (1..=ROWS).map(|id| row(id, "one call")).collect::<Vec<_>>();
    let compared = chosen().compare(one(), theirs(one())).await;
    compared.found_exactly(&[]);
    let summary = all_found(&compared);
    assert_eq!(summary.verdict, Verdict::Match, "{:?}", summary.why);
    assert_eq!(in_groups(&summary), (0, 0));
    let told = summary.canaries.iter().filter(|row| row.not_applicable.as_deref() == Some(Class::GroupValue.none()));
    assert_eq!(told.count(), GROUP_CLASSES.len());
    assert!(compared.outcome.hops["expected rows"].0.count < 2_400, "the rows, and some by their keys");
}

/// Of such a group no more is kept aside, by range, than shows how large it is.
#[test]
fn what_is_kept_of_a_large_group_is_limited() {
    let folder = tempfile::tempdir().expect("a folder");
    let spill = |name| Spill::new(folder.path(), name, 1, Tag(0));
    let groups = [spill("expected-groups"), spill("actual-groups")];
    let spills = Spills { expected: spill("expected"), actual: spill("actual"), added: spill("added"), groups };
    let context = Bench { canaries: Canaries::new([9; 32], &[1]), ..Bench::by(MATCH) }.context();
    let mut emitter = Emitter::new(&Arc::clone(&context), SideOf::Actual, &spills);
    let most = GROUP_ROWS_MAX as u64 + 1;
    for range in 1..=2 {
        emitter.begin(Tag(range)).expect("a disk");
        for values in (1..=1_500).map(|id| row(id, "one call")).chain(rows(10)) {
            emitter.row(&TargetRow { table: TargetTable(0), values }, &[]).expect("a disk");
        }
        emitter.finish().expect("a disk");
        let [expected, actual] = &spills.groups;
        assert_eq!((expected.written(0).count, actual.written(0).count), (0, range * (most + 10)));
    }
}

/// Where no rule pairs rows, nothing is kept aside, and there are no such classes.
#[tokio::test(flavor = "multi_thread")]
async fn tables_whose_rows_no_rule_pairs_have_no_groups() {
    let bench = Bench { canaries: Canaries::new([9; 32], &[2_000]), ..Bench::new() };
    let summary = all_found(&bench.compare(rows(ROWS), rows(ROWS)).await);
    assert!(summary.canaries.iter().all(|row| GROUP_CLASSES.iter().all(|class| row.class != class.name())));
}

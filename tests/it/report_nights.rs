//! Reports by night: whole or not there, ages carried over, contents hidden, counts without a limit.

use std::fs;
use std::path::Path;

use rehome::event::{Canonical as _, Key, Value as CellValue};
use rehome::reconcile::{
    Blame, Discrepancy, ExpectResult, Field, FieldKind, Kind, Proof, Shown, State, Summary, Told, Verdict, Writer,
};
use rehome::report::{Contents, Reports, Written, words};
use serde_json::Value;

use crate::support::nights::{MIGRATION, begin, discrepancy, expect, matching, with_verdict, write, write_with};

/// Stands in a row's values, and nowhere else.
const MARKER: &str = "QuiteSecret";

fn mismatch(night: i64) -> Summary {
    with_verdict(matching(night), Verdict::Mismatch, &[("confirmed", "rows differ", 1)])
}

fn incomplete(night: i64) -> Summary {
    with_verdict(matching(night), Verdict::Incomplete, &[("cut_off", "the scan was cut off", 1)])
}

fn lines(written: &Written) -> Vec<Discrepancy> {
    let text = fs::read_to_string(written.folder.join("discrepancies.jsonl")).expect("lines");
    text.lines().map(|line| serde_json::from_str(line).expect("a discrepancy")).collect()
}

/// First night and age of the only line.
fn age(written: &Written) -> (i64, u32) {
    let [line] = &lines(written)[..] else { panic!("one line") };
    ((line.first_seen.as_second() - begin(0).as_second()) / 86_400, line.age_nights)
}

#[test]
fn a_discrepancy_ages_until_one_of_its_sides_changes() {
    let folder = tempfile::tempdir().expect("a folder");
    let night = |night, actual: Option<&str>| {
        let mut found = discrepancy(1);
        found.sides.actual = actual.map(str::to_owned);
        write(folder.path(), mismatch(night), [found])
    };
    assert_eq!(age(&night(0, Some("a"))), (0, 0));
    assert_eq!(age(&night(1, Some("a"))), (0, 1));
    let third = night(2, Some("a"));
    assert_eq!(age(&third), (0, 2));
    assert_eq!(third.summary.details.ages.into_iter().collect::<Vec<_>>(), [(2, 1)]);
    assert_eq!(age(&night(3, Some("b"))), (3, 0));
    assert_eq!(age(&night(4, Some("b"))), (3, 1));
    assert_eq!(age(&night(5, None)), (5, 0));
}

#[test]
fn a_night_that_proved_nothing_makes_nothing_new_and_one_without_it_does() {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), mismatch(0), [discrepancy(1)]);
    write(folder.path(), incomplete(1), []);
    assert_eq!(age(&write(folder.path(), mismatch(2), [discrepancy(1)])), (0, 1));
    write(folder.path(), matching(3), []);
    assert_eq!(age(&write(folder.path(), mismatch(4), [discrepancy(1)])), (4, 0));
}

#[test]
fn a_night_is_written_into_the_past_without_looking_into_the_future() {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), mismatch(5), [discrepancy(1)]);
    assert_eq!(age(&write(folder.path(), mismatch(3), [discrepancy(1)])), (3, 0));
}

#[test]
fn detail_is_limited_and_counts_are_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let reports = Reports::new(folder.path(), MIGRATION);
    let mut writing = reports.begin_with(begin(0), Contents::Hidden, 10).expect("it begins");
    for number in 0..25 {
        let state = if number < 20 { State::Confirmed } else { State::Waived };
        writing.add(Discrepancy { state, ..discrepancy(number) }).expect("it is written");
    }
    let written = writing.finish(mismatch(0), None).expect("it ends");
    let details = &written.summary.details;
    assert_eq!((details.found, details.listed, lines(&written).len()), (25, 10, 10));
    assert_eq!(details.states.iter().collect::<Vec<_>>(), [(&State::Confirmed, &20), (&State::Waived, &5)]);
    assert_eq!(details.ages.iter().collect::<Vec<_>>(), [(&0, &20)]);
    let page = fs::read_to_string(written.folder.join("report.html")).expect("a page");
    assert!(page.contains("discrepancies.jsonl beside this page lists 10; all are counted."));
    // What such a night lists is no proof that the others were not there: those of the night before are remembered too.
    write(folder.path(), mismatch(1), [discrepancy(0)]);
    assert_eq!(age(&write(folder.path(), mismatch(2), [discrepancy(0)])), (0, 2));
}

/// What is told of, by number: looks that differ in one thing each, some with fields, keys and units of their own.
fn told(number: u64, proof: &Proof, visit: impl FnOnce(Told<'_>)) {
    let key = Key(vec![CellValue::Int(i64::try_from(number).expect("few"))]).encode();
    let unit = format!("u{}", number % 50);
    let field = || Field { field: "note".into(), kind: FieldKind::Changed, expected: None, actual: None, rule: None };
    visit(Told {
        kind: if number.is_multiple_of(5) { Kind::Extra } else { Kind::Changed },
        table: if number.is_multiple_of(3) { "a" } else { "b" },
        key: &key,
        unit: (!number.is_multiple_of(4)).then_some(&*unit),
        fields: if number.is_multiple_of(41) { vec![field()] } else { Vec::new() },
        state: if number.is_multiple_of(7) { State::Waived } else { State::Confirmed },
        blame: if number.is_multiple_of(2) { Blame::Unknown } else { Blame::NotApplied },
        proof,
        writer: if number > 1_900 { Writer::Foreign } else { Writer::Unknown },
        digests: [Some([1; 32]), (!number.is_multiple_of(5)).then_some([2; 32])],
        started: begin(0),
    });
}

#[test]
fn a_night_in_which_most_are_only_counted_is_the_one_in_which_all_were_made_whole() {
    let proof = Proof { source: Some("0/1".into()), ..Proof::default() };
    let night = |listed, sieved: bool, earlier: bool| {
        let folder = tempfile::tempdir().expect("a folder");
        if earlier {
            told(7 * 41, &proof, |told| drop(write(folder.path(), mismatch(-1), [told.whole()])));
        }
        let reports = Reports::new(folder.path(), MIGRATION);
        let mut writing = reports.begin_with(begin(0), Contents::Hidden, listed).expect("it begins");
        let (mut ahead, mut whole) = (writing.ahead(), 0);
        for number in 0..2_000 {
            told(number, &proof, |told| {
                let found = if sieved { ahead.take(told) } else { Some(told.whole()) };
                whole += u64::from(found.is_some());
                found.into_iter().for_each(|found| writing.add(found).expect("it is written"));
            });
        }
        writing.add_counted(ahead);
        let written = writing.finish(mismatch(0), None).expect("it ends");
        let page = fs::read_to_string(written.folder.join("report.html")).expect("a page");
        (whole, (lines(&written), written.summary, page))
    };
    for listed in [0, 10, 1_990, 5_000] {
        let ((made, sieved), (all, whole)) = (night(listed, true, false), night(listed, false, false));
        assert_eq!(all, 2_000);
        assert_eq!(made < 2_000, listed < 2_000, "{made} of {listed}");
        assert_eq!(sieved, whole, "{listed} listed");
    }
    let ((made, sieved), (_, whole)) = (night(10, true, true), night(10, false, true));
    assert_eq!((made, sieved), (2_000, whole), "each has its age");
}

/// I12.
#[test]
fn contents_are_in_no_file_unless_asked_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let found = || {
        let value = |text: &str| Some(Shown::Value(text.to_owned()));
        let field = |kind, expected, actual| Field { field: "note".to_owned(), kind, expected, actual, rule: None };
        let fields =
            vec![field(FieldKind::Changed, value(MARKER), value("x")), field(FieldKind::Extra, None, value(MARKER))];
        [Discrepancy { fields, ..discrepancy(1) }]
    };
    // Groups of an invariant are made of any columns.
    let broken = |night| {
        let first = vec![format!("{MARKER}, 7"), format!("{MARKER}, 8")];
        Summary { expects: vec![ExpectResult { first, ..expect("all add up", 5, 2) }], ..mismatch(night) }
    };
    let has = |written: &Written| -> Vec<String> {
        let files = fs::read_dir(&written.folder).expect("a folder").map(|file| file.expect("a file"));
        let with = files.filter(|file| fs::read_to_string(file.path()).expect("text").contains(MARKER));
        let mut names: Vec<_> = with.map(|file| file.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    };
    let hidden = write(folder.path(), broken(0), found());
    assert_eq!(has(&hidden), Vec::<String>::new());
    let told = serde_json::to_string(&hidden.summary).expect("plain data");
    assert!(!told.contains(MARKER), "nor in what an alarm is given: {told}");
    assert_eq!(hidden.summary.expects[0].first, ["value of length 14"], "those that look the same are told once");
    let length = Some(Shown::Redacted { kind: "value".to_owned(), length: MARKER.len() as u64 });
    assert_eq!(lines(&hidden)[0].fields[0].expected, length);
    let revealed = write_with(folder.path(), broken(1), found(), Contents::Revealed, None);
    assert_eq!(has(&revealed), ["certificate.json", "discrepancies.jsonl", "report.html", "summary.json"]);
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<_> = entries.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_night_appears_whole_and_what_was_left_half_written_goes_with_the_next() {
    let folder = tempfile::tempdir().expect("a folder");
    let reports = Reports::new(folder.path(), MIGRATION);
    let begin = |night| reports.begin(begin(night), Contents::Hidden);
    let mut alive = begin(0).expect("it begins");
    alive.add(discrepancy(1)).expect("it is written");
    drop(begin(1).expect("it begins"));
    // One that was killed before it had a lock.
    fs::create_dir(reports.folder().join("2026-03-09T02-00-00Z.partial")).expect("a folder");
    assert_eq!(reports.nights().expect("nights"), []);
    assert!(begin(0).is_err(), "two of one second");
    let mut third = begin(2).expect("it begins");
    let partial = ["2026-03-01T02-00-00Z.partial", "2026-03-03T02-00-00Z.partial"];
    assert_eq!(names(reports.folder())[1..], partial, "the one that is alive stays");
    third.add(discrepancy(2)).expect("it is written");
    let written = alive.finish(mismatch(0), None).expect("it ends");
    assert_eq!(reports.nights().expect("nights").len(), 1);
    let files = ["certificate.json", "discrepancies.jsonl", "report.html", "report.md", "summary.json"];
    assert_eq!(names(&written.folder), files);
    assert!(begin(0).is_err(), "it is there already");
    third.finish(mismatch(2), None).expect("it ends");
    let nights: Vec<_> = reports.nights().expect("nights").iter().map(ToString::to_string).collect();
    assert_eq!(nights, ["2026-03-03T02-00-00Z", "2026-03-01T02-00-00Z"]);
}

#[test]
fn a_night_of_another_version_is_left_out_of_the_past() {
    let folder = tempfile::tempdir().expect("a folder");
    let written = write(folder.path(), mismatch(0), [discrepancy(1)]);
    let path = written.folder.join("summary.json");
    let text = fs::read_to_string(&path).expect("a summary");
    for other in [text.replace("\"version\": 1", "\"version\": 2"), text.replace("\"grade\"", "\"degree\"")] {
        assert_ne!(other, text);
        fs::write(&path, other).expect("it is changed");
        let reports = Reports::new(folder.path(), MIGRATION);
        let night = reports.latest().expect("a night");
        let error = reports.summary(night).expect_err("another version").to_string();
        assert!(error.contains("summary.json") && error.contains("line"), "{error}");
        let next = write(folder.path(), mismatch(1), [discrepancy(1)]);
        assert_eq!(age(&next), (1, 0));
        fs::remove_dir_all(next.folder).expect("it is removed");
    }
}

#[test]
fn a_night_whose_lines_are_lost_or_broken_costs_its_ages_and_not_the_next_report() {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), mismatch(0), [discrepancy(1)]);
    let second = write(folder.path(), mismatch(1), [discrepancy(1)]);
    let path = second.folder.join("discrepancies.jsonl");
    fs::write(&path, "{").expect("it is broken");
    assert_eq!(age(&write(folder.path(), mismatch(2), [discrepancy(1)])), (0, 1));
    fs::remove_file(&path).expect("it is removed");
    fs::remove_dir_all(second.folder.with_file_name("2026-03-03T02-00-00Z")).expect("it is removed");
    assert_eq!(age(&write(folder.path(), mismatch(3), [discrepancy(1)])), (0, 1));
}

#[test]
fn a_headline_claims_no_more_than_was_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let headline = |night, summary, found: &[Discrepancy]| {
        let summary = Summary { started: begin(night), ..summary };
        words::headline(&write(folder.path(), summary, found.to_vec()).summary)
    };
    let unsettled = Discrepancy { state: State::Unsettled, ..discrepancy(2) };
    let both = [discrepancy(1), unsettled.clone()];
    let cases = [
        (matching(0), &[][..], "9,383,350 rows expected, and each is as it should be, 12 within a tolerance."),
        (mismatch(0), &both, "1 discrepancy is proven among 9,383,350 expected rows; 1 more unsettled."),
        (mismatch(0), &[], "The two sides differ, although no single row is proven wrong."),
        (incomplete(0), &both, "1 discrepancy is proven, and something else could not be compared."),
        (incomplete(0), &[unsettled], "1 row is unsettled, and nothing is proven wrong."),
        (incomplete(0), &[], "Not everything could be compared, and nothing is proven wrong."),
    ];
    for (night, (summary, found, expected)) in cases.into_iter().enumerate() {
        assert_eq!(headline(night as i64, summary, found), expected);
    }
}

#[test]
fn causes_are_gathered_by_look_with_their_hours() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |number: u64, place: &str| {
        let mut found = discrepancy(number);
        found.fields[0].field = place.to_owned();
        found
    };
    let missing =
        |number| Discrepancy { kind: Kind::Missing, fields: Vec::new(), written: None, ..discrepancy(number) };
    // Paths within a document are one look; numbers 0 to 9 were written in five hours, two in each, and 10 in the first.
    let found = (0..11).map(|number| path(number, &format!("doc.items[{number}]"))).chain((20..23).map(missing));
    let written = write(folder.path(), mismatch(0), found);
    let [first, second] = &written.summary.causes[..] else { panic!("two causes: {:?}", written.summary.causes) };
    assert_eq!((first.count, first.fields.as_slice()), (11, &["doc".to_owned()][..]));
    assert_eq!(first.rules, ["money"]);
    assert_eq!(first.examples.len(), 5);
    let when = first.when.as_ref().expect("hours");
    assert_eq!(
        [when.first, when.last, when.busiest].map(|at| at.to_string()),
        ["2026-02-28T22:00:00Z", "2026-03-01T02:00:00Z", "2026-03-01T02:00:00Z"]
    );
    assert_eq!(when.count, 3);
    assert_eq!((second.count, second.kind, &second.when), (3, Kind::Missing, &None));
}

#[test]
fn very_many_looks_are_gathered_by_table_and_kind() {
    let folder = tempfile::tempdir().expect("a folder");
    let found = (0..1_500).map(|number| {
        let mut found = discrepancy(number);
        found.fields[0].field = format!("column_{number}");
        found
    });
    let causes = write(folder.path(), mismatch(0), found).summary.causes;
    assert_eq!((causes.len(), causes[0].count, causes[0].fields.as_slice()), (1_001, 500, &["*".to_owned()][..]));
    assert_eq!(causes.iter().map(|cause| cause.count).sum::<u64>(), 1_500);
}

#[test]
fn markdown_cannot_be_steered_by_names() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut summary = mismatch(0);
    summary.why[0].sentence = "<b>|`x`\n# [y](z)".to_owned();
    let written = write(folder.path(), summary, []);
    let text = fs::read_to_string(written.folder.join("report.md")).expect("Markdown");
    assert!(text.contains("\n- \\<b\\>\\|\\`x\\`\\\\n\\# \\[y\\](z) (1)\n"), "{text}");
}

#[test]
fn a_certificate_holds_counts_and_digests_of_the_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let written = write(folder.path(), mismatch(0), [discrepancy(1)]);
    let text = fs::read_to_string(written.folder.join("certificate.json")).expect("a certificate");
    let value: Value = serde_json::from_str(&text).expect("JSON");
    assert!(text.starts_with("{\"certificate\":{\"budget\":{\"memory_bytes\":231211008,"), "{text}");
    assert_eq!(value["signature"], Value::Null);
    assert_eq!(value["certificate"]["verdict"], "MISMATCH");
    assert_eq!(value["certificate"]["details"]["found"], 1);
    let files = value["certificate"]["files"].as_object().expect("files");
    assert_eq!(files.keys().collect::<Vec<_>>(), ["discrepancies.jsonl", "report.html", "report.md", "summary.json"]);
}

//! What becomes of a pair of rows, field by field, and what is counted on the way.

use std::sync::Arc;

use jiff::civil::date;
use rehome::engine::diff::{By, Kind};
use rehome::engine::{Engine, Settings};
use rehome::event::Value;
use rehome::rules::{Comparison, Finding, Judged, Pair, RuleId, RuleKind, Ruleset, TableRules, Uses};
use rehome::target::{TargetKey, TargetRow};

use super::bench::{FIRST, decimal, dynamo, float, item, json, postgres, row, rules, strict, time, tolerant};

fn things(text: &str) -> Ruleset {
    rules(&postgres(), text)
}

/// The places that differ.
fn places(table: &TableRules, expected: &TargetRow, actual: &TargetRow, pair: Pair) -> Vec<String> {
    match table.compare(expected, actual, pair, &mut Uses::new()) {
        Comparison::Different(differences) => differences.iter().map(|found| found.field.to_string()).collect(),
        Comparison::Equal | Comparison::Tolerated(_) => Vec::new(),
    }
}

#[test]
fn a_difference_is_told_at_the_smallest_place() {
    let none = things("");
    let table = none.table(FIRST);
    let one = row(&[("body", json(r#"{"m":[{"t":"a","n":1},{"t":"b"}],"k":1}"#)), ("name", Value::text("x"))]);
    let other = row(&[("body", json(r#"{"m":[{"t":"a","n":2.0},{"t":"c","z":null}]}"#)), ("name", Value::text("x"))]);
    assert_eq!(places(table, &one, &other, Pair::Key), ["body.k", "body.m[0].n", "body.m[1].t", "body.m[1].z"]);
    let Comparison::Different(found) = table.compare(&one, &other, Pair::Key, &mut Uses::new()) else {
        panic!("differ")
    };
    assert_eq!((&found[0].expected, &found[0].actual), (&Some(decimal("1")), &None));
    assert_eq!((&found[3].expected, &found[3].actual), (&None, &Some(Value::Null)));
    assert_eq!((found[1].field.cluster(), &*found[1].field.root), ("body.m[].n".to_owned(), "body"));
    let shorter = row(&[("body", json(r#"{"m":[{"t":"a","n":1}],"k":1}"#)), ("name", Value::text("x"))]);
    assert_eq!(places(table, &one, &shorter, Pair::Key), ["body.m"]);
    assert_eq!(places(table, &one, &row(&[("name", Value::text("x"))]), Pair::Key), ["body"]);
    // A JSON null and SQL NULL hold the same nothing, and differ.
    let null = row(&[("body", json("null")), ("name", Value::text("x"))]);
    assert_eq!(places(table, &null, &row(&[("name", Value::text("x"))]), Pair::Key), ["body"]);
    let dynamo = rules(&dynamo(), "");
    let nested = |n: &str| item(&[("a", Value::Map([("b".into(), decimal(n))].into()))]);
    assert_eq!(places(dynamo.table(FIRST), &nested("1"), &nested("2"), Pair::Key), ["a.b"]);
    assert_eq!(places(dynamo.table(FIRST), &nested("1"), &item(&[]), Pair::Key), ["a"]);
}

#[test]
fn a_document_that_is_nothing_is_one_with_null() {
    let set = things(
        "[[normalise]]\ntable = \"things\"\nfields = [\"body\"]\nunify = [\"null\", \"empty\"]\nreason = \"r\"\n",
    );
    let table = set.table(FIRST);
    let forms = [row(&[]), row(&[("body", json("null"))]), row(&[("body", json("[]"))]), row(&[("body", json("{}"))])];
    for one in &forms {
        for other in &forms {
            assert_eq!(strict(table, one), strict(table, other));
            assert_eq!(places(table, one, other, Pair::Key), [""; 0]);
        }
        assert_ne!(strict(table, one), strict(table, &row(&[("body", json("[1]"))])));
    }
}

#[test]
fn what_judges_findings_counts_where_a_comparison_goes_on_and_not_for_digests() {
    let ignore = "[[ignore]]\ntable = \"things\"\nfields = [\"note\"]\nreason = \"r\"\n";
    let expect = "[[expect]]\nname = \"n\"\nleft = [{ legacy = \"things\", add = 1 }]\nis = \"=\"\nright = [{ target = \"things\", add = 1 }]\nreason = \"r\"\n";
    let [plain, more] = [ignore.to_owned(), format!("{ignore}{expect}")].map(|text| things(&text));
    assert_eq!(plain.id(), more.id());
    assert_ne!(plain.whole(), more.whole());
    assert_eq!(plain.whole(), things(&ignore.replace("\"r\"", "\"another reason\"")).whole());
}

#[test]
fn what_is_normalised_or_ignored_is_alike_and_counted_by_row() {
    let set = things(
        "[[normalise]]\ntable = \"things\"\nfields = [\"name\", \"body.*.t\"]\nas = [\"trim\", \"lower\"]\nreason = \"r\"\n\
         [[ignore]]\ntable = \"things\"\nfields = [\"body.*.id\", \"note\"]\nreason = \"r\"\n",
    );
    let table = set.table(FIRST);
    let one = row(&[("name", Value::text(" A ")), ("body", json(r#"[{"t":"X","id":1}]"#)), ("note", Value::text("n"))]);
    let other = row(&[("name", Value::text("a")), ("body", json(r#"[{"t":"x"}]"#))]);
    assert_eq!(strict(table, &one), strict(table, &other));
    assert_eq!(table.compare(&one, &other, Pair::Key, &mut Uses::new()), Comparison::Equal);
    let mut uses = Uses::new();
    table.strict(&one, Pair::Key, &mut uses, &mut Vec::new());
    // Two fields of one rule are two uses; NULL is left out as much as any value.
    assert_eq!((uses.of(RuleId(0)).count, uses.of(RuleId(1)).count), (2, 2));
    table.strict(&other, Pair::Key, &mut uses, &mut Vec::new());
    assert_eq!((uses.of(RuleId(0)).count, uses.of(RuleId(1)).count), (2, 3));
    assert_eq!(places(table, &one, &row(&[("name", Value::text("b"))]), Pair::Key), ["name", "body"]);
}

/// A rule that leaves a cell out of one row and not of another must not let a neighbour stand in its place.
#[test]
fn what_is_left_out_of_some_rows_leaves_a_gap() {
    let set = things(
        "[[ignore]]\ntable = \"things\"\nfields = [\"name\"]\nwhere = { empty = \".name\" }\nreason = \"r\"\n\
         [[ignore]]\ntable = \"things\"\nfields = [\"note\"]\nwhere = { empty = \".note\" }\nreason = \"r\"\n",
    );
    let table = set.table(FIRST);
    let of = |name: &str, note: &str| row(&[("name", Value::text(name)), ("note", Value::text(note))]);
    assert_eq!(places(table, &of("", "x"), &of("x", ""), Pair::Key), ["name", "note"]);
    assert_ne!(strict(table, &of("", "x")), strict(table, &of("x", "")));
}

#[test]
fn what_is_tolerated_is_out_of_one_form_and_judged_by_the_pair() {
    let set = things(
        "[[tolerate]]\ntable = \"things\"\nfields = [\"amount\", \"body.score\"]\nabsolute = \"0.01\"\nreason = \"r\"\n\
         [[tolerate]]\ntable = \"things\"\nfields = [\"ratio\"]\nrelative = \"0.001\"\nreason = \"r\"\n",
    );
    let table = set.table(FIRST);
    assert!(table.has_tolerance() && !table.has_match());
    let of = |amount: &str, ratio: f64, score: &str| {
        let body = json(&format!(r#"{{"score":{score}}}"#));
        row(&[("amount", decimal(amount)), ("ratio", float(ratio)), ("body", body)])
    };
    let base = of("1.00", 1000.0, "5");
    let mut uses = Uses::new();
    let mut judge = |other: &TargetRow| table.compare(&base, other, Pair::Key, &mut uses);
    assert_eq!(judge(&of("1.00", 1000.0, "5.0")), Comparison::Equal);
    assert_eq!(judge(&of("1.01", 1000.0, "5")), Comparison::Tolerated(vec![RuleId(0)]));
    assert_eq!(judge(&of("0.995", 1000.5, "5.004")), Comparison::Tolerated(vec![RuleId(0), RuleId(1)]));
    let Comparison::Different(found) = judge(&of("1.02", 1000.5, "5")) else { panic!("it is beyond") };
    assert_eq!(found.iter().map(|found| found.field.to_string()).collect::<Vec<_>>(), ["amount"]);
    // Two fields in the third pair, one in the second; what is beyond is no use.
    assert_eq!(uses.of(RuleId(0)).count, 3);
    assert_eq!(uses.of(RuleId(0)).largest.expect("a deviation").to_string(), "0.01");
    assert_eq!(uses.of(RuleId(1)).count, 2);
    assert_eq!(uses.of(RuleId(1)).largest.expect("a deviation").to_string(), "0.5");
    assert_eq!(tolerant(table, &base), tolerant(table, &of("9", 9.0, "9")));
    assert_ne!(strict(table, &base), strict(table, &of("1.01", 1000.0, "5")));
    // What one side lacks is not near anything.
    let without = row(&[("amount", decimal("1.00")), ("ratio", float(1000.0)), ("body", json("{}"))]);
    assert_eq!(places(table, &base, &without, Pair::Key), ["body.score"]);
    let none = things("");
    assert_eq!(strict(none.table(FIRST), &base), tolerant(none.table(FIRST), &base));
}

#[test]
fn rules_about_rows_of_someone_else_leave_ours_alone() {
    let set = things(
        "[[match]]\ntable = \"things\"\nby = [\".name\"]\norder = [\".at\", \".id\"]\nreason = \"r\"\n\
         [[ignore]]\ntable = \"things\"\nfields = [\"note\"]\nwhen = \"matched\"\nwhere = { is = \".name\", one_of = [\"x\"] }\nreason = \"r\"\n\
         [[tolerate]]\ntable = \"things\"\nfields = [\"at\"]\nwindow = \"1 min\"\nwhen = \"foreign\"\nreason = \"r\"\n",
    );
    let table = set.table(FIRST);
    let of = |id: i64, name: &str, note: &str, us| {
        let mut row = row(&[("name", Value::text(name)), ("note", Value::text(note)), ("at", time(us))]);
        row.values[0] = Value::Int(id);
        row
    };
    let (ours, theirs) = (of(1, "x", "a", 0), of(2, "x", "b", 5));
    assert_eq!(places(table, &ours, &theirs, Pair::Key), ["id", "note", "at"]);
    assert_eq!(places(table, &ours, &theirs, Pair::Foreign), ["id", "note"]);
    let mut uses = Uses::new();
    let matching = set.describe().iter().position(|rule| rule.kind == RuleKind::Match).expect("a match");
    let tolerance = set.describe().iter().position(|rule| rule.kind == RuleKind::Tolerate).expect("a tolerance");
    let rule = |at: usize| RuleId(u16::try_from(at).expect("few"));
    assert_eq!(table.compare(&ours, &theirs, Pair::Match, &mut uses), Comparison::Tolerated(vec![rule(tolerance)]));
    assert_eq!(uses.of(rule(matching)).count, 1);
    // The rule is about rows named x alone.
    assert_eq!(places(table, &of(1, "y", "a", 0), &of(2, "y", "b", 0), Pair::Match), ["note"]);
    let mut forms = [Vec::new(), Vec::new()];
    table.strict(&of(1, "x", "a", 0), Pair::Match, &mut uses, &mut forms[0]);
    table.strict(&of(2, "x", "b", 0), Pair::Match, &mut uses, &mut forms[1]);
    assert_eq!(forms[0], forms[1]);
}

#[test]
fn rows_are_paired_by_group_and_order() {
    let set = things(
        "[[match]]\ntable = \"things\"\nby = [\".name\", \".token\"]\norder = [\".amount\", \".at\"]\nreason = \"r\"\n",
    );
    let table = set.table(FIRST);
    let of = |name: &str, amount: &str, us| {
        table
            .pairing(&row(&[("name", Value::text(name)), ("amount", decimal(amount)), ("at", time(us))]))
            .expect("a match")
    };
    assert_eq!(of("x", "1", 0).group, [Value::text("x"), Value::Null]);
    assert_ne!(of("x", "1", 0).group, of("y", "1", 0).group);
    let ordered = [of("x", "-1", 9), of("x", "9", 1), of("x", "10", -1), of("x", "10.0", 0), of("x", "10", 1)];
    assert!(ordered.is_sorted_by(|one, next| one.order < next.order), "by value, then by time");
    assert!(things("").table(FIRST).pairing(&row(&[])).is_none());
}

#[test]
fn rows_out_of_scope_and_rows_that_may_be_gone_are_told_with_their_rule() {
    let set = things(
        "[[scope]]\ntable = \"things\"\nwhere = { starts_with = \"ours:\", of = \".name\" }\nreason = \"r\"\n\
         [[scope]]\ntable = \"things\"\nwhere = { not = { absent = \".body.legacy_id\" } }\nreason = \"r\"\n\
         [[retention]]\ntable = \"things\"\ntime = \".at\"\nolder_than = \"90 days\"\nreason = \"r\"\n",
    );
    let table = set.table(FIRST);
    let day = |day: jiff::civil::Date| {
        let point = day.to_zoned(jiff::tz::TimeZone::UTC).expect("a day").timestamp();
        time(i128::from(point.as_microsecond()))
    };
    let mut uses = Uses::new();
    let of = |name: &str, body: &str, at: Value| row(&[("name", Value::text(name)), ("body", json(body)), ("at", at)]);
    let mut judge = |row: &TargetRow| table.scope(row, &mut uses);
    let today = day(date(2026, 6, 1));
    assert_eq!(judge(&of("ours:1", "{}", today.clone())), Judged::Ours);
    assert_eq!(judge(&of("theirs", r#"{"legacy_id":0}"#, today.clone())), Judged::Ours);
    assert_eq!(judge(&of("theirs", r#"{"legacy_id":null}"#, today)), Judged::OutOfScope(RuleId(0)));
    assert_eq!(judge(&of("ours:1", "{}", day(date(2026, 3, 2)))), Judged::Expired(RuleId(2)));
    assert_eq!(judge(&of("ours:1", "{}", day(date(2026, 3, 3)))), Judged::Ours, "ninety days ago is not older");
    assert_eq!(judge(&of("theirs", "{}", day(date(2020, 1, 1)))), Judged::OutOfScope(RuleId(0)));
    assert_eq!((uses.of(RuleId(0)).count, uses.of(RuleId(1)).count, uses.of(RuleId(2)).count), (2, 0, 1));
}

#[test]
fn a_waiver_excuses_what_it_names_and_stays_visible() {
    let waive = |finding: &str, more: &str| {
        format!(
            "[[waive]]\ntable = \"things\"\nfinding = \"{finding}\"\n{more}reason = \"r\"\nauthor = \"a\"\nuntil = 2026-06-01\n"
        )
    };
    let set = things(
        &[
            waive("changed", "fields = [\"body.a\"]\nwhere = { is = \".name\", one_of = [\"x\"] }\n"),
            waive("missing", "where = { is = \".name\", one_of = [\"gone\"] }\n"),
        ]
        .concat(),
    );
    let table = set.table(FIRST);
    let of = |name: &str, body: &str| row(&[("name", Value::text(name)), ("body", json(body))]);
    let mut uses = Uses::new();
    let judged =
        table.compare(&of("x", r#"{"a":{"b":1},"c":1}"#), &of("x", r#"{"a":{"b":2},"c":2}"#), Pair::Key, &mut uses);
    let Comparison::Different(found) = judged else { panic!("a waived difference is one") };
    let told: Vec<_> = found.iter().map(|found| (found.field.to_string(), found.waived)).collect();
    assert_eq!(told, [("body.a.b".to_owned(), Some(RuleId(0))), ("body.c".to_owned(), None)]);
    let judged = table.compare(&of("y", r#"{"a":1}"#), &of("y", r#"{"a":2}"#), Pair::Key, &mut uses);
    assert!(matches!(judged, Comparison::Different(found) if found[0].waived.is_none()));
    assert_eq!(table.waiver(Finding::Missing, &of("gone", "{}"), &mut uses), Some(RuleId(1)));
    assert_eq!(table.waiver(Finding::Missing, &of("x", "{}"), &mut uses), None);
    assert_eq!(table.waiver(Finding::Extra, &of("gone", "{}"), &mut uses), None);
    assert_eq!((uses.of(RuleId(0)).count, uses.of(RuleId(1)).count), (1, 1));
}

#[test]
fn a_key_is_in_the_writing_that_its_store_gives_back() {
    let dynamo = dynamo();
    let none = Ruleset::none(&dynamo);
    let at = |text: &str| {
        let mut row = item(&[]);
        let Value::Map(attributes) = &mut row.values[2] else { panic!("an item") };
        attributes.insert("at".into(), decimal(text));
        row.values[1] = decimal(text);
        row
    };
    assert_eq!(none.table(FIRST).key(&at("1.50")), none.table(FIRST).key(&at("1.5")));
    assert_eq!(none.table(FIRST).key(&at("1.50")).values, [Value::text("o"), decimal("1.5")]);
    let lower = rules(
        &dynamo,
        "[[normalise]]\ntable = \"events_by_owner\"\nfields = [\"owner\"]\nas = [\"lower\"]\nreason = \"r\"\n",
    );
    let mut upper = item(&[]);
    upper.values[0] = Value::text("O");
    let Value::Map(attributes) = &mut upper.values[2] else { panic!("an item") };
    attributes.insert("owner".into(), Value::text("O"));
    assert_eq!(lower.table(FIRST).key(&upper), lower.table(FIRST).key(&item(&[])));
    assert_ne!(none.table(FIRST).key(&upper), none.table(FIRST).key(&item(&[])));
    // Of a row that is recorded no more than its key is known.
    for row in [&at("1.50"), &upper, &item(&[])] {
        let key = TargetKey::new(FIRST, row.values[..2].to_vec());
        for set in [&none, &lower] {
            assert_eq!(set.table(FIRST).key_alone(&key), set.table(FIRST).key(row));
        }
    }
}

/// By its key the row is there; by the rule it is nobody's any more.
#[test]
fn a_row_that_was_moved_out_of_scope_is_missing_and_one_moved_in_is_extra() {
    let set =
        things("[[scope]]\ntable = \"things\"\nwhere = { is = \".name\", one_of = [\"ours\"] }\nreason = \"r\"\n");
    let engine = Engine::new(Arc::new(postgres()), Settings::new("unused".into(), None, None));
    let by = By { tables: engine.tables(), rules: Some(&set), ours: None };
    let [ours, theirs] = ["ours", "theirs"].map(|name| row(&[("name", Value::text(name))]));
    let kinds = |expected: &TargetRow, actual: &TargetRow| -> Vec<Kind> {
        let found = by.compare(std::slice::from_ref(expected), std::slice::from_ref(actual));
        found.iter().map(|found| found.kind).collect()
    };
    assert_eq!(kinds(&ours, &theirs), [Kind::Missing]);
    assert_eq!(kinds(&theirs, &ours), [Kind::Extra]);
    assert_eq!(kinds(&theirs, &row(&[("name", Value::text("theirs")), ("note", Value::text("n"))])), []);
    assert_eq!(kinds(&ours, &row(&[("name", Value::text("ours")), ("note", Value::text("n"))])), [Kind::Changed]);
}

//! What is wrong in a file of rules is told with its place and its remedy, all of it at once.

use jiff::civil::date;
use rehome::mapping::SourceFile;
use rehome::rules::{RuleKind, Ruleset};

use super::bench::{TODAY, dynamo, postgres, read, rules};

/// Asserts that one rule is refused for one thing, on its second line, and that the remedy holds a text.
fn refused(rule: &str, message: &str, fix: &str) {
    let error = read(&postgres(), rule).expect_err(rule);
    let [problem] = error.problems.as_slice() else { panic!("{rule}\n{error}") };
    assert!(problem.message.contains(message), "{rule}\n{error}");
    assert!(problem.fix.contains(fix), "{rule}\n{error}");
    assert!(problem.position().0 > 1, "{error}");
}

#[test]
fn each_mistake_is_told_with_its_remedy() {
    let rule = |kind: &str, members: &str| format!("[[{kind}]]\ntable = \"things\"\n{members}\nreason = \"r\"\n");
    let field = |kind: &str, field: &str, more: &str| rule(kind, &format!("fields = [\"{field}\"]\n{more}"));
    for (text, message, fix) in [
        (rule("ignore", "fields = [\"nam\"]"), "unknown column of `things` `nam`", "did you mean `name`?"),
        (rule("ignore", "fields = []"), "names no field", "list at least one"),
        (field("ignore", "name.x", ""), "has no members", "name the column alone"),
        (field("ignore", "id", ""), "is in the key", "a [[match]] pairs rows by something else"),
        (field("ignore", "name", "when = \"matched\""), "no `match` pairs rows", "add a [[match]]"),
        (field("ignore", "name", "when = \"always\""), "unknown pairs `always`", "foreign"),
        (field("normalise", "name", ""), "does not say what to make alike", "exactly one of"),
        (field("normalise", "name", "as = [\"trimmed\"]"), "unknown change `trimmed`", "did you mean `trim`?"),
        (field("normalise", "amount", "as = [\"trim\"]"), "`amount` is numeric", "are for text"),
        (field("normalise", "name", "floor = \"1 s\""), "`name` is text", "floor is for timestamps"),
        (field("normalise", "at", "floor = \"soon\""), "no duration of whole microseconds", "500 ms"),
        (field("normalise", "at", "floor = \"0 s\""), "no duration", "1 s"),
        (field("normalise", "name", "unify = [\"null\"]"), "one form alone", "at least two"),
        (field("normalise", "name", "unify = [\"null\", \"absent\"]"), "`name` is text", "never absent"),
        (field("tolerate", "amount", "absolute = \"-1\""), "no number above zero", "0.01"),
        (field("tolerate", "name", "absolute = \"1\""), "`name` is text", "a window is for times"),
        (field("tolerate", "at", "absolute = \"1\""), "`at` is timestamp", "a window is for times"),
        (field("tolerate", "amount", "window = \"1 s\""), "`amount` is numeric", "a window is for times"),
        (
            field("tolerate", "amount", "absolute = \"1\"\nwindow = \"1 s\""),
            "how far values may be apart",
            "exactly one",
        ),
        (rule("scope", "where = { is = \".name\" }"), "this is no condition", "is with one_of"),
        (rule("scope", "where = { is = \".amount\", one_of = [] }"), "a whole number, and text is needed", "that type"),
        (rule("scope", "where = { matches = \"(\", of = \".name\" }"), "this is no pattern", "regex"),
        (rule("scope", "where = { every = [] }"), "no condition in this", "at least one"),
        (rule("scope", "where = { same = [\".name\"] }"), "`same` has 1 terms", "give two"),
        (rule("scope", "where = { absent = \".body.*\" }"), "`*` stands for many", "name one member"),
        (rule("retention", "time = \".at\""), "which rows may be gone", "exactly one of"),
        (rule("retention", "time = \".name\"\nolder_than = \"90 days\""), "this is text, and a time is needed", "type"),
        (rule("retention", "time = \".at\"\nolder_than = \"3 h\""), "no number of days", "90 days"),
        (rule("retention", "time = \".at\"\nbefore = 2025-01-01"), "no point in time", "2025-01-01T00:00:00Z"),
        (rule("match", "by = []\norder = [\".at\"]"), "there is no term in this", "at least one"),
        (rule("ignore", "fields = [\"name\"]\nuntil = 2026-05-31"), "the rule ended on 2026-05-31", "renew it"),
        (rule("ignore", "fields = [\"name\"]\nuntil = 2026-05-31T00:00:00Z"), "this is no day", "2026-12-31"),
        (
            "[[ignore]]\ntable = \"thing\"\nfields = [\"name\"]\nreason = \"r\"\n".to_owned(),
            "unknown target table `thing`",
            "did you mean `things`?",
        ),
        (
            "[[ignore]]\ntable = \"things\"\nfields = [\"name\"]\nreason = \" \"\n".to_owned(),
            "has no reason",
            "say why",
        ),
        ("[[ignore]]\ntable = \"things\"\nfields = [\"name\"]\n".to_owned(), "missing field `reason`", "docs/rules.md"),
        (rule("ignored", "fields = [\"name\"]"), "unknown field `ignored`", "did you mean `ignore`?"),
    ] {
        refused(&text, message, fix);
    }
}

#[test]
fn a_waiver_names_its_author_and_its_end_and_ends() {
    let waive = |more: &str| format!("[[waive]]\ntable = \"things\"\nfinding = \"changed\"\nreason = \"r\"\n{more}");
    refused(&waive("until = 2026-12-31\n"), "missing field `author`", "docs/rules.md");
    refused(&waive("author = \"a\"\n"), "missing field `until`", "docs/rules.md");
    refused(&waive("author = \"\"\nuntil = 2026-12-31\n"), "no author", "say who answers for it");
    let ends = waive("author = \"a\"\nuntil = 2026-06-01\n");
    assert!(read(&postgres(), &ends).is_ok(), "its last day is one of its days");
    let file = SourceFile::new("reconcile-rules/bench.toml", format!("migration = \"bench\"\n{ends}"));
    let error = Ruleset::read(&file, &postgres(), TODAY.tomorrow().expect("a day")).expect_err("it has ended");
    assert_eq!(
        error.to_string(),
        "the migration `bench` has 1 problem\nreconcile-rules/bench.toml:7:9: the rule ended on 2026-06-01 \
         (look at what it excused, and take it out or renew it)"
    );
    refused(
        "[[waive]]\ntable = \"things\"\nfinding = \"missing\"\nfields = [\"name\"]\nreason = \"r\"\nauthor = \"a\"\nuntil = 2026-12-31\n",
        "has no fields to compare",
        "take `fields` out",
    );
}

#[test]
fn an_invariant_is_checked_against_both_sides() {
    let expect = |left: &str, right: &str| {
        format!("[[expect]]\nname = \"n\"\nleft = [{left}]\nis = \"=\"\nright = [{right}]\nreason = \"r\"\n")
    };
    let fine = "{ legacy = \"things\", add = 1 }";
    for (left, right, message, fix) in [
        ("", fine, "nothing stands on the left", "at least one table"),
        ("{ add = 1 }", fine, "whose rows are added up", "exactly one of"),
        ("{ legacy = \"thing\", add = 1 }", fine, "unknown legacy table `thing`", "did you mean `things`?"),
        ("{ legacy = \"things\", add = \".name\" }", fine, "this is text, and a whole number is needed", "type"),
        (
            "{ legacy = \"things\", by = [\".id\"], add = 1 }",
            fine,
            "groups by 0 values, another sum by 1",
            "same things",
        ),
        (
            "{ legacy = \"things\", by = [\".id\"], add = 1 }",
            "{ target = \"things\", by = [\".name\"], add = 1 }",
            "of another kind",
            "number",
        ),
        ("{ legacy = \"things\", add = { length = \".amount\" } }", fine, "a whole number, and text is needed", "type"),
        ("{ legacy = \"things\", add = { length = \".name\", epoch = \".at\" } }", fine, "no term", "exactly one of"),
        (
            "{ legacy = \"things\", add = { number = { capture = \"x\", of = \".name\" } } }",
            fine,
            "no group to take",
            "( )",
        ),
    ] {
        refused(&expect(left, right), message, fix);
    }
    refused(&expect(fine, fine).replace("\"=\"", "\"==\""), "unknown relation `==`", "did you mean");
}

#[test]
fn a_field_that_is_ignored_is_not_tolerated_too() {
    refused(
        "[[ignore]]\ntable = \"things\"\nfields = [\"amount\"]\nreason = \"r\"\n\
         [[tolerate]]\ntable = \"things\"\nfields = [\"amount\"]\nabsolute = \"1\"\nreason = \"r\"\n",
        "the tolerance would do nothing",
        "keep one",
    );
    refused(
        "[[match]]\ntable = \"things\"\nby = [\".name\"]\norder = [\".at\"]\nreason = \"r\"\n\
         [[match]]\ntable = \"things\"\nby = [\".note\"]\norder = [\".at\"]\nreason = \"r\"\n",
        "another `match`",
        "keep one",
    );
}

#[test]
fn every_mistake_is_told_at_once_and_rules_of_another_migration_are_refused() {
    let text = "migration = \"other\"\n[[ignore]]\ntable = \"things\"\nfields = [\"nam\", \"nott\"]\nreason = \"\"\n\
                [[tolerate]]\ntable = \"things\"\nfields = [\"amount\"]\nreason = \"r\"\n";
    let error = Ruleset::read(&SourceFile::new("reconcile-rules/bench.toml", text), &postgres(), TODAY);
    let error = error.expect_err("it is wrong");
    let lines: Vec<_> = error.problems.iter().map(|problem| problem.position().0).collect();
    assert_eq!(lines, [1, 4, 4, 5, 7], "{error}");
}

#[test]
fn rules_describe_themselves_in_the_order_of_their_ids() {
    let set = rules(
        &postgres(),
        "[[tolerate]]\ntable = \"things\"\nfields = [\"amount\"]\nabsolute = \"0.01\"\nreason = \"pence\"\nauthor = \"a\"\nuntil = 2026-12-31\n\
         [[normalise]]\ntable = \"things\"\nfields = [\"name\", \"body.t\"]\nas = [\"trim\", \"nfc\"]\nreason = \"typing\"\n",
    );
    let [first, second] = set.describe() else { panic!("two rules") };
    assert_eq!((first.kind, &*first.says, first.line), (RuleKind::Normalise, "trim, nfc", 13));
    assert_eq!(first.fields, [Box::from("name"), Box::from("body.t")]);
    assert_eq!((second.kind, &*second.says, &*second.reason), (RuleKind::Tolerate, "within 0.01", "pence"));
    assert_eq!((second.author.as_deref(), second.until), (Some("a"), Some(date(2026, 12, 31))));
    assert_eq!(second.table.as_deref(), Some("things"));
}

#[test]
fn attributes_need_no_declaration_but_a_name() {
    let of = |field: &str| {
        let text = format!("[[ignore]]\ntable = \"events_by_owner\"\nfields = [\"{field}\"]\nreason = \"r\"\n");
        read(&dynamo(), &text).map(|_| ()).map_err(|error| error.problems[0].message.clone())
    };
    assert_eq!(of("anything.at.all"), Ok(()));
    assert_eq!(of("*"), Err("an attribute has no name".to_owned()));
    assert_eq!(of("owner"), Err("`owner` is in the key, by which rows are paired; it cannot be ignored".to_owned()));
}

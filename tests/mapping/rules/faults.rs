//! Faults of other comparing tools, each as a test that fails when what guards against it is taken away. The numbers are
//! those of the acceptance corpus; those about scanning, joining and confirming stand with the reconciler.

use std::collections::BTreeSet;

use proptest::prelude::*;
use rehome::event::{Float, Value};
use rehome::rules::{Comparison, Pair, RuleId, Ruleset, Uses};

use super::bench::{FIRST, decimal, dynamo, float, item, json, postgres, row, rules, strict, time, tolerant};

/// Asserts that rows are compared as so many different things, and each as itself.
fn assert_all_differ(set: &Ruleset, rows: &[rehome::target::TargetRow]) {
    let table = set.table(FIRST);
    let forms: BTreeSet<_> = rows.iter().map(|row| strict(table, row)).collect();
    assert_eq!(forms.len(), rows.len(), "{rows:?}");
    for (at, one) in rows.iter().enumerate() {
        for (other_at, other) in rows.iter().enumerate() {
            let equal = table.compare(one, other, Pair::Key, &mut Uses::new()) == Comparison::Equal;
            assert_eq!(equal, at == other_at, "{one:?} {other:?}");
        }
    }
}

/// Asserts that rows are compared as one thing.
fn assert_all_equal(set: &Ruleset, rows: &[rehome::target::TargetRow]) {
    let table = set.table(FIRST);
    for row in rows {
        assert_eq!(strict(table, row), strict(table, &rows[0]), "{row:?}");
        assert_eq!(table.compare(row, &rows[0], Pair::Key, &mut Uses::new()), Comparison::Equal);
    }
}

#[test]
fn fault_01_values_do_not_run_into_one_another() {
    let texts = |name: &str, note: &str| row(&[("name", Value::text(name)), ("note", Value::text(note))]);
    let none = Ruleset::none(&postgres());
    assert_all_differ(
        &none,
        &[
            texts("a|b", "c"),
            texts("a", "b|c"),
            texts("a,b", "c"),
            texts("a", "b,c"),
            texts("ab", "c"),
            texts("a", "bc"),
        ],
    );
    assert_all_differ(&none, &[json(r#"["a","b,c"]"#), json(r#"["a,b","c"]"#)].map(|body| row(&[("body", body)])));
}

/// Any value that a column of the bench can hold.
fn cell() -> impl Strategy<Value = (&'static str, Value)> {
    prop_oneof![
        "[a|,\\x00\"]{0,3}".prop_map(|text| ("name", Value::text(text))),
        "[a|,\\x00\"]{0,3}".prop_map(|text| ("note", Value::text(text))),
        (-2i64..3, 0u32..3).prop_map(|(digits, scale)| {
            ("amount", decimal(&format!("{digits}{}{}", if scale > 0 { "." } else { "" }, "0".repeat(scale as usize))))
        }),
        prop_oneof![Just(0.0), Just(-0.0), Just(1.0), Just(f64::INFINITY)].prop_map(|number| ("ratio", float(number))),
        (-2i128..3).prop_map(|us| ("at", time(us))),
        prop_oneof![
            Just("null"),
            Just("[]"),
            Just("{}"),
            Just("\"\""),
            Just("0"),
            Just("[null]"),
            Just("{\"a\":null}")
        ]
        .prop_map(|text| ("body", json(text))),
        prop::collection::vec(any::<u8>(), 0..2).prop_map(|bytes| ("raw", Value::Bytes(bytes.into()))),
        any::<bool>().prop_map(|truth| ("flag", Value::Bool(truth))),
    ]
}

proptest! {
    /// Faults 1 and 2: two rows give the same bytes when they are the same row, and only then.
    #[test]
    fn fault_01_the_form_of_a_row_is_injective(
        one in prop::collection::vec(cell(), 0..4),
        other in prop::collection::vec(cell(), 0..4),
    ) {
        let set = Ruleset::none(&postgres());
        let (one, other) = (row(&one), row(&other));
        let same = strict(set.table(FIRST), &one) == strict(set.table(FIRST), &other);
        prop_assert_eq!(same, one == other);
        let judged = set.table(FIRST).compare(&one, &other, Pair::Key, &mut Uses::new());
        prop_assert_eq!(judged == Comparison::Equal, same);
    }

    /// Fault 3: every 64-bit integer and every 38-digit number is itself, in the key too.
    #[test]
    fn fault_03_no_digit_of_a_number_is_lost(one in any::<i64>(), step in 1i64..1_000, digits in "[1-9][0-9]{37}") {
        let other = one.wrapping_add(step);
        let (postgres, dynamo) = (Ruleset::none(&postgres()), Ruleset::none(&dynamo()));
        let id = |id: i64| row(&[("id", Value::Int(id))]);
        let table = postgres.table(FIRST);
        prop_assert_ne!(strict(table, &id(one)), strict(table, &id(other)));
        prop_assert_ne!(table.key(&id(one)), table.key(&id(other)));
        let last = if digits.ends_with('9') { '8' } else { '9' };
        let near = format!("{}{last}", &digits[..37]);
        let amount = |digits: &str| row(&[("amount", decimal(digits))]);
        prop_assert_ne!(strict(table, &amount(&digits)), strict(table, &amount(&near)));
        let number = |digits: &str| item(&[("n", decimal(digits))]);
        let table = dynamo.table(FIRST);
        prop_assert_ne!(strict(table, &number(&digits)), strict(table, &number(&near)));
        prop_assert_eq!(strict(table, &number(&digits)), strict(table, &number(&format!("{digits}.0"))));
    }
}

#[test]
fn fault_02_forms_of_nothing_are_different_things() {
    let text = |text: &str| row(&[("name", Value::text(text))]);
    let none = Ruleset::none(&postgres());
    let forms = ["", " ", "null", "NULL", "<null>", "false", "f", "0", "\0"];
    let mut rows: Vec<_> = forms.map(text).into();
    rows.push(row(&[]));
    assert_all_differ(&none, &rows);
    assert_all_differ(&none, &[row(&[]), row(&[("flag", Value::Bool(false))]), row(&[("flag", Value::Bool(true))])]);
    let body = ["null", "\"\"", "{}", "[]", "false", "0", "\"null\"", "[null]", r#"{"a":null}"#];
    let mut rows: Vec<_> = body.map(|text| row(&[("body", json(text))])).into();
    rows.push(row(&[]));
    assert_all_differ(&none, &rows);
    let attributes = [
        Value::Null,
        Value::text(""),
        Value::text(" "),
        Value::Bool(false),
        decimal("0"),
        Value::List(vec![]),
        Value::Map([].into()),
        Value::Bytes([].into()),
    ];
    let mut rows: Vec<_> = attributes.map(|value| item(&[("x", value)])).into();
    rows.push(item(&[]));
    assert_all_differ(&Ruleset::none(&dynamo()), &rows);
}

/// What a rule makes one, it makes one, and nothing beside it.
#[test]
fn fault_02_forms_of_nothing_are_one_where_a_rule_says_so() {
    let some = rules(
        &dynamo(),
        "[[normalise]]\ntable = \"events_by_owner\"\nfields = [\"x\"]\nunify = [\"absent\", \"empty\"]\nreason = \"r\"\n",
    );
    assert_all_equal(&some, &[item(&[]), item(&[("x", Value::text(""))]), item(&[("x", Value::List(vec![]))])]);
    assert_all_differ(&some, &[item(&[]), item(&[("x", Value::Null)]), item(&[("x", Value::text(" "))])]);
    assert_all_differ(&some, &[item(&[]), item(&[("y", Value::text(""))])]);
}

#[test]
fn fault_04_a_microsecond_is_found() {
    let at = |us| row(&[("at", time(us))]);
    let ever = Value::Timestamp(rehome::event::Timestamp::INFINITY);
    let never = Value::Timestamp(rehome::event::Timestamp::NEG_INFINITY);
    assert_all_differ(
        &Ruleset::none(&postgres()),
        &[at(1_000_000), at(1_000_001), at(999_999), at(-1), row(&[("at", ever)]), row(&[("at", never)]), row(&[])],
    );
}

#[test]
fn fault_21_neither_the_order_of_rows_nor_that_of_members_matters() {
    let none = Ruleset::none(&postgres());
    let written =
        [r#"{"b":1,"a":[1,2],"ä":"x"}"#, r#"{ "ä" : "x", "a": [1,2], "b":1 }"#, r#"{"a":[1,2],"b":1,"\u00e4":"x"}"#];
    assert_all_equal(&none, &written.map(|text| row(&[("body", json(text))])));
    assert_all_differ(&none, &["[1,2]", "[2,1]"].map(|text| row(&[("body", json(text))])));
    // A key's form is its bytes, whatever a collation makes of them.
    let names = ["a", "B", "ä", "Z", "z", "_"].map(|name| row(&[("name", Value::text(name))]));
    let table = none.table(FIRST);
    let forward: BTreeSet<_> = names.iter().map(|row| strict(table, row)).collect();
    let backward: BTreeSet<_> = names.iter().rev().map(|row| strict(table, row)).collect();
    assert_eq!((forward.len(), &forward), (names.len(), &backward));
}

#[test]
fn fault_22_numbers_of_documents_and_keys_never_pass_through_a_double() {
    let (near, next) = ("9007199254740992", "9007199254740993");
    let none = Ruleset::none(&postgres());
    assert_all_differ(&none, &[near, next].map(|text| row(&[("body", json(text))])));
    let nested = |text: &str| row(&[("body", json(&format!(r#"{{"a":[{{"b":{text}}}]}}"#)))]);
    assert_all_differ(
        &none,
        &[nested(near), nested(next), nested("9007199254740992.5"), nested("1e400"), nested("1e401")],
    );
    assert_all_differ(&Ruleset::none(&dynamo()), &[near, next].map(|text| item(&[("n", decimal(text))])));
    let id = |text: &str| row(&[("id", Value::Int(text.parse().expect("a number")))]);
    assert_ne!(none.table(FIRST).key(&id(near)), none.table(FIRST).key(&id(next)));
    let one = rules(
        &postgres(),
        "[[tolerate]]\ntable = \"things\"\nfields = [\"body.n\"]\nabsolute = \"0.5\"\nreason = \"r\"\n",
    );
    let body = |text: &str| row(&[("body", json(&format!(r#"{{"n":{text}}}"#)))]);
    let judged = one.table(FIRST).compare(&body(near), &body(next), Pair::Key, &mut Uses::new());
    assert!(matches!(judged, Comparison::Different(_)), "half is less than one: {judged:?}");
}

/// Fault 23: the table of `src/rules/form.rs` and docs/rules.md, line by line.
#[test]
fn fault_23_each_store_s_values_are_one_where_it_does_not_tell_them_apart() {
    let none = Ruleset::none(&postgres());
    let of = |name: &'static str| move |value: Value| row(&[(name, value)]);
    // Postgres keeps the scale of a numeric, the sign of a double's zero, and no bits of a NaN.
    assert_all_differ(
        &none,
        &["1", "1.0", "1.00", "0", "0.0", "NaN", "Infinity"].map(|text| of("amount")(decimal(text))),
    );
    assert_all_differ(
        &none,
        &[0.0, -0.0, 1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY].map(|n| of("ratio")(float(n))),
    );
    let other_nan = f64::from_bits(f64::NAN.to_bits() ^ 1 ^ (1 << 63));
    assert!(other_nan.is_nan());
    assert_all_equal(&none, &[f64::NAN, other_nan].map(|number| of("ratio")(Value::Float(Float(number)))));
    // Documents are compared by value, as jsonb does it.
    assert_all_equal(&none, &["1", "1.0", "10e-1", "1.00"].map(|text| of("body")(json(text))));
    assert_all_equal(&none, &["0", "-0", "0.0", "0e5"].map(|text| of("body")(json(text))));
    assert_all_equal(&none, &[r#"{"a":2}"#, r#"{"a":1,"a":2}"#].map(|text| of("body")(json(text))));
    assert_all_differ(&none, &["1", "\"1\"", "[1]", "true"].map(|text| of("body")(json(text))));
    // DynamoDB gives numbers back in one writing; its sets have no order.
    let dynamo = Ruleset::none(&dynamo());
    let x = |value: Value| item(&[("x", value)]);
    assert_all_equal(&dynamo, &[decimal("1"), decimal("1.0"), decimal("0.1E1"), Value::Int(1)].map(x));
    let numbers = |texts: [&str; 2]| {
        Value::NumberSet(texts.map(|text| rehome::event::Decimal::parse(text).expect("a decimal")).into())
    };
    assert_all_equal(&dynamo, &[numbers(["1", "2.0"]), numbers(["2", "1.0"])].map(x));
    let texts = Value::TextSet(["a".into(), "b".into()].into());
    let list = |names: [&str; 2]| Value::List(names.map(Value::text).into());
    assert_all_differ(&dynamo, &[texts, list(["a", "b"]), list(["b", "a"])].map(x));
    assert_all_differ(&dynamo, &[decimal("1"), Value::text("1"), numbers(["1", "1.0"]), Value::Bool(true)].map(x));
    // A map's members have no order, and are compared by value at any depth.
    let map = |text: &str| x(Value::Map([("n".into(), Value::List(vec![decimal(text)]))].into()));
    assert_all_equal(&dynamo, &[map("1.50"), map("1.5")]);
}

#[test]
fn fault_24_times_are_floored_on_both_sides_and_never_rounded() {
    let seconds =
        rules(&postgres(), "[[normalise]]\ntable = \"things\"\nfields = [\"at\"]\nfloor = \"1 s\"\nreason = \"r\"\n");
    let at = |us| row(&[("at", time(us))]);
    assert_all_equal(&seconds, &[at(1_000_000), at(1_499_999), at(1_500_000), at(1_999_999)]);
    assert_all_differ(&seconds, &[at(999_999), at(1_999_999), at(2_000_000)]);
    assert_all_equal(&seconds, &[at(-1_000_000), at(-500_000), at(-1)]);
    assert_all_differ(&seconds, &[at(-1), at(0)]);
}

/// A tolerance is judged on a pair: a digest would see two neighbours on either side of a boundary as different, and two
/// that are nearly twice as far apart as one.
#[test]
fn fault_24_a_tolerance_has_no_boundaries() {
    let within =
        rules(&postgres(), "[[tolerate]]\ntable = \"things\"\nfields = [\"at\"]\nwindow = \"1 s\"\nreason = \"r\"\n");
    let table = within.table(FIRST);
    let at = |us| row(&[("at", time(us))]);
    for start in [0, 1, 499_999, 500_000, 999_999, -1, -700_000] {
        let mut uses = Uses::new();
        let near = table.compare(&at(start), &at(start + 1_000_000), Pair::Key, &mut uses);
        assert_eq!(near, Comparison::Tolerated(vec![RuleId(0)]));
        assert_eq!(uses.of(RuleId(0)).largest.expect("a deviation").to_string(), "1.000000 s");
        let far = table.compare(&at(start), &at(start + 1_000_001), Pair::Key, &mut Uses::new());
        assert!(matches!(far, Comparison::Different(_)));
        assert_ne!(strict(table, &at(start)), strict(table, &at(start + 1)), "no tolerance enters the strict form");
        assert_eq!(tolerant(table, &at(start)), tolerant(table, &at(start + 5_000_000)));
    }
}

#[test]
fn fault_26_other_rules_are_another_id_and_other_words_are_not() {
    let migration = postgres();
    let id = |text: &str| rules(&migration, text).id();
    let trim = |fields: &str, more: &str| {
        format!("[[normalise]]\ntable = \"things\"\nfields = [\"{fields}\"]\nas = [\"trim\"]\nreason = \"r\"\n{more}")
    };
    let base = id(&trim("name", ""));
    assert_eq!(id(""), Ruleset::none(&migration).id());
    assert_ne!(base, id(""));
    assert_ne!(base, id(&trim("note", "")));
    assert_ne!(base, id(&trim("name", "when = \"foreign\"\n")));
    assert_ne!(base, id(&trim("name", "").replace("trim", "lower")));
    assert_ne!(id(&trim("name", "").replace("[\"trim\"]", "[\"lower\", \"trim\"]")), {
        id(&trim("name", "").replace("[\"trim\"]", "[\"trim\", \"lower\"]"))
    });
    let said = "# a comment\n[[normalise]]\nreason = \"another\"\nauthor = \"a\"\nuntil = 2026-12-31\n  as = ['trim']\n\
                fields = [\"name\"]\ntable = \"things\"\n";
    assert_eq!(base, id(said), "reason, author, end, comments and layout say nothing about rows");
    let excused =
        "[[waive]]\ntable = \"things\"\nfinding = \"changed\"\nreason = \"r\"\nauthor = \"a\"\nuntil = 2026-12-31\n";
    let expected = "[[expect]]\nname = \"n\"\nleft = [{ target = \"things\", add = 1 }]\nis = \">=\"\nright = []\nreason = \"r\"\n";
    assert_eq!(base, id(&trim("name", &[excused, expected].concat())), "neither decides what is compared as what");
}

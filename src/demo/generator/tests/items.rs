//! Items, numbers and clocks.

use std::collections::BTreeSet;

use serde_json::json;

use super::*;

const STORE: &str = r#"
    start = "1969-12-31T23:59:58.25Z"
    spacing_ms = 1000
    unit = "{{number}}"

    [rows.head]
    table = "Heads"
    columns = { id = "{{unit}}", name = "{{text unit}}", at = "{{clock %s}}", day = "{{clock %d.%m.%Y %H:%M}}", none = "{{null}}", gone = "{{absent}}", exact = "{{raw exact}}", deep = { list = [1, "1", true], map = { empty = "" } } }

    [rows.leaf]
    table = "Leaves"
    columns = { id = "{{serial}}", of = "{{unit}}", place = "{{index}}", note = "" }

    [[scenario]]
    name = "tree"
    weight = 1
    let = { exact = "0.1234567890123456789012345678901234567", other_name = "renamed" }
    steps = [{ row = "head" }, { row = "leaf", repeat = 3 }]

    [[live]]
    name = "new"
    weight = 1
    unit = "new"

    [[live]]
    name = "rename"
    weight = 1
    items = [{ row = "head", set = { name = "{{other_name}}" } }]

    [[live]]
    name = "fall"
    weight = 1
    items = [{ row = "leaf", which = "all", action = "delete" }]
"#;

fn store() -> Generator {
    Generator::parse(STORE, Path::new("demo.toml"), 4).expect("the file is right")
}

#[test]
fn an_item_keeps_the_types_of_its_attributes_and_null_apart_from_absent() {
    let changes = store().initial_items(1).expect("templates evaluate");
    assert_eq!(changes.len(), 4);
    assert_eq!(changes[0].table, "Heads");
    let wanted = json!({
        "id": { "N": "2" }, "name": { "S": "2" }, "at": { "N": "0" }, "day": { "S": "31.12.1969 23:59" },
        "none": { "NULL": true }, "exact": { "N": "0.1234567890123456789012345678901234567" },
        "deep": { "M": {
            "list": { "L": [{ "N": "1" }, { "S": "1" }, { "BOOL": true }] }, "map": { "M": { "empty": { "S": "" } } },
        } },
    });
    assert_eq!(serde_json::Value::Object(changes[0].item.clone()), wanted);
}

#[test]
fn serials_are_given_once_to_units_live_units_and_live_transactions() {
    let generator = store();
    let mut seen = BTreeSet::new();
    let mut add = |changes: &[ItemChange]| {
        for change in changes.iter().filter(|change| change.table == "Leaves") {
            assert!(seen.insert(change.item["id"].to_string()), "{change:?}");
        }
    };
    for unit in 0..20 {
        add(&generator.initial_items(unit).expect("templates evaluate"));
    }
    for step in 0..30 {
        let done = generator.live_items(step, 20).expect("it evaluates").expect("the file has live ones");
        if done.name == "new" {
            add(&done.changes);
        }
    }
    assert_eq!(seen.len(), 3 * 30);
}

#[test]
fn a_change_finds_the_items_that_its_unit_was_made_with() {
    let generator = store();
    let mut made: Vec<ItemChange> = Vec::new();
    for unit in 0..5 {
        made.extend(generator.initial_items(unit).expect("templates evaluate"));
    }
    let mut kinds = BTreeSet::new();
    for step in 0..60 {
        let done = generator.live_items(step, 5).expect("it evaluates").expect("the file has live ones");
        kinds.insert(done.name.clone());
        match done.name.as_str() {
            "new" => made.extend(done.changes),
            "rename" => {
                let [change] = &done.changes[..] else { panic!("{done:?}") };
                assert_eq!((&change.item["name"], change.action), (&json!({ "S": "renamed" }), ItemAction::Put));
                let mut before =
                    made.iter().filter(|made| made.item["id"] == change.item["id"] && made.table == "Heads");
                let before = before.next().expect("it was made before");
                assert_eq!(before.item["deep"], change.item["deep"]);
            }
            _ => {
                assert_eq!(done.changes.len(), 3, "all of them: {done:?}");
                for change in &done.changes {
                    assert_eq!(change.action, ItemAction::Delete);
                    assert!(made.iter().any(|made| made.item == change.item), "{change:?}");
                }
            }
        }
    }
    assert_eq!(kinds.len(), 3);
}

#[test]
fn mistakes_about_items_and_clocks_are_named() {
    let cases = [
        ("{{clock %s}}", "{{clock %!}}", "clock %!"),
        ("{{clock %s}}", "{{clock}}", "needs a format"),
        ("action = \"delete\"", "action = \"delete\", set = { note = \"x\" }", "nothing of it can be set"),
        ("items = [{ row = \"head\"", "sql = [\"x\"], items = [{ row = \"head\"", "no statements"),
        ("items = [{ row = \"head\"", "items = [{ row = \"trunk\"", "no row prototype `trunk`"),
    ];
    for (right, wrong, expected) in cases {
        assert!(STORE.contains(right), "the change applies");
        let text = STORE.replacen(right, &wrong.replace("], items", "]\n    items"), 1);
        let error = Generator::parse(&text, Path::new("demo.toml"), 1).expect_err("the file is wrong").to_string();
        assert!(error.contains(expected) && error.contains("demo.toml"), "{wrong}: {error}");
    }
}

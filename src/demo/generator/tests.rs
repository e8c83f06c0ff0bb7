//! What a generator promises.

mod items;

use super::*;

const FILE: &str = r#"
    start = "2025-01-01T00:00:00Z"
    spacing_ms = 1000
    unit = "order-{{hex 6}}"
    session = { search_path = "it's" }

    [lists]
    words = ["a", "bé", "c'd"]

    [rows.order]
    table = "orders"
    columns = { id = "{{unit}}", at = "{{later 1 9}}", note = "{{words 1 3}}", body = { n = "{{int 1 3}}", s = "{{hex 2}}!", gone = "{{absent}}", nil = "{{null}}" } }

    [rows.line]
    table = "order lines"
    columns = { id = "{{uuid}}", order = "{{unit}}", number = "{{index}}", piece = "{{item}}", wrapped = "{{quote whole}}" }

    [[scenario]]
    name = "common"
    weight = 9
    let = { whole = "tab\tback\\slash", pieces = "{{split whole 4}}" }
    steps = [{ row = "order" }, { row = "line", each = "pieces" }]

    [[scenario]]
    name = "rare"
    weight = 1
    let = { whole = "x", item = "y" }
    steps = [{ row = "order", set = { note = "{{null}}" } }, { repeat = 2, steps = [{ row = "line", repeat = 3 }] }]

    [[live]]
    name = "new"
    weight = 1
    unit = "new"

    [[live]]
    name = "change"
    weight = 2
    sql = ["UPDATE orders SET note = {{pick words}} WHERE id = {{unit}}"]
    end = "rollback"
"#;

fn generator(seed: u64) -> Generator {
    Generator::parse(FILE, Path::new("demo.toml"), seed).expect("the file is right")
}

fn all(seed: u64, units: u64) -> Vec<Vec<TableRows>> {
    generator(seed).initial(units).map(|batch| batch.expect("templates evaluate")).collect()
}

fn key(generator: &Generator, index: u64) -> String {
    generator.unit_key(index).expect("it evaluates").text().into_owned()
}

fn refused(change: (&str, &str)) -> String {
    assert!(FILE.contains(change.0), "the change applies");
    let text = FILE.replacen(change.0, change.1, 1);
    Generator::parse(&text, Path::new("demo.toml"), 1)
        .and_then(|generator| generator.initial(10).collect::<Result<Vec<_>, _>>())
        .expect_err("the file is wrong")
        .to_string()
}

#[test]
fn a_seed_names_its_rows_and_transactions_and_another_seed_others() {
    assert_eq!(all(7, 450), all(7, 450));
    assert_ne!(all(7, 450), all(8, 450));
    let live = |seed| (0..60).map(|step| generator(seed).live(step, 10).expect("it evaluates")).collect::<Vec<_>>();
    assert_eq!(live(7), live(7));
    assert_ne!(live(7), live(8));
}

#[test]
fn more_units_do_not_change_the_ones_before() {
    let (few, many) = (all(7, 200), all(7, 400));
    assert_eq!(few[0], many[0]);
}

#[test]
fn a_deck_deals_each_scenario_as_often_as_its_weight() {
    let generator = generator(3);
    let counts = generator.scenario_counts(50);
    assert_eq!((counts["common"], counts["rare"]), (45, 5));
}

#[test]
fn values_keep_their_kind_in_json_and_null_apart_from_absent() {
    let batch = &all(1, 1)[0][0];
    assert_eq!(batch.table, "orders");
    let body: serde_json::Value =
        serde_json::from_str(batch.rows[0][3].as_deref().expect("it is filled")).expect("it is JSON");
    assert!(body["n"].is_u64() && body["s"].is_string() && body["nil"].is_null(), "{body}");
    assert!(body.get("gone").is_none() && body.get("nil").is_some(), "{body}");
}

#[test]
fn pieces_join_to_the_whole_and_copy_escapes_what_it_must() {
    let batches = generator(1).initial(10).collect::<Result<Vec<_>, _>>().expect("templates evaluate");
    let lines = batches[0].iter().find(|rows| rows.table == "order lines").expect("units have lines");
    let first = lines.rows[0][1].clone();
    let pieces = lines.rows.iter().filter(|row| row[1] == first).filter_map(|row| row[3].clone());
    let joined: String = pieces.collect();
    assert!(joined == "tab\tback\\slash" || joined == "yyyyyy", "{joined}");
    assert!(lines.copy_text().contains("tab\\t\t"), "a tab inside a value is escaped, one between values is not");
    assert!(lines.copy_text().lines().all(|line| line.split('\t').count() == 5), "five columns a line");
    assert_eq!(
        lines.copy_statement(),
        r#"COPY "order lines" ("id", "order", "number", "piece", "wrapped") FROM STDIN"#
    );
}

#[test]
fn live_statements_quote_what_they_fill_in_and_reach_units_that_exist() {
    let generator = generator(5);
    let known: Vec<String> = (0..20).map(|index| key(&generator, index)).collect();
    let mut names = BTreeMap::new();
    for step in 0..30 {
        let transaction = generator.live(step, 20).expect("it evaluates").expect("the file has live ones");
        *names.entry(transaction.name.clone()).or_insert(0) += 1;
        if transaction.name == "new" {
            assert!(transaction.statements[0].starts_with("INSERT INTO \"orders\""), "{:?}", transaction.statements);
            continue;
        }
        assert_eq!(transaction.end, End::Rollback);
        let statement = &transaction.statements[0];
        let found = statement.rsplit('\'').nth(1).expect("the key is quoted").to_owned();
        let is_live = (0..step).any(|step| key(&generator, LIVE_UNITS + step) == found);
        assert!(known.contains(&found) || is_live, "{statement}");
        assert!(["'a'", "'bé'", "'c''d'"].iter().any(|word| statement.contains(word)), "{statement}");
    }
    assert_eq!(names, BTreeMap::from([("new".to_owned(), 10), ("change".to_owned(), 20)]));
    assert_eq!(generator.session(), [r#"SET "search_path" = 'it''s'"#]);
}

#[test]
fn mistakes_are_named_with_their_place() {
    let cases = [
        (("{{uuid}}", "{{uuid 4}}"), "neither a variable nor a known call"),
        (("{{uuid}}", "{{nobody}}"), "no variable `nobody`"),
        (("{{uuid}}", "{{uuid"), "without"),
        (("{{uuid}}", "{{int 3 1}}"), "empty"),
        (("{{uuid}}", "{{pick nothing}}"), "no list `nothing`"),
        (("each = \"pieces\"", "each = \"whole\""), "not a list"),
        (("set = { note", "set = { other"), "no column `other`"),
        (("{ row = \"line\", repeat", "{ row = \"none\", repeat"), "no row prototype `none`"),
    ];
    for (change, expected) in cases {
        let message = refused(change);
        assert!(message.contains(expected) && message.contains("demo.toml"), "{change:?}: {message}");
    }
}

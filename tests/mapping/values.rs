//! What values mean on their way: which have a text, when two are equal, what stays of a document that another row says.

use rehome::event::{Float, Json, Timestamp, Value};
use rehome::mapping::{Corpus, Migration, SourceRow, SourceTable, Sources};
use rehome::target::TargetTable;

use crate::support::{assert_examples_hold, assert_refused, assert_small_holds, edited, small, table};

#[test]
fn a_value_without_a_text_is_part_of_none() {
    let (kind, id) = ("{ string = \".kind\", refuse = \"malformed\" }", "columns = { id = \"S\" }");
    let typed = "take it as one type: { string = … } or { number = … }";
    let plain = "leave it out, or use a column of text, numbers or ids";
    let of_any = [
        ("{ text = \".kind\" }", "\".kind\""),
        ("{ text = { uuid5 = [{ given = \".kind\", refuse = \"malformed\" }] } }", "{ given = \".kind\""),
        ("{ template = \"{.kind}\" }", "\"{.kind}\""),
    ];
    for (term, place) in of_any {
        let sources = edited("tests/data/copy", &[("mapping.toml", kind, term)]);
        assert_refused(&sources, place, "a DynamoDB value has no text", typed);
    }
    let of_bytes = [
        ("{ text = \".id\" }", "\".id\""),
        ("{ text = { uuid5 = [\".id\"] } }", "\".id\""),
        ("{ template = \"{.id}\" }", "\"{.id}\""),
    ];
    for (term, place) in of_bytes {
        let unit = ("mapping.toml", "{ id = { template = \"event:{.id}\" } }", "{ id = \"event\" }");
        let bytes = ("legacy.toml", id, "columns = { id = \"B\" }");
        let sources = edited("tests/data/copy", &[bytes, unit, ("mapping.toml", kind, term)]);
        assert_refused(&sources, place, "bytea has no text", plain);
    }
}

#[test]
fn a_value_without_a_form_in_json_is_no_member_of_an_array() {
    let legacy = r#"
        [table.rows]
        key = ["id"]
        role = "unit"
        unit_lookup = "key"
        columns = { id = "text not null", raw = "bytea" }
    "#;
    let mapping = r#"
        [unit]
        rows = "id"
        [[map]]
        from = "rows"
        to = "rows"
        columns = { id = ".id", others = { without = [{ object = { a = 1 } }, ".raw"] } }
    "#;
    let sources = small(legacy, mapping, "CREATE TABLE rows (id TEXT PRIMARY KEY, others JSONB);");
    assert_refused(&sources, "\".raw\"", "bytea has no form in JSON", "use another column");
}

#[test]
fn the_infinities_have_texts_of_their_own() {
    let legacy = r#"
        [table.rows]
        key = ["id"]
        role = "unit"
        unit_lookup = "scan"
        columns = { id = "timestamptz not null", level = "double precision not null" }
    "#;
    let mapping = r#"
        [unit]
        rows = { id = "all" }
        [[map]]
        from = "rows"
        to = "rows"
        columns = { id = { text = ".id" }, level = { template = "{.level}" } }
    "#;
    let target = "CREATE TABLE rows (id TEXT PRIMARY KEY, level TEXT NOT NULL);";
    let migration = Migration::compile(&small(legacy, mapping, target)).unwrap_or_else(|error| panic!("{error}"));
    let rows = [(Timestamp::INFINITY, f64::INFINITY), (Timestamp::NEG_INFINITY, f64::NEG_INFINITY)];
    let rows = rows.map(|(time, level)| {
        let values = vec![Value::Timestamp(time), Value::Float(Float(level))];
        (SourceTable(0), SourceRow { key: migration.key_of(SourceTable(0), &values), values })
    });
    let corpus = Corpus::place(&migration, rows.into()).expect("in memory");
    let evaluation = corpus.evaluate(&migration, "all").expect("in memory");
    let texts: Vec<&[Value]> = evaluation.rows.iter().map(|row| &*row.values).collect();
    let written = |time: &str, level: &str| vec![Value::text(time), Value::text(level)];
    assert_eq!(texts, [written("-infinity", "-Infinity"), written("infinity", "Infinity")]);
}

/// Rows of pairs, and whether the two values of each kind are equal.
const PAIRS: [&str; 3] = [
    r#"
        [table.pairs]
        key = ["id"]
        role = "unit"
        unit_lookup = "key"
        [table.pairs.columns]
        id = "text not null"
        a = "bytea"
        b = "bytea"
        m = "numeric"
        n = "numeric"
        d = "jsonb"
        e = "jsonb"
        f = "double precision"
        g = "double precision"
    "#,
    r#"
        [unit]
        pairs = "id"
        [[map]]
        from = "pairs"
        to = "pairs"
        [map.columns]
        id = ".id"
        bytes = { equal = [".a", ".b"] }
        numbers = { equal = [".m", ".n"] }
        documents = { equal = [".d", ".e"] }
        floats = { equal = [".f", ".g"] }

        [[case]]
        name = "values are equal that mean the same, however they are written"
        unit = "same"
        given.pairs = [{ id = "same", a = "00ff", b = "00ff", m = "1.50", n = "1.5", d = '{"x":1,"y":2}', e = '{"y":2.0,"x":1}', f = 0.0, g = -0.0 }]
        [case.expect]
        rows.pairs = [{ bytes = true, numbers = true, documents = true, floats = true }]

        [[case]]
        name = "values are not equal that do not"
        unit = "other"
        given.pairs = [{ id = "other", a = "00ff", b = "01", m = "1.5", n = "1.51", d = '"1"', e = '1', f = 1.0, g = 1.5 }]
        [case.expect]
        rows.pairs = [{ bytes = false, numbers = false, documents = false, floats = false }]

        [[case]]
        name = "null equals nothing, nor does a JSON null"
        unit = "none"
        given.pairs = [{ id = "none", a = "00", d = 'null', e = 'null' }]
        [case.expect]
        rows.pairs = [{ bytes = false, numbers = false, documents = false, floats = false }]
    "#,
    "CREATE TABLE pairs (id TEXT PRIMARY KEY, bytes BOOLEAN NOT NULL, numbers BOOLEAN NOT NULL, \
     documents BOOLEAN NOT NULL, floats BOOLEAN NOT NULL);",
];

#[test]
fn values_are_equal_by_what_they_are_worth() {
    let [legacy, mapping, target] = PAIRS;
    assert_small_holds(legacy, mapping, target);
}

#[test]
fn attributes_are_equal_by_what_they_are_worth() {
    let kind = "kind = { string = \".kind\", refuse = \"malformed\" }";
    let more = "kind = { string = \".kind\", refuse = \"malformed\" }\nalike = { equal = [\".one\", \".other\"] }";
    let mut sources = edited("tests/data/copy", &[("mapping.toml", kind, more)]);
    let case = |unit: &str, one: &str, other: &str, alike: bool| {
        format!(
            "[[case]]\nname = \"{unit}\"\nunit = \"event:{unit}\"\ngiven.events = [{{ id = \"{unit}\", owner = \"o\", \
             meta = {{ at = 1 }}, kind = \"k\", one = {one}, other = {other} }}]\n[case.expect]\nrows.events_by_owner = \
             [{{ alike = {alike} }}]\n"
        )
    };
    let text = [
        case("lists", "[1, { N = \"2.0\" }]", "[{ N = \"1.0\" }, 2]", true),
        case("others", "[1, 2]", "[2, 1]", false),
        case("sets", "{ NS = [\"1\", \"2.0\"] }", "{ NS = [\"2\", \"1.0\"] }", true),
        case("maps", "{ M = { a = [1] } }", "{ M = { a = [{ N = \"1.00\" }] } }", true),
        case("bytes", "{ B = \"00\" }", "{ B = \"01\" }", false),
        case("types", "1", "\"1\"", false),
    ];
    sources.cases = vec![rehome::mapping::SourceFile::new("copy/cases/alike.toml", text.concat())];
    let migration = Migration::compile(&sources).unwrap_or_else(|error| panic!("{error}"));
    assert_examples_hold(&migration, text.len());
}

#[test]
fn a_key_of_ids_made_from_documents_does_not_tell_its_rows() {
    let keys = |kind: &str| {
        let legacy = format!(
            "[table.rows]\nkey = [\"id\"]\nrole = \"unit\"\nunit_lookup = \"key\"\ncolumns = {{ id = \"{kind} not null\" }}"
        );
        let mapping = r#"
            [unit]
            rows = { id = { template = "row:{@id}" } }
            [let.rows]
            id = { text = ".id" }
            [part]
            rows = []
            [[map]]
            from = "rows"
            to = "rows"
            columns = { id = { uuid5 = [".id"] } }
        "#;
        let sources = small(&legacy, mapping, "CREATE TABLE rows (id UUID PRIMARY KEY);");
        let migration = Migration::compile(&sources).unwrap_or_else(|error| panic!("{error}"));
        migration.keys_disjoint(TargetTable(0))
    };
    for kind in ["text", "bigint", "numeric", "double precision", "timestamptz", "uuid", "boolean"] {
        assert!(keys(kind), "{kind}");
    }
    assert!(!keys("jsonb"), "the text of a JSON string \"1\" is that of the number");
}

#[test]
fn a_json_null_makes_no_id() {
    let legacy = r#"
        [table.rows]
        key = ["id"]
        role = "unit"
        unit_lookup = "key"
        columns = { id = "text not null", doc = "jsonb not null" }
    "#;
    let mapping = r#"
        [unit]
        rows = { id = "all" }
        [part]
        rows = []
        [[map]]
        from = "rows"
        to = "rows"
        columns = { id = { uuid5 = [".doc"] }, of = ".id" }
        [[case]]
        name = "a row whose id would be that of an empty text is quarantined"
        unit = "all"
        given.rows = [{ id = "a", doc = 'null' }, { id = "b", doc = '""' }]
        [case.expect]
        quarantined = { rows = { unreadable_json = 1 } }
        rows.rows = [{ of = "b" }]
    "#;
    assert_small_holds(legacy, mapping, "CREATE TABLE rows (id UUID PRIMARY KEY, of TEXT NOT NULL);");
}

/// Notes that see what is said of their topic, and topics that see what is said in their notes.
const SEEN: [&str; 2] = [
    r#"
        [table.topics]
        key = ["topic"]
        role = "lookup"
        columns = { topic = "text not null", name = "text not null", doc = "json" }
        [table.notes]
        key = ["id"]
        role = "unit"
        unit_lookup = "scan"
        columns = { id = "bigint not null", unit = "text not null", topic = "text not null", doc = "jsonb" }
    "#,
    r#"
        [unit]
        notes = "unit"
        [cases.state]
        o = "open"
        [reference.topic]
        table = "topics"
        match = [".name"]
        select = { state = ".doc.state", inner = ".doc.inner", whole = ".doc", number = ".topic" }
        by.notes = [".topic"]

        [[map]]
        from = "notes"
        to = "notes"
        [map.columns]
        id = ".id"
        text = { text = "@topic.state" }
        state = { case = "state", of = { text = "@topic.state" }, null = "none" }
        open = { is = { text = "@topic.state" }, one_of = ["o"] }
        lost = { absent = "@topic.state" }
        inner = { decoded = "@topic.inner" }
        agreed = { agreed = "@topic.whole" }
        differs = { differs = "@topic.whole" }

        [[group]]
        from = "notes"
        to = "units"
        order = [".id"]
        [group.columns]
        unit = "@unit"
        first = { text = { of_first = ".doc.state" } }
        state = { case = "state", of = { text = { of_last = ".doc.state" } }, null = "none" }
        inner = { decoded = { of_last = ".doc.inner" } }
        whole = { of_last = ".doc" }
    "#,
];

const SEEN_TARGET: &str = "\
    CREATE TABLE notes (id BIGINT PRIMARY KEY, text TEXT, state TEXT NOT NULL, open BOOLEAN NOT NULL, \
    lost BOOLEAN NOT NULL, inner JSONB, agreed JSONB, differs BOOLEAN NOT NULL); \
    CREATE TABLE units (unit TEXT PRIMARY KEY, first TEXT, state TEXT NOT NULL, inner JSONB, whole JSONB);";

#[test]
fn a_document_that_another_row_says_is_the_document_that_it_is_there() {
    let cases = r#"
        [[case]]
        name = "a string is its text, a document within a string is read, and documents of one value agree"
        unit = "u"
        given.topics = [
            { topic = "1", name = "t", doc = '{"state":"o","inner":"{\"a\": 1.50}"}' },
            { topic = "2", name = "t", doc = '{"inner":"{\"a\": 1.50}", "state":"o"}' },
        ]
        given.notes = [
            { id = 1, unit = "u", topic = "t", doc = '{"state":"x"}' },
            { id = 2, unit = "u", topic = "t", doc = '{"state":"o","inner":"{\"a\": 1.50}"}' },
        ]
        [case.expect]
        lookup = { topics = 2 }
        rows.notes = [
            { id = 1, text = "o", state = "open", open = true, lost = false, inner = '{"a":1.50}', agreed = '{"state":"o","inner":"{\"a\": 1.50}"}', differs = false },
            { id = 2, text = "o", state = "open", open = true, lost = false, inner = '{"a":1.50}', differs = false },
        ]
        rows.units = [{ unit = "u", first = "x", state = "open", inner = '{"a":1.50}', whole = '{"state":"o","inner":"{\"a\": 1.50}"}' }]

        [[case]]
        name = "a JSON null is null, and no answer beside another one"
        unit = "u"
        given.topics = [{ topic = "1", name = "t", doc = '{"state":null}' }, { topic = "2", name = "n", doc = 'null' }, { topic = "3", name = "n", doc = '{"state":"o"}' }]
        given.notes = [{ id = 1, unit = "u", topic = "t" }, { id = 2, unit = "u", topic = "n", doc = 'null' }]
        [case.expect]
        lookup = { topics = 3 }
        rows.notes = [
            { id = 1, text = {}, state = "none", open = false, lost = true, inner = {}, differs = false },
            { id = 2, text = {}, state = "none", lost = true, agreed = '{"state":"o"}', differs = false },
        ]
        rows.units = [{ first = {}, state = "none", inner = {}, whole = 'null' }]
    "#;
    let [legacy, mapping] = SEEN;
    assert_small_holds(legacy, &format!("{mapping}{cases}"), SEEN_TARGET);
}

/// Topics with their documents, and a note about each, placed.
fn noted(sources: &Sources, documents: &[(&str, &str)]) -> (Migration, Corpus) {
    let migration = Migration::compile(sources).unwrap_or_else(|error| panic!("{error}"));
    let (topics, notes) = (table(&migration, "topics"), table(&migration, "notes"));
    let row =
        |table: SourceTable, values: Vec<Value>| (table, SourceRow { key: migration.key_of(table, &values), values });
    let mut rows = Vec::new();
    for (at, (name, document)) in documents.iter().enumerate() {
        let name = || Value::text(*name);
        let note = i64::try_from(at).expect("few");
        rows.push(row(topics, vec![name(), name(), Value::Json((*document).into())]));
        rows.push(row(notes, vec![Value::Int(note), Value::text("u"), name(), Value::Null]));
    }
    let corpus = Corpus::place(&migration, rows).expect("in memory");
    (migration, corpus)
}

#[test]
fn what_cannot_be_read_of_a_row_found_quarantines_who_asked_for_it() {
    let [legacy, mapping] = SEEN;
    let deep = format!("{{\"state\":{}}}", "[".repeat(5_000));
    let documents = [("fine", r#"{"state":"o"}"#), ("deep", &*deep), ("nul", r#"{"state":"a\u0000b"}"#)];
    let (migration, corpus) = noted(&small(legacy, mapping, SEEN_TARGET), &documents);
    let evaluation = corpus.evaluate(&migration, "u").expect("in memory");
    let account = &evaluation.accounts.tables[&table(&migration, "notes")];
    let reasons: Vec<(&str, u64)> = account.quarantined.iter().map(|(reason, rows)| (&**reason, *rows)).collect();
    assert_eq!(reasons, [("not_storable", 1), ("unreadable_json", 1)]);
    assert_eq!((account.mapped, evaluation.parked), (1, None));
}

#[test]
fn who_asks_for_something_else_of_a_row_that_cannot_be_read_in_part_is_mapped() {
    let mapping = r#"
        [unit]
        notes = "unit"
        [reference.topic]
        table = "topics"
        match = [".name"]
        select = { state = ".doc.state", number = ".topic" }
        by.notes = [".topic"]
        [[map]]
        from = "notes"
        to = "notes"
        columns = { id = ".id", topic = "@topic.number", doc = ".doc" }
    "#;
    let target = "CREATE TABLE notes (id BIGINT PRIMARY KEY, topic TEXT, doc JSONB);";
    let deep = format!("{{\"state\":{}}}", "[".repeat(5_000));
    let (migration, corpus) = noted(&small(SEEN[0], mapping, target), &[("deep", &*deep)]);
    let evaluation = corpus.evaluate(&migration, "u").expect("in memory");
    assert_eq!(evaluation.rows[0].values[1], Value::text("deep"));
}

#[test]
fn dynamodb_takes_a_text_with_u_0000_also_from_another_row_or_of_a_group() {
    let [legacy, _] = SEEN;
    let mapping = r#"
        number_out_of_range = "row"
        [unit]
        notes = "unit"
        [reference.topic]
        table = "topics"
        match = [".name"]
        select = { state = { text = ".doc.state" }, whole = ".doc", number = ".topic" }
        by.notes = [".topic"]
        [[group]]
        from = "notes"
        to = "units"
        by = [{ text = "@topic.state" }]
        order = [{ text = "@topic.state" }, ".id"]
        attributes = { unit = { template = "{.id}" }, of = { of_first = "@topic.state" }, whole = "@topic.whole", lines = { list = ".doc" } }
    "#;
    let target = "[table.units]\nhash = \"unit\"\nbilling = \"on_demand\"\nattributes = { unit = \"S\" }\n";
    let mut sources = small(legacy, mapping, "");
    sources.target = rehome::mapping::SourceFile::new("small/target.toml", target);
    let (migration, corpus) = noted(&sources, &[("nul", r#"{"state":"a\u0000b"}"#)]);
    let evaluation = corpus.evaluate(&migration, "u").expect("in memory");
    assert_eq!(evaluation.accounts.quarantined_rows, []);
    let [row] = evaluation.rows.as_slice() else { panic!("{evaluation:?}") };
    let Value::Map(item) = &row.values[1] else { panic!("an item") };
    assert_eq!(item["of"], Value::text("a\0b"));
    assert_eq!(item["whole"], Value::Map([("state".into(), Value::text("a\0b"))].into()));
    assert!(Json::parse(r#""a\u0000b""#).expect("JSON").holds_nul());
}

#[test]
fn a_group_by_floats_has_one_zero() {
    let legacy = r#"
        [table.rows]
        key = ["id"]
        role = "unit"
        unit_lookup = "scan"
        columns = { id = "bigint not null", unit = "text not null", level = "double precision not null" }
    "#;
    let mapping = r#"
        [unit]
        rows = "unit"
        [[group]]
        from = "rows"
        to = "levels"
        by = [".level"]
        order = [".level", ".id"]
        columns = { first = ".id", rows = { sum = 1, refuse = "too_many" } }
        [[case]]
        name = "minus zero is zero"
        unit = "u"
        given.rows = [{ id = 2, unit = "u", level = -0.0 }, { id = 1, unit = "u", level = 0.0 }, { id = 3, unit = "u", level = 1.5 }]
        [case.expect]
        rows.levels = [{ first = 1, rows = 2 }, { first = 3, rows = 1 }]
    "#;
    let mapping = format!("too_many = \"unit\"\n{mapping}");
    assert_small_holds(legacy, &mapping, "CREATE TABLE levels (first BIGINT PRIMARY KEY, rows BIGINT NOT NULL);");
}

#[test]
fn a_part_by_floats_has_one_zero() {
    let legacy = r#"
        [table.rows]
        key = ["id"]
        role = "unit"
        unit_lookup = "scan"
        columns = { id = "bigint not null", unit = "text not null", level = "double precision not null" }
    "#;
    let mapping = r#"
        too_many = "unit"
        [unit]
        rows = "unit"
        [part]
        rows = [".level"]
        [[group]]
        from = "rows"
        to = "levels"
        order = [".id"]
        columns = { first = ".id", rows = { sum = 1, refuse = "too_many" } }
        [[case]]
        name = "minus zero is zero"
        unit = "u"
        given.rows = [{ id = 2, unit = "u", level = -0.0 }, { id = 1, unit = "u", level = 0.0 }]
        [case.expect]
        rows.levels = [{ first = 1, rows = 2 }]
    "#;
    assert_small_holds(legacy, mapping, "CREATE TABLE levels (first BIGINT PRIMARY KEY, rows BIGINT NOT NULL);");
}

//! `rehome new`: a first draft from live tables passes `check` as it stands, and migrates every row.

use std::path::{Path, PathBuf};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType,
    LocalSecondaryIndex, Projection, ProjectionType, ScalarAttributeType, StreamSpecification, StreamViewType,
};

use crate::reconcile::reconcile_with;
use crate::support::cluster::Database;
use crate::support::dynamo::{Item, address, client, items, number, table, text};
use crate::support::rig::{Outcome, Rig, bare, finish};

/// Stands in rows, and nowhere else.
const MARKER: &str = "QuiteSecret";

/// Tables as nobody would wish for them.
const AWKWARD: &str = r#"
    create schema "Sales Dept";
    create type mood as enum ('good', 'it''s', 'Größe');
    create domain positive as int check (value > 0);
    create table "Order Lines" (
        "Order" bigint, "line.no" int, "select" text, "a{b}" text not null, "new
line" text, tags text[], amounts numeric(10,2)[], moments timestamptz(3)[], moods mood[],
        doc jsonb not null, raw json, price numeric(10,2), exact numeric, ratio double precision, small real, born date,
        span interval, at_time time, at_zone timetz, ip inet, net cidr, code char(3), codes char(2)[], bits bit(3), varying varbit(5),
        stamp timestamptz(3), plain timestamp, blob bytea, flag boolean not null, uid uuid, m mood not null, maybe mood, "some" positive,
        spans int4range, doc_xml xml, paid money, short varchar(20), place point, words tsvector, "char" "char", n name, o oid,
        number int generated always as identity, twice numeric generated always as (price * 2) stored,
        primary key ("Order", "line.no"));
    create index on "Order Lines" (price, "select");
    create index on "Order Lines" (lower("select")) where price > 5;
    create unique index on "Order Lines" (uid);
    create table "Sales Dept"."user" (id uuid primary key, email text unique, parent uuid references "Sales Dept"."user" (id));
    create table "user" (id serial primary key, name text);
    create table user_v2 (id int primary key, "order" bigint, line int, foreign key ("order", line) references "Order Lines");
    create table parted (id bigint, at timestamptz not null, body text, primary key (id, at)) partition by range (at);
    create table parted_1 partition of parted for values from ('2025-01-01') to ('2026-01-01');
    create table dated (day date primary key, note text);
    create table "we""ird" ("a""b" text, "c\d" int, primary key ("a""b"));
    create table by_identity (a int not null, b text);
    create unique index by_identity_a on by_identity (a);
    alter table by_identity replica identity using index by_identity_a;
    create table nokey (a int, b text);
    create unlogged table fleeting (id int primary key);
"#;

const ROWS: &str = r#"
    insert into "Order Lines" values (1, 1, 'QuiteSecret', 'x', 'y', '{a,"b c",NULL}', '{1.10,2.00}', '{2025-01-01 10:00:00.123+02}',
        '{good,"it''s"}', '{"b": 1.10, "a": null}', '{"z":1, "a":  2}', 1.50, 'NaN', 0.1, 1.1, '2025-02-03', '1 day 02:03:04', '04:05',
        '04:05+02', '192.0.2.1/24', '10.0.0.0/8', 'ab', '{a,b}', b'101', b'11', '2025-01-01 10:00:00.123+02', 'infinity', '\x00ff', true,
        gen_random_uuid(), 'it''s', 'Größe', 7, '[1,5)', '<a>1</a>', '12.30', 'short', '(1,2)', to_tsvector('simple', 'a b'), 'c', 'n', 5);
    insert into "Order Lines" ("Order", "line.no", "a{b}", doc, flag, m, ip) values (1, 2, '', 'null', false, 'good', '192.0.2.7'),
        (-2, 2, 'ü', '[]', true, 'Größe', null);
    insert into "Sales Dept"."user" values ('00000000-0000-0000-0000-000000000001', 'a@example.org', null),
        ('00000000-0000-0000-0000-000000000002', 'b@example.org', '00000000-0000-0000-0000-000000000001');
    insert into "user" (name) values ('QuiteSecret'), ('o''clock');
    insert into user_v2 values (1, 1, 1), (2, null, null);
    insert into parted values (1, '2025-05-05', 'p'), (1, '2025-05-06', 'q');
    insert into dated values ('2025-01-01', 'd'), ('0044-03-15 BC', null);
    insert into "we""ird" values ('a"b', 1), ('a\b', 2);
    insert into by_identity values (1, 'one'), (2, null);
    insert into nokey values (1, 'left out');
"#;

/// A draft of a migration, written to a folder of its own.
struct Drafted {
    rig: Rig,
    schemas: String,
}

impl Drafted {
    /// Drafts; `arguments` follow `new NAME`.
    fn new(rig: Rig, arguments: &[&str]) -> (Self, Outcome) {
        let schemas = rig.folder.path().join("migrations/schemas");
        let schemas = schemas.to_str().expect("text").to_owned();
        let drafted = Self { rig, schemas };
        let outcome = drafted.draft(arguments);
        (drafted, outcome)
    }

    /// Drafts; the target's kind is that of its address, where the arguments name none.
    fn draft(&self, arguments: &[&str]) -> Outcome {
        let mut command = bare();
        command.args(["new", self.rig.migration, "--into", &self.schemas, "--source", &self.rig.legacy.url]);
        if !arguments.contains(&"--target") {
            command.args(["--target", &self.rig.target.url]);
        }
        command.args(arguments);
        finish(command)
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::new(&self.schemas).join(self.rig.migration).join(name)
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).expect("a file")
    }

    fn with(&self, arguments: &[&str]) -> Outcome {
        self.rig.rehome(&[arguments, &["--schemas", &self.schemas]].concat())
    }

    /// Everything that was promised of it: it checks, runs, and both sides are equal.
    fn migrates(&self) -> serde_json::Value {
        let name = self.rig.migration;
        let checked = self.with(&["check", name, "--json"]).expect(0).json();
        assert_eq!(checked["failed"], serde_json::json!([]), "{checked}");
        assert_eq!(checked["cases"], checked["source_tables"], "an example for each table: {checked}");
        assert_eq!(checked["invariants"], checked["source_tables"], "{checked}");
        self.with(&["up", name]).expect(0);
        self.with(&["run", name, "--until", "caught-up"]).expect(0);
        self.matches()
    }

    fn matches(&self) -> serde_json::Value {
        let (summary, _) = reconcile_with(&self.rig, &["--schemas", &self.schemas], 0);
        assert_eq!(summary["verdict"], "MATCH", "{summary}");
        summary
    }
}

/// Rows of the source that a comparison read.
fn read(summary: &serde_json::Value) -> u64 {
    let tables = summary["sources"].as_array().expect("tables").iter();
    tables.map(|of| of["read"].as_u64().unwrap_or_default()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draft_of_awkward_postgres_tables_migrates_them_as_it_stands() {
    let mut legacy = Database::new().await;
    legacy.run(AWKWARD).await;
    legacy.run(ROWS).await;
    let rig = Rig::of("awkward", legacy, Database::new().await);
    let (mut drafted, outcome) = Drafted::new(rig, &[]);
    let outcome = outcome.expect(0);
    for word in [
        "left out public.nokey: it has no primary key",
        "replica identity using index",
        "left out public.fleeting",
        "rehome check awkward",
    ] {
        assert!(outcome.out.contains(word), "{word}: {outcome:?}");
    }
    let (legacy, mapping, target) =
        (drafted.text("legacy.toml"), drafted.text("mapping.toml"), drafted.text("target.sql"));
    let rules = std::fs::read_to_string(drafted.rig.folder.path().join("migrations/reconcile-rules/awkward.toml"));
    let rules = rules.expect("rules");
    for text in [&legacy, &mapping, &target, &drafted.text("cases/tables.toml"), &rules, &outcome.out, &outcome.err] {
        assert!(!text.contains(MARKER) && !text.contains("example.org"), "contents of rows: {text}");
    }
    for (text, words) in [
        (
            &legacy,
            &[
                "LEFT OUT public.nokey",
                "tags = \"text[] as text\"",
                "mood as text",
                "is computed by the server",
                "It is partitioned",
            ][..],
        ),
        (&mapping, &["CHOICE unit", "CHOICE part", "CHOICE drop", "unknown_label", "\"it's\" = \"it's\""]),
        (
            &target,
            &[
                "CREATE TYPE mood_v2 AS ENUM ('good', 'it''s', 'Größe')",
                "tags text[]",
                "price numeric(10,2)",
                "-- not taken over: UNIQUE (uid)",
                "-- not taken over: FOREIGN KEY (parent) REFERENCES",
                "CREATE INDEX ON \"Order Lines_v2\" (price, \"select\")",
            ],
        ),
    ] {
        for word in words {
            assert!(text.contains(word), "{word}: {text}");
        }
    }
    let summary = drafted.migrates();
    let lines = drafted.rig.target.text("select count(*)::text from \"Order Lines_v2\"").await;
    assert_eq!((lines.as_str(), read(&summary)), ("3", 17), "{summary}");
    // The two tables of one name, and the one that has the name that the other's would get.
    let names =
        "select string_agg(relname, ' ' order by relname) from pg_class where relname like 'user%' and relkind = 'r'";
    assert_eq!(drafted.rig.target.text(names).await, "user_v2_2 user_v2_v2 user_v3");

    // Units are read by key, where whole tables are copied: that is the same to a value, of types whose cast to text is not.
    let units = drafted.rig.target.text("select string_agg(distinct unit, chr(10)) from rehome.units").await;
    assert!(units.lines().count() > 10, "{units}");
    for unit in units.lines() {
        let diff = drafted.with(&["diff", "awkward", unit, "--json"]).expect(0).json();
        assert_eq!(diff["verdict"], "MATCH", "{unit}: {diff}");
    }

    // Live changes of every form that values travel in, a label that the enum had not, and a row that comes and goes.
    drafted
        .rig
        .legacy
        .run(
            "update \"Order Lines\" set tags = '{z}', born = '2025-03-04', m = 'good', price = 2, codes = '{c}' where \"line.no\" = 2; \
             delete from dated where note is null; update parted set body = 'r'; insert into by_identity values (3, 'three')",
        )
        .await;
    drafted.with(&["run", "awkward", "--until", "caught-up"]).expect(0);
    drafted.matches();
    drafted.rig.legacy.run("alter type mood add value 'new'").await;
    drafted.rig.legacy.run("update \"Order Lines\" set maybe = 'new' where \"Order\" = 1 and \"line.no\" = 2").await;
    drafted.with(&["run", "awkward", "--until", "caught-up"]).expect(2);
    let listed = drafted.with(&["quarantine", "list", "awkward"]).expect(2);
    assert!(listed.out.contains("unknown_label"), "{listed:?}");

    // Nothing is overwritten.
    std::fs::write(drafted.path("mapping.toml"), "mine").expect("a file");
    let refused = drafted.draft(&[]).expect(3);
    assert!(refused.err.contains("is there already"), "{refused:?}");
    assert_eq!(drafted.text("mapping.toml"), "mine");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draft_names_what_it_cannot_take_and_writes_nothing_then() {
    let mut legacy = Database::new().await;
    legacy.run("create table nokey (a int); create table t (id int primary key)").await;
    let rig = Rig::of("nothing", legacy, Database::new().await);
    let (drafted, outcome) = Drafted::new(rig, &["--tables", "nokey"]);
    let outcome = outcome.expect(3);
    assert!(outcome.err.contains("public.nokey: it has no primary key"), "{outcome:?}");
    let missing = drafted.draft(&["--tables", "t,gone"]).expect(3);
    assert!(missing.err.contains("no table gone"), "{missing:?}");
    let other = drafted.draft(&["--target", "mysql"]).expect(3);
    assert!(other.err.contains("no kind of store"), "{other:?}");
    assert!(!Path::new(&drafted.schemas).exists());
    let json = drafted.draft(&["--tables", "t", "--target", "postgres", "--json"]).expect(0).json();
    assert_eq!(json["tables"], serde_json::json!([{ "source": "t", "target": "t_v2" }]));
    assert_eq!(json["next"].as_array().map(Vec::len), Some(3), "{json}");
    // Rules of that name that are there stay, too.
    std::fs::remove_dir_all(&drafted.schemas).expect("a folder");
    assert!(drafted.draft(&[]).expect(3).err.contains("reconcile-rules"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draft_from_postgres_to_dynamodb_migrates_as_it_stands() {
    let client = client().await;
    let mut legacy = Database::new().await;
    legacy
        .run(
            "create type mood as enum ('good', 'bad'); \
             create table drafted_things (id uuid primary key, n int, exact numeric, doc jsonb, at timestamptz, blob bytea, flag boolean, m mood, \
               tags text[], ratio double precision, \"odd.name\" text); \
             create table drafted_lines (a text, b int, c timestamptz, x text, primary key (a, b, c)); \
             create table drafted_wide (a int, b bytea, c int, primary key (a, b, c)); \
             create table drafted_pairs (a bigint, b numeric, primary key (a, b)); create index on drafted_pairs (b); \
             insert into drafted_things values (gen_random_uuid(), 1, 12345678901234567890.123, '{\"a\": [1.10, null]}', now(), '\\x00', true, 'bad', \
               '{a}', 0.1, 'o'), (gen_random_uuid(), null, null, null, null, null, null, null, null, null, null); \
             insert into drafted_lines values ('a', 1, '2025-01-01T00:00:00Z', 'x'), ('a', 1, '2025-01-02T00:00:00Z', 'y'); \
             insert into drafted_pairs select i, i / 2.0 from generate_series(1, 20) i",
        )
        .await;
    let mut target = Database::new().await;
    target.url = address();
    let (drafted, outcome) = Drafted::new(Rig::of("to_items", legacy, target), &[]);
    let outcome = outcome.expect(0);
    assert!(
        outcome.out.contains("left out public.drafted_wide: its key has more than two columns, and b"),
        "{outcome:?}"
    );
    let summary = drafted.migrates();
    assert_eq!(read(&summary), 24, "{summary}");
    let lines = items(&client, "drafted_lines_v2").await;
    let mut keys: Vec<&str> = lines.iter().map(|item| text(item, "sort_key")).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["1#1735689600000000", "1#1735776000000000"]);
    assert_eq!(items(&client, "drafted_pairs_v2").await.len(), 20);
}

/// A table with both kinds of index.
async fn indexed(client: &Client, name: &str) {
    let attribute = |name: &str, kind: ScalarAttributeType| {
        AttributeDefinition::builder().attribute_name(name).attribute_type(kind).build().expect("an attribute")
    };
    let key = |name: &str, kind: KeyType| {
        KeySchemaElement::builder().attribute_name(name).key_type(kind).build().expect("a key")
    };
    let include = Projection::builder().projection_type(ProjectionType::Include).non_key_attributes("title").build();
    let all = Projection::builder().projection_type(ProjectionType::All).build();
    let global = GlobalSecondaryIndex::builder()
        .index_name("by_owner")
        .key_schema(key("owner", KeyType::Hash))
        .key_schema(key("at", KeyType::Range))
        .projection(include)
        .build();
    let local = LocalSecondaryIndex::builder()
        .index_name("by_at")
        .key_schema(key("pk", KeyType::Hash))
        .key_schema(key("at", KeyType::Range))
        .projection(all)
        .build();
    let stream = StreamSpecification::builder()
        .stream_enabled(true)
        .stream_view_type(StreamViewType::NewAndOldImages)
        .build()
        .expect("a stream");
    client
        .create_table()
        .table_name(name)
        .billing_mode(BillingMode::PayPerRequest)
        .attribute_definitions(attribute("pk", ScalarAttributeType::S))
        .attribute_definitions(attribute("sk", ScalarAttributeType::N))
        .attribute_definitions(attribute("owner", ScalarAttributeType::S))
        .attribute_definitions(attribute("at", ScalarAttributeType::N))
        .key_schema(key("pk", KeyType::Hash))
        .key_schema(key("sk", KeyType::Range))
        .global_secondary_indexes(global.expect("an index"))
        .local_secondary_indexes(local.expect("an index"))
        .stream_specification(stream)
        .send()
        .await
        .expect("it may");
}

fn item(attributes: Vec<(&str, AttributeValue)>) -> Item {
    attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn s(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

fn n(digits: &str) -> AttributeValue {
    AttributeValue::N(digits.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draft_of_dynamodb_tables_migrates_them_as_it_stands() {
    let client = client().await;
    indexed(&client, "DraftOrders").await;
    table(&client, "draft.things", &[("thing.id", ScalarAttributeType::S)]).await;
    table(&client, "DraftBytes", &[("raw", ScalarAttributeType::B)]).await;
    let put = async |name: &str, item: Item| {
        client.put_item().table_name(name).set_item(Some(item)).send().await.expect("it may");
    };
    for number in 0..30 {
        let (pk, sk) = (s(&format!("o{}", number % 3)), n(&format!("{number}.5")));
        let mut order = vec![("pk", pk), ("sk", sk), ("title", s(MARKER)), ("flag", AttributeValue::Bool(true))];
        if number % 2 == 0 {
            order.extend([
                ("owner", s("a")),
                ("at", n(&number.to_string())),
                ("any", AttributeValue::L(vec![n("1"), s("x")])),
            ]);
        } else {
            order.push(("any", AttributeValue::Null(true)));
        }
        put("DraftOrders", item(order)).await;
    }
    put(
        "draft.things",
        item(vec![("thing.id", s("t:1")), ("title", s("")), ("tags", AttributeValue::Ss(vec!["a".into()]))]),
    )
    .await;
    put("DraftBytes", item(vec![("raw", AttributeValue::B(Blob::new([0, 255])))])).await;
    let (mut legacy, mut target) = (Database::new().await, Database::new().await);
    (legacy.url, target.url) = (address(), address());
    let (drafted, outcome) =
        Drafted::new(Rig::of("drawn", legacy, target), &["--tables", "DraftOrders,draft.things,DraftBytes"]);
    let outcome = outcome.expect(0);
    assert!(outcome.out.contains("draft.things becomes draft.things_v2"), "{outcome:?}");
    let (legacy, definition) = (drafted.text("legacy.toml"), drafted.text("target.toml"));
    for word in ["any: L 15, NULL 15", "title: S 30", "flag: BOOL 30"] {
        assert!(legacy.contains(word), "{word}: {legacy}");
    }
    assert!(!legacy.contains(MARKER));
    for word in ["[table.DraftOrders.index.by_owner]", "projection = [\"title\"]", "the local index by_at on pk, at"] {
        assert!(definition.contains(word), "{word}: {definition}");
    }
    let summary = drafted.migrates();
    assert_eq!(read(&summary), 32, "{summary}");
    let things = items(&client, "draft.things_v2").await;
    assert_eq!(things.iter().map(|item| text(item, "thing.id")).collect::<Vec<_>>(), ["t:1"]);
    assert_eq!(drafted.with(&["diff", "drawn", "DraftOrders:o1"]).code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draft_from_dynamodb_to_postgres_says_what_it_does_not_carry() {
    let client = client().await;
    table(&client, "DraftRows", &[("id", ScalarAttributeType::S), ("at", ScalarAttributeType::N)]).await;
    let rows = [
        vec![
            ("id", s("a")),
            ("at", n("1.5")),
            ("title", s("x")),
            ("count", n("7")),
            ("any", AttributeValue::Bool(true)),
            ("mixed", s("1")),
        ],
        vec![("id", s("b")), ("at", n("2")), ("raw", AttributeValue::B(Blob::new([1]))), ("mixed", n("1"))],
    ];
    for row in rows {
        client.put_item().table_name("DraftRows").set_item(Some(item(row))).send().await.expect("it may");
    }
    let mut legacy = Database::new().await;
    legacy.url = address();
    let (mut drafted, outcome) =
        Drafted::new(Rig::of("to_rows", legacy, Database::new().await), &["--tables", "DraftRows"]);
    outcome.expect(0);
    let mapping = drafted.text("mapping.toml");
    for word in
        ["NOT CARRIED: any", "NOT CARRIED: mixed", "title = { string = \".title\", refuse = \"attribute_type\" }"]
    {
        assert!(mapping.contains(word), "{word}: {mapping}");
    }
    drafted.migrates();
    let rows = "select concat_ws(' ', id, at, title, count, raw) from draftrows order by id";
    assert_eq!(drafted.rig.target.texts(rows).await, ["a 1.5 x 7", "b 2 \\x01"]);
    // Later an item has another type there: it is held back, and nothing is lost silently.
    let odd = item(vec![("id", s("c")), ("at", n("3")), ("title", n("5"))]);
    client.put_item().table_name("DraftRows").set_item(Some(odd)).send().await.expect("it may");
    assert!(items(&client, "DraftRows").await.iter().any(|item| number(item, "title") == "5"));
    drafted.with(&["run", "to_rows", "--until", "caught-up"]).expect(2);
    let listed = drafted.with(&["quarantine", "list", "to_rows"]).expect(2);
    assert!(listed.out.contains("attribute_type"), "{listed:?}");
}

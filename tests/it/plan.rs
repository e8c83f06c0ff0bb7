//! `rehome plan`: what it says before anything is made is what a run then does; and it makes nothing.
#![cfg(feature = "demo-dynamo")]

use std::collections::BTreeMap;
use std::path::PathBuf;

use rehome::demo::tables::Tables;
use rehome::demo::{Action, ItemChange, writer};
use serde_json::{Value, json};

use crate::demo_data::{folder, generator};
use crate::support::cluster::Database;
use crate::support::rig::{Outcome, Rig, bare, finish};

/// Stands in rows, and nowhere else.
const MARKER: &str = "QuiteSecret";

/// `plan --json`: without a target's address, and with a state folder that is not there.
fn plan(rig: &Rig, arguments: &[&str]) -> Outcome {
    let mut command = bare();
    command.args(["plan", rig.migration, "--json", "--source", &rig.legacy.url]).arg("--state").arg(rig.state());
    command.args(arguments);
    finish(command)
}

/// What a store holds that a command could have made in it.
async fn made(database: &mut Database) -> Vec<String> {
    let everything = "select 'slot ' || slot_name from pg_replication_slots where database = current_database() \
         union all select 'publication ' || pubname from pg_publication \
         union all select 'table ' || c.oid::regclass::text from pg_class c join pg_namespace n on n.oid = c.relnamespace \
           where n.nspname !~ '^pg_' and n.nspname <> 'information_schema' order by 1";
    database.texts(everything).await
}

/// The value of an estimate that must be a count.
fn counted(estimate: &Value) -> u64 {
    assert_eq!(estimate["exact"], true, "{estimate}");
    assert!(estimate["low"] == estimate["value"] && estimate["high"] == estimate["value"], "{estimate}");
    estimate["value"].as_u64().expect("a number")
}

/// Counts by name, without zeros.
fn by_name(counts: &Value, count: impl Fn(&Value) -> u64) -> BTreeMap<String, u64> {
    let named = counts.as_object().into_iter().flatten().map(|(name, value)| (name.clone(), count(value)));
    named.filter(|(_, count)| *count > 0).collect()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

/// What became of each source table's rows: read, mapped, looked up, dropped, quarantined.
type Told = BTreeMap<String, (u64, u64, u64, BTreeMap<String, u64>, BTreeMap<String, u64>)>;

fn planned(plan: &Value) -> Told {
    let tables = plan["sources"].as_array().expect("tables").iter();
    let told = |table: &Value| {
        let name = table["table"].as_str().expect("a name").to_owned();
        let counts = ["rows", "mapped", "lookup"].map(|of| counted(&table[of]));
        let [dropped, quarantined] = ["dropped", "quarantined"].map(|of| by_name(&table[of], counted));
        (name, (counts[0], counts[1], counts[2], dropped, quarantined))
    };
    tables.map(told).filter(|(_, told)| told.0 > 0).collect()
}

/// What a run made of each table's rows; those of parts that only meeting others kept from being written count as mapped, as
/// far as a part tells of itself.
fn happened(status: &Value) -> Told {
    let tables = status["conservation"]["rows"].as_object().expect("tables").iter();
    let told = |(name, table): (&String, &Value)| {
        let [dropped, mut quarantined] = ["dropped", "quarantined"].map(|of| by_name(&table[of], number));
        let met: u64 = ["key_collision", "foreign_key"].iter().filter_map(|reason| quarantined.remove(*reason)).sum();
        (
            name.clone(),
            (number(&table["read"]), number(&table["mapped"]) + met, number(&table["lookup"]), dropped, quarantined),
        )
    };
    tables.map(told).filter(|(_, told)| told.0 > 0).collect()
}

/// Plans, runs, and holds the one against the other; answers what was planned.
fn holds(rig: &Rig, more: &[&str], before: &[&str]) -> Value {
    let outcome = plan(rig, more);
    assert!(outcome.code == 0 || outcome.code == 2, "{outcome:?}");
    assert!(!rig.state().exists(), "a plan leaves no state folder");
    let planned_json = outcome.json();
    let with = |arguments: &[&str]| rig.rehome(&[arguments, before].concat());
    with(&["up", rig.migration]).expect(0);
    let ran = with(&["run", rig.migration, "--until", "caught-up", "--park-percent-max", "100"]);
    assert_eq!(outcome.code, ran.code, "what would not arrive did not: {planned_json} {ran:?}");
    let status = with(&["status", rig.migration, "--json"]).json();
    let told = format!("{planned_json}\n{status}");
    assert_eq!(planned(&planned_json), happened(&status), "{told}");
    assert_eq!(
        by_name(&planned_json["counted"], counted),
        by_name(&status["conservation"]["counts"], number),
        "{told}"
    );
    let targets = planned_json["targets"].as_array().expect("tables");
    let sum = |of: &dyn Fn(&Value) -> u64| targets.iter().map(of).sum::<u64>();
    let rows_of = |list: &Value| list.as_array().expect("a list").iter().map(|one| number(&one["rows"])).sum::<u64>();
    // A row may refer to two rows that are not there.
    let most =
        |list: &Value| list.as_array().expect("a list").iter().map(|one| number(&one["rows"])).max().unwrap_or(0);
    let met = sum(&|target| rows_of(&target["keys"]) + most(&target["references"]));
    let refused = sum(&|target| by_name(&target["refused"], counted).values().sum());
    let there = &status["conservation"]["target"];
    assert_eq!(sum(&|target| counted(&target["rows"])) - met, number(&there["written"]), "{told}");
    assert_eq!(refused + met, number(&there["parked"]), "{told}");
    planned_json
}

/// A migration's legacy tables with generated rows, which hold every known hazard.
async fn generated(migration: &'static str, units: u64) -> Rig {
    let mut legacy = Database::new().await;
    let tables = std::fs::read_to_string(folder(migration).join("legacy.sql")).expect("a file");
    writer::run_script(&mut legacy.connection, &tables).await.expect("the definitions hold");
    writer::load(&mut legacy.connection, &generator(migration, 1), units).await.expect("it takes them");
    Rig::of(migration, legacy, Database::new().await)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_planned_of_conversations_is_what_a_run_does_and_a_plan_makes_nothing() {
    let mut rig = generated("luthien", 120).await;
    let before = (made(&mut rig.legacy).await, made(&mut rig.target).await);
    plan(&rig, &[]);
    assert_eq!((made(&mut rig.legacy).await, made(&mut rig.target).await), before);
    let planned = holds(&rig, &[], &[]);
    assert!(planned["sample"].is_null() && planned["writing"].is_null(), "{planned}");
    assert!(!planned["examples"].as_array().expect("a list").is_empty(), "{planned}");
    // A second look, beside the state folder that there is now: nothing in it changes.
    let status = rig.status();
    assert_eq!(planned["sources"], plan(&rig, &[]).json()["sources"]);
    assert_eq!(status, rig.status());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_planned_of_documents_is_what_a_run_does() {
    let mut rig = generated("semantik", 60).await;
    let own = std::fs::read_to_string(folder("semantik").join("target.sql")).expect("a file");
    rig.target.run(own).await;
    let planned = holds(&rig, &[], &[]);
    // A collection that the mapping parks is missing to its documents, and to nobody else.
    let documents =
        planned["targets"].as_array().expect("tables").iter().find(|table| table["table"] == "documents_v2");
    let references = documents.expect("the table")["references"].as_array().expect("a list");
    let dangling: Vec<_> = references.iter().map(|one| (&one["to"], number(&one["rows"]))).collect();
    assert_eq!(dangling, [(&"collections".into(), 2), (&"collection_sources".into(), 2)], "{planned}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_planned_of_jobs_is_what_a_run_does_at_dynamodb() {
    let tables = Tables::start().await.expect("a private server");
    let mut rig = generated("jobs", 60).await;
    rig.target.url = tables.url();
    let planned = holds(&rig, &["--write-capacity", "100"], &[]);
    let writing = &planned["writing"];
    let units = counted(&writing["write_units"]);
    assert!(units > counted(&planned["targets"][0]["rows"]), "indexes are written too: {planned}");
    assert_eq!(writing["seconds"]["low"].as_u64(), Some(units.div_ceil(100)), "{planned}");
    // A row of progress may come to belong to another job, so its key is looked at; nobody else wants it.
    let key = &planned["targets"][0]["keys"][0];
    assert_eq!((&key["proven"], &key["rows"]), (&false.into(), &0.into()), "{planned}");
    // It is what the server says that it took, but for what it counts otherwise.
    let cost = rig.status();
    assert!(planned["targets"][0]["partitions"]["count"].as_u64() > Some(10), "{planned} {cost}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_planned_of_conversations_in_dynamodb_is_what_a_run_does() {
    let (source, target) = (Tables::start().await.expect("a server"), Tables::start().await.expect("a server"));
    source.load(&folder("delphi").join("legacy.json"), &generator("delphi", 1), 40).expect("it loads");
    let (mut legacy, mut there) = (Database::new().await, Database::new().await);
    (legacy.url, there.url) = (source.url(), target.url());
    let planned = holds(&Rig::of("delphi", legacy, there), &["--workers", "4"], &[]);
    let graph = planned["targets"].as_array().expect("tables").iter();
    let graph = graph.max_by_key(|target| number(&target["rows"]["value"])).expect("a table");
    let largest = &graph["partitions"]["largest"][0];
    assert!(largest["percent"].as_f64() > Some(0.0) && largest["key"].is_string(), "{planned}");
}

/// A migration of one table, by files of its own.
struct Small {
    _folder: tempfile::TempDir,
    schemas: String,
}

impl Small {
    /// The files: mapping without its head, and target.
    fn new(name: &str, legacy: &str, mapping: &str, target: (&str, &str)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let schemas = folder.path().join("schemas");
        let place: PathBuf = schemas.join(name);
        std::fs::create_dir_all(&place).expect("a folder");
        let head = format!(
            "migration = \"{name}\"\nnamespace = \"5d0c2f3a-0000-5000-8000-000000000000\"\nforeign = \"row\"\n"
        );
        let reasons = "[quarantine]\nnot_storable = \"row\"\nunreadable_json = \"row\"\nkey_collision = \"row\"\nnumber_out_of_range = \"row\"\n";
        for (file, text) in [
            ("legacy.toml", format!("source = \"postgres\"\n{legacy}")),
            ("mapping.toml", format!("{head}{reasons}{mapping}")),
            (target.0, target.1.to_owned()),
        ] {
            std::fs::write(place.join(file), text).expect("a file");
        }
        Self { schemas: schemas.to_str().expect("text").to_owned(), _folder: folder }
    }

    fn arguments(&self) -> [&str; 2] {
        ["--schemas", &self.schemas]
    }
}

const THINGS: &str = "[table.things]\nkey = [\"id\"]\nrole = \"unit\"\nunit_lookup = \"key\"\n\
     [table.things.columns]\nid = \"int8 not null\"\nowner = \"text not null\"\ncode = \"text not null\"\nn = \"int8\"\n\
     name = \"text\"\nprice = \"numeric\"\n";

const MAPPED: &str = "[unit]\nthings = { id = { template = \"t:{.id}\" } }\n[part]\nthings = []\n[[map]]\nfrom = \"things\"\nto = \"narrow\"\n\
     columns = { owner = \".owner\", code = \".code\", n = \".n\", name = \".name\", price = \".price\" }\n";

const NARROW: &str = "CREATE TABLE narrow (owner text NOT NULL, code text PRIMARY KEY, n int UNIQUE, name varchar(5), \
     price numeric(5,2));";

async fn things(rows: &str) -> Database {
    let mut legacy = Database::new().await;
    legacy
        .run(format!(
            "create table things (id bigint primary key, owner text not null, code text not null, n bigint, name text, \
               price numeric); {rows}"
        ))
        .await;
    legacy
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_its_column_does_not_hold_parks_its_row_alone() {
    let mapped = "[unit]\nthings = { id = { template = \"t:{.id}\" } }\n[part]\nthings = []\n[[map]]\nfrom = \"things\"\nto = \"numbered\"\n\
         columns = { n = \".n\", code = \".code\" }\n";
    let target = "CREATE TABLE numbered (n int PRIMARY KEY, code text NOT NULL);";
    let numbered = THINGS.replace("n = \"int8\"", "n = \"int8 not null\"");
    let dropped = format!("{numbered}[table.things.drop]\nowner = \"a test\"\nname = \"a test\"\nprice = \"a test\"\n");
    let small = Small::new("numbered", &dropped, mapped, ("target.sql", target));
    let legacy =
        things("alter table things alter n set not null; insert into things values (1, 'o', 'a', 1, null, null), (2, 'o', 'b', 3000000000, null, null)").await;
    let mut rig = Rig::of("numbered", legacy, Database::new().await);
    holds(&rig, &small.arguments(), &small.arguments());
    let parked = |rig: &Rig| {
        let listed =
            rig.rehome(&[&["quarantine", "list", "numbered", "--json"][..], &small.arguments()].concat()).json();
        let of = |unit: &Value| {
            (unit["unit"].as_str().map(str::to_owned), unit["result"]["reason"].as_str().map(str::to_owned))
        };
        listed.as_array().expect("a list").iter().map(of).collect::<Vec<_>>()
    };
    assert_eq!(parked(&rig), [(Some("t:2".to_owned()), Some("out_of_range".to_owned()))]);
    assert_eq!(rig.target.texts("select code from numbered").await, ["a"]);
    assert_eq!(
        rig.rehome(&[&["diff", "numbered", "t:2"][..], &small.arguments()].concat()).code,
        1,
        "it is told, not an error"
    );
    rig.legacy.run("update things set n = 2 where id = 2").await;
    rig.rehome(&[&["run", "numbered", "--until", "caught-up"][..], &small.arguments()].concat()).expect(0);
    assert_eq!(rig.target.texts("select code from numbered order by n").await, ["a", "b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_two_rows_want_and_values_that_the_target_refuses_are_told_before() {
    let small = Small::new("narrow", THINGS, MAPPED, ("target.sql", NARROW));
    let legacy = things(
        "insert into things select i, 'o', 'c' || i, i, 'n', 1.5 from generate_series(1, 200) i; \
         insert into things values (201, 'o', 'c7', 201, null, null), (202, 'o', 'c7', 202, null, null), \
           (203, 'o', 'c8', null, null, null), (204, 'o', 'large', 3000000000, null, null), \
           (205, 'o', 'wide', null, 'QuiteSecret', null), (206, 'o', 'dear', null, null, 1000)",
    );
    let mut rig = Rig::of("narrow", legacy.await, Database::new().await);
    let planned = holds(&rig, &small.arguments(), &small.arguments());
    let keys = planned["targets"][0]["keys"].as_array().expect("keys");
    assert_eq!((&keys[0]["columns"], &keys[0]["contested"]), (&json!(["code"]), &2.into()), "{planned}");
    assert_eq!(keys[0]["shown"], json!([["c7", 3], ["c8", 2]]), "{planned}");
    assert_eq!((&keys[1]["columns"], &keys[1]["contested"]), (&json!(["n"]), &0.into()), "{planned}");
    let refused = BTreeMap::from([("not_storable".to_owned(), 1), ("out_of_range".to_owned(), 2)]);
    assert_eq!(by_name(&planned["refused"], counted), refused, "{planned}");
    let listed =
        rig.rehome(&["quarantine", "list", "narrow", "--json", small.arguments()[0], small.arguments()[1]]).json();
    let mut reasons: BTreeMap<String, u64> = BTreeMap::new();
    for unit in listed.as_array().expect("a list") {
        *reasons.entry(unit["result"]["reason"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
    }
    assert_eq!(reasons.remove("key_collision"), Some(5), "{listed}");
    assert_eq!(reasons, refused, "{listed}");

    // What a server would round is told too, and two rows of one unique value; for people, without what rows hold.
    rig.legacy.run("insert into things values (300, 'o', 'fine', 5, null, 1.555)").await;
    let again = plan(&rig, &small.arguments()).expect(2).json();
    assert_eq!(
        by_name(&again["targets"][0]["altered"], counted),
        BTreeMap::from([("rounded".to_owned(), 1)]),
        "{again}"
    );
    assert_eq!(again["targets"][0]["keys"][1]["shown"], json!([["5", 2]]), "{again}");
    let mut command = bare();
    command.args(["plan", "narrow", "--source", &rig.legacy.url]).args(small.arguments());
    let shown = finish(command).expect(2);
    for word in [
        "2 keys are WANTED by 5 rows",
        "c7 (3 rows)",
        "REFUSE: 2 out_of_range",
        "ALTERED: 1 rounded",
        "would not arrive",
    ] {
        assert!(shown.out.contains(word), "{word}: {}", shown.out);
    }
    assert!(!shown.out.contains(MARKER) && !planned.to_string().contains(MARKER));
}

#[tokio::test(flavor = "multi_thread")]
async fn large_items_and_hot_partitions_of_dynamodb_are_told_before() {
    let mapped = "[unit]\nthings = { id = { template = \"t:{.id}\" } }\n[part]\nthings = []\n[[map]]\nfrom = \"things\"\nto = \"narrow\"\n\
         attributes = { owner = \".owner\", code = \".code\", n = \".n\", name = \".name\", price = \".price\" }\n";
    let target = "[table.narrow]\nhash = \"owner\"\nrange = \"code\"\nbilling = \"on_demand\"\n\
         attributes = { owner = \"S\", code = \"S\", n = \"N\" }\n\
         [table.narrow.index.by_n]\nhash = \"n\"\nprojection = \"keys_only\"\n";
    let small = Small::new("items", THINGS, mapped, ("target.toml", target));
    let legacy = things(
        "insert into things select i, case when i <= 90 then 'hot' else 'o' || i end, 'c' || i, case when i <= 10 then i end, 'n', null \
           from generate_series(1, 100) i; \
         insert into things values (101, 'o91', 'c91', null, null, null), (102, 'big', 'c', null, repeat('x', 250000), null), \
           (103, 'bigger', 'c', null, repeat('x', 410000), null), (104, 'odd', 'c', null, null, 1e200)",
    );
    let server = Tables::start().await.expect("a private server");
    let mut there = Database::new().await;
    there.url = server.url();
    let rig = Rig::of("items", legacy.await, there);
    let planned = holds(&rig, &small.arguments(), &small.arguments());
    let target = &planned["targets"][0];
    assert_eq!(by_name(&planned["refused"], counted), BTreeMap::from([("item_too_large".to_owned(), 1)]), "{planned}");
    assert_eq!(counted(&target["large"]), 1, "{planned}");
    assert_eq!(target["keys"][0]["shown"], json!([["o91, c91", 2]]), "{planned}");
    // A hundred small items, ten of them in the index too, one again, and one of 245 units.
    assert_eq!(counted(&target["write_units"]), 100 + 10 + 1 + 245, "{planned}");
    let largest = &target["partitions"]["largest"];
    assert_eq!((&largest[0]["key"], &largest[0]["write_units"]), (&"big".into(), &245.into()), "{planned}");
    assert_eq!((&largest[1]["key"], &largest[1]["rows"]), (&"hot".into(), &90.into()), "{planned}");
    assert_eq!(target["partitions"]["count"], 12, "{planned}");
    assert_eq!(planned["sources"][0]["quarantined"]["number_out_of_range"]["value"], 1, "{planned}");
}

/// Whether an interval holds a number.
fn within(estimate: &Value, truth: u64) -> bool {
    (number(&estimate["low"])..=number(&estimate["high"])).contains(&truth)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_sample_of_ranges_the_truth_lies_within_the_intervals() {
    let small = Small::new("narrow", THINGS, MAPPED, ("target.sql", NARROW));
    let legacy = things(
        "insert into things select i, repeat('o', 60 + i % 7), 'c' || i, i, case when i % 50 = 0 then 'too long' end, 1.5 \
           from generate_series(1, 40000) i; analyze things",
    );
    let rig = Rig::of("narrow", legacy.await, Database::new().await);
    let sampled = |sample: &str| plan(&rig, &[&small.arguments()[..], &["--sample", sample]].concat()).expect(2).json();
    for (sample, percent) in [("20%", 20.0), ("8000", 20.0)] {
        let planned = sampled(sample);
        assert_eq!(planned["sample"]["percent"].as_f64(), Some(percent), "{planned}");
        let (source, target) = (&planned["sources"][0], &planned["targets"][0]);
        let (drawn, all) = (number(&source["ranges"][0]), number(&source["ranges"][1]));
        assert!(drawn >= all / 5 && drawn < all / 4 && source["read"] == "ranges", "{planned}");
        for (estimate, truth) in [
            (&source["rows"], 40_000),
            (&source["mapped"], 39_200),
            (&source["quarantined"]["not_storable"], 800),
            (&target["rows"], 39_200),
            (&planned["refused"]["not_storable"], 800),
        ] {
            assert!(within(estimate, truth) && estimate["exact"] == false, "{truth}: {planned}");
            let width = number(&estimate["high"]) - number(&estimate["low"]);
            assert!(width > 0 && width < truth, "{truth}: {planned}");
        }
        assert!(planned["not_looked_at"].to_string().contains("outside of the sample"), "{planned}");
    }
    // All of it is no sample.
    assert!(sampled("100%")["sample"].is_null());
    assert!(sampled("50000")["sample"].is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_sample_of_units_the_truth_lies_within_the_intervals() {
    let rig = generated("semantik", 400).await;
    let (whole, sampled) = (plan(&rig, &[]).json(), plan(&rig, &["--sample", "40%"]).json());
    let (mut held, mut all) = (0, 0);
    let mut weigh = |estimate: &Value, truth: &Value| {
        all += 1;
        held += u64::from(within(estimate, counted(truth)));
    };
    for (sampled, whole) in [("sources", ["rows", "mapped"]), ("targets", ["rows", "bytes"])]
        .iter()
        .flat_map(|(side, of)| of.iter().map(move |of| (side, of)))
        .flat_map(|(side, of)| {
            let of = |plan: &Value| {
                plan[*side].as_array().expect("tables").iter().map(|table| table[*of].clone()).collect::<Vec<_>>()
            };
            of(&sampled).into_iter().zip(of(&whole))
        })
    {
        weigh(&sampled, &whole);
    }
    weigh(&sampled["parts"], &whole["parts"]);
    assert!(all > 10 && held * 10 >= all * 9, "{held} of {all}: {sampled}\n{whole}");
    for (of_sample, of_all) in
        sampled["sources"].as_array().expect("tables").iter().zip(whole["sources"].as_array().expect("tables"))
    {
        assert_eq!((&of_sample["rows"], &of_sample["read"]), (&of_all["rows"], &of_all["read"]), "all rows are read");
    }
    assert_eq!(sampled["parts"]["exact"], false, "{sampled}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_sample_of_segments_the_truth_lies_within_the_intervals() {
    let server = Tables::start().await.expect("a private server");
    let definitions = tempfile::NamedTempFile::new().expect("a file");
    let table = |name: &str, key: Value, attributes: Value| json!({ "TableName": name, "KeySchema": key, "AttributeDefinitions": attributes, "BillingMode": "PAY_PER_REQUEST" });
    let (id, team) =
        (json!({ "AttributeName": "id", "KeyType": "HASH" }), json!({ "AttributeName": "team", "KeyType": "HASH" }));
    let number_key = json!({ "AttributeName": "number", "KeyType": "RANGE" });
    let kind = |name: &str, kind: &str| json!({ "AttributeName": name, "AttributeType": kind });
    let tables = json!([
        table("Events", json!([id]), json!([kind("id", "S")])),
        table("Teams", json!([team, number_key]), json!([kind("team", "S"), kind("number", "N")])),
    ]);
    std::fs::write(definitions.path(), tables.to_string()).expect("a file");
    server.load(definitions.path(), &generator("delphi", 1), 0).expect("it makes them");
    for at in 0..3_000 {
        let owner = format!("o{}", at % 40);
        let filler = "x".repeat(1_500);
        let mut event = json!({ "id": { "S": format!("e{at}") }, "filler": { "S": filler }, "owner": { "S": owner }, "meta": { "M": { "at": { "N": at.to_string() } } } });
        if at % 10 == 0 {
            event["owner"] = json!({ "N": "5" });
        }
        let item = event.as_object().expect("an item").clone();
        server.apply(&ItemChange { table: "Events".into(), item, action: Action::Put }).expect("it takes it");
    }
    let mut legacy = Database::new().await;
    legacy.url = server.url();
    let rig = Rig::of("copy", legacy, Database::new().await);
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data");
    let whole = plan(&rig, &["--schemas", data]).expect(2).json();
    let sampled = plan(&rig, &["--schemas", data, "--sample", "25%"]).expect(2).json();
    let (source, target) = (&sampled["sources"][0], &sampled["targets"][0]);
    assert_eq!(source["read"], "ranges", "{sampled}");
    assert!(number(&source["ranges"][0]) * 3 < number(&source["ranges"][1]), "{sampled}");
    assert_eq!(counted(&whole["sources"][0]["rows"]), 3_000, "{whole}");
    for (estimate, truth) in [
        (&source["rows"], 3_000),
        (&source["quarantined"]["malformed"], 300),
        (&target["rows"], 2_700),
        (&target["write_units"], counted(&whole["targets"][0]["write_units"])),
    ] {
        assert!(within(estimate, truth) && estimate["exact"] == false, "{truth}: {sampled}");
    }
    assert_eq!(target["partitions"]["estimated"], true, "{sampled}");
    let units = number(&sampled["time"]["read_units"]);
    assert!(units > 0 && units < number(&whole["time"]["read_units"]), "{sampled} {whole}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_needs_a_source_alone_and_says_what_it_lacks() {
    let rig = generated("jobs", 2).await;
    let folder = tempfile::tempdir().expect("a folder");
    let types = folder.path().join("types.csv");
    std::fs::write(&types, "id,app_label,model\n11,api,scriptgenerationjob\n").expect("a file");
    let lookup = format!("types={}", types.display());
    let planned = plan(&rig, &["--lookup", &lookup]).json();
    let file = planned["sources"]
        .as_array()
        .expect("tables")
        .iter()
        .find(|table| table["read"] == "file")
        .expect("it is read");
    assert_eq!((&file["rows"]["value"], &file["lookup"]["value"]), (&1.into(), &1.into()), "{planned}");
    for wrong in ["0%", "101%", "0", "-5", "five"] {
        assert_eq!(plan(&rig, &["--sample", wrong]).code, 3, "{wrong}");
    }
    let mut command = bare();
    command.args(["plan", "jobs"]);
    assert!(finish(command).expect(3).err.contains("--source"));
    let mut command = bare();
    command.args(["plan", "jobs", "--source", "dynamodb+local://127.0.0.1:1"]);
    assert!(finish(command).expect(3).err.contains("another kind of store"));
}

//! delphi between two sets of DynamoDB tables, live: several runs, rows that know their job and rows that do not, a current
//! tick that moves, and what readers ask of the result.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeValue, ScalarAttributeType};
use rehome::mapping::Migration;
use rehome::mapping::schema::Kind;
use serde_json::{Value, json};

use crate::support::cluster::Database;
use crate::support::dynamo::{Item, address, client, items, table, text};
use crate::support::rig::{Rig, Run};

/// Edges of a graph that no change of a tick may touch.
const EDGES: usize = 60;

fn delphi() -> Migration {
    Migration::load(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/delphi")).expect("it compiles")
}

/// Numbers and texts as attributes.
fn attribute(value: &Value) -> AttributeValue {
    match value {
        Value::String(text) => AttributeValue::S(text.clone()),
        Value::Number(number) => AttributeValue::N(number.to_string()),
        other => panic!("{other} is not used here"),
    }
}

fn item(value: &Value) -> Item {
    value.as_object().expect("an item").iter().map(|(name, value)| (name.clone(), attribute(value))).collect()
}

async fn put(client: &Client, table: &str, value: Value) {
    let put = client.put_item().table_name(format!("Delphi_{table}")).set_item(Some(item(&value)));
    put.send().await.expect("it may");
}

/// The legacy tables, with streams.
async fn create(client: &Client, migration: &Migration) {
    for source in migration.source_tables() {
        let kind = |kind: Kind| if kind == Kind::Decimal { ScalarAttributeType::N } else { ScalarAttributeType::S };
        let key: Vec<(&str, ScalarAttributeType)> =
            source.key.iter().map(|&key| (&*source.columns[key].name, kind(source.columns[key].kind))).collect();
        table(client, &source.name, &key).await;
    }
}

/// What each target item was last written by, by table and key.
async fn written(client: &Client, migration: &Migration) -> BTreeMap<(String, String, String), String> {
    let mut written = BTreeMap::new();
    for target in migration.dynamo_tables() {
        for item in items(client, &target.name).await {
            let range = match &item[&*target.key[1].name] {
                AttributeValue::N(number) => number.clone(),
                other => other.as_s().expect("a text").clone(),
            };
            let version = format!("{:?}", item["_rehome_v"]);
            let table = target.name.trim_start_matches("Delphi_").trim_end_matches("_ByJob").to_owned();
            written.insert((table, text(&item, "job_id").to_owned(), range), version);
        }
    }
    written
}

/// Items by table and job.
fn counted(written: &BTreeMap<(String, String, String), String>) -> BTreeMap<(&str, &str), usize> {
    let mut counted = BTreeMap::new();
    for (table, job, _) in written.keys() {
        *counted.entry((table.as_str(), job.as_str())).or_default() += 1;
    }
    counted
}

/// Waits until the target's items are counted so.
async fn arrived(client: &Client, migration: &Migration, run: &mut Run, wanted: &[(&str, &str, usize)]) {
    let wanted: BTreeMap<(&str, &str), usize> =
        wanted.iter().map(|(table, job, count)| ((*table, *job), *count)).collect();
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let found = written(client, migration).await;
        if counted(&found) == wanted {
            return;
        }
        run.assert_alive("the items arrived");
        assert!(Instant::now() < deadline, "wanted {wanted:#?}\nfound {:#?}\n{}", counted(&found), run.told());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Waits until nothing is on its way; answers the status.
fn still(rig: &Rig, run: &mut Run) -> Value {
    rig.until("nothing is on its way", run, |status| {
        status["applied"] == status["log_end"] && status["dirty"] == 0 && status["phase"] == "caught_up"
    })
}

async fn fill(client: &Client) {
    put(client, "PCAConversationConfig", json!({ "zid": "9", "latest_math_tick": 100, "last_updated": 1_003 })).await;
    for (tick, time) in [(100, 1_000), (200, 2_000)] {
        put(client, "PCAResults", json!({ "zid": "9", "math_tick": tick, "timestamp": time })).await;
        for group in [0, 1] {
            put(client, "KMeansClusters", json!({ "zid_tick": format!("9:{tick}"), "group_id": group })).await;
        }
        let comment = json!({ "zid_tick_gid": format!("9:{tick}:0"), "comment_id": "1", "group_id": 0 });
        put(client, "RepresentativeComments", comment).await;
    }
    put(client, "KMeansClusters", json!({ "zid_tick": "9:200", "group_id": 2, "job_id": "own" })).await;
    put(client, "KMeansClusters", json!({ "zid_tick": "9:300", "group_id": 0 })).await;
    put(client, "KMeansClusters", json!({ "zid_tick": "broken", "group_id": 0 })).await;
    put(client, "CommentRouting", json!({ "zid_tick": "5:7", "comment_id": "1" })).await;
    put(client, "CommentClustersLLMTopicNames", json!({ "conversation_id": "9", "topic_key": "j1#0#1" })).await;
    put(client, "CommentClustersLLMTopicNames", json!({ "conversation_id": "9", "topic_key": "layer0_1" })).await;
    put(client, "CommentEmbeddings", json!({ "conversation_id": "5", "comment_id": 1 })).await;
    for edge in 0..EDGES {
        put(client, "UMAPGraph", json!({ "conversation_id": "9", "edge_id": format!("{edge}_{}", edge + 1) })).await;
    }
    for (report, time) in [("r1", "t1"), ("r2", "t2")] {
        let key = format!("{report}#s#m");
        put(client, "NarrativeReports", json!({ "rid_section_model": key, "timestamp": time, "report_id": report }))
            .await;
    }
    put(client, "JobQueue", json!({ "job_id": "q1", "report_id": "r1", "conversation_id": "9" })).await;
}

/// Jobs, or keys, that a query answers with, in order.
fn asked(rig: &Rig, arguments: &[&str], member: &str) -> Vec<String> {
    let outcome = rig.rehome(&[&["query", "delphi"], arguments, &["--json"]].concat()).expect(0);
    let answer = outcome.json();
    let rows = answer["rows"].as_array().expect("rows").iter();
    rows.map(|row| row["row"][member].as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn conversations_become_jobs_and_a_tick_that_moves_touches_the_rows_of_two_ticks() {
    let (client, migration) = (client().await, delphi());
    create(&client, &migration).await;
    fill(&client).await;
    let (mut legacy, mut target) = (Database::new().await, Database::new().await);
    (legacy.url, target.url) = (address(), address());
    let rig = Rig::of("delphi", legacy, target);
    rig.rehome(&["check", "delphi"]).expect(0);
    rig.rehome(&["up", "delphi"]).expect(0);
    let mut run = rig.start(&[]);
    let first = [
        ("PCAConversationConfig", "legacy-9", 1),
        ("PCAResults", "legacy-9", 1),
        ("PCAResults", "legacy-9-tick-200", 1),
        ("KMeansClusters", "legacy-9", 2),
        ("KMeansClusters", "legacy-9-tick-200", 2),
        ("KMeansClusters", "own", 1),
        ("KMeansClusters", "legacy-9-tick-300", 1),
        ("RepresentativeComments", "legacy-9", 1),
        ("RepresentativeComments", "legacy-9-tick-200", 1),
        ("CommentRouting", "legacy-5-tick-7", 1),
        ("CommentClustersLLMTopicNames", "j1", 1),
        ("CommentClustersLLMTopicNames", "legacy-9", 1),
        ("CommentEmbeddings", "legacy-5", 1),
        ("UMAPGraph", "legacy-9", EDGES),
        ("NarrativeReports", "legacy-9", 1),
        ("NarrativeReports", "legacy-report-r2", 1),
    ];
    arrived(&client, &migration, &mut run, &first).await;
    let status = still(&rig, &mut run);
    assert_eq!(status["balanced"], true, "{status}");
    let rows = &status["conservation"]["rows"];
    assert_eq!(rows["Delphi_KMeansClusters"]["quarantined"]["malformed_key"], 1, "{status}");
    assert_eq!(rows["Delphi_JobQueue"]["lookup"], 1, "{status}");

    readers_find_their_rows(&rig);

    // The tick moves: the rows of the two ticks that know no job of their own, and the config, and nothing else.
    let before = written(&client, &migration).await;
    put(&client, "PCAConversationConfig", json!({ "zid": "9", "latest_math_tick": 200, "last_updated": 2_003 })).await;
    let swapped = |job: &str| match job {
        "legacy-9" => "legacy-9-tick-100".to_owned(),
        "legacy-9-tick-200" => "legacy-9".to_owned(),
        other => other.to_owned(),
    };
    let math = ["PCAResults", "KMeansClusters", "RepresentativeComments"];
    let second: Vec<(&str, String, usize)> = first
        .iter()
        .map(|(table, job, count)| {
            (*table, if math.contains(table) { swapped(job) } else { (*job).to_owned() }, *count)
        })
        .collect();
    let second: Vec<(&str, &str, usize)> =
        second.iter().map(|(table, job, count)| (*table, job.as_str(), *count)).collect();
    arrived(&client, &migration, &mut run, &second).await;
    let evaluated = still(&rig, &mut run)["progress"]["units"].as_u64().expect("a count")
        - status["progress"]["units"].as_u64().expect("a count");
    let after = written(&client, &migration).await;
    let touched: BTreeSet<_> = after.iter().filter(|(key, version)| before.get(*key) != Some(*version)).collect();
    let unexpected: Vec<_> = touched
        .iter()
        .filter(|((table, job, _), _)| {
            let moved = math.contains(&table.as_str()) && (job == "legacy-9" || job == "legacy-9-tick-100");
            !moved && table != "PCAConversationConfig"
        })
        .collect();
    assert!(unexpected.is_empty(), "{unexpected:?}");
    // Four rows of each tick, and the config.
    assert_eq!(touched.len(), 9, "{touched:?}");
    // A row that takes over another one's key may meet it there first, and is then evaluated again.
    assert!((9..=27).contains(&evaluated), "{evaluated} parts were evaluated");

    // A report is resolved when the queue names its conversation, and again when two of its jobs disagree.
    put(&client, "JobQueue", json!({ "job_id": "q2", "report_id": "r2", "conversation_id": "9" })).await;
    let resolved: Vec<(&str, &str, usize)> = second
        .iter()
        .filter(|(table, ..)| *table != "NarrativeReports")
        .copied()
        .chain([("NarrativeReports", "legacy-9", 2)])
        .collect();
    arrived(&client, &migration, &mut run, &resolved).await;
    put(&client, "JobQueue", json!({ "job_id": "q3", "report_id": "r2", "conversation_id": "5" })).await;
    arrived(&client, &migration, &mut run, &second).await;
    let status = still(&rig, &mut run);
    assert_eq!(status["conservation"]["counts"]["ambiguous_lookup"], 1, "{status}");

    // Two rows that carry one job and one key: neither stays, whichever came first, and both come back when one goes.
    put(&client, "KMeansClusters", json!({ "zid_tick": "5:7", "group_id": 2, "job_id": "own" })).await;
    let without: Vec<(&str, &str, usize)> =
        second.iter().filter(|(table, job, _)| (*table, *job) != ("KMeansClusters", "own")).copied().collect();
    arrived(&client, &migration, &mut run, &without).await;
    let status = still(&rig, &mut run);
    assert_eq!(status["balanced"], true, "{status}");
    let key = HashMap::from([
        ("zid_tick".to_owned(), AttributeValue::S("5:7".into())),
        ("group_id".to_owned(), AttributeValue::N("2".into())),
    ]);
    client.delete_item().table_name("Delphi_KMeansClusters").set_key(Some(key)).send().await.expect("it may");
    arrived(&client, &migration, &mut run, &second).await;
    assert_eq!(run.terminate().code, 0);
    assert_eq!(rig.status()["balanced"], true);
    // All of it agrees; what could not be mapped keeps the verdict from being a match.
    let (code, summary, listed) = crate::reconcile::try_reconcile(&rig, &["--patience", "30"]);
    assert_eq!(listed, Vec::<Value>::new(), "{summary}");
    assert_ne!(code, 1, "{summary}");
    assert!(summary["targets"][0]["expected"]["rows"].as_u64() > Some(0), "{summary}");
    rig.rehome(&["down", "delphi", "--yes"]).expect(0);
}

/// What readers ask while the run goes on: by job, by conversation, the latest job and all jobs.
fn readers_find_their_rows(rig: &Rig) {
    assert_eq!(asked(rig, &["latest", "9"], "job_id"), ["legacy-9"]);
    assert_eq!(
        asked(rig, &["jobs", "9"], "job_id"),
        ["legacy-9", "own", "legacy-9-tick-200", "legacy-9-tick-300", "j1"],
        "the config's first, then by time, then the rest"
    );
    // Without a config, and with no dated rows, the legacy job is the latest; the older run is found all the same.
    assert_eq!(asked(rig, &["latest", "5"], "job_id"), ["legacy-5"]);
    assert_eq!(asked(rig, &["jobs", "5"], "job_id"), ["legacy-5", "legacy-5-tick-7"]);
    assert_eq!(asked(rig, &["latest", "nobody"], "job_id"), Vec::<String>::new());
    assert_eq!(asked(rig, &["by-job", "own"], "zid_tick"), ["9:200"]);
    assert_eq!(asked(rig, &["by-job", "legacy-9"], "job_id").len(), 1 + 1 + 2 + 1 + 1 + EDGES + 1);
    // Rows without a time stand outside the index: the two rows of tick 300 and of conversation 5.
    assert_eq!(asked(rig, &["by-conversation", "9"], "job_id").len(), 1 + 2 + 5 + 2 + 2 + EDGES + 1);
    assert_eq!(asked(rig, &["reports", "r2"], "job_id"), ["legacy-report-r2"]);
    let few = rig.rehome(&["query", "delphi", "by-job", "legacy-9", "--limit", "3", "--json"]).expect(0).json();
    assert_eq!((few["rows"].as_array().map(Vec::len), &few["more"]), (Some(3), &json!(true)));
    let tables = rig.rehome(&["query", "delphi", "tables", "--json"]).expect(0).json();
    let embeddings =
        tables.as_array().expect("tables").iter().find(|table| table["table"] == "Delphi_CommentEmbeddings_ByJob");
    let embeddings = embeddings.expect("described");
    assert_eq!(embeddings["key"], "(job_id S, comment_id N)");
    assert_eq!(embeddings["indexes"]["ConversationIdIndex"], "(conversation_id S, comment_id N) ALL");
    let unknown = rig.rehome(&["query", "delphi", "last"]).expect(3);
    assert!(unknown.err.contains("there is no query last") && unknown.err.contains("latest"), "{unknown:?}");
    let few = rig.rehome(&["query", "delphi", "latest"]).expect(3);
    assert!(few.err.contains("takes 1 argument(s) (conversation), not 0"), "{few:?}");
    let listed = rig.rehome(&["query", "delphi"]).expect(0);
    assert!(listed.out.contains("all jobs of a conversation, the latest first"), "{listed:?}");
}

//! The generated conversations hold what their migration has to survive, in a private DynamoDB.
#![cfg(feature = "demo-dynamo")]

use std::collections::{BTreeMap, BTreeSet};

use rehome::demo::tables::Tables;
use serde_json::Value;

use super::demo_data::{folder, generator};

/// Conversations; each scenario has several.
const UNITS: u64 = 120;

type Item = BTreeMap<String, Value>;

fn text<'a>(item: &'a Item, name: &str) -> Option<&'a str> {
    item.get(name)?.get("S")?.as_str()
}

/// A hazard: its name, its table, and whether an item shows it.
type Hazard = (&'static str, &'static str, fn(&Item) -> bool);

const HAZARDS: &[Hazard] = &[
    ("a row without its conversation", "KMeansClusters", |item| !item.contains_key("zid")),
    ("a key that nobody can read", "KMeansClusters", |item| {
        text(item, "zid_tick").is_some_and(|key| !key.contains(':'))
    }),
    ("a three-part key without its group", "RepresentativeComments", |item| {
        text(item, "zid_tick_gid").is_some_and(|key| key.matches(':').count() == 1)
    }),
    ("a tick that is no number", "CommentRouting", |item| {
        text(item, "zid_tick").is_some_and(|key| key.ends_with(":soon"))
    }),
    ("an attribute of another type", "CommentRouting", |item| {
        item.get("zid").is_some_and(|zid| zid.get("N").is_some())
    }),
    ("a row without a priority", "CommentRouting", |item| !item.contains_key("priority")),
    ("a score of 37 digits", "CommentRouting", |item| {
        item["consensus_score"]["N"].as_str().is_some_and(|n| n.len() > 38)
    }),
    ("a tick of another type", "PCAConversationConfig", |item| item["latest_math_tick"].get("S").is_some()),
    ("a result without a time", "PCAResults", |item| !item.contains_key("timestamp")),
    ("an attribute that is null", "CommentHierarchicalClusterAssignments", |item| {
        item["layer2_cluster_id"].get("NULL").is_some()
    }),
    ("a node among the edges", "UMAPGraph", |item| text(item, "edge_id").is_some_and(|edge| edge == "1_1")),
    ("a weight below zero", "UMAPGraph", |item| {
        item["weight"]["N"].as_str().is_some_and(|weight| weight.starts_with('-'))
    }),
    ("a job of its own", "CommentClustersFeatures", |item| text(item, "job_id").is_some_and(|job| job.len() == 36)),
    ("a job that counts as none", "CommentClustersFeatures", |item| text(item, "job_id") == Some("unknown_job")),
    ("a topic that knows its job", "CommentClustersLLMTopicNames", |item| {
        text(item, "topic_key").is_some_and(|key| key.len() > 36 && key.ends_with("#0#1"))
    }),
    ("a topic of an unknown job", "CommentClustersLLMTopicNames", |item| {
        text(item, "topic_key") == Some("unknown_job#0#7")
    }),
    ("a topic of a batch", "CommentClustersLLMTopicNames", |item| {
        text(item, "topic_key").is_some_and(|key| key.starts_with("batch_report_"))
    }),
    ("a report with a job", "NarrativeReports", |item| text(item, "job_id").is_some_and(|job| job.len() == 36)),
    ("a report with an empty job", "NarrativeReports", |item| text(item, "job_id") == Some("")),
    ("a report whose text is cut", "NarrativeReports", |item| {
        text(item, "report_data").is_some_and(|data| data.ends_with("cut of"))
    }),
    ("a key that is too long", "NarrativeReports", |item| {
        text(item, "rid_section_model").is_some_and(|key| key.len() > 1024)
    }),
    ("a time without a zone", "NarrativeReports", |item| {
        text(item, "timestamp").is_some_and(|time| !time.contains(['Z', '+']))
    }),
    ("a time with an offset", "NarrativeReports", |item| {
        text(item, "timestamp").is_some_and(|time| time.ends_with("+00:00"))
    }),
    ("a job without a conversation", "JobQueue", |item| !item.contains_key("conversation_id")),
    ("a job without a worker", "JobQueue", |item| !item.contains_key("worker_id")),
];

fn items(tables: &Tables, table: &str) -> Vec<Item> {
    tables.items(&format!("Delphi_{table}")).expect("the table is there")
}

#[tokio::test]
async fn every_hazard_occurs_among_the_conversations() {
    let tables = Tables::start().await.expect("a private server starts");
    let written = tables.load(&folder("delphi").join("legacy.json"), &generator("delphi", 1), UNITS).expect("it loads");
    assert!(written.rows > 10 * UNITS, "{written:?}");
    let absent: Vec<_> = HAZARDS
        .iter()
        .filter(|(_, table, shows)| !items(&tables, table).iter().any(shows))
        .map(|(name, ..)| name)
        .collect();
    assert!(absent.is_empty(), "hazards that do not occur: {absent:?}");
    // An older run of a conversation whose tick is the larger number.
    let mut ticks: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    for item in items(&tables, "PCAResults") {
        let tick = item["math_tick"]["N"].as_str().and_then(|tick| tick.parse().ok()).expect("a number");
        ticks.entry(item["zid"].to_string()).or_default().insert(tick);
    }
    let older_is_larger = items(&tables, "PCAConversationConfig").iter().any(|config| {
        let latest = config["latest_math_tick"]["N"].as_str().and_then(|tick| tick.parse::<u64>().ok());
        latest.is_some() && ticks.get(&config["zid"].to_string()).is_some_and(|ticks| ticks.last() > latest.as_ref())
    });
    assert!(older_is_larger, "an older run with the larger tick");
    let reports: BTreeSet<_> = items(&tables, "JobQueue")
        .iter()
        .filter_map(|job| job.get("report_id").cloned())
        .map(|id| id.to_string())
        .collect();
    assert!(
        items(&tables, "NarrativeReports").iter().any(|report| !reports.contains(&report["report_id"].to_string()))
    );
}

#[tokio::test]
async fn every_kind_of_live_change_is_taken_and_does_something() {
    let tables = Tables::start().await.expect("a private server starts");
    let generator = generator("delphi", 2);
    tables.load(&folder("delphi").join("legacy.json"), &generator, UNITS).expect("it loads");
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for step in 0..300 {
        let done = generator.live_items(step, UNITS).expect("it evaluates").expect("the file has live ones");
        for change in &done.changes {
            tables.apply(change).expect("the server takes it");
        }
        *kinds.entry(done.name).or_default() += done.changes.len();
    }
    assert_eq!(kinds.len(), 14, "{kinds:?}");
    assert!(kinds.values().all(|changes| *changes > 0), "{kinds:?}");
}

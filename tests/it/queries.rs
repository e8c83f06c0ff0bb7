//! What readers ask of a Postgres target and of a shared DynamoDB table; what no key leads to is refused when files are read.

use serde_json::Value;

use crate::support::cluster::Database;
use crate::support::dynamo::address;
use crate::support::jobs::{LEGACY, progress, script};
use crate::support::rig::Rig;
use crate::support::schemas::edited as renamed;

fn rows(answer: &Value) -> Vec<&Value> {
    answer["rows"].as_array().expect("rows").iter().map(|row| &row["row"]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_target_answers_by_key_in_the_order_of_the_key() {
    let mut rig = Rig::up().await;
    rig.legacy
        .run(
            "insert into conversation_calls (call_id, status, provider) values ('a', 'success', 'p'), ('b', 'failure', 'p'); \
             insert into conversation_events (call_id, event_type, sequence, payload) values \
               ('a', 'request_started', 1, '{\"original_messages\": [{\"role\": \"user\", \"content\": \"hi\"}]}'), \
               ('a', 'request_completed', 2, '{\"status\": \"success\", \"final_response\": \"ho\"}')",
        )
        .await;
    rig.catch_up().expect(0);
    let ask =
        |arguments: &[&str]| rig.rehome(&[&["query", "luthien"], arguments, &["--json"]].concat()).expect(0).json();
    let call = ask(&["call", "a"]);
    assert_eq!((rows(&call).len(), &rows(&call)[0]["status"]), (1, &"success".into()), "{call}");
    let events = ask(&["events", "a"]);
    let kinds: Vec<_> = rows(&events).iter().map(|row| row["event_type"].as_str().expect("a text")).collect();
    assert_eq!(kinds, ["request", "response"], "in the order of the key that led to them: {events}");
    assert_eq!(rows(&events)[1]["payload"]["message"]["content"], "ho", "{events}");
    assert_eq!(events["read"], 2, "{events}");
    let few = ask(&["events", "a", "--limit", "1"]);
    assert_eq!((rows(&few).len(), &few["more"]), (1, &true.into()), "{few}");
    assert_eq!(rows(&ask(&["call", "'; drop table conversation_calls_v2; --"])).len(), 0);
    let shown = rig.rehome(&["query", "luthien", "call", "a"]).expect(0);
    assert!(shown.out.contains("conversation_calls_v2") && shown.err.contains("1 row(s); 1 read"), "{shown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shared_table_answers_with_times_as_its_readers_show_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let schemas = renamed(folder.path(), "schemas/jobs", &[("algoitny_main", "queried_main")]);
    let mut legacy = Database::new().await;
    legacy.run(LEGACY).await;
    legacy.run(script(1, "one") + &script(2, "two")).await;
    legacy.run("update script_generation_jobs set created_at = '2024-10-10T00:00:00Z' where id = 2").await;
    legacy.run(progress(2, 11, 1, "2024-10-09T04:03:47+00") + &progress(1, 11, 1, "2024-10-09T04:03:46.5+00")).await;
    let mut target = Database::new().await;
    target.url = address();
    let rig = Rig::of("jobs", legacy, target);
    let with = |arguments: &[&str]| rig.rehome(&[arguments, &["--schemas", &schemas]].concat());
    with(&["up", "jobs"]).expect(0);
    with(&["run", "jobs", "--until", "caught-up"]).expect(0);
    let pending = with(&["query", "jobs", "script-jobs", "PENDING", "--json"]).expect(0).json();
    let titles: Vec<_> = rows(&pending).iter().map(|row| row["dat.tit"].as_str().expect("a text")).collect();
    assert_eq!(titles, ["two", "one"], "the latest first: {pending}");
    let first = rows(&pending)[1];
    assert_eq!((&first["crt"], &first["created_at"]), (&1_728_446_626.into(), &"2024-10-09T04:03:46+00:00".into()));
    let id = first["PK"].as_str().and_then(|key| key.split_once('#')).expect("a key").1;
    let job = with(&["query", "jobs", "script-job", id, "--json"]).expect(0).json();
    assert_eq!((rows(&job).len(), &rows(&job)[0]["dat"]["lid"]), (1, &1.into()), "{job}");
    let entries = with(&["query", "jobs", "script-progress", id, "--json"]).expect(0).json();
    let keys: Vec<_> = rows(&entries).iter().map(|row| row["SK"].as_str().expect("a text")).collect();
    assert_eq!(keys, ["PROG#1728446626.500000#1", "PROG#1728446627.000000#2"], "in order of time: {entries}");
    assert_eq!(rows(&with(&["query", "jobs", "script-jobs", "GONE", "--json"]).expect(0).json()).len(), 0);
}

//! Columns that the live table, or a dump, calls otherwise than the mapping does.

use std::collections::HashMap;
use std::path::Path;

use aws_sdk_dynamodb::types::{AttributeValue, ScalarAttributeType};

use crate::support::cluster::Database;
use crate::support::dynamo::{Item, address, client, event, items, number, table, text};
use crate::support::rig::Rig;
use crate::support::schemas::edited;

#[tokio::test(flavor = "multi_thread")]
async fn columns_of_a_postgres_table_may_have_other_names() {
    let folder = tempfile::tempdir().expect("a folder");
    let alias = "[table.calls.alias]\ncall_id = \"callId\"\nprovider = \"The Provider\"\n\n[table.calls.columns]";
    let schemas = edited(folder.path(), "schemas/luthien", &[("[table.calls.columns]", alias)]);
    let mut rig = Rig::new().await;
    rig.legacy.run("insert into conversation_calls (call_id, status, provider) values ('a', 'success', 'p')").await;
    rig.legacy
        .run("alter table conversation_calls rename call_id to \"callId\"; alter table conversation_calls rename provider to \"The Provider\"")
        .await;
    let missing = rig.rehome(&["check", "luthien"]).expect(1);
    assert!(missing.out.contains("public.conversation_calls.call_id: there is no such column"), "{missing:?}");
    let with = |rig: &Rig, arguments: &[&str]| rig.rehome(&[arguments, &["--schemas", &schemas]].concat());
    with(&rig, &["check", "luthien"]).expect(0);
    with(&rig, &["up", "luthien"]).expect(0);
    let mut run = rig.start(&["--schemas", &schemas]);
    rig.settled(&mut run).await;
    assert_eq!(with(&rig, &["diff", "luthien", "a"]).code, 0);
    rig.legacy.run("update conversation_calls set \"The Provider\" = 'q'").await;
    rig.legacy.run("insert into conversation_calls (\"callId\", status) values ('b', 'success')").await;
    rig.settled(&mut run).await;
    let calls =
        rig.target.texts("select call_id || coalesce(provider, '-') from conversation_calls_v2 order by 1").await;
    assert_eq!(calls, ["aq", "b-"]);
    assert_eq!(with(&rig, &["diff", "luthien", "b"]).code, 0);
    crate::reconcile::reconcile_with(&rig, &["--schemas", &schemas], 0);
    assert_eq!(run.terminate().code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_of_a_dump_may_have_other_names() {
    let client = client().await;
    let folder = tempfile::tempdir().expect("a folder");
    let alias = "[table.scripts.alias]\nid = \"jobNumber\"\n\n[table.scripts.columns]";
    let edits = [("[table.scripts.columns]", alias), ("algoitny_main", "aliased_main")];
    let schemas = edited(folder.path(), "schemas/jobs", &edits);
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mapping/plan003");
    let mut files = Vec::new();
    for name in ["django_content_type", "script_generation_jobs", "problem_extraction_jobs", "job_progress_history"] {
        let text = std::fs::read_to_string(shipped.join(format!("{name}.jsonl"))).expect("a file");
        let script = name == "script_generation_jobs";
        let text = if script { text.replacen("\"id\":", "\"jobNumber\":", 1) } else { text };
        assert!(!script || text.contains("jobNumber"), "{text}");
        let file = folder.path().join(format!("{name}.jsonl"));
        std::fs::write(&file, text).expect("a file");
        files.push(file.display().to_string());
    }
    let (legacy, mut target) = (Database::new().await, Database::new().await);
    target.url = address();
    let rig = Rig::of("jobs", legacy, target);
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    rig.rehome(&[&["load", "jobs"], files.as_slice(), &["--schemas", &schemas]].concat()).expect(0);
    assert_eq!(items(&client, "aliased_main").await.len(), 93);
}

#[tokio::test(flavor = "multi_thread")]
async fn key_attributes_of_a_dynamodb_table_may_have_other_names() {
    let client = client().await;
    let folder = tempfile::tempdir().expect("a folder");
    let edits = [
        ("columns = { id = \"S\" }", "columns = { id = \"S\" }\nalias = { id = \"eventId\" }"),
        ("\"Events\"", "\"EventsAliased\""),
        ("\"Teams\"", "\"TeamsAliased\""),
        ("events_by_owner", "aliased_by_owner"),
    ];
    let schemas = edited(folder.path(), "tests/data/copy", &edits);
    table(&client, "EventsAliased", &[("eventId", ScalarAttributeType::S)]).await;
    table(&client, "TeamsAliased", &[("team", ScalarAttributeType::S), ("number", ScalarAttributeType::N)]).await;
    let put = async |id: &str, at: i64| {
        let mut item: Item = event(id, "o", at);
        let id = item.remove("id").expect("an id");
        item.insert("eventId".into(), id);
        client.put_item().table_name("EventsAliased").set_item(Some(item)).send().await.expect("it may");
    };
    put("a", 1).await;
    let (mut legacy, mut target) = (Database::new().await, Database::new().await);
    (legacy.url, target.url) = (address(), address());
    let rig = Rig::of("copy", legacy, target);
    let with = |arguments: &[&str]| rig.rehome(&[arguments, &["--schemas", &schemas]].concat());
    with(&["up", "copy"]).expect(0);
    with(&["run", "copy", "--until", "caught-up"]).expect(0);
    // By the stream: another item, and one that goes.
    put("b", 2).await;
    let key = HashMap::from([("eventId".to_owned(), AttributeValue::S("a".into()))]);
    client.delete_item().table_name("EventsAliased").set_key(Some(key)).send().await.expect("it may");
    let mut run = rig.start(&["--schemas", &schemas]);
    rig.until_with(&["--schemas", &schemas], "the stream was followed", &mut run, |status| {
        status["capture"]["streamed"].as_u64() >= Some(2)
    });
    rig.until_with(&["--schemas", &schemas], "and written", &mut run, |status| {
        status["applied"] == status["log_end"] && status["dirty"] == 0
    });
    let copied = items(&client, "aliased_by_owner").await;
    let copied: Vec<_> =
        copied.iter().map(|item| (text(item, "legacy_id"), text(item, "id"), number(item, "at"))).collect();
    assert_eq!(copied, [("b", "b", "2")], "and the key goes along under the mapping's name");
    let diff = with(&["diff", "copy", "event:b"]);
    assert_eq!(diff.code, 0, "{diff:?}");
    crate::reconcile::reconcile_with(&rig, &["--schemas", &schemas], 0);
    assert_eq!(run.terminate().code, 0);
}

//! Tables that a source may lack: named, skipped, and taken in when they appear.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::{AttributeValue, ScalarAttributeType};

use crate::support::cluster::Database;
use crate::support::dynamo::{address, client, items, table, text};
use crate::support::legacy;
use crate::support::rig::Rig;
use crate::support::schemas::{edited, labelled};

const JUDGE: &str = "conversation_judge_decisions";

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_table_that_is_not_there_is_named_and_skipped_until_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let optional = "name = \"conversation_judge_decisions\"\noptional = true";
    let schemas = edited(folder.path(), "schemas/luthien", &[("name = \"conversation_judge_decisions\"", optional)]);
    let mut rig = Rig::new().await;
    let shape = legacy::DDL.split_once("create table conversation_judge_decisions").expect("it is there").1;
    let shape = format!("create table conversation_judge_decisions{shape}");
    rig.legacy
        .run(format!(
            "drop table {JUDGE}; create table beside (id int); create table parts (id int) partition by range (id)"
        ))
        .await;
    rig.legacy.run("create table parts_1 partition of parts for values from (0) to (9)").await;
    rig.legacy.run("insert into conversation_calls (call_id, status) values ('a', 'success')").await;
    let refused = rig.rehome(&["up", "luthien"]).expect(3);
    assert!(refused.err.contains("conversation_judge_decisions: there is no such table\n"), "{refused:?}");

    let with = |rig: &Rig, arguments: &[&str]| rig.rehome(&[arguments, &["--schemas", &schemas]].concat());
    let status = |rig: &Rig| with(rig, &["status", "luthien", "--json"]).json();
    let check = with(&rig, &["check", "luthien", "--json"]).expect(0).json();
    // Slots that other tests left on the same server are told, too.
    let found = check["source"].as_array().expect("a list").iter();
    let found: Vec<_> = found.filter(|found| !found["place"].to_string().contains("replication slot")).collect();
    assert_eq!(found.len(), 1, "{check}");
    assert_eq!(found[0]["place"], format!("public.{JUDGE}"), "{check}");
    assert_eq!(found[0]["severity"], "warning", "{check}");
    assert_eq!(check["unmentioned"], serde_json::json!(["public.beside", "public.parts"]));
    let check = with(&rig, &["check", "luthien"]).expect(0);
    assert!(check.out.contains("for information: public.beside, public.parts"), "{check:?}");
    let up = with(&rig, &["up", "luthien"]).expect(0);
    assert!(up.out.contains("it is skipped, being optional"), "{up:?}");

    let mut run = rig.start(&["--schemas", &schemas]);
    let settled = rig.settled(&mut run).await;
    assert_eq!(settled["skipped"], serde_json::json!([JUDGE]), "{settled}");
    assert_eq!(rig.target.texts("select call_id from conversation_calls_v2").await, ["a"]);
    assert_eq!(with(&rig, &["diff", "luthien", "a"]).code, 0, "its rows in a table that is not there are none");
    crate::reconcile::reconcile_with(&rig, &["--schemas", &schemas], 0);
    // It appears, with rows: that is told, and the next run reads everything again.
    rig.legacy.run(&shape).await;
    let row = format!("insert into {JUDGE} (call_id, probability) values ('a', 0.5)");
    rig.legacy.run(&row).await;
    rig.until("it is told", &mut run, |status| status["capture"]["findings"].to_string().contains("it is there now"));
    assert_eq!(run.terminate().code, 0);
    assert_eq!(status(&rig)["skipped"], serde_json::json!([JUDGE]), "while nothing runs, too");
    with(&rig, &["run", "luthien", "--until", "caught-up"]).expect(0);
    let taken = status(&rig);
    assert_eq!((&taken["skipped"], &taken["balanced"]), (&serde_json::json!([]), &true.into()), "{taken}");
    assert_eq!(taken["conservation"]["rows"][JUDGE]["read"], 1, "{taken}");
    assert_eq!(with(&rig, &["diff", "luthien", "a"]).code, 0);

    // And goes again: what was read of it stays until a person has everything read again.
    rig.legacy.run(format!("drop table {JUDGE}")).await;
    with(&rig, &["run", "luthien", "--until", "caught-up"]).expect(0);
    assert_eq!(status(&rig)["conservation"]["rows"][JUDGE]["read"], 1);
    with(&rig, &["accept-schema", "luthien", JUDGE, "--read-again"]).expect(0);
    with(&rig, &["run", "luthien", "--until", "caught-up"]).expect(0);
    let gone = status(&rig);
    assert_eq!(gone["conservation"]["rows"][JUDGE]["read"].as_u64().unwrap_or_default(), 0, "{gone}");
    assert_eq!(gone["balanced"], true, "{gone}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dynamodb_table_that_is_not_there_is_named_and_skipped_until_it_is() {
    let client = client().await;
    let folder = tempfile::tempdir().expect("a folder");
    let optional = "name = \"TeamsPerhaps\"\noptional = true";
    let edits = [
        ("name = \"Teams\"", optional),
        ("\"Events\"", "\"EventsPerhaps\""),
        ("events_by_owner", "perhaps_by_owner"),
        ("rows.owners", "rows.perhaps_owners"),
        ("to = \"owners\"", "to = \"perhaps_owners\""),
        ("[table.owners]\nhash", "[table.perhaps_owners]\nhash"),
    ];
    let schemas = edited(folder.path(), "tests/data/copy", &edits);
    table(&client, "EventsPerhaps", &[("id", ScalarAttributeType::S)]).await;
    table(&client, "UnmentionedTable", &[("id", ScalarAttributeType::S)]).await;
    let (mut legacy, mut target) = (Database::new().await, Database::new().await);
    (legacy.url, target.url) = (address(), address());
    let rig = Rig::of("copy", legacy, target);
    let with = |arguments: &[&str]| rig.rehome(&[arguments, &["--schemas", &schemas]].concat());
    let check = with(&["check", "copy", "--json"]).expect(0).json();
    assert_eq!(check["source"][0]["place"], "table TeamsPerhaps", "{check}");
    let others: Vec<_> =
        check["unmentioned"].as_array().expect("a list").iter().filter_map(|name| name.as_str()).collect();
    assert!(others.contains(&"UnmentionedTable") && !others.contains(&"EventsPerhaps"), "{others:?}");
    with(&["up", "copy"]).expect(0);
    with(&["run", "copy", "--until", "caught-up"]).expect(0);
    let status = with(&["status", "copy"]).expect(0);
    assert!(status.out.contains("SKIPPED TeamsPerhaps"), "{status:?}");

    table(&client, "TeamsPerhaps", &[("team", ScalarAttributeType::S), ("number", ScalarAttributeType::N)]).await;
    let team = HashMap::from([
        ("team".to_owned(), AttributeValue::S("t".into())),
        ("number".to_owned(), AttributeValue::N("7".into())),
    ]);
    client.put_item().table_name("TeamsPerhaps").set_item(Some(team)).send().await.expect("it may");
    with(&["run", "copy", "--until", "caught-up"]).expect(0);
    let owners = items(&client, "perhaps_owners").await;
    assert_eq!(owners.iter().map(|owner| text(owner, "owner")).collect::<Vec<_>>(), ["t#7"]);
    let status = with(&["status", "copy", "--json"]).expect(0).json();
    assert_eq!(status["skipped"], serde_json::json!([]), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_declared_later_is_read_before_anything_is_made_of_it() {
    use sqlx::Connection as _;
    let mut rig = Rig::of("labelled", Database::new().await, Database::new().await);
    rig.legacy
        .run(
            "create table things (id bigint primary key, code text not null); insert into things values (1, 'a'), (2, 'b'); \
             create table names (code text primary key, label text not null); insert into names values ('a', 'A'), ('b', 'B')",
        )
        .await;
    let schemas = labelled(rig.folder.path(), "", "", "\".code\"");
    rig.rehome(&["up", "labelled", "--schemas", &schemas]).expect(0);
    rig.rehome(&["run", "labelled", "--until", "caught-up", "--schemas", &schemas]).expect(0);
    let labels = "select label from labels order by id";
    assert_eq!(rig.target.texts(labels).await, ["a", "b"]);

    // The new table cannot be read yet: what it says is not known, and nothing is made of that.
    let table = "[table.names]\nkey = [\"code\"]\nrole = \"lookup\"\ncolumns = { code = \"text not null\", label = \"text not null\" }\n";
    let reference = "[reference.named]\ntable = \"names\"\nmatch = [\".code\"]\nselect = { label = \".label\" }\nby.things = [\".code\"]\n";
    labelled(rig.folder.path(), table, reference, "{ first = [\"@named.label\", \"unknown\"] }");
    let mut locker = sqlx::PgConnection::connect(&rig.legacy.url).await.expect("a connection");
    sqlx::raw_sql("begin; lock table names in access exclusive mode").execute(&mut locker).await.expect("a lock");
    let mut run = rig.start(&["--schemas", &schemas]);
    let waits = "select count(*)::text from pg_locks where not granted and relation = 'names'::regclass";
    while rig.legacy.text(waits).await == "0" {
        run.assert_alive("the copy of the new table");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(rig.target.texts(labels).await, ["a", "b"], "as they were");
    sqlx::raw_sql("commit").execute(&mut locker).await.expect("the lock goes");
    while rig.target.texts(labels).await != ["A", "B"] {
        run.assert_alive("the new labels");
        assert!(!rig.target.texts(labels).await.contains(&"unknown".to_owned()));
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(run.terminate().code, 0);
}

//! A unit of a DynamoDB source is compared: what is proven, what is not, and items that nobody expects.

use aws_sdk_dynamodb::types::{AttributeValue, ScalarAttributeType};

use crate::support::cluster::Database;
use crate::support::dynamo::{Item, address, client, event, items, number, table, text};
use crate::support::rig::{Outcome, Rig};
use crate::support::schemas::edited;

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_of_items_is_compared_and_what_nobody_expects_is_found() {
    let client = client().await;
    let folder = tempfile::tempdir().expect("a folder");
    let edits =
        [("\"Events\"", "\"EventsDiff\""), ("\"Teams\"", "\"TeamsDiff\""), ("events_by_owner", "diff_by_owner")];
    let schemas = edited(folder.path(), "tests/data/copy", &edits);
    table(&client, "EventsDiff", &[("id", ScalarAttributeType::S)]).await;
    table(&client, "TeamsDiff", &[("team", ScalarAttributeType::S), ("number", ScalarAttributeType::N)]).await;
    let put = async |table: &str, item: Item| {
        client.put_item().table_name(table).set_item(Some(item)).send().await.expect("it may");
    };
    for (id, at) in [("a", 1), ("b", 2)] {
        put("EventsDiff", event(id, "o", at)).await;
    }
    for number in ["1", "2.50"] {
        let team = [("team", AttributeValue::S("t".into())), ("number", AttributeValue::N(number.into()))];
        put("TeamsDiff", team.map(|(name, value)| (name.to_owned(), value)).into()).await;
    }
    let (mut legacy, mut target) = (Database::new().await, Database::new().await);
    (legacy.url, target.url) = (address(), address());
    let rig = Rig::of("copy", legacy, target);
    let with = |arguments: &[&str]| rig.rehome(&[arguments, &["--schemas", &schemas]].concat());
    let diff = |unit: &str| with(&["diff", "copy", unit, "--json"]);
    let kinds = |outcome: &Outcome| -> Vec<String> {
        let differences = outcome.json()["differences"].as_array().expect("a list").clone();
        differences.iter().map(|found| found["kind"].as_str().expect("a word").to_owned()).collect()
    };
    with(&["up", "copy"]).expect(0);
    let mut run = rig.start(&["--schemas", &schemas]);
    rig.until_with(&["--schemas", &schemas], "caught up", &mut run, |status| {
        status["phase"] == "caught_up" && status["dirty"] == 0
    });

    for unit in ["event:a", "event:b", "owner:t"] {
        let found = diff(unit).expect(0);
        let rows = if unit == "owner:t" { 2 } else { 1 };
        assert_eq!(found.json()["legacy_rows"], rows, "{found:?}");
        assert_eq!(found.json()["position"], serde_json::Value::Null);
        assert!(!found.err.contains("read units"), "a key leads there: {found:?}");
    }
    assert_eq!(diff("event:nobody").code, 3);
    crate::reconcile::reconcile_with(&rig, &["--schemas", &schemas], 0);

    // An item is changed in place, keeping our mark; another bears the unit's mark, and nobody expects it.
    let whole = items(&client, "diff_by_owner").await;
    let ours = whole.iter().find(|item| text(item, "legacy_id") == "a").expect("it was written").clone();
    let mut changed = ours.clone();
    changed.insert("title".into(), AttributeValue::S("someone was here".into()));
    put("diff_by_owner", changed).await;
    let found = diff("event:a").expect(1);
    assert_eq!(kinds(&found), ["changed"], "{found:?}");
    let (summary, listed) = crate::reconcile::reconcile_with(&rig, &["--schemas", &schemas], 1);
    assert_eq!(
        (listed.len(), &listed[0]["kind"], &listed[0]["state"]),
        (1, &"changed".into(), &"confirmed".into()),
        "{summary}"
    );
    put("diff_by_owner", ours.clone()).await;
    diff("event:a").expect(0);

    // One that bears the unit's mark lies where the unit expects nothing: a comparison of everything comes upon it.
    let mut elsewhere = ours.clone();
    elsewhere.insert("owner".into(), AttributeValue::S("someone".into()));
    put("diff_by_owner", elsewhere.clone()).await;
    let (summary, listed) = crate::reconcile::reconcile_with(&rig, &["--schemas", &schemas], 1);
    assert_eq!(
        (listed.len(), &listed[0]["kind"], &listed[0]["state"]),
        (1, &"extra".into(), &"confirmed".into()),
        "{summary}"
    );
    let key = ["owner", "at"].map(|name| (name.to_owned(), elsewhere[name].clone()));
    client.delete_item().table_name("diff_by_owner").set_key(Some(key.into())).send().await.expect("it may");
    let mut extra = ours.clone();
    extra.insert("at".into(), AttributeValue::N("77".into()));
    put("diff_by_owner", extra).await;
    let found = diff("event:a").expect(1);
    assert_eq!(kinds(&found), ["extra"], "{found:?}");
    diff("event:b").expect(0);
    let key = ["owner", "at"].map(|name| (name.to_owned(), ours[name].clone()));
    let key = [key[0].clone(), ("at".to_owned(), AttributeValue::N("77".into()))];
    client.delete_item().table_name("diff_by_owner").set_key(Some(key.into())).send().await.expect("it may");
    diff("event:a").expect(0);
    client
        .delete_item()
        .table_name("diff_by_owner")
        .set_key(Some(["owner", "at"].map(|name| (name.to_owned(), ours[name].clone())).into()))
        .send()
        .await
        .expect("it may");
    let found = diff("event:a").expect(1);
    assert_eq!(kinds(&found), ["missing"], "{found:?}");
    with(&["quarantine", "retry", "copy", "event:a"]).expect(0);
    rig.until_with(&["--schemas", &schemas], "written again", &mut run, |status| {
        status["applied"] == status["log_end"] && status["dirty"] == 0
    });
    diff("event:a").expect(0);
    assert_eq!(run.terminate().code, 0);

    // While nothing is captured a change cannot be told from a loss.
    put("EventsDiff", event("b", "o", 3)).await;
    let found = diff("event:b").expect(2);
    assert_eq!(found.json()["verdict"], "INCOMPLETE", "{found:?}");
    assert_eq!(number(&items(&client, "diff_by_owner").await[0], "exact"), "1234567890123456789012345678901234567.8");
    with(&["run", "copy", "--until", "caught-up"]).expect(0);
    diff("event:b").expect(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_that_nothing_leads_to_is_found_by_reading_everything_and_the_price_is_told() {
    let client = client().await;
    let folder = tempfile::tempdir().expect("a folder");
    let edits = [
        ("\"Events\"", "\"EventsScan\""),
        ("\"Teams\"", "\"TeamsScan\""),
        ("events_by_owner", "scan_by_owner"),
        (
            "key = [\"id\"]\nrole = \"unit\"\nunit_lookup = \"key\"",
            "key = [\"id\"]\nrole = \"unit\"\nunit_lookup = \"scan\"",
        ),
    ];
    let schemas = edited(folder.path(), "tests/data/copy", &edits);
    table(&client, "EventsScan", &[("id", ScalarAttributeType::S)]).await;
    table(&client, "TeamsScan", &[("team", ScalarAttributeType::S), ("number", ScalarAttributeType::N)]).await;
    for (id, at) in [("a", 1), ("b", 2)] {
        let put = client.put_item().table_name("EventsScan").set_item(Some(event(id, "o", at)));
        put.send().await.expect("it may");
    }
    let (mut legacy, mut target) = (Database::new().await, Database::new().await);
    (legacy.url, target.url) = (address(), address());
    let rig = Rig::of("copy", legacy, target);
    let with = |arguments: &[&str]| rig.rehome(&[arguments, &["--schemas", &schemas]].concat());
    with(&["up", "copy"]).expect(0);
    let mut run = rig.start(&["--schemas", &schemas]);
    rig.until_with(&["--schemas", &schemas], "caught up", &mut run, |status| {
        status["phase"] == "caught_up" && status["dirty"] == 0
    });
    let found = with(&["diff", "copy", "event:a"]).expect(0);
    assert!(found.err.contains("EventsScan: each reading takes all of it, about 2 items"), "{found:?}");
    assert!(found.out.contains("MATCH event:a: 1 legacy rows"), "{found:?}");
    assert!(!with(&["diff", "copy", "owner:t"]).err.contains("TeamsScan: each"), "a key leads there");
    assert_eq!(run.terminate().code, 0);
}

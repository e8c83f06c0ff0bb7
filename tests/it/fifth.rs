//! A migration that the engine was not written for: invented, from files alone, Postgres to DynamoDB. It has a group, a route
//! through a parent, a context row, sums and an assembly; backfill, live changes, comparison and damage all work.

use std::time::{Duration, Instant};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;

use crate::support::cluster::Database;
use crate::support::dynamo::{Item, address, client, items, number, text};
use crate::support::rig::{Rig, Run};

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data");

const LEGACY: &str = "create table rooms (room text primary key, title text not null, floor integer); \
    create table guide_visits (visit text primary key, badge text, room text not null, state text, opened timestamptz not null); \
    create table guide_lines (line bigint primary key, visit text not null, kind text not null, place integer, part integer, \
      body jsonb, at timestamptz not null); \
    create index guide_lines_visit on guide_lines (visit); \
    create table guide_readings (reading bigint primary key, badge text not null, sensor text not null, level integer not null, \
      at timestamptz not null); \
    insert into rooms values ('east', 'Minerals', 1), ('west', 'Birds', 0); \
    insert into guide_visits values ('v1', 'b1', 'east', null, '2025-01-01T10:00:00Z'), ('v2', null, 'west', 'closed', '2025-01-01T11:00:00Z'); \
    insert into guide_lines values (1, 'v1', 'ask', 0, null, '{\"asked\": [{\"role\": \"user\", \"content\": \"What is this?\"}]}', '2025-01-01T10:01:00Z'), \
      (2, 'v1', 'say', 1, 0, '{\"say\": \"A \"}', '2025-01-01T10:01:01Z'); \
    insert into guide_readings values (1, 'b1', 'light', 7, '2025-01-01T10:00:01Z'), (2, 'b1', 'light', 3, '2025-01-01T10:00:02Z'), \
      (3, 'b1', 'noise', 5, '2025-01-01T10:00:01Z'), (4, 'b2', 'noise', 9, '2025-01-01T11:00:01Z')";

/// What stands in the target, a line for each item but of `edits`, of which there are as many as said.
async fn seen(client: &Client) -> (Vec<String>, usize) {
    let mut lines = Vec::new();
    for item in items(client, "visits").await {
        let (visit, title, state) = (text(&item, "visit"), text(&item, "title"), text(&item, "state"));
        lines.push(format!("visit {visit} {title} {state} {}", number(&item, "readings")));
    }
    for item in items(client, "sensors").await {
        let levels = ["lowest", "highest", "last"].map(|name| number(&item, name)).join(" ");
        lines.push(format!("sensor {} {} {levels}", text(&item, "visit"), text(&item, "sensor")));
    }
    for item in items(client, "turns").await {
        let (visit, kind) = (text(&item, "visit"), text(&item, "kind"));
        lines.push(format!("turn {visit} {} {kind} {}", number(&item, "sequence"), said(&item)));
    }
    lines.sort();
    (lines, items(client, "edits").await.len())
}

/// The text of an answer.
fn said(item: &Item) -> &str {
    let payload = item.get("payload").and_then(|payload| payload.as_m().ok());
    let message = payload.and_then(|payload| payload.get("message")?.as_m().ok());
    message.and_then(|message| message.get("content")?.as_s().ok()).map_or("", String::as_str)
}

async fn becomes(client: &Client, run: &mut Run, wanted: &[&str], edits: usize) {
    let deadline = Instant::now() + Duration::from_secs(180);
    loop {
        let (lines, found) = seen(client).await;
        if lines == wanted && found == edits {
            return;
        }
        run.assert_alive("the changes arrived");
        assert!(Instant::now() < deadline, "{lines:#?} and {found} edits, wanted {wanted:#?}; {}", run.told());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_from_files_alone_is_filled_followed_compared_and_mended() {
    let client = client().await;
    let mut legacy = Database::new().await;
    legacy.run(LEGACY).await;
    let mut target = Database::new().await;
    target.url = address();
    let mut rig = Rig::of("fifth", legacy, target);
    let schemas = ["--schemas", DATA];
    let with = |rig: &Rig, arguments: &[&str]| rig.rehome(&[arguments, &schemas[..]].concat());
    with(&rig, &["check", "fifth"]).expect(0);
    with(&rig, &["up", "fifth"]).expect(0);
    let mut run = rig.start(&schemas);
    let filled = [
        "sensor v1 light 3 7 3",
        "sensor v1 noise 5 5 5",
        "turn v1 0 question ",
        "turn v1 1 answer A ",
        "visit v1 Minerals open 3",
        "visit v2 Birds closed 0",
    ];
    becomes(&client, &mut run, &filled, 0).await;
    let diff = |rig: &Rig, unit: &str| with(rig, &["diff", "fifth", unit, "--json"]);
    diff(&rig, "v1").expect(0);

    // Route, group and sum: a badge is handed to a visit, and the reading that waited for it comes; another one goes.
    rig.legacy
        .run("update guide_visits set badge = 'b2' where visit = 'v2'; delete from guide_readings where reading = 2")
        .await;
    // Context: a room is renamed. Assembly: the answer goes on, and is changed on its way.
    rig.legacy
        .run(
            "update rooms set title = 'Stones' where room = 'east'; \
             insert into guide_lines values (3, 'v1', 'say', 1, 1, '{\"say\": \"gem.\"}', '2025-01-01T10:01:02Z'), \
               (4, 'v1', 'said', 1, 0, '{\"say\": \"A quartz.\"}', '2025-01-01T10:01:03Z'), \
               (5, 'v1', 'end', 2, null, '{\"how\": \"done\"}', '2025-01-01T10:01:04Z'), \
               (6, 'v1', 'cough', 3, null, null, '2025-01-01T10:01:05Z')",
        )
        .await;
    let followed = [
        "sensor v1 light 7 7 7",
        "sensor v1 noise 5 5 5",
        "sensor v2 noise 9 9 9",
        "turn v1 0 question ",
        "turn v1 1 answer A gem.",
        "turn v1 2 answer A quartz.",
        "visit v1 Stones done 2",
        "visit v2 Birds closed 1",
    ];
    becomes(&client, &mut run, &followed, 1).await;
    assert_eq!(diff(&rig, "v1").expect(2).json()["quarantined"]["unknown_kind"], 1, "nobody maps a cough");
    diff(&rig, "v2").expect(0);
    let turns = with(&rig, &["query", "fifth", "turns", "v1", "--json"]).expect(0).json();
    let last = &turns["rows"][2]["row"];
    assert_eq!(
        (&last["payload.message.content"], &last["said_at"]),
        (&"A quartz.".into(), &"2025-01-01T10:01:03+00:00".into())
    );

    // Damage is found, and mended.
    let mut damaged =
        items(&client, "sensors").await.into_iter().find(|item| text(item, "visit") == "v2").expect("an item");
    damaged.insert("highest".into(), AttributeValue::N("99".into()));
    client.put_item().table_name("sensors").set_item(Some(damaged)).send().await.expect("it may");
    diff(&rig, "v2").expect(1);
    with(&rig, &["quarantine", "retry", "fifth", "v2"]).expect(0);
    becomes(&client, &mut run, &followed, 1).await;
    diff(&rig, "v2").expect(0);
    assert_eq!(run.terminate().code, 0);
    let status = with(&rig, &["status", "fifth", "--json"]).json();
    assert_eq!(status["balanced"], true, "{status}");
    assert_eq!(status["conservation"]["rows"]["guide_lines"]["quarantined"]["unknown_kind"], 1, "{status}");
    with(&rig, &["down", "fifth", "--yes"]).expect(0);
}

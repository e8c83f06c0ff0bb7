//! The state folder is gone: what it made is found by name, told, removed, or taken over.

use sqlx::Connection as _;

use crate::support::rig::{Rig, bare, finish};

/// Six calls with a request each.
const CALLS: &str = "insert into conversation_calls (call_id, status) select 'c' || i, 'success' from generate_series(1, 6) i; \
    insert into conversation_events (call_id, event_type, hook, sequence, payload) \
      select 'c' || i, 'request_started', 'h', i, '{\"original_messages\": [{\"role\": \"user\", \"content\": \"hello\"}]}' \
      from generate_series(1, 6) i";

const SLOTS: &str = "select slot_name::text from pg_replication_slots where database = current_database()";

/// A migration that ran, and whose state folder was lost then.
async fn lost() -> Rig {
    let mut rig = Rig::up().await;
    rig.legacy.run(CALLS).await;
    rig.catch_up();
    std::fs::remove_dir_all(rig.state()).expect("it is there");
    rig
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_folder_adopts_what_the_lost_one_wrote_and_nothing_stays_behind() {
    let mut rig = lost().await;
    let earlier = rig.legacy.texts(SLOTS).await;
    rig.legacy
        .run(
            "update conversation_calls set provider = 'changed' where call_id = 'c1'; \
             insert into conversation_calls (call_id, status) values ('new', 'success'); \
             delete from conversation_events where call_id in ('c2', 'c3'); \
             delete from conversation_calls where call_id = 'c2'",
        )
        .await;
    for refused in [&["up", "luthien"][..], &["run", "luthien", "--until", "caught-up"]] {
        let refused = rig.rehome(refused).expect(3);
        assert!(refused.err.contains("6 unit(s)") && refused.err.contains("up MIGRATION --adopt"), "{refused:?}");
        assert!(!rig.state().exists(), "a refusal makes no folder, which would look like the lost one");
    }
    let adopted = rig.rehome(&["up", "luthien", "--adopt", "--json"]).expect(0).json();
    assert_eq!(adopted["adopted"]["units"], 6, "{adopted}");
    assert_eq!(adopted["adopted"]["slots"], serde_json::json!(earlier));
    rig.catch_up();
    let calls = "select call_id || coalesce(provider, '') from conversation_calls_v2 order by call_id";
    assert_eq!(rig.target.texts(calls).await, ["c1changed", "c3", "c4", "c5", "c6", "new"]);
    rig.compare().await.assert_equal();
    assert_eq!(rig.status()["balanced"], true);
    for unit in ["c1", "c3", "new"] {
        assert_eq!(rig.diff(unit), (0, "MATCH".to_owned()), "{unit}");
    }
    assert!(rig.rehome(&["up", "luthien", "--adopt", "--json"]).expect(0).json()["adopted"].is_null(), "only once");
    rig.legacy.run("update conversation_calls set provider = 'later'").await;
    rig.catch_up();
    rig.compare().await.assert_equal();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_only_elsewhere_is_neither_adopted_nor_torn_down() {
    let mut rig = Rig::up().await;
    rig.legacy.run(CALLS).await;
    let mut run = rig.start(&[]);
    rig.settled(&mut run).await;
    for refused in [&["up", "luthien", "--adopt"][..], &["down", "luthien", "--yes"]] {
        let mut command = bare();
        command.args(refused).arg("--state").arg(rig.folder.path().join("another"));
        command.args(["--source", &rig.legacy.url, "--target", &rig.target.url]);
        let refused = finish(command).expect(3);
        assert!(refused.err.contains("is active") && refused.err.contains("--state"), "{refused:?}");
    }
    rig.legacy.run("update conversation_calls set provider = 'followed'").await;
    rig.settled(&mut run).await;
    run.terminate().expect(0);
    rig.compare().await.assert_equal();
}

#[tokio::test(flavor = "multi_thread")]
async fn down_needs_no_state_folder() {
    let mut rig = lost().await;
    let told = rig.rehome(&["down", "luthien", "--yes", "--json"]).expect(0).json();
    let removed = told["removed"].to_string();
    for word in
        ["replication slot rehome_luthien_e1_", "publication rehome_luthien", "6 records of parts", "schema rehome"]
    {
        assert!(removed.contains(word), "{word}: {told}");
    }
    assert!(told["left"].to_string().contains("conversation_calls_v2"), "{told}");
    assert!(!rig.state().exists());
    assert_eq!(rig.legacy.texts(SLOTS).await.len(), 0);
    assert_eq!(rig.legacy.text("select count(*)::text from pg_publication").await, "0");
    assert_eq!(rig.target.text("select count(*)::text from pg_namespace where nspname = 'rehome'").await, "0");
    // A second time there is nothing to remove, which is no failure.
    assert!(rig.rehome(&["down", "luthien", "--yes"]).expect(0).out.contains("left target table"));
}

#[tokio::test(flavor = "multi_thread")]
async fn down_waits_for_the_first_records_of_another_migration_and_leaves_them() {
    let mut rig = Rig::up().await;
    rig.legacy.run(CALLS).await;
    rig.catch_up();
    let mut other = sqlx::PgConnection::connect(&rig.target.url).await.expect("a connection");
    let first = "begin; insert into rehome.units values ('other', 'u', '', '\\x01', '\\x')";
    sqlx::raw_sql(first).execute(&mut other).await.expect("a record that nobody sees yet");
    let down = std::thread::spawn({
        let command = rig.command(&["down", "luthien", "--yes"]);
        move || finish(command)
    });
    let waits = "select count(*)::text from pg_locks where not granted and relation = 'rehome.units'::regclass";
    while rig.target.text(waits).await == "0" && !down.is_finished() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    sqlx::raw_sql("commit").execute(&mut other).await.expect("committed");
    let down = down.join().expect("it ended").expect(0);
    assert!(down.out.contains("6 records of parts") && !down.out.contains("schema rehome"), "{down:?}");
    assert_eq!(rig.target.texts("select migration from rehome.units").await, ["other"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_table_without_the_key_of_its_definition_is_refused() {
    let mut rig = Rig::new().await;
    let definition = include_str!("../../schemas/luthien/target.sql");
    rig.target.run(definition.to_owned()).await;
    let key = "alter table policy_events drop constraint policy_events_pkey";
    for index in [
        key.to_owned(),
        "alter table policy_events add primary key (id, call_id)".to_owned(),
        format!("{key}; alter table policy_events add primary key (id) deferrable"),
        format!("{key}; create unique index on policy_events (id) where call_id > ''"),
    ] {
        rig.target.run(index).await;
        let refused = rig.rehome(&["up", "luthien"]).expect(3);
        assert!(
            refused.err.contains("policy_events") && refused.err.contains("no unique index on just (id)"),
            "{refused:?}"
        );
    }
    rig.target.run("create unique index on policy_events (id) include (call_id)").await;
    rig.rehome(&["up", "luthien"]).expect(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_left_over_is_listed_with_the_command_that_removes_it() {
    let mut rig = lost().await;
    let slot = rig.legacy.texts(SLOTS).await.remove(0);
    rig.legacy.run("create publication rehome_gone_publication; create publication others").await;
    let listed = |rig: &Rig| {
        let report = rig.rehome(&["check", "luthien", "--json"]).expect(0).json();
        let found = report["source"].as_array().expect("findings").clone();
        let text = |found: &serde_json::Value, field: &str| found[field].as_str().expect("text").to_owned();
        // Other tests have slots on this server, in databases of their own.
        let place = |found: &serde_json::Value| text(found, "place");
        found
            .iter()
            .filter(|found| place(found).contains(&slot) || place(found).contains("publication"))
            .map(|found| (place(found), text(found, "what"), text(found, "fix")))
            .collect::<Vec<_>>()
    };
    let found = listed(&rig);
    let places: Vec<&str> = found.iter().map(|(place, _, _)| place.as_str()).collect();
    let own = "publication rehome_luthien_publication";
    assert_eq!(places, [&*format!("replication slot {slot}"), "publication rehome_gone_publication", own]);
    assert!(found[0].1.contains("inactive and keeps ") && found[0].1.contains(" bytes of WAL"), "{found:?}");

    // Each command does what it says.
    let commands: Vec<String> =
        found.iter().map(|(_, _, fix)| fix.split(": ").nth(1).expect("a command").into()).collect();
    let commands = commands.iter().map(|command| command.split(", in database").next().expect("a command"));
    for command in commands {
        let mut session = sqlx::PgConnection::connect(&rig.legacy.url).await.expect("a session");
        crate::support::cluster::run(&mut session, command).await;
    }
    assert_eq!(listed(&rig), []);

    // A folder that is there answers for its own.
    rig.rehome(&["up", "luthien", "--adopt"]).expect(0);
    rig.catch_up();
    let own = rig.legacy.texts(SLOTS).await;
    assert_eq!(own.len(), 1);
    let report = rig.rehome(&["check", "luthien", "--json"]).expect(0).out;
    assert!(!report.contains(&own[0]) && !report.contains("rehome_luthien_publication"), "{report}");
}

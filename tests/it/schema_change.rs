//! Tables that change their shape or are emptied while they are migrated.

use crate::support::cluster::Database;
use crate::support::rig::Rig;
use crate::support::schemas::{edited, labelled};

fn call(name: &str, text: &str) -> String {
    format!(
        "insert into conversation_calls (call_id, status) values ('{name}', 'success'); \
         insert into conversation_events (call_id, event_type, sequence, payload) values ('{name}', 'request_started', 1, \
           jsonb_build_object('original_messages', jsonb_build_array(jsonb_build_object('role', 'user', 'content', {text}))));"
    )
}

/// Too large to stay in its row, and does not compress.
const LARGE: &str = "(select string_agg(md5(i::text || random()::text), '') from generate_series(1, 400) i)";

#[tokio::test(flavor = "multi_thread")]
async fn a_new_column_pauses_its_table_and_acceptance_loses_nothing() {
    let mut rig = Rig::up().await;
    rig.legacy.run(call("a", LARGE)).await;
    let mut run = rig.start(&[]);
    rig.settled(&mut run).await;
    rig.legacy.run("alter table conversation_events add column extra text").await;
    rig.legacy.run(call("b", LARGE)).await;
    // The large value changes while the table is paused ...
    rig.legacy
        .run(format!(
            "update conversation_events set payload = jsonb_build_object('original_messages', jsonb_build_array(\
             jsonb_build_object('role', 'user', 'content', {LARGE}))) where call_id = 'a'"
        ))
        .await;
    rig.legacy.run("update conversation_calls set provider = 'p'").await;
    let status = rig.settled(&mut run).await;
    assert!(status["paused"]["conversation_events"].as_str().is_some_and(|text| text.contains("extra")), "{status}");
    let held = &status["conservation"]["events"]["conversation_events"]["held"];
    assert_eq!(held, 3, "the changed shape, an insert, an update: {status}");
    assert_eq!(status["balanced"], true);
    let providers = rig.target.texts("select provider from conversation_calls_v2 order by call_id").await;
    assert_eq!(providers, ["p", "p"], "the other tables go on");
    assert_eq!(rig.rehome(&["run", "luthien"]).code, 3, "the folder is taken");

    // ... and is left out of a change that comes after a restart, before the acceptance.
    assert_eq!(run.terminate().code, 0);
    rig.legacy.run("update conversation_events set role = 'r' where call_id = 'a'").await;
    rig.rehome(&["run", "luthien", "--until", "caught-up"]).expect(2);
    rig.legacy.run("update conversation_events set sequence = 3 where call_id = 'a'").await;
    rig.rehome(&["accept-schema", "luthien", "conversation_events"]).expect(0);
    rig.catch_up();
    let status = rig.status();
    assert_eq!(status["conservation"]["events"]["conversation_events"]["held"], 0);
    assert_eq!(status["paused"], serde_json::json!({}));
    assert_eq!(status["balanced"], true);
    rig.compare().await.assert_equal();
}

/// A person changes the table, corrects the definition and starts again: the state is built anew by a definition that does not
/// know the rows of the log.
#[tokio::test(flavor = "multi_thread")]
async fn a_definition_that_is_corrected_takes_no_row_away_until_the_log_s_shape_is_accepted() {
    const HOOK: &str = "hook = \"text not null\"\n";
    const WHY: &str = "hook = \"names the code that wrote the row; the kind of row says what it is\"\n";
    let (hook_more, why_more) = (format!("{HOOK}extra = \"text\"\n"), format!("{WHY}extra = \"a test\"\n"));
    for (change, edits, again) in [
        ("drop column hook", [(HOOK, ""), (WHY, "")], false),
        ("add column extra text", [(HOOK, hook_more.as_str()), (WHY, why_more.as_str())], true),
    ] {
        let mut rig = Rig::up().await;
        rig.legacy.run(call("a", "'x'")).await;
        rig.catch_up();
        rig.legacy.run(format!("alter table conversation_events {change}")).await;
        let schemas = edited(rig.folder.path(), "schemas/luthien", &edits);
        std::fs::remove_dir_all(rig.folder.path().join("schemas/luthien/cases")).expect("its examples have the column");
        let with = |arguments: &[&str]| rig.rehome(&[arguments, &["--schemas", &schemas]].concat());
        let refused = with(&["run", "luthien", "--until", "caught-up"]).expect(3);
        assert!(
            refused.err.contains("events of conversation_events have another shape")
                && refused.err.contains("accept-schema"),
            "{refused:?}"
        );
        let accept: &[&str] = if again { &["--read-again"] } else { &[] };
        with(&[&["accept-schema", "luthien", "conversation_events"], accept].concat()).expect(0);
        let there = "select count(*)::text from conversation_events_v2";
        let written = "select string_agg(xmin::text, ',') from conversation_events_v2";
        let before = rig.target.text(written).await;
        assert_eq!(rig.target.text(there).await, "1", "{change}");
        rig.rehome(&["run", "luthien", "--until", "caught-up", "--schemas", &schemas]).expect(0);
        assert_eq!(rig.target.text(written).await, before, "{change}: neither taken away nor written again");
        assert_eq!(rig.rehome(&["diff", "luthien", "a", "--schemas", &schemas]).code, 0);
    }
}

/// The log holds rows of both shapes, and the state that is built anew takes those of the first.
#[tokio::test(flavor = "multi_thread")]
async fn a_definition_that_goes_back_takes_no_row_back_to_what_it_was() {
    const HOOK: &str = "hook = \"text not null\"\n";
    const WHY: &str = "hook = \"names the code that wrote the row; the kind of row says what it is\"\n";
    let mut rig = Rig::up().await;
    rig.legacy.run(call("a", "'x'")).await;
    rig.catch_up();
    rig.legacy.run("alter table conversation_events drop column hook").await;
    let schemas = edited(rig.folder.path(), "schemas/luthien", &[(HOOK, ""), (WHY, "")]);
    std::fs::remove_dir_all(rig.folder.path().join("schemas/luthien/cases")).expect("its examples have the column");
    rig.rehome(&["run", "luthien", "--until", "caught-up", "--schemas", &schemas]).expect(3);
    rig.rehome(&["accept-schema", "luthien", "conversation_events", "--schemas", &schemas]).expect(0);
    rig.legacy.run(call("b", "'y'")).await;
    rig.rehome(&["run", "luthien", "--until", "caught-up", "--schemas", &schemas]).expect(0);
    let written = "select string_agg(call_id || xmin, ',' order by call_id) from conversation_events_v2";
    let before = rig.target.text(written).await;
    assert!(before.starts_with('a') && before.contains(",b"), "{before}");

    // The column comes back, and the first definition with it; nothing of that is in the log yet.
    rig.legacy.run("alter table conversation_events add column hook text not null default 'h'").await;
    for _ in 0..2 {
        let refused = rig.rehome(&["run", "luthien", "--until", "caught-up"]).expect(3);
        assert!(refused.err.contains("events of conversation_events have another shape"), "{refused:?}");
        assert_eq!(rig.target.text(written).await, before);
    }
    rig.rehome(&["accept-schema", "luthien", "conversation_events", "--read-again"]).expect(0);
    rig.catch_up();
    assert_eq!(rig.target.text(written).await, before, "read again, and what it was");
    rig.compare().await.assert_equal();
}

#[tokio::test(flavor = "multi_thread")]
async fn acceptance_beside_a_run_releases_what_was_held() {
    let mut rig = Rig::up().await;
    rig.legacy.run(call("a", "'x'")).await;
    let mut run = rig.start(&[]);
    rig.settled(&mut run).await;
    rig.legacy.run("alter table conversation_events add column extra text; delete from conversation_events").await;
    rig.legacy.run("truncate conversation_events").await;
    rig.legacy.run(call("b", "'y'")).await;
    rig.settled(&mut run).await;
    rig.rehome(&["accept-schema", "luthien", "conversation_events", "--json"]).expect(0).json();
    let status = rig.settled(&mut run).await;
    assert_eq!(status["balanced"], true);
    assert_eq!(status["paused"], serde_json::json!({}));
    rig.compare().await.assert_equal();
    rig.rehome(&["accept-schema", "luthien", "conversation_events"]).expect(3);
    rig.rehome(&["accept-schema", "luthien", "nothing"]).expect(3);
    assert_eq!(run.terminate().code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_or_retyped_column_is_not_acceptable_and_says_which() {
    for (change, named) in [
        ("alter table conversation_events drop column role", "role"),
        ("alter table conversation_events alter column chunk_index type bigint", "chunk_index"),
    ] {
        let mut rig = Rig::up().await;
        rig.legacy.run(call("a", "'x'")).await;
        let mut run = rig.start(&[]);
        rig.settled(&mut run).await;
        rig.legacy.run(change).await;
        rig.legacy.run("delete from conversation_events").await;
        rig.legacy.run("update conversation_calls set provider = 'p'").await;
        let status = rig.settled(&mut run).await;
        assert_eq!(status["balanced"], true, "{status}");
        let refused = rig.rehome(&["accept-schema", "luthien", "conversation_events"]).expect(3);
        assert!(refused.err.contains(named) && refused.err.contains("legacy.toml"), "{refused:?}");
        assert_eq!(rig.target.texts("select provider from conversation_calls_v2").await, ["p"]);
        assert_eq!(run.terminate().code, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shape_in_between_that_cannot_be_taken_is_given_up_for_a_new_reading() {
    // Shapes are found by their digests, and the name decides which of two comes first.
    for name in ["part", "speaker", "who"] {
        given_up_for_a_new_reading(name).await;
    }
}

async fn given_up_for_a_new_reading(name: &str) {
    let mut rig = Rig::up().await;
    rig.legacy.run(call("a", "'x'")).await;
    rig.legacy.run(call("b", "'y'")).await;
    let mut run = rig.start(&[]);
    rig.settled(&mut run).await;
    rig.legacy.run(format!("alter table conversation_events rename column role to {name}")).await;
    rig.legacy.run("delete from conversation_events where call_id = 'a'").await;
    rig.legacy.run(format!("alter table conversation_events rename column {name} to role")).await;
    rig.legacy.run(call("c", "'z'")).await;
    let status = rig.settled(&mut run).await;
    assert!(status["conservation"]["events"]["conversation_events"]["held"].as_u64() > Some(0), "{status}");
    rig.rehome(&["accept-schema", "luthien", "conversation_events"]).expect(3);
    let beside = rig.rehome(&["accept-schema", "luthien", "conversation_events", "--read-again"]).expect(3);
    assert!(beside.err.contains("stop it with `rehome stop`"), "{beside:?}");
    assert_eq!(run.terminate().code, 0);
    rig.rehome(&["accept-schema", "luthien", "conversation_events", "--read-again"]).expect(0);
    rig.catch_up();
    let status = rig.status();
    let events = &status["conservation"]["events"]["conversation_events"];
    assert_eq!((&events["held"], &status["balanced"]), (&0.into(), &true.into()), "{status}");
    assert!(events["dropped"]["read_again"].as_u64() > Some(0), "{status}");
    rig.compare().await.assert_equal();
    // A shape that can be taken is not judged by one that was given up.
    rig.legacy.run("alter table conversation_events add column extra text").await;
    rig.legacy.run(call("d", "'z'")).await;
    rig.rehome(&["run", "luthien", "--until", "caught-up"]).expect(2);
    rig.rehome(&["accept-schema", "luthien", "conversation_events"]).expect(0);
    rig.catch_up();
    rig.compare().await.assert_equal();
}

/// Its insert was held and given up, and it is gone when its table is read again: no state but one that is built anew knows it.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_only_a_state_built_anew_knows_is_swept_too() {
    let mut rig = Rig::up().await;
    rig.legacy.run(call("a", "'x'")).await;
    let mut run = rig.start(&[]);
    rig.settled(&mut run).await;
    rig.legacy.run("alter table conversation_events add column extra text").await;
    rig.legacy.run(call("b", "'y'")).await;
    rig.settled(&mut run).await;
    assert_eq!(run.terminate().code, 0);
    rig.rehome(&["accept-schema", "luthien", "conversation_events", "--read-again"]).expect(0);
    rig.legacy.run("delete from conversation_events where call_id = 'b'").await;
    rig.catch_up();
    rig.compare().await.assert_equal();
    std::fs::remove_dir_all(rig.state().join("state")).expect("the state was there");
    rig.catch_up();
    rig.compare().await.assert_equal();
    assert_eq!(rig.status()["balanced"], true);
}

/// What people call a table depends on the other tables of the definition; what the log says of it does not.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_was_swept_does_not_come_back_when_its_table_is_called_otherwise() {
    const AUDITED: &str = "[table.audited]\nname = \"things\"\nschema = \"audit\"\nkey = [\"id\"]\nrole = \"lookup\"\n\
        columns = { id = \"int8 not null\", code = \"text not null\" }\ndrop = { id = \"a test\", code = \"a test\" }\n";
    let mut rig = Rig::of("labelled", Database::new().await, Database::new().await);
    let things = "things (id bigint primary key, code text not null)";
    rig.legacy.run(format!("create schema audit; create table {things}; create table audit.{things}")).await;
    rig.legacy.run("insert into things values (1, 'a'), (2, 'b')").await;
    let schemas = labelled(rig.folder.path(), AUDITED, "", "\".code\"");
    let with = |rig: &Rig, arguments: &[&str]| rig.rehome(&[arguments, &["--schemas", &schemas]].concat());
    with(&rig, &["up", "labelled"]).expect(0);
    with(&rig, &["run", "labelled", "--until", "caught-up"]).expect(0);
    rig.legacy.run("alter table things add column extra text; insert into things values (3, 'c', 'x')").await;
    with(&rig, &["run", "labelled", "--until", "caught-up"]).expect(2);
    with(&rig, &["accept-schema", "labelled", "public.things", "--read-again"]).expect(0);
    rig.legacy.run("delete from things where id = 3").await;
    with(&rig, &["run", "labelled", "--until", "caught-up"]).expect(0);
    let labels = "select label from labels order by id";
    assert_eq!(rig.target.texts(labels).await, ["a", "b"]);
    // The state is built anew from the log.
    labelled(rig.folder.path(), "", "", "\".code\"");
    with(&rig, &["run", "labelled", "--until", "caught-up"]).expect(0);
    assert_eq!(rig.target.texts(labels).await, ["a", "b"]);
    assert_eq!(with(&rig, &["status", "labelled", "--json"]).json()["balanced"], true);
}

/// The units of the held rows are not known at all, while the target holds what an earlier definition made of them.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_target_has_of_units_whose_rows_are_all_held_is_not_called_wrong() {
    let mut rig = Rig::of("labelled", Database::new().await, Database::new().await);
    rig.legacy.run("create table things (id bigint primary key, code text not null)").await;
    rig.legacy.run("insert into things values (1, 'a'), (2, 'b')").await;
    let schemas = labelled(rig.folder.path(), "", "", "\".code\"");
    let with = |rig: &Rig, arguments: &[&str]| rig.rehome(&[arguments, &["--schemas", &schemas]].concat());
    with(&rig, &["up", "labelled"]).expect(0);
    with(&rig, &["run", "labelled", "--until", "caught-up"]).expect(0);
    rig.legacy
        .run("alter table things alter column code type varchar(20); update things set code = 'z' where id = 1")
        .await;
    let legacy = rig.folder.path().join("schemas/labelled/legacy.toml");
    let text = std::fs::read_to_string(&legacy).expect("the file");
    assert!(text.contains("code = \"text not null\""), "{text}");
    std::fs::write(&legacy, text.replace("code = \"text not null\"", "code = \"varchar not null\"")).expect("the file");
    with(&rig, &["run", "labelled", "--until", "caught-up"]).expect(3);
    let diff = with(&rig, &["diff", "labelled", "1"]);
    assert_eq!(diff.code, 2, "nothing is known of it yet: {diff:?}");
    let (code, summary, _) = crate::reconcile::try_reconcile(&rig, &["--schemas", &schemas]);
    assert_eq!(code, 2, "{summary}");
    with(&rig, &["accept-schema", "labelled", "things", "--read-again"]).expect(0);
    with(&rig, &["run", "labelled", "--until", "caught-up"]).expect(0);
    assert_eq!(rig.target.texts("select label from labels order by id").await, ["z", "b"]);
    assert_eq!(with(&rig, &["diff", "labelled", "1"]).code, 0);
}

/// What is held when an epoch is closed is swept when it is released.
#[tokio::test(flavor = "multi_thread")]
async fn a_held_row_that_went_while_nothing_was_captured_does_not_come_back() {
    for more in [&[][..], &["--read-again"]] {
        held_when_an_epoch_is_closed(more).await;
    }
}

async fn held_when_an_epoch_is_closed(more: &[&str]) {
    let mut rig = Rig::up().await;
    for name in ["a", "b", "d", "e"] {
        rig.legacy.run(call(name, "'x'")).await;
    }
    let mut run = rig.start(&[]);
    rig.settled(&mut run).await;
    rig.legacy.run("alter table conversation_events add column extra text").await;
    rig.legacy.run(call("c", "'y'")).await;
    rig.settled(&mut run).await;
    assert_eq!(run.terminate().code, 0);
    let slots =
        "select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = current_database()";
    rig.legacy.run(slots).await;
    rig.legacy.run("delete from conversation_events where call_id in ('b', 'c')").await;
    rig.legacy.run("delete from conversation_calls where call_id = 'b'").await;
    rig.rehome(&["run", "luthien", "--until", "caught-up"]).expect(2);
    rig.rehome(&["accept-schema", "luthien", "conversation_events"].iter().chain(more).copied().collect::<Vec<_>>())
        .expect(0);
    rig.catch_up();
    rig.compare().await.assert_equal();
    assert_eq!(rig.status()["balanced"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncate_removes_what_the_table_fed_and_nothing_else() {
    let mut rig = Rig::up().await;
    for name in ["a", "b", "c"] {
        rig.legacy.run(call(name, "'x'")).await;
    }
    let mut run = rig.start(&[]);
    rig.settled(&mut run).await;
    rig.legacy.run("truncate conversation_events").await;
    rig.legacy.run(call("d", "'y'")).await;
    let status = rig.settled(&mut run).await;
    assert_eq!(status["balanced"], true);
    assert_eq!(rig.target.texts("select call_id from conversation_calls_v2 order by 1").await, ["a", "b", "c", "d"]);
    assert_eq!(rig.target.texts("select call_id from conversation_events_v2").await, ["d"]);
    rig.compare().await.assert_equal();
    assert_eq!(run.terminate().code, 0);
}

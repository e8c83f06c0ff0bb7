//! Units that cannot be written, or not yet: someone else's rows, contested keys, poison, and how they come back.

use crate::support::rig::Rig;

/// A call of one request, whose judge decision has an id.
fn call(name: &str) -> String {
    format!(
        "insert into conversation_calls (call_id, status) values ('{name}', 'success'); \
         insert into conversation_events (call_id, event_type, sequence, payload) values ('{name}', 'request_started', 1, \
           '{{\"original_messages\": [{{\"role\": \"user\", \"content\": \"hello\"}}]}}');"
    )
}

fn judge(id: &str, call: &str) -> String {
    format!("insert into conversation_judge_decisions (id, call_id, explanation) values ('{id}', '{call}', 'so');")
}

const ID: &str = "00000000-0000-4000-8000-00000000000a";

/// The id of the one request of a call, as the oracle derives it.
async fn request_id(rig: &mut Rig, call: &str) -> String {
    rig.target
        .text(&format!("select id::text from conversation_events_v2 where call_id = '{call}' and sequence = 0"))
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_of_someone_else_leaves_its_unit_whole_and_retry_takes_it_when_the_row_has_gone() {
    let mut rig = Rig::up().await;
    for name in ["a", "b"] {
        rig.legacy.run(call(name)).await;
    }
    rig.target.run("insert into conversation_calls_v2 values ('a', null, null, 'theirs', '2020-01-01Z', null)").await;
    rig.rehome(&["run", "luthien", "--until", "caught-up"]).expect(2);
    assert_eq!(rig.parked(), [("a".to_owned(), "foreign".to_owned())]);
    let there = rig.target.texts("select call_id || status from conversation_calls_v2 order by 1").await;
    assert_eq!(there, ["atheirs", "bsuccess"], "theirs is untouched, and b does not wait for a");
    assert_eq!(rig.target.text("select count(*)::text from conversation_events_v2 where call_id = 'a'").await, "0");
    assert_eq!(rig.diff("a").0, 1, "a parked unit is a proven difference");

    rig.target.run("delete from conversation_calls_v2 where call_id = 'a'").await;
    rig.rehome(&["quarantine", "retry", "luthien", "a"]).expect(0);
    rig.catch_up();
    rig.compare().await.assert_equal();
    assert!(rig.parked().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_rows_of_someone_else_are_told_apart_from_different_ones() {
    let mut rig = Rig::up().await;
    rig.legacy.run(call("a")).await;
    rig.catch_up();
    rig.target.run("drop schema rehome cascade").await;
    rig.rehome(&["up", "luthien"]).expect(0);
    rig.rehome(&["quarantine", "retry", "luthien", "a"]).expect(0);
    rig.rehome(&["run", "luthien", "--until", "caught-up"]).expect(2);
    assert_eq!(rig.parked(), [("a".to_owned(), "matched_foreign".to_owned())]);
    rig.compare().await.assert_equal();
    assert_eq!(rig.diff("a"), (2, "INCOMPLETE".to_owned()), "nothing differs, and it is not ours");

    // By a rule, two writers of a call may stamp it with different times, a minute apart at most; one writer does not.
    rig.legacy.run(call("b")).await;
    rig.rehome(&["run", "luthien", "--until", "caught-up"]).expect(2);
    assert_eq!(rig.diff("b"), (0, "MATCH".to_owned()));
    rig.target.run("update conversation_calls_v2 set created_at = created_at + '10 s'").await;
    assert_eq!(rig.diff("a"), (2, "INCOMPLETE".to_owned()), "a rule for rows of someone else lets it pass");
    assert_eq!(rig.diff("b"), (1, "MISMATCH".to_owned()), "it does not hold for ours");
    rig.target.run("update conversation_calls_v2 set created_at = created_at + '10 min'").await;
    assert_eq!(rig.diff("a"), (1, "MISMATCH".to_owned()), "that is too far apart");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_under_another_id_in_our_place_parks_that_unit_alone() {
    let mut rig = Rig::up().await;
    for name in ["a", "b"] {
        rig.legacy.run(call(name)).await;
    }
    rig.catch_up();
    rig.target
        .run(format!("insert into conversation_events_v2 values ('{ID}', 'a', 'request', 1, '{{}}', now())"))
        .await;
    for name in ["a", "b"] {
        rig.legacy
            .run(format!(
                "insert into conversation_events (call_id, event_type, sequence, payload) values ('{name}', \
                 'request_started', 2, '{{\"original_messages\": []}}'); \
                 update conversation_calls set provider = 'p' where call_id = '{name}'"
            ))
            .await;
    }
    rig.rehome(&["run", "luthien", "--until", "caught-up"]).expect(2);
    assert_eq!(rig.parked(), [("a".to_owned(), "unique".to_owned())]);
    let there = rig.target.texts("select call_id || sequence from conversation_events_v2 order by 1").await;
    assert_eq!(there, ["a0", "a1", "b0", "b1"]);
    assert_eq!(rig.status()["balanced"], true);
    rig.target.run(format!("delete from conversation_events_v2 where id = '{ID}'")).await;
    rig.rehome(&["quarantine", "retry", "luthien"]).expect(0);
    rig.catch_up();
    rig.compare().await.assert_equal();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_that_is_refused_still_writes_everything_again_when_nothing_is_in_the_way_any_more() {
    let mut rig = Rig::up().await;
    rig.legacy.run(call("a")).await;
    rig.catch_up();
    // Someone takes a row of ours away, and puts one under another id in its place.
    rig.target.run("delete from conversation_events_v2").await;
    rig.target
        .run(format!("insert into conversation_events_v2 values ('{ID}', 'a', 'request', 0, '{{}}', now())"))
        .await;
    rig.rehome(&["quarantine", "retry", "luthien", "a"]).expect(0);
    rig.rehome(&["run", "luthien", "--until", "caught-up"]).expect(2);
    assert_eq!(rig.parked().len(), 1);
    rig.target.run(format!("delete from conversation_events_v2 where id = '{ID}'")).await;
    rig.legacy.run("update conversation_calls set provider = 'p' where call_id = 'a'").await;
    rig.catch_up();
    rig.compare().await.assert_equal();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_that_would_reach_rows_of_someone_else_is_not_done() {
    let mut rig = Rig::up().await;
    for name in ["a", "b"] {
        rig.legacy.run(call(name)).await;
    }
    rig.catch_up();
    let event = request_id(&mut rig, "a").await;
    let theirs = format!(
        "insert into policy_events values ('{ID}', 'a', 'theirs', null, 'theirs', '{event}', null, null, now())"
    );
    rig.target.run(theirs).await;
    rig.legacy.run("delete from conversation_events; delete from conversation_calls").await;
    rig.rehome(&["run", "luthien", "--until", "caught-up"]).expect(2);
    assert_eq!(rig.parked(), [("a".to_owned(), "foreign_children".to_owned())]);
    assert_eq!(rig.target.texts("select call_id from conversation_calls_v2").await, ["a"], "b has gone, a stays");
    assert_eq!(rig.target.text("select original_event_id::text from policy_events").await, event);

    rig.target.run("delete from policy_events").await;
    rig.rehome(&["quarantine", "retry", "luthien"]).expect(0);
    rig.catch_up();
    assert!(rig.target.texts("select call_id from conversation_calls_v2").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_units_that_claim_one_key_are_both_parked_in_either_order_and_both_come_back() {
    for (first, second) in [("a", "b"), ("b", "a")] {
        let mut rig = Rig::up().await;
        rig.legacy.run(call(first)).await;
        rig.catch_up();
        // A judge decision's id is its target key; a derived id of the other call's is taken for it.
        rig.legacy.run(tool_row(first)).await;
        rig.catch_up();
        let taken = rig.target.text("select id::text from policy_events").await;
        rig.legacy.run(format!("{}{}", call(second), judge(&taken, second))).await;
        rig.rehome(&["run", "luthien", "--until", "caught-up"]).expect(2);
        let parked = ["a", "b"].map(|unit| (unit.to_owned(), "key_collision".to_owned()));
        assert_eq!(rig.parked(), parked, "{first} was first");
        assert!(rig.target.texts("select call_id from conversation_calls_v2").await.is_empty(), "neither wins");
        let compared = rig.compare().await;
        assert_eq!(compared.parked(), parked, "the oracle says so too");

        rig.legacy.run("delete from conversation_judge_decisions").await;
        rig.catch_up();
        assert!(rig.parked().is_empty());
        let compared = rig.compare().await;
        compared.assert_equal();
        assert_eq!(rig.status()["balanced"], true);
    }
}

fn tool_row(call: &str) -> String {
    format!(
        "insert into conversation_tool_calls (call_id, tool_call_id, name, response) values ('{call}', 't', 'f', '{{}}');"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_moves_between_two_units_arrives_in_either_order_of_their_names() {
    let mut rig = Rig::up().await;
    for name in ["a", "b", "c"] {
        rig.legacy.run(format!("{}{}", call(name), judge(&format!("{}{name}", &ID[..35]), name))).await;
    }
    rig.catch_up();
    // a to b, and at once back from c to a: a key that one unit lets go of is another's in the same batch.
    rig.legacy
        .run(
            "update conversation_judge_decisions \
             set call_id = case call_id when 'a' then 'b' when 'b' then 'c' else 'a' end",
        )
        .await;
    rig.catch_up();
    assert!(rig.parked().is_empty(), "{:?}", rig.parked());
    rig.compare().await.assert_equal();
}

#[tokio::test(flavor = "multi_thread")]
async fn text_that_cannot_be_stored_parks_its_unit_and_an_unknown_kind_of_row_alone() {
    let mut rig = Rig::up().await;
    for name in ["good", "nul", "kind"] {
        rig.legacy.run(call(name)).await;
    }
    rig.legacy
        .run(
            "insert into conversation_events (call_id, event_type, sequence, chunk_index, raw_chunk) values ('nul', \
             'original_chunk', 2, 0, to_jsonb('{\"choices\": [{\"index\": 0, \"delta\": {\"content\": \"x\\u0000y\"}}]}'::text)); \
             insert into conversation_events (call_id, event_type, sequence) values ('kind', 'party', 3)",
        )
        .await;
    rig.rehome(&["run", "luthien", "--until", "caught-up"]).expect(2);
    assert_eq!(rig.parked(), [("nul".to_owned(), "not_storable".to_owned())]);
    let listed = rig.rehome(&["quarantine", "list", "luthien", "--json"]).expect(2).json();
    let rows: Vec<_> = listed
        .as_array()
        .expect("a list")
        .iter()
        .flat_map(|unit| unit["rows"].as_array().into_iter().flatten())
        .collect();
    assert!(rows.iter().any(|row| row["reason"] == "unknown_event_type"), "{listed}");
    let kind = rig.rehome(&["diff", "luthien", "kind", "--json"]).expect(2).json();
    assert_eq!(
        (&kind["verdict"], &kind["quarantined"]["unknown_event_type"]),
        (&"INCOMPLETE".into(), &1.into()),
        "{kind}"
    );
    assert!(kind["reason"].as_str().is_some_and(|reason| reason.contains("quarantine list")), "{kind}");
    let compared = rig.compare().await;
    compared.assert_equal();
    assert_eq!(rig.parked(), compared.parked());

    let shown = rig.rehome(&["quarantine", "show", "luthien", "nul"]).expect(2);
    assert!(shown.out.contains("not_storable"), "{shown:?}");
    rig.rehome(&["quarantine", "show", "luthien", "good"]).expect(3);
    rig.rehome(&["quarantine", "skip", "luthien", "nobody", "--reason", "r"]).expect(3);
    rig.rehome(&["quarantine", "retry", "luthien", "nobody"]).expect(3);

    // The same beside a run: skipped by hand, taken back in, mended at the source.
    let mut run = rig.start(&[]);
    rig.settled(&mut run).await;
    // Skipping what is not parked would remove rows that are well.
    rig.rehome(&["quarantine", "skip", "luthien", "good", "--reason", "a slip"]).expect(3);
    rig.rehome(&["quarantine", "skip", "luthien", "nul", "--reason", "for a test"]).expect(0);
    rig.settled(&mut run).await;
    assert!(rig.parked().contains(&("nul".to_owned(), "skipped".to_owned())), "{:?}", rig.parked());
    // Nor is a unit parked of which a single row is in quarantine.
    let refused = rig.rehome(&["quarantine", "skip", "luthien", "kind", "--reason", "a slip"]).expect(3);
    assert!(refused.err.contains("not parked") && refused.err.contains("quarantine list"), "{refused:?}");
    // Nobody named it, so it stays out.
    let all = rig.rehome(&["quarantine", "retry", "luthien", "--json"]).expect(0).json();
    assert_eq!((&all["units"], &all["skipped"]), (&1.into(), &1.into()), "{all}");
    rig.settled(&mut run).await;
    assert!(rig.parked().contains(&("nul".to_owned(), "skipped".to_owned())), "{:?}", rig.parked());
    rig.rehome(&["quarantine", "retry", "luthien", "nul"]).expect(0);
    // A retry writes rows again that the target's record says are there.
    rig.target.run("delete from conversation_calls_v2 where call_id = 'good'").await;
    assert_eq!(rig.diff("good").0, 1);
    rig.rehome(&["quarantine", "retry", "luthien", "good"]).expect(0);
    rig.settled(&mut run).await;
    assert_eq!(rig.diff("good"), (0, "MATCH".to_owned()));
    rig.legacy.run("delete from conversation_events where event_type in ('party', 'original_chunk')").await;
    let status = rig.settled(&mut run).await;
    assert_eq!(status["balanced"], true);
    rig.rehome(&["quarantine", "list", "luthien"]).expect(0);
    rig.compare().await.assert_equal();
    assert_eq!(run.terminate().code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_poison_unit_that_changes_often_does_not_halt_the_others_but_many_do() {
    let mut rig = Rig::up().await;
    rig.legacy.run(call("large")).await;
    rig.legacy.run("update conversation_calls set trace_id = repeat('x', 3000)").await;
    rig.legacy.run(call("small")).await;
    let mut run = rig.start(&["--unit-bytes-max", "2000"]);
    rig.settled(&mut run).await;
    assert_eq!(rig.parked(), [("large".to_owned(), "unit_too_large".to_owned())]);
    for change in 0..45 {
        rig.legacy.run(format!("update conversation_calls set provider = '{change}' where call_id = 'large'")).await;
        rig.settled(&mut run).await;
    }
    assert_eq!(run.terminate().code, 0);

    for unit in 0..60 {
        rig.legacy.run(call(&format!("u{unit}"))).await;
    }
    rig.legacy.run("update conversation_calls set trace_id = repeat('x', 3000)").await;
    let halted = rig.rehome(&["run", "luthien", "--until", "caught-up", "--unit-bytes-max", "2000"]).expect(3);
    assert!(halted.err.contains("unit_too_large") && halted.err.contains("quarantine list"), "{halted:?}");
    assert_eq!(rig.parked().len(), 62, "those that it speaks of are listed");
    let again = rig.rehome(&["run", "luthien", "--until", "caught-up", "--unit-bytes-max", "2000"]).expect(3);
    assert!(again.err.contains("unit_too_large"), "a restart does not go on: {again:?}");
    let status = rig.rehome(&["status", "luthien"]).expect(0);
    assert!(status.out.contains("HALTED: 61 of ") && status.out.contains("quarantine retry"), "{status:?}");
    rig.rehome(&["quarantine", "skip", "luthien", "u0", "--reason", "a test"]).expect(0);
    rig.rehome(&["run", "luthien", "--until", "caught-up", "--unit-bytes-max", "2000"]).expect(2);
    assert_eq!(rig.status()["halted"], serde_json::Value::Null, "a person did something about it");
    rig.rehome(&["quarantine", "retry", "luthien"]).expect(0);
    rig.rehome(&["quarantine", "retry", "luthien", "u0"]).expect(0);
    rig.catch_up();
    rig.compare().await.assert_equal();
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_units_of_any_length_are_taken_or_counted() {
    let mut rig = Rig::up().await;
    rig.legacy.run(call("good")).await;
    for length in [300, 16_384, 16_385, 100_000] {
        rig.legacy.run(format!("insert into conversation_calls (call_id) values (repeat('x', {length}))")).await;
        rig.legacy
            .run(format!("insert into conversation_judge_decisions (call_id) values (repeat('y', {length}))"))
            .await;
    }
    let mut run = rig.start(&[]);
    let status = rig.settled(&mut run).await;
    assert_eq!(status["balanced"], true);
    let rows = &status["conservation"]["rows"];
    assert_eq!(rows["conversation_calls"]["quarantined"]["no_unit"], 2, "{rows}");
    assert_eq!(rows["conversation_judge_decisions"]["quarantined"]["no_unit"], 2, "{rows}");
    rig.legacy.run("update conversation_calls set provider = 'p' where call_id like 'xxx%'").await;
    rig.legacy.run("delete from conversation_calls where call_id like 'xxx%'").await;
    rig.legacy.run("delete from conversation_judge_decisions where call_id like 'yyy%'").await;
    let status = rig.settled(&mut run).await;
    assert_eq!(status["balanced"], true);
    let long = "z".repeat(100_000);
    rig.rehome(&["quarantine", "retry", "luthien", &long]).expect(3);
    assert_eq!(rig.rehome(&["diff", "luthien", &long]).code, 3);
    rig.compare().await.assert_equal();
    assert_eq!(run.terminate().code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_too_long_for_an_index_of_the_target_parks_its_unit_and_diff_says_why_it_differs() {
    let mut rig = Rig::up().await;
    rig.target.run("create index on conversation_calls_v2 (provider)").await;
    for name in ["a", "long"] {
        rig.legacy.run(call(name)).await;
    }
    // Digits of digests, since the index would take a longer value that packs well.
    let long = "select string_agg(md5(i::text), '') from generate_series(1, 300) i";
    rig.legacy.run(format!("update conversation_calls set provider = ({long}) where call_id = 'long'")).await;
    let told = rig.rehome(&["run", "luthien", "--until", "caught-up"]).expect(2);
    let start: String = rig.legacy.text("select md5('1')").await;
    assert!(!told.err.contains(&start), "the value is not told");
    assert_eq!(rig.parked(), [("long".to_owned(), "too_long".to_owned())]);
    assert_eq!(rig.target.texts("select call_id from conversation_calls_v2").await, ["a"]);
    assert_eq!(rig.diff("long"), (1, "MISMATCH".to_owned()), "the mapping has rows for it, the target none");
    assert_eq!(rig.diff("a"), (0, "MATCH".to_owned()));

    rig.legacy.run("update conversation_calls set provider = 'short' where call_id = 'long'").await;
    rig.catch_up();
    assert_eq!(rig.diff("long"), (0, "MATCH".to_owned()));
    rig.compare().await.assert_equal();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_a_trigger_of_the_application_refuses_parks_its_unit_alone() {
    let mut rig = Rig::up().await;
    rig.target
        .run(
            "create function refuse() returns trigger language plpgsql as $$ begin if new.call_id = 'bad' then \
               raise exception 'not %', new.call_id; end if; return new; end $$; \
             create trigger refuse before insert or update on conversation_calls_v2 for each row execute function refuse()",
        )
        .await;
    for name in ["a", "bad", "c"] {
        rig.legacy.run(call(name)).await;
    }
    rig.rehome(&["run", "luthien", "--until", "caught-up"]).expect(2);
    assert_eq!(rig.parked(), [("bad".to_owned(), "constraint".to_owned())]);
    assert_eq!(rig.target.texts("select call_id from conversation_calls_v2 order by 1").await, ["a", "c"]);
    rig.target.run("drop trigger refuse on conversation_calls_v2").await;
    rig.rehome(&["quarantine", "retry", "luthien", "bad"]).expect(0);
    rig.catch_up();
    rig.compare().await.assert_equal();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_a_trigger_leaves_out_without_a_word_parks_its_unit_alone() {
    let mut rig = Rig::up().await;
    rig.target
        .run(
            "create function quiet() returns trigger language plpgsql as $$ begin if new.call_id = 'bad' then \
               return null; end if; return new; end $$; \
             create trigger quiet before insert or update on conversation_calls_v2 for each row execute function quiet()",
        )
        .await;
    // So many that they go by COPY.
    rig.legacy
        .run("insert into conversation_calls (call_id, status) select 'c' || i, 'success' from generate_series(1, 150) i")
        .await;
    rig.legacy.run(call("bad")).await;
    rig.rehome(&["run", "luthien", "--until", "caught-up"]).expect(2);
    assert_eq!(rig.parked(), [("bad".to_owned(), "constraint".to_owned())]);
    let count = "select count(*)::text from conversation_calls_v2";
    assert_eq!(rig.target.text(count).await, "150");
    // One that is there, and is to change.
    rig.target.run("alter table conversation_calls_v2 disable trigger quiet").await;
    rig.rehome(&["quarantine", "retry", "luthien", "bad"]).expect(0);
    rig.catch_up();
    rig.target.run("alter table conversation_calls_v2 enable trigger quiet").await;
    rig.legacy.run("update conversation_calls set provider = 'another' where call_id in ('bad', 'c1')").await;
    rig.rehome(&["run", "luthien", "--until", "caught-up"]).expect(2);
    assert_eq!(rig.parked(), [("bad".to_owned(), "constraint".to_owned())]);
    rig.target.run("drop trigger quiet on conversation_calls_v2").await;
    rig.rehome(&["quarantine", "retry", "luthien", "bad"]).expect(0);
    rig.catch_up();
    assert_eq!(rig.target.text(count).await, "151");
    rig.compare().await.assert_equal();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_a_trigger_keeps_from_going_is_not_forgotten() {
    let mut rig = Rig::up().await;
    for name in ["a", "kept", "c"] {
        rig.legacy.run(call(name)).await;
    }
    rig.catch_up();
    rig.target
        .run(
            "create function keep() returns trigger language plpgsql as $$ begin if old.call_id = 'kept' then \
               return null; end if; return old; end $$; \
             create trigger keep before delete on conversation_calls_v2 for each row execute function keep()",
        )
        .await;
    rig.legacy
        .run(
            "delete from conversation_events where call_id in ('a', 'kept'); \
             delete from conversation_calls where call_id in ('a', 'kept')",
        )
        .await;
    rig.rehome(&["run", "luthien", "--until", "caught-up"]).expect(2);
    assert_eq!(rig.parked(), [("kept".to_owned(), "constraint".to_owned())]);
    let there = "select call_id from conversation_calls_v2 order by 1";
    assert_eq!(rig.target.texts(there).await, ["c", "kept"]);
    rig.target.run("drop trigger keep on conversation_calls_v2").await;
    rig.rehome(&["quarantine", "retry", "luthien", "kept"]).expect(0);
    rig.catch_up();
    assert_eq!(rig.target.texts(there).await, ["c"]);
    rig.compare().await.assert_equal();
}

#[tokio::test(flavor = "multi_thread")]
async fn diff_of_a_unit_that_the_mapping_parks_proves_nothing() {
    let mut rig = Rig::up().await;
    rig.legacy
        .run(
            "insert into conversation_calls (call_id, status) values ('nul', 'success'); \
             insert into conversation_events (call_id, event_type, sequence, chunk_index, raw_chunk) values ('nul', \
               'original_chunk', 2, 0, to_jsonb('{\"x\": \"\\u0000\"}'::text))",
        )
        .await;
    rig.rehome(&["run", "luthien", "--until", "caught-up"]).expect(2);
    assert_eq!(rig.parked().len(), 1);
    assert_eq!(rig.diff("nul"), (2, "INCOMPLETE".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn being_called_back_does_not_take_a_skipped_unit_in_again() {
    let mut rig = Rig::up().await;
    rig.legacy.run(call("b") + &tool_row("b")).await;
    rig.catch_up();
    let taken = rig.target.text("select id::text from policy_events").await;
    rig.legacy.run(format!("{}{}", call("a"), judge(&taken, "a"))).await;
    rig.rehome(&["run", "luthien", "--until", "caught-up"]).expect(2);
    assert_eq!(rig.parked(), ["a", "b"].map(|unit| (unit.to_owned(), "key_collision".to_owned())));
    // In one batch a lets go of the key, and so calls b back, and b is found to be skipped.
    rig.rehome(&["quarantine", "skip", "luthien", "b", "--reason", "not wanted"]).expect(0);
    // One that nobody named takes in no unit, though what was asked of it before is not applied yet.
    rig.rehome(&["quarantine", "retry", "luthien"]).expect(0);
    rig.legacy.run("delete from conversation_judge_decisions").await;
    rig.rehome(&["run", "luthien", "--until", "caught-up"]).expect(2);
    let told = rig.rehome(&["log", "show", "luthien", "--limit", "1000"]).out;
    assert!(told.contains("take-back"), "b was called back: {told}");
    assert_eq!(rig.parked(), [("b".to_owned(), "skipped".to_owned())]);
    assert_eq!(rig.target.texts("select call_id from conversation_calls_v2").await, ["a"]);
    rig.rehome(&["quarantine", "retry", "luthien", "b"]).expect(0);
    rig.catch_up();
    rig.compare().await.assert_equal();
}

#[tokio::test(flavor = "multi_thread")]
async fn units_whose_rows_refer_to_later_ones_are_tried_until_these_are_there() {
    let mut rig = Rig::up().await;
    // The application lets calls refer to each other, and to providers of its own.
    rig.target
        .run(
            "create table providers (name text primary key); insert into providers values ('there'); \
             alter table conversation_calls_v2 add foreign key (model_name) references conversation_calls_v2 (call_id), \
             add foreign key (provider) references providers (name)",
        )
        .await;
    let call = |name: &str, model: &str| {
        format!(
            "insert into conversation_calls (call_id, status, model_name, provider) values ('{name}', 'success', {model}, 'there')"
        )
    };
    rig.legacy.run(call("a", "'e'")).await;
    rig.rehome(&["run", "luthien", "--until", "caught-up"]).expect(2);
    assert_eq!(rig.parked(), [("a".to_owned(), "foreign_key".to_owned())]);
    rig.legacy.run(call("e", "null")).await;
    rig.catch_up();
    assert_eq!(rig.target.texts("select call_id from conversation_calls_v2 order by 1").await, ["a", "e"]);
    // What is referred to comes from the application, later.
    rig.legacy.run("update conversation_calls set provider = 'to come' where call_id = 'e'").await;
    let mut run = rig.start(&[]);
    rig.settled(&mut run).await;
    assert_eq!(rig.parked(), [("e".to_owned(), "foreign_key".to_owned())]);
    rig.target.run("insert into providers values ('to come')").await;
    rig.until("it is tried again", &mut run, |status| status["conservation"]["target"]["parked"] == 0);
    assert_eq!(rig.target.text("select provider from conversation_calls_v2 where call_id = 'e'").await, "to come");
    assert_eq!(run.terminate().code, 0);
}

//! Every command alone and beside a run: exit codes, JSON, errors that say what to do, contents that stay hidden.

use crate::support::cluster::{cluster, on_socket};
use crate::support::rig::{Outcome, Rig, bare, finish};
use crate::support::schemas::edited;

/// Stands in rows, and nowhere else.
const MARKER: &str = "QuiteSecret";

async fn filled() -> Rig {
    let mut rig = Rig::up().await;
    rig.legacy
        .run(format!(
            "insert into conversation_calls (call_id, status, provider) values ('a', 'success', '{MARKER}'); \
             insert into conversation_events (call_id, event_type, sequence, payload) values ('a', 'request_started', 1, \
               '{{\"original_messages\": [{{\"role\": \"user\", \"content\": \"{MARKER}\"}}]}}'); \
             insert into conversation_events (call_id, event_type, sequence, payload) values ('a', 'request_completed', 2, \
               '{{\"status\": \"success\", \"final_response\": \"{MARKER}\"}}'); \
             insert into conversation_calls (call_id, status, provider) values ('nul', 'success', '{MARKER}'); \
             insert into conversation_events (call_id, event_type, sequence, chunk_index, raw_chunk) values ('nul', \
               'original_chunk', 2, 0, to_jsonb('{{\"{MARKER}\": 1, \"x\": \"\\u0000\"}}'::text))"
        ))
        .await;
    rig
}

/// Commands that only look.
const LOOKS: [&[&str]; 5] = [
    &["status", "luthien"],
    &["diff", "luthien", "a"],
    &["quarantine", "list", "luthien"],
    &["quarantine", "show", "luthien", "nul"],
    &["log", "show", "luthien", "--limit", "1000"],
];

fn assert_hidden(outcome: &Outcome) {
    for text in [&outcome.out, &outcome.err] {
        assert!(!text.contains(MARKER), "contents are shown: {outcome:?}");
    }
}

fn assert_json_lines(text: &str) {
    let values = serde_json::Deserializer::from_str(text).into_iter::<serde_json::Value>();
    let values: Result<Vec<_>, _> = values.collect();
    assert!(!values.unwrap_or_else(|error| panic!("{error}: {text}")).is_empty());
}

/// Every command that only looks answers, as JSON too, and shows no contents.
fn assert_looks(rig: &Rig, beside: bool) {
    assert_eq!(rig.status()["running"], beside);
    for look in LOOKS {
        let plain = rig.rehome(look);
        let json = rig.rehome(&[look, &["--json"]].concat());
        assert_ne!(plain.code, 3, "{look:?}: {plain:?}");
        assert_eq!(plain.code, json.code, "{look:?}");
        assert!(!plain.out.is_empty());
        assert_json_lines(&json.out);
        assert_hidden(&plain);
        assert_hidden(&json);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_ends_cleanly_by_signal_and_goes_on_after_a_kill() {
    let mut rig = filled().await;
    for signal in ["TERM", "INT", "KILL"] {
        let mut run = rig.start(&[]);
        rig.settled(&mut run).await;
        rig.legacy.run(format!("update conversation_calls set provider = '{signal}'")).await;
        run.signal(signal);
        let ended = run.ended();
        assert_eq!(ended.code, if signal == "KILL" { -1 } else { 0 }, "{ended:?}");
    }
    rig.rehome(&["run", "luthien", "--until", "caught-up"]).expect(2);
    assert_eq!(rig.target.texts("select provider from conversation_calls_v2").await, ["KILL"]);
    rig.compare().await.assert_equal();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_answers_beside_a_run_and_alone_as_json_too_and_hides_contents() {
    let mut rig = filled().await;
    let mut run = rig.start(&["--log-level", "debug"]);
    rig.settled(&mut run).await;
    assert_looks(&rig, true);
    assert_eq!(rig.rehome(&["diff", "luthien", "a"]).code, 0);
    for owner in [&["run", "luthien"][..], &["up", "luthien"], &["down", "luthien", "--yes"]] {
        let refused = rig.rehome(owner).expect(3);
        assert!(
            refused.err.contains("in use by a running rehome") && refused.err.contains("rehome stop"),
            "{refused:?}"
        );
    }
    // Whose folder it is matters beside a run too.
    for command in [&["status"][..], &["stop"], &["quarantine", "list"], &["log", "show"], &["run"], &["diff"]] {
        let unit = if command == ["diff"] { vec!["1"] } else { Vec::new() };
        let refused = rig.rehome(&[command, &["semantik"], &unit].concat()).expect(3);
        assert!(
            refused.err.contains("belongs to luthien") && refused.err.contains("--state"),
            "{command:?}: {refused:?}"
        );
    }
    // So does what it maps by, where an answer depends on that.
    let edit = [("tells a synthetic completion", "marks a synthetic completion")];
    let schemas = edited(rig.folder.path(), "schemas/luthien", &edit);
    let refused = rig.rehome(&["diff", "luthien", "a", "--schemas", &schemas]).expect(3);
    assert!(refused.err.contains("other files") && refused.err.contains("start it again"), "{refused:?}");
    rig.rehome(&["status", "luthien", "--schemas", &schemas]).expect(0);
    run.assert_alive("it was not asked to stop");
    assert!(rig.rehome(&["stop", "luthien"]).expect(0).out.contains("stopping"));
    let ended = run.ended();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_hidden(&ended);
    assert_looks(&rig, false);
    assert!(rig.rehome(&["stop", "luthien"]).expect(0).out.contains("nothing is running"));
    let revealed = rig.rehome(&["log", "show", "luthien", "--reveal"]).expect(0);
    assert!(revealed.out.contains(MARKER), "--reveal shows contents, else this test proves nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_target_row_is_found_and_hidden_and_a_change_under_way_is_unproven() {
    let mut rig = filled().await;
    rig.rehome(&["run", "luthien", "--until", "caught-up"]).expect(2);
    assert_eq!(rig.diff("a"), (0, "MATCH".to_owned()), "equal is equal, stopped or not");

    rig.target.run(format!("update conversation_calls_v2 set provider = 'Changed{MARKER}'")).await;
    let found = rig.rehome(&["diff", "luthien", "a"]).expect(1);
    assert!(found.out.contains("MISMATCH") && found.out.contains("provider"), "{found:?}");
    assert_hidden(&found);
    assert_hidden(&rig.rehome(&["diff", "luthien", "a", "--json"]).expect(1));
    assert!(rig.rehome(&["diff", "luthien", "a", "--reveal"]).expect(1).out.contains(&format!("Changed{MARKER}")));
    let rules = rig.folder.path().join("rules");
    std::fs::create_dir(&rules).expect("a folder");
    let ignored = "migration = \"luthien\"\n[[ignore]]\ntable = \"conversation_calls_v2\"\nfields = [\"provider\"]\nreason = \"a test\"\n";
    std::fs::write(rules.join("luthien.toml"), ignored).expect("a file");
    let ruled = rig.rehome(&["diff", "luthien", "a", "--rules", rules.to_str().expect("text")]).expect(0);
    assert!(ruled.out.contains("MATCH"), "what a rule leaves out is no difference: {ruled:?}");
    let waived = |fields: &str| {
        let until = jiff::Zoned::now().date().saturating_add(jiff::Span::new().days(9));
        let rule = format!(
            "migration = \"luthien\"\n[[waive]]\ntable = \"conversation_calls_v2\"\nfinding = \"changed\"\nfields = [\"{fields}\"]\n\
             author = \"a\"\nuntil = {until}\nreason = \"a test\"\n"
        );
        std::fs::write(rules.join("luthien.toml"), rule).expect("a file");
        let diff = rig.rehome(&["diff", "luthien", "a", "--json", "--rules", rules.to_str().expect("text")]);
        (diff.code, diff.json()["waived"].as_array().map(Vec::len))
    };
    assert_eq!(waived("provider"), (0, Some(1)), "what a waiver excuses is named, and no difference");
    assert_eq!(waived("model_name"), (1, Some(0)), "a waiver of another column excuses nothing");
    // The names of members are contents too, and one column that differs much leaves the others to be seen.
    let members = "(select jsonb_object_agg('QuiteSecret' || i, i) from generate_series(1, 30) i)";
    rig.target.run(format!("update conversation_events_v2 set payload = {members}, created_at = now()")).await;
    let found = rig.rehome(&["diff", "luthien", "a"]).expect(1);
    assert!(found.out.contains("payload") && found.out.contains("more places"), "{found:?}");
    assert_hidden(&found);
    assert_hidden(&rig.rehome(&["diff", "luthien", "a", "--json"]).expect(1));
    let revealed = rig.rehome(&["diff", "luthien", "a", "--reveal"]).expect(1).out;
    for shown in ["payload.QuiteSecret1", "more places", "    created_at\n"] {
        assert!(revealed.contains(shown), "{shown}: {revealed}");
    }
    rig.target.run("delete from conversation_events_v2").await;
    assert!(rig.rehome(&["diff", "luthien", "a"]).expect(1).out.contains("missing"));

    rig.target.run(format!("update conversation_calls_v2 set provider = '{MARKER}'")).await;
    rig.rehome(&["quarantine", "retry", "luthien", "a"]).expect(0);
    rig.legacy.run("update conversation_calls set provider = 'new'").await;
    assert_eq!(rig.diff("a"), (2, "INCOMPLETE".to_owned()), "the log does not know of the change yet");
    assert_eq!(rig.rehome(&["diff", "luthien", "nobody"]).code, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_and_addresses_that_are_wrong_exit_with_3_and_say_what_to_do() {
    let rig = Rig::new().await;
    let state = rig.state();
    let state = state.to_str().expect("text");
    let run = |arguments: &[&str]| {
        let mut command = bare();
        command.args(arguments).args(["--state", state]);
        finish(command)
    };
    for usage in
        [&["nonsense"][..], &["run"], &["run", "luthien", "--copy-workers", "0"], &["status", "luthien", "--no"]]
    {
        run(usage).expect(3);
    }
    run(&["--help"]).expect(0);
    run(&["--version"]).expect(0);
    let told = |outcome: Outcome, words: &[&str]| {
        let outcome = outcome.expect(3);
        for word in words {
            assert!(outcome.err.contains(word), "{word}: {outcome:?}");
        }
    };
    told(run(&["up", "luthien"]), &["source", "--source", "REHOME_SOURCE"]);
    told(run(&["status", "nothing"]), &["nothing", "luthien"]);
    for command in [&["status", "luthien"][..], &["quarantine", "list", "luthien"], &["log", "show", "luthien"]] {
        told(run(command), &["rehome up"]);
    }
    told(run(&["down", "luthien", "--yes"]), &["--source"]);
    let nobody = "postgres://u:Secret-word@127.0.0.1:1/x";
    let unreachable = run(&["up", "luthien", "--source", nobody, "--target", &rig.target.url]);
    assert!(!unreachable.err.contains("Secret-word"), "{unreachable:?}");
    told(unreachable, &["source", "127.0.0.1:1", "source's address"]);
    told(
        run(&["up", "luthien", "--source", &rig.legacy.url, "--target", nobody]),
        &["target", "127.0.0.1:1", "target's address"],
    );
    told(run(&["up", "luthien", "--source", "not an address", "--target", nobody]), &["address"]);
    for (target, words) in [
        (nobody, ["reach the target", "127.0.0.1:1", "target's address"]),
        ("postgres://[", ["target's address is", "not usable", "--target is"]),
    ] {
        let reports = rig.folder.path().join("reports");
        let reports = ["--reports", reports.to_str().expect("text")];
        let compared =
            [&["reconcile", "luthien", "--source", &rig.legacy.url, "--target", target][..], &reports].concat();
        told(run(&compared), &words);
    }
    let missing = cluster().url("no_such_database");
    told(run(&["up", "luthien", "--source", &missing, "--target", &rig.target.url]), &["no_such_database"]);
    let failed = run(&["up", "luthien", "--json"]).expect(3);
    assert!(failed.json()["error"].is_string() && failed.json()["hint"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn check_tells_of_mistakes_in_the_files_as_of_other_errors() {
    let rig = Rig::new().await;
    let check = |schemas: &str, more: &[&str]| {
        let mut command = bare();
        command.args(["check", "luthien", "--schemas", schemas]).args(more);
        finish(command)
    };
    let well = edited(rig.folder.path(), "schemas/luthien", &[]);
    assert!(check(&well, &[]).expect(0).out.contains("no --source and no --target, so no database was looked at"));
    let target = check(&well, &["--target", &rig.target.url]).expect(0);
    assert!(target.out.contains("no --source, so it was not looked at; 0 finding(s) in the target"), "{target:?}");

    let broken =
        edited(&rig.folder.path().join("broken"), "schemas/luthien", &[("role = \"unit\"", "rôle = \"unit\"")]);
    let told = check(&broken, &[]).expect(1);
    assert!(told.err.contains("legacy.toml"), "{told:?}");
    let told = check(&broken, &["--json"]).expect(1).json();
    let problem = &told["problems"][0];
    assert!(problem["file"].as_str().is_some_and(|file| file.ends_with("legacy.toml")), "{told}");
    assert!(problem["line"].as_u64() > Some(1) && problem["what"].is_string() && problem["fix"].is_string(), "{told}");
    // To any other command they are configuration that cannot be used.
    let mut other = bare();
    other.args(["status", "luthien", "--schemas", &broken]);
    assert!(finish(other).expect(3).err.contains("next: mend them"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_told_with_what_helps_there() {
    let mut rig = filled().await;
    rig.rehome(&["run", "luthien", "--until", "caught-up"]).expect(2);
    let schemas = edited(rig.folder.path(), "schemas/luthien", &[]);
    let called = |name: &str| {
        let edits = [("migration = \"luthien\"", &*format!("migration = {name:?}"))];
        edited(&rig.folder.path().join(name), "schemas/luthien", &edits)
    };
    let (two, long) = (called("luthien-two"), called(&"l".repeat(34)));
    let other = rig.folder.path().join("other").display().to_string();
    let begun = rig.folder.path().join("begun").display().to_string();
    let run = |arguments: &[&str]| {
        let mut command = bare();
        command.args(arguments).args(["--source", &rig.legacy.url]);
        let state = rig.state().display().to_string();
        for (option, value) in [("--schemas", &schemas), ("--state", &state), ("--target", &rig.target.url)] {
            if !arguments.contains(&option) {
                command.args([option, value]);
            }
        }
        finish(command)
    };
    let tables = "there are: conversation_calls, conversation_events";
    let erase = |table: &'static str, key: &'static str| vec!["log", "erase", "luthien", table, key];
    let accept = |table: &'static str| vec!["accept-schema", "luthien", table];
    let cases: Vec<(Vec<&str>, Vec<&str>)> = vec![
        (erase("nowhere", "a"), vec!["no source table nowhere", tables]),
        (erase("conversation_calls", "nobody"), vec!["has the key nobody", "next: `rehome log show"]),
        (erase("conversation_calls", "a"), vec!["still there", "next: delete it in the source"]),
        (accept("nothing"), vec!["no source table nothing", tables]),
        (accept("conversation_calls"), vec!["has not changed", "next: `rehome status`"]),
        (vec!["log", "show", "luthien", "--table", "nothing"], vec!["no source table nothing", tables]),
        (vec!["up", "luthien", "--target", "dynamodb://eu-west-1"], vec!["looks like postgres://", "--target"]),
        (vec!["new", "luthien-three", "--into", &other], vec!["luthien-three has '-'", "another name"]),
        (vec!["check", "luthien", "--schemas", &two, "--state", &other], vec!["luthien-two has '-'", "another name"]),
        (vec!["up", "luthien", "--schemas", &two, "--state", &other], vec!["luthien-two has '-'", "another name"]),
        (
            vec!["up", "luthien", "--schemas", &long, "--state", &other],
            vec!["more than the 33 characters", "another name"],
        ),
    ];
    for (command, words) in cases {
        let refused = run(&command).expect(3);
        for word in words {
            assert!(refused.err.contains(word), "{command:?} {word}: {refused:?}");
        }
    }
    // What was begun under such a name goes on under it.
    std::fs::create_dir(&begun).expect("a folder");
    std::fs::write(rig.folder.path().join("begun/migration"), "luthien-two").expect("a file");
    run(&["check", "luthien", "--schemas", &two, "--state", &begun]).expect(0);
    // A table's shape changed, and a run is under way.
    let mut beside = rig.start(&[]);
    rig.settled(&mut beside).await;
    let refused = rig.rehome(&["accept-schema", "luthien", "conversation_calls", "--read-again"]).expect(3);
    assert!(refused.err.contains("next: stop it with `rehome stop`"), "{refused:?}");
    beside.terminate().expect(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn both_databases_are_reached_through_a_unix_socket() {
    let mut rig = Rig::new().await;
    for database in [&mut rig.legacy, &mut rig.target] {
        database.url = on_socket(&database.url);
    }
    rig.rehome(&["up", "luthien"]).expect(0);
    rig.legacy.run("insert into conversation_calls (call_id, status) values ('a', 'success')").await;
    let mut run = rig.start(&[]);
    rig.settled(&mut run).await;
    let sender = "select coalesce(host(client_addr), 'a socket') from pg_stat_activity \
        where datname = current_database() and backend_type = 'walsender'";
    assert_eq!(rig.legacy.texts(sender).await, ["a socket"]);
    rig.legacy.run("update conversation_calls set provider = 'p'").await;
    rig.settled(&mut run).await;
    run.terminate().expect(0);
    assert_eq!(rig.target.texts("select provider from conversation_calls_v2").await, ["p"]);
    assert_eq!(rig.diff("a"), (0, "MATCH".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_source_or_the_target_lacks_is_named_with_its_fix() {
    let mut rig = Rig::new().await;
    rig.legacy.run("alter table conversation_events drop column role; drop table conversation_tool_calls").await;
    let refused = rig.rehome(&["up", "luthien"]).expect(3);
    for word in ["conversation_events", "role", "conversation_tool_calls", "fix:"] {
        assert!(refused.err.contains(word), "{word}: {refused:?}");
    }
    rig.rehome(&["check", "luthien"]).expect(1);

    let mut rig = Rig::new().await;
    rig.target.run("create table conversation_calls_v2 (call_id text primary key)").await;
    let refused = rig.rehome(&["up", "luthien"]).expect(3);
    assert!(refused.err.contains("policy_events") && refused.err.contains("target.sql"), "{refused:?}");

    let mut rig = Rig::up().await;
    rig.target.run("alter table policy_events alter column event_type type varchar(9)").await;
    let refused = rig.rehome(&["run", "luthien", "--until", "caught-up"]).expect(3);
    assert!(refused.err.contains("event_type"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn down_removes_what_was_made_and_leaves_the_rows() {
    let mut rig = filled().await;
    rig.rehome(&["run", "luthien", "--until", "caught-up"]).expect(2);
    let asked = rig.rehome(&["down", "luthien"]).expect(3);
    let state = rig.state().display().to_string();
    for word in ["--yes", &state, "record"] {
        assert!(asked.err.contains(word), "{word}: {asked:?}");
    }
    // What a removal that was cut off leaves may be anyone's; it is neither passed over nor taken for nothing.
    let name = rig.state().join("migration");
    std::fs::remove_file(&name).expect("it was there");
    for command in [&["down", "luthien", "--yes"][..], &["up", "luthien"]] {
        let refused = rig.rehome(command).expect(3);
        assert!(refused.err.contains(&state) && refused.err.contains("a file `migration`"), "{refused:?}");
    }
    std::fs::write(&name, "luthien").expect("writable");
    // What is not rehome's stays, and then so does the folder.
    let note = rig.state().join("note.txt");
    std::fs::write(&note, "theirs").expect("writable");
    let told = rig.rehome(&["down", "luthien", "--yes", "--json"]).expect(0).json();
    assert!(told["removed"].as_array().is_some_and(|removed| removed.len() >= 4), "{told}");
    assert!(told["left"].to_string().contains("note.txt"), "{told}");
    let left: Vec<_> =
        std::fs::read_dir(rig.state()).expect("it is there").flatten().map(|entry| entry.path()).collect();
    assert_eq!(left, [note]);
    let refused = rig.rehome(&["up", "luthien"]).expect(3);
    assert!(refused.err.contains("note.txt") && refused.err.contains("--state"), "{refused:?}");
    std::fs::remove_file(&left[0]).expect("it is there");
    rig.rehome(&["down", "luthien", "--yes"]).expect(0);
    let slots =
        rig.legacy.text("select count(*)::text from pg_replication_slots where database = current_database()").await;
    let publications = rig.legacy.text("select count(*)::text from pg_publication").await;
    assert_eq!((slots.as_str(), publications.as_str()), ("0", "0"));
    assert_eq!(rig.target.text("select count(*)::text from pg_namespace where nspname = 'rehome'").await, "0");
    assert_eq!(rig.target.text("select count(*)::text from conversation_calls_v2").await, "1", "target rows stay");
    rig.rehome(&["up", "luthien"]).expect(0);
    rig.rehome(&["down", "luthien", "--yes"]).expect(0);
    assert!(!rig.state().exists());
}

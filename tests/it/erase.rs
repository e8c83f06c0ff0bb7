//! `rehome log erase`: what is erased is on no disk block of ours, and everything else is as it was.

use std::path::Path;

use crate::support::rig::Rig;

/// Call, events and text of the person whose rows are erased; random, so that no compression takes the text apart.
const EVENTS: [&str; 2] = ["aaaaaaaa-0000-4000-8000-000000000001", "aaaaaaaa-0000-4000-8000-000000000002"];
const SECRET: &str = "q7Zx0vLrW2mKpT9eYb4NfHs6JdUa1cGo";

/// Files below a folder that contain some bytes.
fn files_with(folder: &Path, wanted: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files_with(&path, wanted));
        } else if std::fs::read(&path).is_ok_and(|bytes| bytes.windows(wanted.len()).any(|part| part == wanted)) {
            found.push(path.display().to_string());
        }
    }
    found
}

async fn filled() -> Rig {
    let mut rig = Rig::up().await;
    for (call, [first, second], text) in [
        ("gone", EVENTS, SECRET),
        ("stays", ["bbbbbbbb-0000-4000-8000-000000000001", "bbbbbbbb-0000-4000-8000-000000000002"], "plain"),
    ] {
        rig.legacy
            .run(format!(
                "insert into conversation_calls (call_id, status, provider) values ('{call}', 'success', '{text}'); \
                 insert into conversation_events (id, call_id, event_type, sequence, payload) values \
                   ('{first}', '{call}', 'request_started', 1, \
                     '{{\"original_messages\": [{{\"role\": \"user\", \"content\": \"{text}\"}}]}}'), \
                   ('{second}', '{call}', 'request_completed', 2, \
                     '{{\"status\": \"success\", \"final_response\": \"{text}\"}}')"
            ))
            .await;
    }
    rig.catch_up();
    // What is streamed lies elsewhere than what was copied.
    rig.legacy
        .run(format!("update conversation_calls set provider = provider || '{SECRET}' where call_id = 'gone'"))
        .await;
    rig.catch_up();
    rig
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_erased_is_on_the_disk_no_more_and_everything_else_is_as_it_was() {
    let mut rig = filled().await;
    let erase =
        |rig: &Rig, table: &str, keys: &[&str]| rig.rehome(&[&["log", "erase", "luthien", table], keys].concat());
    let refused = erase(&rig, "conversation_calls", &["gone"]).expect(3);
    assert!(refused.err.contains("still there"), "{refused:?}");
    let refused = erase(&rig, "conversation_calls", &["nobody"]).expect(3);
    assert!(refused.err.contains("no event of conversation_calls has the key nobody"), "{refused:?}");
    let refused = erase(&rig, "nowhere", &["gone"]).expect(3);
    assert!(refused.err.contains("no source table nowhere"), "{refused:?}");

    rig.legacy
        .run("delete from conversation_events where call_id = 'gone'; delete from conversation_calls where call_id = 'gone'")
        .await;
    let mut run = rig.start(&[]);
    rig.settled(&mut run).await;
    let refused = erase(&rig, "conversation_calls", &["gone"]).expect(3);
    assert!(refused.err.contains("in use by a running rehome"), "{refused:?}");
    run.signal("TERM");
    run.ended();

    assert!(!files_with(&rig.state(), SECRET.as_bytes()).is_empty(), "the test looks where it can be found");
    erase(&rig, "conversation_calls", &["gone"]).expect(0);
    let erased = erase(&rig, "conversation_events", &EVENTS).expect(0);
    assert!(erased.out.contains("2 row(s) erased"), "{erased:?}");
    assert_eq!(files_with(&rig.state(), SECRET.as_bytes()), Vec::<String>::new());
    assert_eq!(files_with(&rig.state(), EVENTS[0].as_bytes()), Vec::<String>::new());

    // The log reads to its end, block by block, and tells that something was erased.
    let shown = rig.rehome(&["log", "show", "luthien", "--limit", "100000", "--reveal"]).expect(0);
    assert!(
        shown.out.contains("key_digest") && shown.out.contains("stays") && !shown.out.contains(SECRET),
        "{shown:?}"
    );

    // It goes on, and a state that is built anew from what is left comes to the same.
    rig.legacy.run("update conversation_calls set provider = 'later' where call_id = 'stays'").await;
    rig.catch_up();
    rig.compare().await.assert_equal();
    std::fs::remove_dir_all(rig.state().join("state")).expect("it is there");
    rig.catch_up();
    rig.compare().await.assert_equal();
    assert_eq!(rig.status()["balanced"], true);
    assert_eq!(
        rig.rehome(&["reconcile", "luthien", "--reports", &rig.folder.path().join("reports").display().to_string()])
            .code,
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_target_still_holds_because_it_refused_to_let_it_go_is_not_erased() {
    let mut rig = filled().await;
    // The application has tied a row of its own to the person's call.
    let theirs = "create table notes (call_id text references conversation_calls_v2 on delete cascade); \
        insert into notes values ('gone')";
    rig.target.run(theirs).await;
    let gone =
        "delete from conversation_events where call_id = 'gone'; delete from conversation_calls where call_id = 'gone'";
    rig.legacy.run(gone).await;
    rig.rehome(&["run", "luthien", "--until", "caught-up"]).expect(2);
    let refused = rig.rehome(&["log", "erase", "luthien", "conversation_calls", "gone"]).expect(3);
    assert!(refused.err.contains("the target refused the last write of 1 part(s)"), "{refused:?}");
    rig.target.run("drop table notes").await;
    rig.rehome(&["quarantine", "retry", "luthien"]).expect(0);
    rig.catch_up();
    rig.rehome(&["log", "erase", "luthien", "conversation_calls", "gone"]).expect(0);
}

//! A dump instead of a snapshot: what it becomes in the log, and what happens when it stops in the middle.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use rehome::capture::load::{Dump, Error, Form, Loaded, load, loaded};
use rehome::engine::Folder;
use rehome::event::{Column, Epoch, Event, Key, Op, Relation, RelationName, Row, Value, Version};
use rehome::log::{EventLog, MemoryLog, Offset, Partition, Record};
use tempfile::TempDir;

use crate::support::rig::Rig;
use crate::support::schemas::edited;

/// A dump of a table of two columns.
fn dump(folder: &TempDir, text: &str) -> Dump {
    let column =
        |name: &str, type_name: &str, key_part| Column { name: name.into(), type_name: type_name.into(), key_part };
    let columns = vec![column("id", "int8", Some(0)), column("text", "text", None)];
    let name = RelationName { schema: "public".into(), table: "t".into() };
    let path: PathBuf = folder.path().join("t.jsonl");
    std::fs::write(&path, text).expect("it may");
    Dump { path, relation: Arc::new(Relation { name, columns }), form: Form::Rows }
}

fn line(id: usize, text: &str) -> String {
    format!("{{\"id\": {id}, \"text\": \"{text}\"}}\n")
}

/// Everything in a log.
async fn events(log: &dyn EventLog) -> Vec<Event> {
    let mut events = Vec::new();
    let mut from = Offset(0);
    loop {
        let chunk = log.read(Partition(0), from, 1 << 20).await.expect("it reads");
        if chunk.records.is_empty() {
            return events;
        }
        from = chunk.next;
        events.extend(chunk.records.into_iter().filter_map(|(_, record)| match record {
            Record::Event(event) => Some(event),
            Record::Notice(_) | Record::Erased(_) => None,
        }));
    }
}

#[tokio::test]
async fn a_dump_becomes_the_floor_of_its_epoch() {
    let (folder, log) = (tempfile::tempdir().expect("a folder"), MemoryLog::new(1, 1));
    let text = format!("{}\r\n{}{}", line(1, "a"), line(2, ""), line(3, "last").trim_end());
    let dump = dump(&folder, &text);
    let mut told = Vec::new();
    load(&log, Epoch(4), std::slice::from_ref(&dump), |_, loaded| told.push(loaded)).await.expect("it loads");
    let events = events(&log).await;
    let rows: Vec<Row> = events.iter().filter_map(|event| event.after.clone()).collect();
    let row = |id, text: &str| -> Row { [Value::Int(id), Value::text(text)].into_iter().collect() };
    assert_eq!(rows, [row(1, "a"), row(2, ""), row(3, "last")]);
    assert!(events.iter().all(|event| event.op == Op::Read && event.version == Version::floor(Epoch(4))));
    assert_eq!(events[2].key, Key(vec![Value::Int(3)]));
    assert_eq!(log.relation(events[0].relation).expect("registered").name.to_string(), "public.t");
    let whole = Loaded { bytes: text.len() as u64, lines: 4, rows: 3 };
    assert_eq!((told, loaded(&log, &dump.relation, Epoch(4)).expect("it reads")), (vec![whole], whole));
    load(&log, Epoch(4), std::slice::from_ref(&dump), |_, _| panic!("there is nothing to load")).await.expect("it is");
    assert_eq!(loaded(&log, &dump.relation, Epoch(5)).expect("it reads"), Loaded::default(), "another epoch's own");
    load(&log, Epoch(5), &[dump], |_, _| {}).await.expect("it loads");
    assert_eq!(self::events(&log).await.len(), 6);
}

#[tokio::test]
async fn a_broken_line_is_named_and_loading_goes_on_from_it() {
    let (folder, log) = (tempfile::tempdir().expect("a folder"), MemoryLog::new(1, 1));
    let broken = dump(&folder, &format!("{}{{\"id\": \"MARKER\", \"text\": null}}\n{}", line(1, "a"), line(3, "c")));
    let error = load(&log, Epoch(1), std::slice::from_ref(&broken), |_, _| {}).await.expect_err("line 2 is broken");
    let path = broken.path.display();
    let said = format!(
        "line 2 of {path}: column id does not read as int8; correct the line or take it out, and load again: the lines \
         before it stay loaded"
    );
    assert_eq!(error.to_string(), said);
    assert_eq!(events(&log).await.len(), 1);
    let mended = dump(&folder, &[line(1, "a"), line(2, "b"), line(3, "c")].concat());
    load(&log, Epoch(1), &[mended], |_, _| {}).await.expect("it loads");
    let keys: Vec<Key> = events(&log).await.into_iter().map(|event| event.key).collect();
    assert_eq!(keys, [1, 2, 3].map(|id| Key(vec![Value::Int(id)])), "nothing twice");
}

#[tokio::test]
async fn a_file_that_changed_where_it_was_loaded_is_refused() {
    let (folder, log) = (tempfile::tempdir().expect("a folder"), MemoryLog::new(1, 1));
    load(&log, Epoch(1), &[dump(&folder, &line(1, "a"))], |_, _| {}).await.expect("it loads");
    for text in [line(1, "b") + &line(2, "c"), String::new()] {
        let error = load(&log, Epoch(1), &[dump(&folder, &text)], |_, _| {}).await.expect_err("it changed");
        assert!(matches!(error, Error::Changed { line: 2, .. }), "{error}");
    }
    load(&log, Epoch(1), &[dump(&folder, &[line(1, "a"), line(2, "b")].concat())], |_, _| {}).await.expect("it grew");
    assert_eq!(events(&log).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_that_was_cut_off_loads_every_row_once() {
    let (folder, log) = (tempfile::tempdir().expect("a folder"), MemoryLog::new(1, 1));
    // Several batches' worth.
    let text: String = (0..20_000).map(|id| line(id, &"x".repeat(1000))).collect();
    let dump = dump(&folder, &text);
    let (sender, mut cut) = tokio::sync::mpsc::unbounded_channel();
    let tell = |_: &Dump, loaded: Loaded| sender.send(loaded).expect("someone listens");
    let first = tokio::select! {
        first = cut.recv() => first.expect("a batch"),
        whole = load(&log, Epoch(1), std::slice::from_ref(&dump), tell) => panic!("it was not cut off: {whole:?}"),
    };
    let there = loaded(&log, &dump.relation, Epoch(1)).expect("it reads");
    assert!(there.rows >= first.rows && there.rows < 20_000, "{there:?}");
    assert_eq!(events(&log).await.len() as u64, there.rows, "the mark says what the log holds");
    load(&log, Epoch(1), &[dump], |_, _| {}).await.expect("it loads");
    let keys: Vec<Key> = events(&log).await.into_iter().map(|event| event.key).collect();
    assert_eq!((keys.len(), keys.iter().collect::<BTreeSet<_>>().len()), (20_000, 20_000));
}

/// As where an older and a newer dump were joined: the second would go without a word.
#[tokio::test]
async fn two_rows_of_one_key_are_named_and_nothing_is_taken() {
    let (folder, log) = (tempfile::tempdir().expect("a folder"), MemoryLog::new(1, 1));
    let text = [line(1, "old"), "\n".into(), line(2, "b"), line(1, "new")].concat();
    let twice = dump(&folder, &text);
    let error = load(&log, Epoch(1), std::slice::from_ref(&twice), |_, _| {}).await.expect_err("line 4 is line 1");
    assert!(
        error.to_string().starts_with(&format!("line 4 of {}: it has the key of line 1", twice.path.display())),
        "{error}"
    );
    assert_eq!(events(&log).await.len(), 0);
}

/// Dumps of luthien's tables in a folder: calls of one event each, every other one of an unknown kind.
fn luthien(folder: &std::path::Path, calls: usize) -> Vec<String> {
    let lines = |line: &dyn Fn(usize) -> serde_json::Value, count| -> String {
        (0..count).map(|number| format!("{}\n", line(number))).collect()
    };
    let call = |number: usize| {
        serde_json::json!({
            "call_id": format!("c{number}"), "trace_id": null, "model_name": null, "provider": null, "status": "success",
            "created_at": "2026-01-01T00:00:00Z", "completed_at": null, "metadata": null, "updated_at": "2026-01-01T00:00:00Z",
        })
    };
    let event = |number: usize| {
        serde_json::json!({
            "id": format!("00000000-0000-4000-8000-{number:012}"), "call_id": format!("c{number}"), "trace_id": null,
            "event_type": if number.is_multiple_of(2) { "party" } else { "request_started" }, "hook": "h", "sequence": 1,
            "chunk_index": null, "choice_index": null, "role": null, "delta_text": null, "raw_chunk": null,
            "payload": "{\"original_messages\": [{\"role\": \"user\", \"content\": \"hello\"}]}",
            "created_at": "2026-01-01T00:00:00Z",
        })
    };
    let files = [
        ("conversation_calls", lines(&call, calls)),
        ("conversation_events", lines(&event, calls)),
        ("conversation_tool_calls", String::new()),
        ("conversation_judge_decisions", String::new()),
    ];
    let write = |(name, text): (&str, String)| {
        let path = folder.join(format!("{name}.jsonl"));
        std::fs::write(&path, text).expect("a file");
        path.display().to_string()
    };
    files.into_iter().map(write).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_takes_the_options_that_its_hints_name() {
    let rig = Rig::new().await;
    let files = luthien(rig.folder.path(), 300);
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let load = |more: &[&str]| rig.rehome(&[&["load", "luthien"], files.as_slice(), more].concat());
    let halted = load(&[]).expect(3);
    assert!(halted.err.contains("unknown_event_type") && halted.err.contains("--park-percent-max 100"), "{halted:?}");
    let told = load(&["--park-percent-max", "100", "--target-connections", "1", "--json"]).expect(2).json();
    assert_eq!(told["conservation"]["rows"]["conversation_events"]["quarantined"]["unknown_event_type"], 150, "{told}");
    assert_eq!(told["balanced"], true, "{told}");
}

/// The definition is corrected, and the files are what they were: what they say is read again, and nothing goes meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_load_by_a_corrected_definition_takes_nothing_away() {
    let mut rig = Rig::new().await;
    let files = luthien(rig.folder.path(), 10);
    let all: &[&str] = &["--park-percent-max", "100"];
    let files: Vec<&str> = files.iter().map(String::as_str).chain(all.iter().copied()).collect();
    rig.rehome(&[&["load", "luthien"], files.as_slice()].concat()).expect(2);
    let written = "select string_agg(call_id || xmin, ',' order by call_id) from conversation_events_v2";
    let before = rig.target.text(written).await;
    assert!(before.contains(','), "{before}");

    let corrected = [("chunk_index = \"integer\"", "chunk_index = \"bigint\"")];
    let schemas = edited(rig.folder.path(), "schemas/luthien", &corrected);
    let with = |arguments: &[&str]| rig.rehome(&[arguments, &["--schemas", &schemas]].concat());
    let load = [&["load", "luthien"], files.as_slice()].concat();
    let refused = with(&load).expect(3);
    assert!(refused.err.contains("events of conversation_events have another shape"), "{refused:?}");
    with(&["accept-schema", "luthien", "conversation_events", "--read-again"]).expect(0);
    with(&load).expect(2);
    let status = with(&["status", "luthien", "--json"]).expect(0).json();
    assert_eq!(status["balanced"], true, "{status}");
    assert_eq!(rig.target.text(written).await, before, "as it was");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_tells_where_it_is_and_is_stopped_as_a_run_is() {
    let rig = Rig::new().await;
    let files = luthien(rig.folder.path(), 10);
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    // A file that nobody writes is waited for.
    std::fs::remove_file(files[1]).expect("it is there");
    let made = std::process::Command::new("mkfifo").arg(files[1]).status().expect("mkfifo runs");
    assert!(made.success());
    let mut load = rig.begin(&[&["load", "luthien"], files.as_slice()].concat());
    let status =
        rig.until("it loads", &mut load, |status| status["conservation"]["events"]["conversation_calls"].is_object());
    assert_eq!((&status["phase"], &status["capture"]), (&"loading".into(), &serde_json::Value::Null), "{status}");
    assert!(rig.rehome(&["status", "luthien"]).expect(0).out.starts_with("luthien: loading;"));
    for owner in [&[&["load", "luthien"], files.as_slice()].concat()[..], &["up", "luthien"]] {
        let refused = rig.rehome(owner).expect(3);
        assert!(refused.err.contains("in use by a running rehome"), "{refused:?}");
    }
    assert_eq!(rig.rehome(&["stop", "luthien"]).expect(0).out, "stopping\n");
    // Who reads is waited for.
    let _writer = std::fs::OpenOptions::new().read(true).write(true).open(files[1]).expect("it is there");
    load.ended().expect(2);
    assert_eq!(rig.rehome(&["stop", "luthien"]).expect(0).out, "nothing is running\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_the_folder_and_does_not_answer_yet_is_named() {
    let rig = Rig::up().await;
    let _owned = Folder::new(rig.state()).own("luthien").expect("a folder").expect("nobody has it");
    let refused = std::thread::scope(|scope| {
        let asked = [&["status", "luthien"][..], &["stop", "luthien"], &["down", "luthien", "--yes"]];
        let asked = asked.map(|command| scope.spawn(|| rig.rehome(command)));
        asked.map(|asked| asked.join().expect("no panic").expect(3))
    });
    for refused in refused {
        let process = format!("process {}", std::process::id());
        assert!(refused.err.contains(&process) && refused.err.contains("it is starting"), "{refused:?}");
    }
}

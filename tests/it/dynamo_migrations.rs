//! Whole migrations to and from DynamoDB, by the built binary, against DynamoDB Local.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeValue, ScalarAttributeType};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::support::cluster::Database;
use crate::support::dynamo::{Item, address, client, event, items, number, table, text};
use crate::support::jobs::{LEGACY, progress, script};
use crate::support::rig::{Rig, Run};
use crate::support::schemas;

/// Sort keys of all items, in order.
async fn keys(client: &Client) -> Vec<String> {
    let mut keys: Vec<String> = items(client, "algoitny_main")
        .await
        .iter()
        .map(|item| format!("{} {}", text(item, "PK").split('#').next().unwrap_or_default(), text(item, "SK")))
        .collect();
    keys.sort();
    keys
}

/// Replication slots of the legacy database.
async fn slots(rig: &mut Rig) -> u32 {
    let counted = "select count(*)::text from pg_replication_slots where database = current_database()";
    rig.legacy.text(counted).await.parse().expect("a number")
}

async fn settled(rig: &mut Rig, run: &mut Run) -> serde_json::Value {
    let status = rig.settled(run).await;
    assert_eq!(status["balanced"], true, "{status}");
    status
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_go_from_postgres_to_one_shared_table_and_follow_live() {
    let client = client().await;
    let mut legacy = Database::new().await;
    legacy.run(LEGACY).await;
    legacy.run(script(1, "제목 🎉") + &script(2, "two")).await;
    // Two entries in one second, an orphan, and one of a kind that nobody knows.
    legacy
        .run(progress(1, 11, 1, "2024-10-09T04:03:46.000000+00") + &progress(2, 11, 1, "2024-10-09T04:03:46.037001+00"))
        .await;
    legacy.run(progress(3, 12, 9, "2024-10-09T04:03:47+00") + &progress(4, 99, 1, "2024-10-09T04:03:48+00")).await;
    let mut target = Database::new().await;
    let wrong = Rig::of("jobs", Database::new().await, Database::new().await);
    let refused = wrong.rehome(&["up", "jobs"]).expect(3);
    assert!(refused.err.contains("another kind of store"), "{refused:?}");
    target.url = address();
    let mut rig = Rig::of("jobs", legacy, target);
    rig.rehome(&["up", "jobs"]).expect(0);
    rig.rehome(&["up", "jobs"]).expect(0);
    // The application writes the same table.
    let own = |key: &str| {
        HashMap::from([
            ("PK".to_owned(), AttributeValue::S(key.into())),
            ("SK".to_owned(), AttributeValue::S("META".into())),
        ])
    };
    client.put_item().table_name("algoitny_main").set_item(Some(own("USER#1"))).send().await.expect("it may");

    let mut run = rig.start(&[]);
    let status = settled(&mut rig, &mut run).await;
    assert!(status["progress"]["cost"]["write_units"].as_u64() > Some(4), "{status}");
    let counts = &status["conservation"]["counts"];
    assert_eq!(counts["orphan_progress"], 1, "{status}");
    assert_eq!(status["conservation"]["rows"]["django_content_type"]["lookup"], 2, "{status}");
    // The sums that people are shown add up too.
    let shown = rig.rehome(&["status", "jobs"]).expect(0).out;
    let words = |row: &str| -> Vec<String> {
        let row = shown.lines().rfind(|line| line.trim_start().starts_with(row)).expect("a row");
        row.split_whitespace().map(str::to_owned).collect()
    };
    assert!(shown.contains("+ looked up"), "{shown}");
    assert_eq!(words("django_content_type"), ["django_content_type", "2", "0", "0", "0", "0", "2"], "{shown}");
    assert_eq!(
        status["conservation"]["rows"]["job_progress_history"]["quarantined"]["unknown_content_type"], 1,
        "{status}"
    );
    let expected = [
        "JOB PROG#1728446626.000000#1",
        "JOB PROG#1728446626.037001#2",
        "JOB PROG#1728446627.000000#3",
        "SGJOB META",
        "SGJOB META",
        "USER META",
    ];
    assert_eq!(keys(&client).await, expected);
    let all = items(&client, "algoitny_main").await;
    let first = all.iter().find(|item| {
        text(item, "PK").starts_with("SGJOB") && text(item, "GSI1SK").starts_with("00000000001728446626#")
    });
    let first = first.expect("the legacy time, floored");
    assert_eq!((number(first, "crt"), text(first, "GSI1PK")), ("1728446626", "SGJOB#STATUS#PENDING"));
    assert_eq!(rig.diff("script:1"), (0, "MATCH".to_owned()));

    // Live: a status moves with its index key, a job goes and its progress stays as an orphan, an unknown kind is named.
    rig.legacy.run("update script_generation_jobs set status = 'COMPLETED' where id = 1; delete from script_generation_jobs where id = 2").await;
    rig.legacy.run("insert into django_content_type values (99, 'api', 'problemextractionjob')").await;
    rig.legacy.run(progress(5, 11, 2, "2024-10-09T04:03:50+00")).await;
    let status = settled(&mut rig, &mut run).await;
    assert_eq!(status["conservation"]["counts"]["orphan_progress"], 3, "{status}");
    let after = keys(&client).await;
    assert_eq!(after.len(), 7, "{after:?}");
    assert_eq!(after.iter().filter(|key| key.starts_with("SGJOB")).count(), 1);
    let all = items(&client, "algoitny_main").await;
    assert!(all.iter().any(|item| text(item, "GSI1PK") == "SGJOB#STATUS#COMPLETED"));

    // Everything agrees; what the application wrote by itself is not ours to judge.
    let (summary, _) = crate::reconcile::reconcile(&rig, 0);
    let target = &summary["targets"][0];
    assert_eq!(
        (&target["read"]["classes"]["matched"], &target["read"]["classes"]["out_of_scope"]),
        (&6.into(), &1.into())
    );

    // Corruption is found and mended; an item that is taken away too.
    let job = all.iter().find(|item| text(item, "PK").starts_with("SGJOB")).expect("a job").clone();
    let mut changed = job.clone();
    changed.insert("crt".into(), AttributeValue::N("1".into()));
    client.put_item().table_name("algoitny_main").set_item(Some(changed)).send().await.expect("it may");
    assert_eq!(rig.diff("script:1"), (1, "MISMATCH".to_owned()));
    let (summary, listed) = crate::reconcile::reconcile(&rig, 1);
    assert_eq!(
        (listed.len(), &listed[0]["kind"], &listed[0]["unit"]),
        (1, &"changed".into(), &"script:1".into()),
        "{summary}"
    );
    rig.rehome(&["quarantine", "retry", "jobs", "script:1"]).expect(0);
    settled(&mut rig, &mut run).await;
    assert_eq!(rig.diff("script:1"), (0, "MATCH".to_owned()));

    // The state is lost, and rows go meanwhile: what they became goes too, and the application's items stay.
    run.kill();
    std::fs::remove_dir_all(rig.state().join("state")).expect("a state");
    rig.legacy.run("delete from job_progress_history where id < 3; delete from script_generation_jobs").await;
    rig.rehome(&["run", "jobs", "--until", "caught-up"]).expect(0);
    assert_eq!(
        keys(&client).await,
        ["JOB PROG#1728446627.000000#3", "JOB PROG#1728446628.000000#4", "JOB PROG#1728446630.000000#5", "USER META"]
    );
    assert_eq!(rig.status()["balanced"], true);

    // The whole folder is lost: nothing goes on beside what it wrote unless a person says so, and then its slot goes.
    std::fs::remove_dir_all(rig.state()).expect("it is there");
    for refused in [&["up", "jobs"][..], &["run", "jobs", "--until", "caught-up"]] {
        let refused = rig.rehome(refused).expect(3);
        assert!(refused.err.contains("at least 3 item(s)") && refused.err.contains("--adopt"), "{refused:?}");
        assert!(!rig.state().exists(), "a refusal makes no folder, which would look like the lost one");
    }
    let adopted = rig.rehome(&["up", "jobs", "--adopt", "--json"]).expect(0).json();
    assert_eq!((adopted["adopted"]["items"].as_u64(), slots(&mut rig).await), (Some(3), 0), "{adopted}");
    assert!(rig.rehome(&["up", "jobs", "--adopt", "--json"]).expect(0).json()["adopted"].is_null(), "only once");
    rig.legacy.run("delete from job_progress_history where id = 3").await;
    rig.rehome(&["run", "jobs", "--until", "caught-up"]).expect(0);
    let left = ["JOB PROG#1728446628.000000#4", "JOB PROG#1728446630.000000#5", "USER META"];
    assert_eq!((keys(&client).await, slots(&mut rig).await), (left.map(str::to_owned).to_vec(), 1));
    assert_eq!(rig.status()["balanced"], true);
    rig.rehome(&["down", "jobs", "--yes"]).expect(0);
}

/// Owner and time of every event in a target table.
async fn copied(client: &Client, table: &str) -> Vec<String> {
    let mut copied: Vec<String> = items(client, table)
        .await
        .iter()
        .map(|item| {
            format!(
                "{} {} {} {}",
                text(item, "owner"),
                number(item, "at"),
                text(item, "legacy_id"),
                number(item, "exact")
            )
        })
        .collect();
    copied.sort();
    copied
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dynamodb_table_is_copied_under_a_new_key_and_followed() {
    const EXACT: &str = "1234567890123456789012345678901234567.8";
    let client = client().await;
    table(&client, "Events", &[("id", ScalarAttributeType::S)]).await;
    table(&client, "Teams", &[("team", ScalarAttributeType::S), ("number", ScalarAttributeType::N)]).await;
    let put = async |item: Item| {
        client.put_item().table_name("Events").set_item(Some(item)).send().await.expect("it may");
    };
    for id in ["a", "b", "c"] {
        put(event(id, "o", i64::from(id.as_bytes()[0]))).await;
    }
    let (mut legacy, mut target) = (Database::new().await, Database::new().await);
    (legacy.url, target.url) = (address(), address());
    let rig = Rig::of("copy", legacy, target);
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data");
    let rehome = |arguments: &[&str]| rig.rehome(&[arguments, &["--schemas", data]].concat());
    rehome(&["check", "copy"]).expect(0);
    rehome(&["up", "copy"]).expect(0);
    rehome(&["run", "copy", "--until", "caught-up"]).expect(0);
    let lines = |rows: &[(&str, i64, &str)]| -> Vec<String> {
        rows.iter().map(|(owner, at, id)| format!("{owner} {at} {id} {EXACT}")).collect()
    };
    assert_eq!(copied(&client, "events_by_owner").await, lines(&[("o", 97, "a"), ("o", 98, "b"), ("o", 99, "c")]));

    // While it was stopped: a change, a new key, a delete and a new item, all in the stream.
    put(event("a", "p", 97)).await;
    put(event("d", "o", 5)).await;
    let key = HashMap::from([("id".to_owned(), AttributeValue::S("b".into()))]);
    client.delete_item().table_name("Events").set_key(Some(key)).send().await.expect("it may");
    let mut run = rig.start(&["--schemas", data]);
    let deadline = Instant::now() + Duration::from_secs(60);
    let wanted = lines(&[("o", 5, "d"), ("o", 99, "c"), ("p", 97, "a")]);
    while copied(&client, "events_by_owner").await != wanted {
        run.assert_alive("the changes arrived");
        assert!(Instant::now() < deadline, "{:?}: {}", copied(&client, "events_by_owner").await, run.told());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(run.terminate().code, 0);
    let status = rehome(&["status", "copy", "--json"]).json();
    assert_eq!(status["balanced"], true, "{status}");
    rehome(&["down", "copy", "--yes"]).expect(0);
}

/// The figures of the owners' plan: 87 entries of progress, one script job, five extraction jobs.
#[tokio::test(flavor = "multi_thread")]
async fn a_dump_is_migrated_without_its_database_and_again_when_it_changed() {
    let client = client().await;
    let folder = tempfile::tempdir().expect("a folder");
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mapping/plan003");
    let mut files = Vec::new();
    for name in ["django_content_type", "script_generation_jobs", "problem_extraction_jobs", "job_progress_history"] {
        let file = folder.path().join(format!("{name}.jsonl"));
        std::fs::copy(shipped.join(format!("{name}.jsonl")), &file).expect("a file");
        files.push(file.display().to_string());
    }
    let schemas = schemas::edited(folder.path(), "schemas/jobs", &[("algoitny_main", "loaded_main")]);
    let (legacy, mut target) = (Database::new().await, Database::new().await);
    target.url = address();
    let rig = Rig::of("jobs", legacy, target);
    let load_with = |files: &[String], more: &[&str]| {
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        rig.rehome(&[&["load", "jobs"], files.as_slice(), &["--schemas", &schemas, "--json"], more].concat())
    };
    let load = |files: &[String]| load_with(files, &[]);
    let missing = load(&files[..3]).expect(3);
    assert!(missing.out.contains("job_progress_history"), "{missing:?}");
    let status = load(&files).expect(0).json();
    assert_eq!(status["conservation"]["target"]["written"], 93, "{status}");
    assert_eq!(items(&client, "loaded_main").await.len(), 93);
    // A new dump: one entry less, and the item goes.
    let text = std::fs::read_to_string(&files[3]).expect("a file");
    std::fs::write(&files[3], text.split_once('\n').expect("lines").1).expect("a file");
    load(&files).expect(0);
    assert_eq!(items(&client, "loaded_main").await.len(), 92);
    // A broken line is named, and nothing is lost by it.
    let scripts = std::fs::read_to_string(&files[1]).expect("a file");
    std::fs::write(&files[1], "{\"id\": 1}\n").expect("a file");
    let broken = load(&files).expect(3);
    assert!(broken.out.contains("line 1"), "{broken:?}");
    assert_eq!(items(&client, "loaded_main").await.len(), 92);
    // What is loaded of another file reads otherwise now: it is refused, and taken when a person says so.
    std::fs::write(&files[1], scripts).expect("a file");
    let types = std::fs::read_to_string(&files[0]).expect("a file");
    std::fs::write(&files[0], format!("\n{types}")).expect("a file");
    let changed = load(&files).expect(3);
    assert!(changed.out.contains("--again"), "{changed:?}");
    load_with(&files, &["--again"]).expect(0);
    assert_eq!(items(&client, "loaded_main").await.len(), 92);
    // A table that lost every row may be the wrong file: a person has to say that it is right.
    std::fs::write(&files[3], "").expect("a file");
    let emptied = load(&files).expect(3);
    assert!(emptied.out.contains("--sweep-max"), "{emptied:?}");
    assert_eq!(items(&client, "loaded_main").await.len(), 92);
    // What was loaded before it halted is not loaded again.
    let captured =
        |status: &serde_json::Value| status["conservation"]["events"]["script_generation_jobs"]["captured"].clone();
    let before = captured(&rig.rehome(&["status", "jobs", "--schemas", &schemas, "--json"]).json());
    let status = load_with(&files, &["--sweep-max", "18446744073709551615"]).expect(0).json();
    assert_eq!(items(&client, "loaded_main").await.len(), 6);
    assert_eq!((captured(&status), before.is_u64()), (before.clone(), true), "{status}");
    let refused = rig.rehome(&["run", "jobs", "--schemas", &schemas]).expect(3);
    assert!(refused.err.contains("loaded from dumps"), "{refused:?}");
}

/// Puts and deletes of a few ids, so that most writes meet an earlier one; owners change, and with them the new key.
async fn write_events(client: Client, table: &str, seed: u64, count: usize) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    for _ in 0..count {
        let id = format!("e{}", random.random_range(0..40));
        if random.random_ratio(1, 3) {
            let key = HashMap::from([("id".to_owned(), AttributeValue::S(id))]);
            client.delete_item().table_name(table).set_key(Some(key)).send().await.expect("it may");
            continue;
        }
        // The time tells ids apart, so that no two events have one new key.
        let at = id[1..].parse().expect("a number");
        let mut item = event(&id, &format!("o{}", random.random_range(0..4)), at);
        if random.random_ratio(1, 8) {
            item.remove("owner");
        }
        client.put_item().table_name(table).set_item(Some(item)).send().await.expect("it may");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_from_dynamodb_killed_under_live_writers_loses_nothing_and_doubles_nothing() {
    let client = client().await;
    let folder = tempfile::tempdir().expect("a folder");
    let tables =
        [("\"Events\"", "\"EventsKilled\""), ("events_by_owner", "killed_by_owner"), ("\"Teams\"", "\"TeamsKilled\"")];
    let schemas = schemas::edited(folder.path(), "tests/data/copy", &tables);
    table(&client, "EventsKilled", &[("id", ScalarAttributeType::S)]).await;
    table(&client, "TeamsKilled", &[("team", ScalarAttributeType::S), ("number", ScalarAttributeType::N)]).await;
    write_events(client.clone(), "EventsKilled", 1, 60).await;
    let (mut legacy, mut target) = (Database::new().await, Database::new().await);
    (legacy.url, target.url) = (address(), address());
    let rig = Rig::of("copy", legacy, target);
    let with = |arguments: &[&str]| rig.rehome(&[arguments, &["--schemas", &schemas]].concat());
    with(&["up", "copy"]).expect(0);
    let writer = tokio::spawn(write_events(client.clone(), "EventsKilled", 2, 900));
    let mut random = ChaCha8Rng::seed_from_u64(3);
    for _ in 0..4 {
        let run = rig.start(&["--schemas", &schemas]);
        // When the kill comes is the randomness under test.
        tokio::time::sleep(Duration::from_millis(random.random_range(300..2500))).await;
        run.kill();
    }
    writer.await.expect("no panic");
    let source = items(&client, "EventsKilled").await;
    let unmapped = source.iter().filter(|item| !item.contains_key("owner")).count();
    let mut wanted: Vec<String> = source
        .iter()
        .filter(|item| item.contains_key("owner"))
        .map(|item| {
            format!("{} {} {} {}", text(item, "owner"), &text(item, "id")[1..], text(item, "id"), number(item, "exact"))
        })
        .collect();
    wanted.sort();
    assert!(wanted.len() > 5 && unmapped > 0, "{wanted:?} {unmapped}");
    let mut run = rig.start(&["--schemas", &schemas]);
    let deadline = Instant::now() + Duration::from_secs(90);
    while copied(&client, "killed_by_owner").await != wanted {
        run.assert_alive("the target equals the source");
        assert!(Instant::now() < deadline, "{:?}, wanted {wanted:?}", copied(&client, "killed_by_owner").await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(run.terminate().code, 0);
    let status = with(&["status", "copy", "--json"]).json();
    assert_eq!(status["balanced"], true, "{status}");
    let rows = &status["conservation"]["rows"]["EventsKilled"];
    assert_eq!(rows["quarantined"]["malformed"].as_u64(), Some(unmapped as u64), "{status}");
    assert_eq!(rows["mapped"].as_u64(), Some(wanted.len() as u64), "{status}");
    let listed = with(&["quarantine", "list", "copy"]).expect(2);
    assert!(listed.out.contains("malformed"), "{listed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_that_is_too_large_is_parked_and_follows_when_it_has_shrunk() {
    let client = client().await;
    let folder = tempfile::tempdir().expect("a folder");
    let schemas = schemas::edited(folder.path(), "schemas/jobs", &[("algoitny_main", "large_main")]);
    let (mut legacy, mut target) = (Database::new().await, Database::new().await);
    legacy.run(LEGACY).await;
    legacy.run(script(1, "one") + &script(2, "two")).await;
    // With everything else in it just over 400 KB.
    legacy.run("update script_generation_jobs set solution_code = repeat('x', 409500) where id = 1").await;
    target.url = address();
    let mut rig = Rig::of("jobs", legacy, target);
    let with = |rig: &Rig, arguments: &[&str]| rig.rehome(&[arguments, &["--schemas", &schemas]].concat());
    with(&rig, &["up", "jobs"]).expect(0);
    with(&rig, &["run", "jobs", "--until", "caught-up"]).expect(2);
    let parked = with(&rig, &["quarantine", "list", "jobs", "--json"]).expect(2).json();
    assert_eq!(parked[0]["unit"], "script:1", "{parked}");
    assert_eq!(parked[0]["result"]["reason"], "item_too_large", "{parked}");
    let status = with(&rig, &["status", "jobs", "--json"]).json();
    assert_eq!(status["balanced"], true, "{status}");
    assert_eq!(status["conservation"]["target"]["parked"], 1, "{status}");
    assert_eq!(items(&client, "large_main").await.len(), 1, "the other is not held up");
    assert_ne!(with(&rig, &["diff", "jobs", "script:1"]).code, 0, "what is parked is not equal");

    rig.legacy.run("update script_generation_jobs set solution_code = repeat('x', 400000) where id = 1").await;
    with(&rig, &["run", "jobs", "--until", "caught-up"]).expect(0);
    assert_eq!(items(&client, "large_main").await.len(), 2);
    // One that was written grows: it stays as it was, and that is told.
    rig.legacy.run("update script_generation_jobs set solution_code = repeat('x', 409500) where id = 2").await;
    with(&rig, &["run", "jobs", "--until", "caught-up"]).expect(2);
    assert_eq!(items(&client, "large_main").await.len(), 2);
    assert_ne!(with(&rig, &["diff", "jobs", "script:2"]).code, 0, "what is parked is not equal");
    let status = with(&rig, &["status", "jobs", "--json"]).json();
    assert_eq!(
        (&status["balanced"], &status["conservation"]["target"]["parked"]),
        (&true.into(), &1.into()),
        "{status}"
    );
}

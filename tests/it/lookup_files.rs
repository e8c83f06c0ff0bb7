//! A lookup that an operator wrote down, beside a live source and beside dumps.

use std::path::Path;

use crate::support::cluster::Database;
use crate::support::dynamo::{address, client, items, text};
use crate::support::jobs::{LEGACY, progress, script};
use crate::support::rig::{Outcome, Rig};
use crate::support::schemas::{edited, labelled};

const TYPES: &str = "model,id,app_label\nscriptgenerationjob,11,api\nproblemextractionjob,12,\"\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_file_stands_for_a_lookup_and_what_goes_from_it_goes() {
    let client = client().await;
    let folder = tempfile::tempdir().expect("a folder");
    let schemas = edited(folder.path(), "schemas/jobs", &[("algoitny_main", "file_main")]);
    let file = folder.path().join("types.csv");
    let write = |text: &str| std::fs::write(&file, text).expect("a file");
    let given = format!("types={}", file.display());
    let (mut legacy, mut target) = (Database::new().await, Database::new().await);
    legacy.run(LEGACY).await;
    legacy.run("drop table django_content_type").await;
    legacy.run(script(1, "one")).await;
    legacy.run(progress(1, 11, 1, "2024-10-09T04:03:46+00") + &progress(2, 12, 9, "2024-10-09T04:03:47+00")).await;
    target.url = address();
    let mut rig = Rig::of("jobs", legacy, target);
    let with = |rig: &Rig, arguments: &[&str]| rig.rehome(&[arguments, &["--schemas", &schemas]].concat());
    let written = async || items(&client, "file_main").await.len();

    let missing = with(&rig, &["up", "jobs"]).expect(3);
    assert!(missing.err.contains("public.django_content_type: there is no such table"), "{missing:?}");
    let refused = |rig: &Rig, lookup: &str| -> Outcome { with(rig, &["up", "jobs", "--lookup", lookup]).expect(3) };
    write("id,model,app_label\n11,scriptgenerationjob,api\n12,problemextractionjob\n");
    let broken = refused(&rig, &given);
    assert!(broken.err.contains("line 3 of") && broken.err.contains("it has 2 fields"), "{broken:?}");
    assert!(refused(&rig, &format!("scripts={}", file.display())).err.contains("belong to units"));
    assert!(refused(&rig, &format!("typs={}", file.display())).err.contains("no such table"));
    assert!(refused(&rig, "types=/no/such/file").err.contains("cannot open /no/such/file"));
    write(TYPES);
    with(&rig, &["check", "jobs", "--lookup", &given]).expect(0);
    with(&rig, &["up", "jobs", "--lookup", &given]).expect(0);
    let mut run = rig.start(&["--schemas", &schemas, "--lookup", &given]);
    let status = rig.settled(&mut run).await;
    assert_eq!(status["files"][0]["rows"], 2, "{status}");
    assert_eq!(status["conservation"]["rows"]["django_content_type"]["lookup"], 2, "{status}");
    assert_eq!(status["balanced"], true, "{status}");
    assert_eq!(written().await, 3);
    assert_eq!(with(&rig, &["diff", "jobs", "script:1"]).code, 0);
    let (summary, _) = crate::reconcile::reconcile_with(&rig, &["--schemas", &schemas], 0);
    assert_eq!(summary["sources"][0]["lookup"], 2, "the file's rows: {summary}");
    // What the stream tells finds its way through the file's rows too.
    rig.legacy.run(progress(3, 11, 1, "2024-10-09T04:03:48+00")).await;
    rig.settled(&mut run).await;
    assert_eq!(written().await, 4);
    assert_eq!(run.terminate().code, 0);

    let forgotten = with(&rig, &["run", "jobs", "--until", "caught-up"]).expect(3);
    assert!(forgotten.err.contains("--lookup django_content_type=live"), "{forgotten:?}");
    // A type goes, another gets a new number: rows that asked for them follow.
    write("id,model,app_label\n12,scriptgenerationjob,api\n");
    let caught_up = |rig: &Rig| with(rig, &["run", "jobs", "--until", "caught-up", "--lookup", &given]);
    let changed = with(&rig, &["diff", "jobs", "script:1"]).expect(3);
    assert!(changed.err.contains("has changed"), "{changed:?}");
    caught_up(&rig).expect(2);
    let after = items(&client, "file_main").await;
    let mut after: Vec<_> =
        after.iter().map(|item| text(item, "PK").rsplit_once('#').map_or("", |(kind, _)| kind)).collect();
    after.sort_unstable();
    assert_eq!(after, ["JOB#generation", "SGJOB"], "entry 2 is a script's now, 1 and 3 are nobody's");
    let status = with(&rig, &["status", "jobs", "--json"]).json();
    assert_eq!(
        status["conservation"]["rows"]["job_progress_history"]["quarantined"]["unknown_content_type"], 2,
        "{status}"
    );
    assert_eq!(status["conservation"]["rows"]["django_content_type"]["lookup"], 1, "{status}");
    assert_eq!(status["balanced"], true, "{status}");
    // A broken file leaves everything as it was.
    write("id,model,app_label\n11,scriptgenerationjob,api\nx,problemextractionjob,api\n");
    let broken = caught_up(&rig).expect(3);
    assert!(broken.err.contains("line 3 of") && !broken.err.contains("problemextractionjob"), "{broken:?}");
    assert_eq!(written().await, 2);

    // The table comes back, and is read from the source again.
    rig.legacy
        .run("create table django_content_type (id integer primary key, app_label varchar not null, model varchar not null); \
              insert into django_content_type values (11, 'api', 'scriptgenerationjob'), (12, 'api', 'problemextractionjob')")
        .await;
    with(&rig, &["run", "jobs", "--until", "caught-up", "--lookup", "types=live"]).expect(0);
    assert_eq!(written().await, 4);
    let status = with(&rig, &["status", "jobs", "--json"]).json();
    assert_eq!((&status["files"], &status["balanced"]), (&serde_json::json!([]), &true.into()), "{status}");
    with(&rig, &["run", "jobs", "--until", "caught-up"]).expect(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_stands_for_a_lookup_beside_dumps() {
    let client = client().await;
    let folder = tempfile::tempdir().expect("a folder");
    let schemas = edited(folder.path(), "schemas/jobs", &[("algoitny_main", "file_dump_main")]);
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mapping/plan003");
    let read = |name: &str| std::fs::read_to_string(shipped.join(name)).expect("a file");
    let mut lines = String::from("id,app_label,model\n");
    for line in read("django_content_type.jsonl").lines() {
        let row: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let part = |name: &str| row[name].as_str().expect("text").to_owned();
        lines.push_str(&format!("{},{},{}\n", row["id"], part("app_label"), part("model")));
    }
    let file = folder.path().join("types.csv");
    std::fs::write(&file, &lines).expect("a file");
    let dumps = ["script_generation_jobs", "problem_extraction_jobs", "job_progress_history"]
        .map(|name| shipped.join(format!("{name}.jsonl")).display().to_string());
    let (legacy, mut target) = (Database::new().await, Database::new().await);
    target.url = address();
    let rig = Rig::of("jobs", legacy, target);
    let given = format!("django_content_type={}", file.display());
    let load = || {
        let dumps: Vec<&str> = dumps.iter().map(String::as_str).collect();
        rig.rehome(
            &[&["load", "jobs"], dumps.as_slice(), &["--lookup", &given, "--schemas", &schemas, "--json"]].concat(),
        )
    };
    let status = load().expect(0).json();
    assert_eq!(status["conservation"]["target"]["written"], 93, "{status}");
    assert_eq!(items(&client, "file_dump_main").await.len(), 93);
    // Loaded again with one type less: its entries are nobody's.
    let fewer: Vec<&str> = lines.lines().filter(|line| !line.contains("scriptgenerationjob")).collect();
    assert_eq!(fewer.len(), lines.lines().count() - 1);
    std::fs::write(&file, fewer.join("\n")).expect("a file");
    let status = load().expect(2).json();
    assert_eq!(status["balanced"], true, "{status}");
    assert!(items(&client, "file_dump_main").await.len() < 93);
}

/// A load that was cut off had the file; the one that goes on has a dump in its place, which says otherwise.
#[tokio::test(flavor = "multi_thread")]
async fn a_dump_that_takes_the_place_of_a_lookup_s_file_counts_whole() {
    let mut rig = Rig::of("labelled", Database::new().await, Database::new().await);
    let names = "[table.names]\nkey = [\"code\"]\nrole = \"lookup\"\n\
        columns = { code = \"text not null\", label = \"text not null\" }\n";
    let named = "[reference.named]\ntable = \"names\"\nmatch = [\".code\"]\nselect = { label = \".label\" }\n\
        by.things = [\".code\"]\n";
    let schemas = labelled(rig.folder.path(), names, named, "{ first = [\"@named.label\", \"unknown\"] }");
    let file = |name: &str, text: &str| {
        let path = rig.folder.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path.display().to_string()
    };
    let csv = format!("names={}", file("names.csv", "code,label\na,old a\nb,old b\nd,old d\n"));
    let things = file("things.jsonl", "{\"id\": 1, \"code\": \"a\"}\nbroken\n");
    rig.rehome(&["load", "labelled", &things, "--lookup", &csv, "--schemas", &schemas]).expect(3);
    let rows = [(1, "a"), (2, "b"), (3, "c"), (4, "d")];
    let rows = rows.map(|(id, code)| format!("{{\"id\": {id}, \"code\": \"{code}\"}}\n")).concat();
    let things = file("things.jsonl", &rows);
    let dump = [("a", "old a"), ("b", "new b"), ("c", "new c")];
    let dump = dump.map(|(code, label)| format!("{{\"code\": \"{code}\", \"label\": \"{label}\"}}\n")).concat();
    let dump = file("names.jsonl", &dump);
    rig.rehome(&["load", "labelled", &things, &dump, "--schemas", &schemas]).expect(0);
    let labels = rig.target.texts("select label from labels order by id").await;
    assert_eq!(labels, ["old a", "new b", "new c", "unknown"], "as the dump says");
}

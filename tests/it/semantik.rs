//! Jobs become collections, live: documents are found through their jobs, sums are kept, groups take rows back.

use crate::support::cluster::Database;
use crate::support::rig::{Rig, Run};

/// The legacy tables, as their owners had them.
const LEGACY: &str = "create table users (id integer primary key, username text not null); \
    create table jobs (id text primary key, name text not null, description text, status text not null, \
      created_at text not null, updated_at text not null, directory_path text not null, model_name text, \
      chunk_size integer, chunk_overlap integer, batch_size integer, vector_dim integer, quantization text, \
      instruction text, error text, user_id integer, parent_job_id text, job_type text, start_time text); \
    create table documents (id bigint primary key, job_id text not null, path text not null, size bigint not null, \
      modified text not null, extension text not null, content_hash text, doc_id text, status text not null, error text, \
      chunks_created integer not null, created_at text not null); \
    create index ix_documents_job on documents (job_id); \
    insert into users values (1, 'one'), (2, 'two')";

const JOB: &str =
    "insert into jobs (id, name, status, created_at, updated_at, directory_path, user_id, model_name, job_type) values";
const DOCUMENT: &str = "insert into documents (id, job_id, path, size, modified, extension, content_hash, status, chunks_created, created_at) values";

fn job(id: &str, path: &str, owner: i64) -> String {
    format!(
        "{JOB} ('{id}', 'n', 'completed', '2025-07-01T10:00:00+00:00', '2025-07-01T11:00:00', '{path}', {owner}, 'm', 'index');"
    )
}

fn document(id: i64, job: &str, hash: &str, size: i64) -> String {
    format!(
        "{DOCUMENT} ({id}, '{job}', '/d/{id}.txt', {size}, '2025-07-01', '.txt', '{hash}', 'completed', 2, \
         '2025-07-02T00:00:{:02}');",
        id % 60
    )
}

pub(crate) async fn rig() -> Rig {
    rig_of(Database::new().await, Database::new().await).await
}

/// As [`rig`], in two empty databases.
pub(crate) async fn rig_of(mut legacy: Database, mut target: Database) -> Rig {
    legacy.run(LEGACY).await;
    target.run("create table users (id integer primary key); insert into users values (1), (2)").await;
    let rig = Rig::of("semantik", legacy, target);
    rig.rehome(&["up", "semantik"]).expect(0);
    rig
}

/// Owner, documents and bytes of each collection.
const COLLECTIONS: &str = "select owner_id || ' ' || document_count || ' ' || total_size_bytes || ' ' || vector_count from collections order by owner_id";
/// Owner of the collection, path and source of each document.
const DOCUMENTS: &str = "select c.owner_id || ' ' || d.file_name || ' ' || s.source_path from documents_v2 d \
    join collections c on c.id = d.collection_id left join collection_sources s on s.id = d.source_id order by d.file_name";

async fn settled(rig: &mut Rig, run: &mut Run) -> serde_json::Value {
    let status = rig.settled(run).await;
    assert_eq!(status["balanced"], true, "{status}");
    status
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_follow_their_jobs_and_sums_follow_the_documents() {
    let mut rig = rig().await;
    // Documents come before their jobs, in the snapshot and live.
    rig.legacy.run(document(1, "a", "h1", 10) + &document(2, "a", "h2", 20) + &document(3, "a", "h1", 10)).await;
    rig.legacy.run(document(4, "late", "h1", 5)).await;
    rig.legacy.run(job("a", "/p", 1)).await;
    let mut run = rig.start(&[]);
    settled(&mut rig, &mut run).await;
    assert_eq!(rig.target.texts(COLLECTIONS).await, ["1 2 30 4"], "the same content twice counts once");
    assert_eq!(rig.target.texts(DOCUMENTS).await, ["1 1.txt /p", "1 2.txt /p"]);
    let listed = rig.rehome(&["quarantine", "list", "semantik", "--json"]).expect(2).json();
    assert_eq!(listed[0]["result"]["reason"], "orphan_document", "{listed}");
    assert_eq!((&listed[0]["rows"][0]["table"], &listed[0]["rows"][0]["key"]), (&"documents".into(), &"4".into()));

    // What the owners' list wants to be looked at: collections, documents of each, operations by status.
    let ask = |arguments: &[&str]| {
        rig.rehome(&[&["query", "semantik"], arguments, &["--json"]].concat()).expect(0).json()["rows"].clone()
    };
    let collections = ask(&["collections"]);
    assert_eq!((&collections[0]["row"]["document_count"], &collections[1]), (&2.into(), &serde_json::Value::Null));
    let documents = ask(&["documents", collections[0]["row"]["id"].as_str().expect("an id")]);
    assert_eq!(documents.as_array().map(Vec::len), Some(2), "{documents}");
    let operations = ask(&["operations-in", "completed"]);
    assert_eq!(operations[0]["row"]["collection_id"], collections[0]["row"]["id"], "{operations}");
    assert_eq!(ask(&["operations-in", "failed"]).as_array().map(Vec::len), Some(0));
    let operation = ask(&["operation", operations[0]["row"]["uuid"].as_str().expect("an id")]);
    assert_eq!(operation[0]["row"]["meta"]["job_id"], "a", "{operation}");

    // The job of the orphan appears: it is released into a collection of another owner.
    rig.legacy.run(job("late", "/q", 2)).await;
    settled(&mut rig, &mut run).await;
    assert_eq!(rig.target.texts(COLLECTIONS).await, ["1 2 30 4", "2 1 5 2"]);
    rig.rehome(&["quarantine", "list", "semantik"]).expect(0);

    // The earliest of two equal documents goes: the other one takes its place.
    rig.legacy.run("delete from documents where id = 1").await;
    settled(&mut rig, &mut run).await;
    assert_eq!(rig.target.texts(DOCUMENTS).await, ["1 2.txt /p", "1 3.txt /p", "2 4.txt /q"]);
    assert_eq!(rig.target.texts(COLLECTIONS).await, ["1 2 30 4", "2 1 5 2"]);

    // A job goes to another owner, and its documents with it; equal content there is dropped.
    rig.legacy.run("update jobs set user_id = 1 where id = 'late'").await;
    settled(&mut rig, &mut run).await;
    assert_eq!(rig.target.texts(COLLECTIONS).await, ["1 2 30 4"], "owner 2 has no collection left");
    rig.legacy.run("update documents set content_hash = 'h9' where id = 4; update jobs set directory_path = '/r' where id = 'late'").await;
    settled(&mut rig, &mut run).await;
    assert_eq!(rig.target.texts(DOCUMENTS).await, ["1 2.txt /p", "1 3.txt /p", "1 4.txt /r"]);
    assert_eq!(rig.target.texts(COLLECTIONS).await, ["1 3 35 6"]);

    // A job that cannot be mapped takes its documents out, and brings them back.
    rig.legacy.run("update jobs set status = 'lost' where id = 'a'").await;
    settled(&mut rig, &mut run).await;
    assert_eq!(rig.target.texts(COLLECTIONS).await, ["1 1 5 2"]);
    rig.legacy.run("update jobs set status = 'failed' where id = 'a'").await;
    settled(&mut rig, &mut run).await;
    assert_eq!(rig.target.texts(COLLECTIONS).await, ["1 3 35 6"]);
    let (code, verdict) = rig.diff("1:m");
    assert_eq!((code, verdict.as_str()), (0, "MATCH"));

    // Corruption is found; a retry of the unit mends it.
    rig.target.run("update documents_v2 set file_size = 1 where file_name = '3.txt'").await;
    assert_eq!(rig.diff("1:m"), (1, "MISMATCH".to_owned()));
    rig.rehome(&["quarantine", "retry", "semantik", "1:m"]).expect(0);
    settled(&mut rig, &mut run).await;
    assert_eq!(rig.diff("1:m"), (0, "MATCH".to_owned()));

    // After a crash and with a state built anew from the log all is as it was.
    run.kill();
    std::fs::remove_dir_all(rig.state().join("state")).expect("a state");
    rig.legacy.run("delete from jobs; insert into documents select 100 + i, 'a', '/z', 1, '', '', 'z' || i, null, 'pending', null, 0, '2025-01-01' from generate_series(1, 3) i").await;
    rig.rehome(&["run", "semantik", "--until", "caught-up"]).expect(2);
    assert_eq!(rig.target.texts(COLLECTIONS).await, Vec::<String>::new());
    assert_eq!(rig.target.texts(DOCUMENTS).await, Vec::<String>::new());
    assert_eq!(rig.status()["balanced"], true);
}

/// More documents than are written at once: the collection goes before them and with each of its batches, and its
/// deletes come last.
#[tokio::test(flavor = "multi_thread")]
async fn a_collection_of_ten_thousand_documents_survives_kills_moves_and_goes() {
    const MANY: &str = "insert into documents select i, 'a', '/d/' || i, 3, '', '.txt', 'h' || i, null, 'completed', null, 1, \
        '2025-07-02T00:00:00' from generate_series(1, 10000) i";
    let mut rig = rig().await;
    rig.legacy.run(job("a", "/p", 1) + &job("other", "/q", 1)).await;
    rig.legacy.run(MANY).await;
    for wanted in ["0", "4000", "9000"] {
        let mut run = rig.start(&["--batch-parts", "3000"]);
        // Killed while the collection is written, batch by batch; how far it gets is not the point.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(120);
        let written = format!("select (count(*) > {wanted})::text from documents_v2");
        while rig.target.text(&written).await != "true" {
            run.assert_alive("documents arrived");
            assert!(std::time::Instant::now() < deadline, "no documents: {}", run.told());
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        run.kill();
        let there: u64 = rig.target.text("select count(*)::text from documents_v2").await.parse().expect("a number");
        let part_of_it = there < 10_000;
        assert!(part_of_it || wanted == "9000", "{there} at once");
    }
    // While it was down: one goes, one comes, one is of a kind that cannot be mapped.
    rig.legacy.run("delete from documents where id = 7; update documents set status = 'odd' where id = 8").await;
    rig.legacy.run(document(20_000, "a", "new", 3)).await;
    let mut run = rig.start(&[]);
    settled(&mut rig, &mut run).await;
    assert_eq!(rig.target.texts(COLLECTIONS).await, ["1 9999 29997 10000"]);
    let listed = rig.rehome(&["quarantine", "list", "semantik", "--json"]).expect(2).json();
    assert_eq!(listed[0]["rows"][0]["reason"], "unknown_document_status", "{listed}");
    assert_eq!(rig.diff("1:m"), (2, "INCOMPLETE".to_owned()), "a document of it is in quarantine");

    // All of them move to another owner, whose collection is made for them; then their job goes.
    rig.legacy.run("update jobs set user_id = 2 where id = 'a'").await;
    let status = settled(&mut rig, &mut run).await;
    assert_eq!(rig.target.texts(COLLECTIONS).await, ["1 0 0 0", "2 9999 29997 10000"], "{status}");
    rig.legacy.run("delete from jobs").await;
    let status = settled(&mut rig, &mut run).await;
    assert_eq!(rig.target.texts(COLLECTIONS).await, Vec::<String>::new(), "{status}");
    assert_eq!(rig.target.text("select count(*)::text from documents_v2").await, "0");
    assert_eq!(status["progress"]["parked"]["foreign_children"], serde_json::Value::Null, "deletes waited: {status}");
    let orphans = &status["conservation"]["rows"]["documents"]["quarantined"]["orphan_document"];
    assert_eq!(orphans, 10_000, "{status}");
    assert_eq!(status["conservation"]["units"]["waiting"], serde_json::Value::Null, "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_the_mapping_needs_and_the_target_lacks_is_told_before_anything_is_written() {
    let mut legacy = Database::new().await;
    legacy.run(LEGACY).await;
    let mut rig = Rig::of("semantik", legacy, Database::new().await);
    let check = |rig: &Rig| rig.rehome(&["check", "semantik"]);
    let no_table = check(&rig).expect(1);
    assert!(
        no_table.out.contains("error: target table users: a row that the mapping needs cannot be looked for"),
        "{no_table:?}"
    );
    rig.target.run("create table users (id integer primary key); insert into users values (2)").await;
    let lacking = check(&rig).expect(1);
    assert!(lacking.out.contains("error: target table users: it has no row with id = 1"), "{lacking:?}");
    let up = rig.rehome(&["up", "semantik"]).expect(0);
    assert!(up.out.contains("it has no row with id = 1, which the mapping needs"), "{up:?}");
    rig.target.run("insert into users values (1)").await;
    assert_eq!(check(&rig).expect(0).out.matches("error").count(), 0);
    assert!(!rig.rehome(&["up", "semantik"]).expect(0).out.contains("which the mapping needs"));
}

/// With another mapping the same rows belong to other units. What was written of the earlier ones is known to the target alone.
#[tokio::test(flavor = "multi_thread")]
async fn units_that_a_new_mapping_does_not_know_leave_nothing_behind() {
    let mut rig = rig().await;
    rig.legacy
        .run(job("a", "/p", 1) + &job("b", "/q", 2) + &document(1, "a", "h1", 10) + &document(2, "b", "h2", 20))
        .await;
    rig.catch_up();
    assert_eq!(rig.target.texts(COLLECTIONS).await, ["1 1 10 2", "2 1 20 2"]);
    let before = rig.target.texts("select id from collections order by 1").await;
    let folder = tempfile::tempdir().expect("a folder");
    let edit = [(
        "model = { first = [\".model_name\", \"@default_model\"] }",
        "model = { first = [\"@default_model\", \".model_name\"] }",
    )];
    let schemas = crate::support::schemas::edited(folder.path(), "schemas/semantik", &edit);
    rig.rehome(&["run", "semantik", "--until", "caught-up", "--schemas", &schemas]).expect(0);
    let after = rig.target.texts("select id from collections order by 1").await;
    assert_eq!(after.len(), 2);
    assert!(before.iter().all(|id| !after.contains(id)), "{before:?} {after:?}");
    assert_eq!(rig.target.texts(DOCUMENTS).await, ["1 1.txt /p", "2 2.txt /q"]);
    assert_eq!(
        rig.target
            .texts("select count(*)::text from operations where collection_id not in (select id from collections)")
            .await,
        ["0"]
    );
    crate::reconcile::reconcile_with(&rig, &["--schemas", &schemas], 0);
    // The rows of their jobs are followed by the parts that have them now.
    rig.legacy.run("delete from documents where id = 1; delete from jobs where id = 'a'").await;
    rig.rehome(&["run", "semantik", "--until", "caught-up", "--schemas", &schemas]).expect(0);
    assert_eq!(rig.target.texts(COLLECTIONS).await, ["2 1 20 2"]);
    assert_eq!(rig.target.texts("select count(*)::text from operations").await, ["1"]);
    crate::reconcile::reconcile_with(&rig, &["--schemas", &schemas], 0);
}

//! Everything is compared, through the mapping, beside a running projection.

use serde_json::Value;

use crate::reconcile_faults::server;
use crate::support::rig::Rig;

/// The summary of a comparison, and the discrepancies of its report.
pub(crate) fn reconcile(rig: &Rig, code: i32) -> (Value, Vec<Value>) {
    reconcile_with(rig, &[], code)
}

/// As [`reconcile`], with further arguments.
pub(crate) fn reconcile_with(rig: &Rig, arguments: &[&str], code: i32) -> (Value, Vec<Value>) {
    let (found, summary, listed) = try_reconcile(rig, &[&["--patience", "60"], arguments].concat());
    assert_eq!(found, code, "{summary}");
    (summary, listed)
}

/// As [`reconcile_with`], whatever comes of it: the exit code first.
pub(crate) fn try_reconcile(rig: &Rig, arguments: &[&str]) -> (i32, Value, Vec<Value>) {
    let reports = tempfile::tempdir().expect("a folder");
    let path = reports.path().to_str().expect("text");
    let outcome = rig.rehome(&[&["reconcile", rig.migration, "--json", "--reports", path], arguments].concat());
    assert!(outcome.code < 3, "{outcome:?}");
    let summary = outcome.json();
    let night = std::fs::read_dir(reports.path().join(rig.migration)).expect("reports").flatten();
    let night = night.map(|entry| entry.path()).find(|path| path.join("discrepancies.jsonl").exists());
    let night = night.expect("a night");
    for file in ["summary.json", "report.html", "report.md", "certificate.json"] {
        assert!(night.join(file).exists(), "{file}");
    }
    let lines = std::fs::read_to_string(night.join("discrepancies.jsonl")).expect("lines");
    let listed = lines.lines().map(|line| serde_json::from_str(line).expect("a line")).collect();
    (outcome.code, summary, listed)
}

/// The classes of a target table's rows, on both sides.
fn classes(summary: &Value, table: &str) -> (Value, Value) {
    let targets = summary["targets"].as_array().expect("tables");
    let target = targets.iter().find(|target| target["table"] == table).expect("the table");
    (target["expected"]["classes"].clone(), target["read"]["classes"].clone())
}

/// Twenty jobs of two owners, and three thousand documents of theirs.
const FILL: &str = "insert into jobs (id, name, status, created_at, updated_at, directory_path, user_id, model_name, job_type) \
      select 'job' || i, 'n', 'completed', '2025-07-01T10:00:00+00:00', '2025-07-01T11:00:00', '/d/' || i, 1 + i % 2, \
      'm', 'index' from generate_series(1, 20) i; \
    insert into documents select i, 'job' || (1 + i % 20), '/d/' || i, 3, '', '.txt', 'h' || i, null, 'completed', null, 1, \
      '2025-07-02T00:00:00' from generate_series(1, 3000) i";

async fn rig() -> Rig {
    let mut rig = crate::semantik::rig().await;
    rig.legacy.run(FILL).await;
    rig
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_migration_is_compared_and_every_kind_of_damage_found() {
    let mut rig = rig().await;
    let mut run = rig.start(&[]);
    rig.settled(&mut run).await;
    let (answer, listed) = reconcile(&rig, 0);
    let summary = &answer;
    assert_eq!(summary["verdict"], "MATCH", "{summary}");
    assert_eq!(summary["grade"], "proven");
    assert_eq!(classes(summary, "documents_v2").0["matched"], 3000, "{summary}");
    let planted: u64 =
        summary["canaries"].as_array().expect("classes").iter().filter_map(|class| class["planted"].as_u64()).sum();
    assert!(planted > 30, "{summary}");
    assert_eq!(listed, Vec::<Value>::new());
    let ledger = summary["ledger"].as_array().expect("a ledger");
    let read = ledger.iter().find(|entry| entry["side"] == "target" && entry["table"] == "documents_v2");
    let blocks: i64 =
        rig.target.text("select (pg_relation_size('documents_v2') / 8192)::text").await.parse().expect("a number");
    assert_eq!(read.expect("the table")["pages"].as_i64(), Some(blocks), "{summary}");

    rig.target.run("update documents_v2 set file_size = 1 where file_name = '7'; \
        delete from documents_v2 where file_name in ('8', '9'); \
        insert into documents_v2 select (jsonb_populate_record(d, '{\"id\": \"11111111-1111-1111-1111-111111111111\", \"content_hash\": \"x\"}')).* \
        from documents_v2 d where file_name = '10'").await;
    let (answer, listed) = reconcile(&rig, 1);
    let summary = &answer;
    assert_eq!(summary["verdict"], "MISMATCH", "{summary}");
    let (expected, actual) = classes(summary, "documents_v2");
    assert_eq!((&expected["missing"], &expected["changed"]), (&2.into(), &1.into()), "{summary}");
    assert_eq!((&actual["foreign"], &actual["changed"]), (&1.into(), &1.into()), "{summary}");
    assert_eq!(listed.len(), 4, "{answer}");
    let changed = listed.iter().find(|found| found["kind"] == "changed");
    let changed = changed.expect("the changed one");
    assert_eq!(changed["fields"][0]["field"], "file_size", "{changed}");
    assert_eq!(changed["state"], "confirmed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_of_whose_rows_are_ours_that_does_not_read_is_no_record_of_anothers() {
    let mut rig = rig().await;
    rig.catch_up();
    rig.target.run("update rehome.units set owned = '\\xff00' where ctid = (select min(ctid) from rehome.units)").await;
    let reports = tempfile::tempdir().expect("a folder");
    let path = reports.path().to_str().expect("text");
    let told = rig.rehome(&["reconcile", rig.migration, "--reports", path]).expect(3);
    assert!(told.err.contains("rehome.units"), "{told:?}");
}

/// Changes of documents, one transaction each, until told to stop; answers how many there were.
async fn write(mut connection: sqlx::PgConnection, stop: std::sync::Arc<std::sync::atomic::AtomicBool>) -> u64 {
    let mut count = 0;
    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
        let id = 10_000 + count;
        let (job, other) = (1 + count % 20, 1 + (count * 7) % 3_000);
        let statement = match count % 4 {
            0 | 1 => format!(
                "insert into documents values ({id}, 'job{job}', '/l/{id}', 5, '', '.txt', 'l{id}', null, 'completed', null, 2, \
                 '2025-07-02T00:00:00')"
            ),
            2 => format!("update documents set size = size + 1 where id = {other} and id <> 7"),
            _ => format!("delete from documents where id = {}", id - 20),
        };
        crate::support::cluster::run(&mut connection, statement).await;
        count += 1;
        // As many as a projection without optimisations keeps up with.
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    count
}

/// While both sides change all the time there is no false alarm; a fault that was put there is found; quiet again, all is well.
#[tokio::test(flavor = "multi_thread")]
async fn under_live_writes_nothing_is_called_wrong_but_what_is() {
    let mut rig = rig().await;
    let mut run = rig.start(&[]);
    rig.settled(&mut run).await;
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let writer = tokio::spawn(write(rig.legacy.connect().await, std::sync::Arc::clone(&stop)));
    for _ in 0..2 {
        let (code, summary, listed) = tokio::task::block_in_place(|| try_reconcile(&rig, &["--patience", "8"]));
        let confirmed: Vec<&Value> = listed.iter().filter(|found| found["state"] == "confirmed").collect();
        assert!(confirmed.is_empty() && code != 1, "a false alarm: {confirmed:?} {summary}");
    }
    // Document 7 is left alone by the writer, but not its collection.
    rig.target.run("update documents_v2 set file_size = 1 where file_name = '7'").await;
    let (code, summary, listed) = tokio::task::block_in_place(|| try_reconcile(&rig, &["--patience", "8"]));
    assert_eq!(code, 1, "{summary}");
    let confirmed: Vec<&Value> = listed.iter().filter(|found| found["state"] == "confirmed").collect();
    assert_eq!(confirmed.len(), 1, "{confirmed:?}");
    assert_eq!((&confirmed[0]["table"], &confirmed[0]["kind"]), (&"documents_v2".into(), &"changed".into()));
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(writer.await.expect("no panic") > 100, "there were writes");
    rig.target.run("update documents_v2 set file_size = 3 where file_name = '7'").await;
    rig.settled(&mut run).await;
    let (summary, _) = reconcile(&rig, 0);
    assert_eq!(summary["verdict"], "MATCH");
}

/// Killed in the middle, and gone on with when both sides have changed since: what it says is true of now.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_comparison_goes_on_and_speaks_of_now() {
    let mut rig = rig().await;
    rig.legacy
        .run(
            "insert into documents select i, 'job' || (1 + i % 20), '/d/' || i, 3, '', '.txt', 'h' || i, null, 'completed', \
             null, 1, '2025-07-02T00:00:00' from generate_series(100001, 112000) i",
        )
        .await;
    let mut run = rig.start(&[]);
    rig.settled(&mut run).await;
    let reports = tempfile::tempdir().expect("a folder");
    let reports = reports.path().to_str().expect("text");
    let ledger = |spill: &std::path::Path| -> Vec<String> {
        let folders = std::fs::read_dir(spill).expect("a folder").flatten();
        let ledgers =
            folders.filter_map(|entry| std::fs::read_to_string(entry.path().join("spills/ledger.jsonl")).ok());
        ledgers.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect()
    };
    let spill = tempfile::tempdir().expect("a folder");
    let at = spill.path().to_str().expect("text");
    let mut killed = rig
        .command(&["reconcile", "semantik", "--reports", reports, "--spill", at, "--workers", "1"])
        .spawn()
        .expect("it starts");
    let begun = std::time::Instant::now();
    while ledger(spill.path()).is_empty() {
        assert!(begun.elapsed().as_secs() < 60, "nothing was read");
        assert!(killed.try_wait().expect("a process").is_none(), "it came to its end");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    killed.kill().expect("killed");
    killed.wait().expect("a process");
    let read = ledger(spill.path()).len();

    rig.target.run("update documents_v2 set file_size = 1 where file_name = '7'").await;
    rig.legacy.run("update documents set size = 9 where id = 8; delete from documents where id = 9").await;
    rig.settled(&mut run).await;
    let outcome = rig.rehome(&["reconcile", "semantik", "--reports", reports, "--spill", at, "--resume", "--json"]);
    assert_eq!(outcome.code, 1, "{outcome:?}");
    let summary = outcome.json();
    let kept = summary["cut"]["snapshots"].as_array().expect("snapshots");
    let kept: u64 = kept.iter().filter_map(|snapshot| snapshot["earlier_ranges"].as_u64()).sum();
    assert!(kept > 0 && kept <= read as u64, "{kept} of {read} ranges: {summary}");
    let (expected, actual) = classes(&summary, "documents_v2");
    assert_eq!((&expected["matched"], &expected["changed"]), (&14_998.into(), &1.into()), "{summary}");
    assert_eq!((&actual["matched"], &actual["changed"]), (&14_998.into(), &1.into()), "{summary}");
    let why = summary["why"].as_array().expect("reasons");
    let why: Vec<_> = why.iter().map(|why| (why["code"].as_str().expect("text"), why["count"].as_u64())).collect();
    // The size of the damaged document is in its own sum and in its collection's.
    assert_eq!(why, [("changed", Some(1)), ("expect", Some(2))], "nothing else is said of it: {summary}");
    assert!(outcome.err.contains("goes on with the comparison begun"), "{}", outcome.err);
    assert_eq!(std::fs::read_dir(spill.path()).expect("a folder").count(), 0, "nothing is left behind");
}

/// Statements that a writer runs again and again until it is told to stop.
fn writing(
    rig: &Rig,
    statement: &'static str,
) -> (tokio::task::JoinHandle<u64>, std::sync::Arc<std::sync::atomic::AtomicBool>) {
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (stopped, url) = (std::sync::Arc::clone(&stop), rig.legacy.url.clone());
    let writer = tokio::spawn(async move {
        let mut connection = <sqlx::PgConnection as sqlx::Connection>::connect(&url).await.expect("a connection");
        let mut count = 0;
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            crate::support::cluster::run(&mut connection, statement).await;
            count += 1;
        }
        count
    });
    (writer, stop)
}

/// Where nobody captures and projects, what both sides hold twice is what they hold, whatever else the servers do.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_state_folder_differences_are_observed_beside_writes() {
    // Servers of their own: transactions of others, open for long, keep it from being known what is new.
    let ((_one, legacy), (_other, target)) = (server(&[]).await, server(&[]).await);
    let mut rig = crate::semantik::rig_of(legacy, target).await;
    rig.legacy.run(FILL).await;
    rig.legacy.run("create table elsewhere (id bigint); insert into elsewhere values (0)").await;
    rig.catch_up();
    rig.target.run("update documents_v2 set file_size = 1 where file_name = '7'; delete from documents_v2 where file_name = '8'").await;
    let reports = tempfile::tempdir().expect("a folder");
    let folder = reports.path().to_str().expect("text");
    let nowhere = reports.path().join("none");
    let compare = || {
        let mut command = crate::support::rig::bare();
        command
            .args(["reconcile", "semantik", "--json", "--reports", folder, "--patience", "20", "--state"])
            .arg(&nowhere);
        command.args(["--source", &rig.legacy.url, "--target", &rig.target.url]);
        let outcome = tokio::task::block_in_place(|| crate::support::rig::finish(command)).expect(1);
        assert!(!outcome.err.contains("could not be looked at"), "{}", outcome.err);
        let summary = outcome.json();
        assert_eq!(summary["grade"], "observed");
        summary
    };
    // The tables stand still, but not their servers.
    let (writer, stop) = writing(&rig, "update elsewhere set id = id + 1");
    let summary = compare();
    assert_eq!(summary["details"]["states"], serde_json::json!({"confirmed": 2}), "{summary}");
    let codes = summary["why"].as_array().expect("reasons").iter().map(|why| why["code"].as_str().expect("text"));
    assert!(
        codes.clone().any(|code| code == "expect") && !codes.clone().any(|code| code == "expect_moving"),
        "{summary}"
    );
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(writer.await.expect("no panic") > 10, "there were writes");
    // A row moves all the time: of it nothing is said, of the others what was.
    let (writer, stop) = writing(&rig, "update documents set size = size + 1 where id = 2999");
    let summary = compare();
    let (expected, actual) = classes(&summary, "documents_v2");
    assert_eq!(
        (&expected["missing"], &expected["changed"], &actual["changed"]),
        (&1.into(), &1.into(), &1.into()),
        "{summary}"
    );
    assert!(summary["details"]["states"]["unsettled"].as_u64() >= Some(1), "{summary}");
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(writer.await.expect("no panic") > 10, "there were writes");
    assert!(!nowhere.exists(), "no state folder is made");
}

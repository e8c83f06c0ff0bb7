//! Sudden death: a process that captures into an embedded log is killed at random points, under live writers.
//!
//! The seed is printed by the failing assertion; the kills come at random times within it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rehome::capture::CaptureStatus;
use rehome::event::Op;
use rehome::log::{EmbeddedLog, EventLog, Options};
use sqlx::PgConnection;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::support::capture::{config, events, patiently, public};
use crate::support::cluster::{Database, run};
use crate::support::fold::{fold, texts};

/// Tells the capturing process its log; without it the test of that name does nothing but check that.
const DIRECTORY: &str = "REHOME_TEST_CAPTURE_LOG";
/// Tells it the database.
const URL: &str = "REHOME_TEST_CAPTURE_URL";
/// Name of the test that is the capturing process.
const CAPTURER: &str = "capture_crash::a_process_captures_until_it_is_killed";
/// Kills of each round.
const KILLS: usize = 6;
/// How the log is made.
const OPTIONS: Options = Options { partitions: 1, generation: 1 };
/// Rows of the table.
const ROWS: i64 = 6000;

/// The capturing process, when told so by its environment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_captures_until_it_is_killed() {
    let (Ok(directory), Ok(url)) = (std::env::var(DIRECTORY), std::env::var(URL)) else {
        assert!(std::env::var(DIRECTORY).is_err(), "both or none");
        return;
    };
    // The parent holds the other end: should it die, so does this process.
    std::thread::spawn(|| {
        let _ = std::io::Read::read(&mut std::io::stdin(), &mut [0]);
        std::process::exit(0);
    });
    let log: Arc<dyn EventLog> = Arc::new(EmbeddedLog::open(Path::new(&directory), OPTIONS).expect("it opens"));
    let (status, _) = watch::channel(CaptureStatus::default());
    let ended = rehome::capture::run(config(&url, &["t"]), log, status, CancellationToken::new()).await;
    panic!("it ended by itself: {ended:?}");
}

fn capturer(directory: &Path, url: &str) -> Child {
    Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", CAPTURER])
        .env(DIRECTORY, directory)
        .env(URL, url)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts")
}

/// Writes until told to stop: inserts, updates with and without the large value, deletes, re-inserts, rolled back
/// savepoints, and, where `moves` says so, changed keys.
async fn write(mut connection: PgConnection, seed: u64, moves: bool, stop: Arc<AtomicBool>) -> u64 {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut written = 0;
    while !stop.load(Ordering::Relaxed) {
        let id = random.random_range(1..=ROWS + 500);
        let other = random.random_range(1..=ROWS + 500);
        let statement = match random.random_range(0..if moves { 7 } else { 6 }) {
            0 => format!("update t set n = n + 1 where id between {id} and {}", id + 20),
            1 => format!("update t set big = repeat(md5('{seed} {written}'), 80) where id = {id}"),
            2 => format!("delete from t where id = {id}"),
            3 => format!("insert into t values ({id}, 0, 'new', repeat(md5('{other}'), 80)) on conflict do nothing"),
            4 => format!(
                "begin; update t set n = -1 where id = {id}; savepoint s; delete from t where id = {other}; \
                 rollback to s; update t set pad = 'shorter' where id = {other}; commit"
            ),
            5 => format!("begin; delete from t where id < {id}; rollback"),
            _ => format!(
                "update t set id = {other}, n = 99 where id = {id} and not exists (select from t where id = {other})"
            ),
        };
        // Two writers may want one key at once; then the statement is undone, which is as good a case as any.
        let done = sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut connection).await;
        if done.is_err() {
            run(&mut connection, "rollback").await;
        }
        written += 1;
    }
    written
}

/// One round: a table, writers, a capture that is killed again and again, then one that is let go on.
async fn round(seed: u64, moves: bool) {
    let mut database = Database::new().await;
    database
        .run(format!(
            "create table t (id int8 primary key, n int4, pad text, big text); \
             alter table t alter column big set storage external; \
             insert into t select id, 0, repeat('p', 300), repeat(md5(id::text), 80) from generate_series(1, {ROWS}) id;"
        ))
        .await;
    let folder = tempfile::tempdir().expect("a folder");
    let directory: PathBuf = folder.path().join("log");
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..2 {
        let connection = database.connect().await;
        writers.spawn(write(connection, seed * 10 + writer, moves, Arc::clone(&stop)));
    }
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    for _ in 0..KILLS {
        let mut child = capturer(&directory, &database.url);
        // When the kill comes is the randomness under test, not an order between two things.
        tokio::time::sleep(Duration::from_millis(random.random_range(150..1200))).await;
        assert!(child.try_wait().expect("a child").is_none(), "seed {seed}: it ended by itself");
        child.kill().expect("it is killed");
        child.wait().expect("it is gone");
    }
    let log: Arc<dyn EventLog> = Arc::new(EmbeddedLog::open(&directory, OPTIONS).expect("it opens"));
    let mut last = crate::support::capture::start(config(&database.url, &["t"]), Arc::clone(&log));
    let status = last.caught_up().await;
    stop.store(true, Ordering::Relaxed);
    let mut written = 0;
    while let Some(count) = patiently("the writers", writers.join_next()).await {
        written += count.expect("no panic");
    }
    last.settled(&mut database).await;
    last.stop().await.expect("a clean end");
    let expected = database.texts("select concat_ws('|', id, n, pad, big) from t order by id").await;
    let found = texts(&fold(&*log, &public("t")).await);
    assert_eq!(found.len(), expected.len(), "seed {seed}: count of rows");
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found, expected, "seed {seed}");
    }
    let all = events(&*log).await;
    let reads = all.iter().filter(|event| event.op == Op::Read).count();
    assert!(written > 20 && reads > 1000 && all.len() > reads, "seed {seed}: {written} written, {reads} read");
    if !moves {
        assert_eq!(status.epoch.map(|epoch| epoch.0), Some(1), "seed {seed}: nothing was lost");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capture_killed_again_and_again_holds_exactly_the_table() {
    for seed in 1..=3 {
        round(seed, false).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capture_killed_while_keys_change_holds_exactly_the_table() {
    for seed in 4..=5 {
        round(seed, true).await;
    }
}

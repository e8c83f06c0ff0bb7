//! Sudden death: a process that captures into an embedded log is killed at random points, under live writers.
//!
//! Every assertion prints its seed, which fixes the writes and the times of the kills.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rehome::capture::dynamo::{Config, run};
use rehome::capture::{CaptureStatus, Phase};
use rehome::event::Op;
use rehome::log::{EmbeddedLog, EventLog, Options};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::support::capture::{config, events, needed, patiently, start};
use crate::support::shim::Shim;
use crate::support::streams::Numbering;
use crate::support::tables::{Table, item, number, text};

/// Tells the capturing process its log; without it the test of that name does nothing but check that.
const DIRECTORY: &str = "REHOME_TEST_DYNAMO_LOG";
/// Tells it the endpoint and the table.
const SOURCE: &str = "REHOME_TEST_DYNAMO_SOURCE";
/// Name of the test that is the capturing process.
const CAPTURER: &str = "crash::a_process_captures_until_it_is_killed";
/// Kills of each round.
const KILLS: usize = 5;
/// How the log is made.
const OPTIONS: Options = Options { partitions: 1, generation: 1 };
/// Items of the table: each makes several pages of a capped scan.
const ITEMS: u32 = 400;

/// Slow enough that kills come in the middle of the scan: pages of a few items.
fn settings(url: &str) -> Config {
    Config { read_capacity: Some(10), tables: Vec::new(), ..config(url, &[]) }
}

/// The capturing process, when told so by its environment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_captures_until_it_is_killed() {
    let (Ok(directory), Ok(source)) = (std::env::var(DIRECTORY), std::env::var(SOURCE)) else {
        assert!(std::env::var(DIRECTORY).is_err(), "both or none");
        return;
    };
    // The parent holds the other end: should it die, so does this process.
    std::thread::spawn(|| {
        let _ = std::io::Read::read(&mut std::io::stdin(), &mut [0]);
        std::process::exit(0);
    });
    let (url, table) = source.split_once(' ').expect("endpoint and table");
    let log: Arc<dyn EventLog> = Arc::new(EmbeddedLog::open(Path::new(&directory), OPTIONS).expect("it opens"));
    let (status, _) = watch::channel(CaptureStatus::default());
    let config = Config { tables: vec![needed(table)], ..settings(url) };
    let ended = run(config, log, status, CancellationToken::new()).await;
    panic!("it ended by itself: {ended:?}");
}

fn capturer(directory: &Path, url: &str, table: &str) -> Child {
    Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", CAPTURER, "--nocapture"])
        .env(DIRECTORY, directory)
        .env(SOURCE, format!("{url} {table}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("it starts")
}

/// Writes until told to stop: puts, also of what was there already, deletes, puts again.
async fn write(table: Arc<Table>, seed: u64, stop: Arc<AtomicBool>) -> u64 {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut written = 0;
    while !stop.load(Ordering::Relaxed) {
        let id = format!("k{:05}", random.random_range(0..ITEMS + 100));
        match random.random_range(0..4) {
            0 => table.delete(&id).await,
            1 => table.put(item(&id, &[("same", number(1))])).await,
            _ => table.put(item(&id, &[("n", number(random.random::<u32>())), ("pad", text("x".repeat(300)))])).await,
        }
        written += 1;
        // The server slows down for good after some ten thousand records.
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
    written
}

/// One round: a table, writers, shards that roll, a capture that is killed again and again, then one that goes on.
///
/// Answers whether a kill came in the middle of the scan.
async fn round(seed: u64) -> bool {
    let (table, shim) = (Arc::new(Table::new().await), Shim::new().await);
    let arn = table.arn().await;
    shim.streams().take(&arn, Numbering::Real).await;
    for id in 0..ITEMS {
        table.put(item(&format!("k{id:05}"), &[("pad", text("p".repeat(2000)))])).await;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let directory = folder.path().join("log");
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..2 {
        writers.spawn(write(Arc::clone(&table), seed * 10 + writer, Arc::clone(&stop)));
    }
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let (mut in_the_middle, mut scanned) = (false, false);
    for kill in 0..KILLS {
        let scans =
            |operation: &str, body: &serde_json::Value| operation == "Scan" && body["TotalSegments"].is_number();
        let before = shim.calls().iter().filter(|(operation, body)| scans(operation, body)).count();
        let mut child = capturer(&directory, &shim.url, &table.name);
        // Every other kill comes in the scan, if it has not ended, however long the process takes to get there, the others at
        // any time. The first finds nearly all of the scan to do; later there may be no more than a page.
        if kill % 2 == 1 && !scanned {
            let pages = if kill == 1 { 4 } else { 1 };
            patiently("pages of the scan", shim.called(before + pages, scans)).await;
        }
        // When the kill comes is the randomness under test, not an order between two things.
        tokio::time::sleep(Duration::from_millis(random.random_range(0..1500))).await;
        assert!(child.try_wait().expect("a child").is_none(), "seed {seed}: it ended by itself");
        child.kill().expect("it is killed");
        child.wait().expect("it is gone");
        shim.streams().roll(&arn, 1 + kill % 2).await;
        let log = EmbeddedLog::open(&directory, OPTIONS).expect("it opens");
        let begun = log.marks("dynamo/segment/").expect("it reads");
        scanned = log.mark("dynamo/snapshot-complete").expect("it reads").is_some();
        in_the_middle |= !scanned && begun.iter().any(|(_, value)| String::from_utf8_lossy(value).contains("after"));
    }
    let log: Arc<dyn EventLog> = Arc::new(EmbeddedLog::open(&directory, OPTIONS).expect("it opens"));
    let last = Config { tables: vec![needed(&table.name)], read_capacity: None, ..settings(&shim.url) };
    let mut last = start(last, Arc::clone(&log));
    last.until("the scan's end", |status| matches!(status.phase, Phase::CatchingUp | Phase::Live)).await;
    stop.store(true, Ordering::Relaxed);
    let mut written = 0;
    while let Some(count) = patiently("the writers", writers.join_next()).await {
        written += count.expect("no panic");
    }
    let status = last.caught_up().await;
    last.equals(&table).await;
    let all = events(&*log).await;
    let reads = all.iter().filter(|event| event.op == Op::Read).count();
    assert!(written > 50 && reads > 300 && all.len() > reads + 400, "seed {seed}: {written} written, {reads} read");
    assert_eq!(status.epoch.map(|epoch| epoch.0), Some(1), "seed {seed}: nothing was lost");
    last.stop().await.expect("a clean end");
    in_the_middle
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capture_killed_again_and_again_holds_exactly_the_table() {
    let mut in_the_middle = 0;
    for seed in 1..=2 {
        in_the_middle += u32::from(round(seed).await);
    }
    assert!(in_the_middle > 0, "no kill came in the middle of a scan");
}

//! rehome's own side of the pipeline measures: run by `benches/baselines` beside what the server's own tools do.
//!
//! `pipeline copy-null | copy-log | stream-null | stream-log` reads its environment as `benches/baselines` sets it.
//! It prints rows, seconds, rows a second and its peak memory to standard error; the script takes the wall time.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Instant;

use rehome::capture::{marks, null_copy, null_stream};
use rehome::event::{Epoch, Lsn, RelationName};
use rehome::log::{Batch, EmbeddedLog, EventLog, Options};
use rehome::postgres::assemble::Start;
use rehome::postgres::feed::PgFeed;
use rehome::postgres::snapshot::{PgSnapshot, RangeTask};
use rehome::postgres::{Server, catalog, provision};
use rehome::source::{ChangeFeed as _, RangeId, Snapshot as _};

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Ranges read at the same time: the machine has two cores, and the server needs some of them.
const WORKERS: usize = 2;
/// Blocks of a range: 64 MiB, as the capture plans them.
const RANGE_BLOCKS: u32 = 8192;

fn main() -> Outcome<()> {
    // Cargo's own runner passes `--bench`; without a mode there is nothing to measure.
    let Some(mode) = std::env::args().skip(1).find(|argument| !argument.starts_with("--")) else { return Ok(()) };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let began = Instant::now();
    let rows = runtime.block_on(async {
        match mode.as_str() {
            "copy-null" => copy(None).await,
            "copy-log" => copy(Some(log()?)).await,
            "stream-null" => stream(None).await,
            "stream-log" => stream(Some(log()?)).await,
            other => Err(format!("no measure {other}").into()),
        }
    })?;
    let seconds = began.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = rows as f64 / seconds;
    writeln!(std::io::stderr(), "{mode}: {rows} rows, {seconds:.2} s, {rate:.0} rows/s, peak {} MiB", peak_mib()?)?;
    Ok(())
}

/// A durable log in the temporary folder, removed when its folder's owner is dropped.
struct Log {
    log: Arc<EmbeddedLog>,
    _folder: tempfile::TempDir,
}

fn log() -> Outcome<Log> {
    let folder = tempfile::tempdir()?;
    let log = EmbeddedLog::open(&folder.path().join("log"), Options { partitions: 1, generation: 1 })?;
    Ok(Log { log: Arc::new(log), _folder: folder })
}

fn variable(name: &str) -> Outcome<String> {
    std::env::var(name).map_err(|_| format!("{name} is not set; run benches/baselines").into())
}

async fn copy(log: Option<Log>) -> Outcome<u64> {
    let server = Server::parse(&variable("BENCH_SOURCE")?)?;
    let name = RelationName { schema: "public".into(), table: variable("BENCH_TABLE")?.into() };
    let mut holder = server.connect().await?;
    let table = catalog::table(&mut holder, &name).await?.ok_or("no such table")?;
    let leaf = catalog::leaves(&mut holder, table.oid).await?.into_iter().next().ok_or("no leaf")?;
    let exported = provision::export_snapshot(&mut holder).await?;
    let starts: Vec<u32> = (0..leaf.blocks.max(1)).step_by(RANGE_BLOCKS as usize).collect();
    let mut tasks = HashMap::new();
    for (number, from) in starts.iter().enumerate() {
        let to = starts.get(number + 1).copied();
        let task = RangeTask {
            table: name.clone(),
            leaf: leaf.name.clone(),
            leaf_oid: leaf.oid,
            filenode: leaf.filenode,
            from: *from,
            to,
            written_since: None,
        };
        tasks.insert(RangeId(u32::try_from(number)?), task);
    }
    let ranges = tasks.len();
    let snapshot = Arc::new(PgSnapshot::new(server, exported, Epoch(1), tasks));
    let log = log.map(Arc::new);
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..WORKERS {
        let (snapshot, log) = (Arc::clone(&snapshot), log.clone());
        workers.spawn(async move {
            let mut rows = 0;
            for number in (worker..ranges).step_by(WORKERS) {
                rows += one_range(&snapshot, RangeId(u32::try_from(number)?), log.as_deref()).await?;
            }
            Outcome::Ok(rows)
        });
    }
    let mut rows = 0;
    while let Some(done) = workers.join_next().await {
        rows += done??;
    }
    Ok(rows)
}

async fn one_range(snapshot: &PgSnapshot, range: RangeId, log: Option<&Log>) -> Outcome<u64> {
    let Some(log) = log else { return Ok(null_copy(snapshot, range).await?.rows) };
    let (out, mut batches) = tokio::sync::mpsc::channel::<Batch>(2);
    let append = async {
        let mut rows = 0;
        while let Some(batch) = batches.recv().await {
            rows += batch.events.len() as u64;
            log.log.append(batch).await?;
        }
        Outcome::Ok(rows)
    };
    let (outcome, rows) = tokio::join!(snapshot.copy(range, out), append);
    outcome?;
    rows
}

async fn stream(log: Option<Log>) -> Outcome<u64> {
    let server = Server::parse(&variable("BENCH_SOURCE")?)?;
    let end: Lsn = variable("BENCH_END")?.parse()?;
    let start = Start {
        epoch: Epoch(1),
        position: Lsn(0),
        position_mark: marks::CONFIRMED.into(),
        shape_mark_prefix: marks::SHAPE.into(),
        moved_mark: marks::MOVED.into(),
        shapes: HashMap::new(),
    };
    let slot = variable("BENCH_SLOT")?;
    let mut feed = PgFeed::open(&server, &slot, &variable("BENCH_PUBLICATION")?, start).await?;
    let Some(log) = log else { return Ok(null_stream(&mut feed, end).await?) };
    let mut rows = 0;
    while let Some(delivery) = feed.next().await? {
        rows += delivery.batch.events.len() as u64;
        log.log.append(delivery.batch).await?;
        feed.acknowledge(delivery.receipt);
        if delivery.receipt.0 >= end.0 {
            break;
        }
    }
    Ok(rows)
}

/// Peak resident memory of this process, from the kernel.
fn peak_mib() -> Outcome<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024)
}

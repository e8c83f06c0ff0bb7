//! Measures of the way from the source to the target, on two private servers that sync as those in production do.
//!
//! They are two, as a server that is both also decodes everything that is written into the target for the source's slot.
//!
//! `projection [--rows N] [--units N] [--runs N] [--seconds N]` prints a Markdown table: rows copied by the server's own
//! tools (`COPY | COPY` into another database), the same rows through rehome, `luthien` through its mapping, events into a
//! target that discards, and the time from a commit in the source to the row at the target under 1,000 writes a second.
//! Measures that are compared take turns; the median of the runs counts.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rehome::demo::cluster::{Cluster, Options};
use rehome::demo::{Generator, writer};
use rehome::engine::{Earlier, Engine, Settings, Until};
use rehome::mapping::Migration;
use rehome::target::{Error as TargetError, Target, TargetKey, TargetRow, UnitOutcome, UnitWrite};
use tokio_util::sync::CancellationToken;

/// As in the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// About 250 bytes a row: a key, a foreign key, a time, a number and some text.
const DEFINITION: &str =
    "id bigint PRIMARY KEY, parent uuid NOT NULL, at timestamptz NOT NULL, amount numeric, note text, body text";
const ROW: &str = "md5(i::text)::uuid, '2025-01-01'::timestamptz + i * interval '1 second', i % 100000 / 100.0, 'note ' || i, \
                   repeat(md5(i::text), 5)";

/// Sizes, from the command line.
struct Sizes {
    rows: u64,
    units: u64,
    runs: usize,
    seconds: u64,
}

/// The servers that rows are moved between.
struct Servers {
    source: Cluster,
    target: Cluster,
}

impl Servers {
    fn source(&self, name: &str) -> String {
        self.source.url(&format!("{name}_source"))
    }

    fn target(&self, name: &str) -> String {
        self.target.url(&format!("{name}_target"))
    }
}

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str, usual: u64| -> Outcome<u64> {
        match arguments.iter().position(|argument| argument == name) {
            Some(place) => Ok(arguments.get(place + 1).ok_or("a number is missing")?.parse()?),
            None => Ok(usual),
        }
    };
    // `cargo bench` without arguments for this program measures nothing: it would take minutes.
    if !arguments
        .iter()
        .any(|argument| argument.starts_with("--r") || argument.starts_with("--u") || argument.starts_with("--s"))
    {
        return Ok(());
    }
    let sizes = Sizes {
        rows: number("--rows", 100_000)?,
        units: number("--units", 2_000)?,
        runs: usize::try_from(number("--runs", 3)?)?,
        seconds: number("--seconds", 10)?,
    };
    let settings = [
        ("fsync", "on"),
        ("synchronous_commit", "on"),
        ("full_page_writes", "on"),
        ("shared_buffers", "512MB"),
        ("max_wal_size", "8GB"),
    ];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let start = || Cluster::start(&Options { settings: settings.clone(), ..Options::temporary() });
    let servers = Servers { source: start()?, target: start()? };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    out("| measure | median | rate | against |");
    out("|---|---|---|---|");
    runtime.block_on(async {
        identity(&servers, &sizes).await?;
        luthien(&servers, &sizes).await?;
        live(&servers, &sizes).await
    })
}

async fn identity(servers: &Servers, sizes: &Sizes) -> Outcome<()> {
    databases(servers, "one").await?;
    let source = servers.source("one");
    let mut connection = writer::connect(&source).await?;
    writer::run_script(&mut connection, &format!("CREATE TABLE copied ({DEFINITION})")).await?;
    let fill = format!("INSERT INTO copied SELECT i, {ROW} FROM generate_series(1, {}) AS i", sizes.rows);
    writer::run_script(&mut connection, &fill).await?;
    writer::run_script(&mut connection, "VACUUM ANALYZE copied").await?;
    let migration = Arc::new(Migration::load(Path::new("benches/schemas/identity"))?);
    let (mut pipes, mut whole, mut replays, mut nulls) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..sizes.runs {
        databases_target(servers, "one").await?;
        pipes.push(pipe(servers)?);
        databases_target(servers, "one").await?;
        let folder = tempfile::tempdir()?;
        let engine = engine(&migration, folder.path(), servers, "one");
        engine.up(Earlier::Refuse).await?;
        whole.push(timed(engine.run(Until::CaughtUp, CancellationToken::new(), |_, _| {})).await?);
        // The log is complete now: the state and the target anew, from it alone.
        std::fs::remove_dir_all(folder.path().join("state-folder/state"))?;
        databases_target(servers, "one").await?;
        engine.up(Earlier::Refuse).await?;
        replays.push(timed(engine.run(Until::CaughtUp, CancellationToken::new(), |_, _| {})).await?);
        std::fs::remove_dir_all(folder.path().join("state-folder/state"))?;
        nulls.push(timed(engine.project_into(Arc::new(Null))).await?);
        engine.down().await?;
    }
    let pipe = median(&mut pipes);
    report("`COPY | COPY` into another database", pipe, sizes.rows, "rows/s", 1.0);
    report_against("1:1, source to target, whole run", median(&mut whole), sizes.rows, "rows/s", pipe);
    report_against("1:1, log to target", median(&mut replays), sizes.rows, "rows/s", pipe);
    report_against("1:1, log to a target that discards", median(&mut nulls), sizes.rows, "events/s", pipe);
    Ok(())
}

async fn luthien(servers: &Servers, sizes: &Sizes) -> Outcome<()> {
    databases(servers, "two").await?;
    let folder = Path::new("schemas/luthien");
    let mut connection = writer::connect(&servers.source("two")).await?;
    writer::run_script(&mut connection, &std::fs::read_to_string(folder.join("demo/legacy.sql"))?).await?;
    let rows = writer::load(&mut connection, &Generator::load(&folder.join("demo"), 1)?, sizes.units).await?.rows;
    let migration = Arc::new(Migration::load(folder)?);
    let (mut replays, mut targets) = (Vec::new(), 0);
    for _ in 0..sizes.runs {
        databases_target(servers, "two").await?;
        let state = tempfile::tempdir()?;
        let engine = engine(&migration, state.path(), servers, "two");
        engine.up(Earlier::Refuse).await?;
        engine.run(Until::CaughtUp, CancellationToken::new(), |_, _| {}).await?;
        std::fs::remove_dir_all(state.path().join("state-folder/state"))?;
        databases_target(servers, "two").await?;
        engine.up(Earlier::Refuse).await?;
        replays.push(timed(engine.run(Until::CaughtUp, CancellationToken::new(), |_, _| {})).await?);
        targets = engine.comparer().await?.target_rows().await?;
        engine.down().await?;
    }
    let median = median(&mut replays);
    report("luthien, log to target, legacy rows", median, rows, "rows/s", 1.0);
    report("luthien, log to target, target rows", median, targets, "rows/s", 1.0);
    Ok(())
}

/// Time from a commit in the source to the write at the target, under 1,000 single-row transactions a second.
async fn live(servers: &Servers, sizes: &Sizes) -> Outcome<()> {
    databases(servers, "three").await?;
    let source = servers.source("three");
    let mut connection = writer::connect(&source).await?;
    writer::run_script(&mut connection, &format!("CREATE TABLE copied ({DEFINITION})")).await?;
    let migration = Arc::new(Migration::load(Path::new("benches/schemas/identity"))?);
    let folder = tempfile::tempdir()?;
    let engine = engine(&migration, folder.path(), servers, "three");
    engine.up(Earlier::Refuse).await?;
    let target = servers.target("three");
    let mut arrivals = writer::connect(&target).await?;
    writer::run_script(&mut arrivals, "ALTER TABLE copied ADD COLUMN arrived timestamptz DEFAULT clock_timestamp()")
        .await?;
    let stop = CancellationToken::new();
    let (running, token) = (engine.clone(), stop.clone());
    let run = tokio::spawn(async move { running.run(Until::Stopped, token, |_, _| {}).await });
    let total = sizes.seconds * 1_000;
    let mut ticks = tokio::time::interval(Duration::from_millis(1));
    for i in 1..=total {
        ticks.tick().await;
        let insert = format!(
            "INSERT INTO copied SELECT {i}, md5('{i}')::uuid, clock_timestamp(), 1.5, 'note', repeat('x', 160)"
        );
        writer::run_script(&mut connection, &insert).await?;
    }
    let query = "SELECT count(*), coalesce(percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM arrived - at)), 0), \
                 coalesce(percentile_cont(0.99) WITHIN GROUP (ORDER BY extract(epoch FROM arrived - at)), 0) FROM copied";
    let (count, p50, p99) = loop {
        let found = psql(&target, query)?;
        let parts: Vec<f64> = found.split('|').filter_map(|part| part.trim().parse().ok()).collect();
        let [count, p50, p99] = parts.as_slice() else { return Err("psql answered something else".into()) };
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 rows")]
        if *count >= total as f64 {
            break (*count, *p50, *p99);
        }
    };
    stop.cancel();
    run.await??;
    out(format!(
        "| live, {count} writes at 1,000/s: commit to target | p50 {:.0} ms | p99 {:.0} ms | |",
        p50 * 1e3,
        p99 * 1e3
    ));
    Ok(())
}

fn engine(migration: &Arc<Migration>, folder: &Path, servers: &Servers, name: &str) -> Engine {
    let (source, target) = (servers.source(name), servers.target(name));
    Engine::new(Arc::clone(migration), Settings::new(folder.join("state-folder"), Some(source), Some(target)))
}

async fn databases(servers: &Servers, name: &str) -> Outcome<()> {
    let mut admin = writer::connect(&servers.source.url("postgres")).await?;
    writer::run_script(&mut admin, &format!("CREATE DATABASE {name}_source")).await?;
    databases_target(servers, name).await
}

/// A new, empty target.
async fn databases_target(servers: &Servers, name: &str) -> Outcome<()> {
    let mut admin = writer::connect(&servers.target.url("postgres")).await?;
    writer::run_script(&mut admin, &format!("DROP DATABASE IF EXISTS {name}_target WITH (FORCE)")).await?;
    writer::run_script(&mut admin, &format!("CREATE DATABASE {name}_target")).await?;
    Ok(())
}

/// The server's own tools: one COPY out, one COPY in.
fn pipe(servers: &Servers) -> Outcome<Duration> {
    let (source, target) = (servers.source("one"), servers.target("one"));
    psql(&target, &format!("CREATE TABLE copied ({DEFINITION})"))?;
    let began = Instant::now();
    let script = format!(
        "psql -Xq '{source}' -c 'COPY copied TO STDOUT (FORMAT binary)' | psql -Xq '{target}' -c 'COPY copied FROM STDIN (FORMAT binary)'"
    );
    let status = Command::new("sh").args(["-c", &script]).status()?;
    if !status.success() {
        return Err("the pipe failed".into());
    }
    Ok(began.elapsed())
}

fn psql(url: &str, statement: &str) -> Outcome<String> {
    let output = Command::new("psql").args(["-XAtq", "-v", "ON_ERROR_STOP=1", url, "-c", statement]).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

async fn timed<T, E>(work: impl Future<Output = Result<T, E>>) -> Result<Duration, E> {
    let began = Instant::now();
    work.await?;
    Ok(began.elapsed())
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn report(name: &str, time: Duration, count: u64, unit: &str, against: f64) {
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = count as f64 / time.as_secs_f64();
    out(format!("| {name} | {:.2} s | {rate:.0} {unit} | {against:.2} |", time.as_secs_f64()));
}

fn report_against(name: &str, time: Duration, count: u64, unit: &str, base: Duration) {
    report(name, time, count, unit, base.as_secs_f64() / time.as_secs_f64());
}

/// Writes a line of the table.
fn out(line: impl AsRef<str>) {
    let _ = writeln!(std::io::stdout(), "{}", line.as_ref());
}

/// A target that discards.
struct Null;

#[async_trait]
impl Target for Null {
    async fn apply(&self, batch: &[UnitWrite]) -> Result<Vec<UnitOutcome>, TargetError> {
        let written = |write: &UnitWrite| UnitOutcome::Written {
            upserted: write.rows.len() as u64,
            unchanged: 0,
            deleted: 0,
            foreign: 0,
            matched_foreign: 0,
        };
        Ok(batch.iter().map(written).collect())
    }

    async fn read(&self, keys: &[TargetKey]) -> Result<Vec<Option<TargetRow>>, TargetError> {
        Ok(vec![None; keys.len()])
    }

    async fn owned(&self, _unit: &str) -> Result<Vec<TargetKey>, TargetError> {
        Ok(Vec::new())
    }
}

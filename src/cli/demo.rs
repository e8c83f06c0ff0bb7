//! `rehome demo`: the whole path on a private server, with live writers, and a damaged row found.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::demo::cluster::{Cluster, Options};
use crate::demo::writer::{self, Pace, Written};
use crate::demo::{Generator, damage};
use crate::engine::protocol::{Answer, Request, Status};
use crate::engine::{Earlier, Engine, Settings, Sums, Until};
use crate::postgres::Server;

use super::args::{DemoArgs, Global};
use super::exit::Exit;
use super::{Failure, diff, locate, output, run, status};

/// Live transactions a second: a busy table of that kind, and enough to overlap with the copy.
const WRITES_PER_SECOND: u32 = 60;
/// How long the demo waits for the run to catch up before it says that it does not.
const PATIENCE: Duration = Duration::from_secs(120);

/// Everything the demo found, for `--json`.
#[derive(Serialize)]
struct Report {
    migration: String,
    units: u64,
    legacy_rows: u64,
    target_rows: u64,
    live_transactions: u64,
    equal: u64,
    different: usize,
    unproven: usize,
    parked: BTreeMap<String, u64>,
    rows_of_others: u64,
    balanced: bool,
    damage_found: bool,
    seconds: f64,
}

/// Runs the demo; exit code 0 says that every unit was equal, every equation held, and the damage was found.
pub async fn run(global: &Global, args: DemoArgs) -> Result<Exit, Failure> {
    let stop = CancellationToken::new();
    let signals = tokio::spawn(run::stop_on_signal(stop.clone()));
    let outcome = tokio::select! {
        // Everything that was started is owned by this future, and stops when it is dropped.
        outcome = show(global, &args) => outcome,
        () = stop.cancelled() => Ok(Exit::Incomplete),
    };
    signals.abort();
    outcome
}

async fn show(global: &Global, args: &DemoArgs) -> Result<Exit, Failure> {
    let began = Instant::now();
    let name = match &args.migration {
        Some(name) => name.clone(),
        None => {
            locate::first_with("demo").ok_or_else(|| Failure::from("no built-in migration has a demo".to_owned()))?
        }
    };
    let place = locate::find(global, &name)?;
    let folder = place.path().join("demo");
    let generator = Generator::load(&folder, args.seed).map_err(words)?;
    step("starting a private Postgres server");
    let cluster = tokio::task::spawn_blocking(|| Cluster::start(&Options::temporary()));
    let cluster = cluster.await.map_err(words)?.map_err(words)?;
    let (source, target) = (cluster.url("legacy"), cluster.url("target"));
    let script = std::fs::read_to_string(folder.join("legacy.sql")).map_err(words)?;
    let written = prepare(&cluster, &script, &generator, args.units).await?;
    step(&format!("loaded {} legacy rows of {} units, with the hazards that are known", written.rows, args.units));

    let state = tempfile::Builder::new().prefix("rehome-demo-").tempdir().map_err(words)?;
    let migration = locate::load(global, &name)?;
    let mut settings = Settings::new(state.path().to_owned(), Some(source.clone()), Some(target.clone()));
    // Hazards are dense in generated data; in a real migration so many parked units would be worth a halt.
    settings.park_percent_max = 100;
    let engine = Engine::new(migration.into(), settings);
    engine.up(Earlier::Refuse).await?;
    step("copying and following, while live writers change, move and delete rows");
    let backfill = Backfill::start(&engine);
    let live = write_live(&source, &generator, args).await?;
    let status = caught_up(&engine).await?;
    step(&format!("{} live transactions later: caught up; comparing every unit", live.committed));
    let comparer = engine.comparer().await?;
    let sums = comparer.all().await?;
    let others = sums.target_rows - sums.found_rows;
    if !global.json {
        show_sums(&status, &sums, others);
    }
    let found = damage_and_find(global, &engine, &target).await?;
    let clean = sums.different.is_empty() && sums.unproven.is_empty() && others == 0;
    let report = Report {
        migration: name,
        units: sums.units,
        legacy_rows: sums.legacy_rows,
        target_rows: sums.target_rows,
        live_transactions: live.committed,
        equal: sums.equal,
        different: sums.different.len(),
        unproven: sums.unproven.len(),
        parked: sums.parked.clone(),
        rows_of_others: others,
        balanced: status.balanced,
        damage_found: found,
        seconds: began.elapsed().as_secs_f64(),
    };
    finish(global, args, &report, [&source, &target], state.path()).await;
    backfill.stop().await?;
    Ok(match (clean && report.balanced, found) {
        (true, true) => Exit::Success,
        (false, _) if !sums.different.is_empty() => Exit::Mismatch,
        _ => Exit::Incomplete,
    })
}

/// Makes both databases, and fills the legacy one.
async fn prepare(cluster: &Cluster, script: &str, generator: &Generator, units: u64) -> Result<Written, Failure> {
    let mut admin = Server::parse(&cluster.url("postgres")).map_err(words)?.connect().await.map_err(words)?;
    for database in ["legacy", "target"] {
        writer::run_script(&mut admin, &format!("CREATE DATABASE {database}")).await.map_err(words)?;
    }
    let mut legacy = writer::connect(&cluster.url("legacy")).await.map_err(words)?;
    writer::run_script(&mut legacy, script).await.map_err(words)?;
    writer::load(&mut legacy, generator, units).await.map_err(words)
}

async fn write_live(source: &str, generator: &Generator, args: &DemoArgs) -> Result<Written, Failure> {
    let mut connection = writer::connect(source).await.map_err(words)?;
    let pace = Pace { units: args.units, first_step: 0, steps_max: args.writes, per_second: WRITES_PER_SECOND };
    writer::write_live(&mut connection, generator, pace, &CancellationToken::new()).await.map_err(words)
}

/// The run, in a task of its own.
struct Backfill {
    stop: CancellationToken,
    task: JoinHandle<Result<(), crate::engine::Error>>,
}

impl Backfill {
    fn start(engine: &Engine) -> Self {
        let stop = CancellationToken::new();
        let (engine, token) = (engine.clone(), stop.clone());
        let task = tokio::spawn(async move { engine.run(Until::Stopped, token, |_, _| {}).await });
        Self { stop, task }
    }

    async fn stop(self) -> Result<(), Failure> {
        self.stop.cancel();
        Ok(self.task.await.map_err(words)??)
    }
}

/// Waits until the target holds everything that was written before.
async fn caught_up(engine: &Engine) -> Result<Status, Failure> {
    let comparer = engine.comparer().await?;
    let position = comparer.source_position().await?;
    let began = Instant::now();
    loop {
        let Answer::Status(status) = engine.ask(Request::Status).await? else {
            return Err(Failure::from("the run does not tell where it is".to_owned()));
        };
        let durable = status.capture.as_ref().and_then(|capture| capture["durable"].as_str()?.parse().ok());
        if durable >= position && status.applied == status.log_end && status.dirty == 0 && status.phase == "caught_up" {
            return Ok(*status);
        }
        if began.elapsed() > PATIENCE {
            let message = format!("not caught up after {} seconds: {}", PATIENCE.as_secs(), status.phase);
            return Err(Failure::from(message));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn show_sums(status: &Status, sums: &Sums, others: u64) {
    status::show(status);
    let mut table = output::table(&["units", "equal", "different", "unproven", "parked", "target rows", "of others"]);
    table.add_row([
        sums.units.to_string(),
        sums.equal.to_string(),
        sums.different.len().to_string(),
        sums.unproven.len().to_string(),
        sums.parked.values().sum::<u64>().to_string(),
        sums.target_rows.to_string(),
        others.to_string(),
    ]);
    output::line(table.to_string());
    for diff in sums.different.iter().chain(&sums.unproven).take(5) {
        output::line(format!("{}: {}", diff.unit, diff.reason));
    }
}

/// Damages one target row, compares every unit again, and tells whether exactly that was found.
async fn damage_and_find(global: &Global, engine: &Engine, target: &str) -> Result<bool, Failure> {
    let mut connection = writer::connect(target).await.map_err(words)?;
    let Some(damaged) = damage::damage(&mut connection, engine.tables()).await.map_err(words)? else {
        return Err(Failure::from("the target has no row to damage".to_owned()));
    };
    step(&format!(
        "damaged one {} of {} at the target, unseen by rehome; comparing again",
        damaged.column, damaged.table
    ));
    let sums = engine.comparer().await?.all().await?;
    let [found] = sums.different.as_slice() else { return Ok(false) };
    if !global.json {
        diff::show(engine.tables(), found, false);
    }
    Ok(found.differences.len() == 1)
}

async fn finish(global: &Global, args: &DemoArgs, report: &Report, urls: [&str; 2], state: &Path) {
    if global.json {
        output::json(report);
    } else {
        output::line(format!(
            "{}: {} legacy rows and {} live transactions became {} target rows in {:.1} s; damage {}",
            report.migration,
            report.legacy_rows,
            report.live_transactions,
            report.target_rows,
            report.seconds,
            if report.damage_found { "found" } else { "NOT FOUND" }
        ));
    }
    if args.keep {
        let [source, target] = urls;
        output::say(format!(
            "the servers run until Ctrl-C; try:\n  export REHOME_SOURCE={source} REHOME_TARGET={target} REHOME_STATE={}\n  \
             rehome status {m}\n  rehome quarantine list {m}\n  rehome log show {m}",
            state.display(),
            m = report.migration
        ));
        std::future::pending::<()>().await;
    }
}

fn step(text: &str) {
    output::say(format!("==> {text}"));
}

fn words(error: impl std::error::Error) -> Failure {
    Failure::from(crate::engine::session::chain(&error))
}

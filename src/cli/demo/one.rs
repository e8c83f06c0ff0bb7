//! Shows one migration: private servers, generated legacy data, live writers, a comparison of every unit, a damaged row.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::demo::Generator;
use crate::demo::writer::Pace;
use crate::engine::protocol::{Answer, Request, Status};
use crate::engine::{Earlier, Engine, Settings, Sums, Until};
use crate::mapping::Migration;
use crate::mapping::schema::Store;
use crate::rules::Ruleset;

use super::super::args::{DemoArgs, Global};
use super::super::exit::Exit;
use super::super::{Failure, diff, locate, output, status};
use super::report::Report;
use super::stores::Stores;
use super::{program, step, words};

/// Live transactions a second: a busy table of that kind, and enough to overlap with the copy.
const WRITES_PER_SECOND: u32 = 60;
/// How long the demo waits for the run to catch up before it says that it does not.
const PATIENCE: Duration = Duration::from_secs(120);

/// What has to be in the log until everything that was written is there.
#[derive(Debug, Clone, Copy)]
enum Mark {
    /// A position of the source.
    Position(crate::event::Lsn),
    /// So many events of the streams, which began with the live writers.
    Streamed(u64),
}

/// What a demo works on. The state folder goes before the servers do.
struct Demo {
    state: TempDir,
    engine: Engine,
    generator: Generator,
    stores: Stores,
}

/// Shows a migration; exit code 0 says that every unit was equal, every equation held, and the damage was found.
pub async fn show(global: &Global, args: &DemoArgs, name: &str, stop: &CancellationToken) -> Result<Exit, Failure> {
    let began = Instant::now();
    let demo = tokio::select! {
        demo = Demo::prepare(global, args, name) => demo?,
        // What was started by then is owned by the other branch, and stops with it.
        () = stop.cancelled() => return Ok(Exit::Incomplete),
    };
    step("copying and following, while live writers change, move and delete rows");
    let backfill = Backfill::start(&demo.engine);
    let shown = tokio::select! {
        shown = demo.show(global, args, began) => shown,
        () = stop.cancelled() => Ok(Exit::Incomplete),
    };
    let ended = backfill.stop().await;
    let shown = shown?;
    ended?;
    Ok(shown)
}

impl Demo {
    /// Starts servers, fills the legacy one, and prepares both sides for the migration.
    async fn prepare(global: &Global, args: &DemoArgs, name: &str) -> Result<Self, Failure> {
        let place = locate::find(global, name)?;
        let folder = place.path().join("demo");
        let generator = Generator::load(&folder, args.seed).map_err(words)?;
        let migration: Arc<Migration> = locate::load(global, name)?.into();
        step("starting private servers");
        let stores = Stores::start(migration.source_store(), migration.target_store()).await?;
        let loaded = stores.load(&folder, &generator, args.units).await?;
        step(&format!("loaded {} legacy rows, with the hazards that are known", loaded.rows));
        let state = tempfile::Builder::new().prefix("rehome-demo-").tempdir().map_err(words)?;
        let (source, target) = (Some(stores.source_url()), Some(stores.target_url()));
        let mut settings = Settings::new(state.path().to_owned(), source, target);
        // Hazards are dense in generated data; in a real migration so many parked units would be worth a halt.
        settings.park_percent_max = 100;
        let engine = Engine::new(migration, settings);
        engine.up(Earlier::Refuse).await?;
        Ok(Self { state, engine, generator, stores })
    }

    /// Writes beside the run, compares every unit, damages a row and finds it.
    async fn show(&self, global: &Global, args: &DemoArgs, began: Instant) -> Result<Exit, Failure> {
        let Self { engine, stores, .. } = self;
        let pace = Pace { units: args.units, first_step: 0, steps_max: args.writes, per_second: WRITES_PER_SECOND };
        let live = stores.write_live(&self.generator, pace).await?;
        let status = caught_up(engine, live.changes).await?;
        step(&format!("{} live transactions later: caught up; comparing every unit", live.committed));
        let sums = engine.comparer().await?.all().await?;
        let mut report = Report { live_transactions: live.committed, ..Report::new(&status, &sums) };
        if !global.json {
            show_sums(&status, &sums, &report);
        }
        damage_and_find(global, engine, stores, &mut report).await?;
        report.seconds = began.elapsed().as_secs_f64();
        if global.json {
            output::json(&report);
        } else {
            conclude(&report);
        }
        if args.keep {
            self.keep(&report).await;
        } else if !global.json {
            next(&report.migration);
        }
        Ok(report.exit())
    }

    /// Leaves the servers running, and tells how to look at them.
    async fn keep(&self, report: &Report) {
        let (me, name) = (program(), &report.migration);
        let unit = report.damaged_unit.as_deref().unwrap_or("UNIT").replace('\'', "'\\''");
        output::say(format!(
            "the servers run until Ctrl-C; in another terminal:\n  \
             export REHOME_SOURCE='{}' REHOME_TARGET='{}' REHOME_STATE='{}'\n  {me} status {name}\n  \
             {me} diff {name} '{unit}'    # the damage; `quarantine retry` mends it\n  {me} quarantine list {name}",
            self.stores.source_url(),
            self.stores.target_url(),
            self.state.path().display()
        ));
        std::future::pending::<()>().await;
    }
}

/// The run, in a task of its own, which ends with it.
struct Backfill {
    stop: CancellationToken,
    task: AbortOnDropHandle<Result<(), crate::engine::Error>>,
}

impl Backfill {
    fn start(engine: &Engine) -> Self {
        let stop = CancellationToken::new();
        let (engine, token) = (engine.clone(), stop.clone());
        let task = tokio::spawn(async move { engine.run(Until::Stopped, token, |_, _| {}).await });
        Self { stop, task: AbortOnDropHandle::new(task) }
    }

    async fn stop(self) -> Result<(), Failure> {
        self.stop.cancel();
        Ok(self.task.await.map_err(words)??)
    }
}

/// Waits until the target holds everything that was written before.
async fn caught_up(engine: &Engine, changes: u64) -> Result<Status, Failure> {
    let mark = match engine.migration().source_store() {
        Store::Postgres => {
            engine.comparer().await?.source_position().await?.map_or(Mark::Streamed(changes), Mark::Position)
        }
        Store::DynamoDb => Mark::Streamed(changes),
    };
    let began = Instant::now();
    loop {
        let Answer::Status(status) = engine.ask(Request::Status).await? else {
            return Err(Failure::from("the run does not tell where it is".to_owned()));
        };
        let passed = status.capture.as_ref().is_some_and(|capture| match mark {
            Mark::Position(position) => {
                capture["durable"].as_str().and_then(|durable| durable.parse().ok()) >= Some(position)
            }
            Mark::Streamed(events) => capture["streamed"].as_u64() >= Some(events),
        });
        if passed && status.applied == status.log_end && status.dirty == 0 && status.phase == "caught_up" {
            return Ok(*status);
        }
        if began.elapsed() > PATIENCE {
            let message = format!("not caught up after {} seconds: {}", PATIENCE.as_secs(), status.phase);
            return Err(Failure::from(message));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn show_sums(status: &Status, sums: &Sums, report: &Report) {
    status::show(status);
    let mut table = output::table(&["units", "equal", "different", "unproven", "parked", "target rows", "of others"]);
    table.add_row([
        sums.units.to_string(),
        sums.equal.to_string(),
        sums.different.len().to_string(),
        sums.unproven.len().to_string(),
        sums.parked.values().sum::<u64>().to_string(),
        report.target_rows.to_string(),
        report.rows_of_others.to_string(),
    ]);
    output::line(table.to_string());
    for diff in sums.different.iter().chain(&sums.unproven).take(5) {
        output::line(format!("{}: {}", diff.unit, diff.reason));
    }
}

/// Damages one target row, compares every unit again, and notes whether exactly that was found.
async fn damage_and_find(
    global: &Global,
    engine: &Engine,
    stores: &Stores,
    report: &mut Report,
) -> Result<(), Failure> {
    let Some(damaged) = stores.damage(engine.tables()).await? else {
        return Err(Failure::from("the target has no row to damage".to_owned()));
    };
    step(&format!(
        "damaged one {} of {} at the target, unseen by rehome; comparing again",
        damaged.column, damaged.table
    ));
    let sums = engine.comparer().await?.all().await?;
    let [found] = sums.different.as_slice() else { return Ok(()) };
    if !global.json {
        diff::show(engine.tables(), &Ruleset::none(engine.migration()), found, false);
    }
    report.damage_found = found.differences.len() == 1;
    report.damaged_unit = Some(found.unit.clone());
    Ok(())
}

fn conclude(report: &Report) {
    output::line(format!(
        "{}: {} legacy rows and {} live transactions became {} target rows in {:.1} s; damage {}",
        report.migration,
        report.rows.read,
        report.live_transactions,
        report.target_rows,
        report.seconds,
        if report.damage_found { "found" } else { "NOT FOUND" }
    ));
}

/// What to do after that.
fn next(name: &str) {
    let me = program();
    output::say(format!(
        "try next:\n  {me} demo {name} --keep    # the servers stay: look around\n  \
         {me} demo {name} --seed 2 --units 1000    # other data\n  \
         {me} check {name}    # its files, read as a compiler reads code"
    ));
}

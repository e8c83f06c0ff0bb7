//! The command line: one file per command, exit codes, and errors as words for people.

mod alarm;
mod args;
mod certificate;
mod check;
mod demo;
mod diff;
mod exit;
mod load;
mod locate;
mod new;
mod output;
mod plan;
mod progress;
mod quarantine;
mod query;
mod reconcile;
mod records;
mod report;
mod run;
mod setup;
mod status;

use std::process::ExitCode;

use clap::Parser as _;

use crate::engine::{self, Earlier, Engine, Settings, Sharing};
use crate::mapping::Migration;
use args::{Cli, Command, Global, LogForm, Lookups, RunArgs, TargetArgs, Verbosity};
use engine::session::chain;
use exit::Exit;

/// Parses the command line, does what it says, and tells how that went.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no failures; the parser's own code 2 would mean something else here.
            let exit = if error.use_stderr() { Exit::Failure } else { Exit::Success };
            let _ = error.print();
            return exit.into();
        }
    };
    begin_tracing(&cli.global);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return output::failure(&Failure::from(error.to_string()), cli.global.json).into(),
    };
    let json = cli.global.json;
    let exit = runtime.block_on(dispatch(cli)).unwrap_or_else(|failure| output::failure(&failure, json));
    exit.into()
}

async fn dispatch(cli: Cli) -> Result<Exit, Failure> {
    let global = &cli.global;
    match cli.command {
        Command::Demo(args) => demo::run(global, args).await,
        Command::New(args) => new::run(global, args).await,
        Command::Check { migration, lookups } => check::run(global, &migration, &lookups).await,
        Command::Plan(args) => plan::run(global, args).await,
        Command::Up { migration, adopt, lookups } => {
            setup::up(global, &migration, if adopt { Earlier::Adopt } else { Earlier::Refuse }, &lookups).await
        }
        Command::Run(args) => run::run(global, args).await,
        Command::Status { migration } => status::run(global, &migration).await,
        Command::Diff { migration, unit, reveal } => diff::run(global, &migration, &unit, reveal).await,
        Command::Reconcile(args) => reconcile::run(global, args).await,
        Command::Report(args) => report::run(global, args).await,
        Command::Certificate { action } => certificate::run(global, action),
        Command::Query { migration, name, arguments, limit } => {
            query::run(global, &migration, name.as_deref(), &arguments, limit).await
        }
        Command::Quarantine { action } => quarantine::run(global, action).await,
        Command::AcceptSchema { migration, table, read_again } => {
            records::accept_schema(global, &migration, &table, read_again).await
        }
        Command::Load(args) => load::load(global, &args).await,
        Command::Log { action } => records::act(global, action).await,
        Command::Stop { migration } => setup::stop(global, &migration).await,
        Command::Down { migration, yes } => setup::down(global, &migration, yes).await,
    }
}

/// Why a command could not do what it was asked: message, and what to do next.
#[derive(Debug)]
pub struct Failure {
    /// What went wrong, with its causes.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl From<engine::Error> for Failure {
    fn from(error: engine::Error) -> Self {
        let mut message = chain(&error);
        if let engine::Error::NotReady(findings) = &error {
            for finding in findings {
                message.push_str(&format!("\n  {}: {}\n    fix: {}", finding.place, finding.what, finding.fix));
            }
        }
        Self { message, hint: error.hint() }
    }
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self { message, hint: None }
    }
}

/// An engine for a migration, with the options that only `run` takes at their defaults.
fn engine(global: &Global, migration: &str) -> Result<Engine, Failure> {
    engine_with(global, migration, &Lookups::default(), |_| {})
}

fn engine_with(
    global: &Global,
    migration: &str,
    lookups: &Lookups,
    tune: impl FnOnce(&mut Settings),
) -> Result<Engine, Failure> {
    Ok(engine_of(global, locate::load(global, migration)?, lookups, tune))
}

/// An engine for a migration that is loaded.
fn engine_of(global: &Global, migration: Migration, lookups: &Lookups, tune: impl FnOnce(&mut Settings)) -> Engine {
    let state = global.state.clone().unwrap_or_else(|| std::path::Path::new(".rehome").join(migration.name()));
    let mut settings = Settings::new(state, global.source.clone(), global.target.clone());
    settings.lookups = lookups.lookups.iter().cloned().collect();
    tune(&mut settings);
    Engine::new(migration.into(), settings)
}

/// What `run` is told beside the migration.
fn tune(run: &RunArgs, settings: &mut Settings) {
    tune_target(&run.target, settings);
    settings.copy_workers = run.copy_workers.into();
    settings.read_capacity = run.read_capacity;
    settings.abandon_slot_at = run.abandon_slot_at;
    settings.accept_source = run.accept_source;
}

/// What whoever writes the target is told of that.
fn tune_target(target: &TargetArgs, settings: &mut Settings) {
    settings.write_capacity = target.write_capacity;
    settings.sharing = if target.exclusive_target { Sharing::Exclusive } else { Sharing::Shared };
    settings.target_connections = target.target_connections.into();
    settings.batch_parts = target.batch_parts.map(|parts| parts as usize);
    settings.unit_bytes_max = target.unit_bytes_max;
    settings.park_percent_max = target.park_percent_max;
    settings.sweep_max = target.sweep_max;
}

/// Sends what is told to standard error; row contents are never in it (I12).
fn begin_tracing(global: &Global) {
    let level = match global.log_level {
        Verbosity::Error => "error",
        Verbosity::Warn => "warn",
        Verbosity::Info => "info",
        Verbosity::Debug => "debug",
    };
    // Libraries may put statements or values into what they tell, so they are not heard (I12).
    let filter = tracing_subscriber::EnvFilter::new(format!("off,rehome={level}"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Colour is for people: in a file or a journal its codes are noise.
    let builder = builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    match global.log_form {
        LogForm::Text => builder.with_target(false).init(),
        LogForm::Json => builder.json().init(),
    }
}

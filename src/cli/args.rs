//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::engine::LookupFrom;
use crate::engine::plan::Sample;

/// Moves data to a new key or a new shape without stopping, and proves that nothing was lost.
///
/// A migration is a folder of three files: what the legacy tables are, what becomes of them, and the target's definition.
/// `rehome check` reads it, `up` prepares both databases, `run` copies and follows until you stop it, `diff` compares one
/// unit, `down` removes what rehome made.
///
/// Exit codes: 0 done or equal, 1 a difference is proven, 2 unproven, parked or unfinished, 3 usage or configuration.
#[derive(Debug, Parser)]
#[command(name = "rehome", version, propagate_version = true, max_term_width = 110)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Write JSON to standard output instead of text for people.
    #[arg(long, global = true)]
    pub json: bool,
    /// Folder of migrations [default: ./schemas where it has the migration, else the ones built in].
    #[arg(long, global = true, value_name = "DIR", env = "REHOME_SCHEMAS")]
    pub schemas: Option<PathBuf>,
    /// Folder of rules for comparing, one MIGRATION.toml each [default: reconcile-rules beside the folder of migrations, or the
    /// ones built in for a migration that is built in].
    #[arg(long, global = true, value_name = "DIR", env = "REHOME_RULES")]
    pub rules: Option<PathBuf>,
    /// State folder of the migration [default: .rehome/MIGRATION].
    #[arg(long, global = true, value_name = "DIR", env = "REHOME_STATE")]
    pub state: Option<PathBuf>,
    /// Address of the source: postgres://user:password@host:port/database, dynamodb://REGION?profile=NAME, or
    /// dynamodb+local://HOST:PORT for a local server.
    #[arg(long, global = true, value_name = "URL", env = "REHOME_SOURCE", hide_env_values = true)]
    pub source: Option<String>,
    /// Address of the target, in the same forms.
    #[arg(long, global = true, value_name = "URL", env = "REHOME_TARGET", hide_env_values = true)]
    pub target: Option<String>,
    /// How much to tell on standard error.
    #[arg(long, global = true, value_enum, default_value_t = Verbosity::Warn, env = "REHOME_LOG")]
    pub log_level: Verbosity,
    /// Form of what is told on standard error.
    #[arg(long, global = true, value_enum, default_value_t = LogForm::Text, env = "REHOME_LOG_FORM")]
    pub log_form: LogForm,
}

/// Levels of what is told on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Verbosity {
    /// Data may be wrong.
    Error,
    /// Recovered; look later.
    Warn,
    /// A stage changed state.
    Info,
    /// For looking into rehome itself.
    Debug,
}

/// Forms of what is told on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogForm {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Files that stand for lookups.
#[derive(Debug, Clone, Default, Args)]
pub struct Lookups {
    /// Take the rows of a lookup table from a file of comma-separated values: a first line of column names, then a line a row;
    /// an empty field is NULL, "" is the empty text. `TABLE=live` reads the table from the source again.
    #[arg(long = "lookup", value_name = "TABLE=FILE", value_parser = lookup)]
    pub lookups: Vec<(String, LookupFrom)>,
}

fn lookup(text: &str) -> Result<(String, LookupFrom), String> {
    match text.split_once('=') {
        Some((table, "live")) if !table.is_empty() => Ok((table.to_owned(), LookupFrom::Live)),
        Some((table, file)) if !table.is_empty() && !file.is_empty() => {
            Ok((table.to_owned(), LookupFrom::File(file.into())))
        }
        _ => Err("write it as TABLE=FILE, or TABLE=live".to_owned()),
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// See it work: private servers, generated legacy data, live writers, a comparison of every unit, a damaged row found.
    ///
    /// Without a name, every migration that has generated data is shown side by side, each in a process of its own. What is
    /// started ends with the demo, after Ctrl-C too.
    Demo(DemoArgs),
    /// Write a first draft of a migration, from a live database's own tables: each row its own unit, each table one table.
    ///
    /// The draft passes `check` as it stands and can be run; what is to be decided is marked CHOICE in it. Nothing of what rows
    /// hold is in it, and nothing is overwritten. --target says which kind of store to migrate to: `postgres`, `dynamodb`, or an
    /// address of one; the source's own kind when absent.
    New(NewArgs),
    /// Read a migration's files, run its cases, and where --source is given look over that database.
    Check {
        /// The migration.
        migration: String,
        #[command(flatten)]
        lookups: Lookups,
    },
    /// Foresee what a migration comes to, from its source alone: nothing is made or written anywhere.
    ///
    /// Every row of the source is read and mapped, as `reconcile` does it, or those of a sample. Told are target rows and bytes,
    /// what writing costs, keys that two rows want, rows that would be dropped, parked or refused by reason, large items and
    /// partitions, and the disk and time that a run needs. Keys are shown; contents never are. Exit codes: 0 everything would
    /// arrive, 2 something would not.
    Plan(PlanArgs),
    /// Look both databases over, create the target tables and rehome's own, prepare the state folder.
    Up {
        /// The migration.
        migration: String,
        /// Take over the units that an earlier state folder, which is lost, wrote to the target: they are written again, and
        /// those that have left the source since are removed. Its replication slot is dropped.
        #[arg(long)]
        adopt: bool,
        #[command(flatten)]
        lookups: Lookups,
    },
    /// Copy what is there, follow what changes, and write it to the target, until stopped; goes on where it left off.
    Run(RunArgs),
    /// Tell where a migration stands, and its conservation equations.
    Status {
        /// The migration.
        migration: String,
    },
    /// Migrate from dumps instead of a live source: one file of JSON lines for each table, named TABLE.jsonl.
    ///
    /// A line is a row as an object of columns (a json column as a string that holds its text), or an item in DynamoDB JSON.
    /// Goes on where it was cut off; a broken line is named by its number. Loaded again, what the dumps no longer hold goes.
    Load(LoadArgs),
    /// Compare one unit by the migration's rules: what the mapping makes of its legacy rows, and what the target holds, field by
    /// field.
    Diff {
        /// The migration.
        migration: String,
        /// The unit, such as a call's id.
        unit: String,
        /// Show contents; without it only kinds and lengths are shown.
        #[arg(long)]
        reveal: bool,
    },
    /// Compare everything, through the mapping, and say with proof what differs; writes a report by night.
    ///
    /// Reads both sides once, whole, beside a running `run`. Exit codes: 0 MATCH, 1 MISMATCH, 2 INCOMPLETE: something could not
    /// be compared or proven.
    Reconcile(ReconcileArgs),
    /// Show what a night's comparison came to: the latest one, or the one that --night names. Its exit code is the verdict's.
    Report(ReportArgs),
    /// Check the certificate of a comparison.
    Certificate {
        #[command(subcommand)]
        action: CertificateAction,
    },
    /// Ask the target one of the questions that the migration declares, such as all rows of one owner, the latest first.
    ///
    /// Without a name it lists them. Only keys and indexes are read, unless the query itself says that it scans; what was read
    /// for the answer is told on standard error.
    Query {
        /// The migration.
        migration: String,
        /// The query.
        name: Option<String>,
        /// What it asks for; `--` before one that begins with a hyphen.
        #[arg(value_name = "ARG")]
        arguments: Vec<String>,
        /// Tell at most this many rows.
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
    },
    /// Look at units and rows that could not be migrated, and decide about them.
    Quarantine {
        #[command(subcommand)]
        action: QuarantineAction,
    },
    /// Take a source table's changed shape, and go on with the events held back since.
    AcceptSchema {
        /// The migration.
        migration: String,
        /// The table.
        table: String,
        /// Give up the events held back, and have the next run read the source again instead: for a shape in between that
        /// cannot be taken, such as a column that was renamed and renamed back.
        #[arg(long)]
        read_again: bool,
    },
    /// Look at the event log.
    Log {
        #[command(subcommand)]
        action: LogAction,
    },
    /// Stop a run or a load that is under way, cleanly, as SIGTERM does.
    Stop {
        /// The migration.
        migration: String,
    },
    /// Remove what rehome made: slot and publication, its records at the target, the state folder. Target tables stay.
    ///
    /// Their rows count as someone else's from then on, and what lies in the state folder beside rehome's own files stays. Works without the state folder too: what carries the migration's name is found in both databases.
    Down {
        /// The migration.
        migration: String,
        /// Do it without asking.
        #[arg(long)]
        yes: bool,
    },
}

/// Options of `demo`.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// The migration [default: all that have generated data].
    pub migration: Option<String>,
    /// Units to generate.
    #[arg(long, default_value_t = 400, value_name = "N")]
    pub units: u64,
    /// Seed of the generated data.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// Live transactions while it runs.
    #[arg(long, default_value_t = 300, value_name = "N")]
    pub writes: u64,
    /// Keep the servers and the state until Ctrl-C, and tell how to look at them; for one migration.
    #[arg(long, requires = "migration")]
    pub keep: bool,
    /// End when standard input does: what starts several demos holds the other end.
    #[arg(long, hide = true, requires = "migration")]
    pub with_parent: bool,
}

/// Options of `new`.
#[derive(Debug, Clone, Args)]
pub struct NewArgs {
    /// Name of the migration.
    pub name: String,
    /// Tables to take in, TABLE or SCHEMA.TABLE each [default: all].
    #[arg(long, value_name = "TABLE,…", value_delimiter = ',')]
    pub tables: Vec<String>,
    /// Folder of migrations to write it to; its rules go to the folder of rules beside that [default: --schemas, or ./schemas].
    #[arg(long, value_name = "DIR")]
    pub into: Option<PathBuf>,
}

/// Options of `plan`.
#[derive(Debug, Clone, Args)]
pub struct PlanArgs {
    /// The migration.
    pub migration: String,
    #[command(flatten)]
    pub lookups: Lookups,
    /// Look at a part of the source: `5%`, or a number of rows. Figures are then estimates, each with its 95 % interval. Tables whose
    /// rows are mapped one by one are read in part; of others every row is read, and a part of the units is mapped.
    #[arg(long, value_name = "PERCENT|ROWS", value_parser = sample)]
    pub sample: Option<Sample>,
    /// Write units a second that the DynamoDB target will have.
    #[arg(long, value_name = "UNITS", value_parser = clap::value_parser!(u32).range(1..))]
    pub write_capacity: Option<u32>,
    /// Read at most this many units a second in the scan of a DynamoDB source.
    #[arg(long, value_name = "UNITS", value_parser = clap::value_parser!(u32).range(1..))]
    pub read_capacity: Option<u32>,
    /// Connections that the run will write to the target with; a DynamoDB target is written as fast as they are answered.
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub target_connections: u16,
    /// Ranges of the source that are read at the same time.
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub workers: u16,
    /// Folder for what does not fit into memory [default: the system's for temporary files].
    #[arg(long, value_name = "DIR")]
    pub spill: Option<PathBuf>,
    /// Keys to show of each kind.
    #[arg(long, default_value_t = 5, value_name = "N")]
    pub shown: usize,
}

fn sample(text: &str) -> Result<Sample, String> {
    let wrong = || "write a part as 5%, or a number of rows".to_owned();
    match text.strip_suffix('%') {
        Some(percent) => match percent.trim().parse::<f64>() {
            // A part of a part of a thousand is nothing that an interval could be made of.
            Ok(percent) if (0.01..=100.0).contains(&percent) => Ok(Sample::Percent(percent)),
            _ => Err("a part is between 0.01% and 100%".to_owned()),
        },
        None => text.parse::<u64>().ok().filter(|rows| *rows > 0).map(Sample::Rows).ok_or_else(wrong),
    }
}

/// Options of `reconcile`.
#[derive(Debug, Clone, Args)]
pub struct ReconcileArgs {
    /// The migration.
    pub migration: String,
    /// Ranges of each side that are read at the same time.
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub workers: u16,
    /// How long rows that change while they are compared are waited for, in seconds; what still moves then is unsettled.
    #[arg(long, default_value_t = 120, value_name = "SECONDS")]
    pub patience: u64,
    /// Folder for what does not fit into memory, about 150 bytes a row [default: a folder in the state folder].
    #[arg(long, value_name = "DIR")]
    pub spill: Option<PathBuf>,
    /// Go on with a comparison that was killed, or that a server failed, if there is one and mapping and rules are as they were:
    /// ranges that are still as they were read are not read again. Without this, what such a comparison left is removed.
    #[arg(long)]
    pub resume: bool,
    /// Plant no faults; the verdict is INCOMPLETE then at best.
    #[arg(long)]
    pub no_canaries: bool,
    /// Folder of reports; the night goes to DIR/MIGRATION/NIGHT/.
    #[arg(long, value_name = "DIR", default_value = "rehome-reports", env = "REHOME_REPORTS")]
    pub reports: PathBuf,
    /// Sign the certificate with this private key in PEM: `openssl genpkey -algorithm ed25519` writes one.
    #[arg(long, value_name = "FILE", env = "REHOME_SIGN_WITH")]
    pub sign_with: Option<PathBuf>,
    /// Keep contents of rows in the report; without it only kinds and lengths are.
    #[arg(long)]
    pub reveal: bool,
    #[command(flatten)]
    pub alarm: AlarmArgs,
}

/// How the target is written, by `run` and by `load`.
#[derive(Debug, Clone, Args)]
pub struct TargetArgs {
    /// Connections that write to the target.
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub target_connections: u16,
    /// Write at most this many units, or parts of them, at once: fewer make transactions short, more make a backlog fast [default: 16384
    /// in Postgres, 4096 in DynamoDB].
    #[arg(long, value_name = "PARTS", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub batch_parts: Option<u32>,
    /// Park a unit whose rows are larger than this many bytes.
    #[arg(long, default_value_t = 4 << 30, value_name = "BYTES")]
    pub unit_bytes_max: u64,
    /// Halt when more than this share of the units evaluated were parked, or have rows in quarantine; 100 never halts.
    #[arg(long, default_value_t = 20, value_name = "PERCENT", value_parser = clap::value_parser!(u64).range(0..=100))]
    pub park_percent_max: u64,
    /// After a new snapshot, or a new reading of dumps, delete at most this many rows that it did not find; more halt, and so
    /// does a table of which it found no row at all. 18446744073709551615 deletes whatever is missing.
    #[arg(long, default_value_t = 1_000, value_name = "ROWS")]
    pub sweep_max: u64,
    /// Write at most this many units a second to a DynamoDB target.
    #[arg(long, value_name = "UNITS", value_parser = clap::value_parser!(u32).range(1..))]
    pub write_capacity: Option<u32>,
    /// Nobody else writes the DynamoDB target's tables: while one that was empty is filled, items go in batches, without a
    /// condition each.
    #[arg(long)]
    pub exclusive_target: bool,
}

/// Options of `load`.
#[derive(Debug, Clone, Args)]
pub struct LoadArgs {
    /// The migration.
    pub migration: String,
    /// The files, one for every source table that no --lookup gives.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Take every file anew, also where an earlier load was cut off: a file has changed since.
    #[arg(long)]
    pub again: bool,
    #[command(flatten)]
    pub lookups: Lookups,
    #[command(flatten)]
    pub target: TargetArgs,
}

/// Options of `run`.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// The migration.
    pub migration: String,
    #[command(flatten)]
    pub lookups: Lookups,
    #[command(flatten)]
    pub target: TargetArgs,
    /// Stop by itself when the target holds everything that the source held when the copy was complete.
    #[arg(long, value_enum, default_value_t = UntilArg::Stopped)]
    pub until: UntilArg,
    /// Ranges copied at the same time.
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub copy_workers: u16,
    /// Take the source for the right one although it is another server or database than before, such as a restored one.
    #[arg(long)]
    pub accept_source: bool,
    /// Give the replication slot up, and begin a new epoch, when it holds back this many bytes of the source's WAL.
    #[arg(long, value_name = "BYTES")]
    pub abandon_slot_at: Option<u64>,
    /// Read at most this many units a second in the scan of a DynamoDB source.
    #[arg(long, value_name = "UNITS", value_parser = clap::value_parser!(u32).range(1..))]
    pub read_capacity: Option<u32>,
}

/// When a run ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum UntilArg {
    /// Never.
    Stopped,
    /// When it has caught up.
    CaughtUp,
}

/// Options of `report`.
#[derive(Debug, Clone, Args)]
pub struct ReportArgs {
    /// The migration.
    pub migration: String,
    /// Folder of reports: DIR/MIGRATION/NIGHT/.
    #[arg(long, value_name = "DIR", default_value = "rehome-reports", env = "REHOME_REPORTS")]
    pub reports: PathBuf,
    /// The comparison that began then, as 2026-01-31T02-00-00Z.
    #[arg(long, conflicts_with = "list")]
    pub night: Option<String>,
    /// List the nights there are.
    #[arg(long)]
    pub list: bool,
    /// Write Markdown, for a ticket or a chat.
    #[arg(long, conflicts_with_all = ["list", "json"])]
    pub markdown: bool,
    /// Raise the alarm of `reconcile` again, by this command. REHOME_ON_ALARM does not count here: looking is no alarm.
    #[arg(long, value_name = "COMMAND")]
    pub on_alarm: Option<String>,
    /// Raise the alarm of `reconcile` again, at this address. REHOME_WEBHOOK does not count here.
    #[arg(long, value_name = "URL")]
    pub webhook: Option<String>,
}

/// Whom to tell when a comparison did not end in MATCH.
#[derive(Debug, Clone, Args)]
pub struct AlarmArgs {
    /// Run this command of the shell on MISMATCH and INCOMPLETE. It is given summary.json on standard input, and in the
    /// environment REHOME_MIGRATION, REHOME_VERDICT, REHOME_REPORT (the folder) and REHOME_REPORT_PAGE, _SUMMARY,
    /// _DISCREPANCIES, _CERTIFICATE and _MARKDOWN (its files).
    #[arg(long, value_name = "COMMAND", env = "REHOME_ON_ALARM")]
    pub on_alarm: Option<String>,
    /// Post summary.json to this address on MISMATCH and INCOMPLETE.
    #[arg(long, value_name = "URL", env = "REHOME_WEBHOOK", hide_env_values = true)]
    pub webhook: Option<String>,
}

/// What to do with a certificate.
#[derive(Debug, Subcommand)]
pub enum CertificateAction {
    /// Check that the owner of a key signed it, and that the files beside it are the ones it speaks of. Exit code 1 says that
    /// one of this is not so.
    Verify {
        /// The certificate.json of a night.
        file: PathBuf,
        /// The public key in PEM: `openssl pkey -in key.pem -pubout` writes it.
        #[arg(long, value_name = "FILE")]
        public_key: PathBuf,
    },
}

/// What to do about the quarantine.
#[derive(Debug, Subcommand)]
pub enum QuarantineAction {
    /// List parked units and rows, with reasons.
    List {
        /// The migration.
        migration: String,
    },
    /// Show one unit: reason, place, its rows by table.
    Show {
        /// The migration.
        migration: String,
        /// The unit.
        unit: String,
    },
    /// Evaluate parked units again, after their cause was mended.
    Retry {
        /// The migration.
        migration: String,
        /// Units; when none is named, all that are parked or have rows in quarantine, but for skipped ones.
        units: Vec<String>,
    },
    /// Leave a parked unit out of the migration, for a reason that is kept in the log; `retry` with its name takes it back in.
    ///
    /// All of the unit is left out: rows of it that are at the target go. A unit of which only single rows are in quarantine is
    /// refused.
    Skip {
        /// The migration.
        migration: String,
        /// The unit.
        unit: String,
        /// Why.
        #[arg(long)]
        reason: String,
    },
}

/// What to do with the log.
#[derive(Debug, Subcommand)]
pub enum LogAction {
    /// Show records: keys, versions, origins; contents only with --reveal.
    Show {
        /// The migration.
        migration: String,
        /// Offset of the first record.
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// How many at most.
        #[arg(long, default_value_t = 20)]
        limit: u64,
        /// Only records of this source table.
        #[arg(long)]
        table: Option<String>,
        /// Show contents.
        #[arg(long)]
        reveal: bool,
    },
    /// Erase every event of rows that have gone, as the law may ask for a person's.
    ///
    /// The rows must have been deleted in the source, the target must have followed, and no run may be under way. Log and
    /// state are written anew without them, which needs as much room on the disk again. Each event leaves a mark with a
    /// digest of its key, so that the log's chain of digests still closes.
    Erase {
        /// The migration.
        migration: String,
        /// The source table.
        table: String,
        /// Keys of the rows, as `log show` shows them; the parts of a key of several columns are joined by a comma and a space.
        #[arg(required = true, value_name = "KEY")]
        keys: Vec<String>,
    },
}

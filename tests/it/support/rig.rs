//! The built binary between two databases of a test's own.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rehome::event::Lsn;
use serde_json::Value;
use tempfile::TempDir;

use super::cluster::Database;
use super::legacy::{self, Compared};

/// Nothing that a test waits for takes so long; a hang is then a failure.
const PATIENCE: Duration = Duration::from_secs(120);

/// The built binary, held open: a build beside the tests may put another one in its place.
static BINARY: OnceLock<File> = OnceLock::new();

/// A migration under test.
pub struct Rig {
    /// Its name.
    pub migration: &'static str,
    /// The legacy database.
    pub legacy: Database,
    /// The target database.
    pub target: Database,
    /// Holds the state folder `state`.
    pub folder: TempDir,
}

/// How a command ended.
#[derive(Debug)]
pub struct Outcome {
    /// Exit code; −1 when a signal ended it.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Outcome {
    /// Standard output as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Panics unless the exit code is as expected.
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        self
    }
}

/// A `run` under way; killed when it is dropped.
pub struct Run {
    child: Child,
    /// What it tells.
    log: PathBuf,
}

impl Rig {
    /// Two databases, the legacy one with empty tables.
    pub async fn new() -> Self {
        let legacy = legacy::database().await;
        Self::of("luthien", legacy, Database::new().await)
    }

    /// A migration between two databases.
    pub fn of(migration: &'static str, legacy: Database, target: Database) -> Self {
        Self { migration, legacy, target, folder: tempfile::tempdir().expect("a folder") }
    }

    /// As [`Rig::new`], and prepared by `up`.
    pub async fn up() -> Self {
        let rig = Self::new().await;
        rig.rehome(&["up", "luthien"]).expect(0);
        rig
    }

    /// The state folder.
    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// A command with all addresses.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = bare();
        command.args(arguments).arg("--state").arg(self.state());
        command.args(["--source", &self.legacy.url, "--target", &self.target.url]);
        command
    }

    /// Runs a command to its end.
    pub fn rehome(&self, arguments: &[&str]) -> Outcome {
        finish(self.command(arguments))
    }

    /// Runs until caught up; all must be well.
    pub fn catch_up(&self) -> Outcome {
        self.rehome(&["run", self.migration, "--until", "caught-up"]).expect(0)
    }

    /// Starts a run that goes on.
    pub fn start(&self, arguments: &[&str]) -> Run {
        self.begin(&[&["run", self.migration], arguments].concat())
    }

    /// Starts a command that goes on.
    pub fn begin(&self, arguments: &[&str]) -> Run {
        let mut command = self.command(arguments);
        let log = self.folder.path().join(format!("run-{}.log", uuid::Uuid::new_v4()));
        let file = std::fs::File::create(&log).expect("a file");
        command.stdin(Stdio::null()).stdout(file.try_clone().expect("a file")).stderr(file);
        Run { child: command.spawn().expect("it starts"), log }
    }

    /// `status --json`.
    pub fn status(&self) -> Value {
        self.rehome(&["status", self.migration, "--json"]).json()
    }

    /// Polls until a condition holds.
    pub fn until(&self, what: &str, run: &mut Run, wanted: impl FnMut(&Value) -> bool) -> Value {
        self.until_with(&[], what, run, wanted)
    }

    /// As [`Rig::until`], for a migration that further arguments lead to.
    pub fn until_with(
        &self,
        more: &[&str],
        what: &str,
        run: &mut Run,
        mut wanted: impl FnMut(&Value) -> bool,
    ) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            run.assert_alive(what);
            let outcome = self.rehome(&[&["status", self.migration, "--json"], more].concat());
            // While it starts there is nothing to ask yet.
            if let Ok(status) = serde_json::from_str::<Value>(&outcome.out)
                && status["running"] == true
                && wanted(&status)
            {
                return status;
            }
            assert!(Instant::now() < deadline, "waited too long: {what}: {outcome:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until everything committed in the source by now is at the target.
    pub async fn settled(&mut self, run: &mut Run) -> Value {
        self.legacy.run("select pg_logical_emit_message(true, 'test', 'settled')").await;
        let position = self.legacy.text("select pg_current_wal_insert_lsn()::text").await;
        let position: Lsn = position.parse().expect("a position");
        self.until("settled", run, |status| {
            let durable = status["capture"]["durable"].as_str().and_then(|text| text.parse::<Lsn>().ok());
            durable.is_some_and(|durable| durable >= position)
                && status["applied"] == status["log_end"]
                && status["dirty"] == 0
                && status["phase"] == "caught_up"
        })
    }

    /// Compares the target with the oracle.
    pub async fn compare(&mut self) -> Compared {
        legacy::compare(&mut self.legacy, &mut self.target).await
    }

    /// Units in quarantine: unit, reason.
    pub fn parked(&self) -> Vec<(String, String)> {
        let listed = self.rehome(&["quarantine", "list", self.migration, "--json"]).json();
        let units = listed.as_array().expect("a list").iter();
        units
            .filter(|unit| unit["result"]["status"] == "parked")
            .map(|unit| (text(&unit["unit"]), text(&unit["result"]["reason"])))
            .collect()
    }

    /// The exit code and verdict of a comparison.
    pub fn diff(&self, unit: &str) -> (i32, String) {
        let outcome = self.rehome(&["diff", self.migration, unit, "--json"]);
        assert!(outcome.code < 3, "{outcome:?}");
        (outcome.code, text(&outcome.json()["verdict"]))
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

impl Run {
    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it told so far.
    pub fn told(&self) -> String {
        std::fs::read_to_string(&self.log).expect("its log")
    }

    /// Panics when it has ended.
    pub fn assert_alive(&mut self, what: &str) {
        if let Some(status) = self.child.try_wait().expect("a child") {
            panic!("the run ended before {what}: {status}: {}", self.told());
        }
    }

    /// Ends it at once, as a crash would.
    pub fn kill(mut self) {
        self.child.kill().expect("it may be killed");
        self.child.wait().expect("a child");
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.id().to_string()).status().expect("kill runs");
        assert!(sent.success());
    }

    /// Asks it to stop, as a service manager does; returns its exit code and what it told.
    pub fn terminate(self) -> Outcome {
        self.signal("TERM");
        self.ended()
    }

    /// Waits for its end.
    pub fn ended(mut self) -> Outcome {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                let told = self.told();
                return Outcome { code: status.code().unwrap_or(-1), out: told.clone(), err: told };
            }
            assert!(Instant::now() < deadline, "it does not end: {}", self.told());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command without addresses, and without what the environment says.
pub fn bare() -> Command {
    let binary = BINARY.get_or_init(|| File::open(env!("CARGO_BIN_EXE_rehome")).expect("the binary is built"));
    let mut command = Command::new(format!("/proc/{}/fd/{}", std::process::id(), binary.as_raw_fd()));
    command.arg0("rehome");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("REHOME_")) {
        command.env_remove(name);
    }
    command.env("REHOME_SCHEMAS", Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas"));
    command
}

/// Runs a command to its end, but not for ever.
pub fn finish(command: Command) -> Outcome {
    finish_within(command, PATIENCE)
}

/// As [`finish`], for a command that may take longer.
pub fn finish_within(mut command: Command, patience: Duration) -> Outcome {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let (mut out, mut err) = (child.stdout.take().expect("a pipe"), child.stderr.take().expect("a pipe"));
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        err.read_to_string(&mut text).expect("text");
        text
    });
    let watched = std::thread::spawn(move || {
        let mut text = String::new();
        out.read_to_string(&mut text).expect("text");
        text
    });
    let deadline = Instant::now() + patience;
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child") {
            break status;
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            panic!("it does not end: {command:?}: {:?}", reader.join());
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let (out, err) = (watched.join().expect("no panic"), reader.join().expect("no panic"));
    Outcome { code: status.code().unwrap_or(-1), out, err }
}

//! The demo from beginning to end: each migration alone, all side by side, and what is left when it is stopped.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::rig::{bare, finish_within};

/// No demo of little data takes so long, on a busy machine either.
const PATIENCE: Duration = Duration::from_secs(600);

/// Runs the demo of one migration on little data; what it reports, with its exit code 0.
fn demo(migration: &str, units: u64, writes: u64) -> Value {
    let mut command = bare();
    command.args(["demo", migration, "--json", "--units", &units.to_string(), "--writes", &writes.to_string()]);
    finish_within(command, PATIENCE).expect(0).json()
}

/// What every demo promises.
fn assert_proven(report: &Value) {
    let count = |name: &str| report[name].as_u64().unwrap_or_default();
    assert_eq!((count("different"), count("unproven"), count("rows_of_others")), (0, 0, 0), "{report}");
    assert!(count("equal") > 10 && count("target_rows") > 50 && count("live_transactions") > 20, "{report}");
    assert_eq!((&report["balanced"], &report["damage_found"]), (&true.into(), &true.into()), "{report}");
    let rows = &report["rows"];
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    let sum =
        |value: &Value| value.as_object().into_iter().flat_map(|reasons| reasons.values()).map(number).sum::<u64>();
    let accounted = number(&rows["mapped"])
        + number(&rows["lookup"])
        + number(&rows["waiting"])
        + sum(&rows["dropped"])
        + sum(&rows["quarantined"]);
    assert_eq!(number(&rows["read"]), accounted, "{report}");
    assert!(number(&rows["mapped"]) > 100 && sum(&rows["quarantined"]) > 0, "{report}");
}

#[test]
fn the_demo_of_calls_finds_everything_equal_and_the_damage() {
    let report = demo("luthien", 60, 40);
    assert_proven(&report);
    assert!(report["rows"]["dropped"]["duplicate_chunk"].as_u64() > Some(0), "{report}");
}

#[test]
fn the_demo_of_collections_finds_everything_equal_and_the_damage() {
    let report = demo("semantik", 60, 40);
    assert_proven(&report);
    let rows = &report["rows"];
    assert!(rows["dropped"]["duplicate_content"].as_u64() > Some(0), "{report}");
    for reason in ["orphan_document", "job_quarantined", "bad_timestamp", "unknown_job_status"] {
        assert!(rows["quarantined"][reason].as_u64() > Some(0), "{reason}: {report}");
    }
}

#[cfg(feature = "demo-dynamo")]
#[test]
fn the_demo_of_jobs_needs_no_java_and_finds_everything_equal_and_the_damage() {
    let report = demo("jobs", 60, 40);
    assert_proven(&report);
    for reason in ["unknown_content_type", "time_not_finite", "number_out_of_range", "item_too_large"] {
        assert!(report["rows"]["quarantined"][reason].as_u64() > Some(0), "{reason}: {report}");
    }
}

#[cfg(not(feature = "demo-dynamo"))]
#[test]
fn a_build_without_a_private_dynamo_says_how_to_get_one() {
    let mut command = bare();
    command.args(["demo", "jobs"]);
    let refused = finish_within(command, PATIENCE).expect(3);
    assert!(refused.err.contains("--features demo-dynamo"), "{refused:?}");
}

#[cfg(feature = "demo-dynamo")]
#[test]
fn all_demos_run_side_by_side_and_end_with_a_table_and_three_commands() {
    let mut command = bare();
    command.args(["demo", "--units", "40", "--writes", "20"]);
    let shown = finish_within(command, PATIENCE).expect(0);
    for migration in ["jobs", "luthien", "semantik"] {
        let row = shown.out.lines().find(|line| line.trim_start().starts_with(migration));
        assert!(row.is_some_and(|row| row.contains("found") && !row.contains("NOT FOUND")), "{migration}: {shown:?}");
        assert!(shown.err.lines().any(|line| line.starts_with(migration) && line.contains("caught up")), "{shown:?}");
    }
    let commands = shown.err.lines().skip_while(|line| !line.starts_with("try next")).skip(1);
    assert_eq!(commands.filter(|line| line.contains(" demo ") || line.contains(" check ")).count(), 3, "{shown:?}");
}

/// A demo under way, which is killed when it is dropped.
struct Demo(std::process::Child, tempfile::TempDir);

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Demo {
    /// Starts all demos with a folder of their own for what they write, and waits until each has a server.
    fn start() -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("a folder");
        // The server's user has to enter it.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711)).expect("it is ours");
        let mut command = bare();
        command.args(["demo", "--writes", "100000"]).env("TMPDIR", folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let demo = Self(command.spawn().expect("it starts"), folder);
        demo.until("servers run", |running| running.len() >= 2);
        demo
    }

    /// Process ids of the servers whose folder is below this demo's.
    fn servers(&self) -> Vec<String> {
        let folders = std::fs::read_dir(self.1.path()).expect("the folder is there").flatten();
        let pids = folders.map(|folder| folder.path().join("data/postmaster.pid"));
        let first = |text: String| text.lines().next().map(str::to_owned);
        pids.filter_map(|path| std::fs::read_to_string(path).ok().and_then(first)).collect()
    }

    fn until(&self, what: &str, wanted: impl Fn(&[String]) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !wanted(&self.servers()) {
            assert!(Instant::now() < deadline, "waited too long: {what}: {:?}", self.servers());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until none of these processes, and no folder of theirs, is left.
    fn assert_gone(&self, servers: &[String]) {
        let deadline = Instant::now() + PATIENCE;
        let left = || -> Vec<_> {
            let running = servers.iter().filter(|pid| std::path::Path::new("/proc").join(pid).exists()).cloned();
            let folders = std::fs::read_dir(self.1.path()).expect("the folder is there").flatten();
            running.chain(folders.map(|entry| entry.file_name().to_string_lossy().into_owned())).collect()
        };
        while !left().is_empty() {
            assert!(Instant::now() < deadline, "left behind: {:?}", left());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn a_signal_stops_everything_that_the_demo_started() {
    let mut demo = Demo::start();
    let servers = demo.servers();
    let id = demo.0.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &id]).status().expect("kill runs").success());
    let ended = demo.0.wait().expect("a child");
    assert_eq!(ended.code(), Some(2), "unfinished");
    demo.assert_gone(&servers);
}

#[test]
fn the_servers_of_a_demo_that_was_killed_stop_too() {
    let mut demo = Demo::start();
    let servers = demo.servers();
    demo.0.kill().expect("it may be killed");
    demo.0.wait().expect("a child");
    demo.assert_gone(&servers);
}

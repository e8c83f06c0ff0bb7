//! What breaks from outside: lost local state, a target that goes away, a disk that is full, a unit that is huge.

use std::process::Command;
use std::time::{Duration, Instant};

use rehome::demo::cluster::{Cluster, Options};
use rehome::project::state::{Space, State};
use sqlx::Connection as _;

use crate::support::cluster::{Database, run as sql};
use crate::support::legacy::DDL;
use crate::support::rig::Rig;
use crate::support::writer::Writer;

#[tokio::test(flavor = "multi_thread")]
async fn lost_state_is_rebuilt_from_the_log_and_deletes_still_reach_the_target() {
    let mut rig = Rig::up().await;
    let mut writer = Writer::new(3, "c");
    for _ in 0..20 {
        rig.legacy.run(writer.call()).await;
    }
    rig.catch_up();
    for _ in 0..3 {
        std::fs::remove_dir_all(rig.state().join("state")).expect("the state was there");
        for _ in 0..15 {
            rig.legacy.run(writer.transaction()).await;
        }
        rig.legacy
            .run("delete from conversation_calls where call_id in (select min(call_id) from conversation_calls)")
            .await;
        rig.legacy.run("delete from conversation_judge_decisions where id in (select id from conversation_judge_decisions order by id limit 3)").await;
        rig.catch_up();
        rig.compare().await.assert_equal();
        assert_eq!(rig.status()["balanced"], true);
        assert!(rig.parked().is_empty());
    }
    // A state older than the target's: a copy of before, put back after a crash.
    let (state, copy) = (rig.state().join("state"), rig.folder.path().join("copy"));
    copy_folder(&state, &copy);
    rig.legacy.run(writer.call()).await;
    rig.legacy.run("delete from conversation_judge_decisions where id in (select id from conversation_judge_decisions order by id limit 3)").await;
    rig.catch_up();
    std::fs::remove_dir_all(&state).expect("the state was there");
    copy_folder(&copy, &state);
    rig.catch_up();
    rig.compare().await.assert_equal();
    assert_eq!(rig.status()["balanced"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_does_not_read_is_told_by_its_own_folder_and_rebuilt_without_it() {
    let mut rig = Rig::up().await;
    let mut writer = Writer::new(5, "c");
    for _ in 0..5 {
        rig.legacy.run(writer.call()).await;
    }
    rig.catch_up();
    let folder = rig.state().join("state");
    let state = State::open(&folder).expect("a state");
    let mut session = state.session();
    let mut parts = Vec::new();
    let take = |scope: &[u8], _: &[u8]| {
        parts.push(scope.to_vec());
        Ok(true)
    };
    state.scan(Space::Parts, &[], take).expect("it reads");
    parts.iter().for_each(|scope| session.put(Space::Parts, scope, [0xff; 3]));
    session.commit().expect("writable");
    drop(state);
    let only = format!("delete {} and nothing else", folder.display());
    for command in [&["status", "luthien"][..], &["run", "luthien", "--until", "caught-up"]] {
        if command[0] == "run" {
            rig.legacy.run("update conversation_calls set provider = 'p'").await;
        }
        let refused = rig.rehome(command).expect(3);
        assert!(refused.err.contains("do not read back") && refused.err.contains(&only), "{refused:?}");
    }
    // What stands in its place is no store at all.
    std::fs::remove_dir_all(&folder).expect("it is there");
    std::fs::write(&folder, "no store").expect("writable");
    let refused = rig.rehome(&["status", "luthien"]).expect(3);
    assert!(refused.err.contains("check the disk") && refused.err.contains(&only), "{refused:?}");
    std::fs::remove_file(&folder).expect("it is there");
    rig.catch_up();
    rig.compare().await.assert_equal();
    assert_eq!(rig.status()["balanced"], true);
}

fn copy_folder(from: &std::path::Path, to: &std::path::Path) {
    let copied = Command::new("cp").arg("-r").arg(from).arg(to).status().expect("cp runs");
    assert!(copied.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_goes_away_is_waited_for_and_gets_everything() {
    let mut rig = Rig::new().await;
    let (own, target) = own_server().await;
    rig.target = target;
    rig.rehome(&["up", "luthien"]).expect(0);
    let mut writer = Writer::new(9, "c");
    for _ in 0..20 {
        rig.legacy.run(writer.call()).await;
    }
    let mut run = rig.start(&[]);
    rig.settled(&mut run).await;
    for mode in ["immediate", "fast"] {
        control(&own, &["stop", "-m", mode]);
        for _ in 0..10 {
            rig.legacy.run(writer.transaction()).await;
        }
        rig.until("it has noticed", &mut run, |status| status["dirty"] != 0);
        control(&own, &["start", "-l", "restarted.log"]);
        rig.settled(&mut run).await;
        rig.target.connection = sqlx::PgConnection::connect(&rig.target.url).await.expect("it runs again");
        rig.compare().await.assert_equal();
    }
    // Sessions cut in the middle of their work.
    let mut other = sqlx::PgConnection::connect(&rig.target.url).await.expect("it runs");
    for _ in 0..20 {
        rig.legacy.run(writer.transaction()).await;
        sql(&mut other, "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'rehome'")
            .await;
    }
    let status = rig.settled(&mut run).await;
    assert_eq!(status["balanced"], true);
    rig.compare().await.assert_equal();
    assert_eq!(run.terminate().code, 0);
}

/// Runs `pg_ctl` as the server's user.
fn control(cluster: &Cluster, arguments: &[&str]) {
    use std::os::unix::fs::MetadataExt as _;
    use std::os::unix::process::CommandExt as _;
    let owner = std::fs::metadata(cluster.folder()).expect("its folder");
    let mut command = Command::new(cluster.programs().join("pg_ctl"));
    command.args(arguments).args(["--silent", "--wait", "--pgdata=data"]).current_dir(cluster.folder());
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    if owner.uid() != std::fs::metadata("/proc/self").expect("this process").uid() {
        command.uid(owner.uid()).gid(owner.gid());
    }
    assert!(command.status().expect("pg_ctl runs").success(), "{arguments:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_gone_does_not_keep_a_run_from_stopping() {
    let mut rig = Rig::new().await;
    let (own, target) = own_server().await;
    rig.target = target;
    rig.rehome(&["up", "luthien"]).expect(0);
    let mut run = rig.start(&[]);
    rig.settled(&mut run).await;
    control(&own, &["stop", "-m", "immediate"]);
    rig.legacy.run(Writer::new(1, "c").call()).await;
    rig.until("it has noticed", &mut run, |status| status["dirty"] != 0);
    let ended = run.terminate();
    assert_eq!(ended.code, 0, "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_and_the_run_goes_on_when_there_is_room_again() {
    let mut rig = Rig::new().await;
    std::fs::create_dir(rig.state()).expect("a folder");
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"]).arg(rig.state()).output();
    if !mounted.as_ref().is_ok_and(|output| output.status.success()) {
        #[expect(clippy::print_stdout, reason = "a person must see what was not tested")]
        {
            println!("SKIPPED 1: no file system may be mounted here");
        }
        return;
    }
    let mount = Mounted(rig.state());
    rig.rehome(&["up", "luthien"]).expect(0);
    let mut writer = Writer::new(4, "c");
    for _ in 0..40 {
        rig.legacy.run(writer.call()).await;
    }
    let filler = rig.state().join("filler");
    let free = free_bytes(&rig.state());
    std::fs::write(&filler, vec![1; usize::try_from(free.saturating_sub(300_000)).expect("a size")]).expect("room");
    let failed = rig.rehome(&["run", "luthien", "--until", "caught-up"]).expect(3);
    assert!(failed.err.contains("disk"), "{failed:?}");
    assert!(!failed.err.contains("panicked"), "{failed:?}");
    std::fs::remove_file(&filler).expect("the filler");
    rig.legacy.run(writer.call()).await;
    rig.catch_up();
    rig.compare().await.assert_equal();
    assert_eq!(rig.status()["balanced"], true);
    drop(mount);
}

/// Unmounts when it is dropped.
struct Mounted(std::path::PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn free_bytes(path: &std::path::Path) -> u64 {
    let told = Command::new("df").args(["--output=avail", "-B1"]).arg(path).output().expect("df runs");
    let text = String::from_utf8_lossy(&told.stdout).into_owned();
    text.lines().last().and_then(|line| line.trim().parse().ok()).expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_folder_with_a_long_path_is_reachable_by_other_commands() {
    let mut rig = Rig::new().await;
    let deep = rig.folder.path().join("d".repeat(120));
    std::fs::create_dir(&deep).expect("a folder");
    let kept = std::mem::replace(&mut rig.folder, tempfile::tempdir_in(&deep).expect("a folder"));
    rig.rehome(&["up", "luthien"]).expect(0);
    let mut run = rig.start(&[]);
    rig.settled(&mut run).await;
    assert_eq!(rig.rehome(&["stop", "luthien"]).expect(0).out, "stopping\n");
    assert_eq!(run.ended().code, 0);
    drop(kept);
}

/// Resident memory that a process may ever have had, when one unit of it holds a hundred thousand rows.
const HUGE_MEMORY_MAX_KB: u64 = 1_536 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn one_call_of_a_hundred_thousand_chunks_is_mapped_in_bounded_memory_and_changed_live() {
    let mut rig = Rig::up().await;
    rig.legacy
        .run(
            "insert into conversation_calls (call_id, status) values ('huge', 'success'); \
             insert into conversation_events (call_id, event_type, sequence, payload) select 'huge', 'request_started', \
               i * 100000, jsonb_build_object('original_messages', jsonb_build_array(jsonb_build_object('role', 'user', \
               'content', 'turn ' || i))) from generate_series(0, 3) i; \
             insert into conversation_events (call_id, event_type, sequence, chunk_index, raw_chunk) select 'huge', \
               case i % 2 when 0 then 'original_chunk' else 'final_chunk' end, (i / 25000) * 100000 + 1 + i % 25000, i / 2, \
               jsonb_build_object('model', 'm', 'choices', jsonb_build_array(jsonb_build_object('index', 0, 'delta', \
               jsonb_build_object('content', 'word ' || i || ' ')))) from generate_series(0, 99999) i",
        )
        .await;
    let mut run = rig.start(&[]);
    rig.settled(&mut run).await;
    rig.compare().await.assert_equal();
    assert!(
        rig.target.text("select count(*)::text from conversation_events_v2").await.parse::<u32>().expect("a count")
            >= 8
    );
    for change in 0..3 {
        rig.legacy
            .run(format!(
                "insert into conversation_events (call_id, event_type, sequence, chunk_index, delta_text) \
                 values ('huge', 'original_chunk', {}, {change}, 'late {change}')",
                399_000 + change
            ))
            .await;
    }
    rig.settled(&mut run).await;
    rig.compare().await.assert_equal();
    let status = std::fs::read_to_string(format!("/proc/{}/status", run.id())).expect("it runs");
    let peak =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    let peak = peak.expect("the kernel tells");
    assert!(peak > 1_000 && peak < HUGE_MEMORY_MAX_KB, "{peak} kB");
    let ended = tokio::time::timeout(Duration::from_secs(60), tokio::task::spawn_blocking(|| run.terminate())).await;
    assert_eq!(ended.expect("it stops").expect("no panic").code, 0);
}

/// A server of a test's own: an open transaction in the shared one would keep every other test from making a slot.
async fn own_server() -> (Cluster, Database) {
    let own = tokio::task::spawn_blocking(|| Cluster::start(&Options::temporary()).expect("Postgres is installed"));
    let own = own.await.expect("no panic");
    let url = own.url("postgres");
    let connection = sqlx::PgConnection::connect(&url).await.expect("it runs");
    (own, Database { connection, url, name: "postgres".to_owned() })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_table_that_someone_locks_is_waited_for() {
    let mut rig = Rig::new().await;
    let (_own, target) = own_server().await;
    rig.target = target;
    rig.rehome(&["up", "luthien"]).expect(0);
    rig.legacy.run("insert into conversation_calls (call_id, status) values ('a', 'success')").await;
    let mut locker = rig.target.connect().await;
    sql(&mut locker, "begin; lock table conversation_calls_v2 in access exclusive mode").await;
    let mut run = rig.start(&[]);
    // After the server's own lock timeout, which every session of ours has.
    let deadline = Instant::now() + Duration::from_secs(60);
    while !run.told().contains("trying again") {
        run.assert_alive("the lock was met");
        assert!(Instant::now() < deadline, "nothing was told: {}", run.told());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    sql(&mut locker, "commit").await;
    rig.settled(&mut run).await;
    run.terminate().expect(0);
    assert_eq!(rig.target.texts("select call_id from conversation_calls_v2").await, ["a"]);
    assert!(rig.parked().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_transaction_in_the_source_delays_the_beginning_and_does_not_end_it() {
    let mut rig = Rig::new().await;
    let (own, mut source) = own_server().await;
    source.run(DDL).await;
    rig.legacy = source;
    rig.rehome(&["up", "luthien"]).expect(0);
    let mut writer = rig.legacy.connect().await;
    sql(&mut writer, "begin; insert into conversation_calls (call_id, status) values ('a', 'success')").await;
    let mut run = rig.start(&["--until", "caught-up"]);
    // Longer than the lock timeout of every session of ours.
    let waits = "select count(*)::text from pg_stat_activity where datname = current_database() \
        and backend_type = 'walsender' and wait_event_type = 'Lock' and now() - query_start > interval '11 seconds'";
    let deadline = Instant::now() + Duration::from_secs(60);
    while rig.legacy.text(waits).await != "1" {
        run.assert_alive("the transaction was waited for");
        assert!(Instant::now() < deadline, "nothing waits: {}", run.told());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // Stopped before it could begin, in either way, it has not caught up.
    rig.rehome(&["stop", "luthien"]).expect(0);
    run.ended().expect(2);
    let mut run = rig.start(&["--until", "caught-up"]);
    rig.until("it waits again", &mut run, |_| true);
    run.terminate().expect(2);
    let mut run = rig.start(&[]);
    sql(&mut writer, "commit").await;
    rig.settled(&mut run).await;
    // Nobody is caught up with a source that is away.
    control(&own, &["stop", "-m", "immediate"]);
    let away = |status: &serde_json::Value| status["capture"]["error"].is_string() && status["phase"] == "waiting";
    rig.until("it has noticed", &mut run, away);
    let shown = rig.rehome(&["status", "luthien"]).expect(0).out;
    assert!(shown.starts_with("luthien: waiting;") && shown.contains("WAITING for the source"), "{shown}");
    control(&own, &["start", "-l", "restarted.log"]);
    rig.legacy.connection = sqlx::PgConnection::connect(&rig.legacy.url).await.expect("it runs again");
    rig.settled(&mut run).await;
    run.terminate().expect(0);
    assert_eq!(rig.target.texts("select call_id from conversation_calls_v2").await, ["a"]);
}

//! Sudden death: a process that appends is killed at random points, and its files are cut and damaged.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rehome::log::{EmbeddedLog, Error, EventLog};

use crate::lanes::{Bodies, LANES, append, options, verify};

/// Tells the writing process its directory; without it the test of that name runs in this process.
const DIRECTORY: &str = "REHOME_TEST_LOG_DIRECTORY";
/// Tells it the seed of its batches.
const SEED: &str = "REHOME_TEST_LOG_SEED";
/// Set when bodies are mixed.
const MIXED: &str = "REHOME_TEST_LOG_MIXED";
/// Name of the test that is the writing process.
const WRITER: &str = "crash::a_writer_appends_until_it_is_told_to_stop";

type Totals = [i64; LANES as usize];

/// The writing process, when told so by its environment; otherwise the same code, for a while, in this process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_appends_until_it_is_told_to_stop() {
    if let Ok(directory) = std::env::var(DIRECTORY) {
        return write_until_killed(Path::new(&directory)).await;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let log = Arc::new(EmbeddedLog::open(folder.path(), options()).expect("it opens"));
    for lane in 0..LANES {
        append(log.clone(), lane, 1, Bodies::Mixed, |total| total < 40).await.expect("it appends");
    }
    let totals = verify(&log, Bodies::Mixed).await.expect("nothing is damaged");
    assert!(totals.iter().all(|total| *total >= 40), "{totals:?}");
}

async fn write_until_killed(directory: &Path) {
    // The parent holds the other end: should it die, so does this process.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    let say = |line: String| {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{line}").and_then(|()| out.flush()).expect("the parent listens");
    };
    let seed = std::env::var(SEED).ok().and_then(|seed| seed.parse().ok()).expect("a seed");
    let bodies = if std::env::var(MIXED).is_ok() { Bodies::Mixed } else { Bodies::Small };
    let log: Arc<dyn EventLog> = Arc::new(EmbeddedLog::open(directory, options()).expect("it opens"));
    let mut lanes = tokio::task::JoinSet::new();
    for lane in 0..LANES {
        let log = Arc::clone(&log);
        lanes.spawn(append(log, lane, seed, bodies, move |total| {
            say(format!("ack {lane} {total}"));
            true
        }));
    }
    while let Some(ended) = lanes.join_next().await {
        let failure = ended.expect("a lane ends").expect_err("lanes end by failing");
        assert!(matches!(failure, Error::Failed(_)), "{failure:?}");
        say("failed".to_owned());
    }
    // What was acknowledged before the failure still reads.
    let end = log.end(rehome::log::Partition(0));
    let chunk = log.read(rehome::log::Partition(0), rehome::log::Offset(0), 1_000).await.expect("it reads");
    assert!(!chunk.records.is_empty());
    assert!(matches!(log.read(rehome::log::Partition(0), end, 1_000).await, Err(Error::Failed(_))));
    log.wait_beyond(rehome::log::Partition(0), end).await;
    say("read".to_owned());
}

/// A writing process and what it has acknowledged.
struct Writer {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
    acknowledged: Totals,
    failed: usize,
    read_after_failure: bool,
}

impl Writer {
    fn start(directory: &Path, seed: u64, bodies: Bodies) -> Self {
        let test = std::env::current_exe().expect("this binary has a path");
        Self::spawn(Command::new(test), directory, seed, bodies)
    }

    /// Starts one that cannot write files beyond `kib`, as on a full disk.
    fn start_limited(directory: &Path, seed: u64, kib: u64) -> Self {
        let test = std::env::current_exe().expect("this binary has a path");
        let mut command = Command::new("sh");
        // The unit of sh's limit is 512 bytes; the signal must be ignored, so that the write fails instead.
        let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", kib * 2);
        command.arg("-c").arg(script).arg(test);
        Self::spawn(command, directory, seed, Bodies::Mixed)
    }

    fn spawn(mut command: Command, directory: &Path, seed: u64, bodies: Bodies) -> Self {
        command.args(["--exact", WRITER, "--nocapture"]).env(DIRECTORY, directory).env(SEED, seed.to_string());
        if bodies == Bodies::Mixed {
            command.env(MIXED, "1");
        }
        let streams = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = streams.spawn().expect("the writer starts");
        let lines = BufReader::new(child.stdout.take().expect("a piped stdout")).lines();
        Self { child, lines, acknowledged: [0; LANES as usize], failed: 0, read_after_failure: false }
    }

    /// Takes one line in; `false` at the end of the writer's output.
    fn listen(&mut self) -> bool {
        let Some(Ok(line)) = self.lines.next() else { return false };
        let words: Vec<_> = line.split_whitespace().collect();
        match words[..] {
            ["ack", lane, total] => {
                let lane: usize = lane.parse().expect("a lane");
                self.acknowledged[lane] = total.parse().expect("a total");
            }
            ["failed"] => self.failed += 1,
            ["read"] => self.read_after_failure = true,
            _ => {}
        }
        true
    }

    /// Kills it after so many lines, and takes in what it said until then.
    fn kill_after(mut self, lines: usize) -> Totals {
        for _ in 0..lines {
            assert!(self.listen(), "the writer ended by itself");
        }
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it can be waited for");
        while self.listen() {}
        self.acknowledged
    }
}

async fn reopen(directory: &Path, bodies: Bodies) -> Result<Totals, Error> {
    let log = EmbeddedLog::open(directory, options())?;
    verify(&log, bodies).await
}

fn covers(found: &Totals, acknowledged: &Totals) -> bool {
    found.iter().zip(acknowledged).all(|(found, acknowledged)| found >= acknowledged)
}

#[tokio::test]
async fn a_killed_writer_loses_nothing_acknowledged() {
    const ROUNDS: u64 = 24;
    let folder = tempfile::tempdir().expect("a folder");
    let mut before = [0; LANES as usize];
    for seed in 0..ROUNDS {
        let lines = ChaCha8Rng::seed_from_u64(seed).random_range(1..120);
        let acknowledged = Writer::start(folder.path(), seed, Bodies::Mixed).kill_after(lines);
        let found = reopen(folder.path(), Bodies::Mixed).await.expect("nothing is damaged");
        assert!(covers(&found, &acknowledged), "seed {seed}: {found:?} of {acknowledged:?}");
        assert!(covers(&found, &before), "seed {seed}: {found:?} after {before:?}");
        before = found;
    }
    assert!(before.iter().all(|total| *total > 100), "the rounds appended: {before:?}");
}

#[tokio::test]
async fn a_full_disk_stops_the_log_and_loses_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    drop(EmbeddedLog::open(folder.path(), options()).expect("it opens"));
    let mut writer = Writer::start_limited(folder.path(), 5, 4 * 1024);
    while writer.listen() {}
    let ended = writer.child.wait().expect("it can be waited for");
    assert!(ended.success(), "the writer saw what it expected: {ended}");
    assert_eq!((writer.failed, writer.read_after_failure), (LANES as usize, true));
    let found = reopen(folder.path(), Bodies::Mixed).await.expect("nothing is damaged");
    assert!(covers(&found, &writer.acknowledged) && found.iter().all(|total| *total > 0), "{found:?}");
    // With room again the log goes on.
    let acknowledged = Writer::start(folder.path(), 6, Bodies::Mixed).kill_after(20);
    let found = reopen(folder.path(), Bodies::Mixed).await.expect("nothing is damaged");
    assert!(covers(&found, &acknowledged), "{found:?}");
}

/// A directory left by a killed writer, its journal without the unwritten rest, to be copied and damaged.
struct Remains {
    folder: tempfile::TempDir,
    journal: Vec<u8>,
    acknowledged: Totals,
}

impl Remains {
    fn leave(lines: usize) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let acknowledged = Writer::start(folder.path(), 9, Bodies::Small).kill_after(lines);
        let mut journal = fs::read(journal_of(folder.path())).expect("one journal");
        let written = journal.iter().rposition(|byte| *byte != 0).expect("a written journal") + 1;
        journal.truncate(written);
        fs::write(journal_of(folder.path()), &journal).expect("it writes");
        Self { folder, journal, acknowledged }
    }

    /// A copy of the directory with another journal.
    fn with_journal(&self, journal: &[u8]) -> tempfile::TempDir {
        let copy = tempfile::tempdir().expect("a folder");
        copy_folder(self.folder.path(), copy.path());
        fs::write(journal_of(copy.path()), journal).expect("it writes");
        copy
    }
}

fn journal_of(log: &Path) -> PathBuf {
    log.join("current/store/0.jnl")
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("it lists") {
        let entry = entry.expect("it lists");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("it copies");
        }
    }
}

#[tokio::test]
async fn a_cut_journal_is_whole_or_loud() {
    let remains = Remains::leave(60);
    let length = remains.journal.len();
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let (mut whole, mut loud) = (0, 0);
    let cuts = (0..30).map(|_| random.random_range(1..length)).chain([length, length - 1, length / 2]);
    for cut in cuts {
        let copy = remains.with_journal(&remains.journal[..cut]);
        match reopen(copy.path(), Bodies::Small).await {
            Ok(found) => {
                assert!(covers(&found, &remains.acknowledged), "cut at {cut} of {length}: silently lost");
                whole += 1;
            }
            Err(Error::Lost { .. }) => {
                assert!(cut < length);
                loud += 1;
            }
            Err(other) => panic!("cut at {cut} of {length}: {other:?}"),
        }
    }
    assert!(whole >= 1 && loud >= 25, "{whole} whole, {loud} loud");
}

#[tokio::test]
async fn a_torn_last_write_is_dropped() {
    let remains = Remains::leave(60);
    let mut random = ChaCha8Rng::seed_from_u64(2);
    let expected = reopen(remains.with_journal(&remains.journal).path(), Bodies::Small).await.expect("whole");
    for _ in 0..40 {
        // Part of an earlier write, as the beginning of one that did not get to its end; then, sometimes, the zeros that a
        // journal is made of.
        let mut torn = remains.journal.clone();
        torn.extend_from_slice(&remains.journal[..random.random_range(1..remains.journal.len().min(150))]);
        if random.random() {
            torn.resize(torn.len() + 5_000, 0);
        }
        let copy = remains.with_journal(&torn);
        assert_eq!(reopen(copy.path(), Bodies::Small).await.expect("the torn write is dropped"), expected);
    }
}

#[tokio::test]
async fn a_damaged_journal_is_whole_or_loud() {
    let remains = Remains::leave(60);
    let length = remains.journal.len();
    let mut random = ChaCha8Rng::seed_from_u64(3);
    let mut loud = 0;
    for _ in 0..60 {
        let at = random.random_range(0..length);
        let mut damaged = remains.journal.clone();
        damaged[at] ^= 1 << random.random_range(0..8);
        let copy = remains.with_journal(&damaged);
        match reopen(copy.path(), Bodies::Small).await {
            Ok(found) => assert!(covers(&found, &remains.acknowledged), "byte {at} of {length}: silently lost"),
            Err(_) => loud += 1,
        }
    }
    assert!(loud >= 40, "{loud} of 60 are loud");
}

/// When the machine dies the witness may be old: what was synced before it must be there, what came after may be cut.
#[tokio::test]
async fn an_old_witness_still_guards_what_it_saw() {
    let folder = tempfile::tempdir().expect("a folder");
    let witness = folder.path().join("current/witness");
    let write = async |until: i64| {
        let log = Arc::new(EmbeddedLog::open(folder.path(), options()).expect("it opens"));
        for lane in 0..LANES {
            append(log.clone(), lane, 4, Bodies::Small, |total| total < until).await.expect("it appends");
        }
        verify(&log, Bodies::Small).await.expect("nothing is damaged")
    };
    let early = write(100).await;
    let written = |bytes: &[u8]| bytes.iter().rposition(|byte| *byte != 0).expect("a written journal") + 1;
    let seen = written(&fs::read(journal_of(folder.path())).expect("one journal"));
    let old_witness = fs::read(&witness).expect("a witness");
    let late = write(200).await;
    fs::write(&witness, old_witness).expect("it writes");
    let mut journal = fs::read(journal_of(folder.path())).expect("one journal");
    journal.truncate(written(&journal));
    assert!(seen < journal.len() && early < late);
    let remains = Remains { folder, journal, acknowledged: early };
    let mut random = ChaCha8Rng::seed_from_u64(4);
    let mut shorter = 0;
    for _ in 0..20 {
        let copy = remains.with_journal(&remains.journal[..random.random_range(seen..remains.journal.len())]);
        let found = reopen(copy.path(), Bodies::Small).await.expect("an intact prefix");
        assert!(covers(&found, &early) && covers(&late, &found), "{found:?}");
        shorter += usize::from(found != late);
    }
    assert!(shorter > 10, "cuts cut: {shorter}");
    for _ in 0..20 {
        let copy = remains.with_journal(&remains.journal[..random.random_range(1..seen - 1)]);
        assert!(matches!(reopen(copy.path(), Bodies::Small).await, Err(Error::Lost { .. })));
    }
}

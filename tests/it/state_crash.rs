//! Sudden death of a process that commits to the state: each set of changes is there entirely or not at all, whichever way it
//! went into the store (I1).

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rehome::project::state::{Space, State};

/// Tells the committing process its folder; without it the test of that name runs in this process.
const FOLDER: &str = "REHOME_TEST_STATE_FOLDER";
/// Name of the test that is the committing process.
const COMMITTER: &str = "state_crash::a_process_commits_until_it_is_told_to_stop";
/// Values of each set of changes.
const KEYS: u8 = 60;
/// Name of the number of the last set.
const ROUND: &[u8] = b"round";

/// The committing process, when told so by its environment; otherwise the same code, for a while, in this process.
#[test]
fn a_process_commits_until_it_is_told_to_stop() {
    if let Ok(folder) = std::env::var(FOLDER) {
        // The parent holds the other end: should it die, so does this process.
        std::thread::spawn(|| {
            let _ = std::io::stdin().read(&mut [0]);
            std::process::exit(0);
        });
        return commit_rounds(Path::new(&folder), u64::MAX, |round| {
            let mut out = std::io::stdout().lock();
            writeln!(out, "committed {round}").and_then(|()| out.flush()).expect("the parent listens");
        });
    }
    let folder = tempfile::tempdir().expect("a folder");
    commit_rounds(folder.path(), 6, |_| {});
    assert_eq!(last_round(folder.path()), 6);
}

/// Commits rounds of changes, small and large ones in turns, some of them beside the next; `tell` hears of each that is done.
fn commit_rounds(folder: &Path, rounds: u64, tell: impl Fn(u64)) {
    let state = State::open(folder).expect("it opens");
    let known = state.get(Space::Meta, ROUND).expect("it reads").map_or(0, number);
    let mut session = state.session();
    for round in known + 1..=known.saturating_add(rounds) {
        // Beyond 4 MiB a set is loaded as a table.
        let size = if round % 3 == 0 { 100 } else { 100_000 };
        for key in 0..KEYS {
            let space = if key % 2 == 0 { Space::Heads } else { Space::Rows };
            session.put(space, &[key], vec![u8::try_from(round % 251).expect("less"); size]);
        }
        session.put(Space::Meta, ROUND, round.to_be_bytes());
        if round % 2 == 0 {
            session.commit_behind().expect("it commits");
        } else {
            session.commit().expect("it commits");
            tell(round);
            session = state.session();
        }
    }
    session.commit().expect("it commits");
}

fn number(bytes: Vec<u8>) -> u64 {
    u64::from_be_bytes(bytes.try_into().expect("eight bytes"))
}

/// The last round that is there; every value must be of it.
fn last_round(folder: &Path) -> u64 {
    let state = State::open(folder).expect("it opens");
    let Some(round) = state.get(Space::Meta, ROUND).expect("it reads").map(number) else { return 0 };
    for key in 0..KEYS {
        let space = if key % 2 == 0 { Space::Heads } else { Space::Rows };
        let value = state.get(space, &[key]).expect("it reads").expect("a value");
        assert!(value.iter().all(|byte| u64::from(*byte) == round % 251), "key {key} of round {round}");
    }
    round
}

#[test]
fn a_killed_process_leaves_whole_sets_of_changes_and_all_that_it_told_of() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut before = 0;
    for seed in 0..12 {
        let lines = ChaCha8Rng::seed_from_u64(seed).random_range(1..8);
        let mut command = Command::new(std::env::current_exe().expect("this binary has a path"));
        command.args(["--exact", COMMITTER, "--nocapture"]).env(FOLDER, folder.path());
        let streams = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = streams.spawn().expect("it starts");
        let mut told = 0;
        let mut lines_of = BufReader::new(child.stdout.take().expect("a piped stdout")).lines();
        let mut listen = |count: usize| {
            let committed = |line: String| line.trim().strip_prefix("committed ")?.parse().ok();
            lines_of.by_ref().map_while(Result::ok).filter_map(committed).take(count).last()
        };
        told = listen(lines).unwrap_or(told);
        child.kill().expect("it can be killed");
        child.wait().expect("it can be waited for");
        told = listen(usize::MAX).unwrap_or(told);
        let found = last_round(folder.path());
        assert!(told > before && found >= told, "seed {seed}: {found} of {told} after {before}");
        before = found;
    }
}

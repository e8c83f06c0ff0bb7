//! Two properties, over many histories: *confirmed means real at the cut*, and *corrupted means reported or unsettled*.
//!
//! A failure names its seed; `REHOME_TEST_SEED` runs one more.

use rehome::reconcile::{State, Verdict};

use super::sim::{Faults, Run, simulate};

/// Seeds of a test.
const SEEDS: u64 = 40;

/// What the runs of a test came to together.
#[derive(Debug, Default)]
struct Totals {
    rows: u64,
    apart: usize,
    corrupted: usize,
    confirmed: usize,
    unsettled: usize,
    matches: usize,
}

impl Totals {
    fn add(&mut self, run: &Run) {
        self.rows += run.first.rows;
        self.apart += run.first.apart.len();
        self.corrupted += run.corrupted;
        self.confirmed += run.first.keys(State::Confirmed).len();
        self.unsettled += run.first.keys(State::Unsettled).len();
        self.matches += usize::from(run.last.summary.verdict == Verdict::Match);
    }
}

fn seeds(from: u64) -> impl Iterator<Item = u64> {
    let more = std::env::var("REHOME_TEST_SEED").ok().map(|seed| seed.parse().expect("a seed is a number"));
    (from..from + SEEDS).chain(more)
}

async fn run(seed: u64, faults: Faults) -> Run {
    let run = simulate(seed, faults).await;
    assert!(run.first.rows > 0 && run.last.rows > 0, "seed {seed}: something is compared");
    assert!(run.wrong.is_empty(), "seed {seed}: {:#?}\n{}", run.wrong, run.history.join("\n"));
    run
}

#[tokio::test(flavor = "multi_thread")]
async fn without_faults_nothing_is_called_wrong_and_at_rest_all_is_equal() {
    let mut totals = Totals::default();
    for seed in seeds(1) {
        let run = run(seed, Faults::None).await;
        assert_eq!(run.first.keys(State::Confirmed).len(), 0, "seed {seed}");
        assert_eq!(run.last.summary.verdict, Verdict::Match, "seed {seed}: {:?}", run.last.summary.why);
        totals.add(&run);
    }
    assert!(totals.rows > 1_000 && totals.apart > 50, "sides that move differ: {totals:?}");
    assert!(totals.unsettled < totals.apart, "and some of that is settled: {totals:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn confirmed_is_real_and_corrupted_is_reported_or_unsettled() {
    let mut totals = Totals::default();
    for seed in seeds(1_000) {
        totals.add(&run(seed, Faults::Planted).await);
    }
    assert!(totals.rows > 1_000, "{totals:?}");
    assert!(totals.corrupted > 20 && totals.confirmed > 20, "faults are met: {totals:?}");
    assert!(totals.matches < usize::try_from(SEEDS).expect("few"), "and stay: {totals:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_seed_is_one_history() {
    for (seed, faults) in [(7, Faults::None), (1_007, Faults::Planted)] {
        let (one, other) = (simulate(seed, faults).await, simulate(seed, faults).await);
        assert!(one.history.len() > 100, "something happened");
        let apart = one.history.iter().zip(&other.history).find(|(one, other)| one != other);
        assert_eq!(apart, None, "seed {seed}");
        assert_eq!(one.digest(), other.digest(), "seed {seed}");
    }
    assert_ne!(simulate(7, Faults::None).await.digest(), simulate(8, Faults::None).await.digest());
}

//! Totals from a sample, each with the interval that it lies in. Pure.
//!
//! What is drawn is clusters: ranges of a table's blocks, segments of a scan, or units by the hash of their name. Of a stratum's
//! `all` clusters `chosen` are drawn at random without replacement, and counted whole. With the counts y of the chosen, the total
//! is estimated as N·ȳ and its variance as N²·(1 − n/N)·s²/n; totals and variances of strata add up, and the interval is Student's
//! at 95 % with Satterthwaite's number of degrees of freedom (Cochran, *Sampling Techniques*, 3rd edition 1977, chapters 2, 5
//! and 9A). A stratum of which every cluster was counted adds no variance, and so a plan over everything is exact.

use serde::Serialize;

/// How many clusters a stratum has, and how many of them were counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// All of them.
    pub all: u64,
    /// Those that were counted.
    pub chosen: u64,
}

impl Frame {
    /// A stratum that was counted whole.
    pub const WHOLE: Frame = Frame { all: 1, chosen: 1 };
}

/// A quantity over the clusters of a stratum that were counted; those without it add nothing.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Sums {
    /// Sum.
    pub sum: f64,
    /// Sum of squares.
    pub squares: f64,
}

impl Sums {
    /// Adds a cluster.
    pub fn add(&mut self, count: u64) {
        // Counts are below 2^53.
        let count = count as f64;
        self.sum += count;
        self.squares += count * count;
    }

    /// Adds other clusters.
    pub fn merge(&mut self, other: &Sums) {
        self.sum += other.sum;
        self.squares += other.squares;
    }
}

/// A total: what it is likeliest to be, and the 95 % interval around that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Estimate {
    /// The estimate.
    pub value: u64,
    /// Lower end; never less than what was counted.
    pub low: u64,
    /// Upper end.
    pub high: u64,
    /// Whether everything was counted, so that this is no estimate.
    pub exact: bool,
}

impl Estimate {
    /// A total that was counted.
    pub fn counted(value: u64) -> Self {
        Self { value, low: value, high: value, exact: true }
    }
}

/// The total of a quantity over strata.
pub fn total(strata: impl Iterator<Item = (Frame, Sums)>) -> Estimate {
    let (mut value, mut counted, mut variance, mut squared_parts) = (0.0, 0.0, 0.0, 0.0);
    let mut exact = true;
    for (frame, sums) in strata {
        let (all, chosen) = (frame.all as f64, frame.chosen as f64);
        counted += sums.sum;
        if frame.chosen >= frame.all {
            value += sums.sum;
            continue;
        }
        exact = false;
        if frame.chosen < 2 {
            value += if frame.chosen == 0 { 0.0 } else { sums.sum * all };
            continue;
        }
        let mean = sums.sum / chosen;
        value += all * mean;
        let spread = ((sums.squares - chosen * mean * mean) / (chosen - 1.0)).max(0.0);
        let part = all * all * (1.0 - chosen / all) * spread / chosen;
        variance += part;
        squared_parts += part * part / (chosen - 1.0);
    }
    if exact {
        return Estimate::counted(whole(value));
    }
    let freedom = if squared_parts > 0.0 { variance * variance / squared_parts } else { f64::INFINITY };
    let half = quantile(freedom) * variance.sqrt();
    Estimate {
        value: whole(value),
        low: whole((value - half).max(counted)),
        high: whole((value + half).max(value).ceil()),
        exact,
    }
}

/// The 97.5 % quantile of Student's distribution.
fn quantile(freedom: f64) -> f64 {
    /// By degrees of freedom, from 1.
    const TABLE: [f64; 5] = [12.706, 4.303, 3.182, 2.776, 2.571];
    /// That of the normal distribution.
    const Z: f64 = 1.959_964;
    if freedom < 6.0 {
        // Fewer degrees than it has: the wider interval.
        let place = (freedom.floor().max(1.0) - 1.0) as usize;
        return TABLE[place.min(TABLE.len() - 1)];
    }
    // Abramowitz and Stegun, 26.7.5, to the third term: exact to two digits behind the point from six degrees on.
    let (z3, z5, z7) = (Z.powi(3), Z.powi(5), Z.powi(7));
    Z + (z3 + Z) / (4.0 * freedom)
        + (5.0 * z5 + 16.0 * z3 + 3.0 * Z) / (96.0 * freedom.powi(2))
        + (3.0 * z7 + 19.0 * z5 + 17.0 * z3 - 15.0 * Z) / (384.0 * freedom.powi(3))
}

fn whole(number: f64) -> u64 {
    // A float that does not fit is cut to the type's ends.
    number.round() as u64
}

#[cfg(test)]
mod tests {
    use rand::seq::index::sample;
    use rand::{Rng as _, SeedableRng as _};

    use super::*;

    fn sums(counts: &[u64]) -> Sums {
        let mut sums = Sums::default();
        counts.iter().for_each(|count| sums.add(*count));
        sums
    }

    #[test]
    fn what_was_counted_whole_is_exact() {
        let whole = (Frame { all: 3, chosen: 3 }, sums(&[1, 5, 6]));
        assert_eq!(total([whole, (Frame::WHOLE, sums(&[8]))].into_iter()), Estimate::counted(20));
    }

    #[test]
    fn a_total_and_its_interval_are_those_of_the_formula() {
        // Ten of a hundred: mean 4.5, s² = 9.1667, variance 100² · 0.9 · 9.1667 / 10 = 8250, t(9) = 2.262.
        let found = total([(Frame { all: 100, chosen: 10 }, sums(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]))].into_iter());
        assert_eq!(found, Estimate { value: 450, low: 245, high: 656, exact: false });
        // A stratum that was counted adds to the total alone.
        let more =
            [(Frame { all: 100, chosen: 10 }, sums(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9])), (Frame::WHOLE, sums(&[50]))];
        assert_eq!(total(more.into_iter()), Estimate { value: 500, low: 295, high: 706, exact: false });
        // What was counted is there.
        let rare = total([(Frame { all: 100, chosen: 10 }, sums(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 3]))].into_iter());
        assert_eq!((rare.value, rare.low), (30, 3));
    }

    #[test]
    fn quantiles_are_those_of_the_tables() {
        for (freedom, expected) in
            [(1.0, 12.706), (2.9, 4.303), (6.0, 2.447), (10.0, 2.228), (30.0, 2.042), (1e9, 1.960)]
        {
            assert!((quantile(freedom) - expected).abs() < 0.003, "{freedom}: {}", quantile(freedom));
        }
    }

    /// Nineteen times of twenty the truth is in the interval: here, in a thousand samples of two strata, near enough.
    #[test]
    fn the_interval_holds_the_truth_as_often_as_it_says() {
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(5);
        let one: Vec<u64> = (0..400).map(|_| random.random_range(0..200)).collect();
        let other: Vec<u64> =
            (0..150).map(|place| if place % 3 == 0 { 900 } else { random.random_range(0..50) }).collect();
        let truth: u64 = one.iter().chain(&other).sum();
        let mut held = 0;
        for _ in 0..1_000 {
            let mut draw = |counts: &[u64], chosen: usize| {
                let drawn: Vec<u64> =
                    sample(&mut random, counts.len(), chosen).into_iter().map(|at| counts[at]).collect();
                (Frame { all: counts.len() as u64, chosen: chosen as u64 }, sums(&drawn))
            };
            let found = total([draw(&one, 20), draw(&other, 30)].into_iter());
            held += u64::from((found.low..=found.high).contains(&truth));
        }
        assert!((925..=985).contains(&held), "{held} of 1000");
    }
}

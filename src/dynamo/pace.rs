//! How fast a scan reads: by the capacity that it consumes, under an operator's cap, backing off when it is throttled.
//!
//! The application's reads come first. Each answer tells what it consumed; that is taken from a bucket that fills at the
//! present limit, and the next request waits while the bucket is in debt. Without a cap there is no limit until the table
//! throttles once; then the limit is half of what was being read, and grows again slowly ("additive increase,
//! multiplicative decrease", Chiu and Jain 1989).

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// What is left of the limit after a throttled request.
const DECREASE: f64 = 0.5;
/// Requests that were under way when the table throttled are throttled as well: they count once.
const DECREASE_APART: Duration = Duration::from_secs(1);
/// One throttled burst says little of the table: the limit falls to half of this part of itself at the least.
const DECREASE_MAX: f64 = 0.25;
/// What the limit grows by in a second without throttling, as a part of the rate at which the table last throttled, or of
/// the limit where that is more.
const INCREASE: f64 = 0.05;
/// The rate that is taken for the one at which the table throttled when nothing was read before.
const RATE_GUESS: f64 = 100.0;
/// The limit never falls below this many units a second.
const LIMIT_MIN: f64 = 1.0;
/// A full bucket holds this much time: the wait for the log's sync must not slow the scan down.
const BURST: f64 = 1.0;
/// Time over which the present rate is measured.
const MEASURED: Duration = Duration::from_secs(2);

/// The decisions; times are since the beginning of the scan.
#[derive(Debug, Clone)]
pub struct Limit {
    cap: Option<f64>,
    /// Units a second; `None` is unlimited.
    limit: Option<f64>,
    /// The rate at which the table last throttled.
    throttled_at: f64,
    decreased: Option<Duration>,
    /// Units that may be consumed at once; below zero, a debt.
    bucket: f64,
    filled: Duration,
    /// Units consumed in the present window, the window's start, and the last whole window's rate.
    window: (f64, Duration, Option<f64>),
}

impl Limit {
    /// With an operator's cap in units a second, where there is one.
    pub fn new(cap: Option<f64>) -> Self {
        Self {
            cap,
            limit: cap,
            throttled_at: 0.0,
            decreased: None,
            bucket: cap.unwrap_or(0.0) * BURST,
            filled: Duration::ZERO,
            window: (0.0, Duration::ZERO, None),
        }
    }

    /// Units a second that may be read; `None` is unlimited.
    pub fn units(&self) -> Option<f64> {
        self.limit
    }

    /// Units a second that were consumed lately.
    pub fn rate(&self, now: Duration) -> f64 {
        let (units, start, last) = self.window;
        let length = now.saturating_sub(start).as_secs_f64();
        match last {
            // Within the next window the last whole one says it better.
            Some(last) if length < 2.0 * MEASURED.as_secs_f64() => last,
            _ => units / length.max(0.1),
        }
    }

    /// How long to wait before the next request.
    pub fn wait(&mut self, now: Duration) -> Duration {
        self.fill(now);
        match self.limit {
            Some(limit) if self.bucket < 0.0 => Duration::from_secs_f64((-self.bucket / limit).min(60.0)),
            _ => Duration::ZERO,
        }
    }

    /// Takes in what an answer consumed.
    pub fn spent(&mut self, now: Duration, units: f64) {
        self.fill(now);
        if self.limit.is_some() {
            self.bucket -= units;
        }
        let (spent, start, _) = &mut self.window;
        *spent += units;
        let length = now.saturating_sub(*start);
        if length >= MEASURED {
            self.window = (0.0, now, Some(*spent / length.as_secs_f64()));
        }
    }

    /// Takes in that a request was throttled.
    pub fn throttled(&mut self, now: Duration) {
        self.fill(now);
        if self.decreased.is_some_and(|before| now < before + DECREASE_APART) {
            return;
        }
        let rate = self.rate(now);
        self.throttled_at = match self.limit {
            Some(limit) => limit.min(rate.max(limit * DECREASE_MAX)),
            None => rate.max(RATE_GUESS),
        };
        self.limit = Some((self.throttled_at * DECREASE).max(LIMIT_MIN));
        self.decreased = Some(now);
        self.bucket = self.bucket.min(0.0);
    }

    /// Fills the bucket, and lets the limit grow.
    fn fill(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.filled).as_secs_f64();
        self.filled = self.filled.max(now);
        let Some(limit) = self.limit else { return };
        self.bucket = (self.bucket + limit * passed).min(limit * BURST);
        if self.decreased.is_some() {
            let grown = limit + self.throttled_at.max(limit) * INCREASE * passed;
            self.limit = Some(self.cap.map_or(grown, |cap| grown.min(cap)));
        }
    }
}

/// What a scan tells of its rate, in whole units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReadRate {
    /// Read units consumed since the start of the process.
    pub units: u64,
    /// Read units a second, lately.
    pub units_per_second: u64,
    /// Read units a second that it holds itself to; `None` is unlimited.
    pub limit: Option<u64>,
    /// Requests that the table throttled.
    pub throttled: u64,
}

/// See [`Pace`].
#[derive(Debug)]
struct State {
    limit: Limit,
    units: f64,
    throttled: u64,
}

/// A [`Limit`] that several readers share.
#[derive(Debug)]
pub struct Pace {
    start: Instant,
    state: Mutex<State>,
}

impl Pace {
    /// With an operator's cap in units a second, where there is one.
    pub fn new(cap: Option<u32>) -> Self {
        let state = State { limit: Limit::new(cap.map(f64::from)), units: 0.0, throttled: 0 };
        Self { start: Instant::now(), state: Mutex::new(state) }
    }

    /// Waits until the next request may go. Cancel-safe.
    pub async fn ready(&self) {
        loop {
            let wait = self.with(|state, now| state.limit.wait(now));
            if wait.is_zero() {
                return;
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// Takes in what an answer consumed.
    pub fn spent(&self, units: f64) {
        self.with(|state, now| {
            state.limit.spent(now, units);
            state.units += units;
        });
    }

    /// Takes in that a request was throttled.
    pub fn throttled(&self) {
        self.with(|state, now| {
            state.limit.throttled(now);
            state.throttled += 1;
        });
    }

    /// Units that one request may consume at most so that a second's limit is kept; `None` is unlimited.
    pub fn units_at_once(&self) -> Option<f64> {
        self.with(|state, _| state.limit.units())
    }

    /// What to tell of it.
    pub fn rate(&self) -> ReadRate {
        // A float that does not fit is cut to the type's ends.
        self.with(|state, now| ReadRate {
            units: state.units as u64,
            units_per_second: state.limit.rate(now) as u64,
            limit: state.limit.units().map(|units| units as u64),
            throttled: state.throttled,
        })
    }

    fn with<T>(&self, use_it: impl FnOnce(&mut State, Duration) -> T) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        use_it(&mut state, self.start.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    /// Reads pages of `page` units as fast as it may; answers the units read from `from` to `until` seconds.
    fn read(limit: &mut Limit, page: f64, from: f64, until: f64) -> f64 {
        let (mut now, mut units) = (from, 0.0);
        while now < until {
            let wait = limit.wait(at(now)).as_secs_f64();
            if wait > 0.0 {
                now += wait;
                continue;
            }
            limit.spent(at(now), page);
            units += page;
            now += 0.01;
        }
        units
    }

    #[test]
    fn a_cap_is_kept_over_time() {
        let mut limit = Limit::new(Some(100.0));
        let units = read(&mut limit, 30.0, 0.0, 20.0);
        // One second's worth may go ahead, and one page beyond it.
        assert!((1900.0..=2130.0).contains(&units), "{units}");
    }

    #[test]
    fn without_a_cap_nothing_waits_until_the_table_throttles() {
        let mut limit = Limit::new(None);
        let units = read(&mut limit, 128.0, 0.0, 4.0);
        assert!(units > 40_000.0, "{units}");
        limit.throttled(at(4.0));
        let halved = limit.units().expect("a limit");
        assert!((5_000.0..7_500.0).contains(&halved), "{halved}");
    }

    #[test]
    fn one_burst_of_throttling_halves_once_and_a_later_one_again() {
        let mut limit = Limit::new(Some(1000.0));
        read(&mut limit, 50.0, 0.0, 5.0);
        for _ in 0..10 {
            limit.throttled(at(5.0));
        }
        let once = limit.units().expect("a limit");
        assert!((450.0..=520.0).contains(&once), "{once}");
        limit.throttled(at(6.5));
        assert!(limit.units().expect("a limit") < once * 0.7);
    }

    #[test]
    fn the_limit_grows_back_to_the_cap_and_no_further() {
        let mut limit = Limit::new(Some(1000.0));
        read(&mut limit, 50.0, 0.0, 5.0);
        limit.throttled(at(5.0));
        limit.wait(at(8.0));
        let growing = limit.units().expect("a limit");
        assert!((550.0..800.0).contains(&growing), "{growing}");
        limit.wait(at(60.0));
        assert_eq!(limit.units(), Some(1000.0));
    }

    #[test]
    fn throttled_at_the_lowest_rate_it_still_reads() {
        let mut limit = Limit::new(Some(1.0));
        for second in 0..100 {
            limit.throttled(at(f64::from(second) * 2.0));
        }
        assert!(limit.units().expect("a limit") >= LIMIT_MIN);
        assert!(read(&mut limit, 1.0, 200.0, 230.0) >= 25.0);
    }
}

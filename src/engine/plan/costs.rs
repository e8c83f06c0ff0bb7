//! What counts come to in disk and time, by stated assumptions. Pure.

use serde::Serialize;

use crate::reconcile::forecast::estimate::Estimate;

use super::report::TargetForecast;

/// Write units a second that one partition of DynamoDB takes, by its developer guide.
const PARTITION_UNITS: f64 = 1_000.0;
/// A write to DynamoDB is answered within so many seconds, at best and at worst: what its users see within a region.
const WRITE_SECONDS: (f64, f64) = (0.004, 0.02);
/// How many times as long as this pass a run takes that copies, keeps, maps and writes what the pass only reads and maps. Measured
/// (`benches/README.md`): 1.6 and 2.0 where the processor sets the pace; a target that sets it makes it more.
const RUN_OF_PASS: (f64, f64) = (1.0, 10.0);
/// Bytes of the log for a byte that the source sends, and for each row. Measured in the same place: 1.0 and 1.0 for each byte in all.
const LOG: ((f64, f64), (f64, f64)) = ((0.4, 1.5), (20.0, 100.0));
/// Bytes of the state for a byte that the source sends, and for each row. Measured: 1.5 and 2.3 for each byte in all.
const STATE: ((f64, f64), (f64, f64)) = ((0.5, 2.0), (50.0, 300.0));
/// Bytes that a comparison keeps for a row of each side.
const COMPARED: f64 = 150.0;

/// A figure of which only the ends are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Between {
    /// At least.
    pub low: u64,
    /// At most.
    pub high: u64,
}

/// What writing to DynamoDB takes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Writing {
    /// Write units, with those of indexes: one for each begun kilobyte of an item, and of its entry in an index.
    pub write_units: Estimate,
    /// Write units a second that were said to be there.
    pub capacity: Option<u32>,
    /// Seconds that it takes at that rate; absent without one.
    pub seconds: Option<Between>,
    /// Seconds that the largest partition key takes by itself.
    pub hottest_seconds: u64,
}

/// Disk that is needed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Disk {
    /// Bytes of the event log.
    pub log: Between,
    /// Bytes of the state.
    pub state: Between,
    /// Bytes that `reconcile` needs while it compares.
    pub comparison: Between,
    /// Bytes that this plan needed while it read.
    pub plan: u64,
    /// What these stand on.
    pub assumptions: Vec<String>,
}

/// Time that a run needs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Time {
    /// Seconds that this pass took.
    pub pass_seconds: f64,
    /// Rows that it read in each of them.
    pub rows_per_second: u64,
    /// Seconds until a run has caught up.
    pub run_seconds: Between,
    /// Read units that the pass consumed, of a source that counts them.
    pub read_units: Option<u64>,
    /// What these stand on.
    pub assumptions: Vec<String>,
}

/// What a pass was like.
pub(super) struct Pass<'a> {
    pub seconds: f64,
    pub read: u64,
    pub evaluated: u64,
    pub rows: Estimate,
    pub written: Estimate,
    pub writing: Option<&'a Writing>,
    pub connections: u32,
    pub read_units: Option<u64>,
}

/// The sum of estimates, each end by itself: at least as wide as the interval of the sum.
pub(super) fn sum(estimates: impl Iterator<Item = Estimate>) -> Estimate {
    estimates.fold(Estimate::counted(0), |sum, more| Estimate {
        value: sum.value + more.value,
        low: sum.low + more.low,
        high: sum.high + more.high,
        exact: sum.exact && more.exact,
    })
}

/// What writing takes, at a capacity where one is given.
pub(super) fn writing(write_units: Estimate, targets: &[TargetForecast], capacity: Option<u32>) -> Writing {
    let hottest = |target: &TargetForecast| {
        let largest = target.partitions.as_ref()?.largest.first()?;
        // Of a sample only the key's part is known.
        Some(largest.percent / 100.0 * target.write_units?.value as f64)
    };
    let hottest = targets.iter().filter_map(hottest).fold(0.0, f64::max);
    let at = |units: u64, rate: u32| whole(units as f64 / f64::from(rate.max(1)));
    Writing {
        write_units,
        capacity,
        seconds: capacity.map(|rate| Between { low: at(write_units.low, rate), high: at(write_units.high, rate) }),
        hottest_seconds: whole(hottest / PARTITION_UNITS),
    }
}

/// Disk by the rows and bytes of the source, and the rows of the target.
pub(super) fn disk(rows: Estimate, bytes: Estimate, written: Estimate, plan: u64) -> Disk {
    let by = |((byte_low, byte_high), (row_low, row_high)): ((f64, f64), (f64, f64))| Between {
        low: whole(bytes.low as f64 * byte_low + rows.low as f64 * row_low),
        high: whole(bytes.high as f64 * byte_high + rows.high as f64 * row_high),
    };
    let compared = |rows: u64| whole(2.0 * COMPARED * rows as f64);
    let said = |name: &str, ((byte_low, byte_high), (row_low, row_high)): ((f64, f64), (f64, f64))| {
        format!(
            "{name}: {byte_low} to {byte_high} bytes for each byte that the source sends, and {row_low} to {row_high} for each row"
        )
    };
    Disk {
        log: by(LOG),
        state: by(STATE),
        comparison: Between { low: compared(written.low), high: compared(written.high).saturating_add(bytes.high) },
        plan,
        assumptions: vec![
            said("log", LOG),
            said("state", STATE),
            "changes that come after the copy add to both, as many rows again".to_owned(),
            format!(
                "comparison: {COMPARED} bytes for each target row of each side, and the rows of units that are mapped together"
            ),
        ],
    }
}

/// Time by the rate of a pass.
pub(super) fn time(pass: &Pass<'_>) -> Time {
    let seconds = pass.seconds.max(0.001);
    let read_rate = (pass.read as f64 / seconds).max(1.0);
    // Where units were sampled not every row that was read was mapped as well.
    let mapped_rate = (pass.evaluated.min(pass.read) as f64 / seconds).clamp(1.0, read_rate);
    let (mut low, mut high) =
        (pass.rows.low as f64 / read_rate * RUN_OF_PASS.0, pass.rows.high as f64 / mapped_rate * RUN_OF_PASS.1);
    let mut assumptions = vec![format!(
        "a run takes {} to {} times as long as a pass that only reads and maps everything, at this pass's rate and on this machine",
        RUN_OF_PASS.0, RUN_OF_PASS.1
    )];
    if let Some(writing) = pass.writing {
        let connections = f64::from(pass.connections.max(1));
        let by_answers = |rows: u64, answer: f64| rows as f64 * answer / connections;
        low = low.max(by_answers(pass.written.low, WRITE_SECONDS.0)).max(writing.hottest_seconds as f64);
        high += by_answers(pass.written.high, WRITE_SECONDS.1);
        assumptions.push(format!(
            "each write to DynamoDB is answered within {} to {} ms, {} under way at once (--target-connections)",
            WRITE_SECONDS.0 * 1e3,
            WRITE_SECONDS.1 * 1e3,
            pass.connections
        ));
        match writing.seconds {
            Some(at_capacity) => {
                low = low.max(at_capacity.low as f64);
                high = high.max(at_capacity.high as f64);
            }
            None => assumptions.push("the tables take what is written: no --write-capacity was given".to_owned()),
        }
    }
    Time {
        pass_seconds: pass.seconds,
        rows_per_second: read_rate as u64,
        run_seconds: Between { low: whole(low), high: whole(high).max(1) },
        read_units: pass.read_units,
        assumptions,
    }
}

fn whole(number: f64) -> u64 {
    // A float that does not fit is cut to the type's ends.
    number.ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(writing: Option<&Writing>) -> Pass<'_> {
        let rows = Estimate::counted(1_000_000);
        Pass {
            seconds: 10.0,
            read: 1_000_000,
            evaluated: 1_000_000,
            rows,
            written: rows,
            writing,
            connections: 10,
            read_units: None,
        }
    }

    #[test]
    fn a_run_takes_as_long_as_the_slowest_of_what_it_does() {
        let plain = time(&pass(None));
        assert_eq!(plain.run_seconds, Between { low: 10, high: 100 });
        assert_eq!(plain.rows_per_second, 100_000);
        // A thousand units a second for two million of them.
        let slow = writing(Estimate::counted(2_000_000), &[], Some(1_000));
        assert_eq!(slow.seconds, Some(Between { low: 2_000, high: 2_000 }));
        assert_eq!(time(&pass(Some(&slow))).run_seconds, Between { low: 2_000, high: 2_100 });
        // Without a capacity the answers bound it: 4 to 20 ms each, ten at once.
        let free = writing(Estimate::counted(2_000_000), &[], None);
        assert_eq!(time(&pass(Some(&free))).run_seconds, Between { low: 400, high: 2_100 });
    }

    #[test]
    fn a_sample_that_read_more_than_it_mapped_widens_the_interval() {
        let sampled = Pass { evaluated: 100_000, ..pass(None) };
        assert_eq!(time(&sampled).run_seconds, Between { low: 10, high: 1_000 });
    }

    #[test]
    fn disk_grows_with_rows_and_bytes() {
        let (few, many) = (Estimate::counted(1_000), Estimate::counted(1_000_000));
        let (small, large) = (disk(few, many, few, 5), disk(many, many, many, 5));
        assert!(small.log.low < large.log.low && small.log.high < large.log.high && small.log.low < small.log.high);
        assert_eq!((large.comparison.low, large.plan), (300_000_000, 5));
    }
}

//! Points in time with Postgres's range and resolution.
//!
//! Calendar arithmetic is the proleptic Gregorian calendar by days since 1970, after Howard Hinnant's "chrono-compatible
//! low-level date algorithms" (<https://howardhinnant.github.io/date_algorithms.html>): date crates stop at the year 9999,
//! Postgres at 294276.

use std::fmt;
use std::str::FromStr;

/// A point in time: microseconds since 2000-01-01T00:00:00 UTC, the unit and origin of Postgres's own binary form.
///
/// That origin, and not 1970, because Postgres's latest timestamp, in the year 294276, does not fit an `i64` of
/// microseconds since 1970. `i64::MAX` and `i64::MIN` are `infinity` and `-infinity`, as on Postgres's wire.
///
/// Prints as ISO 8601 in UTC with six digits, `2025-10-09T00:00:58.404171+00:00`; years before 1 as Postgres's `BC`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(pub i64);

/// The text is not a timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a timestamp such as 2025-10-09T00:00:58.404171+00:00")]
pub struct NotATimestamp;

/// Microseconds of a day.
const DAY_US: i128 = 86_400_000_000;
/// Days from 0000-03-01 to 1970-01-01.
const EPOCH_DAYS: i64 = 719_468;
/// Days of a 400 year cycle.
const ERA_DAYS: i64 = 146_097;

impl Timestamp {
    /// `infinity`.
    pub const INFINITY: Timestamp = Timestamp(i64::MAX);
    /// `-infinity`.
    pub const NEG_INFINITY: Timestamp = Timestamp(i64::MIN);
    /// Microseconds from 1970-01-01 to 2000-01-01.
    const UNIX_OFFSET_US: i128 = 946_684_800_000_000;

    /// Microseconds since 1970-01-01T00:00:00 UTC; `None` for the infinities.
    pub fn unix_us(self) -> Option<i128> {
        self.finite().then(|| i128::from(self.0) + Self::UNIX_OFFSET_US)
    }

    /// The point `us` microseconds after 1970-01-01T00:00:00 UTC; `None` outside what Postgres can hold.
    pub fn from_unix_us(us: i128) -> Option<Self> {
        let value = Self(i64::try_from(us - Self::UNIX_OFFSET_US).ok()?);
        value.finite().then_some(value)
    }

    /// Whether this is a point in time rather than an infinity.
    pub fn finite(self) -> bool {
        self != Self::INFINITY && self != Self::NEG_INFINITY
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(us) = self.unix_us() else {
            return f.write_str(if *self == Self::INFINITY { "infinity" } else { "-infinity" });
        };
        let days = i64::try_from(us.div_euclid(DAY_US)).map_err(|_| fmt::Error)?;
        let within = us.rem_euclid(DAY_US);
        let (year, month, day) = civil(days);
        let (era_year, suffix) = if year < 1 { (1 - year, " BC") } else { (year, "") };
        let (seconds, micros) = (within / 1_000_000, within % 1_000_000);
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        write!(f, "{era_year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}+00:00{suffix}")
    }
}

impl FromStr for Timestamp {
    type Err = NotATimestamp;

    /// Reads ISO 8601 and Postgres's ISO output: `T` or a space between, up to six digits of a second, `Z`, `+HH`, `+HH:MM`
    /// or `+HH:MM:SS` or nothing (UTC) behind, `BC`, `infinity`, `-infinity`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "infinity" => return Ok(Self::INFINITY),
            "-infinity" => return Ok(Self::NEG_INFINITY),
            _ => {}
        }
        parse(text).ok_or(NotATimestamp)
    }
}

fn parse(text: &str) -> Option<Timestamp> {
    let (text, bc) = match text.strip_suffix(" BC") {
        Some(rest) => (rest, true),
        None => (text, false),
    };
    let (date, time) = text.split_once(['T', ' '])?;
    let mut parts = date.split('-');
    let (year, month, day) = (number(parts.next()?, 4, 6)?, number(parts.next()?, 2, 2)?, number(parts.next()?, 2, 2)?);
    let year = if bc { 1 - year } else { year };
    let in_range = (1..=12).contains(&month) && (1..=31).contains(&day);
    if parts.next().is_some() || !in_range || civil(days(year, month, day)) != (year, month, day) {
        return None;
    }
    let zone_at = time.find(['Z', '+', '-']).unwrap_or(time.len());
    let (clock, zone) = time.split_at(zone_at);
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let mut parts = clock.split(':');
    let (hour, minute) = (number(parts.next()?, 2, 2)?, number(parts.next()?, 2, 2)?);
    let second = parts.next().map_or(Some(0), |part| number(part, 2, 2))?;
    if parts.next().is_some() || hour > 24 || minute > 59 || second > 60 || fraction.len() > 6 {
        return None;
    }
    let micros = if fraction.is_empty() { 0 } else { number(&format!("{fraction:0<6}"), 6, 6)? };
    let seconds = hour * 3600 + minute * 60 + second - offset_seconds(zone)?;
    let us = i128::from(days(year, month, day)) * DAY_US + i128::from(seconds) * 1_000_000 + i128::from(micros);
    Timestamp::from_unix_us(us)
}

fn offset_seconds(zone: &str) -> Option<i64> {
    if matches!(zone, "" | "Z") {
        return Some(0);
    }
    let (sign, rest) = zone.split_at(1);
    let compact = [rest.get(..2)?, rest.get(2..)?];
    let parts: Vec<&str> =
        if rest.len() == 4 && !rest.contains(':') { compact.to_vec() } else { rest.split(':').collect() };
    let mut seconds = 0;
    for (part, unit) in parts.iter().zip([3600, 60, 1]) {
        seconds += number(part, 2, 2)? * unit;
    }
    (parts.len() <= 3).then_some(if sign == "-" { -seconds } else { seconds })
}

fn number(text: &str, shortest: usize, longest: usize) -> Option<i64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    if plain && (shortest..=longest).contains(&text.len()) { text.parse().ok() } else { None }
}

/// Year, month and day of a day counted from 1970-01-01.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + EPOCH_DAYS;
    let era = shifted.div_euclid(ERA_DAYS);
    let day_of_era = shifted.rem_euclid(ERA_DAYS);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Days from 1970-01-01 to a date.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * ERA_DAYS + day_of_era - EPOCH_DAYS
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn postgres_forms_read_alike() {
        let expected = Ok(Timestamp::from_unix_us(1_759_968_058_404_171).expect("in range"));
        for text in [
            "2025-10-09T00:00:58.404171+00:00",
            "2025-10-09 00:00:58.404171+00",
            "2025-10-09 00:00:58.404171",
            "2025-10-09T02:00:58.404171+02:00",
            "2025-10-08T16:00:58.404171-0800",
            "2025-10-09T00:00:58.404171Z",
        ] {
            assert_eq!(text.parse(), expected, "{text}");
        }
    }

    #[test]
    fn the_ends_of_postgres_range_survive() {
        for text in [
            "294276-12-31T23:59:59.999999+00:00",
            "4714-11-24T00:00:00.000000+00:00 BC",
            "0044-03-15T12:00:00.000000+00:00 BC",
            "infinity",
            "-infinity",
        ] {
            assert_eq!(text.parse::<Timestamp>().expect("a timestamp").to_string(), text);
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in
            ["", "2025-02-30T00:00:00", "2025-13-01T00:00:00", "now", "2025-10-09", "2025-10-09T00:00:00.1234567"]
        {
            assert_eq!(text.parse::<Timestamp>(), Err(NotATimestamp), "{text}");
        }
    }

    proptest! {
        #[test]
        fn text_reads_back(us in -211_813_488_000_000_000i64..9_223_371_331_200_000_000) {
            let timestamp = Timestamp(us);
            prop_assert_eq!(timestamp.to_string().parse(), Ok(timestamp));
        }
    }
}

//! Exact decimals.
//!
//! A [`Decimal`] keeps the digits and the scale it was written with: `1.10` stays `1.10`, a DynamoDB number keeps
//! its 38 digits and a Postgres `numeric` its scale, so the text is the stored form (I10). Comparing by value, as JSON
//! numbers want it, goes through [`Decimal::normalised`]. There is no arithmetic here: a float in between would lose
//! digits, and nothing that rehome does to a number needs more than its text and its value.

use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A decimal number of any length, or one of Postgres's three values that are not numbers.
///
/// `Eq` and `Ord` compare what is written (`1.10` differs from `1.1`); use [`Decimal::same_value`] for the value.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Box<str>")]
pub struct Decimal(Box<str>);

impl TryFrom<Box<str>> for Decimal {
    type Error = NotADecimal;

    fn try_from(text: Box<str>) -> Result<Self, NotADecimal> {
        Self::parse(&text)
    }
}

/// The value of a finite decimal: `±digits × 10^exponent`, without leading or trailing zeros in `digits`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Scientific {
    /// Whether the number is below zero; zero itself never is.
    pub negative: bool,
    /// Significant decimal digits; `"0"` for zero.
    pub digits: String,
    /// Power of ten by which `digits` is scaled; 0 for zero.
    pub exponent: i64,
}

/// The text is not a decimal number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a decimal number")]
pub struct NotADecimal;

impl Decimal {
    /// Reads a decimal as Postgres, JSON and DynamoDB write it: `-12.50`, `1E-7`, `NaN`, `Infinity`, `-Infinity`.
    ///
    /// # Errors
    /// [`NotADecimal`] when the text is none of these.
    pub fn parse(text: &str) -> Result<Self, NotADecimal> {
        if matches!(text, "NaN" | "Infinity" | "-Infinity") {
            return Ok(Self(text.into()));
        }
        split(text).map(|_| Self(text.into())).ok_or(NotADecimal)
    }

    /// The number as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is a number rather than `NaN` or an infinity.
    pub fn finite(&self) -> bool {
        !matches!(&*self.0, "NaN" | "Infinity" | "-Infinity")
    }

    /// The value without its manner of writing; `None` for `NaN` and the infinities.
    pub fn scientific(&self) -> Option<Scientific> {
        if !self.finite() {
            return None;
        }
        let (negative, integer, fraction, exponent) = split(&self.0)?;
        let mut digits: String = [integer, fraction].concat();
        let mut exponent = exponent.saturating_sub(i64::try_from(fraction.len()).unwrap_or(i64::MAX));
        let significant = digits.trim_end_matches('0').len();
        exponent = exponent.saturating_add(i64::try_from(digits.len() - significant).unwrap_or(0));
        digits.truncate(significant);
        let digits = digits.trim_start_matches('0').to_owned();
        if digits.is_empty() {
            return Some(Scientific { negative: false, digits: "0".into(), exponent: 0 });
        }
        Some(Scientific { negative, digits, exponent })
    }

    /// One writing for each value: `1.10`, `1.1` and `11E-1` all become `1.1`.
    ///
    /// Plain digits where they stay short, an exponent otherwise, so that `1E999999999` does not become a gigabyte.
    #[must_use]
    pub fn normalised(&self) -> Self {
        let Some(Scientific { negative, digits, exponent }) = self.scientific() else {
            return self.clone();
        };
        let sign = if negative { "-" } else { "" };
        let count = i64::try_from(digits.len()).unwrap_or(i64::MAX);
        // 64 places hold every number DynamoDB and nearly every one Postgres can be asked to show in plain form.
        let text = match exponent {
            0 => format!("{sign}{digits}"),
            1..=64 => format!("{sign}{digits}{}", "0".repeat(usize::try_from(exponent).unwrap_or(0))),
            -64..=-1 if -exponent < count => {
                let point = usize::try_from(count + exponent).unwrap_or(0);
                format!("{sign}{}.{}", &digits[..point], &digits[point..])
            }
            -64..=-1 => {
                let zeros = usize::try_from(-exponent - count).unwrap_or(0);
                format!("{sign}0.{}{digits}", "0".repeat(zeros))
            }
            _ => format!("{sign}{digits}E{exponent}"),
        };
        Self(text.into())
    }

    /// Whether both are the same number, however written; `NaN` is the same as itself.
    pub fn same_value(&self, other: &Self) -> bool {
        self.0 == other.0 || self.scientific().is_some_and(|value| other.scientific() == Some(value))
    }

    /// Orders by value; infinities at the ends, `NaN` above everything, as Postgres sorts them.
    pub fn value_cmp(&self, other: &Self) -> Ordering {
        match (self.scientific(), other.scientific()) {
            (Some(a), Some(b)) => a.cmp_value(&b),
            _ => self.rank().cmp(&other.rank()),
        }
    }

    /// The number as an `i64`, when it is whole and fits.
    pub fn to_i64(&self) -> Option<i64> {
        let value = self.scientific()?;
        if !(0..=18).contains(&value.exponent) {
            return None;
        }
        let zeros = "0".repeat(usize::try_from(value.exponent).ok()?);
        let sign = if value.negative { "-" } else { "" };
        format!("{sign}{}{zeros}", value.digits).parse().ok()
    }

    fn rank(&self) -> u8 {
        match &*self.0 {
            "-Infinity" => 0,
            "Infinity" => 2,
            "NaN" => 3,
            _ => 1,
        }
    }
}

impl Scientific {
    fn cmp_value(&self, other: &Self) -> Ordering {
        match (self.negative, other.negative) {
            (false, true) => Ordering::Greater,
            (true, false) => Ordering::Less,
            (false, false) => self.cmp_magnitude(other),
            (true, true) => other.cmp_magnitude(self),
        }
    }

    fn cmp_magnitude(&self, other: &Self) -> Ordering {
        let zero = |value: &Self| value.digits == "0";
        match (zero(self), zero(other)) {
            (true, true) => return Ordering::Equal,
            (true, false) => return Ordering::Less,
            (false, true) => return Ordering::Greater,
            (false, false) => {}
        }
        let height = |value: &Self| i128::from(value.exponent) + value.digits.len() as i128;
        // At equal height the digits compare as text, because both begin at the same power of ten.
        height(self).cmp(&height(other)).then_with(|| self.digits.cmp(&other.digits))
    }
}

impl From<i64> for Decimal {
    fn from(value: i64) -> Self {
        Self(value.to_string().into())
    }
}

impl From<u64> for Decimal {
    fn from(value: u64) -> Self {
        Self(value.to_string().into())
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Takes a decimal apart into sign, integer digits, fraction digits and exponent.
fn split(text: &str) -> Option<(bool, &str, &str, i64)> {
    let (negative, rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (mantissa, exponent) = match rest.find(['e', 'E']) {
        Some(at) => (&rest[..at], rest[at + 1..].parse::<i64>().ok()?),
        None => (rest, 0),
    };
    let (integer, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let empty = integer.is_empty() && fraction.is_empty();
    (!empty && digits(integer) && digits(fraction)).then_some((negative, integer, fraction, exponent))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(text: &str) -> Decimal {
        Decimal::parse(text).expect("a decimal")
    }

    #[test]
    fn one_writing_for_each_value() {
        for (written, normal) in [
            ("1.10", "1.1"),
            ("1E0", "1"),
            ("100", "100"),
            ("0.00", "0"),
            ("-0", "0"),
            ("1E3", "1000"),
            ("12e-1", "1.2"),
            ("0.000001", "0.000001"),
            ("1E999999999", "1E999999999"),
            ("-5.0E-3", "-0.005"),
            ("NaN", "NaN"),
        ] {
            assert_eq!(decimal(written).normalised().as_str(), normal, "{written}");
        }
    }

    #[test]
    fn digits_and_scale_survive() {
        for text in ["1.10", "12345678901234567890123456789012345678", "-0.50", "1E-130"] {
            assert_eq!(decimal(text).as_str(), text);
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in ["", "-", ".", "1.2.3", "0x1", "1e", "nan", "1 ", "١"] {
            assert_eq!(Decimal::parse(text), Err(NotADecimal), "{text}");
        }
    }

    #[test]
    fn order_is_by_value() {
        let sorted = ["-Infinity", "-10", "-9.5", "0", "1E-9", "0.1", "9", "10", "1E30", "Infinity", "NaN"];
        for pair in sorted.windows(2) {
            assert_eq!(decimal(pair[0]).value_cmp(&decimal(pair[1])), Ordering::Less, "{pair:?}");
        }
        assert_eq!(decimal("9007199254740993").to_i64(), Some(9_007_199_254_740_993));
        assert_eq!(decimal("1.5").to_i64(), None);
    }
}

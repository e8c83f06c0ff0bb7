//! Tolerances: how far two values may be apart and still stand for one another. Judged on a pair, never by rounding.
//!
//! Rounding into a digest would make two values that are near one another differ where a boundary lies between them, and
//! two that are far apart alike. So a tolerated field is left out of one digest, and the pair is judged here, exactly.

use bigdecimal::BigDecimal;

use super::uses::Deviation;
use crate::event::{Decimal, Value};

/// Numbers with more digits, or a larger exponent, are not subtracted: they would take memory without bound, and no column
/// that anyone tolerates has them.
const DIGITS_MAX: usize = 1_000;
/// Largest exponent, of either sign.
const EXPONENT_MAX: i64 = 10_000;

/// How far apart two values may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Tolerance {
    /// Numbers: at most this far.
    Absolute(BigDecimal),
    /// Numbers: at most this part of the one of larger magnitude.
    Relative(BigDecimal),
    /// Times: at most so many microseconds.
    Window(i128),
}

impl Tolerance {
    /// How far the values are apart, if that is within what is tolerated.
    ///
    /// A value that is neither a number nor a time, a NaN, an infinity, and one that is only on one side are never within.
    pub(super) fn admits(&self, one: &Value, other: &Value) -> Option<Deviation> {
        match self {
            Self::Window(window) => {
                let distance = (time(one)? - time(other)?).abs();
                (distance <= *window).then_some(Deviation::Microseconds(distance))
            }
            Self::Absolute(limit) => {
                let distance = (number(one)? - number(other)?).abs();
                within(&distance, limit)
            }
            Self::Relative(part) => {
                let (one, other) = (number(one)?, number(other)?);
                let larger = one.abs().max(other.abs());
                within(&(one - other).abs(), &(larger * part))
            }
        }
    }
}

fn within(distance: &BigDecimal, limit: &BigDecimal) -> Option<Deviation> {
    if distance > limit {
        return None;
    }
    Decimal::parse(&distance.to_scientific_notation()).ok().map(|number| Deviation::Number(number.normalised()))
}

fn time(value: &Value) -> Option<i128> {
    match value {
        Value::Timestamp(time) => time.unix_us(),
        _ => None,
    }
}

/// A number to calculate with; a double is the shortest decimal that reads back as it, which is what its store prints.
fn number(value: &Value) -> Option<BigDecimal> {
    match value {
        Value::Int(number) => Some(BigDecimal::from(*number)),
        Value::Decimal(number) => to_number(number),
        Value::Float(float) if float.0.is_finite() => to_number(&Decimal::parse(&float.0.to_string()).ok()?),
        _ => None,
    }
}

/// A decimal to calculate with; `None` for what is no number and for one that is out of all proportion.
pub(super) fn to_number(number: &Decimal) -> Option<BigDecimal> {
    let value = number.scientific()?;
    if value.digits.len() > DIGITS_MAX || value.exponent.abs() > EXPONENT_MAX {
        return None;
    }
    number.normalised().as_str().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Float, Timestamp};

    fn decimal(text: &str) -> Value {
        Value::Decimal(Decimal::parse(text).expect("a decimal"))
    }

    fn limit(text: &str) -> BigDecimal {
        text.parse().expect("a number")
    }

    fn reach(tolerance: &Tolerance, one: &Value, other: &Value) -> Option<String> {
        let there = tolerance.admits(one, other).map(|deviation| deviation.to_string());
        assert_eq!(there, tolerance.admits(other, one).map(|deviation| deviation.to_string()), "it has no direction");
        there
    }

    #[test]
    fn numbers_are_subtracted_with_every_digit() {
        let cent = Tolerance::Absolute(limit("0.01"));
        assert_eq!(reach(&cent, &decimal("1.00"), &decimal("1.01")).as_deref(), Some("0.01"));
        assert_eq!(reach(&cent, &decimal("1.00"), &decimal("1.0100000000000000000000000000001")), None);
        assert_eq!(reach(&cent, &decimal("12345678901234567890123456789012345678"), &Value::Int(1)), None);
        let one = Tolerance::Absolute(limit("1"));
        assert_eq!(
            reach(&one, &decimal("9007199254740992"), &decimal("9007199254740993")).as_deref(),
            Some("1"),
            "a double would see no distance at all"
        );
        assert_eq!(reach(&cent, &Value::Float(Float(0.1)), &Value::Float(Float(0.105))).as_deref(), Some("0.005"));
    }

    #[test]
    fn a_part_is_of_the_larger() {
        let percent = Tolerance::Relative(limit("0.01"));
        assert_eq!(reach(&percent, &decimal("99"), &decimal("100")).as_deref(), Some("1"));
        assert_eq!(reach(&percent, &decimal("98.99"), &decimal("100")), None);
        assert_eq!(reach(&percent, &decimal("-100"), &decimal("100")), None);
        assert_eq!(reach(&percent, &decimal("0"), &decimal("0.00")).as_deref(), Some("0"));
    }

    #[test]
    fn a_window_has_two_ends_and_infinity_is_in_none() {
        let at = |us| Value::Timestamp(Timestamp::from_unix_us(us).expect("a time"));
        let second = Tolerance::Window(1_000_000);
        assert_eq!(reach(&second, &at(-500_000), &at(500_000)).as_deref(), Some("1.000000 s"));
        assert_eq!(reach(&second, &at(0), &at(1_000_001)), None);
        let ever = Value::Timestamp(Timestamp::INFINITY);
        assert_eq!(reach(&second, &ever, &ever), None);
        assert_eq!(reach(&second, &at(0), &decimal("0")), None);
    }

    #[test]
    fn what_is_no_number_or_beyond_proportion_is_not_tolerated() {
        let all = Tolerance::Absolute(limit("1E30"));
        assert_eq!(reach(&all, &decimal("NaN"), &decimal("NaN")), None);
        assert_eq!(reach(&all, &decimal("1E999999999"), &decimal("1")), None);
        assert_eq!(reach(&all, &Value::text("1"), &Value::text("2")), None);
        assert_eq!(reach(&all, &Value::Null, &Value::Int(1)), None);
    }
}

//! What a row would take in a table of Postgres, and which of its values the server would refuse or alter: asked of nobody.
//!
//! Sizes are of the heap, without indexes and before compression: a value's own bytes, and what each row costs.

use crate::event::{Decimal, Float, Json, Value};

/// Header of a row, its line pointer, and what alignment takes of it about.
const ROW_BYTES: u64 = 24 + 4 + 4;
/// Header of a value of any length.
const LENGTH_BYTES: u64 = 4;
/// Microseconds of a second have so many digits.
const MICROSECOND_DIGITS: u32 = 6;

/// Reason for which the server refuses a number or a time.
const OUT_OF_RANGE: &str = "out_of_range";
/// Reason for which it refuses a text.
const NOT_STORABLE: &str = "not_storable";
/// What happens to a number or a time with more digits than its column has.
const ROUNDED: &str = "rounded";

/// What a column takes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Takes {
    /// Whole numbers of so many bytes.
    Whole(u8),
    /// Numbers of so many digits, of which so many stand behind the point.
    Decimal(i64, i64),
    /// So many characters.
    Characters(usize),
    /// Four bytes of a float.
    Single,
    /// Times with so many digits behind the second's point.
    Moment(u32),
    /// A document in a form that holds no U+0000.
    Jsonb,
    /// Whatever its type does.
    Anything,
}

/// Measures rows of one table.
#[derive(Debug, Clone)]
pub struct Meter {
    columns: Vec<Takes>,
}

/// What a value of a row comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Size {
    /// Bytes of the row.
    pub bytes: u64,
    /// Why the server would refuse it.
    pub refused: Option<&'static str>,
    /// What it would make of a value, if not the value itself.
    pub altered: Option<&'static str>,
}

impl Meter {
    /// For a table with columns of these types: the catalog's name of each, and the type as its definition has it.
    pub fn new<'t>(columns: impl Iterator<Item = (&'t str, &'t str)>) -> Self {
        Self { columns: columns.map(|(catalog, written)| takes(catalog, written)).collect() }
    }

    /// Measures a row.
    pub fn measure(&self, values: &[Value]) -> Size {
        let mut size = Size { bytes: ROW_BYTES, ..Size::default() };
        for (takes, value) in self.columns.iter().zip(values) {
            size.bytes += bytes(takes, value);
            let (refused, altered) = unfit(takes, value);
            size.refused = size.refused.or(refused);
            size.altered = size.altered.or(altered);
        }
        size
    }
}

fn takes(catalog: &str, written: &str) -> Takes {
    let modifiers: Vec<i64> = written
        .split_once('(')
        .and_then(|(_, rest)| rest.split_once(')'))
        .map_or_else(Vec::new, |(inner, _)| inner.split(',').filter_map(|part| part.trim().parse().ok()).collect());
    match (catalog, modifiers.as_slice()) {
        ("int2", _) => Takes::Whole(2),
        ("int4", _) => Takes::Whole(4),
        ("int8", _) => Takes::Whole(8),
        ("numeric", [digits]) => Takes::Decimal(*digits, 0),
        ("numeric", [digits, scale]) => Takes::Decimal(*digits, *scale),
        ("varchar", [length]) => Takes::Characters(usize::try_from(*length).unwrap_or(usize::MAX)),
        ("float4", _) => Takes::Single,
        ("timestamp" | "timestamptz", [digits]) => Takes::Moment(u32::try_from(*digits).unwrap_or(MICROSECOND_DIGITS)),
        ("jsonb", _) => Takes::Jsonb,
        _ => Takes::Anything,
    }
}

/// Bytes of a value.
fn bytes(takes: &Takes, value: &Value) -> u64 {
    match (takes, value) {
        (_, Value::Null) => 0,
        (Takes::Whole(bytes), Value::Int(_)) => u64::from(*bytes),
        (Takes::Single, Value::Float(_)) => 4,
        (_, Value::Bool(_)) => 1,
        (_, Value::Int(_) | Value::Float(_) | Value::Timestamp(_)) => 8,
        (_, Value::Uuid(_)) => 16,
        // Two bytes for four digits, and a header.
        (_, Value::Decimal(number)) => 2 * (number.as_str().len() as u64).div_ceil(4) + LENGTH_BYTES,
        (_, Value::Text(text) | Value::Json(text)) => text.len() as u64 + LENGTH_BYTES,
        (_, Value::Bytes(bytes)) => bytes.len() as u64 + LENGTH_BYTES,
        (_, Value::List(_) | Value::Map(_) | Value::TextSet(_) | Value::NumberSet(_) | Value::BytesSet(_)) => 0,
    }
}

/// Why the server would refuse a value, and what it would make of it.
fn unfit(takes: &Takes, value: &Value) -> (Option<&'static str>, Option<&'static str>) {
    let refused = |holds: bool, reason| (holds.then_some(reason), None);
    match (takes, value) {
        (Takes::Whole(2), Value::Int(number)) => refused(i16::try_from(*number).is_err(), OUT_OF_RANGE),
        (Takes::Whole(4), Value::Int(number)) => refused(i32::try_from(*number).is_err(), OUT_OF_RANGE),
        (Takes::Decimal(digits, scale), Value::Decimal(number)) => decimal(*digits, *scale, number),
        (Takes::Characters(most), Value::Text(text)) => {
            // Blanks behind the length are cut off, everything else is refused.
            let count = text.chars().count();
            let blank = count > *most && text.chars().skip(*most).all(|letter| letter == ' ');
            ((count > *most && !blank).then_some(NOT_STORABLE), blank.then_some("cut"))
        }
        (Takes::Single, Value::Float(Float(number))) => {
            let single = *number as f32;
            let lost = number.is_finite() && (single.is_infinite() || (single == 0.0 && *number != 0.0));
            (
                lost.then_some(OUT_OF_RANGE),
                (!lost && !number.is_nan() && f64::from(single) != *number).then_some(ROUNDED),
            )
        }
        (Takes::Moment(digits), Value::Timestamp(time)) => {
            let step = 10_i128.pow(MICROSECOND_DIGITS.saturating_sub(*digits));
            (None, time.unix_us().is_some_and(|us| us.rem_euclid(step) != 0).then_some(ROUNDED))
        }
        (Takes::Jsonb, Value::Json(text)) => {
            // Only a text that has the escape is worth reading.
            let nul = text.contains("\\u0000") && Json::parse(text).is_ok_and(|document| document.holds_nul());
            refused(nul, NOT_STORABLE)
        }
        (_, Value::Text(text)) => refused(text.contains('\0'), NOT_STORABLE),
        _ => (None, None),
    }
}

/// A number in a column of so many digits, so many of them behind the point.
fn decimal(digits: i64, scale: i64, number: &Decimal) -> (Option<&'static str>, Option<&'static str>) {
    let Some(value) = number.scientific() else {
        // NaN has a place in each column, the infinities only where there is no limit.
        return ((number.as_str() != "NaN").then_some(OUT_OF_RANGE), None);
    };
    if value.digits == "0" {
        return (None, None);
    }
    let count = i64::try_from(value.digits.len()).unwrap_or(i64::MAX);
    let before_point = value.exponent.saturating_add(count);
    // Digits that are cut off may round the number up to one more before the point.
    let rounded = -value.exponent > scale;
    let all_nines = rounded
        && value.digits.bytes().take(usize::try_from(digits).unwrap_or(0)).all(|digit| digit == b'9')
        && value.digits.as_bytes().get(usize::try_from(digits).unwrap_or(0)).is_some_and(|digit| *digit >= b'5');
    let refused = before_point > digits - scale || (all_nines && before_point == digits - scale);
    (refused.then_some(OUT_OF_RANGE), (rounded && !refused).then_some(ROUNDED))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Timestamp;

    fn fits(catalog: &str, written: &str, value: Value) -> (Option<&'static str>, Option<&'static str>) {
        let size = Meter::new([(catalog, written)].into_iter()).measure(&[value]);
        (size.refused, size.altered)
    }

    fn number(text: &str) -> Value {
        Value::Decimal(Decimal::parse(text).expect("a decimal"))
    }

    #[test]
    fn what_the_server_would_refuse_or_alter_is_told() {
        const FINE: (Option<&str>, Option<&str>) = (None, None);
        let refused = |reason| (Some(reason), None);
        let altered = |what| (None, Some(what));
        for (catalog, written, value, expected) in [
            ("int4", "INT", Value::Int(i64::from(i32::MAX)), FINE),
            ("int4", "INT", Value::Int(i64::from(i32::MAX) + 1), refused(OUT_OF_RANGE)),
            ("int2", "SMALLINT", Value::Int(-32_769), refused(OUT_OF_RANGE)),
            ("int8", "BIGINT", Value::Int(i64::MIN), FINE),
            ("numeric", "NUMERIC", number("1E400"), FINE),
            ("numeric", "NUMERIC(5,2)", number("999.99"), FINE),
            ("numeric", "NUMERIC(5,2)", number("0.004"), altered(ROUNDED)),
            ("numeric", "NUMERIC(5,2)", number("999.995"), refused(OUT_OF_RANGE)),
            ("numeric", "NUMERIC(5,2)", number("999.994"), altered(ROUNDED)),
            ("numeric", "NUMERIC(5,2)", number("1000"), refused(OUT_OF_RANGE)),
            ("numeric", "NUMERIC(5, 2)", number("1.10"), FINE),
            ("numeric", "NUMERIC(3)", number("12.5"), altered(ROUNDED)),
            ("numeric", "NUMERIC(3)", number("NaN"), FINE),
            ("numeric", "NUMERIC(3)", number("Infinity"), refused(OUT_OF_RANGE)),
            ("varchar", "VARCHAR(3)", Value::text("äöü"), FINE),
            ("varchar", "VARCHAR(3)", Value::text("äöüx"), refused(NOT_STORABLE)),
            ("varchar", "VARCHAR(3)", Value::text("äöü "), altered("cut")),
            ("float4", "REAL", Value::Float(Float(1e39)), refused(OUT_OF_RANGE)),
            ("float4", "REAL", Value::Float(Float(0.1)), altered(ROUNDED)),
            ("float4", "REAL", Value::Float(Float(0.5)), FINE),
            ("timestamptz", "TIMESTAMPTZ(3)", Value::Timestamp(Timestamp(1_000)), FINE),
            ("timestamptz", "TIMESTAMPTZ(3)", Value::Timestamp(Timestamp(1_001)), altered(ROUNDED)),
            ("jsonb", "JSONB", Value::Json("{\"a\":\"\\u0000\"}".into()), refused(NOT_STORABLE)),
            ("jsonb", "JSONB", Value::Json("{\"a\":\"\\\\u0000\"}".into()), FINE),
            ("text", "TEXT", Value::Null, FINE),
        ] {
            assert_eq!(fits(catalog, written, value.clone()), expected, "{written} {value:?}");
        }
    }

    #[test]
    fn a_rows_bytes_are_those_of_its_values_and_its_own() {
        let meter = Meter::new([("int8", "BIGINT"), ("text", "TEXT"), ("bool", "BOOLEAN")].into_iter());
        let row = [Value::Int(1), Value::text("abc"), Value::Null];
        assert_eq!(meter.measure(&row).bytes, ROW_BYTES + 8 + 7);
    }
}

//! Order and sameness of rows as bytes, so that millions of rows are sorted and told apart without being kept.

use super::datum::{Fault, RowView};
use crate::event::encoding::ordered::key_bytes;
use crate::event::{Decimal, Float, Json, Key, Scientific, Value};

/// Stands before every value that is not NULL; NULL sorts last.
const PRESENT: u8 = 1;
/// Stands for NULL.
const ABSENT: u8 = 2;

/// Appends bytes that order as the value does, NULL last; values of one column only are compared.
///
/// Documents, lists, maps and sets have no order: they are told apart, and the mapping's check keeps them out where rows are
/// ordered.
pub(super) fn encode(value: &Value, out: &mut Vec<u8>) {
    if *value == Value::Null {
        out.push(ABSENT);
        return;
    }
    out.push(PRESENT);
    match value {
        Value::Bool(truth) => out.push(u8::from(*truth)),
        Value::Int(number) => out.extend(signed(*number)),
        Value::Timestamp(time) => out.extend(signed(time.0)),
        Value::Uuid(uuid) => out.extend(uuid.as_bytes()),
        Value::Float(Float(number)) => {
            // As Postgres compares them: there is one zero, and one value that is no number.
            let bits = match *number {
                0.0 => 0.0_f64,
                number if number.is_nan() => f64::NAN,
                number => number,
            }
            .to_bits();
            // The usual turn of IEEE bits into an order: negative numbers are inverted, positive ones moved above.
            out.extend((if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }).to_be_bytes());
        }
        Value::Text(text) | Value::Json(text) => escaped(text.as_bytes(), out),
        Value::Bytes(bytes) => escaped(bytes, out),
        Value::Decimal(number) => decimal(number, out),
        Value::Null | Value::List(_) | Value::Map(_) | Value::TextSet(_) | Value::NumberSet(_) | Value::BytesSet(_) => {
            out.extend(key_bytes(&Key(vec![value.clone()])));
        }
    }
}

/// Appends bytes that tell a value apart, for names that are kept: these have decimals as text, and may not change.
pub(super) fn name(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Decimal(number) => {
            out.push(PRESENT);
            escaped(number.normalised().as_str().as_bytes(), out);
        }
        other => encode(other, out),
    }
}

/// Bytes in the order of [`Decimal::value_cmp`]: how a number stands to zero, then how far its first digit is from the
/// point, then its digits; all but the first turned round below zero.
fn decimal(number: &Decimal, out: &mut Vec<u8>) {
    let Some(Scientific { negative, digits, exponent }) = number.scientific() else {
        out.push(match number.as_str() {
            "-Infinity" => 0,
            "Infinity" => 4,
            _ => 5,
        });
        return;
    };
    if digits == "0" {
        out.push(2);
        return;
    }
    let height = i128::from(exponent) + digits.len() as i128;
    let mut magnitude = (height.cast_unsigned() ^ 1 << 127).to_be_bytes().to_vec();
    magnitude.extend(digits.as_bytes());
    magnitude.push(0);
    if negative {
        magnitude.iter_mut().for_each(|byte| *byte = !*byte);
    }
    out.push(if negative { 1 } else { 3 });
    out.append(&mut magnitude);
}

fn signed(number: i64) -> [u8; 8] {
    (number.cast_unsigned() ^ 1 << 63).to_be_bytes()
}

/// Bytes of any length that end themselves: a zero is followed by 255, the end by another zero.
fn escaped(bytes: &[u8], out: &mut Vec<u8>) {
    for byte in bytes {
        out.push(*byte);
        if *byte == 0 {
            out.push(255);
        }
    }
    out.extend([0, 0]);
}

/// Digest of some columns of a row: equal for rows that are equal in them, documents compared by value.
pub(super) fn sameness(row: &RowView<'_>, columns: &[usize]) -> Result<[u8; 32], Fault> {
    let mut bytes = Vec::new();
    for column in columns {
        match row.document(*column)? {
            Some(json) => {
                bytes.push(PRESENT);
                escaped(json.canonical().to_text().as_bytes(), &mut bytes);
            }
            None => encode(row.values.get(*column).unwrap_or(&Value::Null), &mut bytes),
        }
    }
    Ok(*blake3::hash(&bytes).as_bytes())
}

/// Digest of a document: equal for documents of equal value.
pub(super) fn document_digest(json: &Json) -> [u8; 32] {
    *blake3::hash(json.canonical().to_text().as_bytes()).as_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::Timestamp;
    use crate::event::strategies::decimal as any_decimal;

    fn bytes(value: &Value) -> Vec<u8> {
        let mut out = Vec::new();
        encode(value, &mut out);
        out
    }

    #[test]
    fn bytes_order_as_values_do_and_null_is_last() {
        let ordered = [
            vec![Value::Int(i64::MIN), Value::Int(-1), Value::Int(0), Value::Int(i64::MAX), Value::Null],
            vec![Value::Timestamp(Timestamp::NEG_INFINITY), Value::Timestamp(Timestamp(5)), Value::Null],
            vec![
                Value::text(""),
                Value::text("\0"),
                Value::text("a"),
                Value::text("aa"),
                Value::text("b"),
                Value::Null,
            ],
            [
                "-Infinity",
                "-10",
                "-9.5",
                "-9",
                "-0.1",
                "0",
                "1E-9",
                "0.1",
                "0.11",
                "9",
                "9.05",
                "10",
                "1E300",
                "Infinity",
                "NaN",
            ]
            .iter()
            .map(|text| Value::Decimal(Decimal::parse(text).expect("a decimal")))
            .chain([Value::Null])
            .collect(),
            [f64::NEG_INFINITY, -1.5, 0.0, 2.0, f64::INFINITY, f64::NAN]
                .iter()
                .map(|number| Value::Float(Float(*number)))
                .chain([Value::Null])
                .collect(),
        ];
        for values in ordered {
            for pair in values.windows(2) {
                assert!(bytes(&pair[0]) < bytes(&pair[1]), "{pair:?}");
            }
        }
    }

    #[test]
    fn there_is_one_zero_and_one_value_that_is_no_number() {
        let float = |number: f64| bytes(&Value::Float(Float(number)));
        assert_eq!(float(-0.0), float(0.0));
        assert_eq!(float(f64::from_bits(0xfff8_0000_0000_0001)), float(f64::NAN));
    }

    proptest! {
        #[test]
        fn bytes_of_decimals_order_as_their_values_do_and_end_themselves(a in any_decimal(), b in any_decimal()) {
            let [first, second] = [&a, &b].map(|number| bytes(&Value::Decimal(number.clone())));
            prop_assert_eq!(first.cmp(&second), a.value_cmp(&b));
            prop_assert!(first == second || !second.starts_with(&first));
        }
    }

    #[test]
    fn collections_are_told_apart() {
        let list = |number: i64| Value::List(vec![Value::Int(number)]);
        assert_ne!(bytes(&list(1)), bytes(&list(2)));
        let digest = |value: Value| sameness(&RowView::new(&[value]), &[0]).expect("no document");
        assert_ne!(digest(list(1)), digest(list(2)));
    }

    /// The names of parts stand in the state and at targets.
    #[test]
    fn names_keep_the_bytes_that_they_have() {
        let named = |value: &Value| {
            let mut out = Vec::new();
            name(value, &mut out);
            out
        };
        assert_eq!(named(&Value::Decimal(Decimal::parse("1.50").expect("a decimal"))), b"\x011.5\0\0");
        assert_eq!(named(&Value::text("a\0b")), b"\x01a\0\xffb\0\0");
        assert_eq!(named(&Value::Float(Float(1.5))), [1, 191, 248, 0, 0, 0, 0, 0, 0]);
        assert_eq!(named(&Value::Int(1)), [1, 128, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(named(&Value::Null), [2]);
    }

    #[test]
    fn documents_are_the_same_by_value() {
        let digest = |text: &str| {
            let values = [Value::Json(text.into()), Value::Int(1)];
            sameness(&RowView::new(&values), &[0, 1]).expect("JSON")
        };
        assert_eq!(digest(r#"{"a":1.0,"b":2}"#), digest(r#"{"b":2,"a":1}"#));
        assert_ne!(digest(r#"{"a":1}"#), digest(r#"{"a":"1"}"#));
    }
}

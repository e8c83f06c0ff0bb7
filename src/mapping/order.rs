//! Order and sameness of rows as bytes, so that millions of rows are sorted and told apart without being kept.

use super::datum::{Fault, RowView};
use crate::event::{Float, Json, Value};

/// Stands before every value that is not NULL; NULL sorts last.
const PRESENT: u8 = 1;
/// Stands for NULL.
const ABSENT: u8 = 2;

/// Appends bytes that order as the value does, NULL last; values of one column only are compared.
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
            let bits = number.to_bits();
            // The usual turn of IEEE bits into an order: negative numbers are inverted, positive ones moved above.
            out.extend((if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }).to_be_bytes());
        }
        Value::Text(text) | Value::Json(text) => escaped(text.as_bytes(), out),
        Value::Bytes(bytes) => escaped(bytes, out),
        Value::Decimal(number) => escaped(number.normalised().as_str().as_bytes(), out),
        Value::Null | Value::List(_) | Value::Map(_) | Value::TextSet(_) | Value::NumberSet(_) | Value::BytesSet(_) => {
        }
    }
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
    use super::*;
    use crate::event::Timestamp;

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
            vec![Value::Float(Float(-1.5)), Value::Float(Float(0.0)), Value::Float(Float(2.0)), Value::Null],
        ];
        for values in ordered {
            for pair in values.windows(2) {
                assert!(bytes(&pair[0]) < bytes(&pair[1]), "{pair:?}");
            }
        }
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

//! Values as the text that Postgres reads back into the same value.

use std::io::Write as _;

use crate::event::{Float, Value, to_hex};

/// The input text of a value for a column of its type; `None` for NULL.
///
/// # Errors
/// The name of the kind when a Postgres column cannot hold it (a DynamoDB list, map or set).
pub fn input_text(value: &Value) -> Result<Option<String>, &'static str> {
    Ok(Some(match value {
        Value::Null => return Ok(None),
        Value::Bool(flag) => if *flag { "t" } else { "f" }.to_owned(),
        Value::Int(number) => number.to_string(),
        Value::Decimal(number) => number.as_str().to_owned(),
        Value::Float(number) => float_text(*number),
        Value::Text(text) | Value::Json(text) => text.to_string(),
        Value::Bytes(bytes) => bytes_text(bytes),
        Value::Timestamp(timestamp) => timestamp.to_string(),
        Value::Uuid(uuid) => uuid.to_string(),
        Value::List(_) => return Err("list"),
        Value::Map(_) => return Err("map"),
        Value::TextSet(_) | Value::NumberSet(_) | Value::BytesSet(_) => return Err("set"),
    }))
}

/// Appends a value as a field of a COPY in text form.
///
/// # Errors
/// As for [`input_text`].
pub fn put_copy_field(value: &Value, out: &mut Vec<u8>) -> Result<(), &'static str> {
    match value {
        Value::Null => out.extend_from_slice(b"\\N"),
        Value::Int(number) => write!(out, "{number}").expect("writing to memory does not fail"),
        Value::Uuid(uuid) => {
            out.extend_from_slice(uuid.hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer()).as_bytes())
        }
        Value::Text(text) | Value::Json(text) => put_escaped(text.as_bytes(), out),
        other => put_escaped(input_text(other)?.unwrap_or_default().as_bytes(), out),
    }
    Ok(())
}

/// Escapes what ends a field or a row, and the escape itself.
fn put_escaped(text: &[u8], out: &mut Vec<u8>) {
    for &byte in text {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            other => out.push(other),
        }
    }
}

/// The shortest text that reads back as the same double.
fn float_text(Float(number): Float) -> String {
    if number.is_nan() {
        "NaN".to_owned()
    } else if number.is_infinite() {
        if number > 0.0 { "Infinity" } else { "-Infinity" }.to_owned()
    } else {
        format!("{number:e}")
    }
}

fn bytes_text(bytes: &[u8]) -> String {
    format!("\\x{}", to_hex(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Timestamp;

    #[test]
    fn values_become_input_text() {
        for (value, text) in [
            (Value::Int(i64::MIN), Some("-9223372036854775808")),
            (Value::Float(Float(-0.0)), Some("-0e0")),
            (Value::Float(Float(f64::NAN)), Some("NaN")),
            (Value::Bytes(Box::from([0u8, 255])), Some("\\x00ff")),
            (Value::Timestamp(Timestamp::INFINITY), Some("infinity")),
            (Value::Null, None),
        ] {
            assert_eq!(input_text(&value).expect("a value of Postgres").as_deref(), text);
        }
        assert_eq!(input_text(&Value::List(Vec::new())), Err("list"));
    }

    #[test]
    fn fields_of_a_copy_are_escaped() {
        for (value, field) in [
            (Value::Null, "\\N"),
            (Value::text("a\tb\nc\rd\\N"), "a\\tb\\nc\\rd\\\\N"),
            (Value::Bytes(Box::from([1u8])), "\\\\x01"),
            (Value::Int(-5), "-5"),
        ] {
            let mut out = Vec::new();
            put_copy_field(&value, &mut out).expect("a value of Postgres");
            assert_eq!(String::from_utf8(out).expect("text"), field);
        }
    }
}

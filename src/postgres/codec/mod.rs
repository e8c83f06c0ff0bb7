//! From Postgres's two wire forms to [`Value`]s: binary, as `COPY` sends it, and text, as `pgoutput` does.
//!
//! The same stored value must become the same [`Value`] either way, or a copied row and its streamed twin would differ.
//! Types without a kind of their own travel as their canonical text in both forms: the copy asks the server for it.

mod numeric;

use crate::event::{Borrowed, Decimal, Float, Timestamp, Value};

/// How the values of a type are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `smallint`.
    Int2,
    /// `integer`.
    Int4,
    /// `bigint`.
    Int8,
    /// `numeric`.
    Numeric,
    /// `real`.
    Float4,
    /// `double precision`.
    Float8,
    /// `boolean`.
    Bool,
    /// `text`, `varchar`, `char(n)`, `name`: the binary form is the text.
    Text,
    /// `uuid`.
    Uuid,
    /// `bytea`.
    Bytea,
    /// `timestamp`.
    Timestamp,
    /// `timestamptz`.
    TimestampTz,
    /// `json`.
    Json,
    /// `jsonb`.
    Jsonb,
    /// Everything else, as text.
    Other,
}

/// A value does not read as its type says; the value itself is not told (I12).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a value does not read as {0:?}")]
pub struct Malformed(pub Kind);

impl Kind {
    /// The kind of a built-in type by its OID, which never changes; other types are `Other`.
    pub fn of(oid: u32) -> Self {
        match oid {
            16 => Kind::Bool,
            17 => Kind::Bytea,
            20 => Kind::Int8,
            21 => Kind::Int2,
            23 => Kind::Int4,
            19 | 25 | 1042 | 1043 => Kind::Text,
            114 => Kind::Json,
            700 => Kind::Float4,
            701 => Kind::Float8,
            1114 => Kind::Timestamp,
            1184 => Kind::TimestampTz,
            1700 => Kind::Numeric,
            2950 => Kind::Uuid,
            3802 => Kind::Jsonb,
            _ => Kind::Other,
        }
    }

    /// The kind of a built-in type by its name in the catalog; other names are `Other`.
    pub fn named(type_name: &str) -> Self {
        match type_name {
            "bool" => Kind::Bool,
            "bytea" => Kind::Bytea,
            "int8" => Kind::Int8,
            "int2" => Kind::Int2,
            "int4" => Kind::Int4,
            "name" | "text" | "bpchar" | "varchar" => Kind::Text,
            "json" => Kind::Json,
            "float4" => Kind::Float4,
            "float8" => Kind::Float8,
            "timestamp" => Kind::Timestamp,
            "timestamptz" => Kind::TimestampTz,
            "numeric" => Kind::Numeric,
            "uuid" => Kind::Uuid,
            "jsonb" => Kind::Jsonb,
            _ => Kind::Other,
        }
    }

    /// Reads the binary form.
    ///
    /// # Errors
    /// [`Malformed`] when the bytes are not a value of this kind.
    pub fn from_binary(self, bytes: &[u8]) -> Result<Value, Malformed> {
        match self {
            Kind::Numeric => numeric::from_binary(bytes).map(Value::Decimal).ok_or(Malformed(self)),
            _ => self.borrowed(bytes).map(Value::from),
        }
    }

    /// Appends the canonical encoding of what [`from_binary`](Self::from_binary) reads.
    ///
    /// # Errors
    /// As there; then what was appended is of no use.
    pub(super) fn put_canonical(self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
        match self {
            Kind::Numeric => numeric::put_canonical(bytes, out).ok_or(Malformed(self)),
            _ => self.borrowed(bytes).map(|value| value.put(out)),
        }
    }

    /// Reads the binary form of all but `numeric`, whose digits have to be made.
    fn borrowed(self, bytes: &[u8]) -> Result<Borrowed<'_>, Malformed> {
        let bad = Malformed(self);
        Ok(match self {
            Kind::Int2 => Borrowed::Int(i16::from_be_bytes(bytes.try_into().map_err(|_| bad)?).into()),
            Kind::Int4 => Borrowed::Int(i32::from_be_bytes(bytes.try_into().map_err(|_| bad)?).into()),
            Kind::Int8 => Borrowed::Int(i64::from_be_bytes(bytes.try_into().map_err(|_| bad)?)),
            Kind::Numeric => return Err(bad),
            Kind::Float4 => Borrowed::Float(float(f32::from_be_bytes(bytes.try_into().map_err(|_| bad)?).into())),
            Kind::Float8 => Borrowed::Float(float(f64::from_be_bytes(bytes.try_into().map_err(|_| bad)?))),
            Kind::Bool => match bytes {
                [0] => Borrowed::Bool(false),
                [1] => Borrowed::Bool(true),
                _ => return Err(bad),
            },
            Kind::Text | Kind::Other => borrowed_text(bytes),
            Kind::Uuid => Borrowed::Uuid(uuid::Uuid::from_slice(bytes).map_err(|_| bad)?),
            Kind::Bytea => Borrowed::Bytes(bytes),
            Kind::Timestamp | Kind::TimestampTz => {
                Borrowed::Timestamp(Timestamp(i64::from_be_bytes(bytes.try_into().map_err(|_| bad)?)))
            }
            Kind::Json => json(bytes, bad)?,
            Kind::Jsonb => match bytes.split_first() {
                Some((1, document)) => json(document, bad)?,
                _ => return Err(bad),
            },
        })
    }

    /// Appends the binary form of a value; answers false, with nothing appended, where only the server knows it: it will read
    /// the text.
    pub(super) fn put_binary(self, value: &Value, out: &mut Vec<u8>) -> bool {
        match (self, value) {
            (Kind::Int2, Value::Int(number)) => fixed(i16::try_from(*number).ok().map(i16::to_be_bytes), out),
            (Kind::Int4, Value::Int(number)) => fixed(i32::try_from(*number).ok().map(i32::to_be_bytes), out),
            (Kind::Int8, Value::Int(number)) => fixed(Some(number.to_be_bytes()), out),
            (Kind::Numeric, Value::Decimal(number)) => numeric::put_binary(number.as_str(), out),
            (Kind::Numeric, Value::Int(number)) => numeric::put_binary(&number.to_string(), out),
            (Kind::Float8, Value::Float(number)) => fixed(Some(number.0.to_be_bytes()), out),
            (Kind::Bool, Value::Bool(truth)) => fixed(Some([u8::from(*truth)]), out),
            (Kind::Uuid, Value::Uuid(uuid)) => fixed(Some(*uuid.as_bytes()), out),
            (Kind::Timestamp | Kind::TimestampTz, Value::Timestamp(time)) => fixed(Some(time.0.to_be_bytes()), out),
            (Kind::Bytea, Value::Bytes(bytes)) => put(&[bytes], out),
            (Kind::Text | Kind::Json, Value::Text(text) | Value::Json(text)) => put(&[text.as_bytes()], out),
            (Kind::Jsonb, Value::Text(text) | Value::Json(text)) => put(&[&[1], text.as_bytes()], out),
            _ => false,
        }
    }

    /// Reads the text form, under the settings that every connection of ours pins.
    ///
    /// # Errors
    /// [`Malformed`] when the text is not a value of this kind.
    pub fn from_text(self, bytes: &[u8]) -> Result<Value, Malformed> {
        let bad = Malformed(self);
        if matches!(self, Kind::Text | Kind::Other) {
            return Ok(text(bytes));
        }
        let written = std::str::from_utf8(bytes).map_err(|_| bad)?;
        Ok(match self {
            Kind::Int2 | Kind::Int4 | Kind::Int8 => Value::Int(written.parse().map_err(|_| bad)?),
            Kind::Numeric => Value::Decimal(Decimal::parse(written).map_err(|_| bad)?),
            Kind::Float4 => Value::Float(float(written.parse::<f32>().map_err(|_| bad)?.into())),
            Kind::Float8 => Value::Float(float(written.parse().map_err(|_| bad)?)),
            Kind::Bool => match written {
                // As the type writes itself, and as a cast to text does.
                "f" | "false" => Value::Bool(false),
                "t" | "true" => Value::Bool(true),
                _ => return Err(bad),
            },
            Kind::Uuid => Value::Uuid(uuid::Uuid::parse_str(written).map_err(|_| bad)?),
            Kind::Bytea => Value::Bytes(hex(written).ok_or(bad)?.into()),
            Kind::Timestamp | Kind::TimestampTz => Value::Timestamp(written.parse().map_err(|_| bad)?),
            Kind::Json | Kind::Jsonb => Value::Json(written.into()),
            Kind::Text | Kind::Other => text(bytes),
        })
    }
}

fn fixed<const LENGTH: usize>(bytes: Option<[u8; LENGTH]>, out: &mut Vec<u8>) -> bool {
    bytes.is_some_and(|bytes| put(&[&bytes], out))
}

fn put(parts: &[&[u8]], out: &mut Vec<u8>) -> bool {
    parts.iter().for_each(|part| out.extend_from_slice(part));
    true
}

/// Reads the text form of a type by the type's name.
///
/// # Errors
/// [`Malformed`] when the text is not a value of that type.
pub fn decode_text(type_name: &str, text: &str) -> Result<Value, Malformed> {
    Kind::named(type_name).from_text(text.as_bytes())
}

/// A float with one bit pattern for NaN: its sign and payload are lost in text, so they must not show in binary either.
fn float(value: f64) -> Float {
    Float(if value.is_nan() { f64::NAN } else { value })
}

/// Text, or its bytes where a `SQL_ASCII` database holds what is no UTF-8: kept, because capture never refuses a row.
pub(super) fn text(bytes: &[u8]) -> Value {
    borrowed_text(bytes).into()
}

/// See [`text`].
fn borrowed_text(bytes: &[u8]) -> Borrowed<'_> {
    std::str::from_utf8(bytes).map_or(Borrowed::Bytes(bytes), Borrowed::Text)
}

/// A JSON document as the server prints it.
fn json(bytes: &[u8], bad: Malformed) -> Result<Borrowed<'_>, Malformed> {
    std::str::from_utf8(bytes).map(Borrowed::Json).map_err(|_| bad)
}

/// Reads `\x0a1b…`.
fn hex(written: &str) -> Option<Vec<u8>> {
    let digits = written.strip_prefix("\\x")?.as_bytes();
    if digits.len() % 2 != 0 {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    digits.chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Canonical as _;

    fn canonical(kind: Kind, bytes: &[u8]) -> Result<Vec<u8>, Malformed> {
        let mut out = Vec::new();
        kind.put_canonical(bytes, &mut out).map(|()| out)
    }

    fn encoded(value: &Value) -> Vec<u8> {
        let mut out = Vec::new();
        value.put(&mut out);
        out
    }

    #[test]
    fn both_forms_give_one_value() {
        let cases: [(Kind, &[u8], &str); 7] = [
            (Kind::Int2, &[0xff, 0xfe], "-2"),
            (Kind::Int8, &i64::MIN.to_be_bytes(), "-9223372036854775808"),
            (Kind::Float4, &1.1f32.to_be_bytes(), "1.1"),
            (Kind::Float8, &(-0.0f64).to_be_bytes(), "-0"),
            (Kind::Float8, &f64::NAN.to_be_bytes(), "NaN"),
            (Kind::Bytea, &[0, 255], "\\x00ff"),
            (Kind::Jsonb, b"\x01{\"a\": 1.10}", "{\"a\": 1.10}"),
        ];
        for (kind, binary, written) in cases {
            let value = kind.from_binary(binary);
            assert_eq!(value, kind.from_text(written.as_bytes()), "{kind:?} {written}");
            assert_eq!(Ok(canonical(kind, binary).expect("it reads")), value.map(|value| encoded(&value)));
        }
    }

    #[test]
    fn what_is_written_in_binary_reads_back_and_the_rest_is_left_to_the_server() {
        let time = Value::Timestamp(Timestamp(-5));
        let written = [
            (Kind::Int2, Value::Int(-2)),
            (Kind::Int4, Value::Int(i64::from(i32::MAX))),
            (Kind::Int8, Value::Int(i64::MIN)),
            (Kind::Numeric, Value::Decimal(Decimal::parse("-12.50").expect("a decimal"))),
            (Kind::Float8, Value::Float(Float(-0.0))),
            (Kind::Bool, Value::Bool(true)),
            (Kind::Uuid, Value::Uuid(uuid::Uuid::from_u128(7))),
            (Kind::Timestamp, time.clone()),
            (Kind::TimestampTz, time),
            (Kind::Bytea, Value::Bytes([0, 255].into())),
            (Kind::Text, Value::text("a\tb")),
            (Kind::Json, Value::Json("{\"a\": 1.10}".into())),
            (Kind::Jsonb, Value::Json("{\"a\": 1.10}".into())),
        ];
        for (kind, value) in written {
            let mut out = Vec::new();
            assert!(kind.put_binary(&value, &mut out), "{kind:?}");
            assert_eq!(canonical(kind, &out), Ok(encoded(&value)));
            assert_eq!(kind.from_binary(&out), Ok(value));
        }
        let left = [
            (Kind::Int2, Value::Int(i64::from(i16::MAX) + 1)),
            (Kind::Int4, Value::Decimal(Decimal::parse("1").expect("a decimal"))),
            (Kind::Float4, Value::Float(Float(1.1))),
            (Kind::Numeric, Value::Decimal(Decimal::parse("NaN").expect("a decimal"))),
            (Kind::Uuid, Value::text("00000000-0000-0000-0000-000000000007")),
            (Kind::Text, Value::Int(5)),
            (Kind::Other, Value::text("{a,b}")),
        ];
        for (kind, value) in left {
            let mut out = Vec::new();
            assert!(!kind.put_binary(&value, &mut out) && out.is_empty(), "{kind:?}");
        }
    }

    #[test]
    fn what_is_no_value_is_refused() {
        let cases: [(Kind, &[u8]); 5] = [
            (Kind::Int4, b"12a"),
            (Kind::Bool, b"yes"),
            (Kind::Bytea, b"\\x0"),
            (Kind::Uuid, b"1"),
            (Kind::Timestamp, b"yesterday"),
        ];
        for (kind, written) in cases {
            assert_eq!(kind.from_text(written), Err(Malformed(kind)));
            assert_eq!(Kind::Int4.from_binary(&[1]), Err(Malformed(Kind::Int4)));
            assert_eq!(canonical(Kind::Int4, &[1]), Err(Malformed(Kind::Int4)));
        }
    }

    #[test]
    fn text_that_is_no_utf8_is_kept_as_bytes() {
        assert_eq!(Kind::Text.from_text(&[0xff]), Ok(Value::Bytes([0xff].into())));
        assert_eq!(Kind::Text.from_binary(&[0xff]), Ok(Value::Bytes([0xff].into())));
        assert_eq!(canonical(Kind::Text, &[0xff]), Ok(encoded(&Value::Bytes([0xff].into()))));
    }
}

//! Encoding of values, cells, rows and keys: a tag, then the content.

use std::collections::{BTreeMap, BTreeSet};

use super::reader::{put_bytes, put_text, put_varint, put_zigzag};
use super::{Canonical, DecodeError, FORMAT, NEST_MAX, Reader};
use crate::event::{Borrowed, Cell, Float, Key, Row, Timestamp, Value};

/// Tags of values and cells. Stored for ever: a number is never given a second meaning.
pub(super) mod tag {
    pub const NULL: u8 = 1;
    pub const FALSE: u8 = 2;
    pub const TRUE: u8 = 3;
    pub const INT: u8 = 4;
    pub const DECIMAL: u8 = 5;
    pub const FLOAT: u8 = 6;
    pub const TEXT: u8 = 7;
    pub const BYTES: u8 = 8;
    pub const TIMESTAMP: u8 = 9;
    pub const UUID: u8 = 10;
    pub const JSON: u8 = 11;
    pub const LIST: u8 = 12;
    pub const MAP: u8 = 13;
    pub const TEXT_SET: u8 = 14;
    pub const NUMBER_SET: u8 = 15;
    pub const BYTES_SET: u8 = 16;
    /// Of cells only: a missing value is none.
    pub const MISSING: u8 = 17;
}

impl Borrowed<'_> {
    /// Appends what [`Canonical::put`] appends of the value itself.
    pub(crate) fn put(self, out: &mut Vec<u8>) {
        match self {
            Borrowed::Null => out.push(tag::NULL),
            Borrowed::Bool(false) => out.push(tag::FALSE),
            Borrowed::Bool(true) => out.push(tag::TRUE),
            Borrowed::Int(value) => {
                out.push(tag::INT);
                put_zigzag(value, out);
            }
            Borrowed::Float(value) => {
                out.push(tag::FLOAT);
                out.extend_from_slice(&value.0.to_bits().to_be_bytes());
            }
            Borrowed::Text(text) => tagged(tag::TEXT, text.as_bytes(), out),
            Borrowed::Bytes(bytes) => tagged(tag::BYTES, bytes, out),
            Borrowed::Timestamp(value) => {
                out.push(tag::TIMESTAMP);
                out.extend_from_slice(&value.0.to_be_bytes());
            }
            Borrowed::Uuid(value) => {
                out.push(tag::UUID);
                out.extend_from_slice(value.as_bytes());
            }
            Borrowed::Json(text) => tagged(tag::JSON, text.as_bytes(), out),
        }
    }
}

impl Canonical for Value {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Value::Null => Borrowed::Null.put(out),
            Value::Bool(truth) => Borrowed::Bool(*truth).put(out),
            Value::Int(value) => Borrowed::Int(*value).put(out),
            Value::Decimal(value) => tagged(tag::DECIMAL, value.as_str().as_bytes(), out),
            Value::Float(value) => Borrowed::Float(*value).put(out),
            Value::Text(text) => Borrowed::Text(text).put(out),
            Value::Bytes(bytes) => Borrowed::Bytes(bytes).put(out),
            Value::Timestamp(value) => Borrowed::Timestamp(*value).put(out),
            Value::Uuid(value) => Borrowed::Uuid(*value).put(out),
            Value::Json(text) => Borrowed::Json(text).put(out),
            Value::List(_) | Value::Map(_) | Value::TextSet(_) | Value::NumberSet(_) | Value::BytesSet(_) => {
                put_collection(self, out);
            }
        }
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let tag = reader.byte()?;
        take_tagged(tag, reader)
    }
}

impl Canonical for Cell {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Cell::Missing => out.push(tag::MISSING),
            Cell::Value(value) => value.put(out),
        }
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match reader.byte()? {
            tag::MISSING => Ok(Cell::Missing),
            tag => take_tagged(tag, reader).map(Cell::Value),
        }
    }
}

impl Canonical for Row {
    fn put(&self, out: &mut Vec<u8>) {
        put_varint(self.0.len() as u64, out);
        for cell in &self.0 {
            cell.put(out);
        }
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        take_sequence(reader).map(Row)
    }
}

impl Key {
    /// Appends the standalone form of the key that some values make up.
    pub fn put_of<'v>(values: impl ExactSizeIterator<Item = &'v Value>, out: &mut Vec<u8>) {
        out.push(FORMAT);
        put_varint(values.len() as u64, out);
        values.for_each(|value| value.put(out));
    }
}

impl Canonical for Key {
    fn put(&self, out: &mut Vec<u8>) {
        put_varint(self.0.len() as u64, out);
        for value in &self.0 {
            value.put(out);
        }
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        take_sequence(reader).map(Key)
    }
}

impl Value {
    /// Whether lists and maps nest no deeper than [`NEST_MAX`], so that the encoding reads back.
    pub(super) fn storable(&self) -> bool {
        fn fits(value: &Value, room: usize) -> bool {
            match value {
                Value::List(items) => room > 0 && items.iter().all(|item| fits(item, room - 1)),
                Value::Map(members) => room > 0 && members.values().all(|member| fits(member, room - 1)),
                _ => true,
            }
        }
        fits(self, NEST_MAX)
    }
}

/// Appends what [`Canonical::put`] appends of a decimal whose text `put` appends; `None` where it can not.
pub(crate) fn put_decimal_with(put: impl FnOnce(&mut Vec<u8>) -> Option<()>, out: &mut Vec<u8>) -> Option<()> {
    let from = out.len();
    put(out)?;
    // How long it is shows behind it, and has to be told in front.
    let to = out.len();
    out.push(tag::DECIMAL);
    put_varint((to - from) as u64, out);
    let head = out.len() - to;
    out[from..].rotate_right(head);
    Some(())
}

fn tagged(tag: u8, content: &[u8], out: &mut Vec<u8>) {
    out.push(tag);
    put_bytes(content, out);
}

fn put_collection(value: &Value, out: &mut Vec<u8>) {
    let mut head = |tag: u8, count: usize| {
        out.push(tag);
        put_varint(count as u64, out);
    };
    match value {
        Value::List(items) => {
            head(tag::LIST, items.len());
            items.iter().for_each(|item| item.put(out));
        }
        Value::Map(members) => {
            head(tag::MAP, members.len());
            for (name, member) in members {
                put_text(name, out);
                member.put(out);
            }
        }
        Value::TextSet(items) => {
            head(tag::TEXT_SET, items.len());
            items.iter().for_each(|item| put_text(item, out));
        }
        Value::NumberSet(items) => {
            head(tag::NUMBER_SET, items.len());
            items.iter().for_each(|item| put_text(item.as_str(), out));
        }
        Value::BytesSet(items) => {
            head(tag::BYTES_SET, items.len());
            items.iter().for_each(|item| put_bytes(item, out));
        }
        _ => unreachable!("only collections come here"),
    }
}

fn take_tagged(tag: u8, reader: &mut Reader<'_>) -> Result<Value, DecodeError> {
    Ok(match tag {
        tag::NULL => Value::Null,
        tag::FALSE => Value::Bool(false),
        tag::TRUE => Value::Bool(true),
        tag::INT => Value::Int(reader.zigzag()?),
        tag::DECIMAL => Value::Decimal(reader.decimal()?),
        tag::FLOAT => Value::Float(Float(f64::from_bits(u64::from_be_bytes(reader.array()?)))),
        tag::TEXT => Value::Text(reader.text()?.into()),
        tag::BYTES => Value::Bytes(reader.bytes()?.into()),
        tag::TIMESTAMP => Value::Timestamp(Timestamp(i64::from_be_bytes(reader.array()?))),
        tag::UUID => Value::Uuid(uuid::Uuid::from_bytes(reader.array()?)),
        tag::JSON => Value::Json(reader.text()?.into()),
        tag::LIST => Value::List(reader.nested(take_sequence)?),
        tag::MAP => Value::Map(reader.nested(take_map)?),
        tag::TEXT_SET => Value::TextSet(take_set(reader, |reader| Ok(Box::<str>::from(reader.text()?)))?),
        tag::NUMBER_SET => Value::NumberSet(take_set(reader, |reader| reader.decimal())?),
        tag::BYTES_SET => Value::BytesSet(take_set(reader, |reader| Ok(Box::<[u8]>::from(reader.bytes()?)))?),
        unknown => return Err(DecodeError::Tag(unknown)),
    })
}

/// Room reserved before members are read. A row of ordinary width takes one allocation; a hostile count, repeated at each
/// of the nested levels, reserves kilobytes.
const RESERVED_MAX: usize = 128;

fn take_sequence<T: Canonical>(reader: &mut Reader<'_>) -> Result<Vec<T>, DecodeError> {
    let count = reader.count()?;
    let mut items = Vec::with_capacity(count.min(RESERVED_MAX));
    for _ in 0..count {
        items.push(T::take(reader)?);
    }
    Ok(items)
}

fn take_map(reader: &mut Reader<'_>) -> Result<BTreeMap<Box<str>, Value>, DecodeError> {
    let count = reader.count()?;
    let mut members = BTreeMap::new();
    for _ in 0..count {
        let name: Box<str> = reader.text()?.into();
        if members.last_key_value().is_some_and(|(last, _)| *last >= name) {
            return Err(DecodeError::Order);
        }
        members.insert(name, Value::take(reader)?);
    }
    Ok(members)
}

fn take_set<T: Ord>(
    reader: &mut Reader<'_>,
    take: impl Fn(&mut Reader<'_>) -> Result<T, DecodeError>,
) -> Result<BTreeSet<T>, DecodeError> {
    let count = reader.count()?;
    let mut items = BTreeSet::new();
    for _ in 0..count {
        let item = take(reader)?;
        if items.last().is_some_and(|last| *last >= item) {
            return Err(DecodeError::Order);
        }
        items.insert(item);
    }
    Ok(items)
}

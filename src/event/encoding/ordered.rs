//! Keys as bytes whose order is the order of keys.
//!
//! The state store and its indexes use them as map keys, so a range of keys is a range of bytes, and the values of a
//! composite key's first columns are a prefix. Injective like the other form, and readable back: `a < b` as keys exactly
//! when `key_bytes(a) < key_bytes(b)`.
//!
//! Each value is a tag (in the order of [`Value`]'s kinds) and a content that ends by itself: integers big-endian with the
//! sign bit flipped, texts and bytes with `00` written `00 ff` and ended by `00 00`, collections as `01` before each
//! member and `00` at the end. Decimals order as they do in [`Value`], by their text: what the order by value would buy
//! is not needed, what it would cost (`1.10` and `1.1` as one key) is.

use std::collections::{BTreeMap, BTreeSet};

use super::value::tag;
use super::{DecodeError, Reader};
use crate::event::{Decimal, Float, Key, Timestamp, Value};

/// Before each member of a collection.
const MORE: u8 = 1;
/// After the last member of a collection.
const DONE: u8 = 0;
/// After a zero byte within a text or bytes.
const ESCAPED: u8 = 0xff;

/// The ordered form of a key, for use as a map key.
pub fn key_bytes(key: &Key) -> Vec<u8> {
    let mut out = Vec::with_capacity(key.0.len() * 20);
    for value in &key.0 {
        put(value, &mut out);
    }
    out
}

/// Reads [`key_bytes`].
///
/// # Errors
/// [`DecodeError`] when the bytes are not what [`key_bytes`] would have written.
pub fn key_from_bytes(bytes: &[u8]) -> Result<Key, DecodeError> {
    let mut reader = Reader::new(bytes);
    let mut values = Vec::new();
    while !reader.at_end() {
        values.push(take(&mut reader)?);
    }
    Ok(Key(values))
}

fn put(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.push(tag::NULL),
        Value::Bool(false) => out.push(tag::FALSE),
        Value::Bool(true) => out.push(tag::TRUE),
        Value::Int(value) => {
            out.push(tag::INT);
            out.extend_from_slice(&flip_sign(*value));
        }
        Value::Decimal(value) => tagged(tag::DECIMAL, value.as_str().as_bytes(), out),
        Value::Float(value) => {
            out.push(tag::FLOAT);
            out.extend_from_slice(&float_bits(value.0.to_bits()).to_be_bytes());
        }
        Value::Text(text) => tagged(tag::TEXT, text.as_bytes(), out),
        Value::Bytes(bytes) => tagged(tag::BYTES, bytes, out),
        Value::Timestamp(value) => {
            out.push(tag::TIMESTAMP);
            out.extend_from_slice(&flip_sign(value.0));
        }
        Value::Uuid(value) => {
            out.push(tag::UUID);
            out.extend_from_slice(value.as_bytes());
        }
        Value::Json(text) => tagged(tag::JSON, text.as_bytes(), out),
        Value::List(items) => members(tag::LIST, items, out, put),
        Value::Map(map) => members(tag::MAP, map, out, |(name, member), out| {
            escaped(name.as_bytes(), out);
            put(member, out);
        }),
        Value::TextSet(items) => members(tag::TEXT_SET, items, out, |item, out| escaped(item.as_bytes(), out)),
        Value::NumberSet(items) => {
            members(tag::NUMBER_SET, items, out, |item, out| escaped(item.as_str().as_bytes(), out));
        }
        Value::BytesSet(items) => members(tag::BYTES_SET, items, out, |item, out| escaped(item, out)),
    }
}

fn tagged(tag: u8, content: &[u8], out: &mut Vec<u8>) {
    out.push(tag);
    escaped(content, out);
}

fn escaped(content: &[u8], out: &mut Vec<u8>) {
    for byte in content {
        out.push(*byte);
        if *byte == 0 {
            out.push(ESCAPED);
        }
    }
    out.extend_from_slice(&[0, 0]);
}

fn members<I: IntoIterator>(tag: u8, items: I, out: &mut Vec<u8>, put: impl Fn(I::Item, &mut Vec<u8>)) {
    out.push(tag);
    for item in items {
        out.push(MORE);
        put(item, out);
    }
    out.push(DONE);
}

fn flip_sign(value: i64) -> [u8; 8] {
    (value ^ i64::MIN).to_be_bytes()
}

/// Bits of a double in an order that is [`f64::total_cmp`]'s: negative ones all flipped, others with the sign set.
fn float_bits(bits: u64) -> u64 {
    if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
}

fn float_from_bits(ordered: u64) -> f64 {
    f64::from_bits(if ordered >> 63 == 1 { ordered & !(1 << 63) } else { !ordered })
}

fn take(reader: &mut Reader<'_>) -> Result<Value, DecodeError> {
    let unflip = |bytes: [u8; 8]| i64::from_be_bytes(bytes) ^ i64::MIN;
    Ok(match reader.byte()? {
        tag::NULL => Value::Null,
        tag::FALSE => Value::Bool(false),
        tag::TRUE => Value::Bool(true),
        tag::INT => Value::Int(unflip(reader.array()?)),
        tag::DECIMAL => Value::Decimal(take_decimal(reader)?),
        tag::FLOAT => Value::Float(Float(float_from_bits(u64::from_be_bytes(reader.array()?)))),
        tag::TEXT => Value::Text(take_text(reader)?),
        tag::BYTES => Value::Bytes(take_escaped(reader)?.into()),
        tag::TIMESTAMP => Value::Timestamp(Timestamp(unflip(reader.array()?))),
        tag::UUID => Value::Uuid(uuid::Uuid::from_bytes(reader.array()?)),
        tag::JSON => Value::Json(take_text(reader)?),
        tag::LIST => Value::List(reader.nested(|reader| take_members(reader, take))?),
        tag::MAP => Value::Map(reader.nested(take_map)?),
        tag::TEXT_SET => Value::TextSet(take_set(reader, take_text)?),
        tag::NUMBER_SET => Value::NumberSet(take_set(reader, take_decimal)?),
        tag::BYTES_SET => Value::BytesSet(take_set(reader, |reader| take_escaped(reader).map(Box::from))?),
        unknown => return Err(DecodeError::Tag(unknown)),
    })
}

fn take_escaped(reader: &mut Reader<'_>) -> Result<Vec<u8>, DecodeError> {
    let mut content = Vec::new();
    loop {
        match reader.byte()? {
            0 => match reader.byte()? {
                0 => return Ok(content),
                ESCAPED => content.push(0),
                unknown => return Err(DecodeError::Tag(unknown)),
            },
            byte => content.push(byte),
        }
    }
}

fn take_text(reader: &mut Reader<'_>) -> Result<Box<str>, DecodeError> {
    String::from_utf8(take_escaped(reader)?).map(Box::from).map_err(|_| DecodeError::Utf8)
}

fn take_decimal(reader: &mut Reader<'_>) -> Result<Decimal, DecodeError> {
    Decimal::parse(&take_text(reader)?).map_err(|_| DecodeError::Decimal)
}

fn take_members<T>(
    reader: &mut Reader<'_>,
    take: impl Fn(&mut Reader<'_>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let mut items = Vec::new();
    loop {
        match reader.byte()? {
            MORE => items.push(take(reader)?),
            DONE => return Ok(items),
            unknown => return Err(DecodeError::Tag(unknown)),
        }
    }
}

fn take_map(reader: &mut Reader<'_>) -> Result<BTreeMap<Box<str>, Value>, DecodeError> {
    let members = take_members(reader, |reader| Ok((take_text(reader)?, take(reader)?)))?;
    if members.is_sorted_by(|(a, _), (b, _)| a < b) {
        Ok(members.into_iter().collect())
    } else {
        Err(DecodeError::Order)
    }
}

fn take_set<T: Ord>(
    reader: &mut Reader<'_>,
    take: impl Fn(&mut Reader<'_>) -> Result<T, DecodeError>,
) -> Result<BTreeSet<T>, DecodeError> {
    let items = take_members(reader, take)?;
    if items.is_sorted_by(|a, b| a < b) { Ok(items.into_iter().collect()) } else { Err(DecodeError::Order) }
}
/// The first bytes of a key, as a number in their order: most keys are told apart without reading them.
pub(crate) fn front(key: &[u8]) -> u128 {
    let mut front = [0; 16];
    let length = key.len().min(front.len());
    front[..length].copy_from_slice(&key[..length]);
    u128::from_be_bytes(front)
}

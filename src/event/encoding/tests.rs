//! Tests of the encoding: round trip, injectivity, refusal of every other spelling, and the fixtures of format 1.

use proptest::prelude::*;

use super::ordered::{key_bytes, key_from_bytes};
use super::{Canonical, DecodeError, NEST_MAX, Reader};
use crate::event::strategies::{event, key, relation, row, value};
use crate::event::{Cell, Decimal, Event, Float, Key, Relation, Row, Timestamp, Value};

/// Round trip, and: no proper prefix and no longer string reads as anything, and what reads at all writes the same bytes.
fn check<T: Canonical + PartialEq + std::fmt::Debug>(thing: &T) -> Result<(), TestCaseError> {
    let bytes = thing.encode();
    prop_assert_eq!(&T::decode(&bytes).expect("own bytes decode"), thing);
    let mut longer = bytes.clone();
    longer.push(0);
    prop_assert_eq!(T::decode(&longer), Err(DecodeError::Trailing));
    for end in 0..bytes.len() {
        prop_assert!(T::decode(&bytes[..end]).is_err(), "a prefix of {} bytes decodes", end);
    }
    Ok(())
}

/// Changes one byte and asks that whatever still decodes is spelled canonically, so that it differs in value too.
fn check_mutated<T: Canonical + PartialEq + std::fmt::Debug>(
    thing: &T,
    at: prop::sample::Index,
    byte: u8,
) -> Result<(), TestCaseError> {
    let mut bytes = thing.encode();
    let at = at.index(bytes.len());
    prop_assume!(bytes[at] != byte);
    bytes[at] = byte;
    if let Ok(other) = T::decode(&bytes) {
        prop_assert_eq!(other.encode(), bytes);
        prop_assert_ne!(&other, thing);
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_value_reads_back(thing in value()) {
        check(&thing)?;
    }

    #[test]
    fn a_row_reads_back(thing in row()) {
        check(&thing)?;
    }

    #[test]
    fn a_key_reads_back(thing in key()) {
        check(&thing)?;
    }

    #[test]
    fn an_event_reads_back(thing in event()) {
        check(&thing)?;
    }

    #[test]
    fn a_relation_reads_back(thing in relation()) {
        check(&thing)?;
    }

    #[test]
    fn different_values_encode_differently(a in value(), b in value()) {
        prop_assert_eq!(a == b, a.encode() == b.encode());
    }

    #[test]
    fn a_changed_byte_is_refused_or_another_value(thing in value(), at: prop::sample::Index, byte: u8) {
        check_mutated(&thing, at, byte)?;
    }

    #[test]
    fn a_changed_byte_is_refused_or_another_event(thing in event(), at: prop::sample::Index, byte: u8) {
        check_mutated(&thing, at, byte)?;
    }

    #[test]
    fn hostile_bytes_are_an_error_or_canonical(mut bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        if let Some(first) = bytes.first_mut() {
            *first = super::FORMAT;
        }
        if let Ok(value) = Value::decode(&bytes) {
            prop_assert_eq!(value.encode(), bytes.clone());
        }
        if let Ok(event) = Event::decode(&bytes) {
            prop_assert_eq!(event.encode(), bytes.clone());
        }
        if let Ok(relation) = Relation::decode(&bytes) {
            prop_assert_eq!(relation.encode(), bytes.clone());
        }
        if let Ok(key) = key_from_bytes(&bytes) {
            prop_assert_eq!(key_bytes(&key), bytes);
        }
    }

    #[test]
    fn key_bytes_order_as_keys_do(a in key(), b in key()) {
        prop_assert_eq!(key_bytes(&a).cmp(&key_bytes(&b)), a.cmp(&b));
        prop_assert_eq!(key_from_bytes(&key_bytes(&a)), Ok(a));
    }

    #[test]
    fn key_bytes_order_neighbours_as_keys_do(mut a in key(), b in value(), c in value()) {
        let mut other = a.clone();
        a.0.push(b);
        other.0.push(c);
        prop_assert_eq!(key_bytes(&a).cmp(&key_bytes(&other)), a.cmp(&other));
    }
}

#[test]
fn other_spellings_are_refused() {
    for (bytes, error) in [
        (&[][..], DecodeError::End),
        (&[2, 1][..], DecodeError::Format(2)),
        (&[1, 0][..], DecodeError::Tag(0)),
        (&[1, 17][..], DecodeError::Tag(17)),
        (&[1, 4, 0x80, 0x00][..], DecodeError::Integer),
        (&[1, 4, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02][..], DecodeError::Integer),
        (&[1, 7, 0x81, 0x00, b'a'][..], DecodeError::Integer),
        (&[1, 7, 2, b'a'][..], DecodeError::End),
        (&[1, 7, 1, 0xff][..], DecodeError::Utf8),
        (&[1, 5, 1, b'x'][..], DecodeError::Decimal),
        (&[1, 14, 2, 1, b'b', 1, b'a'][..], DecodeError::Order),
        (&[1, 14, 2, 1, b'a', 1, b'a'][..], DecodeError::Order),
        (&[1, 13, 2, 1, b'b', 1, 1, b'a', 1][..], DecodeError::Order),
        (&[1, 12, 0xff, 0xff, 0xff, 0xff, 0x0f][..], DecodeError::End),
    ] {
        assert_eq!(Value::decode(bytes), Err(error), "{bytes:?}");
    }
}

#[test]
fn depth_is_bounded() {
    let nested = |depth: usize| (0..depth).fold(Value::Null, |inner, _| Value::List(vec![inner]));
    assert_eq!(Value::decode(&nested(NEST_MAX).encode()), Ok(nested(NEST_MAX)));
    assert!(nested(NEST_MAX).storable());
    assert_eq!(Value::decode(&nested(NEST_MAX + 1).encode()), Err(DecodeError::Depth));
    assert!(!nested(NEST_MAX + 1).storable());
    // Far deeper than a stack would hold if every level were a call.
    let hostile: Vec<u8> = std::iter::once(1).chain([12, 1].into_iter().cycle().take(2_000_000)).collect();
    assert_eq!(Value::decode(&hostile), Err(DecodeError::Depth));
}

#[test]
fn a_hostile_count_reserves_nothing() {
    // Each level of lists claims as many members as bytes are left.
    let mut bytes = vec![1];
    for _ in 0..NEST_MAX {
        bytes.extend([12, 0xff, 0x7f]);
    }
    bytes.resize(20_000, 12);
    assert!(Value::decode(&bytes).is_err());
}

#[test]
fn equal_when_written_alike_only() {
    let decimal = |text: &str| Value::Decimal(Decimal::parse(text).expect("a decimal"));
    for (a, b) in [
        (decimal("1.10"), decimal("1.1")),
        (Value::Int(1), decimal("1")),
        (Value::text("1"), decimal("1")),
        (Value::text(""), Value::Null),
        (Value::text("null"), Value::Json("null".into())),
        (Value::Float(Float(0.0)), Value::Float(Float(-0.0))),
        (Value::Int(0), Value::Timestamp(Timestamp(0))),
        (Value::List(vec![]), Value::Map(Default::default())),
        (Value::text("ab"), Value::Bytes(Box::from(*b"ab"))),
    ] {
        assert_ne!(a.encode(), b.encode(), "{a:?} {b:?}");
    }
    assert_ne!(Row(vec![Cell::Missing]).encode(), Row(vec![Cell::Value(Value::Null)]).encode());
    assert_ne!(
        Key(vec![Value::text("a"), Value::text("bc")]).encode(),
        Key(vec![Value::text("ab"), Value::text("c")]).encode()
    );
}

#[test]
fn a_body_ends_by_itself() {
    let mut out = Vec::new();
    Value::text("a").put(&mut out);
    Value::Int(-1).put(&mut out);
    let mut reader = Reader::new(&out);
    assert_eq!(Value::take(&mut reader), Ok(Value::text("a")));
    assert_eq!(Value::take(&mut reader), Ok(Value::Int(-1)));
    assert_eq!(reader.finish(), Ok(()));
}

//! How large DynamoDB counts an item: the rules of its developer guide, "DynamoDB item sizes and formats".
//!
//! The guide calls a number's size approximate. Here it is what the guide says, with a byte for the sign, which is never
//! less than what the service was seen to count; an item that passes a check against the limit is then not refused for it.

use std::collections::BTreeMap;

use crate::event::{Decimal, Value};

/// Largest item, in bytes, names included.
pub const ITEM_BYTES_MAX: usize = 400 * 1024;

/// Bytes of overhead of a list or a map.
const CONTAINER: usize = 3;
/// Bytes of overhead of each of their elements.
const ELEMENT: usize = 1;

/// Size of an item: the names of its attributes and their values.
pub fn item_bytes(item: &BTreeMap<Box<str>, Value>) -> usize {
    item.iter().map(|(name, value)| name.len() + value_bytes(value)).sum()
}

/// Size of one value.
fn value_bytes(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) => 1,
        Value::Int(number) => number_bytes(&Decimal::from(*number)),
        Value::Decimal(number) => number_bytes(number),
        Value::Text(text) | Value::Json(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        // These three have no type of their own: a mapping makes text of them.
        Value::Float(float) => float.0.to_string().len(),
        Value::Timestamp(time) => time.to_string().len(),
        Value::Uuid(_) => uuid::fmt::Hyphenated::LENGTH,
        Value::List(list) => CONTAINER + list.iter().map(|value| ELEMENT + value_bytes(value)).sum::<usize>(),
        Value::Map(map) => CONTAINER + map.len() * ELEMENT + item_bytes(map),
        Value::TextSet(set) => set.iter().map(|text| text.len()).sum(),
        Value::NumberSet(set) => set.iter().map(number_bytes).sum(),
        Value::BytesSet(set) => set.iter().map(|bytes| bytes.len()).sum(),
    }
}

/// One byte for two significant digits, one for the exponent, one for a minus sign.
fn number_bytes(number: &Decimal) -> usize {
    let Some(value) = number.scientific() else { return number.as_str().len() };
    // Digits go in pairs that begin at an even power of ten, so an odd exponent can take half a pair more.
    let pairs = (value.digits.len() + usize::from(value.exponent.rem_euclid(2) == 1)).div_ceil(2);
    pairs + 1 + usize::from(value.negative)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(value: Value) -> usize {
        item_bytes(&[(Box::from("name"), value)].into()) - "name".len()
    }

    fn number(text: &str) -> Value {
        Value::Decimal(Decimal::parse(text).expect("a decimal"))
    }

    #[test]
    fn sizes_are_those_of_the_guide() {
        for (value, expected) in [
            (Value::text("é"), 2),
            (Value::text(""), 0),
            (Value::Bytes([1, 2, 3].into()), 3),
            (Value::Bool(true), 1),
            (Value::Null, 1),
            (number("0"), 2),
            (number("27"), 2),
            (number("-27"), 3),
            (number("1E100"), 2),
            (number("12345678901234567890123456789012345678"), 20),
            (Value::List(vec![]), 3),
            (Value::List(vec![Value::Null, Value::text("ab")]), 3 + 2 + 3),
            (Value::Map([(Box::from("k"), Value::text("v"))].into()), 3 + 1 + 2),
            (Value::TextSet([Box::from("a"), Box::from("bc")].into()), 3),
        ] {
            assert_eq!(size(value.clone()), expected, "{value:?}");
        }
    }
}

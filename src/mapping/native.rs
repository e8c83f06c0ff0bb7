//! Values as DynamoDB holds them: what it has no type for becomes what comes closest, and nothing loses a digit.

use std::collections::{BTreeMap, BTreeSet};

use super::compile::reason;
use super::datum::{Datum, Fault, float_json, json_text};
use super::plan::Migration;
use super::schema::Kind;
use crate::event::{Decimal, Float, Json, Value};
use crate::target::TargetTable;

/// Significant digits of a DynamoDB number.
const DIGITS_MAX: usize = 38;
/// Power of ten of the first digit of the smallest and of the greatest number.
const FIRST_DIGIT: std::ops::RangeInclusive<i128> = -130..=125;

/// Whether DynamoDB can hold a number.
pub(super) fn holds(number: &Decimal) -> bool {
    number.scientific().is_some_and(|value| {
        let first = i128::from(value.exponent) + value.digits.len() as i128 - 1;
        value.digits.len() <= DIGITS_MAX && FIRST_DIGIT.contains(&first)
    })
}

/// Largest partition key and largest sort key, in bytes.
const KEY_BYTES_MAX: [usize; 2] = [2048, 1024];

impl Migration {
    /// Why DynamoDB would refuse an item for its key or for a key of an index, where the mapping declares the reason.
    ///
    /// `values` are the key's, and the item last. What is not declared is told by the target, for its own reason.
    pub(super) fn key_refusal(&self, table: TargetTable, values: &[Value]) -> Option<&'static str> {
        let (Value::Map(item), key) = values.split_last()? else { return None };
        let def = self.dynamo.get(usize::from(table.0))?;
        let own = def.key.iter().zip(key).enumerate().map(|(place, (part, value))| (place, part.kind, value));
        let indexed = def.indexes.iter().flat_map(|index| index.key.iter().enumerate());
        // An item without the attribute is not in the index; that is no fault.
        let indexed = indexed.filter_map(|(place, part)| Some((place, part.kind, item.get(&part.name)?)));
        let refused = |(place, kind, value): (usize, Kind, &Value)| {
            let length = match (kind, value) {
                (Kind::Text, Value::Text(text)) => text.len(),
                (Kind::Bytes, Value::Bytes(bytes)) => bytes.len(),
                (Kind::Decimal, Value::Decimal(_)) => return None,
                _ => return Some(reason::ATTRIBUTE),
            };
            match length {
                0 => Some(reason::ATTRIBUTE),
                length if length > KEY_BYTES_MAX[place.min(1)] => Some(reason::KEY_LENGTH),
                _ => None,
            }
        };
        let declared = own.chain(indexed).filter_map(refused).filter(|reason| self.quarantine_scope(reason).is_some());
        declared.min_by_key(|reason| self.rank(reason))
    }
}

/// A value as an attribute; `None` for one that is not there.
pub(super) fn attribute(datum: Datum<'_>) -> Result<Option<Value>, Fault> {
    Ok(match datum {
        Datum::Json(json) | Datum::Document(_, json) if *json == Json::Null => None,
        Datum::Json(json) | Datum::Document(_, json) => Some(of_json(&json)?),
        Datum::Value(value) => match value.into_owned() {
            Value::Null => None,
            Value::Int(number) => Some(Value::Decimal(Decimal::from(number))),
            Value::Decimal(number) => Some(Value::Decimal(checked(number)?)),
            Value::Uuid(uuid) => Some(Value::text(uuid.hyphenated().to_string())),
            Value::Float(Float(number)) => match float_json(number) {
                Json::Number(number) => Some(Value::Decimal(checked(number)?)),
                // What is no number is text, as in a document.
                json => Some(Value::text(json_text(&json))),
            },
            Value::Json(text) => match Json::parse(&text) {
                Ok(json) => Some(of_json(&json)?),
                Err(_) => return Err(Fault::Unreadable),
            },
            other => Some(other),
        },
    })
}

fn checked(number: Decimal) -> Result<Decimal, Fault> {
    if holds(&number) { Ok(number) } else { Err(Fault::Refused(reason::NUMBER.into())) }
}

fn of_json(json: &Json) -> Result<Value, Fault> {
    Ok(match json {
        Json::Null => Value::Null,
        Json::Bool(truth) => Value::Bool(*truth),
        Json::Number(number) => Value::Decimal(checked(number.clone())?),
        Json::String(text) => Value::text(text.as_str()),
        Json::Array(items) => Value::List(items.iter().map(of_json).collect::<Result<_, _>>()?),
        Json::Object(members) => {
            let mut map = BTreeMap::new();
            for (name, member) in members {
                map.insert(Box::from(name.as_str()), of_json(member)?);
            }
            Value::Map(map)
        }
    })
}

/// A set of values of one kind; `None` when there are none, for DynamoDB has no empty sets.
pub(super) fn set(values: Vec<Value>) -> Option<Value> {
    match values.first()? {
        Value::Text(_) => {
            let texts =
                values.into_iter().filter_map(|value| if let Value::Text(text) = value { Some(text) } else { None });
            Some(Value::TextSet(texts.collect()))
        }
        Value::Decimal(_) => {
            // One number written in two ways is one member.
            let numbers = values.into_iter().filter_map(|value| match value {
                Value::Decimal(number) => Some(number.normalised()),
                _ => None,
            });
            Some(Value::NumberSet(numbers.collect::<BTreeSet<_>>()))
        }
        _ => {
            let bytes =
                values.into_iter().filter_map(|value| if let Value::Bytes(bytes) = value { Some(bytes) } else { None });
            Some(Value::BytesSet(bytes.collect()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::borrow::Cow;

    fn number(text: &str) -> Decimal {
        Decimal::parse(text).expect("a number")
    }

    #[test]
    fn numbers_are_held_up_to_dynamodbs_bounds() {
        let digits = "9".repeat(38);
        for held in [
            "0",
            "-0.10",
            &digits,
            "1E-130",
            "9.9999999999999999999999999999999999999E125",
            "100000000000000000000000000000000000000000",
        ] {
            assert!(holds(&number(held)), "{held}");
        }
        for refused in [&format!("{digits}1"), "1E-131", "1E126", "NaN"] {
            assert!(!holds(&number(refused)), "{refused}");
        }
    }

    #[test]
    fn documents_become_maps_and_lists_with_every_digit() {
        let json = Json::parse(r#"{"a":[1.10,null,true,"x",{}]}"#).expect("JSON");
        let Some(Value::Map(map)) = attribute(Datum::Json(Cow::Borrowed(&json))).expect("held") else {
            panic!("a map")
        };
        let items = vec![
            Value::Decimal(number("1.10")),
            Value::Null,
            Value::Bool(true),
            Value::text("x"),
            Value::Map(BTreeMap::new()),
        ];
        assert_eq!(map["a"], Value::List(items));
        assert!(attribute(Datum::Json(Cow::Owned(Json::Null))).expect("held").is_none());
        let huge = Json::parse(&"7".repeat(39)).expect("JSON");
        assert!(
            matches!(attribute(Datum::Json(Cow::Owned(huge))), Err(Fault::Refused(reason)) if &*reason == "number_out_of_range")
        );
    }
}

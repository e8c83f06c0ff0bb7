//! What a row is compared as: every value in the one writing that its store does not tell from others (I10).
//!
//! | value | compared | why |
//! |---|---|---|
//! | NULL, `""`, `' '`, an absent attribute or member, JSON `null` | five different things | each store tells them apart |
//! | integer, text, boolean, `bytea`, UUID, time | as stored, to the last bit, byte and microsecond | |
//! | `numeric` | as stored: `1.10` is not `1.1`, `NaN` equals itself | Postgres keeps the scale, and applications show it |
//! | number of DynamoDB, member of a number set | by value, all digits | DynamoDB gives `1` back for `1.0` |
//! | `real`, `double precision` | by bits, all NaN alike; `-0.0` is not `0.0` | Postgres keeps the sign of zero and not the bits of NaN |
//! | `json`, `jsonb` | as the document: members in any order, the last of two with one name, numbers by value with all digits | `jsonb` is that; `json` is given the same meaning, since its white space says nothing |
//! | a set | by its members | it has no order |
//! | a list, an array | in order | |
//!
//! Numbers never pass through a double: 2^53 and 2^53+1 differ. What more is to be one thing, a rule says.

use crate::event::{Canonical, Decimal, Float, Json, Value};

/// Before a document in an encoding: no tag of [`Value`]'s own, so that SQL NULL and JSON `null` differ.
const DOCUMENT: u8 = 64;

/// Stands for a cell that a rule leaves out: no tag of [`Value`]'s own.
const LEFT_OUT: u8 = 65;

/// A cell as it is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cell {
    /// Left out by a rule.
    Out,
    /// A value of a column; of a row of DynamoDB the map of its attributes.
    Plain(Value),
    /// A JSON document: maps, lists, texts, decimals, truth values and nulls.
    Document(Value),
}

impl Cell {
    /// The canonical form of a column's value.
    pub(super) fn of(value: &Value) -> Self {
        match value {
            Value::Json(text) => match Json::parse(text) {
                Ok(document) => Cell::Document(tree(document)),
                // It cannot come out of a jsonb column; what does not read equals only itself.
                Err(_) => Cell::Plain(value.clone()),
            },
            Value::Float(float) if float.0.is_nan() => Cell::Plain(Value::Float(Float(f64::NAN))),
            plain => Cell::Plain(plain.clone()),
        }
    }

    /// Appends the encoding of a column's value that no rule is about: as [`Self::of`] and [`Self::put`] do, with no copy of it.
    pub(super) fn put_as_it_is(value: &Value, out: &mut Vec<u8>) {
        match value {
            Value::Json(_) | Value::Float(_) => Self::of(value).put(out),
            plain => plain.put(out),
        }
    }

    /// The canonical form of a DynamoDB item.
    pub(super) fn of_item(item: &Value) -> Self {
        Cell::Plain(attribute(item))
    }

    /// Appends the encoding. What is left out leaves a mark: a rule may leave a cell out of some rows and not of others, and cells
    /// must not be taken for their neighbours.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        match self {
            Cell::Out => out.push(LEFT_OUT),
            Cell::Plain(value) => value.put(out),
            Cell::Document(value) => {
                out.push(DOCUMENT);
                value.put(out);
            }
        }
    }

    /// What is inside; `None` for what is left out.
    pub(super) fn value(&self) -> Option<&Value> {
        match self {
            Cell::Out => None,
            Cell::Plain(value) | Cell::Document(value) => Some(value),
        }
    }

    /// What is inside, itself; NULL for what is left out.
    pub(super) fn into_value(self) -> Value {
        match self {
            Cell::Out => Value::Null,
            Cell::Plain(value) | Cell::Document(value) => value,
        }
    }

    /// The cell with its inside replaced.
    pub(super) fn map(self, change: impl FnOnce(Option<Value>) -> Option<Value>) -> Self {
        match self {
            Cell::Out => Cell::Out,
            Cell::Plain(value) => change(Some(value)).map_or(Cell::Out, Cell::Plain),
            Cell::Document(value) => change(Some(value)).map_or(Cell::Out, Cell::Document),
        }
    }
}

/// A document as a tree of values, numbers in one writing; two documents that say the same give the same tree.
pub(super) fn tree(document: Json) -> Value {
    match document {
        Json::Null => Value::Null,
        Json::Bool(truth) => Value::Bool(truth),
        Json::Number(number) => Value::Decimal(number.normalised()),
        Json::String(text) => Value::Text(text.into()),
        Json::Array(items) => Value::List(items.into_iter().map(tree).collect()),
        Json::Object(members) => {
            Value::Map(members.into_iter().map(|(name, member)| (name.into(), tree(member))).collect())
        }
    }
}

/// A value of DynamoDB in the writing that DynamoDB gives back.
pub(super) fn attribute(value: &Value) -> Value {
    match value {
        Value::Int(number) => Value::Decimal(Decimal::from(*number)),
        Value::Decimal(number) => Value::Decimal(number.normalised()),
        Value::NumberSet(numbers) => Value::NumberSet(numbers.iter().map(Decimal::normalised).collect()),
        Value::List(items) => Value::List(items.iter().map(attribute).collect()),
        Value::Map(members) => {
            Value::Map(members.iter().map(|(name, member)| (name.clone(), attribute(member))).collect())
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::strategies;

    proptest! {
        #[test]
        fn a_value_that_no_rule_is_about_is_compared_as_any_other(value in strategies::value()) {
            let (mut one, mut other) = (Vec::new(), Vec::new());
            Cell::put_as_it_is(&value, &mut one);
            Cell::of(&value).put(&mut other);
            prop_assert_eq!(one, other);
        }
    }
}

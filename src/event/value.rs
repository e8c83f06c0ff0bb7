//! Values: the closed set of kinds that a cell of either store can hold.

use std::collections::{BTreeMap, BTreeSet};

use super::{Decimal, Timestamp};

/// One value, exactly as its source holds it.
///
/// Equality is equality of what is stored: `Decimal` `1.10` differs from `1.1`, `Json` texts compare as text. What two
/// stores hold is compared after [`Value::normalised`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Value {
    /// SQL NULL, or DynamoDB's NULL type. A JSON `null` inside a `jsonb` column is `Json("null")`.
    Null,
    /// A truth value.
    Bool(bool),
    /// A Postgres integer of any width.
    Int(i64),
    /// A Postgres `numeric` or a DynamoDB number.
    Decimal(Decimal),
    /// A Postgres `real` or `double precision`, by its bits.
    Float(Float),
    /// Text, and the canonical text of every type without a kind of its own (date, interval, array, range, enum, …).
    Text(Box<str>),
    /// `bytea` or DynamoDB binary.
    Bytes(Box<[u8]>),
    /// A `timestamp` or `timestamptz`.
    Timestamp(Timestamp),
    /// A `uuid`.
    Uuid(uuid::Uuid),
    /// The text of a `json` or `jsonb` value, as the server prints it.
    Json(Box<str>),
    /// A DynamoDB list.
    List(Vec<Value>),
    /// A DynamoDB map.
    Map(BTreeMap<Box<str>, Value>),
    /// A DynamoDB string set.
    TextSet(BTreeSet<Box<str>>),
    /// A DynamoDB number set.
    NumberSet(BTreeSet<Decimal>),
    /// A DynamoDB binary set.
    BytesSet(BTreeSet<Box<[u8]>>),
}

/// A value that is one piece, with its text or bytes where they were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Borrowed<'a> {
    /// As [`Value::Null`].
    Null,
    /// As [`Value::Bool`].
    Bool(bool),
    /// As [`Value::Int`].
    Int(i64),
    /// As [`Value::Float`].
    Float(Float),
    /// As [`Value::Text`].
    Text(&'a str),
    /// As [`Value::Bytes`].
    Bytes(&'a [u8]),
    /// As [`Value::Timestamp`].
    Timestamp(Timestamp),
    /// As [`Value::Uuid`].
    Uuid(uuid::Uuid),
    /// As [`Value::Json`].
    Json(&'a str),
}

impl From<Borrowed<'_>> for Value {
    fn from(borrowed: Borrowed<'_>) -> Self {
        match borrowed {
            Borrowed::Null => Value::Null,
            Borrowed::Bool(truth) => Value::Bool(truth),
            Borrowed::Int(number) => Value::Int(number),
            Borrowed::Float(number) => Value::Float(number),
            Borrowed::Text(text) => Value::Text(text.into()),
            Borrowed::Bytes(bytes) => Value::Bytes(bytes.into()),
            Borrowed::Timestamp(time) => Value::Timestamp(time),
            Borrowed::Uuid(uuid) => Value::Uuid(uuid),
            Borrowed::Json(text) => Value::Json(text.into()),
        }
    }
}

/// A double, by its bits: `-0.0` differs from `0.0` and `NaN` equals itself; orders as [`f64::total_cmp`].
#[derive(Debug, Clone, Copy)]
pub struct Float(pub f64);

impl PartialEq for Float {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

impl Eq for Float {}

impl std::hash::Hash for Float {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

impl PartialOrd for Float {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Float {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl Value {
    /// The form in which values of two stores are compared: JSON by value with sorted keys, everything else unchanged.
    ///
    /// JSON that does not parse (it cannot come out of a `jsonb` column) stays the text it is.
    #[must_use]
    pub fn normalised(&self) -> Value {
        match self {
            Value::Json(text) => match super::Json::parse(text) {
                Ok(document) => Value::Json(document.canonical().to_text().into()),
                Err(_) => self.clone(),
            },
            other => other.clone(),
        }
    }

    /// A value of text.
    pub fn text(text: impl Into<Box<str>>) -> Self {
        Value::Text(text.into())
    }

    /// The text of a `Text` value.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// Gives members of a map other names, each from the first to the second. Another member that has such a name already takes
/// the first, so that none is lost.
pub fn rename_members(map: &mut BTreeMap<Box<str>, Value>, renamed: &[(Box<str>, Box<str>)]) {
    for (from, to) in renamed {
        let (value, other) = (map.remove(from), map.remove(to));
        map.extend(value.map(|value| (to.clone(), value)));
        map.extend(other.map(|other| (from.clone(), other)));
    }
}

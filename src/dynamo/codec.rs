//! Attribute values: from the SDK's form to [`Value`] and back, with nothing lost on the way.
//!
//! A number keeps its 38 digits and becomes the one writing of its value, because DynamoDB itself does not tell `1.0` from
//! `1`. A set keeps its kind; NULL, an absent attribute and `""` stay three things: absent is not in the map. What DynamoDB
//! cannot hold (a float that is no decimal, a timestamp, an empty set) is refused rather than turned into something near it.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_dynamodbstreams::types as streams;

use crate::event::{Decimal, Value};

/// An item as the SDK hands it over.
pub type Attributes = HashMap<String, AttributeValue>;
/// An item of a stream's record, whose SDK has types of its own.
pub type StreamAttributes = HashMap<String, streams::AttributeValue>;

/// Significant digits of a number.
const DIGITS_MAX: usize = 38;
/// Power of ten of a number's first digit, at most: the largest is 9.99…E+125.
const MAGNITUDE_MAX: i64 = 125;
/// Power of ten of a number's first digit, at least: the smallest above zero is 1E-130.
const MAGNITUDE_MIN: i64 = -130;

/// Why a value is not an attribute value, or the other way round; never with the value (I12).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// An attribute of a type that this rehome does not know.
    #[error("an attribute has a type that this rehome does not know")]
    UnknownType,
    /// A number's text is none.
    #[error("a number does not read as one")]
    NotANumber,
    /// A number that DynamoDB cannot hold: NaN, an infinity, more than 38 digits, or too large or small.
    #[error("a number has more than 38 digits, or is outside 1E-130 to 9.99E+125")]
    NumberRange,
    /// DynamoDB has no empty sets.
    #[error("a set is empty, which DynamoDB does not hold")]
    EmptySet,
    /// DynamoDB has no such type: a mapping casts it to text or a number first.
    #[error("DynamoDB has no type for a {0}: cast it to text, a number or binary")]
    NoSuchType(&'static str),
}

/// Writes the reader of one SDK's attribute values: the two SDKs generate the same type twice, under two names.
macro_rules! reader {
    ($(#[$doc:meta])* $name:ident, $map:ident, $attribute:ty, $kind:path) => {
        $(#[$doc])*
        pub fn $name(attribute: $attribute) -> Result<Value, CodecError> {
            use $kind as Kind;
            Ok(match attribute {
                Kind::S(text) => Value::Text(text.into()),
                Kind::N(text) => Value::Decimal(number(&text)?),
                Kind::B(bytes) => Value::Bytes(bytes.into_inner().into()),
                Kind::Bool(truth) => Value::Bool(truth),
                Kind::Null(_) => Value::Null,
                Kind::M(map) => $map(map)?,
                Kind::L(list) => Value::List(list.into_iter().map($name).collect::<Result<_, _>>()?),
                Kind::Ss(texts) => Value::TextSet(texts.into_iter().map(Into::into).collect()),
                Kind::Ns(texts) => {
                    Value::NumberSet(texts.iter().map(|text| number(text)).collect::<Result<_, _>>()?)
                }
                Kind::Bs(blobs) => Value::BytesSet(blobs.into_iter().map(|blob| blob.into_inner().into()).collect()),
                _ => return Err(CodecError::UnknownType),
            })
        }

        /// Reads a whole item, or a nested map, as [`Value::Map`].
        ///
        /// # Errors
        /// As for a single value.
        pub fn $map(attributes: HashMap<String, $attribute>) -> Result<Value, CodecError> {
            let read = |(name, attribute): (String, $attribute)| Ok((Box::from(name), $name(attribute)?));
            Ok(Value::Map(attributes.into_iter().map(read).collect::<Result<_, _>>()?))
        }
    };
}

reader! {
    /// Reads an attribute value of a table.
    ///
    /// # Errors
    /// [`CodecError::UnknownType`] and [`CodecError::NotANumber`].
    read, read_item, AttributeValue, AttributeValue
}

reader! {
    /// Reads an attribute value of a stream's record.
    ///
    /// # Errors
    /// [`CodecError::UnknownType`] and [`CodecError::NotANumber`].
    read_streamed, read_streamed_item, streams::AttributeValue, streams::AttributeValue
}

/// Writes a value as an attribute value.
///
/// # Errors
/// [`CodecError::NumberRange`], [`CodecError::EmptySet`] and [`CodecError::NoSuchType`].
pub fn write(value: &Value) -> Result<AttributeValue, CodecError> {
    Ok(match value {
        Value::Null => AttributeValue::Null(true),
        Value::Bool(truth) => AttributeValue::Bool(*truth),
        Value::Int(number) => AttributeValue::N(number.to_string()),
        Value::Decimal(number) => AttributeValue::N(number_text(number)?),
        Value::Text(text) => AttributeValue::S(text.to_string()),
        Value::Bytes(bytes) => AttributeValue::B(Blob::new(bytes.to_vec())),
        Value::List(list) => AttributeValue::L(list.iter().map(write).collect::<Result<_, _>>()?),
        Value::Map(map) => AttributeValue::M(write_item(map)?),
        Value::TextSet(set) if set.is_empty() => return Err(CodecError::EmptySet),
        Value::NumberSet(set) if set.is_empty() => return Err(CodecError::EmptySet),
        Value::BytesSet(set) if set.is_empty() => return Err(CodecError::EmptySet),
        Value::TextSet(set) => AttributeValue::Ss(set.iter().map(ToString::to_string).collect()),
        Value::NumberSet(set) => AttributeValue::Ns(set.iter().map(number_text).collect::<Result<_, _>>()?),
        Value::BytesSet(set) => AttributeValue::Bs(set.iter().map(|bytes| Blob::new(bytes.to_vec())).collect()),
        Value::Float(_) => return Err(CodecError::NoSuchType("float")),
        Value::Timestamp(_) => return Err(CodecError::NoSuchType("timestamp")),
        Value::Uuid(_) => return Err(CodecError::NoSuchType("uuid")),
        Value::Json(_) => return Err(CodecError::NoSuchType("json document")),
    })
}

/// Writes a map as a whole item.
///
/// # Errors
/// As [`write()`].
pub fn write_item(map: &BTreeMap<Box<str>, Value>) -> Result<Attributes, CodecError> {
    map.iter().map(|(name, value)| Ok((name.to_string(), write(value)?))).collect()
}

/// Reads a number as the one writing of its value.
fn number(text: &str) -> Result<Decimal, CodecError> {
    let number = Decimal::parse(text).map_err(|_| CodecError::NotANumber)?;
    if !number.finite() {
        return Err(CodecError::NotANumber);
    }
    Ok(number.normalised())
}

/// The text of a number that DynamoDB can hold.
fn number_text(number: &Decimal) -> Result<String, CodecError> {
    let value = number.scientific().ok_or(CodecError::NumberRange)?;
    let digits = i64::try_from(value.digits.len()).map_err(|_| CodecError::NumberRange)?;
    let magnitude = value.exponent.saturating_add(digits - 1);
    let zero = value.digits == "0";
    if value.digits.len() > DIGITS_MAX || !(zero || (MAGNITUDE_MIN..=MAGNITUDE_MAX).contains(&magnitude)) {
        return Err(CodecError::NumberRange);
    }
    Ok(number.normalised().to_string())
}

#[cfg(test)]
mod tests;

//! Values on their way from a row to a column: as the source holds them, or as documents of exact decimals.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::BTreeSet;

use super::compile::reason;
use super::error::ReadError;
use super::schema::Store;
use crate::event::{Decimal, Float, Json, JsonError, Value};

/// What the text of a kept fault begins with: no document does.
const FAULT: char = '\0';
/// What the text of a kept part of a document begins with.
const MEMBER: char = '\u{1}';

/// Why a row cannot be evaluated; the mapping declares a scope for each reason.
#[derive(Debug)]
pub(super) enum Fault {
    /// A text holds U+0000.
    NotStorable,
    /// A document does not read, or nests too deep.
    Unreadable,
    /// A term refuses the value, for this reason.
    Refused(Box<str>),
    /// What a reference finds could not be read; nothing is wrong with the row.
    Read(ReadError),
}

impl Fault {
    /// The fault as a value, which tells it to whoever asks for what could not be read.
    pub(super) fn into_kept(self) -> Result<Value, ReadError> {
        self.into_reason().map(|reason| Value::Json(format!("{FAULT}{reason}").into()))
    }

    /// The reason that the mapping has a scope for, or the error of a store.
    pub(super) fn into_reason(self) -> Result<Box<str>, ReadError> {
        match self {
            Fault::NotStorable => Ok(reason::NOT_STORABLE.into()),
            Fault::Unreadable => Ok(reason::UNREADABLE.into()),
            Fault::Refused(reason) => Ok(reason),
            Fault::Read(error) => Err(error),
        }
    }
}

impl From<ReadError> for Fault {
    fn from(error: ReadError) -> Self {
        Fault::Read(error)
    }
}

/// A value on its way.
#[derive(Debug, Clone)]
pub(super) enum Datum<'a> {
    /// A value of a column.
    Value(Cow<'a, Value>),
    /// A document, or a part of one.
    Json(Cow<'a, Json>),
    /// A whole document with the text it came as, to be carried bit for bit.
    Document(Cow<'a, Value>, Cow<'a, Json>),
}

impl Datum<'_> {
    /// NULL.
    pub(super) const NULL: Datum<'static> = Datum::Value(Cow::Owned(Value::Null));

    /// What a reference or an aggregate kept of a row: a document is read again, so that it means what it meant there, and
    /// what could not be read is the fault that it was.
    pub(super) fn kept(value: Value) -> Result<Datum<'static>, Fault> {
        match value {
            Value::Json(text) => match text.strip_prefix(FAULT) {
                Some(reason) => Err(Fault::Refused(reason.into())),
                None => {
                    let member = text.strip_prefix(MEMBER);
                    let json = Json::parse(member.unwrap_or(&text)).map_err(|_| Fault::Unreadable)?;
                    let json = Cow::Owned(json);
                    Ok(match member {
                        Some(_) => Datum::Json(json),
                        None => Datum::Document(Cow::Owned(Value::Json(text)), json),
                    })
                }
            },
            value => Ok(Datum::Value(Cow::Owned(value))),
        }
    }

    /// Whether this is SQL NULL or a JSON null.
    pub(super) fn null(&self) -> bool {
        match self {
            Datum::Value(value) => **value == Value::Null,
            Datum::Json(json) | Datum::Document(_, json) => **json == Json::Null,
        }
    }

    /// The same, borrowed.
    pub(super) fn reborrow(&self) -> Datum<'_> {
        match self {
            Datum::Value(value) => Datum::Value(Cow::Borrowed(value)),
            Datum::Json(json) => Datum::Json(Cow::Borrowed(json)),
            Datum::Document(value, json) => Datum::Document(Cow::Borrowed(value), Cow::Borrowed(json)),
        }
    }

    /// As a document; SQL NULL is `None`, and so is JSON null.
    pub(super) fn into_json(self) -> Option<Json> {
        if self.null() {
            return None;
        }
        Some(match self {
            Datum::Json(json) | Datum::Document(_, json) => json.into_owned(),
            Datum::Value(value) => json_of(&value),
        })
    }

    /// The text of a text, a JSON string, or of anything else as it is printed; `None` for null.
    ///
    /// A value of a kind without a text is refused: compiled terms ask for none.
    pub(super) fn into_text(self) -> Result<Option<String>, Fault> {
        if self.null() {
            return Ok(None);
        }
        match self {
            Datum::Value(value) => text_of(&value).map(Some).ok_or(Fault::NotStorable),
            Datum::Json(json) | Datum::Document(_, json) => Ok(Some(json_text(&json))),
        }
    }

    /// Whether both are one value, however it is written; null is the same as nothing.
    pub(super) fn same(&self, other: &Datum<'_>) -> bool {
        if self.null() || other.null() {
            return false;
        }
        match (self.document(), other.document()) {
            (Some(one), Some(other)) => one.same(other),
            _ => match (self, other) {
                (Datum::Value(one), Datum::Value(other)) => same(one, other),
                _ => false,
            },
        }
    }

    /// The document that this is.
    fn document(&self) -> Option<&Json> {
        match self {
            Datum::Value(_) => None,
            Datum::Json(json) | Datum::Document(_, json) => Some(json),
        }
    }

    /// As a whole number, when it is one.
    pub(super) fn to_i64(&self) -> Option<i64> {
        match self {
            Datum::Value(value) => match &**value {
                Value::Int(number) => Some(*number),
                _ => None,
            },
            Datum::Json(json) | Datum::Document(_, json) => match &**json {
                Json::Number(number) => number.to_i64(),
                _ => None,
            },
        }
    }

    /// As a value that the target's store holds.
    pub(super) fn into_held(self, store: Store) -> Result<Value, Fault> {
        match store {
            Store::Postgres => self.into_value(),
            Store::DynamoDb => Ok(self.into_stored()),
        }
    }

    /// As a value that a reference shows: [`Datum::kept`] makes the same of it as it is in its own row, a whole document or a part
    /// of one.
    pub(super) fn into_seen(self) -> Value {
        match self {
            Datum::Json(json) => Value::Json(format!("{MEMBER}{}", json.to_text()).into()),
            other => other.into_stored(),
        }
    }

    /// As a value that is compared or kept, or held by a store without documents, for which a term has made it what it is: it
    /// may hold U+0000.
    pub(super) fn into_stored(self) -> Value {
        match self {
            Datum::Value(value) | Datum::Document(value, _) => value.into_owned(),
            Datum::Json(json) => Value::Json(json.to_text().into()),
        }
    }

    /// As a value for a column of Postgres.
    pub(super) fn into_value(self) -> Result<Value, Fault> {
        let value = match self {
            Datum::Value(value) | Datum::Document(value, _) => value.into_owned(),
            Datum::Json(json) if *json == Json::Null => Value::Null,
            Datum::Json(json) if json.holds_nul() => return Err(Fault::NotStorable),
            Datum::Json(json) => Value::Json(json.to_text().into()),
        };
        match &value {
            Value::Text(text) if text.contains('\0') => Err(Fault::NotStorable),
            _ => Ok(value),
        }
    }
}

/// A row whose documents are read when a term first asks for them.
#[derive(Debug)]
pub(super) struct RowView<'a> {
    /// Values by column.
    pub values: &'a [Value],
    /// By column; made when the first is read.
    documents: OnceCell<Box<[Document]>>,
}

/// A document of a row, once it is read.
type Document = OnceCell<Result<Json, JsonError>>;

impl<'a> RowView<'a> {
    /// A view of a row.
    pub(super) fn new(values: &'a [Value]) -> Self {
        Self { values, documents: OnceCell::new() }
    }

    /// The document in a column; `None` where the column holds none.
    pub(super) fn document(&self, column: usize) -> Result<Option<&Json>, Fault> {
        let Some(Value::Json(text)) = self.values.get(column) else { return Ok(None) };
        let documents = self.documents.get_or_init(|| self.values.iter().map(|_| Document::new()).collect());
        let Some(cell) = documents.get(column) else { return Ok(None) };
        cell.get_or_init(|| Json::parse(text)).as_ref().map(Some).map_err(|_| Fault::Unreadable)
    }
}

/// A JSON string's text, other JSON as compact text.
pub(super) fn json_text(json: &Json) -> String {
    match json {
        Json::String(text) => text.clone(),
        other => other.to_text(),
    }
}

/// A value as a document; the kinds that have no form in JSON are kept out when terms are compiled.
fn json_of(value: &Value) -> Json {
    match value {
        Value::Bool(truth) => Json::Bool(*truth),
        Value::Int(number) => Json::Number(Decimal::from(*number)),
        Value::Decimal(number) if number.finite() => Json::Number(number.clone()),
        Value::Float(Float(number)) => float_json(*number),
        Value::Json(text) => Json::parse(text).unwrap_or_else(|_| Json::String(text.to_string())),
        other => text_of(other).map_or(Json::Null, Json::String),
    }
}

/// A double as a JSON number, or as a string when it is none.
pub(super) fn float_json(number: f64) -> Json {
    // The shortest digits that read back as the same double, which is also what Postgres prints.
    let shortest = format!("{number:e}");
    match Decimal::parse(&shortest) {
        Ok(decimal) if number.is_finite() => Json::Number(decimal.normalised()),
        _ if number.is_nan() => Json::String("NaN".into()),
        _ if number > 0.0 => Json::String("Infinity".into()),
        _ => Json::String("-Infinity".into()),
    }
}

/// Whether two values are one, however they are written: numbers by what they are worth, in documents and collections too.
pub(super) fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Decimal(one), Value::Decimal(other)) => one.same_value(other),
        (Value::Float(Float(one)), Value::Float(Float(other))) => one == other || one.is_nan() && other.is_nan(),
        (Value::Json(_), Value::Json(_)) => one.normalised() == other.normalised(),
        (Value::List(one), Value::List(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Map(one), Value::Map(other)) => {
            one.len() == other.len()
                && one.iter().zip(other).all(|(one, other)| one.0 == other.0 && same(one.1, other.1))
        }
        (Value::NumberSet(one), Value::NumberSet(other)) => {
            let worth = |set: &BTreeSet<Decimal>| set.iter().map(Decimal::normalised).collect::<BTreeSet<_>>();
            worth(one) == worth(other)
        }
        _ => one == other,
    }
}

/// A value as text, for ids and units: another text for every other value of its kind, but for documents, of which a string and
/// a number may have one text. `None` for NULL, and for bytes and collections, which have none.
pub(super) fn text_of(value: &Value) -> Option<String> {
    Some(match value {
        Value::Text(text) | Value::Json(text) => text.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Decimal(number) => number.to_string(),
        Value::Uuid(uuid) => uuid.hyphenated().to_string(),
        Value::Bool(truth) => truth.to_string(),
        Value::Float(Float(number)) => json_text(&float_json(*number)),
        Value::Timestamp(time) => time.unix_us().map_or_else(|| time.to_string(), |us| us.to_string()),
        Value::Null
        | Value::Bytes(_)
        | Value::List(_)
        | Value::Map(_)
        | Value::TextSet(_)
        | Value::NumberSet(_)
        | Value::BytesSet(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_that_is_kept_is_met_by_who_asks_and_a_document_is_read() {
        for (fault, reason) in [
            (Fault::Unreadable, reason::UNREADABLE),
            (Fault::NotStorable, reason::NOT_STORABLE),
            (Fault::Refused("odd".into()), "odd"),
        ] {
            let kept = fault.into_kept().expect("no store failed");
            let met = Datum::kept(kept).expect_err("a fault").into_reason().expect("no store failed");
            assert_eq!(&*met, reason);
        }
        assert!(matches!(Datum::kept(Value::Json("[".into())), Err(Fault::Unreadable)));
        let read = Datum::kept(Value::Json("\"a\"".into())).and_then(Datum::into_text).expect("a document");
        assert_eq!(read.as_deref(), Some("a"));
    }

    #[test]
    fn what_has_no_text_gives_none() {
        for value in [Value::Bytes([0].into()), Value::List(Vec::new()), Value::Map([].into())] {
            assert!(matches!(Datum::Value(Cow::Owned(value)).into_text(), Err(Fault::NotStorable)));
        }
    }
}

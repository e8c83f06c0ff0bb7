//! Terms: where a value comes from, compiled once and typed.
//!
//! A term reads columns of one row (and members of the documents in them) and *outputs*: what a shape has worked out,
//! such as the messages of an assembled response. Numbers in documents stay exact decimals throughout.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use super::schema::Kind;
use crate::event::{Decimal, Float, Json, JsonError, Value};

/// Something that a shape works out and a term may use, written `@name`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Output {
    /// The unit's id.
    Unit,
    /// Time of the unit's earliest row.
    Earliest,
    /// Model of the first request that names one.
    RequestModel,
    /// Model of the first raw chunk that names one.
    ChunkModel,
    /// Status that the unit's completions give it.
    CompletionStatus,
    /// Id of the last response event, the original one where there are two.
    ResponseOriginal,
    /// Id of the last response's changed event, where there are two.
    ResponseModified,
    /// What the mapping calls this kind of event.
    Type,
    /// Number of the event in its unit.
    Sequence,
    /// What the event holds.
    Payload,
    /// Time of the earliest row behind it.
    Time,
    /// Messages of a request.
    Messages,
    /// Model of a request or response.
    Model,
    /// The raw request.
    Raw,
    /// Message of a response.
    Message,
    /// Why a response ended.
    FinishReason,
    /// Tokens used.
    Usage,
    /// All choices of a response that has more than one.
    Choices,
    /// Status of a turn.
    Status,
    /// Id of the first of a pair.
    Original,
    /// Id of the second of a pair.
    Modified,
}

impl Output {
    /// Every output with its written name, longer names before their prefixes.
    pub(super) const NAMES: [(&'static str, Output); 21] = [
        ("unit", Output::Unit),
        ("earliest", Output::Earliest),
        ("request.model", Output::RequestModel),
        ("chunk.model", Output::ChunkModel),
        ("completion.status", Output::CompletionStatus),
        ("response.original", Output::ResponseOriginal),
        ("response.modified", Output::ResponseModified),
        ("type", Output::Type),
        ("sequence", Output::Sequence),
        ("payload", Output::Payload),
        ("time", Output::Time),
        ("messages", Output::Messages),
        ("model", Output::Model),
        ("raw", Output::Raw),
        ("message", Output::Message),
        ("finish_reason", Output::FinishReason),
        ("usage", Output::Usage),
        ("choices", Output::Choices),
        ("status", Output::Status),
        ("original", Output::Original),
        ("modified", Output::Modified),
    ];

    /// The written name.
    pub(super) fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, output)| *output == self).map_or("", |(name, _)| name)
    }
}

/// What becomes of a null member of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nulls {
    /// It is left out.
    Drop,
    /// It stays.
    Keep,
}

/// A member of an object that a term builds.
#[derive(Debug, Clone)]
pub(super) struct Member {
    /// Key.
    pub name: Box<str>,
    /// Value.
    pub term: Term,
    /// Null values.
    pub nulls: Nulls,
}

/// A compiled term.
#[derive(Debug, Clone)]
pub(super) enum Term {
    /// A literal.
    Const(Value),
    /// A column.
    Column(usize),
    /// A member within a document in a column.
    Path(usize, Vec<Box<str>>),
    /// An output, or a member within one.
    Output(Output, Vec<Box<str>>),
    /// The first that is not null.
    First(Vec<Term>),
    /// A table of cases; a text that it does not list stays.
    Case {
        /// What is looked up.
        of: Box<Term>,
        /// The table.
        cases: Arc<BTreeMap<Box<str>, Box<str>>>,
        /// What null becomes.
        null: Option<Box<str>>,
    },
    /// A JSON object.
    Object(Vec<Member>),
    /// A version 5 UUID.
    Uuid5(Vec<Term>),
    /// A JSON string's text, other JSON as text.
    Text(Box<Term>),
    /// A JSON object, also one within a JSON string.
    Decoded(Box<Term>),
}

/// Why a row cannot be evaluated; the mapping declares a scope for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// A text holds U+0000.
    NotStorable,
    /// A document does not read, or nests too deep.
    Unreadable,
}

/// A value on its way.
#[derive(Debug, Clone)]
pub(super) enum Datum<'a> {
    /// A value of a column.
    Value(Cow<'a, Value>),
    /// A document, or a part of one.
    Json(Cow<'a, Json>),
    /// A whole document with the text it came as, to be carried bit for bit.
    Document(&'a Value, &'a Json),
}

impl Datum<'_> {
    /// NULL.
    pub(super) const NULL: Datum<'static> = Datum::Value(Cow::Owned(Value::Null));

    /// Whether this is SQL NULL or a JSON null.
    pub(super) fn null(&self) -> bool {
        match self {
            Datum::Value(value) => **value == Value::Null,
            Datum::Json(json) => **json == Json::Null,
            Datum::Document(_, json) => **json == Json::Null,
        }
    }

    /// As a document; SQL NULL is `None`, and so is JSON null.
    pub(super) fn into_json(self) -> Option<Json> {
        if self.null() {
            return None;
        }
        Some(match self {
            Datum::Json(json) => json.into_owned(),
            Datum::Document(_, json) => json.clone(),
            Datum::Value(value) => json_of(&value),
        })
    }

    /// The text of a text, a JSON string, or of anything else as it is printed; `None` for null.
    pub(super) fn into_text(self) -> Option<String> {
        if self.null() {
            return None;
        }
        match self {
            Datum::Value(value) => Some(text_of(&value)),
            Datum::Json(json) => Some(json_text(&json)),
            Datum::Document(_, json) => Some(json_text(json)),
        }
    }

    /// As a whole number, when it is one.
    pub(super) fn to_i64(&self) -> Option<i64> {
        match self {
            Datum::Value(value) => match &**value {
                Value::Int(number) => Some(*number),
                _ => None,
            },
            Datum::Json(json) => match &**json {
                Json::Number(number) => number.to_i64(),
                _ => None,
            },
            Datum::Document(_, json) => match json {
                Json::Number(number) => number.to_i64(),
                _ => None,
            },
        }
    }

    /// As a value for a column.
    pub(super) fn into_value(self) -> Result<Value, Fault> {
        let value = match self {
            Datum::Value(value) => value.into_owned(),
            Datum::Document(value, _) => value.clone(),
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
    documents: Vec<OnceCell<Result<Json, JsonError>>>,
}

impl<'a> RowView<'a> {
    /// A view of a row.
    pub(super) fn new(values: &'a [Value]) -> Self {
        Self { values, documents: vec![OnceCell::new(); values.len()] }
    }

    /// The document in a column; `None` where the column holds none.
    pub(super) fn document(&self, column: usize) -> Result<Option<&Json>, Fault> {
        let (Some(Value::Json(text)), Some(cell)) = (self.values.get(column), self.documents.get(column)) else {
            return Ok(None);
        };
        cell.get_or_init(|| Json::parse(text)).as_ref().map(Some).map_err(|_| Fault::Unreadable)
    }
}

/// What a term is evaluated in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Env<'a> {
    /// The row; `None` where terms have outputs only.
    pub row: Option<&'a RowView<'a>>,
    /// Outputs; one that is not listed is null.
    pub outputs: &'a [(Output, Datum<'a>)],
    /// Namespace of version 5 UUIDs.
    pub namespace: &'a Uuid,
}

impl Term {
    /// Evaluates the term.
    pub(super) fn eval<'a>(&'a self, env: Env<'a>) -> Result<Datum<'a>, Fault> {
        Ok(match self {
            Term::Const(value) => Datum::Value(Cow::Borrowed(value)),
            Term::Column(column) => column_of(env, *column)?,
            Term::Path(column, members) => {
                let document = match env.row {
                    Some(row) => row.document(*column)?,
                    None => None,
                };
                within(document, members).map_or(Datum::NULL, |json| Datum::Json(Cow::Borrowed(json)))
            }
            Term::Output(output, members) => output_of(env, *output, members),
            Term::First(terms) => {
                for term in terms {
                    let datum = term.eval(env)?;
                    if !datum.null() {
                        return Ok(datum);
                    }
                }
                Datum::NULL
            }
            Term::Case { of, cases, null } => match of.eval(env)?.into_text() {
                Some(text) => text_datum(cases.get(text.as_str()).map_or(text, |found| found.to_string())),
                None => null.as_ref().map_or(Datum::NULL, |text| text_datum(text.to_string())),
            },
            Term::Object(members) => object(members, env)?,
            Term::Uuid5(parts) => Datum::Value(Cow::Owned(Value::Uuid(uuid5(parts, env)?))),
            Term::Text(term) => term.eval(env)?.into_text().map_or(Datum::NULL, text_datum),
            Term::Decoded(term) => decoded(term.eval(env)?)?,
        })
    }
}

fn text_datum(text: String) -> Datum<'static> {
    Datum::Value(Cow::Owned(Value::text(text)))
}

fn column_of(env: Env<'_>, column: usize) -> Result<Datum<'_>, Fault> {
    let Some(row) = env.row else { return Ok(Datum::NULL) };
    Ok(match (row.values.get(column), row.document(column)?) {
        (Some(value), Some(json)) => Datum::Document(value, json),
        (Some(value), None) => Datum::Value(Cow::Borrowed(value)),
        (None, _) => Datum::NULL,
    })
}

fn output_of<'a>(env: Env<'a>, output: Output, members: &[Box<str>]) -> Datum<'a> {
    let Some((_, datum)) = env.outputs.iter().find(|(known, _)| *known == output) else { return Datum::NULL };
    if members.is_empty() {
        return datum.clone();
    }
    match datum {
        Datum::Json(json) => within(Some(json), members).map_or(Datum::NULL, |json| Datum::Json(Cow::Borrowed(json))),
        _ => Datum::NULL,
    }
}

fn within<'a>(document: Option<&'a Json>, members: &[Box<str>]) -> Option<&'a Json> {
    members.iter().try_fold(document?, |json, member| json.member(member))
}

fn object<'a>(members: &'a [Member], env: Env<'a>) -> Result<Datum<'a>, Fault> {
    let mut built = Vec::with_capacity(members.len());
    for member in members {
        match (member.term.eval(env)?.into_json(), member.nulls) {
            (Some(json), _) => built.push((member.name.to_string(), json)),
            (None, Nulls::Keep) => built.push((member.name.to_string(), Json::Null)),
            (None, Nulls::Drop) => {}
        }
    }
    Ok(Datum::Json(Cow::Owned(Json::Object(built))))
}

fn uuid5(parts: &[Term], env: Env<'_>) -> Result<Uuid, Fault> {
    let mut texts = Vec::with_capacity(parts.len());
    for part in parts {
        texts.push(Json::String(part.eval(env)?.into_text().unwrap_or_default()));
    }
    Ok(Uuid::new_v5(env.namespace, Json::Array(texts).to_text().as_bytes()))
}

fn decoded(datum: Datum<'_>) -> Result<Datum<'_>, Fault> {
    let inner = match &datum {
        Datum::Json(json) => &**json,
        Datum::Document(_, json) => *json,
        Datum::Value(_) => return Ok(Datum::NULL),
    };
    match inner {
        Json::Object(_) => Ok(datum),
        Json::String(text) => match Json::parse(text) {
            Ok(json) if json.holds_nul() => Err(Fault::NotStorable),
            Ok(json @ Json::Object(_)) => Ok(Datum::Json(Cow::Owned(json))),
            Ok(_) | Err(_) => Ok(Datum::NULL),
        },
        _ => Ok(Datum::NULL),
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
        other => Json::String(text_of(other)),
    }
}

/// A double as a JSON number, or as a string when it is none.
fn float_json(number: f64) -> Json {
    // The shortest digits that read back as the same double, which is also what Postgres prints.
    let shortest = format!("{number:e}");
    match Decimal::parse(&shortest) {
        Ok(decimal) if number.is_finite() => Json::Number(decimal.normalised()),
        _ if number.is_nan() => Json::String("NaN".into()),
        _ if number > 0.0 => Json::String("Infinity".into()),
        _ => Json::String("-Infinity".into()),
    }
}

/// A value as text, for ids and units.
pub(super) fn text_of(value: &Value) -> String {
    match value {
        Value::Text(text) | Value::Json(text) => text.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Decimal(number) => number.to_string(),
        Value::Uuid(uuid) => uuid.hyphenated().to_string(),
        Value::Bool(truth) => truth.to_string(),
        Value::Float(Float(number)) => json_text(&float_json(*number)),
        Value::Timestamp(time) => time.unix_us().map_or_else(|| "infinity".to_owned(), |us| us.to_string()),
        // Compiled terms and unit columns never hold these kinds.
        _ => String::new(),
    }
}

/// Whether a value of this kind can be a member of a JSON object.
pub(super) fn fits_json(kind: Kind) -> bool {
    !matches!(kind, Kind::Bytes | Kind::Timestamp)
}

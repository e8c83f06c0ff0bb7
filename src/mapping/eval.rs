//! Evaluation of terms.

use std::borrow::Cow;
use std::collections::BTreeMap;

use uuid::Uuid;

use super::compile::reason;
use super::datum::{Datum, Fault};
use super::functions;
use super::native;
use super::place::ReferenceId;
use super::term::{Added, Env, Function, Member, Nulls, Output, Piece, Term, Which};
use crate::event::{Json, Value};

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
            Term::Case { of, cases, null, refuse } => match of.eval(env)?.into_text()? {
                Some(text) => match (cases.get(text.as_str()), refuse) {
                    (Some(found), _) => text_datum(found.to_string()),
                    (None, None) => text_datum(text),
                    (None, Some(reason)) => return Err(Fault::Refused(reason.clone())),
                },
                None => null.as_ref().map_or(Datum::NULL, |text| text_datum(text.to_string())),
            },
            Term::Object(members) => object(members, env)?,
            Term::Uuid5(parts) => Datum::Value(Cow::Owned(Value::Uuid(uuid5(parts, env)?))),
            Term::Text(term) => term.eval(env)?.into_text()?.map_or(Datum::NULL, text_datum),
            Term::Decoded(term) => decoded(term.eval(env)?)?,
            Term::Template(pieces) => template(pieces, env)?,
            Term::If(terms) => {
                let [condition, then, otherwise] = &**terms;
                if condition.holds(env)? { then.eval(env)? } else { otherwise.eval(env)? }
            }
            Term::OneOf(of, texts) => {
                let text = of.eval(env)?.into_text()?;
                truth(text.is_some_and(|text| texts.iter().any(|known| **known == *text)))
            }
            Term::StartsWith(of, start) => {
                truth(of.eval(env)?.into_text()?.is_some_and(|text| text.starts_with(&**start)))
            }
            Term::Equal(terms) => {
                let [one, other] = &**terms;
                truth(one.eval(env)?.same(&other.eval(env)?))
            }
            Term::Absent(term) => truth(term.eval(env)?.null()),
            Term::Not(term) => truth(!term.holds(env)?),
            Term::Given { of, refuse } => match of.eval(env)? {
                datum if datum.null() => return Err(Fault::Refused(refuse.clone())),
                datum => datum,
            },
            Term::Time { of, zone, refuse } => match of.eval(env)?.into_text()? {
                Some(text) => {
                    let time = functions::time(&text, *zone).ok_or_else(|| Fault::Refused(refuse.clone()))?;
                    datum(Value::Timestamp(time))
                }
                None => Datum::NULL,
            },
            Term::Epoch { of, refuse } => match of.eval(env)?.into_value()? {
                Value::Timestamp(time) => {
                    datum(Value::Int(functions::epoch(time).ok_or_else(|| Fault::Refused(refuse.clone()))?))
                }
                _ => Datum::NULL,
            },
            Term::Call(function, of) => function.of(of.eval(env)?)?,
            Term::Take { of, pattern, part } => {
                of.eval(env)?.into_text()?.and_then(|text| pattern.take(&text, *part)).map_or(Datum::NULL, datum)
            }
            Term::Found { reference, key, select, which } => found((*reference, *select), key, *which, env)?,
            Term::Without(terms) => {
                let [list, item] = &**terms;
                let item = item.eval(env)?.into_json();
                match list.eval(env)?.into_json() {
                    Some(Json::Array(mut items)) => {
                        items.retain(|found| item.as_ref().is_none_or(|item| !found.same(item)));
                        Datum::Json(Cow::Owned(Json::Array(items)))
                    }
                    Some(other) => Datum::Json(Cow::Owned(other)),
                    None => Datum::NULL,
                }
            }
            Term::Map { carry, drop, members, added } => {
                let mut map = carried(env, *carry, drop);
                for Added { name, term, kind } in added {
                    match map.get(name) {
                        Some(own) if *own != Value::Null && kind.holds(own) => {}
                        Some(_) => return Err(Fault::Refused(reason::ATTRIBUTE.into())),
                        None => map.extend(native::attribute(term.eval(env)?)?.map(|value| (name.clone(), value))),
                    }
                }
                for (name, term) in members {
                    match native::attribute(term.eval(env)?)? {
                        Some(value) => map.insert(name.clone(), value),
                        None => map.remove(name),
                    };
                }
                datum(Value::Map(map))
            }
            Term::Items(terms) => datum(Value::List(attributes(terms, env)?)),
            Term::Set(terms) => native::set(attributes(terms, env)?).map_or(Datum::NULL, datum),
            Term::Native(of) => native::attribute(of.eval(env)?)?.map_or(Datum::NULL, datum),
            Term::Attribute(column, members) => attribute_of(env, *column, members),
            Term::Typed { of, kind, refuse } => match (of.eval(env)?, refuse) {
                (found, _) if found.null() => Datum::NULL,
                (Datum::Value(value), _) if kind.holds(&value) => Datum::Value(value),
                (_, Some(reason)) => return Err(Fault::Refused(reason.clone())),
                (_, None) => Datum::NULL,
            },
            Term::Aggregate(index) => env.aggregates.get(*index).cloned().unwrap_or(Datum::NULL),
            Term::Total { index, refuse } => {
                let total = env.totals.get(*index).copied().unwrap_or_default();
                datum(Value::Int(i64::try_from(total).map_err(|_| Fault::Refused(refuse.clone()))?))
            }
        })
    }

    /// Evaluates a condition; null does not hold.
    pub(super) fn holds(&self, env: Env<'_>) -> Result<bool, Fault> {
        Ok(matches!(self.eval(env)?, Datum::Value(value) if *value == Value::Bool(true)))
    }
}

impl Function {
    fn of(&self, argument: Datum<'_>) -> Result<Datum<'static>, Fault> {
        if argument.null() {
            return Ok(Datum::NULL);
        }
        let value = match self {
            Function::Sha256 | Function::IsUuid | Function::LastPart(_) => {
                let text = argument.into_text()?.unwrap_or_default();
                match self {
                    Function::IsUuid => Value::Bool(functions::hyphenated_uuid(&text)),
                    Function::LastPart(by) => Value::text(functions::last_part(&text, by)),
                    _ => Value::text(functions::sha256(&text)),
                }
            }
            Function::First63Bits | Function::Microseconds | Function::Padded(_) => {
                match (self, argument.into_value()?) {
                    (Function::First63Bits, Value::Uuid(uuid)) => Value::Int(functions::first_63_bits(uuid)),
                    (Function::Microseconds, Value::Timestamp(time)) => {
                        functions::microseconds(time).map_or(Value::Null, Value::Int)
                    }
                    (Function::Padded(width), Value::Int(number)) => Value::text(functions::padded(number, *width)),
                    // Compiled calls have arguments of these kinds.
                    _ => Value::Null,
                }
            }
        };
        Ok(datum(value))
    }
}

/// The attributes of the item in a column, but for those that are left out.
fn carried(env: Env<'_>, column: Option<usize>, drop: &[Box<str>]) -> BTreeMap<Box<str>, Value> {
    let item = column.and_then(|column| env.row?.values.get(column));
    let mut map = if let Some(Value::Map(map)) = item { map.clone() } else { BTreeMap::new() };
    map.retain(|name, _| !drop.contains(name));
    map
}

fn attributes(terms: &[Term], env: Env<'_>) -> Result<Vec<Value>, Fault> {
    let mut values = Vec::with_capacity(terms.len());
    for term in terms {
        values.extend(native::attribute(term.eval(env)?)?);
    }
    Ok(values)
}

fn attribute_of<'a>(env: Env<'a>, column: usize, members: &[Box<str>]) -> Datum<'a> {
    let Some(item) = env.row.and_then(|row| row.values.get(column)) else { return Datum::NULL };
    let found = members.iter().try_fold(item, |value, member| match value {
        Value::Map(map) => map.get(member),
        _ => None,
    });
    found.map_or(Datum::NULL, |value| Datum::Value(Cow::Borrowed(value)))
}

fn datum(value: Value) -> Datum<'static> {
    Datum::Value(Cow::Owned(value))
}

fn truth(truth: bool) -> Datum<'static> {
    datum(Value::Bool(truth))
}

fn template<'a>(pieces: &'a [Piece], env: Env<'a>) -> Result<Datum<'a>, Fault> {
    let mut text = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(piece) => text.push_str(piece),
            Piece::Term(term) => match term.eval(env)?.into_text()? {
                Some(piece) => text.push_str(&piece),
                None => return Ok(Datum::NULL),
            },
        }
    }
    Ok(text_datum(text))
}

/// The values of a key; `None` when one is null, for nothing is found under such a key.
pub(super) fn key_values(key: &[Term], env: Env<'_>) -> Result<Option<Vec<Value>>, Fault> {
    let mut values = Vec::with_capacity(key.len());
    for term in key {
        let part = term.eval(env)?;
        if part.null() {
            return Ok(None);
        }
        values.push(part.into_stored());
    }
    Ok(Some(values))
}

/// A selected value of the rows found, or whether they say different ones.
fn found<'a>(
    (reference, select): (ReferenceId, usize),
    key: &'a [Term],
    which: Which,
    env: Env<'a>,
) -> Result<Datum<'a>, Fault> {
    let rows = match key_values(key, env)? {
        Some(key) => env.look.find(reference, &key)?,
        None => Vec::new(),
    };
    let mut said = rows.into_iter().filter_map(|values| values.into_iter().nth(select)).map(Datum::kept);
    if which == Which::First {
        return said.next().unwrap_or(Ok(Datum::NULL));
    }
    let (mut first, mut differs) = (Datum::NULL, false);
    for datum in said {
        let datum = datum?;
        if first.null() {
            first = datum;
        } else {
            differs |= !datum.null() && !datum.same(&first);
        }
    }
    Ok(match which {
        Which::Differs => truth(differs),
        _ if differs => Datum::NULL,
        _ => first,
    })
}

fn text_datum(text: String) -> Datum<'static> {
    Datum::Value(Cow::Owned(Value::text(text)))
}

fn column_of(env: Env<'_>, column: usize) -> Result<Datum<'_>, Fault> {
    let Some(row) = env.row else { return Ok(Datum::NULL) };
    Ok(match (row.values.get(column), row.document(column)?) {
        (Some(value), Some(json)) => Datum::Document(Cow::Borrowed(value), Cow::Borrowed(json)),
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
        // By its type a part is never null; a JSON null would make the id of an empty text.
        texts.push(Json::String(part.eval(env)?.into_text()?.ok_or(Fault::Unreadable)?));
    }
    Ok(Uuid::new_v5(env.namespace, Json::Array(texts).to_text().as_bytes()))
}

fn decoded(datum: Datum<'_>) -> Result<Datum<'_>, Fault> {
    let inner = match &datum {
        Datum::Json(json) | Datum::Document(_, json) => &**json,
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

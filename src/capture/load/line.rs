//! Reads a line of a dump as a row: pure.
//!
//! A row of a table is an object of its columns: numbers and text as themselves, `null` for SQL NULL, a `json` column as a
//! string that holds the document's text (so that no digit is lost, and a JSON null is not SQL NULL), everything else as the
//! text that Postgres reads. An item is in DynamoDB JSON, alone or as the member `Item` of an export's line.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::event::{Cell, Decimal, Json, Key, Relation, Row, Value};
use crate::postgres::decode_text;

use super::error::Problem;

/// What the lines of a dump are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Rows of a table: objects of columns.
    Rows,
    /// Items in DynamoDB JSON.
    Items,
    /// Items in DynamoDB JSON, each as the member `Item`: what DynamoDB exports to S3.
    Export,
    /// Rows as comma-separated values under a line of column names, for a lookup.
    Csv,
}

/// Reads a line.
///
/// # Errors
/// What is wrong with it.
pub fn read(form: Form, relation: &Relation, line: &[u8]) -> Result<(Key, Row), Problem> {
    let text = std::str::from_utf8(line).map_err(|_| Problem::NotText)?;
    let Json::Object(members) = Json::parse(text)? else { return Err(Problem::NotAnObject) };
    match form {
        Form::Rows | Form::Csv => row(relation, &members),
        Form::Items => item(relation, &members),
        Form::Export => match members.iter().find(|(name, _)| name == "Item") {
            Some((_, Json::Object(members))) => item(relation, members),
            _ => Err(Problem::NoItem),
        },
    }
}

fn row(relation: &Relation, members: &[(String, Json)]) -> Result<(Key, Row), Problem> {
    let unknown = members.iter().find(|(name, _)| relation.columns.iter().all(|column| *column.name != **name));
    if let Some((name, _)) = unknown {
        return Err(Problem::UnknownColumn(name.as_str().into()));
    }
    let mut values = Vec::with_capacity(relation.columns.len());
    for column in &relation.columns {
        let member = members.iter().find(|(name, _)| **name == *column.name);
        let (_, json) = member.ok_or_else(|| Problem::NoColumn(column.name.clone()))?;
        let value = cell(&column.name, &column.type_name, json)?;
        if value == Value::Null && column.key_part.is_some() {
            return Err(Problem::NullKey(column.name.clone()));
        }
        values.push(value);
    }
    Ok(with_key(relation, values))
}

/// Reads the value of a column.
fn cell(column: &str, type_name: &str, json: &Json) -> Result<Value, Problem> {
    let bad = || Problem::Value { column: column.into(), type_name: type_name.into() };
    let number = matches!(type_name, "int2" | "int4" | "int8" | "numeric" | "float4" | "float8");
    let value = match json {
        Json::Null => Value::Null,
        Json::Bool(truth) if type_name == "bool" => Value::Bool(*truth),
        Json::Number(digits) if number => decode_text(type_name, digits.as_str()).map_err(|_| bad())?,
        Json::String(text) => {
            let value = decode_text(type_name, text).map_err(|_| bad())?;
            if matches!(value, Value::Json(_)) && Json::parse(text).is_err() {
                return Err(bad());
            }
            value
        }
        Json::Array(_) | Json::Object(_) if matches!(type_name, "json" | "jsonb") => {
            return Err(Problem::Nested(column.into()));
        }
        _ => return Err(bad()),
    };
    Ok(value)
}

/// An item as a row: its key's attributes, and then the whole of it.
fn item(relation: &Relation, members: &[(String, Json)]) -> Result<(Key, Row), Problem> {
    let named = |(name, json): &(String, Json)| -> Result<(Box<str>, Value), Problem> {
        let value = attribute(json).ok_or_else(|| Problem::Attribute(name.as_str().into()))?;
        Ok((Box::from(name.as_str()), value))
    };
    let item: BTreeMap<Box<str>, Value> = members.iter().map(named).collect::<Result<_, _>>()?;
    let mut values = Vec::with_capacity(relation.columns.len());
    for column in relation.columns.iter().filter(|column| column.key_part.is_some()) {
        let held = item.get(&column.name).filter(|value| {
            matches!(
                (&*column.type_name, value),
                ("S", Value::Text(_)) | ("N", Value::Decimal(_)) | ("B", Value::Bytes(_))
            )
        });
        let missing = || Problem::Key { name: column.name.clone(), type_name: column.type_name.clone() };
        values.push(held.ok_or_else(missing)?.clone());
    }
    values.push(Value::Map(item));
    Ok(with_key(relation, values))
}

fn with_key(relation: &Relation, values: Vec<Value>) -> (Key, Row) {
    let key = relation.key_columns().into_iter().map(|index| values[index].clone()).collect();
    (Key(key), Row(values.into_iter().map(Cell::Value).collect()))
}

/// Reads an attribute value; `None` when it is none.
fn attribute(json: &Json) -> Option<Value> {
    let Json::Object(members) = json else { return None };
    let [(kind, json)] = members.as_slice() else { return None };
    let texts =
        || json.as_array()?.iter().map(Json::as_str).collect::<Option<Vec<&str>>>().filter(|set| !set.is_empty());
    Some(match kind.as_str() {
        "S" => Value::text(json.as_str()?),
        "N" => Value::Decimal(number(json.as_str()?)?),
        "B" => Value::Bytes(bytes(json.as_str()?)?),
        "BOOL" => match json {
            Json::Bool(truth) => Value::Bool(*truth),
            _ => return None,
        },
        "NULL" if *json == Json::Bool(true) => Value::Null,
        "L" => Value::List(json.as_array()?.iter().map(attribute).collect::<Option<_>>()?),
        "M" => {
            let Json::Object(members) = json else { return None };
            let member = |(name, json): &(String, Json)| Some((Box::from(name.as_str()), attribute(json)?));
            Value::Map(members.iter().map(member).collect::<Option<_>>()?)
        }
        "SS" => Value::TextSet(texts()?.into_iter().map(Box::from).collect()),
        "NS" => Value::NumberSet(texts()?.into_iter().map(number).collect::<Option<_>>()?),
        "BS" => Value::BytesSet(texts()?.into_iter().map(bytes).collect::<Option<_>>()?),
        _ => return None,
    })
}

/// A number in the one writing of its value, as it comes from a table.
fn number(text: &str) -> Option<Decimal> {
    Decimal::parse(text).ok().filter(Decimal::finite).map(|number| number.normalised())
}

fn bytes(text: &str) -> Option<Box<[u8]>> {
    STANDARD.decode(text).ok().map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Column, Float, RelationName};

    fn relation(columns: &[(&str, &str, Option<u16>)]) -> Relation {
        let column = |&(name, type_name, key_part): &(&str, &str, Option<u16>)| Column {
            name: name.into(),
            type_name: type_name.into(),
            key_part,
        };
        let name = RelationName { schema: "public".into(), table: "t".into() };
        Relation { name, columns: columns.iter().map(column).collect() }
    }

    /// One column of a type beside the key.
    fn value(type_name: &str, json: &str) -> Result<Value, Problem> {
        let relation = relation(&[("x", type_name, None), ("id", "int8", Some(0))]);
        let line = format!("{{\"id\": 7, \"x\": {json}}}");
        let (key, row) = read(Form::Rows, &relation, line.as_bytes())?;
        assert_eq!(key, Key(vec![Value::Int(7)]));
        Ok(row.0[0].value().expect("a value").clone())
    }

    #[test]
    fn columns_read_as_their_types() {
        let decimal = |text: &str| Value::Decimal(Decimal::parse(text).expect("a decimal"));
        for (type_name, json, expected) in [
            ("text", "\"\"", Value::text("")),
            ("text", "null", Value::Null),
            ("text", "\"2024-01-01\"", Value::text("2024-01-01")),
            ("int4", "-5", Value::Int(-5)),
            ("numeric", "1.10", decimal("1.10")),
            ("numeric", "\"NaN\"", decimal("NaN")),
            ("float8", "0.1", Value::Float(Float(0.1))),
            ("float8", "\"NaN\"", Value::Float(Float(f64::NAN))),
            ("float8", "\"-Infinity\"", Value::Float(Float(f64::NEG_INFINITY))),
            ("bool", "true", Value::Bool(true)),
            ("jsonb", "\"{\\\"a\\\": 1.00}\"", Value::Json("{\"a\": 1.00}".into())),
            ("jsonb", "\"null\"", Value::Json("null".into())),
            ("jsonb", "null", Value::Null),
            ("bytea", "\"\\\\x00ff\"", Value::Bytes([0, 255].into())),
            ("uuid", "\"00000000-0000-0000-0000-000000000001\"", Value::Uuid(uuid::Uuid::from_u128(1))),
            (
                "timestamptz",
                "\"2024-10-09T04:03:46.000001+00:00\"",
                Value::Timestamp("2024-10-09T04:03:46.000001Z".parse().expect("a time")),
            ),
        ] {
            assert_eq!(value(type_name, json), Ok(expected), "{type_name} {json}");
        }
    }

    #[test]
    fn what_is_not_of_its_columns_type_is_told_with_the_column() {
        for (type_name, json) in [
            ("text", "5"),
            ("text", "true"),
            ("int4", "1.5"),
            ("int8", "\"five\""),
            ("bool", "1"),
            ("jsonb", "\"{\""),
            ("jsonb", "5"),
            ("timestamptz", "\"yesterday\""),
        ] {
            let bad = Problem::Value { column: "x".into(), type_name: type_name.into() };
            assert_eq!(value(type_name, json), Err(bad), "{type_name} {json}");
        }
        assert_eq!(value("jsonb", "{\"a\": 1}"), Err(Problem::Nested("x".into())));
        let relation = relation(&[("id", "int8", Some(0)), ("x", "text", None)]);
        let problem = |line: &str| read(Form::Rows, &relation, line.as_bytes()).expect_err("it is broken");
        assert_eq!(problem("{\"id\": 1}"), Problem::NoColumn("x".into()));
        assert_eq!(problem("{\"id\": 1, \"x\": null, \"y\": 1}"), Problem::UnknownColumn("y".into()));
        assert_eq!(problem("{\"id\": null, \"x\": null}"), Problem::NullKey("id".into()));
        assert_eq!(problem("[1]"), Problem::NotAnObject);
        assert!(matches!(problem("{\"id\": 1"), Problem::NotJson(_)));
    }

    fn items() -> Relation {
        relation(&[("p", "S", Some(0)), ("s", "N", Some(1)), ("item", "item", None)])
    }

    #[test]
    fn an_item_reads_as_its_key_and_itself() {
        let line = r#"{"p": {"S": "a"}, "s": {"N": "1.0"}, "b": {"B": "AP8="}, "n": {"NULL": true}, "ns": {"NS": ["2", "2.0"]},
            "m": {"M": {"l": {"L": [{"BOOL": false}, {"SS": ["x"]}, {"BS": ["AA=="]}]}}}}"#;
        let (key, row) = read(Form::Items, &items(), line.as_bytes()).expect("an item");
        let decimal = |text: &str| Decimal::parse(text).expect("a decimal");
        assert_eq!(key, Key(vec![Value::text("a"), Value::Decimal(decimal("1"))]));
        let Some(Value::Map(item)) = row.0[2].value() else { panic!("an item") };
        assert_eq!(item["b"], Value::Bytes([0, 255].into()));
        assert_eq!(item["n"], Value::Null);
        assert_eq!(item["ns"], Value::NumberSet([decimal("2")].into()));
        let list =
            vec![Value::Bool(false), Value::TextSet([Box::from("x")].into()), Value::BytesSet([Box::from([0])].into())];
        assert_eq!(item["m"], Value::Map([(Box::from("l"), Value::List(list))].into()));
        let exported = format!("{{\"Item\": {line}}}");
        assert_eq!(read(Form::Export, &items(), exported.as_bytes()), Ok((key, row)));
        assert_eq!(read(Form::Export, &items(), line.as_bytes()), Err(Problem::NoItem));
    }

    #[test]
    fn a_broken_item_says_which_attribute() {
        for (attribute, name) in [
            (r#""x": "plain""#, "x"),
            (r#""x": {"N": "twelve"}"#, "x"),
            (r#""x": {"B": "not base64"}"#, "x"),
            (r#""x": {"SS": []}"#, "x"),
            (r#""x": {"NULL": false}"#, "x"),
            (r#""x": {"S": "a", "N": "1"}"#, "x"),
            (r#""x": {"L": [{"Q": 1}]}"#, "x"),
        ] {
            let line = format!("{{\"p\": {{\"S\": \"a\"}}, \"s\": {{\"N\": \"1\"}}, {attribute}}}");
            let problem = read(Form::Items, &items(), line.as_bytes()).expect_err("it is broken");
            assert_eq!(problem, Problem::Attribute(name.into()), "{attribute}");
        }
        let missing = read(Form::Items, &items(), br#"{"p": {"S": "a"}, "s": {"S": "1"}}"#).expect_err("no key");
        assert_eq!(missing, Problem::Key { name: "s".into(), type_name: "N".into() });
    }
}

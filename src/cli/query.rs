//! `rehome query`: what a migration's own queries say of its target.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::engine::{Reply, Rows};
use crate::event::{Decimal, Float, Json, Value};
use crate::mapping::Migration;
use crate::target::Fields;

use super::args::Global;
use super::exit::Exit;
use super::{Failure, engine, output};

/// Answers a query, or lists the queries when none is named.
pub async fn run(
    global: &Global,
    migration: &str,
    name: Option<&str>,
    arguments: &[String],
    limit: Option<usize>,
) -> Result<Exit, Failure> {
    let engine = engine(global, migration)?;
    let Some(name) = name else {
        list(global, engine.migration());
        return Ok(Exit::Success);
    };
    match engine.query(name, arguments, limit).await? {
        Reply::Rows(rows) if global.json => output::line(document(name, &rows).to_text()),
        Reply::Rows(rows) => show(&rows),
        Reply::Shapes(shapes) if global.json => output::json(&shapes_json(&shapes)),
        Reply::Shapes(shapes) => {
            for (table, lines) in &shapes {
                output::line(table);
                if lines.is_empty() {
                    output::line("  is not there");
                }
                for (index, text) in lines {
                    output::line(format!(
                        "  {}{text}",
                        if index.is_empty() { String::new() } else { format!("{index} ") }
                    ));
                }
            }
        }
    }
    Ok(Exit::Success)
}

fn list(global: &Global, migration: &Migration) {
    if global.json {
        let query = |query: &crate::mapping::Query| {
            let parameters: Vec<&str> = query.parameters().collect();
            serde_json::json!({ "name": query.name(), "parameters": parameters, "about": query.about() })
        };
        output::json(&migration.queries().iter().map(query).collect::<Vec<_>>());
        return;
    }
    let mut table = output::table(&["query", "arguments", "answers"]);
    for query in migration.queries() {
        let parameters: Vec<String> = query.parameters().map(str::to_uppercase).collect();
        table.add_row([query.name(), &parameters.join(" "), query.about()]);
    }
    output::line(table.to_string());
}

/// Rows as lines: a table where all have the same members, else one document a line.
fn show(rows: &Rows) {
    let names = |fields: &Fields| fields.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    let first = rows.rows.first().map(|(_, fields)| names(fields));
    let alike = rows.rows.iter().all(|(_, fields)| Some(names(fields)) == first);
    let nested = |value: &Value| matches!(value, Value::Map(_) | Value::List(_) | Value::Json(_));
    let plain = rows.rows.iter().all(|(_, fields)| !fields.iter().any(|(_, value)| nested(value)));
    match first {
        Some(members) if alike && plain => {
            let header: Vec<&str> = members.iter().map(|name| &**name).chain(["table"]).collect();
            let mut table = output::table(&header);
            for (name, fields) in &rows.rows {
                table.add_row(fields.iter().map(|(_, value)| text(value)).chain([name.to_string()]));
            }
            output::line(table.to_string());
        }
        _ => rows.rows.iter().for_each(|(table, fields)| output::line(format!("{table} {}", object(fields).to_text()))),
    }
    let more = if rows.more { ", and there are more: --limit tells more of them" } else { "" };
    output::say(format!("{} row(s); {} read for them{more}", rows.rows.len(), rows.scanned));
}

fn shapes_json(shapes: &[(Box<str>, Vec<(String, String)>)]) -> serde_json::Value {
    let table = |(table, lines): &(Box<str>, Vec<(String, String)>)| {
        let key = lines.iter().find(|(name, _)| name.is_empty()).map(|(_, text)| text);
        let indexes = lines.iter().filter(|(name, _)| !name.is_empty());
        let indexes: serde_json::Map<String, serde_json::Value> =
            indexes.map(|(name, text)| (name.clone(), text.as_str().into())).collect();
        serde_json::json!({ "table": table, "key": key, "indexes": indexes })
    };
    shapes.iter().map(table).collect::<Vec<_>>().into()
}

/// An answer as one document; numbers keep all their digits.
fn document(name: &str, rows: &Rows) -> Json {
    let row = |(table, fields): &(Box<str>, Fields)| {
        Json::Object(vec![("table".to_owned(), Json::String(table.to_string())), ("row".to_owned(), object(fields))])
    };
    Json::Object(vec![
        ("query".to_owned(), Json::String(name.to_owned())),
        ("rows".to_owned(), Json::Array(rows.rows.iter().map(row).collect())),
        ("read".to_owned(), Json::Number(rows.scanned.into())),
        ("more".to_owned(), Json::Bool(rows.more)),
    ])
}

fn object(fields: &Fields) -> Json {
    Json::Object(fields.iter().map(|(name, value)| (name.to_string(), json(value))).collect())
}

/// A value in one cell; null is empty.
fn text(value: &Value) -> String {
    match json(value) {
        Json::Null => String::new(),
        Json::String(text) => text,
        other => other.to_text(),
    }
}

/// A value as a document.
pub(super) fn json(value: &Value) -> Json {
    let bytes = |bytes: &[u8]| Json::String(STANDARD.encode(bytes));
    match value {
        Value::Null => Json::Null,
        Value::Bool(truth) => Json::Bool(*truth),
        Value::Int(number) => Json::Number((*number).into()),
        Value::Decimal(number) if number.finite() => Json::Number(number.clone()),
        Value::Decimal(number) => Json::String(number.to_string()),
        Value::Float(Float(number)) => {
            Decimal::parse(&format!("{number:e}")).map_or_else(|_| Json::String(number.to_string()), Json::Number)
        }
        Value::Text(text) => Json::String(text.to_string()),
        Value::Json(text) => Json::parse(text).unwrap_or_else(|_| Json::String(text.to_string())),
        Value::Bytes(found) => bytes(found),
        Value::Timestamp(time) => Json::String(time.to_string()),
        Value::Uuid(uuid) => Json::String(uuid.to_string()),
        Value::List(items) => Json::Array(items.iter().map(json).collect()),
        Value::Map(map) => Json::Object(map.iter().map(|(name, value)| (name.to_string(), json(value))).collect()),
        Value::TextSet(set) => Json::Array(set.iter().map(|text| Json::String(text.to_string())).collect()),
        Value::NumberSet(set) => Json::Array(set.iter().cloned().map(Json::Number).collect()),
        Value::BytesSet(set) => Json::Array(set.iter().map(|found| bytes(found)).collect()),
    }
}

//! `rehome diff`: one unit, field by field.

use std::sync::Arc;

use serde_json::json;

use crate::engine::UnitDiff;
use crate::engine::diff::{Kind, RowDifference, Verdict};
use crate::event::key_text;
use crate::event::{Json, Value};
use crate::target::{TableShape, TargetRow};

use super::args::Global;
use super::exit::Exit;
use super::{Failure, engine, locate, output};

/// Differences shown within one JSON document.
const PATHS_MAX: usize = 20;

/// Compares one unit.
pub async fn run(global: &Global, migration: &str, unit: &str, reveal: bool) -> Result<Exit, Failure> {
    let engine = engine(global, migration)?;
    let rules = Arc::new(locate::rules(global, engine.migration())?);
    let comparer = engine.comparer().await?.by(rules);
    for whole in comparer.whole_tables(unit) {
        output::say(format!(
            "no key and no index leads to the unit's rows in {}: each reading takes all of it, about {} items, {} bytes, {} read \
             units, and there are two readings or more",
            whole.table, whole.items, whole.bytes, whole.read_units
        ));
    }
    let diff = comparer.unit(unit).await?;
    if diff.legacy_rows == 0 && diff.actual_rows == 0 && diff.expected_rows == 0 {
        let message = format!("unit {unit} has no rows in the source, the log or the target");
        return Err(Failure { message, hint: Some("check its spelling".to_owned()) });
    }
    if global.json {
        output::json(&as_json(engine.tables(), &diff, reveal));
    } else {
        show(engine.tables(), &diff, reveal);
    }
    Ok(exit(diff.verdict))
}

/// The exit code of a verdict.
pub fn exit(verdict: Verdict) -> Exit {
    match verdict {
        Verdict::Match => Exit::Success,
        Verdict::Mismatch => Exit::Mismatch,
        Verdict::Incomplete => Exit::Incomplete,
    }
}

/// Shows a comparison for people.
pub fn show(tables: &[TableShape], diff: &UnitDiff, reveal: bool) {
    for difference in &diff.differences {
        let shape = &tables[usize::from(difference.key.table.0)];
        let word = match difference.kind {
            Kind::Missing => "missing",
            Kind::Extra => "extra",
            Kind::Changed => "changed",
        };
        output::line(format!("{word} {} {}", shape.name, key_text(&difference.key.values)));
        for (field, expected, actual) in fields(shape, difference, reveal) {
            output::line(format!("    {field}"));
            output::line(format!("      - expected {expected}"));
            output::line(format!("      + found    {actual}"));
        }
    }
    output::line(format!(
        "{} {}: {} legacy rows, {} target rows expected, {} found, {} differences",
        verdict_text(diff.verdict),
        diff.unit,
        diff.legacy_rows,
        diff.expected_rows,
        diff.actual_rows,
        diff.differences.len()
    ));
    let position = diff.position.map_or_else(String::new, |position| format!("at source position {position}; "));
    output::line(format!("  {position}{}", diff.reason));
    if !reveal && !diff.differences.is_empty() {
        output::line("  contents are redacted; --reveal shows them");
    }
}

fn verdict_text(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Match => "MATCH",
        Verdict::Mismatch => "MISMATCH",
        Verdict::Incomplete => "INCOMPLETE",
    }
}

/// A comparison as JSON.
pub fn as_json(tables: &[TableShape], diff: &UnitDiff, reveal: bool) -> serde_json::Value {
    let differences: Vec<_> = diff
        .differences
        .iter()
        .map(|difference| {
            let shape = &tables[usize::from(difference.key.table.0)];
            let fields: Vec<_> = fields(shape, difference, reveal)
                .into_iter()
                .map(|(field, expected, actual)| json!({ "field": field, "expected": expected, "found": actual }))
                .collect();
            let key = key_text(&difference.key.values);
            json!({ "table": shape.name, "key": key, "kind": difference.kind, "fields": fields })
        })
        .collect();
    json!({
        "unit": diff.unit, "verdict": diff.verdict, "reason": diff.reason, "position": diff.position.map(|position| position.to_string()),
        "legacy_rows": diff.legacy_rows, "expected_rows": diff.expected_rows, "found_rows": diff.actual_rows,
        "parked": diff.parked, "differences": differences,
    })
}

/// The fields that differ: name or path, expected and found.
fn fields(shape: &TableShape, difference: &RowDifference, reveal: bool) -> Vec<(String, String, String)> {
    let (Some(expected), Some(actual)) = (&difference.expected, &difference.actual) else { return Vec::new() };
    let mut fields = Vec::new();
    for &column in &difference.columns {
        let name = &shape.columns[column].name;
        let (a, b) = (&expected.values[column], &actual.values[column]);
        let documents = |row: &TargetRow| match &row.values[column] {
            Value::Json(text) => Json::parse(text).ok(),
            _ => None,
        };
        match (documents(expected), documents(actual)) {
            (Some(a), Some(b)) => paths(name.to_string(), Some(&a), Some(&b), reveal, &mut fields),
            _ => fields.push((name.to_string(), value_text(a, reveal), value_text(b, reveal))),
        }
    }
    fields
}

/// The places where two documents differ.
fn paths(place: String, a: Option<&Json>, b: Option<&Json>, reveal: bool, out: &mut Vec<(String, String, String)>) {
    if out.len() >= PATHS_MAX {
        return;
    }
    match (a, b) {
        (Some(a), Some(b)) if a.same(b) => {}
        (Some(Json::Object(left)), Some(Json::Object(right))) => {
            let mut keys: Vec<&String> = left.iter().chain(right).map(|(key, _)| key).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                let (a, b) = (a.and_then(|a| a.member(key)), b.and_then(|b| b.member(key)));
                paths(format!("{place}.{key}"), a, b, reveal, out);
            }
        }
        (Some(Json::Array(left)), Some(Json::Array(right))) => {
            for index in 0..left.len().max(right.len()) {
                paths(format!("{place}[{index}]"), left.get(index), right.get(index), reveal, out);
            }
        }
        _ => out.push((place, json_text(a, reveal), json_text(b, reveal))),
    }
}

fn json_text(value: Option<&Json>, reveal: bool) -> String {
    match value {
        None => "nothing".to_owned(),
        Some(value) if reveal => value.to_text(),
        Some(Json::Null) => "null".to_owned(),
        Some(Json::Bool(_)) => "a truth value".to_owned(),
        Some(Json::Number(number)) => format!("a number of {} characters", number.as_str().len()),
        Some(Json::String(text)) => format!("a string of {} characters", text.chars().count()),
        Some(Json::Array(items)) => format!("an array of {}", items.len()),
        Some(Json::Object(members)) => format!("an object of {}", members.len()),
    }
}

fn value_text(value: &Value, reveal: bool) -> String {
    if reveal || *value == Value::Null {
        return key_text(std::slice::from_ref(value));
    }
    match value {
        Value::Text(text) => format!("text of {} characters", text.chars().count()),
        Value::Json(text) => format!("JSON of {} bytes", text.len()),
        Value::Bytes(bytes) => format!("{} bytes", bytes.len()),
        Value::Bool(_) => "a truth value".to_owned(),
        Value::Int(_) | Value::Decimal(_) | Value::Float(_) => "a number".to_owned(),
        Value::Timestamp(_) => "a timestamp".to_owned(),
        Value::Uuid(_) => "a UUID".to_owned(),
        _ => "a collection".to_owned(),
    }
}

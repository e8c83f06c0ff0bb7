//! `rehome diff`: one unit, field by field.

use std::sync::Arc;

use serde_json::json;

use crate::engine::UnitDiff;
use crate::engine::diff::{Kind, RowDifference, Verdict};
use crate::event::{Value, key_text};
use crate::rules::{Comparison, Ruleset, Uses};
use crate::target::{TableShape, TargetKey};

use super::args::Global;
use super::exit::Exit;
use super::{Failure, engine, locate, output, query};

/// Places shown within one column, or one attribute of an item.
const PLACES_MAX: usize = 20;

/// Compares one unit.
pub async fn run(global: &Global, migration: &str, unit: &str, reveal: bool) -> Result<Exit, Failure> {
    let engine = engine(global, migration)?;
    let rules = Arc::new(locate::rules(global, engine.migration())?);
    let comparer = engine.comparer().await?.by(Arc::clone(&rules));
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
        output::json(&as_json(engine.tables(), &rules, &diff, reveal));
    } else {
        show(engine.tables(), &rules, &diff, reveal);
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
pub fn show(tables: &[TableShape], rules: &Ruleset, diff: &UnitDiff, reveal: bool) {
    for difference in &diff.differences {
        let shape = &tables[usize::from(difference.key.table.0)];
        let word = match difference.kind {
            Kind::Missing => "missing",
            Kind::Extra => "extra",
            Kind::Changed => "changed",
        };
        output::line(format!("{word} {} {}", shape.name, key_text(&difference.key.values)));
        let (fields, more) = fields(rules, difference, reveal);
        for Shown { place, expected, found } in fields {
            output::line(format!("    {place}"));
            output::line(format!("      - expected {expected}"));
            output::line(format!("      + found    {found}"));
        }
        if more > 0 {
            output::line(format!("    and {more} more places within these"));
        }
    }
    for key in &diff.waived {
        output::line(format!("waived {} {}", tables[usize::from(key.table.0)].name, key_text(&key.values)));
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
pub fn as_json(tables: &[TableShape], rules: &Ruleset, diff: &UnitDiff, reveal: bool) -> serde_json::Value {
    let differences: Vec<_> = diff
        .differences
        .iter()
        .map(|difference| {
            let shape = &tables[usize::from(difference.key.table.0)];
            let (fields, more) = fields(rules, difference, reveal);
            let fields: Vec<_> = fields
                .into_iter()
                .map(|Shown { place, expected, found }| json!({ "field": place, "expected": expected, "found": found }))
                .collect();
            let key = key_text(&difference.key.values);
            json!({ "table": shape.name, "key": key, "kind": difference.kind, "fields": fields, "more_places": more })
        })
        .collect();
    let waived =
        |key: &TargetKey| json!({ "table": tables[usize::from(key.table.0)].name, "key": key_text(&key.values) });
    json!({
        "unit": diff.unit, "verdict": diff.verdict, "reason": diff.reason, "position": diff.position.map(|position| position.to_string()),
        "legacy_rows": diff.legacy_rows, "expected_rows": diff.expected_rows, "found_rows": diff.actual_rows,
        "parked": diff.parked, "quarantined": diff.quarantined, "waived": diff.waived.iter().map(waived).collect::<Vec<_>>(),
        "differences": differences,
    })
}

/// A field that differs, as it is shown.
struct Shown {
    /// Its place; below a column or an attribute, whose names are contents of the row (I12), only where these are revealed.
    place: String,
    /// What the mapping wants there.
    expected: String,
    /// What the target has there.
    found: String,
}

/// The fields in which two rows differ by the rules, and how many more places there are.
fn fields(rules: &Ruleset, difference: &RowDifference, reveal: bool) -> (Vec<Shown>, usize) {
    let (Some(expected), Some(actual)) = (&difference.expected, &difference.actual) else { return (Vec::new(), 0) };
    let compared = rules.table(difference.key.table).compare(expected, actual, difference.pair, &mut Uses::default());
    let Comparison::Different(fields) = compared else { return (Vec::new(), 0) };
    let mut shown: Vec<Shown> = Vec::new();
    let (mut root, mut of_root, mut more) = (String::new(), 0, 0);
    for field in fields {
        if *field.field.root != *root {
            (root, of_root) = (field.field.root.to_string(), 0);
        }
        of_root += 1;
        if of_root > if reveal { PLACES_MAX } else { 1 } {
            more += 1;
            continue;
        }
        let below = !reveal && !field.field.steps.is_empty();
        let place = if reveal { field.field.to_string() } else { root.clone() };
        let text = |value: &Option<Value>| match value {
            _ if below => "a part of it".to_owned(),
            None => "nothing".to_owned(),
            Some(value) => value_text(value, reveal),
        };
        shown.push(Shown { place, expected: text(&field.expected), found: text(&field.actual) });
    }
    (shown, more)
}

fn value_text(value: &Value, reveal: bool) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Map(_) | Value::List(_) | Value::TextSet(_) | Value::NumberSet(_) | Value::BytesSet(_) if reveal => {
            query::json(value).to_text()
        }
        value if reveal => key_text(std::slice::from_ref(value)),
        Value::Text(text) => format!("text of {} characters", text.chars().count()),
        Value::Json(text) => format!("JSON of {} bytes", text.len()),
        Value::Bytes(bytes) => format!("{} bytes", bytes.len()),
        Value::Bool(_) => "a truth value".to_owned(),
        Value::Int(_) | Value::Decimal(_) | Value::Float(_) => "a number".to_owned(),
        Value::Timestamp(_) => "a timestamp".to_owned(),
        Value::Uuid(_) => "a UUID".to_owned(),
        Value::List(items) => format!("a list of {}", items.len()),
        Value::Map(members) => format!("a map of {}", members.len()),
        Value::TextSet(_) | Value::NumberSet(_) | Value::BytesSet(_) => "a set".to_owned(),
    }
}

//! Rows that repeat the tool calls of responses: they fill gaps, agree, or say more.

use std::collections::HashMap;

use super::datum::Fault;
use super::plan::Tools;
use super::term::Env;
use super::wire::{self, ToolCall, known};
use crate::event::{Decimal, Json};

/// A row that tells of a tool call.
#[derive(Debug)]
pub(super) struct ToolRow {
    id: Option<String>,
    name: Option<String>,
    arguments: Option<Json>,
    plain: Plain,
    artefact: bool,
    filled: bool,
}

/// Whether a row tells nothing but id, name and arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plain {
    Yes,
    No,
}

/// What becomes of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Some response shows what it filled.
    Filled,
    /// It says no more than a response does.
    Agrees,
    /// It says more, and is recorded.
    SaysMore,
}

/// The tool rows of a unit, and the calls of its responses.
#[derive(Debug, Default)]
pub(super) struct ToolRows {
    rows: Vec<ToolRow>,
    by_id: HashMap<String, Vec<usize>>,
    calls: HashMap<String, Vec<ToolCall>>,
}

impl ToolRows {
    /// Adds a row.
    pub(super) fn add(&mut self, plan: &Tools, env: Env<'_>) -> Result<(), Fault> {
        let id = plan.id.eval(env)?.into_text()?;
        let name = plan.name.eval(env)?.into_text()?;
        let response = plan.response.eval(env)?;
        let status = plan.status.eval(env)?.into_text()?;
        let usual = status.is_none_or(|status| plan.plain_status.iter().any(|plain| **plain == *status));
        let synthetic = id.as_ref().is_some_and(|id| plan.no_id.iter().any(|none| **none == **id));
        let row = ToolRow {
            artefact: synthetic && name.is_none() && response.null(),
            plain: if usual && response.null() { Plain::Yes } else { Plain::No },
            arguments: plan.arguments.eval(env)?.into_json(),
            name,
            id,
            filled: false,
        };
        if let (Some(id), false) = (&row.id, row.artefact) {
            self.by_id.entry(id.clone()).or_default().push(self.rows.len());
        }
        self.rows.push(row);
        Ok(())
    }

    /// Fills names and arguments that a message's tool calls lack.
    pub(super) fn fill(&mut self, message: &mut Json) {
        if self.by_id.is_empty() {
            return;
        }
        let Some(Json::Array(calls)) = member_mut(message, "tool_calls") else { return };
        for call in calls {
            let Some(id) = known(call, "id").and_then(Json::as_str) else { continue };
            let Some(rows) = self.by_id.get(id) else { continue };
            let Some(function) = member_mut(call, "function") else { continue };
            for at in rows {
                let row = &mut self.rows[*at];
                if let (None, Some(name)) = (known(function, "name"), &row.name) {
                    set_member(function, "name", Json::String(name.clone()));
                    row.filled = true;
                }
                let lacking = known(function, "arguments").is_none_or(|json| json.as_str() == Some(""));
                let text = row.arguments.as_ref().map(argument_text).filter(|text| !text.is_empty());
                if let (true, Some(text)) = (lacking, text) {
                    set_member(function, "arguments", Json::String(text));
                    row.filled = true;
                }
            }
        }
    }

    /// Notes the tool calls of a response's message.
    pub(super) fn note(&mut self, message: &Json) {
        if self.by_id.is_empty() {
            return;
        }
        for call in wire::tool_calls(message) {
            if let Some(id) = &call.id {
                self.calls.entry(id.clone()).or_default().push(call);
            }
        }
    }

    /// What becomes of each row, in the order in which they were added.
    pub(super) fn fates(&self) -> impl Iterator<Item = Fate> {
        self.rows.iter().map(|row| {
            let calls = row.id.as_ref().and_then(|id| self.calls.get(id));
            let agrees = row.plain == Plain::Yes && calls.into_iter().flatten().any(|call| row.agrees(call));
            match (row.artefact, agrees, row.filled) {
                (true, ..) | (_, true, false) => Fate::Agrees,
                (_, true, true) => Fate::Filled,
                (_, false, _) => Fate::SaysMore,
            }
        })
    }
}

impl ToolRow {
    fn agrees(&self, call: &ToolCall) -> bool {
        let name = self.name.is_none() || self.name == call.name;
        let arguments = match &self.arguments {
            None => true,
            Some(Json::String(text)) if call.arguments.starts_with(text.as_str()) => true,
            Some(given) => {
                let told = Json::parse(&call.arguments).ok();
                let inner = given.as_str().and_then(|text| Json::parse(text).ok());
                told.is_some_and(|told| told.same(given) || inner.is_some_and(|inner| told.same(&inner)))
            }
        };
        name && arguments
    }
}

fn member_mut<'a>(json: &'a mut Json, key: &str) -> Option<&'a mut Json> {
    match json {
        Json::Object(members) => members.iter_mut().find(|(name, _)| name == key).map(|(_, value)| value),
        _ => None,
    }
}

fn set_member(json: &mut Json, key: &str, value: Json) {
    let Json::Object(members) = json else { return };
    match members.iter_mut().find(|(name, _)| name == key) {
        Some((_, slot)) => *slot = value,
        None => members.push((key.to_owned(), value)),
    }
}

/// Arguments as text: a JSON string's own, anything else as Postgres prints it.
fn argument_text(json: &Json) -> String {
    match json {
        Json::String(text) => text.clone(),
        other => {
            let mut out = String::new();
            print(other, &mut out);
            out
        }
    }
}

/// Prints a document as Postgres prints a `jsonb`: keys by length and then bytes, a space after each comma and colon,
/// numbers without exponent.
fn print(json: &Json, out: &mut String) {
    match json {
        Json::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                out.push_str(if at > 0 { ", " } else { "" });
                print(item, out);
            }
            out.push(']');
        }
        Json::Object(members) => {
            let mut sorted: Vec<_> = members.iter().collect();
            sorted.sort_by(|(a, _), (b, _)| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
            out.push('{');
            for (at, (key, value)) in sorted.into_iter().enumerate() {
                out.push_str(if at > 0 { ", " } else { "" });
                print_string(key, out);
                out.push_str(": ");
                print(value, out);
            }
            out.push('}');
        }
        Json::Number(number) => out.push_str(&plain(number)),
        Json::String(text) => print_string(text, out),
        other => out.push_str(&other.to_text()),
    }
}

/// Prints a string: as JSON does, but that Postgres has short escapes for two more characters.
fn print_string(text: &str, out: &mut String) {
    let quoted = Json::String(text.to_owned()).to_text();
    let mut escaped = false;
    let mut rest = quoted.as_str();
    while let Some(character) = rest.chars().next() {
        match (escaped, rest.get(..5)) {
            (true, Some("u0008" | "u000c")) => {
                out.push(if rest.starts_with("u0008") { 'b' } else { 'f' });
                rest = &rest[5..];
                escaped = false;
                continue;
            }
            _ => out.push(character),
        }
        escaped = !escaped && character == '\\';
        rest = &rest[character.len_utf8()..];
    }
}

/// A number as `numeric` prints it: as written, but for an exponent, which is spelt out.
fn plain(number: &Decimal) -> String {
    let text = number.as_str();
    if !text.contains(['e', 'E']) {
        return if text == "-0" { "0".into() } else { text.to_owned() };
    }
    let Some(value) = number.scientific() else { return text.to_owned() };
    // `numeric` ends at 131,072 digits before the point; beyond, a jsonb cannot hold the number at all.
    let Ok(shift) = i32::try_from(value.exponent.clamp(-200_000, 200_000)) else { return text.to_owned() };
    let sign = if value.negative { "-" } else { "" };
    let zeros = "0".repeat(shift.unsigned_abs() as usize);
    if shift >= 0 {
        return format!("{sign}{}{zeros}", value.digits);
    }
    let padded = format!("{zeros}{}", value.digits);
    let (whole, fraction) = padded.split_at(padded.len() - shift.unsigned_abs() as usize);
    let whole = whole.trim_start_matches('0');
    format!("{sign}{}.{fraction}", if whole.is_empty() { "0" } else { whole })
}

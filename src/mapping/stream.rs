//! Chunks become the choices of one response.

use std::collections::{BTreeMap, HashMap};

use super::datum::json_text;
use super::plan::{Fragment, PositionId, Rendered, Wire};
use super::variant::{Form, Variant};
use super::wire::{self, Choice, known};
use crate::event::{Json, Timestamp};

/// A response under assembly.
#[derive(Debug, Default)]
pub(super) struct Stream {
    choices: BTreeMap<i64, Building>,
    extracted_role: Option<String>,
    model: Option<Json>,
    usage: Option<Json>,
    time: Option<Timestamp>,
}

/// A choice under assembly.
#[derive(Debug, Default)]
struct Building {
    text: String,
    role: Option<String>,
    extracted_role: Option<String>,
    refusal: Option<String>,
    function: Option<(Option<String>, String)>,
    finish: Option<Json>,
    calls: Calls,
}

/// Tool calls in order of first appearance.
#[derive(Debug, Default)]
struct Calls {
    list: Vec<Call>,
    by_id: HashMap<String, usize>,
    by_index: HashMap<i64, usize>,
    latest: Option<usize>,
}

#[derive(Debug, Default)]
struct Call {
    id: Option<String>,
    kind: Option<String>,
    name: Option<String>,
    arguments: String,
}

/// A chunk that the old writer took apart.
#[derive(Debug)]
pub(super) struct Extract<'a> {
    /// Choice.
    pub choice: i64,
    /// Text, with the tool fragments rendered at its end.
    pub text: Option<String>,
    /// Tool fragments.
    pub tools: &'a [Json],
}

impl Stream {
    /// Notes that a row is part of the response.
    pub(super) fn witness(&mut self, time: Timestamp) {
        self.time = Some(self.time.map_or(time, |earliest| earliest.min(time)));
    }

    /// Whether any row is part of it.
    pub(super) fn begun(&self) -> bool {
        self.time.is_some()
    }

    /// Adds a raw chunk; says whether it is one of a known format.
    pub(super) fn add_raw(&mut self, chunk: &Json, formats: &[Wire]) -> Known {
        if self.model.is_none() {
            self.model = known(chunk, "model").cloned();
        }
        if let Some(usage) = known(chunk, "usage") {
            self.usage = Some(usage.clone());
        }
        let Some(deltas) = wire::deltas(chunk, formats) else { return Known::No };
        for wire::Delta { index, delta, finish } in deltas {
            let building = self.choices.entry(index).or_default();
            if let Some(finish) = finish {
                building.finish = Some(finish.clone());
            }
            if let Some(delta) = delta {
                building.add(delta);
            }
        }
        Known::Yes
    }

    /// Adds a chunk that the old writer took apart.
    pub(super) fn add_extract(&mut self, extract: Extract<'_>, fragment: &Fragment, rendered: Option<&Rendered>) {
        let building = self.choices.entry(extract.choice).or_default();
        let text = extract.text.unwrap_or_default();
        let rendering = rendered.map_or_else(String::new, |form| render(extract.tools, fragment, form));
        building.text.push_str(text.strip_suffix(rendering.as_str()).unwrap_or(&text));
        for (place, entry) in extract.tools.iter().enumerate() {
            building.calls.add_extracted(entry, place, fragment);
        }
    }

    /// Notes the role that the old writer extracted from a chunk.
    pub(super) fn role(&mut self, choice: i64, role: String) {
        if role.is_empty() {
            return;
        }
        if let Some(building) = self.choices.get_mut(&choice) {
            building.extracted_role.get_or_insert_with(|| role.clone());
        }
        self.extracted_role.get_or_insert(role);
    }

    /// The response, if any row is part of it.
    pub(super) fn finish(self) -> Option<Variant> {
        let time = self.time?;
        let finished = self.choices.into_iter().map(|(index, building)| building.finish(index));
        let mut choices: Vec<Choice> = finished.collect();
        if choices.is_empty() {
            choices.push(Building { extracted_role: self.extracted_role, ..Building::default() }.finish(0));
        }
        Some(Variant { choices, model: self.model, usage: self.usage, form: Form::Assembled, time })
    }
}

/// Whether a raw chunk has a known format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// It has.
    Yes,
    /// It has not.
    No,
}

impl Building {
    fn add(&mut self, delta: &Json) {
        if self.role.is_none() {
            self.role = filled(delta, "role");
        }
        if let Some(content) = known(delta, "content") {
            self.text.push_str(&wire::content_text(Some(content)));
        }
        if let Some(refusal) = known(delta, "refusal").and_then(Json::as_str) {
            self.refusal.get_or_insert_default().push_str(refusal);
        }
        if let Some(call) = known(delta, "function_call") {
            let (name, arguments) = self.function.get_or_insert_default();
            if name.is_none() {
                *name = filled(call, "name");
            }
            arguments.push_str(&known(call, "arguments").map(json_text).unwrap_or_default());
        }
        for entry in known(delta, "tool_calls").and_then(Json::as_array).into_iter().flatten() {
            self.calls.add_raw(entry);
        }
    }

    fn finish(self, index: i64) -> Choice {
        let string = |text: String| Json::String(text);
        let role = self.role.or(self.extracted_role).unwrap_or_else(|| "assistant".into());
        let called = !self.calls.list.is_empty();
        let content = if self.text.is_empty() && called { Json::Null } else { string(self.text) };
        let mut message = vec![("role".to_owned(), string(role)), ("content".to_owned(), content)];
        if called {
            let calls = self.calls.list.into_iter().map(Call::into_json).collect();
            message.push(("tool_calls".into(), Json::Array(calls)));
        }
        if let Some((name, arguments)) = self.function {
            let name = name.map_or(Json::Null, string);
            let call = vec![("name".to_owned(), name), ("arguments".to_owned(), string(arguments))];
            message.push(("function_call".into(), Json::Object(call)));
        }
        if let Some(refusal) = self.refusal {
            message.push(("refusal".into(), string(refusal)));
        }
        Choice { index, message: Json::Object(message), finish: self.finish }
    }
}

impl Calls {
    /// Adds a fragment as it went over the wire: its `index` tells the call.
    fn add_raw(&mut self, entry: &Json) {
        let id = filled(entry, "id");
        let index = match entry.member("index") {
            Some(Json::Number(number)) => number.to_i64(),
            _ => None,
        };
        let at = self.indexed(index, id.as_ref());
        let function = entry.member("function");
        let call = Call {
            id,
            kind: filled(entry, "type"),
            name: function.and_then(|function| filled(function, "name")),
            ..Call::default()
        };
        let arguments = function.and_then(|function| known(function, "arguments")).map(json_text);
        self.extend(at, call, &arguments.unwrap_or_default());
    }

    /// The call at a provider's index, the latest without one; another id there starts a new call.
    fn indexed(&mut self, index: Option<i64>, id: Option<&String>) -> usize {
        let running = index.map_or(self.latest, |index| self.by_index.get(&index).copied());
        let another = |at: usize| id.is_some() && self.list[at].id.is_some() && self.list[at].id.as_ref() != id;
        let at = match running {
            Some(at) if !another(at) => at,
            _ => self.start(id),
        };
        if let Some(index) = index {
            self.by_index.insert(index, at);
        }
        at
    }

    /// The call of an id, a new one for a new id, and the latest for none.
    fn named(&mut self, id: Option<&String>) -> usize {
        match (id, self.latest) {
            (Some(id), _) => match self.by_id.get(id) {
                Some(at) => *at,
                None => self.start(Some(id)),
            },
            (None, Some(latest)) => latest,
            (None, None) => self.start(None),
        }
    }

    /// Adds a fragment that the old writer extracted: a new id starts a call, anything else continues the latest.
    fn add_extracted(&mut self, entry: &Json, place: usize, fragment: &Fragment) {
        let synthetic = |id: &String| {
            fragment.no_id.iter().any(|none| **none == **id)
                || (fragment.position == PositionId::NoId && *id == place.to_string())
        };
        let id = filled(entry, &fragment.id).filter(|id| !synthetic(id));
        let at = self.named(id.as_ref());
        let call =
            Call { id, kind: filled(entry, &fragment.kind), name: filled(entry, &fragment.name), ..Call::default() };
        self.extend(at, call, &known(entry, &fragment.arguments).map(json_text).unwrap_or_default());
    }

    fn start(&mut self, id: Option<&String>) -> usize {
        let at = self.list.len();
        if let Some(id) = id {
            self.by_id.entry(id.clone()).or_insert(at);
        }
        self.list.push(Call { id: id.cloned(), ..Call::default() });
        at
    }

    fn extend(&mut self, at: usize, part: Call, arguments: &str) {
        let call = &mut self.list[at];
        if let (None, Some(id)) = (&call.id, part.id) {
            self.by_id.entry(id.clone()).or_insert(at);
            call.id = Some(id);
        }
        call.kind = call.kind.take().or(part.kind);
        call.name = call.name.take().or(part.name);
        call.arguments.push_str(arguments);
        self.latest = Some(at);
    }
}

impl Call {
    fn into_json(self) -> Json {
        let maybe = |text: Option<String>| text.map_or(Json::Null, Json::String);
        let function =
            vec![("name".to_owned(), maybe(self.name)), ("arguments".to_owned(), Json::String(self.arguments))];
        Json::Object(vec![
            ("id".into(), maybe(self.id)),
            ("type".into(), Json::String(self.kind.unwrap_or_else(|| "function".into()))),
            ("function".into(), Json::Object(function)),
        ])
    }
}

/// The text of a member that is there, not null and not empty.
fn filled(json: &Json, member: &str) -> Option<String> {
    known(json, member).map(json_text).filter(|text| !text.is_empty())
}

/// The old writer's rendering of tool fragments, one after the other.
fn render(tools: &[Json], fragment: &Fragment, form: &Rendered) -> String {
    let mut out = String::new();
    for entry in tools {
        let part = |member: &str| known(entry, member).map(json_text).filter(|text| !text.is_empty());
        match part(&fragment.name) {
            Some(name) => out.extend([&*form.named.0, &name, &*form.named.1]),
            None => out.push_str(&form.unnamed),
        }
        if let Some(arguments) = part(&fragment.arguments) {
            out.extend([&*form.arguments.0, &arguments, &*form.arguments.1]);
        }
    }
    out
}

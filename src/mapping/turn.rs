//! One turn: a request, the chunks of its response, its completions; from their rows, in order, to drafts of events.

use std::borrow::Cow;
use std::collections::HashSet;

use uuid::Uuid;

use super::completion::{Completions, Messages};
use super::datum::{Datum, Fault, RowView};
use super::order;
use super::plan::{Assembly, RowClass, Side};
use super::stream::{Extract, Known, Stream};
use super::term::{Env, Output};
use super::tools::ToolRows;
use super::variant::{Form, Resolved, Variant, resolve};
use super::wire::{choice_json, known};
use crate::event::{Json, Timestamp, Value};

/// An event before it has a number.
#[derive(Debug)]
pub(super) struct Draft {
    /// What it holds.
    pub payload: Json,
    /// Time of the earliest row behind it.
    pub time: Timestamp,
}

/// What a turn comes to: each list holds none, one, or a pair of original and final.
#[derive(Debug, Default)]
pub(super) struct Drafts {
    /// Requests.
    pub requests: Vec<Draft>,
    /// Responses.
    pub responses: Vec<Draft>,
}

/// What the turns of a unit add up to.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Rows behind some event, or whose status counts.
    pub mapped: u64,
    /// Chunks that repeat another.
    pub duplicates: u64,
    /// Chunks that repeat another one's number with other content.
    pub conflicts: u64,
    /// Completions that others replaced.
    pub superseded: u64,
    /// Model of the first request that names one.
    pub request_model: Option<Json>,
    /// Model of the first raw chunk that names one.
    pub chunk_model: Option<Json>,
    /// Status that completions give the unit.
    pub status: Option<String>,
}

/// A turn while its rows come in.
#[derive(Debug)]
pub(super) struct Turn<'p> {
    plan: &'p Assembly,
    namespace: &'p Uuid,
    requests: Option<Vec<Draft>>,
    streams: [Stream; 2],
    completions: Completions,
    seen: HashSet<[u8; 32]>,
    numbers: HashSet<(u8, i64)>,
}

impl<'p> Turn<'p> {
    /// A turn without rows.
    pub(super) fn new(plan: &'p Assembly, namespace: &'p Uuid) -> Self {
        Self {
            plan,
            namespace,
            requests: None,
            streams: Default::default(),
            completions: Completions::default(),
            seen: HashSet::new(),
            numbers: HashSet::new(),
        }
    }

    /// Adds the next row.
    pub(super) fn add(
        &mut self,
        class: RowClass,
        values: &[Value],
        time: Timestamp,
        tally: &mut Tally,
    ) -> Result<(), Fault> {
        let view = RowView::new(values);
        let env = Env { row: Some(&view), ..Env::plain(self.namespace) };
        match class {
            RowClass::Request => {
                tally.mapped += 1;
                let drafts = self.request(env, time, tally)?;
                self.requests = Some(drafts);
                Ok(())
            }
            RowClass::Chunk(side) => self.chunk(side, &view, env, time, tally),
            RowClass::Completion => self.completions.add(self.plan, env, time),
        }
    }

    fn request(&self, env: Env<'_>, time: Timestamp, tally: &mut Tally) -> Result<Vec<Draft>, Fault> {
        let original = RequestSide::read(self.plan, Side::Original, env)?;
        let last = RequestSide::read(self.plan, Side::Final, env)?;
        let all_raw =
            [&original, &last].into_iter().filter(|side| side.present()).all(|side| side.raw_messages().is_some());
        let mut drafts = Vec::new();
        let chosen: Vec<&RequestSide> = match (original.present(), last.present()) {
            (true, true) => vec![&original, &last],
            (true, false) => vec![&original],
            // A request without messages still says what was asked for.
            (false, false) if last.raw.is_none() => vec![&original],
            (false, _) => vec![&last],
        };
        for side in chosen {
            let messages = if all_raw { side.raw_messages() } else { side.flat.as_ref().or(side.raw_messages()) };
            let model = match side.raw.as_ref().and_then(|raw| known(raw, "model")) {
                Some(model) => Some(model.clone()),
                None => match &self.plan.request.model {
                    Some(term) => term.eval(env)?.into_json(),
                    None => None,
                },
            };
            if tally.request_model.is_none() {
                tally.request_model.clone_from(&model);
            }
            let payload = request_payload(self.plan, self.namespace, messages, model.as_ref(), side.raw.as_ref())?;
            drafts.push(Draft { payload, time });
        }
        if let [first, second] = drafts.as_slice()
            && first.payload.same(&second.payload)
        {
            drafts.truncate(1);
        }
        Ok(drafts)
    }

    fn chunk(
        &mut self,
        side: Side,
        view: &RowView<'_>,
        env: Env<'_>,
        time: Timestamp,
        tally: &mut Tally,
    ) -> Result<(), Fault> {
        let plan = self.plan;
        let chunk = &plan.chunk;
        // Kept at the end: what repeats a chunk that is refused is refused as well, and not one of them in each pass.
        let sameness = order::sameness(view, &chunk.compared)?;
        if self.seen.contains(&sameness) {
            tally.duplicates += 1;
            return Ok(());
        }
        tally.mapped += 1;
        if let Some(number) = chunk.index.eval(env)?.to_i64()
            && !self.numbers.insert((side as u8, number))
        {
            tally.conflicts += 1;
        }
        let stream = &mut self.streams[side as usize];
        stream.witness(time);
        let mut known_format = Known::No;
        if let Some(raw) = chunk.raw.eval(env)?.into_json().filter(|raw| matches!(raw, Json::Object(_))) {
            if tally.chunk_model.is_none() {
                tally.chunk_model = known(&raw, "model").cloned();
            }
            known_format = stream.add_raw(&raw, &plan.wire);
        }
        let choice = chunk.choice.eval(env)?.to_i64().unwrap_or(0);
        if known_format == Known::No {
            let tools = chunk.tools.eval(env)?.into_json();
            let text = chunk.text.eval(env)?.into_text()?;
            let tools = tools.as_ref().and_then(Json::as_array).unwrap_or_default();
            stream.add_extract(Extract { choice, text, tools }, &chunk.fragment, chunk.rendered.as_ref());
        }
        if let Some(role) = chunk.role.eval(env)?.into_text()? {
            stream.role(choice, role);
        }
        self.seen.insert(sameness);
        Ok(())
    }

    /// Ends the turn.
    pub(super) fn finish(
        self,
        tools: &mut ToolRows,
        unit_status: Option<&str>,
        tally: &mut Tally,
    ) -> Result<Drafts, Fault> {
        let plan = self.plan;
        let namespace = self.namespace;
        let completed = self.completions.finish(&plan.completion);
        tally.mapped += completed.mapped;
        tally.superseded += completed.superseded;
        if let Some(status) = &completed.status
            && tally.status.as_deref() != Some(&*plan.completion.failure)
        {
            tally.status = Some(status.clone());
        }
        let requests = match (self.requests, completed.messages) {
            (Some(drafts), _) => drafts,
            (None, Some(Messages { messages, model, time })) => {
                if tally.request_model.is_none() {
                    tally.request_model.clone_from(&model);
                }
                let payload = request_payload(plan, namespace, Some(&messages), model.as_ref(), None)?;
                vec![Draft { payload, time }]
            }
            (None, None) => Vec::new(),
        };
        let [original, last] = self.streams;
        let [said_original, said_last] = completed.sides;
        let mut original = if original.begun() { original.finish() } else { said_original };
        let mut last = if last.begun() { last.finish() } else { said_last };
        for variant in
            [&mut original, &mut last].into_iter().flatten().filter(|variant| variant.form == Form::Assembled)
        {
            variant.choices.iter_mut().for_each(|choice| tools.fill(&mut choice.message));
        }
        let status = completed.status.or(unit_status.map(str::to_owned));
        let end = End { plan, namespace, status, failed_at: completed.failed_at };
        Ok(Drafts { requests, responses: end.responses(original, last, tools)? })
    }
}

/// One variant of a request, as a row tells it.
struct RequestSide {
    raw: Option<Json>,
    flat: Option<Json>,
}

impl RequestSide {
    fn read(plan: &Assembly, side: Side, env: Env<'_>) -> Result<Self, Fault> {
        let request = &plan.request;
        let places = &request.places[side as usize];
        let envelope = match &places.raw {
            Some(term) => term.eval(env)?.into_json(),
            None => None,
        };
        let raw = envelope.and_then(|envelope| {
            let object = |json: &&Json| matches!(json, Json::Object(_));
            let inner = request.unwrap.iter().find_map(|member| envelope.member(member).filter(object));
            match inner {
                Some(inner) => Some(inner.clone()),
                None => known(&envelope, "messages").is_some().then_some(envelope),
            }
        });
        // An empty object asks for nothing.
        let raw = raw.filter(|raw| *raw != Json::Object(Vec::new()));
        Ok(Self { raw, flat: places.flat.eval(env)?.into_json() })
    }

    fn raw_messages(&self) -> Option<&Json> {
        self.raw.as_ref().and_then(|raw| known(raw, "messages"))
    }

    fn present(&self) -> bool {
        self.flat.is_some() || self.raw_messages().is_some()
    }
}

fn request_payload(
    plan: &Assembly,
    namespace: &Uuid,
    messages: Option<&Json>,
    model: Option<&Json>,
    raw: Option<&Json>,
) -> Result<Json, Fault> {
    let outputs = [borrowed(Output::Messages, messages), borrowed(Output::Model, model), borrowed(Output::Raw, raw)];
    let env = Env { outputs: &outputs, ..Env::plain(namespace) };
    Ok(plan.request.payload.eval(env)?.into_json().unwrap_or(Json::Null))
}

fn borrowed(output: Output, json: Option<&Json>) -> (Output, Datum<'_>) {
    (output, json.map_or(Datum::NULL, |json| Datum::Json(Cow::Borrowed(json))))
}

/// What is known at the end of a turn.
struct End<'p> {
    plan: &'p Assembly,
    namespace: &'p Uuid,
    status: Option<String>,
    failed_at: Option<Timestamp>,
}

impl End<'_> {
    fn responses(
        &self,
        original: Option<Variant>,
        last: Option<Variant>,
        tools: &mut ToolRows,
    ) -> Result<Vec<Draft>, Fault> {
        let failed = self.status.as_deref() == Some(&*self.plan.completion.failure);
        let silent = [&original, &last].into_iter().flatten().all(Variant::silent);
        let earliest = [&original, &last].into_iter().flatten().map(|variant| variant.time).min();
        if let (true, true, Some(time)) = (failed, silent, self.failed_at.or(earliest)) {
            let known =
                |part: fn(Variant) -> Option<Json>| original.clone().and_then(part).or(last.clone().and_then(part));
            let message = Json::Object(Vec::new());
            let said = Said { message: Some(&message), ..Said::default() };
            let (model, usage) = (known(|variant| variant.model), known(|variant| variant.usage));
            let payload = self.payload(&Said { model: model.as_ref(), usage: usage.as_ref(), ..said })?;
            return Ok(vec![Draft { payload, time }]);
        }
        let variants = match resolve(original, last) {
            Resolved::Nothing => Vec::new(),
            Resolved::One(only) => vec![only.ended()],
            Resolved::Two(original, last) => vec![original.ended(), last.ended()],
        };
        for choice in variants.iter().flat_map(|variant| &variant.choices) {
            tools.note(&choice.message);
        }
        variants.iter().map(|variant| self.response(variant)).collect()
    }

    fn status(&self) -> (Output, Datum<'_>) {
        let value = self.status.as_deref().map_or(Value::Null, Value::text);
        (Output::Status, Datum::Value(Cow::Owned(value)))
    }

    fn response(&self, variant: &Variant) -> Result<Draft, Fault> {
        let first = variant.choices.first();
        let several =
            (variant.choices.len() > 1).then(|| Json::Array(variant.choices.iter().map(choice_json).collect()));
        let payload = self.payload(&Said {
            message: first.map(|choice| &choice.message),
            finish: first.and_then(|choice| choice.finish.as_ref()),
            usage: variant.usage.as_ref(),
            model: variant.model.as_ref(),
            choices: several.as_ref(),
        })?;
        Ok(Draft { payload, time: variant.time })
    }

    fn payload(&self, said: &Said<'_>) -> Result<Json, Fault> {
        let outputs = [
            borrowed(Output::Message, said.message),
            borrowed(Output::FinishReason, said.finish),
            borrowed(Output::Usage, said.usage),
            borrowed(Output::Model, said.model),
            borrowed(Output::Choices, said.choices),
            self.status(),
        ];
        let env = Env { outputs: &outputs, ..Env::plain(self.namespace) };
        Ok(self.plan.response.payload.eval(env)?.into_json().unwrap_or(Json::Null))
    }
}

/// What a response says; `None` where it is not known.
#[derive(Debug, Clone, Copy, Default)]
struct Said<'a> {
    message: Option<&'a Json>,
    finish: Option<&'a Json>,
    usage: Option<&'a Json>,
    model: Option<&'a Json>,
    choices: Option<&'a Json>,
}

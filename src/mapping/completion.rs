//! Several completions of a turn: which value counts, and which completions are superseded.

use super::datum::{Datum, Fault};
use super::order;
use super::plan::{Assembly, Completion, Side};
use super::term::Env;
use super::variant::{Form, Variant, without_nulls};
use super::wire;
use crate::event::{Json, Timestamp};

/// The fields that each come from the last completion that has them: original, final, messages of the request.
const FIELDS: usize = 3;

/// What a completion says in one field.
#[derive(Debug, Clone)]
enum Said {
    /// A response.
    Variant(Variant),
    /// Messages of a request.
    Messages(Messages),
}

/// Messages of a request that a completion repeats.
#[derive(Debug, Clone)]
pub(super) struct Messages {
    /// The messages.
    pub messages: Json,
    /// Model that the completion's row names.
    pub model: Option<Json>,
    /// Time of the row.
    pub time: Timestamp,
}

/// A value, as far as comparing it needs.
#[derive(Debug, Clone, Copy)]
struct Fact {
    /// Digest of the text; all there is of a flat text.
    text: [u8; 32],
    /// Digests of the messages, and of the reasons of ending where they are known; none for a flat text.
    whole: Option<([u8; 32], Option<[u8; 32]>)>,
    empty: bool,
}

impl Fact {
    /// Whether both values say the same, as two variants would.
    fn same(&self, other: &Fact) -> bool {
        match (&self.whole, &other.whole) {
            (Some((messages, finish)), Some((others, ended))) => {
                messages == others && (finish.is_none() || ended.is_none() || finish == ended)
            }
            _ => self.text == other.text,
        }
    }
}

/// The completions of one turn, in order.
#[derive(Debug, Default)]
pub(super) struct Completions {
    facts: Vec<[Option<Fact>; FIELDS]>,
    chosen: [Option<(usize, Said)>; FIELDS],
    failed: bool,
    last_status: Option<String>,
    failed_at: Option<Timestamp>,
}

/// What the completions of a turn come to.
#[derive(Debug, Default)]
pub(super) struct Completed {
    /// Response of each side.
    pub sides: [Option<Variant>; 2],
    /// Messages of the request.
    pub messages: Option<Messages>,
    /// Status.
    pub status: Option<String>,
    /// Time of the earliest failed completion.
    pub failed_at: Option<Timestamp>,
    /// Rows behind some value.
    pub mapped: u64,
    /// Rows whose values others replaced.
    pub superseded: u64,
}

impl Completions {
    /// Adds a completion.
    pub(super) fn add<'a>(&mut self, plan: &'a Assembly, env: Env<'a>, time: Timestamp) -> Result<(), Fault> {
        let completion = &plan.completion;
        if let Some(status) = completion.status.eval(env)?.into_text()? {
            if *status == *completion.failure {
                self.failed = true;
                self.failed_at = Some(self.failed_at.map_or(time, |earliest| earliest.min(time)));
            }
            self.last_status = Some(status);
        }
        let role = plan.chunk.role.eval(env)?.into_text()?;
        let original = side(plan, Side::Original, env, role.as_deref(), time)?.map(Said::Variant);
        let last = side(plan, Side::Final, env, role.as_deref(), time)?.map(Said::Variant);
        let messages = repeated(plan, env, time)?.map(Said::Messages);
        let at = self.facts.len();
        let mut facts = [None; FIELDS];
        for (field, said) in [original, last, messages].into_iter().enumerate() {
            let Some(said) = said else { continue };
            let fact = fact_of(&said);
            facts[field] = Some(fact);
            let keep = fact.empty && self.chosen[field].as_ref().is_some_and(|(_, chosen)| !fact_of(chosen).empty);
            if !keep {
                self.chosen[field] = Some((at, said));
            }
        }
        self.facts.push(facts);
        Ok(())
    }

    /// What they come to.
    pub(super) fn finish(self, completion: &Completion) -> Completed {
        let decided: [Option<(usize, Fact)>; FIELDS] =
            std::array::from_fn(|field| self.chosen[field].as_ref().map(|(at, said)| (*at, fact_of(said))));
        let superseded = self.facts.iter().enumerate().filter(|(at, facts)| {
            let chosen = decided.iter().flatten().any(|(winner, _)| winner == at);
            let differs = facts.iter().zip(&decided).any(|(fact, decided)| match (fact, decided) {
                (Some(fact), Some((_, winner))) => !fact.empty && !fact.same(winner),
                _ => false,
            });
            !chosen && differs
        });
        let superseded = superseded.count() as u64;
        let [original, last, messages] = self.chosen.map(|chosen| chosen.map(|(_, said)| said));
        let variant = |said: Option<Said>| match said {
            Some(Said::Variant(variant)) => Some(variant),
            _ => None,
        };
        let messages = match messages {
            Some(Said::Messages(messages)) => Some(messages),
            _ => None,
        };
        let status = if self.failed { Some(completion.failure.to_string()) } else { self.last_status };
        Completed {
            sides: [variant(original), variant(last)],
            messages,
            status,
            failed_at: self.failed_at,
            mapped: self.facts.len() as u64 - superseded,
            superseded,
        }
    }
}

fn fact_of(said: &Said) -> Fact {
    match said {
        Said::Messages(repeated) => {
            Fact { text: order::document_digest(&repeated.messages), whole: None, empty: false }
        }
        Said::Variant(variant) => Fact {
            text: order::document_digest(&Json::String(variant.text())),
            whole: (variant.form != Form::Flat).then(|| digests(variant)),
            empty: variant.empty_text(),
        },
    }
}

fn digests(variant: &Variant) -> ([u8; 32], Option<[u8; 32]>) {
    let messages = variant.choices.iter().map(|choice| without_nulls(&choice.message)).collect();
    let known = variant.choices.iter().any(|choice| choice.finish.is_some());
    let finish = variant.choices.iter().map(|choice| choice.finish.clone().unwrap_or(Json::Null)).collect();
    (order::document_digest(&Json::Array(messages)), known.then(|| order::document_digest(&Json::Array(finish))))
}

/// The messages that a completion repeats, unless there are none.
fn repeated(plan: &Assembly, env: Env<'_>, time: Timestamp) -> Result<Option<Messages>, Fault> {
    let Some(term) = &plan.request.fallback else { return Ok(None) };
    let found = term.eval(env)?.into_json().filter(|json| json.as_array().is_none_or(|list| !list.is_empty()));
    let Some(messages) = found else { return Ok(None) };
    let model = match &plan.request.model {
        Some(term) => term.eval(env)?.into_json(),
        None => None,
    };
    Ok(Some(Messages { messages, model, time }))
}

/// The response that a completion tells for one side: its raw object, else its flat text.
fn side(
    plan: &Assembly,
    side: Side,
    env: Env<'_>,
    role: Option<&str>,
    time: Timestamp,
) -> Result<Option<Variant>, Fault> {
    let places = &plan.completion.places[side as usize];
    if let Some(raw) = &places.raw {
        let document = unwrapped(plan, raw.eval(env)?, env)?;
        if let Some(whole) = document.as_ref().and_then(|json| wire::whole(json, &plan.wire)) {
            return Ok(Some(Variant::whole(whole, time)));
        }
    }
    let flat = places.flat.eval(env)?.into_text()?;
    Ok(flat.map(|text| Variant::flat(text, role.map(str::to_owned), time)))
}

fn unwrapped(plan: &Assembly, document: Datum<'_>, env: Env<'_>) -> Result<Option<Json>, Fault> {
    let Some(json) = document.into_json() else { return Ok(None) };
    let Some(unwrap) = &plan.completion.unwrap else { return Ok(Some(json)) };
    let when = unwrap.when.eval(env)?.into_text()?;
    if !when.is_some_and(|when| unwrap.is.iter().any(|is| **is == *when)) {
        return Ok(Some(json));
    }
    let inner = unwrap.members.iter().find_map(|member| wire::known(&json, member)).cloned();
    Ok(Some(inner.unwrap_or(json)))
}

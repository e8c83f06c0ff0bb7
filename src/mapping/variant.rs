//! The two variants of a response, and when they say the same.

use super::wire::{self, Choice, Whole};
use crate::event::{Json, Timestamp};

/// What a variant was made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// The old writer's text alone.
    Flat,
    /// Chunks.
    Assembled,
    /// A document that came whole.
    Whole,
}

/// One variant of a response.
#[derive(Debug, Clone)]
pub(super) struct Variant {
    /// Choices by number, at least one.
    pub choices: Vec<Choice>,
    /// Model.
    pub model: Option<Json>,
    /// Tokens used.
    pub usage: Option<Json>,
    /// What it was made from.
    pub form: Form,
    /// Time of the earliest row behind it.
    pub time: Timestamp,
}

impl Variant {
    /// A variant that is only a text.
    pub(super) fn flat(text: String, role: Option<String>, time: Timestamp) -> Self {
        let role = Json::String(role.unwrap_or_else(|| "assistant".into()));
        let message = Json::Object(vec![("role".into(), role), ("content".into(), Json::String(text))]);
        let choices = vec![Choice { index: 0, message, finish: None }];
        Self { choices, model: None, usage: None, form: Form::Flat, time }
    }

    /// A variant that came whole.
    pub(super) fn whole(whole: Whole, time: Timestamp) -> Self {
        let Whole { choices, model, usage } = whole;
        Self { choices, model, usage, form: Form::Whole, time }
    }

    /// The text of the first choice.
    pub(super) fn text(&self) -> String {
        wire::content_text(self.choices.first().and_then(|choice| choice.message.member("content")))
    }

    /// Whether no choice says anything.
    pub(super) fn silent(&self) -> bool {
        self.choices.iter().all(|choice| wire::silent(&choice.message))
    }

    /// Whether this is a flat text of no length.
    pub(super) fn empty_text(&self) -> bool {
        self.form == Form::Flat && self.text().is_empty()
    }

    /// Whether both say the same: messages alike, and reasons of ending alike or unknown on one side; against a flat text
    /// only the texts count.
    fn same(&self, other: &Variant) -> bool {
        if self.form == Form::Flat || other.form == Form::Flat {
            return self.text() == other.text();
        }
        self.choices.len() == other.choices.len()
            && self.choices.iter().zip(&other.choices).all(|(a, b)| {
                let finish = match (&a.finish, &b.finish) {
                    (Some(a), Some(b)) => a.same(b),
                    _ => true,
                };
                finish && a.index == b.index && without_nulls(&a.message).same(&without_nulls(&b.message))
            })
    }

    /// Both variants as one: the one with messages, with what the other knows more.
    fn merged(original: Variant, last: Variant) -> Variant {
        let time = original.time.min(last.time);
        let (model, usage) =
            (original.model.clone().or(last.model.clone()), original.usage.clone().or(last.usage.clone()));
        let (mut kept, other) = match (original.form, last.form) {
            (Form::Flat, Form::Assembled | Form::Whole) => (last, original),
            _ => (original, last),
        };
        for (choice, known) in kept.choices.iter_mut().zip(other.choices) {
            choice.finish = choice.finish.take().or(known.finish);
        }
        Variant { model, usage, time, ..kept }
    }
}

/// The members of a message that are not null: a writer may spell out what another leaves away.
pub(super) fn without_nulls(message: &Json) -> Json {
    match message {
        Json::Object(members) => {
            Json::Object(members.iter().filter(|(_, value)| *value != Json::Null).cloned().collect())
        }
        other => other.clone(),
    }
}

impl Variant {
    /// Streamed tool calls end a choice when nothing else is known to have ended it.
    pub(super) fn ended(mut self) -> Self {
        if self.form == Form::Assembled {
            for choice in &mut self.choices {
                if choice.finish.is_none() && wire::known(&choice.message, "tool_calls").is_some() {
                    choice.finish = Some(Json::String("tool_calls".into()));
                }
            }
        }
        self
    }
}

/// What the two variants come to.
#[derive(Debug, Clone)]
pub(super) enum Resolved {
    /// Neither has a source.
    Nothing,
    /// One alone, or two that say the same.
    One(Variant),
    /// Two that differ: original, final.
    Two(Variant, Variant),
}

/// Weighs the two variants.
pub(super) fn resolve(original: Option<Variant>, last: Option<Variant>) -> Resolved {
    match (original, last) {
        (None, None) => Resolved::Nothing,
        (Some(only), None) | (None, Some(only)) => Resolved::One(only),
        // An empty text says nothing beside another source.
        (Some(original), Some(last)) if original.empty_text() && !last.empty_text() => Resolved::One(last),
        (Some(original), Some(last)) if last.empty_text() && !original.empty_text() => Resolved::One(original),
        (Some(original), Some(last)) if original.same(&last) => Resolved::One(Variant::merged(original, last)),
        (Some(original), Some(last)) => Resolved::Two(original, last),
    }
}

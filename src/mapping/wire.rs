//! Published wire formats: OpenAI chat completions (whole and streamed) and Anthropic messages. Nothing else (I11).

use super::plan::Wire;
use crate::event::{Decimal, Json};

/// One choice of a streamed chunk.
#[derive(Debug, Clone, Copy)]
pub(super) struct Delta<'a> {
    /// Number of the choice.
    pub index: i64,
    /// What the chunk adds; `None` when it adds nothing.
    pub delta: Option<&'a Json>,
    /// Why the choice ended.
    pub finish: Option<&'a Json>,
}

/// One choice of a response.
#[derive(Debug, Clone)]
pub(super) struct Choice {
    /// Its number.
    pub index: i64,
    /// Its message.
    pub message: Json,
    /// Why it ended.
    pub finish: Option<Json>,
}

/// A response that came whole.
#[derive(Debug, Clone)]
pub(super) struct Whole {
    /// At least one choice, by number.
    pub choices: Vec<Choice>,
    /// Model.
    pub model: Option<Json>,
    /// Tokens used.
    pub usage: Option<Json>,
}

/// A member that is there and not null.
pub(super) fn known<'a>(json: &'a Json, member: &str) -> Option<&'a Json> {
    json.member(member).filter(|value| **value != Json::Null)
}

/// The choices of a streamed chunk; `None` when the document is no chunk of a known format.
pub(super) fn deltas<'a>(chunk: &'a Json, formats: &[Wire]) -> Option<Vec<Delta<'a>>> {
    if !formats.contains(&Wire::OpenAiChat) {
        return None;
    }
    let choices = chunk.member("choices")?.as_array()?;
    Some(
        choices
            .iter()
            .enumerate()
            .map(|(place, choice)| Delta {
                index: number(choice, place),
                // A policy that answers in one piece may put a whole message where a delta belongs.
                delta: known(choice, "delta").or_else(|| known(choice, "message")),
                finish: known(choice, "finish_reason"),
            })
            .collect(),
    )
}

/// A response that came whole; `None` when the document is none of a known format.
pub(super) fn whole(document: &Json, formats: &[Wire]) -> Option<Whole> {
    let choices = formats.iter().find_map(|format| match format {
        Wire::OpenAiChat => openai_choices(document),
        Wire::AnthropicMessages => anthropic_choice(document),
    })?;
    Some(Whole { choices, model: known(document, "model").cloned(), usage: known(document, "usage").cloned() })
}

fn openai_choices(document: &Json) -> Option<Vec<Choice>> {
    let mut choices: Vec<Choice> = document
        .member("choices")?
        .as_array()?
        .iter()
        .enumerate()
        .filter_map(|(place, choice)| {
            let message = known(choice, "message").filter(|message| matches!(message, Json::Object(_)))?.clone();
            Some(Choice { index: number(choice, place), message, finish: known(choice, "finish_reason").cloned() })
        })
        .collect();
    choices.sort_by_key(|choice| choice.index);
    (!choices.is_empty()).then_some(choices)
}

fn anthropic_choice(document: &Json) -> Option<Vec<Choice>> {
    let content = document.member("content").filter(|content| content.as_array().is_some())?.clone();
    let role = known(document, "role").cloned().unwrap_or_else(|| Json::String("assistant".into()));
    let message = Json::Object(vec![("role".into(), role), ("content".into(), content)]);
    Some(vec![Choice { index: 0, message, finish: known(document, "stop_reason").cloned() }])
}

fn number(choice: &Json, place: usize) -> i64 {
    let given = match choice.member("index") {
        Some(Json::Number(number)) => number.to_i64(),
        _ => None,
    };
    given.unwrap_or_else(|| i64::try_from(place).unwrap_or(i64::MAX))
}

/// The text of a message's content: a string, or the text blocks of a list.
pub(super) fn content_text(content: Option<&Json>) -> String {
    match content {
        Some(Json::String(text)) => text.clone(),
        Some(Json::Array(blocks)) => {
            blocks.iter().filter_map(|block| block.member("text").and_then(Json::as_str)).collect()
        }
        _ => String::new(),
    }
}

/// Whether a message says nothing: no text, no other block, no call, no refusal.
pub(super) fn silent(message: &Json) -> bool {
    let content = match message.member("content") {
        Some(Json::Array(blocks)) => blocks.iter().all(|block| {
            block.member("type").and_then(Json::as_str) == Some("text")
                && block.member("text").and_then(Json::as_str).is_none_or(str::is_empty)
        }),
        content => content_text(content).is_empty(),
    };
    let listed = known(message, "tool_calls").and_then(Json::as_array).is_some_and(|calls| !calls.is_empty());
    content && !listed && known(message, "function_call").is_none() && known(message, "refusal").is_none()
}

/// A tool call as a message tells it.
#[derive(Debug, Clone)]
pub(super) struct ToolCall {
    /// Id.
    pub id: Option<String>,
    /// Name.
    pub name: Option<String>,
    /// Text of the arguments.
    pub arguments: String,
}

/// The tool calls of a message, of either format.
pub(super) fn tool_calls(message: &Json) -> Vec<ToolCall> {
    let text = |json: Option<&Json>| json.and_then(Json::as_str).map(str::to_owned);
    let listed = message.member("tool_calls").and_then(Json::as_array).unwrap_or_default();
    let mut calls: Vec<ToolCall> = listed
        .iter()
        .map(|call| {
            let function = call.member("function");
            ToolCall {
                id: text(call.member("id")),
                name: text(function.and_then(|function| function.member("name"))),
                arguments: text(function.and_then(|function| function.member("arguments"))).unwrap_or_default(),
            }
        })
        .collect();
    let blocks = message.member("content").and_then(Json::as_array).unwrap_or_default();
    calls.extend(blocks.iter().filter(|block| block.member("type").and_then(Json::as_str) == Some("tool_use")).map(
        |block| ToolCall {
            id: text(block.member("id")),
            name: text(block.member("name")),
            arguments: known(block, "input").map(Json::to_text).unwrap_or_default(),
        },
    ));
    calls
}

/// A choice as a member of a list of choices.
pub(super) fn choice_json(choice: &Choice) -> Json {
    Json::Object(vec![
        ("index".into(), Json::Number(Decimal::from(choice.index))),
        ("message".into(), choice.message.clone()),
        ("finish_reason".into(), choice.finish.clone().unwrap_or(Json::Null)),
    ])
}

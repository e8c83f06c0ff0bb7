//! Values that templates give: what they are in a row, in JSON, in an item and in SQL.

use std::borrow::Cow;

use serde_json::{Value as Json, json};

/// A placeholder's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// SQL NULL, or JSON null.
    Null,
    /// A key that is left out of its JSON object; NULL as a column.
    Absent,
    /// Text.
    Text(String),
    /// A number's digits, or other JSON as it stands.
    Json(String),
    /// A JSON array, or items to repeat a step for.
    List(Vec<Value>),
    /// A JSON object, its keys in the order of the file.
    Map(Vec<(String, Value)>),
}

impl Value {
    /// Its text; that of a list or an object is JSON, and a null has none.
    pub fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Text(text) | Self::Json(text) => Cow::Borrowed(text),
            Self::Null | Self::Absent => Cow::Borrowed(""),
            Self::List(_) | Self::Map(_) => Cow::Owned(self.json().unwrap_or_default()),
        }
    }

    /// As a column of a row: NULL or text that the server turns into the column's type.
    pub fn column(&self) -> Option<String> {
        match self {
            Self::Null | Self::Absent => None,
            other => Some(other.text().into_owned()),
        }
    }

    /// As JSON; `None` when it is left out.
    pub fn json(&self) -> Option<String> {
        match self {
            Self::Absent => None,
            Self::Null => Some("null".to_owned()),
            Self::Text(text) => Some(json_string(text)),
            Self::Json(text) => Some(text.clone()),
            Self::List(items) => {
                Some(format!("[{}]", items.iter().filter_map(Self::json).collect::<Vec<_>>().join(",")))
            }
            Self::Map(entries) => {
                let entry = |(key, value): &(String, Self)| Some(format!("{}:{}", json_string(key), value.json()?));
                Some(format!("{{{}}}", entries.iter().filter_map(entry).collect::<Vec<_>>().join(",")))
            }
        }
    }

    /// As an attribute of an item, in DynamoDB JSON; `None` when it is left out.
    ///
    /// Sets and binary have no form here. A number keeps its digits, being text in DynamoDB JSON.
    pub fn attribute(&self) -> Option<Json> {
        Some(match self {
            Self::Absent => return None,
            Self::Null => json!({ "NULL": true }),
            Self::Text(text) => json!({ "S": text }),
            Self::Json(text) if matches!(text.as_str(), "true" | "false") => json!({ "BOOL": text == "true" }),
            Self::Json(digits) => json!({ "N": digits }),
            Self::List(items) => json!({ "L": items.iter().filter_map(Self::attribute).collect::<Vec<_>>() }),
            Self::Map(entries) => {
                let entries = entries.iter().filter_map(|(key, value)| Some((key.clone(), value.attribute()?)));
                json!({ "M": entries.collect::<serde_json::Map<_, _>>() })
            }
        })
    }

    /// As a literal of SQL, typed by where it stands.
    pub fn literal(&self) -> String {
        self.column().map_or_else(|| "NULL".to_owned(), |text| quote_literal(&text))
    }
}

/// Text as a JSON string.
pub(super) fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Text as a literal of SQL (`standard_conforming_strings` is on unless a server was told otherwise).
pub(super) fn quote_literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

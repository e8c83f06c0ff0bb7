//! What may stand in each file of a migration, as JSON Schema for editors, from the types that read them.

use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::{raw, raw_dynamo};

/// A schema for one kind of file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EditorSchema {
    /// Name of the schema's file: `mapping.schema.json`.
    pub name: &'static str,
    /// The schema, to be written as it is.
    pub text: String,
}

/// Schemas of the files of a migration's folder.
pub fn editor_schemas() -> Vec<EditorSchema> {
    vec![
        EditorSchema { name: "legacy.schema.json", text: shown::<raw::Legacy>("legacy.toml of a rehome migration") },
        EditorSchema { name: "mapping.schema.json", text: shown::<raw::Mapping>("mapping.toml of a rehome migration") },
        EditorSchema { name: "cases.schema.json", text: shown::<raw::CaseFile>("cases/*.toml of a rehome migration") },
        EditorSchema {
            name: "target.schema.json",
            text: shown::<raw_dynamo::Target>("target.toml of a rehome migration"),
        },
    ]
}

/// The schema of a file's type.
pub(crate) fn shown<T: JsonSchema>(title: &str) -> String {
    let mut schema = SchemaGenerator::default().into_root_schema_for::<T>().to_value();
    settle(&mut schema);
    if let Some(members) = schema.as_object_mut() {
        members.insert("title".to_owned(), json!(title));
    }
    let mut text = serde_json::to_string_pretty(&sorted(schema)).expect("a schema is JSON");
    text.push('\n');
    text
}

/// Takes out what TOML does not have, which is null, and adds the second name of a row map's columns.
fn settle(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(settle),
        Value::Object(members) => {
            without_null(members);
            second_name(members);
            members.values_mut().for_each(settle);
        }
        _ => {}
    }
}

fn without_null(members: &mut Map<String, Value>) {
    members.remove("default");
    if let Some(Value::Array(types)) = members.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            members.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(any)) = members.get_mut("anyOf") {
        any.retain(|one| *one != json!({ "type": "null" }));
        if let [only] = any.as_slice()
            && let Some(only) = only.as_object().cloned()
        {
            members.remove("anyOf");
            members.extend(only);
        }
    }
}

/// `attributes` is another name of `columns` where serde has it as an alias, which a schema does not tell.
fn second_name(members: &mut Map<String, Value>) {
    let row_map = ["from", "to", "columns", "synthesise"];
    let Some(Value::Object(properties)) = members.get_mut("properties") else { return };
    if !row_map.iter().all(|name| properties.contains_key(*name)) {
        return;
    }
    let columns = properties["columns"].clone();
    properties.insert("attributes".to_owned(), columns);
    if let Some(Value::Array(required)) = members.get_mut("required") {
        required.retain(|name| name != "columns");
    }
    members.insert("oneOf".to_owned(), json!([{ "required": ["columns"] }, { "required": ["attributes"] }]));
}

/// The same with members in order, so that the text does not change with the order of code.
fn sorted(value: Value) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        Value::Object(members) => {
            let mut members: Vec<_> = members.into_iter().map(|(name, member)| (name, sorted(member))).collect();
            members.sort_by(|one, other| one.0.cmp(&other.0));
            Value::Object(members.into_iter().collect())
        }
        plain => plain,
    }
}

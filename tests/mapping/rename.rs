//! I11: nothing under `src/` knows a migration.

use rehome::mapping::{Migration, SourceFile, Sources, run_cases};

use crate::support::{luthien, luthien_sources, root, shipped};

/// Columns of the old writer, as they are reached in paths and in rows of examples.
fn columns(migration: &Migration) -> Vec<String> {
    let mut names: Vec<String> = migration
        .source_tables()
        .iter()
        .flat_map(|table| table.columns.iter().map(|column| column.name.to_string()))
        .collect();
    names.sort();
    names.dedup();
    names
}

/// Event types, statuses, and members of the old writer's own documents.
const EVENT_TYPES: [&str; 4] = ["request_started", "original_chunk", "final_chunk", "request_completed"];
/// Members at the top of an event's payload.
const PAYLOAD: [&str; 15] = [
    "original_messages",
    "final_messages",
    "request_messages",
    "raw_original",
    "raw_result",
    "raw_chunk",
    "raw_payload",
    "original_response",
    "final_response",
    "completion_reason",
    "tool_call_ids",
    "delta",
    "model",
    "status",
    "tool_calls",
];
/// Members of the old writer's envelopes.
const ENVELOPE: [&str; 5] = ["data", "request_data", "response", "response_obj", "raw_response"];

fn renamed(name: &str) -> String {
    format!("zq_{}", name.chars().rev().collect::<String>())
}

/// Says what a key or a text becomes, knowing the path to it; `None` leaves it.
type Decide = dyn Fn(&[String], &str, Role) -> Option<String>;

/// Renames in a tree of TOML: `decide` says what a key or a text becomes, knowing the path to it.
fn walk(value: &mut toml::Value, path: &mut Vec<String>, decide: &Decide) {
    match value {
        toml::Value::Table(table) => {
            for (key, mut inner) in std::mem::take(table) {
                path.push(key.clone());
                walk(&mut inner, path, decide);
                path.pop();
                table.insert(decide(path, &key, Role::Key).unwrap_or(key), inner);
            }
        }
        toml::Value::Array(items) => items.iter_mut().for_each(|item| walk(item, path, decide)),
        toml::Value::String(text) => {
            if let Some(new) = decide(path, text, Role::Text) {
                *text = new;
            }
        }
        _ => {}
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Role {
    Key,
    Text,
}

/// `.column.member` with both renamed.
fn path_renamed(text: &str) -> Option<String> {
    let mut parts = text.strip_prefix('.')?.split('.');
    let column = renamed(parts.next()?);
    let members: String = parts.map(|part| format!(".{}", renamed(part))).collect();
    Some(format!(".{column}{members}"))
}

fn rename_legacy(path: &[String], text: &str, role: Role) -> Option<String> {
    let last = path.last().map(String::as_str);
    match role {
        // Tables under [table], columns under columns and drop.
        Role::Key => match last {
            Some("table" | "columns" | "drop") => Some(renamed(text)),
            _ => None,
        },
        Role::Text if path.iter().any(|part| part == "columns") => None,
        Role::Text => matches!(last, Some("name" | "key")).then(|| renamed(text)),
    }
}

fn rename_mapping(path: &[String], text: &str, role: Role) -> Option<String> {
    // Readers ask for the target's names, which stay.
    if path.first().is_some_and(|first| first == "query") {
        return None;
    }
    let last = path.last().map(String::as_str).unwrap_or_default();
    let within = |name: &str| path.iter().any(|part| part == name);
    match role {
        Role::Key if path == ["unit"] || path == ["time"] => Some(renamed(text)),
        Role::Key if within("synthesise") && last == "values" => Some(renamed(text)),
        Role::Key if path == ["cases", "status"] => Some(renamed(text)),
        Role::Key => None,
        Role::Text if text.starts_with('.') => path_renamed(text),
        Role::Text => {
            let first = path.first().map(String::as_str).unwrap_or_default();
            let named = matches!(first, "unit" | "time")
                || matches!(last, "from" | "parent" | "same_but")
                || (last == "order" && text != "request first")
                || (within("class") && last != "unknown" && last != "by")
                || matches!(last, "unwrap" | "members" | "is")
                || (within("fragment") && matches!(last, "id" | "type" | "name" | "arguments"));
            named.then(|| renamed(text))
        }
    }
}

/// Renames the members of a document of an event: the payload's own, its envelopes', its tool fragments'.
fn rename_document(column: &str, text: &str) -> String {
    use rehome::event::Json;
    fn members(json: Json, rename: &dyn Fn(String, Json) -> (String, Json)) -> Json {
        match json {
            Json::Object(members) => Json::Object(members.into_iter().map(|(key, value)| rename(key, value)).collect()),
            other => other,
        }
    }
    let envelope = |json: Json| {
        members(json, &|key, value| (if ENVELOPE.contains(&key.as_str()) { renamed(&key) } else { key }, value))
    };
    let fragment = |json: Json| members(json, &|key, value| (renamed(&key), value));
    let document = Json::parse(text).expect("JSON in an example");
    if column != "payload" {
        return text.to_owned();
    }
    let top = members(document, &|key, value| {
        let value = match (key.as_str(), value) {
            ("raw_original" | "raw_result", value) => envelope(value),
            ("tool_calls", Json::Array(items)) => Json::Array(items.into_iter().map(fragment).collect()),
            ("status", Json::String(status)) => Json::String(renamed_status(&status)),
            (_, value) => value,
        };
        (if PAYLOAD.contains(&key.as_str()) { renamed(&key) } else { key }, value)
    });
    top.to_text()
}

/// A status that the table of cases lists gets another name; one that it does not list is kept.
fn renamed_status(status: &str) -> String {
    if ["success", "stream_summary", "failure", "streaming", "started"].contains(&status) {
        renamed(status)
    } else {
        status.to_owned()
    }
}

fn rename_cases(path: &[String], text: &str, role: Role) -> Option<String> {
    let last = path.last().map(String::as_str).unwrap_or_default();
    let depth = path.iter().position(|part| part == "given" || part == "defaults");
    if let Some(depth) = depth {
        let below = path.len() - depth;
        return match role {
            // The table, and the columns of its rows.
            Role::Key => Some(renamed(text)),
            Role::Text if below < 3 => None,
            Role::Text if last == "event_type" => Some(renamed(text)),
            Role::Text if last == "status" && path[depth + 1] == "calls" => Some(renamed_status(text)),
            Role::Text if last == "payload" => Some(rename_document(last, text)),
            Role::Text => None,
        };
    }
    let account = matches!(last, "mapped" | "dropped" | "quarantined");
    (role == Role::Key && path.iter().any(|part| part == "expect") && account).then(|| renamed(text))
}

fn rewrite(file: &SourceFile, decide: &Decide) -> SourceFile {
    let mut value = toml::Value::Table(toml::from_str(&file.text).expect("TOML"));
    walk(&mut value, &mut Vec::new(), decide);
    SourceFile::new(file.name.clone(), toml::to_string(&value).expect("TOML"))
}

#[test]
fn with_every_name_of_the_old_writer_changed_all_examples_hold() {
    let sources = luthien_sources();
    let copy = Sources {
        legacy: rewrite(&sources.legacy, &rename_legacy),
        mapping: rewrite(&sources.mapping, &rename_mapping),
        target: sources.target.clone(),
        cases: sources.cases.iter().map(|file| rewrite(file, &rename_cases)).collect(),
    };
    let changed = Migration::compile(&copy).unwrap_or_else(|error| panic!("{error}"));
    let original = luthien();
    let names = columns(&original);
    assert!(columns(&changed).iter().all(|name| !names.contains(name)), "{:?}", columns(&changed));
    for event_type in EVENT_TYPES {
        assert!(!copy.mapping.text.contains(&format!("\"{event_type}\"")), "{event_type} is still there");
    }
    let results = run_cases(&changed);
    assert_eq!(results.len(), original.cases().len());
    let failed: Vec<_> = results.iter().filter(|result| !result.failures.is_empty()).collect();
    assert!(failed.is_empty(), "{} failed, first: {:#?}", failed.len(), failed.first());
}

/// Names of the old writer that are also words of a published wire format, or that anyone gives to a time.
/// `file_name` is also a method of the standard library's paths.
const SHARED: [&str; 5] = ["tool_calls", "created_at", "updated_at", "completed_at", "file_name"];

#[test]
fn no_name_of_a_migration_stands_in_the_source() {
    let mut words: Vec<String> = Vec::new();
    for migration in ["luthien", "semantik", "jobs", "delphi"].map(shipped) {
        words.extend(columns(&migration));
        words.extend(migration.source_tables().iter().map(|table| table.name.to_string()));
        words.extend(migration.target_tables().iter().map(|table| table.name.to_string()));
    }
    words.extend(EVENT_TYPES.iter().chain(&PAYLOAD).chain(&ENVELOPE).map(ToString::to_string));
    words.retain(|word| word.contains('_') && !SHARED.contains(&word.as_str()));
    words.extend(["luthien", "semantik", "algoitny", "delphi"].map(Into::into));
    assert!(words.len() > 70, "{words:?}");
    let mut files = vec![root("src")];
    let mut read = 0;
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(std::fs::read_dir(&path).expect("a folder").map(|entry| entry.expect("an entry").path()));
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a source file");
        read += 1;
        for word in &words {
            let found = text.lines().position(|line| holds(line, word));
            assert_eq!(found, None, "`{word}` stands in {}", path.display());
        }
    }
    assert!(read > 15, "only {read} files");
}

/// Whether a line of code holds a word as a whole.
fn holds(line: &str, word: &str) -> bool {
    let letter = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    line.match_indices(word).any(|(at, _)| {
        let bytes = line.as_bytes();
        !letter(at.checked_sub(1).and_then(|before| bytes.get(before))) && !letter(bytes.get(at + word.len()))
    })
}

//! I11 for the migrations that map rows and groups: every table, column and label of the old writer gets another name in a copy of
//! the files, the examples and the data, and everything comes out as before.

use std::path::Path;

use rehome::event::Json;
use rehome::mapping::{Migration, SourceFile, Sources, run_cases};

use crate::jsonl;
use crate::rename::{Role, path_renamed, rename_legacy, renamed, rewrite};
use crate::support::root;

/// What of a migration's files no rule tells apart from the new writer's own words.
struct Labels {
    /// Words of enums, wherever they stand.
    words: &'static [&'static str],
    /// Columns whose values are such words; the tables of cases that translate them list the words.
    columns: &'static [&'static str],
    /// Those tables of cases.
    cases: &'static [&'static str],
}

const SEMANTIK: Labels =
    Labels { words: &[], columns: &["status", "job_type"], cases: &["job_status", "job_type", "document_status"] };
const JOBS: Labels =
    Labels { words: &["scriptgenerationjob", "problemextractionjob"], columns: &["model"], cases: &[] };

/// Every `{.column}` of a template with another name.
fn template_renamed(text: &str) -> Option<String> {
    let mut parts = text.split("{.");
    let mut changed = parts.next()?.to_owned();
    let mut found = false;
    for part in parts {
        let (column, rest) = part.split_once('}')?;
        changed.push_str(&format!("{{.{}}}{rest}", renamed(column)));
        found = true;
    }
    found.then_some(changed)
}

fn mapping(labels: &Labels, path: &[String], text: &str, role: Role) -> Option<String> {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    match role {
        Role::Key => {
            let by_table = matches!(path.as_slice(), ["unit" | "part" | "counted" | "let"] | ["reference", _, "by"]);
            let label = matches!(path.as_slice(), ["cases", table] if labels.cases.contains(table));
            (by_table || label).then(|| renamed(text))
        }
        Role::Text if text.starts_with('.') => path_renamed(text),
        Role::Text if text.contains("{.") => template_renamed(text),
        Role::Text => {
            let table = matches!(path.as_slice(), ["reference", _, "table"] | ["map" | "group", "from"]);
            (table || labels.words.contains(&text)).then(|| renamed(text))
        }
    }
}

fn cases(labels: &Labels, known: &[String], path: &[String], text: &str, role: Role) -> Option<String> {
    let last = path.last().map(String::as_str).unwrap_or_default();
    let given = path.iter().position(|part| part == "given" || part == "defaults");
    match (given, role) {
        // The table, and the columns of its rows.
        (Some(depth), Role::Key) if path.len() - depth < 3 => Some(renamed(text)),
        (Some(_), Role::Text) if labels.columns.contains(&last) => {
            known.contains(&text.to_owned()).then(|| renamed(text))
        }
        (None, Role::Key) => {
            let accounts = ["mapped", "dropped", "quarantined", "unplaced", "elsewhere", "waiting", "lookup"];
            (path.iter().any(|part| part == "expect") && accounts.contains(&last)).then(|| renamed(text))
        }
        _ => None,
    }
}

/// Words that the tables of cases translate, and the others.
fn known(labels: &Labels, file: &SourceFile) -> Vec<String> {
    let table: toml::Table = toml::from_str(&file.text).expect("TOML");
    let listed = labels.cases.iter().filter_map(|name| table.get("cases")?.get(name)?.as_table());
    let listed = listed.flat_map(|table| table.keys().cloned());
    listed.chain(labels.words.iter().map(ToString::to_string)).collect()
}

/// The migration, and its copy with other names.
fn both(folder: &str, labels: &Labels) -> (Migration, Migration) {
    let sources = Sources::read(&root(folder)).expect("the folder is there");
    let known = known(labels, &sources.mapping);
    assert!(!known.is_empty());
    let copy = Sources {
        legacy: rewrite(&sources.legacy, &rename_legacy),
        mapping: rewrite(&sources.mapping, &|path: &[String], text: &str, role| mapping(labels, path, text, role)),
        target: sources.target.clone(),
        cases: sources
            .cases
            .iter()
            .map(|file| rewrite(file, &|path: &[String], text: &str, role| cases(labels, &known, path, text, role)))
            .collect(),
    };
    for word in known.iter().filter(|word| labels.words.contains(&word.as_str())) {
        assert!(!copy.mapping.text.contains(word), "{word} is still there");
    }
    let compile = |sources: &Sources| Migration::compile(sources).unwrap_or_else(|error| panic!("{error}"));
    (compile(&sources), compile(&copy))
}

fn assert_same_examples(original: &Migration, changed: &Migration) {
    let names = |migration: &Migration| -> Vec<String> {
        let tables = migration.source_tables().iter();
        tables.flat_map(|table| table.live.iter().chain([&table.alias, &table.name]).map(ToString::to_string)).collect()
    };
    let before = names(original);
    assert!(names(changed).iter().all(|name| !before.contains(name)), "{:?}", names(changed));
    let results = run_cases(changed);
    assert_eq!(results.len(), original.cases().len());
    let failed: Vec<_> = results.iter().filter(|result| !result.failures.is_empty()).collect();
    assert!(failed.is_empty(), "{} failed, first: {:#?}", failed.len(), failed.first());
}

#[test]
fn with_every_name_of_semantik_changed_all_examples_hold() {
    let (original, changed) = both("schemas/semantik", &SEMANTIK);
    assert_same_examples(&original, &changed);
}

#[test]
fn with_every_name_of_jobs_changed_all_examples_hold_and_the_plan_s_rows_become_the_same_items() {
    let (original, changed) = both("schemas/jobs", &JOBS);
    assert_same_examples(&original, &changed);
    let folder = tempfile::tempdir().expect("a folder");
    let shipped = root("tests/mapping/plan003");
    for table in original.source_tables() {
        copy_renamed(&shipped, folder.path(), &table.name);
    }
    let items = |migration: &Migration, folder: &Path| -> Vec<String> {
        let corpus = jsonl::read(migration, folder).expect("the folder is there");
        let lines = jsonl::lines(migration, &corpus).expect("in memory");
        lines.into_iter().filter(|line| line.contains("\"columns\"")).collect()
    };
    let before = items(&original, &shipped);
    assert_eq!(before.len(), 93);
    assert_eq!(items(&changed, folder.path()), before);
}

/// Copies the rows of a table under other names.
fn copy_renamed(from: &Path, to: &Path, table: &str) {
    let text = std::fs::read_to_string(from.join(format!("{table}.jsonl"))).expect("a file");
    let mut copy = String::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let Json::Object(members) = Json::parse(line).expect("JSON") else { panic!("a row is an object") };
        let member = |(name, value): (String, Json)| {
            let value = match value {
                Json::String(word) if JOBS.words.contains(&word.as_str()) => Json::String(renamed(&word)),
                other => other,
            };
            (renamed(&name), value)
        };
        copy.push_str(&Json::Object(members.into_iter().map(member).collect()).to_text());
        copy.push('\n');
    }
    std::fs::write(to.join(format!("{}.jsonl", renamed(table))), copy).expect("a file");
}

//! The house rules that a tool can check: who may use whom, where vendors' crates are named, what `src/` must not know.
//!
//! The table below is the one of ARCHITECTURE.md. A file that breaks it is named with its line. Exceptions are listed with
//! their reasons, and one that nothing needs any more is itself a failure.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Modules of the crate, in the order in which data flow, each with the ones that it may use.
const LAYERS: &[(&str, &[&str])] = &[
    ("event", &[]),
    ("target", &["event", "log"]),
    ("log", &["event"]),
    ("source", &["event", "log"]),
    // The rows that a mapping yields are the ones that a target takes.
    ("mapping", &["event", "target"]),
    // Rules are about the tables that a mapping declares, and complain as it does; they run none of its terms.
    ("rules", &["event", "mapping", "target"]),
    ("postgres", &["event", "log", "source", "target"]),
    ("dynamo", &["event", "log", "source", "target"]),
    ("capture", &["event", "log", "source", "target"]),
    ("project", &["event", "mapping", "rules", "log", "source", "target"]),
    ("reconcile", &["event", "mapping", "rules", "log", "source", "target"]),
    ("report", &["event", "reconcile"]),
    // A private server, generated rows, writers; of the target it knows the shape of the row that it damages.
    ("demo", &["target"]),
    ("engine", ALL),
    ("service", ALL),
    ("cli", ALL),
];

/// Stands for every module.
const ALL: &[&str] = &["*"];

/// Uses that the table does not allow, as (file or folder, module, reason).
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    (
        "src/capture/",
        "postgres",
        "epochs and hand-off of a Postgres source: slots, snapshots and WAL have no counterpart that a seam could name",
    ),
    ("src/capture/", "dynamo", "epochs and hand-off of a DynamoDB source: streams, shards, segments"),
];

/// Vendors' crates and presentation, each with the places where it may be named.
const VENDORS: &[(&str, &[&str])] = &[
    // The engine hands a pool of connections to the target that it wires.
    ("sqlx", &["src/postgres/", "src/demo/", "src/engine/"]),
    ("pgwire_replication", &["src/postgres/"]),
    ("fjall", &["src/log/embedded/", "src/project/state.rs", "src/project/session.rs", "src/project/error.rs"]),
    ("rdkafka", &["src/log/kafka"]),
    ("aws_config", &["src/dynamo/"]),
    ("aws_sdk_dynamodb", &["src/dynamo/"]),
    ("aws_sdk_dynamodbstreams", &["src/dynamo/"]),
    ("dynoxide", &["src/demo/"]),
    ("clap", &["src/cli/"]),
    ("indicatif", &["src/cli/"]),
    ("comfy_table", &["src/cli/"]),
    ("miette", &["src/cli/", "src/mapping/"]),
    ("toml", &["src/mapping/", "src/rules/", "src/demo/"]),
    ("sqlparser", &["src/mapping/"]),
    ("askama", &["src/report/"]),
    ("aws_lc_rs", &["src/report/certificate.rs"]),
    ("hyper", &["src/cli/alarm.rs"]),
    ("hyper_rustls", &["src/cli/alarm.rs"]),
    ("hyper_util", &["src/cli/alarm.rs"]),
];

/// Places that name a migration all the same, as (file, word, reason).
const NAMED: &[(&str, &str, &str)] = &[];

/// A file of so many lines wants to be two.
const LINES_MAX: usize = 600;

/// Words of the tables of a migration that the published wire formats have too, or that any program uses.
const PUBLISHED: &[&str] = &["tool_call_id", "finish_reason", "created_at", "updated_at", "file_name", "size_bytes"];

/// Folders of the checkout that hold nothing of its own.
const NOT_OURS: &[&str] = &[".git", "target", ".rehome"];

/// Something that a rule forbids.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    file: String,
    line: usize,
    what: String,
}

#[test]
fn modules_use_only_what_their_layer_allows() {
    let sources = sources();
    let mut used = BTreeSet::new();
    let mut findings = Vec::new();
    for (file, text) in &sources {
        for finding in forbidden_uses(file, text) {
            let exception = EXCEPTIONS.iter().position(|(place, module, _)| {
                file.starts_with(place) && finding.what.ends_with(&format!(" uses {module}"))
            });
            match exception {
                Some(index) => drop(used.insert(index)),
                None => findings.push(finding),
            }
        }
    }
    assert_none(&findings);
    let unused: Vec<_> = EXCEPTIONS.iter().enumerate().filter(|(index, _)| !used.contains(index)).collect();
    assert!(unused.is_empty(), "exceptions that nothing needs any more: {unused:?}");
}

#[test]
fn every_module_has_its_place_in_the_table() {
    let library = fs::read_to_string(root().join("src/lib.rs")).expect("the library has a root");
    let modules: Vec<&str> = library
        .lines()
        .filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';'))
        .collect();
    assert!(modules.len() > 5, "the library's modules are found: {modules:?}");
    let missing: Vec<_> = modules.iter().filter(|module| !LAYERS.iter().any(|(known, _)| known == *module)).collect();
    assert!(missing.is_empty(), "modules without a line in LAYERS: {missing:?}");
}

#[test]
fn vendors_are_named_in_their_folders_only() {
    let findings: Vec<_> = sources().iter().flat_map(|(file, text)| misplaced_vendors(file, text)).collect();
    assert_none(&findings);
}

#[test]
fn no_source_file_is_longer_than_six_hundred_lines() {
    let long: Vec<_> = sources()
        .iter()
        .filter(|(_, text)| text.lines().count() > LINES_MAX)
        .map(|(file, text)| format!("{file}: {} lines", text.lines().count()))
        .collect();
    assert!(long.is_empty(), "{long:?}");
}

/// I11: multi-word names of a migration's tables and columns, and its own name, appear nowhere under `src/`.
#[test]
fn nothing_under_src_knows_a_migration() {
    let mut words = BTreeMap::new();
    for entry in fs::read_dir(root().join("schemas")).expect("there are migrations").flatten() {
        let migration = entry.file_name().to_string_lossy().into_owned();
        for file in ["legacy.toml", "target.sql", "demo/legacy.sql", "demo/target.sql"] {
            let text = fs::read_to_string(entry.path().join(file)).unwrap_or_default();
            for word in names(&without_comments(&text, "#", "--")) {
                if word.contains('_') && !PUBLISHED.contains(&word.as_str()) && !reserved(&word) {
                    words.insert(word, migration.clone());
                }
            }
        }
        words.insert(migration.clone(), migration);
    }
    assert!(words.len() > 20, "names are found: {words:?}");
    let mut findings = Vec::new();
    let mut named = BTreeSet::new();
    for (file, text) in sources() {
        for (number, line) in code_lines(&text) {
            findings.extend(names(&line).into_iter().filter_map(|word| {
                let migration = words.get(&word)?;
                if let Some(exception) = NAMED.iter().find(|(place, name, _)| *place == file && *name == word) {
                    named.insert(*exception);
                    return None;
                }
                Some(Finding { file: file.clone(), line: number, what: format!("`{word}` is of {migration}") })
            }));
        }
    }
    assert_none(&findings);
    assert_eq!(named.len(), NAMED.len(), "exceptions that nothing needs any more: only {named:?} do");
}

#[test]
fn no_file_names_a_folder_of_one_machine() {
    // Put together here, so that this file does not hold what it looks for.
    let forbidden: Vec<String> =
        ["work", "root", "home/user", "farm", "tmp/wt", "Users"].iter().map(|folder| format!("/{folder}/")).collect();
    let mut findings = Vec::new();
    let mut files = 0;
    for path in walk(&root()) {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        files += 1;
        for (number, line) in text.lines().enumerate() {
            findings.extend(forbidden.iter().filter(|folder| names_folder(line, folder)).map(|folder| Finding {
                file: shown(&path),
                line: number + 1,
                what: format!("names {folder}"),
            }));
        }
    }
    assert!(files > 50, "the checkout's files are found: {files}");
    assert_none(&findings);
}

#[test]
fn a_use_against_the_flow_is_found_with_its_line() {
    let found = |file: &str, text: &str| {
        forbidden_uses(file, text).into_iter().map(|finding| (finding.line, finding.what)).collect::<Vec<_>>()
    };
    let uses = |line, from: &str, module: &str| vec![(line, format!("{from} uses {module}"))];
    assert_eq!(found("src/event/row.rs", "//! x\nuse crate::log::Batch;\n"), uses(2, "event", "log"));
    assert_eq!(found("src/event.rs", "fn f() { crate::cli::g() }\n"), uses(1, "event", "cli"));
    assert_eq!(
        found("src/log/a.rs", "use crate::{\n    event::{Row, log},\n    engine,\n};\n"),
        uses(1, "log", "engine")
    );
    assert_eq!(found("src/event/row.rs", "use super::super::cli::Exit;\n"), uses(1, "event", "cli"));
    assert_eq!(found("src/event/row.rs", "// crate::cli is not used\n/// [`crate::cli`]\nuse super::Key;\n"), vec![]);
    assert_eq!(found("src/cli/run.rs", "use crate::engine::Engine;\n"), vec![]);
}

#[test]
fn a_vendor_outside_its_folder_is_found_with_its_line() {
    let lines = |file: &str, text: &str| misplaced_vendors(file, text).iter().map(|f| f.line).collect::<Vec<_>>();
    assert_eq!(lines("src/event/row.rs", "//! x\nuse sqlx::PgConnection;\n"), [2]);
    assert_eq!(lines("src/event/row.rs", "fn f() -> sqlx::Error {}\nuse fjall;\n"), [1, 2]);
    assert_eq!(lines("src/postgres/feed.rs", "use sqlx::PgConnection;\n"), [0; 0]);
    assert_eq!(lines("src/event/row.rs", "// sqlx::Error\nlet my_sqlx = 1;\n"), [0; 0]);
}

/// Uses of other modules that the table does not allow.
fn forbidden_uses(file: &str, text: &str) -> Vec<Finding> {
    let inside = file.trim_start_matches("src/");
    let module = inside.split(['/', '.']).next().unwrap_or_default();
    let allowed = LAYERS.iter().find(|(name, _)| *name == module).map_or(ALL, |(_, allowed)| *allowed);
    let depth = inside.trim_end_matches(".rs").split('/').filter(|part| *part != "mod").count();
    let mut findings = Vec::new();
    for (line, used) in used_modules(text, depth) {
        let is_known = LAYERS.iter().any(|(name, _)| *name == used);
        if is_known && used != module && allowed != ALL && !allowed.contains(&used.as_str()) {
            findings.push(Finding { file: file.to_owned(), line, what: format!("{module} uses {used}") });
        }
    }
    findings
}

/// The crate's modules that a text names, by `crate::…`, `crate::{…}` or enough of `super::`, with lines.
fn used_modules(text: &str, depth: usize) -> Vec<(usize, String)> {
    let code: String = code_lines(text).into_iter().map(|(_, line)| line + "\n").collect();
    let escape = "super::".repeat(depth);
    let mut found = Vec::new();
    for prefix in ["crate::", escape.as_str()] {
        for (start, _) in code.match_indices(prefix) {
            let is_part = code[..start].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
            if is_part {
                continue;
            }
            let line = code[..start].matches('\n').count() + 1;
            let rest = &code[start + prefix.len()..];
            match rest.strip_prefix('{') {
                Some(group) => found.extend(heads(group).into_iter().map(|name| (line, name))),
                None => found.extend(names(rest).first().map(|name| (line, name.clone()))),
            }
        }
    }
    found
}

/// First names of the items of a group, whose opening brace has been read.
fn heads(group: &str) -> Vec<String> {
    let (mut depth, mut item, mut items) = (0, String::new(), Vec::new());
    for character in group.chars() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => items.push(std::mem::take(&mut item)),
            _ => {}
        }
        item.push(character);
    }
    items.push(item);
    items.iter().filter_map(|item| names(item).first().cloned()).collect()
}

/// Vendors' crates that a file names although it is not their place.
fn misplaced_vendors(file: &str, text: &str) -> Vec<Finding> {
    let strangers: Vec<&str> = VENDORS
        .iter()
        .filter(|(_, places)| !places.iter().any(|place| file.starts_with(place)))
        .map(|(vendor, _)| *vendor)
        .collect();
    let mut findings = Vec::new();
    for (line, code) in code_lines(text) {
        for vendor in &strangers {
            let is_path = code
                .match_indices(&format!("{vendor}::"))
                .any(|(start, _)| !code[..start].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':'));
            if is_path || code.trim() == format!("use {vendor};") {
                findings.push(Finding { file: file.to_owned(), line, what: format!("names {vendor}") });
            }
        }
    }
    findings
}

/// Lines of a Rust file, numbered from 1, without line comments.
fn code_lines(text: &str) -> Vec<(usize, String)> {
    text.lines().enumerate().map(|(number, line)| (number + 1, without_comments(line, "//", "//"))).collect()
}

/// A text without what stands behind a mark of a comment, line by line; a mark inside a URL is none.
fn without_comments(text: &str, first: &str, second: &str) -> String {
    let cut = |line: &str| {
        let start = [first, second]
            .iter()
            .filter_map(|mark| line.match_indices(mark).map(|(at, _)| at).find(|at| !line[..*at].ends_with(':')))
            .min();
        line[..start.unwrap_or(line.len())].to_owned()
    };
    text.lines().map(cut).collect::<Vec<_>>().join("\n")
}

/// Words of letters, digits and underscores, in order.
fn names(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// Words with underscores that the files' own language uses.
fn reserved(word: &str) -> bool {
    ["unit_lookup", "uuid_generate_v4"].contains(&word) || word.chars().next().is_none_or(|c| !c.is_alphabetic())
}

/// Whether a line names a folder, as a path from the root.
fn names_folder(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-}".contains(c)))
}

/// Every Rust file under `src/`, with its path from the checkout.
fn sources() -> Vec<(String, String)> {
    let files: Vec<_> = walk(&root().join("src"))
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| (shown(&path), fs::read_to_string(&path).expect("sources are UTF-8")))
        .collect();
    assert!(files.len() > 10, "sources are found: {}", files.len());
    files
}

/// Files below a folder, in order.
fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder can be read").flatten() {
        let kind = entry.file_type().expect("an entry has a kind");
        if NOT_OURS.iter().any(|name| entry.file_name() == *name) {
            continue;
        } else if kind.is_dir() {
            files.extend(walk(&entry.path()));
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    files.sort();
    files
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

fn assert_none(findings: &[Finding]) {
    let lines: Vec<_> = findings.iter().map(|found| format!("{}:{}: {}", found.file, found.line, found.what)).collect();
    assert!(findings.is_empty(), "\n{}", lines.join("\n"));
}

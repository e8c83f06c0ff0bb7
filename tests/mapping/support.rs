//! Paths and rows that several tests use.

use std::path::PathBuf;

use rehome::event::Timestamp;
use rehome::mapping::{Migration, SourceFile, SourceTable, Sources, run_cases};

/// A folder under the crate's root.
pub fn root(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The texts of luthien's files.
pub fn luthien_sources() -> Sources {
    Sources::read(&root("schemas/luthien")).expect("the folder is there")
}

/// luthien, compiled.
pub fn luthien() -> Migration {
    Migration::compile(&luthien_sources()).unwrap_or_else(|error| panic!("{error}"))
}

/// The source table of an alias.
pub fn table(migration: &Migration, alias: &str) -> SourceTable {
    let index = migration.source_tables().iter().position(|table| &*table.alias == alias).expect("a table");
    SourceTable(u16::try_from(index).expect("few tables"))
}

/// A point in time.
pub fn seconds(seconds: i64) -> Timestamp {
    Timestamp::from_unix_us(i128::from(seconds) * 1_000_000).expect("a time")
}

/// A migration that ships, compiled.
pub fn shipped(name: &str) -> Migration {
    Migration::load(&root("schemas").join(name)).unwrap_or_else(|error| panic!("{error}"))
}

/// semantik, compiled.
pub fn semantik() -> Migration {
    shipped("semantik")
}

/// Panics unless every example of a migration holds, and there are as many as there should be at least.
pub fn assert_examples_hold(migration: &Migration, cases_min: usize) {
    let results = run_cases(migration);
    assert!(results.len() >= cases_min, "only {} examples", results.len());
    let failures: Vec<String> = results
        .iter()
        .filter(|result| !result.failures.is_empty())
        .map(|result| format!("{}\n    {}", result.name, result.failures.join("\n    ")))
        .collect();
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), results.len(), failures.join("\n"));
}

/// A migration of the tests' own, compiled.
pub fn load(folder: &str) -> Migration {
    Migration::load(&root(folder)).unwrap_or_else(|error| panic!("{error}"))
}

/// What every small migration of these tests begins with; more reasons may follow.
const HEAD: &str = r#"
migration = "small"
namespace = "0f4c2a9e-0000-5000-8000-000000000002"
foreign = "row"

[quarantine]
not_storable = "row"
unreadable_json = "row"
key_collision = "row"
"#;

/// The texts of a migration from Postgres to Postgres, of what is its own in each file.
pub fn small(legacy: &str, mapping: &str, target: &str) -> Sources {
    let file = |name: &str, text: String| SourceFile::new(format!("small/{name}"), text);
    Sources {
        legacy: file("legacy.toml", format!("source = \"postgres\"\n{legacy}")),
        mapping: file("mapping.toml", format!("{HEAD}{mapping}")),
        target: file("target.sql", target.to_owned()),
        cases: Vec::new(),
    }
}

/// Such a migration, compiled; its examples hold.
pub fn assert_small_holds(legacy: &str, mapping: &str, target: &str) -> Migration {
    let sources = small(legacy, mapping, target);
    let migration = Migration::compile(&sources).unwrap_or_else(|error| panic!("{error}"));
    assert_examples_hold(&migration, 1);
    migration
}

/// A folder's texts with some of them changed, each once: file, what stands there, what stands there then.
pub fn edited(folder: &str, edits: &[(&str, &str, &str)]) -> Sources {
    let mut sources = Sources::read(&root(folder)).expect("the folder is there");
    for (file, from, to) in edits {
        let slot = match *file {
            "legacy.toml" => &mut sources.legacy,
            "mapping.toml" => &mut sources.mapping,
            _ => &mut sources.target,
        };
        assert!(slot.text.contains(from), "`{from}` is not in {file}");
        *slot = SourceFile::new(slot.name.clone(), slot.text.replacen(from, to, 1));
    }
    sources
}

/// Panics unless a migration is refused with this message and remedy, at the place in `mapping.toml` that begins so.
pub fn assert_refused(sources: &Sources, place: &str, message: &str, fix: &str) {
    let error = Migration::compile(sources).map(drop).expect_err(message);
    let found = error.problems.iter().find(|problem| problem.message == message);
    let Some(problem) = found else { panic!("`{message}` is not in\n{error}") };
    assert_eq!(problem.fix, fix, "{message}");
    assert!(problem.file.name.ends_with("mapping.toml"), "{message}: {}", problem.file.name);
    let (line, column) = problem.position();
    let text = problem.file.text.lines().nth(line - 1).expect("a line");
    assert!(text[column - 1..].starts_with(place), "{message}: {text}");
}

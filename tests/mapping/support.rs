//! Paths and rows that several tests use.

use std::path::PathBuf;

use rehome::event::Timestamp;
use rehome::mapping::{Migration, SourceTable, Sources, run_cases};

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

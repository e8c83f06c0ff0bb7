//! Comparison with an implementation that was written from the specification alone.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use rehome::event::Json;
use rehome::mapping::Migration;

use crate::jsonl::{lines, read};
use crate::support::root;

/// Asserts that a migration makes of a folder what its oracle does; returns how many target rows there are.
pub fn assert_as_oracle(migration: &Migration, folder: &Path) -> usize {
    let script = root("tests/oracle").join(format!("{}.py", migration.name()));
    let output = Command::new("python3").arg("-B").arg(script).arg(folder).output().expect("python3 runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let canonical = |line: &str| Json::parse(line).expect("JSON lines").canonical().to_text();
    let wanted: BTreeSet<String> = text.lines().map(canonical).collect();
    let corpus = read(migration, folder).expect("the folder is there");
    let found: BTreeSet<String> =
        lines(migration, &corpus).expect("rows are there").iter().map(|line| canonical(line)).collect();
    let missing: Vec<_> = wanted.difference(&found).take(3).collect();
    let extra: Vec<_> = found.difference(&wanted).take(3).collect();
    assert!(missing.is_empty() && extra.is_empty(), "missing {missing:#?}\nextra {extra:#?}");
    wanted.iter().filter(|line| line.contains("\"columns\"")).count()
}

/// Asserts the same of made rows with the hazards of a migration, for some seeds.
pub fn assert_as_oracle_on_made_rows(migration: &Migration, seeds: u64) {
    for seed in 0..seeds {
        let rows = assert_as_oracle(migration, made_rows(migration, seed).path());
        assert!(rows > 100, "seed {seed} made only {rows} rows");
    }
}

/// A folder of made rows with the hazards of a migration.
pub fn made_rows(migration: &Migration, seed: u64) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new("python3");
    command.arg("-B").arg(root("tests/oracle/rows.py")).arg(migration.name()).arg(seed.to_string());
    let output = command.arg(folder.path()).output().expect("python3 runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    folder
}

/// A folder of the shared data; `None` when it is not there, which is said, and fails where it must be there.
pub fn shared_data(name: &str) -> Option<PathBuf> {
    let folder = match std::env::var_os("REHOME_SHARED_DATA") {
        Some(folder) => PathBuf::from(folder),
        None => root("../shared/data"),
    };
    let folder = folder.join(name);
    if folder.is_dir() {
        return Some(folder);
    }
    assert!(std::env::var_os("REHOME_REQUIRE_DATA").is_none_or(|value| value != "1"), "no {}", folder.display());
    #[expect(clippy::print_stdout, reason = "a person must see what was not tested")]
    {
        println!("SKIPPED 1: no data in {}", folder.display());
    }
    None
}

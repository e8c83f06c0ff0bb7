//! Reads a migration's folder: the one file of this module that does I/O.

use std::path::Path;

use super::compile::Sources;
use super::diagnostic::{LoadError, Problem, SourceFile};
use super::plan::Migration;

/// A file longer than this is not a migration's: read on, it would only fill memory.
const FILE_BYTES_MAX: u64 = 16 << 20;

impl Sources {
    /// Reads a migration's folder.
    ///
    /// # Errors
    /// [`LoadError`] for every file that is missing, too long, or not UTF-8.
    pub fn read(folder: &Path) -> Result<Self, LoadError> {
        let migration = folder.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let mut problems = Vec::new();
        let mut read = |name: &str| {
            let shown = format!("{migration}/{name}");
            read_file(&folder.join(name), &shown).unwrap_or_else(|problem| {
                problems.push(problem);
                SourceFile::new(shown, "")
            })
        };
        // A folder with neither file is told to write the one that most migrations have.
        let target = if folder.join("target.toml").exists() { "target.toml" } else { "target.sql" };
        let (legacy, mapping, target) = (read("legacy.toml"), read("mapping.toml"), read(target));
        if target.name.ends_with(".toml") && folder.join("target.sql").exists() {
            problems.push(Problem {
                file: target.clone(),
                span: 0..0,
                message: "there is a target.sql beside this file".to_owned(),
                fix: "keep the one of the store that is migrated to".to_owned(),
            });
        }
        let mut read = |name: &str| {
            let shown = format!("{migration}/{name}");
            read_file(&folder.join(name), &shown).unwrap_or_else(|problem| {
                problems.push(problem);
                SourceFile::new(shown, "")
            })
        };
        let cases = case_names(folder).iter().map(|name| read(&format!("cases/{name}"))).collect();
        if problems.is_empty() {
            Ok(Self { legacy, mapping, target, cases })
        } else {
            Err(LoadError { migration, problems })
        }
    }
}

impl Migration {
    /// Reads and compiles a migration's folder.
    ///
    /// # Errors
    /// [`LoadError`] with every problem found.
    pub fn load(folder: &Path) -> Result<Self, LoadError> {
        Self::compile(&Sources::read(folder)?)
    }
}

/// Names of the files of examples, sorted; a folder that is not there holds none.
fn case_names(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder.join("cases")) else { return Vec::new() };
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| Path::new(name).extension().is_some_and(|extension| extension == "toml"))
        .collect();
    names.sort();
    names
}

fn read_file(path: &Path, shown: &str) -> Result<SourceFile, Problem> {
    let problem = |message: String, fix: &str| Problem {
        file: SourceFile::new(shown, ""),
        span: 0..0,
        message,
        fix: fix.to_owned(),
    };
    let length =
        std::fs::metadata(path).map_err(|error| problem(format!("cannot read the file: {error}"), "write it"))?;
    if length.len() > FILE_BYTES_MAX {
        return Err(problem(format!("the file is {} bytes long", length.len()), "16 MiB are the most"));
    }
    std::fs::read_to_string(path)
        .map(|text| SourceFile::new(shown, text))
        .map_err(|error| problem(format!("cannot read the file: {error}"), "it must be UTF-8 text"))
}

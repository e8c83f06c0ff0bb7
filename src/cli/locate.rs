//! Finds a migration's folder and loads it.

use std::path::{Path, PathBuf};

use include_dir::{Dir, include_dir};
use miette::{GraphicalReportHandler, GraphicalTheme};

use crate::mapping::{LoadError, Migration, SourceFile};
use crate::rules::Ruleset;

use super::Failure;
use super::args::Global;

/// The migrations that ship with rehome.
static BUILT_IN: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/schemas");

/// The rules that ship with rehome.
static BUILT_IN_RULES: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/reconcile-rules");
/// The folder of rules, beside the one of migrations.
const RULES: &str = "reconcile-rules";

/// A migration's folder: a real one, or a copy of the built-in one that lives as long as this value.
pub enum Place {
    /// Given, or in `./schemas`.
    Folder(PathBuf),
    /// Built in.
    Copied(tempfile::TempDir),
}

impl Place {
    /// The folder's path.
    pub fn path(&self) -> &Path {
        match self {
            Place::Folder(path) => path,
            Place::Copied(folder) => folder.path(),
        }
    }
}

/// Names of the migrations that have a folder of this name: of the given folder, else of those built in.
pub fn with(global: &Global, folder: &str) -> Vec<String> {
    if let Some(schemas) = &global.schemas {
        return listed(schemas).into_iter().filter(|name| schemas.join(name).join(folder).is_dir()).collect();
    }
    let mut names: Vec<String> = BUILT_IN
        .dirs()
        .filter(|dir| dir.dirs().any(|inner| inner.path().file_name().is_some_and(|name| name == folder)))
        .filter_map(|dir| dir.path().to_str().map(str::to_owned))
        .collect();
    names.sort_unstable();
    names
}

/// Refuses what cannot name a migration's folder.
pub fn named(name: &str) -> Result<(), Failure> {
    if name.is_empty() || name.contains(['/', '\\']) || name.starts_with('.') {
        return Err(Failure::from(format!("{name:?} is no name of a migration")));
    }
    Ok(())
}

/// The folder of rules of migrations that lie in a folder.
pub fn rules_beside(global: &Global, schemas: &Path) -> PathBuf {
    global.rules.clone().unwrap_or_else(|| schemas.parent().unwrap_or(Path::new("")).join(RULES))
}

/// Finds a migration by name.
pub fn find(global: &Global, name: &str) -> Result<Place, Failure> {
    named(name)?;
    if let Some(schemas) = &global.schemas {
        let folder = schemas.join(name);
        if folder.is_dir() {
            return Ok(Place::Folder(folder));
        }
        let message = format!("no migration {name} in {}", schemas.display());
        return Err(Failure { message, hint: Some(known(&listed(schemas))) });
    }
    let here = Path::new("schemas").join(name);
    if here.is_dir() {
        return Ok(Place::Folder(here));
    }
    let Some(found) = BUILT_IN.get_dir(name) else {
        let names = BUILT_IN.dirs().filter_map(|dir| dir.path().to_str()).map(str::to_owned).collect::<Vec<_>>();
        return Err(Failure { message: format!("no migration {name}"), hint: Some(known(&names)) });
    };
    let copy = || -> std::io::Result<tempfile::TempDir> {
        let folder = tempfile::Builder::new().prefix("rehome-").tempdir()?;
        extract(found, found.path(), folder.path())?;
        Ok(folder)
    };
    copy()
        .map(Place::Copied)
        .map_err(|error| Failure::from(format!("cannot unpack the built-in migration {name}: {error}")))
}

/// Finds and loads a migration; diagnostics go into the failure, as a compiler would show them.
pub fn load(global: &Global, name: &str) -> Result<Migration, Failure> {
    read(global, name)?.map_err(|error| to_mend(name, &error))
}

/// Finds and loads a migration; what is wrong with its files is the inner error.
pub fn read(global: &Global, name: &str) -> Result<Result<Migration, LoadError>, Failure> {
    Ok(Migration::load(find(global, name)?.path()))
}

fn to_mend(migration: &str, error: &LoadError) -> Failure {
    Failure { message: rendered(error), hint: Some(format!("mend them and run `rehome check {migration}`")) }
}

/// Finds and reads the rules by which a migration's rows are compared, for a run today; none where there is no file.
pub fn rules(global: &Global, migration: &Migration) -> Result<Ruleset, Failure> {
    read_rules(global, migration)?.map_err(|error| to_mend(migration.name(), &error))
}

/// As [`rules`]; what is wrong with the file is the inner error.
pub fn read_rules(global: &Global, migration: &Migration) -> Result<Result<Ruleset, LoadError>, Failure> {
    let Some(file) = rules_file(global, migration.name())? else { return Ok(Ok(Ruleset::none(migration))) };
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    Ok(Ruleset::read(&file, migration, today))
}

fn rules_file(global: &Global, migration: &str) -> Result<Option<SourceFile>, Failure> {
    let name = format!("{migration}.toml");
    let shown = format!("{RULES}/{name}");
    let beside = match (&global.rules, &global.schemas) {
        (None, None) => Path::new("schemas").join(migration).is_dir().then(|| PathBuf::from(RULES)),
        (_, schemas) => Some(rules_beside(global, schemas.as_deref().unwrap_or(Path::new("schemas")))),
    };
    let Some(folder) = beside else {
        let text = BUILT_IN_RULES.get_file(&name).and_then(|file| file.contents_utf8());
        return Ok(text.map(|text| SourceFile::new(shown, text)));
    };
    let path = folder.join(&name);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(SourceFile::new(shown, text))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && global.rules.is_none() => Ok(None),
        Err(error) => Err(Failure {
            message: format!("cannot read {}: {error}", path.display()),
            hint: Some("write it, or name another folder with --rules".to_owned()),
        }),
    }
}

/// Diagnostics as a compiler shows them: file, line, column, the text, what is wrong with it, and the fix.
pub fn rendered(error: &LoadError) -> String {
    use std::io::IsTerminal as _;
    let theme =
        if std::io::stderr().is_terminal() { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let mut text = String::new();
    let handler = GraphicalReportHandler::new_themed(theme);
    match handler.render_report(&mut text, error) {
        Ok(()) => text,
        Err(_) => error.to_string(),
    }
}

fn extract(dir: &Dir<'_>, root: &Path, into: &Path) -> std::io::Result<()> {
    for entry in dir.entries() {
        let path = into.join(entry.path().strip_prefix(root).unwrap_or(entry.path()));
        match entry {
            include_dir::DirEntry::Dir(dir) => {
                std::fs::create_dir_all(&path)?;
                extract(dir, root, into)?;
            }
            include_dir::DirEntry::File(file) => std::fs::write(&path, file.contents())?,
        }
    }
    Ok(())
}

fn listed(schemas: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(schemas).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn known(names: &[String]) -> String {
    if names.is_empty() { "there is none at all".to_owned() } else { format!("there are: {}", names.join(", ")) }
}

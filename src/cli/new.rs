//! `rehome new`: the first draft of a migration, from a live database's own tables.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::dynamo::Address;
use crate::engine::check_slot_name;
use crate::engine::new::{Drafting, Skeleton, draft};
use crate::mapping::schema::Store;

use super::args::{Global, NewArgs};
use super::exit::Exit;
use super::{Failure, locate, output};

/// Where migrations lie when nobody says otherwise.
const SCHEMAS: &str = "schemas";

/// Drafts a migration and writes its files.
pub async fn run(global: &Global, args: NewArgs) -> Result<Exit, Failure> {
    locate::named(&args.name)?;
    let schemas = args.into.or_else(|| global.schemas.clone()).unwrap_or_else(|| PathBuf::from(SCHEMAS));
    let folder = schemas.join(&args.name);
    let rules = locate::rules_beside(global, &schemas).join(format!("{}.toml", args.name));
    // Looked at before the source is asked, and again by the writing itself.
    if let Some(there) = [&folder, &rules].into_iter().find(|path| path.exists()) {
        return Err(taken(there));
    }
    let source = global.source.clone().ok_or_else(|| Failure {
        message: "the address of the source database is not known".to_owned(),
        hint: Some("pass --source URL or set REHOME_SOURCE".to_owned()),
    })?;
    if !Address::meant(&source) {
        check_slot_name(&args.name)?;
    }
    let target = global.target.as_deref().map(kind).transpose()?;
    let skeleton = draft(&Drafting { name: args.name.clone(), source, target, tables: args.tables }).await?;
    write(&folder, &rules, &skeleton)?;
    let schemas_said =
        if schemas == Path::new(SCHEMAS) { String::new() } else { format!(" --schemas {}", schemas.display()) };
    let next = next(&args.name, &schemas_said);
    if global.json {
        let tables: Vec<_> =
            skeleton.tables.iter().map(|(from, to)| serde_json::json!({ "source": from, "target": to })).collect();
        let left = |left: &crate::engine::new::LeftOut| serde_json::json!({ "table": left.table, "why": left.why, "fix": left.fix });
        output::json(&serde_json::json!({
            "migration": args.name, "folder": folder, "rules": rules, "tables": tables,
            "left_out": skeleton.left_out.iter().map(left).collect::<Vec<_>>(), "next": next,
        }));
        return Ok(Exit::Success);
    }
    for (name, _) in &skeleton.files {
        output::line(format!("wrote {}", folder.join(name).display()));
    }
    output::line(format!("wrote {}", rules.display()));
    for (from, to) in &skeleton.tables {
        output::line(format!("  {from} becomes {to}"));
    }
    for left in &skeleton.left_out {
        output::line(format!("left out {}: {}\n  fix: {}", left.table, left.why, left.fix));
    }
    output::line("What is to be decided is marked CHOICE in the files. Next:");
    next.iter().for_each(|command| output::line(format!("  {command}")));
    Ok(Exit::Success)
}

/// The commands to try next; addresses may hold passwords, and are not repeated.
fn next(name: &str, schemas: &str) -> [String; 3] {
    [
        format!("rehome check {name}{schemas} --source URL"),
        format!("rehome plan {name}{schemas} --source URL"),
        format!("rehome up {name}{schemas} --source URL --target URL"),
    ]
}

/// The kind of store that --target says: by its word, or by an address.
fn kind(target: &str) -> Result<Store, Failure> {
    match target {
        "postgres" => Ok(Store::Postgres),
        "dynamodb" => Ok(Store::DynamoDb),
        address if Address::meant(address) => Ok(Store::DynamoDb),
        address if address.starts_with("postgres://") || address.starts_with("postgresql://") => Ok(Store::Postgres),
        _ => Err(Failure {
            message: "--target is no kind of store".to_owned(),
            hint: Some("write postgres or dynamodb, or an address of one".to_owned()),
        }),
    }
}

fn taken(path: &Path) -> Failure {
    Failure {
        message: format!("{} is there already, and nothing is overwritten", path.display()),
        hint: Some("choose another name or another folder (--into), or remove it".to_owned()),
    }
}

fn write(folder: &Path, rules: &Path, skeleton: &Skeleton) -> Result<(), Failure> {
    let failed = |path: &Path, error: std::io::Error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => taken(path),
        _ => Failure::from(format!("cannot write {}: {error}", path.display())),
    };
    for path in [folder, rules] {
        let parent = path.parent().unwrap_or(Path::new(""));
        fs::create_dir_all(parent).map_err(|error| failed(parent, error))?;
    }
    fs::create_dir(folder).map_err(|error| failed(folder, error))?;
    let files = skeleton.files.iter().map(|(name, text)| (folder.join(name), text));
    for (path, text) in files.chain([(rules.to_owned(), &skeleton.rules)]) {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|error| failed(parent, error))?;
        }
        let written = File::create_new(&path).and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(|error| failed(&path, error))?;
    }
    Ok(())
}

//! The first draft of a migration, from a live store's own tables: each row its own unit, each table one table with a new name.
//!
//! Nothing of what rows hold is in it; of a DynamoDB table a page is read for the names and types of attributes. The draft is
//! compiled before it is answered, so that what is written passes `check` as it stands.
//!
//! Read [`draft`] for what the files are to say, [`postgres`] and [`dynamo`] for where it comes from, [`to_postgres`] and
//! [`to_dynamo`] for what tables become, [`render`] for the files.

mod draft;
mod dynamo;
mod postgres;
mod render;
mod text;
mod to_dynamo;
mod to_postgres;

use std::collections::{BTreeMap, BTreeSet};

use crate::dynamo::survey::{Surveyed, survey};
use crate::dynamo::{Address, Server as Tables, table};
use crate::event::RelationName;
use crate::mapping::schema::Store;
use crate::mapping::{Migration, SourceFile, Sources};
use crate::postgres::Server;
use crate::postgres::describe::{self, Described};

use super::Error;
use draft::Draft;
pub use draft::LeftOut;

/// What a draft is wanted of.
#[derive(Debug, Clone)]
pub struct Drafting {
    /// Name of the migration.
    pub name: String,
    /// Address of the source.
    pub source: String,
    /// The kind of store to migrate to; the source's when absent.
    pub target: Option<Store>,
    /// Tables, as `TABLE` or `SCHEMA.TABLE`; all when empty.
    pub tables: Vec<String>,
}

/// A migration's files.
#[derive(Debug, Clone)]
pub struct Skeleton {
    /// Files of its folder: path within it, and text.
    pub files: Vec<(&'static str, String)>,
    /// Text of its rules.
    pub rules: String,
    /// Tables that are taken in, each with the name of what it becomes.
    pub tables: Vec<(String, String)>,
    /// Tables that are not.
    pub left_out: Vec<LeftOut>,
}

/// Drafts a migration; the source is only read, and nothing is written anywhere.
///
/// # Errors
/// [`Error::NoTable`] for a table that is not there, [`Error::NothingToDraft`] when no table can be taken in.
pub async fn draft(wanted: &Drafting) -> Result<Skeleton, Error> {
    let source = if Address::meant(&wanted.source) { Store::DynamoDb } else { Store::Postgres };
    let mut draft = Draft {
        name: wanted.name.clone(),
        namespace: uuid::Uuid::new_v4(),
        source,
        target: wanted.target.unwrap_or(source),
        tables: Vec::new(),
        preamble: String::new(),
        cases: BTreeMap::new(),
        reasons: BTreeSet::new(),
        left_out: Vec::new(),
    };
    match source {
        Store::Postgres => from_postgres(wanted, &mut draft).await?,
        Store::DynamoDb => from_dynamo(wanted, &mut draft).await?,
    }
    if draft.tables.is_empty() {
        let why = |left: &LeftOut| format!("{}: {}; {}", left.table, left.why, left.fix);
        return Err(Error::NothingToDraft(draft.left_out.iter().map(why).collect()));
    }
    let skeleton = rendered(&draft);
    compiled(&draft, &skeleton)?;
    Ok(skeleton)
}

fn rendered(draft: &Draft) -> Skeleton {
    Skeleton {
        files: vec![
            ("legacy.toml", render::legacy(draft)),
            ("mapping.toml", render::mapping(draft)),
            (target_file(draft.target), render::target(draft)),
            ("cases/tables.toml", render::cases(draft)),
        ],
        rules: render::rules(draft),
        tables: draft.tables.iter().map(|table| (table.live.clone(), table.target_live.clone())).collect(),
        left_out: draft.left_out.clone(),
    }
}

fn target_file(store: Store) -> &'static str {
    match store {
        Store::Postgres => "target.sql",
        Store::DynamoDb => "target.toml",
    }
}

/// Sees to it that the files mean something.
fn compiled(draft: &Draft, skeleton: &Skeleton) -> Result<(), Error> {
    let file = |name: &str| {
        let text = skeleton.files.iter().find(|(file, _)| *file == name).map_or("", |(_, text)| text);
        SourceFile::new(format!("{}/{name}", draft.name), text)
    };
    let sources = Sources {
        legacy: file("legacy.toml"),
        mapping: file("mapping.toml"),
        target: file(target_file(draft.target)),
        cases: vec![file("cases/tables.toml")],
    };
    Migration::compile(&sources).map(drop).map_err(|error| Error::Draft(error.to_string()))
}

async fn from_postgres(wanted: &Drafting, draft: &mut Draft) -> Result<(), Error> {
    let mut connection = Server::parse(&wanted.source)?.connect().await?;
    let all = describe::tables(&mut connection).await?;
    let reserved = describe::reserved_words(&mut connection).await?;
    let mut described: Vec<Described> = Vec::new();
    for name in chosen(wanted, &all)? {
        // One that was dropped since it was listed is as if it had not been.
        described.extend(describe::describe(&mut connection, &name).await?);
    }
    let (sources, left_out) = postgres::sort(&described);
    draft.left_out = left_out;
    let names = || all.iter().map(|name| name.table.to_string());
    match draft.target {
        Store::Postgres => to_postgres::fill(draft, &sources, &reserved, names().collect()),
        Store::DynamoDb => to_dynamo::fill(draft, &sources, &suffix(names())),
    }
    Ok(())
}

async fn from_dynamo(wanted: &Drafting, draft: &mut Draft) -> Result<(), Error> {
    let server = Tables::new(&wanted.source.parse()?).await?;
    // Who names the tables needs no permission to list them.
    let all = match wanted.tables.is_empty() {
        true => table::list(&server).await?,
        false => wanted.tables.iter().map(|name| name.as_str().into()).collect(),
    };
    let mut surveyed: Vec<Surveyed> = Vec::new();
    for name in &all {
        match survey(&server, name).await? {
            Some(found) => surveyed.push(found),
            None => return Err(Error::NoTable { side: "source", table: name.to_string() }),
        }
    }
    match draft.target {
        Store::Postgres => dynamo::fill_postgres(draft, &surveyed),
        Store::DynamoDb => dynamo::fill_dynamo(draft, &surveyed, &suffix(all.iter().map(ToString::to_string))),
    }
    Ok(())
}

/// The tables that were asked for.
fn chosen(wanted: &Drafting, all: &[RelationName]) -> Result<Vec<RelationName>, Error> {
    if wanted.tables.is_empty() {
        return Ok(all.to_vec());
    }
    let mut chosen: Vec<RelationName> = Vec::new();
    for name in &wanted.tables {
        let named = |known: &&RelationName| *known.table == **name || known.to_string() == *name;
        let found: Vec<&RelationName> = all.iter().filter(named).collect();
        if found.is_empty() {
            return Err(Error::NoTable { side: "source", table: name.clone() });
        }
        chosen.extend(found.into_iter().filter(|found| !chosen.contains(found)).cloned().collect::<Vec<_>>());
    }
    Ok(chosen)
}

/// What new names end with, so that none is one of these.
fn suffix(taken: impl Iterator<Item = String>) -> String {
    let taken: BTreeSet<String> = taken.collect();
    let mut suffixes = (2_u32..).map(|number| format!("_v{number}"));
    let free = |suffix: &String| !taken.iter().any(|name| taken.contains(&format!("{name}{suffix}")));
    suffixes.find(free).expect("there is a number for each set of names")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_names_are_none_of_those_there_are() {
        let names = |names: &[&str]| suffix(names.iter().map(|name| (*name).to_owned()));
        assert_eq!((names(&["a", "b"]), names(&["a", "b", "a_v2"])), ("_v2".into(), "_v3".into()));
    }
}

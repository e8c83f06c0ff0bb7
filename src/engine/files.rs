//! Lookups that a file stands for: the operator writes the rows down where the live store has them no more.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::capture::load::file::{forget, standing};
use crate::capture::load::{Dump, Form};
use crate::event::{Column, Relation, Value};
use crate::log::EventLog;
use crate::mapping::schema::{Role, Store};

use super::protocol::{Answer, Request};
use super::{Engine, Error};

/// Where the rows of a lookup come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LookupFrom {
    /// From a file of comma-separated values.
    File(PathBuf),
    /// From the live store, although they came from a file before.
    Live,
}

/// Rows of a table.
pub(super) type Rows = Vec<Vec<Value>>;

impl Engine {
    /// The files that stand for tables.
    ///
    /// # Errors
    /// [`Error::Lookup`] for one that cannot.
    pub(super) fn files(&self) -> Result<Vec<Dump>, Error> {
        let mut files = Vec::new();
        for (name, from) in &self.settings.lookups {
            let wrong = |reason: &str| Error::Lookup { table: name.clone(), reason: reason.to_owned() };
            let place = self.place_of(name).ok_or_else(|| wrong("the migration has no such table"))?;
            if self.migration.source_tables()[place].role != Role::Lookup {
                return Err(wrong("its rows belong to units: a file can stand for a lookup only"));
            }
            if self.migration.source_store() == Store::DynamoDb {
                return Err(wrong("a file has columns, and items have none: load them as DynamoDB JSON"));
            }
            if let LookupFrom::File(path) = from {
                files.push(Dump { path: path.clone(), relation: self.relation(place), form: Form::Csv });
            }
        }
        Ok(files)
    }

    /// Whether a file stands for a source table.
    pub(super) fn by_file(&self, place: usize) -> bool {
        let stands = |(name, from): (&String, &LookupFrom)| {
            matches!(from, LookupFrom::File(_)) && self.place_of(name) == Some(place)
        };
        self.settings.lookups.iter().any(stands)
    }

    /// Which table a name means: the mapping's or the live one.
    fn place_of(&self, name: &str) -> Option<usize> {
        let tables = self.sources.iter().zip(self.migration.source_tables());
        tables.into_iter().position(|(source, table)| {
            *table.alias == *name || *source.relation.table == *name || source.relation.to_string() == name
        })
    }

    /// A source table as its files have it: columns by their live names.
    pub(super) fn relation(&self, place: usize) -> Arc<Relation> {
        let (source, table) = (&self.sources[place], &self.migration.source_tables()[place]);
        let columns = source.columns.iter().enumerate().map(|(index, (name, type_name))| Column {
            name: name.clone(),
            type_name: type_name.clone(),
            key_part: table.key.iter().position(|key| *key == index).and_then(|at| u16::try_from(at).ok()),
        });
        Arc::new(Relation { name: source.relation.clone(), columns: columns.collect() })
    }

    /// Sees to it that a table for which a file stood still has one, or is captured because a person says so.
    pub(super) async fn settle_files(&self, log: &dyn EventLog) -> Result<(), Error> {
        let files = self.files()?;
        for stood in standing(log)? {
            let source = self.sources.iter().find(|source| source.relation.to_string() == stood.relation);
            let Some(source) = source.filter(|source| files.iter().all(|file| file.relation.name != source.relation))
            else {
                continue;
            };
            let place = |name: &str| self.place_of(name).map(|place| &self.sources[place].relation);
            let live = |(name, from): (&String, &LookupFrom)| {
                *from == LookupFrom::Live && place(name) == Some(&source.relation)
            };
            if !self.settings.lookups.iter().any(live) {
                let reason = format!(
                    "{} stood for it until now: pass --lookup {table}={} again, or --lookup {table}=live to read it from the source",
                    stood.path.display(),
                    stood.path.display(),
                    table = source.label
                );
                return Err(Error::Lookup { table: source.label.to_string(), reason });
            }
            forget(log, &source.relation, []).await?;
        }
        Ok(())
    }

    /// Rows of the tables that files stand for, by place, as the log has them; none where there is no log.
    ///
    /// # Errors
    /// [`Error::Lookup`] when a file is not what the log was given any more.
    pub(super) async fn rows_of_files(&self) -> Result<BTreeMap<usize, Rows>, Error> {
        if !self.folder.exists() {
            return Ok(BTreeMap::new());
        }
        let files = match self.ask(Request::Files).await? {
            Answer::Files { files } => files,
            Answer::Failed { message, .. } => return Err(Error::Remote(message)),
            _ => return Err(Error::Remote("the running process answered another question".to_owned())),
        };
        let mut found = BTreeMap::new();
        for file in files {
            let Some(place) = self.sources.iter().position(|source| source.relation.to_string() == file.relation)
            else {
                continue;
            };
            let (path, relation) = (file.path.clone(), self.relation(place));
            let reading = tokio::task::spawn_blocking(move || crate::capture::load::file::read(&path, &relation));
            let (digest, rows) = reading.await.expect("reading does not panic")?;
            if digest != file.digest {
                let table = self.sources[place].label.to_string();
                let reason = format!("{} has changed: `rehome run` takes it up", file.path.display());
                return Err(Error::Lookup { table, reason });
            }
            let values = |row: crate::event::Row| row.0.into_iter().filter_map(|cell| cell.value().cloned()).collect();
            found.insert(place, rows.into_iter().map(|(_, row)| values(row)).collect());
        }
        Ok(found)
    }
}

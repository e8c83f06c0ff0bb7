//! Translates what a migration's files say into what the stages take.

use crate::event::RelationName;
use crate::mapping::schema::{ColumnDef, SourceTableDef, Store, TargetTableDef, catalog_name};
use crate::mapping::{Migration, Scope};
use crate::postgres::preflight::{Absence, ColumnExpectation, TableExpectation};
use crate::project::source::{SourceShape, described};
use crate::target::{ColumnShape, ForeignScope, TableShape};

use super::Error;

/// Source tables as the projection takes them.
pub fn sources(migration: &Migration) -> Vec<SourceShape> {
    let tables = migration.source_tables();
    // A type of DynamoDB has one name.
    let named = |type_name: &str| match migration.source_store() {
        Store::Postgres => catalog_name(type_name),
        Store::DynamoDb => type_name.into(),
    };
    let alone = |name: &str| tables.iter().filter(|table| *table.name == *name).count() == 1;
    let source = |table: &SourceTableDef| SourceShape {
        relation: RelationName { schema: table.schema.clone(), table: table.name.clone() },
        columns: table.live.iter().zip(&table.columns).map(|(live, of)| (live.clone(), named(&of.type_name))).collect(),
        renamed: match migration.source_store() {
            Store::Postgres => Vec::new(),
            Store::DynamoDb => {
                let names = table.live.iter().zip(&table.columns).map(|(live, of)| (live.clone(), of.name.clone()));
                names.filter(|(live, name)| live != name).collect()
            }
        },
        label: if alone(&table.name) {
            (*table.name).into()
        } else {
            format!("{}.{}", table.schema, table.name).into()
        },
    };
    tables.iter().map(source).collect()
}

/// Target tables as the target takes them.
pub fn targets(migration: &Migration) -> Vec<TableShape> {
    let named = |type_name: &str| match migration.target_store() {
        Store::Postgres => catalog_name(type_name),
        Store::DynamoDb => type_name.into(),
    };
    let column = |column: &ColumnDef| ColumnShape { name: column.name.clone(), type_name: named(&column.type_name) };
    let schema = if migration.target_store() == Store::Postgres { "public" } else { "" };
    let target = |table: &TargetTableDef| TableShape {
        schema: schema.into(),
        name: table.name.clone(),
        columns: table.columns.iter().map(column).collect(),
        key: table.key.clone(),
    };
    migration.target_tables().iter().map(target).collect()
}

/// What the preflight is to expect of the source.
pub fn expectations<'a>(captured: impl Iterator<Item = (&'a SourceShape, Absence)>) -> Vec<TableExpectation> {
    let column = |(name, type_name): &(Box<str>, Box<str>)| ColumnExpectation {
        name: name.clone(),
        type_name: Some(type_name.clone()),
    };
    let table = |(source, absence): (&SourceShape, Absence)| TableExpectation {
        name: source.relation.clone(),
        columns: source.columns.iter().map(column).collect(),
        absence,
    };
    captured.map(table).collect()
}

/// What a row of someone else holds back.
pub fn foreign_scope(migration: &Migration) -> ForeignScope {
    match migration.foreign_scope() {
        Scope::Row => ForeignScope::Row,
        Scope::Unit => ForeignScope::Unit,
    }
}

/// Digest of the source tables' shapes and of what places rows: rows in the state are laid out by them.
pub fn digest(sources: &[SourceShape], migration: &Migration) -> Vec<u8> {
    let mut hasher = blake3::Hasher::new_derive_key("rehome source shapes v1");
    let mut texts = described(sources);
    let unit = |table: &SourceTableDef| table.unit.map_or_else(String::new, |column| column.to_string());
    texts.extend(migration.source_tables().iter().map(unit));
    for text in texts {
        hasher.update(&(text.len() as u64).to_be_bytes());
        hasher.update(text.as_bytes());
    }
    hasher.update(&migration.placing().unwrap_or_default());
    hasher.finalize().as_bytes().to_vec()
}

/// The source table that people name so: by its label, or by its name in the live store; with its place.
///
/// # Errors
/// [`Error::NoSourceTable`].
pub fn named<'a>(sources: &'a [SourceShape], name: &str) -> Result<(u16, &'a SourceShape), Error> {
    let all = || (0_u16..).zip(sources);
    let mut alike = all().filter(|(_, source)| *source.relation.table == *name);
    let found = all().find(|(_, source)| *source.label == *name).or_else(|| {
        // Of two tables of one name in two schemas nobody can say which is meant.
        alike.next().filter(|_| alike.next().is_none())
    });
    found.ok_or_else(|| {
        let known = sources.iter().map(|source| source.label.to_string()).collect();
        Error::NoSourceTable { table: name.to_owned(), known }
    })
}

//! Compiles the tables of `legacy.toml`.

use super::compile::{DYNAMODB, written};
use super::diagnostic::Problems;
use super::dynamo;
use super::raw;
use super::schema::{ColumnDef, DynamoKey, Kind, Nullable, Presence, Role, SourceTableDef, UnitLookup, catalog_name};

/// Ends the type of a column whose values the mapping sees as the text that the server writes.
const AS_TEXT: &str = " as text";

/// Compiles the source tables, in the order written.
pub(super) fn source_tables(
    legacy: &raw::Legacy,
    mapping: &raw::Mapping,
    problems: &mut Problems,
) -> Vec<SourceTableDef> {
    let dynamodb = legacy.source.get_ref() == DYNAMODB;
    if !dynamodb && legacy.source.get_ref() != "postgres" {
        problems.unknown(legacy.source.span(), "kind of store", legacy.source.get_ref(), ["postgres", DYNAMODB]);
    }
    let unit = |alias: &str| mapping.unit.iter().find(|(name, _)| name.get_ref() == alias).map(|(_, route)| route);
    let timed = mapping.assembly.is_some() || mapping.map.iter().any(|map| map.synthesise.is_some());
    let time = |alias: &str| mapping.time.iter().find(|(name, _)| name.get_ref() == alias).map(|(_, column)| column);
    let mut tables: Vec<SourceTableDef> = Vec::new();
    for (alias, table) in written(&legacy.table) {
        let mut def = SourceTableDef {
            alias: alias.get_ref().as_str().into(),
            schema: table.schema.as_deref().unwrap_or(if dynamodb { "" } else { "public" }).into(),
            name: table.name.as_deref().unwrap_or(alias.get_ref()).into(),
            columns: Vec::new(),
            live: Vec::new(),
            key: Vec::new(),
            role: role(&table.role, problems),
            presence: if table.optional { Presence::Optional } else { Presence::Required },
            unit: None,
            time: None,
            unit_lookup: UnitLookup::Scan,
            dropped: Vec::new(),
        };
        def.columns = if dynamodb {
            item_columns(table, problems)
        } else {
            written(&table.columns).into_iter().map(|(name, kind)| column(name, kind, problems)).collect()
        };
        def.live = live(table, &def, problems);
        if let Some(other) = tables.iter().find(|other| other.schema == def.schema && other.name == def.name) {
            let message = format!("`{}` and `{}` are one live table, and its rows come once", other.alias, def.alias);
            problems.push(
                alias.span(),
                message,
                "declare it once: a table whose rows belong to units can be asked by a [reference] too",
            );
        }
        for name in &table.key {
            match def.column(name.get_ref()) {
                Some(index) => def.key.push(index),
                None => unknown_column(name, &def, problems),
            }
        }
        if table.key.is_empty() {
            problems.push(alias.span(), format!("the table `{}` has no key", alias.get_ref()), "name its primary key");
        }
        for (name, reason) in written(&table.drop) {
            match def.column(name.get_ref()) {
                Some(_) => def.dropped.push((name.get_ref().as_str().into(), reason.get_ref().as_str().into())),
                None => unknown_column(name, &def, problems),
            }
        }
        let missing = |what: &str, problems: &mut Problems| {
            problems.push(
                alias.span(),
                format!("mapping.toml does not say which column of `{}` is its {what}", alias.get_ref()),
                format!("add it under [{what}]: {} = \"COLUMN\"", alias.get_ref()),
            );
        };
        match (unit(alias.get_ref()), def.role) {
            (Some(raw::Route::Column(column)), Role::Unit) => def.unit = def.column(column),
            (Some(raw::Route::Term(_)), Role::Unit) | (None, Role::Lookup) => {}
            (None, Role::Unit) => missing("unit", problems),
            (Some(_), Role::Lookup) => {
                let fix = "take it out of [unit], or give it the role `unit`";
                problems.push(alias.span(), "a lookup has rows of no unit", fix);
            }
        }
        match time(alias.get_ref()).map(|column| def.column(column.get_ref())) {
            Some(Some(index)) => def.time = Some(index),
            None if def.role == Role::Lookup || !timed => {}
            _ => missing("time", problems),
        }
        if def.time.is_some_and(|time| def.columns[time].kind != Kind::Timestamp) {
            problems.push(alias.span(), "the column under [time] is no timestamp", "name one that is");
        }
        match (&table.unit_lookup, def.role) {
            (Some(name), Role::Unit) => def.unit_lookup = lookup(name, problems),
            (None, Role::Lookup) => {}
            (None, Role::Unit) => problems.push(
                alias.span(),
                format!("how are the rows of one unit found in `{}`?", alias.get_ref()),
                "add unit_lookup = \"key\", \"index:NAME\" or \"scan\"",
            ),
            (Some(name), Role::Lookup) => problems.push(name.span(), "a lookup has rows of no unit", "take it out"),
        }
        tables.push(def);
    }
    tables
}

/// What each column is called in the live table.
fn live(table: &raw::LegacyTable, def: &SourceTableDef, problems: &mut Problems) -> Vec<Box<str>> {
    let mut live: Vec<Box<str>> = def.columns.iter().map(|column| column.name.clone()).collect();
    // The whole item is no attribute, so it has no other name.
    let named = |name: &str| def.column(name).filter(|index| def.columns[*index].kind != Kind::Native);
    for (name, alias) in written(&table.alias) {
        match named(name.get_ref()) {
            Some(index) => live[index] = alias.get_ref().as_str().into(),
            None => {
                let known = table.columns.keys().map(|known| known.get_ref().as_str());
                problems.unknown(name.span(), &format!("column of `{}`", def.alias), name.get_ref(), known);
            }
        }
    }
    for (name, alias) in written(&table.alias) {
        let other = live
            .iter()
            .zip(&def.columns)
            .find(|(live, column)| ***live == **alias.get_ref() && *column.name != **name.get_ref());
        if let (Some((_, other)), Some(_)) = (other, named(name.get_ref())) {
            let message = format!("`{}` and `{}` have one live name", name.get_ref(), other.name);
            problems.push(alias.span(), message, "name a column of the live table for each");
        }
    }
    live
}

/// Notes a column that the table does not have.
pub(super) fn unknown_column(name: &raw::Name, table: &SourceTableDef, problems: &mut Problems) {
    let known = table.columns.iter().map(|column| &*column.name);
    problems.unknown(name.span(), &format!("column of `{}`", table.alias), name.get_ref(), known);
}

fn column(name: &raw::Name, written: &raw::Name, problems: &mut Problems) -> ColumnDef {
    let (type_name, nullable) = match written.get_ref().strip_suffix(" not null") {
        Some(bare) => (bare, Nullable::No),
        None => (written.get_ref().as_str(), Nullable::Yes),
    };
    let (type_name, kind) = match type_name.strip_suffix(AS_TEXT) {
        Some(other) => {
            if Kind::of_type(&catalog_name(other)).is_some() {
                let message = format!("`{other}` is read as what it is");
                problems.push(written.span(), message, format!("write it without `{}`", AS_TEXT.trim_start()));
            }
            (other, Kind::Text)
        }
        None => (
            type_name,
            Kind::of_type(type_name).unwrap_or_else(|| {
                let known =
                    ["boolean", "bigint", "integer", "numeric", "double precision", "text", "bytea", "timestamptz"];
                let known = known.into_iter().chain(["uuid", "jsonb", "any other TYPE as text"]);
                problems.unknown(written.span(), "type", type_name, known);
                Kind::Text
            }),
        ),
    };
    ColumnDef { name: name.get_ref().as_str().into(), type_name: type_name.into(), kind, nullable, labels: Vec::new() }
}

/// Columns of a DynamoDB table: its key, which is all that has declared types, and the whole item.
fn item_columns(table: &raw::LegacyTable, problems: &mut Problems) -> Vec<ColumnDef> {
    let mut key = Vec::new();
    for (name, letter) in written(&table.columns) {
        if !table.key.iter().any(|part| part.get_ref() == name.get_ref()) {
            let message = format!("`{}` is not in the key", name.get_ref());
            problems.push(
                name.span(),
                message,
                "take it out: the other attributes are read as .name, whatever they are",
            );
        }
        match Kind::of_key(letter.get_ref()) {
            Some(kind) => key.push(DynamoKey { name: name.get_ref().as_str().into(), kind }),
            None => problems.unknown(letter.span(), "type of a key", letter.get_ref(), ["S", "N", "B"]),
        }
    }
    dynamo::columns(&key)
}

fn role(name: &raw::Name, problems: &mut Problems) -> Role {
    match name.get_ref().as_str() {
        "lookup" => Role::Lookup,
        other => {
            if other != "unit" {
                problems.unknown(name.span(), "role", other, ["unit", "lookup"]);
            }
            Role::Unit
        }
    }
}

fn lookup(name: &raw::Name, problems: &mut Problems) -> UnitLookup {
    match name.get_ref().split_once(':') {
        Some(("index", index)) if !index.is_empty() => UnitLookup::Index(index.into()),
        None if name.get_ref() == "key" => UnitLookup::Key,
        None if name.get_ref() == "scan" => UnitLookup::Scan,
        _ => {
            problems.unknown(name.span(), "unit_lookup", name.get_ref(), ["key", "index:NAME", "scan"]);
            UnitLookup::Scan
        }
    }
}

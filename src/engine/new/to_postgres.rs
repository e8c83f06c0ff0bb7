//! Tables of Postgres that become tables of Postgres.
//!
//! What holds among rows of different units (foreign keys, unique keys) is written down and not switched on: each row is a unit
//! of its own, units are written apart and in any order, and a key that two rows exchange would keep both from being written.

use std::collections::{BTreeMap, BTreeSet};

use crate::postgres::describe::Described;

use super::draft::{Draft, Field, Table};
use super::postgres::{Form, Source, SourceColumn};
use super::text::{Names, beginning, identifier, literal, one_line, quoted};

/// Longest name of Postgres, in bytes.
const NAME_BYTES_MAX: usize = 63;
/// Room for what a name gets behind it.
const BEHIND: usize = 6;
/// Reason for which a label is refused that the enum had not when the draft was made.
pub(super) const UNKNOWN_LABEL: &str = "unknown_label";
/// Types whose modifier says which values they hold: a `bit` without one holds a single bit.
const MODIFIED: [&str; 7] = ["bit", "bpchar", "numeric", "timestamp", "timestamptz", "varbit", "varchar"];

/// What the definitions of several tables share.
struct Shared<'a> {
    reserved: &'a BTreeSet<String>,
    /// Names of the target's tables, by those of the source's.
    targets: BTreeMap<String, String>,
    enums: BTreeMap<(Box<str>, Box<str>), String>,
    enum_names: Names,
}

/// Fills a draft; `taken` are names that the target's tables may not have.
pub(super) fn fill(draft: &mut Draft, sources: &[Source<'_>], reserved: &BTreeSet<String>, taken: Vec<String>) {
    let mut names = Names::taken(taken);
    let targets = sources.iter().map(|source| {
        let live = beginning(&source.described.name.table, NAME_BYTES_MAX - BEHIND);
        (source.described.name.to_string(), names.free(&[format!("{live}_v2"), format!("{live}_v3")]))
    });
    let targets = targets.collect();
    let mut shared = Shared { reserved, targets, enums: BTreeMap::new(), enum_names: Names::default() };
    for source in sources {
        let table = table(source, draft, &mut shared);
        draft.tables.push(table);
    }
    for (name, labels) in &draft.cases {
        let labels = labels.iter().map(|label| literal(label)).collect::<Vec<_>>().join(", ");
        draft.preamble.push_str(&format!("CREATE TYPE {} AS ENUM ({labels});\n", identifier(name, reserved)));
    }
}

fn table(source: &Source<'_>, draft: &mut Draft, shared: &mut Shared<'_>) -> Table {
    let target = shared.targets[&source.described.name.to_string()].clone();
    let mut fields = Vec::new();
    let mut columns = Vec::new();
    for column in &source.columns {
        let (type_text, term) = match column.form {
            Form::Enum => {
                let name = column.enum_name(&mut shared.enums, &mut shared.enum_names);
                draft.cases.insert(name.clone(), column.described.labels.clone());
                draft.reasons.insert(UNKNOWN_LABEL);
                let (case, of) = (quoted(&name), quoted(&format!(".{}", column.name)));
                let term = format!("{{ case = {case}, of = {of}, refuse = \"{UNKNOWN_LABEL}\" }}");
                (identifier(&name, shared.reserved), term)
            }
            _ => (target_type(column), quoted(&format!(".{}", column.name))),
        };
        let name = column.described.name.to_string();
        let not_null = if column.described.not_null { " NOT NULL" } else { "" };
        columns.push(format!("    {} {type_text}{not_null}", identifier(&name, shared.reserved)));
        fields.push(Field { name, term, expected: Some(column.made_up()) });
    }
    let key = source.key.iter().map(|place| &*source.columns[*place].described.name);
    columns.push(format!("    PRIMARY KEY ({})", identifiers(key, shared.reserved)));
    let mut definition =
        format!("CREATE TABLE {} (\n{}\n);\n", identifier(&target, shared.reserved), columns.join(",\n"));
    definition.push_str(&indexes(source.described, &target, shared));
    Table { definition, fields, ..source.table(target.clone(), target) }
}

/// A column's type at the target.
fn target_type(column: &SourceColumn<'_>) -> String {
    let described = column.described;
    let name = &*described.type_name;
    // A scale below zero is written as no parser takes it, and a number of any scale holds the same values.
    let modified = MODIFIED.contains(&name.strip_prefix('_').unwrap_or(name)) && !described.modifier.contains('-');
    let modifier = if modified { &*described.modifier } else { "" };
    match column.form {
        Form::Text | Form::Enum => "text".to_owned(),
        Form::Carried if name == "char" => "\"char\"".to_owned(),
        Form::Kind | Form::Carried => match name.strip_prefix('_') {
            Some(element) => format!("{element}{modifier}[]"),
            None => format!("{name}{modifier}"),
        },
    }
}

fn identifiers<'n>(names: impl Iterator<Item = &'n str>, reserved: &BTreeSet<String>) -> String {
    names.map(|name| identifier(name, reserved)).collect::<Vec<_>>().join(", ")
}

/// Indexes, and what is written down only.
fn indexes(described: &Described, target: &str, shared: &Shared<'_>) -> String {
    let (mut live, mut noted) = (String::new(), Vec::new());
    let columns = |names: &[Box<str>]| identifiers(names.iter().map(|name| &**name), shared.reserved);
    let table = identifier(target, shared.reserved);
    let computed =
        |name: &str| described.columns.iter().any(|column| *column.name == *name && column.generated.is_some());
    for index in &described.indexes {
        match &index.columns {
            Some(names) if names.iter().any(|name| computed(name)) => noted.push(one_line(&index.definition)),
            Some(names) if index.unique => noted.push(format!("UNIQUE ({})", columns(names))),
            Some(names) => live.push_str(&format!("CREATE INDEX ON {table} ({});\n", columns(names))),
            None => noted.push(one_line(&index.definition)),
        }
    }
    for reference in &described.foreign_keys {
        if let Some(parent) = shared.targets.get(&reference.table.to_string()) {
            let parent = identifier(parent, shared.reserved);
            let (here, there) = (columns(&reference.columns), columns(&reference.referred));
            noted.push(format!("FOREIGN KEY ({here}) REFERENCES {parent} ({there})"));
        } else {
            noted.push(format!(
                "FOREIGN KEY ({}) to {}",
                columns(&reference.columns),
                one_line(&reference.table.to_string())
            ));
        }
    }
    for column in described.columns.iter().filter(|column| column.generated.is_some()) {
        noted.push(format!("the column {}, which the server computes", one_line(&column.name)));
    }
    for line in noted.iter().map(|line| one_line(line)) {
        live.push_str(&format!("-- not taken over: {line}\n"));
    }
    live
}

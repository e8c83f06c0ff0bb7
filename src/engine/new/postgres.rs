//! Tables of Postgres as a draft has them: types that rehome reads, types whose text is carried, keys that can name a unit.

use std::collections::BTreeMap;

use crate::mapping::schema::{Kind, carried};
use crate::postgres::catalog::Identity;
use crate::postgres::describe::{Described, DescribedColumn};

use super::draft::{Column, LeftOut, Table, counts, made_up, made_up_text};
use super::text::{Names, one_line, plain_name, quoted, sayable};

/// Types of key columns that can name a unit: the text of a value leads back to the row.
const NAMES_A_UNIT: [&str; 6] = ["int2", "int4", "int8", "text", "varchar", "uuid"];

/// A table of the source, read for either kind of target.
#[derive(Debug)]
pub(super) struct Source<'a> {
    pub described: &'a Described,
    pub alias: String,
    /// Columns that are written, in order.
    pub columns: Vec<SourceColumn<'a>>,
    /// Places of the key's columns among them, in the key's order.
    pub key: Vec<usize>,
}

/// A column that is written.
#[derive(Debug)]
pub(super) struct SourceColumn<'a> {
    pub described: &'a DescribedColumn,
    /// The mapping's name.
    pub name: String,
    pub kind: Kind,
    pub form: Form,
}

/// How a column's type is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// It has a kind of its own.
    Kind,
    /// Its values are labels.
    Enum,
    /// Its text is carried into a column of the same type.
    Carried,
    /// Its text becomes text.
    Text,
}

/// Tells the tables that can be migrated from those that cannot.
pub(super) fn sort(all: &[Described]) -> (Vec<Source<'_>>, Vec<LeftOut>) {
    let (mut taken, mut left_out, mut aliases) = (Vec::new(), Vec::new(), Names::default());
    for described in all {
        match unfit(described) {
            Some((why, fix)) => {
                left_out.push(LeftOut { table: described.name.to_string(), why: why.to_owned(), fix: fix.to_owned() });
            }
            None => taken.push(source(described, &mut aliases)),
        }
    }
    (taken, left_out)
}

/// Why a table cannot be followed, and what to do.
fn unfit(described: &Described) -> Option<(&'static str, &'static str)> {
    let table = &described.table;
    if !table.logged {
        return Some(("it is unlogged: its changes are never in the stream", "alter table … set logged"));
    }
    if table.identity == Identity::Nothing || table.shape.key.is_empty() {
        return Some((
            "it has no primary key: nothing tells its rows apart",
            "add a primary key, or a unique index over not-null columns and alter table … replica identity using index",
        ));
    }
    None
}

fn source<'a>(described: &'a Described, aliases: &mut Names) -> Source<'a> {
    let plain = plain_name(&described.name.table);
    let with_schema = format!("{}_{plain}", plain_name(&described.name.schema));
    let alias = aliases.free(&[plain, with_schema]);
    let mut names = Names::default();
    let written = described.columns.iter().filter(|column| column.generated.is_none());
    let columns: Vec<SourceColumn<'a>> = written
        .map(|column| {
            let (kind, form) = taken_as(column);
            SourceColumn { described: column, name: names.free(&[sayable(&column.name)]), kind, form }
        })
        .collect();
    let relation = &described.table.shape.relation;
    let place = |index: &usize| {
        let name = &relation.columns.get(*index)?.name;
        columns.iter().position(|column| column.described.name == *name)
    };
    let key = described.table.shape.key.iter().filter_map(place).collect();
    Source { described, alias, key, columns }
}

fn taken_as(column: &DescribedColumn) -> (Kind, Form) {
    match Kind::of_type(&column.type_name) {
        Some(kind) if column.type_schema.as_ref() == "pg_catalog" => (kind, Form::Kind),
        _ if !column.labels.is_empty() => (Kind::Text, Form::Enum),
        _ if column.type_schema.as_ref() == "pg_catalog" && carried(&column.type_name) => (Kind::Text, Form::Carried),
        _ => (Kind::Text, Form::Text),
    }
}

impl Source<'_> {
    /// What both kinds of target have of it.
    pub(super) fn table(&self, target: String, target_live: String) -> Table {
        let key: Vec<&SourceColumn<'_>> = self.key.iter().map(|place| &self.columns[*place]).collect();
        // A rule's path is cut at points.
        let sayable = |column: &&SourceColumn<'_>| counts(column.kind) && *column.name == *column.described.name;
        let counted_by = match key.iter().all(sayable) {
            true => key.iter().map(|column| (column.name.clone(), column.name.clone())).collect(),
            false => Vec::new(),
        };
        let (unit_about, unit_lookup) = match self.naming().len() {
            0 => (Some("no column of its key can name a unit: all rows are of one"), "scan"),
            some if some < key.len() => (Some("the other columns of its key cannot name a unit"), "scan"),
            _ => (None, "key"),
        };
        let name = &self.described.name;
        Table {
            about: self.about(),
            alias: self.alias.clone(),
            schema: (&*name.schema != "public").then(|| name.schema.to_string()),
            live: name.table.to_string(),
            key: key.iter().map(|column| column.name.clone()).collect(),
            columns: self.columns(),
            unit: self.unit(|column| format!("{{.{}}}", column.name)),
            unit_about,
            unit_lookup,
            target,
            target_live,
            map_about: Vec::new(),
            fields: Vec::new(),
            drop: Vec::new(),
            definition: String::new(),
            also_given: Vec::new(),
            also_expected: Vec::new(),
            example_unit: self.unit(|column| made_up_text(column.kind).to_owned()),
            counted_by,
        }
    }

    /// The columns as `legacy.toml` lists them.
    pub(super) fn columns(&self) -> Vec<Column> {
        self.columns
            .iter()
            .map(|column| Column {
                name: column.name.clone(),
                live: (*column.name != *column.described.name).then(|| column.described.name.to_string()),
                type_text: column.type_text(),
                made_up: Some(column.made_up()),
                about: column.about(),
            })
            .collect()
    }

    /// What a reader should know of the table.
    pub(super) fn about(&self) -> Vec<String> {
        let mut about = Vec::new();
        if self.described.table.partitioned {
            about.push("It is partitioned: it is copied and followed as one table.".to_owned());
        }
        if self.described.table.identity == Identity::Index {
            about.push(
                "It has no primary key: its rows are told apart by the index of its replica identity.".to_owned(),
            );
        }
        for column in &self.described.columns {
            if let Some(expression) = &column.generated {
                let (name, expression) = (one_line(&column.name), one_line(expression));
                about.push(format!(
                    "{name} is computed by the server, {expression}: it is not copied, and no column here."
                ));
            }
        }
        about
    }

    /// Columns of the key that can name a unit.
    pub(super) fn naming(&self) -> Vec<&SourceColumn<'_>> {
        let names = |column: &&SourceColumn<'_>| NAMES_A_UNIT.contains(&&*column.described.type_name);
        self.key.iter().map(|place| &self.columns[*place]).filter(names).collect()
    }

    /// The alias in the files, with the columns that `of` says, each as `sign` writes it.
    pub(super) fn unit(&self, write: impl Fn(&SourceColumn<'_>) -> String) -> String {
        let parts = self.naming();
        let parts = std::iter::once(self.alias.clone()).chain(parts.into_iter().map(write));
        parts.collect::<Vec<_>>().join(":")
    }
}

impl SourceColumn<'_> {
    /// The type as `legacy.toml` has it.
    fn type_text(&self) -> String {
        let catalog = &*self.described.type_name;
        let plain = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_';
        let written = match (self.form, catalog.strip_prefix('_')) {
            (Form::Carried, Some(element)) => format!("{element}[]"),
            // A built-in type whose plain name means another one.
            (Form::Carried, None) if catalog == "char" => "\"char\"".to_owned(),
            _ if catalog.chars().all(plain) => catalog.to_owned(),
            _ => format!("\"{}\"", catalog.replace('"', "\"\"")),
        };
        let as_text = if self.form == Form::Kind { "" } else { " as text" };
        let not_null = if self.described.not_null { " not null" } else { "" };
        format!("{written}{as_text}{not_null}")
    }

    /// A value for examples.
    pub(super) fn made_up(&self) -> String {
        match self.form {
            Form::Kind => made_up(self.kind).to_owned(),
            Form::Enum => quoted(&self.described.labels[0]),
            Form::Carried | Form::Text => quoted(&self.made_up_carried()),
        }
    }

    /// A text that a type without a kind may write.
    pub(super) fn made_up_carried(&self) -> String {
        match &*self.described.type_name {
            "date" => "2001-02-03",
            "time" => "04:05:06",
            "timetz" => "04:05:06+00",
            "interval" => "1 day",
            "inet" => "192.0.2.1",
            "cidr" => "192.0.2.0/24",
            "bit" | "varbit" => "1",
            array if array.starts_with('_') => "{}",
            _ => "a",
        }
        .to_owned()
    }

    fn about(&self) -> Option<String> {
        let text = match self.form {
            Form::Kind if self.described.identity => "numbered by the server; its numbers go along",
            Form::Kind => return None,
            Form::Enum => "an enum: see [cases] in mapping.toml",
            Form::Carried => "goes along as the server writes it",
            Form::Text => "becomes text: rehome knows no column of this type at the target",
        };
        Some(text.to_owned())
    }

    /// Names of the enum at the target.
    pub(super) fn enum_name(&self, enums: &mut BTreeMap<(Box<str>, Box<str>), String>, names: &mut Names) -> String {
        let of = (self.described.type_schema.clone(), self.described.type_name.clone());
        let plain = plain_name(&self.described.type_name).to_ascii_lowercase();
        enums.entry(of).or_insert_with(|| names.free(&[format!("{plain}_v2")])).clone()
    }
}

//! Reads `target.sql`: the target's tables as its own DDL defines them.
//!
//! The text is also executed as it stands, so this reads what Postgres will read. Tables must stand parents first; their
//! order is the order in which rows are written.

use std::collections::BTreeMap;
use std::ops::Range;

use sqlparser::ast::{
    ColumnOption, CreateIndex, CreateTable, Expr, Ident, IndexColumn, ObjectName, Spanned as _, Statement,
    TableConstraint, UserDefinedTypeRepresentation,
};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

use super::diagnostic::{Problem, Problems, SourceFile};
use super::schema::{ColumnDef, ForeignKey, Kind, Nullable, TargetTableDef, carried, catalog_name};

/// Reads the tables of a target's DDL, in the order written.
pub(super) fn read(file: &SourceFile) -> (Vec<TargetTableDef>, Vec<Problem>) {
    let mut reader = Reader { file, problems: Problems::new(file.clone()), tables: Vec::new(), enums: BTreeMap::new() };
    match Parser::parse_sql(&PostgreSqlDialect {}, &file.text) {
        Ok(statements) => statements.iter().for_each(|statement| reader.statement(statement)),
        Err(error) => {
            let message = error.to_string();
            let span =
                position_in(&message).map_or(0..0, |(line, column)| reader.bytes(line, column, line, column + 1));
            reader.problems.push(span, format!("cannot read the SQL: {message}"), "write it as Postgres would take it");
        }
    }
    (reader.tables, reader.problems.into_found())
}

/// Finds `Line: L, Column: C` at the end of a message of the parser.
fn position_in(message: &str) -> Option<(u64, u64)> {
    let (_, rest) = message.rsplit_once("Line: ")?;
    let (line, column) = rest.split_once(", Column: ")?;
    Some((line.parse().ok()?, column.trim_end().parse().ok()?))
}

struct Reader<'a> {
    file: &'a SourceFile,
    problems: Problems,
    tables: Vec<TargetTableDef>,
    /// Labels of the enums created so far.
    enums: BTreeMap<Box<str>, Vec<Box<str>>>,
}

impl Reader<'_> {
    fn statement(&mut self, statement: &Statement) {
        match statement {
            Statement::CreateTable(table) => self.table(table),
            Statement::CreateType { name, representation: Some(UserDefinedTypeRepresentation::Enum { labels }) } => {
                let name = name.0.last().map_or_else(String::new, ToString::to_string);
                let labels = labels.iter().map(|label| label.value.as_str().into()).collect();
                self.enums.insert(catalog_name(&name), labels);
            }
            Statement::CreateIndex(index) => self.index(index),
            Statement::Comment { .. } | Statement::CreateExtension { .. } => {}
            other => {
                let span = self.span(other.span());
                self.problems.push(
                    span,
                    "the target's DDL may create tables, indexes, enums and extensions only",
                    "move this statement out of target.sql",
                );
            }
        }
    }

    /// Notes an index that finds rows by columns: one over expressions, or over some of the rows, is the server's own business.
    fn index(&mut self, index: &CreateIndex) {
        let table = last_name(&index.table_name);
        let plain = index.columns.iter().all(|column| matches!(column.column.expr, Expr::Identifier(_)));
        if let Some(def) = self.tables.iter_mut().find(|known| *known.name == *table)
            && plain
            && index.predicate.is_none()
        {
            def.indexes.push(index_names(&index.columns));
        }
    }

    fn table(&mut self, table: &CreateTable) {
        let name = last_name(&table.name);
        let span = self.span(table.name.span());
        if self.tables.iter().any(|known| *known.name == *name) {
            self.problems.push(span.clone(), format!("the table `{name}` is created twice"), "remove one of the two");
        }
        let mut def = TargetTableDef {
            alias: name.as_str().into(),
            name: name.into(),
            columns: Vec::new(),
            key: Vec::new(),
            uniques: Vec::new(),
            indexes: Vec::new(),
            foreign_keys: Vec::new(),
            checks: Vec::new(),
        };
        let mut key: Vec<Box<str>> = Vec::new();
        for column in &table.columns {
            self.column(column, &mut def, &mut key);
        }
        for constraint in &table.constraints {
            match constraint {
                TableConstraint::PrimaryKey(found) => key = index_names(&found.columns),
                TableConstraint::Unique(found) => def.uniques.push(index_names(&found.columns)),
                TableConstraint::ForeignKey(found) => def.foreign_keys.push(ForeignKey {
                    columns: names(&found.columns),
                    table: last_name(&found.foreign_table).into(),
                    referred: names(&found.referred_columns),
                }),
                TableConstraint::Check(found) => def.checks.push(found.expr.to_string().into()),
                _ => {}
            }
        }
        self.finish(def, &key, span);
    }

    fn column(&mut self, column: &sqlparser::ast::ColumnDef, def: &mut TargetTableDef, key: &mut Vec<Box<str>>) {
        let name: Box<str> = column.name.value.as_str().into();
        let written = column.data_type.to_string();
        let catalog = catalog_name(&written);
        let labels = self.enums.get(&catalog).cloned().unwrap_or_default();
        let as_text = !labels.is_empty() || carried(&catalog);
        let known = if as_text { Some(Kind::Text) } else { Kind::of_type(&catalog) };
        let kind = known.unwrap_or_else(|| {
            let span = self.span(column.name.span);
            self.problems.push(
                span,
                format!("the type `{written}` of column `{name}` is not one that rehome maps to"),
                "use one of boolean, integer types, numeric, double precision, text, bytea, timestamptz, uuid, jsonb; or date, \
                 inet, text[] and the like, for columns of the same type",
            );
            Kind::Text
        });
        let mut nullable = Nullable::Yes;
        for option in &column.options {
            match &option.option {
                ColumnOption::NotNull => nullable = Nullable::No,
                ColumnOption::PrimaryKey(_) => {
                    nullable = Nullable::No;
                    key.push(name.clone());
                }
                ColumnOption::Unique(_) => def.uniques.push(vec![name.clone()]),
                ColumnOption::ForeignKey(found) => def.foreign_keys.push(ForeignKey {
                    columns: vec![name.clone()],
                    table: last_name(&found.foreign_table).into(),
                    referred: names(&found.referred_columns),
                }),
                ColumnOption::Check(found) => def.checks.push(found.expr.to_string().into()),
                _ => {}
            }
        }
        def.columns.push(ColumnDef { name, type_name: written.into(), kind, nullable, labels });
    }

    fn finish(&mut self, mut def: TargetTableDef, key: &[Box<str>], span: Range<usize>) {
        for name in key {
            match def.column(name) {
                Some(index) => {
                    def.key.push(index);
                    def.columns[index].nullable = Nullable::No;
                }
                None => self.problems.push(
                    span.clone(),
                    format!("the primary key names `{name}`, which is no column"),
                    "name a column of the table",
                ),
            }
        }
        if key.is_empty() {
            self.problems.push(
                span.clone(),
                format!("the table `{}` has no primary key", def.name),
                "give it one: rehome finds its rows by it",
            );
        }
        for foreign in &def.foreign_keys {
            let known = *foreign.table == *def.name || self.tables.iter().any(|table| table.name == foreign.table);
            if !known {
                self.problems.push(
                    span.clone(),
                    format!("the table `{}` refers to `{}`, which does not stand before it", def.name, foreign.table),
                    "write parents first",
                );
            }
        }
        self.tables.push(def);
    }

    fn span(&self, span: sqlparser::tokenizer::Span) -> Range<usize> {
        self.bytes(span.start.line, span.start.column, span.end.line, span.end.column)
    }

    fn bytes(&self, line: u64, column: u64, end_line: u64, end_column: u64) -> Range<usize> {
        let start = self.byte(line, column);
        start..self.byte(end_line, end_column).max(start)
    }

    /// Byte of a line and column, both from 1 and counted in characters.
    fn byte(&self, line: u64, column: u64) -> usize {
        let text = &self.file.text;
        let index = |number: u64| usize::try_from(number.saturating_sub(1)).unwrap_or(usize::MAX);
        let line_start = match index(line) {
            0 => 0,
            skipped => text.match_indices('\n').nth(skipped - 1).map_or(text.len(), |(at, _)| at + 1),
        };
        text[line_start..].char_indices().nth(index(column)).map_or(text.len(), |(at, _)| line_start + at)
    }
}

fn last_name(name: &ObjectName) -> String {
    name.0.last().and_then(|part| part.as_ident()).map_or_else(|| name.to_string(), |ident| ident.value.clone())
}

fn names(idents: &[Ident]) -> Vec<Box<str>> {
    idents.iter().map(|ident| ident.value.as_str().into()).collect()
}

fn index_names(columns: &[IndexColumn]) -> Vec<Box<str>> {
    let name = |column: &IndexColumn| match &column.column.expr {
        Expr::Identifier(ident) => ident.value.as_str().into(),
        other => other.to_string().into(),
    };
    columns.iter().map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_constraints_and_order_are_read() {
        let text = "CREATE TABLE a (id TEXT PRIMARY KEY, n BIGINT NOT NULL, UNIQUE (id, n));
            CREATE INDEX ON a (n);
            CREATE TABLE b (x UUID, y TEXT REFERENCES a (id), z JSONB CHECK (z IS NOT NULL), PRIMARY KEY (x));";
        let (tables, problems) = read(&SourceFile::new("target.sql", text));
        assert_eq!(problems, []);
        assert_eq!(tables.iter().map(|table| &*table.name).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(tables[0].uniques, [[Box::from("id"), Box::from("n")]]);
        assert_eq!((tables[1].key.as_slice(), tables[1].checks.len()), ([0].as_slice(), 1));
        assert_eq!(tables[1].foreign_keys[0].table, Box::from("a"));
        assert_eq!(tables[1].columns[0].nullable, Nullable::No);
    }

    #[test]
    fn an_enum_is_text_of_its_labels() {
        let text = "CREATE TYPE mood AS ENUM ('good', 'bad'); CREATE TABLE a (id TEXT PRIMARY KEY, m mood NOT NULL);";
        let (tables, problems) = read(&SourceFile::new("target.sql", text));
        assert_eq!(problems, []);
        let column = &tables[0].columns[1];
        assert_eq!(
            (column.kind, column.labels.as_slice()),
            (Kind::Text, [Box::from("good"), Box::from("bad")].as_slice())
        );
    }

    #[test]
    fn types_without_a_kind_are_carried_and_awkward_names_are_names() {
        let text = "CREATE TYPE \"Mood\" AS ENUM ('it''s'); CREATE TABLE \"a b\" (\"x\"\"y\" INT, d DATE, t NUMERIC(5,2)[], \
                    m \"Mood\", PRIMARY KEY (\"x\"\"y\"));";
        let (tables, problems) = read(&SourceFile::new("target.sql", text));
        assert_eq!(problems, []);
        let carried: Vec<_> = tables[0].columns.iter().map(|column| column.carried_type()).collect();
        assert_eq!(carried, [None, Some("date".into()), Some("_numeric".into()), None]);
        assert_eq!((tables[0].key.as_slice(), tables[0].columns[3].labels.len()), ([0].as_slice(), 1));
        assert_eq!(tables[0].columns[3].labels[0], Box::from("it's"));
    }

    #[test]
    fn what_postgres_would_refuse_has_a_place() {
        let (_, problems) = read(&SourceFile::new("target.sql", "CREATE TABLE a (\n  id TEXT PRIMARY,\n);"));
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].position().0, 2);
        let (_, problems) = read(&SourceFile::new("target.sql", "CREATE TABLE b (id TEXT PRIMARY KEY REFERENCES a);"));
        assert!(problems[0].message.contains("does not stand before"), "{problems:?}");
    }
}

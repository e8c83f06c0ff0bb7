//! Compiles what a migration requires of its target before anything is written.

use super::compile::{Shaper, written};
use super::compile_term::{Setting, Totals};
use super::plan::Requirement;
use super::raw;
use super::schema::{Kind, Store};
use super::term::Term;
use crate::event::{Decimal, Value};

impl Shaper<'_, '_> {
    /// Compiles a required row: what it must have in which columns.
    pub(super) fn requirement(&mut self, raw: &raw::Require) -> Option<Requirement> {
        let name = raw.target_table.get_ref();
        let place = Setting { table: None, outputs: &[], names: self.names, totals: Totals::Unseen };
        let mut columns: Vec<(Box<str>, Value)> = Vec::new();
        for (column, term) in written(&raw.columns) {
            let Some((compiled, _)) = self.compiler.term(term, place) else { continue };
            let Term::Const(value) = compiled else {
                self.compiler.problems.push(term.span(), "this is no literal", "write a literal, or @CONSTANT");
                continue;
            };
            columns.push((column.get_ref().as_str().into(), value));
        }
        if columns.len() < raw.columns.len() {
            return None;
        }
        if columns.is_empty() {
            let span = raw.target_table.span();
            self.compiler.problems.push(span, "this requires no row", "say which: where = { COLUMN = VALUE }");
            return None;
        }
        let columns = match self.migration.target_store {
            Store::Postgres => self.of_postgres(raw).map(|()| columns),
            Store::DynamoDb => self.of_dynamo(raw, &columns),
        };
        // The mapping may call a table otherwise than the store does; one that it does not know has the store's name.
        let mut tables = self.migration.targets.iter();
        let live = tables
            .find(|table| *table.alias == **name)
            .map_or_else(|| name.as_str().into(), |table| table.name.clone());
        Some(Requirement { table: live, columns: columns? })
    }

    /// Checks the columns of a table that the migration knows; others are the application's own.
    fn of_postgres(&mut self, raw: &raw::Require) -> Option<()> {
        let tables = &self.migration.targets;
        let Some(table) = tables.iter().find(|table| *table.alias == **raw.target_table.get_ref()) else {
            return Some(());
        };
        let mut known = Some(());
        for column in raw.columns.keys().filter(|column| table.column(column.get_ref()).is_none()) {
            let names = table.columns.iter().map(|column| &*column.name);
            let what = format!("column of `{}`", table.name);
            self.compiler.problems.unknown(column.span(), &what, column.get_ref(), names);
            known = None;
        }
        known
    }

    /// An item is found by its whole key, whose numbers are decimals.
    fn of_dynamo(&mut self, raw: &raw::Require, columns: &[(Box<str>, Value)]) -> Option<Vec<(Box<str>, Value)>> {
        let name = raw.target_table.get_ref();
        let Some(table) = self.migration.dynamo.iter().find(|table| *table.alias == **name) else {
            let known = self.migration.dynamo.iter().map(|table| &*table.alias);
            self.compiler.problems.unknown(raw.target_table.span(), "target table", name, known);
            return None;
        };
        let key = table.key.iter().map(|key| {
            let (name, value) = columns.iter().find(|(name, _)| *name == key.name)?;
            let value = match value {
                Value::Int(number) if key.kind == Kind::Decimal => {
                    Value::Decimal(Decimal::parse(&number.to_string()).ok()?)
                }
                other => other.clone(),
            };
            key.kind.holds(&value).then(|| (name.clone(), value))
        });
        let key: Option<Vec<_>> = key.collect();
        if key.is_none() || columns.len() > table.key.len() {
            let parts: Vec<String> =
                table.key.iter().map(|key| format!("{} ({})", key.name, key.kind.key_name())).collect();
            let fix = format!("say its whole key and nothing else: {}", parts.join(", "));
            self.compiler.problems.push(raw.target_table.span(), "an item is found by its key", fix);
            return None;
        }
        key
    }
}

//! What a delete reaches beyond its rows: those that refer to them, and what the database would do to these by itself.
//!
//! Rows that the same writes delete, or write anew after it, may be reached: they end as they should. Nothing else may be,
//! rows of ours neither: the record says that they are as they were written, so they would never be written again. All of
//! it is looked at before anything is deleted, because cascades may run through tables in any order.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{AssertSqlSafe, PgConnection};

use crate::event::Value;
use crate::target::{Error, TableShape, TargetKey, TargetTable};

use super::sql::{Action, Reference};
use super::write::Refusal;
use super::{classify, read, sql};

/// Rows that deletes may reach.
pub(super) struct Reachable<'a> {
    tables: &'a [TableShape],
    /// Rows to be deleted.
    deletes: BTreeSet<&'a TargetKey>,
    /// Those, and rows to be written after the deletes, by table.
    known: BTreeMap<TargetTable, Vec<&'a TargetKey>>,
}

/// What becomes of rows before any is written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    /// They are deleted.
    Gone,
    /// The database changes some of their columns.
    Changed(Vec<String>),
}

impl Fate {
    /// Whether it concerns rows that refer so.
    fn concerns(&self, reference: &Reference) -> bool {
        match self {
            Fate::Gone => true,
            Fate::Changed(columns) => reference.parent_columns.iter().any(|column| columns.contains(column)),
        }
    }

    /// What the database does to rows that refer so; `None` when it leaves them.
    fn passed_on(&self, reference: &Reference) -> Option<Fate> {
        let action = match self {
            Fate::Gone => reference.on_delete,
            Fate::Changed(_) => reference.on_update,
        };
        match (self, action) {
            (_, Action::Refuse) => None,
            (Fate::Gone, Action::Cascade) => Some(Fate::Gone),
            (_, Action::Cascade | Action::Set) => Some(Fate::Changed(reference.columns.clone())),
        }
    }
}

impl<'a> Reachable<'a> {
    /// Rows that are deleted, and rows that are written after that.
    pub(super) fn new(
        tables: &'a [TableShape],
        deletes: &[&'a TargetKey],
        written: impl Iterator<Item = &'a TargetKey>,
    ) -> Self {
        let mut known: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for key in deletes.iter().copied().chain(written) {
            known.entry(key.table).or_default().push(key);
        }
        Self { tables, deletes: deletes.iter().copied().collect(), known }
    }

    /// Refuses the deletes when they would reach any other row.
    pub(super) async fn check(&self, connection: &mut PgConnection) -> Result<(), Refusal> {
        let mut reached: BTreeMap<(TargetTable, Fate), BTreeSet<&TargetKey>> = BTreeMap::new();
        for key in &self.deletes {
            reached.entry((key.table, Fate::Gone)).or_default().insert(key);
        }
        let mut seen = BTreeSet::new();
        while let Some(((table, fate), keys)) = reached.pop_first() {
            let parent = &self.tables[usize::from(table.0)];
            for reference in references(connection, parent).await?.iter().filter(|found| fate.concerns(found)) {
                let passed_on = fate.passed_on(reference);
                for child in self.children(connection, parent, reference, &keys).await? {
                    let child = child.ok_or_else(|| refusal(reference))?;
                    let Some(fate) = passed_on.clone().filter(|_| !self.deletes.contains(child)) else { continue };
                    if seen.insert((fate.clone(), child)) {
                        reached.entry((child.table, fate)).or_default().insert(child);
                    }
                }
            }
        }
        Ok(())
    }

    /// The rows that refer so to some of a table's; `None` for each that may not be reached.
    async fn children(
        &self,
        connection: &mut PgConnection,
        parent: &TableShape,
        reference: &Reference,
        keys: &BTreeSet<&TargetKey>,
    ) -> Result<Vec<Option<&'a TargetKey>>, Error> {
        let refers = |shape: &TableShape| *shape.name == *reference.table && *shape.schema == *reference.schema;
        let ours = (0..).map(TargetTable).zip(self.tables).find(|(_, shape)| refers(shape));
        let child = ours.map(|(_, shape)| shape);
        let known = ours.and_then(|(table, _)| self.known.get(&table)).map_or(&[][..], Vec::as_slice);
        let mut arrays = arrays(parent, keys.iter().copied())?;
        if let Some(child) = child {
            arrays.extend(self::arrays(child, known.iter().copied())?);
        }
        let mut query = sqlx::query_scalar(AssertSqlSafe(sql::referring(parent, reference, child)));
        for array in arrays {
            query = query.bind(array);
        }
        let numbers: Vec<Option<i64>> =
            query.fetch_all(connection).await.map_err(|source| classify("look for children", source))?;
        let named = |number: i64| known.get(usize::try_from(number - 1).ok()?).copied();
        Ok(numbers.into_iter().map(|number| number.and_then(named)).collect())
    }
}

fn arrays<'k>(
    shape: &TableShape,
    keys: impl Iterator<Item = &'k TargetKey>,
) -> Result<Vec<Vec<Option<String>>>, Error> {
    let keys: Vec<&[Value]> = keys.map(|key| key.values.as_slice()).collect();
    read::arrays(shape.key.len(), keys.into_iter()).map_err(|kind| read::unsuitable(shape, kind))
}

fn refusal(reference: &Reference) -> Refusal {
    let detail = format!(
        "rows of {}.{} that are neither deleted nor written with it refer to a row to be deleted",
        reference.schema, reference.table
    );
    Refusal::Unit { reason: "foreign_children", detail }
}

/// The foreign keys of the live database that refer to a table.
async fn references(connection: &mut PgConnection, parent: &TableShape) -> Result<Vec<Reference>, Error> {
    type Row = (String, String, Vec<String>, Vec<String>, Vec<String>, String, String);
    let rows: Vec<Row> = sqlx::query_as(sql::REFERENCES)
        .bind(&*parent.schema)
        .bind(&*parent.name)
        .fetch_all(connection)
        .await
        .map_err(|source| classify("read foreign keys", source))?;
    let reference = |(schema, table, columns, parent_columns, operators, on_delete, on_update): Row| Reference {
        schema,
        table,
        columns,
        parent_columns,
        operators,
        on_delete: Action::of_letter(&on_delete),
        on_update: Action::of_letter(&on_update),
    };
    Ok(rows.into_iter().map(reference).collect())
}

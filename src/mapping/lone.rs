//! The part that is met most often: one row, of which one map makes one row.
//!
//! It needs no order, no index and no second pass. What comes of it is what the general evaluation makes of the same row; tests
//! hold the one against the other.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::accounts::{Accounts, QuarantinedRow, TableAccount};
use super::compile::reason;
use super::datum::{Datum, RowView};
use super::error::ReadError;
use super::evaluate::{Evaluation, Parked, Question};
use super::place::{Part, part_table};
use super::plan::{Migration, RowMap, Scope};
use super::plan_place::PartRule;
use super::rows::SourceRow;
use super::schema::{Kind, Role, SourceTable, Store};
use super::term::{Env, Output, Term};
use crate::event::{DecodeError, EncodedCell, EncodedRow, Value};
use crate::target::{TargetRow, TargetTable};

impl Migration {
    /// The map that alone makes something of a table's rows, by the index of both; `None` where a shape looks at several rows,
    /// or more than one shape at a row.
    pub(super) fn lone_map(&self, table: SourceTable) -> Option<usize> {
        let plan = self.tables.get(usize::from(table.0))?;
        if self.assembly.is_some() || !plan.counted.is_empty() || self.groups.iter().any(|group| group.from == table) {
            return None;
        }
        let mut maps = self.maps.iter().enumerate().filter(|(_, map)| map.from == table);
        let (only, map) = maps.next()?;
        // A row that is refused asks nobody: whom a part depends on would not be the same.
        let asks = |term: &Term| term.any(|term| matches!(term, Term::Found { .. }));
        let asks = map.emit.terms.iter().flatten().any(asks);
        (maps.next().is_none() && (plan.refusing.is_empty() || !asks)).then_some(only)
    }

    /// What [`TablePlan::copied`](super::plan_place::TablePlan::copied) says of a table whose lone map is known.
    pub(super) fn copied_columns(&self, table: SourceTable) -> Option<Vec<Option<usize>>> {
        let (def, plan) = (self.sources.get(usize::from(table.0))?, self.tables.get(usize::from(table.0))?);
        let map = &self.maps[plan.lone?];
        // A document that does not read, or that the target cannot hold, refuses its row.
        let plain = |column: &usize| !matches!(def.columns[*column].kind, Kind::Json | Kind::Native);
        let mut taken = BTreeSet::new();
        let copied = map.emit.terms.iter().map(|term| match term {
            None => Some(None),
            Some(Term::Column(column)) if plain(column) && taken.insert(*column) => Some(Some(*column)),
            Some(_) => None,
        });
        let copied = copied.collect::<Option<Vec<_>>>()?;
        (self.target_store == Store::Postgres && plan.refusing.is_empty() && self.row_by_row(table)).then_some(copied)
    }

    /// Makes the target row of a row of which a copy alone becomes something, and takes its values for it; `None`, with the values
    /// left as they are, where [`evaluate`](super::evaluate()) has to look at it.
    pub fn copied(&self, table: SourceTable, values: &mut Vec<Value>) -> Option<TargetRow> {
        let plan = self.tables.get(usize::from(table.0))?;
        let (copied, map) = (plan.copied.as_ref()?, &self.maps[plan.lone?]);
        let refused = |column: &usize| match values.get(*column) {
            Some(Value::Text(text)) => text.contains('\0'),
            Some(Value::Json(_)) | None => true,
            Some(_) => false,
        };
        if plan.read.iter().any(refused) {
            return None;
        }
        let values = if is_itself(copied, values.len()) {
            std::mem::take(values)
        } else {
            let take = |column: &Option<usize>| {
                column.map_or(Value::Null, |at| std::mem::replace(&mut values[at], Value::Null))
            };
            copied.iter().map(take).collect()
        };
        Some(TargetRow { table: map.emit.table, values })
    }

    /// The table of the one row of a part of which [`copied`](Self::copied) makes all that becomes of it; `None` where it makes none,
    /// or not all.
    pub fn copies(&self, part: &Part) -> Option<SourceTable> {
        let (table, _) = self.lone(part)?;
        self.tables.get(usize::from(table.0))?.copied.is_some().then_some(table)
    }

    /// The target table whose rows [`copy_encoded`](Self::copy_encoded) makes of a table's; `None` where it makes none.
    pub fn copied_into(&self, table: SourceTable) -> Option<TargetTable> {
        let plan = self.tables.get(usize::from(table.0))?;
        plan.copied.as_ref()?;
        Some(self.maps[plan.lone?].emit.table)
    }

    /// As [`copied`](Self::copied), of a row that is encoded: the target row, made in `copy` unless it is the row itself, and its
    /// table.
    pub fn copy_encoded<'r>(
        &self,
        table: SourceTable,
        row: &'r EncodedRow,
        copy: &'r mut EncodedRow,
    ) -> Option<(TargetTable, &'r EncodedRow)> {
        let plan = self.tables.get(usize::from(table.0))?;
        let (copied, map) = (plan.copied.as_ref()?, &self.maps[plan.lone?]);
        let refused = |column: &usize| {
            let cell = row.cell(*column);
            cell.is_json() || cell.text().is_some_and(|text| text.contains(&0))
        };
        if plan.read.iter().any(refused) {
            return None;
        }
        if is_itself(copied, row.cells().len()) {
            return Some((map.emit.table, row));
        }
        copy.clear();
        copied.iter().for_each(|column| copy.push_cell(column.map_or(EncodedCell::NULL, |column| row.cell(column))));
        Some((map.emit.table, copy))
    }

    /// Puts the values of a row that place it and make its key in their places, as [`EncodedRow::values_at`] does.
    ///
    /// # Errors
    /// [`DecodeError`] when one does not read.
    pub fn placing_values(
        &self,
        table: SourceTable,
        row: &EncodedRow,
        values: &mut Vec<Value>,
    ) -> Result<(), DecodeError> {
        let columns = self.tables.get(usize::from(table.0)).map_or(&[][..], |plan| &plan.placing);
        row.values_at(columns, values)
    }

    /// Whether terms may ask what rows of other tables say.
    pub(super) fn asks(&self) -> bool {
        !self.references.is_empty()
    }

    /// The table of a part that may be evaluated alone, with its map.
    fn lone(&self, part: &Part) -> Option<(SourceTable, &RowMap)> {
        let table = match part {
            Part::Of(bytes) => part_table(bytes)?,
            Part::Whole => {
                let sources = self.sources.iter().zip(&self.tables).enumerate();
                let mut whole =
                    sources.filter(|(_, (def, plan))| def.role == Role::Unit && matches!(plan.part, PartRule::Whole));
                let (only, _) = whole.next()?;
                if whole.next().is_some() {
                    return None;
                }
                SourceTable(u16::try_from(only).ok()?)
            }
        };
        let map = self.tables.get(usize::from(table.0))?.lone?;
        Some((table, &self.maps[map]))
    }

    /// Whether a row is refused because a text that some term reads holds U+0000.
    pub(super) fn refuses_nul(&self, table: SourceTable, values: &[Value]) -> bool {
        let nul = |column: &usize| matches!(values.get(*column), Some(Value::Text(text)) if text.contains('\0'));
        self.target_store == Store::Postgres
            && self.tables[usize::from(table.0)].read.iter().any(nul)
            && self.quarantine_scope(reason::NOT_STORABLE) == Some(Scope::Row)
    }
}

/// Whether a copy of so many columns has each of them in its place.
fn is_itself(copied: &[Option<usize>], columns: usize) -> bool {
    copied.len() == columns && copied.iter().zip(0..).all(|(column, at)| *column == Some(at))
}

/// Evaluates a part that is one row with one map; `None` where it is anything else.
///
/// # Errors
/// [`ReadError`] when the row, or what it refers to, cannot be read.
pub(super) fn evaluate(question: Question<'_>) -> Result<Option<Evaluation>, ReadError> {
    let Some((table, map)) = question.migration.lone(question.part) else { return Ok(None) };
    let (mut found, mut read) = (None, 0_u64);
    question.rows.scan(table, &mut |_, row| {
        read += 1;
        if read == 1 {
            found = Some(of_row(question, (table, map), row));
        }
    })?;
    match found {
        Some(evaluation) if read == 1 => evaluation.map(Some),
        _ => Ok(None),
    }
}

fn of_row(
    question: Question<'_>,
    (table, map): (SourceTable, &RowMap),
    row: &SourceRow,
) -> Result<Evaluation, ReadError> {
    let migration = question.migration;
    let mut account = TableAccount { read: 1, ..TableAccount::default() };
    let mut evaluation = Evaluation {
        rows: Vec::new(),
        accounts: Accounts::default(),
        counts: BTreeMap::new(),
        totals: vec![0; migration.totals.len()],
        parked: None,
    };
    match values(question, (table, map), row)? {
        Ok(values) => {
            account.mapped = 1;
            evaluation.rows.push(TargetRow { table: map.emit.table, values });
        }
        Err(reason) => {
            account.quarantined.insert(reason.clone(), 1);
            let key = row.key.clone();
            if migration.quarantine_scope(&reason) == Some(Scope::Row) {
                evaluation.accounts.quarantined_rows.push(QuarantinedRow { table, key, reason });
            } else {
                evaluation.totals.clear();
                evaluation.parked = Some(Parked { reason, table: Some(table), key: Some(key) });
            }
        }
    }
    evaluation.accounts.tables.insert(table, account);
    Ok(evaluation)
}

/// The values of the target row, or why the row is refused; of several reasons the first declared.
fn values(
    question: Question<'_>,
    (table, map): (SourceTable, &RowMap),
    row: &SourceRow,
) -> Result<Result<Vec<Value>, Box<str>>, ReadError> {
    let Question { migration, unit, look, totals, .. } = question;
    if migration.refuses_nul(table, &row.values) {
        return Ok(Err(reason::NOT_STORABLE.into()));
    }
    let view = RowView::new(&row.values);
    let outputs = [(Output::Unit, Datum::Value(Cow::Owned(Value::text(unit))))];
    let env = Env { row: Some(&view), outputs: &outputs, look, totals, ..Env::plain(&migration.namespace) };
    let fault = match migration.values_of(&map.emit, env) {
        Ok(values) => return Ok(Ok(values)),
        Err(fault) => fault,
    };
    match migration.refusal(table, &row.values)? {
        Some(reason) => Ok(Err(reason)),
        None => fault.into_reason().map(Err),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::diagnostic::SourceFile;
    use super::super::evaluate::in_full;
    use super::super::place::{NoLook, Place, Routed};
    use super::super::rows::{LoneRow, MemoryRows};
    use super::super::{Sources, evaluate};
    use super::*;
    use crate::event::{Decimal, Key, Timestamp};

    fn compiled(legacy: &str, mapping: &str, target: &str) -> Migration {
        let file = |name: &str, text: &str| SourceFile::new(name, text.to_owned());
        let (legacy, mapping) = (file("legacy.toml", legacy), file("mapping.toml", mapping));
        let sources = Sources { legacy, mapping, target: file("target.sql", target), cases: Vec::new() };
        Migration::compile(&sources).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Rows of calls, refused alone for one reason and with their unit for another.
    fn migration(unit: &str) -> Migration {
        let legacy = r#"
            source = "postgres"
            [table.calls]
            key = ["id"]
            role = "unit"
            unit_lookup = "key"
            columns = { id = "bigint not null", name = "text", doc = "jsonb", at = "timestamptz", kind = "text" }
        "#;
        let mapping = format!(
            r#"
            migration = "calls"
            namespace = "0f4c2a9e-0000-5000-8000-000000000002"
            foreign = "row"
            [quarantine]
            not_storable = "{unit}"
            unreadable_json = "row"
            key_collision = "row"
            odd_kind = "row"
            nameless = "unit"
            [unit]
            calls = "id"
            [cases.kind]
            plain = "p"
            [[map]]
            from = "calls"
            to = "calls"
            [map.columns]
            id = ".id"
            of = "@unit"
            name = {{ given = ".name", refuse = "nameless" }}
            said = ".doc.said"
            doc = ".doc"
            at = ".at"
            kind = {{ case = "kind", of = ".kind", null = "?", refuse = "odd_kind" }}
            "#
        );
        let target = "CREATE TABLE calls (id BIGINT PRIMARY KEY, of TEXT, name TEXT, said JSONB, doc JSONB, \
                      at TIMESTAMPTZ, kind TEXT);";
        compiled(legacy, &mapping, target)
    }

    fn text() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            "[a-c]{0,3}".prop_map(Value::text),
            Just(Value::text("plain")),
            Just(Value::text("a\0b")),
        ]
    }

    fn document() -> impl Strategy<Value = Value> {
        const TEXTS: [&str; 6] =
            ["null", "{\"said\": \"a\"}", "{\"said\": \"\\u0000\"}", "{", "[1.10]", "{\"said\": {\"a\": 1.0}}"];
        prop_oneof![Just(Value::Null), proptest::sample::select(&TEXTS[..]).prop_map(|text| Value::Json(text.into()))]
    }

    proptest! {
        #[test]
        fn a_row_alone_becomes_what_it_becomes_among_others(
            id in any::<i64>(), name in text(), doc in document(), at in any::<i32>(), kind in text(), of_unit in any::<bool>(),
        ) {
            let migration = migration(if of_unit { "unit" } else { "row" });
            let values = vec![Value::Int(id), name, doc, Value::Timestamp(Timestamp(at.into())), kind];
            let table = SourceTable(0);
            let key = migration.key_of(table, &values);
            let placed = migration.place_whole(table, &key, &values, &NoLook).expect("nothing is looked up");
            let Routed::Placed(Place { unit, part }) = placed else { panic!("every row names its unit") };
            let row = LoneRow(table, SourceRow { key, values });
            let (migration, unit, part) = (&migration, &*unit, &part);
            let question = Question { migration, unit, part, rows: &row, look: &NoLook, totals: &[] };
            let alone = super::evaluate(question).expect("in memory");
            let full = in_full(question).expect("in memory");
            prop_assert_eq!(alone.as_ref(), Some(&full));
            prop_assert!(full.accounts.balanced());
        }
    }

    /// Rows that are copied as they are, or to other places; of `note` the target has no column then.
    fn copying(as_they_are: bool) -> Migration {
        let legacy = r#"
            source = "postgres"
            [table.calls]
            key = ["id"]
            role = "unit"
            unit_lookup = "key"
            columns = { id = "bigint not null", name = "text", at = "timestamptz", amount = "numeric", note = "text" }
        "#;
        let legacy = &format!("{legacy}{}", if as_they_are { "" } else { "drop = { note = \"nobody reads it\" }" });
        let mapping = r#"
            migration = "calls"
            namespace = "0f4c2a9e-0000-5000-8000-000000000002"
            foreign = "row"
            [quarantine]
            not_storable = "row"
            unreadable_json = "row"
            key_collision = "row"
            [unit]
            calls = "id"
            [[map]]
            from = "calls"
            to = "calls"
            [map.columns]
            amount = ".amount"
            id = ".id"
            at = ".at"
            name = ".name"
        "#;
        if as_they_are {
            let columns = "id BIGINT PRIMARY KEY, name TEXT, at TIMESTAMPTZ, amount NUMERIC, note TEXT";
            return compiled(
                legacy,
                &format!("{mapping}note = \".note\""),
                &format!("CREATE TABLE calls ({columns});"),
            );
        }
        let target = "CREATE TABLE calls (at TIMESTAMPTZ, id BIGINT PRIMARY KEY, name TEXT, amount NUMERIC);";
        compiled(legacy, mapping, target)
    }

    proptest! {
        #[test]
        fn a_copy_is_what_the_evaluation_makes(
            id in any::<i64>(), name in text(), at in any::<i32>(), note in text(), as_they_are in any::<bool>(),
        ) {
            let migration = copying(as_they_are);
            let amount = Value::Decimal(Decimal::parse("1.10").expect("a decimal"));
            let values = vec![Value::Int(id), name.clone(), Value::Timestamp(Timestamp(at.into())), amount, note];
            let (table, key) = (SourceTable(0), Key(vec![Value::Int(id)]));
            let placed = migration.place_whole(table, &key, &values, &NoLook).expect("nothing is looked up");
            let Routed::Placed(Place { unit, part }) = placed else { panic!("every row names its unit") };
            let row = LoneRow(table, SourceRow { key, values: values.clone() });
            let evaluation = evaluate(&migration, &unit, &part, &row, &NoLook, &[]).expect("in memory");
            let mut encoded = EncodedRow::default();
            values.iter().for_each(|value| encoded.push(value));
            let mut placing = Vec::new();
            migration.placing_values(table, &encoded, &mut placing).expect("it reads");
            prop_assert_eq!(&migration.key_of(table, &placing), &migration.key_of(table, &values));
            let by_these = migration.place_whole(table, &row.1.key, &placing, &NoLook).expect("nothing is looked up");
            let of_all = migration.place_whole(table, &row.1.key, &values, &NoLook).expect("nothing is looked up");
            prop_assert_eq!(by_these, of_all);
            let mut copy = EncodedRow::default();
            let copied = migration.copy_encoded(table, &encoded, &mut copy).map(|(table, copy)| {
                TargetRow { table, values: copy.values().expect("they read") }
            });
            let moved = migration.copied(table, &mut values.clone());
            prop_assert_eq!(copied.as_ref(), moved.as_ref());
            prop_assert!(copied.is_none_or(|row| Some(row.table) == migration.copied_into(table)));
            let mut taken = values.clone();
            match migration.copied(table, &mut taken) {
                Some(row) => {
                    prop_assert_eq!(evaluation.rows, vec![row]);
                    let account = TableAccount { read: 1, mapped: 1, ..TableAccount::default() };
                    prop_assert_eq!(evaluation.accounts.tables, BTreeMap::from([(table, account)]));
                    prop_assert!(evaluation.parked.is_none() && evaluation.counts.is_empty());
                }
                None => {
                    prop_assert_eq!(&taken, &values, "the values are left");
                    let nul = |value: &Value| value.as_text().is_some_and(|text| text.contains('\0'));
                    prop_assert!(nul(&name) || as_they_are && nul(&values[4]), "all others are copied");
                }
            }
        }
    }

    #[test]
    fn what_is_more_than_a_copy_is_evaluated() {
        let mut values = vec![Value::Int(1), Value::Null, Value::Null, Value::Null, Value::Null];
        assert_eq!(migration("row").copied(SourceTable(0), &mut values), None);
    }

    #[test]
    fn parts_of_no_row_or_of_several_are_evaluated_in_full() {
        let migration = migration("row");
        let row = |id| SourceRow {
            key: crate::event::Key(vec![Value::Int(id)]),
            values: vec![Value::Int(id), Value::text("a"), Value::Null, Value::Null, Value::Null],
        };
        let mut rows = MemoryRows::new();
        for rows_read in 0..3_usize {
            let question = Question {
                migration: &migration,
                unit: "u",
                part: &Part::Whole,
                rows: &rows,
                look: &NoLook,
                totals: &[],
            };
            let alone = super::evaluate(question).expect("in memory");
            assert_eq!(alone.is_some(), rows_read == 1);
            let evaluation = evaluate(&migration, "u", &Part::Whole, &rows, &NoLook, &[]).expect("in memory");
            assert_eq!(evaluation.rows.len(), rows_read);
            rows.push(SourceTable(0), row(rows_read as i64));
        }
    }
}

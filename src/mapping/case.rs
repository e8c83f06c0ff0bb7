//! Examples: legacy rows in, target rows and accounts out, written beside the mapping and run by `check` and by tests.

use std::collections::BTreeMap;

use super::compile::{Sources, parse, written};
use super::corpus::Corpus;
use super::datum::same;
use super::diagnostic::{Problem, Problems, SourceFile};
use super::error::ReadError;
use super::evaluate::Evaluation;
use super::plan::Migration;
use super::raw;
use super::rows::SourceRow;
use super::schema::{ColumnDef, Kind, SourceTable};
use crate::event::{Float, Json, Timestamp, Value};
use crate::target::TargetTable;

/// An example.
#[derive(Debug, Clone)]
pub struct Case {
    name: Box<str>,
    unit: Box<str>,
    given: Vec<(SourceTable, SourceRow)>,
    expect: Expect,
}

/// Rows of a target table, each by the columns that matter.
type ExpectedRows = Vec<Vec<(usize, Value)>>;

#[derive(Debug, Clone, Default)]
struct Expect {
    rows: BTreeMap<TargetTable, ExpectedRows>,
    mapped: BTreeMap<SourceTable, u64>,
    dropped: BTreeMap<SourceTable, BTreeMap<Box<str>, u64>>,
    quarantined: BTreeMap<SourceTable, BTreeMap<Box<str>, u64>>,
    counts: BTreeMap<Box<str>, u64>,
    unplaced: BTreeMap<SourceTable, BTreeMap<Box<str>, u64>>,
    elsewhere: BTreeMap<SourceTable, u64>,
    waiting: BTreeMap<SourceTable, u64>,
    lookup: BTreeMap<SourceTable, u64>,
    parked: Option<Box<str>>,
}

/// What came of an example.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaseResult {
    /// The example's name.
    pub name: Box<str>,
    /// What was not as expected; nothing when it passed.
    pub failures: Vec<String>,
}

/// Runs every example of a migration.
pub fn run_cases(migration: &Migration) -> Vec<CaseResult> {
    migration.cases.iter().map(|case| CaseResult { name: case.name.clone(), failures: case.run(migration) }).collect()
}

impl Case {
    /// What it shows.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The legacy rows that it begins with.
    pub fn given(&self) -> &[(SourceTable, SourceRow)] {
        &self.given
    }

    fn run(&self, migration: &Migration) -> Vec<String> {
        let mut failures = Vec::new();
        let judged = Corpus::place(migration, self.given.clone()).and_then(|corpus| {
            let evaluation = corpus.evaluate(migration, &self.unit)?;
            self.judge(migration, &evaluation, &mut failures);
            self.judge_placing(migration, &corpus, &mut failures)
        });
        failures.extend(judged.err().map(|error| error.to_string()));
        failures
    }

    /// Compares what became of rows that do not belong to the unit.
    fn judge_placing(
        &self,
        migration: &Migration,
        corpus: &Corpus,
        failures: &mut Vec<String>,
    ) -> Result<(), ReadError> {
        let mut elsewhere = BTreeMap::new();
        for unit in corpus.units().filter(|unit| **unit != *self.unit) {
            for (table, account) in corpus.evaluate(migration, unit)?.accounts.tables {
                *elsewhere.entry(table).or_default() += account.read;
            }
        }
        elsewhere.retain(|_, rows| *rows > 0);
        let quarantined = corpus.quarantined().clone();
        let expected = &self.expect;
        for (what, wanted, got) in [
            ("elsewhere", &expected.elsewhere, &elsewhere),
            ("waiting", &expected.waiting, corpus.waiting()),
            ("lookup", &expected.lookup, corpus.lookup()),
        ] {
            if wanted != got {
                failures.push(format!("expected {what} {wanted:?}, got {got:?}"));
            }
        }
        if expected.unplaced != quarantined {
            failures.push(format!("expected unplaced {:?}, got {quarantined:?}", expected.unplaced));
        }
        Ok(())
    }

    fn judge(&self, migration: &Migration, evaluation: &Evaluation, failures: &mut Vec<String>) {
        let parked = evaluation.parked.as_ref().map(|parked| &parked.reason);
        if parked != self.expect.parked.as_ref() {
            failures.push(format!("expected parked {:?}, got {parked:?}", self.expect.parked));
        }
        if !evaluation.accounts.balanced() {
            failures.push(format!("the rows read are not all accounted for: {:?}", evaluation.accounts.tables));
        }
        if evaluation.counts != self.expect.counts {
            failures.push(format!("expected counts {:?}, got {:?}", self.expect.counts, evaluation.counts));
        }
        for (table, account) in &evaluation.accounts.tables {
            let alias = &migration.sources[usize::from(table.0)].alias;
            let dropped = self.expect.dropped.get(table).cloned().unwrap_or_default();
            if account.dropped != dropped {
                failures.push(format!("`{alias}`: expected dropped {dropped:?}, got {:?}", account.dropped));
            }
            let quarantined = self.expect.quarantined.get(table).cloned().unwrap_or_default();
            if account.quarantined != quarantined && self.expect.parked.is_none() {
                failures
                    .push(format!("`{alias}`: expected quarantined {quarantined:?}, got {:?}", account.quarantined));
            }
            if let Some(mapped) = self.expect.mapped.get(table).filter(|mapped| **mapped != account.mapped) {
                failures.push(format!("`{alias}`: expected {mapped} mapped, got {}", account.mapped));
            }
        }
        for index in 0..migration.targets.len() {
            let table = TargetTable(u16::try_from(index).unwrap_or(u16::MAX));
            let wanted = self.expect.rows.get(&table).map_or(&[][..], Vec::as_slice);
            compare(migration, table, wanted, evaluation, failures);
        }
    }
}

/// Pairs expected and actual rows of one table.
fn compare(
    migration: &Migration,
    table: TargetTable,
    wanted: &[Vec<(usize, Value)>],
    evaluation: &Evaluation,
    failures: &mut Vec<String>,
) {
    let def = &migration.targets[usize::from(table.0)];
    let mut left: Vec<Vec<Value>> = evaluation
        .rows
        .iter()
        .filter(|row| row.table == table)
        .map(|row| row.values.iter().map(Value::normalised).collect())
        .collect();
    let matches = |row: &Vec<Value>, wanted: &[(usize, Value)]| {
        wanted.iter().all(|(column, value)| match (&row[*column], value) {
            (Value::Map(item), Value::Map(wanted)) => {
                wanted.iter().all(|(name, value)| item.get(name).is_some_and(|found| same(found, value)))
            }
            (found, value) => *found == value.normalised(),
        })
    };
    let shown = |column: usize, value: &Value| format!("{} = {value:?}", def.columns[column].name);
    let mut missing = Vec::new();
    for wanted in wanted {
        match left.iter().position(|row| matches(row, wanted)) {
            Some(at) => drop(left.remove(at)),
            None => missing.push(wanted),
        }
    }
    for wanted in missing {
        let text: Vec<String> = wanted.iter().map(|(column, value)| shown(*column, &value.normalised())).collect();
        failures.push(format!("`{}`: no row has {}", def.name, text.join(", ")));
    }
    for row in left {
        let text: Vec<String> = row.iter().enumerate().map(|(column, value)| shown(column, value)).collect();
        failures.push(format!("`{}`: unexpected row {}", def.name, text.join(", ")));
    }
}

/// Compiles the examples of all files of a migration.
pub(super) fn compile(
    migration: &Migration,
    mapping: &raw::Mapping,
    sources: &Sources,
    found: &mut Vec<Problem>,
) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut file = |file: &SourceFile, raw: &[raw::Case], defaults: &raw::Named<raw::Named<toml::Value>>| {
        let mut reader = CaseReader { migration, defaults, problems: Problems::new(file.clone()) };
        let compiled: Vec<Case> = raw.iter().filter_map(|case| reader.case(case)).collect();
        cases.extend(compiled);
        reader.problems.into_found()
    };
    let mut problems = file(&sources.mapping, &mapping.case, &mapping.defaults);
    for source in &sources.cases {
        if let Some(raw) = parse::<raw::CaseFile>(source, &mut problems) {
            let more = file(source, &raw.case, &raw.defaults);
            problems.extend(more);
        }
    }
    found.extend(problems);
    cases
}

struct CaseReader<'a> {
    migration: &'a Migration,
    defaults: &'a raw::Named<raw::Named<toml::Value>>,
    problems: Problems,
}

impl CaseReader<'_> {
    fn case(&mut self, raw: &raw::Case) -> Option<Case> {
        let mut given = Vec::new();
        for (alias, rows) in written(&raw.given) {
            let table = self.source(alias)?;
            for row in rows {
                let values = self.row(table, alias, row)?;
                given.push((table, SourceRow { key: self.migration.key_of(table, &values), values }));
            }
        }
        let expect = self.expect(&raw.expect)?;
        Some(Case { name: raw.name.get_ref().as_str().into(), unit: raw.unit.as_str().into(), given, expect })
    }

    fn expect(&mut self, raw: &raw::Expect) -> Option<Expect> {
        let mut expect =
            Expect { parked: raw.parked.as_ref().map(|name| name.get_ref().as_str().into()), ..Expect::default() };
        for (name, rows) in written(&raw.rows) {
            let targets = &self.migration.targets;
            let Some(index) = targets.iter().position(|table| *table.alias == **name.get_ref()) else {
                let known = targets.iter().map(|table| &*table.alias);
                self.problems.unknown(name.span(), "target table", name.get_ref(), known);
                return None;
            };
            let mut compiled = Vec::new();
            let item = targets[index].columns.iter().position(|column| column.kind == Kind::Native);
            for row in rows {
                compiled.push(match item {
                    Some(item) => vec![(item, self.item(row)?)],
                    None => self.cells(&targets[index].columns, row)?,
                });
            }
            expect.rows.insert(TargetTable(u16::try_from(index).unwrap_or(u16::MAX)), compiled);
        }
        for (named, slot) in [
            (&raw.mapped, &mut expect.mapped),
            (&raw.elsewhere, &mut expect.elsewhere),
            (&raw.waiting, &mut expect.waiting),
            (&raw.lookup, &mut expect.lookup),
        ] {
            for (alias, rows) in named {
                slot.insert(self.source(alias)?, *rows);
            }
        }
        let mut tell = |raw: &raw::Named<raw::Named<u64>>| {
            let mut by_table = BTreeMap::new();
            for (alias, reasons) in raw {
                let told = reasons.iter().map(|(reason, rows)| (reason.get_ref().as_str().into(), *rows)).collect();
                by_table.insert(self.source(alias)?, told);
            }
            Some(by_table)
        };
        expect.dropped = tell(&raw.dropped)?;
        expect.quarantined = tell(&raw.quarantined)?;
        expect.unplaced = tell(&raw.unplaced)?;
        expect.counts = raw.counts.iter().map(|(name, count)| (name.get_ref().as_str().into(), *count)).collect();
        Some(expect)
    }

    fn source(&mut self, alias: &raw::Name) -> Option<SourceTable> {
        let tables = &self.migration.sources;
        match tables.iter().position(|table| *table.alias == **alias.get_ref()) {
            Some(index) => u16::try_from(index).ok().map(SourceTable),
            None => {
                self.problems.unknown(alias.span(), "table", alias.get_ref(), tables.iter().map(|table| &*table.alias));
                None
            }
        }
    }

    fn row(&mut self, table: SourceTable, alias: &raw::Name, raw: &raw::Named<toml::Value>) -> Option<Vec<Value>> {
        let columns = &self.migration.sources[usize::from(table.0)].columns;
        let mut values = vec![Value::Null; columns.len()];
        let defaults = self.defaults.iter().find(|(name, _)| name.get_ref() == alias.get_ref());
        if let Some(item) = columns.iter().position(|column| column.kind == Kind::Native) {
            let mut whole: BTreeMap<Box<str>, Value> = BTreeMap::new();
            for row in defaults.map(|(_, cells)| cells).into_iter().chain([raw]) {
                whole.retain(|name, _| !row.iter().any(|(known, _)| *known.get_ref() == **name));
                if let Value::Map(attributes) = self.item(row)? {
                    whole.extend(attributes);
                }
            }
            for (index, column) in columns.iter().enumerate().filter(|(index, _)| *index != item) {
                values[index] = whole.get(&column.name).cloned().unwrap_or(Value::Null);
            }
            values[item] = Value::Map(whole);
            return Some(values);
        }
        for cells in defaults.map(|(_, cells)| cells).into_iter().chain([raw]) {
            for (index, value) in self.cells(columns, cells)? {
                values[index] = value;
            }
        }
        Some(values)
    }

    /// Attributes of an item; one written as `{}` is not there.
    fn item(&mut self, raw: &raw::Named<toml::Value>) -> Option<Value> {
        let mut attributes = BTreeMap::new();
        let absent = |value: &toml::Value| value.as_table().is_some_and(toml::Table::is_empty);
        for (name, value) in written(raw).into_iter().filter(|(_, value)| !absent(value)) {
            let Some(value) = attribute(value) else {
                let message = format!("`{}` is no value of DynamoDB", name.get_ref());
                self.problems.push(name.span(), message, "docs/mapping.md shows how examples write values");
                return None;
            };
            attributes.insert(name.get_ref().as_str().into(), value);
        }
        Some(Value::Map(attributes))
    }

    fn cells(&mut self, columns: &[ColumnDef], raw: &raw::Named<toml::Value>) -> Option<Vec<(usize, Value)>> {
        let mut cells = Vec::with_capacity(raw.len());
        for (name, value) in written(raw) {
            let Some(index) = columns.iter().position(|column| *column.name == **name.get_ref()) else {
                self.problems.unknown(
                    name.span(),
                    "column",
                    name.get_ref(),
                    columns.iter().map(|column| &*column.name),
                );
                return None;
            };
            let Some(value) = cell(value, columns[index].kind) else {
                let message = format!("this is no {}", columns[index].kind.word());
                self.problems.push(name.span(), message, "docs/mapping.md shows how examples write values");
                return None;
            };
            cells.push((index, value));
        }
        Some(cells)
    }
}

/// Reads a value of DynamoDB: texts, whole numbers, truth values, arrays and tables as they are, and any value as DynamoDB's
/// own JSON has it, a table of one member that is named after a type.
fn attribute(raw: &toml::Value) -> Option<Value> {
    let decimal = |text: &str| crate::event::Decimal::parse(text).ok();
    Some(match raw {
        toml::Value::String(text) => Value::text(text.as_str()),
        toml::Value::Integer(number) => Value::Decimal((*number).into()),
        toml::Value::Boolean(truth) => Value::Bool(*truth),
        toml::Value::Array(items) => Value::List(items.iter().map(attribute).collect::<Option<_>>()?),
        toml::Value::Table(table) => {
            let only = table.iter().next().filter(|_| table.len() == 1);
            match only.map(|(name, value)| (name.as_str(), value)) {
                Some(("NULL", toml::Value::Boolean(true))) => Value::Null,
                Some(("N", toml::Value::String(text))) => Value::Decimal(decimal(text)?),
                Some(("M", toml::Value::Table(members))) => {
                    let member =
                        |(name, value): (&String, &toml::Value)| Some((name.as_str().into(), attribute(value)?));
                    Value::Map(members.iter().map(member).collect::<Option<_>>()?)
                }
                Some(("B", toml::Value::String(text))) => Value::Bytes(crate::event::from_hex(text)?.into()),
                Some(("SS", toml::Value::Array(items))) => {
                    Value::TextSet(items.iter().map(|item| item.as_str().map(Into::into)).collect::<Option<_>>()?)
                }
                Some(("NS", toml::Value::Array(items))) => {
                    Value::NumberSet(items.iter().map(|item| decimal(item.as_str()?)).collect::<Option<_>>()?)
                }
                _ => {
                    let member =
                        |(name, value): (&String, &toml::Value)| Some((name.as_str().into(), attribute(value)?));
                    Value::Map(table.iter().map(member).collect::<Option<_>>()?)
                }
            }
        }
        toml::Value::Float(_) | toml::Value::Datetime(_) => return None,
    })
}

/// Reads a value of an example. A whole number stands for a time (seconds of 1970) or a UUID too, `{}` for NULL.
fn cell(raw: &toml::Value, kind: Kind) -> Option<Value> {
    Some(match (kind, raw) {
        (_, toml::Value::Table(table)) if table.is_empty() => Value::Null,
        (Kind::Bool, toml::Value::Boolean(truth)) => Value::Bool(*truth),
        (Kind::Int, toml::Value::Integer(number)) => Value::Int(*number),
        (Kind::Float, toml::Value::Float(number)) => Value::Float(Float(*number)),
        (Kind::Decimal, toml::Value::String(text)) => Value::Decimal(crate::event::Decimal::parse(text).ok()?),
        (Kind::Text, toml::Value::String(text)) => Value::text(text.as_str()),
        (Kind::Bytes, toml::Value::String(text)) => Value::Bytes(crate::event::from_hex(text)?.into()),
        (Kind::Timestamp, toml::Value::Integer(seconds)) => {
            Value::Timestamp(Timestamp::from_unix_us(i128::from(*seconds) * 1_000_000)?)
        }
        (Kind::Timestamp, toml::Value::String(text)) => {
            let nanoseconds = text.parse::<jiff::Timestamp>().ok()?.as_nanosecond();
            Value::Timestamp(Timestamp::from_unix_us(nanoseconds.div_euclid(1_000))?)
        }
        (Kind::Uuid, toml::Value::Integer(number)) => Value::Uuid(uuid::Uuid::from_u128(u128::try_from(*number).ok()?)),
        (Kind::Uuid, toml::Value::String(text)) => Value::Uuid(uuid::Uuid::try_parse(text).ok()?),
        (Kind::Json, toml::Value::String(text)) => {
            Json::parse(text).ok()?;
            Value::Json(text.as_str().into())
        }
        _ => return None,
    })
}

//! Legacy rows as JSON lines, and what comes of them as JSON lines, for comparison with an independent implementation.
//!
//! A line of `TABLE.jsonl` is one legacy row: an item in DynamoDB JSON, or of Postgres: integers are numbers, documents are strings that hold the JSON text, times are
//! ISO texts, SQL NULL is `null`, and a double that JSON cannot say is a string.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rehome::event::{Decimal, Float, Json, Timestamp, Value};
use rehome::mapping::schema::{Kind, Presence, SourceTableDef, Store};
use rehome::mapping::{Accounts, Corpus, Migration, SourceRow, SourceTable};

/// Anything that can go wrong with the files.
pub type Failure = Box<dyn std::error::Error>;

/// Evaluates everything: sorted target rows and parked units, then the account of each table, then the counts.
pub fn lines(migration: &Migration, corpus: &Corpus) -> Result<Vec<String>, Failure> {
    let mut lines = BTreeSet::new();
    let mut accounts = Accounts::default();
    let mut counts: BTreeMap<Box<str>, u64> = migration.counts().map(|(name, _)| (name.into(), 0)).collect();
    for unit in corpus.units() {
        let evaluation = corpus.evaluate(migration, unit)?;
        for row in &evaluation.rows {
            let table = &migration.target_tables()[usize::from(row.table.0)];
            let columns: Vec<(String, Json)> = match row.values.last() {
                Some(Value::Map(item)) => item.iter().map(|(name, value)| (name.to_string(), typed(value))).collect(),
                _ => table
                    .columns
                    .iter()
                    .zip(&row.values)
                    .map(|(column, value)| (column.name.to_string(), shown(value)))
                    .collect(),
            };
            let shown = if migration.dynamo_tables().is_empty() { shown } else { typed };
            let key = table.key.iter().map(|index| shown(&row.values[*index])).collect();
            let line = Json::Object(vec![
                ("table".into(), Json::String(table.name.to_string())),
                ("key".into(), Json::Array(key)),
                ("columns".into(), Json::Object(columns)),
            ]);
            assert!(lines.insert(line.canonical().to_text()), "a row stands twice: {}", line.to_text());
        }
        if let Some(parked) = &evaluation.parked {
            let inner = Json::Object(vec![
                ("unit".into(), Json::String(unit.to_owned())),
                ("reason".into(), Json::String(parked.reason.to_string())),
            ]);
            lines.insert(Json::Object(vec![("parked".into(), inner)]).canonical().to_text());
        }
        accounts.add(evaluation.accounts);
        for (name, count) in evaluation.counts {
            *counts.entry(name).or_default() += count;
        }
    }
    for (table, reasons) in corpus.quarantined() {
        let account = accounts.tables.entry(*table).or_default();
        for (reason, rows) in reasons {
            *account.quarantined.entry(reason.clone()).or_default() += rows;
        }
    }
    let mut lines: Vec<String> = lines.into_iter().collect();
    for (table, account) in &accounts.tables {
        let name = &migration.source_tables()[usize::from(table.0)].name;
        let line = Json::Object(vec![
            ("table".into(), Json::String(name.to_string())),
            ("mapped".into(), Json::Number(account.mapped.into())),
            ("dropped".into(), told(&account.dropped)),
            ("quarantined".into(), told(&account.quarantined)),
        ]);
        lines.push(Json::Object(vec![("account".into(), line)]).canonical().to_text());
    }
    lines.push(Json::Object(vec![("counts".into(), told(&counts))]).canonical().to_text());
    Ok(lines)
}

fn told(numbers: &BTreeMap<Box<str>, u64>) -> Json {
    Json::Object(numbers.iter().map(|(name, number)| (name.to_string(), Json::Number((*number).into()))).collect())
}

/// Reads the rows of a folder and places them.
pub fn read(migration: &Migration, folder: &Path) -> Result<Corpus, Failure> {
    let mut rows = Vec::new();
    for (index, table) in migration.source_tables().iter().enumerate() {
        let source = SourceTable(u16::try_from(index)?);
        let file = folder.join(format!("{}.jsonl", table.name));
        if table.presence == Presence::Optional && !file.exists() {
            continue;
        }
        let text = std::fs::read_to_string(file)?;
        for line in text.split('\n').filter(|line| !line.is_empty()) {
            let row = Json::parse(line)?;
            if migration.source_store() == Store::DynamoDb {
                let row = item(table, &row).ok_or("no item")?;
                rows.push((source, SourceRow { key: migration.key_of(source, &row), values: row }));
                continue;
            }
            let values: Vec<Value> = table
                .columns
                .iter()
                .map(|column| value(row.member(&column.name).unwrap_or(&Json::Null), column.kind))
                .collect::<Result<_, _>>()?;
            rows.push((source, SourceRow { key: migration.key_of(source, &values), values }));
        }
    }
    Ok(Corpus::place(migration, rows)?)
}

fn value(json: &Json, kind: Kind) -> Result<Value, Failure> {
    Ok(match (kind, json) {
        (_, Json::Null) => Value::Null,
        (Kind::Int, Json::Number(number)) => Value::Int(number.to_i64().ok_or("no integer")?),
        (Kind::Float, Json::Number(number)) => Value::Float(Float(number.as_str().parse()?)),
        (Kind::Float, Json::String(text)) => Value::Float(Float(text.parse()?)),
        (Kind::Decimal, Json::Number(number)) => Value::Decimal(number.clone()),
        (Kind::Bool, Json::Bool(truth)) => Value::Bool(*truth),
        (Kind::Text, Json::String(text)) => Value::text(text.as_str()),
        (Kind::Json, Json::String(text)) => Value::Json(text.as_str().into()),
        (Kind::Uuid, Json::String(text)) => Value::Uuid(uuid::Uuid::try_parse(text)?),
        (Kind::Timestamp, Json::String(text)) if text == "infinity" => Value::Timestamp(Timestamp::INFINITY),
        (Kind::Timestamp, Json::String(text)) if text == "-infinity" => Value::Timestamp(Timestamp::NEG_INFINITY),
        (Kind::Timestamp, Json::String(text)) => {
            let time: jiff::Timestamp = text.parse()?;
            let us = time.as_nanosecond().div_euclid(1_000);
            Value::Timestamp(Timestamp::from_unix_us(us).ok_or("no time")?)
        }
        _ => return Err(format!("a value does not fit {}", kind.word()).into()),
    })
}

/// An item as a row: its key's attributes, and all of it.
fn item(table: &SourceTableDef, row: &Json) -> Option<Vec<Value>> {
    let Json::Object(attributes) = row else { return None };
    let item = attributes.iter().map(|(name, value)| Some((name.as_str().into(), untyped(value)?)));
    let item: BTreeMap<Box<str>, Value> = item.collect::<Option<_>>()?;
    let mut values =
        table.key.iter().map(|key| item.get(&table.columns[*key].name).cloned()).collect::<Option<Vec<_>>>()?;
    values.push(Value::Map(item));
    Some(values)
}

/// Reads a value in DynamoDB JSON, numbers in the one writing that a table gives them.
fn untyped(json: &Json) -> Option<Value> {
    let Json::Object(members) = json else { return None };
    let [(letter, inner)] = members.as_slice() else { return None };
    Some(match (letter.as_str(), inner) {
        ("NULL", _) => Value::Null,
        ("BOOL", Json::Bool(truth)) => Value::Bool(*truth),
        ("N", Json::String(text)) => Value::Decimal(Decimal::parse(text).ok()?.normalised()),
        ("S", Json::String(text)) => Value::text(text.as_str()),
        ("L", Json::Array(items)) => Value::List(items.iter().map(untyped).collect::<Option<_>>()?),
        ("M", Json::Object(members)) => {
            let member = |(name, value): &(String, Json)| Some((name.as_str().into(), untyped(value)?));
            Value::Map(members.iter().map(member).collect::<Option<_>>()?)
        }
        _ => return None,
    })
}

fn shown(value: &Value) -> Json {
    match value.normalised() {
        Value::Null => Json::Null,
        Value::Int(number) => Json::Number(number.into()),
        Value::Bool(truth) => Json::Bool(truth),
        Value::Text(text) | Value::Json(text) => Json::String(text.into()),
        Value::Uuid(uuid) => Json::String(uuid.to_string()),
        Value::Decimal(number) => Json::Number(number),
        Value::Float(Float(number)) => {
            Decimal::parse(&number.to_string()).map_or_else(|_| Json::String(number.to_string()), Json::Number)
        }
        Value::Timestamp(time) => Json::String(time.unix_us().map_or_else(|| "infinity".to_owned(), iso)),
        _ => Json::Null,
    }
}

/// A value in DynamoDB JSON, numbers by value.
fn typed(value: &Value) -> Json {
    let text = |text: &str| Json::String(text.to_owned());
    let (letter, json) = match value {
        Value::Null => ("NULL", Json::Bool(true)),
        Value::Bool(truth) => ("BOOL", Json::Bool(*truth)),
        Value::Decimal(number) => ("N", text(&Json::Number(number.clone()).canonical().to_text())),
        Value::Text(value) => ("S", text(value)),
        Value::List(items) => ("L", Json::Array(items.iter().map(typed).collect())),
        Value::Map(map) => {
            ("M", Json::Object(map.iter().map(|(name, value)| (name.to_string(), typed(value))).collect()))
        }
        other => ("other", text(&format!("{other:?}"))),
    };
    Json::Object(vec![(letter.to_owned(), json)])
}

fn iso(us: i128) -> String {
    jiff::Timestamp::from_nanosecond(us * 1_000)
        .map_or_else(|_| us.to_string(), |time| time.strftime("%Y-%m-%dT%H:%M:%S%.6f+00:00").to_string())
}

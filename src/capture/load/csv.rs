//! Reads comma-separated values as rows: pure.
//!
//! The first line names the columns, in any order. An empty field is NULL and a quoted one `""` is the empty text, which is what
//! Postgres's own `COPY … CSV` writes. Everything else is the text that Postgres reads, a JSON document too.

use std::collections::HashMap;
use std::hash::BuildHasher as _;

use crate::event::encoding::ordered::key_bytes;
use crate::event::{Cell, Json, Key, Relation, Row, Value};
use crate::postgres::decode_text;

use super::error::Problem;

/// What is wrong, and with which line, counted from 1.
pub(super) type Broken = (u64, Problem);

/// Reads every row and hands it to `take`, with its line.
///
/// # Errors
/// The first line that is no row.
pub(super) fn read(bytes: &[u8], relation: &Relation, mut take: impl FnMut(Key, Row)) -> Result<(), Broken> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(bytes);
    let mut record = csv::StringRecord::new();
    if !reader.read_record(&mut record).map_err(|error| broken(&error))? {
        return Err((1, Problem::NoHeader));
    }
    let places = places(&record, relation).map_err(|problem| (1, problem))?;
    // Lines by a digest of their keys; equal digests of different keys are too rare to keep keys for.
    let (mut seen, hasher) = (HashMap::new(), foldhash::quality::FixedState::default());
    let mut from = reader.position().byte();
    while reader.read_record(&mut record).map_err(|error| broken(&error))? {
        let line = record.position().map_or(0, csv::Position::line);
        let to = reader.position().byte();
        let text = slice(bytes, from, to);
        from = to;
        let (key, row) = row(&record, text, relation, &places).map_err(|problem| (line, problem))?;
        if let Some(other) = seen.insert(hasher.hash_one(key_bytes(&key)), line) {
            return Err((line, Problem::SameKey(other)));
        }
        take(key, row);
    }
    Ok(())
}

fn slice(bytes: &[u8], from: u64, to: u64) -> &[u8] {
    let at = |place: u64| usize::try_from(place).unwrap_or(usize::MAX).min(bytes.len());
    &bytes[at(from)..at(to)]
}

/// Where each column stands.
fn places(header: &csv::StringRecord, relation: &Relation) -> Result<Vec<usize>, Problem> {
    if let Some(unknown) = header.iter().find(|name| relation.columns.iter().all(|column| *column.name != **name)) {
        return Err(Problem::UnknownColumn(unknown.into()));
    }
    let place = |column: &crate::event::Column| {
        let mut found = header.iter().enumerate().filter(|(_, name)| **name == *column.name);
        match (found.next(), found.next()) {
            (Some((place, _)), None) => Ok(place),
            (None, _) => Err(Problem::NotNamed(column.name.clone())),
            _ => Err(Problem::NamedTwice(column.name.clone())),
        }
    };
    relation.columns.iter().map(place).collect()
}

fn row(record: &csv::StringRecord, text: &[u8], relation: &Relation, places: &[usize]) -> Result<(Key, Row), Problem> {
    let mut values = Vec::with_capacity(places.len());
    for (column, &place) in relation.columns.iter().zip(places) {
        let field = record.get(place).unwrap_or_default();
        if field.is_empty() && !quoted(text, place) {
            if column.key_part.is_some() {
                return Err(Problem::NullKey(column.name.clone()));
            }
            values.push(Value::Null);
            continue;
        }
        let bad = || Problem::Value { column: column.name.clone(), type_name: column.type_name.clone() };
        let value = decode_text(&column.type_name, field).map_err(|_| bad())?;
        if matches!(value, Value::Json(_)) && Json::parse(field).is_err() {
            return Err(bad());
        }
        values.push(value);
    }
    let key = relation.key_columns().into_iter().map(|index| values[index].clone()).collect();
    Ok((Key(key), Row(values.into_iter().map(Cell::Value).collect())))
}

/// Whether a field is written in quotes, which the reader does not tell.
fn quoted(record: &[u8], field: usize) -> bool {
    // Empty lines before a record are read with it.
    let mut rest = record.trim_ascii_start();
    for _ in 0..field {
        let mut within = false;
        let end = rest.iter().position(|&byte| {
            within ^= byte == b'"';
            byte == b',' && !within
        });
        let Some(end) = end else { return false };
        rest = &rest[end + 1..];
    }
    rest.first() == Some(&b'"')
}

fn broken(error: &csv::Error) -> Broken {
    let line = error.position().map_or(1, csv::Position::line);
    match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            (line, Problem::Fields { expected: *expected_len, found: *len })
        }
        // What is read is in memory, so that only its text can be wrong.
        _ => (line, Problem::NotText),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Column, RelationName};

    fn rows(text: &str) -> Result<Vec<Row>, Broken> {
        let column =
            |name: &str, type_name: &str, key_part| Column { name: name.into(), type_name: type_name.into(), key_part };
        let name = RelationName { schema: "public".into(), table: "t".into() };
        let columns = vec![column("id", "int4", Some(0)), column("name", "text", None), column("doc", "jsonb", None)];
        let mut rows = Vec::new();
        read(text.as_bytes(), &Relation { name, columns }, |key, row| {
            assert_eq!(key.0.len(), 1);
            rows.push(row);
        })?;
        Ok(rows)
    }

    #[test]
    fn an_empty_field_is_null_and_a_quoted_one_is_empty_text() {
        let row = |id, name, doc| -> Row { [Value::Int(id), name, doc].into_iter().collect() };
        let expected = [
            row(1, Value::Null, Value::Null),
            row(2, Value::text(""), Value::Null),
            row(3, Value::text("a, \"b\"\nc"), Value::Json("{\"x\": 1.0}".into())),
            row(4, Value::text(" "), Value::Json("null".into())),
        ];
        let lines = "name,id,doc\n,1,\n\"\",2,\n\"a, \"\"b\"\"\nc\",3,\"{\"\"x\"\": 1.0}\"\n\n\" \",4,null\n";
        assert_eq!(rows(lines), Ok(expected.to_vec()));
        assert_eq!(rows(&lines.replace('\n', "\r\n").replace("b\"\"\r\n", "b\"\"\n")), Ok(expected.to_vec()));
        assert_eq!(rows(&format!("\u{feff}{}", lines.trim_end())), Ok(expected.to_vec()));
        assert_eq!(
            rows("doc,name,id\n,,5\n\"1\",\"\",6"),
            Ok(vec![row(5, Value::Null, Value::Null), row(6, Value::text(""), Value::Json("1".into())),])
        );
    }

    #[test]
    fn a_broken_line_is_told_with_its_number() {
        let value = |column: &str, kind: &str| Problem::Value { column: column.into(), type_name: kind.into() };
        for (text, broken) in [
            ("", (1, Problem::NoHeader)),
            ("id,name\n", (1, Problem::NotNamed("doc".into()))),
            ("id,name,doc,name\n", (1, Problem::NamedTwice("name".into()))),
            ("id,name,doc,more\n", (1, Problem::UnknownColumn("more".into()))),
            ("id,name,doc\n1,a,\n2,b\n", (3, Problem::Fields { expected: 3, found: 2 })),
            ("id,name,doc\n1,\"a\nb\",\nx,c,\n", (4, value("id", "int4"))),
            ("id,name,doc\n1,a,{\n", (2, value("doc", "jsonb"))),
            ("id,name,doc\n,a,\n", (2, Problem::NullKey("id".into()))),
            ("id,name,doc\n1,a,\n2,a,\n1,b,\n", (4, Problem::SameKey(2))),
        ] {
            assert_eq!(rows(text), Err(broken), "{text}");
        }
    }
}

//! What the mapping costs: legacy rows to target rows on one core, without log, state or stores.
//!
//! `cargo bench --bench evaluate`. The rows are those of each migration's cases, one unit after the other, and a thousand documents of
//! one `semantik` collection, beside a loop that someone might write by hand for them: serde in, serde out.

use std::path::Path;

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use rehome::event::{Key, Value};
use rehome::mapping::{Corpus, Migration, SourceRow, SourceTable};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Documents of the collection.
const DOCUMENTS: i64 = 1_000;

fn main() {
    divan::main();
}

fn load(name: &str) -> Migration {
    Migration::load(&Path::new("schemas").join(name)).expect("a migration of ours")
}

/// Rows with their units, placed.
fn placed(migration: &Migration, rows: Vec<(SourceTable, SourceRow)>) -> (Corpus, Vec<String>) {
    let corpus = Corpus::place(migration, rows).expect("in memory");
    let units = corpus.units().map(str::to_owned).collect();
    (corpus, units)
}

fn evaluate(migration: &Migration, (corpus, units): &(Corpus, Vec<String>)) -> usize {
    let rows = |unit: &String| corpus.evaluate(migration, unit).expect("in memory").rows.len();
    units.iter().map(rows).sum()
}

#[divan::bench(args = ["delphi", "luthien", "jobs", "semantik"])]
fn cases(bencher: Bencher<'_, '_>, name: &str) {
    let migration = load(name);
    let rows: usize = migration.cases().iter().map(|case| case.given().len()).sum();
    let corpora: Vec<_> = migration.cases().iter().map(|case| placed(&migration, case.given().to_vec())).collect();
    bencher
        .counter(ItemsCount::new(rows))
        .bench(|| corpora.iter().map(|corpus| evaluate(&migration, black_box(corpus))).sum::<usize>());
}

#[divan::bench]
fn documents_by_mapping(bencher: Bencher<'_, '_>) {
    let migration = load("semantik");
    let corpus = placed(&migration, documents(&migration));
    assert!(evaluate(&migration, &corpus) > 1_000, "documents, their collection and its source");
    bencher.counter(ItemsCount::new(DOCUMENTS.unsigned_abs())).bench(|| evaluate(&migration, black_box(&corpus)));
}

#[divan::bench]
fn documents_by_hand(bencher: Bencher<'_, '_>) {
    let migration = load("semantik");
    let table = &migration.source_tables()[documents_table(&migration)];
    let line = |(of, row): (SourceTable, SourceRow)| {
        let cell = |value: &Value| match value {
            Value::Int(number) => serde_json::json!(number),
            Value::Text(text) => serde_json::json!(text),
            _ => serde_json::Value::Null,
        };
        let cells = table.columns.iter().zip(&row.values).map(|(column, value)| (column.name.to_string(), cell(value)));
        (usize::from(of.0) == documents_table(&migration))
            .then(|| serde_json::Value::Object(cells.collect()).to_string())
    };
    let lines: Vec<String> = documents(&migration).into_iter().filter_map(line).collect();
    assert_eq!(lines.len() as u64, DOCUMENTS.unsigned_abs());
    bencher
        .counter(ItemsCount::new(lines.len()))
        .bench(|| lines.iter().map(|line| by_hand(black_box(line)).len()).sum::<usize>());
}

fn documents_table(migration: &Migration) -> usize {
    migration.source_tables().iter().position(|table| *table.name == *"documents").expect("it has documents")
}

/// A job of a case, and documents like one of its own, each with contents of its own.
fn documents(migration: &Migration) -> Vec<(SourceTable, SourceRow)> {
    let documents = documents_table(migration);
    let column = |name: &str| {
        let columns = &migration.source_tables()[documents].columns;
        columns.iter().position(|column| *column.name == *name).expect("a column")
    };
    let [id, job, path, hash] = ["id", "job_id", "path", "content_hash"].map(column);
    let of = |row: &&(SourceTable, SourceRow)| usize::from(row.0.0) == documents;
    let whole = migration.cases().iter().find_map(|case| {
        let (_, document) = case.given().iter().find(of)?;
        let owner = case.given().iter().find(|(table, row)| {
            *migration.source_tables()[usize::from(table.0)].name == *"jobs" && row.values[0] == document.values[job]
        })?;
        Some((owner.clone(), document.clone()))
    });
    let (owner, document) = whole.expect("a case with a document of a job");
    let like = |number: i64| {
        let mut values = document.values.clone();
        values[id] = Value::Int(number);
        values[path] = Value::text(format!("/documents/of/someone/{number}.txt"));
        values[hash] = Value::text(blake3::hash(&number.to_be_bytes()).to_hex().as_str());
        (
            SourceTable(u16::try_from(documents).expect("few tables")),
            SourceRow { key: Key(vec![Value::Int(number)]), values },
        )
    };
    [owner].into_iter().chain((1..=DOCUMENTS).map(like)).collect()
}

#[derive(Deserialize)]
struct Old {
    job_id: String,
    path: String,
    size: i64,
    modified: String,
    extension: String,
    content_hash: String,
    doc_id: Option<String>,
    status: String,
    error: Option<String>,
    chunks_created: i64,
    created_at: String,
}

#[derive(Serialize)]
struct New {
    id: Uuid,
    collection_id: Uuid,
    file_path: String,
    file_name: String,
    file_size: i64,
    content_hash: String,
    status: &'static str,
    error_message: Option<String>,
    chunk_count: i64,
    created_at: String,
    updated_at: String,
    meta: Meta,
}

#[derive(Serialize)]
struct Meta {
    job_id: String,
    doc_id: Option<String>,
    extension: String,
    modified: String,
}

/// One document, as a script would do it: owner and model are known, and nothing is ever wrong.
fn by_hand(line: &str) -> String {
    let old: Old = serde_json::from_str(line).expect("a document");
    let collection = Uuid::new_v5(&Uuid::NAMESPACE_OID, b"1:model");
    let created = old.created_at.parse::<jiff::Timestamp>().expect("a time").to_string();
    let new = New {
        id: Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("1:model:{}", old.content_hash).as_bytes()),
        collection_id: collection,
        file_name: old.path.rsplit('/').next().unwrap_or_default().to_owned(),
        file_path: old.path,
        file_size: old.size,
        content_hash: old.content_hash,
        status: match &*old.status {
            "completed" => "completed",
            "failed" => "failed",
            _ => "pending",
        },
        error_message: old.error,
        chunk_count: old.chunks_created,
        updated_at: created.clone(),
        created_at: created,
        meta: Meta { job_id: old.job_id, doc_id: old.doc_id, extension: old.extension, modified: old.modified },
    };
    serde_json::to_string(&new).expect("plain data")
}

//! luthien: its examples, its determinism, and a call of many chunks.

use rehome::event::{Json, Key, Value};
use rehome::mapping::{
    MemoryRows, Migration, NO_UNIT, NoLook, Part, Place, ReadError, Routed, RowRef, SourceRow, SourceTable, UnitRows,
    evaluate,
};
use uuid::Uuid;

use crate::jsonl;
use crate::support::{assert_examples_hold, luthien, root, seconds, table};

/// Fewer examples than this means that some were not found.
const CASES_MIN: usize = 40;

#[test]
fn every_example_holds() {
    assert_examples_hold(&luthien(), CASES_MIN);
}

/// A row by column name; the others are NULL.
fn row(migration: &Migration, source: SourceTable, cells: &[(&str, Value)]) -> SourceRow {
    let def = &migration.source_tables()[usize::from(source.0)];
    let mut values = vec![Value::Null; def.columns.len()];
    for (name, value) in cells {
        values[def.column(name).expect("a column")] = value.clone();
    }
    SourceRow { key: migration.key_of(source, &values), values }
}

fn chunk(migration: &Migration, source: SourceTable, number: i64, text: &str) -> SourceRow {
    let raw = format!(r#"{{"model":"m","choices":[{{"index":0,"delta":{{"content":"{text}"}}}}]}}"#);
    row(
        migration,
        source,
        &[
            ("id", Value::Uuid(Uuid::from_u128(number.unsigned_abs().into()))),
            ("call_id", Value::text("c")),
            ("event_type", Value::text("original_chunk")),
            ("hook", Value::text("h")),
            ("sequence", Value::Int(number)),
            ("chunk_index", Value::Int(number)),
            ("raw_chunk", Value::Json(raw.into())),
            ("created_at", Value::Timestamp(seconds(number))),
        ],
    )
}

/// Rows made when they are asked for, which counts how many are asked for at once.
struct Generated {
    migration: Migration,
    events: SourceTable,
    rows: u64,
    page_max: std::cell::Cell<usize>,
}

impl UnitRows for Generated {
    fn scan(&self, source: SourceTable, visit: &mut dyn FnMut(RowRef, &SourceRow)) -> Result<(), ReadError> {
        for number in (0..self.rows).rev().filter(|_| source == self.events) {
            let row = chunk(&self.migration, source, i64::try_from(number).expect("small"), "ab");
            visit(RowRef(u32::from(source.0), number), &row);
        }
        Ok(())
    }

    fn fetch(&self, refs: &[RowRef], visit: &mut dyn FnMut(RowRef, &SourceRow)) -> Result<(), ReadError> {
        self.page_max.set(self.page_max.get().max(refs.len()));
        for handle in refs {
            visit(*handle, &chunk(&self.migration, self.events, i64::try_from(handle.1).expect("small"), "ab"));
        }
        Ok(())
    }
}

#[test]
fn a_call_of_many_chunks_is_read_in_pages() {
    const CHUNKS: u64 = 100_000;
    let migration = luthien();
    let events = table(&migration, "events");
    let rows = Generated { migration: luthien(), events, rows: CHUNKS, page_max: 0.into() };
    let evaluation = evaluate(&migration, "c", &Part::Whole, &rows, &NoLook, &[]).expect("rows are there");
    assert_eq!(evaluation.accounts.tables[&events].mapped, CHUNKS);
    assert!(evaluation.accounts.balanced());
    assert!((1..=1_000).contains(&rows.page_max.get()), "{} rows at once", rows.page_max.get());
    let payload = evaluation.rows.iter().flat_map(|row| &row.values).find_map(|value| match value {
        Value::Json(text) if text.contains("message") => Some(text.len()),
        _ => None,
    });
    assert!(payload.is_some_and(|length| length > 2 * 100_000), "{payload:?}");
}

#[test]
fn the_order_in_which_rows_are_visited_does_not_matter() {
    let migration = luthien();
    let events = table(&migration, "events");
    let calls = table(&migration, "calls");
    let mut rows: Vec<SourceRow> = (0..40).map(|number| chunk(&migration, events, number % 17, "x")).collect();
    let call = row(
        &migration,
        calls,
        &[
            ("call_id", Value::text("c")),
            ("created_at", Value::Timestamp(seconds(1))),
            ("updated_at", Value::Timestamp(seconds(1))),
        ],
    );
    let run = |rows: &[SourceRow]| {
        let mut memory = MemoryRows::new();
        rows.iter().for_each(|row| memory.push(events, row.clone()));
        memory.push(calls, call.clone());
        evaluate(&migration, "c", &Part::Whole, &memory, &NoLook, &[]).expect("in memory")
    };
    for (place, row) in rows.iter_mut().enumerate() {
        row.values[0] = Value::Uuid(Uuid::from_u128(place as u128));
        row.key = Key(vec![row.values[0].clone()]);
    }
    let forward = run(&rows);
    assert_eq!(forward.accounts.tables[&events].dropped["duplicate_chunk"], 23);
    for turn in [3, 11, 29] {
        rows.rotate_left(turn);
        rows[..20].reverse();
        assert_eq!(run(&rows), forward);
    }
}

#[test]
fn a_row_names_its_unit_and_its_key() {
    let migration = luthien();
    let events = table(&migration, "events");
    let row = chunk(&migration, events, 5, "x");
    let place = |values: &[Value]| {
        let cells = values.iter().cloned().collect();
        migration.place(events, &row.key, &cells, &NoLook).expect("nothing is looked up")
    };
    assert_eq!(place(&row.values), Routed::Placed(Place { unit: "c".into(), part: Part::Whole }));
    assert_eq!(migration.key_of(events, &row.values), Key(vec![Value::Uuid(Uuid::from_u128(5))]));
    assert_eq!(place(&vec![Value::Null; row.values.len()]), Routed::Quarantined(NO_UNIT.into()));
}

/// Rows in the sample; fewer means that some were not read.
const SAMPLE_UNITS_MIN: usize = 10;

#[test]
fn the_sample_gives_what_an_independent_implementation_gives() {
    let migration = luthien();
    let folder = root("tests/mapping/sample");
    let units = jsonl::read(&migration, &folder).expect("the sample is there");
    assert!(units.units().count() >= SAMPLE_UNITS_MIN, "only {} units", units.units().count());
    let canonical = |line: &str| Json::parse(line).expect("JSON lines").canonical().to_text();
    let mut found: Vec<String> =
        jsonl::lines(&migration, &units).expect("rows are there").iter().map(|line| canonical(line)).collect();
    let text = std::fs::read_to_string(folder.join("expected.jsonl")).expect("the expected rows are there");
    let mut wanted: Vec<String> = text.lines().map(canonical).collect();
    found.sort();
    wanted.sort();
    assert!(wanted.len() > 2 * SAMPLE_UNITS_MIN);
    for (found, wanted) in found.iter().zip(&wanted) {
        assert_eq!(found, wanted);
    }
    assert_eq!(found.len(), wanted.len());
}

#[test]
fn a_document_that_nests_too_deep_parks_its_unit_and_names_the_row() {
    let migration = luthien();
    let events = table(&migration, "events");
    let mut rows = MemoryRows::new();
    rows.push(events, chunk(&migration, events, 1, "fine"));
    let mut deep = chunk(&migration, events, 2, "x");
    let payload = migration.source_tables()[usize::from(events.0)].column("payload").expect("a column");
    deep.values[payload] = Value::Json("[".repeat(5_000).into());
    rows.push(events, deep.clone());
    let evaluation = evaluate(&migration, "c", &Part::Whole, &rows, &NoLook, &[]).expect("in memory");
    let parked = evaluation.parked.expect("it is parked");
    assert_eq!((&*parked.reason, parked.table, parked.key), ("unreadable_json", Some(events), Some(deep.key)));
    assert_eq!(evaluation.rows, []);
    assert_eq!(evaluation.accounts.tables[&events].quarantined["unreadable_json"], 2);
    assert!(evaluation.accounts.balanced());
}

//! Evaluates every unit of a folder of JSON lines and prints what comes of it as JSON lines, for comparison with an
//! independent implementation: `cargo run --example evaluate_jsonl -- SCHEMA_FOLDER DATA_FOLDER`.

#![expect(clippy::print_stdout, reason = "its output is its purpose")]

#[path = "../tests/mapping/jsonl.rs"]
mod jsonl;

use std::path::Path;

use rehome::mapping::Migration;

fn main() -> Result<(), jsonl::Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [schema, data] = arguments.as_slice() else {
        return Err("usage: evaluate_jsonl SCHEMA_FOLDER DATA_FOLDER".into());
    };
    let migration = Migration::load(Path::new(schema))?;
    let units = jsonl::read(&migration, Path::new(data))?;
    jsonl::lines(&migration, &units)?.iter().for_each(|line| println!("{line}"));
    Ok(())
}

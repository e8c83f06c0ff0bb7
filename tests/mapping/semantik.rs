//! semantik: its examples, and what an independent implementation says.

use rehome::mapping::run_cases;

use crate::jsonl;
use crate::support::semantik;

/// Fewer examples than this means that some were not found.
const CASES_MIN: usize = 25;

#[test]
fn every_example_holds() {
    let results = run_cases(&semantik());
    assert!(results.len() >= CASES_MIN, "only {} examples", results.len());
    let failures: Vec<String> = results
        .iter()
        .filter(|result| !result.failures.is_empty())
        .map(|result| format!("{}\n    {}", result.name, result.failures.join("\n    ")))
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn made_rows_with_every_hazard_give_what_an_independent_implementation_gives() {
    jsonl::assert_as_oracle_on_made_rows(&semantik(), 6);
}

#[test]
fn the_shared_data_gives_what_an_independent_implementation_gives() {
    let Some(folder) = jsonl::shared_data("semantik") else { return };
    let rows = jsonl::assert_as_oracle(&semantik(), &folder);
    assert!(rows > 700, "only {rows} rows");
}

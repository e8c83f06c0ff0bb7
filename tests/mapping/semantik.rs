//! semantik: its examples.

use rehome::mapping::run_cases;

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

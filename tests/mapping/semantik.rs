//! semantik: its examples, and what an independent implementation says.

use rehome::mapping::Condition;

use crate::oracle;
use crate::support::{assert_examples_hold, semantik, table};

/// Fewer examples than this means that some were not found.
const CASES_MIN: usize = 25;

#[test]
fn every_example_holds() {
    assert_examples_hold(&semantik(), CASES_MIN);
}

#[test]
fn made_rows_with_every_hazard_give_what_an_independent_implementation_gives() {
    oracle::assert_as_oracle_on_made_rows(&semantik(), 6);
}

#[test]
fn the_shared_data_gives_what_an_independent_implementation_gives() {
    let Some(folder) = oracle::shared_data("semantik") else { return };
    let rows = oracle::assert_as_oracle(&semantik(), &folder);
    assert!(rows > 700, "only {rows} rows");
}

#[test]
fn a_unit_is_read_through_its_jobs_and_a_default_owner_s_unit_also_where_none_is_named() {
    let migration = semantik();
    let (jobs, documents) = (table(&migration, "jobs"), table(&migration, "documents"));
    let is = |column, values: &[Option<&str>]| Condition::Is {
        column,
        values: values.iter().map(|value| value.map(Into::into)).collect(),
    };
    let reads = migration.unit_reads("1:a:b, user 1)");
    assert_eq!(reads.iter().map(|read| read.table).collect::<Vec<_>>(), [jobs, documents]);
    let model = is("model_name", &[Some("a:b, user 1)")]);
    assert_eq!(reads[0].conditions, [is("user_id", &[Some("1"), None]), model]);
    let of_job = Condition::OfParent { column: "job_id", parent: jobs, parent_column: "id" };
    assert_eq!(reads[1].conditions, [of_job]);
    let other = migration.unit_reads("2:sentence-transformers/all-MiniLM-L6-v2");
    let model = is("model_name", &[Some("sentence-transformers/all-MiniLM-L6-v2"), None]);
    assert_eq!(other[0].conditions, [is("user_id", &[Some("2")]), model]);
    for foreign in ["no unit", "x:m"] {
        assert_eq!(migration.unit_reads(foreign)[0].conditions, [is("id", &[])]);
    }
}

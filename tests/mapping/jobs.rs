//! jobs: its examples, what an independent implementation says, and the figures of the plan that it was made from.

use rehome::mapping::{Migration, SourceFile, Sources};
use rehome::target::TargetTable;

use crate::support::{assert_examples_hold, root, shipped};
use crate::{jsonl, oracle};

/// Fewer examples than this means that some were not found.
const CASES_MIN: usize = 12;

fn jobs() -> Migration {
    shipped("jobs")
}

#[test]
fn every_example_holds() {
    assert_examples_hold(&jobs(), CASES_MIN);
}

#[test]
fn made_rows_with_every_hazard_give_what_an_independent_implementation_gives() {
    oracle::assert_as_oracle_on_made_rows(&jobs(), 6);
}

#[test]
fn the_shared_data_gives_what_an_independent_implementation_gives() {
    let Some(folder) = oracle::shared_data("jobs") else { return };
    let rows = oracle::assert_as_oracle(&jobs(), &folder);
    assert!(rows > 900, "only {rows} rows");
}

/// Rows that each legacy table has by the plan: progress, script jobs, extraction jobs.
const PLAN: [(&str, u64); 3] =
    [("job_progress_history", 87), ("script_generation_jobs", 1), ("problem_extraction_jobs", 5)];

#[test]
fn the_plan_s_figures_are_the_figures() {
    let migration = jobs();
    let mut folders = vec![root("tests/mapping/plan003")];
    folders.extend(oracle::shared_data("jobs-seed003"));
    for folder in folders {
        assert_eq!(oracle::assert_as_oracle(&migration, &folder), 93);
        let corpus = jsonl::read(&migration, &folder).expect("the folder is there");
        let mut mapped = std::collections::BTreeMap::<&str, u64>::new();
        let mut keys = std::collections::BTreeSet::new();
        for unit in corpus.units() {
            let evaluation = corpus.evaluate(&migration, unit).expect("in memory");
            for (table, account) in &evaluation.accounts.tables {
                *mapped.entry(&migration.source_tables()[usize::from(table.0)].name).or_default() += account.mapped;
            }
            keys.extend(evaluation.rows.iter().map(|row| row.values[..2].to_vec()));
        }
        assert_eq!(mapped, PLAN.into_iter().collect());
        assert_eq!(keys.len(), 93, "entries of one second stand beside each other");
    }
}

/// The line of the mapping that says the units of progress, and one under which a row never leaves its unit.
const UNIT: [&str; 2] = [
    r#"progress = { id = { template = "{@type.job}:{.object_id}" }, unresolved = "quarantine:unknown_content_type" }"#,
    r#"progress = { id = { template = "progress:{.id}" } }"#,
];

#[test]
fn keys_that_begin_differently_and_tell_their_rows_need_no_claims_and_others_do() {
    assert!(!jobs().keys_disjoint(TargetTable(0)), "a row of progress may come to belong to another job");
    let changed = |from: &str, to: &str| {
        let mut sources = Sources::read(&root("schemas/jobs")).expect("the folder is there");
        assert!(sources.mapping.text.contains(from) && sources.mapping.text.contains(UNIT[0]), "{from}");
        let text = sources.mapping.text.replacen(from, to, 1).replacen(UNIT[0], UNIT[1], 1);
        let text = text.replacen("unknown_content_type = \"row\"\n", "", 1);
        sources.mapping = SourceFile::new(sources.mapping.name.clone(), text);
        sources.cases.clear();
        Migration::compile(&sources).unwrap_or_else(|error| panic!("{error}")).keys_disjoint(TargetTable(0))
    };
    assert!(changed("", ""));
    assert!(!changed("PK = { template = \"PEJOB#{@uuid}\" }", "PK = { template = \"SGJOB#{@uuid}\" }"));
    assert!(!changed("PK = { template = \"PEJOB#{@uuid}\" }", "PK = { template = \"S{@uuid}\" }"), "S begins SGJOB#");
    assert!(!changed(".{@fraction}#{.id}\"", ".{@fraction}{.id}\""), "the fraction and the number run together");
}

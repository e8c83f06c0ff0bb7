//! delphi: its examples, what an independent implementation says, and what stays when every name of the old writer changes.

use rehome::mapping::{Migration, SourceFile, Sources, run_cases};

use crate::oracle;
use crate::support::{assert_examples_hold, root, shipped};

/// Fewer examples than this means that some were not found.
const CASES_MIN: usize = 20;

fn delphi() -> Migration {
    shipped("delphi")
}

#[test]
fn every_example_holds() {
    assert_examples_hold(&delphi(), CASES_MIN);
}

#[test]
fn made_rows_with_every_hazard_give_what_an_independent_implementation_gives() {
    oracle::assert_as_oracle_on_made_rows(&delphi(), 6);
}

#[test]
fn the_shared_data_gives_what_an_independent_implementation_gives() {
    let Some(folder) = oracle::shared_data("delphi") else { return };
    let rows = oracle::assert_as_oracle(&delphi(), &folder);
    assert!(rows > 4000, "only {rows} rows");
}

/// Attributes, tables, indexes and words of the old writer, and those of the new tables; none holds another one that would
/// be replaced in it, because a longer name stands before its prefix.
const NAMES: [&str; 24] = [
    "zid_tick_gid",
    "zid_tick",
    "latest_math_tick",
    "math_tick",
    "last_updated",
    "rid_section_model",
    "report_id",
    "participant_id",
    "conversation_id",
    "comment_id",
    "group_comment",
    "group_id",
    "cluster_key",
    "topic_key",
    "edge_id",
    "report_key",
    "job_id",
    "unknown_job",
    "ConversationIndex",
    "ConversationIdIndex",
    "ReportIdTimestampIndex",
    "Delphi_",
    "_ByJob",
    "legacy-",
];

#[test]
fn with_every_name_of_the_old_writer_changed_all_examples_hold() {
    let sources = Sources::read(&root("schemas/delphi")).expect("the folder is there");
    let renamed = |file: &SourceFile| {
        let text = NAMES.iter().enumerate().fold(file.text.to_string(), |text, (place, name)| {
            text.replace(name, &format!("zq{}", char::from(b'a' + u8::try_from(place).expect("few names"))))
        });
        SourceFile::new(file.name.clone(), text)
    };
    let copy = Sources {
        legacy: renamed(&sources.legacy),
        mapping: renamed(&sources.mapping),
        target: renamed(&sources.target),
        cases: sources.cases.iter().map(renamed).collect(),
        ..sources.clone()
    };
    assert!(copy.mapping.text.contains("zqa") && !copy.mapping.text.contains("zid_tick"));
    let changed = Migration::compile(&copy).unwrap_or_else(|error| panic!("{error}"));
    let results = run_cases(&changed);
    assert_eq!(results.len(), delphi().cases().len());
    let failed: Vec<_> = results.iter().filter(|result| !result.failures.is_empty()).collect();
    assert!(failed.is_empty(), "{} failed, first: {:#?}", failed.len(), failed.first());
}

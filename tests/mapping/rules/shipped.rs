//! The rules that ship: they read, their invariants hold wherever the mapping is right, and each is broken where it is wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rehome::mapping::{Corpus, LoadError, Migration, SourceFile, Sources};
use rehome::rules::{Judged, Pair, RuleKind, Ruleset, Tally, Uses};

use super::bench::TODAY;
use crate::support::{root, shipped};
use crate::{jsonl, oracle};

/// Migrations with rules.
const SHIPPED: [&str; 3] = ["jobs", "luthien", "semantik"];
/// Seeds of made rows.
const SEEDS: u64 = 4;

fn rules(migration: &Migration) -> Ruleset {
    let name = format!("{}.toml", migration.name());
    let path = root("reconcile-rules").join(&name);
    let text = std::fs::read_to_string(&path).expect("the rules are there");
    Ruleset::read(&SourceFile::new(format!("reconcile-rules/{name}"), text), migration, TODAY)
        .unwrap_or_else(|error| panic!("{error}"))
}

/// Invariants that rows in memory break, by name, each with the first group and its sums.
fn broken(migration: &Migration, rules: &Ruleset, corpus: &Corpus) -> Vec<(String, String)> {
    let tally = Tally::of(migration, rules, corpus).expect("in memory");
    let name = |broken: &rehome::rules::Broken| rules.describe()[usize::from(broken.expect.0)].says.to_string();
    let show = |broken: &rehome::rules::Broken| format!("{:?}: {} and {}", broken.group, broken.left, broken.right);
    tally.broken(rules).iter().map(|broken| (name(broken), show(broken))).collect()
}

fn assert_hold(migration: &Migration, folder: &Path) {
    let rules = rules(migration);
    let corpus = jsonl::read(migration, folder).expect("the folder is there");
    let broken = broken(migration, &rules, &corpus);
    assert!(broken.is_empty(), "{} in {}: {broken:#?}", migration.name(), folder.display());
    let judged = Tally::of(migration, &rules, &corpus).expect("in memory").groups();
    assert!(judged.values().sum::<u64>() > 20, "groups were judged: {judged:?}");
}

#[test]
fn there_are_rules_for_every_migration_that_ships() {
    for entry in std::fs::read_dir(root("schemas")).expect("there are migrations").flatten() {
        if entry.path().is_dir() {
            rules(&shipped(&entry.file_name().to_string_lossy()));
        }
    }
}

#[test]
fn every_target_table_has_an_invariant_that_reads_the_legacy_rows() {
    for migration in SHIPPED.map(shipped) {
        let rules = rules(&migration);
        for (index, table) in migration.target_tables().iter().enumerate() {
            let about = |expect: &&rehome::rules::Expect| {
                expect.target_tables().iter().any(|target| usize::from(target.0) == index)
                    && !expect.source_tables().is_empty()
            };
            assert!(rules.expects().iter().any(|expect| about(&expect)), "nothing is expected of {}", table.name);
        }
    }
}

#[test]
fn invariants_hold_for_every_example() {
    for migration in SHIPPED.map(shipped) {
        let rules = rules(&migration);
        for example in migration.cases() {
            let broken = rules.broken_by(&migration, example).expect("in memory");
            let named: Vec<_> =
                broken.iter().map(|broken| (&rules.describe()[usize::from(broken.expect.0)].says, broken)).collect();
            assert!(named.is_empty(), "{}: {}: {named:#?}", migration.name(), example.name());
        }
    }
}

#[test]
fn invariants_hold_for_made_rows_with_every_hazard() {
    for migration in ["jobs", "semantik"].map(shipped) {
        for seed in 0..SEEDS {
            assert_hold(&migration, oracle::made_rows(&migration, seed).path());
        }
    }
}

#[test]
fn invariants_hold_for_the_sample_and_the_shared_data() {
    assert_hold(&shipped("luthien"), &root("tests/mapping/sample"));
    assert_hold(&shipped("jobs"), &root("tests/mapping/plan003"));
    for name in SHIPPED {
        if let Some(folder) = oracle::shared_data(name) {
            assert_hold(&shipped(name), &folder);
        }
    }
}

#[test]
fn every_row_of_a_mapping_is_in_the_scope_of_its_rules() {
    for migration in SHIPPED.map(shipped) {
        let rules = rules(&migration);
        let (mut uses, mut rows) = (Uses::new(), 0);
        for example in migration.cases() {
            let corpus = Corpus::place(&migration, example.given().to_vec()).expect("in memory");
            for unit in corpus.units() {
                for row in corpus.evaluate(&migration, unit).expect("in memory").rows {
                    assert_eq!(rules.table(row.table).scope(&row, &mut uses), Judged::Ours, "{}", example.name());
                    rows += 1;
                }
            }
        }
        assert!(rows > 10, "only {rows} rows of {}", migration.name());
    }
}

/// A mistake in a mapping, and the invariant that tells it.
struct Mistake {
    migration: &'static str,
    from: &'static str,
    to: &'static str,
    /// How many occurrences of `from` stand before the one that is changed.
    after: usize,
    told_by: &'static str,
}

const fn mistake(
    migration: &'static str,
    from: &'static str,
    to: &'static str,
    after: usize,
    told_by: &'static str,
) -> Mistake {
    Mistake { migration, from, to, after, told_by }
}

const MISTAKES: &[Mistake] = &[
    mistake("jobs", "tp = \"sgjob\"", "tp = \"sgjobs\"", 0, "every script job is one item"),
    mistake("jobs", "tp = \"pejob\"", "tp = \"sgjob\"", 0, "every extraction job is one item"),
    mistake(
        "jobs",
        "upd = { epoch = \".updated_at\", refuse = \"time_not_finite\" }",
        "upd = { first = [\"@created\", { epoch = \".updated_at\", refuse = \"time_not_finite\" }] }",
        0,
        "a script job keeps its times, in whole seconds",
    ),
    mistake(
        "jobs",
        "upd = { epoch = \".updated_at\", refuse = \"time_not_finite\" }",
        "upd = { first = [\"@created\", { epoch = \".updated_at\", refuse = \"time_not_finite\" }] }",
        1,
        "an extraction job keeps its times, in whole seconds",
    ),
    mistake(
        "jobs",
        "tit = \".title\"",
        "tit = { first = [\".status\", \".title\"] }",
        0,
        "no character of a script job's texts is lost or made up",
    ),
    mistake(
        "jobs",
        "pidt = \".problem_identifier\"",
        "pidt = { first = [\".problem_url\", \".problem_identifier\"] }",
        0,
        "no character of an extraction job's texts is lost or made up",
    ),
    mistake(
        "jobs",
        "SGJOB#STATUS#{.status}",
        "SGJOB#STATUS#{.platform}",
        0,
        "the index says the status that the job has",
    ),
    mistake("jobs", "{@fraction}#{.id}", "{@fraction}#{.id}{.object_id}", 0, "every entry of progress is one item"),
    mistake(
        "jobs",
        "msg = \".message\"",
        "msg = { first = [\".status\", \".message\"] }",
        0,
        "no character of an entry's texts is lost or made up",
    ),
    mistake("jobs", "crt = \"@created\"", "crt = \".id\"", 2, "an entry keeps its time, in whole seconds"),
    mistake(
        "luthien",
        "call_id = \".call_id\"",
        "call_id = { first = [\".model_name\", \".call_id\"] }",
        0,
        "every call that any row names has one row",
    ),
    mistake(
        "luthien",
        "completed_at = \".completed_at\"",
        "completed_at = { first = [\".created_at\", \".completed_at\"] }",
        0,
        "a call ends when it ended",
    ),
    mistake(
        "luthien",
        "created_at = \".created_at\"",
        "created_at = { first = [{ time = \"1970-01-01T00:00:00Z\", zone = \"UTC\", refuse = \"not_storable\" }, \".created_at\"] }",
        0,
        "a call begins no earlier than it began",
    ),
    mistake("luthien", "type = \"request\"", "type = \"response\"", 0, "every request with messages is an event"),
    mistake("luthien", "type = \"response\"", "type = \"request\"", 0, "no request is made up"),
    mistake(
        "luthien",
        "text = { first = [\".delta_text\",",
        "text = { first = [\"\", \".delta_text\",",
        0,
        "no text that was streamed is lost: original chunks",
    ),
    mistake(
        "luthien",
        "text = { first = [\".delta_text\",",
        "text = { first = [\"\", \".delta_text\",",
        0,
        "no text that was streamed is lost: chunks after policies",
    ),
    mistake(
        "luthien",
        "to = \"policy_events\"\n\n[map.columns]\nid = \".id\"\ncall_id = \".call_id\"",
        "to = \"policy_events\"\n\n[map.columns]\nid = \".id\"\ncall_id = { first = [\".tool_call_id\", \".call_id\"] }",
        0,
        "every judge decision is one policy event",
    ),
    mistake(
        "luthien",
        "explanation = \".explanation\"",
        "explanation = { first = [\".tool_call_id\", \".explanation\"] }",
        0,
        "no character of a judge's words is lost or made up",
    ),
    mistake(
        "luthien",
        "event_type = \"judge_decision\"",
        "event_type = \"tool_call_recorded\"",
        0,
        "no tool call is recorded that no row tells of",
    ),
    mistake("luthien", "original_event_id = \"@original\"\n", "", 0, "what a policy changed is linked on both sides"),
    mistake("semantik", "default_owner = 1", "default_owner = 2", 0, "every owner and model of a job has a collection"),
    mistake(
        "semantik",
        "job_id = { if = { not = { is_uuid = \".id\" } }, then = \".id\" }",
        "job_id = { if = { not = { is_uuid = \".id\" } }, then = \".name\" }",
        0,
        "every job is one operation",
    ),
    mistake("semantik", "user_id = \"@owner\"", "user_id = 1", 0, "an operation belongs to the owner of its job"),
    mistake(
        "semantik",
        "error_message = \".error\"",
        "error_message = { first = [\".description\", \".error\"] }",
        0,
        "no character of a job's error is lost or made up",
    ),
    mistake(
        "semantik",
        "source_path = \".directory_path\"",
        "source_path = \".name\"",
        0,
        "every directory that a collection was made from is one source",
    ),
    mistake("semantik", "content_hash = \"@content\"", "content_hash = \".path\"", 0, "every content has a document"),
    mistake(
        "semantik",
        "file_size = \".size\"",
        "file_size = \".chunks_created\"",
        0,
        "every document stands for a row",
    ),
    mistake(
        "semantik",
        "duplicates = { list = \".path\", after_first = true }",
        "duplicates = { list = \".path\" }",
        0,
        "paths of contents that are kept once are kept all",
    ),
    mistake("semantik", "documents = 1, bytes", "documents = 2, bytes", 0, "a collection counts its documents"),
    mistake("semantik", "bytes = \".size\"", "bytes = \".chunks_created\"", 0, "a collection counts its bytes"),
    mistake("semantik", "chunks = \".chunks_created\" }", "chunks = 1 }", 0, "a collection counts its chunks"),
];

/// A copy of a migration with one text of its mapping replaced.
fn mistaken(mistake: &Mistake) -> Result<Migration, LoadError> {
    let mut sources = Sources::read(&root("schemas").join(mistake.migration)).expect("the folder is there");
    let text = sources.mapping.text.to_string();
    let (at, _) = text.match_indices(mistake.from).nth(mistake.after).unwrap_or_else(|| panic!("no {}", mistake.from));
    let changed = format!("{}{}{}", &text[..at], mistake.to, &text[at + mistake.from.len()..]);
    sources.mapping = SourceFile::new(sources.mapping.name.clone(), changed);
    sources.cases.clear();
    Migration::compile(&sources)
}

/// What a row is compared as.
fn form(rules: &Ruleset, row: &rehome::target::TargetRow) -> Vec<u8> {
    let mut out = Vec::new();
    rules.table(row.table).strict(row, Pair::Key, &mut Uses::new(), &mut out);
    out
}

/// Whether a folder has an export of every table of a migration.
fn holds(migration: &Migration, folder: &Path) -> bool {
    migration.source_tables().iter().all(|table| folder.join(format!("{}.jsonl", table.name)).exists())
}

/// A wrong mapping projects what it expects, so comparing its rows finds nothing; an invariant does.
#[test]
fn a_wrong_mapping_is_told_by_an_invariant_though_its_rows_compare_equal() {
    let made = SHIPPED.map(|name| {
        let none = || tempfile::tempdir().expect("a folder");
        // There are no made rows of luthien; its sample has real ones.
        (name, if name == "luthien" { none() } else { oracle::made_rows(&shipped(name), 0) })
    });
    let (made, sample) = (BTreeMap::from(made), root("tests/mapping/sample"));
    let (mut told, mut untold) = (BTreeSet::new(), Vec::new());
    for mistake in MISTAKES {
        let right = shipped(mistake.migration);
        let wrong = match mistaken(mistake) {
            Ok(wrong) => wrong,
            Err(error) => {
                untold.push(format!("{}: {error}", mistake.to));
                continue;
            }
        };
        let rules = rules(&wrong);
        let mut names = BTreeSet::new();
        let mut compared = 0;
        let mut judge = |corpus: &Corpus| {
            for unit in corpus.units() {
                // What the projection wrote, and what the reconciler expects: each evaluates for itself.
                let [projected, expected] = [(); 2].map(|()| corpus.evaluate(&wrong, unit).expect("in memory").rows);
                assert!(expected.iter().map(|row| form(&rules, row)).eq(projected.iter().map(|row| form(&rules, row))));
                compared += expected.len();
            }
            names.extend(broken(&wrong, &rules, corpus).into_iter().map(|(name, _)| name));
            names.contains(mistake.told_by)
        };
        let examples =
            right.cases().iter().map(|case| Corpus::place(&wrong, case.given().to_vec()).expect("in memory"));
        let folders = [sample.as_path(), made[mistake.migration].path()];
        let exports = folders.into_iter().filter(|folder| holds(&wrong, folder));
        let exports = exports.map(|folder| jsonl::read(&wrong, folder).expect("the folder is there"));
        // Made rows are many: they are read where no example tells.
        examples.chain(exports).any(|corpus| judge(&corpus));
        assert!(compared > 0, "no row of {} was compared", mistake.migration);
        match names.contains(mistake.told_by) {
            true => drop(told.insert(mistake.told_by)),
            false => untold.push(format!("{} for {}: only {names:?}", mistake.to, mistake.from)),
        }
    }
    assert!(untold.is_empty(), "{untold:#?}");
    for migration in SHIPPED.map(shipped) {
        for rule in rules(&migration).describe().iter().filter(|rule| rule.kind == RuleKind::Expect) {
            assert!(told.contains(&*rule.says), "nothing shows that `{}` can break", rule.says);
        }
    }
}

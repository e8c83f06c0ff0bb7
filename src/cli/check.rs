//! `rehome check`: the files, their cases, the rules and what they expect of the cases, and the live database where one is
//! named.

use serde::Serialize;

use crate::mapping::{Case, LoadError, Migration, Problem, run_cases};
use crate::postgres::preflight::Severity;
use crate::rules::{RuleKind, Ruleset};

use super::args::{Global, Lookups};
use super::exit::Exit;
use super::{Failure, engine_of, locate, output};

#[derive(Serialize)]
struct Report {
    migration: String,
    source_tables: usize,
    target_tables: usize,
    cases: usize,
    failed: Vec<Failed>,
    rules: usize,
    invariants: usize,
    source: Option<Vec<Found>>,
    /// Live tables beside the migration's own; absent when nobody asked, or the source does not let them be listed.
    unmentioned: Option<Vec<String>>,
    /// What the target lacks of what the mapping requires; absent without an address.
    target: Option<Vec<Found>>,
}

/// In place of a [`Report`], where the files do not read.
#[derive(Serialize)]
struct Refused {
    migration: String,
    problems: Vec<Wrong>,
}

#[derive(Serialize)]
struct Wrong {
    file: String,
    line: usize,
    column: usize,
    what: String,
    fix: String,
}

#[derive(Serialize)]
struct Failed {
    case: String,
    problems: Vec<String>,
}

#[derive(Serialize)]
struct Found {
    severity: &'static str,
    place: String,
    what: String,
    fix: String,
}

/// Reads a migration, runs its cases, and looks the source over where its address is given.
pub async fn run(global: &Global, name: &str, lookups: &Lookups) -> Result<Exit, Failure> {
    let migration = match locate::read(global, name)? {
        Ok(migration) => migration,
        Err(error) => return Ok(refused(global, &error)),
    };
    let engine = engine_of(global, migration, lookups, |_| {});
    engine.check_name()?;
    let migration = engine.migration();
    let rules = match locate::read_rules(global, migration)? {
        Ok(rules) => rules,
        Err(error) => return Ok(refused(global, &error)),
    };
    let mut results = run_cases(migration);
    for (result, case) in results.iter_mut().zip(migration.cases()) {
        result.failures.extend(broken(&rules, migration, case));
    }
    let failed: Vec<Failed> = results
        .iter()
        .filter(|result| !result.failures.is_empty())
        .map(|result| Failed { case: result.name.to_string(), problems: result.failures.clone() })
        .collect();
    let mut unmentioned = None;
    let found = |finding: crate::postgres::preflight::Finding| Found {
        severity: if finding.severity == Severity::Error { "error" } else { "warning" },
        place: finding.place,
        what: finding.what,
        fix: finding.fix,
    };
    let target = match global.target {
        Some(_) => Some(engine.unmet().await?.into_iter().map(found).collect()),
        None => None,
    };
    let source = if global.source.is_some() {
        let findings = engine.preflight().await?.into_iter().map(found).collect();
        match engine.unmentioned().await {
            Ok(tables) => unmentioned = Some(tables),
            // Listing is a courtesy: a migration needs no permission for it.
            Err(error) => output::say(format!("other tables are not listed: {error}")),
        }
        Some(findings)
    } else {
        None
    };
    let report = Report {
        migration: name.to_owned(),
        source_tables: migration.source_tables().len(),
        target_tables: migration.target_tables().len(),
        cases: results.len(),
        failed,
        rules: rules.describe().iter().filter(|rule| rule.kind != RuleKind::Expect).count(),
        invariants: rules.expects().len(),
        source,
        unmentioned,
        target,
    };
    let errors = report.source.iter().chain(&report.target).flatten().any(|found| found.severity == "error");
    if global.json {
        output::json(&report);
    } else {
        show(&report);
    }
    Ok(if report.failed.is_empty() && !errors { Exit::Success } else { Exit::Mismatch })
}

/// Tells what is wrong in the files: nothing else can be looked at before that is mended.
fn refused(global: &Global, error: &LoadError) -> Exit {
    if global.json {
        let problem = |problem: &Problem| {
            let (line, column) = problem.position();
            Wrong {
                file: problem.file.name.clone(),
                line,
                column,
                what: problem.message.clone(),
                fix: problem.fix.clone(),
            }
        };
        let problems = error.problems.iter().map(problem).collect();
        output::json(&Refused { migration: error.migration.clone(), problems });
    } else {
        output::say(locate::rendered(error));
    }
    Exit::Mismatch
}

/// Invariants that an example breaks. What it shows is right, so either its mapping or the invariant is wrong.
fn broken(rules: &Ruleset, migration: &Migration, case: &Case) -> Vec<String> {
    match rules.broken_by(migration, case) {
        Err(error) => vec![error.to_string()],
        Ok(broken) => broken
            .iter()
            .map(|broken| {
                let rule = &rules.describe()[usize::from(broken.expect.0)];
                let (says, line) = (&rule.says, rule.line);
                format!(
                    "it breaks the invariant \"{says}\" (line {line} of the rules): {} and {}",
                    broken.left, broken.right
                )
            })
            .collect(),
    }
}

fn show(report: &Report) {
    for failed in &report.failed {
        output::line(format!("case {} fails", failed.case));
        for problem in &failed.problems {
            output::line(format!("  {problem}"));
        }
    }
    for found in report.source.iter().chain(&report.target).flatten() {
        output::line(format!("{}: {}: {}\n  fix: {}", found.severity, found.place, found.what, found.fix));
    }
    if let Some(tables) = report.unmentioned.as_ref().filter(|tables| !tables.is_empty()) {
        output::line(format!("not mentioned by the migration, for information: {}", tables.join(", ")));
    }
    output::line(format!(
        "{}: {} source tables, {} target tables, {} of {} cases pass, {} rules, {} invariants{}",
        report.migration,
        report.source_tables,
        report.target_tables,
        report.cases - report.failed.len(),
        report.cases,
        report.rules,
        report.invariants,
        looked_at(report)
    ));
}

/// Which databases were looked at, and what came of it.
fn looked_at(report: &Report) -> String {
    let side = |name: &str, found: &Option<Vec<Found>>| match found {
        None => format!("; no --{name}, so it was not looked at"),
        Some(found) => format!("; {} finding(s) in the {name}", found.len()),
    };
    match (&report.source, &report.target) {
        (None, None) => "; no --source and no --target, so no database was looked at".to_owned(),
        (source, None) => side("source", source),
        (source, target) => side("source", source) + &side("target", target),
    }
}

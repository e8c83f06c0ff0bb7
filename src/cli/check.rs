//! `rehome check`: the files, their cases, the rules and what they expect of the cases, and the live database where one is
//! named.

use serde::Serialize;

use crate::mapping::{Case, Migration, run_cases};
use crate::postgres::preflight::Severity;
use crate::rules::{RuleKind, Ruleset};

use super::args::Global;
use super::exit::Exit;
use super::{Failure, engine, locate, output};

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
pub async fn run(global: &Global, name: &str) -> Result<Exit, Failure> {
    let engine = engine(global, name)?;
    let migration = engine.migration();
    let rules = locate::rules(global, migration)?;
    let mut results = run_cases(migration);
    for (result, case) in results.iter_mut().zip(migration.cases()) {
        result.failures.extend(broken(&rules, migration, case));
    }
    let failed: Vec<Failed> = results
        .iter()
        .filter(|result| !result.failures.is_empty())
        .map(|result| Failed { case: result.name.to_string(), problems: result.failures.clone() })
        .collect();
    let source = if global.source.is_some() {
        let found = |finding: crate::postgres::preflight::Finding| Found {
            severity: if finding.severity == Severity::Error { "error" } else { "warning" },
            place: finding.place,
            what: finding.what,
            fix: finding.fix,
        };
        Some(engine.preflight().await?.into_iter().map(found).collect())
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
    };
    let errors = report.source.iter().flatten().any(|found| found.severity == "error");
    if global.json {
        output::json(&report);
    } else {
        show(&report);
    }
    Ok(if report.failed.is_empty() && !errors { Exit::Success } else { Exit::Mismatch })
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
    for found in report.source.iter().flatten() {
        output::line(format!("{}: {}: {}\n  fix: {}", found.severity, found.place, found.what, found.fix));
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
        match &report.source {
            None => "; no --source, so no database was looked at".to_owned(),
            Some(found) => format!("; {} finding(s) in the source", found.len()),
        }
    ));
}

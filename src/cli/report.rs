//! `rehome report`: what a night's comparison came to, again.

use comfy_table::{CellAlignment, Table};
use serde_json::json;

use crate::reconcile::{Cover, Digests, RuleKind, Summary, Verdict};
use crate::report::words::{self, number, plain};
use crate::report::{self, Night, Reports, markdown};

use super::args::{AlarmArgs, Global, ReportArgs};
use super::exit::Exit;
use super::{Failure, alarm, output};

/// Causes shown on a terminal.
const CAUSES_MAX: usize = 10;

/// Shows a night, or lists all of them.
pub async fn run(global: &Global, args: ReportArgs) -> Result<Exit, Failure> {
    let reports = Reports::new(&args.reports, &args.migration);
    if args.list {
        return list(global, &reports);
    }
    let night = match &args.night {
        Some(night) => night.parse()?,
        None => reports.latest()?,
    };
    let summary = reports.summary(night)?;
    let folder = reports.path(night);
    if global.json {
        output::json(&summary);
    } else if args.markdown {
        output::line(markdown::render(&summary).trim_end());
    } else {
        show(&summary);
        output::line(format!("  page: {}", folder.join(report::folder::PAGE).display()));
    }
    alarm::raise(&AlarmArgs { on_alarm: args.on_alarm, webhook: args.webhook }, &folder, &summary).await;
    Ok(exit(summary.verdict))
}

/// The exit code of a verdict.
pub fn exit(verdict: Verdict) -> Exit {
    match verdict {
        Verdict::Match => Exit::Success,
        Verdict::Mismatch => Exit::Mismatch,
        Verdict::Incomplete => Exit::Incomplete,
    }
}

fn list(global: &Global, reports: &Reports) -> Result<Exit, Failure> {
    let nights = reports.nights()?;
    // A night that another version wrote is still listed.
    let verdict = |night: Night| reports.summary(night).ok().map(|summary| (summary.verdict, summary.details.found));
    let nights: Vec<_> = nights.into_iter().map(|night| (night, verdict(night))).collect();
    if global.json {
        let entry = |(night, known): &(Night, Option<(Verdict, u64)>)| {
            let folder = reports.path(*night);
            json!({
                "night": night.to_string(), "folder": folder,
                "verdict": known.map(|(verdict, _)| verdict), "discrepancies": known.map(|(_, found)| found),
            })
        };
        output::json(&nights.iter().map(entry).collect::<Vec<_>>());
        return Ok(Exit::Success);
    }
    let mut table = output::table(&["night", "verdict", "discrepancies"]);
    for (night, known) in nights {
        let (verdict, found) = match known {
            Some((verdict, found)) => (words::verdict(verdict), number(found)),
            None => ("of another version", String::new()),
        };
        table.add_row([night.to_string(), verdict.to_owned(), found]);
    }
    output::line(table.to_string());
    Ok(Exit::Success)
}

/// Shows a summary for people.
pub fn show(summary: &Summary) {
    let (begin, took) = (words::time(summary.started), words::duration(summary.seconds));
    output::line(format!(
        "{} {}: {}",
        words::verdict(summary.verdict),
        plain(&summary.migration),
        words::headline(summary)
    ));
    for why in &summary.why {
        output::line(format!("  {} {}", number(why.count), plain(&why.sentence)));
    }
    output::line(format!("  begun {begin}, took {took}, {}", words::grade(summary.grade)));
    for (side, positions) in [("source", &summary.cut.sources), ("target", &summary.cut.targets)] {
        for position in positions {
            output::line(format!("  {side} {} at {}", plain(&position.stream), plain(&position.position)));
        }
    }
    for snapshot in summary.cut.snapshots.iter().filter(|snapshot| snapshot.earlier_ranges > 0) {
        let (name, taken) = (plain(&snapshot.name), words::time(snapshot.taken));
        output::line(format!("  snapshot {name} of {taken}{}", words::earlier(snapshot)));
    }
    if let Some(log) = summary.cut.log {
        output::line(format!("  log offset {}", log.offset));
    }
    output::line(conservation(summary));
    causes(summary);
    rules(summary);
    let (planted, found) = summary.recall();
    output::line(format!("{} of {} planted faults found", number(found), number(planted)));
    let gaps = summary.ledger.iter().filter(|entry| entry.cover == Cover::Gap).count() as u64;
    if gaps > 0 {
        output::line(format!("{} NOT READ TO THE END", words::some(gaps, "table", "tables")));
    }
    let lost = summary.hops.iter().filter(|hop| hop.rows_in != hop.rows_out || hop.digests == Digests::Different);
    let lost = lost.count() as u64;
    if lost > 0 {
        output::line(format!("{} OF THE COMPARISON LOST OR CHANGED ROWS", words::some(lost, "STAGE", "STAGES")));
    }
    let broken: u64 = summary.expects.iter().map(|expect| expect.broken).sum();
    let (rules, broken) = (summary.expects.len() as u64, words::some(broken, "group", "groups"));
    output::line(format!("{} beside the mapping, broken for {broken}", words::some(rules, "invariant", "invariants")));
}

/// Rules that let differences pass, and used to.
fn rules(summary: &Summary) {
    let lets_pass = |kind| matches!(kind, RuleKind::Tolerate | RuleKind::Ignore | RuleKind::Waive);
    for rule in summary.rules.iter().filter(|rule| rule.uses > 0 && lets_pass(rule.kind)) {
        let most = rule.deviation_max.as_deref().map(|most| format!(", at most {}", plain(most))).unwrap_or_default();
        let (id, uses) = (plain(&rule.id), words::some(rule.uses, "time", "times"));
        output::line(format!("rule {id} ({}) used {uses}{most}", words::rule(rule.kind)));
    }
    let unused = summary.rules.iter().filter(|rule| rule.uses == 0).count() as u64;
    if unused > 0 {
        output::line(format!("{} matched nothing", words::some(unused, "rule", "rules")));
    }
}

fn conservation(summary: &Summary) -> String {
    let mut table = output::table(&["table", "", "rows", "", "what became of them"]);
    let sign = |holds: bool| if holds { "=" } else { "≠" }.to_owned();
    let mut all = true;
    for source in &summary.sources {
        let (holds, sum) = (source.balanced(), words::sum(&words::source_terms(source)));
        all &= holds;
        table.add_row([plain(&source.table), "read".to_owned(), number(source.read), sign(holds), sum]);
    }
    for target in &summary.targets {
        all &= target.balanced();
        for (side, tally) in [("expected", &target.expected), ("there", &target.read)] {
            let (holds, sum) = (tally.balanced(), words::sum(&words::tally_terms(tally)));
            table.add_row([plain(&target.table), side.to_owned(), number(tally.rows), sign(holds), sum]);
        }
    }
    right(&mut table, 2);
    format!("{table}\n{}", if all { "all equations hold" } else { "AN EQUATION DOES NOT HOLD" })
}

fn causes(summary: &Summary) {
    if summary.causes.is_empty() {
        return;
    }
    let mut table = output::table(&["count", "table", "what", "fields", "where"]);
    for cause in summary.causes.iter().take(CAUSES_MAX) {
        let what = format!("{}, {}", words::kind(cause.kind), words::state(cause.state));
        let fields = if cause.fields.is_empty() { "whole rows".to_owned() } else { plain(&cause.fields.join(", ")) };
        table.add_row([number(cause.count), plain(&cause.table), what, fields, words::blame(cause.blame).to_owned()]);
    }
    right(&mut table, 0);
    output::line(table.to_string());
    if summary.causes.len() > CAUSES_MAX {
        output::line(format!("and {} smaller causes", number((summary.causes.len() - CAUSES_MAX) as u64)));
    }
}

/// Lines a column of numbers up.
fn right(table: &mut Table, column: usize) {
    if let Some(column) = table.column_mut(column) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}

impl From<report::Error> for Failure {
    fn from(error: report::Error) -> Self {
        let hint = error.hint().map(str::to_owned);
        Self { message: super::chain(&error), hint }
    }
}

//! A night as Markdown: for a ticket or a chat. Counts and causes; single discrepancies are in the files.

use std::fmt::Write as _;

use crate::reconcile::{Cover, Digests, Summary};

use super::words::{self, number};

/// Causes shown.
const CAUSES_MAX: usize = 20;

/// The whole text.
pub fn render(summary: &Summary) -> String {
    let mut text = String::new();
    head(summary, &mut text);
    conservation(summary, &mut text);
    causes(summary, &mut text);
    rules(summary, &mut text);
    checks(summary, &mut text);
    text
}

fn head(summary: &Summary, text: &mut String) {
    put(text, format_args!("# {}: {}\n", cell(&summary.migration), words::verdict(summary.verdict)));
    put(text, format_args!("{}\n", words::headline(summary)));
    for why in &summary.why {
        put(text, format_args!("- {} ({})", cell(&why.sentence), number(why.count)));
    }
    put(text, format_args!("\n## Cut\n"));
    let (begin, end) = (words::time(summary.started), words::time(summary.finished));
    put(text, format_args!("- {begin} to {end}, {}", words::grade(summary.grade)));
    for (side, positions) in [("source", &summary.cut.sources), ("target", &summary.cut.targets)] {
        for position in positions {
            put(text, format_args!("- {side} {} at {}", cell(&position.stream), cell(&position.position)));
        }
    }
    for snapshot in &summary.cut.snapshots {
        let position = snapshot.position.as_deref().map(|position| format!(" at {}", cell(position)));
        let (taken, earlier) = (words::time(snapshot.taken), words::earlier(snapshot));
        let position = position.unwrap_or_default();
        put(text, format_args!("- snapshot {}{position} of {taken}{earlier}", cell(&snapshot.name)));
    }
    if let Some(log) = summary.cut.log {
        put(text, format_args!("- log offset {} (generation {})", log.offset, log.generation));
    }
}

fn conservation(summary: &Summary, text: &mut String) {
    put(text, format_args!("\n## Conservation\n\n| table | rows | = | holds |\n|---|--:|---|---|"));
    let holds = |balanced: bool| if balanced { "yes" } else { "**NO**" };
    for source in &summary.sources {
        let sum = cell(&words::sum(&words::source_terms(source)));
        let (table, read) = (cell(&source.table), number(source.read));
        put(text, format_args!("| {table}, read | {read} | {sum} | {} |", holds(source.balanced())));
    }
    for target in &summary.targets {
        for (side, tally) in [("expected", &target.expected), ("at the target", &target.read)] {
            let sum = cell(&words::sum(&words::tally_terms(tally)));
            let (table, rows) = (cell(&target.table), number(tally.rows));
            put(text, format_args!("| {table}, {side} | {rows} | {sum} | {} |", holds(tally.balanced())));
        }
    }
}

fn causes(summary: &Summary, text: &mut String) {
    if summary.causes.is_empty() {
        return;
    }
    put(text, format_args!("\n## Causes\n\n| count | table | what | fields | where |\n|--:|---|---|---|---|"));
    for cause in summary.causes.iter().take(CAUSES_MAX) {
        let fields = if cause.fields.is_empty() { "whole row".to_owned() } else { cell(&cause.fields.join(", ")) };
        let (count, table) = (number(cause.count), cell(&cause.table));
        let (state, kind) = (words::state(cause.state), words::kind(cause.kind));
        put(text, format_args!("| {count} | {table} | {kind}, {state} | {fields} | {} |", words::blame(cause.blame)));
    }
    if let Some(more) = summary.causes.len().checked_sub(CAUSES_MAX).filter(|more| *more > 0) {
        put(text, format_args!("\n{} more in summary.json.", words::some(more as u64, "cause", "causes")));
    }
}

fn rules(summary: &Summary, text: &mut String) {
    if summary.rules.is_empty() {
        return;
    }
    put(text, format_args!("\n## Rules\n\n| rule | does | for | uses | why |\n|---|---|---|--:|---|"));
    for rule in &summary.rules {
        let place = match &rule.field {
            Some(field) => cell(&format!("{}.{field}", rule.table)),
            None => cell(&rule.table),
        };
        let most = rule.deviation_max.as_ref().map(|most| format!(", at most {}", cell(most))).unwrap_or_default();
        let (id, does, uses) = (cell(&rule.id), words::rule(rule.kind), number(rule.uses));
        put(text, format_args!("| {id} | {does} | {place} | {uses}{most} | {} |", cell(&rule.reason)));
    }
}

fn checks(summary: &Summary, text: &mut String) {
    put(text, format_args!("\n## Checks\n"));
    for expect in &summary.expects {
        let (name, groups, broken) = (cell(&expect.name), number(expect.groups), number(expect.broken));
        put(text, format_args!("- {name}: {broken} of {groups} groups broken"));
    }
    let (planted, found) = summary.recall();
    put(text, format_args!("- {} of {} planted faults found", number(found), number(planted)));
    let gaps = summary.ledger.iter().filter(|entry| entry.cover == Cover::Gap).count() as u64;
    put(
        text,
        format_args!(
            "- {} read, {}",
            words::some(summary.ledger.len() as u64, "table", "tables"),
            words::some(gaps, "gap", "gaps")
        ),
    );
    let lost = summary.hops.iter().filter(|hop| hop.rows_in != hop.rows_out || hop.digests == Digests::Different);
    let (hops, lost) = (summary.hops.len() as u64, number(lost.count() as u64));
    put(text, format_args!("- {}, {lost} of them with other rows than went in", words::some(hops, "stage", "stages")));
    let budget = &summary.budget;
    let (took, read, memory) =
        (words::duration(summary.seconds), words::bytes(budget.read_bytes), words::bytes(budget.memory_bytes));
    put(text, format_args!("- {took}, {read} read, {memory} of memory, {} rows/s", number(budget.rows_per_second)));
}

/// Adds a line.
fn put(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = writeln!(text, "{line}");
}

/// A text that stays in its cell and means nothing else.
fn cell(text: &str) -> String {
    let mut cell = String::with_capacity(text.len());
    for character in words::plain(text).chars() {
        if matches!(character, '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '#' | '~' | '&' | '!' | '@') {
            cell.push('\\');
        }
        cell.push(character);
    }
    cell
}

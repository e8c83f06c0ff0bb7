//! `rehome status`: where a migration stands, and its conservation equations.

use crate::engine::protocol::{Answer, Request, Status};
use crate::project::run::Halt;

use super::args::Global;
use super::exit::Exit;
use super::{Failure, engine, output};

/// Tells where a migration stands.
pub async fn run(global: &Global, migration: &str) -> Result<Exit, Failure> {
    let engine = engine(global, migration)?;
    let status = match engine.ask(Request::Status).await? {
        Answer::Status(status) => status,
        Answer::Failed { message, hint } => return Err(Failure { message, hint }),
        _ => return Err(Failure::from("the running process answered another question".to_owned())),
    };
    if global.json {
        output::json(&status);
    } else {
        show(&status);
    }
    Ok(if status.balanced { Exit::Success } else { Exit::Incomplete })
}

/// Shows a status as tables.
pub fn show(status: &Status) {
    output::line(format!(
        "{}: {}; {} of {} events applied, {} parts to be projected",
        status.migration, status.phase, status.applied, status.log_end, status.dirty
    ));
    if let Some(capture) = &status.capture {
        show_capture(capture);
    }
    if let Some(Halt { parked, evaluated, reason, .. }) = &status.halted {
        output::line(format!(
            "HALTED: {parked} of {evaluated} parts that were evaluated are parked, most for {reason}: `rehome quarantine list {}`, mend the \
             cause, and `rehome quarantine retry` (or `skip`) goes on",
            status.migration
        ));
    }
    for (table, difference) in &status.paused {
        output::line(format!(
            "PAUSED {table}: {difference}; its events are kept: `rehome accept-schema {} {table}` goes on",
            status.migration
        ));
    }
    for table in &status.skipped {
        output::line(format!(
            "SKIPPED {table}: optional, and not in the source; should it appear, the next run takes it in"
        ));
    }
    for file in &status.files {
        output::line(format!("{}: {} rows from {}", file.relation, file.rows, file.path.display()));
    }
    for finding in status.capture.iter().filter_map(|capture| capture["findings"].as_array()).flatten() {
        let part = |name: &str| finding[name].as_str().unwrap_or_default().to_owned();
        output::line(format!("warning: {}: {}\n  fix: {}", part("place"), part("what"), part("fix")));
    }
    let mut events = output::table(&["events of", "captured", "= applied", "+ superseded", "+ held", "+ dropped"]);
    for (table, counts) in &status.conservation.events {
        let dropped = reasons(&counts.dropped);
        events.add_row([
            table.clone(),
            counts.captured.to_string(),
            counts.applied.to_string(),
            counts.superseded.to_string(),
            counts.held.to_string(),
            dropped,
        ]);
    }
    output::line(events.to_string());
    let mut rows =
        output::table(&["rows of", "read", "= mapped", "+ dropped", "+ quarantined", "+ waiting", "+ looked up"]);
    for (table, balance) in &status.conservation.rows {
        rows.add_row([
            table.clone(),
            balance.read.to_string(),
            balance.counts.mapped.to_string(),
            reasons(&balance.counts.dropped),
            reasons(&balance.counts.quarantined),
            balance.waiting.to_string(),
            balance.lookup.to_string(),
        ]);
    }
    output::line(rows.to_string());
    let target = &status.conservation.target;
    output::line(format!(
        "target rows: {} expected = {} written + {} foreign + {} parked",
        target.expected, target.written, target.foreign, target.parked
    ));
    output::line(format!("units: {}", reasons(&status.conservation.units)));
    if !status.conservation.counts.is_empty() {
        output::line(format!("counted: {}", reasons(&status.conservation.counts)));
    }
    output::line(if status.balanced { "all equations hold" } else { "AN EQUATION DOES NOT HOLD: please report this" });
}

/// Shows how the source is followed: an error that it waits after, how far behind it is, and what that costs the source.
fn show_capture(capture: &serde_json::Value) {
    let number = |name: &str| capture[name].as_i64();
    if let Some(error) = capture["error"].as_str() {
        let tries = number("retries").unwrap_or_default();
        output::line(format!("WAITING for the source, tried again {tries} times: {error}"));
    }
    // Streams of DynamoDB have no slot.
    let Some(slot) = capture["slot"].as_str() else { return };
    let mut told = format!("{} bytes of WAL behind", number("lag_bytes").unwrap_or_default());
    if let Some(kept) = number("retained_bytes") {
        told.push_str(&format!("; slot {slot} keeps {kept} bytes of it"));
    }
    if let Some(safe) = number("safe_wal_bytes") {
        told.push_str(&format!(", and is lost after {safe} more"));
    }
    output::line(told);
}

fn reasons(counts: &std::collections::BTreeMap<String, u64>) -> String {
    if counts.is_empty() {
        return "0".to_owned();
    }
    counts.iter().map(|(reason, count)| format!("{count} {reason}")).collect::<Vec<_>>().join(", ")
}

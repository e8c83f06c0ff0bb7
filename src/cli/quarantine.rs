//! `rehome quarantine`: units and rows that could not be migrated.

use crate::engine::protocol::{Answer, ParkedUnit, Request};
use crate::project::result::Status;

use super::args::{Global, QuarantineAction};
use super::exit::Exit;
use super::{Failure, engine, output};

/// Lists, shows, retries or skips.
pub async fn run(global: &Global, action: QuarantineAction) -> Result<Exit, Failure> {
    match action {
        QuarantineAction::List { migration } => list(global, &migration, None).await,
        QuarantineAction::Show { migration, unit } => list(global, &migration, Some(&unit)).await,
        QuarantineAction::Retry { migration, units } => note(global, &migration, Request::Retry { units }).await,
        QuarantineAction::Skip { migration, unit, reason } => {
            note(global, &migration, Request::Skip { unit, reason }).await
        }
    }
}

async fn list(global: &Global, migration: &str, only: Option<&str>) -> Result<Exit, Failure> {
    let engine = engine(global, migration)?;
    let mut units = match engine.ask(Request::Quarantine).await? {
        Answer::Quarantine { units } => units,
        Answer::Failed { message, hint } => return Err(Failure { message, hint }),
        _ => return Err(Failure::from("the running process answered another question".to_owned())),
    };
    if let Some(only) = only {
        units.retain(|unit| unit.unit == only);
        if units.is_empty() {
            let hint = Some(format!("`rehome diff {migration} {only}` compares it"));
            return Err(Failure { message: format!("unit {only} is not in quarantine"), hint });
        }
    }
    if global.json {
        output::json(&units);
    } else if units.is_empty() {
        output::line("nothing is in quarantine");
    } else {
        show(&units, only.is_some());
    }
    Ok(if units.is_empty() { Exit::Success } else { Exit::Incomplete })
}

fn show(units: &[ParkedUnit], details: bool) {
    let mut table = output::table(&["unit", "scope", "reason", "where", "as of offset"]);
    for unit in units {
        let offset = unit.result.offset.to_string();
        let name = if unit.unit.is_empty() { "(none)" } else { &unit.unit };
        let row = |scope: &str, reason: &str, place: &str| [name, scope, reason, place, &offset].map(str::to_owned);
        if let (Status::Parked { reason, detail }, true) = (&unit.result.status, unit.rows.is_empty()) {
            table.add_row(row("unit", reason, detail));
        }
        for quarantined in &unit.rows {
            let place = format!("{} {}", quarantined.table, quarantined.key);
            let reason = match (&unit.result.status, quarantined.reason.as_str()) {
                (Status::Parked { reason, .. }, "") => reason,
                (_, reason) => reason,
            };
            table.add_row(row("row", reason, &place));
        }
    }
    output::line(table.to_string());
    if details {
        for unit in units {
            for (name, counts) in &unit.result.rows.0 {
                output::line(format!("{name}: {} rows, {} mapped", counts.total(), counts.mapped));
            }
        }
    }
}

async fn note(global: &Global, migration: &str, request: Request) -> Result<Exit, Failure> {
    let engine = engine(global, migration)?;
    match engine.ask(request).await? {
        Answer::Noted { units, skipped } => {
            if global.json {
                output::json(&serde_json::json!({ "units": units, "skipped": skipped }));
            } else {
                output::line(format!("{units} unit(s) noted in the log; a run evaluates them again"));
                if skipped > 0 {
                    output::line(format!("{skipped} unit(s) stay skipped; `retry` takes one in again that it names"));
                }
            }
            Ok(Exit::Success)
        }
        Answer::Failed { message, hint } => Err(Failure { message, hint }),
        _ => Err(Failure::from("the running process answered another question".to_owned())),
    }
}

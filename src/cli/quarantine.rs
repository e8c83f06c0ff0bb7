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
        if let Status::Parked { reason, detail } = &unit.result.status {
            table.add_row([unit.unit.clone(), "unit".to_owned(), reason.clone(), detail.clone(), offset.clone()]);
        }
        for row in &unit.result.quarantined_rows {
            let place = format!("{} {}", row.table, row.key);
            table.add_row([unit.unit.clone(), "row".to_owned(), row.reason.clone(), place, offset.clone()]);
        }
    }
    output::line(table.to_string());
    if details {
        for unit in units {
            for (name, counts) in &unit.result.rows {
                output::line(format!("{name}: {} rows, {} mapped", counts.total(), counts.mapped));
            }
        }
    }
}

async fn note(global: &Global, migration: &str, request: Request) -> Result<Exit, Failure> {
    let engine = engine(global, migration)?;
    match engine.ask(request).await? {
        Answer::Noted { units } => {
            if global.json {
                output::json(&serde_json::json!({ "units": units }));
            } else {
                output::line(format!("{units} unit(s) noted in the log; a run evaluates them again"));
            }
            Ok(Exit::Success)
        }
        Answer::Failed { message, hint } => Err(Failure { message, hint }),
        _ => Err(Failure::from("the running process answered another question".to_owned())),
    }
}

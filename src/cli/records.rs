//! `rehome log` and `rehome accept-schema`.

use crate::engine::protocol::{Answer, Request};

use super::args::{Global, LogAction};
use super::exit::Exit;
use super::{Failure, engine, output};

/// Does what was asked with the log.
pub async fn act(global: &Global, action: LogAction) -> Result<Exit, Failure> {
    match action {
        LogAction::Show { migration, from, limit, table, reveal } => {
            show(global, &migration, Request::Log { from, limit, reveal, table }).await
        }
        LogAction::Erase { migration, table, keys } => erase(global, &migration, &table, &keys).await,
    }
}

/// Erases rows that have gone.
async fn erase(global: &Global, migration: &str, table: &str, keys: &[String]) -> Result<Exit, Failure> {
    let erased = engine(global, migration)?.erase(table, keys).await?;
    if global.json {
        output::json(&serde_json::json!({ "table": table, "rows": erased.rows, "events": erased.events }));
    } else {
        output::line(format!("{table}: {} row(s) erased, {} event(s) of theirs", erased.rows, erased.events));
    }
    Ok(Exit::Success)
}

/// Shows records of the log, one JSON object a line.
async fn show(global: &Global, migration: &str, request: Request) -> Result<Exit, Failure> {
    let engine = engine(global, migration)?;
    match engine.ask(request).await? {
        Answer::Log { records, next } => {
            for record in &records {
                output::line(record.to_string());
            }
            if !global.json {
                output::say(format!("{} records; --from {next} goes on", records.len()));
            }
            Ok(Exit::Success)
        }
        Answer::Failed { message, hint } => Err(Failure { message, hint }),
        _ => Err(Failure::from("the running process answered another question".to_owned())),
    }
}

/// Takes a table's changed shape.
pub async fn accept_schema(global: &Global, migration: &str, table: &str, read_again: bool) -> Result<Exit, Failure> {
    let engine = engine(global, migration)?;
    match engine.ask(Request::AcceptSchema { table: table.to_owned(), read_again }).await? {
        Answer::Accepted { difference } => {
            if global.json {
                output::json(&serde_json::json!({ "table": table, "accepted": difference }));
            } else {
                let next = if read_again { "reads the source again" } else { "goes on with the events held back" };
                output::line(format!("{table}: {difference}: accepted; a run {next}"));
            }
            Ok(Exit::Success)
        }
        Answer::Failed { message, hint } => Err(Failure { message, hint }),
        _ => Err(Failure::from("the running process answered another question".to_owned())),
    }
}

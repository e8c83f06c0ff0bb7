//! `rehome load`: a migration from dumps.

use std::collections::BTreeMap;

use tokio_util::sync::CancellationToken;

use crate::engine::protocol::{Answer, Request};

use super::args::{Global, LoadArgs};
use super::exit::Exit;
use super::run::stop_on_signal;
use super::{Failure, engine_with, output, status, tune_target};

/// Loads a dump of every table and projects them.
pub async fn load(global: &Global, args: &LoadArgs) -> Result<Exit, Failure> {
    let engine = engine_with(global, &args.migration, &args.lookups, |settings| tune_target(&args.target, settings))?;
    let stop = CancellationToken::new();
    let signals = tokio::spawn(stop_on_signal(stop.clone()));
    let mut rows: BTreeMap<String, u64> = BTreeMap::new();
    let outcome = engine
        .load(&args.files, args.again, stop.clone(), |dump, loaded| {
            rows.insert(dump.relation.name.table.to_string(), loaded.rows);
        })
        .await;
    signals.abort();
    outcome?;
    for (table, rows) in rows {
        output::say(format!("{table}: {rows} rows loaded"));
    }
    let Answer::Status(status) = engine.ask(Request::Status).await? else {
        return Err(Failure::from("the state could not be read after the load".to_owned()));
    };
    if global.json {
        output::json(&status);
    } else {
        status::show(&status);
    }
    Ok(if status.proven() && !stop.is_cancelled() { Exit::Success } else { Exit::Incomplete })
}

//! `rehome up`, `down` and `stop`.

use std::io::{BufRead as _, IsTerminal as _};

use crate::engine::{Earlier, Engine, FolderRemoved, Taken};

use super::args::{Global, Lookups};
use super::exit::Exit;
use super::{Failure, engine, engine_with, output};

/// Prepares both databases and the state folder.
pub async fn up(global: &Global, migration: &str, earlier: Earlier, lookups: &Lookups) -> Result<Exit, Failure> {
    let engine = engine_with(global, migration, lookups, |_| {})?;
    let up = engine.up(earlier).await?;
    if global.json {
        let findings: Vec<_> = up
            .findings
            .iter()
            .map(|finding| {
                serde_json::json!({
                    "what": finding.what, "place": finding.place, "fix": finding.fix,
                })
            })
            .collect();
        output::json(&serde_json::json!({
            "migration": migration, "warnings": findings, "created": up.target.created, "present": up.target.present,
            "adopted": up.adopted.map(|adopted| match adopted.taken {
                Taken::Units(units) => serde_json::json!({ "units": units, "slots": adopted.slots }),
                Taken::Items(items) => serde_json::json!({ "items": items, "slots": adopted.slots }),
            }),
        }));
        return Ok(Exit::Success);
    }
    for finding in &up.findings {
        output::line(format!("warning: {}: {}\n  fix: {}", finding.place, finding.what, finding.fix));
    }
    for table in &up.target.created {
        output::line(format!("created {table}"));
    }
    for table in &up.target.present {
        output::line(format!("{table} is there already"));
    }
    if let Some(adopted) = up.adopted {
        for slot in adopted.slots {
            output::line(format!("removed replication slot {slot} of the earlier state folder"));
        }
        let taken = match adopted.taken {
            Taken::Units(units) => format!("{units} unit(s)"),
            Taken::Items(items) => format!("{items} item(s)"),
        };
        output::line(format!(
            "adopted {taken} at the target: the run writes each again, or removes it where the source has no row of it"
        ));
    }
    output::line(format!("{migration} is ready: `rehome run {migration}` copies and follows"));
    Ok(Exit::Success)
}

/// Removes what rehome made.
pub async fn down(global: &Global, migration: &str, yes: bool) -> Result<Exit, Failure> {
    let engine = engine(global, migration)?;
    if !yes && !confirmed(&engine)? {
        return Ok(Exit::Incomplete);
    }
    let down = engine.down().await?;
    let mut removed = down.source.removed.clone();
    removed.push(format!("{} records of parts at the target", down.target.records));
    if down.target.schema_dropped {
        removed.push("schema rehome at the target".to_owned());
    }
    let mut left = down.source.left.clone();
    match down.folder {
        Some(FolderRemoved { path, stays: None }) => removed.push(format!("state folder {}", path.display())),
        Some(FolderRemoved { path, stays: Some(why) }) => {
            removed.push(format!("what rehome made in {}", path.display()));
            left.push(format!("state folder {}: {why}", path.display()));
        }
        None => left.push("a state folder, if it is elsewhere: there is none here".to_owned()),
    }
    left.extend(down.target.left.iter().map(|table| format!("target table {table}, with its rows")));
    if global.json {
        output::json(&serde_json::json!({ "removed": removed, "left": left }));
    } else {
        for item in removed {
            output::line(format!("removed {item}"));
        }
        for item in left {
            output::line(format!("left {item}"));
        }
    }
    Ok(Exit::Success)
}

fn confirmed(engine: &Engine) -> Result<bool, Failure> {
    let (migration, folder) = (engine.migration().name(), engine.state_folder().display());
    let what = format!(
        "This removes slot and publication of {migration}, its event log and state in {folder}, and the record that \
         a Postgres target holds of what it wrote: those rows count as someone else's from then on."
    );
    if !std::io::stdin().is_terminal() {
        return Err(Failure {
            message: format!("there is nobody to ask. {what}"),
            hint: Some("pass --yes".to_owned()),
        });
    }
    output::say(format!("{what} Type {migration} to go on:"));
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).map_err(|error| Failure::from(error.to_string()))?;
    Ok(answer.trim() == migration)
}

/// Stops a run that is under way.
pub async fn stop(global: &Global, migration: &str) -> Result<Exit, Failure> {
    let engine = engine(global, migration)?;
    let stopped = engine.stop().await?;
    if global.json {
        output::json(&serde_json::json!({ "stopping": stopped }));
    } else {
        output::line(if stopped { "stopping" } else { "nothing is running" });
    }
    Ok(Exit::Success)
}

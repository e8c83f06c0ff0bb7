//! Optional tables that the source lacks: named wherever a person looks, and looked for again while the capture runs.
//!
//! A table that appears later was not captured from its beginning, so only a new epoch can take it in. The next start opens one by
//! itself; a running capture is not ended for it, because reading everything again is for a person to time.

use tokio::sync::watch;

use super::{CaptureStatus, Error, marks};
use crate::event::RelationName;
use crate::log::{Batch, EventLog};
use crate::source::{Finding, Severity};

/// Records and tells which tables are skipped; `before` tells of each whether it was captured until now.
pub(super) async fn note(
    log: &dyn EventLog,
    status: &watch::Sender<CaptureStatus>,
    skipped: Vec<RelationName>,
    before: impl Fn(&RelationName) -> bool,
) -> Result<(), Error> {
    let lines = skipped.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    let value = (!lines.is_empty()).then(|| lines.into_bytes());
    if log.mark(marks::SKIPPED)? != value {
        let marks = [(marks::SKIPPED.to_owned(), value)].into();
        log.append(Batch { marks, ..Batch::default() }).await?;
    }
    for table in &skipped {
        tracing::warn!(%table, "optional, and not in the source: it is skipped");
        if before(table) {
            let what = "it was captured before and is gone: what was read of it stays as it was";
            let fix = "accept-schema TABLE --read-again, while no run is under way: the next run then reads everything again \
                       and deletes what it does not find, within --sweep-max";
            tell(status, table, what, fix);
        }
    }
    status.send_modify(|status| status.skipped = skipped);
    Ok(())
}

/// Tells that skipped tables are there now.
pub(super) fn appeared(status: &watch::Sender<CaptureStatus>, tables: &[RelationName]) {
    for table in tables {
        let what = "it is there now, and was not when the capture began: it is still skipped";
        tell(status, table, what, "stop the run and start it again: it reads everything again in a new epoch");
    }
}

/// Adds a warning about a table, once.
fn tell(status: &watch::Sender<CaptureStatus>, table: &RelationName, what: &str, fix: &str) {
    let place = table.to_string();
    let finding = Finding { what: what.to_owned(), place, fix: fix.to_owned(), severity: Severity::Warning };
    if status.borrow().findings.contains(&finding) {
        return;
    }
    tracing::warn!(%table, %what, %fix, "an optional table");
    status.send_modify(|status| status.findings.push(finding));
}

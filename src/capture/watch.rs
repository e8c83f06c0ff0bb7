//! Heartbeat and watch over the slot.
//!
//! A logical message in the source's WAL keeps the position of an idle database moving. The slot is looked at as often:
//! production's disk comes before the migration, so a slot that keeps too much WAL is given up when asked to, loudly. So is what the
//! stream rests on: publication, tables, partitions.

use super::drive::Ended;
use super::epoch::Session;
use super::run::Context;
use super::{Error, footing, skipped};
use crate::postgres::catalog;
use crate::postgres::preflight::slot_finding;
use crate::postgres::provision::{self, SlotFacts};

/// What the heartbeat's message says.
const HEARTBEAT: &str = "heartbeat";

/// Watches until the slot is lost or given up, or the stream rests on something else.
pub(super) async fn over(context: &Context, session: &Session) -> Result<Ended, Error> {
    let mut connection = context.server.connect().await?;
    let mut ticks = tokio::time::interval(context.config.heartbeat);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut warned = None;
    loop {
        ticks.tick().await;
        provision::emit(&mut connection, HEARTBEAT).await?;
        if !session.skipped.is_empty() {
            skipped::appeared(&context.status, &catalog::present(&mut connection, &session.skipped).await?);
        }
        if let Some(reason) = footing::look(context, &mut connection, session).await? {
            return Ok(Ended::Lost(reason));
        }
        let Some(slot) = provision::slot(&mut connection, &session.slot).await? else {
            return Ok(Ended::Lost(format!("replication slot {} is gone", session.slot)));
        };
        if slot.wal_status == "lost" {
            return Ok(Ended::Lost(format!("the server removed WAL that replication slot {} needs", session.slot)));
        }
        if let Some(limit) = context.config.abandon_slot_at.filter(|limit| keeps(&slot) >= *limit) {
            return abandon(context, session, &mut connection, keeps(&slot), limit).await;
        }
        let finding = slot_finding(&session.slot, &slot, context.config.abandon_slot_at);
        let place = format!("replication slot {}", session.slot);
        context.tell(|status| {
            status.safe_wal_bytes = slot.safe_wal_bytes;
            status.retained_bytes = slot.retained_bytes;
            status.wal_end = status.wal_end.max(slot.wal_end);
            status.findings.retain(|old| old.place != place);
            status.findings.extend(finding.clone());
        });
        if let Some(finding) = finding.as_ref().filter(|finding| warned.as_ref() != Some(&finding.fix)) {
            tracing::warn!(what = %finding.what, fix = %finding.fix, "the replication slot is in danger");
        }
        warned = finding.map(|finding| finding.fix);
    }
}

/// Bytes of WAL that the slot keeps.
fn keeps(slot: &SlotFacts) -> u64 {
    slot.retained_bytes.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0)
}

/// Gives the slot up. The mark comes first: whatever happens then, this epoch does not go on.
async fn abandon(
    context: &Context,
    session: &Session,
    connection: &mut crate::postgres::Connection,
    kept: u64,
    limit: u64,
) -> Result<Ended, Error> {
    let reason = format!("replication slot {} kept {kept} bytes of WAL and was given up at {limit}", session.slot);
    tracing::error!(slot = %session.slot, kept, limit, "giving the replication slot up before it fills the disk");
    context.set([(super::marks::LOST.into(), Some(reason.clone().into_bytes()))]).await?;
    // The stream still holds the slot; the server lets go of it a moment after its session was ended.
    let dropped = provision::drop_slot(connection, &session.slot).await;
    if let Err(error) = dropped {
        tracing::warn!(%error, "the slot is dropped when the next epoch opens");
    }
    Ok(Ended::Lost(reason))
}

//! What an earlier migration may have left in a source. A slot that nobody reads keeps the server's WAL until its disk is
//! full, so it is told by name, with the command that removes it.

use sqlx::{PgConnection, Row as _};

use super::connect::{quote, quote_literal};
use super::error::sql;
use super::preflight::{Finding, Severity};
use super::provision::publication_name;
use crate::source::Error;

/// A slot with a name as ours have it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Slot {
    /// Name without epoch and nonce.
    prefix: String,
    name: String,
    database: String,
    active: bool,
    /// Bytes of WAL that it keeps; none when it is lost.
    retained_bytes: Option<i64>,
}

/// Whether a state folder answers for what carries the migration's prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateFolder {
    /// It does: its slot and publication are no leftovers.
    Present,
    /// There is none.
    Absent,
}

/// Lists slots and publications that seem to be left over, the slot that keeps the most WAL first.
///
/// `prefix` is the present migration's. Slots of all databases of the server are listed, since they fill one disk.
///
/// # Errors
/// When the server cannot be asked.
pub async fn leftovers(
    connection: &mut PgConnection,
    prefix: &str,
    folder: StateFolder,
) -> Result<Vec<Finding>, Error> {
    const ACTION: &str = "look for slots and publications left over";
    let database: String =
        sqlx::query_scalar("select current_database()::text").fetch_one(&mut *connection).await.map_err(sql(ACTION))?;
    let slots = slots(connection).await?;
    let publications: Vec<String> = sqlx::query_scalar(
        "select pubname::text from pg_publication where pubname ~ '^rehome_.*_publication$' order by 1",
    )
    .fetch_all(connection)
    .await
    .map_err(sql(ACTION))?;
    let own = |slot: &&Slot| slot.prefix == prefix && slot.database == database;
    let mut findings: Vec<Finding> = slots
        .iter()
        .filter(|slot| folder == StateFolder::Absent || !own(slot))
        // What another migration reads at this moment is not left over.
        .filter(|slot| !slot.active || own(slot))
        .map(slot_finding)
        .collect();
    for name in publications {
        let own = name == publication_name(prefix);
        let read = slots.iter().any(|slot| slot.database == database && name == publication_name(&slot.prefix));
        let left_over = if own { folder == StateFolder::Absent } else { !read };
        if left_over {
            findings.push(publication_finding(&name, own));
        }
    }
    Ok(findings)
}

/// Slots of the server with a name as ours have it.
async fn slots(connection: &mut PgConnection) -> Result<Vec<Slot>, Error> {
    const ACTION: &str = "look for slots left over";
    // A standby does not tell where its WAL ends in this way; that it is one is told elsewhere.
    let rows = sqlx::query(
        "select substring(slot_name::text from '^(rehome_.*)_e[0-9]+_[0-9a-f]{8}$') as prefix, slot_name::text as name, \
           database::text as database, active, \
           case when pg_is_in_recovery() then null else (pg_current_wal_lsn() - restart_lsn)::int8 end as retained \
         from pg_replication_slots where slot_name::text ~ '^rehome_.*_e[0-9]+_[0-9a-f]{8}$' and database is not null \
         order by retained desc nulls last, slot_name",
    )
    .fetch_all(connection)
    .await
    .map_err(sql(ACTION))?;
    let slot = |row: &sqlx::postgres::PgRow| -> Result<Slot, sqlx::Error> {
        Ok(Slot {
            prefix: row.try_get("prefix")?,
            name: row.try_get("name")?,
            database: row.try_get("database")?,
            active: row.try_get("active")?,
            retained_bytes: row.try_get("retained")?,
        })
    };
    rows.iter().map(slot).collect::<Result<_, _>>().map_err(sql(ACTION))
}

fn slot_finding(slot: &Slot) -> Finding {
    let Slot { name, database, .. } = slot;
    let keeps = match slot.retained_bytes {
        Some(bytes) => format!("keeps {bytes} bytes of WAL"),
        None => "keeps no WAL any more".to_owned(),
    };
    let (what, fix) = if slot.active {
        let fix =
            "stop the rehome that reads it, which has its state in another folder, or name that folder with --state";
        (format!("it is active and {keeps}, and there is no state folder here"), fix.to_owned())
    } else {
        let drop = format!("select pg_drop_replication_slot({})", quote_literal(name));
        (
            format!("it is inactive and {keeps}"),
            format!("unless a stopped migration will go on: {drop}, in database {database}"),
        )
    };
    Finding { what, place: format!("replication slot {name}"), fix, severity: Severity::Warning }
}

fn publication_finding(name: &str, own: bool) -> Finding {
    let drop = format!("drop publication {}", quote(name));
    let (what, fix) = if own {
        ("it is there already; a run will use it", format!("unless it was made for this: {drop}"))
    } else {
        ("no slot reads it", format!("unless a migration will go on with it: {drop}"))
    };
    Finding { what: what.to_owned(), place: format!("publication {name}"), fix, severity: Severity::Warning }
}

//! What rehome makes in a source database, and removes again: a publication, a replication slot, and messages in the WAL.
//!
//! The publication comes before the slot: a slot decodes with the catalog of its own past, in which a publication made
//! later does not exist. The slot's name carries the epoch and a nonce, so that a slot made anew is never taken for an
//! older one of the same name.

use pgwire_replication::ReplicationClient;
use sqlx::{AssertSqlSafe, PgConnection, Row as _};

use super::connect::{Server, quote, quote_literal, quote_name};
use super::error::{replication, sql, unreadable};
use crate::event::{Epoch, Lsn, RelationName};
use crate::source::Error;

/// Prefix of every logical message of ours.
pub const MESSAGE_PREFIX: &str = "rehome";

/// How long to wait for a session that holds a slot to end after it was told to: it does so between two messages.
const HOLDER_GONE_MS: i64 = 5_000;

/// Which server this is: a restored or promoted one differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The cluster's own number, drawn when it was made.
    pub system: String,
    /// Counts promotions.
    pub timeline: u32,
}

/// A slot as the server tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotFacts {
    /// Everything before was acknowledged.
    pub confirmed: Option<Lsn>,
    /// Oldest WAL that the slot keeps.
    pub restart: Option<Lsn>,
    /// Whether a session holds it.
    pub active: bool,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: String,
    /// Bytes that may be written until the slot is in danger; absent without a limit.
    pub safe_wal_bytes: Option<i64>,
    /// Bytes of WAL that the slot keeps.
    pub retained_bytes: Option<i64>,
    /// End of the server's WAL.
    pub wal_end: Lsn,
}

/// A new slot, and the session that holds the snapshot exported with it.
///
/// The snapshot lives exactly as long as this value: the session must not run another command.
pub struct NewSlot {
    /// Position from which the slot streams, and at which the snapshot stands.
    pub consistent: Lsn,
    /// Name of the exported snapshot.
    pub snapshot: String,
    session: ReplicationClient,
}

impl NewSlot {
    /// Whether the session still stands, as far as is known without asking it.
    pub fn alive(&self) -> bool {
        self.session.is_running()
    }
}

/// What [`down`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// What was removed.
    pub removed: Vec<String>,
    /// What was left, and why.
    pub left: Vec<String>,
}

/// Name of a slot for an epoch; `prefix` begins with a letter and holds lower-case letters, digits and `_`.
pub fn slot_name(prefix: &str, epoch: Epoch, nonce: u32) -> String {
    format!("{prefix}_e{}_{nonce:08x}", epoch.0)
}

/// Asks a server who it is.
///
/// # Errors
/// When the server cannot be asked.
pub async fn identify(server: &Server) -> Result<Identity, Error> {
    const ACTION: &str = "identify the server";
    let mut session =
        ReplicationClient::connect_gated(server.replication("", "", Lsn(0))).await.map_err(replication(ACTION))?;
    let found = session.identify_system().await.map_err(replication(ACTION))?;
    Ok(Identity { system: found.system_id, timeline: found.timeline })
}

/// Makes the publication, or brings it in line with the tables; tells whether anything changed.
///
/// # Errors
/// When the server refuses.
pub async fn publish(connection: &mut PgConnection, name: &str, tables: &[RelationName]) -> Result<bool, Error> {
    const ACTION: &str = "make the publication";
    let list = tables.iter().map(quote_name).collect::<Vec<_>>().join(", ");
    let as_made: Option<bool> = sqlx::query_scalar(
        "select pubviaroot and pubinsert and pubupdate and pubdelete and pubtruncate and not puballtables \
         from pg_publication where pubname = $1",
    )
    .bind(name)
    .fetch_optional(&mut *connection)
    .await
    .map_err(sql(ACTION))?;
    let statement = match as_made {
        None => format!("create publication {} for table {list} with (publish_via_partition_root = true)", quote(name)),
        Some(as_made) => {
            let mut wanted: Vec<&RelationName> = tables.iter().collect();
            wanted.sort();
            let present = published(connection, name).await?;
            if as_made && present.iter().eq(wanted) {
                return Ok(false);
            }
            let name = quote(name);
            format!(
                "alter publication {name} set table {list}; alter publication {name} set \
                   (publish = 'insert, update, delete, truncate', publish_via_partition_root = true)"
            )
        }
    };
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(connection).await.map_err(sql(ACTION))?;
    Ok(true)
}

/// The tables that a publication names, and tells all rows and columns of, in order of name.
async fn published(connection: &mut PgConnection, name: &str) -> Result<Vec<RelationName>, Error> {
    const ACTION: &str = "read the publication";
    let rows = sqlx::query(
        "select n.nspname::text as schema, c.relname::text as name from pg_publication p \
         join pg_publication_rel r on r.prpubid = p.oid join pg_class c on c.oid = r.prrelid \
         join pg_namespace n on n.oid = c.relnamespace where p.pubname = $1 \
           and to_jsonb(r) ->> 'prqual' is null and to_jsonb(r) ->> 'prattrs' is null",
    )
    .bind(name)
    .fetch_all(connection)
    .await
    .map_err(sql(ACTION))?;
    let mut names = Vec::new();
    for row in &rows {
        let text = |column: &str| row.try_get::<String, _>(column).map_err(sql(ACTION));
        names.push(RelationName { schema: text("schema")?.into(), table: text("name")?.into() });
    }
    names.sort();
    Ok(names)
}

/// Makes a slot and exports the snapshot at which its stream begins.
///
/// It waits for every transaction that is open now to end: the server can begin to decode only then.
///
/// # Errors
/// When the server refuses: no free slot, no privilege.
pub async fn create_slot(server: &Server, name: &str) -> Result<NewSlot, Error> {
    const ACTION: &str = "make the replication slot";
    let mut session =
        ReplicationClient::connect_gated(server.replication("", "", Lsn(0))).await.map_err(replication(ACTION))?;
    // Our lock timeout would end that waiting, in which nobody queues behind us: it is for transactions, not for tables.
    session.simple_query("SET lock_timeout = 0").await.map_err(replication(ACTION))?;
    let rows = session
        .simple_query(&format!("CREATE_REPLICATION_SLOT {name} LOGICAL pgoutput EXPORT_SNAPSHOT"))
        .await
        .map_err(replication(ACTION))?;
    let cell = |index: usize| -> Option<&str> { std::str::from_utf8(rows.first()?.get(index)?.as_deref()?).ok() };
    let (consistent, snapshot) = (cell(1).and_then(|text| text.parse().ok()), cell(2).map(str::to_owned));
    match (consistent, snapshot) {
        (Some(consistent), Some(snapshot)) => Ok(NewSlot { consistent, snapshot, session }),
        _ => Err(unreadable(ACTION, "its answer is not a position and a snapshot")),
    }
}

/// Reads a slot's state; `None` when there is no such slot in this database.
///
/// # Errors
/// When the server cannot be asked.
pub async fn slot(connection: &mut PgConnection, name: &str) -> Result<Option<SlotFacts>, Error> {
    const ACTION: &str = "read the replication slot";
    let found = sqlx::query(
        "select confirmed_flush_lsn::text as confirmed, restart_lsn::text as restart, active, \
         coalesce(wal_status, 'lost') as wal_status, safe_wal_size, \
         (pg_current_wal_lsn() - restart_lsn)::int8 as retained, pg_current_wal_lsn()::text as wal_end \
         from pg_replication_slots where slot_name = $1 and database = current_database()",
    )
    .bind(name)
    .fetch_optional(connection)
    .await
    .map_err(sql(ACTION))?;
    let Some(row) = found else { return Ok(None) };
    let lsn = |column: &str| -> Result<Option<Lsn>, Error> {
        let text: Option<String> = row.try_get(column).map_err(sql(ACTION))?;
        Ok(text.and_then(|text| text.parse().ok()))
    };
    Ok(Some(SlotFacts {
        confirmed: lsn("confirmed")?,
        restart: lsn("restart")?,
        active: row.try_get("active").map_err(sql(ACTION))?,
        wal_status: row.try_get("wal_status").map_err(sql(ACTION))?,
        safe_wal_bytes: row.try_get("safe_wal_size").map_err(sql(ACTION))?,
        retained_bytes: row.try_get("retained").map_err(sql(ACTION))?,
        wal_end: lsn("wal_end")?.unwrap_or_default(),
    }))
}

/// Drops a slot if it is there, first ending the session that holds it; tells whether it was there.
///
/// # Errors
/// When the server refuses, also while the holder has not gone yet (transient).
pub async fn drop_slot(connection: &mut PgConnection, name: &str) -> Result<bool, Error> {
    const ACTION: &str = "drop the replication slot";
    sqlx::query(
        "select pg_terminate_backend(active_pid, $2) from pg_replication_slots \
         where slot_name = $1 and active and database = current_database()",
    )
    .bind(name)
    .bind(HOLDER_GONE_MS)
    .execute(&mut *connection)
    .await
    .map_err(sql(ACTION))?;
    let dropped = sqlx::query(
        "select pg_drop_replication_slot(slot_name) from pg_replication_slots \
         where slot_name = $1 and database = current_database()",
    )
    .bind(name)
    .fetch_all(connection)
    .await
    .map_err(sql(ACTION))?;
    Ok(!dropped.is_empty())
}

/// Writes a logical message in a transaction of its own and answers the end of the WAL after its commit.
///
/// The message keeps an idle database's stream moving (heartbeat) and marks a point in it.
///
/// # Errors
/// When the server cannot be asked.
pub async fn emit(connection: &mut PgConnection, content: &str) -> Result<Lsn, Error> {
    const ACTION: &str = "write a logical message";
    sqlx::query("select pg_logical_emit_message(true, $1, $2)")
        .bind(MESSAGE_PREFIX)
        .bind(content)
        .execute(&mut *connection)
        .await
        .map_err(sql(ACTION))?;
    let end: String = sqlx::query_scalar("select pg_current_wal_insert_lsn()::text")
        .fetch_one(connection)
        .await
        .map_err(sql(ACTION))?;
    end.parse().map_err(|_| unreadable(ACTION, "a position that does not read"))
}

/// The slots of this database that carry `prefix`, each with whether a session holds it.
///
/// # Errors
/// When the server cannot be asked.
pub async fn slots(connection: &mut PgConnection, prefix: &str) -> Result<Vec<(String, bool)>, Error> {
    sqlx::query_as(
        "select slot_name::text, active from pg_replication_slots \
         where database = current_database() and slot_name ~ ('^' || $1 || '_e[0-9]+_[0-9a-f]{8}$') order by 1",
    )
    .bind(prefix)
    .fetch_all(connection)
    .await
    .map_err(sql("read the replication slots"))
}

/// Removes the slots and the publication that carry `prefix`, and says what is left.
///
/// # Errors
/// When the server refuses; running it again goes on where it stopped.
pub async fn down(connection: &mut PgConnection, prefix: &str) -> Result<Removed, Error> {
    const ACTION: &str = "remove what was made in the source";
    let mut done = Removed::default();
    for (name, _) in slots(connection, prefix).await? {
        if drop_slot(connection, &name).await? {
            done.removed.push(format!("replication slot {name}"));
        }
    }
    let publications: Vec<String> = sqlx::query_scalar("select pubname::text from pg_publication where pubname = $1")
        .bind(publication_name(prefix))
        .fetch_all(&mut *connection)
        .await
        .map_err(sql(ACTION))?;
    for name in publications {
        let statement = format!("drop publication {}", quote(&name));
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *connection).await.map_err(sql(ACTION))?;
        done.removed.push(format!("publication {name}"));
    }
    done.left.push("messages already written to the WAL, which the server recycles by itself".into());
    done.left.push("server settings and privileges, which rehome never changed".into());
    Ok(done)
}

/// Name of the publication.
pub fn publication_name(prefix: &str) -> String {
    format!("{prefix}_publication")
}

/// Exports a snapshot from a transaction that stays open on `connection`, and tells what it sees.
///
/// # Errors
/// When the server cannot be asked.
pub async fn export_snapshot(connection: &mut PgConnection) -> Result<String, Error> {
    const ACTION: &str = "export a snapshot";
    begin_read(connection, None).await?;
    sqlx::query_scalar("select pg_export_snapshot()").fetch_one(connection).await.map_err(sql(ACTION))
}

/// Begins a read-only transaction, under an exported snapshot where one is named.
pub(super) async fn begin_read(connection: &mut PgConnection, snapshot: Option<&str>) -> Result<(), Error> {
    const ACTION: &str = "read under a snapshot";
    let mut statement = "begin isolation level repeatable read read only".to_owned();
    if let Some(name) = snapshot {
        statement.push_str(&format!("; set transaction snapshot {}", quote_literal(name)));
    }
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(connection).await.map_err(sql(ACTION))?;
    Ok(())
}

//! How a table is partitioned, and what the server tells of rows in a partition.

use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};

use super::catalog::{Identity, KEY_COLUMNS, oid_of, rows_of};
use super::error::{sql, unreadable};
use crate::source::Error;

/// A partition of a table, at whatever depth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Its OID.
    pub oid: u32,
    /// Its name as SQL writes it.
    pub name: String,
    /// Whether it holds rows itself.
    pub leaf: bool,
    /// How its rows are told apart.
    pub identity: Identity,
    /// The columns that they are told apart by.
    pub key: Vec<String>,
    /// Changes when it is attached.
    pub attached: String,
    /// Number of the file that its rows lie in: another, once it was truncated or written anew. Zero where it holds none.
    pub file: u32,
}

impl Partition {
    /// Whether the server tells of a changed row here what the identity and the key of the partitioned table promise. The stream
    /// speaks of the table, but the server writes what it tells by the partition.
    pub fn tells(&self, identity: Identity, key: &[String]) -> bool {
        match self.identity {
            _ if !self.leaf => true,
            Identity::Full => true,
            Identity::Nothing => false,
            Identity::Default | Identity::Index => {
                identity != Identity::Full && key.iter().all(|column| self.key.contains(column))
            }
        }
    }
}

/// The partitions of a table, those that have partitions themselves included; none of an ordinary table.
///
/// The server's own function for this locks them all, and would wait for whoever changes one.
///
/// # Errors
/// When the server cannot be asked.
pub async fn of(connection: &mut PgConnection, oid: u32) -> Result<Vec<Partition>, Error> {
    const ACTION: &str = "read how a table is partitioned";
    let statement = format!(
        "with recursive tree as ( \
           select i.inhrelid as relid, i.xmin::text as attached \
           from pg_class root join pg_inherits i on i.inhparent = root.oid and not i.inhdetachpending \
           where root.oid = $1 and root.relkind = 'p' \
           union all \
           select i.inhrelid, i.xmin::text \
           from tree join pg_inherits i on i.inhparent = tree.relid and not i.inhdetachpending) \
         select c.oid::int8 as oid, c.oid::regclass::text as name, c.relkind = 'r' as leaf, \
           c.relreplident::text as identity, array({KEY_COLUMNS}) as key, tree.attached, c.relfilenode::int8 as file \
         from tree join pg_class c on c.oid = tree.relid order by c.oid"
    );
    let rows = rows_of(connection, oid, ACTION, &statement).await?;
    rows.iter()
        .map(|row| {
            let text = |column: &str| row.try_get::<String, _>(column).map_err(sql(ACTION));
            Ok(Partition {
                oid: oid_of(row.try_get("oid").map_err(sql(ACTION))?)?,
                name: text("name")?,
                leaf: row.try_get("leaf").map_err(sql(ACTION))?,
                identity: Identity::of(&text("identity")?),
                key: row.try_get("key").map_err(sql(ACTION))?,
                attached: text("attached")?,
                file: oid_of(row.try_get("file").map_err(sql(ACTION))?)?,
            })
        })
        .collect()
}

/// Whether no row can have come with a partition, nor gone again: it has no blocks, and still lies in the file that it was made
/// with; what will come is in the stream.
///
/// # Errors
/// When the server cannot be asked.
pub async fn blank(connection: &mut PgConnection, oid: u32) -> Result<bool, Error> {
    let blank: Option<bool> = sqlx::query_scalar(
        "select case relkind when 'p' then true \
           when 'r' then relpersistence = 'p' and relfilenode = oid and coalesce(pg_relation_size(oid), 1) = 0 else false end \
         from pg_class where oid = $1",
    )
    .bind(sqlx::postgres::types::Oid(oid))
    .fetch_optional(connection)
    .await
    .map_err(sql("see whether a partition is empty"))?;
    Ok(blank.unwrap_or(false))
}

/// The oldest transaction that had not ended, as a number that does not wrap: whatever is written later is of it or of a later one.
///
/// # Errors
/// When the server cannot be asked.
pub async fn horizon(connection: &mut PgConnection) -> Result<u64, Error> {
    const ACTION: &str = "read the oldest open transaction";
    let xid: i64 = sqlx::query_scalar("select pg_snapshot_xmin(pg_current_snapshot())::text::int8")
        .fetch_one(connection)
        .await
        .map_err(sql(ACTION))?;
    u64::try_from(xid).map_err(|_| unreadable(ACTION, format!("transaction {xid}")))
}

/// Whether a row is left in a partition that was written before a [`horizon`]: then it was not truncated since. `VACUUM FULL` and
/// `CLUSTER` write its file anew, and keep what its rows tell of their transactions. Where the server refuses to say, or takes
/// long, none is known to be left.
///
/// # Errors
/// When the server cannot be reached.
pub async fn keeps_rows_before(
    connection: &mut PgConnection,
    partition: &Partition,
    horizon: u64,
) -> Result<bool, Error> {
    const ACTION: &str = "see whether a partition was truncated";
    // Beyond half of the numbers' range nobody knows which of two transactions was first.
    let statement = format!(
        "select pg_snapshot_xmin(pg_current_snapshot())::text::int8 - $1 < 2000000000 \
           and exists (select from only {} where age(xmin) > age($2::text::xid))",
        partition.name
    );
    let mut transaction = connection.begin().await.map_err(sql(ACTION))?;
    // Whoever asks has a slot to watch meanwhile.
    let limits = "set local statement_timeout = '2s'; set local lock_timeout = '2s'";
    sqlx::raw_sql(limits).execute(&mut *transaction).await.map_err(sql(ACTION))?;
    let kept = sqlx::query_scalar(AssertSqlSafe(statement))
        .bind(i64::try_from(horizon).unwrap_or(i64::MAX))
        .bind((horizon & u64::from(u32::MAX)).to_string())
        .fetch_one(&mut *transaction)
        .await;
    let kept = match kept {
        Err(sqlx::Error::Database(_)) => false,
        other => other.map_err(sql(ACTION))?,
    };
    transaction.rollback().await.map_err(sql(ACTION))?;
    Ok(kept)
}

//! Postgres as a target: rows, unit versions and ownership in one transaction, so that each write takes effect once.
//!
//! A batch is written in one transaction. It is first tried as a whole; when a constraint refuses it, it is rolled back to a
//! savepoint and tried unit by unit, so that one unit that cannot be written does not hold up the others (I6).
//!
//! The record of what a unit owns lives in the target (`rehome.units`), and the difference to be written is taken from
//! there, not from local state: local state can be lost, or be older than the target after a crash, without harm (I1).

mod binary;
mod load;
mod measure;
mod ownership;
mod plan;
mod provision;
mod reach;
mod read;
mod record;
mod require;
mod select;
mod sql;
mod text;
mod write;

use std::sync::Arc;

use async_trait::async_trait;
use sqlx::postgres::PgPool;

use crate::event::{DigestKey, Digester};
use crate::postgres::codec::Kind;
use crate::target::{
    Error, ForeignScope, TableShape, Target, TargetKey, TargetRow, TargetTable, UnitOutcome, UnitWrite,
};

pub(super) use text::input_text;

pub use measure::{Meter, Size};
pub use provision::{Provisioned, Removed, highest_version, provision, unprovision, verify};
pub use record::strangers;
pub use require::has_row;

/// Keys of the rows that a record says belong to its part, tables as in `tables`; `None` when it does not read.
pub fn recorded_keys(owned: &[u8], tables: &[TableShape]) -> Option<Vec<TargetKey>> {
    Some(ownership::Owned::unpack(owned, tables)?.rows.into_keys().collect())
}

/// A record of a part: unit, part, version, packed ownership.
type UnitRecord = (String, Vec<u8>, Vec<u8>, Vec<u8>);

/// A Postgres database that expected rows are written to.
#[derive(Debug)]
pub struct PostgresTarget {
    pool: PgPool,
    migration: String,
    tables: Arc<[TableShape]>,
    digesters: Vec<Digester>,
    /// How the columns of each table are sent in binary form; `None` where they are sent as text.
    kinds: Vec<Option<Vec<Kind>>>,
    foreign_scope: ForeignScope,
}

impl PostgresTarget {
    /// A target that writes the tables of one migration; `tables` has parents before children.
    ///
    /// The pool's connections must have rehome's session settings pinned.
    pub fn new(
        pool: PgPool,
        migration: &str,
        tables: Arc<[TableShape]>,
        digest_key: &DigestKey,
        foreign_scope: ForeignScope,
    ) -> Self {
        let digesters = plan::digesters(&tables, digest_key);
        let kinds = tables.iter().map(binary::kinds).collect();
        Self { pool, migration: migration.to_owned(), tables, digesters, kinds, foreign_scope }
    }
}

impl PostgresTarget {
    /// Keys of the rows of a table that name a unit in a column, whoever wrote them.
    pub async fn naming(&self, table: TargetTable, column: usize, unit: &str) -> Result<Vec<TargetKey>, Error> {
        const ACTION: &str = "look for the rows of a unit";
        let shape = &self.tables[usize::from(table.0)];
        let query = sqlx::query(sqlx::AssertSqlSafe(sql::naming(shape, column))).bind(unit);
        let rows = query.fetch_all(&self.pool).await.map_err(|source| classify(ACTION, source))?;
        rows.iter().map(|row| read::key_at(row, 0, shape, table)).collect()
    }

    /// All rows of the target tables, whoever wrote them.
    pub async fn count_rows(&self) -> Result<u64, Error> {
        let mut rows = 0;
        for shape in &*self.tables {
            let query = format!("SELECT count(*) FROM {}", sql::table_name(shape));
            let count: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(query))
                .fetch_one(&self.pool)
                .await
                .map_err(|source| classify("count target rows", source))?;
            rows += u64::try_from(count).unwrap_or(0);
        }
        Ok(rows)
    }
}

#[async_trait]
impl Target for PostgresTarget {
    async fn apply(&self, batch: &[UnitWrite]) -> Result<Vec<UnitOutcome>, Error> {
        write::apply(self, batch).await
    }

    async fn read(&self, keys: &[TargetKey]) -> Result<Vec<Option<TargetRow>>, Error> {
        let mut connection = self.pool.acquire().await.map_err(|source| classify("open a connection", source))?;
        let found = read::looked_up(&mut connection, &self.tables, keys).await?;
        Ok(found.into_iter().map(|found| if let read::Looked::There(row) = found { Some(row) } else { None }).collect())
    }

    async fn recorded(&self, after: Option<&(String, Vec<u8>)>, limit: usize) -> Result<Vec<(String, Vec<u8>)>, Error> {
        record::parts_after(&self.pool, &self.migration, after, limit).await
    }

    async fn owned(&self, unit: &str) -> Result<Vec<TargetKey>, Error> {
        let query = "SELECT owned FROM rehome.units WHERE migration = $1 AND unit = $2";
        let found: Vec<(Vec<u8>,)> = sqlx::query_as(query)
            .bind(&self.migration)
            .bind(unit)
            .fetch_all(&self.pool)
            .await
            .map_err(|source| classify("read what a unit owns", source))?;
        let mut keys = Vec::new();
        for (bytes,) in found {
            keys.extend(ownership::Owned::unpack(&bytes, &self.tables).ok_or_else(damaged)?.rows.into_keys());
        }
        Ok(keys)
    }
}

/// A record of `rehome.units` that does not read back.
fn damaged() -> Error {
    Error::Refused {
        action: "read what a unit owns",
        code: "rehome".to_owned(),
        message: "a record of rehome.units does not read back; it was changed by something else than rehome".to_owned(),
    }
}

/// Sorts a driver's error into one that may pass and one that stays; the server's DETAIL and CONTEXT are left out (I12).
fn classify(action: &'static str, error: sqlx::Error) -> Error {
    match error {
        sqlx::Error::Database(server) => {
            let code = server.code().map(|code| code.into_owned()).unwrap_or_default();
            // Connection exceptions, resources short, operator intervention, serialization, deadlock, a lock that someone
            // holds, a server that is read-only for now: worth repeating.
            let passing = ["08", "53", "57"].iter().any(|class| code.starts_with(class))
                || matches!(&*code, "40001" | "40P01" | "55P03" | "25006");
            // Messages about a value quote it.
            let quotes = code.starts_with("22");
            let message = if quotes { "a value was refused".to_owned() } else { server.message().to_owned() };
            if passing {
                Error::Unreachable { action, source: format!("{code} {message}").into() }
            } else {
                Error::Refused { action, code, message }
            }
        }
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => {
            Error::Unreachable { action, source: Box::new(error) }
        }
        // What the driver cannot read or write today it cannot tomorrow; its words may quote a value.
        _ => Error::Refused {
            action,
            code: "driver".to_owned(),
            message: "the driver refused a value or an answer".to_owned(),
        },
    }
}

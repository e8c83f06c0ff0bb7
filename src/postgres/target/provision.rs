//! Creates and removes what rehome needs at the target.

use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool};

use crate::target::{Error, TableShape, WriteVersion};

use super::{classify, sql};

/// What [`provision`] found and made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provisioned {
    /// Tables that were created.
    pub created: Vec<String>,
    /// Tables that were there already and have the columns expected.
    pub present: Vec<String>,
}

/// What [`unprovision`] removed and left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// Unit records removed.
    pub records: u64,
    /// Whether rehome's schema was dropped, because no other migration uses it.
    pub schema_dropped: bool,
    /// Target tables, which stay.
    pub left: Vec<String>,
}

/// rehome's own schema at the target: per part of a unit, its version and what it owns.
///
/// The key begins with the unit, and is compared byte by byte: a migration's name, which all records share, would be compared
/// first at every step of every search else, and texts by the rules of a language.
const OWN_SCHEMA: &str = "CREATE SCHEMA IF NOT EXISTS rehome; \
    CREATE TABLE IF NOT EXISTS rehome.units (migration text COLLATE \"C\" NOT NULL, \
      unit text COLLATE \"C\" NOT NULL, part bytea NOT NULL, \
      version bytea NOT NULL, owned bytea NOT NULL, PRIMARY KEY (unit, part, migration));";

/// Creates rehome's schema, and the target tables from their definition when none of them is there.
///
/// # Errors
/// [`Error::Refused`] when some of the tables are there and others not, or when one lacks a column: the definition is then
/// applied by a person, who knows why.
pub async fn provision(pool: &PgPool, definition: &str, tables: &[TableShape]) -> Result<Provisioned, Error> {
    sqlx::raw_sql(OWN_SCHEMA).execute(pool).await.map_err(|source| classify("create rehome's schema", source))?;
    let mut present = Vec::new();
    let mut missing = Vec::new();
    for shape in tables {
        if columns_of(pool, shape).await?.is_empty() { missing.push(shape) } else { present.push(shape) }
    }
    let names = |shapes: &[&TableShape]| shapes.iter().map(|shape| shape.name.to_string()).collect::<Vec<_>>();
    let created = names(&missing);
    if !missing.is_empty() && !present.is_empty() {
        let message = format!(
            "{} exist already but {} do not; create the missing ones from target.sql or drop the others",
            names(&present).join(", "),
            created.join(", ")
        );
        return Err(Error::Refused { action: "create the target tables", code: "rehome".to_owned(), message });
    }
    if !missing.is_empty() {
        let mut transaction = pool.begin().await.map_err(|source| classify("begin a transaction", source))?;
        // The definition names its tables as their owner does; every session of ours looks into no schema by itself.
        let script =
            sqlx::raw_sql(AssertSqlSafe(format!("SET LOCAL search_path TO public, pg_catalog;\n{definition}")));
        script.execute(&mut *transaction).await.map_err(|source| classify("create the target tables", source))?;
        transaction.commit().await.map_err(|source| classify("create the target tables", source))?;
    }
    verify(pool, tables).await?;
    Ok(Provisioned { created, present: names(&present) })
}

/// Checks that every target table is there with the columns, the types and the key that the definition states.
///
/// # Errors
/// [`Error::Refused`] naming the first table, with its column or key, that is not as it should be.
pub async fn verify(pool: &PgPool, tables: &[TableShape]) -> Result<(), Error> {
    for shape in tables {
        let live = columns_of(pool, shape).await?;
        for column in &shape.columns {
            let found = live.iter().find(|(name, _)| **name == *column.name);
            let problem = match found {
                None => "is not there".to_owned(),
                Some((_, type_name)) if **type_name != *column.type_name => {
                    format!("has type {type_name}, the definition says {}", column.type_name)
                }
                Some(_) => continue,
            };
            let message = format!(
                "column {} of {} {problem}; apply target.sql or correct it",
                column.name,
                sql::table_name(shape)
            );
            return Err(Error::Refused { action: "use the target tables", code: "rehome".to_owned(), message });
        }
        if !keeps_keys_apart(pool, shape).await? {
            let key: Vec<&str> = shape.key.iter().map(|column| &*shape.columns[*column].name).collect();
            let message = format!(
                "{} has no unique index on just ({}) that holds at once and for all rows, by which rows are told apart; add one, \
                 or correct target.sql",
                sql::table_name(shape),
                key.join(", ")
            );
            return Err(Error::Refused { action: "use the target tables", code: "rehome".to_owned(), message });
        }
    }
    Ok(())
}

/// Whether the live table has a unique index on the columns of the key and no others: without one, a row of ours would be put
/// beside another of its key, and a delete would take both.
async fn keeps_keys_apart(pool: &PgPool, shape: &TableShape) -> Result<bool, Error> {
    let query = "SELECT EXISTS (SELECT 1 FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid \
        JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2 AND i.indisunique \
        AND i.indimmediate AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL AND (SELECT array_agg(a.attname::text \
        ORDER BY a.attname::text COLLATE \"C\") FROM unnest((i.indkey::int2[])[0:i.indnkeyatts - 1]) AS k(place) \
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.place) = $3)";
    let mut key: Vec<String> = shape.key.iter().map(|column| shape.columns[*column].name.to_string()).collect();
    key.sort_unstable();
    let found: Result<(bool,), _> =
        sqlx::query_as(query).bind(&*shape.schema).bind(&*shape.name).bind(key).fetch_one(pool).await;
    Ok(found.map_err(|source| classify("read the target's catalog", source))?.0)
}

/// The highest version that the target holds of a migration's units.
pub async fn highest_version(pool: &PgPool, migration: &str) -> Result<Option<WriteVersion>, Error> {
    const ACTION: &str = "read unit versions";
    let query = "SELECT version FROM rehome.units WHERE migration = $1 ORDER BY version DESC LIMIT 1";
    let found: Option<(Vec<u8>,)> =
        sqlx::query_as(query).bind(migration).fetch_optional(pool).await.map_err(|source| classify(ACTION, source))?;
    Ok(found.and_then(|(bytes,)| WriteVersion::from_bytes(&bytes)))
}

/// Column names and type names of a live table; empty when there is no such table.
async fn columns_of(pool: &PgPool, shape: &TableShape) -> Result<Vec<(String, String)>, Error> {
    let query = "SELECT a.attname::text, t.typname::text FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid \
        JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
        WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped";
    let rows = sqlx::query_as(query).bind(&*shape.schema).bind(&*shape.name).fetch_all(pool).await;
    rows.map_err(|source| classify("read the target's catalog", source))
}

/// Removes a migration's unit records, and rehome's schema when it holds no others; target tables stay.
pub async fn unprovision(pool: &PgPool, migration: &str, tables: &[TableShape]) -> Result<Removed, Error> {
    let there: Option<(Option<String>,)> = sqlx::query_as("SELECT to_regclass('rehome.units')::text")
        .fetch_optional(pool)
        .await
        .map_err(|source| classify("look for rehome's schema", source))?;
    let left = tables.iter().map(|shape| shape.name.to_string()).collect();
    if !matches!(there, Some((Some(_),))) {
        return Ok(Removed { records: 0, schema_dropped: false, left });
    }
    // Another migration may be writing its first records, which nobody sees before it commits: the lock waits for that.
    let mut transaction = pool.begin().await.map_err(|source| classify("remove unit records", source))?;
    let lock = "LOCK TABLE rehome.units IN ACCESS EXCLUSIVE MODE";
    sqlx::raw_sql(lock).execute(&mut *transaction).await.map_err(|source| classify("lock unit records", source))?;
    let remove = sqlx::query("DELETE FROM rehome.units WHERE migration = $1").bind(migration);
    let removed = remove.execute(&mut *transaction).await;
    let records = removed.map_err(|source| classify("remove unit records", source))?.rows_affected();
    let others: (bool,) = sqlx::query_as("SELECT EXISTS (SELECT 1 FROM rehome.units)")
        .fetch_one(&mut *transaction)
        .await
        .map_err(|source| classify("look for other migrations", source))?;
    let schema_dropped = !others.0 && drop_schema(&mut transaction).await?;
    transaction.commit().await.map_err(|source| classify("remove unit records", source))?;
    Ok(Removed { records, schema_dropped, left })
}

/// Drops rehome's schema; whether it went: no CASCADE, so that with something of someone else's in it, it stays.
async fn drop_schema(connection: &mut PgConnection) -> Result<bool, Error> {
    const ACTION: &str = "drop rehome's schema";
    let mut savepoint = connection.begin().await.map_err(|source| classify(ACTION, source))?;
    let dropped = sqlx::raw_sql("DROP TABLE rehome.units; DROP SCHEMA rehome;").execute(&mut *savepoint).await;
    match dropped.map_err(|source| classify(ACTION, source)) {
        Ok(_) => savepoint.commit().await.map(|()| true),
        Err(Error::Refused { code, .. }) if code == "2BP01" => savepoint.rollback().await.map(|()| false),
        Err(error) => return Err(error),
    }
    .map_err(|source| classify(ACTION, source))
}

//! Looks into the record of units that the target holds, whoever wrote it.

use sqlx::PgPool;

use crate::target::Error;

use super::classify;

/// Counts the units that the record holds of a migration and that another log than that of `generation` wrote.
///
/// A version begins with the generation of its log, eight bytes, big-endian ([`WriteVersion::to_bytes`](crate::target::WriteVersion::to_bytes)).
///
/// # Errors
/// Those of the target; none when there is no record yet.
pub async fn strangers(pool: &PgPool, migration: &str, generation: u64) -> Result<u64, Error> {
    const ACTION: &str = "count unit records";
    let there: Option<String> = sqlx::query_scalar("SELECT to_regclass('rehome.units')::text")
        .fetch_one(pool)
        .await
        .map_err(|source| classify(ACTION, source))?;
    if there.is_none() {
        return Ok(0);
    }
    let query =
        "SELECT count(DISTINCT unit) FROM rehome.units WHERE migration = $1 AND substring(version FROM 1 FOR 8) <> $2";
    let count: i64 = sqlx::query_scalar(query)
        .bind(migration)
        .bind(generation.to_be_bytes().as_slice())
        .fetch_one(pool)
        .await
        .map_err(|source| classify(ACTION, source))?;
    Ok(u64::try_from(count).unwrap_or(0))
}

/// Up to `limit` recorded parts behind `after`, each with its unit, in order; `None` is before the first.
///
/// # Errors
/// Those of the target.
pub async fn parts_after(
    pool: &PgPool,
    migration: &str,
    after: Option<&(String, Vec<u8>)>,
    limit: usize,
) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let query = "SELECT unit, part FROM rehome.units \
        WHERE migration = $1 AND ($2::text IS NULL OR (unit, part) > ($2, $3)) ORDER BY unit, part LIMIT $4";
    sqlx::query_as(query)
        .bind(migration)
        .bind(after.map(|(unit, _)| unit))
        .bind(after.map(|(_, part)| part))
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(pool)
        .await
        .map_err(|source| classify("read unit records", source))
}

//! Looks for rows that a mapping requires the target to have, in tables that may be the application's own.

use sqlx::AssertSqlSafe;
use sqlx::postgres::PgPool;

use crate::event::Value;
use crate::postgres::connect::quote;
use crate::target::Error;

use super::classify;
use super::text::input_text;

/// What the errors say was being done.
const ACTION: &str = "look for a row that the mapping requires";

/// Whether a table of the schema `public` has a row with these values.
///
/// # Errors
/// When the server cannot be asked, or refuses: no such table or column, no privilege.
pub async fn has_row(pool: &PgPool, table: &str, columns: &[(Box<str>, Value)]) -> Result<bool, Error> {
    // As texts, because the types of an application's own table are not declared anywhere here.
    let conditions: Vec<String> = columns
        .iter()
        .enumerate()
        .map(|(place, (name, _))| format!("{}::text = ${}", quote(name), place + 1))
        .collect();
    let query = format!("SELECT EXISTS (SELECT 1 FROM public.{} WHERE {})", quote(table), conditions.join(" AND "));
    let mut query = sqlx::query_scalar(AssertSqlSafe(query));
    for (_, value) in columns {
        query = query.bind(input_text(value).ok().flatten());
    }
    query.fetch_one(pool).await.map_err(|source| classify(ACTION, source))
}

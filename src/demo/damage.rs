//! Damages one target row behind rehome's back, as a bug or a careless hand would.

use sqlx::{AssertSqlSafe, PgConnection};

use super::error::Error;
use super::rows::quote_identifier as quote;
use crate::target::TableShape;

/// What was damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    /// Table.
    pub table: String,
    /// Column.
    pub column: String,
}

/// Changes one value of one row: the last table's first column of text or JSON outside the key that has a value.
///
/// # Errors
/// [`Error::Server`] when the server refuses; `None` when there is nothing that could be damaged.
pub async fn damage(connection: &mut PgConnection, tables: &[TableShape]) -> Result<Option<Damaged>, Error> {
    const ACTION: &str = "damage a row";
    for shape in tables.iter().rev() {
        for (index, column) in shape.columns.iter().enumerate() {
            let replacement = match &*column.type_name {
                "jsonb" => "jsonb_build_object('damaged', true)",
                "json" => "json_build_object('damaged', true)",
                "text" | "varchar" => "'damaged'",
                _ => continue,
            };
            if shape.key.contains(&index) {
                continue;
            }
            let (table, name) = (format!("{}.{}", quote(&shape.schema), quote(&shape.name)), quote(&column.name));
            let statement = format!(
                "UPDATE {table} SET {name} = {replacement} \
                 WHERE ctid = (SELECT ctid FROM {table} WHERE {name} IS NOT NULL ORDER BY ctid LIMIT 1)"
            );
            let done = sqlx::query(AssertSqlSafe(statement)).execute(&mut *connection).await;
            // A check or a foreign key may refuse this column; another will do.
            match done {
                Ok(done) if done.rows_affected() == 1 => {
                    return Ok(Some(Damaged { table: shape.name.to_string(), column: column.name.to_string() }));
                }
                Ok(_) => {}
                Err(sqlx::Error::Database(refused)) if refused.code().is_some_and(|code| code.starts_with("23")) => {}
                Err(error) => return Err(Error::server(ACTION, &error)),
            }
        }
    }
    Ok(None)
}

//! Reads the rows of one unit from the live source, with the position they are true at.

use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool, Row as _};

use super::codec::decode_text;
use super::connect::{quote, quote_name};
use super::error::{sql, unreadable};
use crate::event::{Lsn, RelationName, Value};
use crate::source::Error;

/// A table that units are read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveTable {
    /// Schema and name.
    pub relation: RelationName,
    /// Columns and their catalog type names, in the order of the rows to be returned.
    pub columns: Vec<(Box<str>, Box<str>)>,
    /// Index of the column that names the unit.
    pub unit: usize,
}

/// One unit as the live source holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveUnit {
    /// Everything that the rows include was written before this position.
    pub position: Lsn,
    /// Rows of each table, in the order of the tables asked for.
    pub rows: Vec<Vec<Vec<Value>>>,
}

const ACTION: &str = "read a unit from the source";

/// Reads the rows of one unit in one snapshot.
///
/// The position is read after the rows were: every transaction that the snapshot sees has its commit record before it.
///
/// # Errors
/// When the server cannot be asked, or a value does not read as its type says.
pub async fn read_unit(pool: &PgPool, tables: &[LiveTable], unit: &str) -> Result<LiveUnit, Error> {
    let mut connection = pool.acquire().await.map_err(sql(ACTION))?;
    let begin = "begin isolation level repeatable read read only";
    let mut connection = connection.begin_with(begin).await.map_err(sql(ACTION))?;
    let mut rows = Vec::with_capacity(tables.len());
    for table in tables {
        rows.push(read_table(&mut connection, table, unit).await?);
    }
    let position: String = sqlx::query_scalar("select pg_current_wal_insert_lsn()::text")
        .fetch_one(&mut *connection)
        .await
        .map_err(sql(ACTION))?;
    let position = position.parse().map_err(|_| unreadable(ACTION, "a position that does not read"))?;
    connection.commit().await.map_err(sql(ACTION))?;
    Ok(LiveUnit { position, rows })
}

async fn read_table(connection: &mut PgConnection, table: &LiveTable, unit: &str) -> Result<Vec<Vec<Value>>, Error> {
    let columns: Vec<String> = table.columns.iter().map(|(name, _)| format!("{}::text", quote(name))).collect();
    let (unit_column, unit_type) = &table.columns[table.unit];
    let statement = format!(
        "select {} from {} where {} = $1::{}",
        columns.join(", "),
        quote_name(&table.relation),
        quote(unit_column),
        quote(unit_type)
    );
    let found = sqlx::query(AssertSqlSafe(statement)).bind(unit).fetch_all(connection).await.map_err(sql(ACTION))?;
    let mut rows = Vec::with_capacity(found.len());
    for row in found {
        let mut values = Vec::with_capacity(table.columns.len());
        for (index, (_, type_name)) in table.columns.iter().enumerate() {
            let text: Option<String> = row.try_get(index).map_err(sql(ACTION))?;
            values.push(match text {
                None => Value::Null,
                Some(text) => decode_text(type_name, &text)
                    .map_err(|_| unreadable(ACTION, "a value that does not read as its type"))?,
            });
        }
        rows.push(values);
    }
    Ok(rows)
}

/// The units that the live tables name, in order.
///
/// # Errors
/// When the server cannot be asked.
pub async fn list_units(pool: &PgPool, tables: &[LiveTable]) -> Result<Vec<String>, Error> {
    let parts: Vec<String> = tables
        .iter()
        .map(|table| {
            format!("select {}::text as unit from {}", quote(&table.columns[table.unit].0), quote_name(&table.relation))
        })
        .collect();
    let statement =
        format!("select distinct unit from ({}) as x where unit is not null order by unit", parts.join(" union all "));
    sqlx::query_scalar(AssertSqlSafe(statement)).fetch_all(pool).await.map_err(sql(ACTION))
}

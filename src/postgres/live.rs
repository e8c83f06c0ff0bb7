//! Reads rows of one unit from the live source, with the position they are true at.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool, Row as _};

use super::codec::decode_text;
use super::connect::{quote, quote_name};
use super::copy::output_form;
use super::error::{sql, unreadable};
use super::target::input_text;
use crate::event::{Lsn, RelationName, Value};
use crate::source::Error;

/// A table that units are read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveTable {
    /// Schema and name.
    pub relation: RelationName,
    /// Columns and their catalog type names, in the order of the rows to be returned.
    pub columns: Vec<(Box<str>, Box<str>)>,
}

/// Which rows of a table are read; all of them where nothing is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// Those with one of these values, as text, in a column; `None` stands for NULL.
    Is {
        /// Index of the column.
        column: usize,
        /// Values.
        values: Vec<Option<String>>,
    },
    /// Those that have in a column what a row of a table before has in one of its.
    OfRows {
        /// Index of the column.
        column: usize,
        /// Index of the table before.
        table: usize,
        /// Index of its column.
        of_column: usize,
    },
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

/// Digest of all that a table's rows are read by and that changes without a row being written: its columns and those of its leaves,
/// values that rows lack because their column came later, labels of enumerations, members of composite types.
///
/// # Errors
/// When the server cannot be asked.
pub async fn form(connection: &mut PgConnection, relations: &[u32]) -> Result<String, Error> {
    const ACTION: &str = "ask how a table is made";
    let statement = "select coalesce(md5(string_agg(concat_ws(':', a.attrelid, a.attnum, a.attname, a.attisdropped, a.atttypid, \
                       a.atttypmod, a.attmissingval, of_type.labels, of_type.members), '|' order by a.attrelid, a.attnum)), '') \
                     from pg_attribute a left join pg_type t on t.oid = a.atttypid \
                     left join lateral (select \
                       (select string_agg(e.oid || ' ' || e.enumlabel, ',' order by e.enumsortorder) from pg_enum e \
                        where e.enumtypid in (t.oid, t.typelem, t.typbasetype)) as labels, \
                       (select string_agg(concat_ws(' ', m.attnum, m.attname, m.atttypid, m.attisdropped), ',' order by m.attnum) \
                        from pg_attribute m join pg_type of on of.typrelid = m.attrelid \
                        where of.oid in (t.oid, t.typelem, t.typbasetype) and of.typtype = 'c') as members) as of_type on true \
                     where a.attnum > 0 and a.attrelid = any($1)";
    let relations: Vec<sqlx::postgres::types::Oid> =
        relations.iter().copied().map(sqlx::postgres::types::Oid).collect();
    sqlx::query_scalar(statement).bind(relations).fetch_one(connection).await.map_err(sql(ACTION))
}

/// Tells a database from all others, and from itself before its server was started again, restored or promoted: what a server loses
/// in a crash it may write otherwise under the same transaction ids.
///
/// # Errors
/// When the server cannot be asked.
pub async fn cluster(connection: &mut PgConnection) -> Result<String, Error> {
    const ACTION: &str = "ask which database this is";
    let statement = "select format('cluster %s, timeline %s, database %s', case when has_function_privilege('pg_control_system()', 'execute') then (select system_identifier from pg_control_system()) end, \
                     left(pg_walfile_name(pg_current_wal_lsn()), 8), \
                     (select oid from pg_database where datname = current_database())) \
                     || ', started ' || pg_postmaster_start_time()";
    sqlx::query_scalar(statement).fetch_one(connection).await.map_err(sql(ACTION))
}

/// Reads rows of each table in one snapshot, in the order of the tables.
///
/// The position is read after the rows were: every transaction that the snapshot sees has its commit record before it.
///
/// # Errors
/// When the server cannot be asked, or a value does not read as its type says.
pub async fn read_unit(pool: &PgPool, tables: &[(LiveTable, Vec<Wanted>)]) -> Result<LiveUnit, Error> {
    let mut connection = pool.acquire().await.map_err(sql(ACTION))?;
    let begin = "begin isolation level repeatable read read only";
    let mut connection = connection.begin_with(begin).await.map_err(sql(ACTION))?;
    let mut rows: Vec<Vec<Vec<Value>>> = Vec::with_capacity(tables.len());
    for (table, wanted) in tables {
        let wanted: Vec<(usize, Vec<Option<String>>)> = wanted.iter().map(|wanted| values_of(wanted, &rows)).collect();
        rows.push(read_table(&mut connection, table, &wanted).await?);
    }
    let position = position(&mut connection).await?;
    connection.commit().await.map_err(sql(ACTION))?;
    Ok(LiveUnit { position, rows })
}

/// A column and the values wanted in it.
fn values_of(wanted: &Wanted, before: &[Vec<Vec<Value>>]) -> (usize, Vec<Option<String>>) {
    match wanted {
        Wanted::Is { column, values } => (*column, values.clone()),
        Wanted::OfRows { column, table, of_column } => {
            let cells = before.get(*table).into_iter().flatten().filter_map(|row| row.get(*of_column));
            let texts: BTreeSet<String> = cells.filter_map(|value| input_text(value).ok().flatten()).collect();
            (*column, texts.into_iter().map(Some).collect())
        }
    }
}

async fn read_table(
    connection: &mut PgConnection,
    table: &LiveTable,
    wanted: &[(usize, Vec<Option<String>>)],
) -> Result<Vec<Vec<Value>>, Error> {
    let columns: Vec<String> = table.columns.iter().map(|(name, _)| output_form(&quote(name))).collect();
    let mut statement = format!("select {} from {}", columns.join(", "), quote_name(&table.relation));
    for (place, (column, values)) in wanted.iter().enumerate() {
        let (name, type_name) = &table.columns[*column];
        let word = if place == 0 { "where" } else { "and" };
        let (name, type_name, argument) = (quote(name), quote(type_name), place + 1);
        let null = if values.contains(&None) { format!(" or {name} is null") } else { String::new() };
        write!(statement, " {word} ({name} = any(${argument}::text[]::{type_name}[]){null})")
            .expect("writing to a string does not fail");
    }
    let mut query = sqlx::query(AssertSqlSafe(statement));
    for (_, values) in wanted {
        query = query.bind(values.iter().flatten().cloned().collect::<Vec<String>>());
    }
    let found = query.fetch_all(connection).await.map_err(sql(ACTION))?;
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

/// The distinct texts of a column of each table, NULL left out, in order.
///
/// # Errors
/// When the server cannot be asked.
pub async fn list_units(pool: &PgPool, columns: &[(&RelationName, &str)]) -> Result<Vec<String>, Error> {
    if columns.is_empty() {
        return Ok(Vec::new());
    }
    let parts: Vec<String> = columns
        .iter()
        .map(|(table, column)| format!("select {} as unit from {}", output_form(&quote(column)), quote_name(table)))
        .collect();
    let statement =
        format!("select distinct unit from ({}) as x where unit is not null order by unit", parts.join(" union all "));
    sqlx::query_scalar(AssertSqlSafe(statement)).fetch_all(pool).await.map_err(sql(ACTION))
}

/// Where the server stands now; everything that is visible was written before.
///
/// # Errors
/// When the server cannot be asked.
pub async fn position(connection: &mut PgConnection) -> Result<Lsn, Error> {
    const ACTION: &str = "ask where the server stands";
    let position: String = sqlx::query_scalar("select pg_current_wal_insert_lsn()::text")
        .fetch_one(connection)
        .await
        .map_err(sql(ACTION))?;
    position.parse().map_err(|_| unreadable(ACTION, "a position that does not read"))
}

/// Rows of a table, with those of its partitions, as the connection's transaction sees them.
///
/// # Errors
/// When the server cannot be asked.
pub async fn count(connection: &mut PgConnection, table: &RelationName) -> Result<u64, Error> {
    const ACTION: &str = "count the rows of a table";
    let statement = format!("select count(*) from {}", quote_name(table));
    let count: i64 = sqlx::query_scalar(AssertSqlSafe(statement)).fetch_one(connection).await.map_err(sql(ACTION))?;
    Ok(u64::try_from(count).unwrap_or(0))
}

//! Reads rows for a reader, as a declared query asks for them; what leads to them was checked when the query was compiled.

use futures_util::TryStreamExt as _;
use sqlx::{AssertSqlSafe, Row as _};

use crate::event::Value;
use crate::postgres::{decode_text, quote};
use crate::target::{Direction, Error, Fields, Read, TableShape, Take, TargetTable, Test};

use super::sql::{output, table_name, type_reference};
use super::{PostgresTarget, classify, text};

/// What the errors say was being done.
const ACTION: &str = "read target rows";

impl PostgresTarget {
    /// Hands over the rows of a read, in its order, until `take` has enough; answers how many rows were read.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub async fn select(&self, read: &Read, take: Take<'_>) -> Result<u64, Error> {
        let shape = &self.tables[usize::from(read.table.0)];
        let (statement, columns) = statement(shape, read);
        let mut query = sqlx::query(AssertSqlSafe(statement));
        for condition in &read.conditions {
            let text = text::input_text(&condition.value).map_err(|kind| super::read::unsuitable(shape, kind))?;
            query = query.bind(text);
        }
        let mut rows = query.fetch(&self.pool);
        let mut count = 0;
        while let Some(row) = rows.try_next().await.map_err(|source| classify(ACTION, source))? {
            let mut fields = Fields::with_capacity(columns.len());
            for (place, &column) in columns.iter().enumerate() {
                let column = &shape.columns[column];
                let text: Option<String> = row.try_get(place).map_err(|source| classify(ACTION, source))?;
                let value = match text {
                    None => Value::Null,
                    Some(text) => decode_text(&column.type_name, &text).map_err(|_| Error::Refused {
                        action: ACTION,
                        code: "rehome".to_owned(),
                        message: format!("a value of {}.{} does not read back", shape.name, column.name),
                    })?,
                };
                fields.push((column.name.clone(), value));
            }
            count += 1;
            if !take(fields) {
                break;
            }
        }
        Ok(count)
    }
}

impl PostgresTarget {
    /// The live key and indexes of a table, each as the server tells it by its name; the key's is empty. Nothing when there is
    /// no such table.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub async fn describe(&self, table: TargetTable) -> Result<Vec<(String, String)>, Error> {
        let sql = "SELECT CASE WHEN i.indisprimary THEN '' ELSE c.relname::text END, pg_get_indexdef(i.indexrelid) \
            FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = to_regclass($1) ORDER BY 1";
        let query = sqlx::query_as(sql).bind(table_name(&self.tables[usize::from(table.0)]));
        query.fetch_all(&self.pool).await.map_err(|source| classify("look at target tables", source))
    }
}

/// The statement of a read, and the columns that it answers with.
fn statement(shape: &TableShape, read: &Read) -> (String, Vec<usize>) {
    let wanted = |name: &str| read.columns.as_ref().is_none_or(|columns| columns.iter().any(|known| **known == *name));
    let columns: Vec<usize> = (0..shape.columns.len()).filter(|&column| wanted(&shape.columns[column].name)).collect();
    let list: Vec<String> = columns.iter().map(|&column| output("", &shape.columns[column])).collect();
    // A table of which no column is wanted is still counted.
    let list = if list.is_empty() { "1".to_owned() } else { list.join(", ") };
    let mut sql = format!("SELECT {list} FROM {}", table_name(shape));
    for (place, condition) in read.conditions.iter().enumerate() {
        let word = if place == 0 { "WHERE" } else { "AND" };
        let (column, argument) = (quote(&condition.column), place + 1);
        let type_name = shape.columns.iter().find(|column| column.name == condition.column);
        let type_name = type_name.map_or("text", |column| &*column.type_name);
        match condition.test {
            Test::Equals => {
                sql.push_str(&format!(" {word} {column} = ${argument}::text::{}", type_reference(shape, type_name)));
            }
            Test::StartsWith => sql.push_str(&format!(" {word} starts_with({column}::text, ${argument}::text)")),
        }
    }
    let end = if read.direction == Direction::Descending { " DESC" } else { "" };
    let along: Vec<String> = read.along.iter().map(|column| format!("{}{end}", quote(column))).collect();
    if !along.is_empty() {
        sql.push_str(&format!(" ORDER BY {}", along.join(", ")));
    }
    if let Some(limit) = read.limit {
        sql.push_str(&format!(" LIMIT {limit}"));
    }
    (sql, columns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::{Access, ColumnShape, Condition, TargetTable};

    #[test]
    fn a_read_is_one_statement_with_its_values_apart() {
        let column = |name: &str, type_name: &str| ColumnShape { name: name.into(), type_name: type_name.into() };
        let shape = TableShape {
            schema: "public".into(),
            name: "t".into(),
            columns: vec![column("id", "int8"), column("a\"b", "mood"), column("c", "text")],
            key: vec![0],
        };
        let condition = |column: &str, test| Condition { column: column.into(), test, value: Value::Null };
        let read = Read {
            table: TargetTable(0),
            index: None,
            conditions: vec![condition("a\"b", Test::Equals), condition("c", Test::StartsWith)],
            along: vec!["a\"b".into(), "id".into()],
            direction: Direction::Descending,
            limit: Some(3),
            columns: Some(vec!["id".into()]),
            access: Access::Key,
        };
        let (sql, columns) = statement(&shape, &read);
        assert_eq!(
            sql,
            "SELECT \"id\"::text FROM \"public\".\"t\" WHERE \"a\"\"b\" = $1::text::\"public\".\"mood\" \
             AND starts_with(\"c\"::text, $2::text) ORDER BY \"a\"\"b\" DESC, \"id\" DESC LIMIT 3"
        );
        assert_eq!(columns, [0]);
    }
}

//! Reads target rows by key.

use std::collections::BTreeMap;

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};

use crate::event::Value;
use crate::postgres::decode_text;
use crate::target::{Error, TableShape, TargetKey, TargetRow, TargetTable};

use super::write::{Refusal, refuse};
use super::{classify, sql, text};

/// Columns of texts, one array for each column, as the statements of [`sql`] take them.
pub type Arrays = Vec<Vec<Option<String>>>;

/// Turns rows of values into one array of texts for each column.
///
/// # Errors
/// The kind of a value that Postgres cannot hold.
pub fn arrays<'a>(width: usize, rows: impl Iterator<Item = &'a [Value]>) -> Result<Arrays, &'static str> {
    let mut arrays = vec![Vec::new(); width];
    for row in rows {
        for (array, value) in arrays.iter_mut().zip(row) {
            array.push(text::input_text(value)?);
        }
    }
    Ok(arrays)
}

/// What stands under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Looked {
    /// This row.
    There(TargetRow),
    /// None.
    Nothing,
    /// None can: the columns of the key do not hold it.
    Refused {
        /// The reason, as a part is parked for it.
        reason: &'static str,
        /// Where.
        detail: String,
    },
}

/// Looks rows up by key, in the order of `keys`. A key that its columns do not hold, as a number out of range, keeps no other from
/// being looked up.
pub(super) async fn looked_up(
    connection: &mut PgConnection,
    tables: &[TableShape],
    keys: &[TargetKey],
) -> Result<Vec<Looked>, Error> {
    let mut found: Vec<Looked> = vec![Looked::Nothing; keys.len()];
    let mut pending = Vec::from([(0, keys.len())]);
    while let Some((from, to)) = pending.pop() {
        let range = from..to;
        let mut savepoint = connection.begin().await.map_err(|source| classify("set a savepoint", source))?;
        match rows(&mut savepoint, tables, &keys[range.clone()]).await {
            Ok(rows) => {
                for (place, row) in range.zip(rows) {
                    found[place] = row.map_or(Looked::Nothing, Looked::There);
                }
                savepoint.commit().await.map_err(|source| classify("release a savepoint", source))?;
                continue;
            }
            Err(Refusal::Target(error)) => return Err(error),
            Err(Refusal::Unit { reason, detail }) if range.len() <= 1 => {
                found[from] = Looked::Refused { reason, detail };
            }
            Err(Refusal::Unit { .. }) => {
                let middle = from + range.len() / 2;
                pending.extend([(middle, to), (from, middle)]);
            }
        }
        savepoint.rollback().await.map_err(|source| classify("go back to a savepoint", source))?;
    }
    Ok(found)
}

/// Reads rows by key, in the order of `keys`; `None` where there is none.
pub(super) async fn rows(
    connection: &mut PgConnection,
    tables: &[TableShape],
    keys: &[TargetKey],
) -> Result<Vec<Option<TargetRow>>, Refusal> {
    let mut found: Vec<Option<TargetRow>> = vec![None; keys.len()];
    let mut places: BTreeMap<TargetTable, Vec<usize>> = BTreeMap::new();
    for (place, key) in keys.iter().enumerate() {
        places.entry(key.table).or_default().push(place);
    }
    for (table, places) in places {
        let shape = &tables[usize::from(table.0)];
        let wanted = places.iter().map(|&place| keys[place].values.as_slice());
        let arrays = arrays(shape.key.len(), wanted).map_err(|kind| unsuitable(shape, kind))?;
        let mut query = sqlx::query(AssertSqlSafe(sql::select(shape)));
        for array in arrays {
            query = query.bind(array);
        }
        for row in query.fetch_all(&mut *connection).await.map_err(|source| refuse("read target rows", source))? {
            let ordinal: i64 = row.try_get(0).map_err(|source| classify("read target rows", source))?;
            let mut values = Vec::with_capacity(shape.columns.len());
            for (index, column) in shape.columns.iter().enumerate() {
                let text: Option<String> =
                    row.try_get(index + 1).map_err(|source| classify("read target rows", source))?;
                values.push(value_of(shape, &column.type_name, text)?);
            }
            let place = usize::try_from(ordinal - 1).ok().and_then(|at| places.get(at)).copied();
            if let Some(slot) = place.and_then(|place| found.get_mut(place)) {
                *slot = Some(TargetRow { table, values });
            }
        }
    }
    Ok(found)
}

/// The key of a target row from columns of texts beginning at `from`.
pub fn key_at(row: &PgRow, from: usize, shape: &TableShape, table: TargetTable) -> Result<TargetKey, Error> {
    let mut values = Vec::with_capacity(shape.key.len());
    for (place, &column) in shape.key.iter().enumerate() {
        let text = row.try_get(from + place).map_err(|source| classify("read target keys", source))?;
        values.push(value_of(shape, &shape.columns[column].type_name, text)?);
    }
    Ok(TargetKey::new(table, values))
}

fn value_of(shape: &TableShape, type_name: &str, text: Option<String>) -> Result<Value, Error> {
    let Some(text) = text else { return Ok(Value::Null) };
    decode_text(type_name, &text).map_err(|_| Error::Refused {
        action: "read target rows",
        code: "rehome".to_owned(),
        message: format!("a value of {} does not read back as {type_name}", shape.name),
    })
}

/// A value of a kind that only the other store has stands in a row for Postgres: the mapping's check should refuse it.
pub fn unsuitable(shape: &TableShape, kind: &'static str) -> Error {
    Error::Refused {
        action: "write target rows",
        code: "rehome".to_owned(),
        message: format!("a {kind} cannot be stored in a column of {}", shape.name),
    }
}

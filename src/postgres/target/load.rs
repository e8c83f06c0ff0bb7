//! Writes parts that were never written by COPY, without looking first: whatever stands in the way refuses it, and the batch
//! goes the usual way then.
//!
//! The records' primary key refuses a part that was written before, the tables' keys refuse rows of someone else; so what is
//! accepted here is exactly what looking first would have found free.

use std::collections::BTreeMap;

use sqlx::{Connection as _, PgConnection};

use crate::event::Value;
use crate::target::{Error, UnitOutcome, UnitWrite};

use super::binary::Rows;
use super::ownership::{Owned, put_one};
use super::plan::{plan, short_digest};
use super::write::{Refusal, found_again, left_out, refuse};
use super::{PostgresTarget, classify, read, sql, text};

/// Takes records of parts.
const COPY_RECORDS: &str = "COPY rehome.units (migration, unit, part, version, owned) FROM STDIN (FORMAT binary)";

/// Tries it under a savepoint; `None` when anything was refused, with nothing written then.
pub async fn try_load(
    target: &PostgresTarget,
    connection: &mut PgConnection,
    batch: &[UnitWrite],
) -> Result<Option<Vec<UnitOutcome>>, Error> {
    // Made before anything is asked of the server: two shares of a batch are made and taken in turns.
    let Some(records) = records(target, batch) else { return Ok(None) };
    let mut savepoint = connection.begin().await.map_err(|source| classify("set a savepoint", source))?;
    match load(target, &mut savepoint, batch, records).await {
        Ok(()) => {}
        Err(Refusal::Target(error)) => return Err(error),
        Err(Refusal::Unit { .. }) => {
            savepoint.rollback().await.map_err(|source| classify("roll back to a savepoint", source))?;
            return Ok(None);
        }
    }
    savepoint.commit().await.map_err(|source| classify("release a savepoint", source))?;
    let written = |write: &UnitWrite| UnitOutcome::Written {
        upserted: write.rows.len() as u64,
        unchanged: 0,
        deleted: 0,
        foreign: 0,
        matched_foreign: 0,
    };
    Ok(Some(batch.iter().map(written).collect()))
}

async fn load(
    target: &PostgresTarget,
    connection: &mut PgConnection,
    batch: &[UnitWrite],
    records: Vec<Vec<u8>>,
) -> Result<(), Refusal> {
    // Records first: a part that was written before is refused before its rows are sent.
    copy(connection, COPY_RECORDS, records).await.map(drop)?;
    let mut tables: BTreeMap<usize, Vec<&[Value]>> = BTreeMap::new();
    for row in batch.iter().flat_map(|write| &write.rows) {
        tables.entry(usize::from(row.table.0)).or_default().push(&row.values);
    }
    // In order of table, which has parents before children.
    for (index, rows) in tables {
        let shape = &target.tables[index];
        let statement = sql::copy(shape);
        let written = match binary(target, index, &rows) {
            Some(stream) => copy(connection, &format!("{statement}{}", sql::BINARY), stream).await?,
            None => copy(connection, &statement, vec![as_text(target, index, &rows)?]).await?,
        };
        if written != rows.len() as u64 {
            return Err(left_out(shape));
        }
        found_again(connection, shape, &rows).await?;
    }
    Ok(())
}

/// The records of parts that own nothing yet; `None` when a part has two rows of one key.
fn records(target: &PostgresTarget, batch: &[UnitWrite]) -> Option<Vec<Vec<u8>>> {
    let mut rows = Rows::new();
    let nothing = Owned::default();
    let bytes = |rows: &mut Rows, bytes: &[u8]| {
        rows.field(|out| {
            out.extend_from_slice(bytes);
            true
        })
    };
    for write in batch {
        rows.begin(5);
        for field in [target.migration.as_bytes(), write.unit.as_bytes(), &write.part, &write.version.to_bytes()] {
            bytes(&mut rows, field);
        }
        if let [row] = write.rows.as_slice() {
            let shape = &target.tables[usize::from(row.table.0)];
            let digest = short_digest(&target.digesters[usize::from(row.table.0)], row);
            rows.field(|out| {
                put_one(shape, row, digest, out);
                true
            });
        } else {
            let plan = plan(write, &nothing, &target.tables, &target.digesters).ok()?;
            bytes(&mut rows, &Owned::after_write(plan.owned, &nothing).pack(&target.tables));
        }
    }
    Some(rows.finish())
}

/// Rows of a table in binary form; `None` when one has a value that only goes as text.
fn binary(target: &PostgresTarget, table: usize, rows: &[&[Value]]) -> Option<Vec<Vec<u8>>> {
    let kinds = target.kinds[table].as_deref()?;
    let mut stream = Rows::new();
    rows.iter().all(|values| stream.row(kinds, values)).then(|| stream.finish())
}

fn as_text(target: &PostgresTarget, table: usize, rows: &[&[Value]]) -> Result<Vec<u8>, Refusal> {
    let mut stream = Vec::new();
    for values in rows {
        for (place, value) in values.iter().enumerate() {
            if place > 0 {
                stream.push(b'\t');
            }
            text::put_copy_field(value, &mut stream).map_err(|kind| read::unsuitable(&target.tables[table], kind))?;
        }
        stream.push(b'\n');
    }
    Ok(stream)
}

/// Sends a stream of rows, piece by piece; answers how many the server says it wrote.
async fn copy(connection: &mut PgConnection, statement: &str, stream: Vec<Vec<u8>>) -> Result<u64, Refusal> {
    const ACTION: &str = "write target rows";
    let mut copy = connection.copy_in_raw(statement).await.map_err(|source| refuse(ACTION, source))?;
    for piece in stream {
        copy.send(piece).await.map_err(|source| refuse(ACTION, source))?;
    }
    copy.finish().await.map_err(|source| refuse(ACTION, source))
}

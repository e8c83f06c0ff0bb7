//! Writes parts that were never written by COPY, without looking first: whatever stands in the way refuses it, and the batch
//! goes the usual way then.
//!
//! The records' primary key refuses a part that was written before, the tables' keys refuse rows of someone else; so what is
//! accepted here is exactly what looking first would have found free.

use std::collections::BTreeMap;

use sqlx::{Connection as _, PgConnection};

use crate::target::{Error, TableShape, UnitOutcome, UnitWrite};

use super::ownership::{Owned, version_bytes};
use super::plan::{Plan, plan};
use super::write::{Refusal, refuse};
use super::{PostgresTarget, classify, read, sql, text};

/// Tries it under a savepoint; `None` when anything was refused, with nothing written then.
pub async fn try_load(
    target: &PostgresTarget,
    connection: &mut PgConnection,
    batch: &[UnitWrite],
) -> Result<Option<Vec<UnitOutcome>>, Error> {
    let nothing = Owned::default();
    let plans = batch.iter().map(|write| plan(write, &nothing, &target.tables, &target.digesters));
    let Ok(plans) = plans.collect::<Result<Vec<_>, _>>() else { return Ok(None) };
    let mut savepoint = connection.begin().await.map_err(|source| classify("set a savepoint", source))?;
    match load(target, &mut savepoint, batch, &plans).await {
        Ok(()) => {}
        Err(Refusal::Target(error)) => return Err(error),
        Err(Refusal::Unit { .. }) => {
            savepoint.rollback().await.map_err(|source| classify("roll back to a savepoint", source))?;
            return Ok(None);
        }
    }
    savepoint.commit().await.map_err(|source| classify("release a savepoint", source))?;
    let written = |plan: Plan<'_>| UnitOutcome::Written {
        upserted: plan.inserts.len() as u64,
        unchanged: 0,
        deleted: 0,
        foreign: 0,
        matched_foreign: 0,
    };
    Ok(Some(plans.into_iter().map(written).collect()))
}

async fn load(
    target: &PostgresTarget,
    connection: &mut PgConnection,
    batch: &[UnitWrite],
    plans: &[Plan<'_>],
) -> Result<(), Refusal> {
    // Records first: a part that was written before is refused before its rows are sent.
    let mut records = Vec::new();
    for (write, plan) in batch.iter().zip(plans) {
        let owned = Owned::after_write(plan.owned.clone(), &Owned::default());
        put_record(target, write, &owned, &mut records);
    }
    copy(connection, "COPY rehome.units (migration, unit, part, version, owned) FROM STDIN", &records).await?;
    let mut tables: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
    for row in plans.iter().flat_map(|plan| &plan.inserts) {
        let index = usize::from(row.table.0);
        put_row(&target.tables[index], &row.values, tables.entry(index).or_default())?;
    }
    // In order of table, which has parents before children.
    for (index, rows) in tables {
        copy(connection, &sql::copy(&target.tables[index]), &rows).await?;
    }
    Ok(())
}

fn put_record(target: &PostgresTarget, write: &UnitWrite, owned: &Owned, out: &mut Vec<u8>) {
    text::put_copy_text(&target.migration, out);
    out.push(b'\t');
    text::put_copy_text(&write.unit, out);
    for bytes in [&write.part, &version_bytes(write.version)[..], &owned.pack(&target.tables)] {
        out.push(b'\t');
        text::put_copy_bytes(bytes, out);
    }
    out.push(b'\n');
}

fn put_row(shape: &TableShape, values: &[crate::event::Value], out: &mut Vec<u8>) -> Result<(), Refusal> {
    for (place, value) in values.iter().enumerate() {
        if place > 0 {
            out.push(b'\t');
        }
        text::put_copy_field(value, out).map_err(|kind| read::unsuitable(shape, kind))?;
    }
    out.push(b'\n');
    Ok(())
}

async fn copy(connection: &mut PgConnection, statement: &str, rows: &[u8]) -> Result<(), Refusal> {
    const ACTION: &str = "write target rows";
    if rows.is_empty() {
        return Ok(());
    }
    let mut copy = connection.copy_in_raw(statement).await.map_err(|source| refuse(ACTION, source))?;
    copy.send(rows).await.map_err(|source| refuse(ACTION, source))?;
    copy.finish().await.map(drop).map_err(|source| refuse(ACTION, source))
}

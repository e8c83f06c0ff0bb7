//! Writes a batch of units in one transaction.

use std::collections::{BTreeMap, HashMap};

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::event::Value;
use crate::target::{
    Error, ForeignScope, TableShape, TargetKey, TargetRow, Trust, UnitOutcome, UnitWrite, WriteVersion,
};

use super::ownership::Owned;
use super::plan::{Plan, plan};
use super::reach::Reachable;
use super::read::Looked;
use super::{PostgresTarget, UnitRecord, classify, damaged, load, read, sql};

/// Fewer parts go the usual way: each COPY waits for an answer of its own, which live changes would feel.
const LOAD_PARTS_MIN: usize = 100;

/// A unit on its way into the transaction.
struct Candidate<'a> {
    place: usize,
    write: &'a UnitWrite,
    plan: Plan<'a>,
    /// Whether the target has a record of it.
    recorded: bool,
    before: Owned,
    foreign: u64,
    matched_foreign: u64,
}

/// Why a set of units could not be written together.
pub(super) enum Refusal {
    /// A unit's own data or someone else's rows stand in the way.
    Unit { reason: &'static str, detail: String },
    /// The target itself failed.
    Target(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Refusal::Target(error)
    }
}

/// Writes a batch; see the contract on [`Target::apply`](crate::target::Target::apply).
pub async fn apply(target: &PostgresTarget, batch: &[UnitWrite]) -> Result<Vec<UnitOutcome>, Error> {
    let mut transaction = target.pool.begin().await.map_err(|source| classify("begin a transaction", source))?;
    // A constraint that waits for the commit would refuse the whole batch, and not say for which unit.
    let immediate = sqlx::raw_sql("SET CONSTRAINTS ALL IMMEDIATE").execute(&mut *transaction).await;
    immediate.map_err(|source| classify("begin a transaction", source))?;
    if batch.len() >= LOAD_PARTS_MIN
        && batch.iter().all(|write| write.trust == Trust::Fresh)
        && let Some(outcomes) = load::try_load(target, &mut transaction, batch).await?
    {
        transaction.commit().await.map_err(|source| classify("commit a batch of units", source))?;
        return Ok(outcomes);
    }
    let records = load_records(target, &mut transaction, batch).await?;
    let mut outcomes: Vec<Option<UnitOutcome>> = vec![None; batch.len()];
    let mut candidates = Vec::new();
    for (place, write) in batch.iter().enumerate() {
        let record = records.get(&(write.unit.to_string(), write.part.to_vec()));
        let by = record.map(|(version, _)| WriteVersion::from_bytes(version).ok_or_else(damaged)).transpose()?;
        if let Some(by) = by.filter(|by| *by > write.version) {
            outcomes[place] = Some(UnitOutcome::Superseded { by });
            continue;
        }
        let owned = match record {
            Some((_, packed)) => Owned::unpack(packed, &target.tables).ok_or_else(damaged)?,
            None => Owned::default(),
        };
        match plan(write, &owned, &target.tables, &target.digesters) {
            Ok(plan) if by == Some(write.version) && plan.empty() => {
                outcomes[place] = Some(UnitOutcome::Repeated);
            }
            Ok(plan) => {
                let (recorded, before) = (record.is_some(), owned);
                candidates.push(Candidate { place, write, plan, recorded, before, foreign: 0, matched_foreign: 0 });
            }
            Err(table) => {
                let detail = format!("two rows of the unit have one key in {}", target.tables[table].name);
                outcomes[place] = Some(UnitOutcome::Parked { reason: "key_collision".into(), detail: detail.into() });
            }
        }
    }
    set_foreign_aside(target, &mut transaction, &mut candidates, &mut outcomes).await?;
    write_candidates(target, &mut transaction, &candidates, &mut outcomes).await?;
    transaction.commit().await.map_err(|source| classify("commit a batch of units", source))?;
    Ok(outcomes.into_iter().map(|outcome| outcome.expect("every unit of the batch has been judged")).collect())
}

/// Reads and locks the records of a batch's units, in order of unit so that two batches cannot deadlock.
async fn load_records(
    target: &PostgresTarget,
    connection: &mut PgConnection,
    batch: &[UnitWrite],
) -> Result<HashMap<(String, Vec<u8>), (Vec<u8>, Vec<u8>)>, Error> {
    let query = "SELECT u.unit, u.part, u.version, u.owned FROM unnest($2::text[], $3::bytea[]) AS x(unit, part) \
        JOIN rehome.units u ON u.migration = $1 AND u.unit = x.unit AND u.part = x.part ORDER BY u.unit, u.part FOR UPDATE OF u";
    let (units, parts): (Vec<String>, Vec<Vec<u8>>) =
        batch.iter().map(|write| (write.unit.to_string(), write.part.to_vec())).unzip();
    let rows: Vec<UnitRecord> = sqlx::query_as(query)
        .bind(&target.migration)
        .bind(units)
        .bind(parts)
        .fetch_all(connection)
        .await
        .map_err(|source| classify("read unit versions", source))?;
    Ok(rows.into_iter().map(|(unit, part, version, owned)| ((unit, part), (version, owned))).collect())
}

/// Finds rows of someone else where new rows of ours should go, and leaves them, or their whole unit, alone.
async fn set_foreign_aside(
    target: &PostgresTarget,
    connection: &mut PgConnection,
    candidates: &mut Vec<Candidate<'_>>,
    outcomes: &mut [Option<UnitOutcome>],
) -> Result<(), Error> {
    let keys: Vec<TargetKey> = candidates
        .iter()
        .flat_map(|candidate| &candidate.plan.inserts)
        .map(|row| target.tables[usize::from(row.table.0)].key_of(row))
        .collect();
    if keys.is_empty() {
        return Ok(());
    }
    let mut present = read::looked_up(connection, &target.tables, &keys).await?.into_iter();
    candidates.retain_mut(|candidate| {
        let tables = &target.tables;
        let (foreign, matched) = (&mut candidate.foreign, &mut candidate.matched_foreign);
        let (owned, mut refused) = (&mut candidate.plan.owned, None);
        candidate.plan.inserts.retain(|row| match present.next() {
            None | Some(Looked::Nothing) => true,
            Some(Looked::Refused { reason, detail }) => {
                refused = Some(UnitOutcome::Parked { reason: reason.into(), detail: detail.into() });
                true
            }
            Some(Looked::There(there)) => {
                *(if same_row(row, &there) { &mut *matched } else { &mut *foreign }) += 1;
                owned.remove(&tables[usize::from(row.table.0)].key_of(row));
                false
            }
        });
        let kept = refused.is_none();
        outcomes[candidate.place] = outcomes[candidate.place].take().or(refused);
        kept
    });
    if target.foreign_scope == ForeignScope::Unit {
        candidates.retain(|candidate| {
            let (foreign, matched) = (candidate.foreign, candidate.matched_foreign);
            if foreign + matched == 0 {
                return true;
            }
            let all_match = foreign == 0 && matched == candidate.write.rows.len() as u64;
            let reason = if all_match { "matched_foreign" } else { "foreign" };
            let detail = format!(
                "{foreign} rows of someone else differ from ours, {matched} equal ours; the unit is left as it is"
            );
            outcomes[candidate.place] = Some(UnitOutcome::Parked { reason: reason.into(), detail: detail.into() });
            false
        });
    }
    Ok(())
}

fn same_row(ours: &TargetRow, theirs: &TargetRow) -> bool {
    ours.values.iter().zip(&theirs.values).all(|(ours, theirs)| ours.normalised() == theirs.normalised())
}

/// Tries all candidates together, and those of a set that is refused in two halves, down to the one that is refused: a few of many
/// cost few repetitions.
async fn write_candidates(
    target: &PostgresTarget,
    connection: &mut PgConnection,
    candidates: &[Candidate<'_>],
    outcomes: &mut [Option<UnitOutcome>],
) -> Result<(), Error> {
    // The next one is the last.
    let mut sets = vec![candidates];
    while let Some(set) = sets.pop() {
        let all: Vec<&Candidate<'_>> = set.iter().collect();
        match (write_together(target, connection, &all).await, set) {
            (Ok(()), _) => set.iter().for_each(|candidate| outcomes[candidate.place] = Some(written(candidate))),
            (Err(Refusal::Target(error)), _) => return Err(error),
            (Err(Refusal::Unit { reason, detail }), [refused]) => {
                outcomes[refused.place] = Some(UnitOutcome::Parked { reason: reason.into(), detail: detail.into() });
            }
            (Err(Refusal::Unit { .. }), _) => {
                let (first, second) = set.split_at(set.len() / 2);
                sets.extend([second, first]);
            }
        }
    }
    Ok(())
}

fn written(candidate: &Candidate<'_>) -> UnitOutcome {
    UnitOutcome::Written {
        upserted: (candidate.plan.inserts.len() + candidate.plan.updates.len()) as u64,
        unchanged: candidate.plan.unchanged,
        deleted: candidate.plan.deletes.len() as u64,
        foreign: candidate.foreign,
        matched_foreign: candidate.matched_foreign,
    }
}

/// Writes a set of units under a savepoint: deletes children first, then rows parents first, then the units' records.
async fn write_together(
    target: &PostgresTarget,
    connection: &mut PgConnection,
    candidates: &[&Candidate<'_>],
) -> Result<(), Refusal> {
    let mut savepoint = connection.begin().await.map_err(|source| classify("set a savepoint", source))?;
    delete_rows(target, &mut savepoint, candidates).await?;
    for (index, shape) in target.tables.iter().enumerate() {
        let updates = rows_of(candidates, index, |plan| &plan.updates);
        write_rows(target, &mut savepoint, shape, sql::upsert(shape), &updates).await?;
        let inserts = rows_of(candidates, index, |plan| &plan.inserts);
        write_rows(target, &mut savepoint, shape, sql::insert(shape), &inserts).await?;
    }
    store_records(target, &mut savepoint, candidates).await?;
    savepoint.commit().await.map_err(|source| refuse("release a savepoint", source))
}

fn rows_of<'a>(
    candidates: &'a [&Candidate<'a>],
    table: usize,
    pick: impl for<'p> Fn(&'p Plan<'a>) -> &'p Vec<&'a TargetRow>,
) -> Vec<&'a TargetRow> {
    let rows = candidates.iter().flat_map(|candidate| pick(&candidate.plan)).copied();
    rows.filter(|row| usize::from(row.table.0) == table).collect()
}

/// Writes rows of a table, all of them: where the server wrote fewer, it is looked at which are there.
async fn write_rows(
    target: &PostgresTarget,
    connection: &mut PgConnection,
    shape: &TableShape,
    statement: String,
    rows: &[&TargetRow],
) -> Result<(), Refusal> {
    let values: Vec<&[Value]> = rows.iter().map(|row| row.values.as_slice()).collect();
    if execute(connection, shape, statement, shape.columns.len(), &values).await? == rows.len() as u64 {
        return found_again(connection, shape, &values).await;
    }
    // A row may be there all the same: in a child of the table, or as it was, where it was to be just so.
    let keys: Vec<TargetKey> = rows.iter().map(|row| shape.key_of(row)).collect();
    let there = read::rows(connection, &target.tables, &keys).await?;
    let all = rows.iter().zip(&there).all(|(row, there)| there.as_ref().is_some_and(|there| same_row(row, there)));
    if all { Ok(()) } else { Err(left_out(shape)) }
}

/// Types whose columns may round what they are given.
const ROUNDING: [&str; 6] = ["numeric", "timestamp", "timestamptz", "time", "timetz", "interval"];

/// Refuses rows that are not found under the keys that they were written by: they could be neither changed nor deleted again.
pub(super) async fn found_again(
    connection: &mut PgConnection,
    shape: &TableShape,
    rows: &[&[Value]],
) -> Result<(), Refusal> {
    let rounds = |&column: &usize| ROUNDING.contains(&&*shape.columns[column].type_name);
    if rows.is_empty() || !shape.key.iter().any(rounds) {
        return Ok(());
    }
    let key = |values: &&[Value]| shape.key.iter().map(|&column| values[column].clone()).collect::<Vec<_>>();
    // No key with a NULL is ever found.
    let keys: Vec<Vec<Value>> = rows.iter().map(key).filter(|key| !key.contains(&Value::Null)).collect();
    let arrays = read::arrays(shape.key.len(), keys.iter().map(Vec::as_slice));
    let mut query = sqlx::query_scalar::<_, i64>(AssertSqlSafe(sql::count(shape)));
    for array in arrays.map_err(|kind| read::unsuitable(shape, kind))? {
        query = query.bind(array);
    }
    let found = query.fetch_one(connection).await.map_err(|source| refuse("read target keys", source))?;
    if u64::try_from(found) == Ok(keys.len() as u64) {
        return Ok(());
    }
    let detail = format!("the key of a row of {} is not the one it was written by: its column rounds it", shape.name);
    Err(Refusal::Unit { reason: "not_storable", detail })
}

/// A trigger that answers NULL, and a rule that does something else, leave a row out, which the server does not call an error.
pub(super) fn left_out(shape: &TableShape) -> Refusal {
    let detail = format!("a trigger or a rule of {} leaves out what is written or deleted", shape.name);
    Refusal::Unit { reason: "constraint", detail }
}

/// Runs one statement over a set of rows, sent as one text array for each column; answers how many the server says it wrote.
async fn execute(
    connection: &mut PgConnection,
    shape: &TableShape,
    statement: String,
    width: usize,
    rows: &[&[Value]],
) -> Result<u64, Refusal> {
    if rows.is_empty() {
        return Ok(0);
    }
    let arrays = read::arrays(width, rows.iter().copied()).map_err(|kind| read::unsuitable(shape, kind))?;
    let mut query = sqlx::query(AssertSqlSafe(statement));
    for array in arrays {
        query = query.bind(array);
    }
    let done = query.execute(connection).await.map_err(|source| refuse("write target rows", source))?;
    Ok(done.rows_affected())
}

/// Deletes what units no longer have, children before parents, unless that would reach into rows that are to stay.
async fn delete_rows(
    target: &PostgresTarget,
    connection: &mut PgConnection,
    candidates: &[&Candidate<'_>],
) -> Result<(), Refusal> {
    let deletes: Vec<&TargetKey> = candidates.iter().flat_map(|candidate| &candidate.plan.deletes).collect();
    if deletes.is_empty() {
        return Ok(());
    }
    let key_of = |row: &&TargetRow| target.tables[usize::from(row.table.0)].key_of(row);
    let updates: Vec<TargetKey> = candidates.iter().flat_map(|candidate| &candidate.plan.updates).map(key_of).collect();
    let mut keys: Vec<Vec<TargetKey>> = vec![Vec::new(); target.tables.len()];
    deletes.iter().copied().for_each(|key| keys[usize::from(key.table.0)].push(key.clone()));
    // Whoever is just making a row refer to one of these is waited for; whoever begins to after this waits for us.
    for (shape, keys) in target.tables.iter().zip(&keys) {
        keyed(connection, shape, sql::lock(shape), keys).await?;
    }
    Reachable::new(&target.tables, &deletes, updates.iter()).check(connection).await?;
    for (shape, keys) in target.tables.iter().zip(&keys).rev() {
        let gone = keyed(connection, shape, sql::delete(shape), keys).await?;
        // Someone may have deleted a row before; what is still there was kept.
        if gone < keys.len() as u64 && read::rows(connection, &target.tables, keys).await?.iter().any(Option::is_some) {
            return Err(left_out(shape));
        }
    }
    Ok(())
}

/// Runs one statement over the rows of some keys; answers how many it found.
async fn keyed(
    connection: &mut PgConnection,
    shape: &TableShape,
    statement: String,
    keys: &[TargetKey],
) -> Result<u64, Refusal> {
    let values: Vec<&[Value]> = keys.iter().map(|key| key.values.as_slice()).collect();
    execute(connection, shape, statement, shape.key.len(), &values).await
}

/// Stores version and ownership of each unit beside its rows.
///
/// A record that was not there when the unit's writes were planned is not replaced: it came from a writer that died with its commit on the
/// way, and what it says is owned would be owned by nobody.
async fn store_records(
    target: &PostgresTarget,
    connection: &mut PgConnection,
    candidates: &[&Candidate<'_>],
) -> Result<(), Refusal> {
    const ACTION: &str = "store unit versions";
    let insert = "INSERT INTO rehome.units (migration, unit, part, version, owned) \
        SELECT $1, x.unit, x.part, x.version, x.owned \
        FROM unnest($2::text[], $3::bytea[], $4::bytea[], $5::bytea[]) AS x(unit, part, version, owned)";
    let replace = "DO UPDATE SET version = EXCLUDED.version, owned = EXCLUDED.owned";
    for (recorded, conflict) in [(false, "DO NOTHING"), (true, replace)] {
        let mut records: BTreeMap<(&str, &[u8]), (Vec<u8>, Vec<u8>)> = BTreeMap::new();
        for candidate in candidates.iter().filter(|candidate| candidate.recorded == recorded) {
            let write = candidate.write;
            let owned = Owned::after_write(candidate.plan.owned.clone(), &candidate.before);
            records.insert((&write.unit, &write.part), (write.version.to_bytes().to_vec(), owned.pack(&target.tables)));
        }
        let count = records.len() as u64;
        if count == 0 {
            continue;
        }
        let (names, records): (Vec<_>, Vec<_>) = records.into_iter().unzip();
        let (units, parts): (Vec<&str>, Vec<&[u8]>) = names.into_iter().unzip();
        let (versions, lists): (Vec<Vec<u8>>, Vec<Vec<u8>>) = records.into_iter().unzip();
        let statement = format!("{insert} ON CONFLICT (migration, unit, part) {conflict}");
        let query = sqlx::query(AssertSqlSafe(statement));
        let query = query.bind(&target.migration).bind(units).bind(parts).bind(versions).bind(lists);
        let stored = query.execute(&mut *connection).await.map_err(|source| refuse(ACTION, source))?;
        if stored.rows_affected() != count {
            let source = "a record of a part came into being meanwhile: it is read, and the part planned again".into();
            return Err(Refusal::Target(Error::Unreachable { action: ACTION, source }));
        }
    }
    Ok(())
}

/// Sorts a refused write: the unit's own data, someone else's rows, or the target itself.
pub(super) fn refuse(action: &'static str, error: sqlx::Error) -> Refusal {
    let sqlx::Error::Database(server) = &error else { return Refusal::Target(classify(action, error)) };
    let code = server.code().unwrap_or_default();
    let reason = match &*code {
        "23505" => "unique",
        "23503" => "foreign_key",
        // A trigger of the application may refuse a row in words of its own.
        "23000" | "23001" | "23502" | "23514" | "23P01" | "44000" | "P0001" | "P0004" => "constraint",
        "22P05" | "22021" => "not_storable",
        "22003" | "22008" | "22015" => "out_of_range",
        // A key longer than an index takes, a row longer than a page, a value beyond a gigabyte.
        "54000" => "too_long",
        code if code.starts_with("22") => "not_storable",
        _ => return Refusal::Target(classify(action, error)),
    };
    let place = server.constraint().or(server.table()).unwrap_or("the target's checks");
    Refusal::Unit { reason, detail: format!("{code}: refused by {place}") }
}

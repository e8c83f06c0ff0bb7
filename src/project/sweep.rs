//! Closes an epoch: rows that its snapshot did not find are deleted, by events in the log (I4).
//!
//! A sweep is asked for by a mark that the capture sets when the new epoch's snapshot is complete. It runs when the state
//! holds all of that snapshot, and not at all when it would delete more than it may: an empty scan by a wrong address looks
//! just like a table whose rows were all deleted.

use crate::event::encoding::ordered::key_from_bytes;
use crate::event::{Class, Epoch, Event, Flags, Op, Origin, Version};
use crate::log::{Batch, EventLog};

use super::records::Head;
use super::row::too_long;
use super::source::SourceShape;
use super::state::{Space, State};
use super::{Error, names};

/// A table that loses fewer rows than this may lose all of them.
const EMPTIED_MIN: u64 = 3;
/// Deletes appended at once.
const BATCH: usize = 10_000;

/// Sweeps if a sweep was asked for; returns how many rows it deleted.
///
/// # Errors
/// [`Error::SweepTooLarge`] when more than `sweep_max` rows would go: nothing is deleted then.
pub async fn run(log: &dyn EventLog, state: &State, sources: &[SourceShape], sweep_max: u64) -> Result<u64, Error> {
    let Some((mark, epoch)) = asked(log)? else { return Ok(0) };
    let floor = Version::floor(epoch);
    let count = count_unseen(state, sources, floor, sweep_max)?;
    if count > sweep_max {
        return Err(Error::SweepTooLarge { count, limit: sweep_max });
    }
    let unseen = unseen(state, sources, floor)?;
    tracing::info!(rows = count, epoch = epoch.0, "sweeping rows that the new snapshot did not find");
    for chunk in unseen.chunks(BATCH) {
        let events = chunk.iter().map(|(table, key)| delete(log, &sources[usize::from(*table)], key, floor));
        let events = events.collect::<Result<Vec<_>, _>>()?;
        log.append(Batch { events, ..Batch::default() }).await?;
    }
    let marks = [(mark, None), (format!("{}{:010}", names::SWEPT, epoch.0), Some(count.to_string().into_bytes()))];
    log.append(Batch { marks: marks.into_iter().collect(), ..Batch::default() }).await?;
    Ok(count)
}

fn asked(log: &dyn EventLog) -> Result<Option<(String, Epoch)>, Error> {
    let last = log.marks(names::SWEEP)?.pop();
    Ok(last.and_then(|(mark, _)| {
        let epoch = mark.strip_prefix(names::SWEEP)?.parse().ok()?;
        Some((mark, Epoch(epoch)))
    }))
}

/// Counts live rows of older epochs.
///
/// # Errors
/// [`Error::Emptied`] when a table would lose all of its rows, unless `sweep_max` says that anything may go.
fn count_unseen(state: &State, sources: &[SourceShape], floor: Version, sweep_max: u64) -> Result<u64, Error> {
    let mut total = 0;
    for (table, source) in (0u16..).zip(sources) {
        let (mut old, mut new) = (0, 0);
        state.scan(Space::Heads, &table.to_be_bytes(), |_, head| {
            let head = Head::from_bytes(head)?;
            let count = if head.version < floor { &mut old } else { &mut new };
            *count += u64::from(head.scope.is_some());
            Ok(true)
        })?;
        if old >= EMPTIED_MIN && new == 0 && sweep_max != u64::MAX {
            return Err(Error::Emptied { table: source.relation.table.to_string(), count: old });
        }
        total += old;
    }
    Ok(total)
}

/// Live rows of older epochs.
fn unseen(state: &State, sources: &[SourceShape], floor: Version) -> Result<Vec<(u16, Vec<u8>)>, Error> {
    let mut keys = Vec::new();
    for table in 0..u16::try_from(sources.len()).unwrap_or(u16::MAX) {
        state.scan(Space::Heads, &table.to_be_bytes(), |key, head| {
            let head = Head::from_bytes(head)?;
            if head.scope.is_some() && head.version < floor && !too_long(key) {
                keys.push((table, key[2..].to_vec()));
            }
            Ok(true)
        })?;
    }
    Ok(keys)
}

fn delete(log: &dyn EventLog, source: &SourceShape, key: &[u8], version: Version) -> Result<Event, Error> {
    let relation = log.relations().into_iter().rfind(|relation| relation.name == source.relation);
    let relation = relation.ok_or(Error::Damaged("relations"))?.schema_hash();
    let key = key_from_bytes(key).map_err(|_| Error::Damaged("heads"))?;
    debug_assert_eq!(version.class, Class::Floor, "a sweep is as old as the snapshot that did not find the row");
    Ok(Event {
        relation,
        op: Op::Sweep,
        key,
        old_key: None,
        before: None,
        after: None,
        version,
        transaction: None,
        origin: Origin::Sweep,
        flags: Flags::default(),
    })
}

//! Closes an epoch: rows that its snapshot did not find are deleted, by events in the log (I4).
//!
//! A sweep is asked for by a mark that the capture sets when the new epoch's snapshot is complete. It runs when the state
//! holds all of that snapshot, and not at all when it would delete more than it may: an empty scan by a wrong address looks
//! just like a table whose rows were all deleted. The same is asked for of one table when the file that stands for it was read
//! again.
//!
//! A table with held events is swept when these are released: the state does not know its rows until then. A sweep ends with
//! a notice that says the same of whatever the state holds: one that is built anew from the log may know rows that this one
//! never did, because their events were held and given up.

use crate::event::encoding::ordered::key_from_bytes;
use crate::event::{Epoch, Event, Flags, Op, Origin, Version, from_hex, to_hex};
use crate::log::{Batch, EventLog, Notice};

use super::records::Head;
use super::row::too_long;
use super::source::SourceShape;
use super::state::{Space, State};
use super::{Error, held, names};

/// A table that loses fewer rows than this may lose all of them.
const EMPTIED_MIN: u64 = 3;
/// Deletes appended at once.
const BATCH: usize = 10_000;

/// A sweep that was asked for.
struct Asked {
    /// The mark that asked for it.
    mark: String,
    /// Rows that are older go; the deletes have this version.
    floor: Version,
    /// Tables, by index.
    tables: Vec<u16>,
    /// The epoch, when one was closed by it.
    epoch: Option<Epoch>,
}

/// Sweeps if a sweep was asked for; returns how many rows it deleted.
///
/// # Errors
/// [`Error::SweepTooLarge`] when more than `sweep_max` rows would go: nothing is deleted then.
pub async fn run(log: &dyn EventLog, state: &State, sources: &[SourceShape], sweep_max: u64) -> Result<u64, Error> {
    let mut total = 0;
    for mut asked in asked(log, sources)? {
        let (later, now) = held::split(state, &asked.tables)?;
        if now.is_empty() && asked.mark.starts_with(names::SWEEP_HELD) {
            continue;
        }
        asked.tables = now;
        let count = count_unseen(state, sources, &asked, sweep_max)?;
        if count > sweep_max {
            return Err(Error::SweepTooLarge { count, limit: sweep_max });
        }
        let unseen = unseen(state, &asked)?;
        tracing::info!(rows = count, epoch = asked.floor.epoch.0, "sweeping rows that the new reading did not find");
        for chunk in unseen.chunks(BATCH) {
            let events = chunk.iter().map(|(table, key)| delete(log, &sources[usize::from(*table)], key, asked.floor));
            let events = events.collect::<Result<Vec<_>, _>>()?;
            log.append(Batch { events, ..Batch::default() }).await?;
        }
        let swept = |epoch: Epoch| (format!("{}{:010}", names::SWEPT, epoch.0), Some(count.to_string().into_bytes()));
        let name = |table: u16| format!("{}{}", names::SWEEP_HELD, sources[usize::from(table)].relation);
        let later = later.into_iter().map(|table| (name(table), Some(asked.floor.to_bytes().to_vec())));
        let marks = [(asked.mark, None)].into_iter().chain(asked.epoch.map(swept)).chain(later).collect();
        let notices =
            asked.tables.iter().map(|table| swept_notice(&sources[usize::from(*table)], asked.floor)).collect();
        log.append(Batch { marks, notices, ..Batch::default() }).await?;
        total += count;
    }
    Ok(total)
}

/// The sweep of the last epoch that asked for one, and those of single tables.
fn asked(log: &dyn EventLog, sources: &[SourceShape]) -> Result<Vec<Asked>, Error> {
    let all = || (0..u16::try_from(sources.len()).unwrap_or(u16::MAX)).collect();
    let (mut closing, mut single) = (None, Vec::new());
    for (mark, value) in log.marks(names::SWEEP)?.into_iter().chain(log.marks(names::SWEEP_HELD)?) {
        let single_table = mark.strip_prefix(names::SWEEP_TABLE).or_else(|| mark.strip_prefix(names::SWEEP_HELD));
        if let Some(relation) = single_table {
            let floor = Version::from_bytes(&value).ok_or(Error::LogDamaged("marks"))?;
            let tables = (0..).zip(sources).filter(|(_, source)| source.relation.to_string() == relation);
            let tables = tables.map(|(table, _)| table).collect();
            single.push(Asked { mark, floor, tables, epoch: None });
        } else if let Some(epoch) = mark.strip_prefix(names::SWEEP).and_then(|epoch| epoch.parse().ok()).map(Epoch) {
            closing = Some(Asked { mark, floor: Version::floor(epoch), tables: all(), epoch: Some(epoch) });
        }
    }
    Ok(closing.into_iter().chain(single).collect())
}

/// Counts live rows that are too old.
///
/// # Errors
/// [`Error::Emptied`] when a table would lose all of its rows, unless `sweep_max` says that anything may go.
fn count_unseen(state: &State, sources: &[SourceShape], asked: &Asked, sweep_max: u64) -> Result<u64, Error> {
    let mut total = 0;
    for &table in &asked.tables {
        let (mut old, mut new) = (0, 0);
        state.scan(Space::Heads, &table.to_be_bytes(), |_, head| {
            let head = Head::from_bytes(head)?;
            let count = if head.version < asked.floor { &mut old } else { &mut new };
            *count += u64::from(head.scope.is_some());
            Ok(true)
        })?;
        if old >= EMPTIED_MIN && new == 0 && sweep_max != u64::MAX {
            let table = sources[usize::from(table)].relation.table.to_string();
            return Err(Error::Emptied { table, count: old });
        }
        total += old;
    }
    Ok(total)
}

/// Live rows that are too old.
fn unseen(state: &State, asked: &Asked) -> Result<Vec<(u16, Vec<u8>)>, Error> {
    let mut keys = Vec::new();
    for &table in &asked.tables {
        state.scan(Space::Heads, &table.to_be_bytes(), |key, head| {
            let head = Head::from_bytes(head)?;
            if head.scope.is_some() && head.version < asked.floor && !too_long(key) {
                keys.push((table, key[2..].to_vec()));
            }
            Ok(true)
        })?;
    }
    Ok(keys)
}

/// Says that rows of a table which are older than a version are gone.
fn swept_notice(source: &SourceShape, floor: Version) -> Notice {
    let reason = format!("{}: {} {}", names::SWEPT_BELOW, to_hex(&floor.to_bytes()), source.relation);
    Notice { unit: "".into(), reason: reason.into() }
}

/// What [`swept_notice`] says after its first word: the version, and schema and table.
pub(super) fn swept_below(detail: &str) -> Option<(Version, &str)> {
    let (version, table) = detail.split_once(' ')?;
    Some((Version::from_bytes(&from_hex(version)?)?, table))
}

fn delete(log: &dyn EventLog, source: &SourceShape, key: &[u8], version: Version) -> Result<Event, Error> {
    let relation = log.relations().into_iter().rfind(|relation| relation.name == source.relation);
    let relation = relation.ok_or(Error::LogDamaged("relations"))?.schema_hash();
    let key = key_from_bytes(key).map_err(|_| Error::Damaged("heads"))?;
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

//! Erasing rows that have gone from the log and the state, as the law may ask for a person's.

use std::collections::{BTreeMap, BTreeSet};

use crate::event::{Canonical as _, DigestKey, Event, Key, Relation, key_text};
use crate::log::{EmbeddedLog, Erased, EventLog, Offset, Options as LogOptions, Partition, Record};
use crate::project::apply::Applier;
use crate::project::names;
use crate::project::records::Head;
use crate::project::row::head_key;
use crate::project::run::dirty_parts;
use crate::project::source::SourceShape;
use crate::project::state::{Space, State};

use super::{Engine, Error, Open, shapes};

/// Bytes of the log that are looked through at once.
const READ_BYTES: usize = 4 * 1024 * 1024;

/// What was erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Erasure {
    /// Rows.
    pub rows: u64,
    /// Events of theirs.
    pub events: u64,
}

impl Engine {
    /// Erases every event of some rows of a source table, named by their keys as `rehome log show` shows them, and writes
    /// log and state anew without them. The rows must be gone, and the target must know it.
    ///
    /// # Errors
    /// [`Error::Running`] beside a run, [`Error::NotErased`] when a row is still there, or was once another row, or is not
    /// known; then nothing was erased.
    pub async fn erase(&self, table: &str, keys: &[String]) -> Result<Erasure, Error> {
        if !self.folder.exists() {
            return Err(Error::NotUp(self.folder.path().to_owned()));
        }
        let owned = self.own().await?;
        let Open { _owned, digest_key, log, state, mapping_generation } = self.open(owned).await?;
        let (place, source) = shapes::named(&self.sources, table)?;
        let frozen = state.freeze();
        let end = log.end(Partition(0));
        let mut behind = Applier::checkpoint_at(&frozen)? < end || dirty_parts(&frozen, mapping_generation)? > 0;
        frozen.each(Space::Wake, |_, _| {
            behind = true;
            Ok(())
        })?;
        if behind {
            let next = "let `rehome run MIGRATION --until caught-up` end, and erase then";
            return refused("the target does not hold yet what the log tells".to_owned(), next);
        }
        let mut parts = 0;
        frozen.each(Space::Meta, |name, _| {
            parts += u64::from(name.starts_with(names::REFUSED));
            Ok(())
        })?;
        if parts > 0 {
            let why =
                format!("the target refused the last write of {parts} part(s), and may hold what they were before");
            return refused(why, "mend what `rehome quarantine list` names");
        }
        let mut held = 0;
        frozen.each(Space::Held, |_, _| {
            held += 1;
            Ok(())
        })?;
        if held > 0 {
            let why = format!("{held} event(s) of a table whose shape changed are held back");
            return refused(why, "`rehome status` names the table: accept-schema, and a run, release them");
        }
        drop(frozen);
        let found = find(&*log, source, keys).await?;
        if let Some(unknown) = keys.iter().find(|key| !found.contains_key(key.as_str())) {
            let next = "`rehome log show MIGRATION --table TABLE` shows keys as they are to be given";
            return refused(format!("no event of {table} has the key {unknown}"), next);
        }
        if let Some((text, _)) = found.iter().find(|(_, keys)| keys.len() > 1) {
            let reason = format!("more than one row of {table} has a key that reads {text}");
            return Err(Error::NotErased { reason, next: None });
        }
        let wanted: BTreeSet<&Key> = found.values().flatten().collect();
        for key in &wanted {
            let head = state.get(Space::Heads, &head_key(place, key))?;
            if head.map(|bytes| Head::from_bytes(&bytes)).transpose()?.is_some_and(|head| head.scope.is_some()) {
                let next =
                    "delete it in the source, let `rehome run MIGRATION --until caught-up` end, and erase it then";
                return refused(format!("the row {} of {table} is still there", key_text(&key.0)), next);
            }
        }
        drop(log);
        // What a comparison that died has left holds keys of target rows.
        super::resume::discard(self.folder.path())?;
        // The state first: after a death in between, the same command still finds the events, and ends what was begun.
        let mut session = state.session();
        wanted.iter().for_each(|key| session.remove(Space::Heads, &head_key(place, key)));
        session.commit()?;
        drop(state);
        State::renew(&self.folder.state())?;
        let mark = digest_of(&digest_key, source);
        let choose = |event: &Event, relation: &Relation| -> Option<Erased> {
            let ours = relation.name == source.relation && wanted.contains(&event.key);
            ours.then(|| Erased { relation: relation.name.clone(), key: mark(&event.key) })
        };
        let options = LogOptions { partitions: 1, generation: 0 };
        let events = EmbeddedLog::erase(&self.folder.log(), options, choose)?;
        Ok(Erasure { rows: wanted.len() as u64, events })
    }
}

fn refused<T>(reason: String, next: &str) -> Result<T, Error> {
    Err(Error::NotErased { reason, next: Some(next.to_owned()) })
}

/// The rows of a table that have one of some keys, by the text of the key. A row that was once under another key is refused,
/// unless both keys are named: without the event of the change a replay of the log would bring the old row back.
async fn find(
    log: &dyn EventLog,
    source: &SourceShape,
    keys: &[String],
) -> Result<BTreeMap<String, BTreeSet<Key>>, Error> {
    let wanted: BTreeSet<&str> = keys.iter().map(String::as_str).collect();
    let mut found: BTreeMap<String, BTreeSet<Key>> = BTreeMap::new();
    let mut next = Offset(0);
    loop {
        let chunk = log.read(Partition(0), next, READ_BYTES).await?;
        if chunk.records.is_empty() {
            return Ok(found);
        }
        for (_, record) in chunk.records {
            let Record::Event(event) = record else { continue };
            let relation = log.relation(event.relation).ok_or(crate::project::Error::LogDamaged("relations"))?;
            if relation.name != source.relation {
                continue;
            }
            let text = key_text(&event.key.0);
            let old = event.old_key.as_ref().map(|key| key_text(&key.0));
            let (ours, old_ours) = (wanted.contains(text.as_str()), old.as_deref().map(|old| wanted.contains(old)));
            if let Some(old) = old.filter(|_| old_ours == Some(!ours)) {
                let reason = format!("the row {old} became the row {text}");
                return Err(Error::NotErased { reason, next: Some("name both, or neither".to_owned()) });
            }
            if ours {
                found.entry(text).or_default().insert(event.key);
            }
        }
        next = chunk.next;
    }
}

/// What names a row's key to whoever knows both the key and the deployment's secret.
fn digest_of(digest_key: &DigestKey, source: &SourceShape) -> impl Fn(&Key) -> [u8; 16] {
    let key = digest_key.derive("erased key", &[source.relation.to_string().as_bytes()]);
    move |of| {
        let mut short = [0; 16];
        short.copy_from_slice(&blake3::keyed_hash(&key, &of.encode()).as_bytes()[..16]);
        short
    }
}

//! Which shards of a stream to read, in which order, and when something of it was lost: pure.
//!
//! A stream is a forest of shards: a parent is closed, and its children go on. Each lineage is read from its oldest shard,
//! a child only when its parent is drained, which is known from reading it and never from a description: the service's
//! descriptions lag behind it and contradict each other (a parent that looks open though it has children, a child that
//! comes before its parent). So everything here holds whatever a description leaves out for a while.
//!
//! **Loss.** Records are trimmed after 24 hours. A shard that was read before goes on after a sequence number, and the
//! service says so when that place is gone. From a shard that was never read it is read from wherever the shard now begins,
//! in silence; so each shard remembers since when its records are needed ([`Shard::needed_from`]), and one that is opened
//! more than [`RETENTION_US`] later has lost some. What was written before the epoch is needed too, once an earlier record of
//! the same lineage is in the log: it would stand there as the last word. Not a row is ordered by this clock.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::event::{SequenceNumber, Timestamp};

/// Microseconds of a minute.
const MINUTE_US: i64 = 60_000_000;

/// How long the service keeps records at least.
pub const RETENTION_US: i64 = 24 * 60 * MINUTE_US;

/// A new shard is in every description at the latest after this: a shard that is missing from one may be so much older.
const LISTING_LAG_US: i64 = 10 * MINUTE_US;

/// A child whose parent nobody lists is read after so many descriptions without it: the parent was trimmed.
const ORPHAN_DESCRIPTIONS: u32 = 3;

/// A shard counts as trimmed after so many descriptions without it: one that is still to be read is then lost.
const MISSING_DESCRIPTIONS: u32 = 3;

/// A shard that is opened so soon after its parent was drained goes on from it without a gap.
const FOLLOWED_AT_ONCE_US: i64 = 5 * MINUTE_US;

/// Times of records are approximate: what one says may be off by less than this.
const RECORD_TIME_OFF_US: i64 = MINUTE_US;

/// Version of the stored form of [`Shard`].
const FORMAT: u32 = 1;

/// Name of a shard within its stream.
pub type ShardId = Box<str>;

/// A shard as a description lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub id: ShardId,
    /// Its parent's, which need not be listed any more.
    pub parent: Option<ShardId>,
}

/// All pages of one description of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// When its first page was asked for.
    pub asked: Timestamp,
    /// Shards, in whatever order they came.
    pub shards: Vec<Listed>,
    /// Whether the stream is still written.
    pub enabled: bool,
}

/// How far a shard is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum Progress {
    /// Not yet: its parent is not drained, or nothing of it was seen.
    Unread,
    /// The log holds everything up to this sequence number, in the writing of the service.
    After(Box<str>),
    /// The log holds all of it.
    Drained,
}

/// A shard that is being followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    /// Its parent.
    pub parent: Option<ShardId>,
    /// How far it is read.
    pub progress: Progress,
    /// Its records from then on are needed.
    pub needed_from: Timestamp,
    /// When the newest record was written that the log has of it, or of those before it in its lineage.
    pub told: Option<Timestamp>,
    /// Of a shard that the epoch's first description listed: when what came before it in its lineage was drained, of which the
    /// log has records. What it holds from before the epoch is needed then.
    pub follows: Option<Follows>,
}

/// How a shard with history stands to its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follows {
    /// Its parent is not drained, or the log has nothing of it.
    Nothing,
    /// The log has records of its lineage since this time.
    Since(Timestamp),
}

/// The stored form of [`Shard`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: u32,
    parent: Option<ShardId>,
    progress: Progress,
    needed_from_us: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    told_us: Option<i64>,
    /// Absent where it has no history, 0 where it follows nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    follows_us: Option<i64>,
}

impl Shard {
    /// The mark's value.
    pub fn to_bytes(&self) -> Vec<u8> {
        let stored = Stored {
            format: FORMAT,
            parent: self.parent.clone(),
            progress: self.progress.clone(),
            needed_from_us: self.needed_from.0,
            told_us: self.told.map(|told| told.0),
            follows_us: self.follows.map(|follows| match follows {
                Follows::Nothing => 0,
                Follows::Since(drained) => drained.0,
            }),
        };
        serde_json::to_vec(&stored).unwrap_or_default()
    }

    /// Reads [`Shard::to_bytes`]; `None` when it is not of this form.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let stored: Stored = serde_json::from_slice(bytes).ok()?;
        (stored.format == FORMAT).then_some(Self {
            parent: stored.parent,
            progress: stored.progress,
            needed_from: Timestamp(stored.needed_from_us),
            told: stored.told_us.map(Timestamp),
            follows: stored.follows_us.map(|drained| match drained {
                0 => Follows::Nothing,
                drained => Follows::Since(Timestamp(drained)),
            }),
        })
    }

    /// Whether records that are needed may have been trimmed unseen before it is opened at `now`.
    fn too_old(&self, now: Timestamp) -> bool {
        let since = |time: Timestamp| now.0.saturating_sub(time.0);
        self.progress == Progress::Unread && (since(self.needed_from) > RETENTION_US || self.history_is_gone(since))
    }

    /// Whether what goes on from records that the log has may have been trimmed since these were read: the service may keep
    /// records for longer than it has to, and trims the oldest first.
    fn history_is_gone(&self, since: impl Fn(Timestamp) -> i64) -> bool {
        match (self.follows, self.told) {
            (Some(Follows::Since(drained)), Some(told)) => {
                since(told) + RECORD_TIME_OFF_US > RETENTION_US && since(drained) > FOLLOWED_AT_ONCE_US
            }
            _ => false,
        }
    }
}

/// Something of the stream can no longer be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loss {
    /// A shard went away before all of it was read.
    Gone(ShardId),
    /// A shard is opened for the first time so late that its first records may have been trimmed.
    Late(ShardId),
    /// The stream was disabled, and all that it still held is read.
    Ended,
}

impl std::fmt::Display for Loss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Loss::Gone(id) => write!(f, "shard {id} went away before all of it was read"),
            Loss::Late(id) => write!(f, "shard {id} was first opened more than 24 hours after its records are needed"),
            Loss::Ended => f.write_str("the stream was disabled"),
        }
    }
}

/// What a description changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// Shards that were not known before; they are recorded before they are read.
    pub found: Vec<ShardId>,
    /// Drained shards that are trimmed by now and that nothing refers to: their records may go.
    pub forgotten: Vec<ShardId>,
    /// Drained shards without a child, which would be listed by now: their lineages are taken to have ended.
    pub ended: Vec<ShardId>,
}

/// What is known of a stream's shards.
#[derive(Debug, Clone, Default)]
pub struct Tracker {
    shards: BTreeMap<ShardId, Shard>,
    /// Shards that are being read.
    open: BTreeSet<ShardId>,
    /// When the last description was asked for; `None` before the epoch's first.
    described: Option<Timestamp>,
    /// Descriptions in a row without the shard, or without its parent.
    without: BTreeMap<ShardId, u32>,
    /// Drained shards without a child that was ever listed.
    childless: BTreeMap<ShardId, Childless>,
    enabled: bool,
}

/// How long the next shard of a lineage has been waited for.
#[derive(Debug, Clone, Copy)]
struct Childless {
    /// When the first description was asked for that did not list it.
    since: Timestamp,
    /// Whether it would be listed by now.
    ended: bool,
}

impl Tracker {
    /// What was remembered: the shards, and when the stream was last described.
    pub fn new(shards: BTreeMap<ShardId, Shard>, described: Option<Timestamp>) -> Self {
        Self { shards, described, enabled: true, ..Self::default() }
    }

    /// A shard.
    pub fn shard(&self, id: &str) -> Option<&Shard> {
        self.shards.get(id)
    }

    /// When the stream was last described.
    pub fn described(&self) -> Option<Timestamp> {
        self.described
    }

    /// Shards that are not drained.
    pub fn unfinished(&self) -> impl Iterator<Item = &ShardId> {
        self.shards.iter().filter(|(_, shard)| shard.progress != Progress::Drained).map(|(id, _)| id)
    }

    /// Whether every lineage is being read, so that nothing written from now on is missed.
    pub fn following(&self) -> bool {
        // A stream that is written has an open shard: when there is none, it is not listed yet.
        let found = self.described.is_some() && self.unfinished().next().is_some() && !self.awaits_child();
        found && self.unfinished().all(|id| self.open.contains(id) || self.waits_for_parent(id))
    }

    /// Whether the next shard of a lineage is not listed yet: as long as a stream is written, a closed shard has one, and what is
    /// written goes there. It is waited for as long as a description may leave it out.
    pub fn awaits_child(&self) -> bool {
        let listed_by_now = |id: &ShardId| self.childless.get(id).is_some_and(|childless| childless.ended);
        self.enabled && self.drained_without_child().any(|id| !listed_by_now(id))
    }

    /// Drained shards that are no shard's parent.
    fn drained_without_child(&self) -> impl Iterator<Item = &ShardId> {
        let parents: BTreeSet<&ShardId> = self.shards.values().filter_map(|shard| shard.parent.as_ref()).collect();
        let drained = self.shards.iter().filter(|(_, shard)| shard.progress == Progress::Drained).map(|(id, _)| id);
        drained.filter(move |id| !parents.contains(id))
    }

    /// Whether a shard's turn comes when its parent, which is being read, is drained.
    pub fn waits_for_parent(&self, id: &str) -> bool {
        let parent = self.shards.get(id).and_then(|shard| shard.parent.as_ref());
        let parent = parent.and_then(|parent| self.shards.get(parent));
        !self.open.contains(id) && parent.is_some_and(|parent| parent.progress != Progress::Drained)
    }

    /// Takes a description in.
    ///
    /// # Errors
    /// [`Loss`] when it shows that something cannot be read any more.
    pub fn describe(&mut self, description: &Description) -> Result<Changes, Loss> {
        let listed: BTreeMap<&str, &Listed> = description.shards.iter().map(|shard| (&*shard.id, shard)).collect();
        // In the epoch's first description everything before it is history; later on a shard may have come at any time since the
        // description before.
        let since = self.described.map_or(description.asked.0, |described| described.0 - LISTING_LAG_US);
        let mut changes = Changes::default();
        for shard in listed.values() {
            if !self.shards.contains_key(&shard.id) {
                let (parent, needed_from) = (shard.parent.clone(), Timestamp(since));
                let follows = self.described.is_none().then_some(Follows::Nothing);
                let found = Shard { parent, progress: Progress::Unread, needed_from, told: None, follows };
                self.shards.insert(shard.id.clone(), found);
                changes.found.push(shard.id.clone());
            }
        }
        self.described = Some(description.asked);
        self.enabled = description.enabled;
        self.count_absences(&listed)?;
        changes.forgotten = self.forget();
        changes.ended = self.count_childless(description.asked);
        if !self.enabled && self.unfinished().next().is_none() {
            return Err(Loss::Ended);
        }
        Ok(changes)
    }

    /// Counts how often in a row a shard, or an unread one's parent, was not listed.
    fn count_absences(&mut self, listed: &BTreeMap<&str, &Listed>) -> Result<(), Loss> {
        let mut without = BTreeMap::new();
        for (id, shard) in &self.shards {
            let parent = shard.parent.as_ref().filter(|_| shard.progress == Progress::Unread);
            let orphan =
                parent.is_some_and(|parent| !self.shards.contains_key(parent) && !listed.contains_key(&**parent));
            let gone = !listed.contains_key(&**id);
            if !orphan && !gone {
                continue;
            }
            let count = self.without.get(id).map_or(1, |count| count + 1);
            if gone && shard.progress != Progress::Drained && count >= MISSING_DESCRIPTIONS {
                return Err(Loss::Gone(id.clone()));
            }
            without.insert(id.clone(), count);
        }
        self.without = without;
        Ok(())
    }

    /// Counts how long the next shard of each lineage was not listed; answers whose it is not waited for any more.
    fn count_childless(&mut self, asked: Timestamp) -> Vec<ShardId> {
        let (mut childless, mut ended) = (BTreeMap::new(), Vec::new());
        for id in self.drained_without_child() {
            let known = self.childless.get(id).copied().unwrap_or(Childless { since: asked, ended: false });
            let now = Childless { ended: known.ended || asked.0 - known.since.0 >= LISTING_LAG_US, ..known };
            if now.ended && !known.ended {
                ended.push(id.clone());
            }
            childless.insert(id.clone(), now);
        }
        self.childless = childless;
        ended
    }

    /// Forgets drained shards that are trimmed and whose children are known: a shard that was forgotten too early would be
    /// read again when it is listed again.
    fn forget(&mut self) -> Vec<ShardId> {
        let is_parent = |id: &ShardId| self.shards.values().any(|shard| shard.parent.as_ref() == Some(id));
        let unread_child = |id: &ShardId| {
            self.shards.values().any(|s| s.parent.as_ref() == Some(id) && s.progress == Progress::Unread)
        };
        let past: Vec<ShardId> = self
            .shards
            .iter()
            .filter(|(id, shard)| {
                let absences = self.without.get(*id).copied().unwrap_or(0);
                shard.progress == Progress::Drained && absences >= MISSING_DESCRIPTIONS
            })
            .filter(|(id, _)| is_parent(id) && !unread_child(id))
            .map(|(id, _)| id.clone())
            .collect();
        for id in &past {
            self.shards.remove(id);
        }
        past
    }

    /// Shards to begin with now; they count as being read from then on.
    ///
    /// # Errors
    /// [`Loss::Late`].
    pub fn open(&mut self, now: Timestamp) -> Result<Vec<ShardId>, Loss> {
        let ready: Vec<ShardId> = self.unfinished().filter(|id| self.eligible(id)).cloned().collect();
        if let Some(late) = ready.iter().find(|id| self.shards[*id].too_old(now)) {
            return Err(Loss::Late(late.clone()));
        }
        self.open.extend(ready.iter().cloned());
        Ok(ready)
    }

    fn eligible(&self, id: &ShardId) -> bool {
        let shard = &self.shards[id];
        let parent_done = match &shard.parent {
            None => true,
            // It was read before; what its parent is now matters no more.
            Some(_) if shard.progress != Progress::Unread => true,
            Some(parent) => match self.shards.get(parent) {
                Some(parent) => parent.progress == Progress::Drained,
                None => self.without.get(id).is_some_and(|count| *count >= ORPHAN_DESCRIPTIONS),
            },
        };
        parent_done && !self.open.contains(id)
    }

    /// Takes in that a shard was read up to a sequence number, and when the newest record was written; a page that came twice
    /// does not move it back.
    pub fn read(&mut self, id: &str, last: &str, written: Option<Timestamp>) {
        let Some(shard) = self.shards.get_mut(id) else { return };
        shard.told = shard.told.max(written);
        let forward = match &shard.progress {
            Progress::Unread => true,
            Progress::After(before) => before.parse::<SequenceNumber>().ok() < last.parse().ok(),
            Progress::Drained => false,
        };
        if forward {
            shard.progress = Progress::After(last.into());
        }
    }

    /// Takes in that a shard was read to its end; answers with the shards whose history is needed now: those that go on from it,
    /// where the log has records of the lineage.
    pub fn drained(&mut self, id: &str, now: Timestamp) -> Vec<ShardId> {
        self.open.remove(id);
        let Some(shard) = self.shards.get_mut(id) else { return Vec::new() };
        shard.progress = Progress::Drained;
        let Some(told) = shard.told else { return Vec::new() };
        let goes_on = |shard: &Shard| {
            shard.parent.as_deref() == Some(id) && shard.progress == Progress::Unread && shard.follows.is_some()
        };
        let children = self.shards.iter_mut().filter(|(_, shard)| goes_on(shard));
        let follow = |(id, child): (&ShardId, &mut Shard)| {
            child.told = child.told.max(Some(told));
            child.follows = Some(Follows::Since(now));
            id.clone()
        };
        children.map(follow).collect()
    }

    /// Takes in that reading a shard stopped before its end; it is begun again from where it was.
    pub fn stopped(&mut self, id: &str) {
        self.open.remove(id);
    }
}

#[cfg(test)]
mod tests;

//! What `check`, `up` and `down` do in both databases and in the state folder.
//!
//! A state folder can be lost while the target keeps the record of what was written. A new folder may not go on beside
//! that record as if it were its own: units that have left the source since would stay at the target for ever. It is
//! *adopted*, by a notice for every part of it: the projection then makes each what the source says now, which for a part
//! without rows is nothing.

use std::path::PathBuf;

use tokio::sync::mpsc;

use crate::capture::marks;
use crate::dynamo::target::{self as dynamo_target, Placed};
use crate::log::{Batch, EmbeddedLog, EventLog};
use crate::mapping::schema::Store;
use crate::postgres::leftovers::{StateFolder, leftovers};
use crate::postgres::preflight::{Finding, Severity, preflight};
use crate::postgres::provision as at_source;
use crate::postgres::target::{
    Provisioned, Removed as TargetRemoved, highest_version, provision, strangers, unprovision,
};
use crate::postgres::{Connection, PgPool};

use super::{Engine, Error, now_ms, shapes};

/// The log's mark that says the target's record is this log's own, made by it or adopted.
const RECORD: &str = "engine/record";

/// What to do about the record that another state folder left at the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Earlier {
    /// Go no further.
    Refuse,
    /// Take it over: that folder is lost.
    Adopt,
}

/// What `up` found and made.
#[derive(Debug, Clone)]
pub struct Up {
    /// Warnings of the preflight.
    pub findings: Vec<Finding>,
    /// At the target.
    pub target: Provisioned,
    /// What was taken over of an earlier state folder.
    pub adopted: Option<Adopted>,
}

/// What was taken over of an earlier state folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adopted {
    /// What of it is at the target.
    pub taken: Taken,
    /// The earlier folder's replication slots, which were removed.
    pub slots: Vec<String>,
}

/// What an earlier state folder left at the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// So many units of the target's record, of which every part is projected again.
    Units(u64),
    /// So many items, which say that they were written so.
    Items(u64),
}

/// How far marked items are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Marked {
    /// To the first page that has any.
    Some,
    /// To the end.
    All,
}

impl Adopted {
    /// What there is to tell; `None` where nothing was left.
    fn of(taken: Taken, slots: Vec<String>) -> Option<Self> {
        let (Taken::Units(count) | Taken::Items(count)) = taken;
        (count > 0 || !slots.is_empty()).then_some(Self { taken, slots })
    }
}

/// What `down` removed and left.
#[derive(Debug, Clone)]
pub struct Down {
    /// In the source.
    pub source: at_source::Removed,
    /// At the target.
    pub target: TargetRemoved,
    /// The state folder; `None` when there was none.
    pub folder: Option<FolderRemoved>,
}

/// A state folder of which everything that rehome made was removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderRemoved {
    /// Where it is, or was.
    pub path: PathBuf,
    /// Why the folder itself stays, if it does.
    pub stays: Option<String>,
}

impl Engine {
    /// Looks both databases over, creates what the target lacks, and prepares the state folder.
    ///
    /// # Errors
    /// [`Error::NotReady`] when the source lacks something, [`Error::Recorded`] when the target holds the record of another
    /// state folder and adopting it was not asked for.
    pub async fn up(&self, earlier: Earlier) -> Result<Up, Error> {
        self.check_addresses()?;
        if earlier == Earlier::Refuse {
            self.check_name()?;
        }
        let findings = self.preflight().await?;
        if findings.iter().any(|finding| finding.severity == Severity::Error) {
            return Err(Error::NotReady(findings));
        }
        let mut up = match self.migration.target_store() {
            Store::Postgres => self.up_to_postgres(findings, earlier).await?,
            Store::DynamoDb => self.up_to_dynamo(findings, earlier).await?,
        };
        // They may come until the first run: who made the tables just now could not fill them before.
        up.findings.extend(self.unmet().await?);
        Ok(up)
    }

    async fn up_to_postgres(&self, findings: Vec<Finding>, earlier: Earlier) -> Result<Up, Error> {
        let pool = self.target_server()?.reached_pool(1).await?;
        match earlier {
            Earlier::Refuse => self.refuse_record(&pool).await?,
            // Before there is a folder here, which would look like the one that is in use.
            Earlier::Adopt if !self.folder.log().exists() => drop(self.earlier_slots(None).await?),
            Earlier::Adopt => {}
        }
        let target = provision(&pool, self.migration.target_sql(), &self.tables).await?;
        let owned = self.own().await?;
        owned.digest_key()?;
        let highest = highest_version(&pool, self.migration.name()).await?.map_or(0, |version| version.log);
        // A clock that was set back must not make this log older than the record that it takes over.
        let log = self.open_log(now_ms().max(highest.saturating_add(1)))?;
        let adopted = self.settle_record(&log, &pool, earlier).await?;
        pool.close().await;
        Ok(Up { findings, target, adopted })
    }

    /// A DynamoDB target has no record; its items say who wrote them, and a run that knows of no write takes that up.
    async fn up_to_dynamo(&self, findings: Vec<Finding>, earlier: Earlier) -> Result<Up, Error> {
        let server = self.target_tables().await?;
        let target = dynamo_target::provision(&server, &self.written_tables()).await?;
        let target = Provisioned { created: target.created, present: target.present };
        let new = !self.folder.log().exists();
        let from_postgres = self.migration.source_store() == Store::Postgres;
        match earlier {
            Earlier::Refuse => self.refuse_marks().await?,
            // Before there is a folder here, which would look like the one that is in use.
            Earlier::Adopt if new && from_postgres => drop(self.earlier_slots(None).await?),
            Earlier::Adopt => {}
        }
        let marks = if new && earlier == Earlier::Adopt { Some(self.marks(Marked::All).await?) } else { None };
        let owned = self.own().await?;
        owned.digest_key()?;
        // A clock that was set back must not make this log older than what it takes over.
        let log = self.open_log(now_ms().max(marks.map_or(0, |(_, highest)| highest.saturating_add(1))))?;
        // Also where an adoption was cut off behind the log: that has no slot yet, or one of its own, which stays.
        let slots = match earlier {
            Earlier::Adopt if from_postgres => self.drop_earlier_slots(&log).await?,
            Earlier::Adopt | Earlier::Refuse => Vec::new(),
        };
        let adopted = Adopted::of(Taken::Items(marks.map_or(0, |(items, _)| items)), slots);
        Ok(Up { findings, target, adopted })
    }

    /// Refuses before anything is made here when there is no log yet but items that another state folder wrote.
    pub(super) async fn refuse_marks(&self) -> Result<(), Error> {
        if self.folder.log().exists() {
            return Ok(());
        }
        match self.marks(Marked::Some).await? {
            (0, _) => Ok(()),
            (items, _) => Err(Error::Marked { items }),
        }
    }

    /// How many items an earlier state folder of this migration wrote, and the highest generation of a log that they name.
    async fn marks(&self, wanted: Marked) -> Result<(u64, u64), Error> {
        let target = self.dynamo_target().await?;
        let (out, mut pages) = mpsc::channel::<Vec<Placed>>(1);
        let looked = async move {
            let (mut items, mut highest) = (0, 0);
            while let Some(page) = pages.recv().await {
                items += page.len() as u64;
                highest = page.iter().map(|placed| placed.version.log).fold(highest, u64::max);
                if wanted == Marked::Some {
                    break;
                }
            }
            (items, highest)
        };
        let (told, found) = tokio::join!(target.inventory(out), looked);
        told?;
        Ok(found)
    }

    /// Everything the source lacks, and what seems to be left over in it.
    pub async fn preflight(&self) -> Result<Vec<Finding>, Error> {
        // A file that does not read is better known before anything is made.
        for file in self.files()? {
            crate::capture::load::file::read(&file.path, &file.relation)?;
        }
        if self.migration.source_store() == Store::DynamoDb {
            let server = self.source_tables().await?;
            let now = crate::source::Clock::system().now();
            let looked = crate::dynamo::preflight::preflight(&server, &self.captured_tables(), |_| None, now).await?;
            return Ok(looked.findings);
        }
        let mut connection = self.source()?.connect().await?;
        let mut findings = preflight(&mut connection, &shapes::expectations(self.captured()), None).await?.findings;
        let folder = if self.folder.exists() { StateFolder::Present } else { StateFolder::Absent };
        findings.extend(leftovers(&mut connection, &self.prefix(), folder).await?);
        Ok(findings)
    }

    /// Refuses before anything is made here when there is no log yet but a record at the target.
    pub(super) async fn refuse_record(&self, pool: &PgPool) -> Result<(), Error> {
        if self.folder.log().exists() {
            return Ok(());
        }
        match strangers(pool, self.migration.name(), 0).await? {
            0 => Ok(()),
            units => Err(Error::Recorded { units }),
        }
    }

    /// Sees to it that the target's record is this log's own: there is none of another, or it is adopted.
    ///
    /// # Errors
    /// [`Error::Recorded`] when adopting was not asked for, [`Error::SlotHeld`] when the earlier folder is still in use.
    pub(super) async fn settle_record(
        &self,
        log: &EmbeddedLog,
        pool: &PgPool,
        earlier: Earlier,
    ) -> Result<Option<Adopted>, Error> {
        if log.mark(RECORD)?.is_some() {
            return Ok(None);
        }
        let units = strangers(pool, self.migration.name(), log.generation()).await?;
        let mut adopted = None;
        if units > 0 {
            if earlier == Earlier::Refuse {
                return Err(Error::Recorded { units });
            }
            let newer = highest_version(pool, self.migration.name()).await?;
            if newer.is_some_and(|version| version.log > log.generation()) {
                return Err(Error::Project(crate::project::Error::OtherWriter));
            }
        }
        if earlier == Earlier::Adopt && self.migration.source_store() == Store::Postgres {
            // Also a folder that was lost before it wrote anything has left its slot.
            adopted = Adopted::of(Taken::Units(units), self.drop_earlier_slots(log).await?);
        }
        let marks = [(RECORD.to_owned(), Some(Vec::new()))].into_iter().collect();
        log.append(Batch { marks, ..Batch::default() }).await?;
        Ok(adopted)
    }

    /// Drops the slots of the state folder that was lost: nobody can go on from them.
    async fn drop_earlier_slots(&self, log: &EmbeddedLog) -> Result<Vec<String>, Error> {
        let (mut connection, earlier) = self.earlier_slots(Some(log)).await?;
        let mut dropped = Vec::new();
        for name in earlier {
            if at_source::drop_slot(&mut connection, &name).await? {
                dropped.push(name);
            }
        }
        Ok(dropped)
    }

    /// Slots of this migration that a log, if there is one, knows nothing of; and a session in the source.
    ///
    /// # Errors
    /// [`Error::SlotHeld`] when one of them is read: its state folder is elsewhere, and in use.
    async fn earlier_slots(&self, log: Option<&EmbeddedLog>) -> Result<(Connection, Vec<String>), Error> {
        let own = log.map(|log| log.mark(marks::SLOT)).transpose()?.flatten();
        let mut connection = self.source()?.connect().await?;
        let mut earlier = at_source::slots(&mut connection, &self.prefix()).await?;
        earlier.retain(|(name, _)| own.as_deref() != Some(name.as_bytes()));
        match earlier.iter().find(|(_, active)| *active) {
            Some((name, _)) => Err(Error::SlotHeld(name.clone())),
            None => Ok((connection, earlier.into_iter().map(|(name, _)| name).collect())),
        }
    }

    /// Removes what rehome made in both databases, and in the state folder. What carries the migration's name is found without
    /// the folder too.
    ///
    /// # Errors
    /// [`Error::SlotHeld`] when something reads a slot that the folder's log does not know: its folder is elsewhere.
    pub async fn down(&self) -> Result<Down, Error> {
        // Both addresses are read before anything is removed.
        self.check_addresses()?;
        let target = match self.migration.target_store() {
            Store::Postgres => Some(self.target_server()?.reached_pool(1).await?),
            Store::DynamoDb => None,
        };
        let owned = if self.folder.holds_ours() { Some(self.own().await?) } else { None };
        let source = match self.migration.source_store() {
            Store::Postgres => {
                // A log that does not open any more knows no slot; that must not keep anybody from removing it.
                let log = if self.folder.log().exists() { self.open_log(now_ms()).ok() } else { None };
                let (mut connection, _) = self.earlier_slots(log.as_ref()).await?;
                drop(log);
                at_source::down(&mut connection, &self.prefix()).await?
            }
            // Nothing was made there: the streams are the operator's.
            Store::DynamoDb => at_source::Removed { removed: Vec::new(), left: vec!["the tables' streams".to_owned()] },
        };
        let target = match target {
            Some(pool) => {
                let removed = unprovision(&pool, self.migration.name(), &self.tables).await?;
                pool.close().await;
                removed
            }
            None => {
                let left = dynamo_target::unprovision(&self.written_tables());
                TargetRemoved { records: 0, schema_dropped: false, left: left.tables }
            }
        };
        let folder = match owned {
            Some(owned) => Some(FolderRemoved { path: self.settings.state.clone(), stays: owned.remove()? }),
            None => None,
        };
        Ok(Down { source, target, folder })
    }
}

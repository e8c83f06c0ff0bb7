//! Opens a session: looks the source over, and goes on in the epoch or opens the next.

use std::collections::HashMap;
use std::sync::Arc;

use super::run::Context;
use super::start::{Decision, Remembered, SlotNow, decide};
use super::{Error, footing, marks, skipped};
use crate::event::{Epoch, Lsn, Relation, RelationName, SchemaHash};
use crate::log::{Batch, EventLog};
use crate::postgres::feed::PgFeed;
use crate::postgres::footing::{Footing, read as rests_on};
use crate::postgres::preflight::{Looked, Severity, preflight};
use crate::postgres::provision::{self, NewSlot};
use crate::postgres::{Connection, assemble, catalog};
use crate::source::Error as SourceError;

/// A session in an epoch.
pub(super) struct Session {
    /// The epoch.
    pub(super) epoch: Epoch,
    /// Its slot.
    pub(super) slot: String,
    /// Its publication.
    pub(super) publication: String,
    /// Where its stream goes on.
    pub(super) from: Lsn,
    /// The tables to copy.
    pub(super) tables: Vec<RelationName>,
    /// Optional tables that the source lacks.
    pub(super) skipped: Vec<RelationName>,
}

/// An opened session, with the slot and its exported snapshot where it was just made.
pub(super) struct Opened {
    pub(super) session: Session,
    pub(super) new_slot: Option<NewSlot>,
}

impl Session {
    /// Connects and decides how to go on.
    pub(super) async fn open(context: &Context) -> Result<Opened, Error> {
        let config = &context.config;
        let remembered = remember(&*context.log)?;
        let mut connection = context.server.connect().await?;
        let Looked { findings, skipped } =
            preflight(&mut connection, &config.tables, remembered.slot.as_deref()).await?;
        let tables = config.tables.iter().map(|table| table.name.clone());
        let tables: Vec<RelationName> = tables.filter(|table| !skipped.contains(table)).collect();
        let (errors, warnings): (Vec<_>, Vec<_>) =
            findings.into_iter().partition(|finding| finding.severity == Severity::Error);
        if !errors.is_empty() {
            return Err(Error::NotReady(errors));
        }
        context.tell(|status| status.findings = warnings);
        let before = |table: &RelationName| remembered.tables.contains(&table.to_string());
        skipped::note(&*context.log, &context.status, skipped.clone(), before).await?;
        let identity = provision::identify(&context.server).await?;
        let server = format!("{}\n{}", identity.system, identity.timeline);
        let slot = match &remembered.slot {
            Some(name) => provision::slot(&mut connection, name).await?,
            None => None,
        };
        let slot = slot.map(|slot| SlotNow {
            confirmed: slot.confirmed,
            lost: slot.wal_status == "lost",
            wal_end: slot.wal_end,
        });
        let mut names: Vec<String> = tables.iter().map(ToString::to_string).collect();
        names.sort();
        let publication = provision::publication_name(&config.prefix);
        let decision = decide(&remembered, &server, &names, slot.as_ref());
        let opened = match decision {
            Decision::Resume { epoch, slot, from } => {
                let session = Session { epoch, slot, publication, from, tables, skipped };
                if let Some(reason) = footing::look(context, &mut connection, &session).await? {
                    return Err(SourceError::Lost { reason }.into());
                }
                let changed = provision::publish(&mut connection, &session.publication, &session.tables).await?;
                if names == remembered.tables && changed {
                    // Since when, nobody knows; what it left out is not in the stream.
                    let reason = format!("publication {} was changed by someone else", session.publication);
                    return Err(SourceError::Lost { reason }.into());
                }
                if names != remembered.tables {
                    // Tables taken out: should one come back, it needs a new epoch.
                    context.set([(marks::TABLES.into(), Some(names.join("\n").into_bytes()))]).await?;
                    let now = rests_on(&mut connection, &session.publication, &session.tables, None).await?;
                    footing::remember(context, &now.footing).await?;
                }
                Opened { session, new_slot: None }
            }
            Decision::Open { epoch, reason } => {
                for old in remembered.slot.iter().chain(&unused_slot(&*context.log)?) {
                    provision::drop_slot(&mut connection, old).await?;
                }
                provision::publish(&mut connection, &publication, &tables).await?;
                // Before the slot: what changes between the two is noticed.
                let footing = rests_on(&mut connection, &publication, &tables, None).await?.footing;
                let slot = provision::slot_name(&config.prefix, epoch, rand::random());
                context.set([(marks::OPENING.into(), Some(slot.clone().into_bytes()))]).await?;
                let new_slot = provision::create_slot(&context.server, &slot).await?;
                let from = new_slot.consistent;
                let session = Session { epoch, slot, publication, from, tables, skipped };
                let shapes = shapes_now(&mut connection, &session.tables).await?;
                record(&*context.log, &session, &server, &names, shapes, &footing).await?;
                tracing::info!(epoch = epoch.0, slot = %session.slot, at = %from, "opened an epoch");
                context.tell(|status| {
                    status.epoch_reason = reason;
                    status.caught_up = None;
                    status.tables.clear();
                });
                Opened { session, new_slot: Some(new_slot) }
            }
        };
        context.tell(|status| {
            status.epoch = Some(opened.session.epoch);
            status.slot = Some(opened.session.slot.clone());
            status.durable = opened.session.from;
        });
        Ok(opened)
    }

    /// Opens the change feed where the log ends.
    pub(super) async fn feed(&self, context: &Context) -> Result<PgFeed, Error> {
        let start = assemble::Start {
            epoch: self.epoch,
            position: self.from,
            position_mark: marks::CONFIRMED.into(),
            shape_mark_prefix: marks::SHAPE.into(),
            moved_mark: marks::MOVED.into(),
            shapes: shapes(&*context.log)?,
        };
        Ok(PgFeed::open(&context.server, &self.slot, &self.publication, start).await?)
    }

    /// The shape of a table now; a table that is gone has none.
    pub(super) async fn shape(
        &self,
        context: &Context,
        table: &RelationName,
    ) -> Result<Option<catalog::Table>, SourceError> {
        let mut connection = context.server.connect().await?;
        catalog::table(&mut connection, table).await
    }
}

/// Reads what the log remembers.
fn remember(log: &dyn EventLog) -> Result<Remembered, Error> {
    let epoch = number(log, marks::EPOCH)?;
    let confirmed = match text(log, marks::CONFIRMED)? {
        Some(text) => Some(text.parse().map_err(|_| unreadable(marks::CONFIRMED))?),
        None => None,
    };
    Ok(Remembered {
        epoch: epoch.map(Epoch),
        slot: text(log, marks::SLOT)?,
        confirmed,
        server: text(log, marks::SERVER)?,
        tables: text(log, marks::TABLES)?.map(|text| text.lines().map(str::to_owned).collect()).unwrap_or_default(),
        lost: text(log, marks::LOST)?,
    })
}

/// The slot that a crash may have left between its making and the mark of its epoch.
fn unused_slot(log: &dyn EventLog) -> Result<Option<String>, Error> {
    text(log, marks::OPENING)
}

/// Records the new epoch with the shapes that its rows have, and takes the ledger of the old one's snapshot away, in one batch.
async fn record(
    log: &dyn EventLog,
    session: &Session,
    server: &str,
    tables: &[String],
    shapes: Vec<catalog::Shape>,
    footing: &Footing,
) -> Result<(), Error> {
    let mut batch = Batch::default();
    // A key is that of its epoch: of what an older one said of keys nothing holds, partitions included.
    for (name, _) in log.marks(marks::SHAPE)? {
        batch.marks.insert(name, None);
    }
    for shape in shapes {
        batch.marks.insert(marks::shape(&shape.relation.name), Some(shape.hash.0.to_vec()));
        batch.relations.push(shape.relation);
    }
    for prefix in [marks::RANGE, marks::COPIED] {
        for (name, _) in log.marks(prefix)? {
            batch.marks.insert(name, None);
        }
    }
    batch.marks.insert(marks::FOOTING.into(), Some(footing.to_bytes()));
    for gone in [marks::LOST, marks::OPENING, marks::SNAPSHOT_COMPLETE, marks::MOVED, marks::LATER_SNAPSHOT] {
        batch.marks.insert(gone.into(), None);
    }
    for (name, value) in [
        (marks::EPOCH, session.epoch.0.to_string()),
        (marks::SLOT, session.slot.clone()),
        (marks::SERVER, server.to_owned()),
        (marks::TABLES, tables.join("\n")),
        (marks::CONSISTENT, session.from.to_string()),
        (marks::CONFIRMED, session.from.to_string()),
    ] {
        batch.marks.insert(name.into(), Some(value.into_bytes()));
    }
    log.append(batch).await?;
    Ok(())
}

/// The shapes that tables have now; a table that is gone has none.
async fn shapes_now(connection: &mut Connection, tables: &[RelationName]) -> Result<Vec<catalog::Shape>, Error> {
    let mut shapes = Vec::new();
    for name in tables {
        shapes.extend(catalog::table(connection, name).await?.map(|table| table.shape));
    }
    Ok(shapes)
}

/// The latest shape of each relation.
fn shapes(log: &dyn EventLog) -> Result<HashMap<RelationName, Arc<Relation>>, Error> {
    let mut shapes = HashMap::new();
    for (name, value) in log.marks(marks::SHAPE)? {
        let hash = value.try_into().map(SchemaHash).map_err(|_| unreadable(&name))?;
        let relation = log.relation(hash).ok_or_else(|| unreadable(&name))?;
        shapes.insert(relation.name.clone(), relation);
    }
    Ok(shapes)
}

fn text(log: &dyn EventLog, name: &str) -> Result<Option<String>, Error> {
    let value = log.mark(name)?;
    value.map(|value| String::from_utf8(value).map_err(|_| unreadable(name))).transpose()
}

fn number(log: &dyn EventLog, name: &str) -> Result<Option<u32>, Error> {
    text(log, name)?.map(|text| text.parse().map_err(|_| unreadable(name))).transpose()
}

fn unreadable(name: &str) -> Error {
    Error::Mark { name: name.to_owned() }
}

//! Opens a session: looks the tables over, and goes on in the epoch or opens the next.

use std::collections::BTreeMap;

use super::Context;
use super::marks;
use super::start::{Decision, Remembered, decide, elsewhere};
use crate::capture::{Error, skipped};
use crate::dynamo::feed::{DynamoFeed, Start, StreamStart};
use crate::dynamo::preflight::{Looked, preflight};
use crate::dynamo::shards::Shard;
use crate::dynamo::table::Table;
use crate::event::{Epoch, RelationName, Timestamp};
use crate::log::{Batch, EventLog};
use crate::source::{Finding, Severity};

/// A session in an epoch.
pub(super) struct Session {
    /// The epoch.
    pub(super) epoch: Epoch,
    /// The tables that exist, each with a stream.
    pub(super) tables: Vec<Table>,
    /// Optional tables that the source lacks.
    pub(super) skipped: Vec<RelationName>,
}

impl Session {
    /// Looks the tables over and decides how to go on.
    pub(super) async fn open(context: &Context) -> Result<Self, Error> {
        let log = &*context.log;
        let remembered = remember(log)?;
        let mut described = BTreeMap::new();
        for table in remembered.streams.keys() {
            described.insert(table.clone(), time(log, &format!("{}{table}", marks::DESCRIBED))?);
        }
        let followed = |table: &str| described.get(table).copied().flatten();
        let now = context.config.clock.now();
        let Looked { tables, findings, skipped } =
            preflight(&context.server, &context.config.tables, followed, now).await?;
        let (errors, warnings): (Vec<_>, Vec<_>) =
            findings.into_iter().partition(|finding| finding.severity == Severity::Error);
        if !errors.is_empty() {
            return Err(Error::NotReady(errors));
        }
        context.tell(|status| status.findings = warnings);
        let relation = |table| RelationName { schema: "".into(), table };
        let skipped: Vec<RelationName> = skipped.into_iter().map(relation).collect();
        let before = |table: &RelationName| remembered.streams.contains_key(&table.table);
        skipped::note(log, &context.status, skipped.clone(), before).await?;
        let streams: BTreeMap<Box<str>, String> = tables
            .iter()
            .filter_map(|table| Some((table.shape.table().into(), table.stream.as_ref()?.arn.clone())))
            .collect();
        if let Some(table) = elsewhere(&remembered, &streams).filter(|_| !context.config.accept_source) {
            return Err(Error::NotReady(vec![Finding {
                what: "is another account's or region's table than the one that the log was begun with".into(),
                place: format!("table {table}"),
                fix: "check credentials, region and --source; if it is right, run again with --accept-source".into(),
                severity: Severity::Error,
            }]));
        }
        let epoch = match decide(&remembered, &streams) {
            Decision::Resume { epoch, dropped } => {
                forget(log, &dropped).await?;
                epoch
            }
            Decision::Open { epoch, reason } => {
                record(log, epoch, &streams).await?;
                tracing::info!(epoch = epoch.0, tables = streams.len(), "opened an epoch");
                context.tell(|status| {
                    status.epoch_reason = reason;
                    status.caught_up = None;
                    status.tables.clear();
                });
                epoch
            }
        };
        context.tell(|status| status.epoch = Some(epoch));
        Ok(Self { epoch, tables, skipped })
    }

    /// Opens the change feed where the log ends.
    pub(super) fn feed(&self, context: &Context) -> Result<DynamoFeed, Error> {
        let mut streams = Vec::new();
        for table in &self.tables {
            let Some(stream) = &table.stream else { continue };
            let name = table.shape.table();
            let prefix = format!("{}{name}/", marks::SHARD);
            let mut shards = BTreeMap::new();
            for (mark, value) in context.log.marks(&prefix)? {
                let shard = Shard::from_bytes(&value).ok_or_else(|| Error::Mark { name: mark.clone() })?;
                shards.insert(mark[prefix.len()..].into(), shard);
            }
            let described = time(&*context.log, &format!("{}{name}", marks::DESCRIBED))?;
            streams.push(StreamStart { shape: table.shape.clone(), arn: stream.arn.clone(), shards, described });
        }
        let config = &context.config;
        let start = Start {
            epoch: self.epoch,
            streams,
            shard_mark: marks::SHARD.into(),
            described_mark: marks::DESCRIBED.into(),
            poll: config.poll,
            discover: config.discover,
            clock: config.clock.clone(),
        };
        Ok(DynamoFeed::open(&context.server, start))
    }
}

/// Reads what the log remembers.
fn remember(log: &dyn EventLog) -> Result<Remembered, Error> {
    let epoch = text(log, marks::EPOCH)?;
    let epoch = epoch.map(|text| text.parse().map(Epoch).map_err(|_| unreadable(marks::EPOCH))).transpose()?;
    let mut streams = BTreeMap::new();
    for (mark, value) in log.marks(marks::STREAM)? {
        let arn = String::from_utf8(value).map_err(|_| unreadable(&mark))?;
        streams.insert(mark[marks::STREAM.len()..].into(), arn);
    }
    Ok(Remembered { epoch, streams, lost: text(log, marks::LOST)? })
}

/// Records the new epoch, and takes everything of the old one away, in one batch.
async fn record(log: &dyn EventLog, epoch: Epoch, streams: &BTreeMap<Box<str>, String>) -> Result<(), Error> {
    let mut batch = Batch::default();
    for prefix in [marks::STREAM, marks::SHARD, marks::DESCRIBED, marks::SEGMENT, marks::COPIED] {
        for (name, _) in log.marks(prefix)? {
            batch.marks.insert(name, None);
        }
    }
    batch.marks.insert(marks::LOST.into(), None);
    batch.marks.insert(marks::SNAPSHOT_COMPLETE.into(), None);
    batch.marks.insert(marks::EPOCH.into(), Some(epoch.0.to_string().into_bytes()));
    for (table, arn) in streams {
        batch.marks.insert(format!("{}{table}", marks::STREAM), Some(arn.clone().into_bytes()));
    }
    log.append(batch).await?;
    Ok(())
}

/// Takes away what is remembered of tables that are not captured any more.
async fn forget(log: &dyn EventLog, tables: &[Box<str>]) -> Result<(), Error> {
    let mut batch = Batch::default();
    for table in tables {
        batch.marks.insert(format!("{}{table}", marks::STREAM), None);
        batch.marks.insert(format!("{}{table}", marks::DESCRIBED), None);
        for (name, _) in log.marks(&format!("{}{table}/", marks::SHARD))? {
            batch.marks.insert(name, None);
        }
    }
    if !batch.marks.is_empty() {
        log.append(batch).await?;
    }
    Ok(())
}

fn text(log: &dyn EventLog, name: &str) -> Result<Option<String>, Error> {
    let value = log.mark(name)?;
    value.map(|value| String::from_utf8(value).map_err(|_| unreadable(name))).transpose()
}

fn time(log: &dyn EventLog, name: &str) -> Result<Option<Timestamp>, Error> {
    text(log, name)?.map(|text| text.parse().map(Timestamp).map_err(|_| unreadable(name))).transpose()
}

fn unreadable(name: &str) -> Error {
    Error::Mark { name: name.to_owned() }
}

//! The long-running part: capture, projection and the control socket beside each other, until stopped or caught up.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::capture::{self, CaptureStatus};
use crate::event::RelationName;
use crate::log::{Batch, EventLog};
use crate::mapping::schema::Store;
use crate::postgres::target::{PostgresTarget, highest_version, verify};
use crate::project::names;
use crate::project::prepare::Settings as ProjectorSettings;
use crate::project::projector::Projector;
use crate::project::run::{Options as ProjectionOptions, Progress, Projection, SnapshotComplete};
use crate::project::state::Space;
use crate::target::Target;

use super::session::Live;
use super::{Earlier, Engine, Error, Open, control, shapes, stores};

/// When a run is to end by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Never: until it is stopped.
    Stopped,
    /// When the target holds everything that the source held when the snapshot was complete and this was asked.
    CaughtUp,
}

impl Engine {
    /// The long-running backfill: captures, projects and answers on the socket, until stopped or caught up.
    ///
    /// `watchers` receives what to show while it runs.
    pub async fn run(
        &self,
        until: Until,
        stop: CancellationToken,
        watchers: impl FnOnce(watch::Receiver<CaptureStatus>, watch::Receiver<Progress>),
    ) -> Result<(), Error> {
        self.check_addresses()?;
        let (open, target) = self.open_target().await?;
        self.know_source(&open).await?;
        self.settle_files(&*open.log).await?;
        let (capture_status, capture_seen) = watch::channel(CaptureStatus::default());
        let (progress, progress_seen) = watch::channel(Progress::default());
        watchers(capture_seen.clone(), progress_seen.clone());
        let ended = CancellationToken::new();
        let live = Live { capture: Some(capture_seen.clone()), progress: progress_seen.clone(), stop: stop.clone() };
        let session = self.session(&open, Some(live));
        let projection = self.projection(&open, target);
        let log = Arc::clone(&open.log) as Arc<dyn EventLog>;

        let halt = stop.child_token();
        let capturing = self.capture(Arc::clone(&log), capture_status, halt.clone());
        let projecting = projection.run(progress, halt.clone());
        let serving = control::serve(&self.folder, session, ended.clone());
        let watching = wait_until(until, Arc::clone(&log), capture_seen, progress_seen, halt.clone());
        let working = async {
            // Whichever ends first stops the other, which then ends cleanly; the first error is the one told.
            let capturing = async {
                let result = capturing.await;
                halt.cancel();
                result
            };
            let projecting = async {
                let result = projecting.await.map_err(Error::from);
                halt.cancel();
                result
            };
            let (captured, projected, ()) = tokio::join!(capturing, projecting, watching);
            ended.cancel();
            captured.and(projected)
        };
        let serving = async {
            let result = serving.await;
            // A run that cannot be asked or stopped from outside is not left running.
            halt.cancel();
            result
        };
        let (worked, served) = tokio::join!(working, serving);
        worked.and(served).map_err(|error| self.in_state(error))
    }

    /// Opens folder and target.
    pub(super) async fn open_target(&self) -> Result<(Open, Arc<dyn Target>), Error> {
        match self.migration.target_store() {
            Store::Postgres => self.open_to_postgres().await,
            Store::DynamoDb => self.open_to_dynamo().await,
        }
    }

    /// Opens folder and target, where that is Postgres.
    async fn open_to_postgres(&self) -> Result<(Open, Arc<dyn Target>), Error> {
        let pool = self.target_server()?.reached_pool(self.settings.target_connections).await?;
        self.refuse_record(&pool).await?;
        let owned = self.own().await?;
        verify(&pool, &self.tables).await?;
        let open = self.open(owned).await?;
        self.settle_record(&open.log, &pool, Earlier::Refuse).await?;
        self.know_target(&open, &pool).await?;
        let target = self.postgres_target(&open, pool);
        Ok((open, target))
    }

    /// Opens folder and target, where that is DynamoDB.
    async fn open_to_dynamo(&self) -> Result<(Open, Arc<dyn Target>), Error> {
        self.refuse_marks().await?;
        let owned = self.own().await?;
        let target = self.dynamo_target().await?;
        let open = self.open(owned).await?;
        self.know_tables(&open).await?;
        // A state that knows of no write has to learn from the items themselves what was written.
        if open.state.get(Space::Meta, names::WRITTEN)?.is_none() {
            let items = stores::take_up_items(&open.state, &target, self).await?;
            if items > 0 {
                tracing::info!(items, "taken up from the target's own marks");
            }
        }
        Ok((open, stores::behind(target)))
    }

    /// Refuses to go on with another source than the log was begun with, unless a person says that it is the right one:
    /// a new snapshot of the wrong database would delete what it does not find.
    async fn know_source(&self, open: &Open) -> Result<(), Error> {
        if open.log.mark(super::load::EPOCH)?.is_some() {
            let what = "this log was loaded from dumps, which no stream continues; run from the live source in another state folder";
            return Err(Error::Dumps(what.into()));
        }
        // A DynamoDB table is known by the ARN of its stream, which the capture pins.
        if self.migration.source_store() == Store::DynamoDb {
            return Ok(());
        }
        let server = self.source()?;
        let found = format!("{} {}", crate::postgres::provision::identify(&server).await?.system, server.database());
        let known = open.log.mark(names::SOURCE)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        if known.as_ref() == Some(&found) {
            return Ok(());
        }
        if known.is_some() && !self.settings.accept_source {
            return Err(Error::OtherSource);
        }
        let marks = [(names::SOURCE.to_owned(), Some(found.into_bytes()))].into_iter().collect();
        Ok(open.log.append(Batch { marks, ..Batch::default() }).await?)
    }

    /// Has every unit written again when the target holds less than was written: another, emptied or restored one.
    async fn know_target(&self, open: &Open, pool: &crate::postgres::PgPool) -> Result<(), Error> {
        let highest = highest_version(pool, self.migration.name()).await?;
        let written = open.state.get(Space::Meta, names::WRITTEN)?.map(|bytes| names::read_written(&bytes));
        let held = highest.filter(|highest| highest.log == open.log.generation());
        let held = held.map(|highest| (highest.mapping, highest.offset));
        if written.is_some() && held < written {
            tracing::warn!("the target holds less than was written to it: every unit is written again");
            let mut session = open.state.session();
            write_again(&mut session);
            session.commit()?;
        }
        Ok(())
    }

    /// As [`Self::know_target`], where the target is DynamoDB: has every unit written again when one of its tables is another than
    /// the one that was written to.
    async fn know_tables(&self, open: &Open) -> Result<(), Error> {
        let wrote = open.state.get(Space::Meta, names::WRITTEN)?.is_some();
        let mut session = open.state.session();
        for (table, id) in self.target_identities().await? {
            let name = names::target_table(&table);
            let known = open.state.get(Space::Meta, &name)?;
            if known.as_deref() == Some(id.as_bytes()) {
                continue;
            }
            if known.is_some() && wrote {
                tracing::warn!(%table, "the target's table was made anew: every unit is written again");
                write_again(&mut session);
            }
            session.put(Space::Meta, &name, id);
        }
        Ok(session.commit()?)
    }

    /// Projects everything that the log holds into another target, without a source; for measuring and rehearsing.
    pub async fn project_into(&self, target: Arc<dyn Target>) -> Result<Progress, Error> {
        let owned = self.own().await?;
        let open = self.open(owned).await?;
        let end = open.log.end(crate::log::Partition(0)).0;
        let (progress, mut seen) = watch::channel(Progress::default());
        let stop = CancellationToken::new();
        let projecting = self.projection(&open, target).run(progress, stop.clone());
        let waiting = async {
            let reached = seen.wait_for(|progress| progress.projected >= end).await.map(|progress| progress.clone());
            stop.cancel();
            reached
        };
        let (projected, reached) = tokio::join!(projecting, waiting);
        projected?;
        Ok(reached.unwrap_or_default())
    }

    fn postgres_target(&self, open: &Open, pool: crate::postgres::PgPool) -> Arc<dyn Target> {
        let foreign = shapes::foreign_scope(&self.migration);
        let (name, tables) = (self.migration.name(), Arc::clone(&self.tables));
        Arc::new(PostgresTarget::new(pool, name, tables, &open.digest_key, foreign))
    }

    pub(super) fn projection(&self, open: &Open, target: Arc<dyn Target>) -> Projection {
        let log = Arc::clone(&open.log) as Arc<dyn EventLog>;
        let settings = ProjectorSettings {
            log_generation: log.generation(),
            mapping_generation: open.mapping_generation,
            unit_bytes_max: self.settings.unit_bytes_max,
            writers: self.settings.target_connections as usize,
            batch_parts: self.settings.batch_parts,
        };
        let projector = Projector::new(
            Arc::clone(&log),
            Arc::clone(&open.state),
            Arc::clone(&self.migration),
            Arc::clone(&self.sources),
            Arc::clone(&self.tables),
            target,
            settings,
        );
        Projection {
            log,
            state: Arc::clone(&open.state),
            sources: Arc::clone(&self.sources),
            migration: Arc::clone(&self.migration),
            projector,
            options: ProjectionOptions {
                park_percent_max: self.settings.park_percent_max,
                sweep_max: self.settings.sweep_max,
            },
            snapshot_complete: self.snapshot_of_all(),
        }
    }
}

impl Engine {
    /// Whether the log holds a complete snapshot of every table that the migration reads now.
    ///
    /// A definition with a table more is known before the capture has opened the epoch that reads it: what was complete until
    /// then is not enough to say what any row becomes.
    fn snapshot_of_all(&self) -> SnapshotComplete {
        let tables: Vec<String> = self.captured().map(|(source, _)| source.relation.to_string()).collect();
        let places = self.sources.iter().enumerate().filter(|(place, _)| self.by_file(*place));
        let files: Vec<RelationName> = places.map(|(_, source)| source.relation.clone()).collect();
        Box::new(move |log| {
            if !snapshot_complete(log)? {
                return Ok(false);
            }
            if log.mark(super::load::COMPLETE)?.is_some() {
                return Ok(true);
            }
            // The next epoch is yet to be opened, as when a person asked for a table to be read again.
            for lost in [capture::marks::LOST, capture::dynamo::marks::LOST] {
                if log.mark(lost)?.is_some() {
                    return Ok(false);
                }
            }
            let lines = |mark| -> Result<Vec<String>, crate::log::Error> {
                let text = log.mark(mark)?.unwrap_or_default();
                Ok(String::from_utf8_lossy(&text).lines().map(str::to_owned).collect())
            };
            let streams = log.marks(capture::dynamo::marks::STREAM)?.into_iter();
            let streams = streams.map(|(name, _)| name[capture::dynamo::marks::STREAM.len()..].to_owned());
            let known: HashSet<String> = lines(capture::marks::TABLES)?
                .into_iter()
                .chain(lines(capture::marks::SKIPPED)?)
                .chain(streams)
                .collect();
            if !tables.iter().all(|table| known.contains(table)) {
                return Ok(false);
            }
            for file in &files {
                if !capture::load::file::whole(log, file)? {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }
}

/// Has the next projection write every unit.
fn write_again(session: &mut crate::project::session::Session<'_>) {
    session.put(Space::Meta, names::WRITTEN, names::written(0, 0));
    session.put(Space::Meta, names::FORCED, Vec::new());
    session.remove(Space::Meta, names::MARKED);
}

/// Whether the log holds a complete snapshot of the present epoch, of whichever kind of source.
pub(super) fn snapshot_complete(log: &dyn EventLog) -> Result<bool, crate::log::Error> {
    for mark in [capture::marks::SNAPSHOT_COMPLETE, capture::dynamo::marks::SNAPSHOT_COMPLETE, super::load::COMPLETE] {
        if log.mark(mark)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Stops the run when it has caught up, where that was asked for.
async fn wait_until(
    until: Until,
    log: Arc<dyn EventLog>,
    mut capture: watch::Receiver<CaptureStatus>,
    mut progress: watch::Receiver<Progress>,
    halt: CancellationToken,
) {
    if until == Until::Stopped {
        return;
    }
    let caught_up = async {
        // An error ends the sender; the run then ends by itself.
        if capture.wait_for(|status| status.caught_up.is_some()).await.is_err() {
            return;
        }
        // What the snapshot did not find is deleted by records that the projection has yet to append.
        while log.marks(names::SWEEP).is_ok_and(|marks| !marks.is_empty()) {
            if progress.changed().await.is_err() {
                return;
            }
        }
        let end = log.end(crate::log::Partition(0)).0;
        let _ = progress.wait_for(|progress| progress.projected >= end).await;
    };
    tokio::select! {
        () = caught_up => halt.cancel(),
        () = halt.cancelled() => {}
    }
}

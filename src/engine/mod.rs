//! The only wiring: opens folder, log, state, source and target of one migration, and runs what a command asks for.
//!
//! Read [`folder`] for what lies on the disk, [`session`] for what can be asked, [`control`] for how a running process
//! answers, [`diff`] for what a comparison proves.

pub mod control;
pub mod diff;
mod error;
mod folder;
pub mod protocol;
pub mod session;
mod shapes;
mod unit;

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::capture;
pub use crate::capture::CaptureStatus;
use crate::event::DigestKey;
use crate::log::{Batch, EmbeddedLog, EventLog, Options as LogOptions};
use crate::mapping::Migration;
use crate::postgres::Server;
use crate::postgres::live::LiveTable;
use crate::postgres::preflight::{Finding, Severity, preflight};
use crate::postgres::target::{
    PostgresTarget, Provisioned, Removed as TargetRemoved, highest_version, provision, unprovision, verify,
};
use crate::project::names;
use crate::project::projector::{Projector, Settings as ProjectorSettings};
use crate::project::run::{Options as ProjectionOptions, Progress, Projection};
use crate::project::source::SourceShape;
use crate::project::state::{Space, State};
use crate::target::{TableShape, Target};

pub use error::Error;
pub use folder::Folder;
pub use unit::{Comparer, Sums, UnitDiff};

use folder::Owned;
use protocol::{Answer, Request};
use session::{Live, Session};

/// Attempts to take the folder or to reach its owner, who may be just starting, ending, or looking something up.
const LOCK_ATTEMPTS: u32 = 100;
/// Between two of them.
const LOCK_PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

/// Everything a command may be told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// State folder.
    pub state: PathBuf,
    /// Address of the source database.
    pub source: Option<String>,
    /// Address of the target database.
    pub target: Option<String>,
    /// Ranges copied at the same time.
    pub copy_workers: usize,
    /// Connections that write to the target.
    pub target_connections: u32,
    /// A unit whose rows are larger than this many bytes is parked.
    pub unit_bytes_max: u64,
    /// Share of evaluated units, in percent, that may be parked before a run halts.
    pub park_percent_max: u64,
    /// Rows that a sweep may delete.
    pub sweep_max: u64,
    /// Give the slot up when it holds back this many bytes of the source's WAL.
    pub abandon_slot_at: Option<u64>,
    /// Take the source for the right one although it is another than before.
    pub accept_source: bool,
}

/// When a run is to end by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Never: until it is stopped.
    Stopped,
    /// When the target holds everything that the source held when the snapshot was complete and this was asked.
    CaughtUp,
}

/// What `up` found and made.
#[derive(Debug, Clone)]
pub struct Up {
    /// Warnings of the preflight.
    pub findings: Vec<Finding>,
    /// At the target.
    pub target: Provisioned,
}

/// What `down` removed and left.
#[derive(Debug, Clone)]
pub struct Down {
    /// In the source.
    pub source: crate::postgres::provision::Removed,
    /// At the target.
    pub target: TargetRemoved,
    /// The state folder, which was removed.
    pub folder: PathBuf,
}

/// One migration with its settings.
#[derive(Clone)]
pub struct Engine {
    migration: Arc<Migration>,
    sources: Arc<[SourceShape]>,
    tables: Arc<[TableShape]>,
    settings: Settings,
    folder: Folder,
}

/// An open log and state, owned by this process.
struct Open {
    _owned: Owned,
    digest_key: DigestKey,
    log: Arc<EmbeddedLog>,
    state: Arc<State>,
    mapping_generation: u32,
}

impl Engine {
    /// An engine for one migration; nothing is opened yet.
    pub fn new(migration: Arc<Migration>, settings: Settings) -> Self {
        let sources = shapes::sources(&migration).into();
        let tables = shapes::targets(&migration).into();
        let folder = Folder::new(settings.state.clone());
        Self { migration, sources, tables, settings, folder }
    }

    /// The migration.
    pub fn migration(&self) -> &Arc<Migration> {
        &self.migration
    }

    /// Its source tables.
    pub fn sources(&self) -> &Arc<[SourceShape]> {
        &self.sources
    }

    /// Its target tables.
    pub fn tables(&self) -> &Arc<[TableShape]> {
        &self.tables
    }

    /// The source database.
    pub fn source(&self) -> Result<Server, Error> {
        let url = self.settings.source.as_deref().ok_or(Error::NoAddress { side: "source" })?;
        Ok(Server::parse(url)?)
    }

    fn target_server(&self) -> Result<Server, Error> {
        let url = self.settings.target.as_deref().ok_or(Error::NoAddress { side: "target" })?;
        Ok(Server::parse(url)?)
    }

    /// The tables that a unit's rows are read from.
    pub fn live_tables(&self) -> Vec<LiveTable> {
        let table = |source: &SourceShape| LiveTable {
            relation: source.relation.clone(),
            columns: source.columns.clone(),
            unit: source.unit,
        };
        self.sources.iter().map(table).collect()
    }

    /// Looks both databases over, creates what the target lacks, and prepares the state folder.
    pub async fn up(&self) -> Result<Up, Error> {
        let findings = self.preflight().await?;
        if findings.iter().any(|finding| finding.severity == Severity::Error) {
            return Err(Error::NotReady(findings));
        }
        let pool = self.target_server()?.pool(1);
        let target = provision(&pool, self.migration.target_sql(), &self.tables).await?;
        pool.close().await;
        let owned = self.own().await?;
        owned.digest_key()?;
        Ok(Up { findings, target })
    }

    /// Everything the source lacks.
    pub async fn preflight(&self) -> Result<Vec<Finding>, Error> {
        let mut connection = self.source()?.connect().await?;
        Ok(preflight(&mut connection, &shapes::expectations(&self.sources), None).await?)
    }

    /// Removes what rehome made in both databases, and the state folder.
    pub async fn down(&self) -> Result<Down, Error> {
        if !self.folder.exists() {
            return Err(Error::NotUp(self.settings.state.clone()));
        }
        let owned = self.own().await?;
        let mut connection = self.source()?.connect().await?;
        let source = crate::postgres::provision::down(&mut connection, &self.prefix()).await?;
        let pool = self.target_server()?.pool(1);
        let target = unprovision(&pool, self.migration.name(), &self.tables).await?;
        pool.close().await;
        let path = self.settings.state.clone();
        drop(owned);
        std::fs::remove_dir_all(&path).map_err(|source| Error::File {
            action: "remove",
            path: path.clone(),
            source,
        })?;
        Ok(Down { source, target, folder: path })
    }

    /// Begins the names of what is made in the source.
    fn prefix(&self) -> String {
        let plain =
            |character: char| if character.is_ascii_alphanumeric() { character.to_ascii_lowercase() } else { '_' };
        format!("rehome_{}", self.migration.name().chars().map(plain).collect::<String>())
    }

    /// Takes the folder, as soon as a command that only looks into it is done.
    ///
    /// # Errors
    /// [`Error::Running`] when a run has it.
    async fn own(&self) -> Result<Owned, Error> {
        for _ in 0..LOCK_ATTEMPTS {
            if let Some(owned) = self.folder.own(self.migration.name())? {
                return Ok(owned);
            }
            if control::answers(&self.folder).await {
                break;
            }
            tokio::time::sleep(LOCK_PAUSE).await;
        }
        Err(Error::Running(self.settings.state.clone()))
    }

    /// Asks the running process, or opens log and state and answers itself.
    pub async fn ask(&self, request: Request) -> Result<Answer, Error> {
        if !self.folder.exists() {
            return Err(Error::NotUp(self.settings.state.clone()));
        }
        // A process that is just starting or ending holds the lock without answering; a few tries outlast that.
        for _ in 0..LOCK_ATTEMPTS {
            if let Some(answer) = control::ask(&self.folder, &request).await? {
                return Ok(answer);
            }
            if let Some(owned) = self.folder.own(self.migration.name())? {
                let open = self.open(owned).await?;
                let session = self.session(&open, None);
                return Ok(session.answer(request).await);
            }
            tokio::time::sleep(LOCK_PAUSE).await;
        }
        Err(Error::Busy(self.settings.state.clone()))
    }

    async fn open(&self, owned: Owned) -> Result<Open, Error> {
        let digest_key = owned.digest_key()?;
        let log = Arc::new(EmbeddedLog::open(&self.folder.log(), LogOptions { partitions: 1, generation: now_ms() })?);
        let state = self.open_state()?;
        let mapping_generation = self.mapping_generation(&*log, &state).await?;
        Ok(Open { _owned: owned, digest_key, log, state: Arc::new(state), mapping_generation })
    }

    /// Opens the state, and begins it anew when it was built for other source tables.
    fn open_state(&self) -> Result<State, Error> {
        let shapes = shapes::digest(&self.sources);
        let state = State::open(&self.folder.state())?;
        match state.get(Space::Meta, names::SHAPES)? {
            Some(found) if found == shapes => return Ok(state),
            Some(_) => tracing::info!("legacy.toml has changed: the state is rebuilt from the log"),
            None => {
                let mut session = state.session();
                session.put(Space::Meta, names::SHAPES, shapes);
                session.commit()?;
                return Ok(state);
            }
        }
        drop(state);
        let path = self.folder.state();
        std::fs::remove_dir_all(&path).map_err(|source| Error::File { action: "remove", path, source })?;
        self.open_state()
    }

    /// Counts the mappings this log was projected with; a new one has every unit evaluated again.
    async fn mapping_generation(&self, log: &dyn EventLog, state: &State) -> Result<u32, Error> {
        let digest = self.migration.generation();
        let mut generations = log.marks(names::MAPPINGS)?;
        let last = generations.pop();
        let parse = |name: &str| name.strip_prefix(names::MAPPINGS).and_then(|number| number.parse::<u32>().ok());
        let generation = match &last {
            Some((name, found)) if *found == digest => parse(name).unwrap_or(1),
            other => {
                let next = other.as_ref().and_then(|(name, _)| parse(name)).map_or(1, |number| number + 1);
                let mark = (format!("{}{next:010}", names::MAPPINGS), Some(digest.to_vec()));
                log.append(Batch { marks: [mark].into_iter().collect(), ..Batch::default() }).await?;
                next
            }
        };
        let stored = state.get(Space::Meta, names::MAPPING)?;
        if stored.as_deref() != Some(&generation.to_be_bytes()) {
            state.mark_all_dirty(names::MAPPING, &generation.to_be_bytes())?;
        }
        Ok(generation)
    }

    fn session(&self, open: &Open, live: Option<Live>) -> Session {
        Session {
            migration: Arc::clone(&self.migration),
            sources: Arc::clone(&self.sources),
            log: Arc::clone(&open.log) as Arc<dyn EventLog>,
            state: Arc::clone(&open.state),
            live,
        }
    }

    /// The long-running backfill: captures, projects and answers on the socket, until stopped or caught up.
    ///
    /// `watchers` receives what to show while it runs.
    pub async fn run(
        &self,
        until: Until,
        stop: CancellationToken,
        watchers: impl FnOnce(watch::Receiver<CaptureStatus>, watch::Receiver<Progress>),
    ) -> Result<(), Error> {
        let owned = self.own().await?;
        let pool = self.target_server()?.pool(self.settings.target_connections);
        verify(&pool, &self.tables).await?;
        let open = self.open(owned).await?;
        self.know_source(&open).await?;
        self.know_target(&open, &pool).await?;
        let (capture_status, capture_seen) = watch::channel(CaptureStatus::default());
        let (progress, progress_seen) = watch::channel(Progress::default());
        watchers(capture_seen.clone(), progress_seen.clone());
        let ended = CancellationToken::new();
        let live = Live { capture: capture_seen.clone(), progress: progress_seen.clone(), stop: stop.clone() };
        let session = self.session(&open, Some(live));
        let projection = self.projection(&open, self.postgres_target(&open, pool));
        let log = Arc::clone(&open.log) as Arc<dyn EventLog>;
        let config = self.capture_config()?;

        let halt = stop.child_token();
        let capturing = capture::run(config, Arc::clone(&log), capture_status, halt.clone());
        let projecting = projection.run(progress, halt.clone());
        let serving = control::serve(&self.folder, session, ended.clone());
        let watching = wait_until(until, Arc::clone(&log), capture_seen, progress_seen, halt.clone());
        let working = async {
            // Whichever ends first stops the other, which then ends cleanly; the first error is the one told.
            let capturing = async {
                let result = capturing.await.map_err(Error::from);
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
        worked.and(served)
    }

    /// Refuses to go on with another source than the log was begun with, unless a person says that it is the right one:
    /// a new snapshot of the wrong database would delete what it does not find.
    async fn know_source(&self, open: &Open) -> Result<(), Error> {
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
        let written = open.state.get(Space::Meta, names::WRITTEN)?;
        let written = written.and_then(|bytes| Some(u64::from_be_bytes(bytes.try_into().ok()?)));
        let held = highest.filter(|highest| highest.log == open.log.generation()).map(|highest| highest.offset);
        if written.is_some() && held < written {
            tracing::warn!("the target holds less than was written to it: every unit is written again");
            open.state.mark_all_dirty(names::WRITTEN, &0u64.to_be_bytes())?;
        }
        Ok(())
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

    fn projection(&self, open: &Open, target: Arc<dyn Target>) -> Projection {
        let log = Arc::clone(&open.log) as Arc<dyn EventLog>;
        let settings = ProjectorSettings {
            log_generation: log.generation(),
            mapping_generation: open.mapping_generation,
            unit_bytes_max: self.settings.unit_bytes_max,
            writers: self.settings.target_connections as usize,
        };
        let projector = Projector::new(
            Arc::clone(&log),
            Arc::clone(&open.state),
            Arc::clone(&self.migration),
            Arc::clone(&self.tables),
            target,
            settings,
        );
        Projection {
            log,
            state: Arc::clone(&open.state),
            sources: Arc::clone(&self.sources),
            projector,
            options: ProjectionOptions {
                park_percent_max: self.settings.park_percent_max,
                sweep_max: self.settings.sweep_max,
            },
            snapshot_complete: Box::new(|log| Ok(log.mark(capture::marks::SNAPSHOT_COMPLETE)?.is_some())),
        }
    }

    fn capture_config(&self) -> Result<capture::Config, Error> {
        let url = self.settings.source.clone().ok_or(Error::NoAddress { side: "source" })?;
        Ok(capture::Config {
            workers: self.settings.copy_workers,
            abandon_slot_at: self.settings.abandon_slot_at,
            prefix: self.prefix(),
            ..capture::Config::new(url, shapes::expectations(&self.sources))
        })
    }

    /// Asks the running process only; `None` when there is none.
    pub async fn ask_running(&self, request: Request) -> Result<Option<Answer>, Error> {
        control::ask(&self.folder, &request).await
    }
}

impl Settings {
    /// The usual settings for a state folder and two databases.
    pub fn new(state: PathBuf, source: Option<String>, target: Option<String>) -> Self {
        Self {
            state,
            source,
            target,
            copy_workers: 2,
            target_connections: 2,
            unit_bytes_max: 4 << 30,
            park_percent_max: 20,
            sweep_max: 1_000,
            abandon_slot_at: None,
            accept_source: false,
        }
    }
}

/// Milliseconds since 1970: the generation of a log that is made now. Nothing else reads a clock.
fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
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

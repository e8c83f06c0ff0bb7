//! The only wiring: opens folder, log, state, source and target of one migration, and runs what a command asks for.
//!
//! Read [`folder`] for what lies on the disk, [`setup`] for what is made and removed, [`run`] for what goes on for long,
//! [`session`] for what can be asked, [`control`] for how a running process answers, [`new`] for how a migration begins and
//! [`plan`] for what it would come to, `query` for what readers of the target ask, [`diff`] for what a comparison of a unit
//! proves, [`cut`] and [`judging`] for what one of everything does.

pub mod control;
pub mod cut;
pub mod diff;
mod erase;
mod error;
mod files;
mod folder;
pub mod judging;
mod legacy;
mod load;
pub mod look;
pub mod new;
pub mod plan;
pub mod protocol;
mod query;
mod reconcile;

mod require;
mod resume;
mod run;
mod second_look;
pub mod session;
mod setup;
mod shape_changes;
mod shapes;
mod sides;
mod standing;
mod stores;
mod telling;
mod told;
mod unit;
pub mod witness;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

pub use crate::capture::CaptureStatus;
use crate::event::{DigestKey, to_hex};
use crate::log::{Batch, EmbeddedLog, EventLog, Options as LogOptions};
use crate::mapping::Migration;
use crate::mapping::schema::Store;
use crate::project::names;
use crate::project::source::SourceShape;
use crate::project::state::{Space, State};
use crate::target::TableShape;

pub use crate::dynamo::target::Sharing;
pub use erase::Erasure;
pub use error::Error;
pub use files::LookupFrom;
pub use folder::Folder;
pub use legacy::WholeTable;
pub use look::UnitDiff;
pub use query::{Reply, Rows};
pub use reconcile::{Planting, Reconciling};
pub use resume::SpillFolder;
pub use run::Until;
pub use setup::{Adopted, Down, Earlier, FolderRemoved, Taken, Up};
pub use unit::{Comparer, Sums};

use folder::Owned;
use protocol::{Answer, Question, Reads, Request};
use session::{Live, Session};

/// Begins the names of slots and publications.
const PREFIX: &str = "rehome_";
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
    /// Parts that are written together at most; `None` is what suits the target.
    pub batch_parts: Option<usize>,
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
    /// Read units a second that the scan of a DynamoDB source may consume.
    pub read_capacity: Option<u32>,
    /// Write units a second that may be consumed at a DynamoDB target.
    pub write_capacity: Option<u32>,
    /// Where the rows of lookups come from, by table, where not simply from the live store.
    pub lookups: BTreeMap<String, LookupFrom>,
    /// Who else writes the tables of a DynamoDB target.
    pub sharing: Sharing,
}

/// One migration with its settings.
#[derive(Clone)]
pub struct Engine {
    migration: Arc<Migration>,
    sources: Arc<[SourceShape]>,
    tables: Arc<[TableShape]>,
    settings: Settings,
    folder: Folder,
    began: std::time::Instant,
}

/// An open log and state, owned by this process.
struct Open {
    digest_key: DigestKey,
    log: Arc<EmbeddedLog>,
    state: Arc<State>,
    mapping_generation: u32,
    /// Let go last: who takes the folder next must find log and state closed.
    _owned: Owned,
}

impl Engine {
    /// An engine for one migration; nothing is opened yet.
    pub fn new(migration: Arc<Migration>, settings: Settings) -> Self {
        let sources = shapes::sources(&migration).into();
        let tables = shapes::targets(&migration).into();
        let folder = Folder::new(settings.state.clone());
        Self { migration, sources, tables, settings, folder, began: std::time::Instant::now() }
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

    /// Its state folder.
    pub fn state_folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Begins the names of what is made in the source.
    fn prefix(&self) -> String {
        let plain = |character| if plain(character) { character } else { replaced(character) };
        format!("{PREFIX}{}", self.migration.name().chars().map(plain).collect::<String>())
    }

    /// Refuses a name from which no slot of its own can be made: too long, or alike another once its characters are replaced. What
    /// was begun under such a name goes on: its slot is there.
    ///
    /// # Errors
    /// [`Error::Name`].
    pub fn check_name(&self) -> Result<(), Error> {
        match self.migration.source_store() {
            Store::Postgres if !self.folder.exists() => check_slot_name(self.migration.name()),
            Store::Postgres | Store::DynamoDb => Ok(()),
        }
    }

    /// Takes the folder, as soon as a command that only looks into it is done.
    ///
    /// # Errors
    /// [`Error::Running`] when a run or a load has it, [`Error::Busy`] when something has it that does not answer.
    async fn own(&self) -> Result<Owned, Error> {
        for _ in 0..LOCK_ATTEMPTS {
            if let Some(owned) = self.folder.own(self.migration.name())? {
                return Ok(owned);
            }
            if control::answers(&self.folder).await {
                return Err(Error::Running(self.settings.state.clone()));
            }
            tokio::time::sleep(LOCK_PAUSE).await;
        }
        Err(self.busy())
    }

    fn busy(&self) -> Error {
        Error::Busy { path: self.settings.state.clone(), process: self.folder.process() }
    }

    /// Asks the running process, or opens log and state and answers itself.
    pub async fn ask(&self, request: Request) -> Result<Answer, Error> {
        if !self.folder.exists() {
            return Err(Error::NotUp(self.settings.state.clone()));
        }
        // A process that is just starting or ending holds the lock without answering; a few tries outlast that.
        for _ in 0..LOCK_ATTEMPTS {
            if let Some(answer) = self.ask_running(request.clone()).await? {
                return Ok(answer);
            }
            if let Some(owned) = self.folder.own(self.migration.name())? {
                let open = self.open(owned).await?;
                let session = self.session(&open, None);
                return Ok(session.answer(request).await);
            }
            tokio::time::sleep(LOCK_PAUSE).await;
        }
        Err(self.busy())
    }

    /// Asks who works in the folder to stop, as soon as it answers; `false` when nobody does.
    ///
    /// # Errors
    /// [`Error::Busy`] when a process has the folder and does not answer, as one that is just starting.
    pub async fn stop(&self) -> Result<bool, Error> {
        if !self.folder.exists() {
            return Ok(false);
        }
        for _ in 0..LOCK_ATTEMPTS {
            match self.ask_running(Request::Stop).await? {
                Some(Answer::Stopping) => return Ok(true),
                Some(Answer::Failed { message, .. }) => return Err(Error::Remote(message)),
                Some(_) => return Err(Error::Remote("the running process answered another question".to_owned())),
                None if self.folder.own(self.migration.name())?.is_some() => return Ok(false),
                None => tokio::time::sleep(LOCK_PAUSE).await,
            }
        }
        Err(self.busy())
    }

    async fn open(&self, owned: Owned) -> Result<Open, Error> {
        let digest_key = owned.digest_key()?;
        let log = Arc::new(self.open_log(now_ms())?);
        let state = self.open_state()?;
        let mapping_generation = self.mapping_generation(&*log, &state).await?;
        Ok(Open { _owned: owned, digest_key, log, state: Arc::new(state), mapping_generation })
    }

    /// Opens the log; one that is made now gets `generation`.
    fn open_log(&self, generation: u64) -> Result<EmbeddedLog, Error> {
        Ok(EmbeddedLog::open(&self.folder.log(), LogOptions { partitions: 1, generation })?)
    }

    /// Opens the state, and begins it anew when it was built for other source tables.
    fn open_state(&self) -> Result<State, Error> {
        let shapes = shapes::digest(&self.sources, &self.migration);
        let state = State::open(&self.folder.state()).map_err(|error| self.in_state(error.into()))?;
        match state.get(Space::Meta, names::SHAPES)? {
            Some(found) if found == shapes => return Ok(state),
            Some(_) => tracing::info!("what says where rows belong has changed: the state is rebuilt from the log"),
            None => {
                let mut session = state.session();
                session.put(Space::Meta, names::SHAPES, shapes);
                session.commit()?;
                return Ok(state);
            }
        }
        drop(state);
        State::discard(&self.folder.state())?;
        self.open_state()
    }

    fn in_state(&self, error: Error) -> Error {
        error.in_state(&self.folder.state())
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
            let mut session = state.session();
            session.put(Space::Meta, names::MAPPING, generation.to_be_bytes());
            session.remove(Space::Meta, names::MARKED);
            session.commit()?;
        }
        Ok(generation)
    }

    fn session(&self, open: &Open, live: Option<Live>) -> Session {
        Session {
            migration: Arc::clone(&self.migration),
            sources: Arc::clone(&self.sources),
            log: Arc::clone(&open.log) as Arc<dyn EventLog>,
            state: Arc::clone(&open.state),
            tables: Arc::clone(&self.tables),
            mapping_generation: open.mapping_generation,
            live,
        }
    }

    /// Asks the running process only; `None` when there is none.
    ///
    /// # Errors
    /// [`Error::OtherMigration`] when it works on another one, [`Error::OtherMapping`] when it began with other files, and the
    /// answer depends on them.
    async fn ask_running(&self, request: Request) -> Result<Option<Answer>, Error> {
        let mapping = match request.reads() {
            Reads::AsMapped => Some(to_hex(&self.migration.generation())),
            Reads::Alone => None,
        };
        let question = Question { migration: self.migration.name().to_owned(), mapping, request };
        match control::ask(&self.folder, &question).await? {
            Some(Answer::OtherMigration { found }) => Err(self.folder.other(&found, self.migration.name())),
            Some(Answer::OtherMapping) => Err(Error::OtherMapping(self.settings.state.clone())),
            answer => Ok(answer),
        }
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
            batch_parts: None,
            unit_bytes_max: 4 << 30,
            park_percent_max: 20,
            sweep_max: 1_000,
            abandon_slot_at: None,
            accept_source: false,
            read_capacity: None,
            write_capacity: None,
            lookups: BTreeMap::new(),
            sharing: Sharing::Shared,
        }
    }
}

/// Refuses a name of a migration by which no slot and publication of its own can be named.
///
/// # Errors
/// [`Error::Name`].
pub fn check_slot_name(name: &str) -> Result<(), Error> {
    let max = crate::capture::PREFIX_LENGTH_MAX - PREFIX.len();
    let wrong = |why| Err(Error::Name { name: name.to_owned(), why });
    if name.chars().count() > max {
        return wrong(format!("has more than the {max} characters that a slot's name has room for"));
    }
    match name.chars().find(|character| !plain(*character)) {
        Some(other) => wrong(format!("has {other:?}, which the names of slot and publication cannot have")),
        None => Ok(()),
    }
}

/// Whether a character stands in the names of slots as it is.
fn plain(character: char) -> bool {
    matches!(character, 'a'..='z' | '0'..='9' | '_')
}

/// What stands in the names of slots for a character that cannot.
fn replaced(character: char) -> char {
    if character.is_ascii_alphanumeric() { character.to_ascii_lowercase() } else { '_' }
}

/// Milliseconds since 1970: the generation of a log that is made now. Nothing else reads a clock.
fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

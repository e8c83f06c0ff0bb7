//! Migrates from dumps instead of a live source: for a database that cannot be reached, or is of another make.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::capture;
use crate::capture::load::file::forget;
use crate::capture::load::{Dump, Form, Loaded, load, unchanged};
use crate::event::Epoch;
use crate::log::{Batch, EventLog, Partition};
use crate::mapping::schema::Store;
use crate::postgres::target::provision;
use crate::project::apply::Applier;
use crate::project::names;
use crate::project::run::{Progress, dirty_parts};
use crate::target::Target;

use super::session::Live;
use super::{Engine, Error, Open, control};

/// The log's mark of the epoch that dumps are loaded in.
pub(super) const EPOCH: &str = "load/epoch";
/// The log's mark that says that every table's dump is loaded.
pub(super) const COMPLETE: &str = "load/complete";

/// How loading ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loading {
    /// The log holds all of every dump.
    Whole,
    /// It was stopped before.
    Stopped,
}

impl Engine {
    /// Loads a dump of every source table, and projects them to the target; goes on where an earlier call was cut off.
    ///
    /// A file is that of the table whose name, or name in the mapping, it bears without its ending. When all tables had been
    /// loaded before, this is a new reading: rows that are no longer in the dumps are swept. So it is with `again`, whatever was
    /// cut off. A call that loaded all and did not get to project all, as one that was halted, is gone on with where no dump has
    /// changed.
    ///
    /// # Errors
    /// [`Error::Dumps`] when a table has no file or a file no table, or the log was captured from a live source; errors
    /// of the files, the log, and the target.
    pub async fn load(
        &self,
        files: &[PathBuf],
        again: bool,
        stop: CancellationToken,
        tell: impl FnMut(&Dump, Loaded) + Send,
    ) -> Result<(), Error> {
        let dumps = self.dumps(files)?;
        self.provision_target().await?;
        let (open, target) = self.open_target().await?;
        for live in [capture::marks::EPOCH, capture::dynamo::marks::EPOCH] {
            if open.log.mark(live)?.is_some() {
                return Err(Error::Dumps(
                    "this log was captured from a live source; load into another state folder".into(),
                ));
            }
        }
        for dump in dumps.iter().filter(|dump| dump.form != Form::Csv) {
            // Within one epoch the file's rows would stand above those of the dump.
            let lost = (capture::marks::LOST.to_owned(), Some(b"a dump takes the place of a lookup's file".to_vec()));
            forget(&*open.log, &dump.relation.name, [lost]).await?;
        }
        let (told, progress) = watch::channel(Progress::default());
        let live = Live { capture: None, progress, stop: stop.clone() };
        let session = self.session(&open, Some(live));
        let ended = CancellationToken::new();
        let working = async {
            let result = match self.load_files(&open, &dumps, again, &stop, tell).await {
                Ok(Loading::Whole) => self.project_loaded(&open, target, told, &stop).await,
                Ok(Loading::Stopped) => Ok(()),
                Err(error) => Err(error),
            };
            ended.cancel();
            result
        };
        let serving = async {
            let result = control::serve(&self.folder, session, ended.clone()).await;
            // What cannot be asked or stopped from outside is not left running.
            if result.is_err() {
                stop.cancel();
            }
            result
        };
        let (worked, served) = tokio::join!(working, serving);
        worked.and(served).map_err(|error| self.in_state(error))
    }

    /// Loads dumps until all are whole.
    async fn load_files(
        &self,
        open: &Open,
        dumps: &[Dump],
        again: bool,
        stop: &CancellationToken,
        tell: impl FnMut(&Dump, Loaded) + Send,
    ) -> Result<Loading, Error> {
        let epoch = tokio::select! {
            // As below: what it appends was appended or not.
            epoch = self.begin_epoch(open, dumps, again) => epoch?,
            () = stop.cancelled() => return Ok(Loading::Stopped),
        };
        tokio::select! {
            // A call that is dropped leaves a file loaded up to its last mark.
            loaded = load(&*open.log, epoch, dumps, tell) => loaded?,
            () = stop.cancelled() => return Ok(Loading::Stopped),
        }
        let mut marks = vec![(COMPLETE.to_owned(), Some(Vec::new()))];
        if epoch > Epoch(1) {
            marks.push((capture::marks::sweep(epoch), Some(Vec::new())));
        }
        open.log.append(Batch { marks: marks.into_iter().collect(), ..Batch::default() }).await?;
        Ok(Loading::Whole)
    }

    /// Projects until the target holds what the log does, or it is stopped.
    async fn project_loaded(
        &self,
        open: &Open,
        target: Arc<dyn Target>,
        told: watch::Sender<Progress>,
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        let mut seen = told.subscribe();
        let halt = stop.child_token();
        let projecting = self.projection(open, target).run(told, halt.clone());
        let log = Arc::clone(&open.log);
        let waiting = async {
            // What the dumps did not hold is deleted by records that the projection has yet to append.
            while log.marks(names::SWEEP).is_ok_and(|marks| !marks.is_empty()) {
                if seen.changed().await.is_err() {
                    return;
                }
            }
            let end = log.end(Partition(0)).0;
            let _ = seen.wait_for(|progress| progress.projected >= end).await;
            halt.cancel();
        };
        let (projected, ()) = tokio::join!(projecting, waiting);
        Ok(projected?)
    }

    /// The epoch to load in: the one that was cut off, or the next.
    async fn begin_epoch(&self, open: &Open, dumps: &[Dump], again: bool) -> Result<Epoch, Error> {
        let log = &*open.log;
        let read = |bytes: Vec<u8>| String::from_utf8(bytes).ok()?.parse::<u32>().ok();
        let known = log.mark(EPOCH)?.and_then(read);
        // A person asked for a table to be read again: what was held back of it is given up, and comes only with the files.
        let lost = [capture::marks::LOST, capture::dynamo::marks::LOST];
        let mut asked = again;
        for mark in lost {
            asked |= log.mark(mark)?.is_some();
        }
        if let Some(known) = known.map(Epoch).filter(|_| !asked) {
            let complete = log.mark(COMPLETE)?.is_some();
            if !complete || (!open.projected()? && all_unchanged(log, known, dumps).await?) {
                return Ok(known);
            }
        }
        let epoch = known.map_or(1, |known| known + 1);
        let mut marks = vec![(EPOCH.to_owned(), Some(epoch.to_string().into_bytes())), (COMPLETE.to_owned(), None)];
        marks.extend(lost.map(|mark| (mark.to_owned(), None)));
        log.append(Batch { marks: marks.into_iter().collect(), ..Batch::default() }).await?;
        Ok(Epoch(epoch))
    }

    /// Each file with its table; every table has one.
    fn dumps(&self, files: &[PathBuf]) -> Result<Vec<Dump>, Error> {
        let mut dumps = Vec::with_capacity(files.len());
        let mut missing: Vec<&str> = Vec::new();
        let by_file = self.files()?;
        for (place, (source, definition)) in self.sources.iter().zip(self.migration.source_tables()).enumerate() {
            if let Some(file) = by_file.iter().find(|file| file.relation.name == source.relation) {
                dumps.push(file.clone());
                continue;
            }
            let bears = |name: &str| {
                files
                    .iter()
                    .find(|file| file.file_stem().and_then(|stem| stem.to_str()).is_some_and(|stem| stem == name))
            };
            // Two tables may have one name in two schemas; the mapping's names are each one's own.
            let Some(path) = bears(&definition.alias).or_else(|| bears(&source.relation.table)) else {
                missing.push(&source.label);
                continue;
            };
            let form = match self.migration.source_store() {
                Store::Postgres => Form::Rows,
                Store::DynamoDb if exported(path) => Form::Export,
                Store::DynamoDb => Form::Items,
            };
            if let Some(other) = dumps.iter().find(|dump: &&Dump| dump.path == *path) {
                return Err(Error::Dumps(format!(
                    "{} bears the name of two tables, {} and {}: give each a name of its own in legacy.toml",
                    path.display(),
                    other.relation.name,
                    source.relation
                )));
            }
            dumps.push(Dump { path: path.clone(), relation: self.relation(place), form });
        }
        if !missing.is_empty() {
            let missing = missing.join(", ");
            return Err(Error::Dumps(format!(
                "no file for {missing}; name each TABLE.jsonl, an empty one where it has no rows"
            )));
        }
        match files.iter().find(|file| dumps.iter().all(|dump| dump.path != **file)) {
            Some(file) => Err(Error::Dumps(format!("{} bears the name of no table of the migration", file.display()))),
            None => Ok(dumps),
        }
    }

    /// Creates what the target lacks; the source is not asked.
    async fn provision_target(&self) -> Result<(), Error> {
        match self.migration.target_store() {
            Store::Postgres => {
                let pool = self.target_server()?.reached_pool(1).await?;
                self.refuse_record(&pool).await?;
                provision(&pool, self.migration.target_sql(), &self.tables).await?;
                pool.close().await;
            }
            Store::DynamoDb => {
                let server = self.target_tables().await?;
                crate::dynamo::target::provision(&server, &self.written_tables()).await?;
                self.refuse_marks().await?;
            }
        }
        self.own().await?.digest_key()?;
        Ok(())
    }
}

impl Open {
    /// Whether the target holds what the log tells, sweeps that it asks for included.
    fn projected(&self) -> Result<bool, Error> {
        let frozen = self.state.freeze();
        let behind = Applier::checkpoint_at(&frozen)? < self.log.end(Partition(0))
            || dirty_parts(&frozen, self.mapping_generation)? > 0
            || !self.log.marks(names::SWEEP)?.is_empty();
        Ok(!behind)
    }
}

/// Whether every dump is loaded whole in an epoch, and still is what was loaded.
async fn all_unchanged(log: &dyn EventLog, epoch: Epoch, dumps: &[Dump]) -> Result<bool, Error> {
    // A file that stands for a lookup is taken anew by itself where it changed.
    for dump in dumps.iter().filter(|dump| dump.form != Form::Csv) {
        if !unchanged(log, epoch, dump).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a file of items is an export, whose lines hold each item as a member.
fn exported(path: &Path) -> bool {
    use std::io::{BufRead as _, BufReader};
    let first = std::fs::File::open(path).ok().and_then(|file| BufReader::new(file).lines().next()?.ok());
    first.is_some_and(|line| line.trim_start().starts_with("{\"Item\""))
}

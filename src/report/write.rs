//! Writes one night: discrepancies as they are found, everything else at the end, and the folder's name last.
//!
//! Memory does not grow with the number of discrepancies: those beyond a limit are counted and not listed. A folder that
//! was left half written is removed by the next comparison, which knows it by a lock that nobody holds any more. Several
//! comparisons may be written at once.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::ages::Earlier;
use super::ahead::Ahead;
use super::causes::Causes;
use super::certificate::{self, Certificate, SigningKey};
use super::folder::{CERTIFICATE, DISCREPANCIES, MARKDOWN, Night, PAGE, PARTIAL, Reports, SUMMARY};
use super::{Error, markdown, page, words};
use crate::event::to_hex;
use crate::reconcile::{Details, Discrepancy, ExpectResult, Field, Shown, State, Summary};

/// Lines of `discrepancies.jsonl` at most, some 100 MB; more can be had by asking for fewer tables at once. Counts have no
/// limit.
pub const LISTED_MAX: u64 = 200_000;
/// Bytes of lines that are written at once.
const LINES_BYTES: usize = 128 * 1024;
/// Discrepancies on the page: what a browser opens at once and a person looks through.
const SHOWN_MAX: usize = 300;
/// Nights on the page, the present one included.
const NIGHTS_SHOWN: usize = 30;

/// File in a folder being written, locked by who writes it; beside the nights, locked while one of them begins or ends.
const LOCK: &str = ".lock";

/// Whether contents of rows may be written (I12).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contents {
    /// Values are kept as kind and length, whatever is given.
    Hidden,
    /// Values are kept as given.
    Revealed,
}

/// A night that is being written.
#[derive(Debug)]
pub struct Writing {
    reports: Reports,
    night: Night,
    started: Timestamp,
    contents: Contents,
    partial: PathBuf,
    lock: File,
    lines: BufWriter<Hashing>,
    listed_max: u64,
    before: Vec<(Night, Summary)>,
    earlier: Earlier,
    causes: Causes,
    details: Details,
}

/// A night that was written.
#[derive(Debug)]
pub struct Written {
    /// Its folder.
    pub folder: PathBuf,
    /// Its summary, with causes and details filled in.
    pub summary: Summary,
}

impl Reports {
    /// Begins to write a night, and reads what earlier ones found.
    ///
    /// # Errors
    /// [`Error::Exists`] when a comparison began in the same second.
    pub fn begin(&self, started: Timestamp, contents: Contents) -> Result<Writing, Error> {
        self.begin_with(started, contents, LISTED_MAX)
    }

    /// As [`begin`](Reports::begin), with another limit than [`LISTED_MAX`].
    pub fn begin_with(&self, started: Timestamp, contents: Contents, listed_max: u64) -> Result<Writing, Error> {
        let night = Night::of(started);
        fs::create_dir_all(self.folder()).map_err(Error::file("make", self.folder()))?;
        let turn = self.turn()?;
        self.remove_abandoned()?;
        if self.path(night).exists() {
            return Err(Error::Exists(self.path(night)));
        }
        let partial = self.folder().join(format!("{night}{PARTIAL}"));
        fs::create_dir(&partial).map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => Error::Exists(partial.clone()),
            _ => Error::file("make", &partial)(error),
        })?;
        let lock = create(&partial.join(LOCK))?;
        lock.lock().map_err(Error::file("lock", partial.join(LOCK)))?;
        drop(turn);
        let hashing = Hashing { file: create(&partial.join(DISCREPANCIES))?, hasher: Sha256::new() };
        let lines = BufWriter::with_capacity(LINES_BYTES, hashing);
        let before = self.before(night, NIGHTS_SHOWN - 1)?;
        let earlier = self.earlier(&before);
        Ok(Writing {
            reports: self.clone(),
            night,
            started,
            contents,
            partial,
            lock,
            lines,
            listed_max,
            before,
            earlier,
            causes: Causes::default(),
            details: Details::default(),
        })
    }

    /// Waits until nobody else begins or ends a night; they do neither for long.
    fn turn(&self) -> Result<File, Error> {
        let path = self.folder().join(LOCK);
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(Error::file("make", &path))?;
        file.lock().map_err(Error::file("lock", &path))?;
        Ok(file)
    }

    /// Removes what comparisons left half written that have ended: a folder whose lock nobody holds, or which has none.
    fn remove_abandoned(&self) -> Result<(), Error> {
        for name in self.names()?.iter().filter(|name| name.ends_with(PARTIAL)) {
            let path = self.folder().join(name);
            if File::open(path.join(LOCK)).is_ok_and(|lock| lock.try_lock().is_err()) {
                continue;
            }
            fs::remove_dir_all(&path).map_err(Error::file("remove", &path))?;
        }
        Ok(())
    }
}

impl Writing {
    /// Takes a discrepancy up: gives it its age, counts it, and lists it unless there are too many.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add(&mut self, mut discrepancy: Discrepancy) -> Result<(), Error> {
        if self.contents == Contents::Hidden {
            discrepancy.fields.iter_mut().for_each(hide);
        }
        self.earlier.date(&mut discrepancy, self.started);
        self.causes.add(&discrepancy);
        self.details.found += 1;
        *self.details.states.entry(discrepancy.state).or_default() += 1;
        if matches!(discrepancy.state, State::Confirmed | State::Unsettled) {
            *self.details.ages.entry(discrepancy.age_nights).or_default() += 1;
        }
        if self.details.listed < self.listed_max {
            let failed = Error::file("write", self.partial.join(DISCREPANCIES));
            let line = serde_json::to_writer(&mut self.lines, &discrepancy).map_err(std::io::Error::from);
            line.and_then(|()| self.lines.write_all(b"\n")).map_err(failed)?;
            self.details.listed += 1;
        }
        Ok(())
    }

    /// What says which discrepancies are to be made whole for [`add`](Writing::add).
    pub fn ahead(&self) -> Ahead {
        Ahead::new(self.listed_max, !self.earlier.is_empty())
    }

    /// Counts those that were not made whole, which come after the others.
    pub fn add_counted(&mut self, ahead: Ahead) {
        for (alike, count) in ahead.counted() {
            self.causes.add_more(&alike, count);
            self.details.found += count;
            *self.details.states.entry(alike.state).or_default() += count;
            if matches!(alike.state, State::Confirmed | State::Unsettled) {
                *self.details.ages.entry(0).or_default() += count;
            }
        }
    }

    /// Writes everything else, and gives the folder its name.
    ///
    /// Causes and details of the summary are filled in here. The certificate is signed when there is a key.
    ///
    /// # Errors
    /// When something cannot be written; then no night appears.
    pub fn finish(self, mut summary: Summary, key: Option<&SigningKey>) -> Result<Written, Error> {
        if self.contents == Contents::Hidden {
            summary.expects.iter_mut().for_each(hide_groups);
        }
        let (causes, sample) = self.causes.finish(SHOWN_MAX);
        summary.causes = causes;
        summary.details = self.details;
        let path = self.partial.join(DISCREPANCIES);
        let lines = self.lines.into_inner().map_err(|error| Error::file("write", &path)(error.into_error()))?;
        lines.file.sync_all().map_err(Error::file("write", &path))?;
        let mut files = BTreeMap::from([(DISCREPANCIES.to_owned(), to_hex(&lines.hasher.finalize()))]);
        let text = serde_json::to_string_pretty(&summary).expect("a summary is plain data") + "\n";
        let nights: Vec<page::Past> =
            self.before.iter().map(|(night, summary)| page::Past::of(*night, summary)).collect();
        let page = page::render(&summary, &sample, &nights).map_err(Error::Page)?;
        let shown = markdown::render(&summary);
        for (name, text) in [(SUMMARY, &text), (PAGE, &page), (MARKDOWN, &shown)] {
            write(&self.partial.join(name), text.as_bytes())?;
            files.insert(name.to_owned(), to_hex(&Sha256::digest(text.as_bytes())));
        }
        let sealed = certificate::seal(&Certificate::of(&summary, files), key);
        write(&self.partial.join(CERTIFICATE), sealed.as_bytes())?;
        let _turn = self.reports.turn()?;
        let lock = self.partial.join(LOCK);
        fs::remove_file(&lock).map_err(Error::file("remove", &lock))?;
        sync(&self.partial)?;
        let folder = self.reports.path(self.night);
        fs::rename(&self.partial, &folder).map_err(Error::file("rename", &self.partial))?;
        sync(self.reports.folder())?;
        drop(self.lock);
        Ok(Written { folder, summary })
    }
}

/// Leaves kind and length of a field's values.
fn hide(field: &mut Field) {
    for side in [&mut field.expected, &mut field.actual] {
        if let Some(Shown::Value(text)) = side {
            *side = Some(redacted(text));
        }
    }
}

/// Leaves kind and length of the groups that break an invariant, which are made of any columns; of groups that then look the same
/// the first.
fn hide_groups(expect: &mut ExpectResult) {
    expect.first.iter_mut().for_each(|group| *group = words::shown(Some(&redacted(group))));
    expect.first.dedup();
}

fn redacted(text: &str) -> Shown {
    Shown::Redacted { kind: "value".to_owned(), length: text.chars().count() as u64 }
}

fn create(path: &Path) -> Result<File, Error> {
    File::create_new(path).map_err(Error::file("make", path))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut file = create(path)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(Error::file("write", path))
}

/// Makes a folder's names durable.
fn sync(folder: &Path) -> Result<(), Error> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(Error::file("write", folder))
}

/// A file, and the digest of what was written to it.
#[derive(Debug)]
struct Hashing {
    file: File,
    hasher: Sha256,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

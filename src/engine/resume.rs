//! The folder that a comparison spills to, and what is still good in that of one that was killed.
//!
//! A resumed comparison speaks of the snapshots it takes now, as if it had read everything under them. On Postgres that is
//! exact: a version of a row never changes and never moves, so a range of blocks in which the new snapshot sees as many rows
//! as were read, none of them written since, holds just the rows that were read. Counting them on the server costs little
//! beside reading and mapping them; ranges for which it does not come out are read again. DynamoDB has no snapshots. Of a
//! source there a resumed scan is a longer scan: the projector's stand from before its beginning is kept, so every part that
//! the log was told of since then is looked at by itself. Nobody is told of changes at a target, so a target there is read again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use futures_util::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::event::{DigestKey, from_hex, to_hex};
use crate::mapping::schema::Store;
use crate::reconcile::context::DIGESTS;
use crate::reconcile::ledger::{Kept, Ledger, Line, of_side};
use crate::reconcile::side::{Done, Side};
use crate::rules::{RuleKind, RuleText, Ruleset};
use crate::target::TargetTable;

use super::protocol::Stand;
use super::reconcile::{Planting, Reconciling};
use super::sides::Opened;
use super::{Engine, Error};

/// Begins the name of a comparison's folder.
pub(super) const COMPARISON: &str = "rehome-spill-";
/// Begins the name of a folder of other passes.
pub(super) const PASS: &str = "rehome-pass-";
/// File in it that is locked by the process that uses it.
const LOCK: &str = "lock";
/// A table is not shadowed as if it had fewer rows.
const SHADOWED_OF_MIN: u64 = 1_000;
/// Nor as if it had only one of more than so many.
const SHADOWED_PART_MAX: u64 = 100;
/// Folder in it for the spills themselves.
const SPILLS: &str = "spills";
/// File in it that says which comparison it is.
const BEGUN: &str = "comparison.json";

/// Removes what comparisons and other passes have left in a folder whose processes are gone.
///
/// # Errors
/// [`Error::File`] when it cannot be removed.
pub(super) fn discard(folder: &Path) -> Result<(), Error> {
    let gone = || -> std::io::Result<()> {
        for name in [COMPARISON, PASS] {
            for (left, lock) in abandoned(folder, name)? {
                std::fs::remove_dir_all(left)?;
                drop(lock);
            }
        }
        Ok(())
    };
    gone().map_err(|source| Error::File { action: "remove what comparisons left in", path: folder.to_owned(), source })
}

/// A folder for what does not fit into memory.
#[derive(Debug)]
pub struct SpillFolder {
    whole: PathBuf,
    _lock: File,
    /// Removes the folder with this value.
    _goes: Option<TempDir>,
}

impl SpillFolder {
    /// A new one within a folder that goes with the answer; removes those of the same name whose processes are gone.
    fn passing(folder: &Path, name: &str) -> std::io::Result<Self> {
        for (left, lock) in abandoned(folder, name)? {
            std::fs::remove_dir_all(left)?;
            drop(lock);
        }
        // What lies in it are rows.
        let ours = Permissions::from_mode(0o700);
        let whole = tempfile::Builder::new().prefix(name).permissions(ours).tempdir_in(folder)?;
        let lock = File::create(whole.path().join(LOCK))?;
        lock.lock()?;
        std::fs::create_dir(whole.path().join(SPILLS))?;
        Ok(Self { whole: whole.path().to_owned(), _lock: lock, _goes: Some(whole) })
    }

    /// As [`Self::passing`], but it stays when the process is killed or fails: only [`Self::remove`] removes it.
    fn lasting(folder: &Path, name: &str) -> std::io::Result<Self> {
        let mut made = Self::passing(folder, name)?;
        made._goes = made._goes.take().map(TempDir::keep).and(None);
        Ok(made)
    }

    /// The latest that a process which is gone left in a folder.
    fn left(folder: &Path, name: &str) -> std::io::Result<Option<Self>> {
        let begun = |whole: &Path| std::fs::metadata(whole.join(BEGUN)).and_then(|file| file.modified()).ok();
        let found =
            abandoned(folder, name)?.into_iter().filter_map(|(whole, lock)| Some((begun(&whole)?, whole, lock)));
        let latest = found.max_by_key(|(begun, ..)| *begun);
        Ok(latest.map(|(_, whole, lock)| Self { whole, _lock: lock, _goes: None }))
    }

    /// Where spills may go.
    pub fn path(&self) -> PathBuf {
        self.whole.join(SPILLS)
    }

    /// Removes it, now that nothing in it is wanted any more.
    ///
    /// # Errors
    /// [`Error::File`] when it cannot be removed.
    pub fn remove(self) -> Result<(), Error> {
        let failed = |source| Error::File { action: "remove", path: self.whole.clone(), source };
        std::fs::remove_dir_all(&self.whole).map_err(failed)
    }

    fn begun(&self) -> Option<Begun> {
        serde_json::from_slice(&std::fs::read(self.whole.join(BEGUN)).ok()?).ok()
    }

    /// Writes down what it is for; nothing is left of what it was for.
    fn begin(&self, begun: &Begun) -> Result<Ledger, Error> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            |source| Error::File { action: "write", path, source }
        };
        let (path, spills) = (self.whole.join(BEGUN), self.path());
        std::fs::remove_dir_all(&spills).and_then(|()| std::fs::create_dir(&spills)).map_err(failed(&spills))?;
        let ledger = Ledger::begin(&spills)?;
        let text = serde_json::to_vec(begun).map_err(|error| failed(&path)(error.into()))?;
        std::fs::write(&path, text).map_err(failed(&path))?;
        Ok(ledger)
    }
}

/// Folders of a name whose processes are gone, with their locks, which are held from here on.
fn abandoned(folder: &Path, name: &str) -> std::io::Result<Vec<(PathBuf, File)>> {
    let mut found = Vec::new();
    // In a folder that others use, only what is this user's is trusted.
    let user = std::fs::metadata("/proc/self")?.uid();
    for entry in std::fs::read_dir(folder)?.flatten() {
        let ours = entry.file_name().to_string_lossy().starts_with(name)
            && entry.metadata().is_ok_and(|entry| entry.is_dir() && entry.uid() == user);
        // One that is just being made has no lock yet.
        let lock = if ours { File::open(entry.path().join(LOCK)).ok() } else { None };
        found.extend(lock.filter(|lock| lock.try_lock().is_ok()).map(|lock| (entry.path(), lock)));
    }
    Ok(found)
}

/// What a comparison is, as its folder says: all that another attempt must have alike.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Begun {
    /// What it depends on, by name.
    depends: BTreeMap<String, String>,
    /// When it began.
    pub started: Timestamp,
    /// The key of its digests, where it was drawn for it alone.
    key: Option<String>,
    /// Where the projector stood before anything was read; absent where there was none.
    before: Option<Stand>,
    /// About how many rows each target table had.
    pub rows: Vec<u64>,
    /// About how many of these are judged.
    pub judged: Vec<u64>,
    /// Partitions of its spills.
    pub partitions: usize,
}

impl Begun {
    /// The key that was drawn for it.
    fn secret(&self) -> Option<[u8; 32]> {
        from_hex(self.key.as_ref()?)?.try_into().ok()
    }
}

/// A comparison that goes on, or begins.
pub(super) struct Attempt {
    /// What it is.
    pub begun: Begun,
    /// Key of its digests.
    pub key: DigestKey,
    /// Where it is written down what was read.
    pub ledger: Ledger,
    /// Ranges that an attempt before read and that are as they were, of the source and of the target.
    pub kept: [Kept; 2],
    /// Where the projector stood before anything was read that counts.
    pub before: Option<Stand>,
}

impl Engine {
    /// An empty folder for spills, which only this pass uses; it goes with the answer. Those of passes that were killed go now.
    ///
    /// # Errors
    /// [`Error::File`] when it cannot be made.
    pub fn spill(&self, folder: &Path) -> Result<SpillFolder, Error> {
        let name = format!("{PASS}{}.", self.migration.name());
        SpillFolder::passing(folder, &name).map_err(unusable(folder))
    }

    /// A folder for the spills of a comparison, the one that a killed comparison left if it is to go on. It stays until it is
    /// [removed](SpillFolder::remove).
    ///
    /// # Errors
    /// [`Error::File`] when it cannot be made.
    pub fn comparison_folder(&self, folder: Option<&Path>, going_on: bool) -> Result<SpillFolder, Error> {
        let folder = match folder {
            Some(folder) => folder.to_owned(),
            None if self.folder.exists() => self.folder.path().to_owned(),
            None => std::env::temp_dir(),
        };
        let name = format!("{COMPARISON}{}.", self.migration.name());
        let left = if going_on { SpillFolder::left(&folder, &name).map_err(unusable(&folder))? } else { None };
        match left {
            Some(left) => Ok(left),
            None if going_on => {
                tracing::warn!("there is no interrupted comparison to go on with: all is read");
                SpillFolder::lasting(&folder, &name).map_err(unusable(&folder))
            }
            None => SpillFolder::lasting(&folder, &name).map_err(unusable(&folder)),
        }
    }

    /// Begins a comparison, or goes on with what its folder has; `now` is where the projector stands.
    pub(super) async fn attempt(
        &self,
        how: &Reconciling,
        now: Option<Stand>,
        (source, target): (&Opened, &Opened),
        partitions: usize,
    ) -> Result<Attempt, Error> {
        let earlier = how.spill.begun();
        let (key, drawn) = match self.folder.digest_key()? {
            Some(key) => (key, None),
            None => {
                let secret = earlier.as_ref().and_then(Begun::secret).unwrap_or_else(rand::random);
                (DigestKey::new(secret), Some(to_hex(&secret)))
            }
        };
        let depends = self.depends(how, &key);
        if let Some(earlier) = earlier {
            let other: Vec<&str> = depends
                .iter()
                .filter(|(name, is)| earlier.depends.get(*name) != Some(is))
                .map(|(name, _)| &**name)
                .collect();
            let begun = earlier.started;
            if !other.is_empty() {
                let other = other.join(", ");
                tracing::warn!(
                    "the comparison begun {begun} does not go on, since these are others now: {other}; all is read"
                );
            } else {
                match Ledger::resume(&how.spill.path()) {
                    Ok(ledger) => return self.go_on(how, earlier, key, now, (source, target), ledger).await,
                    Err(error) => tracing::warn!(%error, "the comparison begun {begun} does not go on; all is read"),
                }
            }
        }
        // DynamoDB counts its items some times a day: a table that was just filled still has none, and would be shadowed whole.
        let all: u64 = source.rows.iter().sum();
        let stale = self.migration.target_store() == Store::DynamoDb;
        let size = |rows: &u64| if stale && *rows == 0 { all } else { *rows };
        let rows: Vec<u64> = target.rows.iter().zip(&*self.tables).map(|(rows, _)| size(rows)).collect();
        let judged = self.judged(&how.rules, &rows, all);
        let begun = Begun { depends, started: how.started, key: drawn, before: now.clone(), rows, judged, partitions };
        let ledger = how.spill.begin(&begun)?;
        Ok(Attempt { begun, key, ledger, kept: Default::default(), before: now })
    }

    /// About how many rows of each target table are judged: where a rule leaves rows out, the source says better than the target
    /// how many are not. Were there few in the source or none, not more than some thousands are shadowed all the same.
    fn judged(&self, rules: &Ruleset, rows: &[u64], of_source: u64) -> Vec<u64> {
        // DynamoDB may not have counted the source's.
        let counted = self.migration.source_store() == Store::Postgres;
        let of = |(table, rows): (u16, &u64)| match counted && rules.table(TargetTable(table)).has_scope() {
            true => (*rows).min(of_source.max(rows / SHADOWED_PART_MAX).max(SHADOWED_OF_MIN)),
            false => *rows,
        };
        (0..).zip(rows).map(of).collect()
    }

    async fn go_on(
        &self,
        how: &Reconciling,
        begun: Begun,
        key: DigestKey,
        now: Option<Stand>,
        (source, target): (&Opened, &Opened),
        (ledger, lines): (Ledger, Vec<Line>),
    ) -> Result<Attempt, Error> {
        let generation = |stand: &Option<Stand>| stand.as_ref().map(|stand| stand.generation);
        let told = generation(&now).is_some() && generation(&begun.before) == generation(&now);
        let scanned = self.migration.source_store() == Store::DynamoDb;
        let from_source = match scanned {
            true if told => of_side(&source.side, &lines),
            true => Kept::new(),
            false => still(source, &lines, how.workers).await?,
        };
        let from_target = match self.migration.target_store() {
            Store::Postgres => still(target, &lines, how.workers).await?,
            Store::DynamoDb => Kept::new(),
        };
        let longer = scanned && !from_source.is_empty();
        let (read, all) = (from_source.len() + from_target.len(), source.side.ranges.len() + target.side.ranges.len());
        tracing::warn!(
            "goes on with the comparison begun {}: {read} of {all} ranges are as they were read",
            begun.started
        );
        let before = if longer { begun.before.clone() } else { now };
        Ok(Attempt { begun, key, ledger, kept: [from_source, from_target], before })
    }

    /// What a comparison depends on beside the stores.
    fn depends(&self, how: &Reconciling, key: &DigestKey) -> BTreeMap<String, String> {
        let planting = if how.planting == Planting::Canaries { "planted" } else { "not planted" };
        let known = |name: &str, is: String| (name.to_owned(), is);
        let by_day = |rule: &RuleText| rule.kind == RuleKind::Retention || rule.until.is_some();
        let dated = how.rules.describe().iter().any(by_day);
        let day = how.started.strftime("%Y-%m-%d").to_string();
        BTreeMap::from([
            known("the day, by which rules hold or let rows go", if dated { day } else { String::new() }),
            known("rehome", env!("CARGO_PKG_VERSION").to_owned()),
            known("how rows are digested", DIGESTS.to_owned()),
            known("the mapping", to_hex(&self.migration.generation())),
            known("the rules", to_hex(&how.rules.whole())),
            known("the digest key", to_hex(&key.derive("comparison", &[])[..8])),
            known("whether faults are planted", planting.to_owned()),
        ])
    }
}

/// The lines of a Postgres side that hold: what was read is as it was.
async fn still(opened: &Opened, lines: &[Line], workers: usize) -> Result<Kept, Error> {
    let mut kept = of_side(&opened.side, lines);
    let asked = kept.iter().map(|(range, line)| (*range, line.seen, line.rows)).collect();
    let same = same_rows(opened, asked, workers).await?;
    kept.retain(|range, _| same.contains(range));
    Ok(kept)
}

/// Of ranges of a Postgres side, with how many rows of each were read under a snapshot that saw all transactions before one: those
/// that hold the same rows now.
async fn same_rows(
    opened: &Opened,
    asked: Vec<(usize, Option<u32>, u64)>,
    workers: usize,
) -> Result<BTreeSet<usize>, Error> {
    let same = |(range, seen, rows): (usize, Option<u32>, u64)| {
        let (id, snapshot) = (opened.side.ranges[range].id, opened.postgres.clone());
        async move {
            let (Some(seen), Some(snapshot)) = (seen, snapshot) else { return Ok::<_, Error>(None) };
            Ok(snapshot.unchanged(id, seen, rows).await?.then_some(range))
        }
    };
    let answers: Vec<Option<usize>> =
        futures_util::stream::iter(asked).map(same).buffer_unordered(workers).try_collect().await?;
    Ok(answers.into_iter().flatten().collect())
}

/// Whether a side holds now, under another snapshot, just the rows that were read of it.
pub(super) async fn unchanged(side: &Side, done: &[Done], now: &Opened, workers: usize) -> Result<bool, Error> {
    let place = |of: &Done| {
        let range = &side.ranges[of.range];
        let identity = |side: &Side, table: usize| side.tables[table].identity.clone();
        now.side.ranges.iter().position(|other| {
            (other.table, &other.extent) == (range.table, &range.extent)
                && identity(&now.side, other.table) == identity(side, range.table)
        })
    };
    let asked: Option<Vec<_>> = done.iter().map(|done| Some((place(done)?, side.seen, done.rows))).collect();
    let Some(asked) = asked.filter(|asked| asked.len() == now.side.ranges.len()) else { return Ok(false) };
    let count = asked.len();
    Ok(same_rows(now, asked, workers).await?.len() == count)
}

fn unusable(folder: &Path) -> impl FnOnce(std::io::Error) -> Error + use<> {
    let path = folder.to_owned();
    |source| Error::File { action: "make a folder for spills in", path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_comparison_left_goes_on_or_goes_and_what_another_uses_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let killed = SpillFolder::lasting(folder.path(), "m.").expect("a folder");
        let path = killed.whole.clone();
        assert!(SpillFolder::left(folder.path(), "m.").expect("readable").is_none(), "it is in use");
        std::fs::write(path.join(BEGUN), "{}").expect("a file");
        drop(killed);
        assert!(SpillFolder::left(folder.path(), "m2.").expect("readable").is_none(), "another migration's");
        let left = SpillFolder::left(folder.path(), "m.").expect("readable").expect("it is there");
        assert_eq!(left.whole, path);
        let other = SpillFolder::passing(folder.path(), "m.").expect("a folder");
        assert!(path.exists(), "it is in use again");
        drop(left);
        let new = SpillFolder::lasting(folder.path(), "m.").expect("a folder");
        assert!(!path.exists() && other.path().exists());
        drop(other);
        new.remove().expect("removable");
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
    }
}

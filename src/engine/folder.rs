//! The state folder of one migration: who owns it, and what lies in it.
//!
//! | entry | what |
//! |---|---|
//! | `lock` | held by the one process that owns the folder, whose number it holds |
//! | `migration` | name of the migration |
//! | `digest.key` | secret of this deployment's digests, readable by its owner only |
//! | `control.sock` | where a running process answers other commands |
//! | `log/`, `state/` | event log; state store, which can be deleted and is rebuilt from the log |
//! | `rehome-spill-…`, `rehome-pass-…` | what a comparison, or another pass over everything, does not hold in memory |
//!
//! Nothing else is ours: a folder that holds other things, and no name of a migration, is not taken, and what lies beside our
//! entries is never removed.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::event::DigestKey;

use super::Error;

/// A state folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder(PathBuf);

/// Ownership of a state folder, for as long as this value lives.
#[derive(Debug)]
pub struct Owned {
    /// The folder.
    pub folder: Folder,
    /// Released when it is closed.
    _lock: File,
}

impl Folder {
    /// A folder by its path.
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Where the log lies.
    pub fn log(&self) -> PathBuf {
        self.0.join("log")
    }

    /// Where the state store lies.
    pub fn state(&self) -> PathBuf {
        self.0.join("state")
    }

    /// Where a running process answers.
    ///
    /// Unix socket paths may have 107 bytes; a longer one is reached through a link in the temporary folder.
    pub fn socket(&self) -> PathBuf {
        let plain = self.0.join("control.sock");
        if plain.as_os_str().len() < 100 {
            return plain;
        }
        let digest = blake3::hash(plain.as_os_str().as_encoded_bytes()).to_hex();
        std::env::temp_dir().join(format!("rehome-{}.sock", &digest[..32]))
    }

    /// Whether something was set up here.
    pub fn exists(&self) -> bool {
        self.0.join("migration").exists()
    }

    /// Whether something of ours lies here, be it only what a removal that was cut off has left.
    pub fn holds_ours(&self) -> bool {
        self.exists() || ["log", "state", "digest.key"].iter().any(|name| self.0.join(name).exists())
    }

    /// Refuses a folder that is another migration's, without taking it.
    ///
    /// # Errors
    /// [`Error::OtherMigration`] when it is.
    pub fn check(&self, migration: &str) -> Result<(), Error> {
        match fs::read_to_string(self.0.join("migration")) {
            Ok(found) if !found.is_empty() && found.trim() != migration => Err(self.other(found.trim(), migration)),
            _ => Ok(()),
        }
    }

    /// Takes the folder for one process; `None` when another has it.
    ///
    /// # Errors
    /// [`Error::File`] when the folder cannot be used, [`Error::OtherMigration`] when it is someone else's.
    pub fn own(&self, migration: &str) -> Result<Option<Owned>, Error> {
        fs::create_dir_all(&self.0).map_err(|source| self.file("create", &self.0, source))?;
        self.refuse_others()?;
        let path = self.0.join("lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let lock = lock.map_err(|source| self.file("open", &path, source))?;
        match lock.try_lock() {
            Ok(()) => {}
            // Whose it is does not depend on who has it.
            Err(TryLockError::WouldBlock) => return self.check(migration).map(|()| None),
            Err(TryLockError::Error(source)) => return Err(self.file("lock", &path, source)),
        }
        let name = self.0.join("migration");
        match fs::read_to_string(&name) {
            Ok(found) if found.trim() == migration => {}
            // An empty one is what a full disk left.
            Ok(found) if found.is_empty() => self.write(&name, migration.as_bytes())?,
            Ok(found) => {
                return Err(self.other(found.trim(), migration));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                self.write(&name, migration.as_bytes())?;
            }
            Err(source) => return Err(self.file("read", &name, source)),
        }
        // For people only: a disk that is full must not keep anybody from looking.
        let _ = lock.set_len(0).and_then(|()| (&lock).write_all(std::process::id().to_string().as_bytes()));
        Ok(Some(Owned { folder: self.clone(), _lock: lock }))
    }

    /// The process that last took the folder, as far as it could say so.
    pub fn process(&self) -> Option<u32> {
        fs::read_to_string(self.0.join("lock")).ok()?.trim().parse().ok()
    }

    /// The deployment's digest key, where one was drawn.
    ///
    /// # Errors
    /// [`Error::File`] when it is there and cannot be read.
    pub fn digest_key(&self) -> Result<Option<DigestKey>, Error> {
        let path = self.0.join("digest.key");
        let mut secret = [0; 32];
        match File::open(&path) {
            Ok(mut found) => match found.read_exact(&mut secret) {
                Ok(()) => Ok(Some(DigestKey::new(secret))),
                // An empty one is what a full disk left; nothing was ever digested with it.
                Err(_) if found.metadata().is_ok_and(|found| found.len() == 0) => Ok(None),
                Err(source) => Err(self.file("read", &path, source)),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(self.file("open", &path, source)),
        }
    }

    /// Writes a file that only its owner reads, so that it is there whole or not at all.
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), Error> {
        let beside = path.with_extension("new");
        let write = || {
            let made = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&beside);
            made.and_then(|mut made| made.write_all(bytes).and_then(|()| made.sync_all()))?;
            fs::rename(&beside, path)?;
            File::open(&self.0)?.sync_all()
        };
        write().map_err(|source| self.file("write", path, source))
    }

    /// Refuses a folder that holds something and does not say whose it is: `down` removes what is taken here.
    fn refuse_others(&self) -> Result<(), Error> {
        let names = self.names()?;
        // What another process may have made of ours before the name, and what a file system brings along.
        let empty = |name: &String| matches!(&**name, "lock" | "migration.new" | "control.sock" | "lost+found");
        if names.iter().any(|name| name == "migration") {
            return Ok(());
        }
        match names.into_iter().find(|name| !empty(name)) {
            Some(holds) => Err(Error::NotEmpty { path: self.0.clone(), holds }),
            None => Ok(()),
        }
    }

    /// What lies here, in order.
    fn names(&self) -> Result<Vec<String>, Error> {
        let read = || -> std::io::Result<Vec<String>> {
            let mut names = Vec::new();
            for entry in fs::read_dir(&self.0)? {
                names.push(entry?.file_name().to_string_lossy().into_owned());
            }
            names.sort_unstable();
            Ok(names)
        };
        read().map_err(|source| self.file("read", &self.0, source))
    }

    /// The folder is another migration's.
    pub fn other(&self, found: &str, wanted: &str) -> Error {
        Error::OtherMigration { path: self.0.clone(), found: found.to_owned(), wanted: wanted.to_owned() }
    }

    fn file(&self, action: &'static str, path: &Path, source: std::io::Error) -> Error {
        Error::File { action, path: path.to_owned(), source }
    }
}

impl Owned {
    /// The deployment's digest key, drawn at its first use.
    ///
    /// # Errors
    /// [`Error::File`] when it can be neither read nor written.
    pub fn digest_key(&self) -> Result<DigestKey, Error> {
        if let Some(key) = self.folder.digest_key()? {
            return Ok(key);
        }
        let secret: [u8; 32] = rand::random();
        self.folder.write(&self.folder.0.join("digest.key"), &secret)?;
        Ok(DigestKey::new(secret))
    }

    /// Removes what is ours, and the folder where nothing else lies in it; answers why it stays, if it does.
    ///
    /// The migration's name goes last: by it a removal that was cut off is found, and goes on.
    ///
    /// # Errors
    /// [`Error::File`] when something cannot be removed.
    pub fn remove(self) -> Result<Option<String>, Error> {
        let folder = &self.folder;
        let gone = |path: &Path, removed: std::io::Result<()>| match removed {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(folder.file("remove", path, source)),
            _ => Ok(()),
        };
        // Half a log must not look like one.
        let (log, aside) = (folder.log(), folder.0.join("log.removed"));
        gone(&aside, fs::remove_dir_all(&aside))?;
        gone(&log, fs::rename(&log, &aside))?;
        let names = folder.names()?;
        let (ours, others): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| ours(name));
        for name in ours.iter().filter(|name| !matches!(&***name, "migration" | "lock")) {
            let path = folder.0.join(name);
            gone(&path, if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) })?;
        }
        for name in ["migration", "lock"] {
            let path = folder.0.join(name);
            gone(&path, fs::remove_file(&path))?;
        }
        if !others.is_empty() {
            return Ok(Some(format!("it also holds {}", others.join(", "))));
        }
        match fs::remove_dir(&folder.0) {
            Err(source) if source.kind() == std::io::ErrorKind::ResourceBusy => {
                Ok(Some("a file system is mounted on it".to_owned()))
            }
            removed => gone(&folder.0, removed).map(|()| None),
        }
    }
}

/// What stands behind the names of stores that are being replaced or removed.
const LEFTOVERS: [&str; 4] = ["removed", "renewed", "replaced", "discarded"];

/// Whether an entry of a state folder is made by rehome; see the table above.
fn ours(name: &str) -> bool {
    let begins = |beginning: &str| name.starts_with(beginning);
    let store = |name: &str| matches!(name, "log" | "state");
    matches!(name, "lock" | "migration" | "migration.new" | "digest.key" | "digest.new" | "control.sock")
        || store(name)
        // Those that are being replaced or removed.
        || name.split_once('.').is_some_and(|(name, left)| store(name) && LEFTOVERS.contains(&left))
        || begins(super::resume::COMPARISON)
        || begins(super::resume::PASS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_owns_a_folder_and_one_migration_lives_in_it() {
        let temporary = tempfile::tempdir().expect("a folder");
        let folder = Folder::new(temporary.path().join("state"));
        assert!(!folder.exists());
        let owned = folder.own("one").expect("usable").expect("free");
        assert!(folder.exists());
        assert!(folder.own("one").expect("usable").is_none(), "the lock is held");
        let digest =
            |key: &DigestKey| crate::event::digest::key_digest(key, "t", &["k"], &[crate::event::Value::Int(1)]);
        let first = digest(&owned.digest_key().expect("a key"));
        assert_eq!(digest(&owned.digest_key().expect("a key")), first, "the key is drawn once");
        drop(owned);
        // What a full disk leaves of a file that is being made.
        for file in ["migration", "digest.key"] {
            std::fs::write(folder.path().join(file), "").expect("writable");
        }
        let owned = folder.own("one").expect("an empty name is none").expect("free");
        let drawn = digest(&owned.digest_key().expect("an empty key is none"));
        assert_eq!(digest(&owned.digest_key().expect("a key")), drawn);
        drop(owned);
        assert!(matches!(folder.own("two"), Err(Error::OtherMigration { .. })));
        assert!(folder.own("one").expect("usable").is_some());
    }
}

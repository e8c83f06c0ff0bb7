//! The state folder of one migration: who owns it, and what lies in it.
//!
//! | entry | what |
//! |---|---|
//! | `lock` | held by the one process that owns the folder |
//! | `migration` | name of the migration |
//! | `digest.key` | secret of this deployment's digests, readable by its owner only |
//! | `control.sock` | where a running process answers other commands |
//! | `log/`, `state/` | event log; state store, which can be deleted and is rebuilt from the log |

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
        Ok(Some(Owned { folder: self.clone(), _lock: lock }))
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

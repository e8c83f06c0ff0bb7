//! Writing the state anew, with what it holds and nothing of what it once held.
//!
//! What was removed lies on the disk for as long as journals and tables keep it. The new store is made beside the old one,
//! which is moved aside, and removed when the new one stands in its place.

use std::path::{Path, PathBuf};

use super::Error;
use super::state::{SPACES, State};

/// Ends the name of a store that is being removed.
const DISCARDED: &str = "discarded";
/// Bytes that are copied at once.
const COPY_BYTES: usize = 8 * 1024 * 1024;

impl State {
    /// Writes the store in a folder anew; nobody may have it open.
    ///
    /// # Errors
    /// [`Error::State`] when it cannot be read or written; the old store stays then.
    pub fn renew(folder: &Path) -> Result<(), Error> {
        mend(folder)?;
        let (renewed, replaced) = beside(folder);
        let (old, new) = (Self::open(folder)?, Self::open(&renewed)?);
        for space in SPACES {
            let mut session = new.session();
            old.scan(space, &[], |key, value| {
                session.put(space, key, value);
                if session.bytes() >= COPY_BYTES {
                    std::mem::replace(&mut session, new.session()).commit()?;
                }
                Ok(true)
            })?;
            session.commit()?;
        }
        new.sync()?;
        drop((old, new));
        std::fs::rename(folder, &replaced).map_err(failed)?;
        std::fs::rename(&renewed, folder).map_err(failed)?;
        mend(folder)
    }
}

impl State {
    /// Removes the store in a folder, which nobody may have open: whole, or not at all.
    ///
    /// # Errors
    /// [`Error::State`] when it cannot be moved aside.
    pub fn discard(folder: &Path) -> Result<(), Error> {
        mend(folder)?;
        let discarded = folder.with_extension(DISCARDED);
        std::fs::rename(folder, &discarded).map_err(failed)?;
        std::fs::remove_dir_all(discarded).map_err(failed)
    }
}

/// Ends what a death in the middle left half done: the old store counts until the new one stands in its place.
pub(super) fn mend(folder: &Path) -> Result<(), Error> {
    let (renewed, replaced) = beside(folder);
    if !folder.exists() && replaced.exists() {
        std::fs::rename(&replaced, folder).map_err(failed)?;
    }
    for left in [renewed, replaced, folder.with_extension(DISCARDED)] {
        match std::fs::remove_dir_all(left) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
    }
    Ok(())
}

/// Where the new store is made, and where the old one goes.
fn beside(folder: &Path) -> (PathBuf, PathBuf) {
    (folder.with_extension("renewed"), folder.with_extension("replaced"))
}

fn failed(source: std::io::Error) -> Error {
    Error::state("write", source.into())
}

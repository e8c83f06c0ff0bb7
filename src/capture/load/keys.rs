//! Whether each row of a dump has a key of its own: of two with one key, as where an older and a newer dump were joined, nobody
//! could say which counts.
//!
//! The file is read once for it, and eight bytes are kept of each key; only where two of these agree are the keys themselves
//! compared, in a second reading.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};

use crate::event::{Canonical as _, Key};

use super::{Dump, Error, LINE_BYTES_MAX, Problem, row_of};

/// Refuses a file of which two rows have one key. Lines that are no rows are left for whoever loads them.
pub(super) fn told_apart(dump: &Dump) -> Result<(), Error> {
    let mut digests = Vec::new();
    each_key(dump, |_, key| {
        digests.push(digest(&key));
        Ok(())
    })?;
    digests.sort_unstable();
    let mut alike: HashMap<u64, Vec<(u64, Key)>> =
        digests.windows(2).filter(|two| two[0] == two[1]).map(|two| (two[0], Vec::new())).collect();
    if alike.is_empty() {
        return Ok(());
    }
    each_key(dump, |line, key| {
        let Some(known) = alike.get_mut(&digest(&key)) else { return Ok(()) };
        if let Some((first, _)) = known.iter().find(|(_, known)| *known == key) {
            return Err(Error::Line { path: dump.path.clone(), line, problem: Problem::SameKey(*first) });
        }
        known.push((line, key));
        Ok(())
    })
}

fn digest(key: &Key) -> u64 {
    let digest = blake3::hash(&key.encode());
    digest.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

fn each_key(dump: &Dump, mut visit: impl FnMut(u64, Key) -> Result<(), Error>) -> Result<(), Error> {
    let broken = |action| move |source| Error::File { action, path: dump.path.clone(), source };
    let file = File::open(&dump.path).map_err(broken("open"))?;
    if !file.metadata().map_err(broken("open"))?.is_file() {
        let why = "it is no regular file, and a dump is read twice";
        return Err(broken("load")(std::io::Error::new(std::io::ErrorKind::InvalidInput, why)));
    }
    let mut file = BufReader::with_capacity(1 << 20, file);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let limit = LINE_BYTES_MAX as u64 + 1;
        if (&mut file).take(limit).read_until(b'\n', &mut line).map_err(broken("read"))? == 0 {
            break;
        }
        if let Ok(Some((key, _))) = row_of(dump, &line) {
            visit(number, key)?;
        }
    }
    Ok(())
}

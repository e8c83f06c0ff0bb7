//! What was read to its end, on the disk: a comparison that was killed goes on from there.
//!
//! The ledger has a line for each range that was read, mapped and spilled, with all that came of it beside the spilled records
//! themselves: what was counted, which rules were used, which faults were planted, and what its records add up to in each
//! spill. A line is written when every record of its range has been handed to the system, so whatever kills the process leaves
//! lines that are true; what a dead machine loses besides is found by the sums ([`Spill::adopt`](super::spill::Spill::adopt)).
//!
//! Whether a range is still as it was read is not for the ledger to say: whoever resumes looks, and names the lines that hold.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Error;
use super::canary::{Shadow, Shadows};
use super::emit::Tally;
use super::expected::SourceAccount;
use super::record::KeyDigest;
use super::side::{Extent, Side};
use super::spill::Tag;
use super::sum::Sum;
use crate::rules::Uses;

/// Its file, in the folder of the spills.
pub const FILE: &str = "ledger.jsonl";
/// Tags of one attempt.
const ATTEMPT: u64 = 1 << 32;

/// What came of a range, or of what follows the reading, beside records.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Came {
    /// What became of the source's rows.
    pub account: SourceAccount,
    /// Rows by target table.
    pub tallies: Vec<Tally>,
    /// How often each rule was used.
    pub uses: Uses,
    /// Faults that were planted.
    #[serde(with = "shadows")]
    pub shadows: Shadows,
    /// What was handed over, by spill.
    pub handed: BTreeMap<String, Sum>,
}

impl Came {
    /// Adds what came of another range.
    pub fn merge(&mut self, other: Came) {
        let Came { account, tallies, uses, shadows, handed } = other;
        self.account.merge(account);
        if self.tallies.len() < tallies.len() {
            self.tallies.resize(tallies.len(), Tally::default());
        }
        self.tallies.iter_mut().zip(&tallies).for_each(|(sum, tally)| sum.merge(tally));
        self.uses.merge(&uses);
        shadows.into_iter().for_each(|(place, shadow)| self.shadows.entry(place).or_default().merge(shadow));
        handed.into_iter().for_each(|(spill, sum)| self.handed.entry(spill).or_default().merge(&sum));
    }
}

/// A range that was read to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// `source` or `target`.
    pub side: String,
    /// Its table, as the store names it.
    pub table: String,
    /// Tells the table from another of its name, and from itself in another shape.
    pub identity: String,
    /// Which part of it.
    pub extent: Extent,
    /// Name of the snapshot that it was read under.
    pub snapshot: String,
    /// Transactions before this one were seen by that snapshot; absent where there is none.
    pub seen: Option<u32>,
    /// When that was taken.
    pub taken: Timestamp,
    /// What the rows that others refer to add up to, by which this range was placed; of the source only.
    pub references: Option<Sum>,
    /// Rows.
    pub rows: u64,
    /// Bytes as the store sent them.
    pub bytes: u64,
    /// Whose the records are.
    pub tag: Tag,
    /// What came of it.
    pub came: Came,
}

/// Lines that hold, each with the range that it stands for: an index in [`Side::ranges`].
pub type Kept = BTreeMap<usize, Line>;

/// The ledger of one attempt.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    file: Mutex<File>,
    first: Tag,
    next: AtomicU64,
}

impl Ledger {
    /// A new one in a folder.
    ///
    /// # Errors
    /// [`Error::Spill`] when the file cannot be made.
    pub fn begin(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(FILE);
        let failed = |source| Error::Spill { action: "make", path: path.clone(), source };
        let file = OpenOptions::new().create(true).truncate(true).write(true).open(&path).map_err(failed)?;
        Ok(Self { file: Mutex::new(file), first: Tag(0), next: AtomicU64::new(1), path })
    }

    /// The one that another attempt left in a folder, and its lines; of several lines of one range only the last.
    ///
    /// # Errors
    /// [`Error::Spill`] when the file cannot be read.
    pub fn resume(folder: &Path) -> Result<(Self, Vec<Line>), Error> {
        let path = folder.join(FILE);
        let failed = |source| Error::Spill { action: "read", path: path.clone(), source };
        let file = OpenOptions::new().read(true).append(true).open(&path).map_err(failed)?;
        let mut reader = BufReader::new(file);
        let (mut lines, mut text, mut whole): (BTreeMap<_, Line>, _, _) = (BTreeMap::new(), Vec::new(), 0);
        let mut last = Tag(0);
        loop {
            text.clear();
            let length = reader.read_until(b'\n', &mut text).map_err(failed)?;
            // A line cut short is that of a range which was not finished.
            let entry = text.strip_suffix(b"\n").and_then(|text| serde_json::from_slice::<Entry>(text).ok());
            match entry {
                Some(Entry::Range(line)) => {
                    last = last.max(line.tag);
                    lines.insert((line.side.clone(), line.table.clone(), line.extent.clone()), *line);
                }
                Some(Entry::Attempt { first }) => last = last.max(first),
                None => break,
            }
            whole += length as u64;
        }
        let first = Tag((last.0 / ATTEMPT + 1) * ATTEMPT);
        let file = reader.into_inner();
        file.set_len(whole).map_err(failed)?;
        let ledger = Self { file: Mutex::new(file), first, next: AtomicU64::new(first.0 + 1), path };
        ledger.write(&Entry::Attempt { first })?;
        Ok((ledger, lines.into_values().collect()))
    }

    /// A tag that nothing has yet.
    pub fn tag(&self) -> Tag {
        Tag(self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// The first tag of this attempt.
    pub fn first(&self) -> Tag {
        self.first
    }

    /// Writes down that a range was read to its end, and everything handed over.
    ///
    /// # Errors
    /// [`Error::Spill`] when the disk does not take it.
    pub fn done(&self, line: Line) -> Result<(), Error> {
        self.write(&Entry::Range(Box::new(line)))
    }

    fn write(&self, entry: &Entry) -> Result<(), Error> {
        let failed = |source| Error::Spill { action: "write", path: self.path.clone(), source };
        let mut text = serde_json::to_vec(entry).map_err(|error| failed(error.into()))?;
        text.push(b'\n');
        self.file.lock().unwrap_or_else(PoisonError::into_inner).write_all(&text).map_err(failed)
    }
}

/// The lines of some ranges of a side.
///
/// Lines hold where the table is the same, in the same shape and cut the same; whether its rows are, is still to be seen.
pub fn of_side(side: &Side, lines: &[Line]) -> Kept {
    let fits = |index: usize| {
        let range = &side.ranges[index];
        let table = &side.tables[range.table];
        let same = |line: &&Line| {
            *line.side == *side.name
                && line.table == table.relation.to_string()
                && line.identity == table.identity
                && line.extent == range.extent
        };
        lines.iter().find(same).map(|line| (index, line.clone()))
    };
    (0..side.ranges.len()).filter_map(fits).collect()
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Entry {
    /// An attempt begins; its tags are at least this.
    Attempt { first: Tag },
    /// A range is done.
    Range(Box<Line>),
}

/// Shadows in JSON, whose objects have texts for keys.
mod shadows {
    use serde::{Deserializer, Serializer};

    use super::{Deserialize as _, KeyDigest, Shadow, Shadows};

    pub fn serialize<S: Serializer>(shadows: &Shadows, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(shadows)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Shadows, D::Error> {
        let pairs = Vec::<((u16, KeyDigest), Shadow)>::deserialize(from)?;
        Ok(pairs.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::RelationName;

    fn line(ledger: &Ledger, from: u32, rows: u64) -> Line {
        let leaf = RelationName { schema: "s".into(), table: "t".into() };
        let mut came = Came { tallies: vec![Tally { read: rows, ..Tally::default() }], ..Came::default() };
        came.shadows.insert((0, [7; 16]), Shadow { actual: 1, ..Shadow::default() });
        came.account.read.insert(crate::mapping::SourceTable(3), rows);
        Line {
            side: "source".into(),
            table: "s.t".into(),
            identity: String::new(),
            extent: Extent::Blocks { leaf, file: 9, from, to: None },
            snapshot: "one".into(),
            seen: Some(5),
            taken: Timestamp::UNIX_EPOCH,
            references: None,
            rows,
            bytes: rows * 8,
            tag: ledger.tag(),
            came,
        }
    }

    #[test]
    fn what_was_written_is_there_again_and_half_a_line_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let ledger = Ledger::begin(folder.path()).expect("a file");
        let (first, second) = (line(&ledger, 0, 5), line(&ledger, 8, 6));
        ledger.done(first.clone()).expect("a disk");
        ledger.done(second).expect("a disk");
        drop(ledger);
        let path = folder.path().join(FILE);
        let length = std::fs::metadata(&path).expect("a file").len();
        File::options().write(true).open(&path).and_then(|file| file.set_len(length - 3)).expect("writable");

        let (ledger, lines) = Ledger::resume(folder.path()).expect("it reads");
        assert_eq!(lines, [first]);
        let again = line(&ledger, 0, 7);
        assert!(again.tag > ledger.first() && ledger.first() >= Tag(ATTEMPT));
        ledger.done(again.clone()).expect("a disk");
        let (third, lines) = Ledger::resume(folder.path()).expect("it reads");
        assert_eq!(lines, [again], "the last line of a range counts");
        assert!(third.first() > ledger.first() && third.first().0 >= 2 * ATTEMPT);
        let (fourth, _) = Ledger::resume(folder.path()).expect("it reads");
        assert!(fourth.first() > third.first(), "also when the one before finished nothing");
    }
}

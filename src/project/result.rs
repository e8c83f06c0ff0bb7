//! What became of a part, as it is kept and reported.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::event::{DecodeError, Reader, put_text, put_varint};

use super::Error;
use super::references::{Ask, put_asks, take_asks};

/// The rows of one source table within one part, by what became of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowCounts {
    /// Rows that contribute to a target row.
    pub mapped: u64,
    /// Rows left out, by reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub dropped: BTreeMap<String, u64>,
    /// Rows in quarantine, by reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub quarantined: BTreeMap<String, u64>,
}

impl RowCounts {
    /// All rows counted.
    pub fn total(&self) -> u64 {
        self.mapped + self.dropped.values().sum::<u64>() + self.quarantined.values().sum::<u64>()
    }

    /// Adds another part's counts.
    pub fn add(&mut self, other: &Self) {
        self.mapped += other.mapped;
        for (reason, count) in &other.dropped {
            *self.dropped.entry(reason.clone()).or_default() += count;
        }
        for (reason, count) in &other.quarantined {
            *self.quarantined.entry(reason.clone()).or_default() += count;
        }
    }
}

/// Where a part stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "status")]
pub enum Status {
    /// The target holds what the mapping makes of it.
    #[default]
    Done,
    /// Rows of it have cells that nothing has told yet.
    Waiting,
    /// It is not at the target, or not as the mapping wants it, for a reason.
    Parked {
        /// Reason, one word.
        reason: String,
        /// Where, for people; never row contents.
        detail: String,
    },
}

/// Target rows of one part, by what became of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetCounts {
    /// Rows that the mapping yields.
    pub expected: u64,
    /// Rows that the target says it holds as we want them.
    pub written: u64,
    /// Rows of someone else in the place of ours, equal ones included.
    pub foreign: u64,
    /// Rows not written because their part is parked.
    pub parked: u64,
}

impl TargetCounts {
    /// Adds another part's counts.
    pub fn add(&mut self, other: &Self) {
        self.expected += other.expected;
        self.written += other.written;
        self.foreign += other.foreign;
        self.parked += other.parked;
    }
}

/// Rows of a part by source table, each once: most parts have rows of one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "BTreeMap<String, RowCounts>", into = "BTreeMap<String, RowCounts>")]
pub struct RowsByTable(pub Vec<(Arc<str>, RowCounts)>);

impl From<BTreeMap<String, RowCounts>> for RowsByTable {
    fn from(tables: BTreeMap<String, RowCounts>) -> Self {
        Self(tables.into_iter().map(|(table, counts)| (table.into(), counts)).collect())
    }
}

impl From<RowsByTable> for BTreeMap<String, RowCounts> {
    fn from(tables: RowsByTable) -> Self {
        tables.0.into_iter().map(|(table, counts)| (table.to_string(), counts)).collect()
    }
}

/// What became of a part at one offset.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartResult {
    /// Offset of the last record that this result includes.
    pub offset: u64,
    /// Generation of the mapping it was made with.
    pub mapping: u32,
    /// Where the part stands.
    #[serde(flatten)]
    pub status: Status,
    /// Rows by source table.
    pub rows: RowsByTable,
    /// Other things the mapping counts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counts: BTreeMap<String, u64>,
    /// Rows at the target.
    pub target: TargetCounts,
    /// What it adds to the sums of its unit.
    #[serde(skip)]
    pub totals: Vec<i128>,
    /// What its evaluation asked of other tables.
    #[serde(skip)]
    pub asked: Vec<Ask>,
    /// Whether rows of it alone are quarantined; they are listed apart.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub noted: bool,
}

impl PartResult {
    /// Why the part is parked, if it is.
    pub fn parked_for(&self) -> Option<&str> {
        match &self.status {
            Status::Parked { reason, .. } => Some(reason),
            Status::Done | Status::Waiting => None,
        }
    }

    /// Stored form.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        // The first byte is never the end of a stored part: a result that is there has bytes.
        match &self.status {
            Status::Done => out.push(1),
            Status::Waiting => out.push(2),
            Status::Parked { reason, detail } => {
                out.push(3);
                put_text(reason, &mut out);
                put_text(detail, &mut out);
            }
        }
        put_varint(self.offset, &mut out);
        put_varint(u64::from(self.mapping), &mut out);
        put_varint(self.rows.0.len() as u64, &mut out);
        for (table, counts) in &self.rows.0 {
            put_text(table, &mut out);
            put_varint(counts.mapped, &mut out);
            put_counts(&counts.dropped, &mut out);
            put_counts(&counts.quarantined, &mut out);
        }
        put_counts(&self.counts, &mut out);
        let target = &self.target;
        for number in [target.expected, target.written, target.foreign, target.parked] {
            put_varint(number, &mut out);
        }
        put_varint(self.totals.len() as u64, &mut out);
        self.totals.iter().for_each(|total| out.extend_from_slice(&total.to_be_bytes()));
        put_asks(&self.asked, &mut out);
        out.push(u8::from(self.noted));
        out
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// [`Error::Damaged`] when the bytes are no result.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        Self::read(bytes).map_err(|_| Error::Damaged("results"))
    }

    fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let status = match reader.byte()? {
            1 => Status::Done,
            2 => Status::Waiting,
            3 => Status::Parked { reason: reader.text()?.to_owned(), detail: reader.text()?.to_owned() },
            tag => return Err(DecodeError::Tag(tag)),
        };
        let (offset, mapping) = (reader.varint()?, reader.varint_u32()?);
        let mut rows = RowsByTable::default();
        for _ in 0..reader.count()? {
            let table = reader.text()?.into();
            let mapped = reader.varint()?;
            let (dropped, quarantined) = (take_counts(&mut reader)?, take_counts(&mut reader)?);
            rows.0.push((table, RowCounts { mapped, dropped, quarantined }));
        }
        let counts = take_counts(&mut reader)?;
        let target = TargetCounts {
            expected: reader.varint()?,
            written: reader.varint()?,
            foreign: reader.varint()?,
            parked: reader.varint()?,
        };
        let totals = (0..reader.count()?).map(|_| reader.array().map(i128::from_be_bytes)).collect::<Result<_, _>>()?;
        let asked = take_asks(&mut reader)?;
        let noted = reader.byte()? == 1;
        reader.finish()?;
        Ok(Self { offset, mapping, status, rows, counts, target, totals, asked, noted })
    }
}

fn put_counts(counts: &BTreeMap<String, u64>, out: &mut Vec<u8>) {
    put_varint(counts.len() as u64, out);
    for (name, count) in counts {
        put_text(name, out);
        put_varint(*count, out);
    }
}

fn take_counts(reader: &mut Reader<'_>) -> Result<BTreeMap<String, u64>, DecodeError> {
    (0..reader.count()?).map(|_| Ok((reader.text()?.to_owned(), reader.varint()?))).collect()
}

/// A row that alone is in quarantine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuarantinedRow {
    /// Source table.
    pub table: String,
    /// Reason.
    pub reason: String,
    /// Key, as text for people.
    pub key: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_read_back() {
        let counts = RowCounts { mapped: 3, dropped: [("twice".into(), 2)].into(), quarantined: BTreeMap::new() };
        let parked = Status::Parked { reason: "not_storable".into(), detail: "a row of t".into() };
        for status in [Status::Done, Status::Waiting, parked] {
            let result = PartResult {
                offset: 1 << 40,
                mapping: 7,
                status,
                rows: RowsByTable(vec![("t".into(), counts.clone())]),
                counts: [("made".into(), 1)].into(),
                target: TargetCounts { expected: 4, written: 2, foreign: 1, parked: 1 },
                totals: vec![-1, i128::from(u64::MAX) * 3],
                asked: vec![Ask { reference: 1, digest: [2; 16] }],
                noted: true,
            };
            assert_eq!(PartResult::from_bytes(&result.to_bytes()).expect("a result"), result);
            assert!(PartResult::from_bytes(&result.to_bytes()[..9]).is_err());
        }
    }
}

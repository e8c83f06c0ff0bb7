//! Stored forms of what the state keeps of a row and of a part.

use crate::event::{DecodeError, Reader, Version, put_bytes, put_varint};

use super::Error;
use super::references::{Ask, put_asks, take_asks};
use super::result::PartResult;

/// What is known of a source row beside its cells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Version of the last event applied.
    pub version: Version,
    /// Key of the part it lives in; `None` when it is gone.
    pub scope: Option<Vec<u8>>,
    /// Bytes of its cells as stored.
    pub size: u64,
    /// Key (of the heads) under which a snapshot row can fill its missing cells; `None` when complete.
    pub origin: Option<Vec<u8>>,
    /// What its route asked of other tables.
    pub asked: Vec<Ask>,
}

impl Head {
    /// The tombstone of a row.
    pub fn gone(version: Version) -> Self {
        Self { version, scope: None, size: 0, origin: None, asked: Vec::new() }
    }

    /// Stored form.
    pub fn to_bytes(&self) -> Vec<u8> {
        let length = self.scope.as_ref().map_or(0, Vec::len) + self.origin.as_ref().map_or(0, Vec::len);
        let mut bytes = Vec::with_capacity(Version::LEN + 16 + length);
        bytes.extend_from_slice(&self.version.to_bytes());
        for part in [&self.scope, &self.origin] {
            bytes.push(u8::from(part.is_some()));
            if let Some(part) = part {
                put_bytes(part, &mut bytes);
            }
        }
        put_varint(self.size, &mut bytes);
        put_asks(&self.asked, &mut bytes);
        bytes
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// [`Error::Damaged`] when the bytes are no head.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let read = || -> Result<Self, DecodeError> {
            let mut reader = Reader::new(bytes);
            let version = Version::from_bytes(reader.raw(Version::LEN)?).ok_or(DecodeError::End)?;
            let mut part = || -> Result<Option<Vec<u8>>, DecodeError> {
                Ok(if reader.byte()? == 0 { None } else { Some(reader.bytes()?.to_vec()) })
            };
            let (scope, origin) = (part()?, part()?);
            let size = reader.varint()?;
            let asked = take_asks(&mut reader)?;
            reader.finish()?;
            Ok(Self { version, scope, size, origin, asked })
        };
        read().map_err(|_| Error::Damaged("heads"))
    }
}

/// Counts about a part's rows, and what became of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartState {
    /// Offset of the last record that concerned the part.
    pub last: u64,
    /// Bytes of its rows as stored.
    pub bytes: u64,
    /// Rows with missing cells.
    pub incomplete: u64,
    /// Rows by source table.
    pub rows: Vec<u64>,
    /// Stored form of its [`PartResult`]; empty before it was evaluated. Kept as bytes: folding rows has no use for it.
    result: Vec<u8>,
}

impl PartState {
    /// Stored form.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(32 + self.result.len());
        for number in [self.last, self.bytes, self.incomplete, self.rows.len() as u64] {
            put_varint(number, &mut bytes);
        }
        self.rows.iter().for_each(|number| put_varint(*number, &mut bytes));
        bytes.extend_from_slice(&self.result);
        bytes
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// [`Error::Damaged`] when the bytes are not a part's.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let read = || -> Result<Self, DecodeError> {
            let mut reader = Reader::new(bytes);
            let (last, size, incomplete) = (reader.varint()?, reader.varint()?, reader.varint()?);
            let tables = reader.count()?;
            let rows = (0..tables).map(|_| reader.varint()).collect::<Result<_, _>>()?;
            let result = reader.raw(reader.remaining())?.to_vec();
            Ok(Self { last, bytes: size, incomplete, rows, result })
        };
        read().map_err(|_| Error::Damaged("parts"))
    }

    /// What became of the part when it was last evaluated; `None` before.
    pub fn result(&self) -> Result<Option<PartResult>, Error> {
        if self.result.is_empty() { Ok(None) } else { PartResult::from_bytes(&self.result).map(Some) }
    }

    /// Keeps what became of the part.
    pub fn set_result(&mut self, result: &PartResult) {
        self.result = result.to_bytes();
    }

    /// Whether it has no rows.
    pub fn empty(&self) -> bool {
        self.rows.iter().all(|rows| *rows == 0)
    }

    /// The count of one table's rows, making room for it.
    pub fn rows_of(&mut self, table: u16) -> &mut u64 {
        let index = usize::from(table);
        if self.rows.len() <= index {
            self.rows.resize(index + 1, 0);
        }
        &mut self.rows[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Epoch, Lsn};
    use crate::mapping::Part;
    use crate::project::scope::scope_key;

    #[test]
    fn heads_and_parts_read_back() {
        let scope = scope_key("u", &Part::Whole);
        let ask = Ask { reference: 3, digest: [7; 16] };
        for (scope, origin, asked) in
            [(None, None, vec![]), (Some(scope.clone()), None, vec![ask]), (Some(scope), Some(vec![0, 1, 2]), vec![])]
        {
            let version = Version::postgres(Epoch(3), Lsn(7), 1);
            let head = Head { version, scope, size: 300, origin, asked };
            assert_eq!(Head::from_bytes(&head.to_bytes()).expect("a head"), head);
        }
        let mut part = PartState { last: 5, bytes: 600, incomplete: 1, rows: vec![2, 0, 9], result: Vec::new() };
        assert_eq!(PartState::from_bytes(&part.to_bytes()).expect("a part"), part);
        assert_eq!(part.result().expect("readable"), None);
        let result = PartResult { offset: 5, mapping: 2, ..PartResult::default() };
        part.set_result(&result);
        let again = PartState::from_bytes(&part.to_bytes()).expect("a part");
        assert_eq!(again.result().expect("readable"), Some(result));
        assert!(PartState::from_bytes(&[1, 2]).is_err());
    }
}

//! Binary `COPY`: the statement for a range, and the decoder of what it answers.
//!
//! The server sends a header, then for each row a count of fields and for each field a length and its bytes, cut into
//! messages wherever it likes. The decoder keeps an unfinished row until the rest of it comes.

use std::ops::Range;
use std::sync::Arc;

use super::catalog::Shape;
use super::codec::Kind;
use super::connect::{quote, quote_name};
use super::error::unreadable;
use crate::event::{EncodedCell, EncodedRow, Relation, RelationName, Row, Value};
use crate::source::{Error, Rows};

/// What the errors say was being done.
pub(super) const ACTION: &str = "copy a range of a table";

/// What every binary copy begins with.
const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";

/// Which rows of a leaf to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Places {
    /// First block.
    pub from: u32,
    /// Block after the last; `None` reads to the end of what the snapshot sees.
    pub to: Option<u32>,
    /// Only rows written by transactions from this one on, in 32-bit transaction ids.
    pub written_since: Option<u32>,
}

impl Places {
    /// The condition that a row is in them.
    pub(super) fn condition(&self) -> String {
        let mut condition = format!("ctid >= '({},0)'::tid", self.from);
        if let Some(to) = self.to {
            condition.push_str(&format!(" and ctid < '({to},0)'::tid"));
        }
        if let Some(xid) = self.written_since {
            condition.push_str(&format!(" and {}", written_since(xid)));
        }
        condition
    }
}

/// The condition that a row was written by a transaction or by a later one.
pub(super) fn written_since(xid: u32) -> String {
    format!("age(xmin) <= age('{xid}'::xid)")
}

/// A column as its type's output writes it, which is the form in the stream: a cast of the type's own may write something else, and
/// `format` does not use it.
pub(super) fn output_form(column: &str) -> String {
    format!("case when {column} is distinct from null then format('%s', {column}) end")
}

/// The statement that copies the columns of `shape` from rows of `leaf`.
pub(super) fn statement(shape: &Shape, leaf: &RelationName, places: Places) -> String {
    let columns: Vec<String> = shape
        .relation
        .columns
        .iter()
        .zip(&*shape.types)
        .map(|(column, facts)| {
            let name = quote(&column.name);
            match facts.kind {
                Kind::Other if facts.own_cast => output_form(&name),
                Kind::Other => format!("{name}::text"),
                _ => name,
            }
        })
        .collect();
    let condition = places.condition();
    let columns = columns.join(", ");
    format!("copy (select {columns} from only {} where {condition}) to stdout (format binary)", quote_name(leaf))
}

/// The copy's bytes break its format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the binary copy breaks its format: {0}")]
pub(super) struct Broken(&'static str);

/// What is told of a value that does not read.
const NOT_OF_ITS_TYPE: &str = "a field not of its type";

/// Finds the rows in a copy's messages.
pub(super) struct Framer {
    /// Fields of a row.
    fields: usize,
    /// Bytes of a row that has not come whole.
    pending: Vec<u8>,
    header: bool,
    ended: bool,
}

impl Framer {
    /// A framer for rows of this shape.
    pub(super) fn new(shape: &Shape) -> Self {
        Self { fields: shape.types.len(), pending: Vec::new(), header: false, ended: false }
    }

    /// Takes a message and gives every row that is now whole to `row`.
    pub(super) fn feed(
        &mut self,
        message: &[u8],
        mut row: impl FnMut(&[u8]) -> Result<(), Broken>,
    ) -> Result<(), Broken> {
        if self.pending.is_empty() {
            let used = self.read(message, &mut row)?;
            self.pending.extend_from_slice(&message[used..]);
        } else {
            let mut pending = std::mem::take(&mut self.pending);
            pending.extend_from_slice(message);
            let used = self.read(&pending, &mut row)?;
            pending.drain(..used);
            self.pending = pending;
        }
        Ok(())
    }

    /// Checks that the copy came to its end, and not just the connection.
    pub(super) fn finish(&self) -> Result<(), Broken> {
        if self.ended && self.pending.is_empty() { Ok(()) } else { Err(Broken("it was cut short")) }
    }

    /// Reads whole rows off the front and answers how many bytes they took.
    fn read(&mut self, bytes: &[u8], row: &mut impl FnMut(&[u8]) -> Result<(), Broken>) -> Result<usize, Broken> {
        let mut at = 0;
        if !self.header {
            let Some(taken) = header(bytes)? else { return Ok(0) };
            (self.header, at) = (true, taken);
        }
        while at < bytes.len() {
            if self.ended {
                return Err(Broken("bytes after its end"));
            }
            let Some(count) = bytes.get(at..at + 2) else { break };
            let count = i16::from_be_bytes([count[0], count[1]]);
            if count == -1 {
                self.ended = true;
                at += 2;
                continue;
            }
            if usize::try_from(count) != Ok(self.fields) {
                return Err(Broken("a row with another count of fields"));
            }
            let Some(length) = row_length(&bytes[at..], self.fields)? else { break };
            row(&bytes[at..at + length])?;
            at += length;
        }
        Ok(at)
    }
}

/// The fields of a row that is there whole; `None` for NULL.
fn fields(row: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    let mut rest = &row[2..];
    std::iter::from_fn(move || {
        let (length, after) = rest.split_first_chunk()?;
        let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
            rest = after;
            return Some(None);
        };
        let (field, after) = after.split_at(length);
        rest = after;
        Some(Some(field))
    })
}

/// The value of a field.
fn value(kind: Kind, field: Option<&[u8]>) -> Result<Value, Broken> {
    field.map_or(Ok(Value::Null), |field| kind.from_binary(field)).map_err(|_| Broken(NOT_OF_ITS_TYPE))
}

/// Reads a row that is there whole.
pub(super) fn row(kinds: &[Kind], bytes: &[u8]) -> Result<Row, Broken> {
    kinds.iter().zip(fields(bytes)).map(|(kind, field)| value(*kind, field)).collect()
}

/// Whole rows as they came.
pub(super) struct Packed {
    relation: Arc<Relation>,
    kinds: Arc<[Kind]>,
    bytes: Vec<u8>,
    /// Where the next row begins.
    at: usize,
    /// Where its fields lie.
    fields: Vec<Option<Range<usize>>>,
}

impl Packed {
    /// Rows that a framer found, one behind the other.
    pub(super) fn new(shape: &Shape, kinds: &Arc<[Kind]>, bytes: Vec<u8>) -> Self {
        let (relation, kinds) = (Arc::clone(&shape.relation), Arc::clone(kinds));
        Self { relation, kinds, bytes, at: 0, fields: Vec::new() }
    }

    /// Finds the fields of the next row; answers false after the last.
    fn advance(&mut self) -> bool {
        if self.at == self.bytes.len() {
            return false;
        }
        self.fields.clear();
        let mut at = self.at + 2;
        for field in fields(&self.bytes[self.at..]).take(self.kinds.len()) {
            at += 4;
            let length = field.map_or(0, <[u8]>::len);
            self.fields.push(field.map(|_| at..at + length));
            at += length;
        }
        self.at = at;
        true
    }

    /// A field of the row; `None` for NULL.
    fn field(&self, column: usize) -> Option<&[u8]> {
        self.fields[column].clone().map(|place| &self.bytes[place])
    }
}

impl Rows for Packed {
    fn relation(&self) -> &Arc<Relation> {
        &self.relation
    }

    fn next(&mut self, columns: &[usize]) -> Result<Option<Vec<Value>>, Error> {
        if !self.advance() {
            return Ok(None);
        }
        let wanted = columns.iter().map(|column| value(self.kinds[*column], self.field(*column)));
        let values: Result<Vec<Value>, Broken> = wanted.collect();
        values.map(Some).map_err(|broken| unreadable(ACTION, broken.to_string()))
    }

    fn next_encoded(&mut self, columns: &[usize], row: &mut EncodedRow) -> Result<bool, Error> {
        row.clear();
        if !self.advance() {
            return Ok(false);
        }
        for column in columns {
            let Some(field) = self.field(*column) else {
                row.push_cell(EncodedCell::NULL);
                continue;
            };
            row.push_with(|out| self.kinds[*column].put_canonical(field, out))
                .map_err(|_| unreadable(ACTION, Broken(NOT_OF_ITS_TYPE).to_string()))?;
        }
        Ok(true)
    }
}

/// Length of the header, once all of it is there.
fn header(bytes: &[u8]) -> Result<Option<usize>, Broken> {
    let known = bytes.len().min(SIGNATURE.len());
    if bytes[..known] != SIGNATURE[..known] {
        return Err(Broken("it does not begin as one"));
    }
    let Some(extension) = bytes.get(15..19) else { return Ok(None) };
    let extension = u32::from_be_bytes([extension[0], extension[1], extension[2], extension[3]]);
    let length = 19 + extension as usize;
    Ok((bytes.len() >= length).then_some(length))
}

/// Length of the row at the front with its count, once all of it is there.
fn row_length(bytes: &[u8], fields: usize) -> Result<Option<usize>, Broken> {
    let mut at = 2;
    for _ in 0..fields {
        let Some(length) = bytes.get(at..at + 4) else { return Ok(None) };
        let length = i32::from_be_bytes([length[0], length[1], length[2], length[3]]);
        at += 4;
        match usize::try_from(length) {
            Ok(length) => at += length,
            Err(_) if length == -1 => {}
            Err(_) => return Err(Broken("a field of negative length")),
        }
    }
    Ok((bytes.len() >= at).then_some(at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Column, RelationName};

    const KINDS: [Kind; 2] = [Kind::Int4, Kind::Text];

    fn framer() -> Framer {
        Framer { fields: KINDS.len(), pending: Vec::new(), header: false, ended: false }
    }

    fn bytes() -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend_from_slice(&[0; 8]);
        for (number, text) in [(1, Some("one")), (2, None)] {
            bytes.extend_from_slice(&2i16.to_be_bytes());
            bytes.extend_from_slice(&4i32.to_be_bytes());
            bytes.extend_from_slice(&i32::to_be_bytes(number));
            match text {
                Some(text) => {
                    bytes.extend_from_slice(&i32::try_from(text.len()).expect("short").to_be_bytes());
                    bytes.extend_from_slice(text.as_bytes());
                }
                None => bytes.extend_from_slice(&(-1i32).to_be_bytes()),
            }
        }
        bytes.extend_from_slice(&(-1i16).to_be_bytes());
        bytes
    }

    #[test]
    fn rows_read_however_the_messages_are_cut() {
        let expected: Vec<Row> = vec![
            [Value::Int(1), Value::text("one")].into_iter().collect(),
            [Value::Int(2), Value::Null].into_iter().collect(),
        ];
        let relation = |table: &str| {
            let column = |name: &str| Column { name: name.into(), type_name: "text".into(), key_part: None };
            let name = RelationName { schema: "public".into(), table: table.into() };
            Arc::new(Relation { name, columns: ["id", "text"].map(column).into_iter().collect() })
        };
        for size in 1..bytes().len() {
            let (mut framer, mut rows, mut packed) = (framer(), Vec::new(), Vec::new());
            for message in bytes().chunks(size) {
                let fed = framer.feed(message, |bytes| {
                    packed.extend_from_slice(bytes);
                    rows.push(row(&KINDS, bytes)?);
                    Ok(())
                });
                fed.expect("a copy");
            }
            framer.finish().expect("an end");
            assert_eq!(rows, expected, "messages of {size} bytes");
            for columns in [&[0, 1][..], &[1, 0], &[1]] {
                let (relation, kinds, fields) = (relation("t"), KINDS.into(), Vec::new());
                let mut packed = Packed { relation, kinds, bytes: packed.clone(), at: 0, fields };
                let taken: Vec<Vec<Value>> = std::iter::from_fn(|| packed.next(columns).expect("a row")).collect();
                let of = |row: &Row| columns.iter().filter_map(|at| row.0[*at].value().cloned()).collect::<Vec<_>>();
                assert_eq!(taken, expected.iter().map(of).collect::<Vec<_>>());
                packed.at = 0;
                let mut encoded = EncodedRow::default();
                let again = std::iter::from_fn(|| {
                    packed
                        .next_encoded(columns, &mut encoded)
                        .expect("a row")
                        .then(|| encoded.values().expect("it reads"))
                });
                assert_eq!(again.collect::<Vec<_>>(), taken);
            }
        }
    }

    #[test]
    fn a_copy_cut_short_is_no_copy() {
        let nothing = |_: &[u8]| Ok(());
        for length in 0..bytes().len() - 1 {
            let mut framer = framer();
            let fed = framer.feed(&bytes()[..length], nothing);
            assert!(fed.is_err() || framer.finish().is_err(), "{length} bytes");
        }
        let longer = [bytes(), vec![0]].concat();
        assert!(framer().feed(&longer, nothing).is_err());
    }
}

//! Rows as COPY takes them in binary form: what both sides would else print and read digit by digit is sent as it is kept.
//!
//! The layout is that of "Binary Format" in the server's documentation of COPY.

use crate::event::Value;
use crate::postgres::codec::Kind;
use crate::target::TableShape;

/// What a stream in binary form begins with: its signature, no flags, no extension.
const HEAD: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What it ends with, where another row would have its count of fields.
const END: [u8; 2] = (-1_i16).to_be_bytes();
/// Length of a field that is NULL.
const NULL: [u8; 4] = (-1_i32).to_be_bytes();

/// Bytes that are sent at once, about: buffers of some megabytes are asked of the system anew each time, which clears their pages.
const CHUNK: usize = 256 * 1024;

/// Rows on their way into one table.
pub struct Rows {
    full: Vec<Vec<u8>>,
    bytes: Vec<u8>,
}

impl Rows {
    /// No rows yet.
    pub fn new() -> Self {
        Self { full: Vec::new(), bytes: HEAD.to_vec() }
    }

    /// Begins a row of so many fields.
    pub fn begin(&mut self, fields: usize) {
        let fields = i16::try_from(fields).expect("a table has fewer than 1,600 columns");
        if self.bytes.len() >= CHUNK {
            let next = Vec::with_capacity(CHUNK + CHUNK / 8);
            self.full.push(std::mem::replace(&mut self.bytes, next));
        }
        self.bytes.extend_from_slice(&fields.to_be_bytes());
    }

    /// Adds a field to the row; `put` answers whether it could append it.
    pub fn field(&mut self, put: impl FnOnce(&mut Vec<u8>) -> bool) -> bool {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&NULL);
        let there = put(&mut self.bytes);
        let length = self.bytes.len() - start - NULL.len();
        // A field beyond a gigabyte is refused by the server, whatever its length says.
        let length = i32::try_from(length).unwrap_or(i32::MAX);
        self.bytes[start..start + NULL.len()].copy_from_slice(&length.to_be_bytes());
        there
    }

    /// Adds a row of a table; answers false when a value of it has no binary form that we know: the rows are to be sent as
    /// text then.
    pub fn row(&mut self, kinds: &[Kind], values: &[Value]) -> bool {
        self.begin(values.len());
        values.iter().zip(kinds).all(|(value, kind)| match value {
            Value::Null => {
                self.bytes.extend_from_slice(&NULL);
                true
            }
            value => self.field(|out| kind.put_binary(value, out)),
        })
    }

    /// The whole stream, in pieces.
    pub fn finish(mut self) -> Vec<Vec<u8>> {
        self.bytes.extend_from_slice(&END);
        self.full.push(self.bytes);
        self.full
    }
}

/// How the columns of a table are sent; `None` where one of them is of a type that only goes as text.
pub fn kinds(shape: &TableShape) -> Option<Vec<Kind>> {
    // A name that is too long is cut as text, and refused in binary form.
    let kind = |name: &str| if name == "name" { Kind::Other } else { Kind::named(name) };
    let kinds = shape.columns.iter().map(|column| kind(&column.type_name));
    kinds.map(|kind| (kind != Kind::Other).then_some(kind)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_laid_out_as_the_documentation_says() {
        let mut rows = Rows::new();
        assert!(rows.row(&[Kind::Int2, Kind::Text], &[Value::Int(5), Value::Null]));
        assert!(!rows.row(&[Kind::Int2], &[Value::Int(70_000)]));
        let first = [0, 2, 0, 0, 0, 2, 0, 5, 255, 255, 255, 255];
        assert!(rows.finish().concat().starts_with(&[HEAD, &first].concat()));
        assert_eq!(Rows::new().finish(), [[HEAD, &[255, 255]].concat()]);
        assert_eq!(HEAD.len(), 19);
    }

    #[test]
    fn many_rows_are_sent_in_pieces_that_together_are_all_of_them() {
        let mut rows = Rows::new();
        let text = Value::text("x".repeat(CHUNK / 3));
        (0..10).for_each(|_| assert!(rows.row(&[Kind::Text], std::slice::from_ref(&text))));
        let pieces = rows.finish();
        assert!(pieces.len() > 2, "{} pieces", pieces.len());
        assert_eq!(pieces.concat().len(), HEAD.len() + 10 * (2 + 4 + CHUNK / 3) + END.len());
    }
}

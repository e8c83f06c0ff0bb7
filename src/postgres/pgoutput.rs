//! The messages of `pgoutput`, protocol version 1, as they are on the wire.
//!
//! Begin, commit and logical messages are parsed by the transport; what comes here are relations, types, origins, changes
//! and truncations. Values stay the message's own bytes, borrowed: what they mean is for [`assemble`](super::assemble) to
//! say. Holding each value as a counted slice instead cost a twelfth of the whole stream's time.

/// A message from inside a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message<'a> {
    /// The shape of a relation, sent before its first change in a session and after every change of shape.
    Relation(RelationMessage),
    /// A type that is not built in; its name is read from the catalog, so only its OID is kept.
    Type(u32),
    /// The transaction came here from another server.
    Origin,
    /// A row was inserted.
    Insert {
        /// The relation's OID.
        relation: u32,
        /// The row.
        new: Tuple<'a>,
    },
    /// A row was updated.
    Update {
        /// The relation's OID.
        relation: u32,
        /// What the stream tells of the row before.
        old: Option<Old<'a>>,
        /// The row after.
        new: Tuple<'a>,
    },
    /// A row was deleted.
    Delete {
        /// The relation's OID.
        relation: u32,
        /// What the stream tells of the row.
        old: Old<'a>,
    },
    /// Relations were emptied together.
    Truncate {
        /// The relations' OIDs.
        relations: Vec<u32>,
    },
}

/// The shape of a relation as the stream tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelationMessage {
    /// Its OID.
    pub oid: u32,
    /// Its schema; `pg_catalog` arrives as an empty name and is restored here.
    pub schema: String,
    /// Its name.
    pub table: String,
    /// Its columns, without generated ones.
    pub columns: Vec<ColumnMessage>,
}

/// A column as the stream tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnMessage {
    /// Whether the column is part of the replica identity; under `FULL` every column is.
    pub identity: bool,
    /// Its name.
    pub name: String,
    /// OID of its type.
    pub type_oid: u32,
}

/// What a change tells of the row before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Old<'a> {
    /// Only the replica identity's columns are told; the others read as null and mean nothing (P4).
    Key(Tuple<'a>),
    /// The whole row, under `REPLICA IDENTITY FULL`.
    Full(Tuple<'a>),
}

/// The cells of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tuple<'a>(pub Vec<TupleCell<'a>>);

/// One cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TupleCell<'a> {
    /// NULL.
    Null,
    /// A TOAST value that the change did not touch and the stream does not tell (P1).
    Unchanged,
    /// The value's text.
    Text(&'a [u8]),
}

/// The message breaks the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a pgoutput message of kind {kind:#04x} breaks the protocol: {what}")]
pub struct Broken {
    /// First byte of the message.
    pub kind: u8,
    /// What is wrong.
    pub what: &'static str,
}

/// Reads one message.
///
/// # Errors
/// [`Broken`] when the bytes are not a message of protocol 1.
pub fn parse(data: &[u8]) -> Result<Message<'_>, Broken> {
    let kind = data.first().copied().unwrap_or(0);
    let mut reader = Reader { kind, rest: data, at: 1 };
    let message = match kind {
        b'R' => Message::Relation(reader.relation()?),
        b'Y' => {
            let oid = reader.u32()?;
            reader.string()?;
            reader.string()?;
            Message::Type(oid)
        }
        b'O' => {
            reader.take(8)?;
            reader.string()?;
            Message::Origin
        }
        b'I' => {
            let relation = reader.u32()?;
            match reader.u8()? {
                b'N' => Message::Insert { relation, new: reader.tuple()? },
                _ => return Err(reader.broken("no new row")),
            }
        }
        b'U' => reader.update()?,
        b'D' => {
            let relation = reader.u32()?;
            let mark = reader.u8()?;
            Message::Delete { relation, old: reader.old(mark)? }
        }
        b'T' => {
            let count = reader.u32()? as usize;
            reader.u8()?;
            // A hostile count cannot allocate: each element takes four bytes that must be there.
            let relations = (0..count).map(|_| reader.u32()).collect::<Result<_, _>>()?;
            Message::Truncate { relations }
        }
        _ => return Err(reader.broken("unknown kind")),
    };
    if reader.at == reader.rest.len() { Ok(message) } else { Err(reader.broken("trailing bytes")) }
}

/// Reads fields off a message's front.
struct Reader<'a> {
    kind: u8,
    rest: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn broken(&self, what: &'static str) -> Broken {
        Broken { kind: self.kind, what }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Broken> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.rest.len());
        let Some(end) = end else { return Err(self.broken("cut short")) };
        let taken = &self.rest[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn u8(&mut self) -> Result<u8, Broken> {
        Ok(self.take(1)?[0])
    }

    fn u16(&mut self) -> Result<u16, Broken> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn u32(&mut self) -> Result<u32, Broken> {
        let bytes = self.take(4)?;
        Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn string(&mut self) -> Result<String, Broken> {
        let rest = &self.rest[self.at..];
        let Some(length) = rest.iter().position(|byte| *byte == 0) else {
            return Err(self.broken("an unterminated name"));
        };
        let text = std::str::from_utf8(&rest[..length]).map(str::to_owned);
        self.at += length + 1;
        text.map_err(|_| self.broken("a name that is not UTF-8"))
    }

    fn relation(&mut self) -> Result<RelationMessage, Broken> {
        let oid = self.u32()?;
        let schema = self.string()?;
        let table = self.string()?;
        self.u8()?;
        let count = self.u16()?;
        let mut columns = Vec::new();
        for _ in 0..count {
            let identity = self.u8()? & 1 == 1;
            let name = self.string()?;
            let type_oid = self.u32()?;
            self.u32()?;
            columns.push(ColumnMessage { identity, name, type_oid });
        }
        let schema = if schema.is_empty() { "pg_catalog".to_owned() } else { schema };
        Ok(RelationMessage { oid, schema, table, columns })
    }

    fn update(&mut self) -> Result<Message<'a>, Broken> {
        let relation = self.u32()?;
        let mut mark = self.u8()?;
        let mut old = None;
        if mark != b'N' {
            old = Some(self.old(mark)?);
            mark = self.u8()?;
        }
        if mark != b'N' {
            return Err(self.broken("no new row"));
        }
        Ok(Message::Update { relation, old, new: self.tuple()? })
    }

    fn old(&mut self, mark: u8) -> Result<Old<'a>, Broken> {
        match mark {
            b'K' => self.tuple().map(Old::Key),
            b'O' => self.tuple().map(Old::Full),
            _ => Err(self.broken("no old row")),
        }
    }

    fn tuple(&mut self) -> Result<Tuple<'a>, Broken> {
        let count = usize::from(self.u16()?);
        let mut cells = Vec::with_capacity(count);
        for _ in 0..count {
            cells.push(match self.u8()? {
                b'n' => TupleCell::Null,
                b'u' => TupleCell::Unchanged,
                b't' => {
                    let length = self.u32()? as usize;
                    TupleCell::Text(self.take(length)?)
                }
                _ => return Err(self.broken("an unknown kind of cell")),
            });
        }
        Ok(Tuple(cells))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UPDATE: &[u8] = b"U\0\0\0\x07K\0\x02t\0\0\0\x011nN\0\x02t\0\0\0\x012u";

    #[test]
    fn an_update_with_old_key_and_unchanged_toast_reads() {
        assert_eq!(
            parse(UPDATE),
            Ok(Message::Update {
                relation: 7,
                old: Some(Old::Key(Tuple(vec![TupleCell::Text(b"1"), TupleCell::Null]))),
                new: Tuple(vec![TupleCell::Text(b"2"), TupleCell::Unchanged]),
            })
        );
    }

    #[test]
    fn a_truncation_names_every_relation() {
        assert_eq!(parse(b"T\0\0\0\x02\x02\0\0\0\x05\0\0\0\x06"), Ok(Message::Truncate { relations: vec![5, 6] }));
    }

    #[test]
    fn no_cut_or_lengthened_message_is_read() {
        for length in 0..UPDATE.len() {
            assert!(parse(&UPDATE[..length]).is_err(), "{length} bytes");
        }
        assert!(parse(&[UPDATE, b"x"].concat()).is_err());
        assert!(parse(b"T\xff\xff\xff\xff\x00").is_err());
    }
}

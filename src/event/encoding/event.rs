//! Encoding of events: one byte that says what is there, then the parts.
//!
//! ```text
//! head      op in bits 0-2, then a bit each: old key, before, after, transaction, deleted by time to live
//! origin    tag, for a snapshot the range
//! relation  16 bytes
//! version   epoch, class, position without leading zeros, ordinal
//! then, where the head says so: transaction; key always; old key; before; after
//! ```

use super::reader::put_varint;
use super::{Canonical, DecodeError, Reader};
use crate::event::{
    Class, Epoch, Event, Flags, Key, Lsn, Op, Origin, Row, SchemaHash, Timestamp, Transaction, Value, Version,
};

/// Bits of the head byte that hold the operation.
const OP_MASK: u8 = 0b0000_0111;
/// The event has an old key.
const OLD_KEY: u8 = 1 << 3;
/// The event has a row before.
const BEFORE: u8 = 1 << 4;
/// The event has a row after.
const AFTER: u8 = 1 << 5;
/// The event has a transaction.
const TRANSACTION: u8 = 1 << 6;
/// [`Flags::ttl_delete`].
const TTL_DELETE: u8 = 1 << 7;

impl Canonical for Event {
    fn put(&self, out: &mut Vec<u8>) {
        let bit = |there: bool, bit: u8| if there { bit } else { 0 };
        out.push(
            self.op.code()
                | bit(self.old_key.is_some(), OLD_KEY)
                | bit(self.before.is_some(), BEFORE)
                | bit(self.after.is_some(), AFTER)
                | bit(self.transaction.is_some(), TRANSACTION)
                | bit(self.flags.ttl_delete, TTL_DELETE),
        );
        self.origin.put(out);
        out.extend_from_slice(&self.relation.0);
        self.version.put(out);
        if let Some(transaction) = &self.transaction {
            transaction.put(out);
        }
        self.key.put(out);
        if let Some(key) = &self.old_key {
            key.put(out);
        }
        for row in [&self.before, &self.after].into_iter().flatten() {
            row.put(out);
        }
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let head = reader.byte()?;
        let there = |bit: u8| head & bit != 0;
        let op = Op::from_code(head & OP_MASK).ok_or(DecodeError::Tag(head))?;
        let origin = Origin::take(reader)?;
        let relation = SchemaHash(reader.array()?);
        let version = Version::take(reader)?;
        let transaction = there(TRANSACTION).then(|| Transaction::take(reader)).transpose()?;
        let key = Key::take(reader)?;
        let old_key = there(OLD_KEY).then(|| Key::take(reader)).transpose()?;
        let before = there(BEFORE).then(|| Row::take(reader)).transpose()?;
        let after = there(AFTER).then(|| Row::take(reader)).transpose()?;
        let flags = Flags { ttl_delete: there(TTL_DELETE) };
        Ok(Self { relation, op, key, old_key, before, after, version, transaction, origin, flags })
    }
}

impl Event {
    /// Whether the encoding reads back: lists and maps nest no deeper than [`NEST_MAX`](super::NEST_MAX).
    pub fn storable(&self) -> bool {
        let keys = [Some(&self.key), self.old_key.as_ref()].into_iter().flatten();
        let rows = [&self.before, &self.after].into_iter().flatten();
        keys.flat_map(|key| &key.0).all(Value::storable)
            && rows.flat_map(|row| &row.0).filter_map(|cell| cell.value()).all(Value::storable)
    }
}

impl Op {
    /// The operation's number, stored and digested.
    pub(crate) fn code(self) -> u8 {
        match self {
            Op::Read => 0,
            Op::Insert => 1,
            Op::Update => 2,
            Op::Delete => 3,
            Op::Truncate => 4,
            Op::Schema => 5,
            Op::Sweep => 6,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Op::Read,
            1 => Op::Insert,
            2 => Op::Update,
            3 => Op::Delete,
            4 => Op::Truncate,
            5 => Op::Schema,
            6 => Op::Sweep,
            _ => return None,
        })
    }
}

impl Canonical for Origin {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Origin::Snapshot { range } => {
                out.push(0);
                put_varint(u64::from(*range), out);
            }
            Origin::Stream => out.push(1),
            Origin::Sweep => out.push(2),
            Origin::Repair => out.push(3),
        }
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match reader.byte()? {
            0 => Origin::Snapshot { range: reader.varint_u32()? },
            1 => Origin::Stream,
            2 => Origin::Sweep,
            3 => Origin::Repair,
            unknown => return Err(DecodeError::Tag(unknown)),
        })
    }
}

impl Canonical for Version {
    fn put(&self, out: &mut Vec<u8>) {
        put_varint(u64::from(self.epoch.0), out);
        out.push(self.class as u8);
        let zeros = self.position.iter().take_while(|byte| **byte == 0).count();
        super::put_bytes(&self.position[zeros..], out);
        put_varint(u64::from(self.ordinal), out);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let epoch = Epoch(reader.varint_u32()?);
        let class = match reader.byte()? {
            0 => Class::Floor,
            1 => Class::Stream,
            unknown => return Err(DecodeError::Tag(unknown)),
        };
        let significant = reader.bytes()?;
        let mut position = [0; 17];
        let zeros = position.len().checked_sub(significant.len()).ok_or(DecodeError::Integer)?;
        if significant.first() == Some(&0) {
            return Err(DecodeError::Integer);
        }
        position[zeros..].copy_from_slice(significant);
        Ok(Self { epoch, class, position, ordinal: reader.varint_u32()? })
    }
}

impl Canonical for Transaction {
    fn put(&self, out: &mut Vec<u8>) {
        put_varint(u64::from(self.xid), out);
        put_varint(self.commit.0, out);
        out.extend_from_slice(&self.commit_time.0.to_be_bytes());
        out.push(u8::from(self.last));
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let xid = reader.varint_u32()?;
        let commit = Lsn(reader.varint()?);
        let commit_time = Timestamp(i64::from_be_bytes(reader.array()?));
        let last = match reader.byte()? {
            0 => false,
            1 => true,
            unknown => return Err(DecodeError::Tag(unknown)),
        };
        Ok(Self { xid, commit, commit_time, last })
    }
}

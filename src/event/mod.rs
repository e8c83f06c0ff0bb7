//! Events: what a source said happened to one row, with every digit kept (pure; nothing here does I/O).
//!
//! Read in this order: a [`Value`] is one cell, a [`Row`] the cells of one row in the order of its [`Relation`]'s columns,
//! a [`Key`] names the row, a [`Version`] orders what is known of it (I3), an [`Event`] carries all of these.

mod decimal;
pub mod digest;
pub mod encoding;
mod json;
mod relation;
mod row;
#[cfg(test)]
pub(crate) mod strategies;
mod timestamp;
mod value;
mod version;

mod envelope;
mod hex;

pub use decimal::{Decimal, NotADecimal, Scientific};
pub use digest::{Digest, DigestKey, Digester, KeyTag, event_id};
pub(crate) use encoding::ordered::front;
pub use encoding::{Canonical, DecodeError, EncodedCell, EncodedRow, Reader};
pub(crate) use encoding::{put_bytes, put_text, put_varint};
pub use envelope::{Event, Flags, Op, Origin, Transaction};
pub use hex::{from_hex, to_hex};
pub use json::{DEPTH_MAX, Json, JsonError};
pub use relation::{Column, Relation, RelationName, SchemaHash};
pub use row::{Cell, Key, Row, key_text};
pub use timestamp::{NotATimestamp, Timestamp};
pub use value::{Borrowed, Float, Value, rename_members};
pub use version::{Class, Epoch, Lsn, NotASequenceNumber, SequenceNumber, Version};

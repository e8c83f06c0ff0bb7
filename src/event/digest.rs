//! Digests: what a row or key is compared by, and what it is called in a log.
//!
//! A digest is a 256-bit blake3 keyed with a secret of the deployment, so that nobody who can write rows can aim for a
//! collision and nobody who reads a digest can guess the row. Domain, encoder version, table and column names go into the
//! key of a [`Digester`], once; only the values of each row are hashed with it. So rows of two tables, of two versions of
//! the encoding, or a row and a key, never compare equal by mistake. Values are digested [normalised](Value::normalised).

use std::fmt;

use super::encoding::{Canonical, FORMAT, put_bytes, put_text, put_varint};
use super::{Event, RelationName, Value};

/// A deployment's secret for digests.
#[derive(Clone)]
pub struct DigestKey([u8; 32]);

impl DigestKey {
    /// Uses 32 random bytes as the secret.
    pub fn new(secret: [u8; 32]) -> Self {
        Self(secret)
    }

    /// A key of its own for a purpose, and for the things that it is about.
    pub fn derive(&self, purpose: &str, about: &[&[u8]]) -> [u8; 32] {
        let mut shared = Vec::new();
        put_text("rehome derived key", &mut shared);
        put_text(purpose, &mut shared);
        shared.push(FORMAT);
        about.iter().for_each(|thing| put_bytes(thing, &mut shared));
        *blake3::keyed_hash(&self.0, &shared).as_bytes()
    }
}

impl fmt::Debug for DigestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DigestKey(secret)")
    }
}

/// A keyed 256-bit digest, shown in hex.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The short form for logs.
    pub fn tag(&self) -> KeyTag {
        let mut tag = [0; 8];
        tag.copy_from_slice(&self.0[..8]);
        KeyTag(tag)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

/// The first 8 bytes of a key's digest: names a row in logs without telling its key (I12).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyTag(pub [u8; 8]);

impl fmt::Display for KeyTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Debug for KeyTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

fn hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

/// Digests the rows, or the keys, of one table.
#[derive(Clone)]
pub struct Digester {
    /// Key derived from the deployment's and everything that all rows share.
    key: [u8; 32],
    /// Indexes of the values in the order of their columns' names.
    order: Vec<usize>,
}

impl Digester {
    /// Digests whole rows of `table`, whose values come in the order of `columns`.
    ///
    /// The digest depends on the columns' names and not on their order.
    pub fn rows<S: AsRef<str>>(key: &DigestKey, table: &str, columns: &[S]) -> Self {
        let mut order: Vec<_> = (0..columns.len()).collect();
        order.sort_by(|a, b| columns[*a].as_ref().cmp(columns[*b].as_ref()));
        Self::new(key, "row", table, columns, order)
    }

    /// Digests keys of `table`, whose values come in the order of `columns`, which matters.
    pub fn keys<S: AsRef<str>>(key: &DigestKey, table: &str, columns: &[S]) -> Self {
        Self::new(key, "key", table, columns, (0..columns.len()).collect())
    }

    fn new<S: AsRef<str>>(key: &DigestKey, domain: &str, table: &str, columns: &[S], order: Vec<usize>) -> Self {
        let mut shared = Vec::new();
        put_text("rehome digest", &mut shared);
        put_text(domain, &mut shared);
        shared.push(FORMAT);
        put_text(table, &mut shared);
        put_varint(columns.len() as u64, &mut shared);
        for index in &order {
            put_text(columns[*index].as_ref(), &mut shared);
        }
        Self { key: *blake3::keyed_hash(&key.0, &shared).as_bytes(), order }
    }

    /// Digest of one row's or key's values.
    ///
    /// # Panics
    /// When there is not one value for each column.
    pub fn digest(&self, values: &[Value]) -> Digest {
        self.digest_into(values, &mut Vec::with_capacity(256))
    }

    /// As [`digest`](Digester::digest), with a buffer to use again from row to row.
    ///
    /// # Panics
    /// When there is not one value for each column.
    pub fn digest_into(&self, values: &[Value], buffer: &mut Vec<u8>) -> Digest {
        assert_eq!(values.len(), self.order.len(), "a digest takes one value for each column");
        buffer.clear();
        put_alike(self.order.iter().map(|index| &values[*index]), buffer);
        Digest(*blake3::keyed_hash(&self.key, buffer).as_bytes())
    }
}

/// Appends values one behind the other, documents in one writing.
pub fn put_alike<'v>(values: impl Iterator<Item = &'v Value>, out: &mut Vec<u8>) {
    for value in values {
        match value {
            json @ Value::Json(_) => json.normalised().put(out),
            plain => plain.put(out),
        }
    }
}

impl fmt::Debug for Digester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Digester").field("columns", &self.order.len()).finish_non_exhaustive()
    }
}

/// Digest of one row; a [`Digester`] is faster for many.
pub fn row_digest<S: AsRef<str>>(key: &DigestKey, table: &str, columns: &[S], values: &[Value]) -> Digest {
    Digester::rows(key, table, columns).digest(values)
}

/// Digest of one key; a [`Digester`] is faster for many.
pub fn key_digest<S: AsRef<str>>(key: &DigestKey, table: &str, columns: &[S], values: &[Value]) -> Digest {
    Digester::keys(key, table, columns).digest(values)
}

/// The id of an event: the same each time the source tells it again, also after its contents were decoded better.
///
/// From what names the event (source, epoch, relation, key, class, position, ordinal, op), never from its rows.
pub fn event_id(source: &str, event: &Event, relation: &RelationName) -> uuid::Uuid {
    let mut named = Vec::with_capacity(128);
    put_text(source, &mut named);
    relation.put(&mut named);
    put_bytes(&event.version.to_bytes(), &mut named);
    event.key.put(&mut named);
    named.push(event.op.code());
    let mut hasher = blake3::Hasher::new_derive_key("rehome event id v1");
    hasher.update(&named);
    let mut id = [0; 16];
    id.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    uuid::Uuid::new_v8(id)
}

#[cfg(test)]
mod tests;

//! The canonical encoding (I10): one byte string for each value, and one value for each byte string.
//!
//! Everything that is stored or digested goes through it. Three properties, each kept by construction and by a test:
//!
//! - **Exact.** `decode(encode(x)) == x`, with every digit of a decimal and every bit of a double.
//! - **Injective.** Every part is tagged and of self-delimiting length, so no two values share bytes and no value's bytes
//!   are a prefix of another's.
//! - **Canonical.** A reader refuses every other spelling: a length written longer than need be, a map or set out of order
//!   or with a key twice, an unknown tag, bytes left over. So equal bytes and equal values are the same thing.
//!
//! Bytes from a disk are outside data: decoding never panics, never reserves more memory than the input's length
//! justifies, and bounds depth.
//!
//! Layout: [`Canonical::encode`] writes [`FORMAT`] and a body; bodies nest without repeating it. Integers are LEB128,
//! signed ones in zigzag; texts and bytes are length and content. [`ordered`] has a second form for keys, whose byte
//! order is the order of keys; both are version 1.

mod event;
pub mod ordered;
mod reader;
mod relation;
mod row;
mod value;

pub use reader::{DecodeError, Reader};
pub(crate) use reader::{put_bytes, put_text, put_varint};
pub(crate) use row::empty;
pub use row::{EncodedCell, EncodedRow};
pub(crate) use value::put_decimal_with;

/// Version of the encoding, the first byte of every standalone encoded thing and part of every digest's key.
pub const FORMAT: u8 = 1;

/// Lists and maps may nest so deep; DynamoDB stops at 32.
///
/// Deeper values still encode, so that digests are total, but do not decode: whoever stores must ask
/// [`Event::storable`](super::Event::storable) first.
pub const NEST_MAX: usize = 64;

/// A thing with a canonical encoding.
pub trait Canonical: Sized {
    /// Appends the body, without the format.
    fn put(&self, out: &mut Vec<u8>);

    /// Reads a body.
    ///
    /// # Errors
    /// [`DecodeError`] when the bytes are not what [`put`](Canonical::put) would have written.
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError>;

    /// The standalone form: format and body.
    fn encode(&self) -> Vec<u8> {
        let mut out = vec![FORMAT];
        self.put(&mut out);
        out
    }

    /// Reads the standalone form, the whole of it.
    ///
    /// # Errors
    /// [`DecodeError`] when the bytes are not what [`encode`](Canonical::encode) would have written.
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        match reader.byte()? {
            FORMAT => {}
            found => return Err(DecodeError::Format(found)),
        }
        let value = Self::take(&mut reader)?;
        reader.finish()?;
        Ok(value)
    }
}

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod tests;

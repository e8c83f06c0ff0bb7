//! Primitives of the encoding: the reader that trusts nothing, and the writers beside it.

use super::NEST_MAX;
use crate::event::Decimal;

/// Why bytes are not a canonical encoding; never with the bytes themselves (I12).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The first byte names a format that this reader does not know.
    #[error("unknown encoding format {0}")]
    Format(u8),
    /// The bytes end inside a value.
    #[error("the encoding ends too early")]
    End,
    /// Bytes are left after the value.
    #[error("the encoding is followed by other bytes")]
    Trailing,
    /// A tag or flag that does not exist.
    #[error("unknown tag {0}")]
    Tag(u8),
    /// An integer that is written longer than need be, or does not fit.
    #[error("an integer is not in its shortest form")]
    Integer,
    /// A text is not UTF-8.
    #[error("a text is not UTF-8")]
    Utf8,
    /// A decimal's text is not a decimal.
    #[error("a decimal is not a number")]
    Decimal,
    /// A map or set is not in strictly ascending order.
    #[error("a map or set is out of order")]
    Order,
    /// Lists and maps nest too deep.
    #[error("values nest deeper than {NEST_MAX}")]
    Depth,
}

/// Reads encoded bytes from front to back.
#[derive(Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    depth: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the front of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, depth: 0 }
    }

    /// Whether everything was read.
    pub fn at_end(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Number of bytes not yet read.
    pub fn remaining(&self) -> usize {
        self.bytes.len()
    }

    /// Ends reading.
    ///
    /// # Errors
    /// [`DecodeError::Trailing`] when bytes are left.
    pub fn finish(self) -> Result<(), DecodeError> {
        if self.at_end() { Ok(()) } else { Err(DecodeError::Trailing) }
    }

    /// The next byte.
    pub(crate) fn byte(&mut self) -> Result<u8, DecodeError> {
        let (&byte, rest) = self.bytes.split_first().ok_or(DecodeError::End)?;
        self.bytes = rest;
        Ok(byte)
    }

    /// The next `count` bytes.
    pub(crate) fn raw(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.bytes.split_at_checked(count).ok_or(DecodeError::End)?;
        self.bytes = rest;
        Ok(taken)
    }

    /// The next `N` bytes.
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.bytes.split_first_chunk::<N>().ok_or(DecodeError::End)?;
        self.bytes = rest;
        Ok(*taken)
    }

    /// An unsigned LEB128 integer in its shortest form.
    pub(crate) fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit only; a last byte of zero means that the one before could have ended.
            if (shift == 63 && part > 1) || (shift > 0 && byte == 0) {
                return Err(DecodeError::Integer);
            }
            value |= part << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::Integer)
    }

    /// A [`varint`](Reader::varint) that fits 32 bits.
    pub(crate) fn varint_u32(&mut self) -> Result<u32, DecodeError> {
        u32::try_from(self.varint()?).map_err(|_| DecodeError::Integer)
    }

    /// A signed integer in zigzag.
    pub(crate) fn zigzag(&mut self) -> Result<i64, DecodeError> {
        let value = self.varint()?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    /// A count of parts that each take at least one byte, so it cannot exceed what is left: a hostile count reserves nothing.
    pub(crate) fn count(&mut self) -> Result<usize, DecodeError> {
        let count = usize::try_from(self.varint()?).map_err(|_| DecodeError::End)?;
        if count <= self.remaining() { Ok(count) } else { Err(DecodeError::End) }
    }

    /// Length-prefixed bytes.
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let count = self.count()?;
        self.raw(count)
    }

    /// Length-prefixed text.
    pub(crate) fn text(&mut self) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| DecodeError::Utf8)
    }

    /// A decimal, by its text.
    pub(crate) fn decimal(&mut self) -> Result<Decimal, DecodeError> {
        Decimal::parse(self.text()?).map_err(|_| DecodeError::Decimal)
    }

    /// Reads something one level deeper.
    pub(crate) fn nested<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        if self.depth == NEST_MAX {
            return Err(DecodeError::Depth);
        }
        self.depth += 1;
        let value = read(self);
        self.depth -= 1;
        value
    }
}

/// Appends an unsigned integer in LEB128.
pub(crate) fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a signed integer in zigzag, so that small negative ones stay short.
pub(crate) fn put_zigzag(value: i64, out: &mut Vec<u8>) {
    put_varint(((value << 1) ^ (value >> 63)).cast_unsigned(), out);
}

/// Appends bytes after their length.
pub(crate) fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Appends text after its length.
pub(crate) fn put_text(text: &str, out: &mut Vec<u8>) {
    put_bytes(text.as_bytes(), out);
}

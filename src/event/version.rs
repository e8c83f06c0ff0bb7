//! Versions: what is known later about one source row (I3).

use std::fmt;

/// Counts the times continuity with the source began anew: a new slot, a failover, a new stream. Starts at 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(pub u32);

/// Whether a row was read from a snapshot or told by the change stream; the stream wins within an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Read from a snapshot: the floor of its epoch.
    Floor = 0,
    /// Told by the change stream, or read under the xid-visibility rule.
    Stream = 1,
}

/// A Postgres log sequence number, shown as Postgres shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Lsn(pub u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

impl std::str::FromStr for Lsn {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (high, low) = text.split_once('/').unwrap_or(("0", text));
        Ok(Lsn(u64::from_str_radix(high, 16)? << 32 | u64::from_str_radix(low, 16)?))
    }
}

/// A sequence number of a DynamoDB stream: a decimal of up to 40 digits, as big-endian bytes.
///
/// Numbers of different lengths compare by value, which their texts do not; `u128` ends inside 39 digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SequenceNumber(pub [u8; 17]);

/// The text is not a sequence number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a sequence number of 1 to 40 digits")]
pub struct NotASequenceNumber;

impl std::str::FromStr for SequenceNumber {
    type Err = NotASequenceNumber;

    fn from_str(text: &str) -> Result<Self, NotASequenceNumber> {
        if !(1..=40).contains(&text.len()) || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(NotASequenceNumber);
        }
        let mut number = [0u8; 17];
        for digit in text.bytes() {
            // Ten times what there is, plus the digit: 40 digits need 133 of the 136 bits.
            let mut carry = u16::from(digit - b'0');
            for byte in number.iter_mut().rev() {
                let product = u16::from(*byte) * 10 + carry;
                *byte = (product & 0xff) as u8;
                carry = product >> 8;
            }
        }
        Ok(Self(number))
    }
}

/// Orders what is known of one source row; compared field by field, epoch first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version {
    /// Continuity with the source.
    pub epoch: Epoch,
    /// Snapshot or stream.
    pub class: Class,
    /// Postgres: LSN of the commit. DynamoDB: sequence number, up to 40 digits, as big-endian bytes. Floor rows: zero.
    pub position: [u8; 17],
    /// Place within the position: the change's index in its transaction.
    pub ordinal: u32,
}

impl Version {
    /// Length of [`Version::to_bytes`].
    pub const LEN: usize = 26;

    /// The version of every snapshot row of an epoch.
    pub fn floor(epoch: Epoch) -> Self {
        Self { epoch, class: Class::Floor, position: [0; 17], ordinal: 0 }
    }

    /// The version of a change at `ordinal` in the Postgres transaction committed at `commit`.
    pub fn postgres(epoch: Epoch, commit: Lsn, ordinal: u32) -> Self {
        let mut position = [0; 17];
        position[9..].copy_from_slice(&commit.0.to_be_bytes());
        Self { epoch, class: Class::Stream, position, ordinal }
    }

    /// The version of a DynamoDB stream's record.
    pub fn dynamo(epoch: Epoch, sequence: SequenceNumber) -> Self {
        Self { epoch, class: Class::Stream, position: sequence.0, ordinal: 0 }
    }

    /// The version of row `ordinal`, counted from 1, of the `reading`th reading of a file that stands for a table.
    ///
    /// It comes after everything that the epoch's snapshot and stream told of the table: their positions leave the first bit
    /// unset, an LSN having 64 bits and a sequence number less than 2 to the power of 133.
    pub fn file(epoch: Epoch, reading: u64, ordinal: u32) -> Self {
        let mut position = [0; 17];
        position[0] = 0x80;
        position[9..].copy_from_slice(&reading.to_be_bytes());
        Self { epoch, class: Class::Stream, position, ordinal }
    }

    /// Fixed-width form whose byte order is the order of versions.
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..4].copy_from_slice(&self.epoch.0.to_be_bytes());
        bytes[4] = self.class as u8;
        bytes[5..22].copy_from_slice(&self.position);
        bytes[22..].copy_from_slice(&self.ordinal.to_be_bytes());
        bytes
    }

    /// Reads [`Version::to_bytes`]; `None` when the bytes are not a version.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::LEN] = bytes.try_into().ok()?;
        let class = match bytes[4] {
            0 => Class::Floor,
            1 => Class::Stream,
            _ => return None,
        };
        Some(Self {
            epoch: Epoch(u32::from_be_bytes(bytes[..4].try_into().ok()?)),
            class,
            position: bytes[5..22].try_into().ok()?,
            ordinal: u32::from_be_bytes(bytes[22..].try_into().ok()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_order_as_versions_do() {
        let floor = Version::floor(Epoch(1));
        let early = Version::postgres(Epoch(1), Lsn(5), 9);
        let late = Version::postgres(Epoch(1), Lsn(300), 0);
        let newest = Version::dynamo(Epoch(1), "9".repeat(40).parse().expect("a sequence number"));
        let (file, again) = (Version::file(Epoch(1), 1, 7), Version::file(Epoch(1), 2, 0));
        let next = Version::floor(Epoch(2));
        for (a, b) in [(floor, early), (early, late), (late, newest), (newest, file), (file, again), (again, next)] {
            assert!(a < b && a.to_bytes() < b.to_bytes());
            assert_eq!(Version::from_bytes(&a.to_bytes()), Some(a));
        }
    }

    #[test]
    fn sequence_numbers_compare_by_value_at_every_length() {
        let number = |text: &str| text.parse::<SequenceNumber>().expect("a sequence number");
        let nines = "9".repeat(40);
        let sorted = [
            "1",
            "9",
            "10",
            "000000000000000000011",
            "99999999999999999999",
            "100000000000000000000",
            "340282366920938463463374607431768211455",
            "340282366920938463463374607431768211456",
            "999999999999999999999999999999999999999",
            "1000000000000000000000000000000000000000",
            &nines,
        ];
        for pair in sorted.windows(2) {
            assert!(number(pair[0]) < number(pair[1]), "{pair:?}");
            assert!(Version::dynamo(Epoch(1), number(pair[0])) < Version::dynamo(Epoch(1), number(pair[1])));
        }
        assert_eq!(number("0300").0[15..], [1, 44]);
        assert_eq!(number("007"), number("7"));
        for text in ["", "-1", "1e3", "1 ", &"1".repeat(41)] {
            assert_eq!(text.parse::<SequenceNumber>(), Err(NotASequenceNumber), "{text}");
        }
    }

    #[test]
    fn lsn_reads_as_it_prints() {
        let lsn = Lsn(0x16_B374_D848);
        assert_eq!(lsn.to_string(), "16/B374D848");
        assert_eq!("16/B374D848".parse(), Ok(lsn));
    }
}

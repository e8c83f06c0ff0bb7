//! Keys of parts: which unit, and which part of it is evaluated, written and parked together.
//!
//! A key is the unit's length (two bytes) and text, then the part: its length and bytes, or `ff ff` for the whole, which
//! therefore comes last of its unit. No key begins another, so the rows of a part stand together behind its key. Rows
//! without a unit stand behind keys of their own, whose first two bytes no unit's length has.

use crate::mapping::Part;

use super::Error;

/// Longest unit id in bytes. The state's keys have 64 KiB, and hold a unit, a part and the key of a row of it.
pub const UNIT_BYTES_MAX: usize = 16 * 1024;

/// Rows whose place is not known yet.
pub const WAITING: &[u8] = &[0xff, 0xff];
/// Begins the key of rows that their route quarantines; the reason follows.
const QUARANTINED: [u8; 2] = [0xff, 0xfe];
/// Rows of lookup tables.
pub const LOOKUP: &[u8] = &[0xff, 0xfd];
/// Stands for the whole of a unit, where another part has its length.
const WHOLE: [u8; 2] = [0xff, 0xff];

/// Begins the key of every part of a unit.
pub fn unit_key(unit: &str) -> Vec<u8> {
    unit_key_with(unit, 0)
}

/// As [`unit_key`], with room for so many bytes behind it.
fn unit_key_with(unit: &str, room: usize) -> Vec<u8> {
    let length = u16::try_from(unit.len()).expect("routes refuse unit ids over 16 KiB").to_be_bytes();
    let mut key = Vec::with_capacity(length.len() + unit.len() + room);
    key.extend_from_slice(&length);
    key.extend_from_slice(unit.as_bytes());
    key
}

/// Key of a part.
pub fn scope_key(unit: &str, part: &Part) -> Vec<u8> {
    let room = WHOLE.len() + if let Part::Of(bytes) = part { bytes.len() } else { 0 };
    let mut key = unit_key_with(unit, room);
    match part {
        Part::Whole => key.extend_from_slice(&WHOLE),
        Part::Of(bytes) => {
            let length = u16::try_from(bytes.len()).expect("parts have short names");
            key.extend_from_slice(&length.to_be_bytes());
            key.extend_from_slice(bytes);
        }
    }
    key
}

/// Key under which rows stand that their route quarantines.
pub fn quarantined(reason: &str) -> Vec<u8> {
    let length = u16::try_from(reason.len()).expect("reasons are words");
    [&QUARANTINED[..], &length.to_be_bytes(), reason.as_bytes()].concat()
}

/// What a key names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope<'a> {
    /// A part of a unit.
    Part {
        /// The unit.
        unit: &'a str,
        /// The part.
        part: Part,
    },
    /// Rows whose place is not known yet.
    Waiting,
    /// Rows that their route quarantines.
    Quarantined {
        /// Why.
        reason: &'a str,
    },
    /// Rows of lookup tables.
    Lookup,
}

impl<'a> Scope<'a> {
    /// Reads a key.
    ///
    /// # Errors
    /// [`Error::Damaged`] when the bytes are no such key.
    pub fn of(key: &'a [u8]) -> Result<Self, Error> {
        let read = || match key {
            WAITING => Some(Scope::Waiting),
            LOOKUP => Some(Scope::Lookup),
            [0xff, 0xfe, rest @ ..] => {
                let (length, reason) = rest.split_first_chunk::<2>()?;
                (usize::from(u16::from_be_bytes(*length)) == reason.len())
                    .then_some(Scope::Quarantined { reason: std::str::from_utf8(reason).ok()? })
            }
            _ => {
                let (scope, rest) = first(key)?;
                if !rest.is_empty() {
                    return None;
                }
                let (unit, part) = scope.split_at(unit_length(scope)?);
                let part = if part == WHOLE { Part::Whole } else { Part::Of(part[2..].into()) };
                Some(Scope::Part { unit: std::str::from_utf8(&unit[2..]).ok()?, part })
            }
        };
        read().ok_or(Error::Damaged("parts"))
    }
}

/// Whether a key names a part of a unit.
pub fn is_part(key: &[u8]) -> bool {
    key.first() != Some(&0xff)
}

/// The part of a scope's key that names its unit; the key of a pseudo-unit whole.
pub fn unit_of(key: &[u8]) -> &[u8] {
    if !is_part(key) {
        return key;
    }
    unit_length(key).and_then(|length| key.get(..length)).unwrap_or(key)
}

/// Whether the key names the whole of its unit.
pub fn is_whole(key: &[u8]) -> bool {
    is_part(key) && unit_length(key).is_some_and(|length| key.get(length..) == Some(&WHOLE))
}

/// Key of the whole of the unit that a part belongs to.
pub fn whole_of(key: &[u8]) -> Vec<u8> {
    [unit_of(key), &WHOLE].concat()
}

/// The unit's text.
pub fn unit_text(key: &[u8]) -> Result<&str, Error> {
    match Scope::of(key)? {
        Scope::Part { unit, .. } => Ok(unit),
        _ => Err(Error::Damaged("parts")),
    }
}

/// Splits the first of several keys that stand one behind the other.
pub fn first(keys: &[u8]) -> Option<(&[u8], &[u8])> {
    let unit = unit_length(keys)?;
    let length = keys.get(unit..)?.first_chunk::<2>()?;
    let part = if *length == WHOLE { 2 } else { 2 + usize::from(u16::from_be_bytes(*length)) };
    keys.split_at_checked(unit + part)
}

fn unit_length(key: &[u8]) -> Option<usize> {
    Some(2 + usize::from(u16::from_be_bytes(*key.first_chunk::<2>()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_back_and_the_whole_comes_last_of_its_unit() {
        let parts = [Part::Of([].into()), Part::Of([0xff, 0xff].into()), Part::Of([1; 300].into()), Part::Whole];
        let keys: Vec<Vec<u8>> = parts.iter().map(|part| scope_key("unit", part)).collect();
        for (key, part) in keys.iter().zip(&parts) {
            assert_eq!(Scope::of(key).expect("a key"), Scope::Part { unit: "unit", part: part.clone() });
            assert!(is_part(key) && *key <= keys[3]);
            assert_eq!((unit_of(key), is_whole(key)), (&unit_key("unit")[..], *part == Part::Whole));
            assert_eq!(whole_of(key), keys[3]);
        }
        let joined = keys.concat();
        let mut rest = joined.as_slice();
        for key in &keys {
            let (found, tail) = first(rest).expect("a key");
            assert_eq!(found, key);
            rest = tail;
        }
        assert!(rest.is_empty());
    }

    #[test]
    fn rows_without_a_unit_have_keys_of_their_own() {
        assert_eq!(Scope::of(WAITING).expect("a key"), Scope::Waiting);
        assert_eq!(Scope::of(LOOKUP).expect("a key"), Scope::Lookup);
        let key = quarantined("no_unit");
        assert_eq!(Scope::of(&key).expect("a key"), Scope::Quarantined { reason: "no_unit" });
        assert!(!is_part(&key) && unit_of(&key) == key);
        assert!(Scope::of(&[0, 3, b'a']).is_err() && Scope::of(&key[..5]).is_err());
    }
}

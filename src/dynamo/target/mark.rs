//! The two attributes that tell an item of ours from one of someone else: who wrote it, and at which version.
//!
//! They are the whole record that rehome keeps in a table of someone else's: there are no items of its own in it, and so
//! nothing is left of a part that has gone. Both are left out of what is read, and of what a mapping wants: an item that was
//! itself written by rehome can be copied on like any other.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;

use crate::dynamo::codec::Attributes;
use crate::event::{Value, from_hex, to_hex};
use crate::target::WriteVersion;

/// Attribute of the version of the write that last changed the item: binary, in the order of versions.
pub const VERSION: &str = "_rehome_v";
/// Attribute of the part that the item belongs to: the text of [`Owner`].
pub const OWNER: &str = "_rehome_u";

/// A part of a unit of a migration, as one text.
///
/// It is a JSON array of the migration, the unit and the part's bytes in hexadecimal digits: it reads back after the loss of
/// all local state, no unit's name runs into the next field, and all parts of a unit begin alike.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Owner(Box<str>);

impl Owner {
    /// Names a part.
    pub fn new(migration: &str, unit: &str, part: &[u8]) -> Self {
        Self(array(&[migration, unit, &to_hex(part)]).into())
    }

    /// What the text of every part of a unit, or of every unit of a migration, begins with.
    pub fn prefix(migration: &str, unit: Option<&str>) -> String {
        let mut text = match unit {
            Some(unit) => array(&[migration, unit]),
            None => array(&[migration]),
        };
        text.pop();
        text.push(',');
        text
    }

    /// Migration, unit and part; `None` when the text was not written by rehome.
    pub fn read(&self) -> Option<(String, String, Vec<u8>)> {
        let (migration, unit, part): (String, String, String) = serde_json::from_str(&self.0).ok()?;
        Some((migration, unit, from_hex(&part)?))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn array(parts: &[&str]) -> String {
    serde_json::to_string(parts).expect("texts are JSON")
}

/// What an item's two attributes say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The part that it belongs to.
    pub owner: Owner,
    /// The write that last changed it.
    pub version: WriteVersion,
}

impl Mark {
    /// Puts the mark on an item.
    pub fn put_on(&self, item: &mut Attributes) {
        item.insert(VERSION.to_owned(), version_value(self.version));
        item.insert(OWNER.to_owned(), AttributeValue::S(self.owner.as_str().to_owned()));
    }

    /// What the mark adds to an item's size.
    pub fn bytes(&self) -> usize {
        VERSION.len() + self.version.to_bytes().len() + OWNER.len() + self.owner.as_str().len()
    }

    /// Takes the mark off an item; `None` when it has none that rehome wrote.
    pub fn take_off(item: &mut BTreeMap<Box<str>, Value>) -> Option<Mark> {
        let (version, owner) = (item.remove(VERSION), item.remove(OWNER));
        match (version?, owner?) {
            (Value::Bytes(version), Value::Text(owner)) => {
                let owner = Owner(owner);
                owner.read()?;
                Some(Mark { owner, version: WriteVersion::from_bytes(&version)? })
            }
            _ => None,
        }
    }
}

/// Takes the mark off an item as it was read; answers with migration, unit and part, if rehome wrote it.
pub fn mark_of(item: &mut Value) -> Option<(String, String, Vec<u8>)> {
    match item {
        Value::Map(attributes) => Mark::take_off(attributes)?.owner.read(),
        _ => None,
    }
}

/// A version as an attribute value.
pub fn version_value(version: WriteVersion) -> AttributeValue {
    AttributeValue::B(Blob::new(version.to_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_reads_back_and_no_unit_is_the_beginning_of_another() {
        for (unit, part) in [("u", &b""[..]), ("u\",\"", b"\x00\xff"), ("한국", b"p"), ("", b"")] {
            let owner = Owner::new("m", unit, part);
            assert_eq!(owner.read(), Some(("m".to_owned(), unit.to_owned(), part.to_vec())));
            assert!(owner.as_str().starts_with(&Owner::prefix("m", Some(unit))));
            assert!(owner.as_str().starts_with(&Owner::prefix("m", None)));
            assert!(!Owner::new("m", &format!("{unit}1"), part).as_str().starts_with(&Owner::prefix("m", Some(unit))));
        }
        assert!(!Owner::new("m2", "u", b"").as_str().starts_with(&Owner::prefix("m", None)));
        assert_eq!(Owner("someone".into()).read(), None);
    }

    #[test]
    fn a_mark_comes_off_and_what_is_no_mark_is_none() {
        let version = WriteVersion { log: 1, mapping: 2, partition: 3, offset: 4 };
        let mark = Mark { owner: Owner::new("m", "u", b"p"), version };
        let mut attributes = Attributes::from([("a".to_owned(), AttributeValue::Null(true))]);
        mark.put_on(&mut attributes);
        let Value::Map(mut item) = crate::dynamo::codec::read_item(attributes).expect("an item") else {
            panic!("a map");
        };
        let unmarked: BTreeMap<_, _> = [(Box::from("a"), Value::Null)].into();
        assert_eq!(Mark::take_off(&mut item), Some(mark));
        assert_eq!(item, unmarked);
        let owner = || (Box::from(OWNER), Value::text("[\"m\",\"u\",\"\"]"));
        for theirs in [vec![owner()], vec![owner(), (VERSION.into(), Value::Bytes([1].into()))]] {
            assert_eq!(Mark::take_off(&mut theirs.into_iter().collect()), None);
        }
    }
}

//! `target.toml` as it is written: tables of a DynamoDB target.

use super::raw::{Name, Named};

/// `target.toml`.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Target {
    /// What the live name of every table ends with, after its name here; nothing when absent.
    #[serde(default)]
    pub suffix: String,
    /// Tables by name.
    pub table: Named<Table>,
}

/// One table.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Table {
    /// Attribute of the partition key.
    pub hash: Name,
    /// Attribute of the sort key.
    pub range: Option<Name>,
    /// How requests are paid for; only `on_demand` is built.
    pub billing: Name,
    /// Types of the attributes of all keys: `S`, `N` or `B`.
    pub attributes: Named<Name>,
    /// Global secondary indexes by name.
    #[serde(default)]
    pub index: Named<Index>,
}

/// A global secondary index.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Index {
    /// Attribute of its partition key.
    pub hash: Name,
    /// Attribute of its sort key.
    pub range: Option<Name>,
    /// What it holds: `all`, `keys_only`, or these attributes beside the keys.
    pub projection: Projection,
}

/// What an index holds.
#[derive(Debug)]
pub(super) enum Projection {
    /// One of the words.
    Word(String),
    /// Attributes beside the keys.
    Attributes(Vec<String>),
}

impl<'de> serde::Deserialize<'de> for Projection {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Projection;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("`all`, `keys_only`, or an array of attributes")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Projection, E> {
                Ok(Projection::Word(text.to_owned()))
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut items: A) -> Result<Projection, A::Error> {
                let mut attributes = Vec::new();
                while let Some(attribute) = items.next_element()? {
                    attributes.push(attribute);
                }
                Ok(Projection::Attributes(attributes))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

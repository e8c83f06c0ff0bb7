//! `[[query]]` as it is written: what a reader asks of the target.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

use super::raw::{Name, Named};

/// `[[query]]`.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Query {
    /// Name.
    pub name: Name,
    /// What it answers, in a sentence.
    pub about: String,
    /// What its caller gives, in order.
    #[serde(default)]
    pub parameters: Vec<Name>,
    /// Where the rows are read.
    #[serde(default)]
    pub read: Vec<Read>,
    /// Tables whose live keys and indexes are told instead of rows.
    #[serde(default)]
    pub describe: Vec<Name>,
    /// A member of which each value is told once, by the first row that has it.
    pub distinct: Option<Name>,
    /// Members that order the rows of one rank, null last, each with ` desc` after it for the greatest first.
    #[serde(default)]
    pub order: Vec<Name>,
    /// Rows told, at most.
    pub limit: Option<usize>,
    /// Members told, in this order; all when absent.
    #[serde(default)]
    pub select: Vec<Name>,
    /// Further members: other forms of those that are there.
    #[serde(default)]
    pub forms: Named<Form>,
}

/// `[[query.read]]`.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Read {
    /// Target tables that are read alike.
    pub from: Vec<Name>,
    /// Index of a DynamoDB table that is read instead of its key.
    pub index: Option<Name>,
    /// What columns or attributes must be.
    #[serde(default, rename = "where")]
    pub conditions: Named<Test>,
    /// Rows of a lower rank come first.
    #[serde(default)]
    pub rank: u16,
    /// Whether rows are read from the end of their key's order.
    #[serde(default)]
    pub descending: bool,
    /// Rows read of each table, at most.
    pub limit: Option<usize>,
    /// Whether whole tables may be read.
    #[serde(default)]
    pub scan: bool,
}

/// What a column or an attribute must be: a text with `{parameter}` in it.
#[derive(Debug)]
pub(super) enum Test {
    /// It equals this.
    Equals(String),
    /// It begins with this.
    StartsWith(String),
}

/// `{ starts_with = … }`.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct StartsWith {
    starts_with: String,
}

/// Another form of a member.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Form {
    /// A number of seconds since 1970 as ISO 8601.
    pub iso: Name,
}

impl<'de> Deserialize<'de> for Test {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TestVisitor)
    }
}

struct TestVisitor;

impl<'de> Visitor<'de> for TestVisitor {
    type Value = Test;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text with {parameter} in it, or { starts_with = … }")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Test, E> {
        Ok(Test::Equals(text.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Test, A::Error> {
        StartsWith::deserialize(MapAccessDeserializer::new(map)).map(|test| Test::StartsWith(test.starts_with))
    }
}

//! A first draft of a migration: what its files are to say, before they are written.

use std::collections::{BTreeMap, BTreeSet};

use crate::mapping::schema::{Kind, Store};

/// A migration whose every table becomes one table.
#[derive(Debug)]
pub(super) struct Draft {
    /// Its name.
    pub name: String,
    /// Namespace of ids.
    pub namespace: uuid::Uuid,
    pub source: Store,
    pub target: Store,
    pub tables: Vec<Table>,
    /// What stands before the target's tables: types of its own, the end of their live names.
    pub preamble: String,
    /// Tables of cases: an enum's labels, each for itself.
    pub cases: BTreeMap<String, Vec<Box<str>>>,
    /// Reasons of quarantine beyond those that rehome itself gives.
    pub reasons: BTreeSet<&'static str>,
    pub left_out: Vec<LeftOut>,
}

/// A table of the source that is not taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Its name.
    pub table: String,
    /// Why.
    pub why: String,
    /// What to do about it.
    pub fix: String,
}

/// A table, and the one that it becomes.
#[derive(Debug)]
pub(super) struct Table {
    /// What a reader of `legacy.toml` should know of it.
    pub about: Vec<String>,
    /// Name by which the mapping calls it.
    pub alias: String,
    /// Live schema, where it has to be said.
    pub schema: Option<String>,
    /// Live name.
    pub live: String,
    /// Columns of the key, by the mapping's names.
    pub key: Vec<String>,
    pub columns: Vec<Column>,
    /// Template of the unit.
    pub unit: String,
    /// What a reader should know of it.
    pub unit_about: Option<&'static str>,
    /// How a unit is found in the live store.
    pub unit_lookup: &'static str,
    /// The target's table by the mapping's name.
    pub target: String,
    /// Its live name.
    pub target_live: String,
    /// What a reader of its map should know.
    pub map_about: Vec<String>,
    pub fields: Vec<Field>,
    /// Attributes that are not carried, each with the reason.
    pub drop: Vec<(String, &'static str)>,
    /// The target's table as its definition has it.
    pub definition: String,
    /// Attributes of the example that only the source shows, with values.
    pub also_given: Vec<(String, String)>,
    /// Attributes that the example's target has beside the fields, with values.
    pub also_expected: Vec<(String, String)>,
    /// Unit of the example.
    pub example_unit: String,
    /// By what rows are counted on both sides, so that each can be told from all others; empty where rules know no such value.
    pub counted_by: Vec<(String, String)>,
}

/// A column of the source.
#[derive(Debug)]
pub(super) struct Column {
    /// The mapping's name.
    pub name: String,
    /// The live name, where that is another one.
    pub live: Option<String>,
    /// Its type as `legacy.toml` has it.
    pub type_text: String,
    /// A made-up value, as an example has it; none where it is left out.
    pub made_up: Option<String>,
    /// What a reader should know of it.
    pub about: Option<String>,
}

/// A column or attribute of the target.
#[derive(Debug)]
pub(super) struct Field {
    /// Its name.
    pub name: String,
    /// The term, as the mapping has it.
    pub term: String,
    /// What the example's value becomes; none where that is not said.
    pub expected: Option<String>,
}

/// A made-up value of a kind, as an example writes a cell of Postgres.
pub(super) fn made_up(kind: Kind) -> &'static str {
    match kind {
        Kind::Bool => "true",
        Kind::Int => "1",
        Kind::Decimal => "\"1.50\"",
        Kind::Float => "1.5",
        Kind::Text => "\"a\"",
        Kind::Bytes => "\"00ff\"",
        Kind::Timestamp => "100",
        Kind::Uuid => "1",
        Kind::Json => "'{\"a\": [1]}'",
        Kind::Native => "{}",
    }
}

/// What such a value is as text: in a unit's name, a template, or a key.
pub(super) fn made_up_text(kind: Kind) -> &'static str {
    match kind {
        Kind::Bool => "true",
        Kind::Int => "1",
        Kind::Decimal => "1.50",
        Kind::Float => "1.5",
        Kind::Text => "a",
        Kind::Timestamp => "100000000",
        Kind::Uuid => "00000000-0000-0000-0000-000000000001",
        Kind::Json => "{\"a\":[1]}",
        Kind::Bytes | Kind::Native => "",
    }
}

/// Whether the rules for comparing can count rows by values of a kind: they find the same value on both sides.
pub(super) fn counts(kind: Kind) -> bool {
    matches!(kind, Kind::Int | Kind::Decimal | Kind::Text | Kind::Uuid)
}

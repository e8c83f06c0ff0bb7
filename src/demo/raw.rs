//! Scenario files as they are written: what `serde` reads, before templates are parsed.

use std::collections::BTreeMap;

use serde::Deserialize;

/// A scenario file, `demo/scenarios.toml` of a migration.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    /// Time of the first unit, as RFC 3339.
    pub start: String,
    /// Milliseconds between the starts of two units.
    pub spacing_ms: i64,
    /// Template of a unit's key.
    pub unit: String,
    /// Server settings of every connection that writes.
    #[serde(default)]
    pub session: BTreeMap<String, String>,
    /// Lists that `pick` and `words` draw from.
    #[serde(default)]
    pub lists: BTreeMap<String, Vec<String>>,
    /// Row prototypes.
    pub rows: BTreeMap<String, Prototype>,
    /// How a unit's rows come about.
    pub scenario: Vec<Scenario>,
    /// What the live writers do.
    #[serde(default)]
    pub live: Vec<Live>,
}

/// A table with a template for each column that is filled.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Prototype {
    /// The table.
    pub table: String,
    /// Templates by column, in the order in which they are evaluated.
    pub columns: toml::Table,
}

/// One kind of unit.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Scenario {
    /// Its name; says which habit of the old writer it shows.
    pub name: String,
    /// How many cards of the deck it has.
    pub weight: u32,
    /// Variables, evaluated in this order.
    #[serde(default, rename = "let")]
    pub variables: toml::Table,
    /// Its rows.
    pub steps: Vec<Step>,
}

/// One row, or a group of steps, perhaps repeated.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Step {
    /// Prototype of the row; exclusive with `steps`.
    pub row: Option<String>,
    /// Steps of a group; exclusive with `row`.
    pub steps: Option<Vec<Step>>,
    /// Name of a list variable: once for each of its items, which is then `item`, counted by `index`.
    pub each: Option<String>,
    /// How many times, counted by `index`; exclusive with `each`.
    pub repeat: Option<u32>,
    /// Variables of each repetition.
    #[serde(default, rename = "let")]
    pub variables: toml::Table,
    /// Columns that differ from the prototype's.
    #[serde(default)]
    pub set: toml::Table,
}

/// One transaction of a live writer.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Live {
    /// Its name.
    pub name: String,
    /// How many cards of the deck it has.
    pub weight: u32,
    /// Variables, evaluated in this order.
    #[serde(default, rename = "let")]
    pub variables: toml::Table,
    /// Whether it writes a new unit first, by a scenario drawn from the deck.
    #[serde(default)]
    pub unit: NewUnit,
    /// Statements, in which placeholders become quoted literals; for rows.
    #[serde(default)]
    pub sql: Vec<String>,
    /// Changes of the unit's own items; for a store of items, which has no statements.
    #[serde(default)]
    pub items: Vec<ItemChange>,
    /// How the transaction ends.
    #[serde(default)]
    pub end: End,
}

/// A change of an item that the unit was made with; there is none where the unit has no such item.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ItemChange {
    /// Prototype of the item.
    pub row: String,
    /// Which of the unit's items of this prototype.
    #[serde(default)]
    pub which: Which,
    /// What is done to it.
    #[serde(default)]
    pub action: Action,
    /// Attributes that differ from what the unit was made with.
    #[serde(default)]
    pub set: toml::Table,
}

/// Which of a unit's items of one prototype are changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Which {
    /// One, drawn by chance.
    #[default]
    One,
    /// Every one.
    All,
}

/// What is done to an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It is put, whole, whatever was there.
    #[default]
    Put,
    /// It is deleted, if it is there.
    Delete,
}

/// Whether a live transaction writes a new unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum NewUnit {
    /// It works on what is there.
    #[default]
    Existing,
    /// It does.
    New,
}

/// How a live transaction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum End {
    /// It is committed.
    #[default]
    Commit,
    /// It is rolled back: nobody may ever see its changes.
    Rollback,
}

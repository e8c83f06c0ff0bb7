//! Units, references and groups as they are written.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

use super::raw::{Name, Named, Placed};

/// What names the unit of a table's rows.
#[derive(Debug)]
pub(super) enum Route {
    /// A column.
    Column(String),
    /// A term, with what becomes of rows that it does not lead to a unit.
    Term(Box<RouteForm>),
}

/// A route by a term.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RouteForm {
    /// The unit's id.
    pub id: Placed,
    /// What becomes of a row whose id is null: `wait` or `quarantine:REASON`; quarantined as `no_unit` when absent.
    pub unresolved: Option<Name>,
    /// Reasons of quarantine, each with a term that is not null for the rows it holds for.
    #[serde(default)]
    pub refuse: Named<Placed>,
}

/// `[reference.NAME]`: how rows of a table are found by those of others.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Reference {
    /// The table whose rows are found.
    pub table: Name,
    /// Terms over such a row: the key that it is found by.
    #[serde(rename = "match")]
    pub key: Vec<Placed>,
    /// Terms over such a row: what is seen of it; `@refused` is why it cannot be mapped, null when it can.
    pub select: Named<Placed>,
    /// Terms over the row that asks, by table: the key that it looks for.
    pub by: Named<Vec<Placed>>,
}

/// `[[group]]`: rows of one key become one row.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Group {
    /// Source table.
    pub from: Name,
    /// Target table.
    pub to: Name,
    /// Terms that tell groups of a part apart; one group when absent.
    #[serde(default)]
    pub by: Vec<Placed>,
    /// Terms that order the rows, NULL last.
    pub order: Vec<Placed>,
    /// Reason for which all rows but the first are dropped; they are mapped when absent.
    pub others: Option<Name>,
    /// What a group adds to the sums of its unit.
    #[serde(default)]
    pub totals: Named<Placed>,
    /// Terms by target column or attribute: over the first row, and aggregates.
    #[serde(alias = "attributes")]
    pub columns: Named<Placed>,
    /// Target columns that stay NULL, each with the reason.
    #[serde(default)]
    pub left: Named<String>,
}

impl<'de> Deserialize<'de> for Route {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RouteVisitor)
    }
}

struct RouteVisitor;

impl<'de> Visitor<'de> for RouteVisitor {
    type Value = Route;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a column, or a table with `id`")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Route, E> {
        Ok(Route::Column(text.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Route, A::Error> {
        RouteForm::deserialize(MapAccessDeserializer::new(map)).map(|form| Route::Term(Box::new(form)))
    }
}

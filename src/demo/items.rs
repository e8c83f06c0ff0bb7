//! Items ready to be written to a store of items, in DynamoDB JSON.

use serde_json::{Map, Value};

pub use super::raw::Action;

/// Something done to one item.
#[derive(Debug, Clone, PartialEq)]
pub struct ItemChange {
    /// The table.
    pub table: String,
    /// The whole item, its key included, by attribute: `{"name": {"S": "…"}}`.
    pub item: Map<String, Value>,
    /// What is done.
    pub action: Action,
}

/// What a live writer does in one step; a reader may see any part of it.
#[derive(Debug, Clone, PartialEq)]
pub struct ItemTransaction {
    /// Name of what it does.
    pub name: String,
    /// Its changes, in order.
    pub changes: Vec<ItemChange>,
}

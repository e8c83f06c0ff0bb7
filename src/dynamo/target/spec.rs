//! What a target table is to be: its key, its indexes, how it is paid for.

use crate::dynamo::table::{ITEM, KeyAttribute, View};
use crate::target::{ColumnShape, TableShape};

/// A target table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSpec {
    /// Its name.
    pub name: Box<str>,
    /// The partition key, then the sort key where there is one.
    pub key: Vec<KeyAttribute>,
    /// Global secondary indexes.
    pub indexes: Vec<IndexSpec>,
    /// How its capacity is paid for; looked at only when it is created.
    pub billing: Billing,
    /// The stream that it is to have; `None` leaves that to others.
    pub stream: Option<View>,
}

/// A global secondary index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexSpec {
    /// Its name.
    pub name: Box<str>,
    /// Its partition key, then its sort key where it has one.
    pub key: Vec<KeyAttribute>,
    /// What it holds of an item.
    pub projection: Projection,
}

/// What an index holds of an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Projection {
    /// All of it.
    All,
    /// The keys of table and index.
    KeysOnly,
    /// The keys, and these attributes; their order says nothing.
    Include(Vec<Box<str>>),
}

/// How a table's capacity is paid for, and that of each of its indexes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Billing {
    /// By request.
    OnDemand,
    /// So many units a second are paid for.
    Provisioned {
        /// Read units a second.
        read_units: u32,
        /// Write units a second.
        write_units: u32,
    },
}

impl TableSpec {
    /// The table as its rows are laid out: the key's attributes, then the whole item.
    pub fn shape(&self) -> TableShape {
        let attribute = |attribute: &KeyAttribute| ColumnShape {
            name: attribute.name.clone(),
            type_name: attribute.kind.name().into(),
        };
        let mut columns: Vec<ColumnShape> = self.key.iter().map(attribute).collect();
        columns.push(ColumnShape { name: ITEM.into(), type_name: ITEM.into() });
        TableShape { schema: "".into(), name: self.name.clone(), columns, key: (0..self.key.len()).collect() }
    }
}

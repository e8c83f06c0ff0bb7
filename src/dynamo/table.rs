//! What a table is: key, size, capacity, stream; and how its items become rows.
//!
//! An item is a row of its key attributes and one further column, [`ITEM`], which holds the whole item, its key included.
//! DynamoDB has no other columns to speak of, and so the shape of a table never changes.

use std::sync::Arc;

use aws_sdk_dynamodb::types::{
    BillingMode, KeySchemaElement, KeyType, ScalarAttributeType, StreamViewType, TableDescription,
};

use super::connect::{Server, retry};
use super::error::{Kind, failure, of_failure, unreadable};
use crate::event::{Cell, Column, Key, Relation, RelationName, Row, SchemaHash, Value};
use crate::source::Error;

/// Name and type name of the column that holds the whole item.
pub const ITEM: &str = "item";

/// What the errors say was being done.
const ACTION: &str = "describe a table";

/// The type of a key attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// Text.
    S,
    /// A number.
    N,
    /// Bytes.
    B,
}

impl KeyKind {
    /// DynamoDB's name of the type.
    pub fn name(self) -> &'static str {
        match self {
            KeyKind::S => "S",
            KeyKind::N => "N",
            KeyKind::B => "B",
        }
    }

    fn holds(self, value: &Value) -> bool {
        matches!(
            (self, value),
            (KeyKind::S, Value::Text(_)) | (KeyKind::N, Value::Decimal(_)) | (KeyKind::B, Value::Bytes(_))
        )
    }
}

/// A key attribute: the partition key, then the sort key where there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyAttribute {
    /// Its name.
    pub name: Box<str>,
    /// Its type.
    pub kind: KeyKind,
}

/// The shape that a table's items have as rows.
#[derive(Debug, Clone)]
pub struct Shape {
    /// The relation of its events.
    pub relation: Arc<Relation>,
    /// Its hash.
    pub hash: SchemaHash,
    /// The key.
    pub key: Vec<KeyAttribute>,
}

/// An item that does not fit its table's shape.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// It is not a map.
    #[error("it is not an item")]
    NotAnItem,
    /// A key attribute is not in it.
    #[error("it has no key attribute {0}")]
    NoKey(Box<str>),
    /// A key attribute has another type than the table says.
    #[error("its key attribute {name} is not of type {kind}")]
    KeyType {
        /// The attribute.
        name: Box<str>,
        /// The type that it should have.
        kind: &'static str,
    },
}

impl Shape {
    /// The shape of a table with this key.
    pub fn new(table: &str, key: Vec<KeyAttribute>) -> Self {
        let part = |(index, attribute): (u16, &KeyAttribute)| Column {
            name: attribute.name.clone(),
            type_name: attribute.kind.name().into(),
            key_part: Some(index),
        };
        let mut columns: Vec<Column> = (0u16..).zip(&key).map(part).collect();
        columns.push(Column { name: ITEM.into(), type_name: ITEM.into(), key_part: None });
        let name = RelationName { schema: "".into(), table: table.into() };
        let relation = Arc::new(Relation { name, columns });
        let hash = relation.schema_hash();
        Self { relation, hash, key }
    }

    /// The table's name.
    pub fn table(&self) -> &str {
        &self.relation.name.table
    }

    /// The key in an item, or in a map that holds just the key.
    ///
    /// # Errors
    /// [`Misfit`], which names attributes and never values.
    pub fn key_of(&self, item: &Value) -> Result<Key, Misfit> {
        let Value::Map(map) = item else { return Err(Misfit::NotAnItem) };
        let part = |attribute: &KeyAttribute| {
            let value = map.get(&attribute.name).ok_or_else(|| Misfit::NoKey(attribute.name.clone()))?;
            if attribute.kind.holds(value) {
                return Ok(value.clone());
            }
            Err(Misfit::KeyType { name: attribute.name.clone(), kind: attribute.kind.name() })
        };
        self.key.iter().map(part).collect::<Result<_, _>>().map(Key)
    }

    /// An item as a row, with its key.
    ///
    /// # Errors
    /// As [`Shape::key_of`].
    pub fn row(&self, item: Value) -> Result<(Key, Row), Misfit> {
        let key = self.key_of(&item)?;
        let row = key.0.iter().cloned().chain([item]).map(Cell::Value).collect();
        Ok((key, Row(row)))
    }
}

/// What a stream tells of a changed item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// Its key.
    KeysOnly,
    /// The item as it became.
    NewImage,
    /// The item as it was.
    OldImage,
    /// Both.
    Both,
}

/// A table's stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamFacts {
    /// Its name, which no other stream ever has.
    pub arn: String,
    /// What it tells; `None` for a view that this rehome does not know.
    pub view: Option<View>,
}

/// How a table's capacity is paid for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capacity {
    /// By request.
    OnDemand,
    /// So many read units a second are paid for.
    Provisioned {
        /// Read units a second.
        read_units: u64,
    },
}

/// A table as it was described.
#[derive(Debug, Clone)]
pub struct Table {
    /// Its shape.
    pub shape: Shape,
    /// Tells it from all others, also from one of its name that was made before.
    pub id: String,
    /// Its stream; `None` when it has none that is enabled.
    pub stream: Option<StreamFacts>,
    /// Capacity.
    pub capacity: Capacity,
    /// Size in bytes, up to six hours old.
    pub bytes: u64,
    /// Number of items, up to six hours old.
    pub items: u64,
    /// Global secondary indexes, each with its partition key.
    pub indexes: Vec<(Box<str>, KeyAttribute)>,
}

/// Describes a table; `None` when there is no such table.
///
/// # Errors
/// When the service cannot be asked.
pub async fn describe(server: &Server, name: &str) -> Result<Option<Table>, Error> {
    retry(|| async move {
        match server.tables().describe_table().table_name(name).send().await {
            Ok(answer) => {
                let table = answer.table.ok_or_else(|| unreadable(ACTION, format!("{name}: no description")))?;
                read(name, &table).map(Some)
            }
            Err(error) => match failure(&error) {
                failure if failure.kind == Kind::NotFound => Ok(None),
                failure => Err(of_failure(ACTION, &format!("table {name}"), failure)),
            },
        }
    })
    .await
}

/// Names of all tables of the region.
///
/// # Errors
/// When the service cannot be asked, or refuses to list them.
pub async fn list(server: &Server) -> Result<Vec<Box<str>>, Error> {
    let mut pages = server.tables().list_tables().into_paginator().items().send();
    let mut names = Vec::new();
    while let Some(name) = pages.next().await {
        let name = name.map_err(|error| of_failure("list tables", "source", failure(&error)))?;
        names.push(name.into());
    }
    Ok(names)
}

fn read(name: &str, table: &TableDescription) -> Result<Table, Error> {
    let broken = |what: &str| unreadable(ACTION, format!("{name}: {what}"));
    let attribute = |element: &KeySchemaElement| {
        let definitions = table.attribute_definitions().iter();
        let definition = definitions.into_iter().find(|known| known.attribute_name() == element.attribute_name());
        let kind = match definition.ok_or_else(|| broken("a key attribute without a type"))?.attribute_type() {
            ScalarAttributeType::S => KeyKind::S,
            ScalarAttributeType::N => KeyKind::N,
            ScalarAttributeType::B => KeyKind::B,
            _ => return Err(broken("a key attribute of an unknown type")),
        };
        Ok(KeyAttribute { name: element.attribute_name().into(), kind })
    };
    let part = |key: &[KeySchemaElement], part: KeyType| {
        key.iter().find(|element| *element.key_type() == part).map(attribute).transpose()
    };
    let mut key = Vec::new();
    for kind in [KeyType::Hash, KeyType::Range] {
        key.extend(part(table.key_schema(), kind)?);
    }
    let mut indexes = Vec::new();
    for index in table.global_secondary_indexes() {
        let hash = part(index.key_schema(), KeyType::Hash)?;
        indexes.extend(index.index_name().zip(hash).map(|(name, hash)| (Box::from(name), hash)));
    }
    if key.is_empty() {
        return Err(broken("no key"));
    }
    let enabled = table.stream_specification().filter(|stream| stream.stream_enabled());
    let stream = enabled
        .zip(table.latest_stream_arn())
        .map(|(stream, arn)| StreamFacts { arn: arn.to_owned(), view: stream.stream_view_type().and_then(view) });
    let on_demand =
        table.billing_mode_summary().and_then(|summary| summary.billing_mode()) == Some(&BillingMode::PayPerRequest);
    let read_units = table.provisioned_throughput().and_then(|paid| paid.read_capacity_units()).unwrap_or(0);
    let capacity = match u64::try_from(read_units) {
        Ok(read_units) if !on_demand && read_units > 0 => Capacity::Provisioned { read_units },
        _ => Capacity::OnDemand,
    };
    let count = |number: Option<i64>| number.and_then(|number| u64::try_from(number).ok()).unwrap_or(0);
    let made = table.creation_date_time().map(ToString::to_string).unwrap_or_default();
    let id = [table.table_arn(), table.table_id(), Some(&made)].map(Option::unwrap_or_default).join(" ");
    Ok(Table {
        shape: Shape::new(name, key),
        id,
        stream,
        capacity,
        bytes: count(table.table_size_bytes()),
        items: count(table.item_count()),
        indexes,
    })
}

fn view(view: &StreamViewType) -> Option<View> {
    match view {
        StreamViewType::KeysOnly => Some(View::KeysOnly),
        StreamViewType::NewImage => Some(View::NewImage),
        StreamViewType::OldImage => Some(View::OldImage),
        StreamViewType::NewAndOldImages => Some(View::Both),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape() -> Shape {
        let attribute = |name: &str, kind| KeyAttribute { name: name.into(), kind };
        Shape::new("t", vec![attribute("p", KeyKind::S), attribute("s", KeyKind::N)])
    }

    fn item(attributes: &[(&str, Value)]) -> Value {
        Value::Map(attributes.iter().map(|(name, value)| (Box::from(*name), value.clone())).collect())
    }

    fn number(text: &str) -> Value {
        Value::Decimal(crate::event::Decimal::parse(text).expect("a decimal"))
    }

    #[test]
    fn an_item_is_its_key_and_itself() {
        let item = item(&[("p", Value::text("a")), ("s", number("1")), ("x", Value::Null)]);
        let (key, row) = shape().row(item.clone()).expect("it fits");
        assert_eq!(key, Key(vec![Value::text("a"), number("1")]));
        assert_eq!(row, [Value::text("a"), number("1"), item].into_iter().collect());
        let columns: Vec<(String, String, Option<u16>)> = shape()
            .relation
            .columns
            .iter()
            .map(|column| (column.name.to_string(), column.type_name.to_string(), column.key_part))
            .collect();
        let expected = [("p", "S", Some(0)), ("s", "N", Some(1)), ("item", "item", None)];
        assert_eq!(columns, expected.map(|(name, kind, part)| (name.to_owned(), kind.to_owned(), part)));
    }

    #[test]
    fn an_item_whose_key_is_missing_or_of_another_type_says_which() {
        let missing = shape().row(item(&[("p", Value::text("a"))])).expect_err("no sort key");
        assert_eq!(missing.to_string(), "it has no key attribute s");
        let other = shape().row(item(&[("p", number("5")), ("s", number("1"))])).expect_err("a number");
        assert_eq!(other.to_string(), "its key attribute p is not of type S");
    }
}

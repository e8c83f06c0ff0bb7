//! What a table is in full, and which attributes a page of its items shows: for who writes the first draft of a migration.
//!
//! Of the items only the names and the types of their attributes are kept.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, KeySchemaElement, KeyType, Projection as Projected, ProjectionType,
    ScalarAttributeType,
};

use super::connect::{Server, retry};
use super::error::{failure, of_failure, unreadable};
use super::table::{KeyAttribute, KeyKind, Table, describe};
use super::target::Projection;
use crate::source::Error;

/// What the errors say was being done.
const ACTION: &str = "look a table over";
/// Items of the page that is looked at.
const ITEMS_MAX: i32 = 200;
/// What the names of rehome's own attributes begin with.
const MARKS: &str = "_rehome_";

/// A table with its indexes and what a page of it shows.
#[derive(Debug, Clone)]
pub struct Surveyed {
    /// Key, stream, size.
    pub table: Table,
    /// Its indexes.
    pub indexes: Vec<SurveyedIndex>,
    /// Items of the page.
    pub items: u64,
    /// Attributes seen in them, without those of the key: how many items have them, by type.
    pub attributes: BTreeMap<Box<str>, BTreeMap<&'static str, u64>>,
}

/// An index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SurveyedIndex {
    /// Its name.
    pub name: Box<str>,
    /// Its partition key, then its sort key where it has one.
    pub key: Vec<KeyAttribute>,
    /// What it holds beside the keys.
    pub projection: Projection,
    /// Whether it is a local one, which lies with the table's partitions.
    pub local: bool,
}

/// Looks a table over; `None` when there is no such table.
///
/// # Errors
/// When the service cannot be asked.
pub async fn survey(server: &Server, name: &str) -> Result<Option<Surveyed>, Error> {
    let Some(table) = describe(server, name).await? else { return Ok(None) };
    let broken = |what: &str| unreadable(ACTION, format!("{name}: {what}"));
    let description = retry(|| async move {
        let answer = server.tables().describe_table().table_name(name).send().await;
        answer.map_err(|error| of_failure(ACTION, &format!("table {name}"), failure(&error)))
    });
    let description = description.await?.table.ok_or_else(|| broken("no description"))?;
    let definitions = description.attribute_definitions();
    let mut indexes = Vec::new();
    let global = description.global_secondary_indexes().iter();
    let global = global.map(|index| (index.index_name(), index.key_schema(), index.projection(), false));
    let local = description.local_secondary_indexes().iter();
    let local = local.map(|index| (index.index_name(), index.key_schema(), index.projection(), true));
    for (name, key, projection, local) in global.chain(local) {
        indexes.push(SurveyedIndex {
            name: name.ok_or_else(|| broken("an index without a name"))?.into(),
            key: key_of(key, definitions).ok_or_else(|| broken("an index whose key does not read"))?,
            projection: projected(projection),
            local,
        });
    }
    let page = retry(|| async move {
        let answer = server.tables().scan().table_name(name).limit(ITEMS_MAX).send().await;
        answer.map_err(|error| of_failure(ACTION, &format!("table {name}"), failure(&error)))
    });
    let items = page.await?.items.unwrap_or_default();
    let mut attributes: BTreeMap<Box<str>, BTreeMap<&'static str, u64>> = BTreeMap::new();
    for (attribute, value) in items.iter().flatten() {
        // Marks of an earlier migration are no attributes of the application's.
        let ours = attribute.starts_with(MARKS);
        if !ours && table.shape.key.iter().all(|key| *key.name != **attribute) {
            *attributes.entry(attribute.as_str().into()).or_default().entry(type_of(value)).or_default() += 1;
        }
    }
    Ok(Some(Surveyed { items: items.len() as u64, table, indexes, attributes }))
}

fn key_of(key: &[KeySchemaElement], definitions: &[AttributeDefinition]) -> Option<Vec<KeyAttribute>> {
    let attribute = |element: &KeySchemaElement| {
        let definition = definitions.iter().find(|known| known.attribute_name() == element.attribute_name())?;
        let kind = match definition.attribute_type() {
            ScalarAttributeType::N => KeyKind::N,
            ScalarAttributeType::B => KeyKind::B,
            _ => KeyKind::S,
        };
        Some(KeyAttribute { name: element.attribute_name().into(), kind })
    };
    let part = |of: KeyType| key.iter().find(move |element| *element.key_type() == of);
    [part(KeyType::Hash), part(KeyType::Range)].into_iter().flatten().map(attribute).collect()
}

fn projected(projection: Option<&Projected>) -> Projection {
    match projection.and_then(Projected::projection_type) {
        Some(ProjectionType::KeysOnly) => Projection::KeysOnly,
        Some(ProjectionType::Include) => {
            let names = projection.map_or(&[][..], Projected::non_key_attributes);
            Projection::Include(names.iter().map(|name| name.as_str().into()).collect())
        }
        _ => Projection::All,
    }
}

/// DynamoDB's name of a value's type.
fn type_of(value: &AttributeValue) -> &'static str {
    match value {
        AttributeValue::S(_) => "S",
        AttributeValue::N(_) => "N",
        AttributeValue::B(_) => "B",
        AttributeValue::Bool(_) => "BOOL",
        AttributeValue::Null(_) => "NULL",
        AttributeValue::M(_) => "M",
        AttributeValue::L(_) => "L",
        AttributeValue::Ss(_) => "SS",
        AttributeValue::Ns(_) => "NS",
        AttributeValue::Bs(_) => "BS",
        _ => "a type that this rehome does not know",
    }
}

//! Reads items for a reader, as a declared query asks for them, and tells what the live tables look like.
//!
//! A table's key is read consistently; an index cannot be.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::{AttributeValue, ReturnConsumedCapacity};

use crate::dynamo::codec::{self, Attributes};
use crate::dynamo::error::failure;
use crate::dynamo::table::KeyAttribute;
use crate::target::{Access, Condition, Direction, Error, Fields, Read, Take, TargetTable, Test};

use super::DynamoTarget;
use super::calls::{Use, failed};
use super::item;
use super::provision;
use super::read::unreadable;
use super::spec::TableSpec;

/// What the errors say was being done.
const ACTION: &str = "read target items";

/// A read in the service's words.
#[derive(Debug, Default, PartialEq)]
struct Request {
    /// What leads to the items; none when the whole table is read.
    key: Option<String>,
    /// What else must hold of them.
    filter: Option<String>,
    /// Attributes asked for; all when absent.
    projection: Option<String>,
    names: HashMap<String, String>,
    values: HashMap<String, AttributeValue>,
}

/// One page: its items, how many were read for it, and where the next one begins.
struct Page {
    items: Vec<Attributes>,
    scanned: u64,
    next: Option<Attributes>,
}

impl DynamoTarget {
    /// Hands over the items of a read, in the order of the key that is read, until `take` has enough; answers how many items
    /// were read, also such as a condition left out.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub async fn select(&self, read: &Read, take: Take<'_>) -> Result<u64, Error> {
        let spec = self.spec(read.table);
        let request = Request::of(spec, read).map_err(|error| unreadable(spec, error))?;
        let (mut from, mut scanned, mut left) = (None, 0, read.limit);
        loop {
            let page = self.page(spec, read, &request, from, left).await?;
            scanned += page.scanned;
            for attributes in page.items {
                let held = item::read(attributes).map_err(|error| unreadable(spec, error))?;
                if !take(held.item.into_iter().collect::<Fields>()) {
                    return Ok(scanned);
                }
                left = left.map(|left| left.saturating_sub(1));
            }
            from = page.next;
            if from.is_none() || left == Some(0) {
                return Ok(scanned);
            }
        }
    }

    /// The live key and indexes of a table, each as a line of text by its name; the key's is empty. Nothing when there is no
    /// such table.
    ///
    /// # Errors
    /// When the service cannot be asked.
    pub async fn describe(&self, table: TargetTable) -> Result<Vec<(String, String)>, Error> {
        provision::shape(self.calls.client(), self.spec(table)).await
    }

    async fn page(
        &self,
        spec: &TableSpec,
        read: &Read,
        request: &Request,
        from: Option<Attributes>,
        left: Option<usize>,
    ) -> Result<Page, Error> {
        let index = read.index.as_deref().map(str::to_owned);
        // A limit counts what is read before the filter; with one, whole pages are read.
        let limit = left.filter(|_| request.filter.is_none()).and_then(|left| i32::try_from(left).ok());
        let names = Some(request.names.clone()).filter(|names| !names.is_empty());
        let values = Some(request.values.clone()).filter(|values| !values.is_empty());
        let client = self.calls.client();
        let ask = || async {
            let consistent = index.is_none();
            let capacity = ReturnConsumedCapacity::Total;
            match &request.key {
                Some(key) => {
                    let call = client.query().table_name(&*spec.name).set_index_name(index.clone());
                    let call =
                        call.consistent_read(consistent).scan_index_forward(read.direction == Direction::Ascending);
                    let call = call.key_condition_expression(key).set_filter_expression(request.filter.clone());
                    let call = call.set_projection_expression(request.projection.clone());
                    let call = call.set_expression_attribute_names(names.clone());
                    let call = call.set_expression_attribute_values(values.clone()).set_limit(limit);
                    let call = call.set_exclusive_start_key(from.clone()).return_consumed_capacity(capacity);
                    let answer = call.send().await.map_err(|error| failure(&error))?;
                    let scanned = u64::try_from(answer.scanned_count).unwrap_or(0);
                    Ok((answer.consumed_capacity, answer.items, scanned, answer.last_evaluated_key))
                }
                None => {
                    let call = client.scan().table_name(&*spec.name).set_index_name(index.clone());
                    let call = call.consistent_read(consistent).set_filter_expression(request.filter.clone());
                    let call = call.set_projection_expression(request.projection.clone());
                    let call = call.set_expression_attribute_names(names.clone());
                    let call = call.set_expression_attribute_values(values.clone()).set_limit(limit);
                    let call = call.set_exclusive_start_key(from.clone()).return_consumed_capacity(capacity);
                    let answer = call.send().await.map_err(|error| failure(&error))?;
                    let scanned = u64::try_from(answer.scanned_count).unwrap_or(0);
                    Ok((answer.consumed_capacity, answer.items, scanned, answer.last_evaluated_key))
                }
            }
        };
        let answer = self.calls.call(Use::Read, ask).await.map_err(|failure| failed(ACTION, &spec.name, failure))?;
        let (consumed, items, scanned, next) = answer;
        self.calls.consumed(Use::Read, consumed.as_slice());
        Ok(Page { items: items.unwrap_or_default(), scanned, next: next.filter(|key| !key.is_empty()) })
    }
}

impl Request {
    /// Translates a read.
    fn of(spec: &TableSpec, read: &Read) -> Result<Self, codec::CodecError> {
        let index = spec.indexes.iter().find(|index| Some(&*index.name) == read.index.as_deref());
        let key: &[KeyAttribute] = index.map_or(&spec.key, |index| &index.key);
        let keyed = |condition: &Condition| key.iter().any(|attribute| attribute.name == condition.column);
        let hash = key.first().map(|attribute| &attribute.name);
        let led = read.conditions.iter().any(|found| Some(&found.column) == hash && found.test == Test::Equals);
        let mut request = Self::default();
        let (mut keys, mut filters) = (Vec::new(), Vec::new());
        for (place, condition) in read.conditions.iter().enumerate() {
            let (name, value) = (format!("#c{place}"), format!(":c{place}"));
            let text = match condition.test {
                Test::Equals => format!("{name} = {value}"),
                Test::StartsWith => format!("begins_with({name}, {value})"),
            };
            request.names.insert(name, condition.column.to_string());
            request.values.insert(value, codec::write(&condition.value)?);
            if led && keyed(condition) { keys.push(text) } else { filters.push(text) }
        }
        debug_assert!(led || read.access == Access::Scan);
        if let Some(columns) = &read.columns {
            let mut wanted = Vec::new();
            for (place, column) in columns.iter().enumerate() {
                request.names.insert(format!("#p{place}"), column.to_string());
                wanted.push(format!("#p{place}"));
            }
            request.projection = Some(wanted.join(", ")).filter(|_| !wanted.is_empty());
        }
        let joined = |texts: Vec<String>| Some(texts.join(" AND ")).filter(|text| !text.is_empty());
        (request.key, request.filter) = (joined(keys), joined(filters));
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dynamo::table::KeyKind;
    use crate::dynamo::target::spec::{Billing, IndexSpec, Projection};
    use crate::event::Value;

    fn request(index: Option<&str>, conditions: &[(&str, Test)], access: Access) -> Request {
        let attribute = |name: &str| KeyAttribute { name: name.into(), kind: KeyKind::S };
        let by_g = IndexSpec { name: "by_g".into(), key: vec![attribute("g")], projection: Projection::All };
        let spec = TableSpec {
            name: "t".into(),
            key: vec![attribute("p"), attribute("s")],
            indexes: vec![by_g],
            billing: Billing::OnDemand,
            stream: None,
        };
        let condition = |(column, test): &(&str, Test)| Condition {
            column: (*column).into(),
            test: *test,
            value: Value::text("v"),
        };
        let read = Read {
            table: TargetTable(0),
            index: index.map(Into::into),
            conditions: conditions.iter().map(condition).collect(),
            along: Vec::new(),
            direction: Direction::Ascending,
            limit: None,
            columns: Some(vec!["x".into()]),
            access,
        };
        Request::of(&spec, &read).expect("values of DynamoDB")
    }

    #[test]
    fn what_the_key_leads_to_is_queried_and_the_rest_filtered() {
        let found = request(None, &[("p", Test::Equals), ("s", Test::StartsWith)], Access::Key);
        assert_eq!(found.key.as_deref(), Some("#c0 = :c0 AND begins_with(#c1, :c1)"));
        assert_eq!((found.filter, found.projection.as_deref()), (None, Some("#p0")));
        let found = request(Some("by_g"), &[("p", Test::Equals), ("g", Test::Equals)], Access::Scan);
        assert_eq!((found.key.as_deref(), found.filter.as_deref()), (Some("#c1 = :c1"), Some("#c0 = :c0")));
        let found = request(None, &[("s", Test::Equals)], Access::Scan);
        assert_eq!((found.key, found.filter.as_deref()), (None, Some("#c0 = :c0")));
    }
}

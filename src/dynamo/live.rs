//! Reads items of one unit from a live table: by key, through an index, or, where nothing leads to them, all of the table.
//!
//! Nothing here is a snapshot: pages are read one after the other, each consistently. Whether what was read belongs together is
//! for the caller to prove, by reading again.

use std::collections::BTreeMap;
use std::collections::HashMap;

use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes};

use super::codec::{Attributes, read_item};
use super::connect::{Server, retry};
use super::error::{failure, of_failure, unreadable};
use super::table::{KeyAttribute, KeyKind, Shape, Table};
use crate::event::{Decimal, Key, Row, Value};
use crate::source::Error;

/// What the errors say was being done.
const ACTION: &str = "read a unit from the source";
/// Keys of one BatchGetItem, at most.
const KEYS_MAX: usize = 100;
/// Bytes that one read unit reads consistently.
const UNIT_BYTES: u64 = 4096;

/// How some items of a table are found.
#[derive(Debug, Clone, PartialEq)]
pub enum Find {
    /// Those with one of these partition keys.
    Key(Vec<AttributeValue>),
    /// Those with one of these values in an index's partition key.
    Index {
        /// The index.
        name: Box<str>,
        /// Its partition key.
        attribute: Box<str>,
        /// Values.
        values: Vec<AttributeValue>,
    },
    /// All of them.
    All,
}

/// Rows by key.
pub type Rows = BTreeMap<Key, Row>;

impl Find {
    /// How to find the items that have one of these texts in an attribute: `index` is the one that a person named for it.
    pub fn by(table: &Table, attribute: &str, texts: &[Option<Box<str>>], index: Option<&str>) -> Self {
        let values = |key: &KeyAttribute| -> Option<Vec<AttributeValue>> {
            // An item without the attribute is in no index.
            texts.iter().map(|text| value(key.kind, text.as_deref()?)).collect()
        };
        let found = match index {
            None => table.shape.key.first().filter(|key| *key.name == *attribute).and_then(values).map(Find::Key),
            Some(name) => table.indexes.iter().find(|(known, _)| **known == *name).and_then(|(name, key)| {
                let values = values(Some(key).filter(|key| *key.name == *attribute)?)?;
                Some(Find::Index { name: name.clone(), attribute: key.name.clone(), values })
            }),
        };
        found.unwrap_or(Find::All)
    }

    /// Read units that this takes of a table, about; `None` where it takes only what it finds.
    pub fn units(&self, table: &Table) -> Option<u64> {
        (*self == Find::All).then(|| table.bytes.div_ceil(UNIT_BYTES))
    }
}

/// A text as a key attribute; `None` for one that no such attribute has, and for bytes, which have no one text.
fn value(kind: KeyKind, text: &str) -> Option<AttributeValue> {
    match kind {
        KeyKind::S => Some(AttributeValue::S(text.to_owned())),
        KeyKind::N => Decimal::parse(text).ok().map(|_| AttributeValue::N(text.to_owned())),
        KeyKind::B => None,
    }
}

/// Reads items as rows.
///
/// # Errors
/// When the service cannot be asked, or an item does not read.
pub async fn read(server: &Server, shape: &Shape, find: &Find) -> Result<Rows, Error> {
    let mut rows = Rows::new();
    match find {
        Find::All => {
            let mut from = None;
            loop {
                let call = || server.tables().scan().table_name(shape.table()).consistent_read(true);
                let page = || async {
                    let sent = call().set_exclusive_start_key(from.clone()).send().await;
                    sent.map_err(|error| failed(shape, failure(&error)))
                };
                let answer = retry(page).await?;
                take(shape, answer.items.unwrap_or_default(), &mut rows)?;
                from = answer.last_evaluated_key.filter(|key| !key.is_empty());
                if from.is_none() {
                    return Ok(rows);
                }
            }
        }
        Find::Key(values) => {
            let Some(hash) = shape.key.first() else { return Ok(rows) };
            for value in values {
                take(shape, query(server, shape, None, &hash.name, value).await?, &mut rows)?;
            }
        }
        Find::Index { name, attribute, values } => {
            // An index is behind its table: it tells keys, and the table what stands there now.
            let mut keys = Vec::new();
            for value in values {
                for item in query(server, shape, Some(name), attribute, value).await? {
                    let key = |(part, value): (String, AttributeValue)| {
                        shape.key.iter().any(|key| *key.name == *part).then_some((part, value))
                    };
                    keys.push(item.into_iter().filter_map(key).collect::<Attributes>());
                }
            }
            for keys in keys.chunks(KEYS_MAX) {
                get(server, shape, keys, &mut rows).await?;
            }
        }
    }
    Ok(rows)
}

/// Reads every item of a partition, of the table or of an index.
async fn query(
    server: &Server,
    shape: &Shape,
    index: Option<&str>,
    attribute: &str,
    value: &AttributeValue,
) -> Result<Vec<Attributes>, Error> {
    let (mut items, mut from) = (Vec::new(), None);
    loop {
        let page = || async {
            let call = server.tables().query().table_name(shape.table()).key_condition_expression("#h = :h");
            let call =
                call.expression_attribute_names("#h", attribute).expression_attribute_values(":h", value.clone());
            // Only the table itself can be read consistently.
            let call = call.consistent_read(index.is_none()).set_index_name(index.map(str::to_owned));
            let sent = call.set_exclusive_start_key(from.clone()).send().await;
            sent.map_err(|error| failed(shape, failure(&error)))
        };
        let answer = retry(page).await?;
        items.extend(answer.items.unwrap_or_default());
        from = answer.last_evaluated_key.filter(|key| !key.is_empty());
        if from.is_none() {
            return Ok(items);
        }
    }
}

/// Reads items by key, consistently, asking again for what is left out.
async fn get(server: &Server, shape: &Shape, keys: &[Attributes], rows: &mut Rows) -> Result<(), Error> {
    let asked = KeysAndAttributes::builder().set_keys(Some(keys.to_vec())).consistent_read(true).build();
    let mut request = HashMap::from([(shape.table().to_owned(), asked.expect("keys were given"))]);
    loop {
        let ask = || async {
            let sent = server.tables().batch_get_item().set_request_items(Some(request.clone())).send().await;
            sent.map_err(|error| failed(shape, failure(&error)))
        };
        let answer = retry(ask).await?;
        for (_, items) in answer.responses.unwrap_or_default() {
            take(shape, items, rows)?;
        }
        request = answer.unprocessed_keys.unwrap_or_default();
        if request.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

fn take(shape: &Shape, items: Vec<Attributes>, rows: &mut Rows) -> Result<(), Error> {
    for item in items {
        let broken = |what: String| unreadable(ACTION, format!("{}: {what}", shape.table()));
        let item = read_item(item).map_err(|error| broken(error.to_string()))?;
        let (key, row) = shape.row(item).map_err(|misfit| broken(misfit.to_string()))?;
        rows.insert(key, row);
    }
    Ok(())
}

fn failed(shape: &Shape, failure: super::error::Failure) -> Error {
    of_failure(ACTION, &format!("table {}", shape.table()), failure)
}

/// A value of a key as the texts that conditions are made of.
pub fn key_text(value: &Value) -> Option<Box<str>> {
    match value {
        Value::Text(text) => Some(text.clone()),
        Value::Decimal(number) => Some(number.to_string().into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::Capacity;
    use super::*;

    fn table() -> Table {
        let attribute = |name: &str, kind| KeyAttribute { name: name.into(), kind };
        Table {
            id: "id".into(),
            shape: Shape::new("t", vec![attribute("p", KeyKind::S), attribute("s", KeyKind::N)]),
            stream: None,
            capacity: Capacity::OnDemand,
            bytes: 9000,
            items: 3,
            indexes: vec![("by_n".into(), attribute("n", KeyKind::N))],
        }
    }

    #[test]
    fn a_unit_is_found_by_what_leads_to_it_and_else_by_reading_everything() {
        let texts = |texts: &[&str]| texts.iter().map(|text| Some(Box::from(*text))).collect::<Vec<_>>();
        let by = |attribute, values: &[&str], index| Find::by(&table(), attribute, &texts(values), index);
        assert_eq!(
            by("p", &["a", "b"], None),
            Find::Key(vec![AttributeValue::S("a".into()), AttributeValue::S("b".into()),])
        );
        let values = vec![AttributeValue::N("7".into())];
        assert_eq!(by("n", &["7"], Some("by_n")), Find::Index { name: "by_n".into(), attribute: "n".into(), values });
        for (attribute, values, index) in
            [("s", &["1"], None), ("x", &["1"], Some("by_n")), ("n", &["1"], Some("gone")), ("n", &["x"], Some("by_n"))]
        {
            assert_eq!(by(attribute, values, index), Find::All, "{attribute}");
        }
        assert_eq!(Find::by(&table(), "n", &[None], Some("by_n")), Find::All, "an item without it is in no index");
        assert_eq!((Find::All.units(&table()), Find::Key(Vec::new()).units(&table())), (Some(3), None));
    }
}

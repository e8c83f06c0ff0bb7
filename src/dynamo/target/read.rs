//! Reads items by key, consistently and in batches.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use aws_sdk_dynamodb::types::{KeysAndAttributes, ReturnConsumedCapacity};
use futures_util::FutureExt as _;

use crate::dynamo::codec::{Attributes, CodecError};
use crate::dynamo::error::{Failure, Kind, failure};
use crate::event::Value;
use crate::target::{Error, TargetKey, TargetRow, TargetTable};

use super::DynamoTarget;
use super::calls::{Patience, Use, failed, together};
use super::item::{self, Held, key_attributes, stored_key};
use super::spec::TableSpec;

/// Keys of one BatchGetItem, at most.
const KEYS_MAX: usize = 100;
/// What the errors say was being done.
const ACTION: &str = "read target items";

/// What is to be asked for, by table.
type Request = HashMap<String, KeysAndAttributes>;

/// Reads the items that are there of some keys; twice the same key is asked for once.
pub async fn look(target: &DynamoTarget, keys: &[TargetKey]) -> Result<HashMap<TargetKey, Held>, Error> {
    let wanted: BTreeSet<TargetKey> = keys.iter().filter_map(|key| stored_key(target.spec(key.table), key)).collect();
    let wanted: Vec<TargetKey> = wanted.into_iter().collect();
    let calls = wanted.chunks(KEYS_MAX).map(|keys| look_at(target, keys).boxed());
    let found = together(target.settings.concurrency, Box::new(calls)).await?;
    Ok(found.into_iter().flatten().collect())
}

/// Reads rows in the order of `keys`; `None` where there is none.
pub async fn rows(target: &DynamoTarget, keys: &[TargetKey]) -> Result<Vec<Option<TargetRow>>, Error> {
    let seen = look(target, keys).await?;
    let row = |key: &TargetKey| {
        let stored = stored_key(target.spec(key.table), key)?;
        let item = seen.get(&stored)?.item.clone();
        let values = stored.values.into_iter().chain([Value::Map(item)]).collect();
        Some(TargetRow { table: key.table, values })
    };
    Ok(keys.iter().map(row).collect())
}

/// One BatchGetItem, asked again for what it left out.
async fn look_at(target: &DynamoTarget, keys: &[TargetKey]) -> Result<Vec<(TargetKey, Held)>, Error> {
    let mut found = Vec::with_capacity(keys.len());
    let mut request = request(target, keys);
    let mut patience = Patience::new();
    loop {
        let ask = || async {
            let call = target.calls.client().batch_get_item();
            let call = call.set_request_items(Some(request.clone()));
            let call = call.return_consumed_capacity(ReturnConsumedCapacity::Total);
            call.send().await.map_err(|error| failure(&error))
        };
        let tables = || keys.first().map_or_else(String::new, |key| target.spec(key.table).name.to_string());
        let answer = target.calls.call(Use::Read, ask).await.map_err(|failure| failed(ACTION, &tables(), failure))?;
        target.calls.consumed(Use::Read, answer.consumed_capacity());
        for (name, items) in answer.responses.unwrap_or_default() {
            let Some((table, spec)) = target.named(&name) else { continue };
            for attributes in items {
                found.push(read_one(table, spec, attributes)?);
            }
        }
        request = answer.unprocessed_keys.unwrap_or_default();
        if request.is_empty() {
            return Ok(found);
        }
        target.calls.throttled(Use::Read);
        if !target.calls.wait(&mut patience).await {
            return Err(left_over(ACTION, &tables()));
        }
    }
}

fn request(target: &DynamoTarget, keys: &[TargetKey]) -> Request {
    let mut tables: BTreeMap<TargetTable, Vec<Attributes>> = BTreeMap::new();
    for key in keys {
        tables.entry(key.table).or_default().push(key_attributes(target.spec(key.table), key));
    }
    let asked = |(table, keys): (TargetTable, Vec<Attributes>)| {
        let asked = KeysAndAttributes::builder().set_keys(Some(keys)).consistent_read(true).build();
        (target.spec(table).name.to_string(), asked.expect("keys were given"))
    };
    tables.into_iter().map(asked).collect()
}

/// An item with its key.
pub fn read_one(table: TargetTable, spec: &TableSpec, attributes: Attributes) -> Result<(TargetKey, Held), Error> {
    let held = item::read(attributes).map_err(|error| unreadable(spec, error))?;
    let key = item::key_of(spec, table, &held.item).ok_or_else(|| Error::Refused {
        action: ACTION,
        code: "answer".to_owned(),
        message: format!("an item of {} came without its key", spec.name),
    })?;
    Ok((key, held))
}

/// An item that does not read.
pub fn unreadable(spec: &TableSpec, error: CodecError) -> Error {
    Error::Refused { action: ACTION, code: "answer".to_owned(), message: format!("{}: {error}", spec.name) }
}

/// The service left out some of a batch again and again.
pub fn left_over(action: &'static str, place: &str) -> Error {
    let failure = Failure {
        kind: Kind::Unreachable,
        code: "unprocessed".to_owned(),
        message: format!("table {place}: some of a batch was left unprocessed each time"),
    };
    failed(action, place, failure)
}

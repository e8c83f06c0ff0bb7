//! Items of ours in the partitions that a unit writes to: on a shared table nothing else tells those that nobody expects.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_dynamodb::types::{AttributeValue, ReturnConsumedCapacity};

use crate::dynamo::codec::{self, Attributes};
use crate::dynamo::error::failure;
use crate::event::{Key, Value};
use crate::target::{Error, TargetKey, TargetTable};

use super::DynamoTarget;
use super::calls::{Use, failed};
use super::item::stored;
use super::mark::{OWNER, Owner};
use super::read::read_one;

/// What the errors say was being done.
const ACTION: &str = "look for items of a unit";

/// Keys of the items that bear a unit's mark, in the partitions of some keys; each partition is read whole.
pub async fn of_unit(target: &DynamoTarget, unit: &str, keys: &[TargetKey]) -> Result<BTreeSet<TargetKey>, Error> {
    let mut partitions: BTreeMap<(TargetTable, Key), Value> = BTreeMap::new();
    for key in keys {
        if let Some(value) = key.values.first().map(stored) {
            partitions.insert((key.table, Key(vec![value.clone()])), value);
        }
    }
    let mut found = BTreeSet::new();
    for ((table, _), value) in partitions {
        // A value that no key has leads to no partition.
        let Ok(value) = codec::write(&value) else { continue };
        let mut from = None;
        loop {
            let (page, next) = page(target, table, unit, &value, from).await?;
            found.extend(page);
            from = next;
            if from.is_none() {
                break;
            }
        }
    }
    Ok(found)
}

async fn page(
    target: &DynamoTarget,
    table: TargetTable,
    unit: &str,
    partition: &AttributeValue,
    from: Option<Attributes>,
) -> Result<(Vec<TargetKey>, Option<Attributes>), Error> {
    let spec = target.spec(table);
    let Some(hash) = spec.key.first() else { return Ok((Vec::new(), None)) };
    let prefix = Owner::prefix(&target.migration, Some(unit));
    let ask = || async {
        let call = target.calls.client().query().table_name(&*spec.name).consistent_read(true);
        let call = call.key_condition_expression("#h = :h").filter_expression("begins_with(#u, :p)");
        let call = call.expression_attribute_names("#h", &*hash.name).expression_attribute_names("#u", OWNER);
        let call = call.expression_attribute_values(":h", partition.clone());
        let call = call.expression_attribute_values(":p", AttributeValue::S(prefix.clone()));
        let call = call.set_exclusive_start_key(from.clone());
        call.return_consumed_capacity(ReturnConsumedCapacity::Total).send().await.map_err(|error| failure(&error))
    };
    let answer = target.calls.call(Use::Read, ask).await.map_err(|failure| failed(ACTION, &spec.name, failure))?;
    target.calls.consumed(Use::Read, answer.consumed_capacity().map_or(&[], std::slice::from_ref));
    let mut keys = Vec::new();
    for attributes in answer.items.unwrap_or_default() {
        let (key, held) = read_one(table, spec, attributes)?;
        // What begins like a mark of ours and is none was written by someone else.
        if held.mark.is_some() {
            keys.push(key);
        }
    }
    Ok((keys, answer.last_evaluated_key.filter(|key| !key.is_empty())))
}

//! What is ours at the target, read back from the marks on the items: after the loss of all local state it tells which keys
//! each part was written under.
//!
//! It reads whole tables, and costs as much: a mark is an attribute, no key. No snapshot either: an item written meanwhile
//! may be told as it was before or after.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::{AttributeValue, ReturnConsumedCapacity};
use tokio::sync::mpsc;

use crate::dynamo::codec::Attributes;
use crate::dynamo::error::failure;
use crate::target::{Error, TargetKey, TargetTable, WriteVersion};

use super::DynamoTarget;
use super::calls::{Use, failed};
use super::mark::{OWNER, Owner, VERSION};
use super::read::read_one;

/// What the errors say was being done.
const ACTION: &str = "look for what was written";

/// An item of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// The unit that it belongs to.
    pub unit: Box<str>,
    /// The part of it.
    pub part: Box<[u8]>,
    /// Its key.
    pub key: TargetKey,
    /// The write that last changed it.
    pub version: WriteVersion,
}

/// Hands over every item of ours, page by page; dropping the receiver ends it.
pub async fn tell(target: &DynamoTarget, unit: Option<&str>, out: mpsc::Sender<Vec<Placed>>) -> Result<u64, Error> {
    let prefix = Owner::prefix(&target.migration, unit);
    let mut told = 0;
    for table in (0..).take(target.specs.len()).map(TargetTable) {
        let mut from = None;
        loop {
            let (page, next) = page(target, table, &prefix, from).await?;
            told += page.len() as u64;
            if !page.is_empty() && out.send(page).await.is_err() {
                return Ok(told);
            }
            from = next;
            if from.is_none() {
                break;
            }
        }
    }
    Ok(told)
}

/// Reads a page; and where the next one begins, if there is one.
async fn page(
    target: &DynamoTarget,
    table: TargetTable,
    prefix: &str,
    from: Option<Attributes>,
) -> Result<(Vec<Placed>, Option<Attributes>), Error> {
    let spec = target.spec(table);
    let mut names = HashMap::from([("#u".to_owned(), OWNER.to_owned()), ("#v".to_owned(), VERSION.to_owned())]);
    for (attribute, short) in spec.key.iter().zip(["#h", "#r"]) {
        names.insert(short.to_owned(), attribute.name.to_string());
    }
    let projection = if spec.key.len() == 1 { "#u, #v, #h" } else { "#u, #v, #h, #r" };
    let ask = || async {
        let call = target.calls.client().scan().table_name(&*spec.name).consistent_read(true);
        let call = call.filter_expression("begins_with(#u, :p)").projection_expression(projection);
        let call = call.set_expression_attribute_names(Some(names.clone()));
        let call = call.expression_attribute_values(":p", AttributeValue::S(prefix.to_owned()));
        let call = call.set_exclusive_start_key(from.clone());
        call.return_consumed_capacity(ReturnConsumedCapacity::Total).send().await.map_err(|error| failure(&error))
    };
    let answer = target.calls.call(Use::Read, ask).await.map_err(|failure| failed(ACTION, &spec.name, failure))?;
    target.calls.consumed(Use::Read, answer.consumed_capacity().map_or(&[], std::slice::from_ref));
    let mut page = Vec::new();
    for attributes in answer.items.unwrap_or_default() {
        let (key, held) = read_one(table, spec, attributes)?;
        // What begins like a mark of ours and is none was written by someone else.
        let Some(mark) = held.mark else { continue };
        let Some((_, unit, part)) = mark.owner.read() else { continue };
        page.push(Placed { unit: unit.into(), part: part.into(), key, version: mark.version });
    }
    Ok((page, answer.last_evaluated_key.filter(|key| !key.is_empty())))
}

//! Writes parts that were never written by BatchWriteItem: a fifth of the round trips, and no conditions.
//!
//! Allowed only where nobody else writes (`Sharing::Exclusive`) and a table held nothing when the target was opened, which
//! also means: not after a restart; and only until the first write of something that was written before. So a batch cannot
//! meet an item, and the last of an item's writes is never a batch. A batch repeated after a lost answer is written again
//! rather than told to be a repeat.

use std::collections::{HashMap, HashSet};

use aws_sdk_dynamodb::types::{PutRequest, ReturnConsumedCapacity, WriteRequest};
use futures_util::FutureExt as _;

use crate::dynamo::error::{Kind, failure};
use crate::dynamo::size::item_bytes;
use crate::target::{Error, UnitOutcome};

use super::DynamoTarget;
use super::calls::{Patience, Use, failed, together, write_units};
use super::item::{self, Wanted};
use super::plan::Tally;
use super::read::left_over;
use super::write::Task;

/// Items of one BatchWriteItem, at most.
const ITEMS_MAX: usize = 25;
/// Bytes of items of one batch, at most: a request has 16 MB, as text, in which bytes and control characters grow.
const BYTES_MAX: usize = 2 * 1024 * 1024;
/// What the errors say was being done.
const ACTION: &str = "write target items";

/// An item of a part, by the part's place among the tasks.
type Entry<'a> = (usize, &'a Wanted);

/// Parts that are left to be written, and places and outcomes of those that were.
type Written<'a> = (Vec<Task<'a>>, Vec<(usize, UnitOutcome)>);

/// Writes the parts for which that is allowed; the others are left over, as are those of a batch that was refused.
pub async fn write_fresh<'a>(target: &DynamoTarget, tasks: Vec<Task<'a>>) -> Result<Written<'a>, Error> {
    let mut keys = HashSet::new();
    let (tasks, mut rest): (Vec<Task<'a>>, Vec<Task<'a>>) = tasks.into_iter().partition(|task| {
        // Two items of one key refuse the whole batch: the later one goes by itself, and finds the earlier one there.
        let allowed =
            task.fresh() && task.wanted.iter().all(|item| target.batches(item.key.table) && !keys.contains(&item.key));
        if allowed {
            keys.extend(task.wanted.iter().map(|item| item.key.clone()));
        }
        allowed
    });
    let entries = tasks.iter().enumerate().flat_map(|(index, task)| task.wanted.iter().map(move |item| (index, item)));
    let batches = cut(entries);
    let calls = batches.iter().map(|batch| send(target, batch).boxed());
    let refused = together(target.settings.concurrency, Box::new(calls)).await?;
    let refused: HashSet<usize> = refused.into_iter().flatten().collect();
    let mut written = Vec::with_capacity(tasks.len());
    for (index, task) in tasks.into_iter().enumerate() {
        if refused.contains(&index) {
            rest.push(task);
        } else {
            let tally = Tally { upserted: task.wanted.len() as u64, ..Tally::default() };
            written.push((task.place, tally.outcome(task.write.version)));
        }
    }
    Ok((rest, written))
}

/// Cuts items into batches.
fn cut<'a>(entries: impl Iterator<Item = Entry<'a>>) -> Vec<Vec<Entry<'a>>> {
    let mut batches: Vec<Vec<Entry<'a>>> = Vec::new();
    let mut bytes = 0;
    for entry in entries {
        let full = batches.last().is_none_or(|batch| batch.len() == ITEMS_MAX);
        if full || bytes + entry.1.bytes > BYTES_MAX {
            batches.push(Vec::with_capacity(ITEMS_MAX));
            bytes = 0;
        }
        bytes += entry.1.bytes;
        if let Some(batch) = batches.last_mut() {
            batch.push(entry);
        }
    }
    batches
}

/// Sends a batch, again for what was left unprocessed; answers the parts that a refusal leaves to be written one by one.
async fn send(target: &DynamoTarget, batch: &[Entry<'_>]) -> Result<Vec<usize>, Error> {
    let mut request: HashMap<String, Vec<WriteRequest>> = HashMap::new();
    let mut by_size = true;
    for (_, item) in batch {
        let put = PutRequest::builder().set_item(Some(item.attributes.clone())).build().expect("an item was given");
        let table = target.spec(item.key.table).name.to_string();
        request.entry(table).or_default().push(WriteRequest::builder().put_request(put).build());
        by_size = by_size && target.costs_its_size(item.key.table).await;
    }
    let place = || batch.first().map_or_else(String::new, |(_, item)| target.spec(item.key.table).name.to_string());
    let mut patience = Patience::new();
    // What of it is not yet written costs by its size.
    let mut owed: f64 = batch.iter().map(|(_, item)| write_units(item.bytes)).sum();
    loop {
        let ask = || async {
            let call = target.calls.client().batch_write_item().set_request_items(Some(request.clone()));
            let call = call.set_return_consumed_capacity((!by_size).then_some(ReturnConsumedCapacity::Total));
            call.send().await.map_err(|error| failure(&error))
        };
        let answer = match target.calls.call(Use::Write, ask).await {
            Ok(answer) => answer,
            // One item refuses the whole batch: one by one each answers for itself.
            Err(refusal) if refusal.kind == Kind::Refused => {
                return Ok(batch.iter().map(|(index, _)| *index).collect());
            }
            Err(failure) => return Err(failed(ACTION, &place(), failure)),
        };
        target.calls.consumed(Use::Write, answer.consumed_capacity());
        request = answer.unprocessed_items.unwrap_or_default();
        if by_size {
            let left = request.values().flatten().map(units).sum();
            target.calls.wrote(owed - left);
            owed = left;
        }
        if request.values().all(Vec::is_empty) {
            return Ok(Vec::new());
        }
        target.calls.throttled(Use::Write);
        if !target.calls.wait(&mut patience).await {
            return Err(left_over(ACTION, &place()));
        }
    }
}

/// What a put that the service left undone will cost.
fn units(request: &WriteRequest) -> f64 {
    let item = request.put_request().and_then(|put| item::read(put.item.clone()).ok());
    let bytes = item.map_or(0, |held| item_bytes(&held.item) + held.mark.map_or(0, |mark| mark.bytes()));
    write_units(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::{TargetKey, TargetTable};

    fn sizes(items: &[usize]) -> Vec<usize> {
        let item = |&bytes: &usize| {
            let key = TargetKey { table: TargetTable(0), values: Vec::new() };
            Wanted { key, attributes: HashMap::new(), bytes }
        };
        let items: Vec<Wanted> = items.iter().map(item).collect();
        cut(items.iter().map(|item| (0, item))).iter().map(Vec::len).collect()
    }

    #[test]
    fn a_batch_ends_at_25_items_or_at_its_bytes() {
        assert_eq!(sizes(&[]), [0; 0]);
        assert_eq!(sizes(&[1; 60]), [25, 25, 10]);
        assert_eq!(sizes(&[BYTES_MAX / 2, BYTES_MAX / 2, 1, 1]), [2, 2]);
        assert_eq!(sizes(&[400 * 1024; 12]), [5, 5, 2]);
    }
}

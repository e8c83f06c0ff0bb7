//! Writes parts, each item under a condition on what is there.
//!
//! What was never written is put where nothing is, without a look; everything else is looked at first, so that what is as it
//! should be costs no write unit and makes no record in the table's stream. A condition that fails brings the item that is
//! there with it, and the decision is taken anew from that: the look only saves work, the condition is what holds.

use std::collections::{HashMap, HashSet};

use aws_sdk_dynamodb::operation::delete_item::DeleteItemError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnConsumedCapacity, ReturnValuesOnConditionCheckFailure};
use futures_util::FutureExt as _;

use crate::dynamo::codec::Attributes;
use crate::dynamo::error::{Failure, Kind, failure};
use crate::target::{Error, ForeignScope, TargetKey, Trust, UnitOutcome, UnitWrite};

use super::calls::{Use, failed, together, write_units};
use super::item::{self, Held, NOT_STORABLE, Refusal, Wanted, key_attributes, stored_key};
use super::mark::{Mark, OWNER, Owner, VERSION, version_value};
use super::plan::{Plan, Standing, Tally, plan, standing};
use super::{DynamoTarget, batch, read};

/// Times that an item is tried that others change meanwhile.
const CONTESTS_MAX: usize = 8;
/// What the errors say was being done.
const ACTION: &str = "write target items";

/// A part on its way.
pub struct Task<'a> {
    /// Its place in the batch.
    pub place: usize,
    /// What is to be written.
    pub write: &'a UnitWrite,
    /// The mark of its items.
    pub mark: Mark,
    /// Its items.
    pub wanted: Vec<Wanted>,
    /// Keys that it was written under before.
    pub before: Vec<TargetKey>,
}

impl Task<'_> {
    /// Whether nothing of it is at the target as far as is known.
    pub fn fresh(&self) -> bool {
        self.write.trust == Trust::Fresh && self.before.is_empty()
    }
}

/// What became of an item.
enum Put {
    /// It was written; where there was none before, it can be taken back.
    Written { place: usize, inserted: bool },
    /// It needs no write, or must not be written.
    Settled(Standing),
    /// The service does not take it.
    Refused(String),
}

/// The condition that a write is made under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    /// There is no item.
    Absent,
    /// The item is the part's own, not newer than the write.
    Own,
    /// The item is what this very write put there.
    Written,
}

/// Writes a batch; see the contract on [`Target::apply`](crate::target::Target::apply).
pub async fn apply(target: &DynamoTarget, batch: &[UnitWrite]) -> Result<Vec<UnitOutcome>, Error> {
    let mut outcomes: Vec<Option<UnitOutcome>> = vec![None; batch.len()];
    let mut tasks = Vec::with_capacity(batch.len());
    for (place, write) in batch.iter().enumerate() {
        match prepare(target, place, write) {
            Ok(task) => tasks.push(task),
            Err(Refusal { reason, detail }) => {
                outcomes[place] = Some(UnitOutcome::Parked { reason: reason.into(), detail: detail.into() });
            }
        }
    }
    let (tasks, written) = batch::write_fresh(target, tasks).await?;
    let seen = look(target, &tasks).await?;
    let parts = tasks.iter().map(|task| write_part(target, task, &seen).boxed());
    let one_by_one = together(target.settings.concurrency, Box::new(parts)).await?;
    for (place, outcome) in written.into_iter().chain(one_by_one) {
        outcomes[place] = Some(outcome);
    }
    Ok(outcomes.into_iter().map(|outcome| outcome.expect("every part of the batch has been judged")).collect())
}

/// Makes the items of a part.
fn prepare<'a>(target: &DynamoTarget, place: usize, write: &'a UnitWrite) -> Result<Task<'a>, Refusal> {
    let mark = Mark { owner: Owner::new(&target.migration, &write.unit, &write.part), version: write.version };
    let mut wanted = Vec::with_capacity(write.rows.len());
    let mut keys = HashSet::with_capacity(write.rows.len());
    for row in &write.rows {
        let spec = target.spec(row.table);
        let item = Wanted::new(spec, row, &mark)?;
        if !keys.insert(item.key.clone()) {
            let detail = format!("two rows of the part have one key in {}", spec.name);
            return Err(Refusal { reason: "key_collision", detail });
        }
        wanted.push(item);
    }
    let before = write.before.iter().filter_map(|key| stored_key(target.spec(key.table), key)).collect();
    let task = Task { place, write, mark, wanted, before };
    if !task.fresh() {
        target.end_batches(task.wanted.iter().map(|item| &item.key).chain(&task.before));
    }
    Ok(task)
}

/// Whether a part can be written without a look: nothing of it should be there, and each item stands for itself.
fn unseen(target: &DynamoTarget, task: &Task<'_>) -> bool {
    task.fresh() && target.settings.foreign_scope == ForeignScope::Row
}

/// Reads what is there of the parts that need it.
async fn look(target: &DynamoTarget, tasks: &[Task<'_>]) -> Result<HashMap<TargetKey, Held>, Error> {
    let keys: Vec<TargetKey> = tasks
        .iter()
        .filter(|task| !unseen(target, task))
        .flat_map(|task| task.wanted.iter().map(|item| &item.key).chain(&task.before))
        .cloned()
        .collect();
    read::look(target, &keys).await
}

/// Writes a part: its items, and then the deletes, which a crash in between leaves to the repetition of the same write.
async fn write_part(
    target: &DynamoTarget,
    task: &Task<'_>,
    seen: &HashMap<TargetKey, Held>,
) -> Result<(usize, UnitOutcome), Error> {
    let Plan { puts, deletes, mut tally } = if unseen(target, task) {
        let puts = (0..task.wanted.len()).map(|place| (place, Standing::Absent)).collect();
        Plan { puts, deletes: Vec::new(), tally: Tally::default() }
    } else {
        plan(&task.wanted, &task.before, task.write.deletes, &task.mark, seen)
    };
    let scope = target.settings.foreign_scope;
    if let Some(outcome) = tally.obstacle(task.wanted.len(), scope) {
        return Ok((task.place, outcome));
    }
    let concurrency = target.settings.concurrency;
    let puts = puts.into_iter().map(|(place, standing)| put(target, task, place, standing).boxed());
    let done = together(concurrency, Box::new(puts)).await?;
    let (mut inserted, mut refused) = (Vec::new(), None);
    for put in done {
        match put {
            Put::Written { place, inserted: new } => {
                tally.upserted += 1;
                inserted.extend(new.then_some(place));
            }
            Put::Settled(standing) => drop(tally.settle(standing)),
            Put::Refused(detail) => refused = Some(detail),
        }
    }
    let parked = refused.map(|detail| UnitOutcome::Parked { reason: NOT_STORABLE.into(), detail: detail.into() });
    if let Some(outcome) = parked.or_else(|| tally.obstacle(task.wanted.len(), scope)) {
        // What was put where nothing was is taken back: a part is not left in pieces.
        let back = |place: usize| delete(target, task, &task.wanted[place].key, Condition::Written).boxed();
        together(concurrency, Box::new(inserted.into_iter().map(back))).await?;
        return Ok((task.place, outcome));
    }
    let gone = deletes.iter().map(|key| delete(target, task, key, Condition::Own).boxed());
    let gone = together(concurrency, Box::new(gone)).await?;
    tally.deleted = gone.iter().map(|one| one.deleted).sum();
    tally.newer = gone.iter().filter_map(|one| one.newer).max();
    let outcome = tally.obstacle(task.wanted.len(), scope).unwrap_or_else(|| tally.outcome(task.write.version));
    Ok((task.place, outcome))
}

/// Puts one item.
async fn put(target: &DynamoTarget, task: &Task<'_>, place: usize, mut stands: Standing) -> Result<Put, Error> {
    let wanted = &task.wanted[place];
    let spec = target.spec(wanted.key.table);
    for _ in 0..CONTESTS_MAX {
        let condition = if stands == Standing::Absent { Condition::Absent } else { Condition::Own };
        let by_size = condition == Condition::Absent && target.costs_its_size(wanted.key.table).await;
        let send = || send_put(target, task, wanted, condition, by_size);
        let there = match target.calls.call(Use::Write, send).await {
            Ok(None) => return Ok(Put::Written { place, inserted: stands == Standing::Absent }),
            Ok(Some(there)) => there,
            Err(Failure { kind: Kind::Refused, code, message }) if of_item(&code) => {
                return Ok(Put::Refused(format!("{}: {code} {message}", spec.name)));
            }
            Err(failure) => return Err(failed(ACTION, &spec.name, failure)),
        };
        target.calls.wrote(write_units(wanted.bytes));
        let held = match there {
            Some(attributes) => Some(item::read(attributes).map_err(|error| read::unreadable(spec, error))?),
            None => read::look(target, std::slice::from_ref(&wanted.key)).await?.remove(&wanted.key),
        };
        stands = standing(wanted, held.as_ref(), &task.mark);
        if !matches!(stands, Standing::Absent | Standing::Outdated) {
            return Ok(Put::Settled(stands));
        }
    }
    let reason = "someone else keeps changing an item".to_owned();
    let contested = Failure { kind: Kind::Unreachable, code: "contested".to_owned(), message: reason };
    Err(failed(ACTION, &spec.name, contested))
}

/// Refusals that are about one item; any other would meet every item of the table.
fn of_item(code: &str) -> bool {
    matches!(code, "ValidationException" | "ItemCollectionSizeLimitExceededException")
}

/// What is there when a condition failed: the item, or `None` where the server does not say.
type There = Option<Attributes>;

async fn send_put(
    target: &DynamoTarget,
    task: &Task<'_>,
    wanted: &Wanted,
    condition: Condition,
    by_size: bool,
) -> Result<Option<There>, Failure> {
    let spec = target.spec(wanted.key.table);
    let (expression, names, values) = expression(condition, &spec.key[0].name, &task.mark);
    let call = target.calls.client().put_item().table_name(&*spec.name).set_item(Some(wanted.attributes.clone()));
    let call = call.condition_expression(expression).set_expression_attribute_names(Some(names));
    let call = call.set_expression_attribute_values(values);
    let call = call.return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
    let call = call.set_return_consumed_capacity((!by_size).then_some(ReturnConsumedCapacity::Total));
    match call.send().await {
        Ok(_) if by_size => {
            target.calls.wrote(write_units(wanted.bytes));
            Ok(None)
        }
        Ok(answer) => {
            target.calls.consumed(Use::Write, answer.consumed_capacity().map_or(&[], std::slice::from_ref));
            Ok(None)
        }
        Err(error) => match error.as_service_error() {
            Some(PutItemError::ConditionalCheckFailedException(failed)) => Ok(Some(failed.item().cloned())),
            _ => Err(failure(&error)),
        },
    }
}

/// Deletes one item that is the part's own; what else is there stays.
async fn delete(target: &DynamoTarget, task: &Task<'_>, key: &TargetKey, condition: Condition) -> Result<Tally, Error> {
    let spec = target.spec(key.table);
    let send = || send_delete(target, task, key, condition);
    let answer = target.calls.call(Use::Write, send).await.map_err(|failure| failed(ACTION, &spec.name, failure))?;
    let mut tally = Tally::default();
    match answer {
        None => tally.deleted = 1,
        Some(there) => {
            target.calls.wrote(write_units(1));
            let held = there.map(item::read).transpose().map_err(|error| read::unreadable(spec, error))?;
            let ours = held.and_then(|held| held.mark).filter(|mark| mark.owner == task.mark.owner);
            tally.newer = ours.map(|mark| mark.version).filter(|version| *version > task.mark.version);
        }
    }
    Ok(tally)
}

async fn send_delete(
    target: &DynamoTarget,
    task: &Task<'_>,
    key: &TargetKey,
    condition: Condition,
) -> Result<Option<There>, Failure> {
    let spec = target.spec(key.table);
    let (expression, names, values) = expression(condition, &spec.key[0].name, &task.mark);
    let call = target.calls.client().delete_item().table_name(&*spec.name);
    let call = call.set_key(Some(key_attributes(spec, key)));
    let call = call.condition_expression(expression).set_expression_attribute_names(Some(names));
    let call = call.set_expression_attribute_values(values);
    let call = call.return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
    match call.return_consumed_capacity(ReturnConsumedCapacity::Total).send().await {
        Ok(answer) => {
            target.calls.consumed(Use::Write, answer.consumed_capacity().map_or(&[], std::slice::from_ref));
            Ok(None)
        }
        Err(error) => match error.as_service_error() {
            Some(DeleteItemError::ConditionalCheckFailedException(failed)) => Ok(Some(failed.item().cloned())),
            _ => Err(failure(&error)),
        },
    }
}

/// A condition as the service takes it: expression, names, values.
fn expression(
    condition: Condition,
    hash: &str,
    mark: &Mark,
) -> (&'static str, HashMap<String, String>, Option<HashMap<String, AttributeValue>>) {
    let text = match condition {
        Condition::Absent => {
            let names = HashMap::from([("#k".to_owned(), hash.to_owned())]);
            return ("attribute_not_exists(#k)", names, None);
        }
        Condition::Own => "#u = :u AND #v <= :v",
        Condition::Written => "#u = :u AND #v = :v",
    };
    let names = [("#u", OWNER), ("#v", VERSION)].map(|(short, name)| (short.to_owned(), name.to_owned()));
    let values = HashMap::from([
        (":u".to_owned(), AttributeValue::S(mark.owner.as_str().to_owned())),
        (":v".to_owned(), version_value(mark.version)),
    ]);
    (text, names.into(), Some(values))
}

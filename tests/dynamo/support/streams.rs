//! Streams that the shim has taken over: the records of a real one, cut into shards as a test wants them.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::shim::Upstream;

/// Records of a page: few, so that a shard has several; half of what there is where that is more.
const PAGE: usize = 3;
/// Shards of a page of a description.
const LISTED: usize = 2;
/// The service's answer for a place that is trimmed.
const TRIMMED: &str = "TrimmedDataAccessException";
/// The service's answer for what is not there.
const NOT_FOUND: &str = "ResourceNotFoundException";

/// How records are numbered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Numbering {
    /// As the real stream does.
    #[default]
    Real,
    /// So that after the tenth record numbers have 40 digits, and before it 39.
    Widening,
}

/// A shard.
#[derive(Debug, Default)]
struct Shard {
    parent: Option<usize>,
    records: Vec<Value>,
    /// Records that are gone from its beginning.
    trimmed: usize,
    closed: bool,
    /// Descriptions that do not list it.
    hidden: usize,
    /// Whether nothing of it is left.
    gone: bool,
}

/// A stream.
#[derive(Debug, Default)]
struct Stream {
    /// Where the real stream is read on.
    iterator: Option<String>,
    shards: Vec<Shard>,
    numbering: Numbering,
    count: u32,
    /// Iterators of an older generation have expired.
    generation: u32,
    disabled: bool,
}

/// See the module.
pub struct Streams {
    upstream: Upstream,
    taken: Mutex<HashMap<String, Stream>>,
}

fn name(shard: usize) -> String {
    format!("shardId-{shard:08}")
}

fn number(name: &Value) -> Option<usize> {
    name.as_str()?.strip_prefix("shardId-")?.parse().ok()
}

impl Streams {
    /// None yet.
    pub fn new(upstream: Upstream) -> Self {
        Self { upstream, taken: Mutex::default() }
    }

    /// Takes a stream over: it has one open shard, number 0.
    pub async fn take(&self, arn: &str, numbering: Numbering) {
        let stream = Stream { shards: vec![Shard::default()], numbering, ..Stream::default() };
        self.taken.lock().await.insert(arn.to_owned(), stream);
    }

    /// Closes every open shard and opens so many children for each.
    pub async fn roll(&self, arn: &str, children: usize) {
        self.change(arn, |stream| {
            for parent in 0..stream.shards.len() {
                if !std::mem::replace(&mut stream.shards[parent].closed, true) {
                    let child = || Shard { parent: Some(parent), ..Shard::default() };
                    stream.shards.extend((0..children).map(|_| child()));
                }
            }
        })
        .await;
    }

    /// Leaves a shard out of the next descriptions.
    pub async fn hide(&self, arn: &str, shard: usize, descriptions: usize) {
        self.change(arn, |stream| stream.shards[shard].hidden = descriptions).await;
    }

    /// Trims all records that shards have by now; a closed shard is gone then.
    pub async fn trim(&self, arn: &str) {
        self.change(arn, |stream| {
            for shard in &mut stream.shards {
                shard.trimmed = shard.records.len();
                shard.gone = shard.closed;
            }
        })
        .await;
    }

    /// Lets all iterators expire that were handed out so far.
    pub async fn expire(&self, arn: &str) {
        self.change(arn, |stream| stream.generation += 1).await;
    }

    /// Turns the stream off: its shards are closed and have no children.
    pub async fn disable(&self, arn: &str) {
        self.change(arn, |stream| {
            stream.disabled = true;
            stream.shards.iter_mut().for_each(|shard| shard.closed = true);
        })
        .await;
    }

    /// Changes a stream after everything written so far is in its shards.
    async fn change(&self, arn: &str, change: impl FnOnce(&mut Stream)) {
        let mut taken = self.taken.lock().await;
        let stream = taken.get_mut(arn).expect("it was taken over");
        pull(&self.upstream, arn, stream).await;
        change(stream);
    }

    /// The answer to a request about a stream that was taken over.
    pub async fn answer(&self, operation: &str, asked: &Value) -> Option<Result<Value, &'static str>> {
        let mut taken = self.taken.lock().await;
        match operation {
            "DescribeStream" => {
                let arn = asked["StreamArn"].as_str()?;
                Some(Ok(describe(taken.get_mut(arn)?, arn, asked)))
            }
            "GetShardIterator" => {
                let arn = asked["StreamArn"].as_str()?;
                Some(iterator(taken.get(arn)?, arn, asked))
            }
            "GetRecords" => {
                // `generation shard index arn`
                let iterator = asked["ShardIterator"].as_str()?.strip_prefix("taken ")?;
                let mut parts = iterator.splitn(4, ' ');
                let mut next = || parts.next().expect("an iterator of ours");
                let (generation, shard, index) = (next().parse(), next().parse(), next().parse());
                let arn = next().to_owned();
                let stream = taken.get_mut(&arn)?;
                pull(&self.upstream, &arn, stream).await;
                let place = (generation.expect("a number"), shard.expect("a number"), index.expect("a number"));
                Some(records(stream, &arn, place))
            }
            _ => None,
        }
    }
}

/// Reads the real stream to its end; each record goes to the open shard of its key.
///
/// A client may be killed at any await, and this goes with it: records and place change together, between two awaits.
async fn pull(upstream: &Upstream, arn: &str, stream: &mut Stream) {
    loop {
        let iterator = match stream.iterator.clone() {
            Some(iterator) => iterator,
            None => beginning(upstream, arn).await,
        };
        let asked = json!({ "ShardIterator": iterator });
        let page = upstream.ask("DynamoDBStreams_20120810.GetRecords", &asked).await;
        if stream.count == 0 && page["__type"].as_str().is_some_and(|kind| kind.ends_with(TRIMMED)) {
            // The local server takes a place before the first record of a shard for a trimmed one.
            stream.iterator = None;
            continue;
        }
        let next = page["NextShardIterator"].as_str().unwrap_or_else(|| panic!("the real shard is open: {page}"));
        stream.iterator = Some(next.to_owned());
        let records = page["Records"].as_array().cloned().unwrap_or_default();
        let last = records.is_empty();
        records.into_iter().for_each(|record| stream.take(record));
        if last {
            return;
        }
    }
}

/// An iterator at the beginning of the real stream's one shard.
async fn beginning(upstream: &Upstream, arn: &str) -> String {
    let target = |operation: &str| format!("DynamoDBStreams_20120810.{operation}");
    let described = upstream.ask(&target("DescribeStream"), &json!({ "StreamArn": arn })).await;
    let shard = &described["StreamDescription"]["Shards"][0]["ShardId"];
    let asked = json!({"StreamArn": arn, "ShardId": shard, "ShardIteratorType": "TRIM_HORIZON"});
    let answer = upstream.ask(&target("GetShardIterator"), &asked).await;
    answer["ShardIterator"].as_str().expect("an iterator").to_owned()
}

impl Stream {
    /// Puts a record into the open shard of its key.
    fn take(&mut self, mut record: Value) {
        if self.numbering == Numbering::Widening {
            let wide = 999_999_999_999_999_990 + u64::from(self.count);
            record["dynamodb"]["SequenceNumber"] = format!("{wide}{}", "0".repeat(21)).into();
        }
        self.count += 1;
        let keys: BTreeMap<String, Value> = serde_json::from_value(record["dynamodb"]["Keys"].clone()).expect("a map");
        let mut hasher = DefaultHasher::new();
        format!("{keys:?}").hash(&mut hasher);
        let open: Vec<usize> =
            self.shards.iter().enumerate().filter(|(_, shard)| !shard.closed).map(|(at, _)| at).collect();
        if !open.is_empty() {
            let at = hasher.finish() % open.len() as u64;
            self.shards[open[usize::try_from(at).expect("small")]].records.push(record);
        }
    }
}

/// One page of a description: children first, which is the worst order.
fn describe(stream: &mut Stream, arn: &str, asked: &Value) -> Value {
    let mut order: Vec<usize> = (0..stream.shards.len()).rev().collect();
    let first_page = asked["ExclusiveStartShardId"].is_null();
    if let Some(start) = number(&asked["ExclusiveStartShardId"]) {
        order.retain(|shard| *shard < start);
    }
    let more = order.len() > LISTED;
    order.truncate(LISTED);
    let mut listed = Vec::new();
    for shard in &order {
        let facts = &stream.shards[*shard];
        if facts.gone || facts.hidden > 0 {
            continue;
        }
        let range = json!({"StartingSequenceNumber": "1"});
        let mut described = json!({"ShardId": name(*shard), "SequenceNumberRange": range});
        if let Some(parent) = facts.parent {
            described["ParentShardId"] = name(parent).into();
        }
        listed.push(described);
    }
    if first_page {
        stream.shards.iter_mut().for_each(|shard| shard.hidden = shard.hidden.saturating_sub(1));
    }
    let status = if stream.disabled { "DISABLED" } else { "ENABLED" };
    let mut description = json!({"StreamArn": arn, "StreamStatus": status, "Shards": listed});
    if more {
        description["LastEvaluatedShardId"] = name(*order.last().expect("a page")).into();
    }
    json!({ "StreamDescription": description })
}

fn iterator(stream: &Stream, arn: &str, asked: &Value) -> Result<Value, &'static str> {
    let number = number(&asked["ShardId"]).ok_or(NOT_FOUND)?;
    let shard = stream.shards.get(number).filter(|shard| !shard.gone).ok_or(NOT_FOUND)?;
    let index = match asked["ShardIteratorType"].as_str() {
        Some("TRIM_HORIZON") => shard.trimmed,
        Some("AFTER_SEQUENCE_NUMBER") => {
            let sequence = |record: &Value| record["dynamodb"]["SequenceNumber"] == asked["SequenceNumber"];
            let index = shard.records.iter().position(sequence).ok_or(TRIMMED)? + 1;
            if index < shard.trimmed {
                return Err(TRIMMED);
            }
            index
        }
        _ => return Err("ValidationException"),
    };
    Ok(json!({"ShardIterator": format!("taken {} {number} {index} {arn}", stream.generation)}))
}

fn records(
    stream: &Stream,
    arn: &str,
    (generation, number, index): (u32, usize, usize),
) -> Result<Value, &'static str> {
    if generation < stream.generation {
        return Err("ExpiredIteratorException");
    }
    let shard = stream.shards.get(number).filter(|shard| !shard.gone).ok_or(NOT_FOUND)?;
    if index < shard.trimmed {
        return Err(TRIMMED);
    }
    let page: Vec<&Value> =
        shard.records.iter().skip(index).take(PAGE.max((shard.records.len() - index) / 2)).collect();
    let next = index + page.len();
    let mut answer = json!({ "Records": page });
    if !shard.closed || next < shard.records.len() {
        answer["NextShardIterator"] = format!("taken {} {number} {next} {arn}", stream.generation).into();
    }
    Ok(answer)
}

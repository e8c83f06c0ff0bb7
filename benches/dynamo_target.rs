//! Rows written to DynamoDB, beside bare loops of the SDK that write the same items with as many requests at once.
//!
//! `cargo bench --bench dynamo_target -- [--items N] [--runs N]` starts a DynamoDB Local of its own, as the tests do. Each
//! measure writes new keys into one table without a stream. Measures take turns; medians and ratios go to standard error.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Instant;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{
    AttributeValue, PutRequest, ReturnConsumedCapacity, ReturnValuesOnConditionCheckFailure, WriteRequest,
};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use rehome::dynamo::codec::{Attributes, write_item};
use rehome::dynamo::table::{KeyAttribute, KeyKind};
use rehome::dynamo::target::{Billing, DynamoTarget, Settings, Sharing, TableSpec, provision};
use rehome::dynamo::{Address, Server};
use rehome::event::{Decimal, Value};
use rehome::target::{
    Deletes, ForeignScope, Target as _, TargetRow, TargetTable, Trust, UnitOutcome, UnitWrite, WriteVersion,
};

#[path = "../tests/dynamo/support/server.rs"]
mod server;

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Requests at once, for each measure: the machine has two cores, and the server needs most of them.
const CONCURRENCY: usize = 8;
/// Items of one BatchWriteItem.
const BATCH: usize = 25;
/// Measures; ours are the rows' own names, the others are loops of the SDK.
const MEASURES: [&str; 7] = [
    "PutItem bare",
    "PutItem with a condition",
    "PutItem as ours",
    "conditional",
    "BatchWriteItem bare",
    "BatchWriteItem as ours",
    "batch",
];
/// What is compared with what.
const PAIRS: [(&str, &str); 5] = [
    ("conditional", "PutItem bare"),
    ("conditional", "PutItem with a condition"),
    ("conditional", "PutItem as ours"),
    ("batch", "BatchWriteItem bare"),
    ("batch", "BatchWriteItem as ours"),
];

/// What a bare loop sends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sent {
    /// The item.
    Item,
    /// The item, under a condition.
    Condition,
    /// The item with marks like ours, and the cost asked for; a put also under a condition like ours.
    AsOurs,
}

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |name: &str, usual: usize| {
        let at = arguments.iter().position(|argument| argument == name);
        at.and_then(|at| arguments.get(at + 1)).map_or(Ok(usual), |text| text.parse::<usize>())
    };
    let (items, runs) = (number("--items", 2_000)?, number("--runs", 5)?.max(1));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure(items, runs))
}

async fn measure(items: usize, runs: usize) -> Outcome<()> {
    let server = Server::new(&Address::local(server::url())).await?;
    let mut seconds: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    // The first round warms the server up.
    for round in 0..=runs {
        for name in MEASURES {
            // A table of its own: batches are for empty ones, and the others get no better.
            let spec = spec(&format!("{}-{round}", name.replace(' ', "-")));
            provision(&server, std::slice::from_ref(&spec)).await?;
            let began = Instant::now();
            match name {
                "PutItem bare" => bare_puts(&server, &spec, items, Sent::Item).await?,
                "PutItem with a condition" => bare_puts(&server, &spec, items, Sent::Condition).await?,
                "PutItem as ours" => bare_puts(&server, &spec, items, Sent::AsOurs).await?,
                "BatchWriteItem bare" => bare_batches(&server, &spec, items, Sent::Item).await?,
                "BatchWriteItem as ours" => bare_batches(&server, &spec, items, Sent::AsOurs).await?,
                "conditional" => project(&server, &spec, items, Sharing::Shared).await?,
                _ => project(&server, &spec, items, Sharing::Exclusive).await?,
            }
            let taken = began.elapsed().as_secs_f64();
            server.tables().delete_table().table_name(&*spec.name).send().await?;
            if round > 0 {
                seconds.entry(name).or_default().push(taken);
            }
        }
    }
    let mut median = |name: &str| {
        let times = seconds.get_mut(name).map_or(&mut [][..], Vec::as_mut_slice);
        times.sort_by(f64::total_cmp);
        times.get(times.len() / 2).copied().ok_or("no runs")
    };
    for (ours, bare) in PAIRS {
        let (bare_seconds, our_seconds) = (median(bare)?, median(ours)?);
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = |seconds: f64| items as f64 / seconds;
        writeln!(
            std::io::stderr(),
            "{ours}: {:.0} items/s, {bare} {:.0} items/s, ratio {:.2}",
            rate(our_seconds),
            rate(bare_seconds),
            bare_seconds / our_seconds
        )?;
    }
    Ok(())
}

fn spec(name: &str) -> TableSpec {
    TableSpec {
        name: name.into(),
        key: vec![KeyAttribute { name: "id".into(), kind: KeyKind::S }],
        indexes: Vec::new(),
        billing: Billing::OnDemand,
        stream: None,
    }
}

/// An item of about a kilobyte.
fn item(id: usize) -> BTreeMap<Box<str>, Value> {
    let amount = Decimal::parse(&format!("{id}.25")).map_or(Value::Null, Value::Decimal);
    [
        ("id".into(), Value::Text(key(id))),
        ("text".into(), Value::text("text ".repeat(150))),
        ("amount".into(), amount),
        ("tags".into(), Value::TextSet([Box::from("a"), Box::from("b")].into())),
        ("more".into(), Value::List(vec![Value::Null, Value::Bool(false)])),
    ]
    .into()
}

fn key(id: usize) -> Box<str> {
    format!("item-{id:08}").into()
}

fn attributes(items: usize, sent: Sent) -> Outcome<Vec<Attributes>> {
    let item = |id| {
        let mut item = write_item(&item(id))?;
        if sent == Sent::AsOurs {
            let mark = format!("[\"bench\",\"unit-{id}\",\"ffff\"]");
            item.insert("_rehome_u".to_owned(), AttributeValue::S(mark));
            item.insert("_rehome_v".to_owned(), AttributeValue::B(Blob::new([0; 24])));
        }
        Ok(item)
    };
    (0..items).map(item).collect()
}

async fn bare_puts(server: &Server, spec: &TableSpec, items: usize, sent: Sent) -> Outcome<()> {
    let client = server.tables();
    let puts = attributes(items, sent)?.into_iter().map(|item| async {
        let put = client.put_item().table_name(&*spec.name).set_item(Some(item));
        let put = match sent {
            Sent::Item => put,
            Sent::Condition => put.condition_expression("attribute_not_exists(id)"),
            Sent::AsOurs => put
                .condition_expression("attribute_not_exists(#key)")
                .expression_attribute_names("#key", "id")
                .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
                .return_consumed_capacity(ReturnConsumedCapacity::Total),
        };
        put.send().await?;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
    });
    stream::iter(puts).buffer_unordered(CONCURRENCY).try_collect().await
}

async fn bare_batches(server: &Server, spec: &TableSpec, items: usize, sent: Sent) -> Outcome<()> {
    let client = server.tables();
    let items = attributes(items, sent)?;
    let batches = items.chunks(BATCH).map(|batch| async move {
        let mut writes = Vec::with_capacity(batch.len());
        for item in batch {
            let put = PutRequest::builder().set_item(Some(item.clone())).build()?;
            writes.push(WriteRequest::builder().put_request(put).build());
        }
        let call = client.batch_write_item().request_items(&*spec.name, writes);
        let call = match sent {
            Sent::AsOurs => call.return_consumed_capacity(ReturnConsumedCapacity::Total),
            Sent::Item | Sent::Condition => call,
        };
        let answer = call.send().await?;
        match answer.unprocessed_items.is_none_or(|left| left.is_empty()) {
            true => Ok::<_, Box<dyn std::error::Error + Send + Sync>>(()),
            false => Err("the local server leaves nothing unprocessed".into()),
        }
    });
    stream::iter(batches).buffer_unordered(CONCURRENCY).try_collect().await
}

/// Writes parts of one row each, as a migration row by row does, in batches of the size that a projector hands over.
async fn project(server: &Server, spec: &TableSpec, items: usize, sharing: Sharing) -> Outcome<()> {
    let settings =
        Settings { foreign_scope: ForeignScope::Row, concurrency: CONCURRENCY, write_units_max: None, sharing };
    let specs: Arc<[TableSpec]> = [spec.clone()].into();
    let target = DynamoTarget::open(server, "bench", specs, settings).await?;
    let write = |id: usize| UnitWrite {
        unit: format!("unit-{id}").into(),
        part: [0xff, 0xff].into(),
        version: WriteVersion { log: 1, mapping: 1, partition: 0, offset: 1 },
        rows: vec![TargetRow { table: TargetTable(0), values: vec![Value::Text(key(id)), Value::Map(item(id))] }],
        trust: Trust::Fresh,
        deletes: Deletes::Now,
        before: Vec::new(),
    };
    let writes: Vec<UnitWrite> = (0..items).map(write).collect();
    for batch in writes.chunks(1000) {
        for outcome in target.apply(batch).await? {
            if !matches!(outcome, UnitOutcome::Written { upserted: 1, .. }) {
                return Err("a row was not written".into());
            }
        }
    }
    Ok(())
}

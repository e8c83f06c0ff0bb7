//! DynamoDB into the log, beside a bare loop of the SDK that reads the same and throws it away.
//!
//! `cargo bench --bench dynamo -- [--items N] [--runs N]` starts a DynamoDB Local of its own, as the tests do; more than
//! 25,000 items make that server slow. Measures take turns; medians and ratios go to standard error.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, PutRequest, ScalarAttributeType,
    StreamSpecification, StreamViewType, WriteRequest,
};
use aws_sdk_dynamodbstreams::types::ShardIteratorType;
use rehome::dynamo::feed::{DynamoFeed, Start, StreamStart};
use rehome::dynamo::pace::Pace;
use rehome::dynamo::scan::{DynamoScan, Next, Segment, SegmentTask};
use rehome::dynamo::table::{Table, describe};
use rehome::dynamo::{Address, Server};
use rehome::event::Epoch;
use rehome::log::{Batch, EmbeddedLog, EventLog, Options};
use rehome::source::{ChangeFeed as _, Clock, RangeId, Snapshot as _};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

#[path = "../tests/dynamo/support/server.rs"]
mod server;

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Segments read at the same time: the machine has two cores, and the server needs some of them.
const SEGMENTS: u32 = 2;
/// The table's name.
const TABLE: &str = "bench";

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |name: &str, usual: usize| {
        let at = arguments.iter().position(|argument| argument == name);
        at.and_then(|at| arguments.get(at + 1)).map_or(Ok(usual), |text| text.parse::<usize>())
    };
    let (items, runs) = (number("--items", 20_000)?, number("--runs", 5)?.max(1));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure(items, runs))
}

async fn measure(items: usize, runs: usize) -> Outcome<()> {
    let server = Server::new(&Address::local(server::url())).await?;
    fill(&server, items).await?;
    let table = describe(&server, TABLE).await?.ok_or("no such table")?;
    let mut seconds: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    // The first round warms the server up.
    for round in 0..=runs {
        for name in ["scan bare", "scan to log", "stream bare", "stream to log"] {
            let began = Instant::now();
            let read = match name {
                "scan bare" => bare_scan(&server).await?,
                "scan to log" => scan_to_log(&server, &table).await?,
                "stream bare" => bare_stream(&server, &table, items).await?,
                _ => stream_to_log(&server, &table, items).await?,
            };
            if read != items {
                return Err(format!("{name}: {read} of {items} read").into());
            }
            if round > 0 {
                seconds.entry(name).or_default().push(began.elapsed().as_secs_f64());
            }
        }
    }
    let mut median = |name: &str| {
        let times = seconds.get_mut(name).map_or(&mut [][..], Vec::as_mut_slice);
        times.sort_by(f64::total_cmp);
        times.get(times.len() / 2).copied().ok_or("no runs")
    };
    for (kind, bare, log) in [("scan", "scan bare", "scan to log"), ("stream", "stream bare", "stream to log")] {
        let (bare, log) = (median(bare)?, median(log)?);
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = |seconds: f64| items as f64 / seconds;
        writeln!(
            std::io::stderr(),
            "{kind}: bare {:.0}/s, to the log {:.0}/s, ratio {:.2}",
            rate(bare),
            rate(log),
            bare / log
        )?;
    }
    Ok(())
}

/// Makes the table and fills it with items of about a kilobyte.
async fn fill(server: &Server, items: usize) -> Outcome<()> {
    let client = server.tables();
    let definition = AttributeDefinition::builder().attribute_name("id").attribute_type(ScalarAttributeType::S);
    let key = KeySchemaElement::builder().attribute_name("id").key_type(KeyType::Hash);
    let stream = StreamSpecification::builder().stream_enabled(true).stream_view_type(StreamViewType::NewAndOldImages);
    client
        .create_table()
        .table_name(TABLE)
        .billing_mode(BillingMode::PayPerRequest)
        .attribute_definitions(definition.build()?)
        .key_schema(key.build()?)
        .stream_specification(stream.build()?)
        .send()
        .await?;
    let ids: Vec<usize> = (0..items).collect();
    for chunk in ids.chunks(25) {
        let mut writes = Vec::new();
        for id in chunk {
            let put = PutRequest::builder()
                .item("id", AttributeValue::S(format!("item-{id:08}")))
                .item("text", AttributeValue::S("text ".repeat(150)))
                .item("amount", AttributeValue::N(format!("{id}.25")))
                .item("tags", AttributeValue::Ss(vec!["a".into(), "b".into()]))
                .item("more", AttributeValue::L(vec![AttributeValue::Null(true), AttributeValue::Bool(false)]));
            writes.push(WriteRequest::builder().put_request(put.build()?).build());
        }
        client.batch_write_item().request_items(TABLE, writes).send().await?;
    }
    Ok(())
}

async fn bare_scan(server: &Server) -> Outcome<usize> {
    let mut segments = JoinSet::new();
    for segment in 0..SEGMENTS {
        let client = server.tables().clone();
        segments.spawn(async move {
            let (mut count, mut from) = (0, None);
            loop {
                let request = client.scan().table_name(TABLE).consistent_read(true);
                let request = request.segment(i32::try_from(segment)?).total_segments(i32::try_from(SEGMENTS)?);
                let page = request.set_exclusive_start_key(from).send().await?;
                count += page.items().len();
                from = page.last_evaluated_key;
                if from.is_none() {
                    return Ok::<_, Box<dyn std::error::Error + Send + Sync>>(count);
                }
            }
        });
    }
    let mut count = 0;
    while let Some(segment) = segments.join_next().await {
        count += segment??;
    }
    Ok(count)
}

/// A durable log in the temporary folder, removed with its folder.
fn log() -> Outcome<(Arc<EmbeddedLog>, tempfile::TempDir)> {
    let folder = tempfile::tempdir()?;
    let log = EmbeddedLog::open(&folder.path().join("log"), Options { partitions: 1, generation: 1 })?;
    Ok((Arc::new(log), folder))
}

async fn scan_to_log(server: &Server, table: &Table) -> Outcome<usize> {
    let (log, _folder) = log()?;
    let task = |number| {
        let segment = Segment { table: TABLE.into(), number, total: SEGMENTS, next: Next::Start, rows: 0, bytes: 0 };
        (RangeId(number), SegmentTask { shape: table.shape.clone(), segment })
    };
    let mark = |range: RangeId| format!("segment/{}", range.0);
    let pace = Arc::new(Pace::new(None));
    let tasks = (0..SEGMENTS).map(task).collect();
    let scan = Arc::new(DynamoScan::new(server.clone(), Epoch(1), tasks, mark, pace));
    let mut segments = JoinSet::new();
    for number in 0..SEGMENTS {
        let (scan, log) = (Arc::clone(&scan), Arc::clone(&log));
        segments.spawn(async move {
            let (out, mut batches) = mpsc::channel::<Batch>(1);
            let append = async {
                let mut count = 0;
                while let Some(batch) = batches.recv().await {
                    count += batch.events.len();
                    log.append(batch).await?;
                }
                Ok::<_, rehome::log::Error>(count)
            };
            let (outcome, count) = tokio::join!(scan.copy(RangeId(number), out), append);
            outcome?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(count?)
        });
    }
    let mut count = 0;
    while let Some(segment) = segments.join_next().await {
        count += segment??;
    }
    Ok(count)
}

async fn bare_stream(server: &Server, table: &Table, items: usize) -> Outcome<usize> {
    let (client, arn) = (server.streams(), &table.stream.as_ref().ok_or("no stream")?.arn);
    let described = client.describe_stream().stream_arn(arn).send().await?.stream_description.ok_or("no stream")?;
    let shard = described.shards().first().and_then(|shard| shard.shard_id()).ok_or("no shard")?;
    let iterator = client.get_shard_iterator().stream_arn(arn).shard_id(shard);
    let mut iterator = iterator.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await?.shard_iterator;
    let mut count = 0;
    while count < items {
        let page = client.get_records().set_shard_iterator(iterator).send().await?;
        count += page.records().len();
        iterator = page.next_shard_iterator;
    }
    Ok(count)
}

async fn stream_to_log(server: &Server, table: &Table, items: usize) -> Outcome<usize> {
    let (log, _folder) = log()?;
    let arn = table.stream.as_ref().ok_or("no stream")?.arn.clone();
    let shape = table.shape.clone();
    let start = Start {
        epoch: Epoch(1),
        streams: vec![StreamStart { shape, arn, shards: BTreeMap::new(), described: None }],
        shard_mark: "shard/".into(),
        described_mark: "described/".into(),
        poll: Duration::from_millis(250),
        discover: Duration::from_secs(10),
        clock: Clock::system(),
    };
    let mut feed = DynamoFeed::open(server, start);
    let mut count = 0;
    while count < items {
        let delivery = feed.next().await?.ok_or("the feed ended")?;
        count += delivery.batch.events.len();
        log.append(delivery.batch).await?;
        feed.acknowledge(delivery.receipt);
    }
    Ok(count)
}

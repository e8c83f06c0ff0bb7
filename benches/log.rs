//! Micro benchmarks of what every event goes through: encode, digest, append, read.
//!
//! `cargo bench --bench log`. Rows are of about 200 bytes and 1 KiB, as the measures in the repository's notes ask.

use std::sync::Arc;

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use rehome::event::encoding::ordered::key_bytes;
use rehome::event::{
    Canonical, Column, Decimal, DigestKey, Digester, Epoch, Event, Flags, Key, Lsn, Op, Origin, Relation, RelationName,
    Row, Timestamp, Value, Version,
};
use rehome::log::{Batch, EmbeddedLog, EventLog, Offset, Options, Partition};

/// Events appended at once; the capture's batches are of this order.
const BATCH_EVENTS: usize = 1_000;

fn main() {
    divan::main();
}

/// Columns of an ordinary table; the text makes up the size.
fn values(id: i64, bytes: usize) -> Vec<Value> {
    vec![
        Value::Int(id),
        Value::Uuid(uuid::Uuid::from_u128(id.unsigned_abs().into())),
        Value::Timestamp(Timestamp(id * 1_000_000)),
        Value::Bool(id % 2 == 0),
        Value::Decimal(Decimal::from(id)),
        Value::Null,
        Value::text("queued"),
        Value::text("x".repeat(bytes.saturating_sub(60))),
    ]
}

const COLUMNS: [&str; 8] = ["id", "uid", "made_at", "open", "amount", "note", "state", "body"];

fn relation() -> Arc<Relation> {
    let column = |(index, name): (usize, &&str)| Column {
        name: (*name).into(),
        type_name: "text".into(),
        key_part: (index == 0).then_some(0),
    };
    Arc::new(Relation {
        name: RelationName { schema: "public".into(), table: "bench".into() },
        columns: COLUMNS.iter().enumerate().map(column).collect(),
    })
}

fn event(relation: &Relation, id: i64, bytes: usize) -> Event {
    Event {
        relation: relation.schema_hash(),
        op: Op::Read,
        key: Key(vec![Value::Int(id)]),
        old_key: None,
        before: None,
        after: Some(values(id, bytes).into_iter().collect()),
        version: Version::postgres(Epoch(1), Lsn(id.unsigned_abs()), 0),
        transaction: None,
        origin: Origin::Snapshot { range: 1 },
        flags: Flags::default(),
    }
}

#[divan::bench(args = [200, 1024])]
fn encode_row(bencher: Bencher, bytes: usize) {
    let row: Row = values(1, bytes).into_iter().collect();
    let mut out = Vec::with_capacity(2 * bytes);
    bencher.counter(ItemsCount::new(1_usize)).counter(BytesCount::new(bytes)).bench_local(|| {
        out.clear();
        black_box(&row).put(&mut out);
        out.len()
    });
}

#[divan::bench(args = [200, 1024])]
fn encode_event(bencher: Bencher, bytes: usize) {
    let event = event(&relation(), 1, bytes);
    let mut out = Vec::with_capacity(2 * bytes);
    bencher.counter(ItemsCount::new(1_usize)).bench_local(|| {
        out.clear();
        black_box(&event).put(&mut out);
        out.len()
    });
}

#[divan::bench(args = [200, 1024])]
fn decode_event(bencher: Bencher, bytes: usize) {
    let stored = event(&relation(), 1, bytes).encode();
    bencher.counter(ItemsCount::new(1_usize)).bench(|| Event::decode(black_box(&stored)));
}

#[divan::bench(args = [200, 1024])]
fn encode_and_digest_row(bencher: Bencher, bytes: usize) {
    let digester = Digester::rows(&DigestKey::new([7; 32]), "bench", &COLUMNS);
    let (values, mut buffer) = (values(1, bytes), Vec::with_capacity(2 * bytes));
    let counted = bencher.counter(ItemsCount::new(1_usize)).counter(BytesCount::new(bytes));
    counted.bench_local(|| digester.digest_into(black_box(&values), &mut buffer));
}

#[divan::bench]
fn ordered_key(bencher: Bencher) {
    let key = Key(vec![Value::text("a conversation"), Value::Int(7)]);
    bencher.counter(ItemsCount::new(1_usize)).bench(|| key_bytes(black_box(&key)));
}

struct Log {
    runtime: tokio::runtime::Runtime,
    log: EmbeddedLog,
    // Removed last.
    _folder: tempfile::TempDir,
}

fn log() -> Log {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("a runtime");
    let folder = tempfile::tempdir().expect("a folder");
    let log = EmbeddedLog::open(folder.path(), Options { partitions: 1, generation: 1 }).expect("the log opens");
    Log { runtime, log, _folder: folder }
}

fn batch(relation: &Arc<Relation>, bytes: usize) -> Batch {
    let events = (0..BATCH_EVENTS as i64).map(|id| event(relation, id, bytes)).collect();
    Batch { relations: vec![Arc::clone(relation)], events, ..Batch::default() }
}

/// One durable append after the other: the worst case, each waits for a sync of its own.
#[divan::bench(args = [200, 1024], sample_count = 50)]
fn append_one_by_one(bencher: Bencher, bytes: usize) {
    let (log, relation) = (log(), relation());
    let made = bencher.counter(ItemsCount::new(BATCH_EVENTS)).with_inputs(|| batch(&relation, bytes));
    made.bench_local_values(|batch| log.runtime.block_on(log.log.append(batch)).expect("it appends"));
}

/// Eight durable appends at once, as several readers of a snapshot do: they share syncs.
#[divan::bench(args = [200, 1024], sample_count = 20)]
fn append_eight_at_once(bencher: Bencher, bytes: usize) {
    let (log, relation) = (log(), relation());
    let made = bencher
        .counter(ItemsCount::new(8 * BATCH_EVENTS))
        .with_inputs(|| std::array::from_fn::<_, 8, _>(|_| batch(&relation, bytes)));
    made.bench_local_values(|batches| {
        let appends = futures_util::future::try_join_all(batches.map(|batch| log.log.append(batch)));
        log.runtime.block_on(appends).expect("they append")
    });
}

/// Reads a hundred batches from the front.
#[divan::bench(args = [200, 1024], sample_count = 10)]
fn read_through(bencher: Bencher, bytes: usize) {
    let (log, relation) = (log(), relation());
    for _ in 0..100 {
        log.runtime.block_on(log.log.append(batch(&relation, bytes))).expect("it appends");
    }
    let end = log.log.end(Partition(0));
    bencher.counter(ItemsCount::new(100 * BATCH_EVENTS)).bench_local(|| {
        let mut at = Offset(0);
        while at < end {
            at = log.runtime.block_on(log.log.read(Partition(0), at, 1 << 20)).expect("it reads").next;
        }
    });
}

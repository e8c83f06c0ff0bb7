//! The suite of the log's seam: what the contract on `EventLog` promises, asked of every implementation.

use std::collections::BTreeSet;
use std::sync::Arc;

use rehome::event::{
    Cell, Column, Epoch, Event, Flags, Key, Lsn, Op, Origin, Relation, RelationName, Row, Value, Version,
};
use rehome::log::{Batch, Error, EventLog, Notice, Offset, Partition, Record, partition_of};

/// A table with an integer key and a text beside it.
pub fn relation(table: &str) -> Arc<Relation> {
    let column =
        |name: &str, type_name: &str, key_part| Column { name: name.into(), type_name: type_name.into(), key_part };
    Arc::new(Relation {
        name: RelationName { schema: "public".into(), table: table.into() },
        columns: vec![column("id", "int8", Some(0)), column("body", "text", None)],
    })
}

/// An insert of row `id` at stream position `id`.
pub fn insert(relation: &Relation, id: i64, body: &str) -> Event {
    Event {
        relation: relation.schema_hash(),
        op: Op::Insert,
        key: Key(vec![Value::Int(id)]),
        old_key: None,
        before: None,
        after: Some(Row(vec![Cell::Value(Value::Int(id)), Cell::Value(Value::text(body))])),
        version: Version::postgres(Epoch(1), Lsn(id.unsigned_abs()), 0),
        transaction: None,
        origin: Origin::Stream,
        flags: Flags::default(),
    }
}

/// A batch of inserts with their shape.
pub fn inserts(relation: &Arc<Relation>, ids: std::ops::Range<i64>) -> Batch {
    Batch {
        relations: vec![Arc::clone(relation)],
        events: ids.map(|id| insert(relation, id, "a body")).collect(),
        ..Batch::default()
    }
}

/// Everything in a partition from an offset on, read in chunks of `bytes_max`; asserts that offsets are dense.
pub async fn read_all(log: &dyn EventLog, partition: Partition, from: Offset, bytes_max: usize) -> Vec<Record> {
    let (mut at, mut all) = (from, Vec::new());
    loop {
        let chunk = log.read(partition, at, bytes_max).await.expect("the log reads");
        if chunk.records.is_empty() {
            assert_eq!((chunk.next, at), (at, log.end(partition)), "an empty chunk means the end");
            return all;
        }
        for (offset, record) in chunk.records {
            assert_eq!(offset, at, "offsets are dense");
            at.0 += 1;
            all.push(record);
        }
        assert_eq!(chunk.next, at);
    }
}

/// The integer keys of records, in order.
pub fn ids(records: &[Record]) -> Vec<i64> {
    let id = |record: &Record| match record {
        Record::Event(event) => match event.key.0.first() {
            Some(Value::Int(id)) => Some(*id),
            _ => None,
        },
        Record::Notice(_) | Record::Erased(_) => None,
    };
    records.iter().filter_map(id).collect()
}

const ALL: Partition = Partition(0);

/// Runs the whole suite; `make` answers with an empty log of as many partitions.
pub async fn run<L: EventLog + 'static>(make: impl Fn(u16) -> L) {
    an_empty_log_reads_as_empty(&make(1)).await;
    records_keep_their_order(&make(1)).await;
    reading_begins_anywhere(&make(1)).await;
    a_batch_larger_than_a_block_is_whole(&make(1)).await;
    events_marks_and_shapes_change_together(Arc::new(make(1))).await;
    marks_are_set_removed_and_listed_in_order(&make(1)).await;
    a_follower_wakes(Arc::new(make(1))).await;
    what_could_not_be_read_back_is_refused(&make(1)).await;
    keys_stay_in_their_partition(&make(4)).await;
    what_concerns_all_keys_reaches_all_partitions(&make(4)).await;
    a_changed_key_reaches_both_partitions(&make(4)).await;
    concurrent_appends_stay_whole(Arc::new(make(2))).await;
}

async fn an_empty_log_reads_as_empty(log: &dyn EventLog) {
    assert_eq!(log.partitions(), 1);
    assert_eq!(log.end(ALL), Offset(0));
    assert!(read_all(log, ALL, Offset(0), 1000).await.is_empty());
    assert!(log.relations().is_empty());
    assert_eq!(log.mark("none").expect("marks read"), None);
    log.append(Batch::default()).await.expect("an empty batch appends");
    assert_eq!(log.end(ALL), Offset(0));
}

async fn records_keep_their_order(log: &dyn EventLog) {
    let relation = relation("ordered");
    for start in [0, 10, 20] {
        let mut batch = inserts(&relation, start..start + 10);
        batch.notices = vec![Notice { unit: format!("unit {start}").into(), reason: "retry".into() }];
        log.append(batch).await.expect("it appends");
    }
    for bytes_max in [0, 1, 500, 1_000_000] {
        let all = read_all(log, ALL, Offset(0), bytes_max).await;
        assert_eq!(ids(&all), (0..30).collect::<Vec<_>>());
        let expected = Notice { unit: "unit 10".into(), reason: "retry".into() };
        assert_eq!(all[21], Record::Notice(expected), "notices follow their batch's events");
        assert_eq!(all[3], Record::Event(insert(&relation, 3, "a body")), "an event reads back as it was");
    }
    assert_eq!(log.end(ALL), Offset(33));
}

async fn reading_begins_anywhere(log: &dyn EventLog) {
    let relation = relation("middle");
    for start in (0..100).step_by(7) {
        log.append(inserts(&relation, start..(start + 7).min(100))).await.expect("it appends");
    }
    for from in [0, 1, 6, 7, 50, 99, 100, 101] {
        let chunk = log.read(ALL, Offset(from), 1_000_000).await.expect("it reads");
        let read: Vec<_> = chunk.records.iter().map(|(offset, _)| offset.0).collect();
        assert_eq!(read, (from..100).collect::<Vec<_>>());
    }
}

async fn a_batch_larger_than_a_block_is_whole(log: &dyn EventLog) {
    let relation = relation("large");
    let body = "b".repeat(1_000);
    let events: Vec<_> = (0..2_000).map(|id| insert(&relation, id, &body)).collect();
    log.append(Batch { relations: vec![relation], events, ..Batch::default() }).await.expect("it appends");
    assert_eq!(ids(&read_all(log, ALL, Offset(0), 300_000).await), (0..2_000).collect::<Vec<_>>());
    assert_eq!(ids(&read_all(log, ALL, Offset(1_234), 10_000).await), (1_234..2_000).collect::<Vec<_>>());
    let chunk = log.read(ALL, Offset(0), 10_000).await.expect("it reads");
    assert!(chunk.records.len() < 1_000, "a chunk is bounded: {}", chunk.records.len());
}

/// A reader that looks at any time sees a mark that agrees with the end.
async fn events_marks_and_shapes_change_together(log: Arc<impl EventLog + 'static>) {
    let writer = Arc::clone(&log);
    let writing = tokio::spawn(async move {
        for batch in 1..=50_u64 {
            let relation = relation(&format!("together {batch}"));
            let mut events = inserts(&relation, 0..10);
            events.marks.insert("appended".into(), Some((batch * 10).to_be_bytes().to_vec()));
            writer.append(events).await.expect("it appends");
        }
    });
    let mut looks = 0;
    while !writing.is_finished() || looks == 0 {
        let before = log.end(ALL).0;
        let mark = log.mark("appended").expect("marks read");
        let mark = mark.map_or(0, |bytes| u64::from_be_bytes(bytes.try_into().expect("eight bytes")));
        let after = log.end(ALL).0;
        assert!(before <= mark && mark <= after, "{before} {mark} {after}");
        let chunk = log.read(ALL, Offset(0), 1_000_000).await.expect("it reads");
        for (_, record) in chunk.records {
            let Record::Event(event) = record else { continue };
            assert!(log.relation(event.relation).is_some(), "a visible event has its shape");
        }
        looks += 1;
        tokio::task::yield_now().await;
    }
    writing.await.expect("the writer ends");
    assert_eq!((log.end(ALL).0, log.relations().len()), (500, 50));
}

async fn marks_are_set_removed_and_listed_in_order(log: &dyn EventLog) {
    let set = |marks: &[(&str, Option<&[u8]>)]| Batch {
        marks: marks.iter().map(|(name, value)| ((*name).into(), value.map(<[u8]>::to_vec))).collect(),
        ..Batch::default()
    };
    log.append(set(&[("b/2", Some(b"2")), ("b/10", Some(b"10")), ("a", Some(b"")), ("c", Some(b"x"))]))
        .await
        .expect("set");
    log.append(set(&[("b/2", Some(b"two")), ("c", None), ("never", None)])).await.expect("set");
    let listed = |prefix: &str| log.marks(prefix).expect("marks read");
    assert_eq!(listed("b/"), [("b/10".to_owned(), b"10".to_vec()), ("b/2".to_owned(), b"two".to_vec())]);
    assert_eq!(listed("").len(), 3);
    assert!(listed("d").is_empty());
    assert_eq!(log.mark("a").expect("marks read"), Some(Vec::new()));
    assert_eq!(log.mark("c").expect("marks read"), None);
    assert_eq!(log.end(ALL), Offset(0), "marks are no records");
}

async fn a_follower_wakes(log: Arc<impl EventLog + 'static>) {
    let follower = Arc::clone(&log);
    let following = tokio::spawn(async move {
        let mut at = Offset(0);
        while at < Offset(30) {
            follower.wait_beyond(ALL, at).await;
            let chunk = follower.read(ALL, at, 1_000_000).await.expect("it reads");
            assert!(!chunk.records.is_empty(), "a wake means records");
            at = chunk.next;
        }
        at
    });
    let relation = relation("followed");
    for start in [0, 10, 20] {
        log.append(inserts(&relation, start..start + 10)).await.expect("it appends");
    }
    assert_eq!(following.await.expect("the follower ends"), Offset(30));
    // What is there already does not wait.
    log.wait_beyond(ALL, Offset(29)).await;
}

async fn what_could_not_be_read_back_is_refused(log: &dyn EventLog) {
    let relation = relation("refused");
    let unregistered = Batch { relations: vec![], ..inserts(&relation, 0..1) };
    assert!(matches!(log.append(unregistered).await, Err(Error::Refused { .. })));
    let mut deep = inserts(&relation, 0..2);
    let nested = (0..100).fold(Value::Null, |inner, _| Value::List(vec![inner]));
    deep.events[1].after = Some(Row(vec![Cell::Value(nested)]));
    deep.marks.insert("deep".into(), Some(vec![]));
    assert!(matches!(log.append(deep).await, Err(Error::Refused { .. })));
    assert_eq!((log.end(ALL), log.mark("deep").expect("marks read")), (Offset(0), None), "nothing of it is there");
    assert!(log.relations().is_empty());
    log.append(inserts(&relation, 0..1)).await.expect("the log goes on");
    assert_eq!(log.end(ALL), Offset(1));
}

async fn keys_stay_in_their_partition(log: &dyn EventLog) {
    let relation = relation("spread");
    log.append(inserts(&relation, 0..100)).await.expect("it appends");
    log.append(inserts(&relation, 0..100)).await.expect("it appends");
    let mut total = 0;
    for partition in (0..4).map(Partition) {
        let found = ids(&read_all(log, partition, Offset(0), 1_000).await);
        let of = |id: &i64| partition_of(&relation.name, &Key(vec![Value::Int(*id)]), 4);
        assert!(found.iter().all(|id| of(id) == partition));
        assert!(found.len() > 20, "{partition:?} holds {}", found.len());
        let (first, second) = found.split_at(found.len() / 2);
        assert_eq!(first, second, "both batches in order");
        total += found.len();
    }
    assert_eq!(total, 200);
}

async fn what_concerns_all_keys_reaches_all_partitions(log: &dyn EventLog) {
    let relation = relation("truncated");
    let mut batch = inserts(&relation, 0..40);
    let truncate = Event { op: Op::Truncate, key: Key(vec![]), after: None, ..insert(&relation, 40, "") };
    batch.events.insert(20, truncate.clone());
    batch.notices = vec![Notice { unit: "u".into(), reason: "repair".into() }];
    log.append(batch).await.expect("it appends");
    for partition in (0..4).map(Partition) {
        let all = read_all(log, partition, Offset(0), 1_000).await;
        let at = all.iter().position(|record| *record == Record::Event(truncate.clone())).expect("a copy");
        assert!(ids(&all[..at]).iter().all(|id| *id < 20) && ids(&all[at..]).iter().all(|id| *id >= 20));
        assert!(matches!(all.last(), Some(Record::Notice(_))));
    }
}

async fn a_changed_key_reaches_both_partitions(log: &dyn EventLog) {
    let relation = relation("moved");
    let of = |id: i64| partition_of(&relation.name, &Key(vec![Value::Int(id)]), 4);
    let other = (1..).find(|id| of(*id) != of(0)).expect("keys spread");
    let moved = Event { op: Op::Update, old_key: Some(Key(vec![Value::Int(0)])), ..insert(&relation, other, "moved") };
    let batch = Batch { relations: vec![Arc::clone(&relation)], events: vec![moved.clone()], ..Batch::default() };
    log.append(batch).await.expect("it appends");
    let mut holders = BTreeSet::new();
    for partition in (0..4).map(Partition) {
        let all = read_all(log, partition, Offset(0), 1_000).await;
        if !all.is_empty() {
            assert_eq!(all, [Record::Event(moved.clone())]);
            holders.insert(partition);
        }
    }
    assert_eq!(holders, BTreeSet::from([of(0), of(other)]));
}

async fn concurrent_appends_stay_whole(log: Arc<impl EventLog + 'static>) {
    let relation = relation("concurrent");
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..16_i64 {
        let (log, relation) = (Arc::clone(&log), Arc::clone(&relation));
        writers.spawn(async move {
            for round in 0..10 {
                let start = writer * 1_000 + round * 10;
                let mut batch = inserts(&relation, start..start + 10);
                batch.marks.insert(format!("writer {writer:02}"), Some(round.to_be_bytes().to_vec()));
                log.append(batch).await.expect("it appends");
            }
        });
    }
    while let Some(ended) = writers.join_next().await {
        ended.expect("a writer ends");
    }
    let mut found = Vec::new();
    for partition in (0..2).map(Partition) {
        let own = ids(&read_all(&*log, partition, Offset(0), 10_000).await);
        for writer in 0..16 {
            assert!(own.iter().filter(|id| **id / 1_000 == writer).is_sorted(), "a writer's events keep their order");
        }
        found.extend(own);
    }
    found.sort_unstable();
    let expected: Vec<_> = (0..16).flat_map(|writer| (0..100).map(move |id| writer * 1_000 + id)).collect();
    assert_eq!(found, expected);
    let last: Vec<_> = log.marks("writer").expect("marks read").into_iter().map(|(_, value)| value).collect();
    assert_eq!(last, vec![9_i64.to_be_bytes().to_vec(); 16]);
}

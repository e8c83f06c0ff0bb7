//! A workload whose every trace can be checked: lanes of numbered events, each batch with a mark that counts them.

use std::sync::Arc;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rehome::event::{Cell, Event, Value};
use rehome::log::{Batch, EmbeddedLog, Error, EventLog, Offset, Options, Partition, Record};

use crate::suite;

/// Writers that append at the same time.
pub const LANES: i64 = 3;
/// Partitions, so that a batch that is there in part would show.
pub const PARTITIONS: u16 = 2;
/// Distance between the keys of two lanes.
const STRIDE: i64 = 1_000_000;

/// Options of the log under test.
pub fn options() -> Options {
    Options { partitions: PARTITIONS, generation: 1_700_000_000_000 }
}

/// How large bodies are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bodies {
    /// A few bytes each.
    Small,
    /// Every eighth is larger than most blocks' share, so that writes are long and tables are made.
    Mixed,
}

fn event(id: i64, bodies: Bodies) -> Event {
    let repeat = if bodies == Bodies::Mixed && id % 8 == 0 { 20_000 } else { 3 };
    suite::insert(&suite::relation("lanes"), id, &format!("body {id} ").repeat(repeat))
}

/// Appends to one lane from where its mark says, until `go_on` says no; calls it with each acknowledged total.
pub async fn append(
    log: Arc<dyn EventLog>,
    lane: i64,
    seed: u64,
    bodies: Bodies,
    mut go_on: impl FnMut(i64) -> bool,
) -> Result<(), Error> {
    let mut random = ChaCha8Rng::seed_from_u64(seed.wrapping_mul(31).wrapping_add(lane.unsigned_abs()));
    let mut total = marked(&*log, lane);
    while go_on(total) {
        let next = total + random.random_range(1..=8);
        let batch = Batch {
            relations: vec![suite::relation("lanes")],
            events: (total..next).map(|seq| event(lane * STRIDE + seq, bodies)).collect(),
            marks: [(format!("lane/{lane}"), Some(next.to_be_bytes().to_vec()))].into(),
            ..Batch::default()
        };
        log.append(batch).await?;
        total = next;
    }
    Ok(())
}

fn marked(log: &dyn EventLog, lane: i64) -> i64 {
    let mark = log.mark(&format!("lane/{lane}")).expect("marks read");
    mark.map_or(0, |bytes| i64::from_be_bytes(bytes.try_into().expect("eight bytes")))
}

/// Checks that each lane holds exactly the events that its mark counts, whole and in order; answers with the totals.
///
/// An error is damage that the log itself reported.
pub async fn verify(log: &EmbeddedLog, bodies: Bodies) -> Result<[i64; LANES as usize], Error> {
    let mut found = [const { Vec::new() }; LANES as usize];
    for partition in (0..PARTITIONS).map(Partition) {
        let (mut at, mut last) = (Offset(0), [-1; LANES as usize]);
        loop {
            let chunk = log.read(partition, at, 1_000_000).await?;
            if chunk.records.is_empty() {
                assert_eq!(at, log.end(partition), "an empty chunk means the end");
                break;
            }
            for (offset, record) in chunk.records {
                assert_eq!(offset, at, "offsets are dense");
                at.0 += 1;
                let Record::Event(read) = record else { panic!("only events were appended") };
                let Some(Cell::Value(Value::Int(id))) = read.after.as_ref().and_then(|row| row.0.first()) else {
                    panic!("a row without its key");
                };
                let lane = usize::try_from(id / STRIDE).expect("a lane");
                assert!(last[lane] < *id, "a lane's events keep their order");
                last[lane] = *id;
                found[lane].push(id % STRIDE);
                assert!(read == event(*id, bodies), "event {id} reads back as it was");
            }
        }
    }
    let mut totals = [0; LANES as usize];
    for (lane, (seqs, total)) in found.iter_mut().zip(&mut totals).enumerate() {
        *total = marked(log, lane as i64);
        seqs.sort_unstable();
        assert!(seqs.iter().copied().eq(0..*total), "lane {lane} holds what its mark counts, without a gap: {total}");
    }
    Ok(totals)
}

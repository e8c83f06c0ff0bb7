//! A TRUNCATE while the snapshot's rows are still on their way to the log: what it emptied does not come back.

use std::path::Path;
use std::sync::Arc;

use rehome::engine::{Engine, Settings};
use rehome::event::Op;
use rehome::log::{EventLog as _, Offset, Partition};
use rehome::mapping::Migration;
use rehome::project::apply::Applier;
use rehome::project::state::State;

use crate::support::capture::{config, patiently, start};
use crate::support::gate::{GateLog, Hold};
use crate::support::legacy;

const TABLE: &str = "conversation_calls";

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_the_snapshot_read_before_a_truncate_stay_gone_when_they_arrive_after_it() {
    let mut legacy = legacy::database().await;
    legacy.run(format!("insert into {TABLE} (call_id) select 'old' || i from generate_series(1, 5) i")).await;
    let gate = GateLog::new();
    gate.hold(Hold::RowsAfter(0));
    let mut capture = start(config(&legacy.url, &[TABLE]), gate.clone());
    patiently("the rows at the gate", gate.held()).await;
    legacy.run(format!("truncate {TABLE}; insert into {TABLE} (call_id) values ('new'), ('old3')")).await;
    capture.settled(&mut legacy).await;
    gate.hold(Hold::Nothing);
    capture.caught_up().await;
    let ops: Vec<Op> = capture.events().await.iter().map(|event| event.op).collect();
    let at = |op| ops.iter().position(|found| *found == op);
    assert!(at(Op::Truncate) < at(Op::Read) && at(Op::Truncate).is_some(), "the case this is about: {ops:?}");
    capture.stop().await.expect("a clean end");

    let folder = tempfile::tempdir().expect("a folder");
    let schemas = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/luthien");
    let migration = Arc::new(Migration::load(&schemas).expect("it loads"));
    let engine = Engine::new(migration, Settings::new(folder.path().to_owned(), None, None));
    let state = State::open(&folder.path().join("state")).expect("a state");
    let mut applier =
        Applier::resume(&state, Arc::clone(engine.sources()), Arc::clone(engine.migration())).expect("it resumes");
    let chunk = gate.read(Partition(0), Offset(0), 1 << 20).await.expect("it reads");
    applier.apply(&*gate, &state, &chunk.records, chunk.next).expect("it applies");
    assert_eq!(applier.counters.table(TABLE).rows, 2, "the two that were inserted after it");
}

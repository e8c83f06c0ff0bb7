//! I7: the same log and the same mapping give the same target, however the log is cut, repeated and interrupted.

use std::path::Path;
use std::sync::Arc;

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rehome::engine::{Engine, Settings as EngineSettings};
use rehome::event::Event;
use rehome::log::{Batch, EmbeddedLog, EventLog, MemoryLog, Offset, Options, Partition, Record};
use rehome::mapping::Migration;
use rehome::project::apply::Applier;
use rehome::project::conservation::Conservation;
use rehome::project::prepare::Settings;
use rehome::project::projector::Projector;
use rehome::project::state::State;
use rehome::target::{ForeignScope, TargetRow};
use tokio_util::sync::CancellationToken;

use crate::support::memory_target::MemoryTarget;
use crate::support::rig::Rig;
use crate::support::writer::Writer;

const ALL: Partition = Partition(0);

/// Ways to project one log.
const VARIANTS: u64 = 12;

/// Events of a log, in order, with the shapes they refer to.
struct Recorded {
    events: Vec<Event>,
    log: EmbeddedLog,
}

/// One way to project: a log written in pieces, some of them twice, a state that is dropped and opened again.
struct Way {
    log: Arc<MemoryLog>,
    folder: tempfile::TempDir,
    target: Arc<MemoryTarget>,
    engine: Arc<Engine>,
    random: ChaCha8Rng,
}

impl Way {
    /// Appends the events in pieces of any size; a piece may come twice, as after a crash of the capture.
    async fn append(&mut self, recorded: &Recorded) {
        self.log.append(Batch { relations: recorded.log.relations(), ..Batch::default() }).await.expect("it takes");
        let mut from = 0;
        while from < recorded.events.len() {
            let to = (from + self.random.random_range(1..60)).min(recorded.events.len());
            let again = self.random.random_range(0..30).min(from);
            for events in [&recorded.events[from - again..from], &recorded.events[from..to]] {
                let batch = Batch { events: events.to_vec(), ..Batch::default() };
                self.log.append(batch).await.expect("it takes");
            }
            from = to;
        }
    }

    fn projector(&self, state: &Arc<State>) -> Projector {
        let settings = Settings {
            log_generation: 1,
            mapping_generation: 1,
            unit_bytes_max: u64::MAX,
            writers: 1,
            batch_parts: None,
        };
        Projector::new(
            Arc::clone(&self.log) as Arc<dyn EventLog>,
            Arc::clone(state),
            Arc::clone(self.engine.migration()),
            Arc::clone(self.engine.sources()),
            Arc::clone(self.engine.tables()),
            Arc::clone(&self.target) as Arc<dyn rehome::target::Target>,
            settings,
        )
    }

    /// Projects to the end of the log; the state is opened again, or lost, at drawn moments.
    async fn project(&mut self) -> Conservation {
        loop {
            if self.random.random_ratio(1, 9) {
                std::fs::remove_dir_all(self.folder.path()).expect("a folder");
            }
            let state = Arc::new(State::open(self.folder.path()).expect("a state"));
            let mut applier =
                Applier::resume(&state, Arc::clone(self.engine.sources()), Arc::clone(self.engine.migration()))
                    .expect("it resumes");
            for _ in 0..self.random.random_range(1..8) {
                let from = Applier::checkpoint(&state).expect("an offset");
                let bytes = self.random.random_range(1..200_000);
                let chunk = self.log.read(ALL, from, bytes).await.expect("it reads");
                if chunk.records.is_empty() {
                    break;
                }
                applier.apply(&*self.log, &state, &chunk.records, chunk.next).expect("it applies");
            }
            let ended = self.end_reached(&state);
            if ended || self.random.random_ratio(1, 3) {
                self.projector(&state).project_all(&CancellationToken::new(), |_| Ok(())).await.expect("it projects");
            }
            if ended && self.end_reached(&state) {
                return Conservation::count(&state.freeze(), self.engine.sources(), 1).expect("it counts");
            }
        }
    }

    fn end_reached(&self, state: &State) -> bool {
        Applier::checkpoint(state).expect("an offset") == self.log.end(ALL)
    }
}

async fn recorded(rig: &Rig) -> Recorded {
    let log = EmbeddedLog::open(&rig.state().join("log"), Options { partitions: 1, generation: 1 }).expect("a log");
    let mut events = Vec::new();
    let mut from = Offset(0);
    loop {
        let chunk = log.read(ALL, from, 1 << 20).await.expect("it reads");
        if chunk.records.is_empty() {
            return Recorded { events, log };
        }
        from = chunk.next;
        events.extend(chunk.records.into_iter().filter_map(|(_, record)| match record {
            Record::Event(event) => Some(event),
            Record::Notice(_) | Record::Erased(_) => None,
        }));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_log_gives_one_target_in_any_pieces_with_any_repeats_and_crashes() {
    let mut rig = Rig::up().await;
    let mut writer = Writer::new(21, "c");
    for _ in 0..25 {
        rig.legacy.run(writer.call()).await;
    }
    let mut run = rig.start(&[]);
    for _ in 0..150 {
        rig.legacy.run(writer.transaction()).await;
    }
    rig.settled(&mut run).await;
    assert_eq!(run.terminate().code, 0);
    let recorded = recorded(&rig).await;
    assert!(recorded.events.len() > 400, "{}", recorded.events.len());

    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/luthien");
    let migration = Arc::new(Migration::load(&folder).expect("it loads"));
    let settings = EngineSettings::new(rig.state(), None, None);
    let engine = Arc::new(Engine::new(migration, settings));
    let mut first: Option<Vec<TargetRow>> = None;
    for seed in 0..VARIANTS {
        let mut way = Way {
            log: Arc::new(MemoryLog::new(1, 1)),
            folder: tempfile::tempdir().expect("a folder"),
            target: Arc::new(MemoryTarget::new(Arc::clone(engine.tables()), ForeignScope::Unit)),
            engine: Arc::clone(&engine),
            random: ChaCha8Rng::seed_from_u64(seed),
        };
        way.append(&recorded).await;
        let conservation = way.project().await;
        assert!(conservation.balanced(), "seed {seed}: {conservation:?}");
        assert_eq!(conservation.parked(), 0, "seed {seed}: {:?}", conservation.units);
        let rows = way.target.rows();
        assert!(rows.len() > 50);
        let first = first.get_or_insert_with(|| rows.clone());
        assert!(*first == rows, "seed {seed}: {} rows, then {}", first.len(), rows.len());
    }
    let count = rig
        .target
        .text(
            "select ((select count(*) from conversation_calls_v2) + (select count(*) from \
        conversation_events_v2) + (select count(*) from policy_events))::text",
        )
        .await;
    assert_eq!(count, first.expect("variants").len().to_string(), "the run itself came to the same");
    rig.compare().await.assert_equal();
}

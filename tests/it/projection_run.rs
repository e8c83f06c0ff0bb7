//! Runs of the projection beside a log that goes on.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use rehome::engine::{Engine, Settings};
use rehome::event::{Epoch, Event, Key, Lsn, Op, Relation, Value, Version};
use rehome::log::{Batch, EventLog, MemoryLog, Notice};
use rehome::mapping::Migration;
use rehome::project::run::{Options, Progress, Projection};
use rehome::project::state::State;
use rehome::project::{Error as ProjectError, names};
use rehome::target::{Error, ForeignScope, Target, TargetKey, TargetRow, UnitOutcome, UnitWrite};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::moved_run::owned_migration;
use crate::shuffled::{event, projector, relation};
use crate::support::capture::patiently;
use crate::support::memory_target::MemoryTarget;

/// A projection under way.
type Running = JoinHandle<Result<(), ProjectError>>;

/// A log and a state of a migration whose every thing has an owner.
struct Bench {
    migration: Arc<Migration>,
    engine: Engine,
    log: Arc<MemoryLog>,
    things: Arc<Relation>,
    state: Arc<State>,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let migration: Arc<Migration> = owned_migration();
        let engine = Engine::new(Arc::clone(&migration), Settings::new("unused".into(), None, None));
        let (log, things) = (Arc::new(MemoryLog::new(1, 1)), Arc::new(relation(&migration, 0)));
        let folder = tempfile::tempdir().expect("a folder");
        let state = Arc::new(State::open(folder.path()).expect("a state"));
        Self { migration, engine, log, things, state, _folder: folder }
    }

    fn run(
        &self,
        target: Arc<dyn Target>,
        park_percent_max: u64,
        stop: &CancellationToken,
    ) -> (Running, watch::Receiver<Progress>) {
        let projection = Projection {
            log: Arc::clone(&self.log) as Arc<dyn EventLog>,
            state: Arc::clone(&self.state),
            sources: Arc::clone(self.engine.sources()),
            migration: Arc::clone(&self.migration),
            projector: projector(&self.engine, &self.log, &self.state, target, None),
            options: Options { park_percent_max, sweep_max: 10 },
            snapshot_complete: Box::new(|_| Ok(true)),
        };
        let (progress, told) = watch::channel(Progress::default());
        (tokio::spawn(projection.run(progress, stop.clone())), told)
    }
}

/// Changes a row in the log with each write, and refuses one unit for as long as something is in its way.
struct Busy {
    inner: MemoryTarget,
    log: Arc<MemoryLog>,
    things: Arc<Relation>,
    changes: AtomicU64,
    in_the_way: AtomicBool,
}

impl Busy {
    /// A row that some unit has as of a change.
    fn change(&self, id: i64, owner: &str) -> Event {
        let change = self.changes.fetch_add(1, Ordering::Relaxed);
        let version = Version::postgres(Epoch(1), Lsn(change), 0);
        event(
            &self.things,
            Op::Update,
            version,
            Some(&vec![Value::Int(id), Value::text(owner)]),
            Key(vec![Value::Int(id)]),
        )
    }
}

#[async_trait]
impl Target for Busy {
    async fn apply(&self, batch: &[UnitWrite]) -> Result<Vec<UnitOutcome>, Error> {
        let events = vec![self.change(1, "busy")];
        self.log.append(Batch { events, ..Batch::default() }).await.expect("it takes");
        let mut outcomes = Vec::new();
        for write in batch {
            if &*write.unit == "held" && self.in_the_way.load(Ordering::Relaxed) {
                outcomes.push(UnitOutcome::Parked { reason: "foreign".into(), detail: "".into() });
            } else {
                outcomes.extend(self.inner.apply(std::slice::from_ref(write)).await?);
            }
        }
        Ok(outcomes)
    }

    async fn read(&self, keys: &[TargetKey]) -> Result<Vec<Option<TargetRow>>, Error> {
        self.inner.read(keys).await
    }

    async fn owned(&self, unit: &str) -> Result<Vec<TargetKey>, Error> {
        self.inner.owned(unit).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_rows_in_the_way_held_back_is_written_while_changes_never_end() {
    let bench = Bench::new();
    let target = Arc::new(Busy {
        inner: MemoryTarget::new(Arc::clone(bench.engine.tables()), ForeignScope::Row),
        log: Arc::clone(&bench.log),
        things: Arc::clone(&bench.things),
        changes: AtomicU64::new(1),
        in_the_way: AtomicBool::new(true),
    });
    let first = Batch {
        relations: vec![Arc::clone(&bench.things)],
        events: vec![target.change(1, "busy"), target.change(2, "held")],
        ..Batch::default()
    };
    bench.log.append(first).await.expect("it takes");
    let stop = CancellationToken::new();
    let (running, mut told) = bench.run(Arc::clone(&target) as Arc<dyn Target>, 100, &stop);
    patiently("it is parked", told.wait_for(|told| told.parked_now == 1 && told.parked.contains_key("foreign")))
        .await
        .expect("it runs");
    target.in_the_way.store(false, Ordering::Relaxed);
    let written = |told: &Progress| target.inner.rows().len() == 2 && told.parked_now == 0;
    patiently("it is written, and told so", told.wait_for(written)).await.expect("it runs");
    assert!(!told.borrow().current, "the log was never idle");
    stop.cancel();
    patiently("it stops", running).await.expect("no panic").expect("it ends well");
}

/// Takes nothing; while it is asked to for the first time, a person skips a unit.
struct Full {
    log: Arc<MemoryLog>,
    asked: AtomicBool,
}

#[async_trait]
impl Target for Full {
    async fn apply(&self, batch: &[UnitWrite]) -> Result<Vec<UnitOutcome>, Error> {
        if !self.asked.swap(true, Ordering::Relaxed) {
            say(&self.log, names::SKIP).await;
        }
        Ok(batch.iter().map(|_| UnitOutcome::Parked { reason: "foreign".into(), detail: "".into() }).collect())
    }

    async fn read(&self, keys: &[TargetKey]) -> Result<Vec<Option<TargetRow>>, Error> {
        Ok(vec![None; keys.len()])
    }

    async fn owned(&self, _: &str) -> Result<Vec<TargetKey>, Error> {
        Ok(Vec::new())
    }
}

async fn say(log: &MemoryLog, word: &str) {
    let notice = Notice { unit: "owner 1".into(), reason: format!("{word}: a test").into() };
    log.append(Batch { notices: vec![notice], ..Batch::default() }).await.expect("it takes");
}

/// Takes everything, and notes whose rows it was given.
#[derive(Default)]
struct Noting(Mutex<BTreeSet<String>>);

#[async_trait]
impl Target for Noting {
    async fn apply(&self, batch: &[UnitWrite]) -> Result<Vec<UnitOutcome>, Error> {
        let given = batch.iter().filter(|write| !write.rows.is_empty()).map(|write| write.unit.to_string());
        self.0.lock().expect("no panic").extend(given);
        let written = |write: &UnitWrite| UnitOutcome::Written {
            upserted: write.rows.len() as u64,
            unchanged: 0,
            deleted: 0,
            foreign: 0,
            matched_foreign: 0,
        };
        Ok(batch.iter().map(written).collect())
    }

    async fn read(&self, keys: &[TargetKey]) -> Result<Vec<Option<TargetRow>>, Error> {
        Ok(vec![None; keys.len()])
    }

    async fn owned(&self, _: &str) -> Result<Vec<TargetKey>, Error> {
        Ok(Vec::new())
    }
}

/// A new epoch read its rows under other keys; those of the epoch before are still in the state when it is complete.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_sweep_takes_away_is_not_projected_before() {
    let bench = Bench::new();
    let row = |epoch: u32, id: i64, owner: &str| {
        let row = vec![Value::Int(id), Value::text(owner)];
        event(&bench.things, Op::Read, Version::floor(Epoch(epoch)), Some(&row), Key(vec![Value::Int(id)]))
    };
    let events = vec![row(1, 1, "before"), row(1, 2, "both"), row(2, 2, "both"), row(2, 3, "after")];
    let marks = [(format!("{}{:010}", names::SWEEP, 2), Some(Vec::new()))].into();
    let relations = vec![Arc::clone(&bench.things)];
    bench.log.append(Batch { relations, events, marks, ..Batch::default() }).await.expect("it takes");
    let (target, stop) = (Arc::new(Noting::default()), CancellationToken::new());
    let (running, mut told) = bench.run(Arc::clone(&target) as Arc<dyn Target>, 20, &stop);
    patiently("it is current", told.wait_for(|told| told.current)).await.expect("it runs");
    stop.cancel();
    patiently("it stops", running).await.expect("no panic").expect("it ends well");
    let given: Vec<String> = target.0.lock().expect("no panic").iter().cloned().collect();
    assert_eq!(given, ["after", "both"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_word_from_before_a_halt_does_not_lift_it() {
    let bench = Bench::new();
    let (log, things) = (&bench.log, &bench.things);
    let row = |id: i64| {
        let version = Version::postgres(Epoch(1), Lsn(1), 0);
        let row = vec![Value::Int(id), Value::text(format!("owner {id}"))];
        event(things, Op::Insert, version, Some(&row), Key(vec![Value::Int(id)]))
    };
    let events = (1..=300).map(row).collect();
    log.append(Batch { relations: vec![Arc::clone(things)], events, ..Batch::default() }).await.expect("it takes");
    let target = Arc::new(Full { log: Arc::clone(log), asked: AtomicBool::new(false) });
    let run = |stop: &CancellationToken| bench.run(Arc::clone(&target) as Arc<dyn Target>, 20, stop);
    let stop = CancellationToken::new();
    for start in 0..3 {
        let (running, _) = run(&stop);
        let ended = patiently("it halts", running).await.expect("no panic");
        assert!(matches!(ended, Err(ProjectError::Breaker { parked: 300, .. })), "start {start}: {ended:?}");
    }
    say(log, names::RETRY).await;
    let (running, mut told) = run(&stop);
    patiently("it goes on", told.wait_for(|told| told.current && told.parked_now == 300)).await.expect("it runs");
    stop.cancel();
    patiently("it stops", running).await.expect("no panic").expect("it ends well");
}

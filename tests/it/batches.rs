//! Batches of a first projection are written beside each other: whatever becomes of one, the others are whole.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use rehome::engine::{Engine, Settings};
use rehome::event::{Epoch, Key, Op, Value, Version};
use rehome::log::{Batch, EventLog, MemoryLog, Offset, Partition};
use rehome::mapping::Migration;
use rehome::project::apply::Applier;
use rehome::project::names;
use rehome::project::projector::{Done, Projector};
use rehome::project::state::{Space, State};
use rehome::target::{Error, ForeignScope, Target, TargetKey, TargetRow, UnitOutcome, UnitWrite};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::shuffled::{event, projector, relation};
use crate::support::memory_target::MemoryTarget;

const ROWS: i64 = 20;
const BATCH: usize = 4;
/// Far longer than any of this takes; only where batches come one by one it passes.
const PATIENCE: Duration = Duration::from_secs(60);
/// Far longer than evaluating a batch takes.
const LINGER: Duration = Duration::from_millis(100);

const LEGACY: &str = "source = \"postgres\"\n[table.copied]\nname = \"copied\"\nkey = [\"id\"]\nrole = \"unit\"\n\
    unit_lookup = \"key\"\n[table.copied.columns]\nid = \"bigint not null\"\nnote = \"text\"\n";
const MAPPING: &str = "migration = \"copied\"\nnamespace = \"0d1f6c5e-0000-5000-8000-000000000001\"\nforeign = \"row\"\n\
    [unit]\ncopied = \"id\"\n[quarantine]\nnot_storable = \"unit\"\nunreadable_json = \"unit\"\nkey_collision = \"unit\"\n\
    [[map]]\nfrom = \"copied\"\nto = \"copied\"\n[map.columns]\nid = \".id\"\nnote = \".note\"\n";

/// What becomes of the first batch, which is held back until the second is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum First {
    Written,
    Refused,
    /// It is never answered.
    Held,
    /// Nor is it while the second is refused.
    HeldBesideRefused,
}

/// A target that has two batches at once.
struct Two {
    rows: MemoryTarget,
    first: First,
    begun: AtomicUsize,
    second: Notify,
    /// Batches that were taken and neither answered nor given up.
    inside: AtomicUsize,
    /// How many of them there were at most.
    most: AtomicUsize,
    /// Whether each batch is kept so long that another could come in.
    lingers: AtomicBool,
}

struct Inside<'a>(&'a AtomicUsize);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Target for Two {
    async fn apply(&self, batch: &[UnitWrite]) -> Result<Vec<UnitOutcome>, Error> {
        let inside = self.inside.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(inside, Ordering::SeqCst);
        let _inside = Inside(&self.inside);
        if self.lingers.load(Ordering::SeqCst) {
            tokio::time::sleep(LINGER).await;
        }
        let number = self.begun.fetch_add(1, Ordering::SeqCst);
        let full = || Error::Refused { action: "write", code: "full".into(), message: "no room is left".into() };
        if number > 0 {
            if self.first == First::HeldBesideRefused && number == 1 {
                return Err(full());
            }
            let outcomes = self.rows.apply(batch).await;
            self.second.notify_one();
            return outcomes;
        }
        if self.first != First::HeldBesideRefused {
            self.second.notified().await;
        }
        match self.first {
            First::Written => self.rows.apply(batch).await,
            First::Refused => Err(full()),
            First::Held | First::HeldBesideRefused => std::future::pending().await,
        }
    }

    async fn read(&self, keys: &[TargetKey]) -> Result<Vec<Option<TargetRow>>, Error> {
        self.rows.read(keys).await
    }

    async fn owned(&self, unit: &str) -> Result<Vec<TargetKey>, Error> {
        self.rows.owned(unit).await
    }
}

/// A state that knows of all rows, and what is to project it.
struct Scene {
    projector: Projector,
    target: Arc<Two>,
    state: Arc<State>,
    _folders: [tempfile::TempDir; 2],
}

async fn scene(first: First) -> Scene {
    let folders = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
    let [schema, state] = folders.each_ref().map(|folder| folder.path());
    let migration = migration(schema);
    let engine = Engine::new(Arc::clone(&migration), Settings::new("unused".into(), None, None));
    let copied = Arc::new(relation(&migration, 0));
    let events = (1..=ROWS).map(|id| {
        let row = vec![Value::Int(id), Value::text("n")];
        event(&copied, Op::Read, Version::floor(Epoch(1)), Some(&row), Key(vec![Value::Int(id)]))
    });
    let log = Arc::new(MemoryLog::new(1, 1));
    let batch = Batch { relations: vec![Arc::clone(&copied)], events: events.collect(), ..Batch::default() };
    log.append(batch).await.expect("it takes");
    let state = Arc::new(State::open(state).expect("a state"));
    let (sources, mapping) = (Arc::clone(engine.sources()), Arc::clone(&migration));
    let mut applier = Applier::resume(&state, sources, mapping).expect("it resumes");
    let chunk = log.read(Partition(0), Offset(0), 1 << 20).await.expect("it reads");
    applier.apply(&*log, &state, &chunk.records, chunk.next).expect("it applies");
    let rows = MemoryTarget::new(Arc::clone(engine.tables()), ForeignScope::Row);
    let [begun, inside, most] = [(); 3].map(|()| AtomicUsize::new(0));
    let (second, lingers) = (Notify::new(), AtomicBool::new(false));
    let target = Arc::new(Two { rows, first, begun, second, inside, most, lingers });
    let projector = projector(&engine, &log, &state, Arc::clone(&target) as Arc<dyn Target>, Some(BATCH));
    Scene { projector, target, state, _folders: folders }
}

fn migration(folder: &Path) -> Arc<Migration> {
    let target = "CREATE TABLE copied (id bigint PRIMARY KEY, note text);";
    for (name, text) in [("legacy.toml", LEGACY), ("mapping.toml", MAPPING), ("target.sql", target)] {
        std::fs::write(folder.join(name), text).expect("writable");
    }
    Arc::new(Migration::load(folder).expect("it loads"))
}

impl Scene {
    /// Projects to the end, and says what all batches came to together.
    async fn project(&self, stop: &CancellationToken) -> Result<Done, rehome::project::Error> {
        let mut all = Done::default();
        let tell = |done: Done| {
            all.parts += done.parts;
            all.target_rows += done.target_rows;
            Ok(())
        };
        let projected = tokio::time::timeout(PATIENCE, self.projector.project_all(stop, tell)).await;
        projected.expect("the second batch does not wait for the first")?;
        Ok(all)
    }

    fn inside(&self) -> usize {
        self.target.inside.load(Ordering::SeqCst)
    }

    fn rows(&self) -> i64 {
        i64::try_from(self.target.rows.rows().len()).expect("few")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_written_while_the_one_before_it_is() {
    let scene = scene(First::Written).await;
    let done = scene.project(&CancellationToken::new()).await.expect("it projects");
    assert_eq!((done.parts, done.target_rows), (20, 20));
    assert_eq!(scene.rows(), ROWS);
    let again = scene.project(&CancellationToken::new()).await.expect("it projects");
    assert_eq!(again, Done::default(), "all of it is kept");
}

/// A part that was written before may let go of a key that one of the next batch wants.
#[tokio::test(flavor = "multi_thread")]
async fn batches_of_parts_that_were_written_before_are_written_one_by_one() {
    let scene = scene(First::Written).await;
    let go = CancellationToken::new();
    scene.project(&go).await.expect("it projects");
    let most = || scene.target.most.swap(0, Ordering::SeqCst);
    assert_eq!(most(), 2);
    scene.target.lingers.store(true, Ordering::SeqCst);
    let mut session = scene.state.session();
    session.remove(Space::Meta, names::MARKED);
    session.put(Space::Meta, names::FORCED, []);
    session.commit().expect("writable");
    let done = scene.project(&go).await.expect("it projects");
    assert_eq!((done.parts, done.target_rows, most()), (20, 0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_tried_again_and_what_was_written_beside_it_is_written_once() {
    let scene = scene(First::Refused).await;
    scene.project(&CancellationToken::new()).await.expect_err("the target is full");
    assert_eq!(scene.inside(), 0, "nothing is left running behind");
    let written = scene.rows();
    assert!(written > 0 && written < ROWS, "{written} of {ROWS}");
    let done = scene.project(&CancellationToken::new()).await.expect("there is room again");
    assert_eq!(done.parts, 20, "none of them was kept");
    assert_eq!(i64::try_from(done.target_rows).expect("few"), ROWS - written, "what was written is not written again");
    assert_eq!(scene.rows(), ROWS);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_gives_up_what_is_on_its_way() {
    let scene = scene(First::Held).await;
    let stop = CancellationToken::new();
    let (stopper, target) = (stop.clone(), Arc::clone(&scene.target));
    let stopping = tokio::spawn(async move {
        while target.begun.load(Ordering::SeqCst) < 2 {
            tokio::task::yield_now().await;
        }
        stopper.cancel();
    });
    let done = scene.project(&stop).await.expect("it stops");
    stopping.await.expect("no panic");
    assert_eq!(scene.inside(), 0, "nothing is left running behind");
    assert_eq!(done, Done::default(), "the oldest batch was not answered");
    assert!(scene.rows() < ROWS);
    let done = scene.project(&CancellationToken::new()).await.expect("it goes on");
    assert_eq!(done.parts, 20);
    assert_eq!(scene.rows(), ROWS);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_told_though_what_stands_before_it_is_not_answered() {
    let scene = scene(First::HeldBesideRefused).await;
    scene.project(&CancellationToken::new()).await.expect_err("the target is full");
    assert_eq!((scene.inside(), scene.rows()), (0, 0), "nothing is left running behind");
    let done = scene.project(&CancellationToken::new()).await.expect("there is room again");
    assert_eq!((done.parts, scene.rows()), (20, ROWS));
}

//! What a writer knows is lost, with it or with the state: nothing that was written is forgotten, and nothing stays behind.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use rehome::engine::{Engine, Settings};
use rehome::event::{Epoch, Key, Lsn, Op, Relation, Value, Version};
use rehome::log::{Batch, EventLog, MemoryLog, Offset, Partition};
use rehome::mapping::Migration;
use rehome::project::apply::Applier;
use rehome::project::state::State;
use rehome::target::{Error, ForeignScope, TableShape, Target, TargetKey, TargetRow, UnitOutcome, UnitWrite};
use tokio_util::sync::CancellationToken;

use crate::shuffled::{draw, event, projector, relation};
use crate::support::memory_target::MemoryTarget;

/// Deletes what it is told was written before, and writes what it is told to; it knows nothing else.
struct Forgetful {
    tables: Arc<[TableShape]>,
    rows: Mutex<BTreeMap<TargetKey, TargetRow>>,
    /// Whether the answer to the next write is lost, and its writer with it.
    dying: AtomicBool,
}

#[async_trait]
impl Target for Forgetful {
    fn keeps_record(&self) -> bool {
        false
    }

    async fn apply(&self, batch: &[UnitWrite]) -> Result<Vec<UnitOutcome>, Error> {
        let mut rows = self.rows.lock().expect("no panic");
        let mut outcomes = Vec::new();
        for write in batch {
            let deleted = write.before.iter().filter(|key| rows.remove(*key).is_some()).count() as u64;
            let upserted = write.rows.len() as u64;
            rows.extend(write.rows.iter().map(|row| (self.tables[usize::from(row.table.0)].key_of(row), row.clone())));
            outcomes.push(UnitOutcome::Written { upserted, unchanged: 0, deleted, foreign: 0, matched_foreign: 0 });
        }
        if self.dying.swap(false, Ordering::Relaxed) {
            return Err(Error::Refused { action: "write", code: "death".into(), message: "the answer is lost".into() });
        }
        Ok(outcomes)
    }

    async fn read(&self, keys: &[TargetKey]) -> Result<Vec<Option<TargetRow>>, Error> {
        let rows = self.rows.lock().expect("no panic");
        Ok(keys.iter().map(|key| rows.get(key).cloned()).collect())
    }

    async fn owned(&self, _: &str) -> Result<Vec<TargetKey>, Error> {
        Ok(Vec::new())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_before_the_writer_died_is_taken_back_when_its_rows_go() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/semantik");
    let migration = Arc::new(Migration::load(&folder).expect("it loads"));
    let engine = Engine::new(Arc::clone(&migration), Settings::new("unused".into(), None, None));
    let jobs = migration.source_table("public", "jobs").expect("a table");
    let jobs = Arc::new(relation(&migration, usize::from(jobs.0)));
    // A job that can be mapped, whatever else it is.
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut row = draw(&mut random, &jobs, 1);
    let status = jobs.columns.iter().position(|column| &*column.name == "status").expect("a column");
    row[status] = Value::text("completed");
    let key = Key(vec![row[0].clone()]);
    let log = Arc::new(MemoryLog::new(1, 1));
    let target = Arc::new(Forgetful {
        tables: Arc::clone(engine.tables()),
        rows: Mutex::default(),
        dying: AtomicBool::new(true),
    });
    let state_folder = tempfile::tempdir().expect("a folder");
    let version = Version::floor(Epoch(1));
    let read = event(&jobs, Op::Read, version, Some(&row), key.clone());
    log.append(Batch { relations: vec![Arc::clone(&jobs)], events: vec![read], ..Batch::default() })
        .await
        .expect("it takes");
    let died = project(&engine, &log, &target, state_folder.path()).await;
    assert!(died.is_err(), "the first writer dies");
    assert!(!target.rows.lock().expect("no panic").is_empty(), "after it wrote");

    let delete = event(&jobs, Op::Delete, Version::postgres(Epoch(1), Lsn(9), 0), None, key);
    log.append(Batch { events: vec![delete], ..Batch::default() }).await.expect("it takes");
    project(&engine, &log, &target, state_folder.path()).await.expect("it projects");
    let left = target.rows.lock().expect("no panic").len();
    assert_eq!(left, 0, "rows that nobody remembers");
}

/// The state is lost after a document was written with its job's path, and before the path that came later was.
#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_is_built_anew_writes_what_other_rows_say_now() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/semantik");
    let migration = Arc::new(Migration::load(&folder).expect("it loads"));
    let engine = Engine::new(Arc::clone(&migration), Settings::new("unused".into(), None, None));
    let [jobs, documents] = ["jobs", "documents"].map(|name| {
        let table = migration.source_table("public", name).expect("a table");
        Arc::new(relation(&migration, usize::from(table.0)))
    });
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let [mut job, mut document] = [&jobs, &documents].map(|relation| draw(&mut random, relation, 1));
    let set = |row: &mut Vec<Value>, relation: &Relation, name: &str, value: &str| {
        let column = relation.columns.iter().position(|column| &*column.name == name).expect("a column");
        row[column] = Value::text(value);
    };
    set(&mut job, &jobs, "status", "completed");
    set(&mut document, &documents, "status", "completed");
    set(&mut document, &documents, "job_id", "job-1");
    let log = Arc::new(MemoryLog::new(1, 1));
    let target = Arc::new(MemoryTarget::new(Arc::clone(engine.tables()), ForeignScope::Row));
    let (job_key, document_key) = (Key(vec![job[0].clone()]), Key(vec![document[0].clone()]));
    let floor = Version::floor(Epoch(1));
    let events = vec![
        event(&documents, Op::Read, floor, Some(&document), document_key),
        event(&jobs, Op::Read, floor, Some(&job), job_key.clone()),
    ];
    let relations = vec![Arc::clone(&jobs), Arc::clone(&documents)];
    log.append(Batch { relations, events, ..Batch::default() }).await.expect("it takes");
    let kept = tempfile::tempdir().expect("a folder");
    project(&engine, &log, &target, kept.path()).await.expect("it projects");
    for (number, path) in (1..).zip(["/elsewhere", "/and/elsewhere"]) {
        set(&mut job, &jobs, "directory_path", path);
        let version = Version::postgres(Epoch(1), Lsn(number), 0);
        let update = event(&jobs, Op::Update, version, Some(&job), job_key.clone());
        log.append(Batch { events: vec![update], ..Batch::default() }).await.expect("it takes");
        if number == 1 {
            project(&engine, &log, &target, kept.path()).await.expect("it projects");
        }
    }
    let anew = tempfile::tempdir().expect("a folder");
    project(&engine, &log, &target, anew.path()).await.expect("it projects");
    let fresh = Arc::new(MemoryTarget::new(Arc::clone(engine.tables()), ForeignScope::Row));
    let other = tempfile::tempdir().expect("a folder");
    project(&engine, &log, &fresh, other.path()).await.expect("it projects");
    assert!(fresh.rows().len() > 1, "a collection and a document");
    assert_eq!(target.rows(), fresh.rows());
}

/// What a process does: applies what the log has, then projects.
async fn project<T: Target + 'static>(
    engine: &Engine,
    log: &Arc<MemoryLog>,
    target: &Arc<T>,
    folder: &Path,
) -> Result<(), rehome::project::Error> {
    let state = Arc::new(State::open(folder)?);
    let mut applier = Applier::resume(&state, Arc::clone(engine.sources()), Arc::clone(engine.migration()))?;
    let from: Offset = Applier::checkpoint(&state)?;
    let chunk = log.read(Partition(0), from, 1 << 20).await?;
    applier.apply(&**log, &state, &chunk.records, chunk.next)?;
    let target = Arc::clone(target) as Arc<dyn Target>;
    projector(engine, log, &state, target, None).project_all(&CancellationToken::new(), |_| Ok(())).await
}

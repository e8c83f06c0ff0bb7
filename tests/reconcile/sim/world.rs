//! Source, log, state and target of a simulation: the first and the last are kept here, the others are the real ones.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use rehome::engine::protocol::{Answer, Request};
use rehome::engine::session::{Live, Session};
use rehome::engine::{CaptureStatus, Engine, Settings};
use rehome::event::{Cell, Column, Epoch, Event, Flags, Key, Lsn, Op, Origin, Relation, Row, Value, Version};
use rehome::log::{Batch, EventLog, MemoryLog, Partition};
use rehome::mapping::{Corpus, Migration, SourceRow, SourceTable};
use rehome::project::apply::Applier;
use rehome::project::run::Progress;
use rehome::project::state::{Space, State};
use rehome::rules::Ruleset;
use rehome::target::{TargetKey, TargetRow};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::baton::Baton;
use super::boxes::{self, compared};
use super::script::Script;
use super::target::Held;

/// The only partition of the log.
pub const LOG: Partition = Partition(0);
/// The only epoch.
const EPOCH: Epoch = Epoch(1);

/// One row written in the source.
#[derive(Debug, Clone)]
pub struct Change {
    pub table: usize,
    pub key: Value,
    /// The row after it; none where it is deleted.
    pub row: Option<Vec<Value>>,
}

/// What the source holds.
#[derive(Debug, Clone, Default)]
pub struct Source {
    pub rows: [BTreeMap<Value, Vec<Value>>; 3],
    /// Transactions; the position after one is its number, counted from 1.
    pub commits: Vec<Vec<(Op, Change)>>,
    /// How many of them the capture has read.
    pub captured: usize,
}

impl Source {
    /// The rows after so many transactions.
    pub fn rows_at(&self, commits: usize) -> [BTreeMap<Value, Vec<Value>>; 3] {
        let mut rows: [BTreeMap<Value, Vec<Value>>; 3] = Default::default();
        for (_, change) in self.commits[..commits].iter().flatten() {
            match &change.row {
                Some(row) => drop(rows[change.table].insert(change.key.clone(), row.clone())),
                None => drop(rows[change.table].remove(&change.key)),
            }
        }
        rows
    }
}

/// Target rows by key.
pub type Rows = BTreeMap<TargetKey, TargetRow>;

/// A key of the target that is not as it should be because a fault was planted.
#[derive(Debug, Clone)]
pub struct Blemish {
    pub key: TargetKey,
    pub what: &'static str,
    /// Turn in which it was planted.
    pub planted: u64,
    /// Turn in which both sides were equal there again.
    pub healed: Option<u64>,
}

/// Everything.
pub struct World {
    pub baton: Baton,
    pub script: Script,
    pub engine: Engine,
    pub rules: Arc<Ruleset>,
    pub log: Arc<MemoryLog>,
    pub state: Arc<State>,
    pub session: Session,
    pub relations: Vec<Arc<Relation>>,
    /// Parts that are written together, at most: few, so that units are written batch by batch.
    pub batch_parts: usize,
    capture: watch::Sender<CaptureStatus>,
    _progress: watch::Sender<Progress>,
    source: Mutex<Source>,
    held: Mutex<Held>,
    blemishes: Mutex<Vec<Blemish>>,
    /// Whether faults are planted in the capture and in the writing.
    pub faulty: AtomicBool,
    /// Whether nothing changes any more but what is on its way.
    pub quiet: AtomicBool,
    /// Whether all is over.
    pub over: AtomicBool,
    _folder: tempfile::TempDir,
}

impl World {
    /// An empty one, for so many actors.
    pub fn new(seed: u64, actors: usize) -> Arc<Self> {
        Self::ruled(seed, actors, "")
    }

    /// An empty one where more rules hold than usual.
    pub fn ruled(seed: u64, actors: usize, more: &str) -> Arc<Self> {
        let migration = boxes::migration();
        let engine = Engine::new(Arc::clone(&migration), Settings::new("unused".into(), None, None));
        let folder = tempfile::tempdir().expect("a folder");
        let state = Arc::new(State::open(folder.path()).expect("a state"));
        let log = Arc::new(MemoryLog::new(1, 1));
        let (capture, status) = watch::channel(CaptureStatus::default());
        let (progress, told) = watch::channel(Progress::default());
        let session = Session {
            migration: Arc::clone(&migration),
            sources: Arc::clone(engine.sources()),
            log: Arc::clone(&log) as Arc<dyn EventLog>,
            state: Arc::clone(&state),
            tables: Arc::clone(engine.tables()),
            mapping_generation: 1,
            live: Some(Live { capture: Some(status), progress: told, stop: CancellationToken::new() }),
        };
        let relation = |(place, source): (usize, &rehome::project::source::SourceShape)| {
            let key = &migration.source_tables()[place].key;
            let column = |(index, (name, type_name)): (usize, &(Box<str>, Box<str>))| Column {
                name: name.clone(),
                type_name: type_name.clone(),
                key_part: key.iter().position(|part| *part == index).and_then(|part| u16::try_from(part).ok()),
            };
            let columns = source.columns.iter().enumerate().map(column).collect();
            Arc::new(Relation { name: source.relation.clone(), columns })
        };
        let relations = engine.sources().iter().enumerate().map(relation).collect();
        Arc::new(Self {
            baton: Baton::new(seed, actors),
            script: Script::default(),
            rules: boxes::rules(&migration, more),
            engine,
            log,
            state,
            session,
            relations,
            batch_parts: usize::try_from(1 + seed % 4).expect("few"),
            capture,
            _progress: progress,
            source: Mutex::default(),
            held: Mutex::default(),
            blemishes: Mutex::default(),
            faulty: AtomicBool::new(false),
            quiet: AtomicBool::new(false),
            over: AtomicBool::new(false),
            _folder: folder,
        })
    }

    pub fn migration(&self) -> &Arc<Migration> {
        self.engine.migration()
    }

    pub fn source(&self) -> MutexGuard<'_, Source> {
        self.source.lock().expect("no panic")
    }

    pub fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().expect("no panic")
    }

    pub fn blemishes(&self) -> Vec<Blemish> {
        self.blemishes.lock().expect("no panic").clone()
    }

    pub fn is(&self, flag: &AtomicBool) -> bool {
        flag.load(Ordering::Relaxed)
    }

    pub fn set(&self, flag: &AtomicBool, to: bool) {
        flag.store(to, Ordering::Relaxed);
    }

    pub fn key_of(&self, row: &TargetRow) -> TargetKey {
        self.engine.tables()[usize::from(row.table.0)].key_of(row)
    }

    /// Where the source stands: after its last transaction.
    pub fn position(&self) -> Lsn {
        Lsn(self.source().commits.len() as u64)
    }

    /// Writes a transaction in the source; rows are named by their first column.
    pub fn commit(&self, changes: Vec<Change>) {
        let mut told = String::from("commit");
        {
            let mut source = self.source();
            let mut commit = Vec::new();
            for change in changes {
                let rows = &mut source.rows[change.table];
                let before = match &change.row {
                    Some(row) => rows.insert(change.key.clone(), row.clone()),
                    None => rows.remove(&change.key),
                };
                let op = match (&before, &change.row) {
                    (None, None) => continue,
                    (None, Some(_)) => Op::Insert,
                    (Some(_), Some(_)) => Op::Update,
                    (Some(_), None) => Op::Delete,
                };
                let _ = write!(told, " {} {op:?} {:?} {:?};", change.table, change.key, change.row);
                commit.push((op, change));
            }
            source.commits.push(commit);
        }
        self.baton.note(told);
        self.look();
    }

    /// A row put into the source, in a transaction of its own.
    pub fn put(&self, table: usize, row: Vec<Value>) {
        self.commit(vec![Change { table, key: row[0].clone(), row: Some(row) }]);
    }

    /// A row deleted from the source, in a transaction of its own.
    pub fn delete(&self, table: usize, key: Value) {
        self.commit(vec![Change { table, key, row: None }]);
    }

    /// The event of a change of a transaction.
    fn event(&self, op: Op, change: &Change, commit: u64, ordinal: usize) -> Event {
        let row = |values: &Vec<Value>| Row(values.iter().cloned().map(Cell::Value).collect());
        Event {
            relation: self.relations[change.table].schema_hash(),
            op,
            key: Key(vec![change.key.clone()]),
            old_key: None,
            before: None,
            after: change.row.as_ref().map(row),
            version: Version::postgres(EPOCH, Lsn(commit), u32::try_from(ordinal).expect("few")),
            transaction: None,
            origin: Origin::Stream,
            flags: Flags::default(),
        }
    }

    /// The events of the next transaction that the capture has not read, and the position after it; `None` when it has all.
    pub fn next_events(&self) -> Option<(Vec<Event>, Lsn)> {
        let source = self.source();
        let commit = source.commits.get(source.captured)?;
        let number = source.captured as u64 + 1;
        let events = commit.iter().enumerate().map(|(at, (op, change))| self.event(*op, change, number, at)).collect();
        Some((events, Lsn(number)))
    }

    /// Appends events to the log.
    pub async fn append(&self, events: Vec<Event>) {
        let batch = Batch { relations: self.relations.clone(), events, ..Batch::default() };
        self.log.append(batch).await.expect("it takes them");
    }

    /// Says that the log has everything up to a position.
    pub fn captured(&self, position: Lsn) {
        self.source().captured = usize::try_from(position.0).expect("few");
        self.capture.send_modify(|status| status.durable = position);
    }

    /// Captures everything that was committed.
    pub async fn capture_all(&self) {
        while let Some((events, position)) = self.next_events() {
            self.append(events).await;
            self.captured(position);
        }
    }

    /// What the mapping makes of the source's rows, by key.
    pub fn expected(&self) -> Rows {
        self.expected_of(&self.source().rows)
    }

    /// What the mapping makes of rows, by key.
    pub fn expected_of(&self, rows: &[BTreeMap<Value, Vec<Value>>; 3]) -> Rows {
        let row = |(table, values): (u16, &Vec<Value>)| {
            (SourceTable(table), SourceRow { key: Key(vec![values[0].clone()]), values: values.clone() })
        };
        let rows = (0..).zip(rows).flat_map(|(table, rows)| rows.values().map(move |values| (table, values)));
        let corpus = Corpus::place(self.migration(), rows.map(row).collect()).expect("in memory");
        let units: Vec<String> = corpus.units().map(str::to_owned).collect();
        let evaluated = units.iter().flat_map(|unit| corpus.evaluate(self.migration(), unit).expect("in memory").rows);
        evaluated.map(|row| (self.key_of(&row), row)).collect()
    }

    /// Keys at which two sets of rows differ, as the rules see them.
    pub fn differing(&self, one: &Rows, other: &Rows) -> BTreeSet<TargetKey> {
        let keys: BTreeSet<&TargetKey> = one.keys().chain(other.keys()).collect();
        let at = |rows: &Rows, key: &TargetKey| rows.get(key).map(compared);
        keys.into_iter().filter(|key| at(one, key) != at(other, key)).cloned().collect()
    }

    /// Notes that a fault concerns some keys.
    pub fn blemish(&self, what: &'static str, keys: impl IntoIterator<Item = TargetKey>) {
        let planted = self.baton.turns();
        for key in keys {
            self.baton.note(format!("fault {what} {key:?}"));
            self.blemishes.lock().expect("no panic").push(Blemish { key, what, planted, healed: None });
        }
        self.look();
    }

    /// Looks which faults have no effect any more.
    pub fn look(&self) {
        if self.blemishes.lock().expect("no panic").iter().all(|blemish| blemish.healed.is_some()) {
            return;
        }
        let differing = self.differing(&self.expected(), &self.held().rows);
        let turn = self.baton.turns();
        for blemish in self.blemishes.lock().expect("no panic").iter_mut() {
            if blemish.healed.is_none() && !differing.contains(&blemish.key) {
                blemish.healed = Some(turn);
            }
        }
    }

    /// Whether everything that was committed is captured, applied and projected.
    pub fn drained(&self) -> bool {
        let captured = {
            let source = self.source();
            source.captured == source.commits.len()
        };
        let applied = Applier::checkpoint(&self.state).expect("an offset") == self.log.end(LOG);
        let nothing = |space| self.state.empty(space).expect("a state");
        captured && applied && nothing(Space::Dirty) && nothing(Space::Wake)
    }

    /// Asks the projection.
    pub async fn ask(&self, request: Request) -> Answer {
        self.session.answer(request).await
    }
}

//! Routes through parents, groups and sums come to the same target in whatever order the events arrive (I7), and to what the
//! mapping makes of the last rows at once.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rehome::engine::{Engine, Settings as EngineSettings};
use rehome::event::{Column, Epoch, Event, Flags, Key, Lsn, Op, Origin, Relation, Row, Value, Version};
use rehome::log::{Batch, EventLog, MemoryLog, Partition};
use rehome::mapping::{Corpus, Migration, SourceRow, SourceTable};
use rehome::project::apply::Applier;
use rehome::project::conservation::Conservation;
use rehome::project::prepare::Settings;
use rehome::project::projector::Projector;
use rehome::project::state::State;
use rehome::target::{ForeignScope, Target, TargetRow};
use tokio_util::sync::CancellationToken;

use crate::support::memory_target::MemoryTarget;

/// Histories, each with several orders of arrival.
const HISTORIES: u64 = 6;
/// Orders of arrival of one history.
const ORDERS: u64 = 4;

/// Rows as a test draws them, and the events that tell of them.
struct History {
    relations: Vec<Arc<Relation>>,
    events: Vec<Event>,
    /// The last rows: table, key, values.
    last: Vec<(usize, Vec<Value>)>,
}

/// A source table's shape, as its events carry it.
pub fn relation(migration: &Migration, table: usize) -> Relation {
    let definition = &migration.source_tables()[table];
    let columns = definition.columns.iter().enumerate().map(|(index, column)| Column {
        name: column.name.clone(),
        type_name: match &*column.type_name.to_ascii_lowercase() {
            "integer" => "int4".into(),
            "bigint" => "int8".into(),
            other => other.trim().into(),
        },
        key_part: (definition.key == [index]).then_some(0),
    });
    let name = rehome::event::RelationName { schema: definition.schema.clone(), table: definition.name.clone() };
    Relation { name, columns: columns.collect() }
}

/// A row of the columns given; the others are NULL.
fn row(relation: &Relation, given: &[(&str, Value)]) -> Vec<Value> {
    let value = |column: &Column| given.iter().find(|(name, _)| *name == &*column.name).map(|(_, value)| value.clone());
    relation.columns.iter().map(|column| value(column).unwrap_or(Value::Null)).collect()
}

/// A row of a table, by its number.
pub fn draw(random: &mut ChaCha8Rng, relation: &Relation, id: usize) -> Vec<Value> {
    let text = |text: &str| Value::text(text);
    let pick = |random: &mut ChaCha8Rng, texts: &[&str]| match *texts.choose(random).expect("some") {
        "" => Value::Null,
        other => text(other),
    };
    let second = random.random_range(10..60);
    if &*relation.name.table == "jobs" {
        return row(
            relation,
            &[
                ("id", text(&format!("job-{id}"))),
                ("name", text("n")),
                ("status", pick(random, &["completed", "failed", "created", "completed", "lost"])),
                ("created_at", text(&format!("2025-07-01T10:00:{second}+00:00"))),
                ("updated_at", text("2025-07-02T10:00:00")),
                ("directory_path", pick(random, &["/a", "/b"])),
                ("model_name", pick(random, &["m", "o", ""])),
                (
                    "user_id",
                    if random.random_ratio(1, 4) { Value::Null } else { Value::Int(random.random_range(1..3)) },
                ),
                ("job_type", pick(random, &["index", "append", ""])),
            ],
        );
    }
    row(
        relation,
        &[
            ("id", Value::Int(i64::try_from(id).expect("few"))),
            ("job_id", text(&format!("job-{}", random.random_range(0..7)))),
            ("path", text(&format!("/d/{id}"))),
            ("size", Value::Int(random.random_range(0..1000))),
            ("modified", text("2025-07-01")),
            ("extension", text(".txt")),
            ("content_hash", pick(random, &["h1", "h2", "h3", "h4", "", "symlink:x"])),
            ("status", pick(random, &["completed", "pending", "completed", "odd"])),
            ("chunks_created", Value::Int(random.random_range(0..9))),
            ("created_at", text(&format!("2025-07-03T00:00:{second}"))),
        ],
    )
}

/// An event that tells of a row.
pub fn event(relation: &Relation, op: Op, version: Version, values: Option<&Vec<Value>>, key: Key) -> Event {
    Event {
        relation: relation.schema_hash(),
        op,
        key,
        old_key: None,
        before: None,
        after: values.map(|values| values.iter().cloned().collect::<Row>()),
        version,
        transaction: None,
        origin: if op == Op::Read { Origin::Snapshot { range: 0 } } else { Origin::Stream },
        flags: Flags::default(),
    }
}

fn history(migration: &Migration, random: &mut ChaCha8Rng) -> History {
    let relations: Vec<Arc<Relation>> =
        (0..migration.source_tables().len()).map(|table| Arc::new(relation(migration, table))).collect();
    let (mut events, mut last, mut lsn) = (Vec::new(), Vec::new(), 100);
    for (table, relation) in relations.iter().enumerate() {
        let rows = match &*relation.name.table {
            "jobs" => 6,
            "documents" => 40,
            _ => 0,
        };
        for id in 0..rows {
            let mut live = None;
            for change in 0..random.random_range(1..5) {
                let gone = change > 0 && random.random_ratio(1, 4);
                let values = draw(random, relation, id);
                let key = Key(vec![values[0].clone()]);
                lsn += 1;
                let version = match change {
                    0 => Version::floor(Epoch(1)),
                    _ => Version::postgres(Epoch(1), Lsn(lsn), 0),
                };
                let op = if gone {
                    Op::Delete
                } else if change == 0 {
                    Op::Read
                } else {
                    Op::Update
                };
                events.push(event(relation, op, version, (!gone).then_some(&values), key));
                live = (!gone).then_some(values);
            }
            last.extend(live.map(|values| (table, values)));
        }
    }
    History { relations, events, last }
}

/// What the mapping makes of the last rows at once.
fn expected(migration: &Migration, history: &History) -> Vec<TargetRow> {
    let rows = history.last.iter().map(|(table, values)| {
        let row = SourceRow { key: Key(vec![values[0].clone()]), values: values.clone() };
        (SourceTable(u16::try_from(*table).expect("few")), row)
    });
    let corpus = Corpus::place(migration, rows.collect()).expect("in memory");
    let units: Vec<String> = corpus.units().map(str::to_owned).collect();
    units.iter().flat_map(|unit| corpus.evaluate(migration, unit).expect("in memory").rows).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn any_order_of_arrival_comes_to_the_same_target() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/semantik");
    let migration = Arc::new(Migration::load(&folder).expect("it loads"));
    let engine = Engine::new(Arc::clone(&migration), EngineSettings::new("unused".into(), None, None));
    for seed in 0..HISTORIES {
        let history = history(&migration, &mut ChaCha8Rng::seed_from_u64(seed));
        let key_of = |row: &TargetRow| engine.tables()[usize::from(row.table.0)].key_of(row);
        let expected: BTreeMap<_, _> =
            expected(&migration, &history).into_iter().map(|row| (key_of(&row), row)).collect();
        assert!(expected.len() > 10, "seed {seed}: {}", expected.len());
        for order in 0..ORDERS {
            let mut random = ChaCha8Rng::seed_from_u64(seed * 100 + order);
            let mut events = history.events.clone();
            events.shuffle(&mut random);
            let log = Arc::new(MemoryLog::new(1, 1));
            log.append(Batch { relations: history.relations.clone(), ..Batch::default() }).await.expect("it takes");
            for piece in events.chunks(random.random_range(1..20)) {
                log.append(Batch { events: piece.to_vec(), ..Batch::default() }).await.expect("it takes");
            }
            let target = Arc::new(MemoryTarget::new(Arc::clone(engine.tables()), ForeignScope::Row));
            let folder = tempfile::tempdir().expect("a folder");
            let conservation = project(&engine, &log, &target, folder.path(), &mut random).await;
            assert!(conservation.balanced(), "seed {seed}, order {order}: {conservation:?}");
            let there: BTreeMap<_, _> = target.rows().into_iter().map(|row| (key_of(&row), row)).collect();
            let differing: Vec<_> = expected
                .keys()
                .chain(there.keys())
                .filter(|key| expected.get(*key) != there.get(*key))
                .map(|key| (expected.get(key), there.get(key)))
                .collect();
            assert!(differing.is_empty(), "seed {seed}, order {order}: {differing:?}");
        }
    }
}

/// A projector of what a state holds into a target, so many parts at once.
pub fn projector(
    engine: &Engine,
    log: &Arc<MemoryLog>,
    state: &Arc<State>,
    target: Arc<dyn Target>,
    batch_parts: Option<usize>,
) -> Projector {
    Projector::new(
        Arc::clone(log) as Arc<dyn EventLog>,
        Arc::clone(state),
        Arc::clone(engine.migration()),
        Arc::clone(engine.sources()),
        Arc::clone(engine.tables()),
        target,
        Settings { log_generation: 1, mapping_generation: 1, unit_bytes_max: u64::MAX, writers: 2, batch_parts },
    )
}

/// Projects to the end of the log, with projections and new starts at drawn moments in between.
async fn project(
    engine: &Engine,
    log: &Arc<MemoryLog>,
    target: &Arc<MemoryTarget>,
    folder: &Path,
    random: &mut ChaCha8Rng,
) -> Conservation {
    loop {
        let state = Arc::new(State::open(folder).expect("a state"));
        let (sources, migration) = (Arc::clone(engine.sources()), Arc::clone(engine.migration()));
        let mut applier = Applier::resume(&state, Arc::clone(&sources), migration).expect("it resumes");
        applier.wake(&state).expect("a state");
        for _ in 0..random.random_range(1..6) {
            let from = Applier::checkpoint(&state).expect("an offset");
            let chunk = log.read(Partition(0), from, random.random_range(1..4_000)).await.expect("it reads");
            if !chunk.records.is_empty() {
                applier.apply(&**log, &state, &chunk.records, chunk.next).expect("it applies");
            }
        }
        let ended = |state: &State| Applier::checkpoint(state).expect("an offset") == log.end(Partition(0));
        let at_end = ended(&state);
        if at_end || random.random_ratio(1, 3) {
            // So few at once that the next are picked before the last but one were kept, all through.
            let at_once = Some(random.random_range(1..5));
            let projector = projector(engine, log, &state, Arc::clone(target) as Arc<dyn Target>, at_once);
            projector.project_all(&CancellationToken::new(), |_| Ok(())).await.expect("it projects");
        }
        if at_end && ended(&state) {
            return Conservation::count(&state.freeze(), &sources, 1).expect("it counts");
        }
    }
}

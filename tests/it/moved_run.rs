//! Rows that take over each other's target keys, in batches of their own: nobody is parked for a key that its holder is about
//! to let go of, however many there are.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use rehome::engine::{Engine, Settings};
use rehome::event::{Column, Epoch, Key, Lsn, Op, Relation, RelationName, Value, Version};
use rehome::log::{Batch, EventLog as _, MemoryLog, Partition};
use rehome::mapping::Migration;
use rehome::mapping::schema::SourceTableDef;
use rehome::project::apply::Applier;
use rehome::project::conservation::Conservation;
use rehome::project::state::State;
use rehome::target::{ForeignScope, Target};
use tokio_util::sync::CancellationToken;

use crate::shuffled::{event, projector};
use crate::support::memory_target::MemoryTarget;

/// Groups of each run.
const GROUPS: i64 = 40;
/// Bytes of each group: so many that the two runs do not fit one batch.
const BYTES: usize = 512 * 1024;

/// A table's shape, as its events carry it.
fn relation(table: &SourceTableDef) -> Relation {
    let column = |(index, column): (usize, &rehome::mapping::schema::ColumnDef)| Column {
        name: column.name.clone(),
        type_name: column.type_name.clone(),
        key_part: table.key.iter().position(|key| *key == index).and_then(|place| u16::try_from(place).ok()),
    };
    let name = RelationName { schema: table.schema.clone(), table: table.name.clone() };
    Relation { name, columns: table.columns.iter().enumerate().map(column).collect() }
}

/// A row of an item.
fn row(relation: &Relation, item: &[(&str, Value)]) -> Vec<Value> {
    let keys = relation.columns.iter().filter(|column| column.key_part.is_some());
    let value = |name: &str| item.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone());
    let mut values: Vec<Value> = keys.map(|column| value(&column.name).expect("a key")).collect();
    values.push(Value::Map(item.iter().map(|(name, value)| ((*name).into(), value.clone())).collect()));
    values
}

fn number(number: i64) -> Value {
    Value::Decimal(number.into())
}

/// Rows whose unit is a column that changes, under a target key that does not.
const OWNED: [(&str, &str); 3] = [
    (
        "legacy.toml",
        "source = \"postgres\"\n[table.things]\nname = \"things\"\nkey = [\"id\"]\nrole = \"unit\"\nunit_lookup = \"scan\"\n\
         [table.things.columns]\nid = \"bigint not null\"\nowner = \"text not null\"\n",
    ),
    (
        "mapping.toml",
        "migration = \"owned\"\nnamespace = \"0d1f6c5e-0000-5000-8000-000000000003\"\nforeign = \"row\"\n\
         [unit]\nthings = \"owner\"\n[quarantine]\nnot_storable = \"unit\"\nunreadable_json = \"unit\"\n\
         key_collision = \"unit\"\n[[map]]\nfrom = \"things\"\nto = \"kept\"\n[map.columns]\nid = \".id\"\nowner = \".owner\"\n",
    ),
    ("target.sql", "CREATE TABLE kept (id bigint PRIMARY KEY, owner text NOT NULL);\n"),
];

/// The migration of [`OWNED`], compiled.
pub fn owned_migration() -> Arc<Migration> {
    let schemas = tempfile::tempdir().expect("a folder");
    let folder = schemas.path().join("owned");
    std::fs::create_dir_all(&folder).expect("a folder");
    OWNED.iter().for_each(|(name, text)| std::fs::write(folder.join(name), text).expect("a file"));
    Arc::new(Migration::load(&folder).unwrap_or_else(|error| panic!("{error}")))
}

/// A row that moves keeps its target key: the unit that it leaves must not delete what the other has just written, nor the
/// other take it for someone else's.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_moves_to_another_unit_keeps_its_target_row() {
    let migration = owned_migration();
    let engine = Engine::new(Arc::clone(&migration), Settings::new("unused".into(), None, None));
    let things = Arc::new(crate::shuffled::relation(&migration, 0));
    let log = Arc::new(MemoryLog::new(1, 1));
    log.append(Batch { relations: vec![Arc::clone(&things)], ..Batch::default() }).await.expect("it takes");
    let target = Arc::new(MemoryTarget::new(Arc::clone(engine.tables()), ForeignScope::Row));
    let folders = [tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder")];
    // Forth and back, so that the unit that lets go stands before the other in one batch and behind it in another; the last
    // move is seen by a state that is built anew, and knows of nobody who wrote what.
    for (lsn, owner) in (1..).zip(["a", "b", "a", "c", "b", "a"]) {
        let row = vec![Value::Int(1), Value::text(owner)];
        let (op, version) = match lsn {
            1 => (Op::Read, Version::floor(Epoch(1))),
            _ => (Op::Update, Version::postgres(Epoch(1), Lsn(lsn), 0)),
        };
        let moved = event(&things, op, version, Some(&row), Key(vec![Value::Int(1)]));
        log.append(Batch { events: vec![moved], ..Batch::default() }).await.expect("it takes");
        let folder = &folders[usize::from(lsn == 6)];
        let state = Arc::new(State::open(folder.path()).expect("a state"));
        let projector = projector(&engine, &log, &state, Arc::clone(&target) as Arc<dyn Target>, None);
        let mut applier =
            Applier::resume(&state, Arc::clone(engine.sources()), Arc::clone(&migration)).expect("it resumes");
        while apply_next(&mut applier, &log, &state).await {
            projector.project_all(&CancellationToken::new(), |_| Ok(())).await.expect("it projects");
        }
        // As a run does before it says that it has caught up.
        if projector.try_again(&mut Vec::new()).expect("it looks") > 0 {
            projector.project_all(&CancellationToken::new(), |_| Ok(())).await.expect("it projects");
        }
        let rows: Vec<Vec<Value>> = target.rows().into_iter().map(|row| row.values).collect();
        let conservation = Conservation::count(&state.freeze(), engine.sources(), 1).expect("it counts");
        assert_eq!(rows, [row], "at {lsn}: {conservation:?}");
    }
}

/// Applies what the log has beyond the state; false when there is nothing.
async fn apply_next(applier: &mut Applier, log: &MemoryLog, state: &State) -> bool {
    let from = Applier::checkpoint(state).expect("an offset");
    let chunk = log.read(Partition(0), from, 1 << 30).await.expect("it reads");
    if !chunk.records.is_empty() {
        applier.apply(log, state, &chunk.records, chunk.next).expect("it applies");
    }
    !chunk.records.is_empty()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_take_over_each_other_s_keys_are_not_parked_on_the_way() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/delphi");
    let migration = Arc::new(Migration::load(&folder).expect("it loads"));
    let engine = Engine::new(Arc::clone(&migration), Settings::new("unused".into(), None, None));
    let table = |alias: &str| {
        let found = migration.source_tables().iter().find(|table| &*table.alias == alias);
        Arc::new(relation(found.expect("a table")))
    };
    let (config, clusters) = (table("config"), table("clusters"));
    let log = Arc::new(MemoryLog::new(1, 1));
    let relations = vec![Arc::clone(&config), Arc::clone(&clusters)];
    log.append(Batch { relations, ..Batch::default() }).await.expect("it takes");
    let floor = || Version::floor(Epoch(1));
    let current = |tick: i64| row(&config, &[("zid", Value::text("9")), ("latest_math_tick", number(tick))]);
    let key = || Key(vec![Value::text("9")]);
    let mut events = vec![event(&config, Op::Read, floor(), Some(&current(200)), key())];
    for tick in [100, 200] {
        for group in 0..GROUPS {
            let name = Value::text(format!("9:{tick}"));
            let pad = Value::text("x".repeat(BYTES));
            let values = row(&clusters, &[("zid_tick", name.clone()), ("group_id", number(group)), ("pad", pad)]);
            events.push(event(&clusters, Op::Read, floor(), Some(&values), Key(vec![name, number(group)])));
        }
    }
    log.append(Batch { events, ..Batch::default() }).await.expect("it takes");

    let state_folder = tempfile::tempdir().expect("a folder");
    let state = Arc::new(State::open(state_folder.path()).expect("a state"));
    let target = Arc::new(MemoryTarget::new(Arc::clone(engine.tables()), ForeignScope::Row));
    let projector = projector(&engine, &log, &state, Arc::clone(&target) as Arc<dyn Target>, None);
    let mut lsn = 1;
    // Towards the smaller number the takers stand before those who let go; towards the greater behind them.
    for (tick, other) in [(200, 100), (100, 200), (200, 100)] {
        lsn += 1;
        let moved = event(&config, Op::Update, Version::postgres(Epoch(1), Lsn(lsn), 0), Some(&current(tick)), key());
        log.append(Batch { events: vec![moved], ..Batch::default() }).await.expect("it takes");
        // One that began before the first projection marks nothing: that one looks at every part.
        let (sources, migration) = (Arc::clone(engine.sources()), Arc::clone(&migration));
        let mut applier = Applier::resume(&state, sources, migration).expect("it resumes");
        let (mut parts, mut parked) = (0, BTreeMap::<String, u64>::new());
        let mut batches = 0;
        while apply_next(&mut applier, &log, &state).await {
            let told = |done: rehome::project::projector::Done| {
                (parts, batches) = (parts + done.parts, batches + 1);
                done.parked.into_iter().for_each(|(reason, count)| *parked.entry(reason).or_default() += count);
                Ok(())
            };
            projector.project_all(&CancellationToken::new(), told).await.expect("it projects");
        }
        assert!(parked.is_empty(), "to {tick}: {parked:?}");
        assert!(batches > 2, "to {tick}: the runs fit {batches} batches");
        let rows = u64::try_from(2 * GROUPS + 1).expect("few");
        assert!(parts <= 3 * rows, "to {tick}: {parts} parts were evaluated");
        let mut found = BTreeMap::<(String, String), i64>::new();
        for row in target.rows() {
            let Some(Value::Map(item)) = row.values.last() else { panic!("an item") };
            let text = |name: &str| item.get(name).and_then(Value::as_text).unwrap_or("the config").to_owned();
            *found.entry((text("zid_tick"), text("job_id"))).or_default() += 1;
        }
        let expected = BTreeMap::from([
            (("the config".to_owned(), "legacy-9".to_owned()), 1),
            ((format!("9:{tick}"), "legacy-9".to_owned()), GROUPS),
            ((format!("9:{other}"), format!("legacy-9-tick-{other}")), GROUPS),
        ]);
        assert_eq!(found, expected);
        let conservation = Conservation::count(&state.freeze(), engine.sources(), 1).expect("it counts");
        assert!(conservation.balanced(), "{conservation:?}");
    }
}

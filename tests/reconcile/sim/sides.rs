//! Both sides of the simulation as a comparison reads them: by ranges of a snapshot, and rows again as they are.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rehome::engine::Error;
use rehome::engine::protocol::{Answer, Request};
use rehome::engine::witness::{Belonging, Projection, Reading, Witness};
use rehome::event::{
    Canonical as _, Cell, Column, Epoch, Event, Flags, Key, Op, Origin, Relation, RelationName, Row, Value, Version,
};
use rehome::log::Batch;
use rehome::project::scope::unit_key;
use rehome::reconcile::actual::Owners;
use rehome::reconcile::side::{Extent, Range, Side, Table};
use rehome::source::{Copied, Error as SourceError, RangeId, RangeOutcome, Snapshot};
use rehome::target::{TargetKey, TargetRow, TargetTable};
use tokio::sync::{mpsc, watch};

use super::baton::Actor;
use super::script::Point;
use super::target::Held;
use super::world::World;

/// Rows of a range.
const RANGE_ROWS: usize = 4;
/// Time of the simulation that a turn takes: long beside what the machine takes for it.
const TURN: Duration = Duration::from_secs(60);

/// In which order the ranges of both sides are read: whose turn it is.
pub struct Order(watch::Sender<VecDeque<&'static str>>);

impl Order {
    /// First the ranges of the source's first table, which others refer to, then the others of both, as chance has it.
    pub fn new(world: &World, unread: Option<usize>, source: &Tables, target: &Tables) -> Arc<Self> {
        let first = if unread == Some(0) { 0 } else { blocks(&source[0].2) };
        let count = |tables: &Tables| -> usize {
            let read = tables.iter().enumerate().filter(|(table, _)| unread != Some(*table));
            read.map(|(_, (.., rows))| blocks(rows)).sum()
        };
        let (source, target) = (count(source), count(target));
        let mut order = VecDeque::from(vec!["source"; first]);
        let mut rest = [vec!["source"; source - first], vec!["target"; target]].concat();
        while !rest.is_empty() {
            order.push_back(rest.swap_remove(world.baton.below(rest.len())));
        }
        Arc::new(Self(watch::Sender::new(order)))
    }

    /// Returns when a range of the side is the next.
    async fn turn(&self, side: &'static str) {
        let next = |order: &VecDeque<&'static str>| order.front() == Some(&side);
        self.0.subscribe().wait_for(next).await.expect("the order outlasts its readers");
    }

    fn done(&self) {
        self.0.send_modify(|order| {
            order.pop_front();
        });
    }
}

/// Rows of one side as they were at one moment.
struct Frozen {
    name: &'static str,
    world: Arc<World>,
    order: Arc<Order>,
    ranges: Vec<(Arc<Relation>, Vec<Vec<Value>>)>,
}

#[async_trait]
impl Snapshot for Frozen {
    async fn copy(&self, range: RangeId, out: mpsc::Sender<Batch>) -> Result<RangeOutcome, SourceError> {
        self.order.turn(self.name).await;
        self.world.baton.turn(Actor::Reconciler).await;
        self.order.done();
        let (relation, rows) = &self.ranges[range.0 as usize];
        let event = |values: &Vec<Value>| Event {
            relation: relation.schema_hash(),
            op: Op::Read,
            key: Key(values[..1].to_vec()),
            old_key: None,
            before: None,
            after: Some(Row(values.iter().cloned().map(Cell::Value).collect())),
            version: Version::floor(Epoch(1)),
            transaction: None,
            origin: Origin::Snapshot { range: range.0 },
            flags: Flags::default(),
        };
        let events = rows.iter().map(event).collect();
        let batch = Batch { relations: vec![Arc::clone(relation)], events, ..Batch::default() };
        out.send(batch).await.map_err(|_| SourceError::Unreachable { action: "read", reason: "gone".into() })?;
        Ok(RangeOutcome::Copied(Copied { rows: rows.len() as u64, bytes: 0 }))
    }
}

/// The tables of a side: name, columns, rows.
type Tables = Vec<(RelationName, Vec<Box<str>>, Vec<Vec<Value>>)>;

/// How many ranges rows are read in.
fn blocks(rows: &[Vec<Value>]) -> usize {
    rows.len().div_ceil(RANGE_ROWS).max(1)
}

/// A side of tables, one of which may be left unread; places are blocks of a few rows.
pub fn side(
    world: &Arc<World>,
    name: &'static str,
    tables: Tables,
    unread: Option<usize>,
    order: &Arc<Order>,
    position: String,
) -> Arc<Side> {
    let (mut ranges, mut frozen) = (Vec::new(), Vec::new());
    for (table, (relation, columns, rows)) in tables.iter().enumerate() {
        let column = |name: &str| Column { name: name.into(), type_name: "text".into(), key_part: None };
        let shape = columns.iter().map(|name| column(name)).collect();
        let shape = Arc::new(Relation { name: relation.clone(), columns: shape });
        let count = if unread == Some(table) { 0 } else { blocks(rows) };
        for place in 0..count {
            let block = |place: usize| u32::try_from(place).expect("few");
            let to = (place + 1 < count).then(|| block(place + 1));
            let extent = Extent::Blocks { leaf: relation.clone(), file: 1, from: block(place), to };
            ranges.push(Range { id: RangeId(block(ranges.len())), table, extent, pages: 1 });
            let of = rows.iter().skip(place * RANGE_ROWS).take(RANGE_ROWS).cloned().collect();
            frozen.push((Arc::clone(&shape), of));
        }
    }
    let snapshot = Frozen { name, world: Arc::clone(world), order: Arc::clone(order), ranges: frozen };
    let table = |(relation, columns, rows): (RelationName, Vec<Box<str>>, Vec<Vec<Value>>)| Table {
        relation,
        identity: String::new(),
        columns,
        renamed: Vec::new(),
        counted: Some(rows.len() as u64),
    };
    Arc::new(Side {
        name,
        snapshot: Arc::new(snapshot),
        tables: tables.into_iter().map(table).collect(),
        ranges,
        snapshot_name: format!("{name} snapshot"),
        position,
        seen: None,
        taken: jiff::Timestamp::UNIX_EPOCH,
    })
}

/// The source's tables.
pub fn source_tables(world: &World, rows: &[BTreeMap<Value, Vec<Value>>; 3]) -> Tables {
    let table = |(source, rows): (&rehome::project::source::SourceShape, &BTreeMap<Value, Vec<Value>>)| {
        let columns = source.columns.iter().map(|(name, _)| name.clone()).collect();
        (source.relation.clone(), columns, rows.values().cloned().collect())
    };
    world.engine.sources().iter().zip(rows).map(table).collect()
}

/// The target's tables, the record behind them: a row for each key that a part owns.
pub fn target_tables(world: &World, held: &Held) -> Tables {
    let mut tables: Tables = Vec::new();
    for (index, shape) in (0..).zip(world.engine.tables().iter()) {
        let relation = RelationName { schema: shape.schema.clone(), table: shape.name.clone() };
        let columns = shape.columns.iter().map(|column| column.name.clone()).collect();
        let rows = held.rows.values().filter(|row| row.table == TargetTable(index));
        tables.push((relation, columns, rows.map(|row| row.values.clone()).collect()));
    }
    let owned = held.record.iter().flat_map(|((unit, part), (_, rows))| {
        rows.keys().map(move |key| {
            let values = Key(key.values.clone()).encode();
            let scope = [unit_key(unit), part.to_vec()].concat();
            vec![Value::Bytes(scope.into()), Value::Int(key.table.0.into()), Value::Bytes(values.into())]
        })
    });
    let columns = ["scope", "table", "key"].map(Box::from).into();
    tables.push((RelationName { schema: "rehome".into(), table: "units".into() }, columns, owned.collect()));
    tables
}

/// How the record is read.
pub fn owners() -> Owners {
    Owners::Record(Arc::new(|row| {
        let [Value::Bytes(scope), Value::Int(table), Value::Bytes(key)] = row else { return Ok(None) };
        let values = Key::decode(key).expect("a key").0;
        let table = TargetTable(u16::try_from(*table).expect("few"));
        Ok(Some((scope.to_vec(), vec![TargetKey { table, values }])))
    }))
}

/// Looks at both sides as they are.
pub struct Eyes {
    pub world: Arc<World>,
    /// Of so many questions for parts and units one cannot be answered; all can where it is zero.
    pub unanswered: u32,
}

impl Eyes {
    /// What happens at a point: by the script, or in the turns of others.
    pub async fn at(&self, point: Point) {
        if !self.world.script.at(point, &self.world).await {
            self.world.baton.turn(Actor::Reconciler).await;
        }
    }
}

#[async_trait]
impl Projection for Eyes {
    async fn ask(&self, request: Request) -> Result<Answer, Error> {
        let point = match &request {
            Request::Since { .. } => Point::Since,
            Request::Parts { .. } => Point::Parts,
            Request::Unit { .. } => Point::Unit,
            _ => Point::Stand,
        };
        self.at(point).await;
        let fails = matches!(point, Point::Parts | Point::Unit) && self.unanswered > 0;
        if fails && self.world.baton.chance(1, self.unanswered) {
            return Ok(Answer::Failed { message: "a row vanished while its unit was mapped".to_owned(), hint: None });
        }
        Ok(self.world.ask(request).await)
    }

    fn elapsed(&self) -> Duration {
        TURN * u32::try_from(self.world.baton.turns()).expect("few")
    }

    async fn pause(&self, _: Duration) {
        for _ in 0..3 {
            self.at(Point::Pause).await;
        }
    }
}

#[async_trait]
impl Witness for Eyes {
    async fn source(&self, _: &str) -> Result<Reading, Error> {
        let rows = self.world.source().rows.clone();
        self.at(Point::Source).await;
        let rows = rows.into_iter().map(|rows| rows.into_values().collect()).collect();
        Ok(Reading { position: Some(self.world.position()), rows })
    }

    async fn target(&self, keys: &[TargetKey]) -> Result<Vec<TargetRow>, Error> {
        let tables: BTreeSet<TargetTable> = keys.iter().map(|key| key.table).collect();
        let mut rows = Vec::new();
        // Each table is read for itself.
        for table in tables {
            self.at(Point::Target).await;
            let held = self.world.held();
            let of = keys.iter().filter(|key| key.table == table);
            rows.extend(of.filter_map(|key| held.rows.get(key).cloned()));
        }
        Ok(rows)
    }

    async fn belonging(&self, unit: &str, _: &BTreeSet<TargetKey>) -> Result<Belonging, Error> {
        let held = self.world.held();
        let names = |key: &&TargetKey| key.values[0] == Value::text(unit);
        let others = held.rows.keys().filter(names).cloned().collect();
        Ok(Belonging { ours: held.owned(unit).into_iter().collect(), others })
    }

    fn as_read(&self, rows: Vec<TargetRow>) -> Vec<TargetRow> {
        rows
    }

    fn attempts(&self, _: &str) -> usize {
        10
    }
}

//! Who acts beside a comparison: a writer of the source, the capture, the projector, and somebody who spoils things.

use std::sync::Arc;

use rehome::engine::Engine;
use rehome::event::{Lsn, Value};
use rehome::log::EventLog;
use rehome::project::apply::Applier;
use rehome::project::prepare::Settings;
use rehome::project::projector::Projector;
use rehome::project::scope::unit_text;
use rehome::project::state::Space;
use rehome::target::{Target, TargetKey, TargetRow, TargetTable};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::baton::Actor;
use super::boxes::{BOXES, ITEMS, MARKS, SEEN, item, labelled, mark};
use super::target::SimTarget;
use super::world::{Change, LOG, World};

/// Boxes and tags that there are; few, so that everything meets.
const NAMES: [&str; 3] = ["a", "b", "c"];
const TAGS: [&str; 2] = ["x", "y"];
/// Items and marks that there may be.
const IDS: usize = 12;
/// Faults of a run, at the most.
const FAULTS: usize = 4;

/// How many take turns: these, and the comparison.
pub const ACTORS: usize = 5;

/// Lets all of them act, beside whoever takes turns as the comparison.
pub fn start(world: &Arc<World>) -> JoinSet<()> {
    let mut actors = JoinSet::new();
    actors.spawn(writer(Arc::clone(world)));
    actors.spawn(capture(Arc::clone(world)));
    actors.spawn(projection(Arc::clone(world)));
    actors.spawn(corruptor(Arc::clone(world)));
    actors
}

async fn writer(world: Arc<World>) {
    world.baton.turn(Actor::Writer).await;
    // Now and then, or as fast as anybody can look.
    let pace = world.baton.pick(&[4, 20, 80]);
    loop {
        world.baton.turn(Actor::Writer).await;
        if world.is(&world.quiet) {
            return world.baton.leave();
        }
        if world.baton.chance(1, pace) {
            let changes = (0..=world.baton.below(3)).map(|_| draw(&world)).collect();
            world.commit(changes);
        }
    }
}

/// A change of the source. Values come again, so that rows return to what they were.
pub fn draw(world: &World) -> Change {
    let baton = &world.baton;
    let (name, other) = (baton.pick(&NAMES), baton.pick(&NAMES));
    let id = i64::try_from(1 + baton.below(IDS)).expect("few");
    let (deleted, number) = (baton.chance(1, 4), i64::try_from(baton.below(4)).expect("few"));
    let (table, row) = match baton.below(7) {
        0 => (BOXES, labelled(name, &format!("label {number}"))),
        1..=3 => (ITEMS, item(id, other, &format!("note {id} {number}"))),
        _ => (MARKS, mark(id, other, baton.pick(&TAGS), number)),
    };
    Change { table, key: row[0].clone(), row: (!deleted).then_some(row) }
}

async fn capture(world: Arc<World>) {
    loop {
        world.baton.turn(Actor::Capture).await;
        if world.is(&world.over) {
            return world.baton.leave();
        }
        if world.baton.chance(1, 2) {
            take(&world).await;
        }
    }
}

/// Captures a transaction, in pieces; the position moves with the last of them.
async fn take(world: &World) {
    let Some((mut events, position)) = world.next_events() else { return };
    if world.is(&world.faulty) && !events.is_empty() && world.baton.chance(1, 25) {
        let lost = events.remove(world.baton.below(events.len()));
        world.baton.note(format!("fault: the log is not told of {:?} {:?}", lost.op, lost.key));
        lose(world, position);
    }
    let rest = events.split_off(world.baton.below(events.len() + 1));
    for events in [events, rest] {
        if !events.is_empty() {
            world.append(events).await;
            world.baton.turn(Actor::Capture).await;
        }
    }
    world.baton.note(format!("captured {position}"));
    world.captured(position);
}

/// Notes what a transaction changed as concerned by a fault: some of it will not come through.
fn lose(world: &World, position: Lsn) {
    let number = usize::try_from(position.0).expect("few");
    let (mut before, mut after) = (Default::default(), Default::default());
    {
        let source = world.source();
        for (rows, upto) in [(&mut before, number - 1), (&mut after, number)] {
            *rows = source.rows_at(upto);
        }
    }
    let keys = world.differing(&world.expected_of(&before), &world.expected_of(&after));
    world.blemish("not captured", keys);
}

/// A projector of the world.
pub struct Projecting {
    world: Arc<World>,
    projector: Projector,
    applier: Applier,
}

impl Projecting {
    /// One that goes on from what the state holds.
    pub fn new(world: &Arc<World>) -> Self {
        let engine: &Engine = &world.engine;
        let (sources, migration) = (Arc::clone(engine.sources()), Arc::clone(engine.migration()));
        let batch_parts = Some(world.batch_parts);
        let projector = Projector::new(
            Arc::clone(&world.log) as Arc<dyn EventLog>,
            Arc::clone(&world.state),
            Arc::clone(&migration),
            Arc::clone(&sources),
            Arc::clone(engine.tables()),
            Arc::new(SimTarget(Arc::clone(world))) as Arc<dyn Target>,
            Settings { log_generation: 1, mapping_generation: 1, unit_bytes_max: u64::MAX, writers: 1, batch_parts },
        );
        let applier = Applier::resume(&world.state, sources, migration).expect("it resumes");
        Self { world: Arc::clone(world), projector, applier }
    }

    /// Applies records of the log, about so many bytes of them. Whom new answers concern is looked for in a turn of its own.
    pub async fn apply(&mut self, bytes: usize) {
        self.apply_only(bytes).await;
        self.world.baton.turn(Actor::Projector).await;
        self.wake();
    }

    /// Applies records, and does not look yet whom new answers concern.
    pub async fn apply_only(&mut self, bytes: usize) {
        let World { log, state, .. } = &*self.world;
        let from = Applier::checkpoint(state).expect("an offset");
        let chunk = log.read(LOG, from, bytes).await.expect("it reads");
        if !chunk.records.is_empty() {
            let mut folded = self.applier.fold(&**log, state, state.session(), chunk.records).expect("it applies");
            self.applier.finish_behind(&mut folded, chunk.next).expect("it commits");
            self.world.baton.note(format!("applied to {}", chunk.next.0));
        }
    }

    /// Looks whom new answers concern.
    pub fn wake(&mut self) {
        self.applier.wake(&self.world.state).expect("it wakes");
    }

    /// Projects every part that changed.
    pub async fn project(&mut self) {
        self.projector.project_all(&CancellationToken::new(), |_| Ok(())).await.expect("it projects");
        self.applier.know_marking(&self.world.state).expect("a state");
        self.world.baton.note("projected".to_owned());
    }

    /// Tries parts again that rows at the target held back.
    pub async fn again(&mut self) {
        self.projector.try_again(&mut Vec::new()).expect("a state");
        self.project().await;
    }

    /// Applies and projects everything.
    pub async fn all(&mut self) {
        self.apply(usize::MAX).await;
        self.project().await;
    }
}

async fn projection(world: Arc<World>) {
    let mut projecting = Projecting::new(&world);
    loop {
        world.baton.turn(Actor::Projector).await;
        if world.is(&world.over) {
            return world.baton.leave();
        }
        if world.baton.chance(1, 2) {
            projecting.apply(1 + world.baton.below(600)).await;
        }
        if world.baton.chance(1, 2) {
            projecting.project().await;
        }
    }
}

async fn corruptor(world: Arc<World>) {
    let mut left = FAULTS;
    loop {
        world.baton.turn(Actor::Corruptor).await;
        if world.is(&world.quiet) {
            return world.baton.leave();
        }
        if world.baton.chance(1, 6) {
            see(&world);
        }
        if left > 0 && world.is(&world.faulty) && world.baton.chance(1, 12) {
            spoil(&world);
            left -= 1;
        }
    }
}

/// A row of the target, if there is one of the table.
fn any(world: &World, table: Option<usize>) -> Option<(TargetKey, TargetRow)> {
    let of = |key: &TargetKey| table.is_none_or(|table| usize::from(key.table.0) == table);
    let rows: Vec<_> =
        world.held().rows.iter().filter(|(key, _)| of(key)).map(|(a, b)| (a.clone(), b.clone())).collect();
    (!rows.is_empty()).then(|| world.baton.pick(&rows))
}

/// The application notes that someone looked at an item: nothing that is compared.
fn see(world: &World) {
    if let Some((key, mut row)) = any(world, Some(ITEMS)) {
        row.values[SEEN] = Value::text(format!("seen {}", world.baton.turns()));
        world.held().rows.insert(key, row);
    }
}

/// Spoils something at the target.
fn spoil(world: &World) {
    let strange = Value::text(format!("strange {}", world.baton.turns()));
    match world.baton.below(5) {
        0 => {
            let Some((key, mut row)) = any(world, None) else { return };
            let last = if usize::from(key.table.0) == ITEMS { SEEN - 1 } else { row.values.len() - 1 };
            row.values[last] = if usize::from(key.table.0) == ITEMS { strange } else { Value::Int(-1) };
            world.held().rows.insert(key.clone(), row);
            world.blemish("changed", [key]);
        }
        1 => {
            let Some((key, _)) = any(world, None) else { return };
            world.held().rows.remove(&key);
            world.blemish("deleted", [key]);
        }
        2 => {
            // Once more, under a key of its own.
            let Some((_, mut row)) = any(world, Some(ITEMS)) else { return };
            row.values[1] = Value::Int(i64::try_from(1_000 + world.baton.turns()).expect("few"));
            let key = world.key_of(&row);
            world.held().rows.insert(key.clone(), row);
            world.blemish("doubled", [key]);
        }
        3 => {
            // Someone else's row, where one of ours may come to stand.
            let (name, id) = (world.baton.pick(&NAMES), i64::try_from(1 + world.baton.below(IDS)).expect("few"));
            let values = vec![Value::text(name), Value::Int(id), strange, Value::Null, Value::Null];
            let row = TargetRow { table: TargetTable(u16::try_from(ITEMS).expect("few")), values };
            let key = world.key_of(&row);
            if !world.held().rows.contains_key(&key) {
                world.held().rows.insert(key.clone(), row);
                world.blemish("foreign", [key]);
            }
        }
        _ => forget(world),
    }
}

/// Has the projector forget that a part waits.
fn forget(world: &World) {
    let mut waiting = Vec::new();
    let found = world.state.scan(Space::Dirty, &[], |scope, _| {
        waiting.push(scope.to_vec());
        Ok(true)
    });
    found.expect("a state");
    if waiting.is_empty() {
        return;
    }
    let scope = world.baton.pick(&waiting);
    let mut session = world.state.session();
    session.remove(Space::Dirty, &scope);
    session.commit().expect("a state");
    let unit = Value::text(unit_text(&scope).expect("a unit"));
    let of = |key: &TargetKey| key.values[0] == unit;
    let keys: Vec<TargetKey> = {
        let expected = world.expected();
        let held = world.held();
        expected.keys().chain(held.rows.keys()).filter(|key| of(key)).cloned().collect()
    };
    world.blemish("forgotten", keys);
}

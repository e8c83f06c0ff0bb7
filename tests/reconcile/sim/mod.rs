//! A comparison beside writers, capture, projection and faults, all of it chosen by a seed.
//!
//! Scan, mapping, join, settling, projection and log are the real code; source, target and time are kept here. Everybody gives the
//! turn away before each thing that others could come between, and a seed says whose turn is next, so one seed is one history.
//! Beside it stands what no comparison can see: what the source means, at any moment, and which keys a fault concerns.

pub mod actors;
pub mod baton;
pub mod boxes;
pub mod script;
pub mod sides;
pub mod target;
pub mod world;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rehome::capture::marks::SNAPSHOT_COMPLETE;
use rehome::engine::cut::{self, Cut};
use rehome::engine::judging::{Grounds, Judging};
use rehome::engine::witness::Projection as _;
use rehome::event::{DigestKey, key_text};
use rehome::log::{Batch, EventLog as _};
use rehome::project::scope::{scope_key, unit_of};
use rehome::reconcile::actual::Owners;
use rehome::reconcile::canary::Canaries;
use rehome::reconcile::context::{Context, Form, Naming};
use rehome::reconcile::ledger::{Kept, Ledger};
use rehome::reconcile::run::{self, Plan};
use rehome::reconcile::summary::{self, Around};
use rehome::reconcile::{Discrepancy, Grade, State, Summary, Verdict};
use rehome::target::{TargetKey, TargetRow};

use actors::{ACTORS, Projecting};
use baton::Actor;
use boxes::{BOXES, ITEMS, MARKS, item, labelled, mark};
use script::Point;
use sides::{Eyes, Order, owners, side, source_tables, target_tables};
use world::{Rows, World};

/// Turns within which everything that is on its way arrives.
const DRAIN_TURNS: usize = 20_000;

/// How a comparison is made.
#[derive(Debug, Clone, Copy)]
pub struct How {
    /// Turns of sixty seconds that are waited for what moves.
    pub patience: u32,
    /// Of so many questions for parts and units one cannot be answered; all can where it is zero.
    pub unanswered: u32,
    /// Who is known to have written the target's rows.
    pub known: Known,
    /// What rows are compared as.
    pub form: Option<Form>,
    /// A target table, and the source table of its rows, that nobody reads.
    pub unread: Option<usize>,
    /// Whether the target is known to have been read as of a moment before the source's.
    pub moments: Moments,
    /// Units that are read again only to say which fields differ.
    pub details: usize,
}

/// Of which moments both sides are known to have been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moments {
    /// The target's is the earlier one.
    Ordered,
    /// There is none, as where a target is scanned.
    Unknown,
}

/// Whether the target keeps a record of what rehome wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// It does, and a projection is asked.
    Record,
    /// There is neither a record nor a projection: an application writes both sides.
    Nobody,
}

impl How {
    /// With time for everything, and all that can be known.
    pub const USUAL: How = How {
        patience: 2_000,
        unanswered: 0,
        known: Known::Record,
        form: None,
        unread: None,
        moments: Moments::Ordered,
        details: 0,
    };
}

impl Default for How {
    fn default() -> Self {
        Self::USUAL
    }
}

/// What a comparison came to, and what is known beside it.
pub struct Compared {
    pub summary: Summary,
    pub listed: Vec<Discrepancy>,
    /// Turn in which it began.
    pub began: u64,
    /// Turn in which the target's snapshot was taken.
    pub taken: u64,
    /// Keys at which both snapshots differ.
    pub apart: BTreeSet<TargetKey>,
    /// Rows of both sides.
    pub rows: u64,
}

impl Compared {
    /// Keys of discrepancies in a state.
    pub fn keys(&self, state: State) -> BTreeSet<(String, String)> {
        let of = self.listed.iter().filter(|found| found.state == state);
        of.map(|found| (found.table.clone(), found.key.clone())).collect()
    }

    /// What it came to, as text.
    pub fn text(&self) -> String {
        format!(
            "{}\n{}",
            serde_json::to_string(&self.summary).expect("plain data"),
            serde_json::to_string(&self.listed).expect("plain data")
        )
    }
}

/// A key as discrepancies name it.
pub fn named(world: &World, key: &TargetKey) -> (String, String) {
    (world.engine.tables()[usize::from(key.table.0)].name.to_string(), key_text(&key.values))
}

/// Fills a world, and projects all of it.
pub async fn begin(world: &Arc<World>) -> Projecting {
    for name in ["a", "b", "c"] {
        world.put(BOXES, labelled(name, "label"));
    }
    for id in 1..=8 {
        world.put(ITEMS, item(id, ["a", "b", "c"][usize::try_from(id).expect("few") % 3], &format!("note {id}")));
        world.put(
            MARKS,
            mark(
                id,
                ["a", "b"][usize::try_from(id).expect("few") % 2],
                ["x", "y"][usize::try_from(id / 4).expect("few") % 2],
                id,
            ),
        );
    }
    world.capture_all().await;
    let marks = [(SNAPSHOT_COMPLETE.into(), Some(b"1".to_vec()))].into();
    world.log.append(Batch { marks, ..Batch::default() }).await.expect("a log in memory");
    let mut projecting = Projecting::new(world);
    projecting.all().await;
    assert!(world.differing(&world.expected(), &world.held().rows).is_empty(), "all is well at first");
    projecting
}

/// Compares both sides, as the engine does it.
pub async fn compare(world: &Arc<World>, how: How) -> Compared {
    let eyes = Eyes { world: Arc::clone(world), unanswered: how.unanswered };
    let began = world.baton.turns();
    let patience = Duration::from_secs(60) * how.patience;
    let before = match how.known {
        Known::Record => Some(cut::before(&eyes, patience).await.expect("it answers")),
        Known::Nobody => None,
    };
    eyes.at(Point::Begun).await;
    let from = world.position();
    let held = world.held().clone();
    let taken = world.baton.turns();
    world.baton.note("the target's snapshot is taken".to_owned());
    eyes.at(Point::TargetTaken).await;
    let source_rows = world.source().rows.clone();
    eyes.at(Point::SourceTaken).await;
    let position = world.position();

    let expected: Rows = world.expected_of(&source_rows);
    let apart = world.differing(&expected, &held.rows);
    let (source, mut target) = (source_tables(world, &source_rows), target_tables(world, &held));
    if how.known == Known::Nobody {
        target.pop();
    }
    let rows = source.iter().chain(&target).map(|(.., rows)| rows.len() as u64).sum();
    let counts: Vec<u64> = world.engine.tables().iter().zip(&target).map(|(_, (.., rows))| rows.len() as u64).collect();
    let order = Order::new(world, how.unread, &source, &target);
    let source = side(world, "source", source, how.unread, &order, position.to_string());
    let target = side(world, "target", target, how.unread, &order, String::new());
    let key = DigestKey::new([3; 32]);
    let naming = Naming {
        scope_of: scope_key,
        unit_of: |scope| if scope.is_empty() { scope } else { unit_of(scope) },
        as_stored: |row: TargetRow| row,
        items: false,
    };
    let (migration, tables) = (Arc::clone(world.migration()), Arc::clone(world.engine.tables()));
    let canaries = Canaries::new([5; 32], &counts);
    let mut context = Context::new(migration, tables, Arc::clone(&world.rules), &key, canaries, naming);
    context.form = how.form;
    let context = Arc::new(context);
    let folder = tempfile::tempdir().expect("a folder");
    let owners = if how.known == Known::Record { owners() } else { Owners::Unknown };
    let ownership = owners.ownership();
    let plan = Plan {
        context: Arc::clone(&context),
        source: Arc::clone(&source),
        target: Arc::clone(&target),
        owners,
        given: Default::default(),
        workers: 1,
        partitions: 4,
        ledger: Ledger::begin(folder.path()).expect("a file"),
        source_kept: Kept::new(),
        target_kept: Kept::new(),
    };
    let outcome = run::run(plan, folder.path()).await.expect("it comes to its end");
    eyes.at(Point::Read).await;

    let after = match &before {
        Some(_) if outcome.differing() => cut::covered(&eyes, position, patience).await.expect("it answers"),
        _ => None,
    };
    let quiet = before.is_none() && world.position() == from && world.held().rows == held.rows;
    let cut =
        Cut { before, after, source: Some(position), target: None, quiet, ordered: how.moments == Moments::Ordered };
    let started = jiff::Timestamp::UNIX_EPOCH;
    let mut judging = Judging::new(Grounds {
        context: &context,
        cut: &cut,
        ownership,
        projection: &eyes,
        witness: (how.known == Known::Record).then_some(&eyes),
        deadline: eyes.elapsed() + patience,
        details_max: how.details,
        started,
    });
    let mut listed = Vec::new();
    for partition in 0..outcome.found.partitions() {
        let judged = judging
            .partition(&outcome.found.take(partition).expect("they read"), &mut |told| listed.push(told.whole()))
            .await;
        judged.expect("it comes to its end");
    }
    let Judging { classes, uses, .. } = judging;
    let around = Around {
        migration: world.migration(),
        rules: &world.rules,
        uses,
        classes,
        source: &source,
        target: &target,
        started,
        finished: started,
        seconds: 0,
        memory_bytes: 0,
        grade: if cut.before.is_some() { Grade::Proven } else { Grade::Observed },
        log: None,
        moving: cut.moving(),
        planted: true,
        root_key: [7; 32],
        read_units: None,
        throttles: 0,
    };
    let summary = summary::summary(&around, &outcome);
    for found in &listed {
        world.baton.note(format!("{:?} {:?} {} {}", found.state, found.kind, found.table, found.key));
    }
    Compared { summary, listed, began, taken, apart, rows }
}

/// What a run with one seed came to.
pub struct Run {
    pub history: Vec<String>,
    pub first: Compared,
    /// The comparison when everything had arrived.
    pub last: Compared,
    /// What was found wrong with them.
    pub wrong: Vec<String>,
    /// Keys that were corrupted at the cut of the first, and stayed so.
    pub corrupted: usize,
}

impl Run {
    /// A digest of all that happened and of what it came to.
    pub fn digest(&self) -> blake3::Hash {
        let text = [self.history.join("\n"), self.first.text(), self.last.text()].join("\n");
        blake3::hash(text.as_bytes())
    }
}

/// Whether faults are planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Faults {
    Planted,
    None,
}

/// Runs everything with one seed.
pub async fn simulate(seed: u64, faults: Faults) -> Run {
    let world = World::new(seed, ACTORS);
    drop(begin_alone(&world).await);
    world.set(&world.faulty, faults == Faults::Planted);
    let actors = actors::start(&world);
    // Something is on its way, and something is wrong, before the comparison begins.
    for _ in 0..world.baton.below(60) {
        world.baton.turn(Actor::Reconciler).await;
    }
    let (patience, unanswered) = (world.baton.pick(&[40, 400, 4_000]), world.baton.pick(&[0, 0, 6]));
    let first = compare(&world, How { patience, unanswered, ..How::default() }).await;
    let ended = world.baton.turns();
    world.set(&world.quiet, true);
    let mut turns = 0;
    while !world.drained() {
        turns += 1;
        assert!(turns < DRAIN_TURNS, "seed {seed}: it does not come to rest");
        world.baton.turn(Actor::Reconciler).await;
    }
    world.set(&world.faulty, false);
    let last = compare(&world, How::default()).await;
    world.set(&world.over, true);
    world.baton.leave();
    actors.join_all().await;
    let (wrong, corrupted) = judged(&world, &first, ended, &last);
    Run { history: world.baton.history(), first, last, wrong, corrupted }
}

/// As [`begin`], before any of several actors has arrived.
async fn begin_alone(world: &Arc<World>) -> Projecting {
    world.baton.alone(true);
    let projecting = begin(world).await;
    world.baton.alone(false);
    projecting
}

/// What is wrong with what comparisons came to, and how many keys were corrupted at the cut of the first.
fn judged(world: &World, first: &Compared, ended: u64, last: &Compared) -> (Vec<String>, usize) {
    let mut wrong = Vec::new();
    let blemishes = world.blemishes();
    // Confirmed means real: a fault concerns the key, and had not been healed when the comparison began.
    let real = |from: u64, to: u64, name: &(String, String)| {
        blemishes.iter().any(|blemish| {
            let overlaps = blemish.planted <= to && blemish.healed.is_none_or(|healed| healed >= from);
            overlaps && named(world, &blemish.key) == *name
        })
    };
    for name in first.keys(State::Confirmed) {
        if !real(first.began, ended, &name) {
            wrong.push(format!("a false alarm: {name:?}"));
        }
    }
    // Corrupted means reported or unsettled: what differed at the cut because of a fault, and still does when all has arrived.
    let at_rest = world.differing(&world.expected(), &world.held().rows);
    let told: BTreeSet<_> = first.listed.iter().map(|found| (found.table.clone(), found.key.clone())).collect();
    let faulty = |key: &&TargetKey| {
        blemishes
            .iter()
            .any(|blemish| blemish.key == **key && blemish.planted <= first.taken && blemish.healed.is_none())
    };
    let corrupted: Vec<&TargetKey> = first.apart.intersection(&at_rest).filter(faulty).collect();
    for key in &corrupted {
        if !told.contains(&named(world, key)) {
            wrong.push(format!("not reported: {key:?}"));
        }
    }
    if !corrupted.is_empty() && first.summary.verdict == Verdict::Match {
        wrong.push("MATCH, with corrupted rows".to_owned());
    }
    // At rest everything that differs is found, nothing else is, and without differences the verdict says so.
    let at_rest: BTreeSet<_> = at_rest.iter().map(|key| named(world, key)).collect();
    let told: BTreeSet<_> = last.listed.iter().map(|found| (found.table.clone(), found.key.clone())).collect();
    if told != at_rest {
        wrong.push(format!("at rest {at_rest:?} differ, and {told:?} are told"));
    }
    let forgotten = blemishes.iter().any(|blemish| blemish.what == "forgotten");
    let unsettled = last.keys(State::Unsettled);
    if !unsettled.is_empty() && !forgotten {
        wrong.push(format!("unsettled at rest: {unsettled:?}"));
    }
    if at_rest.is_empty() != (last.summary.verdict == Verdict::Match) {
        wrong.push(format!("{:?} at rest: {:?}", last.summary.verdict, last.summary.why));
    }
    for compared in [first, last] {
        let (planted, found) = compared.summary.recall();
        if planted == 0 || planted != found {
            wrong.push(format!("{found} canaries of {planted}"));
        }
        let moved = compared.summary.why.iter().any(|why| why.code == "expect");
        if moved && !at_rest_broken(world) {
            wrong.push(format!("an invariant is called broken: {:?}", compared.summary.why));
        }
    }
    (wrong, corrupted.len())
}

/// Whether a fault may have broken the invariant of the items.
fn at_rest_broken(world: &World) -> bool {
    world.blemishes().iter().any(|blemish| usize::from(blemish.key.table.0) == ITEMS)
}

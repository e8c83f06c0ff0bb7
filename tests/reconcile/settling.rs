//! Differences of rows that change while they are compared: one chosen history each, on the simulation's world.

use std::collections::BTreeSet;
use std::sync::Arc;

use rehome::capture::marks::SNAPSHOT_COMPLETE;
use rehome::engine::diff::{By, Kind, Verdict as UnitVerdict, judge};
use rehome::engine::look::{Beside, Looking, UnitDiff};
use rehome::engine::protocol::UnitView;
use rehome::event::Value;
use rehome::log::{Batch, EventLog as _};
use rehome::project::names::SWEEP;
use rehome::reconcile::{State, Verdict};
use rehome::target::{TargetKey, TargetRow, TargetTable};
use tokio::sync::Mutex;

use super::sim::actors::Projecting;
use super::sim::boxes::{BOXES, ITEMS, MARKS, SEEN, item, labelled, mark};
use super::sim::script::{Happens, Point};
use super::sim::sides::Eyes;
use super::sim::world::World;
use super::sim::{Compared, How, Known, Moments, begin, compare, named};

/// Turns that a comparison waits which is to give up.
const SHORT: How = How { patience: 30, ..How::USUAL };

/// A world at rest, and its projector.
async fn world() -> (Arc<World>, Arc<Mutex<Projecting>>) {
    let world = World::new(1, 1);
    let projecting = begin(&world).await;
    (world, Arc::new(Mutex::new(projecting)))
}

/// An item of a box: the first ones are items 1 of `b`, 2 of `c`, 3 of `a`, and so on.
fn key(world: &World, of: &str, id: i64) -> TargetKey {
    let values = vec![Value::text(of), Value::Int(id), Value::Null, Value::Null, Value::Null];
    world.key_of(&TargetRow { table: TargetTable(1), values })
}

/// Spoils a column of an item at the target.
fn spoil(world: &World, of: &str, id: i64, column: usize, text: &str) {
    let key = key(world, of, id);
    world.held().rows.get_mut(&key).expect("it is there").values[column] = Value::text(text);
}

impl Compared {
    /// Panics unless nothing is confirmed.
    fn no_alarm(&self) -> &Self {
        assert_eq!(self.keys(State::Confirmed).len(), 0, "a false alarm: {:?}", self.listed);
        assert!(!self.apart.is_empty(), "the snapshots differ, or nothing is tested");
        self
    }
}

/// Has something happen once, at the first of some points.
async fn once(world: &Arc<World>, at: Point, happens: impl FnOnce(Arc<World>) -> Happens + Send + 'static) {
    let mut happens = Some(happens);
    let step = move |point: Point, world: Arc<World>| -> Happens {
        match happens.take_if(|_| point == at) {
            Some(happens) => happens(world),
            None => Box::pin(async {}),
        }
    };
    world.script.set(step).await;
}

async fn look(world: &Arc<World>, unit: &str) -> UnitDiff {
    look_beside(world, unit, &Beside::default()).await
}

async fn look_beside(world: &Arc<World>, unit: &str, beside: &Beside) -> UnitDiff {
    let eyes = Eyes { world: Arc::clone(world), unanswered: 0 };
    let (migration, tables) = (world.migration(), world.engine.tables());
    let looking = Looking { migration, tables, rules: Some(&world.rules), witness: &eyes };
    looking.unit(unit, beside).await.expect("it is read")
}

/// Fault 12: nothing arrives, so all has arrived. The log is idle, all of it is applied and projected, and the source is ahead.
#[tokio::test(flavor = "multi_thread")]
async fn fault_12_an_idle_log_is_not_one_that_has_everything() {
    let (world, _) = world().await;
    world.put(ITEMS, item(1, "b", "not captured yet"));
    let compared = compare(&world, SHORT).await;
    compared.no_alarm();
    assert_eq!(compared.keys(State::Unsettled), [named(&world, &key(&world, "b", 1))].into());
    assert_eq!(compared.summary.verdict, Verdict::Incomplete);
}

/// No record says that a part is tried again, because the row in its way has gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_written_at_last_while_it_is_compared_is_not_called_missing() {
    let (world, projecting) = world().await;
    let (of, id) = ("b", 40);
    let theirs = vec![Value::text(of), Value::Int(id), Value::text("theirs"), Value::Null, Value::Null];
    world.held().rows.insert(key(&world, of, id), TargetRow { table: TargetTable(1), values: theirs });
    world.put(ITEMS, item(id, of, "ours"));
    world.capture_all().await;
    projecting.lock().await.all().await;
    let step = move |point: Point, world: Arc<World>| -> Happens {
        let projecting = Arc::clone(&projecting);
        Box::pin(async move {
            match point {
                Point::Begun => drop(world.held().rows.remove(&key(&world, of, id))),
                Point::SourceTaken => projecting.lock().await.again().await,
                _ => {}
            }
        })
    };
    world.script.set(step).await;
    let compared = compare(&world, How::default()).await;
    compared.no_alarm();
    // Sums over what was read at two times prove nothing; the row itself has arrived.
    let why: Vec<&str> = compared.summary.why.iter().map(|why| &*why.code).collect();
    assert_eq!((compared.summary.verdict, &*why), (Verdict::Incomplete, &["expect_moving"][..]));
}

/// Fault 15: one row was seen equal at one version of the source, another at the next, and both together never.
#[tokio::test(flavor = "multi_thread")]
async fn fault_15_rows_that_are_equal_one_after_the_other_are_no_equal_unit() {
    let (world, _) = world().await;
    let mut readings = 0;
    let step = move |point: Point, world: Arc<World>| -> Happens {
        if point == Point::Unit {
            readings += 1;
            // Each attempt reads twice: another one in both readings, and in the first of each.
            let (wrong, right) = if readings % 4 < 2 { (1, 4) } else { (4, 1) };
            spoil(&world, "b", wrong, 2, "spoilt");
            spoil(&world, "b", right, 2, &format!("note {right}"));
        }
        Box::pin(async {})
    };
    world.script.set(step).await;
    let diff = look(&world, "b").await;
    assert_eq!(diff.verdict, UnitVerdict::Incomplete, "{diff:?}");
    assert_eq!(diff.differences.len(), 1, "in each reading one of them differs");
}

/// Fault 17: what is looked at again has changed again.
#[tokio::test(flavor = "multi_thread")]
async fn fault_17_a_row_that_changes_while_it_is_looked_at_again_is_not_called_wrong() {
    let (world, projecting) = world().await;
    world.put(ITEMS, item(1, "b", "on its way"));
    let mut looks = 0;
    let step = move |point: Point, world: Arc<World>| -> Happens {
        looks += u32::from(point == Point::Target);
        let projecting = Arc::clone(&projecting);
        let again = point == Point::Target && looks <= 3;
        let arrive = point == Point::Read || again;
        Box::pin(async move {
            if again {
                world.put(ITEMS, item(1, "b", &format!("changed again, {looks}")));
            }
            if arrive {
                world.capture_all().await;
                projecting.lock().await.all().await;
            }
        })
    };
    world.script.set(step).await;
    let compared = compare(&world, How::default()).await;
    compared.no_alarm();
    assert_eq!(compared.summary.verdict, Verdict::Match, "it has arrived: {:?}", compared.summary.why);
}

/// Fault 18: rows go, and questions cannot be answered, while differences are looked into.
#[tokio::test(flavor = "multi_thread")]
async fn fault_18_a_comparison_comes_to_its_end_whatever_goes_meanwhile() {
    let (world, projecting) = world().await;
    for id in 1..=8 {
        world.put(ITEMS, item(id, "a", "on its way"));
    }
    let compared = compare(&world, How { unanswered: 1, ..SHORT }).await;
    compared.no_alarm();
    assert!(!compared.keys(State::Unsettled).is_empty(), "nobody could be asked");
    assert_eq!(compared.summary.verdict, Verdict::Incomplete);
    once(&world, Point::Read, move |world| {
        Box::pin(async move {
            (1..=8).for_each(|id| world.delete(ITEMS, Value::Int(id)));
            ["a", "b", "c"].iter().for_each(|name| world.delete(BOXES, Value::text(*name)));
            world.capture_all().await;
            projecting.lock().await.all().await;
        })
    })
    .await;
    let compared = compare(&world, How::default()).await;
    assert!(!compared.apart.is_empty() && compared.listed.is_empty(), "all of it is gone: {:?}", compared.listed);
}

/// That the log told something of a part is no proof that it told everything: a mark was lost, and another of its group came.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_log_never_got_is_found_in_a_part_that_it_tells_more_of() {
    let (world, projecting) = world().await;
    world.put(MARKS, mark(2, "a", "x", 200));
    world.captured(world.position());
    once(&world, Point::Read, move |world| {
        Box::pin(async move {
            world.put(MARKS, mark(8, "a", "x", 800));
            world.capture_all().await;
            projecting.lock().await.all().await;
        })
    })
    .await;
    let compared = compare(&world, How::default()).await;
    assert_eq!(compared.keys(State::Confirmed).len(), 2, "group and sum: {:?}", compared.listed);
    assert_eq!(compared.summary.verdict, Verdict::Mismatch);
}

/// One row of a unit is wrong, and that is proven; another has changed, and the log is not told of it yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_proven_wrong_proves_nothing_of_its_neighbour() {
    let (world, _) = world().await;
    spoil(&world, "b", 4, 2, "spoilt");
    world.put(ITEMS, item(1, "b", "not captured yet"));
    let compared = compare(&world, SHORT).await;
    assert_eq!(compared.keys(State::Confirmed), [named(&world, &key(&world, "b", 4))].into());
    assert_eq!(compared.keys(State::Unsettled), [named(&world, &key(&world, "b", 1))].into());
}

/// The source is read as it was, and again when it is like that again; what came between is in the log, its end is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_returns_to_what_it_was_is_not_taken_for_one_that_stood_still() {
    let (world, projecting) = world().await;
    let mut steps = 0;
    let step = move |point: Point, world: Arc<World>| -> Happens {
        let projecting = Arc::clone(&projecting);
        let (there, back) = (steps == 0 && point == Point::Source, steps == 1 && point == Point::Target);
        steps += u32::from(there || back);
        Box::pin(async move {
            if there {
                world.put(ITEMS, item(1, "b", "something else"));
            }
            if there || point == Point::Pause {
                world.capture_all().await;
                projecting.lock().await.all().await;
            }
            if back {
                world.put(ITEMS, item(1, "b", "note 1"));
            }
        })
    };
    world.script.set(step).await;
    let diff = look(&world, "b").await;
    assert_eq!(diff.verdict, UnitVerdict::Match, "{diff:?}");
}

/// A label was applied, and the items that show it were not yet looked for, when the comparison began.
#[tokio::test(flavor = "multi_thread")]
async fn parts_that_are_yet_to_be_found_count_as_waiting() {
    let (world, projecting) = world().await;
    world.put(BOXES, labelled("a", "another label"));
    world.capture_all().await;
    projecting.lock().await.apply_only(usize::MAX).await;
    let step = move |point: Point, _: Arc<World>| -> Happens {
        let projecting = Arc::clone(&projecting);
        Box::pin(async move {
            if matches!(point, Point::Pause | Point::Read) {
                let mut projecting = projecting.lock().await;
                projecting.wake();
                projecting.project().await;
            }
        })
    };
    world.script.set(step).await;
    let compared = compare(&world, How::default()).await;
    assert_eq!(compared.keys(State::Confirmed).len(), 0, "a false alarm: {:?}", compared.listed);
    assert_eq!(compared.summary.verdict, Verdict::Match, "{:?}", compared.summary.why);
}

/// As before, but the label came when both sides had been read: the log has it, and nobody is marked for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_counts_as_applied_when_it_is_known_whom_it_concerns() {
    let (world, projecting) = world().await;
    let step = move |point: Point, world: Arc<World>| -> Happens {
        let projecting = Arc::clone(&projecting);
        Box::pin(async move {
            match point {
                Point::Begun => world.put(BOXES, labelled("a", "another label")),
                Point::Read => {
                    world.capture_all().await;
                    projecting.lock().await.apply_only(usize::MAX).await;
                }
                Point::Pause => {
                    let mut projecting = projecting.lock().await;
                    projecting.wake();
                    projecting.project().await;
                }
                _ => {}
            }
        })
    };
    world.script.set(step).await;
    let compared = compare(&world, How::default()).await;
    compared.no_alarm();
    assert_eq!(compared.summary.verdict, Verdict::Match, "{:?}", compared.summary.why);
}

/// A part is looked at while the label that it shows has changed, and it is not marked for that yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_new_answers_concern_does_not_stand_still() {
    let (world, projecting) = world().await;
    world.put(ITEMS, item(3, "a", "on its way"));
    let mut labelled_anew = false;
    let step = move |point: Point, world: Arc<World>| -> Happens {
        let projecting = Arc::clone(&projecting);
        let now = point == Point::Parts && !labelled_anew;
        labelled_anew |= now;
        Box::pin(async move {
            let mut projecting = projecting.lock().await;
            if point == Point::Read {
                world.capture_all().await;
                projecting.all().await;
            } else if now {
                world.put(BOXES, labelled("a", "another label"));
                world.capture_all().await;
                projecting.apply_only(usize::MAX).await;
            } else if point == Point::Pause {
                projecting.wake();
                projecting.project().await;
            }
        })
    };
    world.script.set(step).await;
    let compared = compare(&world, How::default()).await;
    compared.no_alarm();
    assert_eq!(compared.summary.verdict, Verdict::Match, "{:?}", compared.summary.why);
}

/// The whole of a unit is written with the parts whose sums it shows, and is marked for none of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_whole_waits_when_a_part_of_its_unit_does() {
    let (world, projecting) = world().await;
    world.put(MARKS, mark(2, "a", "x", 200));
    world.capture_all().await;
    projecting.lock().await.apply(usize::MAX).await;
    once(&world, Point::Read, move |_| Box::pin(async move { projecting.lock().await.project().await })).await;
    let compared = compare(&world, How::default()).await;
    compared.no_alarm();
    assert_eq!(compared.summary.verdict, Verdict::Match, "{:?}", compared.summary.why);
}

/// A new item waits to be projected: its invariant does not hold yet, and nothing is wrong.
#[tokio::test(flavor = "multi_thread")]
async fn an_invariant_is_not_called_broken_while_a_part_waits() {
    let (world, projecting) = world().await;
    world.put(ITEMS, item(9, "a", "new"));
    world.capture_all().await;
    projecting.lock().await.apply(usize::MAX).await;
    let compared = compare(&world, SHORT).await;
    compared.no_alarm();
    assert_eq!(compared.summary.expects[0].broken, 1);
    assert_eq!(compared.summary.verdict, Verdict::Incomplete, "{:?}", compared.summary.why);
}

/// A row that an application has, on both sides.
fn of_application(world: &World, id: i64) -> (TargetKey, TargetRow) {
    let values = [Value::text("a"), Value::Int(id), Value::text("new"), Value::text("label"), Value::Null];
    let row = TargetRow { table: TargetTable(1), values: values.into() };
    (world.key_of(&row), row)
}

/// An application writes both sides while they are read.
#[tokio::test(flavor = "multi_thread")]
async fn what_someone_wrote_to_both_sides_meanwhile_is_not_called_wrong() {
    let (world, projecting) = world().await;
    drop(projecting);
    let write = |world: Arc<World>| -> Happens {
        Box::pin(async move {
            world.put(ITEMS, item(9, "a", "new"));
            let (key, row) = of_application(&world, 9);
            world.held().rows.insert(key, row);
        })
    };
    once(&world, Point::TargetTaken, write).await;
    let compared = compare(&world, How { known: Known::Nobody, ..SHORT }).await;
    compared.no_alarm();
    assert_eq!(compared.summary.verdict, Verdict::Incomplete, "{:?}", compared.summary.why);
    // At rest what differs is real, although nobody projects.
    spoil(&world, "a", 9, 2, "spoilt");
    let compared = compare(&world, How { known: Known::Nobody, ..SHORT }).await;
    assert_eq!(compared.keys(State::Confirmed), [named(&world, &key(&world, "a", 9))].into());
}

/// Has something happen once between the two snapshots; what is on its way arrives when it is waited for.
async fn between(
    world: &Arc<World>,
    projecting: &Arc<Mutex<Projecting>>,
    happens: impl Fn(&World) + Send + Copy + 'static,
) {
    let (projecting, mut to_come) = (Arc::clone(projecting), true);
    let step = move |point: Point, world: Arc<World>| -> Happens {
        let now = to_come && point == Point::TargetTaken;
        to_come &= !now;
        let projecting = Arc::clone(&projecting);
        Box::pin(async move {
            if now {
                happens(&world);
            }
            if point == Point::Pause {
                world.capture_all().await;
                projecting.lock().await.all().await;
            }
        })
    };
    world.script.set(step).await;
}

/// A row of someone else is judged by the rules for such rows, when it is looked at again too.
#[tokio::test(flavor = "multi_thread")]
async fn rules_for_rows_of_someone_else_hold_for_every_look_at_them() {
    let theirs = "[[ignore]]\ntable = \"items_new\"\nfields = [\"note\"]\nwhen = \"foreign\"\nreason = \"a test\"\n";
    let world = World::ruled(1, 1, theirs);
    let projecting = Arc::new(Mutex::new(begin(&world).await));
    let mut row = world.held().rows[&key(&world, "a", 3)].clone();
    (row.values[1], row.values[2]) = (Value::Int(50), Value::text("theirs"));
    world.held().rows.insert(key(&world, "a", 50), row);
    world.put(ITEMS, item(50, "a", "ours"));
    world.capture_all().await;
    projecting.lock().await.all().await;
    // Both sides get a new label, the source first.
    between(&world, &projecting, |world| {
        world.put(BOXES, labelled("a", "renamed"));
        let key = key(world, "a", 50);
        world.held().rows.get_mut(&key).expect("it is there").values[3] = Value::text("renamed");
    })
    .await;
    compare(&world, How::default()).await.no_alarm();
}

/// A row that came between the two snapshots, written to both stores: who wrote it, nobody has told yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_of_someone_else_that_came_meanwhile_is_not_wrong_by_the_rules_for_ours() {
    let theirs = "[[ignore]]\ntable = \"items_new\"\nfields = [\"note\"]\nwhen = \"foreign\"\nreason = \"a test\"\n";
    let world = World::ruled(1, 1, theirs);
    let projecting = Arc::new(Mutex::new(begin(&world).await));
    let came = |world: &World| {
        world.put(ITEMS, item(9, "a", "ours"));
        let (key, row) = of_application(world, 9);
        world.held().rows.insert(key, row);
    };
    between(&world, &projecting, came).await;
    compare(&world, How::default()).await.no_alarm();
    // At rest it is known whose it is, and by which rules it is as it should be.
    between(&world, &projecting, |_| {}).await;
    let compared = compare(&world, How::default()).await;
    assert_eq!(compared.no_alarm().summary.verdict, Verdict::Match, "{:?}", compared.summary.why);
}

/// No log tells of rows that an application writes and deletes on both sides, the source first, while a projection runs.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_of_someone_else_is_wrong_only_if_it_stands_there_after_the_source_was_read() {
    let (world, projecting) = world().await;
    between(&world, &projecting, |world| {
        world.put(ITEMS, item(9, "a", "new"));
        let (key, row) = of_application(world, 9);
        world.held().rows.insert(key, row);
    })
    .await;
    compare(&world, How::default()).await.no_alarm();
    // It goes as it came.
    between(&world, &projecting, |world| {
        world.delete(ITEMS, Value::Int(9));
        let (key, _) = of_application(world, 9);
        world.held().rows.remove(&key);
    })
    .await;
    compare(&world, How::default()).await.no_alarm();
    // One that stays is named, though something else is on its way.
    let (key, row) = of_application(&world, 11);
    world.held().rows.insert(key.clone(), row);
    world.put(ITEMS, item(1, "b", "on its way"));
    let scanned = compare(&world, How { moments: Moments::Unknown, ..SHORT }).await;
    assert_eq!(scanned.keys(State::Confirmed).len(), 0, "the source may have had it by then: {:?}", scanned.listed);
    assert!(scanned.keys(State::Unsettled).contains(&named(&world, &key)));
    between(&world, &projecting, |_| {}).await;
    let compared = compare(&world, How::default()).await;
    assert_eq!(compared.keys(State::Confirmed), [named(&world, &key)].into(), "{:?}", compared.listed);
}

/// While an epoch is copied its stream is soon beyond every position, and what changed before it began is not in the log yet.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_proven_before_an_epoch_is_copied_and_swept() {
    let (world, _projecting) = world().await;
    world.put(ITEMS, item(4, "b", "written before the stream began"));
    world.captured(world.position());
    let copied = || (SNAPSHOT_COMPLETE.to_owned(), Some(Vec::new()));
    let sweep = format!("{SWEEP}0000000001");
    for marks in [vec![(SNAPSHOT_COMPLETE.to_owned(), None)], vec![copied(), (sweep.clone(), Some(Vec::new()))]] {
        world.log.append(Batch { marks: marks.into_iter().collect(), ..Batch::default() }).await.expect("in memory");
        let compared = compare(&world, SHORT).await;
        assert_eq!(compared.no_alarm().keys(State::Unsettled), [named(&world, &key(&world, "b", 4))].into());
        assert_eq!(look(&world, "b").await.verdict, UnitVerdict::Incomplete);
    }
    world.log.append(Batch { marks: [(sweep, None)].into(), ..Batch::default() }).await.expect("in memory");
    assert_eq!(compare(&world, SHORT).await.keys(State::Confirmed), [named(&world, &key(&world, "b", 4))].into());
}

#[tokio::test]
async fn rules_for_rows_of_someone_else_hold_for_none_of_ours() {
    let rule = "[[ignore]]\ntable = \"items_new\"\nfields = [\"note\"]\nwhen = \"foreign\"\nreason = \"r\"\n";
    let world = World::ruled(1, 1, rule);
    let row = |note: &str| TargetRow {
        table: TargetTable(1),
        values: vec![Value::text("b"), Value::Int(1), Value::text(note), Value::Null, Value::Null],
    };
    let differing = |ours: Option<&BTreeSet<TargetKey>>| {
        let by = By { tables: world.engine.tables(), rules: Some(&world.rules), ours };
        by.compare(&[row("n")], &[row("m")]).len()
    };
    assert_eq!(differing(Some(&BTreeSet::new())), 0, "someone else wrote it");
    assert_eq!(differing(Some(&[key(&world, "b", 1)].into())), 1);
    assert_eq!(differing(None), 1);
}

#[tokio::test]
async fn what_is_ours_is_known_by_the_key_that_the_rules_make_of_what_is_recorded() {
    let rules = "[[normalise]]\ntable = \"items_new\"\nfields = [\"box\"]\nas = [\"lower\"]\nreason = \"r\"\n\
        [[ignore]]\ntable = \"items_new\"\nfields = [\"note\"]\nwhen = \"foreign\"\nreason = \"r\"\n";
    let world = World::ruled(1, 1, rules);
    let row = |of: &str, note: &str| TargetRow {
        table: TargetTable(1),
        values: vec![Value::text(of), Value::Int(1), Value::text(note), Value::Null, Value::Null],
    };
    let differing = |ours: &BTreeSet<TargetKey>, actual: TargetRow| {
        let by = By { tables: world.engine.tables(), rules: Some(&world.rules), ours: Some(ours) };
        by.compare(&[row("b", "n")], &[actual]).len()
    };
    // Recorded under a key that the rules make the same.
    let recorded = [key(&world, "b", 1)].into();
    assert_eq!(differing(&recorded, row("B", "m")), 1);
    assert_eq!(differing(&BTreeSet::new(), row("B", "m")), 0, "someone else's");
}

/// A whole comparison knows a row as ours whichever unit it is recorded for; the unit that it is expected of has no record of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_recorded_for_another_unit_is_no_one_else_s_for_who_knows_that() {
    let rule = "[[ignore]]\ntable = \"items_new\"\nfields = [\"note\"]\nwhen = \"foreign\"\nreason = \"r\"\n";
    let world = World::ruled(1, 1, rule);
    let _projecting = begin(&world).await;
    let of = key(&world, "b", 1);
    world.held().record.values_mut().for_each(|(_, rows)| drop(rows.remove(&of)));
    spoil(&world, "b", 1, 2, "by someone");
    let looked = async |ours: BTreeSet<TargetKey>| look_beside(&world, "b", &Beside { keys: ours.clone(), ours }).await;
    assert_eq!(looked(BTreeSet::new()).await.verdict, UnitVerdict::Match, "by what is recorded for the unit");
    let diff = looked([of.clone()].into()).await;
    assert_ne!(diff.verdict, UnitVerdict::Match);
    assert_eq!(diff.differences.iter().map(|row| &row.key).collect::<Vec<_>>(), [&of]);
}

/// As in a whole comparison, keys are what the rules make of them.
#[tokio::test]
async fn keys_that_the_rules_make_alike_are_paired_when_a_unit_is_looked_at() {
    let lower = "[[normalise]]\ntable = \"items_new\"\nfields = [\"box\"]\nas = [\"lower\"]\nreason = \"r\"\n";
    let row = |of: &str, note: &str| TargetRow {
        table: TargetTable(1),
        values: vec![Value::text(of), Value::Int(1), Value::text(note), Value::Null, Value::Null],
    };
    let kinds = |world: &World, expected: &[TargetRow], actual: &[TargetRow]| -> Vec<Kind> {
        let by = By { tables: world.engine.tables(), rules: Some(&world.rules), ours: None };
        by.compare(expected, actual).iter().map(|row| row.kind).collect()
    };
    let (plain, ruled) = (World::new(1, 1), World::ruled(1, 1, lower));
    assert_eq!(kinds(&ruled, &[row("b", "n")], &[row("B", "n")]), []);
    assert_eq!(kinds(&plain, &[row("b", "n")], &[row("B", "n")]), [Kind::Extra, Kind::Missing]);
    assert_eq!(kinds(&ruled, &[row("b", "n")], &[row("B", "m")]), [Kind::Changed]);
    let doubled = kinds(&ruled, &[row("b", "n")], &[row("B", "n"), row("b", "n")]);
    assert_eq!(doubled, [Kind::Extra], "one more than there should be");
    // What is proven of a row is known by its own key too: here, that nothing in the log made it.
    let by = By { tables: ruled.engine.tables(), rules: Some(&ruled.rules), ours: None };
    let (rows, owned, result, captured) = (Vec::new(), Vec::new(), None, None);
    let view = UnitView { known: true, offset: 1, dirty: false, applied: 2, end: 2, captured, result, rows, owned };
    let judged = judge(by, &[row("b", "n")], &[], &[row("B", "m")], &view, false);
    assert_eq!(judged.verdict, UnitVerdict::Mismatch);
    let keys: Vec<&TargetKey> = judged.differences.iter().flat_map(|row| row.keys()).collect();
    assert_eq!(keys, [&key(&ruled, "b", 1), &key(&ruled, "B", 1)]);
}

/// A row whose change has arrived, and which differs for good in a column that a rule leaves out.
#[tokio::test(flavor = "multi_thread")]
async fn a_unit_is_looked_at_by_the_rules() {
    let (world, projecting) = world().await;
    world.put(ITEMS, item(1, "b", "on its way"));
    once(&world, Point::Read, move |world| {
        Box::pin(async move {
            // Changed once more, so that the source itself must be asked.
            world.put(ITEMS, item(1, "b", "changed again"));
            world.capture_all().await;
            projecting.lock().await.all().await;
            spoil(&world, "b", 1, SEEN, "by someone");
        })
    })
    .await;
    let compared = compare(&world, How::default()).await;
    compared.no_alarm();
    assert_eq!(compared.summary.verdict, Verdict::Match, "{:?}", compared.summary.why);
}

/// A unit of many parts, each of which differs, is one unit: it does not use up what others have a claim to, nor the time.
#[tokio::test(flavor = "multi_thread")]
async fn a_unit_is_read_again_once_however_many_of_its_parts_differ() {
    let (world, _projecting) = world().await;
    for (of, id) in [("b", 1), ("b", 4), ("b", 7), ("a", 3), ("c", 2)] {
        spoil(&world, of, id, 2, "by someone");
    }
    let units = async |details| -> BTreeSet<Option<String>> {
        let compared = compare(&world, How { details, ..How::default() }).await;
        assert_eq!(compared.listed.len(), 5);
        let told = compared.listed.into_iter().filter(|found| !found.fields.is_empty());
        let told: Vec<_> = told.map(|found| found.unit).collect();
        let of_b = told.iter().filter(|unit| unit.as_deref() == Some("b")).count();
        assert!(of_b == 0 || of_b == 3, "all of a unit or none");
        told.into_iter().collect()
    };
    for wanted in 0..=3 {
        assert_eq!(units(wanted).await.len(), wanted);
    }
}

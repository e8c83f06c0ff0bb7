//! What every target promises, whatever store is behind it.

use std::sync::Arc;

use async_trait::async_trait;
use rehome::event::Value;
use rehome::target::{
    ColumnShape, Deletes, ForeignScope, TableShape, Target, TargetKey, TargetRow, TargetTable, Trust, UnitOutcome,
    UnitWrite, WriteVersion,
};

/// Makes targets with the suite's tables.
#[async_trait]
pub trait Bench: Send + Sync {
    /// A new, empty target.
    async fn target(&self, scope: ForeignScope) -> Arc<dyn Target>;

    /// Puts a row there as someone else would.
    async fn put(&self, row: TargetRow);

    /// A row of the suite's tables, in the store's form.
    fn row(&self, table: u16, id: &str, value: &str) -> TargetRow {
        TargetRow { table: TargetTable(table), values: vec![Value::text(id), Value::text(value)] }
    }

    /// Whether the target still knows the version of a part of which it holds no row.
    fn knows_the_gone(&self) -> bool {
        true
    }
}

/// The suite's tables: parents and their children.
pub fn tables() -> Arc<[TableShape]> {
    let column = |name: &str| ColumnShape { name: name.into(), type_name: "text".into() };
    let table = |name: &str| TableShape {
        schema: "public".into(),
        name: name.into(),
        columns: vec![column("id"), column("value")],
        key: vec![0],
    };
    [table("parents"), table("children")].into()
}

fn key(table: u16, id: &str) -> TargetKey {
    TargetKey { table: TargetTable(table), values: vec![Value::text(id)] }
}

fn write(unit: &str, offset: u64, rows: Vec<TargetRow>) -> UnitWrite {
    let version = WriteVersion { log: 7, mapping: 1, partition: 0, offset };
    UnitWrite {
        unit: unit.into(),
        part: [0xff, 0xff].into(),
        version,
        rows,
        trust: Trust::Record,
        deletes: Deletes::Now,
        before: Vec::new(),
    }
}

fn superseded(offset: u64) -> UnitOutcome {
    UnitOutcome::Superseded { by: WriteVersion { log: 7, mapping: 1, partition: 0, offset } }
}

fn written(upserted: u64, unchanged: u64, deleted: u64) -> UnitOutcome {
    UnitOutcome::Written { upserted, unchanged, deleted, foreign: 0, matched_foreign: 0 }
}

async fn one(target: &dyn Target, write: UnitWrite) -> UnitOutcome {
    let mut outcomes = target.apply(&[write]).await.expect("it writes");
    assert_eq!(outcomes.len(), 1);
    outcomes.remove(0)
}

/// Runs the suite.
pub async fn run(bench: &dyn Bench) {
    a_write_replaces_all_rows_of_its_unit(bench).await;
    a_repeated_or_older_write_changes_nothing(bench).await;
    versions_order_by_log_then_mapping_then_offset(bench).await;
    rows_of_someone_else_are_left_alone(bench).await;
    one_refused_unit_does_not_hold_up_its_batch(bench).await;
    a_key_passes_from_one_unit_to_another(bench).await;
    sums_are_written_again_at_one_version(bench).await;
    the_parts_of_a_unit_are_written_apart(bench).await;
    deletes_wait_when_they_are_to(bench).await;
    what_is_thought_to_be_new_need_not_be(bench).await;
}

async fn a_write_replaces_all_rows_of_its_unit(bench: &dyn Bench) {
    let row = |table, id: &str, value: &str| bench.row(table, id, value);
    let target = bench.target(ForeignScope::Unit).await;
    let first = write("u", 1, vec![row(0, "p", "1"), row(1, "a", "1"), row(1, "b", "1")]);
    assert_eq!(one(&*target, first).await, written(3, 0, 0));
    let second = write("u", 2, vec![row(0, "p", "1"), row(1, "b", "2"), row(1, "c", "1")]);
    assert_eq!(one(&*target, second).await, written(2, 1, 1));
    let keys = [key(1, "c"), key(1, "a"), key(0, "p"), key(1, "b"), key(0, "none")];
    let there = target.read(&keys).await.expect("it reads");
    let wanted = [Some(row(1, "c", "1")), None, Some(row(0, "p", "1")), Some(row(1, "b", "2")), None];
    assert_eq!(there, wanted, "in the order of the keys");
    let mut owned = target.owned("u").await.expect("it reads");
    owned.sort();
    assert_eq!(owned, [key(0, "p"), key(1, "b"), key(1, "c")]);
    assert_eq!(one(&*target, write("u", 3, Vec::new())).await, written(0, 0, 3));
    assert!(target.owned("u").await.expect("it reads").is_empty());
    assert_eq!(target.read(&[key(0, "p")]).await.expect("it reads"), [None]);
    assert_eq!(one(&*target, write("nobody", 1, Vec::new())).await, written(0, 0, 0));
    assert!(target.apply(&[]).await.expect("nothing to write").is_empty());
}

async fn a_repeated_or_older_write_changes_nothing(bench: &dyn Bench) {
    let row = |table, id: &str, value: &str| bench.row(table, id, value);
    let target = bench.target(ForeignScope::Unit).await;
    one(&*target, write("u", 5, vec![row(0, "p", "5")])).await;
    assert_eq!(one(&*target, write("u", 5, vec![row(0, "p", "5")])).await, UnitOutcome::Repeated);
    for offset in [4, 0] {
        let outcome = one(&*target, write("u", offset, vec![row(0, "p", "other"), row(0, "q", "other")])).await;
        assert_eq!(outcome, superseded(5), "{offset}");
    }
    let there = target.read(&[key(0, "p"), key(0, "q")]).await.expect("it reads");
    assert_eq!(there, [Some(row(0, "p", "5")), None]);
    if !bench.knows_the_gone() {
        return;
    }
    // A unit that has gone does not come back by an old write either.
    one(&*target, write("u", 6, Vec::new())).await;
    assert_eq!(one(&*target, write("u", 5, vec![row(0, "p", "5")])).await, superseded(6));
    assert_eq!(target.read(&[key(0, "p")]).await.expect("it reads"), [None]);
}

async fn versions_order_by_log_then_mapping_then_offset(bench: &dyn Bench) {
    let row = |table, id: &str, value: &str| bench.row(table, id, value);
    let target = bench.target(ForeignScope::Unit).await;
    let versions = [(1, 1, 900), (1, 2, 300), (1, 2, 301), (2, 1, 0)];
    for (step, (log, mapping, offset)) in versions.into_iter().enumerate() {
        let mut next = write("u", offset, vec![row(0, "p", &step.to_string())]);
        next.version.log = log;
        next.version.mapping = mapping;
        assert_eq!(one(&*target, next).await, written(1, 0, 0), "{step}");
    }
}

async fn rows_of_someone_else_are_left_alone(bench: &dyn Bench) {
    let row = |table, id: &str, value: &str| bench.row(table, id, value);
    for (scope, theirs) in [
        (ForeignScope::Unit, "theirs"),
        (ForeignScope::Unit, "ours"),
        (ForeignScope::Row, "theirs"),
        (ForeignScope::Row, "ours"),
    ] {
        let target = bench.target(scope).await;
        bench.put(row(0, "p", theirs)).await;
        let outcome = one(&*target, write("u", 1, vec![row(0, "p", "ours"), row(1, "a", "1")])).await;
        let there = target.read(&[key(0, "p"), key(1, "a")]).await.expect("it reads");
        assert_eq!(there[0], Some(row(0, "p", theirs)), "{scope:?}");
        match scope {
            ForeignScope::Unit => {
                assert!(
                    matches!(outcome, UnitOutcome::Parked { ref reason, .. } if &**reason == "foreign"),
                    "{outcome:?}"
                );
                assert_eq!(there[1], None, "the unit is left whole");
            }
            ForeignScope::Row => {
                let (foreign, matched_foreign) = if theirs == "ours" { (0, 1) } else { (1, 0) };
                let wanted = UnitOutcome::Written { upserted: 1, unchanged: 0, deleted: 0, foreign, matched_foreign };
                assert_eq!(outcome, wanted);
                assert_eq!(target.owned("u").await.expect("it reads"), [key(1, "a")]);
            }
        }
        one(&*target, write("u", 2, Vec::new())).await;
        assert_eq!(target.read(&[key(0, "p")]).await.expect("it reads"), [Some(row(0, "p", theirs))]);
    }
    let target = bench.target(ForeignScope::Unit).await;
    bench.put(row(0, "p", "ours")).await;
    let outcome = one(&*target, write("u", 1, vec![row(0, "p", "ours")])).await;
    assert!(matches!(outcome, UnitOutcome::Parked { ref reason, .. } if &**reason == "matched_foreign"), "{outcome:?}");
}

async fn one_refused_unit_does_not_hold_up_its_batch(bench: &dyn Bench) {
    let row = |table, id: &str, value: &str| bench.row(table, id, value);
    let target = bench.target(ForeignScope::Unit).await;
    bench.put(row(0, "taken", "theirs")).await;
    let batch = [
        write("a", 1, vec![row(0, "a", "1")]),
        write("b", 1, vec![row(0, "taken", "1"), row(1, "b", "1")]),
        write("c", 1, vec![row(0, "c", "1")]),
    ];
    let outcomes = target.apply(&batch).await.expect("it writes");
    assert_eq!((&outcomes[0], &outcomes[2]), (&written(1, 0, 0), &written(1, 0, 0)));
    assert!(matches!(&outcomes[1], UnitOutcome::Parked { .. }));
    let again = target.apply(&batch).await.expect("it writes");
    assert_eq!((&again[0], &again[2]), (&UnitOutcome::Repeated, &UnitOutcome::Repeated));
    assert!(matches!(&again[1], UnitOutcome::Parked { .. }), "what was not written is not superseded: {again:?}");
}

async fn a_key_passes_from_one_unit_to_another(bench: &dyn Bench) {
    let row = |table, id: &str, value: &str| bench.row(table, id, value);
    let target = bench.target(ForeignScope::Unit).await;
    one(&*target, write("a", 1, vec![row(0, "k", "a")])).await;
    let early = one(&*target, write("b", 2, vec![row(0, "k", "b")])).await;
    assert!(matches!(early, UnitOutcome::Parked { .. }), "it is still another unit's: {early:?}");
    one(&*target, write("a", 3, Vec::new())).await;
    assert_eq!(one(&*target, write("b", 4, vec![row(0, "k", "b")])).await, written(1, 0, 0));
    assert_eq!(target.read(&[key(0, "k")]).await.expect("it reads"), [Some(row(0, "k", "b"))]);
}

async fn sums_are_written_again_at_one_version(bench: &dyn Bench) {
    let row = |table, id: &str, value: &str| bench.row(table, id, value);
    let target = bench.target(ForeignScope::Row).await;
    one(&*target, write("u", 5, vec![row(0, "p", "1 of 3")])).await;
    assert_eq!(one(&*target, write("u", 5, vec![row(0, "p", "2 of 3")])).await, written(1, 0, 0));
    assert_eq!(one(&*target, write("u", 5, vec![row(0, "p", "2 of 3")])).await, UnitOutcome::Repeated);
    assert_eq!(target.read(&[key(0, "p")]).await.expect("it reads"), [Some(row(0, "p", "2 of 3"))]);
}

async fn the_parts_of_a_unit_are_written_apart(bench: &dyn Bench) {
    let row = |table, id: &str, value: &str| bench.row(table, id, value);
    let target = bench.target(ForeignScope::Row).await;
    let part = |name: &[u8], offset, rows| UnitWrite { part: name.into(), ..write("u", offset, rows) };
    let both = [part(b"1", 9, vec![row(1, "a", "1")]), part(b"2", 3, vec![row(1, "b", "1")])];
    assert_eq!(target.apply(&both).await.expect("it writes"), [written(1, 0, 0), written(1, 0, 0)]);
    assert_eq!(one(&*target, part(b"2", 4, Vec::new())).await, written(0, 0, 1), "its version is its own");
    assert_eq!(one(&*target, part(b"1", 8, Vec::new())).await, superseded(9));
    assert_eq!(target.owned("u").await.expect("it reads"), [key(1, "a")]);
    one(&*target, write("a unit before", 9, vec![row(1, "c", "1")])).await;
    let (mut recorded, mut after) = (Vec::new(), None);
    while let [part] = &*target.recorded(after.as_ref(), 1).await.expect("it reads") {
        recorded.push(part.0.clone());
        after = Some(part.clone());
    }
    let units: &[&str] = if target.keeps_record() { &["a unit before", "u", "u"] } else { &[] };
    assert_eq!(recorded, units, "all of the record, in order, a page at a time");
}

async fn deletes_wait_when_they_are_to(bench: &dyn Bench) {
    let row = |table, id: &str, value: &str| bench.row(table, id, value);
    let target = bench.target(ForeignScope::Row).await;
    one(&*target, write("u", 1, vec![row(0, "old", "1"), row(0, "kept", "1")])).await;
    let later = UnitWrite { deletes: Deletes::Later, ..write("u", 2, vec![row(0, "kept", "2"), row(0, "new", "1")]) };
    assert_eq!(one(&*target, later).await, written(2, 0, 0));
    let mut owned = target.owned("u").await.expect("it reads");
    owned.sort();
    assert_eq!(owned, [key(0, "kept"), key(0, "new"), key(0, "old")], "what stays is still owned");
    let now = write("u", 2, vec![row(0, "kept", "2"), row(0, "new", "1")]);
    assert_eq!(one(&*target, now).await, written(0, 2, 1));
    assert_eq!(target.read(&[key(0, "old")]).await.expect("it reads"), [None]);
}

/// A few parts alone, and among so many that a target may take them in another way.
async fn what_is_thought_to_be_new_need_not_be(bench: &dyn Bench) {
    for among in [0, 200] {
        new_or_not(bench, among).await;
    }
}

async fn new_or_not(bench: &dyn Bench, among: usize) {
    let row = |table, id: &str, value: &str| bench.row(table, id, value);
    let target = bench.target(ForeignScope::Row).await;
    let fresh = |unit: &str, offset, rows| UnitWrite { trust: Trust::Fresh, ..write(unit, offset, rows) };
    let text = "tab\t line\n back\\slash \\N quote' and \r";
    let others = |kind: &str| -> Vec<UnitWrite> {
        (0..among).map(|i| format!("{kind}{i}")).map(|id| fresh(&id, 1, vec![row(0, &id, "1")])).collect()
    };
    let few = [fresh("a", 1, vec![row(0, "a", text), row(1, "a", "")]), fresh("b", 1, vec![row(0, "b", "1")])];
    let batch = [few.to_vec(), others("x")].concat();
    let outcomes = target.apply(&batch).await.expect("it writes");
    assert_eq!(outcomes[..2], [written(2, 0, 0), written(1, 0, 0)]);
    assert!(outcomes[2..].iter().all(|outcome| *outcome == written(1, 0, 0)), "{outcomes:?}");
    assert_eq!(target.read(&[key(0, "a")]).await.expect("it reads"), [Some(row(0, "a", text))]);
    let again = target.apply(&batch).await.expect("it writes");
    assert!(again.iter().all(|outcome| *outcome == UnitOutcome::Repeated), "it was written before: {again:?}");
    bench.put(row(0, "c", "theirs")).await;
    let mixed = [
        fresh("a", 2, vec![row(0, "a", "2")]),
        fresh("c", 1, vec![row(0, "c", "ours"), row(1, "c", "1")]),
        fresh("d", 1, vec![row(0, "d", "1")]),
        fresh("b", 0, Vec::new()),
    ];
    let foreign = UnitOutcome::Written { upserted: 1, unchanged: 0, deleted: 0, foreign: 1, matched_foreign: 0 };
    let outcomes = target.apply(&[mixed.to_vec(), others("y")].concat()).await.expect("it writes");
    assert_eq!(outcomes[..4], [written(1, 0, 1), foreign, written(1, 0, 0), superseded(1)]);
    assert_eq!(outcomes.len(), 4 + among);
    assert!(outcomes[4..].iter().all(|outcome| *outcome == written(1, 0, 0)), "{outcomes:?}");
}

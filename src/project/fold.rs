//! Decides what one event does to what is known of its row (I3): pure.
//!
//! The rules, for a stored row and an event of the same key:
//! * a newer version replaces the row; an equal or older one is *superseded*;
//! * cells that the event leaves missing are filled from the row before it **of the same epoch**: after a gap an older
//!   epoch's value may have changed unseen, so it is not trusted;
//! * the floor row of a snapshot, though older than every change, still fills cells that no change has written: it may come
//!   after the update which left a TOAST value out;
//! * a key change carries the row from the old key to the new. A row that still lacks cells remembers the key under which
//!   the snapshot may yet read it (its *origin*), however often it moves.

use crate::event::{Class, Row, Version};

/// What is known of one source row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known<K> {
    /// Version of the last event applied.
    pub version: Version,
    /// The row, or that it is gone.
    pub life: Life<K>,
}

/// Whether a source row exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Life<K> {
    /// It exists; cells that nothing has told yet are missing.
    Live {
        /// The row.
        row: Row,
        /// Key under which a snapshot row can still fill the missing cells; `None` when the row is complete.
        origin: Option<K>,
    },
    /// It was deleted, or moved to another key: a tombstone, kept until its epoch closes.
    Gone,
}

impl<K> Known<K> {
    fn row(&self) -> Option<(&Row, Option<&K>)> {
        match &self.life {
            Life::Live { row, origin } => Some((row, origin.as_ref())),
            Life::Gone => None,
        }
    }
}

/// A row as an event tells it.
#[derive(Debug, Clone)]
pub struct Told<'a, K> {
    /// Version of the event.
    pub version: Version,
    /// Key of the row before the event, where it differs.
    pub moved_from: Option<&'a K>,
    /// The row before the event, as far as the source tells it (replica identity FULL).
    pub before: Option<&'a Row>,
    /// The row after it.
    pub after: Row,
}

/// What an event does to the row under its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision<K> {
    /// The row becomes this.
    Apply(Known<K>),
    /// The event is older than what is known, but fills cells of it.
    Fill(Known<K>),
    /// The event is older than what is known and adds nothing.
    Superseded,
}

/// Folds an event that leaves a row behind (read, insert, update).
///
/// `known` is what is stored under the event's key, `source` what is stored under the key it moved from (the same as `known`
/// when the key did not change).
pub fn fold_row<K: Clone + PartialEq>(
    key: &K,
    known: Option<&Known<K>>,
    source: Option<&Known<K>>,
    told: Told<'_, K>,
) -> Decision<K> {
    if let Some(known) = known.filter(|known| known.version >= told.version) {
        return fill(key, known, &told);
    }
    let mut row = told.after;
    if let Some(before) = told.before {
        row.fill_from(before);
    }
    let mut inherited = None;
    if !row.complete()
        && let Some(source) = source.filter(|source| source.version.epoch == told.version.epoch)
        && let Some((older, origin)) = source.row()
    {
        row.fill_from(older);
        inherited = origin.cloned();
    }
    let origin = if row.complete() { None } else { inherited.or_else(|| Some(told.moved_from.unwrap_or(key).clone())) };
    Decision::Apply(Known { version: told.version, life: Life::Live { row, origin } })
}

/// Fills the missing cells of a newer row from the floor row that the snapshot read under `key`.
///
/// Only the row's own origin serves: another row may have stood under the same key before.
pub fn fill<K: Clone + PartialEq>(key: &K, known: &Known<K>, told: &Told<'_, K>) -> Decision<K> {
    let Some((row, Some(origin))) = known.row() else { return Decision::Superseded };
    let floor = told.version.class == Class::Floor && known.version.epoch == told.version.epoch;
    if !floor || known.version == told.version || origin != key {
        return Decision::Superseded;
    }
    let mut filled = row.clone();
    filled.fill_from(&told.after);
    if filled == *row {
        return Decision::Superseded;
    }
    let origin = (!filled.complete()).then(|| origin.clone());
    Decision::Fill(Known { version: known.version, life: Life::Live { row: filled, origin } })
}

/// Folds an event that leaves no row behind (delete, truncate, sweep, the old key of a move).
pub fn fold_gone<K>(known: Option<&Known<K>>, version: Version) -> Decision<K> {
    match known {
        Some(known) if known.version >= version => Decision::Superseded,
        _ => Decision::Apply(Known { version, life: Life::Gone }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Cell, Epoch, Lsn, Value};

    fn row(cells: [Option<i64>; 2]) -> Row {
        Row(cells
            .into_iter()
            .map(|cell| cell.map_or(Cell::Missing, |number| Cell::Value(Value::Int(number))))
            .collect())
    }

    fn stream(lsn: u64) -> Version {
        Version::postgres(Epoch(1), Lsn(lsn), 0)
    }

    fn told(version: Version, after: &Row) -> Told<'_, &'static str> {
        Told { version, moved_from: None, before: None, after: after.clone() }
    }

    fn live(version: Version, cells: [Option<i64>; 2], origin: Option<&'static str>) -> Known<&'static str> {
        Known { version, life: Life::Live { row: row(cells), origin } }
    }

    #[test]
    fn an_older_event_changes_nothing_and_a_repeated_one_neither() {
        let known = live(stream(5), [Some(1), Some(2)], None);
        for version in [Version::floor(Epoch(1)), stream(4), stream(5)] {
            let after = row([Some(8), Some(9)]);
            assert_eq!(fold_row(&"k", Some(&known), Some(&known), told(version, &after)), Decision::Superseded);
        }
    }

    #[test]
    fn an_unchanged_toast_value_comes_from_the_row_before() {
        let known = live(Version::floor(Epoch(1)), [Some(1), Some(2)], None);
        let after = row([Some(7), None]);
        let decision = fold_row(&"k", Some(&known), Some(&known), told(stream(5), &after));
        assert_eq!(decision, Decision::Apply(live(stream(5), [Some(7), Some(2)], None)));
    }

    #[test]
    fn a_late_floor_row_fills_only_what_the_stream_left_out() {
        let after = row([Some(7), None]);
        let Decision::Apply(waiting) = fold_row(&"k", None, None, told(stream(5), &after)) else { panic!("applies") };
        assert_eq!(waiting, live(stream(5), [Some(7), None], Some("k")));
        let floor = row([Some(1), Some(2)]);
        let decision = fold_row(&"k", Some(&waiting), Some(&waiting), told(Version::floor(Epoch(1)), &floor));
        assert_eq!(decision, Decision::Fill(live(stream(5), [Some(7), Some(2)], None)));
    }

    #[test]
    fn a_row_that_moved_in_is_not_filled_from_the_row_that_stood_there_before() {
        let moved_in = live(stream(5), [Some(7), None], Some("elsewhere"));
        let floor = row([Some(1), Some(2)]);
        let decision = fold_row(&"k", Some(&moved_in), Some(&moved_in), told(Version::floor(Epoch(1)), &floor));
        assert_eq!(decision, Decision::Superseded);
    }

    #[test]
    fn a_key_change_takes_the_missing_value_along() {
        let old = live(stream(3), [Some(1), Some(2)], None);
        let after = row([Some(9), None]);
        let change = Told { version: stream(5), moved_from: Some(&"old"), before: None, after: after.clone() };
        let decision = fold_row(&"new", None, Some(&old), change);
        assert_eq!(decision, Decision::Apply(live(stream(5), [Some(9), Some(2)], None)));
    }

    #[test]
    fn a_key_change_before_the_copy_remembers_where_the_snapshot_will_find_the_row() {
        let after = row([Some(9), None]);
        let change = Told { version: stream(5), moved_from: Some(&"old"), before: None, after: after.clone() };
        let Decision::Apply(first) = fold_row(&"new", None, None, change) else { panic!("applies") };
        assert_eq!(first, live(stream(5), [Some(9), None], Some("old")));
        let again = Told { version: stream(6), moved_from: Some(&"new"), before: None, after: after.clone() };
        let decision = fold_row(&"newer", None, Some(&first), again);
        assert_eq!(
            decision,
            Decision::Apply(live(stream(6), [Some(9), None], Some("old"))),
            "the origin outlives two moves"
        );
    }

    #[test]
    fn a_value_of_an_older_epoch_is_not_trusted_for_a_missing_cell() {
        let known = live(stream(5), [Some(1), Some(2)], None);
        let after = row([Some(7), None]);
        let version = Version::postgres(Epoch(2), Lsn(1), 0);
        let decision = fold_row(&"k", Some(&known), Some(&known), told(version, &after));
        assert_eq!(decision, Decision::Apply(live(version, [Some(7), None], Some("k"))));
    }

    #[test]
    fn a_deleted_row_does_not_come_back() {
        let Decision::Apply(gone) = fold_gone(Some(&live(stream(3), [Some(1), Some(2)], None)), stream(5)) else {
            panic!("applies")
        };
        let floor = row([Some(1), Some(2)]);
        assert_eq!(
            fold_row(&"k", Some(&gone), Some(&gone), told(Version::floor(Epoch(1)), &floor)),
            Decision::Superseded
        );
        let next = Version::floor(Epoch(2));
        assert!(matches!(fold_row(&"k", Some(&gone), Some(&gone), told(next, &floor)), Decision::Apply(_)));
        assert_eq!(fold_gone(Some(&gone), stream(4)), Decision::Superseded);
    }

    #[test]
    fn the_old_tuple_of_replica_identity_full_fills_first() {
        let before = row([Some(1), Some(2)]);
        let after = row([Some(7), None]);
        let change = Told { before: Some(&before), ..told(stream(5), &after) };
        assert_eq!(fold_row(&"k", None, None, change), Decision::Apply(live(stream(5), [Some(7), Some(2)], None)));
    }
}

//! Which ranges to read in a pass of the snapshot: pure.
//!
//! A pass reads under one snapshot. The first is the one exported with the slot; when its session is lost, the next pass
//! takes a snapshot of its own and must end up knowing every row that this one sees. A range that an earlier pass finished
//! then lacks only rows written since by transactions that the earlier snapshot did not see; among them are rows that moved
//! there from a range not read yet, whose unchanged TOAST values the stream never told. So finished ranges are read again
//! for just these rows, and unfinished ones whole.
//!
//! All rows are the floor of their epoch, in every pass: the epoch's stream began before each of its snapshots, so whatever
//! the stream tells of a row is newer than what any of them saw or included in it, and what it leaves out (unchanged TOAST)
//! is the same in all of them (I3). That needs no watermark, no rows held back, and no order between range and stream; the
//! alternative, rows of full strength classified by transaction ids at a mark in the stream, needs all three.
//!
//! One case it does not cover: a key that changed in an update which left a TOAST value out. The state then waits for the
//! row under the old key, and a later snapshot has it under the new one. So when that happened and a later snapshot was
//! used, the epoch is given up for a new one ([`unsound`]): rare, and safe.

use std::collections::BTreeMap;

use super::marks::Range;
use crate::event::RelationName;
use crate::source::RangeId;

/// A leaf as it lies now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeafNow {
    /// The table that its rows' events carry.
    pub table: RelationName,
    /// Its name.
    pub name: RelationName,
    /// Its OID.
    pub oid: u32,
    /// The file that it lies in.
    pub filenode: u32,
    /// Its blocks.
    pub blocks: u32,
    /// Its bytes, with those of its TOAST table.
    pub bytes: u64,
}

/// What a pass is to do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pass {
    /// Ranges of leaves that were rewritten or are gone: their places mean nothing any more.
    pub remove: Vec<RangeId>,
    /// New ranges, for leaves that have none.
    pub add: BTreeMap<RangeId, Range>,
    /// Ranges to read.
    pub read: Vec<Read>,
}

/// A range to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Read {
    /// The range.
    pub id: RangeId,
    /// Only rows written by this transaction or later ones; `None` for all of it.
    pub written_since: Option<u32>,
}

/// Whether every range was read under one snapshot: then the snapshot is complete.
pub fn complete(ledger: &BTreeMap<RangeId, Range>) -> bool {
    let mut passes = ledger.values().map(|range| range.done.map(|done| done.pass));
    let first = passes.next().flatten();
    first.is_some() && passes.all(|pass| pass == first)
}

/// Whether the copy cannot be trusted to complete every row: a later snapshot was used, and a row moved to another key
/// without its TOAST values.
pub fn unsound(later_snapshot: Option<&[u8]>, moved: Option<&[u8]>) -> bool {
    later_snapshot.is_some() && moved.is_some()
}

/// Number of the next pass.
pub fn next_pass(ledger: &BTreeMap<RangeId, Range>) -> u32 {
    ledger.values().filter_map(|range| range.done).map(|done| done.pass + 1).max().unwrap_or(0)
}

/// Plans a pass over the leaves that there are now.
pub fn plan(ledger: &BTreeMap<RangeId, Range>, leaves: &[LeafNow], range_bytes: u64) -> Pass {
    let mut pass = Pass::default();
    let in_place = |range: &Range| {
        leaves
            .iter()
            .any(|leaf| leaf.oid == range.leaf_oid && leaf.filenode == range.filenode && leaf.name == range.leaf)
    };
    for (id, range) in ledger {
        if in_place(range) {
            pass.read.push(Read { id: *id, written_since: range.done.map(|done| done.xmin) });
        } else {
            pass.remove.push(*id);
        }
    }
    let mut next = ledger.keys().next_back().map_or(0, |last| last.0 + 1);
    for leaf in leaves {
        let kept = |range: &Range| range.leaf_oid == leaf.oid && in_place(range);
        if ledger.values().any(kept) {
            continue;
        }
        for range in cut(leaf, range_bytes) {
            let id = RangeId(next);
            next += 1;
            pass.add.insert(id, range);
            pass.read.push(Read { id, written_since: None });
        }
    }
    pass
}

/// Cuts a leaf into ranges of about `range_bytes`, TOAST counted in; the last is open, because the leaf may have grown.
fn cut(leaf: &LeafNow, range_bytes: u64) -> Vec<Range> {
    let block_bytes = (leaf.bytes / u64::from(leaf.blocks.max(1))).max(1);
    let step = u32::try_from((range_bytes / block_bytes).max(1)).unwrap_or(u32::MAX);
    let mut ranges = Vec::new();
    let mut from = 0_u32;
    loop {
        let to = from.checked_add(step).filter(|to| *to < leaf.blocks);
        ranges.push(Range {
            table: leaf.table.clone(),
            leaf: leaf.name.clone(),
            leaf_oid: leaf.oid,
            filenode: leaf.filenode,
            from,
            to,
            done: None,
        });
        match to {
            Some(to) => from = to,
            None => return ranges,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::marks::Done;

    const BLOCK: u64 = 8192;

    fn leaf(oid: u32, filenode: u32, blocks: u32) -> LeafNow {
        let name = RelationName { schema: "s".into(), table: format!("t{oid}").into() };
        LeafNow { table: name.clone(), name, oid, filenode, blocks, bytes: u64::from(blocks) * BLOCK }
    }

    fn ledger_of(leaves: &[LeafNow]) -> BTreeMap<RangeId, Range> {
        plan(&BTreeMap::new(), leaves, 4 * BLOCK).add
    }

    fn done(ledger: &mut BTreeMap<RangeId, Range>, id: u32, pass: u32) {
        ledger.get_mut(&RangeId(id)).expect("a range").done = Some(Done { pass, xmin: 50 + pass, rows: 0, bytes: 0 });
    }

    #[test]
    fn ranges_cover_every_block_once_and_the_last_is_open() {
        for blocks in [0, 1, 3, 4, 5, 8, 9, 1000] {
            let ledger = ledger_of(&[leaf(1, 1, blocks)]);
            let mut expected = 0;
            for range in ledger.values() {
                assert_eq!(range.from, expected);
                expected = range.to.unwrap_or(u32::MAX);
            }
            assert_eq!(expected, u32::MAX, "{blocks} blocks");
            assert_eq!(ledger.len(), (blocks as usize).div_ceil(4).max(1));
        }
    }

    #[test]
    fn toast_counts_into_the_size_of_a_range() {
        let mut wide = leaf(1, 1, 8);
        wide.bytes *= 4;
        assert_eq!(ledger_of(&[wide]).len(), 8);
    }

    #[test]
    fn a_later_pass_reads_the_rest_whole_and_the_finished_for_what_was_written_since() {
        let leaves = [leaf(1, 1, 8)];
        let mut ledger = ledger_of(&leaves);
        done(&mut ledger, 0, 0);
        assert!(!complete(&ledger));
        let pass = plan(&ledger, &leaves, BLOCK);
        assert_eq!(
            pass.read,
            [Read { id: RangeId(0), written_since: Some(50) }, Read { id: RangeId(1), written_since: None }]
        );
        assert!(pass.add.is_empty() && pass.remove.is_empty());
        assert_eq!(next_pass(&ledger), 1);
    }

    #[test]
    fn a_rewritten_leaf_starts_again_with_new_numbers() {
        let mut ledger = ledger_of(&[leaf(1, 1, 8), leaf(2, 2, 4)]);
        done(&mut ledger, 0, 0);
        let pass = plan(&ledger, &[leaf(1, 9, 4), leaf(2, 2, 4)], 4 * BLOCK);
        assert_eq!(pass.remove, [RangeId(0), RangeId(1)]);
        assert_eq!(pass.add.keys().collect::<Vec<_>>(), [&RangeId(3)]);
        assert_eq!(pass.read.iter().map(|read| read.id).collect::<Vec<_>>(), [RangeId(2), RangeId(3)]);
    }

    #[test]
    fn a_leaf_that_is_gone_is_removed() {
        let ledger = ledger_of(&[leaf(1, 1, 4)]);
        assert_eq!(plan(&ledger, &[], BLOCK), Pass { remove: vec![RangeId(0)], ..Pass::default() });
    }

    #[test]
    fn only_one_pass_over_everything_completes_the_snapshot() {
        let mut ledger = ledger_of(&[leaf(1, 1, 8)]);
        assert!(!complete(&BTreeMap::new()) && !complete(&ledger));
        done(&mut ledger, 0, 0);
        done(&mut ledger, 1, 1);
        assert!(!complete(&ledger), "two snapshots are not one");
        done(&mut ledger, 0, 1);
        assert!(complete(&ledger));
    }
}

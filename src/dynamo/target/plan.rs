//! Decides what to do for a part: pure, from the items that it should be and the ones that are there.

use std::collections::{HashMap, HashSet};

use crate::target::{Deletes, ForeignScope, TargetKey, UnitOutcome, WriteVersion};

use super::item::{Held, Wanted};
use super::mark::Mark;

/// How what is there stands to the item that is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// There is none.
    Absent,
    /// It is the part's own, as it should be, last changed by this version.
    Same(WriteVersion),
    /// It is the part's own, and not as it should be.
    Outdated,
    /// It is the part's own, written by this newer version.
    Newer(WriteVersion),
    /// It is not the part's own, and differs.
    Foreign,
    /// It is not the part's own, and is as ours would be.
    MatchedForeign,
}

/// Judges what is there.
pub fn standing(wanted: &Wanted, held: Option<&Held>, mark: &Mark) -> Standing {
    let Some(held) = held else { return Standing::Absent };
    match &held.mark {
        Some(theirs) if theirs.owner == mark.owner => match theirs.version {
            newer if newer > mark.version => Standing::Newer(newer),
            version if wanted.same_as(held) => Standing::Same(version),
            _ => Standing::Outdated,
        },
        _ if wanted.same_as(held) => Standing::MatchedForeign,
        _ => Standing::Foreign,
    }
}

/// What has become of a part's items so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Written.
    pub upserted: u64,
    /// Already as they should be.
    pub unchanged: u64,
    /// Deleted.
    pub deleted: u64,
    /// Someone else's, and different.
    pub foreign: u64,
    /// Someone else's, and as ours would be.
    pub matched_foreign: u64,
    /// The newest version that an unchanged item has.
    pub newest: Option<WriteVersion>,
    /// A version newer than that of the write.
    pub newer: Option<WriteVersion>,
}

impl Tally {
    /// Counts an item that is not to be written; `false` when it is.
    pub fn settle(&mut self, standing: Standing) -> bool {
        match standing {
            Standing::Absent | Standing::Outdated => return false,
            Standing::Same(version) => {
                self.unchanged += 1;
                self.newest = self.newest.max(Some(version));
            }
            Standing::Newer(version) => self.newer = self.newer.max(Some(version)),
            Standing::Foreign => self.foreign += 1,
            Standing::MatchedForeign => self.matched_foreign += 1,
        }
        true
    }

    /// What stands in the way of the whole part, if anything does.
    pub fn obstacle(&self, rows: usize, scope: ForeignScope) -> Option<UnitOutcome> {
        if let Some(by) = self.newer {
            return Some(UnitOutcome::Superseded { by });
        }
        let (foreign, matched) = (self.foreign, self.matched_foreign);
        if scope == ForeignScope::Row || foreign + matched == 0 {
            return None;
        }
        let reason = if foreign == 0 && matched == rows as u64 { "matched_foreign" } else { "foreign" };
        let detail = format!(
            "{foreign} items of someone else differ from ours, {matched} equal ours; the part is left as it is"
        );
        Some(UnitOutcome::Parked { reason: reason.into(), detail: detail.into() })
    }

    /// What became of a part that nothing stood in the way of.
    pub fn outcome(&self, version: WriteVersion) -> UnitOutcome {
        let &Self { upserted, unchanged, deleted, foreign, matched_foreign, .. } = self;
        let touched = upserted + deleted + foreign + matched_foreign;
        if touched == 0 && self.newest == Some(version) {
            return UnitOutcome::Repeated;
        }
        UnitOutcome::Written { upserted, unchanged, deleted, foreign, matched_foreign }
    }
}

/// What is left to do for a part.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Items to write, by their place among the wanted ones, and how what is there stands to them.
    pub puts: Vec<(usize, Standing)>,
    /// Items to delete.
    pub deletes: Vec<TargetKey>,
    /// What needs nothing done.
    pub tally: Tally,
}

/// Plans a part by what a look has found: `seen` has every item that is there, of the wanted keys and of those before.
pub fn plan(
    wanted: &[Wanted],
    before: &[TargetKey],
    deletes: Deletes,
    mark: &Mark,
    seen: &HashMap<TargetKey, Held>,
) -> Plan {
    let mut plan = Plan::default();
    for (place, item) in wanted.iter().enumerate() {
        let standing = standing(item, seen.get(&item.key), mark);
        if !plan.tally.settle(standing) {
            plan.puts.push((place, standing));
        }
    }
    let kept: HashSet<&TargetKey> = wanted.iter().map(|item| &item.key).collect();
    for key in before.iter().filter(|key| !kept.contains(key)) {
        let ours = seen.get(key).and_then(|held| held.mark.as_ref()).filter(|theirs| theirs.owner == mark.owner);
        match ours.map(|theirs| theirs.version) {
            Some(newer) if newer > mark.version => plan.tally.newer = plan.tally.newer.max(Some(newer)),
            Some(_) if deletes == Deletes::Now => plan.deletes.push(key.clone()),
            _ => {}
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::dynamo::table::{KeyAttribute, KeyKind};
    use crate::dynamo::target::item;
    use crate::dynamo::target::mark::Owner;
    use crate::dynamo::target::spec::{Billing, TableSpec};
    use crate::event::Value;
    use crate::target::{TargetRow, TargetTable};

    fn at(offset: u64) -> WriteVersion {
        WriteVersion { log: 1, mapping: 1, partition: 0, offset }
    }

    fn mark(part: &[u8], offset: u64) -> Mark {
        Mark { owner: Owner::new("m", "u", part), version: at(offset) }
    }

    fn wanted(key: &str, text: &str) -> Wanted {
        let spec = TableSpec {
            name: "t".into(),
            key: vec![KeyAttribute { name: "p".into(), kind: KeyKind::S }],
            indexes: Vec::new(),
            billing: Billing::OnDemand,
            stream: None,
        };
        let item: BTreeMap<_, _> = [("p".into(), Value::text(key)), ("x".into(), Value::text(text))].into();
        let row = TargetRow { table: TargetTable(0), values: vec![Value::text(key), Value::Map(item)] };
        Wanted::new(&spec, &row, &mark(b"1", 5)).expect("it can be stored")
    }

    fn held(item: &Wanted, mark: Option<Mark>) -> Held {
        Held { mark, ..item::read(item.attributes.clone()).expect("it reads") }
    }

    #[test]
    fn what_is_there_is_judged_by_owner_version_and_content() {
        let (one, other) = (wanted("k", "1"), wanted("k", "2"));
        let ours = mark(b"1", 5);
        for (there, expected) in [
            (None, Standing::Absent),
            (Some(held(&one, None)), Standing::MatchedForeign),
            (Some(held(&other, None)), Standing::Foreign),
            (Some(held(&other, Some(mark(b"2", 1)))), Standing::Foreign),
            (Some(held(&one, Some(mark(b"2", 9)))), Standing::MatchedForeign),
            (Some(held(&one, Some(mark(b"1", 5)))), Standing::Same(at(5))),
            (Some(held(&one, Some(mark(b"1", 3)))), Standing::Same(at(3))),
            (Some(held(&other, Some(mark(b"1", 5)))), Standing::Outdated),
            (Some(held(&other, Some(mark(b"1", 4)))), Standing::Outdated),
            (Some(held(&one, Some(mark(b"1", 6)))), Standing::Newer(at(6))),
        ] {
            assert_eq!(standing(&one, there.as_ref(), &ours), expected, "{there:?}");
        }
    }

    #[test]
    fn only_what_is_the_parts_own_is_deleted() {
        let (kept, gone, theirs, moved) = (wanted("a", ""), wanted("b", ""), wanted("c", ""), wanted("d", ""));
        let there = [
            (&kept, Some(mark(b"1", 4))),
            (&gone, Some(mark(b"1", 4))),
            (&theirs, None),
            (&moved, Some(mark(b"2", 4))),
        ];
        let seen = there.into_iter().map(|(item, mark)| (item.key.clone(), held(item, mark))).collect();
        let before = [&kept, &gone, &theirs, &moved, &wanted("never", "")].map(|item| item.key.clone());
        let now = plan(std::slice::from_ref(&kept), &before, Deletes::Now, &mark(b"1", 5), &seen);
        assert_eq!((now.puts.len(), &*now.deletes), (0, std::slice::from_ref(&gone.key)));
        let later = plan(std::slice::from_ref(&kept), &before, Deletes::Later, &mark(b"1", 5), &seen);
        assert_eq!(later.deletes, []);
        let older = plan(&[kept], &before, Deletes::Now, &mark(b"1", 3), &seen);
        assert_eq!(older.tally.obstacle(1, ForeignScope::Row), Some(UnitOutcome::Superseded { by: at(4) }));
    }

    #[test]
    fn a_repeat_is_told_from_a_newer_write_of_the_same_items() {
        let mut tally = Tally::default();
        assert!(tally.settle(Standing::Same(at(3))) && tally.settle(Standing::Same(at(5))));
        assert_eq!(tally.outcome(at(5)), UnitOutcome::Repeated);
        let written = UnitOutcome::Written { upserted: 0, unchanged: 2, deleted: 0, foreign: 0, matched_foreign: 0 };
        assert_eq!(tally.outcome(at(6)), written);
    }
}

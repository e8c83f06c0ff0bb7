//! From a row of one side to its record in the spill: scope, rules, digests, sums, shadows.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Error;
use super::canary::{Around, Choice, Shadows};
use super::context::{Context, short};
use super::groups::GROUP_ROWS_MAX;
use super::lanes;
use super::ledger::Came;
use super::plain::Batch;
use super::record::{Added, Joined, KeyDigest, Pairing, Standing};
use super::spill::{Spill, Tag, Writer};
use super::sum::Sum;
use crate::event::encoding::empty;
use crate::event::{Canonical as _, EncodedRow, Key, Value};
use crate::mapping::SourceTable;
use crate::rules::{Contribution, Judged, Pair, RuleId, Side, TableRules, Uses};
use crate::target::{TargetRow, TargetTable};

/// Which side a row was read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SideOf {
    /// What the mapping makes of the source's rows.
    Expected,
    /// What the target holds.
    Actual,
}

/// What was taken of one target table on one side.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Rows, all of them.
    pub read: u64,
    /// Rows that a rule says are not ours to judge.
    pub out_of_scope: u64,
    /// Rows that are compared, summed up by their digests.
    pub judged: Sum,
}

impl Tally {
    /// Adds what another worker took.
    pub fn merge(&mut self, other: &Tally) {
        self.read += other.read;
        self.out_of_scope += other.out_of_scope;
        self.judged.merge(&other.judged);
    }
}

/// Where a record goes, and where its row is found again.
#[derive(Clone, Copy)]
struct Place<'a> {
    key: KeyDigest,
    /// Sets groups of a rule apart: that of a shadow is no row's, or it would be paired with the row of another.
    salt: &'a [u8],
    scope: &'a [u8],
    locator: &'a [u8],
    transient: bool,
}

impl<'a> Place<'a> {
    /// That of a row's shadow; a shadow that is gone was taken away, whatever may be gone of rows.
    fn of_shadow<'b>(self, shadow: &'b KeyDigest) -> Place<'b>
    where
        'a: 'b,
    {
        Place { key: *shadow, salt: shadow, transient: false, ..self }
    }
}

/// One worker's way from rows to records.
pub struct Emitter {
    context: Arc<Context>,
    work: Work,
}

/// What changes as rows are taken.
pub(super) struct Work {
    side: SideOf,
    pub(super) rows: Writer,
    added: Writer,
    groups: Writer,
    /// Rows of chosen groups in the range.
    grouped: HashMap<KeyDigest, usize>,
    /// What was taken, by target table.
    pub(super) tallies: Vec<Tally>,
    uses: Uses,
    shadows: Shadows,
    /// Rows that are digested together.
    pub(super) batch: Batch,
    buffer: Vec<u8>,
    locator: Vec<u8>,
    /// What rows added to sums that are not grouped: one for all rows, which would else fill a partition.
    ungrouped: BTreeMap<(RuleId, bool, bool), i128>,
}

/// The spills of a comparison.
#[derive(Debug, Clone)]
pub struct Spills {
    /// Rows that are expected.
    pub expected: Arc<Spill>,
    /// Rows that are there.
    pub actual: Arc<Spill>,
    /// What both sides add to invariants.
    pub added: Arc<Spill>,
    /// Rows of chosen groups: those that are expected, and those that are there.
    pub groups: [Arc<Spill>; 2],
}

impl Emitter {
    /// An emitter of one side.
    pub fn new(context: &Arc<Context>, side: SideOf, spills: &Spills) -> Self {
        let [expected, actual] = &spills.groups;
        let (rows, groups) = match side {
            SideOf::Expected => (&spills.expected, expected),
            SideOf::Actual => (&spills.actual, actual),
        };
        let work = Work {
            side,
            rows: rows.writer(),
            added: spills.added.writer(),
            groups: groups.writer(),
            grouped: HashMap::new(),
            tallies: vec![Tally::default(); context.shapes.len()],
            uses: Uses::default(),
            shadows: Shadows::default(),
            batch: Batch::default(),
            buffer: Vec::with_capacity(512),
            locator: Vec::new(),
            ungrouped: BTreeMap::new(),
        };
        Self { context: Arc::clone(context), work }
    }

    /// Takes a row; `scope` is the part that it belongs to, empty where nobody knows.
    ///
    /// # Errors
    /// [`Error::Spill`] when the disk does not take it.
    pub fn row(&mut self, row: &TargetRow, scope: &[u8]) -> Result<(), Error> {
        self.work.row(&self.context, row, scope)
    }

    /// Whether rows of a table are best given as they are encoded, by [`encoded`](Self::encoded).
    pub fn takes_encoded(&self, table: TargetTable) -> bool {
        self.context.asked(table).is_some()
    }

    /// As [`row`](Self::row).
    ///
    /// # Errors
    /// As there, and [`Error::Record`] when a value does not read.
    pub fn encoded(&mut self, table: TargetTable, row: &EncodedRow, scope: &[u8]) -> Result<(), Error> {
        self.work.encoded(&self.context, table, row, scope)
    }

    /// Takes a row of a group's shadow, as one of a part and under the key that it really has.
    ///
    /// # Errors
    /// [`Error::Spill`] when the disk does not take it.
    pub(super) fn shadow(
        &mut self,
        row: &TargetRow,
        (key, salt): (KeyDigest, &KeyDigest),
        (scope, locator): (&[u8], &[u8]),
    ) -> Result<(), Error> {
        let place = Place { key, salt, scope, locator, transient: false };
        self.work.record(&self.context, self.context.rules.table(row.table), row, place).map(drop)
    }

    /// Whether some invariant adds up what rows of a source table say.
    pub fn asks_source(&self, table: SourceTable) -> bool {
        self.context.rules.asks_source(table)
    }

    /// What a source row adds to the invariants.
    ///
    /// # Errors
    /// [`Error::Spill`] when the disk does not take it.
    pub fn source_row(&mut self, table: SourceTable, values: &[Value], standing: Standing) -> Result<(), Error> {
        let rules = &self.context.rules;
        self.work.told(standing, |say| rules.told_by_source(table, values, say))
    }

    /// From here on, records are of another range.
    ///
    /// # Errors
    /// [`Error::Spill`] when the disk does not take what is handed over of the one before.
    pub fn begin(&mut self, tag: Tag) -> Result<(), Error> {
        self.work.flush(&self.context)?;
        self.work.grouped.clear();
        self.work.rows.begin(tag)?;
        self.work.groups.begin(tag)?;
        self.work.added.begin(tag)
    }

    /// Hands everything over.
    ///
    /// # Errors
    /// [`Error::Spill`] when the disk does not take it.
    pub fn finish(&mut self) -> Result<(), Error> {
        self.work.flush(&self.context)?;
        self.work.tell_ungrouped()?;
        self.work.rows.finish()?;
        self.work.groups.finish()?;
        self.work.added.finish()
    }

    /// Hands everything over, and tells what came of it all since the last time.
    ///
    /// # Errors
    /// [`Error::Spill`] when the disk does not take it.
    pub fn end(&mut self) -> Result<Came, Error> {
        self.finish()?;
        let work = &mut self.work;
        let none = vec![Tally::default(); work.tallies.len()];
        let mut came = Came {
            tallies: std::mem::replace(&mut work.tallies, none),
            uses: std::mem::take(&mut work.uses),
            shadows: std::mem::take(&mut work.shadows),
            ..Came::default()
        };
        for writer in [&work.rows, &work.added, &work.groups] {
            came.handed.insert(writer.name().to_owned(), writer.handed());
        }
        Ok(came)
    }
}

impl Work {
    pub(super) fn row(&mut self, context: &Context, row: &TargetRow, scope: &[u8]) -> Result<(), Error> {
        if let Some(transient) = self.judged(context, row)? {
            self.compared(context, row, scope, transient)?;
        }
        Ok(())
    }

    /// Whether the target may have let a row go; `None` where it is not ours to judge. Only columns that rules ask need be there.
    pub(super) fn judged(&mut self, context: &Context, row: &TargetRow) -> Result<Option<bool>, Error> {
        let tally = &mut self.tallies[usize::from(row.table.0)];
        tally.read += 1;
        let transient = match context.rules.table(row.table).scope(row, &mut self.uses) {
            Judged::Ours => false,
            Judged::Expired(_) => true,
            Judged::OutOfScope(_) => {
                tally.out_of_scope += 1;
                return Ok(None);
            }
        };
        if self.side == SideOf::Actual {
            self.told(Standing::Judged, |say| context.rules.told_by_target(row.table, &row.values, say))?;
        }
        Ok(Some(transient))
    }

    /// Takes a row that is ours to judge; answers with the digests of its key and of all that is compared.
    pub(super) fn compared(
        &mut self,
        context: &Context,
        row: &TargetRow,
        scope: &[u8],
        transient: bool,
    ) -> Result<(KeyDigest, [u8; 32]), Error> {
        let table = row.table.0;
        let rules = context.rules.table(row.table);
        let own = context.key_of(rules, row, &mut self.buffer);
        let mut locator = std::mem::take(&mut self.locator);
        empty(&mut locator);
        context.shapes[usize::from(table)].put_key(row, &mut locator);
        let place = Place { key: own, salt: &[], scope, locator: &locator, transient };
        let strict = self.record(context, rules, row, place)?;
        self.tallies[usize::from(table)].judged.add(&strict);
        self.keep_group(context, rules, row, &strict, place)?;
        if let Some(choice) = context.canaries.choice(table, &own) {
            self.shadow_of(context, rules, row, place, choice, strict)?;
        }
        self.locator = locator;
        Ok((own, strict))
    }

    /// Takes the shadow of a row that was chosen; that rules are used for it counts for nothing.
    fn shadow_of(
        &mut self,
        context: &Context,
        rules: &TableRules,
        row: &TargetRow,
        place: Place<'_>,
        choice: Choice,
        strict: [u8; 32],
    ) -> Result<(), Error> {
        let place_of = place.of_shadow(&choice.shadow);
        let uses = self.uses.clone();
        match self.side {
            SideOf::Expected => {
                if choice.of_expected(row.table.0, &strict, &mut self.shadows) {
                    self.record(context, rules, row, place_of)?;
                }
            }
            SideOf::Actual => {
                let exact = |name: &str| rules.exact(name);
                let columns = context.columns(row.table);
                let around = Around { exact: &exact, columns, item: context.items, unowned: place.scope.is_empty() };
                for row in choice.of_actual(row, &around, &mut self.shadows) {
                    let spoilt = self.record(context, rules, &row, place_of)?;
                    self.shadows.entry((row.table.0, choice.shadow)).or_default().there = Some([strict, spoilt]);
                }
            }
        }
        self.uses = uses;
        Ok(())
    }

    /// Keeps a row whose group is chosen. Of a group that is too large, one more is kept than a sample has: what was kept tells.
    fn keep_group(
        &mut self,
        context: &Context,
        rules: &TableRules,
        row: &TargetRow,
        strict: &[u8; 32],
        place: Place<'_>,
    ) -> Result<(), Error> {
        let by = || Some(rules.pairing(row)?.group);
        let Some(group) = context.canaries.of_group(row.table.0, by) else { return Ok(()) };
        let kept = self.grouped.entry(group).or_default();
        if *kept > GROUP_ROWS_MAX {
            return Ok(());
        }
        *kept += 1;
        let Place { scope, locator, .. } = place;
        let joined = Joined {
            table: row.table.0,
            key: group,
            strict: *strict,
            tolerant: *strict,
            transient: false,
            pairing: None,
            scope,
            locator,
            row: &Key(row.values.clone()).encode(),
        };
        self.groups.add(hash_of(&group), strict, |out| joined.put(out))
    }

    /// Writes a record; answers with the strict digest.
    fn record(
        &mut self,
        context: &Context,
        rules: &TableRules,
        row: &TargetRow,
        place: Place<'_>,
    ) -> Result<[u8; 32], Error> {
        let table = row.table.0;
        let row_key = &context.rows[usize::from(table)];
        let form = |buffer: &mut Vec<u8>, put: &mut dyn FnMut(&mut Vec<u8>)| {
            empty(buffer);
            put(buffer);
            lanes::digest(row_key, buffer)
        };
        let Self { buffer, uses, .. } = self;
        let Place { key, salt, scope, locator, transient } = place;
        let strict = form(buffer, &mut |out| context.put_form(rules, row, Pair::Key, uses, out));
        let tolerant = match rules.has_tolerance() {
            true => form(buffer, &mut |out| rules.tolerant(row, Pair::Key, out)),
            false => strict,
        };
        let paired = context.paired.map_or_else(|| rules.pairing(row), |paired| paired(rules, row)).map(|pairing| {
            // How often rules were used is counted once for each row.
            let strict = form(buffer, &mut |out| context.put_form(rules, row, Pair::Match, &mut Uses::default(), out));
            let group = form(buffer, &mut |out| {
                Key(pairing.group.clone()).put(out);
                out.extend_from_slice(salt);
            });
            (short(&group), pairing.order, strict)
        });
        let pairing = paired.as_ref().map(|(group, order, strict)| Pairing { group: *group, order, strict: *strict });
        let whole = if rules.sees_rows() { Key(row.values.clone()).encode() } else { Vec::new() };
        let joined = Joined { table, key, strict, tolerant, transient, pairing, scope, locator, row: &whole };
        self.rows.add(hash_of(&key), &strict, |out| joined.put(out))?;
        Ok(strict)
    }

    fn told(&mut self, standing: Standing, tell: impl FnOnce(&mut dyn FnMut(Contribution))) -> Result<(), Error> {
        let (added, ungrouped, mut failed) = (&mut self.added, &mut self.ungrouped, None);
        tell(&mut |contribution| {
            if contribution.group.is_empty() && contribution.once.is_none() {
                let of = (contribution.expect, contribution.side == Side::Right, standing == Standing::Aside);
                *ungrouped.entry(of).or_default() += contribution.amount;
                return;
            }
            let group = Key(contribution.group.clone()).encode();
            let digest = *blake3::hash(&group).as_bytes();
            let put = |out: &mut Vec<u8>| Added::put(&contribution, standing, &group, out);
            if let Err(error) = added.add(hash_of(&short(&digest)), &digest, put) {
                failed = Some(error);
            }
        });
        failed.map_or(Ok(()), Err)
    }

    /// Writes down what was added to sums that are not grouped.
    fn tell_ungrouped(&mut self) -> Result<(), Error> {
        for ((expect, right, aside), amount) in std::mem::take(&mut self.ungrouped) {
            let side = if right { Side::Right } else { Side::Left };
            let standing = if aside { Standing::Aside } else { Standing::Judged };
            let contribution = Contribution { expect, side, group: Vec::new(), once: None, amount };
            let group = Key(Vec::new()).encode();
            let digest = *blake3::hash(&group).as_bytes();
            self.added
                .add(hash_of(&short(&digest)), &digest, |out| Added::put(&contribution, standing, &group, out))?;
        }
        Ok(())
    }
}

/// What chooses a record's partition.
pub fn hash_of(key: &KeyDigest) -> u64 {
    key[8..].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

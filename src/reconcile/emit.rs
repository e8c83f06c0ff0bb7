//! From a row of one side to its record in the spill: scope, rules, digests, sums, shadows.

use std::sync::Arc;

use super::Error;
use super::canary::{Canaries, Judged};
use super::record::{Added, Joined, KeyDigest};
use super::spill::{Spill, Writer};
use super::sum::Sum;
use crate::event::{Canonical as _, DigestKey, Digester, Key, Value};
use crate::mapping::{Migration, Part, SourceTable};
use crate::rules::{Ruleset, Scope, TableRules, Uses};
use crate::target::{TableShape, TargetRow};

/// What both sides are read with.
pub struct Context {
    /// The migration.
    pub migration: Arc<Migration>,
    /// Its target tables.
    pub shapes: Arc<[TableShape]>,
    /// What counts as equal.
    pub rules: Arc<Ruleset>,
    /// Names the part of a unit as the state does.
    pub scope_of: fn(&str, &Part) -> Vec<u8>,
    /// The form in which the target gives a row back.
    pub as_stored: fn(&TargetRow) -> TargetRow,
    /// Whether target rows are items.
    pub items: bool,
    /// The faults that the comparison must find.
    pub canaries: Canaries,
    columns: Vec<Vec<Box<str>>>,
    keys: Vec<Digester>,
    rows: Vec<[u8; 32]>,
    pairs: Vec<[u8; 32]>,
}

impl Context {
    /// A context; every digest depends on the deployment's key, the table and the meaning of the rules.
    pub fn new(
        migration: Arc<Migration>,
        shapes: Arc<[TableShape]>,
        rules: Arc<Ruleset>,
        key: &DigestKey,
        canaries: Canaries,
        naming: Naming,
    ) -> Self {
        let columns = |shape: &TableShape, places: &[usize]| -> Vec<Box<str>> {
            places.iter().map(|&index| shape.columns[index].name.clone()).collect()
        };
        let all = |shape: &TableShape| columns(shape, &(0..shape.columns.len()).collect::<Vec<_>>());
        let names = shapes.iter().map(all).collect();
        let keys = shapes.iter().map(|shape| Digester::keys(key, &shape.name, &columns(shape, &shape.key))).collect();
        let derived = |domain: &str, shape: &TableShape| key.derive(domain, &[&rules.id()[..], shape.name.as_bytes()]);
        let rows = shapes.iter().map(|shape| derived("reconcile row", shape)).collect();
        let pairs = shapes.iter().map(|shape| derived("reconcile pair", shape)).collect();
        let Naming { scope_of, as_stored, items } = naming;
        Self { migration, shapes, rules, scope_of, as_stored, items, canaries, columns: names, keys, rows, pairs }
    }

    /// Digest of a row's own key.
    pub fn own_key(&self, table: u16, values: &[Value], buffer: &mut Vec<u8>) -> KeyDigest {
        short(&self.keys[usize::from(table)].digest_into(values, buffer).0)
    }
}

/// How the engine names things.
#[derive(Debug, Clone, Copy)]
pub struct Naming {
    /// Names the part of a unit as the state does.
    pub scope_of: fn(&str, &Part) -> Vec<u8>,
    /// The form in which the target gives a row back.
    pub as_stored: fn(&TargetRow) -> TargetRow,
    /// Whether target rows are items.
    pub items: bool,
}

/// Which side a row was read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SideOf {
    /// What the mapping makes of the source's rows.
    Expected,
    /// What the target holds.
    Actual,
}

/// What was taken of one target table on one side.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Rows, all of them.
    pub read: u64,
    /// Rows that a rule says are not ours to judge.
    pub out_of_scope: u64,
    /// Rows that a rule of retention says have expired.
    pub expired: u64,
    /// Rows that are compared, summed up by their digests.
    pub judged: Sum,
}

impl Tally {
    /// Adds what another worker took.
    pub fn merge(&mut self, other: &Tally) {
        self.read += other.read;
        self.out_of_scope += other.out_of_scope;
        self.expired += other.expired;
        self.judged.merge(&other.judged);
    }
}

/// Where a record goes, and where its row is found again.
#[derive(Clone, Copy)]
struct Place<'a> {
    own: KeyDigest,
    pair: Option<KeyDigest>,
    scope: &'a [u8],
    locator: &'a [u8],
}

/// One worker's way from rows to records.
pub struct Emitter {
    context: Arc<Context>,
    side: SideOf,
    /// Records joined by the row's own key, and those joined by what a rule pairs rows by.
    by_key: Writer,
    by_pair: Writer,
    added: Writer,
    /// What was taken, by target table.
    pub tallies: Vec<Tally>,
    /// How often each rule was used.
    pub uses: Uses,
    buffer: Vec<u8>,
}

/// The spills of a comparison.
#[derive(Debug, Clone)]
pub struct Spills {
    /// Rows that are expected.
    pub expected: Arc<Spill>,
    /// Rows that are there.
    pub actual: Arc<Spill>,
    /// Rows that are expected, of tables whose rows a rule pairs.
    pub expected_pairs: Arc<Spill>,
    /// What both sides add to invariants.
    pub added: Arc<Spill>,
}

impl Emitter {
    /// An emitter of one side.
    pub fn new(context: &Arc<Context>, side: SideOf, spills: &Spills) -> Self {
        let by_key = if side == SideOf::Expected { &spills.expected } else { &spills.actual };
        Self {
            side,
            by_key: by_key.writer(),
            by_pair: spills.expected_pairs.writer(),
            added: spills.added.writer(),
            tallies: vec![Tally::default(); context.shapes.len()],
            uses: Uses::default(),
            buffer: Vec::with_capacity(512),
            context: Arc::clone(context),
        }
    }

    /// Takes a row; `scope` is the part that it belongs to, empty where nobody knows.
    ///
    /// # Errors
    /// [`Error::Spill`] when the disk does not take it.
    pub fn row(&mut self, row: &TargetRow, scope: &[u8]) -> Result<(), Error> {
        let context = Arc::clone(&self.context);
        let table = row.table.0;
        let rules = context.rules.table(row.table);
        let tally = &mut self.tallies[usize::from(table)];
        tally.read += 1;
        match rules.scope(row, &mut self.uses) {
            Scope::Ours => {}
            Scope::OutOfScope(_) => {
                tally.out_of_scope += 1;
                return Ok(());
            }
            Scope::Expired(_) => {
                tally.expired += 1;
                return Ok(());
            }
        }
        if self.side == SideOf::Actual {
            self.invariants(|expect| expect.of_target(row), true)?;
        }
        let key = context.shapes[usize::from(table)].key_of(row).values;
        let own = context.own_key(table, &key, &mut self.buffer);
        let pair = rules.pairing(row).map(|values| {
            self.buffer.clear();
            Key(values).put(&mut self.buffer);
            short(&digest(&context.pairs[usize::from(table)], &self.buffer))
        });
        let locator = Key(key).encode();
        let place = Place { own, pair, scope, locator: &locator };
        let strict = self.record(&context, rules, row, place)?;
        self.tallies[usize::from(table)].judged.add(&strict);
        let shadow_of = pair.unwrap_or(own);
        let shadowed = |shadow| Place { own: shadow, pair: pair.map(|_| shadow), ..place };
        match self.side {
            SideOf::Expected => {
                if let Some(shadow) = context.canaries.of_expected(table, &shadow_of) {
                    self.record(&context, rules, row, shadowed(shadow))?;
                }
            }
            SideOf::Actual => {
                let exact = |name: &str| rules.exact(name);
                let judged = Judged { exact: &exact, columns: &context.columns[usize::from(table)], item: context.items };
                if let Some((shadow, rows)) = context.canaries.of_actual(row, &shadow_of, &judged) {
                    for row in rows {
                        self.record(&context, rules, &row, shadowed(shadow))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// What a source row adds to the invariants.
    ///
    /// # Errors
    /// [`Error::Spill`] when the disk does not take it.
    pub fn source_row(&mut self, table: SourceTable, values: &[Value]) -> Result<(), Error> {
        self.invariants(|expect| expect.of_source(table, values), false)
    }

    /// Hands everything over.
    ///
    /// # Errors
    /// [`Error::Spill`] when the disk does not take it.
    pub fn finish(&mut self) -> Result<(), Error> {
        self.by_key.finish()?;
        self.by_pair.finish()?;
        self.added.finish()
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
        self.buffer.clear();
        rules.strict(row, &mut self.buffer);
        let strict = digest(&context.rows[usize::from(table)], &self.buffer);
        let tolerant = if rules.tolerates() {
            self.buffer.clear();
            rules.tolerant(row, &mut self.buffer);
            digest(&context.rows[usize::from(table)], &self.buffer)
        } else {
            strict
        };
        let Place { own, pair, scope, locator } = place;
        let joined = Joined { table, key: own, pair, strict, tolerant, scope, locator };
        let (writer, hash) = match (self.side, pair) {
            (SideOf::Expected, Some(pair)) => (&mut self.by_pair, pair),
            // Rows that are there go by their own key first: by it they are known as written by rehome.
            _ => (&mut self.by_key, own),
        };
        writer.add(hash_of(&hash), &strict, |out| joined.put(out))?;
        Ok(strict)
    }

    fn invariants(
        &mut self,
        of: impl Fn(&crate::rules::Expect) -> Option<(Vec<Value>, i128)>,
        of_target: bool,
    ) -> Result<(), Error> {
        let context = Arc::clone(&self.context);
        for (invariant, expect) in (0_u16..).zip(context.rules.expects()) {
            let Some((group, amount)) = of(expect) else { continue };
            let group = Key(group).encode();
            let digest = *blake3::hash(&group).as_bytes();
            let added = Added { invariant, of_target, group: &group, amount };
            self.added.add(hash_of(&short(&digest)), &digest, |out| added.put(out))?;
        }
        Ok(())
    }
}

/// What chooses a record's partition.
pub fn hash_of(key: &KeyDigest) -> u64 {
    key[8..].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn short(digest: &[u8; 32]) -> KeyDigest {
    let mut key = [0; 16];
    key.copy_from_slice(&digest[..16]);
    key
}

fn digest(key: &[u8; 32], bytes: &[u8]) -> [u8; 32] {
    *blake3::keyed_hash(key, bytes).as_bytes()
}

//! What both sides are read with: the migration, the rules, and how keys and rows are digested.

use std::sync::Arc;

use super::canary::Canaries;
use super::lanes;
use super::record::KeyDigest;
use crate::event::digest::put_alike;
use crate::event::encoding::empty;
use crate::event::{DigestKey, Value};
use crate::mapping::{Migration, Part};
use crate::rules::{self, Asked, Pair, Ruleset, TableRules, Uses};
use crate::target::{TableShape, TargetRow, TargetTable};

/// How keys and rows are digested: to be changed with it, so that nothing goes on with digests of another kind.
pub const DIGESTS: &str = "padded to blocks, 2";

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
    /// What the names of all parts of a unit begin with.
    pub unit_of: fn(&[u8]) -> &[u8],
    /// The form in which the target gives a row back.
    pub as_stored: fn(TargetRow) -> TargetRow,
    /// Whether target rows are items.
    pub items: bool,
    /// The faults that the comparison must find.
    pub canaries: Canaries,
    /// What two rows must have alike to be equal, where that is not what the rules say.
    pub form: Option<Form>,
    /// What pairs two rows whose keys differ, where that is not what the rules say.
    pub paired: Option<Paired>,
    columns: Vec<Vec<Box<str>>>,
    /// For each table the key of its keys' digests.
    pub(super) keys: Vec<[u8; 32]>,
    /// For each table the key of its rows' digests.
    pub(super) rows: Vec<[u8; 32]>,
    /// For each table what rules ask of rows that they leave as they are; see [`Ruleset::plain`].
    asked: Vec<Option<Asked>>,
}

/// Appends what a row is compared as, by the rules of its table; rows that give the same bytes are equal.
pub type Form = fn(&TableRules, &TargetRow, Pair, &mut Uses, &mut Vec<u8>);

/// Says what a row is paired by where the other side lacks its key.
pub type Paired = fn(&TableRules, &TargetRow) -> Option<rules::Pairing>;

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
        let of_key = |shape: &TableShape| {
            let names = columns(shape, &shape.key);
            let about: Vec<&[u8]> = std::iter::once(&shape.name).chain(&names).map(|name| name.as_bytes()).collect();
            key.derive(&format!("reconcile key, {DIGESTS}"), &about)
        };
        let keys = shapes.iter().map(of_key).collect();
        let tables = (0..shapes.len()).map(|table| TargetTable(u16::try_from(table).unwrap_or(u16::MAX)));
        let asked = tables.map(|table| rules.plain(table)).collect();
        let derived = |domain: &str, shape: &TableShape| key.derive(domain, &[&rules.id()[..], shape.name.as_bytes()]);
        let rows = shapes.iter().map(|shape| derived(&format!("reconcile row, {DIGESTS}"), shape)).collect();
        let Naming { scope_of, unit_of, as_stored, items } = naming;
        Self {
            migration,
            shapes,
            rules,
            scope_of,
            unit_of,
            as_stored,
            items,
            canaries,
            form: None,
            paired: None,
            columns: names,
            keys,
            rows,
            asked,
        }
    }

    /// Digest of all that is compared of a row; uses of rules are not counted.
    pub fn strict(&self, row: &TargetRow) -> [u8; 32] {
        self.digest(row, Pair::Key)
    }

    /// Digest of all that is compared of a row in a pair of a kind.
    pub fn digest(&self, row: &TargetRow, pair: Pair) -> [u8; 32] {
        let mut form = Vec::with_capacity(512);
        self.put_form(self.rules.table(row.table), row, pair, &mut Uses::default(), &mut form);
        lanes::digest(&self.rows[usize::from(row.table.0)], &mut form)
    }

    /// Appends what a row is compared as.
    pub(super) fn put_form(&self, rules: &TableRules, row: &TargetRow, pair: Pair, uses: &mut Uses, out: &mut Vec<u8>) {
        match self.form {
            Some(form) => form(rules, row, pair, uses, out),
            None => rules.strict(row, pair, uses, out),
        }
    }

    /// What is asked of rows which are compared as they came; `None` where rows must be looked at.
    pub(super) fn asked(&self, table: TargetTable) -> Option<&Asked> {
        let ruled = self.form.is_some() || self.paired.is_some();
        self.asked.get(usize::from(table.0)).and_then(Option::as_ref).filter(|_| !ruled)
    }

    /// Names of a table's columns.
    pub fn columns(&self, table: TargetTable) -> &[Box<str>] {
        &self.columns[usize::from(table.0)]
    }

    /// Digest of a row's own key, by the values that it is paired by.
    pub fn own_key(&self, table: u16, values: &[Value], buffer: &mut Vec<u8>) -> KeyDigest {
        self.key_digest(table, values.iter(), buffer)
    }

    fn key_digest<'v>(&self, table: u16, values: impl Iterator<Item = &'v Value>, buffer: &mut Vec<u8>) -> KeyDigest {
        empty(buffer);
        put_alike(values, buffer);
        short(&lanes::digest(&self.keys[usize::from(table)], buffer))
    }

    /// Digest of the key of a row.
    pub(super) fn key_of(&self, rules: &TableRules, row: &TargetRow, buffer: &mut Vec<u8>) -> KeyDigest {
        match rules.key_as_it_is(row) {
            Some(values) => self.key_digest(row.table.0, values, buffer),
            None => self.own_key(row.table.0, &rules.key(row).values, buffer),
        }
    }
}

/// How the engine names things.
#[derive(Debug, Clone, Copy)]
pub struct Naming {
    /// Names the part of a unit as the state does.
    pub scope_of: fn(&str, &Part) -> Vec<u8>,
    /// What the names of all parts of a unit begin with.
    pub unit_of: fn(&[u8]) -> &[u8],
    /// The form in which the target gives a row back.
    pub as_stored: fn(TargetRow) -> TargetRow,
    /// Whether target rows are items.
    pub items: bool,
}

/// The first bytes of a digest, which are enough to tell keys apart.
pub(super) fn short(digest: &[u8; 32]) -> KeyDigest {
    let mut key = [0; 16];
    key.copy_from_slice(&digest[..16]);
    key
}

//! What is foreseen, as it is told: plain data under plain names.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::event::{Canonical as _, Key, key_text};
use crate::mapping::SourceTable;
use crate::mapping::schema::Store;
use crate::reconcile::forecast::estimate::Estimate;
use crate::reconcile::forecast::outlook::{KeyRole, KeySpace, Quantity, What};
use crate::reconcile::forecast::{Contested, Outcome};
use crate::reconcile::side::Side;
use crate::target::TargetTable;

use super::super::files::Rows;
use super::Engine;
use super::costs::{self, Disk, Time, Writing};

/// What a migration would come to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Forecast {
    /// The migration.
    pub migration: String,
    /// How much of the source was looked at; absent when all of it was, and every figure is a count.
    pub sample: Option<Sampled>,
    /// By source table.
    pub sources: Vec<SourceForecast>,
    /// By target table.
    pub targets: Vec<TargetForecast>,
    /// Parts that would be written together.
    pub parts: Estimate,
    /// Parts that the mapping parks, by reason.
    pub parked: BTreeMap<String, Estimate>,
    /// Parts that the target would refuse, by reason.
    pub refused: BTreeMap<String, Estimate>,
    /// What the mapping counts.
    pub counted: BTreeMap<String, Estimate>,
    /// Some keys of what goes wrong.
    pub examples: Vec<Example>,
    /// What writing costs, where the target counts it.
    pub writing: Option<Writing>,
    /// Disk that a run and a comparison need.
    pub disk: Disk,
    /// Time that a run needs.
    pub time: Time,
    /// What was not looked at.
    pub not_looked_at: Vec<String>,
}

/// How much of the source was looked at.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sampled {
    /// Part of the rows that were evaluated, as it was asked for, in percent.
    pub percent: f64,
    /// What the intervals are.
    pub intervals: &'static str,
}

/// A source table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SourceForecast {
    /// The table.
    pub table: String,
    /// How it was read: `whole`, `ranges`, `file`, or `absent`.
    pub read: &'static str,
    /// Ranges that were drawn, and how many there were; absent where all were read.
    pub ranges: Option<(u64, u64)>,
    /// Rows.
    pub rows: Estimate,
    /// Bytes, as the store sends them.
    pub bytes: Estimate,
    /// Rows that go into target rows.
    pub mapped: Estimate,
    /// Rows that are only looked up.
    pub lookup: Estimate,
    /// Rows that wait for others.
    pub waiting: Estimate,
    /// Rows that the mapping leaves out, by reason.
    pub dropped: BTreeMap<String, Estimate>,
    /// Rows that cannot be mapped, by reason.
    pub quarantined: BTreeMap<String, Estimate>,
}

/// A target table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TargetForecast {
    /// The table.
    pub table: String,
    /// Rows that would be written.
    pub rows: Estimate,
    /// Their bytes: of DynamoDB as it counts items, of Postgres those of the heap, about.
    pub bytes: Estimate,
    /// Write units, with those of indexes; absent where the target counts none.
    pub write_units: Option<Estimate>,
    /// Items above half of the largest size.
    pub large: Option<Estimate>,
    /// Rows of parts that the target would refuse, by reason.
    pub refused: BTreeMap<String, Estimate>,
    /// Rows with a value that the target would not keep as it is, by what becomes of it.
    pub altered: BTreeMap<String, Estimate>,
    /// Keys.
    pub keys: Vec<KeyForecast>,
    /// Foreign keys to other tables of the migration; none of a sample, which does not know what they refer to.
    pub references: Vec<ReferenceForecast>,
    /// The largest partitions, where rows go to partitions.
    pub partitions: Option<PartitionForecast>,
}

/// Columns that must tell rows apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyForecast {
    /// The columns.
    pub columns: Vec<String>,
    /// Whether the mapping itself proves that no two parts can have one key, so that nobody need look.
    pub proven: bool,
    /// Keys that more than one part wants; of a sample, those that met in it.
    pub contested: u64,
    /// Rows that want them.
    pub rows: u64,
    /// The most wanted: key, and how many rows want it.
    pub shown: Vec<(String, u64)>,
}

/// A foreign key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReferenceForecast {
    /// The columns.
    pub columns: Vec<String>,
    /// The table referred to.
    pub to: String,
    /// Keys that rows refer to, and that no row has that would be written.
    pub dangling: u64,
    /// Rows that refer to them: unless the target has such rows already, a run parks theirs.
    pub rows: u64,
    /// Those that most rows refer to: key, and how many do.
    pub shown: Vec<(String, u64)>,
}

/// How rows are spread over partitions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PartitionForecast {
    /// Partition keys that were seen.
    pub count: u64,
    /// The largest.
    pub largest: Vec<Partition>,
    /// Whether this is of a sample.
    pub estimated: bool,
}

/// A partition key.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Partition {
    /// The key.
    pub key: String,
    /// Rows that were seen of it.
    pub rows: u64,
    /// Write units that they take.
    pub write_units: u64,
    /// Their part of the table's write units, in percent.
    pub percent: f64,
}

/// Some keys of what goes wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Example {
    /// What happens: `quarantined`, `parked`, `refused`, `altered`.
    pub what: &'static str,
    /// Why.
    pub reason: String,
    /// Keys, or units where they are parked.
    pub keys: Vec<String>,
}

/// What a report is made of.
pub(super) struct Told<'a> {
    pub engine: &'a Engine,
    pub outcome: &'a Outcome,
    pub source: &'a Side,
    pub sampled: &'a BTreeMap<usize, u64>,
    pub given: &'a BTreeMap<usize, Rows>,
    pub spaces: &'a [KeySpace],
    pub share: f64,
    pub seconds: f64,
    pub read_units: Option<u64>,
    pub shown: usize,
}

impl Forecast {
    /// Whether anything would not arrive as the mapping wants it.
    pub fn troubled(&self) -> bool {
        let some = |estimates: &BTreeMap<String, Estimate>| estimates.values().any(|estimate| estimate.value > 0);
        some(&self.parked)
            || some(&self.refused)
            || self.sources.iter().any(|source| some(&source.quarantined) || source.waiting.value > 0)
            || self.targets.iter().any(|target| {
                some(&target.altered)
                    || target.keys.iter().any(|key| key.contested > 0)
                    || target.references.iter().any(|reference| reference.dangling > 0)
            })
    }
}

/// Puts a report together.
pub(super) fn forecast(told: &Told<'_>) -> Forecast {
    let migration = &told.engine.migration;
    let by_reason = |reason: fn(&Quantity) -> Option<&str>| -> BTreeMap<String, Estimate> {
        let found = told.outcome.quantities().filter_map(|quantity| Some((reason(quantity)?.to_owned(), quantity)));
        found.map(|(reason, quantity)| (reason, told.outcome.total(quantity))).collect()
    };
    let sources: Vec<SourceForecast> = (0..told.engine.sources.len()).map(|place| source(told, place)).collect();
    let targets: Vec<TargetForecast> = (0..told.engine.tables.len()).map(|place| target(told, place)).collect();
    let sum = |of: fn(&TargetForecast) -> Estimate| costs::sum(targets.iter().map(of));
    let writing = (migration.target_store() == Store::DynamoDb).then(|| {
        let units = sum(|target| target.write_units.unwrap_or_default());
        costs::writing(units, &targets, told.engine.settings.write_capacity)
    });
    let (rows, bytes) =
        (costs::sum(sources.iter().map(|source| source.rows)), costs::sum(sources.iter().map(|source| source.bytes)));
    let written = sum(|target| target.rows);
    let time = costs::time(&costs::Pass {
        seconds: told.seconds,
        read: told.outcome.read,
        evaluated: told.outcome.evaluated,
        rows,
        written,
        writing: writing.as_ref(),
        connections: told.engine.settings.target_connections,
        read_units: told.read_units,
    });
    let word = |what| match what {
        What::Quarantined => "quarantined",
        What::Parked => "parked",
        What::Refused => "refused",
        What::Altered => "altered",
    };
    let examples = told.outcome.examples.iter().map(|((what, reason), keys)| {
        let keys = keys.iter().take(told.shown).cloned().collect();
        Example { what: word(*what), reason: reason.to_string(), keys }
    });
    Forecast {
        migration: migration.name().to_owned(),
        sample: (told.share < 1.0).then_some(Sampled {
            percent: told.share * 100.0,
            intervals: "95 %, by cluster sampling (Cochran, Sampling Techniques, 1977, chapters 2, 5 and 9A); what no drawn cluster \
                        showed is not told, and may be there",
        }),
        parts: told.outcome.total(&Quantity::Parts),
        parked: by_reason(|quantity| if let Quantity::Parked(reason) = quantity { Some(reason) } else { None }),
        refused: by_reason(|quantity| if let Quantity::RefusedParts(reason) = quantity { Some(reason) } else { None }),
        counted: by_reason(|quantity| if let Quantity::Counted(name) = quantity { Some(name) } else { None }),
        examples: examples.collect(),
        disk: costs::disk(rows, bytes, written, told.outcome.spill_bytes),
        writing,
        time,
        not_looked_at: not_looked_at(told),
        sources,
        targets,
    }
}

fn source(told: &Told<'_>, place: usize) -> SourceForecast {
    let table = SourceTable(u16::try_from(place).unwrap_or(u16::MAX));
    let total = |quantity: Quantity| told.outcome.total(&quantity);
    let reasons = |of: fn(&Quantity, SourceTable) -> Option<&str>| -> BTreeMap<String, Estimate> {
        let found = told.outcome.quantities().filter_map(|quantity| Some((of(quantity, table)?.to_owned(), quantity)));
        found.map(|(reason, quantity)| (reason, told.outcome.total(quantity))).collect()
    };
    let ranges = told.source.ranges.iter().filter(|range| range.table == place).count() as u64;
    let read = match (told.given.contains_key(&place), told.sampled.get(&place), ranges) {
        (true, ..) => "file",
        (_, Some(_), _) => "ranges",
        (_, None, 0) => "absent",
        _ => "whole",
    };
    let given = told.given.get(&place).map(|rows| Estimate::counted(rows.len() as u64));
    SourceForecast {
        table: told.engine.sources[place].label.to_string(),
        read,
        ranges: told.sampled.get(&place).map(|all| (ranges, *all)),
        rows: given.unwrap_or_else(|| total(Quantity::Read(table))),
        bytes: total(Quantity::ReadBytes(table)),
        mapped: total(Quantity::Mapped(table)),
        lookup: total(Quantity::Lookup(table)),
        waiting: total(Quantity::Waiting(table)),
        dropped: reasons(|quantity, table| match quantity {
            Quantity::Dropped(of, reason) if *of == table => Some(reason),
            _ => None,
        }),
        quarantined: reasons(|quantity, table| match quantity {
            Quantity::Quarantined(of, reason) if *of == table => Some(reason),
            _ => None,
        }),
    }
}

fn target(told: &Told<'_>, place: usize) -> TargetForecast {
    let table = TargetTable(u16::try_from(place).unwrap_or(u16::MAX));
    let def = &told.engine.migration.target_tables()[place];
    let items = told.engine.migration.target_store() == Store::DynamoDb;
    let total = |quantity: Quantity| told.outcome.total(&quantity);
    let reasons = |of: fn(&Quantity, TargetTable) -> Option<&str>| -> BTreeMap<String, Estimate> {
        let found = told.outcome.quantities().filter_map(|quantity| Some((of(quantity, table)?.to_owned(), quantity)));
        found.map(|(reason, quantity)| (reason, told.outcome.total(quantity))).collect()
    };
    let names =
        |columns: &[usize]| columns.iter().map(|column| def.columns[*column].name.to_string()).collect::<Vec<_>>();
    let mut keys = Vec::new();
    if told.engine.migration.keys_disjoint(table) {
        keys.push(KeyForecast { columns: names(&def.key), proven: true, contested: 0, rows: 0, shown: Vec::new() });
    }
    let mut references = Vec::new();
    for space in told.spaces.iter().filter(|space| space.table == table) {
        let found = |found: &BTreeMap<u16, Contested>| found.get(&space.space).cloned().unwrap_or_default();
        let shown = |found: &Contested| found.shown.iter().map(|(rows, key)| (decoded(key), *rows)).collect();
        let columns = names(&space.columns);
        match space.role {
            KeyRole::Primary | KeyRole::Unique => {
                let found = found(&told.outcome.contested);
                let (shown, contested, rows) = (shown(&found), found.keys, found.rows);
                keys.push(KeyForecast { columns, proven: false, contested, rows, shown });
            }
            KeyRole::Referring => {
                let found = found(&told.outcome.dangling);
                let parent =
                    told.spaces.iter().find(|known| known.space == space.space && known.role == KeyRole::Referred);
                let parent = parent.map(|known| usize::from(known.table.0));
                let to =
                    parent.map_or_else(String::new, |at| told.engine.migration.target_tables()[at].name.to_string());
                let (shown, dangling, rows) = (shown(&found), found.keys, found.rows);
                references.push(ReferenceForecast { columns, to, dangling, rows, shown });
            }
            KeyRole::Referred => {}
        }
    }
    TargetForecast {
        table: def.name.to_string(),
        rows: total(Quantity::Rows(table)),
        bytes: total(Quantity::Bytes(table)),
        write_units: items.then(|| total(Quantity::WriteUnits(table))),
        large: items.then(|| total(Quantity::Large(table))),
        refused: reasons(|quantity, table| match quantity {
            Quantity::Refused(of, reason) if *of == table => Some(reason),
            _ => None,
        }),
        altered: reasons(|quantity, table| match quantity {
            Quantity::Altered(of, what) if *of == table => Some(what),
            _ => None,
        }),
        keys,
        references,
        partitions: items.then(|| partitions(told, table)),
    }
}

fn partitions(told: &Told<'_>, table: TargetTable) -> PartitionForecast {
    let found = told.outcome.partitions.get(&table.0).cloned().unwrap_or_default();
    let percent = |weight: u64| if found.weight == 0 { 0.0 } else { 100.0 * weight as f64 / found.weight as f64 };
    let largest = found.largest.iter().map(|folded| Partition {
        key: decoded(&folded.key),
        rows: folded.count,
        write_units: folded.weight,
        percent: percent(folded.weight),
    });
    PartitionForecast { count: found.count, largest: largest.collect(), estimated: told.share < 1.0 }
}

/// A key as people read it.
fn decoded(key: &[u8]) -> String {
    Key::decode(key).map_or_else(|_| String::new(), |key| key_text(&key.0))
}

fn not_looked_at(told: &Told<'_>) -> Vec<String> {
    let tables = told.engine.migration.target_tables();
    let mut notes = Vec::new();
    let foreign: usize = tables.iter().map(|table| table.foreign_keys.len()).sum();
    let looked = told.spaces.iter().filter(|space| space.role == KeyRole::Referring).count();
    let checks: usize = tables.iter().map(|table| table.checks.len()).sum();
    if foreign > looked {
        let of = if told.share < 1.0 { "of a sample" } else { "to tables that the migration does not write" };
        notes.push(format!("{} foreign key(s) {of}: a run parks what they refuse", foreign - looked));
    }
    if checks > 0 {
        notes.push(format!("{checks} check(s) of the target: a run parks what they refuse"));
    }
    notes.push("rows that stand at the target already, and rows that change while a run copies".to_owned());
    if told.share < 1.0 {
        notes.push("keys that meet only outside of the sample: contested keys are those that met in it".to_owned());
    }
    notes
}

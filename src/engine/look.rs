//! Looks at one unit by itself, on both sides: equal, proven different, or nothing is proven (I8).
//!
//! A reading is the source's rows, then what the projection knows of the unit, then the target's rows. What it proves is
//! decided by [`diff`](super::diff). A difference must be there in a second reading too, which begins when the first has
//! ended: between the two answers of the projection no record of the unit was applied, so neither the target nor what the
//! log says of the source can have been on its way.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::event::{Canonical as _, Key, Lsn, from_hex};
use crate::mapping::{Corpus, Migration, SourceRow, SourceTable};
use crate::project::result::Status;
use crate::rules::{Comparison, Finding, Ruleset, TableRules, Uses};
use crate::target::{TableShape, TargetKey, TargetRow, TargetTable};

use super::Error;
use super::cut::unexpected;
use super::diff::{By, Judged, RowDifference, Verdict, judge};
use super::protocol::{Answer, Request, UnitView};
use super::witness::{self, Belonging, Witness};

/// Between two attempts: enough for a change on its way to arrive.
const PAUSE: Duration = Duration::from_millis(100);

/// A unit's comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitDiff {
    /// The unit.
    pub unit: String,
    /// What was found.
    pub verdict: Verdict,
    /// Why it is no more than that, in a sentence.
    pub reason: String,
    /// Position of the source at which its rows were read; a DynamoDB table tells none.
    pub position: Option<Lsn>,
    /// Legacy rows read.
    pub legacy_rows: u64,
    /// Target rows expected.
    pub expected_rows: u64,
    /// Target rows found.
    pub actual_rows: u64,
    /// Differences of target rows; where some are proven, these alone.
    pub differences: Vec<RowDifference>,
    /// Rows that differ beside those that are proven to: changes of them may be on their way.
    pub unproven: Vec<TargetKey>,
    /// Reason for which the unit is parked, when it is.
    pub parked: Option<String>,
    /// Legacy rows that alone are in quarantine, by reason: nothing is expected of them.
    pub quarantined: BTreeMap<Box<str>, u64>,
    /// Keys of rows that differ, and of which a waiver excuses all that does.
    pub waived: Vec<TargetKey>,
}

impl AsRef<[RowDifference]> for UnitDiff {
    fn as_ref(&self) -> &[RowDifference] {
        &self.differences
    }
}

impl UnitDiff {
    /// The same without the differences that waivers excuse, which are named apart.
    #[must_use]
    pub fn waived_by(mut self, rules: &Ruleset) -> Self {
        let excused = |row: &RowDifference| excused(rules.table(row.key.table), row);
        let (waived, rest): (Vec<_>, Vec<_>) = self.differences.into_iter().partition(excused);
        self.differences = rest;
        self.waived = waived.into_iter().map(|row| row.key).collect();
        if self.differences.is_empty() && !self.waived.is_empty() && self.verdict == Verdict::Mismatch {
            // As where nothing differs: of what is parked the mapping cannot say what it should be.
            (self.verdict, self.reason) = if self.parked.is_some() {
                (Verdict::Incomplete, self.reason)
            } else if self.unproven.is_empty() {
                (Verdict::Match, "proven: the target differs in nothing but what waivers excuse".to_owned())
            } else {
                (
                    Verdict::Incomplete,
                    "unproven: changes of rows beside those that waivers excuse are on their way".to_owned(),
                )
            };
        }
        self
    }

    /// The same for whoever asks after all of the unit: equal is no more than that of the rows which the mapping can take.
    #[must_use]
    pub fn of_all_rows(mut self) -> Self {
        if self.verdict == Verdict::Match && !self.quarantined.is_empty() {
            let reasons: Vec<String> =
                self.quarantined.iter().map(|(reason, rows)| format!("{reason}: {rows}")).collect();
            self.verdict = Verdict::Incomplete;
            self.reason = format!(
                "the target holds what the mapping makes of the unit's other rows; {} in quarantine, and nothing is compared of \
                 them; `rehome quarantine list` shows them",
                reasons.join(", ")
            );
        }
        self
    }
}

/// Looks at units.
#[derive(Clone, Copy)]
pub struct Looking<'a> {
    /// The migration.
    pub migration: &'a Migration,
    /// Its target tables.
    pub tables: &'a [TableShape],
    /// What counts as equal; where there is none, what is stored alike.
    pub rules: Option<&'a Ruleset>,
    /// Whom it asks.
    pub witness: &'a dyn Witness,
}

/// Rows that a unit is looked at with, though nothing of its own leads to them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Beside {
    /// Their keys.
    pub keys: BTreeSet<TargetKey>,
    /// Those of them that rehome is known to have written, for whichever unit: rules for rows of someone else hold for none.
    pub ours: BTreeSet<TargetKey>,
}

/// One reading of everything about a unit.
struct Reading {
    live: witness::Reading,
    legacy_rows: u64,
    quarantined: BTreeMap<Box<str>, u64>,
    expected: Vec<TargetRow>,
    logged: Vec<TargetRow>,
    held: Held,
    view: UnitView,
}

/// The target's rows of a unit.
pub(super) struct Held {
    /// Those that are there.
    pub rows: Vec<TargetRow>,
    /// Keys of those that rehome is known to have written.
    ours: BTreeSet<TargetKey>,
}

impl Reading {
    /// Whether the log holds everything that the source's rows were read from.
    fn covered(&self) -> bool {
        let captured = self.view.captured.as_deref().and_then(|position| position.parse::<Lsn>().ok());
        captured.zip(self.live.position).is_some_and(|(captured, read)| captured >= read)
    }

    /// Whether another reading is of the same unit in the same state.
    fn same(&self, other: &Reading) -> bool {
        self.view.offset == other.view.offset
            && self.logged == other.logged
            && self.held.rows == other.held.rows
            && self.live.rows == other.live.rows
    }
}

impl Looking<'_> {
    /// Compares one unit; tries again while changes are on their way, until it is equal, proven different, or patience ends.
    ///
    /// Rows `beside` are the unit's too if the target says so.
    ///
    /// # Errors
    /// When a side cannot be read; that the unit changes faster than it is evaluated is one only if it always does.
    pub async fn unit(&self, unit: &str, beside: &Beside) -> Result<UnitDiff, Error> {
        let mut last = None;
        for attempt in 0..self.witness.attempts(unit) {
            if attempt > 0 {
                self.witness.pause(PAUSE).await;
            }
            let reading = match self.read(unit, beside).await {
                Ok(reading) => reading,
                // Its rows went while they were evaluated.
                Err(error @ Error::Remote(_)) => {
                    last = last.or(Some(Err(error)));
                    continue;
                }
                Err(error) => return Err(error),
            };
            let judged = self.judge(unit, beside, &reading).await?;
            let (verdict, running) = (judged.verdict, reading.view.captured.is_some());
            let described = describe(unit, judged, &reading);
            let parked = described.parked.is_some();
            last = Some(Ok(described));
            // Without a running capture nothing is on its way, so waiting proves no more.
            if verdict != Verdict::Incomplete || !running || parked {
                break;
            }
        }
        last.unwrap_or_else(|| Err(Error::Remote(format!("unit {unit} was not looked at"))))
    }

    /// What the projection knows of a unit.
    pub(super) async fn view(&self, unit: &str) -> Result<UnitView, Error> {
        match self.witness.ask(Request::Unit { unit: unit.to_owned() }).await? {
            Answer::Unit(view) => Ok(*view),
            other => Err(unexpected(other)),
        }
    }

    /// Rows that the mapping makes of what the log tells of a unit, as the target would give them back.
    pub(super) fn logged(&self, view: &UnitView) -> Result<Vec<TargetRow>, Error> {
        Ok(self.witness.as_read(decode_rows(view)?))
    }

    /// The target's rows of a unit: those it owns, those it should have, and those that name it.
    pub(super) async fn held(
        &self,
        unit: &str,
        beside: &Beside,
        view: &UnitView,
        due: [&[TargetRow]; 2],
    ) -> Result<Held, Error> {
        let key_of = |row: &TargetRow| self.tables[usize::from(row.table.0)].key_of(row);
        let written = view_keys(view)?;
        let mut keys = written.clone();
        keys.extend(due.into_iter().flatten().map(key_of));
        let mut asked = keys.clone();
        asked.extend(beside.keys.iter().cloned());
        let Belonging { mut ours, others } = self.witness.belonging(unit, &asked).await?;
        ours.extend(written);
        let belonging = || ours.iter().chain(&others).cloned();
        keys.extend(belonging());
        let rows = self.witness.target(&keys.into_iter().collect::<Vec<_>>()).await?;
        ours.extend(beside.ours.iter().cloned());
        Ok(Held { rows, ours })
    }

    async fn read(&self, unit: &str, beside: &Beside) -> Result<Reading, Error> {
        let live = self.witness.source(unit).await?;
        let evaluation = corpus(self.migration, &live)?.evaluate(self.migration, unit)?;
        let legacy_rows = evaluation.accounts.tables.values().map(|account| account.read).sum();
        let mut quarantined: BTreeMap<Box<str>, u64> = BTreeMap::new();
        for (reason, rows) in evaluation.accounts.tables.values().flat_map(|account| &account.quarantined) {
            *quarantined.entry(reason.clone()).or_default() += rows;
        }
        let expected = self.witness.as_read(evaluation.rows);
        let view = self.view(unit).await?;
        let logged = self.logged(&view)?;
        let held = self.held(unit, beside, &view, [&expected, &logged]).await?;
        Ok(Reading { live, legacy_rows, quarantined, expected, logged, held, view })
    }

    /// Judges a reading; a difference stands only if nothing moved while it was read, and neither did an equality where the
    /// source's rows are read one after the other.
    async fn judge(&self, unit: &str, beside: &Beside, reading: &Reading) -> Result<Judged, Error> {
        let Reading { expected, logged, held: Held { rows: held, ours, .. }, view, .. } = reading;
        let by = By { tables: self.tables, rules: self.rules, ours: Some(ours) };
        let of = |covered| judge(by, expected, logged, held, view, covered);
        let judged = of(reading.covered());
        let apart = reading.live.position.is_none();
        match judged.verdict {
            Verdict::Mismatch => {}
            // What was read is one state of the unit only if it is what the log has, and is there again.
            Verdict::Match if apart => {
                if !(By { ours: None, ..by }).compare(expected, logged).is_empty() {
                    return Ok(judged.unproven());
                }
            }
            Verdict::Match | Verdict::Incomplete => return Ok(judged),
        }
        let again = match self.read(unit, beside).await {
            Ok(again) => again,
            Err(Error::Remote(_)) => return Ok(judged.unproven()),
            Err(error) => return Err(error),
        };
        let still = again.same(reading) && !again.view.dirty;
        Ok(if still { of(reading.covered() && again.covered()) } else { judged.unproven() })
    }
}

/// What was read, with every row in its place.
pub(super) fn corpus(migration: &Migration, reading: &witness::Reading) -> Result<Corpus, Error> {
    let mut rows = Vec::new();
    for ((place, table), definition) in (0..).zip(&reading.rows).zip(migration.source_tables()) {
        for values in table {
            let key = Key(definition.key.iter().map(|&column| values[column].clone()).collect());
            rows.push((SourceTable(place), SourceRow { key, values: values.clone() }));
        }
    }
    Ok(Corpus::place(migration, rows)?)
}

/// Whether waivers excuse all that a row differs in.
fn excused(rules: &TableRules, row: &RowDifference) -> bool {
    let uses = &mut Uses::default();
    match (&row.expected, &row.actual) {
        (Some(expected), Some(actual)) => match rules.compare(expected, actual, row.pair, uses) {
            Comparison::Different(fields) => fields.iter().all(|field| field.waived.is_some()),
            Comparison::Equal | Comparison::Tolerated(_) => false,
        },
        (Some(expected), None) => rules.waiver(Finding::Missing, expected, uses).is_some(),
        (None, Some(actual)) => rules.waiver(Finding::Extra, actual, uses).is_some(),
        (None, None) => false,
    }
}

fn describe(unit: &str, judged: Judged, reading: &Reading) -> UnitDiff {
    let parked = match reading.view.result.as_ref().map(|result| &result.status) {
        Some(Status::Parked { reason, .. }) => Some(reason.clone()),
        _ => None,
    };
    let reason = match (judged.verdict, &parked) {
        (Verdict::Match, _) => "the target holds what the mapping makes of the source's rows".to_owned(),
        (Verdict::Mismatch | Verdict::Incomplete, Some(reason)) => format!("the unit is in quarantine: {reason}"),
        (Verdict::Mismatch, None) => "proven: nothing was on its way while both sides were read; \
                `rehome quarantine retry` writes all of the unit again"
            .to_owned(),
        (Verdict::Incomplete, _) if !reading.view.known => "unproven: the log does not tell of this unit yet".to_owned(),
        (Verdict::Incomplete, _) if reading.view.captured.is_none() => {
            "unproven: no capture is running, or it has not copied everything yet, so a change may not be in the log; `rehome run` \
             brings it, `rehome status` shows how far it is"
                .to_owned()
        }
        (Verdict::Incomplete, _) if reading.live.position.is_none() => {
            "unsettled: source, log and target were not found equal twice with no change between; the source's tables tell \
                 no position by which more could be proven: ask again when the unit is quiet"
                .to_owned()
        }
        (Verdict::Incomplete, _) => "unproven: changes of this unit are still on their way".to_owned(),
    };
    UnitDiff {
        unit: unit.to_owned(),
        verdict: judged.verdict,
        reason,
        position: reading.live.position,
        legacy_rows: reading.legacy_rows,
        expected_rows: reading.expected.len() as u64,
        actual_rows: reading.held.rows.len() as u64,
        differences: judged.differences,
        unproven: judged.beside,
        parked,
        quarantined: reading.quarantined.clone(),
        waived: Vec::new(),
    }
}

/// Keys that the unit was written under, where the target keeps no record of that.
fn view_keys(view: &UnitView) -> Result<BTreeSet<TargetKey>, Error> {
    let decode = |(table, text): &(u16, String)| {
        let values = Key::decode(&from_hex(text)?).ok()?.0;
        Some(TargetKey::new(TargetTable(*table), values))
    };
    let keys: Option<BTreeSet<TargetKey>> = view.owned.iter().map(decode).collect();
    keys.ok_or_else(|| Error::Remote("the running process sent keys that do not read".to_owned()))
}

fn decode_rows(view: &UnitView) -> Result<Vec<TargetRow>, Error> {
    let decode = |(table, text): &(u16, String)| {
        let values = Key::decode(&from_hex(text)?).ok()?.0;
        Some(TargetRow { table: TargetTable(*table), values })
    };
    let rows: Option<Vec<TargetRow>> = view.rows.iter().map(decode).collect();
    rows.ok_or_else(|| Error::Remote("the running process sent rows that do not read".to_owned()))
}

//! Legacy rows and live changes from a seed: no clock, no other source of chance, so a seed names its data for ever.
//!
//! What is made stands in a scenario file of the migration (`raw.rs` is its form, `template.rs` its language); nothing
//! here knows a migration (I11). Each unit and each live transaction draws from a stream of its own, so that they can be
//! made in any order and alone. Scenarios are dealt from shuffled decks rather than drawn by chance: among as many units
//! as the deck has cards, each scenario occurs exactly as often as its weight says, so small data sets show all of them.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;
use rand::Rng as _;
use rand::SeedableRng as _;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;

use super::error::Error;
use super::items::{Action as ItemAction, ItemChange, ItemTransaction};
use super::raw::{self, End, NewUnit, Which};
use super::rows::{TableRows, quote_identifier};
use super::scenario::{Action, Live, Prototype, Scenario, Step, Times};
use super::template::{Scope, Template};
use super::value::{Value, quote_literal};

/// Name of the scenario file in a migration's demo folder.
const FILE: &str = "scenarios.toml";

/// Units of one batch of [`Generator::initial`]: some thousand rows, so that a batch is worth its COPY.
const BATCH_UNITS: u64 = 200;

/// Units that live transactions write are numbered from here, far above those of the initial load.
const LIVE_UNITS: u64 = 1 << 40;

/// Numbers of units that live transactions write begin here: above those of any initial load, and in 32 bits.
const LIVE_NUMBERS: u64 = 1_000_000_000;

/// Serials of live transactions begin with this number, above those of all units.
const LIVE_SERIALS: u64 = 2 * LIVE_NUMBERS;

/// How far back a live transaction looks for a unit that another one wrote.
const LIVE_REACH: u64 = 50;

/// Microseconds of a millisecond.
const MICROS_PER_MILLI: i64 = 1_000;

/// What a stream of random numbers is for; streams of different purpose have nothing in common.
#[derive(Debug, Clone, Copy)]
enum Purpose {
    Key = 0,
    Rows = 1,
    Live = 2,
    Deck = 3,
    LiveDeck = 4,
}

/// Bits of a stream's number that hold its purpose.
const PURPOSE_BITS: u32 = 3;

/// One transaction of a live writer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// Name of what it does.
    pub name: String,
    /// Its statements, in order.
    pub statements: Vec<String>,
    /// How it ends.
    pub end: End,
}

/// Makes rows and transactions; always the same ones for a seed.
#[derive(Debug)]
pub struct Generator {
    place: String,
    seed: u64,
    start_micros: i64,
    spacing_micros: i64,
    unit: Template,
    session: BTreeMap<String, String>,
    lists: BTreeMap<String, Vec<String>>,
    prototypes: Vec<Prototype>,
    scenarios: Vec<Scenario>,
    deck: Vec<usize>,
    live: Vec<Live>,
    live_deck: Vec<usize>,
}

/// A row as a scenario makes it.
#[derive(Debug, Clone)]
struct MadeRow {
    /// Index of its prototype.
    prototype: usize,
    /// A value for each column of the prototype.
    values: Vec<Value>,
}

impl Generator {
    /// Reads the scenario file of a demo folder.
    pub fn load(folder: &Path, seed: u64) -> Result<Self, Error> {
        let path = folder.join(FILE);
        let text = std::fs::read_to_string(&path).map_err(|source| Error::Read { path: path.clone(), source })?;
        Self::parse(&text, &path, seed)
    }

    /// Parses the text of a scenario file; `path` is for errors.
    pub fn parse(text: &str, path: &Path, seed: u64) -> Result<Self, Error> {
        let file: raw::File =
            toml::from_str(text).map_err(|source| Error::Parse { path: path.to_owned(), source: Box::new(source) })?;
        let place = path.display().to_string();
        let wrong = |problem: String| Error::Template { place: place.clone(), problem };
        let start: Timestamp = file.start.parse().map_err(|_| wrong("`start` is not an RFC 3339 time".to_owned()))?;
        let prototypes = file.rows.into_iter().map(Prototype::parse).collect::<Result<Vec<_>, _>>().map_err(&wrong)?;
        let deck = deck_of(file.scenario.iter().map(|scenario| scenario.weight));
        let live_deck = deck_of(file.live.iter().map(|live| live.weight));
        if deck.is_empty() {
            return Err(wrong("no scenario has a weight above 0".to_owned()));
        }
        let scenario = |raw| Scenario::parse(raw, &prototypes);
        let scenarios = file.scenario.into_iter().map(scenario).collect::<Result<Vec<_>, _>>().map_err(&wrong)?;
        let live = file
            .live
            .into_iter()
            .map(|raw| Live::parse(raw, &prototypes))
            .collect::<Result<Vec<_>, _>>()
            .map_err(&wrong)?;
        let unit = Template::parse(&file.unit).map_err(|problem| wrong(format!("`unit`: {problem}")))?;
        Ok(Self {
            seed,
            start_micros: start.as_microsecond(),
            spacing_micros: file.spacing_ms.saturating_mul(MICROS_PER_MILLI),
            unit,
            session: file.session,
            lists: file.lists,
            prototypes,
            scenarios,
            deck,
            live,
            live_deck,
            place,
        })
    }

    /// Statements that every connection which writes runs first.
    pub fn session(&self) -> Vec<String> {
        let set =
            |(name, value): (&String, &String)| format!("SET {} = {}", quote_identifier(name), quote_literal(value));
        self.session.iter().map(set).collect()
    }

    /// Names of the scenarios with the number of units of each among the first `units`.
    pub fn scenario_counts(&self, units: u64) -> BTreeMap<&str, u64> {
        let mut counts = BTreeMap::new();
        for index in 0..units {
            *counts.entry(self.scenarios[self.card(&self.deck, Purpose::Deck, index)].name.as_str()).or_default() += 1;
        }
        counts
    }

    /// The rows of the first `units` units, in batches, each with the tables in the order in which scenarios fill them.
    pub fn initial(&self, units: u64) -> impl Iterator<Item = Result<Vec<TableRows>, Error>> {
        (0..units.div_ceil(BATCH_UNITS)).map(move |batch| {
            let first = batch * BATCH_UNITS;
            let mut rows = Vec::new();
            for index in first..units.min(first + BATCH_UNITS) {
                rows.extend(self.unit_rows(index, index)?.0);
            }
            Ok(self.by_table(rows))
        })
    }

    /// The items of one of the first units, in the order in which its scenario makes them.
    pub fn initial_items(&self, unit: u64) -> Result<Vec<ItemChange>, Error> {
        let (rows, _) = self.unit_rows(unit, unit)?;
        Ok(rows.iter().map(|row| self.item(row, ItemAction::Put)).collect())
    }

    /// The live transaction number `step`, over a store that was loaded with `units` units and saw the steps before.
    /// `None` when the file names no live transactions.
    pub fn live(&self, step: u64, units: u64) -> Result<Option<Transaction>, Error> {
        let Some((live, _, mut scope)) = self.live_scope(step, units)? else { return Ok(None) };
        let wrong = |problem| self.wrong(&live.name, problem);
        scope.assign(&live.variables).map_err(wrong)?;
        let mut statements = Vec::new();
        if live.unit == NewUnit::New {
            let (rows, _) = self.unit_rows(LIVE_UNITS + step, units + step)?;
            statements.extend(self.by_table(rows).iter().map(TableRows::insert_statement));
        }
        for template in &live.sql {
            statements.push(template.sql(&mut scope).map_err(wrong)?);
        }
        Ok(Some(Transaction { name: live.name.clone(), statements, end: live.end }))
    }

    /// As [`live`](Self::live), for a store of items: what is done to them one after the other.
    ///
    /// Items are found by making the unit's again, so a change sees the variables of its scenario too. It may write again
    /// what an earlier step deleted, as writers of whole items do.
    pub fn live_items(&self, step: u64, units: u64) -> Result<Option<ItemTransaction>, Error> {
        let Some((live, unit, mut scope)) = self.live_scope(step, units)? else { return Ok(None) };
        let wrong = |problem| self.wrong(&live.name, problem);
        let mut changes = Vec::new();
        if live.unit == NewUnit::New {
            let (rows, _) = self.unit_rows(LIVE_UNITS + step, units + step)?;
            changes.extend(rows.iter().map(|row| self.item(row, ItemAction::Put)));
        }
        if !live.items.is_empty() {
            let made_at = if unit < LIVE_UNITS { unit } else { units + unit - LIVE_UNITS };
            let (rows, variables) = self.unit_rows(unit, made_at)?;
            scope.variables.extend(variables);
            scope.assign(&live.variables).map_err(wrong)?;
            for change in &live.items {
                let mut found: Vec<&MadeRow> = rows.iter().filter(|row| row.prototype == change.prototype).collect();
                if change.which == Which::One && !found.is_empty() {
                    found = vec![found[scope.random.random_range(0..found.len())]];
                }
                for row in found {
                    let mut row = row.clone();
                    for (position, node) in &change.set {
                        row.values[*position] = node.evaluate(&mut scope).map_err(wrong)?;
                    }
                    changes.push(self.item(&row, change.action));
                }
            }
        }
        Ok(Some(ItemTransaction { name: live.name.clone(), changes }))
    }

    /// What a live transaction does, to which unit, and what its templates are evaluated in.
    fn live_scope(&self, step: u64, units: u64) -> Result<Option<(&Live, u64, Scope<'_>)>, Error> {
        if self.live_deck.is_empty() {
            return Ok(None);
        }
        let live = &self.live[self.card(&self.live_deck, Purpose::LiveDeck, step)];
        let mut scope = self.scope(Purpose::Live, step, units + step);
        let unit = self.existing_unit(&mut scope.random, step, units);
        let other = self.existing_unit(&mut scope.random, step, units);
        self.name_units(&mut scope, unit, other)?;
        Ok(Some((live, unit, scope)))
    }

    /// Gives a scope the variables that every one has.
    fn name_units(&self, scope: &mut Scope<'_>, unit: u64, other: u64) -> Result<(), Error> {
        scope.variables.insert("unit".to_owned(), self.unit_key(unit)?);
        scope.variables.insert("other".to_owned(), self.unit_key(other)?);
        scope.variables.insert("number".to_owned(), Value::Json(number(unit).to_string()));
        Ok(())
    }

    /// Key of a unit: of the initial load, or of a live transaction.
    fn unit_key(&self, index: u64) -> Result<Value, Error> {
        let mut scope = self.scope(Purpose::Key, index, index);
        scope.variables.insert("number".to_owned(), Value::Json(number(index).to_string()));
        self.unit.evaluate(&mut scope).map_err(|problem| self.wrong("unit", problem))
    }

    /// A unit that is there when a live transaction runs: of the initial load, or a new one of a step before.
    fn existing_unit(&self, random: &mut ChaCha8Rng, step: u64, units: u64) -> u64 {
        let earlier = step.saturating_sub(random.random_range(1..=LIVE_REACH));
        let initial = random.random_range(0..units.max(1));
        let card = self.card(&self.live_deck, Purpose::LiveDeck, earlier);
        let is_new = earlier < step && self.live[card].unit == NewUnit::New && self.live[card].end == End::Commit;
        if is_new && random.random_bool(0.5) { LIVE_UNITS + earlier } else { initial }
    }

    /// The rows of a unit, and the variables of its scenario; `moment` places it in time.
    fn unit_rows(&self, index: u64, moment: u64) -> Result<(Vec<MadeRow>, BTreeMap<String, Value>), Error> {
        let scenario = &self.scenarios[self.card(&self.deck, Purpose::Deck, index)];
        let wrong = |problem| self.wrong(&scenario.name, problem);
        let mut scope = self.scope(Purpose::Rows, index, moment);
        let other = if index == 0 { 0 } else { scope.random.random_range(0..index) };
        self.name_units(&mut scope, index, other)?;
        scope.assign(&scenario.variables).map_err(wrong)?;
        let mut rows = Vec::new();
        self.run(&scenario.steps, &mut scope, &mut rows).map_err(wrong)?;
        Ok((rows, scope.variables))
    }

    /// Runs steps, which add rows.
    fn run(&self, steps: &[Step], scope: &mut Scope<'_>, rows: &mut Vec<MadeRow>) -> Result<(), String> {
        for step in steps {
            let items = match &step.times {
                Times::Once => vec![None],
                Times::Repeat(times) => vec![Some(Value::Null); *times as usize],
                Times::Each(name) => match scope.variable(name)? {
                    Value::List(items) => items.iter().cloned().map(Some).collect(),
                    _ => return Err(format!("`{name}` of `each` is not a list")),
                },
            };
            for (index, item) in items.into_iter().enumerate() {
                // A step that is done once leaves the numbers of the repetition around it alone.
                if let Some(item) = item {
                    scope.variables.insert("index".to_owned(), Value::Json(index.to_string()));
                    if let Times::Each(_) = step.times {
                        scope.variables.insert("item".to_owned(), item);
                    }
                }
                scope.assign(&step.variables)?;
                match &step.action {
                    Action::Group(steps) => self.run(steps, scope, rows)?,
                    Action::Row { prototype, set } => {
                        let values = self.prototypes[*prototype].row(set, scope)?;
                        rows.push(MadeRow { prototype: *prototype, values });
                    }
                }
            }
        }
        Ok(())
    }

    /// Groups rows by prototype, in the order of first appearance.
    fn by_table(&self, rows: Vec<MadeRow>) -> Vec<TableRows> {
        let mut order: Vec<usize> = Vec::new();
        let mut grouped: BTreeMap<usize, Vec<Vec<Option<String>>>> = BTreeMap::new();
        for MadeRow { prototype, values } in rows {
            if !grouped.contains_key(&prototype) {
                order.push(prototype);
            }
            grouped.entry(prototype).or_default().push(values.iter().map(Value::column).collect());
        }
        let table = |index: usize| {
            let prototype = &self.prototypes[index];
            let columns = prototype.columns.iter().map(|(name, _)| name.clone()).collect();
            TableRows { table: prototype.table.clone(), columns, rows: grouped.remove(&index).unwrap_or_default() }
        };
        order.into_iter().map(table).collect()
    }

    /// A row as an item.
    fn item(&self, row: &MadeRow, action: ItemAction) -> ItemChange {
        let prototype = &self.prototypes[row.prototype];
        let named = prototype.columns.iter().zip(&row.values);
        let item = named.filter_map(|((name, _), value)| Some((name.clone(), value.attribute()?))).collect();
        ItemChange { table: prototype.table.clone(), item, action }
    }

    /// The card at a place of the endless row of shuffled decks.
    fn card(&self, deck: &[usize], purpose: Purpose, index: u64) -> usize {
        let length = deck.len() as u64;
        let mut cards = deck.to_vec();
        cards.shuffle(&mut self.stream(purpose, index / length));
        // The remainder is below the deck's length, which is a `usize`.
        cards[usize::try_from(index % length).unwrap_or_default()]
    }

    fn scope(&self, purpose: Purpose, index: u64, moment: u64) -> Scope<'_> {
        let moment = i64::try_from(moment).unwrap_or(i64::MAX);
        Scope {
            random: self.stream(purpose, index),
            clock_micros: self.start_micros.saturating_add(self.spacing_micros.saturating_mul(moment)),
            number: match purpose {
                Purpose::Live => LIVE_SERIALS + index,
                _ => number(index),
            },
            serials: 0,
            lists: &self.lists,
            variables: BTreeMap::new(),
        }
    }

    fn stream(&self, purpose: Purpose, index: u64) -> ChaCha8Rng {
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        random.set_stream(index << PURPOSE_BITS | purpose as u64);
        random
    }

    fn wrong(&self, part: &str, problem: String) -> Error {
        Error::Template { place: format!("{}: {part}", self.place), problem }
    }
}

/// Number of a unit, from 1.
fn number(index: u64) -> u64 {
    if index < LIVE_UNITS { index + 1 } else { LIVE_NUMBERS + index - LIVE_UNITS }
}

/// Each index as often as its weight says.
fn deck_of(weights: impl Iterator<Item = u32>) -> Vec<usize> {
    weights.enumerate().flat_map(|(index, weight)| std::iter::repeat_n(index, weight as usize)).collect()
}

#[cfg(test)]
mod tests;

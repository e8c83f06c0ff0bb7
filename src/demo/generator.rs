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
use super::raw::{self, End, NewUnit};
use super::rows::{TableRows, quote_identifier};
use super::scenario::{Action, Live, Prototype, Scenario, Step, Times};
use super::template::{Scope, Template, Value, quote_literal};

/// Name of the scenario file in a migration's demo folder.
const FILE: &str = "scenarios.toml";

/// Units of one batch of [`Generator::initial`]: some thousand rows, so that a batch is worth its COPY.
const BATCH_UNITS: u64 = 200;

/// Units that live transactions write are numbered from here, far above those of the initial load.
const LIVE_UNITS: u64 = 1 << 40;

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
#[derive(Debug)]
struct MadeRow {
    /// Index of its prototype.
    prototype: usize,
    /// A value for each column of the prototype.
    values: Vec<Option<String>>,
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
        let live = file.live.into_iter().map(Live::parse).collect::<Result<Vec<_>, _>>().map_err(&wrong)?;
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
                rows.extend(self.unit_rows(index, index)?);
            }
            Ok(self.by_table(rows))
        })
    }

    /// The live transaction number `step`, over a store that was loaded with `units` units and saw the steps before.
    /// `None` when the file names no live transactions.
    pub fn live(&self, step: u64, units: u64) -> Result<Option<Transaction>, Error> {
        if self.live_deck.is_empty() {
            return Ok(None);
        }
        let live = &self.live[self.card(&self.live_deck, Purpose::LiveDeck, step)];
        let wrong = |problem| self.wrong(&live.name, problem);
        let mut scope = self.scope(Purpose::Live, step, units + step);
        let unit = self.existing_unit(&mut scope.random, step, units)?;
        let other = self.existing_unit(&mut scope.random, step, units)?;
        scope.variables.insert("unit".to_owned(), Value::Text(unit));
        scope.variables.insert("other".to_owned(), Value::Text(other));
        scope.assign(&live.variables).map_err(wrong)?;
        let mut statements = Vec::new();
        if live.unit == NewUnit::New {
            let rows = self.unit_rows(LIVE_UNITS + step, units + step)?;
            statements.extend(self.by_table(rows).iter().map(TableRows::insert_statement));
        }
        for template in &live.sql {
            statements.push(template.sql(&mut scope).map_err(wrong)?);
        }
        Ok(Some(Transaction { name: live.name.clone(), statements, end: live.end }))
    }

    /// Key of a unit: of the initial load, or of a live transaction.
    fn unit_key(&self, index: u64) -> Result<String, Error> {
        let mut scope = self.scope(Purpose::Key, index, index);
        let key = self.unit.evaluate(&mut scope).map_err(|problem| self.wrong("unit", problem))?;
        Ok(key.text().to_owned())
    }

    /// Key of a unit that is there when a live transaction runs: of the initial load, or a new one of a step before.
    fn existing_unit(&self, random: &mut ChaCha8Rng, step: u64, units: u64) -> Result<String, Error> {
        let earlier = step.saturating_sub(random.random_range(1..=LIVE_REACH));
        let initial = random.random_range(0..units.max(1));
        let card = self.card(&self.live_deck, Purpose::LiveDeck, earlier);
        let is_new = earlier < step && self.live[card].unit == NewUnit::New && self.live[card].end == End::Commit;
        self.unit_key(if is_new && random.random_bool(0.5) { LIVE_UNITS + earlier } else { initial })
    }

    /// The rows of a unit; `moment` places it in time.
    fn unit_rows(&self, index: u64, moment: u64) -> Result<Vec<MadeRow>, Error> {
        let scenario = &self.scenarios[self.card(&self.deck, Purpose::Deck, index)];
        let wrong = |problem| self.wrong(&scenario.name, problem);
        let mut scope = self.scope(Purpose::Rows, index, moment);
        let other = if index == 0 { 0 } else { scope.random.random_range(0..index) };
        let unit = Value::Text(self.unit_key(index)?);
        scope.variables.insert("unit".to_owned(), unit);
        scope.variables.insert("other".to_owned(), Value::Text(self.unit_key(other)?));
        scope.assign(&scenario.variables).map_err(wrong)?;
        let mut rows = Vec::new();
        self.run(&scenario.steps, &mut scope, &mut rows).map_err(wrong)?;
        Ok(rows)
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
            grouped.entry(prototype).or_default().push(values);
        }
        let table = |index: usize| {
            let prototype = &self.prototypes[index];
            let columns = prototype.columns.iter().map(|(name, _)| name.clone()).collect();
            TableRows { table: prototype.table.clone(), columns, rows: grouped.remove(&index).unwrap_or_default() }
        };
        order.into_iter().map(table).collect()
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

/// Each index as often as its weight says.
fn deck_of(weights: impl Iterator<Item = u32>) -> Vec<usize> {
    weights.enumerate().flat_map(|(index, weight)| std::iter::repeat_n(index, weight as usize)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        start = "2025-01-01T00:00:00Z"
        spacing_ms = 1000
        unit = "order-{{hex 6}}"
        session = { search_path = "it's" }

        [lists]
        words = ["a", "bé", "c'd"]

        [rows.order]
        table = "orders"
        columns = { id = "{{unit}}", at = "{{later 1 9}}", note = "{{words 1 3}}", body = { n = "{{int 1 3}}", s = "{{hex 2}}!", gone = "{{absent}}", nil = "{{null}}" } }

        [rows.line]
        table = "order lines"
        columns = { id = "{{uuid}}", order = "{{unit}}", number = "{{index}}", piece = "{{item}}", wrapped = "{{quote whole}}" }

        [[scenario]]
        name = "common"
        weight = 9
        let = { whole = "tab\tback\\slash", pieces = "{{split whole 4}}" }
        steps = [{ row = "order" }, { row = "line", each = "pieces" }]

        [[scenario]]
        name = "rare"
        weight = 1
        let = { whole = "x", item = "y" }
        steps = [{ row = "order", set = { note = "{{null}}" } }, { repeat = 2, steps = [{ row = "line", repeat = 3 }] }]

        [[live]]
        name = "new"
        weight = 1
        unit = "new"

        [[live]]
        name = "change"
        weight = 2
        sql = ["UPDATE orders SET note = {{pick words}} WHERE id = {{unit}}"]
        end = "rollback"
    "#;

    fn generator(seed: u64) -> Generator {
        Generator::parse(FILE, Path::new("demo.toml"), seed).expect("the file is right")
    }

    fn all(seed: u64, units: u64) -> Vec<Vec<TableRows>> {
        generator(seed).initial(units).map(|batch| batch.expect("templates evaluate")).collect()
    }

    fn refused(change: (&str, &str)) -> String {
        assert!(FILE.contains(change.0), "the change applies");
        let text = FILE.replacen(change.0, change.1, 1);
        Generator::parse(&text, Path::new("demo.toml"), 1)
            .and_then(|generator| generator.initial(10).collect::<Result<Vec<_>, _>>())
            .expect_err("the file is wrong")
            .to_string()
    }

    #[test]
    fn a_seed_names_its_rows_and_transactions_and_another_seed_others() {
        assert_eq!(all(7, 450), all(7, 450));
        assert_ne!(all(7, 450), all(8, 450));
        let live = |seed| (0..60).map(|step| generator(seed).live(step, 10).expect("it evaluates")).collect::<Vec<_>>();
        assert_eq!(live(7), live(7));
        assert_ne!(live(7), live(8));
    }

    #[test]
    fn more_units_do_not_change_the_ones_before() {
        let (few, many) = (all(7, 200), all(7, 400));
        assert_eq!(few[0], many[0]);
    }

    #[test]
    fn a_deck_deals_each_scenario_as_often_as_its_weight() {
        let generator = generator(3);
        let counts = generator.scenario_counts(50);
        assert_eq!((counts["common"], counts["rare"]), (45, 5));
    }

    #[test]
    fn values_keep_their_kind_in_json_and_null_apart_from_absent() {
        let batch = &all(1, 1)[0][0];
        assert_eq!(batch.table, "orders");
        let body: serde_json::Value =
            serde_json::from_str(batch.rows[0][3].as_deref().expect("it is filled")).expect("it is JSON");
        assert!(body["n"].is_u64() && body["s"].is_string() && body["nil"].is_null(), "{body}");
        assert!(body.get("gone").is_none() && body.get("nil").is_some(), "{body}");
    }

    #[test]
    fn pieces_join_to_the_whole_and_copy_escapes_what_it_must() {
        let batches = generator(1).initial(10).collect::<Result<Vec<_>, _>>().expect("templates evaluate");
        let lines = batches[0].iter().find(|rows| rows.table == "order lines").expect("units have lines");
        let first = lines.rows[0][1].clone();
        let pieces = lines.rows.iter().filter(|row| row[1] == first).filter_map(|row| row[3].clone());
        let joined: String = pieces.collect();
        assert!(joined == "tab\tback\\slash" || joined == "yyyyyy", "{joined}");
        assert!(lines.copy_text().contains("tab\\t\t"), "a tab inside a value is escaped, one between values is not");
        assert!(lines.copy_text().lines().all(|line| line.split('\t').count() == 5), "five columns a line");
        assert_eq!(
            lines.copy_statement(),
            r#"COPY "order lines" ("id", "order", "number", "piece", "wrapped") FROM STDIN"#
        );
    }

    #[test]
    fn live_statements_quote_what_they_fill_in_and_reach_units_that_exist() {
        let generator = generator(5);
        let known: Vec<String> = (0..20).map(|index| generator.unit_key(index).expect("it evaluates")).collect();
        let mut names = BTreeMap::new();
        for step in 0..30 {
            let transaction = generator.live(step, 20).expect("it evaluates").expect("the file has live ones");
            *names.entry(transaction.name.clone()).or_insert(0) += 1;
            if transaction.name == "new" {
                assert!(
                    transaction.statements[0].starts_with("INSERT INTO \"orders\""),
                    "{:?}",
                    transaction.statements
                );
                continue;
            }
            assert_eq!(transaction.end, End::Rollback);
            let statement = &transaction.statements[0];
            let key = statement.rsplit('\'').nth(1).expect("the key is quoted").to_owned();
            let is_live = (0..step).any(|step| generator.unit_key(LIVE_UNITS + step).is_ok_and(|live| live == key));
            assert!(known.contains(&key) || is_live, "{statement}");
            assert!(["'a'", "'bé'", "'c''d'"].iter().any(|word| statement.contains(word)), "{statement}");
        }
        assert_eq!(names, BTreeMap::from([("new".to_owned(), 10), ("change".to_owned(), 20)]));
        assert_eq!(generator.session(), [r#"SET "search_path" = 'it''s'"#]);
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        let cases = [
            (("{{uuid}}", "{{uuid 4}}"), "neither a variable nor a known call"),
            (("{{uuid}}", "{{nobody}}"), "no variable `nobody`"),
            (("{{uuid}}", "{{uuid"), "without"),
            (("{{uuid}}", "{{int 3 1}}"), "empty"),
            (("{{uuid}}", "{{pick nothing}}"), "no list `nothing`"),
            (("each = \"pieces\"", "each = \"whole\""), "not a list"),
            (("set = { note", "set = { other"), "no column `other`"),
            (("{ row = \"line\", repeat", "{ row = \"none\", repeat"), "no row prototype `none`"),
        ];
        for (change, expected) in cases {
            let message = refused(change);
            assert!(message.contains(expected) && message.contains("demo.toml"), "{change:?}: {message}");
        }
    }
}

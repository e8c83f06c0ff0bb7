//! Two small tables, one of each store, and rules for them.

use jiff::civil::{Date, date};
use rehome::event::{Decimal, Float, Timestamp, Value};
use rehome::mapping::{LoadError, Migration, SourceFile, Sources};
use rehome::rules::{Pair, Ruleset, TableRules, Uses};
use rehome::target::{TargetRow, TargetTable};

/// The day on which rules are read.
pub const TODAY: Date = date(2026, 6, 1);

/// Columns of every kind, in the order of rows.
pub const COLUMNS: [&str; 10] = ["id", "name", "note", "amount", "ratio", "at", "body", "raw", "token", "flag"];

const LEGACY: &str = r#"
source = "postgres"
[table.things]
key = ["id"]
role = "unit"
unit_lookup = "key"
[table.things.columns]
id = "bigint not null"
name = "text"
note = "text"
amount = "numeric"
ratio = "double precision"
at = "timestamptz"
body = "jsonb"
raw = "bytea"
token = "uuid"
flag = "boolean"
"#;

const MAPPING: &str = r#"
migration = "bench"
namespace = "0d1f6c5e-0000-5000-8000-000000000002"
foreign = "row"
[unit]
things = "id"
[quarantine]
not_storable = "unit"
unreadable_json = "unit"
key_collision = "unit"
[[map]]
from = "things"
to = "things"
columns = { id = ".id", name = ".name", note = ".note", amount = ".amount", ratio = ".ratio", at = ".at", body = ".body", raw = ".raw", token = ".token", flag = ".flag" }
"#;

const TARGET: &str = "CREATE TABLE things (id bigint PRIMARY KEY, name text, note text, amount numeric, \
    ratio double precision, at timestamptz, body jsonb, raw bytea, token uuid, flag boolean);";

/// A migration of one Postgres table with a column of every kind.
pub fn postgres() -> Migration {
    let file = |name: &str, text: &str| SourceFile::new(format!("bench/{name}"), text);
    let sources = Sources {
        legacy: file("legacy.toml", LEGACY),
        mapping: file("mapping.toml", MAPPING),
        target: file("target.sql", TARGET),
        cases: Vec::new(),
    };
    Migration::compile(&sources).unwrap_or_else(|error| panic!("{error}"))
}

/// A migration of DynamoDB tables; the first target table has the key (`owner`, `at`).
pub fn dynamo() -> Migration {
    crate::support::load("tests/data/copy")
}

/// Rules for a migration, as text.
pub fn read(migration: &Migration, text: &str) -> Result<Ruleset, LoadError> {
    let text = format!("migration = \"{}\"\n{text}", migration.name());
    Ruleset::read(&SourceFile::new("reconcile-rules/bench.toml", text), migration, TODAY)
}

/// Rules for a migration that read.
pub fn rules(migration: &Migration, text: &str) -> Ruleset {
    read(migration, text).unwrap_or_else(|error| panic!("{error}"))
}

/// The table that rows of these tests are of.
pub const FIRST: TargetTable = TargetTable(0);

/// A row of the Postgres table, by columns that are not NULL.
pub fn row(cells: &[(&str, Value)]) -> TargetRow {
    let mut values = vec![Value::Null; COLUMNS.len()];
    values[0] = Value::Int(1);
    for (name, value) in cells {
        values[COLUMNS.iter().position(|column| column == name).expect("a column")] = value.clone();
    }
    TargetRow { table: FIRST, values }
}

/// A row of the DynamoDB table, by attributes beside the key.
pub fn item(attributes: &[(&str, Value)]) -> TargetRow {
    let key = [("owner", Value::text("o")), ("at", decimal("1"))];
    let item = key.iter().chain(attributes).map(|(name, value)| (Box::from(*name), value.clone())).collect();
    TargetRow { table: FIRST, values: vec![Value::text("o"), decimal("1"), Value::Map(item)] }
}

/// What a row is compared as.
pub fn strict(rules: &TableRules, row: &TargetRow) -> Vec<u8> {
    let mut out = Vec::new();
    rules.strict(row, Pair::Key, &mut Uses::new(), &mut out);
    out
}

/// What a row is compared as without tolerated fields.
pub fn tolerant(rules: &TableRules, row: &TargetRow) -> Vec<u8> {
    let mut out = Vec::new();
    rules.tolerant(row, Pair::Key, &mut out);
    out
}

pub fn decimal(text: &str) -> Value {
    Value::Decimal(Decimal::parse(text).expect("a decimal"))
}

pub fn float(number: f64) -> Value {
    Value::Float(Float(number))
}

pub fn json(text: &str) -> Value {
    Value::Json(text.into())
}

/// So many microseconds after 1970.
pub fn time(us: i128) -> Value {
    Value::Timestamp(Timestamp::from_unix_us(us).expect("a time"))
}

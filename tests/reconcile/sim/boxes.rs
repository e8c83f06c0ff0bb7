//! The migration of the simulation: boxes with items, row by row with their box's label, and with marks, in groups, whose sum the
//! box shows. So a part is one row, several, or the whole of a unit; some rows show what others say, some what others add up to.

use std::sync::Arc;

use rehome::event::Value;
use rehome::mapping::{Migration, SourceFile, Sources};
use rehome::rules::Ruleset;
use rehome::target::TargetRow;

/// Indexes of the source tables, and of the target tables that their rows go to.
pub const BOXES: usize = 0;
pub const ITEMS: usize = 1;
pub const MARKS: usize = 2;

/// The column of the items' target that a rule leaves out.
pub const SEEN: usize = 4;

const LEGACY: &str = r#"
source = "postgres"

[table.boxes]
key = ["box"]
role = "unit"
unit_lookup = "key"
columns = { box = "text not null", label = "text" }

[table.items]
key = ["id"]
role = "unit"
unit_lookup = "scan"
columns = { id = "bigint not null", box = "text not null", note = "text" }

[table.marks]
key = ["id"]
role = "unit"
unit_lookup = "scan"
columns = { id = "bigint not null", box = "text not null", tag = "text not null", n = "bigint not null" }
"#;

const MAPPING: &str = r#"
migration = "boxes"
namespace = "0f4c2a9e-0000-5000-8000-000000000001"
foreign = "row"

[unit]
boxes = "box"
items = "box"
marks = "box"

[part]
items = []
marks = [".tag"]

[quarantine]
not_storable = "row"
unreadable_json = "row"
key_collision = "row"
number_out_of_range = "unit"

[total]
marks = "what the marks of a box come to"

[reference.box]
table = "boxes"
match = [".box"]
select = { label = ".label" }
by.items = [".box"]

[[map]]
from = "boxes"
to = "boxes_new"
columns = { box = ".box", label = ".label", total = { total = "marks", refuse = "number_out_of_range" } }

[[map]]
from = "items"
to = "items_new"
columns = { box = ".box", id = ".id", note = ".note", label = "@box.label" }
left = { seen = "the application notes there who looked at it" }

[[group]]
from = "marks"
to = "tags_new"
order = [".id"]
totals = { marks = ".n" }
columns = { box = "@unit", tag = ".tag", total = { sum = ".n", refuse = "number_out_of_range" }, last = { of_last = ".n" } }
"#;

const TARGET: &str = "\
    create table boxes_new (box text, label text, total bigint, primary key (box)); \
    create table items_new (box text, id bigint, note text, label text, seen text, primary key (box, id)); \
    create table tags_new (box text, tag text, total bigint, last bigint, primary key (box, tag));";

const RULES: &str = r#"
migration = "boxes"

[[ignore]]
table = "items_new"
fields = ["seen"]
reason = "the application notes there who looked at it"

[[expect]]
name = "every item is a row"
left = [{ legacy = "items", by = [".box"], add = 1 }]
is = "="
right = [{ target = "items_new", by = [".box"], add = 1 }]
reason = "an item is one row, whatever its box"
"#;

/// The migration.
pub fn migration() -> Arc<Migration> {
    let file = |name: &str, text: &str| SourceFile::new(format!("boxes/{name}"), text);
    let sources = Sources {
        legacy: file("legacy.toml", LEGACY),
        mapping: file("mapping.toml", MAPPING),
        target: file("target.sql", TARGET),
        cases: Vec::new(),
    };
    Arc::new(Migration::compile(&sources).unwrap_or_else(|error| panic!("{error}")))
}

/// Its rules.
pub fn rules(migration: &Migration, more: &str) -> Arc<Ruleset> {
    let today = jiff::civil::date(2026, 6, 1);
    let rules = Ruleset::read(&SourceFile::new("boxes.toml", format!("{RULES}{more}")), migration, today);
    Arc::new(rules.unwrap_or_else(|error| panic!("{error}")))
}

/// A box as the source has it.
pub fn labelled(name: &str, label: &str) -> Vec<Value> {
    vec![Value::text(name), Value::text(label)]
}

/// An item.
pub fn item(id: i64, of: &str, note: &str) -> Vec<Value> {
    vec![Value::Int(id), Value::text(of), Value::text(note)]
}

/// A mark.
pub fn mark(id: i64, of: &str, tag: &str, n: i64) -> Vec<Value> {
    vec![Value::Int(id), Value::text(of), Value::text(tag), Value::Int(n)]
}

/// A target row without what the rules leave out.
pub fn compared(row: &TargetRow) -> TargetRow {
    let mut row = row.clone();
    if usize::from(row.table.0) == ITEMS {
        row.values[SEEN] = Value::Null;
    }
    row
}

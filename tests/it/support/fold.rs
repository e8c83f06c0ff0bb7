//! What a log says the tables hold: the rules of versions written down once more, as plainly as can be.

use std::collections::BTreeMap;

use rehome::event::{Event, Key, Op, RelationName, Row, Value};
use rehome::log::EventLog;

use super::capture::events;

/// Rows by key.
pub type Rows = BTreeMap<Key, Row>;

/// Folds the events of the newest epoch in order of version: snapshot rows first, then what the stream tells.
pub async fn fold(log: &dyn EventLog, table: &RelationName) -> Rows {
    let of_table = |event: &Event| log.relation(event.relation).expect("registered").name == *table;
    let mut events: Vec<Event> = events(log).await.into_iter().filter(of_table).collect();
    let newest = events.iter().map(|event| event.version.epoch).max();
    events.retain(|event| Some(event.version.epoch) == newest);
    events.sort_by_key(|event| event.version);
    let mut rows = Rows::new();
    for event in events {
        apply(&mut rows, event);
    }
    rows
}

fn apply(rows: &mut Rows, event: Event) {
    match event.op {
        Op::Read | Op::Insert => {
            rows.insert(event.key, event.after.expect("a row"));
        }
        Op::Update => {
            let mut row = event.after.expect("a row");
            // Under the key that it comes from, and no other: another row may have stood where it goes.
            let older = match &event.old_key {
                Some(old) => rows.remove(old),
                None => rows.get(&event.key).cloned(),
            };
            if let Some(older) = older {
                row.fill_from(&older);
            }
            rows.insert(event.key, row);
        }
        Op::Delete | Op::Sweep => {
            rows.remove(&event.key);
        }
        Op::Truncate => rows.clear(),
        Op::Schema => {}
    }
}

/// Rows as texts, columns joined by `|`, to be compared with what the server says.
pub fn texts(rows: &Rows) -> Vec<String> {
    rows.values()
        .map(|row| {
            let cells = row.0.iter().map(|cell| cell.value().map_or("MISSING".to_owned(), text));
            cells.collect::<Vec<_>>().join("|")
        })
        .collect()
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::Int(number) => number.to_string(),
        Value::Text(text) => text.to_string(),
        Value::Decimal(number) => number.to_string(),
        other => format!("{other:?}"),
    }
}

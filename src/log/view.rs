//! Events as JSON, for people (`rehome log show`); nothing reads it back.
//!
//! Keys are always shown, because a person asks for a row by its key. Contents are shown as kind and size unless the
//! person asked for them (I12).

use serde_json::{Map, Value as Shown, json};

use super::{Erased, Notice};
use crate::event::{
    Cell, Class, Event, Key, Lsn, Op, Origin, Relation, Row, Timestamp, Transaction, Value, Version, to_hex,
};

/// Whether row contents are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reveal {
    /// Kinds and sizes only.
    No,
    /// Contents too.
    Yes,
}

/// An event with its shape.
pub fn to_json(event: &Event, relation: &Relation, reveal: Reveal) -> Shown {
    let mut shown = Map::new();
    shown.insert("relation".into(), relation.name.to_string().into());
    shown.insert("schema".into(), to_hex(&event.relation.0).into());
    shown.insert("op".into(), op(event.op).into());
    shown.insert("key".into(), key(&event.key, relation));
    if let Some(old) = &event.old_key {
        shown.insert("old_key".into(), key(old, relation));
    }
    shown.insert("version".into(), version(event.version));
    shown.insert("origin".into(), origin(event.origin));
    if let Some(of) = &event.transaction {
        shown.insert("transaction".into(), transaction(of));
    }
    if event.flags.ttl_delete {
        shown.insert("ttl_delete".into(), true.into());
    }
    for (name, side) in [("before", &event.before), ("after", &event.after)] {
        if let Some(side) = side {
            shown.insert(name.into(), row(side, relation, reveal));
        }
    }
    Shown::Object(shown)
}

/// A request to evaluate a unit again.
pub fn notice_to_json(notice: &Notice) -> Shown {
    json!({ "notice": { "unit": &*notice.unit, "reason": &*notice.reason } })
}

/// What is left of an event that was erased.
pub fn erased_to_json(erased: &Erased) -> Shown {
    json!({ "erased": { "relation": erased.relation.to_string(), "key_digest": to_hex(&erased.key) } })
}

fn op(op: Op) -> &'static str {
    match op {
        Op::Read => "read",
        Op::Insert => "insert",
        Op::Update => "update",
        Op::Delete => "delete",
        Op::Truncate => "truncate",
        Op::Schema => "schema",
        Op::Sweep => "sweep",
    }
}

fn version(version: Version) -> Shown {
    let class = match version.class {
        Class::Floor => "floor",
        Class::Stream => "stream",
    };
    json!({
        "epoch": version.epoch.0, "class": class, "position": position(version.position), "ordinal": version.ordinal
    })
}

/// As the source writes it: an LSN where it fits 64 bits, as Postgres's do, a decimal number otherwise, as DynamoDB's do.
fn position(bytes: [u8; 17]) -> String {
    let (high, low) = bytes.split_at(9);
    if high.iter().all(|byte| *byte == 0) {
        let low = low.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
        return Lsn(low).to_string();
    }
    let mut number = bytes;
    let mut digits = Vec::new();
    while number.iter().any(|byte| *byte != 0) {
        let mut rest = 0_u16;
        for byte in &mut number {
            let part = rest << 8 | u16::from(*byte);
            *byte = (part / 10) as u8;
            rest = part % 10;
        }
        digits.push(char::from(b'0' + rest as u8));
    }
    digits.into_iter().rev().collect()
}

fn origin(origin: Origin) -> Shown {
    match origin {
        Origin::Snapshot { range } => json!({ "kind": "snapshot", "range": range }),
        Origin::Stream => json!({ "kind": "stream" }),
        Origin::Sweep => json!({ "kind": "sweep" }),
        Origin::Repair => json!({ "kind": "repair" }),
    }
}

fn transaction(of: &Transaction) -> Shown {
    json!({
        "xid": of.xid, "commit": of.commit.to_string(), "commit_time": timestamp(of.commit_time), "last": of.last
    })
}

/// A key by the names of its columns; as a list where they do not fit, as for a shape of another time.
fn key(key: &Key, relation: &Relation) -> Shown {
    let columns = relation.key_columns();
    if columns.len() != key.0.len() {
        return key.0.iter().map(content).collect();
    }
    let named = columns.into_iter().zip(&key.0);
    named.map(|(column, value)| (relation.columns[column].name.to_string(), content(value))).collect()
}

fn row(row: &Row, relation: &Relation, reveal: Reveal) -> Shown {
    if row.0.len() != relation.columns.len() {
        return row.0.iter().map(|of| cell(of, reveal)).collect();
    }
    let named = relation.columns.iter().zip(&row.0);
    named.map(|(column, of)| (column.name.to_string(), cell(of, reveal))).collect()
}

fn cell(cell: &Cell, reveal: Reveal) -> Shown {
    let Cell::Value(value) = cell else { return json!({ "kind": "missing" }) };
    let (kind, size) = kind_and_size(value);
    let mut shown = Map::new();
    shown.insert("kind".into(), kind.into());
    match (reveal, size) {
        (Reveal::Yes, _) => drop(shown.insert("value".into(), content(value))),
        (Reveal::No, Some((unit, size))) => drop(shown.insert(unit.into(), size.into())),
        (Reveal::No, None) => {}
    }
    Shown::Object(shown)
}

/// A value's kind, and how large it is where that varies.
fn kind_and_size(value: &Value) -> (&'static str, Option<(&'static str, usize)>) {
    let bytes = |count| Some(("bytes", count));
    let members = |count| Some(("members", count));
    match value {
        Value::Null => ("null", None),
        Value::Bool(_) => ("bool", None),
        Value::Int(_) => ("int", None),
        Value::Decimal(number) => ("decimal", bytes(number.as_str().len())),
        Value::Float(_) => ("float", None),
        Value::Text(text) => ("text", bytes(text.len())),
        Value::Bytes(content) => ("bytes", bytes(content.len())),
        Value::Timestamp(_) => ("timestamp", None),
        Value::Uuid(_) => ("uuid", None),
        Value::Json(text) => ("json", bytes(text.len())),
        Value::List(items) => ("list", members(items.len())),
        Value::Map(map) => ("map", members(map.len())),
        Value::TextSet(items) => ("text_set", members(items.len())),
        Value::NumberSet(items) => ("number_set", members(items.len())),
        Value::BytesSet(items) => ("bytes_set", members(items.len())),
    }
}

/// A value's content; what JSON cannot hold exactly is text.
fn content(value: &Value) -> Shown {
    let bytes = |content: &[u8]| Shown::from(format!("\\x{}", to_hex(content)));
    match value {
        Value::Null => Shown::Null,
        Value::Bool(value) => (*value).into(),
        Value::Int(value) => (*value).into(),
        Value::Decimal(number) => number.as_str().into(),
        Value::Float(value) if value.0.is_finite() => value.0.into(),
        Value::Float(value) => value.0.to_string().into(),
        Value::Text(text) | Value::Json(text) => (**text).into(),
        Value::Bytes(content) => bytes(content),
        Value::Timestamp(at) => timestamp(*at),
        Value::Uuid(id) => id.to_string().into(),
        Value::List(items) => items.iter().map(content).collect(),
        Value::Map(map) => map.iter().map(|(name, member)| (name.to_string(), content(member))).collect(),
        Value::TextSet(items) => items.iter().map(|item| Shown::from(&**item)).collect(),
        Value::NumberSet(items) => items.iter().map(|item| Shown::from(item.as_str())).collect(),
        Value::BytesSet(items) => items.iter().map(|item| bytes(item)).collect(),
    }
}

/// RFC 3339 in UTC; microseconds since 1970 for years that it cannot write.
fn timestamp(at: Timestamp) -> Shown {
    let Some(us) = at.unix_us() else {
        return if at == Timestamp::INFINITY { "infinity".into() } else { "-infinity".into() };
    };
    let written = i64::try_from(us).ok().and_then(|us| jiff::Timestamp::from_microsecond(us).ok());
    written.map_or_else(|| us.to_string().into(), |written| written.to_string().into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::strategies::{event, small_relation};
    use crate::event::{Decimal, Epoch, Flags, SchemaHash};

    fn update() -> Event {
        Event {
            relation: SchemaHash([0xab; 16]),
            op: Op::Update,
            key: Key(vec![Value::Int(7)]),
            old_key: Some(Key(vec![Value::Int(6)])),
            before: Some(Row(vec![Cell::Value(Value::Int(6)), Cell::Missing])),
            after: Some(Row(vec![Cell::Value(Value::Int(7)), Cell::Value(Value::text("secret words"))])),
            version: Version::postgres(Epoch(2), Lsn(0x16_B374_D848), 3),
            transaction: Some(Transaction {
                xid: 99,
                commit: Lsn(0x16_B374_D848),
                commit_time: Timestamp(0),
                last: true,
            }),
            origin: Origin::Stream,
            flags: Flags::default(),
        }
    }

    #[test]
    fn contents_are_shown_only_when_asked_for() {
        let relation = small_relation("shown");
        let hidden = to_json(&update(), &relation, Reveal::No);
        assert_eq!(
            hidden,
            json!({
                "relation": "public.shown",
                "schema": "abababababababababababababababab",
                "op": "update",
                "key": { "id": 7 },
                "old_key": { "id": 6 },
                "version": { "epoch": 2, "class": "stream", "position": "16/B374D848", "ordinal": 3 },
                "origin": { "kind": "stream" },
                "transaction": {
                    "xid": 99, "commit": "16/B374D848", "commit_time": "2000-01-01T00:00:00Z", "last": true
                },
                "before": { "id": { "kind": "int" }, "body": { "kind": "missing" } },
                "after": { "id": { "kind": "int" }, "body": { "kind": "text", "bytes": 12 } },
            })
        );
        let revealed = to_json(&update(), &relation, Reveal::Yes);
        assert_eq!(revealed["after"]["body"], json!({ "kind": "text", "value": "secret words" }));
        assert_eq!(revealed["before"]["body"], json!({ "kind": "missing" }));
    }

    #[test]
    fn positions_read_as_their_source_writes_them() {
        let mut sequence_number = [0; 17];
        sequence_number[1..].copy_from_slice(&49_545_115_243_490_985_018_280_067_714_973_144_582_u128.to_be_bytes());
        assert_eq!(position(sequence_number), "49545115243490985018280067714973144582");
        assert_eq!(position([0; 17]), "0/0");
    }

    #[test]
    fn numbers_keep_their_digits() {
        let number = Value::Decimal(Decimal::parse("12345678901234567890.10").expect("a decimal"));
        assert_eq!(content(&number), json!("12345678901234567890.10"));
        assert_eq!(timestamp(Timestamp::INFINITY), json!("infinity"));
        assert_eq!(timestamp(Timestamp(i64::MAX - 1)), json!("9224318721654775806"));
    }

    proptest! {
        #[test]
        fn every_event_can_be_shown(event in event()) {
            for reveal in [Reveal::No, Reveal::Yes] {
                let shown = to_json(&event, &small_relation("any"), reveal);
                prop_assert_eq!(shown["op"].as_str(), Some(op(event.op)));
            }
        }
    }
}

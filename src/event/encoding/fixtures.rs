//! Stored bytes of format 1, and what they must read as for ever.

use super::Canonical;
use super::ordered::{key_bytes, key_from_bytes};
use crate::event::{
    Cell, Class, Column, Decimal, Epoch, Event, Flags, Float, Key, Lsn, Op, Origin, Relation, RelationName, Row,
    SchemaHash, Timestamp, Transaction, Value, Version,
};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex")).collect()
}

/// Stored logs hold these bytes: a change of what is written is a new format, and the old one still has to be read.
fn stays<T: Canonical + PartialEq + std::fmt::Debug>(thing: &T, stored: &str) {
    assert_eq!(hex(&thing.encode()), stored, "{thing:?}");
    assert_eq!(T::decode(&unhex(stored)).as_ref(), Ok(thing));
}

fn decimal(text: &str) -> Decimal {
    Decimal::parse(text).expect("a decimal")
}

#[test]
fn format_1_keeps_every_kind_of_value() {
    let row = Row(vec![
        Cell::Missing,
        Cell::Value(Value::Null),
        Cell::Value(Value::Bool(false)),
        Cell::Value(Value::Bool(true)),
        Cell::Value(Value::Int(-300)),
        Cell::Value(Value::Int(i64::MAX)),
        Cell::Value(Value::Decimal(decimal("-1.10"))),
        Cell::Value(Value::Float(Float(-0.0))),
        Cell::Value(Value::text("grüße")),
        Cell::Value(Value::Bytes(Box::from([0, 255]))),
        Cell::Value(Value::Timestamp(Timestamp(-1))),
        Cell::Value(Value::Uuid(uuid::Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef))),
        Cell::Value(Value::Json("{\"a\":1.0}".into())),
        Cell::Value(Value::List(vec![Value::Null, Value::List(vec![])])),
        Cell::Value(Value::Map([("b".into(), Value::Int(1)), ("a".into(), Value::Null)].into())),
        Cell::Value(Value::TextSet(["b".into(), "a".into()].into())),
        Cell::Value(Value::NumberSet([decimal("2"), decimal("10")].into())),
        Cell::Value(Value::BytesSet([Box::from([1]), Box::from([])].into())),
    ]);
    stays(
        &row,
        "01121101020304d70404feffffffffffffffff0105052d312e313006800000000000000007076772c3bcc39f65080200ff09ffffffffffffffff0a0123456789abcdef0123456789abcdef0b097b2261223a312e307d0c02010c000d02016101016204020e02016101620f0202313001321002000101",
    );
}

#[test]
fn format_1_keeps_keys() {
    let key = Key(vec![Value::text("a\0b"), Value::Int(-1), Value::Float(Float(1.5))]);
    stays(&key, "010307036100620401063ff8000000000000");
    let ordered = "076100ff620000047fffffffffffffff06bff8000000000000";
    assert_eq!(hex(&key_bytes(&key)), ordered);
    assert_eq!(key_from_bytes(&unhex(ordered)), Ok(key));
}

fn update() -> Event {
    Event {
        relation: SchemaHash([7; 16]),
        op: Op::Update,
        key: Key(vec![Value::Int(2)]),
        old_key: Some(Key(vec![Value::Int(1)])),
        before: Some(Row(vec![Cell::Missing])),
        after: Some(Row(vec![Cell::Value(Value::Int(2))])),
        version: Version::postgres(Epoch(3), Lsn(0x16_B374_D848), 5),
        transaction: Some(Transaction {
            xid: 4_000_000_000,
            commit: Lsn(0x16_B374_D848),
            commit_time: Timestamp(1),
            last: true,
        }),
        origin: Origin::Stream,
        flags: Flags::default(),
    }
}

#[test]
fn format_1_keeps_events() {
    stays(
        &update(),
        "017a010707070707070707070707070707070703010516b374d8480580d0acf30ec8b0d39beb020000000000000001010104040104020111010404",
    );
    let read = Event {
        op: Op::Read,
        old_key: None,
        before: None,
        version: Version::floor(Epoch(3)),
        transaction: None,
        origin: Origin::Snapshot { range: 300 },
        ..update()
    };
    stays(&read, "012000ac020707070707070707070707070707070703000000010404010404");
    let expired = Event {
        op: Op::Delete,
        after: None,
        version: Version { epoch: Epoch(1), class: Class::Stream, position: [9; 17], ordinal: 0 },
        flags: Flags { ttl_delete: true },
        ..read
    };
    stays(&expired, "018300ac0207070707070707070707070707070707010111090909090909090909090909090909090900010404");
}

#[test]
fn format_1_keeps_relations() {
    let column = |name: &str, key_part| Column { name: name.into(), type_name: "int8".into(), key_part };
    let relation = Relation {
        name: RelationName { schema: "public".into(), table: "t".into() },
        columns: vec![column("id", Some(0)), column("n", None)],
    };
    stays(&relation, "01067075626c696301740202696404696e743801016e04696e743800");
}

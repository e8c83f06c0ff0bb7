//! Arbitrary values, rows and events, for property tests anywhere in the crate.

use std::sync::Arc;

use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;

use super::{
    Cell, Class, Column, Decimal, Epoch, Event, Flags, Float, Key, Lsn, Op, Origin, Relation, RelationName, Row,
    SchemaHash, Timestamp, Transaction, Value, Version,
};

/// Decimals of every manner of writing.
pub(crate) fn decimal() -> impl Strategy<Value = Decimal> {
    prop_oneof!["[+-]?[0-9]{1,40}(\\.[0-9]{0,20})?([eE][+-]?[0-9]{1,3})?", "NaN|Infinity|-Infinity", "-?0(\\.0{1,3})?"]
        .prop_map(|text| Decimal::parse(&text).expect("the patterns write decimals"))
}

/// Doubles by their bits: every NaN, both zeros, subnormals.
pub(crate) fn float() -> impl Strategy<Value = Float> {
    prop_oneof![any::<u64>().prop_map(f64::from_bits), Just(-0.0), Just(f64::NAN), any::<f64>()].prop_map(Float)
}

/// Integers, near zero and near the ends as well as anywhere.
fn int() -> impl Strategy<Value = i64> {
    prop_oneof![any::<i64>(), -130_i64..130, Just(i64::MIN), Just(i64::MAX)]
}

/// Text of every kind, with zero bytes and text that looks like an escape.
fn text() -> impl Strategy<Value = Box<str>> {
    prop_oneof![".{0,12}", "[\0\u{1}\u{ff}a]{0,6}"].prop_map(Box::from)
}

/// Bytes, often those that an escape would trip over.
fn bytes() -> impl Strategy<Value = Box<[u8]>> {
    vec(prop_oneof![any::<u8>(), Just(0), Just(1), Just(0xff)], 0..10).prop_map(Box::from)
}

/// Values that hold no others.
fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        int().prop_map(Value::Int),
        decimal().prop_map(Value::Decimal),
        float().prop_map(Value::Float),
        text().prop_map(Value::Text),
        bytes().prop_map(Value::Bytes),
        int().prop_map(|at| Value::Timestamp(Timestamp(at))),
        any::<u128>().prop_map(|id| Value::Uuid(uuid::Uuid::from_u128(id))),
        text().prop_map(Value::Json),
        Just(Value::Json("{\"b\":1.0,\"a\":[null]}".into())),
        btree_set(text(), 0..4).prop_map(Value::TextSet),
        btree_set(decimal(), 0..4).prop_map(Value::NumberSet),
        btree_set(bytes(), 0..4).prop_map(Value::BytesSet),
    ]
}

/// Values of every kind, nested.
pub(crate) fn value() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(4, 24, 4, |inner| {
        prop_oneof![vec(inner.clone(), 0..4).prop_map(Value::List), btree_map(text(), inner, 0..4).prop_map(Value::Map)]
    })
}

/// Keys of none to three columns.
pub(crate) fn key() -> impl Strategy<Value = Key> {
    vec(value(), 0..4).prop_map(Key)
}

/// Rows with missing cells.
pub(crate) fn row() -> impl Strategy<Value = Row> {
    vec(prop_oneof![1 => Just(Cell::Missing), 4 => value().prop_map(Cell::Value)], 0..6).prop_map(Row)
}

fn version() -> impl Strategy<Value = Version> {
    let class = prop_oneof![Just(Class::Floor), Just(Class::Stream)];
    let position = prop_oneof![
        any::<[u8; 17]>(),
        Just([0; 17]),
        any::<u64>().prop_map(|lsn| Version::postgres(Epoch(1), Lsn(lsn), 0).position),
    ];
    (any::<u32>(), class, position, any::<u32>()).prop_map(|(epoch, class, position, ordinal)| Version {
        epoch: Epoch(epoch),
        class,
        position,
        ordinal,
    })
}

fn transaction() -> impl Strategy<Value = Transaction> {
    (any::<u32>(), any::<u64>(), any::<i64>(), any::<bool>()).prop_map(|(xid, commit, time, last)| Transaction {
        xid,
        commit: Lsn(commit),
        commit_time: Timestamp(time),
        last,
    })
}

fn origin() -> impl Strategy<Value = Origin> {
    prop_oneof![
        any::<u32>().prop_map(|range| Origin::Snapshot { range }),
        Just(Origin::Stream),
        Just(Origin::Sweep),
        Just(Origin::Repair),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop::sample::select(vec![Op::Read, Op::Insert, Op::Update, Op::Delete, Op::Truncate, Op::Schema, Op::Sweep])
}

/// Events of every form, whether or not a source would say such a thing.
pub(crate) fn event() -> impl Strategy<Value = Event> {
    (
        (any::<[u8; 16]>(), op(), key(), option::of(key()), any::<bool>()),
        (option::of(row()), option::of(row()), version(), option::of(transaction()), origin()),
    )
        .prop_map(|((hash, op, key, old_key, ttl_delete), (before, after, version, transaction, origin))| Event {
            relation: SchemaHash(hash),
            op,
            key,
            old_key,
            before,
            after,
            version,
            transaction,
            origin,
            flags: Flags { ttl_delete },
        })
}

/// Relations of none to five columns.
pub(crate) fn relation() -> impl Strategy<Value = Relation> {
    let column = (text(), text(), option::of(any::<u16>())).prop_map(|(name, type_name, key_part)| Column {
        name,
        type_name,
        key_part,
    });
    (text(), text(), vec(column, 0..6))
        .prop_map(|(schema, table, columns)| Relation { name: RelationName { schema, table }, columns })
}

/// A small table with a key of one integer and a text beside it.
pub(crate) fn small_relation(table: &str) -> Arc<Relation> {
    let column =
        |name: &str, type_name: &str, key_part| Column { name: name.into(), type_name: type_name.into(), key_part };
    Arc::new(Relation {
        name: RelationName { schema: "public".into(), table: table.into() },
        columns: vec![column("id", "int8", Some(0)), column("body", "text", None)],
    })
}

//! Tests of digests.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::event::strategies::{small_relation, value};
use crate::event::{Epoch, Flags, Key, Lsn, Op, Origin, Row, Version};

fn key() -> DigestKey {
    DigestKey::new([1; 32])
}

#[test]
fn everything_that_names_a_row_counts() {
    let values = [Value::Int(1), Value::text("a")];
    let all = [
        row_digest(&key(), "t", &["id", "body"], &values),
        row_digest(&DigestKey::new([2; 32]), "t", &["id", "body"], &values),
        row_digest(&key(), "u", &["id", "body"], &values),
        row_digest(&key(), "t", &["id", "text"], &values),
        row_digest(&key(), "t", &["body", "id"], &values),
        key_digest(&key(), "t", &["id", "body"], &values),
        row_digest(&key(), "t", &["id", "body"], &[Value::Int(1), Value::Null]),
        row_digest(&key(), "t", &["id"], &values[..1]),
    ];
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
}

#[test]
fn a_row_is_digested_by_name_and_not_by_place() {
    let (a, b) = (Value::Int(1), Value::text("a"));
    assert_eq!(
        row_digest(&key(), "t", &["id", "body"], &[a.clone(), b.clone()]),
        row_digest(&key(), "t", &["body", "id"], &[b.clone(), a.clone()])
    );
    // In a key the place counts.
    assert_ne!(
        key_digest(&key(), "t", &["a", "b"], &[a.clone(), b.clone()]),
        key_digest(&key(), "t", &["b", "a"], &[b, a])
    );
}

#[test]
fn json_is_digested_by_value() {
    let digest = |text: &str| row_digest(&key(), "t", &["j"], &[Value::Json(text.into())]);
    assert_eq!(digest("{\"a\": 1.0, \"b\": [2]}"), digest("{\"b\":[2.00],\"a\":1}"));
    assert_ne!(digest("{\"a\":1}"), digest("{\"a\":\"1\"}"));
    assert_ne!(digest("null"), row_digest(&key(), "t", &["j"], &[Value::Null]));
}

#[test]
fn digests_stay_as_they_were_stored() {
    let columns = ["id", "body"];
    let values = [Value::Int(1), Value::Json("{\"b\":1.0,\"a\":null}".into())];
    let row = row_digest(&key(), "t", &columns, &values);
    assert_eq!(row.to_string(), "125d8773515b55eb5a77d60f038bda57d45567efa3205648c766de3f2470f73c");
    let named = key_digest(&key(), "t", &columns[..1], &values[..1]);
    assert_eq!(named.tag().to_string(), "362a1a210d39fb51");
}

#[test]
fn secrets_do_not_show() {
    assert_eq!(format!("{:?}", key()), "DigestKey(secret)");
    let digester = Digester::rows(&DigestKey::new([0x5a; 32]), "t", &["id"]);
    assert_eq!(format!("{digester:?}"), "Digester { columns: 1, .. }");
}

#[test]
fn an_event_keeps_its_id_and_shares_it_with_no_other() {
    let relation = small_relation("named");
    let event = crate::event::Event {
        relation: relation.schema_hash(),
        op: Op::Insert,
        key: Key(vec![Value::Int(1)]),
        old_key: None,
        before: None,
        after: Some(Row(vec![])),
        version: Version::postgres(Epoch(1), Lsn(9), 0),
        transaction: None,
        origin: Origin::Stream,
        flags: Flags::default(),
    };
    let id = |event: &crate::event::Event| event_id("source", event, &relation.name);
    assert_eq!(id(&event).to_string(), "491a9d0a-0d48-8abe-aa2b-9ff075826f42");
    assert_eq!(id(&event).get_version_num(), 8);
    // The row, or how it was decoded, does not name the event.
    assert_eq!(id(&event), id(&crate::event::Event { after: None, ..event.clone() }));
    let others = [
        id(&event),
        event_id("other", &event, &relation.name),
        event_id("source", &event, &small_relation("other").name),
        id(&crate::event::Event { key: Key(vec![Value::Int(2)]), ..event.clone() }),
        id(&crate::event::Event { op: Op::Update, ..event.clone() }),
        id(&crate::event::Event { version: Version::postgres(Epoch(2), Lsn(9), 0), ..event.clone() }),
        id(&crate::event::Event { version: Version::postgres(Epoch(1), Lsn(8), 0), ..event.clone() }),
        id(&crate::event::Event { version: Version::postgres(Epoch(1), Lsn(9), 1), ..event.clone() }),
        id(&crate::event::Event { version: Version::floor(Epoch(1)), ..event.clone() }),
    ];
    assert_eq!(others.iter().collect::<BTreeSet<_>>().len(), others.len());
}

proptest! {
    #[test]
    fn a_kept_digester_answers_as_a_new_one(a in value(), b in value()) {
        let columns = ["b", "a"];
        let digester = Digester::rows(&key(), "t", &columns);
        let mut buffer = vec![9; 3];
        for values in [[a.clone(), b.clone()], [b, a]] {
            prop_assert_eq!(digester.digest_into(&values, &mut buffer), row_digest(&key(), "t", &columns, &values));
        }
    }

    #[test]
    fn rows_that_differ_after_normalising_digest_differently(a in value(), b in value()) {
        let digest = |value: &Value| row_digest(&key(), "t", &["v"], std::slice::from_ref(value));
        prop_assert_eq!(a.normalised() == b.normalised(), digest(&a) == digest(&b));
    }
}

//! From a stream's record to an [`Event`].
//!
//! The version is the record's sequence number, which grows along an item's lineage of shards. The record's time is of whole
//! seconds and orders nothing. Records of one transaction carry nothing in common, so no transaction is told (and none is
//! promised to arrive whole).

use aws_sdk_dynamodbstreams::types::{OperationType, Record};

use super::codec::{StreamAttributes, read_streamed_item};
use super::table::Shape;
use crate::event::{Epoch, Event, Flags, Key, Op, Origin, Row, SequenceNumber, Timestamp, Version};

/// A record as it is read.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// The event.
    pub event: Event,
    /// Its sequence number, in the writing of the service.
    pub sequence: Box<str>,
    /// When it was written, in whole seconds; information only.
    pub written: Option<Timestamp>,
}

/// Who deletes items whose time to live is over, as records name it.
const TIME_TO_LIVE: (&str, &str) = ("Service", "dynamodb.amazonaws.com");

/// Reads a record of a table's stream; the error says what is wrong with it, without its contents.
///
/// # Errors
/// A record that is not as documented, or has no image of the item where there should be one.
pub fn read(shape: &Shape, epoch: Epoch, record: Record) -> Result<Told, String> {
    let time_to_live = record.user_identity().is_some_and(|identity| {
        (identity.r#type(), identity.principal_id()) == (Some(TIME_TO_LIVE.0), Some(TIME_TO_LIVE.1))
    });
    let op = match record.event_name {
        Some(OperationType::Insert) => Op::Insert,
        Some(OperationType::Modify) => Op::Update,
        Some(OperationType::Remove) => Op::Delete,
        _ => return Err("a record of an unknown kind".into()),
    };
    let change = record.dynamodb.ok_or("a record without its change")?;
    let sequence = change.sequence_number.ok_or("a record without a sequence number")?;
    let number: SequenceNumber = sequence.parse().map_err(|_| "a sequence number that is none")?;
    let keys = change.keys.ok_or("a record without its key")?;
    let keys = read_streamed_item(keys).map_err(|broken| broken.to_string())?;
    let key = shape.key_of(&keys).map_err(|misfit| misfit.to_string())?;
    let before = image(shape, &key, change.old_image)?;
    let after = image(shape, &key, change.new_image)?;
    if after.is_some() == (op == Op::Delete) {
        return Err("a record without the image of the item: the stream's view has to be NEW_AND_OLD_IMAGES".into());
    }
    let written = change.approximate_creation_date_time.map(|time| i128::from(time.secs()) * 1_000_000);
    let event = Event {
        relation: shape.hash,
        op,
        key,
        old_key: None,
        before,
        after,
        version: Version::dynamo(epoch, number),
        transaction: None,
        origin: Origin::Stream,
        flags: Flags { ttl_delete: op == Op::Delete && time_to_live },
    };
    Ok(Told { event, sequence: sequence.into(), written: written.and_then(Timestamp::from_unix_us) })
}

/// An image as a row, whose key has to be the record's.
fn image(shape: &Shape, key: &Key, image: Option<StreamAttributes>) -> Result<Option<Row>, String> {
    let Some(image) = image else { return Ok(None) };
    let item = read_streamed_item(image).map_err(|broken| broken.to_string())?;
    let (own, row) = shape.row(item).map_err(|misfit| misfit.to_string())?;
    if own != *key {
        return Err("a record whose image has another key".into());
    }
    Ok(Some(row))
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodbstreams::primitives::DateTime;
    use aws_sdk_dynamodbstreams::types::{AttributeValue, Identity, StreamRecord};

    use super::super::table::{KeyAttribute, KeyKind};
    use super::*;
    use crate::event::Value;

    fn shape() -> Shape {
        Shape::new("t", vec![KeyAttribute { name: "id".into(), kind: KeyKind::S }])
    }

    fn item(id: &str, name: &str) -> StreamAttributes {
        let text = |text: &str| AttributeValue::S(text.into());
        [("id".to_owned(), text(id)), ("name".to_owned(), text(name))].into()
    }

    fn key(id: &str) -> StreamAttributes {
        [("id".to_owned(), AttributeValue::S(id.into()))].into()
    }

    fn change(sequence: &str) -> aws_sdk_dynamodbstreams::types::builders::StreamRecordBuilder {
        StreamRecord::builder()
            .sequence_number(sequence)
            .set_keys(Some(key("a")))
            .approximate_creation_date_time(DateTime::from_secs(1_700_000_000))
    }

    fn told(kind: OperationType, change: StreamRecord) -> Result<Told, String> {
        read(&shape(), Epoch(3), Record::builder().event_name(kind).dynamodb(change).build())
    }

    #[test]
    fn a_change_tells_the_item_before_and_after() {
        let change = change("12").set_old_image(Some(item("a", "x"))).set_new_image(Some(item("a", "y"))).build();
        let told = told(OperationType::Modify, change).expect("it reads");
        assert_eq!(told.event.op, Op::Update);
        assert_eq!(told.event.key, Key(vec![Value::text("a")]));
        let name = |row: &Option<Row>| match row.as_ref().and_then(|row| row.0[1].value().cloned()) {
            Some(Value::Map(map)) => map["name"].clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!((name(&told.event.before), name(&told.event.after)), (Value::text("x"), Value::text("y")));
        assert_eq!(told.event.version, Version::dynamo(Epoch(3), "12".parse().expect("a number")));
        assert_eq!(told.written.and_then(Timestamp::unix_us), Some(1_700_000_000_000_000));
    }

    #[test]
    fn a_new_image_alone_is_enough() {
        let change = change("12").set_new_image(Some(item("a", "y"))).build();
        assert_eq!(told(OperationType::Modify, change).expect("it reads").event.before, None);
    }

    #[test]
    fn a_delete_by_time_to_live_is_marked_and_another_is_not() {
        let by = |kind: &str, principal: &str| {
            let identity = Identity::builder().r#type(kind).principal_id(principal).build();
            let record = Record::builder().event_name(OperationType::Remove).dynamodb(change("5").build());
            read(&shape(), Epoch(1), record.user_identity(identity).build()).expect("it reads").event
        };
        assert!(by("Service", "dynamodb.amazonaws.com").flags.ttl_delete);
        assert!(!by("Service", "replication.dynamodb.amazonaws.com").flags.ttl_delete);
        let plain = told(OperationType::Remove, change("5").build()).expect("it reads").event;
        assert_eq!((plain.op, plain.flags.ttl_delete, plain.after), (Op::Delete, false, None));
    }

    #[test]
    fn what_is_not_a_record_is_refused_with_a_word() {
        let refused = |kind, change| told(kind, change).expect_err("it is refused");
        let keys_only = refused(OperationType::Modify, change("1").build());
        assert!(keys_only.contains("NEW_AND_OLD_IMAGES"), "{keys_only}");
        let other_key = change("1").set_new_image(Some(item("b", "y"))).build();
        assert!(refused(OperationType::Insert, other_key).contains("another key"));
        let long = change(&"9".repeat(41)).set_new_image(Some(item("a", "y"))).build();
        assert!(refused(OperationType::Insert, long).contains("sequence number"));
    }
}

use proptest::prelude::*;

use super::*;
use crate::event::strategies;

/// The same value in the other SDK's type.
fn streamed(attribute: &AttributeValue) -> streams::AttributeValue {
    let blob = |blob: &Blob| aws_sdk_dynamodbstreams::primitives::Blob::new(blob.as_ref());
    match attribute {
        AttributeValue::S(text) => streams::AttributeValue::S(text.clone()),
        AttributeValue::N(text) => streams::AttributeValue::N(text.clone()),
        AttributeValue::B(bytes) => streams::AttributeValue::B(blob(bytes)),
        AttributeValue::Bool(truth) => streams::AttributeValue::Bool(*truth),
        AttributeValue::Null(null) => streams::AttributeValue::Null(*null),
        AttributeValue::M(map) => {
            streams::AttributeValue::M(map.iter().map(|(name, value)| (name.clone(), streamed(value))).collect())
        }
        AttributeValue::L(list) => streams::AttributeValue::L(list.iter().map(streamed).collect()),
        AttributeValue::Ss(set) => streams::AttributeValue::Ss(set.clone()),
        AttributeValue::Ns(set) => streams::AttributeValue::Ns(set.clone()),
        AttributeValue::Bs(set) => streams::AttributeValue::Bs(set.iter().map(blob).collect()),
        other => panic!("{other:?} is not written here"),
    }
}

/// What a value is after DynamoDB had it: integers are numbers, numbers have one writing.
fn stored(value: &Value) -> Value {
    match value {
        Value::Int(number) => Value::Decimal(Decimal::from(*number).normalised()),
        Value::Decimal(number) => Value::Decimal(number.normalised()),
        Value::List(list) => Value::List(list.iter().map(stored).collect()),
        Value::Map(map) => Value::Map(map.iter().map(|(name, value)| (name.clone(), stored(value))).collect()),
        Value::NumberSet(set) => Value::NumberSet(set.iter().map(Decimal::normalised).collect()),
        other => other.clone(),
    }
}

fn attribute_number(text: &str) -> Result<Value, CodecError> {
    read(AttributeValue::N(text.into()))
}

fn decimal(text: &str) -> Value {
    Value::Decimal(Decimal::parse(text).expect("a decimal"))
}

proptest! {
    #[test]
    fn what_is_written_reads_back(value in strategies::value()) {
        // Kinds that DynamoDB lacks are refused as a whole; everything else comes back, by either SDK.
        if let Ok(attribute) = write(&value) {
            prop_assert_eq!(read_streamed(streamed(&attribute)).expect("it reads"), stored(&value));
            let again = read(attribute.clone()).expect("it reads");
            prop_assert_eq!(&again, &stored(&value));
            prop_assert_eq!(read(write(&again).expect("it was held")).expect("it reads"), again);
        }
    }

    #[test]
    fn a_number_of_38_digits_keeps_them(digits in "[1-9][0-9]{37}", scale in -88_i64..88, negative in any::<bool>()) {
        let text = format!("{}{digits}E{scale}", if negative { "-" } else { "" });
        let value = attribute_number(&text).expect("a number");
        let Value::Decimal(number) = &value else { panic!("{value:?}") };
        prop_assert!(number.same_value(&Decimal::parse(&text).expect("a decimal")));
        prop_assert_eq!(read(write(&value).expect("it is held")).expect("it reads"), value);
    }
}

#[test]
fn one_value_has_one_writing() {
    for (text, normal) in [("1", "1"), ("1.0", "1"), ("1E0", "1"), ("100", "100"), ("1E2", "100"), ("-0.10", "-0.1")] {
        assert_eq!(attribute_number(text), Ok(decimal(normal)), "{text}");
    }
    let set = read(AttributeValue::Ns(vec!["1.0".into(), "10E-1".into(), "2".into()])).expect("a set");
    let Value::NumberSet(numbers) = set else { panic!("a set of numbers") };
    assert_eq!(numbers.len(), 2);
}

#[test]
fn what_dynamodb_cannot_hold_is_refused() {
    let long = "1".repeat(39);
    for text in ["1E126", "1E-131", "NaN", "Infinity", &long] {
        assert_eq!(write(&decimal(text)), Err(CodecError::NumberRange), "{text}");
    }
    for text in ["9.9999999999999999999999999999999999999E125", "1E-130", "-1E125", "0", "0E500"] {
        assert!(write(&decimal(text)).is_ok(), "{text}");
    }
    assert_eq!(write(&Value::TextSet([].into())), Err(CodecError::EmptySet));
    assert_eq!(write(&Value::Json("{}".into())), Err(CodecError::NoSuchType("json document")));
    assert_eq!(attribute_number("twelve"), Err(CodecError::NotANumber));
    assert_eq!(attribute_number("NaN"), Err(CodecError::NotANumber));
}

#[test]
fn null_absent_and_empty_text_are_three_things() {
    let item = |attributes: Vec<(&str, AttributeValue)>| {
        read_item(attributes.into_iter().map(|(name, value)| (name.into(), value)).collect()).expect("an item")
    };
    let null = item(vec![("a", AttributeValue::Null(true))]);
    let empty = item(vec![("a", AttributeValue::S(String::new()))]);
    let absent = item(vec![]);
    assert!(null != empty && empty != absent && null != absent);
    let Value::Map(map) = &absent else { panic!("a map") };
    assert_eq!(map.get("a"), None);
}

//! From a row as the mapping wants it to the item that is sent, and from an item that is there to what is compared with it.
//!
//! What DynamoDB would refuse is found here, before it is sent: an item over 400 KB, a number outside its range, a key that
//! is empty or of another type. So a refusal costs nothing, and it names attributes and never values (I12).

use std::collections::BTreeMap;

use crate::dynamo::codec::{self, Attributes, CodecError};
use crate::dynamo::size::{ITEM_BYTES_MAX, item_bytes};
use crate::dynamo::table::{KeyAttribute, KeyKind};
use crate::event::Value;
use crate::target::{TargetKey, TargetRow, TargetTable};

use super::mark::Mark;
use super::spec::TableSpec;

/// Largest partition key and largest sort key, in bytes.
const KEY_BYTES_MAX: [usize; 2] = [2048, 1024];
/// Levels of lists and maps in an attribute, at most.
const DEPTH_MAX: usize = 32;

/// Reason for which a part with an item over 400 KB is parked.
pub const TOO_LARGE: &str = "item_too_large";
/// Reason for which a part with a number that DynamoDB cannot hold is parked.
pub const NUMBER_OUT_OF_RANGE: &str = "number_out_of_range";
/// Reason for which a part with anything else that DynamoDB cannot hold is parked.
pub const NOT_STORABLE: &str = "not_storable";

/// An item that is to be written.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Its key, in the one writing that DynamoDB gives back.
    pub key: TargetKey,
    /// The item, with our mark.
    pub attributes: Attributes,
    /// Its size as DynamoDB counts it, with our mark.
    pub bytes: usize,
}

/// An item that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Its attributes, without our mark.
    pub item: BTreeMap<Box<str>, Value>,
    /// Our mark, if it has one.
    pub mark: Option<Mark>,
}

/// Why a row cannot be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Reason of the quarantine.
    pub reason: &'static str,
    /// Table and attribute, for people.
    pub detail: String,
}

impl Wanted {
    /// Makes the item of a row.
    ///
    /// # Errors
    /// Why DynamoDB could not hold it.
    pub fn new(spec: &TableSpec, row: &TargetRow, mark: &Mark) -> Result<Self, Refusal> {
        let refuse = |detail: String| Refusal { reason: NOT_STORABLE, detail };
        let (Some(Value::Map(item)), parts) = (row.values.last(), &row.values[..row.values.len().saturating_sub(1)])
        else {
            return Err(refuse(format!("a row of {} is not an item", spec.name)));
        };
        let mut key = Vec::with_capacity(parts.len());
        for (place, attribute) in spec.key.iter().enumerate() {
            let part = parts.get(place).map(stored).ok_or_else(|| refuse(format!("{}: no key", spec.name)))?;
            check_key(attribute, place, &part).map_err(|what| refuse(format!("{}: {what}", spec.name)))?;
            if item.get(&attribute.name).map(stored) != Some(part.clone()) {
                let what = format!("{}: the item's {} is not that of its key", spec.name, attribute.name);
                return Err(refuse(what));
            }
            key.push(part);
        }
        for index in &spec.indexes {
            for (place, attribute) in index.key.iter().enumerate() {
                // An item without the attribute is just not in the index; one with another type is refused.
                if let Some(value) = item.get(&attribute.name) {
                    check_key(attribute, place, &stored(value))
                        .map_err(|what| refuse(format!("index {} of {}: {what}", index.name, spec.name)))?;
                }
            }
        }
        if let Some((name, _)) = item.iter().find(|(_, value)| depth(value) > DEPTH_MAX) {
            return Err(refuse(format!("{}: {name} has more than {DEPTH_MAX} levels", spec.name)));
        }
        let mut attributes = write_item(spec, item)?;
        mark.put_on(&mut attributes);
        let bytes = item_bytes(item) + mark.bytes();
        if bytes > ITEM_BYTES_MAX {
            let detail = format!("{}: {bytes} bytes with our mark, {ITEM_BYTES_MAX} are allowed", spec.name);
            return Err(Refusal { reason: TOO_LARGE, detail });
        }
        Ok(Self { key: TargetKey { table: row.table, values: key }, attributes, bytes })
    }

    /// Whether an item that is there is this one, whoever wrote it.
    pub fn same_as(&self, held: &Held) -> bool {
        match read(self.attributes.clone()) {
            Ok(wanted) => wanted.item == held.item,
            Err(_) => false,
        }
    }
}

/// Writes the attributes of an item, and says which one cannot be.
fn write_item(spec: &TableSpec, item: &BTreeMap<Box<str>, Value>) -> Result<Attributes, Refusal> {
    let mut attributes = Attributes::with_capacity(item.len() + 2);
    for (name, value) in item {
        let written = codec::write(value).map_err(|error| {
            let reason = if error == CodecError::NumberRange { NUMBER_OUT_OF_RANGE } else { NOT_STORABLE };
            Refusal { reason, detail: format!("{}: {name}: {error}", spec.name) }
        })?;
        attributes.insert(name.to_string(), written);
    }
    Ok(attributes)
}

/// Reads an item that is there.
///
/// # Errors
/// [`CodecError::UnknownType`] and [`CodecError::NotANumber`].
pub fn read(attributes: Attributes) -> Result<Held, CodecError> {
    let Value::Map(mut item) = codec::read_item(attributes)? else { return Err(CodecError::UnknownType) };
    let mark = Mark::take_off(&mut item);
    Ok(Held { item, mark })
}

/// The key of an item that is there; `None` when it lacks one, which no item of the table does.
pub fn key_of(spec: &TableSpec, table: TargetTable, item: &BTreeMap<Box<str>, Value>) -> Option<TargetKey> {
    let values = spec.key.iter().map(|attribute| item.get(&attribute.name).cloned()).collect::<Option<_>>()?;
    Some(TargetKey { table, values })
}

/// A key in the one writing that DynamoDB gives back; `None` when the table cannot hold such a key, and so has none.
pub fn stored_key(spec: &TableSpec, key: &TargetKey) -> Option<TargetKey> {
    let values: Vec<Value> = key.values.iter().map(stored).collect();
    let fits = values.len() == spec.key.len()
        && spec.key.iter().enumerate().all(|(place, attribute)| check_key(attribute, place, &values[place]).is_ok());
    fits.then_some(TargetKey { table: key.table, values })
}

/// The attributes of a [`stored_key`].
pub fn key_attributes(spec: &TableSpec, key: &TargetKey) -> Attributes {
    let attribute = |(attribute, value): (&KeyAttribute, &Value)| {
        let value = codec::write(value).expect("a stored key was checked");
        (attribute.name.to_string(), value)
    };
    spec.key.iter().zip(&key.values).map(attribute).collect()
}

/// A value as DynamoDB would give it back; what it cannot hold stays as it is, and is no key.
pub fn stored(value: &Value) -> Value {
    codec::write(value).and_then(codec::read).unwrap_or_else(|_| value.clone())
}

/// Checks a value for the place of a key: 0 for a partition key, 1 for a sort key.
fn check_key(attribute: &KeyAttribute, place: usize, value: &Value) -> Result<(), String> {
    let length = match (attribute.kind, value) {
        (KeyKind::S, Value::Text(text)) => text.len(),
        (KeyKind::B, Value::Bytes(bytes)) => bytes.len(),
        (KeyKind::N, Value::Decimal(_)) if codec::write(value).is_ok() => return Ok(()),
        _ => return Err(format!("key attribute {} is not of type {}", attribute.name, attribute.kind.name())),
    };
    let max = KEY_BYTES_MAX[place.min(1)];
    match length {
        0 => Err(format!("key attribute {} is empty", attribute.name)),
        length if length > max => {
            Err(format!("key attribute {} has {length} bytes, {max} are allowed", attribute.name))
        }
        _ => Ok(()),
    }
}

/// Levels of lists and maps in a value.
fn depth(value: &Value) -> usize {
    match value {
        Value::List(list) => 1 + list.iter().map(depth).max().unwrap_or(0),
        Value::Map(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dynamo::target::mark::Owner;
    use crate::dynamo::target::spec::{Billing, IndexSpec, Projection};
    use crate::event::Decimal;
    use crate::target::WriteVersion;

    fn spec() -> TableSpec {
        let attribute = |name: &str, kind| KeyAttribute { name: name.into(), kind };
        let index =
            IndexSpec { name: "by_g".into(), key: vec![attribute("g", KeyKind::S)], projection: Projection::All };
        TableSpec {
            name: "t".into(),
            key: vec![attribute("p", KeyKind::S), attribute("s", KeyKind::N)],
            indexes: vec![index],
            billing: Billing::OnDemand,
            stream: None,
        }
    }

    fn mark() -> Mark {
        let version = WriteVersion { log: 1, mapping: 1, partition: 0, offset: 1 };
        Mark { owner: Owner::new("m", "u", b"p"), version }
    }

    fn number(text: &str) -> Value {
        Value::Decimal(Decimal::parse(text).expect("a decimal"))
    }

    /// A row whose item has further attributes.
    fn row(p: Value, s: Value, more: Vec<(&str, Value)>) -> TargetRow {
        let key = [("p", p.clone()), ("s", s.clone())];
        let item = key.into_iter().chain(more).map(|(name, value)| (Box::from(name), value)).collect();
        TargetRow { table: TargetTable(0), values: vec![p, s, Value::Map(item)] }
    }

    fn refusal(p: Value, s: Value, more: Vec<(&str, Value)>) -> (&'static str, String) {
        let refusal = Wanted::new(&spec(), &row(p, s, more), &mark()).expect_err("it is refused");
        (refusal.reason, refusal.detail)
    }

    #[test]
    fn an_item_is_what_the_mapping_wants_with_our_mark() {
        let row = row(Value::text("a"), Value::Int(10), vec![("x", number("1.50"))]);
        let wanted = Wanted::new(&spec(), &row, &mark()).expect("it can be stored");
        assert_eq!(wanted.key.values, [Value::text("a"), number("10")]);
        let held = read(wanted.attributes.clone()).expect("it reads");
        assert_eq!(held.mark, Some(mark()));
        assert_eq!(held.item[&Box::from("x")], number("1.5"));
        assert!(wanted.same_as(&held));
        let other = Held { item: BTreeMap::new(), ..held };
        assert!(!wanted.same_as(&other));
    }

    #[test]
    fn what_dynamodb_would_refuse_is_refused_with_its_place() {
        let (a, one) = (|| Value::text("a"), || Value::Int(1));
        let long = |bytes| Value::text("x".repeat(bytes));
        let not_storable = |detail: &str| (NOT_STORABLE, detail.to_owned());
        assert_eq!(refusal(Value::text(""), one(), vec![]), not_storable("t: key attribute p is empty"));
        let too_long = not_storable("t: key attribute p has 2049 bytes, 2048 are allowed");
        assert_eq!(refusal(long(2049), one(), vec![]), too_long);
        assert_eq!(refusal(a(), a(), vec![]), not_storable("t: key attribute s is not of type N"));
        let index = not_storable("index by_g of t: key attribute g is empty");
        assert_eq!(refusal(a(), one(), vec![("g", Value::text(""))]), index);
        let null = not_storable("index by_g of t: key attribute g is not of type S");
        assert_eq!(refusal(a(), one(), vec![("g", Value::Null)]), null);
        let float = not_storable("t: x: DynamoDB has no type for a float: cast it to text, a number or binary");
        assert_eq!(refusal(a(), one(), vec![("x", Value::Float(crate::event::Float(1.0)))]), float);
        assert_eq!(refusal(a(), one(), vec![("x", number("1E126"))]).0, NUMBER_OUT_OF_RANGE);
        let nested = Value::List(vec![number("1E126")]);
        assert_eq!(refusal(a(), one(), vec![("x", nested)]).0, NUMBER_OUT_OF_RANGE);
        let deep = (0..33).fold(Value::Null, |inner, _| Value::List(vec![inner]));
        assert_eq!(refusal(a(), one(), vec![("x", deep)]), not_storable("t: x has more than 32 levels"));
    }

    #[test]
    fn the_limit_of_400_kb_counts_our_mark() {
        let fits = |bytes: usize| {
            let row = row(Value::text("a"), Value::Int(1), vec![("x", Value::text("x".repeat(bytes)))]);
            Wanted::new(&spec(), &row, &mark()).map(|wanted| wanted.bytes).map_err(|refusal| refusal.reason)
        };
        let empty = fits(0).expect("it can be stored");
        let room = ITEM_BYTES_MAX - empty;
        assert!(empty > "psx".len() + mark().bytes());
        assert_eq!(fits(room), Ok(ITEM_BYTES_MAX));
        assert_eq!(fits(room + 1), Err(TOO_LARGE));
    }

    #[test]
    fn an_item_that_says_another_key_than_its_row_is_refused() {
        let mut row = row(Value::text("a"), Value::Int(1), vec![]);
        row.values[0] = Value::text("b");
        let refusal = Wanted::new(&spec(), &row, &mark()).expect_err("it is refused");
        assert_eq!(refusal.detail, "t: the item's p is not that of its key");
    }
}

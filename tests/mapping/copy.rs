//! A copy between DynamoDB tables with a new key, which no code was written for.

use rehome::event::{Decimal, Value};
use rehome::mapping::schema::{Kind, Projection, Store};
use rehome::mapping::{Corpus, Migration, SourceRow};

use crate::support::{assert_examples_hold, root, table};

fn copy() -> Migration {
    Migration::load(&root("tests/data/copy")).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn every_example_holds() {
    assert_examples_hold(&copy(), 4);
}

#[test]
fn the_target_s_tables_are_told_to_whoever_makes_them() {
    let migration = copy();
    assert_eq!((migration.source_store(), migration.target_store()), (Store::DynamoDb, Store::DynamoDb));
    let [events, owners] = migration.dynamo_tables() else { panic!("two tables") };
    assert_eq!(
        events.key.iter().map(|key| (&*key.name, key.kind)).collect::<Vec<_>>(),
        [("owner", Kind::Text), ("at", Kind::Decimal)]
    );
    assert_eq!(events.indexes[0].projection, Projection::Include(vec!["title".into()]));
    assert_eq!((owners.key.len(), owners.indexes.len()), (1, 0));
    assert_eq!(migration.target_sql(), "");
}

#[test]
fn a_row_is_its_key_attributes_and_the_item() {
    let migration = copy();
    let owners = table(&migration, "owners");
    let names: Vec<(&str, &str)> = migration.source_tables()[usize::from(owners.0)]
        .columns
        .iter()
        .map(|column| (&*column.name, &*column.type_name))
        .collect();
    assert_eq!(names, [("team", "S"), ("number", "N"), ("item", "item")]);
    let number = Value::Decimal(Decimal::parse("7").expect("a number"));
    let item = Value::Map([("team".into(), Value::text("t")), ("number".into(), number.clone())].into());
    let values = vec![Value::text("t"), number, item];
    let row = SourceRow { key: migration.key_of(owners, &values), values };
    let corpus = Corpus::place(&migration, vec![(owners, row)]).expect("in memory");
    let rows = corpus.evaluate(&migration, "owner:t").expect("in memory").rows;
    let Value::Map(item) = &rows[0].values[1] else { panic!("an item") };
    assert_eq!(rows[0].values[0], Value::text("t#7"));
    assert_eq!(item["owner"], rows[0].values[0]);
}

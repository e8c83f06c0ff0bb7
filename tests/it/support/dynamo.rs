//! DynamoDB Local as whole migrations meet it: one server for the test process, its tables and their items.

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
    StreamSpecification, StreamViewType,
};
use rehome::dynamo::{Address, Server};

#[path = "../../dynamo/support/server.rs"]
mod server;

/// An item as the service has it.
pub type Item = HashMap<String, AttributeValue>;

/// A client of the server that all tests share.
pub async fn client() -> Client {
    Server::new(&Address::local(server::url())).await.expect("an address").tables().clone()
}

/// The server's address for the command line.
pub fn address() -> String {
    server::url().replace("http://", "dynamodb+local://")
}

/// All items of a table, which must fit a page.
pub async fn items(client: &Client, table: &str) -> Vec<Item> {
    let answer = client.scan().table_name(table).consistent_read(true).send().await.expect("a table");
    assert!(answer.last_evaluated_key.is_none(), "one page");
    answer.items.unwrap_or_default()
}

/// An attribute's text; empty when it is none.
pub fn text<'a>(item: &'a Item, name: &str) -> &'a str {
    item.get(name).and_then(|value| value.as_s().ok()).map_or("", String::as_str)
}

/// An attribute's digits; empty when it is no number.
pub fn number<'a>(item: &'a Item, name: &str) -> &'a str {
    item.get(name).and_then(|value| value.as_n().ok()).map_or("", String::as_str)
}

/// Makes a table of this key, with a stream of both images.
pub async fn table(client: &Client, name: &str, key: &[(&str, ScalarAttributeType)]) {
    let mut create = client.create_table().table_name(name).billing_mode(BillingMode::PayPerRequest);
    for (place, (attribute, kind)) in key.iter().enumerate() {
        let of = if place == 0 { KeyType::Hash } else { KeyType::Range };
        let element = KeySchemaElement::builder().attribute_name(*attribute).key_type(of).build().expect("a key");
        let definition = AttributeDefinition::builder()
            .attribute_name(*attribute)
            .attribute_type(kind.clone())
            .build()
            .expect("a key");
        create = create.key_schema(element).attribute_definitions(definition);
    }
    let stream = StreamSpecification::builder()
        .stream_enabled(true)
        .stream_view_type(StreamViewType::NewAndOldImages)
        .build()
        .expect("a stream");
    create.stream_specification(stream).send().await.expect("it may");
}

/// An event of the migration `copy`.
pub fn event(id: &str, owner: &str, at: i64) -> Item {
    HashMap::from([
        ("id".to_owned(), AttributeValue::S(id.into())),
        ("owner".to_owned(), AttributeValue::S(owner.into())),
        ("kind".to_owned(), AttributeValue::S("k".into())),
        ("title".to_owned(), AttributeValue::S("".into())),
        ("exact".to_owned(), AttributeValue::N("1234567890123456789012345678901234567.8".into())),
        ("meta".to_owned(), AttributeValue::M(HashMap::from([("at".to_owned(), AttributeValue::N(at.to_string()))]))),
    ])
}

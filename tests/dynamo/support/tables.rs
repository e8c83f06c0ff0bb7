//! Tables of a test's own, and what is in them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::ProvideErrorMetadata as _;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
    StreamSpecification, StreamViewType,
};
use rehome::dynamo::codec::{Attributes, read_item};
use rehome::dynamo::table::{Shape, describe};
use rehome::dynamo::{Address, Server};
use rehome::event::{Key, Row};

use super::server;

/// Items by key, as rows.
pub type Rows = BTreeMap<Key, Row>;

/// Numbers the tables: all tests share one server.
static TABLES: AtomicU32 = AtomicU32::new(0);

/// A table with its server, without anything between.
pub struct Table {
    /// Its name.
    pub name: String,
    /// The server.
    pub server: Server,
}

/// Text.
pub fn text(text: impl Into<String>) -> AttributeValue {
    AttributeValue::S(text.into())
}

/// A number.
pub fn number(number: impl ToString) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

/// An item of a text key and some more.
pub fn item(id: &str, more: &[(&str, AttributeValue)]) -> Attributes {
    let more = more.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
    more.chain([("id".to_owned(), text(id))]).collect()
}

impl Table {
    /// A table whose key is the text `id`, with a stream of both images.
    pub async fn new() -> Self {
        Self::with(&[("id", ScalarAttributeType::S)], Some(StreamViewType::NewAndOldImages)).await
    }

    /// A table with this key, and a stream where a view is given.
    pub async fn with(key: &[(&str, ScalarAttributeType)], view: Option<StreamViewType>) -> Self {
        let server = Server::new(&Address::local(server::url())).await.expect("an address");
        let name = format!("table-{}", TABLES.fetch_add(1, Ordering::Relaxed));
        let table = Self { name, server };
        table.create(key, view).await;
        table
    }

    /// Makes it, again where it was deleted.
    pub async fn create(&self, key: &[(&str, ScalarAttributeType)], view: Option<StreamViewType>) {
        let mut request = self.client().create_table().table_name(&self.name).billing_mode(BillingMode::PayPerRequest);
        for ((name, kind), part) in key.iter().zip([KeyType::Hash, KeyType::Range]) {
            let definition = AttributeDefinition::builder().attribute_name(*name).attribute_type(kind.clone());
            let element = KeySchemaElement::builder().attribute_name(*name).key_type(part);
            request = request
                .attribute_definitions(definition.build().expect("whole"))
                .key_schema(element.build().expect("whole"));
        }
        request.set_stream_specification(view.map(specification)).send().await.expect("the table is made");
    }

    /// The client.
    pub fn client(&self) -> &Client {
        self.server.tables()
    }

    /// Puts an item.
    pub async fn put(&self, item: Attributes) {
        self.client().put_item().table_name(&self.name).set_item(Some(item)).send().await.expect("it is put");
    }

    /// Puts items with the ids `from..to`, and a number.
    pub async fn fill(&self, from: u32, to: u32) {
        for id in from..to {
            self.put(item(&format!("k{id:05}"), &[("n", number(id))])).await;
        }
    }

    /// Deletes the item with a text key.
    pub async fn delete(&self, id: &str) {
        self.client().delete_item().table_name(&self.name).key("id", text(id)).send().await.expect("it is deleted");
    }

    /// Turns the stream on or off. The local server fails now and then when two tables are changed at once.
    pub async fn stream(&self, view: Option<StreamViewType>) {
        let off = || StreamSpecification::builder().stream_enabled(false).build().expect("whole");
        let stream = view.clone().map_or_else(off, specification);
        loop {
            let request = self.client().update_table().table_name(&self.name).stream_specification(stream.clone());
            let changed = request.send().await;
            let table = describe(&self.server, &self.name).await.expect("the server answers").expect("there is one");
            if table.stream.is_some() == view.is_some() {
                return;
            }
            assert_eq!(
                changed.err().and_then(|error| error.code().map(str::to_owned)).as_deref(),
                Some("InternalFailure")
            );
        }
    }

    /// The stream that it has now.
    pub async fn arn(&self) -> String {
        let table = describe(&self.server, &self.name).await.expect("the server answers").expect("there is one");
        table.stream.expect("a stream").arn
    }

    /// Everything in it.
    pub async fn rows(&self) -> Rows {
        let table = describe(&self.server, &self.name).await.expect("the server answers").expect("there is one");
        rows(self.client(), &table.shape).await
    }
}

fn specification(view: StreamViewType) -> StreamSpecification {
    StreamSpecification::builder().stream_enabled(true).stream_view_type(view).build().expect("whole")
}

async fn rows(client: &Client, shape: &Shape) -> Rows {
    let scan = client.scan().table_name(shape.table()).consistent_read(true);
    let mut pages = scan.into_paginator().items().send();
    let mut rows = Rows::new();
    while let Some(item) = pages.next().await {
        let item = read_item(item.expect("the server answers")).expect("it reads");
        let (key, row) = shape.row(item).expect("it fits");
        rows.insert(key, row);
    }
    rows
}

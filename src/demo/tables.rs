//! A private DynamoDB for the demo: in this process, in memory, on a port of its own; gone when it is dropped.
//!
//! rehome talks to it over HTTP as to any other. What the demo itself does to it (the owner's definitions, the application's
//! writes, the damage) goes past rehome, straight into the server.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;

use dynoxide::{Database, DynoxideError, server};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::damage::Damaged;
use super::error::Error;
use super::generator::Generator;
use super::items::{Action, ItemChange};
use super::writer::{Pace, Written, ticks};
use crate::target::TableShape;

/// What the names of the attributes begin with that rehome puts on its items.
const MARKS: &str = "_rehome";
/// Items looked at together for one that can be damaged.
const PAGE: usize = 50;

/// What a change did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// An item was written, be it as it was, or deleted: the stream has a record.
    Changed,
    /// There was nothing to delete.
    Nothing,
}

/// A running private server.
pub struct Tables {
    database: Database,
    port: u16,
    server: JoinHandle<()>,
}

impl Tables {
    /// Starts a server; it takes connections when this returns.
    pub async fn start() -> Result<Self, Error> {
        let listen = |source| Error::Listen { source };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(listen)?;
        let port = listener.local_addr().map_err(listen)?.port();
        let database = Database::memory().map_err(|error| refused("start", &error))?;
        let server = tokio::spawn(server::serve_on(listener, database.clone()));
        Ok(Self { database, port, server })
    }

    /// Its address, as rehome takes it.
    pub fn url(&self) -> String {
        format!("dynamodb+local://127.0.0.1:{}", self.port)
    }

    /// Makes the tables of a file, an array of what `aws dynamodb create-table --cli-input-json` takes, puts the items of the
    /// first `units` units into them, and then enables the streams that the file asks for: an owner enables them for the
    /// migration, long after most of the items were written.
    pub fn load(&self, definitions: &Path, generator: &Generator, units: u64) -> Result<Written, Error> {
        const ACTION: &str = "make the demo's tables";
        let text = std::fs::read_to_string(definitions)
            .map_err(|source| Error::Read { path: definitions.to_owned(), source })?;
        let not_tables = |source| Error::Definitions { path: definitions.to_owned(), source };
        let tables: Vec<Map<String, Value>> = serde_json::from_str(&text).map_err(not_tables)?;
        let mut streams = Vec::new();
        for mut table in tables {
            if let Some(stream) = table.remove("StreamSpecification") {
                streams.push(json!({ "TableName": table["TableName"], "StreamSpecification": stream }));
            }
            let created = self.database.create_table(request(ACTION, Value::Object(table))?);
            created.map_err(|error| refused(ACTION, &error))?;
        }
        let mut written = Written::default();
        for unit in 0..units {
            for change in generator.initial_items(unit)? {
                self.apply(&change)?;
                written.rows += 1;
            }
        }
        for stream in streams {
            let enabled = self.database.update_table(request(ACTION, stream)?);
            enabled.map_err(|error| refused(ACTION, &error))?;
        }
        Ok(written)
    }

    /// Changes items until told to stop, or until there are no more changes.
    pub async fn write_live(
        &self,
        generator: &Generator,
        pace: Pace,
        stop: &CancellationToken,
    ) -> Result<Written, Error> {
        let mut ticks = ticks(pace);
        let mut written = Written::default();
        for step in pace.first_step..pace.first_step.saturating_add(pace.steps_max) {
            tokio::select! {
                // Both branches are cancel-safe: neither has done anything before it is ready.
                biased;
                () = stop.cancelled() => break,
                _ = ticks.tick() => {}
            }
            let Some(transaction) = generator.live_items(step, pace.units)? else { break };
            for change in &transaction.changes {
                written.changes += u64::from(self.apply(change)? == Done::Changed);
            }
            written.committed += 1;
        }
        Ok(written)
    }

    /// Does what a change says.
    pub fn apply(&self, change: &ItemChange) -> Result<Done, Error> {
        const ACTION: &str = "write the demo's items";
        match change.action {
            Action::Put => {
                let put = json!({ "TableName": change.table, "Item": change.item });
                self.database.put_item(request(ACTION, put)?).map_err(|error| refused(ACTION, &error))?;
                Ok(Done::Changed)
            }
            Action::Delete => {
                let names = self.key_of(&change.table)?;
                let key: Map<String, Value> =
                    change.item.iter().filter(|(name, _)| names.contains(name)).map(owned).collect();
                let delete = json!({ "TableName": change.table, "Key": key, "ReturnValues": "ALL_OLD" });
                let told = self.database.delete_item(request(ACTION, delete)?);
                let told = told.map_err(|error| refused(ACTION, &error))?;
                Ok(if told.attributes.is_some() { Done::Changed } else { Done::Nothing })
            }
        }
    }

    /// All items of a table, each as `{"name": {"S": "…"}}`.
    pub fn items(&self, table: &str) -> Result<Vec<BTreeMap<String, Value>>, Error> {
        let mut items = Vec::new();
        self.pages(table, usize::MAX, |page| {
            items.extend(page);
            true
        })?;
        Ok(items)
    }

    /// Changes one attribute of one item that rehome wrote, outside the keys: its last one of text, or a map, by name.
    pub fn damage(&self, tables: &[TableShape]) -> Result<Option<Damaged>, Error> {
        for shape in tables {
            let keys = self.key_of(&shape.name)?;
            let mut found = None;
            self.pages(&shape.name, PAGE, |page| {
                found = page.into_iter().find_map(|item| damaged(item, &keys));
                found.is_none()
            })?;
            if let Some((item, column)) = found {
                let table = shape.name.to_string();
                self.apply(&ItemChange { table: table.clone(), item, action: Action::Put })?;
                return Ok(Some(Damaged { table, column }));
            }
        }
        Ok(None)
    }

    /// Hands over a table page by page, until the receiver has enough.
    fn pages(
        &self,
        table: &str,
        limit: usize,
        mut take: impl FnMut(Vec<BTreeMap<String, Value>>) -> bool,
    ) -> Result<(), Error> {
        const ACTION: &str = "read the demo's items";
        let mut scan = json!({ "TableName": table, "ConsistentRead": true });
        if limit < usize::MAX {
            scan["Limit"] = limit.into();
        }
        loop {
            let page = self.database.scan(request(ACTION, scan.clone())?).map_err(|error| refused(ACTION, &error))?;
            let page: Page = serde_json::to_value(page).and_then(serde_json::from_value).map_err(misread(ACTION))?;
            if !take(page.items) {
                return Ok(());
            }
            let Some(last) = page.last else { return Ok(()) };
            scan["ExclusiveStartKey"] = last;
        }
    }

    /// Names of a table's key attributes.
    fn key_of(&self, table: &str) -> Result<Vec<String>, Error> {
        const ACTION: &str = "look at the demo's tables";
        let asked = request(ACTION, json!({ "TableName": table }))?;
        let told = self.database.describe_table(asked).map_err(|error| refused(ACTION, &error))?;
        let told = serde_json::to_value(told).map_err(misread(ACTION))?;
        let elements = told["Table"]["KeySchema"].as_array().into_iter().flatten();
        Ok(elements.filter_map(|element| element["AttributeName"].as_str()).map(str::to_owned).collect())
    }
}

impl Drop for Tables {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// A page of a scan.
#[derive(serde::Deserialize)]
struct Page {
    #[serde(rename = "Items", default)]
    items: Vec<BTreeMap<String, Value>>,
    #[serde(rename = "LastEvaluatedKey")]
    last: Option<Value>,
}

/// An item with one attribute changed, and its name; `None` when it is not rehome's or has none to change.
fn damaged(mut item: BTreeMap<String, Value>, keys: &[String]) -> Option<(Map<String, Value>, String)> {
    if !item.keys().any(|name| name.starts_with(MARKS)) {
        return None;
    }
    let free = |name: &str| !keys.iter().any(|key| key == name) && !name.starts_with(MARKS);
    let (name, value) = item
        .iter_mut()
        .rev()
        .find(|(name, value)| free(name) && (value.get("S").is_some() || value.get("M").is_some()))?;
    match value.get_mut("M") {
        Some(map) => map["damaged"] = json!({ "BOOL": true }),
        None => *value = json!({ "S": "damaged" }),
    }
    let name = name.clone();
    Some((item.into_iter().collect(), name))
}

fn owned((name, value): (&String, &Value)) -> (String, Value) {
    (name.clone(), value.clone())
}

fn request<T: DeserializeOwned>(action: &'static str, value: Value) -> Result<T, Error> {
    serde_json::from_value(value).map_err(misread(action))
}

fn misread(action: &'static str) -> impl Fn(serde_json::Error) -> Error {
    // The parser's words may hold what it read (I12).
    move |_| Error::Server { action, code: "not a request".to_owned() }
}

fn refused(action: &'static str, error: &DynoxideError) -> Error {
    Error::Server { action, code: error.short_error_code().to_owned() }
}

//! Creates target tables with their indexes, and checks that the live ones are as they should be.
//!
//! A table that is there is never changed: it may be someone else's, and an index costs its filling. What differs is named,
//! with what to do.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, GlobalSecondaryIndex, GlobalSecondaryIndexDescription, KeySchemaElement, KeyType,
    ProjectionType, ProvisionedThroughput, ScalarAttributeType, StreamSpecification, StreamViewType, TableDescription,
    TableStatus,
};
use backon::{BackoffBuilder as _, ExponentialBuilder, Retryable as _};

use crate::dynamo::Server;
use crate::dynamo::error::{Failure, Kind, failure};
use crate::dynamo::table::{KeyAttribute, KeyKind, View};
use crate::target::Error;

use super::calls::failed;
use super::mark::{OWNER, VERSION};
use super::spec::{Billing, IndexSpec, Projection, TableSpec};

/// What the errors say was being done.
const CREATE: &str = "create target tables";
const USE: &str = "use the target tables";
/// Shortest and longest wait between two looks at a table that is being made.
const LOOK: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Looks before a table is said not to become ready: with the waits between them, ten minutes.
const LOOKS_MAX: usize = 125;

/// What [`provision`] found and made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Provisioned {
    /// Tables that were created.
    pub created: Vec<String>,
    /// Tables that were there.
    pub present: Vec<String>,
}

/// What stays at the target after rehome has gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// The target tables, with all their items.
    pub tables: Vec<String>,
    /// Attributes that the items written by rehome carry beside the mapping's.
    pub attributes: [&'static str; 2],
}

/// Creates the tables that are missing, waits until they can be used, and verifies all of them.
///
/// # Errors
/// When a table cannot be created, or is not as the definition says.
pub async fn provision(server: &Server, specs: &[TableSpec]) -> Result<Provisioned, Error> {
    let client = server.tables();
    let mut done = Provisioned::default();
    for spec in specs {
        if describe(client, spec).await?.is_some() {
            done.present.push(spec.name.to_string());
        } else {
            create(client, spec).await?;
            done.created.push(spec.name.to_string());
        }
    }
    for spec in specs {
        wait_until_ready(client, spec).await?;
    }
    verify(server, specs).await?;
    Ok(done)
}

/// Checks that every table is there with the key, the indexes and the stream that the definition states.
///
/// How capacity is paid for is left to the operator; further indexes are no difference.
///
/// # Errors
/// [`Error::Refused`] naming the first difference and what to do about it.
pub async fn verify(server: &Server, specs: &[TableSpec]) -> Result<(), Error> {
    for spec in specs {
        let table = describe(server.tables(), spec).await?;
        let problem = match &table {
            None => Some("is not there: create the target tables, or check region and endpoint".to_owned()),
            Some(table) => difference(spec, table),
        };
        if let Some(problem) = problem {
            let message = format!("table {} {problem}", spec.name);
            return Err(Error::Refused { action: USE, code: "rehome".to_owned(), message });
        }
    }
    Ok(())
}

/// What tells each table from another of its name, as one that was deleted and made anew.
///
/// # Errors
/// Those of [`verify`].
pub async fn identities(server: &Server, specs: &[TableSpec]) -> Result<Vec<(Box<str>, String)>, Error> {
    let mut found = Vec::with_capacity(specs.len());
    for spec in specs {
        let Some(table) = describe(server.tables(), spec).await? else { continue };
        let made = table.creation_date_time().map(|time| time.as_nanos().to_string()).unwrap_or_default();
        let id = [table.table_arn(), table.table_id(), Some(&made)].map(Option::unwrap_or_default).join(" ");
        found.push((spec.name.clone(), id));
    }
    Ok(found)
}

/// Removes nothing, and says what is left: the tables are the operator's, and the marks on their items do no harm.
pub fn unprovision(specs: &[TableSpec]) -> Left {
    Left { tables: specs.iter().map(|spec| spec.name.to_string()).collect(), attributes: [OWNER, VERSION] }
}

/// Describes a table; `None` when there is no such table.
async fn describe(client: &Client, spec: &TableSpec) -> Result<Option<TableDescription>, Error> {
    match client.describe_table().table_name(&*spec.name).send().await {
        Ok(answer) => Ok(answer.table),
        Err(error) => match failure(&error) {
            failure if failure.kind == Kind::NotFound => Ok(None),
            failure => Err(failed(USE, &spec.name, failure)),
        },
    }
}

/// The live key and indexes of a table, each as a line of text by its name; the key's is empty. Nothing when there is no such
/// table.
pub async fn shape(client: &Client, spec: &TableSpec) -> Result<Vec<(String, String)>, Error> {
    let Some(table) = describe(client, spec).await? else { return Ok(Vec::new()) };
    let definitions = table.attribute_definitions();
    let mut lines = vec![(String::new(), key_text(table.key_schema(), definitions))];
    for index in table.global_secondary_indexes() {
        let held = index.projection().and_then(|held| held.projection_type()).map_or("", ProjectionType::as_str);
        let text = format!("{} {held}", key_text(index.key_schema(), definitions));
        lines.push((index.index_name().unwrap_or_default().to_owned(), text));
    }
    lines.sort();
    Ok(lines)
}

/// The waits between looks.
fn waits() -> ExponentialBuilder {
    ExponentialBuilder::default().with_min_delay(LOOK.0).with_max_delay(LOOK.1).with_max_times(LOOKS_MAX)
}

async fn wait_until_ready(client: &Client, spec: &TableSpec) -> Result<(), Error> {
    let mut waits = waits().build();
    loop {
        let table = describe(client, spec).await?;
        let status = table.as_ref().and_then(TableDescription::table_status);
        // A table that was just created may not be known everywhere yet.
        if !matches!(status, None | Some(TableStatus::Creating)) {
            return Ok(());
        }
        let Some(wait) = waits.next() else {
            let message = "it is still being created: look at it, and try again".to_owned();
            let failure = Failure { kind: Kind::Unreachable, code: "creating".to_owned(), message };
            return Err(failed(CREATE, &spec.name, failure));
        };
        tokio::time::sleep(wait).await;
    }
}

async fn create(client: &Client, spec: &TableSpec) -> Result<(), Error> {
    let complete = "all of it was given";
    let mut types: BTreeMap<&str, KeyKind> = BTreeMap::new();
    for attribute in spec.key.iter().chain(spec.indexes.iter().flat_map(|index| &index.key)) {
        types.insert(&attribute.name, attribute.kind);
    }
    let definitions = types.into_iter().map(|(name, kind)| {
        let definition = AttributeDefinition::builder().attribute_name(name).attribute_type(scalar(kind));
        definition.build().expect(complete)
    });
    let throughput = match spec.billing {
        Billing::OnDemand => None,
        Billing::Provisioned { read_units, write_units } => {
            let throughput = ProvisionedThroughput::builder().read_capacity_units(i64::from(read_units));
            Some(throughput.write_capacity_units(i64::from(write_units)).build().expect(complete))
        }
    };
    let indexes: Vec<GlobalSecondaryIndex> = spec
        .indexes
        .iter()
        .map(|index| {
            let wanted = GlobalSecondaryIndex::builder()
                .index_name(&*index.name)
                .set_key_schema(Some(key_schema(&index.key)))
                .projection(projection(&index.projection))
                .set_provisioned_throughput(throughput.clone());
            wanted.build().expect(complete)
        })
        .collect();
    let mode = if throughput.is_some() { BillingMode::Provisioned } else { BillingMode::PayPerRequest };
    let mut call = client
        .create_table()
        .table_name(&*spec.name)
        .set_attribute_definitions(Some(definitions.collect()))
        .set_key_schema(Some(key_schema(&spec.key)))
        .billing_mode(mode)
        .set_provisioned_throughput(throughput);
    if !indexes.is_empty() {
        call = call.set_global_secondary_indexes(Some(indexes));
    }
    if let Some(view) = spec.stream {
        let stream = StreamSpecification::builder().stream_enabled(true).stream_view_type(view_type(view));
        call = call.stream_specification(stream.build().expect(complete));
    }
    // Few tables with indexes may be in the making at once: the next one waits for those before it.
    let attempt = || async { call.clone().send().await.map_err(|error| failure(&error)) };
    let created = attempt.retry(waits()).when(|failure: &Failure| failure.kind == Kind::Throttled).await;
    match created {
        Ok(_) => Ok(()),
        // Someone else was faster; whether it is the same table is seen when it is verified.
        Err(failure) if failure.code == "ResourceInUseException" => Ok(()),
        Err(failure) => Err(failed(CREATE, &spec.name, failure)),
    }
}

/// What differs first between a table and its definition, with what to do.
fn difference(spec: &TableSpec, table: &TableDescription) -> Option<String> {
    let status = table.table_status().cloned().unwrap_or(TableStatus::Active);
    if !matches!(status, TableStatus::Active | TableStatus::Updating) {
        return Some(format!("is {status}: wait until it is ACTIVE"));
    }
    let live = key_text(table.key_schema(), table.attribute_definitions());
    let wanted = wanted_key(&spec.key);
    if live != wanted {
        return Some(format!(
            "has the key {live}, the definition says {wanted}: correct the definition, or choose another table's name"
        ));
    }
    for index in &spec.indexes {
        let found = table.global_secondary_indexes().iter().find(|live| live.index_name() == Some(&*index.name));
        let problem = match found {
            None => Some("is not there: add it to the table".to_owned()),
            Some(live) => index_difference(index, live, table.attribute_definitions()),
        };
        if let Some(problem) = problem {
            return Some(format!("is not as defined: index {} {problem}, or correct the definition", index.name));
        }
    }
    let live = table.stream_specification().filter(|stream| stream.stream_enabled());
    let live = live.and_then(StreamSpecification::stream_view_type);
    match spec.stream.map(view_type) {
        Some(wanted) if live != Some(&wanted) => {
            let live = live.map_or("no stream".to_owned(), |view| format!("a stream of {view}"));
            Some(format!("has {live}, the definition says {wanted}: enable it so, or correct the definition"))
        }
        _ => None,
    }
}

fn index_difference(
    index: &IndexSpec,
    live: &GlobalSecondaryIndexDescription,
    definitions: &[AttributeDefinition],
) -> Option<String> {
    let (key, wanted) = (key_text(live.key_schema(), definitions), wanted_key(&index.key));
    if key != wanted {
        return Some(format!("has the key {key}, the definition says {wanted}: make it anew"));
    }
    let there = live.projection();
    let mut attributes: Vec<&str> = match there.map(|there| there.non_key_attributes()) {
        Some(names) => names.iter().map(String::as_str).collect(),
        None => Vec::new(),
    };
    attributes.sort_unstable();
    let held = there.and_then(|there| there.projection_type()).map_or("", ProjectionType::as_str);
    let live = projection_text(held, &attributes);
    let wanted = projection(&index.projection);
    let mut attributes: Vec<&str> = wanted.non_key_attributes().iter().map(String::as_str).collect();
    attributes.sort_unstable();
    let wanted = projection_text(wanted.projection_type().map_or("", ProjectionType::as_str), &attributes);
    (live != wanted).then(|| format!("holds {live}, the definition says {wanted}: make it anew"))
}

fn projection_text(kind: &str, attributes: &[&str]) -> String {
    if attributes.is_empty() { kind.to_owned() } else { format!("{kind} {}", attributes.join(", ")) }
}

/// A live key as text: `(p S, s N)`.
fn key_text(schema: &[KeySchemaElement], definitions: &[AttributeDefinition]) -> String {
    let part = |kind: &KeyType| {
        let name = schema.iter().find(|element| element.key_type() == kind)?.attribute_name();
        let definition = definitions.iter().find(|definition| definition.attribute_name() == name);
        Some(format!("{name} {}", definition.map_or("?", |definition| definition.attribute_type().as_str())))
    };
    let parts: Vec<String> = [KeyType::Hash, KeyType::Range].iter().filter_map(part).collect();
    format!("({})", parts.join(", "))
}

fn wanted_key(key: &[KeyAttribute]) -> String {
    let parts: Vec<String> =
        key.iter().map(|attribute| format!("{} {}", attribute.name, attribute.kind.name())).collect();
    format!("({})", parts.join(", "))
}

fn key_schema(key: &[KeyAttribute]) -> Vec<KeySchemaElement> {
    let element = |(attribute, kind): (&KeyAttribute, KeyType)| {
        let element = KeySchemaElement::builder().attribute_name(&*attribute.name).key_type(kind);
        element.build().expect("all of it was given")
    };
    key.iter().zip([KeyType::Hash, KeyType::Range]).map(element).collect()
}

fn projection(wanted: &Projection) -> aws_sdk_dynamodb::types::Projection {
    let projection = aws_sdk_dynamodb::types::Projection::builder();
    match wanted {
        Projection::All => projection.projection_type(ProjectionType::All),
        Projection::KeysOnly => projection.projection_type(ProjectionType::KeysOnly),
        Projection::Include(names) => projection
            .projection_type(ProjectionType::Include)
            .set_non_key_attributes(Some(names.iter().map(ToString::to_string).collect())),
    }
    .build()
}

fn scalar(kind: KeyKind) -> ScalarAttributeType {
    match kind {
        KeyKind::S => ScalarAttributeType::S,
        KeyKind::N => ScalarAttributeType::N,
        KeyKind::B => ScalarAttributeType::B,
    }
}

fn view_type(view: View) -> StreamViewType {
    match view {
        View::KeysOnly => StreamViewType::KeysOnly,
        View::NewImage => StreamViewType::NewImage,
        View::OldImage => StreamViewType::OldImage,
        View::Both => StreamViewType::NewAndOldImages,
    }
}

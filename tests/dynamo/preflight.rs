//! What is missing is named with its fix, before anything is read.

use aws_sdk_dynamodb::types::{ScalarAttributeType, StreamViewType};
use rehome::capture::Error;
use rehome::capture::dynamo::Config;
use rehome::dynamo::Address;
use rehome::dynamo::preflight::{Absence, TableExpectation};
use rehome::source::Finding;

use crate::support::capture::{config, memory, needed, start};
use crate::support::server;
use crate::support::shim::{Fault, Shim};
use crate::support::tables::Table;

async fn with_view(view: Option<StreamViewType>) -> Table {
    Table::with(&[("id", ScalarAttributeType::S)], view).await
}

async fn findings(config: Config) -> Vec<Finding> {
    match start(config, memory()).ended().await {
        Err(Error::NotReady(findings)) => findings,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_that_is_missing_is_told_at_once() {
    let none = with_view(None).await;
    let keys = with_view(Some(StreamViewType::KeysOnly)).await;
    let old = with_view(Some(StreamViewType::OldImage)).await;
    let fine = Table::new().await;
    let mut settings = config(server::url(), &[&none, &keys, &old, &fine]);
    settings.tables.push(needed("no-such-table"));
    let found = findings(settings).await;
    let told = |place: &str| {
        let one = found.iter().filter(|finding| finding.place.ends_with(place));
        one.map(|finding| format!("{} ({})", finding.what, finding.fix)).collect::<Vec<_>>().join(" ")
    };
    assert!(told(&none.name).contains("no stream"), "{found:?}");
    assert!(told(&keys.name).contains("KEYS_ONLY"), "{found:?}");
    assert!(told(&old.name).contains("OLD_IMAGE"), "{found:?}");
    assert!(told("no-such-table").contains("there is no such table"), "{found:?}");
    assert_eq!(told(&fine.name), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_optional_table_that_is_not_there_is_told_and_skipped() {
    let table = Table::new().await;
    table.fill(0, 2).await;
    let mut settings = config(server::url(), &[&table]);
    settings.tables.push(TableExpectation { name: "perhaps".into(), absence: Absence::Skipped });
    let mut running = start(settings, memory());
    let status = running.caught_up().await;
    running.equals(&table).await;
    let found: Vec<_> = status.findings.iter().map(|finding| finding.place.as_str()).collect();
    assert_eq!(found, ["table perhaps"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_call_that_is_not_allowed_is_named() {
    for (operation, call) in [
        ("Scan", "dynamodb:Scan"),
        ("DescribeStream", "dynamodb:DescribeStream"),
        ("GetShardIterator", "dynamodb:GetShardIterator"),
        ("GetRecords", "dynamodb:GetRecords"),
        ("DescribeTable", "dynamodb:DescribeTable"),
    ] {
        let (table, shim) = (Table::new().await, Shim::new().await);
        shim.fault(operation, 1, Fault::Refuse("AccessDeniedException"));
        let found = findings(config(&shim.url, &[&table])).await;
        assert!(found[0].fix.contains(call) && found[0].place.ends_with(&table.name), "{found:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_endpoint_says_so() {
    let fails = async |endpoint: &str| {
        let tables = vec![needed("t")];
        let ended = start(Config::new(Address::local(endpoint), tables), memory()).ended().await;
        ended.expect_err("there is nothing").to_string()
    };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    drop(listener);
    let nobody = fails(&format!("http://127.0.0.1:{port}")).await;
    assert!(nobody.contains("cannot reach the source while trying to describe a table"), "{nobody}");
    assert!(nobody.contains("check region and endpoint"), "{nobody}");
    let no_url = fails("localhost:8000").await;
    assert!(no_url.contains("http://"), "{no_url}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_credentials_say_what_to_do() {
    let (table, shim) = (Table::new().await, Shim::new().await);
    shim.fault("DescribeTable", 1, Fault::Refuse("UnrecognizedClientException"));
    let found = findings(config(&shim.url, &[&table])).await;
    assert!(found[0].what.contains("UnrecognizedClientException"), "{found:?}");
    assert!(found[0].fix.contains("credentials"), "{found:?}");
}

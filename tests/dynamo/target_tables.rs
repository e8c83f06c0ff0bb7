//! Target tables: created with their indexes, and compared with what is there.

use rehome::dynamo::table::{KeyAttribute, KeyKind, View, describe};
use rehome::dynamo::target::{
    Billing, DynamoTarget, IndexSpec, Projection, Sharing, TableSpec, provision, unprovision, verify,
};
use rehome::dynamo::{Address, Server};
use rehome::target::{Target as _, UnitOutcome};

use crate::support::server;
use crate::support::shim::{Fault, Shim};
use crate::support::targets::{SETTINGS, Tables, fresh, one, row_of, spec, unique, written};

fn attribute(name: &str, kind: KeyKind) -> KeyAttribute {
    KeyAttribute { name: name.into(), kind }
}

/// A table with everything that a definition can say.
fn full() -> TableSpec {
    TableSpec {
        name: unique("full").into(),
        key: vec![attribute("pk", KeyKind::S), attribute("sk", KeyKind::N)],
        indexes: vec![
            IndexSpec {
                name: "by-status".into(),
                key: vec![attribute("status", KeyKind::S), attribute("at", KeyKind::S)],
                projection: Projection::All,
            },
            IndexSpec {
                name: "by-blob".into(),
                key: vec![attribute("blob", KeyKind::B)],
                projection: Projection::Include(vec!["b".into(), "a".into()]),
            },
        ],
        billing: Billing::Provisioned { read_units: 5, write_units: 7 },
        stream: Some(View::Both),
    }
}

async fn server() -> Server {
    Server::new(&Address::local(server::url())).await.expect("an address")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_are_created_once_with_indexes_and_stream() {
    let (server, specs) = (server().await, [full(), spec(&unique("plain"))]);
    let names: Vec<String> = specs.iter().map(|spec| spec.name.to_string()).collect();
    let first = provision(&server, &specs).await.expect("they are made");
    assert_eq!((first.created, first.present), (names.clone(), vec![]));
    let second = provision(&server, &specs).await.expect("they are there");
    assert_eq!((second.created, second.present), (vec![], names.clone()));
    let table = describe(&server, &names[0]).await.expect("it answers").expect("a table");
    assert_eq!(table.stream.expect("a stream").view, Some(View::Both));
    assert_eq!(unprovision(&specs).tables, names);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_waits_while_too_many_are_in_the_making() {
    let (shim, specs) = (Shim::new().await, [spec(&unique("plain"))]);
    let through = Server::new(&Address::local(&shim.url)).await.expect("an address");
    shim.fault("CreateTable", 2, Fault::Refuse("LimitExceededException"));
    provision(&through, &specs).await.expect("it is made");
    assert_eq!((shim.calls_of("CreateTable").len(), shim.left()), (3, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_differs_is_named_with_what_to_do() {
    let (server, made) = (server().await, full());
    provision(&server, std::slice::from_ref(&made)).await.expect("it is made");
    let name = made.name.clone();
    let differs = |change: &dyn Fn(&mut TableSpec)| {
        let mut wanted = made.clone();
        change(&mut wanted);
        let server = server.clone();
        async move { verify(&server, &[wanted]).await.expect_err("it differs").to_string() }
    };
    let said = |rest: &str| format!("the target refused to use the target tables: rehome table {name} {rest}");
    assert_eq!(
        differs(&|spec| spec.key[1].kind = KeyKind::S).await,
        said(
            "has the key (pk S, sk N), the definition says (pk S, sk S): correct the definition, or choose another \
              table's name"
        )
    );
    assert_eq!(
        differs(&|spec| spec.indexes[0].name = "by-other".into()).await,
        said("is not as defined: index by-other is not there: add it to the table, or correct the definition")
    );
    assert_eq!(
        differs(&|spec| drop(spec.indexes[0].key.pop())).await,
        said(
            "is not as defined: index by-status has the key (status S, at S), the definition says (status S): make it \
              anew, or correct the definition"
        )
    );
    assert_eq!(
        differs(&|spec| spec.indexes[1].projection = Projection::KeysOnly).await,
        said(
            "is not as defined: index by-blob holds INCLUDE a, b, the definition says KEYS_ONLY: make it anew, or \
              correct the definition"
        )
    );
    assert_eq!(
        differs(&|spec| spec.stream = Some(View::NewImage)).await,
        said(
            "has a stream of NEW_AND_OLD_IMAGES, the definition says NEW_IMAGE: enable it so, or correct the definition"
        )
    );
    let missing = verify(&server, &[spec("never-made")]).await.expect_err("it is missing").to_string();
    assert!(missing.ends_with("table never-made is not there: create the target tables, or check region and endpoint"));
    let fewer = TableSpec { indexes: Vec::new(), stream: None, ..made.clone() };
    verify(&server, &[fewer]).await.expect("more than the definition says is no difference");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_is_missing_is_told_when_it_is_written() {
    let server = server().await;
    let settings = rehome::dynamo::target::Settings { sharing: Sharing::Exclusive, ..SETTINGS };
    let specs = || [spec("never-made")].into();
    let error = DynamoTarget::open(&server, "m", specs(), settings).await.expect_err("it is missing").to_string();
    assert!(error.contains("check name, region and endpoint: table never-made is not there"), "{error}");
    let target = DynamoTarget::open(&server, "m", specs(), SETTINGS).await.expect("nothing is asked yet");
    let error = target.apply(&[fresh("u", 1, vec![row_of(0, "p", vec![])])]).await.expect_err("missing").to_string();
    assert!(error.contains("check name, region and endpoint: table never-made is not there"), "{error}");
}

/// What stands in an index is refused by the service when it has another type: it is parked before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_keys_of_indexes_are_looked_at_before_an_item_is_sent() {
    use rehome::event::Value;
    let mut spec = spec(&unique("indexed"));
    let key = vec![attribute("g", KeyKind::S)];
    spec.indexes.push(IndexSpec { name: "by-g".into(), key, projection: Projection::KeysOnly });
    let tables = Tables::of([spec].into()).await;
    let target = tables.target(SETTINGS).await;
    for (id, value, stored) in [("a", Value::text("x"), true), ("b", Value::Null, false), ("c", Value::text(""), false)]
    {
        let outcome = one(&target, fresh(id, 1, vec![row_of(0, id, vec![("g", value)])])).await;
        match stored {
            true => assert_eq!(outcome, written(1, 0, 0)),
            false => {
                let parked = matches!(&outcome, UnitOutcome::Parked { reason, detail }
                    if **reason == *"not_storable" && detail.starts_with("index by-g of "));
                assert!(parked, "{outcome:?}");
            }
        }
    }
    assert_eq!(one(&target, fresh("d", 1, vec![row_of(0, "d", vec![])])).await, written(1, 0, 0), "it is not in it");
}

//! The shim itself, where a fault is more than an answer.

use aws_sdk_dynamodb::types::{PutRequest, WriteRequest};
use rehome::dynamo::{Address, Server};

use crate::support::shim::{Fault, Shim};
use crate::support::tables::{Table, item};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_is_done_in_part_and_the_rest_comes_back() {
    let (table, shim) = (Table::new().await, Shim::new().await);
    let server = Server::new(&Address::local(&shim.url)).await.expect("an address");
    let write = |id: &str| {
        let put = PutRequest::builder().set_item(Some(item(id, &[]))).build().expect("whole");
        WriteRequest::builder().put_request(put).build()
    };
    shim.fault("BatchWriteItem", 1, Fault::Unprocessed);
    let asked = server.tables().batch_write_item().request_items(&table.name, ["a", "b", "c"].map(write).into());
    let answer = asked.send().await.expect("it is done in part");
    let left = answer.unprocessed_items.expect("the others").remove(&table.name).expect("of this table");
    assert_eq!((table.rows().await.len(), left.len()), (1, 2));
    server.tables().batch_write_item().request_items(&table.name, left).send().await.expect("they are done");
    assert_eq!(table.rows().await.len(), 3);
}

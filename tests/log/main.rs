//! Tests of the event log: the seam's suite on each implementation, and what only a log on a disk can promise.

mod crash;
mod embedded;
mod lanes;
#[path = "../suites/log.rs"]
mod suite;

use rehome::log::MemoryLog;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_in_memory_keeps_the_contract() {
    suite::run(|partitions| MemoryLog::new(partitions, 1)).await;
}

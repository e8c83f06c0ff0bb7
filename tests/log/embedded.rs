//! The log on a disk: opened again, opened twice, damaged and cut.

use std::cell::RefCell;
use std::path::Path;

use rehome::log::{EmbeddedLog, Error, EventLog, Offset, Options, Partition};

use crate::suite;

fn options(partitions: u16) -> Options {
    Options { partitions, generation: 1_700_000_000_000 }
}

fn open(path: &Path) -> EmbeddedLog {
    EmbeddedLog::open(path, options(1)).expect("the log opens")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_log_keeps_the_contract() {
    let folders = RefCell::new(Vec::new());
    suite::run(|partitions| {
        let folder = tempfile::tempdir().expect("a folder");
        let log = EmbeddedLog::open(folder.path(), options(partitions)).expect("the log opens");
        folders.borrow_mut().push(folder);
        log
    })
    .await;
}

#[tokio::test]
async fn everything_is_there_when_opened_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let relation = suite::relation("again");
    for round in 0..5 {
        let log = EmbeddedLog::open(folder.path(), options(3)).expect("the log opens");
        assert_eq!(log.generation(), 1_700_000_000_000);
        let mut found = Vec::new();
        for partition in (0..3).map(Partition) {
            found.extend(suite::ids(&suite::read_all(&log, partition, Offset(0), 1_000).await));
        }
        found.sort_unstable();
        assert_eq!(found, (0..round * 20).collect::<Vec<_>>());
        assert_eq!(log.mark("round").expect("marks read"), (round > 0).then(|| (round - 1).to_be_bytes().to_vec()));
        assert_eq!(log.relation(relation.schema_hash()).is_some(), round > 0);
        let mut batch = suite::inserts(&relation, round * 20..(round + 1) * 20);
        batch.marks.insert("round".into(), Some(round.to_be_bytes().to_vec()));
        log.append(batch).await.expect("it appends");
    }
}

#[tokio::test]
async fn a_second_opening_is_refused_until_the_first_ends() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(folder.path());
    assert!(matches!(EmbeddedLog::open(folder.path(), options(1)), Err(Error::Locked { .. })));
    drop(log);
    open(folder.path());
}

#[tokio::test]
async fn another_number_of_partitions_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    drop(open(folder.path()));
    let refused = EmbeddedLog::open(folder.path(), options(2));
    assert!(matches!(refused, Err(Error::Partitions { found: 1, asked: 2 })));
}

#[tokio::test]
async fn a_newer_format_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    drop(open(folder.path()));
    let header = folder.path().join("current/header");
    let text = std::fs::read_to_string(&header).expect("a header");
    std::fs::write(&header, text.replace("format 1", "format 2")).expect("it writes");
    assert!(matches!(EmbeddedLog::open(folder.path(), options(1)), Err(Error::Format { found: 2, known: 1 })));
    std::fs::write(&header, "rehome event log\n").expect("it writes");
    assert!(matches!(EmbeddedLog::open(folder.path(), options(1)), Err(Error::Unreadable { .. })));
}

#[tokio::test]
async fn a_creation_that_was_cut_off_is_made_again() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir_all(folder.path().join("creating/store")).expect("a folder");
    std::fs::write(folder.path().join("creating/store/0.jnl"), b"torn").expect("it writes");
    let log = open(folder.path());
    log.append(suite::inserts(&suite::relation("made"), 0..3)).await.expect("it appends");
    assert_eq!(log.end(Partition(0)), Offset(3));
}

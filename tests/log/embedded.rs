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

/// Opens the store under a closed log and changes its blocks.
fn tamper(path: &Path, change: impl FnOnce(&fjall::Keyspace, Vec<(Vec<u8>, Vec<u8>)>)) {
    let database = fjall::Database::builder(path.join("current/store")).open().expect("the store opens");
    let blocks = database.keyspace("blocks", fjall::KeyspaceCreateOptions::default).expect("blocks");
    let entry = |entry: fjall::Guard| entry.into_inner().map(|(key, block)| (key.to_vec(), block.to_vec()));
    let found = blocks.iter().map(|found| entry(found).expect("a block")).collect();
    change(&blocks, found);
    database.persist(fjall::PersistMode::SyncAll).expect("it syncs");
}

/// A closed log of ten blocks with ten events each.
async fn ten_blocks() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(folder.path());
    for start in (0..100).step_by(10) {
        log.append(suite::inserts(&suite::relation("ten"), start..start + 10)).await.expect("it appends");
    }
    folder
}

/// Reads as a follower does, in small chunks from the front, until something is wrong.
async fn first_damage(path: &Path) -> Option<Offset> {
    let log = open(path);
    let mut at = Offset(0);
    while at < log.end(Partition(0)) {
        match log.read(Partition(0), at, 1).await {
            Ok(chunk) => at = chunk.next,
            Err(Error::Damaged { offset, .. }) => return Some(offset),
            Err(other) => panic!("{other:?}"),
        }
    }
    None
}

#[tokio::test]
async fn damage_in_the_middle_is_found_where_it_is() {
    type Tamper = fn(&fjall::Keyspace, Vec<(Vec<u8>, Vec<u8>)>);
    let cases: [(&str, Tamper, Option<Offset>); 5] = [
        ("nothing", |_, blocks| assert_eq!(blocks.len(), 10), None),
        ("a block taken out", |keyspace, blocks| keyspace.remove(&*blocks[4].0).expect("remove"), Some(Offset(40))),
        (
            "a changed byte",
            |keyspace, mut blocks| {
                let last = blocks[4].1.len() - 1;
                blocks[4].1[last] ^= 1;
                keyspace.insert(&*blocks[4].0, &*blocks[4].1).expect("insert");
            },
            Some(Offset(40)),
        ),
        (
            "a block in another's place",
            |keyspace, blocks| keyspace.insert(&*blocks[4].0, &*blocks[5].1).expect("insert"),
            Some(Offset(40)),
        ),
        (
            // The head's count of records changes the block's link, which its successor names.
            "a changed head",
            |keyspace, mut blocks| {
                blocks[4].1[20] ^= 1;
                keyspace.insert(&*blocks[4].0, &*blocks[4].1).expect("insert");
            },
            Some(Offset(40)),
        ),
    ];
    for (name, change, expected) in cases {
        let folder = ten_blocks().await;
        tamper(folder.path(), change);
        assert_eq!(first_damage(folder.path()).await, expected, "{name}");
        // A reader who begins in the hole finds it too.
        if expected.is_some() && name != "a changed head" {
            assert!(matches!(open(folder.path()).read(Partition(0), Offset(45), 1).await, Err(Error::Damaged { .. })));
        }
    }
}

#[tokio::test]
async fn a_tail_that_was_replaced_or_removed_is_not_opened() {
    let replaced = ten_blocks().await;
    let other = tempfile::tempdir().expect("a folder");
    let log = open(other.path());
    for start in (0..100).step_by(10) {
        log.append(suite::inserts(&suite::relation("other"), start..start + 10)).await.expect("it appends");
    }
    drop(log);
    let mut of_other = Vec::new();
    tamper(other.path(), |_, blocks| of_other = blocks);
    tamper(replaced.path(), |keyspace, _| {
        for (key, block) in of_other {
            keyspace.insert(key, block).expect("insert");
        }
    });
    assert!(matches!(EmbeddedLog::open(replaced.path(), options(1)), Err(Error::Lost { .. })));

    let removed = ten_blocks().await;
    tamper(removed.path(), |keyspace, blocks| keyspace.remove(&*blocks[9].0).expect("remove"));
    assert!(matches!(EmbeddedLog::open(removed.path(), options(1)), Err(Error::Lost { .. })));
}

/// Journals can be written and tables cannot: the store's own threads fail, behind the appender's back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_cannot_make_tables_fails_and_does_not_hang() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(folder.path());
    let relation = suite::relation("unmovable");
    let keyspaces = folder.path().join("current/store/keyspaces");
    for keyspace in std::fs::read_dir(&keyspaces).expect("it lists") {
        let keyspace = keyspace.expect("it lists").path();
        for folder in ["tables", "blobs"].map(|name| keyspace.join(name)) {
            if folder.exists() {
                std::fs::remove_dir_all(&folder).expect("it removes");
                std::fs::write(&folder, b"in the way").expect("it writes");
            }
        }
    }
    let body = "b".repeat(1 << 20);
    let append_until_failure = async {
        for id in 0..1_000 {
            let events = vec![suite::insert(&relation, id, &body)];
            let batch = rehome::log::Batch { relations: vec![relation.clone()], events, ..Default::default() };
            if let Err(error) = log.append(batch).await {
                return (id, error);
            }
        }
        panic!("a gigabyte was appended without a table");
    };
    let deadline = std::time::Duration::from_secs(60);
    let (appended, error) = tokio::time::timeout(deadline, append_until_failure).await.expect("it does not hang");
    assert!(matches!(error, Error::Failed(_)), "{error:?}");
    assert!(appended > 0, "the journal took batches");
    assert_eq!(log.end(Partition(0)), Offset(appended.unsigned_abs()));
    // What was acknowledged can still be read.
    let chunk = log.read(Partition(0), Offset(0), 1).await.expect("it reads");
    assert_eq!(chunk.records.len(), 1);
}

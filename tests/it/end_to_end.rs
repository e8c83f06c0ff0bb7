//! The whole path by the built binary, judged by an oracle that was written from the specification alone.

use std::path::{Path, PathBuf};
use std::process::Command;

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::support::cluster::run;
use crate::support::legacy::{self, Compared};
use crate::support::rig::Rig;
use crate::support::writer::Writer;

/// The folder of shared data beside the checkout, or where `REHOME_SHARED_DATA` says.
fn shared_data() -> PathBuf {
    match std::env::var_os("REHOME_SHARED_DATA") {
        Some(folder) => folder.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"),
    }
}

/// Whether a folder of data is there; says so when it is not, and fails where it must be.
fn skipped(folder: &Path, tests: u32) -> bool {
    if folder.is_dir() {
        return false;
    }
    assert!(std::env::var_os("REHOME_REQUIRE_DATA").is_none_or(|value| value != "1"), "no {}", folder.display());
    #[expect(clippy::print_stdout, reason = "a person must see what was not tested")]
    {
        println!("SKIPPED {tests}: no data in {}", folder.display());
    }
    true
}

/// The accounts of the oracle are those of the run.
fn assert_accounts(compared: &Compared, status: &serde_json::Value) {
    assert_eq!(status["balanced"], true, "{status}");
    let mut rows = 0;
    for (table, account) in compared.0["accounts"].as_object().expect("accounts") {
        let ours = &status["conservation"]["rows"][table];
        assert_eq!(ours["mapped"], account["mapped"], "{table}: mapped");
        for kind in ["dropped", "quarantined"] {
            let empty = serde_json::json!({});
            assert_eq!(ours.get(kind).unwrap_or(&empty), &account[kind], "{table}: {kind}");
            rows +=
                account[kind].as_object().expect("reasons").values().filter_map(serde_json::Value::as_u64).sum::<u64>();
        }
        rows += account["mapped"].as_u64().expect("a count");
    }
    let read = status["conservation"]["rows"].as_object().expect("tables").values();
    let read: u64 = read.map(|table| table["read"].as_u64().expect("a count")).sum();
    assert!(read > 0);
    assert_eq!(rows, read, "every row read has an account");
}

#[test]
fn the_oracle_agrees_with_units_mapped_by_hand() {
    let data = shared_data().join("luthien");
    if skipped(&data, 1) {
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/test_luthien.py");
    let output = Command::new("python3").arg("-B").arg(script).arg(data).output().expect("python3 runs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !told.contains("Ran 0 tests"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_of_the_shared_data_arrives_as_the_oracle_says() {
    let data = shared_data().join("luthien");
    if skipped(&data, 1) {
        return;
    }
    let mut rig = Rig::up().await;
    let rows = legacy::load(&mut rig.legacy, &data).await;
    assert_eq!(rows, 1468, "81 calls, 1329 events, 52 tool calls, 6 judge decisions");
    let outcome = rig.rehome(&["run", "luthien", "--until", "caught-up", "--json"]);
    let compared = rig.compare().await;
    compared.assert_equal();
    assert_eq!(rig.parked(), compared.parked());
    assert_eq!(outcome.code, 0, "nothing in the data is quarantined: {outcome:?}");
    let status = rig.status();
    assert_accounts(&compared, &status);
    for name in ["synthesised_parent", "chunk_index_conflict"] {
        assert_eq!(status["conservation"]["counts"][name], compared.0["counts"][name], "{name}");
    }
    assert_eq!(status["conservation"]["target"]["written"], compared.expected());
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_every_kind_arrive_as_the_oracle_says() {
    let mut rig = Rig::up().await;
    let mut writer = Writer::new(11, "c");
    for _ in 0..60 {
        rig.legacy.run(writer.call()).await;
    }
    for _ in 0..120 {
        rig.legacy.run(writer.transaction()).await;
    }
    rig.catch_up();
    let compared = rig.compare().await;
    compared.assert_equal();
    assert!(compared.expected() > 200, "{}", compared.expected());
    assert_accounts(&compared, &rig.status());
}

#[tokio::test(flavor = "multi_thread")]
async fn live_writers_and_kills_lose_nothing_and_double_nothing() {
    let seed = std::env::var("REHOME_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(5);
    let mut rig = Rig::up().await;
    let mut writer = Writer::new(seed, "c");
    for _ in 0..150 {
        rig.legacy.run(writer.call()).await;
    }
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut session = rig.legacy.connect().await;
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let writing = tokio::spawn(async move {
        let mut written = 0_u64;
        while stopped.try_recv().is_err() && written < 4_000 {
            run(&mut session, writer.transaction()).await;
            written += 1;
        }
        written
    });
    for _ in 0..7 {
        let started = rig.start(&[]);
        // The moment of the fault is drawn, not waited for.
        tokio::time::sleep(std::time::Duration::from_millis(random.random_range(30..1_200))).await;
        started.kill();
    }
    let mut last = rig.start(&[]);
    rig.until("caught up under writes", &mut last, |status| {
        status["conservation"]["target"]["written"].as_u64().is_some_and(|written| written > 0)
    });
    // A writer that has reached its last transaction no longer listens.
    let _ = stop.send(());
    let written = writing.await.expect("the writer does not fail");
    assert!(written > 20, "{written} transactions (seed {seed})");
    let status = rig.settled(&mut last).await;
    let compared = rig.compare().await;
    compared.assert_equal();
    assert_accounts(&compared, &status);
    assert!(rig.parked().is_empty(), "seed {seed}: {:?}", rig.parked());
    let units = rig.legacy.texts("select call_id from conversation_calls order by 1 limit 25").await;
    assert!(!units.is_empty());
    for unit in units {
        assert_eq!(rig.diff(&unit), (0, "MATCH".to_owned()), "{unit} (seed {seed})");
    }
    assert_eq!(last.terminate().code, 0);
}

//! The demo's data really hold what the demo claims to survive, and the server takes all of it; here with the hazards of
//! recorded conversations, those of the other migrations beside it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rehome::demo::cluster::{Cluster, Options};
use rehome::demo::{Generator, writer};
use sqlx::{Connection as _, PgConnection};

/// Units of the initial load; the decks deal every scenario several times among them.
const UNITS: u64 = 500;

/// Live transactions that are executed; every kind occurs among them.
const STEPS: u64 = 400;

/// Queries after which a test no longer believes that a writer writes; each takes a fraction of a millisecond at least.
const QUERIES_MAX: usize = 100_000;

/// The demo's folder of a migration.
pub fn folder(migration: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas").join(migration).join("demo")
}

/// A generator of a migration's rows.
pub fn generator(migration: &str, seed: u64) -> Generator {
    Generator::load(&folder(migration), seed).expect("the scenario file is right")
}

/// A migration's legacy tables, empty but for what their definition puts in.
pub async fn store(cluster: &Cluster, migration: &str) -> PgConnection {
    let mut connection = PgConnection::connect(&cluster.url("postgres")).await.expect("the server is up");
    let schema = std::fs::read_to_string(folder(migration).join("legacy.sql")).expect("the file is there");
    writer::run_script(&mut connection, &schema).await.expect("the definitions hold");
    connection
}

/// What a query counts.
pub async fn count(connection: &mut PgConnection, query: &'static str) -> i64 {
    sqlx::query_scalar(query).fetch_one(connection).await.unwrap_or_else(|error| panic!("{query}: {error}"))
}

/// Asserts that each query counts something among the first [`UNITS`] units.
pub async fn assert_hazards(migration: &str, hazards: &[(&str, &'static str)]) {
    let cluster = Cluster::start(&Options::temporary()).expect("a private server starts");
    let mut connection = store(&cluster, migration).await;
    let written = writer::load(&mut connection, &generator(migration, 1), UNITS).await.expect("the server takes them");
    assert!(written.rows > 2 * UNITS, "units have several rows: {}", written.rows);
    let mut absent = Vec::new();
    for (hazard, query) in hazards {
        if count(&mut connection, query).await == 0 {
            absent.push(*hazard);
        }
    }
    assert!(absent.is_empty(), "hazards that do not occur: {absent:?}");
}

/// Executes live transactions over loaded units; the connection is left to look at, with how often each kind was executed.
pub async fn live(cluster: &Cluster, migration: &str, steps: u64) -> (PgConnection, BTreeMap<String, u64>) {
    let mut connection = store(cluster, migration).await;
    let generator = generator(migration, 2);
    writer::load(&mut connection, &generator, UNITS).await.expect("the server takes every row");
    let mut kinds: BTreeMap<String, u64> = BTreeMap::new();
    for step in 0..steps {
        let transaction = generator.live(step, UNITS).expect("it evaluates").expect("the file has live ones");
        writer::execute_transaction(&mut connection, &transaction).await.unwrap_or_else(|error| {
            panic!("step {step}, `{}`: {error}", transaction.name);
        });
        *kinds.entry(transaction.name).or_default() += 1;
    }
    (connection, kinds)
}

/// The digest of a migration's first units, and that they are the same when they are made again.
pub fn digest(migration: &str) -> String {
    let rows = || generator(migration, 42).initial(60).collect::<Result<Vec<_>, _>>().expect("templates evaluate");
    assert_eq!(rows(), rows());
    let text: String = rows().iter().flatten().map(rehome::demo::TableRows::copy_text).collect();
    assert!(text.len() > 10_000);
    blake3::hash(text.as_bytes()).to_hex().to_string()
}

/// Hazards, each with a query that counts its rows or calls.
const HAZARDS: &[(&str, &str)] = &[
    (
        "an event without a call",
        "SELECT count(*) FROM conversation_events e WHERE NOT EXISTS (SELECT FROM conversation_calls c WHERE c.call_id = e.call_id)",
    ),
    (
        "a tool row without a call",
        "SELECT count(*) FROM conversation_tool_calls e WHERE NOT EXISTS (SELECT FROM conversation_calls c WHERE c.call_id = e.call_id)",
    ),
    (
        "a decision without a call",
        "SELECT count(*) FROM conversation_judge_decisions e WHERE NOT EXISTS (SELECT FROM conversation_calls c WHERE c.call_id = e.call_id)",
    ),
    (
        "a call without events",
        "SELECT count(*) FROM conversation_calls c WHERE NOT EXISTS (SELECT FROM conversation_events e WHERE c.call_id = e.call_id)",
    ),
    (
        "a chunk index that occurs twice",
        "SELECT count(*) FROM (SELECT FROM conversation_events WHERE event_type = 'original_chunk' GROUP BY call_id, chunk_index HAVING count(DISTINCT delta_text) > 1) AS r",
    ),
    (
        "a chunk without a number",
        "SELECT count(*) FROM conversation_events WHERE event_type = 'original_chunk' AND chunk_index IS NULL AND sequence IS NULL",
    ),
    (
        "chunks of one sequence",
        "SELECT count(*) FROM (SELECT FROM conversation_events WHERE event_type = 'original_chunk' GROUP BY call_id, sequence HAVING count(DISTINCT chunk_index) > 1) AS r",
    ),
    (
        "a chunk recorded twice",
        "SELECT count(*) FROM (SELECT FROM conversation_events WHERE event_type = 'original_chunk' GROUP BY call_id, sequence, chunk_index, delta_text, payload HAVING count(*) > 1) AS r",
    ),
    (
        "an empty delta",
        "SELECT count(*) FROM conversation_events WHERE delta_text = '' AND raw_chunk IS NULL AND event_type = 'original_chunk'",
    ),
    (
        "an absent delta",
        "SELECT count(*) FROM conversation_events WHERE delta_text IS NULL AND event_type = 'original_chunk'",
    ),
    ("a JSON null as payload", "SELECT count(*) FROM conversation_events WHERE payload = 'null'"),
    (
        "two completions",
        "SELECT count(*) FROM (SELECT FROM conversation_events WHERE event_type = 'request_completed' GROUP BY call_id HAVING count(*) = 2) AS r",
    ),
    ("a synthetic completion", "SELECT count(*) FROM conversation_events WHERE hook = 'synthetic_tool_completion'"),
    ("a failure", "SELECT count(*) FROM conversation_events WHERE payload->>'status' = 'failure'"),
    (
        "a failure of a successful call",
        "SELECT count(*) FROM conversation_events e JOIN conversation_calls c USING (call_id) WHERE e.payload->>'status' = 'failure' AND c.status = 'success'",
    ),
    (
        "a call left streaming",
        "SELECT count(*) FROM conversation_calls WHERE status = 'streaming' AND completed_at IS NULL",
    ),
    ("a call without status", "SELECT count(*) FROM conversation_calls WHERE status IS NULL"),
    (
        "two choices",
        "SELECT count(*) FROM conversation_events WHERE jsonb_typeof(raw_chunk) = 'object' AND jsonb_array_length(raw_chunk->'choices') > 1",
    ),
    (
        "a raw chunk encoded twice",
        "SELECT count(*) FROM conversation_events WHERE jsonb_typeof(raw_chunk) = 'string' AND raw_chunk #>> '{}' LIKE '{%}'",
    ),
    (
        "a raw chunk that does not parse",
        "SELECT count(*) FROM conversation_events WHERE jsonb_typeof(raw_chunk) = 'string' AND raw_chunk #>> '{}' NOT LIKE '{%}'",
    ),
    ("an escaped U+0000", "SELECT count(*) FROM conversation_events WHERE raw_chunk #>> '{}' LIKE '%\\\\u0000%'"),
    (
        "a response in Anthropic's shape",
        "SELECT count(*) FROM conversation_events WHERE jsonb_typeof(payload->'raw_original'->'content') = 'array'",
    ),
    ("a wrapped response", "SELECT count(*) FROM conversation_events WHERE payload->'raw_original' ? 'response_obj'"),
    ("usage on the last chunk", "SELECT count(*) FROM conversation_events WHERE raw_chunk ? 'usage'"),
    (
        "arguments that are not JSON",
        "SELECT count(*) FROM conversation_tool_calls WHERE jsonb_typeof(arguments) = 'string' AND arguments #>> '{}' = '{\"city\": \"Tok'",
    ),
    (
        "an artefact among the tool rows",
        "SELECT count(*) FROM conversation_tool_calls WHERE tool_call_id = '0' AND name IS NULL",
    ),
    ("a tool row that says more", "SELECT count(*) FROM conversation_tool_calls WHERE response IS NOT NULL"),
    (
        "a fragment without an id",
        "SELECT count(*) FROM conversation_events WHERE payload @? '$.tool_calls[*] ? (@.id == \"0\")'",
    ),
    ("an emoji", "SELECT count(*) FROM conversation_events WHERE delta_text LIKE '%🌦%'"),
    (
        "an integer beyond 64 bits",
        "SELECT count(*) FROM conversation_events WHERE (payload->'raw_original'->'usage'->>'prompt_tokens')::numeric > 1e38",
    ),
    (
        "a number with zeros at its end",
        "SELECT count(*) FROM conversation_events WHERE payload->'raw_original'->'data'->>'temperature' = '0.70'",
    ),
    (
        "a mark of the serialiser",
        "SELECT count(*) FROM conversation_events WHERE payload::text LIKE '%<max-depth-exceeded>%'",
    ),
    ("an image", "SELECT count(*) FROM conversation_events WHERE payload::text LIKE '%image_url%'"),
    (
        "an old function call",
        "SELECT count(*) FROM conversation_events WHERE raw_chunk @? '$.choices[*].delta.function_call'",
    ),
    ("a refusal", "SELECT count(*) FROM conversation_events WHERE raw_chunk @? '$.choices[*].delta.refusal'"),
    (
        "several requests under one id",
        "SELECT count(*) FROM (SELECT FROM conversation_events WHERE event_type = 'request_started' GROUP BY call_id HAVING count(*) > 1) AS r",
    ),
    (
        "a rewritten request",
        "SELECT count(*) FROM conversation_events WHERE event_type = 'request_started' AND payload->'original_messages' <> payload->'final_messages'",
    ),
    (
        "a rewritten response",
        "SELECT count(*) FROM conversation_events WHERE payload->>'original_response' <> payload->>'final_response'",
    ),
    (
        "a block",
        "SELECT count(*) FROM conversation_events WHERE event_type = 'final_chunk' AND delta_text LIKE '⛔ BLOCKED%'",
    ),
    (
        "an unknown event type",
        "SELECT count(*) FROM conversation_events WHERE event_type NOT IN ('request_started', 'request_completed', 'original_chunk', 'final_chunk')",
    ),
    ("a probability that is no number", "SELECT count(*) FROM conversation_judge_decisions WHERE probability = 'NaN'"),
    ("a value stored out of line", "SELECT count(*) FROM conversation_events WHERE pg_column_size(payload) > 4000"),
    (
        "messages in the completion only",
        "SELECT count(*) FROM conversation_events e WHERE payload ? 'request_messages' AND NOT EXISTS (SELECT FROM conversation_events r WHERE r.call_id = e.call_id AND r.event_type = 'request_started')",
    ),
];

#[tokio::test]
async fn every_hazard_occurs_among_five_hundred_calls() {
    assert_hazards("luthien", HAZARDS).await;
}

#[tokio::test]
async fn the_server_takes_every_kind_of_live_transaction_and_most_change_something() {
    let cluster = Cluster::start(&Options::temporary()).expect("a private server starts");
    let (mut connection, kinds) = live(&cluster, "luthien", STEPS).await;
    assert!(kinds.len() >= 16, "{kinds:?}");
    assert!(count(&mut connection, "SELECT count(*) FROM conversation_calls WHERE call_id LIKE 'moved-%'").await > 0);
    assert!(count(&mut connection, "SELECT count(*) FROM conversation_events WHERE chunk_index = 700").await > 0);
    let never = "SELECT count(*) FROM conversation_calls WHERE status = 'never seen'";
    assert_eq!(count(&mut connection, never).await, 0);
}

#[tokio::test]
async fn a_live_writer_stops_when_told_and_says_what_it_did() {
    let cluster = Cluster::start(&Options::temporary()).expect("a private server starts");
    let mut connection = store(&cluster, "luthien").await;
    let generator = generator("luthien", 3);
    writer::load(&mut connection, &generator, 20).await.expect("the server takes every row");
    let stop = tokio_util::sync::CancellationToken::new();
    let pace = writer::Pace { units: 20, first_step: 0, steps_max: u64::MAX, per_second: 200 };
    let watch = async {
        let mut other = PgConnection::connect(&cluster.url("postgres")).await.expect("the server is up");
        for _ in 0..QUERIES_MAX {
            if count(&mut other, "SELECT count(*) FROM conversation_events WHERE chunk_index = 700").await > 0 {
                break;
            }
        }
        stop.cancel();
    };
    let (written, ()) = tokio::join!(writer::write_live(&mut connection, &generator, pace, &stop), watch);
    let written = written.expect("the server takes every transaction");
    assert!(written.committed > 0, "{written:?}");
}

#[test]
fn a_seed_names_the_same_rows_on_every_machine() {
    // They change when a scenario file, the template language or the random generator's crate does, and only then.
    for (migration, wanted) in [
        ("luthien", "96c187de9feed34d3fe1144ff789e35e2752d22c5a575f60fe842801aeaa5ca1"),
        ("semantik", "3a189fba10b45c46fe507a88e6297c5d8c7ee4025539f5e5a24fcefe0160b91b"),
        ("jobs", "eb63b7c7bf0d20b8260edaddbd1e8fb8114830c51cdc8a32c3ca90c00caccf72"),
    ] {
        assert_eq!(digest(migration), wanted, "{migration}");
    }
}

#[test]
fn every_scenario_has_units_among_five_hundred() {
    for (migration, scenarios) in [("luthien", 36), ("semantik", 24), ("jobs", 18)] {
        let generator = generator(migration, 1);
        let counts = generator.scenario_counts(UNITS);
        assert!(counts.len() >= scenarios, "{migration}: {}", counts.len());
        assert!(counts.values().all(|count| *count >= 2), "{counts:?}");
    }
}

//! The legacy tables of luthien, filled from files and dumped for the oracle.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use sqlx::{AssertSqlSafe, PgConnection};

use super::cluster::{Database, run};

/// Table, and its columns in order; `j` is jsonb, `t` a time, `o` any other.
pub const TABLES: [(&str, &[(&str, char)]); 4] = [
    (
        "conversation_calls",
        &[
            ("call_id", 'o'),
            ("trace_id", 'o'),
            ("model_name", 'o'),
            ("provider", 'o'),
            ("status", 'o'),
            ("created_at", 't'),
            ("completed_at", 't'),
            ("metadata", 'j'),
            ("updated_at", 't'),
        ],
    ),
    (
        "conversation_events",
        &[
            ("id", 'o'),
            ("call_id", 'o'),
            ("trace_id", 'o'),
            ("event_type", 'o'),
            ("hook", 'o'),
            ("sequence", 'o'),
            ("chunk_index", 'o'),
            ("choice_index", 'o'),
            ("role", 'o'),
            ("delta_text", 'o'),
            ("raw_chunk", 'j'),
            ("payload", 'j'),
            ("created_at", 't'),
        ],
    ),
    (
        "conversation_tool_calls",
        &[
            ("id", 'o'),
            ("call_id", 'o'),
            ("trace_id", 'o'),
            ("tool_call_id", 'o'),
            ("name", 'o'),
            ("arguments", 'j'),
            ("status", 'o'),
            ("response", 'j'),
            ("chunks_buffered", 'o'),
            ("created_at", 't'),
        ],
    ),
    (
        "conversation_judge_decisions",
        &[
            ("id", 'o'),
            ("call_id", 'o'),
            ("trace_id", 'o'),
            ("tool_call_id", 'o'),
            ("probability", 'o'),
            ("explanation", 'o'),
            ("tool_call", 'j'),
            ("judge_prompt", 'j'),
            ("judge_response_text", 'o'),
            ("original_request", 'j'),
            ("original_response", 'j'),
            ("stream_chunks", 'j'),
            ("blocked_response", 'j'),
            ("timing", 'j'),
            ("judge_config", 'j'),
            ("created_at", 't'),
        ],
    ),
];

/// Target tables, as [`TABLES`].
const TARGETS: [(&str, &[(&str, char)]); 3] = [
    (
        "conversation_calls_v2",
        &[
            ("call_id", 'o'),
            ("model_name", 'o'),
            ("provider", 'o'),
            ("status", 'o'),
            ("created_at", 't'),
            ("completed_at", 't'),
        ],
    ),
    (
        "conversation_events_v2",
        &[("id", 'o'), ("call_id", 'o'), ("event_type", 'o'), ("sequence", 'o'), ("payload", 'j'), ("created_at", 't')],
    ),
    (
        "policy_events",
        &[
            ("id", 'o'),
            ("call_id", 'o'),
            ("policy_class", 'o'),
            ("policy_config", 'j'),
            ("event_type", 'o'),
            ("original_event_id", 'o'),
            ("modified_event_id", 'o'),
            ("metadata", 'j'),
            ("created_at", 't'),
        ],
    ),
];

/// The legacy tables without their foreign keys: orphans exist, and the engine must not rely on the keys.
pub const DDL: &str = "\
    create table conversation_calls (call_id text primary key, trace_id text, model_name text, provider text, \
      status text, created_at timestamptz not null default now(), completed_at timestamptz, metadata jsonb, \
      updated_at timestamptz not null default now()); \
    create table conversation_events (id uuid primary key default gen_random_uuid(), call_id text not null, \
      trace_id text, event_type text not null, hook text not null default 'h', sequence bigint, chunk_index int, \
      choice_index int, role text, delta_text text, raw_chunk jsonb, payload jsonb, \
      created_at timestamptz not null default now()); \
    create index idx_conversation_events_call_sequence on conversation_events (call_id, sequence); \
    create table conversation_tool_calls (id uuid primary key default gen_random_uuid(), call_id text not null, \
      trace_id text, tool_call_id text, name text, arguments jsonb, status text, response jsonb, \
      chunks_buffered int, created_at timestamptz not null default now()); \
    create index idx_conversation_tool_calls_call_created on conversation_tool_calls (call_id, created_at); \
    create table conversation_judge_decisions (id uuid primary key default gen_random_uuid(), call_id text not null, \
      trace_id text, tool_call_id text, probability double precision, explanation text, tool_call jsonb, \
      judge_prompt jsonb, judge_response_text text, original_request jsonb, original_response jsonb, \
      stream_chunks jsonb, blocked_response jsonb, timing jsonb, judge_config jsonb, \
      created_at timestamptz not null default now()); \
    create index idx_judge_decisions_call_created on conversation_judge_decisions (call_id, created_at);";

/// What the oracle says of a target.
#[derive(Debug)]
pub struct Compared(pub serde_json::Value);

impl Compared {
    /// Target rows that the oracle expects.
    pub fn expected(&self) -> u64 {
        self.0["expected"].as_u64().expect("a count")
    }

    /// Panics unless the target is exactly what the oracle expects, which must be something.
    pub fn assert_equal(&self) {
        let differences = self.0["differences"].as_array().expect("a list");
        assert!(differences.is_empty(), "{} of {} differ: {:?}", differences.len(), self.expected(), differences);
        assert!(self.expected() > 0, "nothing was compared");
    }

    /// Parked units by the oracle, with reasons.
    pub fn parked(&self) -> Vec<(String, String)> {
        let parked = self.0["parked"].as_object().expect("an object");
        parked.iter().map(|(unit, reason)| (unit.clone(), reason.as_str().expect("a text").to_owned())).collect()
    }
}

/// Loads the rows of a folder; returns how many.
pub async fn load(legacy: &mut Database, folder: &Path) -> u64 {
    let mut rows = 0;
    for (table, columns) in TABLES {
        let text = std::fs::read_to_string(folder.join(format!("{table}.jsonl"))).expect("a data file");
        let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
        let values: Vec<String> =
            columns.iter().map(|(name, _)| format!("(r->>'{name}')::{}", type_of(table, name))).collect();
        let lines: Vec<String> = text.split('\n').filter(|line| !line.is_empty()).map(str::to_owned).collect();
        rows += lines.len() as u64;
        let statement = format!(
            "insert into {table} ({}) select {} from unnest($1::text[]) x, lateral (select x::json) as y(r)",
            names.join(", "),
            values.join(", ")
        );
        sqlx::query(AssertSqlSafe(statement))
            .bind(lines)
            .execute(&mut legacy.connection)
            .await
            .unwrap_or_else(|error| panic!("{table}: {error}"));
    }
    rows
}

fn type_of(table: &str, column: &str) -> &'static str {
    let kind = TABLES
        .iter()
        .find(|(name, _)| *name == table)
        .and_then(|(_, columns)| columns.iter().find(|(name, _)| *name == column).map(|(_, kind)| *kind));
    match (kind.expect("a known column"), column) {
        ('j', _) => "jsonb",
        ('t', _) => "timestamptz",
        (_, "id") => "uuid",
        (_, "sequence") => "bigint",
        (_, "chunk_index" | "choice_index" | "chunks_buffered") => "int",
        (_, "probability") => "double precision",
        _ => "text",
    }
}

fn object(columns: &[(&str, char)]) -> String {
    let mut text = String::from("json_build_object(");
    for (index, (name, kind)) in columns.iter().enumerate() {
        let value = match kind {
            'j' => format!("{name}::text"),
            't' => format!("to_char({name} at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US') || '+00:00'"),
            _ => (*name).to_owned(),
        };
        let comma = if index == 0 { "" } else { ", " };
        write!(text, "{comma}'{name}', {value}").expect("writing to a string does not fail");
    }
    text + ")"
}

async fn lines(connection: &mut PgConnection, sql: String) -> Vec<String> {
    sqlx::query_scalar(AssertSqlSafe(sql.clone())).fetch_all(connection).await.unwrap_or_else(|e| panic!("{sql}: {e}"))
}

/// Asks the oracle whether the target holds what the legacy rows say.
pub async fn compare(legacy: &mut Database, target: &mut Database) -> Compared {
    let folder = tempfile::tempdir().expect("a folder");
    for (table, columns) in TABLES {
        let rows = lines(&mut legacy.connection, format!("select {}::text from {table}", object(columns))).await;
        let text: String = rows.into_iter().map(|row| row + "\n").collect();
        std::fs::write(folder.path().join(format!("{table}.jsonl")), text).expect("a file");
    }
    let mut text = String::new();
    for (table, columns) in TARGETS {
        let sql =
            format!("select json_build_object('table', '{table}', 'columns', {})::text from {table}", object(columns));
        for row in lines(&mut target.connection, sql).await {
            text.push_str(&row);
            text.push('\n');
        }
    }
    let dump = folder.path().join("target.jsonl");
    std::fs::write(&dump, text).expect("a file");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/compare.py");
    let output =
        Command::new("python3").arg("-B").arg(script).arg(folder.path()).arg(dump).output().expect("python3 runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Compared(serde_json::from_slice(&output.stdout).expect("JSON"))
}

/// Makes the legacy tables in a new database.
pub async fn database() -> Database {
    let mut database = Database::new().await;
    run(&mut database.connection, DDL).await;
    database
}

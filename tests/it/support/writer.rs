//! A seeded writer of the legacy tables: every kind of change that a capture can meet, as SQL transactions.

use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use uuid::Uuid;

/// Characters of a value that Postgres stores out of line: random hex does not compress below its limit of 2 KB.
const TOAST: usize = 12_000;

/// Makes transactions.
pub struct Writer {
    random: ChaCha8Rng,
    calls: u32,
    prefix: &'static str,
}

impl Writer {
    /// A writer whose calls begin with a prefix.
    pub fn new(seed: u64, prefix: &'static str) -> Self {
        Self { random: ChaCha8Rng::seed_from_u64(seed), calls: 0, prefix }
    }

    /// One transaction: one to four statements, committed or, now and then, rolled back.
    pub fn transaction(&mut self) -> String {
        let statements: Vec<String> = (0..self.random.random_range(1..=4)).map(|_| self.statement()).collect();
        let end = if self.random.random_ratio(1, 12) { "rollback" } else { "commit" };
        format!("begin; {}; {end};", statements.join("; "))
    }

    /// A call with everything: request, chunks in both variants, a completion, a tool row, a judge decision.
    pub fn call(&mut self) -> String {
        self.calls += 1;
        let call = format!("{}{}", self.prefix, self.calls);
        let text = self.hex(40);
        let mut statements = vec![format!(
            "insert into conversation_calls (call_id, status, provider, metadata) values ('{call}', 'streaming', 'openai', \
             '{{\"note\": \"{}\"}}')",
            self.hex(10)
        )];
        statements.push(self.request(&call));
        let chunks = self.random.random_range(1..6);
        for index in 0..chunks {
            for kind in ["original_chunk", "final_chunk"] {
                statements.push(format!(
                    "insert into conversation_events (id, call_id, event_type, sequence, chunk_index, role, delta_text, \
                     raw_chunk) values ('{}', '{call}', '{kind}', {}, {index}, 'assistant', '{text}{index}', {})",
                    self.id(),
                    10 + index * 2,
                    self.raw(&text, index)
                ));
            }
        }
        statements.push(format!(
            "insert into conversation_events (id, call_id, event_type, sequence, payload) values ('{}', '{call}', \
             'request_completed', 1000, '{{\"status\": \"success\"}}')",
            self.id()
        ));
        statements.push(self.judge(&call));
        statements.push(format!(
            "insert into conversation_tool_calls (id, call_id, tool_call_id, name, arguments) \
             values ('{}', '{call}', '{}', 'f', '{{\"a\": \"{}\"}}')",
            self.id(),
            self.hex(6),
            self.big()
        ));
        statements.join("; ")
    }

    fn request(&mut self, call: &str) -> String {
        format!(
            "insert into conversation_events (id, call_id, event_type, sequence, payload) values ('{}', '{call}', \
             'request_started', {}, '{{\"original_messages\": [{{\"role\": \"user\", \"content\": \"{}\"}}]}}')",
            self.id(),
            self.random.random_range(0..2_000),
            self.big()
        )
    }

    fn judge(&mut self, call: &str) -> String {
        format!(
            "insert into conversation_judge_decisions (id, call_id, probability, explanation, stream_chunks) \
             values ('{}', '{call}', {}, 'because', '[\"{}\"]')",
            self.id(),
            f64::from(self.random.random_range(0..1000)) / 1000.0,
            self.big()
        )
    }

    fn raw(&mut self, text: &str, index: u32) -> String {
        if self.random.random_ratio(1, 3) {
            return "null".to_owned();
        }
        format!(
            "'{{\"model\": \"m\", \"pad\": \"{}\", \"choices\": [{{\"index\": 0, \"delta\": {{\"content\": \"{text}{index}\"}}}}]}}'",
            self.big()
        )
    }

    /// A statement on rows that are there already, or a new call.
    fn statement(&mut self) -> String {
        let id = self.id();
        let event = self.pick("id", "conversation_events");
        let judge = self.pick("id", "conversation_judge_decisions");
        let call = self.pick("call_id", "conversation_calls");
        let word = self.hex(8);
        match self.random.random_range(0..16) {
            0 | 1 => self.call(),
            // The large values stay as they are: the stream leaves them out.
            2 => format!("update conversation_events set delta_text = '{word}' where id = {event}"),
            3 => format!("update conversation_judge_decisions set explanation = '{word}' where id = {judge}"),
            4 => format!(
                "update conversation_events set sequence = {} where id = {event}",
                self.random.random_range(0..2_000)
            ),
            // The large value changes.
            5 => format!(
                "update conversation_events set payload = '{{\"original_messages\": [{{\"role\": \"user\", \"content\": \"{}\"}}]}}' \
                 where id = {event} and event_type = 'request_started'",
                self.big()
            ),
            6 => format!("delete from conversation_events where id = {event}"),
            7 => format!("delete from conversation_judge_decisions where id = {judge}"),
            // Rows change their unit.
            8 => format!("update conversation_events set call_id = {call} where id = {event}"),
            9 => format!("update conversation_judge_decisions set call_id = {call} where id = {judge}"),
            // Keys change while large values stay.
            10 => format!("update conversation_events set id = '{id}' where id = {event}"),
            11 => format!("update conversation_judge_decisions set id = '{id}', call_id = {call} where id = {judge}"),
            12 => format!("update conversation_calls set call_id = '{}{word}' where call_id = {call}", self.prefix),
            13 => format!("delete from conversation_calls where call_id = {call}"),
            14 => {
                format!("update conversation_calls set status = 'failure', provider = '{word}' where call_id = {call}")
            }
            // A key that is taken over by another row within one transaction.
            _ => format!(
                "with gone as (delete from conversation_judge_decisions where id = {judge} returning *) \
                 insert into conversation_tool_calls (id, call_id, tool_call_id, name, arguments) \
                 select id, call_id, '{word}', 'g', stream_chunks from gone"
            ),
        }
    }

    /// Some row: the same for the same seed only while the rows are the same, which no test relies on.
    fn pick(&mut self, column: &str, table: &str) -> String {
        let from: Uuid = Uuid::from_u128(self.random.random());
        let from = if column == "id" {
            format!("'{from}'")
        } else {
            format!("'{}{}'", self.prefix, self.random.random_range(0..=self.calls.max(1)))
        };
        format!("(select {column} from {table} where {column} >= {from} order by {column} limit 1)")
    }

    fn id(&mut self) -> Uuid {
        uuid::Builder::from_random_bytes(self.random.random()).into_uuid()
    }

    fn big(&mut self) -> String {
        let length = *[20, 3_000, TOAST].choose(&mut self.random).expect("three lengths");
        self.hex(length)
    }

    fn hex(&mut self, length: usize) -> String {
        (0..length)
            .map(|_| char::from(*b"0123456789abcdef".choose(&mut self.random).expect("sixteen digits")))
            .collect()
    }
}

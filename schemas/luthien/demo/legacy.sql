-- The legacy tables as their owner's migrations left them: conversations of a proxy, chunk by chunk.
CREATE EXTENSION IF NOT EXISTS "uuid-ossp";

CREATE TABLE conversation_calls (
    call_id TEXT PRIMARY KEY,
    trace_id TEXT,
    model_name TEXT,
    provider TEXT,
    status TEXT,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    completed_at TIMESTAMPTZ,
    metadata JSONB,
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX ON conversation_calls (trace_id);
CREATE INDEX ON conversation_calls (created_at);

CREATE TABLE conversation_events (
    id UUID PRIMARY KEY DEFAULT uuid_generate_v4(),
    call_id TEXT NOT NULL REFERENCES conversation_calls ON DELETE CASCADE,
    trace_id TEXT,
    event_type TEXT NOT NULL,
    hook TEXT NOT NULL,
    sequence BIGINT,
    chunk_index INT,
    choice_index INT,
    role TEXT,
    delta_text TEXT,
    raw_chunk JSONB,
    payload JSONB,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX ON conversation_events (call_id, created_at);
CREATE INDEX ON conversation_events (trace_id, created_at);
CREATE INDEX ON conversation_events (call_id, sequence);
CREATE INDEX ON conversation_events (event_type);

CREATE TABLE conversation_tool_calls (
    id UUID PRIMARY KEY DEFAULT uuid_generate_v4(),
    call_id TEXT NOT NULL REFERENCES conversation_calls ON DELETE CASCADE,
    trace_id TEXT,
    tool_call_id TEXT,
    name TEXT,
    arguments JSONB,
    status TEXT,
    response JSONB,
    chunks_buffered INT,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    UNIQUE (call_id, tool_call_id)
);
CREATE INDEX ON conversation_tool_calls (call_id, created_at);
CREATE INDEX ON conversation_tool_calls (tool_call_id);
CREATE INDEX ON conversation_tool_calls (trace_id, created_at);

-- Decisions never had a foreign key: some name a call that is not there.
CREATE TABLE conversation_judge_decisions (
    id UUID PRIMARY KEY DEFAULT uuid_generate_v4(),
    call_id TEXT NOT NULL,
    trace_id TEXT,
    tool_call_id TEXT,
    probability DOUBLE PRECISION,
    explanation TEXT,
    tool_call JSONB,
    judge_prompt JSONB,
    judge_response_text TEXT,
    original_request JSONB,
    original_response JSONB,
    stream_chunks JSONB,
    blocked_response JSONB,
    timing JSONB,
    judge_config JSONB,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX ON conversation_judge_decisions (trace_id, created_at);
CREATE INDEX ON conversation_judge_decisions (call_id, created_at);
CREATE INDEX ON conversation_judge_decisions (created_at);

-- The target tables of luthien. The suffix _v2 keeps them beside the legacy ones until cutover.
CREATE TABLE conversation_calls_v2 (
    call_id TEXT PRIMARY KEY,
    model_name TEXT,
    provider TEXT,
    status TEXT,
    created_at TIMESTAMPTZ NOT NULL,
    completed_at TIMESTAMPTZ
);
CREATE INDEX conversation_calls_v2_created_at ON conversation_calls_v2 (created_at);

CREATE TABLE conversation_events_v2 (
    id UUID PRIMARY KEY,
    call_id TEXT NOT NULL REFERENCES conversation_calls_v2 (call_id) ON DELETE CASCADE,
    event_type TEXT NOT NULL CHECK (event_type IN ('request', 'response')),
    sequence BIGINT NOT NULL,
    payload JSONB NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    UNIQUE (call_id, sequence)
);
CREATE INDEX conversation_events_v2_event_type ON conversation_events_v2 (event_type);
CREATE INDEX conversation_events_v2_created_at ON conversation_events_v2 (created_at);

CREATE TABLE policy_events (
    id UUID PRIMARY KEY,
    call_id TEXT NOT NULL REFERENCES conversation_calls_v2 (call_id) ON DELETE CASCADE,
    policy_class TEXT NOT NULL,
    policy_config JSONB,
    event_type TEXT NOT NULL,
    original_event_id UUID REFERENCES conversation_events_v2 (id) ON DELETE SET NULL,
    modified_event_id UUID REFERENCES conversation_events_v2 (id) ON DELETE SET NULL,
    metadata JSONB,
    created_at TIMESTAMPTZ NOT NULL
);
CREATE INDEX policy_events_call_created ON policy_events (call_id, created_at);
CREATE INDEX policy_events_event_type ON policy_events (event_type);
CREATE INDEX policy_events_created_at ON policy_events (created_at);

-- The legacy tables as their owner had them, without any foreign key that was ever enforced.
CREATE TABLE users (
    id INTEGER PRIMARY KEY,
    username TEXT NOT NULL
);
INSERT INTO users VALUES (1, 'admin'), (2, 'ada'), (3, '지훈'), (4, 'Zoë');

CREATE TABLE jobs (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    description TEXT,
    status TEXT NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    directory_path TEXT NOT NULL,
    model_name TEXT,
    chunk_size INTEGER,
    chunk_overlap INTEGER,
    batch_size INTEGER,
    vector_dim INTEGER,
    quantization TEXT DEFAULT 'float32',
    instruction TEXT,
    error TEXT,
    user_id INTEGER,
    parent_job_id TEXT,
    job_type TEXT,
    start_time TEXT
);

CREATE TABLE documents (
    id BIGINT PRIMARY KEY,
    job_id TEXT NOT NULL,
    path TEXT NOT NULL,
    size BIGINT NOT NULL,
    modified TEXT NOT NULL,
    extension TEXT NOT NULL,
    content_hash TEXT,
    doc_id TEXT,
    status TEXT NOT NULL DEFAULT 'pending',
    error TEXT,
    chunks_created INTEGER NOT NULL DEFAULT 0,
    created_at TEXT NOT NULL
);
CREATE INDEX ix_documents_job ON documents (job_id);

-- The target tables of semantik, with labels of enums in lower case. `users` is the application's own; it is not created here.
CREATE TYPE collection_status AS ENUM ('pending', 'ready', 'processing', 'error');
CREATE TYPE operation_type AS ENUM ('index', 'append', 'reindex', 'remove_source', 'delete');
CREATE TYPE operation_status AS ENUM ('pending', 'processing', 'completed', 'failed', 'cancelled');
CREATE TYPE document_status AS ENUM ('pending', 'processing', 'completed', 'failed');

CREATE TABLE collections (
    id VARCHAR PRIMARY KEY,
    name VARCHAR NOT NULL UNIQUE,
    description TEXT,
    owner_id INTEGER NOT NULL,
    vector_store_name VARCHAR NOT NULL UNIQUE,
    embedding_model VARCHAR NOT NULL,
    quantization VARCHAR NOT NULL,
    chunk_size INTEGER NOT NULL DEFAULT 1000,
    chunk_overlap INTEGER NOT NULL DEFAULT 200,
    is_public BOOLEAN NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    meta JSON,
    status collection_status NOT NULL,
    status_message TEXT,
    qdrant_collections JSON,
    qdrant_staging JSON,
    document_count BIGINT NOT NULL,
    vector_count BIGINT NOT NULL,
    total_size_bytes BIGINT NOT NULL
);
CREATE INDEX collections_owner ON collections (owner_id);

CREATE TABLE collection_sources (
    id BIGINT PRIMARY KEY,
    collection_id VARCHAR NOT NULL REFERENCES collections (id) ON DELETE CASCADE,
    source_path VARCHAR NOT NULL,
    source_type VARCHAR NOT NULL DEFAULT 'directory',
    document_count BIGINT,
    size_bytes BIGINT,
    last_indexed_at TIMESTAMPTZ,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    meta JSON,
    UNIQUE (collection_id, source_path)
);

CREATE TABLE operations (
    id BIGINT PRIMARY KEY,
    uuid VARCHAR NOT NULL UNIQUE,
    collection_id VARCHAR NOT NULL REFERENCES collections (id) ON DELETE CASCADE,
    user_id INTEGER NOT NULL,
    type operation_type NOT NULL,
    status operation_status NOT NULL,
    task_id VARCHAR,
    config JSON NOT NULL,
    error_message TEXT,
    created_at TIMESTAMPTZ NOT NULL,
    started_at TIMESTAMPTZ,
    completed_at TIMESTAMPTZ,
    meta JSON
);
CREATE INDEX operations_collection ON operations (collection_id);
CREATE INDEX operations_status ON operations (status);

CREATE TABLE documents_v2 (
    id VARCHAR PRIMARY KEY,
    collection_id VARCHAR NOT NULL REFERENCES collections (id) ON DELETE CASCADE,
    source_id BIGINT REFERENCES collection_sources (id),
    file_path VARCHAR NOT NULL,
    file_name VARCHAR NOT NULL,
    file_size BIGINT NOT NULL,
    mime_type VARCHAR,
    content_hash VARCHAR NOT NULL,
    status document_status NOT NULL,
    error_message TEXT,
    chunk_count INTEGER NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    meta JSON,
    UNIQUE (collection_id, content_hash)
);
CREATE INDEX documents_v2_source ON documents_v2 (source_id);

-- The legacy tables as Django's models made them. Progress names its job by content type and id: no foreign key could hold it.
CREATE TABLE django_content_type (
    id INTEGER PRIMARY KEY,
    app_label VARCHAR(100) NOT NULL,
    model VARCHAR(100) NOT NULL
);
INSERT INTO django_content_type VALUES
    (1, 'admin', 'logentry'), (7, 'api', 'problem'), (11, 'api', 'problemextractionjob'), (12, 'api', 'scriptgenerationjob'),
    (14, 'api', 'jobprogresshistory');

CREATE TABLE script_generation_jobs (
    id BIGINT PRIMARY KEY,
    platform VARCHAR(50) NOT NULL,
    problem_id VARCHAR(50) NOT NULL,
    status VARCHAR(20) NOT NULL DEFAULT 'PENDING',
    celery_task_id VARCHAR(255),
    error_message TEXT,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    title VARCHAR(255) NOT NULL,
    problem_url VARCHAR(200),
    tags JSONB DEFAULT '[]',
    solution_code TEXT,
    language VARCHAR(50) NOT NULL,
    constraints TEXT NOT NULL,
    generator_code TEXT
);
CREATE INDEX ON script_generation_jobs (status, created_at DESC);
CREATE INDEX ON script_generation_jobs (platform, problem_id);
CREATE INDEX ON script_generation_jobs (celery_task_id);

CREATE TABLE problem_extraction_jobs (
    id BIGINT PRIMARY KEY,
    platform VARCHAR(50) NOT NULL,
    problem_id VARCHAR(50) NOT NULL,
    status VARCHAR(20) NOT NULL DEFAULT 'PENDING',
    celery_task_id VARCHAR(255),
    error_message TEXT,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    problem_url VARCHAR(200) NOT NULL,
    problem_identifier VARCHAR(255) NOT NULL
);
CREATE INDEX ON problem_extraction_jobs (status, created_at DESC);
CREATE INDEX ON problem_extraction_jobs (platform, problem_id);

CREATE TABLE job_progress_history (
    id BIGINT PRIMARY KEY,
    content_type_id INTEGER NOT NULL REFERENCES django_content_type (id),
    object_id BIGINT NOT NULL CHECK (object_id >= 0),
    step VARCHAR(100) NOT NULL,
    message TEXT NOT NULL,
    status VARCHAR(20) NOT NULL DEFAULT 'in_progress',
    created_at TIMESTAMPTZ NOT NULL
);
CREATE INDEX job_progress_history_object ON job_progress_history (content_type_id, object_id, created_at);

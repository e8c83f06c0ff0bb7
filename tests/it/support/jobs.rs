//! The legacy tables of jobs, and rows for them.

/// The tables, and the two content types that jobs have.
pub const LEGACY: &str = "create table django_content_type (id integer primary key, app_label varchar not null, model varchar not null); \
    create table script_generation_jobs (id bigint primary key, platform varchar not null, problem_id varchar not null, \
      status varchar not null default 'PENDING', celery_task_id varchar, error_message text, created_at timestamptz not null, \
      updated_at timestamptz not null, title varchar not null, problem_url varchar, tags jsonb default '[]', \
      solution_code text, language varchar not null, constraints text not null, generator_code text); \
    create table problem_extraction_jobs (id bigint primary key, platform varchar not null, problem_id varchar not null, \
      status varchar not null default 'PENDING', celery_task_id varchar, error_message text, created_at timestamptz not null, \
      updated_at timestamptz not null, problem_url varchar not null, problem_identifier varchar not null); \
    create table job_progress_history (id bigint primary key, content_type_id integer not null, object_id bigint not null, \
      step varchar not null, message text not null, status varchar not null, created_at timestamptz not null); \
    create index job_progress_history_object on job_progress_history (content_type_id, object_id, created_at); \
    insert into django_content_type values (11, 'api', 'scriptgenerationjob'), (12, 'api', 'problemextractionjob')";

/// A job that made a script.
pub fn script(id: i64, title: &str) -> String {
    format!(
        "insert into script_generation_jobs (id, platform, problem_id, created_at, updated_at, title, tags, language, constraints) \
         values ({id}, 'baekjoon', '1000', '2024-10-09T04:03:46.5+00', '2024-10-09T05:00:00+00', '{title}', '[\"a\", 1]', 'py', 'n');"
    )
}

/// An entry of progress of a job, by the number of its content type.
pub fn progress(id: i64, kind: i64, job: i64, at: &str) -> String {
    format!("insert into job_progress_history values ({id}, {kind}, {job}, 'step', 'done 🎉', 'started', '{at}');")
}

//! The generated jobs and documents hold what their migration has to survive.

use rehome::demo::cluster::{Cluster, Options};

use super::demo_data::{assert_hazards, count, live};

/// Hazards, each with a query that counts its rows.
const HAZARDS: &[(&str, &str)] = &[
    ("a job without an owner", "SELECT count(*) FROM jobs WHERE user_id IS NULL"),
    ("a job without a model", "SELECT count(*) FROM jobs WHERE model_name IS NULL"),
    ("a job without chunk sizes", "SELECT count(*) FROM jobs WHERE chunk_size IS NULL AND chunk_overlap IS NULL"),
    ("an overlap as large as the chunk", "SELECT count(*) FROM jobs WHERE chunk_overlap >= chunk_size"),
    ("a job without a type", "SELECT count(*) FROM jobs WHERE job_type IS NULL"),
    (
        "a job without documents",
        "SELECT count(*) FROM jobs j WHERE NOT EXISTS (SELECT FROM documents d WHERE d.job_id = j.id)",
    ),
    (
        "one name of two owners",
        "SELECT count(*) FROM (SELECT FROM jobs GROUP BY regexp_replace(lower(trim(name)), ' +', ' ') HAVING count(DISTINCT user_id) > 1) AS r",
    ),
    ("a name in another writing", "SELECT count(*) FROM jobs WHERE name <> trim(name)"),
    (
        "a parent that is gone",
        "SELECT count(*) FROM jobs j WHERE parent_job_id IS NOT NULL AND NOT EXISTS (SELECT FROM jobs p WHERE p.id = j.parent_job_id)",
    ),
    (
        "a parent that failed",
        "SELECT count(*) FROM jobs j JOIN jobs p ON p.id = j.parent_job_id WHERE p.status = 'failed'",
    ),
    ("a job that is its own parent", "SELECT count(*) FROM jobs WHERE parent_job_id = id"),
    (
        "two jobs that are each other's parent",
        "SELECT count(*) FROM jobs j JOIN jobs p ON p.id = j.parent_job_id AND j.id = p.parent_job_id WHERE j.id <> p.id",
    ),
    (
        "a parent of another owner",
        "SELECT count(*) FROM jobs j JOIN jobs p ON p.id = j.parent_job_id WHERE j.user_id <> p.user_id AND j.model_name IS NULL",
    ),
    ("a key that is no UUID", "SELECT count(*) FROM jobs WHERE id LIKE 'my job %'"),
    ("a UUID in capitals", "SELECT count(*) FROM jobs WHERE id LIKE 'DEADBEEF-%'"),
    ("a completed job with an error", "SELECT count(*) FROM jobs WHERE status = 'completed' AND error <> ''"),
    ("an empty error", "SELECT count(*) FROM jobs WHERE error = ''"),
    ("an error stored out of line", "SELECT count(*) FROM jobs WHERE pg_column_size(error) > 2000"),
    ("every known status", "SELECT count(*) FROM (SELECT count(DISTINCT status) AS n FROM jobs) AS r WHERE n >= 10"),
    ("an unknown status", "SELECT count(*) FROM jobs WHERE status = 'paused'"),
    ("an unknown type", "SELECT count(*) FROM jobs WHERE job_type = 'prune'"),
    ("a time without a zone", "SELECT count(*) FROM jobs WHERE created_at ~ '^[0-9T:.-]+$'"),
    ("a time with an offset", "SELECT count(*) FROM jobs WHERE created_at LIKE '%+00:00'"),
    ("a time with a space", "SELECT count(*) FROM jobs WHERE updated_at LIKE '% %'"),
    ("a time that is none", "SELECT count(*) FROM jobs WHERE start_time = 'yesterday'"),
    ("an empty time", "SELECT count(*) FROM documents WHERE created_at = ''"),
    (
        "a document of a job that is gone",
        "SELECT count(*) FROM documents d WHERE NOT EXISTS (SELECT FROM jobs j WHERE j.id = d.job_id)",
    ),
    (
        "a document of a job that nobody can make sense of",
        "SELECT count(*) FROM documents d JOIN jobs j ON j.id = d.job_id WHERE j.status = 'paused'",
    ),
    ("an unknown status of a document", "SELECT count(*) FROM documents WHERE status = 'skipped'"),
    (
        "pending documents of a failed job",
        "SELECT count(*) FROM documents d JOIN jobs j ON j.id = d.job_id WHERE j.status = 'failed' AND d.status = 'pending'",
    ),
    (
        "one content twice in a job, at one time",
        "SELECT count(*) FROM (SELECT FROM documents GROUP BY job_id, content_hash, created_at HAVING count(*) > 1) AS r",
    ),
    (
        "one content in two jobs of a collection",
        "SELECT count(*) FROM (SELECT FROM documents d JOIN jobs j ON j.id = d.job_id GROUP BY user_id, model_name, content_hash HAVING count(DISTINCT job_id) > 1) AS r",
    ),
    ("a content without a hash", "SELECT count(*) FROM documents WHERE content_hash IS NULL"),
    ("a symbolic link", "SELECT count(*) FROM documents WHERE content_hash LIKE 'symlink:%'"),
    (
        "a path twice, without a hash",
        "SELECT count(*) FROM (SELECT FROM documents WHERE content_hash IS NULL GROUP BY job_id, path HAVING count(*) > 1) AS r",
    ),
    ("a new line in a path", "SELECT count(*) FROM documents WHERE path LIKE E'%\\n%'"),
    ("a very long path", "SELECT count(*) FROM documents WHERE length(path) > 2000"),
    ("a path without a last part", "SELECT count(*) FROM documents WHERE path LIKE '%/'"),
    ("a path of one part", "SELECT count(*) FROM documents WHERE path NOT LIKE '%/%'"),
    ("Korean text and an emoji", "SELECT count(*) FROM documents WHERE path LIKE '%회%' AND path LIKE '%📎%'"),
    ("a size beyond 32 bits", "SELECT count(*) FROM documents WHERE size > 4294967296"),
    (
        "sizes beyond 64 bits together",
        "SELECT count(*) FROM (SELECT FROM documents GROUP BY job_id HAVING sum(size) > 9223372036854775807) AS r",
    ),
];

#[tokio::test]
async fn every_hazard_occurs_among_five_hundred_jobs() {
    assert_hazards("semantik", HAZARDS).await;
}

#[tokio::test]
async fn the_server_takes_every_kind_of_live_change_of_jobs_and_documents() {
    let cluster = Cluster::start(&Options::temporary()).expect("a private server starts");
    let (mut connection, kinds) = live(&cluster, "semantik", 300).await;
    assert!(kinds.len() >= 19, "{kinds:?}");
    for found in [
        "SELECT count(*) FROM documents WHERE path LIKE '/live/%'",
        "SELECT count(*) FROM jobs WHERE name = 'found again'",
        "SELECT count(*) FROM documents d JOIN jobs j ON j.id = d.job_id WHERE j.name = 'found again'",
    ] {
        assert!(count(&mut connection, found).await > 0, "{found}");
    }
}

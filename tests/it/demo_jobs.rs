//! The generated jobs with their progress hold what their migration has to survive.

use rehome::demo::cluster::{Cluster, Options};

use super::demo_data::{assert_hazards, count, live};

/// Hazards, each with a query that counts its rows.
const HAZARDS: &[(&str, &str)] = &[
    (
        "one number in both tables",
        "SELECT count(*) FROM script_generation_jobs JOIN problem_extraction_jobs USING (id)",
    ),
    (
        "progress of a script that is gone",
        "SELECT count(*) FROM job_progress_history p WHERE content_type_id = 12 AND NOT EXISTS (SELECT FROM script_generation_jobs j WHERE j.id = object_id)",
    ),
    (
        "progress of an extraction that is gone",
        "SELECT count(*) FROM job_progress_history p WHERE content_type_id = 11 AND NOT EXISTS (SELECT FROM problem_extraction_jobs j WHERE j.id = object_id)",
    ),
    ("progress of something else", "SELECT count(*) FROM job_progress_history WHERE content_type_id = 7"),
    (
        "a content type that is gone",
        "SELECT count(*) FROM job_progress_history WHERE content_type_id NOT IN (SELECT id FROM django_content_type)",
    ),
    (
        "several entries in one second",
        "SELECT count(*) FROM (SELECT FROM job_progress_history GROUP BY content_type_id, object_id, date_trunc('second', created_at) HAVING count(DISTINCT created_at) > 1) AS r",
    ),
    (
        "two entries in one microsecond",
        "SELECT count(*) FROM (SELECT FROM job_progress_history GROUP BY content_type_id, object_id, created_at HAVING count(*) > 1) AS r",
    ),
    ("a step of a hundred characters", "SELECT count(*) FROM job_progress_history WHERE length(step) = 100"),
    ("Korean text", "SELECT count(*) FROM script_generation_jobs WHERE platform = '백준' AND title LIKE '%합%'"),
    ("an emoji", "SELECT count(*) FROM job_progress_history WHERE message LIKE '%✅%' AND step LIKE '%🚀%'"),
    ("an empty message", "SELECT count(*) FROM job_progress_history WHERE message = ''"),
    (
        "a job with NULLs",
        "SELECT count(*) FROM script_generation_jobs WHERE celery_task_id IS NULL AND problem_url IS NULL AND tags IS NULL AND solution_code IS NULL",
    ),
    ("an empty error beside none", "SELECT count(*) FROM problem_extraction_jobs WHERE error_message = ''"),
    (
        "an empty platform and problem",
        "SELECT count(*) FROM problem_extraction_jobs WHERE platform = '' AND problem_id = ''",
    ),
    ("JSON null as tags", "SELECT count(*) FROM script_generation_jobs WHERE tags = 'null'"),
    ("tags that are no list", "SELECT count(*) FROM script_generation_jobs WHERE jsonb_typeof(tags) = 'string'"),
    (
        "tags of all kinds",
        "SELECT count(*) FROM script_generation_jobs WHERE tags @? '$[*] ? (@.type() == \"object\")'",
    ),
    (
        "a number of 38 digits",
        "SELECT count(*) FROM script_generation_jobs WHERE tags::text LIKE '%12345678901234567890123456789012345678%'",
    ),
    (
        "a number out of range",
        "SELECT count(*) FROM script_generation_jobs WHERE jsonb_typeof(tags->0) = 'number' AND (tags->>0)::numeric > 1e126",
    ),
    ("an item over 400 KB", "SELECT count(*) FROM script_generation_jobs WHERE length(generator_code) > 409600"),
    (
        "an item near 400 KB",
        "SELECT count(*) FROM script_generation_jobs WHERE length(generator_code) BETWEEN 380000 AND 400000",
    ),
    (
        "jobs of one problem",
        "SELECT count(*) FROM (SELECT FROM script_generation_jobs GROUP BY platform, problem_id HAVING count(*) > 1) AS r",
    ),
    (
        "one task of two jobs",
        "SELECT count(*) FROM (SELECT FROM script_generation_jobs GROUP BY celery_task_id HAVING count(*) > 1) AS r",
    ),
    ("a time before 1970", "SELECT count(*) FROM script_generation_jobs WHERE created_at < '1970-01-01'"),
    (
        "a time far ahead",
        "SELECT count(*) FROM script_generation_jobs WHERE updated_at > '9000-01-01' AND isfinite(updated_at)",
    ),
    ("a job's time that is not finite", "SELECT count(*) FROM problem_extraction_jobs WHERE NOT isfinite(updated_at)"),
    ("a progress' time that is not finite", "SELECT count(*) FROM job_progress_history WHERE NOT isfinite(created_at)"),
    (
        "a value stored out of line",
        "SELECT count(*) FROM script_generation_jobs WHERE pg_column_size(error_message) > 2000",
    ),
];

#[tokio::test]
async fn every_hazard_occurs_among_five_hundred_units_of_work() {
    assert_hazards("jobs", HAZARDS).await;
}

#[tokio::test]
async fn the_server_takes_every_kind_of_live_change_of_jobs_and_progress() {
    let cluster = Cluster::start(&Options::temporary()).expect("a private server starts");
    let (mut connection, kinds) = live(&cluster, "jobs", 300).await;
    assert!(kinds.len() >= 17, "{kinds:?}");
    for found in [
        "SELECT count(*) FROM job_progress_history WHERE message = 'second'",
        "SELECT count(*) FROM django_content_type WHERE id = 99",
        "SELECT count(*) FROM script_generation_jobs WHERE length(generator_code) = 9000",
    ] {
        assert!(count(&mut connection, found).await > 0, "{found}");
    }
}

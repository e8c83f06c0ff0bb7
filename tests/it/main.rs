//! Integration tests, in one binary: each starts what it needs and leaves nothing behind.

mod support;

mod aliases;
mod capture_crash;
mod capture_epochs;
mod capture_run;
mod commands;
mod demo_data;
mod determinism;
mod dynamo_migrations;
mod dynamo_source_diff;
mod end_to_end;
mod faults;
mod forgetful;
mod grants;
mod identity;
mod layering;
mod load_dump;
mod lookup_files;
mod lost_folder;
mod optional_tables;
mod parked_units;
mod postgres_preflight;
mod postgres_stream;
mod postgres_values;
mod schema_change;
mod semantik;
mod shuffled;
mod sources;
mod targets;
mod truncate;

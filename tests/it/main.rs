//! Integration tests, in one binary: each starts what it needs and leaves nothing behind.

mod support;

mod capture_crash;
mod capture_epochs;
mod capture_run;
mod commands;
mod delphi;
mod demo_data;
mod demo_delphi;
mod demo_jobs;
mod demo_run;
mod demo_semantik;
mod determinism;
mod dynamo_migrations;
mod end_to_end;
mod faults;
mod fifth;
mod forgetful;
mod identity;
mod layering;
mod load_dump;
mod lost_folder;
mod parked_units;
mod postgres_preflight;
mod postgres_stream;
mod postgres_values;
mod queries;
mod schema_change;
mod semantik;
mod shuffled;
mod sources;
mod targets;
mod truncate;

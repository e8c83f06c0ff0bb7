//! DynamoDB as a source and as a target, against DynamoDB Local: a process of its own, because that server
//! becomes slow after some ten thousand records of streams.

mod support;

mod crash;
mod epochs;
mod preflight;
mod scan;
mod shards;
mod shim;
mod stream;
mod target;
mod target_faults;
mod target_tables;

//! Capture: a source's snapshot and its change stream, brought into the log with nothing between them lost.
//!
//! Read in this order: [`start`] decides between going on and a new epoch, [`plan`] which ranges to read (both pure);
//! [`marks`] name what the log remembers, [`status`] what is told meanwhile; `stream` and `copy` move batches from the
//! seams to the log; [`run()`] opens sessions, `drive` goes from one to the next, `watch` looks after the slot and
//! `footing` after publication and partitions. All of this is for Postgres;
//! [`dynamo`] is the same for DynamoDB, and [`load`] takes a dump instead of a snapshot.
//!
//! Order of an epoch: preflight, publication, slot with exported snapshot, then stream and copy beside each other. Every
//! step is a mark in the log, so that a process killed at any point goes on from there.

mod copy;
mod drive;
pub mod dynamo;
mod epoch;
mod error;
mod footing;
pub mod load;
pub mod marks;
pub mod plan;
mod run;
mod skipped;
pub mod start;
mod status;
mod stream;
mod watch;

pub use error::Error;
pub use run::{Config, PREFIX_LENGTH_MAX, run};
pub use status::{CaptureStatus, Phase, Position, TableProgress};
pub use stream::{null_copy, null_stream};

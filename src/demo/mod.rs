//! The demo's means: a private server, legacy rows made from a seed, and writers that change them while a migration runs.
//!
//! What the rows are stands in the `demo` folder of a migration: `legacy.sql` (for DynamoDB `legacy.json`) defines the legacy
//! tables, `target.sql` what the application has at the target before, `scenarios.toml` says which units there are and what is
//! done to them. Nothing here knows a migration (I11).

pub mod cluster;
pub mod damage;
mod error;
mod generator;
mod items;
mod raw;
mod rows;
mod scenario;
#[cfg_attr(not(feature = "demo-dynamo"), path = "no_tables.rs")]
pub mod tables;
mod template;
mod value;
pub mod writer;

pub use error::Error;
pub use generator::{Generator, Transaction};
pub use items::{Action, ItemChange, ItemTransaction};
pub use raw::End;
pub use rows::TableRows;

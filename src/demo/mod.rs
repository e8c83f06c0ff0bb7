//! The demo's means: a private server, legacy rows made from a seed, and writers that change them while a migration runs.
//!
//! What the rows are stands in the `demo` folder of a migration: `legacy.sql` defines the legacy tables, `scenarios.toml`
//! says which units there are and what is done to them. Nothing here knows a migration (I11).

pub mod cluster;
pub mod damage;
mod error;
mod generator;
mod raw;
mod rows;
mod scenario;
mod template;
pub mod writer;

pub use error::Error;
pub use generator::{Generator, Transaction};
pub use raw::End;
pub use rows::TableRows;

//! The DynamoDB edge: everything that names AWS's SDK.
//!
//! Read in this order: [`connect`] makes clients, [`table`] says what a table is and how its items become rows, [`codec`]
//! reads and writes attribute values, [`size`] counts an item as DynamoDB does.

pub mod connect;
pub mod error;

pub mod codec;
pub mod size;
pub mod table;

pub use connect::{Access, Address, Server};

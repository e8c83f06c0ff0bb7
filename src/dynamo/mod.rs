//! The DynamoDB edge: everything that names AWS's SDK.
//!
//! Read in this order: [`connect`] makes clients, [`table`] says what a table is and how its items become rows ([`survey`] what
//! else a first draft of a migration wants to know of it),
//! [`preflight`] what is missing, [`codec`] reads and writes attribute values, [`size`] counts an item as DynamoDB does.
//! [`shards`] decides which shards of a stream to read and [`record`] reads its records; [`feed`] follows the streams of all
//! tables. [`live`] reads the items of one unit, [`scan`] tables in segments, as fast as [`pace`] lets it. [`target`] writes items, at a pace of its own.

mod address;
pub mod connect;
pub mod error;

pub mod codec;
pub mod preflight;
pub mod size;
pub mod survey;
pub mod table;

pub mod live;

pub mod feed;
mod poller;
pub mod record;
pub mod shards;

pub mod pace;
pub mod scan;

pub mod target;

pub use connect::{Access, Address, Server};

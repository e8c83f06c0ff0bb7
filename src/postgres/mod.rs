//! The Postgres edge: everything that names `sqlx`, the replication protocol or a system catalog.
//!
//! Read in this order: [`connect`] opens sessions with pinned settings, [`catalog`] reads what a table is ([`partitions`] of what
//! tables it is made, [`describe`] all that its definition says), [`codec`] reads values in both wire forms, [`preflight`] says what is
//! missing, [`leftovers`] what is too much, [`provision`] makes and removes publication and slot, [`footing`] sees what becomes
//! of them, [`snapshot`] copies by ranges ([`copy`]), and [`feed`] follows the stream: [`pgoutput`] reads messages and [`assemble`]
//! makes transactions of them.

pub mod connect;
mod error;

pub mod catalog;
pub mod codec;
pub mod describe;

pub mod footing;
pub mod leftovers;
pub mod partitions;
pub mod preflight;
pub mod provision;

mod copy;
pub mod snapshot;

pub mod assemble;
pub mod feed;
pub mod pgoutput;

pub mod live;
pub mod target;

pub use codec::decode_text;
pub use connect::Server;
pub(crate) use connect::quote;
/// A session with a Postgres server, for those who hold one without naming its driver.
pub use sqlx::PgConnection as Connection;
pub use sqlx::PgPool;

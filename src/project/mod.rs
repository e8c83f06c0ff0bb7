//! From the log to the target: the state of every unit, what the mapping makes of it, and writing that, once.
//!
//! Read in this order: [`source`] binds events to source tables, [`fold`] decides what an event does to a row (I3),
//! [`apply`] does it in the [`state`], `crate::mapping::evaluate` makes target rows of a unit, [`claims`] sees two units
//! that want one target key, [`projector`] writes them, [`run`] is the loop.

pub mod apply;
pub mod claims;
pub mod conservation;
pub mod counters;
mod error;
pub mod fold;
pub mod names;
pub mod projector;
pub mod result;
pub mod rows;
pub mod run;
pub mod source;
pub mod state;
pub mod sweep;

pub use error::Error;

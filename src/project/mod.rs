//! From the log to the target: the state of every part of a unit, what the mapping makes of it, and writing that, once.
//!
//! Read in this order: [`source`] binds events to source tables, [`fold`] decides what an event does to a row (I3), [`row`]
//! does it in the [`state`], [`references`] knows whom that concerns, [`apply`] goes through the log. [`pick`] chooses parts
//! whose rows changed, [`prepare`] has `crate::mapping::evaluate` make target rows of them, [`claims`] sees two parts that
//! want one target key, [`projector`] has them written, [`write`] in shares, [`keep`] keeps what became of them, [`again`] says when parked ones are
//! tried again, [`forgotten`] finds what a new state does not know of, [`run`] is the loop.

pub mod again;
pub mod apply;
mod changes;
pub mod claims;
pub mod conservation;
pub mod counters;
mod error;
pub mod fold;
pub mod forgotten;
pub mod held;
mod in_hand;
pub mod keep;
mod marks;
pub mod names;
pub mod owned;
pub mod pick;
pub mod prepare;
pub mod projector;
pub mod records;
pub mod references;
mod renew;
pub mod result;
pub mod row;
pub mod rows;
pub mod run;
pub mod scope;
mod seen;
pub mod session;
pub mod source;
pub mod state;
pub mod sweep;
mod write;

pub use error::Error;

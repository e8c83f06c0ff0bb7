//! rehome moves data to a new key or a new shape without stopping, and proves that nothing was lost.
//!
//! A migration is a pure function from a unit of legacy rows to a set of target rows; everything else is moving bytes to it
//! and proving that it held.
//!
//! ```text
//!  source ──copy──┐
//!         ─stream─┴─> capture ──> log ──> project ──> evaluate ──> target
//!                                 (I1)    state by unit   │           │
//!                                                         └── diff <──┘
//! ```
//!
//! Read in this order: [`event`] is what every stage speaks, [`mapping`] the pure function, [`rules`] how its rows are
//! compared, [`source`], [`log`] and [`target`] the seams, [`postgres`] and [`dynamo`] the edges to the databases, [`capture`]
//! brings a source into the log, [`project`] the log into a target, [`engine`] wires one migration, [`cli`] is what a person
//! types, [`demo`] makes something to look at.
//!
//! The invariants I1 to I12, cited throughout, stand in `ARCHITECTURE.md`.

// The SDK's futures nest deep where a run has all of them within it.
#![recursion_limit = "256"]

pub mod capture;
pub mod cli;
pub mod demo;
pub mod dynamo;
pub mod engine;
pub mod event;
pub mod log;
pub mod mapping;
pub mod postgres;
pub mod project;
pub mod reconcile;
pub mod report;
pub mod rules;
pub mod source;
pub mod target;

//! Whom a comparison of single parts and units asks: the projection, both stores as they are now, and the time.
//!
//! What is proven, and what is not, is decided on these answers alone, in [`cut`](super::cut), [`judging`](super::judging) and
//! [`look`](super::look). So the same code judges two live stores and, in tests, stores in memory whose every step a seed
//! chooses.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;

use crate::event::{Lsn, Value};
use crate::target::{TargetKey, TargetRow};

use super::Error;
use super::protocol::{Answer, Request};

/// One reading of the live source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// Everything that the rows include was written before this position; a DynamoDB table tells none.
    pub position: Option<Lsn>,
    /// Rows by source table, in the mapping's order of columns.
    pub rows: Vec<Vec<Vec<Value>>>,
}

/// The projection, and the time that passes while it works.
///
/// **One moment.** An answer is as of one moment between question and answer; where a part or a unit changed while it was
/// evaluated, the answer says so.
#[async_trait]
pub trait Projection: Send + Sync {
    /// Asks the process that projects, or log and state themselves where none runs.
    ///
    /// # Errors
    /// When nobody can be asked; a question that could not be answered is [`Answer::Failed`].
    async fn ask(&self, request: Request) -> Result<Answer, Error>;

    /// Time since a moment that stays the same; it never goes back.
    fn elapsed(&self) -> Duration;

    /// Waits, so that what is on its way may arrive.
    async fn pause(&self, time: Duration);
}

/// Keys of a unit's rows at the target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Belonging {
    /// Of rows that rehome is recorded to have written for it, or that bear its mark.
    pub ours: BTreeSet<TargetKey>,
    /// Of rows that name the unit, whoever wrote them.
    pub others: BTreeSet<TargetKey>,
}

/// Both stores, looked at by units and by rows as they are now.
///
/// **The stores themselves.** Nothing is read from a copy that may lag behind, nor from memory of an earlier reading.
/// **Order.** What is told was so at some moment after the call was made; calls are made one after the other.
/// **Nothing is changed** (I9).
#[async_trait]
pub trait Witness: Projection {
    /// The unit's rows in the source, with those of lookups; maybe more, which placing tells apart. All of one moment where the
    /// reading has a position, which was asked for after the rows were read.
    ///
    /// # Errors
    /// When the source cannot be read.
    async fn source(&self, unit: &str) -> Result<Reading, Error>;

    /// The target's rows of some keys, those that are there.
    ///
    /// # Errors
    /// When the target cannot be read.
    async fn target(&self, keys: &[TargetKey]) -> Result<Vec<TargetRow>, Error>;

    /// Keys of target rows that are the unit's by what the target says: by its record, by a column that names the unit, by marks
    /// of rows that stand beside known ones.
    ///
    /// # Errors
    /// When the target cannot be read.
    async fn belonging(&self, unit: &str, beside: &BTreeSet<TargetKey>) -> Result<Belonging, Error>;

    /// Rows that the mapping makes, in the form that the target gives them back in.
    fn as_read(&self, rows: Vec<TargetRow>) -> Vec<TargetRow>;

    /// How often a unit may be read before nothing is known of it; fewer times where each reading takes whole tables.
    fn attempts(&self, unit: &str) -> usize;
}

//! Stands in for `tables.rs` in a build without the feature `demo-dynamo`: there is no such server, and starting one says so.

use std::path::Path;

use tokio_util::sync::CancellationToken;

use super::damage::Damaged;
use super::error::Error;
use super::generator::Generator;
use super::writer::{Pace, Written};
use crate::target::TableShape;

/// A server that cannot be.
pub enum Tables {}

impl Tables {
    /// Refuses.
    ///
    /// # Errors
    /// [`Error::NoTables`], always.
    pub async fn start() -> Result<Self, Error> {
        Err(Error::NoTables)
    }

    /// Never called.
    pub fn url(&self) -> String {
        match *self {}
    }

    /// Never called.
    pub fn load(&self, _definitions: &Path, _generator: &Generator, _units: u64) -> Result<Written, Error> {
        match *self {}
    }

    /// Never called.
    pub async fn write_live(&self, _: &Generator, _: Pace, _: &CancellationToken) -> Result<Written, Error> {
        match *self {}
    }

    /// Never called.
    pub fn damage(&self, _tables: &[TableShape]) -> Result<Option<Damaged>, Error> {
        match *self {}
    }
}

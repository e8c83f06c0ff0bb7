//! What can go wrong while a unit is evaluated; what is wrong with rows is not an error but part of the evaluation.

/// The rows of a unit could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the rows of a unit")]
pub struct ReadError {
    /// The store's own error.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl ReadError {
    /// Wraps a store's error.
    pub fn new(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { source: source.into() }
    }
}

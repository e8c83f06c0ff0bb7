//! rehome moves data to a new key or a new shape without stopping, and proves that nothing was lost.

pub mod event;
pub mod log;
pub mod mapping;
pub mod target;

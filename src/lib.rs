//! rehome moves data to a new key or a new shape without stopping, and proves that nothing was lost.

pub mod capture;
pub mod demo;
pub mod event;
pub mod log;
pub mod postgres;
pub mod source;
pub mod target;

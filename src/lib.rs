//! rehome moves data to a new key or a new shape without stopping, and proves that nothing was lost.

pub mod capture;
pub mod cli;
pub mod demo;
pub mod engine;
pub mod event;
pub mod log;
pub mod mapping;
pub mod postgres;
pub mod project;
pub mod source;
pub mod target;

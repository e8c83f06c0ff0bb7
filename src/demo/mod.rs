//! The demo's means: a private server, legacy rows made from a seed, and writers that change them while a migration runs.

pub mod cluster;

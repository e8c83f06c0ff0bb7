//! What integration tests share: a private server, captures that run beside a test, and a fold of their logs.

pub mod capture;
pub mod cluster;
pub mod fold;
pub mod gate;

//! What integration tests share: a private server, captures and whole runs beside a test, an oracle, and live writers.

pub mod browser;
pub mod capture;
pub mod cluster;
pub mod dynamo;
pub mod fold;
pub mod gate;
pub mod jobs;
pub mod legacy;
pub mod memory_source;
pub mod memory_target;
pub mod nights;
pub mod rig;
pub mod schemas;
pub mod writer;

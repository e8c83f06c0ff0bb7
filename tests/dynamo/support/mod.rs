//! What these tests share: the server, a shim before it that makes it fail, tables, and captures beside a test.

pub mod capture;
pub mod remembering;
pub mod server;
pub mod shim;
pub mod streams;
pub mod tables;
pub mod targets;

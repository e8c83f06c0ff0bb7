//! Integration tests: one binary, so that they are linked once.

mod demo_data;
mod layering;

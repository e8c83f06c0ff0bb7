//! The `rehome` program.

use std::process::ExitCode;

/// Rows are many small values, made on one thread and let go on another: the system's allocator takes a third of a
/// comparison's time with them (`benches/README.md`).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    rehome::cli::main()
}

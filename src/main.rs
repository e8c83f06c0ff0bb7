//! The `rehome` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    rehome::cli::main()
}

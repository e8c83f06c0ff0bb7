//! Exit codes, the same for every command.

use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: done; both sides are equal where something was compared.
    Success,
    /// 1: a difference is proven, or a check found errors.
    Mismatch,
    /// 2: something is unproven, parked or unfinished.
    Incomplete,
    /// 3: usage, configuration, or a server or disk that cannot be used.
    Failure,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(match exit {
            Exit::Success => 0,
            Exit::Mismatch => 1,
            Exit::Incomplete => 2,
            Exit::Failure => 3,
        })
    }
}

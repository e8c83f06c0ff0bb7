//! `rehome demo` (placeholder while wiring).
use super::Failure;
use super::args::{DemoArgs, Global};
use super::exit::Exit;
pub async fn run(_global: &Global, _args: DemoArgs) -> Result<Exit, Failure> {
    Ok(Exit::Success)
}

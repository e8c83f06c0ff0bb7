//! `rehome demo`: the whole path on private servers, with live writers, and a damaged row found.
//!
//! With a migration's name it is shown in this process ([`one`]); without, every migration that has generated data is shown
//! side by side, each in a process of its own ([`all`]). What is started ends with who started it, in whatever way that is: a
//! demo's servers with its process, and the processes of [`all`] with a pipe that it holds.

mod all;
mod one;
mod report;
mod stores;

use std::os::fd::AsFd as _;

use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::args::{DemoArgs, Global};
use super::exit::Exit;
use super::{Failure, output};

/// Runs the demo; exit code 0 says that every unit was equal, every equation held, and the damage was found.
pub async fn run(global: &Global, args: DemoArgs) -> Result<Exit, Failure> {
    let stop = CancellationToken::new();
    let watch = if args.with_parent {
        AbortOnDropHandle::new(tokio::spawn(stop_with_parent(stop.clone())))
    } else {
        AbortOnDropHandle::new(tokio::spawn(stop_on_signal(stop.clone())))
    };
    let outcome = match &args.migration {
        Some(name) => one::show(global, &args, name, &stop).await,
        None => all::show(global, &args, &stop).await,
    };
    drop(watch);
    outcome
}

/// Stops the demo at the first signal; a second one ends the process, and with it what it started.
async fn stop_on_signal(stop: CancellationToken) {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return;
    };
    for is_first in [true, false] {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        if is_first {
            output::say("stopping: what the demo started ends with it");
            stop.cancel();
        }
    }
    std::process::exit(130);
}

/// Stops the demo when the process that started it closes the pipe, or is gone.
async fn stop_with_parent(stop: CancellationToken) {
    // A terminal's Ctrl-C reaches this process too; it is for the parent, which then closes the pipe.
    let (_terminate, _interrupt) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    let pipe = std::io::stdin().as_fd().try_clone_to_owned().and_then(Receiver::from_owned_fd);
    if let Ok(mut pipe) = pipe {
        let mut byte = [0; 1];
        while pipe.read(&mut byte).await.is_ok_and(|read| read > 0) {}
    }
    stop.cancel();
}

fn step(text: &str) {
    output::say(format!("==> {text}"));
}

/// This program as it was called, for commands that can be copied.
fn program() -> String {
    let called = std::env::args_os().next().and_then(|name| name.into_string().ok());
    called.filter(|name| name.contains('/')).unwrap_or_else(|| "rehome".to_owned())
}

fn words(error: impl std::error::Error) -> Failure {
    Failure::from(crate::engine::session::chain(&error))
}

//! `rehome run`: the long-running backfill.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::engine::Until;
use crate::engine::protocol::{Answer, Request};

use super::args::{Global, RunArgs, UntilArg};
use super::exit::Exit;
use super::progress::Display;
use super::{Failure, engine_with, output, status, tune};

/// Copies and follows until stopped, or caught up.
pub async fn run(global: &Global, args: RunArgs) -> Result<Exit, Failure> {
    let engine = engine_with(global, &args.migration, &args.lookups, |settings| tune(&args, settings))?;
    let until = match args.until {
        UntilArg::Stopped => Until::Stopped,
        UntilArg::CaughtUp => Until::CaughtUp,
    };
    let stop = CancellationToken::new();
    let signals = tokio::spawn(stop_on_signal(stop.clone()));
    let mut display = None;
    let outcome =
        engine.run(until, stop.clone(), |capture, progress| display = Some(Display::start(capture, progress))).await;
    signals.abort();
    if let Some(display) = display {
        display.finish().await;
    }
    outcome?;
    let Answer::Status(status) = engine.ask(Request::Status).await? else {
        return Err(Failure::from("the state could not be read after the run".to_owned()));
    };
    if global.json {
        output::json(&status);
    } else {
        status::show(&status);
    }
    // Having caught up ends it without this: whoever asked for that and stopped it meanwhile, by a signal or by `rehome stop`,
    // has not got it, however well the sums stand.
    let caught_up = status.proven() && !stop.is_cancelled();
    Ok(if until == Until::Stopped || caught_up { Exit::Success } else { Exit::Incomplete })
}

/// Stops the run at the first signal; a second one ends the process as if there were no handler.
pub async fn stop_on_signal(stop: CancellationToken) {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    output::say("stopping: what is captured is kept, the next run goes on from it");
    stop.cancel();
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    std::process::exit(130);
}

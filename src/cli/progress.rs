//! Progress on standard error: bars on a terminal, a line now and then elsewhere.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::engine::CaptureStatus;
use crate::project::run::Progress;

use super::output;

/// How often bars move.
const BARS: Duration = Duration::from_millis(200);
/// How often a line is written where there is no terminal.
const LINES: Duration = Duration::from_secs(10);

/// Shows a run's progress until it is finished.
pub struct Display {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Display {
    /// Begins to show.
    pub fn start(capture: watch::Receiver<CaptureStatus>, progress: watch::Receiver<Progress>) -> Self {
        let stop = CancellationToken::new();
        let ended = stop.clone();
        let task = tokio::spawn(async move {
            if std::io::stderr().is_terminal() {
                bars(capture, progress, ended).await;
            } else {
                lines(capture, progress, ended).await;
            }
        });
        Self { stop, task }
    }

    /// Shows the last of it and ends.
    pub async fn finish(self) {
        self.stop.cancel();
        let _ = self.task.await;
    }
}

async fn bars(capture: watch::Receiver<CaptureStatus>, progress: watch::Receiver<Progress>, stop: CancellationToken) {
    let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
    let style = |template: &str| ProgressStyle::with_template(template).expect("the template is a literal");
    let copied = all.add(ProgressBar::new(0));
    copied.set_style(style("copied   [{bar:30}] {pos}/{len} ranges  {msg}  eta {eta}"));
    let applied = all.add(ProgressBar::new(0));
    applied.set_style(style("applied  [{bar:30}] {pos}/{len} events"));
    let projected = all.add(ProgressBar::new_spinner());
    projected.set_style(style("target   {msg}"));
    loop {
        {
            let (capture, progress) = (capture.borrow(), progress.borrow());
            let (done, total, rows) = ranges(&capture);
            copied.set_length(total);
            copied.set_position(done);
            copied.set_message(format!("{rows} rows"));
            applied.set_length(progress.end);
            applied.set_position(progress.applied);
            projected.set_message(target_text(&capture, &progress));
        }
        tokio::select! {
            () = tokio::time::sleep(BARS) => {}
            () = stop.cancelled() => break,
        }
    }
    copied.abandon();
    applied.abandon();
    projected.abandon();
}

async fn lines(capture: watch::Receiver<CaptureStatus>, progress: watch::Receiver<Progress>, stop: CancellationToken) {
    let mut before = None;
    loop {
        let ended = tokio::select! {
            () = tokio::time::sleep(LINES) => false,
            () = stop.cancelled() => true,
        };
        let text = {
            let (capture, progress) = (capture.borrow(), progress.borrow());
            let (done, total, rows) = ranges(&capture);
            format!(
                "copied {done}/{total} ranges ({rows} rows), applied {}/{} events, {}",
                progress.applied,
                progress.end,
                target_text(&capture, &progress)
            )
        };
        if before.as_ref() != Some(&text) {
            output::say(&text);
            before = Some(text);
        }
        if ended {
            break;
        }
    }
}

fn ranges(capture: &CaptureStatus) -> (u64, u64, u64) {
    capture.tables.values().fold((0, 0, 0), |(done, total, rows), table| {
        (done + u64::from(table.ranges_done), total + u64::from(table.ranges_total), rows + table.rows)
    })
}

fn target_text(capture: &CaptureStatus, progress: &Progress) -> String {
    let parked = progress.parked_now;
    let state = match (&capture.error, progress.current) {
        (Some(_), _) => "waiting to reach the source again",
        (None, true) => "caught up",
        (None, false) => "working",
    };
    let cost = progress.cost.map_or_else(String::new, |cost| {
        let (units, rate, throttled) = (cost.write_units, cost.write_units_per_second, cost.throttled);
        format!("{units} write units ({rate}/s, throttled {throttled} times), ")
    });
    format!("{} parts evaluated, {} rows written, {cost}{parked} parked, {state}", progress.units, progress.target_rows)
}

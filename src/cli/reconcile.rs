//! `rehome reconcile`: everything, compared, and the report of the night.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::engine::{Planting, Reconciling};
use crate::reconcile::{Discrepancy, Told};
use crate::report::folder::PAGE;
use crate::report::{self, Ahead, Contents, Reports, SigningKey, Writing};

use super::args::{Global, ReconcileArgs};
use super::exit::Exit;
use super::report::{exit, show};
use super::{Failure, alarm, engine, locate, output};

/// Units that are read again to say which fields differ.
const DETAILS_MAX: usize = 200;

/// Discrepancies that are handed to who writes them at once.
const HANDED: usize = 1_024;
/// How often so many may wait to be written.
const AHEAD: usize = 4;

/// A night that is written while the next discrepancies are found.
struct Behind {
    ahead: Ahead,
    some: Vec<Discrepancy>,
    hand: SyncSender<Vec<Discrepancy>>,
    writing: JoinHandle<Result<Writing, report::Error>>,
}

impl Behind {
    fn new(mut night: Writing) -> Self {
        let ahead = night.ahead();
        let (hand, handed) = sync_channel::<Vec<Discrepancy>>(AHEAD);
        let writing = tokio::task::spawn_blocking(move || {
            handed.into_iter().flatten().try_for_each(|discrepancy| night.add(discrepancy)).map(|()| night)
        });
        Self { ahead, some: Vec::new(), hand, writing }
    }

    fn take(&mut self, told: Told<'_>) {
        self.some.extend(self.ahead.take(told));
        if self.some.len() == HANDED {
            self.hand();
        }
    }

    fn hand(&mut self) {
        // Who writes has gone only if that failed, and says so at the end.
        drop(self.hand.send(std::mem::take(&mut self.some)));
    }

    /// Waits until all is written.
    async fn end(mut self) -> Result<Writing, report::Error> {
        self.hand();
        drop(self.hand);
        let mut night = self.writing.await.expect("writing does not panic")?;
        night.add_counted(self.ahead);
        Ok(night)
    }
}

/// Compares everything, writes the report, and raises the alarm where there is reason.
pub async fn run(global: &Global, args: ReconcileArgs) -> Result<Exit, Failure> {
    let engine = engine(global, &args.migration)?;
    let key = args.sign_with.as_deref().map(SigningKey::read).transpose()?;
    let spill = engine.comparison_folder(args.spill.as_deref(), args.resume)?;
    let how = Reconciling {
        rules: Arc::new(locate::rules(global, engine.migration())?),
        workers: args.workers.into(),
        spill,
        planting: if args.no_canaries { Planting::Nothing } else { Planting::Canaries },
        patience: Duration::from_secs(args.patience),
        details_max: DETAILS_MAX,
        started: jiff::Timestamp::now(),
    };
    let reports = Reports::new(&args.reports, &args.migration);
    let contents = if args.reveal { Contents::Revealed } else { Contents::Hidden };
    let mut behind = Behind::new(reports.begin(how.started, contents)?);
    let summary = engine.reconcile(how, &mut |told| behind.take(told)).await;
    let night = behind.end().await;
    // What kept the comparison from its end says more than what kept the report.
    let (summary, night) = (summary?, night?);
    let written = night.finish(summary, key.as_ref())?;
    if global.json {
        output::json(&written.summary);
    } else {
        show(&written.summary);
        output::line(format!("  page: {}", written.folder.join(PAGE).display()));
    }
    alarm::raise(&args.alarm, &written.folder, &written.summary).await;
    Ok(exit(written.summary.verdict))
}

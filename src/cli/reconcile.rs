//! `rehome reconcile`: everything, compared, and the report of the night.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::{Planting, Reconciling};
use crate::report::folder::PAGE;
use crate::report::{self, Contents, Reports, SigningKey};

use super::args::{Global, ReconcileArgs};
use super::exit::Exit;
use super::report::{exit, show};
use super::{Failure, alarm, engine, locate, output};

/// Units that are read again to say which fields differ.
const DETAILS_MAX: usize = 200;

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
    let mut night = reports.begin(how.started, contents)?;
    let mut failed: Option<report::Error> = None;
    let summary = engine
        .reconcile(how, &mut |discrepancy| {
            if failed.is_none() {
                failed = night.add(discrepancy).err();
            }
        })
        .await?;
    failed.map_or(Ok(()), Err)?;
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

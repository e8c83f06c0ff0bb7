//! `rehome reconcile`: everything, compared.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::{Engine, Planting, Reconciling};
use crate::reconcile::{Discrepancy, Summary, Verdict};
use crate::rules::Ruleset;

use super::args::{Global, ReconcileArgs};
use super::exit::Exit;
use super::{Failure, engine, output};

/// Units that are read again to say which fields differ.
const DETAILS_MAX: usize = 200;

/// Compares everything.
pub async fn run(global: &Global, args: ReconcileArgs) -> Result<Exit, Failure> {
    let engine = engine(global, &args.migration)?;
    let (summary, discrepancies) = compare(&engine, &args).await?;
    if global.json {
        output::json(&serde_json::json!({ "summary": summary, "discrepancies": discrepancies }));
    } else {
        show(&summary);
    }
    Ok(exit(summary.verdict))
}

async fn compare(engine: &Engine, args: &ReconcileArgs) -> Result<(Summary, Vec<Discrepancy>), Failure> {
    let spill = engine.spill(args.spill.as_deref())?;
    let how = Reconciling {
        rules: Arc::new(Ruleset::none(engine.migration())),
        workers: args.workers.into(),
        spill: spill.path().to_owned(),
        planting: if args.no_canaries { Planting::Nothing } else { Planting::Canaries },
        patience: Duration::from_secs(args.patience),
        details_max: DETAILS_MAX,
    };
    let mut discrepancies = Vec::new();
    let summary = engine.reconcile(how, &mut |discrepancy| discrepancies.push(discrepancy)).await?;
    Ok((summary, discrepancies))
}

fn exit(verdict: Verdict) -> Exit {
    match verdict {
        Verdict::Match => Exit::Success,
        Verdict::Mismatch => Exit::Mismatch,
        Verdict::Incomplete => Exit::Incomplete,
    }
}

fn show(summary: &Summary) {
    output::line(format!("{:?}", summary.verdict).to_uppercase());
    for why in &summary.why {
        output::line(format!("    {} {}", why.count, why.sentence));
    }
}

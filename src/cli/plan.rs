//! `rehome plan`: what a migration would come to, before anything is made.

use std::collections::BTreeMap;
use std::sync::Arc;

use comfy_table::{CellAlignment, Table};

use crate::engine::plan::report::{KeyForecast, TargetForecast};
use crate::engine::plan::{Forecast, Planning};
use crate::engine::{Engine, Settings};
use crate::reconcile::forecast::estimate::Estimate;
use crate::report::words::{duration, number, plain};

use super::args::{Global, PlanArgs};
use super::exit::Exit;
use super::{Failure, locate, output};

/// Reads the source, and tells what would come of it.
pub async fn run(global: &Global, args: PlanArgs) -> Result<Exit, Failure> {
    let migration = Arc::new(locate::load(global, &args.migration)?);
    // Of the state folder nothing is read, and none is made.
    let mut settings = Settings::new(std::path::PathBuf::new(), global.source.clone(), None);
    settings.lookups = args.lookups.lookups.iter().cloned().collect();
    settings.read_capacity = args.read_capacity;
    settings.write_capacity = args.write_capacity;
    settings.target_connections = args.target_connections.into();
    let engine = Engine::new(migration, settings);
    let spill = engine.spill(&args.spill.unwrap_or_else(std::env::temp_dir))?;
    let how = Planning { sample: args.sample, workers: args.workers.into(), spill: spill.path(), shown: args.shown };
    let forecast = engine.plan(how).await?;
    if global.json {
        output::json(&forecast);
    } else {
        show(&forecast);
    }
    Ok(if forecast.troubled() { Exit::Incomplete } else { Exit::Success })
}

fn show(forecast: &Forecast) {
    output::line(match &forecast.sample {
        None => format!("{}: all of the source was read; every figure is a count", plain(&forecast.migration)),
        Some(sample) => format!(
            "{}: a sample of {} %; figures are estimates, in brackets their intervals: {}",
            plain(&forecast.migration),
            short(sample.percent),
            sample.intervals
        ),
    });
    let mut sources = table(&["source table", "read", "rows", "bytes", "mapped", "looked up", "waiting"]);
    for source in &forecast.sources {
        let read = match source.ranges {
            Some((drawn, all)) => format!("{} of {} ranges", number(drawn), number(all)),
            None => source.read.to_owned(),
        };
        sources.add_row([
            plain(&source.table),
            read,
            about(&source.rows),
            bytes(&source.bytes),
            about(&source.mapped),
            about(&source.lookup),
            about(&source.waiting),
        ]);
    }
    output::line(sources.to_string());
    for source in &forecast.sources {
        lines(&format!("{}: dropped", plain(&source.table)), &source.dropped);
        lines(&format!("{}: QUARANTINED", plain(&source.table)), &source.quarantined);
    }
    let mut targets = table(&["target table", "rows", "bytes", "write units"]);
    for target in &forecast.targets {
        let units = target.write_units.as_ref().map_or_else(String::new, about);
        targets.add_row([plain(&target.table), about(&target.rows), bytes(&target.bytes), units]);
    }
    output::line(targets.to_string());
    forecast.targets.iter().for_each(show_target);
    output::line(format!("parts that are written together: {}", about(&forecast.parts)));
    lines("parts PARKED by the mapping", &forecast.parked);
    lines("parts that the target would REFUSE", &forecast.refused);
    lines("counted", &forecast.counted);
    for example in &forecast.examples {
        let keys = example.keys.iter().map(|key| plain(key)).collect::<Vec<_>>().join(", ");
        output::line(format!("  {} {}, such as {keys}", example.what, example.reason));
    }
    show_costs(forecast);
    for what in &forecast.not_looked_at {
        output::line(format!("not looked at: {what}"));
    }
    output::line(if forecast.troubled() {
        "something would not arrive: see what stands in capitals above"
    } else {
        "everything that was looked at would arrive"
    });
}

fn show_target(target: &TargetForecast) {
    let name = plain(&target.table);
    lines(&format!("{name}: rows of parts that the target would REFUSE"), &target.refused);
    lines(&format!("{name}: rows with a value that would be ALTERED"), &target.altered);
    for key in &target.keys {
        let KeyForecast { columns, proven, contested, rows, shown } = key;
        let columns = columns.iter().map(|column| plain(column)).collect::<Vec<_>>().join(", ");
        if *contested > 0 {
            let shown: Vec<String> = shown.iter().map(|(key, rows)| format!("{} ({rows} rows)", plain(key))).collect();
            let (keys, rows) = (number(*contested), number(*rows));
            output::line(format!(
                "{name} ({columns}): {keys} keys are WANTED by {rows} rows of several parts, such as {}",
                shown.join(", ")
            ));
        } else {
            let why =
                if *proven { "the mapping proves that no two parts have one key" } else { "no two parts have one key" };
            output::line(format!("{name} ({columns}): {why}"));
        }
    }
    for reference in target.references.iter().filter(|reference| reference.dangling > 0) {
        let columns = reference.columns.iter().map(|column| plain(column)).collect::<Vec<_>>().join(", ");
        let shown: Vec<String> =
            reference.shown.iter().map(|(key, rows)| format!("{} ({} rows)", plain(key), number(*rows))).collect();
        output::line(format!(
            "{name} ({columns}): {} rows refer to {} rows of {} that are NOT WRITTEN, such as {}",
            number(reference.rows),
            number(reference.dangling),
            plain(&reference.to),
            shown.join(", ")
        ));
    }
    if let Some(large) = target.large.as_ref().filter(|large| large.value > 0) {
        output::line(format!("{name}: {} items are above half of the largest size, 400 KB", about(large)));
    }
    let Some(partitions) = target.partitions.as_ref().filter(|partitions| partitions.count > 0) else { return };
    let of = if partitions.estimated { " of the sample" } else { "" };
    let largest = partitions.largest.iter().map(|partition| {
        format!("{} ({} %, {} rows)", plain(&partition.key), short(partition.percent), number(partition.rows))
    });
    let largest = largest.collect::<Vec<_>>().join(", ");
    output::line(format!("{name}: {} partition keys{of}; most write units go to {largest}", number(partitions.count)));
}

fn show_costs(forecast: &Forecast) {
    if let Some(writing) = &forecast.writing {
        let time = match (writing.capacity, &writing.seconds) {
            (Some(capacity), Some(seconds)) => {
                format!(", {} to {} at {capacity} a second", duration(seconds.low), duration(seconds.high))
            }
            _ => "; --write-capacity says how long that takes".to_owned(),
        };
        output::line(format!("write units: {}{time}", about(&writing.write_units)));
        if writing.hottest_seconds > 0 {
            let hottest = duration(writing.hottest_seconds);
            output::line(format!(
                "  the largest partition key takes {hottest} at the least: a partition takes 1,000 units a second"
            ));
        }
    }
    let (disk, time) = (&forecast.disk, &forecast.time);
    let between = |low: u64, high: u64| format!("{} to {}", size(low), size(high));
    output::line(format!(
        "disk: log {}, state {}; a comparison {} while it runs; this plan needed {}",
        between(disk.log.low, disk.log.high),
        between(disk.state.low, disk.state.high),
        between(disk.comparison.low, disk.comparison.high),
        size(disk.plan)
    ));
    disk.assumptions.iter().for_each(|assumption| output::line(format!("  {assumption}")));
    let units = time.read_units.map_or_else(String::new, |units| format!(" and {} read units", number(units)));
    output::line(format!(
        "time: a run catches up in {} to {}; this pass took {:.1} s{units}, {} rows a second",
        duration(time.run_seconds.low),
        duration(time.run_seconds.high),
        time.pass_seconds,
        number(time.rows_per_second)
    ));
    time.assumptions.iter().for_each(|assumption| output::line(format!("  {assumption}")));
}

/// A line for what each reason comes to.
fn lines(what: &str, reasons: &BTreeMap<String, Estimate>) {
    for (reason, estimate) in reasons {
        output::line(format!("{what}: {} {}", about(estimate), plain(reason)));
    }
}

/// A number, and where it is an estimate its interval.
fn about(estimate: &Estimate) -> String {
    match estimate.exact {
        true => number(estimate.value),
        false => format!("{} [{} to {}]", number(estimate.value), number(estimate.low), number(estimate.high)),
    }
}

/// As [`about`], of bytes.
fn bytes(estimate: &Estimate) -> String {
    match estimate.exact {
        true => size(estimate.value),
        false => format!("{} [{} to {}]", size(estimate.value), size(estimate.low), size(estimate.high)),
    }
}

/// Bytes in the unit that suits them.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let (mut size, mut unit) = (bytes as f64, 0);
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        (size, unit) = (size / 1024.0, unit + 1);
    }
    if unit == 0 { format!("{bytes} bytes") } else { format!("{size:.1} {}", UNITS[unit]) }
}

/// A share with as many digits as say something.
fn short(percent: f64) -> String {
    let text = format!("{percent:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn table(header: &[&str]) -> Table {
    let mut table = output::table(header);
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

//! Shows every migration that has generated data, side by side, each in a process of its own.

use std::process::Stdio;
use std::time::Instant;

use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::super::args::{DemoArgs, Global};
use super::super::exit::Exit;
use super::super::{Failure, locate, output};
use super::report::{self, Report};
use super::{program, words};

/// Runs all of them; the exit code is the worst of theirs.
pub async fn show(global: &Global, args: &DemoArgs, stop: &CancellationToken) -> Result<Exit, Failure> {
    let began = Instant::now();
    let names = locate::with(global, "demo");
    if names.is_empty() {
        return Err(Failure::from("no migration has a folder `demo`".to_owned()));
    }
    let width = names.iter().map(String::len).max().unwrap_or_default();
    let mut running = JoinSet::new();
    for name in &names {
        let child = start(global, args, name)?;
        running.spawn(follow(child, name.clone(), width, stop.clone()));
    }
    let mut reports = Vec::new();
    let mut failures = Vec::new();
    while let Some(ended) = running.join_next().await {
        match ended.map_err(words)? {
            Ok(report) => reports.push(report),
            Err(failure) => failures.push(failure),
        }
    }
    if stop.is_cancelled() {
        return Ok(Exit::Incomplete);
    }
    reports.sort_by(|one, other| one.migration.cmp(&other.migration));
    if global.json {
        // Of several documents a reader would take the first for all of it.
        if failures.is_empty() {
            output::json(&reports);
        }
    } else {
        report::show(&reports);
        output::line(format!("{} migrations in {:.0} s", reports.len(), began.elapsed().as_secs_f64()));
    }
    match (failures.is_empty(), reports.first()) {
        (true, Some(first)) if !global.json => next(&first.migration),
        (true, _) => {}
        (false, _) => return Err(Failure::from(failures.join("\n"))),
    }
    let exits: Vec<Exit> = reports.iter().map(Report::exit).collect();
    let worst = [Exit::Mismatch, Exit::Incomplete].into_iter().find(|exit| exits.contains(exit));
    Ok(worst.unwrap_or(Exit::Success))
}

/// Starts the demo of one migration; it ends when its standard input is closed.
fn start(global: &Global, args: &DemoArgs, name: &str) -> Result<Child, Failure> {
    let itself = std::env::current_exe().map_err(words)?;
    let mut command = Command::new(itself);
    command.args(["demo", name, "--json", "--with-parent"]);
    for (option, value) in [("--units", args.units), ("--seed", args.seed), ("--writes", args.writes)] {
        command.arg(option).arg(value.to_string());
    }
    if let Some(schemas) = &global.schemas {
        command.arg("--schemas").arg(schemas);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().map_err(words)
}

/// Passes on what a demo tells, and takes its report; why there is none, otherwise.
async fn follow(mut child: Child, name: String, width: usize, stop: CancellationToken) -> Result<Report, String> {
    let (input, out, err) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    // Held until the demo is to stop; its end, like that of this process, is the order to.
    let hold = async move {
        stop.cancelled().await;
        drop(input);
    };
    let whole = async {
        let (told, text, ended) = tokio::join!(pass_on(err, &name, width), read(out), child.wait());
        told.and(ended.map(|_| ()))?;
        text
    };
    tokio::pin!(whole);
    let text = tokio::select! {
        text = &mut whole => text,
        () = hold => whole.await,
    };
    let text = text.map_err(|error| format!("{name}: {error}"))?;
    serde_json::from_str(&text).map_err(|_| format!("{name}: {}", failure_in(&text)))
}

/// What a demo that ended without a report said of why.
fn failure_in(text: &str) -> String {
    let told: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    told["error"].as_str().unwrap_or("it ended without a report").to_owned()
}

async fn read(out: Option<impl AsyncRead + Unpin>) -> std::io::Result<String> {
    let mut text = String::new();
    if let Some(mut out) = out {
        out.read_to_string(&mut text).await?;
    }
    Ok(text)
}

async fn pass_on(err: Option<impl AsyncRead + Unpin>, name: &str, width: usize) -> std::io::Result<()> {
    let Some(err) = err else { return Ok(()) };
    let mut lines = BufReader::new(err).lines();
    while let Some(line) = lines.next_line().await? {
        output::say(format!("{name:<width$}  {}", line.trim_start_matches("==> ")));
    }
    Ok(())
}

/// What to do after that.
fn next(name: &str) {
    let me = program();
    output::say(format!(
        "try next:\n  {me} demo {name} --keep    # the servers stay: look around\n  \
         {me} check {name}          # a migration's files, read as a compiler reads code\n  \
         {me} check {name} --source postgres://USER:PASSWORD@HOST/DATABASE    # what your database lacks for it"
    ));
}

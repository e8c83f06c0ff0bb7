//! Tells someone that a comparison did not end in MATCH: a command, an address, or both.
//!
//! An alarm that fails changes nothing: the verdict's own exit code says already that someone must look, and what failed is
//! told on standard error. Both ways are bounded in time, so that they end before the next night begins.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode, Uri};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::time::timeout;

use crate::reconcile::{Summary, Verdict};
use crate::report::folder::{CERTIFICATE, DISCREPANCIES, MARKDOWN, PAGE, SUMMARY};
use crate::report::words;

use super::args::AlarmArgs;
use super::output;

/// A command that takes longer hangs: sending a mail takes seconds.
const COMMAND_MAX: Duration = Duration::from_secs(120);
/// One request, from resolving the name to the answer's status.
const REQUEST_MAX: Duration = Duration::from_secs(10);
/// Requests after the first one, for a receiver that is just restarting.
const RETRIES_MAX: usize = 3;

/// Why an alarm did not reach anyone. Addresses often carry a secret, so none is in here.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the alarm command cannot be started")]
    Start(#[source] std::io::Error),
    #[error("the alarm command failed: {0}")]
    Ended(std::process::ExitStatus),
    #[error("the alarm command did not end within {} seconds and was stopped", COMMAND_MAX.as_secs())]
    Hung,
    #[error("the webhook's address is not one of http or https")]
    Address,
    #[error("the system's certificates cannot be read")]
    Certificates(#[source] std::io::Error),
    #[error("the webhook cannot be reached")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the webhook did not answer within {} seconds", REQUEST_MAX.as_secs())]
    Slow,
    #[error("the webhook answered {0}")]
    Refused(StatusCode),
}

impl Error {
    /// Whether another attempt may go better.
    fn passing(&self) -> bool {
        match self {
            Error::Unreachable(_) | Error::Slow => true,
            Error::Refused(status) => status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS,
            Error::Start(_) | Error::Ended(_) | Error::Hung | Error::Address | Error::Certificates(_) => false,
        }
    }
}

/// Tells whom the arguments name, unless the verdict is MATCH.
pub async fn raise(args: &AlarmArgs, folder: &Path, summary: &Summary) {
    if summary.verdict == Verdict::Match {
        return;
    }
    let body = serde_json::to_vec(summary).expect("a summary is plain data");
    if let Some(command) = &args.on_alarm {
        tell(run(command, folder, summary, &body).await);
    }
    if let Some(address) = &args.webhook {
        tell(post(address, body).await);
    }
}

fn tell(outcome: Result<(), Error>) {
    if let Err(error) = outcome {
        tracing::error!(error = %error, "an alarm was not raised");
        output::say(format!("warning: {}", super::chain(&error)));
    }
}

/// Runs a command of the shell: the summary on its standard input, paths in its environment.
async fn run(command: &str, folder: &Path, summary: &Summary, body: &[u8]) -> Result<(), Error> {
    let mut child = Command::new("sh")
        .args(["-c", command])
        .env("REHOME_MIGRATION", &summary.migration)
        .env("REHOME_VERDICT", words::verdict(summary.verdict))
        .env("REHOME_REPORT", folder)
        .env("REHOME_REPORT_SUMMARY", folder.join(SUMMARY))
        .env("REHOME_REPORT_DISCREPANCIES", folder.join(DISCREPANCIES))
        .env("REHOME_REPORT_CERTIFICATE", folder.join(CERTIFICATE))
        .env("REHOME_REPORT_PAGE", folder.join(PAGE))
        .env("REHOME_REPORT_MARKDOWN", folder.join(MARKDOWN))
        .stdin(Stdio::piped())
        // Standard output is for data of ours.
        .stdout(std::io::stderr())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()
        .map_err(Error::Start)?;
    let input = child.stdin.take();
    let ended = async {
        if let Some(mut input) = input {
            // A command need not read what it does not want.
            let _ = input.write_all(body).await;
        }
        child.wait().await
    };
    let status = timeout(COMMAND_MAX, ended).await.map_err(|_| Error::Hung)?.map_err(Error::Start)?;
    if status.success() { Ok(()) } else { Err(Error::Ended(status)) }
}

/// Posts the summary as JSON.
async fn post(address: &str, body: Vec<u8>) -> Result<(), Error> {
    let address: Uri = address.parse().map_err(|_| Error::Address)?;
    if !matches!(address.scheme_str(), Some("http" | "https")) || address.host().is_none() {
        return Err(Error::Address);
    }
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let connector =
        HttpsConnectorBuilder::new().with_provider_and_native_roots(provider).map_err(Error::Certificates)?;
    let connector = connector.https_or_http().enable_http1().build();
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build(connector);
    let body = Bytes::from(body);
    let attempt = || async {
        let request = Request::builder()
            .method(Method::POST)
            .uri(&address)
            .header("content-type", "application/json")
            .header("user-agent", concat!("rehome/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(body.clone()))
            .map_err(|_| Error::Address)?;
        let answer = timeout(REQUEST_MAX, client.request(request)).await.map_err(|_| Error::Slow)?;
        let status = answer.map_err(|error| Error::Unreachable(error.into()))?.status();
        // A redirect is no answer either: the summary goes only where someone said it should.
        if status.is_success() { Ok(()) } else { Err(Error::Refused(status)) }
    };
    attempt.retry(ExponentialBuilder::default().with_max_times(RETRIES_MAX)).when(Error::passing).await
}

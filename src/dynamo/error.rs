//! From the SDK's errors to [`Error`]: what kind it is and what to do next, never what a row holds (I12).

use std::error::Error as StdError;

use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};

use crate::source::Error;

/// Stands for the service's code where no connection was made, or nothing could be signed to be sent on one.
const CONNECTION: &str = "connection";
/// Stands for the service's code where a request could not be made.
const REQUEST: &str = "request";

/// What an answer of the service means for the one who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Too much was asked for in too short a time.
    Throttled,
    /// The service failed, or could not be reached, or did not answer in time.
    Unreachable,
    /// No credentials were found, or the service does not accept them, or they do not allow this.
    Denied,
    /// A table, stream or shard is not there.
    NotFound,
    /// A shard iterator is older than 15 minutes.
    ExpiredIterator,
    /// The place that was asked for is older than the stream keeps.
    Trimmed,
    /// Anything else that the service refused.
    Refused,
    /// The answer was none of DynamoDB's.
    NotDynamo,
}

/// An error of a call, sorted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What it means.
    pub kind: Kind,
    /// The service's code, or what kind of failure the SDK tells.
    pub code: String,
    /// Its message, without what may be a row's.
    pub message: String,
}

/// Sorts an error of a call.
pub fn failure<E: ProvideErrorMetadata + StdError + 'static>(error: &SdkError<E, HttpResponse>) -> Failure {
    match error {
        SdkError::ServiceError(context) => {
            let code = context.err().code().unwrap_or_default();
            let status = context.raw().status().as_u16();
            let message = context.err().message().unwrap_or_default();
            let kind = if code.is_empty() && status < 500 { Kind::NotDynamo } else { kind(code, status) };
            Failure { kind, code: code.to_owned(), message: harmless(code, message) }
        }
        SdkError::TimeoutError(_) => other(Kind::Unreachable, "timeout", "no answer in time"),
        SdkError::ResponseError(context) if context.raw().status().as_u16() >= 500 => {
            other(Kind::Unreachable, "response", "the answer was cut off")
        }
        SdkError::ResponseError(_) => other(Kind::NotDynamo, "response", "the answer does not read"),
        SdkError::DispatchFailure(dispatch) => {
            let text = dispatch.as_connector_error().map(|error| causes(error)).unwrap_or_default();
            let is_io = dispatch.is_io() || dispatch.is_timeout();
            other(if is_io { Kind::Unreachable } else { of_text(&text) }, CONNECTION, &text)
        }
        unsent => {
            let text = causes(unsent);
            other(of_text(&text), REQUEST, &text)
        }
    }
}

/// What a code of the service means.
fn kind(code: &str, status: u16) -> Kind {
    match code {
        "ProvisionedThroughputExceededException"
        | "ThrottlingException"
        | "Throttling"
        | "RequestLimitExceeded"
        | "LimitExceededException" => Kind::Throttled,
        "AccessDeniedException"
        | "UnrecognizedClientException"
        | "InvalidSignatureException"
        | "InvalidClientTokenId"
        | "ExpiredTokenException"
        | "IncompleteSignatureException"
        | "MissingAuthenticationTokenException" => Kind::Denied,
        "ResourceNotFoundException" => Kind::NotFound,
        "ExpiredIteratorException" => Kind::ExpiredIterator,
        "TrimmedDataAccessException" => Kind::Trimmed,
        "InternalServerError" | "InternalFailure" | "ServiceUnavailable" | "ServiceUnavailableException" => {
            Kind::Unreachable
        }
        _ if status >= 500 => Kind::Unreachable,
        _ => Kind::Refused,
    }
}

/// What a request that was never sent lacks: the SDK tells it in words only.
fn of_text(text: &str) -> Kind {
    let text = text.to_ascii_lowercase();
    if text.contains("credential") || text.contains("token") {
        Kind::Denied
    } else if text.contains("region") {
        Kind::Refused
    } else {
        Kind::Unreachable
    }
}

fn other(kind: Kind, code: &str, message: &str) -> Failure {
    Failure { kind, code: code.to_owned(), message: message.to_owned() }
}

/// An error and its causes on one line; what the SDK lists on further lines is a search of places that had nothing.
fn causes(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text.lines().next().unwrap_or_default().to_owned()
}

/// A message without the values that a refused request held: the service writes them behind a colon.
fn harmless(code: &str, message: &str) -> String {
    match (code, message.split_once(": ")) {
        ("ValidationException" | "SerializationException", Some((what, _))) => what.to_owned(),
        _ => message.to_owned(),
    }
}

/// Turns an error of a call on `place` (a table, a stream) into ours, with what to do next.
pub fn sdk<E: ProvideErrorMetadata + StdError + 'static>(
    action: &'static str,
    place: &str,
) -> impl FnOnce(SdkError<E, HttpResponse>) -> Error {
    move |error| of_failure(action, place, failure(&error))
}

/// As [`sdk()`], for an error that was sorted before.
pub(super) fn of_failure(action: &'static str, place: &str, failure: Failure) -> Error {
    let Failure { kind, code, message } = failure;
    let refused = |hint: &str| Error::Refused { action, code: code.clone(), message: format!("{message} ({hint})") };
    match kind {
        Kind::Throttled => Error::Throttled { action, code },
        Kind::Unreachable if code == CONNECTION => {
            Error::Unreachable { action, reason: format!("{message} (check region and endpoint)") }
        }
        Kind::Unreachable => Error::Unreachable { action, reason: format!("{code}: {message}") },
        Kind::Denied if code == CONNECTION || code == REQUEST => {
            refused("no credentials were found: set AWS_PROFILE, or the variables that AWS's own command line reads")
        }
        Kind::Denied => refused(&format!("let these credentials {action}: {place}")),
        Kind::NotFound => refused(&format!("check name, region and endpoint: {place} is not there")),
        Kind::Trimmed => {
            Error::Lost { reason: format!("{place}: the stream no longer holds what was to be read next") }
        }
        Kind::NotDynamo => {
            Error::Unreadable { action, detail: format!("{message} (is the endpoint's address that of DynamoDB?)") }
        }
        Kind::ExpiredIterator => Error::Unreachable { action, reason: code },
        Kind::Refused if message.to_ascii_lowercase().contains("region") => {
            refused("set AWS_REGION, or give the region")
        }
        Kind::Refused => Error::Refused { action, code, message },
    }
}

/// An answer, or an item in it, that is not as documented.
pub(super) fn unreadable(action: &'static str, detail: impl Into<String>) -> Error {
    Error::Unreadable { action, detail: detail.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Fault;

    fn error(code: &str, message: &str) -> Error {
        let failure = Failure { kind: kind(code, 400), code: code.into(), message: harmless(code, message) };
        of_failure("scan a table", "table t", failure)
    }

    #[test]
    fn every_kind_of_answer_has_its_consequence() {
        for (code, fault) in [
            ("ProvisionedThroughputExceededException", Fault::Transient),
            ("InternalServerError", Fault::Transient),
            ("ExpiredIteratorException", Fault::Transient),
            ("TrimmedDataAccessException", Fault::Lost),
            ("AccessDeniedException", Fault::Fatal),
            ("ResourceNotFoundException", Fault::Fatal),
            ("ValidationException", Fault::Fatal),
        ] {
            assert_eq!(error(code, "").fault(), fault, "{code}");
        }
    }

    #[test]
    fn an_error_says_what_to_do_and_not_what_a_row_holds() {
        let denied = error("AccessDeniedException", "not authorized").to_string();
        assert!(denied.ends_with("not authorized (let these credentials scan a table: table t)"), "{denied}");
        let invalid = error("ValidationException", "The parameter cannot be converted to a numeric value: MARKER");
        assert!(!invalid.to_string().contains("MARKER"), "{invalid}");
    }

    #[test]
    fn a_request_that_could_not_be_sent_says_what_it_lacks() {
        assert_eq!(of_text("an error occurred while loading credentials"), Kind::Denied);
        assert_eq!(of_text("Invalid Configuration: Missing Region"), Kind::Refused);
        assert_eq!(of_text("connection refused"), Kind::Unreachable);
    }
}

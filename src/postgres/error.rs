//! From the drivers' errors to [`Error`]: kind, code and message, never DETAIL or CONTEXT, which hold row contents (I12).

use pgwire_replication::PgWireError;

use crate::source::Error;

/// Turns an error of the SQL driver into ours.
pub(super) fn sql(action: &'static str) -> impl FnOnce(sqlx::Error) -> Error {
    move |error| match error {
        sqlx::Error::Database(refusal) => Error::Refused {
            action,
            code: refusal.code().map(String::from).unwrap_or_default(),
            message: refusal.message().to_owned(),
        },
        sqlx::Error::Configuration(reason) => Error::Address { reason: reason.to_string() },
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
            Error::Unreachable { action, reason: error.to_string() }
        }
        // The rest is a row or a type that is not what the statement asked for; their texts name columns and types only.
        other => Error::Unreadable { action, detail: other.to_string() },
    }
}

/// Turns an error of the replication driver into ours.
pub(super) fn replication(action: &'static str) -> impl FnOnce(PgWireError) -> Error {
    move |error| match error {
        PgWireError::Server(message) => refusal(action, &message),
        PgWireError::Auth(message) => Error::Refused { action, code: "28000".into(), message },
        PgWireError::Protocol(detail) => Error::Unreadable { action, detail },
        too_large @ PgWireError::MessageTooLarge { .. } => Error::Unreadable { action, detail: too_large.to_string() },
        other => Error::Unreachable { action, reason: other.to_string() },
    }
}

/// As [`replication()`], for an error of the stream itself: a slot or a publication that is not there any more (42704), a slot
/// that was invalidated (55000), WAL that was removed (58P01), mean that changes are lost.
pub(super) fn stream(action: &'static str) -> impl FnOnce(PgWireError) -> Error {
    move |error| match replication(action)(error) {
        Error::Refused { code, message, .. } if matches!(code.as_str(), "42704" | "55000" | "58P01") => {
            Error::Lost { reason: message }
        }
        other => other,
    }
}

/// Takes `message (SQLSTATE 55006)` apart, which is how the replication driver tells a server's refusal.
fn refusal(action: &'static str, text: &str) -> Error {
    let (message, code) = match text.rsplit_once(" (SQLSTATE ") {
        Some((message, code)) => (message, code.trim_end_matches(')')),
        None => (text, ""),
    };
    Error::Refused { action, code: code.to_owned(), message: message.to_owned() }
}

/// A message from the server that breaks the protocol.
pub(super) fn unreadable(action: &'static str, detail: impl Into<String>) -> Error {
    Error::Unreadable { action, detail: detail.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_keeps_its_code() {
        let error = replication("stream")(PgWireError::Server("slot is active (SQLSTATE 55006)".into()));
        assert_eq!(error.to_string(), "the source refused to stream: 55006 slot is active");
        assert_eq!(error.fault(), crate::source::Fault::Transient);
    }
}

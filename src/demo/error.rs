//! What can go wrong while demo data are made and written.

use std::path::PathBuf;

/// Errors of the generator and the writers; never with row contents (I12).
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the demo could not be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// A file of the demo is not what it should be; the parser's error shows line and column.
    #[error("{path} is not a scenario file")]
    Parse {
        /// The file.
        path: PathBuf,
        /// The parser's error.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A template is wrong.
    #[error("{place}: {problem}")]
    Template {
        /// Which part of the file, as a path of names.
        place: String,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// The definitions of a demo's tables are not what a server of tables takes.
    #[error("{path} is not an array of table definitions")]
    Definitions {
        /// The file.
        path: PathBuf,
        /// The parser's error.
        #[source]
        source: serde_json::Error,
    },
    /// A private server found no port.
    #[error("cannot listen on 127.0.0.1")]
    Listen {
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// The build has no private DynamoDB.
    #[error("this build has no DynamoDB for the demo: build it with `--features demo-dynamo`")]
    NoTables,
    /// The server refused, or the connection broke.
    #[error("cannot {action} (server code {code})")]
    Server {
        /// What was attempted, as a verb phrase.
        action: &'static str,
        /// The server's code, or `none` where it was the connection that failed.
        code: String,
    },
}

impl Error {
    /// Keeps of a driver's error what holds no row contents.
    pub(super) fn server(action: &'static str, error: &sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(|error| error.code());
        Self::Server { action, code: code.map_or_else(|| "none".to_owned(), |code| code.into_owned()) }
    }
}

//! What can go wrong with a report; never with contents of rows in it (I12).

use std::path::PathBuf;

/// Why a report could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A folder or file could not be used.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was attempted, as a verb.
        action: &'static str,
        /// Which one.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// A file does not have the form that this version writes. The parser's words could quote contents, so its place stands
    /// for them.
    #[error("{} is not of the form that this rehome writes: line {line}, column {column}", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// There is a report of that second already.
    #[error("{} is there already", .0.display())]
    Exists(PathBuf),
    /// There is no report.
    #[error("no report in {}", .0.display())]
    None(PathBuf),
    /// A text does not name a night.
    #[error("`{0}` does not name a night, as 2026-01-31T02-00-00Z does")]
    Night(String),
    /// A key cannot be used.
    #[error("{} does not hold {wanted}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        wanted: &'static str,
    },
    /// The page could not be filled in.
    #[error("cannot fill in the page")]
    Page(#[source] askama::Error),
}

impl Error {
    /// Names the file that could not be used.
    pub(super) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }

    /// Names the file whose form is wrong; `line` is where the text that was parsed begins, from 0.
    pub(super) fn form(path: impl Into<PathBuf>, line: usize, error: &serde_json::Error) -> Self {
        Self::Form { path: path.into(), line: line + error.line(), column: error.column() }
    }

    /// What a person can do about it, when that is known.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Error::File { .. } => Some("check that the disk is not full, and that the folder may be written"),
            Error::Form { .. } => Some("it was written by another version of rehome, or changed since"),
            Error::Exists(_) => Some("two comparisons began in one second; begin again"),
            Error::None(_) => Some("check the migration's name and --reports"),
            Error::Night(_) => Some("`rehome report MIGRATION --list` lists them"),
            Error::Key { .. } => Some(
                "`openssl genpkey -algorithm ed25519 -out key.pem` makes one, `openssl pkey -in key.pem -pubout` its public key",
            ),
            Error::Page(_) => None,
        }
    }
}

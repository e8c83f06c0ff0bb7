//! What can go wrong while a dump is loaded; positions and names, never what a row holds (I12).

use std::path::PathBuf;

use crate::event::JsonError;

/// Errors of loading a dump.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was attempted, as a verb phrase.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// A line is not a row.
    #[error(
        "line {line} of {}: {problem}; correct the line or take it out, and load again: the lines before it stay loaded",
        path.display()
    )]
    Line {
        /// The file.
        path: PathBuf,
        /// The line's number, from 1.
        line: u64,
        /// What is wrong with it.
        problem: Problem,
    },
    /// The part of the file that was loaded already reads otherwise now.
    #[error(
        "{} was changed before line {line}, up to which it is loaded: put the old lines back, or load with --again, which \
         takes every file anew",
        path.display()
    )]
    Changed {
        /// The file.
        path: PathBuf,
        /// The first line that is not loaded yet.
        line: u64,
    },
    /// A file that stands for a table has a broken line; nothing of it was taken.
    #[error("line {line} of {}: {problem}; correct it: nothing of the file was taken", path.display())]
    Csv {
        /// The file.
        path: PathBuf,
        /// The line's number, from 1.
        line: u64,
        /// What is wrong with it.
        problem: Problem,
    },
    /// A file that stands for a table is too large to be one.
    #[error("{} has more than {limit} bytes, too many for a lookup", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Bytes that it may have.
        limit: u64,
    },
    /// A mark in the log does not read back.
    #[error("mark {name} in the event log does not read")]
    Mark {
        /// The mark.
        name: String,
    },
    /// The log.
    #[error("the event log failed")]
    Log(#[from] crate::log::Error),
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// It is too long to be a row.
    #[error("it has more than {0} bytes")]
    TooLong(usize),
    /// It is not UTF-8.
    #[error("it is not UTF-8")]
    NotText,
    /// It is not JSON.
    #[error(transparent)]
    NotJson(#[from] JsonError),
    /// It is JSON, but no object.
    #[error("it is not a JSON object")]
    NotAnObject,
    /// It is not `{"Item": {…}}`.
    #[error("it has no member Item, as a line of an export has")]
    NoItem,
    /// A record of comma-separated values has more or fewer fields than the first line.
    #[error("it has {found} fields, and the first line names {expected} columns")]
    Fields {
        /// Columns.
        expected: u64,
        /// Fields.
        found: u64,
    },
    /// The file has no first line.
    #[error("the file is empty: its first line must name the columns")]
    NoHeader,
    /// The key of another line.
    #[error("it has the key of line {0}")]
    SameKey(u64),
    /// A column is not there.
    #[error("column {0} is not there (say null where there is none)")]
    NoColumn(Box<str>),
    /// The first line does not name a column.
    #[error("it does not name column {0}")]
    NotNamed(Box<str>),
    /// The first line names a column twice.
    #[error("it names column {0} twice")]
    NamedTwice(Box<str>),
    /// A member is no column.
    #[error("{0} is no column of the table")]
    UnknownColumn(Box<str>),
    /// A value is not of its column's type.
    #[error("column {column} does not read as {type_name}")]
    Value {
        /// The column.
        column: Box<str>,
        /// Its type.
        type_name: Box<str>,
    },
    /// A document stands where its text should.
    #[error("column {0} holds a document: say it as a string that holds the document's text")]
    Nested(Box<str>),
    /// A part of the key is null.
    #[error("key column {0} is null")]
    NullKey(Box<str>),
    /// An attribute is no attribute value.
    #[error("attribute {0} is not an attribute value such as {{\"S\": …}}")]
    Attribute(Box<str>),
    /// An item has no attribute of its key, or one of another type.
    #[error("key attribute {name} is not there as {type_name}")]
    Key {
        /// The attribute.
        name: Box<str>,
        /// Its type.
        type_name: Box<str>,
    },
}

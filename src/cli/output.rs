//! Writing: data to standard output, talk to standard error.

use std::io::Write as _;

use comfy_table::{Table, presets};
use serde::Serialize;

use super::Failure;
use super::exit::Exit;

/// Writes a line of data; a reader that has gone ends the program's output, not the program.
pub fn line(text: impl AsRef<str>) {
    let _ = writeln!(std::io::stdout(), "{}", text.as_ref());
}

/// Writes a line of talk.
pub fn say(text: impl AsRef<str>) {
    let _ = writeln!(std::io::stderr(), "{}", text.as_ref());
}

/// Writes a value as one JSON document.
pub fn json(value: &impl Serialize) {
    let text = serde_json::to_string_pretty(value).expect("output is plain data under text keys");
    line(text);
}

/// A table without borders, with a header.
pub fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header.to_vec());
    table
}

/// Tells a failure, and what to do about it.
pub fn failure(failure: &Failure, as_json: bool) -> Exit {
    if as_json {
        json(&serde_json::json!({ "error": failure.message, "hint": failure.hint }));
    } else {
        say(format!("error: {}", failure.message));
        if let Some(hint) = &failure.hint {
            say(format!("  next: {hint}"));
        }
    }
    Exit::Failure
}

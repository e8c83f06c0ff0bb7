//! What is wrong in a migration's files, told as a compiler would: file, line, column, and how to mend it.
//!
//! Checks never stop at the first problem: each pushes into [`Problems`] and goes on, so that one run of `check` shows all.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use miette::{Diagnostic, SourceSpan};

/// A file of a migration, as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Name shown in diagnostics: the path below the migration's folder.
    pub name: String,
    /// The text.
    pub text: Arc<str>,
}

impl SourceFile {
    /// A file by name and text.
    pub fn new(name: impl Into<String>, text: impl Into<Arc<str>>) -> Self {
        Self { name: name.into(), text: text.into() }
    }
}

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// File.
    pub file: SourceFile,
    /// Bytes of the text that it is about.
    pub span: Range<usize>,
    /// What is wrong, lower case, no full stop.
    pub message: String,
    /// What to do about it.
    pub fix: String,
}

impl Problem {
    /// Line and column of the beginning, both from 1; columns count characters.
    pub fn position(&self) -> (usize, usize) {
        let upto = self.file.text.get(..self.span.start).unwrap_or(&self.file.text);
        let line_start = upto.rfind('\n').map_or(0, |at| at + 1);
        (upto.matches('\n').count() + 1, upto[line_start..].chars().count() + 1)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

impl Diagnostic for Problem {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(&self.fix))
    }

    fn source_code(&self) -> Option<&dyn miette::SourceCode> {
        Some(self)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = miette::LabeledSpan> + '_>> {
        let span = SourceSpan::from(self.span.clone());
        Some(Box::new(std::iter::once(miette::LabeledSpan::new_primary_with_span(Some("here".into()), span))))
    }
}

impl miette::SourceCode for Problem {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        lines_before: usize,
        lines_after: usize,
    ) -> Result<Box<dyn miette::SpanContents<'a> + 'a>, miette::MietteError> {
        let contents = self.file.text.read_span(span, lines_before, lines_after)?;
        Ok(Box::new(miette::MietteSpanContents::new_named(
            self.file.name.clone(),
            contents.data(),
            *contents.span(),
            contents.line(),
            contents.column(),
            contents.line_count(),
        )))
    }
}

/// A migration that cannot be used, with everything that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadError {
    /// The migration: its folder's name.
    pub migration: String,
    /// At least one.
    pub problems: Vec<Problem>,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.problems.len();
        write!(f, "the migration `{}` has {count} problem{}", self.migration, if count == 1 { "" } else { "s" })?;
        for problem in &self.problems {
            let (line, column) = problem.position();
            write!(f, "\n{}:{line}:{column}: {problem} ({})", problem.file.name, problem.fix)?;
        }
        Ok(())
    }
}

impl std::error::Error for LoadError {}

impl Diagnostic for LoadError {
    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        Some(Box::new(self.problems.iter().map(|problem| problem as &dyn Diagnostic)))
    }
}

/// The problems of one file, as they are found.
#[derive(Debug)]
pub(crate) struct Problems {
    file: SourceFile,
    found: Vec<Problem>,
}

impl Problems {
    /// None yet.
    pub(crate) fn new(file: SourceFile) -> Self {
        Self { file, found: Vec::new() }
    }

    /// Notes a problem.
    pub(crate) fn push(&mut self, span: Range<usize>, message: impl Into<String>, fix: impl Into<String>) {
        let end = self.file.text.len();
        let span = span.start.min(end)..span.end.min(end);
        self.found.push(Problem { file: self.file.clone(), span, message: message.into(), fix: fix.into() });
    }

    /// Notes a name that is not among `known`, and proposes the nearest.
    pub(crate) fn unknown<'a>(
        &mut self,
        span: Range<usize>,
        what: &str,
        name: &str,
        known: impl IntoIterator<Item = &'a str>,
    ) {
        self.push(span, format!("unknown {what} `{name}`"), suggestion(name, known));
    }

    /// Ends the search.
    pub(crate) fn into_found(self) -> Vec<Problem> {
        self.found
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.found.len()
    }
}

/// "did you mean", or the list of what there is.
pub(super) fn suggestion<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    // A third of the letters may differ: enough for a slip, too little to propose another word.
    let near = known.iter().map(|word| (distance(name, word), *word)).min();
    match near {
        Some((steps, word)) if steps <= name.chars().count().div_ceil(3) => format!("did you mean `{word}`?"),
        Some(_) => format!("known are: {}", known.join(", ")),
        None => "there are none to choose from".into(),
    }
}

/// Steps of inserting, deleting or replacing one letter that turn one word into the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (at, letter) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = at + 1;
        for (index, other) in b.iter().enumerate() {
            let replace = diagonal + usize::from(letter != *other);
            diagonal = row[index + 1];
            row[index + 1] = replace.min(row[index] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_corrected_and_another_word_is_not() {
        assert_eq!(suggestion("paylod", ["payload", "number"]), "did you mean `payload`?");
        assert_eq!(suggestion("zebra", ["payload", "role"]), "known are: payload, role");
    }

    #[test]
    fn a_position_counts_lines_and_characters() {
        let file = SourceFile::new("x.toml", "a = 1\né = oops\n");
        let start = file.text.find("oops").expect("in the text");
        let problem = Problem { file, span: start..start + 4, message: String::new(), fix: String::new() };
        assert_eq!(problem.position(), (2, 5));
    }
}

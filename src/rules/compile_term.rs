//! Terms and conditions as written, checked against the columns of their table.

use std::ops::Range;

use regex::Regex;

use super::path::{Pattern, Step};
use super::raw::{self, Name, Placed};
use super::term::{Condition, Term};
use crate::event::Value;
use crate::mapping::schema::{ColumnDef, Kind};
use crate::mapping::{Problems, Spanned};

/// Columns of the table that terms are over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Columns<'a> {
    /// Its name, for people.
    pub table: &'a str,
    /// Columns in the order of rows.
    pub columns: &'a [ColumnDef],
}

/// What a term is known to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    /// Text; a UUID is compared as its text.
    Text,
    /// A number.
    Number,
    /// A point in time.
    Time,
    /// Whatever a document or an item holds there, or a kind that terms do nothing with.
    Any,
}

impl Sort {
    fn of(kind: Kind) -> Self {
        match kind {
            Kind::Text | Kind::Uuid => Self::Text,
            Kind::Int | Kind::Decimal => Self::Number,
            Kind::Timestamp => Self::Time,
            Kind::Bool | Kind::Float | Kind::Bytes | Kind::Json | Kind::Native => Self::Any,
        }
    }

    /// Whether a value of one may be one of the other.
    pub(super) fn meets(self, other: Self) -> bool {
        self == Self::Any || other == Self::Any || self == other
    }

    fn word(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Number => "a whole number",
            Self::Time => "a time",
            Self::Any => "anything",
        }
    }
}

impl Columns<'_> {
    /// A field as a rule names it, with the kind of its column; problems are noted.
    pub(super) fn field(&self, name: &Name, problems: &mut Problems) -> Option<(Pattern, Kind)> {
        let mut parts = name.get_ref().split('.');
        let first = parts.next().unwrap_or_default();
        let (column, kind, members) = self.root(first, name.span(), problems)?;
        let step = |part: &str| if part == "*" { Step::Every } else { Step::Member(part.into()) };
        let mut steps: Vec<Step> = members.into_iter().map(Step::Member).collect();
        let below = parts.map(step).collect::<Vec<_>>();
        if !below.is_empty() && !has_members(kind) {
            let message = format!("the column `{first}` of `{}` is {} and has no members", self.table, kind.word());
            problems.push(name.span(), message, "name the column alone");
            return None;
        }
        steps.extend(below);
        Some((Pattern { column, steps }, kind))
    }

    /// A column, its kind, and the first members below it: the attribute, where all is in one column.
    fn root(&self, name: &str, span: Range<usize>, problems: &mut Problems) -> Option<(usize, Kind, Vec<Box<str>>)> {
        if let Some(item) = self.columns.iter().position(|column| column.kind == Kind::Native) {
            if name.is_empty() || name == "*" {
                problems.push(span, "an attribute has no name", "name it, as in `attribute.member`");
                return None;
            }
            return Some((item, Kind::Native, vec![name.into()]));
        }
        let Some(column) = self.columns.iter().position(|column| *column.name == *name) else {
            let known = self.columns.iter().map(|column| &*column.name);
            problems.unknown(span, &format!("column of `{}`", self.table), name, known);
            return None;
        };
        Some((column, self.columns[column].kind, Vec::new()))
    }

    /// A term and what it gives.
    pub(super) fn term(&self, raw: &Placed, problems: &mut Problems) -> Option<(Term, Sort)> {
        match raw.get_ref() {
            raw::Term::Integer(number) => Some((Term::Literal(Value::Int(*number)), Sort::Number)),
            raw::Term::Text(text) => match text.strip_prefix('.') {
                None => Some((Term::Literal(Value::text(text.as_str())), Sort::Text)),
                Some(path) => self.place(path, raw.span(), problems),
            },
            raw::Term::Form(form) => self.form(form, raw.span(), problems),
        }
    }

    fn place(&self, path: &str, span: Range<usize>, problems: &mut Problems) -> Option<(Term, Sort)> {
        let mut parts = path.split('.');
        let first = parts.next().unwrap_or_default();
        let (column, kind, mut members) = self.root(first, span.clone(), problems)?;
        let below: Vec<Box<str>> = parts.map(Into::into).collect();
        if !below.is_empty() && !has_members(kind) {
            let message = format!("the column `{first}` of `{}` is {} and has no members", self.table, kind.word());
            problems.push(span, message, format!("write `.{first}`"));
            return None;
        }
        if below.iter().any(|part| &**part == "*") {
            problems.push(span, "a term has one value, and `*` stands for many", "name one member");
            return None;
        }
        let sort = if below.is_empty() { Sort::of(kind) } else { Sort::Any };
        members.extend(below);
        Some((Term::Place(column, members), sort))
    }

    fn form(&self, form: &raw::Form, span: Range<usize>, problems: &mut Problems) -> Option<(Term, Sort)> {
        let forms = [
            form.first.is_some(),
            form.length.is_some(),
            form.entries.is_some(),
            form.epoch.is_some(),
            form.microseconds.is_some(),
            form.number.is_some(),
            form.capture.is_some(),
        ];
        let known = "first, length, entries, epoch, microseconds, number, or capture with of";
        if !one(&forms) || (form.capture.is_some() != form.of.is_some()) {
            problems.push(span, "this is no term", format!("give exactly one of: {known}"));
            return None;
        }
        if let Some(terms) = &form.first {
            let terms: Vec<(Term, Sort)> = terms.iter().map(|term| self.term(term, problems)).collect::<Option<_>>()?;
            let sort = terms.iter().map(|(_, sort)| *sort).reduce(|a, b| if a == b { a } else { Sort::Any });
            return Some((Term::First(terms.into_iter().map(|(term, _)| term).collect()), sort.unwrap_or(Sort::Any)));
        }
        if let (Some(pattern), Some(of)) = (&form.capture, &form.of) {
            let regex = regex(pattern, problems);
            let term = self.term_of(of, Sort::Text, problems)?;
            let regex = regex?;
            if regex.captures_len() < 2 {
                problems.push(pattern.span(), "the pattern has no group to take", "put what is meant in ( )");
                return None;
            }
            return Some((Term::Capture(Box::new(term), regex), Sort::Text));
        }
        let of = |raw: &Placed, sort: Sort, problems: &mut Problems| self.term_of(raw, sort, problems).map(Box::new);
        Some(if let Some(raw) = &form.length {
            (Term::Length(of(raw, Sort::Text, problems)?), Sort::Number)
        } else if let Some(raw) = &form.entries {
            let (term, sort) = self.term(raw, problems)?;
            if sort != Sort::Any {
                problems.push(raw.span(), format!("this is {} and has no entries", sort.word()), "name a list");
                return None;
            }
            (Term::Entries(Box::new(term)), Sort::Number)
        } else if let Some(raw) = &form.epoch {
            (Term::Epoch(of(raw, Sort::Time, problems)?), Sort::Number)
        } else if let Some(raw) = &form.microseconds {
            (Term::Microseconds(of(raw, Sort::Time, problems)?), Sort::Number)
        } else {
            (Term::Number(of(form.number.as_ref()?, Sort::Text, problems)?), Sort::Number)
        })
    }

    /// A term that must give values of a sort.
    pub(super) fn term_of(&self, raw: &Placed, wanted: Sort, problems: &mut Problems) -> Option<Term> {
        let (term, sort) = self.term(raw, problems)?;
        if !sort.meets(wanted) {
            let message = format!("this is {}, and {} is needed", sort.word(), wanted.word());
            problems.push(raw.span(), message, "use a column of that type");
            return None;
        }
        Some(term)
    }

    /// A condition.
    pub(super) fn condition(&self, raw: &Spanned<raw::Condition>, problems: &mut Problems) -> Option<Condition> {
        let form = raw.get_ref();
        let forms = [
            form.is.is_some(),
            form.starts_with.is_some(),
            form.matches.is_some(),
            form.same.is_some(),
            form.absent.is_some(),
            form.empty.is_some(),
            form.not.is_some(),
            form.every.is_some(),
            form.some.is_some(),
        ];
        let of = form.starts_with.is_some() || form.matches.is_some();
        if !one(&forms) || of != form.of.is_some() || form.is.is_some() != form.one_of.is_some() {
            let known = "is with one_of, starts_with with of, matches with of, same, absent, empty, not, every, some";
            problems.push(raw.span(), "this is no condition", format!("give exactly one of: {known}"));
            return None;
        }
        let text = |raw: &Placed, problems: &mut Problems| self.term_of(raw, Sort::Text, problems);
        if let (Some(is), Some(texts)) = (&form.is, &form.one_of) {
            return Some(Condition::Is(text(is, problems)?, texts.iter().map(|text| text.as_str().into()).collect()));
        }
        if let (Some(start), Some(of)) = (&form.starts_with, &form.of) {
            return Some(Condition::StartsWith(text(of, problems)?, start.as_str().into()));
        }
        if let (Some(pattern), Some(of)) = (&form.matches, &form.of) {
            let regex = regex(pattern, problems);
            return Some(Condition::Matches(text(of, problems)?, regex?));
        }
        if let Some(same) = &form.same {
            let [one, other] = same.as_slice() else {
                problems.push(raw.span(), format!("`same` has {} terms", same.len()), "give two");
                return None;
            };
            let (one, other) = (self.term(one, problems), self.term(other, problems));
            return Some(Condition::Same(one?.0, other?.0));
        }
        if let Some(absent) = &form.absent {
            return Some(Condition::Absent(self.term(absent, problems)?.0));
        }
        if let Some(empty) = &form.empty {
            return Some(Condition::Empty(self.term(empty, problems)?.0));
        }
        if let Some(not) = &form.not {
            return Some(Condition::Not(Box::new(self.condition(not, problems)?)));
        }
        let mut all = |conditions: &[Spanned<raw::Condition>]| -> Option<Vec<Condition>> {
            if conditions.is_empty() {
                problems.push(raw.span(), "there is no condition in this", "give at least one");
                return None;
            }
            conditions.iter().map(|condition| self.condition(condition, problems)).collect()
        };
        match (&form.every, &form.some) {
            (Some(every), _) => all(every).map(Condition::Every),
            (None, some) => all(some.as_deref().unwrap_or_default()).map(Condition::Some),
        }
    }
}

/// Whether exactly one is there.
pub(super) fn one(forms: &[bool]) -> bool {
    forms.iter().filter(|there| **there).count() == 1
}

fn has_members(kind: Kind) -> bool {
    matches!(kind, Kind::Json | Kind::Native)
}

fn regex(pattern: &Name, problems: &mut Problems) -> Option<Regex> {
    match Regex::new(pattern.get_ref()) {
        Ok(regex) => Some(regex),
        Err(error) => {
            // The last line says what is wrong; those before it draw the pattern, which the diagnostic shows anyway.
            let what = error.to_string().lines().last().unwrap_or_default().trim().to_owned();
            let fix = "write it in the syntax of the regex crate, in 'single quotes'";
            problems.push(pattern.span(), format!("this is no pattern: {what}"), fix);
            None
        }
    }
}

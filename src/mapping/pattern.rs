//! Patterns that a text is read by: names in braces with text between them, as old writers put keys together.

use std::fmt;

use crate::event::{Decimal, Value};

use super::schema::Kind;

/// What may follow a name in a pattern: the part is a whole number.
const WHOLE: &str = "whole";

/// A pattern such as `{owner}:{number:whole}`.
///
/// A text is like it in one way or not at all: its parts are not empty, and none holds any text that stands between parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    /// What the text begins with.
    start: Box<str>,
    /// Each part, with the text after it.
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    name: Box<str>,
    /// [`Kind::Text`], or [`Kind::Decimal`] for whole numbers.
    kind: Kind,
    after: Box<str>,
}

/// Why a text is no pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// A brace is not closed, or holds no name.
    Brace,
    /// Something else than `whole` follows a name.
    Form,
    /// Nothing stands between two parts.
    Between,
    /// A name stands twice.
    Twice,
    /// There is no part.
    Empty,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::Brace => "a brace of this pattern holds no name",
            Fault::Form => "only `:whole` may follow a name",
            Fault::Between => "nothing stands between two parts of this pattern",
            Fault::Twice => "a name stands twice in this pattern",
            Fault::Empty => "this pattern has no part",
        })
    }
}

impl Pattern {
    /// Reads a pattern.
    pub(super) fn parse(text: &str) -> Result<Self, Fault> {
        let mut pieces = text.split('{');
        let start = pieces.next().unwrap_or_default();
        let mut parts: Vec<Part> = Vec::new();
        for piece in pieces {
            let (inner, after) = piece.split_once('}').ok_or(Fault::Brace)?;
            let (name, kind) = match inner.split_once(':') {
                None => (inner, Kind::Text),
                Some((name, WHOLE)) => (name, Kind::Decimal),
                Some(_) => return Err(Fault::Form),
            };
            if name.is_empty() || after.contains('}') {
                return Err(Fault::Brace);
            }
            if parts.last().is_some_and(|part| part.after.is_empty()) {
                return Err(Fault::Between);
            }
            if parts.iter().any(|part| *part.name == *name) {
                return Err(Fault::Twice);
            }
            parts.push(Part { name: name.into(), kind, after: after.into() });
        }
        if parts.is_empty() || start.contains('}') {
            return Err(if parts.is_empty() { Fault::Empty } else { Fault::Brace });
        }
        Ok(Self { start: start.into(), parts })
    }

    /// Place and kind of a part by its name.
    pub(super) fn part(&self, name: &str) -> Option<(usize, Kind)> {
        let place = self.parts.iter().position(|part| *part.name == *name)?;
        Some((place, self.parts[place].kind))
    }

    /// The names of the parts.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().map(|part| &*part.name)
    }

    /// One part of a text; `None` when the text is not like the pattern.
    pub(super) fn take(&self, text: &str, place: usize) -> Option<Value> {
        let mut rest = text.strip_prefix(&*self.start)?;
        let mut taken = None;
        for (at, part) in self.parts.iter().enumerate() {
            let (found, after) = if part.after.is_empty() { (rest, "") } else { rest.split_once(&*part.after)? };
            let separates = |other: &Part| !other.after.is_empty() && found.contains(&*other.after);
            if found.is_empty() || self.parts.iter().any(separates) {
                return None;
            }
            if part.kind == Kind::Decimal && !whole(found) {
                return None;
            }
            if at == place {
                taken = Some(match part.kind {
                    Kind::Decimal => Value::Decimal(Decimal::parse(found).ok()?.normalised()),
                    _ => Value::text(found),
                });
            }
            rest = after;
        }
        taken.filter(|_| rest.is_empty())
    }
}

/// Whether a text is a whole number in its shortest writing, so that two texts never mean one number.
fn whole(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let shortest = !digits.starts_with('0') || text == "0";
    shortest && !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(pattern: &str, name: &str, text: &str) -> Option<String> {
        let pattern = Pattern::parse(pattern).expect("a pattern");
        let (place, _) = pattern.part(name).expect("a part");
        pattern.take(text, place).map(|value| match value {
            Value::Decimal(number) => number.to_string(),
            value => value.as_text().unwrap_or_default().to_owned(),
        })
    }

    #[test]
    fn a_text_is_like_a_pattern_in_one_way_or_not_at_all() {
        let (two, three) = ("{a}:{n:whole}", "{job}#{x:whole}#{y:whole}");
        for (pattern, name, text, found) in [
            (two, "a", "19548:32858", Some("19548")),
            (two, "n", "19548:32858", Some("32858")),
            (two, "n", "ü:-1", Some("-1")),
            (two, "n", "a:0", Some("0")),
            (two, "n", "a:123456789012345678901234567890", Some("123456789012345678901234567890")),
            (two, "a", "a:01", None),
            (two, "a", "a:-0", None),
            (two, "a", "a:1.5", None),
            (two, "a", "a:", None),
            (two, "a", ":1", None),
            (two, "a", "a:1:2", None),
            (two, "a", "a", None),
            (three, "job", "5b9d#0#-1", Some("5b9d")),
            (three, "job", "layer0_1", None),
            (three, "job", "a#b#0#1", None),
            ("x-{a}.", "a", "x-1.", Some("1")),
            ("x-{a}.", "a", "x-1.2", None),
            ("x-{a}.", "a", "y-1.", None),
        ] {
            assert_eq!(taken(pattern, name, text).as_deref(), found, "{text} like {pattern}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_told() {
        for (text, fault) in [
            ("", Fault::Empty),
            ("plain", Fault::Empty),
            ("{a", Fault::Brace),
            ("{}", Fault::Brace),
            ("a}{b}", Fault::Brace),
            ("{a}}", Fault::Brace),
            ("{a:number}", Fault::Form),
            ("{a}{b}", Fault::Between),
            ("{a}:{a}", Fault::Twice),
        ] {
            assert_eq!(Pattern::parse(text), Err(fault), "{text}");
        }
    }
}

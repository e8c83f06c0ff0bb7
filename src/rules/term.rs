//! Terms and conditions over one row of either side. They share no code with the mapping's: an invariant that went through
//! what it is to check would prove nothing.

use std::borrow::Cow;
use std::cell::OnceCell;

use regex::Regex;

use super::form::{attribute, tree};
use crate::event::{Decimal, Json, Value};

/// A value of a row.
#[derive(Debug, Clone)]
pub(super) enum Term {
    /// A column, and members below it; of a list by number, from 0.
    Place(usize, Vec<Box<str>>),
    /// A literal.
    Literal(Value),
    /// The first that is not null.
    First(Vec<Term>),
    /// Characters of a text.
    Length(Box<Term>),
    /// Members of a list or array.
    Entries(Box<Term>),
    /// Whole seconds since 1970, floored.
    Epoch(Box<Term>),
    /// Microseconds since 1970.
    Microseconds(Box<Term>),
    /// A text read as a number.
    Number(Box<Term>),
    /// What the first group of the pattern matches in a text.
    Capture(Box<Term>, Regex),
}

/// Whether a row is meant.
#[derive(Debug, Clone)]
pub(super) enum Condition {
    /// A text is one of these.
    Is(Term, Vec<Box<str>>),
    /// A text begins so.
    StartsWith(Term, Box<str>),
    /// A text matches, anywhere in it unless the pattern has anchors.
    Matches(Term, Regex),
    /// Two terms say the same; null says nothing.
    Same(Term, Term),
    /// Null, or not there.
    Absent(Term),
    /// Null, not there, or with nothing in it.
    Empty(Term),
    /// The other.
    Not(Box<Condition>),
    /// All of them.
    Every(Vec<Condition>),
    /// At least one of them.
    Some(Vec<Condition>),
}

/// One row, whose documents are read at most once.
pub(super) struct Looked<'a> {
    values: &'a [Value],
    trees: Vec<OnceCell<Value>>,
}

const NULL: Value = Value::Null;

impl<'a> Looked<'a> {
    /// Looks at a row.
    pub(super) fn new(values: &'a [Value]) -> Self {
        Self { values, trees: vec![OnceCell::new(); values.len()] }
    }

    fn place(&self, column: usize, members: &[Box<str>]) -> Option<&Value> {
        let cell = self.values.get(column)?;
        let root = match cell {
            // What does not read is no document, and has no members; the comparison still sees its text.
            Value::Json(text) => self.trees[column].get_or_init(|| Json::parse(text).map_or(NULL, tree)),
            plain => plain,
        };
        members.iter().try_fold(root, |value, name| match value {
            Value::Map(members) => members.get(name),
            Value::List(items) => items.get(name.parse::<usize>().ok()?),
            _ => None,
        })
    }
}

impl Term {
    /// The term's value in a row; null where there is none.
    pub(super) fn eval<'r>(&'r self, row: &'r Looked<'_>) -> Cow<'r, Value> {
        let own = |value: Option<Value>| Cow::Owned(value.unwrap_or(Value::Null));
        match self {
            Self::Place(column, members) => row.place(*column, members).map_or(Cow::Owned(NULL), Cow::Borrowed),
            Self::Literal(value) => Cow::Borrowed(value),
            Self::First(terms) => {
                terms.iter().map(|term| term.eval(row)).find(|value| **value != NULL).unwrap_or(Cow::Owned(NULL))
            }
            Self::Length(term) => own(term.eval(row).as_text().map(|text| count(text.chars().count()))),
            Self::Entries(term) => own(match &*term.eval(row) {
                Value::List(items) => Some(count(items.len())),
                _ => None,
            }),
            Self::Epoch(term) => own(microseconds(&term.eval(row)).map(|us| whole(us.div_euclid(1_000_000)))),
            Self::Microseconds(term) => own(microseconds(&term.eval(row)).map(whole)),
            Self::Number(term) => own(match &*term.eval(row) {
                Value::Text(text) => Decimal::parse(text).ok().map(Value::Decimal),
                number @ (Value::Int(_) | Value::Decimal(_)) => Some(number.clone()),
                _ => None,
            }),
            Self::Capture(term, pattern) => own(term.eval(row).as_text().and_then(|text| {
                let found = pattern.captures(text)?;
                Some(Value::text(found.get(1)?.as_str()))
            })),
        }
    }

    /// The value as it is compared with that of another store: numbers by value, UUIDs as text.
    pub(super) fn alike(&self, row: &Looked<'_>) -> Value {
        match &*self.eval(row) {
            Value::Uuid(uuid) => Value::text(uuid.to_string()),
            other => attribute(other),
        }
    }

    /// The value as a whole number; `None` where it is none.
    pub(super) fn amount(&self, row: &Looked<'_>) -> Option<i128> {
        match &*self.eval(row) {
            Value::Int(number) => Some(i128::from(*number)),
            Value::Decimal(number) => integer(number),
            _ => None,
        }
    }
}

impl Condition {
    /// Whether it holds for a row.
    pub(super) fn holds(&self, row: &Looked<'_>) -> bool {
        match self {
            Self::Is(term, texts) => {
                term.eval(row).as_text().is_some_and(|text| texts.iter().any(|one| **one == *text))
            }
            Self::StartsWith(term, start) => term.eval(row).as_text().is_some_and(|text| text.starts_with(&**start)),
            Self::Matches(term, pattern) => term.eval(row).as_text().is_some_and(|text| pattern.is_match(text)),
            Self::Same(one, other) => {
                let one = one.alike(row);
                one != NULL && one == other.alike(row)
            }
            Self::Absent(term) => *term.eval(row) == NULL,
            Self::Empty(term) => match &*term.eval(row) {
                Value::Null => true,
                Value::Text(text) => text.is_empty(),
                Value::List(items) => items.is_empty(),
                Value::Map(members) => members.is_empty(),
                _ => false,
            },
            Self::Not(condition) => !condition.holds(row),
            Self::Every(conditions) => conditions.iter().all(|condition| condition.holds(row)),
            Self::Some(conditions) => conditions.iter().any(|condition| condition.holds(row)),
        }
    }
}

fn count(number: usize) -> Value {
    Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
}

fn whole(number: i128) -> Value {
    Value::Decimal(Decimal::parse(&number.to_string()).expect("digits are a number"))
}

fn microseconds(value: &Value) -> Option<i128> {
    match value {
        Value::Timestamp(time) => time.unix_us(),
        _ => None,
    }
}

/// A decimal as a whole number of at most 38 digits.
fn integer(number: &Decimal) -> Option<i128> {
    let value = number.scientific()?;
    let zeros = usize::try_from(value.exponent).ok().filter(|zeros| *zeros <= 38)?;
    let sign = if value.negative { "-" } else { "" };
    format!("{sign}{}{}", value.digits, "0".repeat(zeros)).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Timestamp;

    fn at(column: usize, members: &[&str]) -> Term {
        Term::Place(column, members.iter().map(|name| Box::from(*name)).collect())
    }

    fn boxed(term: Term) -> Box<Term> {
        Box::new(term)
    }

    #[test]
    fn terms_read_columns_and_documents() {
        let values = [
            Value::Json(r#"{"a":{"b":"né","n":9007199254740993,"l":[1,2]},"z":null}"#.into()),
            Value::Timestamp(Timestamp::from_unix_us(-1).expect("a time")),
            Value::text("PROG#12.5#0042"),
            Value::Uuid(uuid::Uuid::from_u128(7)),
        ];
        let row = Looked::new(&values);
        let amount = |term: &Term| term.amount(&row);
        assert_eq!(amount(&Term::Length(boxed(at(0, &["a", "b"])))), Some(2));
        assert_eq!(amount(&at(0, &["a", "n"])), Some(9_007_199_254_740_993));
        assert_eq!(amount(&Term::Entries(boxed(at(0, &["a", "l"])))), Some(2));
        assert_eq!(amount(&Term::Epoch(boxed(at(1, &[])))), Some(-1));
        assert_eq!(amount(&Term::Microseconds(boxed(at(1, &[])))), Some(-1));
        assert_eq!(amount(&Term::Length(boxed(at(0, &["z"])))), None);
        let id = Term::Capture(boxed(at(2, &[])), Regex::new("#([0-9]+)$").expect("a pattern"));
        assert_eq!(id.alike(&row), Value::text("0042"));
        assert_eq!(Term::Number(boxed(id)).alike(&row), Value::Decimal(42.into()));
        assert_eq!(at(3, &[]).alike(&row), Value::text("00000000-0000-0000-0000-000000000007"));
        assert_eq!(Term::First(vec![at(0, &["z"]), at(2, &[])]).alike(&row), Value::text("PROG#12.5#0042"));
        assert!(Condition::Absent(at(0, &["z"])).holds(&row) && Condition::Absent(at(0, &["q"])).holds(&row));
        assert!(!Condition::Same(at(0, &["z"]), at(0, &["q"])).holds(&row), "nothing says nothing");
    }
}

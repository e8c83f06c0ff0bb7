//! Terms as they are written.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

use super::raw::{Name, Named, Placed};

/// A term: where a value comes from.
#[derive(Debug, Clone)]
pub(super) enum Term {
    /// `.column.member`, `@output` or plain text.
    Text(String),
    /// A number.
    Integer(i64),
    /// A truth value.
    Bool(bool),
    /// One of the longer forms.
    Form(Box<Form>),
}

/// The longer forms of a term; exactly one of the leading members is there.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Form {
    /// A literal, also one that looks like a path.
    #[serde(rename = "const")]
    pub literal: Option<Placed>,
    /// The first that is not null.
    pub first: Option<Vec<Placed>>,
    /// A named table of cases, applied to `of`.
    pub case: Option<Name>,
    /// What `case` is applied to.
    pub of: Option<Placed>,
    /// What null becomes under `case`; it stays null when absent.
    pub null: Option<String>,
    /// A JSON object without its null members.
    pub object: Option<Named<Placed>>,
    /// Members of `object` that stay when null.
    #[serde(default)]
    pub keep_null: Vec<Name>,
    /// A version 5 UUID of the parts as text.
    pub uuid5: Option<Vec<Placed>>,
    /// A JSON string's text, other JSON as text.
    pub text: Option<Placed>,
    /// A JSON object, also one within a JSON string; anything else is null.
    pub decoded: Option<Placed>,
    /// Text with `{.column}` and `{@name}` in it.
    pub template: Option<Name>,
    /// The part of `of` that stands under this name in the pattern `like`; null where the text is not like it.
    pub take: Option<Name>,
    /// Pattern of `take`: `{name}` for a text, `{name:whole}` for a whole number, with text between them.
    pub like: Option<Name>,
    /// What all rows say that a reference finds, nulls aside; null where they differ.
    pub agreed: Option<Placed>,
    /// Whether rows that a reference finds say different values, nulls aside.
    pub differs: Option<Placed>,
    /// A condition; `then` where it holds, `else` where not.
    #[serde(rename = "if")]
    pub condition: Option<Placed>,
    /// Value of `if`.
    pub then: Option<Placed>,
    /// Other value of `if`.
    #[serde(rename = "else")]
    pub otherwise: Option<Placed>,
    /// Whether a text is one of `one_of`.
    pub is: Option<Placed>,
    /// Texts of `is`.
    pub one_of: Option<Vec<String>>,
    /// Whether `of` begins with this text.
    pub starts_with: Option<String>,
    /// Whether two terms are the same.
    pub equal: Option<Vec<Placed>>,
    /// Whether a term is null.
    pub absent: Option<Placed>,
    /// The other truth value.
    pub not: Option<Placed>,
    /// A term that is refused where it is null.
    pub given: Option<Placed>,
    /// A text read as time; what does not read is refused.
    pub time: Option<Placed>,
    /// Zone of times that name none: `UTC` or an offset.
    pub zone: Option<Name>,
    /// Reason of quarantine for what `case`, `given`, `time`, `epoch`, `sum`, `total`, `string`, `number`
    /// or `binary` cannot take.
    pub refuse: Option<Name>,
    /// Whole seconds since 1970 of a time, rounded down.
    pub epoch: Option<Placed>,
    /// Microseconds of a time within its second.
    pub microseconds: Option<Placed>,
    /// SHA-256 of a text as digits.
    pub sha256: Option<Placed>,
    /// Whether a text is a UUID with hyphens.
    pub is_uuid: Option<Placed>,
    /// The first 63 bits of a UUID as a number.
    pub first_63_bits: Option<Placed>,
    /// The last part of a text that is not empty.
    pub last_part: Option<Placed>,
    /// Separator of `last_part`.
    pub by: Option<String>,
    /// A whole number with zeros before it.
    pub padded: Option<Placed>,
    /// Characters of `padded`.
    pub width: Option<usize>,
    /// Value of a group's first row.
    pub of_first: Option<Placed>,
    /// Value of a group's last row.
    pub of_last: Option<Placed>,
    /// Smallest value of a group's rows.
    pub min: Option<Placed>,
    /// Greatest value of a group's rows.
    pub max: Option<Placed>,
    /// Sum over a group's rows; null counts as zero.
    pub sum: Option<Placed>,
    /// Whether a condition holds for some row of a group.
    pub any: Option<Placed>,
    /// Whether a condition holds for every row of a group.
    pub all: Option<Placed>,
    /// Values of a group's rows as a JSON array, without nulls.
    pub list: Option<Placed>,
    /// Which rows of the group count.
    #[serde(rename = "where")]
    pub filter: Option<Placed>,
    /// Whether `list` holds each value once.
    #[serde(default)]
    pub distinct: bool,
    /// Whether `list` leaves the first row out; it is null when there is no other.
    #[serde(default)]
    pub after_first: bool,
    /// A JSON array without one value: the array, and the value.
    pub without: Option<Vec<Placed>>,
    /// A sum of the unit, by name.
    pub total: Option<Name>,
    /// A DynamoDB map without its null members.
    pub map: Option<Named<Placed>>,
    /// A DynamoDB list without nulls.
    pub items: Option<Vec<Placed>>,
    /// A DynamoDB set without nulls.
    pub set: Option<Vec<Placed>>,
    /// Any value as DynamoDB holds it: documents become maps and lists.
    pub native: Option<Placed>,
    /// An attribute where it is a string.
    pub string: Option<Placed>,
    /// An attribute where it is a number.
    pub number: Option<Placed>,
    /// An attribute where it is binary.
    pub binary: Option<Placed>,
}

impl Form {
    /// Every leading member, and whether it is there.
    pub(super) fn leading(&self) -> Vec<(&'static str, bool)> {
        let mut leading = vec![
            ("const", self.literal.is_some()),
            ("first", self.first.is_some()),
            ("case", self.case.is_some()),
            ("object", self.object.is_some()),
            ("uuid5", self.uuid5.is_some()),
            ("text", self.text.is_some()),
            ("decoded", self.decoded.is_some()),
            ("template", self.template.is_some()),
            ("take", self.take.is_some()),
            ("agreed", self.agreed.is_some()),
            ("differs", self.differs.is_some()),
            ("if", self.condition.is_some()),
            ("is", self.is.is_some()),
            ("starts_with", self.starts_with.is_some()),
            ("equal", self.equal.is_some()),
            ("absent", self.absent.is_some()),
            ("not", self.not.is_some()),
            ("given", self.given.is_some()),
            ("time", self.time.is_some()),
            ("epoch", self.epoch.is_some()),
            ("microseconds", self.microseconds.is_some()),
            ("sha256", self.sha256.is_some()),
            ("is_uuid", self.is_uuid.is_some()),
            ("first_63_bits", self.first_63_bits.is_some()),
            ("last_part", self.last_part.is_some()),
            ("padded", self.padded.is_some()),
            ("list", self.list.is_some()),
            ("without", self.without.is_some()),
            ("total", self.total.is_some()),
            ("map", self.map.is_some()),
            ("items", self.items.is_some()),
            ("set", self.set.is_some()),
            ("native", self.native.is_some()),
            ("string", self.string.is_some()),
            ("number", self.number.is_some()),
            ("binary", self.binary.is_some()),
        ];
        leading.extend(self.aggregates().map(|(name, term)| (name, term.is_some())));
        leading
    }

    /// Every helping member, and whether it is there.
    pub(super) fn helpers(&self) -> [(&'static str, bool); 14] {
        [
            ("of", self.of.is_some()),
            ("like", self.like.is_some()),
            ("null", self.null.is_some()),
            ("keep_null", !self.keep_null.is_empty()),
            ("refuse", self.refuse.is_some()),
            ("then", self.then.is_some()),
            ("else", self.otherwise.is_some()),
            ("one_of", self.one_of.is_some()),
            ("zone", self.zone.is_some()),
            ("by", self.by.is_some()),
            ("width", self.width.is_some()),
            ("where", self.filter.is_some()),
            ("distinct", self.distinct),
            ("after_first", self.after_first),
        ]
    }

    /// The aggregate that it is, but for `list`.
    pub(super) fn aggregate(&self) -> Option<(&'static str, &Placed)> {
        self.aggregates().into_iter().find_map(|(name, term)| Some((name, term?)))
    }

    fn aggregates(&self) -> [(&'static str, Option<&Placed>); 7] {
        [
            ("of_first", self.of_first.as_ref()),
            ("of_last", self.of_last.as_ref()),
            ("min", self.min.as_ref()),
            ("max", self.max.as_ref()),
            ("sum", self.sum.as_ref()),
            ("any", self.any.as_ref()),
            ("all", self.all.as_ref()),
        ]
    }
}

impl<'de> Deserialize<'de> for Term {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TermVisitor)
    }
}

struct TermVisitor;

impl<'de> Visitor<'de> for TermVisitor {
    type Value = Term;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a term: \".column.member\", \"@output\", a literal, or a table with one form")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Term, E> {
        Ok(Term::Text(text.to_owned()))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Term, E> {
        Ok(Term::Integer(number))
    }

    fn visit_bool<E: Error>(self, truth: bool) -> Result<Term, E> {
        Ok(Term::Bool(truth))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Term, A::Error> {
        Form::deserialize(MapAccessDeserializer::new(map)).map(|form| Term::Form(Box::new(form)))
    }
}

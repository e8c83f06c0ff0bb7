//! `reconcile-rules/<migration>.toml` as it is written. Unknown keys are errors, and every name keeps its place.

use std::fmt;

use crate::mapping::Spanned;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use toml::value::Datetime;

/// A name with its place.
pub(super) type Name = Spanned<String>;
/// A term with its place.
pub(super) type Placed = Spanned<Term>;

/// The file.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Rules {
    /// The migration that the rules are for.
    pub migration: Name,
    /// Which target rows are ours to judge.
    #[serde(default)]
    pub scope: Vec<Scope>,
    /// Which rows the target may have let go.
    #[serde(default)]
    pub retention: Vec<Retention>,
    /// What is made alike before it is compared.
    #[serde(default)]
    pub normalise: Vec<Normalise>,
    /// What is left out.
    #[serde(default)]
    pub ignore: Vec<Ignore>,
    /// How rows are paired by other fields than their key.
    #[serde(default, rename = "match")]
    pub matching: Vec<Match>,
    /// How far values may be apart.
    #[serde(default)]
    pub tolerate: Vec<Tolerate>,
    /// What is excused for a time.
    #[serde(default)]
    pub waive: Vec<Waive>,
    /// Invariants that do not go through the mapping.
    #[serde(default)]
    pub expect: Vec<Expect>,
}

/// Says that only the rows for which `where` holds are ours to judge; of several for one table one is enough.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Scope {
    /// Target table.
    pub table: Name,
    /// Condition over the target row.
    #[serde(rename = "where")]
    pub filter: Spanned<Condition>,
    /// Why.
    pub reason: Name,
    /// Who says so.
    pub author: Option<String>,
    /// Last day on which the rule holds.
    #[schemars(with = "Option<String>")]
    pub until: Option<Spanned<Datetime>>,
}

/// Says that rows whose `time` is past may be gone from the target; exactly one of `before` and `older_than`.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Retention {
    /// Target table.
    pub table: Name,
    /// A time in the target row.
    pub time: Placed,
    /// A point in time with its offset.
    #[schemars(with = "Option<String>")]
    pub before: Option<Spanned<Datetime>>,
    /// How long before today, in days or weeks: `90 days`.
    pub older_than: Option<Name>,
    /// Why.
    pub reason: Name,
    /// Who says so.
    pub author: Option<String>,
    /// Last day on which the rule holds.
    #[schemars(with = "Option<String>")]
    pub until: Option<Spanned<Datetime>>,
}

/// Makes values alike before they are compared; exactly one of `as`, `floor` and `unify`.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Normalise {
    /// Target table.
    pub table: Name,
    /// Columns or attributes, and members below them: `payload.choices.*.text`.
    pub fields: Vec<Name>,
    /// Changes in order: `trim`, `lower`, `nfc`, `json`, `number`, `unsigned_zero`.
    #[serde(rename = "as")]
    pub changes: Option<Vec<Name>>,
    /// Precision to which times are cut: `1 s`, `1 ms`.
    pub floor: Option<Name>,
    /// Forms of nothing that are one, at least two of `absent`, `null`, `empty`.
    pub unify: Option<Spanned<Vec<Name>>>,
    /// `foreign` for a rule about rows that someone else wrote, `matched` about those paired by a `match`; all when absent.
    pub when: Option<Name>,
    /// Why.
    pub reason: Name,
    /// Who says so.
    pub author: Option<String>,
    /// Last day on which the rule holds.
    #[schemars(with = "Option<String>")]
    pub until: Option<Spanned<Datetime>>,
}

/// Leaves fields out.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Ignore {
    /// Target table.
    pub table: Name,
    /// Columns or attributes, and members below them.
    pub fields: Vec<Name>,
    /// `foreign` for a rule about rows that someone else wrote, `matched` about those paired by a `match`; all when absent.
    pub when: Option<Name>,
    /// Rows that it is about; all when absent.
    #[serde(rename = "where")]
    pub filter: Option<Spanned<Condition>>,
    /// Why.
    pub reason: Name,
    /// Who says so.
    pub author: Option<String>,
    /// Last day on which the rule holds.
    #[schemars(with = "Option<String>")]
    pub until: Option<Spanned<Datetime>>,
}

/// Pairs rows by other fields than their key, where a key has no counterpart.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Match {
    /// Target table.
    pub table: Name,
    /// Rows that agree in these are paired with one another.
    pub by: Spanned<Vec<Placed>>,
    /// In this order.
    pub order: Spanned<Vec<Placed>>,
    /// Why.
    pub reason: Name,
    /// Who says so.
    pub author: Option<String>,
    /// Last day on which the rule holds.
    #[schemars(with = "Option<String>")]
    pub until: Option<Spanned<Datetime>>,
}

/// Lets values stand for one another that are near; exactly one of `absolute`, `relative` and `window`.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Tolerate {
    /// Target table.
    pub table: Name,
    /// Columns or attributes, and members below them.
    pub fields: Vec<Name>,
    /// Numbers: at most this far apart, a decimal in quotes.
    pub absolute: Option<Name>,
    /// Numbers: at most this part of the larger, a decimal in quotes.
    pub relative: Option<Name>,
    /// Times: at most this far apart: `5 s`.
    pub window: Option<Name>,
    /// `foreign` for a rule about rows that someone else wrote, `matched` about those paired by a `match`; all when absent.
    pub when: Option<Name>,
    /// Why.
    pub reason: Name,
    /// Who says so.
    pub author: Option<String>,
    /// Last day on which the rule holds.
    #[schemars(with = "Option<String>")]
    pub until: Option<Spanned<Datetime>>,
}

/// Excuses a difference for a time; it stays in the report.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Waive {
    /// Target table.
    pub table: Name,
    /// What is excused: `changed`, `missing` or `extra`.
    pub finding: Name,
    /// Fields that may differ; all when absent.
    #[serde(default)]
    pub fields: Vec<Name>,
    /// Rows that it is about; all when absent.
    #[serde(rename = "where")]
    pub filter: Option<Spanned<Condition>>,
    /// Why.
    pub reason: Name,
    /// Who answers for it.
    pub author: Name,
    /// Last day on which it holds.
    #[schemars(with = "String")]
    pub until: Spanned<Datetime>,
}

/// An invariant: for every group the sum on the left is in a relation to the sum on the right.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Expect {
    /// A sentence that says what must hold.
    pub name: Name,
    /// What is added up on the left.
    pub left: Spanned<Vec<Aggregate>>,
    /// `=`, `<=` or `>=`.
    pub is: Name,
    /// What is added up on the right; nothing is 0.
    pub right: Vec<Aggregate>,
    /// Why it must hold.
    pub reason: Name,
    /// Who says so.
    pub author: Option<String>,
    /// Last day on which the rule holds.
    #[schemars(with = "Option<String>")]
    pub until: Option<Spanned<Datetime>>,
}

/// What the rows of one table add; exactly one of `legacy` and `target`.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Aggregate {
    /// A legacy table, by the mapping's name for it.
    pub legacy: Option<Name>,
    /// A target table.
    pub target: Option<Name>,
    /// Which rows; all when absent.
    #[serde(rename = "where")]
    pub filter: Option<Spanned<Condition>>,
    /// The group; all rows are one when absent.
    #[serde(default)]
    pub by: Vec<Placed>,
    /// What a row adds.
    pub add: Placed,
    /// Rows of a group that agree in these add once.
    #[serde(default)]
    pub once: Vec<Placed>,
}

/// A term: where a value comes from.
#[derive(Debug, Clone, schemars::JsonSchema)]
#[schemars(untagged)]
pub(super) enum Term {
    /// `.column.member`, or plain text.
    Text(String),
    /// A number.
    Integer(i64),
    /// One of the longer forms.
    Form(Box<Form>),
}

/// The longer forms of a term; exactly one of them is there.
#[derive(Debug, Clone, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Form {
    /// The first that is not null.
    pub first: Option<Vec<Placed>>,
    /// Characters of a text.
    pub length: Option<Placed>,
    /// Members of a list or array.
    pub entries: Option<Placed>,
    /// Whole seconds since 1970 of a time, floored.
    pub epoch: Option<Placed>,
    /// Microseconds since 1970 of a time.
    pub microseconds: Option<Placed>,
    /// A text read as a number.
    pub number: Option<Placed>,
    /// A pattern, of which the first group is taken, where it matches in `of`.
    pub capture: Option<Name>,
    /// What `capture` is applied to.
    pub of: Option<Placed>,
}

/// A condition; exactly one of the forms is there.
#[derive(Debug, Clone, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Condition {
    /// A text that is one of `one_of`.
    pub is: Option<Placed>,
    /// Texts of `is`.
    pub one_of: Option<Vec<String>>,
    /// What `of` begins with.
    pub starts_with: Option<String>,
    /// A pattern that `of` matches.
    pub matches: Option<Name>,
    /// What `starts_with` and `matches` are applied to.
    pub of: Option<Placed>,
    /// Two terms that say the same.
    pub same: Option<Vec<Placed>>,
    /// A term that is null or not there.
    pub absent: Option<Placed>,
    /// A term that is null, not there, or has nothing in it.
    pub empty: Option<Placed>,
    /// A condition that does not hold.
    pub not: Option<Box<Spanned<Condition>>>,
    /// Conditions that all hold.
    pub every: Option<Vec<Spanned<Condition>>>,
    /// Conditions of which one holds.
    pub some: Option<Vec<Spanned<Condition>>>,
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
        f.write_str("a text, a whole number, or a table with a longer form")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Term, E> {
        Ok(Term::Text(text.to_owned()))
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Term, E> {
        Ok(Term::Integer(number))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Term, A::Error> {
        Form::deserialize(MapAccessDeserializer::new(map)).map(|form| Term::Form(Box::new(form)))
    }
}

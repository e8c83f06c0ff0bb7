//! Named reads of the target, as its readers ask for them: what each asks for, once its parameters are given.

use std::cmp::Ordering;

use uuid::Uuid;

use super::plan::Migration;
use super::schema::Kind;
use crate::event::{Decimal, Json, Timestamp, Value};
use crate::target::{Direction, Fields, Read, TargetTable};

/// A query that a migration declares.
#[derive(Debug, Clone)]
pub struct Query {
    pub(super) name: Box<str>,
    pub(super) about: Box<str>,
    pub(super) parameters: Vec<Box<str>>,
    pub(super) reads: Vec<ReadPlan>,
    pub(super) describe: Vec<TargetTable>,
    pub(super) distinct: Option<Path>,
    pub(super) order: Vec<(Path, Direction)>,
    pub(super) limit: Option<usize>,
    pub(super) select: Vec<Path>,
    pub(super) forms: Vec<(Box<str>, Path)>,
}

/// A member, or a member within one.
pub(super) type Path = Vec<Box<str>>;

/// Reads of tables that are read alike.
#[derive(Debug, Clone)]
pub(super) struct ReadPlan {
    pub rank: u16,
    /// The reads, with a text to be filled in and its kind for each condition.
    pub reads: Vec<Read>,
    pub texts: Vec<(Vec<Piece>, Kind)>,
}

/// A piece of a text that parameters are filled into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// Text as it stands.
    Text(Box<str>),
    /// A parameter, by index.
    Parameter(usize),
}

/// Why arguments do not fit a query.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// There are too few or too many.
    #[error("the query takes {wanted} argument(s) ({names}), not {given}")]
    Count {
        /// How many it takes.
        wanted: usize,
        /// Their names.
        names: String,
        /// How many were given.
        given: usize,
    },
    /// One does not read as what the target holds there.
    #[error("the argument for `{column}` is no {kind}")]
    Kind {
        /// The column or attribute.
        column: Box<str>,
        /// What it holds.
        kind: &'static str,
    },
}

/// A row that a query found.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundRow {
    /// Its table.
    pub table: TargetTable,
    /// Its members.
    pub fields: Fields,
    /// Rank of the read that found it.
    pub rank: u16,
}

impl Migration {
    /// The queries that the mapping declares.
    pub fn queries(&self) -> &[Query] {
        &self.queries
    }
}

impl Query {
    /// Name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it answers.
    pub fn about(&self) -> &str {
        &self.about
    }

    /// Names of its parameters.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        self.parameters.iter().map(|name| &**name)
    }

    /// Tables whose live keys and indexes it tells; none for a query of rows.
    pub fn described(&self) -> &[TargetTable] {
        &self.describe
    }

    /// What is to be read for these arguments, each with its rank, by which they are ordered.
    ///
    /// # Errors
    /// [`Unfit`] when they are not what the query takes.
    pub fn reads(&self, arguments: &[String]) -> Result<Vec<(u16, Read)>, Unfit> {
        if arguments.len() != self.parameters.len() {
            let names = self.parameters.join(", ");
            return Err(Unfit::Count { wanted: self.parameters.len(), names, given: arguments.len() });
        }
        let mut reads = Vec::new();
        for plan in &self.reads {
            for read in &plan.reads {
                let mut read = read.clone();
                for (condition, (text, kind)) in read.conditions.iter_mut().zip(&plan.texts) {
                    condition.value = value(&filled(text, arguments), *kind)
                        .ok_or_else(|| Unfit::Kind { column: condition.column.clone(), kind: kind.word() })?;
                }
                reads.push((plan.rank, read));
            }
        }
        reads.sort_by_key(|(rank, _)| *rank);
        Ok(reads)
    }

    /// The value by which a row is told once; `None` where every row is told.
    pub fn identity(&self, row: &FoundRow) -> Option<Value> {
        self.distinct.as_ref().map(|path| member(&row.fields, path))
    }

    /// Which of two rows comes first.
    pub fn compare(&self, one: &FoundRow, other: &FoundRow) -> Ordering {
        let members = self.order.iter().map(|(path, direction)| {
            let (one, other) = (member(&one.fields, path), member(&other.fields, path));
            match (&one, &other, direction) {
                (Value::Null, Value::Null, _) => Ordering::Equal,
                (Value::Null, _, _) => Ordering::Greater,
                (_, Value::Null, _) => Ordering::Less,
                (_, _, Direction::Ascending) => ordered(&one, &other),
                (_, _, Direction::Descending) => ordered(&other, &one),
            }
        });
        one.rank.cmp(&other.rank).then_with(|| members.fold(Ordering::Equal, Ordering::then))
    }

    /// Rows told, at most.
    pub fn limit(&self) -> Option<usize> {
        self.limit
    }

    /// What is told of a row, in order.
    pub fn shown(&self, row: &FoundRow) -> Fields {
        let mut shown: Fields = if self.select.is_empty() {
            row.fields.clone()
        } else {
            self.select.iter().map(|path| (path.join(".").into(), member(&row.fields, path))).collect()
        };
        for (name, path) in &self.forms {
            shown.push((name.clone(), iso(&member(&row.fields, path))));
        }
        shown
    }

    /// Members that anything but the whole row asks for; `None` where the whole row is told.
    pub(super) fn asked(&self) -> Option<Vec<Box<str>>> {
        let order = self.order.iter().map(|(path, _)| path);
        let paths =
            self.select.iter().chain(&self.distinct).chain(order).chain(self.forms.iter().map(|(_, path)| path));
        let mut names: Vec<Box<str>> = paths.filter_map(|path| path.first().cloned()).collect();
        names.sort();
        names.dedup();
        (!self.select.is_empty()).then_some(names)
    }
}

fn filled(pieces: &[Piece], arguments: &[String]) -> String {
    let text = |piece: &Piece| match piece {
        Piece::Text(text) => text.to_string(),
        Piece::Parameter(index) => arguments.get(*index).cloned().unwrap_or_default(),
    };
    pieces.iter().map(text).collect()
}

/// Reads an argument as a value of a column.
fn value(text: &str, kind: Kind) -> Option<Value> {
    Some(match kind {
        Kind::Int => Value::Int(text.parse().ok()?),
        Kind::Decimal => Value::Decimal(Decimal::parse(text).ok().filter(Decimal::finite)?.normalised()),
        Kind::Uuid => Value::Uuid(Uuid::try_parse(text).ok()?),
        Kind::Bool => Value::Bool(text.parse().ok()?),
        _ => Value::text(text),
    })
}

/// A member of a row, or one within it; null where there is none.
fn member(fields: &Fields, path: &Path) -> Value {
    let Some((first, rest)) = path.split_first() else { return Value::Null };
    let found = fields.iter().find(|(name, _)| name == first).map(|(_, value)| value);
    match found {
        Some(Value::Json(text)) if !rest.is_empty() => {
            let document = Json::parse(text).ok();
            let within = rest.iter().try_fold(document.as_ref(), |json, name| json.map(|json| json.member(name)));
            within.flatten().map_or(Value::Null, |json| Value::Json(json.to_text().into()))
        }
        Some(value) => rest.iter().try_fold(value, |value, name| within(value, name)).cloned().unwrap_or(Value::Null),
        None => Value::Null,
    }
}

fn within<'v>(value: &'v Value, name: &str) -> Option<&'v Value> {
    if let Value::Map(map) = value { map.get(name) } else { None }
}

/// Numbers by value, everything else as its kind is ordered, and values of different kinds by their kinds.
fn ordered(one: &Value, other: &Value) -> Ordering {
    match (one, other) {
        (Value::Decimal(one), Value::Decimal(other)) => one.value_cmp(other),
        (Value::Int(one), Value::Int(other)) => one.cmp(other),
        (Value::Text(one), Value::Text(other)) => one.cmp(other),
        (Value::Timestamp(one), Value::Timestamp(other)) => one.cmp(other),
        (Value::Uuid(one), Value::Uuid(other)) => one.cmp(other),
        (Value::Bool(one), Value::Bool(other)) => one.cmp(other),
        _ => kind(one).cmp(&kind(other)),
    }
}

fn kind(value: &Value) -> u8 {
    match value {
        Value::Bool(_) => 0,
        Value::Int(_) | Value::Decimal(_) | Value::Float(_) => 1,
        Value::Timestamp(_) => 2,
        Value::Text(_) => 3,
        Value::Uuid(_) => 4,
        _ => 5,
    }
}

/// Seconds since 1970 as ISO 8601 in UTC; null for anything that is no such number.
fn iso(value: &Value) -> Value {
    let seconds = match value {
        Value::Int(seconds) => Some(*seconds),
        Value::Decimal(seconds) => seconds.to_i64(),
        _ => None,
    };
    let time = seconds.and_then(|seconds| Timestamp::from_unix_us(i128::from(seconds) * 1_000_000));
    time.map_or(Value::Null, |time| Value::text(time.to_string().replace(".000000", "")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(rank: u16, fields: &[(&str, Value)]) -> FoundRow {
        let fields = fields.iter().map(|(name, value)| (Box::from(*name), value.clone())).collect();
        FoundRow { table: TargetTable(0), fields, rank }
    }

    fn query() -> Query {
        Query {
            name: "q".into(),
            about: "".into(),
            parameters: vec!["a".into()],
            reads: Vec::new(),
            describe: Vec::new(),
            distinct: None,
            order: vec![
                (vec!["t".into()], Direction::Descending),
                (vec!["m".into(), "x".into()], Direction::Ascending),
            ],
            limit: None,
            select: vec![vec!["m".into(), "x".into()]],
            forms: vec![("at".into(), vec!["t".into()])],
        }
    }

    #[test]
    fn rows_come_by_rank_then_by_members_with_null_last() {
        let number = |number: i64| Value::Decimal(number.into());
        let x = |x: i64| ("m", Value::Map([("x".into(), number(x))].into()));
        let rows = [
            row(0, &[]),
            row(0, &[("t", number(9)), x(2)]),
            row(0, &[("t", number(10)), x(10)]),
            row(0, &[("t", number(10)), x(9)]),
            row(1, &[("t", number(11))]),
        ];
        let mut sorted = rows.to_vec();
        sorted.sort_by(|one, other| query().compare(one, other));
        let place = |row: &FoundRow| rows.iter().position(|known| known == row).unwrap_or(usize::MAX);
        assert_eq!(sorted.iter().map(place).collect::<Vec<_>>(), [3, 2, 1, 0, 4]);
    }

    #[test]
    fn members_and_their_forms_are_told() {
        let fields = [("t", Value::Decimal(1_728_446_626.into())), ("m", Value::Json("{\"x\":1.10}".into()))];
        let shown = query().shown(&row(0, &fields));
        let told =
            [("m.x".into(), Value::Json("1.10".into())), ("at".into(), Value::text("2024-10-09T04:03:46+00:00"))];
        assert_eq!(shown, told);
        assert_eq!(query().shown(&row(0, &[]))[1].1, Value::Null);
    }

    #[test]
    fn arguments_must_fit() {
        let fault = query().reads(&[]).expect_err("too few");
        assert_eq!(fault.to_string(), "the query takes 1 argument(s) (a), not 0");
        assert_eq!(value("x", Kind::Decimal), None);
        assert_eq!(value("1.50", Kind::Decimal), Decimal::parse("1.5").ok().map(Value::Decimal));
        assert_eq!(filled(&[Piece::Text("legacy-".into()), Piece::Parameter(0)], &["7".into()]), "legacy-7");
    }
}

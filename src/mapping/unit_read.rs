//! How the rows of one unit are found in the live store, as far as its routes can be read backwards.

use super::datum::text_of;
use super::plan::Migration;
use super::plan_place::Select;
use super::schema::{Kind, Role, SourceTable, SourceTableDef, UnitLookup};
use super::term::{Piece, Term, Which};

/// How the rows of one unit are read from the live store: all of its rows, and maybe more, which
/// [`Migration::place`] tells apart.
#[derive(Debug, Clone)]
pub struct UnitRead<'a> {
    /// The table.
    pub table: SourceTable,
    /// What it looks like.
    pub def: &'a SourceTableDef,
    /// What holds for every row of the unit; nothing known means that the whole table has to be read.
    pub conditions: Vec<Condition<'a>>,
    /// Columns to order by: the key.
    pub order: Vec<&'a str>,
    /// How the rows are found.
    pub lookup: &'a UnitLookup,
}

/// What holds for a row of a unit, so that a live store can find it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition<'a> {
    /// The column is one of these.
    Is {
        /// Column of the table that is read, or attribute of its items.
        column: &'a str,
        /// Its possible values as text; `None` stands for NULL. No values: the unit has no row in the table.
        values: Vec<Option<Box<str>>>,
    },
    /// The column equals a column of one of the parent's rows of the unit, so those are read before.
    OfParent {
        /// Column of the table that is read.
        column: &'a str,
        /// The parent.
        parent: SourceTable,
        /// Column of the parent.
        parent_column: &'a str,
    },
}

/// What a template says of a text that it may have made.
enum Matched<'a> {
    /// It made it of these.
    Pieces(Vec<(&'a Term, &'a str)>),
    /// It may have made it in several ways.
    Unsure,
    /// It did not make it.
    Never,
}

impl Migration {
    /// How one unit is read from the live store, table by table, parents before what is found through them.
    pub fn unit_reads<'a>(&'a self, unit: &'a str) -> Vec<UnitRead<'a>> {
        let tables = self.sources.iter().enumerate().filter(|(_, def)| def.role == Role::Unit);
        let mut reads: Vec<UnitRead<'a>> = tables
            .map(|(index, def)| UnitRead {
                table: SourceTable(u16::try_from(index).unwrap_or(u16::MAX)),
                def,
                conditions: self.conditions(index, def, unit),
                order: def.key.iter().map(|column| &*def.columns[*column].name).collect(),
                lookup: &def.unit_lookup,
            })
            .collect();
        // What a reference sees of a row stands on that row alone, so a parent never has a parent of its own.
        reads.sort_by_key(|read| read.conditions.iter().any(|found| matches!(found, Condition::OfParent { .. })));
        reads
    }

    fn conditions<'a>(&'a self, index: usize, def: &'a SourceTableDef, unit: &'a str) -> Vec<Condition<'a>> {
        let Some(route) = &self.tables[index].route else { return Vec::new() };
        match &route.unit {
            Term::Template(pieces) => match matched(pieces, unit, def) {
                Matched::Pieces(pieces) => {
                    pieces.into_iter().filter_map(|(term, text)| condition(term, text, def)).collect()
                }
                Matched::Unsure => Vec::new(),
                Matched::Never => {
                    let column = def.key.first().map(|key| &*def.columns[*key].name);
                    column.map(|column| Condition::Is { column, values: Vec::new() }).into_iter().collect()
                }
            },
            Term::Found { reference, key, select, which: Which::First } => {
                let Some(reference) = self.references.get(usize::from(reference.0)) else { return Vec::new() };
                let parent = usize::from(reference.table.0);
                let parents_unit = self.tables[parent].route.as_ref().map(|route| &route.unit);
                // Only where what is seen of the parent is its own unit are its rows among the unit's.
                if !matches!(&reference.select[*select], Select::Term(term) if Some(term) == parents_unit) {
                    return Vec::new();
                }
                let pairs = key.iter().zip(&reference.key);
                let of_parent = |(here, there): (&Term, &Term)| match (here, there) {
                    (Term::Column(here), Term::Column(there)) => Some(Condition::OfParent {
                        column: &def.columns[*here].name,
                        parent: reference.table,
                        parent_column: &self.sources[parent].columns[*there].name,
                    }),
                    _ => None,
                };
                pairs.filter_map(of_parent).collect()
            }
            term => condition(term, unit, def).into_iter().collect(),
        }
    }
}

/// What a column must be for a term to have given this text.
fn condition<'a>(term: &'a Term, text: &str, def: &'a SourceTableDef) -> Option<Condition<'a>> {
    let (column, default) = match term {
        // An attribute of an item goes by its own name.
        Term::Typed { of, kind: Kind::Text | Kind::Decimal, .. } => match &**of {
            Term::Attribute(_, path) => {
                let [column] = path.as_slice() else { return None };
                return Some(Condition::Is { column, values: vec![Some(text.into())] });
            }
            _ => return None,
        },
        Term::Column(column) => (*column, None),
        Term::First(terms) => match terms.as_slice() {
            [Term::Column(column), Term::Const(default)] => (*column, Some(default)),
            _ => return None,
        },
        _ => return None,
    };
    let mut values = match def.columns[column].kind {
        Kind::Text | Kind::Decimal => vec![Some(Box::from(text))],
        // No value of the column has another text than one of these.
        Kind::Int if text.parse::<i64>().is_ok() => vec![Some(Box::from(text))],
        Kind::Uuid if uuid::Uuid::try_parse(text).is_ok() => vec![Some(Box::from(text))],
        Kind::Bool if matches!(text, "true" | "false") => vec![Some(Box::from(text))],
        Kind::Int | Kind::Uuid | Kind::Bool => Vec::new(),
        // A term writes them otherwise than the store does.
        Kind::Float | Kind::Timestamp | Kind::Bytes | Kind::Json | Kind::Native => return None,
    };
    if default.is_some_and(|default| text_of(default).as_deref() == Some(text)) {
        values.push(None);
    }
    Some(Condition::Is { column: &def.columns[column].name, values })
}

/// Reads a template backwards.
fn matched<'a>(pieces: &'a [Piece], text: &'a str, def: &SourceTableDef) -> Matched<'a> {
    let mut found = Vec::new();
    let mut rest = text;
    let mut pieces = pieces.iter().peekable();
    while let Some(piece) = pieces.next() {
        let term = match piece {
            Piece::Text(literal) => match rest.strip_prefix(&**literal) {
                Some(after) => {
                    rest = after;
                    continue;
                }
                None => return Matched::Never,
            },
            Piece::Term(term) => term,
        };
        let taken = match pieces.peek() {
            None => rest,
            Some(Piece::Text(literal)) => match ends(rest, literal, term, def) {
                Ends::Nowhere => return Matched::Never,
                Ends::At(end) => &rest[..end],
                Ends::Somewhere => return Matched::Unsure,
            },
            Some(Piece::Term(_)) => return Matched::Unsure,
        };
        if number(term, def) && taken.parse::<i64>().is_err() {
            return Matched::Never;
        }
        found.push((term, taken));
        rest = &rest[taken.len()..];
    }
    if rest.is_empty() { Matched::Pieces(found) } else { Matched::Never }
}

/// Where the text of a term ends.
enum Ends {
    /// Here, and nowhere else.
    At(usize),
    /// At one of several places.
    Somewhere,
    /// Nowhere: it is no text of the term.
    Nowhere,
}

/// Where the text of a term ends that stands before a literal.
fn ends(rest: &str, literal: &str, term: &Term, def: &SourceTableDef) -> Ends {
    // No literal begins within a number but one that begins with a digit, or with a sign where the number's own stands.
    if number(term, def) && !literal.starts_with(|first: char| first.is_ascii_digit()) {
        let sign = usize::from(rest.starts_with('-'));
        return rest[sign..].find(literal).map_or(Ends::Nowhere, |end| Ends::At(sign + end));
    }
    // Found from both ends at one place, it stands nowhere else, nor over itself.
    match (rest.find(literal), rest.rfind(literal)) {
        (Some(first), Some(last)) if first == last => Ends::At(first),
        (None, _) => Ends::Nowhere,
        _ => Ends::Somewhere,
    }
}

/// Whether a term gives the digits of a number.
fn number(term: &Term, def: &SourceTableDef) -> bool {
    match term {
        Term::Column(column) => def.columns[*column].kind == Kind::Int,
        Term::First(terms) => terms.iter().all(|term| number(term, def)),
        Term::Const(value) => matches!(value, crate::event::Value::Int(_)),
        _ => false,
    }
}

//! Terms: where a value comes from, compiled once and typed.
//!
//! A term reads columns of one row (and members of the documents in them) and *outputs*: what a shape has worked out,
//! such as the messages of an assembled response. Numbers in documents stay exact decimals throughout.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::tz::Offset;
use uuid::Uuid;

use super::datum::{Datum, RowView};
use super::pattern::Pattern;
use super::place::{Look, NoLook, ReferenceId};
use super::schema::Kind;
use crate::event::Value;

/// Something that a shape works out and a term may use, written `@name`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Output {
    /// The unit's id.
    Unit,
    /// Time of the unit's earliest row.
    Earliest,
    /// Model of the first request that names one.
    RequestModel,
    /// Model of the first raw chunk that names one.
    ChunkModel,
    /// Status that the unit's completions give it.
    CompletionStatus,
    /// Id of the last response event, the original one where there are two.
    ResponseOriginal,
    /// Id of the last response's changed event, where there are two.
    ResponseModified,
    /// What the mapping calls this kind of event.
    Type,
    /// Number of the event in its unit.
    Sequence,
    /// What the event holds.
    Payload,
    /// Time of the earliest row behind it.
    Time,
    /// Messages of a request.
    Messages,
    /// Model of a request or response.
    Model,
    /// The raw request.
    Raw,
    /// Message of a response.
    Message,
    /// Why a response ended.
    FinishReason,
    /// Tokens used.
    Usage,
    /// All choices of a response that has more than one.
    Choices,
    /// Status of a turn.
    Status,
    /// Id of the first of a pair.
    Original,
    /// Id of the second of a pair.
    Modified,
}

impl Output {
    /// Every output with its written name, longer names before their prefixes.
    pub(super) const NAMES: [(&'static str, Output); 21] = [
        ("unit", Output::Unit),
        ("earliest", Output::Earliest),
        ("request.model", Output::RequestModel),
        ("chunk.model", Output::ChunkModel),
        ("completion.status", Output::CompletionStatus),
        ("response.original", Output::ResponseOriginal),
        ("response.modified", Output::ResponseModified),
        ("type", Output::Type),
        ("sequence", Output::Sequence),
        ("payload", Output::Payload),
        ("time", Output::Time),
        ("messages", Output::Messages),
        ("model", Output::Model),
        ("raw", Output::Raw),
        ("message", Output::Message),
        ("finish_reason", Output::FinishReason),
        ("usage", Output::Usage),
        ("choices", Output::Choices),
        ("status", Output::Status),
        ("original", Output::Original),
        ("modified", Output::Modified),
    ];

    /// The written name.
    pub(super) fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, output)| *output == self).map_or("", |(name, _)| name)
    }
}

/// What becomes of a null member of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nulls {
    /// It is left out.
    Drop,
    /// It stays.
    Keep,
}

/// A member of an object that a term builds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    /// Key.
    pub name: Box<str>,
    /// Value.
    pub term: Term,
    /// Null values.
    pub nulls: Nulls,
}

/// A compiled term.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Term {
    /// A literal.
    Const(Value),
    /// A column.
    Column(usize),
    /// A member within a document in a column.
    Path(usize, Vec<Box<str>>),
    /// An output, or a member within one.
    Output(Output, Vec<Box<str>>),
    /// The first that is not null.
    First(Vec<Term>),
    /// A table of cases.
    Case {
        /// What is looked up.
        of: Box<Term>,
        /// The table.
        cases: Arc<BTreeMap<Box<str>, Box<str>>>,
        /// What null becomes.
        null: Option<Box<str>>,
        /// Why a text that the table does not list is refused; it stays when absent.
        refuse: Option<Box<str>>,
    },
    /// A JSON object.
    Object(Vec<Member>),
    /// A version 5 UUID.
    Uuid5(Vec<Term>),
    /// A JSON string's text, other JSON as text.
    Text(Box<Term>),
    /// A JSON object, also one within a JSON string.
    Decoded(Box<Term>),
    /// Text with the text of terms in it; null when one of them is.
    Template(Vec<Piece>),
    /// One term or another.
    If(Box<[Term; 3]>),
    /// Whether a text is one of these; null is none.
    OneOf(Box<Term>, Vec<Box<str>>),
    /// Whether a text begins so; null does not.
    StartsWith(Box<Term>, Box<str>),
    /// Whether two terms of one kind are one value, however it is written; null equals nothing.
    Equal(Box<[Term; 2]>),
    /// Whether a term is null.
    Absent(Box<Term>),
    /// The other truth value.
    Not(Box<Term>),
    /// A text read as time.
    Time {
        /// The text.
        of: Box<Term>,
        /// Zone of texts that name none.
        zone: Offset,
        /// Why any other text is refused.
        refuse: Box<str>,
    },
    /// A term that must not be null.
    Given {
        /// The term.
        of: Box<Term>,
        /// Why null is refused.
        refuse: Box<str>,
    },
    /// Whole seconds since 1970.
    Epoch {
        /// The time.
        of: Box<Term>,
        /// Why an infinity is refused.
        refuse: Box<str>,
    },
    /// A function of one value; null gives null.
    Call(Function, Box<Term>),
    /// A part of a text that is like a pattern; null when it is not.
    Take {
        /// The text.
        of: Box<Term>,
        /// The pattern.
        pattern: Pattern,
        /// Place of the part in it.
        part: usize,
    },
    /// What a reference finds under a key: a selected value; null when there is none.
    Found {
        /// The reference.
        reference: ReferenceId,
        /// The key.
        key: Vec<Term>,
        /// Index of the selected value.
        select: usize,
        /// What is asked of the rows found.
        which: Which,
    },
    /// A JSON array without the items that equal a value.
    Without(Box<[Term; 2]>),
    /// A DynamoDB map without the members that are null, over one that is carried.
    Map {
        /// Attributes carried from; `drop` of them are left out.
        carry: Option<usize>,
        /// Attributes of it that are left out.
        drop: Vec<Box<str>>,
        /// Members.
        members: Vec<(Box<str>, Term)>,
        /// Members where nothing of the name is carried.
        added: Vec<Added>,
    },
    /// A DynamoDB list without nulls.
    Items(Vec<Term>),
    /// A DynamoDB set without nulls; null when it would be empty.
    Set(Vec<Term>),
    /// Any value as DynamoDB holds it.
    Native(Box<Term>),
    /// An attribute of the item in a column, or a member within one.
    Attribute(usize, Vec<Box<str>>),
    /// An attribute's value where it has a type; null when there is none.
    Typed {
        /// The attribute.
        of: Box<Term>,
        /// The type: text, decimal or bytes.
        kind: Kind,
        /// Why a value of another type is refused; it is null when absent.
        refuse: Option<Box<str>>,
    },
    /// What the rows of a group come to.
    Aggregate(usize),
    /// A sum of the unit.
    Total {
        /// Index of the sum.
        index: usize,
        /// Why a sum beyond 64 bits is refused.
        refuse: Box<str>,
    },
}

/// What is asked of the rows that a reference finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// What the first says, in order of their keys.
    First,
    /// What all say, nulls aside; null where they differ.
    Agreed,
    /// Whether they say different values, nulls aside.
    Differs,
}

/// An attribute that an item gets where it has none of that name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Added {
    /// Name.
    pub name: Box<str>,
    /// Value.
    pub term: Term,
    /// Kind that one of the item's own must have.
    pub kind: Kind,
}

/// A piece of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// Text as it stands.
    Text(Box<str>),
    /// The text of a term.
    Term(Term),
}

/// A function of one value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Function {
    /// SHA-256 of a text, as lower-case digits.
    Sha256,
    /// Whether a text is a UUID with hyphens.
    IsUuid,
    /// The first 63 bits of a UUID.
    First63Bits,
    /// The last part of a text between separators.
    LastPart(Box<str>),
    /// Microseconds within the second of a time.
    Microseconds,
    /// A whole number with zeros before it, in so many characters.
    Padded(usize),
}

/// What a term is evaluated in.
#[derive(Clone, Copy)]
pub(super) struct Env<'a> {
    /// The row; `None` where terms have outputs only.
    pub row: Option<&'a RowView<'a>>,
    /// Outputs; one that is not listed is null.
    pub outputs: &'a [(Output, Datum<'a>)],
    /// Namespace of version 5 UUIDs.
    pub namespace: &'a Uuid,
    /// Reads through references.
    pub look: &'a dyn Look,
    /// What the rows of the group come to.
    pub aggregates: &'a [Datum<'a>],
    /// Sums of the unit.
    pub totals: &'a [i128],
}

impl<'a> Env<'a> {
    /// Nothing to read from but literals.
    pub(super) fn plain(namespace: &'a Uuid) -> Self {
        Self { row: None, outputs: &[], namespace, look: &NoLook, aggregates: &[], totals: &[] }
    }
}

impl Term {
    /// Visits this term and all terms in it.
    pub(super) fn walk<'a>(&'a self, visit: &mut dyn FnMut(&'a Term)) {
        visit(self);
        match self {
            Term::Map { members, added, .. } => {
                members.iter().for_each(|(_, term)| term.walk(visit));
                added.iter().for_each(|added| added.term.walk(visit));
            }
            Term::Items(terms)
            | Term::Set(terms)
            | Term::First(terms)
            | Term::Uuid5(terms)
            | Term::Found { key: terms, .. } => {
                terms.iter().for_each(|term| term.walk(visit));
            }
            Term::Object(members) => members.iter().for_each(|member| member.term.walk(visit)),
            Term::Template(pieces) => {
                for piece in pieces {
                    if let Piece::Term(term) = piece {
                        term.walk(visit);
                    }
                }
            }
            Term::If(terms) => terms.iter().for_each(|term| term.walk(visit)),
            Term::Equal(terms) | Term::Without(terms) => terms.iter().for_each(|term| term.walk(visit)),
            Term::Case { of, .. }
            | Term::Given { of, .. }
            | Term::Time { of, .. }
            | Term::Take { of, .. }
            | Term::Epoch { of, .. } => of.walk(visit),
            Term::Text(term)
            | Term::Decoded(term)
            | Term::Native(term)
            | Term::Typed { of: term, .. }
            | Term::OneOf(term, _)
            | Term::StartsWith(term, _)
            | Term::Absent(term)
            | Term::Not(term)
            | Term::Call(_, term) => term.walk(visit),
            Term::Const(_)
            | Term::Column(_)
            | Term::Path(..)
            | Term::Attribute(..)
            | Term::Output(..)
            | Term::Aggregate(_)
            | Term::Total { .. } => {}
        }
    }

    /// Whether this term or one in it has a property.
    pub(super) fn any(&self, mut test: impl FnMut(&Term) -> bool) -> bool {
        let mut found = false;
        self.walk(&mut |term| found |= test(term));
        found
    }

    /// Whether the term may refuse a value for a reason that the mapping names.
    pub(super) fn may_refuse(&self) -> bool {
        self.any(|term| match term {
            Term::Case { refuse, .. } | Term::Typed { refuse, .. } => refuse.is_some(),
            Term::Given { .. } | Term::Time { .. } | Term::Epoch { .. } | Term::Total { .. } => true,
            Term::Map { added, .. } => !added.is_empty(),
            _ => false,
        })
    }

    /// The only texts that the term can give; `None` when it can give others too.
    pub(super) fn texts(&self) -> Option<Vec<&str>> {
        match self {
            Term::Const(Value::Text(text)) => Some(vec![text]),
            Term::Const(Value::Null) => Some(Vec::new()),
            Term::Case { cases, null, refuse: Some(_), .. } => {
                Some(cases.values().chain(null).map(|text| &**text).collect())
            }
            Term::If(terms) => Some([terms[1].texts()?, terms[2].texts()?].concat()),
            Term::First(terms) => {
                terms.iter().try_fold(Vec::new(), |known, term| Some([known, term.texts()?].concat()))
            }
            _ => None,
        }
    }

    /// Whether some columns of the row say what the term comes to, and nothing else does.
    pub(super) fn told_by(&self, columns: &[usize]) -> bool {
        let mut told = true;
        self.walk(&mut |term| match term {
            Term::Found { .. } => told = false,
            Term::Column(column)
            | Term::Path(column, _)
            | Term::Attribute(column, _)
            | Term::Map { carry: Some(column), .. } => told &= columns.contains(column),
            _ => {}
        });
        told
    }

    /// Columns that the term reads.
    pub(super) fn columns(&self) -> Vec<usize> {
        let mut columns = Vec::new();
        self.walk(&mut |term| {
            if let Term::Column(column)
            | Term::Path(column, _)
            | Term::Attribute(column, _)
            | Term::Map { carry: Some(column), .. } = term
            {
                columns.push(*column);
            }
        });
        columns
    }
}

/// Whether a value of this kind can be a member of a JSON object.
pub(super) fn fits_json(kind: Kind) -> bool {
    !matches!(kind, Kind::Bytes | Kind::Timestamp | Kind::Native)
}

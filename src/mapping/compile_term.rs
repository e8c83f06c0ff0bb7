//! Compiles terms as written into terms as meant, with their types: literals, columns and names.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use super::compile_item::item_column;
use super::diagnostic::Problems;
use super::place::ReferenceId;
use super::plan_place::Aggregate;
use super::raw;
use super::schema::{Kind, Nullable, SourceTableDef};
use super::term::{Output, Term, Which};
use crate::event::Value;

/// The type of a term.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sort {
    /// Kind of its values.
    pub kind: Kind,
    /// Whether it may be null.
    pub nullable: Nullable,
}

impl Sort {
    /// Always there.
    pub(super) const fn always(kind: Kind) -> Self {
        Self { kind, nullable: Nullable::No }
    }

    /// There or null.
    pub(super) const fn maybe(kind: Kind) -> Self {
        Self { kind, nullable: Nullable::Yes }
    }
}

/// An output that terms of a place may use, with its type.
pub(super) type Scope = [(Output, Sort)];
/// What an assembly works out for the row maps beside it.
pub(super) const OF_ASSEMBLY: [(Output, Sort); 5] = [
    (Output::RequestModel, Sort::maybe(Kind::Json)),
    (Output::ChunkModel, Sort::maybe(Kind::Json)),
    (Output::CompletionStatus, Sort::maybe(Kind::Text)),
    (Output::ResponseOriginal, Sort::maybe(Kind::Uuid)),
    (Output::ResponseModified, Sort::maybe(Kind::Uuid)),
];
/// Named tables of cases.
pub(super) type Cases = BTreeMap<String, Arc<BTreeMap<Box<str>, Box<str>>>>;

/// What the whole mapping names, for terms of any place.
#[derive(Debug)]
pub(super) struct Names<'a> {
    /// Tables of cases.
    pub cases: Cases,
    /// Named terms, by table.
    pub lets: &'a raw::Named<raw::Named<raw::Placed>>,
    /// Literals.
    pub constants: BTreeMap<&'a str, &'a raw::Placed>,
    /// References.
    pub references: BTreeMap<&'a str, Referable>,
    /// Sums of a unit, by index.
    pub totals: Vec<&'a str>,
    /// The assembly, where there is one.
    pub assembly: Option<&'a raw::Assembly>,
    /// Reasons of quarantine.
    pub quarantine: BTreeSet<&'a str>,
}

/// A reference as terms see it.
#[derive(Debug)]
pub(super) struct Referable {
    /// The reference.
    pub id: ReferenceId,
    /// Key by the alias of the table that asks.
    pub by: BTreeMap<Box<str>, Vec<Term>>,
    /// Selected values by index.
    pub select: Vec<(Box<str>, Kind)>,
}

/// Whether terms of one place see the sums of their unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Totals {
    /// They do: the part is the whole unit.
    Seen,
    /// They do not.
    Unseen,
}

/// What terms of one place may refer to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setting<'a> {
    /// The table whose row is at hand.
    pub table: Option<&'a SourceTableDef>,
    /// The outputs.
    pub outputs: &'a Scope,
    /// Names of the whole mapping.
    pub names: &'a Names<'a>,
    /// Sums.
    pub totals: Totals,
}

impl<'a> Setting<'a> {
    /// A row of a table, and nothing else.
    pub(super) fn row(table: &'a SourceTableDef, names: &'a Names<'a>) -> Self {
        Self { table: Some(table), outputs: &[], names, totals: Totals::Unseen }
    }
}

/// Marks which columns of a source table some term reads.
pub(super) type Used = std::collections::BTreeSet<(Box<str>, usize)>;

/// Compiles terms and notes what is wrong with them.
#[derive(Debug)]
pub(super) struct Compiler<'a> {
    /// Where problems go.
    pub problems: &'a mut Problems,
    /// Columns read so far.
    pub used: &'a mut Used,
    /// Reasons, counts and names that something uses.
    pub named: BTreeSet<String>,
    /// Aggregates of the group that is compiled; `None` where there is no group.
    pub aggregates: Option<Vec<Aggregate>>,
    /// Named terms that are being compiled, so that a circle is seen.
    pub resolving: Vec<String>,
}

/// The output that a path begins with, and what follows its name.
fn output_at<'p>(path: &'p str, outputs: &Scope) -> Option<(Output, Sort, &'p str)> {
    outputs.iter().find_map(|(output, sort)| {
        let rest = path.strip_prefix(output.name())?;
        (rest.is_empty() || rest.starts_with('.')).then_some((*output, *sort, rest))
    })
}

/// Whether rows can be ordered, or told apart, by values of a kind.
pub(super) fn orders(kind: Kind) -> bool {
    !matches!(kind, Kind::Json | Kind::Native)
}

/// A term with its type; `None` after a problem was noted.
pub(super) type Typed = Option<(Term, Sort)>;

impl Compiler<'_> {
    /// Compiles a term by whose values rows are ordered, or told apart.
    pub(super) fn ordering(&mut self, raw: &raw::Placed, place: Setting<'_>) -> Typed {
        let (term, sort) = self.term(raw, place)?;
        if orders(sort.kind) {
            return Some((term, sort));
        }
        let message = format!("{} has no order here", sort.kind.word());
        let fix = match sort.kind {
            Kind::Native => "take it as one type: { number = … } or { string = … }",
            _ => "wrap it: { text = … }",
        };
        self.problems.push(raw.span(), message, fix);
        None
    }

    /// Notes a term whose values have no text, so that none of them is told apart by it.
    pub(super) fn must_have_text(&mut self, span: Range<usize>, sort: Sort) -> Option<()> {
        let fix = match sort.kind {
            Kind::Bytes => "leave it out, or use a column of text, numbers or ids",
            Kind::Native => "take it as one type: { string = … } or { number = … }",
            _ => return Some(()),
        };
        self.problems.push(span, format!("{} has no text", sort.kind.word()), fix);
        None
    }

    /// Compiles a term.
    pub(super) fn term(&mut self, raw: &raw::Placed, place: Setting<'_>) -> Typed {
        let span = raw.span();
        match raw.get_ref() {
            raw::Term::Text(text) => match text.as_bytes().first() {
                Some(b'.') => self.path(&text[1..], span, place),
                Some(b'@') => self.output(&text[1..], span, place),
                _ => Some((Term::Const(Value::text(text.as_str())), Sort::always(Kind::Text))),
            },
            raw::Term::Integer(number) => Some((Term::Const(Value::Int(*number)), Sort::always(Kind::Int))),
            raw::Term::Bool(truth) => Some((Term::Const(Value::Bool(*truth)), Sort::always(Kind::Bool))),
            raw::Term::Form(form) => self.form(form, span, place),
        }
    }

    /// Compiles a term that must have a kind.
    pub(super) fn of_kind(&mut self, raw: &raw::Placed, place: Setting<'_>, kind: Kind) -> Option<Term> {
        Some(self.argument(raw, kind, place)?.0)
    }

    /// Compiles a term that must have a kind, and tells whether it may be null.
    pub(super) fn argument(&mut self, raw: &raw::Placed, kind: Kind, place: Setting<'_>) -> Typed {
        let (term, sort) = self.term(raw, place)?;
        self.must_be(raw, sort, kind)?;
        Some((term, sort))
    }

    /// Notes a term that has another kind than it must.
    pub(super) fn must_be(&mut self, raw: &raw::Placed, sort: Sort, kind: Kind) -> Option<()> {
        if sort.kind == kind {
            return Some(());
        }
        let fix = if kind == Kind::Text && sort.kind == Kind::Json {
            "wrap it: { text = … }".to_owned()
        } else {
            format!("use a term of type {}", kind.word())
        };
        self.problems.push(raw.span(), format!("this is {}, not {}", sort.kind.word(), kind.word()), fix);
        None
    }

    fn path(&mut self, path: &str, span: Range<usize>, place: Setting<'_>) -> Typed {
        let Some(table) = place.table else {
            self.problems.push(span, "there is no row here to take a column from", "use an @output");
            return None;
        };
        let mut parts = path.split('.');
        let name = parts.next().unwrap_or_default();
        if let Some(item) =
            item_column(table).filter(|_| table.column(name).is_none_or(|index| !table.key.contains(&index)))
        {
            self.used.insert((table.alias.clone(), item));
            let members = path.split('.').map(Into::into).collect();
            return Some((Term::Attribute(item, members), Sort::maybe(Kind::Native)));
        }
        let Some(index) = table.column(name) else {
            let known = table.columns.iter().map(|column| &*column.name);
            self.problems.unknown(span, &format!("column of `{}`", table.alias), name, known);
            return None;
        };
        self.used.insert((table.alias.clone(), index));
        let column = &table.columns[index];
        let members: Vec<Box<str>> = parts.map(Into::into).collect();
        if members.is_empty() {
            return Some((Term::Column(index), Sort { kind: column.kind, nullable: column.nullable }));
        }
        if column.kind != Kind::Json || members.iter().any(|member| member.is_empty()) {
            let message = format!("`{name}` is {}, which has no such members", column.kind.word());
            self.problems.push(span, message, "name a column of type jsonb and its members, such as .column.member");
            return None;
        }
        Some((Term::Path(index, members), Sort::maybe(Kind::Json)))
    }

    fn output(&mut self, path: &str, span: Range<usize>, place: Setting<'_>) -> Typed {
        let Some((output, sort, rest)) = output_at(path, place.outputs) else {
            return self.named(path, span, place);
        };
        if rest.is_empty() {
            return Some((Term::Output(output, Vec::new()), sort));
        }
        if sort.kind != Kind::Json {
            self.problems.push(span, format!("`@{}` has no members", output.name()), "leave the rest away");
            return None;
        }
        let members = rest[1..].split('.').map(Into::into).collect();
        Some((Term::Output(output, members), Sort::maybe(Kind::Json)))
    }

    /// A named term, a constant, or what a reference finds.
    fn named(&mut self, path: &str, span: Range<usize>, place: Setting<'_>) -> Typed {
        let alias = place.table.map_or("", |table| &table.alias);
        let lets = place.names.lets.iter().find(|(name, _)| name.get_ref() == alias).map(|(_, lets)| lets);
        if let Some((_, raw)) = lets.into_iter().flatten().find(|(name, _)| name.get_ref() == path) {
            let full = format!("let.{alias}.{path}");
            if self.resolving.contains(&full) {
                self.problems.push(span, format!("`@{path}` leads back to itself"), "let it stand on columns");
                return None;
            }
            self.named.insert(full.clone());
            self.resolving.push(full);
            let compiled = self.term(raw, place);
            self.resolving.pop();
            return compiled;
        }
        if let Some(raw) = place.names.constants.get(path) {
            self.named.insert(format!("constants.{path}"));
            return self.literal(raw);
        }
        let reference = path.split_once('.').and_then(|(name, select)| {
            let reference = place.names.references.get(name)?;
            let index = reference.select.iter().position(|(known, _)| **known == *select)?;
            Some((name, reference, reference.by.get(alias)?, index))
        });
        if let Some((name, reference, key, select)) = reference {
            self.named.insert(format!("reference.{name}.{alias}"));
            let (reference, sort) = (reference.id, Sort::maybe(reference.select[select].1));
            let term = Term::Found { reference, key: key.clone(), select, which: Which::First };
            return Some((term, sort));
        }
        if let Some((output, _, _)) = output_at(path, &OF_ASSEMBLY) {
            let message = format!("`@{}` is worked out by an assembly, and none is seen here", output.name());
            let fix = "use it in a [[map]] of a table without [part], in a mapping with [assembly]";
            self.problems.push(span, message, fix);
            return None;
        }
        let mut known: Vec<String> = place.outputs.iter().map(|(output, _)| output.name().to_owned()).collect();
        known.extend(lets.into_iter().flatten().map(|(name, _)| name.get_ref().clone()));
        known.extend(place.names.constants.keys().map(ToString::to_string));
        for (name, reference) in &place.names.references {
            if reference.by.contains_key(alias) {
                known.extend(reference.select.iter().map(|(select, _)| format!("{name}.{select}")));
            }
        }
        self.problems.unknown(span, "output here", path, known.iter().map(String::as_str));
        None
    }
}

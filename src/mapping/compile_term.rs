//! Compiles terms as written into terms as meant, with their types.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::diagnostic::Problems;
use super::raw;
use super::schema::{Kind, Nullable, SourceTableDef};
use super::term::{Member, Nulls, Output, Term, fits_json};
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
/// Named tables of cases.
pub(super) type Cases = BTreeMap<String, Arc<BTreeMap<Box<str>, Box<str>>>>;

/// What terms of one place may refer to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    /// The table whose row is at hand.
    pub table: Option<&'a SourceTableDef>,
    /// The outputs.
    pub outputs: &'a Scope,
    /// Tables of cases.
    pub cases: &'a Cases,
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
}

/// A term with its type; `None` after a problem was noted.
type Typed = Option<(Term, Sort)>;

impl Compiler<'_> {
    /// Compiles a term.
    pub(super) fn term(&mut self, raw: &raw::Placed, place: Place<'_>) -> Typed {
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
    pub(super) fn of_kind(&mut self, raw: &raw::Placed, place: Place<'_>, kind: Kind) -> Option<Term> {
        let (term, sort) = self.term(raw, place)?;
        if sort.kind != kind {
            let fix = if kind == Kind::Text && sort.kind == Kind::Json {
                "wrap it: { text = … }".to_owned()
            } else {
                format!("use a term of type {}", kind.word())
            };
            self.problems.push(raw.span(), format!("this is {}, not {}", sort.kind.word(), kind.word()), fix);
            return None;
        }
        Some(term)
    }

    fn path(&mut self, path: &str, span: Range<usize>, place: Place<'_>) -> Typed {
        let Some(table) = place.table else {
            self.problems.push(span, "there is no row here to take a column from", "use an @output");
            return None;
        };
        let mut parts = path.split('.');
        let name = parts.next().unwrap_or_default();
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

    fn output(&mut self, path: &str, span: Range<usize>, place: Place<'_>) -> Typed {
        let found = place.outputs.iter().find_map(|(output, sort)| {
            let rest = path.strip_prefix(output.name())?;
            (rest.is_empty() || rest.starts_with('.')).then_some((*output, *sort, rest))
        });
        let Some((output, sort, rest)) = found else {
            let known = place.outputs.iter().map(|(output, _)| output.name());
            self.problems.unknown(span, "output here", path, known);
            return None;
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

    fn form(&mut self, form: &raw::Form, span: Range<usize>, place: Place<'_>) -> Typed {
        let chosen = [
            form.literal.is_some(),
            form.first.is_some(),
            form.case.is_some(),
            form.object.is_some(),
            form.uuid5.is_some(),
            form.text.is_some(),
            form.decoded.is_some(),
        ];
        if chosen.iter().filter(|chosen| **chosen).count() != 1 {
            self.problems.push(
                span,
                "a term has exactly one form",
                "write one of const, first, case, object, uuid5, text, decoded",
            );
            return None;
        }
        if form.case.is_none() && (form.of.is_some() || form.null.is_some()) {
            self.problems.push(span.clone(), "`of` and `null` belong to `case`", "remove them");
        }
        if form.object.is_none() && !form.keep_null.is_empty() {
            self.problems.push(span.clone(), "`keep_null` belongs to `object`", "remove it");
        }
        if let Some(literal) = &form.literal {
            return self.literal(literal);
        }
        if let Some(terms) = &form.first {
            return self.first(terms, span, place);
        }
        if let Some(members) = &form.object {
            return self.object(members, &form.keep_null, place);
        }
        if let Some(parts) = &form.uuid5 {
            return self.uuid5(parts, span, place);
        }
        if let Some(inner) = &form.text {
            let (term, sort) = self.term(inner, place)?;
            return Some((Term::Text(Box::new(term)), Sort { kind: Kind::Text, nullable: sort.nullable }));
        }
        if let Some(inner) = &form.decoded {
            let term = self.of_kind(inner, place, Kind::Json)?;
            return Some((Term::Decoded(Box::new(term)), Sort::maybe(Kind::Json)));
        }
        self.case(form, span, place)
    }

    fn literal(&mut self, raw: &raw::Placed) -> Typed {
        match raw.get_ref() {
            raw::Term::Text(text) => Some((Term::Const(Value::text(text.as_str())), Sort::always(Kind::Text))),
            raw::Term::Integer(number) => Some((Term::Const(Value::Int(*number)), Sort::always(Kind::Int))),
            raw::Term::Bool(truth) => Some((Term::Const(Value::Bool(*truth)), Sort::always(Kind::Bool))),
            raw::Term::Form(_) => {
                self.problems.push(raw.span(), "a literal is a text, a number or a truth value", "write it plainly");
                None
            }
        }
    }

    fn first(&mut self, terms: &[raw::Placed], span: Range<usize>, place: Place<'_>) -> Typed {
        let mut compiled = Vec::with_capacity(terms.len());
        let mut sort: Option<Sort> = None;
        for raw in terms {
            let (term, this) = self.term(raw, place)?;
            let before = *sort.get_or_insert(this);
            if before.kind != this.kind {
                let message = format!("this is {}, the one before is {}", this.kind.word(), before.kind.word());
                self.problems.push(raw.span(), message, "use terms of one type, with { text = … } where needed");
                return None;
            }
            let nullable = if before.nullable == Nullable::No { Nullable::No } else { this.nullable };
            sort = Some(Sort { kind: this.kind, nullable });
            compiled.push(term);
        }
        if sort.is_none() {
            self.problems.push(span, "`first` of nothing", "list at least one term");
        }
        Some((Term::First(compiled), sort?))
    }

    fn case(&mut self, form: &raw::Form, span: Range<usize>, place: Place<'_>) -> Typed {
        let name = form.case.as_ref()?;
        let Some(cases) = place.cases.get(name.get_ref()) else {
            self.problems.unknown(
                name.span(),
                "table of cases",
                name.get_ref(),
                place.cases.keys().map(String::as_str),
            );
            return None;
        };
        let Some(of) = &form.of else {
            self.problems.push(span, "`case` of what?", "add `of = …`");
            return None;
        };
        let (term, sort) = self.term(of, place)?;
        if sort.kind != Kind::Text {
            self.problems.push(of.span(), "cases are told apart by text", "wrap it: { text = … }");
            return None;
        }
        let nullable = if form.null.is_some() { Nullable::No } else { sort.nullable };
        let null = form.null.as_deref().map(Into::into);
        let compiled = Term::Case { of: Box::new(term), cases: Arc::clone(cases), null };
        Some((compiled, Sort { kind: Kind::Text, nullable }))
    }

    fn object(&mut self, members: &raw::Named<raw::Placed>, keep: &[raw::Name], place: Place<'_>) -> Typed {
        for name in keep {
            if !members.contains_key(name) {
                let known = members.keys().map(|key| key.get_ref().as_str());
                self.problems.unknown(name.span(), "member", name.get_ref(), known);
            }
        }
        let mut written: Vec<_> = members.iter().collect();
        written.sort_by_key(|(name, _)| name.span().start);
        let mut compiled = Vec::with_capacity(written.len());
        for (name, raw) in written {
            let (term, sort) = self.term(raw, place)?;
            if !fits_json(sort.kind) {
                let message = format!("{} has no form in JSON", sort.kind.word());
                self.problems.push(raw.span(), message, "leave it out, or use another column");
                return None;
            }
            let kept = keep.iter().any(|kept| kept.get_ref() == name.get_ref());
            let nulls = if kept { Nulls::Keep } else { Nulls::Drop };
            compiled.push(Member { name: name.get_ref().as_str().into(), term, nulls });
        }
        Some((Term::Object(compiled), Sort::always(Kind::Json)))
    }

    fn uuid5(&mut self, parts: &[raw::Placed], span: Range<usize>, place: Place<'_>) -> Typed {
        let mut compiled = Vec::with_capacity(parts.len());
        for raw in parts {
            let (term, sort) = self.term(raw, place)?;
            if sort.nullable == Nullable::Yes {
                self.problems.push(raw.span(), "a part of an id may be null", "use parts that are always there");
                return None;
            }
            compiled.push(term);
        }
        if compiled.is_empty() {
            self.problems.push(span, "an id of nothing is the same for every row", "list the parts of the key");
            return None;
        }
        Some((Term::Uuid5(compiled), Sort::always(Kind::Uuid)))
    }
}

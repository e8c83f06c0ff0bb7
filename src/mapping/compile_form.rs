//! Compiles the longer forms of terms.

use std::ops::Range;
use std::sync::Arc;

use super::compile_term::{Compiler, Setting, Sort, Typed};
use super::raw;
use super::schema::{Kind, Nullable};
use super::term::{Member, Nulls, Term, fits_json};
use crate::event::Value;

/// Members of a form that say more about its leading member, each with the forms that it may stand in.
const HELPERS: [(&str, &[&str]); 14] = [
    ("of", &["case", "starts_with", "take"]),
    ("like", &["take"]),
    ("null", &["case"]),
    ("keep_null", &["object"]),
    ("refuse", &["case", "given", "time", "epoch", "sum", "total", "string", "number", "binary"]),
    ("then", &["if"]),
    ("else", &["if"]),
    ("one_of", &["is"]),
    ("zone", &["time"]),
    ("by", &["last_part"]),
    ("width", &["padded"]),
    ("where", &["of_first", "of_last", "min", "max", "sum", "any", "all", "list"]),
    ("distinct", &["list"]),
    ("after_first", &["list"]),
];

impl Compiler<'_> {
    /// Compiles a form.
    pub(super) fn form(&mut self, form: &raw::Form, span: Range<usize>, place: Setting<'_>) -> Typed {
        let leading: Vec<&str> = form.leading().into_iter().filter_map(|(name, there)| there.then_some(name)).collect();
        let [name] = leading.as_slice() else {
            let known: Vec<&str> = form.leading().into_iter().map(|(name, _)| name).collect();
            self.problems.push(span, "a term has exactly one form", format!("write one of {}", known.join(", ")));
            return None;
        };
        for (helper, there) in form.helpers() {
            let fits = HELPERS.iter().any(|(known, forms)| *known == helper && forms.contains(name));
            if there && !fits {
                let of = HELPERS.iter().find(|(known, _)| *known == helper).map_or(&[][..], |(_, forms)| forms);
                self.problems.push(
                    span.clone(),
                    format!("`{helper}` does not belong to `{name}`"),
                    format!("it goes with {}", of.join(", ")),
                );
                return None;
            }
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
            self.must_have_text(inner.span(), sort)?;
            return Some((Term::Text(Box::new(term)), Sort { kind: Kind::Text, nullable: sort.nullable }));
        }
        if let Some(inner) = &form.decoded {
            let term = self.of_kind(inner, place, Kind::Json)?;
            return Some((Term::Decoded(Box::new(term)), Sort::maybe(Kind::Json)));
        }
        if form.case.is_some() {
            return self.case(form, span, place);
        }
        if form.aggregate().is_some() || form.list.is_some() {
            return self.aggregate(form, span, place);
        }
        if let Some(compiled) = self.native(form, span.clone(), place) {
            return compiled;
        }
        self.call(form, span, place)
    }

    pub(super) fn literal(&mut self, raw: &raw::Placed) -> Typed {
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

    fn first(&mut self, terms: &[raw::Placed], span: Range<usize>, place: Setting<'_>) -> Typed {
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

    fn case(&mut self, form: &raw::Form, span: Range<usize>, place: Setting<'_>) -> Typed {
        let name = form.case.as_ref()?;
        let Some(cases) = place.names.cases.get(name.get_ref()) else {
            self.problems.unknown(
                name.span(),
                "table of cases",
                name.get_ref(),
                place.names.cases.keys().map(String::as_str),
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
        let refuse = form.refuse.as_ref().map(|reason| self.refusal(reason, place));
        let compiled = Term::Case { of: Box::new(term), cases: Arc::clone(cases), null, refuse };
        Some((compiled, Sort { kind: Kind::Text, nullable }))
    }

    fn object(&mut self, members: &raw::Named<raw::Placed>, keep: &[raw::Name], place: Setting<'_>) -> Typed {
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

    fn uuid5(&mut self, parts: &[raw::Placed], span: Range<usize>, place: Setting<'_>) -> Typed {
        let mut compiled = Vec::with_capacity(parts.len());
        for raw in parts {
            let (term, sort) = self.term(raw, place)?;
            self.must_have_text(raw.span(), sort)?;
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

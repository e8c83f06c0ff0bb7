//! Compiles terms that compute: templates, conditions, functions, and sums of a unit.

use std::ops::Range;

use super::compile_term::{Compiler, Setting, Sort, Totals, Typed};
use super::functions;
use super::pattern::Pattern;
use super::raw;
use super::schema::{Kind, Nullable};
use super::term::{Function, Piece, Term, Which, fits_json};

/// The most characters that a number is padded to: those of the longest one.
const WIDTH_MAX: usize = 40;

impl Compiler<'_> {
    /// Compiles a form that computes.
    pub(super) fn call(&mut self, form: &raw::Form, span: Range<usize>, place: Setting<'_>) -> Typed {
        if let Some(template) = &form.template {
            return self.template(template, place);
        }
        if let Some(part) = &form.take {
            return self.take(part, form, span, place);
        }
        for (of, which) in [(&form.agreed, Which::Agreed), (&form.differs, Which::Differs)] {
            if let Some(of) = of {
                return self.found(of, which, place);
            }
        }
        if let Some(condition) = &form.condition {
            return self.conditional(condition, form, span, place);
        }
        if let Some(of) = &form.is {
            let of = Box::new(self.of_kind(of, place, Kind::Text)?);
            let texts = form.one_of.iter().flatten().map(|text| text.as_str().into()).collect();
            return Some((Term::OneOf(of, texts), Sort::always(Kind::Bool)));
        }
        if let Some(start) = &form.starts_with {
            let of = self.helper(form.of.as_ref(), "of", &span)?;
            let of = Box::new(self.of_kind(of, place, Kind::Text)?);
            return Some((Term::StartsWith(of, start.as_str().into()), Sort::always(Kind::Bool)));
        }
        if let Some(terms) = &form.equal {
            let [(one, _), (other, _)] = self.pair(terms, span, place)?;
            return Some((Term::Equal(Box::new([one, other])), Sort::always(Kind::Bool)));
        }
        if let Some(inner) = &form.absent {
            let (term, _) = self.term(inner, place)?;
            return Some((Term::Absent(Box::new(term)), Sort::always(Kind::Bool)));
        }
        if let Some(inner) = &form.not {
            let term = self.of_kind(inner, place, Kind::Bool)?;
            return Some((Term::Not(Box::new(term)), Sort::always(Kind::Bool)));
        }
        if let Some(of) = &form.given {
            let refuse = self.helper(form.refuse.as_ref(), "refuse", &span)?;
            let refuse = self.refusal(refuse, place);
            let (of, sort) = self.term(of, place)?;
            return Some((Term::Given { of: Box::new(of), refuse }, Sort::always(sort.kind)));
        }
        if let Some(of) = &form.time {
            return self.time(of, form, span, place);
        }
        if let Some(of) = &form.epoch {
            let refuse = self.helper(form.refuse.as_ref(), "refuse", &span)?;
            let refuse = self.refusal(refuse, place);
            let (of, sort) = self.argument(of, Kind::Timestamp, place)?;
            return Some((Term::Epoch { of: Box::new(of), refuse }, Sort { kind: Kind::Int, nullable: sort.nullable }));
        }
        if let Some(name) = &form.total {
            return self.total(name, form, span, place);
        }
        self.function(form, span, place)
    }

    /// A reason of quarantine that the mapping declares.
    pub(super) fn refusal(&mut self, name: &raw::Name, place: Setting<'_>) -> Box<str> {
        self.named.insert(name.get_ref().clone());
        if !place.names.quarantine.contains(name.get_ref().as_str()) {
            let known = place.names.quarantine.iter().copied();
            self.problems.unknown(name.span(), "reason of quarantine", name.get_ref(), known);
        }
        name.get_ref().as_str().into()
    }

    /// A helping member that must be there.
    pub(super) fn helper<'h, T>(&mut self, helper: Option<&'h T>, name: &str, span: &Range<usize>) -> Option<&'h T> {
        if helper.is_none() {
            self.problems.push(span.clone(), format!("`{name}` is missing here"), format!("add `{name} = …`"));
        }
        helper
    }

    /// Two terms of one kind.
    fn pair(&mut self, raw: &[raw::Placed], span: Range<usize>, place: Setting<'_>) -> Option<[(Term, Sort); 2]> {
        let [one, other] = raw else {
            self.problems.push(span, "this takes two terms", "write [a, b]");
            return None;
        };
        let (one, sort) = self.term(one, place)?;
        let other = self.argument(other, sort.kind, place)?;
        Some([(one, sort), other])
    }

    fn template(&mut self, template: &raw::Name, place: Setting<'_>) -> Typed {
        let (text, span) = (template.get_ref(), template.span());
        let mut pieces = Vec::new();
        let mut nullable = Nullable::No;
        let mut rest = text.as_str();
        while let Some((before, after)) = rest.split_once('{') {
            if !before.is_empty() {
                pieces.push(Piece::Text(before.into()));
            }
            let Some((name, after)) = after.split_once('}').filter(|(name, _)| name.starts_with(['.', '@'])) else {
                let fix = "write {.column} or {@name}";
                self.problems.push(span, "a brace of this template opens no term", fix);
                return None;
            };
            let inner = raw::Spanned::new(span.clone(), raw::Term::Text(name.to_owned()));
            let (term, sort) = self.term(&inner, place)?;
            if sort.kind == Kind::Json {
                self.problems.push(span, format!("`{name}` is a document"), "name it under [let] as { text = … }");
                return None;
            }
            self.must_have_text(span.clone(), sort)?;
            if sort.nullable == Nullable::Yes {
                nullable = Nullable::Yes;
            }
            pieces.push(Piece::Term(term));
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.into()));
        }
        Some((Term::Template(pieces), Sort { kind: Kind::Text, nullable }))
    }

    /// A part of a text by a pattern.
    fn take(&mut self, part: &raw::Name, form: &raw::Form, span: Range<usize>, place: Setting<'_>) -> Typed {
        let of = self.helper(form.of.as_ref(), "of", &span)?;
        let like = self.helper(form.like.as_ref(), "like", &span)?;
        let pattern = match Pattern::parse(like.get_ref()) {
            Ok(pattern) => pattern,
            Err(fault) => {
                let fix = "write names in braces with text between them, such as {owner}:{number:whole}";
                self.problems.push(like.span(), fault.to_string(), fix);
                return None;
            }
        };
        let Some((at, kind)) = pattern.part(part.get_ref()) else {
            self.problems.unknown(part.span(), "part of the pattern", part.get_ref(), pattern.names());
            return None;
        };
        let of = Box::new(self.of_kind(of, place, Kind::Text)?);
        Some((Term::Take { of, pattern, part: at }, Sort::maybe(kind)))
    }

    /// What the rows say together that a reference finds.
    fn found(&mut self, of: &raw::Placed, which: Which, place: Setting<'_>) -> Typed {
        let (term, sort) = self.term(of, place)?;
        let Term::Found { reference, key, select, which: Which::First } = term else {
            let fix = "name a value that a reference selects: \"@REFERENCE.VALUE\"";
            self.problems.push(of.span(), "this is not what a reference finds", fix);
            return None;
        };
        let sort = if which == Which::Differs { Sort::always(Kind::Bool) } else { sort };
        Some((Term::Found { reference, key, select, which }, sort))
    }

    fn conditional(
        &mut self,
        condition: &raw::Placed,
        form: &raw::Form,
        span: Range<usize>,
        place: Setting<'_>,
    ) -> Typed {
        let condition = self.of_kind(condition, place, Kind::Bool)?;
        let then = self.helper(form.then.as_ref(), "then", &span)?;
        let (then, sort) = self.term(then, place)?;
        let (otherwise, nullable) = match &form.otherwise {
            Some(raw) => {
                let (term, other) = self.argument(raw, sort.kind, place)?;
                (term, other.nullable)
            }
            None => (Term::Const(crate::event::Value::Null), Nullable::Yes),
        };
        let nullable = if sort.nullable == Nullable::Yes { Nullable::Yes } else { nullable };
        Some((Term::If(Box::new([condition, then, otherwise])), Sort { kind: sort.kind, nullable }))
    }

    fn time(&mut self, of: &raw::Placed, form: &raw::Form, span: Range<usize>, place: Setting<'_>) -> Typed {
        let refuse = self.helper(form.refuse.as_ref(), "refuse", &span)?;
        let refuse = self.refusal(refuse, place);
        let written = self.helper(form.zone.as_ref(), "zone", &span)?;
        let Some(zone) = functions::zone(written.get_ref()) else {
            let fix = "write UTC, or an offset such as +02:00: a zone's name means other times on other machines";
            self.problems.push(written.span(), format!("`{}` is no zone here", written.get_ref()), fix);
            return None;
        };
        let (of, sort) = self.argument(of, Kind::Text, place)?;
        let term = Term::Time { of: Box::new(of), zone, refuse };
        Some((term, Sort { kind: Kind::Timestamp, nullable: sort.nullable }))
    }

    fn total(&mut self, name: &raw::Name, form: &raw::Form, span: Range<usize>, place: Setting<'_>) -> Typed {
        let refuse = self.helper(form.refuse.as_ref(), "refuse", &span)?;
        let refuse = self.refusal(refuse, place);
        if place.totals == Totals::Unseen {
            let fix = "use it in a map or group of a table without parts";
            self.problems.push(span, "the sums of a unit are not seen here", fix);
            return None;
        }
        let Some(index) = place.names.totals.iter().position(|known| known == name.get_ref()) else {
            self.problems.unknown(name.span(), "total", name.get_ref(), place.names.totals.iter().copied());
            return None;
        };
        self.named.insert(format!("total.{}", name.get_ref()));
        Some((Term::Total { index, refuse }, Sort::always(Kind::Int)))
    }

    fn function(&mut self, form: &raw::Form, span: Range<usize>, place: Setting<'_>) -> Typed {
        if let Some(terms) = &form.without {
            let [list, raw] = terms.as_slice() else {
                self.problems.push(span, "`without` takes an array and a value", "write [array, value]");
                return None;
            };
            let (list, sort) = self.argument(list, Kind::Json, place)?;
            let (item, removed) = self.term(raw, place)?;
            if !fits_json(removed.kind) {
                let message = format!("{} has no form in JSON", removed.kind.word());
                self.problems.push(raw.span(), message, "use another column");
                return None;
            }
            return Some((Term::Without(Box::new([list, item])), sort));
        }
        let (function, of, takes, gives) = if let Some(of) = &form.sha256 {
            (Function::Sha256, of, Kind::Text, Kind::Text)
        } else if let Some(of) = &form.is_uuid {
            (Function::IsUuid, of, Kind::Text, Kind::Bool)
        } else if let Some(of) = &form.first_63_bits {
            (Function::First63Bits, of, Kind::Uuid, Kind::Int)
        } else if let Some(of) = &form.microseconds {
            (Function::Microseconds, of, Kind::Timestamp, Kind::Int)
        } else if let Some(of) = &form.last_part {
            let by = self.helper(form.by.as_ref(), "by", &span)?;
            if by.is_empty() {
                self.problems.push(span, "an empty separator separates nothing", "write one, such as \"/\"");
                return None;
            }
            (Function::LastPart(by.as_str().into()), of, Kind::Text, Kind::Text)
        } else {
            let of = self.helper(form.padded.as_ref(), "padded", &span)?;
            let width = *self.helper(form.width.as_ref(), "width", &span)?;
            if width > WIDTH_MAX {
                self.problems.push(
                    span,
                    format!("{width} characters are too many"),
                    format!("{WIDTH_MAX} are the most"),
                );
                return None;
            }
            (Function::Padded(width), of, Kind::Int, Kind::Text)
        };
        let (of, sort) = self.argument(of, takes, place)?;
        // The infinities have no microseconds.
        let nullable = if function == Function::Microseconds { Nullable::Yes } else { sort.nullable };
        Some((Term::Call(function, Box::new(of)), Sort { kind: gives, nullable }))
    }
}

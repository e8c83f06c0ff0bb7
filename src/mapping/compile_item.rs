//! Compiles items of DynamoDB: their attributes, and the terms that only they have.

use std::ops::Range;

use super::compile::{Shaper, reason, written};
use super::compile_term::{Compiler, Setting, Sort, Typed};
use super::plan::Emit;
use super::raw;
use super::schema::{DynamoTable, Kind, Nullable, SourceTableDef};
use super::term::{Added, Term};
use crate::target::TargetTable;

/// Index of the column that holds a source row's whole item; `None` for a table of another store.
pub(super) fn item_column(table: &SourceTableDef) -> Option<usize> {
    table.columns.iter().position(|column| column.kind == Kind::Native)
}

/// Where an item goes, and what of the source's own item does not go along.
pub(super) struct Destination<'a> {
    /// Name of the target table, as written.
    pub to: &'a raw::Name,
    /// The table.
    pub table: TargetTable,
    /// What it is.
    pub dynamo: &'a DynamoTable,
    /// The map, where an item of the source may go along.
    pub carrying: Option<&'a raw::RowMap>,
}

impl Shaper<'_, '_> {
    /// Compiles the attributes of a target item: its key's values, and the item.
    pub(super) fn item(
        &mut self,
        destination: &Destination<'_>,
        attributes: &raw::Named<raw::Placed>,
        place: Setting<'_>,
    ) -> Option<Emit> {
        let Destination { to, dynamo, .. } = destination;
        let mut members = Vec::new();
        let mut failed = false;
        for (name, raw) in written(attributes) {
            match self.compiler.term(raw, place) {
                Some((term, sort)) if self.fits_attribute(name, raw, sort, dynamo) => {
                    members.push((Box::from(name.get_ref().as_str()), term));
                }
                _ => failed = true,
            }
        }
        let mut terms = Vec::new();
        for key in &dynamo.key {
            match members.iter().find(|(name, _)| *name == key.name) {
                Some((_, term)) => terms.push(Some(Term::Native(Box::new(term.clone())))),
                None if failed => {}
                None => {
                    let message = format!("`{}` is in the key of `{}` and gets no value", key.name, dynamo.name);
                    self.compiler.problems.push(to.span(), message, format!("add `{} = …` under attributes", key.name));
                }
            }
        }
        let carry = place.table.and_then(|table| Some((table, item_column(table)?)));
        let drop = destination.carrying.into_iter().flat_map(|map| map.drop.keys());
        let added = destination.carrying.into_iter().flat_map(|map| map.added.keys());
        for name in drop.clone().chain(added).filter(|_| carry.is_none()) {
            let fix = "take it out of drop, and name what is added under attributes";
            self.compiler.problems.push(name.span(), "nothing is carried from a row of Postgres", fix);
        }
        let added = match destination.carrying {
            Some(map) => self.added(map, attributes, dynamo, place)?,
            None => Vec::new(),
        };
        for name in drop.clone().filter(|name| attributes.contains_key(*name)) {
            let message = format!("`{}` is dropped, and yet a term gives it a value", name.get_ref());
            self.compiler.problems.push(name.span(), message, "take it out of one of the two");
        }
        let drop = drop.map(|name| name.get_ref().as_str().into()).collect();
        if let Some((table, _)) = carry {
            // Whatever the item has goes along: none of its columns is left over.
            self.compiler.used.extend((0..table.columns.len()).map(|column| (table.alias.clone(), column)));
        }
        terms.push(Some(Term::Map { carry: carry.map(|(_, column)| column), drop, members, added }));
        Some(Emit { table: destination.table, terms })
    }

    /// Compiles the attributes that an item gets where it has none of the name.
    fn added(
        &mut self,
        map: &raw::RowMap,
        attributes: &raw::Named<raw::Placed>,
        dynamo: &DynamoTable,
        place: Setting<'_>,
    ) -> Option<Vec<Added>> {
        let mut compiled = Vec::new();
        for (name, raw) in written(&map.added) {
            if attributes.contains_key(name) || map.drop.contains_key(name) {
                let message = format!("`{}` stands under attributes or drop too", name.get_ref());
                self.compiler.problems.push(name.span(), message, "take it out of one of the two");
            }
            let reason = toml::Spanned::new(name.span(), reason::ATTRIBUTE.to_owned());
            self.compiler.refusal(&reason, place);
            let (term, sort) = self.compiler.term(raw, place)?;
            let kind = match sort.kind {
                Kind::Int => Kind::Decimal,
                Kind::Uuid => Kind::Text,
                kind @ (Kind::Text | Kind::Decimal | Kind::Bytes | Kind::Bool) => kind,
                other => {
                    let fix = "use a text, a number, bytes or a truth value: { string = … }, { number = … }";
                    let message =
                        format!("this is {}: one of the item's own could not be told to be alike", other.word());
                    self.compiler.problems.push(raw.span(), message, fix);
                    return None;
                }
            };
            if !self.fits_attribute(name, raw, sort, dynamo) {
                return None;
            }
            compiled.push(Added { name: name.get_ref().as_str().into(), term, kind });
        }
        Some(compiled)
    }

    fn fits_attribute(&mut self, name: &raw::Name, raw: &raw::Placed, sort: Sort, table: &DynamoTable) -> bool {
        let fault = |kind: Kind| match (kind, sort.kind) {
            (Kind::Text, Kind::Text | Kind::Uuid) | (Kind::Decimal, Kind::Decimal | Kind::Int) => None,
            (Kind::Bytes, Kind::Bytes) => None,
            _ => Some((
                format!("this is {}, the key attribute `{}` is {}", sort.kind.word(), name.get_ref(), kind.key_name()),
                "use a term of that type, or { string = … }, { number = … }, { binary = … }",
            )),
        };
        let indexed = table.indexes.iter().flat_map(|index| &index.key);
        let mut found = table.key.iter().chain(indexed).filter(|key| *key.name == **name.get_ref());
        let mut problem = found.find_map(|key| fault(key.kind));
        let key = table.key.iter().any(|key| *key.name == **name.get_ref());
        if problem.is_none() && key && sort.nullable == Nullable::Yes {
            let message = format!("this may be null, and `{}` is in the key", name.get_ref());
            problem = Some((message, "say what null becomes: { given = …, refuse = \"REASON\" }"));
        }
        if problem.is_none() && sort.kind == Kind::Timestamp {
            problem = Some(("DynamoDB has no type for a time".to_owned(), "write { epoch = …, refuse = \"REASON\" }"));
        }
        if let Some((message, fix)) = problem {
            self.compiler.problems.push(raw.span(), message, fix);
            return false;
        }
        true
    }
}

impl Compiler<'_> {
    /// Compiles a term that only items have; `None` within when the form is none of them.
    pub(super) fn native(&mut self, form: &raw::Form, span: Range<usize>, place: Setting<'_>) -> Option<Typed> {
        if let Some(members) = &form.map {
            let mut compiled = Vec::new();
            for (name, raw) in written(members) {
                let Some(term) = self.storable(raw, place) else { return Some(None) };
                compiled.push((Box::from(name.get_ref().as_str()), term));
            }
            let term = Term::Map { carry: None, drop: Vec::new(), members: compiled, added: Vec::new() };
            return Some(Some((term, Sort::always(Kind::Native))));
        }
        if let Some(items) = &form.items {
            let items: Option<Vec<Term>> = items.iter().map(|raw| self.storable(raw, place)).collect();
            return Some(items.map(|items| (Term::Items(items), Sort::always(Kind::Native))));
        }
        if let Some(items) = &form.set {
            return Some(self.set(items, span, place));
        }
        if let Some(of) = &form.native {
            let compiled = self.term(of, place);
            return Some(compiled.map(|(term, sort)| {
                (Term::Native(Box::new(term)), Sort { kind: Kind::Native, nullable: sort.nullable })
            }));
        }
        for (of, kind) in [(&form.string, Kind::Text), (&form.number, Kind::Decimal), (&form.binary, Kind::Bytes)] {
            if let Some(of) = of {
                let refuse = form.refuse.as_ref().map(|reason| self.refusal(reason, place));
                let of = self.of_kind(of, place, Kind::Native);
                return Some(of.map(|of| (Term::Typed { of: Box::new(of), kind, refuse }, Sort::maybe(kind))));
            }
        }
        None
    }

    fn storable(&mut self, raw: &raw::Placed, place: Setting<'_>) -> Option<Term> {
        let (term, sort) = self.term(raw, place)?;
        if sort.kind == Kind::Timestamp {
            let fix = "write { epoch = …, refuse = \"REASON\" }";
            self.problems.push(raw.span(), "DynamoDB has no type for a time", fix);
            return None;
        }
        Some(term)
    }

    fn set(&mut self, items: &[raw::Placed], span: Range<usize>, place: Setting<'_>) -> Typed {
        let mut compiled = Vec::new();
        let mut first: Option<Kind> = None;
        for raw in items {
            let (term, sort) = self.term(raw, place)?;
            let kind = if sort.kind == Kind::Int { Kind::Decimal } else { sort.kind };
            if !matches!(kind, Kind::Text | Kind::Decimal | Kind::Bytes) || first.is_some_and(|first| first != kind) {
                self.problems.push(
                    raw.span(),
                    "a set is of texts, of numbers or of bytes",
                    "use terms of one such type",
                );
                return None;
            }
            first = Some(kind);
            compiled.push(term);
        }
        if first.is_none() {
            self.problems.push(span, "DynamoDB has no empty sets", "list at least one term");
            return None;
        }
        Some((Term::Set(compiled), Sort::maybe(Kind::Native)))
    }
}

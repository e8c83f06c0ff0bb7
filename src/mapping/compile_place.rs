//! Compiles references, routes and parts.

use std::collections::BTreeMap;

use super::compile::{Shaper, written};
use super::compile_term::{Compiler, Names, Referable, Setting};
use super::place::{NO_UNIT, ReferenceId};
use super::plan_place::{PartRule, Reference, Route, Select, TablePlan, Unresolved};
use super::raw;
use super::schema::{Kind, Role, SourceTable, SourceTableDef};
use super::term::Term;

/// What stands for the reason of a row that cannot be mapped, among the values seen of a row found.
const REFUSED: &str = "@refused";

/// Compiles the references; terms of theirs read their own row only.
pub(super) fn references<'a>(
    mapping: &'a raw::Mapping,
    tables: &[SourceTableDef],
    names: &Names<'_>,
    compiler: &mut Compiler<'_>,
) -> (Vec<Reference>, BTreeMap<&'a str, Referable>) {
    let (mut compiled, mut referable) = (Vec::new(), BTreeMap::new());
    for (name, raw) in written(&mapping.reference) {
        let Some((table, def)) = source(&raw.table, tables, compiler) else { continue };
        let row = Setting::row(def, names);
        let key = key(&raw.key, row, compiler);
        let Some((select, seen)) = select(raw, row, compiler) else { continue };
        let mut by = BTreeMap::new();
        for (asking, terms) in written(&raw.by) {
            let Some((_, asking_def)) = source(asking, tables, compiler) else { continue };
            let asked = self::key(terms, Setting::row(asking_def, names), compiler);
            let kinds = |key: &[(Term, Kind)]| key.iter().map(|(_, kind)| *kind).collect::<Vec<_>>();
            if kinds(&asked) != kinds(&key) && asked.len() == terms.len() && key.len() == raw.key.len() {
                let fix = "write terms of the same types as under `match`";
                compiler.problems.push(asking.span(), "this key is not one that rows are found by", fix);
            }
            by.insert(asking_def.alias.clone(), asked.into_iter().map(|(term, _)| term).collect());
        }
        let id = ReferenceId(u16::try_from(compiled.len()).unwrap_or(u16::MAX));
        compiled.push(Reference { table, key: key.into_iter().map(|(term, _)| term).collect(), select });
        referable.insert(name.get_ref().as_str(), Referable { id, by, select: seen });
    }
    (compiled, referable)
}

/// Values seen of a row found, and their names and kinds.
type Selected = (Vec<Select>, Vec<(Box<str>, Kind)>);

fn select(raw: &raw::Reference, row: Setting<'_>, compiler: &mut Compiler<'_>) -> Option<Selected> {
    let (mut select, mut seen) = (Vec::new(), Vec::new());
    for (name, term) in written(&raw.select) {
        let refused = matches!(term.get_ref(), raw::Term::Text(text) if text == REFUSED);
        let (compiled, kind) = if refused {
            (Select::Refused, Kind::Text)
        } else {
            let (compiled, sort) = compiler.term(term, row)?;
            steady(term, &compiled, compiler);
            (Select::Term(compiled), sort.kind)
        };
        select.push(compiled);
        seen.push((name.get_ref().as_str().into(), kind));
    }
    Some((select, seen))
}

fn key(raw: &[raw::Placed], row: Setting<'_>, compiler: &mut Compiler<'_>) -> Vec<(Term, Kind)> {
    let mut key = Vec::new();
    for term in raw {
        let Some((compiled, sort)) = compiler.term(term, row) else { continue };
        steady(term, &compiled, compiler);
        if sort.kind == Kind::Json {
            compiler.problems.push(term.span(), "a document is no part of a key", "wrap it: { text = … }");
        }
        key.push((compiled, sort.kind));
    }
    key
}

/// Notes a term that may refuse a value where nobody could be told.
fn steady(raw: &raw::Placed, term: &Term, compiler: &mut Compiler<'_>) {
    if term.may_refuse() {
        let fix = "select `@refused` beside it, and use a term that takes every value here";
        compiler.problems.push(raw.span(), "this may refuse a row that only finds or is found", fix);
    }
}

fn source<'a>(
    name: &raw::Name,
    tables: &'a [SourceTableDef],
    compiler: &mut Compiler<'_>,
) -> Option<(SourceTable, &'a SourceTableDef)> {
    let Some(index) = tables.iter().position(|table| *table.alias == **name.get_ref()) else {
        compiler.problems.unknown(name.span(), "table", name.get_ref(), tables.iter().map(|table| &*table.alias));
        return None;
    };
    Some((SourceTable(u16::try_from(index).unwrap_or(u16::MAX)), &tables[index]))
}

/// Compiles how the rows of each table are placed.
pub(super) fn tables(shaper: &mut Shaper<'_, '_>, mapping: &raw::Mapping) -> Vec<TablePlan> {
    let sources = &shaper.migration.sources;
    let placed =
        mapping.unit.keys().chain(mapping.part.keys()).chain(mapping.counted.keys()).chain(mapping.lets.keys());
    for name in placed {
        source(name, sources, &mut shaper.compiler);
    }
    sources.iter().map(|table| plan(shaper, mapping, table)).collect()
}

fn plan(shaper: &mut Shaper<'_, '_>, mapping: &raw::Mapping, table: &SourceTableDef) -> TablePlan {
    let row = Setting::row(table, shaper.names);
    let route = find(&mapping.unit, table).filter(|_| table.role == Role::Unit);
    let route = route.and_then(|(name, raw)| self::route(shaper, name, raw, table));
    let part = match find(&mapping.part, table) {
        None => PartRule::Whole,
        Some((_, terms)) if terms.is_empty() => PartRule::Row,
        Some((_, terms)) => {
            PartRule::Group(terms.iter().filter_map(|term| Some(shaper.compiler.ordering(term, row)?.0)).collect())
        }
    };
    let mut counted = Vec::new();
    for (name, raw) in find(&mapping.counted, table).into_iter().flat_map(|(_, counts)| written(counts)) {
        let migration = shaper.migration;
        let count = shaper.declared(name, "count", &migration.count);
        counted.extend(shaper.compiler.of_kind(raw, row, Kind::Bool).map(|term| (count, term)));
    }
    TablePlan {
        route,
        part,
        counted,
        refusing: Vec::new(),
        read: Vec::new(),
        placing: Vec::new(),
        lone: None,
        copied: None,
    }
}

/// What a mapping says of a table.
fn find<'r, T>(named: &'r raw::Named<T>, table: &SourceTableDef) -> Option<(&'r raw::Name, &'r T)> {
    named.iter().find(|(name, _)| *table.alias == **name.get_ref())
}

fn route(shaper: &mut Shaper<'_, '_>, name: &raw::Name, raw: &raw::Route, table: &SourceTableDef) -> Option<Route> {
    let row = Setting::row(table, shaper.names);
    let form = match raw {
        raw::Route::Column(column) => {
            let Some(index) = table.column(column) else {
                let known = table.columns.iter().map(|column| &*column.name);
                let what = format!("column of `{}`", table.alias);
                shaper.compiler.problems.unknown(name.span(), &what, column, known);
                return None;
            };
            shaper.compiler.used.insert((table.alias.clone(), index));
            let (unit, unresolved) = (Term::Column(index), Unresolved::Quarantine(NO_UNIT.into()));
            return Some(Route { unit, unresolved, refuse: Vec::new() });
        }
        raw::Route::Term(form) => form,
    };
    let unit = shaper.compiler.of_kind(&form.id, row, Kind::Text);
    let mut refuse = Vec::new();
    for (reason, term) in written(&form.refuse) {
        let reason = shaper.compiler.refusal(reason, row);
        refuse.extend(shaper.compiler.term(term, row).map(|(term, _)| (reason, term)));
    }
    let unresolved = match &form.unresolved {
        None => Unresolved::Quarantine(NO_UNIT.into()),
        Some(policy) => unresolved(shaper, policy, row)?,
    };
    Some(Route { unit: unit?, unresolved, refuse })
}

fn unresolved(shaper: &mut Shaper<'_, '_>, policy: &raw::Name, row: Setting<'_>) -> Option<Unresolved> {
    match policy.get_ref().split_once(':') {
        None if policy.get_ref() == "wait" => Some(Unresolved::Wait),
        Some(("quarantine", reason)) => {
            let reason = raw::Spanned::new(policy.span(), reason.to_owned());
            Some(Unresolved::Quarantine(shaper.compiler.refusal(&reason, row)))
        }
        _ => {
            let known = ["wait", "quarantine:REASON"];
            shaper.compiler.problems.unknown(policy.span(), "policy", policy.get_ref(), known);
            None
        }
    }
}

/// Collects what a row must pass before any shape takes it: terms over nothing but the row that may refuse it.
pub(super) fn refusing<'t>(terms: impl Iterator<Item = &'t Term>) -> Vec<Term> {
    let mut found: Vec<Term> = Vec::new();
    for term in terms {
        let alone = !term.any(|term| {
            matches!(term, Term::Found { .. } | Term::Aggregate(_) | Term::Total { .. } | Term::Output(..))
        });
        if term.may_refuse() && alone && !found.contains(term) {
            found.push(term.clone());
        }
    }
    found
}

//! Checks a compiled migration as a whole: nothing is left over on either side.

use std::collections::BTreeSet;

use super::compile::{reason, written};
use super::compile_item::item_column;
use super::compile_term::Used;
use super::diagnostic::Problems;
use super::plan::{Emit, Migration};
use super::raw;
use super::schema::{Role, SourceTable};

/// Notes reasons and counts that nothing uses.
pub(super) fn unused(named: &BTreeSet<String>, mapping: &raw::Mapping, problems: &mut Problems) {
    let declared = mapping.drop.keys().chain(mapping.count.keys()).chain(mapping.quarantine.keys());
    let names = [("let", &mapping.lets)].into_iter().flat_map(|(what, tables)| {
        tables.iter().flat_map(move |(table, lets)| {
            lets.keys().map(move |name| (name, format!("{what}.{}.{}", table.get_ref(), name.get_ref())))
        })
    });
    let constants = mapping.constants.keys().map(|name| (name, format!("constants.{}", name.get_ref())));
    let totals = mapping.total.keys().map(|name| (name, format!("total.{}", name.get_ref())));
    let references = mapping.reference.iter().flat_map(|(reference, raw)| {
        raw.by.keys().map(move |name| (name, format!("reference.{}.{}", reference.get_ref(), name.get_ref())))
    });
    for (name, full) in names.chain(constants).chain(totals).chain(references) {
        if !named.contains(&full) {
            problems.push(name.span(), format!("nothing uses `{}`", name.get_ref()), "remove it");
        }
    }
    let builtin = [reason::NOT_STORABLE, reason::UNREADABLE, reason::KEY_COLLISION, reason::NUMBER, reason::ATTRIBUTE];
    let builtin = builtin.into_iter().chain([reason::KEY_LENGTH]).collect::<Vec<_>>();
    for name in declared {
        if !named.contains(name.get_ref()) && !builtin.contains(&name.get_ref().as_str()) {
            problems.push(name.span(), format!("nothing uses `{}`", name.get_ref()), "remove it");
        }
    }
}

/// Checks that every target column is produced by some shape, and that every source table has one.
pub(super) fn whole(
    migration: &Migration,
    mapping: &raw::Mapping,
    left: &BTreeSet<(Box<str>, usize)>,
    problems: &mut Problems,
) {
    let mut emits: Vec<&Emit> = migration.maps.iter().map(|map| &map.emit).collect();
    let mut read: BTreeSet<SourceTable> = migration.maps.iter().map(|map| map.from).collect();
    emits.extend(migration.groups.iter().map(|group| &group.emit));
    read.extend(migration.groups.iter().map(|group| group.from));
    if let Some(assembly) = &migration.assembly {
        emits.extend([&assembly.events, &assembly.modified]);
        emits.extend(assembly.tools.as_ref().map(|tools| &tools.record));
        read.insert(assembly.stream);
        read.extend(assembly.tools.as_ref().map(|tools| tools.from));
    }
    let span = mapping.migration.span();
    for (index, table) in migration.targets.iter().enumerate() {
        for (at, column) in table.columns.iter().enumerate() {
            let produced = emits.iter().any(|emit| usize::from(emit.table.0) == index && emit.terms[at].is_some());
            if !produced && !left.contains(&(table.name.clone(), at)) {
                let message = format!("nothing produces `{}.{}`", table.name, column.name);
                problems.push(
                    span.clone(),
                    message,
                    "add it to a map's columns, leave it NULL under `left` with a reason, or take it out of target.sql",
                );
            }
        }
    }
    for (index, table) in migration.sources.iter().enumerate() {
        if table.role == Role::Unit && !read.iter().any(|source| usize::from(source.0) == index) {
            let message = format!("no shape reads the table `{}`", table.alias);
            problems.push(span.clone(), message, "add a [[map]] from it, or take it out of legacy.toml");
        }
    }
}

/// Checks that every legacy column is read by some term or dropped with a reason, and not both.
pub(super) fn columns_accounted(legacy: &raw::Legacy, migration: &Migration, used: &Used, problems: &mut Problems) {
    for (table, (alias, raw)) in migration.sources.iter().zip(written(&legacy.table)) {
        if let Some(item) = item_column(table)
            && !used.contains(&(table.alias.clone(), item))
        {
            let message = format!("the items of `{}` are not mapped", alias.get_ref());
            problems.push(alias.span(), message, "add a [[map]] from it");
        }
        for (index, (name, _)) in written(&raw.columns).into_iter().enumerate() {
            let read = used.contains(&(alias.get_ref().as_str().into(), index)) || Some(index) == table.unit;
            let dropped = raw.drop.iter().find(|(dropped, _)| dropped.get_ref() == name.get_ref());
            match (read, dropped) {
                (false, None) => problems.push(
                    name.span(),
                    format!("the column `{}` of `{}` is neither mapped nor dropped", name.get_ref(), alias.get_ref()),
                    format!("map it, or add `{} = \"WHY\"` under drop", name.get_ref()),
                ),
                (true, Some((dropped, _))) => problems.push(
                    dropped.span(),
                    format!("the column `{}` is dropped, and yet a term reads it", name.get_ref()),
                    "take it out of drop",
                ),
                _ => {}
            }
        }
    }
}

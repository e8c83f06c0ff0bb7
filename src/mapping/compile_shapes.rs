//! Checks that the shapes of a mapping are ones that run, and that no row which one of them drops is taken by another.
//!
//! What a shape would be given is decided by the evaluation: the rows of an assembly's stream go to its turns alone, rows of a
//! lookup belong to no unit, and a part of its own sees nothing of the rest of its unit.

use super::diagnostic::Problems;
use super::raw;
use super::schema::{Role, SourceTableDef};

/// Notes every shape that would never run, or would take what another one drops.
pub(super) fn check(mapping: &raw::Mapping, tables: &[SourceTableDef], problems: &mut Problems) {
    lookups(mapping, tables, problems);
    if let Some(assembly) = &mapping.assembly {
        assembled(mapping, assembly.get_ref(), problems);
    }
    for map in &mapping.map {
        if let Some(made) = &map.synthesise
            && named(mapping.part.keys(), &map.from).is_some()
        {
            let message =
                format!("nobody sees that `{0}` has no row: its rows are parts of their own", map.from.get_ref());
            problems.push(made.count.span(), message, "take the table out of [part], or `synthesise` out of this map");
        }
    }
    for (at, group) in mapping.group.iter().enumerate().filter(|(_, group)| group.others.is_some()) {
        // Of two groups that drop rows of one table the later one is told.
        let earlier = mapping.group[..at].iter().filter(|other| other.others.is_none());
        let others = earlier.chain(&mapping.group[at + 1..]).map(|other| &other.from);
        for other in mapping.map.iter().map(|map| &map.from).chain(others).filter(|other| **other == group.from) {
            let message =
                format!("a group drops rows of `{}` (`others`), so no other shape takes them", group.from.get_ref());
            problems.push(other.span(), message, "take `others` out of the group, or this shape out");
        }
    }
}

/// A name among others.
fn named<'a>(mut names: impl Iterator<Item = &'a raw::Name>, wanted: &raw::Name) -> Option<&'a raw::Name> {
    names.find(|name| name.get_ref() == wanted.get_ref())
}

fn lookups(mapping: &raw::Mapping, tables: &[SourceTableDef], problems: &mut Problems) {
    let shapes = mapping.map.iter().map(|map| &map.from).chain(mapping.group.iter().map(|group| &group.from));
    let assembly = mapping.assembly.iter().flat_map(|assembly| read_by(assembly.get_ref()));
    let placed = mapping.part.keys().chain(mapping.counted.keys());
    for name in shapes.chain(assembly).chain(placed) {
        let lookup = |table: &SourceTableDef| table.role == Role::Lookup && *table.alias == **name.get_ref();
        if tables.iter().any(lookup) {
            let message = format!("`{}` is a lookup, whose rows belong to no unit", name.get_ref());
            problems.push(name.span(), message, "give it the role `unit`, or refer to it");
        }
    }
}

/// The tables that an assembly reads.
fn read_by(assembly: &raw::Assembly) -> impl Iterator<Item = &raw::Name> {
    [&assembly.from, &assembly.parent].into_iter().chain(assembly.tools.iter().map(|tools| &tools.from))
}

fn assembled(mapping: &raw::Mapping, assembly: &raw::Assembly, problems: &mut Problems) {
    for name in mapping.part.keys().filter(|name| named(read_by(assembly), name).is_some()) {
        let message = format!("the assembly reads `{}`, so its rows are no parts", name.get_ref());
        problems.push(name.span(), message, "take it out of [part]: an assembly sees all rows of its unit together");
    }
    for name in read_by(assembly).skip(1).filter(|name| name.get_ref() == assembly.from.get_ref()) {
        let message = format!("`{}` is the stream of this assembly already", name.get_ref());
        problems.push(name.span(), message, "name another table");
    }
    if let Some(name) = named(mapping.counted.keys(), &assembly.from) {
        let message =
            format!("the assembly reads `{}` as its stream, so its rows are not counted one by one", name.get_ref());
        problems.push(name.span(), message, "count rows of another table, or what the assembly itself counts");
    }
    let shapes = mapping.map.iter().map(|map| &map.from).chain(mapping.group.iter().map(|group| &group.from));
    for from in shapes {
        let taken = [Some(&assembly.from), assembly.tools.as_ref().map(|tools| &tools.from)];
        if taken.into_iter().flatten().any(|table| table.get_ref() == from.get_ref()) {
            let message = format!("the assembly takes the rows of `{}`, so no other shape does", from.get_ref());
            problems.push(from.span(), message, "take this shape out");
        }
    }
}

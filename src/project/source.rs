//! The source tables as the migration's definition lists them, and how the relations of events are bound to them.

use std::collections::HashMap;
use std::sync::Arc;

use crate::event::{Cell, Relation, RelationName, Row, SchemaHash, Value, rename_members};

/// A source table that takes part in a migration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceShape {
    /// Schema and table in the live store.
    pub relation: RelationName,
    /// Columns by their live names, and their type names, in the order that the mapping uses.
    pub columns: Vec<(Box<str>, Box<str>)>,
    /// Attributes of an item that the mapping calls otherwise: live name, and the mapping's.
    pub renamed: Vec<(Box<str>, Box<str>)>,
    /// What people call the table: its name, with its schema where two tables have one name.
    pub label: Arc<str>,
}

/// The shapes of source tables as texts, for digests.
pub fn described(sources: &[SourceShape]) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    for source in sources {
        texts.extend([source.relation.schema.to_string(), source.relation.table.to_string()]);
        texts.push(source.columns.len().to_string());
        texts.extend(source.renamed.iter().map(|(_, name)| name.to_string()));
        texts.extend(source.columns.iter().flat_map(|(name, type_name)| [name.to_string(), type_name.to_string()]));
    }
    texts
}

/// The source tables that a notice of the log is about: the one that it names by schema and table; none where the definition has
/// none of that name.
///
/// Notices of older logs name a table as people called it then, without its schema where the definition had no other of that name.
/// They are about all that bear the name now: one that came later was read in a later epoch, and keeps what that says.
pub(super) fn of_notice(sources: &[SourceShape], name: &str) -> Vec<u16> {
    let by = |is: &dyn Fn(&SourceShape) -> bool| {
        (0..).zip(sources).filter(|(_, source)| is(source)).map(|(table, _)| table).collect::<Vec<_>>()
    };
    let named = by(&|source| source.relation.to_string() == name);
    if named.is_empty() { by(&|source| *source.relation.table == *name) } else { named }
}

/// How the events of one relation shape are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Binding {
    /// They belong to a source table.
    Table {
        /// Index of the source table.
        table: u16,
        /// Where its columns stand in the event's rows.
        layout: Layout,
    },
    /// They belong to a source table whose shape has changed; its projection is stopped until someone accepts the change.
    Paused {
        /// Index of the source table.
        table: u16,
        /// What changed, naming columns and types.
        difference: Box<str>,
        /// Whether accepting is enough, or the definition must change first.
        acceptable: Acceptable,
    },
    /// They belong to no table of the migration.
    Unmapped,
}

/// How an event's rows are laid out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Layout {
    /// The source table's column `i` stands at `columns[i]`.
    pub columns: Vec<usize>,
    /// As [`SourceShape::renamed`].
    pub renamed: Vec<(Box<str>, Box<str>)>,
}

/// Whether a changed shape can still be projected with the present definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acceptable {
    /// Every column of the definition is still there: only new ones came.
    Yes,
    /// A column of the definition is gone or has another type.
    No,
}

/// Binds a relation to the source tables; `accepted` tells whether a person accepted this shape.
pub fn bind(sources: &[SourceShape], relation: &Relation, accepted: bool) -> Binding {
    let Some(index) = sources.iter().position(|source| source.relation == relation.name) else {
        return Binding::Unmapped;
    };
    let source = &sources[index];
    let table = u16::try_from(index).expect("a migration has fewer than 65,536 tables");
    let mut columns = Vec::with_capacity(source.columns.len());
    let mut lost = Vec::new();
    for (name, type_name) in &source.columns {
        match relation.columns.iter().position(|column| column.name == *name) {
            Some(place) if relation.columns[place].type_name == *type_name => columns.push(place),
            Some(place) => lost.push(format!("{name} is now {} (was {type_name})", relation.columns[place].type_name)),
            None => lost.push(format!("{name} is gone")),
        }
    }
    let known = |name: &str| source.columns.iter().any(|(column, _)| **column == *name);
    let new =
        relation.columns.iter().filter(|column| !known(&column.name)).map(|column| format!("{} is new", column.name));
    if !lost.is_empty() {
        let difference = lost.into_iter().chain(new).collect::<Vec<_>>().join(", ").into();
        return Binding::Paused { table, difference, acceptable: Acceptable::No };
    }
    let difference: Vec<String> = new.collect();
    if difference.is_empty() || accepted {
        Binding::Table { table, layout: Layout { columns, renamed: source.renamed.clone() } }
    } else {
        Binding::Paused { table, difference: difference.join(", ").into(), acceptable: Acceptable::Yes }
    }
}

/// The row in the order of the source table's columns, its attributes under the mapping's names.
pub fn arrange(mut row: Row, layout: &Layout) -> Row {
    let columns = &layout.columns;
    if row.0.len() != columns.len() || columns.iter().enumerate().any(|(at, &place)| at != place) {
        let mut take =
            |&place: &usize| row.0.get_mut(place).map_or(Cell::Missing, |cell| std::mem::replace(cell, Cell::Missing));
        row = Row(columns.iter().map(&mut take).collect());
    }
    for cell in row.0.iter_mut().filter(|_| !layout.renamed.is_empty()) {
        if let Cell::Value(Value::Map(item)) = cell {
            rename_members(item, &layout.renamed);
        }
    }
    row
}

/// The bindings of all relation shapes met so far.
#[derive(Debug, Default)]
pub struct Bindings(HashMap<SchemaHash, Arc<Binding>>);

impl Bindings {
    /// The binding of a shape, if it was made.
    pub fn get(&self, hash: SchemaHash) -> Option<Arc<Binding>> {
        self.0.get(&hash).cloned()
    }

    /// The binding of a shape, made at its first use.
    pub fn of(&mut self, hash: SchemaHash, make: impl FnOnce() -> Binding) -> Arc<Binding> {
        Arc::clone(self.0.entry(hash).or_insert_with(|| Arc::new(make())))
    }

    /// Forgets all bindings, after a shape was accepted.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Column;

    fn source() -> SourceShape {
        let relation = RelationName { schema: "public".into(), table: "t".into() };
        SourceShape {
            relation,
            columns: vec![("id".into(), "int8".into()), ("u".into(), "text".into())],
            renamed: Vec::new(),
            label: "t".into(),
        }
    }

    fn relation(columns: &[(&str, &str)]) -> Relation {
        let columns = columns.iter().enumerate().map(|(index, (name, type_name))| Column {
            name: (*name).into(),
            type_name: (*type_name).into(),
            key_part: (index == 0).then_some(0),
        });
        Relation { name: source().relation, columns: columns.collect() }
    }

    #[test]
    fn a_notice_is_about_the_table_that_it_names_or_about_all_that_an_older_one_may_mean() {
        let of = |schema: &str, table: &str| SourceShape {
            relation: RelationName { schema: schema.into(), table: table.into() },
            ..source()
        };
        let sources = [of("public", "t"), of("audit", "t"), of("public", "u"), of("", "item")];
        let about = |name: &str| of_notice(&sources, name);
        assert_eq!((about("public.t"), about("audit.t"), about("item")), (vec![0], vec![1], vec![3]));
        assert_eq!((about("t"), about("u")), (vec![0, 1], vec![2]), "as older logs say it");
        assert_eq!((about("gone"), about("audit.u")), (vec![], vec![]));
    }

    #[test]
    fn columns_are_found_by_name_in_any_order() {
        let binding = bind(&[source()], &relation(&[("u", "text"), ("id", "int8")]), false);
        let layout = Layout { columns: vec![1, 0], renamed: Vec::new() };
        assert_eq!(binding, Binding::Table { table: 0, layout });
    }

    #[test]
    fn attributes_go_by_the_mappings_names_and_none_is_lost() {
        let item = |members: &[(&str, i64)]| {
            let members = members.iter().map(|(name, value)| (Box::from(*name), Value::Int(*value)));
            Value::Map(members.collect())
        };
        let layout = Layout { columns: vec![0, 1], renamed: vec![("callId".into(), "id".into())] };
        for (live, arranged) in [
            (item(&[("callId", 1), ("x", 2)]), item(&[("id", 1), ("x", 2)])),
            (item(&[("callId", 1), ("id", 2)]), item(&[("id", 1), ("callId", 2)])),
        ] {
            let row: Row = [Value::Int(1), live].into_iter().collect();
            assert_eq!(arrange(row.clone(), &layout), [Value::Int(1), arranged].into_iter().collect());
        }
    }

    #[test]
    fn a_new_column_waits_for_acceptance_and_a_lost_one_for_the_definition() {
        let wider = relation(&[("id", "int8"), ("u", "text"), ("extra", "int4")]);
        assert!(matches!(bind(&[source()], &wider, false), Binding::Paused { acceptable: Acceptable::Yes, .. }));
        assert!(matches!(bind(&[source()], &wider, true), Binding::Table { .. }));
        for narrower in [relation(&[("id", "int8")]), relation(&[("id", "int4"), ("u", "text")])] {
            assert!(matches!(bind(&[source()], &narrower, true), Binding::Paused { acceptable: Acceptable::No, .. }));
        }
    }
}

//! Compiles `[[query]]`: each read is checked against the target's definition, and none may read a whole table unless it
//! says so.

use std::collections::BTreeSet;

use super::compile::written;
use super::diagnostic::Problems;
use super::plan::{Emit, Migration};
use super::query::{Path, Piece, Query, ReadPlan};
use super::raw;
use super::raw_query::{Query as RawQuery, Read as RawRead, Test as RawTest};
use super::schema::{DynamoKey, DynamoTable, Kind, Store, TargetTableDef};
use super::term::Term;
use crate::event::Value;
use crate::target::{Access, Condition, Direction, Read, TargetTable, Test};

/// Compiles the queries, in the order written.
pub(super) fn queries(migration: &Migration, mapping: &raw::Mapping, problems: &mut Problems) -> Vec<Query> {
    let mut reader = Reader { migration, problems, used: BTreeSet::new(), query: None };
    let mut compiled: Vec<Query> = Vec::new();
    for raw in &mapping.query {
        if compiled.iter().any(|known| *known.name == **raw.name.get_ref()) {
            let message = format!("the query `{}` stands twice", raw.name.get_ref());
            reader.problems.push(raw.name.span(), message, "give one of them another name");
        }
        compiled.extend(reader.query(raw));
    }
    compiled
}

struct Reader<'a> {
    migration: &'a Migration,
    problems: &'a mut Problems,
    /// Parameters that some text uses.
    used: BTreeSet<usize>,
    /// The query at hand.
    query: Option<&'a RawQuery>,
}

impl<'a> Reader<'a> {
    fn query(&mut self, raw: &'a RawQuery) -> Option<Query> {
        (self.used, self.query) = (BTreeSet::new(), Some(raw));
        if raw.read.is_empty() == raw.describe.is_empty() {
            let message =
                format!("the query `{}` must read rows or describe tables, one of the two", raw.name.get_ref());
            self.problems.push(raw.name.span(), message, "add [[query.read]], or describe = [\"TABLE\"]");
            return None;
        }
        let describe = raw.describe.iter().filter_map(|name| self.table(name)).map(|(table, _)| table).collect();
        let mut reads = Vec::new();
        for read in &raw.read {
            reads.extend(self.read(read));
        }
        for (index, name) in raw.parameters.iter().enumerate().filter(|(index, _)| !self.used.contains(index)) {
            let message = format!("nothing uses the parameter `{}`", name.get_ref());
            self.problems.push(
                name.span(),
                message,
                format!("write {{{}}} in a condition, or remove it", raw.parameters[index].get_ref()),
            );
        }
        let mut tables: Vec<TargetTable> =
            reads.iter().flat_map(|plan: &ReadPlan| &plan.reads).map(|read| read.table).collect();
        tables.dedup();
        let mut path = |name: &raw::Name, text: &str| self.path(name, text, &tables);
        let order = raw.order.iter().map(|name| match name.get_ref().strip_suffix(" desc") {
            Some(text) => (path(name, text), Direction::Descending),
            None => (path(name, name.get_ref()), Direction::Ascending),
        });
        let order = order.collect();
        let distinct = raw.distinct.as_ref().map(|name| path(name, name.get_ref()));
        let select = raw.select.iter().map(|name| path(name, name.get_ref())).collect();
        let forms = written(&raw.forms)
            .into_iter()
            .map(|(name, form)| (name.get_ref().as_str().into(), path(&form.iso, form.iso.get_ref())));
        let forms = forms.collect();
        let mut query = Query {
            name: raw.name.get_ref().as_str().into(),
            about: raw.about.as_str().into(),
            parameters: raw.parameters.iter().map(|name| name.get_ref().as_str().into()).collect(),
            reads,
            describe,
            distinct,
            order,
            limit: raw.limit,
            select,
            forms,
        };
        let asked = query.asked();
        query.reads.iter_mut().flat_map(|plan| &mut plan.reads).for_each(|read| read.columns.clone_from(&asked));
        Some(query)
    }

    fn table(&mut self, name: &raw::Name) -> Option<(TargetTable, &'a TargetTableDef)> {
        let tables = &self.migration.targets;
        let Some(index) = tables.iter().position(|table| *table.alias == **name.get_ref()) else {
            let known = tables.iter().map(|table| &*table.alias);
            self.problems.unknown(name.span(), "target table", name.get_ref(), known);
            return None;
        };
        Some((TargetTable(u16::try_from(index).unwrap_or(u16::MAX)), &tables[index]))
    }

    /// A member that is told or compared.
    fn path(&mut self, name: &raw::Name, text: &str, tables: &[TargetTable]) -> Path {
        let path: Path = text.split('.').map(Into::into).collect();
        let first = path.first().map_or("", |first| &**first);
        let mut known = BTreeSet::new();
        for table in tables {
            match self.members(*table) {
                Some(members) => known.extend(members),
                None => return path,
            }
        }
        if !known.contains(first) {
            self.problems.unknown(name.span(), "column or attribute", first, known);
        }
        path
    }

    /// Columns of a table, or attributes that its items can have; `None` where items of the source are carried, with whatever
    /// they have.
    fn members(&self, table: TargetTable) -> Option<Vec<&'a str>> {
        let def = &self.migration.targets[usize::from(table.0)];
        if self.migration.target_store == Store::Postgres {
            return Some(def.columns.iter().map(|column| &*column.name).collect());
        }
        let maps = self.migration.maps.iter().map(|map| &map.emit);
        let groups = self.migration.groups.iter().map(|group| &group.emit);
        let assembled = self.migration.assembly.iter().flat_map(|assembly| {
            [&assembly.events, &assembly.modified].into_iter().chain(assembly.tools.as_ref().map(|tools| &tools.record))
        });
        let emits: Vec<&Emit> = maps.chain(groups).chain(assembled).collect();
        let mut members = Vec::new();
        for emit in emits.into_iter().filter(|emit| emit.table == table) {
            match emit.terms.last() {
                Some(Some(Term::Map { carry: None, members: made, .. })) => {
                    members.extend(made.iter().map(|(name, _)| &**name));
                }
                _ => return None,
            }
        }
        Some(members)
    }

    fn read(&mut self, raw: &RawRead) -> Option<ReadPlan> {
        let mut plan = ReadPlan { rank: raw.rank, reads: Vec::new(), texts: Vec::new() };
        for (place, name) in raw.from.iter().enumerate() {
            let (table, def) = self.table(name)?;
            let texts = self.conditions(raw, name, table)?;
            // Tables that are read alike must take the same arguments for the same kinds of keys.
            if place > 0 && texts.iter().map(|(_, kind)| kind).ne(plan.texts.iter().map(|(_, kind)| kind)) {
                let message = format!("a condition on `{}` is of another type than on the tables before it", def.alias);
                self.problems.push(name.span(), message, "read it in a [[query.read]] of its own");
            }
            let along = self.along(raw, name, table, def)?;
            let conditions = written(&raw.conditions).into_iter().map(|(column, test)| Condition {
                column: column.get_ref().as_str().into(),
                test: if matches!(test, RawTest::Equals(_)) { Test::Equals } else { Test::StartsWith },
                value: Value::Null,
            });
            plan.reads.push(Read {
                table,
                index: raw.index.as_ref().map(|index| index.get_ref().as_str().into()),
                conditions: conditions.collect(),
                along,
                direction: if raw.descending { Direction::Descending } else { Direction::Ascending },
                limit: raw.limit,
                columns: None,
                access: if raw.scan { Access::Scan } else { Access::Key },
            });
            plan.texts = texts;
        }
        Some(plan)
    }

    /// The texts of the conditions, each with what it is compared with in one table.
    fn conditions(&mut self, raw: &RawRead, from: &raw::Name, table: TargetTable) -> Option<Vec<(Vec<Piece>, Kind)>> {
        let mut texts = Vec::new();
        for (column, test) in written(&raw.conditions) {
            let kind = self.kind(column, table)?;
            let (text, begins) = match test {
                RawTest::Equals(text) => (text, false),
                RawTest::StartsWith(text) => (text, true),
            };
            let comparable = matches!(kind, Kind::Text | Kind::Int | Kind::Decimal | Kind::Uuid | Kind::Bool);
            if (begins && kind != Kind::Text) || !comparable {
                let message = format!(
                    "`{}` of `{}` is {}: it cannot be compared so",
                    column.get_ref(),
                    from.get_ref(),
                    kind.word()
                );
                self.problems.push(
                    column.span(),
                    message,
                    "use a text, a number, a UUID or a truth value; only a text begins with another",
                );
                return None;
            }
            texts.push((self.text(column, text)?, kind));
        }
        Some(texts)
    }

    /// What a column or attribute holds: of a DynamoDB table, text for an attribute that is in no key.
    fn kind(&mut self, column: &raw::Name, table: TargetTable) -> Option<Kind> {
        let def = &self.migration.targets[usize::from(table.0)];
        if let Some(dynamo) = self.migration.dynamo.get(usize::from(table.0)) {
            let keys = dynamo.key.iter().chain(dynamo.indexes.iter().flat_map(|index| &index.key));
            let kind = keys.into_iter().find(|key| *key.name == **column.get_ref()).map(|key| key.kind);
            return Some(kind.unwrap_or(Kind::Text));
        }
        match def.column(column.get_ref()) {
            Some(index) => Some(def.columns[index].kind),
            None => {
                let known = def.columns.iter().map(|column| &*column.name);
                self.problems.unknown(column.span(), &format!("column of `{}`", def.alias), column.get_ref(), known);
                None
            }
        }
    }

    /// A text with parameters in it.
    fn text(&mut self, column: &raw::Name, text: &str) -> Option<Vec<Piece>> {
        let parameters: Vec<&str> = self.query?.parameters.iter().map(|name| name.get_ref().as_str()).collect();
        let Some(pieces) = holes(text) else {
            self.problems.push(column.span(), "a brace of this text opens no parameter", "write {parameter}");
            return None;
        };
        let mut compiled = Vec::new();
        for (before, name) in pieces {
            if !before.is_empty() {
                compiled.push(Piece::Text(before.into()));
            }
            let Some(name) = name else { continue };
            let Some(index) = parameters.iter().position(|known| *known == name) else {
                self.problems.unknown(column.span(), "parameter", name, parameters);
                return None;
            };
            self.used.insert(index);
            compiled.push(Piece::Parameter(index));
        }
        Some(compiled)
    }

    /// Checks that a key or an index leads to the rows, and tells which columns order them.
    fn along(
        &mut self,
        raw: &RawRead,
        from: &raw::Name,
        table: TargetTable,
        def: &TargetTableDef,
    ) -> Option<Vec<Box<str>>> {
        match self.migration.dynamo.get(usize::from(table.0)) {
            Some(dynamo) => self.by_dynamo(raw, from, dynamo).map(|()| Vec::new()),
            None => self.by_postgres(raw, from, def),
        }
    }

    fn by_dynamo(&mut self, raw: &RawRead, from: &raw::Name, table: &DynamoTable) -> Option<()> {
        let key: &[DynamoKey] = match &raw.index {
            None => &table.key,
            Some(name) => match table.indexes.iter().find(|index| *index.name == **name.get_ref()) {
                Some(index) => &index.key,
                None => {
                    let known = table.indexes.iter().map(|index| &*index.name);
                    self.problems.unknown(name.span(), &format!("index of `{}`", table.alias), name.get_ref(), known);
                    return None;
                }
            },
        };
        if raw.scan {
            return Some(());
        }
        let hash = key.first()?;
        let led = raw
            .conditions
            .iter()
            .any(|(name, test)| *hash.name == **name.get_ref() && matches!(test, RawTest::Equals(_)));
        let other = raw.conditions.keys().find(|name| key.iter().all(|part| *part.name != **name.get_ref()));
        if !led {
            let message = format!("no condition gives `{}`, the hash key of `{}`", hash.name, table.alias);
            self.problems.push(from.span(), message, fix_scan(&hash.name));
            return None;
        }
        if let Some(other) = other {
            let message = format!("`{}` is not in the key that is read", other.get_ref());
            self.problems.push(other.span(), message, "read through an index that has it, or say scan = true");
            return None;
        }
        Some(())
    }

    fn by_postgres(&mut self, raw: &RawRead, from: &raw::Name, def: &TargetTableDef) -> Option<Vec<Box<str>>> {
        if let Some(index) = &raw.index {
            let fix = "take it out: give the index's first columns under where";
            self.problems.push(index.span(), "Postgres chooses its index itself", fix);
            return None;
        }
        let primary: Vec<Box<str>> = def.key.iter().map(|column| def.columns[*column].name.clone()).collect();
        let given = |column: &str| raw.conditions.keys().any(|name| name.get_ref() == column);
        let lead = |columns: &&Vec<Box<str>>| columns.iter().take_while(|column| given(column)).count();
        let known = [&primary].into_iter().chain(&def.uniques).chain(&def.indexes);
        // Of several that lead as far the first: the primary key.
        let known: Vec<&Vec<Box<str>>> = known.collect();
        let best = known.into_iter().rev().max_by_key(lead).filter(|columns| lead(columns) > 0);
        match best {
            Some(columns) => {
                Some(columns.iter().chain(primary.iter().filter(|key| !columns.contains(key))).cloned().collect())
            }
            None if raw.scan => Some(primary),
            None => {
                let message = format!("no key or index of `{}` begins with a column that a condition gives", def.alias);
                self.problems.push(from.span(), message, fix_scan(primary.first().map_or("", |first| first)));
                None
            }
        }
    }
}

/// A text cut at `{name}`: what stands before each name, and last what stands after all; `None` when a brace does not close.
fn holes(text: &str) -> Option<Vec<(&str, Option<&str>)>> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}')?;
        found.push((before, Some(name)));
        rest = after;
    }
    found.push((rest, None));
    Some(found)
}

/// What to do about a read that nothing leads.
fn fix_scan(column: &str) -> String {
    format!("add `{column} = …` under where, or say scan = true to read the whole table")
}

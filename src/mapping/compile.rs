//! From the files as written to the migration they mean, once; every problem is noted, none stops the others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use uuid::Uuid;

use super::case;
use super::compile_item::Destination;
use super::compile_tables::{source_tables, unknown_column};
use super::compile_term::{Cases, Compiler, Names, OF_ASSEMBLY, Setting, Sort, Totals, Used};
use super::diagnostic::{LoadError, Problem, Problems, SourceFile};
use super::plan::{Emit, Migration, Requirement, RowMap, Scope, Synthesise};
use super::plan_place::{PartRule, TablePlan};
use super::schema::{ColumnDef, Kind, Nullable, SourceTable, SourceTableDef, Store, TargetTableDef};
use super::term::{Output, Term};
use super::{check, compile_assembly, compile_group, compile_place, compile_query, compile_shapes, ddl, dynamo, raw};
use crate::target::TargetTable;

/// The word for a legacy store that is DynamoDB.
pub(super) const DYNAMODB: &str = "dynamodb";

/// Reasons that rehome itself gives, so that every mapping must declare a scope for them.
pub(super) mod reason {
    /// A text that the target cannot hold.
    pub(in crate::mapping) const NOT_STORABLE: &str = "not_storable";
    /// A document that does not read.
    pub(in crate::mapping) const UNREADABLE: &str = "unreadable_json";
    /// A number that DynamoDB cannot hold.
    pub(in crate::mapping) const NUMBER: &str = "number_out_of_range";
    /// An attribute of another type than its place asks for.
    pub(in crate::mapping) const ATTRIBUTE: &str = "attribute_type";
    /// A key longer than DynamoDB takes.
    pub(in crate::mapping) const KEY_LENGTH: &str = "key_too_long";
    /// Two rows for one target key.
    pub(in crate::mapping) const KEY_COLLISION: &str = "key_collision";
}

/// The texts of a migration's files.
#[derive(Debug, Clone)]
pub struct Sources {
    /// `legacy.toml`.
    pub legacy: SourceFile,
    /// `mapping.toml`.
    pub mapping: SourceFile,
    /// `target.sql`, or `target.toml` for DynamoDB; told apart by the name.
    pub target: SourceFile,
    /// `cases/*.toml`, in order of name.
    pub cases: Vec<SourceFile>,
}

impl Migration {
    /// Compiles a migration from its texts.
    ///
    /// # Errors
    /// [`LoadError`] with every problem found.
    pub fn compile(sources: &Sources) -> Result<Self, LoadError> {
        let mut found = Vec::new();
        let legacy: Option<raw::Legacy> = parse(&sources.legacy, &mut found);
        let mapping: Option<raw::Mapping> = parse(&sources.mapping, &mut found);
        let (dynamo, targets, problems) = match sources.target_store() {
            Store::DynamoDb => dynamo::read(&sources.target),
            Store::Postgres => {
                let (targets, problems) = ddl::read(&sources.target);
                (Vec::new(), targets, problems)
            }
        };
        found.extend(problems);
        let fail = |problems: Vec<Problem>| {
            let migration = sources.mapping.name.trim_end_matches("/mapping.toml").to_owned();
            Err(LoadError { migration, problems })
        };
        let (Some(legacy), Some(mapping)) = (legacy, mapping) else { return fail(found) };
        let mut of_legacy = Problems::new(sources.legacy.clone());
        let tables = source_tables(&legacy, &mapping, &mut of_legacy);
        let mut of_mapping = Problems::new(sources.mapping.clone());
        let mut used = Used::new();
        let mut migration = frame(sources, &mapping, (tables, targets), &mut of_mapping);
        migration.dynamo = dynamo;
        if legacy.source.get_ref() == DYNAMODB {
            migration.source_store = Store::DynamoDb;
        }
        shapes(&mut migration, &mapping, &mut of_mapping, &mut used);
        if of_mapping.count() == 0 {
            check::columns_accounted(&legacy, &migration, &used, &mut of_legacy);
        }
        found.extend(of_legacy.into_found());
        found.extend(of_mapping.into_found());
        if found.is_empty() {
            let mut problems = Problems::new(sources.mapping.clone());
            migration.queries = compile_query::queries(&migration, &mapping, &mut problems);
            found.extend(problems.into_found());
            migration.cases = case::compile(&migration, &mapping, sources, &mut found);
        }
        if found.is_empty() { Ok(migration) } else { fail(found) }
    }
}

/// Reads TOML into its raw form; a problem is noted with its place.
pub(super) fn parse<T: serde::de::DeserializeOwned>(file: &SourceFile, found: &mut Vec<Problem>) -> Option<T> {
    parse_toml(file, "docs/mapping.md", found)
}

/// As [`parse`], for a file whose language another page describes.
pub(crate) fn parse_toml<T: serde::de::DeserializeOwned>(
    file: &SourceFile,
    page: &str,
    found: &mut Vec<Problem>,
) -> Option<T> {
    match toml::from_str(&file.text) {
        Ok(parsed) => Some(parsed),
        Err(error) => {
            let message = error.message().lines().next().unwrap_or("not TOML").to_owned();
            let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
            let fix = match quoted.split_first() {
                Some((name, known)) if message.starts_with("unknown") && !known.is_empty() => {
                    super::diagnostic::suggestion(name, known.iter().copied())
                }
                _ => format!("write it as {page} describes"),
            };
            found.push(Problem { file: file.clone(), span: error.span().unwrap_or(0..0), message, fix });
            None
        }
    }
}

/// The members of a named collection in the order written.
pub(super) fn written<T>(named: &raw::Named<T>) -> Vec<(&raw::Name, &T)> {
    let mut members: Vec<_> = named.iter().collect();
    members.sort_by_key(|(name, _)| name.span().start);
    members
}

/// Everything of a migration but its shapes and cases.
fn frame(
    sources: &Sources,
    mapping: &raw::Mapping,
    (tables, targets): (Vec<SourceTableDef>, Vec<TargetTableDef>),
    problems: &mut Problems,
) -> Migration {
    let namespace = Uuid::try_parse(mapping.namespace.get_ref()).unwrap_or_else(|_| {
        problems.push(mapping.namespace.span(), "the namespace is no UUID", "draw one once and keep it");
        Uuid::nil()
    });
    for (name, column) in &mapping.time {
        match tables.iter().find(|table| *table.alias == **name.get_ref()) {
            None => problems.unknown(name.span(), "table", name.get_ref(), tables.iter().map(|table| &*table.alias)),
            Some(table) => timed(table, column, problems),
        }
    }
    let texts = |named: &raw::Named<String>| -> BTreeMap<Box<str>, Box<str>> {
        named.iter().map(|(name, text)| (name.get_ref().as_str().into(), text.as_str().into())).collect()
    };
    let mut quarantine = BTreeMap::new();
    for (name, scope) in &mapping.quarantine {
        quarantine.insert(Box::from(name.get_ref().as_str()), scope_of(scope, problems));
    }
    let number = (sources.target_store() == Store::DynamoDb).then_some(reason::NUMBER);
    for builtin in [reason::NOT_STORABLE, reason::UNREADABLE, reason::KEY_COLLISION].into_iter().chain(number) {
        let declared = mapping.quarantine.iter().find(|(name, _)| name.get_ref() == builtin);
        match declared {
            None => problems.push(
                mapping.migration.span(),
                format!("the reason `{builtin}` has no scope"),
                format!("add it under [quarantine]: {builtin} = \"unit\""),
            ),
            Some((_, scope)) if scope.get_ref() == "row" && mapping.assembly.is_some() => {
                let message = format!("with an assembly `{builtin}` cannot hold back a row alone");
                problems.push(scope.span(), message, "use `unit`");
            }
            Some(_) => {}
        }
    }
    Migration {
        name: mapping.migration.get_ref().as_str().into(),
        namespace,
        foreign: scope_of(&mapping.foreign, problems),
        sources: tables,
        targets,
        target_sql: if sources.target_store() == Store::Postgres {
            Arc::clone(&sources.target.text)
        } else {
            "".into()
        },
        target_store: sources.target_store(),
        source_store: Store::Postgres,
        dynamo: Vec::new(),
        generation: generation(sources),
        quarantine,
        reasons: written(&mapping.quarantine).into_iter().map(|(name, _)| name.get_ref().as_str().into()).collect(),
        drop: texts(&mapping.drop),
        count: texts(&mapping.count),
        dropped_parts: texts(&mapping.dropped_parts).into_iter().collect(),
        tables: Vec::new(),
        references: Vec::new(),
        totals: mapping.total.keys().map(|name| name.get_ref().as_str().into()).collect(),
        maps: Vec::new(),
        groups: Vec::new(),
        assembly: None,
        requirements: Vec::new(),
        cases: Vec::new(),
        queries: Vec::new(),
    }
}

/// Checks that the time of a table's rows is always there: one without would be behind no other, and nobody would be told.
fn timed(table: &SourceTableDef, column: &raw::Name, problems: &mut Problems) {
    let found = table.column(column.get_ref()).map(|index| &table.columns[index]);
    if let Some(found) = found.filter(|found| found.nullable == Nullable::Yes) {
        let (table, column_name) = (&table.alias, &found.name);
        let message = format!(
            "the column `{column_name}` of `{table}` may be NULL, and then nobody knows when its row was written"
        );
        problems.push(column.span(), message, "name a column that is NOT NULL");
    }
}

fn scope_of(name: &raw::Name, problems: &mut Problems) -> Scope {
    match name.get_ref().as_str() {
        "row" => Scope::Row,
        "unit" => Scope::Unit,
        other => {
            problems.unknown(name.span(), "scope", other, ["row", "unit"]);
            Scope::Unit
        }
    }
}

/// Digest of the files without comments, layout, examples and queries. Its number grows when the language comes to mean something
/// else: everything is evaluated again then.
fn generation(sources: &Sources) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("rehome mapping generation v2");
    for file in [&sources.legacy, &sources.mapping] {
        let mut table = toml::from_str::<toml::Table>(&file.text).unwrap_or_default();
        for examples in ["case", "defaults", "query"] {
            table.remove(examples);
        }
        let text = table.to_string();
        hasher.update(&(text.len() as u64).to_be_bytes()).update(text.as_bytes());
    }
    match sources.target_store() {
        Store::Postgres => hasher.update(sources.target.text.as_bytes()),
        Store::DynamoDb => {
            let table = toml::from_str::<toml::Table>(&sources.target.text).unwrap_or_default();
            hasher.update(table.to_string().as_bytes())
        }
    };
    *hasher.finalize().as_bytes()
}

impl Sources {
    /// The kind of store that the target's definition is for.
    fn target_store(&self) -> Store {
        if self.target.name.ends_with(".toml") { Store::DynamoDb } else { Store::Postgres }
    }
}

/// Compiles the shapes into the frame and checks that they produce the target whole.
fn shapes(migration: &mut Migration, mapping: &raw::Mapping, problems: &mut Problems, used: &mut Used) {
    let mut cases = Cases::new();
    for (name, table) in &mapping.cases {
        let entries = table.iter().map(|(from, to)| (from.get_ref().as_str().into(), to.as_str().into())).collect();
        cases.insert(name.get_ref().clone(), Arc::new(entries));
    }
    let mut names = Names {
        cases,
        lets: &mapping.lets,
        constants: mapping.constants.iter().map(|(name, raw)| (name.get_ref().as_str(), raw)).collect(),
        references: BTreeMap::new(),
        totals: mapping.total.keys().map(|name| name.get_ref().as_str()).collect(),
        assembly: mapping.assembly.as_ref().map(raw::Spanned::get_ref),
        quarantine: mapping.quarantine.keys().map(|name| name.get_ref().as_str()).collect(),
    };
    compile_shapes::check(mapping, &migration.sources, problems);
    let mut compiler = Compiler { problems, used, named: BTreeSet::new(), aggregates: None, resolving: Vec::new() };
    let (references, referable) = compile_place::references(mapping, &migration.sources, &names, &mut compiler);
    names.references = referable;
    migration.references = references;
    let mut shaper = Shaper { migration, names: &names, compiler, left: BTreeSet::new() };
    let tables = compile_place::tables(&mut shaper, mapping);
    let compiler = shaper.compiler;
    migration.tables = tables;
    let mut shaper = Shaper { migration, names: &names, compiler, left: BTreeSet::new() };
    let maps: Vec<RowMap> = mapping.map.iter().filter_map(|map| shaper.row_map(map)).collect();
    let groups = mapping.group.iter().filter_map(|group| compile_group::compile(&mut shaper, group)).collect();
    let assembly = mapping.assembly.as_ref().and_then(|raw| compile_assembly::compile(&mut shaper, raw.get_ref()));
    let requirements: Vec<Requirement> = mapping.require.iter().filter_map(|raw| shaper.requirement(raw)).collect();
    let Shaper { compiler, left, .. } = shaper;
    let named = compiler.named;
    migration.requirements = requirements;
    migration.maps = maps;
    migration.groups = groups;
    migration.assembly = assembly;
    admission(migration, used);
    check::unused(&named, mapping, problems);
    if problems.count() == 0 {
        check::whole(migration, mapping, &left, problems);
    }
}

/// Tells each table which of its columns are read, and what its rows must pass before a shape takes them.
fn admission(migration: &mut Migration, used: &Used) {
    for index in 0..migration.sources.len() {
        let table = SourceTable(u16::try_from(index).unwrap_or(u16::MAX));
        let maps =
            migration.maps.iter().filter(|map| map.from == table).flat_map(|map| map.emit.terms.iter().flatten());
        let groups = migration.groups.iter().filter(|group| group.from == table).flat_map(|group| {
            let sums = group.totals.iter().map(|(_, term)| term);
            let aggregates = group.aggregates.iter().flat_map(|found| std::iter::once(&found.of).chain(&found.filter));
            group.emit.terms.iter().flatten().chain(&group.by).chain(&group.order).chain(sums).chain(aggregates)
        });
        let counted = migration.tables[index].counted.iter().map(|(_, condition)| condition);
        let assembled = migration.assembly.iter().flat_map(|assembly| assembly.terms_over(table));
        let refusing = compile_place::refusing(maps.chain(groups).chain(counted).chain(assembled));
        let def = &migration.sources[index];
        let read = |column: &usize| used.contains(&(def.alias.clone(), *column));
        let read = (0..def.columns.len()).filter(read).collect();
        let plan: &mut TablePlan = &mut migration.tables[index];
        (plan.refusing, plan.read) = (refusing, read);
        plan.placing = plan.placed_by(&def.key);
        let lone = migration.lone_map(table);
        migration.tables[index].lone = lone;
        migration.tables[index].copied = migration.copied_columns(table);
    }
}

/// Compiles shapes: knows both sides and the reasons.
pub(super) struct Shaper<'a, 'p> {
    pub migration: &'a Migration,
    pub names: &'a Names<'a>,
    pub compiler: Compiler<'p>,
    /// Target columns that some shape leaves NULL, with a reason.
    pub left: BTreeSet<(Box<str>, usize)>,
}

impl<'a> Shaper<'a, '_> {
    /// The source table of a name.
    pub(super) fn source(&mut self, name: &raw::Name) -> Option<(SourceTable, &'a SourceTableDef)> {
        let tables = &self.migration.sources;
        let Some(index) = tables.iter().position(|table| *table.alias == **name.get_ref()) else {
            let known = tables.iter().map(|table| &*table.alias);
            self.compiler.problems.unknown(name.span(), "table", name.get_ref(), known);
            return None;
        };
        Some((SourceTable(u16::try_from(index).unwrap_or(u16::MAX)), &tables[index]))
    }

    /// A reason of dropping, or a count, that the mapping declares.
    pub(super) fn declared(&mut self, name: &raw::Name, what: &str, known: &BTreeMap<Box<str>, Box<str>>) -> Box<str> {
        self.compiler.named.insert(name.get_ref().clone());
        if !known.contains_key(name.get_ref().as_str()) {
            let declared = known.keys().map(|key| &**key);
            self.compiler.problems.unknown(name.span(), what, name.get_ref(), declared);
        }
        name.get_ref().as_str().into()
    }

    /// Compiles the terms of a target table's rows and checks them against its columns.
    pub(super) fn emit(
        &mut self,
        to: &raw::Name,
        columns: &raw::Named<raw::Placed>,
        place: Setting<'_>,
    ) -> Option<Emit> {
        self.emit_carrying(to, columns, None, place)
    }

    /// Compiles the terms of a target table's rows; `carrying` says what of a DynamoDB item goes along.
    fn emit_carrying(
        &mut self,
        to: &raw::Name,
        columns: &raw::Named<raw::Placed>,
        carrying: Option<&raw::RowMap>,
        place: Setting<'_>,
    ) -> Option<Emit> {
        let targets = &self.migration.targets;
        let Some(index) = targets.iter().position(|table| *table.alias == **to.get_ref()) else {
            let known = targets.iter().map(|table| &*table.alias);
            self.compiler.problems.unknown(to.span(), "target table", to.get_ref(), known);
            return None;
        };
        let table = &targets[index];
        if let Some(dynamo) = self.migration.dynamo.get(index) {
            let table = TargetTable(u16::try_from(index).unwrap_or(u16::MAX));
            return self.item(&Destination { to, table, dynamo, carrying }, columns, place);
        }
        let mut terms = vec![None; table.columns.len()];
        let mut failed = false;
        for (name, raw) in written(columns) {
            let Some(at) = table.column(name.get_ref()) else {
                let known = table.columns.iter().map(|column| &*column.name);
                self.compiler.problems.unknown(
                    name.span(),
                    &format!("column of `{}`", table.name),
                    name.get_ref(),
                    known,
                );
                continue;
            };
            match self.compiler.term(raw, place) {
                Some((term, sort))
                    if self.fits(raw, sort, &table.columns[at])
                        && self.labelled(raw, &term, &table.columns[at])
                        && self.carried(raw, &term, &table.columns[at], place) =>
                {
                    terms[at] = Some(term);
                }
                _ => failed = true,
            }
        }
        for (column, term) in table.columns.iter().zip(&terms) {
            if term.is_none() && column.nullable == Nullable::No && !failed {
                self.compiler.problems.push(
                    to.span(),
                    format!("`{}.{}` is NOT NULL and gets no value", table.name, column.name),
                    format!("add `{} = …` under columns", column.name),
                );
            }
        }
        Some(Emit { table: TargetTable(u16::try_from(index).unwrap_or(u16::MAX)), terms })
    }

    /// Notes target columns that a shape leaves NULL.
    pub(super) fn left(&mut self, to: &raw::Name, columns: &raw::Named<raw::Placed>, left: &raw::Named<String>) {
        let Some(table) = self.migration.targets.iter().find(|table| *table.alias == **to.get_ref()) else { return };
        for name in left.keys() {
            let Some(column) = table.column(name.get_ref()) else {
                let known = table.columns.iter().map(|column| &*column.name);
                let what = format!("column of `{}`", table.name);
                self.compiler.problems.unknown(name.span(), &what, name.get_ref(), known);
                continue;
            };
            if columns.contains_key(name) {
                let message = format!("`{}` is left NULL, and yet a term gives it a value", name.get_ref());
                self.compiler.problems.push(name.span(), message, "take it out of one of the two");
            }
            self.left.insert((table.name.clone(), column));
        }
    }

    fn fits(&mut self, raw: &raw::Placed, sort: Sort, column: &ColumnDef) -> bool {
        if sort.kind != column.kind {
            let message = format!("this is {}, the column `{}` is {}", sort.kind.word(), column.name, column.type_name);
            let fix =
                if column.kind == Kind::Text { "wrap it: { text = … }" } else { "use a term of the column's type" };
            self.compiler.problems.push(raw.span(), message, fix);
            return false;
        }
        if sort.nullable == Nullable::Yes && column.nullable == Nullable::No {
            let message = format!("this may be null, the column `{}` is NOT NULL", column.name);
            self.compiler.problems.push(raw.span(), message, "add a last resort: { first = [ …, \"…\" ] }");
            return false;
        }
        true
    }

    /// Checks that a term for a column of an enum gives nothing but its labels.
    fn labelled(&mut self, raw: &raw::Placed, term: &Term, column: &ColumnDef) -> bool {
        if column.labels.is_empty() {
            return true;
        }
        let labels = column.labels.iter().map(|label| &**label);
        match term.texts() {
            None => {
                let fix = "use a literal, or a table of cases with `refuse`";
                let message = format!("this may be a text that is no label of `{}`", column.name);
                self.compiler.problems.push(raw.span(), message, fix);
                false
            }
            Some(texts) => match texts.iter().find(|text| !column.labels.iter().any(|label| **label == ***text)) {
                Some(text) => {
                    self.compiler.problems.unknown(raw.span(), &format!("label of `{}`", column.name), text, labels);
                    false
                }
                None => true,
            },
        }
    }

    /// Checks that a column of a type without a kind takes nothing but a column of the same type: any other text might be none
    /// of its values, or not written as the server writes it.
    fn carried(&mut self, raw: &raw::Placed, term: &Term, column: &ColumnDef, place: Setting<'_>) -> bool {
        let Some(wanted) = column.carried_type() else { return true };
        let same = match (term, place.table) {
            (Term::Column(index), Some(table)) => table.columns[*index].carried_type().as_ref() == Some(&wanted),
            _ => false,
        };
        if !same {
            let message = format!("the column `{}` is {wanted}, and this is no column of that type", column.name);
            let fix = "name one, declared as such in legacy.toml (`TYPE as text`), or make the target's column text";
            self.compiler.problems.push(raw.span(), message, fix);
        }
        same
    }

    fn row_map(&mut self, raw: &raw::RowMap) -> Option<RowMap> {
        let (from, table) = self.source(&raw.from)?;
        let mut outputs = vec![(Output::Unit, Sort::always(Kind::Text))];
        let totals = match self.migration.tables[usize::from(from.0)].part {
            PartRule::Whole => Totals::Seen,
            PartRule::Row | PartRule::Group(_) => Totals::Unseen,
        };
        if totals == Totals::Seen && self.names.assembly.is_some() {
            outputs.extend(OF_ASSEMBLY);
        }
        let place = Setting { outputs: &outputs, totals, ..Setting::row(table, self.names) };
        let emit = self.emit_carrying(&raw.to, &raw.columns, Some(raw), place);
        if self.migration.target_store == Store::Postgres {
            for name in raw.drop.keys().chain(raw.added.keys()) {
                let fix = "name columns of Postgres under drop of their table in legacy.toml";
                self.compiler.problems.push(name.span(), "only items of DynamoDB are carried whole", fix);
            }
        }
        self.left(&raw.to, &raw.columns, &raw.left);
        let synthesise = match &raw.synthesise {
            Some(raw) => Some(self.synthesise(raw, table)?),
            None => None,
        };
        Some(RowMap { from, emit: emit?, synthesise })
    }

    fn synthesise(&mut self, raw: &raw::Synthesise, table: &SourceTableDef) -> Option<Synthesise> {
        let outputs = [(Output::Unit, Sort::always(Kind::Text)), (Output::Earliest, Sort::always(Kind::Timestamp))];
        let place = Setting { table: None, outputs: &outputs, names: self.names, totals: Totals::Unseen };
        let mut values = Vec::new();
        for (name, raw) in written(&raw.values) {
            let Some(index) = table.column(name.get_ref()) else {
                unknown_column(name, table, self.compiler.problems);
                continue;
            };
            let (term, sort) = self.compiler.term(raw, place)?;
            if self.fits(raw, sort, &table.columns[index]) {
                values.push((index, term));
            }
        }
        for (index, column) in table.columns.iter().enumerate() {
            let dropped = table.dropped.iter().any(|(name, _)| *name == column.name);
            if column.nullable == Nullable::No && !dropped && !values.iter().any(|(filled, _)| *filled == index) {
                let fix = format!("add `{} = …` under values", column.name);
                let message = format!("`{}` is never null and gets no value", column.name);
                self.compiler.problems.push(raw.count.span(), message, fix);
            }
        }
        let count = self.declared(&raw.count, "count", &self.migration.count);
        Some(Synthesise { count, values })
    }
}

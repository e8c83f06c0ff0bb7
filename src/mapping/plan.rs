//! What a migration's files mean: the compiled form that [`evaluate`](super::evaluate) runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use super::case::Case;
use super::plan_place::{Group, Reference, TablePlan};
use super::query::Query;
use super::schema::{DynamoTable, SourceTable, SourceTableDef, Store, TargetTableDef};
use super::term::{Output, Term};
use crate::event::{Key, Value};
use crate::target::TargetTable;

/// What a reason holds back (I6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The row alone.
    Row,
    /// The row's whole unit.
    Unit,
}

/// A migration, checked: everything in it refers to something that is there.
#[derive(Debug, Clone)]
pub struct Migration {
    pub(super) name: Box<str>,
    pub(super) namespace: Uuid,
    pub(super) foreign: Scope,
    pub(super) sources: Vec<SourceTableDef>,
    pub(super) targets: Vec<TargetTableDef>,
    pub(super) target_sql: Arc<str>,
    pub(super) source_store: Store,
    pub(super) target_store: Store,
    /// The target's tables where it is DynamoDB, as `targets` has them.
    pub(super) dynamo: Vec<DynamoTable>,
    pub(super) generation: [u8; 32],
    pub(super) quarantine: BTreeMap<Box<str>, Scope>,
    /// Reasons of quarantine in the order written.
    pub(super) reasons: Vec<Box<str>>,
    pub(super) drop: BTreeMap<Box<str>, Box<str>>,
    pub(super) count: BTreeMap<Box<str>, Box<str>>,
    pub(super) dropped_parts: Vec<(Box<str>, Box<str>)>,
    /// How rows are placed, by source table.
    pub(super) tables: Vec<TablePlan>,
    pub(super) references: Vec<Reference>,
    /// Sums of a unit.
    pub(super) totals: Vec<Box<str>>,
    pub(super) maps: Vec<RowMap>,
    pub(super) groups: Vec<Group>,
    pub(super) assembly: Option<Assembly>,
    pub(super) requirements: Vec<Requirement>,
    pub(super) cases: Vec<Case>,
    pub(super) queries: Vec<Query>,
}

/// A row that the target must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// Target table, which may be the application's own.
    pub table: Box<str>,
    /// What the row has in some columns; of a DynamoDB table, in those of its key, in order.
    pub columns: Vec<(Box<str>, Value)>,
}

impl Migration {
    /// Name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Tables of the legacy store; a [`SourceTable`] is an index into them.
    pub fn source_tables(&self) -> &[SourceTableDef] {
        &self.sources
    }

    /// Tables of the target, parents first; a [`TargetTable`] is an index into them.
    pub fn target_tables(&self) -> &[TargetTableDef] {
        &self.targets
    }

    /// The kind of store that is migrated from.
    pub fn source_store(&self) -> Store {
        self.source_store
    }

    /// The kind of store that is migrated to.
    pub fn target_store(&self) -> Store {
        self.target_store
    }

    /// Tables of a DynamoDB target with keys and indexes, as [`target_tables`](Self::target_tables) has them; none where the
    /// target is another store.
    pub fn dynamo_tables(&self) -> &[DynamoTable] {
        &self.dynamo
    }

    /// The target's DDL, to be executed as it stands; empty where the target is not Postgres.
    pub fn target_sql(&self) -> &str {
        &self.target_sql
    }

    /// Digest of what the files mean for rows: comments, layout and examples do not count.
    pub fn generation(&self) -> [u8; 32] {
        self.generation
    }

    /// What a target row that someone else wrote holds back.
    pub fn foreign_scope(&self) -> Scope {
        self.foreign
    }

    /// What a reason of quarantine holds back; `None` for a reason that the mapping does not declare.
    pub fn quarantine_scope(&self, reason: &str) -> Option<Scope> {
        self.quarantine.get(reason).copied()
    }

    /// Reasons for which rows are dropped, each with what it means.
    pub fn drop_reasons(&self) -> impl Iterator<Item = (&str, &str)> {
        self.drop.iter().map(|(name, meaning)| (&**name, &**meaning))
    }

    /// The column of a target table that names the unit in every row that the mapping yields; `None` when there is none.
    pub fn target_unit_column(&self, table: TargetTable) -> Option<usize> {
        let maps = self.maps.iter().map(|map| (Some(map.from), &map.emit));
        let assembled = self.assembly.iter().flat_map(|assembly| {
            let tools = assembly.tools.iter().map(|tools| (Some(tools.from), &tools.record));
            [(None, &assembly.events), (None, &assembly.modified)].into_iter().chain(tools)
        });
        let groups = self.groups.iter().map(|group| (Some(group.from), &group.emit));
        let emits: Vec<_> = maps.chain(assembled).chain(groups).filter(|(_, emit)| emit.table == table).collect();
        let names_unit = |from: Option<SourceTable>, term: Option<&Term>| match term {
            Some(Term::Output(Output::Unit, path)) => path.is_empty(),
            Some(Term::Column(column)) => {
                from.is_some_and(|from| self.sources[usize::from(from.0)].unit == Some(*column))
            }
            _ => false,
        };
        let width = self.targets.get(usize::from(table.0))?.columns.len();
        (0..width).find(|&column| {
            !emits.is_empty()
                && emits.iter().all(|(from, emit)| names_unit(*from, emit.terms.get(column).and_then(Option::as_ref)))
        })
    }

    /// Things counted, each with what it means.
    pub fn counts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.count.iter().map(|(name, meaning)| (&**name, &**meaning))
    }

    /// Parts of documents that no target row shows, each with the reason.
    pub fn dropped_parts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.dropped_parts.iter().map(|(name, reason)| (&**name, &**reason))
    }

    /// The source table of a live schema and name.
    pub fn source_table(&self, schema: &str, name: &str) -> Option<SourceTable> {
        let found = self.sources.iter().position(|table| &*table.schema == schema && &*table.name == name)?;
        u16::try_from(found).ok().map(SourceTable)
    }

    /// The key of a row; values of columns that the row does not have are left out.
    pub fn key_of(&self, table: SourceTable, values: &[Value]) -> Key {
        let columns = self.sources.get(usize::from(table.0)).map_or(&[][..], |table| &table.key);
        Key(columns.iter().filter_map(|column| values.get(*column).cloned()).collect())
    }

    /// Rows that the target must have before anything is written.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// The examples.
    pub fn cases(&self) -> &[Case] {
        &self.cases
    }
}

/// Target rows by terms, one for each column; a column without term is NULL.
#[derive(Debug, Clone)]
pub(super) struct Emit {
    pub table: TargetTable,
    pub terms: Vec<Option<Term>>,
}

/// One row becomes one row.
#[derive(Debug, Clone)]
pub(super) struct RowMap {
    pub from: SourceTable,
    pub emit: Emit,
    pub synthesise: Option<Synthesise>,
}

/// A made-up source row.
#[derive(Debug, Clone)]
pub(super) struct Synthesise {
    pub count: Box<str>,
    pub values: Vec<(usize, Term)>,
}

/// Which of two variants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Side {
    /// Before policies.
    Original = 0,
    /// After policies.
    Final = 1,
}

/// What a row of the stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum RowClass {
    /// Opens a turn.
    Request,
    /// A piece of a response.
    Chunk(Side),
    /// The end of a response, or one of several ends.
    Completion,
}

/// A published form of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Wire {
    /// OpenAI chat completions, whole and streamed.
    OpenAiChat,
    /// Anthropic messages.
    AnthropicMessages,
}

/// A part of the order of a stream's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OrderPart {
    /// A column, NULL last.
    Column(usize),
    /// Requests before everything else.
    RequestFirst,
}

/// Where the two variants of one thing stand in a row, raw and flat.
#[derive(Debug, Clone)]
pub(super) struct Places {
    pub raw: Option<Term>,
    pub flat: Term,
}

/// A stream of rows becomes requests and responses, by turn.
#[derive(Debug, Clone)]
pub(super) struct Assembly {
    pub stream: SourceTable,
    pub parent: SourceTable,
    pub wire: Vec<Wire>,
    pub order: Vec<OrderPart>,
    pub class_by: Term,
    pub classes: BTreeMap<Box<str>, RowClass>,
    pub unknown: Box<str>,
    pub request: Request,
    pub response: Response,
    pub chunk: Chunk,
    pub completion: Completion,
    pub tools: Option<Tools>,
    pub events: Emit,
    pub modified: Emit,
}

impl Assembly {
    /// Terms over rows of the table that repeats tool calls. What the parent says is asked of one of its rows alone, which then
    /// refuses it.
    pub(super) fn terms_over(&self, table: SourceTable) -> Vec<&Term> {
        let tools = self.tools.iter().filter(|tools| tools.from == table);
        let tools = tools.flat_map(|tools| {
            // Not those of the record: a row that says no more than a response has none.
            [&tools.id, &tools.name, &tools.arguments, &tools.response, &tools.status]
        });
        tools.collect()
    }
}

/// Requests.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub kind: Box<str>,
    pub modified: Box<str>,
    pub places: [Places; 2],
    pub unwrap: Vec<Box<str>>,
    pub model: Option<Term>,
    pub fallback: Option<Term>,
    pub payload: Term,
}

/// Responses.
#[derive(Debug, Clone)]
pub(super) struct Response {
    pub kind: Box<str>,
    pub modified: Box<str>,
    pub status: Term,
    pub payload: Term,
}

/// What a fragment's id equal to its place in its list means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PositionId {
    /// An id as any other.
    Id,
    /// That there was none.
    NoId,
}

/// Chunks.
#[derive(Debug, Clone)]
pub(super) struct Chunk {
    pub index: Term,
    pub choice: Term,
    pub role: Term,
    pub raw: Term,
    pub text: Term,
    pub tools: Term,
    pub fragment: Fragment,
    pub rendered: Option<Rendered>,
    pub compared: Vec<usize>,
    pub duplicate: Box<str>,
    pub conflict: Box<str>,
}

/// Members of a tool fragment that the old writer extracted.
#[derive(Debug, Clone)]
pub(super) struct Fragment {
    pub id: Box<str>,
    pub kind: Box<str>,
    pub name: Box<str>,
    pub arguments: Box<str>,
    pub no_id: Vec<Box<str>>,
    pub position: PositionId,
}

/// How the old writer rendered a tool fragment: text around the name, and around the arguments.
#[derive(Debug, Clone)]
pub(super) struct Rendered {
    pub named: (Box<str>, Box<str>),
    pub unnamed: Box<str>,
    pub arguments: (Box<str>, Box<str>),
}

/// Completions.
#[derive(Debug, Clone)]
pub(super) struct Completion {
    pub status: Term,
    pub failure: Box<str>,
    pub places: [Places; 2],
    pub unwrap: Option<Unwrap>,
    pub superseded: Box<str>,
}

/// When and where a raw document holds the response within.
#[derive(Debug, Clone)]
pub(super) struct Unwrap {
    pub when: Term,
    pub is: Vec<Box<str>>,
    pub members: Vec<Box<str>>,
}

/// Rows that repeat tool calls.
#[derive(Debug, Clone)]
pub(super) struct Tools {
    pub from: SourceTable,
    pub id: Term,
    pub name: Term,
    pub arguments: Term,
    pub response: Term,
    pub status: Term,
    pub plain_status: Vec<Box<str>>,
    pub no_id: Vec<Box<str>>,
    pub agrees: Box<str>,
    pub record: Emit,
}

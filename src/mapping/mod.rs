//! What `schemas/` say: tables, shapes and examples, compiled once; and the pure function of a unit's rows (I7, I11).
//!
//! Read in this order: [`schema`] is what both sides look like, `raw` and its neighbours the files as written, `plan` and
//! `plan_place` what they mean, `compile` and its neighbours the way between, `check` what no part can see alone, with
//! `diagnostic` for what is wrong. `term` is where a value comes from, `eval`, `functions`, `pattern` and `native`
//! what becomes of it.
//! `place` says where a row belongs and what references see of it, `unit_read` the way back,
//! `disjoint` whose keys cannot meet,
//! `query` what readers of the target ask. `evaluate` runs a plan over the
//! rows of a part: `group` folds rows of one key, `assemble` a stream: `turn` folds the rows of one turn, `stream` its chunks, `completion` its completions,
//! `variant` weighs what comes of both, `tools` the rows that repeat tool calls. `wire` knows published formats and nothing
//! else does; no file here knows a migration (I11). Only `load` reads files; `editor` tells editors what may stand in one. The language is described in
//! `docs/mapping.md`.

pub mod schema;

mod raw;
mod raw_dynamo;
mod raw_place;
mod raw_query;
mod raw_term;
mod spanned;

mod plan;
mod plan_place;

mod disjoint;
mod place;

mod datum;
mod eval;
mod functions;
mod native;
mod pattern;
mod term;

mod check;
mod compile;
mod compile_assembly;
mod compile_call;
mod compile_form;
mod compile_group;
mod compile_item;
mod compile_place;
mod compile_query;
mod compile_require;
mod compile_shapes;
mod compile_tables;
mod compile_term;
mod ddl;
mod diagnostic;
mod dynamo;
mod load;

mod accounts;
mod assemble;
mod completion;
mod emit;
mod error;
mod evaluate;
mod group;
mod lone;
mod order;
mod rows;
mod stream;
mod tools;
mod turn;
mod variant;
mod wire;

mod query;
mod row_by_row;
mod unit_read;

mod case;
mod corpus;

mod editor;

pub use accounts::{Accounts, QuarantinedRow, TableAccount};
pub use case::{Case, CaseResult, run_cases};
pub use compile::Sources;
pub(crate) use compile::parse_toml;
pub use corpus::Corpus;
pub(crate) use diagnostic::Problems;
pub use diagnostic::{LoadError, Problem, SourceFile};
pub(crate) use editor::shown;
pub use editor::{EditorSchema, editor_schemas};
pub use error::ReadError;
pub use evaluate::{Evaluation, Parked, evaluate};
pub use place::{Look, NO_UNIT, NoLook, Part, Place, ReferenceId, Routed, UNIT_BYTES_MAX};
pub use plan::{Migration, Requirement, Scope};
pub use query::{FoundRow, Query, Unfit};
pub use rows::{LoneRow, MemoryRows, RowRef, SourceRow, UnitRows};
pub use schema::SourceTable;
pub(crate) use spanned::Spanned;
pub use unit_read::{Condition, UnitRead};

//! The files of a migration as they are written.
//!
//! Nothing here has a meaning yet: [`compile`](super::compile) turns it into domain types once. Every name that a check
//! may complain about keeps its place in the file. Unknown keys are errors.

use std::collections::BTreeMap;

pub(super) use super::raw_place::{Group, Reference, Route};
pub(super) use super::raw_query::Query;
pub(super) use super::raw_term::{Form, Term};
pub(super) use super::spanned::Spanned;

/// A name with its place.
pub(super) type Name = Spanned<String>;
/// Things by name, each name with its place; in the order of names, the order of writing is that of the places.
pub(super) type Named<T> = BTreeMap<Name, T>;
/// A term with its place.
pub(super) type Placed = Spanned<Term>;

/// `legacy.toml`.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Legacy {
    /// What kind of store it is: `postgres` or `dynamodb`.
    pub source: Name,
    /// Tables by the name that the mapping uses.
    pub table: Named<LegacyTable>,
}

/// One table of the legacy store.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LegacyTable {
    /// Live schema; `public` when absent.
    pub schema: Option<String>,
    /// Live name; the mapping's name when absent.
    pub name: Option<String>,
    /// Columns of the primary key.
    pub key: Vec<Name>,
    /// `unit`, or `lookup` for a table that only references read.
    pub role: Name,
    /// Whether a live store may lack it; not when absent.
    #[serde(default)]
    pub optional: bool,
    /// How the rows of one unit are read from the live store: `key`, `index:NAME` or `scan`; a lookup has none.
    pub unit_lookup: Option<Name>,
    /// What columns are called in the live table and in dumps of it, where that differs; of a DynamoDB table, key attributes.
    #[serde(default)]
    pub alias: Named<Name>,
    /// Types by column; of a DynamoDB table `S`, `N` or `B` by key attribute.
    pub columns: Named<Name>,
    /// Columns that no target row shows, with the reason.
    #[serde(default)]
    pub drop: Named<Name>,
}

/// `mapping.toml`.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Mapping {
    /// Name of the migration.
    pub migration: Name,
    /// Namespace of version 5 UUIDs.
    pub namespace: Name,
    /// What a row that someone else wrote holds back: `row` or `unit`.
    pub foreign: Name,
    /// What names the unit, by table.
    pub unit: Named<Route>,
    /// Tables whose rows are evaluated in parts, each with the terms of a group's key; none for each row by itself.
    #[serde(default)]
    pub part: Named<Vec<Placed>>,
    /// Column that says when a row was written, by table; where an assembly or a made-up row needs it. It is NOT NULL.
    #[serde(default)]
    pub time: Named<Name>,
    /// Literals by name.
    #[serde(default)]
    pub constants: Named<Placed>,
    /// Named terms, by table.
    #[serde(default, rename = "let")]
    pub lets: Named<Named<Placed>>,
    /// How rows of other tables are found.
    #[serde(default)]
    pub reference: Named<Reference>,
    /// Conditions under which a row that is not quarantined is counted, by table and count; also one that `others` drops.
    #[serde(default)]
    pub counted: Named<Named<Placed>>,
    /// Sums of a unit, each with what it means.
    #[serde(default)]
    pub total: Named<String>,
    /// Reasons of quarantine, each with its scope.
    pub quarantine: Named<Name>,
    /// Reasons for which a row is dropped, each with what it means.
    #[serde(default)]
    pub drop: Named<String>,
    /// Things counted, each with what it means.
    #[serde(default)]
    pub count: Named<String>,
    /// Parts of documents that no target row shows, with the reason.
    #[serde(default)]
    pub dropped_parts: Named<String>,
    /// Named tables of cases.
    #[serde(default)]
    pub cases: Named<Named<String>>,
    /// Rows that the target must have before anything is written.
    #[serde(default)]
    pub require: Vec<Require>,
    /// Row maps.
    #[serde(default)]
    pub map: Vec<RowMap>,
    /// Groups.
    #[serde(default)]
    pub group: Vec<Group>,
    /// Assembly of streams into messages.
    pub assembly: Option<Spanned<Assembly>>,
    /// Named reads of the target.
    #[serde(default)]
    pub query: Vec<Query>,
    /// Examples.
    #[serde(default)]
    pub case: Vec<Case>,
    /// Columns that examples leave out, by table.
    #[serde(default)]
    #[schemars(with = "Named<Named<serde_json::Value>>")]
    pub defaults: Named<Named<toml::Value>>,
}

/// A row that the target must have: the application's own, which rows that are written refer to.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Require {
    /// Target table; it need not be one that the migration writes.
    pub target_table: Name,
    /// Literals or constants by column; of a DynamoDB table, by key attribute.
    #[serde(rename = "where")]
    pub columns: Named<Placed>,
}

/// A file of examples.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CaseFile {
    /// Examples.
    pub case: Vec<Case>,
    /// Columns that the file's examples leave out, by table.
    #[serde(default)]
    #[schemars(with = "Named<Named<serde_json::Value>>")]
    pub defaults: Named<Named<toml::Value>>,
}

/// One row becomes one row.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RowMap {
    /// Source table.
    pub from: Name,
    /// Target table.
    pub to: Name,
    /// Terms by target column, or by attribute of a DynamoDB item.
    #[serde(alias = "attributes")]
    pub columns: Named<Placed>,
    /// Attributes of a DynamoDB item that are not carried along, each with the reason.
    #[serde(default)]
    pub drop: Named<String>,
    /// Attributes that an item of DynamoDB gets where it has none of the name.
    #[serde(default)]
    pub added: Named<Placed>,
    /// Target columns that stay NULL, each with the reason.
    #[serde(default)]
    pub left: Named<String>,
    /// A row made up when the unit has rows but none in `from`.
    pub synthesise: Option<Synthesise>,
}

/// A made-up source row.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Synthesise {
    /// Count that goes up.
    pub count: Name,
    /// Terms by source column; the others are NULL.
    pub values: Named<Placed>,
}

/// `[assembly]`: a stream of rows becomes requests and responses, by turn.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Assembly {
    /// Table of the stream.
    pub from: Name,
    /// Table with one row per unit.
    pub parent: Name,
    /// Published forms that raw documents may have.
    pub wire: Vec<Name>,
    /// Columns that order the rows, NULL last; `request first` stands for the kind of row.
    pub order: Vec<Name>,
    /// Kinds of rows.
    pub class: Class,
    /// Requests.
    pub request: Request,
    /// Responses.
    pub response: Response,
    /// Chunks.
    pub chunk: Chunk,
    /// Completions.
    pub completion: Completion,
    /// Rows that repeat tool calls.
    pub tools: Option<Tools>,
    /// Target rows of requests and responses.
    pub events: Emit,
    /// Target rows of pairs.
    pub modified: Emit,
}

/// Which rows are what.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Class {
    /// Term that names the kind.
    pub by: Placed,
    /// Values that open a turn.
    pub request: Vec<String>,
    /// Values of chunks before policies.
    pub original: Vec<String>,
    /// Values of chunks after policies.
    pub modified: Vec<String>,
    /// Values of completions.
    pub completion: Vec<String>,
    /// Reason of quarantine for all others.
    pub unknown: Name,
}

/// Where the two variants of one thing stand in a row.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Places {
    /// The document as it went over the wire.
    pub raw: Option<Placed>,
    /// The old writer's own extract.
    pub flat: Placed,
}

/// `[assembly.request]`.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Request {
    /// `@type` of these events.
    #[serde(rename = "type")]
    pub kind: String,
    /// `@type` of the row that links a changed pair.
    pub modified: String,
    /// Before policies.
    pub original: Places,
    /// After policies.
    #[serde(rename = "final")]
    pub last: Places,
    /// Members of a raw document that may hold the request.
    #[serde(default)]
    pub unwrap: Vec<String>,
    /// Model when the raw request has none.
    pub model: Option<Placed>,
    /// Messages that a completion repeats, for turns without a request.
    pub fallback: Option<Placed>,
    /// What the event holds.
    pub payload: Placed,
}

/// `[assembly.response]`.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Response {
    /// `@type` of these events.
    #[serde(rename = "type")]
    pub kind: String,
    /// `@type` of the row that links a changed pair.
    pub modified: String,
    /// Status of a turn without completion; a term over the parent's row.
    pub status: Placed,
    /// What the event holds.
    pub payload: Placed,
}

/// `[assembly.chunk]`.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Chunk {
    /// The writer's number of the chunk.
    pub index: Placed,
    /// Choice that a chunk without raw document belongs to.
    pub choice: Placed,
    /// Role that the writer extracted.
    pub role: Placed,
    /// The chunk as it went over the wire.
    pub raw: Placed,
    /// Text that the writer extracted.
    pub text: Placed,
    /// Tool fragments that the writer extracted.
    pub tools: Placed,
    /// Members of such a fragment.
    pub fragment: Fragment,
    /// How the writer rendered its tool fragments at the end of the text.
    pub rendered: Option<Rendered>,
    /// Columns in which equal chunks may differ.
    pub same_but: Vec<Name>,
    /// Reason for which a repeated chunk is dropped.
    pub duplicate: Name,
    /// Count of chunks that repeat another one's number with other content.
    pub conflict: Name,
}

/// Members of a tool fragment that the old writer extracted.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Fragment {
    /// Id.
    pub id: String,
    /// Type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Name.
    pub name: String,
    /// Text of the arguments.
    pub arguments: String,
    /// Ids that mean that there was none.
    #[serde(default)]
    pub no_id: Vec<String>,
    /// What an id equal to the fragment's place in its list means: `id` or `no id`.
    pub position: Name,
}

/// Rendering of a tool fragment.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Rendered {
    /// With a name, which stands for `{name}`.
    pub named: Name,
    /// Without.
    pub unnamed: String,
    /// What follows when there are arguments, which stand for `{arguments}`.
    pub arguments: Name,
}

/// `[assembly.completion]`.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Completion {
    /// Status of the completion.
    pub status: Placed,
    /// The status that beats the others.
    pub failure: String,
    /// Before policies.
    pub original: Places,
    /// After policies.
    #[serde(rename = "final")]
    pub last: Places,
    /// When and where a raw document holds the response within.
    pub unwrap: Option<Unwrap>,
    /// Reason for which an earlier completion that says otherwise is dropped.
    pub superseded: Name,
}

/// When and where a raw document holds the response within.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Unwrap {
    /// What decides.
    pub when: Placed,
    /// Values for which the response is within.
    pub is: Vec<String>,
    /// Members to look in, the first that is an object.
    pub members: Vec<String>,
}

/// `[assembly.tools]`.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Tools {
    /// Table.
    pub from: Name,
    /// Id of the tool call.
    pub id: Placed,
    /// Name.
    pub name: Placed,
    /// Arguments.
    pub arguments: Placed,
    /// Response.
    pub response: Placed,
    /// Status.
    pub status: Placed,
    /// Statuses that say no more than the response does.
    pub plain_status: Vec<String>,
    /// Ids of the writer's own artefacts.
    pub no_id: Vec<String>,
    /// Reason for which a row that says no more than the response is dropped.
    pub agrees: Name,
    /// Target rows of those that say more.
    pub record: Emit,
}

/// Target rows by terms.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Emit {
    /// Target table.
    pub to: Name,
    /// Terms by target column or attribute.
    #[serde(alias = "attributes")]
    pub columns: Named<Placed>,
}

/// An example.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    /// What it shows.
    pub name: Name,
    /// The unit.
    pub unit: String,
    /// Legacy rows by table.
    #[serde(default)]
    #[schemars(with = "Named<Vec<Named<serde_json::Value>>>")]
    pub given: Named<Vec<Named<toml::Value>>>,
    /// What must come of them.
    pub expect: Expect,
}

/// What must come of an example.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Expect {
    /// Target rows by table: all of them, each by the columns that matter.
    #[serde(default)]
    #[schemars(with = "Named<Vec<Named<serde_json::Value>>>")]
    pub rows: Named<Vec<Named<toml::Value>>>,
    /// Mapped rows by source table, where it matters.
    #[serde(default)]
    pub mapped: Named<u64>,
    /// All dropped rows by source table and reason.
    #[serde(default)]
    pub dropped: Named<Named<u64>>,
    /// All quarantined rows by source table and reason.
    #[serde(default)]
    pub quarantined: Named<Named<u64>>,
    /// All rows that placing quarantines, by source table and reason.
    #[serde(default)]
    pub unplaced: Named<Named<u64>>,
    /// All rows of other units, by source table.
    #[serde(default)]
    pub elsewhere: Named<u64>,
    /// All rows that wait, by source table.
    #[serde(default)]
    pub waiting: Named<u64>,
    /// All rows of lookups, by source table.
    #[serde(default)]
    pub lookup: Named<u64>,
    /// All counts above zero.
    #[serde(default)]
    pub counts: Named<u64>,
    /// Reason for which the whole unit is parked.
    pub parked: Option<Name>,
}

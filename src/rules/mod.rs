//! What `reconcile-rules/` say: how two rows are compared, which rows are ours to judge, and what must hold whatever the
//! mapping says (pure; nothing here does I/O).
//!
//! Read in this order: [`ruleset`](Ruleset) is the whole of it and [`table`](TableRules) the rules of one target table;
//! `form` is what a row is compared as when no rule says anything, `normalise` what rules make alike before; `compare` judges
//! a pair, `tolerate` how far two values are apart, `uses` counts, `plain` tells which rows need not be decoded. `expect` are invariants beside the mapping, over `term`s
//! of their own. `raw` is the file as written, `compile` and its neighbours the way to what it means. The language is
//! described in `docs/rules.md`.
//!
//! Tables, their columns and diagnostics are the mapping's. Its terms are not used: a rule that shared the mapping's code
//! would share its mistakes.

mod raw;

mod path;
mod plain;
mod ruleset;
mod table;

mod compare;
mod form;
mod normalise;
mod tolerate;
mod uses;

mod example;
mod expect;
mod term;

mod compile;
mod compile_expect;
mod compile_field;
mod compile_term;

mod editor;

pub use compare::{Comparison, FieldDifference};
pub use editor::editor_schema;
pub use expect::{Broken, Contribution, Expect, Relation, Side, Table, Tally};
pub use path::{Field, FieldStep};
pub use plain::Asked;
pub use ruleset::{Pair, RuleId, RuleKind, RuleText, Ruleset};
pub use table::{Finding, Judged, Pairing, TableRules};
pub use uses::{Deviation, Use, Uses};

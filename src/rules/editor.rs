//! What may stand in a file of rules, as JSON Schema for editors.

use super::raw::Rules;
use crate::mapping::{EditorSchema, shown};

/// The schema of `reconcile-rules/*.toml`.
pub fn editor_schema() -> EditorSchema {
    EditorSchema { name: "rules.schema.json", text: shown::<Rules>("reconcile-rules/*.toml of rehome") }
}

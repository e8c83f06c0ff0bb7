//! What every log asks of a batch before it takes it.

use std::collections::HashMap;
use std::sync::Arc;

use super::visible::Visible;
use super::{Batch, Error};
use crate::event::{Relation, SchemaHash};

/// Shapes that a batch's events refer to, by hash.
pub(super) type Shapes = HashMap<SchemaHash, Arc<Relation>>;

/// Refuses a batch that could not be read back: an event of an unregistered shape, or one nested too deep to decode.
///
/// Answers with the shapes of its events, and leaves in `batch.relations` those that the log does not know yet.
pub(super) fn check(batch: &mut Batch, visible: &Visible) -> Result<Shapes, Error> {
    let mut shapes = Shapes::new();
    let mut unknown = Vec::new();
    for relation in batch.relations.drain(..) {
        let hash = relation.schema_hash();
        if visible.relation(hash).is_none() && !shapes.contains_key(&hash) {
            unknown.push(Arc::clone(&relation));
        }
        shapes.insert(hash, relation);
    }
    batch.relations = unknown;
    for event in &batch.events {
        if !shapes.contains_key(&event.relation) {
            let relation =
                visible.relation(event.relation).ok_or(Error::Refused { detail: "its shape is not registered" })?;
            shapes.insert(event.relation, relation);
        }
        if !event.storable() {
            return Err(Error::Refused { detail: "its values nest too deep" });
        }
    }
    Ok(shapes)
}

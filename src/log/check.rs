//! What every log asks of a batch before it takes it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
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
    // Events come in runs of one shape: a run is looked up once.
    let mut known = None;
    for event in &batch.events {
        if known != Some(event.relation) {
            if let Entry::Vacant(entry) = shapes.entry(event.relation) {
                let registered = visible.relation(event.relation);
                entry.insert(registered.ok_or(Error::Refused { detail: "its shape is not registered" })?);
            }
            known = Some(event.relation);
        }
        if !event.storable() {
            return Err(Error::Refused { detail: "its values nest too deep" });
        }
    }
    Ok(shapes)
}

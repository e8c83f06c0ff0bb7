//! Rows of a range, packed as they came.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::Error;
use crate::event::{Cell, EncodedRow, Event, Relation, SchemaHash, Value};
use crate::log::Batch;

/// Some rows of one range, which are read one after the other.
pub trait Rows: Send {
    /// What their columns are.
    fn relation(&self) -> &Arc<Relation>;

    /// The next row's values at some columns, in their order; NULL for what the source did not say. `None` after the last row.
    ///
    /// # Errors
    /// [`Error::Unreadable`] when the row is none of the relation.
    fn next(&mut self, columns: &[usize]) -> Result<Option<Vec<Value>>, Error>;

    /// As [`next`](Self::next), of what nobody has to look at; answers false after the last row.
    ///
    /// # Errors
    /// As there.
    fn next_encoded(&mut self, columns: &[usize], row: &mut EncodedRow) -> Result<bool, Error> {
        row.clear();
        let Some(values) = self.next(columns)? else { return Ok(false) };
        values.iter().for_each(|value| row.push(value));
        Ok(true)
    }
}

/// Rows that came as events.
struct OfEvents {
    relation: Arc<Relation>,
    hash: SchemaHash,
    events: std::vec::IntoIter<Event>,
}

impl Rows for OfEvents {
    fn relation(&self) -> &Arc<Relation> {
        &self.relation
    }

    fn next(&mut self, columns: &[usize]) -> Result<Option<Vec<Value>>, Error> {
        let Some(event) = self.events.by_ref().find(|event| event.after.is_some()) else { return Ok(None) };
        if event.relation != self.hash {
            let detail = format!("a row of another shape than {} has", self.relation.name);
            return Err(Error::Unreadable { action: "read the rows of a range", detail });
        }
        Ok(event.after.map(|row| arrange(row.0, columns)))
    }
}

/// Hands on as rows what comes as events; ends when nobody takes them.
pub(super) async fn of_events(mut batches: mpsc::Receiver<Batch>, out: mpsc::Sender<Box<dyn Rows>>) {
    // A batch that tells no relation has the one of the batch before.
    let mut relation = None;
    while let Some(mut batch) = batches.recv().await {
        relation = batch.relations.pop().or(relation);
        let Some(relation) = &relation else { continue };
        let (hash, events) = (relation.schema_hash(), batch.events.into_iter());
        let rows = OfEvents { relation: Arc::clone(relation), hash, events };
        if out.send(Box::new(rows)).await.is_err() {
            return;
        }
    }
}

/// The cells at some places, in their order; moved where the order is the row's own.
fn arrange(cells: Vec<Cell>, columns: &[usize]) -> Vec<Value> {
    let value = |cell: Cell| cell.into_value().unwrap_or(Value::Null);
    if columns.len() == cells.len() && columns.iter().enumerate().all(|(index, column)| index == *column) {
        return cells.into_iter().map(value).collect();
    }
    columns.iter().map(|column| cells.get(*column).cloned().map_or(Value::Null, value)).collect()
}

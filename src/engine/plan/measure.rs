//! How the migration's target would take rows.

use std::sync::Arc;

use crate::dynamo::target::Meter as ItemMeter;
use crate::mapping::Place;
use crate::mapping::schema::{Store, catalog_name};
use crate::postgres::target::Meter as RowMeter;
use crate::project::scope::unit_of;
use crate::reconcile::forecast::outlook::{Measure, Measured};
use crate::target::TargetRow;

use super::Engine;

/// What measures rows for an engine's target.
pub(super) fn of(engine: &Engine) -> Arc<dyn Measure> {
    match engine.migration.target_store() {
        Store::DynamoDb => Arc::new(Items(ItemMeter::new(engine.migration.name(), engine.written_tables()))),
        Store::Postgres => {
            let tables = engine.migration.target_tables().iter().map(|table| {
                let names: Vec<Box<str>> = table.columns.iter().map(|column| catalog_name(&column.type_name)).collect();
                RowMeter::new(
                    names.iter().map(|name| &**name).zip(table.columns.iter().map(|column| &*column.type_name)),
                )
            });
            Arc::new(Tables(tables.collect()))
        }
    }
}

struct Items(ItemMeter);

impl Measure for Items {
    fn measure(&self, place: &Place, scope: &[u8], row: &TargetRow) -> Measured {
        let part = &scope[unit_of(scope).len()..];
        let none = Measured { bytes: 0, write_units: 0, large: false, refused: None, altered: None };
        match self.0.measure(&place.unit, part, row) {
            Ok(size) => Measured { bytes: size.bytes as u64, write_units: size.write_units, large: size.large, ..none },
            Err(reason) => Measured { refused: Some(reason), ..none },
        }
    }
}

/// By table.
struct Tables(Vec<RowMeter>);

impl Measure for Tables {
    fn measure(&self, _: &Place, _: &[u8], row: &TargetRow) -> Measured {
        let size = self.0[usize::from(row.table.0)].measure(&row.values);
        let (bytes, refused, altered) = (size.bytes, size.refused, size.altered);
        Measured { bytes, write_units: 0, large: false, refused, altered }
    }
}
